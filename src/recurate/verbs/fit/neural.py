"""Learn a reward from the picks of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from recurate.components.rewards.learned import LearnedReward, LearnedSettings
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.samples import Samples
from recurate.log.schema import MODEL, Log
from recurate.loop.run_folder import RunFolder


def learn_reward(
    run: Path | str,
    settings: LearnedSettings | None = None,
    *,
    seed: int,
    rounds: Sequence[int] | None = None,
    clusters: str | None = None,
) -> LearnedReward:
    """Learn a neural reward from the picks of a run.

    Given a slate, the distribution of its pick is the same in all rounds, so that rounds are pooled. The
    reward is in units of the picker's noise: from a run at temperature T one learns reward / T, and from a
    run with several rewards the single utility that approximates their mixture best.

    Args:
        run: Folder of a run. Candidates outside slates, real data and slates without a pick are ignored.
        settings: Settings of the network and its training.
        seed: Seed of the split, the initial weights and the batches.
        rounds: Rounds to learn from. Default: all complete rounds.
        clusters: Column of the log, such as ``context`` or ``chooser``; rows of one value stay on one side of
            the split. Default: the split is by slate.

    Raises:
        InputError: If the folder is not a run or was altered, a round does not exist, or there are too few
            picks (:meth:`LearnedReward.train`).
    """
    store = RunFolder.open(Path(run))
    store.verify()
    played = store.complete()
    chosen = sorted(set(range(played) if rounds is None else rounds))
    strange = [t for t in chosen if t not in range(played)]
    if strange or not chosen:
        raise InputError(
            "the run does not have these rounds",
            got=f"rounds {', '.join(map(str, strange)) or 'none'}",
            remedy=f"choose from rounds 0 to {played - 1}" if played else "run a round first",
        )
    found = [_slates(store.log(t), store.samples(t), clusters) for t in chosen]
    samples, sizes, picked, groups = (np.concatenate(part) for part in zip(*found, strict=True))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return LearnedReward.train(
        samples,
        offsets,
        picked,
        settings,
        rng=Stream(seed).at("learned"),
        clusters=None if clusters is None else groups,
    )


def _slates(log: Log, samples: Samples, clusters: str | None) -> tuple[NDArray[Any], ...]:
    """Return samples, slate sizes, picks and clusters of the slates of a round that have a pick."""
    table = log.select(source=MODEL).table
    table = table.filter(pc.is_valid(table.column("slate"))).sort_by(
        [("slate", "ascending"), ("slot", "ascending")]
    )
    shown = Log(table, log.rewards)
    _, first, slate = np.unique(shown.column("slate"), return_index=True, return_inverse=True)
    won = shown.column("picked").astype(bool)
    decided = np.bincount(slate, won, minlength=first.size) > 0
    kept = decided[slate]
    place = np.arange(slate.size) - first[slate]
    groups = shown.column(clusters)[first] if clusters is not None else np.zeros(first.size)
    sizes = np.bincount(slate, minlength=first.size)
    items = _rows(shown.column("item"), len(samples))
    return samples[items[kept]], sizes[decided], place[kept & won].astype(np.int64), groups[decided]


def _rows(items: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return items as rows of the samples."""
    whole = items.dtype.kind in "iu"  # nulls would make them floats, names objects
    if not whole or (items.size and (items.min() < 0 or items.max() >= count)):
        got = f"items {items.min()} to {items.max()}" if whole else f"items of type {items.dtype}"
        raise InputError(
            "the log's items are not numbers of samples",
            got=f"{got}, for {count} samples",
            remedy="write the number of each sample within its round, from 0, to the item column",
        )
    return items.astype(np.int64)
