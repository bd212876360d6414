"""The choice among the plausible readings of a table, and its account: what each column was taken for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingType
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from recurate.core.errors import InputError, cut, nearest, short
from recurate.log.reading import mapping as how
from recurate.log.reading.columns import is_list, is_numeric, is_text
from recurate.log.reading.forms import NONE, RANK, STANDARD, Unfolded, unfold
from recurate.log.reading.grids import are_numbered, groupings
from recurate.log.reading.mapping import (
    Given,
    Mapping,
    TwoReadings,
    check_given,
    columns_of,
    marked,
    outcome_columns,
    two_ways,
)
from recurate.log.reading.names import SURE_PICKS, key, listed, named, reward_names
from recurate.log.reading.rewards import terms
from recurate.log.reading.roles import readings
from recurate.log.reading.values import codes_of, flags_of, measures_of, objects

TRIED = 3000  # rows on which readings are tried
FORM_TEXT = {  # the likeliest first
    "long": "one row per candidate", "pairs": "one row per pair",
    "wide": "one row per slate, columns per alternative", "lists": "one row per slate, lists of candidates",
    "rankings": "one row per ranking",
}  # fmt: skip


@dataclass(frozen=True)
class Understood:
    """How a table is read.

    Attributes:
        mapping: The reading that was chosen.
        rivals: Other readings that use as many rows, in words.
        notes: What was understood of the file itself, and what was assumed.
        unused: Columns without a role, with the reason.
    """

    mapping: Mapping
    rivals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unused: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, str]]:
        """Return one row per role: ``role``, ``column``, ``reason``, ``or`` (what else it might be)."""
        found, m = [], self.mapping
        other = "; ".join(self.rivals)
        found.append({"role": "form", "column": m.form, "reason": FORM_TEXT[m.form], "or": other})
        for role, column in m.roles.items():
            found.append(_row(m, role, column))
        if "slate" not in m.roles and (m.keys or m.blocks):
            found.append(_row(m, "slate", " + ".join(m.keys) or "row blocks"))
        elif len(m.keys) > 1:
            found.append(_row(m, "slate key", " + ".join(m.keys)))
        if m.votes and "pick" not in m.roles:
            found.append(_row(m, "picks", ", ".join(m.votes)))
        if m.marks:
            found.append(_row(m, marked(m), ", ".join(m.marks)))
        if m.alternatives and m.form == "wide":
            found.append(_row(m, "alternatives", ", ".join(m.alternatives)))
        found += [
            _row(m, stem or "item", ", ".join(c or "-" for c in columns))
            for stem, columns in m.stems.items()
            if stem not in m.rewards or m.form != "lists"
        ]
        if m.joined:
            found.append(_row(m, "item", f"{m.joined[0]}, separated by {m.joined[1]!r}"))
        if m.rewards:
            found.append(_row(m, "reward", ", ".join(m.rewards)))
        return found

    def text(self) -> list[str]:
        """Return the account as lines of text."""
        lines = []
        for row in self.rows():
            more = f" ({row['reason']})" if row["reason"] else ""
            rival = f"; or {row['or']}" if row["or"] else ""
            lines.append(f"{row['role']}: {row['column']}{more}{rival}")
        lines += self.notes
        lines += [f"not used: {name} ({why})" for name, why in self.unused.items()]
        return [cut(line) for line in lines]


def _row(m: Mapping, role: str, column: str) -> dict[str, str]:
    return {
        "role": role, "column": column, "reason": m.reasons.get(role, ""),
        "or": ", ".join(m.rivals.get(role, ())),
    }  # fmt: skip


def understand(table: pa.Table, given: Given) -> Understood:
    """Return the reading of a table that leaves the most rows usable.

    Args:
        table: The table, or its first rows.
        given: What the user said; it is used unchanged.

    Raises:
        InputError: If a named column does not exist, or no reading leaves anything usable.
    """
    check_given(given, table.column_names)
    part = table.slice(0, TRIED)
    tried: list[tuple[tuple[float, ...], Mapping]] = []
    first_error: InputError | None = None
    for mapping in readings(part, given):
        try:
            made = unfold(part, mapping, everything=not given.picks)
            tried.append((_worth(made, mapping, given), mapping))
        except InputError as error:
            if first_error is None or isinstance(error, TwoReadings):
                first_error = error
    best = max(tried, key=lambda t: t[0], default=None)
    if best is None or (best[0][0] <= 0 and not _leave_to_slates(part, best[1], given)):
        _refuse(table, given, tried, first_error)
    assert best is not None
    worth, mapping = best
    with accounted(Understood(mapping)):
        _check_ragged(mapping, given)
        _check_displayed(part, mapping, given)
    _check_ignored(part, mapping, given)
    if given.places_from is not None and mapping.how not in (how.PLACE, how.BEST_WORST):
        raise with_account(
            InputError(
                "--places-from has no effect: the picks are no places",
                got=", ".join(outcome_columns(mapping)) or "no picks",
                remedy="leave it out, or name the column of places: --pick COLUMN",
            ),
            Understood(mapping),
        )
    rivals = tuple(
        dict.fromkeys(
            _short(m, mapping)
            for w, m in tried
            if m is not mapping and outcome_columns(m) and w[0] >= 0.98 * worth[0] and _differs(m, mapping)
        )
    )
    return Understood(mapping, rivals[:3], unused=_unused(table, mapping, given))


def _leave_to_slates(table: pa.Table, mapping: Mapping, given: Given) -> bool:
    """Return whether a reading has slates and picks that are read: its slates tell why none is usable."""
    made = unfold(table, mapping)
    return (
        given.picks
        and made.kind != NONE
        and made.columns["slate"].size > 0
        and not made.unclear
        and made.decided > 0
    )


def _check_ignored(table: pa.Table, mapping: Mapping, given: Given) -> None:
    """Raise InputError if a reading ignores a reward that holds words, or picks that cannot be read."""
    if given.picks or mapping.form != "long":
        return
    for name in table.column_names:
        if key(name) == "reward" and not mapping.rewards and is_text(table.schema.field(name).type):
            value = next((v for v in table.column(name).to_pylist() if v is not None), None)
            raise InputError(
                f"the reward {name!r} must hold numbers",
                got=short(value),
                remedy="repair the column, or rename it",
            )
    for name in named(table.column_names, "pick"):
        told = mapping.how != how.NOTHING or given.roles.get("pick") == "none"
        if (
            told
            or name in columns_of(mapping)
            or key(name) not in SURE_PICKS
            or pa.types.is_nested(table.schema.field(name).type)
        ):
            continue
        values = [v for v in table.column(name).unique().to_pylist() if v is not None]
        if 0 < len(values) <= 10 and np.isnan(flags_of(objects(values))).any():
            raise InputError(
                f"column {name!r} is named like picks, and its values cannot be read as picks",
                got=listed([str(v) for v in values]),
                remedy="yes and no mark picks; name the slates: --slate COLUMN; or read none: --pick none",
            )


def _worth(found: Unfolded, mapping: Mapping, given: Given) -> tuple[float, ...]:
    """Return how much of a table a reading uses: rows in usable slates, in picks, and columns."""
    picks = _usable_picks(found)
    form = -float(list(FORM_TEXT).index(mapping.form))
    order = form, -_idle(found, mapping), len(columns_of(mapping))
    if given.picks:  # lists that hold the chosen one among others, with rewards, tell more than a pair
        whole = float(mapping.form == "lists" and bool(mapping.rewards))
        return (round(picks, 1) or picks, whole, *order, picks)
    rewards = _usable_rewards(found, mapping, given)
    return (rewards if rewards > 0 else 0.01 * picks, round(picks, 1), *order, picks)


def _usable_picks(found: Unfolded) -> float:
    """Return the share of rows in slates of two or more with a pick or a ranking that holds information."""
    if found.kind == NONE or not found.columns["slate"].size:
        return 0.0
    result = found.columns["result"].astype(float)
    codes = codes_of(found.columns, ("slate", "round"))
    sizes = np.bincount(codes)
    bad = np.bincount(codes, np.isnan(result)) > 0
    low = np.full(sizes.size, np.inf)
    high = np.full(sizes.size, -np.inf)
    filled = np.nan_to_num(result)
    np.minimum.at(low, codes, filled)
    np.maximum.at(high, codes, filled)
    good = (sizes >= 2) & ~bad & ((high > low) | ((sizes == 2) & (found.kind != RANK) & (high > 0)))
    if found.kind != RANK:  # readings in which slates have one pick each are likelier
        many = np.bincount(codes, filled) > 0.5 * sizes
        good &= ~(many & (sizes > 2))
    return float(sizes[good].sum() / codes.size) * found.decided


def _idle(found: Unfolded, mapping: Mapping) -> float:
    """Return how many of the alternatives that have no names are never picked, or have no reward."""
    if mapping.form != "wide" or not are_numbered(mapping.alternatives):
        return 0.0
    lacking = {
        place for s in mapping.rewards for place, n in enumerate(mapping.stems.get(s, ())) if n is None
    }
    if mapping.how != how.PLACE or not found.columns["slate"].size:
        return float(len(lacking))
    picked = np.nan_to_num(found.columns["result"]) > 0
    return float(len(mapping.alternatives) - np.unique(found.columns["slot"][picked]).size)


def _check_ragged(mapping: Mapping, given: Given) -> None:
    """Raise InputError if the numbers in the columns' names count alternatives or something else."""
    k = len(mapping.alternatives)
    lacking = [s for s, c in mapping.stems.items() if None in c and sum(n is not None for n in c) > 1]
    lacking = [s for s in lacking if not given.others or s in given.others]
    if mapping.form != "wide" or given.alternatives or not lacking or not are_numbered(mapping.alternatives):
        return
    full = [s for s, c in mapping.stems.items() if None not in c]
    fewer = [a for a, n in zip(mapping.alternatives, mapping.stems[lacking[0]], strict=True) if n is not None]
    raise InputError(
        f"columns are numbered differently: {listed(lacking)} for {len(fewer)} alternatives, "
        f"{listed(full) or 'others'} for {k}",
        got=f"numbers {', '.join(mapping.alternatives)}",
        remedy=f"list them: --alternatives {','.join(fewer)}, or {','.join(mapping.alternatives)}; "
        f"or name what describes them: --feature {(full or lacking)[0]}",
    )


def _check_displayed(table: pa.Table, mapping: Mapping, given: Given) -> None:
    """Raise InputError if ranks or ratings may describe what was shown: a column marks one of each slate.

    In pairs whose ranks do not follow the file's order, that column may well be a feature.
    """
    if mapping.form != "long" or mapping.how not in (how.RANK, how.RATING) or mapping.how in given.roles:
        return
    made = unfold(table, mapping)
    result, codes = made.columns["result"], codes_of(made.columns, ("slate", "round"))
    sizes = np.bincount(codes)
    order = np.lexsort((np.arange(codes.size), codes))
    rising = (np.diff(result[order]) > 0) | (np.diff(codes[order]) > 0)
    if not sizes.size or (sizes.mean() < 2.5 and not rising.all()):
        return
    best = np.full(sizes.size, np.inf)
    np.minimum.at(best, codes, np.where(np.isnan(result), np.inf, result))
    column = mapping.roles[mapping.how]
    for name in made.columns:
        if name not in table.column_names or name in columns_of(mapping) or name in given.others:
            continue
        flags = np.nan_to_num(flags_of(made.columns[name]))
        marked, once = flags == 1, np.bincount(codes, flags) == 1
        if not marked.any() or once.mean() < 0.95 or (result[marked] == best[codes[marked]]).mean() > 0.9:
            continue
        raise InputError(
            f"{column!r} may rank the candidates, or describe what was shown: {name!r} marks one candidate "
            "of each slate, often not the best",
            got=f"{sizes.size} slates",
            remedy=f"--pick {name} if it marks the picks; --{mapping.how} {column} if that is the outcome",
        )


def _usable_rewards(found: Unfolded, mapping: Mapping, given: Given) -> float:
    """Return the share of candidates with a finite reward; 0 without rewards, or with one candidate."""
    names = [part for name in mapping.rewards for part in terms(name, found.columns)]
    if not names or not all(n in found.columns for n in names) or not found.columns["slate"].size:
        return 0.0
    finite = [np.isfinite(measures_of(found.columns[n])) for n in names]
    return float(np.logical_or.reduce(finite).mean())


def _differs(one: Mapping, other: Mapping) -> bool:
    """Return whether two readings take their picks or slates from different columns."""
    picks, others = set(outcome_columns(one)), set(outcome_columns(other))
    return not ((one.keys, one.form) == (other.keys, other.form) and picks <= others)


def _short(m: Mapping, chosen: Mapping) -> str:
    picks = ", ".join(outcome_columns(m)) or "no picks"
    slate = f", slate {' + '.join(m.keys)}" if m.keys and m.keys != chosen.keys else ""
    return f"{m.form} with {picks}{slate}"


def _unused(table: pa.Table, mapping: Mapping, given: Given) -> dict[str, str]:
    """Return the columns of a file with one row per slate that no role takes; others may be features."""
    if mapping.form == "long":
        return {}
    used = columns_of(mapping) | set(given.others)
    return {n: "the same for all candidates of a slate" for n in table.column_names if n not in used}


def _only_rewards(table: pa.Table, given: Given) -> InputError | None:
    """Return the error of a fit from a file that holds rewards and no picks; None if it holds no rewards."""
    if {"pick", "rank", "rating"} & given.roles.keys():
        return None
    try:
        found = understand(table, replace(given, picks=False))
    except InputError:
        return None
    if not found.mapping.rewards or outcome_columns(found.mapping):
        return None
    rewards = ", ".join(f"`{n}`" for n in found.mapping.rewards)
    return with_account(
        InputError(
            f"the file holds rewards ({rewards}) and no picks", got=f"columns {listed(table.column_names)}",
            remedy="recurate forecast, plan and audit read it as it is; or name a column of picks: "
            "--pick COLUMN",
        ),
        found,
    )  # fmt: skip


def _refuse(
    table: pa.Table,
    given: Given,
    tried: Sequence[tuple[tuple[float, ...], Mapping]],
    error: InputError | None,
) -> None:
    """Raise InputError that says what is missing."""
    if error is not None and (not tried or isinstance(error, TwoReadings)):
        raise error
    names = table.column_names
    got = f"columns {listed(names)}"
    without = _only_rewards(table, given) if given.picks else None
    if without is not None:
        raise without
    if tried:
        best = Understood(max(tried, key=lambda t: t[0])[1])
        unfolded = unfold(table.slice(0, TRIED), best.mapping)
        if unfolded.columns["slate"].size == 0:
            raise InputError("no row belongs to a slate", got="0 rows", remedy="fill in the column of slates")
        if not given.picks:
            raise _no_rewards(table, given)
        if unfolded.unclear:
            raise with_account(two_ways(unfolded.unclear), best)
        error = InputError(
            "no slate can be used", got=_why(unfolded), remedy="name the columns: --slate, --pick and so on"
        )
        raise with_account(error, best)
    if not given.picks:
        raise InputError(
            "the file holds neither rewards nor picks that can be identified", got=got,
            remedy="name the column of rewards: --reward COLUMN",
        )  # fmt: skip
    lists = any(is_list(f.type) for f in table.schema)
    form = given.form or ("lists" if lists and not named(names, "slate") else "")
    stems = bool(list(groupings(table, names, given.alternatives)))
    if form == "long":
        what = "a file with one row per candidate needs a column of slates and one of picks or ranks"
        raise InputError(what, got=got, remedy="name the columns: --slate COLUMN --pick COLUMN")
    if form == "lists":
        what = "a file of lists needs a list of ranks, ratings or flags, or a column of the picks' places"
        raise InputError(
            what, got=got, remedy="name the column: --rank COLUMN, --rating COLUMN or --pick COLUMN"
        )
    if form in ("wide", "pairs") or stems:
        what = "a file with one row per slate needs a column of picks"
        rating = next((n for n in names if n.endswith("_rating_one")), "COLUMN")
        raise InputError(
            what, got=got, remedy=f"name the column: --pick COLUMN (or --rating {rating}, --rank COLUMN)"
        )
    raise InputError(
        "the slates and picks of this file cannot be identified", got=got,
        remedy="name the columns: --slate COLUMN --pick COLUMN (one row per candidate), or --alternatives "
        "A,B,C --pick COLUMN (one row per slate)",
    )  # fmt: skip


def _no_rewards(table: pa.Table, given: Given) -> InputError:
    """Return the error about named columns that do not exist or hold no numbers, or about no rewards."""
    for name in (part for reward in given.rewards for part in terms(reward, table.column_names)):
        if name not in table.column_names:
            got = f"columns {listed(table.column_names)}"
            what = f"there is no column {name!r} for --reward"
            return InputError(what, got=got, remedy=nearest(name, table.column_names))
        value = next((v for v in table.column(name).to_pylist() if v is not None), None)
        if name in STANDARD:
            what = f"no reward may be called {name!r}"
            return InputError(what, got=short(value), remedy="rename the column")
        return InputError(
            f"the reward {name!r} must hold numbers",
            got=short(value),
            remedy="name a numeric column: --reward COLUMN",
        )
    for name in reward_names(table.column_names):
        texts = [v for v in table.column(name).to_pylist() if isinstance(v, str)]
        if texts:
            return InputError(
                f"the column {name!r} is called like a reward, and its values are not read as numbers",
                got=short(texts[0]),
                remedy="write them as numbers with a decimal point and without units; or --reward COLUMN",
            )
    numeric = [f.name for f in table.schema if is_numeric(f.type)]
    return InputError(
        "no column of rewards can be identified",
        got=f"numeric columns {listed(numeric) or 'none'}",
        remedy="name the column: --reward COLUMN; or learn rewards from picks with 'recurate fit'",
    )


def _why(found: Unfolded) -> str:
    if found.kind == NONE:
        return "no picks"
    result = found.columns["result"].astype(float)
    sizes = np.bincount(codes_of(found.columns, ("slate", "round")))
    unreadable = int(np.isnan(result).sum())
    parts = [f"{sizes.size} slates of {sizes.min()} to {sizes.max()} candidates"]
    parts += [f"{unreadable} of {result.size} values of the picks cannot be read"] if unreadable else []
    return "; ".join(parts)


def with_account(error: InputError, found: Understood) -> InputError:
    """Return the error with the account of what was understood, which the command line prints before it."""
    error.account = tuple(found.text())
    return error


@contextmanager
def accounted(found: Understood | None) -> Iterator[None]:
    """Give errors that arise in the block the account of what was understood of the input."""
    try:
        yield
    except InputError as error:
        raise (error if found is None or error.account else with_account(error, found)) from None


def guess(
    table: pa.Table,
    given: MappingType[str, str],
    *,
    form: str | None = None,
    alternatives: tuple[str, ...] = (),
) -> Mapping:
    """Return the mapping of a table of picks; what the user gave is used unchanged, and the rest is guessed.

    Args:
        table: Table as it was read.
        given: Columns that the user named, by role.
        form: Form of the file; None: guess it.
        alternatives: Alternatives of a wide file, in the order of the codes in its picks.

    Raises:
        InputError: If a given column does not exist, or slates and picks cannot be identified.
    """
    return understand(table, Given(given, form, alternatives)).mapping
