"""How one candidate of a slate is picked, and what that does to a population."""

from recurate.rules.noise import GUMBEL, Noise
from recurate.rules.rule import Rule

__all__ = ["GUMBEL", "Noise", "Rule"]
