"""A run's slates in a database of ballots, and people's answers as the run takes them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import and_, select

from recurate.core.errors import InputError, WaitingForPeople
from recurate.log.samples import Samples, is_text
from recurate.loop.asking import ALIKE, LATE, NOBODY, Answers, Posted, facts_of, read_posted
from recurate.people.ballots import PICKS, Candidate, Rules, Slate, Study
from recurate.people.tables import ballots, candidates, leases, opened, people, slates

DATABASE = "ballots.sqlite"  # in the folder of the posted slates
GREY = 255.0


class Ballots:
    """The picker of a run: it puts posted slates into the database, and takes the answers.

    Args:
        place: The database; None: a file beside the posted slates.
    """

    def __init__(self, place: str | None = None) -> None:
        self._place = place

    def answers(self, posted: Path, slates: int, k: int, late: bool, *, by_rule: bool = False) -> Answers:
        """Return the answers to posted slates; see :class:`recurate.loop.asking.Picker`."""
        study = Study(opened(self._place or posted.parent / DATABASE), Rules())
        try:
            put(study, posted)
            facts = facts_of(posted)
            of = facts["round"], facts["attempt"]
            missing = study.undecided(*of)
            if missing and not late:
                raise WaitingForPeople(missing, of[0])
            with study.engine.begin() as c:  # an answer comes before this, or is told that it is late
                now = study.close(c, *of)
                missing = study.tally(c, *of, closed=True).missing if now else 0
                if missing and not late:  # an answer was taken back meanwhile: the round stays open
                    raise WaitingForPeople(missing, of[0])
                found = _answers(c, *of, slates, k)
                picked = (found.slots >= 0).any() or (by_rule and LATE in found.outcomes)
                if not picked:  # the run stops: people can still answer
                    c.rollback()
                return found
        finally:
            study.engine.dispose()


def put(study: Study, posted: Path) -> int:
    """Put posted slates into the database, unless they are there, and return how many were added.

    Raises:
        InputError: If the database has other slates of this round: it is another run's.
    """
    key, seal = f"posted {posted.name}", hashlib.sha256((posted / "contents.json").read_bytes()).hexdigest()
    known = study.fact(key)
    if known == seal:
        return 0
    if known is not None:
        raise InputError(
            "the database has the slates of another run, or of this one before it changed",
            got=posted,
            remedy="give each run a database of its own: --db",
        )
    found = read_posted(posted)
    shown, images = _shown(found.samples)
    return study.add(_slates(found, shown), images, {key: seal}, alone=True)


def missing_in(posted: Path, place: str | None = None) -> int:
    """Return how many answers posted slates still need."""
    study = Study(opened(place or posted.parent / DATABASE), Rules())
    try:
        put(study, posted)
        facts = facts_of(posted)
        return study.undecided(facts["round"], facts["attempt"])
    finally:
        study.engine.dispose()


def _slates(found: Posted, shown: Sequence[tuple[Any, str]]) -> list[Slate]:
    made = []
    for at in range(len(shown) // found.k):
        rows = range(at * found.k, (at + 1) * found.k)
        own = tuple(
            Candidate(row, *shown[row], {name: column[row] for name, column in found.values.items()})
            for row in rows
        )
        context = "" if found.contexts is None else found.contexts[at]
        made.append(Slate(at, own, context, found.round, found.attempt))
    return made


def _shown(samples: Samples) -> tuple[list[tuple[Any, str]], dict[str, bytes]]:
    """Return form and content of each sample as people see it, and the images by digest."""
    if is_text(samples):
        return [("text", text) for text in samples], {}
    if samples.ndim == 2:  # vectors: the first two coordinates as a point
        return [
            ("points", json.dumps([[*(round(float(x), 6) for x in row[:2]), 0.0][:2]])) for row in samples
        ], {}
    found: list[tuple[Any, str]] = []
    images: dict[str, bytes] = {}
    for sample in samples:
        data = png(sample)
        digest = hashlib.sha256(data).hexdigest()
        images[digest] = data
        found.append(("image", digest))
    return found, images


def png(image: Any) -> bytes:
    """Return an image (h, w) or (h, w, channels) with values in [0, 1] as PNG."""
    from PIL import Image

    pixels = np.clip(np.round(GREY * np.asarray(image, float)), 0, GREY).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _answers(c: sa.Connection, t: int, attempt: int, count: int, k: int) -> Answers:
    """Return the first answer to each slate; of candidates that all look alike, the first is picked.

    Whoever picks one of them picks such a candidate, so that a slate without a pick would favour what is
    rare among the candidates.
    """
    slots, outcomes = np.full(count, NOBODY), [LATE] * count
    places, choosers, simulated = np.zeros((count, k), np.int64), [""] * count, [False] * count
    places[:] = np.arange(k)
    joined = ballots.join(leases, ballots.c.lease == leases.c.id).join(slates, ballots.c.slate == slates.c.id)
    of = and_(slates.c.round == t, slates.c.attempt == attempt, slates.c.answer.is_(None))
    wanted = (
        select(
            slates.c.number,
            ballots.c.outcome,
            ballots.c.slots,
            leases.c.places,
            people.c.label,
            people.c.simulated,
        )
        .select_from(joined.join(people, ballots.c.person == people.c.id))
        .where(of, ~ballots.c.withdrawn, leases.c.repeat == 0)
        .order_by(slates.c.number, people.c.id)
    )
    for number in c.execute(select(slates.c.number).where(of, slates.c.wanted == 0)).scalars():
        places[number] = [0, *[-1] * (k - 1)]
        slots[number], outcomes[number] = 0, ALIKE
    for row in c.execute(wanted):
        if outcomes[row.number] != LATE:
            continue
        order = json.loads(row.places)
        places[row.number] = -1
        places[row.number, order] = np.arange(len(order))
        outcomes[row.number], choosers[row.number] = row.outcome, row.label
        simulated[row.number] = row.simulated
        if row.outcome in PICKS:
            slots[row.number], outcomes[row.number] = json.loads(row.slots)[0], "pick"
    return Answers(slots, places, choosers, outcomes, simulated)


def candidates_of(study: Study, slate: int) -> list[Candidate]:
    """Return a slate's candidates by slot."""
    with study.engine.execution_options(reads=True).connect() as c:
        rows = c.execute(select(candidates).where(candidates.c.slate == slate).order_by(candidates.c.slot))
        return [Candidate(r.item, r.form, r.content, json.loads(r.own)) for r in rows]
