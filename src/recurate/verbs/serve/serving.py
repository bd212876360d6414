"""What `recurate serve` does: it opens the source and the database, and serves the pages."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recurate.core.errors import InputError, counted, need
from recurate.verbs.options import fresh_folder
from recurate.verbs.run.python import SERVER

if TYPE_CHECKING:
    from recurate.people.ballots import Study

LEFT = 10.0  # seconds that the loop of a killed server may take to end
OUTCOMES = ("pick", "tie", "bad", "skip", "ranking", "best-worst")


@dataclass(frozen=True)
class Wanted:
    """The options of `recurate serve`; see its help."""

    source: Path
    db: str | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    open: bool = False
    seats: int | None = None
    limit: int | None = None
    lease: float = 900.0
    repeats: float = 0.0
    checks: float = 0.0
    answers: tuple[str, ...] = OUTCOMES[:4]
    title: str = "Which one do you prefer?"
    question: str = "Which one is best?"
    instructions: Path | None = None
    consent: Path | None = None
    completion: str = ""
    show: str = ""
    context: str = ""
    slate: str = ""
    k: int = 0
    check: str = ""
    export: Path | None = None
    take: Path | None = None
    simulate: int = 0
    rule: str = "luce"
    reward: str = ""
    temperature: float = 1.0
    lapses: float = 0.0
    password: Path | None = None
    https: bool = False


def serve_source(wanted: Wanted) -> None:
    """Serve a source's slates, or do one of the jobs that end by themselves.

    Raises:
        InputError: If the source, the database or an option is not valid.
    """
    need(
        ["fastapi", "uvicorn", "sqlalchemy", "alembic", "markdown_it", "multipart"],
        "serving pages for people",
        "pip install 'recurate[people]'",
    )
    _check(wanted)
    study, look, run = _study(wanted)
    look()
    if wanted.take is not None:
        from recurate.people.export import take

        print(counted(take(study, wanted.take, str(wanted.take)), "{pick|picks} added"))
    elif wanted.simulate:
        from recurate.people.simulated import judge

        made = judge(study, wanted.simulate, wanted.rule, wanted.reward, wanted.temperature, wanted.lapses)
        print(f"{counted(made, '{slate was|slates were}')} judged by a simulated person")
    elif wanted.export is not None:
        from recurate.people.export import write

        print(counted(write(study, wanted.export), "{pick|picks} written") + f": {wanted.export}")
    else:
        _serve(wanted, study, look, run)


def _check(wanted: Wanted) -> None:
    unknown = [a for a in wanted.answers if a not in OUTCOMES]
    if unknown or not {"pick", "ranking", "best-worst"} & set(wanted.answers):
        raise InputError(
            "the answers must be some of " + ", ".join(OUTCOMES) + "; pick, ranking or best-worst among them",
            got=", ".join(wanted.answers),
            remedy="--answers pick,tie,bad,skip",
        )
    if wanted.repeats + wanted.checks > 0.9:
        raise InputError(
            "most slates must be new",
            got=f"{wanted.repeats} repeats and {wanted.checks} checks",
            remedy="lower them",
        )
    if wanted.checks and (wanted.source.suffix == ".toml" or (wanted.source / "config.toml").is_file()):
        raise InputError(
            "a run has no known answers", got=f"--checks {wanted.checks}", remedy="leave --checks out"
        )


def _study(wanted: Wanted) -> tuple[Study, Callable[[], None], Path | None]:
    """Return the study, a function that looks for new slates, and the folder of the run, if it is one."""
    from recurate.people.asked import DATABASE
    from recurate.people.ballots import Rules, Study
    from recurate.people.tables import opened

    rules = Rules(
        0, wanted.seats or 1, wanted.limit, wanted.lease, wanted.repeats, wanted.checks,
        tuple("extremes" if a == "best-worst" else a for a in wanted.answers),  # type: ignore[misc]
    )  # fmt: skip
    source = wanted.source
    if source.suffix == ".toml" and source.is_file():
        if wanted.export or wanted.take or wanted.simulate:
            raise InputError(
                "a configuration has no picks yet: it begins a new run",
                got=source,
                remedy="name the run's folder, such as runs/NAME-1",
            )
        return _of_run(wanted, rules, _begun(wanted))
    if (source / "config.toml").is_file():
        return _of_run(wanted, rules, source)
    if not source.exists():
        raise InputError(
            "there is no such source", got=source, remedy="name a run, its configuration, or candidates"
        )
    place = wanted.db or source.with_name(source.name + "." + DATABASE)
    study = Study(opened(place), rules)
    if not (study.fact("source") and (wanted.export or wanted.take)):
        _fill(wanted, study, place)
    return study, lambda: None, None


def _fill(wanted: Wanted, study: Study, place: Path | str) -> None:
    """Put the candidates of a file into the database, unless they are there; seats are as they were last."""
    from dataclasses import replace

    from recurate.people.source import Columns, read

    said = Columns(wanted.show, wanted.context, wanted.slate, wanted.check, wanted.k)
    before = study.fact("columns")
    columns = Columns(**json.loads(before)) if before and said == Columns() else said
    found = read(wanted.source, columns)
    digest, known = hashlib.sha256(repr(found.slates).encode()).hexdigest(), study.fact("source")
    if known is not None and known != digest:
        other = before is not None and Columns(**json.loads(before)) != columns
        raise InputError(
            "the options read other slates from the file than before"
            if other
            else "the candidates have changed since people began to pick",
            got=f"{wanted.source} and {place}",
            remedy="leave the options about columns out: they are known"
            if other
            else "restore the file, or give the new one a database of its own: --db FILE",
        )
    print("\n".join(f"  {line}" for line in found.account), file=sys.stderr)
    _check_checks(wanted, found.slates)
    seats = wanted.seats or int(study.fact("seats") or 1)
    study.rules = replace(study.rules, seats=seats)
    facts = {"source": digest, "columns": json.dumps(asdict(columns)), "seats": str(seats)}
    study.add(found.slates, found.images, facts)
    if study.seat(seats):
        print(f"  asked about each slate from now on: {counted(seats, '{person|people}')}", file=sys.stderr)


def _check_checks(wanted: Wanted, found: list[Any]) -> None:
    if wanted.checks and all(slate.answer is None for slate in found):
        raise InputError(
            "no slate has a known answer",
            got=f"--checks {wanted.checks}",
            remedy="name the column of the answers: --check COLUMN",
        )


def _of_run(wanted: Wanted, rules: Any, run: Path) -> tuple[Study, Callable[[], None], Path]:
    from dataclasses import replace

    from recurate.loop.asking import POSTED, posted_in
    from recurate.loop.run_folder import RunFolder
    from recurate.people.asked import DATABASE, put
    from recurate.people.ballots import Study
    from recurate.people.tables import opened

    if (run / "manifest.json").exists() and RunFolder(run).config().selection.by != "people":
        raise InputError(
            "in this run a rule picks", got=run, remedy='begin one with by = "people" under [selection]'
        )
    if (wanted.seats or 1) > 1:
        raise InputError(
            "a run takes one pick per slate", got=f"--seats {wanted.seats}", remedy="leave --seats out"
        )
    (run / POSTED).mkdir(parents=True, exist_ok=True)
    study = Study(opened(wanted.db or run / POSTED / DATABASE), replace(rules, seats=1, twins=True))

    one_at_a_time = threading.Lock()

    def look() -> None:
        with one_at_a_time:
            for folder in posted_in(run):
                put(study, folder)

    return study, look, run


def _begun(wanted: Wanted) -> Path:
    """Return the newest run of a configuration that is not complete, or a new folder for one."""
    from recurate.loop.config import read_config
    from recurate.loop.run_folder import RunFolder

    config = read_config(wanted.source)
    if config.selection.by != "people":
        raise InputError(
            "in this configuration a rule picks",
            got=f"selection.by = {config.selection.by!r} in {wanted.source}",
            remedy='set by = "people" under [selection]',
        )
    base = Path("runs") / wanted.source.stem
    fresh, newest, number = fresh_folder(base), None, 1
    while (folder := base.with_name(f"{base.name}-{number}")) != fresh:
        if (folder / "manifest.json").exists() and _goes_on(folder) and RunFolder(folder).config() == config:
            newest = folder
        number += 1
    if newest is not None:
        print(f"  {newest} goes on: it has the same configuration", file=sys.stderr)
    return newest or fresh


def _serve(wanted: Wanted, study: Study, look: Callable[[], None], run: Path | None) -> None:
    import uvicorn

    from recurate.people.insight import hash_of
    from recurate.people.web import Site, application

    words = _password(wanted)
    listening = _listening(wanted)
    loop = _drive(wanted, run)

    def more() -> bool:
        return run is not None and _goes_on(run) and (loop is None or not loop.poll())

    site = Site(
        wanted.title, _markdown(wanted.instructions), _markdown(wanted.consent), wanted.question, wanted.open,
        wanted.https, wanted.completion, hash_of(words), look, more,
    )  # fmt: skip
    server = uvicorn.Server(
        uvicorn.Config(
            application(study, site), host=wanted.host, port=wanted.port, log_level="warning",
            access_log=False, server_header=False, proxy_headers=wanted.https,
            forwarded_allow_ips="127.0.0.1",
        )
    )  # fmt: skip
    _announce(wanted, server, words)
    if loop is not None and run is not None:
        threading.Thread(target=_tell_end, args=(loop, run), daemon=True).start()
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the loop is ended
        server.run([listening])
    finally:
        if loop is not None:
            loop.terminate()
            loop.wait()


def _goes_on(run: Path) -> bool:
    """Whether a run has rounds left."""
    from recurate.loop.run_folder import RunFolder

    if not (run / "manifest.json").exists():
        return True
    store = RunFolder(run)
    return store.complete() <= int(store.settings()["rounds"])


def _drive(wanted: Wanted, run: Path | None) -> subprocess.Popen[bytes] | None:
    """Begin the run of a configuration, which waits for each round's picks."""
    if run is None or wanted.source.suffix != ".toml":
        return None
    begun = (run / "manifest.json").exists()
    which = ["--resume", str(run)] if begun else [str(wanted.source), "--out", str(run)]
    database = ["--db", wanted.db] if wanted.db else []
    if begun:
        _await_lock(run)
    return subprocess.Popen(
        [sys.executable, "-m", "recurate", "run", *which, "--wait", *database],
        env=os.environ | {SERVER: str(os.getpid())},
    )


def _await_lock(run: Path) -> None:
    """Wait until the process that a killed server left has ended.

    Raises:
        InputError: If another process runs the loop.
    """
    from recurate.loop.run_folder import RunFolder

    until = time.monotonic() + LEFT
    while True:
        try:
            with RunFolder(run).locked():
                return
        except InputError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _tell_end(loop: subprocess.Popen[bytes], run: Path) -> None:
    """Print how a loop ended; the pages stay, as people may still read their codes."""
    code = loop.wait()
    if code >= 0:  # else this process has ended it
        how = f"the run is complete: {run}" if code == 0 else f"the run ended with exit code {code}: {run}"
        print(f"{how}\nthe pages stay open; Ctrl-C closes them", flush=True)


def _announce(wanted: Wanted, server: Any, words: str) -> None:
    """Print the addresses once the server listens."""

    def tell() -> None:
        while not server.started:
            time.sleep(0.05)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        base = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
        if wanted.open:
            print(f"people pick here:  {base}/", flush=True)
        else:
            print(f"people pick here:  by invitation, which you make on {base}/owner", flush=True)
        print(f"owner's page:      {base}/owner", flush=True)
        own = words if wanted.password is None else f"the one in {wanted.password}"
        print(f"owner's password:  {own}", flush=True)

    threading.Thread(target=tell, daemon=True).start()


def _listening(wanted: Wanted) -> socket.socket:
    """Return the socket that listens for browsers.

    Raises:
        InputError: If there is no such address here, or another program listens there.
    """
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    try:
        return socket.create_server((wanted.host, wanted.port), family=family)
    except OSError as error:
        raise InputError(
            "the pages cannot be served at this address",
            got=f"{wanted.host}, port {wanted.port}: {error.strerror}",
            remedy="name another port, such as --port 0 for any that is free, or another --host",
        ) from None


def _password(wanted: Wanted) -> str:
    """Return the owner's password: a new one of this server's own, or the one in a file."""
    if wanted.password is not None:
        words = _text_of(wanted.password).strip()
        if len(words) < 8:
            raise InputError(
                "the owner's password is too short", got=f"{len(words)} characters", remedy="take 8 or more"
            )
        return words
    return secrets.token_urlsafe(12)


def _markdown(path: Path | None) -> str:
    return "" if path is None else _text_of(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "a file of text cannot be read", got=f"{path}: {error}", remedy="save it as UTF-8"
        ) from None
