"""The files that tools leave are read as their owners mean them, with no options, by every verb."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import recurate
from helpers import formats
from helpers.formats import PAIRED, PICKED, REWARDED, Slate, Truth
from helpers.paths import ROOT
from recurate.core.errors import InputError
from recurate.log.opening import open_log
from recurate.log.reading.mapping import Given
from recurate.log.schema import Log

pytestmark = pytest.mark.usefixtures("few_replicates")

TOOLS = [*REWARDED, *PAIRED, *PICKED, formats.alpaca_eval_2]


def name(maker) -> str:
    return maker.__name__


# --- the truth, from a log and from choices -------------------------------------------------------


def logged(log: Log) -> dict[tuple[int, str], list[list[float]]]:
    """Return the rewards (sorted) of each slate by round and context."""
    columns = log.table.to_pydict()
    reward = columns[log.rewards[0]]
    found: dict[tuple[int, str], list[float]] = {}
    for t, context, r in zip(columns["round"], columns["context"], reward, strict=True):
        found.setdefault((t, context), []).append(round(r, 9))
    return {c: sorted(r) for c, r in found.items()}


def rewarded(truth: Truth) -> dict[tuple[int, str], list[float]]:
    return {
        (s.round, s.context): sorted(round(r, 9) for r in rewards)
        for s, rewards in zip(truth.slates, truth.rewards, strict=True)
    }


def picked(reading) -> list[tuple[str, str, frozenset[tuple[str, bool]]]]:
    """Return context, chooser, and the items with whether they were picked, of every slate that was read."""
    table, offsets = reading.table, reading.slates.offsets
    result = []
    for low, high in itertools.pairwise(offsets):
        part = {n: v[low:high] for n, v in table.items()}
        items = part["item"] if "item" in part else part["text"]
        result.append((
            str(part["context"][0]) if "context" in part else "",
            str(part["chooser"][0]) if "chooser" in part else "",
            frozenset(zip(map(str, items), (part["result"] == 1).tolist(), strict=True)),
        ))  # fmt: skip
    return result


def meant(truth: Truth) -> list[tuple[str, str, frozenset[tuple[str, bool]]]]:
    return [
        (s.context, s.chooser, frozenset((n, s.pick in (j, -1)) for j, n in enumerate(s.items)))
        for s in truth.slates
    ]


def refused(found: pytest.ExceptionInfo[InputError], *words: str) -> None:
    """Check that an error names what was found and what to do, each in a line."""
    text = str(found.value)
    for word in words:
        assert word in text, text
    assert max(map(len, text.splitlines())) < 500
    assert "remedy:" in text


# --- trainers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", REWARDED, ids=name)
def test_rewards_of_trainers_are_forecast_planned_and_audited(make, tmp_path):
    source, truth = make(tmp_path)
    found = recurate.forecast(str(source), rounds=2)
    log = found.opened.log
    assert logged(log) == rewarded(truth)
    first = min(s.round for s in truth.slates)
    mean = np.mean([r for s, r in zip(truth.slates, truth.rewards, strict=True) if s.round == first])
    assert found.trajectory.values("mean_reward")[0] == pytest.approx(mean)
    assert "best of 4" in found.ruling.statement
    planned = recurate.plan(str(source), rounds=2, k=[2], real_fraction=[0.0])
    assert planned.log_k == 4
    audited = recurate.audit(str(source))
    assert logged(audited.opened.log) == rewarded(truth)


@pytest.mark.parametrize("make", [m for m in REWARDED if m is not formats.simpo], ids=name)
def test_a_fit_of_rewards_without_picks_says_what_reads_them(make, tmp_path):
    source, _ = make(tmp_path)
    with pytest.raises(InputError) as found:
        recurate.fit(str(source))
    refused(found, "holds rewards", "no picks", "recurate forecast", "--pick")


def test_simpo_names_the_best_of_its_list(tmp_path):
    source, truth = formats.simpo(tmp_path)
    found = recurate.fit(str(source))
    best = tuple(
        Slate(0, s.context, "", s.items, int(np.argmax(r)))
        for s, r in zip(truth.slates, truth.rewards, strict=True)
    )
    assert picked(found.reading) == meant(Truth(best))
    assert "best of" in found.verdict.sentence.lower()
    assert "follow best of 4" in recurate.forecast(str(source), rounds=1).ruling.statement


# --- pairs ----------------------------------------------------------------------------------------


def test_ultrafeedback_binarized(tmp_path):
    source, truth = formats.ultrafeedback_binarized(tmp_path)
    found = recurate.fit(str(source))
    assert picked(found.reading) == meant(truth)
    rewards = found.reading.table["score"].reshape(-1, 2)
    assert rewards.tolist() == [list(r) for r in truth.rewards]
    forecast = recurate.forecast(str(source), rounds=1)
    assert logged(forecast.opened.log) == rewarded(truth)
    assert any("best and the worst of larger sets" in w for w in forecast.warnings)


def test_hh_rlhf(tmp_path):
    source, truth = formats.hh_rlhf(tmp_path)
    found = recurate.fit(str(source), feature="characters:text")
    assert picked(found.reading) == meant(truth)
    lengths = [[len(t) / 100 for t in s.items] for s in truth.slates]
    assert found.reading.matrix.reshape(-1, 2).tolist() == lengths
    with pytest.raises(InputError) as refusal:
        recurate.fit(str(source))
    refused(refusal, "nothing describes the candidates", "--feature characters:text")
    with pytest.raises(InputError) as refusal:
        recurate.forecast(str(source))
    refused(refusal, "no column of rewards", "recurate fit")


# --- picks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [m for m in PICKED if m is not formats.preflib], ids=name)
def test_picks_are_those_that_were_made(make, tmp_path):
    source, truth = make(tmp_path)
    found = recurate.fit(str(source))
    reading = found.reading
    assert len(reading.slates) == len(truth.slates)
    if make in (formats.qualtrics,):  # profiles have no names
        price, size = (reading.table[n].astype(float) for n in ("price", "size"))
        reading.table["item"] = np.array([f"{a:g}/{b:g}" for a, b in zip(price, size, strict=True)], object)
    one, two = Counter(picked(reading)), Counter(meant(truth))
    assert one == two
    if "slot" in reading.table and make is not formats.mlogit_long:
        shown = np.array([n for s in truth.slates for n in s.items])
        if reading.table.get("time") is None:
            assert reading.table["item"].astype(str).tolist() == shown.tolist()
    with pytest.raises(InputError) as refusal:
        recurate.forecast(str(source))
    refused(refusal, "no column of rewards", "recurate fit")


def test_preflib_rankings(tmp_path):
    source, truth = formats.preflib(tmp_path)
    reading = recurate.fit(str(source)).reading
    assert len(reading.slates) == 60
    items = reading.table["item"].reshape(-1, 5)
    ranks = reading.table["result"].reshape(-1, 5)
    assert [tuple(row) for row in items.tolist()] == [s.items for s in truth.slates]
    assert (ranks == np.arange(1, 6)).all()
    assert (reading.table["weight"] == 2).all()


def test_soft_labels_are_fractional_votes(tmp_path):
    source, truth = formats.alpaca_eval_2(tmp_path)
    found = recurate.fit(str(source))
    table = found.reading.table
    votes = {}
    for context, item, result, weight in zip(
        table["context"], table["item"], table["result"], table["weight"], strict=True
    ):
        votes[context, item] = votes.get((context, item), 0) + result * weight
    for s in truth.slates:
        assert sum(votes.get((s.context, n), 0) for n in s.items) == pytest.approx(1)
        assert votes[s.context, s.items[s.pick]] > 0.5


# --- files that were misread once -----------------------------------------------------------------

CASES = ROOT / "tests" / "data" / "cases"


def case(number: int) -> str:
    return str(next((CASES / "reading" / f"{number:02d}").iterdir()))


def fit(path: str, **options):
    return recurate.fit(path, **options)


LAYOUTS = [  # file, rounds, prompts, samples of a prompt and round
    ("nemo", 3, 2, 8), ("verl_rollouts", 3, 2, 8), ("trl", 3, 4, 8), ("openinstruct", 3, 4, 8),
    ("completions_scores.jsonl", 1, 12, 3), ("rlhflow_rewards.jsonl", 1, 16, 8), ("simpo_bestworst.json",
     1, 16, 8),
]  # fmt: skip


@pytest.mark.parametrize(("file", "rounds", "prompts", "k"), LAYOUTS, ids=[f for f, *_ in LAYOUTS])
def test_layouts_are_forecast_planned_and_audited(file, rounds, prompts, k):
    path = str(CASES / "layouts" / file)
    found = recurate.forecast(path, rounds=1)
    table = found.opened.log.table.to_pydict()
    cells = Counter(zip(table["round"], table["context"], strict=True))
    assert set(cells.values()) == {k}
    assert {t for t, _ in cells} == (set(range(1, rounds + 1)) if rounds > 1 else {0})
    assert len({c for _, c in cells}) == prompts
    assert recurate.plan(path, rounds=1, k=[2], real_fraction=[0.0]).log_k == k
    assert recurate.audit(path).opened.log.rewards == found.opened.log.rewards


def test_01_cells_with_line_breaks_beyond_one_block(tmp_path):
    cell = '"' + "first line\nsecond line, with a comma\n" * 8000 + '"'
    rows = [f"{i // 2},{int(i % 2 == 0)},{0.1 * i},{cell}" for i in range(6)]
    path = tmp_path / "in.csv"
    path.write_text("slate,picked,reward,text\n" + "\n".join(rows) + "\n")
    assert path.stat().st_size > 1_000_000
    log = open_log(str(path), Given()).log
    assert log.table.num_rows == 6
    assert log.table.column("reward").to_pylist() == pytest.approx([0.1 * i for i in range(6)])


def test_02_numbers_as_ids():
    reading = fit(case(2)).reading
    assert (len(reading.slates), reading.facts["choosers"].split(",")[0], reading.facts["contexts"]) == (
        60,
        "6",
        10,
    )


def test_04_a_stray_word_in_a_column_that_is_not_needed():
    assert len(fit(case(4), score="reward").reading.slates) == 40


def test_05_semicolons_and_decimal_commas():
    reading = fit(case(5)).reading
    assert sorted(np.unique(reading.table["price"]).tolist()) == [1.5, 2.5, 3.5, 4.5, 5.5]
    assert len(reading.slates) == 60


def test_08_rows_shorter_than_the_header():
    with pytest.raises(InputError) as found:
        fit(case(8), feature="characters:text")
    assert "varies within slates" in str(found.value)  # all texts are two or three characters long
    assert len(fit(case(8)).reading.slates) == 60


def test_10_shards_are_one_log():
    found = recurate.forecast(case(10), reward="helpful_reward", context="prompt", k=4, rounds=1)
    assert found.opened.log.rounds() == [1, 2, 3]


def test_11_rewards_in_a_list():
    log = recurate.forecast(case(11), reward="rewards", rounds=1).opened.log
    assert set(log.slate_sizes().tolist()) == {4}
    assert (log.slate_sizes().size, len(set(log.column("context").tolist()))) == (40, 5)
    assert recurate.plan(case(11), reward="rewards", rounds=1, k=[2], real_fraction=[0.0]).log_k == 4


def test_13_prompts_are_contexts_without_a_word():
    own = recurate.forecast(case(13), k=4, rounds=3)
    told = recurate.forecast(case(13), k=4, rounds=3, context="prompt")
    assert own.trajectory.values("mean_reward") == pytest.approx(told.trajectory.values("mean_reward"))


def test_15_numbered_columns_are_candidates():
    log = recurate.forecast(case(15), rounds=1).opened.log
    assert log.rewards == ("reward",)
    assert log.slate_sizes().tolist() == [4] * 40


def test_16_null_rewards_are_counted():
    found = recurate.forecast(case(16), k=4, rounds=1)
    assert any("5 candidates without a finite reward are left out" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("number", "roles"),
    [
        (17, {"pick": "preference", "context": "instruction"}), (19, {"pick": "winner"}),
        (20, {"pick": "winner", "chooser": "judge"}), (28, {"pick": "pw", "chooser": "annotator",
         "context": "prompt"}),
        (34, {"pick": "label", "context": "input"}),
    ],
)  # fmt: skip
def test_wide_files(number, roles):
    reading = fit(case(number)).reading
    assert reading.mapping.form == "wide"
    assert reading.mapping.roles == roles
    assert set(reading.slates.sizes.tolist()) == {2}
    assert len(reading.slates) == {17: 60, 19: 120, 20: 120, 28: 80, 34: 100}[number]


def test_22_slates_numbered_anew_for_every_chooser():
    found = fit(case(22))
    assert found.reading.slates.sizes.tolist() == [3] * 300
    assert found.logit.coefficients.tolist() == pytest.approx([-0.6, 0.8], abs=0.15)


def test_24_a_row_number_is_no_feature():
    found = fit(case(24))
    assert found.logit.names == ("price",)
    assert "numbers the rows" in found.reading.left_out["unnamed"]


def test_26_one_column_of_picks_for_each_alternative():
    found = fit(case(26))
    assert len(found.reading.slates) == 200
    order = np.argsort(found.items.rewards)
    assert [n for n in (found.items.names[i] for i in order) if n != "yew"] == ["oak", "elm", "ash", "fir"]


def test_30_higher_is_better_and_flags():
    assert fit(case(30), feature="quality").logit.coefficients[0] > 0
    with pytest.raises(InputError, match="of which higher is better"):
        fit(case(30), rank="human_preference", feature="quality")


def test_31_the_last_message_is_the_text():
    reading = fit(case(31), feature="characters:text").reading
    assert reading.matrix.max() < 0.6  # at most 60 characters
    with pytest.raises(InputError) as found:
        fit(case(31))
    refused(found, "--feature characters:text")


def test_33_rewards_that_are_not_nothing():
    assert "beyond chance" not in fit(case(33), pick="player.choice").verdict.sentence


def test_34_no_rewards_were_fitted():
    assert fit(case(34)).verdict.holds is None


def test_36_graded_preferences_are_votes():
    reading = fit(case(36)).reading
    assert reading.table["weight"].max() <= 1
    assert reading.table["weight"].reshape(-1, 2)[:, 0].sum() == pytest.approx(100)


def test_38_one_item_or_column_does_not_stop_the_whole():
    folder = CASES / "reading" / "38"
    assert any("pine" in w for w in fit(str(folder / "newcomer.csv")).warnings)
    itself = fit(str(folder / "self.csv")).reading.exclusions[0]
    assert ("against itself" in itself.reason, itself.slates) == (True, 9)
    assert len(fit(str(folder / "dummies.csv")).logit.names) == 3


def test_40_best_of_k():
    assert "best of" in fit(case(40)).verdict.sentence.lower()


# --- the page -------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
RECIPE = re.compile(
    r"^## (.+?)\n(.*?)```(\w+)\n(.*?)```\n\n```\n\$ recurate (\w+) (\S+)(.*?)\n(.*?)```", re.M | re.S
)
RECIPES = RECIPE.findall(PAGE)


def shown_row(path: Path) -> str:
    """Return the start of a file as the page shows it, without spaces."""
    path = sorted(path.iterdir())[0] if path.is_dir() else path
    if path.suffix == ".parquet":
        text = json.dumps(pq.read_table(path).to_pylist()[0])
    else:
        text = path.read_text()
        text = json.dumps(json.loads(text)[0]) if text.startswith("[") else text
    return re.sub(r"\s", "", text)


def test_the_page_has_a_recipe_for_every_tool():
    assert len(RECIPES) == len(TOOLS) == PAGE.count("$ recurate")


@pytest.mark.parametrize("number", range(len(RECIPES)), ids=[r[0] for r in RECIPES])
def test_recipes_are_as_the_page_says(number, tmp_path):
    title, _, _, data, verb, file, options, lines = RECIPES[number]
    makers = [m for m in TOOLS if m.__name__.replace("_", "") == MAKERS.get(title, title).replace("_", "")]
    source, _ = makers[0](tmp_path)
    assert source.name == file
    whole = shown_row(source)
    for line in data.split("\n"):  # long lines of CSV are cut
        assert re.sub(r"\s", "", line).removesuffix("...") in whole
    assert options.split() in ([], ["--feature", "characters:text"])
    if verb == "forecast":
        found = recurate.forecast(str(source), rounds=1)
        said = [found.ruling.line, *found.opened.understood.text()]
    else:
        found = recurate.fit(str(source), feature="characters:text" if options else None)
        said = [f"slates: {found.reading.facts['slates']}", *found.reading.understood.text()]
    assert [x for x in said if not x.startswith("not used")][:8] == lines.strip().split("\n")


MAKERS = {
    "TRL: completions of GRPO and RLOO": "trl", "verl: rollouts": "verl", "NeMo-RL: training data": "nemo_rl",
    "NeMo Gym: rollouts": "nemo_gym", "open-instruct: GRPO rollouts": "open_instruct",
    "open-instruct: rejection sampling": "open_instruct_rs", "OpenRLHF: batch inference": "openrlhf",
    "SkyRL: dumped evaluations": "skyrl", "RLHFlow: annotated generations": "rlhflow",
    "SimPO: scored generations": "simpo", "UltraFeedback": "ultrafeedback",
    "UltraFeedback, binarized": "ultrafeedback_binarized", "HH-RLHF": "hh_rlhf", "Arena battles": "arena",
    "Arena battles with one column an outcome": "arena_flags", "AlpacaEval 1": "alpaca_eval",
    "AlpacaEval 2": "alpaca_eval_2", "MT-bench judgements": "mt_bench", "PrefLib": "preflib",
    "Label Studio: pairwise comparison": "label_studio", "Argilla": "argilla", "jsPsych": "jspsych",
    "oTree": "otree",
    "Qualtrics: conjoint": "qualtrics", "R's mlogit: wide": "fishing", "R's mlogit: long": "mlogit_long",
}  # fmt: skip
