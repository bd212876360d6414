"""What a run rests on: which files and packages count, and what has changed since."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy
import pytest

from recurate.core.fingerprints import (
    Change,
    Fingerprint,
    after,
    changes,
    of_command,
    of_files,
    of_folder,
    of_function,
)
from recurate.core.sealed import sha256


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / f"{name.replace('__of__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def names(found: list[Fingerprint], serves: str = "rewards.mine") -> set[str]:
    return {f.name for f in found if f.serves == serves}


def test_a_module_and_all_that_it_imports_from_its_folder(folder):
    write(
        folder,
        mine_a="import json\nimport mine_b\n\ndef f(samples):\n    from mine_c import g\n    return g(1)\n",
        mine_b="import numpy as np\nimport mine_a\n",
        mine_c="from mine_pack.inner import deep\ng = deep\n",
        mine_d="raise RuntimeError('not imported')\n",
        mine_pack__of____init__="from . import beside\n",
        mine_pack__of__inner="from ..mine_pack.other import deep\n",
        mine_pack__of__other="deep = 1\n",
        mine_pack__of__beside="",
        mine_pack__of__unused="",
    )
    found = of_function("rewards.mine", "mine_a:f")
    pack = {f"mine_pack/{name}.py" for name in ("__init__", "inner", "other", "beside")}
    assert names(found) == {"mine_a.py", "mine_b.py", "mine_c.py"} | pack
    assert Fingerprint("packages", "numpy", numpy.__version__) in found
    assert {f.digest for f in found if f.name == "mine_b.py"} == {sha256(folder / "mine_b.py")}
    assert not {"mine_a", "mine_b"} & set(sys.modules), "nothing is executed"


def test_a_module_of_a_folder_without_init(folder):
    write(folder, mine_space__of__reward="import mine_helper\n", mine_helper="", mine_space__of__rest="")
    found = of_function("rewards.mine", "mine_space.reward:f")
    assert names(found) == {"mine_space/reward.py", "mine_helper.py"}


def test_an_installed_module_is_known_by_its_version(folder):
    assert of_function("groups", "numpy.linalg:norm") == [
        Fingerprint("groups", "package numpy", numpy.__version__)
    ]
    assert names(of_function("groups", "yaml:load"), "groups") <= {"package PyYAML"}
    assert of_function("groups", "statistics:mean") == []


@pytest.mark.parametrize("title", ["mine_nowhere:f", "mine_nowhere.deep:f", "mine_broken:f"])
def test_what_cannot_be_imported_is_left_to_the_import(folder, title):
    write(folder, mine_broken="def f(:\n")
    assert names(of_function("rewards.mine", title)) <= {"mine_broken.py"}


def test_files_that_a_command_names(folder):
    write(folder, score="import model_of_mine\n", model_of_mine="", trainer__of__step="", other="")
    (folder / "settings.json").write_text("{}")
    (folder / "weights").mkdir()
    (folder / "own.sh").write_text("#!/bin/sh\n")
    (folder / "linked").symlink_to(sys.executable)
    part = "rewards.mine"
    words = ("{python}", "score.py", "--config=settings.json", "weights", "{candidates}", "no.txt")
    assert names(of_command(part, words, Path())) == {"score.py", "model_of_mine.py", "settings.json"}
    assert names(of_command(part, ("python", "-m", "trainer.step"), Path())) == {"trainer/step.py"}
    assert names(of_command(part, ("./own.sh", "x" * 5000), Path())) == {"own.sh"}
    for system in (sys.executable, "./linked", "sh", "own.sh"):
        assert names(of_command(part, (system,), Path())) == set()
    os.chdir("weights")
    assert names(of_command(part, ("sh", "other.py"), Path(".."))) == {(folder / "other.py").as_posix()}


def test_what_changed():
    then = [
        Fingerprint("data", "a", "1"),
        Fingerprint("data", "b", "1"),
        Fingerprint("classifier", "c", "1", kept=True),
        Fingerprint("classifier", "d", "1", kept=True),
        Fingerprint("packages", "torch", None),
    ]
    now = [
        Fingerprint("data", "a", "2"),
        Fingerprint("classifier", "d", "2", kept=True),
        Fingerprint("data", "new", "1"),
        Fingerprint("rewards.mine", "written by the program", "1", word=True),
        Fingerprint("packages", "torch", "2.9"),
    ]
    found = changes(then, now)
    assert found == [
        Change("classifier", "d", "1", "2"),
        Change("data", "a", "1", "2"),
        Change("data", "b", "1", None),
        Change("data", "new", None, "1"),
        Change("packages", "torch", None, "2.9"),
    ]
    assert [change.noted for change in found] == [False, False, False, False, True]
    assert [str(change) for change in found] == [
        "d (classifier) has changed", "a (data) has changed", "b (data) is missing",
        "new (data) was added", "torch was absent and is 2.9",
    ]  # fmt: skip
    assert changes(after(then, found), now) == []
    assert changes(after(then, found), then) != []
    assert changes(then, then) == []


def test_files_of_a_folder(folder):
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "deep" / "w.bin").write_bytes(b"1")
    assert names(of_folder("generator.start", Path("model")), "generator.start") == {"model/deep/w.bin"}
    assert of_files("contexts", [Path("nowhere.txt")]) == []
