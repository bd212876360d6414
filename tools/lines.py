"""Count the lines of code of src, room by room: ``python tools/lines.py [ROOT]``.

Blanks, comments and docstrings do not count.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

SILENT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstring_lines(text: str) -> set[int]:
    """Return the numbers of the lines that belong to docstrings."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, OWNERS) and ast.get_docstring(node, clean=False) is not None:
            found |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return found


def count(text: str) -> int:
    """Return the number of lines of code of a module."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {n for t in tokens if t.type not in SILENT for n in range(t.start[0], t.end[0] + 1)}
    return len(lines - docstring_lines(text))


def main() -> None:
    """Print the lines of each room, and their sum."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "src" / "recurate"
    rooms: Counter[str] = Counter()
    for path in source.rglob("*.py"):
        rooms[path.relative_to(source).parts[0]] += count(path.read_text(encoding="utf-8"))
    for room, lines in sorted(rooms.items()):
        print(f"{lines:6} {room}")
    print(f"{sum(rooms.values()):6} in all")


if __name__ == "__main__":
    main()
