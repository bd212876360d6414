"""Small sums for examples/verifier.toml: problems with their answers, and a verifier of answers."""

from __future__ import annotations

import numpy as np

from recurate.components.data import Dataset


def problems(rng, largest: int = 20, size: int = 3000, wrong: float = 0.3):
    """Return problems a + b with answers, of which a share is wrong."""
    draw = rng.generator()
    a, b = draw.integers(0, largest + 1, (2, size))
    slips = np.where(draw.random(size) < wrong, draw.integers(1, 4, size), 0)
    prompts = np.array([f"{x} + {y}" for x, y in zip(a, b)], object)
    answers = np.array([str(x + y + slip) for x, y, slip in zip(a, b, slips)], object)
    none, cut = np.full(size, ""), size // 10
    return Dataset(answers[cut:], none[cut:], answers[:cut], none[:cut], prompts[cut:], prompts[:cut])


def right(samples, contexts):
    """Return 1 where a completion is the sum, else 0."""
    sums = [sum(map(int, prompt.split(" + "))) for prompt in contexts]
    return np.array([float(text.strip() == str(answer)) for text, answer in zip(samples, sums)])
