"""Generated against real samples: plain definitions, closed forms, invariances, errors by simulation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import ortho_group

from recurate.core.errors import InputError
from recurate.metrics import quality
from recurate.metrics.neighbours import kl_neighbours

# Mean error over standard deviation, from 300 simulated sets: the latter is known to 4 %. So an error that is
# right leaves 0.8 to 1.25 with probability under 1e-6; half or one and a half times the right one is inside
# with probability under 1e-5.
SETS = 300
RIGHT = (0.8, 1.25)
FEW = st.integers(0, 10**6)


def calibration(draw, sets=SETS):
    """Mean standard error over the standard deviation of the values, for estimates drawn anew."""
    found = [draw() for _ in range(sets)]
    return np.mean([e.se for e in found]) / np.std([e.value for e in found], ddof=1)


def right(ratio, low=RIGHT[0], high=RIGHT[1]):
    return low < ratio < high


def everything(x, y):
    """All values that compare x with y."""
    return np.array(
        [
            quality.frechet(x, y).value,
            *(e.value for e in quality.precision_recall(x, y)),
            *(e.value for e in quality.density_coverage(x, y)),
            quality.vendi(x, quality.median_bandwidth(y)).value,
            quality.memorisation(x, y[::2], y[1::2]).value,
            kl_neighbours(x, y).value,
        ]
    )


def shifted(seed, n=60, m=50, d=3):
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 0.8, size=(n, d)), rng.normal(size=(m, d))


# --- definitions in plain loops -------------------------------------------------------------------


def plain_distance(a, b):
    return math.sqrt(sum((u - v) ** 2 for u, v in zip(a, b, strict=True)))


def plain_radii(sample, k):
    return [
        sorted(plain_distance(a, b) for j, b in enumerate(sample) if i != j)[k - 1]
        for i, a in enumerate(sample)
    ]


def plain_share(points, centres, k):
    radii = plain_radii(centres, k)
    inside = [any(plain_distance(p, c) <= r for c, r in zip(centres, radii, strict=True)) for p in points]
    return sum(inside) / len(points)


def plain_density_coverage(x, y, k):
    radii = plain_radii(y, k)
    hits = [[plain_distance(a, b) <= r for b, r in zip(y, radii, strict=True)] for a in x]
    covered = [any(row[j] for row in hits) for j in range(len(y))]
    return sum(map(sum, hits)) / (k * len(x)), sum(covered) / len(y)


def plain_memorisation(x, train, held_out):
    near = [min(plain_distance(a, t) for t in train) for a in x]
    far = [min(plain_distance(a, t) for t in train) for a in held_out]
    wins = [1.0 if u < v else 0.5 if u == v else 0.0 for u in near for v in far]
    return sum(wins) / len(wins)


def plain_vendi(kernel):
    values = np.linalg.eigvalsh(kernel / len(kernel))
    return math.exp(-sum(v * math.log(v) for v in values if v > 1e-15))


def plain_kl(x, y, k):
    """The estimator's definition, with digamma of whole numbers as a sum."""

    def psi(count):
        return -np.euler_gamma + sum(1 / j for j in range(1, count))

    scale = np.concatenate([x, y]).std(axis=0)
    x, y = x / scale, y / scale
    total = 0.0
    for i, a in enumerate(x):
        own = sorted(plain_distance(a, b) for j, b in enumerate(x) if j != i)
        other = sorted(plain_distance(a, b) for b in y)
        reach = max(own[k - 1], other[k - 1])
        tied = sum(abs(v - reach) < 1e-9 for v in own + other) > 1
        limit = reach + 1e-9 if tied else reach - 1e-9
        total += psi(sum(v < limit for v in own) + 1) - psi(sum(v < limit for v in other) + 1)
    return total / len(x) + psi(len(y) + 1) - psi(len(x))


@pytest.mark.parametrize("k", [1, 4])
def test_supports_are_their_definitions(k):
    x, y = shifted(0)
    for a, b in ((x, y), (np.round(x), np.round(y))):  # a lattice: ties, duplicates, points on surfaces
        precision, recall = quality.precision_recall(a, b, k)
        assert (precision.value, recall.value) == (plain_share(a, b, k), plain_share(b, a, k))
        found = quality.density_coverage(a, b, k)
        assert tuple(e.value for e in found) == pytest.approx(plain_density_coverage(a, b, k))
        found = quality.memorisation(a, b[::2], b[1::2]).value
        assert found == pytest.approx(plain_memorisation(a, b[::2], b[1::2]))


def test_blocks_change_nothing(monkeypatch):
    x, y = shifted(1)
    whole = everything(x, y)
    for module in ("quality", "neighbours"):
        monkeypatch.setattr(f"recurate.metrics.{module}.BLOCK", 120)
    np.testing.assert_allclose(everything(x, y), whole, rtol=1e-12)


def test_vendi_is_its_definition():
    x, _ = shifted(2)
    h = quality.median_bandwidth(x)
    kernel = np.array([[math.exp(-(plain_distance(a, b) ** 2) / (2 * h * h)) for b in x] for a in x])
    assert quality.vendi(x, h).value == pytest.approx(plain_vendi(kernel))
    assert quality.vendi(x, 1.1 * h).value != pytest.approx(plain_vendi(kernel))
    for sample in (x, x.T):  # both sides of the eigenproblem
        unit = sample / np.linalg.norm(sample, axis=1, keepdims=True)
        assert quality.vendi(sample).value == pytest.approx(plain_vendi(unit @ unit.T))
    distances = [plain_distance(a, b) for i, a in enumerate(x) for b in x[:i]]
    assert h == pytest.approx(np.median(distances))


def test_kl_is_its_definition():
    x, y = shifted(3, d=2)
    assert kl_neighbours(x, y, 3).value == pytest.approx(plain_kl(x, y, 3))
    assert kl_neighbours(x, y, 3).value != pytest.approx(plain_kl(x, y, 4))
    for decimals in (0, 1):  # ties at the centre and on the surface
        a, b = np.round(x, decimals), np.round(y, decimals)
        assert kl_neighbours(a, b, 3).value == pytest.approx(plain_kl(a, b, 3))


def test_frechet_errors_are_derivatives():
    """The influence function is the derivative of the distance in the weight of one point."""
    rng = np.random.default_rng(21)
    x, y = rng.normal(0.5, 1.5, size=(150, 2)), rng.normal(size=(120, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])

    def distance(weights_x, weights_y):
        one, two = (np.cov(s.T, aweights=w, ddof=0) for s, w in ((x, weights_x), (y, weights_y)))
        shift = np.average(x, axis=0, weights=weights_x) - np.average(y, axis=0, weights=weights_y)
        return shift @ shift + np.trace(one + two) - 2 * np.sqrt(np.linalg.eigvals(one @ two)).sum()

    ones_x, ones_y, step = np.ones(150), np.ones(120), 1e-4
    slopes_x = [(distance(ones_x + e, ones_y) - distance(ones_x - e, ones_y)) / 2 for e in step * np.eye(150)]
    slopes_y = [(distance(ones_x, ones_y + e) - distance(ones_x, ones_y - e)) / 2 for e in step * np.eye(120)]
    error = math.hypot(*(np.linalg.norm(slopes) / step for slopes in (slopes_x, slopes_y)))
    assert quality.frechet(x, y).se == pytest.approx(error, rel=0.015)
    assert quality.frechet(y, x).se == pytest.approx(error, rel=0.015)


def test_vendi_errors_are_derivatives():
    """The influence function is the derivative of the score in the weight of one sample."""
    x, _ = shifted(4, n=12)
    kernel = np.exp(-0.5 * np.square(x[:, None] - x[None]).sum(axis=2))

    def score(weights):
        root = np.sqrt(weights / weights.sum())
        return plain_vendi(len(x) * root[:, None] * kernel * root)

    step = 1e-5 * np.eye(12)
    slopes = [12 * (score(1 + e) - score(1 - e)) / 2e-5 for e in step]
    assert quality.vendi(x, 1.0).se == pytest.approx(np.std(slopes, ddof=1) / math.sqrt(12), rel=1e-5)


# --- closed forms ---------------------------------------------------------------------------------


def test_frechet_of_normal_laws():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200_000, 3)) @ np.diag([1.0, 2.0, 3.0]) + [1.0, 0.0, -1.0]
    y = rng.normal(size=(200_000, 3))
    found = quality.frechet(x, y)
    assert abs(found.value - (2.0 + 0.0 + 1.0 + 4.0)) < 5 * found.se
    assert found.se < 0.05


@given(FEW, st.integers(2, 40), st.integers(2, 40), st.integers(1, 12))
def test_frechet_agrees_with_the_matrix_square_root(seed, n, m, d):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(0.5, 2.0, size=(m, d))
    one, two = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sqrtm of singular matrices
        root = np.real(
            sqrtm(sqrtm(one + 1e-13 * np.eye(d)) @ two @ sqrtm(one + 1e-13 * np.eye(d)) + 1e-13 * np.eye(d))
        )
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(one + two - 2 * root)
    found = quality.frechet(x, y).value
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert quality.frechet(x, x).value == pytest.approx(0, abs=1e-12 * np.trace(one))
    assert found == pytest.approx(quality.frechet(y, x).value)


def test_frechet_of_singular_covariances_keeps_its_digits():
    """In orthogonal subspaces the trace term is zero; in one line it is the standard deviations' product."""
    rng = np.random.default_rng(6)
    x, y = np.zeros((100, 512)), np.zeros((80, 512))
    x[:, :50], y[:, 100:150] = rng.normal(size=(100, 50)), rng.normal(size=(80, 50))
    means = np.square(x.mean(0) - y.mean(0)).sum()
    traces = x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum()
    assert quality.frechet(x, y).value == pytest.approx(means + traces, rel=1e-12)
    u, a, b = np.eye(512)[3], rng.normal(size=100), rng.normal(size=100)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert quality.frechet(np.outer(a, u), np.outer(b, u)).value == pytest.approx(expected, rel=1e-10)


def test_frechet_bias_is_as_stated():
    rng = np.random.default_rng(7)
    scales = np.array([1.0, 2.0, 3.0])
    found = [
        quality.frechet(*(rng.normal(size=(s, 3)) * scales for s in (300, 500))).value for _ in range(400)
    ]
    law = scales**2
    pairs = np.outer(law, law) / (2 * np.add.outer(law, law)) * (1 + np.eye(3))
    assert np.mean(found) == pytest.approx((1 / 300 + 1 / 500) * (law.sum() + pairs.sum()), rel=0.12)


def test_identical_and_disjoint_sets():
    x, _ = shifted(8)
    assert [e.value for e in quality.precision_recall(x, x)] == [1, 1]
    assert quality.density_coverage(x, x)[1].value == 1
    far = x + 100.0
    assert [(e.value, e.se) for e in quality.precision_recall(x, far)] == [(0, 0), (0, 0)]
    assert [(e.value, e.se) for e in quality.density_coverage(x, far)] == [(0, 0), (0, 0)]
    assert quality.memorisation(x, x, far) == quality.memorisation(x + 1e-9, x, far)
    assert quality.memorisation(x, x, far).value == 1
    assert quality.memorisation(far, x, x + 0.1).value == 0
    assert kl_neighbours(x, far).value > 2


def test_coverage_of_one_law():
    """1 - 2^-k for as many x as y, up to terms of order 1 / n (Naeem et al. 2020, sec. 3.3)."""
    rng = np.random.default_rng(9)
    n, k = 200, 2
    found = [
        quality.density_coverage(rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), k) for _ in range(100)
    ]
    assert np.mean([c.value for _, c in found]) == pytest.approx(
        1 - math.comb(2 * n - 1 - k, n) / math.comb(2 * n - 1, n), abs=0.008
    )
    assert np.mean([d.value for d, _ in found]) == pytest.approx(1, abs=0.02)


def test_vendi_counts_clusters():
    apart = np.repeat(100.0 * np.eye(5), 20, axis=0)
    for bandwidth in (None, 1.0):
        found = quality.vendi(apart, bandwidth)
        assert found.value == pytest.approx(5)
        assert found.se == pytest.approx(0, abs=1e-6)
        assert quality.vendi(np.ones((30, 4)), bandwidth).value == pytest.approx(1)
        assert quality.vendi(np.zeros((30, 4)), bandwidth).value == pytest.approx(1)
    assert quality.vendi(np.concatenate([apart, np.zeros((20, 5))])).value == pytest.approx(6), "no direction"
    assert quality.vendi(100.0 * np.eye(30), 1.0).value == pytest.approx(30)


def test_copies_are_told_from_fresh_data():
    rng = np.random.default_rng(10)
    train, held_out, fresh = (rng.normal(size=(300, 3)) for _ in range(3))
    found = quality.memorisation(fresh, train, held_out)
    assert abs(found.value - 0.5) < 4 * found.se
    half = np.concatenate([train[:150], fresh[:150]])
    assert quality.memorisation(half, train, held_out).value == pytest.approx(0.75, abs=0.06)
    assert quality.memorisation(np.zeros((9, 3)), np.zeros((9, 3)), np.zeros((9, 3))).value == 0.5


def averaged(draw, sets=40):
    """The mean value over simulated sets and its standard error."""
    values = [draw().value for _ in range(sets)]
    return np.mean(values), np.std(values) / math.sqrt(sets)


def test_kl_of_normal_laws():
    rng = np.random.default_rng(11)
    for d, shift in ((1, 0.0), (1, 0.7), (2, 0.7)):
        step = np.eye(d)[0] * shift
        mean, error = averaged(
            lambda d=d, step=step: kl_neighbours(rng.normal(size=(800, d)) + step, rng.normal(size=(800, d)))
        )
        assert abs(mean - shift**2 / 2) < 4 * error + 0.01


def half_atoms(rng, n, share, shift):
    """A point mass at zero and a normal law."""
    values = rng.normal(shift, 1, size=(n, 1))
    values[rng.random(n) < share] = 0.0
    return values


def lines(rng, n, share, shift):
    """A verdict, 0 or 1, beside a normal reward: a law on two lines in the plane."""
    return np.column_stack([rng.random(n) < share, rng.normal(shift, 1, size=n)])


def bernoulli(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_kl_of_mixed_laws():
    """Atoms, atoms beside a density, densities on lines; the dimension formula would double the last."""
    rng = np.random.default_rng(12)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    mean, error = averaged(lambda: kl_neighbours(*(rng.choice(3, p=law, size=(600, 1)) for law in (p, q))))
    assert abs(mean - p @ np.log(p / q)) < 4 * error + 0.005
    for draw, continuous in ((half_atoms, 0.5), (lines, 1.0)):
        truth = bernoulli(0.5, 0.2) + continuous * 0.6**2 / 2
        mean, error = averaged(
            lambda draw=draw: kl_neighbours(draw(rng, 800, 0.5, 0.6), draw(rng, 800, 0.2, 0.0))
        )
        assert abs(mean - truth) < 4 * error + 0.015
    alone = kl_neighbours(np.ones((100, 1)), np.r_[np.zeros(200), np.ones(100)][:, None])
    assert alone.value == pytest.approx(math.log(3), abs=0.02)
    never = [kl_neighbours(np.ones((100, 1)), rng.normal(size=(m, 1)), 5).value for m in (100, 10_000)]
    assert 1 < never[0] < never[1] < math.inf


# --- invariances ----------------------------------------------------------------------------------


@given(FEW)
def test_invariances(seed):
    """Rotations, shifts and orders change nothing; scale changes Frechet's value by its square alone."""
    x, y = shifted(seed, n=40, m=44)
    rng = np.random.default_rng(seed)
    base = everything(x, y)
    turn, shift = ortho_group.rvs(3, random_state=rng), np.array([5.0, -3.0, 1.0])
    once = np.delete(base, 7)  # KL scales the axes of its rewards
    np.testing.assert_allclose(np.delete(everything(x @ turn, y @ turn), 7), once, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(everything(x + shift, y + shift), base, rtol=1e-7, atol=1e-9)
    order = rng.permutation(40)
    np.testing.assert_allclose(everything(x[order], y), base, rtol=1e-9, atol=1e-9)
    scaled = everything(1e-3 * x, 1e-3 * y)
    np.testing.assert_allclose(scaled[1:], base[1:], rtol=1e-9)
    assert scaled[0] == pytest.approx(1e-6 * base[0])
    assert kl_neighbours(x * [1, 10, 100], y * [1, 10, 100]).value == pytest.approx(base[7])


def test_invariances_can_fail():
    x, y = shifted(13)
    assert np.all(everything(x, y) != everything(x + 1.0, y))


# --- standard errors ------------------------------------------------------------------------------


def test_errors_of_cheap_measures_are_right():
    rng = np.random.default_rng(14)
    normal = rng.normal
    assert right(calibration(lambda: quality.frechet(normal(0.3, 0.7, (400, 6)), normal(size=(800, 6)))))
    assert right(calibration(lambda: quality.frechet(normal(0.3, 0.7, (800, 6)), normal(size=(200, 6)))))
    assert right(calibration(lambda: quality.vendi(normal(0.5, 1, (150, 2)), 1.5), 150), 0.72, 1.35)
    assert right(calibration(lambda: quality.vendi(normal(0.5, 1, (200, 8)))))
    train = normal(size=(200, 2))
    assert right(
        calibration(lambda: quality.memorisation(normal(0.2, 1, (150, 2)), train, normal(size=(200, 2))))
    )
    assert right(calibration(lambda: kl_neighbours(normal(0.5, 1, (250, 1)), normal(size=(250, 1)))))


def test_calibration_can_fail():
    rng = np.random.default_rng(15)

    def wrong():
        x, y = rng.normal(0.3, 0.7, (400, 6)), rng.normal(size=(400, 6))
        found = quality.frechet(x, y)
        return type(found)(found.value, found.se / 1.5)

    assert not right(calibration(wrong))


def test_precision_and_density_errors_are_right_given_the_real_sample():
    rng = np.random.default_rng(16)
    y = rng.normal(size=(120, 4))
    found = [(rng.normal(0.6, 1, (100, 4)),) for _ in range(SETS)]
    precision = iter([quality.precision_recall(x, y)[0] for (x,) in found])
    density = iter([quality.density_coverage(x, y)[0] for (x,) in found])
    assert right(calibration(lambda: next(precision)))
    assert right(calibration(lambda: next(density)))


@pytest.mark.slow
def test_recall_and_coverage_errors_are_right_for_new_samples():
    """Within about a fourth: the scale of the neighbourhoods differs between the parts and the whole."""
    rng = np.random.default_rng(17)
    for d, shift, scale in ((2, 0.5, 0.8), (8, 0.3, 0.9)):
        pairs = [(rng.normal(shift, scale, (500, d)), rng.normal(size=(500, d))) for _ in range(150)]
        recall = iter([quality.precision_recall(*pair)[1] for pair in pairs])
        coverage = iter([quality.density_coverage(*pair)[1] for pair in pairs])
        assert right(calibration(lambda it=recall: next(it), 150), 0.65, 1.5)
        assert right(calibration(lambda it=coverage: next(it), 150), 0.65, 1.5)


@pytest.mark.slow
def test_errors_of_kl_are_right():
    rng = np.random.default_rng(18)
    normal = rng.normal
    cases = (
        lambda: kl_neighbours(normal(size=(600, 1)), normal(size=(600, 1))),
        lambda: kl_neighbours(normal(1.5, 1, (600, 1)), normal(size=(600, 1))),
        lambda: kl_neighbours(normal(0.4, 1, (300, 2)), normal(size=(900, 2))),
        lambda: kl_neighbours(half_atoms(rng, 600, 0.5, 0.5), half_atoms(rng, 600, 0.2, 0.0)),
        lambda: kl_neighbours(lines(rng, 600, 0.5, 0.5), lines(rng, 600, 0.2, 0.0)),
        lambda: kl_neighbours(rng.integers(3, size=(600, 1)), rng.binomial(2, 0.5, (600, 1))),
    )
    for case in cases:
        assert right(calibration(case))


@pytest.mark.slow
def test_errors_of_frechet_and_vendi_are_as_documented():
    """Where a docstring says that an error is off, it is off by that much."""
    rng = np.random.default_rng(19)
    normal = rng.normal
    scales = np.linspace(0.5, 1.5, 64)
    assert right(
        calibration(
            lambda: quality.frechet(normal(size=(400, 64)) * scales + 0.3, normal(size=(400, 64))), 200
        )
    )
    few = calibration(lambda: quality.frechet(normal(size=(32, 64)) * scales + 0.3, normal(size=(32, 64))))
    assert 0.95 < few < 1.45
    same = calibration(lambda: quality.frechet(normal(size=(400, 8)), normal(size=(400, 8))))
    assert 1.2 < same < 1.8
    spread = calibration(lambda: quality.vendi(normal(size=(150, 32)), 4.0))
    assert 0.6 < spread < 0.95, quality.vendi(normal(size=(150, 32)), 4.0)


# --- degenerate and bad input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((30, 3)), np.zeros((30, 3))),
        (np.full((30, 3), 0.1), np.random.default_rng(0).normal(size=(30, 3))),
        (np.random.default_rng(1).normal(size=(30, 3)), np.full((30, 3), 1e9)),
        (np.repeat(np.eye(3), 10, axis=0), np.repeat(np.eye(3), 12, axis=0)),
        (np.full((30, 1), 1e-200), np.full((40, 1), -1e80)),
    ],
)
def test_constants_and_duplicates_are_measured(x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [quality.frechet(x, y), *quality.precision_recall(x, y), *quality.density_coverage(x, y)]
        found += [quality.vendi(x), quality.vendi(x, 1.0), quality.memorisation(x, y, y), kl_neighbours(x, y)]
    assert np.isfinite([(e.value, e.se) for e in found]).all()
    assert {type(v) for e in found for v in (e.value, e.se)} == {float}


GOOD = np.random.default_rng(20).normal(size=(40, 2))
PAIRWISE = [quality.frechet, quality.precision_recall, quality.density_coverage, kl_neighbours]


@pytest.mark.parametrize("measure", [*PAIRWISE, lambda x, y: quality.memorisation(x, y, GOOD)])
@pytest.mark.parametrize(
    "bad",
    [
        np.full((40, 2), np.nan),
        np.full((40, 2), np.inf),
        np.full((40, 2), 1e200),
        np.zeros(40),
        np.zeros((40, 3)),
        np.zeros((40, 0)),
        np.zeros((0, 2)),
        [["a", "b"]] * 40,
    ],
)
def test_bad_samples_are_refused(measure, bad):
    for x, y in ((bad, GOOD), (GOOD, bad)):
        with pytest.raises(InputError) as error:
            measure(x, y)
        assert error.value.got
        assert error.value.remedy


@pytest.mark.parametrize("k", [0, 1.5, True, 40, 10])
def test_wrong_neighbours_are_refused(k):
    with pytest.raises(InputError):
        quality.precision_recall(GOOD, GOOD, k)
    if k != 10:
        with pytest.raises(InputError):
            kl_neighbours(GOOD, GOOD, k)


def test_vendi_refuses():
    for bandwidth in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError):
            quality.vendi(GOOD, bandwidth)
    with pytest.raises(InputError):
        quality.vendi(GOOD[:1])
    with pytest.raises(InputError, match="does not define a bandwidth"):
        quality.median_bandwidth(np.ones((5, 2)))
