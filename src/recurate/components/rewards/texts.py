"""Rewards of texts without a model: their length, and whether they match what is expected."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from recurate.components.protocols import RewardSettings
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError, short
from recurate.core.fingerprints import Fingerprint, of_files
from recurate.core.tables import column_of, read_table
from recurate.log.samples import Samples, is_text


def check_texts(samples: Samples, name: str) -> None:
    """Refuse samples that are no texts.

    Raises:
        InputError: If they are numbers.
    """
    if not is_text(samples):
        raise InputError(
            f"the reward {name!r} needs texts",
            got=f"numbers of shape {samples.shape[1:]}",
            remedy="name a column of texts: data.sample",
        )


def texts_by_prompt(path: Path, context: str, column: str) -> dict[str, set[str]]:
    """Return the texts, without white space at their ends, of every prompt in a table.

    Args:
        path: The table.
        context: Its column of prompts.
        column: Its column of texts.
    """
    table = read_table(path, text=[context, column])
    prompts, texts = (column_of(table, name, path).to_pylist() for name in (context, column))
    found: dict[str, set[str]] = {}
    for prompt, text in zip(prompts, texts, strict=True):
        found.setdefault(str(prompt), set()).add(str(text).strip())
    return found


class References(RewardSettings):
    """Base class of the settings of rewards that compare texts with references."""

    reference: str | None = Field(
        None, description="the text that candidates of all prompts are compared with"
    )
    references: str | None = Field(
        None, description="table (Parquet, JSON lines, CSV) of prompts and references, in the current folder"
    )
    context: str = Field("context", description="the table's column of prompts")
    column: str = Field("sample", description="the table's column of references")

    def table_of(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprint of the table."""
        return [] if self.references is None else of_files(serves, [Path(self.references)])

    @cached_property
    def known_references(self) -> dict[str, set[str]]:
        """References of every prompt in the table."""
        assert self.references is not None
        return texts_by_prompt(Path(self.references), self.context, self.column)

    def no_reference(self, prompt: str) -> InputError:
        """Return the error of a prompt that is not in the table."""
        return InputError(
            f"a prompt has no reference for the reward {self.name!r}",
            got=short(prompt),
            remedy=f"add it to {self.references}",
        )


class LengthSettings(RewardSettings):
    """Reward -gamma |words - target| / tau for a text of so many words, separated by white space."""

    kind: Literal["length"]
    target: float = Field(ge=0, description="number of words that is preferred")
    tau: float = Field(1.0, gt=0, description="number of words off the target that costs one unit of reward")

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per text, shape (n,)."""
        check_texts(samples, self.name)
        words = np.array([len(text.split()) for text in samples], float)
        return np.asarray(-self.gamma * np.abs(words - self.target) / self.tau)


class MatchSettings(RewardSettings):
    """Reward gamma if a text is right, else 0: a verifier.

    A text is right if a regular expression is found in it, or if it equals an answer without regard to white
    space at its ends: one answer for all, or that of its prompt in a table.
    """

    kind: Literal["match"]
    pattern: str | None = Field(None, description="regular expression (Python's) that is searched")
    answer: str | None = Field(None, description="the right text, for all prompts")
    answers: str | None = Field(
        None, description="table (Parquet, JSON lines, CSV) of prompts and right texts, in the current folder"
    )
    context: str = Field("context", description="the table's column of prompts")
    column: str = Field("answer", description="the table's column of right texts")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        given = [name for name in ("pattern", "answer", "answers") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of pattern, answer and answers, not {' and '.join(given) or 'none of them'}"
            )
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprint of the table of answers."""
        return [] if self.answers is None else of_files(serves, [Path(self.answers)])

    @cached_property
    def _known(self) -> dict[str, set[str]]:
        """Right texts by prompt; a prompt may have several."""
        assert self.answers is not None
        return texts_by_prompt(Path(self.answers), self.context, self.column)

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per text, shape (n,).

        Raises:
            InputError: If the samples are no texts, or a prompt has no answer in the table.
        """
        check_texts(samples, self.name)
        if self.pattern is not None:
            search = re.compile(self.pattern).search
            right = [search(text) is not None for text in samples]
        elif self.answer is not None:
            right = [text.strip() == self.answer.strip() for text in samples]
        else:
            right = [
                text.strip() in known for text, known in zip(samples, self._wanted(contexts), strict=True)
            ]
        return np.asarray(self.gamma * np.array(right, float))

    def _wanted(self, contexts: NDArray[Any] | None) -> list[set[str]]:
        if contexts is None:
            raise InputError(
                f"the reward {self.name!r} has answers to prompts, and there are none",
                got="no contexts",
                remedy="name data.context or [contexts], or give one answer",
            )
        missing = [str(c) for c in contexts if str(c) not in self._known]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(contexts)} candidates have prompts without an answer",
                got=short(missing[0]),
                remedy=f"add them to {self.answers}",
            )
        return [self._known[str(c)] for c in contexts]
