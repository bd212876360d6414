"""Rewards of texts by a model of transformers: its output, or closeness of embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.causal.tokens import load_pretrained
from recurate.components.nets.devices import choose_device, import_torch, threads
from recurate.components.protocols import Prepared, RewardSettings
from recurate.components.rewards.texts import References, check_texts
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError, nearest
from recurate.core.fingerprints import Fingerprint, of_folder
from recurate.log.samples import Samples, is_text

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
TOGETHER = 4_000_000  # cosines that are computed at a time
KNOWN_PARTS = {"Transformer", "Pooling", "Normalize"}  # modules of sentence-transformers that are read
POOLINGS = {  # as sentence-transformers names them
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}


class ReaderSettings(RewardSettings):
    """Base class of the settings of rewards by a model that reads texts."""

    model: str = Field(description="folder of a model that transformers saved, or its name on the hub")
    revision: str | None = Field(
        None, description="commit or tag of a model on the hub; if absent, the newest that is found"
    )
    batch: int = Field(32, ge=1, le=10**6, description="texts per forward pass")
    device: str = Field("auto", description="device of the model: 'auto', 'cpu', 'cuda', ...")
    threads: int = Field(1, ge=1, le=10**9, description="CPU threads")

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the model's folder."""
        return of_folder(serves, Path(self.model))

    def reader(self, kind: str) -> Reader:
        """Return the model.

        Args:
            kind: Name of the class of transformers that loads it.

        Raises:
            InputError: If it cannot be loaded.
        """
        what = f"the model of the reward {self.name!r}"
        tokenizer, model = load_pretrained(kind, self.model, self.revision, what)
        if model.config.pad_token_id is None:  # by which such models find the last token
            model.config.pad_token_id = tokenizer.pad_token_id
        return Reader(self, tokenizer, model)


@dataclass(frozen=True)
class Reader:
    """A model that reads texts in batches.

    Attributes:
        settings: Settings of the reward.
        tokenizer: The model's tokenizer.
        model: The model.
    """

    settings: ReaderSettings
    tokenizer: Any
    model: Any

    def read(
        self, texts: Sequence[str] | Samples, contexts: NDArray[Any] | None, found: Callable[[Any, Any], Any]
    ) -> FloatArray:
        """Return what is found for every text, shape (n, ...); texts of similar length are read together.

        Args:
            texts: Texts, n of them.
            contexts: Prompts, shape (n,), which are read before the texts; or None.
            found: Function of the model's output and the attention mask (rows, width) of a batch.

        Raises:
            InputError: If the tokenizer cannot pad, a text does not fit into the model's window, or there is
                no such device.
        """
        torch, s = import_torch(), self.settings
        if self.tokenizer.pad_token is None and s.batch > 1:
            raise InputError(
                f"the tokenizer of the reward {s.name!r} has no padding token",
                got=f"batch = {s.batch}",
                remedy="add a pad_token to the tokenizer, or set batch = 1",
            )
        asked = [""] * len(texts) if contexts is None else [str(c) for c in contexts]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]) + len(asked[i]))
        out: FloatArray | None = None
        device = choose_device(s.device)
        with threads(s.threads), torch.inference_mode():
            model = self.model.to(device)
            for start in range(0, len(order), s.batch):
                rows = order[start : start + s.batch]
                own = [texts[i] for i in rows]
                pairs = (own,) if contexts is None else ([asked[i] for i in rows], own)
                inputs = self.tokenizer(*pairs, padding=True, return_tensors="pt")
                self._check_window(inputs["attention_mask"].sum(dim=1))
                inputs = inputs.to(device)
                values = found(model(**inputs), inputs["attention_mask"]).cpu().numpy()
                out = np.empty((len(order), *values.shape[1:])) if out is None else out
                out[rows] = values
        return np.empty(0) if out is None else out

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


# --- outputs ---------------------------------------------------------------------------------------


class ModelRewardSettings(ReaderSettings):
    """Reward gamma s(x), where s is the output of a sequence model of transformers for prompt and text.

    A model with one output, such as a reward model, gives that output; one with several classes gives the log
    probability of one of them.
    """

    kind: Literal["model"]
    label: str | None = Field(None, description="the class, for models with several")

    def build(self, prepared: Prepared) -> ModelReward:
        """Return the reward.

        Raises:
            InputError: If the model cannot be loaded, or has no such class.
        """
        reader = self.reader("AutoModelForSequenceClassification")
        return ModelReward(self, reader, self._output(reader.model))

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
        reader: The model.
        output: Number of the class, or 0.
    """

    settings: ModelRewardSettings
    reader: Reader
    output: int

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per text, shape (n,).

        Raises:
            InputError: If the samples are no texts, or as :meth:`Reader.read`.
        """
        torch = import_torch()
        check_texts(samples, self.settings.name)

        def score(made: Any, mask: Any) -> Any:
            logits = made.logits.double()
            found = logits if logits.shape[1] == 1 else torch.log_softmax(logits, dim=1)
            return found[:, self.output]

        return np.asarray(self.settings.gamma * self.reader.read(samples, contexts, score))


# --- embeddings -----------------------------------------------------------------------------------


class SimilarSettings(ReaderSettings, References):
    """Reward gamma cos(e(x), e(y)), where e is the embedding of a sentence encoder and y a reference.

    References are one text, or those of a table; a prompt may have several, of which the closest counts.
    Without any, y is the closest of the real data.
    """

    kind: Literal["similar"]
    pooling: Literal["auto", "mean", "first", "last"] = Field(
        "auto",
        description="embedding of a text: the 'mean' of its tokens', or that of the 'first' or 'last' one; "
        "'auto': as the folder of a sentence-transformers model says, else 'mean'",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.reference is not None and self.references is not None:
            raise ValueError("give reference or references, not both")
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the model's folder and of the table of references."""
        return [*super().rests_on(serves), *self.table_of(serves)]

    def build(self, prepared: Prepared) -> Similar:
        """Return the reward.

        Raises:
            InputError: If the model cannot be loaded, or there is nothing to compare with.
        """
        known: dict[str, set[str]] | None = None
        if self.references is not None:
            known = self.known_references
            texts = sorted(set().union(*known.values()))
        elif self.reference is not None:
            texts = [self.reference]
        elif prepared.dataset is not None and is_text(prepared.dataset.train):
            texts = sorted(set(prepared.dataset.train))
        else:
            raise InputError(
                f"the reward {self.name!r} has no texts to compare with",
                got="no reference, no references, and no real data that are texts",
                remedy="name one: rewards.reference = '...'",
            )
        how = self._pooling()
        reader = self.reader("AutoModel")
        targets = _directions(reader, texts, how)
        return Similar(self, reader, how, {text: i for i, text in enumerate(texts)}, targets, known)

    def _pooling(self) -> str:
        """Return how the tokens' embeddings become one."""
        folder = Path(self.model)
        parts = _json(folder / "modules.json", [])
        odd = [part["type"] for part in parts if part["type"].rpartition(".")[2] not in KNOWN_PARTS]
        if odd:
            raise InputError(
                f"the model of the reward {self.name!r} has parts that are not read here",
                got=", ".join(odd),
                remedy="use an encoder whose embeddings are pooled tokens, without further layers",
            )
        if self.pooling != "auto":
            return self.pooling
        said = _json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
        found = [how for name, how in POOLINGS.items() if said.get(name)]
        if len(found) != 1:
            raise InputError(
                f"the pooling of the model of the reward {self.name!r} is not known here",
                got=", ".join(name for name, used in said.items() if used is True) or "none",
                remedy="name one: rewards.pooling = 'mean'",
            )
        return found[0]


@dataclass(frozen=True)
class Similar:
    """Reward gamma cos(e(x), e(y)); see :class:`SimilarSettings`.

    Attributes:
        settings: Settings of the reward.
        reader: The encoder.
        pooling: How the tokens' embeddings become one.
        numbers: Number of each reference.
        targets: Directions of the references' embeddings, shape (references, width).
        known: References of every prompt; None: all of all prompts.
    """

    settings: SimilarSettings
    reader: Reader
    pooling: str
    numbers: dict[str, int]
    targets: FloatArray
    known: dict[str, set[str]] | None

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per text, shape (n,).

        Raises:
            InputError: If the samples are no texts, a prompt has no reference, or as :meth:`Reader.read`.
        """
        check_texts(samples, self.settings.name)
        if not len(samples):
            return np.empty(0)
        found, closest = _directions(self.reader, samples, self.pooling), np.empty(len(samples))
        own = None if self.known is None else self._own(contexts, len(samples))
        step = max(1, TOGETHER // len(self.targets))
        for start in range(0, len(samples), step):
            rows = slice(start, start + step)
            cosines = found[rows] @ self.targets.T
            closest[rows] = (cosines if own is None else np.where(own[rows], cosines, -np.inf)).max(axis=1)
        return np.asarray(self.settings.gamma * closest)

    def _own(self, contexts: NDArray[Any] | None, n: int) -> NDArray[np.bool_]:
        """Return whether each reference belongs to each prompt, shape (n, references)."""
        assert self.known is not None
        own = np.zeros((n, len(self.numbers)), bool)
        for row, prompt in enumerate([""] * n if contexts is None else map(str, contexts)):
            texts = self.known.get(prompt)
            if texts is None:
                raise self.settings.no_reference(prompt)
            own[row, [self.numbers[text] for text in texts]] = True
        return own


def _directions(reader: Reader, texts: Sequence[str] | Samples, pooling: str) -> FloatArray:
    """Return the embeddings of texts, divided by their lengths, shape (n, width)."""

    def embed(made: Any, mask: Any) -> Any:
        hidden = made.last_hidden_state.double()
        if pooling == "mean":
            weight = mask[..., None].double()
            return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        places = mask * import_torch().arange(1, mask.shape[1] + 1, device=mask.device)
        at = places.argmax(dim=1) if pooling == "last" else mask.argmax(dim=1)
        return hidden[import_torch().arange(len(hidden), device=mask.device), at]

    found = reader.read(texts, None, embed)
    size = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(np.divide(found, size, out=np.zeros_like(found), where=size > 0))


def _json(path: Path, absent: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else absent
