"""How often `recurate audit` accuses honest loops, and how often it names a fault rightly.

    python benchmarks/audit_calibration.py [--honest 1000] [--faults 100] [--only words] [--minutes 60]

Writes benchmarks/results/audit_calibration.md. All logs are simulated here, with nothing of the package's own
rules. Seeds are 0, 1, ... for each kind. All kinds are judged in turn, each log is recorded at once in
audit_calibration.jsonl beside the table, and a second call of the same code continues there.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.core.version import VERSION
from recurate.log.schema import as_log
from recurate.verbs.audit.audit import audit
from recurate.verbs.audit.declared import parse_declared

RESULT = Path(__file__).parent / "results" / "audit_calibration.md"
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Loop:
    """A loop: how candidates are made and how picks are made.

    Attributes:
        slates: Number of slates in all rounds.
        declared: What it declares.
        pick: Function of rewards (slates, K, m), a generator and the round's number that returns a mask.
        rewards: Number of rewards.
        change: Function of the columns (slates, K) of all rounds, applied before they are logged.
        must: Aspects that must be mismatches; none for honest loops.
        name: Words that must occur in what the first of these aspects recovers.
    """

    declared: dict[str, Any]
    pick: Callable[..., np.ndarray]
    slates: int = 6000
    rounds: int = 3
    k: int = 4
    rewards: int = 1
    before: Callable[..., Any] | None = None
    change: Callable[..., Any] | None = None
    must: tuple[str, ...] = ()
    name: str = ""


def largest(noisy: np.ndarray, keep: int = 1) -> np.ndarray:
    return noisy >= np.sort(noisy, axis=1)[:, [-keep]]


def gumbel(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return u + rng.gumbel(size=u.shape)


def luce(
    temperature: float = 1.0, keep: int = 1, lapse: float = 0.0, noise: str = "gumbel"
) -> Callable[..., Any]:
    def pick(r: np.ndarray, rng: np.random.Generator, t: int) -> np.ndarray:
        own = {"gumbel": rng.gumbel, "gaussian": rng.normal}.get(noise)
        u = r[..., 0] / temperature + (0 if own is None else own(size=r.shape[:2]))
        lapsed = rng.random(len(r)) < lapse
        return largest(np.where(lapsed[:, None], rng.random(u.shape), u), keep)

    return pick


def by(utility: Callable[..., np.ndarray], keep: int = 1) -> Callable[..., Any]:
    return lambda r, rng, t: largest(gumbel(utility(r[..., 0], t), rng), keep)


def mixed(weights: tuple[float, ...], keep: int = 1) -> Callable[..., Any]:
    def pick(r: np.ndarray, rng: np.random.Generator, t: int) -> np.ndarray:
        judge = rng.choice(len(weights), size=len(r), p=weights)
        return largest(gumbel(r[np.arange(len(r)), :, judge], rng), keep)

    return pick


def summed(r: np.ndarray, rng: np.random.Generator, t: int) -> np.ndarray:
    return largest(gumbel(r.mean(axis=2), rng))


def pooled(share: float, temperature: float | None) -> Callable[..., Any]:
    def pick(r: np.ndarray, rng: np.random.Generator, t: int) -> np.ndarray:
        u = r[..., 0] if temperature is None else gumbel(r[..., 0] / temperature, rng)
        return u >= np.sort(u.ravel())[-max(1, round(share * u.size))]

    return pick


def zscore(r: np.ndarray, t: int) -> np.ndarray:
    return (r - r.mean(axis=1, keepdims=True)) / r.std(axis=1, keepdims=True)


def placed(r: np.ndarray, t: int) -> np.ndarray:
    return r + 0.5 * (np.arange(r.shape[1]) == 0)


def within(r: np.ndarray, t: int) -> np.ndarray:
    return r / np.linspace(1.6, 0.4, len(r))[:, None]


def top_m(r: np.ndarray, t: int) -> np.ndarray:
    return np.where(r >= np.sort(r, axis=1)[:, [-2]], r, -np.inf)


def top_p(r: np.ndarray, t: int) -> np.ndarray:
    order = np.argsort(-r, axis=1)
    p = np.take_along_axis(np.exp(r), order, 1)
    p /= p.sum(axis=1, keepdims=True)
    allowed = np.zeros(r.shape, bool)
    np.put_along_axis(allowed, order, np.cumsum(p, axis=1) - p < 0.8, axis=1)
    return np.where(allowed, r, -np.inf)


def pair(r: np.ndarray, rng: np.random.Generator, t: int) -> np.ndarray:
    two = largest(rng.random(r.shape[:2]), 2)
    return largest(np.where(two, gumbel(r[..., 0], rng), -np.inf))


def twice(c: Columns, rng: np.random.Generator) -> None:
    first = int(np.flatnonzero(~c["picked"][7])[0])
    c["picked"][7, first] = True


def sort(c: Columns, rng: np.random.Generator) -> None:
    order = np.argsort(-c["reward"], axis=1)
    for name, values in c.items():
        c[name] = np.take_along_axis(values, order, axis=1)


def winner_first(c: Columns, rng: np.random.Generator) -> None:
    order = np.argsort(~c["picked"], axis=1, kind="stable")
    for name, values in c.items():
        c[name] = np.take_along_axis(values, order, axis=1)


def greedy(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    memory.setdefault("answers", rng.normal(size=60))
    memory.setdefault("contexts", rng.integers(0, 60, len(r)))
    r[:, 0, 0] = memory["answers"][memory["contexts"]]


def offline(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    r[:] = memory.setdefault("set", r.copy())


def again(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    old = memory.get("all")
    memory["all"] = r.copy() if old is None else np.concatenate([old, r])
    if old is not None:
        used = rng.random(r.shape[:2]) < 0.2
        r[used] = old.reshape(-1, r.shape[2])[rng.integers(0, old.size // r.shape[2], used.sum())]


def one_seed(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    r[:] = rng.normal(size=(1, *r.shape[1:])) * 0.9 + 0.4 * r


def copies(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    r[:, -1] = r[:, 0]


def real_data(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    real = memory.setdefault("real", rng.normal(size=500))
    used = rng.random(r.shape[:2]) < 0.1
    r[used, 0] = real[rng.integers(0, 500, used.sum())]


def capped(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    np.minimum(r, 0.8, out=r)


def rounded(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    np.round(r, 3, out=r)


def jump(r: np.ndarray, rng: np.random.Generator, t: int, memory: dict[str, Any]) -> None:
    r -= 6.0 * (t == 2)


def scored_again(c: Columns, rng: np.random.Generator) -> None:
    """The reward is a judge's noisy score, of which winners get another one, as logged."""
    r = c["reward"]
    c["reward"] = np.where(c["picked"], 0.6 * r + 0.5 * rng.normal(size=r.shape), r)


def lost(c: Columns, rng: np.random.Generator) -> None:
    """Every fiftieth slate is not logged."""
    missing = np.zeros(c["picked"].shape, bool)
    missing[rng.choice(len(missing), len(missing) // 50, replace=False)] = True
    c["lost"] = missing


ONE = {"k": 4, "temperature": 1.0, "noise": "gumbel"}
TWO = ONE | {"keep": 2}
HONEST = {
    "Luce": Loop(ONE, luce()),
    "Luce, 300 slates": Loop(ONE, luce(), 300),
    "Thurstone": Loop(ONE | {"noise": "gaussian"}, luce(noise="gaussian"), 1500),
    "best of K": Loop({"k": 4, "noise": "none"}, luce(noise="none"), 1500),
    "Luce with lapses": Loop(ONE | {"lapse": 0.1}, luce(lapse=0.1), 1500),
    "epsilon-greedy": Loop({"k": 4, "noise": "none", "lapse": 0.1}, luce(noise="none", lapse=0.1), 1500),
    "keep 2, weak": Loop(TWO | {"temperature": 3.0}, luce(3.0, 2), 100, 1),
    "keep 2, 12 slates": Loop(TWO, luce(1.0, 2), 12, 1),
    "keep 2": Loop(TWO, luce(1.0, 2), 1500),
    "keep 2 with lapses": Loop(TWO | {"lapse": 0.1}, luce(1.0, 2, 0.1), 1500),
    "keep 2, epsilon-greedy": Loop(
        {"k": 4, "keep": 2, "noise": "none", "lapse": 0.1}, luce(1, 2, 0.1, "none"), 900
    ),
    "keep 2, Gaussian": Loop(TWO | {"noise": "gaussian"}, luce(1.0, 2, noise="gaussian"), 900),
    "noisy pool, 12 of 48": Loop(
        {"top": 0.25, "noise": "gumbel", "temperature": 1.0}, pooled(0.25, 1.0), 12, 1
    ),
    "noisy pool": Loop({"top": 0.25, "noise": "gumbel", "temperature": 1.0}, pooled(0.25, 1.0), 900),
    "best share of the pool, slates of one": Loop({"top": 0.2}, pooled(0.2, None), 4500, 3, 1),
    "schedule, temperature not declared": Loop(
        {"k": 4, "noise": "gumbel"}, by(lambda r, t: r / (1.0, 0.7, 0.4)[t]), 1500
    ),
    "greedy answer in slot 0": Loop(ONE, luce(), 1500, before=greedy),
    "greedy answer in slot 0, K = 2": Loop(ONE | {"k": 2}, luce(), 1500, k=2, before=greedy),
    "offline candidates": Loop(ONE, luce(), 1500, before=offline),
    "winner written first": Loop(ONE, luce(), 1500, change=winner_first),
    "two rewards": Loop(ONE | {"weights": [0.3, 0.7]}, mixed((0.3, 0.7)), 1500, rewards=2),
    "two rewards, keep 2": Loop(TWO | {"weights": [0.3, 0.7]}, mixed((0.3, 0.7), 2), 1500, rewards=2),
    "mean of two rewards": Loop(ONE | {"weights": [0.5, 0.5], "scalarised": True}, summed, 1500, rewards=2),
    "sorted, Thurstone": Loop(ONE | {"noise": "gaussian"}, luce(noise="gaussian"), 1500, change=sort),
    "rewards with a cap": Loop(ONE, luce(), 1500, before=capped),
    "rewards of three digits": Loop(ONE, luce(), 1500, before=rounded),
    "sorted, lapses": Loop(ONE | {"lapse": 0.1}, luce(lapse=0.1), 1500, change=sort),
}  # fmt: skip
RULE = ("rule",)
FAULTS = {
    "another temperature": Loop(ONE, luce(0.7), must=("temperature",)),
    "best of K": Loop(ONE, luce(noise="none"), must=RULE, name="best of K"),
    "Thurstone": Loop(ONE, luce(noise="gaussian"), 20_000, must=RULE, name="Thurstone"),
    "random picks": Loop(ONE, luce(lapse=1.0), must=RULE, name="random"),
    "lapses of a fifth": Loop(ONE, luce(lapse=0.2), must=("lapse share",)),
    "mean of the rewards": Loop(
        ONE | {"weights": [0.5, 0.5]}, summed, rewards=2, must=RULE, name="scalarised"
    ),
    "keep 2, Gaussian at T = 0.2": Loop(
        TWO | {"noise": "gaussian"}, luce(0.2, 2, noise="gaussian"), must=("temperature",)
    ),
    "keep 2, Gumbel for Gaussian": Loop(TWO | {"noise": "gaussian"}, luce(1.0, 2), must=RULE, name="Luce"),
    "keep 2, lapses": Loop(TWO, luce(1.0, 2, 0.2), must=("lapse share",)),
    "keep 2, places": Loop(TWO, by(placed, 2), must=("position effects",)),
    "keep 2, schedule": Loop(
        TWO, by(lambda r, t: r / (1.5, 1.0, 0.5)[t], 2), must=("temperature over rounds",)
    ),
    "schedule": Loop(ONE, by(lambda r, t: r / (1.5, 1.0, 0.5)[t]), must=("temperature over rounds",)),
    "drift within rounds": Loop(ONE, by(within), must=("temperature within rounds",)),
    "places": Loop(ONE, by(placed), must=("position effects",)),
    "places and another temperature": Loop(
        ONE, by(lambda r, t: placed(r / 0.6, t)), must=("position effects", "temperature")
    ),
    "z-scores within slates": Loop(ONE, by(zscore), must=RULE, name="z-scores"),
    "clipped rewards": Loop(ONE, by(lambda r, t: np.clip(3 * r, -1, 1)), must=RULE, name="clipped"),
    "squashed rewards": Loop(ONE, by(lambda r, t: 2 * np.tanh(2 * r)), must=RULE, name="squashed"),
    "top-p": Loop(ONE, by(top_p), must=RULE, name="top-p"),
    "top-m": Loop(ONE, by(top_m), must=RULE, name="top-m"),
    "a random pair": Loop(ONE, pair, must=RULE, name="pair"),
    "one double pick": Loop(ONE, luce(), change=twice, must=("picks per slate",), name="1 of 6000"),
    "one seed for all slates of a round": Loop(
        ONE, luce(), rounds=5, before=one_seed, must=("candidates of different slates",)
    ),
    "the same, three rounds: by chance the slots' order may recur": Loop(
        ONE, luce(), before=one_seed, must=("candidates of different slates",)
    ),
    "candidates used again": Loop(ONE, luce(), before=again, must=("candidates used again",)),
    "candidates twice in a slate": Loop(ONE, luce(), before=copies, must=("distinct candidates per slate",)),
    "real data among candidates": Loop(ONE, luce(), before=real_data, must=("source of the candidates",)),
    "winners scored again: refused, under any name": Loop(ONE, luce(), change=scored_again, must=RULE),
    "slates missing": Loop(
        ONE | {"slates": 2000}, luce(), change=lost, must=("numbers of the slates",), name="missing"
    ),
    "a jump between rounds": Loop(ONE, luce(), before=jump, rounds=4, must=("transmission",), name="jump"),
    "share of the pool": Loop({"top": 0.5}, pooled(0.2, None), 4500, 3, 1, must=RULE, name="0.2"),
}


def table_of(loop: Loop, rng: np.random.Generator) -> pa.Table:
    """Return the log of one loop."""
    per_round = max(1, loop.slates // loop.rounds)
    memory: dict[str, Any] = {}
    parts: list[Columns] = []
    for t in range(loop.rounds):
        r = 0.3 * t + rng.normal(size=(per_round, loop.k, loop.rewards))
        if loop.before is not None:
            loop.before(r, rng, t, memory)
        c = {"reward": r[..., 0].copy(), "picked": loop.pick(r, rng, t)}
        c |= {f"reward_{j}": r[..., j].copy() for j in range(1, loop.rewards)}
        if loop.change is not None and (t == 0 or loop.change is not twice):
            loop.change(c, rng)
        shape = r.shape[:2]
        c["round"], c["slate"] = np.full(shape, t), np.arange(per_round)[:, None].repeat(loop.k, 1)
        c["slot"] = np.broadcast_to(np.arange(loop.k), shape)
        if "contexts" in memory:
            c["context"] = memory["contexts"][:, None].repeat(loop.k, 1).astype(str)
        parts.append(c)
    columns = {name: np.concatenate([c[name].ravel() for c in parts]) for name in parts[0]}
    gone = columns.pop("lost", None)
    table = pa.table(columns if gone is None else {name: v[~gone] for name, v in columns.items()})
    if "real" not in memory:
        return table
    table = table.append_column("source", pa.array(["model"] * table.num_rows))
    own = {
        "reward": memory["real"],
        "picked": np.zeros(500, bool),
        "round": np.zeros(500, int),
        "source": ["real"] * 500,
    }
    return pa.concat_tables([table, pa.table(own)], promote_options="permissive")


Job = tuple[bool, str, int]  # whether it is a fault, the kind and the seed


def judged(job: Job) -> tuple[dict[str, str], bool]:
    """Return the mismatches of one log, with what was recovered, and whether the fault was named rightly."""
    fault, kind, seed = job
    loop = (FAULTS if fault else HONEST)[kind]
    rng = np.random.default_rng([int(fault), *kind.encode(), seed])
    found = audit(as_log(table_of(loop, rng), several=True), parse_declared(loop.declared), lambda _: None)
    bad = {f.aspect: f.recovered for f in found.mismatches}
    right = set(loop.must) <= set(bad) and (not loop.must or loop.name in bad[loop.must[0]])
    return bad, right


def jobs(honest: int, faults: int, only: str) -> Iterator[list[Job]]:
    """Yield passes over all kinds, with the same share of the wanted logs of each."""
    passes = max(1, math.gcd(honest, faults))
    for turn in range(passes):
        yield [
            (fault, kind, seed)
            for fault, kinds, count in ((False, HONEST, honest), (True, FAULTS, faults))
            for kind in kinds
            if only in kind
            for seed in range(turn * count // passes, (turn + 1) * count // passes)
        ]


def digest() -> str:
    """Return a digest of the package's code and of this file: records of other code are not used."""
    files = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in [*files, Path(__file__)])).hexdigest()[:16]


def row_of(kind: str, fault: bool, found: list[tuple[dict[str, str], bool]]) -> str:
    """Return the row of one kind."""
    hits = sum(right for _, right in found) if fault else sum(bool(bad) for bad, _ in found)
    others: dict[str, int] = {}
    for bad, right in found:
        if not (fault and right):
            shown = [f"{a}: {r}" for a, r in bad.items()] or ["nothing"] if fault else list(bad)
            for words in shown:
                others[words] = others.get(words, 0) + 1
    most = "; ".join(f"{words} ({n})" for words, n in sorted(others.items(), key=lambda o: -o[1])[:3])
    return f"| {kind} | {hits} of {len(found)} | {most} |"


def table(found: dict[Job, tuple[dict[str, str], bool]]) -> str:
    """Return both tables."""
    lines = [f"Written by `benchmarks/audit_calibration.py` with recurate {VERSION}.", ""]
    for fault, kinds in ((False, HONEST), (True, FAULTS)):
        own = {kind: [v for job, v in found.items() if job[:2] == (fault, kind)] for kind in kinds}
        count = sum(map(len, own.values()))
        if fault:
            hits = sum(right for each in own.values() for _, right in each)
            lines += [f"Faults: {hits} of {count} logs named rightly.", ""]
            lines += ["| faults | named rightly | otherwise |", "|---|---|---|"]
        else:
            hits = sum(bool(bad) for each in own.values() for bad, _ in each)
            lines += [f"Honest loops: {hits} of {count} logs accused.", ""]
            lines += ["| honest loops | accused | of what |", "|---|---|---|"]
        lines += [*(row_of(kind, fault, each) for kind, each in own.items() if each), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--honest", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--only", default="", help="kinds that contain these words")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    code, records, end = digest(), args.out.with_suffix(".jsonl"), time.monotonic() + 60 * args.minutes
    found: dict[Job, tuple[dict[str, str], bool]] = {}
    for line in records.read_text(encoding="utf-8").splitlines() if records.exists() else []:
        old = json.loads(line)
        if old[0] == code:
            found[tuple(old[1])] = tuple(old[2])
    with ProcessPoolExecutor(args.workers) as pool, records.open("a", encoding="utf-8") as file:
        for several in jobs(args.honest, args.faults, args.only):
            left = iter([job for job in several if job not in found])
            while (some := list(itertools.islice(left, 4 * args.workers))) and time.monotonic() < end:
                for job, outcome in zip(some, pool.map(judged, some), strict=True):
                    found[job] = outcome
                    file.write(json.dumps([code, job, outcome]) + "\n")
                file.flush()
                args.out.write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    main()
