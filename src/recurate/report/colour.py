"""Verdicts: their tones in pages, and their colours on a terminal.

Colours are for terminals alone: not for pipes and files, nor where ``NO_COLOR`` is set.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

TONES = {
    "good": ("agrees", "ok", "holds", "as forecast", "verified", "yes", "feasible", "Luce not rejected"),
    "bad": ("MISMATCH", "refuted", "violated", "not as forecast", "no", "impossible", "Luce rejected"),
    "open": (
        "undecided", "not verified", "does not apply", "beyond support", "not measured",
        "one seed", "not at this scale", "not tested",
    ),
}  # fmt: skip
COLOURS = {"bad": "31", "good": "32", "open": "33"}  # of each tone: ANSI's red, green and yellow
# In sentences, only what is wrong or in doubt, by words with no other use: "ok" and "no" have many.
IN_SENTENCES = {
    "MISMATCH": "bad", "mismatch": "bad", "mismatches": "bad", "refuted": "bad", "violated": "bad",
    "does not hold": "bad", "not verified": "open", "undecided": "open", "not at this scale": "open",
}  # fmt: skip
_SAID = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, IN_SENTENCES)) + r")(?!\w)")


def tone(verdict: str) -> str:
    """Return the tone of a verdict's badge: ``good``, ``bad``, ``open``, or "" for what is no verdict.

    >>> tone("MISMATCH"), tone("agrees"), tone("undecided"), tone("7")
    ('bad', 'good', 'open', '')
    """
    return next((name for name, words in TONES.items() if verdict in words), "")


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal's that can move its cursor and change its colours."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def has_colour(stream: TextIO) -> bool:
    """Return whether colours may be written to a stream: a terminal's, unless ``NO_COLOR`` is set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def painted(text: str, tone: str, stream: TextIO | None = None) -> str:
    """Return a text in the colour of a tone, or as it is: for no tone, or without colours."""
    colour = COLOURS.get(tone)
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and has_colour(stream or sys.stdout) else text


def sentence(text: str, stream: TextIO | None = None) -> str:
    """Return a text whose words of mismatch and doubt are coloured."""
    return _SAID.sub(lambda found: painted(found[0], IN_SENTENCES[found[0]], stream), text)
