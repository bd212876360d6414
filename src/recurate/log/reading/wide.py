"""Plausible readings of a table with one row per slate and columns for every alternative."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.log.reading import names as usual
from recurate.log.reading.columns import (
    count_role,
    flat_columns,
    holds_numbers,
    is_numeric,
    is_text,
    may_label,
    usual_roles,
    whole_numbers,
)
from recurate.log.reading.grids import VOTES, are_numbered, groupings
from recurate.log.reading.mapping import (
    BEST_WORST,
    COUNTS,
    MARKS,
    NAMED,
    PLACE,
    RANK,
    RATING,
    Given,
    Mapping,
    TwoReadings,
)
from recurate.log.reading.names import ITEM_STEMS, key, named
from recurate.log.reading.sources import FILE
from recurate.log.reading.values import (
    TIES,
    Names,
    are_flags,
    array_of,
    decode_words,
    flags_of,
    numbers_of,
    objects,
)

RANK_OF = re.compile(r"^(rank(ing)?|r)[_\-. ]|[_\-. ]rank$", re.I)
HIGHER = "(points?|borda|scores?|ratings?|stars)"  # of which more is better
POINTS = re.compile(rf"^{HIGHER}[_\-. ]|[_\-. ]{HIGHER}$", re.I)
BY_VALUES = "each row holds 1 to K: 1 is taken for the best"
MARK_WORDS = (
    "label", "winner", "won", "win", "chosen", "choice", "picked", "pick", "selected", "preferred",
    "is_chosen", "best",
)  # fmt: skip


def wide_readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the readings with one row per slate: by values, by groupings of columns, by option."""
    names = table.column_names
    yield from _by_value(table, given)
    for alternatives, stems in groupings(table, names, given.alternatives):
        yield from _outcomes_of(table, given, alternatives, stems)
    if not given.picks and not given.rewards:
        return
    yield from _option_columns(table, given)


def _base_wide(
    table: pa.Table,
    given: Given,
    alternatives: Sequence[str],
    stems: dict[str, tuple[str | None, ...]],
    taken: Sequence[str | None],
) -> Mapping:
    inside = [c for columns in (*stems.values(), taken) for c in columns if c]
    base = usual_roles(table, given.roles, ("chooser", "context", "round", "time"), taken=inside)
    rewards = given.rewards or tuple(usual.reward_names(stems))
    return replace(
        base,
        form="wide",
        alternatives=tuple(alternatives),
        stems=stems,
        ordered=bool(given.alternatives),
        rewards=rewards,
    )


def _outcomes_of(
    table: pa.Table, given: Given, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]]
) -> Iterator[Mapping]:
    """Yield the readings of one grouping: picks, votes, marks, ranks, ratings, or rewards alone."""
    k = len(alternatives)
    told = {"pick", "rank", "rating"} & given.roles.keys()
    if "pick" in given.roles:
        yield from _with_picks(table, given, alternatives, stems, (given.roles["pick"],), guessed=False)
    if not told:
        marks, tie = _marks(table, alternatives, stems)
        if marks:
            rest = {s: c for s, c in stems.items() if not set(c) & set(marks)}
            base = _base_wide(table, given, alternatives, rest, (*marks, *tie))
            yield replace(base, how=MARKS, marks=(*marks, *tie))
        single = _one_flag(table, alternatives)
        if single is not None:
            one, marks = single
            rest = {s: c for s, c in stems.items() if not set(c) & set(marks)}
            reasons = {MARKS: f"it says whether {one!r} was picked, else the other"}
            base = _base_wide(table, given, alternatives, rest, marks)
            reasons |= base.reasons
            yield replace(base, how=MARKS, marks=marks, yes=one, reasons=reasons)
        votes = tuple(n for n in table.column_names if VOTES.match(n))
        inside = {c for columns in stems.values() for c in columns if c is not None}
        if len(votes) > 1 and not marks:
            rest = {s: c for s, c in stems.items() if not set(c) & set(votes)}
            if rest:
                yield from _with_picks(table, given, alternatives, rest, votes, guessed=True)
        for name in [*named(flat_columns(table), "pick", inside), *votes[: len(votes) == 1]]:
            yield from _with_picks(table, given, alternatives, stems, (name,), guessed=True)
        for told_by in _telling(table, alternatives, stems):
            yield from _with_picks(
                table, given, alternatives, stems, told_by, reason="its values name the alternatives"
            )
        best = named(flat_columns(table), "pick", inside)
        worst = named(flat_columns(table), "worst", inside)
        if best and worst:
            base = _base_wide(table, given, alternatives, stems, (best[0], worst[0]))
            yield replace(base, how=BEST_WORST, votes=(best[0], worst[0]))
        for stem, columns in stems.items():
            if key(stem) in ("wins", "votes", "win", "nwins") and None not in columns:
                rest = {s: c for s, c in stems.items() if s != stem}
                yield replace(
                    _base_wide(table, given, alternatives, rest, columns),
                    how=COUNTS,
                    marks=tuple(c for c in columns if c),
                )
    for how in (RANK, RATING):
        for stem, columns in stems.items():
            asked = given.roles.get(how)
            usual_name = named([stem], how) and not told
            if None not in columns and k >= 2 and (asked in (stem, *columns) if asked else usual_name):
                rest = {s: c for s, c in stems.items() if s != stem}
                if how == RANK and not rest and not asked and holds_numbers(table, str(columns[0])):
                    _check_numbers(given, [c for c in columns if c], alternatives)
                base = _base_wide(table, given, alternatives, rest, columns)
                roles = {r: c for r, c in base.roles.items() if r != how}
                yield replace(base, roles=roles, how=how, marks=tuple(c for c in columns if c))
    numbered = are_numbered(alternatives)
    if not given.picks and usual.reward_names(stems) and not told and (numbered or given.alternatives):
        yield _base_wide(table, given, alternatives, stems, ())


NEGATIVE = re.compile(r"los(er|t|ing)|worse|worst|reject|eliminat|least|dispref|dislike|not_", re.I)


def _telling(
    table: pa.Table, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]]
) -> Iterator[tuple[str, ...]]:
    """Yield the columns of words that name the alternatives, whatever they are called.

    Columns that differ in a number, such as ``g1_winner`` and ``g2_winner``, are votes on the same slate.
    """
    inside = {c for columns in stems.values() for c in columns}
    words = Names(alternatives, tuple(stems), tuple(stems.values()))
    found: dict[str, list[str]] = {}
    for name in flat_columns(table):
        if (
            name in inside
            or VOTES.match(name)
            or named([name], "pick")
            or NEGATIVE.search(name)
            or not is_text(table.schema.field(name).type)
        ):
            continue
        values = pc.unique(table.column(name)).drop_null()
        if not 2 <= len(values) <= len(alternatives) + 6:
            continue
        texts = objects([v for v in values.to_pylist() if not v.strip().isdigit()])
        places = decode_words(texts, words).places
        if texts.size and np.isfinite(places).mean() >= 0.7 and np.unique(places[places >= 0]).size >= 2:
            found.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    yield from map(tuple, found.values())


def _with_picks(
    table: pa.Table, given: Given, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]],
    votes: tuple[str, ...], *, guessed: bool = True, reason: str = "its name",
) -> Iterator[Mapping]:  # fmt: skip
    rest = {s: c for s, c in stems.items() if not set(c) & set(votes)}
    if not rest and not given.alternatives:
        return
    base = _base_wide(table, given, alternatives, rest, votes)
    roles = dict(base.roles)
    if len(votes) == 1:
        roles = {"pick": votes[0], **{r: c for r, c in roles.items() if r != "pick"}}
    marked = base.guessed | ({"pick"} if guessed and len(votes) == 1 else set())
    reasons = base.reasons | ({"pick": reason} if guessed else {})
    alone = any(key(s) in map(key, ITEM_STEMS) for s in rest)
    joined = None if alone else _joined(table, len(alternatives), {*roles.values(), *votes})
    yield replace(base, roles=roles, votes=votes, how=PLACE, guessed=marked, reasons=reasons, joined=joined)


def _marks(
    table: pa.Table, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return one column of flags per alternative whose sum is 1 (or a tie), and a column that marks ties."""
    for stem, columns in stems.items():
        if (
            key(stem) in map(key, MARK_WORDS)
            and None not in columns
            and _one_hot(table, [c for c in columns if c])
        ):
            return tuple(c for c in columns if c), ()
    for word in MARK_WORDS:  # winner_model_a, winner_model_b, winner_tie
        start = [n for n in flat_columns(table) if n.lower().startswith(word) and key(n) != key(word)]
        own = {key(n.lower().removeprefix(word)): n for n in start}
        words = [{key(a), *(key(f"{s}{a}") for s in (*stems, "model", "response"))} for a in alternatives]
        found = [next((own[w] for w in choices if w in own), None) for choices in words]
        if all(found) and len(set(found)) == len(found):
            tie = tuple(n for w, n in own.items() if w in TIES)
            if _one_hot(table, [*(f for f in found if f), *tie]):
                return tuple(f for f in found if f), tie
    return (), ()


NO_WINNER = re.compile(r"(^|[_\-. ])(tie|ties|tied|draw|both|neither|equal|same)($|[_\-. ])", re.I)
WON = r"(wins?|won|winner|preferred|better|chosen|picked|selected)"
PREFERS = r"(prefers?|preferred|chose|chosen|picked|selected|won|winner)"


def _one_flag(table: pa.Table, alternatives: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return which of two won by a column of flags, as ``a_wins``, and that column, with one of ties."""
    if len(alternatives) != 2:
        return None
    for name in flat_columns(table):
        for alternative in alternatives:
            own = re.escape(alternative)
            told = rf"(is_)?{own}[_\-. ]?(is_)?{WON}|{PREFERS}[_\-. ]?(is_)?{own}"
            if re.fullmatch(told, name, re.I) and are_flags(array_of(table, name)):
                return alternative, (name, *_tie_of(table, name))
    return None


def _tie_of(table: pa.Table, won: str) -> tuple[str, ...]:
    """Return a column of flags that marks ties, none of which is a win."""
    wins = flags_of(array_of(table, won))
    for name in flat_columns(table):
        if name != won and (key(name) in TIES or NO_WINNER.search(name)):
            ties = flags_of(array_of(table, name))
            if (ties == 1).any() and not ((ties == 1) & (wins == 1)).any():
                return (name,)
    return ()


def _one_hot(table: pa.Table, columns: Sequence[str]) -> bool:
    """Return whether columns hold shares of votes that sum to 1 in most rows."""
    if not all(is_numeric(table.schema.field(c).type) for c in columns):
        return False
    values = np.column_stack(
        [np.asarray(table.column(c).cast(pa.float64()).to_numpy(), float) for c in columns]
    )
    inside = (values >= 0) & (values <= 1)
    return bool((np.isclose(values.sum(axis=1), 1) & inside.all(axis=1)).mean() > 0.8)


def _by_value(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the reading in which the pick repeats the name of a candidate, as in a, b, winner.

    The columns of candidates are those texts of a row in which the pick occurs.
    """
    if given.alternatives or {"rank", "rating"} & given.roles.keys():
        return
    picks = [given.roles["pick"]] if "pick" in given.roles else named(flat_columns(table), "pick")
    for pick in picks:
        kind = table.schema.field(pick).type
        if pa.types.is_nested(kind):
            continue
        values = table.column(pick).cast(pa.string())
        if pa.types.is_integer(kind) and len(pc.unique(values)) < 4:
            continue  # 0, 1 and 2 are places or flags
        there = ~np.array([v is None or key(v) in TIES or key(v) == "" for v in values.to_pylist()])
        others = [n for n in flat_columns(table) if n != pick and may_label(table, n)]
        same = {
            n: np.asarray(pc.fill_null(pc.equal(table.column(n).cast(pa.string()), values), False).to_numpy())
            & there
            for n in others
        }
        good = [n for n in others if same[n].sum() >= 0.02 * max(there.sum(), 1) and same[n].sum() > 0]
        if len(good) < 2 or not there.any():
            continue
        union = np.logical_or.reduce([same[n] for n in good])
        both = np.sum([same[n] for n in good], axis=0) > 1
        if union[there].mean() < 0.9 or both[there].mean() > 0.5:
            continue
        yield from _named_pair(table, given, pick, good)


def _named_pair(table: pa.Table, given: Given, pick: str, columns: Sequence[str]) -> Iterator[Mapping]:
    """Yield the reading with these columns of candidates, and the attributes grouped like them."""
    stems: dict[str, tuple[str | None, ...]] = {"item": tuple(columns)}
    alternatives = tuple(columns)
    for order, grouped in groupings(table, table.column_names, ()):
        own = next((s for s, c in grouped.items() if set(c) == set(columns)), None)
        if own is not None:
            alternatives = order
            stems = {("item" if s == own else s): c for s, c in grouped.items() if pick not in c}
            break
    base = _base_wide(table, given, alternatives, stems, (pick,))
    guessed = base.guessed | (set() if "pick" in given.roles else {"pick"})
    reason = {
        "pick": "given" if "pick" in given.roles else f"its values are those of {' and '.join(columns[:3])}"
    }
    yield replace(
        base,
        roles={"pick": pick, **base.roles, **count_role(table, (*columns, pick))},
        votes=(pick,),
        how=NAMED,
        guessed=guessed,
        reasons=base.reasons | reason,
    )


def _option_columns(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the reading with one column per option that holds its rank (1..K in every row)."""
    told = {"pick", "rating"} & given.roles.keys()
    if told or not given.picks or ("rank" not in given.roles and named(flat_columns(table), "pick")):
        return
    options = [n for n in given.alternatives if n in table.column_names and holds_numbers(table, n)]
    if options and len(options) == len(given.alternatives):
        base = _base_wide(table, given, options, {}, options)
        yield replace(
            base, how=RATING, marks=tuple(options), reasons=base.reasons | {RATING: "higher is better"}
        )
    numeric = [
        n for n in flat_columns(table) if is_numeric(table.schema.field(n).type) and whole_numbers(table, n)
    ]
    if len(numeric) < 2:
        return
    values = {n: numbers_of(array_of(table, n)) for n in numeric}
    least = {n: 0 if POINTS.search(n) else 1 for n in numeric}
    small = [n for n in numeric if least[n] <= np.nanmin(values[n]) <= np.nanmax(values[n]) <= len(numeric)]
    for size in range(len(small), 1, -1):
        for start in range(len(small) - size + 1):
            columns = small[start : start + size]
            block = np.sort(np.column_stack([values[n] for n in columns]), axis=1)
            higher = all(POINTS.search(n) for n in columns)
            first = 0 if higher and np.nanmin(block) == 0 else 1
            if (block == np.arange(first, first + size)).all(axis=1).mean() > 0.8 and len(block) >= 2:
                names = [(POINTS if higher else RANK_OF).sub("", n) for n in columns]
                base = _base_wide(table, given, names, {}, columns)
                if not higher:
                    _check_numbers(given, columns, names)
                reason = "higher is better, as of points" if higher else BY_VALUES
                reasons = {RATING if higher else RANK: "" if RANK_OF.search(columns[0]) else reason}
                yield replace(
                    base,
                    how=RATING if higher else RANK,
                    marks=tuple(columns),
                    reasons=base.reasons | reasons,
                )
                return


def _check_numbers(given: Given, columns: Sequence[str], names: Sequence[str]) -> None:
    """Raise TwoReadings for rank_1, rank_2, ...: ranks of items 1, 2, ..., or the items of these ranks."""
    numbers = [str(i + 1) for i in range(len(names))]
    if sorted(names) == numbers and RANK_OF.search(columns[0]) and given.form is None:
        raise TwoReadings(
            f"{columns[0]} may hold the rank of item 1, or the item of rank 1",
            got=f"numbers from 1 to {len(names)} in {', '.join(columns)}",
            remedy="for the items in the order of their ranks --form rankings; for ranks --form wide",
        )


def _joined(table: pa.Table, count: int, taken: set[str]) -> tuple[str, str] | None:
    """Return a column of texts that name all alternatives, as in ``model-x_model-y``, and its separator."""
    for name in table.column_names:
        if name in (*taken, FILE) or not pa.types.is_string(table.schema.field(name).type) or count < 2:
            continue
        values = [v for v in pc.unique(table.column(name)).to_pylist() if v is not None]
        if not values or len(values) > max(20, table.num_rows // 10):
            continue
        for separator in (" vs ", "||", "|", "_", ",", "/"):
            parts = [v.split(separator) for v in values]
            if all(len(p) == count and all(p) and len(set(p)) == count for p in parts):
                return name, separator
    return None
