"""What the owner's page says: codes, agreement, the fit as it goes on, and groups of people."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'recurate[people]'")

from helpers.studies import slates, texts
from recurate.core.errors import InputError
from recurate.people import insight
from recurate.people.ballots import Candidate, Slate
from recurate.people.insight import GROUPED, LiveFit, choices_of, overview
from recurate.people.simulated import judge

TASTES = np.array([[2.0, 0.0], [-1.0, 2.0]])


def answer(study, person, place=0):
    lease = study.next(person)
    study.submit(person, lease.id, f"click-{lease.id:06d}-{place}", "pick", [place])


def panel(study_of, people, each, tastes, names=("a", "b")):
    """Return a study whose people judge by tastes of their own, in turn."""
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=(people * each, 3, len(names)))

    def slate(n):
        own = [dict(zip(names, map(float, row), strict=True)) for row in rewards[n]]
        return Slate(n, tuple(Candidate(k, "text", f"{n} {k}", own[k]) for k in range(3)), f"question {n}")

    study = study_of([slate(n) for n in range(people * each)])
    for i in range(people):
        person = study.join(None)
        for n in range(each):
            lease = study.next(person)
            shown = [rewards[tuple(map(int, c.content.split()))] for c in lease.candidates]
            noisy = np.array(shown) @ tastes[i % len(tastes)] + rng.gumbel(size=3)
            study.submit(person, lease.id, f"key-{i:03d}-{n:03d}", "pick", [int(noisy.argmax())])
    return study


def test_people_have_the_codes_that_their_last_page_shows(study_of):
    study = study_of(slates(3))
    anna = study.join("a", worker="W7")
    judge(study, 1)
    rows = overview(study)["people"]
    assert [(p["worker"], p["code"]) for p in rows] == [("W7", study.code(anna)), ("", "")]
    assert [p["code"] for p in overview(study, codes=False)["people"]] == ["", ""], "one code for all"


def test_a_simulated_person_who_cannot_judge_is_nobody(study_of):
    study = study_of(slates(3))
    with pytest.raises(InputError, match="need a column of rewards"):
        judge(study, 1, reward="no such column")
    assert overview(study)["people"] == []
    assert judge(study, 3) == 3, "its slate was handed back"


def test_agreement_is_of_people_on_slates_whose_answer_nobody_knows(study_of):
    known = [Slate(100 + n, texts("right", "wrong", reward=[1, 0]), answer=0) for n in range(3)]
    study = study_of([*slates(4), *known], seats=3, checks=0.4)
    for name in "ab":
        person = study.join(name)
        while (lease := study.next(person)) is not None:
            first = sorted(range(len(lease.candidates)), key=lambda p, c=lease.candidates: c[p].content)[0]
            study.submit(person, lease.id, f"click-{lease.id:06d}", "pick", [first])
    rows = insight._answers(study)
    assert any(r.answer is not None for r in rows)
    judge(study, 4, "random")
    found = overview(study)["agreement"]["between"]
    assert (found["pairs"], found["share"]) == (4, 1.0)


def test_the_best_counts_as_the_pick(study_of):
    study = study_of(slates(1), seats=3, outcomes=("pick", "ranking", "extremes"))
    for name, outcome, count in (("a", "pick", 1), ("b", "ranking", 3), ("c", "extremes", 2)):
        person = study.join(name)
        lease = study.next(person)
        order = sorted(range(3), key=lambda p, c=lease.candidates: c[p].item)
        study.submit(person, lease.id, f"click-{name}-1", outcome, order[:count])
    assert overview(study)["agreement"]["between"]["share"] == 1.0


@pytest.mark.slow
def test_two_groups_are_shown_with_their_shares(study_of):
    study = panel(study_of, 20, 20, TASTES)
    found = overview(study)["fit"]
    assert found["temperature"] is None, "of two rewards there is none"
    groups = found["groups"]
    assert groups["two"]
    assert groups["gain"] > 2 * groups["error"]
    assert groups["names"] == ["a", "b"]
    assert groups["shares"] == pytest.approx([0.5, 0.5], abs=0.15)
    own = sorted(groups["coefficients"], key=lambda row: -row[0])
    np.testing.assert_allclose(own, TASTES, atol=0.8)


def test_one_group_and_its_temperature(study_of):
    found = overview(panel(study_of, GROUPED, 12, np.array([[2.0]]), names=("a",)))["fit"]
    assert found["groups"]["two"] is False
    (term,) = found["coefficients"]
    assert found["temperature"] == pytest.approx(
        {"value": 1 / term["value"], "low": 1 / term["high"], "high": 1 / term["low"]}
    )
    assert found["temperature"]["low"] < 0.5 < found["temperature"]["high"]


def test_few_people_have_no_groups(study_of):
    assert overview(panel(study_of, GROUPED - 1, 12, TASTES))["fit"]["groups"] is None


@pytest.mark.parametrize(
    ("value", "low", "high", "wanted"),
    [(2.0, 1.0, 4.0, (0.5, 0.25, 1.0)), (2.0, -1.0, 5.0, (0.5, 0.2, None)), (-1.0, -2.0, -0.5, None)],
)
def test_temperatures(value, low, high, wanted):
    found = insight._temperature([{"value": value, "low": low, "high": high}])
    assert found == (None if wanted is None else dict(zip(("value", "low", "high"), wanted, strict=True)))


def test_a_look_without_new_answers_fits_nothing(study_of, monkeypatch):
    study = study_of(slates(6))
    fits, clock = [], [0.0]

    def fitted(_, rows):
        fits.append(len(rows))
        clock[0] += 1.0  # it takes a second
        return {"words": f"{len(rows)} answers"}

    monkeypatch.setattr(insight, "fit", fitted)
    monkeypatch.setattr(insight.time, "monotonic", lambda: clock[0])
    live, anna = LiveFit(study), study.join("a")

    def look() -> str:
        return overview(study, live)["fit"]["words"]

    answer(study, anna)
    assert [look() for _ in range(3)] == ["1 answers"] * 3
    answer(study, anna)
    assert look() == "1 answers", "the last fit was a moment ago"
    clock[0] += insight.REST
    assert look() == "2 answers"
    study.undo(anna)
    answer(study, anna, 1)
    clock[0] += insight.REST
    look()
    assert fits == [1, 2, 2], "as many answers as before, but others"


def test_slates_that_lack_a_reward_are_left_out_of_the_fit():
    used = [SimpleNamespace(slate=s, places="[0, 1]", slots="[0]", person=1) for s in range(20)]
    values = {s: {k: {"r": float(s % 3 - k), "note": "x"} for k in (0, 1)} for s in range(20)}
    values[7][1]["r"], values[9][0]["r"] = math.nan, None
    made = choices_of(used, values)
    assert made.names == ("r",)
    assert len(made) == 18
    assert choices_of(used, {s: {0: {"r": None}, 1: {"r": 1.0}} for s in range(20)}) is None
