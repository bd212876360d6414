"""Colours of verdicts on a terminal; none in pipes and files, nor where ``NO_COLOR`` is set."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

RED, GREEN, YELLOW = "31", "32", "33"  # of ANSI's select graphic rendition
VERDICTS = {
    "ok": GREEN, "agrees": GREEN, "holds": GREEN,
    "not verified": YELLOW, "undecided": YELLOW, "not at this scale": YELLOW, "warning:": YELLOW,
    "MISMATCH": RED, "mismatch": RED, "mismatches": RED, "refuted": RED, "violated": RED,
    "does not hold": RED, "error:": RED,
}  # fmt: skip
# In sentences, only what is wrong or in doubt: "ok" and "holds" are words of any sentence.
IN_SENTENCES = re.compile(
    r"(?<!\w)(?:"
    + "|".join(re.escape(word) for word, colour in VERDICTS.items() if colour != GREEN)
    + r")(?!\w)"
)


def has_colour(stream: TextIO) -> bool:
    """Return whether colours may be written to a stream: a terminal's, unless ``NO_COLOR`` is set."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("dumb", "unknown")
    return wanted and stream.isatty()


def painted(text: str, verdict: str, stream: TextIO | None = None) -> str:
    """Return a text in the colour of a verdict, or as it is: for other words, or without colours."""
    colour = VERDICTS.get(verdict)
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and has_colour(stream or sys.stdout) else text


def sentence(text: str, stream: TextIO | None = None) -> str:
    """Return a text whose words of mismatch and doubt are coloured."""
    return IN_SENTENCES.sub(lambda found: painted(found[0], found[0], stream), text)
