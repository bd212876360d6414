"""Forecasts of several models from a log with a column of models, by the command line and by the function."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from helpers.paths import refused
from recurate import forecast
from recurate.core.errors import InputError
from recurate.log.trajectory import Trajectory
from recurate.rules import NO_NOISE, Rule
from recurate.theory.population import Population
from recurate.verbs.forecast.several import read_models

MODELS = """
[[models]]
name = "ours"
rewards = ["helpful"]
trains_on = {ours = 0.6, theirs = 0.4}

[[models]]
name = "theirs"
rewards = ["safe", "short"]
trains_on = {theirs = 1.0}
"""


@pytest.fixture
def pair(tmp_path):
    """Return the columns of a log of two models, 600 and 400 candidates, which is written with its models."""
    rng = np.random.default_rng(0)
    helpful = rng.normal(size=1000)
    columns = {
        "model": np.repeat(["ours", "theirs"], [600, 400]),
        "helpful": helpful,
        "safe": -helpful + 0.3 * rng.normal(size=1000),
        "short": rng.normal(size=1000),
    }
    pyarrow.csv.write_csv(pa.table(columns), tmp_path / "two.csv")
    (tmp_path / "models.toml").write_text(MODELS)
    return columns


def by_hand(columns, rounds: int, mixing, reference=None, rho: float = 0.0):
    """Return the laws (N, 2) of every round, written out for Luce's rule at K = infinity."""
    laws = [(columns["model"] == name) / np.sum(columns["model"] == name) for name in ("ours", "theirs")]
    starts = laws
    tilts = [[columns["helpful"]], [columns["safe"], columns["short"]]]
    out = [np.column_stack(laws)]
    for _ in range(rounds):
        picks = []
        for law, judges in zip(laws, tilts, strict=True):
            tilted = [law * np.exp(r) / (law @ np.exp(r)) for r in judges]
            picks.append(np.mean(tilted, axis=0))
        laws = [
            rho * (starts[i] if reference is None else reference)
            + (1 - rho) * sum(a * c for a, c in zip(row, picks, strict=True))
            for i, row in enumerate(mixing)
        ]
        out.append(np.column_stack(laws))
    return out


def test_the_command_forecasts_every_model(pair, tmp_path, recurate_here):
    done = recurate_here(
        "forecast", "two.csv", "--models", "models.toml", "--rule", "luce", "--k", "inf", "--rounds", 3,
        "--real-fraction", 0.2, "--out", "result",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    laws = by_hand(pair, 3, [[0.6, 0.4], [0.0, 1.0]], rho=0.2)
    found = Trajectory.read(tmp_path / "result" / "trajectory.parquet")
    for i, name in enumerate(("ours", "theirs")):
        for column in ("helpful", "safe", "short"):
            expected = [law[:, i] @ pair[column] for law in laws]
            values = found.values("mean_reward", reward=column, group=name)
            np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)
        support = found.values("effective_support", group=name)
        np.testing.assert_allclose(support, [1 / np.square(law[:, i]).sum() for law in laws], rtol=1e-9)
    own = found.values("own_reward", group="theirs")
    judged = (pair["safe"] + pair["short"]) / 2
    np.testing.assert_allclose(own, [law[:, 1] @ judged for law in laws], rtol=1e-9)
    helpful = found.values("mean_reward", reward="helpful", group="ours")
    np.testing.assert_allclose(found.values("own_reward", group="ours"), helpful, rtol=1e-13)
    for text in (
        "Who trains on whom",
        "real fraction 0.2, rounds 3",
        "40 %",
        "safe and short",
        "its own reward falls in round 1 if more than",
    ):
        assert text in done.stdout
    assert "no bands" in done.stderr
    facts = json.loads((tmp_path / "result" / "forecast.json").read_text())
    assert facts["models"][0]["trains_on"] == {"ours": 0.6, "theirs": 0.4}
    assert facts["setting"]["real_fraction"] == 0.2
    stated = {(row["model"], row["other"]): row["share"] for row in facts["reversals"]}
    # The stated share is where the first round's own reward, affine in it, is the first one's.
    c1, c2 = (
        by_hand(pair, 1, mixing)[1][:, 0] @ pair["helpful"] for mixing in ([[1, 0], [0, 1]], [[0, 1], [0, 1]])
    )
    start = pair["helpful"][:600].mean()
    assert stated["ours", "theirs"] == pytest.approx((c1 - start) / (c1 - c2), rel=1e-6)


def test_models_that_keep_to_themselves_are_two_forecasts(pair):
    alone = [{"name": "ours", "rewards": ["helpful"]}, {"name": "theirs", "rewards": "safe"}]
    found = forecast(pa.table(pair), models=alone, k=4, rule="luce", rounds=4)
    for name, column, rows in (("ours", "helpful", slice(600)), ("theirs", "safe", slice(600, 1000))):
        single = forecast(pair[column][rows], k=4, rounds=4)
        np.testing.assert_allclose(
            found.trajectory.values("own_reward", group=name),
            single.trajectory.values("mean_reward"),
            rtol=1e-10,
        )
    assert found.law.shape == (1000, 2)


def test_real_data_and_later_rounds(pair):
    """Real rows are the reference of all models, and later rounds are measured beside the forecast."""
    rng = np.random.default_rng(1)
    later = {"helpful": rng.normal(1, 1, 500), "safe": rng.normal(size=500), "short": rng.normal(size=500)}
    real = {"helpful": rng.normal(size=300), "safe": rng.normal(size=300), "short": rng.normal(size=300)}
    table = pa.table(
        {
            "round": np.repeat([0, 1, 0], [1000, 500, 300]),
            "source": np.repeat(["model", "real"], [1500, 300]),
            "who": [*pair["model"], *["ours"] * 300, *["theirs"] * 200, *[None] * 300],
            **{name: np.concatenate([pair[name], later[name], real[name]]) for name in later},
        }
    )
    models = [
        {"name": "ours", "rewards": ["helpful"], "trains_on": {"ours": 0.5, "theirs": 0.5}},
        {"name": "theirs", "rewards": ["safe", "short"], "trains_on": {"ours": 0.25, "theirs": 0.75}},
    ]
    found = forecast(table, models=models, model="who", rule=Rule(np.inf), rounds=2, real_fraction=0.3)
    every = {name: np.concatenate([pair[name], real[name]]) for name in later}
    every["model"] = np.concatenate([pair["model"], ["real"] * 300])
    reference = np.concatenate([np.zeros(1000), np.full(300, 1 / 300)])
    laws = by_hand(every, 2, [[0.5, 0.5], [0.25, 0.75]], reference, 0.3)
    for i, name in enumerate(("ours", "theirs")):
        values = found.trajectory.values("mean_reward", reward="helpful", group=name)
        np.testing.assert_allclose(values, [law[:, i] @ every["helpful"] for law in laws], rtol=1e-9)
    rows = found.trajectory.series("own_reward", source="measured", group="ours")
    assert set(rows) == {0, 1}
    assert rows[1].value == pytest.approx(later["helpful"][:300].mean())
    half = 1.96 * later["helpful"][:300].std(ddof=1) / np.sqrt(300)
    assert rows[1].upper - rows[1].value == pytest.approx(half, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "none.toml"], "no such file of models"),
        (["--models", "models.toml", "--reward", "helpful"], "do not have this option"),
        (["--models", "models.toml", "--weights", "0.5,0.5"], "got:    weights"),
        (["--models", "models.toml", "--renew"], "got:    renew"),
        (["--models", "models.toml", "--model", "who"], "no column 'who'"),
        (["--model", "model", "--reward", "helpful"], "model belongs to several models"),
        (["--models", "models.toml", "--threshold", "99"], "no candidate can pass"),
    ],
)
def test_bad_requests(pair, recurate_here, arguments, message):
    assert message in refused(recurate_here("forecast", "two.csv", *arguments))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "ours"', 'nam = "ours"', "did you mean 'name'"),
        ("ours = 0.6", "our = 0.6", "did you mean 'ours'"),
        ("theirs = 0.4", "theirs = 0.5", "must sum to one"),
        ("theirs = 0.4", 'theirs = "0.4"', "must map names to shares"),
        ('["helpful"]', "[]", "must name the columns"),
        ('name = "theirs"', 'name = "ours"', "each once"),
        ('name = "theirs"', 'name = "their"', "trains on a model that there is not"),
        ("[[models]]", "[[model]]", "tables [[models]] alone"),
        ('["helpful"]', '["helpfull"]', "helpful"),
        ("[[models]]", "[[models", "not valid TOML"),
    ],
)
def test_bad_models(pair, tmp_path, recurate_here, old, new, message):
    (tmp_path / "models.toml").write_text(MODELS.replace(old, new))
    assert message in refused(recurate_here("forecast", "two.csv", "--models", "models.toml"))


def test_logs_that_would_give_wrong_numbers_are_refused(pair):
    models = [{"name": "ours", "rewards": ["helpful"]}, {"name": "theirs", "rewards": ["safe"]}]
    with pytest.raises(InputError, match="from a log"):
        forecast([0.0, 1.0], models=models)
    with pytest.raises(InputError, match="names a model that is not given"):
        forecast(pa.table(pair | {"model": ["other", *pair["model"][1:]]}), models=models)
    with pytest.raises(InputError, match="a model has no candidates"):
        forecast(pa.table(pair), models=[*models, {"name": "third", "rewards": ["safe"]}])
    slates = pair | {"slate": np.arange(1000) % 250, "picked": np.arange(1000) < 250}
    with pytest.raises(InputError, match="a slate has candidates of several models"):
        forecast(pa.table(slates), models=models)
    with pytest.raises(InputError, match="without contexts"):
        forecast(pa.table(pair | {"prompt": np.repeat(list("ab" * 50), 10)}), models=models, context="prompt")


def test_groups_may_be_the_column_of_items(pair):
    """A column named `model` is taken for the items, and is still there as groups."""
    found = forecast(pa.table(pair), reward="helpful", group="model", k=4, rounds=1)
    assert found.trajectory.values("share", group="ours")[0] == pytest.approx(0.6)


def test_models_need_names_and_share_everything():
    found = read_models([{"name": "a", "rewards": "r"}, {"name": "b", "rewards": ["r", "s"]}])
    assert [model.trains_on for model in found] == [{"a": 1.0}, {"b": 1.0}]
    assert found[1].rewards == ("r", "s")
    with pytest.raises(InputError, match="two names or more"):
        read_models([{"name": "a", "rewards": "r"}])


def test_picks_of_several_models_tell_their_rule(pair):
    """Each slate is one model's, and the rule is that of all picks, as in other forecasts."""
    rng = np.random.default_rng(3)
    n = 400
    helpful, safe = rng.normal(size=(2, 2 * n, 4))
    model = np.repeat(["ours", "theirs"], n)
    judged = np.where((model == "ours")[:, None], helpful, safe)
    table = pa.table(
        {
            "slate": np.repeat(np.arange(2 * n), 4),
            "picked": (judged == judged.max(axis=1, keepdims=True)).ravel(),
            "model": np.repeat(model, 4),
            "helpful": helpful.ravel(),
            "safe": safe.ravel(),
        }
    )
    models = [
        {"name": "ours", "rewards": ["helpful"], "trains_on": {"ours": 0.8, "theirs": 0.2}},
        {"name": "theirs", "rewards": ["safe"]},
    ]
    found = forecast(table, models=models, rule="best", rounds=1)
    assert found.setting.rule == Rule(4, noise=NO_NOISE)
    own = Population(helpful[:n].ravel())
    picks = own.curate(own.law, Rule(4, noise=NO_NOISE))
    other = Population(safe[n:].ravel())
    others = other.curate(other.law, Rule(4, noise=NO_NOISE))
    expected = 0.8 * picks @ helpful[:n].ravel() + 0.2 * others @ helpful[n:].ravel()
    assert found.trajectory.values("own_reward", group="ours")[1] == pytest.approx(expected, rel=1e-10)
