"""From a table of any form to a validated log: candidates with rewards, prompts, rounds, and any picks."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError, nearest
from recurate.log.reading.columns import is_numeric
from recurate.log.reading.forms import NONE, RANK, Unfolded, unfold
from recurate.log.reading.mapping import Given, Mapping, columns_of
from recurate.log.reading.names import key, listed
from recurate.log.reading.pooling import undecided_context
from recurate.log.reading.understand import Understood, terms, understand, with_account
from recurate.log.reading.values import numbers_of, prompt_of, with_none
from recurate.log.schema import COLUMNS, METADATA_KEY, Log, as_log

OWN_REWARDS = re.compile(r"reward(_.*)?$", re.I)
PAIRS = (
    "candidates are the chosen and the rejected of pairs: if these are the best and the worst of larger "
    "sets, as in data for DPO, their rewards are not the model's, and neither is the forecast"
)
PLACES = ("slot", "position", "pos", "place")  # a column so named holds positions
ADVANTAGES = ("advantage", "advantages")


@dataclass(frozen=True)
class Opened:
    """A log, and how it was read.

    Attributes:
        log: The log.
        understood: The reading of its table; None for a log that recurate wrote.
        warnings: What may change the result.
        notes: What was assumed or left out.
        placed: Whether slots are the positions in which candidates were shown.
    """

    log: Log
    understood: Understood | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    placed: bool = True


def needed_columns(head: pa.Table, found: Understood, given: Given) -> list[str]:
    """Return the columns of a table that a log needs."""
    names = head.column_names
    wanted = columns_of(found.mapping) | {t for r in found.mapping.rewards for t in terms(r, names)}
    wanted |= {*given.others, "source", "propensity", *(n for n in names if key(n) in ADVANTAGES)}
    if found.mapping.form == "long":  # the texts of samples are not needed
        wanted -= {n for n in names if n not in found.mapping.roles.values() and _heavy(head, n)} - set(
            given.others
        )
    return [n for n in names if n in wanted]


def _heavy(table: pa.Table, name: str) -> bool:
    return not is_numeric(table.schema.field(name).type) and name != "source"


def log_from(head: pa.Table, table: pa.Table, given: Given, name: str, notes: Sequence[str] = ()) -> Opened:
    """Return a table as a log.

    Args:
        head: First rows with all columns, from which the roles are guessed.
        table: The table, with the columns of :func:`needed_columns` at least.
        given: What the user said.
        name: Name of the source in messages.
        notes: What was understood of the file.

    Raises:
        InputError: If no rewards are found, readings cannot be decided, or a row is invalid.
    """
    found = replace(understand(head, given), notes=tuple(notes))
    try:
        return _log_from(head, table, found, given, name)
    except InputError as error:
        raise (error if error.account else with_account(error, found)) from None


def _log_from(head: pa.Table, table: pa.Table, found: Understood, given: Given, name: str) -> Opened:
    candidates, kind, unclear, said = _candidates(table, found.mapping, given)
    if unclear:
        raise InputError(
            "the picks can be read in two ways",
            got=unclear,
            remedy="name the right one, or --places-from 0 or 1",
        )
    rewards, more = _rewards(candidates, found.mapping, given)
    said += more
    for reward, values in rewards.items():
        candidates[reward] = values
    lost = ~np.isfinite(np.column_stack([*rewards.values()])).all(axis=1)
    if lost.all():
        raise InputError(
            f"{name} has no candidate with a finite reward",
            got=", ".join(rewards),
            remedy="name another column: --reward COLUMN",
        )
    warnings = []
    if (
        lost.any() and kind != NONE and "slate" in candidates
    ):  # without one candidate, a pick means another thing
        codes = _codes(candidates, ("round", "slate"))
        whole = np.bincount(codes, lost)[codes] > 0
        lost |= whole & ~_outside(candidates["slate"])
        warnings.append(
            f"{np.unique(codes[lost]).size} slates with a candidate without a finite reward are left out, "
            f"{int(lost.sum())} candidates in all"
        )
    elif lost.any():
        warnings.append(f"{int(lost.sum())} candidates without a finite reward are left out")
    if lost.all():
        raise InputError(
            f"{name} has no slate whose rewards are all finite numbers",
            got=", ".join(rewards),
            remedy="repair the rows",
        )
    if lost.any():
        candidates = {n: v[~lost] for n, v in candidates.items()}
    if found.mapping.form == "pairs":
        warnings.append(PAIRS)
    candidates = _rounds(candidates, found.mapping, said)
    candidates = _picked(candidates, kind, said)
    context = "context" in candidates
    if not context and given.roles.get("context") != "none":
        warnings += undecided_context(head, found.mapping, given, candidates, list(rewards))
    _drop_odd(candidates, found.mapping, said)
    columns = {
        n: _arrow(v, n) for n, v in candidates.items() if n in COLUMNS or n in rewards or n in given.others
    }
    for other in given.others:
        if other not in columns:
            raise InputError(
                f"there is no column {other!r}",
                got=f"columns {', '.join(head.column_names)}",
                remedy=nearest(other, head.column_names),
            )
    log = as_log(pa.table(columns), rewards=list(rewards), name=name, several=True)
    placed = "slot" in candidates or found.mapping.form == "long"
    return Opened(log, found, tuple(warnings), tuple(dict.fromkeys(said)), placed)


# --- candidates -----------------------------------------------------------------------------------


def _candidates(
    table: pa.Table, mapping: Mapping, given: Given
) -> tuple[dict[str, NDArray[Any]], str, str, list[str]]:
    """Return the candidates' columns under the log's names, the kind of picks, what is unclear, and notes."""
    made: Unfolded = unfold(table, mapping, everything=True)
    columns = dict(made.columns)
    ranked = made.kind == RANK
    if mapping.form == "long" and "slate" not in mapping.roles and not mapping.blocks and not ranked:
        columns.pop("slate")  # where prompts are slates, the rule of the picks decides
    if "context" in mapping.roles and given.roles.get("context") != "none":
        columns["context"] = np.array([prompt_of(v) for v in columns["context"]], object)
    else:
        columns.pop("context", None)
    notes = [n for n in made.notes if "rows belong to no slate" not in n]
    if mapping.form != "long":
        for other in given.others:
            if other in table.column_names and other not in columns:
                columns[other] = _repeated(table, other, made, mapping)
    return columns, made.kind, made.unclear, notes


def _repeated(table: pa.Table, name: str, made: Unfolded, mapping: Mapping) -> NDArray[Any]:
    """Return a column with one value per slate for every candidate."""
    values = np.array(table.column(name).to_pylist(), object)
    rows = made.columns["source_row"] if "source_row" in made.columns else made.columns["slate"]
    return values[rows.astype(np.int64)]


def _picked(candidates: dict[str, NDArray[Any]], kind: str, said: list[str]) -> dict[str, NDArray[Any]]:
    """Return the candidates with ``picked`` in place of ``result``: the single best of ranks."""
    result = candidates.pop("result", None)
    if kind == NONE or result is None:
        candidates.pop("picked", None)
        return candidates
    if "slate" in candidates:
        codes = _codes(candidates, ("round", "slate"))
        candidates["slate"] = _numbered_slates(candidates)
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
        said.append(f"{np.unique(codes[lost]).size} slates with an unreadable or missing pick are left out")
    else:
        lost = bad
        said.append(f"{int(bad.sum())} candidates with an unreadable or missing pick are left out")
    if lost.all():
        raise InputError(
            "no pick can be read",
            got=said[-1],
            remedy="yes and no mark picks; name another column: --pick COLUMN, or none",
        )
    return {n: v[~lost] for n, v in candidates.items()}


def _numbered_slates(candidates: MappingType[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the number of each candidate's slate within its round, None outside slates."""
    slates = candidates["slate"]
    numbered: NDArray[Any] = _within(_codes(candidates, ("round", "slate")), candidates.get("round"))
    outside = _outside(slates)
    return with_none(numbered, outside) if outside.any() else numbered


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
    lowest: dict[Any, int] = {}
    starts = np.unique(rounds)
    for value in starts.tolist():
        lowest[value] = int(numbered[rounds == value].min())
    return np.asarray(numbered - np.array([lowest[v] for v in rounds.tolist()]), np.int64)


def _codes(candidates: MappingType[str, NDArray[Any]], names: Sequence[str]) -> IntArray:
    parts = []
    for name in names:
        if name in candidates:
            values = candidates[name]
            values = (
                np.array(["\0" if v is None else str(v) for v in values])
                if values.dtype == object
                else values
            )
            parts.append(np.unique(values, return_inverse=True)[1].astype(np.int64).ravel())
    out = parts[0]
    for part in parts[1:]:
        out = np.unique(out * (part.max() + 1) + part, return_inverse=True)[1].astype(np.int64).ravel()
    return np.unique(out, return_inverse=True)[1].astype(np.int64).ravel()


def _rounds(
    candidates: dict[str, NDArray[Any]], mapping: Mapping, said: list[str]
) -> dict[str, NDArray[Any]]:
    """Return the candidates with whole, consecutive rounds; steps such as 100, 200 become rounds 0, 1."""
    if "round" not in candidates:
        return candidates
    values = numbers_of(candidates["round"])
    missing = ~np.isfinite(values)
    if missing.any():
        said.append(f"{int(missing.sum())} candidates without a round are left out")
        candidates = {n: v[~missing] for n, v in candidates.items()}
        values = values[~missing]
    distinct, codes = np.unique(values, return_inverse=True)
    gaps = np.diff(distinct)
    if (gaps.size and gaps.min() > 1) or (distinct != np.round(distinct)).any() or distinct.min() < 0:
        shown = ", ".join(f"{v:g}" for v in distinct[:3])
        said.append(
            f"{mapping.roles['round']!r} {shown}{', ...' if distinct.size > 3 else ''} are rounds 0, 1, ..."
        )
        values = codes.astype(float)
    candidates["round"] = values.astype(np.int64)
    return candidates


def _drop_odd(candidates: dict[str, NDArray[Any]], mapping: Mapping, said: list[str]) -> None:
    """Remove slots and propensities that are none, and give texts their type."""
    if "slot" in candidates:
        slots = candidates["slot"]
        numbers = numbers_of(slots)
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            numbers = _codes(candidates, ("slot",)).astype(float)
        twice = False
        if "slate" in candidates:
            inside = ~_outside(candidates["slate"])
            codes, placed = _codes(candidates, ("round", "slate"))[inside], numbers[inside]
            order = np.lexsort((placed, codes))
            twice = bool(((np.diff(codes[order]) == 0) & (np.diff(placed[order]) == 0)).any())
        if (
            twice
            and mapping.reasons.get("position") != "given"
            and key(mapping.roles["position"]) not in PLACES
        ):
            said.append(
                f"{mapping.roles['position']!r} repeats within slates: it is no position, and not used"
            )
            del candidates["slot"]
        elif twice:
            raise InputError(
                "a slate has one slot twice",
                got=f"column {mapping.roles['position']!r}",
                remedy="slates may be numbered anew in another column: --round, --chooser or --context",
            )
        else:
            candidates["slot"] = numbers.astype(np.int64)
    if "slate" in candidates and not np.issubdtype(candidates["slate"].dtype, np.integer):
        candidates["slate"] = _numbered_slates(candidates)
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
        candidates["context"] = np.array(
            ["" if v is None else _text(v) for v in candidates["context"]], object
        )
    if "propensity" in candidates:
        values = numbers_of(candidates["propensity"])
        if not (np.isnan(values) | ((values > 0) & (values <= 1))).all():
            said.append("'propensity' holds values outside (0, 1]: it is not used")
            del candidates["propensity"]
        elif np.isnan(values).all():
            del candidates["propensity"]
    if "source" in candidates:
        words = set(np.unique(candidates["source"].astype(str)).tolist())
        if not words <= {"model", "real"}:
            said.append("'source' is not one of model and real: all rows are the model's")
            del candidates["source"]
    for name in ("time", "source_row", "weight"):
        candidates.pop(name, None)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _arrow(values: NDArray[Any], name: str) -> pa.Array:
    if values.dtype == object and name not in ("chooser", "item", "context"):
        return pa.array(values.tolist())
    return pa.array(values, from_pandas=name == "propensity")


# --- rewards --------------------------------------------------------------------------------------


def _rewards(
    candidates: MappingType[str, NDArray[Any]], mapping: Mapping, given: Given
) -> tuple[dict[str, FloatArray], list[str]]:
    """Return the columns of rewards, and what was assumed about several."""
    names = list(given.rewards or mapping.rewards)
    if not names:
        raise InputError(
            "no column of rewards can be identified",
            got=f"columns {listed([n for n in candidates if n != 'result'])}",
            remedy="name the column: --reward COLUMN; or learn rewards from picks with 'recurate fit'",
        )  # fmt: skip
    if given.rewards:
        return {n: _sum(candidates, n) for n in names}, []
    if len(names) == 1:
        return {names[0]: _sum(candidates, names[0])}, []
    total = next((n for n in names if n.lower() == "reward"), None)
    if total is not None and _adds_up(candidates, total, [n for n in names if n != total]):
        rest = ", ".join(n for n in names if n != total)
        return {total: _sum(candidates, total)}, [f"{total!r} is the sum (or the mean) of {rest}"]
    combined = _combined(candidates, names)
    if combined is not None:
        values, how = combined
        return {how: values}, [f"the reward is {how}: the column of advantages follows from it"]
    if all(OWN_REWARDS.match(n) for n in names):
        return {n: _sum(candidates, n) for n in names}, [
            f"{', '.join(names)} are rewards of {len(names)} preference groups"
        ]
    joined = "+".join(names)
    each = " ".join(f"--reward {n}" for n in names)
    raise InputError(
        "several columns may be rewards, and what each is to the picks cannot be decided",
        got=", ".join(names),
        remedy=f"one reward that is their sum: --reward {joined}; one of them: --reward {names[0]}; "
        f"preference groups: {each}",
    )


def _sum(candidates: MappingType[str, NDArray[Any]], name: str) -> FloatArray:
    """Return a column of numbers, or a sum ``a+2*b`` of columns."""
    total: FloatArray | None = None
    for term in [name] if name in candidates or "+" not in name else name.split("+"):
        factor, _, column = (
            term.strip().rpartition("*") if term.strip() not in candidates else ("", "", term.strip())
        )
        column = column.strip()
        if column not in candidates:
            valid = [n for n in candidates if n != "result"]
            raise InputError(
                f"there is no column {column!r} for --reward",
                got=f"columns {listed(valid)}",
                remedy=nearest(column, valid),
            )
        values = numbers_of(candidates[column])
        if not np.isfinite(values).any():
            shown = repr(candidates[column][0])[:80]
            raise InputError(
                f"the reward {column!r} must hold numbers", got=shown, remedy="name a numeric column"
            )
        values = values * float(factor) if factor else values
        total = values if total is None else total + values
    assert total is not None
    return total


def _adds_up(candidates: MappingType[str, NDArray[Any]], total: str, parts: Sequence[str]) -> bool:
    """Return whether a reward is the sum, or the mean, of others."""
    values = [numbers_of(candidates[n]) for n in (total, *parts)]
    ok = np.isfinite(np.column_stack(values)).all(axis=1)
    if ok.sum() < 4:
        return False
    whole, added = values[0][ok], np.sum([v[ok] for v in values[1:]], axis=0)
    return any(np.allclose(whole, added / n, atol=1e-6) for n in (1, len(parts)))


def _combined(
    candidates: MappingType[str, NDArray[Any]], names: Sequence[str]
) -> tuple[FloatArray, str] | None:
    """Return the reward of which a column of advantages is an increasing function within every prompt.

    Trainers log the parts of a reward and the advantage: the sum, centred and scaled in a prompt and step.
    """
    column = next((n for n in candidates if key(n) in ADVANTAGES), None)
    if column is None or candidates[column].dtype == object:
        return None
    advantage = candidates[column].astype(float)
    groups = (
        _codes(candidates, ("round", "context"))
        if {"round", "context"} & candidates.keys()
        else np.zeros(advantage.size, np.int64)
    )
    parts = {n: np.nan_to_num(numbers_of(candidates[n])) for n in names}
    choices = [("+".join(names), sum(parts.values())), *parts.items()]
    for how, values in choices:
        if _follows(np.asarray(values, float), advantage, groups):
            return np.asarray(values, float), how
    return None


def _follows(values: FloatArray, advantage: FloatArray, groups: IntArray) -> bool:
    """Return whether advantages are values that were centred, and perhaps scaled, within groups."""
    ok = np.isfinite(values) & np.isfinite(advantage)
    values, advantage, groups = values[ok], advantage[ok], groups[ok]
    if values.size < 8:
        return False
    count = np.maximum(np.bincount(groups), 1)
    a = values - (np.bincount(groups, values) / count)[groups]
    b = advantage - (np.bincount(groups, advantage) / count)[groups]
    ab, aa, bb = (np.bincount(groups, x) for x in (a * b, a * a, b * b))
    tested = (aa > 1e-12) & (bb > 1e-12)
    if not tested.any():
        return False
    correlation = ab[tested] / np.sqrt(aa[tested] * bb[tested])
    return bool((correlation > 0.999).mean() > 0.95)


def own_log(metadata: MappingType[bytes, bytes] | None) -> bool:
    """Return whether the metadata of a table say that recurate wrote it as a log."""
    return METADATA_KEY in (metadata or {})
