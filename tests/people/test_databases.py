"""The same on SQLite and PostgreSQL: databases that are opened, and many people at once."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'recurate[people]'")
import sqlalchemy as sa
from sqlalchemy import func, select

from helpers.postgres import postgres  # noqa: F401
from helpers.studies import Clock, slates
from recurate.core.errors import InputError
from recurate.people import statements
from recurate.people.ballots import Refused, Rules, Study
from recurate.people.tables import RETURNED, ballots, invitations, leases, metadata, opened, people
from recurate.people.tables import slates as slates_table

KINDS = ("sqlite", "postgresql")
OPENING = """
import sys
from recurate.people.ballots import Study
from recurate.people.tables import opened
from alembic import command
print("ready", flush=True)
sys.stdin.readline()
engine = opened(sys.argv[1])
print(Study(engine).answers())
"""


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is."""
    if request.param == "sqlite":
        return str(tmp_path / "ballots.sqlite")
    return str(request.getfixturevalue("postgres").fresh())


@pytest.fixture
def study_at(place: str, clock: Clock) -> Iterator[Callable[..., Study]]:
    """A function that opens the study of the database at ``place`` and adds slates to it."""
    made: list[Study] = []

    def make(count: int, k: int = 3, **rules: Any) -> Study:
        study = Study(opened(place), Rules(**rules), clock)
        study.add(slates(count, k))
        made.append(study)
        return study

    yield make
    for study in made:
        study.engine.dispose()


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make calls in threads that start together; return what each returned, or raised."""
    start = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def standing(study: Study) -> Counter[int]:
    """Return how many ballots of each slate stand, without repeats."""
    with study.engine.connect() as c:
        own = select(ballots.c.slate, func.count()).join(leases, ballots.c.lease == leases.c.id)
        wanted = own.where(~ballots.c.withdrawn, leases.c.repeat == 0).group_by(ballots.c.slate)
        return Counter({row[0]: row[1] for row in c.execute(wanted)})


def check_seats(study: Study) -> None:
    """Check that the seats taken are those of leases that are open or answered, and no more than wanted."""
    with study.engine.connect() as c:
        of = select(leases.c.slate, func.count()).where(leases.c.state != RETURNED, leases.c.repeat == 0)
        held = {row[0]: row[1] for row in c.execute(of.group_by(leases.c.slate))}
        for row in c.execute(select(slates_table)).all():
            assert row.taken == held.get(row.id, 0) <= row.wanted, f"the seats of slate {row.id}"
    for slate, count in standing(study).items():
        assert count <= held.get(slate, 0)


# --- opening ----------------------------------------------------------------------------------------


def test_opening_makes_the_tables_and_twice_is_harmless(place):
    for _ in range(2):
        engine = opened(place)
        assert set(metadata.tables) | {"alembic_version"} == set(sa.inspect(engine).get_table_names())
        study = Study(engine)
        study.add(slates(2))
        assert study.undecided(0) == 2
        engine.dispose()


@pytest.mark.slow
def test_two_processes_that_open_a_new_database_at_once(place):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", OPENING, place],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "0\n"), err


def test_a_database_of_a_newer_version_is_refused(place):
    engine = opened(place)
    with engine.begin() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = 'zzzz'"))
    engine.dispose()
    with pytest.raises(InputError, match="newer version"):
        opened(place)


def at_revision(place: str, revision: str) -> sa.Engine:
    """Return a database as an older version made it."""
    from alembic import command
    from alembic.config import Config

    from recurate.people import tables

    engine = sa.create_engine(tables.url_of(place))
    config = Config()
    config.set_main_option("script_location", str(Path(tables.__file__).parent / "migrations"))
    with engine.begin() as c:
        config.attributes["connection"] = c
        command.upgrade(config, revision)
    return engine


def test_a_database_of_the_first_version_is_brought_to_this_one(place):
    old = at_revision(place, "0001")
    with old.begin() as c:
        c.execute(sa.text("INSERT INTO slates VALUES (1, 0, 0, 0, 'which?', NULL, 1, 0)"))
        for slot, word in enumerate(("one", "two")):
            own = {"slot": slot, "word": word}
            c.execute(sa.text("INSERT INTO candidates VALUES (1, :slot, :slot, 'text', :word, '{}')"), own)
        for number, (label, token) in enumerate((("person 1", "first"), ("person 2", "second")), 1):
            c.execute(
                sa.text(
                    "INSERT INTO people (id, label, worker, hash, joined, simulated, blocked) "
                    "VALUES (:n, :label, 'W1', :hash, 1000, false, false)"
                ),
                {"n": number, "label": label, "hash": token},
            )
    old.dispose()
    study = Study(opened(place), Rules(), Clock())
    assert [study.session(token).person for token in ("first", "second")] == [1, 2]
    assert study.join("third", "W1") == 1, "the first who had the name"
    lease = study.next(1)
    study.submit(1, lease.id, "click-1", "pick", [0])
    assert study.undecided(0) == 0
    differs = compare_metadata_of(study)
    study.engine.dispose()
    assert not differs


def compare_metadata_of(study: Study) -> list[Any]:
    """Return what differs between a database and the tables; people.hash is left from the first version."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with study.engine.connect() as c:
        found = compare_metadata(MigrationContext.configure(c), metadata)
    return [d for d in found if "hash" not in repr(d)]


# --- many at once -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_people_at_once_fill_every_seat_once(study_at):
    """No chance is involved: whatever the order of the threads, all 600 seats are filled."""
    study = study_at(200, seats=3)
    persons = [study.join(f"person {n}") for n in range(16)]

    def judge(person: int) -> list[int]:
        given = []
        while (lease := study.next(person)) is not None:
            given.append(lease.slate)
            study.submit(person, lease.id, f"key-{lease.id}", "pick", [lease.id % 3])
        return given

    given = at_once([lambda p=p: judge(p) for p in persons])
    assert not [error for error in given if isinstance(error, Exception)]
    assert all(len(set(own)) == len(own) for own in given)
    counts = standing(study)
    assert len(counts) == 200
    assert set(counts.values()) == {3}
    assert sum(len(own) for own in given) == 600
    assert study.undecided(0) == 0
    check_seats(study)


def test_a_click_that_arrives_eight_times_at_once_is_one_ballot(study_at):
    study = study_at(3)
    anna = study.join("a")
    lease = study.next(anna)
    said = at_once([lambda: study.submit(anna, lease.id, "one-click", "pick", [1])] * 8)
    assert said == [None] * 8
    assert standing(study) == {lease.slate: 1}
    check_seats(study)


def test_of_two_answers_at_once_one_is_kept_and_the_other_refused(study_at):
    study = study_at(20)
    anna = study.join("a")
    for n in range(20):
        lease = study.next(anna)
        said = at_once(
            [
                lambda p=p: study.submit(anna, lease.id, f"click-{n}-{p}", "pick", [p])  # noqa: B023
                for p in (0, 1)
            ]
        )
        assert sorted(type(x).__name__ for x in said) == ["NoneType", "Refused"], said
    assert set(standing(study).values()) == {1}
    check_seats(study)


def test_one_person_who_asks_eight_times_at_once_holds_one_slate(study_at):
    study = study_at(20, seats=3)
    for n in range(5):
        person = study.join(f"person {n}")
        found = at_once([lambda p=person: study.next(p)] * 8)
        assert not [error for error in found if isinstance(error, Exception)]
        assert len({lease.id for lease in found}) == 1
        check_seats(study)


def test_answers_as_leases_expire_never_fill_a_seat_twice(study_at, clock):
    """People answer at the moment at which their slates go to others: whoever comes first has the seat.

    No chance is involved: the seats must be right whatever comes first.
    """
    study = study_at(8, lease=60)
    for attempt in range(8):
        persons = [study.join(f"person {attempt}.{n}") for n in range(8)]
        held = [study.next(person) for person in persons[:4]]
        clock.time += 61
        said = at_once(
            [
                *(lambda p=p, x=x: study.submit(p, x.id, f"key-{x.id}", "pick", [0])
                  for p, x in zip(persons, held, strict=False) if x is not None),
                *(lambda p=p: study.next(p) for p in persons[4:]),
            ]
        )  # fmt: skip
        wrong = [x for x in said if isinstance(x, Exception) and not isinstance(x, Refused)]
        assert not [x for x in wrong if not isinstance(x, sa.exc.OperationalError)], "503: tried again"
        check_seats(study)


def test_a_locked_database_makes_a_writer_wait(tmp_path, clock):
    path = tmp_path / "ballots.sqlite"
    study, other = Study(opened(path), now=clock), opened(path)
    study.add(slates(1))
    anna = study.join("a")
    lease = study.next(anna)
    with ThreadPoolExecutor(1) as pool:
        with other.connect() as holder:
            holder.exec_driver_sql("SELECT 1")  # begins, and holds the lock
            waiting = pool.submit(study.submit, anna, lease.id, "key-anna", "pick", [0])
            time.sleep(0.3)
            assert not waiting.done()
            assert study.progress(anna).done == 0, "readers do not wait"
            holder.rollback()
        waiting.result(timeout=20)
    assert standing(study) == {lease.slate: 1}
    study.engine.dispose()
    other.dispose()


# --- one after the other ----------------------------------------------------------------------------


def test_an_expired_lease_goes_to_another_and_the_late_answer_is_refused(study_at, clock):
    study = study_at(1, lease=60)
    anna, bert = study.join("a"), study.join("b")
    late = study.next(anna)
    assert study.next(bert) is None
    clock.time += 61
    lease = study.next(bert)
    assert lease.slate == late.slate
    with pytest.raises(Refused, match="ran out") as caught:
        study.submit(anna, late.id, "key-anna", "pick", [0])
    assert caught.value.code == 410
    study.submit(bert, lease.id, "key-bert", "pick", [0])
    assert standing(study) == {lease.slate: 1}
    check_seats(study)


def test_a_late_answer_is_kept_while_a_seat_is_free(study_at, clock):
    study = study_at(1, seats=2, lease=60)
    anna, bert, cleo = (study.join(name) for name in "abc")
    late = study.next(anna)
    clock.time += 61
    study.submit(bert, study.next(bert).id, "key-bert", "pick", [0])
    study.submit(anna, late.id, "key-anna", "pick", [0])
    assert standing(study) == {late.slate: 2}
    assert study.next(cleo) is None
    check_seats(study)


def test_a_late_answer_to_a_repeat_takes_no_seat(study_at, clock):
    study = study_at(12, seats=2, repeats=0.5, lease=60)
    anna, bert = study.join("a"), study.join("b")
    for n in range(30):
        lease = study.next(anna)
        with study.engine.connect() as c:
            repeat = c.execute(select(leases.c.repeat).where(leases.c.id == lease.id)).scalar_one()
        if repeat:
            break
        study.submit(anna, lease.id, f"key-{n:05}", "pick", [0])
    assert repeat
    clock.time += 61
    study.next(bert)  # what expired is returned
    study.submit(anna, lease.id, "key-late", "pick", [0])
    check_seats(study)


def test_removing_a_person_leaves_nothing_and_frees_the_seats(study_at):
    from recurate.people.invitations import make, valid

    study = study_at(4)
    own = valid(study, make(study, "for all"))
    anna, bert = study.join("token-of-anna", "worker-anna", own), study.join("token-of-bert")
    for n in range(3):
        study.submit(anna, study.next(anna).id, f"anna-{n:04}", "pick", [0], comment="by anna")
    study.undo(anna)
    study.submit(bert, study.next(bert).id, "bert-0001", "pick", [1])
    before = study.undecided(0)
    assert study.remove(anna) == 3
    assert study.undecided(0) == before + 2
    check_seats(study)
    with study.engine.connect() as c:
        for table, column in ((ballots, ballots.c.person), (leases, leases.c.person), (people, people.c.id)):
            assert not c.execute(select(table).where(column == anna)).all()
        for table in metadata.sorted_tables:
            words = repr(c.execute(select(table)).all())
            assert "anna" not in words, table.name
        assert c.execute(select(invitations.c.used)).scalar_one() == 1
    assert study.session("token-of-anna") is None
    given = []
    while (lease := study.next(bert)) is not None:
        given.append(lease.slate)
        study.submit(bert, lease.id, f"bert-{len(given):05}", "pick", [1])
    assert len(given) == 3
    assert set(standing(study).values()) == {1}


def test_an_answer_that_is_taken_back_is_asked_again(study_at):
    study = study_at(3)
    anna, bert = study.join("a"), study.join("b")
    assert study.undo(anna) is None
    first = study.next(anna)
    study.submit(anna, first.id, "key-00001", "pick", [0])
    second = study.next(anna)
    back = study.undo(anna)
    assert (back.id, back.slate, back.candidates) == (first.id, first.slate, first.candidates)
    assert standing(study) == {}
    check_seats(study)
    study.submit(anna, first.id, "key-00001", "pick", [0])  # the old click arrives again, and is none
    assert standing(study) == {}
    study.submit(anna, first.id, "key-00002", "pick", [2])
    assert standing(study) == {first.slate: 1}
    given = {lease.slate for _ in range(1) if (lease := study.next(bert))}
    assert given <= {1, 2, 3} - {first.slate}
    assert second.slate != first.slate
    check_seats(study)


def test_a_worker_who_joins_twice_at_once_is_one_person(study_at):
    study = study_at(2)
    calls = [lambda i=i: study.join(f"token {i}", "worker") for i in range(8)]
    assert len(set(at_once(calls))) == 1
    assert all(study.session(f"token {i}") is not None for i in range(8))


def test_slates_that_a_run_and_a_server_add_at_once_are_added_once(study_at, place):
    studies = [study_at(0) for _ in range(4)]
    found = slates(20)
    added = at_once([lambda s=s: s.add(found, facts={"posted": "a"}, alone=True) for s in studies])
    assert sorted(added) == [0, 0, 0, 20]


def test_a_studys_secret_is_drawn_once(study_at):
    studies = [study_at(1) for _ in range(6)]
    assert len(set(at_once([lambda s=s: s.secret for s in studies]))) == 1


def test_no_answer_is_lost_between_the_last_count_and_the_end_of_a_round(study_at):
    """Whoever was told that an answer is kept finds it among those that the run takes."""
    study = study_at(40, seats=1)
    given = [(person, study.next(person)) for person in (study.join(f"token {i}") for i in range(40))]

    def take() -> set[int]:
        with study.engine.begin() as c:
            study.close(c, 0, 0)
            return set(c.execute(select(ballots.c.slate).where(~ballots.c.withdrawn)).scalars())

    def answer(person: int, lease: Any) -> int:
        study.submit(person, lease.id, f"click-{person}", "pick", [0])
        return lease.slate

    calls = [lambda p=p, le=le: answer(p, le) for p, le in given]
    calls.insert(20, take)
    said = at_once(calls)
    taken = said.pop(20)
    kept = {s for s in said if isinstance(s, int)}
    assert all(isinstance(s, int | Refused) for s in said), said
    assert kept == taken


def test_two_transactions_that_wait_for_each_other_are_both_done(study_at):
    """PostgreSQL ends one of them, and it is begun again."""
    study, both, begun = study_at(2), threading.Barrier(2), []

    def one(order: list[int]) -> None:
        def do(c: sa.Connection) -> None:
            begun.append(order)
            for at, slate in enumerate(order):
                own = sa.update(slates_table).where(slates_table.c.id == slate)
                c.execute(own.values(taken=slates_table.c.taken + 1))
                if at == 0 and len(begun) <= 2 and study.engine.dialect.name != "sqlite":
                    both.wait()

        study._write(do)

    assert at_once([lambda: one([1, 2]), lambda: one([2, 1])]) == [None, None]
    with study.engine.connect() as c:
        assert list(c.execute(select(slates_table.c.taken)).scalars()) == [2, 2]
    assert len(begun) == 2 if study.engine.dialect.name == "sqlite" else len(begun) > 2


@pytest.mark.parametrize("which", ["FRESH", "TWINS", "LEFT"])
def test_open_slates_are_found_by_their_index(tmp_path, which):
    """Of a million slates nearly all are taken: SQLite must not look at them, nor at a person's leases."""
    statement = str(getattr(statements, which).compile(engine := opened(tmp_path / "b.sqlite")))
    with engine.connect() as c:
        plan = [row[3] for row in c.exec_driver_sql("EXPLAIN QUERY PLAN " + statement.replace("?", "1"))]
    assert any("slates USING" in step and "INDEX open_slates" in step for step in plan), plan
    assert not [step for step in plan if "leases_of_people" in step]


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_postgresql_does_not_sort_the_open_slates(study_at):
    """Each person's next slate is among the first open ones: it must not look at all of them."""
    study = study_at(3000, k=2)
    statement = str(statements.FRESH.compile(study.engine, compile_kwargs={"render_postcompile": True}))
    values = re.sub(r"%\((\w+)\)s(::\w+)?", lambda m: "16" if m[1] == "param_1" else "2", statement)
    with study.engine.connect() as c:
        plan = "\n".join(row[0] for row in c.exec_driver_sql("EXPLAIN " + values))
    assert "Index Scan using open_slates" in plan, plan
    assert "Sort" not in plan, plan
