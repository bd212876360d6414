"""Every plausible reading of a table: its form, and the role of each column.

Forms of files:

========  =============================================================================================
long      one row per candidate: a column of slates, and one of picks (yes/no, or the name of the picked
          alternative), of ranks (1 is best) or of ratings; or prompts with one row per sample
wide      one row per slate: columns ``TRAIN_TT, CAR_TT`` or ``response1, response2``, and the picks, which
          name an alternative or a candidate, mark it (``label_0, label_1``), rank, rate or count
pairs     one row per pair: ``chosen`` and ``rejected``, or ``winner`` and ``loser``
lists     one row per slate: lists of candidates, and a list of ranks, ratings, flags or rewards, or the
          position of the pick
rankings  one row per ranking: ``b > a > d``
========  =============================================================================================

Each form has a module that proposes its readings; :func:`readings` joins them in the order of their
likelihood, and :mod:`recurate.log.reading.understand` tries each one and chooses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from recurate.log.reading.lists import list_readings
from recurate.log.reading.long import long_readings
from recurate.log.reading.mapping import NOTHING, Given, Mapping, columns_of
from recurate.log.reading.pairs import pair_readings
from recurate.log.reading.rankings import ranking_readings
from recurate.log.reading.wide import wide_readings


def readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield every plausible reading of a table, the likelier first.

    Args:
        table: The table, or its first rows.
        given: What the user said.
    """
    forms = {
        "long": long_readings,
        "pairs": pair_readings,
        "wide": wide_readings,
        "rankings": ranking_readings,
        "lists": list_readings,
    }
    if given.form is not None:
        forms = {given.form: forms[given.form]}
    elif given.alternatives:
        forms = {"wide": wide_readings}
    elif "slate" in given.roles:
        forms = {"long": long_readings}
    unpicked = given.roles.get("pick") == "none"
    if unpicked:
        given = replace(given, roles={r: c for r, c in given.roles.items() if r != "pick"})
    for make in forms.values():
        for found in make(table, given):
            if _honours(found, given) and not (unpicked and found.how != NOTHING):
                yield replace(found, places_from=given.places_from)


def _honours(found: Mapping, given: Given) -> bool:
    """Return whether a reading uses what the user named."""
    used = columns_of(found)
    return all(
        c in used or c == "none" for r, c in given.roles.items() if r in ("slate", "pick", "rank", "rating")
    )
