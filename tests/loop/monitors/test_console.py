"""What is seen of a run: a live view, plain lines, JSON lines, nothing; and that watching changes nothing."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
from rich.console import Console

from helpers.commands import call
from helpers.paths import refused
from helpers.tiny import GAUSSIANS, merged
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.loop.monitors.console import JsonLines, Lines, Live, clock
from recurate.loop.monitors.protocol import Monitor, Several

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
SMALL = merged(GAUSSIANS, rounds=1)


def values(source: str, t: int, value: float) -> Row:
    return Row(t, source, "mean_reward", value, "reward", lower=value - 1, upper=value + 1)


def trajectory(rounds: int) -> Trajectory:
    return Trajectory(tuple(values(s, t, t + 0.5) for t in range(rounds) for s in (FORECAST, MEASURED)))


class Recorder(Monitor):
    def __init__(self):
        self.heard = []

    def started(self, facts):
        self.heard.append(("started", facts))
        facts.clear()

    def warn(self, warnings):
        self.heard += [("warning", w) for w in warnings]

    def counts(self, round, counts):  # noqa: A002
        self.heard.append(("counts", round, counts))
        counts.clear()

    def alarm(self, round, message, action):  # noqa: A002
        self.heard.append(("alarm", round, message, action))

    def stage(self, round, name):  # noqa: A002
        self.heard.append(("stage", round, name))

    def finished(self, round, trajectory):  # noqa: A002
        self.heard.append(("round", round, trajectory))

    def close(self):
        self.heard.append(("close",))


def tell_all(monitor):
    monitor.started({"rounds": 1})
    monitor.stage(0, "fit")
    monitor.counts(0, {"picks": 3})
    monitor.warn(["careful"])
    monitor.alarm(0, "odd", "goes on")
    monitor.finished(0, trajectory(1))
    monitor.close()


def test_all_hear_everything_and_cannot_change_it_for_others():
    one, two = Recorder(), Recorder()
    tell_all(Several([one, two]))
    assert [h[0] for h in one.heard] == ["started", "stage", "counts", "warning", "alarm", "round", "close"]
    assert [h[0] for h in two.heard] == [h[0] for h in one.heard]
    assert ("stage", 0, "fit") in two.heard
    facts, counts = {"rounds": 1}, {"picks": 3}
    several = Several([one, two])
    several.started(facts)
    several.counts(0, counts)
    assert facts == {"rounds": 1}
    assert counts == {"picks": 3}


@pytest.mark.parametrize("method", ["started", "stage", "counts", "warn", "alarm", "finished", "close"])
def test_one_that_raises_is_reported_once_and_dropped(method):
    class Faulty(Recorder):
        pass

    def fail(self, *arguments):
        self.heard.append("failed")
        raise RuntimeError("the disk is full\nmore")

    setattr(Faulty, method, fail)
    faulty, other = Faulty(), Recorder()
    several = Several([other, faulty])
    tell_all(several)
    tell_all(several)
    assert faulty.heard.count("failed") == 1
    told = [h[1] for h in other.heard if h[0] == "warning" and "Faulty" in h[1]]
    assert len(told) == 1
    assert "the disk is full" in told[0]
    assert len(several.dropped) == 1
    assert sum(h[0] == "round" for h in other.heard) == 2


def test_an_interrupt_is_not_swallowed():
    class Interrupted(Monitor):
        def stage(self, round, name):  # noqa: A002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Several([Interrupted()]).stage(0, "fit")


# --- plain lines, JSON lines, quiet ---


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(SMALL))
    return tmp_path / "tiny.toml"


def test_without_a_terminal_there_is_a_line_a_round_and_no_control_characters(config, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = call("run", "tiny.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not CONTROL.search(done.stdout.replace("\n", ""))
    lines = done.stdout.splitlines()
    start = lines.index("measured (forecast)")
    assert [line.split()[0] for line in lines[start + 1 :] if line and line[0] in "r "][:3] == [
        "round",
        "0",
        "1",
    ]
    assert lines[-1] == "report: out/report.html"


def test_names_cannot_draw_on_the_terminal(capsys):
    lines = Lines()
    lines.started({"run": "a\x1b[2Jb", "rounds": 1})
    lines.alarm(0, "odd\x1b[31m", "goes on")
    lines.warn(["b\x07"])
    assert not CONTROL.search(capsys.readouterr().out.replace("\n", ""))


def test_json_lines_hold_everything_and_nothing_else_is_printed(config, tmp_path):
    done = call("run", "tiny.toml", "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    names = [e["event"] for e in events]
    assert {"stage", "started", "round", "done"} <= set(names)
    assert names[-1] == "done"
    assert events[-1]["report"] == "out/report.html"
    assert next(e for e in events if e["event"] == "started")["facts"]["rounds"] == 1
    kept = Trajectory.read(tmp_path / "out" / "trajectory.parquet")
    for event in (e for e in events if e["event"] == "round"):
        expected = kept.where(round=event["round"]).rows
        found = [tuple(v.values()) for v in event["values"]]
        assert found == [
            (r.source, r.quantity, r.reward, r.group, r.value, r.lower, r.upper) for r in expected
        ]
    assert [e["round"] for e in events if e["event"] == "round"] == [0, 1]


def test_json_knows_no_infinities():
    stream = io.StringIO()
    lines = JsonLines(stream)
    lines.started({"rounds": 1, "bad": float("nan"), "path": Path("x")})
    tell_all(lines)
    lines.finished(0, Trajectory((Row(0, MEASURED, "kl", float("inf")),)))
    events = [json.loads(line, parse_constant=pytest.fail) for line in stream.getvalue().splitlines()]
    assert events[-1]["values"][0]["value"] is None
    assert {"event": "alarm", "round": 0, "message": "odd", "action": "goes on"} in events
    assert {"event": "counts", "round": 0, "counts": {"picks": 3}} in events
    assert {"event": "warning", "message": "careful"} in events


def test_quiet_prints_where_the_report_is(config, tmp_path):
    done = call("run", "tiny.toml", "--out", "out", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "report: out/report.html\n", "")


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_stop_the_run(config, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "recurate.cli", "run", "tiny.toml", "--out", "out", "--json"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    message = process.stderr.read()
    process.wait(60)
    assert "JsonLines failed" in message
    assert "Traceback" not in message
    assert (tmp_path / "out" / "report.html").exists()


def test_json_errors_go_to_standard_error(tmp_path):
    done = call("run", "nothing.toml", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "nothing.toml" in done.stderr


def test_options_that_contradict_each_other(config, tmp_path):
    assert "contradict" in refused(call("run", "tiny.toml", "--json", "--quiet", cwd=tmp_path))
    assert not (tmp_path / "runs").exists()


# --- the live view ---


def frame(live: Live, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, height=40)
    console.print(live.frame())
    return console.file.getvalue()


@pytest.fixture
def live(monkeypatch):
    view = Live()
    monkeypatch.setattr(view._live, "start", lambda: None)
    monkeypatch.setattr(view._live, "stop", lambda: None)
    return view


def test_the_frame_shows_stage_pace_time_left_table_and_alarms(live, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    live.started({"rounds": 5})
    live.stage(0, "fit")
    assert "time left: known after this round" in frame(live)
    now[0] += 90  # round 0 trains a new model
    live.counts(0, {"candidates": 800})
    live.finished(0, trajectory(1))
    assert live.seconds_left(now[0]) == pytest.approx(5 * 90)
    for t in (1, 2):
        live.stage(t, "fit")
        now[0] += 10
        live.counts(t, {"candidates": 800})
        live.finished(t, trajectory(t + 1))
    live.stage(3, "sample")
    now[0] += 4
    live.alarm(2, "the mean fell", "goes on")
    live.warn(["thin"])
    text = frame(live)
    for part in (
        "round 3 of 5: sample  0:04", "10 s per round", "80 candidates per second", "0:26 left",
        "2.5 (2.5)", "mean_reward", "alarm in round 2: the mean fell (goes on)", "warning: thin",
    ):  # fmt: skip
        assert part in text, part
    live.close()
    assert "sample" not in frame(live)
    assert "2.5 (2.5)" in frame(live)


def test_many_rounds_warnings_and_columns_are_cut_with_a_word(live):
    keys = [f"reward_{i}" for i in range(9)]
    rows = tuple(
        Row(t, MEASURED, "mean_reward", 0.123456, key) for t in range(50) for key in keys
    )  # fmt: skip
    live.started({"rounds": 60})
    for t in range(50):
        live.finished(t, Trajectory(rows))
        live.warn([f"warning {t}"])
    text = frame(live, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "earlier rounds" in text
    assert "more columns on a wider terminal" in text
    assert "47 earlier alarms and warnings, not shown" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03")]
)
def test_durations(seconds, text):
    assert clock(seconds) == text


def on_terminal(arguments: list[str], cwd: Path, until: str = "", timeout: float = 120) -> tuple[int, str]:
    """Run the command line on a terminal; send an interrupt once ``until`` is seen."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "recurate.cli", *arguments],
        cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )  # fmt: skip
    os.close(theirs)
    seen, end, sent = b"", time.monotonic() + timeout, False
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # all closed their end
                break
            if not part:
                break
            seen += part
            if until and not sent and until.encode() in seen:
                sent = True
                process.send_signal(signal.SIGINT)
        elif process.poll() is not None:
            break
    os.close(ours)
    return process.wait(10), seen.decode()


@pytest.mark.slow
def test_on_a_terminal_the_view_is_drawn_and_the_terminal_given_back(tmp_path):
    """The view is drawn four times a second, so the first training takes a few of these."""
    long = merged(GAUSSIANS, rounds=1, generator={"first_steps": 3000})
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(long))
    code, seen = on_terminal(["run", "tiny.toml", "--out", "out"], tmp_path)
    assert code == 0, seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1, "the cursor is hidden, then shown"
    plain = ESCAPE.sub("", seen).replace("\r", "")
    assert "round 0 of 1: fit" in plain
    tail = plain.rsplit("measured (forecast)", 1)[1]
    assert [line.split()[0] for line in tail.splitlines() if line.startswith("    ")] == ["0", "1"]
    assert "report: out/report.html" in tail


@pytest.mark.slow
def test_an_interrupt_gives_the_terminal_back(tmp_path):
    slow = merged(GAUSSIANS, rounds=30, generator={"first_steps": 4000})
    (tmp_path / "slow.toml").write_text(tomli_w.dumps(slow))
    code, seen = on_terminal(["run", "slow.toml", "--out", "out"], tmp_path, until=": fit")
    assert code == 130, seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert "--resume out" in seen
    assert "Traceback" not in seen
