"""Files that were once misread without a word: each is read as its owner means it, or the doubt is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

import recurate
from recurate.core.errors import InputError
from recurate.log.opening import open_log, open_slates
from recurate.log.reading.mapping import Given
from recurate.log.reading.sources import Source, open_source

REWARDS = Given(picks=False)


def samples(prompts=12, k=4, steps=3):
    """Return rows of K samples per prompt and step, whose rewards differ between prompts."""
    rng = np.random.default_rng(5)
    index = np.unravel_index(np.arange(steps * prompts * k), (steps, prompts, k))
    reward = (index[1] - prompts / 2) / 3 + rng.normal(size=index[0].size)
    return {"prompt": [f"p{i}" for i in index[1]], "reward": reward, "step": index[0]}


def rounds_of(table):
    return open_log(table, REWARDS).log.rounds()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("epoch", "epoch {}"), ("checkpoint", "checkpoint-{}00"), ("steps", "{}k"), ("round", "r{}"),
        ("train_step", "{}"), ("iteration", "{}/3"), ("global_step", "{},000"),
    ],
)  # fmt: skip
def test_steps_in_words(name, form):
    table = samples()
    table[name] = [form.format(t + 1) for t in table.pop("step")]
    assert len(rounds_of(table)) == 3


def test_a_step_that_varies_is_preferred_to_a_constant_round():
    table = samples()
    assert rounds_of(table | {"round": np.zeros(len(table["reward"]), int)}) == [0, 1, 2]


def test_fractions_of_epochs_are_rounds():
    table = samples()
    table["epoch"] = table.pop("step") / 2
    assert rounds_of(table) == [0, 1, 2]


@pytest.mark.parametrize("name", ["answer", "label", "verdict"])
def test_the_gold_answer_of_a_task_is_no_pick(name):
    table = samples()
    table[name] = np.array([int(p[1:]) % 2 for p in table["prompt"]])
    assert not open_log(table, REWARDS).log.column("picked").any()


def test_a_round_of_which_nothing_was_picked_leaves_the_rule_as_it_is():
    table = samples()
    reward, step = np.reshape(table["reward"], (-1, 4)), np.reshape(table["step"], (-1, 4))
    table["selected"] = ((reward == reward.max(axis=1, keepdims=True)) & (step < 2)).ravel()
    assert "picks follow best of 4 (the best was picked in all 24 slates)" in recurate.audit(table).lead


def test_the_user_s_turn_is_part_of_the_prompt():
    table = samples()
    table["prompt"] = [
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": p}] for p in table["prompt"]
    ]
    assert set(open_log(table, REWARDS).log.column("context")) == {f"be brief\np{i}" for i in range(12)}


def test_a_mean_of_the_prompt_is_no_reward():
    table = samples()
    table["reward"] = [float(p[1:]) for p in table["prompt"]]
    with pytest.raises(InputError, match="the same for all candidates of each prompt"):
        open_log(table, REWARDS)


def test_copies_and_several_models_are_named():
    table = samples(k=8)
    table["model"] = ["a", "b"] * (len(table["reward"]) // 2)
    warnings = " ".join(open_log(table, REWARDS).warnings)
    assert "candidates of 2 values of 'model' are pooled" in warnings
    table = samples()
    table["completion"] = [f"c{i}" for i in range(len(table["reward"]))]
    twice = {name: np.tile(np.asarray(values), 2) for name, values in table.items()}
    assert "repeat another exactly" in " ".join(open_log(twice, REWARDS).warnings)


def tasks(who="sys_RespNum"):
    """Return 10 people's answers to tasks 1 to 20, one of three picked, in long form."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 3))
    pick = (x + rng.gumbel(size=x.shape)).argmax(axis=1)
    return {
        who: np.repeat(np.arange(10), 60), "task": np.tile(np.repeat(np.arange(1, 21), 3), 10),
        "choice": (np.arange(3) == pick[:, None]).astype(int).ravel(), "price": x.ravel(),
    }  # fmt: skip


def test_tasks_that_start_anew_for_each_person_are_separated():
    for who in ("sys_RespNum", "wer"):
        found = open_slates(tasks(who), Given())
        assert found.slates.sizes.tolist() == [3] * 200
    merged = tasks()
    del merged["sys_RespNum"]
    with pytest.raises(InputError, match="lie apart in the file") as caught:
        open_slates(merged, Given())
    assert "--chooser COLUMN" in caught.value.remedy


def test_keys_hold_in_the_whole_table_not_only_in_its_head():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(2400, 3))
    table = {
        "subject": np.repeat([0, 1], 3600), "trial": np.tile(np.repeat(np.arange(1200), 3), 2),
        "chosen": (np.arange(3) == x.argmax(axis=1)[:, None]).astype(int).ravel(), "x": x.ravel(),
    }  # fmt: skip
    assert len(open_slates(table, Given()).slates) == 2400


def test_a_large_table_keeps_what_its_rewards_and_keys_need(monkeypatch):
    """Beyond the head only the needed columns are read; numbers as text and keys are among them."""
    asked = []
    whole = Source.read
    monkeypatch.setattr(Source, "read", lambda s, columns=None: asked.append(columns) or whole(s, columns))
    people, each = 40, 200
    rng = np.random.default_rng(9)
    reward = rng.normal(size=(people * each, 3))
    table = {
        "wer": np.repeat([f"w{i}" for i in range(people)], 3 * each),
        "task": np.tile(np.repeat(np.arange(each), 3), people),
        "chosen": (np.arange(3) == reward.argmax(axis=1)[:, None]).astype(int).ravel(),
        "reward": [f"{r:.6f}" for r in reward.ravel()], "text": ["x" * 50] * reward.size,
    }  # fmt: skip
    log = open_log(table, REWARDS).log
    assert [set(columns) for columns in asked] == [{"wer", "task", "chosen", "reward"}]
    assert log.slate_sizes().tolist() == [3] * people * each
    assert log.reward_matrix().ravel() == pytest.approx(reward.ravel(), abs=1e-6)


@pytest.mark.parametrize(
    "table",
    [
        {"score_1": [1.0, 2.0], "score_2": [2.0, 1.0], "preference": [1.25, 1.75]},
        {"winner_reward": [1.0, 2.0], "loser_reward": [0.0, 1.0], "winner": ["a", "b"],
         "loser": ["b", "c"], "count": [3, 1]},
    ],
)  # fmt: skip
def test_picks_that_count_in_part_or_several_times_are_no_log(table):
    many = {name: values * 20 for name, values in table.items()}
    with pytest.raises(InputError, match="count several times or in part") as caught:
        open_log(many, REWARDS)
    assert "--pick none" in caught.value.remedy


def test_a_reward_that_is_no_sum_of_columns_is_refused():
    table = samples() | {"b": np.zeros(144)}
    assert open_log(table, Given(rewards=("reward+2*b",), picks=False)).log.rewards == ("reward+2*b",)
    with pytest.raises(InputError, match="'b' is not a number in --reward"):
        open_log(table, Given(rewards=("b*reward+b",), picks=False))


def test_sums_of_rewards_are_not_pooled_over_what_may_be_the_prompt():
    table = samples(k=12)
    table["frage"] = table.pop("prompt")
    table["b"] = np.random.default_rng(1).normal(size=432)
    with pytest.raises(InputError, match="rewards depend on 'frage'"):
        open_log(table, Given(rewards=("reward+b",), picks=False))


def test_lists_without_prompts_whose_rewards_depend_on_the_row_are_asked_about():
    rng = np.random.default_rng(2)
    lists = {"rewards": [(3 * rng.normal() + rng.normal(size=4)).tolist() for _ in range(50)]}
    with pytest.raises(InputError, match="rewards depend on the slate"):
        open_log(lists, REWARDS)
    assert open_log(lists, Given({"context": "none"}, picks=False)).log.table.num_rows == 200


def test_prompts_below_merged_cells_are_asked_about():
    table = samples()
    table["prompt"] = [p if i % 4 == 0 else "" for i, p in enumerate(table["prompt"])]
    with pytest.raises(InputError, match="the context 'prompt' is empty in 108 of 144 rows"):
        open_log(table, REWARDS)


def test_failures_logged_as_minus_one_are_named():
    table = samples()
    table["reward"] = np.where(np.arange(144) % 9, np.linspace(0, 1, 144), -1.0)
    assert "16 rewards 'reward' are -1" in " ".join(open_log(table, REWARDS).warnings)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (Given(alternatives=("a", "q")), "no column of alternative 'q'"),
        (Given(places_from=1), "--places-from has no effect"),
        (Given({"pick": "none"}, picks=False, places_from=0), "--places-from has no effect"),
    ],
)
def test_options_that_do_nothing_are_refused(given, what):
    table = {
        "slate": np.repeat(np.arange(18), 2),
        "x_a": [1.0, 2.0] * 18,
        "reward": [1.0, 2.0] * 18,
        "picked": [1, 0] * 18,
    }
    with pytest.raises(InputError, match=what):
        (open_slates if given.picks else open_log)(table, given)


def test_a_log_of_one_s_own_obeys_named_columns():
    """Roles that the user names are not ignored because recurate wrote the log."""
    log = open_log(samples(), REWARDS).log
    assert log.rounds() == [0, 1, 2]
    moved = log.table.append_column("cycle", [[0] * 72 + [1] * 72])
    assert open_log(moved, Given({"round": "cycle"}, picks=False)).log.rounds() == [0, 1]


PAIRS = {"model_a": list("xyzxyzxyzxyz"), "model_b": list("yzxyzxyzxyzx")}


@pytest.mark.parametrize(
    ("picks", "what", "got"),
    [
        ({"loser": ["model_a", "model_b"] * 6}, "needs a column of picks", "loser"),
        ({"preference": [-1, 1] * 6}, "can be read in two ways", "-1 and 1"),
        ({"result": ["W", "L"] * 6}, "no slate can be used", "cannot be read"),
    ],
)
def test_what_may_name_the_loser_or_either_side_is_refused(picks, what, got):
    with pytest.raises(InputError, match=what) as caught:
        open_slates(PAIRS | picks, Given())
    assert got in caught.value.got


def test_codes_follow_the_alphabet_of_the_alternatives():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(50, 3))
    table = {f"x_{a}": x[:, "ABC".index(a)] for a in "BAC"} | {"choice": x.argmax(axis=1) + 1}
    found = open_slates(table, Given())
    best = np.array([row[0] for row in np.split(found.numbers("x"), 50)])
    assert len(best) == 50
    picked = found.columns["result"] == 1
    np.testing.assert_array_equal(found.numbers("x")[picked], x.max(axis=1))


# --- what a second reading found ----------------------------------------------------------------------


def rewards_in(tmp_path, values, name="a.jsonl", **more):
    """Return a file of prompts of four with these rewards, again and again."""
    rows = [
        {"prompt": f"p{i}", "reward": value, **{k: v[i % len(v)] for k, v in more.items()}}
        for i in range(20)
        for value in values
    ]
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["$9.50", "2", "3", "1"], "$9.50"),
        (["85 %", "0.9", "0.2", "0.5"], "85 %"),
        (["1.234 €", "999 €", "2.500 €", "850 €"], "1.234 €"),
        (["1_000", "2", "3", "4"], "1_000"),
    ],
)
def test_rewards_that_cannot_be_read_are_shown_and_not_left_out(tmp_path, values, shown):
    with pytest.raises(InputError, match=r"must hold numbers|not read as numbers") as caught:
        open_log(rewards_in(tmp_path, values), Given())
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["4,5", "2", "3", "1"], [4.5, 2, 3, 1]),
        (["9.50 €", "999 €", "2.500 €", "8.25 €"], [9.5, 999, 2.5, 8.25]),
        (["7,5 %", "85 %", "1 %", "0 %"], [0.075, 0.85, 0.01, 0]),
    ],
)
def test_rewards_with_decimal_commas_and_units(tmp_path, values, numbers):
    found = open_log(rewards_in(tmp_path, values), Given()).log
    assert found.column("reward").tolist() == pytest.approx(numbers * 20)


def test_rounds_that_differ_are_not_merged(tmp_path):
    path = rewards_in(tmp_path, [1.0, 2.0], day=["2026-05-01", "2026-05-02"])
    with pytest.raises(InputError, match="would have the same number") as caught:
        open_log(path, Given({"round": "day"}))
    assert "'2026-05-01' and '2026-05-02'" in str(caught.value)
    steps = rewards_in(tmp_path, [1.0, 2.0], name="b.jsonl", day=["step 100", "step-200"])
    assert open_log(steps, Given({"round": "day"})).log.rounds() == [0, 1]


def test_a_decimal_comma_may_come_late(tmp_path):
    """Its column tells the marks of all: 1.380 is a thousand there, wherever the first comma stands."""
    early = ["1,5;1.380;p0"] * 40_000
    late = ["1;1.380;p0"] * 40_000 + ["1,5;2.500;p1"] * 4
    for rows, last in ((early, 1380.0), (late, 2500.0)):
        (tmp_path / "a.csv").write_text("\n".join(["x;reward;prompt", *rows]) + "\n")
        read = open_source(tmp_path / "a.csv").read(["reward", "prompt"])
        assert read.column("reward").to_pylist()[-1] == last
        assert read.column("reward").to_pylist()[0] == 1380.0


def test_what_was_done_to_values_of_small_files_is_noted(tmp_path):
    rows = [f"p{i // 4},{i % 7}" for i in range(400)]
    rows[8] = "p2,many"
    (tmp_path / "a.csv").write_text("\n".join(["prompt,reward", *rows]) + "\n")
    notes = " ".join(open_log(tmp_path / "a.csv", Given()).understood.notes)
    assert "many" in notes


def test_a_files_round_is_looked_for_in_all_its_rows(tmp_path):
    (tmp_path / "steps").mkdir()
    for step in (1, 2):
        rows = [f"p{i % 300},{t},{i % 7 + t}" for t in (0, 1) for i in range(1200)]
        (tmp_path / "steps" / f"step_{step}.csv").write_text("\n".join(["prompt,round,reward", *rows]) + "\n")
    found = open_log(tmp_path / "steps", Given())
    assert found.log.rounds() == [0, 1]
    assert not any("in the file's name" in note for note in found.understood.notes)


def test_slates_of_one_row_are_refused_where_picks_are_logged(tmp_path):
    rows = [f"t{i},{i % 5},{(3 * i) % 7},{i % 2 + 1}" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["task,reward_1,reward_2,choice", *rows]) + "\n")
    with pytest.raises(InputError, match="one row"):
        open_log(tmp_path / "a.csv", Given({"slate": "task"}))


def test_a_survey_whose_later_rows_are_none_is_not_cut(tmp_path):
    rows = [f"{i % 5},{i % 3},{i % 7},{i % 2},{i % 2 + 1},{(i + 1) % 2 + 1}" for i in range(20_100)]
    rows[-1] = "1,2,3,4,1,99"
    header = "reward_t1_a1,reward_t1_a2,reward_t2_a1,reward_t2_a2,zz_1,zz_2"
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(InputError, match="later rows are not"):
        open_log(tmp_path / "a.csv", Given({"context": "none"}))


def test_one_alternative_is_none(tmp_path):
    path = rewards_in(tmp_path, [1.0, 2.0])
    with pytest.raises(InputError, match="two or more alternatives"):
        open_log(path, Given(alternatives=("reward",)))


def test_brackets_in_texts_are_no_nesting(tmp_path):
    """A model that repeats itself writes 600 of them; a row that nests so deeply is refused."""
    rows = [
        {"prompt": f"p{i}", "completion": "[" * 600 + '\\"', "reward": i % 3}
        for i in range(8)
        for _ in range(2)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert open_source(tmp_path / "a.jsonl").read().num_rows == 16
    (tmp_path / "b.jsonl").write_text('{"a": ' + "[" * 600 + "]" * 600 + "}\n")
    with pytest.raises(InputError, match="nested too deeply"):
        open_source(tmp_path / "b.jsonl").read()
