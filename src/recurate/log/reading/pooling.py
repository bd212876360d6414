"""Whether candidates may be pooled: do rewards depend on a column that may be the prompt?"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import fdtrc

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError, counted
from recurate.log.reading.columns import comparable, flat_columns, may_label
from recurate.log.reading.mapping import NOTHING, Given, Mapping, columns_of
from recurate.log.reading.names import is_sample, named
from recurate.log.reading.rewards import terms
from recurate.log.reading.sources import FILE, is_shard
from recurate.log.reading.values import are_flags, array_of, codes_of, flags_of, measures_of

DEPENDS = 1e-6  # level at which rewards depend on a column
RUNS = re.compile(  # what is called so tells runs apart
    r"(^|[^a-z])(seeds?|runs?|experiments?|exp|models?|variants?|policy|policies|replicas?|configs?|arms?|checkpoints?)"
    r"([^a-z]|$)",
    re.I,
)


def undecided_context(
    head: pa.Table,
    mapping: Mapping,
    given: Given,
    candidates: MappingType[str, NDArray[Any]],
    rewards: Sequence[str],
) -> list[str]:
    """Return warnings about columns on which rewards depend, as they do on prompts.

    A column whose values all occur equally often per round, as prompts with K samples each do, is one of two
    readings that differ in their forecasts.

    Raises:
        InputError: If such a column exists.
    """
    if mapping.form != "long":
        _check_slates(candidates, rewards)
        return []
    warnings = []
    slate = mapping.roles.get("slate")
    used = columns_of(mapping) | set(given.others) | {"source", *(given.rewards or mapping.rewards)}
    used -= {slate} if slate else set()
    first = _first_round(head, mapping)  # later rounds differ in any case
    parts = [part for reward in rewards for part in terms(reward, head.column_names)]
    values = [measures_of(array_of(head, part))[first] for part in parts]
    # Last the slate: a prompt says more about what was done.
    for name in sorted(head.column_names, key=lambda n: n == slate):
        if name in used or name == "group" or is_sample(name) or not may_label(head, name):
            continue
        codes = _codes(head, name)[first]
        sizes = np.bincount(np.unique(codes, return_inverse=True)[1].ravel())
        if sizes.size < 2 or sizes.size > codes.size / 2 or named([name], "chooser") or named([name], "item"):
            continue
        if not any(_depends(own, codes) for own in values):
            continue
        if name == slate:
            raise InputError(
                f"rewards depend on the slate ({name!r}), as where each slate is the answers to one prompt: "
                "picks within prompts and picks from all candidates give different forecasts",
                got=f"{sizes.size} slates",
                remedy=f"--context {name} if each slate has its own prompt; --context none if all share one",
            )
        if _within_slates(head, mapping, name) or _even(codes):
            raise InputError(
                f"rewards depend on {name!r}, which may be the prompt: picks within its values and picks "
                "from all candidates give different forecasts",
                got=f"{sizes.size} values of {name!r}",
                remedy=f"--context {name} if candidates compete within its values; --context none if not",
            )
        warnings.append(
            f"rewards depend on {name!r}, which is not used: --context {name} if candidates compete within "
            f"its values, --group {name} to forecast its shares"
        )
    return warnings


def _check_slates(candidates: MappingType[str, NDArray[Any]], rewards: Sequence[str]) -> None:
    """Raise InputError if rewards of the first round depend on the slate, as on a prompt of its own."""
    if "slate" not in candidates:
        return
    rounds = candidates.get("round")
    first = np.ones(len(candidates["slate"]), bool) if rounds is None else rounds == rounds.min()
    codes = codes_of(candidates, ("slate",))[first]
    if any(_depends(candidates[reward][first], codes) for reward in rewards):
        raise InputError(
            "rewards depend on the slate, as where each row has its own prompt: picks within prompts and "
            "picks from all candidates give different forecasts",
            got=f"{np.unique(codes).size} slates and no column of prompts",
            remedy="name or add a column of prompts: --context COLUMN; or --context none if all share one",
        )


def oddities(head: pa.Table, mapping: Mapping) -> list[str]:
    """Return warnings about rows that may not be one round's independent candidates of one model."""
    if mapping.form != "long":
        return []
    flat = [n for n in flat_columns(head) if n != FILE]
    warnings = []
    texts = [n for n in flat if is_sample(n)]
    copies = head.num_rows - head.group_by(flat).aggregate([]).num_rows if texts else 0
    if copies > 0.01 * head.num_rows:
        warnings.append(
            counted(
                copies,
                f"of the first {head.num_rows:,} rows {{repeats|repeat}} another exactly, and "
                "{is|are} kept",
            )
        )
    steps = [n for n in named(flat, "round") if n not in mapping.roles.values()]
    lone = [n for n in steps if len(pc.unique(head.column(n))) == head.num_rows > 4]
    if lone and not {"context", "slate"} & mapping.roles.keys():
        warnings.append(
            f"{lone[0]!r} differs in every row: the rows are taken for candidates of one round; a training "
            "curve, one mean per step, is no log of candidates"
        )
    return warnings + [
        f"candidates of {count} values of {name!r} are pooled, and K counts them all: keep one, if they "
        "differ in model, judge or settings, or name K: --k"
        for name, count in _mixed(head, mapping, flat_columns(head))
    ]


def unread_marks(head: pa.Table, mapping: Mapping) -> list[str]:
    """Return a warning about an unread column that ranks, or marks as many of, each prompt's candidates."""
    by = [mapping.roles[r] for r in ("round", "context") if r in mapping.roles]
    if mapping.form != "long" or mapping.how != NOTHING or "context" not in mapping.roles:
        return []
    codes = _codes(head, *by)
    sizes = np.bincount(codes)
    for name in named(flat_columns(head), "rank", columns_of(mapping)):
        ranks = measures_of(array_of(head, name))
        top, order = np.bincount(codes, ranks == 1), np.lexsort((ranks, codes))
        counted_up = (np.diff(ranks[order]) == 1) | (np.diff(codes[order]) > 0)
        if (
            sizes.size >= 4
            and sizes.min() >= 2
            and ranks.min() == 1
            and (top == 1).all()
            and counted_up.all()
        ):
            return [
                f"{name!r} ranks the candidates of each prompt and is not used: --rank {name} if it decides"
            ]
    for name in flat_columns(head):
        flags = array_of(head, name) if name not in columns_of(mapping) and not is_sample(name) else None
        if flags is None or not are_flags(flags):
            continue
        counts = np.bincount(codes, np.nan_to_num(flags_of(flags)))
        most = np.median(counts)
        if sizes.size >= 8 and 1 <= most < np.median(sizes) and (counts == most).mean() > 0.95:
            what = counted(int(most), "{candidate|candidates}")
            return [
                f"{name!r} marks {what} of each prompt and is not used: --pick {name} if it marks the picks"
            ]
    return []


def lone_prompts(head: pa.Table, mapping: Mapping) -> list[str]:
    """Return a warning if candidates of different prompts are pooled because each prompt has one."""
    if mapping.form != "long" or mapping.roles.get("slate") or head.num_rows < 2:
        return []
    rounds = [mapping.roles["round"]] if "round" in mapping.roles else []
    for name in named(head.column_names, "context"):
        if name in columns_of(mapping) or is_sample(name) or name == FILE:
            continue
        part = comparable(head, [*rounds, name]).filter(pc.is_valid(head.column(name)))
        if (
            part.num_rows > 0.9 * head.num_rows
            and part.group_by([*rounds, name]).aggregate([]).num_rows > 0.9 * part.num_rows
        ):
            return [
                f"each {name!r} has one candidate: candidates of different prompts are pooled, and K counts "
                "them all; log several per prompt (--context none if prompts do not matter)"
            ]
    return []


def sentinels(candidates: MappingType[str, NDArray[Any]], rewards: Sequence[str]) -> list[str]:
    """Return warnings about rewards of -1 beside others in [0, 1], as judges that failed are logged."""
    found = []
    for name in rewards:
        values = np.asarray(candidates[name], float)
        odd = values == -1
        rest = values[~odd]
        if odd.any() and rest.size and rest.min() >= 0 and rest.max() <= 1:
            text = counted(
                int(odd.sum()), f"{{reward {name!r} is|rewards {name!r} are}} -1 and all others in [0, 1]"
            )
            found.append(f"{text}: if -1 marks a failure, leave these rows out")
    return found


def _mixed(head: pa.Table, mapping: Mapping, flat: Sequence[str]) -> list[tuple[str, int]]:
    """Return unused columns of which several of a few values recur for most prompts, with their number.

    Such a column tells runs apart if each prompt has several candidates of every value, if the rows of each
    value lie together in the file, as where files were joined, or by its name.
    """
    if "context" not in mapping.roles:  # without prompts, who rated is known by the name of the column
        judge = mapping.roles.get("chooser") if mapping.how == NOTHING else None
        count = 0 if judge is None else len(pc.unique(head.column(judge)).drop_null())
        return [(judge, count)] if judge is not None and 2 <= count <= 12 else []
    if pa.types.is_nested(head.schema.field(mapping.roles["context"]).type):
        return []
    by = [mapping.roles[r] for r in ("round", "context") if r in mapping.roles]
    used = columns_of(mapping) | {"source", "group"}
    used -= {mapping.roles.get("item")}  # an item may be a model
    used -= {mapping.roles.get("chooser")} if mapping.how == NOTHING else set()  # who rated
    found = []
    for name in flat:
        if name in used or is_sample(name) or not may_label(head, name):
            continue
        values = len(pc.unique(head.column(name)))
        if not 2 <= values <= 12:
            continue
        groups = head.group_by([*by, name]).aggregate([([], "count_all")])
        each = np.asarray(groups.column("count_all").to_numpy())
        prompts = groups.group_by(by).aggregate([([], "count_all")])
        distinct = np.asarray(prompts.column("count_all").to_numpy())
        if (distinct > 1).mean() < 0.5 or (each.mean() < 1.5 and not _rated(mapping, name)):
            continue
        if name == FILE and any(map(is_shard, pc.unique(head.column(name)).to_pylist())):
            continue
        codes = _codes(head, name)
        together = int((np.diff(codes) != 0).sum()) < 2 * values
        even = (distinct == values).mean() > 0.9 and (each >= 2).mean() > 0.9
        if even or together or RUNS.search(name) or _rated(mapping, name):
            found.append((name, values))
    return found


def _rated(mapping: Mapping, name: str) -> bool:
    """Return whether a column says who rated candidates: each is there once for everyone who did."""
    return name == mapping.roles.get("chooser")


def _codes(head: pa.Table, *names: str) -> IntArray:
    return codes_of({name: array_of(head, name) for name in names}, names)


def _depends(rewards: FloatArray, codes: IntArray) -> bool:
    """Return whether the means of rewards differ between values, by an F-test."""
    ok = np.isfinite(rewards)
    r, c = rewards[ok], np.unique(codes[ok], return_inverse=True)[1].ravel()
    n, k = r.size, int(c.max()) + 1 if r.size else 0
    if k < 2 or n <= k:
        return False
    sizes = np.bincount(c)
    means = np.bincount(c, r) / sizes
    between = float((sizes * (means - r.mean()) ** 2).sum()) / (k - 1)
    within = float(((r - means[c]) ** 2).sum()) / (n - k)
    if within <= 0:
        return between > 0
    return bool(fdtrc(k - 1, n - k, between / within) < DEPENDS)


def _first_round(head: pa.Table, mapping: Mapping) -> NDArray[np.bool_]:
    """Return which rows are of the first row's round."""
    if "round" not in mapping.roles:
        return np.ones(head.num_rows, bool)
    rounds = np.array([str(v) for v in head.column(mapping.roles["round"]).to_pylist()])
    return np.asarray(rounds == rounds[0], bool)


def _within_slates(head: pa.Table, mapping: Mapping, name: str) -> bool:
    """Return whether a column has one value in every slate, as a prompt has; some slates must have two."""
    if not mapping.keys or name in mapping.keys:
        return False
    codes, slates = _codes(head, name), _codes(head, *mapping.keys)
    low = np.full(slates.max() + 1, codes.max() + 1)
    high = np.full(slates.max() + 1, -1)
    np.minimum.at(low, slates, codes)
    np.maximum.at(high, slates, codes)
    return bool((low == high).all() and slates.max() + 1 < 0.8 * slates.size)


def _even(codes: IntArray) -> bool:
    """Return whether all values occur equally often (the last value may be cut off)."""
    sizes = np.bincount(codes)
    sizes = np.sort(sizes[sizes > 0])
    return bool(sizes.size >= 2 and (sizes == sizes[-1]).mean() >= 0.9 and sizes[-1] >= 2)
