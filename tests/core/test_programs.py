"""Other people's programs: exit codes, time limits, retries, output; what is exchanged with them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurate.core.errors import InputError
from recurate.core.programs import Program, check_placeholders, fill
from recurate.core.tables import write_table
from recurate.log import exchange
from recurate.log.samples import as_texts, load_samples, save_samples


def program(code: str, folder: Path, timeout: float = 20.0, retries: int = 0) -> Program:
    return Program("generator.fit", ("{python}", "-c", code, "{out}"), folder, timeout, retries)


def outcome(made: Program, folder: Path, out: str = "out.txt") -> str:
    path = folder / out

    def check() -> str:
        if not path.exists():
            raise InputError("nothing was written", got="no file", remedy="write it")
        return path.read_text()

    return made.run({"out": path}, folder / "logs" / "fit.log", check=check)


WRITE = "import sys; open(sys.argv[1], 'w').write('done'); print('fine')"


def test_a_program_that_works(tmp_path):
    assert outcome(program(WRITE, tmp_path), tmp_path) == "done"
    log = (tmp_path / "logs" / "fit.log").read_text()
    assert "fine" in log
    assert log.startswith("$ ")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(3)", "its exit code was 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("1 / 0", "ZeroDivisionError"),
        ("pass", "nothing was written"),
        ("import time; time.sleep(60)", "more than 0.5 seconds"),
    ],
)
def test_failures_say_why(tmp_path, code, message):
    made = program(code, tmp_path, timeout=0.5 if "sleep" in code else 20.0)
    with pytest.raises(InputError) as caught:
        outcome(made, tmp_path)
    assert message in str(caught.value)
    assert "generator.fit failed" in str(caught.value)
    assert str(tmp_path / "logs" / "fit.log") in caught.value.remedy


def test_what_an_earlier_attempt_left_is_removed_and_the_next_one_counts(tmp_path):
    code = (
        "import os, sys\n"
        "first = not os.path.exists('tried'); open('tried', 'w')\n"
        "if first: open(sys.argv[1], 'w').write('half'); raise SystemExit(1)\n"
        "assert not os.path.exists(sys.argv[1]); open(sys.argv[1], 'w').write('whole')"
    )
    path = tmp_path / "out.txt"
    for retries in (0, 1):
        (tmp_path / "tried").unlink(missing_ok=True)
        made = program(code, tmp_path, retries=retries)
        run = lambda made=made: made.run(  # noqa: E731
            {"out": path},
            tmp_path / "log",
            prepare=lambda: path.unlink(missing_ok=True),
            check=path.read_text,
        )
        if retries:
            assert run() == "whole"
        else:
            with pytest.raises(InputError, match="exit code was 1"):
                run()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for(path: Path, seconds: float = 20.0) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text().strip():
            return path.read_text()
        time.sleep(0.02)
    raise TimeoutError(path)


CHILD = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'])\n"
    "open('pids', 'w').write(f'{child.pid}')\n"
    "time.sleep(120)"
)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_time_limit_stops_what_the_program_started_too(tmp_path):
    with pytest.raises(InputError, match="more than 2 seconds"):
        outcome(program(CHILD, tmp_path, timeout=2.0), tmp_path)
    pid = int((tmp_path / "pids").read_text())
    end = time.monotonic() + 20
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="needs setpriv (Linux)")
def test_a_program_does_not_outlive_a_killed_recurate(tmp_path):
    ours = (
        "from pathlib import Path\n"
        "from recurate.core.programs import Program\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "code = \"import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(120)\"\n"
        "Program('x', ('{python}', '-c', code), folder, 100.0, 0).run({}, folder / 'log', check=lambda: None)"
    )
    process = subprocess.Popen([sys.executable, "-c", ours])
    pid = int(wait_for(tmp_path / "pid"))
    assert alive(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 20
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)


def test_a_program_that_is_not_there(tmp_path, monkeypatch):
    made = Program("generator.fit", ("no-such-program",), tmp_path, 5.0, 3)
    with pytest.raises(InputError, match="no such program"):
        made.run({}, tmp_path / "log", check=lambda: None)
    script = tmp_path / "go.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path.parent)  # the path is seen from the folder that it runs in
    assert Program("x", ("./go.sh",), tmp_path, 5.0, 0).run({}, tmp_path / "log", check=lambda: 1) == 1


def test_placeholders():
    check_placeholders(["{python}", "a.py", "--out={out}"], ["out", "seed"], ["out"])
    assert fill(["--out={out}", "{{}}"], {"out": "a b"}) == ["--out=a b", "{{}}"]
    with pytest.raises(ValueError, match=r"unknown placeholder {ot}.*out"):
        check_placeholders(["{ot}"], ["out"], [])
    with pytest.raises(ValueError, match=r"must name {out}"):
        check_placeholders(["a.py"], ["out"], ["out"])


# --- what is exchanged ---


shapes = st.sampled_from([(3,), (2, 2), (1,), (2, 3, 3)])


@settings(max_examples=30, deadline=None)
@given(
    shape=shapes,
    count=st.integers(1, 6),
    seed=st.integers(0, 9),
    ending=st.sampled_from(["jsonl", "parquet"]),
)
def test_numbers_come_back_as_they_were(tmp_path_factory, shape, count, seed, ending):
    path = tmp_path_factory.mktemp("exchange") / f"x.{ending}"
    samples = np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)
    exchange.write_candidates(path, samples, np.full(count, "a", object))
    np.testing.assert_array_equal(exchange.read_candidates(path, count), samples)
    save_samples(samples, path.parent)
    np.testing.assert_array_equal(load_samples(path.parent), samples)


@settings(max_examples=50, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=6),
    ending=st.sampled_from(["jsonl", "parquet"]),
)
def test_texts_come_back_as_they_were(tmp_path_factory, texts, ending):
    path = tmp_path_factory.mktemp("exchange") / f"x.{ending}"
    exchange.write_candidates(path, as_texts(texts), np.full(len(texts), "ä\n", object))
    assert exchange.read_candidates(path, len(texts)).tolist() == texts
    save_samples(as_texts(texts), path.parent)
    assert load_samples(path.parent).tolist() == texts


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"item": 0, "sample": "a"}], "each of the 2 items"),
        ([{"item": 0, "sample": "a"}, {"item": 0, "sample": "b"}], "each of the 2 items"),
        ([{"item": 0, "sample": "a"}, {"item": 2, "sample": "b"}], "each of the 2 items"),
        ([{"item": 0, "text": "a"}, {"item": 1, "text": "b"}], "lacks the column sample"),
        ([{"sample": "a"}, {"sample": "b"}], "lacks the column item"),
        ([{"item": 0, "sample": "a"}, {"item": 1, "sample": None}], "lacks 1 of 2 samples"),
        ([{"item": 0, "sample": [1.0]}, {"item": 1, "sample": [1.0, 2.0]}], "of one shape"),
    ],
)
def test_wrong_answers_are_told(tmp_path, rows, message):
    import pyarrow as pa

    path = tmp_path / "x.jsonl"
    write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(InputError, match=message):
        exchange.read_candidates(path, 2)


def test_answers_that_are_missing_or_garbage(tmp_path):
    path = tmp_path / "x.jsonl"
    with pytest.raises(InputError, match="was not written"):
        exchange.read_candidates(path, 2)
    path.write_text('{"item": 0, "sam')
    with pytest.raises(InputError, match="cannot read"):
        exchange.read_candidates(path, 2)
    path.write_text('{"item": 0, "sample": [NaN]}\n{"item": 1, "sample": [0.0]}\n')
    with pytest.raises(InputError):
        exchange.read_candidates(path, 2)
    path.write_text('{"item": 1, "reward": 2}\n{"item": 0, "reward": 1.5}\n')
    np.testing.assert_array_equal(exchange.read_scores(path, 2, "reward"), [1.5, 2.0])
    path.write_text('{"item": 1, "reward": "x"}\n{"item": 0, "reward": "y"}\n')
    with pytest.raises(InputError, match="must hold numbers"):
        exchange.read_scores(path, 2, "reward")
