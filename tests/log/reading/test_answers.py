"""Repeats, checks and simulated answers in an export of `recurate serve`, in every verb and format."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

import recurate
from helpers.commands import call
from helpers.exports import exported
from recurate.core.errors import InputError
from recurate.log.opening import open_log, open_slates
from recurate.log.reading.mapping import Given

FLAGS = {"repeats": "repeated", "checks": "check", "simulated": "simulated"}


def slates_of(table: Any, *include: str) -> set[int]:
    plain = open_slates(table, Given(include=include))
    return set(np.asarray(plain.columns["slate"]).astype(int).tolist())


def flagged(table: pa.Table, *kinds: str) -> set[int]:
    rows = table.to_pylist()
    return {row["slate"] for row in rows if any(row[FLAGS[kind]] for kind in kinds)}


@pytest.mark.parametrize(
    "include", [(), ("repeats",), ("checks", "simulated"), ("repeats", "checks", "simulated")]
)
def test_what_is_not_included_is_left_out(include):
    table = exported(200)
    left = [kind for kind in FLAGS if kind not in include]
    everything = set(table.column("slate").to_pylist())
    assert slates_of(table, *include) == everything - flagged(table, *left)
    opened = open_log(table, Given(include=include, picks=False))
    assert set(opened.log.column("slate").tolist()) == everything - flagged(table, *left)
    assert opened.left_out == len(flagged(table, *left))


def test_the_note_counts_each_answer_once():
    table = exported(200)
    (note,) = (n for n in open_slates(table, Given()).understood.notes if "left out" in n)
    simulated = flagged(table, "simulated")
    checks = flagged(table, "checks") - simulated
    repeats = flagged(table, "repeats") - simulated - checks
    assert note == (
        f"left out: {len(repeats)} repeats, {len(checks)} checks, {len(simulated)} simulated picks; "
        "--include repeats,checks,simulated counts them"
    )
    (note,) = (n for n in open_slates(table, Given(include=("checks",))).understood.notes if "left out" in n)
    assert note.endswith("--include repeats,checks,simulated counts them")


def test_formats_and_sources_agree(tmp_path):
    table = exported(60)
    wanted = slates_of(table)
    assert wanted < set(table.column("slate").to_pylist())
    parquet.write_table(table, tmp_path / "a.parquet")
    csv.write_csv(table, tmp_path / "a.csv")
    lines = [json.dumps(row) for row in table.to_pylist()]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    frames = [table.to_pandas(), table.to_pylist(), recurate.read_log(tmp_path / "a.parquet")]
    for source in [*(tmp_path / f"a.{ending}" for ending in ("parquet", "csv", "jsonl")), *frames]:
        assert slates_of(source) == wanted
        assert set(open_log(source, Given(picks=False)).log.column("slate").tolist()) == wanted


def test_joined_exports_of_which_one_has_no_repeats(tmp_path):
    """A column that one file lacks is empty in its rows: these are no repeats."""
    table = exported(60)
    plain = table.filter(pa.array([not row["repeated"] for row in table.to_pylist()])).drop_columns(
        "repeated"
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    parquet.write_table(plain, tmp_path / "b.parquet")
    found = open_slates(
        [tmp_path / "a.parquet", tmp_path / "b.parquet"], Given(include=("checks", "simulated"))
    )
    repeats = len(flagged(table, "repeats"))
    assert any(f"left out: {repeats} repeats;" in note for note in found.understood.notes)


@pytest.mark.parametrize("missing", ["asked", "shown", "outcome", "chooser"])
def test_other_tables_lose_nothing_and_a_note_says_so(missing):
    table = exported(60).drop_columns(missing)
    plain = open_slates(table, Given())
    assert set(np.asarray(plain.columns["slate"]).astype(int)) == set(table.column("slate").to_pylist())
    for name in FLAGS.values():
        assert sum(f"by the column {name!r}" in note for note in plain.understood.notes) == 1
    opened = open_log(table, Given(picks=False, include=("checks",)))
    assert opened.left_out == 0
    assert any("--include has no effect" in note for note in opened.understood.notes)


def test_a_column_of_words_or_numbers_gets_no_note():
    table = exported(30).drop_columns(["asked", "repeated", "simulated"])
    words = pa.array([f"check {i}" for i in range(table.num_rows)])
    table = table.set_column(table.column_names.index("check"), "check", words)
    assert not any("'check'" in note for note in open_slates(table, Given()).understood.notes)


def test_refusals():
    table = exported(30)
    with pytest.raises(InputError, match="every answer"):
        open_slates(table.filter(table.column("simulated")), Given())
    with pytest.raises(InputError, match="every answer"):
        recurate.forecast(table.filter(table.column("simulated")))
    with pytest.raises(InputError, match="--include names"):
        recurate.fit(table, include="repeated")
    flags = np.array(table.column("check").to_pylist())
    flags[0] = ~flags[0]
    torn = table.set_column(table.column_names.index("check"), "check", pa.array(flags))
    with pytest.raises(InputError, match="differs between the candidates"):
        open_slates(torn, Given())
    unclear = table.set_column(
        table.column_names.index("check"), "check", pa.array(["perhaps"] * table.num_rows)
    )
    with pytest.raises(InputError, match="must say true or false"):
        open_slates(unclear, Given())


def test_an_export_that_is_read_in_parts_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RECURATE_MAX_ROWS", "100")
    parquet.write_table(exported(60), tmp_path / "a.parquet")
    for verb in (recurate.fit, recurate.forecast):
        with pytest.raises(InputError, match="cannot be left out"):
            verb(tmp_path / "a.parquet")


@pytest.mark.parametrize("verb", ["fit", "audit", "forecast", "plan"])
def test_every_verb_says_what_it_left_out(verb, tmp_path):
    table = exported(120)
    parquet.write_table(table, tmp_path / "picks.parquet")
    done = call(verb, "picks.parquet", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert f"left out: {len(flagged(table, 'repeats'))} repeats" in words
    again = call(verb, "picks.parquet", "--include", "repeats,checks,simulated", "--out", "all", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "counts them" not in again.stdout
    assert (tmp_path / "out" / f"{verb}.json").read_text() != (tmp_path / "all" / f"{verb}.json").read_text()


def test_a_forecast_from_a_fit_uses_the_slates_of_the_fit(tmp_path):
    table = exported(120)
    found = recurate.fit(table, include="repeats,checks,simulated")
    found.save(tmp_path / "fit")
    log = open_log(tmp_path / "fit", Given(picks=False))
    assert log.left_out == 0
    assert log.log.table.num_rows == table.num_rows


def judged() -> pa.Table:
    """The log of a run that people judge: ten slates, the first three simulated; real data; unseen ones."""
    rows = [
        {"round": 0, "slate": s, "slot": i, "item": 2 * s + i, "source": "model", "reward": (s * i) % 7 / 7,
         "picked": i == s % 2, "chooser": "p", "outcome": "pick", "simulated": s < 3}
        for s in range(10) for i in (0, 1)
    ]  # fmt: skip
    none = {"slate": None, "slot": None, "picked": False}
    rows += [rows[at] | none | {"item": 100 + at} for at in (0, 18)]  # they looked like their neighbours
    rows.append({"round": 0, "item": 200, "source": "real", "reward": 0.5})
    return pa.Table.from_pylist(rows)


def test_candidates_of_a_run_that_were_not_shown_belong_to_no_answer():
    table = judged()
    plain = open_slates(table, Given())
    assert set(np.asarray(plain.columns["slate"]).astype(int)) == set(range(3, 10))
    assert any("left out: 3 simulated picks; " in note for note in plain.understood.notes)
    assert slates_of(table, "simulated") == set(range(10))
    opened = open_log(table, Given(picks=False, include=("simulated",)))
    assert opened.left_out == 0
    notes = " ".join(opened.understood.notes)
    assert "3 picks of simulated people or of the rule after the deadline count: the run was trained" in notes
    assert "--include has no effect: all picks that the run was trained on count" in notes
    with pytest.raises(InputError, match="--include names"):
        open_log(table, Given(picks=False, include=("simulate",)))


def test_an_answer_in_several_exports_counts_once(tmp_path):
    whole = exported(60, repeats=0.0, checks=0.0, simulated=0.0)
    whole = whole.append_column("study", pa.array(["one"] * whole.num_rows))
    parquet.write_table(whole.slice(0, 40 * 4), tmp_path / "early.parquet")
    parquet.write_table(whole, tmp_path / "late.parquet")
    both = open_log([tmp_path / "early.parquet", tmp_path / "late.parquet"], Given())
    assert both.log.table.num_rows == whole.num_rows
    assert any("40 answers are there several times, and counted once" in n for n in both.understood.notes)
    once = open_log(tmp_path / "late.parquet", Given())
    assert not any("several times" in note for note in once.understood.notes)
    joined = open_log(pa.concat_tables([whole, whole.slice(0, 40)]), Given())
    assert joined.log.table.num_rows == whole.num_rows, "as when files are joined by hand"


def test_exports_that_disagree_are_refused(tmp_path):
    whole = exported(20, repeats=0.0, checks=0.0, simulated=0.0)
    whole = whole.append_column("study", pa.array(["one"] * whole.num_rows))
    times = whole["time"].to_pylist()
    later = ["2030-01-01T00:00:00.000+00:00" if i < 8 else time for i, time in enumerate(times)]
    changed = whole.set_column(whole.column_names.index("time"), "time", pa.array(later))
    for name, table in (("a", whole), ("b", changed)):
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"disagree(.|\n)*2 answers that differ(.|\n)*newest"):
        open_log([tmp_path / "a.parquet", tmp_path / "b.parquet"], Given())
