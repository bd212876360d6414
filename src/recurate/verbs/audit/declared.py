"""Declarations of a loop: a run's configuration, a small TOML file, or ``k = 4, temperature = 1``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError, is_number, nearest
from recurate.core.files import parse_toml, read_toml
from recurate.rules import Rule, Selection, Threshold, TopFraction, noise_named
from recurate.rules.noise import built_in_name
from recurate.verbs.audit.findings import UNTESTED, Finding


@dataclass(frozen=True)
class Declared:
    """A declaration of a loop; None for everything that is not declared.

    Attributes:
        k: Slate size.
        temperature: Temperature, which divides the rewards.
        noise: ``gumbel`` (Luce choice), ``gaussian`` (Thurstone) or ``none`` (best of K).
        lapse: Share of slates with uniform picks.
        keep: Number of picks per slate.
        top: Share of the pool that is kept, for pools instead of slates.
        threshold: Level of a verifier, for pools instead of slates.
        false_rejection: Share of what reaches the threshold that the verifier rejects.
        false_acceptance: Share of the others that it accepts.
        picks: Number of picks per round.
        slates: Number of slates per round.
        real_fraction: Share of real data in each retraining set.
        weights: Share of slates judged by each reward, (rewards,), or its weight in the sum.
        scalarised: Whether picks follow the weighted sum of the rewards, not one reward drawn for each slate.
        candidates: ``fresh`` in each round, or ``offline``: the same set may be shown in several rounds.
    """

    k: int | None = None
    temperature: float | None = None
    noise: str | None = None
    lapse: float | None = None
    keep: int | None = None
    top: float | None = None
    threshold: float | None = None
    false_rejection: float | None = None
    false_acceptance: float | None = None
    picks: int | None = None
    slates: int | None = None
    real_fraction: float | None = None
    weights: tuple[float, ...] | None = None
    scalarised: bool | None = None
    candidates: str | None = None

    @property
    def pooled(self) -> bool:
        """Whether a share of the pool is declared to be kept, instead of candidates of slates."""
        return self.top is not None or self.threshold is not None

    @property
    def erring(self) -> bool:
        """Whether error rates of a verifier are declared, be they zero."""
        return self.false_rejection is not None or self.false_acceptance is not None

    @property
    def says_rule(self) -> bool:
        """Whether the rule of the picks is declared; a temperature alone declares Luce's."""
        return self.pooled or any(v is not None for v in (self.temperature, self.noise, self.scalarised))

    @property
    def says_choice(self) -> bool:
        """Whether anything about the choice of picks is declared, be it only weights or lapses."""
        return self.says_rule or self.lapse is not None or self.weights is not None

    @property
    def says_anything(self) -> bool:
        """Whether anything is declared."""
        return any(getattr(self, name) is not None for name in NAMES)

    def rule(self, k: float) -> Selection:
        """Return the declared rule for slates of ``k``, with defaults for what is not declared."""
        temperature = 1.0 if self.temperature is None else self.temperature
        if self.top is not None:
            return TopFraction(self.top, temperature, noise_named(self.noise or "none"))
        if self.threshold is not None:
            return Threshold(
                self.threshold, temperature, noise_named(self.noise or "none"), self.lapse or 0.0,
                self.false_rejection or 0.0, self.false_acceptance or 0.0,
            )  # fmt: skip
        return Rule(
            k if self.k is None else self.k, temperature, noise_named(self.noise or "gumbel"), self.keep or 1,
            self.lapse or 0.0,
        )  # fmt: skip


NAMES = tuple(f.name for f in fields(Declared))
WHOLE = {"k", "keep", "picks", "slates"}
MIXING = ("mode", "real_sample")
CANDIDATES = ("fresh", "offline")
SHARES = {"lapse", "top", "real_fraction", "false_rejection", "false_acceptance"}


def read_declared(text: str | Path) -> Declared:
    """Read a declaration from a TOML file, such as a run's configuration, or from text.

    Args:
        text: Path of a TOML file, or a declaration such as ``k = 4, temperature = 1``.

    Raises:
        InputError: If the file does not exist or is not TOML, or a key or value is invalid.
    """
    path = Path(text)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # too long for a name
        exists = False
    if exists:
        try:
            raw = read_toml(path)
        except ValueError as error:
            raise InputError(f"{path} is not valid TOML", got=error, remedy="correct this line") from None
        return parse_declared(raw, str(path))
    if "=" not in str(text):
        raise InputError(
            "there is no such declaration", got=path, remedy='name a TOML file, or use "k = 4, noise = none"'
        )
    pairs = [_pair(part) for part in _parts(str(text))]
    twice = [name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])]
    if twice:
        raise InputError("--declared has a key twice", got=", ".join(twice), remedy="declare it once")
    return parse_declared(dict(pairs), "--declared")


def _parts(text: str) -> list[str]:
    """Split at commas and line ends outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter in ",\n" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [p for p in parts if p.strip()]


def _pair(part: str) -> tuple[str, Any]:
    name, _, value = (piece.strip() for piece in part.partition("="))
    try:
        return name, parse_toml(f"value = {value}")["value"]
    except ValueError:
        return name, value  # a word without quotes


def parse_declared(raw: Mapping[str, Any], name: str = "the declaration") -> Declared:
    """Check a declaration given as a mapping, or a run's configuration with its tables.

    Raises:
        InputError: If a key or value is invalid.
    """
    of_run = isinstance(raw.get("selection"), Mapping) or isinstance(raw.get("rewards"), list)
    found = dict(raw)
    if of_run:
        retraining = raw.get("retraining", {})
        # A log does not show how picks and real data are mixed. It shows the real fraction, which varies
        # with the round if data accumulate.
        hidden = (*MIXING, "real_fraction") if retraining.get("mode") == "accumulate" else MIXING
        found = {**raw.get("selection", {}), **{k: v for k, v in retraining.items() if k not in hidden}}
        if (
            found.pop("by", "rule") == "people"
        ):  # who follow no rule that was declared, nor pick in each slate
            real = found.get("real_fraction")
            return Declared(
                **({} if real is None else {"real_fraction": _check("real_fraction", real, name)})
            )
        found.pop("people", None)
        weights = [r.get("weight") for r in raw.get("rewards", []) if isinstance(r, Mapping)]
        if len(weights) > 1:
            equal = [1 / len(weights)] * len(weights)
            found["weights"] = equal if None in weights else weights
        defaults: dict[str, Any] = {"temperature": 1.0, "noise": "gumbel", "lapse": 0.0, "k": 4}
        if found.get("threshold") is not None:  # how many candidates pass is not declared
            found = {key: value for key, value in found.items() if key not in ("k", "slates", "picks")}
            found = {key: value for key, value in found.items() if (key, value) != ("lapse", 0.0)}
            defaults = {"temperature": 1.0, "noise": "none"}
        else:
            found.setdefault("slates", found.get("picks"))
        found = defaults | found
        built_in_name(found["noise"], name)
        found = {k: v for k, v in found.items() if v is not None}
    for key in found:
        if key not in NAMES:
            raise InputError(
                f"{name}: {key!r} cannot be declared", got=repr(found[key]), remedy=nearest(key, NAMES)
            )
    checked = {key: _check(key, value, name) for key, value in found.items()}
    declared = Declared(**checked)
    if declared.erring and declared.threshold is None:
        raise InputError(
            f"{name}: error rates belong to a verifier",
            got=", ".join(key for key in checked if key.startswith("false_")),
            remedy="declare its threshold, too",
        )
    if declared.says_rule or declared.says_choice or declared.k or declared.keep:
        declared.rule(2 if declared.keep is None else declared.keep + 1)  # raises where no rule exists
    return declared


def parse_assumed(raw: Mapping[str, Any], name: str = "the configuration") -> Declared | None:
    """Return the rule in a run's configuration that its forecast assumed, if people pick; else None."""
    selection = raw.get("selection")
    if not isinstance(selection, Mapping) or selection.get("by", "rule") != "people":
        return None
    return parse_declared({**raw, "selection": {**selection, "by": "rule"}}, name)


def _check(key: str, value: Any, name: str) -> Any:
    if key == "noise":
        return noise_named(str(value)).name
    if key == "scalarised":
        if not isinstance(value, bool):
            raise InputError(f"{name}: scalarised must be true or false", got=value, remedy="use true")
        return value
    if key == "candidates":
        if value not in CANDIDATES:
            raise InputError(
                f"{name}: candidates are fresh or offline", got=value, remedy=nearest(str(value), CANDIDATES)
            )
        return value
    if key == "weights":
        numbers = tuple(value) if isinstance(value, list | tuple) else ()
        if not numbers or not all(is_number(v) and v >= 0 for v in numbers) or abs(sum(numbers) - 1) > 1e-6:
            raise InputError(
                f"{name}: weights must be shares that sum to one", got=value, remedy="[0.4, 0.6]"
            )
        return numbers
    if (
        not is_number(value)
        or not math.isfinite(value)
        or (key in WHOLE and (value != int(value) or value < 1))
    ):
        raise InputError(
            f"{name}: {key} must be a {'whole number >= 1' if key in WHOLE else 'finite number'}",
            got=repr(value),
            remedy=f"for example {key} = {4 if key in WHOLE else 1.0}",
        )
    if key in SHARES and not 0 <= value <= 1:
        raise InputError(f"{name}: {key} must be a share", got=value, remedy="use a number from 0 to 1")
    return int(value) if key in WHOLE else float(value)


ASPECTS = {
    "k": ("slate size K",),
    "temperature": ("temperature", "rule"),
    "noise": ("rule",),
    "lapse": ("lapse share",),
    "keep": ("picks per slate",),
    "top": ("rule",),
    "threshold": ("rule",),
    "false_rejection": ("rule",),
    "false_acceptance": ("rule",),
    "picks": ("picks per round",),
    "slates": ("slates per round",),
    "real_fraction": ("real data in training",),
    "weights": ("weights",),
    "scalarised": ("rule",),
    "candidates": ("candidates used again",),
}


def untold(declared: Declared, findings: Sequence[Finding]) -> list[Finding]:
    """Return a finding for each declared fact on which there is none."""
    found = {f.aspect for f in findings}
    return [
        Finding(aspects[0], str(getattr(declared, name)), "not verified", "the log does not tell", UNTESTED)
        for name, aspects in ASPECTS.items()
        if getattr(declared, name) is not None and not found & set(aspects)
    ]
