"""Do plans hold? The planned setting of three trained loops is run, and measured against its plan.

    python benchmarks/planning.py [--folder FOLDER] [--out benchmarks/results]

For the loops of benchmarks/fidelity.py with one preferred class (digits, Fashion-MNIST, CIFAR-10 in grey;
K = 8, 30 % real data, seed 1), K and the real fraction are planned from the candidates of round 0 alone: the
largest expected reward after four rounds whose divergence from the real data stays below 0.5 nats. Then the
loop is run at the planned setting. "Passed on" plans again with the efficacy that the parent loop's first two
retrainings showed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from fidelity import Loop, rows_of
from measuring import machine, table

import recurate
from recurate.log.candidates import Rounds
from recurate.log.opening import open_log
from recurate.log.reading.mapping import Given
from recurate.theory.forecast import measured_rounds, predict, reference_cells
from recurate.theory.setting import Setting
from recurate.theory.transmission import renewed

AHEAD, NATS, SEED = 4, 0.5, 1
KS, REAL = [2, 3, 4, 6, 8, 12], [0.1, 0.2, 0.3, 0.5, 0.7]
QUANTITIES = (("mean reward", "mean_reward"), ("E e^r", "mean_exp_reward"), ("KL, nats", "kl_to_reference"))


def rounds_of(path: Path) -> Rounds:
    return Rounds.of(open_log(path, Given()).log, group="group")


def planned(parent: Path, efficacy: float = 1.0) -> tuple[int, float]:
    """Return K and the real fraction."""
    found = recurate.plan(
        str(parent), kl=NATS, rounds=AHEAD, k=KS, real_fraction=REAL, efficacy=efficacy, group="group"
    )
    return int(found.setting.choice.k), found.setting.choice.real_fraction


def efficacy_of(parent: Path, setting: Setting) -> float:
    """Return the part of a selection that the parent's first two retrainings passed on."""
    found = rounds_of(parent)
    first = [found.generated[t] for t in found.numbers[:3]]
    known = renewed(first, setting, found.real).transmission.one.usable
    return max(known, 0.01)  # a plan knows no loss beyond what was selected


def compare(data: str, folder: Path) -> list[list[str]]:
    """Return a row per quantity: planned, planned with what is passed on, and measured."""
    loop = Loop(data, 8, 0.3, SEED)
    parent = loop.run(folder)
    source = RunSource(parent)
    k, real = planned(parent)
    part = efficacy_of(parent, source.setting)
    child = run(loop, folder / f"planned-{data}", k, real)
    found = rounds_of(child)
    cells = reference_cells(found.generated[0], found.real)[0]
    seen = rows_of(measured_rounds(found, temperature=1.0, cells=cells).rows)
    first = rounds_of(parent)
    own = reference_cells(first.generated[0], first.real)[0]
    expected = []
    for efficacy in (1.0, part):
        setting = source.at(k, real, efficacy)
        law = predict(first.generated[0], setting, reference=first.real, cells=own)
        expected.append(rows_of(law.trajectory.rows))
    rows = []
    for label, quantity in QUANTITIES:
        key = next(key for key in seen if key[:2] == (AHEAD, quantity))
        start = seen[(0, *key[1:])].value
        values = [own[key].value for own in expected]
        rows.append(
            [
                data, f"{k}", f"{real:g}", label, f"{start:.3f}",
                f"{values[0]:.3f}", f"{values[1]:.3f} ({part:.0%})", f"{seen[key].value:.3f}",
            ]
        )  # fmt: skip
    again = planned(parent, part)
    rows.append([data, f"{again[0]}", f"{again[1]:g}", "planned again with what is passed on", *[""] * 4])
    return rows


class RunSource:
    """The setting of a parent loop, and its variants."""

    def __init__(self, path: Path) -> None:
        from recurate.loop.run_folder import RunFolder

        self.config = RunFolder.open(path).config()
        self.setting = self.at(self.config.selection.k, self.config.retraining.real_fraction, 1.0)

    def at(self, k: int, real: float, efficacy: float) -> Setting:
        from recurate.rules import Rule

        return Setting(
            Rule(k=k), real_fraction=real, rounds=AHEAD, picks=self.config.selection.picks, efficacy=efficacy
        )


def run(loop: Loop, out: Path, k: int, real: float) -> Path:
    """Run the loop's configuration at the planned setting."""
    if (out / "report.html").exists():
        return out
    path = out.with_suffix(".toml")
    path.write_text(replace(loop, k=k, real=real).config(reward_of=loop, rounds=AHEAD), encoding="utf-8")
    done = ["--resume", str(out)] if (out / "manifest.json").exists() else [str(path), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "recurate", "run", *done], check=True, capture_output=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("fidelity"), help="folder of the loops")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for data in ("digits", "fashion", "cifar") for row in compare(data, arguments.folder)]
    head = ["loop", "K", "real fraction", f"after {AHEAD} rounds", "round 0", "planned"]
    head += ["planned, with what is passed on", "measured"]
    lines = ["# Plans against runs", "", "`python benchmarks/planning.py`", ""]
    lines += [f"- {name}: {value}" for name, value in machine(["torch"]).items()]
    lines += [f"- constraint: KL at most {NATS} nats after {AHEAD} rounds", "", *table(head, rows), ""]
    text = "\n".join(lines)
    (arguments.out / "planning.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
