"""The training loop, against a few lines of NumPy; hooks, averages and divergence."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from recurate.components.nets.training import Average, Descent, optimise, set_weights, weights_of
from recurate.core.errors import Diverged

TARGET = np.array([1.0, -2.0, 0.5])


class Point(nn.Module):
    """Three numbers to be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def loss(self, batch):
        return ((self.at - torch.from_numpy(TARGET) * batch) ** 2).sum()


def adamw(steps: int, rate: float, decay: float) -> np.ndarray:
    """Loshchilov & Hutter 2019, algorithm 2, its step size annealed as in their 2017, eq. 5."""
    x, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    for t in range(1, steps + 1):
        eta = rate * 0.5 * (1 + math.cos(math.pi * (t - 1) / steps))
        gradient = 2 * (x - TARGET * t)  # of the batches 1, 2, ...
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        x = x - eta * (step + decay * x)
    return x


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_loop_is_adamw_along_a_cosine(decay):
    point = Point()
    optimise(point, itertools.count(1), point.loss, Descent("point", 30, 0.1, decay))
    np.testing.assert_allclose(point.at.detach().numpy(), adamw(30, 0.1, decay), rtol=1e-9)
    assert not np.allclose(adamw(30, 0.1, 0.3), adamw(30, 0.1, 0.0), rtol=1e-3), "the decay is seen"


def test_it_draws_as_many_batches_as_it_makes_steps():
    point, batches = Point(), iter(range(100))
    optimise(point, batches, point.loss, Descent("point", 7, 0.1))
    assert next(batches) == 7


@pytest.mark.parametrize(("stop", "expected"), [(None, 6), (3, 4), (0, 1)])
def test_hooks_are_called_before_and_after_every_step(stop, expected):
    point, seen = Point(), []

    def after(done: int) -> bool:
        seen.append((done, point.at.detach().numpy().copy()))
        return done == stop

    optimise(point, itertools.repeat(1), point.loss, Descent("point", 5, 0.1), after)
    assert [done for done, _ in seen] == list(range(expected))
    assert not seen[0][1].any(), "the first call is before any step"
    for (_, before), (_, now) in itertools.pairwise(seen):
        assert (before != now).all()
    np.testing.assert_array_equal(seen[-1][1], point.at.detach().numpy(), "nothing follows a stop")


@pytest.mark.parametrize("bad", [0, 1, 8])
def test_divergence_is_named(bad):
    """At the first step, within a run, and at the last step of nine."""
    point = Point()
    batches = (math.inf if step == bad else 1.0 for step in itertools.count())
    with pytest.raises(Diverged, match="training the point") as caught:
        optimise(point, batches, point.loss, Descent("point", 9, 0.125))
    assert "0.125" in caught.value.got


def test_averages():
    point = Point()
    average = Average(point, 0.5)
    expected = np.zeros(3)
    for done in range(20):
        with torch.no_grad():
            point.at += torch.tensor([1.0, done, -1.0], dtype=torch.float64)
        average(done + 1)
        keep = min(0.5, (done + 1) / (done + 10))
        expected = keep * expected + (1 - keep) * point.at.detach().numpy()
    np.testing.assert_allclose(average.weights()["at"], expected, rtol=1e-12)


def test_weights_are_copies_and_fit_only_their_own_network():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(memory_format=torch.channels_last)
    found = weights_of(network)
    with torch.no_grad():
        network[0].weight += 1
    assert (found["0.weight"] != network[0].weight.detach().numpy()).all()
    assert all(array.flags["C_CONTIGUOUS"] for array in found.values())
    set_weights(network, found)
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), found[name], strict=True)
    with torch.no_grad():
        network[0].weight += 1
    assert (found["0.weight"] != network[0].weight.detach().numpy()).all(), "the network has its own copy"
    with pytest.raises(RuntimeError):
        set_weights(nn.Linear(2, 2), found)
