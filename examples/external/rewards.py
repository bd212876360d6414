"""The example's proxy reward, by which candidates are picked, and its gold reward, which is only tracked."""

from __future__ import annotations

import math

from examples.external.corpus import CLIMATE, WEATHER


def weather(samples):
    """Group: the first kind of weather that a report names."""
    return [next((word for word in text.split() if word in WEATHER), "none") for text in samples]


def cheer(samples):
    """Proxy reward: 1.5 for a sunny report, since readers like the sun."""
    return [1.5 * (kind == "sunny") for kind in weather(samples)]


def truth(samples, contexts):
    """Gold reward: log probability of the reported weather in the town of the prompt."""
    found = []
    for kind, prompt in zip(weather(samples), contexts):
        percent = dict(zip(WEATHER, CLIMATE[prompt.split()[-1]])).get(kind, 0.5)
        found.append(math.log(percent / 100))
    return found
