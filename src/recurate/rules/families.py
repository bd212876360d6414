"""The families of rules that picks may follow; their values are the names that results show."""

from __future__ import annotations

from enum import StrEnum

from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise


class Family(StrEnum):
    """A family of rules.

    The rules of UNIFORM to WORST pick one candidate per slate; KEPT keeps several per slate; TOP to VERIFIER
    keep a share of a pool.
    """

    UNIFORM = "uniformly random"
    LUCE = "Luce choice"
    LAPSE = "Luce choice with lapses"
    THURSTONE = "Thurstone's model"
    BEST = "best of K"
    WORST = "worst of K"
    KEPT = "several kept of each slate"
    TOP = "top fraction of the pool"
    POOL_SOFTMAX = "one softmax over the pool, without replacement"
    POOL_UNIFORM = "a random share of the pool"
    VERIFIER = "a verifier's threshold"
    UNKNOWN = "not identified"

    @property
    def pooled(self) -> bool:
        """Whether rules of the family keep a share of a pool rather than candidates of slates."""
        return self in (Family.TOP, Family.POOL_SOFTMAX, Family.POOL_UNIFORM, Family.VERIFIER)

    @property
    def noise(self) -> Noise | None:
        """The noise added to reward / temperature; None if the family does not determine it."""
        return _NOISES.get(self)


_NOISES = {
    Family.LUCE: GUMBEL,
    Family.LAPSE: GUMBEL,
    Family.KEPT: GUMBEL,
    Family.POOL_SOFTMAX: GUMBEL,
    Family.THURSTONE: GAUSSIAN,
    Family.BEST: NO_NOISE,
    Family.TOP: NO_NOISE,
    Family.VERIFIER: NO_NOISE,
}
RIVALS = (Family.LUCE, Family.LAPSE, Family.THURSTONE, Family.BEST, Family.UNIFORM)


def family_of(noise: Noise) -> Family:
    """Return the family of rules with one pick per slate, this noise and no lapses."""
    return next((f for f in (Family.LUCE, Family.THURSTONE, Family.BEST) if f.noise == noise), Family.UNKNOWN)
