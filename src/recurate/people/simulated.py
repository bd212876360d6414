"""Simulated people who judge slates beside real ones, and are marked as such."""

from __future__ import annotations

import json
import math

import numpy as np
from sqlalchemy import select

from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.people.ballots import Lease, Study
from recurate.people.tables import candidates, leases
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule

NOISES = {"luce": GUMBEL, "thurstone": GAUSSIAN, "best": NO_NOISE, "random": GUMBEL}


def judge(
    study: Study,
    count: int,
    rule: str = "luce",
    reward: str = "",
    temperature: float = 1.0,
    lapse: float = 0.0,
) -> int:
    """Let a simulated person judge up to ``count`` slates, and return how many were judged.

    Args:
        study: The study.
        count: Largest number of slates.
        rule: ``luce``, ``thurstone``, ``best`` or ``random``.
        reward: Column of the candidates by which it judges; "": the only column of numbers.
        temperature: What rewards are divided by.
        lapse: Share of picks that are made at random.

    Raises:
        InputError: If there is no such rule or column.
    """
    if rule not in NOISES:
        raise InputError("there is no such rule", got=rule, remedy="take one of " + ", ".join(NOISES))
    lapse = 1.0 if rule == "random" else lapse
    person, made = study.join(None, simulated=True), 0
    while made < count and (lease := study.next(person)) is not None:
        try:
            rewards = _rewards(study, lease, reward)[None]
        except InputError:
            if made:
                study.hand_back(person)
            else:  # nobody who never judged
                study.remove(person)
            raise
        draw = Stream(study.rules.seed).at("simulated", person, lease.slate).generator()
        law = Rule(rewards.shape[1], noise=NOISES[rule], temperature=temperature, lapse=lapse)
        place = int(law.draw(rewards, draw)[0])
        study.submit(person, lease.id, f"simulated-{lease.id}", "pick", [place])
        made += 1
    return made


def _rewards(study: Study, lease: Lease, reward: str) -> np.ndarray:
    """Return the rewards of a lease's candidates, in the order shown."""
    with study.engine.execution_options(reads=True).connect() as c:
        order = json.loads(c.execute(select(leases.c.places).where(leases.c.id == lease.id)).scalar_one())
        rows = c.execute(select(candidates.c.slot, candidates.c.own).where(candidates.c.slate == lease.slate))
        values = {slot: json.loads(own) for slot, own in rows}
    numbers = [
        n for n, v in values[order[0]].items() if isinstance(v, int | float) and not isinstance(v, bool)
    ]
    name = reward or (numbers[0] if len(numbers) == 1 else "")
    if name not in numbers:
        raise InputError(
            "simulated people need a column of rewards",
            got=f"{reward or 'no --reward'}; columns of numbers: {', '.join(numbers) or 'none'}",
            remedy="--reward COLUMN",
        )
    found = [values[slot].get(name) for slot in order]
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in found):
        raise InputError(
            "simulated people need a reward of every candidate",
            got=f"{name} = {', '.join(map(str, found))} in slate {lease.slate}",
            remedy="fill the rewards in, or name another column: --reward COLUMN",
        )
    return np.array(found, float)
