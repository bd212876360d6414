r"""What each deviation from Luce's rule does to a forecast, from the exact law over the log's candidates.

For every deviation that was found, two loops are played from the first round's candidates: the fitted rule
with this deviation, and Luce's rule with the same rewards and temperature without it. Lapses are the mixture

.. math:: p_{t+1} = (1 - \epsilon)\, p_t H + \epsilon\, p_t,

effects of places are averaged over random orders (:mod:`recurate.rules.places`), and groups are the mixture
of the groups' rules (:mod:`recurate.theory.population`). Training sets hold picks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.choices.checks.score_tests import Check
from recurate.choices.checks.verdict import TESTS_LEVEL
from recurate.choices.models.rival_rules import RuleFit
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.candidates import as_candidates
from recurate.log.reading.slates import POSITIONS, SCORE
from recurate.rules import GAUSSIAN, NO_NOISE, Rule, Selection
from recurate.rules.families import Family
from recurate.rules.places import Placed
from recurate.theory.forecast import SUPPORT
from recurate.theory.loop_model import LoopModel
from recurate.theory.setting import Setting
from recurate.verbs.fit.again import ITEM_REWARD
from recurate.verbs.fit.fit import Fit, described

ROUNDS = (1, 5)
MOST = 20_000  # candidates; of more, evenly spread slates are taken
ONE, POOLED, MIXED = "one", "pooled residuals", "each and pooled"  # treatments of contexts
UNKNOWN = {
    "iia": "it depends on which candidates are alike, and no fitted rule has that",
    "drift": "the rule itself changes with time: fit the latest picks alone",
    "choosers": "no groups were fitted that account for it: --groups 2",
    "repeats": "what the rewards omit of particular candidates is not in the pool",
    "calibration": "none of the rules with a name predicts these picks better than Luce's",
}


@dataclass(frozen=True)
class Consequence:
    """What one deviation does to a loop after some rounds (``ROUNDS``).

    Attributes:
        deviation: The deviation.
        size: Its fitted size, in words.
        why: Why nothing was computed, or nothing.
        mean: Expected reward, one value per round.
        luce_mean: The same under Luce's rule without the deviation.
        variance: Variance of the reward; empty where it is not known: where thick and thin contexts are
            mixed, or the estimate is below 0.
        luce_variance: The same under Luce's rule.
        support: Smallest effective support of these laws.
        contexts: Treatment of contexts; see :class:`recurate.theory.forecast.Forecast`.
    """

    deviation: str
    size: str
    why: str = ""
    mean: tuple[float, ...] = ()
    luce_mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()
    luce_variance: tuple[float, ...] = ()
    support: float = 0.0
    contexts: str = ONE


@dataclass(frozen=True)
class Consequences:
    """The deviations that were found, and what they rest on.

    Attributes:
        rows: Luce's rule itself, then one per deviation.
        reward: What the expected reward is of.
        pool: The candidates, in words.
        start: Expected reward and variance of the candidates themselves.
    """

    rows: tuple[Consequence, ...]
    reward: str = ""
    pool: str = ""
    start: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Deviation:
    """A rule that deviates from Luce's.

    Attributes:
        name: The deviation.
        size: Its fitted size, in words.
        rule: The rule.
        judged: Rewards by which it judges, at temperature 1, (rows, m).
        weights: Share of slates judged by each of them, (m,).
        luce: Rewards of Luce's rule without the deviation, at temperature 1, (rows,).
    """

    name: str
    size: str
    rule: Selection
    judged: FloatArray
    weights: tuple[float, ...]
    luce: FloatArray


@dataclass(frozen=True)
class Pool:
    """Candidates of the first round, each once.

    Attributes:
        rows: Their rows in the fit.
        contexts: Context of each, or None.
        sizes: Slate sizes and their shares.
        words: What they are, in words.
    """

    rows: IntArray
    contexts: NDArray[np.str_] | None
    sizes: dict[float, float]
    words: str


def consequences(found: Fit) -> Consequences | None:
    """Return what each deviation that was found does to a forecast; None where there are no rewards."""
    if found.reading.model == POSITIONS or (found.logit is None and found.items is None):
        return None
    pool = _pool(found)
    deviations, unknown = _deviations(found, pool)
    reward, luce = _measured(found)
    pooled = _pooled(found)
    plain = Deviation("none", "Luce's rule", Rule(dict(pool.sizes)), pooled[:, None], (1.0,), pooled)
    rows = [played(d, pool, reward) for d in (plain, *deviations)]
    rows += [Consequence(name, size, why) for name, size, why in unknown]
    own = reward[pool.rows]
    name = f"the score {found.reading.choices.names[0]!r}" if reward is not luce else "the fitted rewards"
    return Consequences(tuple(rows), name, pool.words, (float(own.mean()), float(own.var())))


def played(deviation: Deviation, pool: Pool, reward: FloatArray) -> Consequence:
    """Play the loop with a deviation and without it; ``reward`` is measured, (rows,)."""
    columns = np.column_stack([reward, deviation.luce, deviation.judged])[pool.rows]
    candidates = as_candidates(columns, contexts=pool.contexts)
    plain = (0.0, 1.0, *(0.0 for _ in deviation.weights))
    luce = Setting(Rule(dict(pool.sizes)), plain, rounds=max(ROUNDS))
    other = Setting(deviation.rule, (0.0, 0.0, *deviation.weights), rounds=max(ROUNDS))
    try:
        model = LoopModel.build(candidates, None, None, luce, None)
        laws, plain_laws = (list(model.population.play(setting)) for setting in (other, luce))
    except InputError as error:  # contexts with one candidate, or a temperature close to zero
        return Consequence(deviation.name, deviation.size, f"{error.what} ({error.got})")
    mean, variance = _moments(model, laws, columns[:, 0])
    plain_mean, plain_variance = _moments(model, plain_laws, columns[:, 0])
    if not variance or not plain_variance:
        variance = plain_variance = ()
    support = min(1 / float(np.square(law).sum()) for law in (laws[-1], plain_laws[-1]))
    return Consequence(
        deviation.name, deviation.size, "", mean, plain_mean, variance, plain_variance, support,
        model.mode,
    )  # fmt: skip


def _moments(
    model: LoopModel, laws: Sequence[FloatArray], reward: FloatArray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return E r and Var r after ``ROUNDS``: of thin contexts only the residuals change.

    Var r is the variance of all candidates plus the change of the residuals' variance. Where this estimate is
    negative, or thick and thin contexts are mixed, no variance is returned.
    """
    own = model.population.rewards[:, 0]

    def of(law: FloatArray) -> tuple[float, float]:
        mean = float(law @ own)
        return mean, float(law @ np.square(own - mean))

    mean, variance = of(laws[0])
    means = [float(reward.mean()) + of(laws[t])[0] - mean for t in ROUNDS]
    variances = [float(reward.var()) + of(laws[t])[1] - variance for t in ROUNDS]
    known = model.mode != MIXED and min(variances) >= 0
    return tuple(means), tuple(variances) if known else ()


# --- what was found -------------------------------------------------------------------------------


def _deviations(found: Fit, pool: Pool) -> tuple[list[Deviation], list[tuple[str, str, str]]]:
    """Return the deviations with a rule, and (name, size, why) of those without one."""
    checks = found.checks if found.within is None else found.within.checks
    failed = [c for c in checks if c.main and c.corrected is not None and c.corrected < TESTS_LEVEL]
    rules = found.rules if found.within is None else found.within.rules
    better = {r.name for r in rules if (r.better if failed else r.surely_better)}
    if found.verdict.rule == Family.BEST:
        better.add(Family.BEST)
    rivals = {Family.LAPSE: found.lapse, Family.THURSTONE: found.thurstone, Family.BEST: found.best}
    known: list[Deviation] = []
    unknown: list[tuple[str, str, str]] = []
    for check in failed:
        if check.name == "position":
            biased = _position(found, pool, check)
            if isinstance(biased, Deviation):
                known.append(biased)
            else:
                unknown.append((check.title, check.effect, biased))
    for family in (Family.LAPSE, Family.THURSTONE, Family.BEST):
        fitted = rivals[family]
        if family in better and fitted is not None:
            known.append(_rival(found, pool, family, fitted))
    if found.groups is not None:
        known.append(_groups(found, pool))
    explained = {"calibration"} if better else set()
    unknown += [
        (c.title, c.effect, UNKNOWN[c.name])
        for c in failed
        if c.name in UNKNOWN and c.name not in explained and not (c.name == "choosers" and found.groups)
    ]
    return known, unknown


def _position(found: Fit, pool: Pool, check: Check) -> Deviation | str:
    fitted, largest = found.positions, int(max(pool.sizes))
    if fitted is None:
        return "the effects of places have no finite estimate together with the rewards"
    places = {n.removeprefix("place "): b for n, b in zip(fitted.names, fitted.coefficients, strict=True)}
    # The last indicator stands for all later places; see choices.checks.score_tests.dummies.
    numbered = {int(n): float(b) for n, b in places.items() if n.isdigit()}
    last = numbered[max(numbered)] if numbered else 0.0
    effects = [numbered.get(i + 1, 0.0 if i + 1 < max(numbered) else last) for i in range(largest)]
    judged = _utilities(found, fitted.coefficients)
    return Deviation(
        check.title, check.effect, Placed(tuple(effects), dict(pool.sizes)), judged[:, None], (1.0,), judged
    )


def _rival(found: Fit, pool: Pool, family: Family, fitted: RuleFit) -> Deviation:
    sizes, pooled = dict(pool.sizes), _pooled(found)
    if family == Family.LAPSE:
        judged = _utilities(found, fitted.coefficients)
        size, rule = _shares(fitted), Rule(sizes, lapse=fitted.rule.lapse)
        return Deviation("Lapses", size, rule, judged[:, None], (1.0,), judged)
    if family == Family.THURSTONE:
        judged = _utilities(found, fitted.coefficients)
        rule = Rule(sizes, noise=GAUSSIAN)
        return Deviation("Gaussian noise", "Thurstone's rule", rule, judged[:, None], (1.0,), pooled)
    rule = Rule(sizes, noise=NO_NOISE, lapse=fitted.rule.lapse)
    return Deviation("No noise", f"best of K, {_shares(fitted)}", rule, pooled[:, None], (1.0,), pooled)


def _shares(fitted: RuleFit) -> str:
    low, high = fitted.lapse_interval or (0.0, 1.0)
    return f"lapse share {fitted.rule.lapse:.3g} ({low:.2g} to {high:.2g})"


def _groups(found: Fit, pool: Pool) -> Deviation:
    groups = found.groups
    assert groups is not None
    judged = np.column_stack([_utilities(found, own) for own in groups.coefficients])
    size = f"{groups.classes}, weights {', '.join(f'{w:.3g}' for w in groups.weights)}"
    weights = tuple((groups.weights / groups.weights.sum()).tolist())
    return Deviation("Preference groups", size, Rule(dict(pool.sizes)), judged, weights, _pooled(found))


# --- rewards and candidates -----------------------------------------------------------------------


def _utilities(found: Fit, coefficients: FloatArray) -> FloatArray:
    matrix = described(found.reading, found.items, found.features)
    return np.asarray(matrix @ coefficients[: matrix.shape[1]])


def _pooled(found: Fit) -> FloatArray:
    """Return Luce's rewards at temperature 1, the same for all choosers, (rows,)."""
    if found.features == (ITEM_REWARD,):
        return _utilities(found, np.ones(1))
    assert found.logit is not None
    return _utilities(found, found.logit.coefficients)


def _measured(found: Fit) -> tuple[FloatArray, FloatArray]:
    """Return the reward whose expectation is shown, which is the score if there is one, and Luce's."""
    luce = _pooled(found)
    luce = luce - luce.mean()
    matrix = found.reading.matrix
    return (matrix[:, 0] if found.reading.model == SCORE and matrix.shape[1] == 1 else luce), luce


def _pool(found: Fit) -> Pool:
    """Return the first round's candidates; those of an export of ``recurate serve`` count once."""
    table, slates = found.reading.table, found.reading.slates
    kept = np.ones(slates.rows, bool)
    if "round" in table and table["round"].dtype.kind in "iuf":
        kept = table["round"] == np.nanmin(table["round"])
    rows = np.flatnonzero(kept)
    if {"asked", "item"} <= table.keys():
        asked, items = (np.array([str(v) for v in table[n][rows]]) for n in ("asked", "item"))
        pairs = np.char.add(np.char.add(asked, " "), items)
        rows = rows[np.sort(np.unique(pairs, return_index=True)[1])]
    words = f"{rows.size:,} candidates"
    if rows.size > MOST:
        owner = np.unique(slates.index()[rows])
        some = owner[:: -(-rows.size // MOST)]
        rows = rows[np.isin(slates.index()[rows], some)]
        words = f"{rows.size:,} of {words}, of evenly spread slates"
    sizes, counts = np.unique(slates.sizes, return_counts=True)
    shares = {float(k): float(c) / len(slates) for k, c in zip(sizes, counts, strict=True)}
    contexts = None
    if "context" in table:
        own = np.array(["" if v is None else str(v) for v in table["context"][rows]])
        contexts = own if np.unique(own).size > 1 else None
    return Pool(rows, contexts, shares, words)


def thin(found: Consequences) -> bool:
    """Return whether residuals of thin contexts were pooled."""
    return any(row.contexts in (POOLED, MIXED) for row in found.rows)


def beyond(found: Consequences) -> bool:
    """Return whether some row lies beyond the candidates' effective support."""
    return any(not row.why and row.support < SUPPORT for row in found.rows)
