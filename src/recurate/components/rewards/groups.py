"""Settings of groupings, which assign samples to groups for shares and entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

from recurate.components.data.dataset import Source
from recurate.components.protocols import Grouping, GroupSettings, Prepared
from recurate.components.rewards.distance import NearestCentre


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
