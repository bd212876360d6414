"""Exports, against a plain loop over the ballots that shares nothing with them but the tables."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'recurate[people]'")
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet
from sqlalchemy import select

import recurate
from helpers.studies import Clock
from helpers.studies import slates as some_slates
from recurate.core.errors import InputError
from recurate.log.opening import open_slates
from recurate.log.reading.mapping import Given
from recurate.people import export
from recurate.people.ballots import Candidate, Refused, Slate, Study
from recurate.people.tables import ballots, candidates, leases, people, slates

SELDOM = (
    "context",
    "simulated",
    "repeated",
    "check",
    "tied",
    "order",
    "worst",
    "reason",
    "comment",
    "worker",
)
OUTCOMES = ("pick", "tie", "bad", "skip", "ranking", "extremes")


def plainly(study: Study) -> list[dict[str, Any]]:
    """Return the rows of an export, by a loop."""
    found: list[dict[str, Any]] = []
    items: dict[str, int] = {}
    joined = ballots.join(leases, ballots.c.lease == leases.c.id).join(slates, ballots.c.slate == slates.c.id)
    wanted = select(ballots, leases.c.places, leases.c.repeat, slates, people).select_from(
        joined.join(people, ballots.c.person == people.c.id)
    )
    order = (slates.c.round, slates.c.attempt, slates.c.number, people.c.id, leases.c.repeat)
    with study.engine.connect() as c:
        shown = {(r.slate, r.slot): r for r in c.execute(select(candidates))}
        for at, row in enumerate(c.execute(wanted.where(~ballots.c.withdrawn).order_by(*order)).all()):
            slots, said = json.loads(row.slots), row.outcome
            for place, slot in enumerate(json.loads(row.places)):
                one = shown[row.slate, slot]
                made = {
                    "round": row.round,
                    "slate": at,
                    "slot": place,
                    "item": items.setdefault(one.content, len(items)),
                    "context": row.context,
                    "picked": said in ("pick", "ranking", "extremes") and slots[0] == slot,
                    "chooser": row.label,
                    "outcome": said,
                    "shown": one.content,
                    "asked": row.number,
                    "seconds": round(row.seconds, 3),
                    "time": datetime.fromtimestamp(row.made, UTC).isoformat(timespec="milliseconds"),
                    "simulated": row.simulated,
                    "repeated": row.repeat > 0,
                    "check": row.answer is not None,
                    "tied": said == "tie" and slot in slots,
                    "order": slots.index(slot) + 1 if said == "ranking" and slot in slots else None,
                    "worst": said == "extremes" and slots[1] == slot,
                    "reason": row.reason,
                    "comment": row.comment,
                    "worker": row.worker or "",
                    "study": export.name_of(study),
                }
                fixed = set(made)
                for name, value in json.loads(one.own).items():
                    made[f"{name}_of_candidate" if name in fixed else name] = value
                found.append(made)
    names = list(dict.fromkeys(name for row in found for name in row))
    kept = [n for n in names if n not in SELDOM or any(row.get(n) for row in found)]
    return [{name: row.get(name) for name in kept} for row in found]


def judged(study: Study, clock: Clock, outcomes: tuple[str, ...], seed: int = 0) -> None:
    """Let three people answer everything, with a draw of the outcomes."""
    rng = np.random.default_rng(seed)
    for number in range(3):
        person = study.join(None, f"worker {number}" if number else None, simulated=number == 2)
        while (lease := study.next(person)) is not None:
            clock.time += float(rng.exponential(5))
            said, k = str(rng.choice(outcomes)), len(lease.candidates)
            said = "pick" if said == "extremes" and k < 3 else said
            count = {"pick": 1, "tie": 2, "ranking": int(rng.integers(1, k + 1)), "extremes": 2}.get(said, 0)
            places = rng.permutation(k)[:count].tolist()
            words = {"reason": "unclear, \u00fc", "comment": "so, \u201cwell\u201d"} if said == "skip" else {}
            study.submit(person, lease.id, f"key-{lease.id}-{clock.time:.3f}", said, places, **words)
            if rng.random() < 0.1:
                study.undo(person)


def mixed() -> list[Slate]:
    """Slates of 2 to 5 candidates, with equal ones, checks, and columns that some of them have."""
    rng, found = np.random.default_rng(1), []
    for n in range(36):
        own = [
            Candidate(s, "text", f"answer {rng.integers(40)}", {"reward": rng.normal(), "slot": f"s{s}"})
            for s in range(int(rng.integers(2, 6)))
        ]
        own[0].values.update({"length": int(rng.integers(9))} if n % 3 else {"flag": None, "note": "x"})
        own.append(Candidate(9, "points", f"[[{n}, 1.5]]", {}))
        check = 0 if n % 7 == 0 else None
        found.append(Slate(n, tuple(own), f"question {n}" if n % 2 else "", n // 18, answer=check))
    return found


@pytest.mark.parametrize(
    ("outcomes", "part"),
    [(OUTCOMES, 20_000), (OUTCOMES, 7), (("pick",), 7), (("bad", "skip"), 7), (("ranking",), 20_000)],
)
def test_an_export_is_what_a_loop_finds(study_of, clock, monkeypatch, outcomes, part):
    monkeypatch.setattr(export, "PART", part)
    study = study_of(mixed(), seats=2, repeats=0.1, checks=0.1, outcomes=OUTCOMES, limit=50)
    judged(study, clock, outcomes)
    table, wanted = export.table_of(study), plainly(study)
    assert len(wanted) > 150
    assert set(table.column_names) == set(wanted[0])
    if part > len(wanted):  # else a column comes where the first part that has it does
        assert table.column_names == list(wanted[0])
    assert table.to_pylist() == [{name: row[name] for name in table.column_names} for row in wanted]


@pytest.mark.parametrize("far", [1, 1000])
def test_slates_far_from_each_other_and_long_texts(study_of, clock, monkeypatch, far):
    monkeypatch.setattr(export, "NEAR", far)
    monkeypatch.setattr(export, "MOST_TEXT", far)
    study = study_of(mixed(), seats=1, outcomes=OUTCOMES, limit=9)
    judged(study, clock, OUTCOMES)
    assert export.table_of(study).to_pylist() == plainly(study)


def test_types_of_columns(study_of, clock):
    study = study_of(mixed(), seats=3, repeats=0.2, checks=0.2, outcomes=OUTCOMES)
    judged(study, clock, OUTCOMES)
    types = {field.name: str(field.type) for field in export.table_of(study).schema}
    assert types == {
        "round": "int32", "slate": "int64", "slot": "int32", "item": "int64", "context": "string",
        "picked": "bool", "chooser": "string", "outcome": "string", "shown": "string", "asked": "int64",
        "seconds": "double", "time": "string", "simulated": "bool", "repeated": "bool", "check": "bool",
        "tied": "bool", "order": "int32", "worst": "bool", "reason": "string", "comment": "string",
        "worker": "string", "study": "string",
        "reward": "double", "slot_of_candidate": "string", "length": "int64", "flag": "null",
        "note": "string",
    }  # fmt: skip


def test_a_study_without_answers(study_of):
    study = study_of(mixed())
    assert export.table_of(study).num_rows == 0
    columns = set(export.table_of(study).column_names)
    for ending in export.ENDINGS:
        export.as_bytes(study, ending)
    anna = study.join("a")
    study.submit(anna, study.next(anna).id, "click-1", "pick", [0])
    assert columns <= set(export.table_of(study).column_names)
    assert set(export.NEEDED) <= columns


def test_formats_say_the_same(study_of, clock):
    from pyarrow import csv, parquet

    study = study_of(mixed(), outcomes=OUTCOMES)
    judged(study, clock, OUTCOMES)
    table = export.table_of(study)
    assert parquet.read_table(io.BytesIO(export.as_bytes(study, "parquet")[0])).equals(table)
    lines = export.as_bytes(study, "jsonl")[0].decode().splitlines()
    assert [json.loads(line) for line in lines] == table.to_pylist()
    again = csv.read_csv(io.BytesIO(export.as_bytes(study, "csv")[0]))
    assert again.column_names == table.column_names
    assert again.column("picked").to_pylist() == table.column("picked").to_pylist()
    assert isinstance(again, pa.Table)


def test_another_study_takes_an_export(study_of, clock):
    """Every kind of answer, the worst among them, comes back as it was."""
    study, other = (study_of(mixed(), seats=2, outcomes=OUTCOMES, limit=50) for _ in range(2))
    judged(study, clock, OUTCOMES)
    table = export.table_of(study)
    assert export.take(other, table, "picks") == study.answers()
    again = export.table_of(other)
    key = [("round", "ascending"), ("asked", "ascending"), ("chooser", "ascending"), ("slot", "ascending")]
    for name in ("picked", "tied", "order", "worst", "outcome", "shown", "reason"):
        assert again.sort_by(key).column(name).to_pylist() == table.sort_by(key).column(name).to_pylist()
    both = pc.and_(table.column("picked"), table.column("worst"))
    assert not pc.any(both).as_py()


def test_the_best_and_the_worst_in_a_file_differ(study_of, clock):
    study, other = (study_of(some_slates(3), outcomes=OUTCOMES) for _ in range(2))
    judged(study, clock, ("extremes",))
    table = export.table_of(study)
    at = table.column_names.index("worst")
    with pytest.raises(InputError, match="'extremes' of 1 candidates"):
        export.take(other, table.set_column(at, "worst", table.column("picked")), "picks")


@pytest.mark.parametrize("outcome", ["extremes", "ranking", "tie"])
def test_what_else_people_say_describes_no_candidate(study_of, recurate_here, tmp_path, outcome):
    """Without rewards, fit must not take the order or the worst for properties of the candidates."""
    slates_ = [
        Slate(n, tuple(Candidate(i, "text", f"text {(n + i * (1 + n % 3)) % 7}") for i in range(3)), "q")
        for n in range(120)
    ]
    study, rng = study_of(slates_, outcomes=OUTCOMES), np.random.default_rng(0)
    for n in range(120):  # slates recur, and nobody sees one twice
        anna = study.join(f"session {n}")
        lease = study.next(anna)
        places = rng.permutation(3).tolist()
        other = n % 3 > 0
        said = places[: 2 + (outcome == "ranking")] if other else places[:1]
        study.submit(anna, lease.id, f"key-{n:06d}", outcome if other else "pick", said)
    export.write(study, tmp_path / "picks.csv")
    fitted = recurate_here("fit", "picks.csv", "--out", "fit")
    assert fitted.returncode == 0, fitted.stderr
    facts = json.loads((tmp_path / "fit" / "fit.json").read_text(encoding="utf-8"))
    assert facts["facts"]["slates"] == (40 if outcome == "tie" else 120)
    assert {c["name"].partition("=")[0] for c in facts["coefficients"]} == {"shown"}


@pytest.mark.parametrize("outcome", ["bad", "tie", "skip"])
def test_fit_reads_every_pick_beside_other_answers_and_repeats(study_of, recurate_here, tmp_path, outcome):
    study = study_of(some_slates(60), seats=2, repeats=0.2)
    people, done, picks, left = [study.join(name) for name in "ab"], 0, 0, True
    while left:
        left = False
        for person in people:
            lease = study.next(person)
            if lease is None:
                continue
            left, done = True, done + 1
            other = done % 15 == 0
            places = [0, 1] if outcome == "tie" else []
            study.submit(
                person, lease.id, f"key-{done:06d}", outcome if other else "pick",
                places if other else [done % 3], reason="I cannot tell" if outcome == "skip" else "",
            )  # fmt: skip
            picks += not other
    export.write(study, tmp_path / "picks.parquet")
    fitted = recurate_here("fit", "picks.parquet", "--include", "repeats", "--out", "fit")
    assert fitted.returncode == 0, fitted.stderr
    facts = json.loads((tmp_path / "fit" / "fit.json").read_text(encoding="utf-8"))
    assert facts["facts"]["slates"] == picks
    assert [c["name"] for c in facts["coefficients"]] == ["reward"]


def test_numbers_as_texts_come_back_from_csv(study_of, tmp_path):
    def words() -> list[Any]:
        shown = tuple(Candidate(i, "text", w) for i, w in enumerate(("007", "7", "8")))
        return [Slate(n, shown, str(n)) for n in (0, 1)]

    there, here = study_of(words()), study_of(words())
    anna = there.join("a")
    while (lease := there.next(anna)) is not None:
        there.submit(anna, lease.id, f"click-{lease.id}", "pick", [0])
    export.write(there, tmp_path / "picks.csv")
    assert export.take(here, tmp_path / "picks.csv", "picks.csv") == 2
    assert picks_of(here) == picks_of(there)


def picks_of(study: Study) -> list[Any]:
    with study.engine.connect() as c:
        return list(c.execute(select(ballots.c.slate, ballots.c.slots).order_by(ballots.c.slate)))


def test_all_of_an_import_is_added_or_nothing(study_of):
    there, here = study_of(some_slates(3)), study_of(some_slates(3))
    anna = there.join("a")
    while (lease := there.next(anna)) is not None:
        there.submit(anna, lease.id, f"click-{lease.id}", "pick", [0])
    table = export.table_of(there)
    with pytest.raises(InputError, match="does not show all candidates"):
        export.take(here, table.slice(0, table.num_rows - 1), "some")
    assert here.answers() == 0
    with here.engine.begin() as c:
        here.close(c, 0, 0)
    with pytest.raises(InputError, match="a round that is over"):
        export.take(here, table, "late")


def test_attempts_of_a_round_are_kept_apart(study_of):
    both = [Slate(s.number, s.candidates, s.context, attempt=a) for a in (0, 1) for s in some_slates(2)]
    there, here = study_of(both, twins=True), study_of(both)
    anna = there.join("a")
    while (lease := there.next(anna)) is not None:
        there.submit(anna, lease.id, f"click-{lease.id}", "pick", [lease.id % 3])
    table = export.table_of(there)
    assert sorted(set(table.column("attempt").to_pylist())) == [0, 1]
    assert export.take(here, table, "all") == 4
    assert picks_of(here) == picks_of(there)


def all_picked(study: Study, place: int) -> Study:
    anna = study.join("a")
    while (lease := study.next(anna)) is not None:
        study.submit(anna, lease.id, f"click-{lease.id}", "pick", [place])
    return study


def test_people_of_two_studies_stay_apart_and_a_studys_own_answers_are_known(study_of):
    one, other, here = (study_of(some_slates(4), seats=2) for _ in range(3))
    tables = [export.table_of(all_picked(study, place)) for study, place in ((one, 0), (other, 1))]
    assert [export.take(here, table, "x") for table in tables] == [4, 4]
    assert export.take(one, tables[0], "its own") == 0
    assert export.take(one, export.table_of(here), "round trip") == 4, "the other study's answers alone"
    back = export.table_of(here).to_pandas()
    assert back.chooser.nunique() == 2


def test_an_import_keeps_the_times_and_compares_the_prompts(study_of):
    there, here = all_picked(study_of(some_slates(3)), 0), study_of(some_slates(3))
    table = export.table_of(there)
    here.now = lambda: 9e8
    export.take(here, table, "x")
    times = [t.column("time").to_pylist() for t in (table, export.table_of(here))]
    assert times[0] == times[1]
    moved = [Slate(s.number, s.candidates, f"another {s.number}") for s in some_slates(3)]
    with pytest.raises(InputError, match="does not ask"):
        export.take(study_of(moved), table, "x")


def test_an_import_of_twins_takes_their_seats(study_of):
    shown = some_slates(1)[0].candidates
    both = [Slate(n, shown, "p") for n in (0, 1)]
    there, here = all_picked(study_of(both, twins=True), 0), study_of(both, twins=True)
    assert export.take(here, export.table_of(there), "x") == 2
    assert here.undecided(0) == 0


def test_an_import_takes_the_seat_of_whoever_has_not_answered(study_of):
    there, here = all_picked(study_of(some_slates(1)), 0), study_of(some_slates(1))
    bert = here.join("b")
    lease = here.next(bert)
    assert export.take(here, export.table_of(there), "x") == 1
    with pytest.raises(Refused, match="somebody else got it"):
        here.submit(bert, lease.id, "click-1", "pick", [1])
    assert here.answers() == 1


def test_an_answer_that_changed_replaces_the_imported_one(study_of):
    there, here = all_picked(study_of(some_slates(2)), 0), study_of(some_slates(2))
    assert export.take(here, export.table_of(there), "x") == 2
    anna = 1
    lease = there.undo(anna)
    there.submit(anna, lease.id, "click-again", "bad", [])
    assert export.take(here, export.table_of(there), "x") == 1
    assert export.take(here, export.table_of(there), "x") == 0
    assert sorted(export.table_of(here).column("outcome").to_pylist()) == ["bad"] * 3 + ["pick"] * 3


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("chooser", ["a", "b", "c"], "do not belong together"),
        ("chooser", [None] * 3, "without a chooser"),
        ("slate", [None] * 3, "without a slate"),
        ("slate", [[0]] * 3, "without a slate"),
        ("slot", [2, 2, 2], "do not belong together"),
        ("slot", [0, None, 1], "without a slot"),
        ("outcome", ["pick", "bad", "pick"], "do not belong together"),
    ],
)
def test_imports_whose_rows_do_not_fit_are_refused(study_of, column, values, message):
    there = all_picked(study_of(some_slates(1)), 0)
    rows = export.table_of(there).to_pylist()
    for row, value in zip(rows, values, strict=True):
        row[column] = value
    here = study_of(some_slates(1))
    with pytest.raises(InputError, match=message):
        export.take(here, pa.Table.from_pylist(rows), "x")
    assert here.answers() == 0


def test_exports_of_several_studies_keep_their_people_apart(study_of, tmp_path):
    studies = [study_of(some_slates(30)) for _ in range(2)]
    paths = []
    for at, study in enumerate(studies):
        for name in "ab":
            person = study.join(name)
            for _ in range(15):
                study.submit(person, study.next(person).id, f"click-{person}-{_}", "pick", [at])
        paths.append(tmp_path / f"{at}.parquet")
        export.write(study, paths[-1])
    found = recurate.fit([str(p) for p in paths], score="reward")
    assert found.found.reading.choices.choosers.max() + 1 == 4
    assert len(found.found.reading.choices) == 60
    assert any("2 studies" in note for note in found.read_notes + found.found.reading.understood.notes)


def test_an_early_and_a_late_export_are_read_as_the_late_one(study_of, clock, tmp_path):
    """A second person moves the numbers of slates, and a repeat is an answer of its own."""
    study = study_of(some_slates(12), seats=2, repeats=0.2, limit=50)
    judged(study, clock, ("pick",), seed=1)
    whole = export.table_of(study)
    early = whole.filter(pa.array(whole["slate"].to_numpy() % 3 != 0))
    moved = np.unique(early["slate"].to_numpy(), return_inverse=True)[1]
    early = early.set_column(early.column_names.index("slate"), "slate", pa.array(moved))
    assert 0 < early.num_rows < whole.num_rows
    assert whole["repeated"].to_numpy().any()
    for name, table in (("early", early), ("late", whole)):
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    given = Given(include=("repeats", "simulated"))

    def answers(*exports):
        read = open_slates([tmp_path / f"{name}.parquet" for name in exports], given).columns
        names = ("chooser", "asked", "time", "shown", "result")
        rows = zip(*(np.asarray(read[n]).astype(str) for n in names), strict=True)
        return sorted(rows), np.unique(np.asarray(read["slate"]).astype(str)).size

    wanted = answers("late")
    assert answers("early", "late") == wanted
    assert answers("late", "early") == wanted
