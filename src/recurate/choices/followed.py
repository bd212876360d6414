r"""The rule that a log's picks follow, and the sentence that says so.

:func:`followed_rule` is the one answer that every verb uses. It rests, in this order, on

1. the picks, by :func:`~recurate.choices.models.recovery.recover`;
2. without picks, the number of candidates of each slate, or of each prompt and round: a trainer that samples
   K completions per prompt and keeps the best is best of K (where most prompts have as many);
3. nothing: Luce's rule with K = 4 at temperature 1.

Slates that were not numbered are the candidates of one context and round, provided that the same number of
each was picked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.choices.models.recovery import NORMAL_975, Recovered, recover
from recurate.choices.observed import Observed
from recurate.core.arrays import IntArray
from recurate.log.schema import MODEL, Log
from recurate.metrics.estimates import encode
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule, Selection, Threshold, TopFraction
from recurate.rules.families import Family
from recurate.rules.slates import Slates

PICKS, PROMPTS, DEFAULT = "picks", "rewards per prompt", "default"
COMPARED = 10_000  # number of slates on which families are compared: 1 to 2 % of a temperature
FEW = 20  # number of picks below which any rule could have made them
MOSTLY = 0.9  # share of prompts with as many picks, above which prompts are slates
USUALLY = 0.8  # share of prompts with as many rewards, above which that number is K
USUAL = 4  # slate size where nothing tells it
ACROSS = (
    "picks are made over each round's pool, across contexts; the forecast applies their rule within contexts",
)
DECIDES = "--rule luce or --rule best decides"


@dataclass(frozen=True)
class Followed:
    """The rule of a log, with its evidence.

    Attributes:
        rule: Rule for forecasts, or None if the picks follow none that forecasts support.
        statement: One sentence that states the rule, with its evidence.
        source: What the rule rests on: ``picks``, ``rewards per prompt`` or ``default``.
        evidence: Evidence in words.
        sizes: Share of the log's slates (or prompts) of each size; None without slates and prompts.
        weights: Share of slates judged by each reward, (rewards,), if the picks tell it; else None.
        recovered: What the picks tell; None without picks.
        warnings: Reservations about forecasts by this rule.
    """

    rule: Selection | None
    statement: str
    source: str
    evidence: str = ""
    sizes: Mapping[float, float] | None = None
    weights: tuple[float, ...] | None = None
    recovered: Recovered | None = None
    warnings: tuple[str, ...] = ()

    def inverse(self, family: Family) -> tuple[float, float] | None:
        """Return 1 / temperature and its standard error under a family, or None if the picks tell none."""
        return None if self.recovered is None else self.recovered.inverses.get(family)

    def facts(self) -> dict[str, Any]:
        """Return the statement, the rule and the intervals of its parameters as plain values."""
        found = self.recovered
        return {
            "statement": self.statement,
            "source": self.source,
            "evidence": self.evidence,
            **({} if self.rule is None else rule_facts(self.rule)),
            **(recovered_facts(found) if found is not None else {}),
        }


USUALLY_LUCE = f"Luce's rule at temperature 1, one of {USUAL}, by default"
UNTOLD = Followed(Rule(USUAL), f"{USUALLY_LUCE}: no picks, slates or prompts tell the rule", DEFAULT)


def followed_rule(log: Log, *, most: int = COMPARED) -> Followed:
    """Return the rule that the picks of a log follow, over all of its rounds.

    Args:
        log: Log with any number of picks per slate, and of rounds.
        most: Maximum number of slates with one pick on which families of rules are compared.

    Returns:
        The rule, what it rests on, and a sentence such as "picks follow best of 4 (the best was picked in
        all 4,000 slates)".

    Raises:
        InputError: If the log holds no candidates of the model.
    """
    own = log.select(source=MODEL)
    if own.table.num_rows and not _chosen_from(own):
        return _by_prompts(own)
    observed = Observed.of(with_slates(log))
    sizes = observed.slates.shares() if len(observed.slates) else None
    if observed.picked.any():
        found = _by_picks(recover(observed, most=most), observed.names, sizes)
        pooled = isinstance(found.rule, TopFraction | Threshold)
        across = ACROSS if pooled and np.ptp(observed.contexts) > 0 else ()
        return replace(found, warnings=across)
    return _by_prompts(own) if sizes is None else _best_of(sizes)


def _chosen_from(own: Log) -> bool:
    """Return whether anything is in a slate or was picked."""
    slate, picked = own.table.column("slate"), own.table.column("picked")
    return bool(slate.null_count < own.table.num_rows or pc.any(picked).as_py())


def _by_prompts(own: Log) -> Followed:
    """Return the rule of candidates without slates and picks, by their number per prompt and round."""
    context = own.table.column("context")
    alone = pc.all(pc.equal(context, context[0])).as_py()
    sizes = None if alone else _prompts(own.column("round"), own.column("context"))[1]
    shares = _usual_shares(sizes)
    return _untold(sizes) if shares is None else _best_of(shares)


def _best_of(sizes: Mapping[float, float]) -> Followed:
    """Return best of K, which is assumed where no picks are logged."""
    rule = Rule(sizes, noise=NO_NOISE)
    statement = (
        f"no picks are logged; {phrase(rule)} is assumed, as in trainers that keep the best "
        "(--rule luce for Luce's rule)"
    )
    return Followed(rule, statement, PROMPTS, f"{size_text(rule)} rewards per prompt and round", sizes)


def _untold(sizes: IntArray | None) -> Followed:
    """Return the default, and why the numbers of rewards per prompt tell no K."""
    if sizes is None:
        return UNTOLD
    text = f"{int(sizes.min())} to {int(sizes.max())} rewards per prompt and round tell no K (--k, --rule)"
    return Followed(UNTOLD.rule, f"{USUALLY_LUCE}: no picks are logged, and {text}", DEFAULT, text)


def _by_picks(found: Recovered, names: tuple[str, ...], sizes: Mapping[float, float] | None) -> Followed:
    several = len(names) > 1 and (found.keep != 1 or found.family.pooled) and found.family != Family.UNKNOWN
    few = 0 < found.picks < FEW and found.family != Family.UNKNOWN
    rule = None if several or few else found.rule
    if several:
        statement = (
            f"picks follow no rule that is known for {len(names)} rewards and several picks per slate; name "
            f"the reward that they follow (--reward), or {DECIDES}"
        )
    elif few:
        statement = f"{found.picks} picks are too few to tell their rule; {DECIDES}"
    elif rule is None:
        statement = f"{said(found, names)}; {DECIDES}"
    else:
        statement = said(found, names)
    weights = found.weights if rule is not None else None
    return Followed(rule, statement, PICKS, found.evidence, sizes, weights, found)


# --- slates and prompts ---------------------------------------------------------------------------


def with_slates(log: Log) -> Log:
    """Return the log with contexts as slates, if it numbers none and picks as many of almost each context.

    Contexts of which nothing was picked, such as those of a last round, do not count.
    """
    own = log.select(source=MODEL)
    slate = own.table.column("slate")
    if own.table.num_rows == 0 or slate.null_count < own.table.num_rows:
        return log
    codes, sizes = _prompts(own.column("round"), own.column("context"))
    if sizes is None:
        return log
    picks = np.bincount(codes, own.column("picked").astype(float), sizes.size)
    some = picks[picks > 0].astype(int)
    if not some.size or np.bincount(some).max() < MOSTLY * some.size:
        return log
    model = log.column("source") == MODEL
    numbers = np.zeros(model.size, np.int64)
    numbers[model] = codes
    index = log.table.column_names.index("slate")
    return Log(log.table.set_column(index, "slate", pa.array(numbers, mask=~model)), log.rewards)


def _prompts(rounds: Any, contexts: Any) -> tuple[IntArray, IntArray | None]:
    """Return the prompt and round of each row as a code, (rows,), and their sizes.

    The sizes are None where there is one context only, or a context with one row: such contexts are no
    slates.
    """
    context = encode(contexts)[0]
    pairs = np.unique(rounds, return_inverse=True)[1].astype(np.int64) * (context.max() + 1) + context
    codes, sizes = np.unique(pairs, return_inverse=True, return_counts=True)[1:]
    if context.max() == 0 or sizes.min() < 2:
        return codes, None
    return np.asarray(codes, np.int64), np.asarray(sizes, np.int64)


def _usual_shares(sizes: IntArray | None) -> dict[float, float] | None:
    """Return the shares of the numbers of rewards per prompt and round; None unless most are the same."""
    if sizes is None or np.bincount(sizes).max() < USUALLY * sizes.size:
        return None
    return Slates(np.r_[0, np.cumsum(sizes)].astype(np.int64)).shares()


# --- words ----------------------------------------------------------------------------------------


def said(found: Recovered, names: tuple[str, ...] = ()) -> str:
    """Return the recovered rule in words: "picks follow ...", or why they follow none.

    Args:
        found: The rule that fits the picks best.
        names: Names of the rewards, for their weights.
    """
    if found.family == Family.UNKNOWN:
        return f"not identified ({found.evidence})"
    if found.family == Family.WORST:
        return f"picks avoid the reward: {_counted(found.evidence)}"
    if found.inverse is not None and found.temperature is None:
        value, error = found.inverse
        low, high = value - NORMAL_975 * error, value + NORMAL_975 * error
        return (
            f"picks avoid the reward: 1 / temperature is {value:.3g} (95 % interval {low:.3g} to {high:.3g})"
        )
    rule = found.rule
    assert rule is not None  # all other families have one
    text = phrase(rule, found)
    if found.weights is not None and len(found.weights) > 1:
        shares = (f"{name} {w:.3g}" for name, w in zip(names, found.weights, strict=False))
        text += f", each slate judged by one reward ({', '.join(shares)})"
    if found.family in (Family.UNIFORM, Family.POOL_UNIFORM):
        return f"picks do not depend on the reward: {text} ({_number(found)})"
    if found.family in (Family.BEST, Family.TOP, Family.VERIFIER):
        return f"picks follow {text} ({_counted(found.evidence)})"
    return f"picks follow {text} ({_number(found)})"


def _number(found: Recovered) -> str:
    return f"{found.picks:,} {'picks' if found.family.pooled else 'slates'}"


def _counted(evidence: str) -> str:
    """Return evidence with commas in numbers of more than three digits, and spaces before percent signs."""
    words = (f"{int(w):,}" if w.isdigit() else w for w in evidence.replace("%", " %").split(" "))
    return " ".join(words)


def phrase(rule: Selection, found: Recovered | None = None) -> str:
    """Return a rule in words, such as "Luce's rule at temperature 0.5, one of 4".

    Args:
        rule: Any rule.
        found: Where it was recovered, for the intervals of its temperature and lapse share.
    """
    if isinstance(rule, Threshold):
        noise = "" if rule.noise == NO_NOISE else f", with {rule.noise.name} noise of {rule.temperature:g}"
        named = f"a verifier that keeps every reward of at least {rule.level:.4g}{noise}"
        if not rule.errs:
            return named
        lost, let = (f"{100 * rate:.3g} %" for rate in (rule.false_rejection, rule.false_acceptance))
        return f"{named}, but rejects {lost} of these and accepts {let} of the others"
    if isinstance(rule, TopFraction):
        share = f"{100 * rule.fraction:.3g} %"
        if rule.noise == NO_NOISE:
            return f"the best {share} of each round's pool"
        name = "one softmax" if rule.noise == GUMBEL else f"{rule.noise.name} noise"
        return f"{name} over each round's pool at {_temperature(rule, found)}, {share} kept"
    if not isinstance(rule, Rule):
        return f"the rule {type(rule).__name__}"
    picks = "one" if rule.keep == 1 else str(rule.keep)
    many = f"{picks}, K = infinity" if math.isinf(rule.largest) else f"{picks} of {size_text(rule)}"
    if found is not None and found.family == Family.POOL_UNIFORM:
        return f"a random {100 * (found.share or 0):.3g} % of each round's pool"
    if rule.lapse == 1:
        return f"a random {many}"
    if rule.largest == 1:
        return "no selection (K = 1)"
    if rule.noise == NO_NOISE:
        text = f"best of {size_text(rule)}" if rule.keep == 1 else f"best {rule.keep} of {size_text(rule)}"
    else:
        names = {GUMBEL: "Luce's rule", GAUSSIAN: "Thurstone's rule"}
        text = f"{names.get(rule.noise, f'{rule.noise.name} noise')} at {_temperature(rule, found)}, {many}"
    if rule.lapse:
        text += f", with {rule.lapse:.1%} of slates judged at random".replace("%", " %")
        if found is not None and found.lapse is not None:
            low, high = (f"{value:.1%}".replace("%", " %") for value in found.lapse[1:])
            text += f" (95 % interval {low} to {high})"
    return text


def size_text(rule: Rule) -> str:
    """Return the slate size in words: "4", "infinity", or "2 to 6" for a distribution."""
    first, last = ("infinity" if math.isinf(k) else f"{k:.0f}" for k in (rule.smallest, rule.largest))
    return first if first == last else f"{first} to {last}"


def _temperature(rule: Selection, found: Recovered | None) -> str:
    text = f"temperature {rule.temperature:.3g}"
    interval = None if found is None else found.temperature_interval
    if interval is None:
        return text
    low, high = interval
    upper = "infinity" if math.isinf(high) else f"{high:.3g}"
    return f"{text} (95 % interval {low:.3g} to {upper})"


# --- plain values ---------------------------------------------------------------------------------


def rule_facts(rule: Selection) -> dict[str, Any]:
    """Return a rule as plain values, its noise always named."""
    noise = getattr(rule, "noise", None)
    return rule.facts() | ({} if noise is None else {"noise": noise.name})


def recovered_facts(found: Recovered) -> dict[str, Any]:
    """Return family, intervals and weights of a recovered rule as plain values."""
    return {
        "family": str(found.family),
        "temperature_interval": found.temperature_interval,
        "lapse_interval": None if found.lapse is None else found.lapse[1:],
        "weights": found.weights,
        "picks": found.picks,
    }
