"""How fast are the choice estimates, and how much memory do they take? See benchmarks/README.md.

python benchmarks/choices_speed.py [--quick] [--jobs 1,3] [--out benchmarks/results]
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from measuring import (
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

from recurate.choices import Choices, conditional_logit, item_rewards, latent_classes

K = 4  # candidates of a slate
SPREAD = 0.5  # standard deviation of the coefficients and rewards that picks are simulated from
SAME = 1e-6  # relative difference of log-likelihoods that count as the same
EXACT = 1e-9  # the same, of what a fit says of itself
STEEP = 1e-6  # norm of the gradient per slate up to which a fit counts as precise
BLOCK = 20_000  # slates that are looked at together
EXPLAINED = (
    f"Same precision: gradient per slate at most {STEEP:g}. Tolerances other than a peer's own are the "
    f"largest powers of ten that reach it, or that give the same log-likelihood to {SAME:g} and no more"
)
PEERS = ("xlogit", "torch-choice", "larch", "choix")


@dataclass(frozen=True)
class Scale:
    """Sizes and repetitions."""

    quick: bool

    def of(self, full: int) -> int:
        return full // 10 if self.quick else full

    def repeats(self, full: int) -> int:
        return 3 if self.quick else full


# --- simulated picks ------------------------------------------------------------------------------


def simulate(slates: int, d: int, seed: int = 0) -> tuple[Array, Array]:
    """Return features (slates * K, d) and picks (slates,) of one population."""
    rng = np.random.default_rng(seed)
    beta = rng.normal(0.0, SPREAD, d)
    features, picked = np.empty((slates * K, d)), np.empty(slates, np.int64)
    for some, rows in blocks(slates):
        rng.standard_normal(out=features[rows])
        picked[some] = luce(features[rows] @ beta, rng)
    return features, picked


def simulate_classes(choosers: int, picks: int, d: int, seed: int = 0) -> tuple[Array, Array, Array, tuple]:
    """Return features, picks, choosers (slates,), and the truth: weights (2,) and coefficients (2, d)."""
    rng = np.random.default_rng(seed)
    weights, betas = np.array([0.6, 0.4]), rng.normal(0.0, SPREAD, (2, d))
    member = (rng.random(choosers) > weights[0]).astype(np.int64)
    labels = np.repeat(np.arange(choosers), picks)
    features = rng.standard_normal((labels.size * K, d))
    both = features @ betas.T
    utilities = both[np.arange(len(both)), np.repeat(member[labels], K)]
    return features, luce(utilities, rng), labels, (weights, betas)


def simulate_items(slates: int, count: int, seed: int = 0) -> tuple[Array, Array]:
    """Return items (slates, K), all different within a slate, and picks (slates,); every item has a pick."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(0.0, SPREAD, count)
    items = rng.integers(count, size=(slates, K))
    while (again := repeated(items)).any():
        items[again] = rng.integers(count, size=(int(again.sum()), K))
    picked = luce(rewards[items].ravel(), rng)
    give_picks(items, picked, count)
    return items, picked


def repeated(items: Array) -> Array:
    """Return which slates have an item twice, (slates,) of bool."""
    ordered = np.sort(items, axis=1)
    return (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)


def give_picks(items: Array, picked: Array, count: int) -> None:
    """Let items that were never picked have one slate each (in place): else no estimate is finite."""
    everyone = np.arange(len(items))
    while True:
        wins = np.bincount(items[everyone, picked], minlength=count)
        if wins.all():
            return
        # Slates to spare, one for each item, whose own winner keeps another pick.
        spare = np.flatnonzero(wins[items[everyone, picked]] > 2)
        row, slot = np.nonzero(wins[items[spare]] == 0)
        first = np.unique(items[spare[row], slot], return_index=True)[1]
        picked[spare[row[first]]] = slot[first]


def luce(utilities: Array, rng: np.random.Generator) -> Array:
    """Return the picked slots (slates,) for utilities (slates * K,)."""
    table = utilities.reshape(-1, K)
    return np.argmax(table + rng.gumbel(size=table.shape), axis=1)


def blocks(slates: int) -> list[tuple[slice, slice]]:
    """Return (slates, rows) of all blocks."""
    starts = range(0, slates, BLOCK)
    ends = [min(low + BLOCK, slates) for low in starts]
    return [(slice(a, b), slice(a * K, b * K)) for a, b in zip(starts, ends, strict=True)]


# --- what is checked ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A fit as this file sees it: its log-likelihood and the norm of the gradient per slate."""

    value: float
    steepness: float


def softmax(utilities: Array, picked: Array) -> tuple[Array, Array]:
    """Return the log probabilities of the picks (slates,) and picks - probabilities (slates, K)."""
    table = utilities.reshape(-1, K)
    table = table - table.max(axis=1, keepdims=True)
    odds = np.exp(table)
    total = odds.sum(axis=1)
    gaps = one_hot(picked, K, float) - odds / total[:, None]
    return table[np.arange(picked.size), picked] - np.log(total), gaps


def judge(features: Array, picked: Array, beta: Array) -> Judged:
    """Judge coefficients (d,)."""
    value, gradient = 0.0, np.zeros(beta.size)
    for some, rows in blocks(picked.size):
        logs, gaps = softmax(features[rows] @ beta, picked[some])
        value += float(logs.sum())
        gradient += gaps.ravel() @ features[rows]
    return Judged(value, float(np.linalg.norm(gradient)) / picked.size)


def standard_errors(features: Array, picked: Array, beta: Array) -> Array:
    """Return those of the inverse information, (d,)."""
    information = np.zeros((beta.size, beta.size))
    for some, rows in blocks(picked.size):
        x = features[rows].reshape(-1, K, beta.size)
        p = one_hot(picked[some], K, float) - softmax(features[rows] @ beta, picked[some])[1]
        centred = (x - np.einsum("skd,sk->sd", x, p)[:, None, :]) * np.sqrt(p)[:, :, None]
        flat = centred.reshape(-1, beta.size)
        information += flat.T @ flat
    return np.sqrt(np.diag(np.linalg.inv(information)))


def judge_items(items: Array, picked: Array, rewards: Array) -> Judged:
    """Judge rewards (items,)."""
    logs, gaps = softmax(rewards[items].ravel(), picked)
    gradient = np.bincount(items.ravel(), gaps.ravel(), rewards.size)
    return Judged(float(logs.sum()), float(np.linalg.norm(gradient)) / picked.size)


def judge_classes(data: tuple[Array, Array, Array], weights: Array, betas: Array) -> Judged:
    """Judge latent classes: weights (classes,), coefficients (classes, d); data sorted by chooser."""
    features, picked, choosers = data
    starts = np.flatnonzero(np.r_[True, choosers[1:] != choosers[:-1]])
    parts = [softmax(features @ beta, picked) for beta in betas]
    logs = np.stack([np.add.reduceat(part[0], starts) for part in parts], axis=1) + np.log(weights)
    total = np.logaddexp.reduce(logs, axis=1)
    share = np.exp(logs - total[:, None])
    sizes = np.diff(np.r_[starts, picked.size])
    slopes = [
        (part[1] * np.repeat(share[:, c], sizes)[:, None]).ravel() @ features for c, part in enumerate(parts)
    ]
    gradient = np.concatenate([*slopes, share.sum(axis=0) - weights * len(starts)])
    return Judged(float(total.sum()), float(np.linalg.norm(gradient)) / picked.size)


def tolerances(
    fit: Callable[[float], Array], highest: float, judged: Callable[[Array], Judged], best: Judged
) -> tuple[float, float]:
    """Return the largest powers of ten with which a peer's fit is precise, and with which it is the same."""
    equal = loose = None
    for exponent in range(round(np.log10(highest)), -13, -1):
        found = judged(fit(10.0**exponent))
        if off(found.value, best.value) <= SAME:
            loose = loose or 10.0**exponent
            if found.steepness <= STEEP:
                equal = 10.0**exponent
                break
    if equal is None:
        raise SystemExit("no tolerance of a peer reaches the precision wanted: no timing means anything")
    return equal, loose


# --- the peers ------------------------------------------------------------------------------------
#
# Each function prepares a peer's data (not timed) and returns the fastest sensible call that fits.


def by_xlogit(features: Array, picked: Array) -> Callable[[float], Array]:
    """Return ftol -> coefficients. The default ftol is 1e-10; no numerical second derivatives."""
    from xlogit import MultinomialLogit

    slates = picked.size
    k = len(features) // slates
    data = {
        "X": features,
        "y": one_hot(picked, k, bool).ravel(),
        "varnames": [f"x{j}" for j in range(features.shape[1])],
        "alts": np.tile(np.arange(k, dtype=np.int8), slates),  # small types: sorted faster
        "ids": np.repeat(np.arange(slates, dtype=np.int32), k),
    }

    def fit(ftol: float = 1e-10) -> Array:
        model = MultinomialLogit()
        model.fit(**data, tol_opts={"ftol": ftol}, skip_std_errs=True, verbose=0)
        return model.coeff_

    return fit


def by_torch_choice(features: Array, picked: Array) -> Callable[[], Array]:
    """Return () -> coefficients, by full-batch L-BFGS on the model's own loss.

    torch_choice.run does the same within Lightning, which costs more. The package computes in float32.
    """
    import torch
    from torch_choice.data import ChoiceDataset
    from torch_choice.model import ConditionalLogitModel

    torch.set_num_threads(1)
    slates, d = picked.size, features.shape[1]
    k = len(features) // slates
    data = ChoiceDataset(
        item_index=torch.from_numpy(picked),
        num_items=k,
        session_index=torch.arange(slates),
        itemsession_x=torch.from_numpy(features.reshape(slates, k, d)),
    )

    def fit() -> Array:
        model = ConditionalLogitModel(
            coef_variation_dict={"itemsession_x": "constant"},
            num_param_dict={"itemsession_x": d},
            num_items=k,
            weight_initialization="zero",
        )
        optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=20)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model.loss(data, data.item_index)
            loss.backward()
            return loss

        optimizer.step(closure)
        return next(model.parameters()).detach().numpy().astype(float).ravel()

    return fit


def by_larch(features: Array, picked: Array) -> Callable[[], Array]:
    """Return () -> coefficients, by BHHH (its default), without standard errors; data loaded before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces itself as experimental
        import larch
    import xarray

    slates, d = picked.size, features.shape[1]
    table = features.reshape(slates, -1, d)
    k = table.shape[1]
    columns = {f"x{j}": (("case", "alt"), table[:, :, j]) for j in range(d)}
    columns["pick"] = (("case", "alt"), one_hot(picked, k, float))
    columns["shown"] = (("case", "alt"), np.ones((slates, k), np.int8))
    coordinates = {"case": np.arange(slates), "alt": np.arange(1, k + 1)}
    data = larch.Dataset.construct(xarray.Dataset(columns, coordinates), caseid="case", alts="alt")
    model = larch.Model(data, compute_engine="numba")
    terms = [larch.P(f"x{j}") * larch.X(f"x{j}") for j in range(d)]
    model.utility_ca = sum(terms[1:], terms[0])
    model.choice_ca_var, model.availability_ca_var = "pick", "shown"
    model.reflow_data_arrays()
    order = [list(model.pnames).index(f"x{j}") for j in range(d)]

    def fit() -> Array:
        model.pvals = np.zeros(d)
        model.maximize_loglike(quiet=True, stderr=False)
        return np.asarray(model.pvals)[order]

    return fit


def by_choix(items: Array, picked: Array, count: int) -> Callable[[float], Array]:
    """Return tol -> rewards, by I-LSR. The default tol is 1e-8. Lists of Python's numbers are its fastest."""
    from choix import ilsr_top1

    slates = [(row.pop(slot), row) for row, slot in zip(items.tolist(), picked.tolist(), strict=True)]

    def fit(tol: float = 1e-8) -> Array:
        return ilsr_top1(count, slates, tol=tol)

    return fit


def one_hot(picked: Array, k: int, dtype: type) -> Array:
    """Return a table (slates, k) with ones at the picks."""
    found = np.zeros((picked.size, k), dtype)
    found[np.arange(picked.size), picked] = 1
    return found


# --- the jobs -------------------------------------------------------------------------------------


def logit(report: Report, scale: Scale) -> None:
    """Job 1."""
    slates, d = scale.of(1_000_000), 20
    features, picked = simulate(slates, d)

    def ours() -> Array:
        fit = conditional_logit(Choices.of(features, k=K, picked=picked))
        assert fit.standard_errors.shape == (d,)
        return fit.coefficients

    fit = conditional_logit(Choices.of(features, k=K, picked=picked))
    best = judge(features, picked, fit.coefficients)
    check("recurate's log-likelihood", off(fit.log_likelihood, best.value), EXACT)
    check("recurate's gradient", best.steepness, STEEP)
    wanted = standard_errors(features, picked, fit.coefficients)
    check("recurate's standard errors", off(fit.standard_errors, wanted), SAME)
    xlogit = by_xlogit(features, picked)
    equal, loose = tolerances(xlogit, 1e4, partial(judge, features, picked), best)
    peers: dict[str, Callable[[], Array]] = {
        "xlogit": xlogit,
        f"xlogit, ftol = {equal:g}": partial(xlogit, equal),
        f"xlogit, ftol = {loose:g}": partial(xlogit, loose),
        "torch-choice": by_torch_choice(features, picked),
    }
    if find_spec("larch"):
        peers["larch"] = by_larch(features, picked)
    precise = set()
    for name, peer in peers.items():
        found = judge(features, picked, peer())
        check(f"{name}'s log-likelihood", off(found.value, best.value), SAME)
        note_precision(report, "1", name, found, best)
        if found.steepness <= STEEP:
            precise.add(name)
    note_precision(report, "1", "recurate", best, best)
    calls = {"recurate, with standard errors": ours} | peers
    times = interleave(calls, scale.repeats(7), order=np.random.default_rng(1))
    report.timed("1", times)
    note_kernel(report, "1", times)
    own = times.pop("recurate, with standard errors")
    size = f"{power(slates)} slates x {K} x {d}"
    seconds(report, "1", f"recurate, conditional logit, {size}", own)
    equals = {name: found for name, found in times.items() if name in precise}
    name, fastest = quickest(equals)
    what = f"the fastest peer at the same precision ({name}) / recurate"
    ratio(report, "1", what, fastest.over(own), (4, 8))
    user = min(found.user_median for found in equals.values()) / own.user_median
    ratio(report, "1", "the same, time in the kernel (new pages) left out", (user, None))
    name, fastest = quickest(times)
    what = f"the fastest peer, log-likelihood the same to {SAME:g} and no more ({name}) / recurate"
    ratio(report, "1", what, fastest.over(own), (4, 8))
    for name, found in times.items():
        ratio(report, "1", f"{name} / recurate", found.over(own))
    report.note(
        "1",
        "recurate: from an array of features to coefficients and standard errors, Choices.of included. "
        "Peers: coefficients alone, their data laid out and loaded before; torch-choice computes in "
        f"float32. {EXPLAINED}",
    )


def memory(report: Report, scale: Scale) -> None:
    """Job 2: a fresh process each."""
    slates, d = scale.of(1_000_000), 20
    for name, bounds in (("recurate", (1.5, 1.1)), ("xlogit", (None, None))):
        command = [sys.executable, str(Path(__file__).resolve()), "--memory", name, str(slates), str(d)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
        what = f"peak memory of job 1 / its features ({found['megabytes']:.0f} MB), {name}"
        report.add(Line("2", what, found["peak"], None, "x", *bounds))
        report.note(
            "2", f"{name}: resident {found['data']:.3f} with the data made, {found['peak']:.3f} at most"
        )
    report.note(
        "2",
        "growth of a fresh process's resident pages at their highest (VmHWM) since before the data were "
        "made, after a small fit that loaded everything. Features count, and so do xlogit's long columns",
    )


def memory_child(name: str, slates: int, d: int) -> None:
    """Print resident bytes at their highest over the features' bytes (job 2)."""

    def fit(features: Array, picked: Array) -> Array:
        if name == "xlogit":
            return by_xlogit(features, picked)()
        found = conditional_logit(Choices.of(features, k=K, picked=picked))
        assert found.standard_errors.shape == (d,)
        return found.coefficients

    fit(*simulate(2_000, d))
    start = resident("VmRSS")
    features, picked = simulate(slates, d)
    data = (resident("VmRSS") - start) / features.nbytes
    beta = fit(features, picked)
    peak = (resident("VmHWM") - start) / features.nbytes
    assert judge(features, picked, beta).steepness < STEEP
    print(json.dumps({"data": data, "peak": peak, "megabytes": features.nbytes / 1e6}))


def items_against_choix(report: Report, scale: Scale) -> None:
    """Job 3."""
    count = 1000
    for slates in (scale.of(1_000_000), scale.of(100_000)):
        items, picked = simulate_items(slates, count)
        best = check_items(items, picked)
        choix = by_choix(items, picked, count)
        equal, loose = tolerances(choix, 100.0, partial(judge_items, items, picked), best)
        peers: dict[str, Callable[[], Array]] = {
            "choix": choix,
            f"choix, tol = {equal:g}": partial(choix, equal),
            f"choix, tol = {loose:g}": partial(choix, loose),
        }
        size = f"{power(slates)} slates"
        for name, peer in peers.items():
            note_precision(report, "3", f"{size}, {name}", judge_items(items, picked, peer()), best)
        note_precision(report, "3", f"{size}, recurate", best, best)
        calls = {"recurate": partial(item_rewards, items, picked)} | peers
        times = interleave(calls, scale.repeats(5), order=np.random.default_rng(3))
        report.timed("3", {f"{size}, {name}": found for name, found in times.items()})
        own = times["recurate"]
        seconds(report, "3", f"recurate, item rewards, {count:,} items, {size} of {K}", own)
        what = f"choix at the same precision (tol = {equal:g}) / recurate, {size}"
        ratio(report, "3", what, times[f"choix, tol = {equal:g}"].over(own), (40, 100))
        ratio(report, "3", "choix at its own tolerance (1e-8) / recurate", times["choix"].over(own))
        what = f"choix, log-likelihood the same to {SAME:g} and no more (tol = {loose:g}) / recurate"
        ratio(report, "3", what, times[f"choix, tol = {loose:g}"].over(own))
    report.note(
        "3",
        f"recurate: the check that an estimate exists is included. choix: its lists made before. {EXPLAINED}",
    )


def many_items(report: Report, scale: Scale) -> None:
    """Job 4."""
    slates, count = scale.of(1_000_000), scale.of(100_000)
    items, picked = simulate_items(slates, count)
    note_precision(report, "4", "recurate", *[check_items(items, picked)] * 2)
    times = interleave({"recurate": partial(item_rewards, items, picked)}, scale.repeats(7))
    report.timed("4", times)
    what = f"recurate, item rewards, {power(count)} items, {power(slates)} slates of {K}"
    seconds(report, "4", what, times["recurate"], (2.0, 0.4))
    report.note(
        "4",
        "choix would hold a matrix of items x items, 75 GB: not run. Items that were never picked were "
        "given one slate each, else no estimate is finite",
    )


def check_items(items: Array, picked: Array) -> Judged:
    """Check and judge recurate's own fit."""
    fit = item_rewards(items, picked)
    best = judge_items(items, picked, fit.rewards)
    check("recurate's log-likelihood", off(fit.log_likelihood, best.value), EXACT)
    check("recurate's gradient", best.steepness, STEEP)
    return best


def classes(report: Report, scale: Scale) -> None:
    """Job 5."""
    choosers, picks, d, starts = scale.of(20_000), 50, 10, 5
    features, picked, labels, truth = simulate_classes(choosers, picks, d)

    def ours() -> object:
        return latent_classes(
            Choices.of(features, k=K, picked=picked, choosers=labels), classes=2, starts=starts, seed=0
        )

    fit = ours()
    best = judge_classes((features, picked, labels), fit.weights, fit.coefficients)
    at_truth = judge_classes((features, picked, labels), *truth)
    check("recurate's log-likelihood", off(fit.log_likelihood, best.value), EXACT)
    check("recurate's gradient", best.steepness, STEEP)
    if best.value < at_truth.value:
        raise SystemExit(
            "the classes that picks were simulated from are more likely than those that were found"
        )
    note_precision(report, "5", "recurate", best, best)
    report.note(
        "5", f"log-likelihood at the truth {at_truth.value:.2f}; weights found {fit.weights.round(4)}"
    )
    times = interleave({"recurate": ours}, scale.repeats(5))
    report.timed("5", times)
    what = f"recurate, two classes, {choosers:,} choosers x {picks} picks, K = {K}, d = {d}, {starts} starts"
    seconds(report, "5", what, times["recurate"], (25.0, 8.0))


JOBS = {"1": logit, "2": memory, "3": items_against_choix, "4": many_items, "5": classes}


# --- writing --------------------------------------------------------------------------------------


def power(number: int) -> str:
    return f"{number:.0e}".replace("e+0", "e")


def quickest(times: dict[str, Times]) -> tuple[str, Times]:
    return min(times.items(), key=lambda named: named[1].median)


def note_precision(report: Report, job: str, name: str, found: Judged, best: Judged) -> None:
    apart = "" if found is best else f" ({found.value / best.value - 1:+.1g} of recurate's)"
    text = f"{name}: log-likelihood {found.value:.4f}{apart}, gradient per slate {found.steepness:.1g}"
    report.note(job, text)


def note_kernel(report: Report, job: str, times: dict[str, Times]) -> None:
    """Note how much of the processor time went into the kernel."""
    parts = [f"{name} {spell(float(np.median(found.kernel)))}" for name, found in times.items()]
    report.note(job, f"of the processor time, in the kernel (new pages for temporaries): {', '.join(parts)}")


def seconds(
    report: Report, job: str, what: str, times: Times, bounds: Sequence[float | None] = (None, None)
) -> None:
    """Add a line in seconds, judged by the wall clock."""
    report.add(Line(job, what, times.wall_median, times.median, "s", *bounds))


def ratio(
    report: Report,
    job: str,
    what: str,
    ratios: tuple[float, float | None],
    bounds: Sequence[float | None] = (None, None),
) -> None:
    """Add a line that is better the higher it is."""
    report.add(Line(job, what, *ratios, "x", *bounds, at_least=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, 3 repetitions: a trial")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which ones, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)  # the child processes of job 2
    arguments = parser.parse_args()
    if arguments.memory:
        memory_child(arguments.memory[0], *map(int, arguments.memory[1:]))
        return
    chosen = arguments.jobs.split(",")
    if unknown := set(chosen) - set(JOBS):
        parser.error(f"no such jobs: {', '.join(sorted(unknown))}")
    scale, report = Scale(arguments.quick), Report()
    arguments.out.mkdir(parents=True, exist_ok=True)
    command = "python benchmarks/choices_speed.py" + (" --quick" if arguments.quick else "")
    command += "" if chosen == list(JOBS) else f" --jobs {arguments.jobs}"
    facts = machine([name for name in ("torch", *PEERS) if find_spec(name.replace("-", "_"))])
    load, start = os.getloadavg()[0], time.perf_counter()
    for job in chosen:
        JOBS[job](report, scale)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    if arguments.quick:
        facts["sizes"] = "reduced by --quick: must and stretch are stated for the full sizes"
    write_csv(arguments.out / "choices_speed.csv", report)
    text = "\n".join(markdown("Speed and memory of the choice estimates", report, facts, command))
    (arguments.out / "choices_speed.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
