r"""A picking rule: its effect on a population, its draw and its likelihood are one object.

A :class:`Rule` shows a slate of K candidates drawn i.i.d. from the law p and keeps the m of them with the
largest reward / temperature + noise, without replacement:

============  =========================  ======================================================
noise         m = 1                      m > 1
============  =========================  ======================================================
Gumbel        Luce, Bradley-Terry        Plackett-Luce (Plackett 1975; Gumbel-top-k, arXiv 1903.06059)
Gaussian      Thurstone                  the best m of Thurstone's ranking
none          best of K                  best m of K; ties uniformly
one's own     random utility             the best m of its ranking
============  =========================  ======================================================

With a lapse share e, a whole slate ignores rewards with probability e and m candidates are kept uniformly
at random. K may vary between slates, by a distribution over K.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError, is_number
from recurate.rules import best_of_k, luce, quadrature
from recurate.rules.noise import GUMBEL, NO_NOISE, Noise
from recurate.rules.utilities import of_slates

Sizes = tuple[tuple[float, float], ...]
RANKS = ("ranks",)  # the key of set-ups that depend on nothing but the order of rewards


@dataclass(frozen=True)
class Rule:
    """Keep the best of a slate by reward / temperature + noise. See the module's text.

    Attributes:
        k: slate size, a whole number >= 1; ``math.inf`` (a statement about populations only; Gumbel or no
            noise, keep = 1); or a distribution over sizes, a mapping from size to probability, which is
            held as a sorted tuple of pairs.
        temperature: divides the rewards; > 0, in the rewards' unit. Without noise it changes nothing.
        noise: what is added to reward / temperature.
        keep: how many are kept from each slate, without replacement; at most the smallest size.
        lapse: share of slates, in [0, 1], that are judged at random.

    Rewards of slates have the shape (slates, width). A slate with fewer candidates than the array is
    wide has the reward -inf in its empty slots; the width itself is the array's, not ``k``.

    Raises:
        InputError: a value is out of range; rewards are nan or inf; a slate has fewer than ``keep``.
    """

    k: float | Mapping[float, float] | Sizes = 4
    temperature: float = 1.0
    noise: Noise = GUMBEL
    keep: int = 1
    lapse: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.k, Mapping | tuple):
            object.__setattr__(self, "k", _distribution(self.k))
        else:
            check_size(self.k)
        check_temperature(self.temperature)
        check_noise(self.noise)
        check_lapse(self.lapse)
        _check_keep(self.keep, self.smallest)
        object.__setattr__(self, "keep", int(self.keep))
        if math.isinf(self.largest) and (self.noise not in (GUMBEL, NO_NOISE) or self.keep > 1):
            raise InputError(
                "k = inf needs Gumbel noise or none, and keep = 1",
                got=f"noise = {self.noise.name}, keep = {self.keep}",
                remedy="use a large finite k: with unbounded candidates there is no limit to tell",
            )

    @property
    def sizes(self) -> Sizes:
        """Slate sizes and their probabilities, by increasing size."""
        return self.k if isinstance(self.k, tuple) else ((float(self.k), 1.0),)  # type: ignore[arg-type]

    @property
    def smallest(self) -> float:
        """The smallest slate size."""
        return self.sizes[0][0]

    @property
    def largest(self) -> float:
        """The largest slate size."""
        return self.sizes[-1][0]

    @property
    def mean_k(self) -> float:
        """The mean slate size."""
        return math.fsum(k * chance for k, chance in self.sizes)

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values, for tables and reports; defaults other than k and t left out."""
        named = {_plain(k): chance for k, chance in self.sizes}
        return {
            "k": _plain(self.largest) if len(named) == 1 else {str(k): v for k, v in named.items()},
            "temperature": self.temperature,
            **({} if self.noise == GUMBEL else {"noise": self.noise.name}),
            **({} if self.keep == 1 else {"keep": self.keep}),
            **({} if self.lapse == 0 else {"lapse": self.lapse}),
        }

    # Populations

    @property
    def key(self) -> Hashable:
        """What a set-up depends on: rules with equal keys share set-ups."""
        return RANKS if self.noise == NO_NOISE else (self.noise, self.temperature)

    def setup(self, rewards: FloatArray) -> Any:
        """Prepare one population's rewards (N,), finite, for :meth:`weigh` at any law."""
        if self.noise == NO_NOISE:
            return best_of_k.Ranks(rewards)
        from recurate.rules.multiplier import Multiplier

        if self.temperature == 1:
            return Multiplier(np.asarray(rewards, float), self.noise)
        with np.errstate(over="ignore"):  # the multiplier says what is wrong with infinite utilities
            return Multiplier(np.asarray(rewards, float) / self.temperature, self.noise)

    def weigh(self, setup: Any, law: FloatArray) -> FloatArray:
        r"""Return H at every atom for the law (N,) or laws (N, B), as a new array.

        H = (1 - lapse) sum_K P(K) H_K + lapse: every slate contributes ``keep``, whatever its size.
        """
        out: FloatArray | None = None
        for k, chance in self.sizes:
            found: FloatArray = setup(law, k, self.keep)
            if chance != 1:
                found *= chance
            out = found if out is None else out + found
        assert out is not None
        if self.lapse:
            out *= 1 - self.lapse
            out += self.lapse
        return out

    def multiplier(self, rewards: ArrayLike, law: ArrayLike) -> FloatArray:
        """Return H (N,) such that what is kept from ``law`` (N,) has the law ``law * H``.

        Use :meth:`setup` and :meth:`weigh` for one population at many laws. See
        :mod:`recurate.rules.multiplier` and, without noise, :mod:`recurate.rules.best_of_k`.
        """
        return self.weigh(self.setup(np.asarray(rewards, float)), np.asarray(law, float))

    # Slates

    def probabilities(self, rewards: FloatArray) -> FloatArray:
        """Return the probability that each slot is kept, (slates, width); rows sum to ``keep``.

        Gumbel with keep = 1: the softmax; Gumbel with keep = 2 and no noise: closed forms as well. Else
        by quadrature, to 1e-14 absolutely. Empty slots have 0.
        """
        if self._is_luce:
            return luce.chances(np.asarray(rewards, float), self.temperature, self.lapse)
        utilities = self._utilities(rewards)
        chances = self._chances(utilities)
        if not self.lapse:
            return chances
        present = np.isfinite(utilities)
        uniform = self.keep * present / present.sum(axis=1, keepdims=True)
        return np.asarray((1 - self.lapse) * chances + self.lapse * uniform)

    def _chances(self, utilities: FloatArray) -> FloatArray:
        if self.noise == NO_NOISE:
            return best_of_k.best_chances(utilities, self.keep)
        if self.noise == GUMBEL and self.keep == 2:
            return _softmax_twice(utilities)
        return quadrature.chances(self.noise, utilities, self.keep)

    def draw(self, rewards: FloatArray, rng: np.random.Generator) -> IntArray:
        """Return the kept slots of each slate: (slates,), or (slates, keep), best first, for keep > 1.

        What it draws from ``rng``:

        - Luce (Gumbel noise, keep = 1): ``rng.random(slates)``, one uniform number a slate, of which lapses
          are made too; a slate's pick depends on its rewards and its number alone. See
          :mod:`recurate.rules.luce`, which says how a number becomes a pick.
        - else: with a lapse share ``rng.random(slates)``, then ``noise.draw(rng, rewards.shape)`` (no noise:
          uniform tie-breaks).
        """
        if self._is_luce:
            return luce.pick(np.asarray(rewards, float), self.temperature, self.lapse, rng)
        utilities = self._utilities(rewards)
        if self.lapse:
            lapsed = rng.random(len(utilities)) < self.lapse
            utilities = np.where(lapsed[:, None] & np.isfinite(utilities), 0.0, utilities)
        if self.noise == NO_NOISE:
            slots = best_of_k.best_slots(utilities, self.keep, rng)
        else:
            noisy = utilities + self.noise.draw(rng, utilities.shape)
            if self.keep == 1:
                return np.asarray(np.argmax(noisy, axis=1), np.int64)
            slots = np.argsort(-noisy, axis=1)[:, : self.keep].astype(np.int64)
        return slots[:, 0] if self.keep == 1 else slots

    def draw_sizes(self, slates: int, rng: np.random.Generator) -> IntArray:
        """Return a size for each slate, (slates,); without a distribution over sizes it draws nothing."""
        if math.isinf(self.largest):
            raise InputError(
                "slates of infinite size cannot be drawn", got="k = inf", remedy="use a finite k"
            )
        if len(self.sizes) == 1:
            return np.full(slates, int(self.largest), np.int64)
        k, chances = np.array(self.sizes).T
        return rng.choice(k.astype(np.int64), size=slates, p=chances)

    def log_likelihood(self, rewards: FloatArray, kept: IntArray, *, ordered: bool = True) -> FloatArray:
        """Return the log probability of what was kept, (slates,), given each slate's rewards.

        Args:
            rewards: shape (slates, width).
            kept: slots, shape (slates,), or (slates, keep), best first.
            ordered: whether the order in which slots are listed counts: a ranking of the best ``keep``.
                Otherwise they are a set. With keep > 1, rankings have a likelihood for Gumbel noise
                (Plackett-Luce) and for none only.

        Closed forms for Gumbel rankings (and sets of up to three) and without noise; else by quadrature (see
        :mod:`recurate.rules.best_of_k`). Rewards may be hundreds of units apart. Without noise and lapse,
        keeping anything but the best has probability 0 and the log-likelihood -inf: best-of-K needs a
        lapse share to have a likelihood that can be fitted.

        Raises:
            InputError: slots are repeated, empty or out of range; a ranking under another noise.
        """
        utilities = self._utilities(rewards)
        slots = self._slots(kept, utilities)
        ordered = ordered or self.keep == 1
        chosen = self._log_chosen(utilities, slots, ordered)
        if not self.lapse:
            return chosen
        count = np.isfinite(utilities).sum(axis=1)
        log_ways = sum((np.log(count - i) for i in range(self.keep)), np.zeros(len(count)))
        if not ordered:
            log_ways = log_ways - math.lgamma(self.keep + 1)
        if self.lapse == 1:
            return np.asarray(-log_ways)
        return np.logaddexp(math.log1p(-self.lapse) + chosen, math.log(self.lapse) - log_ways)

    def _log_chosen(self, utilities: FloatArray, slots: IntArray, ordered: bool) -> FloatArray:
        if self.keep == 1 and self.noise not in (GUMBEL, NO_NOISE):
            return quadrature.log_first(self.noise, utilities, slots[:, 0])
        if ordered:
            if self.noise == NO_NOISE:
                return _log_ranking(best_of_k.log_best_first, utilities, slots)
            if self.noise == GUMBEL:
                return _log_ranking(_log_softmax, utilities, slots)
            raise InputError(
                f"rankings of the best {self.keep} have a likelihood for Gumbel noise and none only",
                got=f"noise = {self.noise.name}",
                remedy="use ordered=False for the likelihood of the kept set",
            )
        chosen = np.zeros(utilities.shape, bool)
        np.put_along_axis(chosen, slots, True, axis=1)
        if self.noise == NO_NOISE:
            return best_of_k.log_best_kept(utilities, chosen)
        if self.noise == GUMBEL and self.keep <= 3:
            # Few rankings make the set: cheaper than quadrature.
            orders = itertools.permutations(slots.T)
            each = [_log_ranking(_log_softmax, utilities, np.column_stack(order)) for order in orders]
            return np.asarray(np.logaddexp.reduce(each))
        return quadrature.log_kept(self.noise, utilities, chosen)

    def _utilities(self, rewards: ArrayLike) -> FloatArray:
        """Return rewards / temperature (plain rewards without noise), checked."""
        temperature = 1.0 if self.noise == NO_NOISE else self.temperature
        return of_slates(np.asarray(rewards, float), temperature, self.keep)

    @property
    def _is_luce(self) -> bool:
        return self.keep == 1 and self.noise == GUMBEL

    def _slots(self, kept: ArrayLike, utilities: FloatArray) -> IntArray:
        slots = np.asarray(kept)
        slots = slots[:, None] if slots.ndim == 1 else slots
        shape, width = (len(utilities), self.keep), utilities.shape[1]
        if slots.shape != shape or slots.dtype.kind not in "iu" or not np.all((slots >= 0) & (slots < width)):
            raise InputError(
                f"what was kept must be slots from 0 to {width - 1}, shape {shape}",
                got=f"shape {slots.shape}, type {slots.dtype}"
                + (f", {slots.min()} to {slots.max()}" if slots.size else ""),
                remedy="one row a slate, one column for each candidate that the rule keeps",
            )
        if np.any(np.diff(np.sort(slots, axis=1), axis=1) == 0):
            raise InputError("a slate keeps a slot twice", got=slots.shape, remedy="list each kept slot once")
        if np.any(np.isneginf(np.take_along_axis(utilities, slots, axis=1))):
            raise InputError(
                "a kept slot is empty",
                got="reward -inf",
                remedy="empty slots cannot be kept: check the slots",
            )
        return slots.astype(np.int64)


def _softmax_twice(utilities: FloatArray) -> FloatArray:
    """Return the probabilities to be picked first or second, (slates, width)."""
    first = luce.chances(utilities)
    total = first.copy()
    for j in range(utilities.shape[1]):
        rest = utilities.copy()
        rest[:, j] = -np.inf
        total += first[:, j, None] * luce.chances(rest)
    return total


def _log_softmax(utilities: FloatArray, slots: IntArray) -> FloatArray:
    """Return log of Luce's probability of each slate's slot, (slates,)."""
    relative = utilities - utilities.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(relative, slots[:, None], axis=1)[:, 0]
    return np.asarray(chosen - np.log(np.exp(relative).sum(axis=1)))


def _log_ranking(
    log_first: Callable[[FloatArray, IntArray], FloatArray], utilities: FloatArray, slots: IntArray
) -> FloatArray:
    """Return the log probability of a ranking: each slot is the first among those not listed before."""
    remaining = utilities.copy()
    total = np.zeros(len(utilities))
    for place in slots.T:
        total += log_first(remaining, place)
        np.put_along_axis(remaining, place[:, None], -np.inf, axis=1)
    return total


def _plain(k: float) -> int | str:
    return "inf" if math.isinf(k) else int(k)


def _distribution(sizes: Mapping[float, float] | Sizes) -> float | Sizes:
    """Return sorted (size, probability) pairs; the size itself where there is only one."""
    pairs = list(sizes.items() if isinstance(sizes, Mapping) else sizes)
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise InputError(
            "several slate sizes need their probabilities",
            got=sizes,
            remedy="for example k = {2: 0.5, 4: 0.5}",
        )
    for k, chance in pairs:
        check_size(k)
        if not is_number(chance) or not 0 <= chance <= 1:
            raise InputError(
                f"the probability of slate size {k:g} must lie between 0 and 1",
                got=chance,
                remedy="for example k = {2: 0.5, 4: 0.5}",
            )
    total = math.fsum(chance for _, chance in pairs)
    if abs(total - 1) > 1e-9 or len({k for k, _ in pairs}) < len(pairs):
        raise InputError(
            "the probabilities of slate sizes must sum to one, each size named once",
            got=f"{dict(pairs)}, sum {total:g}",
            remedy="for example k = {2: 0.5, 4: 0.5}",
        )
    kept = tuple(sorted((float(k), chance / total) for k, chance in pairs if chance > 0))
    return kept if len(kept) > 1 else kept[0][0]


def check_size(k: object) -> None:
    """Check a slate size: a whole number >= 1, or inf."""
    if not is_number(k) or not (float(k) >= 1 and (math.isinf(float(k)) or float(k) == int(float(k)))):  # type: ignore[arg-type]
        raise InputError(
            "the slate size k must be a whole number >= 1, or inf",
            got=k,
            remedy="k = 4 is one pick from four candidates; k = 1 is no selection",
        )


def check_temperature(temperature: float) -> None:
    """Check a temperature: a positive number."""
    if not is_number(temperature) or not (math.isfinite(temperature) and temperature > 0):
        raise InputError(
            "the temperature must be a positive number",
            got=temperature,
            remedy="temperature = 1 picks with odds exp(reward difference)",
        )


def check_noise(noise: object) -> None:
    """Check that ``noise`` is one, and that its functions fit together."""
    if not isinstance(noise, Noise):
        raise InputError(
            "the noise must be a Noise",
            got=repr(noise),
            remedy='noise_named("gaussian") finds one by name, Noise(name, cdf, pdf) makes one',
        )
    noise.check()


def check_lapse(lapse: float) -> None:
    """Check a lapse share: a number from 0 to 1."""
    if not is_number(lapse) or not 0 <= lapse <= 1:
        raise InputError(
            "the lapse share must lie between 0 and 1",
            got=lapse,
            remedy="0.05 judges 5 % of slates at random",
        )


def _check_keep(keep: int, smallest: float) -> None:
    if not is_number(keep) or not (1 <= keep <= smallest and keep == int(keep)):
        raise InputError(
            "keep must be a whole number from 1 to the smallest slate size",
            got=f"keep = {keep}, smallest k = {smallest:g}",
            remedy="keep = 1 picks one of each slate",
        )
