"""Which slate a person gets, and what is kept of the answer."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("fastapi", reason="pip install 'recurate[people]'")
from sqlalchemy import select

from helpers.studies import slates, texts
from recurate.people import statements as sql
from recurate.people.asked import _answers
from recurate.people.ballots import Refused, Slate, Study
from recurate.people.tables import ballots, leases
from recurate.people.tables import slates as slates_table


def said(study) -> list[tuple]:
    with study.engine.connect() as c:
        rows = c.execute(select(ballots).where(~ballots.c.withdrawn).order_by(ballots.c.id))
        return [(r.slate, r.person, r.outcome, json.loads(r.slots)) for r in rows]


def shown(lease) -> list[str]:
    return [c.content for c in lease.candidates]


def test_a_person_sees_every_slate_once_and_reaches_the_end(study_of):
    study = study_of(slates(5))
    anna, seen = study.join("a"), []
    while (lease := study.next(anna)) is not None:
        assert study.progress(anna).total == 5
        seen.append(lease.context)
        study.submit(anna, lease.id, f"key-{len(seen)}", "pick", [0])
    assert sorted(seen) == [f"question {n}" for n in range(5)]
    assert (study.progress(anna).done, study.progress(anna).total) == (5, 5)
    assert study.undecided(0) == 0


def test_the_slot_that_is_kept_is_the_candidates_and_not_the_place(study_of):
    study = study_of(slates(30, 4))
    anna = study.join("a")
    orders = set()
    for n in range(30):
        lease = study.next(anna)
        orders.add(tuple(c.item for c in lease.candidates))
        study.submit(anna, lease.id, f"key-{n}", "pick", [[c.item for c in lease.candidates].index(2)])
    assert {tuple(slots) for *_, slots in said(study)} == {(2,)}
    assert len(orders) > 10, "the order is drawn for each slate"


def test_the_order_is_the_persons_own_and_does_not_change(study_of):
    study = study_of(slates(1, 8), seats=4)
    people = [study.join(name) for name in "abcd"]
    orders = [shown(study.next(p)) for p in people]
    assert orders == [shown(study.next(p)) for p in people]
    assert len(set(map(tuple, orders))) > 1


def test_no_slate_goes_to_more_people_than_it_has_seats(study_of):
    study = study_of(slates(4), seats=2)
    given = [study.next(study.join(f"p{i}")) for i in range(10)]
    assert sum(lease is not None for lease in given) == 8
    counts = [sum(lease is not None and lease.slate == s for lease in given) for s in range(1, 5)]
    assert counts == [2, 2, 2, 2]


def test_a_lease_that_expires_goes_to_others(study_of, clock):
    study = study_of(slates(1), lease=60)
    anna, bert = study.join("a"), study.join("b")
    late = study.next(anna)
    assert study.next(bert) is None
    clock.time += 61
    other = study.next(bert)
    assert other.slate == late.slate
    with pytest.raises(Refused, match="time for this question ran out"):
        study.submit(anna, late.id, "key-anna", "pick", [0])
    study.submit(bert, other.id, "key-bert", "pick", [0])
    assert len(said(study)) == 1


def test_a_late_answer_counts_where_nobody_else_has_the_slate(study_of, clock):
    study = study_of(slates(2), lease=60)
    anna, bert = study.join("a"), study.join("b")
    late = study.next(anna)
    clock.time += 61
    study.submit(anna, late.id, "key-anna", "pick", [1])
    assert study.next(bert).slate != late.slate
    assert study.undecided(0) == 1


def test_a_click_that_is_sent_twice_is_one_answer(study_of):
    study = study_of(slates(2))
    anna = study.join("a")
    lease = study.next(anna)
    for _ in range(3):
        study.submit(anna, lease.id, "the-click", "pick", [1])
    study.submit(anna, lease.id, "another-click", "pick", [1])
    assert len(said(study)) == 1
    with pytest.raises(Refused, match="already answered"):
        study.submit(anna, lease.id, "a-third-one", "pick", [2])


def test_an_answer_that_is_taken_back_is_asked_again(study_of):
    study = study_of(slates(2))
    anna = study.join("a")
    first = study.next(anna)
    study.submit(anna, first.id, "click-1", "pick", [0])
    held = study.next(anna)
    again = study.undo(anna)
    assert (again.slate, shown(again)) == (first.slate, shown(first))
    assert said(study) == []
    study.submit(anna, again.id, "click-1", "pick", [0])  # the old click, sent again: it was taken back
    assert said(study) == []
    study.submit(anna, again.id, "click-2", "bad")
    assert study.next(anna).slate == held.slate
    assert [row[2] for row in said(study)] == ["bad"]
    assert study.undecided(0) == 1


@pytest.mark.parametrize(
    ("outcome", "places", "message"),
    [
        ("pick", [], "needs 1 to 1"),
        ("pick", [0, 1], "needs 1 to 1"),
        ("pick", [3], "candidates 1 to 3"),
        ("pick", [-1], "candidates 1 to 3"),
        ("tie", [0], "needs 2 to 3"),
        ("tie", [0, 0], "candidates 1 to 3"),
        ("bad", [0], "needs 0 to 0"),
        ("ranking", [0, 1, 2], "does not offer"),
        ("extremes", [0], "needs 2 to 2"),
        ("extremes", [1, 1], "candidates 1 to 3"),
        ("extremes", [2, 1, 0], "needs 2 to 2"),
    ],
)
def test_impossible_answers_are_refused_and_nothing_is_kept(study_of, outcome, places, message):
    study = study_of(slates(1), outcomes=("pick", "tie", "bad", "skip", "extremes"))
    anna = study.join("a")
    lease = study.next(anna)
    with pytest.raises(Refused, match=message):
        study.submit(anna, lease.id, "the-click", outcome, places)
    assert said(study) == []
    assert study.next(anna).id == lease.id


def test_the_best_comes_before_the_worst(study_of):
    study = study_of(slates(1), outcomes=("extremes",))
    anna = study.join("a")
    lease = study.next(anna)
    items = [c.item for c in lease.candidates]
    study.submit(anna, lease.id, "the-click", "extremes", [items.index(2), items.index(0)])
    assert said(study)[0][2:] == ("extremes", [2, 0])
    with study.engine.connect() as c:
        taken = _answers(c, 0, 0, 1, 3)
    assert (taken.slots.tolist(), taken.outcomes) == ([2], ["pick"]), "a loop takes the best"


def test_of_two_the_best_and_the_worst_is_a_pick(study_of):
    study = study_of(slates(1, 2), outcomes=("extremes",))
    anna = study.join("a")
    lease = study.next(anna)
    with pytest.raises(Refused, match="does not offer"):
        study.submit(anna, lease.id, "click-1", "extremes", [0, 1])
    study.submit(anna, lease.id, "click-2", "pick", [0])
    assert study.undecided(0) == 0


def test_a_study_keeps_its_secret(study_of):
    study = study_of(slates(1))
    assert study.secret == Study(study.engine).secret
    assert study.code(1) == Study(study.engine).code(1) != study.code(2)


def test_a_slate_of_somebody_else_cannot_be_answered(study_of):
    study = study_of(slates(1))
    lease = study.next(study.join("a"))
    with pytest.raises(Refused, match="not given to you"):
        study.submit(study.join("b"), lease.id, "the-click", "pick", [0])


def test_candidates_that_look_alike_are_shown_once(study_of):
    study = study_of([Slate(0, texts("same", "other", "same")), Slate(1, texts("x", "x", "x"))])
    anna = study.join("a")
    lease = study.next(anna)
    assert sorted(shown(lease)) == ["other", "same"]
    study.submit(anna, lease.id, "the-click", "pick", [shown(lease).index("same")])
    assert said(study)[0][3] == [0]
    assert study.next(anna) is None, "three that look alike are no question"
    assert study.undecided(0) == 0


def test_repeats_are_planned_and_take_no_seat(study_of):
    study = study_of(slates(200), repeats=0.3)
    anna, seen = study.join("a"), []
    while (lease := study.next(anna)) is not None:
        seen.append(lease.slate)
        study.submit(anna, lease.id, f"key-{len(seen)}", "pick", [0])
    again = len(seen) - len(set(seen))
    assert len(set(seen)) == 200
    assert 45 < again < 130, "86 are expected, with a standard deviation of 11"
    assert all(seen[: seen.index(s) + 4].count(s) == 1 for s in seen)
    with study.engine.connect() as c:
        assert c.execute(select(leases.c.id).where(leases.c.repeat > 1)).first() is None


def test_checks_are_mixed_in_and_are_not_waited_for(study_of):
    known = [Slate(1000 + n, texts("right", "wrong"), answer=0) for n in range(50)]
    study = study_of([*slates(100), *known], checks=0.2)
    anna, checks, n = study.join("a"), 0, 0
    while (lease := study.next(anna)) is not None:
        n += 1
        checks += set(shown(lease)) == {"right", "wrong"}
        study.submit(anna, lease.id, f"key-{n}", "pick", [0])
    assert study.undecided(0) == 0
    assert 9 < checks < 45, "25 are expected, with a standard deviation of 6"


def test_a_limit_per_person(study_of):
    study = study_of(slates(10), limit=3)
    anna = study.join("a")
    for n in range(3):
        study.submit(anna, study.next(anna).id, f"key-{n}", "pick", [0])
    assert study.next(anna) is None
    assert (study.progress(anna).done, study.progress(anna).total) == (3, 3)
    assert study.next(study.join("b")) is not None


def test_a_worker_who_comes_back_is_the_same_person(study_of):
    study = study_of(slates(3))
    anna = study.join("first", worker="W1")
    assert study.join("second", worker="W1") == anna
    assert study.session("second").person == study.session("first").person == anna


def test_a_workers_name_does_not_open_the_answers_of_another_session(study_of, clock):
    study = study_of(slates(4))
    anna = study.join("own", worker="W1")
    study.submit(anna, study.next(anna).id, "click-1", "pick", [0])
    clock.time += 60
    stranger = study.session(study.join("other", worker="W1") and "other")
    assert study.undo(stranger.person, stranger.since) is None
    assert study.undo(anna, study.session("own").since) is not None


def test_a_session_ends(study_of, clock):
    study = study_of(slates(1))
    study.join("own")
    clock.time += 29 * 86_400
    assert study.session("own") is not None
    clock.time += 2 * 86_400
    assert study.session("own") is None


def test_removing_a_person_frees_the_seats(study_of):
    study = study_of(slates(2))
    anna, bert = study.join("a"), study.join("b")
    study.submit(anna, study.next(anna).id, "click-1", "pick", [0])
    study.next(anna)
    assert study.next(bert) is None
    assert study.remove(anna) == 1
    assert study.undecided(0) == 2
    assert study.next(bert) is not None
    assert study.session("a") is None


def close(study):
    with study.engine.begin() as c:
        study.close(c, 0, 0)


def test_a_round_that_is_over_takes_and_gives_nothing(study_of):
    study = study_of(slates(4))
    anna, bert = study.join("a"), study.join("b")
    first = study.next(anna)
    study.submit(anna, first.id, "click-1", "pick", [0])
    held = study.next(anna)
    close(study)
    with pytest.raises(Refused, match="too late"):
        study.submit(anna, held.id, "click-2", "pick", [0])
    with pytest.raises(Refused, match="can no longer be taken back"):
        study.undo(anna)
    study.submit(anna, first.id, "click-1", "pick", [0])  # sent twice: still one answer
    assert study.next(anna) is None
    assert study.next(bert) is None
    assert (study.progress(anna).done, study.progress(anna).total) == (1, 1)
    assert study.undecided(0) == 0


def test_a_new_round_closes_what_is_left_of_older_ones(study_of):
    study = study_of(slates(3))
    anna = study.join("a")
    old = study.next(anna)
    study.add([Slate(n, slate.candidates, "", 1) for n, slate in enumerate(slates(2))], alone=True)
    new = study.next(anna)
    assert old.slate <= 3 < new.slate
    assert study.undecided(1) == 2


def test_the_answer_of_a_check_may_look_like_another_candidate(study_of):
    study = study_of([Slate(0, texts("wrong", "right", "right"), answer=2), *slates(3)[1:]], checks=0.5)
    anna = study.join("a")
    given = [study.next(anna)]
    study.submit(anna, given[0].id, "click-1", "pick", [0])
    while (lease := study.next(anna)) is not None:
        given.append(lease)
        study.submit(anna, lease.id, f"click-{len(given)}", "pick", [0])
    check = next(g for g in given if g.slate == 1)
    assert sorted(c.content for c in check.candidates) == ["right", "wrong"]
    with study.engine.connect() as c:
        assert c.execute(select(slates_table.c.answer).where(slates_table.c.id == 1)).scalar() == 1


def test_spaces_at_the_ends_do_not_tell_candidates_apart(study_of):
    study = study_of([Slate(0, texts("one", " one\n", "two", "a  \nb", "a\nb"))])
    lease = study.next(study.join("a"))
    assert sorted(c.content.split()[0] for c in lease.candidates) == ["a", "one", "two"]


def test_more_people_may_be_asked_later(study_of):
    study = study_of(slates(2), seats=1)
    assert study.seat(1) == 0
    assert study.seat(3) == 2
    assert study.undecided(0) == 6


def twins() -> list:
    ab, ba = texts("a", "b"), texts("b", "a")
    return [Slate(0, ab, "p"), Slate(1, ba, "p"), Slate(2, ab, "q"), Slate(3, texts("c", "d"), "p")]


def judged(study, person) -> list[int]:
    found = []
    while (lease := study.next(person)) is not None:
        found.append(lease.slate)
        study.submit(person, lease.id, f"click-{person}-{lease.id}", "pick", [0])
    return found


def test_the_same_candidates_in_another_order_are_for_somebody_else(study_of):
    study = study_of(twins())
    anna, bert = study.join("a"), study.join("b")
    assert study.progress(anna).total == 3
    first = judged(study, anna)
    assert len(first) == 3
    assert len({1, 2} & set(first)) == 1
    assert (study.progress(anna).done, study.progress(anna).total) == (3, 3)
    assert sorted(first + judged(study, bert)) == [1, 2, 3, 4]


def test_in_a_run_the_same_candidates_come_again_last_and_count_as_a_repeat(study_of):
    from recurate.people.export import table_of

    study = study_of(twins(), twins=True)
    anna = study.join("a")
    assert study.progress(anna).total == 4
    order = judged(study, anna)
    assert sorted(order) == [1, 2, 3, 4]
    assert order[-1] in (1, 2)
    table = table_of(study).to_pandas()
    assert set(table[table.repeated].asked + 1) == {order[-1]}


def test_nobody_gets_the_name_and_the_code_of_somebody_who_was_removed(study_of):
    study = study_of(slates(2))
    study.join("a")
    bert, carl = study.join("b"), study.join("c")
    codes = {study.code(person) for person in (bert, carl)}
    study.remove(carl)
    study.remove(bert)
    dora = study.join("d")
    assert dora not in (bert, carl)
    assert study.code(dora) not in codes


def test_a_repeat_shows_another_order_and_is_no_check(study_of):
    known = [Slate(1000 + n, texts("right", "wrong"), answer=0) for n in range(5)]
    study = study_of([*slates(60, k=2), *known], repeats=0.3, checks=0.3)
    anna, orders, asked = study.join("a"), {}, []
    while (lease := study.next(anna)) is not None:
        orders.setdefault(lease.slate, []).append(shown(lease))
        asked.append(lease.slate)
        study.submit(anna, lease.id, f"key-{len(asked)}", "pick", [0])
    twice = [own for own in orders.values() if len(own) == 2]
    assert len(twice) > 5
    assert all(first != again for first, again in twice)
    checks = [slate for slate, own in orders.items() if set(own[0]) == {"right", "wrong"}]
    assert checks
    assert all(asked.count(slate) == 1 for slate in checks)


def test_somebody_who_was_removed_gets_nothing_more(study_of):
    study = study_of(slates(3))
    anna = study.join("a")
    lease = study.next(anna)
    study.remove(anna)
    for ask in (
        lambda: study.next(anna),
        lambda: study.submit(anna, lease.id, "key-1", "pick", [0]),
        lambda: study.undo(anna),
    ):
        with pytest.raises(Refused, match="cannot take part"):
            ask()
    assert study.remove(anna) == 0
    assert study.undecided(0) == 3


def test_the_name_of_a_click_belongs_to_one_answer(study_of):
    study = study_of(slates(3))
    anna = study.join("a")
    first = study.next(anna)
    study.submit(anna, first.id, "click-1", "pick", [0])
    second = study.next(anna)
    with pytest.raises(Refused, match="name of another one"):
        study.submit(anna, second.id, "click-1", "pick", [0])
    study.undo(anna)
    with pytest.raises(Refused, match="another answer"):
        study.submit(anna, first.id, "click-1", "pick", [1])
    study.submit(anna, first.id, "click-1", "pick", [0])  # it arrives again, late: nothing is kept
    assert study.answers() == 0


def test_the_limit_holds_for_late_answers(study_of, clock):
    study = study_of(slates(4), limit=1, lease=10.0)
    anna = study.join("a")
    first = study.next(anna)
    study.hand_back(anna)
    with study.engine.begin() as c:  # as if she had been given another one meanwhile
        second = study._fresh(c, anna, clock.time, sql.FRESH, first.slate)
    study.submit(anna, second.id, "click-2", "pick", [0])
    with pytest.raises(Refused, match="as many questions as one may"):
        study.submit(anna, first.id, "click-1", "pick", [0])
    assert (study.progress(anna).done, first.slate != second.slate) == (1, True)
