"""The group of each sample, for shares and entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

from recurate.components.data.dataset import Source
from recurate.components.protocols import Grouping, GroupSettings, Prepared
from recurate.components.rewards.distance import NearestCentre


class NearestSettings(GroupSettings):
    """The nearest centre of the data's Gaussians."""

    kind: Literal["nearest"]

    def build(self, prepared: Prepared) -> Grouping:
        """Return the grouping; labels are the centres' numbers."""
        centres = None if prepared.data is None else prepared.data.centres()
        assert centres is not None  # the configuration checks it
        return NearestCentre(centres)

    def check(self, data: Source | None) -> None:
        """Refuse real data without centres."""
        if data is None or data.centres() is None:
            raise ValueError("groups.kind = 'nearest' needs data.kind = 'gaussians'")


class ClassifierGroupSettings(GroupSettings):
    """The label that the classifier gives."""

    needs_classifier: ClassVar[bool] = True
    kind: Literal["classifier"]

    def build(self, prepared: Prepared) -> Grouping:
        """Return the classifier: it is a grouping."""
        grouping: Grouping = prepared.classifier
        return grouping
