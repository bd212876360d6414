"""The verb: run a published experiment with several seeds; compare what is found with what was claimed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recurate.engines.engine import engine_named
from recurate.log.trajectory import Trajectory
from recurate.loop.config import parse_config
from recurate.loop.driver import resume, run
from recurate.loop.run_folder import RunFolder
from recurate.verbs.reproduce.claims import Finding, judge
from recurate.verbs.reproduce.published import Experiment, experiment

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Reproduction:
    """An experiment that was run.

    Attributes:
        experiment: its setting and claims.
        scale: ``small`` or ``paper``.
        seeds: the seeds, in order.
        runs: trajectories by arm, a list in the order of the seeds.
        findings: every claim's verdict.
    """

    experiment: Experiment
    scale: str
    seeds: tuple[int, ...]
    runs: dict[str, list[Trajectory]]
    findings: tuple[Finding, ...]


def reproduce(
    name: str,
    out: Path,
    *,
    scale: str = "small",
    seeds: Sequence[int] = (0, 1, 2),
    data: str | None = None,
    jobs: int | None = None,
    engine: str = "processes",
    tell: Tell = lambda _: None,
) -> Reproduction:
    """Run an experiment's arms with every seed, each in a folder of its own; what is complete is not run
    again.

    Args:
        name: of the experiment.
        out: folder; runs are OUT/ARM/seed-N.
        scale: ``small`` or ``paper``.
        seeds: roots of the runs' randomness.
        data: where CIFAR-10 is, for the scale of the paper.
        jobs: runs at a time; None: one a processor core, and one on a GPU.
        engine: where runs are done: ``local``, ``processes``, or another engine's name.
        tell: called with a line whenever something happened.

    Raises:
        InputError: there is no such experiment, or a run cannot be made.
    """
    chosen = experiment(name, scale, data)
    tasks = [
        (config | {"seed": seed}, folder_of(out, arm, seed))
        for seed in seeds
        for arm, config in chosen.arms.items()
    ]
    for config, _ in tasks:
        parse_config(config)  # complaints come before work
    out.mkdir(parents=True, exist_ok=True)
    count = jobs or (1 if scale == "paper" else max(1, min(os.cpu_count() or 1, len(tasks))))
    for folder in engine_named(engine, count).map(play_run, [(c, str(folder)) for c, folder in tasks]):
        tell(f"done: {folder}")
    runs = {
        arm: [Trajectory.read(folder_of(out, arm, seed) / "trajectory.parquet") for seed in seeds]
        for arm in chosen.arms
    }
    by_seed = [{arm: found[i] for arm, found in runs.items()} for i in range(len(seeds))]
    findings = tuple(judge(claim, by_seed) for claim in chosen.claims)
    return Reproduction(chosen, scale, tuple(seeds), runs, findings)


def folder_of(out: Path, arm: str, seed: int) -> Path:
    """Return the folder of one run."""
    return out / arm.replace(" ", "-") / f"seed-{seed}"


def play_run(task: tuple[dict[str, Any], str]) -> str:
    """Start, continue or leave alone one run, as its folder needs it; return the folder."""
    settings, path = parse_config(task[0]), Path(task[1])
    if not (path / "manifest.json").exists():
        run(settings, path)
    elif RunFolder.open(path).complete() <= settings.rounds:
        resume(path)
    return task[1]
