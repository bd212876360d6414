"""Whether item rewards exist: the graph of "was picked over" must be strongly connected (Ford 1957)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recurate.choices.models.identifiability import NoEstimate, listed
from recurate.core.arrays import IntArray
from recurate.rules.slates import Slates


def check_connected(
    codes: IntArray,
    slates: Slates,
    winners: IntArray,
    tied: NDArray[np.bool_] | None,
    names: tuple[str, ...],
) -> None:
    """Refuse graphs of "was picked over" that are not strongly connected; a tie counts both ways.

    Part of the slates often settles it, and is tried first.
    """
    n, count = len(slates), len(names)
    taken = min(n, 30 * count)
    while True:
        labels = _components(codes, slates, winners, tied, count, taken)
        if labels.max() == 0:
            break
        if taken == n:
            raise _explain_components(labels, codes, winners, tied, slates, names)
        taken = min(n, 6 * taken)
    if tied is not None and tied.any():
        _check_tie_odds(codes, winners, tied, len(names))


def _check_tie_odds(codes: IntArray, winners: IntArray, tied: NDArray[np.bool_], count: int) -> None:
    """Refuse pairs whose odds of a tie have no finite estimate.

    The log of Davidson's nu can leave for infinity, and with it the rewards, iff rewards exist with every
    winner at least one above its loser and tied pairs at most one apart: iff no cycle of the graph has more
    wins than ties, which Bellman and Ford's algorithm tells.
    """
    from scipy import sparse
    from scipy.sparse import csgraph

    left, right = codes[0::2], codes[1::2]
    wins = (winners * count + (left + right - winners))[~tied]
    edges = np.unique(np.concatenate([wins, (left * count + right)[tied], (right * count + left)[tied]]))
    lengths = np.where(np.isin(edges, wins), -1.0, 1.0)
    graph = sparse.csr_matrix((lengths, (edges // count, edges % count)), shape=(count, count))
    strict = csgraph.connected_components(graph.multiply(graph < 0), directed=True, connection="strong")
    if strict[0] < count:
        return  # a cycle of wins alone: the usual case
    try:
        csgraph.bellman_ford(graph, indices=0)
    except csgraph.NegativeCycleError:
        return
    raise NoEstimate(
        "the odds of a tie have no finite estimate: wins all go one way, and ties can be explained by ever "
        "larger odds",
        got=f"{int(tied.sum())} ties of {tied.size} pairs",
        remedy="set a shrinkage, gather more picks, or count ties as half a win each",
    )


def _components(
    codes: IntArray,
    slates: Slates,
    winners: IntArray,
    tied: NDArray[np.bool_] | None,
    count: int,
    taken: int,
) -> IntArray:
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    offsets = slates.offsets[: taken + 1]
    part = Slates(offsets)
    loser = codes[: offsets[-1]]
    winner = part.spread(winners[:taken])
    if tied is not None and tied[:taken].any():
        pairs = np.flatnonzero(tied[:taken]) * 2
        winner = np.concatenate([winner, loser[pairs], loser[pairs + 1]])
        loser = np.concatenate([loser, loser[pairs + 1], loser[pairs]])
    graph = sparse.coo_matrix((np.ones(loser.size, np.int8), (winner, loser)), shape=(count, count))
    return np.asarray(connected_components(graph.tocsr(), directed=True, connection="strong")[1])


def _explain_components(
    labels: IntArray,
    codes: IntArray,
    winners: IntArray,
    tied: NDArray[np.bool_] | None,
    slates: Slates,
    names: tuple[str, ...],
) -> NoEstimate:
    count = len(names)
    shown = np.bincount(codes, minlength=count)
    wins = np.bincount(winners if tied is None else winners[~tied], minlength=count)
    half = (
        np.zeros(count, np.int64) if tied is None else np.bincount(codes[np.repeat(tied, 2)], minlength=count)
    )
    absent = np.flatnonzero(shown == 0)
    never = np.flatnonzero((wins + half == 0) & (shown > 0))
    always = np.flatnonzero((wins == shown) & (shown > 0) & (half == 0))
    found = []
    for index, what in ((absent, "never shown"), (never, "never picked"), (always, "always picked")):
        if index.size:
            found.append(f"{index.size} {what} ({listed([names[i] for i in index], 3)})")
    biggest = int(np.bincount(labels).max())
    found.append(f"{labels.max() + 1} parts, the largest of {biggest} items")
    return NoEstimate(
        "item rewards have no finite estimate: not every item can be reached from every other along "
        "'was picked over'",
        got="; ".join(found),
        remedy="set a shrinkage, gather more picks, or keep the largest part only",
    )
