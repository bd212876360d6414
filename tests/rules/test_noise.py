"""Noises: built-in ones, one's own from two functions, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recurate.core.errors import InputError
from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, REACH, Inversion, Noise, noise_named


def logistic_cdf(z):
    return 1 / (1 + np.exp(-z))


def logistic_pdf(z):
    return 1 / (2 + 2 * np.cosh(z))


LOGISTIC = Noise("logistic", logistic_cdf, logistic_pdf)


@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN], ids=lambda n: n.name)
def test_built_in_functions_fit_together(noise):
    z = np.linspace(-30, 37, 400)
    usual = Noise(noise.name, noise.cdf, noise.pdf)
    usual.check()
    np.testing.assert_allclose(noise.cdf(z) + noise.sf(z), 1, rtol=1e-15)
    with np.errstate(divide="ignore"):
        for plain, log in ((noise.cdf, noise.log_cdf), (noise.sf, noise.log_sf), (noise.pdf, noise.log_pdf)):
            expected = np.log(plain(z))
            known = expected > -700
            np.testing.assert_allclose(log(z)[known], expected[known], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN], ids=lambda n: n.name)
def test_built_in_functions_hold_far_out(noise):
    far = np.array([-1e300, -1e4, 1e4, 1e300])
    for function in (noise.cdf, noise.sf, noise.pdf):
        assert np.isfinite(function(far)).all()
    for function in (noise.log_cdf, noise.log_sf, noise.log_pdf):
        assert not np.isnan(function(far)).any()
    assert noise.sf(np.array([37.0]))[0] > 0
    np.testing.assert_allclose(GUMBEL.log_sf(np.array([1e4])), -1e4)
    np.testing.assert_allclose(GAUSSIAN.log_sf(np.array([1e4])), -5e7, rtol=1e-6)


@pytest.mark.parametrize("noise", [LOGISTIC, GUMBEL, GAUSSIAN], ids=lambda n: n.name)
def test_inversion_is_as_exact_as_promised(noise):
    rng = np.random.default_rng(0)
    u = np.concatenate([rng.random(20_000), 10.0 ** -np.arange(1, 16), 1 - 10.0 ** -np.arange(1, 16)])
    z = Inversion(noise.cdf, noise.pdf).quantile(u)
    assert np.abs(noise.cdf(z) - u).max() < 1e-14
    # The lower tail keeps its digits.
    np.testing.assert_allclose(noise.cdf(z[20_000:20_010]), u[20_000:20_010], rtol=1e-10)


def test_draws_have_the_shape_and_the_law():
    # Kolmogorov-Smirnov at a false-alarm rate of 2 exp(-2 n d^2) = 1e-6 each.
    n = 50_000
    for noise in (LOGISTIC, GUMBEL, GAUSSIAN):
        values = noise.draw(np.random.default_rng(3), (5, n // 5))
        assert values.shape == (5, n // 5)
        distance = np.abs(noise.cdf(np.sort(values.ravel())) - (np.arange(n) + 0.5) / n).max()
        assert distance < math.sqrt(math.log(2e6) / (2 * n)) + 1 / n
    assert (NO_NOISE.draw(np.random.default_rng(0), (3, 2)) == 0).all()


def test_a_noise_needs_two_functions_only():
    LOGISTIC.check()
    z = np.array([-3.0, 0.0, 5.0])
    np.testing.assert_allclose(LOGISTIC.sf(z), logistic_cdf(-z), rtol=1e-12)
    np.testing.assert_allclose(LOGISTIC.log_cdf(z), np.log(logistic_cdf(z)), rtol=1e-14)


def test_equal_functions_make_equal_noises():
    twin = Noise("logistic", logistic_cdf, logistic_pdf)
    assert twin == LOGISTIC
    assert hash(twin) == hash(LOGISTIC)
    assert Noise("logistic", logistic_cdf, logistic_pdf, sf=lambda z: logistic_cdf(-z)) != LOGISTIC


def cauchy(z):
    return 0.5 + np.arctan(z) / math.pi


def laplace(z):
    return np.where(z < 0, np.exp(np.minimum(z, 0)) / 2, 1 - np.exp(-np.maximum(z, 0)) / 2)


NARROW = 0.02
BAD = {
    "heavy": (Noise("cauchy", cauchy, lambda z: 1 / (math.pi * (1 + z**2))), "too heavy tails"),
    "wrong pdf": (Noise("twice", logistic_cdf, lambda z: 2 * logistic_pdf(z)), "derivative of its cdf"),
    "pdf off by 1e-4": (
        Noise("slightly", logistic_cdf, lambda z: 1.0001 * logistic_pdf(z)),
        "derivative of its cdf",
    ),
    "shifted pdf": (Noise("shift", logistic_cdf, lambda z: logistic_pdf(z - 0.01)), "derivative of its cdf"),
    "negative pdf": (Noise("minus", logistic_cdf, lambda z: -logistic_pdf(z)), "pdf >= 0"),
    "falling cdf": (Noise("sf", lambda z: logistic_cdf(-z), logistic_pdf), "increases from 0 to 1"),
    "not a cdf": (Noise("half", lambda z: 2 * logistic_cdf(z), logistic_pdf), "increases from 0 to 1"),
    "kink": (Noise("laplace", laplace, lambda z: np.exp(-np.abs(z)) / 2), "smooth density"),
    "narrow": (
        Noise("thin", lambda z: GAUSSIAN.cdf(z / NARROW), lambda z: GAUSSIAN.pdf(z / NARROW) / NARROW),
        "derivative of its cdf|smooth density",
    ),
    "nan": (Noise("nan", lambda z: np.where(z > 500, np.nan, GAUSSIAN.cdf(z)), GAUSSIAN.pdf), "finite"),
    "shape": (Noise("mean", lambda z: np.mean(z), GAUSSIAN.pdf), "same shape"),
    "wrong sf": (Noise("sf", logistic_cdf, logistic_pdf, sf=logistic_cdf), "sf = 1 - cdf"),
    "wrong draw": (
        Noise("draw", logistic_cdf, logistic_pdf, draw=lambda rng, shape: rng.normal(size=shape)),
        "draws that follow",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_functions_that_do_not_fit_are_refused(case):
    noise, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        noise.check()
    assert noise.name in caught.value.what


def test_right_draws_and_tails_are_not_refused():
    Noise(
        "own", logistic_cdf, logistic_pdf, lambda z: logistic_cdf(-z), lambda rng, n: rng.logistic(size=n)
    ).check()
    assert logistic_cdf(-REACH) < 1e-16


def test_no_noise_has_no_density():
    NO_NOISE.check()
    with pytest.raises(InputError, match="density"):
        NO_NOISE.pdf(np.zeros(1))


def test_noises_have_names():
    assert noise_named("luce") is noise_named("gumbel") is GUMBEL
    assert noise_named("thurstone") is noise_named("gaussian") is GAUSSIAN
    assert noise_named("best-of-k") is noise_named("none") is NO_NOISE
    with pytest.raises(InputError, match="did you mean 'thurstone'"):
        noise_named("thurston")
    with pytest.raises(InputError, match="gumbel"):
        noise_named("xyz")
