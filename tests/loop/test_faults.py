"""Runs that are killed, interrupted, refused the disk, or given altered files: nothing is lost or mixed up.

Each fault is made in a real process (see faults.py) at operations that are counted in a run, not listed by
hand, so that a new file is covered as soon as it is written. What is proved each time: the run goes on and
ends with the very files, byte by byte, of a run that nothing happened to.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers.faults import (
    CONTROLLED,
    PLAIN,
    ROLLED_BACK,
    SEVERAL,
    SHARDED,
    Done,
    Server,
    contents,
    programs,
    write_config,
)
from helpers.tiny import merged
from recurate.core.errors import InputError
from recurate.loop.run_folder import RunFolder

WRITES = ("open", "write_table", "save_file")  # after one of these a file may be half there


@dataclass
class Whole:
    """A finished run that nothing happened to."""

    name: str
    config: Path
    folder: Path
    done: Done
    files: dict[str, bytes | None] = field(default_factory=dict)


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory) -> Callable[[str], Whole]:
    """Return finished runs by name, made when first asked for."""
    made: dict[str, Whole] = {}

    def make(name: str, config: dict[str, Any], folder: Path) -> Whole:
        path, out = write_config(config, folder), folder / "whole"
        shutil.rmtree(out, ignore_errors=True)
        done = server("run", path, "--out", out, root=out)
        return Whole(name, path, out, done, contents(out))

    def find(name: str) -> Whole:
        if name in made:
            return made[name]
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        if name == "rolled back":
            for seed in (17, *range(40)):
                found = make(name, ROLLED_BACK | {"seed": seed}, folder)
                if found.done.code == 0 and "rejected/001-0" in found.files:
                    break
        else:
            known = {"plain": PLAIN, "controlled": CONTROLLED, "sharded": SHARDED, "several": SEVERAL}
            config = known.get(name) or programs(folder)
            found = make(name, config, folder)
        assert found.done.code == 0, found.done.text
        made[name] = found
        return found

    return find


SCENARIOS = ("plain", "controlled", "rolled back", "programs", "sharded")


def go_on(server: Server, run: Whole, out: Path, **rest: Any) -> Done:
    """Do what a user does after a fault: resume, or the same command where there is nothing to resume."""
    if (out / "manifest.json").exists():
        return server("run", "--resume", out, root=out, **rest)
    return server("run", run.config, "--out", out, root=out, **rest)


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Name the first file in which two runs differ, or return nothing."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected:
            return f"{name} is left over"
        if name not in found:
            return f"{name} is missing"
        if found[name] != expected[name]:
            return f"{name} has other bytes"
    return ""


@dataclass
class Tally:
    """What a sweep did, and what went wrong."""

    faults: int = 0
    continued: int = 0
    wrong: list[str] = field(default_factory=list)


def sweep(
    server: Server,
    run: Whole,
    how: str,
    numbers: Sequence[int],
    check: Callable[[Done, Path], str],
    *,
    enough: int = 1000,
    **rest: Any,
) -> Tally:
    """Make a fault at each of the numbered operations, go on, and compare; end when enough went wrong.

    Runs that are left in the same state go on alike: only the first of them does.
    """
    tally, seen = Tally(), set()
    for number in numbers:
        if len(tally.wrong) >= enough:
            break
        out = run.folder.with_name("out")
        shutil.rmtree(out, ignore_errors=True)
        done = server("run", run.config, "--out", out, root=out, at=number, how=how, **rest)
        kind, path = run.done.points[number]
        where = f"{how} before operation {number}, {kind} of {path}: "
        tally.faults += 1
        wrong = check(done, out) or lost(run.done.points[:number], out)
        if wrong:
            tally.wrong.append(where + wrong)
        # Without the workspace, which is emptied whatever is in it, and whose names are random.
        state = repr([item for item in sorted(contents(out).items()) if not item[0].startswith(".work/")])
        digest = hashlib.sha256(state.encode()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        tally.continued += 1
        after = go_on(server, run, out, mutant=rest.get("mutant", ""))
        wrong = difference(contents(out), run.files)
        if after.code or wrong:
            tally.wrong.append(f"{where}exit code {after.code}, {wrong}\n{after.text[-600:]}")
    return tally


def lost(before: Sequence[tuple[str, str]], out: Path) -> str:
    """Name a round that the run had left behind before the fault and that is not there any more.

    A run leaves a round behind when it renames its next file: then not even a loss of power may take it.
    """
    renamed = [path for kind, path in before if kind == "rename" and ".partial" not in path]
    for path in renamed[:-1]:
        if re.search(r"(^|/)(rounds|rejected)/", path) and not (out / path).is_dir():
            return f"{path} is lost"
    return ""


def dead(done: Done, out: Path) -> str:
    return "" if done.code == -signal.SIGKILL else f"it lived: {done.code}\n{done.text[-300:]}"


def half(points: Sequence[tuple[str, str]]) -> list[int]:
    """Operations just after a file was written."""
    return [n for n in range(1, len(points)) if points[n - 1][0] in WRITES]


def own(run: Whole, plain: Whole) -> list[int]:
    """Operations of a kind that the plain run has none of; all, of the plain run itself."""
    known = {_kind(*point) for point in plain.done.points} if run is not plain else set()
    return [n for n, point in enumerate(run.done.points) if _kind(*point) not in known]


def _kind(kind: str, path: str) -> tuple[str, str]:
    path = re.sub(r"(fit|sample)-\w+", "work", path)
    return kind, re.sub(r"\d", "0", path)


def passed(tally: Tally, record: Callable[[str, object], None]) -> None:
    record("faults", tally.faults)
    record("continued", tally.continued)
    print(f"{tally.faults} faults, {tally.continued} different states to go on from")
    assert not tally.wrong, f"{len(tally.wrong)} of {tally.faults}:\n" + "\n".join(tally.wrong[:5])


# --- killed ---


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_file_of_a_run_is_among_the_write_points(whole, name):
    """Else a kill could not be placed there: whoever writes a file in a new way must teach faults.py."""
    run = whole(name)
    known = {path.split("/")[-1] for _, path in run.done.points}
    for path in run.files:
        assert path.split("/")[-1] in known, path
    renamed = [path for kind, path in run.done.points if kind == "rename"]
    assert {"config.toml", "manifest.json", "setup", "rounds/000", "rounds/001", "trajectory.parquet"} <= set(
        renamed
    )
    assert name != "rolled back" or "rejected/001-0" in renamed


def test_runs_are_repeated_byte_by_byte(server, whole, tmp_path):
    for name in ("plain", "programs"):
        run, out = whole(name), tmp_path / name
        assert server("run", run.config, "--out", out, root=out).code == 0
        assert not difference(contents(out), run.files)


def test_killed_at_some_write_points(server, whole, record_property):
    run = whole("plain")
    count = len(run.done.points)
    passed(sweep(server, run, "kill", range(0, count, 20), dead), record_property)
    passed(sweep(server, run, "half", half(run.done.points)[::14], dead), record_property)
    passed(sweep(server, run, "power", range(3, count, 25), dead), record_property)
    run = whole("sharded")
    passed(sweep(server, run, "kill", range(5, len(run.done.points), 30), dead), record_property)


def test_several_models_killed_at_some_write_points(server, whole, record_property):
    """Whichever of the models was in a round when the process died, all end as if it had not."""
    run = whole("several")
    count = len(run.done.points)
    passed(sweep(server, run, "kill", range(1, count, 71), dead), record_property)
    passed(sweep(server, run, "half", half(run.done.points)[4::60], dead), record_property)
    passed(sweep(server, run, "power", range(7, count, 170), dead), record_property)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "half", "power"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_write_point(server, whole, record_property, name, how):
    """Between any two operations; also in the middle of files and with the power lost, where a scenario
    does what the plain run does not."""
    run = whole(name)
    numbers: Sequence[int] = range(len(run.done.points))
    if how != "kill":
        mine = own(run, whole("plain"))
        numbers = mine[::3] if how == "power" else [n for n in half(run.done.points) if n - 1 in mine]
    passed(sweep(server, run, how, numbers, dead), record_property)


def random_kills(server: Server, run: Whole, count: int, seed: int) -> list[str]:
    """Kill at random moments, every second time also what goes on, and compare."""
    rng, wrong = random.Random(seed), []
    out = run.folder.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    seconds = server("run", run.config, "--out", out, root=out, sync=True).seconds
    for number in range(count):
        shutil.rmtree(out, ignore_errors=True)
        words = ["run", run.config, "--out", out]
        for _ in range(1 + number % 2):
            server(*words, root=out, sync=True, kill_after=rng.uniform(0, seconds))
            if (out / "manifest.json").exists():
                words = ["run", "--resume", out]
        after = server(*words, root=out, sync=True)
        if after.code or difference(contents(out), run.files):
            wrong.append(f"{number}: {after.code} {difference(contents(out), run.files)} {after.text[-300:]}")
    return wrong


def test_killed_at_a_few_random_moments(server, whole):
    assert not random_kills(server, whole("plain"), 4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("plain", 50), ("programs", 20)])
def test_killed_at_fifty_random_moments(server, whole, name, count):
    assert not random_kills(server, whole(name), count, seed=2)


@pytest.mark.slow
def test_killed_again_and_again_while_it_goes_on(server, whole):
    """Every process dies at its 20th operation or a later one, until the run is through."""
    rng = random.Random(5)
    for name in SCENARIOS:
        run, deaths = whole(name), 0
        out = run.folder.with_name("out")
        shutil.rmtree(out, ignore_errors=True)
        while True:
            done = go_on(server, run, out, at=rng.randrange(40, 90))
            if done.code == 0:
                break
            deaths += 1
            assert dead(done, out) == ""
            assert deaths < 60, "it does not get on"
        assert deaths > 1
        assert not difference(contents(out), run.files)


@pytest.mark.parametrize(
    ("mutant", "how", "said"),
    [
        ("folders in place", "kill", "exit code 2"),
        ("files in place", "half", "manifest is damaged"),
        ("no fsync", "power", "exit code 2"),
        ("no fsync of folders", "power", "is lost"),
    ],
)
def test_kills_notice_when_a_safety_is_missing(server, whole, tmp_path, mutant, how, said):
    """The sweeps above would fail: without atomic folders, without atomic files, without fsync."""
    plain = whole("plain")
    out = tmp_path / "whole"
    done = server("run", plain.config, "--out", out, root=out, mutant=mutant)
    assert done.code == 0, done.text
    run = Whole("plain", plain.config, out, done, contents(out))
    count = len(done.points)
    numbers = half(done.points)[::3]
    if how == "power":  # names are undone at odd numbers: without them, what is lost is data
        numbers = range((count - 1) // 2 * 2 - (mutant == "no fsync of folders"), 0, -6)
    tally = sweep(server, run, how, numbers, dead, enough=1, mutant=mutant)
    assert said in str(tally.wrong)


def test_comparisons_notice_randomness_that_is_not_the_runs_own(server, whole, tmp_path):
    """If a round depended on its process, a resumed run would differ; here the forecast does."""
    run, out = whole("plain"), tmp_path / "out"
    done = server("run", run.config, "--out", out, root=out, mutant="own seeds")
    assert done.code == 0
    assert difference(contents(out), run.files)


@pytest.mark.slow
def test_a_report_killed_anywhere_is_written_again(server, whole, tmp_path):
    run, out = whole("plain"), tmp_path / "out"
    shutil.copytree(run.folder, out)
    done = server("report", out, root=out, report=True)
    assert done.code == 0, done.text
    expected = contents(out)
    for number in range(len(done.points)):
        (out / "report.html").unlink(missing_ok=True)
        killed = server("report", out, root=out, report=True, at=number)
        assert killed.code == -signal.SIGKILL
        assert (
            not (out / "report.html").exists()
            or (out / "report.html").read_bytes() == expected["report.html"]
        )
        assert server("report", out, root=out, report=True).code == 0
        assert not difference(contents(out), expected)


# --- altered files ---


def flipped(data: bytes, position: int, bit: int = 1) -> bytes:
    return data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]


def damages(folder: Path, name: str) -> dict[str, bytes | None]:
    """Return what could happen to a file: its new content, or None where it is deleted."""
    data = (folder / name).read_bytes()
    rng = random.Random(name)
    found = {
        "truncated": data[: len(data) // 2],
        "emptied": b"",
        "flipped": flipped(data, rng.randrange(len(data)), 1 << rng.randrange(8)),
        "lengthened": data + b"\n",
        "deleted": None,
    }
    if name.startswith("rounds/001"):
        other = (folder / name.replace("001", "000", 1)).read_bytes()
        if other != data:
            found["replaced by another round's"] = other
    return found


def refused(done: Done, name: str) -> str:
    """Say what is wrong with a refusal, or return nothing."""
    if done.code != 2 or "error: " not in done.text or "Traceback" in done.text:
        return f"exit code {done.code}: {done.text[-300:]}"
    known = name in done.text or (name.endswith("manifest.json") and "manifest.json" in done.text)
    return "" if known else f"not named: {done.text[-300:]}"


def alterations(
    server: Server,
    run: Whole,
    names: Sequence[str],
    verbs: Sequence[tuple[str, ...]],
    only: int | None = None,
    **rest: Any,
) -> Tally:
    """Alter each file in each way, or in one; every verb must refuse, name it, and write nothing."""
    tally = Tally()
    out = run.folder.with_name("altered")
    for turn, name in enumerate(names):
        ways = list(damages(run.folder, name).items())
        for how, data in ways if only is None else [ways[(turn + only) % len(ways)]]:
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(run.folder, out)
            (out / name).unlink()
            if data is not None:
                (out / name).write_bytes(data)
            before = contents(out)
            for words in verbs:
                done = server(*words, out, root=out, report=True, **rest)
                tally.faults += 1
                said = refused(done, str(out / name)) or difference(contents(out), before)
                if said:
                    tally.wrong.append(f"{name} {how}, {' '.join(words)}: {said}")
    return tally


VERBS = (("run", "--resume"), ("report",))


def guarded(run: Whole) -> list[str]:
    """Files that are hashed: all of set-up and rounds, and the manifest."""
    names = [n for n, data in run.files.items() if data is not None and n.startswith(("rounds/", "setup/"))]
    return [*sorted(names), "manifest.json"]


def test_altered_files_are_named_and_never_used(server, whole, record_property):
    run = whole("programs")
    passed(alterations(server, run, guarded(run), VERBS, only=0), record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["controlled", "programs"])
def test_all_altered_files_are_named_and_never_used(server, whole, record_property, name):
    run = whole(name)
    passed(alterations(server, run, guarded(run), VERBS), record_property)


def test_without_hashes_altered_files_would_be_used(server, whole):
    run = whole("plain")
    name = "rounds/001/samples.safetensors"
    assert list(damages(run.folder, name))[-1] == "replaced by another round's"
    assert alterations(server, run, [name], VERBS[:1], only=-1, mutant="no hashes").wrong


def checked(folder: Path) -> None:
    """Do what every reader of a run does first."""
    store = RunFolder.open(folder)
    store.config()
    store.verify()


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_every_byte_of_what_holds_the_hashes_is_guarded(whole, tmp_path, step):
    run = whole("plain")
    for name in ("rounds/001/contents.json", "setup/contents.json", "manifest.json"):
        out = tmp_path / "out"
        shutil.copytree(run.folder, out)
        data = (out / name).read_bytes()
        for position in range(0, len(data), step):
            (out / name).write_bytes(flipped(data, position))
            with pytest.raises(InputError) as caught:
                checked(out)
            assert str(out / name) in str(caught.value), position
        shutil.rmtree(out)


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_every_byte_of_the_configuration_is_guarded(whole, tmp_path, step):
    """What still means the same is no alteration, and more rounds may be asked for."""
    run, out = whole("plain"), tmp_path / "out"
    shutil.copytree(run.folder, out)
    data = (out / "config.toml").read_bytes()
    known = RunFolder.open(out).config()
    accepted = []
    for position in range(0, len(data), step):
        (out / "config.toml").write_bytes(flipped(data, position))
        try:
            found = RunFolder.open(out).config()
        except InputError as error:
            assert "config.toml" in str(error), error
            continue
        accepted.append(position)
        assert found.model_copy(update={"rounds": known.rounds}) == known
    assert len(accepted) <= 3


def test_what_is_made_from_the_rounds_is_named_and_made_again(server, whole, tmp_path):
    """The report refuses an altered trajectory or bounds; resuming writes both again."""
    run, out = whole("plain"), tmp_path / "out"
    shutil.copytree(run.folder, out)
    for name in ("trajectory.parquet", "bounds.json"):
        for how, data in damages(run.folder, name).items():
            (out / name).unlink()
            if data is not None:
                (out / name).write_bytes(data)
            done = server("report", out, root=out, report=True)
            assert done.code == 2, (name, how)
            assert "--resume" in done.text
            assert name in done.text or how == "deleted"
            assert server("run", "--resume", out, root=out).code == 0
            assert not difference(contents(out), run.files)


def test_a_whole_round_that_is_another_is_refused(server, whole, tmp_path):
    run, out = whole("plain"), tmp_path / "out"
    shutil.copytree(run.folder, out)
    shutil.rmtree(out / "rounds" / "002")
    shutil.copytree(out / "rounds" / "001", out / "rounds" / "002")
    assert not refused(server("run", "--resume", out, root=out), "rounds/002")


# --- the disk is full ---


def full(done: Done, out: Path) -> str:
    if done.code == 0:
        return ""
    if done.code != 2 or "Traceback" in done.text or "error: " not in done.text:
        return f"exit code {done.code}: {done.text[-600:]}"
    said = "the disk is full" in done.text and str(out) in done.text
    partial = [name for name in contents(out) if name.endswith(".partial")]
    return f"left over: {partial}" if partial else "" if said else f"not said: {done.text[-300:]}"


def test_no_room_at_some_operations(server, whole, record_property):
    run = whole("plain")
    passed(sweep(server, run, "ENOSPC", range(1, len(run.done.points), 20), full), record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_room_at_any_operation(server, whole, record_property, name):
    run = whole(name)
    numbers = own(run, whole("plain"))[:: 1 if name == "plain" else 2]
    passed(sweep(server, run, "ENOSPC", numbers, full), record_property)


@pytest.mark.slow
def test_a_broken_disk_stops_without_a_traceback(server, whole, record_property):
    def told(done: Done, out: Path) -> str:
        return "" if done.code == 0 else refused(done, "nput/output error")

    run = whole("plain")
    passed(sweep(server, run, "EIO", range(0, len(run.done.points), 4), told), record_property)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """A file system of a given size; asked for again, it gets the new size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def sized(options: str) -> Path:
        again = ["remount,"] if os.path.ismount(folder) else [""]
        words = ["mount", "-t", "tmpfs", "-o", again[0] + options, "tmpfs", str(folder)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small tmpfs needs root")
        return folder

    yield sized
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def fill_up(server: Server, run: Whole, disk: Callable[[str], Path], sizes: Sequence[str]) -> dict[str, int]:
    """Run on disks of several sizes, enlarge each and go on; return how many rounds each had room for."""
    found = {}
    for size in sizes:
        out = disk(size) / "out"
        done = server("run", run.config, "--out", out, root=out, cwd=str(run.folder.parent))
        assert not full(done, out), size
        found[size] = RunFolder(out).complete() if done.code else -1
        for t in range(RunFolder(out).complete()):
            name = f"rounds/{t:03d}/"
            mine = {n: data for n, data in contents(out).items() if n.startswith(name)}
            assert not difference(mine, {n: d for n, d in run.files.items() if n.startswith(name)})
        if (out / "trajectory.parquet").exists():
            from recurate.log.trajectory import Trajectory

            assert Trajectory.read(out / "trajectory.parquet").rows
        disk("size=64m,nr_inodes=4000")
        after = go_on(server, run, out, cwd=str(run.folder.parent))
        assert after.code == 0, (size, after.text)
        assert not difference(contents(out), run.files), size
        shutil.rmtree(out)
    return found


def test_a_full_disk(server, whole, small_disk):
    found = fill_up(server, whole("plain"), small_disk, ["size=16k", "size=48k", "size=80k"])
    assert set(found.values()) >= {0, 1}, found


@pytest.mark.slow
def test_a_disk_of_any_size(server, whole, small_disk):
    """Pages and inodes run out in set-up, in every round, and while the trajectory is written."""
    sizes = [f"size={4 * pages}k" for pages in range(1, 45, 2)]
    found = fill_up(
        server, whole("plain"), small_disk, [*sizes, *(f"nr_inodes={n}" for n in range(2, 48, 3))]
    )
    assert set(found.values()) == {-1, 0, 1, 2, 3}, found


@pytest.mark.slow
def test_no_room_for_the_report(server, whole, small_disk):
    run = whole("plain")
    out = small_disk("size=400k") / "out"
    done = server("run", run.config, "--out", out, root=out, report=True, cwd=str(run.folder.parent))
    assert not refused(done, "the disk is full")
    assert not difference(contents(out), run.files)
    small_disk("size=64m")
    assert server("report", out, root=out, report=True).code == 0


# --- numbers that are none ---


def test_a_model_that_diverges_keeps_the_rounds_before(server, tmp_path):
    """Weights as large as the learning rate: round 0 is finite, and round 1's loss overflows."""
    config = write_config(merged(PLAIN, generator={"learning_rate": 1e5}), tmp_path)
    out = tmp_path / "out"
    done = server("run", config, "--out", out, root=out)
    assert not refused(done, "diverged"), done.text
    assert "learning_rate = 100000" in done.text
    assert RunFolder.open(out).complete() == 1
    RunFolder.open(out).verify()
    before = contents(out)
    again = server("run", "--resume", out, root=out)
    assert not refused(again, "diverged")
    assert not difference(contents(out), before)


REWARD = """
import numpy as np
from pathlib import Path

def reward(samples):
    values = -np.linalg.norm(samples.astype(float), axis=1)
    if Path("broken").exists() and Path("out/rounds/001").exists():
        values[3] = float(Path("broken").read_text())
    return values
"""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_reward_that_is_no_number_keeps_the_rounds_before(server, tmp_path, value):
    (tmp_path / "ours.py").write_text(REWARD)
    (tmp_path / "broken").write_text(value)
    rewards = [{"kind": "ours:reward"}]
    config = write_config(PLAIN | {"rewards": rewards}, tmp_path)
    out, whole = tmp_path / "out", tmp_path / "whole"
    done = server("run", config, "--out", "out", root=out, cwd=str(tmp_path))
    assert not refused(done, "not a finite number"), done.text
    assert "candidate 3" in done.text
    assert RunFolder.open(out).complete() == 2
    before = contents(out)
    assert not refused(server("run", "--resume", "out", root=out), "not a finite number")
    assert not difference(contents(out), before)
    (tmp_path / "broken").unlink()
    assert server("run", "--resume", "out", root=out).code == 0
    assert server("run", config, "--out", "whole", root=whole).code == 0
    assert not difference(contents(out), contents(whole))


# --- two processes ---


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether a process is no more, or dead and not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def slow_run(server, whole, tmp_path) -> Iterator[tuple[Any, Whole, Path]]:
    """A run whose program sleeps in round 0's training, the first time."""
    folder = tmp_path / "slow"
    folder.mkdir()
    marker = folder / "marker"
    words = ("--sleep", "300", "--once", str(marker))
    config = write_config(programs(folder, generator={"fit_extra": words}), folder)
    out = folder / "out"
    started = server.start("run", config, "--out", out, root=out)
    wait_for(marker)
    yield started, Whole("slow", config, out, Done(0, "", [], 0.0)), out
    if not gone(started[0]):
        os.kill(started[0], signal.SIGKILL)
        server.wait(started)


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def unlinked(files: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """Return files without the manifest and what ties others to it.

    What the run rests on differs rightly: the marker was there before the other run began.
    """
    found = {name: data for name, data in files.items() if name != "manifest.json"}
    for name, data in found.items():
        if data is not None and name.endswith(("contents.json", "bounds.json")):
            rest = {k: v for k, v in json.loads(data).items() if k not in ("run", "before", "seal")}
            found[name] = json.dumps(rest).encode()
    return found


def finish(server: Server, run: Whole, out: Path, tmp_path: Path) -> None:
    """Go on, and compare with a run that nothing happened to (its marker is there: nothing sleeps)."""
    done = go_on(server, run, out)
    assert done.code == 0, done.text
    other = tmp_path / "other"
    assert server("run", run.config, "--out", other, root=other).code == 0
    assert not difference(unlinked(contents(out)), unlinked(contents(other)))


def test_two_processes_cannot_share_a_folder(server, slow_run, tmp_path):
    started, run, out = slow_run
    before = contents(out)
    assert not refused(server("run", "--resume", out, root=out), "another process is running this loop")
    assert not refused(server("run", run.config, "--out", out, root=out), "--resume")
    assert not difference(contents(out), before)
    os.kill(started[0], signal.SIGKILL)
    assert server.wait(started).code == -signal.SIGKILL
    finish(server, run, out, tmp_path)


def test_without_the_lock_two_processes_would_share_a_folder(server, slow_run):
    _, _, out = slow_run
    done = server("run", "--resume", out, root=out, mutant="no lock")
    assert done.code == 0, "nothing else would have stopped it"


def test_only_one_of_many_that_start_at_once_gets_the_folder(server, whole, tmp_path):
    run, out = whole("plain"), tmp_path / "out"
    started = [server.start("run", run.config, "--out", out, root=out) for _ in range(4)]
    codes = sorted(server.wait(one).code for one in started)
    assert codes == [0, 2, 2, 2]
    assert not difference(contents(out), run.files)


# --- Ctrl-C ---


def told(done: Done, out: Path) -> str:
    """Say what is wrong with how an interrupted run ended."""
    if done.code == 0:
        return ""  # it was through
    if done.code != 130 or "Traceback" in done.text or "Error" in done.text:
        return f"exit code {done.code}: {done.text[-600:]}"
    partial = [name for name in contents(out) if name.endswith(".partial")]
    if partial:
        return f"half-written: {partial}"
    began = (out / "manifest.json").exists()
    wanted = f"recurate run --resume {out} continues" if began else "nothing was begun yet"
    return "" if wanted in done.text else f"it says {done.text[-300:]}"


def test_ctrl_c_while_a_round_is_written(server, whole, record_property):
    run = whole("plain")
    inside = [n for n, (_, path) in enumerate(run.done.points) if "rounds/.001.partial" in path]

    def finished(done: Done, out: Path) -> str:
        return told(done, out) or ("" if (out / "rounds" / "001").exists() else "the round is not finished")

    passed(sweep(server, run, "int", inside[::4], finished), record_property)
    unshielded = sweep(server, run, "int", inside[::4], finished, enough=1, mutant="no shield")
    assert unshielded.wrong, "without its shield, the round would not be finished"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "rolled back", "programs"])
def test_ctrl_c_at_any_operation(server, whole, record_property, name):
    run = whole(name)
    numbers = own(run, whole("plain"))[:: 2 if name == "plain" else 3]
    passed(sweep(server, run, "int", numbers, told), record_property)


def test_ctrl_c_in_training(server, whole, tmp_path):
    """A run whose second round would take an hour."""
    config = write_config(merged(PLAIN, generator={"steps": 10_000_000}), tmp_path)
    out = tmp_path / "out"
    started = server.start("run", config, "--out", out, root=out)
    wait_for(out / "bounds.json")
    time.sleep(0.3)
    os.kill(started[0], signal.SIGINT)
    done = server.wait(started)
    assert done.code == 130
    assert not told(done, out)
    assert RunFolder.open(out).complete() == 1
    RunFolder.open(out).verify()


def test_ctrl_c_stops_the_program_too(server, slow_run, tmp_path):
    started, run, out = slow_run
    programs_ = children(started[0])
    assert programs_
    os.kill(started[0], signal.SIGINT)
    done = server.wait(started)
    assert done.code == 130
    assert not told(done, out)
    assert all(gone(pid) for pid in programs_)
    finish(server, run, out, tmp_path)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="programs outlive a killed run without setpriv")
def test_a_killed_run_takes_its_program_with_it(server, slow_run):
    started, _, _ = slow_run
    programs_ = children(started[0])
    assert programs_
    os.kill(started[0], signal.SIGKILL)
    server.wait(started)
    end = time.monotonic() + 10
    while not all(gone(pid) for pid in programs_) and time.monotonic() < end:
        time.sleep(0.01)
    assert all(gone(pid) for pid in programs_)


@pytest.mark.slow
def test_ctrl_c_as_a_user_gives_it(tmp_path):
    """The same without any of the machinery above: a real command line, interrupted in round 1."""
    config = write_config(merged(PLAIN, generator={"steps": 10_000_000}), tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "recurate.cli", "run", str(config), "--out", "out"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    wait_for(tmp_path / "out" / "bounds.json", 120)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "recurate run --resume out continues after the last complete round" in text
    assert "Traceback" not in text
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["seed"] == 3
