"""An audit compares what a loop declares with its log, and decomposes each round's change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recurate.choices.followed import phrase, said, with_slates
from recurate.choices.models.named_rules import MOST
from recurate.choices.models.recovery import Recovered, recover
from recurate.choices.observed import Observed
from recurate.core.errors import InputError, counted
from recurate.log.candidates import from_log
from recurate.log.folders import StoredRun, is_fit
from recurate.log.inputs import folder_of
from recurate.log.large import open_sample
from recurate.log.reading.logs import Opened
from recurate.log.reading.rewards import NoRewards
from recurate.log.reading.understand import accounted
from recurate.log.schema import MODEL, REAL, Log, as_log
from recurate.rules import Selection
from recurate.rules.families import Family
from recurate.theory.attribution import Change, attribute
from recurate.theory.setting import Setting
from recurate.verbs.audit.assumed import judge_assumed, shown
from recurate.verbs.audit.candidates import judge_candidates
from recurate.verbs.audit.counting import changed_parts, counts, training_counts
from recurate.verbs.audit.declared import ASPECTS, Declared, parse_assumed, untold
from recurate.verbs.audit.findings import MISMATCH, NOTE, OK, UNTESTED, Finding
from recurate.verbs.audit.judging import ANOTHER, judge_rule
from recurate.verbs.audit.reuse import judge_propensities, judge_reuse
from recurate.verbs.audit.transmission import judge_transmission
from recurate.verbs.fit.files import scored_table
from recurate.verbs.fit.fit import FitOptions, Progress, fit_log

FITTED = (
    "the log has no rewards: they were fitted to the same picks, so that the temperature is 1 by construction"
)
SAMPLED = "the log is read in parts, and the audit judges its first slates of every round"


@dataclass(frozen=True)
class Audit:
    """The findings of an audit.

    Attributes:
        findings: Findings, in the order of the report.
        recovered: Rule recovered from the picks.
        changes: Decomposed change of each round.
        facts: Counts.
        warnings: Warnings.
        opened: How the log was read.
        statement: The recovered rule in words.
        claimed: Whether anything was declared.
        assumption: One sentence on the rule that a run's forecast assumed, where people picked.
        verifier: The declared verifier with errors, if the log agrees with it; else None.
    """

    findings: tuple[Finding, ...]
    recovered: Recovered
    changes: tuple[Change, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    statement: str = ""
    opened: Opened | None = None
    claimed: bool = False
    assumption: str = ""
    verifier: Selection | None = None

    @property
    def mismatches(self) -> list[Finding]:
        """Findings in which the log contradicts the declaration."""
        return [f for f in self.findings if f.verdict == MISMATCH]

    @property
    def unverified(self) -> list[Finding]:
        """Findings on declared facts that the log neither confirms nor contradicts."""
        return [f for f in self.findings if f.verdict == UNTESTED]


def audit_log(
    source: Any,
    declared: Declared | None = None,
    options: FitOptions | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Audit a log; see :func:`recurate.audit`.

    Args:
        source: Log or table of choices in any form that ``fit`` reads, as accepted by
            :func:`recurate.log.inputs.table_of`.
        declared: Declaration of the loop, or None.
        options: Options of reading. Rewards are fitted to the picks if none is named and the log has none.
        progress: Function called with a line of text at the start of each part.

    Raises:
        InputError: If the log cannot be read or used.
    """
    say = progress or (lambda _: None)
    say("reading")
    opened, warnings = _read(source, options or FitOptions(), say)
    asked, reasons = declared or Declared(), {}
    if FITTED in warnings:
        reasons["temperature"] = FITTED
    if opened.sampled:
        reasons |= {"picks": SAMPLED, "slates": SAMPLED}
    reasons = {name: why for name, why in reasons.items() if getattr(asked, name) is not None}
    declared = replace(asked, **dict.fromkeys(reasons))
    folder = folder_of(source)
    settings = {} if folder is None or is_fit(folder) else StoredRun.open(folder).settings()
    with accounted(opened.understood):
        found = audit(
            opened.log, declared, say, placed=opened.placed, left_out=opened.left_out,
            alone=settings.get("model") is None,
        )  # fmt: skip
    found = replace(found, opened=opened)
    assumed = parse_assumed(settings)
    if assumed is not None:
        with accounted(opened.understood):
            found = _with_assumed(found, opened.log, assumed)
    extra = [] if folder is None else training_counts(folder, declared) + changed_parts(folder)
    statement = found.statement + ("; the rewards were fitted to these picks" if FITTED in warnings else "")
    findings = found.findings + tuple(extra)
    for name, why in reasons.items():
        aspect = ASPECTS[name][0]
        findings = tuple(f for f in findings if f.aspect != aspect)
        findings += (Finding(aspect, f"{getattr(asked, name):g}", "not verified", why, UNTESTED),)
    return replace(
        found, findings=findings + tuple(untold(declared, findings)),
        warnings=tuple(warnings) + found.warnings, statement=statement,
    )  # fmt: skip


ONE_OF_SEVERAL = (
    "changes were not decomposed: this is one of several models that train on each other's picks; recurate "
    "forecast, with the folder of all, compares them with their law"
)


def _with_assumed(found: Audit, log: Log, assumed: Declared) -> Audit:
    """Return an audit of a run in which people picked with what was shown to them and what was assumed."""
    log = with_slates(log)
    notes, sentence = judge_assumed(log, assumed)
    of_slates = shown(log, Observed.of(log), assumed.k or 1)
    replaced = {f.aspect for f in notes} | {"slate size K"}
    others = [f for f in found.findings if f.verdict != NOTE or f.aspect not in replaced]
    return replace(found, findings=(*of_slates, *notes, *others), assumption=sentence)


def _read(source: Any, options: FitOptions, say: Progress) -> tuple[Opened, list[str]]:
    """Return the log, whose rewards are fitted to the picks if it has none, and warnings."""
    folder = folder_of(source)
    fitted = folder is not None and is_fit(folder)
    try:
        opened = open_sample(source, replace(options.given, readable=True))
    except NoRewards:
        pass
    else:
        unused = ["--feature is not used: the log has rewards"] if options.wanted.features else []
        return opened, [*opened.warnings, *unused, *([FITTED] if fitted else [])]
    say("fitting rewards to the picks, as none were logged")
    found = fit_log(source, replace(options, classes=0))
    left_out = "{slate was|slates were} left out: "
    warnings = [counted(e.slates, left_out) + e.reason for e in found.reading.exclusions]
    log = as_log(scored_table(found), several=True)
    placed = found.reading.strict.positions is not None
    return Opened(log, found.reading.understood, placed=placed), [*warnings, FITTED]


def audit(
    log: Log,
    declared: Declared,
    say: Progress,
    *,
    placed: bool = True,
    left_out: int = 0,
    alone: bool = True,
) -> Audit:
    """Audit a log.

    Args:
        log: The log.
        declared: The declaration.
        say: Function called with a line of text at the start of each part.
        placed: Whether slots are the positions in which candidates were shown.
        left_out: Number of slates that could not be read.
        alone: Whether the model is trained on no other model's picks; else changes are not decomposed.
    """
    log = with_slates(log)
    observed = Observed.of(log)
    if not placed:
        observed = replace(observed, slots=np.full(observed.slots.size, -1))
    say("recovering the rule")
    found = recover(observed, most=MOST)
    findings = counts(observed, declared, left_out)
    findings += judge_rule(observed, declared, found)
    say("testing reuse across rounds")
    claimed = declared.says_anything
    findings += judge_reuse(observed, found, claimed)
    findings += judge_candidates(log, observed, declared, left_out)
    verifier = _confirmed(declared, findings)
    changes: list[Change] = []
    warnings = [ONE_OF_SEVERAL]
    if alone:
        say("decomposing the changes")
        changes, warnings = _changes(log, observed, declared, found, verifier)
    other = _other_draw(declared, found, findings, changes)
    findings += other or judge_transmission(log, changes, mixed=declared.real_fraction != 0, claimed=claimed)
    findings += judge_propensities(observed)
    facts = {
        "candidates": len(observed.rounds),
        "rounds": observed.round_ids.size,
        "slates": len(observed.slates),
        "picks": int(observed.picked.sum()),
        "rewards": ", ".join(observed.names),
    }
    statement = said(found, observed.names) + _fits_better(findings)
    if verifier is not None:
        statement = f"picks follow {phrase(verifier)}, as declared"
    return Audit(
        tuple(findings), found, tuple(changes), facts, tuple(warnings), statement, claimed=claimed,
        verifier=verifier,
    )  # fmt: skip


def _confirmed(declared: Declared, findings: Sequence[Finding]) -> Selection | None:
    """Return the declared verifier with errors if the log agrees with it: no family of rules recovers one."""
    if declared.threshold is None or not (declared.erring or declared.lapse):
        return None
    agrees = any(f.aspect == "rule" and f.verdict == OK for f in findings)
    return declared.rule(1) if agrees else None


def _fits_better(findings: Sequence[Finding]) -> str:
    """Return what the first line adds about a rule that forecasts do not know, or nothing."""
    rule = next((f for f in findings if f.aspect == "rule"), None)
    if rule is None or rule.verdict not in (MISMATCH, NOTE):
        return ""
    if rule.recovered == ANOTHER:
        return "; this does not fit, and no rule that has a name here does"
    known = (*map(str, Family), "best ", "cannot be told", "not identified")
    if rule.recovered in ("", rule.declared) or rule.recovered.startswith(known):
        return ""
    return f"; it is described better by {rule.recovered}"


# --- changes --------------------------------------------------------------------------------------


def _changes(
    log: Log, observed: Observed, declared: Declared, found: Recovered, verifier: Selection | None
) -> tuple[list[Change], list[str]]:
    ids = observed.round_ids
    if ids.size < 2 or (found.family == Family.UNKNOWN and verifier is None):
        return [], []
    if len(observed.names) > 1 and found.keep != 1:
        return [], ["changes were not decomposed: there is no forecast for several rewards and several picks"]
    rule = verifier or found.rule
    if rule is None:
        return [], [f"changes were not decomposed: forecasts do not support {str(found.family)!r}"]
    own = log.select(source=MODEL)
    everything = from_log(own)
    rows = [np.flatnonzero(own.column("round") == t) for t in ids]
    rounds = [everything.take(some) for some in rows]
    picks = np.asarray(own.column("picked"), bool)
    slated = np.asarray(own.table.column("slate").fill_null(-1).to_numpy(), np.int64)
    real = log.select(source=REAL)
    reference = from_log(real) if real.table.num_rows else None
    weights = found.weights or (1.0,) * len(observed.names)
    total = sum(weights)
    setting = Setting(rule, tuple(w / total for w in weights), declared.real_fraction or 0.0, 1)
    try:
        picked, slates = [picks[some] for some in rows], [slated[some] for some in rows]
        return attribute(rounds, picked, ids.tolist(), setting, reference, slates), []
    except InputError as error:
        return [], [f"changes were not decomposed: {error.what} ({error.got})"]


def _other_draw(
    declared: Declared, found: Recovered, findings: Sequence[Finding], changes: Sequence[Change]
) -> list[Finding]:
    """Return the finding that explains picks which do not depend on the logged rewards, if any."""
    if (
        not declared.says_rule
        or found.family != Family.UNIFORM
        or not any(f.aspect in ("rule", "temperature") and f.verdict == MISMATCH for f in findings)
    ):
        return []
    rises = [c.transmission / c.transmission_error for c in changes if c.transmission_error > 0]
    evidence = "uniform picks, or rewards logged from another draw than the one picked from"
    shown = "picks do not depend on the logged rewards"
    if rises and np.mean(rises) * math.sqrt(len(rises)) > 5:
        mean = float(np.mean([c.change for c in changes]))
        shown = "rewards were logged from another draw than the one picked from"
        evidence = (
            f"the mean reward rises by {mean:.3g} per round although the logged rewards of picks are no "
            "higher than those of their rivals: the picks depend on other values"
        )
    return [Finding("rewards of the picks", "those picked by", shown, evidence, MISMATCH)]
