"""Docstrings as Markdown: doctests and formulas become blocks of their own."""

from __future__ import annotations

import re

from formulas import to_html

DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.M)
MATH = re.compile(r"^\.\. math::[ \t]*\n?\n?((?:[ \t]*\S.*\n?|\n(?=[ \t]+\S))+?)(?=\n\n|\Z|\n(?=\S))", re.M)
INLINE = re.compile(r":math:`([^`]+)`")
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(?:~(?:\w+\.)*)?([^`]+)`")


def blocks(text: str) -> str:
    """Return a docstring as Markdown: fenced doctests, formulas as HTML, names and literals as code."""
    text = DOCTEST.sub(lambda found: f"```python\n{found[0]}\n```", text)
    text = MATH.sub(lambda found: _displayed(found[1].strip()), text)
    text = INLINE.sub(lambda found: _inline(found[1]), text)
    text = ROLE.sub(r"`\1`", text)
    return re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", text)


def _displayed(formula: str) -> str:
    """Return a formula as a paragraph of its own; as its source where it cannot be translated."""
    try:
        return f"<p>\u2003{to_html(formula)}</p>"
    except ValueError:
        return f"```text\n{formula}\n```"


def _inline(formula: str) -> str:
    """Return a formula within a line; as its source where it cannot be translated."""
    try:
        return to_html(formula)
    except ValueError:
        return f"`{formula}`"
