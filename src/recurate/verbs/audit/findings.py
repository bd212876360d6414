"""One line of an audit, and when it accuses."""

from __future__ import annotations

from dataclasses import dataclass

LEVEL = 2e-4  # of every single test: all together accuse fewer than 1 honest log in 100

OK, MISMATCH, NOTE, UNTESTED = "ok", "MISMATCH", "note", "not tested"


@dataclass(frozen=True)
class Finding:
    """One line of the audit.

    Attributes:
        aspect: what is looked at.
        declared: what was claimed, or "".
        recovered: what the log shows.
        evidence: why.
        verdict: ``ok``, ``MISMATCH``, ``note`` (nothing was claimed) or ``not tested``.
    """

    aspect: str
    declared: str
    recovered: str
    evidence: str = ""
    verdict: str = NOTE


def judge(claimed: bool, right: bool) -> str:
    """Return the verdict on something that is right or not, if it was claimed at all."""
    return NOTE if not claimed else OK if right else MISMATCH


def compared(
    aspect: str, wanted: float | None, shown: str, evidence: str = "", *, right: bool = True
) -> Finding:
    """Return the finding on a number that may have been declared, beside what the log shows."""
    text = "" if wanted is None else str(wanted) if isinstance(wanted, int) else f"{wanted:.6g}"
    return Finding(aspect, text, shown, evidence, judge(wanted is not None, right))


def p_text(p: float) -> str:
    """Return a p-value in words."""
    return "p < 1e-12" if p < 1e-12 else f"p = {p:.2g}"
