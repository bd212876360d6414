r"""Comparison of generated samples with real ones: distance, support, diversity and copying.

Samples are rows of features (or rewards): shape (n, d) for the generated sample ``x``, (m, d) for the real
sample ``y``. Rows are i.i.d., in no particular order, and the two samples are independent. The functions
return :class:`Estimate` and state what the standard error conditions on. Except for :func:`memorisation`,
expected values depend on n and m: compare rounds at equal sizes, with the same real sample. Distances are
Euclidean; distance matrices are computed in blocks of at most ``BLOCK`` entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.metrics.checks import paired, sample, whole
from recurate.metrics.estimates import Estimate

BLOCK = 1_000_000  # entries per block of distances: 8 MB
ROUNDING = 1e-12  # relative error of squared distances that are computed from inner products
GROUPS = 4  # parts of a sample whose spread gives some standard errors
LAYOUTS = 4  # ways to divide a sample into such parts


# --- Frechet distance -----------------------------------------------------------------------------


def frechet(x: ArrayLike, y: ArrayLike) -> Estimate:
    r"""Return the squared Frechet distance between normal distributions fitted to the samples.

    With mu and S the samples' means and unbiased covariances, it is
    |mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x^{1/2} S_y S_x^{1/2})^{1/2}), the squared 2-Wasserstein distance
    (Dowson & Landau 1982, J. Multivariate Anal. 12; Heusel et al. 2017, arXiv 1706.08500, eq. 6). The trace
    of the root is the sum of the singular values of F_x^T F_y, where S = F F^T is the eigendecomposition
    truncated to its rank, so singular covariances (n <= d) lose no digits.

    In finite samples the value is **biased upwards**: for two samples from one normal distribution and
    n, m >> d, its expectation is about
    (1/n + 1/m) (tr S + sum_ij (1 + [i = j]) l_i l_j / (2 (l_i + l_j))), l the eigenvalues of S. Compare it
    with ``frechet(y[:half], y[half:])``, the value for real data at those sizes. It is not the FID of the
    literature, which is this distance between Inception features of 50,000 images.

    The standard error treats both samples as random. The influence function of x is
    2 (x - mu_x).(mu_x - mu_y) + (x - mu_x)^T (I - T)(x - mu_x), with T the optimal map from the normal
    distribution of x to that of y; that of y is analogous. It is correct for n, m >> d and distributions that
    differ. It is too large if n, m <= 2d (by up to a fourth) and if the distributions are equal (by up to
    60 %, since the value is then of second order). It does not include the bias.

    Args:
        x: Generated sample, shape (n, d), n >= 2.
        y: Real sample, shape (m, d), m >= 2.

    Raises:
        InputError: If the samples are not finite, differ in columns or have fewer than two rows.
    """
    a, b = paired(x, y, 2)
    shift = a.mean(axis=0) - b.mean(axis=0)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    (root_a, axes_a), (root_b, axes_b) = _factor(a), _factor(b)
    left, singular, right = np.linalg.svd(root_a[:, None] * (axes_a.T @ axes_b) * root_b, full_matrices=False)
    transported_a = np.square((a @ axes_a / root_a) @ left) @ singular
    transported_b = np.square((b @ axes_b / root_b) @ right.T) @ singular
    squares_a, squares_b = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    traces = squares_a.sum() / (len(a) - 1) + squares_b.sum() / (len(b) - 1)
    value = float(shift @ shift + traces - 2.0 * singular.sum())
    influence_a = 2.0 * (a @ shift) + squares_a - transported_a
    influence_b = -2.0 * (b @ shift) + squares_b - transported_b
    return Estimate(max(value, 0.0), math.sqrt(_error2(influence_a) + _error2(influence_b)))


def _factor(centred: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the square roots (r,) of a covariance's positive eigenvalues and its eigenvectors (d, r)."""
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(centred) - 1))
    alive = values > max(values[-1], 0.0) * centred.shape[1] * 1e-15
    return np.sqrt(values[alive]), vectors[:, alive]


def _error2(influence: FloatArray) -> float:
    """Return the squared standard error of a mean of i.i.d. values (n,)."""
    return float(influence.var(ddof=1)) / influence.size


# --- support: balls around samples ----------------------------------------------------------------


def precision_recall(x: ArrayLike, y: ArrayLike, k: int = 3) -> tuple[Estimate, Estimate]:
    """Return precision, the share of x in the real manifold, and recall, the share of y in the generated one.

    A sample's manifold is the union of closed balls around its points, each with the distance to the k-th
    nearest other point of that sample as its radius (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1, 2).

    The standard error of precision conditions on y: given the real manifold, points of x are inside or
    outside independently, so it suits comparisons of rounds with one real sample. The standard error of
    recall treats both samples as random, because the generated manifold is drawn anew in every round, which
    contributes more than the choice of real points. It is estimated from the spread of the recall over four
    parts of both samples, and is accurate to about a fourth.

    Args:
        x: Generated sample, shape (n, d), n >= 4 (k + 1).
        y: Real sample, shape (m, d), m >= 4 (k + 1).
        k: Rank of the neighbour whose distance is the radius.

    Returns:
        Precision and recall, each in [0, 1].

    Raises:
        InputError: If the samples are not finite, differ in columns or are too small, or k is not a positive
            whole number.
    """
    a, b = _centred(*paired(x, y, whole(k, "k", 1) + 1))
    inside = _balls(a, b, k)[0] > 0

    def recall(one: FloatArray, two: FloatArray) -> float:
        return float(np.mean(_balls(two, one, k)[0] > 0))

    return _proportion(inside), Estimate(recall(a, b), _spread(recall, a, b, k))


def density_coverage(x: ArrayLike, y: ArrayLike, k: int = 5) -> tuple[Estimate, Estimate]:
    """Return density and coverage of x with respect to closed balls around the points of y.

    The radius of a ball is the distance to the k-th nearest other point of y. Density is the mean number of
    balls that contain a point of x, divided by k: its expectation is 1 if both distributions agree, and it
    can exceed 1. Coverage is the share of balls that contain a point of x: nearly 1 - 2^-k for samples of
    equal size from one distribution (Naeem et al. 2020, arXiv 2002.09797, sec. 3).

    The standard error of density conditions on y. That of coverage treats both samples as random and is
    estimated from the spread of the coverage over four parts of both samples.

    Args:
        x: Generated sample, shape (n, d), n >= 4 (k + 1).
        y: Real sample, shape (m, d), m >= 4 (k + 1).
        k: Rank of the neighbour whose distance is the radius.

    Returns:
        Density, which is at least 0, and coverage in [0, 1].

    Raises:
        InputError: If the samples are not finite, differ in columns or are too small, or k is not a positive
            whole number.
    """
    a, b = _centred(*paired(x, y, whole(k, "k", 1) + 1))
    around, within = _balls(a, b, k)

    def coverage(one: FloatArray, two: FloatArray) -> float:
        return float(np.mean(_balls(one, two, k)[1] > 0))

    density = Estimate(float(around.mean()) / k, math.sqrt(_error2(around / k)))
    return density, Estimate(float(np.mean(within > 0)), _spread(coverage, a, b, k))


def _centred(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both samples minus the mean of the second."""
    origin = y.mean(axis=0)
    return x - origin, y - origin


def _balls(points: FloatArray, centres: FloatArray, k: int) -> tuple[IntArray, IntArray]:
    """Return the number of k-neighbour balls that contain each point, and of points in each ball."""
    reach = np.empty(len(centres))
    for rows, block in _squared(centres, centres):
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
        reach[rows] = np.partition(block, k - 1, axis=1)[:, k - 1]
    reach += ROUNDING * (reach + np.square(centres).sum(axis=1))
    around, within = np.empty(len(points), np.int64), np.zeros(len(centres), np.int64)
    for rows, block in _squared(points, centres):
        inside = block <= reach
        around[rows] = np.count_nonzero(inside, axis=1)
        within += np.count_nonzero(inside, axis=0)
    return around, within


def _squared(a: FloatArray, b: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield blocks of rows of the matrix (n, m) of squared distances; the caller may write into them."""
    squares_a, squares_b = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    step = max(BLOCK // len(b), 1)
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        block = a[rows] @ (-2.0 * b.T)
        block += squares_a[rows, None]
        block += squares_b
        yield rows, np.maximum(block, 0.0, out=block)


def _proportion(inside: NDArray[np.bool_]) -> Estimate:
    """Return the share of true values with its binomial standard error."""
    share = float(inside.mean())
    return Estimate(share, math.sqrt(share * (1.0 - share) / inside.size))


def _spread(
    statistic: Callable[[FloatArray, FloatArray], float], x: FloatArray, y: FloatArray, k: int
) -> float:
    """Return the standard error of a nearest-neighbour statistic from its spread over parts of the samples.

    A share that depends on ratios of local densities has a variance proportional to 1 / n at fixed n / m,
    whatever the scale of the neighbourhoods. So the variance is that between G parts of both samples, divided
    by G. Row i belongs to part floor(i / G^r) mod G; the variances of the layouts r = 0, 1, ... are averaged.
    The result is accurate to about a fourth, including its own noise, and less accurate for a share near 0
    or 1.

    Raises:
        InputError: If a part would have fewer than k + 1 rows.
    """
    least = GROUPS * (k + 1)
    if min(len(x), len(y)) < least:
        got, remedy = f"{len(x)} and {len(y)} rows", f"give at least {least} rows for k = {k}, or a smaller k"
        raise InputError("the samples are too small for a standard error", got=got, remedy=remedy)
    depth = int(math.log(min(len(x), len(y)) / (k + 1), GROUPS) + 1e-9)
    variances = []
    for layout in range(max(min(LAYOUTS, depth), 1)):
        own, other = (np.arange(len(s)) // GROUPS**layout % GROUPS for s in (x, y))
        parts = [statistic(x[own == g], y[other == g]) for g in range(GROUPS)]
        variances.append(np.var(parts, ddof=1) / GROUPS)
    return math.sqrt(float(np.mean(variances)))


# --- diversity ------------------------------------------------------------------------------------


def vendi(x: ArrayLike, bandwidth: float | None = None) -> Estimate:
    r"""Return the Vendi score, the effective number of distinct samples in x, between 1 and n.

    It is exp(-sum_k l_k log l_k), l the eigenvalues of K / n (Friedman & Dieng 2023, arXiv 2210.02410,
    def. 3.1). K is the cosine kernel or, given a bandwidth h, the Gaussian kernel exp(-|x - x'|^2 / (2 h^2)).
    Rows of zeros have no direction: their cosine is 1 with each other and 0 with all other rows. The cosine
    kernel's eigenvalues are computed on the smaller side of (n, d); the Gaussian kernel's cost O(n^3)
    operations and O(n^2) memory, so the caller should limit n.

    The score is biased downwards, more strongly the closer it is to n. The standard error treats x as random
    and the bandwidth as fixed: it is the score times the standard error of the entropy, whose influence
    function is -phi^T log(C) phi - entropy, with C = E phi phi^T the kernel's covariance operator. It is too
    small unless the score is small compared with n: by 12 % at n / 12, 20 % at n / 4, up to 35 % above.

    Args:
        x: Sample, shape (n, d), n >= 2.
        bandwidth: Bandwidth h of the Gaussian kernel, in the units of x; use :func:`median_bandwidth` of real
            data, and the same h in all rounds. None: the cosine kernel.

    Raises:
        InputError: If x is not finite, not a matrix or has fewer than two rows, or h is not positive and
            finite.
    """
    points = sample(x, "x", 2)
    if bandwidth is None:
        spectrum, weights = _cosine_spectrum(points)
    else:
        spectrum, weights = _gaussian_spectrum(points, bandwidth)
    alive = spectrum > len(spectrum) * 1e-16
    logs = np.log(spectrum[alive])
    score = math.exp(-float(spectrum[alive] @ logs))
    return Estimate(
        min(max(score, 1.0), float(len(points))), score * math.sqrt(_error2(weights[:, alive] @ logs))
    )


def _cosine_spectrum(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the eigenvalues (r,) of K / n for the cosine kernel, and the points' contributions (n, r).

    The mean of the contributions over the points is the eigenvalues.
    """
    largest = np.abs(points).max(axis=1, keepdims=True)
    scaled = points / np.where(largest > 0, largest, 1.0)
    unit = np.column_stack([scaled, largest == 0])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    if len(unit) < unit.shape[1]:
        spectrum, vectors = np.linalg.eigh(unit @ unit.T / len(unit))
        return spectrum, len(unit) * np.square(vectors) * spectrum
    spectrum, vectors = np.linalg.eigh(unit.T @ unit / len(unit))
    return spectrum, np.square(unit @ vectors)


def _gaussian_spectrum(points: FloatArray, bandwidth: float) -> tuple[FloatArray, FloatArray]:
    """Return the eigenvalues (n,) of K / n for the Gaussian kernel, and the points' contributions (n, n)."""
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise InputError(
            "bandwidth is not a positive finite number",
            got=bandwidth,
            remedy="use median_bandwidth of real data",
        )
    centred = points - points.mean(axis=0)
    kernel = np.concatenate(
        [np.exp(block / (-2.0 * bandwidth**2)) for _, block in _squared(centred, centred)]
    )
    np.fill_diagonal(kernel, 1.0)
    spectrum, vectors = np.linalg.eigh(kernel / len(points))
    return spectrum, len(points) * np.square(vectors) * spectrum


def median_bandwidth(reference: ArrayLike, cap: int = 2000) -> float:
    """Return the median distance between distinct rows of a real sample, a bandwidth for :func:`vendi`.

    Args:
        reference: Real sample, shape (m, d), m >= 2.
        cap: Maximal number of rows that are used; they are evenly spaced in the sample.

    Returns:
        The median Euclidean distance, in the units of the sample.

    Raises:
        InputError: If the sample is not finite or not a matrix, or if all its rows are equal.
    """
    points = sample(reference, "reference", 2)
    points = points[np.unique(np.linspace(0, len(points) - 1, min(cap, len(points))).astype(int))]
    centred = points - points.mean(axis=0)
    blocks = _squared(centred, centred)
    pairs = np.concatenate(
        [b[np.arange(rows.start, rows.stop)[:, None] > np.arange(len(points))] for rows, b in blocks]
    )
    pairs = pairs[pairs > ROUNDING * np.square(centred).sum(axis=1).max()]
    if pairs.size == 0:
        raise InputError(
            "reference does not define a bandwidth", got="equal rows", remedy="pass a bandwidth explicitly"
        )
    return math.sqrt(float(np.median(pairs)))


# --- copying --------------------------------------------------------------------------------------


def memorisation(x: ArrayLike, train: ArrayLike, held_out: ArrayLike) -> Estimate:
    """Return the probability that a generated sample is nearer to the training data than a held-out one.

    With D the distance to the nearest training row, x generated and y held out, it is
    P(D(x) < D(y)) + P(D(x) = D(y)) / 2: 1/2 for fresh real data, 1 for copies of training data, below 1/2
    for samples away from the training data. It is the Mann-Whitney statistic of the data-copying test,
    without cells and with the opposite sign (Meehan, Chaudhuri & Dasgupta 2020, arXiv 2004.05675). The
    standard error is that of DeLong, DeLong & Clarke-Pearson (1988, Biometrics 44): both samples are random,
    the training data fixed. It is 0 if the value is 0 or 1.

    Args:
        x: Generated sample, shape (n, d), n >= 2.
        train: Training data, shape (t, d), t >= 1.
        held_out: Held-out real sample, shape (m, d), m >= 2, not part of ``train``.

    Raises:
        InputError: If the samples are not finite, differ in columns or are too small.
    """
    rows, real = paired(x, held_out, 2, "held_out")
    known = paired(x, train, 1, "train")[1]
    near, far = _nearest(rows, known), _nearest(real, known)
    above = 1.0 - _below(near, far)  # share of held-out distances above each generated one
    beneath = _below(far, near)
    return Estimate(float(above.mean()), math.sqrt(_error2(above) + _error2(beneath)))


def _nearest(points: FloatArray, known: FloatArray) -> FloatArray:
    """Return the squared distances (n,) to the nearest known row; they are exactly zero for copies."""
    origin = known.mean(axis=0)
    found = np.concatenate([block.argmin(axis=1) for _, block in _squared(points - origin, known - origin)])
    squares: FloatArray = np.square(points - known[found]).sum(axis=1)
    return squares


def _below(values: FloatArray, others: FloatArray) -> FloatArray:
    """Return the share of ``others`` below each value (n,); ties count one half."""
    ordered = np.sort(others)
    counts = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(counts / (2.0 * ordered.size))
