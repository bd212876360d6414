r"""Does Luce's model hold? Tests of what it supposes, corrected for their number, and rival rules.

Most are score tests (Lagrange multiplier tests): with z further columns and the fitted beta,

.. math:: s = \sum_s Z_s' (y_s - p_s), \qquad LM = s' (I_{zz} - I_{zx} I_{xx}^{-1} I_{xz})^{-1} s

is chi squared if Luce's model with beta' x holds. Where people pick repeatedly, the matrix in the middle is the
sum over people of squared efficient scores. The columns may depend on the fitted beta (McFadden 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recurate.choices.existence import NoEstimate
from recurate.choices.inference import chi2_tail, holm, quadratic_test, three_moment_tail
from recurate.choices.likelihood import evaluate
from recurate.choices.logit import conditional_logit
from recurate.choices.slates import Slates
from recurate.choices.table import Choices
from recurate.seeds import Stream

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FEW_CLUSTERS = 30  # people below which scores' variance is taken from the model
MOST_SLATES = 60_000  # that a test looks at
MOST_FEATURES = 20  # whose variation a test looks at
MOST_NESTS = 15
FEW_SLATES = 50  # below which nothing is tested
FEW_REPEATS = 30  # pairs of equal slates below which nothing is tested
BINS = 5  # of predicted probabilities, in the calibration test


@dataclass(frozen=True)
class Check:
    """One test of Luce's model.

    Attributes:
        name: ``position``, ``iia``, ``repeats``, ``choosers``, ``calibration``, ``drift``, ``hausman``.
        title: for people.
        p: the p-value, or None where it could not be tested.
        corrected: the p-value corrected for the number of tests (Holm); ``p`` itself for the uncorrected one.
        statistic, df: chi squared statistic (or ratio of variances) and degrees of freedom.
        effect: what was found, in words.
        why: why it could not be tested, or what is special.
        main: whether it is one of the tests that the verdict rests on.
    """

    name: str
    title: str
    p: float | None = None
    corrected: float | None = None
    statistic: float | None = None
    df: int | None = None
    effect: str = ""
    why: str = ""
    main: bool = True


def score_test(choices: Choices, beta: FloatArray, extra: FloatArray) -> tuple[float, int, FloatArray]:
    """Return the score statistic, its degrees of freedom and one step's estimate for further columns.

    Args:
        choices: slates, features and picks.
        beta: the fitted coefficients, (d,).
        extra: further columns z, (rows, q).
    """
    d = beta.size
    both = choices.with_features(
        np.column_stack([choices.features, extra]),
        [*choices.names, *(f"extra {j}" for j in range(extra.shape[1]))],
    )
    codes = _clusters(choices)
    found = evaluate(both, np.r_[beta, np.zeros(extra.shape[1])], information=True, clusters=codes)
    matrix = found.information
    assert matrix is not None
    project = _projection(matrix, d)
    efficient = matrix[d:, d:] - project @ matrix[:d, d:]
    efficient = _without_noise(efficient, matrix[d:, d:])
    score = found.gradient[d:] - project @ found.gradient[:d]
    step = np.linalg.pinv(efficient, rcond=1e-9, hermitian=True) @ score
    if found.cluster_scores is not None:
        each = found.cluster_scores[:, d:] - found.cluster_scores[:, :d] @ project.T
        middle = _without_noise(each.T @ each, matrix[d:, d:])
        middle[:, np.diag(efficient) <= 0] = 0.0
        middle[np.diag(efficient) <= 0] = 0.0
        return *quadratic_test(score, middle), step
    return *quadratic_test(score, efficient), step


def _projection(matrix: FloatArray, d: int) -> FloatArray:
    """Return I_zx I_xx^-1, (q, d)."""
    if d == 0:
        return np.zeros((len(matrix), 0))
    scale = 1.0 / np.sqrt(np.maximum(np.diag(matrix)[:d], 1e-300))
    inner = np.linalg.pinv(matrix[:d, :d] * scale * scale[:, None], rcond=1e-12, hermitian=True)
    return np.asarray(matrix[d:, :d] @ (inner * scale * scale[:, None]))


def _without_noise(matrix: FloatArray, whole: FloatArray) -> FloatArray:
    """Set to zero the directions that the features explain wholly, but for rounding."""
    out = matrix.copy()
    gone = np.diag(matrix) <= 1e-9 * np.maximum(np.diag(whole), 1e-300)
    out[gone] = 0.0
    out[:, gone] = 0.0
    return out


def _clusters(choices: Choices) -> IntArray | None:
    codes = choices.clusters
    if codes is None:
        return None
    count = np.unique(codes).size
    return codes if FEW_CLUSTERS <= count < len(choices) else None


def check_position(choices: Choices, beta: FloatArray) -> Check:
    """Test whether the place in which a candidate was shown matters, other things equal."""
    blank = Check("position", "Position bias")
    if choices.positions is None:
        return replace(blank, why="positions were not recorded")
    columns, found = _dummies(choices.positions)
    if columns.shape[1] == 0:
        return replace(blank, why="every candidate was shown in the same place")
    statistic, df, step = score_test(choices, beta, columns)
    if df == 0:
        return replace(blank, why="positions cannot be told from the features: the order never varied")
    odds = np.r_[0.0, step]
    best, worst = int(np.argmax(odds)), int(np.argmin(odds))
    effect = (
        f"place {found[best] + 1} has {math.exp(min(odds[best] - odds[worst], 50)):.2f} times the odds of "
        f"place {found[worst] + 1}, other things equal"
    )
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def position_columns(choices: Choices) -> tuple[FloatArray | None, IntArray]:
    """Return indicators of all places but the first, (rows, places - 1), or None where none are known."""
    if choices.positions is None:
        return None, np.empty(0, np.int64)
    columns, places = _dummies(choices.positions)
    return (columns if columns.shape[1] else None), places


def _dummies(codes: IntArray) -> tuple[FloatArray, IntArray]:
    """Return indicator columns of all codes but the first, at most 12 places told apart, and the codes."""
    found = np.unique(np.minimum(codes, 11))
    clipped = np.minimum(codes, 11)
    return (clipped[:, None] == found[None, 1:]).astype(float), found


def check_iia(choices: Choices, beta: FloatArray, nests: FloatArray | None = None) -> Check:
    """Test independence of irrelevant alternatives: universal logit against nested alternatives.

    For every nest A (a set of alike candidates) the column is 1[i in A] (I_A - V_i), I_A the log of the nest's
    sum of exp V: the derivative of a nested logit's utilities by its dissimilarity at one, where it is Luce's
    model (McFadden, Train and Tye 1977; McFadden 1987). Where slates vary in size, so may the scale.

    Args:
        choices: slates, features and picks.
        beta: the fitted coefficients.
        nests: membership of each row, (rows, nests) of 0 and 1; None: see :func:`make_nests`.
    """
    blank = Check("iia", "Independence of irrelevant alternatives")
    if choices.slates.sizes.max() < 3:
        return replace(blank, why="it says nothing about pairs: slates of three or more are needed")
    members, titles = (nests, []) if nests is not None else make_nests(choices, beta)
    columns = [_nest_column(choices, beta, members[:, j]) for j in range(members.shape[1])]
    sizes = choices.slates.sizes
    if sizes.max() > sizes.min():
        worth = choices.features @ beta
        columns.append(worth * choices.slates.spread((sizes - sizes.mean()) / sizes.std()))
    if not columns:
        return replace(blank, why="no candidates are alike in any way that is known")
    statistic, df, step = score_test(choices, beta, np.column_stack(columns))
    if df == 0:
        return replace(blank, why="no slate holds two of one nest and one of another")
    worst = int(np.argmax(np.abs(step)))
    named = titles[worst] if worst < len(titles) else "the slate's size"
    effect = f"strongest for {named}" if titles or worst >= members.shape[1] else ""
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def make_nests(choices: Choices, beta: FloatArray) -> tuple[FloatArray, list[str]]:
    """Return nests of alike candidates (rows, nests), and what they are.

    Pairs of items where at most six recur; else for each feature (those that move utilities most, up to ten)
    the candidates with a value above its median.
    """
    columns: list[FloatArray] = []
    titles: list[str] = []
    if choices.items is not None and 3 <= len(choices.item_names) <= 6:
        for a in range(len(choices.item_names)):
            for b in range(a + 1, len(choices.item_names)):
                columns.append(((choices.items == a) | (choices.items == b)).astype(float))
                titles.append(f"{choices.item_names[a]} and {choices.item_names[b]}")
        return np.column_stack(columns[:MOST_NESTS]), titles[:MOST_NESTS]
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
    """Test whether candidates are picked as often as predicted, by predicted probability."""
    blank = Check("calibration", "Calibration")
    p, _ = choices.slates.softmax(choices.features @ beta)
    cuts = np.unique(np.quantile(p, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(cuts, p, side="right")
    columns, _ = _dummies(bins)
    if columns.shape[1] == 0:
        return replace(blank, why="all predictions are alike")
    statistic, df, step = score_test(choices, beta, columns)
    if df == 0:
        return replace(blank, why="the features can give every probability its own picks")
    rows = calibration_table(choices, p)
    worst = max(rows, key=lambda row: abs(row[1] - row[0]))
    effect = f"candidates predicted at {worst[0]:.3f} were picked at {worst[1]:.3f}, the largest gap"
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def calibration_table(
    choices: Choices, p: FloatArray, bins: int = 10
) -> list[tuple[float, float, float, int]]:
    """Return (predicted, picked, standard error, candidates) for bins of about equally many candidates."""
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
    """Test whether later slates (in each chooser's second half) were picked with other coefficients."""
    blank = Check("drift", "Drift over time")
    late = _later_half(choices)
    strongest = _strongest(choices, beta)
    columns = choices.features[:, strongest] * choices.slates.spread(late.astype(float))[:, None]
    statistic, df, step = score_test(choices, beta, columns)
    if df == 0:
        return replace(blank, why="features do not vary in both halves")
    change = step * choices.features[:, strongest].std(axis=0)
    worst = strongest[int(np.argmax(np.abs(change)))]
    effect = f"strongest for {choices.names[worst]}"
    return replace(blank, p=chi2_tail(statistic, df), statistic=statistic, df=df, effect=effect)


def _later_half(choices: Choices) -> NDArray[np.bool_]:
    """Return which slates are in the later half: of each chooser's, or of all where choosers are unknown."""
    n = len(choices)
    if choices.choosers is None:
        return np.arange(n) >= n // 2
    order = np.argsort(choices.choosers, kind="stable")
    counts = np.bincount(choices.choosers)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.empty(n, np.int64)
    place[order] = np.arange(n) - starts[choices.choosers[order]]
    return np.asarray(place >= counts[choices.choosers] / 2)


def _strongest(choices: Choices, beta: FloatArray) -> IntArray:
    reach = np.abs(beta) * choices.features.std(axis=0)
    return np.sort(np.argsort(-reach, kind="stable")[:MOST_FEATURES])


# --- dependence between slates --------------------------------------------------------------------


def check_choosers(choices: Choices, beta: FloatArray) -> Check:
    r"""Test whether choosers' tastes differ: overdispersion of their scores.

    With whitened scores g of slates, T = sum_c sum_{i != j in c} g_i' g_j is zero on average if everybody has
    one beta, and grows with the variance of beta between people. Its tail is that of the shifted gamma law with
    T's mean (the estimate's own share taken off), variance and third moment.
    """
    blank = Check("choosers", "Overdispersion between choosers")
    if choices.choosers is None:
        return replace(blank, why="choosers were not recorded")
    counts = np.bincount(choices.choosers)
    repeated = counts[counts > 1]
    if repeated.size < 5:
        return replace(blank, why=f"only {repeated.size} choosers picked more than once")
    strongest = _strongest(choices, beta)
    t, moments, share = _pair_statistic(choices, beta, strongest, choices.choosers)
    p = three_moment_tail(t, *moments)
    effect = f"choosers' scores vary {max(share, 0.0):.2f} times as much as one taste for all allows"
    return replace(blank, p=p, statistic=share, df=None, effect=effect)


def _pair_statistic(
    choices: Choices, beta: FloatArray, columns: IntArray, codes: IntArray
) -> tuple[float, tuple[float, float, float], float]:
    """Return T, its (mean, variance, third central moment), and the ratio of variances."""
    order = np.argsort(codes, kind="stable")
    choices, codes = choices.take(order), codes[order]
    p, _ = choices.slates.softmax(choices.features @ beta)
    x = choices.features[:, columns]
    residual = -p
    residual[choices.picked_rows] += 1.0
    weights = np.ones(len(choices)) if choices.weights is None else choices.weights
    matrix = _information_at(choices, x, p, weights)
    values, vectors = np.linalg.eigh(matrix)
    good = values > 1e-10 * values[-1]
    root = vectors[:, good] / np.sqrt(values[good])  # whitens: root' I root = 1
    z = x @ root
    means = choices.slates.sums(z * p[:, None])
    g = choices.slates.sums(z * residual[:, None]) * weights[:, None]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    q = z.shape[1]
    total, own = np.add.reduceat(g, starts, axis=0), np.square(g).sum()
    t = float(np.square(total).sum() - own)
    pair2 = pair3 = single2 = 0.0
    bounds = np.r_[starts, len(choices)]
    for first, stop in _runs(bounds, max(1, 2_000_000 // max(q * q, 1))):
        some = slice(int(bounds[first]), int(bounds[stop]))
        each = _slate_informations(choices, z, p, means, weights, some)
        joint = np.add.reduceat(each, bounds[first:stop] - some.start, axis=0)
        index = np.repeat(np.arange(stop - first), np.diff(bounds[first : stop + 1]))
        squares = np.einsum("nab,nab->", each, each)
        single2 += squares
        pair2 += float(np.einsum("nab,nab->", joint, joint)) - squares
        cubes = np.einsum("nab,nbc->nac", each, each)
        pair3 += float(np.einsum("nab,nbc,nca->", joint, joint, joint, optimize=True))
        pair3 -= 3 * float(np.einsum("nab,nab->", cubes, joint[index]))
        pair3 += 2 * float(np.einsum("nab,nab->", cubes, each))
    ratio = 1.0 + t / max(float(q), 1.0)
    return t, (-pair2, 2 * pair2, 8 * max(pair3, 0.0)), ratio


def _information_at(choices: Choices, x: FloatArray, p: FloatArray, weights: FloatArray) -> FloatArray:
    centred = x - choices.slates.spread(choices.slates.sums(x * p[:, None]))
    scale = p * choices.slates.spread(weights)
    return np.asarray((centred * scale[:, None]).T @ centred)


def _slate_informations(
    choices: Choices, z: FloatArray, p: FloatArray, means: FloatArray, weights: FloatArray, some: slice
) -> FloatArray:
    """Return each slate's covariance of z' (y - p), (slates, q, q)."""
    rows = slice(int(choices.slates.offsets[some.start]), int(choices.slates.offsets[some.stop]))
    sizes = choices.slates.sizes[some]
    index = np.repeat(np.arange(sizes.size), sizes)
    centred = z[rows] - means[some][index]
    outer = np.einsum("na,nb->nab", centred * p[rows, None], centred)
    starts = choices.slates.offsets[some] - rows.start
    return np.asarray(np.add.reduceat(outer, starts, axis=0) * np.square(weights[some])[:, None, None])


def _runs(bounds: IntArray, most: int) -> list[tuple[int, int]]:
    """Cut groups 0, 1, ... with these bounds into runs of about ``most`` members."""
    runs, first = [], 0
    last = bounds.size - 1
    while first < last:
        stop = int(np.searchsorted(bounds, bounds[first] + most, side="right")) - 1
        stop = min(max(stop, first + 1), last)
        runs.append((first, stop))
        first = stop
    return runs


def check_repeats(choices: Choices, beta: FloatArray) -> Check:
    r"""Test whether equal slates are picked from as independently, and as predicted.

    With residuals e = y - p of the slots, T = sum over pairs of equal slates of e_i' e_j: zero on average
    unless predictions are off for particular slates, or picks from one slate depend on each other.
    """
    blank = Check("repeats", "Repeated slates")
    codes, order = _equal_slates(choices)
    counts = np.bincount(codes)
    pairs = int((counts * (counts - 1) // 2).sum())
    if pairs < FEW_REPEATS:
        return replace(blank, why=f"only {pairs} pairs of slates show the same candidates")
    keep = np.flatnonzero(counts[codes] > 1)
    t = mean = variance = third = 0.0
    p_all, _ = choices.slates.softmax(choices.features @ beta)
    inverse = np.linalg.pinv(
        _information_at(choices, choices.features, p_all, np.ones(len(choices))), hermitian=True
    )
    for code in np.unique(codes[keep]):
        some = keep[codes[keep] == code] if keep.size < 2000 else _members(codes, keep, code)
        n = some.size
        rows = choices.slates.offsets[some][:, None] + np.arange(choices.slates.sizes[some[0]])
        slots = np.take_along_axis(rows, order[some][:, : rows.shape[1]], axis=1)
        p = p_all[slots[0]]
        picked = slots == choices.picked_rows[some][:, None]
        e = picked - p
        t += float(np.square(e.sum(axis=0)).sum() - np.square(e).sum())
        sigma = np.diag(p) - np.outer(p, p)
        jacobian = sigma @ choices.features[slots[0]]
        ordered = n * (n - 1)
        mean -= ordered * float(np.einsum("ka,ab,kb->", jacobian, inverse, jacobian))
        variance += 2 * ordered * float(np.square(sigma).sum())
        third += 8 * ordered * (n - 2) * float(np.trace(sigma @ sigma @ sigma)) + 4 * ordered * _third(p)
    ratio = t / math.sqrt(variance)
    effect = f"equal slates agree in their picks {'more' if t > mean else 'less'} than predicted"
    tail = three_moment_tail(t, mean, variance, third)
    return replace(blank, p=min(1.0, 2 * min(tail, 1 - tail)), statistic=ratio, effect=effect)


def _members(codes: IntArray, keep: IntArray, code: int) -> IntArray:
    return keep[codes[keep] == code]


def _third(p: FloatArray) -> float:
    """Return E (e_1' e_2)^3 for two independent picks from one slate."""
    products = np.eye(p.size) - p[:, None] - p[None, :] + float(p @ p)
    return float(p @ products**3 @ p)


def _equal_slates(choices: Choices) -> tuple[IntArray, IntArray]:
    """Return a code for each slate, equal for the same candidates in any order, and slots in that order."""
    width = int(choices.slates.sizes.max())
    keys = choices.items
    if keys is None:
        keys = np.unique(choices.features, axis=0, return_inverse=True)[1].astype(np.int64).ravel()
    table = np.full((len(choices), width), -1, np.int64)
    table[choices.slates.index(), choices.slates.slots()] = keys
    # Absent slots go last: they sort first as -1, so shift them.
    masked = np.where(table < 0, np.iinfo(np.int64).max, table)
    order = np.argsort(masked, axis=1, kind="stable")
    ordered = np.take_along_axis(masked, order, axis=1)
    codes = np.unique(ordered, axis=0, return_inverse=True)[1].astype(np.int64).ravel()
    return codes, order


# --- Hausman and McFadden -------------------------------------------------------------------------


def check_hausman(choices: Choices, beta: FloatArray, covariance: FloatArray, seed: int = 0) -> Check:
    """Compare coefficients on full and on reduced slates (Hausman and McFadden 1984).

    Under Luce's model leaving out candidates changes nothing. Here one candidate of each slate, drawn at
    random, is left out, with the slates that picked it. The difference of the two covariances need not be
    positive, and the statistic's law is a rough approximation: it stands beside the main test, uncorrected.
    """
    blank = Check("hausman", "Hausman-McFadden (uncorrected)", main=False)
    sizes = choices.slates.sizes
    usable = sizes >= 3
    if usable.sum() < FEW_SLATES:
        return replace(blank, why="slates of three or more are needed")
    part = choices.take(np.flatnonzero(usable))
    drop = (Stream(seed).at("hausman").generator().random(len(part)) * part.slates.sizes).astype(np.int64)
    kept_slates = np.flatnonzero(drop != part.picked)
    own = part.take(kept_slates)
    dropped = drop[kept_slates]
    rows = np.ones(own.slates.rows, bool)
    rows[own.slates.offsets[:-1] + dropped] = False
    reduced = _with_rows(own, rows, own.picked - (own.picked > dropped))
    try:
        fit = conditional_logit(reduced, clustered=False)
    except NoEstimate as error:
        return replace(blank, why=f"no estimate on the reduced slates: {error.got}")
    difference = fit.coefficients - beta
    spread = fit.covariance - covariance
    values, vectors = np.linalg.eigh(spread)
    if values[0] < -1e-6 * values[-1]:
        return replace(blank, why="the difference of covariances is not positive: the statistic is undefined")
    good = values > 1e-8 * values[-1]
    along = vectors[:, good].T @ difference
    statistic, df = float((np.square(along) / values[good]).sum()), int(good.sum())
    p = chi2_tail(statistic, df)
    return replace(blank, p=p, corrected=p, statistic=statistic, df=df, effect="")


def _with_rows(choices: Choices, rows: NDArray[np.bool_], picked: IntArray) -> Choices:
    """Return the slates without the rows that are False."""
    sizes = choices.slates.sums(rows.astype(np.int64)).astype(np.int64)
    slates = Slates(np.r_[0, np.cumsum(sizes)].astype(np.int64))

    def of(values: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
        return None if values is None else values[rows]

    return replace(
        choices,
        features=choices.features[rows],
        slates=slates,
        picked=picked,
        positions=of(choices.positions),
        items=of(choices.items),
        tie_rows=of(choices.tie_rows),
    )


TESTS = (check_position, check_iia, check_repeats, check_choosers, check_calibration, check_drift)


def part_of(choices: Choices, most: int = MOST_SLATES) -> Choices:
    """Return evenly spread slates where there are more than ``most``: whole choosers where they are known."""
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
    choices: Choices, beta: FloatArray, covariance: FloatArray, *, seed: int = 0, only: Sequence[str] = ()
) -> list[Check]:
    """Run all tests, the main ones corrected for their number (Holm).

    Args:
        choices: slates, features and picks.
        beta: the fitted coefficients, at the maximum.
        covariance: theirs.
        seed: of the candidates left out in Hausman and McFadden's test.
        only: names of the tests to run; all if empty.
    """
    if len(choices) < FEW_SLATES:
        return [Check("all", "All tests", why=f"{len(choices)} slates are too few (at least {FEW_SLATES})")]
    found = [t(choices, beta) for t in TESTS if not only or t.__name__.removeprefix("check_") in only]
    tested = [i for i, check in enumerate(found) if check.p is not None]
    corrected = holm([found[i].p or 0.0 for i in tested])
    for i, p in zip(tested, corrected, strict=True):
        found[i] = replace(found[i], corrected=p)
    if not only or "hausman" in only:
        found.append(check_hausman(choices, beta, covariance, seed))
    return found
