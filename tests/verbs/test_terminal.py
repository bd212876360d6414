"""What a terminal shows: progress, colours, tables that fit; what a pipe gets; what Ctrl-C leaves."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from recurate.core import progress
from recurate.report import colour
from recurate.report.console import print_table
from recurate.report.progress import Meter
from recurate.report.sections import Section

START = "import sys; sys.argv[0] = 'recurate'; from recurate.cli import main; {before}; main()"
ENDLESS = (
    "import time; from recurate.verbs.plan.evaluation import Evaluator; "
    "Evaluator.evaluate = lambda *settings: time.sleep(600)"
)
RED = "\x1b[31m"


def on_a_terminal(
    *words, cwd, before="pass", stop_at: str | None = None, **variables: str
) -> tuple[int, str]:
    """Run a command on a pseudo-terminal of 80 columns; send Ctrl-C once it shows a text."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ.update({"TERM": "xterm", "COLUMNS": "80", "LINES": "24", **variables})
        os.execv(sys.executable, [sys.executable, "-c", START.format(before=before), *map(str, words)])
    shown = b""
    while select.select([terminal], [], [], 120)[0]:
        try:
            new = os.read(terminal, 1 << 16)
        except OSError:  # Linux: the other end is closed
            break
        if not new:
            break
        shown += new
        if stop_at is not None and stop_at.encode() in shown:
            stop_at = None
            os.kill(pid, signal.SIGINT)
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.fixture
def picks(tmp_path):
    """Return a folder with a log of Luce picks of 1 of 3."""
    rng = np.random.default_rng(0)
    rows = ["slate,reward,picked"]
    for slate in range(120):
        rewards = rng.normal(size=3)
        best = int(np.argmax(rewards + rng.gumbel(size=3)))
        rows += [f"{slate},{reward:.4f},{int(i == best)}" for i, reward in enumerate(rewards)]
    (tmp_path / "log.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_mismatch_is_red_and_the_stage_is_shown(picks):
    code, shown = on_a_terminal("audit", "log.csv", "--declared", "k = 4", cwd=picks)
    assert code == 1
    assert f"{RED}MISMATCH\x1b[0m" in shown
    assert f"1 {RED}mismatch\x1b[0m." in shown
    assert re.search(r"(reading|recovering the rule|writing the report)  0:0\d", shown)
    printed = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "\n").splitlines()
    assert max(len(line) for line in printed if not line.startswith("written")) <= 80


def test_no_color_is_obeyed(picks):
    code, shown = on_a_terminal("audit", "log.csv", "--declared", "k = 4", cwd=picks, NO_COLOR="1")
    assert code == 1
    assert "MISMATCH" in shown
    assert not re.search(r"\x1b\[[0-9;]*m", shown)


def test_ctrl_c_ends_in_one_line(picks):
    code, shown = on_a_terminal("plan", "log.csv", cwd=picks, before=ENDLESS, stop_at="comparing settings")
    assert code == 130
    assert shown.rstrip().endswith("stopped while comparing settings; nothing was written")
    assert "Traceback" not in shown
    assert [path.name for path in picks.iterdir()] == ["log.csv"]


def test_pipes_get_no_progress_and_no_colours(picks, recurate_here):
    done = recurate_here("audit", "log.csv", "--declared", "k = 4", "--out", "a")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "reading" not in done.stderr


# --- the line of progress ---


def test_the_time_left_is_that_of_the_steps_that_are_left(monkeypatch):
    meter = Meter()
    monkeypatch.setattr("recurate.report.progress.time.perf_counter", lambda: 100.0)
    meter.step(1, 2)
    assert meter.name == "", "steps of nobody's stage are not shown"
    meter.stage("fitting")
    assert meter.line(100.4) == "fitting  0:00"
    meter.step(3, 12)
    assert meter.line(100.4) == "fitting  3 of 12  0:00", "too early to tell"
    assert meter.line(120.0) == "fitting  3 of 12  0:20  about 1:00 left"
    meter.stage("writing")
    assert meter.line(100.0) == "writing  0:00", "a new stage has no steps yet"
    meter.kept("nothing was written")
    assert meter.stopped() == "stopped while writing; nothing was written"


def test_whoever_listens_is_told():
    progress.stage("nobody listens")
    meter = Meter()
    with progress.listening(meter):
        progress.stage("counting")
        assert list(progress.steps("abc", 3)) == ["a", "b", "c"]
        assert "2 of 3" in meter.line(0.0)
        with progress.listening(None):
            progress.stage("unheard")
    assert meter.name == "counting"


def test_the_outermost_loop_is_counted():
    meter = Meter()
    with progress.listening(meter):
        progress.stage("counting")
        for item in progress.steps("abcd", 4):
            for _ in progress.steps(range(7), 7):
                progress.step(1, 9)
            if item == "b":
                break
        assert "1 of 4" in meter.line(0.0)
        list(progress.steps(range(5), 5))
        assert "4 of 5" in meter.line(0.0), "after a loop that was left, loops are counted again"


# --- tables ---


def lines_of(table: Sequence[Sequence[str]], width: int, capsys) -> list[str]:
    print_table(Section("", table=[list(row) for row in table]), width)
    return capsys.readouterr().out.splitlines()


WORDS = "a sentence that is too long for its column and goes on in further lines"
TABLE = [
    ["name", "first words", "number", "last words"],
    ["short", WORDS, "1234.5", WORDS],
    ["a/path/without/any/space/" * 3, "", "-1", "x"],
]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 400])
def test_tables_fit_and_lose_nothing(width, capsys):
    lines = lines_of(TABLE, width, capsys)
    assert max(map(len, lines)) <= max(width, 60)
    joined = "".join("".join(lines).split())
    for number in ("1234.5", "-1"):
        assert number in joined
    if width == 400:
        assert len(lines) == len(TABLE), "nothing is wrapped where there is room"
    # every word is there, as often as in the table, wherever it was wrapped
    letters = sorted("".join("".join(row) for row in TABLE).replace(" ", ""))
    repeated = sorted(joined)
    for letter in set(letters):
        assert repeated.count(letter) >= letters.count(letter), letter


def test_columns_that_cannot_fit_follow_in_blocks(capsys):
    table = [["round", *(f"quantity_{i}" for i in range(9))], ["0", *(f"{i}.25" for i in range(9))]]
    lines = lines_of(table, 80, capsys)
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line] == ["round", "0"] * 2
    assert lines[1].split()[1:] + lines[4].split()[1:] == table[1][1:]


# --- colours ---


class Terminal:
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_when_there_are_colours(variables, coloured, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert colour.has_colour(Terminal()) == coloured
    assert (colour.painted("refuted  ", "bad", Terminal()) != "refuted  ") == coloured


def test_only_verdicts_of_a_table_are_coloured(monkeypatch, capsys):
    """The page's badges have the same words and columns: a group may have the name of a verdict."""
    monkeypatch.setattr(colour, "has_colour", lambda stream: True)
    table = [["group", "survives"], ["refuted", "yes"], ["no", "no"], ["agrees", "7"]]
    print_table(Section("", table=table), 80)
    found = re.findall(r"\x1b\[(\d+)m(\w+)", capsys.readouterr().out)
    assert found == [("32", "yes"), ("31", "no")]
    assert all(colour.tone(word) in ("", tone) for word, tone in colour.IN_SENTENCES.items())


def test_sentences_have_only_doubts_in_colour(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    said = colour.sentence("It holds; 2 mismatches: Luce's model does not hold.", Terminal())
    assert re.findall(r"\x1b\[31m(.*?)\x1b\[0m", said) == ["mismatches", "does not hold"]
    assert colour.sentence("no mismatched words", Terminal()) == "no mismatched words"
