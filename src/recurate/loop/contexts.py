"""Contexts (prompts) of the slates, from a file: drawn at random in every round, or used in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.core.errors import InputError
from recurate.core.fingerprints import Fingerprint, of_files
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.core.tables import column_of, read_table

Texts = NDArray[Any]  # (n,) strings as objects


class ContextSettings(Settings):
    """The source of contexts and the rule that assigns them to a round's slates."""

    path: str = Field(
        description="a .txt file with one context per line, or a table (Parquet, JSON lines, CSV); "
        "relative to the current folder"
    )
    column: str = Field("context", description="column of the table that holds the contexts")
    order: Literal["fresh", "in order"] = Field(
        "fresh",
        description="every round draws contexts at random, each equally often; or continues in the file "
        "after the last context of the round before",
    )

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the file."""
        return of_files(serves, [Path(self.path)])


def read_contexts(settings: ContextSettings) -> Texts:
    """Return all contexts of the file, shape (n,).

    Raises:
        InputError: If the file or the column is missing, or it has no contexts or an empty value.
    """
    path = Path(settings.path)
    found = _lines(path) if path.suffix == ".txt" else _column(path, settings.column)
    if not found:
        raise InputError("the file has no contexts", got=path, remedy="write one context per line or row")
    return np.array(found, object)


def draw_contexts(contexts: Texts, slates: int, t: int, order: str, stream: Stream) -> Texts:
    """Return the contexts of the slates of round ``t``, shape (slates,).

    With the order ``fresh``, they are as many whole passes over the contexts as fit and a random part drawn
    without replacement, all in random order.

    Args:
        contexts: All contexts, shape (n,).
        slates: Number of slates per round.
        t: Number of the round.
        order: ``fresh`` or ``in order``.
        stream: Stream of the draw.
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
        raise InputError("no such file of contexts", got=path, remedy="check contexts.path")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", got=error, remedy="save it as UTF-8") from None
    return [line for line in text.splitlines() if line.strip()]


def _column(path: Path, name: str) -> list[str]:
    values = column_of(read_table(path, text=[name]), name, path).to_pylist()
    if any(value is None for value in values):
        raise InputError(f"{path}: column {name!r} has empty values", got="null", remedy="drop these rows")
    return [str(value) for value in values]
