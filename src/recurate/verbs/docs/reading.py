"""The documentation's pages: found where they are installed, or in a checkout, and cut into sections."""

from __future__ import annotations

import re
from pathlib import Path

from recurate.core.errors import InputError, nearest

PACKAGE = Path(__file__).parents[2]
INSTALLED, CHECKOUT = PACKAGE / "pages", PACKAGE.parents[1] / "docs"


def pages() -> dict[str, Path]:
    """Return the file of every page by the page's name.

    Raises:
        InputError: If the installation has no pages.
    """
    folder = INSTALLED if INSTALLED.is_dir() else CHECKOUT
    found = {path.stem: path for path in sorted(folder.glob("*.md"))}
    if not found:
        raise InputError(
            "this installation has no documentation",
            got=folder,
            remedy="pip install --force-reinstall recurate",
        )
    return found


def read_page(name: str) -> str:
    """Return a page as Markdown.

    Raises:
        InputError: If there is no such page.
    """
    found = pages()
    if name not in found:
        raise InputError("there is no such page", got=name, remedy=nearest(name, found))
    return found[name].read_text(encoding="utf-8")


def title_of(text: str) -> str:
    """Return the first heading of a page."""
    return text.partition("\n")[0].lstrip("# ")


def sections_about(text: str, word: str) -> str:
    """Return the sections of a page about a word, each with the sections within it.

    These are the ones with the word in a heading; without any, those with a table's row of that name; without
    any, those with the word anywhere, and the page's beginning if it has it.

    Raises:
        InputError: If there is none.
    """
    start, *parts = re.split(r"^(?=## )", text, flags=re.M)
    headings = ["\n".join(re.findall(r"^##+ (.*)", part, flags=re.M)) for part in parts]
    about = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.I)
    found = [part for part, heading in zip(parts, headings, strict=True) if about.search(heading)]
    found = found or [part for part in parts if f"| `{word}` |" in part]
    found = found or [part for part in (start, *parts) if about.search(part)]
    if not found or not word.strip():
        words = {word for heading in headings for word in re.findall(r"\w{3,}", heading)}
        raise InputError("no section of this page has that word", got=word, remedy=nearest(word, words))
    return "".join(found)
