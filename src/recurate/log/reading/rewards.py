"""The candidates' rewards: one column, a sum of several, or one per preference group."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError, nearest, short
from recurate.log.reading.mapping import Given, Mapping
from recurate.log.reading.names import key, listed
from recurate.log.reading.stored import STRAYS
from recurate.log.reading.values import check_size, codes_of, measures_of, unread_texts

OWN_REWARDS = re.compile(r"reward(_.*)?$", re.I)
ADVANTAGES = ("advantage", "advantages")


class NoRewards(InputError):
    """No column of rewards was named or recognised."""


def check_rewards(mapping: Mapping, given: Given, names: Sequence[str]) -> None:
    """Raise NoRewards if neither the user nor the reading names a reward."""
    if not (given.rewards or mapping.rewards):
        raise NoRewards(
            "no column of rewards can be identified",
            got=f"columns {listed(names)}",
            remedy="name the column: --reward COLUMN; or learn rewards from picks with 'recurate fit'",
        )


def rewards_of(
    candidates: MappingType[str, NDArray[Any]], mapping: Mapping, given: Given
) -> tuple[dict[str, FloatArray], list[str]]:
    """Return the columns of rewards, and what was assumed about several."""
    names = list(given.rewards or mapping.rewards)
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


def terms(name: str, columns: Sequence[str] | MappingType[str, Any]) -> list[str]:
    """Return the columns of a reward: itself, or those of the terms of a sum ``a+2*b``."""
    return [column for _, column in _parsed(name, columns)]


def _parsed(name: str, columns: Sequence[str] | MappingType[str, Any]) -> list[tuple[str, str]]:
    """Return the factor, "" for none, and the column of each term of a reward."""
    parts = [name] if name in columns else [part.strip() for part in name.split("+")]
    cut = [("", "", part) if part in columns else part.rpartition("*") for part in parts]
    return [(factor.strip(), column.strip()) for factor, _, column in cut]


def _sum(candidates: MappingType[str, NDArray[Any]], name: str) -> FloatArray:
    """Return a column of numbers, or a sum ``a+2*b`` of columns."""
    total: FloatArray | None = None
    for factor, column in _parsed(name, candidates):
        if column not in candidates:
            valid = [n for n in candidates if n != "result"]
            raise InputError(
                f"there is no column {column!r} for --reward",
                got=f"columns {listed(valid)}",
                remedy=nearest(column, valid),
            )
        values = measures_of(candidates[column])
        unread = unread_texts(candidates[column], values)
        if not np.isfinite(values).any() or unread.sum() > STRAYS * values.size:
            some = candidates[column][unread] if unread.any() else candidates[column]
            raise InputError(
                f"the reward {column!r} must hold numbers",
                got=f"{short(some[0])}, in {some.size} of {values.size} rows",
                remedy="write them as numbers with a decimal point and without units, or name another column",
            )
        check_size(values, column)
        values = values * _factor(factor, name) if factor else values
        total = values if total is None else total + values
    assert total is not None
    return total


def _factor(text: str, reward: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"{text!r} is not a number in --reward", got=reward, remedy="--reward a+2*b, for example"
        ) from None


def _adds_up(candidates: MappingType[str, NDArray[Any]], total: str, parts: Sequence[str]) -> bool:
    """Return whether a reward is the sum, or the mean, of others."""
    if any(name not in candidates for name in (total, *parts)):  # such as one that is empty
        return False
    values = [measures_of(candidates[n]) for n in (total, *parts)]
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
        codes_of(candidates, ("round", "context"))
        if {"round", "context"} & candidates.keys()
        else np.zeros(advantage.size, np.int64)
    )
    parts = {n: np.nan_to_num(measures_of(candidates[n])) for n in names}
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
