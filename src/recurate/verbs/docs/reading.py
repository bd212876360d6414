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
    """Return the sections of a page whose heading has a word, or else those with a table's row of that name.

    Raises:
        InputError: If there is none.
    """
    parts = re.split(r"^(?=##+ )", text, flags=re.M)[1:]
    titles = [part.partition("\n")[0] for part in parts]
    about = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.I)
    found = [part for part, title in zip(parts, titles, strict=True) if word.strip() and about.search(title)]
    found = found or [part for part in parts if f"| `{word}` |" in part]
    if not found:
        words = {word for title in titles for word in re.findall(r"\w{3,}", title)}
        raise InputError("no section of this page has that word", got=word, remedy=nearest(word, words))
    return "".join(found)
