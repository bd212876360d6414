"""What pages show of commands, and whether the commands print it."""

from __future__ import annotations

import re

from helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "site" / "tutorial.md").read_text(encoding="utf-8")
SHOWN = [block.splitlines() for block in re.findall(r"```console\n(.*?)```", README, flags=re.S)]
CODES = {"audit": 1}  # of the README's commands: a mismatch


def words_of(line: str) -> str:
    return " ".join(line.split())


def missing(shown: list[str], printed: str) -> list[str]:
    """Return the shown lines that were not printed in this order; '...' stands for any lines, or none."""
    lines = [words_of(line) for line in printed.splitlines()]
    lost, place, free = [], 0, True
    for line in map(words_of, shown):
        if line == "...":
            free = True
            continue
        reach = lines[place:] if free else lines[place : place + 1]
        if line in reach:
            place, free = place + reach.index(line) + 1, False
        else:
            lost.append(line)
    return lost
