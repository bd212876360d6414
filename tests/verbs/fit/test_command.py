"""`recurate fit` as a user runs it: any file, bad files, from picks to a forecast, runs, real data."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helpers.choosing import FILES, KINDS, WORTH, a_log, long_rows, write_csv, write_jsonl
from helpers.commands import call
from helpers.garbage import GARBAGE, strict
from helpers.paths import refused
from helpers.tiny import GAUSSIANS
from recurate.components.rewards.learned import LearnedReward
from recurate.log.schema import read_log
from recurate.log.trajectory import Trajectory
from recurate.loop.config import parse_config
from recurate.loop.driver import run

pytestmark = pytest.mark.usefixtures("few_replicates")

DATA = Path(os.environ.get("RECURATE_DATA", "/nowhere"))


def facts(folder: Path):
    return strict((folder / "fit.json").read_text())


# --- every form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FILES)
def test_every_form_of_file_is_fitted(form, tmp_path):
    """Coefficients to 4 standard errors: missed with probability 1e-3 over all forms."""
    path = FILES[form](tmp_path, np.random.default_rng(0))
    done = call("fit", path.name, "--out", "fit", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path / "fit")
    assert {p.name for p in (tmp_path / "fit").iterdir()} == {"fit.json", "log.parquet", "report.html"}
    assert found["excluded"] == []
    assert found["source"] == path.name
    assert "to forecast from the fit: recurate forecast fit" in done.stdout
    assert found["verdict"]["sentence"] in " ".join(done.stdout.split())
    for heading in ("Data", "Does Luce's model hold?"):
        assert f"\n{heading}\n" in done.stdout
    rows = {row["name"]: row for row in found.get("coefficients", [])}
    if form == "items":
        rewards = {row["name"]: row for row in found["items"]}
        assert all(abs(rewards[n]["reward"] - w) < 4 * rewards[n]["se"] for n, w in KINDS.items())
    elif form == "log":
        assert abs(rows["reward"]["coefficient"] - 1) < 4 * rows["reward"]["se"]
        assert found["temperature"]["lower"] < 1 < found["temperature"]["upper"]
    else:
        assert all(abs(rows[n]["coefficient"] - w) < 4 * rows[n]["se"] for n, w in WORTH.items())
    log = read_log(tmp_path / "fit" / "log.parquet")
    assert len(set(log.slate_sizes().tolist())) == 1
    assert abs(log.reward_matrix().mean()) < 1e-9, "fitted rewards have mean zero"
    if form not in ("ties", "ranks", "lists"):
        assert log.column("picked").sum() == log.slate_sizes().size


def test_the_default_folder_stands_beside_the_file(tmp_path):
    (tmp_path / "in").mkdir()
    write_csv(tmp_path / "in" / "my.choices.csv", long_rows(np.random.default_rng(1), 60))
    done = call("fit", "in/my.choices.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "in" / "my.choices-fit" / "fit.json").is_file()
    write_csv(tmp_path / "in" / "other.csv.gz", long_rows(np.random.default_rng(1), 60))
    call("fit", "in/other.csv.gz", cwd=tmp_path)
    assert (tmp_path / "in" / "other-fit" / "fit.json").is_file()


def test_columns_can_be_named(tmp_path):
    rows = [
        {
            "a": r["question"],
            "b": r["user"],
            "c": r["price"],
            "d": r["size"],
            "e": "yes" if r["chosen"] else "no",
        }
        for r in long_rows(np.random.default_rng(2), 200)
    ]
    write_csv(tmp_path / "x.csv", rows)
    done = call(
        "fit", "x.csv", "--slate", "a", "--pick", "e", "--chooser", "b", "--feature", "c", "--out", "o",
        "--form", "long", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path / "o")
    assert found["mapping"] == {"form": "long", "slate": "a", "pick": "e", "chooser": "b"}
    assert [row["name"] for row in found["coefficients"]] == ["c"]
    assert found["coefficients"][0]["se_clustered"] is not None


def test_json_is_what_the_file_holds(tmp_path):
    write_csv(tmp_path / "x.csv", long_rows(np.random.default_rng(3), 60))
    done = call("fit", "x.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert strict(done.stdout) == facts(tmp_path / "x-fit")


def test_the_same_bytes_twice(tmp_path):
    write_csv(tmp_path / "x.csv", long_rows(np.random.default_rng(4), 400, choosers=40))
    for name in ("a", "b"):
        assert call("fit", "x.csv", "--groups", 2, "--out", name, cwd=tmp_path).returncode == 0
    for name in ("fit.json", "report.html", "log.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_groups_are_found_and_forecast_from(tmp_path):
    """Two kinds of people with opposite tastes; weights 0.7 and 0.3 to 0.15."""
    rng = np.random.default_rng(5)
    rows = []
    for s in range(1500):
        who = s % 100
        price = rng.normal(size=3)
        utility = (-1.5 if who < 70 else 1.5) * price + rng.gumbel(size=3)
        rows += [
            {
                "slate": s,
                "user": who,
                "price": round(float(price[j]), 4),
                "picked": int(utility.argmax() == j),
            }
            for j in range(3)
        ]
    write_csv(tmp_path / "x.csv", rows)
    done = call("fit", "x.csv", "--groups", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Preference groups" in done.stdout
    found = facts(tmp_path / "x-fit")
    assert [g["weight"] for g in found["groups"]] == pytest.approx([0.7, 0.3], abs=0.15)
    assert [g["coefficients"]["price"] for g in found["groups"]] == pytest.approx([-1.5, 1.5], abs=0.5)
    assert found["settings"]["weights"] == pytest.approx([0.7, 0.3], abs=0.15)
    ahead = call("forecast", "x-fit", "--rounds", 2, "--out", "f", cwd=tmp_path)
    assert ahead.returncode == 0, ahead.stderr
    weights = ", ".join(f"{w:.3g}" for w in found["settings"]["weights"])
    assert f"weights {weights}" in ahead.stdout
    assert (
        Trajectory.read(tmp_path / "f" / "trajectory.parquet").values("mean_reward", reward="reward_2").size
    )


# --- from picks to a forecast ---------------------------------------------------------------------


def test_from_picks_to_a_forecast(tmp_path):
    """The forecast's first step is what the picks gained: within four standard errors."""
    write_csv(tmp_path / "choices.csv", long_rows(np.random.default_rng(6), 800))
    assert call("fit", "choices.csv", "--groups", "none", cwd=tmp_path).returncode == 0
    done = call("forecast", "choices-fit", "--rounds", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "K = 3, temperature 1" in done.stdout
    values = Trajectory.read(tmp_path / "choices-fit-forecast" / "trajectory.parquet").values("mean_reward")
    assert np.all(np.diff(values) > 0)
    log = read_log(tmp_path / "choices-fit")
    rewards, picked = log.column("reward"), log.column("picked")
    gain = rewards[picked].mean() - rewards.mean()
    error = rewards[picked].std() / math.sqrt(picked.sum())
    assert values[0] == pytest.approx(rewards.mean(), abs=1e-9)
    assert values[1] - values[0] == pytest.approx(gain, abs=4 * error)
    wider = call("forecast", "choices-fit", "--k", 8, "--rounds", 1, "--out", "o", cwd=tmp_path)
    assert "K = 8" in wider.stdout


@pytest.mark.parametrize(
    ("noise", "lapse", "temperature", "shown"),
    [
        ("gumbel", 0.3, 0.3, "lapse 0."),
        pytest.param("gaussian", 0.0, 0.3, "gaussian", marks=pytest.mark.slow),
        pytest.param("none", 0.2, 1.0, "noise none", marks=pytest.mark.slow),
    ],
)
def test_a_forecast_takes_over_the_rule_that_fits(tmp_path, noise, lapse, temperature, shown):
    """Where another rule than Luce's predicts better: its first step is the picks' own gain."""
    from helpers import loops

    table = loops.loop_log(
        np.random.default_rng(7), slates=8000, rounds=1, noise=noise, lapse=lapse, temperature=temperature
    )
    pq.write_table(table, tmp_path / "picks.parquet")
    assert call("fit", "picks.parquet", cwd=tmp_path).returncode == 0
    found = facts(tmp_path / "picks-fit")["settings"]
    assert found.get("noise", "gumbel") == noise
    assert found.get("lapse", 0.0) == pytest.approx(lapse, abs=0.05)
    done = call("forecast", "picks-fit", "--rounds", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    values = Trajectory.read(tmp_path / "picks-fit-forecast" / "trajectory.parquet").values("mean_reward")
    log = read_log(tmp_path / "picks-fit")
    rewards, picked = log.column("reward"), log.column("picked")
    error = rewards[picked].std() / math.sqrt(picked.sum())
    assert values[1] - values[0] == pytest.approx(rewards[picked].mean() - rewards.mean(), abs=4 * error)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    write_csv(folder / "x.csv", long_rows(np.random.default_rng(8), 60))
    assert call("fit", "x.csv", cwd=folder).returncode == 0
    return folder / "x-fit"


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"settings": {"temperature": "hot"}}', '{"format": 1}', "\xff"]
)
def test_a_damaged_fit_is_refused(fitted, tmp_path, damage):
    shutil.copytree(fitted, tmp_path / "x-fit")
    (tmp_path / "x-fit" / "fit.json").write_bytes(damage.encode("latin-1"))
    refused(call("forecast", "x-fit", "--rounds", 1, cwd=tmp_path))
    assert call("audit", "x-fit", cwd=tmp_path).returncode in (0, 2)


def test_a_fit_without_its_log_is_refused(fitted, tmp_path):
    shutil.copytree(fitted, tmp_path / "x-fit")
    (tmp_path / "x-fit" / "log.parquet").unlink()
    for command in ("forecast", "fit", "audit"):
        assert "no such file" in refused(call(command, "x-fit", cwd=tmp_path))


def test_a_fit_can_be_fitted_again(tmp_path):
    write_csv(tmp_path / "x.csv", long_rows(np.random.default_rng(9), 300))
    call("fit", "x.csv", "--groups", "none", cwd=tmp_path)
    done = call("fit", "x-fit", "--score", "reward", "--groups", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert facts(tmp_path / "x-fit-fit")["temperature"]["value"] == pytest.approx(1.0, abs=1e-6)


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits") / "run"
    run(parse_config(GAUSSIANS), folder)
    return folder


def test_a_run_is_fitted_and_forecast_from(finished, tmp_path):
    done = call("fit", finished, "--score", "east", "--out", tmp_path / "f", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "500 rows of real data are not candidates" in done.stdout
    found = facts(tmp_path / "f")
    assert found["facts"]["slates"] == 450
    assert call("forecast", tmp_path / "f", "--rounds", 1, cwd=tmp_path).returncode == 0


def test_neural_rewards_are_learned_from_a_run(finished, tmp_path):
    done = call("fit", finished, "--neural", "--score", "east", "--out", "f", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "neural reward: f/reward" in done.stdout
    learned = LearnedReward.load(tmp_path / "f" / "reward")
    values = learned(np.zeros((3, 2), np.float32))
    assert values.shape == (3,)
    assert np.isfinite(values).all()


def test_neural_needs_samples(tmp_path):
    a_log(tmp_path / "x.jsonl", np.random.default_rng(0), 30)
    assert "pass the folder of a run" in refused(call("fit", "x.jsonl", "--neural", cwd=tmp_path))
    assert not (tmp_path / "x-fit").exists(), "refused before anything is done"


# --- what is left out -----------------------------------------------------------------------------


def test_every_slate_that_is_left_out_is_reported(tmp_path):
    rows = long_rows(np.random.default_rng(10), 120)
    bad: dict[str, list[dict]] = {
        "of one candidate": [{"question": "one", "user": "u", "price": 1.0, "size": 1.0, "chosen": 1}],
        "without a pick": [
            {"question": "none", "user": "u", "price": float(j), "size": 1.0, "chosen": 0} for j in range(3)
        ],
        "with all candidates picked": [
            {"question": "all", "user": "u", "price": float(j), "size": 1.0, "chosen": 1} for j in range(3)
        ],
        "with a missing or infinite 'price'": [
            {"question": q, "user": "u", "price": value, "size": 1.0, "chosen": int(j == 0)}
            for q, value in (("nan", "nan"), ("empty", ""), ("inf", "inf"))
            for j in range(2)
        ],
        "with an unreadable or missing pick": [
            {"question": "odd", "user": "u", "price": 1.0, "size": 1.0, "chosen": c} for c in (2, 0)
        ],
        "without a chooser": [
            {"question": "who", "user": "", "price": float(j), "size": 1.0, "chosen": j} for j in range(2)
        ],
    }
    write_csv(tmp_path / "x.csv", rows + [row for part in bad.values() for row in part])
    done = call("fit", "x.csv", "--groups", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\nExcluded\n" in done.stdout
    found = facts(tmp_path / "x-fit")
    assert found["facts"]["slates"] == 120
    excluded = {e["reason"]: e for e in found["excluded"]}
    assert len(excluded) == len(bad)
    for start, part in bad.items():
        (reason,) = [r for r in excluded if r.startswith(start)]
        assert excluded[reason]["rows"] == len(part)
        assert excluded[reason]["slates"] == len({row["question"] for row in part})
        assert part[0]["question"] in excluded[reason]["example"]
    assert sum(e["rows"] for e in found["excluded"]) + found["facts"]["candidates"] == len(rows) + 17
    html = (tmp_path / "x-fit" / "report.html").read_text()
    assert all(reason.split(" '")[0] in html for reason in excluded)


def test_picks_outside_the_slate_are_left_out(tmp_path):
    """Wide: a code that no alternative has; lists: a place beyond the list."""
    rng = np.random.default_rng(11)
    rows = [{"x1": rng.normal(), "x2": rng.normal(), "winner": int(rng.integers(1, 3))} for _ in range(80)]
    rows[5]["winner"], rows[6]["winner"] = 7, -1
    write_csv(tmp_path / "wide.csv", rows)
    assert call("fit", "wide.csv", cwd=tmp_path).returncode == 0
    found = facts(tmp_path / "wide-fit")
    assert found["facts"]["slates"] == 78
    assert [(e["slates"], e["reason"]) for e in found["excluded"]] == [
        (2, "with an unreadable or missing pick")
    ]
    lists = [{"x": rng.normal(size=3).tolist(), "pick": int(rng.integers(3))} for _ in range(80)]
    lists[3]["pick"] = 3
    write_jsonl(tmp_path / "lists.jsonl", lists)
    assert call("fit", "lists.jsonl", cwd=tmp_path).returncode == 0
    assert sum(e["slates"] for e in facts(tmp_path / "lists-fit")["excluded"]) == 1


# --- odd but usable -------------------------------------------------------------------------------


def test_a_chooser_with_one_pick(tmp_path):
    rows = long_rows(np.random.default_rng(12), 200, choosers=10)
    for row in rows[:3]:
        row["user"] = "once"
    write_csv(tmp_path / "x.csv", rows)
    done = call("fit", "x.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 with a single one" in done.stdout


def test_names_that_are_markup_or_not_ascii(tmp_path):
    rng = np.random.default_rng(13)
    names = ["</script><b>bold</b>", "ünïcödé 猫", 'quo"te', "a,b", "&amp;"]
    rows = []
    for s in range(300):
        shown = rng.permutation(5)[:3]
        best = int((0.3 * shown + rng.gumbel(size=3)).argmax())
        rows += [{"slate": s, "item": names[i], "picked": int(best == j)} for j, i in enumerate(shown)]
    write_csv(tmp_path / "x.csv", rows)
    done = call("fit", "x.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["name"] for row in facts(tmp_path / "x-fit")["items"]} == set(names)
    html = (tmp_path / "x-fit" / "report.html").read_text()
    assert "<b>bold</b>" not in html
    assert "ünïcödé 猫" in html


def test_groups_of_hardly_any_choosers(tmp_path):
    """Nothing tells two groups apart there; it is said, or refused."""
    (tmp_path / "x.csv").write_text("price_a,price_b,winner,user\n-0.72,-0.78,a,u0\n-0.68,-1.55,b,u1\n")
    done = call("fit", "x.csv", "--groups", 2, cwd=tmp_path)
    if done.returncode:
        refused(done)
    else:
        assert "not identified" in " ".join(done.stdout.split())  # lines are wrapped


# --- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path):
    rng = np.random.default_rng(14)
    rows = long_rows(rng, 40)
    write_csv(tmp_path / "good.csv", rows)
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "header.csv").write_text("question,price,chosen\n")
    (tmp_path / "one.csv").write_text("question,price,chosen\n" + "".join(f"{i},1.5,1\n" for i in range(9)))
    (tmp_path / "nopick.csv").write_text(
        "question,price,chosen\n" + "".join(f"{i // 2},{i},0\n" for i in range(8))
    )
    (tmp_path / "alike.csv").write_text(
        "question,price,chosen\n" + "".join(f"{i // 2},3,{i % 2}\n" for i in range(8))
    )
    (tmp_path / "sure.csv").write_text(
        "question,price,size,chosen\n" + "".join(f"{i // 2},{i % 2},{i * i % 7},{i % 2}\n" for i in range(80))
    )
    (tmp_path / "bare.csv").write_text("price\n1\n2\n")
    (tmp_path / "noslate.csv").write_text("question,price,chosen\n,1,0\n,2,1\n")
    (tmp_path / "once.csv").write_text(
        "slate,item,picked\n" + "".join(f"{i // 2},item {i},{i % 2}\n" for i in range(40))
    )
    (tmp_path / "twice.csv").write_text("question,question,chosen\n1,1,1\n")
    (tmp_path / "good.md").write_bytes((tmp_path / "good.csv").read_bytes())
    (tmp_path / "cut.jsonl").write_text("\n".join(json.dumps(r) for r in rows)[:-20])
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and not much more")
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "words.csv").write_text(
        "slate,reward,picked\n" + "".join(f"{i // 2},high,{i % 2}\n" for i in range(8))
    )
    write_csv(
        tmp_path / "codes.csv", [{"TRAIN_TT": 1.0 * i, "CAR_TT": 2.0, "CHOICE": 1 + i % 2} for i in range(20)]
    )
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "no such file"),
        (["good.md"], "extension"),
        (["empty.csv"], "empty"),
        (["header.csv"], "no rows"),
        (["one.csv"], "9 of one candidate"),
        (["nopick.csv"], "4 without a pick"),
        (["alike.csv"], "nothing describes the candidates"),
        (["sure.csv"], "separated"),
        (["bare.csv"], "the slates and picks of this file cannot be identified"),
        (["noslate.csv"], "no row belongs to a slate"),
        (["once.csv"], "items that recur"),
        (["twice.csv"], "several columns with the same name"),
        (["cut.jsonl"], "line 120 is not valid JSON"),
        (["cut.parquet"], "cannot read"),
        (["cut.csv.gz"], "cannot read"),
        (["words.csv", "--score", "reward"], "must hold numbers"),
        (["codes.csv"], "--alternatives"),
        (["."], "neither a run"),
        (["good.csv", "--slate", "questoin"], "did you mean 'question'"),
        (["good.csv", "--pick", "price"], "no slate can be used"),
        (["good.csv", "--chooser", "nobody"], "there is no column 'nobody' for --chooser"),
        (["good.csv", "--feature", "prise"], "did you mean 'price'"),
        (["good.csv", "--feature", "characters:prise"], "did you mean 'price'"),
        (["good.csv", "--model", "magic"], "--model is not known"),
        (["good.csv", "--model", "items"], "no column serves --model items"),
        (["good.csv", "--model", "score"], "no column serves --model score"),
        (["good.csv", "--ties", "sometimes"], "--ties is not known"),
        (["good.csv", "--form", "round"], "the form is unknown"),
        (["good.csv", "--form", "pairs"], ""),
        (["good.csv", "--groups", "many"], "--groups must be a number, auto or none"),
        (["good.csv", "--groups", "0"], "--groups must be a number"),
        (["good.csv", "--groups", "999"], ""),
        (["good.csv", "--shrinkage", "-1"], ""),
        (["good.csv", "--out", "good.csv"], "names a file"),
        (["good.csv", "--neural"], "pass the folder of a run"),
    ],
)
def test_bad_input(broken, arguments, message):
    before = {p: p.read_bytes() for p in broken.iterdir()}
    assert message in refused(call("fit", *arguments, cwd=broken))
    assert {p: p.read_bytes() for p in broken.iterdir()} == before, "nothing is written or changed"


def test_a_shell_sees_the_exit_codes(broken, recurate_cli):
    assert strict(recurate_cli("fit", "good.csv", "--json").stdout)["facts"]["slates"] == 40
    refused(recurate_cli("fit", "empty.csv"))


SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


@given(data=GARBAGE, ending=st.sampled_from(["csv", "jsonl", "json"]))
@example(b"reward,picked,winner,slate\n0.5,0,0,0\nreal,1,1,0\nreal,0,0,1\n0,1,0,1\n", "csv")
@SETTINGS
def test_garbage_is_fitted_or_refused(tmp_path, data, ending):
    path = tmp_path / f"garbage.{ending}"
    path.write_bytes(data)
    done = call("fit", path.name, "--out", "o", cwd=tmp_path, overflow=True)
    if done.returncode == 2:
        refused(done)
    else:
        assert done.returncode == 0
        facts(tmp_path / "o")


@given(form=st.sampled_from(list(FILES)), fraction=st.floats(0, 0.99))
@settings(SETTINGS, max_examples=30)
def test_truncated_files_never_crash(tmp_path, form, fraction):
    path = FILES[form](tmp_path, np.random.default_rng(0))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction * fraction)])
    done = call("fit", path.name, "--groups", "none", "--out", "o", cwd=tmp_path, overflow=True)
    assert done.returncode in (0, 2)
    if done.returncode:
        refused(done)


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fit", "audit"])
def test_help_gives_examples(command, tmp_path):
    done = call(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "For example:" in done.stdout
    assert done.stdout.count(f"recurate {command} ") >= 3
    assert "LOG" in done.stdout
    listed = call("--help", cwd=tmp_path).stdout
    assert command in listed


# --- real data ------------------------------------------------------------------------------------

REAL = {
    "cars": ("cars_conjoint/cars_us.csv.gz", []),
    "swissmetro, long": ("swissmetro/swissmetro_long.csv.gz", []),
    "swissmetro, wide": (
        "swissmetro/swissmetro_wide.csv.gz",
        ["--alternatives", "TRAIN,SM,CAR", "--chooser", "ID"],
    ),
    "imagereward": ("imagereward_rankings/test.json.gz", []),
    "pandalm": ("pandalm_pairs/testset-v1.json.gz", []),
}


@pytest.mark.skipif(not DATA.is_dir(), reason="RECURATE_DATA does not name the folder of real data")
@pytest.mark.parametrize(
    "name",
    # Thousands of choosers take seconds.
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name.split(",")[0] in ("cars", "swissmetro")))
        for name in REAL
    ],
)
def test_real_data_are_fitted_and_audited(name, tmp_path):
    path, more = REAL[name]
    groups = ["--groups", "none"] if "pandalm" not in name else []  # up to twenty seconds with them
    done = call("fit", DATA / path, *more, *groups, "--out", "f", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path / "f")
    slates = {"cars": 5760, "swissmetro, long": 10719, "swissmetro, wide": 10719, "imagereward": 466}
    assert found["facts"]["slates"] == slates.get(name, found["facts"]["slates"])
    done = call("audit", DATA / path, *more, "--out", "a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "were fitted to the same picks" in done.stderr
    strict((tmp_path / "a" / "audit.json").read_text())
    assert call("forecast", "f", "--rounds", 2, cwd=tmp_path).returncode == 0 or name == "imagereward"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="RECURATE_DATA does not name the folder of real data")
@pytest.mark.parametrize("name", ["cars", "swissmetro, wide"])
def test_real_data_with_groups(name, tmp_path):
    path, more = REAL[name]
    done = call("fit", DATA / path, *more, "--out", "f", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path / "f")
    assert len(found["groups"]) > 1
    assert sum(g["weight"] for g in found["groups"]) == pytest.approx(1)
    assert call("forecast", "f", "--rounds", 2, cwd=tmp_path).returncode == 0
