"""How much of a selection does one retraining pass on, and what raises it?

    python benchmarks/transmission.py [--data digits,fashion,cifar] [--seeds 0,1,2] [--out benchmarks/results]

A flow-matching model is trained on handwritten digits (8 x 8), on Fashion-MNIST (14 x 14; 6,000 images) and
on CIFAR-10 in grey (16 x 16; 6,000 images). Of slates of four samples one is picked by Luce's rule, with the
reward 2 P(class 3); the model is retrained on the picks, in several ways that start from the same model, and
sampled again. The share passed on is the change of a mean over the change that the picks ask for. Times are
processor times: of the first training, and of the retraining alone. Images are found through RECURATE_DATA.
Every line is kept in transmission.csv, and lines of the same data, retraining and seed are replaced: on two
cores the U-Net, the default from 16 x 16 on, takes about an hour per seed.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, table

from recurate.components.generators.flow import FlowMatching, FlowSettings
from recurate.core.seeds import Stream
from recurate.loop.config import parse_config
from recurate.loop.environment import prepare
from recurate.rules import Rule

K = 4
DATA = {
    "digits": ({"kind": "digits"}, 1500),
    "fashion": ({"kind": "images", "path": "fashion_mnist", "size": 6000, "resize": 14}, 3000),
    "cifar": (
        {
            "kind": "images",
            "path": "cifar10_jpeg/cifar10_jpeg_train50k.npz",
            "test": "cifar10_jpeg/cifar10_jpeg_test10k.npz",
            "size": 6000,
            "grey": True,
            "resize": 16,
        },
        1500,
    ),
}
HEAD = (
    "data", "retraining", "seed", "steps", "first_s", "seconds", "reward", "exp_reward", "share", "code",
    "date",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A way to retrain: settings that differ from the defaults, and the multiple of their steps.

    Attributes:
        name: Name of the line.
        settings: Settings that differ from the defaults.
        times: Multiple of the usual steps of these settings.
        network: Settings of the network, which the first model has too.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    times: float = 1.0
    network: dict[str, Any] = field(default_factory=dict)


USUAL = Arm("defaults")
ARMS = (
    USUAL,
    Arm("half the steps", times=0.5),
    Arm("twice the steps", times=2.0),
    Arm("four times the steps", times=4.0),
    Arm("random pairs in place of optimal transport", {"coupling": "independent"}),
    Arm("from scratch, first_steps", {"warm_start": False}),
    Arm("width 128", network={"width": 128}),
    Arm("width 512", network={"width": 512}),
)
MLP = {"network": "mlp"}
OF_DATA = {
    "digits": tuple(arm for arm in ARMS if arm.name != "width 128"),  # it is the default there
    "fashion": ARMS,
    "cifar": (
        USUAL,
        Arm("mlp", network=MLP),
        Arm("mlp, four times the steps", times=4.0, network=MLP),
        Arm("mlp, width 512", network=MLP | {"width": 512}),
    ),
}


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


def measured(data: str, seed: int, arms: Sequence[Arm], keep: Callable[[list[Any]], None]) -> None:
    """Measure the arms of one seed; ``keep`` is given every line's values as they come."""
    source, picks = DATA[data]
    reward = {"kind": "classifier", "score": "probability", "label": "3", "gamma": 2.0}
    config = parse_config(
        {"seed": seed, "rounds": 1, "data": source, "generator": {"kind": "flow"}, "rewards": [reward],
         "groups": {"kind": "classifier"}, "selection": {"k": K, "picks": picks}}
    )  # fmt: skip
    environment = prepare(config)
    assert environment.dataset is not None
    real = environment.dataset.train

    def judged(model: FlowMatching, stream: Stream) -> tuple[Any, Round]:
        samples = model.sample(K * picks, rng=stream)
        found = environment.score(samples)
        assert found.groups is not None
        return samples, Round(found.rewards[:, 0], found.groups)

    starts: dict[str, tuple[FlowMatching, Any, Round, np.ndarray, float]] = {}
    for arm in arms:
        stream, key = Stream(seed).at("transmission", data), str(arm.network)
        if key not in starts:
            begun = time.process_time()
            model = FlowMatching(FlowSettings(**arm.network)).fit(real, rng=stream.at("first"))
            first = time.process_time() - begun
            samples, before = judged(model, stream.at("before"))
            slots = Rule(k=K).draw(before.reward.reshape(-1, K), stream.at("picks").generator())
            starts[key] = model, samples, before, np.arange(len(slots)) * K + slots, first
        model, samples, before, picked, first = starts[key]
        steps = round(arm.times * model.settings.recipe(model.shape).steps)
        settings = FlowSettings(**(arm.network | arm.settings | {"steps": steps}))
        begun = time.process_time()
        after = replace(model, settings=settings).fit(samples[picked], rng=stream.at("again", arm.name))
        seconds = time.process_time() - begun
        found = judged(after, stream.at("after", arm.name))[1]
        old, asked, new = before.means(), before.means(picked), found.means()
        keep([data, arm.name, seed, steps, first, seconds, *((new - old) / (asked - old))])


def lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the table: one line per data and retraining, over its seeds."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault((row["data"], row["retraining"]), []).append(row)
    out = []
    for (data, name), own in found.items():
        usual = found.get((data, USUAL.name), [])
        base = {row["seed"]: float(row["seconds"]) for row in usual}
        ratios = [float(row["seconds"]) / base[row["seed"]] for row in own if row["seed"] in base]
        seconds = np.median([float(row["seconds"]) for row in own])
        first = np.median([float(row["first_s"]) for row in own])
        shares = np.array([[float(row[name]) for name in ("reward", "exp_reward", "share")] for row in own])
        spread = [f"{v.mean():.0%} ({v.min():.0%} to {v.max():.0%})" for v in shares.T]
        times = [f"{first:.0f}", f"{seconds:.0f}", f"{np.median(ratios):.1f}" if ratios else ""]
        out.append([data, name, str(len(own)), own[0]["steps"], *times, *spread])
    head = [
        "data", "retraining", "seeds", "steps", "first training, s", "retraining, s", "relative",
        "of E r", "of E e^r", "of the share of class 3",
    ]  # fmt: skip
    return table(head, out)


def order(row: dict[str, str]) -> tuple[int, int, int]:
    names = [arm.name for arm in OF_DATA[row["data"]]]
    return list(DATA).index(row["data"]), names.index(row["retraining"]), int(row["seed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=",".join(DATA), help="which data, separated by commas")
    parser.add_argument("--seeds", default="0,1,2", help="which seeds, separated by commas")
    parser.add_argument("--arms", help="which retrainings, separated by semicolons; all if absent")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    chosen, seeds = arguments.data.split(","), [int(seed) for seed in arguments.seeds.split(",")]
    wanted = arguments.arms.split(";") if arguments.arms else None
    if unknown := set(chosen) - set(DATA):
        parser.error(f"no such data: {sorted(unknown)}; there are {list(DATA)}")
    known = {arm.name for data in chosen for arm in OF_DATA[data]}
    if unknown := set(wanted or ()) - known:
        parser.error(f"no such retraining of these data: {sorted(unknown)}; there are {sorted(known)}")
    place, about = arguments.out / "transmission.csv", machine(["torch"])
    code, date = about["versions"].split("recurate ")[1].split(")")[0] + ")", about["date"]

    def keep(values: list[Any]) -> None:
        """Put a line into the file as it is now, which another seed's process may have written to."""
        spelt = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
        new = dict(zip(HEAD, [*spelt, code, date], strict=True))
        print(*new.values(), flush=True)
        rows = list(csv.DictReader(place.open(encoding="utf-8"))) if place.exists() else []
        rows = [row for row in rows if any(row[name] != new[name] for name in HEAD[:3])]
        rows = sorted([*rows, new], key=order)
        part = place.with_suffix(f".{os.getpid()}")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, HEAD, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(place)
        text = ["# What retraining passes on of a selection", "", "`python benchmarks/transmission.py`", ""]
        text += [f"- {name}: {value}" for name, value in about.items()]
        text += [
            "- mean over seeds, and the smallest and the largest; seconds are of processor time, medians"
        ]
        text += ["- every line's code and date: transmission.csv", "", *lines(rows), ""]
        (arguments.out / "transmission.md").write_text("\n".join(text), encoding="utf-8")

    for data in chosen:
        arms = [arm for arm in OF_DATA[data] if wanted is None or arm.name in wanted]
        for seed in seeds:
            measured(data, seed, arms, keep)


if __name__ == "__main__":
    main()
