"""Options that are more than one value."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recurate.core.errors import InputError

if TYPE_CHECKING:
    from recurate.log.reading.slates import Wanted


def numbers(option: str, text: str) -> list[float]:
    """Read numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} must be numbers separated by commas", got=text, remedy=f"for example {option} 0.4,0.6"
        ) from None


def words(text: str | None) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def beside(log: Path, what: str) -> Path:
    """Return LOG-what beside the log, without its endings."""
    whole = log.resolve()
    stem = whole.name if whole.is_dir() else whole.name.removesuffix(".gz").rpartition(".")[0]
    return whole.with_name(f"{stem}-{what}")


Log = Annotated[
    Path,
    typer.Argument(
        metavar="LOG", help="A log, a table of choices (.csv, .jsonl, .json, .parquet) or a run's folder."
    ),
]


Slate = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of slates (one row a candidate).")]


Pick = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of picks: yes/no, or the picked alternative.")
]


Rank = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of ranks, 1 the best; equal ones are ties.")
]


Chooser = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of who picked.")]


Item = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of items or kinds of candidates.")]


Position = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of where a candidate was shown.")
]


Context = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of contexts (prompts).")]


Form = Annotated[
    str | None,
    typer.Option(metavar="FORM", help="long, wide, pairs or lists. Default: a guess, which is shown."),
]


Alternatives = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C", help="Alternatives of a wide file, in the order of the codes in its picks."
    ),
]


Feature = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN", help="What describes candidates, repeatable; characters:COLUMN counts a text's."
    ),
]


Ties = Annotated[
    str, typer.Option(metavar="HOW", help="Tied pairs: davidson (an outcome of their own), half, or drop.")
]


Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to write.")]


Json = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON instead of tables.")]


def say(text: str) -> None:
    """Tell a person at a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"{text} ...", file=sys.stderr)


def roles(*columns: str | None) -> dict[str, str]:
    """Return the columns that were named, by role."""
    names = ("slate", "pick", "rank", "chooser", "item", "position", "context")
    return {name: column for name, column in zip(names, columns, strict=True) if column is not None}


def wanted(feature: list[str] | None, score: list[str] | None, model: str | None, ties: str) -> Wanted:
    """Return what is wanted from a file of choices."""
    from recurate.log.reading.slates import Wanted

    return Wanted(tuple(feature or ()), tuple(score or ()), model, ties)


def fresh_folder(base: Path) -> Path:
    """Return ``base-N`` with the smallest N >= 1 that does not exist."""
    number = 1
    while (folder := base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return folder


def need_run_extra() -> None:
    """Refuse to go on without what the plain installation lacks."""
    from importlib.util import find_spec

    missing = [
        m for m in ("torch", "pydantic", "safetensors", "sklearn", "tomli_w", "PIL") if not find_spec(m)
    ]
    if missing:
        raise InputError(
            "running loops needs more than the plain installation",
            got=f"no {', '.join(missing)}",
            remedy="pip install 'recurate[run]'",
        )
