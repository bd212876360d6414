"""What all commands share: help, version, completion, folders of results, reports in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser

import pytest

from helpers.paths import refused
from recurate.core.errors import InputError
from recurate.core.version import VERSION
from recurate.verbs.options import slate_sizes

SCORES = "reward\n" + "\n".join(str(x / 50) for x in range(100))
SHORT = ("--rounds", 2)


@pytest.fixture
def scores(tmp_path):
    (tmp_path / "scores.csv").write_text(SCORES)
    return tmp_path


def python_m(*words, **variables):
    return subprocess.run(
        [sys.executable, "-m", "recurate", *words],
        capture_output=True, text=True, check=False, env=os.environ | variables,
    )  # fmt: skip


def test_version_and_help(recurate_here):
    assert recurate_here("-V").stdout == recurate_here("--version").stdout == f"{VERSION}\n"
    assert recurate_here("help", "plan").stdout == recurate_here("plan", "--help").stdout
    assert recurate_here("help").stdout == recurate_here("--help").stdout
    assert "did you mean 'forecast'" in refused(recurate_here("help", "forcast"))


def test_the_module_is_the_command():
    done = python_m("help", "init")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: recurate init ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_of_every_shell(shell):
    done = python_m(_RECURATE_COMPLETE=f"source_{shell}")
    assert done.returncode == 0, done.stderr
    assert f"_RECURATE_COMPLETE=complete_{shell}" in done.stdout
    assert "python" not in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("recurate fore", ["forecast"]),
        ("recurate plan --max", ["--maximise", "--maximize"]),
        ("recurate init t", ["texts"]),
        ("recurate docs configur", ["configuration"]),
        ("recurate help rep", ["report", "reproduce"]),
        ("recurate forecast --rule th", ["thurstone"]),
        ("recurate plan --maximize n", ["nash"]),
        ("recurate forecast scor", []),  # the shell completes names of files
        ("recurate fit example:t", ["example:two-groups"]),
        ("recurate fit example : t", ["two-groups"]),  # as Bash splits it
    ],
)
def test_words_are_completed(words, expected):
    done = python_m(_RECURATE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert sorted(done.stdout.split()) == expected


def test_both_spellings_and_ranges_of_sizes(scores, recurate_here):
    one = recurate_here(
        "plan", "scores.csv", "--k", "2-4", "--maximise", "reward", *SHORT, "--json", "--out", "a"
    )
    two = recurate_here(
        "plan", "scores.csv", "--k", "2,3,4", "--maximize", "reward", *SHORT, "--json", "--out", "b"
    )
    assert one.returncode == 0, one.stderr
    assert one.stdout == two.stdout


def test_slate_sizes():
    assert slate_sizes("--k", None) is None
    assert slate_sizes("--k", "2, 4-6,5,inf") == [2, 4, 5, 6, float("inf")]
    for wrong in ("8-4", "4-", "-2", "4-6-8", "2-1e9", "many", "2.5-4", "2-²"):
        with pytest.raises(InputError, match="--k"):
            slate_sizes("--k", wrong)


def test_an_older_result_is_replaced_and_said_so(scores, recurate_here):
    first = recurate_here("forecast", "scores.csv", "--k", 2, *SHORT)
    assert "replacing" not in first.stderr
    facts = (scores / "scores-forecast" / "forecast.json").read_text()
    (scores / "scores-forecast" / "mine.txt").write_text("mine")
    again = recurate_here("forecast", "scores.csv", "--k", 3, *SHORT)
    assert again.returncode == 0
    assert "replacing " in again.stderr
    assert "left as it was" in again.stderr
    assert "mine.txt" in again.stderr
    assert "replacing" not in again.stdout
    assert (scores / "scores-forecast" / "forecast.json").read_text() != facts
    assert (scores / "scores-forecast" / "mine.txt").read_text() == "mine"
    wrong = recurate_here("forecast", "scores.csv", "--k", 0, *SHORT)
    assert wrong.returncode == 2
    assert "replacing" not in wrong.stderr  # nothing was


@pytest.mark.parametrize("verb", ["forecast", "plan", "fit", "audit"])
def test_files_of_others_need_force(scores, recurate_here, verb):
    (scores / "other").mkdir()
    (scores / "other" / "forecast.json").write_text('{"not": "ours"}')
    message = refused(recurate_here(verb, "scores.csv", "--out", "other"))
    assert "--force" in message
    assert [p.name for p in (scores / "other").iterdir()] == ["forecast.json"]


def test_a_result_of_another_verb_is_kept_and_force_writes_beside_it(scores, recurate_here):
    assert recurate_here("forecast", "scores.csv", *SHORT, "--out", "o").returncode == 0
    before = (scores / "o" / "forecast.json").read_bytes()
    plan = ("plan", "scores.csv", "--k", "2", *SHORT, "--out", "o")
    assert "no result of recurate plan" in refused(recurate_here(*plan))
    assert recurate_here(*plan, "--force").returncode == 0
    assert (scores / "o" / "forecast.json").read_bytes() == before
    assert (scores / "o" / "plan.json").exists()


def test_a_run_is_never_written_into(scores, recurate_here):
    (scores / "run").mkdir()
    (scores / "run" / "manifest.json").write_text("{}")
    assert "names a run" in refused(recurate_here("forecast", "scores.csv", "--out", "run", "--force"))


def test_reports_are_opened_on_request(scores, recurate_here, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    recurate_here("forecast", "scores.csv", *SHORT)
    assert not opened
    recurate_here("forecast", "scores.csv", *SHORT, "--open")
    recurate_here("forecast", "scores.csv", *SHORT, "--open", "--json")
    assert opened == [(scores / "scores-forecast" / "report.html").resolve().as_uri()] * 2
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    done = recurate_here("forecast", "scores.csv", *SHORT, "--open")
    assert "no browser could be opened" in done.stderr
    assert done.returncode == 0
