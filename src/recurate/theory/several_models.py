r"""Several models that train on each other's picks.

Model i of M has the law p_i and a curator, who judges its slates by reward j with weight w_ij. The picks of
its candidates have the law c_i = p_i W_i, W_i = sum_j w_ij H_j at p_i (:mod:`recurate.theory.population`).
Model i is retrained on the picks of all models, in the shares of row i of a matrix A whose rows sum to one:

.. math:: b_i = \rho\, p_{ref} + (1 - \rho) \sum_j A_{ij}\, p_j W_j

and the rest of a round is that of one loop (:mod:`recurate.theory.setting`). Models that train on each
other's curated data: Zhang, Wei and Zhang 2026, arXiv 2605.29267; this law is derived here, in their setting
but with the rules of this package. What follows from it at once:

- A = 1 (the identity) is M loops apart; equal first laws and curators are one loop, whatever A is;
- rows of A that are all equal to a, and equal first laws, are one loop whose slates are judged by reward j
  with weight sum_i a_i w_ij;
- two models that swap their picks, A = ((0, 1), (1, 0)), play the stages of both curators in turn: a model's
  law two rounds later is its own law after its own curator's stage and then the other's.

**Reversal.** After one round the mean E_{p_i} f is affine in the shares of row i, so that the share w of
another model above which the model's own reward falls below its start is exact (:func:`reversal_weight`):

.. math:: w_1 = \frac{E_{c_1} f - E_{p_1} f}{E_{c_1} f - E_{c_2} f} \quad\text{if } \rho = 0.

**Two atoms.** Let s and z be the shares of model 1's favourite in both models, g_i(s) = s H_i; A = ((1 - w,
w), (v, 1 - v)). Then (s, z) goes to ((1 - w) g_1(s) + w g_2(z), v g_1(s) + (1 - v) g_2(z)), which increases
in s and z. So from equal starts s_0, where w_1 = (g_1(s_0) - s_0) / (g_1(s_0) - g_2(s_0)):

- w > w_1 and v <= 1 - w_1: model 1's own reward falls in every round;
- w < w_1 and v >= 1 - w_1: it rises in every round;
- v = 0 (model 2 trains on its own picks alone): it ends below its start iff w > 1 - s_0 / g_1(s_0), which is
  less than w_1: between the two, curation first helps and then is reversed (:func:`lasting_reversal`);
- a stronger g_1 >= g_1' leaves every later s and z at least as large: with two atoms, curating more never
  lowers a model's own reward, however models are mixed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.rules.selection import Selection
from recurate.theory.population import Population, check_law
from recurate.theory.setting import Setting, as_floats, check_weights, play

FLAT = 1e-13  # relative difference of two means that counts as none


@dataclass(frozen=True)
class SeveralModels:
    """M models on N common atoms, their curators, and the shares in which they train on each other's picks.

    Attributes:
        population: the atoms with their m rewards.
        laws: p_i of round 0, shape (N, M), columns summing to one.
        curators: w, the share of each model's slates judged by each reward, shape (M, m), rows summing to
            one.
        mixing: A, row i the shares of all models' picks in the training set of model i, shape (M, M).
        reference: p_ref of each model, shape (N, M).

    >>> from recurate import Rule, Setting
    >>> pair = SeveralModels.of([[1.0, 0.0], [0.0, 1.0]], mixing=[[0.9, 0.1], [0.1, 0.9]])
    >>> for laws in pair.play(Setting(Rule(2), rounds=1)):
    ...     print(laws.round(4).tolist())
    [[0.5, 0.5], [0.5, 0.5]]
    [[0.5924, 0.4076], [0.4076, 0.5924]]
    """

    population: Population
    laws: FloatArray
    curators: FloatArray
    mixing: FloatArray
    reference: FloatArray

    @classmethod
    def of(
        cls,
        rewards: ArrayLike,
        *,
        laws: ArrayLike | None = None,
        curators: ArrayLike | None = None,
        mixing: ArrayLike | None = None,
        reference: ArrayLike | None = None,
    ) -> SeveralModels:
        """Return checked models.

        Args:
            rewards: shape (N, m) or (N,), finite.
            laws: p_i of round 0, shape (N, M), non-negative; uniform if None.
            curators: w, shape (M, m); None: as many models as rewards, each curated by its own.
            mixing: A, shape (M, M); None: every model trains on its own picks.
            reference: p_ref, shape (N,) for all models; None: each model's own first law.

        Raises:
            InputError: shapes disagree or values are out of range.
        """
        cite("zhang2026")
        population = Population(rewards)
        count, dimension = population.rewards.shape
        judged = _rows("curators", np.eye(dimension) if curators is None else curators, dimension)
        models = len(judged)
        shares = _rows("mixing", np.eye(models) if mixing is None else mixing, models)
        if len(shares) != models:
            raise InputError(
                "every model needs one row of shares of all models' picks",
                got=f"{len(shares)} rows for {models} models",
                remedy="pass mixing of shape (models, models)",
            )
        starts = np.full((count, models), 1 / count) if laws is None else as_floats("laws", laws)
        if starts.shape != (count, models):
            raise InputError(
                "laws must have one mass for each candidate and model",
                got=f"shape {starts.shape}, for {count} candidates and {models} models",
                remedy="pass shape (candidates, models)",
            )
        starts = np.column_stack([check_law("laws", column, count) for column in starts.T])
        real = starts if reference is None else check_law("reference", reference, count)[:, None]
        return cls(population, starts, judged, shares, np.broadcast_to(real, starts.shape))

    def mixed(self, mixing: ArrayLike) -> SeveralModels:
        """Return the same models with other shares of each other's picks, shape (M, M)."""
        shares = _rows("mixing", mixing, len(self.curators))
        return replace(self, mixing=shares)

    def picked(self, laws: FloatArray, setting: Setting) -> FloatArray:
        """Return the law c_i of each model's picks after all stages, shape (N, M), for laws (N, M).

        Stages without weights of their own are judged by each model's curator.

        Raises:
            InputError: the setting has weights of its own.
        """
        if setting.weights is not None:
            raise InputError(
                "each of several models has its own curator's weights",
                got="weights in the setting",
                remedy="give curators, one row of weights per model",
            )
        for stage in setting.stages:
            own = self.curators if stage.weights is None else np.tile(stage.weights, (len(self.curators), 1))
            laws = self.population.curate(laws, stage.rule, own.T)
        return laws

    def play(self, setting: Setting) -> Iterator[FloatArray]:
        """Yield the exact laws of rounds 0, 1, ..., setting.rounds, each of shape (N, M)."""

        def curate(laws: FloatArray) -> FloatArray:
            return np.asarray(self.picked(laws, setting) @ self.mixing.T)

        return play(setting, self.laws, self.reference, curate)

    def simulate(self, setting: Setting, stream: Stream) -> Iterator[FloatArray]:
        """Yield simulated laws of rounds 0, 1, ..., each of shape (N, M), with finitely many picks.

        Every model has ``setting.picks`` picks a round. Row i of A, rounded to whole numbers of them, says
        how many of each model's picks, drawn without replacement, model i is trained on; models share picks.
        Real data have their exact law. Round t draws at ("round", t, "model", i, ...), so that a round does
        not depend on the rounds that were simulated before.

        Raises:
            InputError: the setting has no number of picks.
        """
        if setting.picks is None:
            raise InputError(
                "simulated models need a number of picks",
                got="picks = None",
                remedy="Setting(..., picks=1000)",
            )
        picks, rounds = setting.picks, itertools.count(setting.first)
        sizes = np.array([apportioned(row, picks) for row in self.mixing])

        def curate(laws: FloatArray) -> FloatArray:
            at = stream.at("round", next(rounds))
            made = [
                _drawn(law, picks, at.at("model", j, "picks").generator())
                for j, law in enumerate(self.picked(laws, setting).T)
            ]
            taken = [
                sum(
                    _subset(made[j], size, at.at("model", i, "from", j).generator())
                    for j, size in enumerate(row.tolist())
                )
                for i, row in enumerate(sizes)
            ]
            return np.column_stack(taken) / picks

        return play(setting, self.laws, self.reference, curate)

    def own_rewards(self, laws: FloatArray) -> FloatArray:
        """Return each model's mean reward by its own curator, sum_j w_ij E_{p_i} r_j, shape (M,)."""
        means = laws.T @ self.population.rewards
        return np.asarray((means * self.curators).sum(axis=1))


def reversal_weight(models: SeveralModels, setting: Setting, model: int = 0, other: int = 1) -> float:
    """Return the share of another model's picks above which a model's own reward falls in the first round.

    The model trains on its own picks with share 1 - w and on the other's with share w; its mean own reward
    after a round is affine in w, so w is exact for any atoms, rule, real fraction, efficacy and mode.

    Args:
        models: the models, of which only the row of ``model`` in their mixing matters, and is replaced.
        setting: the selection and retraining of every round.
        model: number of the model.
        other: number of the other model.

    Returns:
        w in [0, 1]; ``math.inf`` if its own reward falls at no share; 0 if it falls at any, also at none of
        the other's; nan if it falls without the other's picks and rises with them alone.

    Raises:
        InputError: both numbers are the same.

    >>> from recurate import Rule
    >>> round(reversal_weight(SeveralModels.of([[1.0, 0.0], [0.0, 1.0]]), Setting(Rule(2))), 6)
    0.5
    """
    if model == other:
        raise InputError("a model and another one are needed", got=f"{model} twice", remedy="name two models")
    one_round = replace(setting, rounds=1)
    ends = []
    for row in (model, other):
        mixing = models.mixing.copy()
        mixing[model] = np.eye(len(mixing))[row]
        first, last = (models.own_rewards(laws)[model] for laws in models.mixed(mixing).play(one_round))
        ends.append(float(last - first))
    alone, swapped = ends
    size = FLAT * max(float(np.abs(models.population.rewards).max()), 1e-300)
    if swapped >= -size:
        return math.inf if alone >= -size else math.nan
    return max(alone / (alone - swapped), 0.0)


def lasting_reversal(share: float, rule: Selection, gap: float) -> float:
    r"""Return the share of a settled opponent's picks above which a model's own reward ends below its start.

    Two atoms: the model's favourite, of share s_0, is ``gap`` above the other in its own reward; another
    model, which trains on its own picks alone and prefers the other atom, has settled there. Then s' =
    (1 - w) g(s), where g(s) / s = H(s) falls as s rises, and s_t ends below s_0 iff

    .. math:: w > 1 - s_0 / g(s_0) = 1 - 1 / H(s_0).

    For Luce's rule with K = infinity this is (1 - s_0)(1 - e^{-gap / tau}), for best of K as s_0 falls to 0
    it is 1 - 1/K. The model loses its favourite for good iff w >= 1 - 1 / H(0).

    Args:
        share: s_0, in (0, 1).
        rule: the rule of selection.
        gap: the difference of the two rewards, >= 0.

    Raises:
        InputError: a value is out of range.

    >>> from recurate import Rule
    >>> round(lasting_reversal(0.25, Rule(math.inf), math.log(3)), 6)
    0.5
    """
    if not 0 < share < 1 or not gap >= 0 or not math.isfinite(gap):
        raise InputError(
            "the share must lie between 0 and 1, and the gap be a finite number >= 0",
            got=f"share = {share:g}, gap = {gap:g}",
            remedy="for example share = 0.5, gap = 1",
        )
    rewards, law = np.array([gap, 0.0]), np.array([share, 1 - share])
    return 1 - 1 / float(rule.weigh(rule.setup(rewards), law)[0])


def apportioned(shares: Sequence[float] | FloatArray, count: int) -> IntArray:
    """Return whole numbers in the proportions of ``shares`` that sum to ``count``, shape (models,).

    They are rounded down, and what is left goes to the largest remainders, the first of equal ones first
    (Hamilton's method).

    >>> apportioned([0.5, 0.25, 0.25], 6).tolist()
    [3, 2, 1]
    """
    exact = np.asarray(shares, float) * count
    found = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - found), kind="stable")
    found[order[: count - int(found.sum())]] += 1
    return np.asarray(found)


def _drawn(law: FloatArray, picks: int, rng: np.random.Generator) -> IntArray:
    """Return the numbers of picks of each atom, shape (N,)."""
    return np.asarray(rng.multinomial(picks, np.minimum(law, 1.0)), np.int64)


def _subset(made: IntArray, size: int, rng: np.random.Generator) -> IntArray:
    """Return how many of ``size`` picks, drawn from a model's picks without replacement, are of each atom."""
    return np.asarray(rng.multivariate_hypergeometric(made, size, method="marginals"), np.int64)


def _rows(name: str, values: ArrayLike, width: int) -> FloatArray:
    """Return shares (rows, width), each row non-negative and summing to one."""
    matrix = as_floats(name, values)
    if matrix.ndim != 2 or matrix.shape[1] != width or not len(matrix):
        raise InputError(
            f"{name} must have one row of {width} shares per model",
            got=f"shape {matrix.shape}",
            remedy=f"pass shape (models, {width})",
        )
    return np.stack([_row(name, i, row) for i, row in enumerate(matrix)])


def _row(name: str, i: int, row: FloatArray) -> FloatArray:
    try:
        return check_weights(row, row.size)
    except InputError as error:
        raise InputError(f"{name}, row {i}: {error.what}", got=error.got, remedy=error.remedy) from None
