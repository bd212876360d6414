"""`recurate docs`: pages and sections of the documentation, and the messages that send people there."""

from __future__ import annotations

import ast
import re

import pytest

from helpers.paths import ROOT
from recurate.core.errors import InputError
from recurate.loop.config import parse_config
from recurate.verbs.docs.reading import pages, read_page, sections_about


def test_the_reference_of_configurations_is_printed(recurate_here):
    done = recurate_here("docs", "configuration")
    assert done.returncode == 0
    assert done.stdout.strip() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").strip()
    assert "[[rewards]]" in done.stdout


def test_pages_are_listed_and_unknown_ones_are_refused(recurate_here):
    listed = [line.split()[0] for line in recurate_here("docs").stdout.splitlines()]
    assert listed == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
    refused = recurate_here("docs", "configuratoin")
    assert refused.returncode == 2
    assert "did you mean 'configuration'" in refused.stderr


def test_sections_are_found_by_their_table_or_by_a_key(recurate_here):
    text = read_page("configuration")
    assert re.findall(r"^## `(.*?)`", sections_about(text, "selection"), flags=re.M) == [
        "[selection]", "[selection.people]",
    ]  # fmt: skip
    assert "## Top level" in sections_about(text, "rounds")
    with pytest.raises(InputError, match="did you mean 'retraining'"):
        sections_about(text, "retrainin")
    assert "**simulated**" in sections_about(read_page("examples"), "simulated"), "else by their text"
    b, d = "## B\n\nb\n\n### C\n\nc\n\n", "## D\n\nthe c of D\n"
    assert sections_about(f"# A\n\n{b}{d}", "b") == sections_about(f"# A\n\n{b}{d}", "c") == b
    assert sections_about(f"# A\n\n{b}{d}", "the") == d
    for empty in ("", " "):
        with pytest.raises(InputError, match="no section"):
            sections_about(text, empty)


@pytest.mark.parametrize(
    "wrong", [{"rounds": -1}, {"tracked": [{"kind": "length", "name": "a", "target": "x"}]}, {"keep": 0}]
)
def test_errors_in_a_configuration_lead_to_a_section_that_exists(wrong):
    with pytest.raises(InputError) as caught:
        parse_config({"generator": {"kind": "kde"}, "rewards": [{"kind": "length", "target": 5}], **wrong})
    words = re.search(r"recurate docs (\w+) (\w+)", caught.value.remedy)
    assert words is not None
    assert sections_about(read_page(words[1]), words[2])


def _messages(tree: ast.AST):
    """Yield every text in the code that is no docstring."""
    with_doc = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, with_doc) and ast.get_docstring(n)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_no_message_names_a_file_that_only_a_checkout_has():
    for path in (ROOT / "src").rglob("*.py"):
        for text in _messages(ast.parse(path.read_text(encoding="utf-8"))):
            assert not re.search(r"\b(docs/\w+\.md|examples/\w)", text), f"{path.name}: {text}"
            for page in re.findall(r"recurate docs (\w+)", text):
                assert page in pages(), f"{path.name}: {text}"


def test_no_commands_help_does(recurate_here):
    for command in ("run", "shard", "reproduce", "forecast", "serve"):
        assert not re.search(r"docs/\w+\.md|examples/", recurate_here(command, "--help").stdout)
