"""The families of rules that picks may follow, under the names that results show."""

from __future__ import annotations

from enum import StrEnum

from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise


class Family(StrEnum):
    """A family of rules; a member is its own name.

    The first five pick one of each slate and have a temperature, a lapse share, both or neither; KEPT keeps
    several; the last four keep a share of a whole pool.
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
        """Whether the family keeps a share of a pool, slates or not."""
        return self in (Family.TOP, Family.POOL_SOFTMAX, Family.POOL_UNIFORM, Family.VERIFIER)

    @property
    def noise(self) -> Noise | None:
        """What is added to reward / temperature; None where the family fixes no noise."""
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
    """Return the family of one pick per slate, without lapses, under a noise."""
    return next((f for f in (Family.LUCE, Family.THURSTONE, Family.BEST) if f.noise == noise), Family.UNKNOWN)
