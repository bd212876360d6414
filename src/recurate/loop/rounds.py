"""One round of the loop: a function of explicit values.

Round 0 trains the first model on real data. Round t >= 1 retrains the model of round t - 1 on its picks
mixed with real data. Every round then samples candidates, scores them, measures them and picks.
All randomness is named by (seed, "round", t, purpose), so a round does not depend on what ran before it in
the same process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.candidates import Candidates, group_names
from recurate.errors import InputError
from recurate.forecasting import measured
from recurate.generators.flow import FlowMatching
from recurate.generators.protocol import Generator, Samples
from recurate.loop.config import Config
from recurate.loop.world import World
from recurate.records import MODEL, REAL, Log, as_log
from recurate.seeds import Stream
from recurate.trajectory import Trajectory

Stage = Callable[[int, str], None]  # called with the round and what begins


@dataclass(frozen=True)
class State:
    """What enters a round.

    Attributes:
        round: the round about to be played.
        generator: the model of the round before (untrained before round 0).
        picked: the picks of the round before, shape (picks, ...); empty before round 0.
    """

    round: int
    generator: Generator
    picked: Samples


@dataclass(frozen=True)
class Record:
    """What a round leaves.

    Attributes:
        round: which round.
        generator: its model.
        samples: its candidates, shape (slates * k, ...), slate by slate; ``item`` in the log counts them.
        log: one row per candidate, losers included; in round 0 also the real training data.
        measured: its quantities.
        counts: sizes of the retraining set and of what was shown.
    """

    round: int
    generator: Generator
    samples: Samples
    log: Log
    measured: Trajectory
    counts: dict[str, int]


def first_state(config: Config, world: World) -> State:
    """Return the state before round 0: an untrained model."""
    return State(0, FlowMatching(config.generator), world.dataset.train[:0])


def play(state: State, config: Config, world: World, stage: Stage) -> tuple[State, Record]:
    """Play one round and return the next state with this round's record."""
    t = state.round
    stream = Stream(config.seed).at("round", t)
    stage(t, "fit")
    training, counts = _training_set(state, config, world, stream)
    generator = state.generator.fit(training, rng=stream.at("fit"))
    stage(t, "sample")
    samples = generator.sample(config.selection.shown * config.selection.k, rng=stream.at("sample"))
    stage(t, "pick")
    scored = world.score(samples)
    log, winners = _pick(t, scored, config, stream.at("pick"))
    if t == 0:
        log = _with_reference(log, world.reference)
    stage(t, "measure")
    found = measure(log, config, world)
    counts |= {"candidates": len(samples), "slates": config.selection.shown, "picks": len(winners)}
    record = Record(t, generator, samples, log, found, counts)
    return State(t + 1, generator, samples[winners]), record


def measure(log: Log, config: Config, world: World) -> Trajectory:
    """Return the quantities of a round's log."""
    return measured(
        log,
        temperature=config.selection.temperature,
        group=None if world.grouping is None else "group",
        cells=world.cells,
        names=() if world.grouping is None else group_labels(world),
    )


def group_labels(world: World) -> tuple[str, ...]:
    """Return the names of all groups that the real data have, sorted."""
    return group_names(world.reference, None)


def winners_of(log: Log, config: Config) -> NDArray[np.int64]:
    """Return the items that enter the next retraining set: the first ``picks`` picks, by slate."""
    table = log.table
    picked = np.asarray(table.column("picked").to_numpy(zero_copy_only=False))
    items = np.asarray(table.column("item").to_numpy())[picked]
    return np.asarray(items[: config.selection.picks], np.int64)


def _training_set(
    state: State, config: Config, world: World, stream: Stream
) -> tuple[Samples, dict[str, int]]:
    real = world.dataset.train
    if state.round == 0:
        return real, {"trained_on_picks": 0, "trained_on_real": len(real)}
    count = config.retraining.real_count(len(state.picked))
    chosen = _draw_real(len(real), count, stream.at("mix"))
    sizes = {"trained_on_picks": len(state.picked), "trained_on_real": count}
    return np.concatenate([state.picked, real[chosen]]), sizes


def _draw_real(available: int, count: int, rng: Stream) -> NDArray[np.int64]:
    """Return ``count`` rows of the real data: whole passes, then a random part without replacement."""
    whole, rest = divmod(count, available)
    part = rng.generator().permutation(available)[:rest]
    return np.concatenate([np.tile(np.arange(available), whole), part])


def _pick(t: int, scored: Candidates, config: Config, stream: Stream) -> tuple[Log, NDArray[np.int64]]:
    """Pick one candidate a slate by the rule; each slate is judged by one reward, drawn by weight."""
    k, slates = config.selection.k, config.selection.shown
    bad = np.flatnonzero(~np.isfinite(scored.rewards).all(axis=1))
    if bad.size:
        raise InputError(
            f"{bad.size} of {len(scored)} candidates got a reward that is not a finite number",
            got=f"{scored.rewards[bad[0]].tolist()} for candidate {bad[0]}",
            remedy="the model may have diverged (lower generator.learning_rate), or the reward is faulty",
        )
    rule = config.selection.rule()
    rewards = scored.rewards.reshape(slates, k, -1)
    judge = stream.at("judge").generator().choice(len(scored.names), size=slates, p=config.weights)
    judged = np.take_along_axis(rewards, judge[:, None, None], axis=2)[:, :, 0]
    slots = rule.draw(judged, stream.at("draw").generator())
    propensity = np.zeros((slates, k))
    for i, weight in enumerate(config.weights):
        propensity += weight * rule.probabilities(rewards[:, :, i])
    table = _log_table(t, scored, k, slots, np.array(scored.names)[judge], propensity.ravel())
    log = as_log(table, rewards=scored.names, name="this round's log")
    return log, winners_of(log, config)


def _log_table(
    t: int,
    scored: Candidates,
    k: int,
    slots: NDArray[np.int64],
    choosers: NDArray[Any],
    propensity: NDArray[Any],
) -> pa.Table:
    count, slates = len(scored), len(slots)
    slot = np.tile(np.arange(k, dtype=np.int32), slates)
    columns: dict[str, Any] = {
        "round": np.full(count, t, np.int32),
        "context": pa.repeat("", count),
        "slate": np.repeat(np.arange(slates), k),
        "slot": slot,
        "item": np.arange(count),
        "source": pa.repeat(MODEL, count),
        **{name: scored.rewards[:, i] for i, name in enumerate(scored.names)},
        "picked": slot == np.repeat(slots, k),
        "chooser": np.repeat(choosers, k),
        # A candidate far below its rivals has probability 0 in double precision.
        "propensity": np.maximum(propensity, np.finfo(float).tiny),
    }
    if scored.groups is not None:
        columns["group"] = scored.groups
    return pa.table(columns)


def _with_reference(log: Log, reference: Candidates) -> Log:
    """Append the real data, shown to nobody."""
    count = len(reference)
    columns: dict[str, Any] = {name: reference.rewards[:, i] for i, name in enumerate(reference.names)}
    columns |= {"source": pa.repeat(REAL, count), "item": np.arange(count)}
    if reference.groups is not None:
        columns["group"] = reference.groups
    real = as_log(pa.table(columns), rewards=reference.names, name="the real data")
    table = pa.concat_tables([log.table, real.table.select(log.table.column_names)])
    return Log(table, log.rewards)
