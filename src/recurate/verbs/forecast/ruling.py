r"""The rule that a forecast or a plan uses: the log's, or its folder's, with the parts that the user gives.

Parts override one by one. ``k``, ``keep`` and ``lapse`` change only themselves. ``rule`` and ``noise`` change
the family; its temperature is then the picks' under that family, if they tell one, else 1, and lapses are
those of the family that they were estimated with, so they are dropped. A temperature belongs to a family that
has one: given for picks that follow best of K, it means Luce's rule at that temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurate.choices.followed import DEFAULT, UNTOLD, USUAL, Followed, followed_rule, phrase, rule_facts
from recurate.core.errors import InputError, nearest
from recurate.log.schema import MODEL, Log
from recurate.rules import GUMBEL, NO_NOISE, Noise, Rule, Selection, Threshold, TopFraction, noise_named
from recurate.rules.families import family_of
from recurate.theory.setting import rule_of

SLATES = ("k", "temperature", "noise", "keep", "lapse")  # parts of a rule for slates
RATES = ("false_rejection", "false_acceptance")  # errors of a verifier
WORDS: Mapping[str, Mapping[str, Any]] = {
    "luce": {"noise": GUMBEL},
    "best": {"noise": NO_NOISE},
    "thurstone": {"noise": noise_named("gaussian")},
    "random": {"lapse": 1.0},
}
GIVEN, RECORDED = "options", "settings"


@dataclass(frozen=True)
class Ruling:
    """The rule that is used, and why.

    Attributes:
        rule: The rule.
        statement: One sentence that states it.
        source: ``options``, ``settings`` (of a run or fit), ``picks``, ``rewards per prompt`` or ``default``.
        options: Options that changed it.
        weights: Share of slates judged by each reward that the picks tell, or None.
        followed: What the log tells; None where nothing was asked of it.
        warnings: Reservations about the rule.
    """

    rule: Selection
    statement: str
    source: str
    options: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    followed: Followed | None = None
    warnings: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The first line of a result."""
        return f"rule: {self.statement}"

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values: statement, parts, source, options, and what the log tells."""
        return {
            "statement": self.statement,
            **rule_facts(self.rule),
            "source": self.source,
            "options": list(self.options),
            "log": None if self.followed is None else self.followed.facts(),
        }


def ruling_of(
    log: Log | None,
    recorded: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    threshold: float | None = None,
    top: float | None = None,
) -> Ruling:
    """Return the rule of a forecast.

    Args:
        log: The log, or None for arrays, which tell no rule.
        recorded: Settings of the run or fit, as :func:`~recurate.verbs.forecast.from_log.run_settings`
            returns them; a rule that they state comes before the log's.
        given: ``rule`` (a rule or one of ``WORDS``), the parts ``SLATES`` and the ``RATES`` of errors that
            the user gives, or None.
        threshold: Level of a verifier, in place of slates.
        top: Share of the pool that is kept, in place of slates.

    Raises:
        InputError: If a word is unknown, a value is out of range, or options contradict each other.
    """
    named = given.get("rule")
    parts = {name: given[name] for name in SLATES if given.get(name) is not None}
    rates = {name: given[name] for name in RATES if given.get(name) is not None}
    if rates and threshold is None:
        raise InputError(
            "error rates belong to a verifier",
            got=f"{_by(tuple(rates))} without --threshold",
            remedy="give the level that a good candidate reaches: --threshold LEVEL",
        )
    if threshold is not None or top is not None:
        rule = _without_slates(recorded, parts, named, threshold, top, rates)
        options = ("threshold" if top is None else "top", *parts, *rates)
        return Ruling(rule, f"{phrase(rule)}, by {_by(options)}", GIVEN, options, warnings=_blind(rule))
    if named is not None and not isinstance(named, str):
        rule = rule_of(named, **parts)
        return Ruling(rule, f"{phrase(rule)}, as given", GIVEN, ("rule",))
    options = (("rule",) if named is not None else ()) + tuple(parts)
    changes = _named(named, parts)
    if recorded.get("threshold") is not None and not options:
        own = {name: recorded[name] for name in RATES if recorded.get(name) is not None}
        known = {name: recorded[name] for name in ("temperature", "noise", "lapse") if name in recorded}
        verifier = _without_slates({}, known, None, recorded["threshold"], None, own)
        return Ruling(
            verifier, f"{phrase(verifier)}, by the folder's settings", RECORDED, warnings=_blind(verifier)
        )
    if recorded.get("threshold") is not None:
        recorded = {}  # slates are asked for in place of a verifier
    if any(recorded.get(name) is not None for name in SLATES):
        known = {name: recorded[name] for name in SLATES if recorded.get(name) is not None}
        size = {} if log is None else {"k": slate_size(log)}
        base = rule_of(**size | known)
        rule = rule_of(**size | known | timed(base, changes))
        by = f", by {_by(options)} and the folder's settings" if options else ", by the folder's settings"
        return Ruling(rule, phrase(rule) + by, RECORDED, options, warnings=_idle(rule, options))
    followed = UNTOLD if log is None else followed_rule(log)
    return _changed(followed, changes, options)


def _changed(followed: Followed, changes: Mapping[str, Any], options: tuple[str, ...]) -> Ruling:
    warnings: tuple[str, ...] = ()
    base = followed.rule
    if base is None:
        base = Rule(followed.sizes or USUAL)
        if "noise" not in changes and changes.get("lapse") != 1:
            warnings = (f"{followed.statement}; {phrase(base)} is used by default",)
    rule = changed_rule(base, changes, followed)
    if not isinstance(rule, Rule):
        warnings += followed.warnings
    warnings += _idle(rule, options) + _untold_temperature(rule, base, changes, followed)
    statement = followed.statement
    if followed.rule is None and not options:
        statement = f"{phrase(rule)}, by default; {followed.statement}"
    elif options:
        default = "; the rest by default" if followed.source == DEFAULT else f"; {followed.statement}"
        statement = f"{phrase(rule)}, by {_by(options)}{default}"
    return Ruling(rule, statement, followed.source, options, followed.weights, followed, warnings)


def changed_rule(base: Selection, changes: Mapping[str, Any], followed: Followed = UNTOLD) -> Selection:
    """Return a rule with some of its parts changed; see the module.

    Args:
        base: The rule.
        changes: Parts ``SLATES`` of a rule for slates.
        followed: Where the rule comes from, for slate sizes and temperatures.
    """
    if not changes:
        return base
    if isinstance(base, TopFraction) and set(changes) == {"temperature"}:
        return TopFraction(base.fraction, changes["temperature"], GUMBEL)
    if not isinstance(base, Rule):
        own = getattr(base, "noise", GUMBEL) if "temperature" not in changes else GUMBEL
        base = Rule(followed.sizes or USUAL, base.temperature, own)
    parts: dict[str, Any] = {name: getattr(base, name) for name in SLATES}
    noise = timed(base, changes).get("noise")
    if noise is not None and (noise != base.noise or base.lapse == 1):
        told = followed.inverse(family_of(noise))
        temperature = 1 / told[0] if told is not None and told[0] > 0 else 1.0
        parts |= {"noise": noise, "temperature": temperature, "lapse": 0.0}
    return Rule(**parts | dict(changes))


def timed(base: Selection, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes; a temperature for a rule that has none asks for Luce's rule at that temperature."""
    timeless = isinstance(base, Rule) and (base.noise == NO_NOISE or base.lapse == 1)
    asked = "temperature" in changes and "noise" not in changes and changes.get("lapse") != 1
    return dict(changes) | ({"noise": GUMBEL} if timeless and asked else {})


def _blind(rule: Selection) -> tuple[str, ...]:
    """Return a warning about a verifier whose verdicts tell nothing, or the contrary."""
    if not isinstance(rule, Threshold) or not rule.errs:
        return ()
    passing = 1 - rule.false_rejection
    if rule.false_acceptance < passing:
        return ()
    often = "as often as" if rule.false_acceptance == passing else "more often than"
    return (
        f"the verifier accepts what is below its level {often} what reaches it "
        f"({rule.false_acceptance:.3g} against {passing:.3g}): it is at or beyond its breakdown point",
    )


def _idle(rule: Selection, options: Sequence[str]) -> tuple[str, ...]:
    """Return a warning about a temperature that changes no pick."""
    timeless = getattr(rule, "noise", None) == NO_NOISE or getattr(rule, "lapse", 0) == 1
    if "temperature" not in options or not timeless:
        return ()
    return ("--temperature changes no pick of this rule; it only scales E exp(reward / temperature)",)


def _untold_temperature(
    rule: Selection, base: Selection, changes: Mapping[str, Any], followed: Followed
) -> tuple[str, ...]:
    """Return a warning about the temperature 1 of a family of which the picks tell none."""
    if not isinstance(rule, Rule) or not isinstance(base, Rule) or rule.noise in (NO_NOISE, base.noise):
        return ()
    if "temperature" in changes or followed.recovered is None or rule.lapse == 1:
        return ()
    if followed.inverse(family_of(rule.noise)) is not None:
        return ()
    return ("the picks tell no temperature of this rule: 1 is used by default (--temperature)",)


def slate_size(log: Log) -> float | dict[float, float]:
    """Return the size of the log's slates, or the distribution of sizes; 4 for a log without slates."""
    sizes, counts = np.unique(log.select(source=MODEL).slate_sizes(), return_counts=True)
    if sizes.size < 2:
        return float(sizes[0]) if sizes.size else float(USUAL)
    return dict(zip(sizes.astype(float).tolist(), (counts / counts.sum()).tolist(), strict=True))


def _named(named: str | None, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that the options ask for, with names of rules and noises looked up."""
    changes = dict(parts)
    noise = changes.get("noise")
    if noise is not None:
        if named is not None:
            raise InputError(
                "--rule and --noise both name the family of the rule",
                got=f"--rule {named} and --noise {noise if isinstance(noise, str) else noise.name}",
                remedy="give one of them",
            )
        changes["noise"] = noise_named(noise) if isinstance(noise, str) else noise
    if named is None:
        return changes
    if named not in WORDS:
        raise InputError("there is no such rule", got=named, remedy=nearest(named, WORDS))
    clash = [name for name in WORDS[named] if name in changes]
    if clash:
        raise InputError(
            f"--rule {named} has its own {clash[0]}", got=changes[clash[0]], remedy=f"leave out --{clash[0]}"
        )
    return changes | dict(WORDS[named])


def _by(options: Sequence[str]) -> str:
    names = [f"--{name.replace('_', '-')}" for name in options]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _without_slates(
    recorded: Mapping[str, Any],
    parts: Mapping[str, Any],
    named: Any,
    threshold: float | None,
    top: float | None,
    rates: Mapping[str, float],
) -> Selection:
    """Return the rule of a verifier, with its rates of errors, or of a top fraction."""
    given = parts if named is None else {**parts, "rule": named}
    refused = ("k", "keep", "rule") if top is None else ("k", "keep", "lapse", "rule")
    wrong = [f"--{name}" for name in refused if name in given]
    if (threshold is not None and top is not None) or wrong:
        raise InputError(
            "--threshold and --top are each a rule of their own",
            got=f"{', '.join(wrong)} too" if wrong else "both",
            remedy="give one of them alone",
        )
    temperature = float(parts.get("temperature", recorded.get("temperature") or 1.0))
    noise: Noise | str = parts.get("noise", "none")
    noise = noise_named(noise) if isinstance(noise, str) else noise
    if top is not None:
        return TopFraction(top, temperature=temperature, noise=noise)
    assert threshold is not None
    return Threshold(threshold, temperature, noise, parts.get("lapse", 0.0), **rates)
