"""Runs whose candidates a server samples, and whose rewards a judge gives: killed, resumed, in shards."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("httpx2")

from helpers import tiny_models as tiny
from helpers.commands import call
from helpers.paths import ROOT
from helpers.serving import FakeServer
from helpers.tiny import contents
from recurate.components.serving.client import Client
from recurate.core.errors import InputError
from recurate.core.files import read_toml
from recurate.engines.engine import engine_named
from recurate.log.folders import StoredRun
from recurate.loop.config import Config, parse_config, write_config
from recurate.loop.driver import resume, run
from recurate.loop.monitors.protocol import Monitor
from recurate.loop.run_folder import RunFolder


class Heard(Monitor):
    """A monitor that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, lines) -> None:
        self.warnings += lines


def says(body, number) -> str:
    """Texts for candidates, numbers for judges."""
    if "messages" in body:
        return str(1 + len(body["messages"][0]["content"]) % 10)
    return f"candidate {body['seed'] % 97} {number}"


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(Client, "wait", lambda self, seconds: None)
    with FakeServer(says) as server:
        yield server


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


def config(fake, base, **changes) -> Config:
    usual = {
        "rounds": 2,
        "data": {"kind": "queries", "source": "generated", "size": 40},
        "generator": {
            "kind": "language", "model": str(base), "device": "cpu",
            "sample": {"engine": "openai", "longest": 12},
            "training": {"epochs": 1, "batch": 8},
            "server": {"url": fake.url, "load": "path", "timeout": 5.0, "retries": 1, "choices": 2},
        },
        "rewards": [{"kind": "length", "target": 4}],
        "selection": {"k": 2, "picks": 8},
    }  # fmt: skip
    return parse_config(usual | changes)


def results(folder) -> dict[str, bytes]:
    """What a run's rounds and results hold; what the server said, and when, is beside it."""
    skipped = ("commands/", "report.html", "config.toml", "manifest.json")
    return {name: found for name, found in contents(folder).items() if not name.startswith(skipped)}


def test_a_run_that_stops_half_way_asks_only_for_the_rest(fake, base, tmp_path):
    settings = config(fake, base)
    run(settings, tmp_path / "whole")
    total = len(fake.bodies)
    assert total == 3 * 8  # three rounds of eight slates, one request each

    fake.good, fake.enough, count = 0, 12, len(fake.bodies)
    with pytest.raises(InputError, match="HTTP 500") as error:
        run(settings, tmp_path / "parts")
    assert "round-1-sample-0.jsonl" in error.value.remedy
    assert StoredRun(tmp_path / "parts").complete() == 1
    fake.enough, count = None, len(fake.bodies)
    resume(tmp_path / "parts")
    assert len(fake.bodies) - count == total - 12
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_answers_decide_even_if_the_server_would_say_others_now(fake, base, tmp_path):
    fake.enough = 12
    with pytest.raises(InputError):
        run(config(fake, base), tmp_path / "run")
    (kept,) = (tmp_path / "run" / "commands").glob("round-1-*.jsonl")
    before = kept.read_text()
    fake.enough, fake.says = None, lambda body, number: f"other {body['seed'] % 97} {number}"
    resume(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert kept.read_text().startswith(before)
    texts = [path.read_bytes() for path in sorted((tmp_path / "run").glob("rounds/*/samples.parquet"))]
    assert [b"candidate" in text for text in texts] == [True, True, False]
    assert [b"other" in text for text in texts] == [False, True, True]


def test_a_server_that_refuses_ends_the_command_with_code_2(fake, base, tmp_path):
    fake.always = "404"
    (tmp_path / "served.toml").write_text(write_config(config(fake, base)))
    done = call("run", "served.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "refuses the request" in done.stderr
    assert "recurate run --resume" in done.stderr
    fake.always = None
    assert call("run", "--resume", "out", cwd=tmp_path).returncode == 0
    assert StoredRun(tmp_path / "out").complete() == 3


def test_what_the_server_says_is_in_the_log(fake, base, tmp_path):
    fake.faults = ["429", "fewer"]
    heard = Heard()
    run(config(fake, base, control=True, rounds=1), tmp_path / "run", heard)
    said = "\n".join(heard.warnings)
    assert re.search(r"16 completions by a server in \d+ answers \(model", said)
    assert "requests were sent again after 1 x HTTP 429" in said
    assert "1 answer had fewer choices than asked for" in said
    assert "8 completions by a server in 4 answers" in said  # of the control arm


def in_shards(fake, base) -> Config:
    pytest.importorskip("peft")
    fake.replies["/v1/load_lora_adapter"] = (200, "Success")
    settings = config(fake, base).generator.model_dump(mode="json", exclude_none=True)
    settings["server"]["load"] = "vllm-lora"
    settings["training"]["lora"] = {"rank": 2}
    return config(fake, base, rounds=1, generator=settings, engine={"shard": 4})


def adapters(fake) -> list[str]:
    return [body["lora_name"] for path, body in fake.others if path.endswith("adapter")]


def test_shards_load_new_weights_once_and_keep_their_own_answers(fake, base, tmp_path):
    heard = Heard()
    run(in_shards(fake, base), tmp_path / "run", heard)
    assert "16 completions by a server in 8 answers" in "\n".join(heard.warnings)
    assert len(adapters(fake)) == 1
    assert len(list((tmp_path / "run" / "commands").glob("round-1-sample-*.jsonl"))) == 4


@pytest.mark.slow
def test_shards_in_other_processes_are_the_same(fake, base, tmp_path):
    made, heard = in_shards(fake, base), Heard()
    run(made, tmp_path / "here")
    engine = engine_named("processes", 2)
    try:
        run(made, tmp_path / "there", heard, engine)
    finally:
        engine.close()
    assert results(tmp_path / "there") == results(tmp_path / "here")
    assert adapters(fake) == adapters(fake)[:1] * 2
    assert "16 completions by a server in 8 answers" in "\n".join(heard.warnings)


def test_judges_are_asked_once_in_a_run_and_its_resumption(fake, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    judge = {"kind": "judge", "url": fake.url, "model": "j", "prompt": "{text}", "prompt_price": 1.0}
    made = config(fake, base, rewards=[judge | {"retries": 0}], rounds=1)
    heard = Heard()
    run(made, tmp_path / "run", heard)
    counts = re.findall(r"reward 'reward': (\d+) answers by j", "\n".join(heard.warnings))
    judged = [body for body in fake.bodies if body["model"] == "j"]
    assert len(counts) == 2
    assert sum(map(int, counts)) == len(judged)
    assert len({body["messages"][0]["content"] for body in judged}) == len(judged)
    count = len(judged)
    shutil.rmtree(tmp_path / "run" / "rounds" / "001")
    resume(tmp_path / "run")
    assert len([body for body in fake.bodies if body["model"] == "j"]) == count


def test_the_example(fake, base, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    fake.replies["/v1/load_lora_adapter"] = (200, "Success")
    raw = read_toml(ROOT / "examples" / "openai.toml")
    raw |= {"rounds": 1, "selection": {"k": 2, "picks": 30}}
    raw["data"] |= {"size": 100, "largest": 1}
    raw["generator"] |= {"model": str(base), "device": "cpu", "prompt": "{context}"}
    raw["generator"]["server"]["url"] = raw["tracked"][0]["url"] = fake.url
    run(parse_config(raw), tmp_path / "run")
    assert StoredRun(tmp_path / "run").complete() == 2
    assert len(adapters(fake)) == 1
    assert "judged" in RunFolder.open(tmp_path / "run").log(1).table.column_names


def test_a_dry_run_asks_the_server(fake, base, tmp_path):
    (tmp_path / "served.toml").write_text(write_config(config(fake, base)))
    done = call("run", "served.toml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "candidate" in done.stdout
    assert len({body["model"] for body in fake.bodies}) == 2  # the first weights, and trained ones


def test_servers_of_a_strangers_run_are_asked_about(fake, base, tmp_path, monkeypatch):
    fake.enough = 12
    with pytest.raises(InputError):
        run(config(fake, base), tmp_path / "run")
    fake.enough, count = None, len(fake.bodies)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    done = call("run", "--resume", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert f"url = '{fake.url}', a server" in done.stderr
    assert len(fake.bodies) == count
    assert call("run", "--resume", "run", "--trust", cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 13])
def test_a_run_that_is_killed_loses_no_answer(fake, base, tmp_path, after):
    settings = config(fake, base)
    run(settings, tmp_path / "whole")
    total, before = len(fake.bodies), fake.good
    (tmp_path / "served.toml").write_text(write_config(settings))
    words = [sys.executable, "-m", "recurate.cli", "run", "served.toml", "--out", "killed"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def killing(body, number) -> str:
        if fake.good >= before + after:
            process.kill()
        return says(body, number)

    fake.says = killing
    assert process.wait(120) == -signal.SIGKILL
    fake.says, count = says, len(fake.bodies)
    asked = count - total
    resume(tmp_path / "killed")
    again = len(fake.bodies) - count
    # What was on its way when the process died, at most one answer per thread, is asked for again.
    assert total - after <= again <= total - asked + settings.generator.server.concurrency
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
