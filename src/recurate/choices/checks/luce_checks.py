"""Tests of the assumptions of Luce's model, corrected for their number."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recurate.choices.checks.dependence import check_choosers, check_repeats
from recurate.choices.checks.score_tests import Check, dummies, score_test, strongest_features
from recurate.choices.checks.statistics import chi2_tail, holm, quadratic_test
from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.logit import conditional_logit
from recurate.choices.table import Choices
from recurate.core import progress
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.seeds import Stream

MOST_SLATES = 60_000  # maximum number of slates in a test
FEW_SLATES = 50  # minimum number of slates for a test
BINS = 5  # number of bins of predicted probabilities in the calibration test


def check_position(choices: Choices, beta: FloatArray) -> Check:
    """Test whether the position of a candidate affects its odds, other things being equal."""
    blank = Check("position", "Position bias")
    if choices.positions is None:
        return replace(blank, why="positions were not recorded")
    columns, found = dummies(choices.positions)
    if columns.shape[1] == 0:
        return replace(blank, why="all candidates were shown in the same place")
    statistic, df, step = score_test(choices, beta, columns)
    if df == 0:
        return replace(blank, why="positions and features cannot be distinguished: the order never varied")
    odds = np.r_[0.0, step]
    best, worst = int(np.argmax(odds)), int(np.argmin(odds))
    effect = (
        f"place {found[best] + 1} has {math.exp(min(odds[best] - odds[worst], 50)):.2f} times the odds of "
        f"place {found[worst] + 1}, other things being equal"
    )
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def check_iia(choices: Choices, beta: FloatArray, nests: FloatArray | None = None) -> Check:
    """Test independence of irrelevant alternatives against nested logit models.

    For a nest A (a set of similar candidates) the column is 1[i in A] (I_A - V_i), where I_A is the log of
    the nest's sum of exp V: the derivative of a nested logit's utilities by its dissimilarity parameter at
    one, where it is Luce's model (McFadden, Train and Tye 1977; McFadden 1987). If slates differ in size, a
    scale that depends on the size is tested as well.

    Args:
        choices: Slates, features and picks.
        beta: Fitted coefficients, (d,).
        nests: Membership of each row in each nest, 0 or 1, (rows, nests). Default: :func:`make_nests`.
    """
    blank = Check("iia", "Independence of irrelevant alternatives")
    if choices.slates.sizes.max() < 3:
        return replace(blank, why="slates of three or more candidates are needed")
    members, titles = (nests, []) if nests is not None else make_nests(choices, beta)
    columns = [_nest_column(choices, beta, members[:, j]) for j in range(members.shape[1])]
    sizes = choices.slates.sizes
    if sizes.max() > sizes.min():
        worth = choices.features @ beta
        columns.append(worth * choices.slates.spread((sizes - sizes.mean()) / sizes.std()))
    if not columns:
        return replace(blank, why="no nests of similar candidates are known")
    statistic, df, step = score_test(choices, beta, np.column_stack(columns))
    if df == 0:
        return replace(blank, why="no slate has two candidates of one nest and one of another")
    worst = int(np.argmax(np.abs(step)))
    named = titles[worst] if worst < len(titles) else "the slate's size"
    effect = f"strongest for {named}" if titles or worst >= members.shape[1] else ""
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def make_nests(choices: Choices, beta: FloatArray) -> tuple[FloatArray, list[str]]:
    """Return nests of similar candidates, (rows, nests) of 0 and 1, and their titles.

    With three to six items, the nests are all pairs of items. Otherwise they are the candidates above the
    median of a feature, for the ten features with the largest effect on utilities.
    """
    columns: list[FloatArray] = []
    titles: list[str] = []
    if choices.items is not None and 3 <= len(choices.item_names) <= 6:
        for a, b in itertools.combinations(range(len(choices.item_names)), 2):
            columns.append(((choices.items == a) | (choices.items == b)).astype(float))
            titles.append(f"{choices.item_names[a]} and {choices.item_names[b]}")
        return np.column_stack(columns), titles
    reach = np.abs(beta) * choices.features.std(axis=0)
    for j in np.argsort(-reach)[:10]:
        values = choices.features[:, j]
        middle = float(np.median(values))
        upper = values > middle if (values > middle).mean() > 0.05 else values >= middle
        if 0.02 < upper.mean() < 0.98:
            columns.append(upper.astype(float))
            titles.append(f"candidates with high {choices.names[j]}")
    if not columns:
        return np.zeros((choices.slates.rows, 0)), []
    return np.column_stack(columns), titles


def _nest_column(choices: Choices, beta: FloatArray, member: FloatArray) -> FloatArray:
    worth = choices.features @ beta
    slates = choices.slates
    inside = member > 0
    masked = np.where(inside, worth, -np.inf)
    tops = slates.maxima(masked)
    tops = np.where(np.isfinite(tops), tops, 0.0)
    sums = slates.sums(np.where(inside, np.exp(masked - slates.spread(tops)), 0.0))
    with np.errstate(divide="ignore"):
        logs = np.log(sums) + tops
    count = slates.sums(inside.astype(float))
    usable = (count >= 2) & (count < slates.sizes)
    column = np.where(inside, slates.spread(np.where(usable, logs, 0.0)) - worth, 0.0)
    return np.where(slates.spread(usable), column, 0.0)


def check_calibration(choices: Choices, beta: FloatArray) -> Check:
    """Test whether the frequencies of picks agree with the predicted probabilities, in bins of these.

    Bins have about equal variance p (1 - p), not equal numbers of candidates: with strong rewards most
    candidates have tiny probabilities, and their rare picks are far from normal.
    """
    blank = Check("calibration", "Calibration")
    p, _ = choices.slates.softmax(choices.features @ beta)
    ordered = np.sort(p)
    variance = np.cumsum(ordered * (1 - ordered))
    cuts = np.unique(ordered[np.searchsorted(variance, variance[-1] * np.arange(1, BINS) / BINS)])
    bins = np.searchsorted(cuts, p, side="right")
    columns, _ = dummies(bins)
    if columns.shape[1] == 0:
        return replace(blank, why="all predicted probabilities are equal")
    statistic, df, _ = score_test(choices, beta, columns)
    if df == 0:
        return replace(blank, why="the features can fit each bin of probabilities exactly")
    rows = calibration_table(choices, p)
    worst = max(rows, key=lambda row: abs(row[1] - row[0]))
    effect = f"candidates predicted at {worst[0]:.3f} were picked at {worst[1]:.3f}, the largest gap"
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def calibration_table(
    choices: Choices, p: FloatArray, bins: int = 10
) -> list[tuple[float, float, float, int]]:
    """Return (predicted, picked, standard error, candidates) in bins of about equal numbers of candidates."""
    cuts = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(cuts, p, side="right")
    y = np.zeros(p.size)
    y[choices.picked_rows] = 1.0
    weights = np.ones(p.size) if choices.weights is None else choices.slates.spread(choices.weights)
    rows = []
    for b in range(cuts.size + 1):
        inside = place == b
        total = float(weights[inside].sum())
        if total > 0:
            predicted = float(p[inside] @ weights[inside]) / total
            error = math.sqrt(float((p[inside] * (1 - p[inside])) @ np.square(weights[inside]))) / total
            rows.append((predicted, float(y[inside] @ weights[inside]) / total, error, int(inside.sum())))
    return rows


def check_drift(choices: Choices, beta: FloatArray) -> Check:
    """Test whether coefficients differ in the later half of the slates, of each chooser if known."""
    blank = Check("drift", "Drift over time")
    if choices.times is None or np.ptp(choices.times) == 0:
        return replace(
            blank,
            why="no order in time: times or rounds of all picks are needed, as 3 or 2026-05-31",
        )
    if not beta.size:
        return replace(blank, why="no features describe the candidates")
    late = _later_half(choices, choices.times)
    strongest = strongest_features(choices, beta)
    columns = choices.features[:, strongest] * choices.slates.spread(late.astype(float))[:, None]
    statistic, df, step = score_test(choices, beta, columns)
    if df == 0:
        return replace(blank, why="the features do not vary in both halves")
    change = step * choices.features[:, strongest].std(axis=0)
    worst = strongest[int(np.argmax(np.abs(change)))]
    effect = f"strongest for {choices.names[worst]}"
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def _later_half(choices: Choices, times: IntArray) -> NDArray[np.bool_]:
    """Return whether each slate is in the later half of its chooser's, or of all if choosers are unknown.

    Slates of one time are on one side, however unequal the halves become: their order in a file is none.
    """
    n = len(choices)
    owner = np.zeros(n, np.int64) if choices.choosers is None else choices.choosers
    order = np.lexsort((times, owner))
    counts = np.bincount(owner)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    held = counts > 0
    middle = np.zeros(counts.size, np.int64)
    middle[held] = times[order[(starts + counts // 2)[held]]]
    from_middle, after = times >= middle[owner], times > middle[owner]
    far = [np.abs(np.bincount(owner, late, counts.size) - counts / 2) for late in (from_middle, after)]
    return np.where((far[0] < far[1])[owner], from_middle, after)


# --- Hausman and McFadden -------------------------------------------------------------------------


def check_hausman(choices: Choices, beta: FloatArray, covariance: FloatArray, seed: int = 0) -> Check:
    """Compare coefficients on full and on reduced slates (Hausman and McFadden 1984).

    Under Luce's model, dropping candidates does not change the coefficients. One random candidate of each
    slate is dropped, and so are the slates in which it was picked. The difference of the two covariances need
    not be positive definite and the distribution of the statistic is approximate, so that this test is not
    one of the main ones, and its p-value is not corrected.
    """
    blank = Check("hausman", "Hausman-McFadden (uncorrected)", main=False)
    sizes = choices.slates.sizes
    usable = sizes >= 3
    if usable.sum() < FEW_SLATES:
        return replace(blank, why="slates of three or more are needed")
    part = choices.take(np.flatnonzero(usable))
    drop = (Stream(seed).at("hausman").generator().random(len(part)) * part.slates.sizes).astype(np.int64)
    kept = np.flatnonzero(drop != part.picked)
    own, dropped = part.take(kept), drop[kept]
    rows = np.ones(own.slates.rows, bool)
    rows[own.slates.offsets[:-1] + dropped] = False
    reduced = own.with_rows(rows, own.picked - (own.picked > dropped))
    try:
        fit = conditional_logit(reduced, clustered=False)
    except NoEstimate as error:
        return replace(blank, why=f"no estimate on the reduced slates: {error.got}")
    difference, spread = fit.coefficients - beta, fit.covariance - covariance
    values = np.linalg.eigvalsh(spread)
    if values[0] < -1e-6 * values[-1]:
        return replace(blank, why="the statistic is undefined: the difference of covariances is indefinite")
    statistic, df = quadratic_test(difference, spread)
    p = chi2_tail(statistic, df)
    return replace(blank, p=p, corrected=p, statistic=statistic, df=df, effect="")


TESTS = (check_position, check_iia, check_repeats, check_choosers, check_calibration, check_drift)


def part_of(choices: Choices, most: int = MOST_SLATES) -> Choices:
    """Return about ``most`` evenly spread slates if there are more, with all slates of a chooser if known."""
    if len(choices) <= most:
        return choices
    if choices.choosers is not None:
        counts = np.bincount(choices.choosers)
        step = -(-len(choices) // most)
        kept = np.isin(choices.choosers, np.flatnonzero(counts)[::step])
        if 0 < kept.sum() <= 2 * most:
            return choices.take(np.flatnonzero(kept))
    return choices.take(np.unique(np.linspace(0, len(choices) - 1, most).astype(np.int64)))


def run_checks(
    choices: Choices,
    beta: FloatArray,
    covariance: FloatArray,
    *,
    seed: int = 0,
    only: Sequence[str] = (),
    again: tuple[Choices, BoolArray] | None = None,
) -> list[Check]:
    """Run the tests and correct the p-values of the main ones for their number (Holm).

    Args:
        choices: Slates, features and picks.
        beta: Fitted coefficients at the maximum of the likelihood, (d,).
        covariance: Covariance of the coefficients, (d, d).
        seed: Seed of the candidates dropped in the Hausman-McFadden test.
        only: Names of the tests to run; all if empty.
        again: The choices with further slates, of which the test of repeated slates alone knows, and which
            slates beta was fitted to, (slates,).
    """
    if len(choices) < FEW_SLATES:
        return [Check("all", "All tests", why=f"{len(choices)} slates are too few (at least {FEW_SLATES})")]
    tests = [t for t in TESTS if not only or t.__name__.removeprefix("check_") in only]
    found = [test(choices, beta) for test in progress.steps(tests, len(tests))]
    if again is not None:
        found = [check_repeats(again[0], beta, again[1]) if c.name == "repeats" else c for c in found]
    tested = [i for i, check in enumerate(found) if check.p is not None]
    corrected = holm([found[i].p or 0.0 for i in tested])
    for i, p in zip(tested, corrected, strict=True):
        found[i] = replace(found[i], corrected=p)
    if not only or "hausman" in only:
        found.append(check_hausman(choices, beta, covariance, seed))
    return found
