"""Rounds that people judge: the slates that a run posts, and the answers that it takes back.

A round's slates are posted in ``people/003-0`` of the run's folder (round 3, attempt 0): the candidates as
samples, their contexts and rewards. Whoever shows them returns one answer for each slate. The run knows
nothing of pages and databases: a :class:`Picker` stands for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from recurate.core.arrays import IntArray
from recurate.core.errors import InputError
from recurate.core.sealed import read_json, verify, write_folder
from recurate.core.tables import read_table, write_table
from recurate.log.candidates import Candidates
from recurate.log.samples import Samples, load_samples, save_samples

POSTED = "people"  # folder of the posted slates in the run's folder
SLATES = "slates.parquet"
NOBODY = -1  # slot of a slate without a pick
DAMAGED = "restore the folder; if people have not begun, remove it and resume the run"
LATE = "late"  # answer of a slate that nobody answered in time
ALIKE = "alike"  # answer of a slate that nobody was shown, as its candidates look alike


@dataclass(frozen=True)
class Answers:
    """One answer for each slate.

    Attributes:
        slots: Slot that was picked, or NOBODY, shape (slates,).
        places: Place at which each slot was shown; -1 if it was not, as it looks like another, shape
            (slates, K).
        choosers: Who answered, shape (slates,); "" if nobody.
        outcomes: ``pick``, ``alike`` (a pick too), ``tie``, ``bad``, ``skip`` or ``late``, shape (slates,).
        simulated: Whether a simulated person answered, shape (slates,).
    """

    slots: IntArray
    places: IntArray
    choosers: Sequence[str]
    outcomes: Sequence[str]
    simulated: Sequence[bool]


class Picker(Protocol):
    """Whoever shows slates to people."""

    def answers(self, posted: Path, slates: int, k: int, late: bool, *, by_rule: bool = False) -> Answers:
        """Return the answers to posted slates, and end the round.

        Args:
            posted: Folder of the slates.
            slates: Number of slates.
            k: Candidates per slate.
            late: Whether the deadline has passed: slates without an answer are ``late``.
            by_rule: Whether the rule picks in slates that are ``late``. If there is no pick at all, the run
                stops and the round stays open.

        Raises:
            WaitingForPeople: If answers are missing, and it is not late.
        """
        ...


@dataclass(frozen=True)
class Posted:
    """Slates that a run has posted.

    Attributes:
        round: Number of the round.
        attempt: How often it was rolled back.
        k: Candidates per slate.
        samples: Candidates, slate by slate.
        contexts: Context of every slate, shape (slates,), or None.
        values: Rewards and tracked values by name, each (slates * k,).
    """

    round: int
    attempt: int
    k: int
    samples: Samples
    contexts: Sequence[str] | None
    values: dict[str, Any]


def post(
    run: Path, t: int, attempt: int, k: int, samples: Samples, scored: Candidates, seconds: float
) -> Path:
    """Post a round's slates, unless they are there, and return their folder.

    Args:
        run: Folder of the run.
        t: Number of the round.
        attempt: How often it was rolled back.
        k: Candidates per slate.
        samples: Candidates, slate by slate.
        scored: Their rewards and contexts.
        seconds: The time now, since 1970, from which deadlines count.
    """
    target = run / POSTED / f"{t:03d}-{attempt}"
    if target.exists():
        verify(target, DAMAGED)
        if not np.array_equal(load_samples(target), samples):
            raise InputError(
                "the candidates are no longer those that people were shown",
                got=target,
                remedy="restore what the run rests on; or remove the folder and its database to ask anew",
            )
        return target
    columns = {name: scored.rewards[:, i] for i, name in enumerate(scored.names)} | dict(scored.tracked)
    if scored.contexts is not None:
        columns["context"] = pa.array(scored.contexts.tolist(), pa.string())

    def fill(folder: Path) -> None:
        save_samples(samples, folder)
        write_table(pa.table(columns), folder / SLATES)

    target.parent.mkdir(exist_ok=True)
    write_folder(target, fill, {"round": t, "attempt": attempt, "k": k, "posted": seconds})
    return target


def read_posted(folder: Path) -> Posted:
    """Read posted slates.

    Raises:
        InputError: If the folder is damaged.
    """
    verify(folder, DAMAGED)
    facts = facts_of(folder)
    table = read_table(folder / SLATES)
    contexts = table.column("context").to_pylist()[:: facts["k"]] if "context" in table.column_names else None
    values = {n: table.column(n).to_pylist() for n in table.column_names if n != "context"}
    return Posted(facts["round"], facts["attempt"], facts["k"], load_samples(folder), contexts, values)


def facts_of(folder: Path) -> dict[str, Any]:
    """Return round, attempt, k and the time of posted slates."""
    found: dict[str, Any] = read_json(folder / "contents.json", DAMAGED)["facts"]
    return found


def posted_in(run: Path) -> list[Path]:
    """Return the folders of all slates that a run has posted, in order."""
    found = [p for p in (run / POSTED).glob("[0-9]*-[0-9]*") if p.is_dir()]
    return sorted(found, key=lambda p: [int(part) for part in p.name.split("-")])


def check_answers(answers: Answers, slates: int, k: int) -> None:
    """Check that there is a possible answer for each slate.

    Raises:
        InputError: If there is not.
    """
    slots, picked = answers.slots, np.array([o in ("pick", ALIKE) for o in answers.outcomes])
    good = slots.shape == (slates,) and answers.places.shape == (slates, k) and picked.shape == (slates,)
    if not good or ((slots >= 0) != picked).any() or slots.max(initial=0) >= k:
        raise InputError(
            "the answers do not fit the slates",
            got=f"{len(answers.slots)} answers for {slates} slates of {k}",
            remedy="use the database of this run",
        )
