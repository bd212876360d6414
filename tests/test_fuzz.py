"""Ten thousand damaged and generated files: each is read or refused, none ends in a traceback or a signal."""

from __future__ import annotations

import contextlib
import faulthandler
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

import recurate
from helpers.faults import PLAIN
from helpers.fuzz import FORMATS, faults_of, toml_of, write_input
from recurate.core.errors import InputError
from recurate.log.opening import open_log, open_slates
from recurate.log.reading.mapping import Given
from recurate.loop.config import read_config
from recurate.verbs.audit.declared import read_declared

pytestmark = pytest.mark.usefixtures("few_replicates")

COUNTS = {
    "CSV": 1400, "JSON": 1600, "JSON lines": 1700, "Parquet": 1500, "Arrow": 600, "packed": 400,
    "garbage": 1300, "TOML": 1500, "sound": 400,
}  # fmt: skip
VERBS: tuple[Callable[..., object], ...] = (
    lambda path: recurate.forecast(path, rounds=1),
    lambda path: recurate.fit(path, groups=0),
    recurate.audit,
    lambda path: recurate.plan(path, rounds=1, k=[2], real_fraction=[0.0], refine=False),
)


def both_readings(path: Path) -> None:
    """Read a file as every verb does: for its rewards and for its picks."""
    with contextlib.suppress(InputError):
        open_log(path, Given())
    open_slates(path, Given())


def read_toml(number: int, folder: Path) -> None:
    path = folder / f"{number}.toml"
    path.write_bytes(toml_of(random.Random(f"TOML {number}"), tomli_w.dumps(PLAIN)))
    with contextlib.suppress(InputError):
        read_declared(path)
    settings = read_config(path)
    settings.generator.check()
    settings.selection.check_memory()


def faults(
    kind: str, numbers: range, folder: Path, read: Callable[[Path], object], warned: str = "ignore"
) -> list[str]:
    def one(number: int) -> None:
        if kind == "TOML":
            return read_toml(number, folder)
        path = write_input(kind, number, folder)
        try:
            read(path)
        finally:
            path.unlink()
        return None

    return faults_of(numbers, one, (InputError,), warned)


def test_there_are_ten_thousand():
    assert sum(COUNTS.values()) >= 10_000
    assert COUNTS.keys() == {*FORMATS, "TOML"}


@pytest.mark.parametrize("kind", COUNTS)
def test_a_few_inputs_are_read_or_refused(kind, tmp_path):
    found = faults(kind, range(40), tmp_path, both_readings)
    assert not found, "\n".join(found[:3])


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_ten_thousand_inputs_are_read_or_refused(kind, tmp_path):
    found = faults(kind, range(COUNTS[kind]), tmp_path, both_readings)
    assert not found, f"{len(found)} of {COUNTS[kind]}:\n" + "\n".join(found[:3])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["CSV", "JSON lines", "Parquet"])
def test_verbs_answer_or_refuse(kind, tmp_path):
    """What is read goes on through a verb; every fourth input through each."""

    def through(path: Path) -> None:
        both_readings(path)
        VERBS[int(path.name.split("-")[1].split(".")[0]) % len(VERBS)](path)

    found = faults(kind, range(10_000, 10_060), tmp_path, through)
    assert not found, "\n".join(found[:3])


@pytest.mark.slow
@pytest.mark.parametrize("verb", range(len(VERBS)), ids=["forecast", "fit", "audit", "plan"])
def test_verbs_live_with_any_values(verb, tmp_path):
    """Logs of sound form whose rewards overflow, underflow, tie or are constant, with picks of any kind."""
    found = faults("sound", range(60), tmp_path, VERBS[verb], "error")
    assert not found, "\n".join(found[:3])


@pytest.mark.slow
def test_the_command_line_exits_with_0_1_or_2(recurate_here, tmp_path):
    """A sample, as a user gives it: 1 is a mismatch that an audit found."""
    for number in range(12):
        kind = list(FORMATS)[number % len(FORMATS)]
        path = write_input(kind, 20_000 + number, tmp_path)
        verb = ("forecast", "fit", "audit")[number % 3]
        done = recurate_here(verb, path, "--out", "out")
        assert done.returncode in ((0, 1, 2) if verb == "audit" else (0, 2)), (path, done.stderr)
        assert "Traceback" not in done.stderr
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_the_harness_notices_tracebacks_and_signals(tmp_path):
    """A read that raises, one that kills its process, and sound ones after each."""

    def read(number: int) -> None:
        if number == 3:
            raise KeyError("x")
        if number == 5:
            faulthandler.disable()  # pytest's, which would print a page
            signal.raise_signal(signal.SIGSEGV)
        if number == 7:
            raise InputError("no", got="", remedy="")

    found = faults_of(range(10), read, (InputError,))
    assert [line.split(":")[0] for line in found] == ["3", "5"]
    assert "KeyError" in found[0]
    assert "status 11" in found[1]
