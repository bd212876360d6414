"""Names of what strangers add, and calls of it."""

from __future__ import annotations

import sys

import pytest

from recurate.core.errors import InputError
from recurate.core.plugins import Seam, call, from_module, takes

SEAM = Seam("things", "thing", {"one": 1, "other": 2})


def test_what_is_built_in_comes_first():
    assert SEAM.find("one") == 1
    assert SEAM.origin("one") is None
    assert SEAM.group == "recurate.things"


def test_modules_are_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "plugin_of_a_test.py").write_text("thing = 3\n1 / thing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert SEAM.find("plugin_of_a_test:thing") == 3
    assert SEAM.origin("plugin_of_a_test:thing") == "plugin_of_a_test:thing"
    assert sys.path[-1] == str(tmp_path), "a file here hides no library"
    del sys.modules["plugin_of_a_test"]


@pytest.mark.parametrize(
    ("title", "message"),
    [
        (
            "ones",
            "there is no thing called 'ones'.*\n.*\n.*did you mean 'one'.*module:name.*'recurate.things'",
        ),
        ("", "there is no thing called ''"),
        ("no_such_module:thing", "no_such_module:thing cannot be imported.*\n.*ModuleNotFoundError"),
        ("math:sqr", "math:sqr cannot be imported.*\n.*no 'sqr' there\n.*did you mean 'sqrt'"),
    ],
)
def test_what_is_not_there_is_named(title, message):
    with pytest.raises(InputError, match=message):
        SEAM.find(title)


def test_arguments_are_offered():
    assert call("f", lambda x, b=0: (x, b), 1, a=2, b=3) == (1, 3)
    assert call("f", lambda x, **rest: (x, rest), 1, a=2) == (1, {"a": 2})
    assert call("f", max, [1, 2], rng=3) == 2
    assert takes(lambda a: a, "a")
    assert not takes(lambda a: a, "b")
    assert not takes(max, "a")


def test_errors_name_the_plug_in():
    with pytest.raises(InputError, match=r"f failed.*\n.*ZeroDivisionError"):
        call("f", lambda: 1 / 0)
    with pytest.raises(InputError, match="f: no_such:x cannot be imported"):
        call("f", lambda: from_module("no_such:x"))
    with pytest.raises(KeyboardInterrupt):
        call("f", _interrupted)


def _interrupted():
    raise KeyboardInterrupt
