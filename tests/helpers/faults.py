"""Faults on purpose: runs that are killed, interrupted or refused the disk at a chosen file operation.

A :class:`Server` is a process that has imported everything; each command line runs in a fork of it, which is
a process of its own that can be killed. The fork counts what recurate does to files below the run folder
(:class:`Points`): every audit event of the interpreter (open for writing, mkdir, rename, remove, rmdir, link,
...), ``os.fsync``, and the writers of Arrow and safetensors, which open files without the interpreter. What a
library does to files in one call is one operation, however many are inside: its releases differ in them.
Before the operation of a given number the fork does what ``how`` says:

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
import json
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent.parent
if __name__ in ("__main__", "__mp_main__"):  # also in processes that an engine of a command starts
    sys.path.insert(0, str(HERE))

import recurate  # noqa: E402
from helpers import warm  # noqa: E402

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events whose first argument is a path that is made, changed or removed.
CHANGES = {"os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.utime", "os.symlink"}
NOT_DURABLE = ("timings.jsonl", ".lock", ".work", "commands")  # nothing relies on them after a crash

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
SHARDED = PLAIN | {"rounds": 1, "engine": {"shard": 20}}  # two shards in a round
SEVERAL = PLAIN | {
    "rounds": 1,
    "keep": 1,
    "generator": {"kind": "kde", "bandwidth": 0.1},
    "rewards": [*PLAIN["rewards"], {"kind": "distance", "name": "west", "centre": [-2.0, 0.0]}],
    "models": [
        {"name": "ours", "rewards": ["east"], "trains_on": {"ours": 0.6, "theirs": 0.4}},
        {"name": "theirs", "rewards": ["west"], "trains_on": {"ours": 0.1, "theirs": 0.9}},
    ],
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
        self._call: tuple[FrameType, int] | None = None  # of a library, in which the last operation was
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
        call, before = _library_call(), self._call
        inside = call is not None and call == before
        if inside:
            self.seen.pop()  # a library's call is named after its last operation
        self.seen.append((kind, os.path.relpath(path, self.root)))
        self._call = call
        number = len(self.seen) - 1
        failing = self.how.startswith("E") and 0 <= self.at <= number
        if failing or (number == self.at and not inside):
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
        if self.how == "half" and self._last is not None and os.path.isfile(self._last):
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


def _library_call() -> tuple[FrameType, int] | None:
    """Return where recurate called the library that is at work now, or None if none is.

    The standard library works for whoever called it.
    """
    frame: FrameType | None = sys._getframe(1)
    library = False
    while frame is not None:
        owner = _owner(frame.f_code.co_filename)
        if owner == "recurate":
            return (frame, frame.f_lasti) if library else None
        library = library or owner == "library"
        frame = frame.f_back
    return None


@functools.cache
def _owner(file: str) -> str:
    """Return whose code a file is: recurate's, a library's, or (empty) Python's or these tests'."""
    if file.startswith(os.path.dirname(recurate.__file__) + os.sep):
        return "recurate"
    python = file.startswith(sysconfig.get_path("stdlib")) and "site-packages" not in file
    return "" if python or file.startswith(("<", str(HERE))) else "library"


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


def _in_place(
    target: Path, fill: Callable[[Path], None], facts: dict[str, Any], links: Mapping[str, str] | None = None
) -> None:
    """Write a folder where it belongs, its contents last."""
    from recurate.core import sealed

    target.mkdir(parents=True, exist_ok=True)
    fill(target)
    files = sorted(p for p in target.rglob("*") if p.is_file())
    sums = {p.relative_to(target).as_posix(): sealed.sha256(p) for p in files}
    text = sealed.sealed({"facts": facts, **(links or {}), "sha256": sums})
    (target / sealed.CONTENTS).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _no_partial(path: Path) -> Iterator[Path]:
    yield path


def break_product(mutant: str) -> None:
    """Take one safety away."""
    from recurate.core import files, sealed, tables
    from recurate.core.files import sync
    from recurate.core.seeds import Stream
    from recurate.log import folders
    from recurate.loop import config, driver, run_folder

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
            (folders.StoredRun, "verify", lambda folder, **rest: None),
            (sealed, "seal_holds", lambda *rest: True),
        ],
        "no lock": [(run_folder.RunFolder, "locked", lambda folder: contextlib.nullcontext())],
        "no shield": [(driver, "uninterrupted", contextlib.nullcontext)],
        "own seeds": [(config, "Stream", lambda seed: Stream(seed + os.getpid()))],
    }[mutant]:
        assert hasattr(module, name), f"there is no {name} to break"
        setattr(module, name, other)


# --- the server ---

REPORTS = {
    "recurate.verbs.run.report": "write_run_report",
    "recurate.verbs.run.models_report": "write_models_report",
}


def _command(request: dict[str, Any]) -> int:
    if "root" not in request:
        return warm.command(request["words"])
    from recurate.loop import run_folder

    run_folder._code_revision = lambda: "tested"  # others may work in this checkout meanwhile
    if not request["report"]:
        for module, name in REPORTS.items():
            setattr(sys.modules[module], name, lambda folder: folder.path / "no report was asked for")
    if request["mutant"]:
        break_product(request["mutant"])
    points = Points(Path(request["root"]), request["at"], request["how"], request["sync"])
    points.install()
    code = warm.command(request["words"])
    points._busy = True
    Path(request["out"] + ".points").write_text(json.dumps(points.seen))
    return code


def _prepare() -> None:
    sys.path.remove(str(HERE))  # the commands have it only where PYTHONPATH does
    warm.import_all()
    from recurate.loop import run_folder

    run_folder.version = functools.cache(run_folder.version)
    for package in run_folder.NAMED:
        run_folder.version(package)


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
        self.warm = warm.Warm(folder, __file__)

    def close(self) -> None:
        """End the process."""
        self.warm.close()

    def __call__(self, *words: Any, root: Path, **rest: Any) -> Done:
        """Run ``recurate WORDS``; ``root`` is the folder whose operations count."""
        request = self._request(words, root, rest)
        return self._done(self.warm.ask(request), request["out"])

    def start(self, *words: Any, root: Path, **rest: Any) -> tuple[int, str]:
        """Start ``recurate WORDS`` and return its process and log."""
        request = self._request(words, root, rest) | {"background": True}
        return self.warm.ask(request)["pid"], request["out"]

    def wait(self, started: tuple[int, str]) -> Done:
        """Wait for what was started."""
        return self._done(self.warm.ask({"wait": started[0]}), started[1])

    def _request(self, words: tuple[Any, ...], root: Path, rest: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        log = str(self.folder / f"log-{self._number}")
        Path(log).touch()  # a process may be killed before it opens it
        defaults = {"at": -1, "how": "kill", "mutant": "", "report": False, "sync": False}
        return defaults | {
            "words": [str(word) for word in words],
            "root": str(root),
            "cwd": str(root.parent),
            "out": log,
            "err": log,
            **rest,
        }

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
        if path.name != "timings.jsonl" and "commands" not in name.split("/"):
            found[name] = None if path.is_dir() else path.read_bytes()
    return found


if __name__ == "__main__":
    warm.serve(_command, _prepare)
