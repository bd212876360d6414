"""How fast is one picked from each of many slates, and in how much memory? See benchmarks/README.md.

python benchmarks/picking.py [--quick] [--out benchmarks/results]
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR", "NUMBA", "RAYON"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import Array, Line, Report, Times, check, interleave, machine, markdown, resident, table
from scipy.special import softmax

from recurate.rules import Rule

torch.set_num_threads(1)

K = 4
SLATES = 10_000_000
LOOPED = 20_000  # slates of the loop, whose time is scaled up
ROUNDS = 9
WIDTHS = (1, 2, 4, 8, 32, 128, 1_000, 10_000)
DEVIATIONS = 6.0  # standard deviations that frequencies may miss the chances by: 2e-9 a comparison


# --- ways to pick ---------------------------------------------------------------------------------


def ours(rewards: Array) -> Array:
    return Rule(rewards.shape[1]).draw(rewards, np.random.default_rng(1))


def gumbel(rewards: Array) -> Array:
    """Perturb every reward: recurate's own way before, its checks left out."""
    noise = np.random.default_rng(1).gumbel(size=rewards.shape)
    return np.argmax(rewards + noise, axis=1)


def batched(rewards: Array) -> Array:
    return torch.multinomial(torch.softmax(torch.from_numpy(rewards), 1), 1)[:, 0].numpy()


def looped(rewards: Array) -> Array:
    """Call multinomial slate by slate, the softmax being made for all at once."""
    odds = torch.softmax(torch.from_numpy(rewards), 1)
    return np.array([int(torch.multinomial(row, 1)) for row in odds])


WAYS: dict[str, Callable[[Array], Array]] = {
    "recurate": ours,
    "NumPy, Gumbel noise and argmax": gumbel,
    "torch.softmax, torch.multinomial": batched,
}


def rewards_of(slates: int, width: int) -> Array:
    return np.random.default_rng(0).normal(size=(slates, width))


def check_picks(name: str, rewards: Array, slots: Array, chances: Array) -> None:
    """Stop if any slot is picked more or less often than its chances say, summed over all slates."""
    counts = np.bincount(slots, minlength=rewards.shape[1])
    spread = np.sqrt((chances * (1 - chances)).sum(axis=0))
    off = np.abs(counts - chances.sum(axis=0))
    check(
        f"{name}'s picks (standard deviations)",
        float((off[spread > 0] / spread[spread > 0]).max(initial=0)),
        DEVIATIONS,
    )
    check(
        f"{name}'s picks of empty slots",
        float(counts[spread == 0].sum()) if rewards.shape[1] > 1 else 0.0,
        0.0,
    )


# --- jobs -----------------------------------------------------------------------------------------


def picks(report: Report, slates: int) -> None:
    """Compare ways to pick 1 in 4, and ours in harder cases, with copying the rewards."""
    rewards = rewards_of(slates, K)
    few = rewards[:LOOPED].copy()
    padded = rewards.copy()
    padded[: slates // 2, -1] = -np.inf
    warm, lapsing = Rule(K, 0.7), Rule(K, lapse=0.1)
    chances = softmax(rewards, axis=1)
    for name, way in WAYS.items():
        check_picks(name, rewards, way(rewards), chances)
    check_picks("the loop", few, looped(few), chances[:LOOPED])
    rng = np.random.default_rng(2)
    check_picks("a lapsing rule", rewards, lapsing.draw(rewards, rng), 0.9 * chances + 0.1 / K)
    check_picks("a warm rule", rewards, warm.draw(rewards, rng), softmax(rewards / 0.7, axis=1))
    chances = softmax(padded, axis=1)
    check_picks("padded slates", padded, Rule(K).draw(padded, rng), chances)
    half = padded[: slates // 2]
    check_picks("padded slates alone", half, Rule(K).draw(half, rng), chances[: slates // 2])
    del chances, half
    loop = f"loop over torch.multinomial, {LOOPED:,} slates"
    calls: dict[str, Callable[[], object]] = {
        "rewards.copy()": rewards.copy,
        **{name: partial(way, rewards) for name, way in WAYS.items()},
        loop: partial(looped, few),
        "recurate, temperature 0.7": lambda: warm.draw(rewards, rng),
        "recurate, lapse 0.1": lambda: lapsing.draw(rewards, rng),
        "recurate, half of the slates padded": lambda: Rule(K).draw(padded, rng),
        "rng.random(slates) alone": lambda: rng.random(slates),
    }
    found = interleave(calls, ROUNDS, order=np.random.default_rng(3))
    scale = slates / LOOPED
    found[f"the same, times {scale:g}"] = Times(
        *(scale * getattr(found[loop], x) for x in ("cpu", "wall", "kernel"))
    )
    report.timed("1", found)
    mine, copy = found["recurate"], found["rewards.copy()"]
    size = f"1 in {K}, {slates:.0e} slates".replace("e+0", "e")
    ratio, aside = found[f"the same, times {scale:g}"].over(mine)
    report.add(
        Line(
            "1", f"loop over torch.multinomial (scaled) / recurate, {size}", ratio, aside, "x", 20, 100, True
        )
    )
    report.add(Line("1", f"recurate / rewards.copy(), {size}", *mine.over(copy), "x", 5, 2.5))
    least = mine.median / copy.cpu.min(), mine.wall_median / copy.wall.min()
    report.add(Line("1", "recurate's median / the least time of rewards.copy()", *least, "x", 5, 2.5))
    users = mine.user_median / copy.user_median
    report.add(
        Line("1", "recurate / rewards.copy(), the kernel's time (new pages) left out", users, None, "x")
    )
    for name in list(WAYS)[1:]:
        report.add(Line("1", f"{name} / recurate", *found[name].over(mine), "x"))
    for name in ("temperature 0.7", "lapse 0.1", "half of the slates padded"):
        report.add(
            Line("1", f"recurate, {name} / rewards.copy()", *found[f"recurate, {name}"].over(copy), "x")
        )
    report.note(
        "1",
        f"the loop was timed over {LOOPED:,} slates and scaled by {scale:g}; one softmax for all its slates",
    )
    users = ", ".join(
        f"{name} {1e3 * found[name].user_median:.0f} ms" for name in ("recurate", "rewards.copy()")
    )
    report.note("1", f"outside the kernel, which hands out pages: {users} of the processor time")


def tables(report: Report, slates: int) -> None:
    """Compare ways to make the chances of all slots."""
    rewards = rewards_of(slates, K)
    rule, tensor = Rule(K), torch.from_numpy(rewards)
    check(
        "recurate's chances",
        float(np.abs(rule.probabilities(rewards) - softmax(rewards, axis=1)).max()),
        1e-15,
    )
    calls: dict[str, Callable[[], object]] = {
        "rewards.copy()": rewards.copy,
        "recurate": lambda: rule.probabilities(rewards),
        "torch.softmax": lambda: torch.softmax(tensor, 1),
        "scipy.special.softmax": lambda: softmax(rewards, axis=1),
    }
    found = interleave(calls, ROUNDS, order=np.random.default_rng(4))
    report.timed("2", found)
    mine = found["recurate"]
    report.add(
        Line("2", "recurate, probabilities / rewards.copy()", *mine.over(found["rewards.copy()"]), "x")
    )
    for name in ("torch.softmax", "scipy.special.softmax"):
        report.add(Line("2", f"{name} / recurate, probabilities", *found[name].over(mine), "x"))


def memory(report: Report, slates: int) -> None:
    """Compare the pages that picking needs beyond the rewards, each way in a process of its own."""
    for name in WAYS:
        command = [sys.executable, __file__, "--memory", name, str(slates)]
        grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        share = grown / (8 * slates * K)
        bounds = (0.3, None) if name == "recurate" else (None, None)
        report.add(Line("3", f"memory beyond the rewards / the rewards, {name}", share, None, "x", *bounds))
    report.note(
        "3",
        "growth of a fresh process's resident pages at their highest (VmHWM) since the rewards were made and "
        f"a few slates picked; the picks themselves, 8 bytes a slate, are {1 / K:g} of the rewards",
    )


def memory_child(name: str, slates: int) -> None:
    rewards = rewards_of(slates, K)
    WAYS[name](rewards[:1000])
    before = resident("VmRSS")
    slots = WAYS[name](rewards)
    print(max(0, resident("VmHWM") - before), file=sys.stdout if slots.size else sys.stderr)


def widths(report: Report, numbers: int) -> list[list[str]]:
    """Compare ways at other slate sizes, the number of rewards being the same; return a table's rows."""
    rows = []
    for width in WIDTHS:
        rewards = rewards_of(numbers // width, width)
        calls = {name: partial(way, rewards) for name, way in WAYS.items()}
        found = interleave({"rewards.copy()": rewards.copy, **calls}, 5, order=np.random.default_rng(width))
        report.timed(f"4, K = {width}", found)
        cells = [f"{1e9 * times.median / rewards.size:.2f}" for times in found.values()]
        rows.append([str(width), f"{len(rewards):,}", *cells])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)  # the child processes of job 3
    arguments = parser.parse_args()
    if arguments.memory:
        memory_child(arguments.memory[0], int(arguments.memory[1]))
        return
    slates, report = SLATES // (10 if arguments.quick else 1), Report()
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = machine(["torch"])
    load, start = os.getloadavg()[0], time.perf_counter()
    picks(report, slates)
    tables(report, slates)
    memory(report, slates)
    rows = widths(report, slates)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    if arguments.quick:
        facts["sizes"] = "reduced by --quick: must and stretch are stated for the full sizes"
    command = "python benchmarks/picking.py" + (" --quick" if arguments.quick else "")
    lines = markdown("Speed and memory of picking", report, facts, command)
    head = ["K", "slates", "rewards.copy()", *WAYS]
    lines += [
        "## Other slate sizes",
        "",
        "Nanoseconds of processor time a reward, medians.",
        "",
        *table(head, rows),
        "",
    ]
    text = "\n".join(lines)
    (arguments.out / "picking.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
