"""The tables that come with the package."""

from __future__ import annotations

import doctest
import runpy
from pathlib import Path

import pytest

import recurate
from helpers.paths import ROOT, refused
from recurate.core.errors import InputError
from recurate.log.inputs import name_of, source_of
from recurate.log.reading import examples
from recurate.verbs.options import beside


def test_they_are_what_the_script_draws():
    drawn = runpy.run_path(str(ROOT / "tools" / "examples.py"))["texts"]()
    assert {name: examples.example(f"example:{name}").read_text(encoding="utf-8") for name in drawn} == drawn
    assert sorted(drawn) == examples.names()
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in drawn)


def test_docstrings():
    assert doctest.testmod(examples).failed == 0


@pytest.mark.parametrize("name", examples.names())
def test_a_name_is_a_source(name):
    source = source_of(f"example:{name}")
    rows = examples.example(f"example:{name}").read_text(encoding="utf-8").count("\n") - 1
    assert source.read().num_rows == rows
    assert source.name == name_of(f"example:{name}") == f"example:{name}"


def test_several_sources_may_hold_one():
    assert source_of(["example:best-of-4", "example:best-of-4"]).read().num_rows == 8000


def test_functions_and_logs_read_them():
    assert recurate.read_log("example:divided-rewards").table.num_rows == 2400
    found = recurate.audit("example:divided-rewards", declared={"k": 4, "temperature": 0.1})
    assert not found.mismatches


@pytest.mark.parametrize("verb", ["forecast", "plan", "fit", "audit"])
@pytest.mark.parametrize("name", ["best-of-5", "best-of-4.csv", "../examples/best-of-4", ""])
def test_a_name_that_is_none_is_refused_with_the_nearest(verb, name, recurate_here):
    said = refused(recurate_here(verb, f"example:{name}"))
    assert "did you mean 'example:best-of-4'?" in said
    assert "example:divided-rewards, example:two-groups" in said


def test_a_file_of_this_name_is_read_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("example:mine").write_text("reward\n1\n2\n")
    assert source_of("./example:mine").read().num_rows == 2
    with pytest.raises(InputError):
        source_of("example:mine")


def test_results_go_into_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert beside(["example:best-of-4"], "forecast") == tmp_path / "best-of-4-forecast"
