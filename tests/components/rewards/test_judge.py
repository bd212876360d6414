"""Judges behind a server: scores are parsed strictly, comparisons asked in both orders, answers kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("httpx2")

from helpers.serving import FakeServer
from recurate.components.protocols import Prepared
from recurate.components.rewards.judge import Judge, JudgeSettings
from recurate.components.serving.client import Client
from recurate.core.errors import InputError
from recurate.log.samples import as_texts

TEXTS = as_texts(["good", "bad {context} {text}", "good", "fair"])
ASKED = as_texts(["one", "two", "three", "one"])
SCORES = {"good": "9", "bad": "1.5", "fair": "4"}
SCORE = "Rate the answer to '{context}', in JSON such as {\"a\": 1}: {text}"
PAIR = "Which is better for {context}? A: {first} B: {second}"


def scores(body, number) -> str:
    asked = body["messages"][0]["content"]
    return next(score for word, score in SCORES.items() if f": {word}" in asked)


def prefers_good(body, number) -> str:
    first, _, second = body["messages"][0]["content"].partition("A: ")[2].partition(" B: ")
    if first == second:
        return "tie"
    return "A" if first.startswith("good") else "B" if second.startswith("good") else "A"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Client, "wait", lambda self, seconds: None)
    with FakeServer(scores) as server:
        yield server


def settings(fake, **given) -> JudgeSettings:
    usual = {"kind": "judge", "url": fake.url, "model": "m", "prompt": SCORE, "timeout": 0.3}
    return JudgeSettings(**usual | given)


def judge(fake, **given) -> Judge:
    return settings(fake, **given).build(Prepared())


def pairwise(fake, **given) -> Judge:
    fake.says = prefers_good
    return judge(fake, **{"mode": "pairwise", "prompt": PAIR, "reference": "middling"} | given)


def test_scores_times_gamma(fake):
    assert judge(fake, gamma=2.0)(TEXTS, ASKED).tolist() == [18.0, 3.0, 18.0, 8.0]
    assert {body["temperature"] for body in fake.bodies} == {0.0}
    assert {body["max_tokens"] for body in fake.bodies} == {16}
    assert judge(fake, prompt="Rate: {text}")(TEXTS).tolist() == [9.0, 1.5, 9.0, 4.0]


def test_texts_do_not_inject_fields(fake):
    judge(fake)(TEXTS, ASKED)
    assert sorted(body["messages"][0]["content"] for body in fake.bodies)[3] == (
        "Rate the answer to 'two', in JSON such as {\"a\": 1}: bad {context} {text}"
    )


def test_equal_questions_are_asked_once_and_the_cache_is_kept(fake):
    one = judge(fake, prompt="Rate: {text}", cache="kept/judge.jsonl")
    one(TEXTS, ASKED)
    assert len(fake.bodies) == 3
    again = judge(fake, prompt="Rate: {text}", cache="kept/judge.jsonl")
    fake.always = "400"
    assert (again(TEXTS, ASKED) == one(TEXTS)).all()
    assert len(fake.bodies) == 3
    with pytest.raises(InputError, match="refuses"):
        judge(fake, prompt="Rate: {text}", model="other", cache="kept/judge.jsonl")(TEXTS)


def test_answers_survive_an_error(fake):
    fake.enough = 2
    with pytest.raises(InputError, match="HTTP 500") as error:
        judge(fake, retries=0, concurrency=1)(TEXTS, ASKED)
    assert "judge.jsonl" in error.value.remedy
    fake.enough, count = None, len(fake.bodies)
    assert judge(fake)(TEXTS, ASKED).tolist() == [9.0, 1.5, 9.0, 4.0]
    assert len(fake.bodies) - count == 2


@pytest.mark.parametrize(
    "said",
    ["", "nine", "9 of 10", "Score: 9", "11", "0.5", "9,5", "NaN", "inf", "1e1", "9.", "9 9", "٩"],
)
def test_what_is_no_number_in_the_range_is_asked_again_and_never_a_score(fake, said):
    fake.says = lambda body, number: said
    with pytest.raises(InputError, match="no number from 1 to 10") as error:
        judge(fake, retries=2)(as_texts(["some text"]))
    assert "'some text'" in error.value.got
    assert len(fake.bodies) == 3
    fake.says = lambda body, number: said if len(fake.bodies) < 5 else " 9\n"
    assert judge(fake)(as_texts(["some text"])).tolist() == [9.0]


@pytest.mark.parametrize(
    ("said", "score"),
    [("because...\nScore: 7", 7.0), ("Score: 7 ... Score: 7", 7.0), ("Score: 7, or Score: 8", None),
     ("7", None), ("Score: x", None), ("Score: 70", None)],
)  # fmt: skip
def test_a_pattern_finds_the_score(fake, said, score):
    assert settings(fake, pattern=r"Score: (\w+)").value(said) == score


def test_an_answer_that_was_cut_is_none(fake, monkeypatch):
    whole = FakeServer.choice
    cut = staticmethod(lambda chat, i, text: whole(chat, i, text) | {"finish_reason": "length"})
    monkeypatch.setattr(FakeServer, "choice", cut)
    with pytest.raises(InputError, match="cut at 16 tokens"):
        judge(fake, retries=1)(TEXTS)


def test_comparisons_are_asked_in_both_orders(fake):
    compare = pairwise(fake, gamma=3.0, prompt_price=1e6, completion_price=2e6)
    found = compare(as_texts(["good", "bad", "middling"]), as_texts(["x", "x", "x"]))
    # Of two texts of which none is good, this judge prefers the first: half a win in both orders together.
    assert found.tolist() == [3.0, 1.5, 1.5]
    asked = [body["messages"][0]["content"] for body in fake.bodies]
    assert "Which is better for x? A: middling B: good" in asked
    assert "Which is better for x? A: good B: middling" in asked
    (said,) = compare.spent()
    assert "1 of 2 comparisons depended on the order" in said  # the last is with itself, and asked once
    assert compare.spent() == []


def test_references_by_prompt(fake, tmp_path):
    (tmp_path / "refs.csv").write_text("context,sample\none,good too\ntwo,bad\nthree,good\n")
    compare = pairwise(fake, reference=None, references="refs.csv")
    assert compare(as_texts(["bad", "good", "good"]), as_texts(["one", "two", "three"])).tolist() == [
        0,
        1,
        0.5,
    ]
    with pytest.raises(InputError, match="no reference"):
        compare(as_texts(["bad"]), as_texts(["four"]))
    (tmp_path / "refs.csv").write_text("context,sample\none,good\none,bad\n")
    with pytest.raises(InputError, match="1 of 1 prompts have several references"):
        pairwise(fake, reference=None, references="refs.csv")(as_texts(["bad"]), as_texts(["one"]))


@pytest.mark.parametrize("said", ["", "C", "A or B", "first", "AB", "A."])
def test_what_is_no_verdict_is_never_a_reward(fake, said):
    compare = pairwise(fake, retries=1)
    fake.says = lambda body, number: said
    with pytest.raises(InputError, match="no A, B or tie"):
        compare(as_texts(["good"]))


def test_the_cost_is_said(fake):
    made = judge(fake, prompt_price=3.0, completion_price=10.0, name="helpful")
    assert made.spent() == []
    made(TEXTS, ASKED)
    (said,) = made.spent()  # 4 answers of 2 and 3 tokens
    assert said == ("reward 'helpful': 4 answers by m, 8 prompt and 12 completion tokens; price: 0.000144")
    fake.faults = ["500", "nan", "no text"]
    made(as_texts(["good too"]), as_texts(["new"]))
    (said,) = made.spent()
    assert "4 prompt and 6 completion tokens" in said  # an answer without text has its price
    assert "asked again after 1 x HTTP 500, 1 x NaN in the answer" in said
    assert judge(fake, name="helpful").spent() == []


def test_tokens_that_are_not_stated_are_not_taken_for_none(fake):
    fake.usage = False
    made = judge(fake, prompt_price=3.0)
    made(TEXTS, ASKED)
    assert "0 prompt and 0 completion tokens, 4 answers without their numbers not counted" in made.spent()[0]


def test_the_key_is_needed_at_once_and_kept_nowhere(fake, monkeypatch, tmp_path):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(InputError, match="JUDGE_KEY"):
        judge(fake, key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    judge(fake, key_env="JUDGE_KEY")(TEXTS)
    assert fake.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "secret" not in (tmp_path / "judge.jsonl").read_text()


def test_numbers_are_refused(fake):
    with pytest.raises(InputError, match="needs texts"):
        judge(fake)(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": "Rate it"}, "must contain {text}"),
        ({"prompt": "{text} {txet}"}, "unknown placeholder {txet}"),
        ({"prompt": PAIR, "mode": "pairwise"}, "give reference or references"),
        ({"mode": "pairwise", "reference": "r"}, "unknown placeholder {text}"),
        ({"reference": "r"}, "only then"),
        ({"lowest": 10.0}, "must be below highest"),
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": "Score"}, "one group"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(fake, given, words):
    with pytest.raises(ValidationError) as error:
        settings(fake, **given)
    assert words in str(error.value)


def test_a_foreign_line_in_the_cache_is_left_out(fake, tmp_path):
    key = judge(fake)._key("Rate the answer to '', in JSON such as {\"a\": 1}: good")
    rows = [{"key": 7, "said": "3"}, {"key": key, "said": None}, {"said": "3"}, {"key": key, "said": "junk"}]
    (tmp_path / "judge.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert judge(fake)(as_texts(["good"])).tolist() == [9.0]
