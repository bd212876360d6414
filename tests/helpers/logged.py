"""Logs drawn from the exact law of every round of a loop on a lattice of rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from recurate.log.schema import Log, as_log
from recurate.rules import Rule, Selection
from recurate.theory.population import Population
from recurate.theory.setting import Setting

LATTICE = np.linspace(-2.0, 2.0, 41)
START = np.exp(-0.5 * LATTICE**2) / np.exp(-0.5 * LATTICE**2).sum()


def laws_of(rule: Selection, rounds: int) -> list[np.ndarray]:
    """Return the exact laws of rounds 0, 1, ... on ``LATTICE``."""
    return list(Population(LATTICE, law=START).play(Setting(rule, rounds=rounds)))


def loop_log(
    rule: Selection,
    *,
    rounds: int = 5,
    contexts: int = 200,
    each: int = 20,
    k: int = 4,
    seed: int = 0,
    spread: float = 0.0,
    slates: bool = True,
    picks: bool = True,
) -> Log:
    """Return a log whose candidates are drawn from each round's exact law, and whose picks follow the rule.

    Args:
        rule: Rule of the picks: slates of ``k``, or a rule for pools.
        rounds: Number of rounds.
        contexts: Number of contexts.
        each: Number of candidates per context and round.
        k: Slate size.
        seed: Seed.
        spread: Distance between the levels of the first and the last context.
        slates: Whether slates are numbered.
        picks: Whether picks are logged.
    """
    rng = np.random.default_rng([71, seed])
    tables = []
    for t, law in enumerate(laws_of(rule, rounds - 1)):
        rewards = rng.choice(LATTICE, size=contexts * each, p=law)
        if isinstance(rule, Rule):
            kept = rule.draw(rewards.reshape(-1, k), rng).reshape(-1, rule.keep)
            picked = (np.arange(k)[None, :, None] == kept[:, None, :]).any(axis=2).ravel()
        else:
            picked = np.asarray(rule.draw(rewards, rng))  # type: ignore[attr-defined]
        context = np.repeat(np.arange(contexts), each)
        columns: dict[str, Any] = {
            "round": np.full(rewards.size, t),
            "context": [f"prompt {c}" for c in context],
            "reward": rewards + spread * context / contexts,
        }
        if slates and isinstance(rule, Rule):
            columns["slate"] = np.repeat(np.arange(rewards.size // k), k)
        if picks:
            columns["picked"] = picked
        tables.append(pa.table(columns))
    return as_log(pa.concat_tables(tables), several=True)
