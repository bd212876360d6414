"""The site: every link has its page, every page its place, every example its command; the tutorial runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import runpy
import shlex

import pytest

import recurate
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def site():
    return runpy.run_path(str(ROOT / "docs" / "assemble.py"))


@pytest.fixture(scope="module")
def pages(site):
    unrun = "# A notebook\n\nWhich is not run here.\n\n<div><svg></svg></div>\n"
    notebooks = {f"notebook-{name}.md": unrun for name in site["NOTEBOOKS"]}
    return {
        **site["written"](),
        "gallery.md": site["gallery"](notebooks),
        "python.md": site["python_reference"](),
        **notebooks,
    }


def test_links_between_pages_lead_somewhere(site, pages):
    files = {*pages, *site["copied"]().values()}
    for name, text in pages.items():
        for _, target, _ in site["LINK"].findall(re.sub(r"```.*?```", "", text, flags=re.S)):
            path = target.partition("#")[0]
            if path and "://" not in target:
                assert str((ROOT / name).parent.joinpath(path).resolve().relative_to(ROOT)) in files, (
                    name,
                    target,
                )


def test_a_link_without_a_page_is_an_error(site):
    path = ROOT / "docs" / "log.md"
    assert site["_page"](path, "theory.md", site["sources"]()) == "theory.md"
    with pytest.raises(ValueError, match=r"docs/log.md links to ../run, which is no page"):
        site["_page"](path, "../run", site["sources"]())


def test_the_navigation_has_every_page_and_no_other(pages):
    named = re.findall(
        r"^ +- .*?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.M
    )
    assert len(named) == len(set(named))
    found_by_link = {
        name for name in pages if name.startswith("benchmarks/") and name != "benchmarks/index.md"
    }
    assert set(named) == set(pages) - found_by_link


def test_every_example_has_its_command(site, pages):
    sections = re.split(r"^## ", pages["gallery.md"], flags=re.M)[1:]
    pictured = [section for section in sections if re.search(r"<svg|!\[.+?\]\(images/", section)]
    assert len(pictured) >= 12
    for picture in re.findall(r"!\[.+?\]\((images/.+?)\)", pages["gallery.md"]):
        assert (ROOT / "docs" / picture).exists()
    for section in sections:
        assert "notebook-" in section or re.search(
            r"```sh\n(?:.*\n)*?.*(?:recurate|python) .+\n```", section
        ), section
    examples = {
        path.relative_to(ROOT / "examples").as_posix() for path in (ROOT / "examples").rglob("*.toml")
    }
    assert examples <= set(site["EXAMPLES"])


def test_the_reference_has_every_public_name(pages):
    import recurate

    entries = set(re.findall(r"^::: [\w.]+\.(\w+)$", pages["python.md"], flags=re.M))
    assert {name for name in recurate.__all__ if not name.startswith("_")} == entries


def test_language_models_get_a_list_of_pages(site, pages):
    text = site["llms"](pages)
    assert text.startswith("# recurate\n\n> ")
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == len(pages)
    assert "- [Tutorial](tutorial/): From one round's scores to a forecast" in text
    assert all(re.fullmatch(r"- \[.+?\]\(\S+\)(: .+)?", line) for line in lines)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch, recurate_cli):
    """By copy and paste: commands print what the page says, code blocks run one after another."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "site" / "tutorial.md").read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "tutorial"}
    printed, codes = "", []
    for kind, block in re.findall(r"```(python|sh|text)\n(.*?)```", text, flags=re.S):
        if kind == "python":
            exec(compile(block, "tutorial", "exec"), namespace)
        elif kind == "text":
            for line in block.splitlines():
                assert " ".join(line.split()) in printed
        elif block.startswith("recurate "):
            done = recurate_cli(*shlex.split(block)[1:])
            codes.append(done.returncode)
            printed = " ".join(done.stdout.split())
    assert codes == [0, 0, 1], "the audit finds a mismatch"


def test_formulas_and_roles_of_public_docstrings_read_well_on_the_site(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    blocks = importlib.import_module("blocks").blocks
    shown = {name: blocks(inspect.getdoc(getattr(recurate, name)) or "") for name in recurate.__all__}
    assert "<p>\u2003<i>P</i>(<i>i</i>) = <i>e</i><sup><i>u</i><sub><i>i</i></sub></sup> / " in shown["fit"]
    for name, text in shown.items():
        assert not re.search(r":\w+:`|math::|\\\\[a-z]|```text", text), name


def test_formulas_in_html(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    formulas = importlib.import_module("formulas")
    assert doctest.testmod(formulas).failed == 0
    shown = formulas.to_html(r"\frac{a + b}{c_1} < \bar r^2, \quad \text{for all } x")
    assert re.sub("</?i>", "", shown) == ("(a + b) / c<sub>1</sub> &lt; r\u0304<sup>2</sup>,\u2003for all x")
    for wrong in (r"\unknown", "{a", "a}", "a_"):
        with pytest.raises(ValueError, match=r"known|brace|early"):
            formulas.to_html(wrong)
