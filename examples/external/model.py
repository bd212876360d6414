"""A small language model in plain PyTorch: it answers prompts, word by word. It does not use recurate.

    python model.py train --data FILE --load FOLDER --save FOLDER --seed N
    python model.py answer --prompts FILE --out FILE --load FOLDER --seed N

Data are JSON lines with "context" (the prompt) and "sample" (the answer). With an empty --load folder,
training starts from scratch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

LONGEST = 12  # words per answer, at most
STEPS_FIRST, STEPS, BATCH, RATE = 600, 150, 64, 5e-3


class Model(nn.Module):
    """A GRU that reads the prompt, then writes the answer."""

    def __init__(self, words: int, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.body = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, tokens, state=None):
        out, state = self.body(self.embedding(tokens), state)
        return self.head(out), state


def read(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def load(folder: Path) -> tuple[Model, list[str]]:
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    model = Model(len(words))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model, words


def encode(text: str, index: dict[str, int]) -> list[int]:
    return [index[word] for word in text.split() if word in index]


def train(args: argparse.Namespace) -> None:
    rows, old = read(args.data), Path(args.load)
    if (old / "words.json").exists():
        model, words = load(old)
        steps = STEPS
    else:
        seen = {word for row in rows for word in (row["context"] + " " + row["sample"]).split()}
        words = ["<end>", "<answer>", *sorted(seen)]
        model, steps = Model(len(words)), STEPS_FIRST
    index = {word: i for i, word in enumerate(words)}
    prompts = [[*encode(row["context"], index), 1] for row in rows]
    answers = [[*encode(row["sample"], index)[:LONGEST], 0] for row in rows]
    size = max(len(p) + len(a) for p, a in zip(prompts, answers))
    tokens = torch.zeros(len(rows), size, dtype=torch.long)
    target = torch.full((len(rows), size), -100)  # the loss ignores prompt and padding
    for i, (p, a) in enumerate(zip(prompts, answers)):
        tokens[i, : len(p) + len(a)] = torch.tensor(p + a)
        target[i, len(p) - 1 : len(p) + len(a) - 1] = torch.tensor(a)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows_now = torch.randint(len(tokens), (BATCH,))
        scores, _ = model(tokens[rows_now])
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), target[rows_now].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    save_file(model.state_dict(), Path(args.save) / "model.safetensors")
    (Path(args.save) / "words.json").write_text(json.dumps(words), encoding="utf-8")


@torch.inference_mode()
def answer(args: argparse.Namespace) -> None:
    model, words = load(Path(args.load))
    index = {word: i for i, word in enumerate(words)}
    rows = read(args.prompts)
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row["context"], []).append(i)
    texts = [""] * len(rows)
    for prompt, members in sorted(groups.items()):
        start = torch.tensor([[*encode(prompt, index), 1]]).expand(len(members), -1)
        scores, state = model(start)
        alive = torch.ones(len(members), dtype=torch.bool)
        written: list[list[str]] = [[] for _ in members]
        for _ in range(LONGEST):
            token = torch.multinomial(torch.softmax(scores[:, -1], dim=1), 1)
            alive &= token[:, 0] != 0
            for j in torch.nonzero(alive)[:, 0].tolist():
                written[j].append(words[token[j, 0]])
            scores, state = model(token, state)
        for i, line in zip(members, written):
            texts[i] = " ".join(line)
    lines = [json.dumps({"item": row["item"], "sample": text}) for row, text in zip(rows, texts)]
    Path(args.out).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function, options in (
        ("train", train, ("data", "load", "save")),
        ("answer", answer, ("prompts", "out", "load")),
    ):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        for option in options:
            command.add_argument(f"--{option}", required=True)
        command.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    args.function(args)


if __name__ == "__main__":
    main()
