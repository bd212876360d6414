"""Rewards by colour, for images with channels red, green and blue."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.protocols import RewardSettings
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.log.samples import Samples

BLOCK = 2**22  # numbers evaluated together


class ColourSettings(RewardSettings):
    """Reward gamma s(x), where s measures the amount of a colour c = rgb in an image.

    With x_p the colour of pixel p, clipped to [0, 1] as on a screen, s is the mean over p of <x_p, c> / |c|
    for ``direction``, minus the mean of |x_p - c| for ``closeness``, and the share of pixels with
    |x_p - c| <= radius for ``share``.
    """

    kind: Literal["colour"]
    rgb: tuple[float, float, float] = Field(
        description="the colour: red, green and blue from 0 to 1; components of a direction may be "
        "negative: [1, -0.5, -0.5] rewards red but not brightness"
    )
    score: Literal["direction", "closeness", "share"] = Field(
        "direction",
        description="the mean projection of the pixels on rgb, minus their mean distance from rgb, or the "
        "share of pixels within radius of rgb",
    )
    radius: float | None = Field(None, gt=0, description="distance from rgb, if score is 'share'")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.score == "share") != (self.radius is not None):
            raise ValueError("give radius with score = 'share', and only then")
        if self.score == "direction" and not any(self.rgb):
            raise ValueError("rgb = [0, 0, 0] has no direction: use score = 'closeness'")
        if self.score != "direction" and not all(0 <= value <= 1 for value in self.rgb):
            raise ValueError("rgb must be a colour, three numbers from 0 to 1")
        return self

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per image (n, h, w, 3), shape (n,).

        Raises:
            InputError: If the samples are not images with three channels.
        """
        if samples.ndim != 4 or samples.shape[3] != 3:
            raise InputError(
                "the colour reward needs images with three channels, (n, h, w, 3)",
                got=f"samples of shape {samples.shape[1:]}",
                remedy="set data.grey = false, or use another reward",
            )
        block = max(BLOCK // max(samples[0].size, 1), 1) if len(samples) else 1
        parts = [self._score(samples[i : i + block]) for i in range(0, len(samples), block)]
        return self.gamma * np.concatenate([np.empty(0), *parts])

    def _score(self, images: Samples) -> FloatArray:
        pixels = np.clip(images.reshape(len(images), -1, 3).astype(np.float64), 0.0, 1.0)
        colour = np.array(self.rgb)
        if self.score == "direction":
            return np.asarray(pixels.mean(axis=1) @ colour / np.linalg.norm(colour))
        distance = np.linalg.norm(pixels - colour, axis=2)
        if self.score == "closeness":
            return np.asarray(-distance.mean(axis=1))
        assert self.radius is not None
        return np.asarray((distance <= self.radius).mean(axis=1))
