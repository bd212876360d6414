"""The shape of the code, as docs/architecture.md tells it."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
import warnings
from itertools import chain

import pytest

import recurate
from helpers.paths import ROOT

SOURCE = ROOT / "src" / "recurate"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rooms(indent: int) -> list[str]:
    """Read the rooms, lowest first, from the picture in docs/architecture.md."""
    block = re.search(r"```\nsrc/recurate/\n(.*?)```", ARCHITECTURE, flags=re.S)
    assert block is not None
    return [m[1] for m in re.finditer(rf"^ {{{indent}}}([a-z_]+)(?:\.py|/) ", block[1], flags=re.M)]


ROOMS = rooms(2)
VERBS = rooms(4)
HOMES = recurate._HOMES  # what `from recurate import name` really imports
FLOORS = [
    room for top in ROOMS for room in ([f"verbs.{verb}" for verb in VERBS] if top == "verbs" else [top])
]


def modules():
    """Return all modules; Alembic's scripts are run by it, not imported."""
    apart = {SOURCE / "__init__.py", SOURCE / "__main__.py"}
    return [p for p in SOURCE.rglob("*.py") if p not in apart and "migrations" not in p.parts]


def dotted(path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports(tree: ast.AST):
    """Yield the dotted name of every import, wherever it stands, typing-only ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> int:
    """Return on which floor a module of recurate lies; an unknown one is an error."""
    parts = name.split(".")[1:]
    return FLOORS.index(".".join(parts[: 2 if parts[0] == "verbs" else 1]))


def names_in(folder):
    found = {p.name if p.is_dir() else p.stem for p in folder.iterdir() if p.suffix in ("", ".py")}
    return found - {"__init__", "__main__", "__pycache__", "assets"}


def test_the_picture_shows_every_room():
    assert names_in(SOURCE) == set(ROOMS)
    assert names_in(SOURCE / "verbs") == set(VERBS)
    assert len(FLOORS) == len(set(FLOORS))


LIBRARIES = {  # package: the folders that may import it
    "torch": ("components",),
    "torchvision": (),
    "altair": ("report",),
    "jinja2": ("report",),
    "PIL": ("report", "components", "people", "verbs/run"),
    "fastapi": ("people",),
    "sqlalchemy": ("people",),
    "alembic": ("people",),
}


def violations(path, text: str) -> list[str]:
    own, found = dotted(path), []
    place = path.relative_to(SOURCE).as_posix()
    for name in imports(ast.parse(text)):
        top = name.split(".")[0]
        if top == "recurate":
            if name == "recurate" or name.removeprefix("recurate.") in HOMES:
                found.append(f"{own} imports the package's face: {name}")
            elif own.count(".") and floor(name) > floor(own):
                found.append(f"{own} imports {name}, which stands below it")
        elif top in LIBRARIES and not place.startswith(LIBRARIES[top]):
            found.append(f"{own} imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_rooms_import_only_from_rooms_above(path):
    assert violations(path, path.read_text(encoding="utf-8")) == []


def test_the_check_can_fail():
    path = SOURCE / "core" / "seeds.py"
    assert violations(path, "from recurate.verbs.forecast.python import forecast")
    assert violations(path, "from recurate import forecast")
    assert violations(path, "import recurate")
    assert violations(path, "def f():\n    import torch")
    assert violations(SOURCE / "metrics" / "estimates.py", "import altair")
    assert violations(SOURCE / "verbs" / "fit" / "fit.py", "from recurate.verbs.audit.audit import audit")
    assert not violations(path, "from recurate.core.errors import InputError")


def test_no_module_imports_itself_through_others():
    """Modules form no circle, whatever imports them first."""
    known = {dotted(p): p for p in modules()}
    arrows = {}
    for name, path in known.items():
        found = imports(ast.parse(path.read_text(encoding="utf-8")))
        wanted = {full if full in known else full.rsplit(".", 1)[0] for full in found}
        arrows[name] = {other for other in wanted if other in known and other != name}
    graphlib.TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


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
        if len(text.splitlines()) > 800:
            warnings.warn(f"{path} has more than 800 lines: is there a joint to cut it at?", stacklevel=1)
