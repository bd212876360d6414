"""What sampling through a server costs beside a bare loop of requests. See benchmarks/README.md.

    python benchmarks/serving.py [--repeats 7]

`serving.sampling.ask` (checks, retries, kept answers, seeds) against a pool of threads that posts the same
requests with the same HTTP client and keeps the texts. The server is another process and takes any number of
requests at once. If it answers at once, the cost of a request is seen. If it takes 50 ms, 32 requests at a
time are 640 a second, more than an engine's, and what counts is how many of them are reached.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from measuring import Line, Report, interleave, machine, markdown

from recurate.components.serving.client import Endpoint
from recurate.components.serving.kept import Kept
from recurate.components.serving.sampling import Order, Prompt, ask

PROMPTS, CHOICES, WORDS = 400, 8, 64  # requests per call, completions of each, words of a completion
TEXT = " ".join(f"word{i}" for i in range(WORDS))
MANNER = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 128}
JOBS = {"answers at once": (0.0, 8), "answers after 50 ms": (0.05, 32)}  # seconds, requests at a time


async def serve(seconds: float) -> None:
    """Answer requests for completions on a free port, whose number is printed, until killed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = json.loads(await reader.readexactly(int(length or 0)) or "{}")
                if body:  # else the version is asked for, once per call
                    await asyncio.sleep(seconds)
                n = body.get("n", 1)
                choices = [{"index": i, "text": TEXT, "finish_reason": "stop"} for i in range(n)]
                usage = {"prompt_tokens": len(body.get("prompt", "")), "completion_tokens": n * WORDS}
                found = json.dumps({"model": body.get("model"), "choices": choices, "usage": usage}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(found) + found)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def measure(report: Report, job: str, seconds: float, threads: int, repeats: int, folder: Path) -> None:
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(seconds)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    endpoint = Endpoint(url=f"http://127.0.0.1:{int(server.stdout.readline())}/v1", concurrency=threads)
    prompts = [Prompt((*range(20, 60), i // CHOICES)) for i in range(PROMPTS * CHOICES)]
    calls = iter(range(10**6))

    def ours() -> None:
        kept = Kept(folder / f"{next(calls)}.jsonl")
        texts = ask(
            Order("digest", MANNER, CHOICES), prompts, range(len(prompts)), kept, endpoint, lambda c: "m"
        )
        assert len(texts) == len(prompts)

    def bare() -> None:
        with httpx2.Client(trust_env=False, limits=httpx2.Limits(max_connections=None)) as client:

            def post(i: int) -> list[str]:
                body = {"model": "m", "prompt": list(prompts[i].ids), **MANNER, "n": CHOICES, "seed": i}
                found = client.post(f"{endpoint.url}/completions", json=body).json()
                return [choice["text"] for choice in found["choices"]]

            with ThreadPoolExecutor(threads) as pool:
                texts = [text for part in pool.map(post, range(0, len(prompts), CHOICES)) for text in part]
        assert len(texts) == len(prompts)

    try:
        found = interleave({"recurate": ours, "bare": bare}, repeats)
    finally:
        server.kill()
    report.timed(job, found)
    ratio, wall = found["bare"].over(found["recurate"])
    bounds = (0.85, 0.95) if seconds else (None, None)
    what = "requests per second, recurate / bare, by the clock"
    report.add(Line(job, what, wall, ratio, "times", *bounds, at_least=True))
    cost = 1e3 * found["recurate"].median / PROMPTS
    report.add(Line(job, "processor time of a request", cost, 1e3 * found["bare"].median / PROMPTS, "ms"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(arguments.serve))
        return
    report, load = Report(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for job, (seconds, threads) in JOBS.items():
            report.note(
                job, f"{PROMPTS} requests for {CHOICES} completions of {WORDS} words, {threads} at a time"
            )
            measure(report, job, seconds, threads, arguments.repeats, Path(folder) / job)
    facts = machine(["httpx2"])
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    lines = markdown("Speed of sampling through a server", report, facts, "python benchmarks/serving.py")
    (arguments.out / "serving.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
