"""Completions sampled by a server: grouped by prompt, kept as they arrive, asked for again where missing.

Item i is asked for with a seed of its own, or in one request with its neighbours if they have its prompt.
Servers do not promise that a seed gives the same text again. Therefore every answer is kept in a file: the
items of a round that is begun again are those that it has, and only the others are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from recurate.components.serving.client import Client, Endpoint, tokens
from recurate.components.serving.kept import Kept
from recurate.core.errors import counted

SEEDS = 2**31  # servers need seeds below it
LINE = {"keys", "texts", "cut", "asked", "prompt", "sent_tokens", "weights"}  # keys of every kept answer
ENOUGH = 20  # candidates that equal the first one of their prompt, from which a server does not sample


@dataclass(frozen=True)
class Prompt:
    """A prompt for a server.

    Attributes:
        ids: Its tokens, as in training.
        message: The user's message in a chat; None: the tokens are sent.
    """

    ids: tuple[int, ...]
    message: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of a request."""
        if self.message is None:
            return {"prompt": list(self.ids)}
        return {"messages": [{"role": "user", "content": self.message}]}

    @property
    def path(self) -> str:
        """Path of the requests."""
        return "/completions" if self.message is None else "/chat/completions"


@dataclass(frozen=True)
class Order:
    """What a server is asked for.

    Attributes:
        digest: Identity of the weights.
        manner: Fields of every request: temperature, top_p, max_tokens, ...
        choices: Largest number of completions per request.
    """

    digest: str
    manner: dict[str, Any]
    choices: int


def ask(
    order: Order,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    kept: Kept,
    endpoint: Endpoint,
    begin: Callable[[Client], str],
) -> list[str]:
    """Return one completion per prompt.

    Args:
        order: What is asked for.
        prompts: Prompts; equal ones that follow each other share a request.
        seeds: Seed of every item.
        kept: Answers so far, to which new ones are added.
        endpoint: Settings of the server.
        begin: Function that makes the server use the weights and returns the model's name; it is called if
            an answer is missing.

    Raises:
        InputError: If the server refuses a request, or no attempt at one succeeds.
    """
    names = {
        prompt: _hash([order.digest, prompt.fields(), order.manner]) for prompt in dict.fromkeys(prompts)
    }
    keys = [f"{names[prompt]}-{seed}" for prompt, seed in zip(prompts, seeds, strict=True)]
    known = {
        key: text for line in answers(kept) for key, text in zip(line["keys"], line["texts"], strict=True)
    }
    missing = [i for i, key in enumerate(keys) if key not in known]
    if not missing:
        return [known[key] for key in keys]
    where = "" if kept.path is None else f"answers so far are kept in {kept.path}; "
    most = order.choices  # fewer once the server has returned fewer
    with Client(endpoint, f"{where}check the server, then recurate run --resume asks for the rest") as client:
        model, version = begin(client), client.version()

        def fill(group: list[int]) -> None:
            nonlocal most
            while group:
                wanted, prompt, seed = min(len(group), most), prompts[group[0]], seeds[group[0]] % SEEDS
                body = {"model": model, **prompt.fields(), **order.manner, "n": wanted, "seed": seed}
                answer = client.complete(prompt.path, body)
                done, group = group[: len(answer.choices)], group[len(answer.choices) :]
                most = min(most, len(done)) if len(done) < wanted else most
                line = {
                    "keys": [keys[i] for i in done],
                    "texts": [choice.text for choice in answer.choices],
                    "cut": sum(choice.cut for choice in answer.choices),
                    "asked": wanted,
                    "prompt": names[prompt],
                    "sent_tokens": len(prompt.ids),
                    "weights": order.digest,
                    "version": version,
                    **answer.facts,
                }
                kept.add(line)
                known.update(zip(line["keys"], line["texts"], strict=True))

        client.each(fill, _groups(prompts, missing, order.choices))
    return [known[key] for key in keys]


def answers(kept: Kept) -> list[dict[str, Any]]:
    """Return the lines of a file that :func:`ask` has written whole."""
    return [line for line in kept.new() if line.keys() >= LINE and len(line["keys"]) == len(line["texts"])]


def remarks(lines: Sequence[dict[str, Any]], longest: int) -> Iterator[str]:
    """Yield what a reader must know of the answers of a round.

    Args:
        lines: Lines of the answers, as :func:`ask` keeps them.
        longest: Largest number of tokens of a completion.
    """
    if not lines:
        return
    total = sum(len(line["texts"]) for line in lines)
    who = {name: _different(lines, name) for name in ("model", "server", "version", "fingerprint")}
    named = "; ".join(f"{name} {', '.join(found)}" for name, found in who.items() if found)
    yield (
        f"{total:,} completions by a server in {len(lines):,} answers ({named or 'which states no model'}): "
        f"{tokens(lines)}"
    )
    for name in ("version", "fingerprint"):
        if len(who[name]) > 1:
            yield f"answers of this round come from servers of {len(who[name])} different {name}s"
    failures = sum((Counter(line.get("failures") or {}) for line in lines), Counter[str]())
    if failures:
        yield "requests were sent again after " + ", ".join(f"{n} x {kind}" for kind, n in failures.items())
    fewer = sum(len(line["texts"]) < line["asked"] for line in lines)
    if fewer:
        yield counted(fewer, "{answer|answers} had fewer choices than asked for; the others were asked for")
    cut = sum(line["cut"] for line in lines)
    if cut:
        yield f"{cut:,} of {total:,} completions were cut at {longest} tokens"
    read = [(line.get("read_tokens"), line["sent_tokens"]) for line in lines]
    other = [pair for pair in read if pair[0] is not None and pair[0] != pair[1]]
    if other:
        yield (
            f"the server read prompts otherwise than training does in {len(other):,} of {len(lines):,} "
            f"answers: {other[0][0]} tokens, not {other[0][1]}; its chat template or tokenizer may be another"
        )
    texts: dict[str, list[str]] = {}
    for line in lines:
        texts.setdefault(line["prompt"], []).extend(line["texts"])
    if total - len(texts) >= ENOUGH and all(len(set(found)) == 1 for found in texts.values()):
        yield (
            "all completions of a prompt are equal, for every prompt: the model has become certain, or the "
            "server does not sample (transformers serve needs do_sample in generation_config.json)"
        )


def _groups(prompts: Sequence[Prompt], missing: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield items of one prompt that follow each other, at most ``most`` together."""
    for _, items in groupby(missing, lambda i: prompts[i]):
        own = list(items)
        yield from (own[start : start + most] for start in range(0, len(own), most))


def _different(lines: Sequence[dict[str, Any]], name: str) -> list[str]:
    return sorted({str(line[name]) for line in lines if line.get(name) is not None})


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
