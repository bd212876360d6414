"""What the language generator costs beside bare loops on the same model. See benchmarks/README.md.

    python benchmarks/language_speed.py [--repeats 7]

Sampling: `causal.decoding.complete` against `model.generate` of transformers with the same batches, prompts
and number of tokens (nothing ends early). Training: `causal.tuning.tune` against a loop that pads the same
batches and calls the model with labels, with the same optimiser. Models were trained a little, so that their
distributions are not uniform. Calls alternate in one process, on one thread.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import copy
import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from measuring import Line, Report, interleave, machine, markdown

from recurate.components.causal.decoding import Manner, complete
from recurate.components.causal.tokens import learn_tokenizer
from recurate.components.causal.tuning import Course, Example, tune
from recurate.components.generators.language import ScratchSettings

torch.set_num_threads(1)
SIZES = {"0.7M": ScratchSettings(layers=2, width=128), "7M": ScratchSettings(layers=6, width=320, heads=5)}
BATCH, TOKENS, PROMPT = 64, 32, 8


def model_of(size: ScratchSettings):
    words = [f"word{i} and {i % 17} more of {i % 31}" for i in range(3000)]
    tokenizer = learn_tokenizer(words, size.vocabulary)
    model = size.build(tokenizer, 0)
    examples = [Example([1], [*ids, 2]) for ids in tokenizer(words)["input_ids"]]
    course = Course(1.0, BATCH, BATCH, 1e-3, 0.0, 1.0, None)
    tune(model, examples, course, 0, np.random.default_rng(0), nullcontext)
    return model


def sampling(report: Report, name: str, model, repeats: int) -> None:
    draw = np.random.default_rng(0)
    prompts = [[1, *draw.integers(4, 260, PROMPT - 1).tolist()] for _ in range(BATCH)]
    ids = torch.tensor(prompts)
    manner = Manner(1.0, 1.0, TOKENS, frozenset(), 0)

    def ours() -> object:
        with torch.inference_mode():
            return complete(model, prompts, lambda i: np.random.default_rng(i).random(TOKENS), manner, BATCH)

    def bare() -> object:
        with torch.inference_mode():
            return model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=TOKENS,
                min_new_tokens=TOKENS, pad_token_id=0,
            )  # fmt: skip

    found = interleave({"recurate": ours, "generate": bare}, repeats)
    job = f"sampling, {name}"
    report.timed(job, found)
    ratio, wall = found["generate"].over(found["recurate"])
    report.add(Line(job, "tokens per second, recurate / generate", ratio, wall, "times", 0.9, 1.0, True))


def training(report: Report, name: str, model, repeats: int) -> None:
    draw = np.random.default_rng(1)
    sizes = draw.integers(6, 30, 4 * BATCH)
    examples = [Example([1], [*draw.integers(4, 260, n).tolist(), 2]) for n in sizes]
    course = Course(1.0, BATCH, BATCH, 1e-4, 0.0, 1.0, None)
    mine, other = copy.deepcopy(model), copy.deepcopy(model)

    def ours() -> None:
        tune(mine, examples, course, 0, np.random.default_rng(0), nullcontext)

    def bare() -> None:
        other.train()
        steps = len(examples) // BATCH
        optimiser = torch.optim.AdamW(other.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        order = np.random.default_rng(0).permutation(len(examples))
        for step in range(steps):
            batch = [examples[i] for i in order[step * BATCH : (step + 1) * BATCH]]
            width = max(map(len, batch))
            ids, labels = torch.zeros(BATCH, width, dtype=torch.long), torch.full((BATCH, width), -100)
            mask = torch.zeros_like(ids)
            for row, example in enumerate(batch):
                end = len(example)
                ids[row, :end] = torch.tensor([*example.prompt, *example.completion])
                labels[row, 1:end] = torch.tensor(example.completion)
                mask[row, :end] = 1
            loss = other(input_ids=ids, attention_mask=mask, labels=labels).loss
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        assert math.isfinite(float(loss))

    found = interleave({"recurate": ours, "bare": bare}, repeats)
    job = f"training, {name}"
    report.timed(job, found)
    ratio, wall = found["bare"].over(found["recurate"])
    report.add(Line(job, "steps per second, recurate / bare", ratio, wall, "times", 0.9, 1.0, True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    report = Report()
    load = os.getloadavg()[0]
    for name, size in SIZES.items():
        model = model_of(size)
        count = sum(p.numel() for p in model.parameters())
        report.note(name, f"{count:,} parameters; {BATCH} prompts of {PROMPT} tokens, {TOKENS} more")
        sampling(report, name, model, arguments.repeats)
        training(report, name, model, arguments.repeats)
    facts = machine(["torch", "transformers"])
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    lines = markdown("Speed of the language generator", report, facts, "python benchmarks/language_speed.py")
    (arguments.out / "language_speed.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
