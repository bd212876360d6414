"""`recurate audit` as a user runs it: faults, forms of file, runs, exit codes 0, 1 and 2, bad input."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helpers import loops
from helpers.choosing import FILES, a_log, long_rows, write_csv
from helpers.commands import call
from helpers.garbage import GARBAGE, strict
from helpers.loops import ODD, SIX
from helpers.paths import refused
from helpers.tiny import GAUSSIANS, merged
from recurate.log.schema import read_log, write_log
from recurate.loop.config import parse_config
from recurate.loop.driver import run

CLAIM = "k = 4, temperature = 1, noise = gumbel, picks = 5000, slates = 5000"


def accused(found: dict) -> set[str]:
    return {f["aspect"] for f in found["findings"] if f["verdict"] == "MISMATCH"}


def result(folder):
    return strict((folder / "audit.json").read_text())


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", SIX)
def test_the_six_faults(fault, tmp_path, monkeypatch):
    """20,000 slates: exit code 1, the right aspect, in audit.json, on the screen and in the report."""
    monkeypatch.setenv("COLUMNS", "200")  # each aspect on a line of its own
    table = loops.loop_log(np.random.default_rng(0), slates=5000, fault=fault)
    pq.write_table(table, tmp_path / "log.parquet")
    done = call("audit", "log.parquet", "--declared", CLAIM, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    found = result(tmp_path / "log-audit")
    assert found["mismatch"] is True
    assert found["facts"]["slates"] == 20_000
    must, may = SIX[fault]
    assert must <= accused(found) <= must | may
    html = (tmp_path / "log-audit" / "report.html").read_text()
    for aspect in must:
        assert any("MISMATCH" in line and aspect in line for line in done.stdout.splitlines())
        assert f"<td>{aspect}</td>" in html
    count = len(accused(found))
    assert f"{count} mismatch" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("fault", [f for f in SIX if f != "seeds"])
def test_in_one_round_as_json(fault, tmp_path):
    table = loops.loop_log(np.random.default_rng(1), slates=5000, rounds=1, fault=fault)
    pq.write_table(table, tmp_path / "log.parquet")
    done = call("audit", "log.parquet", "--declared", CLAIM, "--json", "--out", "o", cwd=tmp_path)
    assert done.returncode == 1
    found = strict(done.stdout)
    assert found == result(tmp_path / "o")
    must, may = SIX[fault]
    assert must <= accused(found) <= must | may


@pytest.mark.slow
@pytest.mark.parametrize("fault", ODD)
def test_further_faults(fault, tmp_path):
    pq.write_table(loops.odd_log(np.random.default_rng([9, 0]), fault, slates=5000), tmp_path / "log.parquet")
    claim = CLAIM + (", weights = [0.5, 0.5]" if fault == "weights" else "")
    assert call("audit", "log.parquet", "--declared", claim, cwd=tmp_path).returncode == 1
    must, may = ODD[fault]
    assert must <= accused(result(tmp_path / "log-audit")) <= must | may


def test_a_shell_sees_the_exit_codes(tmp_path, recurate_cli):
    pq.write_table(loops.loop_log(np.random.default_rng(0), slates=500), tmp_path / "log.parquet")
    for temperature, code in ((1, 0), (10, 1)):
        done = recurate_cli("audit", "log.parquet", "--declared", f"temperature = {temperature}", "--json")
        assert done.returncode == code, done.stderr
        assert strict(done.stdout)["mismatch"] is bool(code)


# --- every form, and what is declared -------------------------------------------------------------


@pytest.mark.parametrize("form", FILES)
def test_every_form_of_file_is_audited(form, tmp_path):
    path = FILES[form](tmp_path, np.random.default_rng(0))
    k = {"items": 2, "ranks": 4, "lists": 4, "wide": 2, "ties": 2, "pairs": 2}.get(form, 3)
    done = call("audit", path.name, "--declared", f"k = {k}", "--out", "a", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"audit.json", "report.html"}
    found = result(tmp_path / "a")
    assert found["mismatch"] is False
    assert found["source"] == path.name
    fitted = any("fitted to the same picks" in w for w in found["warnings"])
    assert fitted == (form != "log")
    assert call("audit", path.name, "--declared", f"k = {k + 1}", "--out", "a", cwd=tmp_path).returncode == 1
    assert accused(result(tmp_path / "a")) == {"slate size K"}


def test_without_a_declaration_it_says_what_the_log_shows(tmp_path):
    write_csv(tmp_path / "x.csv", long_rows(np.random.default_rng(0), 60))
    done = call("audit", "x.csv", cwd=tmp_path)
    assert done.returncode == 0
    assert "Nothing was declared; the table lists the values recovered from the log." in done.stdout


def test_a_temperature_that_the_picks_cannot_tell_is_not_judged(tmp_path):
    """Rewards fitted from the picks have no scale of their own."""
    write_csv(tmp_path / "x.csv", long_rows(np.random.default_rng(0), 200))
    for temperature in (0.5, 2):
        done = call("audit", "x.csv", "--declared", f"k = 3, temperature = {temperature}", cwd=tmp_path)
        assert done.returncode == 4, done.stdout
        assert result(tmp_path / "x-audit")["unverified"] == ["temperature"]
    call("fit", "x.csv", cwd=tmp_path)
    own = ["audit", "x-fit", "--declared", "temperature = 3"]
    assert call(*own, cwd=tmp_path).returncode == 4
    assert call(*own, "--allow-unverified", cwd=tmp_path).returncode == 0


def test_a_reward_that_was_logged_under_another_name(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for s in range(900):
        score = rng.normal(size=3).round(4)
        pick = int((score / 0.5 + rng.gumbel(size=3)).argmax())
        rows += [
            {
                "round": s // 300,
                "case": s % 300,
                "value": float(score[j]),
                "win": int(pick == j),
                "nr": s % 300 * 3 + j,
            }
            for j in range(3)
        ]
    write_csv(tmp_path / "x.csv", rows)
    named = ["--reward", "value", "--slate", "case", "--pick", "win", "--item", "nr"]
    done = call("audit", "x.csv", *named, "--declared", "k = 3, temperature = 0.5", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    done = call("audit", "x.csv", *named, "--declared", "k = 3, temperature = 1", cwd=tmp_path)
    assert accused(result(tmp_path / "x-audit")) == {"temperature"}


def test_items_that_only_count_are_not_the_same_texts(tmp_path):
    """Every round numbers its candidates 0, 1, ...; a log says so, and so may any table of choices."""
    rows = long_rows(np.random.default_rng(2), 300)
    for i, row in enumerate(rows):
        row |= {"round": i // 450, "question": i % 450 // 3, "item": i % 450}
    write_csv(tmp_path / "x.csv", rows)
    for more in ([], ["--reward", "price"]):
        assert call("audit", "x.csv", *more, cwd=tmp_path).returncode == 0
        assert "items of neighbouring rounds" not in accused(result(tmp_path / "x-audit"))


def test_a_declaration_in_a_file(tmp_path):
    pq.write_table(loops.loop_log(np.random.default_rng(3), slates=500), tmp_path / "log.parquet")
    (tmp_path / "loop.toml").write_text('k = 4\ntemperature = 1\nnoise = "gumbel"\npicks = 500\n')
    done = call("audit", "log.parquet", "--declared", "loop.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert "The log agrees with the declaration" in done.stdout
    (tmp_path / "loop.toml").write_text("k = 4\npicks = 400\n")
    assert call("audit", "log.parquet", "--declared", "loop.toml", cwd=tmp_path).returncode == 1
    (tmp_path / "loop.toml").write_text("k = 4\npick = 400\n")
    assert "did you mean 'picks'" in refused(
        call("audit", "log.parquet", "--declared", "loop.toml", cwd=tmp_path)
    )


def test_slates_that_are_left_out_are_reported(tmp_path):
    rows = long_rows(np.random.default_rng(4), 60)
    rows += [{"question": "one", "user": "u", "price": 1.0, "size": 1.0, "chosen": 1}]
    rows += [{"question": "none", "user": "u", "price": float(j), "size": 1.0, "chosen": 0} for j in range(3)]
    write_csv(tmp_path / "x.csv", rows)
    done = call("audit", "x.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for reason in ("of one candidate", "without a pick"):
        assert f"warning: 1 slate was left out: {reason}" in done.stderr
        assert any(reason in w for w in result(tmp_path / "x-audit")["warnings"])
    done = call("audit", "x.csv", "--reward", "price", cwd=tmp_path)  # a log's slates are all counted
    assert done.returncode == 0, done.stdout
    assert re.search(r"slate size K +3 \(98\.4%\), 1 \(1\.6%\)", done.stdout)
    assert re.search(r"picks per slate +1 \(98\.4%\), 0 \(1\.6%\)", done.stdout)


def test_slates_of_a_log_without_a_pick_are_counted(tmp_path):
    a_log(tmp_path / "x.jsonl", np.random.default_rng(5), 50)
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    for row in lines:
        row["picked"] = row["picked"] and row["slate"] % 5 > 0
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = call("audit", "x.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 (80.0%), 0 (20.0%)" in done.stdout


# --- runs -----------------------------------------------------------------------------------------

ONE_REWARD = merged(
    GAUSSIANS, rewards=[{**GAUSSIANS["rewards"][0], "weight": None}], selection={"picks": 400, "slates": None}
)


RUNS = [
    pytest.param(GAUSSIANS, id="two rewards", marks=pytest.mark.slow),
    pytest.param(ONE_REWARD, id="one reward"),
]


@pytest.fixture(scope="module", params=RUNS)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audits") / "run"
    raw = {
        **request.param,
        "selection": {k: v for k, v in request.param["selection"].items() if v is not None},
    }
    run(parse_config(raw), folder)
    return folder


def other_claim(finished, tmp_path, old: str, new: str):
    """Write another configuration than the run's; in the run's folder it would be refused."""
    text = (finished / "config.toml").read_text()
    assert text.count(old) == 1, text
    (tmp_path / "claim.toml").write_text(text.replace(old, new))
    return tmp_path / "claim.toml"


def test_an_honest_run_does_what_it_claims(finished, tmp_path):
    done = call("audit", finished, "--out", tmp_path / "a", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "The log agrees with the declaration" in done.stdout
    found = result(tmp_path / "a")
    lines = {f["aspect"]: f for f in found["findings"]}
    assert lines["real data in training"]["verdict"] == "ok"
    assert lines["propensities"]["verdict"] == "ok"
    assert lines["candidates of neighbouring rounds"]["verdict"] == "ok"
    assert len(found["changes"]) == 2 * len(read_log(finished).rewards)
    assert call("report", finished, cwd=tmp_path).returncode == 0, "the run's folder is as it was"


def test_the_default_folder_stands_beside_the_run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "my.run")
    assert call("audit", "my.run", cwd=tmp_path).returncode == 0
    assert (tmp_path / "my.run-audit" / "report.html").is_file()


@pytest.mark.parametrize(
    ("old", "new", "aspect"),
    [
        ("\nk = 3", "\nk = 4", "slate size K"),
        ("real_fraction = 0.25", "real_fraction = 0.5", "real data in training"),
    ],
)
def test_another_configuration_does_not_fit(finished, tmp_path, old, new, aspect):
    claim = other_claim(finished, tmp_path, old, new)
    done = call("audit", finished, "--declared", claim, "--out", tmp_path / "a", cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert aspect in accused(result(tmp_path / "a"))


@pytest.mark.parametrize(
    ("old", "new", "aspect"),
    [
        ("\ntemperature = 0.5", "\ntemperature = 5.0", "temperature"),
        ('noise = "gumbel"', 'noise = "none"', "rule"),
        ("lapse = 0.0", "lapse = 0.9", "lapse share"),
        ("picks = 400", "picks = 500", "picks per round"),
    ],
)
def test_another_rule_does_not_fit(finished, tmp_path, old, new, aspect):
    if "picks = 400" not in (finished / "config.toml").read_text():
        old, new, aspect = "picks = 120", "picks = 60", None  # not all picks of this run are trained on
    claim = other_claim(finished, tmp_path, old, new)
    done = call("audit", finished, "--declared", claim, "--out", tmp_path / "a", cwd=tmp_path)
    if aspect is None:
        assert done.returncode == 0
    else:
        assert done.returncode == 1, done.stdout
        assert aspect in accused(result(tmp_path / "a"))


def test_a_declaration_given_overrides_the_runs_own(finished, tmp_path):
    done = call("audit", finished, "--declared", "k = 5", "--out", tmp_path / "a", cwd=tmp_path)
    assert done.returncode == 1
    assert accused(result(tmp_path / "a")) == {"slate size K"}


def test_an_altered_log_does_not_fit(finished, tmp_path):
    """Rewards of the last round shuffled: in the run they are refused; in a log alone picks do not fit."""
    shutil.copytree(finished, tmp_path / "copy")
    path = tmp_path / "copy" / "rounds" / "002" / "log.parquet"
    log = read_log(path)
    order = np.random.default_rng(0).permutation(log.table.num_rows)
    table = log.table
    for name in log.rewards:
        values = np.asarray(table.column(name))[order]
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    write_log(type(log)(table, log.rewards), path)
    assert "rounds/002/log.parquet" in refused(call("audit", "copy", cwd=tmp_path))
    rounds = [read_log(path.parent.parent / f"00{t}" / "log.parquet").table for t in range(3)]
    whole = pa.concat_tables(rounds)
    write_log(type(log)(whole, log.rewards), tmp_path / "whole.parquet")
    claim = finished / "config.toml"
    done = call("audit", "whole.parquet", "--declared", claim, "--out", tmp_path / "a", cwd=tmp_path)
    assert done.returncode == (1 if len(log.rewards) == 1 else done.returncode)


@pytest.mark.parametrize(
    ("name", "damage", "code"),
    [
        ("config.toml", b"k = ", 2),
        ("config.toml", b"\xff\xfe", 2),
        ("manifest.json", b"{", 2),
        ("rounds/001/log.parquet", b"PAR1", 2),
        ("rounds/001/contents.json", b"{", 2),
        ("rounds/001/contents.json", b"[]", 2),
        ("rounds/001/contents.json", b'{"counts": {"trained_on_real": "x", "trained_on_picks": 1}}', 2),
    ],
)
def test_damaged_runs_are_refused_or_read(finished, tmp_path, name, damage, code):
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(damage)
    done = call("audit", "copy", cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    if code == 2:
        refused(done)


def test_a_fit_is_audited_like_a_log(tmp_path):
    a_log(tmp_path / "x.jsonl", np.random.default_rng(6), 400)
    call("fit", "x.jsonl", cwd=tmp_path)
    done = call("audit", "x-fit", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert result(tmp_path / "x-fit-audit")["facts"]["slates"] == 800


# --- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path):
    a_log(tmp_path / "good.jsonl", np.random.default_rng(7), 40)
    pq.write_table(loops.loop_log(np.random.default_rng(7), slates=40), tmp_path / "good.parquet")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "header.csv").write_text("slate,reward,picked\n")
    (tmp_path / "bare.csv").write_text("reward\n1\n2\n")
    (tmp_path / "real.csv").write_text("reward,source,picked\n1,real,0\n2,real,0\n")
    (tmp_path / "nan.csv").write_text("slate,reward,picked\n0,1,1\n0,nan,0\n")
    (tmp_path / "contexts.csv").write_text("slate,reward,picked,context\n0,1,1,a\n0,2,0,b\n")
    (tmp_path / "slots.csv").write_text("slate,slot,reward,picked\n0,0,1,1\n0,0,2,0\n")
    (tmp_path / "words.csv").write_text("slate,reward,picked\n0,high,1\n0,low,0\n")
    (tmp_path / "maybe.csv").write_text("slate,reward,picked\n0,1,maybe\n0,2,no\n")
    (tmp_path / "good.md").write_text("slate,reward,picked\n0,1,1\n0,2,0\n")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:500])
    (tmp_path / "cut.jsonl").write_text((tmp_path / "good.jsonl").read_text()[:-9])
    (tmp_path / "odd.toml").write_text("kk = 4")
    (tmp_path / "no.toml").write_text("k = ")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "no such file"),
        (["good.md"], "extension"),
        (["empty.csv"], "empty"),
        (["header.csv"], "no rows"),
        (["real.csv"], "no candidates"),
        (["nan.csv"], "no slate whose rewards are all finite numbers"),
        (["contexts.csv"], "more than one context"),
        (["slots.csv"], "one slot twice"),
        (["words.csv"], "'reward' must hold numbers"),
        (["maybe.csv"], "no pick can be read"),
        (["cut.parquet"], "cannot read"),
        (["cut.jsonl"], "is not valid JSON"),
        (["."], "neither a run"),
        (["good.jsonl", "--declared", "nothing.toml"], "no such declaration"),
        (["good.jsonl", "--declared", "odd.toml"], "'kk' cannot be declared"),
        (["good.jsonl", "--declared", "no.toml"], "not valid TOML"),
        (["good.jsonl", "--declared", "k = four"], "k must be a whole number"),
        (["good.jsonl", "--declared", "k = 4, k = 5"], "twice"),
        (["good.jsonl", "--reward", "rewrd"], "did you mean 'reward'"),
        (["good.jsonl", "--reward", "context"], "must"),
        (["good.jsonl", "--slate", "nothing"], "there is no column 'nothing' for --slate"),
        (["good.jsonl", "--ties", "sometimes"], "--ties is not known"),
        (["good.jsonl", "--out", "good.jsonl"], "names a file"),
    ],
)
def test_bad_input(broken, arguments, message):
    before = {p: p.read_bytes() for p in broken.iterdir()}
    if "--ties" in arguments or arguments[-1] == "nothing":  # of choices, not of logs
        arguments = [*arguments, "--pick", "picked"]
    assert message in refused(call("audit", *arguments, cwd=broken))
    assert {p: p.read_bytes() for p in broken.iterdir()} == before, "nothing is written or changed"


@pytest.mark.parametrize(
    "rows",
    [
        "slate,reward,picked\n" + "".join(f"{i},1,1\n" for i in range(9)),
        "slate,reward,picked\n" + "".join(f"{i // 2},{i},1\n" for i in range(8)),
        "slate,reward,picked\n" + "".join(f"{i // 2},{i},0\n" for i in range(8)),
        "slate,reward,picked\n" + "".join(f"{i // 2},1,{i % 2}\n" for i in range(8)),
        "slate,reward,picked\n" + "".join(f"{i // 2},{i % 2},{i % 2}\n" for i in range(8)),
        "slate,reward,picked\n" + "".join(f"{i // 2},{(-1) ** i}e99,{i % 2}\n" for i in range(8)),
        "slate,reward,picked\n" + "".join(f"{i // 2},{i}e-320,{i % 2}\n" for i in range(8)),
        "reward,picked\n1,1\n",
        "round,slate,reward,picked\n9,5,1,1\n2,5,1,0\n2,5,2,1\n",
    ],
    ids=[
        "slates of one",
        "all picked",
        "none picked",
        "equal",
        "the best",
        "huge",
        "tiny",
        "a row",
        "rounds",
    ],
)
def test_odd_logs_are_audited(rows, tmp_path):
    (tmp_path / "x.csv").write_text(rows)
    done = call("audit", "x.csv", "--declared", "temperature = 1", cwd=tmp_path, overflow=True)
    assert done.returncode in (0, 1, 4), done.stderr
    assert result(tmp_path / "x-audit")["exit_code"] == done.returncode


def test_rewards_whose_squares_overflow_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text("slate,reward,picked\n0,1e308,1\n0,-1e308,0\n")
    done = call("audit", "x.csv", cwd=tmp_path, overflow=True)
    assert done.returncode == 2
    assert "'reward' holds numbers whose squares overflow" in done.stderr
    assert "1e+308" in done.stderr


SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@given(
    data=GARBAGE,
    ending=st.sampled_from(["csv", "jsonl", "json"]),
    declared=st.sampled_from(
        [None, "k = 2, temperature = 1, picks = 3", "top = 0.5", "threshold = 0", "lapse = 0.1"]
    ),
)
@example(b"slate,reward,picked\n0,-2e199,0\n0,1e200,0\n0,0,1\n1,0,0\n", "csv", None)
@SETTINGS
def test_garbage_is_audited_or_refused(tmp_path, data, ending, declared):
    path = tmp_path / f"garbage.{ending}"
    path.write_bytes(data)
    more = [] if declared is None else ["--declared", declared]
    done = call("audit", path.name, *more, "--out", "o", cwd=tmp_path, overflow=True)
    if done.returncode == 2:
        refused(done)
    else:
        assert result(tmp_path / "o")["exit_code"] == done.returncode


LOGS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 4), st.sampled_from([-1e99, -1.0, 0.0, 0.5, 2.0, 1e-300]),
        st.booleans(), st.sampled_from(["", "a", "b"]),
    ),
    min_size=1, max_size=24,
)  # fmt: skip


@given(
    rows=LOGS,
    declared=st.sampled_from(["", "k = 2", "temperature = 0.1", "noise = none, lapse = 0.1", "keep = 2"]),
)
@SETTINGS
def test_any_small_log_is_audited(tmp_path, rows, declared):
    t, slate, reward, picked, item = zip(*rows, strict=True)
    table = pa.table({"round": t, "slate": slate, "reward": reward, "picked": picked, "item": item})
    pq.write_table(table, tmp_path / "x.parquet")
    more = ["--declared", declared] if declared else []
    done = call("audit", "x.parquet", *more, "--out", "o", cwd=tmp_path, overflow=True)
    if done.returncode == 2:  # then it asks
        assert "error: rewards depend on" in done.stderr, done.stderr
        return
    assert done.returncode in (0, 1, 4), done.stderr
    assert result(tmp_path / "o")["facts"]["candidates"] == len(rows)


def test_nothing_is_said_to_a_pipe(tmp_path):
    """Progress is for people at a terminal."""
    a_log(tmp_path / "x.jsonl", np.random.default_rng(8), 40)
    assert call("audit", "x.jsonl", cwd=tmp_path).stderr == ""
