"""Tokens of prompts and completions, and byte-pair encodings learned from texts.

A sequence is a prompt followed by a completion and an end token. The two are encoded separately, as they are
when a model samples: the model sees the prompt's tokens and generates the others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.core.errors import InputError, need
from recurate.log.samples import Samples, as_texts

PAD, START, END, ASK = "<pad>", "<s>", "</s>", "<ask>"  # tokens of encodings that are learned here

# Calls of a tokenizer. Special tokens that a text spells out are text; those in a format are meant.
FORMATTED: dict[str, Any] = {"add_special_tokens": False}
AS_TEXT = FORMATTED | {"split_special_tokens": True}

Ids = list[int]


def import_transformers() -> ModuleType:
    """Return the module transformers.

    Raises:
        InputError: If it is not installed.
    """
    need(["transformers", "tokenizers"], "a model of transformers", "pip install 'recurate[run,text]'")
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers


def load_pretrained(kind: str, name: str, revision: str | None, what: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model of a folder or of a name on the hub: safetensors, no code.

    Args:
        kind: Class of transformers that loads the model, such as ``AutoModelForCausalLM``.
        name: Folder, or name on the hub.
        revision: Commit or tag on the hub; None: the newest.
        what: Subject of the message.

    Raises:
        InputError: If it cannot be loaded.
    """
    transformers = import_transformers()
    import torch

    known = {"revision": revision or "main", "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **known)
        model = getattr(transformers, kind).from_pretrained(
            name, **known, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{what} cannot be loaded",
            got=f"{name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
            remedy="name a folder with config.json, model.safetensors and a tokenizer, or a model on the hub "
            "(which needs a network)",
        ) from None
    return without_origin(tokenizer), model.eval()


def without_origin(tokenizer: Any) -> Any:
    """Return a tokenizer whose files do not say from where, and whether offline, it was read.

    Two runs would differ in them that differ in nothing else, such as one resumed without a network.
    """
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def learn_tokenizer(texts: Sequence[str], size: int) -> Any:
    """Return a byte-pair encoding learned from texts: of bytes, so that it encodes any text without loss.

    Args:
        texts: Texts from which merges are learned, in this order.
        size: Largest number of tokens; at least the 256 bytes and 4 special tokens.
    """
    transformers = import_transformers()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, START, END, ASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(list(texts), trainer)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=learned,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        extra_special_tokens=[ASK],
        clean_up_tokenization_spaces=False,
    )
    # A tokenizer that was read is written with more keys: read once, it is the same in a resumed run.
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        return without_origin(transformers.AutoTokenizer.from_pretrained(folder))


@dataclass(frozen=True)
class Codec:
    """Translation of prompts and completions to tokens and back.

    Attributes:
        tokenizer: Tokenizer of transformers.
        chat: Whether prompts are messages of a user in the tokenizer's chat template.
        prompt: Format of a prompt, with ``{context}``; special tokens in it are special.
        end: Id of the token that ends every training sequence.
        ends: Ids of all tokens that end a completion.
    """

    tokenizer: Any
    chat: bool
    prompt: str
    end: int
    ends: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Any, model: Any, *, template: str, prompt: str, end: str | None) -> Codec:
        """Return the codec of a tokenizer and its model.

        Args:
            tokenizer: Tokenizer of transformers.
            model: Model, whose configuration may name further end tokens.
            template: ``chat``, ``plain``, or ``auto``: chat if the tokenizer has a chat template.
            prompt: Format of a prompt, with ``{context}``.
            end: Text of the end token; None for the tokenizer's own.

        Raises:
            InputError: If there is no end token, or no chat template although one is required.
        """
        known = getattr(tokenizer, "chat_template", None) is not None
        if template == "chat" and not known:
            raise InputError(
                "the tokenizer has no chat template",
                got="generator.template = 'chat'",
                remedy="set generator.template = 'plain', or add chat_template.jinja to the model's folder",
            )
        last = tokenizer.eos_token_id if end is None else tokenizer.convert_tokens_to_ids(end)
        if last is None or (end is not None and last == tokenizer.unk_token_id):
            raise InputError(
                "the tokenizer has no end token, so no completion would end",
                got="no eos_token" if end is None else f"generator.end = {end!r}, which is no token",
                remedy="name one of its tokens: generator.end = '</s>', for example",
            )
        own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        more = [own] if isinstance(own, int) else list(own or [])
        chat = template == "chat" or (template == "auto" and known)
        return cls(tokenizer, chat, prompt, int(last), frozenset([int(last), *map(int, more)]))

    @property
    def filler(self) -> int:
        """Id that fills places that nothing attends to."""
        return int(self.end if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id)

    def prompts(self, contexts: NDArray[Any] | None, n: int) -> list[Ids]:
        """Return the tokens of n prompts, at least one each: a start token alone without contexts."""
        if contexts is None:
            return [self._start() or [self.end]] * n
        texts = list(map(str, contexts))
        known = {text: self._prompt(text) for text in dict.fromkeys(texts)}
        return [known[text] for text in texts]

    def completions(self, samples: Samples) -> list[Ids]:
        """Return the tokens of completions, each with its end token."""
        if not len(samples):
            return []
        found = self.tokenizer(samples.tolist(), **AS_TEXT)["input_ids"]
        return [[*ids, self.end] for ids in found]

    def remarks(self, samples: Samples) -> list[str]:
        """Return a remark if texts spell out special tokens, which are encoded as ordinary text."""
        special = self.tokenizer.all_special_tokens
        count = sum(any(token in text for token in special) for text in samples)
        return [f"special tokens spelled out in {count} training texts were read as text"] if count else []

    def texts(self, completions: Sequence[Ids]) -> Samples:
        """Return the texts of completions without special tokens."""
        decode = self.tokenizer.batch_decode
        return as_texts(decode(list(completions), skip_special_tokens=True) if len(completions) else [])

    def _start(self) -> Ids:
        first = self.tokenizer.bos_token_id
        return [] if first is None else [int(first)]

    def _prompt(self, context: str) -> Ids:
        if not context:
            return self._start() or [self.end]
        text = self.prompt.replace("{context}", context)
        if self.chat:
            ids = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
            )
            return [int(i) for i in ids]
        written = any(token in self.prompt for token in self.tokenizer.all_special_tokens)
        ask = self.tokenizer.convert_tokens_to_ids(ASK)
        known = ask is not None and ask != self.tokenizer.unk_token_id
        return [
            *self._start(),
            *self.tokenizer(text, **(FORMATTED if written else AS_TEXT))["input_ids"],
            *([int(ask)] if known else []),
        ]


def check_window(prompts: Sequence[Ids], added: int, window: int) -> None:
    """Refuse prompts that leave no room for a completion.

    Args:
        prompts: Tokens of the prompts.
        added: Number of tokens that must fit after each.
        window: Largest number of tokens of a sequence.

    Raises:
        InputError: If a prompt is too long.
    """
    lengths = np.array([len(ids) for ids in prompts])
    over = np.flatnonzero(lengths + added > window)
    if over.size:
        worst = int(lengths[over].max())
        raise InputError(
            f"{over.size} of {len(prompts)} prompts do not fit into the model's window with a completion",
            got=f"a prompt of {worst} tokens, up to {added} more, a window of {window}",
            remedy="shorten them, lower generator.sample.longest, or use a model with a longer window",
        )
