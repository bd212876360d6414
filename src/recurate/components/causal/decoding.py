r"""Sampling of completions, one at a time or in batches, with the same result.

Token s of item i is the smallest v with u <= sum_{w <= v} p_w. Here p is the model's distribution given the
prompt and the tokens before, sharpened by the temperature and cut to its nucleus (top-p: Holtzman et al.
2020, arXiv 1904.09751, section 3.1), and u is uniform, drawn at the coordinates of the item. In exact
arithmetic the result does not depend on the batch. In floating point p depends on it by rounding: padding and
the number of rows change the order of sums. Therefore a token whose u is within a margin of a boundary is
chosen by the distribution that is computed for this sequence alone, without padding and cache. In single
precision rounding is far below the margin, so that an item is the same whatever is sampled beside it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recurate.components.causal.tokens import Ids
from recurate.core.arrays import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

# Rounding in single precision moves a sum of probabilities by less than this times the spread of the logits
# over the temperature: by 2e-9 times it for small models that are nearly uniform, 4e-8 for sharp ones.
ROUNDING = 5e-7
FULL = 0.75  # share of rows that still run below which finished rows are removed from the batch

Uniforms = Callable[[int], FloatArray]  # the item's uniform numbers, one per token


@dataclass(frozen=True)
class Manner:
    """How tokens are drawn.

    Attributes:
        temperature: Temperature that divides the logits.
        top_p: Least probability of the smallest set of most probable tokens that is drawn from.
        longest: Largest number of tokens of a completion.
        ends: Ids of the tokens that end a completion.
        filler: Id that fills places that nothing attends to.
        alone: Whether tokens near a boundary are computed from their sequence alone, as single precision
            allows.
    """

    temperature: float
    top_p: float
    longest: int
    ends: frozenset[int]
    filler: int
    alone: bool = True


def complete(
    model: Any,
    prompts: Sequence[Ids],
    uniforms: Uniforms,
    manner: Manner,
    batch: int,
    stopped: Callable[[Ids], bool] | None = None,
) -> list[Ids]:
    """Return a completion of every prompt, without its end token.

    Args:
        model: Causal language model of transformers, on its device.
        prompts: Tokens of the prompts, none empty.
        uniforms: Function that returns the uniform numbers of an item, shape (longest,).
        manner: How tokens are drawn.
        batch: Number of prompts that are completed together: of similar lengths, shortest first.
        stopped: Function of the tokens so far that says whether the completion ends there.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    found: list[Ids] = [[] for _ in prompts]
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        numbers = np.stack([uniforms(i) for i in rows])
        parts = _complete([prompts[i] for i in rows], model, numbers, manner, stopped)
        for i, part in zip(rows, parts, strict=True):
            found[i] = part
    return found


def _complete(
    prompts: Sequence[Ids],
    model: Any,
    uniforms: FloatArray,
    manner: Manner,
    stopped: Callable[[Ids], bool] | None,
) -> list[Ids]:
    import torch

    steps = _Steps(model, prompts, manner.filler)
    out: list[Ids] = [[] for _ in prompts]
    running = np.arange(len(prompts))  # the item of every row of the batch
    active = np.ones(len(prompts), bool)
    numbers = torch.from_numpy(uniforms).to(model.device)
    for step in range(manner.longest):
        items = running.tolist()
        tokens, near = choose(steps.logits, numbers[running, step], manner)
        values = tokens.tolist()
        unsure = near.cpu().numpy() & active[running] if manner.alone else np.zeros(0, bool)
        for row in np.flatnonzero(unsure).tolist():
            own = items[row]
            values[row] = _alone(model, [*prompts[own], *out[own]], numbers[own, step], manner)
        for row, item in enumerate(items):
            if not active[item]:
                continue
            if values[row] in manner.ends:
                active[item] = False
                continue
            out[item].append(values[row])
            active[item] = stopped is None or not stopped(out[item])
        if not active.any() or step + 1 == manner.longest:
            break
        kept = np.flatnonzero(active[running])
        if kept.size < FULL * running.size:
            steps.keep(kept)
            running, values = running[kept], [values[row] for row in kept]
        steps.forward(values)
    return out


class _Steps:
    """The forward passes of a batch, which remember keys and values.

    Attributes:
        logits: Logits of the next token of every row, shape (rows, vocabulary).
    """

    def __init__(self, model: Any, prompts: Sequence[Ids], filler: int) -> None:
        import torch
        from transformers import DynamicCache

        self.model = model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        names = inspect.signature(base.forward).parameters
        self.remember = "cache" if "cache" in names else "past_key_values"  # renamed in transformers 5.24
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), filler, dtype=torch.long)
        self.mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):  # padded on the left: all rows end at the same place
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            self.mask[row, width - len(prompt) :] = 1
        self.mask, ids = self.mask.to(model.device), ids.to(model.device)
        places = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.cache = DynamicCache(config=model.config)
        self.place = places[:, -1:]
        self.logits = self._run(ids, places)

    def forward(self, tokens: Sequence[int]) -> None:
        """Append one token per row."""
        import torch

        ids = torch.tensor(tokens, device=self.model.device)[:, None]
        self.mask = torch.cat([self.mask, torch.ones_like(ids)], dim=1)
        self.place = self.place + 1
        self.logits = self._run(ids, self.place)

    def keep(self, rows: Any) -> None:
        """Drop all other rows."""
        import torch

        chosen = torch.from_numpy(rows).to(self.model.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.place = self.mask[chosen], self.place[chosen]

    def _run(self, ids: Tensor, places: Tensor) -> Tensor:
        made = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=places,
            use_cache=True,
            logits_to_keep=1,
            **{self.remember: self.cache},
        )
        found: Tensor = made.logits[:, -1]
        return found


def _alone(model: Any, ids: Ids, uniform: Tensor, manner: Manner) -> int:
    """Return the next token of one sequence, computed from the whole sequence."""
    import torch

    made = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=1)
    return int(choose(made.logits[:, -1], uniform[None], manner)[0])


def choose(logits: Tensor, uniforms: Tensor, manner: Manner) -> tuple[Tensor, Tensor]:
    """Return the drawn tokens, shape (rows,), and whether each is near a boundary, shape (rows,).

    Args:
        logits: Logits, shape (rows, vocabulary).
        uniforms: Uniform numbers, shape (rows,).
        manner: How tokens are drawn.
    """
    import torch

    p = torch.softmax(logits.double() / manner.temperature, dim=1)
    margin = ROUNDING * (logits.amax(1) - logits.amin(1)).double() / manner.temperature
    if manner.top_p < 1:
        p, unsure = _nucleus(p, manner.top_p, margin)
        margin = margin + unsure
    total = p.cumsum(1)
    target = uniforms.double() * total[:, -1]
    tokens = torch.searchsorted(total, target[:, None]).clamp(max=p.shape[1] - 1)
    above = total.gather(1, tokens)
    below = above - p.gather(1, tokens)
    gap = torch.minimum(above[:, 0] - target, target - below[:, 0]) / total[:, -1]
    return tokens[:, 0], gap < margin


def _nucleus(p: Tensor, top_p: float, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities (rows, v) with 0 outside the nucleus, and what its own boundary may move, (rows,).

    The boundary is unsure where the sum is within the margin of top_p, or where the last token that is kept
    and the first that is not are equally probable up to the margin: then their probability may move.
    """
    import torch

    ranked, order = p.sort(dim=1, descending=True, stable=True)
    before = ranked.cumsum(1) - ranked
    kept = before < top_p
    last = kept.sum(1, keepdim=True) - 1
    following = (last + 1).clamp(max=p.shape[1] - 1)
    weight, rival = ranked.gather(1, last)[:, 0], ranked.gather(1, following)[:, 0]
    start = before.gather(1, last)[:, 0]
    close = ((start - top_p).abs() < margin) | ((start + weight - top_p).abs() < margin)
    close |= weight - rival < 4 * margin * weight
    inside = torch.zeros_like(p).scatter(1, order, kept.double())
    return p * inside, torch.where(close, 2 * weight + 2 * rival, torch.zeros_like(weight))
