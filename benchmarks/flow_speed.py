"""One round of flow matching in the plane, ours and torchcfm's with torchdiffeq: see benchmarks/README.md.

python -m venv /tmp/peers
/tmp/peers/bin/pip install -c constraints.txt -e '.[run]' torchcfm==1.0.7 torchdiffeq
/tmp/peers/bin/python benchmarks/flow_speed.py    # some minutes on one core
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import copy
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from quality import PERMUTATIONS, POINTS, mmd
from torch import Tensor, nn
from torchcfm.conditional_flow_matching import (
    ConditionalFlowMatcher,
    ExactOptimalTransportConditionalFlowMatcher,
)
from torchdiffeq import odeint

from recurate.components.data import Gaussians
from recurate.components.generators.flow import FlowMatching, FlowSettings
from recurate.components.nets.training import build
from recurate.core.seeds import Stream

TRIALS = 5  # disjoint samples that are tested
MUST = 5.0


class Counted(nn.Module):
    """The network as torchdiffeq calls it, counting."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x, t.expand(len(x), 1))


def ours(first: FlowMatching, data: np.ndarray, count: int, seed: int):
    """Return samples, seconds of training and sampling, and evaluations of the network a sample."""
    clock = time.process_time()
    model = first.fit(data, rng=Stream(seed))
    middle = time.process_time()
    made = model.sample(count, rng=Stream(seed, ("sample",)))
    return made, middle - clock, time.process_time() - middle, 2 * model.settings.ode_steps


def theirs(first: FlowMatching, data: np.ndarray, count: int, seed: int, matcher, tolerances: dict):
    """Do the same round with torchcfm's loss and torchdiffeq's dopri5; all else is as in ours."""
    s, recipe = first.settings, first.settings.recipe(first.shape)
    clock = time.process_time()
    torch.manual_seed(seed)
    network = build(recipe, first.shape, seed, first.weights, "cpu")
    rows = torch.from_numpy(first.scaler.rows(data))
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, s.steps)
    average = copy.deepcopy(network)
    pairs = list(zip(average.parameters(), network.parameters(), strict=True))
    for step in range(s.steps):
        x1 = rows[torch.randint(len(rows), (recipe.batch,))]
        t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
        loss = (network(xt, t[:, None]) - ut).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        weight = 1 - min(s.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_([a.detach() for a, _ in pairs], [p.detach() for _, p in pairs], weight)
    middle = time.process_time()
    field = Counted(average)
    with torch.inference_mode():
        x = odeint(
            field, torch.randn(count, rows.shape[1]), torch.tensor([0.0, 1.0]), method="dopri5", **tolerances
        )
    made = first.scaler.samples(x[-1].numpy(), first.shape)
    return made, middle - clock, time.process_time() - middle, field.calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, in turn; medians are told")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "flow_speed.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = Gaussians(size=20_000).load(Stream(0))
    first = FlowMatching(FlowSettings(device="cpu")).fit(found.train, rng=Stream(1))
    held_out = Gaussians(size=POINTS * TRIALS).load(Stream(5)).train
    single = FlowMatching(
        first.settings.model_copy(update={"coupling": "independent"}),
        first.shape,
        first.scaler,
        first.weights,
    )
    exact = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    plain = ConditionalFlowMatcher(sigma=0.0)
    loose = {"rtol": 1e-4, "atol": 1e-4}
    ways = {
        "recurate, ot": lambda seed: ours(first, found.train, given.candidates, seed),
        "torchcfm exact ot + dopri5, defaults": lambda seed: theirs(
            first, found.train, given.candidates, seed, exact, {}
        ),
        "torchcfm exact ot + dopri5, tolerances 1e-4": lambda seed: theirs(
            first, found.train, given.candidates, seed, exact, loose
        ),
        "recurate, independent": lambda seed: ours(single, found.train, given.candidates, seed),
        "torchcfm independent + dopri5, defaults": lambda seed: theirs(
            first, found.train, given.candidates, seed, plain, {}
        ),
        "torchcfm independent + dopri5, tolerances 1e-4": lambda seed: theirs(
            first, found.train, given.candidates, seed, plain, loose
        ),
    }
    results: dict[str, list] = {name: [] for name in ways}
    for turn in range(given.rounds):
        for name, way in ways.items():
            made, train_s, sample_s, calls = way(10 + turn)
            tests = [mmd(made[i::TRIALS][:POINTS], held_out[i::TRIALS][:POINTS], i)[1] for i in range(TRIALS)]
            results[name].append((train_s, sample_s, calls, tests))
            print(turn, name, results[name][-1], flush=True)
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "torchcfm", "torchdiffeq", "pot"))
    lines = [
        "# One round of flow matching in the plane",
        "",
        f"`python benchmarks/flow_speed.py`: one thread of {platform.machine()}, Python "
        f"{platform.python_version()}, {packages}. Eight Gaussians, 20,000 training points. All ways start "
        f"from the same weights and train the same network (3 layers of 128) for "
        f"{first.settings.steps} steps "
        "of 512 with the same Adam, step sizes and moving average; then they make "
        f"{given.candidates:,} candidates. Optimal transport: ours in blocks of 128, torchcfm's over 512, "
        f"as it comes. Processor seconds, medians of {given.rounds} rounds in turn, on a machine "
        f"with other work. "
        f"Quality: of {TRIALS * given.rounds} tests (MMD, {POINTS} against {POINTS} fresh real points, "
        f"{PERMUTATIONS} permutations), those with p < 0.01, and the median p.",
        "",
        "| way | training s | sampling s | a round s | evaluations a sample | tests rejecting | median p |",
        "|---|---|---|---|---|---|---|",
    ]
    seconds = {}
    for name, rounds in results.items():
        train_s, sample_s = (float(np.median([r[i] for r in rounds])) for i in (0, 1))
        seconds[name] = float(np.median([r[0] + r[1] for r in rounds]))
        ps = np.concatenate([r[3] for r in rounds])
        calls = np.median([r[2] for r in rounds])
        lines.append(
            f"| {name} | {train_s:.2f} | {sample_s:.2f} | {seconds[name]:.2f} | {calls:.0f} | "
            f"{(ps < 0.01).sum()} of {len(ps)} | {np.median(ps):.2f} |"
        )
    names = list(ways)
    lines.append("")
    for own, others in ((names[0], names[1:3]), (names[3], names[4:])):
        for other in others:
            ratio = seconds[other] / seconds[own]
            met = "" if "1e-4" in other else f" (must be >= {MUST:g}: {'yes' if ratio >= MUST else 'NO'})"
            lines.append(f"- {other}: {ratio:.1f} times the seconds of {own}{met}")
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
