"""The shape of the code, as docs/architecture.md tells it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain

import pytest

import recurate
from helpers.paths import ROOT

SOURCE = ROOT / "src" / "recurate"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rooms() -> list[str]:
    """Read the rooms, lowest first, from the picture in docs/architecture.md."""
    block = re.search(r"```\nsrc/recurate/\n(.*?)```", ARCHITECTURE, flags=re.S)
    assert block is not None
    return [m[1] for m in re.finditer(r"^  ([a-z_]+)(?:\.py|/) ", block[1], flags=re.M)]


ROOMS = rooms()
HOMES = recurate._HOMES  # what `from recurate import name` really imports


def modules():
    return [p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py"]


def imports(tree: ast.AST):
    """Yield the dotted name of every import, wherever it stands, with whether it is typing only."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in typing_only


def room(dotted: str) -> str:
    return dotted.split(".")[1]


def test_the_picture_shows_every_room():
    found = {p.name if p.is_dir() else p.stem for p in SOURCE.iterdir() if p.suffix in ("", ".py")}
    assert found - {"__init__", "__pycache__"} == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


def violations(path, text: str) -> list[str]:
    own = path.relative_to(SOURCE).with_suffix("").parts[0]
    found = []
    for name, _ in imports(ast.parse(text)):
        top = name.split(".")[0]
        if top == "recurate" and name.count(".") >= 1:
            other = room(HOMES.get(name.removeprefix("recurate."), name))
            if other in ROOMS and ROOMS.index(other) > ROOMS.index(own):
                found.append(f"{own} imports {name}, which stands below it")
        if top in ("torch", "torchvision") and own not in ("generators", "rewards"):
            found.append(f"{own} imports {name}")
        if top in ("altair", "matplotlib", "jinja2") and own != "report":
            found.append(f"{own} imports {name}")
        if top == "PIL" and own not in ("report", "data"):
            found.append(f"{own} imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_rooms_import_only_from_rooms_above(path):
    assert violations(path, path.read_text(encoding="utf-8")) == []


def test_the_check_can_fail():
    path = SOURCE / "core" / "seeds.py"
    assert violations(path, "from recurate.verbs.forecast.forecast import forecast")
    assert violations(path, "from recurate import forecast")
    assert violations(path, "def f():\n    import torch")
    assert violations(SOURCE / "metrics" / "estimates.py", "import altair")
    assert not violations(path, "from recurate.core.errors import InputError")


def test_torch_is_loaded_lazily():
    """Importing every module but the networks' loads no PyTorch, and the package itself next to nothing."""
    names = [
        ".".join(("recurate", *p.relative_to(SOURCE).with_suffix("").parts))
        for p in modules()
        if p.stem != "fields"
    ]
    code = "import sys, importlib\n"
    code += f"for name in {names!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
    code += "assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
    light = "import sys, recurate; assert not {'numpy', 'pyarrow', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True)


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    names = {re.match(r"[A-Za-z0-9_-]+", requirement)[0] for requirement in wanted}
    reasons = set(re.findall(r"^\| `([A-Za-z0-9_-]+)` \|", ARCHITECTURE, flags=re.M))
    assert names == reasons


def test_no_pickle_and_no_big_modules():
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bpickle\b|torch\.load|torch\.save|allow_pickle=True", text), path
        assert len(text.splitlines()) <= 500, path
