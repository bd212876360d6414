"""Causal language models of transformers, retrained by supervised fine-tuning."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.causal.decoding import Manner, complete
from recurate.components.causal.parallel import Training, passes_in, tune_in_processes
from recurate.components.causal.tokens import (
    Codec,
    Ids,
    check_window,
    import_transformers,
    learn_tokenizer,
    load_pretrained,
)
from recurate.components.causal.tuning import Course, Example, cut
from recurate.components.nets.devices import choose_device, import_torch, threads
from recurate.components.nets.training import repeatable
from recurate.components.protocols import GeneratorSettings
from recurate.components.serving.client import Client
from recurate.components.serving.kept import Kept
from recurate.components.serving.loading import Weights, digest_of, load_weights, write_weights
from recurate.components.serving.sampling import Order, Prompt, answers, ask, remarks
from recurate.components.serving.settings import ServerSettings
from recurate.core.errors import InputError, need
from recurate.core.files import write_text
from recurate.core.fingerprints import Fingerprint, of_folder
from recurate.core.limits import check_memory
from recurate.core.sealed import sha256
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples, as_texts, is_text

FORMAT = 1  # version of language.json
CARD = "language.json"


class ScratchSettings(Settings):
    """Size of a model that is trained from scratch: a Llama with its own byte-pair encoding."""

    layers: int = Field(2, ge=1, le=1000, description="transformer blocks")
    width: int = Field(128, ge=8, le=65_536, description="width of a block")
    heads: int = Field(4, ge=1, le=1024, description="attention heads; they divide the width")
    vocabulary: int = Field(
        1024, ge=260, le=1_000_000, description="largest number of tokens of the byte-pair encoding"
    )
    window: int = Field(128, ge=2, le=10**6, description="largest number of tokens of prompt and completion")

    @model_validator(mode="after")
    def _even_heads(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width ({self.width}) must be a multiple of 2 x heads ({self.heads})")
        return self

    def build(self, tokenizer: Any, seed: int) -> Any:
        """Return an untrained model for a tokenizer."""
        torch, transformers = import_torch(), import_transformers()
        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.width,
            intermediate_size=8 * self.width // 3,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=self.window,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


class SamplingSettings(Settings):
    """How completions are sampled."""

    engine: Literal["here", "openai"] = Field(
        "here", description="'here': by this process; 'openai': by the server of generator.server"
    )
    temperature: float = Field(1.0, gt=0, description="temperature that divides the logits")
    top_p: float = Field(
        1.0, gt=0, le=1, description="tokens are drawn from the most probable ones that add up to this"
    )
    longest: int = Field(64, ge=1, le=10**6, description="largest number of tokens of a completion")
    stop: tuple[str, ...] = Field((), description="texts before which a completion ends, besides end tokens")
    batch: int = Field(64, ge=1, le=10**6, description="completions that are sampled together")


class LoraSettings(Settings):
    """Low-rank adapters: small matrices are trained in place of the weights."""

    rank: int = Field(16, ge=1, le=10_000, description="rank of the adapters")
    alpha: float = Field(32.0, gt=0, description="scale of the adapters, divided by the rank")
    modules: tuple[str, ...] = Field(
        (), description="names of the layers with adapters; all linear layers but the last if absent"
    )


class TrainingSettings(Settings):
    """How a model is retrained: AdamW on the completions' cross entropy."""

    first_epochs: float = Field(
        10.0, gt=0, le=10**6, description="passes over the real data that train the first model"
    )
    epochs: float = Field(2.0, gt=0, le=10**6, description="passes over every retraining set")
    batch: int = Field(32, ge=1, le=10**7, description="texts per step")
    micro: int | None = Field(
        None, ge=1, le=10**7, description="texts per forward pass, whose gradients are added; all if absent"
    )
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's step size, cosine-annealed to zero")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    packing: bool = Field(
        False, description="whether several texts share a row of tokens, without seeing each other"
    )
    processes: int = Field(
        1,
        ge=1,
        le=1024,
        description="processes that share the forward passes of every step, each with a GPU where there are "
        "as many",
    )
    warm_start: bool = Field(
        True, description="whether retraining starts from the previous round's model; false: from the first"
    )
    lora: LoraSettings | None = Field(None, description="low-rank adapters; absent: all weights")


class LanguageSettings(GeneratorSettings):
    """Settings of a causal language model."""

    kind: Literal["language"]
    model: str | None = Field(
        None,
        description="folder of a model that transformers saved, or its name on the Hugging Face hub; if "
        "absent, one is trained from scratch on the real data",
    )
    revision: str | None = Field(
        None, description="commit or tag of a model on the hub; if absent, the newest that is found"
    )
    fit_first: bool | None = Field(
        None,
        description="whether to train the first model on the real data; if absent, only one from scratch",
    )
    scratch: ScratchSettings = ScratchSettings()
    sample: SamplingSettings = SamplingSettings()
    training: TrainingSettings = TrainingSettings()
    server: ServerSettings | None = None
    template: Literal["auto", "chat", "plain"] = Field(
        "auto", description="'chat': a prompt is a user's message; 'auto': if the tokenizer has a template"
    )
    prompt: str = Field("{context}", description="format of prompts, with {context}")
    end: str | None = Field(None, description="end token, for tokenizers without one")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of forward passes; 'auto': bfloat16 on CUDA, float32 elsewhere"
    )
    device: str = Field("auto", description="device of the model: 'auto', 'cpu', 'cuda', ...")
    threads: int = Field(1, ge=1, le=10**9, description="CPU threads; one is fastest for small models")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "{context}" not in self.prompt:
            raise ValueError("prompt must contain {context}")
        if self.model is None and self.fit_first is False:
            raise ValueError("a model from scratch must be trained first: leave out fit_first")
        if self.model is None and self.training.lora is not None:
            raise ValueError("adapters need a trained model: name it in generator.model")
        if self.model is None and self.sample.longest >= self.scratch.window:
            raise ValueError(
                f"sample.longest ({self.sample.longest}) must be below scratch.window ({self.scratch.window})"
            )
        return self

    @model_validator(mode="after")
    def _server_where_needed(self) -> Self:
        server = self.server
        if (server is None) != (self.sample.engine == "here"):
            raise ValueError("give the table server with sample.engine = 'openai', and only then")
        if server is None:
            return self
        if server.load == "vllm-lora" and self.training.lora is None:
            raise ValueError("server.load = 'vllm-lora' loads adapters: give training.lora")
        if server.load == "none" and server.model is None and self.model is None:
            raise ValueError("name the server's model: server.model")
        if server.api == "chat" and self.template == "plain":
            raise ValueError("template = 'plain' needs server.api = 'completions'")
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the model's folder; a model on the hub is named by its revision."""
        found = [] if self.model is None else of_folder(f"{serves}.model", Path(self.model))
        return found if self.server is None else [*found, *self.server.rests_on(f"{serves}.server")]

    def check(self) -> None:
        """Check that this machine has transformers, the device, and memory for a model from scratch.

        Raises:
            InputError: If it does not.
        """
        import_transformers()
        choose_device(self.device)
        if self.server is not None:
            self.server.key()
        if self.model is None:
            size = self.scratch
            weights = 12 * size.layers * size.width**2 + size.vocabulary * size.width
            check_memory("a language model of this size", 16.0 * weights, "lower generator.scratch.width")

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> Language:
        """Return the model that the settings name, or one without tokens and weights.

        Raises:
            InputError: If the model cannot be loaded.
        """
        if self.model is None:
            return Language(self, workspace=workspace, logs=logs)
        tokenizer, model = _pretrained(self.model, self.revision)
        return Language(self, tokenizer, model, workspace=workspace, logs=logs)

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> Language:
        """Return the model that was saved in a folder."""
        return replace(Language.load(folder), workspace=workspace, logs=logs)

    @property
    def trains_first(self) -> bool:
        """Whether the first model is trained on the real data."""
        return self.model is None if self.fit_first is None else self.fit_first

    @property
    def knows_contexts(self) -> bool:
        """True: contexts are prompts."""
        return True


@dataclass(frozen=True, eq=False)
class Language:
    """A causal language model as an immutable value.

    Attributes:
        settings: Settings of the model.
        tokenizer: Its tokenizer; None before the first training from scratch.
        model: The model of transformers, which is never changed: training copies it.
        trained: Whether it was trained here.
        notes: Remarks about the last training.
        workspace: Folder for the weights that a server reads; None: a temporary one.
        logs: Folder for the answers of a server; None: they are not kept.
    """

    settings: LanguageSettings
    tokenizer: Any = None
    model: Any = None
    trained: bool = False
    notes: tuple[str, ...] = ()
    workspace: Path | None = field(default=None, compare=False)
    logs: Path | None = field(default=None, compare=False)

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return a model that is trained on completions (n,) of prompts (n,); see :class:`Generator`.

        Raises:
            InputError: If the data are not texts, a prompt does not fit, or there is no such device.
            Diverged: If the loss or the weights are not finite.
        """
        if not is_text(data) or not len(data):
            raise InputError(
                "a language model is trained on texts",
                got=f"{len(data)} texts" if is_text(data) else f"numbers of shape {data.shape[1:]}",
                remedy="name a column of texts: data.sample",
            )
        torch = import_torch()
        with self._computing() as device, torch.random.fork_rng(_devices(device)):
            torch.manual_seed(rng.integer())  # of initial weights and of dropout
            tokenizer, model, raw = self._start(data, contexts)
            codec, window = self._codec(tokenizer, model), _window(model)
            prompts, completions = codec.prompts(contexts, len(data)), codec.completions(data)
            check_window(prompts, 1, window)
            examples, long = cut([Example(*pair) for pair in zip(prompts, completions, strict=True)], window)
            first = raw or (not self.trained and self.settings.trains_first)
            course = self._course(first=first, window=window)
            training = Training(
                examples, course, codec.filler, rng.at("order").generator(), torch.initial_seed() % 2**62,
                device, self._low(device), self.settings.threads,
            )  # fmt: skip
            if self.settings.training.processes > 1:
                tune_in_processes(model.cpu(), training, self.settings.training.processes)
                model = model.to(device)
            else:
                training.run(model.to(device))
        notes = [f"{long} of {len(data)} training texts were cut at {window} tokens"] if long else []
        notes += codec.remarks(data)
        return replace(self, tokenizer=tokenizer, model=model.eval(), trained=True, notes=tuple(notes))

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None, first: int = 0) -> Samples:
        """Return n completions (n,), one per prompt; item i depends on its prompt and on rng.at("item", i).

        Args:
            n: Number of completions.
            rng: Stream of every random choice.
            contexts: Prompts, shape (n,); None: unconditional.
            first: Number of the first item, for a part of a round.

        Raises:
            InputError: If the model has not been trained, a prompt does not fit, there is no such device, or
                the server gives no answers.
        """
        how, codec = self.settings.sample, self._codec(self.tokenizer, self._trained())
        prompts = codec.prompts(contexts, n)
        check_window(prompts, how.longest, _window(self.model))
        served = self.settings.server is not None
        texts = (self._served if served else self._sampled)(codec, prompts, contexts, rng, first)
        for at, text in enumerate(texts):
            texts[at] = text[: min((text.find(s) for s in how.stop if s in text), default=len(text))]
        return texts

    def remarks(self, rng: Stream) -> list[str]:
        """Return what a reader must know of the samples that a server made with a stream."""
        server, logs = self.settings.server, self.logs
        if server is None:
            return []
        stale = (
            "generator.server.load = 'none': the server samples from its own model, not from the trained one"
        )
        paths = [] if logs is None else sorted(logs.glob(f"{_name(rng)}-*.jsonl"))
        lines = [line for path in paths for line in answers(Kept(path))]
        if len({line["weights"] for line in lines}) > 1:  # also of a model that was trained and lost
            lines = [line for line in lines if line["weights"] == self._weights.digest]
        said = [stale] if server.load == "none" and self.trained else []
        return [*said, *remarks(lines, self.settings.sample.longest)]

    def _sampled(
        self, codec: Codec, prompts: list[Ids], contexts: NDArray[Any] | None, rng: Stream, first: int
    ) -> Samples:
        """Return completions that this process samples."""
        torch, how = import_torch(), self.settings.sample
        with self._computing() as device, torch.inference_mode(), self._precision(device):
            manner = Manner(
                how.temperature, how.top_p, how.longest, codec.ends, codec.filler, not self._low(device)
            )
            found = complete(
                self.model.to(device),
                prompts,
                lambda item: rng.at("item", first + item).generator().random(how.longest),
                manner,
                how.batch,
                _stopped(codec, how.stop) if how.stop else None,
            )
        return codec.texts(found)

    def _served(
        self, codec: Codec, prompts: list[Ids], contexts: NDArray[Any] | None, rng: Stream, first: int
    ) -> Samples:
        """Return completions that the server samples."""
        s, how, server, weights = self.settings, self.settings.sample, self.settings.server, self._weights
        assert server is not None
        messages: list[str | None] = [None] * len(prompts)
        if server.api == "chat":
            if not codec.chat or contexts is None or not all(contexts):
                raise InputError(
                    "generator.server.api = 'chat' needs prompts and a tokenizer with a chat template",
                    got="no chat template" if not codec.chat else "no prompts, or empty ones",
                    remedy="use api = 'completions'",
                )
            messages = [s.prompt.replace("{context}", str(context)) for context in contexts]
        asked = [Prompt(tuple(ids), text) for ids, text in zip(prompts, messages, strict=True)]
        manner = {
            "temperature": how.temperature,
            "top_p": how.top_p,
            "max_tokens": how.longest,
            **server.body,
        }
        manner |= {"stop": list(how.stop)} if how.stop else {}
        manner |= {} if s.end is None else {"stop_token_ids": sorted(codec.ends)}
        logs = None if self.logs is None else self.logs.resolve()
        kept = Kept(None if logs is None else logs / f"{_name(rng)}-{first}.jsonl")

        def begin(client: Client) -> str:
            name = weights.name(server)
            probe = {"model": name, **asked[0].fields(), "max_tokens": 1}
            log = (logs or self._place) / f"{_name(rng)}-server.log"
            load_weights(client, server, weights, probe, self._place, log)
            return name

        seeds = [rng.at("item", first + i).integer() for i in range(len(asked))]
        return as_texts(ask(Order(weights.digest, manner, server.choices), asked, seeds, kept, server, begin))

    def save(self, folder: Path) -> None:
        """Write the weights (safetensors; adapters alone if there are some), the tokenizer and a card."""
        model, base = self._trained(), None
        adapted = hasattr(model, "peft_config")
        if self.settings.training.lora is not None:  # the weights are those of a model that exists elsewhere
            base = _digest(str(self.settings.model), model)
        if adapted or base is None:
            model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        card = {
            "format": FORMAT,
            "settings": self.settings.model_dump(mode="json"),
            "trained": self.trained,
            "adapted": adapted,
            "base": base,
        }
        write_text(folder / CARD, json.dumps(card, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: If a file is missing or damaged, or the adapters belong to another model.
        """
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            if card["format"] != FORMAT:
                raise ValueError(f"format {card['format']}, and this version reads {FORMAT}")
            settings = LanguageSettings(**card["settings"])
            base, adapted, trained = card["base"], card["adapted"], card["trained"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "the card of a saved language model is missing or damaged",
                got=f"{folder / CARD}: {str(error).splitlines()[0]}",
                remedy="restore it, or train the model again",
            ) from None
        if base is None:
            tokenizer, model = _pretrained(str(folder))
            return cls(settings, tokenizer, model, trained)
        tokenizer, model = _pretrained(str(settings.model), settings.revision)
        if _digest(str(settings.model), model) != base:
            raise InputError(
                "the adapters belong to another model",
                got=f"generator.model = {settings.model!r}, whose weights have changed",
                remedy="restore the model that they were trained on, or name its generator.revision",
            )
        if adapted:
            model = _import_peft().PeftModel.from_pretrained(model, str(folder), is_trainable=True).eval()
        return cls(settings, tokenizer, model, trained)

    # --- parts ---

    @cached_property
    def _place(self) -> Path:
        """Folder that a server reads weights from, the same in all processes of a run."""
        place = (
            Path(tempfile.mkdtemp(prefix="recurate-served-")) if self.workspace is None else self.workspace
        )
        place = (place / "served").resolve()
        place.mkdir(parents=True, exist_ok=True)
        return place

    @cached_property
    def _weights(self) -> Weights:
        """The weights as a server reads them: in a folder if they were trained here."""
        first, server = str(self.settings.model), self.settings.server
        assert server is not None
        if server.load == "none":
            first = server.model or first
            return Weights(f"those of {first}", first, first, self.trained)
        if not self.trained:
            path = Path(first).resolve() if Path(first).is_dir() else first
            return Weights(digest_of([_digest(first, self.model)]), str(path), first, False)
        base = [_digest(first, self.model)] if server.load == "vllm-lora" else None
        folder = write_weights(self.model, self.tokenizer, self._place, base)
        return Weights(folder.name, str(folder), first, True)

    def _trained(self) -> Any:
        if self.model is None:
            raise InputError(
                "the language model has not been trained", got="no weights", remedy="train it on real data"
            )
        return self.model

    def _start(self, data: Samples, contexts: NDArray[Any] | None) -> tuple[Any, Any, bool]:
        """Return tokenizer, the model whose training begins, and whether its weights are untrained."""
        settings, torch = self.settings, import_torch()
        if self.model is not None and (settings.training.warm_start or not self.trained):
            return self.tokenizer, self._adapted(copy.deepcopy(self.model)), False
        if settings.model is not None:
            tokenizer, model = _pretrained(settings.model, settings.revision)
            return tokenizer, self._adapted(model), False
        prompts = [] if contexts is None else [settings.prompt.replace("{context}", c) for c in contexts]
        tokenizer = self.tokenizer or learn_tokenizer([*prompts, *data], settings.scratch.vocabulary)
        return tokenizer, settings.scratch.build(tokenizer, torch.initial_seed()), True

    def _adapted(self, model: Any) -> Any:
        """Return the model with new adapters, if the settings ask for some and it has none."""
        lora = self.settings.training.lora
        if lora is None or hasattr(model, "peft_config"):
            return model
        config = _import_peft().LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            target_modules=list(lora.modules) or "all-linear",
        )
        return _import_peft().get_peft_model(model, config)

    def _codec(self, tokenizer: Any, model: Any) -> Codec:
        s = self.settings
        return Codec.of(tokenizer, model, template=s.template, prompt=s.prompt, end=s.end)

    def _course(self, *, first: bool, window: int) -> Course:
        t = self.settings.training
        epochs = t.first_epochs if first else t.epochs
        width = window if t.packing else None
        micro = t.micro or -(-t.batch // t.processes)
        return Course(epochs, t.batch, micro, t.learning_rate, t.weight_decay, t.clip, width)

    @contextmanager
    def _computing(self) -> Iterator[str]:
        device = choose_device(self.settings.device)
        with threads(self.settings.threads), repeatable(device):
            yield device

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        return passes_in(device, self._low(device))

    def _low(self, device: str) -> bool:
        """Whether forward passes are in bfloat16."""
        precision = self.settings.precision
        return precision == "bfloat16" or (precision == "auto" and device.startswith("cuda"))


def _name(rng: Stream) -> str:
    """Return the name of a stream's files."""
    return "-".join(map(str, rng.path)) or "sample"


def _stopped(codec: Codec, stops: tuple[str, ...]) -> Any:
    """Return the function that says whether a completion contains a stop text."""
    longest = max(len(s.encode()) for s in stops) + 8  # every token is a byte or more

    def stopped(ids: list[int]) -> bool:
        tail = codec.tokenizer.decode(ids[-longest:], skip_special_tokens=True)
        return any(s in tail for s in stops)

    return stopped


def _window(model: Any) -> int:
    """Return the largest number of tokens of a sequence."""
    config = model.config
    found = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions"))
    return next((int(size) for size in found if size), 2**31)


def _devices(device: str) -> list[int]:
    """Return the GPUs whose random state training changes."""
    return [import_torch().device(device).index or 0] if device.startswith("cuda") else []


def _pretrained(name: str, revision: str | None = None) -> tuple[Any, Any]:
    return load_pretrained("AutoModelForCausalLM", name, revision, "the language model")


def _digest(name: str, model: Any) -> str:
    """Return the hashes of the weights in a folder, or the commit of a model on the hub."""
    weights = sorted(Path(name).glob("*.safetensors"))
    return " ".join(map(sha256, weights)) or f"commit {model.config._commit_hash}"


def _import_peft() -> Any:
    need(["peft"], "training adapters", "pip install 'recurate[run,text]'")
    import peft

    return peft
