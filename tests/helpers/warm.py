"""Command lines in forks of a process that has imported everything: processes of their own, quickly started.

A :class:`Warm` process imports what the commands import and then waits. Each command line runs in a fork of
it, with its own folder, environment, standard output and error, as if Python had been started anew; only the
imports, seconds of processor time each, are done once. Tests of start-up itself start Python.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds that a command may take


# --- in the process ---


def serve(run: Callable[[dict[str, Any]], int], prepare: Callable[[], None]) -> None:
    """Prepare, then fork and wait, as the lines on the standard input say; ``run`` is called in the fork."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare()
    gc.freeze()  # forks share these objects as long as nobody writes into them
    print("{}", file=answer, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = request.get("wait")
        started = time.monotonic()
        if pid is None:
            pid = os.fork()
            if not pid:
                _child(request, run)
        found = {"pid": pid}
        if not request.get("background"):
            found["code"] = _wait(pid, started + request.get("kill_after", PATIENCE))
            found["seconds"] = time.monotonic() - started
        print(json.dumps(found), file=answer, flush=True)


def _child(request: dict[str, Any], run: Callable[[dict[str, Any]], int]) -> None:
    """Run a command line in this fork, and end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, stream)
        os.close(file)
    code = 70
    try:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        _search_from(request["cwd"])
        code = run(request)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _search_from(folder: str) -> None:
    """Set where modules are found, as ``python -m`` does: in the current folder, then PYTHONPATH.

    Its ``sitecustomize`` is imported, as by every Python that starts.
    """
    program = os.path.dirname(os.path.abspath(sys.argv[0]))
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [folder, *paths, *(path for path in sys.path if path not in (program, *paths))]
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")


def _wait(pid: int, end: float) -> int:
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        left = end - time.monotonic()
        if left <= 0:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(min(0.002, left))


def command(words: list[str]) -> int:
    """Run ``recurate WORDS`` and return its exit code."""
    from recurate.cli import main

    sys.argv = ["recurate", *words]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


# Imported in functions of recurate.
LATE = (
    "altair", "filelock", "jinja2", "narwhals._interchange", "PIL.Image", "pyarrow.acero", "pyarrow.compute",
    "pyarrow.csv", "pyarrow.dataset", "pyarrow.json", "pyarrow.parquet", "safetensors.numpy",
    "safetensors.torch", "scipy.optimize", "scipy.spatial", "scipy.stats", "sklearn.datasets", "tomli_w",
)  # fmt: skip


def import_all() -> None:
    """Import what any command may need, and make what is made once per process."""
    import recurate

    names = [module.name for module in pkgutil.walk_packages(recurate.__path__, "recurate.")]
    for name in (*names, *LATE):
        importlib.import_module(name)

    import typer

    from recurate import cli
    from recurate.log.trajectory import FORECAST, MEASURED
    from recurate.report import charts, html

    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]
    html._environment().get_template("page.html.j2")
    html._scripts()
    charts._series_chart((FORECAST, MEASURED), False, False)


# --- in the test ---


class Warm:
    """Runs command lines in forks of the Python file ``program``, which calls :func:`serve`."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, program],
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

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send ``words``, ``cwd``, files for ``out`` and ``err``; return ``pid``, ``code``, ``seconds``."""
        assert self._process.stdin is not None
        defaults = {"env": os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}}
        print(json.dumps(defaults | request), file=self._process.stdin, flush=True)
        return self._answer()

    def __call__(
        self, *words: Any, cwd: Path, timeout: float = PATIENCE, **rest: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run ``recurate WORDS`` in ``cwd``; ``rest`` may be its environment, ``env``."""
        request = {"words": [str(word) for word in words], "cwd": str(cwd), "kill_after": timeout, **rest}
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            found = self.ask(request | {"out": str(out), "err": str(err)})
            if found["code"] == -signal.SIGKILL and found["seconds"] >= timeout:
                raise subprocess.TimeoutExpired(request["words"], timeout)
            texts = (path.read_text(encoding="utf-8") for path in (out, err))
            return subprocess.CompletedProcess(request["words"], found["code"], *texts)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))
