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
    """Learn a reward from who was picked among whom in a run, whatever the picker was.

    Given a slate, the law of its pick is the same in every round, so that rounds are pooled. What is learned
    is in units of the picker's noise: a run at temperature T teaches reward / T, and one with several rewards
    the single utility that explains their mixture best.

    Args:
        run: a run's folder. Candidates shown to nobody, real data and slates without a pick are left out.
        settings: of the network and its training.
        seed: root of the split, the first weights and the batches.
        rounds: which rounds to learn from; None: all that are complete.
        clusters: column of the log, such as ``context`` or ``chooser``, whose values stay whole on one side
            of the split; None: every slate on its own.

    Raises:
        InputError: the folder is not a run or was altered, there are no such rounds, or the picks are not
            enough to learn from (:meth:`LearnedReward.train`).
    """
    store = RunFolder.open(Path(run))
    store.verify()
    played = store.complete()
    chosen = sorted(set(range(played) if rounds is None else rounds))
    strange = [t for t in chosen if t not in range(played)]
    if strange or not chosen:
        raise InputError(
            "the run has no such round",
            got=f"rounds {', '.join(map(str, strange)) or 'none'}",
            remedy=f"it has rounds 0 to {played - 1}" if played else "play a round first",
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
    """Return samples, slate sizes, picks and clusters of a round's slates that have a pick."""
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
            "the log's items do not say which samples they are",
            got=f"{got}, for {count} samples",
            remedy="number the samples of each round from 0 in the item column",
        )
    return items.astype(np.int64)
