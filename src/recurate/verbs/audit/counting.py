"""Counts: slates, picks and retraining sets, declared and found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from recurate.choices.observed import Observed
from recurate.core.arrays import IntArray
from recurate.core.fingerprints import Change
from recurate.verbs.audit.declared import Declared
from recurate.verbs.audit.findings import Finding, judge


def _shares(values: IntArray, most: int = 4) -> str:
    """Return the distinct values with their shares, the most frequent first."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    if found.size == 1:
        return str(found[0])
    parts = [f"{found[i]} ({counts[i] / values.size:.1%})" for i in order[:most]]
    return ", ".join(parts) + (f" and {found.size - most} more" if found.size > most else "")


def counts(observed: Observed, declared: Declared) -> list[Finding]:
    """Compare sizes and numbers of slates and picks with what was declared."""
    findings = []
    pooled = declared.top is not None or declared.threshold is not None
    if len(observed.slates):
        sizes = observed.slates.sizes
        right = declared.k is None or bool((sizes == declared.k).all())
        text = "" if declared.k is None else str(declared.k)
        verdict = judge(declared.k is not None, right)
        findings.append(Finding("slate size K", text, _shares(sizes), f"{sizes.size} slates", verdict))
        per_round = _per_round(observed.slate_rounds, observed.round_ids)
        if declared.slates is not None:
            right = bool((per_round == declared.slates).all())
            findings.append(
                Finding("slates a round", str(declared.slates), _shares(per_round), "", judge(True, right))
            )
        keep = observed.picks_per_slate
        wanted = declared.keep or (1 if declared.says_rule and not pooled else None)
        shown = keep[keep > 0]
        right = wanted is None or bool((shown == wanted).all())
        text, verdict = "" if wanted is None else str(wanted), judge(wanted is not None, right)
        findings.append(Finding("picks a slate", text, _shares(keep), "", verdict))
        findings.append(
            Finding("equal rewards within slates", "", f"{_tied_share(observed):.1%} of candidates")
        )
    findings.append(_picks_a_round(observed, declared, pooled))
    return findings


def _tied_share(observed: Observed) -> float:
    """Return the share of slated candidates with the same rewards as another one of their slate."""
    rows = np.column_stack([observed.slates.index(), observed.rewards[: observed.slated]])
    _, index, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return float((counts[index.ravel()] > 1).mean())


def _per_round(rounds: IntArray, ids: IntArray) -> IntArray:
    return np.array([(rounds == t).sum() for t in ids])


def _picks_a_round(observed: Observed, declared: Declared, pooled: bool) -> Finding:
    counts = observed.picks_per_round
    if counts.size > 1 and counts[-1] == 0:
        counts = counts[:-1]  # the last round may only have been sampled
    wanted = declared.picks
    right = wanted is None or bool((counts == wanted).all())
    if declared.slates is not None and not pooled and not (wanted is not None and right):
        wanted = declared.slates * (declared.keep or 1)  # a run logs picks that do not enter the training set
        right = bool((counts == wanted).all())
    evidence = ""
    if not right and wanted:
        evidence = f"{counts.mean() / wanted:.1%} of what was declared"
    return Finding(
        "picks a round", "" if wanted is None else str(wanted), _shares(counts), evidence,
        judge(wanted is not None, right),
    )  # fmt: skip


def training_counts(path: Path, declared: Declared | None) -> list[Finding]:
    """Compare what a run's rounds were trained on with what was declared."""
    try:
        sets = [(int(f["trained_on_real"]), int(f["trained_on_picks"])) for f in _recorded(path)[1:]]
    except (ValueError, KeyError, TypeError):
        return []
    if not sets:
        return []
    wanted = None if declared is None else declared.real_fraction
    # Whole numbers of samples: a share of few picks is not met exactly.
    right = wanted is None or all(abs(r - wanted * (r + p)) <= max(1.0, 0.01 * (r + p)) for r, p in sets)
    shares = [r / max(r + p, 1) for r, p in sets]
    return [
        Finding(
            "real data in training", "" if wanted is None else f"{wanted:.3g}", f"{np.mean(shares):.3g}",
            f"{len(sets)} retraining sets", judge(wanted is not None, right),
        )
    ]  # fmt: skip


def changed_parts(path: Path) -> list[Finding]:
    """Return what changed under a run, and was accepted: files that it rests on, packages, the device."""
    try:
        found = [Change(**change) for facts in _recorded(path) for change in facts["changes"]]
    except (ValueError, KeyError, TypeError):
        return []
    aspect, wanted = "what the run rests on", "as it began"
    return [Finding(aspect, wanted, str(c), f"from round {c.round} on, accepted at {c.when}") for c in found]


def _recorded(path: Path) -> list[dict[str, Any]]:
    """Return the facts of every round of a run."""
    files = sorted(path.glob("rounds/[0-9]*/contents.json"))
    return [json.loads(file.read_text(encoding="utf-8"))["facts"] for file in files]
