"""How much of a selection does one retraining pass on, and what raises it?

    python benchmarks/transmission.py [--seeds 3] [--out benchmarks/results]

A flow-matching model with an MLP is trained on handwritten digits (8 x 8) and on Fashion-MNIST (14 x 14;
6,000 images). Of slates of four samples one is picked by Luce's rule, with the reward 2 P(class 3); the model
is retrained on the picks, in several ways that start from the same model, and sampled again. The share passed
on is the change of a mean over the change that the picks ask for. Times are of the retraining alone, relative
to those of "defaults", which is an MLP 128 wide with the usual steps: that larger samples get a wider one by
default follows from these results. Fashion-MNIST is found through RECURATE_DATA.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, table

from recurate.components.generators.flow import FlowMatching, FlowSettings
from recurate.core.seeds import Stream
from recurate.loop.config import parse_config
from recurate.loop.environment import prepare
from recurate.rules import Rule

K, WIDTH = 4, 128
BASE = f"defaults: {WIDTH} wide, with the usual steps; samples of over 64 numbers are wider by default since"
DATA = {
    "digits": ({"kind": "digits"}, 1500),
    "fashion": ({"kind": "images", "path": "fashion_mnist", "size": 6000, "resize": 14}, 3000),
}


@dataclass(frozen=True)
class Arm:
    """A way to retrain: settings that differ from "defaults", and the multiple of its steps."""

    name: str
    settings: dict[str, Any]
    times: float = 1.0


ARMS = (
    Arm("defaults", {}),
    Arm("half the steps", {}, 0.5),
    Arm("twice the steps", {}, 2.0),
    Arm("four times the steps", {}, 4.0),
    Arm("random pairs in place of optimal transport", {"coupling": "independent"}),
    Arm("from scratch, first_steps", {"warm_start": False}),
    Arm("width 256", {"width": 256}),
    Arm("width 256, twice the steps", {"width": 256}, 2.0),
)


@dataclass
class Round:
    """Samples of a model with what describes them."""

    reward: np.ndarray
    groups: np.ndarray

    def means(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return E r, E e^r and the share of class 3."""
        rows = np.arange(self.reward.size) if rows is None else rows
        own = self.reward[rows]
        return np.array([own.mean(), np.exp(own).mean(), (self.groups[rows] == "3").mean()])


def measured(data: str, seed: int, results: dict[tuple[str, str], list[np.ndarray]]) -> None:
    source, picks = DATA[data]
    reward = {"kind": "classifier", "score": "probability", "label": "3", "gamma": 2.0}
    config = parse_config(
        {"seed": seed, "rounds": 1, "data": source, "generator": {"kind": "flow"}, "rewards": [reward],
         "groups": {"kind": "classifier"}, "selection": {"k": K, "picks": picks}}
    )  # fmt: skip
    environment = prepare(config)
    assert environment.dataset is not None

    def judged(model: FlowMatching, stream: Stream) -> tuple[Any, Round]:
        samples = model.sample(K * picks, rng=stream)
        found = environment.score(samples)
        assert found.groups is not None
        return samples, Round(found.rewards[:, 0], found.groups)

    starts: dict[int, tuple[FlowMatching, Any, Round, np.ndarray]] = {}
    for arm in ARMS:
        width = arm.settings.get("width", WIDTH)
        stream = Stream(seed).at("transmission", data)
        if width not in starts:
            model = FlowMatching(FlowSettings(width=width)).fit(
                environment.dataset.train, rng=stream.at("first")
            )
            samples, before = judged(model, stream.at("before"))
            rewards = before.reward.reshape(-1, K)
            slots = Rule(k=K).draw(rewards, stream.at("picks").generator())
            starts[width] = model, samples, before, np.arange(len(slots)) * K + slots
        model, samples, before, picked = starts[width]
        steps = round(arm.times * model.settings.recipe(model.shape).steps)
        settings = FlowSettings(**(arm.settings | {"width": width, "steps": steps}))
        begun = time.process_time()
        after = replace(model, settings=settings).fit(samples[picked], rng=stream.at("again", arm.name))
        seconds = time.process_time() - begun
        found = judged(after, stream.at("after", arm.name))[1]
        old, asked, new = before.means(), before.means(picked), found.means()
        results[data, arm.name].append(np.array([steps, seconds, *((new - old) / (asked - old))]))
        print(data, seed, arm.name, np.round(results[data, arm.name][-1], 3), flush=True)


def lines(results: dict[tuple[str, str], list[np.ndarray]]) -> list[str]:
    rows = []
    for (data, name), found in results.items():
        values = np.array(found)
        base = np.array(results[data, "defaults"])[:, 1]
        ratio = np.median(values[:, 1] / base)
        spread = [f"{v.mean():.0%} ({v.min():.0%} to {v.max():.0%})" for v in values[:, 2:].T]
        rows.append([data, name, f"{values[0, 0]:.0f}", f"{ratio:.1f}", *spread])
    head = ["data", "retraining", "steps", "time, relative", "of E r", "of E e^r", "of the share of class 3"]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    results: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for data in DATA:
        for seed in range(arguments.seeds):
            measured(data, seed, results)
    text = ["# What retraining passes on of a selection", "", "`python benchmarks/transmission.py`", ""]
    text += [f"- {name}: {value}" for name, value in machine(["torch"]).items()]
    text += [
        f"- mean over {arguments.seeds} seeds, and the smallest and the largest",
        f"- {BASE}",
        "",
        *lines(results),
        "",
    ]
    (arguments.out / "transmission.md").write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
