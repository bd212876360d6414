"""The package's face: all names, their documentation, and the commands' twins."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import pytest

import recurate

pytestmark = pytest.mark.usefixtures("few_replicates")

VERBS = ("run", "forecast", "plan", "fit", "audit", "compare", "reproduce")
# Options that are about the command alone: where results go, and what is printed.
OF_COMMANDS = {
    "out",
    "force",
    "open_report",
    "as_json",
    "figures",
    "quiet",
    "dry_run",
    "neural",
    "allow_unverified",
    "listed",
}


def test_every_name_is_there_and_listed():
    assert set(recurate._HOMES) < set(dir(recurate))
    for name in dir(recurate):
        assert getattr(recurate, name) is not None
    for name in (
        "forecast",
        "Result",
        "Survival",
        "Welfare",
        "Bound",
        "LogitFit",
        "ItemFit",
        "ClassFit",
        "Outcome",
    ):
        assert name in recurate.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = recurate.nonsense


def test_every_function_and_class_is_documented():
    for name in recurate._HOMES:
        value = getattr(recurate, name)
        if callable(value) and not hasattr(value, "draw"):  # noises are values
            text = inspect.getdoc(value)
            assert text, name
            assert "see the module" not in text, name


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_states_its_problem_errors_source_and_an_example(verb):
    text = inspect.getdoc(getattr(recurate, verb))
    assert "\n>>> import recurate\n" in text
    assert "\nReturns:\n" in text
    assert "\nRaises:\n" in text
    assert re.search(r"\b(19|20)\d\d\b", text), "a source has a year"


@pytest.mark.parametrize("verb", VERBS)
def test_functions_have_the_commands_options(verb):
    command = getattr(importlib.import_module(f"recurate.verbs.{verb}.command"), verb)
    options = set(inspect.signature(command).parameters)
    keywords = set(inspect.signature(getattr(recurate, verb)).parameters)
    assert options - OF_COMMANDS <= keywords


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pydantic"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("torch", "pydantic") else find(name)
import recurate
for use in (lambda: recurate.Config, lambda: recurate.run({"rounds": 1}), lambda: recurate.read_run("x")):
    try:
        use()
    except recurate.InputError as error:
        print(error)
try:
    recurate.reproduce("limited-coverage", out=sys.argv[1])
except recurate.InputError as error:
    print(error)
print(recurate.reproduce("heterogeneous", out=sys.argv[1]).summary)
print(recurate.forecast([0.0, 1.0], rounds=1).law)
"""


def test_a_missing_extra_is_named(tmp_path):
    command = [sys.executable, "-c", BLOCKED, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'recurate[run]'") == 4
    assert "4 of 4 claims agree." in done.stdout, "an experiment that trains nothing needs no extra"
    assert "recurate.Config needs more than the plain installation" in done.stdout
    assert done.stdout.strip().endswith("]"), "forecasts need no extra"


def test_papers_are_cited_once_used(capsys):
    recurate.citation(all=True)
    every = capsys.readouterr().out.strip().split("\n\n")
    for entry in every:
        assert re.match(r"@\w+\{\w+,\n", entry)
        assert entry.count("{") == entry.count("}")
    code = (
        "import recurate; recurate.survival([[9.0, 0.0], [0.0, 9.0]], [0.3, 0.7], k=3); recurate.citation()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.findall(r"@\w+\{(\w+),", done.stdout) == ["recurate", "falahati2026"]
