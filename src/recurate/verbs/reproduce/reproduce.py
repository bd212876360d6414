"""Run a published experiment with several seeds and compare the results with the published claims.

What trains and its packages (the extra ``run``) are imported only where an experiment has trained arms.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recurate.core import progress
from recurate.core.errors import InputError
from recurate.engines.engine import RAY, SHARDS, opened
from recurate.log.trajectory import Trajectory
from recurate.verbs.options import need_run_extra
from recurate.verbs.reproduce.catalogue import experiment
from recurate.verbs.reproduce.claims import Finding, judge
from recurate.verbs.reproduce.experiment import Experiment

if TYPE_CHECKING:
    from recurate.loop.config import Config

Tell = Callable[[str], None]
USUAL = "processes"  # engine


@dataclass(frozen=True)
class Reproduction:
    """The runs of an experiment, and the verdict on each of its claims.

    Attributes:
        experiment: The experiment's setting and claims.
        scale: ``small`` or ``paper``.
        seeds: The seeds, in the order of the runs; none if nothing is trained.
        runs: The trajectories of each trained arm, one per seed, in the order of ``seeds``.
        laws: The trajectory of each exact arm.
        findings: The verdicts, in the order of the experiment's claims.
    """

    experiment: Experiment
    scale: str
    seeds: tuple[int, ...]
    runs: dict[str, list[Trajectory]]
    laws: dict[str, Trajectory]
    findings: tuple[Finding, ...]


def reproduce(
    name: str,
    out: Path,
    *,
    scale: str = "small",
    seeds: Sequence[int] | None = None,
    data: str | None = None,
    jobs: int | None = None,
    engine: str = USUAL,
    tell: Tell = lambda _: None,
) -> Reproduction:
    """Run every arm of an experiment with every seed, compute its laws, and judge the experiment's claims.

    Each run has a folder of its own. Complete runs are read, incomplete ones are resumed. An experiment
    without trained arms has no seeds.

    Args:
        name: Name of the experiment.
        out: Folder of the runs, which are OUT/ARM/seed-N.
        scale: ``small`` or ``paper``.
        seeds: Seeds of the runs; None: as many as the experiment asks for.
        data: Path of CIFAR-10, which the scale ``paper`` needs.
        jobs: Number of simultaneous runs. None: one per processor core (on Ray, of the cluster), or one at
            the scale ``paper``.
        engine: Engine that executes the runs: ``local``, ``processes``, ``ray`` or another engine's name.
        tell: Function that is called with one line of text when a run is complete.

    Raises:
        InputError: If the experiment, scale or engine is unknown, the experiment would not use the seeds,
            jobs or data, the folder has another experiment or runs of other settings, or a run fails.
    """
    chosen = experiment(name, scale, data)
    _check_folder(out, chosen, scale)
    seeds = _seeds(chosen, seeds)
    asked = {f"{jobs} jobs": jobs is not None, f"engine {engine}": engine != USUAL}
    if not chosen.arms and any(asked.values()):
        raise InputError(
            f"{chosen.name} has no runs to do at once or elsewhere",
            got=", ".join(name for name, given in asked.items() if given),
            remedy="leave them out",
        )
    if engine == SHARDS:
        raise InputError(
            "runs of a reproduction are done whole", got=f"engine {SHARDS}", remedy="use processes or ray"
        )
    stages = [
        [_task(out, arm, config, seed) for seed in seeds for arm, config in runs.items()]
        for runs in (chosen.starts, chosen.arms)
    ]
    if chosen.trains:
        _check(config for config, _ in itertools.chain(*stages))  # complaints come before work
    progress.stage("computing laws")
    laws = {arm: law() for arm, law in progress.steps(chosen.laws.items(), len(chosen.laws))}
    out.mkdir(parents=True, exist_ok=True)
    if any(stages):
        most = max(map(len, stages))
        count = jobs or (1 if scale == "paper" else max(1, min(os.cpu_count() or 1, most)))
        everywhere = engine.startswith(RAY) and not jobs and scale == "small"
        _play(stages, engine, None if everywhere else count, tell)
    runs = {arm: [_read(chosen, arm, folder_of(out, arm, seed)) for seed in seeds] for arm in chosen.arms}
    turns = [(arm, play, seed) for arm, play in chosen.played.items() for seed in seeds]
    if turns:
        progress.stage("training")
    for arm, play, seed in progress.steps(turns, len(turns)):
        runs.setdefault(arm, []).append(play(seed))
    by_seed = [{arm: found[i] for arm, found in runs.items()} for i in range(len(seeds))]
    findings = tuple(judge(claim, by_seed, laws) for claim in chosen.claims)
    return Reproduction(chosen, scale, seeds, runs, laws, findings)


def _check_folder(out: Path, chosen: Experiment, scale: str) -> None:
    """Refuse a folder with the results of another experiment, or of another scale where it has several."""
    try:
        old = json.loads((out / "reproduce.json").read_bytes())
        held = (old["experiment"], old["scale"])
    except (OSError, ValueError, TypeError, KeyError):
        return  # no results, or none that name an experiment
    if held[0] != chosen.name or (chosen.arms and held[1] != scale):
        raise InputError(
            "the folder has the results of another experiment", got=f"{out}: {held[0]}, scale {held[1]}",
            remedy="name another folder with --out",
        )  # fmt: skip


def _seeds(chosen: Experiment, seeds: Sequence[int] | None) -> tuple[int, ...]:
    """Return the seeds of the runs; none if nothing is trained."""
    if seeds is None:
        return tuple(range(chosen.seeds)) if chosen.trains else ()
    if not chosen.trains:
        raise InputError(
            f"{chosen.name} trains nothing, so it has no seeds", got=f"{len(seeds)} seeds",
            remedy="leave them out",
        )  # fmt: skip
    if len(set(seeds)) < len(seeds):
        raise InputError(
            "a seed is given twice, and equal runs have no interval", got=", ".join(map(str, seeds)),
            remedy="give different seeds",
        )  # fmt: skip
    return tuple(seeds)


def _check(configs: Iterable[dict[str, Any]]) -> None:
    """Check that the extra ``run`` is there, and every configuration."""
    need_run_extra()
    from recurate.loop.config import parse_config

    for config in configs:
        parse_config(config)


def _read(chosen: Experiment, arm: str, folder: Path) -> Trajectory:
    """Return a run's trajectory, with the rows that the experiment derives from its folder."""
    found = Trajectory.read(folder / "trajectory.parquet")
    if chosen.derived is None:
        return found
    from recurate.loop.run_folder import RunFolder

    return found + chosen.derived(arm, RunFolder.open(folder))


def _play(
    stages: Sequence[Sequence[tuple[dict[str, Any], str]]], engine: str, jobs: int | None, tell: Tell
) -> None:
    """Do the runs of each stage on an engine, one stage after the other."""
    with opened(engine, jobs) as workers:
        for tasks in stages:
            progress.stage("running the experiment")
            for i, folder in enumerate(workers.map(play_run, tasks), 1):
                tell(f"done ({i} of {len(tasks)}): {folder}")
                progress.step(i, len(tasks))


def _task(out: Path, arm: str, config: dict[str, Any], seed: int) -> tuple[dict[str, Any], str]:
    """Return the configuration and the folder of a run, which may start from the model of another one."""
    config = config | {"seed": seed}
    start = config.pop("start", None)
    if start is not None:
        model = folder_of(out, start, seed) / "rounds" / "000" / "model"
        config["generator"] = config["generator"] | {"model": str(model)}
    return config, str(folder_of(out, arm, seed))


def folder_of(out: Path, arm: str, seed: int) -> Path:
    """Return the folder of the run of one arm with one seed."""
    return out / re.sub(r"[^\w.]+", "-", arm) / f"seed-{seed}"


def play_run(task: tuple[dict[str, Any], str]) -> str:
    """Start a run, or resume it if it is incomplete; return its folder.

    Args:
        task: The run's configuration, as a dictionary, and its folder.

    Raises:
        InputError: If the configuration or the folder is invalid, or the folder has a run of other settings.
        Stopped: If an alarm stops the run.
    """
    from recurate.loop import driver, several
    from recurate.loop.config import parse_config
    from recurate.loop.models_folder import ModelsFolder
    from recurate.loop.run_folder import RunFolder

    settings, path = parse_config(task[0]), Path(task[1])
    if not (path / "manifest.json").exists():
        (several if settings.models else driver).run(settings, path)
        return task[1]
    store = (ModelsFolder if settings.models else RunFolder).open(path)
    _check_same(settings, store.config(), path)
    if store.complete() <= settings.rounds:
        (several if settings.models else driver).resume(path)
    else:
        store.verify()
    return task[1]


def _check_same(asked: Config, kept: Config, path: Path) -> None:
    """Refuse the run of another experiment, scale or path of data: it is not what the claims are about."""
    one, other = (config.model_dump(mode="json", exclude={"report"}) for config in (asked, kept))
    for settings in (one, other):
        settings["generator"].pop("model", None)  # its path follows from the folder's
    names = [name for name in one if one[name] != other[name]]
    if names:
        raise InputError(
            "a run in this folder has other settings than the experiment",
            got=f"{path}, which differs in {', '.join(names)}",
            remedy="take another folder with --out, or delete this one",
        )
