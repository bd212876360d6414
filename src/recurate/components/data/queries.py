"""Short queries with topics: those of CLINC150 where they are at hand, or generated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from recurate.components.data.dataset import Dataset, Source, split
from recurate.core.data_files import locate
from recurate.core.errors import InputError
from recurate.core.sealed import sha256
from recurate.core.seeds import Stream
from recurate.core.tables import column_of
from recurate.log.reading.sources import open_source
from recurate.log.samples import as_texts

FILE = "clinc150/clinc150.csv.gz"
OUTSIDE = "oos"  # CLINC150's label of queries without a topic

OPENINGS = ("", "please ", "can you ", "could you ", "i want you to ", "hey ", "i need you to ")
ENDINGS = ("", " now", " please", " today", " this week", " for me", " before friday", " right away")
# A topic's actions and what they are done to.
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "travel": (
        ("book", "cancel", "find", "confirm", "change"),
        (
            "a flight to rome",
            "my hotel in oslo",
            "a train to lyon",
            "two seats to tokyo",
            "a rental car in lima",
        ),
    ),
    "banking": (
        ("show", "check", "freeze", "transfer to", "close"),
        ("my savings account", "my checking account", "the joint account", "my balance", "the new account"),
    ),
    "cooking": (
        ("look up", "read", "scale", "save", "explain"),
        (
            "a recipe for soup",
            "the lasagna recipe",
            "a pie with apples",
            "how to bake bread",
            "a curry for six",
        ),
    ),
    "home": (
        ("turn on", "turn off", "dim", "schedule", "fix"),
        ("the kitchen lights", "the heating", "the porch lamp", "the vacuum robot", "the garage door"),
    ),
    "music": (
        ("play", "pause", "skip", "like", "queue"),
        ("the next song", "some jazz", "the new album", "my running playlist", "that piano piece"),
    ),
    "work": (
        ("schedule", "move", "cancel", "accept", "summarise"),
        ("the meeting with ana", "my review", "the budget call", "the team lunch", "the interview"),
    ),
    "weather": (
        ("tell me", "check", "show", "predict", "report"),
        (
            "the rain in paris",
            "the wind on sunday",
            "the snow report",
            "how hot it gets",
            "the storm warning",
        ),
    ),
    "health": (
        ("log", "remind me of", "count", "plan", "track"),
        ("my morning run", "my pills", "the calories of lunch", "an hour of sleep", "my heart rate"),
    ),
}


class Queries(Source):
    """Short queries to an assistant, with topics as labels.

    CLINC150 (Larson et al. 2019, *An Evaluation Dataset for Intent Classification and Out-of-Scope
    Prediction*) has ten topics of 2,250 queries each; queries without a topic are left out. The generated
    queries have eight topics of equal size; each is an opening, an action, an object and an ending.
    """

    kind: Literal["queries"]
    source: Literal["auto", "clinc150", "generated"] = Field(
        "auto",
        description=f"'auto': CLINC150 if {FILE} is found in the current folder or in RECURATE_DATA, else "
        "generated queries",
    )
    size: int = Field(4000, ge=20, le=22_500, description="number of queries, drawn at random")
    held_out: float = Field(0.1, ge=0.001, le=0.9, description="share of queries held out")

    def load(self, rng: Stream) -> Dataset:
        """Read or generate the queries, draw ``size`` of them and split them at random.

        Raises:
            InputError: If the file is wanted and missing, or is not CLINC150's.
        """
        path = self._path()
        texts, labels = _generated() if path is None else _read(path)
        draw = rng.at("queries").generator()
        rows = draw.permutation(len(texts))[: self.size]
        texts, labels = texts[rows], labels[rows]
        train, rest = split(len(texts), self.held_out, rng, self.title)
        return Dataset(texts[train], labels[train], texts[rest], labels[rest])

    @property
    def title(self) -> str:
        """Which queries they are."""
        return f"queries ({'generated' if self._path() is None else 'CLINC150'})"

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of the file, if it is used."""
        path = self._path()
        return {} if path is None else {FILE: sha256(path)}

    def _path(self) -> Path | None:
        if self.source == "generated":
            return None
        try:
            return locate(FILE)
        except InputError:
            if self.source == "clinc150":
                raise
            return None


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = open_source(path, text=["text", "domain"]).read()
    texts, labels = (
        as_texts(column_of(table, name, path).cast(pa.string()).to_pylist()) for name in ("text", "domain")
    )
    known = labels != OUTSIDE
    return texts[known], labels[known].astype(str)


def _generated() -> tuple[np.ndarray, np.ndarray]:
    """Return all queries that the parts make, in the order of the parts."""
    made = [
        (f"{opening}{action} {thing}{ending}", topic)
        for topic, (actions, things) in TOPICS.items()
        for opening in OPENINGS
        for action in actions
        for thing in things
        for ending in ENDINGS
    ]
    texts, labels = zip(*made, strict=True)
    return as_texts(texts), np.array(labels)
