"""A dry run: everything that a round needs, once, on ten items, in a temporary folder."""

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
from recurate.loop.environment import Environment, prepare

ITEMS = 10
SHOWN = 3  # samples that are shown


@dataclass(frozen=True)
class Step:
    """One step of a dry run: what was done, what came of it, and how long it took."""

    title: str
    result: str
    seconds: float


def rehearse(config: Config) -> list[Step]:
    """Prepare a run and try its generator, rewards and groups on ten items; nothing is kept.

    An external generator's commands are run as in a real run: trained on ten real samples, sampled from,
    trained again from its own checkpoint, sampled from again. Other generators are trained for a single step.

    Raises:
        InputError: whatever would have stopped the run.
    """
    steps: list[Step] = []
    with tempfile.TemporaryDirectory(prefix="recurate-dry-") as name:
        clock = time.perf_counter()
        world = prepare(config)
        data = "no real data" if world.dataset is None else f"{len(world.dataset.train)} real samples"
        steps.append(Step("data and rewards", data, time.perf_counter() - clock))
        model: Generator = first_model(_quick(config.generator), Path(name) / "work", Path(name) / "logs")
        picked: Samples | None = None
        for again in (False, True):
            clock = time.perf_counter()
            trained = _train(model, picked, world, config, again)
            if trained is not None:
                model = trained
                steps.append(
                    Step("fit again" if again else "fit", "a checkpoint", time.perf_counter() - clock)
                )
            clock = time.perf_counter()
            contexts = _contexts(world)
            picked = model.sample(
                ITEMS, rng=Stream(config.seed).at("dry run", "sample", again), contexts=contexts
            )
            steps.append(Step("sample", _preview(picked, contexts), time.perf_counter() - clock))
        clock = time.perf_counter()
        assert picked is not None
        scored = world.score(picked, contexts)
        values = {name: scored.rewards[:, i] for i, name in enumerate(scored.names)} | dict(scored.tracked)
        told = [f"{name} {v.min():.4g} to {v.max():.4g}" for name, v in values.items()]
        if scored.groups is not None:
            told.append("groups " + ", ".join(sorted(set(scored.groups.tolist()))))
        steps.append(Step("rewards", "; ".join(told), time.perf_counter() - clock))
    return steps


def _quick(settings: Any) -> Any:
    """Return the settings of the same model, trained for a step: those that know no steps as they are."""
    quick = {name: 1 for name in ("first_steps", "steps") if name in type(settings).model_fields}
    return settings.model_copy(update=quick)


def _train(
    model: Generator, picked: Samples | None, world: Environment, config: Config, again: bool
) -> Generator | None:
    """Train on ten items: real ones first, then what was sampled with as many real ones as there would be."""
    if not again and not config.generator.trains_first:
        return None
    rng = Stream(config.seed).at("dry run", "fit", int(again))
    real = None if world.dataset is None else world.dataset.train[:ITEMS]
    prompts = (
        None if world.dataset is None or world.dataset.contexts is None else world.dataset.contexts[:ITEMS]
    )
    if picked is None:
        assert real is not None  # the configuration checks it
        return model.fit(real, rng=rng, contexts=prompts, real=len(real))
    return model.fit(picked, rng=rng, contexts=_contexts(world), real=0)


def _contexts(world: Environment) -> NDArray[Any] | None:
    return None if world.contexts is None else np.asarray(np.resize(world.contexts, ITEMS))


def _preview(samples: Samples, contexts: NDArray[Any] | None) -> str:
    if not is_text(samples):
        return (
            f"{len(samples)} samples of shape {samples.shape[1:]}, {samples.min():.3g} to {samples.max():.3g}"
        )
    prompts = [""] * len(samples) if contexts is None else contexts
    shown = [f"{p!r} -> {s!r}" for p, s in zip(prompts[:SHOWN], samples[:SHOWN], strict=True)]
    return f"{len(samples)} texts, such as " + ", ".join(shown)
