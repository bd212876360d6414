"""Run the notebooks of docs/notebooks, cell by cell, and show what they show: for the tests and for the site.

A cell is executed as Jupyter would: what it prints and the value of its last expression are its output. This
takes no kernel, which would add some twenty packages (ipykernel's) to what the tests install.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "notebooks"


def run(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    """Yield kind ("markdown" or "code"), source, printed text and last value (or None) of every cell."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            yield cell["cell_type"], source, "", None
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = _executed(source, f"{path.name}, cell {number}", namespace)
        yield "code", source, printed.getvalue(), value


def _executed(source: str, name: str, namespace: dict[str, Any]) -> Any:
    """Execute a cell and return the value of its last line if that is an expression."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), namespace)


def as_markdown(path: Path) -> str:
    """Return a notebook that was run as a page: text, code, and what each cell shows."""
    parts = []
    for kind, source, printed, value in run(path):
        parts.append(source if kind == "markdown" else f"```python\n{source}\n```")
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
        if value is not None:
            parts.append(_shown(value))
    return "\n\n".join(parts) + "\n"


def _shown(value: Any) -> str:
    """Return a value as HTML on one line: Markdown would end a block of HTML at an empty one."""
    if hasattr(value, "save") and hasattr(value, "to_dict"):  # a chart of Altair
        drawn = io.StringIO()
        value.save(drawn, format="svg")
        return "<div>" + " ".join(drawn.getvalue().split()) + "</div>"
    if hasattr(value, "_repr_html_"):
        return "<div>" + " ".join(value._repr_html_().split()) + "</div>"
    return "<pre>" + escape(repr(value)).replace("\n", "&#10;") + "</pre>"
