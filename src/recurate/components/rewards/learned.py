r"""A reward learned from picks: conditional logit with a network for utilities.

The model of a chooser picks candidate x of slate s with probability exp r(x) / sum_{y in s} exp r(y) (Luce
1959, Individual Choice Behavior; Bradley-Terry for pairs). It is fitted by minimising

    - 1/S sum_s log [ exp r(x_pick) / sum_{y in slate s} exp r(y) ]

over networks r, for S slates; for pairs this is the reward model of Christiano et al. (2017, arXiv
1706.03741, eq. 1). Picks identify r up to a constant; its mean over the training candidates is set to zero.
Its unit is the chooser's noise: picks by a reward at temperature T identify reward / T.

Slates are split in three parts: the network is trained on the first, the second selects the training step,
and the reported numbers come from the third, on which nothing was selected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.logit import conditional_logit
from recurate.choices.models.rival_rules import best_chances
from recurate.choices.table import Choices, codes_of
from recurate.components.nets.devices import choose_device, import_torch, threads
from recurate.components.nets.saved import Arrays, Card, Kept
from recurate.components.nets.training import Descent, optimise, set_weights, weights_of
from recurate.components.protocols import Prepared, RewardSettings
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import Diverged, InputError
from recurate.core.fingerprints import Fingerprint, of_folder
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples
from recurate.metrics.estimates import Estimate, mean
from recurate.rules.rule import Rule

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

CHUNK = 8192  # candidates evaluated together
CHECK = 10  # training steps between two validations
FEWEST = 20  # slates from which a reward can be learned


class LearnedSettings(Settings):
    """Settings of a learned reward: an MLP with two hidden layers, trained with AdamW."""

    width: int = Field(64, ge=1, le=10**9, description="hidden units per layer (two layers)")
    steps: int = Field(2000, ge=1, le=10**9, description="largest number of training steps")
    batch: int = Field(128, ge=1, le=10**9, description="slates per training step")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's step size, cosine-annealed to zero")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay")
    noise: float = Field(
        0.0, ge=0, description="sd of the noise added to standardised inputs in training; 1 helps with images"
    )
    patience: int = Field(
        500, ge=1, le=10**9, description="steps without a better validation loss after which training stops"
    )
    validation: float = Field(
        0.2, gt=0, lt=1, description="share of slates that choose the step at which training stops"
    )
    held_out: float = Field(0.2, gt=0, lt=1, description="share of slates held out for the reported numbers")
    device: str = Field("cpu", description="device for training: 'cpu', 'auto', 'cuda', ...")
    threads: int = Field(1, ge=1, le=10**9, description="CPU threads")

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        if self.validation + self.held_out > 0.9:
            raise ValueError("validation + held_out must leave at least a tenth of the slates for training")
        return self


class LearnedRewardSettings(RewardSettings):
    """Reward gamma r(x), where r was learned from picks and saved by `LearnedReward.save`."""

    kind: Literal["learned"]
    folder: str = Field(description="the saved reward, relative to the current folder; the run keeps a copy")

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the saved reward."""
        return of_folder(serves, Path(self.folder), kept=True)

    def build(self, prepared: Prepared) -> ScaledReward:
        """Return the reward, from the run's own copy if it exists."""
        return ScaledReward(self, LearnedReward.load(prepared.kept or self.folder))


class LearnedFacts(Settings):
    """Quality of a learned reward on held-out slates.

    Attributes:
        training, validation, held_out: Numbers of slates in the three parts.
        best_step: Training step whose weights were kept; 0: the reward is constant, nothing was learned.
        log_likelihood, log_likelihood_error: Mean log-likelihood per slate, in nats, and its standard error.
        uniform: Mean log-likelihood per slate of picks at random, - mean log(slate size).
        gain_error: Standard error of log_likelihood - uniform.
        accuracy: Share of slates whose pick has the largest reward; m tied candidates count 1/m each.
        slope, slope_error: Factor on the rewards that maximises the likelihood, 1 for calibrated rewards, and
            its standard error; None if no finite factor maximises it.
    """

    training: int
    validation: int
    held_out: int
    best_step: int
    log_likelihood: float
    log_likelihood_error: float
    uniform: float
    gain_error: float
    accuracy: float
    slope: float | None
    slope_error: float | None

    @property
    def gain(self) -> float:
        """Gain in log-likelihood over picks at random, in nats per slate."""
        return self.log_likelihood - self.uniform

    def summary(self) -> str:
        """Return the numbers in one line."""
        slope = "unknown" if self.slope is None else f"{self.slope:.2f} ± {self.slope_error:.2f}"
        return (
            f"held-out log-likelihood {self.log_likelihood:.3f} ± {self.log_likelihood_error:.3f} per slate "
            f"(at random {self.uniform:.3f}), accuracy {self.accuracy:.1%}, calibration slope {slope}; "
            f"slates: {self.training} training, {self.validation} validation, {self.held_out} held out"
        )


class _Card(Card):
    """Content of ``reward.json``."""

    settings: LearnedSettings
    scale: float
    centre: float
    facts: LearnedFacts


REWARD = Kept("reward", _Card, "name a folder that LearnedReward.save wrote")


@dataclass(frozen=True)
class LearnedReward:
    """A reward r learned from picks: P(pick x of slate s) = exp r(x) / sum_{y in s} exp r(y).

    Picks identify r up to a constant, which is set so that r has mean 0 on the training candidates.

    Attributes:
        settings: Settings of the network and its training.
        shape: Shape of one sample.
        mean, scale: Mean of every coordinate, shape (d,), and scale common to all, which standardise inputs.
        centre: Mean output of the network on the training candidates, which is subtracted.
        weights: Weights of the network, by name.
        facts: Quality on held-out slates.
    """

    settings: LearnedSettings
    shape: tuple[int, ...]
    mean: Samples
    scale: float
    centre: float
    weights: Arrays = field(repr=False)
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
        """Learn from one pick per slate.

        Args:
            samples: Candidates of all slates, slate by slate, shape (n, ...).
            offsets: Bounds of the slates, shape (S + 1,): slate s is rows offsets[s] to offsets[s + 1] - 1;
                sizes may vary.
            picked: Slot of the pick in each slate, from 0, shape (S,).
            settings: Settings of the network and its training; None: defaults.
            rng: Stream of the split, the initial weights and the batches.
            clusters: Chooser or context of each slate, shape (S,). The split never divides a cluster, and
                standard errors are clustered by it.

        Raises:
            InputError: If there are fewer than 20 slates, a slate has fewer than two candidates, a pick is
                outside its slate, samples are not finite, the picks identify nothing, or there are too few
                clusters.
            Diverged: If the loss, the weights or the rewards are not finite.
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
        return cls(settings, samples.shape[1:], mean, scale, centre, weights_of(network), facts)

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,), computed on the CPU.

        Raises:
            InputError: If the shape of the samples differs from that of the training data.
        """
        samples = np.asarray(samples, np.float32)
        if samples.shape[1:] != self.shape or samples.ndim == 0:
            raise InputError(
                "the learned reward was trained on samples of another shape",
                got=f"samples of shape {samples.shape[1:]}, trained on {self.shape}",
                remedy="use data of that shape, or learn a reward from picks of these",
            )
        flat = samples.reshape(len(samples), math.prod(self.shape))
        with threads(self.settings.threads):
            network = _network(flat.shape[1], self.settings.width, 0)
            set_weights(network, self.weights)
            found = _utilities(network, _standard(flat, self.mean, self.scale))
        return np.asarray(found - self.centre)

    def save(self, folder: Path | str) -> None:
        """Write ``reward.json`` and ``reward.safetensors`` to a folder, created if necessary."""
        card = _Card(
            settings=self.settings, shape=self.shape, scale=self.scale, centre=self.centre, facts=self.facts
        )
        REWARD.write(Path(folder), card, self.weights | {"mean": self.mean})

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a reward that :meth:`save` wrote.

        Raises:
            InputError: If a file is missing, damaged, altered or of another format; the message names it.
        """
        with REWARD.read(Path(folder)) as (card, arrays):
            mean = arrays.pop("mean")
            if mean.shape != (math.prod(card.shape),):
                raise ValueError(f"shape {card.shape} for weights of {mean.size} inputs")
            set_weights(_network(mean.size, card.settings.width, 0), arrays)
            return cls(mean=mean, weights=arrays, **dict(card))


@dataclass(frozen=True)
class ScaledReward:
    """Reward gamma r(x), where r was learned from picks.

    Raises:
        InputError: If the shape of samples differs from that of the training data.
    """

    settings: LearnedRewardSettings
    learned: LearnedReward

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,)."""
        return np.asarray(self.settings.gamma * self.learned(samples))

    def save(self, folder: Path) -> None:
        """Write the learned reward to a folder; see :meth:`LearnedReward.save`."""
        self.learned.save(folder)

    def facts(self) -> dict[str, Any]:
        """Return its quality on held-out slates, in one line."""
        return {"learned_from_picks": self.learned.facts.summary()}


# --- training ---


def _choices(rows: int, offsets: ArrayLike, picked: ArrayLike, clusters: ArrayLike | None) -> Choices:
    """Check slates and picks, and return them with clusters as choosers, by default one per slate."""
    count = np.size(picked)
    if count < FEWEST or rows < 2 * FEWEST:
        raise InputError(
            "a reward cannot be learned from so few slates",
            got=f"{count} picks among {rows} samples",
            remedy=f"collect at least {FEWEST} slates, and hundreds for a useful reward",
        )
    choices = Choices.of(np.empty((rows, 0)), offsets=offsets, picked=picked)
    names = np.arange(count) if clusters is None else np.asarray(clusters).astype(str)
    return replace(choices, choosers=codes_of(names, count, "clusters"))


def _check(flat: Samples, choices: Choices) -> None:
    """Check that samples are finite and that the picks can identify a reward."""
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
            "all picks are the same sample: the likelihood has no maximum, or the candidates are identical",
            got=f"the same sample picked in {len(choices)} slates",
            remedy="learn from picks of different samples",
        )
    low, high = (f.reduceat(flat, choices.slates.offsets[:-1], axis=0) for f in (np.minimum, np.maximum))
    if (low == high).all():
        raise InputError(
            "picks among identical candidates identify nothing",
            got=f"{len(choices)} slates, each of one sample repeated",
            remedy="learn from slates whose candidates differ",
        )


def _standard(flat: Samples, mean: Samples, scale: float) -> Tensor:
    torch = import_torch()
    found: Tensor = torch.from_numpy((flat - mean) / np.float32(scale))
    return found


def _network(inputs: int, width: int, seed: int) -> Sequential:
    """Return a network whose output is 0 before training, so that all candidates are equal at step 0."""
    torch = import_torch()
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        last = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(last.weight)
        return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)


def _fit(
    inputs: Tensor, choices: Choices, split: tuple[IntArray, IntArray], settings: LearnedSettings, rng: Stream
) -> tuple[Sequential, int]:
    """Train; return the network at the step with the highest validation likelihood, and that step."""
    import torch

    device = choose_device(settings.device)
    training, rows = choices.slates.take(split[0])
    train = inputs[rows].to(device)
    layout = (training.offsets[:-1], training.sizes, choices.picked[split[0]])
    arrays = [torch.from_numpy(a).to(device) for a in layout]
    network = _network(inputs.shape[1], settings.width, rng.at("network").integer()).to(device)
    torch_rng = torch.Generator().manual_seed(rng.at("batches").integer())

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield candidates (n, d), their places in a table (slates, largest size), and the picks' slots."""
        while True:
            which = torch.randint(len(training), (settings.batch,), generator=torch_rng).to(device)
            starts, sizes, picked = (a[which] for a in arrays)
            slots = torch.arange(int(sizes.max()), device=device)
            inside = slots < sizes[:, None]
            batch = train[(starts[:, None] + slots)[inside]]
            if settings.noise > 0:
                batch = batch + settings.noise * torch.randn(batch.shape, generator=torch_rng).to(device)
            yield batch, inside, picked

    def loss(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        candidates, inside, picked = batch
        # Slates in a batch differ in size: slots beyond the end of a slate have probability 0.
        blank = torch.full(inside.shape, -math.inf, device=device)
        return torch.nn.functional.cross_entropy(blank.masked_scatter(inside, network(candidates)), picked)

    best = _Best(
        network, settings, inputs[choices.slates.take(split[1])[1]].to(device), choices.take(split[1])
    )
    descent = Descent("reward", settings.steps, settings.learning_rate, settings.weight_decay)
    optimise(network, batches(), loss, descent, best)
    set_weights(network, best.weights)
    return network, best.step


class _Best:
    """Keeps the weights with the highest validation likelihood; a callback of :func:`optimise`."""

    def __init__(
        self, network: Sequential, settings: LearnedSettings, inputs: Tensor, validation: Choices
    ) -> None:
        self.network, self.settings = network, settings
        self.inputs, self.validation = inputs, validation
        self.likelihood, self.step, self.weights = -math.inf, 0, weights_of(network)

    def __call__(self, done: int) -> bool:
        """Validate after every tenth step; return whether patience is exhausted."""
        if done % CHECK and done != self.settings.steps:
            return False
        found = _utilities(self.network, self.inputs)
        if not np.isfinite(found).all():
            raise Diverged("reward", self.settings.learning_rate)
        likelihood = float(self.validation.log_likelihood(Rule(), found).mean())
        if likelihood > self.likelihood:
            self.likelihood, self.step, self.weights = likelihood, done, weights_of(self.network)
        return done - self.step >= self.settings.patience


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


# --- held-out slates ---


def parts(
    clusters: IntArray, shares: tuple[float, float], rng: Stream
) -> tuple[IntArray, IntArray, IntArray]:
    """Split slates at random into three parts, without dividing a cluster.

    Args:
        clusters: Cluster of each slate, codes from 0, shape (S,).
        shares: Target shares of slates in the validation and the held-out part.
        rng: Stream of the split.

    Returns:
        Slates of the training, the validation and the held-out part, in ascending order. A cluster joins the
        held-out part if that brings this part closer to its share, else the validation part under the same
        condition, else the training part.

    Raises:
        InputError: If the clusters are too few or too large: fewer than two clusters would be held out (a
            single one has no standard error), or another part would be empty.
    """
    sizes = np.bincount(clusters)
    wanted = (shares[1] * clusters.size, shares[0] * clusters.size)
    filled = [0, 0]
    part = np.zeros(sizes.size, np.int64)  # 0: trained on; 1: held out; 2: validation
    for cluster in rng.generator().permutation(sizes.size):
        for number in (0, 1):
            after = filled[number] + sizes[cluster]
            if abs(after - wanted[number]) < abs(filled[number] - wanted[number]):
                filled[number] = after
                part[cluster] = number + 1
                break
    counts = np.bincount(part, minlength=3)
    if counts[0] < 1 or counts[1] < 2 or counts[2] < 1:
        raise InputError(
            "the clusters are too few or too large to validate on one and hold out two or more",
            got=f"{sizes.size} clusters, the largest with {sizes.max()} of {clusters.size} slates",
            remedy="use finer clusters or none, or change the shares held_out and validation",
        )
    found = part[clusters]
    return np.flatnonzero(found == 0), np.flatnonzero(found == 2), np.flatnonzero(found == 1)


def facts_of(
    rewards: FloatArray, choices: Choices, split: tuple[IntArray, IntArray, IntArray], best_step: int
) -> LearnedFacts:
    """Return the quality of rewards on the held-out slates.

    Args:
        rewards: Rewards of all candidates, shape (rows,).
        choices: All slates and picks, with their clusters as choosers.
        split: Slates of the three parts, from :func:`parts`.
        best_step: Training step whose weights give the rewards.
    """
    held_out, rewards = choices.take(split[2]), rewards[choices.slates.take(split[2])[1]]
    logs, uniform = held_out.log_likelihood(Rule(), rewards), -np.log(held_out.slates.sizes)
    found, slope = _mean(logs, held_out.clusters), _slope(held_out, rewards)
    return LearnedFacts(
        training=len(split[0]),
        validation=len(split[1]),
        held_out=len(split[2]),
        best_step=best_step,
        log_likelihood=found.value,
        log_likelihood_error=found.se,
        uniform=float(uniform.mean()),
        gain_error=_mean(logs - uniform, held_out.clusters).se,
        accuracy=float(best_chances(held_out, rewards).mean()),
        slope=None if slope is None else slope.value,
        slope_error=None if slope is None else slope.se,
    )


def _mean(values: FloatArray, clusters: IntArray | None) -> Estimate:
    """Return the mean of values (S,); for c clusters its error has the factor sqrt(c / (c - 1))."""
    found = mean(values, clusters=clusters)
    count = values.size if clusters is None else np.unique(clusters).size
    return Estimate(found.value, found.se * math.sqrt(count / max(count - 1, 1)))


def _slope(choices: Choices, rewards: FloatArray) -> Estimate | None:
    """Return the factor on rewards (rows,) that maximises the likelihood, with its clustered standard error.

    It is None if no finite factor maximises the likelihood: the rewards are constant in every slate, or every
    pick has the largest (or every pick the smallest) reward of its slate.
    """
    try:
        fit = conditional_logit(choices.with_features(rewards[:, None], ["reward"]))
    except NoEstimate:
        return None
    return Estimate(float(fit.coefficients[0]), float(fit.errors[0]))
