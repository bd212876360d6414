"""Rankings as texts, lists and columns per rank; what may be two things is asked about."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recurate.core.errors import InputError
from recurate.log.opening import open_slates
from recurate.log.reading.mapping import Given

ITEMS = np.array(["ash", "elm", "fir", "oak", "yew"])
WORTH = np.array([1.2, 0.4, -0.4, -1.2, 0.0])


def orders(shown: int, kept: int, rows: int = 200) -> list[list[str]]:
    """Return rankings of some items by Luce's rule: the best ``kept`` of ``shown`` each."""
    rng = np.random.default_rng([31, shown, kept])
    found = []
    for _ in range(rows):
        items = rng.permutation(5)[:shown]
        found.append(ITEMS[items[np.argsort(-(WORTH[items] + rng.gumbel(size=shown)))][:kept]].tolist())
    return found


FULL, PART, TOP = orders(5, 5), orders(3, 3), orders(5, 3)


def ranked(columns, **given):
    """Return the items of each slate, the best first."""
    found = open_slates(pa.table(columns), Given(**given))
    names, result = found.columns["item"], found.columns["result"]
    return [
        names[a:b][np.argsort(result[a:b], kind="stable")].tolist()
        for a, b in zip(found.slates.offsets[:-1], found.slates.offsets[1:], strict=True)
    ]


FORMS = {
    "signs": lambda rows: {"ranking": [" > ".join(r) for r in rows]},
    "commas": lambda rows: {"ranking": [", ".join(r) for r in rows]},
    "semicolons": lambda rows: {"preference_order": [";".join(r) for r in rows]},
    "list": lambda rows: {"prompt": [f"q{i}" for i in range(len(rows))], "ranking": rows},
    "columns": lambda rows: {f"rank{j + 1}": [r[j] for r in rows] for j in range(len(rows[0]))},
    "words": lambda rows: {n: [r[j] for r in rows] for j, n in enumerate(("first", "second", "third"))},
    "ordinals": lambda rows: {
        f"{n} choice": [r[j] for r in rows] for j, n in enumerate(("1st", "2nd", "3rd"))
    },
    "ballot": lambda rows: {f"Choice {j + 1}": [r[j] for r in rows] for j in range(len(rows[0]))},
}


@pytest.mark.parametrize("form", FORMS)
def test_rankings_in_many_forms(form):
    assert ranked(FORMS[form](PART)) == PART


@pytest.mark.parametrize("form", ["signs", "commas", "list", "columns"])
def test_complete_rankings(form):
    assert ranked(FORMS[form](FULL)) == FULL


@pytest.mark.parametrize("form", FORMS)
def test_the_best_of_all_and_all_of_a_few_are_told_apart_or_asked_about(form):
    """Of three of five that were listed, low ones are rare if all were offered, and as frequent if not."""
    with pytest.raises(InputError, match="low ones more often") as found:
        ranked(FORMS[form](TOP))
    assert "--form rankings" in str(found.value)
    assert ranked(FORMS[form](TOP), form="rankings") == TOP


def test_numbers_may_be_ranks_or_candidates():
    rows = [["2", "1", "3"], ["1", "3", "2"]] * 20
    with pytest.raises(InputError, match="ranks of the candidates in turn"):
        ranked(FORMS["commas"](rows))
    assert ranked(FORMS["commas"](rows), form="rankings") == rows


@pytest.mark.parametrize("form", ["opt", "choice", "order", "words", "shown"])
def test_options_beside_a_pick_are_no_ranking(form):
    columns = {f"{form}{j + 1}": [r[j] for r in FULL] for j in range(4)}
    if form == "words":
        columns = {n: [r[j] for r in FULL] for j, n in enumerate(("first", "second", "third", "fourth"))}
    if form == "shown":
        columns = {"display_order": [", ".join(r[:4]) for r in FULL]}
    columns |= {"decided": [1 + i % 4 for i in range(len(FULL))]}
    with pytest.raises(InputError, match=r"needs a column of picks|identified"):
        ranked(columns)


def test_comma_separated_tags_are_no_ranking():
    with pytest.raises(InputError, match="cannot be identified"):
        ranked({"tags": [", ".join(r) for r in PART]})
