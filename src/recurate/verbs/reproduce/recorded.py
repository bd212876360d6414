"""The newest recorded results of every experiment: packaged, and written by benchmarks/reproductions.py."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Any

from recurate.report.sections import Section
from recurate.verbs.reproduce.catalogue import CATALOGUE
from recurate.verbs.reproduce.claims import AGREES

FILE = "recorded.json"
HEADING = ["name", "paper", "claim", "scale", "verdict", "recorded"]


@cache
def recorded() -> dict[str, Any]:
    """Return the recorded results by experiment: ``date``, ``code``, ``scale``, ``seeds`` and ``claims``."""
    text = files("recurate.verbs.reproduce").joinpath(FILE).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def verdict(found: dict[str, Any]) -> str:
    """Return how many claims of a record agree, and what became of the others.

    One seed gives no interval: then it is how many means lie beyond their bounds.
    """
    claims = found["claims"]
    if len(found["seeds"]) == 1:
        beyond = sum(
            c["mean"] > c["bound"] if c["relation"] == ">" else c["mean"] < c["bound"] for c in claims
        )
        return f"{beyond} of {len(claims)} beyond their bounds; one seed"
    counts = Counter(claim["verdict"] for claim in claims)
    others = [f"{count} {word}" for word, count in sorted(counts.items()) if word != AGREES]
    return ", ".join([f"{counts[AGREES]} of {len(claims)} agree", *others])


def listing() -> list[list[str]]:
    """Return one row of HEADING per experiment; without a recorded result the last three say so."""
    rows = []
    for name, entry in CATALOGUE.items():
        found = recorded().get(name)
        last = [found["scale"], verdict(found), found["date"]] if found else ["-", "none yet", "-"]
        rows.append([name, entry.paper, entry.claim, *last])
    return rows


def list_section() -> Section:
    """Return the list of experiments, for a terminal."""
    return Section("Published experiments", table=[HEADING, *listing()])
