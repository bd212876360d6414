"""What was picked from each slate of a table with one row per slate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.errors import InputError, counted
from recurate.log.reading import mapping as how
from recurate.log.reading.mapping import Mapping
from recurate.log.reading.values import (
    TIE,
    Decoded,
    Names,
    array_of,
    decode_codes,
    decode_words,
    flags_of,
    numbers_of,
    odd_ranks,
    soft,
)


@dataclass(frozen=True)
class Picks:
    """What was picked from each slate of a wide file.

    Attributes:
        row: Row of each slate, (slates,).
        place: Index of the picked alternative, (slates,); -1 a tie, NaN unreadable.
        weight: Votes of each slate, (slates,), or None if each counts once.
        voter: Name of the column of the vote, (slates,), or None.
        ranks: Ranks of the alternatives, (slates, alternatives), in place of a pick.
        unclear: The readings between which the values do not decide; empty if they decide.
        decided: Share of the rows of the table whose pick was understood.
    """

    row: NDArray[np.int64]
    place: NDArray[np.float64]
    weight: NDArray[np.float64] | None = None
    voter: NDArray[Any] | None = None
    ranks: NDArray[np.float64] | None = None
    unclear: str = ""
    decided: float = 1.0


def picks_of(table: pa.Table, mapping: Mapping, notes: list[str]) -> Picks:
    """Return what was picked from each slate; assumptions are added to the notes."""
    n, rows = table.num_rows, np.arange(table.num_rows)
    if mapping.form == "pairs":
        return Picks(rows, np.zeros(n))
    if mapping.how == how.NOTHING:
        return Picks(rows, np.full(n, np.nan))
    if mapping.how in (how.RANK, how.RATING):
        numbers = np.column_stack([numbers_of(array_of(table, c)) for c in mapping.marks])
        unclear = odd_ranks(numbers.ravel(), mapping.marks[0]) if mapping.how == how.RANK else ""
        ranks = -numbers if mapping.how == how.RATING else numbers
        decided = float((~np.isnan(ranks)).all(axis=1).mean())
        return Picks(rows, np.full(n, np.nan), ranks=ranks, unclear=unclear, decided=decided)
    if mapping.how in (how.MARKS, how.COUNTS):
        return _marked(table, mapping, notes)
    if mapping.how == how.BEST_WORST:
        return _best_worst(table, mapping, notes)
    return _voted(table, mapping, notes)


def _marked(table: pa.Table, mapping: Mapping, notes: list[str]) -> Picks:
    """Return the picks that one column per alternative marks, with shares and numbers of votes as weights."""
    k = len(mapping.alternatives)
    if mapping.yes:  # a flag for one of two
        won = flags_of(array_of(table, mapping.marks[0]))
        ties = [numbers_of(flags_of(array_of(table, c))) for c in mapping.marks[1:]]
        votes = np.column_stack(
            [*(won if a == mapping.yes else 1 - won for a in mapping.alternatives), *ties]
        )
    else:
        votes = np.column_stack([numbers_of(array_of(table, c)) for c in mapping.marks])
    if votes.shape[1] > k:  # a last column marks ties
        tie = votes[:, k] == 1
        votes = np.column_stack([np.where(tie, 0.5, votes[:, j]) for j in range(k)])
    whole = np.isnan(votes) | (votes == 0) | (votes == 1)
    n = len(votes)
    single = whole.all(axis=1) & (np.nansum(votes, axis=1) == 1)
    ties = (votes == votes[:, :1]).all(axis=1) & (votes[:, 0] > 0) & (mapping.how != how.COUNTS)
    if (single | ties | np.isnan(votes).any(axis=1) | (votes.sum(axis=1) == 0)).all():
        place = np.where(ties, TIE, np.where(single, np.argmax(np.nan_to_num(votes), axis=1), np.nan))
        return Picks(np.arange(n), place, decided=float((~np.isnan(place)).mean()))
    slate, alternative = np.nonzero(np.nan_to_num(votes) > 0)
    notes.append(
        f"{', '.join(mapping.marks[:k])} count votes"
        if mapping.how == how.COUNTS
        else "shares of votes are fractional votes"
    )
    return Picks(slate, alternative.astype(float), votes[slate, alternative])


def _best_worst(table: pa.Table, mapping: Mapping, notes: list[str]) -> Picks:
    """Return the ranks that the best and the worst imply: 1, 2 for the others, 3."""
    best, worst = (_decode(table, replace(mapping, votes=(v,)), v) for v in mapping.votes)
    k = len(mapping.alternatives)
    slots = np.arange(k)
    ranks = 2.0 - (slots == best.places[:, None]) + (slots == worst.places[:, None])
    unreadable = np.isnan(best.places) | np.isnan(worst.places) | (best.places == worst.places)
    ranks[unreadable] = np.nan
    notes += [*best.notes, "best and worst: those between are tied"]
    decided = float((~unreadable).mean())
    return Picks(np.arange(len(ranks)), best.places, ranks=ranks, unclear=best.unclear, decided=decided)


def _voted(table: pa.Table, mapping: Mapping, notes: list[str]) -> Picks:
    """Return the picks that columns of votes name."""
    votes, n = mapping.votes, table.num_rows
    if len(votes) == 1:
        graded = soft(numbers_of(array_of(table, votes[0])), len(mapping.alternatives))
        if graded is not None:
            share, note = graded
            notes.append(f"{votes[0]!r}: {note}")
            known = np.flatnonzero(~np.isnan(share))
            row = np.repeat(known, 2)
            weight = np.column_stack([1 - share[known], share[known]]).ravel()
            place = np.tile([0.0, 1.0], known.size)
            keep = weight > 0
            return Picks(row[keep], place[keep], weight[keep], decided=known.size / max(n, 1))
    decoded = [_decode(table, mapping, v) for v in votes]
    places = np.column_stack([d.places for d in decoded]).ravel()
    notes += dict.fromkeys(note for d in decoded for note in d.notes)
    unclear = next((d.unclear for d in decoded if d.unclear), "")
    skipped = sum(d.skipped for d in decoded)
    voter = np.tile(np.array(votes, object), n) if len(votes) > 1 else None
    understood = float((~np.isnan(places)).mean()) if places.size else 0.0
    notes += (
        [counted(skipped, "{pick is empty or says|picks are empty or say} that nothing was picked")]
        if skipped
        else []
    )
    return Picks(np.repeat(np.arange(n), len(votes)), places, None, voter, None, unclear, understood)


def _decode(table: pa.Table, mapping: Mapping, vote: str) -> Decoded:
    """Return the places that a column of picks names."""
    values = array_of(table, vote)
    if mapping.how in (how.NAMED, how.BEST_WORST) and "item" in mapping.stems:
        found = _named_in_row(table, mapping, values)
        if np.isfinite(found.places).mean() > 0.5:
            return found
    names = Names(
        mapping.alternatives,
        tuple(mapping.stems),
        tuple(mapping.stems.values()),
        mapping.ordered,
        mapping.places_from,
    )
    if values.dtype != object:
        codes = values.astype(float)
        if not names.counted and not mapping.ordered:
            found_codes = sorted(set(codes[~np.isnan(codes)].tolist()))
            raise InputError(
                "the choices are numbers and the alternatives are names, and their correspondence is unknown",
                got=f"codes {', '.join(f'{v:g}' for v in found_codes[:8])}; alternatives "
                f"{', '.join(mapping.alternatives)}",
                remedy="list the alternatives in the order of the codes: --alternatives A,B,C",
            )
        return decode_codes(codes, names)
    return decode_words(values, names)


def _named_in_row(table: pa.Table, mapping: Mapping, values: NDArray[Any]) -> Decoded:
    """Return the places of picks that repeat the name of a candidate of their row."""
    places = np.full(values.size, np.nan)
    texts = np.array(["" if v is None else str(v).strip() for v in values], object)
    for place, column in reversed(list(enumerate(mapping.stems["item"]))):
        if column is not None:
            own = np.array(["" if v is None else str(v).strip() for v in array_of(table, column)], object)
            places[(own == texts) & (texts != "")] = place
    rest = np.flatnonzero(np.isnan(places))
    words = decode_words(values[rest].astype(object), Names(mapping.alternatives))
    places[rest] = np.where(words.places < 0, words.places, np.nan)
    return Decoded(places, words.notes, skipped=words.skipped)
