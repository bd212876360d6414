"""Rewards of texts by a language model behind an OpenAI-compatible server: scores, or comparisons."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.protocols import Prepared
from recurate.components.rewards.texts import References, check_texts
from recurate.components.serving.client import Bad, Choice, Client, Endpoint, tokens
from recurate.components.serving.kept import Kept
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError, nearest, short
from recurate.core.fingerprints import Fingerprint
from recurate.core.programs import PLACEHOLDER, fill
from recurate.log.samples import Samples

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
VERDICTS = {"A": 1.0, "B": 0.0, "TIE": 0.5}  # how much of the comparison the first text wins


class JudgeSettings(References, Endpoint):
    """Reward gamma s(x), where a language model behind a server gives the score s.

    In the mode ``pairwise`` the model compares a text with a reference, in both orders, and s is the mean of
    the two: 1 if it prefers the text, 0 if it prefers the reference, 0.5 for a tie.
    """

    kind: Literal["judge"]
    model: str = Field(description="name of the model that judges")
    prompt: str = Field(
        description="what the model is asked: {text} is the candidate and {context} its prompt; in the mode "
        "'pairwise', {first} and {second} are the two texts, and the answer must be A (first), B or tie"
    )
    mode: Literal["score", "pairwise"] = Field("score", description="'score': a number; 'pairwise': A or B")
    lowest: float = Field(1.0, description="lowest score")
    highest: float = Field(10.0, description="highest score")
    pattern: str | None = Field(
        None,
        description="regular expression (Python's) whose group is the score or verdict; if absent, the whole "
        "answer is",
    )
    cache: str = Field(
        "judge.jsonl", min_length=1, description="file that keeps all answers, relative to the current folder"
    )
    longest: int = Field(16, ge=2, le=10**6, description="largest number of tokens of an answer")
    prompt_price: float | None = Field(None, ge=0, description="price of a million prompt tokens")
    completion_price: float | None = Field(None, ge=0, description="price of a million completion tokens")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        pairwise = self.mode == "pairwise"
        needed = {"first", "second"} if pairwise else {"text"}
        used = set(PLACEHOLDER.findall(self.prompt))
        for name in sorted(used - needed - {"context"}):
            raise ValueError(
                f"unknown placeholder {{{name}}} in prompt: {nearest(name, needed | {'context'})}"
            )
        if needed - used:
            raise ValueError(f"prompt must contain {' and '.join(f'{{{n}}}' for n in sorted(needed))}")
        given = [name for name in ("reference", "references") if getattr(self, name) is not None]
        if len(given) != pairwise:
            raise ValueError("give reference or references with mode = 'pairwise', and only then")
        if self.lowest >= self.highest:
            raise ValueError(f"lowest ({self.lowest:g}) must be below highest ({self.highest:g})")
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groups
            except re.error as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"pattern must have one group, (...), not {groups}")
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprint of the table of references."""
        return self.table_of(serves)

    def build(self, prepared: Prepared) -> Judge:
        """Return the reward.

        Raises:
            InputError: If the key is not set, or a prompt has several references.
        """
        self.key()
        known: dict[str, str] = {}
        if self.references is not None:
            several = [prompt for prompt, texts in self.known_references.items() if len(texts) > 1]
            if several:
                raise InputError(
                    f"{len(several)} of {len(self.known_references)} prompts have several references",
                    got=short(several[0]),
                    remedy=f"keep one of each prompt in {self.references}",
                )
            known = {prompt: next(iter(texts)) for prompt, texts in self.known_references.items()}
        return Judge(self, known)

    def value(self, said: str) -> float | None:
        """Return the score, or what the first text wins, in an answer; None if it states neither."""
        found = {said} if self.pattern is None else set(re.findall(self.pattern, said))
        word = found.pop().strip() if len(found) == 1 else ""
        if self.mode == "pairwise":
            return VERDICTS.get(word.upper())
        score = float(word) if NUMBER.fullmatch(word) else np.nan
        return score if self.lowest <= score <= self.highest else None


class Judge:
    """Reward gamma s(x) of a language model behind a server; see :class:`JudgeSettings`.

    Args:
        settings: Settings of the reward.
        references: Reference of every prompt in the table.
    """

    def __init__(self, settings: JudgeSettings, references: dict[str, str]) -> None:
        self.settings, self._references = settings, references
        self._kept, self._counted = Kept(Path(settings.cache)), Kept(Path(settings.cache))
        self._counted.new()  # what earlier runs have asked
        self._values: dict[str, float] = {}  # by question

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per text, shape (n,); what the cache holds is not asked again.

        Raises:
            InputError: If the samples are no texts, a prompt has no reference, the server refuses a request,
                or no attempt gives a score in the range.
        """
        s = self.settings
        check_texts(samples, s.name)
        prompts = [""] * len(samples) if contexts is None else [str(c) for c in contexts]
        pairs = list(zip(prompts, samples.tolist(), strict=True))
        for line in self._kept.new():
            self._learn(line)
        cases = {pair: self._questions(*pair) for pair in pairs}
        missing = {asked: pair[1] for pair, asked in cases.items() if any(map(self._unknown, asked))}
        if missing:
            remedy = f"answers so far are kept in {s.cache}; check server and prompt, then resume the run"
            with Client(s, remedy) as client:
                client.each(lambda case: self._judge(client, *case), missing.items())
        values = {pair: np.mean(self._wins(questions)) for pair, questions in cases.items()}
        return np.asarray(s.gamma * np.array([values[pair] for pair in pairs], float))

    def spent(self) -> list[str]:
        """Return what was asked since the last call, by this and other processes, in words."""
        s = self.settings
        lines = [line for line in self._counted.new() if line.get("reward") == s.name]
        if not lines:
            return []
        prices = {"prompt_tokens": s.prompt_price, "completion_tokens": s.completion_price}
        cost = sum(
            (line.get(name) or 0) * (price or 0) / 1e6 for line in lines for name, price in prices.items()
        )
        models = ", ".join(sorted({str(line["model"]) for line in lines if line.get("model")}))
        parts = [f"reward {s.name!r}: {len(lines):,} answers by {models or s.model}, {tokens(lines)}"]
        if any(price is not None for price in prices.values()):
            parts.append(f"price: {cost:.4g}")
        failures = sum((Counter(line.get("failures") or {}) for line in lines), Counter[str]())
        if failures:
            parts.append("asked again after " + ", ".join(f"{n} x {kind}" for kind, n in failures.items()))
        compared = [line["agrees"] for line in lines if "agrees" in line]
        if compared:
            parts.append(f"{compared.count(False):,} of {len(compared):,} comparisons depended on the order")
        return ["; ".join(parts)]

    # --- parts ---

    def _questions(self, context: str, text: str) -> tuple[str, ...]:
        """Return what is asked about a text: in both orders if it is compared."""
        s = self.settings
        if s.mode == "score":
            orders: Sequence[dict[str, str]] = [{"text": text}]
        else:
            other = s.reference if s.reference is not None else self._references.get(context)
            if other is None:
                raise s.no_reference(context)
            orders = [{"first": text, "second": other}, {"first": other, "second": text}]
        return tuple(fill([s.prompt], {"context": context, **order})[0] for order in orders)

    def _judge(self, client: Client, questions: Sequence[str], text: str) -> None:
        s = self.settings

        def usable(choice: Choice) -> None:
            if choice.cut or s.value(choice.text) is None:
                wanted = (
                    "A, B or tie" if s.mode == "pairwise" else f"a number from {s.lowest:g} to {s.highest:g}"
                )
                kind = (
                    f"an answer cut at {s.longest} tokens"
                    if choice.cut
                    else f"no {wanted.removeprefix('a ')}"
                )
                raise Bad(kind, f"{short(choice.text)} in place of {wanted}, for the text {short(text)}")

        for number, question in enumerate(questions):
            if not self._unknown(question):
                continue
            body = {
                "model": s.model,
                "messages": [{"role": "user", "content": question}],
                "max_tokens": s.longest,
                "temperature": 0.0,
            }
            answer = client.complete("/chat/completions", body, usable)
            line = {
                "key": self._key(question),
                "reward": s.name,
                "said": answer.choices[0].text,
                **answer.facts,
            }
            self._learn(line)
            if number:
                first, second = self._wins(questions)
                line["agrees"] = first == second
            self._kept.add(line)

    def _wins(self, questions: Sequence[str]) -> list[float]:
        """Return the score of each question, or what the text, not the reference, wins in it."""
        found = [self._values[self._key(question)] for question in questions]
        return [1 - value if i else value for i, value in enumerate(found)]

    def _unknown(self, question: str) -> bool:
        return self._key(question) not in self._values

    def _key(self, question: str) -> str:
        s = self.settings
        return hashlib.sha256(json.dumps([s.model, question, s.longest, s.body]).encode()).hexdigest()

    def _learn(self, line: dict[str, Any]) -> None:
        """Use a line of the cache, if it is one, and the first for its question."""
        said = line.get("said")
        value = self.settings.value(said) if isinstance(said, str) else None
        if value is not None:
            self._values.setdefault(str(line.get("key")), value)
