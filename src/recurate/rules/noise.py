r"""Noises of random-utility choice: the candidates with the largest reward + noise are kept.

Standard Gumbel noise gives Luce's choice model, P(pick i) = exp(r_i) / sum_j exp(r_j) (Luce 1959; Yellott
1977): Bradley-Terry for K = 2, and Plackett-Luce if several are kept. Gaussian noise gives Thurstone's model
(1927, case V), and no noise gives best-of-K. Any other smooth noise is defined by two functions::

    logistic = Noise("logistic", cdf=lambda z: 1 / (1 + np.exp(-z)), pdf=lambda z: 1 / (2 + 2 * np.cosh(z)))
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.core.plugins import Seam, call

Function = Callable[[FloatArray], FloatArray]
Draw = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]

REACH = 40.0  # beyond it, a noise of unit scale has no mass in double precision: exp(-40) = 4e-18
LIGHTEST = 1e-16  # largest mass that a noise may have beyond REACH, on either side
CELL = 0.01  # spacing of the table for draws by inversion
REFINEMENTS = 4  # Newton steps from that table; each squares the error, which starts below 1e-2 of a cell


@dataclass(frozen=True)
class Noise:
    r"""A noise of about unit scale, defined by vectorised functions of one real variable.

    The functions are called at any real z and must not return NaN. A rule's temperature sets the scale. Two
    noises are equal if they have the same functions.

    Attributes:
        name: Name of the noise in configurations and logs.
        cdf: Distribution function F(z): smooth, increasing, with F(-40) < 1e-16 and 1 - F(40) < 1e-16.
        pdf: Density f(z), the derivative of F.
        sf: 1 - F(z), with full *relative* accuracy for large z. The default is ``1 - cdf(z)``, with an
            *absolute* error of 1e-16; this suffices for picks, but not for logarithms of smaller
            probabilities.
        draw: Function of ``(rng, shape)`` that returns independent values. The default inverts the cdf, with
            abs(F(z) - u) < 1e-14 at every uniform u.
        log_cdf: log F(z), for picks so improbable that F underflows. The default is ``log(cdf(z))``.
        log_sf: log(1 - F(z)). The default is ``log(sf(z))``.
        log_pdf: log f(z). The default is ``log(pdf(z))``.
    """

    name: str
    cdf: Function
    pdf: Function
    # The defaults depend on cdf and pdf, so __post_init__ sets them; None is never read.
    sf: Function = None  # type: ignore[assignment]
    draw: Draw = None  # type: ignore[assignment]
    log_cdf: Function = None  # type: ignore[assignment]
    log_sf: Function = None  # type: ignore[assignment]
    log_pdf: Function = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self._default("sf", _Complement(self.cdf))
        self._default("draw", Inversion(self.cdf, self.pdf))
        self._default("log_cdf", _Log(self.cdf))
        self._default("log_sf", _Log(self.sf))
        self._default("log_pdf", _Log(self.pdf))

    def _default(self, name: str, function: object) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, function)

    def check(self) -> None:
        """Check that the functions are consistent; every rule calls this for its noise.

        Raises:
            InputError: If F is not a smooth distribution function of about unit scale, f is not its
                derivative, or sf or draw contradicts it.
        """
        if self not in (GUMBEL, GAUSSIAN, NO_NOISE):
            _check(self)


# Defaults are objects with equality, not closures, so that equal functions make equal noises.
@dataclass(frozen=True)
class _Complement:
    cdf: Function

    def __call__(self, z: FloatArray) -> FloatArray:
        return np.asarray(1.0 - self.cdf(z))


@dataclass(frozen=True)
class _Log:
    function: Function

    def __call__(self, z: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.function(z)))


@dataclass(frozen=True)
class Inversion:
    """Draws of z with F(z) = u, u uniform: a table locates z in a cell, and Newton steps refine it there."""

    cdf: Function
    pdf: Function

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """Return independent values, an array of the given shape."""
        return self.quantile(rng.random(shape))

    def quantile(self, u: FloatArray) -> FloatArray:
        """Return z in [-REACH, REACH] with abs(F(z) - u) < 1e-14, in the shape of u."""
        nodes, values = _table(self.cdf)
        right = np.clip(np.searchsorted(values, u), 1, nodes.size - 1)
        low, high = nodes[right - 1], nodes[right]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = (u - values[right - 1]) / (values[right] - values[right - 1])
            z = low + (high - low) * np.clip(np.nan_to_num(share, nan=0.5), 0.0, 1.0)
            for _ in range(REFINEMENTS):
                step = (self.cdf(z) - u) / self.pdf(z)
                z = np.clip(z - np.where(np.isfinite(step), step, 0.0), low, high)
        return np.asarray(z)


@functools.lru_cache(maxsize=16)
def _table(cdf: Function) -> tuple[FloatArray, FloatArray]:
    nodes = np.linspace(-REACH, REACH, round(2 * REACH / CELL) + 1)
    with np.errstate(over="ignore"):
        # searchsorted needs sorted values, and rounding may lower a flat tail by an ulp.
        return nodes, np.maximum.accumulate(np.asarray(cdf(nodes), float))


@functools.lru_cache(maxsize=64)
def _check(noise: Noise) -> None:
    z = np.linspace(-REACH, REACH, 1601)
    with np.errstate(over="ignore"):
        cdf, sf, pdf = (np.asarray(g(z), float) for g in (noise.cdf, noise.sf, noise.pdf))
        far = [np.asarray(g(np.array([-1e4, 1e4])), float) for g in (noise.cdf, noise.pdf)]
    same = cdf.shape == z.shape and pdf.shape == z.shape and sf.shape == z.shape
    _require(noise, same, "must map arrays to arrays of the same shape", f"{z.shape} to {cdf.shape}")
    finite = bool(np.isfinite(np.concatenate([cdf, sf, pdf, *far])).all())
    _require(noise, finite, "must be finite everywhere", "nan or inf at some z in [-10000, 10000]")
    rises = cdf.min() >= 0 and cdf.max() <= 1 + 1e-15 and np.diff(cdf).min() >= -1e-15
    found = f"values in [{cdf.min():g}, {cdf.max():g}]"
    _require(noise, rises, "needs a cdf that increases from 0 to 1", found)
    tails = f"F(-{REACH:g}) and 1 - F({REACH:g}) must be below {LIGHTEST:g}"
    light = cdf[0] <= LIGHTEST and 1 - cdf[-1] <= LIGHTEST
    _require(noise, light, f"has too heavy tails: {tails}", f"{cdf[0]:.3g} and {1 - cdf[-1]:.3g}")
    gap = np.abs(cdf + sf - 1).max()
    _require(noise, gap <= 1e-12, "needs sf = 1 - cdf", f"a difference of {gap:.3g}")
    _check_density(noise, z, pdf, cdf)
    _check_draws(noise)


def _check_density(noise: Noise, z: FloatArray, pdf: FloatArray, cdf: FloatArray) -> None:
    _require(noise, pdf.min() >= 0, "needs a pdf >= 0", pdf.min())
    # The comparison is at quantiles, so that every noise is tested where it has mass.
    at = np.interp([1e-3, 0.02, 0.1, 0.3, 0.45, 0.6, 0.75, 0.9, 0.98, 0.999], cdf, z)
    h = 1e-3
    slope = (8 * (noise.cdf(at + h) - noise.cdf(at - h)) - noise.cdf(at + 2 * h) + noise.cdf(at - 2 * h)) / (
        12 * h
    )
    density = noise.pdf(at)
    excess = np.abs(density - slope) - 1e-5 * np.abs(slope)
    i = int(np.argmax(excess))
    found = f"pdf({at[i]:.3g}) = {density[i]:.6g}, but the cdf's slope there is {slope[i]:.6g}"
    _require(noise, excess[i] <= 0, "needs the derivative of its cdf as pdf", found)
    # By Poisson summation, sums at a step of 0.25 differ from 1 by the frequencies above 2 pi / 0.25.
    grid = np.arange(-REACH, REACH + 0.125, 0.25)
    sums = [0.25 * float(np.sum(noise.pdf(grid + shift))) for shift in (0.0, 0.0625, 0.125)]
    error = max(abs(s - 1) for s in sums)
    smooth = "needs a smooth density of about unit scale (no kinks, not narrower than 0.1)"
    _require(noise, error <= 1e-8, smooth, f"sums at steps of 0.25 that differ from 1 by {error:.3g}")


def _check_draws(noise: Noise) -> None:
    if isinstance(noise.draw, Inversion):
        return
    values, again = (noise.draw(np.random.default_rng(0), (4000,)) for _ in range(2))
    same = np.array_equal(values, again)
    _require(noise, same, "needs draws that rng alone determines", "other values from the same rng")
    shaped = np.shape(values) == (4000,)
    _require(noise, shaped, "needs a draw(rng, shape) of that shape", f"{np.shape(values)} for (4000,)")
    values = np.sort(values)
    # Kolmogorov-Smirnov: by Massart's bound, a correct draw exceeds 0.06 with probability below 1e-12.
    distance = float(np.abs(noise.cdf(values) - (np.arange(4000) + 0.5) / 4000).max())
    _require(
        noise,
        distance <= 0.06,
        "needs draws that follow its cdf",
        f"a distance of {distance:.3g} in 4000 draws",
    )


def _require(noise: Noise, holds: bool | np.bool_, what: str, got: object) -> None:
    """Raise InputError unless the condition holds."""
    if not holds:
        raise InputError(
            f"the noise {noise.name!r} {what}",
            got=got,
            remedy="give the cdf and its derivative, the pdf, of a smooth distribution of unit scale whose "
            "tails fall like exp(-z) or faster",
        )


# Below z = -709, exp(-z) overflows; F and f are zero there in double precision.
_LOWEST = -700.0


def _gumbel_cdf(z: FloatArray) -> FloatArray:
    return np.exp(-np.exp(-np.maximum(z, _LOWEST)))


def _gumbel_sf(z: FloatArray) -> FloatArray:
    return -np.expm1(-np.exp(-np.maximum(z, _LOWEST)))


def _gumbel_pdf(z: FloatArray) -> FloatArray:
    z = np.maximum(z, _LOWEST)
    return np.exp(-z - np.exp(-z))


def _gumbel_draw(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    return rng.gumbel(size=shape)


def _gumbel_log_cdf(z: FloatArray) -> FloatArray:
    return -np.exp(-np.maximum(z, _LOWEST))


def _gumbel_log_sf(z: FloatArray) -> FloatArray:
    # For z > 37, log(1 - exp(-e^-z)) is -z in double precision, and e^-z may underflow.
    return np.asarray(np.where(z > 37.0, -z, np.log(_gumbel_sf(np.minimum(z, 37.0)))))


def _gumbel_log_pdf(z: FloatArray) -> FloatArray:
    return -z - np.exp(-np.maximum(z, _LOWEST))


_FARTHEST = 1e150  # its square is finite


def _gaussian_cdf(z: FloatArray) -> FloatArray:
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


def _gaussian_sf(z: FloatArray) -> FloatArray:
    return _gaussian_cdf(-np.asarray(z))


def _gaussian_pdf(z: FloatArray) -> FloatArray:
    return np.exp(_gaussian_log_pdf(z))


def _gaussian_draw(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    return rng.standard_normal(shape)


def _gaussian_log_cdf(z: FloatArray) -> FloatArray:
    from scipy.special import log_ndtr

    return np.asarray(log_ndtr(z))


def _gaussian_log_sf(z: FloatArray) -> FloatArray:
    return _gaussian_log_cdf(-np.asarray(z))


def _gaussian_log_pdf(z: FloatArray) -> FloatArray:
    return -0.5 * np.square(np.clip(z, -_FARTHEST, _FARTHEST)) - 0.5 * math.log(2 * math.pi)


def _step_cdf(z: FloatArray) -> FloatArray:
    return np.asarray(np.asarray(z) >= 0, float)


def _no_pdf(z: FloatArray) -> FloatArray:
    raise InputError(
        "the noise 'none' has no density", got="noise = none", remedy="use recurate.rules.best_of_k instead"
    )


def _zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    return np.zeros(shape)


GUMBEL = Noise(
    "gumbel",
    _gumbel_cdf,
    _gumbel_pdf,
    _gumbel_sf,
    _gumbel_draw,
    _gumbel_log_cdf,
    _gumbel_log_sf,
    _gumbel_log_pdf,
)
"""Standard Gumbel noise, F(z) = exp(-exp(-z)): picks follow Luce's choice model."""

GAUSSIAN = Noise(
    "gaussian",
    _gaussian_cdf,
    _gaussian_pdf,
    _gaussian_sf,
    _gaussian_draw,
    _gaussian_log_cdf,
    _gaussian_log_sf,
    _gaussian_log_pdf,
)
"""Standard normal noise: picks follow Thurstone's model."""

NO_NOISE = Noise("none", _step_cdf, _no_pdf, draw=_zeros)
"""No noise: the best of K is picked, ties uniformly at random. It has no density."""

NOISES = Seam(
    "noises",
    "noise",
    {
        "gumbel": GUMBEL,
        "luce": GUMBEL,
        "gaussian": GAUSSIAN,
        "thurstone": GAUSSIAN,
        "none": NO_NOISE,
        "best-of-k": NO_NOISE,
    },
)


def built_in_name(name: object, where: object) -> str:
    """Return the name of a noise that a run's or fit's own files state, without importing anything.

    Only commands that a user gives may import a plug-in: reading a folder must not run its code.

    Raises:
        InputError: the noise is a plug-in.
    """
    if str(name) not in NOISES.built_in:
        raise InputError(
            f"{where} names a noise that is a plug-in, and reading a folder runs no code",
            got=repr(name),
            remedy="if you trust it, name it yourself: --noise, or --declared for an audit",
        )
    return str(name)


def noise_named(name: str) -> Noise:
    """Return the noise of a name, as configurations and the command line write it.

    The name of a plug-in (``module:name`` or an entry point) becomes the ``name`` of the noise.

    >>> noise_named("thurstone").name
    'gaussian'

    Raises:
        InputError: If there is no such noise, or its functions are inconsistent.
    """
    found = NOISES.find(str(name))
    if name in NOISES.built_in:
        return found  # type: ignore[no-any-return]
    if not isinstance(found, Noise):
        raise InputError(
            f"{name} is not a noise",
            got=type(found).__name__,
            remedy="write NAME = Noise('NAME', cdf=..., pdf=...) there (recurate docs extending)",
        )
    noise = replace(found, name=name)
    call(name, noise.check)
    return noise
