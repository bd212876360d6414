"""Variants of files that people may have: read as meant, or refused with the doubt; never misread."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from recurate.core.errors import InputError
from recurate.log.opening import open_log, open_slates
from recurate.log.reading.mapping import Given

RNG = np.random.default_rng(5)
NAMES = np.array(["ash", "elm", "fir", "oak", "yew"])
SHOWN = [RNG.permutation(NAMES)[:4].tolist() for _ in range(60)]
BEST = [int(p) for p in RNG.integers(0, 4, 60)]
WORST = [(p + 1 + int(x)) % 4 for p, x in zip(BEST, RNG.integers(0, 3, 60), strict=True)]
PAIRS = [s[:2] for s in SHOWN]
PICKS = [p % 2 for p in BEST]
AB = {"model_a": [s[0] for s in PAIRS], "model_b": [s[1] for s in PAIRS]}
FOUR = {f"item{j + 1}": [s[j] for s in SHOWN] for j in range(4)}
LONG = {"set": np.repeat(range(60), 4).tolist(), "item": [n for s in SHOWN for n in s]}
TWO = {"slate": np.repeat(range(60), 2).tolist(), "item": [n for s in PAIRS for n in s]}


def picked(columns, **given):
    """Return the items that were picked, and the result of each candidate, slate by slate."""
    found = open_slates(pa.table(columns), Given(given))
    parts = zip(found.slates.offsets[:-1], found.slates.offsets[1:], strict=True)
    return found, [
        {
            str(i): r
            for i, r in zip(found.columns["item"][a:b], found.columns["result"][a:b].tolist(), strict=True)
        }
        for a, b in parts
    ]


ONE_OF_TWO = [{s[p]: 1.0, s[1 - p]: 0.0} for s, p in zip(PAIRS, PICKS, strict=True)]
ONE_OF_FOUR = [{n: float(j == p) for j, n in enumerate(s)} for s, p in zip(SHOWN, BEST, strict=True)]
RANKED = [
    {n: 2.0 - (j == p) + (j == w) for j, n in enumerate(s)}
    for s, p, w in zip(SHOWN, BEST, WORST, strict=True)
]


@pytest.mark.parametrize(
    ("columns", "truth"),
    [
        (AB | {"winner": PICKS}, ONE_OF_TWO),
        (AB | {"winner": [p + 1 for p in PICKS]}, ONE_OF_TWO),
        (AB | {"winner": ["AB"[p] for p in PICKS]}, ONE_OF_TWO),
        (AB | {"winner": [s[p] for s, p in zip(PAIRS, PICKS, strict=True)]}, ONE_OF_TWO),
        (AB | {"anything": ["model_a" if p == 0 else "model_b" for p in PICKS]}, ONE_OF_TWO),
        ({"stimulus_left": AB["model_a"], "stimulus_right": AB["model_b"],
          "response": [("ArrowLeft", "ArrowRight")[p] for p in PICKS]}, ONE_OF_TWO),
        ({"模型_a": AB["model_a"], "模型_b": AB["model_b"], "胜者": ["模型_" + "ab"[p] for p in PICKS]},
         ONE_OF_TWO),
        (TWO | {"picked": [j == p for p in PICKS for j in (0, 1)]}, ONE_OF_TWO),
        (TWO | {"choice": [p + 1 for p in PICKS for _ in "ab"]}, ONE_OF_TWO),
        (TWO | {"slate": pa.array([2**63 + i for i in range(60) for _ in "ab"], pa.uint64()),
                "picked": [int(j == p) for p in PICKS for j in (0, 1)]}, ONE_OF_TWO),
        (TWO | {"slate": [f"{i:08x}-aaaa-4bbb-8ccc-{i:012x}" for i in range(60) for _ in "ab"],
                "picked": ["yes" if j == p else "no" for p in PICKS for j in (0, 1)]}, ONE_OF_TWO),
        (FOUR | {"choice": BEST}, ONE_OF_FOUR),
        (FOUR | {"choice": [p + 1 for p in BEST]}, ONE_OF_FOUR),
        (FOUR | {"best": [p + 1 for p in BEST], "worst": [w + 1 for w in WORST]}, RANKED),
        (FOUR | {"most": [s[p] for s, p in zip(SHOWN, BEST, strict=True)],
                 "least": [s[w] for s, w in zip(SHOWN, WORST, strict=True)]}, RANKED),
        (LONG | {"best": [int(j == p) for p in BEST for j in range(4)],
                 "worst": [int(j == w) for w in WORST for j in range(4)]}, RANKED),
        (LONG | {"choice": [(j == p) - (j == w) for p, w in zip(BEST, WORST,
         strict=True) for j in range(4)]}, RANKED),
        ({"responses": SHOWN, "best_index": BEST}, ONE_OF_FOUR),
        ({"responses": SHOWN, "best": [p + 1 for p in BEST]}, ONE_OF_FOUR),
        ({"responses": SHOWN, "chosen": [[j == p for j in range(4)] for p in BEST]}, ONE_OF_FOUR),
        ({"responses": SHOWN, "labels": [[int(j == p) for j in range(4)] for p in BEST]}, ONE_OF_FOUR),
        ({"responses": SHOWN, "chosen_idx": BEST}, ONE_OF_FOUR),
        (FOUR | {"selected_option": [p + 1 for p in BEST]}, ONE_OF_FOUR),
        (LONG | {"choice": [2 - (j == p) for p in BEST for j in range(4)]}, ONE_OF_FOUR),
        (LONG | {"choice": [1 + (j == p) for p in BEST for j in range(4)]}, ONE_OF_FOUR),
        (LONG | {"picked": [("out", "in")[j == p] for p in BEST for j in range(4)]}, ONE_OF_FOUR),
        (LONG | {"label": [("shown", "picked")[j == p] for p in BEST for j in range(4)]}, ONE_OF_FOUR),
        (TWO | {"choice": [("not chosen", "chosen")[j == p] for p in PICKS for j in (0, 1)]}, ONE_OF_TWO),
        (TWO | {"result": ["WL"[j != p] for p in PICKS for j in (0, 1)]}, ONE_OF_TWO),
        ({"white": AB["model_a"], "black": AB["model_b"], "result": [("1-0", "0-1")[p] for p in PICKS]},
         ONE_OF_TWO),
        ({"home": AB["model_a"], "away": AB["model_b"], "result": [("3:1", "0:2")[p] for p in PICKS]},
         ONE_OF_TWO),
        ({"item_a": AB["model_a"], "item_b": AB["model_b"], "a_wins": [1 - p for p in PICKS]}, ONE_OF_TWO),
        ({"item_a": AB["model_a"], "item_b": AB["model_b"], "prefers_b": [bool(p) for p in PICKS]},
         ONE_OF_TWO),
        ({"prompt": list(range(60)), "response_0": AB["model_a"], "response_1": AB["model_b"],
          "better_response_id": PICKS}, ONE_OF_TWO),
    ],
)  # fmt: skip
def test_picks_in_many_spellings(columns, truth):
    found, read = picked(columns)
    assert read == truth
    assert found.exclusions == ()


def test_shuffled_rows_are_the_same_slates():
    order = RNG.permutation(120)
    columns = TWO | {"picked": [int(j == p) for p in PICKS for j in (0, 1)]}
    shuffled = {n: [v[i] for i in order] for n, v in columns.items()}
    _, read = picked(shuffled)
    assert sorted(map(str, map(sorted, (r.items() for r in read)))) == sorted(
        map(str, map(sorted, (r.items() for r in ONE_OF_TWO)))
    )
    counted = {
        n: [v[i] for i in order] for n, v in (TWO | {"choice": [p + 1 for p in PICKS for _ in "ab"]}).items()
    }
    with pytest.raises(InputError, match="not together"):
        picked(counted)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (AB | {"preference": [-2, -1, 0, 1, 2] * 12}, "a scale between them"),
        (AB | {"preference": [1, 2, 3, 4, 5] * 12}, "a scale between them"),
        (AB | {"preference": [1, 2, 3] * 20}, "a scale between them"),
        (TWO | {"rank": [int(j != p) for p in PICKS for j in (0, 1)]}, "counted from 0"),
        ({"responses": SHOWN, "ranks": [[0, 1, 2, 3]] * 60}, "counted from 0"),
        ({"left": AB["model_a"], "right": AB["model_b"], "key": ["fj"[p] for p in PICKS]}, "--pick COLUMN"),
        (TWO | {"choice": [1 + (j == p) for p in PICKS for j in (0, 1)]}, "write yes for picked"),
        (LONG | {"label": [("old", "new")[j == p] for p in BEST for j in range(4)]}, "cannot be read"),
        ({"uid": list(range(60)), "A": ["[0.5,1]"] * 60, "B": ["[1,1]"] * 60}, "--rating A_rating_one"),
    ],
)
def test_doubts_are_named(columns, words):
    with pytest.raises(InputError) as found:
        picked(columns)
    assert words in str(found.value)
    assert max(map(len, str(found.value).splitlines())) < 400


def test_draws_both_bad_and_skips():
    votes = ["model_a", "tie", "both_bad", "skip", "model_b", ""] * 10
    found, read = picked(AB | {"winner": votes})
    assert len(read) == 40
    assert [sum(r.values()) for r in read] == [1, 2, 2, 1] * 10
    assert found.exclusions[0].slates == 20
    assert any("both bad" in n for n in found.notes)
    found, read = picked(AB | {"preference": [1.0, 2.0, 1.5, 1.0] * 15})
    assert [sum(r.values()) for r in read] == [1, 1, 2, 1] * 15
    assert any("1.5 are read as ties" in n for n in found.notes)


def test_columns_that_differ_in_a_number_are_votes():
    words = [("model_1", "model_2")[p] for p in PICKS]
    models = {"model_1": AB["model_a"], "model_2": AB["model_b"], "judge": ["gpt-4"] * 60}
    found, read = picked(models | {"g1_winner": words, "g2_winner": words[::-1]})
    assert (len(read), found.mapping.votes) == (120, ("g1_winner", "g2_winner"))
    votes = {"vote_1": ["ab"[p] for p in PICKS], "vote_2": ["ab"[1 - p] for p in PICKS]}
    votes |= {"vote_3": [None, "a"] * 30}
    found, read = picked({"text_a": AB["model_a"], "text_b": AB["model_b"]} | votes)
    assert (len(read), found.exclusions[0].slates) == (150, 30)


def test_numbered_tasks_of_a_respondent():
    shown = {f"T{t}_C{c}_price": RNG.integers(1, 9, 30).tolist() for t in range(1, 4) for c in range(1, 4)}
    chosen = {f"CBC_Random{t}": RNG.integers(1, 4, 30).tolist() for t in range(1, 4)}
    found = open_slates(pa.table({"sys_RespNum": list(range(1, 31))} | chosen | shown), Given())
    assert found.slates.sizes.tolist() == [3] * 90
    result, price = (found.columns[n].reshape(30, 3, 3) for n in ("result", "T_C_price"))
    for t in range(3):
        assert (result[:, t].argmax(axis=1) + 1).tolist() == chosen[f"CBC_Random{t + 1}"]
        assert price[:, t, 1].tolist() == shown[f"T{t + 1}_C2_price"]


def test_options_named_as_columns_of_ratings():
    scores = {n: RNG.integers(1, 6, 60).tolist() for n in NAMES}
    found = open_slates(
        pa.table({"uid": [f"s{i}" for i in range(60)], **scores}), Given(alternatives=tuple(NAMES))
    )
    used = found.columns["result"].reshape(-1, 5)
    assert found.columns["item"][:5].tolist() == NAMES.tolist()
    kept = {tuple(row) for row in np.column_stack(list(scores.values())).tolist() if len(set(row)) > 1}
    assert {tuple((-row).tolist()) for row in used} == kept
    cells = {"uid": list(range(60)), "A": ["[0.5,1]", "[1,0]"] * 30, "B": ["[1,0.5]", "[0,1]"] * 30}
    found = open_slates(pa.table(cells), Given({"rating": "A_rating_two"}))
    assert found.columns["result"][:4].tolist() == [-1, -0.5, 0, -1]


# --- logs -----------------------------------------------------------------------------------------

ROWS = [(t, p, j) for t in range(3) for p in range(8) for j in range(4)]
REWARD = [round(float(p + RNG.normal()), 3) for _, p, _ in ROWS]
BASE = {
    "step": [t for t, _, _ in ROWS], "prompt": [f"q{p}" for _, p, _ in ROWS],
    "completion": [f"c{t}{p}{j}" for t, p, j in ROWS], "reward": REWARD,
}  # fmt: skip
NO_PROMPT = {n: v for n, v in BASE.items() if n != "prompt"}


def cells(columns):
    opened = open_log(pa.table(columns), Given())
    table = opened.log.table.to_pydict()
    found: dict = {}
    for t, c, r in zip(table["round"], table["context"], table[opened.log.rewards[0]], strict=True):
        found.setdefault((t, c), []).append(r)
    return opened, found


@pytest.mark.parametrize(
    "columns",
    [
        BASE, BASE | {"reward": [str(r) for r in REWARD]}, BASE | {"step": [100.0 * t for t, _, _ in ROWS]},
        BASE | {"score": REWARD[::-1]}, BASE | {"reward_std": [0.1] * 96},
        BASE | {"reward_model": ["rm"] * 96},
        BASE | {"reward_a": [r / 4 for r in REWARD], "reward_b": [0.75 * r for r in REWARD]},
        NO_PROMPT | {"prompt_id": [f"{p:08x}-1111-4222" for _, p, _ in ROWS]},
        NO_PROMPT | {"prompt_id": pa.array([2**63 + p for _, p, _ in ROWS], pa.uint64())},
        BASE | {"prompt": ["solve it"] * 96, "problem_id": BASE["prompt"]},
        BASE | {"prompt": [str(i) for i in range(96)], "uid": BASE["prompt"]},
    ],
)  # fmt: skip
def test_rewards_of_prompts_and_steps(columns):
    opened, found = cells(columns)
    assert len(opened.log.rewards) == 1
    assert [v for _, v in sorted(found.items())] == [REWARD[i : i + 4] for i in range(0, 96, 4)]


def test_prompts_of_one_candidate_each_are_not_pooled_in_silence():
    rows = {"completion": [f"c{i}" for i in range(40)], "reward": REWARD[:40]}
    for name, values in (("prompt", [f"q{i}" for i in range(40)]), ("_ng_task_index", list(range(40)))):
        opened, _ = cells(rows | {name: values})
        assert any(w.startswith(f"each {name!r} has one candidate") for w in opened.warnings)
        none = open_log(pa.table(rows | {name: values}), Given({"context": "none"}))
        assert not any("one candidate" in w for w in none.warnings)
    assert not any("one candidate" in w for w in cells(BASE)[0].warnings)


BEST_OF_4 = [j == int(np.argmax(REWARD[4 * i : 4 * i + 4])) for i in range(24) for j in range(4)]


@pytest.mark.parametrize("name", ["kept", "is_selected", "chosen", "hit"])
def test_picks_of_a_log_are_read_or_named(name):
    opened, _ = cells(BASE | {name: BEST_OF_4})
    if name == "hit":
        assert any(w.startswith("'hit' marks 1 candidate of each prompt") for w in opened.warnings)
        assert not any("hit" in w for w in cells(BASE | {name: [i % 3 == 0 for i in range(96)]})[0].warnings)
        opened = open_log(pa.table(BASE | {name: BEST_OF_4}), Given({"pick": "hit"}))
        assert not any("hit" in w for w in opened.warnings)
    assert opened.log.column("picked").tolist() == BEST_OF_4


def test_a_rank_within_prompts_is_named():
    """Beside rewards a rank may also be that of a process, the same for all: that is nobody's."""
    ranks = [1 + (j + i) % 4 for i in range(24) for j in range(4)]
    opened, _ = cells(BASE | {"rank": ranks})
    assert any("--rank rank" in w for w in opened.warnings)
    assert not any("--rank" in w for w in cells(BASE | {"rank": [0, 1, 2, 3] * 24})[0].warnings)
    opened = open_log(pa.table(BASE | {"rank": ranks}), Given({"rank": "rank"}))
    assert opened.log.column("picked").tolist() == [r == 1 for r in ranks]


def test_picks_within_lists_of_candidates():
    rows = [
        {"prompt": f"q{i}", "candidates": [
            {"text": f"c{j}", "reward": REWARD[4 * i + j], "selected": BEST_OF_4[4 * i + j]} for j in range(4)
        ]}
        for i in range(24)
    ]  # fmt: skip
    opened = open_log(pa.Table.from_pylist(rows), Given())
    assert opened.log.reward_matrix()[:, 0].tolist() == REWARD
    assert opened.log.column("picked").tolist() == BEST_OF_4


def test_lists_written_as_texts():
    prompts = [f"q{p}" for p in range(8)]
    lists = [REWARD[4 * p : 4 * p + 4] for p in range(8)]
    texts = [[f"it's {p}", 'a "b" [c]', "", "d"] for p in range(8)]
    for write in (json.dumps, str):
        opened, found = cells(
            {"prompt": prompts, "responses": list(map(write, texts)), "scores": list(map(write, lists))}
        )
        assert [found[0, q] for q in prompts] == lists
        assert any("read as lists" in n for n in opened.understood.notes)
    tags = cells(BASE | {"tags": ["[1, 2]"] * 96})[0]
    assert tags.log.table.num_rows == 96


def test_a_step_that_counts_samples_is_no_round():
    opened, found = cells(BASE | {"step": list(range(96))})
    assert opened.log.rounds() == [0]
    assert {len(v) for v in found.values()} == {12}


def test_missing_rewards_are_counted():
    opened, _ = cells(BASE | {"reward": [str(r) if i % 10 else "n/a" for i, r in enumerate(REWARD)]})
    assert opened.warnings == ("10 candidates without a finite reward are left out",)
    opened, _ = cells(BASE | {"reward": [np.nan, np.inf, *REWARD[2:]]})
    assert opened.warnings == ("2 candidates without a finite reward are left out",)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"aufgabe": BASE["prompt"], "reward": REWARD}, "--context aufgabe"),
        ({"group_id": BASE["prompt"], "reward": REWARD}, "--context group_id"),
        (
            {"prompt": BASE["prompt"], "helpful_reward": REWARD, "length_reward": REWARD[::-1]},
            "--reward helpful_reward+",
        ),
        ({"prompt": BASE["prompt"], "advantage": REWARD}, "--reward COLUMN"),
    ],
)
def test_doubts_of_logs_are_named(columns, words):
    with pytest.raises(InputError) as found:
        cells(columns)
    assert words in str(found.value)
