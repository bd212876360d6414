"""The documentation is tested: its code runs, its references are generated, its links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import re
import runpy
from pathlib import Path

import pytest

from helpers.paths import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "site").glob("ch*.md")),
]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page.stem}
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    ):
        exec(compile(block, f"{page.name} block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    """Every cell runs; nothing is written beside; what ends a cell shows itself."""
    monkeypatch.chdir(tmp_path)
    page = runpy.run_path(str(ROOT / "docs" / "notebooks.py"))["as_markdown"](path)
    assert "<small>recurate " in page, "a result is shown"
    assert page.count("<svg") >= 1, "so is a chart"
    assert not list(tmp_path.iterdir())


def test_notebooks_are_stored_without_outputs():
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_references_are_generated(tmp_path):
    build = runpy.run_path(str(ROOT / "docs" / "build.py"))
    for name, text in build["pages"]().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, (
            f"run python docs/build.py for {name}"
        )


@pytest.mark.parametrize(
    "name",
    [
        "recurate",
        "recurate.core.citations",
        "recurate.core.errors",
        "recurate.core.seeds",
        "recurate.log.logger",
        "recurate.log.parts",
        "recurate.log.watch",
        "recurate.verbs.audit.python",
        "recurate.verbs.compare.python",
        "recurate.verbs.fit.python",
        "recurate.verbs.forecast.python",
        "recurate.verbs.plan.python",
        "recurate.verbs.reproduce.python",
        "recurate.verbs.run.python",
        "recurate.log.schema",
        "recurate.log.trajectory",
        "recurate.theory.bounds",
        "recurate.theory.limits",
        "recurate.theory.population",
        "recurate.theory.setting",
        "recurate.theory.several_models",
        "recurate.theory.survival",
        "recurate.theory.verification",
        "recurate.theory.welfare",
        "recurate.verbs.plan.evaluation",
        "recurate.verbs.plan.plan",
    ],
)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_the_readme_commands_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("./run", "./run test"):
        assert command in readme
    assert os.access(ROOT / "run", os.X_OK)
    assert "./run test --all" in Path(ROOT / ".ci" / "run").read_text()
