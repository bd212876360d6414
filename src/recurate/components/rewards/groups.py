"""Settings of groupings, which assign samples to groups for shares and entropy."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.data.dataset import Source
from recurate.components.protocols import Grouping, GroupSettings, Prepared
from recurate.components.rewards.distance import NearestCentre
from recurate.core.errors import InputError
from recurate.log.samples import Samples, is_text


class NearestSettings(GroupSettings):
    """Groups by the nearest centre of the data's Gaussians."""

    kind: Literal["nearest"]

    def build(self, prepared: Prepared) -> Grouping:
        """Return the grouping; the labels are the centres' numbers."""
        centres = None if prepared.data is None else prepared.data.centres()
        assert centres is not None  # the configuration checks it
        return NearestCentre(centres)

    def check(self, data: Source | None) -> None:
        """Check that the real data have centres.

        Raises:
            ValueError: If they do not.
        """
        if data is None or data.centres() is None:
            raise ValueError("groups.kind = 'nearest' needs data.kind = 'gaussians'")


class ClassifierGroupSettings(GroupSettings):
    """Groups by the most probable class of the classifier."""

    needs_classifier: ClassVar[bool] = True
    kind: Literal["classifier"]

    def build(self, prepared: Prepared) -> Grouping:
        """Return the classifier, which is itself a grouping."""
        grouping: Grouping = prepared.classifier
        return grouping


class LengthGroupSettings(GroupSettings):
    """Groups of texts by their number of words, separated by white space."""

    kind: Literal["length"]
    most: int = Field(40, ge=1, le=1000, description="texts of so many words or more share a group")

    def build(self, prepared: Prepared) -> Grouping:
        """Return the settings, which are themselves a grouping."""
        return self

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the number of words of each text, with leading zeros, shape (n,).

        Raises:
            InputError: If the samples are no texts.
        """
        if not is_text(samples):
            raise InputError(
                "groups.kind = 'length' needs texts",
                got=f"numbers of shape {samples.shape[1:]}",
                remedy="name a column of texts: data.sample; or use another kind of groups",
            )
        return np.array([self.label(len(text.split())) for text in samples])

    def label(self, words: int) -> str:
        """Return the label of a text of so many words."""
        return f"{min(words, self.most):0{len(str(self.most))}d}"
