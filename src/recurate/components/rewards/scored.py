"""Rewards of texts by a model of transformers: a reward model, or a sequence classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.causal.tokens import import_transformers
from recurate.components.nets.devices import choose_device, import_torch, threads
from recurate.components.protocols import Prepared, RewardSettings
from recurate.components.rewards.texts import check_texts
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError, nearest
from recurate.core.fingerprints import Fingerprint, of_folder
from recurate.log.samples import Samples

# Models whose positions are numbered from the padding token's id + 1, so that fewer fit than there are.
OFFSET = {
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "longformer",
    "data2vec-text",
    "roberta-prelayernorm",
}


class ModelRewardSettings(RewardSettings):
    """Reward gamma s(x), where s is the output of a sequence model of transformers for prompt and text.

    A model with one output, such as a reward model, gives that output; one with several classes gives the log
    probability of one of them.
    """

    kind: Literal["model"]
    model: str = Field(
        description="folder of a sequence classifier that transformers saved, or its name on the hub"
    )
    label: str | None = Field(None, description="the class, for models with several")
    batch: int = Field(32, ge=1, le=10**6, description="texts per forward pass")
    device: str = Field("auto", description="device of the model: 'auto', 'cpu', 'cuda', ...")
    threads: int = Field(1, ge=1, le=10**9, description="CPU threads")

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the model's folder."""
        return of_folder(serves, Path(self.model))

    def build(self, prepared: Prepared) -> ModelReward:
        """Return the reward.

        Raises:
            InputError: If the model cannot be loaded, or has no such class.
        """
        torch, transformers = import_torch(), import_transformers()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                self.model, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                f"the model of the reward {self.name!r} cannot be loaded",
                got=f"{self.model}: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
                remedy="name a folder with config.json, model.safetensors and a tokenizer",
            ) from None
        if model.config.pad_token_id is None:  # by which such models find the last token
            model.config.pad_token_id = tokenizer.pad_token_id
        return ModelReward(self, tokenizer, model.eval(), self._output(model))

    def _output(self, model: Any) -> int:
        labels = {str(label): int(number) for number, label in model.config.id2label.items()}
        if len(labels) == 1 and self.label is None:
            return 0
        if self.label not in labels or len(labels) == 1:
            raise InputError(
                f"the reward {self.name!r} needs one of the model's classes"
                if len(labels) > 1
                else f"the model of the reward {self.name!r} has one output and no classes",
                got=f"label = {self.label!r}",
                remedy=nearest(str(self.label), list(labels)) if len(labels) > 1 else "leave out label",
            )
        return labels[self.label]


@dataclass(frozen=True)
class ModelReward:
    """Reward gamma s(x) of a sequence model; see :class:`ModelRewardSettings`.

    Attributes:
        settings: Settings of the reward.
        tokenizer: The model's tokenizer.
        model: The model.
        output: Number of the class, or 0.
    """

    settings: ModelRewardSettings
    tokenizer: Any
    model: Any
    output: int

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per text, shape (n,); texts of similar length are scored together.

        Raises:
            InputError: If the samples are no texts, the tokenizer cannot pad, a text does not fit into the
                model's window, or there is no such device.
        """
        torch, s = import_torch(), self.settings
        check_texts(samples, s.name)
        if self.tokenizer.pad_token is None and s.batch > 1:
            raise InputError(
                f"the tokenizer of the reward {s.name!r} has no padding token",
                got=f"batch = {s.batch}",
                remedy="add a pad_token to the tokenizer, or set batch = 1",
            )
        asked = [""] * len(samples) if contexts is None else [str(c) for c in contexts]
        order = sorted(range(len(samples)), key=lambda i: len(samples[i]) + len(asked[i]))
        out, device = np.empty(len(samples)), choose_device(s.device)
        with threads(s.threads), torch.inference_mode():
            model = self.model.to(device)
            for start in range(0, len(order), s.batch):
                rows = order[start : start + s.batch]
                texts = [samples[i] for i in rows]
                pairs = (texts,) if contexts is None else ([asked[i] for i in rows], texts)
                inputs = self.tokenizer(*pairs, padding=True, return_tensors="pt")
                self._check_window(inputs["attention_mask"].sum(dim=1))
                logits = model(**inputs.to(device)).logits.double()
                found = logits if logits.shape[1] == 1 else torch.log_softmax(logits, dim=1)
                out[rows] = found[:, self.output].cpu().numpy()
        return np.asarray(s.gamma * out)

    def _check_window(self, lengths: Any) -> None:
        """Refuse texts that do not fit: the reward of a part would pass for that of the whole."""
        config = self.model.config
        window = getattr(config, "max_position_embeddings", None) or 2**31
        if config.model_type in OFFSET:
            window -= config.pad_token_id + 1
        window = min(window, self.tokenizer.model_max_length)
        over = int((lengths > window).sum())
        if over:
            raise InputError(
                f"texts do not fit into the window of the model of the reward {self.settings.name!r}",
                got=f"{over} of {len(lengths)} in a batch, the longest of {int(lengths.max())} tokens; "
                f"a window of {window}",
                remedy="lower generator.sample.longest, shorten prompts, or use a model with more positions",
            )
