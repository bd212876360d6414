"""Docstrings for the site: doctests and formulas become blocks of their own. A Griffe extension."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.M)
MATH = re.compile(r"^\.\. math::[ \t]*\n?\n?((?:[ \t]*\S.*\n?|\n(?=[ \t]+\S))+?)(?=\n\n|\Z|\n(?=\S))", re.M)


class Blocks(griffe.Extension):
    """Make blocks that Markdown knows of those that Sphinx knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = blocks(obj.docstring.value)


def blocks(text: str) -> str:
    """Return a docstring with fenced doctests and formulas, and literals with single backticks."""
    text = DOCTEST.sub(lambda found: f"```python\n{found[0]}\n```", text)
    text = MATH.sub(lambda found: f"```text\n{found[1].strip()}\n```", text)
    return re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", text)
