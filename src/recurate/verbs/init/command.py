"""`recurate init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from recurate.verbs.init.templating import TEMPLATES, write_template
from recurate.verbs.options import option


def _list(wanted: bool) -> None:
    if wanted:
        for name, template in TEMPLATES.items():
            print(f"{name:<10}{template.about} (pip install 'recurate[{template.needs}]')")
        raise typer.Exit


def init(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help=f"One of {', '.join(TEMPLATES)}.",
            autocompletion=lambda: list(TEMPLATES),
        ),
    ] = "digits",
    out: Annotated[Path | None, option("FILE", "File to write. Default: NAME.toml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    listed: Annotated[
        bool,
        typer.Option("--list", callback=_list, is_eager=True, help="List the configurations to begin with."),
    ] = False,
) -> None:
    """Write a commented configuration to begin with, and say how to run it.

    For example:

      recurate init digits

      recurate init external --out mine/loop.toml
    """
    path = out or Path(f"{name}.toml")
    written = write_template(name, path, force=force)
    print(f"written: {', '.join(map(str, written))}")
    print(f"to begin: {TEMPLATES[name].begin.format(file=shlex.quote(str(path)))}")
