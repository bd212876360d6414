"""How fast is the theory, and how much memory does it take? See benchmarks/README.md.

python benchmarks/theory_speed.py [--quick] [--out benchmarks/results]
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import csv
import gc
import json
import math
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from loglog import Panel, write
from measuring import (
    STATISTICS,
    Array,
    Line,
    Report,
    Times,
    check,
    interleave,
    machine,
    markdown,
    off,
    resident,
    spell,
    write_csv,
)

import recurate
from recurate.rules import Rule
from recurate.theory.chebyshev import Compressed, rate_of
from recurate.theory.population import Population
from recurate.theory.setting import Setting

RULE = Rule(4)
MIX = 0.3  # real fraction of the forecasts
PLAIN = Setting(RULE)
AGREE = 1e-8  # relative, of forecasts with pushing the atoms
AGREE_STEP = 1e-11  # relative, of a step with direct quadrature


@dataclass(frozen=True)
class Scale:
    """Sizes and repetitions."""

    quick: bool

    @property
    def atoms(self) -> int:
        return 100_000 if self.quick else 1_000_000

    @property
    def fewer(self) -> int:
        return 50_000 if self.quick else 100_000

    def repeats(self, full: int) -> int:
        return 3 if self.quick else max(full, 7)


def atoms(count: int, rewards: int = 1, seed: int = 0) -> tuple[Array, Array]:
    """Return unsorted Gaussian rewards (count,) or (count, rewards) and a law that is not uniform."""
    rng = np.random.default_rng(seed)
    shape = count if rewards == 1 else (count, rewards)
    values, law = rng.normal(size=shape), rng.random(count)
    return values, law / law.sum()


# --- the jobs -------------------------------------------------------------------------------------


def one_step(report: Report, scale: Scale) -> Times:
    """Job 1, and job 5 in the same interleaved run. Returns the times of a step."""
    rewards, law = atoms(scale.atoms)
    ordered = np.sort(rewards)
    several, _ = atoms(scale.atoms, rewards=5, seed=1)
    h, q = np.random.default_rng(2).random(scale.atoms), np.empty(scale.atoms)
    ours = Population(rewards, law=law)
    in_order = Population(ordered, law=law)
    five = Population(several, law=law)
    setups = {}
    for name, population in (("1 reward", ours), ("1 reward, sorted", in_order), ("5 rewards", five)):
        start = time.perf_counter()
        population.step(law, PLAIN)
        setups[name] = time.perf_counter() - start
    found = interleave(
        {
            "multiply": lambda: np.multiply(law, h, out=q),
            "step": lambda: ours.step(law, PLAIN),
            "step, sorted rewards": lambda: in_order.step(law, PLAIN),
            "step, real_fraction 0.3": lambda: ours.step(law, Setting(RULE, real_fraction=MIX)),
            "step, 5 rewards": lambda: five.step(law, PLAIN),
            "multiply, once after the others": lambda: np.multiply(law, h, out=q),
        },
        scale.repeats(31),
        once=["multiply, once after the others"],
    )
    report.timed("1, 5", found)
    for name, seconds in setups.items():
        report.note("1, 5", f"set-up and first step, once per population, {name}: {spell(seconds)}")
    base, step = found["multiply"], found["step"]
    size = f"N = {scale.atoms:.0e}".replace("e+0", "e")
    report.add(Line("1", f"one step / numpy.multiply(p, h, out=q), {size}", *step.over(base), "x", 40, 10))
    cold = found["multiply, once after the others"]
    report.add(Line("1", "the same / a multiply whose arrays are not in the cache", *step.over(cold), "x"))
    for name in ("step, sorted rewards", "step, real_fraction 0.3"):
        report.add(Line("1", f"{name} / multiply", *found[name].over(base), "x"))
    five_to_one = found["step, 5 rewards"].over(step)
    report.add(Line("5", f"step of 5 rewards / of 1, {size}", *five_to_one, "x", 6, 5))
    return step


def memory(report: Report, scale: Scale) -> None:
    """Job 2: two fresh processes, one traced, one measured from outside by its resident pages."""
    found = {}
    for how in ("traced", "resident"):
        command = [sys.executable, str(Path(__file__).resolve()), "--memory", how, str(scale.atoms)]
        found[how] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    unit = "doubles an atom"
    worst = max(found["traced"]["peak"], found["resident"]["peak"])
    report.add(
        Line("2", "peak memory, the larger of both ways to measure", worst, None, "doubles an atom", 20, 8)
    )
    for how, words in (("traced", "tracemalloc"), ("resident", "resident pages")):
        for key, what in (("peak", "peak"), ("stays", "stays")):
            report.add(Line("2", f"{what}, {words}", found[how][key], None, unit))
    steps = ", ".join(f"{k} {v:.2f}" for k, v in found["traced"].items() if k != "peak")
    report.note(
        "2",
        "counted: rewards, law, set-up and all temporaries of Population(rewards) and its first step, and "
        "the law that it returns (p_ref is p_0, the same array). Not counted: the interpreter, imports and "
        f"tables that do not depend on the population. Traced, after each stage, in doubles an atom: {steps}",
    )


def memory_child(how: str, count: int) -> None:
    """Print, in doubles an atom, the peak and what stays (job 2)."""
    warm = Population(np.random.default_rng(0).normal(size=31_000))
    warm.step(warm.law, PLAIN)
    del warm
    gc.collect()
    if how == "traced":
        tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0] if how == "traced" else resident("VmRSS")
    rewards = np.random.default_rng(1).normal(size=count)
    found = {}

    def now(name: str) -> None:
        current = tracemalloc.get_traced_memory()[0] if how == "traced" else resident("VmRSS")
        found[name] = (current - start) / 8 / count

    now("rewards")
    population = Population(rewards)
    now("with law")
    population._prepare(RULE)
    now("set up")
    law = population.step(population.law, PLAIN)
    gc.collect()
    now("stays")
    top = tracemalloc.get_traced_memory()[1] if how == "traced" else resident("VmHWM")
    found["peak"] = (top - start) / 8 / count
    assert abs(law.sum() - 1) < 1e-12
    print(json.dumps(found))


def grid(rewards: Array, k: float, step: float = 0.25) -> Array:
    low, high = rewards.min() - 6.0, rewards.max() + 28.0 + math.log(k)
    return np.arange(low, high + step, step)


def direct(rewards: Array, law: Array, k: float, block: int = 128) -> Array:
    """H by the trapezoidal rule, O(N x grid): Phi on the grid, then H atom by atom, in blocks.

    F(s - r) = exp(-e^{r - s}) and f(s - r) = e^{r - s} F(s - r) with e^{r - s} = e^r e^{-s}, so that a pair
    (atom, grid point) costs one exponential in either pass. Blocks stay in the cache.
    """
    s = grid(rewards, k)
    middle = rewards.mean()  # keeps both factors in range
    up, down = np.exp(rewards - middle), -np.exp(middle - s)
    z, f = np.empty((block, s.size)), np.empty((block, s.size))
    phi, out = np.zeros(s.size), np.empty_like(rewards)
    for low in range(0, rewards.size, block):
        part = up[low : low + block]
        now = z[: part.size]
        np.multiply(part[:, None], down, out=now)
        np.exp(now, out=now)
        phi += law[low : low + block] @ now
    weights = -(0.25 * k) * np.minimum(phi, 1.0) ** (k - 1) * down
    for low in range(0, rewards.size, block):
        part = up[low : low + block]
        now, density = z[: part.size], f[: part.size]
        np.multiply(part[:, None], down, out=now)
        np.exp(now, out=density)
        np.multiply(part, density @ weights, out=out[low : low + block])
    return out


def direct_plain(rewards: Array, law: Array, k: float) -> Array:
    """The same sums as one writes them first: whole tables (N, grid)."""
    s = grid(rewards, k)
    z = s - rewards[:, None]
    phi = law @ np.exp(-np.exp(-z))
    return k * 0.25 * (np.exp(-z - np.exp(-z)) @ phi ** (k - 1))


def direct_each(rewards: Array, law: Array, k: float, which: Array) -> Array:
    """The same for some atoms, each with its own integral and its own Phi: O(N^2 x grid) for all."""
    z = grid(np.zeros(1), k)
    up = np.exp(rewards)
    out = []
    for x in rewards[which]:
        phi = np.array([law @ np.exp(up * -math.exp(-(x + s))) for s in z])
        out.append(k * 0.25 * np.sum(np.exp(-z - np.exp(-z)) * phi ** (k - 1)))
    return np.array(out)


def against_quadrature(report: Report, scale: Scale) -> None:
    """Job 3."""
    rewards, law = atoms(scale.fewer, seed=3)
    k = RULE.largest
    start = time.perf_counter()
    population = Population(rewards, law=law)
    population._prepare(RULE)
    cold = time.perf_counter() - start
    picked = np.random.default_rng(4).choice(scale.fewer, 2, replace=False)

    def set_up() -> None:
        Population(rewards, law=law)._prepare(RULE)

    found = interleave(
        {
            "step": lambda: population.step(law, PLAIN),
            "direct quadrature, in blocks": lambda: direct(rewards, law, k),
            "direct quadrature, whole tables": lambda: direct_plain(rewards, law, k),
            "direct quadrature for each atom on its own, 2 atoms": lambda: direct_each(
                rewards, law, k, picked
            ),
            "set-up": set_up,
        },
        scale.repeats(9),
    )
    report.timed("3", found)
    multiplier = population.multiplier(law, RULE)
    deviation = off(direct(rewards, law, k), multiplier)
    check("a step", deviation, AGREE_STEP)
    check("a step", off(direct_plain(rewards, law, k), multiplier), AGREE_STEP)
    check("a step", off(direct_each(rewards, law, k, picked), multiplier[picked]), AGREE_STEP)
    report.note(
        "3",
        f"grid of {grid(rewards, k).size} points; H of all three ways agrees with ours to {deviation:.1g} "
        "relative (blocks, all atoms). A step here is the whole of Population.step, quadrature H alone",
    )
    step, set_up_times = found["step"], found["set-up"]
    size = f"N = {scale.fewer:.0e}".replace("e+0", "e")
    blocks = found["direct quadrature, in blocks"].over(step)
    plain = found["direct quadrature, whole tables"].over(step)
    each = found["direct quadrature for each atom on its own, 2 atoms"].over(step)
    what = "direct quadrature O(N x grid)"
    report.add(Line("3", f"{what}, in blocks / one step, {size}", *blocks, "x", 300, 2000, at_least=True))
    report.add(Line("3", f"{what}, whole tables / one step", *plain, "x"))
    scaled = (ratio * scale.fewer / 2 for ratio in each)
    report.add(Line("3", "for each atom on its own, O(N² x grid), scaled from 2 atoms", *scaled, "x"))
    milliseconds = 1e3 * set_up_times.wall_median, 1e3 * set_up_times.median
    report.add(Line("3", f"set-up, {size}", *milliseconds, "ms", 200))
    report.note("3", f"the first set-up of the process at this size took {spell(cold)}")


def expectations(compressed: Compressed, setting: Setting) -> Array:
    """Return E r, E e^r and E of the column, shape (rounds + 1, 3)."""
    exps = np.exp(compressed.utilities)
    return np.array(
        [
            (
                compressed.utilities @ compressed.law(densities),
                exps @ compressed.law(densities),
                compressed.mean(densities, "column"),
            )
            for densities in compressed.play(setting)
        ]
    )


def pushed(rewards: Array, column: Array, laws: Iterator[Array]) -> Array:
    """The same from the laws of the atoms."""
    exps = np.exp(rewards)
    return np.array([(law @ rewards, law @ exps, law @ column) for law in laws])


def many_rounds(report: Report, scale: Scale, step: Times) -> None:
    """Job 4."""
    rewards, law = atoms(scale.atoms)
    rng = np.random.default_rng(5)
    column = (rewards + rng.normal(size=rewards.size) > 1.0).astype(float)  # no function of the reward
    setting = Setting(RULE, (1.0,), MIX, 100)
    rate = rate_of(setting)

    def compress() -> Compressed:
        return Compressed.of(rewards, law, rate=rate, columns={"column": column})

    compressed = compress()
    population = Population(rewards, law=law)
    population._prepare(RULE)
    repeats = scale.repeats(9)
    found = interleave(
        {
            "step": lambda: population.step(law, PLAIN),
            "forecast, 100 rounds": lambda: expectations(compress(), setting),
            "of which compressing": compress,
            "of which rounds and expectations": lambda: expectations(compressed, setting),
        },
        repeats,
    )
    whole = interleave(
        {
            "recurate.forecast, 100 rounds": lambda: recurate.forecast(
                rewards, rounds=100, real_fraction=MIX, law=law, track={"column": column}
            )
        },
        scale.repeats(7),
    )
    report.timed("4", found | whole)
    wanted = pushed(rewards, column, population.play(setting))
    deviations = np.max(np.abs(expectations(compressed, setting) / wanted - 1), axis=0)
    check("a forecast", float(deviations.max()), AGREE)
    report.note(
        "4",
        "largest relative deviation from pushing the atoms, over rounds 0 to 100: "
        + ", ".join(f"{n} {d:.1g}" for n, d in zip(("E r", "E e^r", "E column"), deviations, strict=True)),
    )
    report.note(
        "4",
        "inside: compressing p_0 and the column, the nodes' multiplier, 100 rounds, three "
        "expectations each. Nothing is set up before. One step: the median of job 1. recurate.forecast "
        "adds bands, effective support, divergence and the last law on the atoms",
    )
    size = f"N = {scale.atoms:.0e}".replace("e+0", "e")
    forecast = found["forecast, 100 rounds"]
    report.add(Line("4", f"100 rounds, compressed / one step, {size}", *forecast.over(step), "steps", 30, 4))
    report.add(Line("4", "the same / steps interleaved with it", *forecast.over(found["step"]), "steps"))
    already = found["of which rounds and expectations"].over(step)
    report.add(Line("4", "the same, compressed before", *already, "steps"))
    end_to_end = whole["recurate.forecast, 100 rounds"].over(step)
    report.add(Line("4", "recurate.forecast, end to end / one step", *end_to_end, "steps"))


def many_settings(report: Report, scale: Scale) -> None:
    """Job 6."""
    rewards, law = atoms(scale.fewer, seed=6)
    sizes = np.round(np.linspace(2, 64, 40))
    fractions = np.linspace(0.0, 0.96, 25)
    assert np.unique(sizes).size == 40
    rounds = 20

    def forecasts() -> tuple[Array, Array]:
        compressed = Compressed.of(rewards, law, rate=rounds + 2.0)
        exps = np.exp(compressed.utilities)
        k, rho = (a.ravel() for a in np.meshgrid(sizes, fractions, indexing="ij"))
        runs = compressed.play(Setting(RULE, rounds=rounds), k=k, real_fraction=rho)
        found = [(compressed.utilities @ mass, exps @ mass) for mass in map(compressed.law, runs)]
        return np.array([m for m, _ in found]), np.array([e for _, e in found])

    found = interleave({"1,000 forecasts of 20 rounds": forecasts}, scale.repeats(7))
    report.timed("6", found)
    means, exps = (x.reshape(rounds + 1, 40, 25) for x in forecasts())
    population = Population(rewards, law=law)
    worst = 0.0
    for i, j in ((0, 0), (0, 24), (13, 7), (20, 1), (39, 0), (39, 12)):
        laws = population.play(Setting(Rule(sizes[i]), real_fraction=fractions[j], rounds=rounds))
        wanted = pushed(rewards, rewards, laws)
        worst = max(worst, off(means[:, i, j], wanted[:, 0]), off(exps[:, i, j], wanted[:, 1]))
    check("many settings", worst, AGREE)
    report.note(
        "6",
        f"40 slate sizes from 2 to 64 by 25 real fractions from 0 to 0.96; 6 of them against pushing the "
        f"atoms: largest relative deviation {worst:.1g}",
    )
    size = f"N = {scale.fewer:.0e}".replace("e+0", "e")
    times = found["1,000 forecasts of 20 rounds"]
    seconds = times.wall_median, times.median
    report.add(Line("6", f"1,000 forecasts of 20 rounds, {size}", *seconds, "s", 5, 1))


# --- growth ---------------------------------------------------------------------------------------


def growth(scale: Scale, out: Path) -> None:
    """Job 7: CSV tables and one chart."""
    top = 5 if scale.quick else 7
    counts = [round(10 ** (e / 2)) for e in range(6, 2 * top + 1)]
    rows: list[tuple[str, str, float, Times]] = []
    panels = []

    def measure(chart: str, x: float, calls: dict[str, Callable[[], object]]) -> None:
        for name, times in interleave(calls, scale.repeats(9)).items():
            rows.append((chart, name, x, times))
            print(f"    {chart} {x:g}, {name}: {times}", flush=True)

    for n in counts:
        rewards, law = atoms(n)
        population, in_order = Population(rewards, law=law), Population(np.sort(rewards), law=law)
        calls = {
            "unsorted": lambda p=population, w=law: p.step(w, PLAIN),
            "sorted": lambda p=in_order, w=law: p.step(w, PLAIN),
            "set-up": lambda r=rewards, w=law: Population(r, law=w)._prepare(RULE),
        }
        measure("atoms", n, calls)
    n = scale.fewer
    rewards, law = atoms(n)
    population = Population(rewards, law=law)
    for k in (2, 4, 8, 16, 64, 256, 1000, 10_000, 100_000, 1_000_000, math.inf):
        setting = Setting(Rule(k))
        measure("slate size", k, {"one step": lambda s=setting: population.step(law, s)})
    column = np.ones(n)
    for rounds in (1, 2, 5, 10, 20, 50, 100) if scale.quick else (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        setting = Setting(RULE, (1.0,), MIX, rounds)

        def compressed(s: Setting = setting) -> Array:
            return expectations(Compressed.of(rewards, law, rate=rate_of(s), columns={"column": column}), s)

        calls = {"compressed": compressed}
        if rounds <= 200:
            calls["atoms pushed"] = lambda s=setting: pushed(rewards, column, population.play(s))
        measure("rounds", rounds, calls)
    for m in (1, 2, 3, 4, 5, 6, 8):
        rewards, law = atoms(scale.atoms, rewards=m)
        several = Population(rewards, law=law)
        measure("rewards", m, {"one step": lambda p=several, w=law: p.step(w, PLAIN)})
    titles = {
        "atoms": (f"One step and set-up, K = {RULE.k}", "atoms N"),
        "slate size": (f"One step, {n:,} atoms", "slate size K"),
        "rounds": (f"Forecast with expectations, {n:,} atoms", "rounds"),
        "rewards": (f"One step, {scale.atoms:,} atoms", "rewards"),
    }
    for chart, (title, x) in titles.items():
        series: dict[str, list[tuple[float, float]]] = {}
        for name, value, times in ((r[1], r[2], r[3]) for r in rows if r[0] == chart):
            series.setdefault(name, []).append((value, 1e3 * times.median))
        panels.append(Panel(title, x, "milliseconds", series))
    write(out / "theory_growth.svg", panels)
    with (out / "theory_growth.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["varied", "what", "value", *STATISTICS, "repetitions"])
        for chart, name, x, times in rows:
            table.writerow([chart, name, f"{x:g}", *(f"{v:.4g}" for v in times.statistics()), times.cpu.size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, 3 repetitions: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)  # the child processes of job 2
    arguments = parser.parse_args()
    if arguments.memory:
        memory_child(arguments.memory[0], int(arguments.memory[1]))
        return
    scale, report = Scale(arguments.quick), Report()
    arguments.out.mkdir(parents=True, exist_ok=True)
    command = "python benchmarks/theory_speed.py" + (" --quick" if arguments.quick else "")
    facts = machine()
    load = os.getloadavg()[0]
    start = time.perf_counter()
    step = one_step(report, scale)
    memory(report, scale)
    against_quadrature(report, scale)
    many_rounds(report, scale, step)
    many_settings(report, scale)
    report.lines.sort(key=lambda line: line.job)
    growth(scale, arguments.out)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    if arguments.quick:
        facts["sizes"] = "reduced by --quick: must and stretch are stated for the full sizes"
    write_csv(arguments.out / "theory_speed.csv", report)
    lines = markdown("Speed and memory of the theory", report, facts, command)
    lines += ["## Growth", "", "![Time against atoms, K, rounds and rewards](theory_growth.svg)", ""]
    text = "\n".join([*lines, "Medians; the numbers are in [theory_growth.csv](theory_growth.csv).", ""])
    (arguments.out / "theory_speed.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
