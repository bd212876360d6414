"""Completions by a server: in groups, kept as they arrive, asked for again where missing."""

from __future__ import annotations

import pytest

pytest.importorskip("httpx2")

from helpers.serving import FAULTS, FakeServer
from recurate.components.serving.client import Client, Endpoint
from recurate.components.serving.kept import Kept
from recurate.components.serving.sampling import Order, Prompt, answers, ask, remarks
from recurate.core.errors import InputError

MANNER = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 8}
ORDER = Order("digest", MANNER, 8)
PROMPTS = [Prompt((1, 2, 3 + i // 4)) for i in range(20)]  # five prompts, four completions of each
SEEDS = [1000 + i for i in range(20)]


@pytest.fixture
def fake():
    with FakeServer() as server:
        yield server


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(Client, "wait", lambda self, seconds: None)


def sample(fake, kept, order=ORDER, prompts=PROMPTS, seeds=SEEDS, **given) -> list[str]:
    endpoint = Endpoint(url=fake.url, **{"timeout": 0.3, "concurrency": 1} | given)
    return ask(order, prompts, seeds, kept, endpoint, lambda client: "m")


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "kept.jsonl")


def lines(kept: Kept) -> list[dict]:
    return Kept(kept.path).new()


WANTED = [f"text {1000 + 4 * (i // 4)}.{i % 4}" for i in range(20)]


def test_a_request_asks_for_all_completions_of_a_prompt(fake, kept):
    assert sample(fake, kept) == WANTED
    assert [(b["prompt"], b["n"], b["seed"]) for b in fake.bodies] == [
        ([1, 2, 3 + i], 4, 1000 + 4 * i) for i in range(5)
    ]
    assert all(body.items() >= MANNER.items() and body["model"] == "m" for body in fake.bodies)
    said = " ".join(remarks(lines(kept), 8))
    assert "20 completions by a server in 5 answers (model m; server fake/1.0; fingerprint fp_1)" in said
    assert "15 prompt and 60 completion tokens" in said
    assert said.count(";") == 2  # nothing else is to be said


def test_groups_are_not_larger_than_asked_for(fake, kept):
    same = [Prompt((1,))] * 20
    sample(fake, kept, Order("digest", MANNER, 8), same)
    assert [body["n"] for body in fake.bodies] == [8, 8, 4]
    assert [body["seed"] for body in fake.bodies] == [1000, 1008, 1016]


def test_messages_of_a_chat(fake, kept):
    found = sample(fake, kept, prompts=[Prompt((1, 2), "hello")] * 2, seeds=SEEDS[:2])
    assert found == ["text 1000.0", "text 1000.1"]
    assert fake.bodies[0]["messages"] == [{"role": "user", "content": "hello"}]
    assert "prompt" not in fake.bodies[0]


@pytest.mark.parametrize("fault", FAULTS)
def test_sampling_recovers_from_every_fault(fake, kept, fault):
    fake.faults = [fault]
    found = sample(fake, kept, concurrency=1)
    if fault == "fewer":  # then two at a time are asked for
        assert [body["n"] for body in fake.bodies] == [4] + [2] * 9
        assert found == [f"text {1000 + 2 * (i // 2)}.{i % 2}" for i in range(20)]
        assert "1 answer had fewer choices than asked for" in " ".join(remarks(lines(kept), 8))
    else:
        assert found == WANTED
        assert "requests were sent again after 1 x " in " ".join(remarks(lines(kept), 8))


def test_a_server_that_ignores_n_is_noticed(kept):
    with FakeServer(most=1) as fake:
        found = sample(fake, kept)
    assert found == [f"text {1000 + i}.0" for i in range(20)]
    assert [body["n"] for body in fake.bodies] == [4] + [1] * 19
    assert [body["seed"] for body in fake.bodies] == SEEDS


@pytest.mark.parametrize("concurrency", [1, 8])
def test_what_was_answered_is_not_asked_again(fake, kept, concurrency):
    fake.enough = 3
    with pytest.raises(InputError, match="HTTP 500") as error:
        sample(fake, kept, retries=1, concurrency=concurrency)
    assert str(kept.path) in error.value.remedy
    before = {
        key: text for line in lines(kept) for key, text in zip(line["keys"], line["texts"], strict=True)
    }
    assert len(before) == 12
    fake.enough, count = None, len(fake.bodies)
    assert sample(fake, Kept(kept.path), concurrency=concurrency) == WANTED
    assert len(fake.bodies) - count == 2  # two prompts were missing
    answered = {int(text.removeprefix("text ").partition(".")[0]) for text in before.values()}
    assert {body["seed"] for body in fake.bodies[count:]} == set(SEEDS[::4]) - answered
    count = len(fake.bodies)
    assert sample(fake, Kept(kept.path)) == WANTED
    assert len(fake.bodies) == count
    fake.http.server_close()  # all is known: not even a connection is needed
    assert sample(fake, Kept(kept.path)) == WANTED


def test_kept_answers_are_those_of_the_result_even_if_the_server_says_others_now(fake, kept):
    fake.enough = 3
    with pytest.raises(InputError):
        sample(fake, kept, retries=0)
    fake.enough, fake.says = None, lambda body, number: f"other {body['seed']}.{number}"
    found = sample(fake, Kept(kept.path))
    assert found[:12] == WANTED[:12]
    assert all(text.startswith("other") for text in found[12:])
    assert sample(fake, Kept(kept.path)) == found


def test_a_torn_answer_is_asked_for_again(fake, kept):
    sample(fake, kept)
    kept.path.write_bytes(kept.path.read_bytes()[:-10])
    count = len(fake.bodies)
    assert sample(fake, Kept(kept.path)) == WANTED
    assert len(fake.bodies) == count + 1


@pytest.mark.parametrize("change", ["digest", "manner", "seeds", "prompts"])
def test_answers_to_other_questions_are_not_used(fake, kept, change):
    sample(fake, kept)
    order = {"digest": Order("other", MANNER, 8), "manner": Order("digest", MANNER | {"top_p": 0.9}, 8)}
    seeds = [seed + 100 for seed in SEEDS] if change == "seeds" else SEEDS
    prompts = [Prompt((*p.ids, 9)) for p in PROMPTS] if change == "prompts" else PROMPTS
    count = len(fake.bodies)
    sample(fake, Kept(kept.path), order.get(change, ORDER), prompts, seeds)
    assert len(fake.bodies) == count + 5


def test_completions_that_were_cut_are_counted(fake, kept, monkeypatch):
    whole = FakeServer.choice
    monkeypatch.setattr(
        FakeServer,
        "choice",
        staticmethod(lambda chat, i, text: whole(chat, i, text) | {"finish_reason": "length"}),
    )
    sample(fake, kept)
    assert "20 of 20 completions were cut at 8 tokens" in list(remarks(lines(kept), 8))


def test_a_server_that_reads_prompts_otherwise_is_noticed(fake, kept):
    sample(fake, kept, prompts=[Prompt((1, 2, 3), "hello")] * 4, seeds=SEEDS[:4])  # it counts two tokens
    assert any("in 1 of 1 answers: 2 tokens, not 3" in said for said in remarks(lines(kept), 8))


def test_a_server_that_does_not_sample_is_noticed(fake, kept):
    fake.says = lambda body, number: f"always {body['prompt'][-1]}"
    prompts = [Prompt((i // 4,)) for i in range(28)]
    sample(fake, kept, prompts=prompts, seeds=list(range(28)))
    assert any("the server does not sample" in said for said in remarks(lines(kept), 8))


def test_servers_of_several_versions_are_noticed(fake, kept):
    sample(fake, kept)
    found = lines(kept)
    found[1]["fingerprint"] = "fp_2"
    assert "answers of this round come from servers of 2 different fingerprints" in list(remarks(found, 8))
    assert list(remarks([], 8)) == []


def test_foreign_lines_are_left_out(fake, kept):
    kept.add({"n": 1})
    kept.add({"keys": ["a"], "texts": []})
    sample(fake, kept)
    assert len(lines(kept)) == 7
    assert len(answers(Kept(kept.path))) == 5


def test_a_server_that_goes_away_loses_no_answer(kept):
    with FakeServer() as fake:
        port, fake.enough = fake.http.server_address[1], 3
        with pytest.raises(InputError):
            sample(fake, kept, retries=0)
    with pytest.raises(InputError, match="no connection") as error:
        sample(fake, Kept(kept.path), retries=1)
    assert str(kept.path) in error.value.remedy
    with FakeServer(port=port) as again:
        assert sample(again, Kept(kept.path)) == WANTED
        assert len(again.bodies) == 2
