"""The findings of an audit and the level of its tests."""

from __future__ import annotations

from dataclasses import dataclass

LEVEL = 2e-4  # level of each test: all tests together accuse fewer than 1 honest log in 100

OK, MISMATCH, NOTE, UNTESTED = "ok", "MISMATCH", "note", "not verified"


@dataclass(frozen=True)
class Finding:
    """One finding of an audit.

    Attributes:
        aspect: Aspect of the loop.
        declared: Declared value, in parentheses if it is implied by others, or "" if none was declared.
        recovered: Value recovered from the log.
        evidence: Evidence, such as a p-value.
        verdict: ``ok``, ``MISMATCH``, ``note`` (nothing was declared) or ``not verified`` (declared, but the
            log does not tell).
    """

    aspect: str
    declared: str
    recovered: str
    evidence: str = ""
    verdict: str = NOTE


INDEPENDENT = "(independent)"  # in parentheses: implied by what is declared


def judge(claimed: bool, right: bool) -> str:
    """Return the verdict on an aspect that is right or not, or ``note`` if it was not declared."""
    return NOTE if not claimed else OK if right else MISMATCH


def compared(
    aspect: str, wanted: float | None, shown: str, evidence: str = "", *, right: bool = True
) -> Finding:
    """Return the finding on a number: the declared one, if any, and the recovered one."""
    text = "" if wanted is None else str(wanted) if isinstance(wanted, int) else f"{wanted:.6g}"
    return Finding(aspect, text, shown, evidence, judge(wanted is not None, right))


def p_text(p: float) -> str:
    """Return a p-value as text."""
    return "p < 1e-12" if p < 1e-12 else f"p = {p:.2g}"
