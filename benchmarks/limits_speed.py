"""How fast are the limits of loops found, how exactly, and how fast are plans? See benchmarks/README.md.

python benchmarks/limits_speed.py [--quick] [--out benchmarks/results]
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR", "NUMBA", "RAYON"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cvxpy as cp
import numpy as np
from measuring import Array, Line, Report, Times, check, machine, markdown, spell, table, write_csv

from recurate.theory.nash import maximise_nash
from recurate.verbs.plan.python import plan

KINDS = ("smooth", "normal")
REWARDS = (2, 5, 20)
WANTED = 1e-10  # gap
CLOSE = 1e-6  # gap that a peer must reach
ROUNDS = 5  # of ours
AGAIN = 3  # of a peer's calls that take less than LONG
LONG = 3.0  # seconds of a call that is made once
LIMITS = {"Clarabel": 30.0, "SCS": 30.0, "plain": 3.0}  # seconds of a peer's call, at most
BRIEF = 1.0  # seconds of a plain method's call at the smallest N


# --- problems -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    kind: str
    m: int
    count: int

    def __str__(self) -> str:
        return f"{self.kind}, m = {self.m}, N = {power(self.count)}"

    def problem(self) -> tuple[Array, Array]:
        """Return utilities (N, m), each column's maximum one, and weights (m,)."""
        rng = np.random.default_rng([KINDS.index(self.kind), self.m, self.count])
        if self.kind == "smooth":
            x, centres = rng.uniform(-1, 1, (self.count, 3)), rng.uniform(-1, 1, (self.m, 3))
            r = np.stack([-4 * np.square(x - c).sum(axis=1) for c in centres], axis=1)
        else:
            r = rng.standard_normal((self.count, self.m))
        return np.exp(r - r.max(axis=0)), rng.dirichlet(np.ones(self.m))


def gap_of(u: Array, w: Array, p: Array | None) -> float:
    """Return max D - 1 over all atoms, for any law p (N,): negative masses count as none."""
    if p is None or not np.isfinite(p).all() or not (p > 0).any():
        return np.inf
    p = np.maximum(p, 0.0)
    return float((u @ (w / ((p / p.sum()) @ u))).max()) - 1.0


# --- peers ----------------------------------------------------------------------------------------


@dataclass
class Answer:
    """A law, and what its solver says: status, its own seconds, iterations."""

    p: Array | None
    status: str
    own: float | None = None
    iterations: int | None = None


def over_laws(u: Array, w: Array, solver: str, **options: object) -> Answer:
    """Maximise sum w log(U' p) over the simplex."""
    p = cp.Variable(len(u), nonneg=True)
    problem = cp.Problem(cp.Maximize(w @ cp.log(u.T @ p)), [cp.sum(p) == 1])
    return solved(problem, lambda: p.value, solver, options)


def over_prices(u: Array, w: Array, solver: str, **options: object) -> Answer:
    """Minimise -sum w log y such that U y <= 1: the law is the constraints' multipliers."""
    y = cp.Variable(u.shape[1])
    below = u @ y <= 1
    problem = cp.Problem(cp.Minimize(-w @ cp.log(y)), [below])
    return solved(problem, lambda: below.dual_value, solver, options)


def solved(problem: cp.Problem, law: Callable[[], Array], solver: str, options: dict[str, object]) -> Answer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an answer may be inaccurate: its gap is computed here
        try:
            problem.solve(solver=solver, **options)
        except cp.SolverError:
            return Answer(None, "failed")
    stats = problem.solver_stats
    own = (stats.solve_time or 0.0) + (stats.setup_time or 0.0)
    return Answer(law(), problem.status, own, stats.num_iters)


def frank_wolfe(u: Array, w: Array, limit: float) -> Answer:
    """Pairwise: mass moves from the active atom that is worth least to the atom that is worth most."""
    end = time.perf_counter() + limit
    p = np.zeros(len(u))
    p[np.unique(u.argmax(axis=0))] = 1.0
    p /= p.sum()
    z, rounds = p @ u, 0
    while time.perf_counter() < end:
        worth = u @ (w / z)
        to = int(worth.argmax())
        if worth[to] - 1.0 <= WANTED:
            return Answer(p, "optimal", None, rounds)
        active = np.flatnonzero(p)
        source = int(active[worth[active].argmin()])
        step = line_search(w, z, u[to] - u[source], p[source])
        p[to] += step
        p[source] = 0.0 if step == p[source] else p[source] - step
        rounds += 1
        z = p[active] @ u[active] + (0.0 if to in active else p[to] * u[to])
    return Answer(p, "time limit", None, rounds)


def line_search(w: Array, z: Array, d: Array, most: float) -> float:
    """Return the best step in [0, most] along d: the derivative's root, by bisection."""
    with np.errstate(divide="ignore"):
        if w @ (d / (z + most * d)) >= 0:
            return most
    low, high = 0.0, most
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if w @ (d / (z + middle * d)) > 0 else (low, middle)
    return low


def multiplicative(u: Array, w: Array, limit: float) -> Answer:
    """p <- p D: the loop itself."""
    end = time.perf_counter() + limit
    p, rounds = np.full(len(u), 1.0 / len(u)), 0
    while time.perf_counter() < end:
        worth = u @ (w / (p @ u))
        if worth.max() - 1.0 <= WANTED:
            return Answer(p, "optimal", None, rounds)
        p *= worth
        rounds += 1
    return Answer(p, "time limit", None, rounds)


def peers(u: Array, w: Array, smallest: bool) -> dict[str, Callable[[], Answer]]:
    plain = BRIEF if smallest else LIMITS["plain"]
    clarabel = {"solver": "CLARABEL", "time_limit": LIMITS["Clarabel"], "accept_unknown": True}
    scs = {"solver": "SCS", "time_limit_secs": LIMITS["SCS"]}
    calls: dict[str, Callable[[], Answer]] = {
        "Clarabel, laws": partial(over_laws, u, w, **clarabel),
        "Clarabel, prices": partial(over_prices, u, w, **clarabel, equilibrate_enable=False),
        "SCS, laws": partial(over_laws, u, w, **scs),
    }
    if smallest:
        calls["SCS, prices"] = partial(over_prices, u, w, **scs)
    calls["Frank-Wolfe"] = partial(frank_wolfe, u, w, plain)
    calls["multiplicative"] = partial(multiplicative, u, w, plain)
    return calls


# --- measuring ------------------------------------------------------------------------------------


@dataclass
class Found:
    """What the cases gave: rows of two tables, lines of the csv, and what is judged at the end."""

    ours: list[list[str]] = field(default_factory=list)
    theirs: list[list[str]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    passes: dict[Case, int] = field(default_factory=dict)


def in_turn(calls: dict[str, Callable[[], object]]) -> tuple[dict[str, Times], dict[str, object]]:
    """Make all calls in turn: ours ROUNDS times, a peer's AGAIN times, or once where it is LONG."""
    seconds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    answers: dict[str, object] = {}
    for turn in range(ROUNDS):
        for name, call in calls.items():
            if name != "recurate" and turn and (turn >= AGAIN or seconds[name][0][1] > once_from(name)):
                continue
            kernel, cpu, wall = kernel_time(), time.process_time(), time.perf_counter()
            answers[name] = call()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            seconds[name].append((cpu, wall, kernel_time() - kernel))
    return {name: Times(*np.array(s).T) for name, s in seconds.items()}, answers


def once_from(name: str) -> float:
    """Return the seconds from which on a call is made once: a plain method that ran into its limit, too."""
    return LONG if name.startswith(("Clarabel", "SCS")) else 0.9 * BRIEF


def kernel_time() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def measure(case: Case, sizes: tuple[int, ...], report: Report, found: Found) -> None:
    u, w = case.problem()
    ours = partial(maximise_nash, u, w)
    ours()
    calls: dict[str, Callable[[], object]] = {"recurate": ours}
    if case.count <= 100_000:
        calls |= peers(u, w, case.count == sizes[0])
    times, answers = in_turn(calls)
    solution = answers.pop("recurate")
    law = np.zeros(case.count)
    law[solution.atoms] = solution.masses
    check(f"the law's sum, {case}", abs(law.sum() - 1), 1e-12)
    check(f"the law's negative masses, {case}", -law.min(), 0.0)
    gap, mine = gap_of(u, w, law), times["recurate"]
    found.gaps.append(gap)
    found.passes[case] = solution.passes
    found.ours.append(
        [case.kind, str(case.m), power(case.count), spell(mine.wall_median), f"{gap:.1e}",
         str(solution.passes), str(solution.steps), str(int((law > 1e-9).sum()))]
    )  # fmt: skip
    print("  ".join(found.ours[-1]), flush=True)
    found.lines += [
        Line("1", f"recurate, {case}", mine.wall_median, mine.median, "s"),
        Line("1", f"gap of recurate, {case}", gap, None, ""),
        Line("1", f"passes of recurate, {case}", solution.passes, None, "passes"),
    ]
    report.times.append(("1", f"recurate, {case}", mine))
    gaps = {name: gap_of(u, w, answer.p) for name, answer in answers.items()}
    for name, answer in answers.items():
        took = times[name]
        found.theirs.append(
            [case.kind, str(case.m), power(case.count), name, spell(took.wall_median),
             "" if answer.own is None else spell(answer.own), str(took.wall.size), answer.status,
             str(answer.iterations), f"{gaps[name]:.1e}", f"{took.median / mine.median:.3g}"]
        )  # fmt: skip
        print("    " + "  ".join(found.theirs[-1][3:]), flush=True)
        found.lines += [
            Line("2", f"{name}, {case}", took.wall_median, took.median, "s"),
            Line("2", f"gap of {name}, {case}", gaps[name], None, ""),
        ]
    if answers and case.count == max(n for n in sizes if n <= 100_000):
        compare(case, report, times, gaps)


def compare(case: Case, report: Report, times: dict[str, Times], gaps: dict[str, float]) -> None:
    """Judge ours against the fastest general solver with a gap of at most CLOSE, in whatever form."""
    near = [n for n in gaps if n.startswith(("Clarabel", "SCS")) and gaps[n] <= CLOSE]
    if not near:
        report.note("2", f"{case}: no general solver reached a gap of {CLOSE:g}")
        return
    name = min(near, key=lambda n: times[n].median)
    what = f"{name} (gap {gaps[name]:.0e}) / recurate, {case}"
    report.add(Line("2", what, *times[name].over(times["recurate"]), "x", 300.0, at_least=True))


def planning(report: Report, count: int) -> None:
    rewards = np.random.default_rng(0).standard_normal((count, 2))
    weights = [(a, 1 - a) for a in np.linspace(0.05, 0.95, 10)]
    ks, fractions = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64), np.linspace(0, 0.7, 10)
    call = partial(
        plan, rewards, rounds=10, refine=False, k=ks, real_fraction=fractions.tolist(), weights=weights
    )
    kernel, cpu, wall = kernel_time(), time.process_time(), time.perf_counter()
    made = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if len(made.outcomes) != 1000:
        raise SystemExit(f"{len(made.outcomes)} settings instead of 1,000")
    report.times.append(("4", "plan", Times(*np.array([[cpu, wall, kernel_time() - kernel]]).T)))
    what = f"recurate.plan, 1,000 settings, 10 rounds, {power(count)} candidates, two rewards"
    report.add(Line("4", what, wall, cpu, "s", 20.0))
    report.note("4", f"made once; largest difference to the exact forecasts {made.error:.1g}")


def power(number: int) -> str:
    return f"{number:.0e}".replace("e+0", "e")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="N up to 1e4: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    sizes = (1000, 10_000) if arguments.quick else (1000, 100_000, 1_000_000)
    report, found = Report(), Found()
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = machine(["cvxpy", "clarabel", "scs"])
    load, start = os.getloadavg()[0], time.perf_counter()
    for count in sizes:
        for kind in KINDS:
            for m in REWARDS:
                measure(Case(kind, m, count), sizes, report, found)
    what = f"largest gap, max D - 1 over all atoms, of {len(found.gaps)} cases"
    report.lines.insert(0, Line("1", what, max(found.gaps), None, "", WANTED))
    passes = max(n for case, n in found.passes.items() if (case.m, case.count) == (20, sizes[-1]))
    what = f"passes over all atoms, m = 20, N = {power(sizes[-1])}, the larger of two"
    report.add(Line("3", what, passes, None, "passes", 20, 8))
    planning(report, 10_000 if arguments.quick else 100_000)
    report.note("1", "recurate.theory.nash.maximise_nash; the exponentials are not timed")
    report.note(
        "2",
        f"limits a call: {LIMITS['Clarabel']:g} s for cvxpy's solvers, {LIMITS['plain']:g} s for Frank-Wolfe "
        f"and the multiplicative update ({BRIEF:g} s at N = 1e3); calls of more than {LONG:g} s, and of "
        "these two methods all of about a second and more, were made once, others three times, in turn",
    )
    report.note("3", "as the solver counts them, see benchmarks/README.md")
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    if arguments.quick:
        facts["sizes"] = "reduced by --quick: must and stretch are stated for the full sizes"
    command = "python benchmarks/limits_speed.py" + (" --quick" if arguments.quick else "")
    lines = markdown("Speed and precision of limits and plans", report, facts, command)
    head = ["landscape", "m", "N", "wall median", "gap", "passes", "steps", "atoms with mass"]
    lines += ["## recurate", "", *table(head, found.ours), "", "## Peers", ""]
    head = ["landscape", "m", "N", "call", "wall median", "of which the solver", "runs", "status",
            "iterations", "gap", "times recurate's processor time"]  # fmt: skip
    lines += [*table(head, found.theirs), ""]
    report.lines += found.lines
    write_csv(arguments.out / "limits_speed.csv", report)
    text = "\n".join(lines)
    (arguments.out / "limits_speed.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
