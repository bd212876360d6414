"""The client of OpenAI-compatible servers: every fault is retried or named, and no key is shown."""

from __future__ import annotations

import socket
import threading

import pytest
from pydantic import ValidationError

pytest.importorskip("httpx2")

from helpers.serving import FAULTS, FakeServer
from recurate.components.serving.client import (
    PATIENCE,
    Client,
    Endpoint,
    _asked_pause,
    _same,
)
from recurate.core.errors import InputError

BODY = {"model": "m", "prompt": [1, 2], "n": 4, "seed": 3}
COUNTED = {  # what each fault is counted as
    "429": "HTTP 429", "500": "HTTP 500", "cut": "cut answer", "empty": "no choices", "slow": "timed out",
    "wrong model": "another model answered", "nan": "NaN in the answer", "bad json": "bad JSON",
    "no text": "choice without text", "more": "too many choices", "half": "bad text",
}  # fmt: skip


@pytest.fixture
def fake():
    with FakeServer() as server:
        yield server


def client(fake: FakeServer, pauses: list[float] | None = None, **given) -> Client:
    endpoint = Endpoint(url=fake.url, timeout=given.pop("timeout", 0.3), **given)
    return Client(endpoint, "try again", sleep=([] if pauses is None else pauses).append)


@pytest.mark.parametrize("fault", sorted(COUNTED))
def test_every_fault_is_retried_and_counted(fake, fault):
    fake.faults = [fault, fault]
    with client(fake) as asking:
        answer = asking.complete("/completions", BODY)
    assert [choice.text for choice in answer.choices] == [f"text 3.{i}" for i in range(4)]
    assert answer.facts["failures"] == {COUNTED[fault]: 2}
    paid = 3 if fault in ("empty", "wrong model", "no text", "more", "half") else 1  # whole answers
    assert answer.facts["server"] == "fake/1.0"
    assert answer.facts["fingerprint"] == "fp_1"
    assert (answer.facts["prompt_tokens"], answer.facts["completion_tokens"]) == (2 * paid, 12 * paid)
    assert answer.facts["read_tokens"] == 2
    assert len(fake.bodies) == 3


@pytest.mark.parametrize("fault", sorted(COUNTED))
def test_a_lasting_fault_is_named(fake, fault):
    fake.always = fault
    with client(fake, retries=2) as asking, pytest.raises(InputError, match=COUNTED[fault]) as error:
        asking.complete("/completions", BODY)
    assert len(fake.bodies) == 3
    assert "attempts: 3" in str(error.value)
    assert fake.url in str(error.value)


def test_the_faults_are_those_of_the_server():
    assert set(FAULTS) == set(COUNTED) | {"fewer"}


def test_fewer_choices_are_an_answer(fake):
    fake.faults = ["fewer"]
    with client(fake) as asking:
        assert len(asking.complete("/completions", BODY).choices) == 2


def test_a_refused_connection_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        pauses: list[float] = []
        asking = Client(Endpoint(url=url, retries=3), "try again", sleep=pauses.append)
        with asking, pytest.raises(InputError, match="no connection"):
            asking.complete("/completions", BODY)
    assert len(pauses) == 3


def test_pauses_double_and_honour_retry_after(fake):
    fake.faults = ["500", "500", "500", "429"]
    pauses: list[float] = []
    with client(fake, pauses) as asking:
        asking.complete("/completions", BODY)
    assert all(2.0**i / 2 <= pause <= 2.0**i for i, pause in enumerate(pauses[:3]))
    assert pauses[3] >= 7
    other: list[float] = []
    fake.faults = ["500"]
    with client(fake, other) as asking:
        asking.complete("/completions", BODY | {"seed": 4})
    assert other[0] != pauses[0]  # requests that fail together do not return together


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("7", 7, 7), ("1.5", 1.5, 1.5), ("soon", 0, 0), ("", 0, 0), ("-3", 0, 0),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("Wed, 21 Oct 2099 07:28:00 GMT", 10**9, 10**11)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(value, low, high):
    assert low <= _asked_pause(value) <= high


def test_a_server_that_asks_for_an_hour_is_not_waited_for(fake, monkeypatch):
    monkeypatch.setattr("recurate.components.serving.client._asked_pause", lambda value: PATIENCE + 1)
    fake.faults = ["429"]
    with client(fake) as asking, pytest.raises(InputError, match="asks to wait for 601 seconds"):
        asking.complete("/completions", BODY)


@pytest.mark.parametrize("status", ["400", "401", "404"])
def test_a_refusal_is_final_and_shows_the_servers_words_without_the_key(fake, status, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    fake.always = status
    with client(fake, key_env="SOME_KEY") as asking, pytest.raises(InputError) as error:
        asking.complete("/completions", BODY)
    assert len(fake.bodies) == 1
    assert fake.headers[0]["Authorization"] == "Bearer sk-very-secret"
    assert f"HTTP {status}: 'status {status} for Bearer ***'" in error.value.got
    assert "secret" not in str(error.value)


def test_a_lasting_failure_does_not_show_the_key(fake, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    fake.always = "500"
    with client(fake, key_env="SOME_KEY", retries=1) as asking, pytest.raises(InputError) as error:
        asking.complete("/completions", BODY)
    assert "***" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("value", [None, "", "two words", "clé", "a\nb"])
def test_a_key_that_is_none_is_refused_unseen(fake, monkeypatch, value):
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(InputError, match="environment variable SOME_KEY") as error:
        client(fake, key_env="SOME_KEY")
    assert not value or value not in str(error.value)


def test_proxies_of_the_environment_do_not_matter_on_this_machine(fake, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with client(fake) as asking:
        asking.complete("/completions", BODY)


def test_the_first_error_ends_the_work(fake):
    fake.always = "400"
    with client(fake, concurrency=2) as asking, pytest.raises(InputError, match="refuses"):
        asking.each(lambda seed: asking.complete("/completions", BODY | {"seed": seed}), range(500))
    assert len(fake.bodies) < 50


def test_an_error_ends_the_pauses_of_other_requests(fake):
    fake.always = "500"
    pausing, both = Client(Endpoint(url=fake.url, concurrency=2), "try again"), threading.Barrier(2)

    def work(number: int) -> None:
        both.wait(10)
        if number:
            raise ValueError("an error")
        pausing.wait(3600)

    with pausing, pytest.raises(ValueError, match="an error"):
        pausing.each(work, range(2))


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("m", "m", True),
        ("org/m", "org/m@main", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("m", "m2", False),
        ("m", "", False),
        ("m2", "m", False),
    ],
)
def test_a_models_name_may_have_a_version(asked, answered, same):
    assert _same(asked, answered) is same


def test_the_version_is_asked_for(fake):
    with client(fake) as asking:
        assert asking.version() is None
        fake.replies["/get_server_info"] = (200, '{"version": "0.5"}')
        assert asking.version() == "0.5"
        fake.replies["/version"] = (200, '{"version": "0.11.0"}')
        assert asking.version() == "0.11.0"


@pytest.mark.parametrize(
    "given",
    [
        {"url": "127.0.0.1:8000/v1"},
        {"url": "http:///v1"},
        {"url": "http://me:secret@host/v1"},
        {"url": "https://host/v1?key=secret"},
        {"url": "http://[::1/v1"},
        {"url": "http://host/v1", "key_env": "sk-secret"},
        {"url": "http://host/v1", "body": {"seed": 1}},
        {"url": "http://host/v1", "retries": -1},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given):
    with pytest.raises(ValidationError):
        Endpoint(**given)
