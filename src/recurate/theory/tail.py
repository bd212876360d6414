r"""A fitted tail, to continue a one-reward forecast beyond the effective support of its pool.

K-fold selection multiplies a mass by at most K per round, so after t rounds only the top share K^-t of the
pool matters; once that is a few candidates, the forecast is about their rewards alone. Beyond a high
threshold u most laws are close to a generalized Pareto law (Pickands 1975),

.. math:: P(r - u > y \mid r > u) = (1 + \xi y / \sigma)^{-1/\xi}, \qquad \xi = 0: e^{-y / \sigma},

with a finite end for shape xi < 0, an exponential tail at 0 and a power law above. It is fitted to the
exceedances, and :meth:`FittedTail.extended` puts it in their place.

The tail is extrapolation: nothing in the pool can confirm it, and it must be labelled wherever it is shown.
In simulations (``tests/theory/test_tail.py``; pools of 4,000, K = 4, median error of the mean reward) it does
not help while the plain forecast rests on more than about 10 candidates, unless the law has exactly such a
tail; below that it reduces the error by a third to a half, but not where rewards have a finite maximum. With
shape xi >= 0, E exp(reward) is infinite (:attr:`FittedTail.finite_exp`) and must be left out.

**Fit.** Penalised maximum likelihood: a Cauchy prior on xi of scale 0.25 stabilises the shape of small tails
near 0 and hardly affects clear shapes (200 exceedances determine xi = 0 to 0.07; penalties: Coles and Dixon
1999). The likelihood is unbounded for xi < -1, so the search is restricted to xi >= -1. With theta = xi /
sigma it has a profile in one variable, xi(theta) = E log(1 + theta y) (Grimshaw 1993).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.log.candidates import Candidates
from recurate.log.trajectory import TAIL, Row
from recurate.metrics.describe import Describer
from recurate.theory.loop_model import LoopModel
from recurate.theory.population import Population

ENOUGH = 200  # number of exceedances to fit, if the pool allows
FEWEST = 100  # smallest number of exceedances
LARGEST_SHARE = 0.2  # largest mass of a tail
SHAPE_SPREAD = 0.25  # scale of the prior on the shape
LOWEST_SHAPE = -1.0
DEEPEST = 1e-15  # survival probability of the last atom, in the whole population
RATIO = 0.02  # log ratio of neighbouring atoms' survival probabilities


@dataclass(frozen=True)
class FittedTail:
    """A generalized Pareto tail.

    Attributes:
        threshold: u, in the reward's unit; the tail has the rewards strictly above it.
        share: the mass of the tail in the pool.
        shape: xi.
        scale: sigma, in the reward's unit.
        shape_error: the standard error of xi (Smith 1985); nan for xi <= -1/2, where there is none.
        scale_error: the standard error of sigma; nan for xi <= -1/2.
        count: the effective number of exceedances, 1 / sum of squared relative masses.
        exceedances: r - u, in increasing order, shape (tail atoms,).
        weights: their relative masses, shape (tail atoms,), summing to one.
    """

    threshold: float
    share: float
    shape: float
    scale: float
    shape_error: float
    scale_error: float
    count: float
    exceedances: FloatArray
    weights: FloatArray

    @property
    def finite_mean(self) -> bool:
        """Whether the mean reward exists."""
        return self.shape < 1

    @property
    def finite_exp(self) -> bool:
        """Whether E exp(reward / temperature) exists at every temperature: rewards have a finite maximum."""
        return self.shape < 0

    @property
    def end(self) -> float:
        """The largest reward that the tail allows; inf if there is none."""
        return self.threshold - self.scale / self.shape if self.shape < 0 else math.inf

    def extended(self, rewards: FloatArray, law: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Return (rewards, law) with the atoms above the threshold replaced by the fitted tail.

        The body, ``rewards <= threshold``, comes first, unchanged and in its order. Then about 1,600 atoms:
        bins of the tail between survival probabilities that fall by 2 % each, down to 1e-15 of the whole
        population. An atom has its bin's exact mass and lies at its bin's mean.

        Args:
            rewards: shape (N,).
            law: masses, shape (N,); uniform if None. The tail keeps its mass under this law.

        Raises:
            InputError: the tail has no mean (shape >= 1).
        """
        if not self.finite_mean:
            raise InputError(
                "the fitted tail is so heavy that the mean reward is infinite",
                got=f"shape {self.shape:.2f}",
                remedy="forecast within the support",
            )
        rewards, masses = _pool(rewards, law)
        body = rewards <= self.threshold
        share = float(masses[~body].sum())
        if share == 0:
            return rewards, masses
        positions, bins = self._atoms(share)
        out = np.concatenate([masses[body], share * bins])
        return np.concatenate([rewards[body], self.threshold + positions]), out / out.sum()

    def _atoms(self, share: float) -> tuple[FloatArray, FloatArray]:
        """Return exceedances and masses (summing to one) of the tail's atoms, in increasing order."""
        depth = max(math.log(share / DEEPEST), RATIO)
        edges = np.append(np.exp(-np.linspace(0.0, depth, math.ceil(depth / RATIO) + 1)), 0.0)
        masses = -np.diff(edges)
        # Three-point Gauss-Legendre within a bin: the mean to about 1e-10.
        nodes, weights = np.polynomial.legendre.leggauss(3)
        inside = edges[1:, None] + masses[:, None] * (1.0 + nodes) / 2.0
        means = _quantile(inside, self.shape) @ (weights / 2.0)
        # The last bin has no lower end; the mean excess of a generalized Pareto law is known.
        last = edges[-2]
        means[-1] = _quantile(last, self.shape) + last**-self.shape / (1.0 - self.shape)
        return self.scale * means, masses


def fit_tail(rewards: FloatArray, law: FloatArray | None = None, *, share: float | None = None) -> FittedTail:
    """Fit a generalized Pareto tail to the top of a pool of rewards.

    Args:
        rewards: shape (N,), finite.
        law: masses, shape (N,); uniform if None.
        share: the mass of the tail; None: that of max(200, 4 sqrt(n)) exceedances, at most 0.2, where n is
            the pool's effective size 1 / sum of squared masses.

    Raises:
        InputError: there are fewer than 100 effective exceedances, or the share lies outside (0, 1).
    """
    rewards, masses = _pool(rewards, law)
    if share is None:
        size = 1.0 / float(masses @ masses)
        share = min(LARGEST_SHARE, max(ENOUGH, 4.0 * math.sqrt(size)) / size)
    if not 0 < share < 1:
        raise InputError("the tail's share must lie between 0 and 1", got=share, remedy="0.05 is usual")
    threshold, exceedances, weights = _exceedances(rewards, masses, share)
    count = 1.0 / float(weights @ weights) if weights.size else 0.0
    if count < FEWEST:
        raise InputError(
            f"a tail needs at least {FEWEST} candidates above its threshold",
            got=f"{count:.0f} (of {rewards.size} candidates, tail share {share:.2g})",
            remedy="use 1,000 candidates or more, with few ties: fewer do not determine a tail",
        )
    shape, scale = _fit(exceedances, weights)
    regular = shape > -0.5
    return FittedTail(
        threshold=threshold,
        share=float(masses[rewards > threshold].sum()),
        shape=shape,
        scale=scale,
        shape_error=(1.0 + shape) / math.sqrt(count) if regular else math.nan,
        scale_error=scale * math.sqrt(2.0 * (1.0 + shape) / count) if regular else math.nan,
        count=count,
        exceedances=exceedances,
        weights=weights,
    )


def _pool(rewards: FloatArray, law: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Return rewards (N,) and normalised masses (N,)."""
    rewards = np.asarray(rewards, dtype=np.float64)
    masses = np.ones(rewards.shape) if law is None else np.asarray(law, dtype=np.float64)
    if rewards.ndim != 1 or masses.shape != rewards.shape or not rewards.size:
        raise InputError(
            "a tail is fitted to one reward, with one mass for each candidate",
            got=f"shapes {rewards.shape} and {masses.shape}",
            remedy="pass one column of rewards, shape (N,)",
        )
    valid = np.all(np.isfinite(rewards)) and np.all(np.isfinite(masses)) and np.all(masses >= 0)
    if not valid or masses.sum() == 0:
        raise InputError(
            "rewards must be finite, and masses finite, non-negative and not all zero",
            got="other values",
            remedy="drop such candidates",
        )
    return rewards, masses / masses.sum()


def _exceedances(
    rewards: FloatArray, masses: FloatArray, share: float
) -> tuple[float, FloatArray, FloatArray]:
    """Return the threshold, the exceedances in increasing order and their relative masses."""
    order = np.argsort(rewards, kind="stable")
    order = order[masses[order] > 0]
    above = np.cumsum(masses[order][::-1])[::-1]
    # The highest atom that has at least `share` of the mass at or above it stays in the body.
    threshold = float(rewards[order[np.flatnonzero(above > share * (1 + 1e-12))[-1]]])
    top = order[rewards[order] > threshold]
    return threshold, rewards[top] - threshold, masses[top] / max(masses[top].sum(), 1e-300)


def _fit(exceedances: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Return shape and scale by penalised likelihood, a search in x = log(1 + theta max y)."""
    largest = exceedances[-1]
    count = 1.0 / float(weights @ weights)
    low, high, points = -20.0, 12.0, 129
    for _ in range(6):
        x = np.linspace(low, high, points)
        x[x == 0] = 1e-9  # theta = 0 is the exponential law, a removable singularity
        theta = np.expm1(x) / largest
        shapes = np.array([np.log1p(t * exceedances) @ weights for t in theta])
        loss = np.log(shapes / theta) + shapes + np.log1p(np.square(shapes / SHAPE_SPREAD)) / count
        loss[shapes < LOWEST_SHAPE] = np.inf
        best = int(np.argmin(loss))
        low, high, points = x[max(best - 1, 0)], x[min(best + 1, points - 1)], 17
    return float(shapes[best]), float(shapes[best] / theta[best])


def _quantile(survival: FloatArray, shape: float) -> FloatArray:
    """Return the exceedances, in units of the scale, that have these survival probabilities."""
    from scipy.special import boxcox

    return np.asarray(-boxcox(survival, -shape))


def continue_tail(model: LoopModel, ends: int | None) -> tuple[list[Row], list[str]]:
    """Return the rows of a forecast with a fitted tail, from round ``ends`` on, and its caveats.

    There are none while the effective support suffices (``ends`` is None).
    """
    atoms = model.describer.candidates
    if ends is None:
        return [], []
    if model.mode != "one" or len(atoms.names) > 1:
        return [], ["a fitted tail needs one reward and one context: none is shown"]
    if model.population.reference is not model.population.law:
        return [], ["a fitted tail needs the model's own law as the reference: none is shown"]
    try:
        if atoms.counts is not None:
            return [], [
                "a fitted tail needs the candidates themselves: none is shown for a log read in parts"
            ]
        fitted = fit_tail(atoms.rewards[:, 0], model.population.law)
        rewards, law = fitted.extended(atoms.rewards[:, 0], model.population.law)
    except InputError as error:
        return [], [f"no tail could be fitted: {error.what} (got: {error.got})"]
    population = Population(rewards, law=law, weights=model.setting.weights)
    describer = Describer(Candidates(population.rewards, atoms.names), model.setting.temperature)
    rows = []
    for t, law_t in enumerate(population.play(model.setting)):
        if t >= ends:
            rows += [
                row
                for row in describer.rows(t, TAIL, describer.values(law_t))
                if row.quantity == "mean_reward" or (fitted.finite_exp and row.quantity == "mean_exp_reward")
            ]
    return rows, [_about(fitted, ends)]


def _about(fitted: FittedTail, ends: int) -> str:
    end = "without a maximum" if math.isinf(fitted.end) else f"up to {fitted.end:.4g}"
    return (
        f"from round {ends} on a fitted tail continues the forecast: a generalized Pareto law above "
        f"{fitted.threshold:.4g} (shape {fitted.shape:.2f}, standard error {fitted.shape_error:.2f}, from "
        f"{fitted.count:.0f} candidates), {end}; it is an extrapolation beyond the data"
    )
