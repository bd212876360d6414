"""A dry run: every step of a round once, on ten items, in a temporary folder."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.components.protocols import Generator
from recurate.components.registry import first_model
from recurate.core.seeds import Stream
from recurate.log.samples import Samples, is_text
from recurate.loop.config import Config
from recurate.loop.environment import prepare

ITEMS = 10
SHOWN = 3  # number of samples in a preview


@dataclass(frozen=True)
class Step:
    """One step of a dry run: its title, its result in words, and its duration in seconds."""

    title: str
    result: str
    seconds: float


def rehearse(config: Config) -> list[Step]:
    """Prepare a run and try its generator, rewards and groups on ten items; nothing is kept.

    An external generator's commands are run as in a real run: trained on ten real samples, sampled from,
    trained again from its own checkpoint, sampled from again. Other generators are trained for a single step.

    Raises:
        InputError: For every reason that would have stopped the run.
    """
    steps: list[Step] = []
    since = time.perf_counter()

    def done(title: str, result: str) -> None:
        nonlocal since
        now = time.perf_counter()
        steps.append(Step(title, result, now - since))
        since = now

    with tempfile.TemporaryDirectory(prefix="recurate-dry-") as name:
        environment, stream = prepare(config), Stream(config.seed).at("dry run")
        dataset, known = environment.dataset, environment.contexts
        done("data and rewards", "no real data" if dataset is None else f"{len(dataset.train)} real samples")
        model: Generator = first_model(_quick(config.generator), Path(name) / "work", Path(name) / "logs")
        contexts = None if known is None else np.asarray(np.resize(known, ITEMS))
        if config.generator.trains_first:
            assert dataset is not None  # the configuration checks it
            real = dataset.train[:ITEMS]
            prompts = None if dataset.contexts is None else dataset.contexts[:ITEMS]
            model = model.fit(real, rng=stream.at("fit", 0), contexts=prompts, real=len(real))
            done("fit", "a checkpoint")
        samples = model.sample(ITEMS, rng=stream.at("sample", False), contexts=contexts)
        done("sample", _preview(samples, contexts))
        model = model.fit(samples, rng=stream.at("fit", 1), contexts=contexts, real=0)
        done("fit again", "a checkpoint")
        samples = model.sample(ITEMS, rng=stream.at("sample", True), contexts=contexts)
        done("sample", _preview(samples, contexts))
        scored = environment.score(samples, contexts)
        values = {name: scored.rewards[:, i] for i, name in enumerate(scored.names)} | dict(scored.tracked)
        ranges = [f"{name} {v.min():.4g} to {v.max():.4g}" for name, v in values.items()]
        if scored.groups is not None:
            ranges.append("groups " + ", ".join(sorted(set(scored.groups.tolist()))))
        done("rewards", "; ".join(ranges))
    return steps


def _quick(settings: Any) -> Any:
    """Return the settings with a single training step, where they have numbers of steps."""
    quick = {name: 1 for name in ("first_steps", "steps") if name in type(settings).model_fields}
    return settings.model_copy(update=quick)


def _preview(samples: Samples, contexts: NDArray[Any] | None) -> str:
    if not is_text(samples):
        return (
            f"{len(samples)} samples of shape {samples.shape[1:]}, {samples.min():.3g} to {samples.max():.3g}"
        )
    prompts = [""] * len(samples) if contexts is None else contexts
    shown = [f"{p!r} -> {s!r}" for p, s in zip(prompts[:SHOWN], samples[:SHOWN], strict=True)]
    return f"{len(samples)} texts, such as " + ", ".join(shown)
