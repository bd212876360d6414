"""`recurate docs`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from recurate.verbs.docs.reading import pages, read_page, sections_about, title_of


def docs(
    page: Annotated[
        str | None,
        typer.Argument(
            metavar="[PAGE]",
            help="Page, such as configuration. Default: list all pages.",
            autocompletion=lambda: list(pages()),
        ),
    ] = None,
    section: Annotated[
        str | None,
        typer.Argument(metavar="[WORD]", help="Print only the sections with this word, or key, in them."),
    ] = None,
) -> None:
    """Print a page of the documentation: formatted on a terminal, as Markdown elsewhere.

    For example:

      recurate docs

      recurate docs configuration

      recurate docs configuration selection
    """
    if page is None:
        for name, path in pages().items():
            print(f"{name:<16}{title_of(path.read_text(encoding='utf-8'))}")
        return
    text = read_page(page)
    text = text if section is None else sections_about(text, section)
    if not sys.stdout.isatty():
        print(text.rstrip())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
