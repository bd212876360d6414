"""Tiny causal language models, in the layout of transformers."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

from recurate.components.causal.tokens import learn_tokenizer
from recurate.components.generators.language import ScratchSettings

TEXTS = ("red fox", "a red hen", "the blue fox runs", "blue", "hens and foxes", "one two three four")


@cache
def tokenizer() -> Any:
    return learn_tokenizer(TEXTS, 300)


def save(path: Path, chat: str | None = None) -> Path:
    """Write a model and its tokenizer, with a chat template or none, to a folder, and return it."""
    own = copy.deepcopy(tokenizer())
    own.chat_template = chat
    model().save_pretrained(path)
    own.save_pretrained(path)
    return path


@cache
def model(seed: int = 0, window: int = 64) -> Any:
    return ScratchSettings(layers=2, width=32, heads=2, vocabulary=300, window=window).build(
        tokenizer(), seed
    )
