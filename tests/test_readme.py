"""What the README shows is compared with what commands print and with recorded times."""

from __future__ import annotations

import re
import shlex
import struct
import tomllib

import pytest

import recurate
from helpers.paths import ROOT
from helpers.shown import CODES, README, SHOWN, missing
from recurate.cli import COMMANDS

RECORDED = (ROOT / "benchmarks" / "results" / "first_minute.md").read_text(encoding="utf-8")


def test_the_comparison_can_fail():
    assert missing(["a  b", "...", "d"], "a b\nc\nd") == []
    assert missing(["a", "d"], "a\nc\nd") == ["d"]
    assert missing(["...", "c", "...", "a"], "a\nc\nd") == ["a"]


def test_every_verb_is_shown():
    assert {shlex.split(block[0])[2] for block in SHOWN} == {"forecast", "plan", "fit", "audit"}
    for verb in ("run", "serve", "reproduce"):
        assert f"recurate {verb} " in README


@pytest.mark.usefixtures("few_replicates")
@pytest.mark.parametrize("block", SHOWN, ids=lambda block: " ".join(shlex.split(block[0])[2:4]))
def test_commands_print_what_is_shown(block, recurate_here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # as wide as the README's lines
    assert block[0].startswith("$ recurate ")
    words = shlex.split(block[0])[2:]
    done = recurate_here(*words)
    assert done.returncode == CODES.get(words[0], 0), done.stderr
    assert missing(block[1:], done.stdout) == []


def test_the_run_is_the_recorded_one():
    (shown,) = re.findall(r"```text\n(.*?)```", README, flags=re.S)
    (printed,) = re.findall(r"```text\n(.*?)```", RECORDED, flags=re.S)
    without_seconds = re.sub(r"\s+(seconds|[\d.]+)$", "", printed, flags=re.M)
    assert missing(shown.splitlines(), without_seconds) == []


def test_commands_are_functions_but_those_named():
    shown = set(re.findall(r"\brecurate ([a-z]+)", README)) & {command.__name__ for command in COMMANDS}
    (but,) = re.findall(r"All of these commands but (.+?) are functions", README)
    assert {name for name in shown if not hasattr(recurate, name)} == set(re.findall(r"`(\w+)`", but))


def test_times_are_the_recorded_ones():
    rows = [[cell.strip() for cell in line.split("|")] for line in RECORDED.splitlines()]
    found = {row[2]: (row[-2], row[3].removesuffix(" s")) for row in rows if len(row) == 9}
    said = re.findall(r"([\d.]+) s\sof\sprocessor\stime,\s([\d.]+) s\sby\sthe\sclock", README)
    assert said == [found["again, median"], found["recurate run examples/digits.toml"]]
    first = next(wall for name, (_, wall) in found.items() if name.endswith("the first time"))
    assert f"by the clock and {first} s the first time" in README
    assert f"environment of {found['what it adds'][1]}" in " ".join(README.split())
    processor = re.search(r"^- processor: (.*?),", RECORDED, flags=re.M)
    assert processor
    assert processor[1] in README


def test_badges_say_what_is_so():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = project["project"]["requires-python"].removeprefix(">=")
    assert f"python-{oldest}%2B" in README
    assert f"licence-{project['project']['license']}-" in README
    assert project["tool"]["mypy"]["strict"]
    assert any("Alpha" in c for c in project["project"]["classifiers"])


def test_pictures_are_small_and_described():
    found = re.findall(r'<img src="(\S+)" width="\d+" alt="(.+?)"', README)
    assert found
    for path, alt in found:
        data = (ROOT / path).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(data) < 200_000
        assert struct.unpack(">I", data[16:20])[0] <= 1600
        assert len(alt) > 20


def test_it_stays_short_and_begins_in_plain_words():
    assert len(README.splitlines()) <= 210
    before = README.partition("<img ")[0].lower()
    assert not [word for word in ("luce", "bradley", " nats", " law", "multiplier") if word in before]
