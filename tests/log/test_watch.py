"""The callback that writes the log of a TRL trainer: its logic with stand-ins, and the installed TRL."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections import defaultdict, deque
from types import SimpleNamespace as Simple

import numpy as np
import pyarrow.parquet as pq
import pytest

import recurate
from helpers import tiny_trl
from helpers.paths import ROOT
from recurate.core.errors import InputError
from recurate.log import parts
from recurate.log.watch import hashed

MAIN, OTHER = Simple(is_world_process_zero=True), Simple(is_world_process_zero=False)
needs_trl = pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="trl is not installed (pip install trl)"
)


class Trainer:
    """What a trainer with reward functions shows, and when it calls its callbacks."""

    def __init__(self, folder, names=("accuracy", "brevity"), weights=(1.0, 0.5), k=4, size=8):
        self.args = Simple(output_dir=str(folder))
        self.reward_func_names, self.reward_weights, self.num_generations = list(names), list(weights), k
        self.callback_handler = Simple(callbacks=[])
        self.state = Simple(global_step=0, is_world_process_zero=True)
        fresh = lambda: deque(maxlen=size)  # noqa: E731
        self._logs = {
            "prompt": fresh(),
            "completion": fresh(),
            "rewards": defaultdict(fresh),
            "advantages": fresh(),
        }

    def add_callback(self, callback):
        self.callback_handler.callbacks.append(callback)

    def remove_callback(self, callback):
        self.callback_handler.callbacks.remove(callback)

    def call(self, event):
        for callback in self.callback_handler.callbacks:
            getattr(callback, event)(self.args, self.state, None)

    def generate(self, rewards, prompts=("p", "q")):
        """Generate as many completions as each function, by name, has rewards."""
        count = len(next(iter(rewards.values())))
        repeated = [prompt for prompt in prompts for _ in range(self.num_generations)][:count]
        self._logs["prompt"].extend(repeated)
        self._logs["completion"].extend(f"{p} {i}" for i, p in enumerate(repeated))
        self._logs["advantages"].extend([0.25] * count)
        for name, values in rewards.items():
            self._logs["rewards"][name].extend([math.nan if v is None else float(str(v)) for v in values])

    def train(self, *steps):
        """Train a step for each generation; None: with the last one."""
        self.call("on_train_begin")
        for rewards in steps:
            if rewards is not None:
                self.generate(rewards)
            self.state.global_step += 1
            self.call("on_step_end")


ONE = {"accuracy": [1, 0, 0, 1, None, 0, 0, 0], "brevity": [0.5, 1, None, 2, None, 3, 4, 5]}
TWO = {"accuracy": [0, 0, 1, 0, 1, 1, 0, 0], "brevity": [1, 2, 3, 4, 5, 6, 7, 8]}


def rows_of(path):
    return recurate.read_log(path).table.to_pylist()


def test_a_generation_is_a_round_of_slates_with_the_sum_that_the_trainer_uses(tmp_path):
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer).path
    assert path == tmp_path / "recurate"
    trainer.train(ONE, TWO)
    rows = rows_of(path)
    assert [row["reward"] for row in rows[:7]] == [1.25, 0.5, 0, 2, 1.5, 2, 2.5]
    assert [row["slot"] for row in rows[:7]] == [0, 1, 2, 3, 1, 2, 3], "no function scored slot 0 of slate 1"
    assert [row["accuracy"] for row in rows[:4]] == [1, 0, 0, 1]
    assert [row["brevity"] for row in rows[:4]] == [0.5, 1, None, 2]
    assert [row["round"] for row in rows] == [0] * 7 + [1] * 8
    assert [row["step"] for row in rows] == [1] * 7 + [2] * 8
    assert [row["slate"] for row in rows[7:]] == [0] * 4 + [1] * 4
    assert {(row["context"], row["item"]) for row in rows[7:9]} == {("p", "p 0"), ("p", "p 1")}
    assert not any(row["picked"] for row in rows)
    facts = json.loads(pq.read_schema(path / "part-00000.parquet").metadata[b"recurate.trainer"])
    assert facts["weights"] == {"accuracy": 1.0, "brevity": 0.5}
    assert facts["num_generations"] == 4


def test_every_verb_reads_it_with_no_options(tmp_path):
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer).path
    trainer.train(ONE, TWO)
    for verb in (recurate.forecast, recurate.plan):
        assert verb(path).lead.startswith("rule: no picks are logged; best of 3 to 4 is assumed")
    measured = recurate.forecast(path).trajectory.values("mean_reward", source="measured")
    assert measured[1] == pytest.approx(0.5 * 4.5 + 3 / 8)
    assert "nothing was picked" in recurate.audit(path).lead


def test_what_is_used_again_is_logged_once_and_equal_values_are_a_new_generation(tmp_path):
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer).path
    trainer.train(TWO, None, TWO)
    assert [row["step"] for row in rows_of(path)] == [1] * 8 + [3] * 8
    assert [row["round"] for row in rows_of(path)] == [0] * 8 + [1] * 8


def test_generations_of_one_step_come_from_one_model(tmp_path):
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer).path
    trainer.call("on_train_begin")
    trainer.generate(TWO)
    trainer.call("on_substep_end")
    trainer.generate(TWO)
    trainer.state.global_step = 1
    trainer.call("on_step_end")
    assert [row["round"] for row in rows_of(path)] == [0] * 16
    assert [row["slate"] for row in rows_of(path)] == [i // 4 for i in range(16)]


def test_evaluations_are_not_logged(tmp_path):
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer).path
    trainer.train(TWO)
    trainer.generate({name: values[:4] for name, values in ONE.items()})
    trainer.call("on_evaluate")
    trainer.state.global_step = 2
    trainer.call("on_step_end")
    assert len(rows_of(path)) == 8


def test_a_resumed_training_replaces_the_steps_after_its_checkpoint(tmp_path):
    first = Trainer(tmp_path)
    path = recurate.watch(first).path
    first.train(ONE, TWO, TWO)
    (path / ".part-00000.parquet.partial").write_bytes(b"PAR1 torn")
    again = Trainer(tmp_path)
    recurate.watch(again)
    again.state.global_step = 1
    again.train(ONE)
    assert [(row["round"], row["step"]) for row in rows_of(path)] == [(0, 1)] * 7 + [(1, 2)] * 7
    fresh = Trainer(tmp_path)
    recurate.watch(fresh)
    with pytest.raises(InputError, match="begins at step 0"):
        fresh.train(ONE)
    assert len(rows_of(path)) == 14


def test_files_are_few_and_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 16)
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer).path
    trainer.train(*[TWO] * 5)
    assert [pq.read_metadata(p).num_rows for p in sorted(path.iterdir())] == [16, 16, 8]
    resumed = Trainer(tmp_path)
    recurate.watch(resumed)
    resumed.state.global_step = 1
    resumed.train(TWO, TWO)
    assert [pq.read_metadata(p).num_rows for p in sorted(path.iterdir())] == [16, 8]
    assert recurate.forecast(path, rounds=2).trajectory.values("mean_reward", source="measured").size == 3


def test_other_weights_are_recorded_beside_those_before(tmp_path):
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer).path
    trainer.train(TWO)
    trainer.reward_weights = [0.0, 1.0]
    trainer.train()
    trainer.generate(TWO)
    trainer.state.global_step = 2
    trainer.call("on_step_end")
    weights = [
        json.loads(pq.read_schema(p).metadata[b"recurate.trainer"])["weights"] for p in sorted(path.iterdir())
    ]
    assert weights == [{"accuracy": 1.0, "brevity": 0.5}, {"accuracy": 0.0, "brevity": 1.0}]
    assert [row["reward"] for row in rows_of(path)[8:]] == TWO["brevity"]


def test_only_the_main_process_writes(tmp_path):
    trainer = Trainer(tmp_path)
    trainer.state.is_world_process_zero = False
    path = recurate.watch(trainer).path
    trainer.train(ONE)
    assert not path.exists()


def test_hashes_and_conversations(tmp_path):
    trainer = Trainer(tmp_path)
    path = recurate.watch(trainer, tmp_path / "run.parquet", texts=False).path
    trainer.call("on_train_begin")
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
    ]
    trainer.generate(TWO, prompts=(prompt, "q"))
    trainer._logs["completion"][0] = [{"role": "assistant", "content": "4"}]
    trainer.state.global_step = 1
    trainer.call("on_step_end")
    row = rows_of(path)[0]
    assert row["context"] == "Be brief.\n2+2?"
    assert row["item"] == hashed("4")


def test_a_function_may_have_the_name_of_a_column(tmp_path):
    trainer = Trainer(tmp_path, names=("reward", "step"))
    path = recurate.watch(trainer).path
    trainer.train({"reward": TWO["accuracy"], "step": TWO["brevity"]})
    row = rows_of(path)[2]
    assert (row["reward"], row["reward_func"], row["step_func"], row["step"]) == (2.5, 1, 3, 1)
    assert recurate.forecast(path).trajectory.values("mean_reward")[0] == pytest.approx(2.625)


def test_a_second_call_replaces_the_first(tmp_path):
    trainer = Trainer(tmp_path)
    recurate.watch(trainer)
    path = recurate.watch(trainer).path
    trainer.train(TWO)
    assert len(trainer.callback_handler.callbacks) == 1
    assert len(rows_of(path)) == 8


def test_what_cannot_be_watched_is_said_before_training(tmp_path):
    with pytest.raises(InputError, match="needs a trainer of TRL"):
        recurate.watch(None)
    moved = Trainer(tmp_path)
    moved._logs = {"text": deque()}
    with pytest.raises(InputError, match=r"of TRL .*_logs lacks") as error:
        recurate.watch(moved)
    assert "1.16" in error.value.remedy
    with pytest.raises(InputError, match="same name"):
        recurate.watch(Trainer(tmp_path, names=("a", "a")))
    with pytest.raises(InputError, match="collide"):
        recurate.watch(Trainer(tmp_path, names=("step", "step_func")))
    with pytest.raises(InputError, match="scores candidates itself"):
        recurate.watch(Trainer(tmp_path), candidates=[])
    ragged = Trainer(tmp_path, k=3)
    recurate.watch(ragged)
    with pytest.raises(InputError, match="8 new rewards, 3 per prompt"):
        ragged.train(TWO)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else is there"):
        recurate.watch(Trainer(tmp_path), tmp_path)
    with pytest.raises(InputError, match="folder of Parquet files"):
        recurate.watch(Trainer(tmp_path), tmp_path / "run.jsonl")


# --- trainers on a dataset ------------------------------------------------------------------------

ROWS = [
    {"prompt": p, "completion": f"{p}{i}", "reward": float(i), "length": 2}
    for p in ("a", "b")
    for i in range(4)
]


def dataset_trainer(folder, data, eos="<e>"):
    return Simple(
        args=Simple(output_dir=str(folder), dataset_text_field="text"), train_dataset=data,
        processing_class=Simple(eos_token=eos), add_callback=lambda callback: None,
    )  # fmt: skip


def trained_on(folder, data, state=MAIN, **options):
    callback = recurate.watch(dataset_trainer(folder, data), **{"candidates": ROWS, **options})
    callback.on_train_end(None, state, None)
    return callback.path


DATA = {
    "prompt and completion": {"prompt": ["b", "a"], "completion": ["b3<e>", "a3<e>"]},
    "text": {"text": ["bb3<e>", "aa3<e>"]},
    "messages": {
        "messages": [
            [{"role": "user", "content": p}, {"role": "assistant", "content": f"{p}3"}] for p in ("a", "b")
        ]
    },
}


@pytest.mark.parametrize("form", DATA)
def test_the_rows_trained_on_are_the_picks(tmp_path, form):
    rows = rows_of(trained_on(tmp_path, DATA[form]))
    assert [row["picked"] for row in rows] == [False, False, False, True] * 2
    assert [row["slate"] for row in rows] == [0] * 4 + [1] * 4
    assert [row["slot"] for row in rows] == [0, 1, 2, 3] * 2
    assert [row["item"] for row in rows] == [row["completion"] for row in ROWS]
    assert {row["length"] for row in rows} == {2}


def test_rounds_follow_each_other_and_a_named_one_replaces(tmp_path):
    data = DATA["prompt and completion"]
    for _ in range(3):
        path = trained_on(tmp_path, data)
    assert [row["round"] for row in rows_of(path)] == [0] * 8 + [1] * 8 + [2] * 8
    trained_on(tmp_path, data, candidates=ROWS[:8], round=1)
    assert [row["round"] for row in rows_of(path)] == [0] * 8 + [1] * 8
    assert not trained_on(tmp_path / "other", data, state=OTHER).exists()


def test_other_rows_are_real_data(tmp_path):
    data = {"prompt": ["a", "c"], "completion": ["a3", "real"]}
    with pytest.warns(UserWarning, match="1 of the rows trained on are no candidates but real data"):
        path = trained_on(tmp_path / "one", data)
    assert len(rows_of(path)) == 8

    def size(prompts, completions):
        return [len(completion) for completion in completions]

    path = trained_on(
        tmp_path / "two",
        data,
        candidates=[{k: r[k] for k in ("prompt", "completion")} for r in ROWS],
        reward=size,
    )
    log = recurate.read_log(path, None)
    assert log.rewards == ("size",)
    real = log.select(source="real").table.to_pylist()
    assert [(row["context"], row["item"], row["size"], row["slate"]) for row in real] == [
        ("c", "real", 4.0, None)
    ]
    assert recurate.forecast(path).lead.startswith("rule: ")
    assert not recurate.audit(path).mismatches


def test_equal_candidates_are_picked_as_often_as_they_are_trained_on(tmp_path):
    rows = [{"prompt": "a", "completion": c, "reward": 1.0} for c in ("x", "x", "x", "y")]
    path = trained_on(tmp_path, {"prompt": ["a"] * 2, "completion": ["x"] * 2}, candidates=rows)
    assert recurate.audit(path).lead
    table = pq.read_table(path)
    assert table.column("picked").to_pylist() == [True, True, False, False]


def test_a_packed_dataset_needs_the_picks(tmp_path):
    data = {"input_ids": [[1, 2, 3]]}
    with pytest.raises(InputError, match="does not hold texts") as error:
        trained_on(tmp_path, data)
    assert "column picked" in error.value.remedy
    marked = [row | {"picked": row["reward"] == 2} for row in ROWS]
    path = trained_on(tmp_path, data, candidates=marked)
    assert [row["picked"] for row in rows_of(path)] == [False, False, True, False] * 2
    with pytest.raises(InputError, match="disagree about 4 candidates"):
        trained_on(tmp_path, DATA["text"], candidates=marked)


def test_wrong_candidates_are_refused_before_training(tmp_path):
    for data, options, match in (
        (DATA["text"], {"candidates": None}, "sees only what was picked"),
        (DATA["text"], {"candidates": [{"question": "a", "reward": 1.0}]}, "no column 'prompt'"),
        ({"text": ["other"]}, {}, "none of the rows"),
        (DATA["text"], {"reward": "length_"}, "no reward column 'length_'"),
        (DATA["text"], {"reward": lambda prompts, completions: [1.0]}, "one number per completion"),
        (None, {}, "neither reward functions nor a dataset"),
    ):
        with pytest.raises(InputError, match=match):
            recurate.watch(dataset_trainer(tmp_path, data), **{"candidates": ROWS, **options})


def test_other_rewards_need_another_folder(tmp_path):
    trained_on(tmp_path, DATA["text"])
    with pytest.raises(InputError, match="other columns"):
        trained_on(tmp_path, DATA["text"], reward="length")


# --- the installed TRL ----------------------------------------------------------------------------


class Spied:
    """A reward function that remembers what it returned."""

    def __init__(self, reward):
        self.reward, self.seen, self.__name__ = reward, {}, reward.__name__

    def __call__(self, completions, prompts, **more):
        values = self.reward(completions)
        self.seen |= {(p, c): v for p, c, v in zip(prompts, completions, values, strict=True)}
        return values


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize("second", [tiny_trl.vowels, tiny_trl.digits])
def test_grpo_is_logged_as_its_reward_functions_scored(tmp_path, second):
    first, second = Spied(tiny_trl.length), Spied(second)
    trainer = tiny_trl.grpo(
        tmp_path, [first, second], log_completions=True, logging_strategy="steps", logging_steps=1
    )
    path = recurate.watch(trainer).path
    trainer.train()
    rows = rows_of(path)
    assert [row["round"] for row in rows] == [0] * 8 + [1] * 8
    for row in rows:
        key = (row["context"], row["item"])
        value = second.seen[key]
        missing = value is None or math.isnan(value)
        assert row["length"] == first.seen[key]
        assert row[second.__name__] is None if missing else row[second.__name__] == pytest.approx(value)
        assert row["reward"] == pytest.approx(first.seen[key] + (0 if missing else 0.5 * value))
    assert any(row[second.__name__] is None for row in rows)
    own = [pq.read_table(p).to_pylist() for p in sorted((tmp_path / "completions").iterdir())][:2]
    for row, theirs in zip(rows, [row for table in own for row in table], strict=True):
        names = ("step", "advantage", "length")
        assert [row[n] for n in names] == [theirs[n] for n in names], "TRL's own table says the same"
        assert row["item"] == theirs["completion"]
    means = recurate.forecast(path).trajectory.values("mean_reward", source="measured")
    assert means == pytest.approx([np.mean([r["reward"] for r in rows if r["round"] == t]) for t in (0, 1)])
    assert recurate.audit(path).lead == "rule: not identified (nothing was picked)"
    assert recurate.plan(path).lead.startswith("rule: no picks are logged; best of 4")


@needs_trl
@pytest.mark.slow
def test_rloo_is_logged_likewise(tmp_path):
    trainer = tiny_trl.grpo(tmp_path, kind="RLOO", beta=0.0)
    path = recurate.watch(trainer).path
    trainer.train()
    rows = rows_of(path)
    assert [(row["round"], row["step"]) for row in rows] == [(0, 1)] * 8 + [(1, 2)] * 8
    assert [row["reward"] for row in rows] == [row["length"] + 0.5 * (row["vowels"] or 0) for row in rows]
    assert [row["length"] for row in rows] == [len(row["item"]) for row in rows]


KILLED = """
import os, sys
from pathlib import Path
import recurate
from helpers import tiny_trl
asked = []
def length(completions, **more):
    asked.append(1)
    if len(asked) == 4:
        os._exit(9)
    return tiny_trl.length(completions)
folder = Path(sys.argv[1])
trainer = tiny_trl.grpo(folder, [length, tiny_trl.vowels], max_steps=5, save_strategy="steps", save_steps=2)
recurate.watch(trainer)
trainer.train()
"""


@needs_trl
@pytest.mark.slow
def test_a_killed_grpo_training_is_continued_from_its_checkpoint(tmp_path):
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ | {"PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 9, done.stderr
    path = tmp_path / "recurate"
    before = rows_of(path)
    assert [row["step"] for row in before] == [1] * 8 + [2] * 8 + [3] * 8
    trainer = tiny_trl.grpo(tmp_path, max_steps=5, save_strategy="steps", save_steps=2)
    recurate.watch(trainer)
    trainer.train(resume_from_checkpoint=True)
    after = rows_of(path)
    assert [(row["round"], row["step"]) for row in after] == [(t, t + 1) for t in range(5) for _ in range(8)]
    assert after[:16] == before[:16]
    assert recurate.forecast(path).trajectory.values("mean_reward", source="measured").size == 5


@needs_trl
@pytest.mark.slow
def test_generations_used_for_several_steps_and_evaluations(tmp_path):
    options = {"max_steps": 4, "per_device_eval_batch_size": 4, "eval_strategy": "steps", "eval_steps": 1}
    trainer = tiny_trl.grpo(tmp_path, num_iterations=2, **options)
    path = recurate.watch(trainer, texts=False).path
    trainer.train()
    assert [(row["round"], row["step"]) for row in rows_of(path)] == [(0, 1)] * 8 + [(1, 3)] * 8


@needs_trl
@pytest.mark.slow
def test_best_of_four_with_sft_is_logged_and_read_as_that(tmp_path):
    model, means, picks = tiny_trl.model(), [], 0
    prompts = [f"say {i}" for i in range(12)]
    for t in range(3):
        rows = tiny_trl.sampled(model, prompts, 4)
        for number, row in enumerate(rows):
            row["reward"] = (
                tiny_trl.length([row["completion"]])[0]
                + sum(map(ord, row["completion"])) / 1000
                + number / 1e6
            )
        best = [max(rows[i : i + 4], key=lambda row: row["reward"]) for i in range(0, len(rows), 4)]
        trainer = tiny_trl.sft(
            tmp_path / str(t), model, [{k: r[k] for k in ("prompt", "completion")} for r in best]
        )
        callback = recurate.watch(trainer, tmp_path / "log", candidates=rows, round=t)
        trainer.train()
        model = trainer.model
        means.append(np.mean([row["reward"] for row in rows]))
        picks += len(best)
    log = recurate.read_log(callback.path)
    assert int(log.column("picked").sum()) == picks
    measured = recurate.forecast(callback.path).trajectory.values("mean_reward", source="measured")
    assert measured == pytest.approx(means)
    assert recurate.forecast(callback.path).lead.startswith("rule: picks follow best of 4")
    found = recurate.audit(callback.path)
    assert found.lead.startswith("rule: picks follow best of 4")
    assert not found.mismatches
