r"""A reward learned from picks: conditional logit with a network for utilities.

A chooser who takes candidate x of a slate S with probability exp r(x) / sum_{y in S} exp r(y) (Luce choice,
Bradley-Terry for two) is fitted by minimising

    - 1/S sum_s log [ exp r(x_pick) / sum_{y in slate s} exp r(y) ]

over networks r. Picks tell r up to a constant only, so that the mean over the training candidates is set to
zero, and its unit is the chooser's noise: picks by rewards at temperature T teach reward / T.

Slates are split in three. The network is trained on the first part; the second chooses the step at which
training stops; the third, on which nothing was chosen, gives the numbers that are reported.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError, model_validator

from recurate.choices.models.likelihood import luce_logs
from recurate.choices.table import Choices, codes_of
from recurate.components.nets.devices import choose_device, import_torch, threads
from recurate.components.rewards.heldout import LearnedFacts, facts_of, parts
from recurate.components.rewards.protocol import Samples
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.core.files import atomic_path, write_text
from recurate.core.seeds import Stream
from recurate.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

FORMAT = 1  # of saved rewards
WEIGHTS, CARD = "reward.safetensors", "reward.json"
CHUNK = 8192  # candidates at a time
CHECK = 10  # steps between looks at the validation part
FEWEST = 20  # slates


class LearnedSettings(Settings):
    """The network itself and how it is trained: an MLP of two layers, AdamW, the best step kept."""

    width: int = Field(64, ge=1, description="hidden units a layer (two layers)")
    steps: int = Field(2000, ge=1, description="training steps at most")
    batch: int = Field(128, ge=1, description="slates a step")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's step size, cosine-annealed to zero")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay")
    noise: float = Field(
        0.0, ge=0, description="sd of the noise added to standardised inputs in training; 1 helps with images"
    )
    patience: int = Field(500, ge=1, description="stop after so many steps without a better validation loss")
    validation: float = Field(0.2, gt=0, lt=1, description="share of slates that choose where to stop")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of slates kept for the reported numbers")
    device: str = Field("cpu", description="where it is trained: 'cpu', 'auto', 'cuda', ...")
    threads: int = Field(1, ge=1, description="CPU threads")

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        if self.validation + self.held_out > 0.9:
            raise ValueError("validation + held_out must leave a tenth of the slates to train on")
        return self


class LearnedRewardSettings(Settings):
    """Reward gamma r(x), r learned from picks and saved by `LearnedReward.save`."""

    kind: Literal["learned"]
    name: str = Field("reward", pattern=r"^[A-Za-z_]\w*$", description="name of the reward's column")
    weight: float | None = Field(None, ge=0, le=1, description="share of slates picked by this reward")
    folder: str = Field(description="the saved reward, seen from the current folder; the run keeps a copy")
    gamma: float = Field(1.0, gt=0, description="multiplies the learned reward")


class _Card(Settings):
    """What ``reward.json`` holds."""

    format: int
    settings: LearnedSettings
    shape: tuple[int, ...]
    facts: LearnedFacts
    sha256: str  # of reward.safetensors


@dataclass(frozen=True)
class LearnedReward:
    """A reward learned from picks.

    Attributes:
        settings: see :class:`LearnedSettings`.
        shape: shape of one sample.
        mean, scale: inputs are standardised with these: one mean a coordinate, one scale for all.
        centre: subtracted from the network's output.
        weights: the network's weights by name.
        facts: how good it is, see :class:`LearnedFacts`.
    """

    settings: LearnedSettings
    shape: tuple[int, ...]
    mean: Samples
    scale: float
    centre: float
    weights: dict[str, Any] = field(repr=False)
    facts: LearnedFacts

    @classmethod
    def train(
        cls,
        samples: Samples,
        offsets: ArrayLike,
        picked: ArrayLike,
        settings: LearnedSettings | None = None,
        *,
        rng: Stream,
        clusters: ArrayLike | None = None,
    ) -> Self:
        """Learn from one pick a slate.

        Args:
            samples: all candidates slate by slate, shape (n, ...).
            offsets: slate s is rows offsets[s] to offsets[s + 1] - 1, shape (S + 1,); sizes may vary.
            picked: the pick's place in its slate, from 0, shape (S,).
            settings: of the network and its training.
            rng: for the split, the first weights and the batches.
            clusters: chooser or context of each slate, shape (S,): whole ones stay on one side of the split,
                and slates within them count as dependent in standard errors.

        Raises:
            InputError: fewer than 20 slates, slates of fewer than two candidates, picks outside them, numbers
                that are not finite, picks that cannot tell candidates apart, or training diverged.
        """
        settings = settings or LearnedSettings()
        samples = np.asarray(samples, np.float32)
        choices = _choices(len(samples) if samples.ndim else 0, offsets, picked, clusters)
        flat = samples.reshape(len(samples), math.prod(samples.shape[1:]))
        _check(flat, choices)
        assert choices.choosers is not None
        split = parts(choices.choosers, (settings.validation, settings.held_out), rng.at("split"))
        _, rows = choices.slates.take(split[0])
        mean = flat[rows].mean(0, dtype=np.float64).astype(np.float32)
        scale = float(np.sqrt(np.square(flat[rows] - mean, dtype=np.float64).mean())) or 1.0
        inputs = _standard(flat, mean, scale)
        with threads(settings.threads):
            network, best_step = _fit(inputs, choices, split[:2], settings, rng)
            utilities = _utilities(network, inputs)
        centre = float(utilities[rows].mean())
        facts = facts_of(utilities - centre, choices, split, best_step)
        return cls(settings, samples.shape[1:], mean, scale, centre, _weights(network), facts)

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward a sample, shape (n,), always computed on the CPU.

        Raises:
            InputError: the samples have another shape than those it learned from.
        """
        samples = np.asarray(samples, np.float32)
        if samples.shape[1:] != self.shape or samples.ndim == 0:
            raise InputError(
                "the learned reward was trained on samples of another shape",
                got=f"samples of shape {samples.shape[1:]}, trained on {self.shape}",
                remedy="use data like those that it learned from, or learn a reward from picks of these",
            )
        flat = samples.reshape(len(samples), math.prod(self.shape))
        with threads(self.settings.threads):
            network = _network(flat.shape[1], self.settings.width, 0)
            network.load_state_dict(self.weights)
            found = _utilities(network, _standard(flat, self.mean, self.scale))
        return np.asarray(found - self.centre)

    def save(self, folder: Path | str) -> None:
        """Write ``reward.safetensors`` and ``reward.json`` into a folder, made if need be."""
        from safetensors.torch import save_file

        torch = import_torch()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = {
            "mean": torch.from_numpy(self.mean),
            "scale": torch.tensor([self.scale], dtype=torch.float64),
            "centre": torch.tensor([self.centre], dtype=torch.float64),
        }
        with atomic_path(folder / WEIGHTS) as partial:
            save_file(self.weights | numbers, partial)
        card = _Card(
            format=FORMAT,
            settings=self.settings,
            shape=self.shape,
            facts=self.facts,
            sha256=_sha256(folder / WEIGHTS),
        )
        write_text(folder / CARD, json.dumps(card.model_dump(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: a file is missing, damaged, altered, or of a newer format; the message names it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        card = _read_card(folder / CARD)
        path = folder / WEIGHTS
        if not path.is_file() or _sha256(path) != card.sha256:
            raise _damaged(
                path, "its SHA-256 is not the one in reward.json" if path.is_file() else "no such file"
            )
        try:
            weights = load_file(path)
            mean, scale, centre = (weights.pop(name).numpy() for name in ("mean", "scale", "centre"))
            if mean.shape != (math.prod(card.shape),):
                raise _damaged(folder / CARD, f"shape {card.shape} for weights of {mean.size} inputs")
            _network(mean.size, card.settings.width, 0).load_state_dict(weights)
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise _damaged(folder, str(error).strip().splitlines()[0]) from None
        return cls(card.settings, card.shape, mean, float(scale[0]), float(centre[0]), weights, card.facts)


@dataclass(frozen=True)
class ScaledReward:
    """See :class:`LearnedRewardSettings`."""

    settings: LearnedRewardSettings
    learned: LearnedReward

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward a sample, shape (n,)."""
        return np.asarray(self.settings.gamma * self.learned(samples))


# --- training ---


def _choices(rows: int, offsets: ArrayLike, picked: ArrayLike, clusters: ArrayLike | None) -> Choices:
    """Check slates and picks, and bind them together; clusters are the choosers, by default one a slate."""
    count = np.size(picked)
    if count < FEWEST or rows < 2 * FEWEST:
        raise InputError(
            "a reward cannot be learned from so few slates",
            got=f"{count} picks among {rows} samples",
            remedy=f"collect at least {FEWEST} slates; hundreds are needed for more than a rough idea",
        )
    choices = Choices.of(np.empty((rows, 0)), offsets=offsets, picked=picked)
    names = np.arange(count) if clusters is None else np.asarray(clusters).astype(str)
    return replace(choices, choosers=codes_of(names, count, "clusters"))


def _check(flat: Samples, choices: Choices) -> None:
    """Refuse samples of which nothing can be learned."""
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    if bad.size:
        raise InputError(
            f"{bad.size} samples hold numbers that are not finite",
            got=f"row {bad[0]}",
            remedy="drop their slates",
        )
    winners = flat[choices.picked_rows]
    if (winners == winners[0]).all():
        raise InputError(
            "all picks are alike: the likelihood has no maximum, or the candidates do not differ",
            got=f"one and the same sample picked in {len(choices)} slates",
            remedy="learn from picks of different samples",
        )
    low, high = (f.reduceat(flat, choices.slates.offsets[:-1], axis=0) for f in (np.minimum, np.maximum))
    if (low == high).all():
        raise InputError(
            "picks among candidates that are alike tell nothing",
            got=f"{len(choices)} slates, each of one sample repeated",
            remedy="learn from slates whose candidates differ",
        )


def _standard(flat: Samples, mean: Samples, scale: float) -> Tensor:
    torch = import_torch()
    found: Tensor = torch.from_numpy((flat - mean) / np.float32(scale))
    return found


def _network(inputs: int, width: int, seed: int) -> Sequential:
    """Return a network that says 0 everywhere at first, so that at step 0 all candidates are equal."""
    torch = import_torch()
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        last = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(last.weight)
        return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)


def _fit(
    inputs: Tensor, choices: Choices, split: tuple[IntArray, IntArray], settings: LearnedSettings, rng: Stream
) -> tuple[Sequential, int]:
    """Return the network at the step with the best validation likelihood, and that step."""
    import torch

    device = choose_device(settings.device)
    training, rows = choices.slates.take(split[0])
    train, watch = inputs[rows].to(device), inputs[choices.slates.take(split[1])[1]].to(device)
    validation = choices.take(split[1])
    told = training.offsets[:-1], training.sizes, choices.picked[split[0]]
    arrays = [torch.from_numpy(a).to(device) for a in told]
    network = _network(inputs.shape[1], settings.width, rng.at("network").integer()).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    torch_rng = torch.Generator().manual_seed(rng.at("batches").integer())
    best, best_step, kept = -math.inf, 0, _weights(network)
    for step in range(settings.steps + 1):
        if step % CHECK == 0 or step == settings.steps:
            found = _utilities(network, watch)
            _refuse_divergence(bool(np.isfinite(found).all()), step)
            value = float(luce_logs(validation, found).mean())
            if value > best:
                best, best_step, kept = value, step, _weights(network)
            if step == settings.steps or step - best_step >= settings.patience:
                break
        which = torch.randint(len(training), (settings.batch,), generator=torch_rng).to(device)
        starts, sizes, picked = (a[which] for a in arrays)
        slots = torch.arange(int(sizes.max()), device=device)
        inside = slots < sizes[:, None]
        batch = train[(starts[:, None] + slots)[inside]]
        if settings.noise > 0:
            batch = batch + settings.noise * torch.randn(batch.shape, generator=torch_rng).to(device)
        # Slates of one batch differ in size: places beyond the end have probability 0.
        blank = torch.full(inside.shape, -math.inf, device=device)
        loss = torch.nn.functional.cross_entropy(blank.masked_scatter(inside, network(batch)), picked)
        _refuse_divergence(bool(torch.isfinite(loss)), step)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    network.load_state_dict(kept)
    return network, best_step


def _refuse_divergence(finite: bool, step: int) -> None:
    if not finite:
        raise InputError(
            "training the reward diverged",
            got=f"a number that is not finite at step {step}",
            remedy="lower learning_rate, or look for extreme values in the samples",
        )


def _weights(network: Sequential) -> dict[str, Any]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _utilities(network: Sequential, inputs: Tensor) -> FloatArray:
    """Return the network's output for inputs (n, d), shape (n,)."""
    torch = import_torch()
    device = next(network.parameters()).device
    out = np.empty(len(inputs))
    with torch.inference_mode():
        for start in range(0, len(inputs), CHUNK):
            rows = slice(start, start + CHUNK)
            out[rows] = network(inputs[rows].to(device)).squeeze(1).cpu().double().numpy()
    return out


# --- files ---


def _read_card(path: Path) -> _Card:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "there is no saved reward", got=path, remedy="name a folder that LearnedReward.save has written"
        ) from None
    except (OSError, ValueError):
        raise _damaged(path, "not JSON") from None
    version = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise InputError(
            f"{path} was written by a newer recurate",
            got=f"format {version}; this version reads up to {FORMAT}",
            remedy="upgrade recurate",
        )
    try:
        return _Card.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _damaged(path: Path, fault: str) -> InputError:
    return InputError(
        "a file of the saved reward is not what was written",
        got=f"{path}: {fault}",
        remedy="restore it, or learn it again",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
