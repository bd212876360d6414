"""Faults on purpose: runs that are killed, interrupted or refused the disk at a chosen file operation.

A :class:`Server` is a process that has imported everything; each command line runs in a fork of it, which is
a process of its own that can be killed. The fork counts what it does to files below the run folder
(:class:`Points`): every audit event of the interpreter (open for writing, mkdir, rename, remove, rmdir, link,
...), ``os.fsync``, and the writers of Arrow and safetensors, which open files without the interpreter. Before
the operation of a given number it does what ``how`` says:

    kill    SIGKILL to itself
    half    SIGKILL, after cutting the file last written to half: death in the middle of its writing
    power   SIGKILL, after undoing what no fsync has made durable: data of files, at odd numbers also names
    int     SIGINT to itself, as Ctrl-C does, once
    ENOSPC, EIO, ...  the operation fails with that error, and all later ones with it

``mutant`` breaks the product in a named way, to show that a test notices.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events whose first argument is a path that is made, changed or removed.
CHANGES = {"os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.utime", "os.symlink"}
NOT_DURABLE = ("timings.jsonl", ".lock", ".work", "commands")  # nothing relies on them after a crash
PATIENCE = 120.0  # seconds that a command may take

# --- tiny runs: some thirty files, a third of a second ---

PLAIN: dict[str, Any] = {
    "seed": 3,
    "rounds": 2,
    "data": {"kind": "gaussians", "modes": 2, "size": 60, "sd": 0.2},
    "generator": {
        "kind": "flow", "width": 4, "depth": 1, "first_steps": 4, "steps": 2, "batch": 16,
        "coupling": "independent", "ode_steps": 1, "device": "cpu",
    },
    "rewards": [{"kind": "distance", "name": "east", "centre": [2.0, 0.0]}],
    "groups": {"kind": "nearest"},
    "selection": {"k": 2, "picks": 20},
    "retraining": {"real_fraction": 0.25},
}  # fmt: skip
CONTROLLED = PLAIN | {
    "control": True,
    "retraining": {"real_fraction": 0.25, "mode": "accumulate"},
}
# In some seeds one attempt or two are rolled back before a round passes.
ROLLED_BACK = PLAIN | {
    "attempts": 3,
    "alarms": [{"kind": "share", "floor": 0.6, "level": 0.5, "action": "rollback"}],
}


def programs(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the configuration of a loop with an external generator; a classifier is trained in set-up."""
    from helpers.external import external, points_config, write_points

    generator = external(**changes.pop("generator", {}))
    for name in ("fit", "sample"):
        generator[name][1:1] = ["-I", "-S"]  # Python starts twice as fast
    table = {"kind": "table", "path": str(write_points(folder / "points.jsonl", 60)), "label": "label"}
    return points_config(
        folder,
        rounds=1,
        data=table | {"held_out": 0.2},
        generator=generator,
        rewards=[
            {"kind": "distance", "centre": [2.0, 0.0]},
            {"kind": "classifier", "name": "right", "label": "right"},
        ],
        classifier={"width": 4, "steps": 4},
        selection={"k": 2, "picks": 20},
        measures={"features": []},
        **changes,
    )


# --- in the fork ---


class Points:
    """Counts file operations below a folder, and strikes at one of them."""

    def __init__(self, root: Path, at: int, how: str, really_sync: bool) -> None:
        self.root = str(root)
        self.at = at
        self.how = how
        self.seen: list[tuple[str, str]] = []
        self._really_sync = really_sync
        self._busy = False
        self._last: str | None = None  # file written last
        self._durable: dict[str, tuple[int, ...]] = {}
        self._undo: list[tuple[str, Callable[[], None]]] = []  # folder whose fsync makes it durable, and how
        self._spare = tempfile.mkdtemp(prefix="durable-", dir=root.parent) if how == "power" else ""

    def install(self) -> None:
        """Wrap everything, once; there is no way back."""
        import pyarrow.parquet
        import safetensors.numpy
        import safetensors.torch

        for path in Path(self.root).rglob("*") if self.how == "power" else ():
            self._durable[str(path)] = _version_of(path)
        sync = os.fsync
        os.fsync = lambda fd: self._fsync(fd, sync)  # type: ignore[assignment]
        for module, name, position in (
            (pyarrow.parquet, "write_table", 1),
            (safetensors.numpy, "save_file", 1),
            (safetensors.torch, "save_file", 1),
        ):
            setattr(module, name, self._wrapped(name, getattr(module, name), position))
        sys.addaudithook(self._audit)

    def reach(self, kind: str, path: str) -> None:
        """Count an operation; strike if it is the one."""
        if self._busy or not (path == self.root or path.startswith(self.root + os.sep)):
            return
        self.seen.append((kind, os.path.relpath(path, self.root)))
        number = len(self.seen) - 1
        if number == self.at or (self.how.startswith("E") and 0 <= self.at < number):
            self._busy = True
            try:
                self._strike(kind)
            finally:
                self._busy = False
        if kind in ("open", "write_table", "save_file"):
            self._last = path
        if self.how == "power":
            self._remember(kind, path)

    def _strike(self, kind: str) -> None:
        if self.how == "int":
            os.kill(os.getpid(), signal.SIGINT)
            return
        if self.how.startswith("E"):
            if kind not in ("remove", "rmdir"):  # these need no room
                number = getattr(errno, self.how)
                raise OSError(number, os.strerror(number))
            return
        if self.how == "half" and self._last is not None and os.path.exists(self._last):
            os.truncate(self._last, os.path.getsize(self._last) // 2)
        if self.how == "power":
            self._lose()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITING:
                self.reach("open", _absolute(path))
        elif event in CHANGES:
            folder = arguments[-1] if event in ("os.mkdir", "os.remove", "os.rmdir") else -1
            self.reach(event.removeprefix("os."), _absolute(arguments[0], folder))
        elif event in ("os.rename", "os.link"):
            self._source = _absolute(arguments[0])
            self.reach(event.removeprefix("os."), _absolute(arguments[1]))

    def _fsync(self, descriptor: int, sync: Callable[[int], None]) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self.reach("fsync", path)
        if self._really_sync:
            sync(descriptor)
        self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]
        self._durable[path] = _version_of(Path(path))

    def _wrapped(self, name: str, function: Callable[..., Any], position: int) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **rest: Any) -> Any:
            self.reach(name, _absolute(arguments[position]))
            busy, self._busy = self._busy, True  # whatever it does inside is one operation
            try:
                return function(*arguments, **rest)
            finally:
                self._busy = busy

        return wrapped

    # what a loss of power may undo: nothing is durable before an fsync of the file, or of the folder it is in

    def _remember(self, kind: str, path: str) -> None:
        """Note how to undo an operation that is about to happen."""
        if any(part in NOT_DURABLE for part in Path(path).parts):
            return
        parent = os.path.dirname(path)
        if kind == "mkdir" and not os.path.exists(path):
            self._undo.append((parent, lambda: shutil.rmtree(path, ignore_errors=True)))
        elif kind == "rename":
            source, spare = self._source, None
            if os.path.isfile(path):
                spare = os.path.join(self._spare, str(len(self.seen)))
                self._busy = True
                os.link(path, spare)
                self._busy = False
            self._undo.append((parent, lambda: _rename_back(source, path, spare)))
            for known in [k for k in self._durable if k == source or k.startswith(source + os.sep)]:
                self._durable[path + known[len(source) :]] = self._durable.pop(known)

    def _lose(self) -> None:
        for path in [p for p in Path(self.root).rglob("*") if p.is_file()]:
            if any(part in NOT_DURABLE for part in path.parts):
                continue
            if self._durable.get(str(path)) != _version_of(path):
                os.truncate(path, path.stat().st_size // 2)
        for _, undo in reversed(self._undo if self.at % 2 else []):
            undo()
        shutil.rmtree(self._spare, ignore_errors=True)


def _absolute(path: Any, folder: Any = -1) -> str:
    text = os.fsdecode(path)
    if not os.path.isabs(text):
        inside = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else "."
        text = os.path.join(inside, text)
    return os.path.abspath(text)


def _version_of(path: Path) -> tuple[int, ...]:
    facts = path.stat()
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _rename_back(source: str, target: str, spare: str | None) -> None:
    if os.path.exists(target):
        with contextlib.suppress(OSError):
            os.rename(target, source)
        if spare is not None:
            os.rename(spare, target)


# --- the product, broken on purpose ---


def _in_place(target: Path, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Write a folder where it belongs, its contents last."""
    from recurate.core import sealed

    target.mkdir(parents=True, exist_ok=True)
    fill(target)
    files = sorted(p for p in target.rglob("*") if p.is_file())
    sums = {p.relative_to(target).as_posix(): sealed.sha256(p) for p in files}
    found = {"facts": facts, "sha256": sums}
    (target / sealed.CONTENTS).write_text(json.dumps(found) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _no_partial(path: Path) -> Iterator[Path]:
    yield path


def break_product(mutant: str) -> None:
    """Take one safety away."""
    from recurate.core import files, sealed, tables
    from recurate.core.files import sync
    from recurate.core.seeds import Stream
    from recurate.loop import driver, rounds, run_folder

    module: Any
    for module, name, other in {
        "folders in place": [(run_folder, "write_folder", _in_place)],
        "files in place": [(files, "atomic_path", _no_partial), (tables, "atomic_path", _no_partial)],
        "no fsync of folders": [
            (m, "sync", lambda p: None if p.is_dir() else sync(p)) for m in (files, sealed, run_folder)
        ],
        "no fsync": [
            (files, "sync", lambda path: None),
            (sealed, "sync", lambda path: None),
            (run_folder, "sync", lambda path: None),
        ],
        "no hashes": [
            (run_folder, "verify", lambda *rest: None),
            (sealed, "seal_holds", lambda *rest: True),
        ],
        "no lock": [(run_folder.RunFolder, "locked", lambda folder: contextlib.nullcontext())],
        "no shield": [(driver, "uninterrupted", contextlib.nullcontext)],
        "own seeds": [(rounds, "Stream", lambda seed: Stream(seed + os.getpid()))],
    }[mutant]:
        assert hasattr(module, name), f"there is no {name} to break"
        setattr(module, name, other)


# --- the server ---


def _child(request: dict[str, Any]) -> None:
    """Run a command line in this fork, and end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    out = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.chdir(request["cwd"])
    code = 70
    try:
        code = _command(request)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(request: dict[str, Any]) -> int:
    import recurate.verbs.run.report
    from recurate.cli import main
    from recurate.loop import run_folder

    run_folder._code_revision = lambda: "tested"  # others may work in this checkout meanwhile
    if not request["report"]:
        recurate.verbs.run.report.write_run_report = lambda folder: folder.path / "no report was asked for"
    if request["mutant"]:
        break_product(request["mutant"])
    sys.argv = ["recurate", *request["words"]]
    sys.path.insert(0, str(HERE))
    points = Points(Path(request["root"]), request["at"], request["how"], request["sync"])
    points.install()
    code = 70
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    points._busy = True
    Path(request["log"] + ".points").write_text(json.dumps(points.seen))
    return code


def _import_all() -> None:
    """Import what a run imports: a fork of this process tells, so that none of its threads are here."""
    folder = Path(tempfile.mkdtemp())
    config = write_config(CONTROLLED | {"rounds": 1}, folder)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.chdir(folder)
        sys.argv = ["recurate", "run", str(config), "--out", "out"]
        with contextlib.suppress(SystemExit):
            importlib.import_module("recurate.cli").main()
        os.write(write, json.dumps(sorted(sys.modules)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as names:
        for name in json.load(names):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    os.waitpid(child, 0)
    shutil.rmtree(folder)
    import typer

    from recurate import cli
    from recurate.loop import run_folder

    # Made once here, not in every fork.
    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]
    run_folder.version = functools.cache(run_folder.version)
    for package in run_folder.PACKAGES:
        run_folder.version(package)
    gc.freeze()  # forks share these objects as long as nobody writes into them


def serve() -> None:
    """Fork and wait, as the lines on the standard input say."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_all()
    print("{}", file=answer, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = request.get("wait")
        started = time.monotonic()
        if pid is None:
            pid = os.fork()
            if not pid:
                _child(request)
        found = {"pid": pid}
        if not request.get("background"):
            found["code"] = _wait(pid, started, request.get("kill_after"))
            found["seconds"] = time.monotonic() - started
        print(json.dumps(found), file=answer, flush=True)


def _wait(pid: int, started: float, kill_after: float | None) -> int:
    end = started + (PATIENCE if kill_after is None else kill_after)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        left = end - time.monotonic()
        if left <= 0:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(min(0.002, left))


# --- in the test ---


@dataclass(frozen=True)
class Done:
    """How a command line ended: exit code (minus the signal), all it printed, what it did to files."""

    code: int
    text: str
    points: list[tuple[str, str]]
    seconds: float


class Server:
    """Runs command lines in forks of a process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160", "PYTHONUNBUFFERED": "1"},
        )
        self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)

    def __call__(self, *words: Any, root: Path, **rest: Any) -> Done:
        """Run ``recurate WORDS``; ``root`` is the folder whose operations count."""
        request = self._request(words, root, rest)
        Path(request["log"]).touch()
        return self._done(self._ask(request), request["log"])

    def start(self, *words: Any, root: Path, **rest: Any) -> tuple[int, str]:
        """Start ``recurate WORDS`` and return its process and log."""
        request = self._request(words, root, rest) | {"background": True}
        return self._ask(request)["pid"], request["log"]

    def wait(self, started: tuple[int, str]) -> Done:
        """Wait for what was started."""
        return self._done(self._ask({"wait": started[0]}), started[1])

    def _request(self, words: tuple[Any, ...], root: Path, rest: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        defaults = {"at": -1, "how": "kill", "mutant": "", "report": False, "sync": False}
        return defaults | {
            "words": [str(word) for word in words],
            "root": str(root),
            "cwd": str(root.parent),
            "log": str(self.folder / f"log-{self._number}"),
            **rest,
        }

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def _done(self, found: dict[str, Any], log: str) -> Done:
        text, points = Path(log).read_text(errors="replace"), Path(log + ".points")
        seen = [tuple(p) for p in json.loads(points.read_text())] if points.exists() else []
        for path in (Path(log), points):
            path.unlink(missing_ok=True)
        return Done(found["code"], text, seen, found["seconds"])


def write_config(config: dict[str, Any], folder: Path) -> Path:
    """Write a configuration as a file."""
    import tomli_w

    path = folder / "loop.toml"
    path.write_text(tomli_w.dumps(config), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder (None) of a run but what may differ; leftovers, hidden ones too, included."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name != "timings.jsonl" and name.split("/")[0] != "commands":
            found[name] = None if path.is_dir() else path.read_bytes()
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    serve()
