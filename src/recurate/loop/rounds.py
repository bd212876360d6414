"""One round of the loop: a function of explicit values.

Round 0 trains the first model on real data. Round t >= 1 retrains the model of round t - 1 on its picks
mixed with real data. Every round then samples candidates, scores them, picks and measures them.
All randomness is drawn at (seed, "round", t, purpose), so a round does not depend on the rounds that ran in
the same process. A round that was rolled back is played again at (seed, "round", t, "attempt", n, purpose).

The *control arm* is a second loop without selection, from the same first model and with the same mixing:
every slate has one candidate, which is always picked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.components.protocols import Generator
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, from_log, group_names
from recurate.log.samples import Samples, is_text
from recurate.log.schema import MODEL, REAL, Log, as_log, complete
from recurate.log.trajectory import CONTROL, MEASURED, Row, Trajectory, passed_on
from recurate.loop.asking import LATE, check_answers, facts_of, post
from recurate.loop.contexts import draw_contexts
from recurate.loop.environment import Environment
from recurate.loop.mixing import Picks, first_set, training_set
from recurate.loop.sample_metrics import to_rows
from recurate.loop.shards import Arm, Batch, Bench, form
from recurate.metrics.estimates import NORMAL_975
from recurate.rules import Rule, Threshold
from recurate.theory.attribution import attribute
from recurate.theory.forecast import measured

Stage = Callable[[int, str], None]  # called with the round and the name of the stage that begins

ENOUGH = 0.85  # part of a selection that retraining is to pass on


@dataclass(frozen=True)
class State:
    """The state of the loop before a round.

    Attributes:
        round: Number of the next round.
        generator: Model of the last round; untrained before round 0.
        batches: Picks of the last round, or of all rounds so far if data accumulate.
        before: Candidates of the last round with a mask of the picks, shape (candidates,), or None.
        control: State of the control arm, or None.
    """

    round: int
    generator: Generator
    batches: tuple[Picks, ...] = ()
    before: tuple[Candidates, NDArray[np.bool_]] | None = None
    control: State | None = None


@dataclass(frozen=True)
class Record:
    """The record of a round.

    Attributes:
        round: Number of the round.
        generator: Model of the round.
        samples: Candidates, shape (slates * k, ...), slate by slate; ``item`` in the log is the row.
        log: One row per candidate, including those that were not picked; in round 0 also the real training
            data.
        measured: Measured quantities, including those of the control arm.
        counts: Sizes of the retraining set, and numbers of candidates, slates and picks.
        control: Record of the control arm, or None.
        notes: Remarks for the reader, such as a sample metric that could not be computed.
    """

    round: int
    generator: Generator
    samples: Samples
    log: Log
    measured: Trajectory
    counts: dict[str, int]
    control: Record | None = None
    notes: tuple[str, ...] = ()


def play(
    state: State, environment: Environment, stage: Stage, attempt: int = 0, bench: Bench | None = None
) -> tuple[State, Record]:
    """Play one round and return the next state with this round's record.

    Args:
        state: State of the loop before the round.
        environment: What is the same in all rounds.
        stage: Function that is called when a stage begins.
        attempt: Number of times that the round was rolled back.
        bench: Where shards are sampled and scored; None: in this process.

    Raises:
        Waiting: If shards are missing that others do.
    """
    t = state.round
    stage(t, "fit")
    arm, batch, counts = begin(state, environment, attempt, bench)
    stream, generator, contexts = _stream(state, environment, attempt), batch.generator, batch.contexts
    stage(t, "sample")
    samples = _of_form(batch.samples(), environment)
    stage(t, "reward")
    scored = _finite(batch.scored(samples), samples)
    stage(t, "pick")
    said: tuple[str, ...] = ()
    if environment.config.selection.by == "people":
        log, said = _ask(t, attempt, samples, scored, environment, stream.at("pick"), bench)
        winners = winners_of(log, environment)
    else:
        log, winners = _pick(t, scored, environment, stream.at("pick"))
    if t == 0 and environment.reference is not None:
        log = _with_reference(log, environment.reference)
    stage(t, "measure")
    found = measure(log, environment)
    after = (scored, _mask(len(scored), winners))
    changes = _changes(state, after, environment)
    found += changes
    values, missed = environment.watch.rows(t, samples, scored.rewards, stream.at("measure"), stage)
    found += Trajectory(tuple(to_rows(t, MEASURED, values)))
    shown = environment.config.selection.shown
    counts |= {"candidates": len(samples), "slates": shown, "picks": len(winners)}
    said += _too_few(len(winners), environment)
    notes = (
        *getattr(generator, "notes", ()),
        *_said(generator, arm.stream, environment),
        *said,
        *missed,
        *_lost(t, changes),
    )
    record = Record(t, generator, samples, log, found, counts, notes=notes)
    following = State(t + 1, generator, _batches(state, samples, scored, winners, environment), after)
    if state.control is not None:
        stage(t, "control arm")
        alone = environment.without_selection()
        played = Arm("control", t, attempt, alone.config, alone, stream.at("control", "sample"), bench)
        after_control, left = _control(state.control, record, alone, stream.at("control"), contexts, played)
        said = _said(left.generator, played.stream, alone)
        record = replace(
            record, control=left, measured=record.measured + left.measured, notes=record.notes + said
        )
        following = replace(following, control=after_control)
    return following, record


def begin(
    state: State, environment: Environment, attempt: int = 0, bench: Bench | None = None
) -> tuple[Arm, Batch, dict[str, int]]:
    """Train a round's model, and return what samples, its batch of shards, and the sizes of the training set.

    Args: as for :func:`play`.
    """
    stream = _stream(state, environment, attempt)
    arm = Arm("main", state.round, attempt, environment.config, environment, stream.at("sample"), bench)
    generator, counts = arm.trained() or arm.train() or _fit(state, environment, stream)
    return arm, arm.begin(generator, counts, _slate_contexts(state.round, environment, stream)), counts


def _stream(state: State, environment: Environment, attempt: int) -> Stream:
    stream = environment.config.stream.at("round", state.round)
    return stream.at("attempt", attempt) if attempt else stream


def measure(log: Log, environment: Environment) -> Trajectory:
    """Return the quantities of a round's log."""
    contexts, shown = environment.contexts, environment.config.selection.shown
    return measured(
        log,
        temperature=environment.config.selection.temperature,
        group=None if environment.grouping is None else "group",
        track=tuple(environment.tracked),
        cells=environment.cells,
        names=group_labels(environment),
        # Each context is shown equally often, up to a remainder: the set of contexts is not random.
        stratified=contexts is not None and len(contexts) <= shown,
    )


def group_labels(environment: Environment) -> tuple[str, ...]:
    """Return the names of all groups that the real data have, sorted."""
    if environment.grouping is None or environment.reference is None:
        return ()
    return group_names(environment.reference, None)


def winners_of(log: Log, environment: Environment) -> NDArray[np.int64]:
    """Return the items that enter the next retraining set: the first ``picks`` picks, by slate."""
    table = log.table
    picked = np.asarray(table.column("picked").to_numpy(zero_copy_only=False))
    items = np.asarray(table.column("item").to_numpy())[picked]
    return np.asarray(items[: environment.config.selection.picks], np.int64)


def candidates_of(log: Log, environment: Environment) -> tuple[Candidates, NDArray[np.bool_]]:
    """Return a saved round's candidates, and a mask of those that enter the next retraining set."""
    generated = log.select(source=MODEL)
    group = None if environment.grouping is None else "group"
    found = from_log(generated, group=group, track=list(environment.tracked))
    return found, _mask(len(found), winners_of(log, environment))


def _mask(count: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


def _batches(
    state: State, samples: Samples, scored: Candidates, winners: NDArray[np.int64], environment: Environment
) -> tuple[Picks, ...]:
    """Return the picks for the next training set, with those of earlier rounds where data accumulate."""
    picks = Picks(samples[winners], None if scored.contexts is None else scored.contexts[winners])
    return (*state.batches, picks) if environment.setting.accumulate else (picks,)


def _too_few(accepted: int, environment: Environment) -> tuple[str, ...]:
    """Return a remark where a verifier accepted fewer candidates than the retraining set should have."""
    selection = environment.config.selection
    if selection.threshold is None or selection.slates is None or accepted >= selection.picks:
        return ()
    return (
        f"the verifier accepted {accepted} of {selection.shown} candidates, fewer than picks = "
        f"{selection.picks}: the retraining set is smaller",
    )


def _said(generator: Generator, stream: Stream, environment: Environment) -> tuple[str, ...]:
    """Return what servers said of the samples of a stream and of their rewards."""
    remarks = getattr(generator, "remarks", lambda rng: ())(stream)
    rewards = (*environment.rewards.values(), *environment.tracked.values())
    return (*remarks, *(line for reward in rewards for line in getattr(reward, "spent", tuple)()))


# --- the steps ---


def _fit(state: State, environment: Environment, stream: Stream) -> tuple[Generator, dict[str, int]]:
    """Return the retrained model and the exact sizes of its training set."""
    config, data = environment.config, environment.dataset
    if state.round == 0 and not config.generator.trains_first:
        return state.generator, {"trained_on_picks": 0, "trained_on_real": 0}
    if state.round == 0:
        assert data is not None  # the configuration checks it
        training = first_set(data)
    else:
        mixed = config.retraining.real_fraction > 0 or environment.setting.accumulate
        given = data if mixed else None
        training = training_set(state.batches, state.round, given, config.retraining, config.stream)
    model = state.generator.fit(
        training.samples, rng=stream.at("fit"), contexts=training.contexts, real=training.real
    )
    return model, dict(training.counts)


def _slate_contexts(t: int, environment: Environment, stream: Stream) -> NDArray[Any] | None:
    if environment.contexts is None:
        return None
    settings = environment.config.contexts
    order = "fresh" if settings is None else settings.order
    shown = environment.config.selection.shown
    return draw_contexts(environment.contexts, shown, t, order, stream.at("contexts"))


def _of_form(samples: Samples, environment: Environment) -> Samples:
    """Return samples, which must have the form of the real data, and not be empty texts alone."""
    if environment.dataset is not None:
        wanted, got = form(environment.dataset.train), form(samples)
        if wanted != got:
            raise InputError(
                "the generator's samples do not have the form of the real data",
                got=f"{got}; the data are {wanted}",
                remedy="return samples in the form of the training set",
            )
    if is_text(samples) and len(samples) and not any(samples):
        raise InputError(
            "every sample is an empty text: the model emits end or padding tokens alone",
            got=f"{len(samples)} empty texts",
            remedy="train the model longer or at a lower learning rate",
        )
    return samples


def _control(
    state: State,
    main: Record,
    alone: Environment,
    stream: Stream,
    contexts: NDArray[Any] | None,
    arm: Arm,
) -> tuple[State, Record]:
    """Play the control arm's round: one candidate per slate, which is always picked."""
    t = state.round
    if t == 0:  # the same model, and the first candidate of each slate
        generator, samples = (
            main.generator,
            main.samples[:: len(main.samples) // alone.config.selection.shown],
        )
        counts: dict[str, int] = {}
        scored = _finite(alone.score(samples, contexts), samples)
    else:
        generator, counts = arm.trained() or _fit(state, alone, stream)
        batch = arm.begin(generator, counts, contexts)
        samples = _of_form(batch.samples(), alone)
        scored = _finite(batch.scored(samples), samples)
    log, winners = _pick(t, scored, alone, stream.at("pick"))
    rows = tuple(replace(row, source=CONTROL) for row in measure(log, alone).rows)
    record = Record(t, generator, samples, log, Trajectory(rows), counts)
    return State(t + 1, generator, _batches(state, samples, scored, winners, alone)), record


def _changes(
    state: State, after: tuple[Candidates, NDArray[np.bool_]], environment: Environment
) -> Trajectory:
    """Return the parts of each mean reward's change since the last round.

    They are due to selection, sampling and transmission. Where data accumulate there are none, because the
    training set then does not come from the last round alone.
    """
    t, setting = state.round, environment.setting
    if state.before is None or setting.accumulate:
        return Trajectory()
    before, picked = state.before
    real = environment.reference if setting.real_fraction else None
    rows: list[Row] = []
    k = int(setting.rule.largest) if isinstance(setting.rule, Rule) else 1
    slates = [np.arange(len(c)) // k for c in (before, after[0])]
    for change in attribute([before, after[0]], [picked, after[1]], [t - 1, t], setting, real, slates):
        reach = NORMAL_975 * change.transmission_error
        exact = {"selection": change.selection, "sampling": change.sampling, "sampling_band": change.band}
        rows += [Row(t, MEASURED, name, value, change.reward) for name, value in exact.items()]
        lost = change.transmission
        rows.append(Row(t, MEASURED, "transmission", lost, change.reward, None, lost - reach, lost + reach))
    return Trajectory(tuple(rows))


def _lost(t: int, changes: Trajectory) -> list[str]:
    """Say, after the first retraining, which part of the selection it passed on, if that is too little."""
    little = [p for p in passed_on(changes) if t == 1 and p.upper < ENOUGH]
    return [
        f"retraining passed on {p.share:.0%} ({p.lower:.0%} to {p.upper:.0%}) of what {p.reward} selected: "
        "forecasts from round 0 assume all of it; recurate forecast RUN --renew learns the rest of the run. "
        "More training steps, a wider network or retraining from scratch can pass on more: "
        "recurate docs theory transmission"
        for p in little
    ]


def _pick(
    t: int, scored: Candidates, environment: Environment, stream: Stream
) -> tuple[Log, NDArray[np.int64]]:
    """Pick one candidate per slate by the rule; each slate is judged by one reward, drawn by weight."""
    selection, weights = environment.config.selection, environment.config.weights
    k, slates = selection.k, selection.shown
    rule = selection.rule()
    if isinstance(rule, Threshold):
        return _verify(t, scored, rule, environment, stream)
    rewards = scored.rewards.reshape(slates, k, -1)
    judge = stream.at("judge").generator().choice(len(scored.names), size=slates, p=weights)
    judged = np.take_along_axis(rewards, judge[:, None, None], axis=2)[:, :, 0]
    slots = rule.draw(judged, stream.at("draw").generator())
    propensity = np.zeros((slates, k))
    for i, weight in enumerate(weights):
        propensity += weight * rule.probabilities(rewards[:, :, i])
    table = _log_table(t, scored, k, slots, np.array(scored.names)[judge], propensity.ravel())
    # The table is valid by construction, and checking all its rows would take longer than picking.
    log = Log(complete(table, scored.names), scored.names)
    return log, winners_of(log, environment)


def _verify(
    t: int, scored: Candidates, rule: Threshold, environment: Environment, stream: Stream
) -> tuple[Log, NDArray[np.int64]]:
    """Judge every candidate alone, by one reward, drawn by weight; those that pass are in no slate."""
    weights, count = environment.config.weights, len(scored)
    judge = stream.at("judge").generator().choice(len(scored.names), size=count, p=weights)
    passed = rule.draw(scored.rewards[np.arange(count), judge], stream.at("draw").generator())
    if not passed.any():
        raise InputError(
            f"the verifier accepted no candidate in round {t}",
            got=f"{count} candidates, threshold = {rule.level:g}, highest reward {scored.rewards.max():.4g}",
            remedy="lower selection.threshold, or raise selection.slates",
        )
    chances = [w * rule.probabilities(scored.rewards[:, i]) for i, w in enumerate(weights)]
    columns = _columns(scored, MODEL) | {
        "round": np.full(count, t, np.int32),
        "slate": pa.nulls(count, pa.int64()),
        "slot": pa.nulls(count, pa.int32()),
        "picked": passed,
        "chooser": np.array(scored.names)[judge],
        "propensity": np.maximum(np.sum(chances, axis=0), np.finfo(float).tiny),
    }
    log = Log(complete(pa.table(columns), scored.names), scored.names)
    return log, winners_of(log, environment)


def _ask(
    t: int,
    attempt: int,
    samples: Samples,
    scored: Candidates,
    environment: Environment,
    stream: Stream,
    bench: Bench | None,
) -> tuple[Log, tuple[str, ...]]:
    """Return the log of a round that people judged, and remarks.

    Slots are the places at which people saw the candidates. A candidate that looks like another of its slate
    was not shown, and belongs to no slate. Whatever the order in which people answer, the log is the same.
    """
    selection = environment.config.selection
    k, slates = selection.k, selection.shown
    if bench is None or bench.picker is None:
        raise InputError(
            "people pick in this run, and nobody shows them its slates",
            got="selection.by = 'people'",
            remedy="recurate run CONFIG.toml --out FOLDER, and recurate serve FOLDER",
        )
    posted = post(bench.folder.parent, t, attempt, k, samples, scored, time.time())
    deadline = selection.people.deadline
    late = deadline is not None and time.time() >= facts_of(posted)["posted"] + 3600 * deadline
    stands_in = selection.people.late == "rule"
    answers = bench.picker.answers(posted, slates, k, late, by_rule=stands_in)
    check_answers(answers, slates, k)
    slots, choosers, outcomes = answers.slots.copy(), list(answers.choosers), list(answers.outcomes)
    missing = np.flatnonzero([o == LATE for o in outcomes])
    if missing.size and stands_in:
        by_rule = _pick(t, scored, environment, stream)[0]
        picked = np.asarray(by_rule.table.column("picked").to_numpy(zero_copy_only=False))
        slots[missing] = picked.reshape(slates, k)[missing].argmax(axis=1)
        for at in missing:
            choosers[at], outcomes[at] = "rule", "rule"
    if not (slots >= 0).any():
        raise InputError(
            f"nobody picked anything in round {t}",
            got=", ".join(f"{outcomes.count(o)} {o}" for o in sorted(set(outcomes))),
            remedy=f"let people answer (recurate serve {bench.folder.parent}), and resume the run; or "
            "begin one with selection.people.late = 'rule'",
        )
    said = [f"{missing.size} of {slates} slates had no answer by the deadline"] if missing.size else []
    simulated = sum(answers.simulated)
    said += [f"{simulated} of {slates} slates were judged by simulated people"] if simulated else []
    none = int((slots < 0).sum())
    said += [f"{none} of {slates} slates have no pick"] if none else []
    unseen = (answers.places < 0).ravel()
    columns = _columns(scored, MODEL) | {
        "round": np.full(len(scored), t, np.int32),
        "slate": pa.array(np.repeat(np.arange(slates), k), mask=unseen),
        "slot": pa.array(answers.places.astype(np.int32).ravel(), mask=unseen),
        "picked": (np.arange(k) == slots[:, None]).ravel(),
        "chooser": pa.array(np.repeat(np.array(choosers, object), k).tolist(), pa.string()),
        "outcome": pa.array(np.repeat(np.array(outcomes, object), k).tolist(), pa.string()),
        "simulated": np.repeat(np.array(answers.simulated, bool) | (np.array(outcomes) == "rule"), k),
    }
    return Log(complete(pa.table(columns), scored.names), scored.names), tuple(said)


def _finite(scored: Candidates, samples: Samples) -> Candidates:
    """Return candidates whose rewards must be finite."""
    columns = {name: scored.rewards[:, i] for i, name in enumerate(scored.names)} | dict(scored.tracked)
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise InputError(
                f"{bad.size} of {len(scored)} candidates got a reward {name!r} that is not a finite number",
                got=f"{values[bad[0]]} for candidate {bad[0]}{_shown(samples[bad[0]])}",
                remedy="the model may have diverged (lower its learning rate), or the reward is faulty",
            )
    return scored


def _shown(sample: Any) -> str:
    """Return the beginning of a text for a message; nothing for numbers."""
    return f": {sample[:60]!r}" if isinstance(sample, str) else ""


def _log_table(
    t: int,
    scored: Candidates,
    k: int,
    slots: NDArray[np.int64],
    choosers: NDArray[Any],
    propensity: NDArray[Any],
) -> pa.Table:
    slates = len(slots)
    slot = np.tile(np.arange(k, dtype=np.int32), slates)
    columns = _columns(scored, MODEL) | {
        "round": np.full(len(scored), t, np.int32),
        "slate": np.repeat(np.arange(slates), k),
        "slot": slot,
        "picked": slot == np.repeat(slots, k),
        "chooser": np.repeat(choosers, k),
        # A candidate far below its rivals has probability 0 in double precision.
        "propensity": np.maximum(propensity, np.finfo(float).tiny),
    }
    return pa.table(columns)


def _columns(candidates: Candidates, source: str) -> dict[str, Any]:
    """Return the columns of a log that are the candidates' own."""
    count, contexts, groups = len(candidates), candidates.contexts, candidates.groups
    return {
        "context": pa.repeat("", count) if contexts is None else pa.array(contexts.tolist(), pa.string()),
        "item": np.arange(count),
        "source": pa.repeat(source, count),
        **{name: candidates.rewards[:, i] for i, name in enumerate(candidates.names)},
        **candidates.tracked,
        **({} if groups is None else {"group": groups}),
    }


def _with_reference(log: Log, reference: Candidates) -> Log:
    """Append the real data, which belong to no slate, to a log."""
    real = as_log(pa.table(_columns(reference, REAL)), rewards=reference.names, name="the real data")
    own = [
        name for name in log.table.column_names if name in real.table.column_names
    ]  # nobody answered of them
    table = pa.concat_tables([log.table, real.table.select(own)], promote_options="default")
    return Log(table.replace_schema_metadata(log.table.schema.metadata), log.rewards)
