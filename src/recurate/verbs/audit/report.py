"""The sections of an audit: findings and each round's change."""

from __future__ import annotations

import pyarrow as pa

from recurate.choices.followed import PICKS, recovered_facts, rule_facts
from recurate.core.errors import counted
from recurate.core.plain import plain
from recurate.report import charts
from recurate.report.lead import sentences
from recurate.report.sections import Section
from recurate.verbs.audit.audit import Audit
from recurate.verbs.audit.findings import MISMATCH, OK, UNTESTED
from recurate.verbs.result import Facts, Result

AGREES = "agrees"
NAMED = 3  # mismatches that the lead names
MISMATCH_EXIT, UNVERIFIED_EXIT = 1, 4


def audit_result(found: Audit, source: str) -> Result[Audit]:
    """Return an audit as a result."""
    lead, rest = lead_of(found)
    return Result(
        found,
        verb="audit",
        title=f"Audit of {source}",
        summary=lead,
        details=rest,
        outcome=verdict_of(found),
        warnings=found.warnings,
        source=source,
        make_facts=lambda: facts_of(found),
        make_sections=lambda: audit_sections(found),
        make_tables=lambda: {
            "findings": pa.Table.from_pylist(plain(found.findings)),
            "changes": pa.Table.from_pylist(plain(found.changes)),
        },
        read=None if found.opened is None else found.opened.understood,
        read_notes=() if found.opened is None else found.opened.notes,
        lead=f"rule: {found.statement}",
    )


def facts_of(found: Audit) -> Facts:
    """Return all numbers of an audit."""
    return {
        "rule": _rule_facts(found),
        "mismatch": bool(found.mismatches),
        "unverified": [f.aspect for f in found.unverified],
        "exit_code": exit_code(found),
        "assumption": found.assumption or None,
        "facts": found.facts,
        "findings": found.findings,
        "changes": found.changes,
    }


def exit_code(found: Audit, *, allow_unverified: bool = False) -> int:
    """Return 1 on a mismatch, 4 if something declared could not be verified, else 0."""
    if found.mismatches:
        return MISMATCH_EXIT
    return UNVERIFIED_EXIT if found.unverified and not allow_unverified else 0


def _rule_facts(found: Audit) -> Facts:
    if found.verifier is not None:
        return {"statement": found.statement, "source": "declaration", **rule_facts(found.verifier)}
    rule = found.recovered.rule
    parts = {} if rule is None else rule_facts(rule)
    source = PICKS if found.recovered.picks or rule is not None else None
    return {"statement": found.statement, "source": source, **parts, **recovered_facts(found.recovered)}


def verdict_of(found: Audit) -> str:
    """Return ``MISMATCH``, ``not verified``, ``agrees``, or "" where nothing was declared."""
    if found.mismatches:
        return MISMATCH
    if found.unverified:
        return UNTESTED
    return AGREES if found.claimed and any(f.verdict == OK for f in found.findings) else ""


def lead_of(found: Audit) -> tuple[str, tuple[str, ...]]:
    """Return the audit in at most three sentences (what was found, why, what to do), and the others."""
    assumed = sentences(found.assumption)
    second = assumed[:1] or ([] if not found.changes else [_made_of(found)])
    todo = {
        MISMATCH: "What to do: correct the declaration or the loop, then audit again.",
        UNTESTED: "What to do: log what is missing, or give --allow-unverified.",
        "": "What to do: declare what the loop should do, and this checks it.",
    }.get(verdict_of(found), "")
    said = sentences(summary_of(found))
    lead = [said[0], *second, todo]
    return " ".join(part for part in lead if part), (*said[1:], *assumed[1:])


def _made_of(found: Audit) -> str:
    """Return how far the first reward's mean changed in all, and by which parts."""
    first = found.changes[0].reward
    own = [c for c in found.changes if c.reward == first]
    parts = ", ".join(
        f"{name} {sum(getattr(c, name) for c in own):+.3g}"
        for name in ("selection", "sampling", "transmission")
    )
    unusual = next((c.after for c in own if abs(c.sampling) > 2 * c.band), None)
    since = "" if unusual is None else f"; sampling first exceeds twice its band in round {unusual}"
    whole = sum(c.change for c in own)
    return (
        f"The mean {first} changed by {whole:+.3g} in {counted(len(own), '{round|rounds}')}: {parts}{since}."
    )


def summary_of(found: Audit) -> str:
    """Return what was found in one sentence."""
    if found.mismatches:
        shown = found.mismatches[:NAMED]
        parts = "; ".join(f"{f.aspect}: {_versus(f.declared, f.recovered)}" for f in shown)
        more = len(found.mismatches) - len(shown)
        parts += f"; and {more} more" if more else ""
        return f"{counted(len(found.mismatches), '{mismatch|mismatches}')}. {parts}."
    if found.unverified:
        parts = "; ".join(f"{f.aspect} ({f.evidence})" for f in found.unverified)
        return f"The log does not contradict the declaration, but this could not be verified: {parts}."
    if found.claimed and any(f.verdict == OK for f in found.findings):
        return "The log agrees with the declaration; all declared facts were verified."
    return "Nothing was declared; the table lists the values recovered from the log."


def _versus(declared: str, recovered: str) -> str:
    if declared.startswith("("):
        return f"{recovered}, where the declaration implies {declared[1:-1]}"
    return f"declared {declared}, found {recovered}" if declared else recovered


IMPLIED = "What stands in parentheses was not declared; it is implied by what was."


def audit_sections(found: Audit) -> list[Section]:
    """Return all sections of an audit."""
    table = [["verdict", "aspect", "declared", "recovered", "evidence"]]
    table += [[f.verdict, f.aspect, f.declared, f.recovered, f.evidence] for f in found.findings]
    implied = any(f.declared.startswith("(") for f in found.findings)
    sections = [
        Section("Data", table=[["", ""], *([k, str(v)] for k, v in found.facts.items())]),
        Section("Declared and recovered", IMPLIED if implied else "", table, marked=MISMATCH),
    ]
    if found.changes:
        sections.append(_changes(found))
    return sections


def _changes(found: Audit) -> Section:
    several = len({c.reward for c in found.changes}) > 1
    names = ["mean before", "change", "selection", "sampling (95 %)", "transmission (se)"]
    table = [["rounds", *(["reward"] if several else []), *names]]
    bars = []
    for c in found.changes:
        mark = " *" if abs(c.sampling) > 2 * c.band else ""
        table.append(
            [
                f"{c.before} to {c.after}", *([c.reward] if several else []), f"{c.start:.4g}",
                f"{c.change:+.4f}",
                f"{c.selection:+.4f}", f"{c.sampling:+.4f} (± {c.band:.4f}){mark}",
                f"{c.transmission:+.4f} ({c.transmission_error:.4f})",
            ]
        )  # fmt: skip
        bars += [
            {"round": c.after, "part": part, "value": getattr(c, part), "reward": c.reward}
            for part in ("selection", "sampling", "transmission")
        ]
    text = (
        "Change of the mean reward = selection (the exact effect of the recovered rule) + sampling (finitely "
        "many picks; * beyond twice its band) + transmission (the effect of retraining)."
    )
    first = found.changes[0].reward
    return Section(
        "Each round's change", text, table,
        chart=charts.parts_chart([b for b in bars if b["reward"] == first]),
    )  # fmt: skip
