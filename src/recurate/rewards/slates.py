"""Picks from slates as arrays, and how well utilities explain them: NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.errors import InputError
from recurate.measures import Estimate, standard_error
from recurate.rewards.protocol import FloatArray
from recurate.seeds import Stream

IntArray = NDArray[np.int64]

NEWTON_STEPS = 200
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Slates:
    """One pick from each of S slates of n candidates in all.

    Slate s is rows ``offsets[s]`` to ``offsets[s + 1] - 1`` of whatever describes the candidates, and its
    pick is row ``offsets[s] + picked[s]``. Luce choice with utilities u (n,) gives it the log-likelihood
    u_pick - log sum_{i in slate} exp u_i.

    Attributes:
        offsets: shape (S + 1,), from 0 to n.
        picked: shape (S,), the pick's place in its slate, from 0.
    """

    offsets: IntArray
    picked: IntArray

    def __len__(self) -> int:
        return len(self.picked)

    @property
    def starts(self) -> IntArray:
        """First row of each slate."""
        return self.offsets[:-1]

    @property
    def sizes(self) -> IntArray:
        """Candidates in each slate."""
        return np.diff(self.offsets)

    @property
    def winners(self) -> IntArray:
        """Row of each pick."""
        return self.starts + self.picked

    def take(self, which: IntArray) -> tuple[IntArray, Slates]:
        """Return the rows of some slates, slate by slate, and the slates as they stand in those rows."""
        sizes = self.sizes[which]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.starts[which] - offsets[:-1], sizes)
        return rows, Slates(offsets, self.picked[which])

    def log_likelihoods(self, utilities: FloatArray) -> FloatArray:
        """Return the log-likelihood of each pick, shape (S,)."""
        top = np.maximum.reduceat(utilities, self.starts)
        total = np.add.reduceat(np.exp(utilities - np.repeat(top, self.sizes)), self.starts)
        return np.asarray(utilities[self.winners] - top - np.log(total))

    def hits(self, utilities: FloatArray) -> FloatArray:
        """Return 1 where the pick alone has its slate's largest utility, 1 / m where m share it, else 0."""
        top = np.maximum.reduceat(utilities, self.starts)
        sharing = np.add.reduceat((utilities == np.repeat(top, self.sizes)).astype(float), self.starts)
        return np.asarray((utilities[self.winners] == top) / sharing)

    def slope(self, utilities: FloatArray, clusters: IntArray) -> Estimate | None:
        """Return the beta that maximises the likelihood of the picks under utilities beta u.

        1 says that differences of u are what they claim to be, less that they are exaggerated, more that they
        are too timid. The standard error is the sandwich one, robust to a wrong u and to dependence within
        clusters (S,). None where no finite beta is best: u is constant in every slate, or every pick is its
        slate's largest (smallest) u.
        """
        low = np.minimum.reduceat(utilities, self.starts)
        top = np.maximum.reduceat(utilities, self.starts)
        chosen = utilities[self.winners]
        if (chosen == top).all() or (chosen == low).all():
            return None
        unit = float((top - low).mean())  # so that beta is of order one
        beta = self._best(utilities / unit)
        scores, information = self._scores(utilities / unit, beta)
        if information <= 0:  # so nearly every pick is its slate's largest that beta overflows
            return None
        error = mean_error(scores, clusters) * len(self) / information
        return Estimate(beta / unit, error / unit)

    def _best(self, utilities: FloatArray) -> float:
        """Solve sum_s (u_pick - E_beta u) = 0, which falls in beta, by Newton's method kept in a bracket."""
        beta, low, high = 0.0, -math.inf, math.inf
        for _ in range(NEWTON_STEPS):
            scores, information = self._scores(utilities, beta)
            gradient = float(scores.sum())
            low, high = (beta, high) if gradient > 0 else (low, beta)
            new = beta + (gradient / information if information > 0 else math.copysign(math.inf, gradient))
            if not low <= new <= high or abs(new - beta) > 1 + 2 * abs(beta):
                far = beta + math.copysign(1 + 2 * abs(beta), gradient)
                new = far if low <= far <= high else (low + high) / 2
            done = abs(new - beta) <= TOLERANCE * (1 + abs(beta))
            beta = new
            if done:
                break
        return beta

    def _scores(self, utilities: FloatArray, beta: float) -> tuple[FloatArray, float]:
        """Return u_pick - E_beta u by slate, and the sum of Var_beta u."""
        scaled = beta * utilities
        top = np.maximum.reduceat(scaled, self.starts)
        odds = np.exp(scaled - np.repeat(top, self.sizes))
        law = odds / np.repeat(np.add.reduceat(odds, self.starts), self.sizes)
        expected = np.add.reduceat(law * utilities, self.starts)
        away = utilities - np.repeat(expected, self.sizes)
        return utilities[self.winners] - expected, float((law * np.square(away)).sum())


def as_slates(offsets: ArrayLike, picked: ArrayLike, rows: int) -> Slates:
    """Check offsets (S + 1,) and picks (S,) against the number of rows.

    Raises:
        InputError: they are not whole numbers, do not fit each other or the rows, a slate has fewer than two
            candidates, or a pick lies outside its slate.
    """
    bounds, picks = _whole(offsets, "offsets"), _whole(picked, "picked")
    if bounds.size != picks.size + 1 or bounds[0] != 0 or bounds[-1] != rows:
        ends = f" from {bounds[0]} to {bounds[-1]}" if bounds.size else ""
        raise InputError(
            "offsets must run from 0 to the number of samples, one more than there are picks",
            got=f"{bounds.size} offsets{ends} for {rows} samples and {picks.size} picks",
            remedy="offsets[s] is the first row of slate s; the last offset is the number of samples",
        )
    sizes = np.diff(bounds)
    small = np.flatnonzero(sizes < 2)
    if small.size:
        raise InputError(
            f"{small.size} slates have fewer than two candidates, of which nothing can be learned",
            got=f"slate {small[0]} with {sizes[small[0]]}",
            remedy="leave them out",
        )
    outside = np.flatnonzero((picks < 0) | (picks >= sizes))
    if outside.size:
        first = outside[0]
        raise InputError(
            f"{outside.size} picks lie outside their slates",
            got=f"pick {picks[first]} in slate {first} of {sizes[first]} candidates",
            remedy="picked holds places within slates, from 0",
        )
    return Slates(bounds, picks)


def _whole(values: ArrayLike, name: str) -> IntArray:
    found = np.asarray(values)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise InputError(
            f"{name} must be a flat array of whole numbers",
            got=f"shape {found.shape} of {found.dtype}",
            remedy="convert it to int64",
        )
    return found.astype(np.int64)


def as_clusters(clusters: ArrayLike | None, count: int) -> IntArray:
    """Return a number for each slate's cluster, shape (count,); None makes every slate its own.

    Raises:
        InputError: there is not one cluster a slate.
    """
    if clusters is None:
        return np.arange(count)
    names = np.asarray(clusters)
    if names.shape != (count,):
        raise InputError(
            "clusters must name one chooser or context a slate",
            got=f"shape {names.shape} for {count} slates",
            remedy="give one name a slate, or leave clusters out",
        )
    return np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)


def parts(
    clusters: IntArray, shares: tuple[float, float], rng: Stream
) -> tuple[IntArray, IntArray, IntArray]:
    """Split slates in three at random, whole clusters on one side.

    Args:
        clusters: cluster of each slate, shape (S,), as :func:`as_clusters` numbers them.
        shares: shares of slates wanted in the second and the third part.
        rng: which clusters go where.

    Returns:
        Slates of the training, the validation and the held-out part, in order. A cluster joins the held-out
        part, else the validation part, if that brings it closer to its share, and is trained on otherwise.

    Raises:
        InputError: too few clusters, or too large ones: fewer than two would be held out (of one alone there
            is no standard error), or none would be left to another part.
    """
    sizes = np.bincount(clusters)
    wanted = (shares[1] * clusters.size, shares[0] * clusters.size)
    filled = [0, 0]
    part = np.zeros(sizes.size, np.int64)  # 0: trained on; 1: held out; 2: validation
    for cluster in rng.generator().permutation(sizes.size):
        for number in (0, 1):
            after = filled[number] + sizes[cluster]
            if abs(after - wanted[number]) < abs(filled[number] - wanted[number]):
                filled[number] = after
                part[cluster] = number + 1
                break
    counts = np.bincount(part, minlength=3)
    if counts[0] < 1 or counts[1] < 2 or counts[2] < 1:
        raise InputError(
            "the clusters are too few or too large to keep some for validation and two or more held out",
            got=f"{sizes.size} clusters, the largest with {sizes.max()} of {clusters.size} slates",
            remedy="give finer clusters or none, or change the shares held_out and validation",
        )
    found = part[clusters]
    return np.flatnonzero(found == 0), np.flatnonzero(found == 2), np.flatnonzero(found == 1)


def mean_error(values: FloatArray, clusters: IntArray) -> float:
    """Return the standard error of the mean of values (S,) whose clusters (S,) are independent."""
    count = np.unique(clusters).size
    return standard_error(values - values.mean(), clusters) * math.sqrt(count / max(count - 1, 1))
