"""Rules of selection: their effect on a population, their draws and their likelihoods."""

from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise, noise_named
from recurate.rules.pools import Threshold, TopFraction
from recurate.rules.rule import Rule
from recurate.rules.selection import Selection

__all__ = [
    "GAUSSIAN",
    "GUMBEL",
    "NO_NOISE",
    "Noise",
    "Rule",
    "Selection",
    "Threshold",
    "TopFraction",
    "noise_named",
]
