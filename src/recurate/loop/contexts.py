"""Contexts (prompts) of the slates: from a file, drawn afresh or in order every round."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.core.errors import InputError, nearest
from recurate.core.fingerprints import Fingerprint, of_files
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.core.tables import read_table

Texts = NDArray[Any]  # (n,)


class ContextSettings(Settings):
    """Where contexts come from, and which of them a round's slates get."""

    path: str = Field(
        description="a .txt file with one context a line, or a table (Parquet, JSON lines, CSV); "
        "seen from the "
        "current folder"
    )
    column: str = Field("context", description="the table's column")
    order: Literal["fresh", "in order"] = Field(
        "fresh",
        description="every round draws afresh, each context equally often; or goes on in the file "
        "where the round "
        "before stopped",
    )

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the file."""
        return of_files(serves, [Path(self.path)])


def read_contexts(settings: ContextSettings) -> Texts:
    """Return all contexts of the file.

    Raises:
        InputError: the file or the column is missing, or there is nothing in it.
    """
    path = Path(settings.path)
    found = _lines(path) if path.suffix == ".txt" else _column(path, settings.column)
    if not found:
        raise InputError("there are no contexts", got=path, remedy="write one a line")
    return np.array(found, object)


def draw_contexts(contexts: Texts, slates: int, t: int, order: str, stream: Stream) -> Texts:
    """Return the contexts of round ``t``'s slates, (slates,).

    Afresh: whole passes over the file, and a random part without replacement, in random order.
    """
    count = len(contexts)
    if order == "in order":
        return np.asarray(contexts[(t * slates + np.arange(slates)) % count])
    rng = stream.generator()
    whole, rest = divmod(slates, count)
    rows = np.concatenate([np.tile(np.arange(count), whole), rng.permutation(count)[:rest]])
    return np.asarray(contexts[rng.permutation(rows)])


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError("there is no such file of contexts", got=path, remedy="check contexts.path")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", got=error, remedy="save it as UTF-8") from None
    return [line for line in text.splitlines() if line.strip()]


def _column(path: Path, name: str) -> list[str]:
    table = read_table(path, text=[name])
    if name not in table.column_names:
        raise InputError(
            f"{path} has no column {name!r}",
            got=f"columns {', '.join(table.column_names)}",
            remedy=nearest(name, table.column_names),
        )
    values = table.column(name).to_pylist()
    if any(value is None for value in values):
        raise InputError(f"{path}: column {name!r} has empty values", got="null", remedy="drop these rows")
    return [str(value) for value in values]
