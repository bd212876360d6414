"""How well do forecasts of trained loops on images hold that learn what retraining passes on?

    python benchmarks/fidelity.py [--folder FOLDER] [--seeds 3] [--out benchmarks/results]

Loops of six rounds on digits (8 x 8), Fashion-MNIST (14 x 14) and CIFAR-10 (grey, 16 x 16), with K = 2, 4 and
8 and with 0 and 30 % real data, are run into FOLDER (complete ones are kept). From every round t >= 1 on, the
later rounds are forecast from rounds 0 to t, and compared with what was measured. Data sets are found through
RECURATE_DATA. The constants of recurate.theory.transmission were chosen on seed 0; the other seeds test them.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import itertools
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import machine, table

from recurate.core.seeds import Stream
from recurate.log.candidates import Rounds
from recurate.log.opening import open_log
from recurate.log.reading.mapping import Given
from recurate.log.trajectory import Row
from recurate.loop.run_folder import RunFolder
from recurate.metrics.estimates import NORMAL_975
from recurate.theory.forecast import measured_rounds, predict, reference_cells
from recurate.theory.setting import Setting
from recurate.theory.transmission import renewed

ROUNDS = 6
LEADS = (1, 2, 3, 5)
DATA = {
    "digits": ('kind = "digits"', 1500, "3"),
    "fashion": ('kind = "images"\npath = "fashion_mnist"\nsize = 6000\nresize = 14', 3000, "3"),
    "cifar": (
        'kind = "images"\npath = "cifar10_jpeg/cifar10_jpeg_train50k.npz"\n'
        'test = "cifar10_jpeg/cifar10_jpeg_test10k.npz"\nsize = 6000\ngrey = true\nresize = 16',
        3000,
        "0",
    ),
}
CONFIG = """seed = {seed}
rounds = {rounds}
[data]
{data}
[generator]
kind = "flow"
network = "mlp"
width = 320
learning_rate = 4e-3
batch = 128
coupling_batch = 128
first_steps = 5000
steps = 800
[[rewards]]
kind = "classifier"
gamma = 2.0
{reward}
[groups]
kind = "classifier"
[selection]
k = {k}
picks = {picks}
[retraining]
real_fraction = {real}
"""
BANDED = ("mean_reward", "mean_exp_reward", "var_exp_reward", "kl_to_reference", "entropy", "share")


@dataclass(frozen=True)
class Loop:
    """One loop: its data, K, real fraction and seed."""

    data: str
    k: int
    real: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-k{self.k}-rf{self.real:g}-s{self.seed}"

    def config(self, reward_of: Loop | None = None, rounds: int = ROUNDS) -> str:
        """Return the configuration; the reward may be that of another loop."""
        data, picks, label = DATA[self.data]
        # With K = 8 one class is preferred; else the classifier's confidence is, and no class is.
        preferred = (reward_of or self).k == 8
        reward = f'score = "probability"\nlabel = "{label}"' if preferred else 'score = "confidence"'
        return CONFIG.format(
            seed=self.seed, rounds=rounds, data=data, reward=reward, k=self.k, picks=picks, real=self.real
        )

    def run(self, folder: Path) -> Path:
        out = folder / self.name
        if not (out / "report.html").exists():
            path = folder / f"{self.name}.toml"
            path.write_text(self.config(), encoding="utf-8")
            done = (
                ["--resume", str(out)] if (out / "manifest.json").exists() else [str(path), "--out", str(out)]
            )
            subprocess.run([sys.executable, "-m", "recurate", "run", *done], check=True, capture_output=True)
            print(out, flush=True)
        return out


def loops(seeds: int) -> Iterator[Loop]:
    for seed, real, k, data in itertools.product(range(seeds), (0.0, 0.3), (4, 2, 8), DATA):
        yield Loop(data, k, real, seed)


Key = tuple[int, str, str | None, str | None]


def _error(row: Row) -> float:
    """Return the standard error of a measured value, from its 95 % interval."""
    assert row.lower is not None
    assert row.upper is not None
    return (row.upper - row.lower) / (2 * NORMAL_975)


def rows_of(rows: tuple[Row, ...]) -> dict[Key, Row]:
    return {(row.round, *row.key): row for row in rows}


class Scores:
    """Errors and coverage of forecasts of several loops."""

    def __init__(self) -> None:
        self.exp: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.share: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.inside: dict[str, list[bool]] = defaultdict(list)
        self.first: list[float] = []
        self.chance: list[float] = []

    def add(self, path: Path) -> None:
        config = RunFolder.open(path).config()
        found = Rounds.of(open_log(path, Given()).log, group="group", picks=config.selection.picks)
        rounds, real = list(found.generated.values()), found.real
        setting = Setting(
            config.selection.rule(),
            real_fraction=config.retraining.real_fraction,
            rounds=ROUNDS,
            picks=config.selection.picks,
        )
        cells = None if real is None else reference_cells(rounds[0], real)[0]
        measured = rows_of(measured_rounds(found, temperature=1.0, cells=cells).rows)
        start = rows_of(predict(rounds[0], setting, reference=real, cells=cells).trajectory.rows)
        for last in range(1, len(rounds) - 1):
            ahead = len(rounds) - 1 - last
            stream = Stream(config.seed).at("fidelity", last)
            result = renewed(rounds[: last + 1], setting, real, cells, ahead=ahead, stream=stream)
            if last == 1:
                self.first.append(result.passed[0].one.value)
            for key, row in rows_of(result.rows).items():
                if key[0] > last and key in measured:
                    self._compare(key, row, measured, start, last)

    def _compare(
        self, key: Key, row: Row, measured: dict[Key, Row], start: dict[Key, Row], last: int
    ) -> None:
        lead, seen, before = key[0] - last, measured[key].value, measured[(last, *key[1:])].value
        if key[1] == "mean_exp_reward":
            for name, value in (("learned", row.value), ("round 0", start[key].value), ("no change", before)):
                self.exp[name, lead].append(abs(value / seen - 1))
            if lead == 1:
                errors = [_error(measured[last + step, *key[1:]]) for step in (0, 1)]
                self.chance.append(float(np.hypot(*errors)) / seen)
        if key[1] == "share":
            for name, value in (("learned", row.value), ("round 0", start[key].value), ("no change", before)):
                self.share[name, lead].append(abs(value - seen))
        if key[1] in BANDED and row.lower is not None and row.upper is not None:
            self.inside[key[1]].append(row.lower <= seen <= row.upper)

    def lines(self) -> list[str]:
        head = ["error, median over loops and rounds", *(f"{lead} ahead" for lead in LEADS)]
        rows = [
            [f"{what}, {name}", *(f"{np.median(errors[name, lead]):{how}}" for lead in LEADS)]
            for what, errors, how in (("E e^r", self.exp, ".2%"), ("shares", self.share, ".4f"))
            for name in ("learned", "round 0", "no change")
        ]
        cells = [x for own in self.inside.values() for x in own]
        cover = [[name, f"{np.mean(own):.1%}", str(len(own))] for name, own in self.inside.items()]
        cover.append(["all", f"{np.mean(cells):.1%}", str(len(cells))])
        ratio, chance = (
            np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(self.exp["no change", 1])))
            for errors in (self.exp["learned", 1], self.chance)
        )
        return [
            *table(head, rows),
            "",
            f"Root-mean-square error of E e^r one round ahead: {ratio:.0%} of that of 'no change'; "
            f"{chance:.0%} is the chance of the two measurements, which a forecast that knows all else has "
            f"too. Passed on in round 1: median {np.median(self.first):.0%} of the selection, from "
            f"{min(self.first):.0%} to {max(self.first):.0%}.",
            "",
            *table(["measured inside the renewed 95 % band", "share", "cells"], cover),
            "",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("fidelity"), help="folder of the loops")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--complete", action="store_true", help="only loops that are complete in FOLDER")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    for folder in (arguments.folder, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    parts = {"seed 0, on which constants were chosen": Scores(), "other seeds": Scores()}
    names: dict[str, list[str]] = {part: [] for part in parts}
    for loop in loops(arguments.seeds):
        if arguments.complete and not (arguments.folder / loop.name / "report.html").exists():
            continue
        part = list(parts)[int(loop.seed > 0)]
        parts[part].add(loop.run(arguments.folder))
        names[part].append(loop.name)
    lines = ["# Forecasts that learn transmission", "", "`python benchmarks/fidelity.py`", ""]
    lines += [f"- {name}: {value}" for name, value in machine(["torch"]).items()]
    for part, scores in parts.items():
        if names[part]:
            lines += ["", f"## {part}: {len(names[part])} loops", "", *scores.lines()]
            lines += [f"Loops: {', '.join(names[part])}."]
    text = "\n".join(lines) + "\n"
    (arguments.out / "fidelity.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
