"""Findings on the rule: family, temperature, lapses, weights and position effects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from recurate.choices.checks.luce_checks import part_of
from recurate.choices.checks.score_tests import position_columns, score_test
from recurate.choices.checks.statistics import chi2_tail
from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.logit import conditional_logit
from recurate.choices.models.recovery import ENOUGH, MOST, Recovered, mixture_logs, temperature_drift_p
from recurate.choices.observed import Observed
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.rules import GUMBEL, NO_NOISE, Rule, noise_named
from recurate.rules.families import Family, family_of
from recurate.verbs.audit.declared import Declared
from recurate.verbs.audit.findings import LEVEL, MISMATCH, OK, UNTESTED, Finding, compared, judge, p_text

FAR = 3.72  # standard errors that correspond to the level of each test, two-sided


def judge_rule(observed: Observed, declared: Declared, found: Recovered) -> list[Finding]:
    """Compare the recovered rule with the declared one."""
    text = _rule_text(declared) if declared.says_rule else ""
    if found.family == Family.UNKNOWN:
        return [Finding("rule", text, found.family, found.evidence, UNTESTED)]
    if found.family.pooled:
        return _pool_rule(declared, found, text)
    if found.keep != 1:
        return _kept_rule(declared, found, text)
    single = observed.single_picks()
    assert single is not None
    choices, which = single
    part = part_of(choices, MOST)
    rounds = observed.slate_rounds[which]
    findings = _slate_rule(part, declared, found, text)
    if len(observed.names) == 1 and found.family in (Family.LUCE, Family.LAPSE, Family.THURSTONE):
        if found.family == Family.LUCE and declared.noise in (None, "gumbel") and not declared.lapse:
            findings += _steadiness(choices, rounds, declared)
        findings += _positions(choices, rounds, declared)
    return findings


def _rule_text(declared: Declared) -> str:
    if declared.top is not None:
        return f"top {declared.top:g} of the pool"
    if declared.threshold is not None:
        return f"rewards of at least {declared.threshold:g}"
    noise = declared.noise or "gumbel"
    family = family_of(noise_named(noise))
    name = f"noise {noise}" if family is Family.UNKNOWN else str(family)
    return name + (f", lapse {declared.lapse:g}" if declared.lapse else "")


def temperature_text(found: Recovered) -> str:
    """Return the temperature and its 95 % interval as text."""
    if found.inverse is None:
        return ""
    if found.temperature is None or found.temperature_interval is None:
        return f"1 / temperature = {found.inverse[0]:.3g} ± {1.96 * found.inverse[1]:.2g}"
    low, high = found.temperature_interval
    return f"{found.temperature:.3g} ({low:.3g} to {'infinity' if math.isinf(high) else f'{high:.3g}'})"


def _lapse_text(found: Recovered) -> str:
    assert found.lapse is not None
    share, low, high = found.lapse
    return f"{share:.3g} ({low:.2g} to {high:.2g})"


def _pool_rule(declared: Declared, found: Recovered, text: str) -> list[Finding]:
    share = found.share or 0.0
    recovered = f"{found.family} ({share:.3g})"
    right = False
    if declared.top is not None:
        family = Family.TOP if declared.noise in (None, "none") else Family.POOL_SOFTMAX
        right = found.family == family and abs(share - declared.top) <= max(0.005, 2.0 / max(found.picks, 1))
    elif declared.threshold is not None:
        right = found.cut is not None and found.cut[0] < declared.threshold <= found.cut[1]
    verdict = judge(declared.says_rule, right)
    if declared.threshold is not None and declared.noise not in (None, "none"):
        verdict = UNTESTED  # noisy thresholds are not fitted
    findings = [Finding("rule", text, recovered, found.evidence, verdict)]
    if found.inverse is not None:
        findings.append(_pool_temperature(declared, found))
    return findings


def _pool_temperature(declared: Declared, found: Recovered) -> Finding:
    assert found.inverse is not None
    beta, error = found.inverse
    wanted = declared.temperature if declared.top is not None and declared.noise == "gumbel" else None
    right = wanted is None or abs(beta - 1 / wanted) <= 4 * error + 0.05 / wanted  # picks are dependent
    return compared("temperature", wanted, temperature_text(found), right=right)


def _kept_rule(declared: Declared, found: Recovered, text: str) -> list[Finding]:
    noise = declared.noise or "gumbel"
    best = found.family == Family.BEST
    right = (noise == "none") == best and found.family != Family.UNIFORM and declared.keep == found.keep
    name = f"best {found.keep} of K" if best else found.family
    findings = [Finding("rule", text, name, found.evidence, judge(declared.says_rule, right))]
    if found.inverse is not None and declared.temperature is not None and noise == "gumbel":
        beta, error = found.inverse
        right = abs(beta - 1 / declared.temperature) <= 3.9 * error
        findings.append(compared("temperature", declared.temperature, temperature_text(found), right=right))
    return findings


def _slate_rule(choices: Choices, declared: Declared, found: Recovered, text: str) -> list[Finding]:
    """Judge family, temperature and lapse share of slates with one pick."""
    claim = declared.rule(int(choices.slates.sizes.max())) if declared.says_rule else None
    if len(found.weights or ()) > 1:
        return _mixture_rule(choices, declared, found, text)
    if claim is None or not isinstance(claim, Rule):
        return [
            Finding("rule", text, found.family, found.evidence, judge(claim is not None, False)),
            *_recovered_values(found),
        ]
    claim = replace(claim, keep=1)  # the number of picks per slate is a separate finding
    log_declared = float(choices.log_likelihood(claim, choices.features[:, 0]).sum())
    fitted, df = _own_family(claim, found)
    rival = found.logs.get(found.family, -math.inf)
    other = found.family == Family.WORST or found.family.noise not in (None, claim.noise)
    lost = max(rival, fitted or -math.inf) - log_declared
    gap = rival - max(fitted if fitted is not None else log_declared, log_declared)
    distinct = found.family == Family.WORST or (other and (gap > ENOUGH or math.isinf(log_declared)))
    p = 1.0 if fitted is None else chi2_tail(2 * max(fitted - log_declared, 0.0), df)
    random = found.family == Family.UNIFORM and p < LEVEL
    evidence = found.evidence
    if distinct or random:
        evidence += f"; {_nats(lost)} better than the declared rule"
    elif found.family != Family.UNIFORM and other:
        evidence += "; cannot be distinguished from the declared rule"
    shown = found.family if distinct or random or not other else _rule_text(declared)
    findings = [Finding("rule", text, shown, evidence, OK if not (distinct or random) else MISMATCH)]
    findings += _temperature_and_lapse(claim, found, p, declared, distinct)
    return findings


def _nats(value: float) -> str:
    return "infinitely" if math.isinf(value) else f"{value:.0f} nats"


def _own_family(claim: Rule, found: Recovered) -> tuple[float | None, int]:
    """Return the maximal log-likelihood of the declared family, and its number of fitted parameters."""
    family = family_of(claim.noise)
    if not claim.lapse or family == Family.BEST:
        return found.logs.get(family), 1
    return (found.logs.get(Family.LAPSE), 2) if family == Family.LUCE else (None, 1)


def _temperature_and_lapse(
    claim: Rule, found: Recovered, p: float, declared: Declared, distinct: bool
) -> list[Finding]:
    findings = []
    wrong = False
    if claim.noise != NO_NOISE:
        wanted = declared.temperature
        if found.inverse is not None:
            beta, error = found.inverse
            ratio = claim.temperature * beta
            wrong = p < LEVEL and (not claim.lapse or found.family != Family.THURSTONE)
            if found.family == Family.LAPSE or claim.lapse:  # p also tests the lapse share
                wrong = wrong and abs(ratio - 1) > FAR * claim.temperature * error
            evidence = p_text(p) + (f"; rewards count {ratio:.3g} times as much as declared" if wrong else "")
            shown = temperature_text(found)
            findings.append(compared("temperature", wanted, shown, evidence, right=not wrong))
            if claim.lapse and found.family == Family.LUCE:
                verdict = judge(declared.lapse is not None, p >= LEVEL or wrong)
                findings.append(Finding("lapse share", f"{claim.lapse:g}", "none", p_text(p), verdict))
        elif found.family == Family.UNIFORM:
            findings.append(compared("temperature", wanted, "infinity", p_text(p), right=p >= LEVEL))
        elif found.family == Family.BEST and distinct:
            findings.append(compared("temperature", wanted, "zero", "no pick but the best", right=False))
    if found.lapse is not None:
        share, low, high = found.lapse
        bad = not low - 1e-9 <= claim.lapse <= high + 1e-9 and found.family == Family.LAPSE
        if claim.noise == NO_NOISE:
            bad = p < LEVEL or (claim.lapse == 0 and share > 0)
        elif found.family == Family.BEST:
            bad = False  # the finding on the rule covers it
        if claim.lapse and found.family == Family.LAPSE:
            bad = p < LEVEL and (bad or not wrong)
        findings.append(compared("lapse share", claim.lapse, _lapse_text(found), right=not bad))
    return findings


def _recovered_values(found: Recovered) -> list[Finding]:
    findings = []
    if found.inverse is not None:
        findings.append(Finding("temperature", "", temperature_text(found)))
    if found.lapse is not None:
        findings.append(Finding("lapse share", "", _lapse_text(found)))
    return findings


def _mixture_rule(choices: Choices, declared: Declared, found: Recovered, text: str) -> list[Finding]:
    assert found.weights is not None
    recovered = ", ".join(f"{w:.3f}" for w in found.weights)
    if not declared.says_rule:
        return [
            Finding("rule", text, found.family, found.evidence),
            Finding("weights", "", recovered),
            *_recovered_values(found),
        ]
    claim = declared.rule(int(choices.slates.sizes.max()))
    m = choices.features.shape[1]
    weights = np.array(declared.weights or [1 / m] * m)
    if weights.size != m:
        raise InputError(
            "there must be one weight for each reward", got=f"{weights.size} for {m}", remedy="list them all"
        )
    if not isinstance(claim, Rule) or claim.noise != GUMBEL or claim.lapse:
        evidence = "weights of several rewards can only be estimated for Luce choice"
        return [Finding("rule", text, found.family, evidence, UNTESTED)]
    if declared.temperature is None and found.temperature is not None:
        claim = replace(claim, temperature=found.temperature)
    log_declared = float(mixture_logs(choices, choices.features, weights, claim).sum())
    p = chi2_tail(2 * max(found.logs[Family.LUCE] - log_declared, 0.0), m)
    verdict = OK if found.family == Family.LUCE or p >= LEVEL else MISMATCH
    wanted = ", ".join(f"{w:g}" for w in declared.weights or ())
    evidence = f"{p_text(p)} (with the temperature)"
    return [
        Finding("rule", text, found.family, found.evidence, verdict),
        Finding("weights", wanted, recovered, evidence, judge(declared.weights is not None, p >= LEVEL)),
        *_recovered_values(found),
    ]


def _steadiness(choices: Choices, rounds: IntArray, declared: Declared) -> list[Finding]:
    p, where = temperature_drift_p(choices, rounds)
    if not where:
        return []
    text = "the same in all rounds" if declared.says_rule else ""
    steady = p >= LEVEL
    shown = "the same in all rounds" if steady else "changes between rounds"
    evidence = p_text(p) + ("" if steady else f"; {where}")
    return [Finding("temperature over rounds", text, shown, evidence, judge(declared.says_rule, steady))]


def _positions(choices: Choices, rounds: IntArray, declared: Declared) -> list[Finding]:
    """Test position effects over all rounds and within rounds, which equal noise in all slates causes."""
    columns, _ = position_columns(choices)
    text = "none" if declared.says_rule else ""
    if columns is None:
        return [Finding("position effects", text, "not tested", "places were not logged", UNTESTED)]
    try:
        pooled = conditional_logit(choices, clustered=False)
    except NoEstimate:
        return []
    statistic, df, step = score_test(choices, pooled.coefficients, columns, robust=True)
    p = chi2_tail(statistic, df) if df else 1.0
    p_rounds = _positions_by_round(choices, rounds, pooled.coefficients)
    reach = float(np.ptp(np.r_[0.0, step])) if step.size else 0.0
    wrong = p < LEVEL or p_rounds < LEVEL
    shown = "none" if not wrong else f"odds of up to {math.exp(min(reach, 50.0)):.2f} between places"
    evidence = f"{p_text(p)}; within rounds {p_text(p_rounds)}"
    if p >= LEVEL and p_rounds < LEVEL:
        shown = "a different one in each round"
        evidence += ": perhaps the same noise in all slates of a round"
    return [Finding("position effects", text, shown, evidence, judge(declared.says_rule, not wrong))]


def _positions_by_round(choices: Choices, rounds: IntArray, beta: FloatArray) -> float:
    ids = np.unique(rounds)
    total, freedom = 0.0, 0
    for t in ids[:: max(1, ids.size // 20)]:
        part = choices.take(np.flatnonzero(rounds == t))
        columns, _ = position_columns(part)
        if columns is None or len(part) < 100:
            continue
        statistic, df, _ = score_test(part, beta, columns, robust=True)
        total, freedom = total + statistic, freedom + df
    return chi2_tail(total, freedom) if freedom else 1.0
