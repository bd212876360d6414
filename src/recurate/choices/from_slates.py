"""From plain slates to a choice table: features of candidates, with rankings and ties as single picks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.choices.models.explode import Expansion
from recurate.choices.models.identifiability import listed
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.reading.forms import PICK, RANK
from recurate.log.reading.mapping import Mapping
from recurate.log.reading.slates import ITEMS, POSITIONS, Exclusion, PlainSlates, Wanted, read_slates
from recurate.log.reading.understand import Understood
from recurate.log.reading.values import numbers_of
from recurate.rules.slates import Slates

ISO = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d.*)?)?$")


@dataclass(frozen=True)
class Reading:
    """A choice table and how it was read.

    Attributes:
        choices: Slates with one pick each; rankings are exploded, and ties are treated as requested.
        strict: The same slates without ties, for tests of Luce's model.
        model: Description of the candidates: ``score``, ``features``, ``items`` or, where nothing else is
            known, ``positions``.
        mapping: Columns and their roles.
        exclusions: Excluded slates, by reason.
        left_out: Columns that are not used as features, with the reasons.
        table: Columns of the included candidates under their standard names, slate by slate.
        matrix: Features of the included candidates, (rows, d).
        slates: Slates of the included candidates, before rankings are exploded.
        tied: Whether each of these slates is a tied pair, (slates,).
        notes: Assumptions made in reading.
        facts: Counts to report.
        understood: Account of how the file was read, or None.
        kind: What the table's ``result`` holds: ``rank`` (1 is best) or ``pick``.
    """

    choices: Choices
    strict: Choices
    model: str
    mapping: Mapping
    exclusions: tuple[Exclusion, ...]
    left_out: dict[str, str]
    table: dict[str, NDArray[Any]] = field(repr=False)
    matrix: FloatArray = field(repr=False)
    slates: Slates = field(repr=False)
    tied: BoolArray = field(repr=False)
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    understood: Understood | None = None
    kind: str = PICK

    @property
    def better(self) -> FloatArray:
        """The table's result with the higher the better, shape (rows,)."""
        result = np.asarray(self.table["result"], float)
        return -result if self.kind == RANK else result


def read_choices(table: pa.Table, mapping: Mapping, wanted: Wanted | None = None) -> Reading:
    """Return the choices in a table.

    Args:
        table: Table as read from a file.
        mapping: Columns and their roles; see :func:`recurate.log.reading.understand.guess`.
        wanted: Columns that describe the candidates, and the treatment of ties.

    Raises:
        InputError: If a wanted column is missing or not numeric, or if no slate can be used.
    """
    wanted = wanted or Wanted()
    return choices_of(read_slates(table, mapping, wanted), wanted.ties)


def choices_of(plain: PlainSlates, ties: str) -> Reading:
    """Return the choices in plain slates; ``ties`` is ``davidson``, ``half`` or ``drop``."""
    matrix, names, dropped = _matrix(plain)
    base = _base(plain, matrix, names)
    expanded = Expansion.of(base, plain.columns["result"], plain.kind, ties)
    return Reading(
        expanded.choices, expanded.strict, plain.model, plain.mapping, plain.exclusions,
        plain.left_out | dropped, plain.columns, matrix, plain.slates, expanded.tied, plain.notes,
        _facts(base, expanded), plain.understood, plain.kind,
    )  # fmt: skip


def _matrix(plain: PlainSlates) -> tuple[FloatArray, list[str], dict[str, str]]:
    """Return the features (rows, d), their names, and the columns that vary within no slate."""
    slates = plain.slates
    if plain.model in (ITEMS, POSITIONS):
        return np.zeros((slates.rows, 0)), [], {}
    parts: list[FloatArray] = []
    names: list[str] = []
    dropped: dict[str, str] = {}
    for name in plain.numeric:
        values = plain.numbers(name)
        if not (slates.maxima(values) > -slates.maxima(-values)).any():
            dropped[name] = "the same for all candidates of a slate"
        else:
            parts.append(values)
            names.append(name)
    for name in plain.categories:
        texts = plain.texts(name)
        for level in np.unique(texts)[1:]:
            parts.append((texts == level).astype(float))
            names.append(f"{name}={level}")
    if not parts:
        raise InputError(
            "no feature varies within slates",
            got=listed(list(dropped)),
            remedy="name features that differ between the candidates of a slate (--feature)",
        )
    return np.ascontiguousarray(np.column_stack(parts)), names, dropped


def _base(plain: PlainSlates, matrix: FloatArray, names: Sequence[str]) -> Choices:
    """Return the slates with all their columns; the picks are filled in later."""
    slates, columns = plain.slates, plain.columns
    choosers = plain.per_slate("chooser")
    if choosers is not None and choosers.max() == 0:
        choosers = None
    item_codes, item_names = None, ()
    if "item" in columns:
        found, codes = np.unique(plain.texts("item"), return_inverse=True)
        item_codes, item_names = codes.astype(np.int64).ravel(), tuple(found.tolist())
    weights = columns.get("weight")
    positions = None
    if "slot" in columns:
        named = columns["slot"].dtype == object  # such as left and right; else rows are sorted by slot
        positions = plain.codes("slot") if named else slates.slots()
    return Choices(
        matrix, slates, np.zeros(len(slates), np.int64), tuple(names),
        choosers=choosers,
        sources=plain.per_slate("source_row"),
        positions=positions,
        items=item_codes,
        item_names=item_names,
        contexts=plain.per_slate("context"),
        times=_times(plain),
        weights=None if weights is None else weights[slates.offsets[:-1]].astype(float),
    )  # fmt: skip


def _times(plain: PlainSlates) -> IntArray | None:
    """Return the rank of each slate's round and time, (slates,), or None where the order is not known.

    Texts have an order if they are numbers or ISO dates; a slate without a time has no place.
    """
    firsts = plain.slates.offsets[:-1]
    columns = [plain.columns[name][firsts] for name in ("round", "time") if name in plain.columns]
    ranks = [rank for values in columns if (rank := _rank(values)) is not None]
    if not ranks or len(ranks) < len(columns):
        return None
    return np.unique(np.column_stack(ranks), axis=0, return_inverse=True)[1].ravel()


def _rank(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return sortable numbers for times or rounds (n,), or None where one is missing or not understood."""
    found = numbers_of(values)
    if values.dtype.kind in "iuf" or np.isfinite(found).all():
        return found if np.isfinite(found).all() else None
    if values.dtype.kind == "M":
        return None if np.isnat(values).any() else values.astype(np.int64).astype(float)
    texts = [str(v).strip() for v in values]
    if all(ISO.match(text) for text in texts) and len({len(text) for text in texts}) == 1:
        return np.unique(texts, return_inverse=True)[1].astype(float)  # ISO texts of one length sort by time
    return None


def _facts(base: Choices, expanded: Expansion) -> dict[str, Any]:
    slates = base.slates
    sizes, counts = np.unique(slates.sizes, return_counts=True)
    facts: dict[str, Any] = {
        "slates": len(slates),
        "candidates": slates.rows,
        "slate sizes": ", ".join(
            f"{k} ({c})" if sizes.size > 1 else str(k) for k, c in zip(sizes, counts, strict=True)
        ),
    }
    if expanded.stages != len(slates):
        facts["picks"] = f"{expanded.stages} (rankings and ties as single picks)"
    if expanded.tied.any():
        facts["ties"] = int(expanded.tied.sum())
    if base.choosers is not None:
        people = np.bincount(base.choosers)
        people = people[people > 0]
        single = int((people == 1).sum())
        facts["choosers"] = f"{people.size}, {people.mean():.1f} slates each" + (
            f" ({single} with a single one)" if single else ""
        )
    if base.items is not None:
        facts["items"] = len(base.item_names)
    if base.contexts is not None:
        facts["contexts"] = int(np.unique(base.contexts).size)
    return facts
