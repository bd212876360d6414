"""Language models that a server samples from: what it is asked, and how it gets new weights."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("httpx2")

import torch
import transformers

from helpers import tiny_models as tiny
from helpers.serving import FakeServer
from recurate.components.generators.language import Language, LanguageSettings
from recurate.components.serving.client import Client
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.samples import as_texts

ROOT = Stream(0)
RNG = ROOT.at("round", 0, "sample")
ASKED = as_texts([f"number {i // 4}" for i in range(12)])
WORDS = as_texts([f"fox {i % 3}" for i in range(12)])
CHAT = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with a model, as transformers saves it."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory) -> Path:
    """The same with a chat template."""
    return tiny.save(tmp_path_factory.mktemp("models") / "chat", CHAT)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(Client, "wait", lambda self, seconds: None)
    with FakeServer() as server:
        yield server


def settings(fake, model, server=None, sample=None, **given) -> LanguageSettings:
    usual = {"url": fake.url, "timeout": 5.0, "concurrency": 1, "load": "path", "retries": 2}
    return LanguageSettings(
        kind="language", model=str(model), device="cpu", server=usual | (server or {}),
        sample={"engine": "openai", "longest": 12} | (sample or {}), **{"training": {"epochs": 1}} | given,
    )  # fmt: skip


def build(fake, model, tmp_path, **given) -> Language:
    return settings(fake, model, **given).build(tmp_path / "work", tmp_path / "logs")


def test_the_tokens_of_prompts_are_those_of_training(fake, base, tmp_path):
    model = build(fake, base, tmp_path, sample={"temperature": 0.5, "top_p": 0.9, "stop": [".1"]})
    texts = model.sample(12, rng=RNG, contexts=ASKED)
    codec = model._codec(model.tokenizer, model.model)
    assert [body["prompt"] for body in fake.bodies] == codec.prompts(ASKED[::4], 3)
    for number, body in enumerate(fake.bodies):
        seed = RNG.at("item", 4 * number).integer() % 2**31
        assert body == {
            "model": str(base), "prompt": body["prompt"], "n": 4, "seed": seed, "temperature": 0.5,
            "top_p": 0.9, "max_tokens": 12, "stop": [".1"],
        }  # fmt: skip
        assert texts[4 * number : 4 * number + 2].tolist() == [f"text {seed}.0", f"text {seed}"]
    assert (tmp_path / "logs" / "round-0-sample-0.jsonl").exists()
    (said,) = model.remarks(RNG)
    assert said.startswith("12 completions by a server in 3 answers")


def test_items_do_not_depend_on_the_shard_if_each_is_a_request(fake, base, tmp_path):
    model = build(fake, base, tmp_path, server={"choices": 1})
    whole = model.sample(12, rng=RNG, contexts=ASKED)
    alone = replace(model, logs=tmp_path / "other")
    parts = [alone.sample(b - a, rng=RNG, contexts=ASKED[a:b], first=a) for a, b in ((0, 5), (5, 6), (6, 12))]
    assert (np.concatenate(parts) == whole).all()
    assert len(model.remarks(RNG)) == 1
    assert alone.remarks(RNG)[0].startswith("12 completions by a server in 12 answers")
    unconditional = model.sample(3, rng=ROOT.at("other"))
    assert unconditional.shape == (3,)


def test_messages_of_a_chat(fake, chatty, tmp_path):
    model = build(fake, chatty, tmp_path, server={"api": "chat"}, prompt="Say {context}!")
    model.sample(12, rng=RNG, contexts=ASKED)
    assert [body["messages"] for body in fake.bodies] == [
        [{"role": "user", "content": f"Say number {i}!"}] for i in range(3)
    ]


def test_a_chat_needs_prompts_and_a_template(fake, base, chatty, tmp_path):
    model = build(fake, base, tmp_path, server={"api": "chat"})
    with pytest.raises(InputError, match="tokenizer with a chat template"):
        model.sample(12, rng=RNG, contexts=ASKED)
    with pytest.raises(InputError, match="needs prompts"):
        build(fake, chatty, tmp_path, server={"api": "chat"}).sample(12, rng=RNG)
    assert not fake.bodies


def test_end_tokens_of_ones_own_are_sent(fake, base, tmp_path):
    model = build(fake, base, tmp_path, end="<ask>", server={"body": {"top_k": 5}})
    model.sample(1, rng=RNG, contexts=ASKED[:1])
    ends = {tiny.tokenizer().convert_tokens_to_ids(token) for token in ("<ask>", "</s>")}
    assert set(fake.bodies[0]["stop_token_ids"]) == ends
    assert fake.bodies[0]["top_k"] == 5


def test_requests_name_the_folder_of_new_weights(fake, base, tmp_path):
    model = build(fake, base, tmp_path, server={"model": "first"})
    model.sample(4, rng=RNG, contexts=ASKED[:4])
    trained = model.fit(WORDS, rng=ROOT, contexts=ASKED)
    trained.sample(4, rng=RNG, contexts=ASKED[:4])
    first, second = [body["model"] for body in fake.bodies]
    assert first == "first"
    assert Path(second).parent == (tmp_path / "work" / "served").resolve()
    served = transformers.AutoModelForCausalLM.from_pretrained(second)
    ours = trained.model.state_dict()
    assert all((value == ours[name]).all() for name, value in served.state_dict().items())
    assert served.generation_config.do_sample
    assert (
        transformers.AutoTokenizer.from_pretrained(second)("red").input_ids
        == tiny.tokenizer()("red").input_ids
    )
    # The same weights in another process have the same name, and its answers are known.
    trained.save(saved := tmp_path / "saved")
    again = trained.settings.load(saved, tmp_path / "work", tmp_path / "logs")
    count = len(fake.bodies)
    again.sample(4, rng=RNG, contexts=ASKED[:4])
    assert len(fake.bodies) == count
    assert again.remarks(RNG) == trained.remarks(RNG)
    assert len(trained.remarks(RNG)) == 1


def adapters(fake, base, tmp_path) -> Language:
    pytest.importorskip("peft")
    fake.replies["/v1/load_lora_adapter"] = (200, "Success: LoRA adapter added successfully.")
    return build(
        fake, base, tmp_path, server={"load": "vllm-lora"}, training={"epochs": 1, "lora": {"rank": 2}}
    )


def loads(fake) -> list[dict]:
    return [body for path, body in fake.others if path == "/v1/load_lora_adapter"]


def test_vllm_loads_the_adapters_of_a_round_once(fake, base, tmp_path):
    model = adapters(fake, base, tmp_path)
    model.sample(4, rng=RNG, contexts=ASKED[:4])
    assert not loads(fake)
    assert fake.bodies[0]["model"] == str(base)
    trained = model.fit(WORDS, rng=ROOT, contexts=ASKED)
    trained.sample(4, rng=RNG, contexts=ASKED[:4])
    trained.sample(4, rng=RNG, contexts=ASKED[:4], first=4)
    (asked,) = loads(fake)
    assert asked["lora_name"] == fake.bodies[1]["model"] == fake.bodies[2]["model"]
    assert asked["lora_name"].startswith("recurate-")
    names = {path.name for path in Path(asked["lora_path"]).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "model.safetensors" not in names
    other = trained.fit(WORDS, rng=ROOT.at("again"), contexts=ASKED)
    other.sample(4, rng=RNG.at("next"), contexts=ASKED[:4])
    assert loads(fake)[1]["lora_name"] != asked["lora_name"]


def test_adapters_are_merged_for_servers_that_read_whole_models(fake, base, tmp_path):
    pytest.importorskip("peft")
    model = build(fake, base, tmp_path, training={"epochs": 9, "learning_rate": 0.1, "lora": {"rank": 2}})
    trained = model.fit(WORDS, rng=ROOT, contexts=ASKED)
    trained.sample(4, rng=RNG, contexts=ASKED[:4])
    served = transformers.AutoModelForCausalLM.from_pretrained(fake.bodies[0]["model"])
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        wanted, found, before = (m(ids).logits for m in (trained.model, served, model.model))
    assert (found - wanted).abs().max() < 1e-4
    assert (found - before).abs().max() > 1e-2
    assert hasattr(trained.model, "peft_config")  # which goes on as it was


@pytest.mark.parametrize(
    ("status", "words", "error"),
    [
        (400, '{"error": {"message": "The lora adapter \'x\' has already been loaded."}}', None),
        (400, '{"message": "rank 2 is too large"}', "refuses the request"),
        (404, '{"detail": "Not Found"}', "cannot load adapters"),
        (500, "oh", "HTTP 500"),
    ],
)
def test_vllms_answers_to_adapters(fake, base, tmp_path, status, words, error):
    trained = adapters(fake, base, tmp_path).fit(WORDS, rng=ROOT, contexts=ASKED)
    fake.replies["/v1/load_lora_adapter"] = (status, words)
    if error is None:
        assert len(trained.sample(4, rng=RNG, contexts=ASKED[:4])) == 4
    else:
        with pytest.raises(InputError, match=error):
            trained.sample(4, rng=RNG, contexts=ASKED[:4])
        assert not fake.bodies


PROGRAM = """
import json, sys
from pathlib import Path
out, checkpoint, name, url = sys.argv[1:]
assert (Path(checkpoint) / "model.safetensors").exists()
with open(out, "a") as file:
    print(json.dumps([checkpoint, name, url]), file=file)
print("restarted")
"""


def restarted(fake, base, tmp_path, *words: str, **server) -> Language:
    (tmp_path / "restart.py").write_text(PROGRAM)
    command = ["{python}", str(tmp_path / "restart.py"), str(tmp_path / "calls"), *words]
    return build(fake, base, tmp_path, server={"load": "command", "command": command} | server)


def test_a_command_gives_the_server_new_weights(fake, base, tmp_path):
    model = restarted(fake, base, tmp_path, "{checkpoint}", "{name}", "{url}")
    fake.faults = ["500", "404", "bad json"]  # while it starts
    model.sample(4, rng=RNG, contexts=ASKED[:4])
    trained = model.fit(WORDS, rng=ROOT, contexts=ASKED)
    trained.sample(4, rng=RNG, contexts=ASKED[:4])
    trained.sample(4, rng=RNG, contexts=ASKED[:4], first=4)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert [url for _, _, url in calls] == [fake.url] * 2
    assert calls[0][0] == str(base)
    assert calls[0][1] != calls[1][1]
    asked = [body["model"] for body in fake.bodies]
    assert asked == [calls[0][1]] * 5 + [calls[1][1]] * 3
    assert [body["max_tokens"] for body in fake.bodies] == [1] * 4 + [12, 1, 12, 12]
    assert "restarted" in (tmp_path / "logs" / "round-0-sample-server.log").read_text()


def test_an_old_server_that_still_answers_is_noticed(fake, base, tmp_path):
    model = restarted(fake, base, tmp_path, "{checkpoint}", "-", "{url}")
    fake.always = "wrong model"
    with pytest.raises(InputError, match="another model answered"):
        model.sample(4, rng=RNG, contexts=ASKED[:4])


def test_a_server_that_does_not_come_back_is_an_error(fake, base, tmp_path):
    model = restarted(fake, base, tmp_path, "{checkpoint}", "{name}", "{url}", load_timeout=3.0)
    fake.always = "500"
    with pytest.raises(InputError, match="does not answer as 'recurate-"):
        model.sample(4, rng=RNG, contexts=ASKED[:4])


def test_a_command_that_fails_is_an_error(fake, base, tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('{checkpoint}')"]
    model = build(fake, base, tmp_path, server={"load": "command", "command": command})
    with pytest.raises(InputError, match=r"generator\.server\.command failed: its exit code was 1"):
        model.sample(4, rng=RNG, contexts=ASKED[:4])
    assert not fake.bodies


def test_a_server_that_keeps_its_model_is_said_to(fake, base, tmp_path):
    model = build(fake, base, tmp_path, server={"load": "none", "model": "theirs"})
    model.sample(4, rng=RNG, contexts=ASKED[:4])
    assert len(model.remarks(RNG)) == 1
    trained = model.fit(WORDS, rng=ROOT, contexts=ASKED)
    trained.sample(4, rng=RNG.at("next"), contexts=ASKED[:4])
    assert {body["model"] for body in fake.bodies} == {"theirs"}
    assert "samples from its own model, not from the trained one" in trained.remarks(RNG.at("next"))[0]


def test_the_key_is_needed_before_the_run(fake, base, monkeypatch):
    monkeypatch.delenv("SERVER_KEY", raising=False)
    with pytest.raises(InputError, match="SERVER_KEY"):
        settings(fake, base, server={"key_env": "SERVER_KEY"}).check()


def test_the_files_of_the_command_are_fingerprinted(fake, base, tmp_path):
    restarted(fake, base, tmp_path, "{checkpoint}")
    made = restarted(fake, base, tmp_path, "{checkpoint}").settings
    assert str(tmp_path / "restart.py") in {part.name for part in made.rests_on("generator")}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"server": {"load": "vllm-lora"}}, "give training.lora"),
        ({"sample": {"engine": "here"}}, "only then"),
        ({"server": {"load": "command"}}, "give command with load"),
        ({"server": {"command": ["x"]}}, "give command with load"),
        ({"server": {"load": "command", "command": ["x"]}}, "must name {checkpoint}"),
        ({"server": {"load": "command", "command": ["{checkpoint}", "{nmae}"]}}, "unknown placeholder"),
        ({"server": {"api": "chat"}, "template": "plain"}, "needs server.api"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(fake, base, given, words):
    with pytest.raises(ValidationError) as error:
        settings(fake, base, **given)
    assert words in str(error.value)


def test_a_server_and_how_it_gets_weights_must_be_named(fake):
    sample = {"engine": "openai"}
    with pytest.raises(ValidationError, match="give the table server"):
        LanguageSettings(kind="language", sample=sample)
    with pytest.raises(ValidationError, match=r"server\.load"):
        LanguageSettings(kind="language", sample=sample, server={"url": fake.url})
    with pytest.raises(ValidationError, match="name the server's model"):
        LanguageSettings(kind="language", sample=sample, server={"url": fake.url, "load": "none"})
