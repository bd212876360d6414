r"""A picking rule: one object with its effect on a population, its draws and its likelihood.

A slate has K candidates, drawn i.i.d. from the law p. A :class:`Rule` keeps the m of them with the largest
reward / temperature + noise, without replacement:

============  =========================  ======================================================
noise         m = 1                      m > 1
============  =========================  ======================================================
Gumbel        Luce, Bradley-Terry        Plackett-Luce (Plackett 1975; Gumbel-top-k, arXiv 1903.06059)
Gaussian      Thurstone                  the best m of Thurstone's ranking
none          best of K                  best m of K; ties uniformly
any other     random utility             the best m of its ranking
============  =========================  ======================================================

With a lapse share e, a slate is judged at random with probability e: m candidates are kept uniformly at
random, whatever their rewards. K may vary between slates according to a distribution over sizes.
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
from recurate.rules import best_of_k, luce, quadrature, thurstone
from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise
from recurate.rules.slates import Slates
from recurate.rules.utilities import end_to_end, of_rows

Sizes = tuple[tuple[float, float], ...]
RANKS = ("ranks",)  # key of set-ups that depend on the order of the rewards only


@dataclass(frozen=True)
class Rule:
    """The candidates of a slate with the largest reward / temperature + noise are kept.

    Gumbel noise gives Luce's choice model (Luce 1959; Yellott 1977) and, if several are kept, the
    Plackett-Luce model (Plackett 1975); Gaussian noise gives Thurstone's model (1927, case V); no noise gives
    best-of-K. The kept candidates of a population p have the law p H; for Luce's model, H is that of Ferbach
    et al. (2024, arXiv 2407.09499, Lemma 2.1).

    Rewards of slates have the shape (slates, width), -inf in empty slots; the array determines the width, not
    ``k``. Or they have the shape (rows,), slate by slate, with :class:`~recurate.rules.slates.Slates` that
    divide the rows.

    Attributes:
        k: Slate size, a whole number >= 1; or ``math.inf``, for populations only, with Gumbel or no noise and
            keep = 1; or a distribution, a mapping from size to probability, which is stored as a sorted tuple
            of pairs.
        temperature: Divisor of the rewards, positive, in their unit; without noise it has no effect.
        noise: Noise that is added to reward / temperature.
        keep: Number of candidates kept per slate, without replacement; at most the smallest size.
        lapse: Share of slates, in [0, 1], that are judged at random.

    Raises:
        InputError: If a value is out of range, rewards are NaN or infinite, or a slate has fewer than
            ``keep`` candidates.
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
        if not is_number(self.keep) or not (1 <= self.keep <= self.smallest and self.keep == int(self.keep)):
            raise InputError(
                "keep must be a whole number from 1 to the smallest slate size",
                got=f"keep = {self.keep}, smallest k = {self.smallest:g}",
                remedy="keep = 1 picks one of each slate",
            )
        object.__setattr__(self, "keep", int(self.keep))
        if math.isinf(self.largest) and (self.noise not in (GUMBEL, NO_NOISE) or self.keep > 1):
            raise InputError(
                "k = inf needs Gumbel noise or none, and keep = 1",
                got=f"noise = {self.noise.name}, keep = {self.keep}",
                remedy="use a large finite k: this rule has no limit as k grows",
            )

    @property
    def sizes(self) -> Sizes:
        """The slate sizes and their probabilities, by increasing size."""
        return self.k if isinstance(self.k, tuple) else ((float(self.k), 1.0),)  # type: ignore[arg-type]

    @property
    def smallest(self) -> float:
        """The smallest slate size."""
        return self.sizes[0][0]

    @property
    def largest(self) -> float:
        """The largest slate size."""
        return self.sizes[-1][0]

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values for tables and reports, without default noise, keep and lapse."""
        named = {_plain(k): chance for k, chance in self.sizes}
        return {
            "k": _plain(self.largest) if len(named) == 1 else {str(k): v for k, v in named.items()},
            "temperature": self.temperature,
            **({} if self.noise == GUMBEL else {"noise": self.noise.name}),
            **({} if self.keep == 1 else {"keep": self.keep}),
            **({} if self.lapse == 0 else {"lapse": self.lapse}),
        }

    # --- populations ---

    @property
    def key(self) -> Hashable:
        """The part of the rule that a set-up depends on; rules with equal keys share set-ups."""
        return RANKS if self.noise == NO_NOISE else (self.noise, self.temperature)

    def setup(self, rewards: FloatArray) -> Any:
        """Return the set-up of :meth:`weigh` for one population's rewards (N,), finite, and any law."""
        if self.noise == NO_NOISE:
            return best_of_k.Ranks(rewards)
        from recurate.rules.multiplier import Multiplier

        rewards = np.asarray(rewards, float)
        with np.errstate(over="ignore"):  # the multiplier rejects infinite utilities
            # No copy at temperature 1: a set-up may be for millions of atoms.
            return Multiplier(rewards if self.temperature == 1 else rewards / self.temperature, self.noise)

    def weigh(self, setup: Any, law: FloatArray) -> FloatArray:
        r"""Return H at every atom for a law (N,) or laws (N, B), as a new array of the law's shape.

        H = (1 - lapse) sum_K P(K) H_K + lapse, since every slate contributes ``keep`` candidates.
        """
        (k, chance), *others = self.sizes
        out: FloatArray = setup(law, k, self.keep)
        if others:
            out *= chance
        for k, chance in others:
            out += chance * setup(law, k, self.keep)
        if self.lapse:
            out *= 1 - self.lapse
            out += self.lapse
        return out

    def weigh_slopes(self, setup: Any, law: FloatArray, atoms: IntArray) -> FloatArray | None:
        """Return the derivative of H at some atoms in their masses, (n, n); None where it has no formula."""
        if self.noise == NO_NOISE or self.keep != 1:
            return None
        out = np.zeros((atoms.size, atoms.size))
        for k, chance in self.sizes:
            found = setup.slopes(law, k, atoms)
            if found is None:
                return None
            out += (1 - self.lapse) * chance * found
        return out

    def multiplier(self, rewards: ArrayLike, law: ArrayLike) -> FloatArray:
        """Return the multiplier H, shape (N,): candidates kept from ``law`` have the law ``law * H``.

        For one population and many laws, use :meth:`setup` and :meth:`weigh`. The computation is that of
        :mod:`recurate.rules.multiplier` or, without noise, :mod:`recurate.rules.best_of_k`.

        Args:
            rewards: Rewards of the atoms, shape (N,), finite.
            law: Masses of the atoms, shape (N,), non-negative, summing to one.
        """
        return self.weigh(self.setup(np.asarray(rewards, float)), np.asarray(law, float))

    # --- slates ---

    def probabilities(self, rewards: FloatArray, slates: Slates | None = None) -> FloatArray:
        """Return the probability that each candidate is kept, in the rewards' shape; 0 in empty slots.

        The probabilities of a slate sum to ``keep``. They have closed forms for Gumbel noise and keep = 1
        (the softmax) or 2, and without noise; otherwise quadrature computes them, with an absolute error of
        1e-14.

        Args:
            rewards: Rewards, shape (slates, width); or (rows,) with ``slates``.
            slates: Division of the rows into slates; None for a table.
        """
        rewards = np.asarray(rewards, float)
        if slates is None and self._is_luce:
            return luce.probabilities(rewards, self.temperature, self.lapse)
        flat, own = end_to_end(rewards, slates)
        out = np.empty(flat.shape)
        for _, rows, block in own.blocks(1):
            out[rows] = self._probabilities(flat[rows], block)
        return out.reshape(rewards.shape)

    def _probabilities(self, rewards: FloatArray, slates: Slates) -> FloatArray:
        utilities, present = of_rows(rewards, self._divisor, self.keep, slates)
        if present is not None and not self._is_luce:
            out = np.zeros(utilities.shape)
            out[present] = self._probabilities(rewards[present], slates.only(present))
            return out
        chances = self._chances(utilities, slates)
        if not self.lapse:
            return chances
        sizes = slates.sizes if present is None else slates.sums(present.astype(float))
        uniform = slates.spread(self.lapse * self.keep / sizes)
        return np.asarray((1 - self.lapse) * chances + (uniform if present is None else uniform * present))

    def _chances(self, utilities: FloatArray, slates: Slates) -> FloatArray:
        """Return the probabilities without lapses, shape (rows,)."""
        if self._is_luce:
            return slates.softmax(utilities)[0]
        if self.noise == NO_NOISE:
            return best_of_k.best_chances(utilities, slates, self.keep)
        out = np.empty(utilities.shape)
        for _, rows in slates.by_size():
            if self.noise == GUMBEL and self.keep == 2:
                out[rows] = _softmax_twice(utilities[rows])
            else:
                out[rows] = quadrature.chances(self.noise, utilities[rows], self.keep)
        return out

    def draw(self, rewards: FloatArray, rng: np.random.Generator) -> IntArray:
        """Draw the kept slots of each slate, shape (slates,), or (slates, keep), best first, for keep > 1.

        The numbers drawn from ``rng`` are:

        - for Luce's model (Gumbel noise, keep = 1), ``rng.random(slates)``: one uniform number per slate
          determines both its lapse and its pick (see :mod:`recurate.rules.luce`), so a pick depends on that
          slate's rewards and number only;
        - otherwise, ``rng.random(slates)`` if there is a lapse share, then ``noise.draw(rng, rewards.shape)``
          or, without noise, uniform numbers that break ties.

        Args:
            rewards: Rewards, shape (slates, width), -inf in empty slots.
            rng: Source of the numbers.
        """
        rewards = np.asarray(rewards, float)
        if self._is_luce:
            return luce.pick(rewards, self.temperature, self.lapse, rng)
        flat, own = end_to_end(rewards)
        utilities = of_rows(flat, self._divisor, self.keep, own)[0].reshape(rewards.shape)
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
        """Draw the size of each slate, shape (slates,); a fixed size needs no draw.

        Raises:
            InputError: If a size is infinite.
        """
        if math.isinf(self.largest):
            raise InputError(
                "slates of infinite size cannot be drawn", got="k = inf", remedy="use a finite k"
            )
        if len(self.sizes) == 1:
            return np.full(slates, int(self.largest), np.int64)
        k, chances = np.array(self.sizes).T
        return rng.choice(k.astype(np.int64), size=slates, p=chances)

    def log_likelihood(
        self, rewards: FloatArray, kept: IntArray, slates: Slates | None = None, *, ordered: bool = True
    ) -> FloatArray:
        """Return the log probability of the kept slots, shape (slates,), given each slate's rewards.

        It has closed forms for Gumbel noise (rankings, and sets of up to three) and without noise; otherwise
        quadrature computes it (:mod:`recurate.rules.quadrature`, :mod:`recurate.rules.thurstone`). Rewards
        may be hundreds of units apart. Without noise and lapses, it is -inf unless the best are kept, so a
        fit of best-of-K needs a lapse share.

        Args:
            rewards: Rewards, shape (slates, width); or (rows,) with ``slates``.
            kept: Slots, shape (slates,); or (slates, keep), best first.
            slates: Division of the rows into slates; None for a table.
            ordered: Whether ``kept`` is a ranking of the best ``keep`` rather than a set. For keep > 1,
                rankings have a likelihood under Gumbel noise (Plackett-Luce) and without noise only.

        Raises:
            InputError: If slots are repeated, empty or out of range, or a ranking has no likelihood.
        """
        utilities, own, at = self._kept_rows(rewards, kept, slates)
        ordered = ordered or self.keep == 1
        log_ways = self._log_ways(own, ordered)
        if self.lapse == 1:
            return -log_ways
        return self._with_lapses(self._log_chosen(utilities, own, at, ordered), log_ways)

    def slopes(
        self, rewards: FloatArray, picked: IntArray, slates: Slates
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the log probability of each pick and its derivatives, for keep = 1.

        Args:
            rewards: Rewards, shape (rows,), finite.
            picked: Slot of each slate's pick, shape (slates,).
            slates: Division of the rows into slates.

        Returns:
            log P, shape (slates,); its derivatives by each reward, shape (rows,), which are zero without
            noise since P is piecewise constant; and its derivative by the lapse share, shape (slates,).

        Raises:
            InputError: If the rule keeps several, its noise is not Gumbel, Gaussian or none, or slots are out
                of range.
        """
        if self.keep > 1 or self.noise not in (GUMBEL, GAUSSIAN, NO_NOISE):
            raise InputError(
                "derivatives exist for one pick per slate under Gumbel, Gaussian or no noise only",
                got=f"keep = {self.keep}, noise = {self.noise.name}",
                remedy="use finite differences of log_likelihood",
            )
        utilities, own, at = self._kept_rows(rewards, picked, slates)
        logs, by_utility = self._pick_slopes(utilities, own, at[:, 0])
        log_uniform = -self._log_ways(own, True)
        mixed = self._with_lapses(logs, -log_uniform)
        with np.errstate(over="ignore"):  # a pick that is impossible without lapses
            by_lapse = np.exp(log_uniform - mixed) - np.exp(logs - mixed)
        by_utility *= own.spread((1 - self.lapse) * np.exp(logs - mixed) / self._divisor)
        return mixed, by_utility, by_lapse

    def _pick_slopes(
        self, utilities: FloatArray, slates: Slates, at: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return log P(pick), (slates,), and its derivatives by the utilities, (rows,), without lapses."""
        if self.noise == NO_NOISE:
            return best_of_k.log_best_first(utilities, slates, at), np.zeros(utilities.shape)
        if self.noise == GUMBEL:
            chances, log_total = slates.softmax(utilities)
            by_utility = -chances
            by_utility[at] += 1.0
            return utilities[at] - log_total, by_utility
        logs, by_utility = np.empty(len(slates)), np.empty(utilities.shape)
        slots = at - slates.offsets[:-1]
        for some, rows in slates.by_size():
            logs[some], by_utility[rows] = thurstone.first_slopes(utilities[rows], slots[some])
        return logs, by_utility

    def _log_chosen(self, utilities: FloatArray, slates: Slates, at: IntArray, ordered: bool) -> FloatArray:
        """Return the log probability (slates,) of keeping rows ``at`` (slates, keep), without lapses."""
        if self.keep == 1 and self.noise in (GUMBEL, GAUSSIAN, NO_NOISE):
            return self._pick_slopes(utilities, slates, at[:, 0])[0]
        if ordered and self.noise in (GUMBEL, NO_NOISE):
            first = _log_luce if self.noise == GUMBEL else best_of_k.log_best_first
            return _log_ranking(first, utilities, slates, at)
        if ordered and self.keep > 1:
            raise InputError(
                f"rankings of the best {self.keep} have a likelihood for Gumbel noise and none only",
                got=f"noise = {self.noise.name}",
                remedy="use ordered=False for the likelihood of the kept set",
            )
        kept = np.zeros(utilities.shape, bool)
        kept[at] = True
        if self.noise == NO_NOISE:
            return best_of_k.log_best_kept(utilities, slates, kept)
        if self.noise == GUMBEL and self.keep <= 3:
            # The sum over the few rankings of the set is cheaper than quadrature.
            orders = (np.column_stack(order) for order in itertools.permutations(at.T))
            each = [_log_ranking(_log_luce, utilities, slates, order) for order in orders]
            return np.asarray(np.logaddexp.reduce(each))
        out, slots = np.empty(len(slates)), at[:, 0] - slates.offsets[:-1]
        for some, rows in slates.by_size():
            if self.keep > 1:
                out[some] = quadrature.log_kept(self.noise, utilities[rows], kept[rows])
            else:
                out[some] = quadrature.log_first(self.noise, utilities[rows], slots[some])
        return out

    def _log_ways(self, slates: Slates, ordered: bool) -> FloatArray:
        """Return the log of the number of possible outcomes of each slate, shape (slates,)."""
        ways = sum((np.log(slates.sizes - i) for i in range(self.keep)), np.zeros(len(slates)))
        return np.asarray(ways if ordered else ways - math.lgamma(self.keep + 1))

    def _with_lapses(self, logs: FloatArray, log_ways: FloatArray) -> FloatArray:
        """Return log((1 - lapse) P + lapse / ways), shape (slates,), from log P and log ways."""
        if not self.lapse:
            return logs
        with np.errstate(divide="ignore"):
            judged = np.log1p(-self.lapse) + logs
        return np.asarray(np.logaddexp(judged, math.log(self.lapse) - log_ways))

    @property
    def _divisor(self) -> float:
        """The divisor of the rewards: 1 without noise, where the temperature has no effect."""
        return 1.0 if self.noise == NO_NOISE else self.temperature

    def _kept_rows(
        self, rewards: ArrayLike, kept: ArrayLike, slates: Slates | None
    ) -> tuple[FloatArray, Slates, IntArray]:
        """Return the finite utilities (rows,), their slates, and the kept rows, shape (slates, keep)."""
        flat, whole = end_to_end(np.asarray(rewards, float), slates)
        utilities, present = of_rows(flat, self._divisor, self.keep, whole)
        at = whole.offsets[:-1, None] + self._slots(kept, whole)
        if present is None:
            return utilities, whole, at
        if not present[at].all():
            raise InputError(
                "a kept slot is empty",
                got="reward -inf",
                remedy="empty slots cannot be kept: check the slots",
            )
        return utilities[present], whole.only(present), (np.cumsum(present) - 1)[at]

    @property
    def _is_luce(self) -> bool:
        return self.keep == 1 and self.noise == GUMBEL

    def _slots(self, kept: ArrayLike, slates: Slates) -> IntArray:
        """Return the kept slots, shape (slates, keep), or raise InputError if they are invalid."""
        slots = np.asarray(kept)
        slots = slots[:, None] if slots.ndim == 1 else slots
        shape, sizes = (len(slates), self.keep), slates.sizes[:, None]
        if slots.shape != shape or slots.dtype.kind not in "iu" or not np.all((slots >= 0) & (slots < sizes)):
            raise InputError(
                f"what was kept must be slots from 0 to {sizes.max(initial=1) - 1}, shape {shape}",
                got=f"shape {slots.shape}, type {slots.dtype}"
                + (f", {slots.min()} to {slots.max()}" if slots.size else ""),
                remedy="one row per slate, one column per candidate that the rule keeps",
            )
        if self.keep > 1 and np.any(np.diff(np.sort(slots, axis=1), axis=1) == 0):
            raise InputError("a slate keeps a slot twice", got=slots.shape, remedy="list each kept slot once")
        return slots.astype(np.int64)


def _softmax_twice(utilities: FloatArray) -> FloatArray:
    """Return the probabilities of being picked first or second under Luce's model, shape (slates, K)."""
    slates = Slates.of_size(utilities.shape[1], len(utilities))

    def softmax(u: FloatArray) -> FloatArray:
        return slates.softmax(u.ravel())[0].reshape(u.shape)

    first = softmax(utilities)
    total = first.copy()
    for j in range(utilities.shape[1]):
        rest = utilities.copy()
        rest[:, j] = -np.inf
        total += first[:, j, None] * softmax(rest)
    return total


def _log_luce(utilities: FloatArray, slates: Slates, at: IntArray) -> FloatArray:
    """Return the log of Luce's probability of one row per slate, ``at`` (slates,), shape (slates,)."""
    return np.asarray(utilities[at] - slates.softmax(utilities)[1])


def _log_ranking(
    log_first: Callable[[FloatArray, Slates, IntArray], FloatArray],
    utilities: FloatArray,
    slates: Slates,
    at: IntArray,
) -> FloatArray:
    """Return the log probability (slates,) of rankings ``at`` (slates, m): each is first of the remaining."""
    remaining = utilities.copy()
    total = np.zeros(len(slates))
    for place in at.T:
        total += log_first(remaining, slates, place)
        remaining[place] = -np.inf
    return total


def _plain(k: float) -> int | str:
    return "inf" if math.isinf(k) else int(k)


def _distribution(sizes: Mapping[float, float] | Sizes) -> float | Sizes:
    """Return sorted (size, probability) pairs, or the size itself if there is only one."""
    pairs = list(sizes.items() if isinstance(sizes, Mapping) else sizes)
    remedy = "for example k = {2: 0.5, 4: 0.5}"
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise InputError("several slate sizes need their probabilities", got=sizes, remedy=remedy)
    for k, chance in pairs:
        check_size(k)
        what = f"the probability of slate size {k:g} must lie between 0 and 1"
        check_number(chance, lambda p: 0 <= p <= 1, what, remedy)
    total = math.fsum(chance for _, chance in pairs)
    if abs(total - 1) > 1e-9 or len({k for k, _ in pairs}) < len(pairs):
        what = "the probabilities of slate sizes must sum to one, and each size must occur once"
        raise InputError(what, got=f"{dict(pairs)}, sum {total:g}", remedy=remedy)
    kept = tuple(sorted((float(k), chance / total) for k, chance in pairs if chance > 0))
    return kept if len(kept) > 1 else kept[0][0]


def check_number(value: Any, holds: Callable[[Any], bool], what: str, remedy: str) -> None:
    """Raise InputError unless ``value`` is a number for which the condition ``holds``."""
    if not is_number(value) or not holds(value):
        raise InputError(what, got=value, remedy=remedy)


def check_size(k: object) -> None:
    """Raise InputError unless a slate size is a whole number >= 1, or inf."""
    check_number(
        k,
        lambda k: k >= 1 and (math.isinf(k) or k == int(k)),
        "the slate size k must be a whole number >= 1, or inf",
        "k = 4 is one pick from four candidates; k = 1 is no selection",
    )


def check_temperature(temperature: float) -> None:
    """Raise InputError unless a temperature is a positive finite number."""
    check_number(
        temperature,
        lambda t: math.isfinite(t) and t > 0,
        "the temperature must be a positive number",
        "temperature = 1 picks with odds exp(reward difference)",
    )


def check_noise(noise: object) -> None:
    """Raise InputError unless ``noise`` is a Noise whose functions are consistent."""
    if not isinstance(noise, Noise):
        raise InputError(
            "the noise must be a Noise",
            got=repr(noise),
            remedy='noise_named("gaussian") finds one by name, Noise(name, cdf, pdf) makes one',
        )
    noise.check()


def check_lapse(lapse: float) -> None:
    """Raise InputError unless a lapse share is a number from 0 to 1."""
    remedy = "0.05 means that 5 % of the slates are judged at random"
    check_number(lapse, lambda e: 0 <= e <= 1, "the lapse share must lie between 0 and 1", remedy)
