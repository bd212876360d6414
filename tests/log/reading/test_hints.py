"""Files whose names or values mislead, with planted truth: each is read as meant, or its doubt is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import recurate
from recurate.core.errors import InputError
from recurate.log.inputs import source_of
from recurate.log.opening import open_log, open_slates
from recurate.log.reading.mapping import Given

REWARDS = Given(picks=False)
N, K, T = 60, 3, 3
RNG = np.random.default_rng(11)
PRICE = RNG.uniform(1, 5, (N, T, K))
PICK = (-PRICE + RNG.gumbel(size=PRICE.shape)).argmax(axis=2)


def picked(table, **given):
    """Return the price of each picked candidate, by slates in the file's order."""
    read = open_slates(pd.DataFrame(table), Given(**given))
    return read.columns["price"].astype(float)[read.columns["result"] == 1]


def chosen(pick=PICK[:, 0], price=PRICE[:, 0]):
    return price[np.arange(len(pick)), pick]


def wide(name, **more):
    return {name("price", a): PRICE[:, 0, a] for a in range(K)} | more


# --- survey columns -------------------------------------------------------------------------------


def survey(name, tasks=T, *, together=False):
    """Return a survey whose choice in each task is known; its columns by attribute, or by task."""
    cells = {name(t + 1, a + 1): PRICE[:, t % T, a] for t in range(tasks) for a in range(K)}
    picks = {f"choice_{t + 1}": PICK[:, t % T] + 1 for t in range(tasks)}
    if not together:
        return cells | picks
    order = [
        n for t in range(tasks) for n in (*(name(t + 1, a + 1) for a in range(K)), f"choice_{t + 1}")
    ]  # fmt: skip
    return {n: (cells | picks)[n] for n in order}


@pytest.mark.parametrize(
    ("name", "tasks", "together"),
    [
        (lambda t, a: f"price_{a}_{t}", 3, True), (lambda t, a: f"price_{t}_{a}", 3, True),
        (lambda t, a: f"price_{a}_{t}", 4, False), (lambda t, a: f"price_{t}_{a}", 4, False),
        (lambda t, a: f"price_a{a}_t{t}", 3, False), (lambda t, a: f"q{t}_price_{a}", 3, False),
        (lambda t, a: f"alt{a}_price_{t}", 3, False), (lambda t, a: f"price_{t}_{'ABC'[a - 1]}", 3, False),
        (lambda t, a: f"Q{t}{'ABC'[a - 1]}_price", 3, False),
    ],
)  # fmt: skip
def test_tasks_and_alternatives_are_told_apart(name, tasks, together):
    read = open_slates(pd.DataFrame(survey(name, tasks, together=together)), Given())
    price = next(v for n, v in read.columns.items() if "price" in n)
    truth = np.column_stack([chosen(PICK[:, t % T], PRICE[:, t % T]) for t in range(tasks)])
    np.testing.assert_array_equal(price[read.columns["result"] == 1], truth.ravel())


@pytest.mark.parametrize("name", [lambda t, a: f"price_{a}_{t}", lambda t, a: f"price_{t}_{a}"])
def test_a_square_design_without_a_hint_is_asked_about(name):
    with pytest.raises(InputError, match="the first or the second may be the task's") as caught:
        open_slates(pd.DataFrame(survey(name)), Given())
    assert "price_t1_a2" in caught.value.remedy


NAMES = ["red_bus", "blue_bus", "car"]


@pytest.mark.parametrize("form", ["{s}_{a}", "{a}_{s}", "{s}.{a}"])
def test_names_of_alternatives_may_hold_separators(form):
    columns = wide(lambda s, i: form.format(s=s, a=NAMES[i])) | {"choice": np.array(NAMES)[PICK[:, 0]]}
    np.testing.assert_array_equal(picked(columns), chosen())
    coded = columns | {"choice": PICK[:, 0] + 1}
    np.testing.assert_array_equal(picked(coded, alternatives=tuple(NAMES)), chosen())


def test_letters_name_numbered_alternatives():
    columns = wide(lambda s, i: f"{s}_{i + 1}", choice=[f"Option {'ABC'[p]}" for p in PICK[:, 0]])
    np.testing.assert_array_equal(picked(columns), chosen())


@pytest.mark.parametrize("items", [2, 5, 7])
def test_a_scale_of_other_length_is_no_attribute(items):
    scale = {f"trust_{i + 1}": RNG.integers(1, 6, N) for i in range(items)}
    columns = wide(lambda s, i: f"{s}_{i + 1}", choice=PICK[:, 0] + 1) | scale
    if items < K:  # an attribute that one alternative lacks, or none
        with pytest.raises(InputError, match="numbered differently"):
            open_slates(pd.DataFrame(columns), Given())
        assert recurate.fit(pd.DataFrame(columns), feature="price").logit.names == ("price",)
        return
    np.testing.assert_array_equal(picked(columns), chosen())
    none = columns | {"choice": np.where(np.arange(N) % 4 == 0, K + 1, columns["choice"])}
    with pytest.raises(InputError, match="numbered differently") as caught:
        open_slates(pd.DataFrame(none), Given())
    assert "--alternatives 1,2,3" in caught.value.remedy


@pytest.mark.parametrize(("places", "none"), [(0, K), (1, 0)])
def test_one_code_more_than_alternatives_is_asked_about(places, none):
    out = np.arange(N) % 4 == 0
    columns = wide(lambda s, i: f"{s}_{i + 1}", choice=np.where(out, none, PICK[:, 0] + places))
    with pytest.raises(InputError, match="two ways") as caught:
        open_slates(pd.DataFrame(columns), Given())
    assert f"--places-from {places}" in caught.value.got
    np.testing.assert_array_equal(picked(columns, places_from=places), chosen()[~out])


# --- ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "shown"), [("rank", np.tile([1, 2, 3], N)), ("stars", RNG.integers(1, 6, N * K))]
)
def test_what_was_shown_is_no_outcome(role, shown):
    flags = (np.arange(K) == PICK[:, 0, None]).astype(int).ravel()
    columns = {
        "slate": np.repeat(np.arange(N), K),
        role: shown,
        "price": PRICE[:, 0].ravel(),
        "gebucht": flags,
    }
    with pytest.raises(InputError, match="'gebucht' marks one candidate of each slate") as caught:
        open_slates(pd.DataFrame(columns), Given())
    assert "--pick gebucht" in caught.value.remedy
    np.testing.assert_array_equal(picked(columns, roles={"pick": "gebucht"}), chosen())
    if role == "rank":  # a flag of the best says the same
        best = (columns[role] == 1).astype(int)
        assert open_slates(pd.DataFrame(columns | {"gebucht": best}), Given()).mapping.how == "rank"


TREES = ["ash", "elm", "fir", "oak"]
POINTS = np.argsort(np.argsort(np.linspace(1.5, -1, 4) + RNG.gumbel(size=(100, 4)), axis=1), axis=1)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("form", ["points_{}", "{}_borda", "score_{}"])
def test_of_points_more_is_better(form, first):
    found = recurate.fit(
        pd.DataFrame({form.format(n): POINTS[:, j] + first for j, n in enumerate(TREES)})
    ).items
    assert [found.names[i] for i in np.argsort(-found.rewards)] == TREES


def test_ranks_known_by_their_values_alone_are_a_warning():
    table = pd.DataFrame({n: 4 - POINTS[:, j] for j, n in enumerate(TREES)})
    found = recurate.fit(table)
    assert [found.items.names[i] for i in np.argsort(-found.items.rewards)] == TREES
    assert any(
        "1 is taken for the best" in w and "--alternatives ash,elm,fir,oak" in w for w in found.warnings
    )
    turned = recurate.fit(5 - table, alternatives=TREES)
    assert [turned.items.names[i] for i in np.argsort(-turned.items.rewards)] == TREES


# --- rewards --------------------------------------------------------------------------------------


def samples(counts):
    """Return rows of prompts; ``counts`` (runs, prompts) are the candidates of each run and prompt."""
    rows = [(r, p) for r, row in enumerate(counts) for p, count in enumerate(row) for _ in range(count)]
    return {
        "run": [f"r{r}" for r, _ in rows], "prompt": [f"p{p}" for _, p in rows],
        "reward": RNG.normal(size=len(rows)) + [r for r, _ in rows],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["seed", "run_id", "model", "variante"])
def test_runs_of_uneven_size_that_are_pooled_are_named(name):
    table = samples(RNG.integers(2, 6, (3, 20)))
    table[name] = table.pop("run")
    assert f"candidates of 3 values of {name!r} are pooled" in " ".join(open_log(table, REWARDS).warnings)


def test_columns_of_uneven_size_that_differ_within_runs_are_not_named():
    table = samples(np.full((1, 20), 6))
    table["finish_reason"] = RNG.choice(["stop", "length"], len(table["reward"]), p=[0.8, 0.2])
    assert "pooled" not in " ".join(open_log(table, REWARDS).warnings)


def test_several_judges_of_the_same_candidates_are_named():
    table = samples(np.full((2, 20), 4))
    table["judge"] = table.pop("run")
    assert "candidates of 2 values of 'judge' are pooled" in " ".join(open_log(table, REWARDS).warnings)
    del table["prompt"]
    table["reward"] = RNG.normal(size=len(table["reward"]))  # no judge is stricter
    assert "candidates of 2 values of 'judge' are pooled" in " ".join(open_log(table, REWARDS).warnings)


def folder(tmp_path, names, tables):
    for name, table in zip(names, tables, strict=True):
        pd.DataFrame(table).to_csv(tmp_path / name, index=False)
    return str(tmp_path)


@pytest.mark.parametrize("names", [("seed_1", "seed_2"), ("a", "b"), ("2026-05-01", "2026-05-02")])
def test_files_of_several_runs_are_named(names, tmp_path):
    tables = [{n: v for n, v in samples(np.full((1, 20), 4)).items() if n != "run"} for _ in names]
    opened = open_log(folder(tmp_path, [f"{n}.csv" for n in names], tables), REWARDS)
    assert "candidates of 2 values of 'file' are pooled" in " ".join(opened.warnings)


def test_files_whose_slates_start_anew_are_separated(tmp_path):
    tables = [
        {"slate": np.repeat(np.arange(20), K), "price": PRICE[20 * i : 20 * i + 20, 0].ravel(),
         "picked": (np.arange(K) == PICK[20 * i : 20 * i + 20, 0, None]).astype(int).ravel()}
        for i in range(3)
    ]  # fmt: skip
    read = open_slates(folder(tmp_path, ["anna.csv", "ben.csv", "carl.csv"], tables), Given())
    assert read.slates.sizes.tolist() == [K] * N
    np.testing.assert_array_equal(read.columns["price"][read.columns["result"] == 1], chosen())


@pytest.mark.parametrize("column", ["epoch", "round"])
def test_the_file_s_number_is_the_round_where_the_column_is_constant(column, tmp_path):
    tables = [samples(np.full((1, 10), 4)) | {column: 0} for _ in range(3)]
    source = folder(tmp_path, [f"step_{t}.csv" for t in (5, 10, 15)], tables)
    log = open_log(source, REWARDS).log
    assert sorted(set(log.column("round").tolist())) == [0, 1, 2]
    assert log.reward_matrix()[log.column("round") == 2].ravel() == pytest.approx(tables[2]["reward"])


def test_a_column_of_rounds_that_varies_is_preferred_to_the_file_s_number(tmp_path):
    tables = [samples(np.full((1, 10), 4)) | {"step": np.repeat([2 * t, 2 * t + 1], 20)} for t in range(2)]
    assert open_log(folder(tmp_path, ["epoch_0.csv", "epoch_1.csv"], tables), REWARDS).log.rounds() == [
        0,
        1,
        2,
        3,
    ]


def test_numbered_rewards_of_a_prompt_of_their_own_are_candidates():
    columns = {f"reward_{j}": RNG.normal(size=20) for j in range(4)} | {
        "prompt": [f"p{i}" for i in range(20)]
    }
    log = open_log(columns, REWARDS).log
    assert (log.rewards, log.table.num_rows) == (("reward",), 80)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["pass", "fail"], [1, 0]), (["Correct", "incorrect"], [1, 0]), (["85 %", "7,5 %"], [0.85, 0.075]),
        (["$2.50", "$4"], [2.5, 4]), (["3,5 €", "1 €"], [3.5, 1]),
    ],
)  # fmt: skip
def test_rewards_in_words_percents_and_money(words, values):
    table = {"prompt": np.repeat([f"p{i}" for i in range(20)], 4), "reward": words * 40}
    assert open_log(table, REWARDS).log.reward_matrix().ravel().tolist() == values * 40


@pytest.mark.parametrize(("yes", "no"), [("ja", "nein"), ("Oui", "Non"), ("sí", "no")])
def test_yes_and_no_of_other_languages(yes, no):
    flags = [yes if j == p else no for p in PICK[:, 0] for j in range(K)]
    columns = {"slate": np.repeat(np.arange(N), K), "price": PRICE[:, 0].ravel(), "picked": flags}
    np.testing.assert_array_equal(picked(columns), chosen())


@pytest.mark.parametrize("title", ["Export of May\n", "Study 7,,\n,,\n", '"Study 7"\nDate: 1 May, noon\n\n'])
def test_titles_above_the_header_are_left_out(title, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(title + "slate,price,picked\n1,2.5,1\n1,3.5,0\n2,1.5,0\n2,0.5,1\n")
    read = open_slates(str(path), Given())
    assert read.columns["price"].tolist() == [2.5, 3.5, 1.5, 0.5]
    assert "above the header" in " ".join(read.understood.notes)


def test_the_header_of_a_table_of_words_with_names_of_rows_is_no_title(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("slate,item,picked\nr1,s,elm,yes\nr2,s,oak,no\n")
    assert open_slates(str(path), Given()).columns["item"].tolist() == ["elm", "oak"]


@pytest.mark.parametrize("inner", ["|", ";", "\t"])
def test_separators_within_cells_are_no_columns(inner, tmp_path):
    """Every row but the header has three such characters, and every line two commas."""
    rows = [f"{i},{inner.join('abcd')},{'abcd'[i % 4]}" for i in range(30)]
    (tmp_path / "in.csv").write_text("\n".join(["scenario,alternatives,choice", *rows]) + "\n")
    found = source_of(tmp_path / "in.csv").read()
    assert found.column_names == ["scenario", "alternatives", "choice"]
    assert found.column("alternatives").to_pylist() == [inner.join("abcd")] * 30
