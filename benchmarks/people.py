"""How many people one server of picks bears, and what a study of 1e6 picks costs. See benchmarks/README.md.

    python benchmarks/people.py [--quick] [--only load,size] [--databases sqlite,postgresql]

load: 200 simulated people pick through one `recurate serve` process, each from an address of its own, as
often as offers 100 picks a second in total; a second time while the server is killed and started again.
size: 1e6 picks of slates of 4, put into the tables by SQL; the next slate, an answer, and the export.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import asyncio
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa
from measuring import Line, Report, machine, table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers.postgres import Postgres, programs, served
from recurate.people import export
from recurate.people.ballots import Rules, Study
from recurate.people.tables import opened

PEOPLE = 200
RATE = 100.0  # picks offered per second, by all people together
KILLS = 5
K = 4
SEATS = 3
PATIENCE = 60.0  # seconds that a person tries to send one pick
HEAD = ("database", "measured", "value", "must", "met")


@dataclass(frozen=True)
class Size:
    """How long, and how much."""

    seconds: float = 60.0
    picks: int = 1_000_000
    asked: int = 50


QUICK = Size(10.0, 100_000, 50)


# --- many people, one server ------------------------------------------------------------------------


class Server:
    """One `recurate serve` process, that can be killed and started again at the same port."""

    def __init__(self, source: Path, place: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        self.command = [
            sys.executable, "-m", "recurate", "serve", str(source), "--db", place, "--open", "--seats",
            str(SEATS), "--port", str(self.port),
        ]  # fmt: skip
        self.base = f"http://127.0.0.1:{self.port}"
        self.log = source.with_name("server.log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=self.log)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                httpx.get(f"{self.base}/owner", timeout=5)
                return
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: see {self.log.name}")
            time.sleep(0.05)
        raise SystemExit("the server does not answer")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def cpu(self) -> float:
        """Return the processor time of the process, in seconds."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What the people saw: seconds of requests, picks that the server acknowledged, and answers by status."""

    seconds: list[float] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    status: Counter[str] = field(default_factory=Counter)
    late: float = 0.0


class Person:
    """Somebody who picks at a pace; the address is one of their own, as the limits are per address."""

    def __init__(self, number: int, base: str, seen: Seen) -> None:
        address = f"127.0.{1 + number // 200}.{1 + number % 200}"
        transport = httpx.AsyncHTTPTransport(local_address=address, verify=False)
        self.http = httpx.AsyncClient(transport=transport, base_url=base, timeout=30, follow_redirects=True)
        self.address, self.base, self.lines = address, httpx.URL(base), b""
        self.pipe: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.number, self.seen, self.token = number, seen, ""
        self.rng = np.random.default_rng(number)
        self.slate: dict[str, Any] | None = None

    async def join(self) -> None:
        page = await self.http.post("/join", data={})
        found = re.search(r'name="token" content="(\w+)"', page.text)
        if found is None:
            raise SystemExit(f"no page to pick on: {page.status_code}")
        self.token = found[1]
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies.jar)
        self.lines = f"host: {self.base.host}\r\ncookie: {cookies}\r\nx-token: {self.token}\r\n".encode()
        self.slate = (await self.ask("GET", "/api/next"))[1]["slate"]

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and answer; written out, as usual clients take longer than the server does.

        Raises:
            OSError: If there is no answer.
        """
        try:
            if self.pipe is None:
                self.pipe = await asyncio.open_connection(
                    self.base.host, self.base.port, local_addr=(self.address, 0)
                )
            reader, writer = self.pipe
            data = b"" if body is None else json.dumps(body).encode()
            kind = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + self.lines + kind + data)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length is not None, head
            answer = await asyncio.wait_for(reader.readexactly(int(length[1])), 30)
        except (OSError, EOFError, TimeoutError) as error:
            if self.pipe is not None:
                self.pipe[1].close()
            self.pipe = None
            raise OSError("no answer") from error
        return int(head.split(b" ", 2)[1]), json.loads(answer)

    async def pick(self, at: int) -> None:
        """Send one pick until it is acknowledged, with the same key."""
        if self.slate is None:
            self.seen.status["no slate"] += 1
            return
        key = f"person-{self.number:04d}-{at:06d}"
        place = int(self.rng.integers(len(self.slate["candidates"])))
        body = {"lease": self.slate["lease"], "key": key, "outcome": "pick", "places": [place]}
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            began = time.perf_counter()
            try:
                status, answer = await self.ask("POST", "/api/ballots", body)
            except OSError:
                self.seen.status["no answer"] += 1
                await asyncio.sleep(0.2 + 0.3 * self.rng.random())
                continue
            self.seen.seconds.append(time.perf_counter() - began)
            self.seen.status[str(status)] += 1
            if status == 200:
                self.seen.kept.append(key)
                self.slate = answer["slate"]
                return
            if status in (404, 409, 410):  # somebody else has the slate
                self.slate = (await self.ask("GET", "/api/next"))[1]["slate"]
                return
            await asyncio.sleep(0.5)
        self.seen.status["given up"] += 1


async def crowd(base: str, seconds: float, server: Server | None) -> tuple[Seen, float]:
    """Let all people pick for some time; kill the server meanwhile if it is given."""
    seen = Seen()
    people = [Person(n, base, seen) for n in range(PEOPLE)]
    for low in range(0, PEOPLE, 10):
        await asyncio.gather(*(p.join() for p in people[low : low + 10]))
    pace = PEOPLE / RATE  # seconds between two picks of one person
    begin = time.perf_counter() + 1

    async def picks(person: Person) -> None:
        due = begin + pace * person.number / PEOPLE
        at = 0
        while due < begin + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            seen.late = max(seen.late, time.perf_counter() - due)
            await person.pick(at)
            at += 1
            # Who was kept waiting is behind by as many picks, and does not send them all at once.
            due = max(due + pace, time.perf_counter() if server else due + pace)

    async def kills() -> None:
        for n in range(KILLS if server else 0):
            await asyncio.sleep(max(0.0, begin + seconds * (n + 0.7) / (KILLS + 1) - time.perf_counter()))
            await asyncio.to_thread(server.kill)  # type: ignore[union-attr]
            await asyncio.to_thread(server.start)  # type: ignore[union-attr]

    await asyncio.gather(kills(), *map(picks, people))
    took = time.perf_counter() - begin
    await asyncio.gather(*(p.http.aclose() for p in people))
    return seen, took


def counted(place: str) -> dict[str, Any]:
    """Return what the database has: keys of ballots that stand, leases with two, slates with too many."""
    engine = opened(place)
    with engine.connect() as c:
        keys = Counter(c.execute(sa.text("SELECT key FROM ballots WHERE NOT withdrawn")).scalars())
        leases = "SELECT lease FROM ballots WHERE NOT withdrawn GROUP BY lease HAVING count(*) > 1"
        persons = "SELECT slate FROM ballots WHERE NOT withdrawn GROUP BY slate, person HAVING count(*) > 1"
        over = (
            "SELECT s.id FROM slates s JOIN leases l ON l.slate = s.id AND l.repeat = 0 AND l.state <> 2 "
            "GROUP BY s.id, s.wanted, s.taken HAVING count(*) > s.wanted OR s.taken <> count(*)"
        )
        found = {
            "keys": keys,
            "doubled": sum(n - 1 for n in keys.values())
            + len(c.execute(sa.text(leases)).all())
            + len(c.execute(sa.text(persons)).all()),
            "over": len(c.execute(sa.text(over)).all()),
        }
    engine.dispose()
    return found


def load(report: Report, kind: str, place: str, folder: Path, size: Size) -> None:
    count = int(2.5 * size.seconds * RATE / SEATS) + PEOPLE
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "candidates.jsonl"
    words = "It was a bright cold day in April, and the clocks were striking thirteen. " * 4
    with source.open("w", encoding="utf-8") as file:
        for n in range(count):
            row = {"prompt": f"Prompt {n}", "responses": [f"**{n}.{i}** {words}" for i in range(K)]}
            file.write(json.dumps(row) + "\n")
    server = Server(source, place)
    try:
        before = server.cpu()
        seen, took = asyncio.run(crowd(server.base, size.seconds, None))
        share = (server.cpu() - before) / took
        ms = 1e3 * np.array(seen.seconds)
        for q, must in ((50, None), (95, 200.0), (99, None)):
            report.add(Line(kind, f"{q} % of requests within", float(np.percentile(ms, q)), None, "ms", must))
        reached = len(seen.kept) / max(took, size.seconds)
        report.add(Line(kind, "picks per second", reached, None, "/s", 0.99 * RATE, at_least=True))
        report.note(
            kind,
            f"{len(seen.kept)} picks in {took:.1f} s; answers {dict(seen.status)}; the largest request took "
            f"{ms.max():.0f} ms; the client was at most {1e3 * seen.late:.0f} ms behind; the server used "
            f"{share:.2f} of a core",
        )
        again, took = asyncio.run(crowd(server.base, size.seconds, server))
    finally:
        server.kill()
    found = counted(place)
    missing = [key for key in again.kept if found["keys"][key] < 1]
    # Both crowds use the same keys: two people have each, at most.
    doubles = found["doubled"] - sum(n - 1 for n in found["keys"].values())
    doubles += sum(n > 2 for n in found["keys"].values())
    missing += [key for key in set(seen.kept) & set(again.kept) if found["keys"][key] < 2]
    report.add(Line(kind, "picks acknowledged but missing", len(missing), None, "", 0))
    report.add(Line(kind, "picks doubled", doubles, None, "", 0))
    report.add(Line(kind, "slates over-assigned", found["over"], None, "", 0))
    report.note(
        kind,
        f"with {KILLS} kills: {len(again.kept)} picks acknowledged in {took:.1f} s; answers "
        f"{dict(again.status)}; {sum(found['keys'].values())} ballots in the database",
    )


# --- a large study ----------------------------------------------------------------------------------


def rows_of(picks: int, people: int) -> Iterator[tuple[str, list[str], list[tuple[Any, ...]]]]:
    """Yield tables, columns and rows of a study: ``picks`` answered slates, and 5,000 that are open."""
    rng = np.random.default_rng(0)
    names = [(n + 1, f"person {n + 1}", f"worker{n + 1}", 0.0, False, False) for n in range(people)]
    columns = ["id", "label", "worker", "joined", "simulated", "blocked"]
    yield "people", columns, names
    words = "It was a bright cold day in April."
    part = 50_000
    total = picks + 5000
    for low in range(0, total, part):
        ids = range(low + 1, min(low + part, total) + 1)
        yield (
            "slates",
            ["id", "round", "attempt", "number", "context", "kin", "answer", "wanted", "taken", "closed"],
            [(i, 0, 0, i - 1, f"Prompt {i}", f"{i:064x}", None, 1, int(i <= picks), False) for i in ids],
        )
        rewards = rng.normal(size=(len(ids), K)).round(4).tolist()
        yield (
            "candidates",
            ["slate", "slot", "item", "form", "content", "own"],
            [
                (i, s, K * i + s, "text", f"{words} {i}.{s}", json.dumps({"reward": rewards[i - ids[0]][s]}))
                for i in ids
                for s in range(K)
            ],
        )
        done = [i for i in ids if i <= picks]
        orders = rng.permuted(np.tile(np.arange(K), (len(done), 1)), axis=1).tolist()
        who = rng.integers(1, people + 1, len(done)).tolist()
        yield (
            "leases",
            ["id", "slate", "person", "repeat", "places", "given", "until", "state"],
            [
                (i, i, p, 0, json.dumps(o), 1.7e9 + i, 1.7e9 + i + 900, 1)
                for i, p, o in zip(done, who, orders, strict=True)
            ],
        )
        yield (
            "ballots",
            [
                "id",
                "lease",
                "slate",
                "person",
                "key",
                "outcome",
                "slots",
                "reason",
                "comment",
                "seconds",
                "made",
                "withdrawn",
            ],
            [
                (i, i, i, p, f"key-{i:09d}", "pick", json.dumps(o[:1]), "", "", 4.25, 1.7e9 + i, False)
                for i, p, o in zip(done, who, orders, strict=True)
            ],
        )


def fill(place: str, picks: int, people: int) -> None:
    """Put a study of ``picks`` picks into a database."""
    opened(place).dispose()
    if "://" not in place:
        file = sqlite3.connect(place, isolation_level=None)
        file.execute("PRAGMA synchronous = OFF")
        file.execute("BEGIN")
        for name, columns, rows in rows_of(picks, people):
            marks = ", ".join("?" * len(columns))
            file.executemany(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", rows)
        file.execute("COMMIT")
        file.close()
        return
    import psycopg

    with psycopg.connect(place) as connection, connection.cursor() as cursor:
        for name, columns, rows in rows_of(picks, people):
            with cursor.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        for name in ("people", "slates", "leases", "ballots"):
            cursor.execute(f"SELECT setval('{name}_id_seq', (SELECT max(id) FROM {name}))")
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # as the server's own daemon does after some minutes


def size_of(report: Report, kind: str, place: str, folder: Path, size: Size) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    people = 2000
    began = time.perf_counter()
    fill(place, size.picks, people)
    report.note(
        kind,
        f"{size.picks} picks, K = {K}, of {people} people: put in in {time.perf_counter() - began:.0f} s",
    )
    study = Study(opened(place), Rules())
    study.next(people)  # one call that is not counted opens a connection
    asked, answered, progress, back, image = [], [], [], [], []
    for person in range(1, size.asked + 1):
        begin = time.perf_counter()
        lease = study.next(person)
        asked.append(time.perf_counter() - begin)
        assert lease is not None
        begin = time.perf_counter()
        study.submit(person, lease.id, f"new-key-{person:06d}", "pick", [0])
        answered.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        study.progress(person)
        progress.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        study.undo(person)
        back.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        study.was_given(person, "0" * 64)
        image.append(time.perf_counter() - begin)
    calls = {
        "the next slate": asked, "an answer": answered, "progress": progress, "taking an answer back": back,
        "whether an image was given": image,
    }  # fmt: skip
    for what, seconds in calls.items():
        must = 50.0 if what == "the next slate" else None
        ms = 1e3 * np.array(seconds)
        report.add(
            Line(kind, f"{what}: median of {size.asked} people", float(np.median(ms)), None, "ms", must)
        )
        report.add(Line(kind, f"{what}: 95th percentile", float(np.percentile(ms, 95)), None, "ms", must))
    begin = time.perf_counter()
    gone = study.remove(1)
    seconds = time.perf_counter() - begin
    report.add(Line(kind, f"removing a person with {gone} ballots", 1e3 * seconds, None, "ms"))
    path = folder / "picks.parquet"
    cpu, begin = time.process_time(), time.perf_counter()
    picks = export.write(study, path)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(path).metadata.num_rows
    assert rows == K * picks
    report.add(Line(kind, "rows exported per second", rows / wall, None, "/s", 1e5, at_least=True))
    report.note(
        kind, f"export: {rows} rows in {wall:.1f} s, {cpu:.1f} s of them this process's processor time"
    )
    study.engine.dispose()


# --- all --------------------------------------------------------------------------------------------


@contextmanager
def places(kind: str, folder: Path) -> Iterator[Any]:
    """Yield a function that returns where a new database is."""
    if kind == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        yield lambda name: str(folder / f"{name}.sqlite")
        return
    found = programs()
    if found is None:
        raise SystemExit("PostgreSQL is not installed: --databases sqlite")
    with served(found) as server:
        yield lambda name: Postgres.fresh(server)


def facts() -> dict[str, str]:
    found = machine(["sqlalchemy", "fastapi", "uvicorn", "psycopg", "httpx", "pyarrow"])
    found["processor"] = found["processor"].replace(
        "one thread used", "shared by the server, the database, the simulated people and other jobs"
    )
    bin_ = programs()
    if bin_ is not None:
        version = subprocess.run([str(bin_ / "postgres"), "--version"], capture_output=True, text=True)
        found["databases"] = f"SQLite {sqlite3.sqlite_version}, {version.stdout.strip()}, fsync on"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 s in place of 60, and 1e5 picks")
    parser.add_argument("--only", default="size,load", help="load, size")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    given = parser.parse_args()
    size = QUICK if given.quick else Size()
    before = os.getloadavg()[0]
    reports: dict[str, Report] = {}
    work = Path(tempfile.mkdtemp(prefix="recurate-people-"))
    try:
        for job, measure in (("size", size_of), ("load", load)):
            reports[job] = Report()
            for kind in given.databases.split(",") if job in given.only.split(",") else ():
                with places(kind, work / job / kind) as place:
                    measure(reports[job], kind, place(job), work / job / kind, size)
                shutil.rmtree(work / job / kind, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    about = facts() | {"load": f"{before:.1f} before, {os.getloadavg()[0]:.1f} after (of other jobs too)"}
    words = " ".join(a for a in ("--quick" * given.quick, f"--only {given.only}") if a)
    if given.only == "size,load":
        words = "--quick" * given.quick
    lines = ["# People", "", f"`{' '.join(['python benchmarks/people.py', words]).strip()}`", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    titles = {
        "load": f"{PEOPLE} people at {RATE:g} picks a second for {size.seconds:g} s, one server",
        "size": f"{size.picks:.0e} picks in the database".replace("e+0", "e"),
    }
    for job in ("load", "size"):
        if reports[job].lines:
            cells = [x.cells() for x in reports[job].lines]
            rows = [[x.job, x.what, c[2], c[3], {"must": "yes"}.get(c[5], c[5])]
                    for x, c in zip(reports[job].lines, cells, strict=True)]  # fmt: skip
            lines += ["", f"## {titles[job]}", "", *table(HEAD, rows), ""]
            lines += [f"- {kind}: {text}." for kind, text in reports[job].notes]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "people.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
