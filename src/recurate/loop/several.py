"""The driver of several models that train on each other's picks.

In round t every model generates candidates, its own curator picks, and all of it is saved in the folder of
the model's own run. In round t + 1 model i is trained on A_ij n of the n picks of each model j, mixed with
real data. What one model does in a round depends on the round before of all models alone, which is read from
their folders: so a resumed run plays what is missing, model by model, and equals an uninterrupted one.

The randomness of model i is that of :func:`recurate.loop.rounds.play` at ("model", name_i, ...); which picks
of round s it gets from model j is drawn at ("model", name_i, "round", s, "from", name_j).

The forecast is the exact law of :mod:`recurate.theory.several_models` on the candidates of round 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from recurate.core.arrays import FloatArray
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.files import full_disk_explained, uninterrupted
from recurate.core.fingerprints import Change
from recurate.engines.engine import Elsewhere, Engine, Local, start
from recurate.log.candidates import Candidates, group_names
from recurate.log.trajectory import FORECAST, Row, Trajectory
from recurate.loop.config import Config
from recurate.loop.driver import AGAIN, Stages, facts_of
from recurate.loop.environment import Environment, prepare, rests_on
from recurate.loop.mixing import Picks, shared
from recurate.loop.models_folder import ModelsFolder
from recurate.loop.monitors.protocol import Monitor
from recurate.loop.rounds import Record, State, group_labels, play
from recurate.loop.run_folder import RunFolder, check_trusted
from recurate.loop.shards import released
from recurate.metrics.describe import Describer
from recurate.theory.models_forecast import forecast_rows, measured_rows
from recurate.theory.several_models import apportioned


def run(
    config: Config, out: Path, monitor: Monitor | None = None, engine: Engine | None = None
) -> Trajectory:
    """Train several models into a new folder; return forecast and measurement of every round, by model.

    Args:
        config: Configuration with ``[[models]]``.
        out: New folder.
        monitor: Monitor of the run's events, or None.
        engine: Engine that samples and scores; None: this process. It does not change the result.

    Raises:
        InputError: If the folder is not empty or is in use, the configuration does not fit the data or is not
            one of several models, a model diverged, or the disk is full. Complete rounds are kept.
    """
    RunFolder.check_vacant(out, config)
    _check(config, engine or Local())
    config.selection.check_memory()
    watcher = monitor or Monitor()
    watcher.stage(-1, "set-up")
    with threadpool_limits(1), full_disk_explained(out, AGAIN.format(out)), released():
        found = rests_on(config)  # before anything of it is read
        environment = _without_contexts(prepare(config))
        with RunFolder(out).locked():
            with uninterrupted():
                folder = ModelsFolder.create(out, environment, found)
            return _drive(folder, environment, watcher, engine or Local(), {})


def resume(
    path: Path,
    monitor: Monitor | None = None,
    *,
    accept_changes: bool = False,
    trust: bool = False,
    engine: Engine | None = None,
) -> Trajectory:
    """Continue after what is complete; the result equals an uninterrupted run's.

    Args:
        path: Folder of the models.
        monitor: Monitor of the run's events, or None.
        accept_changes: Whether to continue if files that the run rests on have changed; the next round
            records the changes.
        trust: Whether to run the code that the configuration names although the run was not made here.
        engine: Engine that samples and scores; None: this process. It does not change the result.

    Raises:
        InputError: If the folder is not that of several models, is in use, has another format or was altered,
            if a file that the run rests on was altered, or if the run is a stranger's and runs code; also as
            for :func:`run`.
    """
    folder = ModelsFolder.open(path)
    with (
        threadpool_limits(1),
        full_disk_explained(path, AGAIN.format(path)),
        RunFolder(path).locked(),
        released(),
    ):
        check_trusted(path / "config.toml", trust=trust)
        stores = folder.stores()
        if not accept_changes:
            for store in stores.values():
                store.check_present()
        folder.verify(results=False)
        config = folder.config()
        _check(config, engine or Local())
        found = rests_on(config)  # the same for all models
        changed = {
            name: store.check_unchanged(config.of_model(name), found, accept=accept_changes)
            for name, store in stores.items()
        }
        for store, changes in zip(stores.values(), changed.values(), strict=True):
            if changes:
                store.clear_shards()  # what was begun may rest on what was before
        folder.pass_on(config)
        environment = prepare(config, next(iter(stores.values())).path / "setup")
        return _drive(folder, environment, monitor or Monitor(), engine or Local(), changed)


def _check(config: Config, engine: Engine) -> None:
    """Refuse what only a single model has, and start the engine."""
    if config.model is not None:
        raise InputError(
            "this is the configuration of one of several models, which recurate wrote",
            got=f"model = {config.model!r}",
            remedy="run that of all models, without 'model' and without weights of rewards",
        )
    if not config.models:
        raise InputError(
            "the configuration is that of a single model",
            got="no [[models]]",
            remedy="use recurate.loop.driver",
        )
    if isinstance(engine, Elsewhere):
        raise InputError(
            "several models cannot leave shards to others", got="--engine shards", remedy="--engine processes"
        )
    config.generator.check()
    start(engine, config.engine.needs)


def _without_contexts(environment: Environment) -> Environment:
    if environment.contexts is not None:
        raise InputError(
            "several models are trained without contexts, which their law does not have",
            got=f"{len(environment.contexts)} contexts of the real data",
            remedy="leave out data.context",
        )
    return environment


# --- the rounds ---


@dataclass(frozen=True)
class _Player:
    """One of several models.

    Attributes:
        name: Its name.
        store: Its run's folder.
        environment: Data, rewards and its own configuration.
        stage: Reports its stages.
    """

    name: str
    store: RunFolder
    environment: Environment
    stage: Stages

    def play(
        self, t: int, made: Mapping[int, Sequence[Picks]], engine: Engine, changed: Sequence[Change]
    ) -> Record:
        """Play and save round t, given the picks of all models by round, and return its record."""
        self.store.clear_workspace()
        bench = self.store.bench(t, engine)
        _, record = play(self._state(t, made), self.environment, self.stage, bench=bench)
        self.stage(t, "save")
        with uninterrupted():
            self.store.save_round(record, changed=changed)
        self.clear()
        self.stage.stop()
        return record

    def clear(self) -> None:
        """Remove what programs and engines have left."""
        self.store.clear_workspace()
        self.store.clear_shards()

    def _state(self, t: int, made: Mapping[int, Sequence[Picks]]) -> State:
        """Return the state before round t; no change is attributed, as others' picks have a part in it."""
        if t == 0:
            return self.store.first(self.environment)
        model = self.store.model(self.store.round_path(t - 1), self.environment)
        return State(t, model, tuple(self._taken(s, picks) for s, picks in made.items()))

    def _taken(self, s: int, made: Sequence[Picks]) -> Picks:
        """Return the picks of round s that this model is trained on."""
        config = self.environment.config
        own = next(model for model in config.models if model.name == self.name)
        names = [model.name for model in config.models]
        sizes = apportioned([own.trains_on.get(name, 0.0) for name in names], config.selection.picks)
        streams = [config.stream.at("round", s, "from", name) for name in names]
        return shared(made, sizes.tolist(), streams)


def _drive(
    folder: ModelsFolder,
    environment: Environment,
    monitor: Monitor,
    engine: Engine,
    changed: dict[str, list[Change]],
) -> Trajectory:
    """Play all rounds that are left, model by model."""
    cite("zhang2026")
    config = environment.config
    players = [
        _Player(name, store, replace(environment, config=config.of_model(name)), Stages(store, monitor, name))
        for name, store in folder.stores().items()
    ]
    monitor.started(_facts(folder, players[0]))
    for name, changes in changed.items():
        monitor.warn([f"{name}: {change} since the last round" for change in changes])
    done = folder.complete()
    results = _Results(folder, environment, players) if done else None
    for t in range(done, config.rounds + 1):
        counts: Counter[str] = Counter()
        made = _made(players, t, accumulate=environment.setting.accumulate)
        for player in players:
            if player.store.complete() > t:  # done before the process that went before died
                counts.update(player.store.counts(t))
                continue
            record = player.play(t, made, engine, changed.pop(player.name, ()))
            counts.update(record.counts)
            monitor.warn([f"{player.name}: {note}" for note in record.notes])
        counts.pop("round", None)
        monitor.counts(t, dict(counts))
        results = results or _Results(folder, environment, players)
        results.write(t)
        monitor.finished(t, results.trajectory)
    assert results is not None  # a run has a round 0
    for player in players:
        player.clear()
    results.write(config.rounds)  # again, in case the process died between the last round and its trajectory
    return results.trajectory


def _made(players: Sequence[_Player], t: int, *, accumulate: bool) -> dict[int, list[Picks]]:
    """Return the picks of all models in the rounds on which round t is trained."""
    first = 0 if accumulate else max(t - 1, 0)
    return {s: [player.store.picks(s, player.environment) for player in players] for s in range(first, t)}


def _facts(folder: ModelsFolder, player: _Player) -> dict[str, Any]:
    """Return facts about the run of all models, for its monitors."""
    found = facts_of(player.store, player.environment) | {"run": str(folder.path)}
    rows = {
        f"{model.name} trains on": ", ".join(f"{share:.4g} {name}" for name, share in model.trains_on.items())
        for model in player.environment.config.models
    }
    done = folder.complete()
    found.pop("complete_rounds_found", None)
    return {**found, **rows, **({"complete_rounds_found": done} if done else {})}


# --- the law beside what was measured ---


class _Results:
    """The exact law of all models, from their candidates of round 0, and what is measured of each round.

    Args:
        folder: Folder of the models, of which round 0 is complete.
        environment: Environment of all models.
        players: The models.
    """

    def __init__(self, folder: ModelsFolder, environment: Environment, players: Sequence[_Player]) -> None:
        self._folder, self._environment, self._players = folder, environment, players
        config = environment.config
        self._models = [model.plain for model in config.models]
        played, setting, first = folder.law(config)
        laws = list(played.play(setting))
        rows = forecast_rows(laws, played, self._models, first.names)
        self._forecast, self._measured = Trajectory(tuple(rows)), Trajectory()
        self._own = self._of_each(folder.candidates(0, environment)[0], laws)
        for t in range(folder.complete()):
            self._measure(t)

    @property
    def trajectory(self) -> Trajectory:
        """Forecast and measured values of all models; the group of a row is a model."""
        return self._forecast + self._measured

    def write(self, t: int) -> None:
        """Write the trajectories of all models and of each, after round t."""
        if not self._measured.where(round=t).rows:
            self._measure(t)
        for player, own in zip(self._players, self._own, strict=True):
            player.store.save_results(own + player.store.measured(), [])
            player.store.thin(player.environment.config)
        self._folder.save_trajectory(self.trajectory)

    def _measure(self, t: int) -> None:
        found, names = self._folder.candidates(t, self._environment)
        rows = measured_rows(t, replace(found, groups=names), self._models)
        self._measured += Trajectory(tuple(rows))

    def _of_each(self, first: Candidates, laws: Sequence[FloatArray]) -> list[Trajectory]:
        """Return the forecast of every model with all quantities of an ordinary run, without bands."""
        reference, cells = self._environment.reference, self._environment.cells
        atoms = first
        if len(laws[0]) > len(first):  # real data are mixed in
            assert reference is not None
            atoms = first.join(reference)
        labels = group_labels(self._environment) or group_names(first, None)
        describer = Describer(atoms, self._environment.setting.temperature, labels)
        codes = None if cells is None else cells.assign(atoms.rewards)
        found: list[list[Row]] = [[] for _ in self._players]
        for t, law in enumerate(laws):
            for own, p in zip(found, law.T, strict=True):
                kl = None if cells is None or codes is None else cells.kl(codes, p, len(first))
                own += describer.rows(t, FORECAST, describer.values(p, kl))
        return [Trajectory(tuple(rows)) for rows in found]
