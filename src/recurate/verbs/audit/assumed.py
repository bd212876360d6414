"""Runs in which people picked: the rule that the forecast assumed against the one that they followed.

People follow no rule that anybody declared, so nothing here accuses them: a difference is stated, with what
it does to the forecast. What the program itself does is declared: slates of K, candidates in random places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.choices.checks.statistics import chi2_tail
from recurate.choices.followed import phrase
from recurate.choices.models.named_rules import MOST
from recurate.choices.models.recovery import Recovered, recover
from recurate.choices.observed import Observed
from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError, counted
from recurate.log.candidates import Rounds
from recurate.log.schema import MODEL, Log
from recurate.rules import Selection
from recurate.theory.forecast import predict
from recurate.theory.setting import Setting
from recurate.verbs.audit.declared import Declared
from recurate.verbs.audit.findings import LEVEL, MISMATCH, NOTE, UNTESTED, Finding, judge, p_text
from recurate.verbs.audit.judging import judge_rule

ROUNDS = (1, 5)
PER_PLACE = 5.0  # least expected number of slates per place
STAND_IN = "rule"  # the chooser of slates that the rule judged in people's place


def of_people(log: Log) -> Log:
    """Return the log without slates that simulated people or the rule judged, and without real data."""
    own = log.select(source=MODEL)
    if "simulated" in own.table.column_names:
        by_people = pc.invert(pc.fill_null(own.table.column("simulated"), False))
    elif "chooser" in own.table.column_names:  # of a run before there was that column
        by_people = pa.array([c != STAND_IN for c in own.column("chooser")])
    else:
        return own
    return Log(own.table.filter(by_people), own.rewards)


def shown(log: Log, observed: Observed, k: int) -> list[Finding]:
    """Return whether every slate has K candidates, but for those that look alike, in random places."""
    sizes = observed.slates.sizes
    outside = len(observed.rounds) - observed.slates.rows
    missing = int((k - sizes).sum())
    right = bool((sizes <= k).all()) and missing <= outside
    values, counts = np.unique(sizes, return_counts=True)
    found = ", ".join(f"{s} ({c} slates)" for s, c in zip(values, counts, strict=True))
    evidence = ""
    if missing:
        what = "{candidate was|candidates were} not shown, as {it looks|they look} like another one"
        evidence = counted(outside, what)
    return [Finding("candidates per slate", str(k), found, evidence, judge(True, right)), _places(log)]


def _places(log: Log) -> Finding:
    """Test whether the best candidate of a slate is in each place equally often, for every reward."""
    observed = Observed.of(of_people(log))
    answered = observed.picks_per_slate > 0
    ps = [_p_of_places(observed, reward, answered) for reward in observed.rewards.T]
    tested = [p for p in ps if p is not None]
    if not tested:
        return Finding("order of the candidates", "(random)", "not tested", "too few slates", NOTE)
    p = min(1.0, min(tested) * len(tested))
    right = p >= LEVEL
    text = "random" if right else "the best candidates have places of their own"
    return Finding("order of the candidates", "(random)", text, p_text(p), judge(True, right))


def _p_of_places(observed: Observed, reward: FloatArray, answered: BoolArray) -> float | None:
    """Return the p-value of Pearson's chi-squared over places, summed over sizes; None for few slates."""
    statistic, df = 0.0, 0
    for members, rows in observed.slates.by_size():
        own, slots = reward[rows], observed.slots[rows]
        single = (own == own.max(axis=1, keepdims=True)).sum(axis=1) == 1
        use = answered[members] & single & (slots >= 0).all(axis=1)
        k, count = own.shape[1], int(use.sum())
        if k < 2 or count < PER_PLACE * k:
            continue
        places = np.take_along_axis(slots, own.argmax(axis=1)[:, None], axis=1)[use, 0]
        seen = np.bincount(np.minimum(places, k - 1), minlength=k)
        statistic += float(np.square(seen - count / k).sum()) / (count / k)
        df += k - 1
    return chi2_tail(statistic, df) if df else None


def judge_assumed(log: Log, assumed: Declared) -> tuple[list[Finding], str]:
    """Return notes on the rule that the forecast assumed, and one sentence: did people follow it?

    Args:
        log: The log.
        assumed: The rule in the run's settings.
    """
    own = of_people(log)
    if not own.table.num_rows:
        return [], ""
    observed = Observed.of(own)
    found = recover(observed, most=MOST)
    findings = judge_rule(observed, assumed, found)
    wrong = [f for f in findings if f.verdict == MISMATCH]
    return [_noted(f) for f in findings], _sentence(log, assumed, found, wrong, findings)


def _noted(finding: Finding) -> Finding:
    """Return a finding on an assumed rule as a note: what differs accuses nobody."""
    parts = ["not as assumed" if finding.verdict == MISMATCH else "", finding.evidence]
    declared = finding.declared.strip("()")
    return replace(
        finding,
        declared=f"(assumed: {declared})" if declared else "",
        evidence="; ".join(part for part in parts if part).replace("as declared", "as assumed"),
        verdict=NOTE,
    )


def _sentence(
    log: Log, assumed: Declared, found: Recovered, wrong: Sequence[Finding], findings: Sequence[Finding]
) -> str:
    rule = assumed.rule(1 if assumed.k is None else assumed.k)
    words = phrase(rule)
    if any(f.verdict == UNTESTED for f in findings) and not wrong:
        return f"Whether people followed the rule that the forecast assumed ({words}) cannot be told."
    if not wrong:
        return f"The picks do not contradict the rule that the forecast assumed ({words})."
    said = f"People did not follow the rule that the forecast assumed ({words}): {_differences(wrong)}."
    if found.rule is None:
        return f"{said} No forecast has the rule that they followed."
    try:
        before = _expected(log, rule, assumed.weights, assumed)
        after = _expected(log, found.rule, found.weights, assumed)
    except InputError as error:
        return f"{said} What that does to the forecast was not computed: {error.what} ({error.got})."
    moved = " and ".join(
        f"{a:.4g} in place of {b:.4g} after {t} {'round' if t == 1 else 'rounds'}"
        for t, a, b in zip(ROUNDS, after, before, strict=True)
    )
    return f"{said} With {phrase(found.rule, found)}, the expected {log.rewards[0]} is {moved}."


def _differences(wrong: Sequence[Finding]) -> str:
    return "; ".join(f"{f.aspect} {f.recovered}" for f in wrong)


def _expected(
    log: Log, rule: Selection, weights: Sequence[float] | None, assumed: Declared
) -> tuple[float, ...]:
    """Return the expected first reward after ``ROUNDS``, forecast from the first round's candidates."""
    rounds = Rounds.of(log)
    shares = None if weights is None else tuple(w / sum(weights) for w in weights)
    setting = Setting(rule, shares, assumed.real_fraction or 0.0, rounds=max(ROUNDS))
    path = predict(rounds.first, setting, reference=rounds.real).trajectory
    values = path.values("mean_reward", reward=rounds.first.names[0])
    return tuple(float(values[t]) for t in ROUNDS)
