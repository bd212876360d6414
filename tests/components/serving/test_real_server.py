"""A whole loop on a real server, `transformers serve`, which reads the weights that requests name."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("httpx2")
pytest.importorskip("openai", reason="transformers serve needs pip install transformers[serving]")
pytest.importorskip("fastapi", reason="transformers serve needs pip install transformers[serving]")

import httpx2
import transformers

from helpers import tiny_models as tiny
from recurate.log.folders import StoredRun
from recurate.loop.config import parse_config
from recurate.loop.driver import run
from recurate.loop.monitors.protocol import Monitor
from recurate.loop.run_folder import RunFolder

CHAT = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}<ask>"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    path = tiny.save(tmp_path_factory.mktemp("models") / "tiny", CHAT)
    config = transformers.GenerationConfig.from_pretrained(path)
    config.do_sample = True
    config.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "output").open("w") as output:
        server = subprocess.Popen(
            [*words, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            env=os.environ | offline,
            stdout=output,
            stderr=output,
        )
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "output").read_text()
            try:
                httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).raise_for_status()
                break
            except httpx2.HTTPError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


class Heard(Monitor):
    """A monitor that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, lines) -> None:
        self.warnings += lines


@pytest.mark.slow
def test_a_loop_on_transformers_serve(url, base, tmp_path):
    rows = [{"context": f"number {i % 2}", "sample": f"fox {i % 3}"} for i in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    heard = Heard()
    config = parse_config({
        "rounds": 1,
        "data": {
            "kind": "table", "path": str(tmp_path / "data.jsonl"), "sample": "sample", "context": "context",
        },
        "generator": {
            "kind": "language", "model": str(base), "device": "cpu",
            "sample": {"engine": "openai", "longest": 8},
            "training": {"epochs": 20, "learning_rate": 1e-2},
            "server": {"url": url, "load": "path", "api": "chat", "concurrency": 2, "retries": 1},
        },
        "rewards": [{"kind": "length", "target": 2}],
        "selection": {"k": 4, "picks": 8},
        "retraining": {"real_fraction": 0.9},
    })  # fmt: skip
    run(config, tmp_path / "run", heard)
    assert StoredRun(tmp_path / "run").complete() == 2
    said = "\n".join(heard.warnings)
    assert (
        len(re.findall(r"32 completions by a server in 3\d answers \(model /.*; server uvicorn\)", said)) == 2
    )
    assert "fewer choices than asked for" in said  # it ignores n
    assert "read prompts otherwise" not in said  # it uses the chat template and the tokens of training
    assert "does not sample" not in said
    store = RunFolder.open(tmp_path / "run")
    texts = [store.samples(t).tolist() for t in range(2)]
    # Random weights say a token with "fox" once in 20 texts, or less: 8 of 32 with probability 2e-4.
    foxes = [sum("fox" in text for text in found) for found in texts]
    assert foxes[0] < 8
    assert foxes[1] > 16  # the second model was trained on foxes, and the server uses its weights
    assert all(len(set(found)) > 2 for found in texts)
