"""The driver: plays rounds, keeps the folder, forecasts from round 0."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from recurate.forecasting import Forecast, predict, split_log
from recurate.generators.torches import choose_device
from recurate.loop.config import Config
from recurate.loop.monitor import Monitor, Silent
from recurate.loop.rounds import first_state, play
from recurate.loop.store import RunFolder
from recurate.loop.world import World, prepare
from recurate.records import Log
from recurate.seeds import Stream
from recurate.theory.evidence import plain_bounds
from recurate.theory.setting import Setting
from recurate.trajectory import Trajectory


def run(config: Config, out: Path, monitor: Monitor | None = None) -> Trajectory:
    """Run a loop into a new folder and return forecast and measurement of every round.

    Raises:
        InputError: the folder is not empty, or something in the configuration does not fit the data.
    """
    RunFolder.check_vacant(out, config)
    choose_device(config.generator.device)
    watcher = monitor or Silent()
    watcher.stage(-1, "set-up")
    with threadpool_limits(1):
        world = prepare(config)  # finds what does not fit before a folder is made
        return _drive(RunFolder.create(out, config, world), config, world, watcher)


def resume(folder: Path, monitor: Monitor | None = None) -> Trajectory:
    """Continue a run after its last complete round; the result equals an uninterrupted run's.

    Raises:
        InputError: the folder is not a run, is of a newer format, or was altered.
    """
    store = RunFolder.open(folder)
    config = store.config()
    store.verify()
    choose_device(config.generator.device)
    with threadpool_limits(1):
        return _drive(store, config, store.world(config), monitor or Silent())


def forecast_run(log: Log, config: Config, world: World) -> Forecast:
    """Forecast all rounds from round 0's log, with the run's own settings."""
    group = "group" if config.groups is not None else None
    candidates, reference = split_log(log, group=group)
    return predict(
        candidates,
        setting(config),
        reference=reference,
        cells=world.cells,
        stream=Stream(config.seed).at("forecast"),
        bounds=True,
    )


def setting(config: Config) -> Setting:
    """Return what the forecast needs to know of a configuration."""
    return Setting(
        rule=config.selection.rule(),
        weights=config.weights,
        real_fraction=config.retraining.real_fraction,
        rounds=config.rounds,
        picks=config.selection.picks,
    )


def _drive(folder: RunFolder, config: Config, world: World, monitor: Monitor) -> Trajectory:
    """Play all rounds that are left. BLAS runs on one thread: its sums depend on how many there are."""
    stage = _Stages(folder, monitor)
    monitor.started(_facts(folder, config, world))
    state = folder.state(config) or first_state(config, world)
    forecast = forecast_run(folder.log(0), config, world) if state.round > 0 else None
    found = folder.measured()
    while state.round <= config.rounds:
        t = state.round
        state, record = play(state, config, world, stage)
        stage(t, "save")
        folder.save_round(record)
        if forecast is None:
            stage(t, "forecast")
            forecast = forecast_run(record.log, config, world)
            monitor.warn(forecast.warnings)
        found += record.measured
        trajectory = _write_trajectory(folder, forecast, found)
        stage.stop()
        monitor.finished(t, trajectory)
    assert forecast is not None  # a run has a round 0
    # Again, in case the process died between the last round and its trajectory.
    return _write_trajectory(folder, forecast, found)


def _write_trajectory(folder: RunFolder, forecast: Forecast, found: Trajectory) -> Trajectory:
    trajectory = forecast.trajectory + found
    trajectory.write(folder.path / "trajectory.parquet")
    folder.save_bounds(plain_bounds(forecast.bounds))
    return trajectory


def _facts(folder: RunFolder, config: Config, world: World) -> dict[str, Any]:
    done = folder.complete()
    changed = [f"{k} {a} -> {b}" for k, (a, b) in folder.changed_packages().items()]
    return {
        "run": str(folder.path),
        "data": config.data.kind,
        "rewards": ", ".join(f"{r.name} ({r.kind})" for r in config.rewards),
        **world.facts(),
        "k": config.selection.k,
        "picks_a_round": config.selection.picks,
        "real_fraction": config.retraining.real_fraction,
        "rounds": config.rounds,
        **({"complete_rounds_found": done} if done else {}),
        **({"packages_changed_since": ", ".join(changed)} if changed else {}),
    }


class _Stages:
    """Tells the monitor what begins and writes down how long it took."""

    def __init__(self, folder: RunFolder, monitor: Monitor) -> None:
        self._folder = folder
        self._monitor = monitor
        self._current: tuple[int, str, float] | None = None

    def __call__(self, round: int, name: str) -> None:  # noqa: A002
        self.stop()
        self._current = (round, name, time.perf_counter())
        self._monitor.stage(round, name)

    def stop(self) -> None:
        if self._current is not None:
            t, name, since = self._current
            self._folder.add_timing(t, name, time.perf_counter() - since)
        self._current = None
