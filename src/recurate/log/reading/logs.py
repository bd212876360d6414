"""From a table of any form to a validated log: candidates with rewards, prompts, rounds, and any picks."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.arrays import IntArray
from recurate.core.errors import InputError, counted, nearest, short
from recurate.log.reading.forms import NONE, RANK, Unfolded, unfold
from recurate.log.reading.long import FEW_EMPTY, keyed_again
from recurate.log.reading.mapping import Given, Mapping, columns_of, outcome_columns, two_ways
from recurate.log.reading.names import key, listed
from recurate.log.reading.pooling import lone_prompts, oddities, sentinels, undecided_context, unread_marks
from recurate.log.reading.rewards import ADVANTAGES, check_rewards, rewards_of, terms
from recurate.log.reading.understand import Understood, accounted
from recurate.log.reading.values import blank, codes_of, numbers_of, steps_of, with_none
from recurate.log.schema import COLUMNS, REAL, Log, as_log

PAIRS = (
    "candidates are the chosen and the rejected of pairs: if these are the best and the worst of larger "
    "sets, as in data for DPO, their rewards are not the model's, and neither is the forecast"
)
PLACES = ("slot", "position", "pos", "place")  # a column so named holds positions

LARGEST_NUMBER = 2.0**53  # above which whole numbers are not all doubles
ENOUGH = 8  # prompts of several candidates from which a reward that never varies within them is a mean


@dataclass(frozen=True)
class Opened:
    """A log, and how it was read.

    Attributes:
        log: The log.
        understood: The reading of its table; None for a log that recurate wrote.
        warnings: What may change the result.
        notes: What was assumed or left out.
        placed: Whether slots are the positions in which candidates were shown.
        left_out: Number of slates that were left out.
        sampled: Whether it is the first slates of every round of a log that is read in parts.
    """

    log: Log
    understood: Understood | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    placed: bool = True
    left_out: int = 0
    sampled: bool = False


def _check_varies(candidates: MappingType[str, NDArray[Any]], rewards: Sequence[str]) -> None:
    """Raise InputError if a reward is the same for all candidates of each of several prompts: a mean, say."""
    by = [n for n in ("round", "context", "slate") if n in candidates]
    if not by or by == ["round"]:
        return
    groups = codes_of(candidates, by)
    sizes = np.bincount(groups)
    for name in rewards:
        values = numbers_of(candidates[name])
        centred = values - (np.bincount(groups, values) / sizes)[groups]
        spread = float(np.abs(values - values.mean()).max())
        if (sizes > 1).sum() >= ENOUGH and spread > 0 and np.abs(centred).max() < 1e-9 * spread:
            raise InputError(
                f"the reward {name!r} is the same for all candidates of each prompt, as a mean is",
                got=f"{sizes.size} prompts or slates",
                remedy="name the candidates' own reward: --reward COLUMN",
            )


def _check_contexts(candidates: MappingType[str, NDArray[Any]], mapping: Mapping) -> None:
    """Raise InputError if many candidates have no prompt where others have one, as below merged cells."""
    if "context" not in candidates:
        return
    real = (
        candidates["source"] == REAL if "source" in candidates else np.zeros(len(candidates["context"]), bool)
    )
    empty = blank(candidates["context"])[~real]
    if FEW_EMPTY < empty.mean() < 1:
        name = mapping.roles.get("context", "context")
        raise InputError(
            f"the context {name!r} is empty in {int(empty.sum())} of {empty.size} rows",
            got="some rows with a prompt, others without",
            remedy="fill in the cells (below merged ones, say); or --context none if all share one prompt",
        )


def needed_columns(head: pa.Table, found: Understood, given: Given) -> list[str]:
    """Return the columns of a table that a log needs; the texts of samples are not among them."""
    names = head.column_names
    wanted = columns_of(found.mapping) | {t for r in found.mapping.rewards for t in terms(r, names)}
    wanted |= {*given.others, "source", "propensity", *(n for n in names if key(n) in ADVANTAGES)}
    return [n for n in names if n in wanted]


def log_from(head: pa.Table, table: pa.Table, found: Understood, given: Given, name: str) -> Opened:
    """Return a table as a log.

    Args:
        head: First rows with all columns, from which the roles were guessed.
        table: The table, with the columns of :func:`needed_columns` at least.
        found: How the table is read.
        given: What the user said.
        name: Name of the source in messages.

    Raises:
        NoRewards: If no rewards are found.
        InputError: If readings cannot be decided, or a row is invalid.
    """
    found = replace(found, mapping=keyed_again(table, found.mapping))
    with accounted(found):
        return _log_from(head, table, found, given, name)


def _log_from(head: pa.Table, table: pa.Table, found: Understood, given: Given, name: str) -> Opened:
    mapping = found.mapping
    check_rewards(mapping, given, head.column_names)
    candidates, kind, said = _candidates(table, mapping, given)
    rewards, more = rewards_of(candidates, mapping, given)
    said += more
    candidates |= rewards
    before = candidates
    candidates, warnings = _finite(candidates, list(rewards), kind, name)
    candidates = _rounds(candidates, mapping, said)
    _check_varies(candidates, list(rewards))
    _check_contexts(candidates, mapping)
    warnings += [*([PAIRS] if mapping.form == "pairs" else []), *oddities(head, mapping)]
    warnings += sentinels(candidates, list(rewards))
    if kind == NONE and "slate" in candidates and np.bincount(_slates_of(candidates)).max() == 1:
        slate = mapping.roles.get("slate", "row")
        said.append(f"every slate ({slate!r}) has one candidate: they are not used")
        del candidates["slate"]
    if kind != NONE and "slate" in given.roles and np.bincount(_slates_of(candidates)).max() == 1:
        raise InputError(
            "every slate has one row, so that nothing is picked from another",
            got=f"{given.roles['slate']!r} as slate",
            remedy="leave out --slate, or name the column that the candidates of one choice share",
        )
    named = "slate" in mapping.roles
    candidates = _picked(candidates, kind, said, readable=given.readable, named=named)
    if "context" not in candidates and given.roles.get("context") != "none":
        warnings += undecided_context(head, mapping, given, candidates, list(rewards))
        warnings += lone_prompts(head, mapping)
    if "pick" not in given.roles:
        warnings += unread_marks(head, mapping)
    left_out = _slates_lost(before, candidates)
    _drop_odd(candidates, mapping, said)
    kept = {*COLUMNS, *rewards, *given.others}
    columns = {n: _arrow(v, n) for n, v in candidates.items() if n in kept}
    for other in given.others:
        if other not in columns:
            raise InputError(
                f"there is no column {other!r}",
                got=f"columns {listed(head.column_names)}",
                remedy=nearest(other, head.column_names),
            )
    log = as_log(pa.table(columns), rewards=list(rewards), name=name, several=True)
    placed = "slot" in candidates or mapping.form == "long"
    return Opened(log, found, tuple(warnings), tuple(dict.fromkeys(said)), placed, left_out)


def _slates_of(candidates: MappingType[str, NDArray[Any]]) -> IntArray:
    """Return a number per candidate (rows,), the same where candidates share round and slate."""
    return codes_of(candidates, ("round", "slate"))


def _slates_lost(before: MappingType[str, NDArray[Any]], after: MappingType[str, NDArray[Any]]) -> int:
    """Return the number of slates that were left out with all their rows."""
    if "slate" not in after or len(before["slate"]) == len(after["slate"]):
        return 0
    return int(_slates_of(before).max() - _slates_of(after).max())


def _finite(
    candidates: dict[str, NDArray[Any]], rewards: Sequence[str], kind: str, name: str
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the candidates with finite rewards, and a warning about the others.

    A slate with a pick is left out whole: among fewer candidates its pick would mean another thing.
    """
    lost = ~np.isfinite(np.column_stack([candidates[r] for r in rewards])).all(axis=1)
    if not lost.any():
        return candidates, []
    what = counted(
        int(lost.sum()),
        "{candidate|candidates} without a finite reward {is|are} left out",
    )
    if kind != NONE and "slate" in candidates:
        codes = _slates_of(candidates)
        lost |= (np.bincount(codes, lost)[codes] > 0) & ~_outside(candidates["slate"])
        text = "{slate|slates} with a candidate without a finite reward {is|are} left out, "
        what = counted(np.unique(codes[lost]).size, text) + counted(int(lost.sum()), "candidates in all")
    if lost.all():
        raise InputError(
            f"{name} has no slate whose rewards are all finite numbers",
            got=", ".join(rewards),
            remedy="repair the rows, or name another column: --reward COLUMN",
        )
    return {n: v[~lost] for n, v in candidates.items()}, [what]


# --- candidates -----------------------------------------------------------------------------------


def _candidates(
    table: pa.Table, mapping: Mapping, given: Given
) -> tuple[dict[str, NDArray[Any]], str, list[str]]:
    """Return the candidates' columns under the log's names, the kind of picks, and notes.

    Raises:
        InputError: If the picks can be read in two ways, or count several times or in part, as no log's do.
    """
    made: Unfolded = unfold(table, mapping, everything=True)
    if made.unclear:
        raise two_ways(made.unclear)
    columns = dict(made.columns)
    weights = columns.pop("weight", None)
    if weights is not None and made.kind != NONE and not (numbers_of(weights) == 1).all():
        raise InputError(
            "picks count several times or in part, and a log holds single picks",
            got=", ".join(outcome_columns(mapping)) or mapping.roles.get("count", "weights"),
            remedy="recurate fit reads them; or read the rewards alone: --pick none",
        )
    if mapping.form == "long" and "slate" not in mapping.roles and not mapping.blocks and made.kind != RANK:
        columns.pop("slate")  # where prompts are slates, the rule of the picks decides
    if given.roles.get("context") == "none":
        columns.pop("context", None)
    notes = [n for n in made.notes if "rows belong to no slate" not in n]
    named = {column: role for role, column in mapping.roles.items()}
    for other in given.others:
        if other in table.column_names and other not in columns:
            if mapping.form != "long":
                columns[other] = _repeated(table, other, made)
            elif named.get(other) in columns:  # a column of groups may be that of the items, too
                columns[other] = columns[named[other]]
    return columns, made.kind, notes


def _repeated(table: pa.Table, name: str, made: Unfolded) -> NDArray[Any]:
    """Return a column with one value per slate for every candidate."""
    values = np.array(table.column(name).to_pylist(), object)
    rows = made.columns["source_row"] if "source_row" in made.columns else made.columns["slate"]
    return values[rows.astype(np.int64)]


def _picked(
    candidates: dict[str, NDArray[Any]], kind: str, said: list[str], *, readable: bool, named: bool
) -> dict[str, NDArray[Any]]:
    """Return the candidates with ``picked`` in place of ``result``: the single best of ranks.

    Slates whose pick cannot be read are left out if ``readable``, else kept without a pick. ``named``: see
    :func:`_numbered_slates`.
    """
    result = candidates.pop("result", None)
    if kind == NONE or result is None:
        candidates.pop("picked", None)
        return candidates
    if "slate" in candidates:
        codes = _slates_of(candidates)
        candidates["slate"] = _numbered_slates(candidates, named=named)
    bad = np.isnan(result)
    if kind == RANK:
        best = np.full(codes.max() + 1, np.inf)
        np.minimum.at(best, codes, np.where(bad, np.inf, result))
        top = result == best[codes]
        single = np.bincount(codes, top) == 1
        candidates["picked"] = top & single[codes] & ~_outside(candidates["slate"])
        ties = int((~single).sum())
        said += [f"{ties} slates have no single best: nothing was picked there"] if ties else []
    else:
        candidates["picked"] = np.nan_to_num(result) == 1
    if not bad.any():
        return candidates
    if "slate" in candidates:
        lost = (np.bincount(codes, bad)[codes] > 0) & ~_outside(candidates["slate"])
        count, what = np.unique(codes[lost]).size, "{slate|slates}"
    else:
        lost = bad
        count, what = int(bad.sum()), "{candidate|candidates}"
    then = "{is|are} left out" if readable else "{counts|count} without a pick"
    said.append(counted(count, f"{what} with an unreadable or missing pick {then}"))
    if lost.all():
        raise InputError(
            "no pick can be read",
            got=said[-1],
            remedy="yes and no mark picks; name another column: --pick COLUMN, or none",
        )
    if readable:
        return {n: v[~lost] for n, v in candidates.items()}
    candidates["picked"] = candidates["picked"] & ~lost
    return candidates


def _numbered_slates(candidates: MappingType[str, NDArray[Any]], *, named: bool) -> NDArray[Any]:
    """Return the number of each candidate's slate, None outside slates.

    Whole numbers of a column (``named``) are kept, and names that recur have one number in all rounds, so
    that slates of several rounds correspond where some are missing. Others are numbered within rounds.
    """
    slates = candidates["slate"]
    outside = _outside(slates)
    numbered = _whole_numbers(slates, outside) if named else None
    if numbered is None:
        codes, own = codes_of(candidates, ("slate",)), _slates_of(candidates)
        recur = named and own.max() > codes.max()
        numbered = _within(codes, None) if recur else _within(own, candidates.get("round"))
    return with_none(numbered, outside) if outside.any() else numbered


def _whole_numbers(slates: NDArray[Any], outside: NDArray[np.bool_]) -> IntArray | None:
    """Return slates that are whole numbers from 0 as such, and 0 for those outside; None if one is not."""
    own = slates[~outside]
    if own.dtype == object and not all(
        isinstance(v, int)
        or (isinstance(v, str) and v.isascii() and v.isdigit() and (v[0] != "0" or v == "0"))
        for v in own
    ):
        return None
    if own.dtype.kind not in "Oiuf" or not own.size:
        return None
    values = np.array([float(v) for v in own]) if own.dtype == object else own.astype(float)
    with np.errstate(invalid="ignore"):
        if not ((values >= 0) & (values < LARGEST_NUMBER) & (values == np.floor(values))).all():
            return None
    found = np.zeros(slates.size, np.int64)
    found[~outside] = values.astype(np.int64)
    return found


def _outside(slates: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each candidate belongs to no slate."""
    return (
        np.array([v is None for v in slates], bool) if slates.dtype == object else np.zeros(slates.size, bool)
    )


def _within(codes: IntArray, rounds: NDArray[Any] | None) -> IntArray:
    """Return the numbers of the slates within their rounds, from 0, by first appearance."""
    first = np.unique(codes, return_index=True)[1]
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    numbered = rank[codes]
    if rounds is None:
        return numbered
    _, at = np.unique(rounds, return_inverse=True)
    lowest = np.full(at.max() + 1, numbered.size)
    np.minimum.at(lowest, at.ravel(), numbered)
    return np.asarray(numbered - lowest[at.ravel()], np.int64)


def _rounds(
    candidates: dict[str, NDArray[Any]], mapping: Mapping, said: list[str]
) -> dict[str, NDArray[Any]]:
    """Return the candidates with whole, consecutive rounds; steps such as 100, 200 become rounds 0, 1."""
    if "round" not in candidates:
        return candidates
    values = steps_of(candidates["round"])
    missing = ~np.isfinite(values)
    if missing.all():
        raise InputError(
            "the rounds cannot be read as numbers",
            got=short(candidates["round"][0]),
            remedy="write whole numbers, or name another column: --round COLUMN",
        )
    if missing.any():
        said.append(counted(int(missing.sum()), "{candidate|candidates} without a round {is|are} left out"))
        candidates = {n: v[~missing] for n, v in candidates.items()}
        values = values[~missing]
    distinct, codes = np.unique(values, return_inverse=True)
    if candidates["round"].dtype == object:
        _check_steps(candidates["round"], codes)
    gaps = np.diff(distinct)
    if (gaps.size and gaps.min() > 1) or (distinct != np.round(distinct)).any() or distinct.min() < 0:
        name, shown = mapping.roles.get("round", "round"), ", ".join(f"{v:g}" for v in distinct[:3])
        said.append(f"{name!r} {shown}{', ...' if distinct.size > 3 else ''} are rounds 0, 1, ...")
        values = codes.astype(float)
    candidates["round"] = values.astype(np.int64)
    return candidates


def _check_steps(texts: NDArray[Any], codes: IntArray) -> None:
    """Raise InputError if texts (n,) that differ have the same number, as dates and names of models do."""
    named = np.array([str(t).strip() for t in texts])
    if np.unique(named).size == codes.max() + 1:
        return
    same = named[codes == codes[0]]
    raise InputError(
        "rounds that differ would have the same number",
        got=f"{short(same[0])} and {short(next((t for t in same if t != same[0]), named[-1]))}",
        remedy="write them as whole numbers 0, 1, 2, ..., or name another column: --round COLUMN",
    )


def _drop_odd(candidates: dict[str, NDArray[Any]], mapping: Mapping, said: list[str]) -> None:
    """Remove slots and propensities that are none, and give texts their type."""
    if "slot" in candidates:
        slots = candidates["slot"]
        numbers = numbers_of(slots)
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            numbers = codes_of(candidates, ("slot",)).astype(float)
        twice = False
        if "slate" in candidates:
            inside = ~_outside(candidates["slate"])
            codes, placed = _slates_of(candidates)[inside], numbers[inside]
            order = np.lexsort((placed, codes))
            twice = bool(((np.diff(codes[order]) == 0) & (np.diff(placed[order]) == 0)).any())
        if (
            twice
            and mapping.reasons.get("position") != "given"
            and key(mapping.roles.get("position", "slot")) not in PLACES
        ):
            name = mapping.roles.get("position", "slot")
            said.append(f"{name!r} repeats within slates: it is no position, and not used")
            del candidates["slot"]
        elif twice:
            raise InputError(
                "a slate has one slot twice",
                got=f"column {mapping.roles.get('position', 'slot')!r}",
                remedy="slates may be numbered anew in another column: --round, --chooser or --context",
            )
        else:
            candidates["slot"] = numbers.astype(np.int64)
    if "slate" in candidates and not np.issubdtype(candidates["slate"].dtype, np.integer):
        candidates["slate"] = _numbered_slates(candidates, named="slate" in mapping.roles)
    for name in ("chooser", "item", "context"):
        if name in candidates and candidates[name].dtype == object:
            candidates[name] = np.array(
                [None if v is None or v != v else _text(v) for v in candidates[name]], object
            )
    if "item" in candidates and candidates["item"].dtype.kind in "uf":  # beyond int64, or exported as floats
        candidates["item"] = np.array([_text(v) for v in candidates["item"].tolist()], object)
    items = candidates.get("item")
    if items is not None and all(
        isinstance(t, str) and t.isascii() and t.isdigit() and len(t) < 19 for t in items
    ):
        candidates["item"] = items.astype(np.int64)  # as in a log, numbers only count
    if "context" in candidates:
        candidates["context"] = _texts(candidates["context"])
    if "propensity" in candidates:
        values = numbers_of(candidates["propensity"])
        if not (np.isnan(values) | ((values > 0) & (values <= 1))).all():
            said.append("'propensity' holds values outside (0, 1]: it is not used")
            del candidates["propensity"]
        elif np.isnan(values).all():
            del candidates["propensity"]
    if "source" in candidates and not {str(v) for v in candidates["source"]} <= {"model", "real"}:
        said.append("'source' is not one of model and real: all rows are the model's")
        del candidates["source"]
    for name in ("time", "source_row"):
        candidates.pop(name, None)


def _texts(values: NDArray[Any]) -> NDArray[Any]:
    """Return values as texts, empty where there is none; numbers are spelled once each."""
    if values.dtype.kind in "iu" or values.dtype == np.float64:
        names, at = np.unique(values, return_inverse=True)
        return np.array([_text(v) for v in names.tolist()], object)[at]
    return np.array(["" if v is None else _text(v) for v in values], object)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _arrow(values: NDArray[Any], name: str) -> pa.Array:
    if values.dtype == object and name not in ("chooser", "item", "context"):
        return pa.array(values.tolist())
    return pa.array(values, from_pandas=name == "propensity")
