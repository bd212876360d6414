"""Findings on counts: slates, picks and retraining sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recurate.choices.observed import Observed
from recurate.core.arrays import IntArray
from recurate.core.errors import counted
from recurate.core.fingerprints import Change
from recurate.verbs.audit.declared import Declared
from recurate.verbs.audit.findings import MISMATCH, OK, UNTESTED, Finding, compared


def _shares(values: IntArray, most: int = 4) -> str:
    """Return the distinct values with their shares, the most frequent first."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    if found.size == 1:
        return str(found[0])
    shares = (
        f"{n / values.size:.1%}" if n * 1000 > values.size else f"{n} of {values.size}" for n in counts[order]
    )
    parts = [f"{found[i]} ({share})" for i, share in zip(order[:most], shares, strict=False)]
    return ", ".join(parts) + (f" and {found.size - most} more" if found.size > most else "")


def counts(observed: Observed, declared: Declared, left_out: int = 0) -> list[Finding]:
    """Compare the numbers and sizes of slates and the numbers of picks with the declaration.

    Args:
        observed: The log.
        declared: The declaration.
        left_out: Number of slates that were left out, which are missing from numbers per round.
    """
    findings = []
    pooled = declared.pooled
    if len(observed.slates):
        sizes = observed.slates.sizes
        findings.append(_number("slate size K", sizes, declared.k, f"{sizes.size} slates"))
        if declared.slates is not None:
            per_round = np.array([(observed.slate_rounds == t).sum() for t in observed.round_ids])
            found = _number("slates per round", per_round, declared.slates)
            findings.append(_but_for(left_out, found, declared.slates - per_round))
        wanted = declared.keep or (1 if declared.says_choice and not pooled else None)
        findings.append(_picks_per_slate(observed, wanted))
        findings.append(
            Finding("equal rewards within slates", "", f"{_tied_share(observed):.1%} of candidates")
        )
    findings.append(_picks_per_round(observed, declared, pooled, left_out))
    return findings


def _but_for(left_out: int, found: Finding, short: IntArray) -> Finding:
    """Return a finding, not verified if the slates that were left out may explain what is short."""
    if found.verdict != MISMATCH or not left_out or (short < 0).any() or short.sum() > left_out:
        return found
    evidence = counted(left_out, "{slate was|slates were} left out")
    return replace(found, evidence=evidence, verdict=UNTESTED)


def _picks_per_slate(observed: Observed, wanted: int | None) -> Finding:
    """Return the finding on the picks of each slate; slates without a pick do not verify their number."""
    keep = observed.picks_per_slate
    found = compared("picks per slate", wanted, _shares(keep), right=bool((keep[keep > 0] == wanted).all()))
    usual = keep
    if observed.round_ids.size > 1 and observed.picks_per_round[-1] == 0:
        usual = keep[observed.slate_rounds != observed.round_ids[-1]]  # it may have samples only
    empty = int((usual == 0).sum())
    if found.verdict != OK or not empty:
        return found
    why = "nothing was picked" if empty == usual.size else f"{empty} of {usual.size} slates have no pick"
    return replace(found, evidence=why, verdict=UNTESTED)


def _number(aspect: str, values: IntArray, wanted: int | None, evidence: str = "") -> Finding:
    """Return the finding on values that should all equal ``wanted``."""
    return compared(aspect, wanted, _shares(values), evidence, right=bool((values == wanted).all()))


def _tied_share(observed: Observed) -> float:
    """Return the share of candidates in slates with the same rewards as another one of their slate."""
    index, rewards = observed.slates.index(), observed.rewards[: observed.slated]
    order = np.lexsort((*rewards.T, index))
    same = (np.diff(index[order]) == 0) & (rewards[order[1:]] == rewards[order[:-1]]).all(axis=1)
    return float((np.r_[False, same] | np.r_[same, False]).mean())


def _picks_per_round(observed: Observed, declared: Declared, pooled: bool, left_out: int) -> Finding:
    counts = observed.picks_per_round
    if counts.size > 1 and counts[-1] == 0:
        counts = counts[:-1]  # the last round may have samples only
    wanted = declared.picks
    right = wanted is None or bool((counts == wanted).all())
    if declared.slates is not None and not pooled and not (wanted is not None and right):
        wanted = declared.slates * (declared.keep or 1)  # not all logged picks enter the training set
        right = bool((counts == wanted).all())
    evidence = ""
    if not right and wanted:
        evidence = f"{counts.mean() / wanted:.1%} of the declared number"
    found = compared("picks per round", wanted, _shares(counts), evidence, right=right)
    return found if wanted is None else _but_for(left_out * (declared.keep or 1), found, wanted - counts)


def training_counts(path: Path, declared: Declared | None) -> list[Finding]:
    """Compare the real fraction of a run's training sets with the declaration."""
    try:
        sets = [(int(f["trained_on_real"]), int(f["trained_on_picks"])) for f in _recorded(path)[1:]]
    except (ValueError, KeyError, TypeError):
        return []
    if not sets:
        return []
    wanted = None if declared is None else declared.real_fraction
    # Numbers of samples are whole, so that shares of few picks are not exact.
    right = wanted is None or all(abs(r - wanted * (r + p)) <= max(1.0, 0.01 * (r + p)) for r, p in sets)
    shares = [r / max(r + p, 1) for r, p in sets]
    evidence = f"{len(sets)} retraining sets"
    return [compared("real data in training", wanted, f"{np.mean(shares):.3g}", evidence, right=right)]


def changed_parts(path: Path) -> list[Finding]:
    """Return the accepted changes of a run's dependencies: files, packages and the device."""
    try:
        found = [Change(**change) for facts in _recorded(path) for change in facts["changes"]]
    except (ValueError, KeyError, TypeError):
        return []
    aspect, wanted = "dependencies of the run", "unchanged"
    return [Finding(aspect, wanted, str(c), f"from round {c.round} on; accepted at {c.when}") for c in found]


def _recorded(path: Path) -> list[dict[str, Any]]:
    """Return the facts of every round of a run."""
    files = sorted(path.glob("rounds/[0-9]*/contents.json"))
    return [json.loads(file.read_text(encoding="utf-8"))["facts"] for file in files]
