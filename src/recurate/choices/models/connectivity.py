"""Existence of item rewards: the graph of "was picked over" must be strongly connected (Ford 1957)."""

from __future__ import annotations

import numpy as np

from recurate.choices.models.identifiability import NoEstimate, listed
from recurate.core.arrays import BoolArray, IntArray
from recurate.rules.slates import Slates


def check_connected(
    codes: IntArray, slates: Slates, winners: IntArray, tied: BoolArray, names: tuple[str, ...]
) -> None:
    """Raise NoEstimate unless the graph of "was picked over" is strongly connected.

    A tie counts in both directions. A part of the slates often suffices and is tried first.

    Args:
        codes: Item code of each row, (rows,).
        slates: Slates of the rows.
        winners: Item code of each slate's pick, (slates,).
        tied: Whether each slate, then a pair, is tied, (slates,).
        names: Names of the items.
    """
    labels = components_of(codes, slates, winners, tied, len(names))
    if labels.max() > 0:
        raise _explain_components(labels, codes, winners, tied, slates, names)
    if tied.any():
        check_tie_odds(codes, winners, tied, len(names))


def components_of(
    codes: IntArray, slates: Slates, winners: IntArray, tied: BoolArray, count: int
) -> IntArray:
    """Return the strongly connected component of each of ``count`` items, (count,); see check_connected."""
    n = len(slates)
    taken = min(n, 30 * count)
    while True:
        labels = _components(codes, slates, winners, tied, count, taken)
        if labels.max() == 0 or taken == n:
            return labels
        taken = min(n, 6 * taken)


def check_tie_odds(codes: IntArray, winners: IntArray, tied: BoolArray, count: int) -> None:
    """Raise NoEstimate if the odds of a tie have no finite estimate.

    The log of Davidson's nu, and the rewards with it, can diverge iff there are rewards for which each winner
    is at least one above its loser and tied pairs are at most one apart. Such rewards exist iff no cycle of
    the graph has more wins than ties, which the Bellman-Ford algorithm decides.
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
        return  # usual case: the wins alone form a cycle
    try:
        csgraph.bellman_ford(graph, indices=0)
    except csgraph.NegativeCycleError:
        return
    raise NoEstimate(
        "the odds of a tie have no finite estimate: all wins go in one direction, so that the likelihood "
        "increases with these odds without bound",
        got=f"{int(tied.sum())} ties of {tied.size} pairs",
        remedy="count each tie as half a win (--ties half), or set a shrinkage (--shrinkage 1)",
    )


def _components(
    codes: IntArray, slates: Slates, winners: IntArray, tied: BoolArray, count: int, taken: int
) -> IntArray:
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    offsets = slates.offsets[: taken + 1]
    part = Slates(offsets)
    loser = codes[: offsets[-1]]
    winner = part.spread(winners[:taken])
    if tied[:taken].any():
        pairs = np.flatnonzero(tied[:taken]) * 2
        winner = np.concatenate([winner, loser[pairs], loser[pairs + 1]])
        loser = np.concatenate([loser, loser[pairs + 1], loser[pairs]])
    graph = sparse.coo_matrix((np.ones(loser.size, np.int8), (winner, loser)), shape=(count, count))
    return np.asarray(connected_components(graph.tocsr(), directed=True, connection="strong")[1])


def _explain_components(
    labels: IntArray,
    codes: IntArray,
    winners: IntArray,
    tied: BoolArray,
    slates: Slates,
    names: tuple[str, ...],
) -> NoEstimate:
    count = len(names)
    shown = np.bincount(codes, minlength=count)
    wins = np.bincount(winners[~tied], minlength=count)
    half = np.bincount(codes[slates.spread(tied)], minlength=count)
    absent = np.flatnonzero(shown == 0)
    never = np.flatnonzero((wins + half == 0) & (shown > 0))
    always = np.flatnonzero((wins == shown) & (shown > 0) & (half == 0))
    found = []
    for index, what in ((absent, "never shown"), (never, "never picked"), (always, "always picked")):
        if index.size:
            found.append(f"{index.size} {what} ({listed([names[i] for i in index], 3)})")
    biggest = int(np.bincount(labels).max())
    found.append(f"{labels.max() + 1} components, the largest with {biggest} items")
    return NoEstimate(
        "item rewards have no finite estimate: the graph of 'was picked over' is not strongly connected",
        got="; ".join(found),
        remedy="set a shrinkage (--shrinkage 1)",
    )
