"""From a file to a choice table: four forms, exclusions counted, ties and rankings by hand."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.picking import data_folder
from recurate.choices import conditional_logit
from recurate.choices.from_slates import choices_of, read_choices
from recurate.core.errors import InputError
from recurate.core.tables import write_table
from recurate.log.inputs import table_of
from recurate.log.opening import read_picks
from recurate.log.reading.mapping import Given
from recurate.log.reading.slates import Wanted, read_slates
from recurate.log.reading.understand import guess
from recurate.log.reading.values import ZERO_TIES

ONE = "of one candidate: a pick from one holds no information"
UNREADABLE = "with an unreadable or missing pick"
NO_RANK = "with an unreadable or missing rank"
TIED = "with all candidates tied"
NONE = "without a pick"
ALL = "with all candidates picked"
MISSING = "with a missing or infinite 'x'"
EMPTY = "with an empty 'kind'"
TWICE = "with two candidates in one position"
NOBODY = "without a chooser, where others have one"


def read(columns, wanted=None, *, form=None, alternatives=(), **roles):
    table = pa.table(columns)
    mapping = guess(table, roles, form=form, alternatives=alternatives)
    return read_choices(table, mapping, wanted)


def counted(reading):
    return {e.reason: (e.slates, e.rows) for e in reading.exclusions}


def slates_of(choices):
    """Return (features of each candidate, slot of the pick) slate by slate."""
    parts = np.split(choices.features, choices.slates.offsets[1:-1])
    return [(part.tolist(), pick) for part, pick in zip(parts, choices.picked.tolist(), strict=True)]


# --- four forms -----------------------------------------------------------------------------------

SIX = [([[1.0], [2.0]], 1), ([[5.0], [4.0]], 0), ([[3.0], [7.0]], 1)]


def long_form():
    return read(
        {"slate": ["a", "a", "b", "b", "c", "c"], "x": [1.0, 2.0, 5.0, 4.0, 3.0, 7.0],
         "chosen": [0, 1, 1, 0, 0, 1], "user": list("uuvvuu")},
    )  # fmt: skip


def wide_form():
    return read({"x1": [1.0, 5.0, 3.0], "x2": [2.0, 4.0, 7.0], "choice": [2, 1, 2], "user": list("uvu")})


def pairs_form():
    return read({"x_chosen": [2.0, 5.0, 7.0], "x_rejected": [1.0, 4.0, 3.0], "chosen": list("pqr"),
                 "rejected": list("stu"), "user": list("uvu")}, Wanted(features=("x",)))  # fmt: skip


def lists_form():
    return read({"x": [[1.0, 2.0], [5.0, 4.0], [3.0, 7.0]], "picked": [1, 0, 1], "user": list("uvu")})


@pytest.mark.parametrize(
    ("form", "make"),
    [("long", long_form), ("wide", wide_form), ("pairs", pairs_form), ("lists", lists_form)],
)
def test_the_same_picks_in_four_forms_are_the_same_choices(form, make):
    reading = make()
    assert reading.mapping.form == form
    assert reading.model == "features"
    assert reading.choices.names == ("x",)
    assert reading.choices.choosers.tolist() == [0, 1, 0]
    assert reading.exclusions == ()
    if form == "pairs":  # whatever was picked comes first, which is no place
        assert slates_of(reading.choices) == [([[2.0], [1.0]], 0), ([[5.0], [4.0]], 0), ([[7.0], [3.0]], 0)]
        assert reading.choices.positions is None
    else:
        assert slates_of(reading.choices) == SIX


def test_guessed_columns_are_marked_and_given_ones_are_not():
    table = pa.table({"q": [1, 1], "label": [1, 0], "x": [1.0, 2.0], "user": ["a", "a"], "vote": [0, 1]})
    lines = dict(guess(table, {"slate": "q", "pick": "vote"}).lines())
    assert lines == {"form": "long", "slate": "q", "pick": "vote", "chooser": "user (guessed)"}
    found = guess(table, {"slate": "q"})
    assert found.roles["pick"] == "label"
    assert "pick" in found.guessed


@pytest.mark.parametrize(
    ("columns", "arguments", "what", "remedy"),
    [
        ({"x1": [1], "x2": [2], "chosen": [1]}, {"pick": "chosn"}, "no column 'chosn'", "'chosen'"),
        ({"x": [1.0]}, {}, "the slates and picks of this file", "--slate COLUMN --pick COLUMN"),
        ({"x": [1.0], "pick": [1]}, {"form": "long"}, "one row per candidate needs", "--slate COLUMN"),
        ({"x1": [1.0], "x2": [1.0]}, {}, "one row per slate needs", "--pick COLUMN"),
        ({"x": [[1.0, 2.0]]}, {}, "a file of lists needs", "--rank COLUMN"),
        ({"x": [1.0]}, {"form": "lnog"}, "the form is unknown", "'long'"),
        ({"TRAM_x": [1, 2], "BUS_x": [2, 1], "choice": [1, 2]}, {}, "correspondence", "--alternatives"),
        ({"slate": [1, 1], "pick": [0, 1]}, {}, "nothing describes the candidates", "--feature"),
        ({"slate": [1, 1], "pick": [0, 1], "x": [2, 2]}, {"wanted": Wanted(features=("x",))},
         "no feature varies", "differ between"),
        ({"slate": [1, 1], "pick": [0, 1], "size": [2, 1]}, {"wanted": Wanted(features=("sise",))},
         "no column 'sise'", "'size'"),
        ({"slate": [1, 1], "pick": [0, 1], "x": ["a", "b"]}, {"wanted": Wanted(scores=("x",))},
         "the score 'x' must hold numbers", "numeric"),
        ({"slate": [1, 1], "pick": [0, 1], "x": [2, 1]}, {"wanted": Wanted(model="items")},
         "no column serves --model items", "--item COLUMN"),
        ({"slate": [1, 1], "pick": [0, 1], "x": [2, 1]}, {"wanted": Wanted(model="item")},
         "--model is not known", "'items'"),
        ({"slate": [1, 1], "pick": [0, 1], "x": [2, 1]}, {"wanted": Wanted(ties="haf")},
         "--ties is not known", "'half'"),
        ({"slate": [None, None], "pick": [0, 1], "x": [2, 1]}, {"slate": "slate"},
         "no row belongs to a slate", "column of slates"),
        ({"slate": [1, 1], "pick": [1, 1], "x": [2, 1]}, {}, "every slate is a tie", "--pick"),
        ({"slate": [1, 1], "pick": [0, 0], "x": [2, 1]}, {}, "no slate can be used", "--slate"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_remedy(columns, arguments, what, remedy):
    with pytest.raises(InputError) as caught:
        read(columns, **arguments)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_text_of_too_many_kinds_is_no_category():
    words = [f"w{i}" for i in range(300)]
    columns = {"slate": np.repeat(np.arange(150), 2), "pick": [0, 1] * 150, "text": words}
    with pytest.raises(InputError, match="too many different values") as caught:
        read(columns, Wanted(features=("text",)))
    assert "characters:text" in caught.value.remedy


# --- words, numbers and what is neither -----------------------------------------------------------


def test_yes_and_no_in_mixed_spellings():
    yes, no = ["Yes", "TRUE", "1", " y ", "t", "1.0"], ["no", "False", "0", "N", " f", "0.0"]
    words = [w for pair in zip(yes, no, strict=True) for w in pair]
    slates = np.repeat(np.arange(6), 2)
    reading = read({"slate": slates, "picked": words, "x": np.arange(12.0)})
    assert reading.choices.picked.tolist() == [0] * 6
    assert reading.exclusions == ()
    words[3], words[6] = "maybe", ""
    reading = read({"slate": slates, "picked": words, "x": np.arange(12.0)})
    assert counted(reading) == {UNREADABLE: (2, 4)}
    assert reading.exclusions[0].example == "first: slate 1"
    assert len(reading.choices) == 4


@pytest.mark.parametrize(
    "values", [[True, False, False, True], [1.0, 0.0, 0.0, 1.0], ["1", "0", "no", "yes"]]
)
def test_picks_of_any_type(values):
    assert read({"slate": [1, 1, 2, 2], "picked": values, "x": [1, 2, 3, 4]}).choices.picked.tolist() == [
        0,
        1,
    ]


def test_numbers_that_are_no_yes_or_no_are_not_guessed_at():
    reading = read({"slate": [1, 1, 2, 2], "picked": [2, 0, 1, 0], "x": [1, 2, 3, 4]})
    assert counted(reading) == {UNREADABLE: (1, 2)}


def test_numbers_as_text_are_numbers():
    reading = read({"slate": [1, 1, 2, 2], "picked": [1, 0] * 2, "x": ["1.5", "2", "-1e1", "4"]})
    assert slates_of(reading.choices) == [([[1.5], [2.0]], 0), ([[-10.0], [4.0]], 0)]
    ranks = read({"slate": [1, 1, 1], "rank": ["3", "1", "2.0"], "x": [0, 1, 2]})
    assert slates_of(ranks.choices) == [([[0.0], [1.0], [2.0]], 1), ([[0.0], [2.0]], 1)]
    wide = read({"x1": [1, 2, 3], "x2": [3, 2, 1], "choice": ["2", "1.0", "²"]})
    assert wide.choices.picked.tolist() == [1, 0]
    assert counted(wide) == {UNREADABLE: (1, 2)}


def test_a_column_that_is_mostly_numbers_loses_the_slates_where_it_is_none():
    x = ["1", "2", "n/a", "4", "5", "6", "inf", "8"]
    reading = read({"slate": [1, 1, 2, 2, 3, 3, 4, 4], "picked": [1, 0] * 4, "x": x})
    assert counted(reading) == {MISSING: (2, 4)}
    assert len(reading.choices) == 2


def test_mixed_types_in_json(tmp_path):
    rows = [
        {"slate": 1, "picked": True, "x": 1, "kind": "a"},
        {"slate": 1, "picked": "no", "x": "2.5", "kind": 7},
        {"slate": "two", "picked": 0, "x": 3.5},
        {"slate": "two", "picked": 1, "x": None, "kind": None},
        {"slate": None, "picked": 1, "x": 9, "kind": "a"},
        {"slate": 3, "picked": "yes", "x": 1.0, "kind": "a"},
        {"slate": 3, "picked": "0.0", "x": 10**400, "kind": "a"},
    ]
    path = tmp_path / "picks.json"
    path.write_text(json.dumps(rows))
    table = table_of(path)
    reading = read_choices(table, guess(table, {}))
    assert reading.choices.names == ("x", "kind=a")
    assert slates_of(reading.choices) == [([[1.0, 1.0], [2.5, 0.0]], 0)]
    assert counted(reading) == {MISSING: (2, 4)}
    assert reading.notes == ("1 row belongs to no slate",)


def test_features_of_every_kind():
    columns = {
        "slate": [1, 1, 2, 2], "picked": [1, 0, 0, 1], "size": [1, 2, 2, 3], "kind": ["b", "a", "c", "b"],
        "text": ["four", "", "x" * 250, "ab"], "id": [9, 8, 7, 6], "age": [30, 30, 40, 40],
        "flag": [True, False] * 2,
    }  # fmt: skip
    found = read(columns, Wanted(features=("size", "kind", "characters:text")))
    assert found.choices.names == ("size", "characters:text", "kind=b", "kind=c")
    np.testing.assert_array_equal(
        found.choices.features, [[1, 0.04, 1, 0], [2, 0, 0, 0], [2, 2.5, 0, 1], [3, 0.02, 1, 0]]
    )
    del columns["text"]
    found = read(columns)
    assert found.choices.names == ("size", "flag", "kind=b", "kind=c")
    assert found.left_out == {
        "id": "its name implies that it does not describe candidates",
        "age": "the same for all candidates of a slate",
    }
    assert read(columns, Wanted(features=("flag",))).matrix.ravel().tolist() == [1, 0, 1, 0]


def test_a_wanted_feature_that_never_varies_is_named():
    columns = {"slate": [1, 1, 2, 2], "picked": [1, 0, 0, 1], "size": [1, 2, 2, 3], "age": [30, 30, 40, 40]}
    found = read(columns, Wanted(features=("size", "age")))
    assert found.choices.names == ("size",)
    assert found.left_out == {"age": "the same for all candidates of a slate"}


def test_long_texts_are_left_out_with_what_can_be_done():
    n = 30
    columns = {"slate": np.repeat(np.arange(n), 2), "picked": [1, 0] * n, "x": np.arange(2.0 * n)}
    found = read(columns | {"answer": [f"answer {i}" for i in range(2 * n)]})
    assert found.choices.names == ("x",)
    assert found.left_out == {
        "answer": "text with 60 different values (--feature characters:answer counts its characters)"
    }


def test_a_score_is_taken_before_features():
    columns = {"slate": [1, 1, 2, 2], "picked": [1, 0, 0, 1], "size": [1, 2, 2, 3]}
    assert read(columns | {"reward": [0.5, 1, 2, 4]}).model == "score"
    assert read(columns | {"Score": [0.5, 1, 2, 4]}).choices.names == ("Score",)
    assert read(columns | {"reward": [0.5, 1, 2, 4]}, Wanted(features=("size",))).choices.names == ("size",)
    found = read(columns | {"reward": [0.5, 1, 2, 4]}, Wanted(scores=("size",)))
    assert (found.model, found.choices.names) == ("score", ("size",))
    words = read(columns | {"score": ["good", "bad", "bad", "good"]})
    assert (words.model, words.choices.names) == ("features", ("size", "score=good"))
    both = read(columns | {"reward": [0.5, 1, 2, 4]}, Wanted(features=("size",), scores=("reward",)))
    assert (both.model, both.choices.names) == ("features", ("reward", "size"))
    assert read(columns | {"reward_a": [1, 2, 3, 4], "reward_b": [2, 2, 3, 1]}).choices.names == (
        "reward_a",
        "reward_b",
    )


def test_what_describes_candidates_where_nothing_is_asked():
    columns = {"slate": [1, 1, 2, 2, 3, 3], "picked": [1, 0, 0, 1, 1, 0]}
    items = read(columns | {"item": list("abbcca")})
    assert (items.model, items.choices.item_names) == ("items", ("a", "b", "c"))
    assert items.choices.items.tolist() == [0, 1, 1, 2, 2, 0]
    places = read(columns | {"item": list("abcdef"), "slot": [0, 1, 1, 0, 0, 1]})
    assert (places.model, places.choices.names) == ("positions", ())
    assert places.choices.picked.tolist() == [0, 0, 0]  # the second slate was shown the other way round
    numbered = read(columns | {"alt": [1, 2] * 3, "x": np.arange(6)})
    assert numbered.mapping.roles["position"] == "alt"  # it only numbers the rows of each slate


# --- order ----------------------------------------------------------------------------------------


def test_a_column_of_times_orders_slates():
    columns = {"slate": [3, 3, 1, 1, 2, 2], "picked": [1, 0] * 3, "x": [1, 2, 3, 4, 5, 6]}
    assert read(columns).matrix.ravel().tolist() == [1, 2, 3, 4, 5, 6]
    for times in ([9, 9, 8, 8, 7, 7], pa.array([9, 9, 8, 8, 7, 7], pa.timestamp("s")), list("ccbbaa")):
        assert read(columns | {"time": times}).matrix.ravel().tolist() == [5, 6, 3, 4, 1, 2]


def test_slates_are_numbered_within_rounds_and_need_not_be_together():
    columns = {
        "round": [0, 1, 0, 1, 0, 0], "slate": [0, 0, 0, 0, 1, 1], "picked": [1, 0, 0, 1, 1, 0],
        "x": [1, 2, 3, 4, 5, 6],
    }  # fmt: skip
    reading = read(columns)
    assert slates_of(reading.choices) == [([[1.0], [3.0]], 0), ([[2.0], [4.0]], 1), ([[5.0], [6.0]], 0)]
    assert reading.table["round"].tolist() == [0, 0, 1, 1, 0, 0]
    del columns["round"]
    assert read(columns).slates.sizes.tolist() == [4, 2]


def test_slots_order_candidates():
    reading = read({"slate": [1, 1, 1], "slot": [2, 0, 1], "picked": [1, 0, 0], "x": [3, 1, 2]})
    assert slates_of(reading.choices) == [([[1.0], [2.0], [3.0]], 2)]
    assert reading.choices.positions.tolist() == [0, 1, 2]


def test_rows_of_real_data_are_no_candidates():
    columns = {"slate": [1, 1, 1], "picked": [1, 0, 0], "x": [3, 1, 2], "source": ["model", "model", "real"]}
    reading = read(columns)
    assert reading.slates.rows == 2
    assert reading.notes == ("1 row of real data is not a candidate",)


# --- what is left out -----------------------------------------------------------------------------


def test_nothing_of_wide_files_and_lists_vanishes():
    wide = read(
        {"TRAM_AV": ["yes", "yes", "no", "no"], "BUS_AV": ["yes", "no", "no", "yes"],
         "CAR_AV": ["yes"] * 2 + ["no", "yes"],
         "TRAM_X": [1, 2, 3, 4], "BUS_X": [3, 2, 1, 5], "CAR_X": [1, 5, 2, 1],
         "CHOICE": ["TRAM", "CAR", "BUS", "tram"]},
    )  # fmt: skip
    assert wide.slates.sizes.tolist() == [3, 2]
    assert wide.choices.picked.tolist() == [0, 1]
    assert wide.notes == ("1 slate offers no alternative",)
    assert counted(wide) == {NONE: (1, 2)}  # the pick is none of those on offer
    lists = read({"x": [[1.0, 2.0], [], None, [1.0, 2.0, 3.0], [4.0, 4.5]], "picked": [1, 0, 0, 3, 0]})
    assert lists.notes == ("2 rows list no candidates",)
    assert counted(lists) == {NONE: (1, 3)}
    assert slates_of(lists.choices) == [([[1.0], [2.0]], 1), ([[4.0], [4.5]], 0)]


def test_lists_of_unequal_lengths_are_excluded():
    lists = read({"x": [[1.0, 2.0, 3.0], [1.0, 2.0], [5.0, 4.0]], "ranking": [[2, 1], [2, 1], [1, 2, 3]]})
    assert counted(lists) == {NO_RANK: (1, 3), MISSING: (1, 3)}
    assert slates_of(lists.choices) == [([[1.0], [2.0]], 1)]


def test_pairs_named_by_one_column_lose_those_where_it_is_empty():
    reading = read(
        {"response1": list("abcdef"), "response2": list("bcdefa"),
         "both": ["m_n", "n_m", "m_n", None, None, "n_m"],
         "winner": [1, 2, 0, 1, 2, 1]}, Wanted(features=("item",)),
    )  # fmt: skip
    assert reading.mapping.joined == ("both", "_")
    assert counted(reading) == {"with an empty 'item'": (2, 4)}
    assert reading.facts["ties"] == 1


@pytest.mark.parametrize(
    "who", [["u", "u", None, None, "", "", "v", "v"], [1, 1, None, None, None, None, 2, 2]]
)
def test_slates_without_a_chooser(who):
    columns = {"slate": [1, 1, 2, 2, 3, 3, 4, 4], "picked": [1, 0] * 4, "x": np.arange(8)}
    reading = read(columns | {"chooser": who})
    assert counted(reading) == {NOBODY: (2, 4)}
    assert reading.choices.choosers.tolist() == [0, 1]
    nobody = read(columns | {"chooser": pa.array([None] * 8, pa.string())})
    assert nobody.choices.choosers is None
    assert nobody.exclusions == ()


def test_only_columns_that_are_used_exclude_slates():
    columns = {
        "slate": [1, 1, 2, 2, 3, 3, 4, 4], "picked": [1, 0] * 4, "reward": [1, 2, 3, 4, 6, 5, 7, 8],
        "size": [1, None, 2, 3, 4, 5, 7, 6],
        "note": ["a", "b", "", "a", "a", "c", "a", "b"], "item": ["p", "q", "q", "p", None, "p", "p", "q"],
    }  # fmt: skip
    assert counted(read(columns)) == {}
    assert counted(read(columns, Wanted(model="items"))) == {"with an empty 'item'": (1, 2)}
    assert counted(read(columns, Wanted(features=("size",)))) == {"with a missing or infinite 'size'": (1, 2)}
    everything = counted(read(columns, Wanted(model="features")))
    assert everything == {
        "with a missing or infinite 'size'": (1, 2), "with an empty 'note'": (1, 2),
        "with an empty 'item'": (1, 2),
    }  # fmt: skip


# Each defect, the reason that counts for it, and what it does to a good slate of dicts.
def _spoil(rows, defect, place):
    row = rows[place % len(rows)]
    if defect == "one":
        del rows[1:]
    elif defect == "nan":
        row["x"] = float("nan")
    elif defect == "inf":
        row["x"] = -float("inf")
    elif defect == "null":
        row["x"] = None
    elif defect == "word":
        row["picked"] = "perhaps"
    elif defect == "blank":
        row["picked"] = None
    elif defect == "none":
        for r in rows:
            r["picked"] = "no"
    elif defect == "all":
        for r in rows:
            r["picked"] = "yes"
    elif defect == "kind":
        row["kind"] = ""
    elif defect == "slot":
        row["slot"] = rows[(place + 1) % len(rows)]["slot"]
    elif defect == "nobody":
        row["chooser"] = None


DEFECTS = {
    "good": None,
    "one": ONE,
    "nan": MISSING,
    "inf": MISSING,
    "null": MISSING,
    "word": UNREADABLE,
    "blank": UNREADABLE,
    "none": NONE,
    "all": ALL,
    "kind": EMPTY,
    "slot": TWICE,
    "nobody": NOBODY,
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(DEFECTS)), st.integers(3, 5), st.integers(0, 9)), max_size=12),
    st.randoms(use_true_random=False),
)
@settings(max_examples=80)
def test_every_slate_is_used_or_excluded_for_the_reason_planted(plan, random):
    rows, expected, used = [], Counter(), set()
    for label, (defect, k, place) in enumerate([("good", 3, 0), ("good", 4, 1), *plan]):
        slate = [
            {"slate": f"s{label}", "slot": j, "x": float(j), "kind": "ab"[j % 2], "chooser": f"u{label % 2}",
             "picked": "yes" if j == place % k else "no"} for j in range(k)
        ]  # fmt: skip
        _spoil(slate, defect, place)
        reason = DEFECTS[defect]
        if reason is None:
            used.add(f"s{label}")
        else:
            expected[reason, "slates"] += 1
            expected[reason, "rows"] += len(slate)
        rows += slate
    random.shuffle(rows)
    reading = read({name: [r[name] for r in rows] for name in rows[0]})
    found = {(e.reason, n): getattr(e, n) for e in reading.exclusions for n in ("slates", "rows")}
    assert found == dict(expected)
    assert set(reading.table["slate"].tolist()) == used
    assert len(reading.slates) + sum(e.slates for e in reading.exclusions) == len(plan) + 2
    assert reading.slates.rows + sum(e.rows for e in reading.exclusions) == len(rows)
    # What is used is as it was planted, in the order of its slots.
    for (features, pick), label in zip(
        slates_of(reading.choices), reading.table["slate"][reading.slates.offsets[:-1]], strict=True
    ):
        own = sorted((r for r in rows if r["slate"] == label), key=lambda r: r["slot"])
        assert [f[0] for f in features] == [r["x"] for r in own]
        assert own[pick]["picked"] == "yes"


@given(st.data())
@settings(max_examples=60)
def test_every_ranking_is_used_or_excluded(data):
    ranks = data.draw(
        st.lists(st.lists(st.sampled_from([1, 2, 3, None]), min_size=1, max_size=5), min_size=1, max_size=8)
    )
    ranks.append([2, 1, 1])
    expected = Counter()
    for r in ranks:
        if len(r) < 2:
            expected[ONE] += 1
        elif None in r:
            expected[NO_RANK] += 1
        elif len(set(r)) == 1:
            expected[TIED] += 1
    flat = [(s, v) for s, r in enumerate(ranks) for v in r]
    columns = {"slate": [s for s, _ in flat], "rank": pa.array([v for _, v in flat], pa.int64())}
    reading = read(columns | {"x": np.arange(float(len(flat)))})
    assert {e.reason: e.slates for e in reading.exclusions} == dict(expected)
    assert len(reading.slates) == len(ranks) - sum(expected.values())
    # Luce's stages by hand: everyone who is not last is picked once, from all that are not before.
    stages, at = [], 0
    for r in ranks:
        here = list(range(at, at + len(r)))
        at += len(r)
        if len(r) > 1 and None not in r and len(set(r)) > 1:
            for level in sorted(set(r))[:-1]:
                left = [i for i, v in zip(here, r, strict=True) if v >= level]
                stages += [(left, i) for i, v in zip(here, r, strict=True) if v == level]
    assert [([int(x[0]) for x in f], int(f[p][0])) for f, p in slates_of(reading.choices)] == stages


def test_places_may_have_names():
    """Whichever row comes first in the file."""
    reading = read({"slate": [1, 1, 2, 2], "slot": ["left", "right", "right", "left"], "picked": [1, 0, 0, 1],
                    "x": [1.0, 2.0, 3.0, 4.0]})  # fmt: skip
    assert reading.choices.positions.tolist() == [0, 1, 1, 0]
    assert slates_of(reading.choices) == [([[1.0], [2.0]], 0), ([[3.0], [4.0]], 1)]


# --- rankings and ties ----------------------------------------------------------------------------


def test_rankings_are_taken_apart_into_stages():
    columns = {
        "slate": ["a"] * 4 + ["b"] * 3,
        "rank": [2, 1, 4, 2, 3, 1, 2],
        "x": [10, 11, 12, 13, 20, 21, 22],
    }
    reading = read(columns)
    expected = [
        ([10, 11, 12, 13], 11), ([10, 12, 13], 10), ([10, 12, 13], 13), ([20, 21, 22], 21), ([20, 22], 22),
    ]  # fmt: skip
    assert [([x[0] for x in f], f[p][0]) for f, p in slates_of(reading.choices)] == expected
    assert reading.choices.sources.tolist() == [0, 0, 0, 1, 1]
    assert [f for f, _ in slates_of(reading.strict)] == [
        [[10.0], [11.0], [12.0], [13.0]], [[20.0], [21.0], [22.0]], [[20.0], [22.0]],
    ]  # fmt: skip
    dropped = read(columns, Wanted(ties="drop"))
    assert slates_of(dropped.choices) == slates_of(reading.strict)
    assert len(read(columns, Wanted(ties="half")).choices) == 5  # Breslow's, too


def test_only_ties_above_the_last_have_no_stage():
    with pytest.raises(InputError, match="no stage of any ranking has a single best"):
        read({"slate": [1, 1, 1], "rank": [1, 1, 2], "x": [1, 2, 3]}, Wanted(ties="drop"))


TIES = {"x1": [1.0, 5.0, 3.0], "x2": [2.0, 4.0, 7.0], "winner": ["2", "tie", "1"], "user": ["u", "v", "u"]}


def test_tied_pairs_as_an_outcome_of_their_own():
    reading = read(TIES)
    assert reading.choices.names == ("x", "tie")
    assert slates_of(reading.choices) == [
        ([[1.0, 0.0], [2.0, 0.0], [1.5, 1.0]], 1),
        ([[5.0, 0.0], [4.0, 0.0], [4.5, 1.0]], 2),
        ([[3.0, 0.0], [7.0, 0.0], [5.0, 1.0]], 0),
    ]
    assert reading.choices.tie_rows.tolist() == [False, False, True] * 3
    assert reading.tied.tolist() == [False, True, False]
    assert reading.choices.weights is None
    assert slates_of(reading.strict) == [([[1.0], [2.0]], 1), ([[3.0], [7.0]], 0)]
    assert reading.facts["ties"] == 1


def test_tied_pairs_as_half_a_win_each():
    reading = read(TIES, Wanted(ties="half"))
    assert slates_of(reading.choices) == [
        ([[1.0], [2.0]], 1), ([[5.0], [4.0]], 0), ([[5.0], [4.0]], 1), ([[3.0], [7.0]], 0),
    ]  # fmt: skip
    assert reading.choices.weights.tolist() == [1.0, 0.5, 0.5, 1.0]
    assert reading.choices.choosers.tolist() == [0, 1, 1, 0]
    assert reading.choices.sources.tolist() == [0, 1, 1, 2]
    assert reading.choices.total_weight == 3


def test_tied_pairs_dropped():
    reading = read(TIES, Wanted(ties="drop"))
    assert slates_of(reading.choices) == [([[1.0], [2.0]], 1), ([[3.0], [7.0]], 0)]
    assert reading.facts["ties"] == 1
    assert len(reading.slates) == 3


@pytest.mark.parametrize(
    ("words", "picks"),
    [
        (["model_a", "model_b", "tie", "tie (bothbad)", "Draw"], [0, 1, 2, 2, 2]),
        (["a", "B", "both", "Equal", "same"], [0, 1, 2, 2, 2]),
        (["MODEL_A", "model_b ", "skip", "tie", ""], [0, 1, 2]),
    ],
)
def test_words_for_the_sides_of_a_pair(words, picks):
    reading = read({"model_a": list("xyzxy"), "model_b": list("yzxzx"), "winner": words})
    assert reading.model == "items"
    assert reading.choices.picked.tolist() == picks
    assert counted(reading) == ({UNREADABLE: (2, 4)} if len(picks) == 3 else {})


def test_several_picks_of_a_larger_slate_are_a_tie_at_the_first_stage():
    columns = {
        "slate": [1] * 4 + [2] * 3 + [3] * 3,
        "picked": [1, 0, 1, 0, 1, 0, 0, 1, 1, 1],
        "x": np.arange(10.0),
    }
    reading = read(columns)
    assert [([x[0] for x in f], f[p][0]) for f, p in slates_of(reading.choices)] == [
        ([0, 1, 2, 3], 0), ([0, 1, 2, 3], 2), ([4, 5, 6], 4),
    ]  # fmt: skip
    assert counted(reading) == {ALL: (1, 3)}
    assert reading.choices.sources.tolist() == [0, 0, 1]
    assert len(read(columns, Wanted(ties="drop")).choices) == 1


@pytest.mark.parametrize(
    ("codes", "picked", "lost", "note"),
    [
        ([1, 2, 1, 0], [0, 1, 0, 2], 0, ZERO_TIES),
        ([0, 1, 1, 0], [0, 1, 1, 0], 0, "picks count from 0: 0 is 'x1', 1 is 'x2'"),
        ([1, 2, 2, 7], [0, 1, 1], 1, ""),
        ([1.0, 2.0, float("nan"), 2.0], [0, 1, 1], 1, ""),
    ],
)
def test_codes_of_pairs(codes, picked, lost, note):
    reading = read({"x1": [1.0, 2.0, 3.0, 4.0], "x2": [4.0, 1.0, 2.0, 3.0], "choice": codes})
    assert reading.choices.picked.tolist() == picked
    assert sum(e.slates for e in reading.exclusions) == lost
    assert reading.notes == ((note,) if note else ())


def test_each_annotator_is_a_chooser():
    reading = read(
        {
            "x1": [1.0, 2.0, 3.0],
            "x2": [2.0, 4.0, 7.0],
            "annotator1": [1, 2, None],
            "annotator2": ["2", "tie", "?"],
        }
    )
    assert len(reading.slates) == 4
    assert counted(reading) == {UNREADABLE: (2, 4)}
    assert reading.table["chooser"].tolist()[::2] == ["annotator1", "annotator2"] * 2
    assert reading.choices.sources.tolist() == [0, 0, 1, 1]  # what one of them saw, the other did
    assert reading.choices.picked.tolist() == [0, 1, 1, 2]


# --- real files -----------------------------------------------------------------------------------


def read_data(name, **options):
    wanted = options.pop("wanted", Wanted())
    table, found = read_picks(data_folder() / name, Given(**options))
    return read_choices(table, found.mapping, wanted), dict(found.mapping.lines())


LONG = {"form": "long", "slate": "situation (guessed)", "pick": "chosen (guessed)",
        "chooser": "chooser (guessed)"}  # fmt: skip


# Log-likelihoods: electricity's and yogurt's are published (see the data's README); the cars' were found by
# this program and guard against changes of reading.
@pytest.mark.parametrize(
    ("name", "further", "model", "slates", "people", "names", "log_likelihood"),
    [
        ("yogurt/yogurt.csv.gz", {"item": "alt (guessed)"}, "features", 2412, 100,
         ("price", "feat", "item=hiland", "item=weight", "item=yoplait"), -2656.888),
        ("electricity/electricity.csv.gz", {"position": "alt (guessed)"}, "features", 4308, 361,
         ("pf", "cl", "loc", "wk", "tod", "seas"), -4958.649),
        ("swissmetro/swissmetro_long.csv.gz", {"item": "alt (guessed)"}, "features", 10719, 1191,
         ("tt", "cost", "headway", "seats", "item=sm", "item=train"), -8882.408),
        ("cars_conjoint/cars_us.csv.gz", {"position": "alt (guessed)"}, "features", 5760, 384, 16, -4616.952),
        ("cars_conjoint/cars_china.csv.gz", {"position": "alt (guessed)"}, "features", 6720, 448, 16,
         -6655.562),
    ],
)  # fmt: skip
def test_long_files_of_real_choices(name, further, model, slates, people, names, log_likelihood):
    reading, lines = read_data(name)
    assert lines == LONG | further
    assert reading.model == model
    assert len(reading.choices) == slates
    assert np.unique(reading.choices.choosers).size == people
    assert names in (reading.choices.names, len(reading.choices.names))
    assert reading.exclusions == ()
    assert reading.choices.positions is None or "position" in further
    found = conditional_logit(reading.choices, clustered=False)
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=6e-4)


def test_the_wide_file_says_the_same_as_the_long_one():
    reading, lines = read_data(
        "swissmetro/swissmetro_wide.csv.gz", roles={"chooser": "ID"}, alternatives=("TRAIN", "SM", "CAR")
    )
    assert lines == {
        "form": "wide", "pick": "CHOICE (guessed)", "chooser": "ID", "alternatives": "TRAIN, SM, CAR",
        "AV": "TRAIN_AV, SM_AV, CAR_AV", "TT": "TRAIN_TT, SM_TT, CAR_TT", "CO": "TRAIN_CO, SM_CO, CAR_CO",
        "HE": "TRAIN_HE, SM_HE, -", "SEATS": "-, SM_SEATS, -",
    }  # fmt: skip
    assert counted(reading) == {UNREADABLE: (9, 27)}  # CHOICE = 0
    long, _ = read_data("swissmetro/swissmetro_long.csv.gz")
    assert reading.slates.sizes.tolist() == long.slates.sizes.tolist()
    assert reading.choices.picked.tolist() == long.choices.picked.tolist()
    np.testing.assert_array_equal(reading.matrix, long.matrix)
    found = conditional_logit(reading.choices)
    assert found.log_likelihood == pytest.approx(-8882.408, abs=6e-4)
    np.testing.assert_allclose(found.errors, conditional_logit(long.choices).errors, rtol=1e-6)


def test_pairs_judged_by_three_annotators():
    reading, lines = read_data("pandalm_pairs/testset-v1.json.gz")
    assert lines == {
        "form": "wide", "context": "instruction (guessed)", "picks": "annotator1, annotator2, annotator3",
        "alternatives": "1, 2", "response": "response1, response2",
        "item": "cmp_key, separated by '_' (guessed)",
    }  # fmt: skip
    assert reading.model == "items"
    assert len(reading.strict.item_names) == 5
    assert (len(reading.slates), int(reading.tied.sum())) == (2997, 326)
    assert np.bincount(reading.choices.choosers).tolist() == [999] * 3
    assert np.unique(reading.choices.clusters).size == 999  # three votes on one pair
    assert reading.exclusions == ()
    rows = json.loads(gzip.decompress((data_folder() / "pandalm_pairs/testset-v1.json.gz").read_bytes()))
    votes = [(r["cmp_key"].split("_"), r[f"annotator{a}"]) for r in rows for a in (1, 2, 3)]
    wins = Counter(names[v - 1] for names, v in votes if v)
    strict = reading.strict
    found = Counter(np.array(strict.item_names)[strict.items[strict.picked_rows]].tolist())
    assert found == wins


def test_rankings_with_ties_of_generated_images():
    reading, lines = read_data("imagereward_rankings/test.json.gz")
    assert lines == {
        "form": "lists", "rank": "ranking (guessed)", "context": "prompt (guessed)",
        "item": "generations (guessed)",
    }  # fmt: skip
    assert reading.model == "positions"
    assert (len(reading.slates), reading.slates.rows) == (466, 2720)
    rows = json.loads(gzip.decompress((data_folder() / "imagereward_rankings/test.json.gz").read_bytes()))
    ranks = [r["ranking"] for r in rows]
    assert len(reading.choices) == sum(sum(v < max(r) for v in r) for r in ranks)
    single = [sum(r.count(v) == 1 for v in set(r) if v < max(r)) for r in ranks]
    assert len(reading.strict) == sum(single)
    assert np.bincount(reading.choices.sources).tolist() == [sum(v < max(r) for v in r) for r in ranks]


# --- tables ---------------------------------------------------------------------------------------

TABLE = pa.table({"slate": [0, 0, 1], "x": [0.5, None, -1.5], "word": ["é", "", 'a,\n"b']})
ROWS = TABLE.to_pylist()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "jsonl.gz", "json", "json.gz", "CSV.GZ"])
def test_tables_gzipped_or_not_are_read_as_written(tmp_path, ending):
    path = tmp_path / f"table.{ending}"
    plain = tmp_path / f"plain.{ending.lower().split('.')[0]}"
    if plain.suffix == ".json":
        plain.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    else:
        write_table(TABLE, plain)
    path.write_bytes(
        gzip.compress(plain.read_bytes()) if ending.lower().endswith("gz") else plain.read_bytes()
    )
    assert table_of(path).to_pylist() == ROWS


def test_keys_that_some_rows_lack_are_null(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"b": "x", "a": 2.5}, {}]')
    assert table_of(path).to_pylist() == [
        {"a": 1.0, "b": None},
        {"a": 2.5, "b": "x"},
        {"a": None, "b": None},
    ]


def refused(path, data, what="cannot read"):
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        table_of(path)
    assert what in caught.value.what
    assert caught.value.remedy
    assert caught.value.__cause__ is None
    return caught.value.got


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "json.gz"])
def test_a_truncated_archive_is_refused(tmp_path, ending):
    text = (
        b'[{"a": 1}]'
        if ending == "json.gz"
        else b'{"a": 1}\n' * 500
        if "jsonl" in ending
        else b"a\n1\n" * 500
    )
    whole = gzip.compress(text)
    for cut in (1, 5, 12, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        refused(tmp_path / f"a.{ending}", whole[:cut])
    refused(tmp_path / f"a.{ending}", b"a,b\n1,2\n")  # not gzipped at all
    refused(tmp_path / f"a.{ending}", whole[:15] + b"\xff" * 8 + whole[23:])
    refused(tmp_path / f"a.{ending}", b"", "the file is empty")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'{"a": 1}', "cannot read"), (b"[1, 2]", "cannot read"), (b"[[]]", "cannot read"),
        (b"3", "cannot read"),
        (b'[{"a": 1}', "cannot read"), (b"null", "cannot read"), (b"[]", "no rows"), (b"[{}]", "no rows"),
        (b"[" * 200_000, "cannot read"), (b'[{"a": "\\ud800"}]', "cannot read"),
    ],
)  # fmt: skip
def test_json_that_is_no_array_of_objects_is_refused(tmp_path, data, what):
    refused(tmp_path / "a.json", data, what)
    refused(tmp_path / "a.json.gz", gzip.compress(data), what)


def test_deep_lines_are_refused(tmp_path):
    assert "line 1" in refused(tmp_path / "a.jsonl", b'{"a":' * 200_000)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json"])
def test_latin_1_is_read(tmp_path, ending):
    text = {"csv": "a,b\n1,é\n", "jsonl": '{"a": 1, "b": "é"}\n', "json": '[{"a": 1, "b": "é"}]'}[ending]
    for encoding in ("latin-1", "utf-8"):
        (tmp_path / f"a.{ending}").write_text(text, encoding=encoding)
        (tmp_path / f"a.{ending}.gz").write_bytes(gzip.compress(text.encode(encoding)))
        assert table_of(tmp_path / f"a.{ending}").to_pylist() == [{"a": 1, "b": "é"}]
        assert table_of(tmp_path / f"a.{ending}.gz").to_pylist() == [{"a": 1, "b": "é"}]


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["slate", "picked", "rank", "x", "x1", "x2", "choice", "chosen", "rejected", "item", ""]
)
OBJECTS = st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=6)
GARBAGE = st.one_of(st.binary(max_size=200), OBJECTS.map(lambda rows: json.dumps(rows).encode()),
                    OBJECTS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
                    st.lists(st.lists(st.text(max_size=3), min_size=2, max_size=2), max_size=5).map(
                        lambda rows: "\n".join(",".join(r) for r in [["slate", "picked"], *rows]).encode(
                            "utf-8", "surrogatepass")))  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "jsonl.gz", "json", "json.gz"])
@given(data=GARBAGE, cut=st.integers(0, 60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_garbage_is_read_or_refused(tmp_path, ending, data, cut):
    path = tmp_path / f"garbage.{ending}"
    if ending.endswith("gz"):
        data = gzip.compress(data)
        data = data[: len(data) - cut] if cut < 8 else data
    path.write_bytes(data)
    try:
        table = table_of(path)
        read_choices(table, guess(table, {}))
    except InputError as error:
        assert error.remedy


CELLS = st.one_of(
    st.none(), st.sampled_from([0, 1, 2, "0", "1", "yes", "tie", "", "a", "²", 1.5, float("nan"), True])
)


@given(st.sampled_from([("slate", "picked", "x", "slot"), ("slate", "rank", "item"), ("x1", "x2", "choice"),
                        ("A_AV", "B_AV", "A_X", "B_X", "choice"), ("response1", "response2", "annotator1",
                        "annotator2", "key"), ("chosen", "rejected", "score_chosen", "score_rejected")]),
       st.data())  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_cells_are_read_or_refused(tmp_path, names, data):
    rows = data.draw(st.lists(st.tuples(*[CELLS] * len(names)), min_size=1, max_size=8))
    path = tmp_path / "cells.json"
    path.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    try:
        table = table_of(path)
        reading = read_choices(table, guess(table, {}))
    except InputError as error:
        assert error.remedy
    else:
        assert np.isfinite(reading.matrix).all()
        assert len(reading.slates) + sum(e.slates for e in reading.exclusions) > 0


# --- plain slates ---------------------------------------------------------------------------------


def test_plain_slates_know_rows_roles_and_reasons_and_nothing_of_estimates():
    """Slate b has no pick; ranks and words stay as they are read."""
    table = pa.table(
        {
            "slate": ["a", "a", "b", "b", "c", "c", "c"], "rank": [2, 1, None, 1, 1, 2, 2],
            "x": [0.5, 1.5, 9.0, 9.0, 2.0, 3.0, 4.0], "kind": ["u", "v", "u", "v", "u", "v", "v"],
            "user": ["p", "p", "p", "p", "q", "q", "q"], "same": [7] * 7,
        }
    )  # fmt: skip
    plain = read_slates(table, guess(table, {}))
    assert plain.kind == "rank"
    assert plain.slates.offsets.tolist() == [0, 2, 5]
    assert plain.columns["result"].tolist() == [2, 1, 1, 2, 2]
    assert (plain.model, plain.numeric, plain.categories) == ("features", ("x",), ("kind",))
    assert plain.numbers("x").tolist() == [0.5, 1.5, 2.0, 3.0, 4.0]
    assert plain.texts("kind").tolist() == ["u", "v", "u", "v", "v"]
    assert plain.per_slate("chooser").tolist() == [0, 1]
    assert plain.per_slate("context") is None
    assert [(e.reason, e.slates, e.rows) for e in plain.exclusions] == [(NO_RANK, 1, 2)]
    assert plain.left_out == {"same": "the same for all candidates of a slate"}
    reading = choices_of(plain, "half")
    assert reading.choices.names == ("x", "kind=v")
    assert [(f[p], len(f)) for f, p in slates_of(reading.choices)] == [([1.5, 1.0], 2), ([2.0, 0.0], 3)]
