"""Networks of the generators. Import this module lazily: it loads PyTorch."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

FREQUENCIES = 8


class VelocityMLP(nn.Module):
    """A velocity field v(x, t) for vectors: an MLP on x and Fourier features of t.

    Args:
        dimension: length of x.
        width: hidden units a layer.
        depth: hidden layers.
    """

    def __init__(self, dimension: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [dimension + 1 + 2 * FREQUENCIES] + [width] * depth
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(sizes[-1], dimension))
        self.frequencies: Tensor
        steps = torch.arange(1, FREQUENCIES + 1, dtype=torch.float32)
        self.register_buffer("frequencies", math.pi * steps, persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return v for x (n, dimension) at times t (n, 1) in [0, 1]."""
        phases = t * self.frequencies
        inputs = torch.cat([x, t, torch.sin(phases), torch.cos(phases)], dim=1)
        out: Tensor = self.body(inputs)
        return out
