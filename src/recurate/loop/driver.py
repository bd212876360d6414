"""The driver: it plays the rounds, writes the run folder, and forecasts from round 0."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from recurate.core.errors import InputError, Stopped
from recurate.core.files import full_disk_explained, uninterrupted
from recurate.core.fingerprints import Change
from recurate.core.seeds import Stream
from recurate.engines.engine import Elsewhere, Engine, Local, start
from recurate.log.schema import Log
from recurate.log.trajectory import Trajectory
from recurate.loop.alarms.protocol import Known
from recurate.loop.alarms.raising import Alarm, raised
from recurate.loop.asking import Picker
from recurate.loop.config import Config, parse_config, read_config
from recurate.loop.environment import Environment, prepare, rests_on
from recurate.loop.monitors.protocol import Monitor
from recurate.loop.rounds import begin, group_labels, play, winners_of
from recurate.loop.run_folder import RunFolder, check_trusted
from recurate.loop.shards import batches, do_range, released
from recurate.theory.bounds import plain_bounds
from recurate.theory.forecast import Forecast, predict, split_log


def run(
    config: Config,
    out: Path,
    monitor: Monitor | None = None,
    engine: Engine | None = None,
    picker: Picker | None = None,
) -> Trajectory:
    """Run a loop into a new folder and return forecast and measurement of every round.

    Args:
        config: Configuration of the run.
        out: New folder for it.
        monitor: Monitor of the run's events, or None.
        engine: Engine that samples and scores; None: this process. It does not change the result.
        picker: Whoever shows slates to people, if people pick.

    Raises:
        InputError: If the folder is not empty or is in use, the configuration does not fit the data, the
            model diverged, a program failed, or the disk is full. Complete rounds are kept.
        Stopped: If an alarm stopped the run.
        Waiting: If the engine leaves shards to others.
        WaitingForPeople: If people's answers are missing.
    """
    if config.models:
        raise InputError(
            "several models are trained by recurate.loop.several",
            got=", ".join(model.name for model in config.models),
            remedy="call its run, as recurate.run does",
        )
    RunFolder.check_vacant(out, config)
    config.generator.check()
    config.selection.check_memory()
    start(engine or Local(), config.engine.needs)
    watcher = monitor or Monitor()
    watcher.stage(-1, "set-up")
    with threadpool_limits(1), full_disk_explained(out, AGAIN.format(out)), released():
        found = rests_on(config)  # before anything of it is read
        environment = prepare(config)  # may refuse the configuration, so it precedes the folder
        _check_alarms(environment)
        with RunFolder(out).locked():
            with uninterrupted():
                folder = RunFolder.create(out, environment, found)
            return _drive(folder, environment, watcher, engine or Local(), picker=picker)


def resume(
    folder: Path,
    monitor: Monitor | None = None,
    *,
    accept_changes: bool = False,
    trust: bool = False,
    engine: Engine | None = None,
    picker: Picker | None = None,
) -> Trajectory:
    """Continue a run after its last complete round; the result equals an uninterrupted run's.

    Args:
        folder: Folder of the run.
        monitor: Monitor of the run's events, or None.
        accept_changes: Whether to continue if files that the run rests on have changed; the next round
            records the changes.
        trust: Whether to run the code that the configuration names although the run was not made here.
        engine: Engine that samples and scores; None: this process. It does not change the result.
        picker: Whoever shows slates to people, if people pick.

    Raises:
        InputError: If the folder is not a run's, is in use, has another format or was altered, if a file
            that the run rests on was altered, or if the run is a stranger's and runs code; also as for
            :func:`run`.
        Stopped: If an alarm stopped the run.
        Waiting: If the engine leaves shards to others.
        WaitingForPeople: If people's answers are missing.
    """
    store = RunFolder.open(folder)
    with threadpool_limits(1), full_disk_explained(folder, AGAIN.format(folder)), store.locked(), released():
        check_trusted(folder / "config.toml", trust=trust)
        if not accept_changes:
            store.check_present()
        store.verify(results=False)
        config = store.config()
        _check_alone(config, folder)
        config.generator.check()
        start(engine or Local(), config.engine.needs)
        changed = store.check_unchanged(config, rests_on(config), accept=accept_changes)
        if changed:
            store.clear_shards()  # what was begun may rest on what was before
        return _drive(
            store, store.environment(config), monitor or Monitor(), engine or Local(), changed, picker
        )


def do_shards(folder: Path, index: int, of: int, *, trust: bool = False) -> dict[str, list[int]]:
    """Do every ``of``-th shard of a run's next round, from ``index`` on, whose model is trained.

    A shard that is done is left as it is. ``run`` or ``resume`` with the engine ``shards`` trains the model,
    and plays the round once all shards are done.

    Args:
        folder: Folder of the run.
        index: First shard, 0, ..., of - 1.
        of: Number of parts into which the shards are divided.
        trust: Whether to run the code that the configuration names although the run was not made here.

    Returns:
        The numbers of the shards, by the arm of the round.

    Raises:
        InputError: If no shards are waited for; also as for :func:`resume`.
    """
    if not 0 <= index < of:
        raise InputError("index must lie in 0, ..., of - 1", got=f"{index} of {of}", remedy="count from 0")
    store = RunFolder.open(folder)
    with full_disk_explained(folder, "make room, then give the command again"), released():
        check_trusted(folder / "config.toml", trust=trust)
        store.check_present()
        store.verify(results=False)
        config = store.config()
        config.generator.check()
        store.check_unchanged(config, rests_on(config))
        found = batches(store)
        if not found:
            raise InputError(
                f"no shards of round {store.complete()} are waited for",
                got=folder,
                remedy=f"recurate run --resume {folder} --engine shards trains its model first",
            )
        return {path.name.rpartition("-")[2]: do_range(path, index, of) for path in found}


def train_round(task: tuple[str, int]) -> int:
    """Train the model of a run's next round and begin its shards, as a task of an engine.

    Args:
        task: Folder of the run, and how often the round was rolled back.

    Returns:
        The number of the round.
    """
    folder, attempt = Path(task[0]), task[1]
    if not folder.is_dir():
        raise InputError(
            "the folder of the run cannot be seen on this machine",
            got=folder,
            remedy="put the run on a file system that all workers share, or engine.training = 'here'",
        )
    store = RunFolder.open(folder)
    with threadpool_limits(1):  # sums of BLAS depend on the number of its threads
        config = store.config()
        environment = store.environment(config)
        state = store.state(environment) or store.first(environment)
        begin(state, environment, attempt, store.bench(state.round, Elsewhere()))
    return state.round


def waiting_run(path: Path, under: Path, *, trust: bool = False) -> Path:
    """Return the folder of the run that was begun with a configuration and waits for shards.

    Args:
        path: Configuration file.
        under: Folder in which runs are looked for.
        trust: Whether to run the code that the configuration names although it may be somebody else's.

    Raises:
        InputError: If there is no such run, or there are several.
    """
    check_trusted(path, trust=trust)
    wanted = read_config(path)
    found = []
    for file in sorted(under.glob("*/config.toml")):
        store = RunFolder(file.parent)
        try:
            if batches(store) and parse_config(store.settings(), str(file)) == wanted:
                found.append(file.parent)
        except InputError:  # another run's folder is damaged, or made by another version
            continue
    if not found:
        raise InputError(
            f"no run of this configuration under {under} waits for shards",
            got=path,
            remedy=f"begin one: recurate run {path} --engine shards; or name its folder",
        )
    if len(found) > 1:
        raise InputError(
            f"several runs of this configuration under {under} wait for shards",
            got=", ".join(map(str, found)),
            remedy="name the folder: recurate shard FOLDER --index I --of N",
        )
    return found[0]


def _check_alone(config: Config, folder: Path) -> None:
    """Refuse to go on with one of several models, which trains on the others' picks, too."""
    if config.model is not None:
        raise InputError(
            f"this is the run of {config.model!r}, one of several models that train on each other's picks",
            got=folder,
            remedy=f"recurate run --resume {folder.absolute().parent.parent} goes on with all of them",
        )


AGAIN = "make room, then recurate run --resume {}"


def _check_alarms(environment: Environment) -> None:
    known = Known(
        tuple(environment.rewards),
        tuple(environment.tracked),
        group_labels(environment),
        tuple(space.name for space in environment.watch.spaces),
    )
    for alarm in environment.config.alarms:
        alarm.check(known)


def forecast_run(log: Log, environment: Environment) -> Forecast:
    """Forecast all rounds from round 0's log, with the run's own settings."""
    group = "group" if environment.grouping is not None else None
    candidates, reference = split_log(log, group=group, track=tuple(environment.tracked))
    setting = environment.setting
    if setting.picks is None:  # a verifier: as many as it accepted in round 0
        setting = replace(setting, picks=len(winners_of(log, environment)))
    return predict(
        candidates,
        setting,
        reference=reference,
        cells=environment.cells,
        stream=Stream(environment.config.seed).at("forecast"),
        bounds=True,
    )


def _drive(
    folder: RunFolder,
    environment: Environment,
    monitor: Monitor,
    engine: Engine,
    changed: Sequence[Change] = (),
    picker: Picker | None = None,
) -> Trajectory:
    """Play all rounds that are left. BLAS runs on one thread, because its sums depend on their number."""
    config = environment.config
    stage = Stages(folder, monitor)
    monitor.started(facts_of(folder, environment))
    monitor.warn([f"{change} since the last round" for change in changed])
    state = folder.state(environment) or folder.first(environment)
    forecast = forecast_run(folder.log(0), environment) if state.round > 0 else None
    found = folder.measured()
    while state.round <= config.rounds:
        t, attempt = state.round, folder.attempts(state.round)
        folder.clear_workspace()
        following, record = play(
            state, environment, stage, attempt, folder.bench(t, engine, train_round, picker)
        )
        monitor.counts(t, record.counts)
        monitor.warn(record.notes)
        known = Trajectory() if forecast is None else forecast.trajectory
        alarms = raised(config.alarms, known + found + record.measured, t)
        for alarm in alarms:
            monitor.alarm(t, alarm.message, alarm.action)
        back = any(alarm.action == "rollback" for alarm in alarms)
        stage(t, "save")
        with uninterrupted():
            kept = [asdict(a) for a in alarms]
            folder.save_round(record, kept, changed, reject=attempt if back else None)
        folder.clear_shards()
        if back:
            stage.stop()
            if attempt + 1 >= config.attempts:
                raise Stopped(_rolled_back(folder, alarms, t, attempt + 1))
            continue
        changed = ()
        state = folder.settled(following, environment)
        folder.thin(config)
        found += record.measured
        del following, record  # a round's samples may be large
        if forecast is None:
            stage(t, "forecast")
            forecast = forecast_run(folder.log(0), environment)
            monitor.warn(forecast.warnings)
        stage(t, "trajectory")
        trajectory = _write_trajectory(folder, forecast, found)
        stage.stop()
        monitor.finished(t, trajectory)
        if any(alarm.action == "stop" for alarm in alarms):
            raise Stopped(_stopped(folder, alarms, t))
    folder.clear_workspace()
    folder.clear_shards()
    assert forecast is not None  # a run has a round 0
    # Again, in case the process died between the last round and its trajectory.
    return _write_trajectory(folder, forecast, found)


def _stopped(folder: RunFolder, alarms: list[Alarm], t: int) -> str:
    cause = next(alarm for alarm in alarms if alarm.action == "stop")
    return (
        f"stopped after round {t}: {cause.message}\n  recurate run --resume {folder.path} continues it "
        "nevertheless"
    )


def _rolled_back(folder: RunFolder, alarms: list[Alarm], t: int, times: int) -> str:
    cause = next(alarm for alarm in alarms if alarm.action == "rollback")
    return (
        f"rolled back to round {t - 1}: round {t} was played {times} times, each time with an alarm: "
        f"{cause.message}\n  these rounds are kept in {folder.path / 'rejected'}; "
        f"recurate run --resume {folder.path} tries again"
    )


def _write_trajectory(folder: RunFolder, forecast: Forecast, found: Trajectory) -> Trajectory:
    trajectory = forecast.trajectory + found
    folder.save_results(trajectory, plain_bounds(forecast.bounds))
    return trajectory


def facts_of(folder: RunFolder, environment: Environment) -> dict[str, Any]:
    """Return facts about a run, for its monitors."""
    config, done = environment.config, folder.complete()
    return {
        "run": str(folder.path),
        "data": "none" if config.data is None else config.data.title,
        "rewards": ", ".join(f"{r.name} ({r.kind})" for r in config.rewards),
        **environment.facts(),
        **_of_selection(config),
        "real_fraction": config.retraining.real_fraction,
        **({"retraining": "accumulates"} if config.retraining.mode == "accumulate" else {}),
        **({"alarms": ", ".join(f"{a.kind} ({a.action})" for a in config.alarms)} if config.alarms else {}),
        "rounds": config.rounds,
        **({"complete_rounds_found": done} if done else {}),
    }


def _of_selection(config: Config) -> dict[str, Any]:
    """Return how candidates are selected: slates and picks, or a verifier's level and errors."""
    selection = config.selection
    if selection.threshold is None:
        return {"k": selection.k, "picks_per_round": selection.picks}
    rates = {"false_rejection": selection.false_rejection, "false_acceptance": selection.false_acceptance}
    return {
        "threshold": selection.threshold,
        **{name: rate for name, rate in rates.items() if rate},
        "candidates_per_round": selection.shown,
        "most_picks_per_round": selection.picks,
    }


class Stages:
    """Reports every stage to the monitor and writes its duration to the run folder.

    Args:
        folder: Folder of the run.
        monitor: Monitor of the run's events.
        whose: Name that the monitor is told with every stage, of one of several models.
    """

    def __init__(self, folder: RunFolder, monitor: Monitor, whose: str = "") -> None:
        self._folder = folder
        self._monitor = monitor
        self._whose = f"{whose}: " if whose else ""
        self._current: tuple[int, str, float] | None = None

    def __call__(self, round: int, name: str) -> None:  # noqa: A002
        """End the stage before and begin one."""
        self.stop()
        self._current = (round, name, time.perf_counter())
        self._monitor.stage(round, self._whose + name)

    def stop(self) -> None:
        """End the stage and write its duration."""
        if self._current is not None:
            t, name, since = self._current
            self._folder.add_timing(t, name, time.perf_counter() - since)
        self._current = None
