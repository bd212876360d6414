"""One departure from the declared rule in place of another.

Where only the declared temperature is refused, lapses at that temperature, or other noise, may explain the
picks as well: a flatter choice looks like a higher temperature. All have at most one parameter, so that their
likelihoods can be compared. Explanations within ``ALIKE`` nats of the best are all reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from recurate.choices.models.named_rules import ALIKE, NOISES, Fit, Model, climb
from recurate.core.arrays import FloatArray
from recurate.rules import NO_NOISE, Rule
from recurate.verbs.audit.findings import MISMATCH, NOTE, Finding, judge

TEMPERATURE, LAPSE, RULE = "temperature", "lapse share", "rule"


@dataclass(frozen=True)
class Departure:
    """One departure from the declared rule: its aspect, what it says, and its log-likelihood."""

    aspect: str
    name: str
    value: float


def with_alike(
    findings: list[Finding],
    fit: Fit,
    claim: Rule,
    claimed: Callable[[Model, float], FloatArray],
    says_rule: bool,
) -> list[Finding]:
    """Return findings in which a wrong temperature stands beside what explains the picks as well.

    Args:
        findings: Findings on the rule.
        fit: The declared rule with its parameters free.
        claim: The declared rule.
        claimed: Function of a model and a lapse share that returns the declared parameters.
        says_rule: Whether the rule was declared.
    """
    wrong = [f.aspect for f in findings if f.verdict == MISMATCH]
    if wrong != [TEMPERATURE] or claim.noise == NO_NOISE:
        return findings
    found = _departures(fit, claim, claimed)
    best = max(d.value for d in found)
    alike = {d.aspect: d for d in found if d.value > best - ALIKE}
    if list(alike) == [TEMPERATURE]:
        return findings
    result = [_instead(f, alike, claim, says_rule) for f in findings]
    if LAPSE in alike and not any(f.aspect == LAPSE for f in findings):
        result.append(_instead(Finding(LAPSE, f"{claim.lapse:g}", "none"), alike, claim, says_rule))
    return result


def _departures(fit: Fit, claim: Rule, claimed: Callable[[Model, float], FloatArray]) -> list[Departure]:
    """Return the other temperature, then what explains the picks at the declared temperature."""
    model = fit.model
    own, free = claimed(model, 1e-12), model.at("beta")
    start = own.copy()
    start[free] = fit.theta[free]
    found = [Departure(TEMPERATURE, "", climb(model, start, free).value)]
    if not claim.lapse:
        lapsing = replace(model, lapse=True)
        lapsed = climb(lapsing, claimed(lapsing, 0.1), lapsing.at("lapse"))
        share = 1 / (1 + math.exp(-float(lapsed.theta[lapsing.at("lapse")][0])))
        found.append(Departure(LAPSE, f"{share:.3g} at the declared temperature", lapsed.value))
    for noise in NOISES:
        if noise not in (model.noise, NO_NOISE):
            value = float(replace(model, noise=noise).logs(own).sum())
            found.append(Departure(RULE, f"{NOISES[noise]} at the declared temperature", value))
    return found


def _instead(finding: Finding, alike: dict[str, Departure], claim: Rule, says_rule: bool) -> Finding:
    """Return a finding with its departure, if its aspect has one that fits."""
    others = " or ".join(
        {TEMPERATURE: "another temperature", LAPSE: "lapses", RULE: "another rule"}[aspect]
        for aspect in alike
        if aspect != finding.aspect
    )
    more = f"; {others} explains the picks as well" if others else ""
    if finding.aspect in alike:
        own = alike[finding.aspect]
        evidence = (finding.evidence + more).removeprefix("; ")
        return replace(
            finding,
            recovered=own.name or finding.recovered,
            evidence=evidence,
            verdict=finding.verdict if finding.aspect == TEMPERATURE else judge(says_rule, False),
        )
    if finding.aspect == TEMPERATURE:
        return replace(finding, evidence=f"{others} at temperature {claim.temperature:g}", verdict=NOTE)
    return finding
