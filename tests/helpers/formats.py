"""Small files in the layouts that tools write, each with the truth that its reading must recover."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ITEMS = ("ash", "elm", "fir", "oak", "yew")
WORTH = {"ash": 0.8, "elm": 0.2, "fir": -0.2, "oak": -0.6, "yew": 0.4}
DRAWN = 20261127


@dataclass(frozen=True)
class Truth:
    """What a file holds.

    Attributes:
        slates: For each slate its round, context and chooser ("" without), the candidates' names or texts,
            and the place of the pick (-1: a tie; None: no pick).
        rewards: The rewards of each slate's candidates, where the file has any.
        order: Whether the file keeps the candidates' order.
    """

    slates: tuple[Slate, ...]
    rewards: tuple[tuple[float, ...], ...] = ()
    order: bool = True


@dataclass(frozen=True)
class Slate:
    """One slate of the truth."""

    round: int
    context: str
    chooser: str
    items: tuple[str, ...]
    pick: int | None = None


# --- drawing and writing --------------------------------------------------------------------------


def rng() -> np.random.Generator:
    """Return the random numbers of a file, always the same."""
    return np.random.default_rng(DRAWN)


def samples(rounds: int = 3, prompts: int = 12, k: int = 4, first: int = 1) -> Truth:
    """Return prompts with k rewarded samples in each of some rounds; rewards grow by round."""
    draw, slates, rewards = rng(), [], []
    for t in range(first, first + rounds):
        for p in range(prompts):
            texts = tuple(f"answer {t}.{p}.{j}" for j in range(k))
            slates.append(Slate(t, f"question {p}", "", texts))
            rewards.append(tuple((0.1 * t + p + draw.normal(size=k)).round(3).tolist()))
    return Truth(tuple(slates), tuple(rewards))


def battles(count: int = 160, *, ties: float = 0.0, choosers: int = 5, k: int = 2) -> Truth:
    """Return slates of k items that choosers picked from, by their worth."""
    draw, slates = rng(), []
    for i in range(count):
        items = tuple(draw.choice(ITEMS, size=k, replace=False).tolist())
        pick = int(np.argmax([WORTH[n] + draw.gumbel() for n in items]))
        pick = -1 if draw.random() < ties else pick
        slates.append(Slate(0, f"question {i}", f"person {draw.integers(choosers)}", items, pick))
    return Truth(tuple(slates))


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as CSV, with the columns of the first."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def chat(prompt: str, answer: str = "") -> list[dict[str, str]]:
    """Return messages of a chat."""
    said = [{"role": "user", "content": prompt}]
    return [*said, {"role": "assistant", "content": answer}] if answer else said


def each(truth: Truth) -> list[tuple[Slate, int, str, float]]:
    """Return slate, place, text and reward of every candidate."""
    return [
        (slate, j, text, rewards[j])
        for slate, rewards in zip(truth.slates, truth.rewards, strict=True)
        for j, text in enumerate(slate.items)
    ]


def without_picks(truth: Truth) -> Truth:
    return replace(truth, slates=tuple(replace(s, pick=None) for s in truth.slates))


# --- trainers: rewards and no picks ---------------------------------------------------------------


def trl(folder: Path) -> tuple[Path, Truth]:
    """TRL's GRPO: one Parquet file a step, one column a reward function, and the advantage."""
    truth = samples()
    (folder / "completions").mkdir()
    for t in sorted({s.round for s in truth.slates}):
        rows = []
        for slate, rewards in zip(truth.slates, truth.rewards, strict=True):
            if slate.round == t:
                mean, spread = np.mean(rewards), np.std(rewards, ddof=1)
                rows += [
                    {"step": t, "prompt": slate.context, "completion": text, "helpful_reward": r - 0.25 * j,
                     "length_reward": 0.25 * j, "advantage": (r - mean) / (spread + 1e-4)}
                    for j, (text, r) in enumerate(zip(slate.items, rewards, strict=True))
                ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), folder / "completions" / f"completions_{t:05d}.parquet")
    return folder / "completions", truth


def verl(folder: Path) -> tuple[Path, Truth]:
    """verl: a folder with one ``{step}.jsonl`` a step."""
    truth = samples()
    (folder / "rollouts").mkdir()
    for t in sorted({s.round for s in truth.slates}):
        jsonl(folder / "rollouts" / f"{t}.jsonl", [
            {"input": s.context, "output": text, "gts": "g", "score": r, "step": t, "acc": r > 3,
             "request_id": f"{j}a"}
            for s, j, text, r in each(truth) if s.round == t
        ])  # fmt: skip
    return folder / "rollouts", truth


def nemo_rl(folder: Path) -> tuple[Path, Truth]:
    """NeMo-RL: ``train_data_step{N}.jsonl``; prompt and answer are one list, and the round is in the name."""
    truth = samples()
    (folder / "logs").mkdir()
    for t in sorted({s.round for s in truth.slates}):
        jsonl(folder / "logs" / f"train_data_step{t}.jsonl", [
            {"content": [s.context, text], "rewards": r, "token_ids": [1, 2], "token_loss_mask": [0, 1],
             "advantages": [r, r], "generation_logprobs": [-0.5, -0.1], "idx": i}
            for i, (s, _, text, r) in enumerate(c for c in each(truth) if c[0].round == t)
        ])  # fmt: skip
    return folder / "logs", truth


def nemo_gym(folder: Path) -> tuple[Path, Truth]:
    """NeMo Gym: rollouts with a task's and a rollout's index."""
    truth = samples(rounds=1, first=0)
    rows = [
        {"responses_create_params": {"input": chat(s.context)}, "response": {"output": chat(s.context, text)},
         "reward": r, "_ng_task_index": int(s.context.split()[1]), "_ng_rollout_index": j}
        for s, j, text, r in each(truth)
    ]  # fmt: skip
    own = tuple(replace(s, context=s.context.split()[1]) for s in truth.slates)
    return jsonl(folder / "aime_rollouts.jsonl", rows), replace(truth, slates=own)


def open_instruct(folder: Path) -> tuple[Path, Truth]:
    """open-instruct's GRPO: shards of rollouts; the prompt is an index."""
    truth = samples()
    rows = [
        {"step": s.round, "sample_idx": i, "prompt_idx": int(s.context.split()[1]), "prompt_tokens": [1, 2],
         "response_tokens": [3, i], "reward": r, "advantage": r - 1, "finish_reason": "stop",
         "dataset": "gsm",
         "ground_truth": "7", "request_info": {"num_calls": 0}, "logprobs": [-0.5, -0.1]}
        for i, (s, _, _, r) in enumerate(each(truth))
    ]  # fmt: skip
    own = tuple(replace(s, context=s.context.split()[1]) for s in truth.slates)
    return jsonl(folder / "run_rollouts_000000.jsonl", rows), replace(truth, slates=own)


def open_instruct_rs(folder: Path) -> tuple[Path, Truth]:
    """open-instruct's rejection sampling: one row a completion, messages and a score."""
    truth = samples(rounds=1, first=0)
    rows = [
        {"messages": chat(s.context, "reference"), "model_completion": text,
         "reference_completion": "reference",
         "score": r}
        for s, _, text, r in each(truth)
    ]  # fmt: skip
    return jsonl(folder / "completions_scores.jsonl", rows), truth


def openrlhf(folder: Path) -> tuple[Path, Truth]:
    """OpenRLHF: one row a sample."""
    truth = samples(rounds=1, first=0)
    rows = [{"input": s.context, "output": text, "reward": r} for s, _, text, r in each(truth)]
    return jsonl(folder / "samples.jsonl", rows), truth


def skyrl(folder: Path) -> tuple[Path, Truth]:
    """SkyRL: one row a sample, one file a data set."""
    truth = samples(rounds=1, first=0)
    rows = [
        {"input_prompt": s.context, "output_response": text, "score": r, "stop_reason": "stop",
         "env_class": "gsm8k", "data_source": "gsm8k"}
        for s, _, text, r in each(truth)
    ]  # fmt: skip
    return jsonl(folder / "gsm8k.jsonl", rows), truth


def rlhflow(folder: Path) -> tuple[Path, Truth]:
    """RLHFlow: one row a prompt, JSON lines called .json."""
    truth = samples(rounds=1, first=0)
    rows = [
        {"prompt": s.context, "responses": list(s.items), "rewards": list(r)}
        for s, r in zip(truth.slates, truth.rewards, strict=True)
    ]
    return jsonl(folder / "data_with_rewards.json", rows), truth


def simpo(folder: Path) -> tuple[Path, Truth]:
    """SimPO: a JSON array, all responses and scores, and the best and the worst as chats."""
    truth = samples(rounds=1, first=0, prompts=60)
    rows = [
        {"prompt": s.context, "all_generated_responses": list(s.items), "all_rm_scores": list(r),
         "chosen": chat(s.context, s.items[int(np.argmax(r))]),
         "rejected": chat(s.context, s.items[int(np.argmin(r))])}
        for s, r in zip(truth.slates, truth.rewards, strict=True)
    ]  # fmt: skip
    path = folder / "all_outputs_rm_bin.json"
    path.write_text(json.dumps(rows))
    return path, truth


def ultrafeedback(folder: Path) -> tuple[Path, Truth]:
    """UltraFeedback: ``completions`` is a list of structs."""
    truth = samples(rounds=1, first=0)
    rows = [
        {"source": "evol_instruct", "instruction": s.context, "models": [f"m{j}" for j in range(4)],
         "completions": [
             {"annotations": {"helpfulness": {"Rating": "4", "Rationale": "so"}},
              "custom_system_prompt": "be",
              "critique": "fine", "fine-grained_score": 4.25, "model": f"m{j}", "overall_score": x,
              "principle": "p",
              "response": text}
             for j, (text, x) in enumerate(zip(s.items, r, strict=True))],
         "correct_answers": ["None"], "incorrect_answers": ["None"]}
        for s, r in zip(truth.slates, truth.rewards, strict=True)
    ]  # fmt: skip
    return jsonl(folder / "ultrafeedback.jsonl", rows), truth


# --- pairs: chosen and rejected -------------------------------------------------------------------


def pairs(count: int = 120) -> Truth:
    """Return pairs of texts; the longer one is likelier to be chosen, which is listed first."""
    draw, slates, rewards = rng(), [], []
    for i in range(count):
        lengths = draw.integers(5, 60, size=2)
        while lengths[0] == lengths[1]:
            lengths = draw.integers(5, 60, size=2)
        first = int(np.argmax(lengths / 20 + draw.gumbel(size=2)))
        texts = tuple("y" * lengths[j] for j in (first, 1 - first))
        slates.append(Slate(0, f"question {i}", "", texts, 0))
        rewards.append(tuple((np.array([len(t) for t in texts]) / 10).tolist()))
    return Truth(tuple(slates), tuple(rewards), order=False)


def ultrafeedback_binarized(folder: Path) -> tuple[Path, Truth]:
    """UltraFeedback binarized: chats, and a score of each."""
    truth = pairs()
    rows = [
        {"prompt": s.context, "prompt_id": f"{i:064x}", "chosen": chat(s.context, s.items[0]),
         "rejected": chat(s.context, s.items[1]), "messages": chat(s.context, s.items[0]),
         "score_chosen": r[0],
         "score_rejected": r[1]}
        for i, (s, r) in enumerate(zip(truth.slates, truth.rewards, strict=True))
    ]  # fmt: skip
    path = folder / "train_prefs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path, truth


def hh_rlhf(folder: Path) -> tuple[Path, Truth]:
    """HH-RLHF: two dialogues as plain texts, which share all but the last answer."""
    truth = replace(pairs(), rewards=())
    start = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: {}\n\nAssistant:"
    rows = [
        {"chosen": f"{start.format(s.context)} {s.items[0]}",
         "rejected": f"{start.format(s.context)} {s.items[1]}"}
        for s in truth.slates
    ]  # fmt: skip
    own = tuple(replace(s, context=start.format(s.context)) for s in truth.slates)
    return jsonl(folder / "train.jsonl", rows), replace(truth, slates=own)


# --- battles and judgements -----------------------------------------------------------------------


def arena(folder: Path) -> tuple[Path, Truth]:
    """Chatbot arena: model_a, model_b, winner, conversations."""
    truth = battles(ties=0.2)
    words = {0: "model_a", 1: "model_b", -1: "tie"}
    rows = [
        {"question_id": f"{i:032x}", "model_a": s.items[0], "model_b": s.items[1],
         "winner": "tie (bothbad)" if s.pick == -1 and i % 2 else words[s.pick], "judge": s.chooser,
         "conversation_a": chat(s.context, f"a{i}"), "conversation_b": chat(s.context, f"b{i}"), "turn": 1,
         "anony": True, "language": "English", "tstamp": 1682351591.1322 + i}
        for i, s in enumerate(truth.slates)
    ]  # fmt: skip
    own = tuple(replace(s, context="") for s in truth.slates)
    return jsonl(folder / "arena.jsonl", rows), replace(truth, slates=own)


def arena_flags(folder: Path) -> tuple[Path, Truth]:
    """The arena's competition: one column of flags an outcome."""
    truth = battles(ties=0.2)
    rows = [
        {"id": 30192 + 7 * i, "model_a": s.items[0], "model_b": s.items[1], "prompt": s.context,
         "response_a": f"a{i}", "response_b": f"b{i}", "winner_model_a": int(s.pick == 0),
         "winner_model_b": int(s.pick == 1), "winner_tie": int(s.pick == -1)}
        for i, s in enumerate(truth.slates)
    ]  # fmt: skip
    own = tuple(replace(s, chooser="") for s in truth.slates)
    return table(folder / "train.csv", rows), replace(truth, slates=own)


def alpaca_eval(folder: Path) -> tuple[Path, Truth]:
    """AlpacaEval 1: preference 1 or 2."""
    return _alpaca(folder, [1.0, 2.0])


def _alpaca(folder: Path, codes: Sequence[float]) -> tuple[Path, Truth]:
    truth = battles(choosers=1)
    rows = [
        {"instruction": s.context, "output_1": f"a{i}", "generator_1": s.items[0], "dataset": "helpful_base",
         "output_2": f"b{i}", "generator_2": s.items[1], "annotator": s.chooser,
         "preference": codes[s.pick] if s.pick is not None else None, "price_per_example": 0.03,
         "time_per_example": 5.0}
        for i, s in enumerate(truth.slates)
    ]  # fmt: skip
    path = folder / "annotations.json"
    path.write_text(json.dumps(rows))
    return path, truth


def alpaca_eval_2(folder: Path) -> tuple[Path, Truth]:
    """AlpacaEval 2: preference is a number between 1 and 2, a soft label."""
    path, truth = _alpaca(folder, [1.0, 2.0])
    rows, draw = json.loads(path.read_text()), rng()
    for row in rows:
        row["preference"] = round(float(1 + (0.2 * draw.random() + 0.75 * (row["preference"] - 1))), 4)
    path.write_text(json.dumps(rows))
    return path, truth


def mt_bench(folder: Path) -> tuple[Path, Truth]:
    """MT-bench: a human's or a model's judgement of each turn."""
    truth = battles(ties=0.2)
    words = {0: "model_a", 1: "model_b", -1: "tie"}
    rows = [
        {"question_id": 81 + i // 2, "model_a": s.items[0], "model_b": s.items[1], "winner": words[s.pick],
         "judge": s.chooser, "conversation_a": chat(s.context, f"a{i}"),
         "conversation_b": chat(s.context, f"b{i}"),
         "turn": 1 + i % 2}
        for i, s in enumerate(truth.slates)
    ]  # fmt: skip
    own = tuple(replace(s, context="") for s in truth.slates)
    return jsonl(folder / "human.jsonl", rows), replace(truth, slates=own)


# --- tools of surveys and annotation --------------------------------------------------------------


def preflib(folder: Path) -> tuple[Path, Truth]:
    """PrefLib's orders: the number of voters, and their order of the alternatives."""
    draw = rng()
    lines = ["# FILE NAME: 00001-00000001.soc", "# DATA TYPE: soc", "# NUMBER ALTERNATIVES: 5"]
    lines += [f"# ALTERNATIVE NAME {i}: {name}" for i, name in enumerate(ITEMS, start=1)]
    slates = []
    for _ in range(60):
        order = sorted(range(5), key=lambda i: -(WORTH[ITEMS[i]] + draw.gumbel()))
        lines.append("2: " + ",".join(str(i + 1) for i in order))
        slates.append(Slate(0, "", "", tuple(ITEMS[i] for i in order), 0))
    path = folder / "00001-00000001.soc"
    path.write_text("\n".join(lines) + "\n")
    return path, Truth(tuple(slates), order=False)


def label_studio(folder: Path) -> tuple[Path, Truth]:
    """Label Studio: the pairwise template's JSON-MIN export."""
    truth = battles()
    rows = [
        {"text1": s.items[0], "text2": s.items[1], "id": i + 1, "pw": ("left", "right")[s.pick or 0],
         "annotator": int(s.chooser.split()[1]) + 1, "annotation_id": 700 + i,
         "created_at": f"2026-05-01T10:{i % 60:02d}:00.000000Z", "updated_at": "2026-05-01T11:00:00.000000Z",
         "lead_time": 4.5 + i}
        for i, s in enumerate(truth.slates)
    ]  # fmt: skip
    path = folder / "project-1-at-2026-05-01-12-00.json"
    path.write_text(json.dumps(rows))
    own = tuple(replace(s, context="", chooser=str(int(s.chooser.split()[1]) + 1)) for s in truth.slates)
    return path, replace(truth, slates=own)


def argilla(folder: Path) -> tuple[Path, Truth]:
    """Argilla: records with one list of responses a question, and of the users who gave them."""
    truth = battles()
    rows, slates = [], []
    for i in range(0, len(truth.slates), 2):
        one, two = truth.slates[i : i + 2]
        votes = [one.pick, two.pick]
        rows.append({
            "id": f"rec-{i}", "status": "completed", "_server_id": f"s-{i}", "prompt": one.context,
            "response1": one.items[0], "response2": one.items[1],
            "preference.responses": [f"response{(v or 0) + 1}" for v in votes],
            "preference.responses.users": ["u1", "u2"], "preference.responses.status": ["submitted",
            "submitted"],
            "preference.suggestion": "response1", "preference.suggestion.score": None,
            "preference.suggestion.agent": "gpt-4",
        })  # fmt: skip
        slates += [replace(one, chooser=u, pick=v) for u, v in zip(("u1", "u2"), votes, strict=True)]
    return jsonl(folder / "records.jsonl", rows), Truth(tuple(slates))


def jspsych(folder: Path) -> tuple[Path, Truth]:
    """jsPsych: one row a trial, instructions among them."""
    truth = battles()
    rows = [
        {"rt": 900 + 3 * i, "stimulus": f"<p>{s.items[0]} or {s.items[1]}?</p>", "response": s.pick,
         "trial_type": "html-button-response", "trial_index": 1 + i % 32, "plugin_version": "2.0.0",
         "time_elapsed": 5000 + 1000 * i, "participant": s.chooser, "left": s.items[0], "right": s.items[1]}
        for i, s in enumerate(truth.slates)
    ]  # fmt: skip
    hello = dict.fromkeys(rows[0], "") | {"rt": 400, "trial_type": "instructions", "trial_index": 0}
    own = tuple(replace(s, context="") for s in truth.slates)
    return table(folder / "data.csv", [hello, *rows]), replace(truth, slates=own)


def otree(folder: Path) -> tuple[Path, Truth]:
    """oTree: one app's rows, one a participant and round."""
    truth = battles()
    people = sorted({s.chooser for s in truth.slates})
    seen = dict.fromkeys(people, 0)
    rows = []
    for s in truth.slates:
        seen[s.chooser] += 1
        rows.append({
            "participant.id_in_session": people.index(s.chooser) + 1, "participant.code": s.chooser,
            "participant.label": "", "participant._is_bot": 0, "participant._index_in_pages": 12,
            "player.id_in_group": 1, "player.role": "", "player.payoff": 0, "player.left": s.items[0],
            "player.right": s.items[1], "player.choice": ("left", "right")[s.pick or 0],
            "group.id_in_subsession": 1, "subsession.round_number": seen[s.chooser], "session.code": "k7",
        })  # fmt: skip
    own, seen = [], dict.fromkeys(people, 0)
    for s in truth.slates:
        seen[s.chooser] += 1
        own.append(replace(s, context="", round=seen[s.chooser]))
    return table(folder / "choices_2026-05-01.csv", rows), replace(truth, slates=tuple(own))


def conjoint(count: int = 40, tasks: int = 6, k: int = 3) -> tuple[Truth, list[list[tuple[float, float]]]]:
    """Return a conjoint's slates, and the price and size of every profile."""
    draw, slates, profiles = rng(), [], []
    for p in range(count):
        for t in range(tasks):
            shown = [(float(draw.integers(1, 6)), float(draw.integers(1, 4))) for _ in range(k)]
            pick = int(np.argmax([-0.6 * a + 0.8 * b + draw.gumbel() for a, b in shown]))
            slates.append(Slate(t, "", f"R_{p}", tuple(f"{a:g}/{b:g}" for a, b in shown), pick))
            profiles.append(shown)
    return Truth(tuple(slates)), profiles


def qualtrics(folder: Path) -> tuple[Path, Truth]:
    """Qualtrics: one row a respondent, numbered columns, and three lines of headings."""
    truth, profiles = conjoint(k=2)
    rows: dict[str, dict[str, Any]] = {}
    for s, shown in zip(truth.slates, profiles, strict=True):
        row = rows.setdefault(s.chooser, {"ResponseId": s.chooser, "Finished": 1})
        t = s.round + 1
        row[f"C{t}"] = (s.pick or 0) + 1
        for j, (price, size) in enumerate(shown, start=1):
            row |= {f"F-{t}-{j}-1": price, f"F-{t}-{j}-2": size}
        row |= {f"F-{t}-1": "price", f"F-{t}-2": "size"}
    first = next(iter(rows.values()))
    asked = {n: f"question {n}" for n in first}
    imported = {n: json.dumps({"ImportId": n}) for n in first}
    return table(folder / "conjoint.csv", [asked, imported, *rows.values()]), truth


def fishing(folder: Path) -> tuple[Path, Truth]:
    """mlogit's Fishing: wide, one column an attribute and alternative."""
    names = ("beach", "boat", "charter", "pier")
    draw, rows, slates = rng(), [], []
    for i in range(200):
        price, catch = draw.uniform(10, 100, size=4).round(2), draw.uniform(0, 1, size=4).round(3)
        pick = int(np.argmax(-0.02 * price + catch + draw.gumbel(size=4)))
        rows.append(
            {"": i + 1, "mode": names[pick]}
            | {f"price.{n}": x for n, x in zip(names, price, strict=True)}
            | {f"catch.{n}": x for n, x in zip(names, catch, strict=True)}
            | {"income": float(draw.integers(1, 9)) * 1000}
        )
        slates.append(Slate(0, "", "", names, pick))
    return table(folder / "Fishing.csv", rows), Truth(tuple(slates))


def mlogit_long(folder: Path) -> tuple[Path, Truth]:
    """mlogit's long form: chid and alt, and the choice as a flag."""
    names = ("air", "bus", "car")
    draw, rows, slates = rng(), [], []
    for i in range(150):
        cost = draw.uniform(10, 100, size=3).round(1)
        pick = int(np.argmax(-0.03 * cost + draw.gumbel(size=3)))
        for j, name in enumerate(names):
            rows.append({"": f"{i + 1}.{name}", "chid": i + 1, "alt": name, "choice": str(j == pick).upper(),
                         "cost": cost[j], "income": 10 * (i % 7)})  # fmt: skip
        slates.append(Slate(0, "", "", names, pick))
    return table(folder / "TravelMode.csv", rows), Truth(tuple(slates))


Maker = Callable[[Path], tuple[Path, Truth]]
REWARDED: tuple[Maker, ...] = (
    trl, verl, nemo_rl, nemo_gym, open_instruct, open_instruct_rs, openrlhf, skyrl, rlhflow, simpo,
    ultrafeedback,
)  # fmt: skip
PAIRED: tuple[Maker, ...] = (ultrafeedback_binarized, hh_rlhf)
PICKED: tuple[Maker, ...] = (
    arena, arena_flags, alpaca_eval, mt_bench, preflib, label_studio, argilla, jspsych, otree, qualtrics,
    fishing,
    mlogit_long,
)  # fmt: skip
