"""Supervised fine-tuning of a causal language model: cross entropy of completions given their prompts.

The loss of a step is - 1/N sum log p(token | everything before it in its sequence), over the N tokens of
completions, end tokens included, of the step's sequences. Tokens of prompts and padding are never predicted.
Sequences may be packed: several in one row, none of which sees another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recurate.components.causal.tokens import Ids
from recurate.components.nets.training import Descent, optimise
from recurate.core.arrays import IntArray

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # label of a token that is not predicted, as in PyTorch's cross entropy


@dataclass(frozen=True)
class Example:
    """A training sequence: the tokens of the prompt and of the completion, with its end token."""

    prompt: Ids
    completion: Ids

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class Rows:
    """Rows of a forward pass, each of one sequence or of several that are packed.

    Attributes:
        ids: Tokens, shape (rows, width).
        labels: Tokens that are predicted, IGNORED elsewhere, shape (rows, width).
        places: Place of each token in its own sequence, shape (rows, width).
        parts: Number of the sequence in its row, from 1; 0 for padding, shape (rows, width).
    """

    ids: IntArray
    labels: IntArray
    places: IntArray
    parts: IntArray


def cut(examples: Sequence[Example], window: int) -> tuple[list[Example], int]:
    """Return the examples cut at ``window`` tokens, and how many were cut."""
    long = sum(len(e) > window for e in examples)
    kept = [Example(e.prompt, e.completion[: window - len(e.prompt)]) for e in examples]
    return kept, long


def packed(examples: Sequence[Example], width: int) -> list[list[Example]]:
    """Return the examples in rows of at most ``width`` tokens: each in the first row that has room for it."""
    rows: list[list[Example]] = []
    room: list[int] = []
    for example in examples:
        row = next((r for r, left in enumerate(room) if left >= len(example)), None)
        if row is None:
            rows.append([])
            room.append(width)
            row = len(rows) - 1
        rows[row].append(example)
        room[row] -= len(example)
    return rows


def rows_of(packs: Sequence[Sequence[Example]], filler: int) -> Rows:
    """Return rows of equal width, padded on the right."""
    width = max(sum(map(len, pack)) for pack in packs)
    shape = (len(packs), width)
    ids, labels = np.full(shape, filler), np.full(shape, IGNORED)
    places, parts = np.zeros(shape, int), np.zeros(shape, int)
    for row, pack in enumerate(packs):
        at = 0
        for number, example in enumerate(pack, start=1):
            end, start = at + len(example), at + len(example.prompt)
            ids[row, at:end] = [*example.prompt, *example.completion]
            labels[row, start:end] = example.completion
            places[row, at:end] = np.arange(len(example))
            parts[row, at:end] = number
            at = end
    return Rows(ids, labels, places, parts)


def total_loss(model: Any, rows: Rows) -> Tensor:
    """Return - sum log p(label | what is before it in its own sequence) over the labels of rows, a scalar."""
    import torch

    device = model.device
    ids, labels, places, parts = (
        torch.from_numpy(a).to(device) for a in (rows.ids, rows.labels, rows.places, rows.parts)
    )
    alone = int(rows.parts.max(initial=0)) <= 1
    mask = (parts > 0).long() if alone else _apart(parts, model.dtype)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).logits
    flat, wanted = logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="sum")


def _apart(parts: Tensor, dtype: Any) -> Tensor:
    """Return the additive mask (rows, 1, width, width) with which no sequence sees another or padding."""
    import torch

    width = parts.shape[1]
    seen = (parts[:, :, None] == parts[:, None, :]) & (parts[:, None, :] > 0)
    seen &= torch.ones(width, width, dtype=torch.bool, device=parts.device).tril()
    seen |= torch.eye(width, dtype=torch.bool, device=parts.device)  # no row is empty
    return torch.zeros(seen.shape, dtype=dtype, device=parts.device).masked_fill(
        ~seen, torch.finfo(dtype).min
    )[:, None]


@dataclass(frozen=True)
class Course:
    """How long and in what portions a model is trained.

    Attributes:
        epochs: Passes over the examples; the last may be partial.
        batch: Sequences per step.
        micro: Sequences (rows, if packed) per forward pass: gradients of several passes are added.
        learning_rate: Initial step size of AdamW, annealed to zero along a cosine.
        weight_decay: Weight decay.
        clip: Largest norm of the gradient.
        width: Tokens per row of packed sequences; None: each sequence has a row.
    """

    epochs: float
    batch: int
    micro: int
    learning_rate: float
    weight_decay: float
    clip: float
    width: int | None

    def steps(self, examples: int) -> int:
        """Return the number of steps for a number of examples, at least 1."""
        return max(round(self.epochs * examples / self.batch), 1)


@dataclass(frozen=True)
class Share:
    """One process's share of the forward passes.

    Attributes:
        rank: Number of the process.
        size: Number of processes.
        add: Function that replaces tensors by their sums over all processes.
    """

    rank: int = 0
    size: int = 1
    add: Callable[[Sequence[Tensor]], None] | None = None


ALONE = Share()


def tune(
    model: Any,
    examples: Sequence[Example],
    course: Course,
    filler: int,
    draw: np.random.Generator,
    precision: Callable[[], AbstractContextManager[Any]],
    share: Share = ALONE,
) -> None:
    """Train a model in place.

    Args:
        model: Causal language model of transformers, on its device.
        examples: Training sequences, each with a completion.
        course: How long and in what portions.
        filler: Id that fills places that nothing attends to.
        draw: Random numbers for the order: every epoch is a permutation.
        precision: Context manager of the forward passes.
        share: Which of a step's passes are this process's.

    Raises:
        Diverged: If the loss or the weights are not finite.
    """

    def batches() -> Iterator[list[Example]]:
        left: list[int] = []
        while True:
            while len(left) < course.batch:
                left += draw.permutation(len(examples)).tolist()
            chosen, left = left[: course.batch], left[course.batch :]
            yield [examples[i] for i in chosen]

    def loss(batch: list[Example]) -> Iterator[Tensor]:
        count = sum(len(e.completion) for e in batch)
        # Similar lengths together: less padding. The sum does not depend on the order.
        ordered = sorted(batch, key=len, reverse=True)
        packs = [[e] for e in ordered] if course.width is None else packed(ordered, course.width)
        for start in range(share.rank * course.micro, len(packs), share.size * course.micro):
            with precision():
                yield total_loss(model, rows_of(packs[start : start + course.micro], filler)) / count

    descent = Descent(
        "language model", course.steps(len(examples)), course.learning_rate, course.weight_decay, course.clip
    )
    was_training = model.training
    model.train()
    optimise(model, batches(), loss, descent, add=share.add)
    model.train(was_training)
