"""A loop that waits for people: what it posts, what it takes back, and what happens when time runs out."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("fastapi", reason="pip install 'recurate[people]'")

from sqlalchemy import select

from helpers.tiny import GAUSSIANS, contents, merged
from recurate.core.errors import WaitingForPeople
from recurate.log.candidates import Candidates
from recurate.loop.asking import check_answers, post, posted_in, read_posted
from recurate.loop.config import parse_config, write_config
from recurate.loop.run_folder import RunFolder
from recurate.people.asked import Ballots, missing_in, put
from recurate.people.ballots import Refused, Study
from recurate.people.simulated import _rewards
from recurate.people.tables import opened, slates

PEOPLE = merged(
    GAUSSIANS,
    rounds=1,
    selection={"by": "people", "k": 3, "picks": 24, "slates": 30},
    retraining={"real_fraction": 0.5},
)


@pytest.fixture
def config(tmp_path) -> Path:
    return written(tmp_path)


def written(folder: Path, **changes) -> Path:
    path = folder / "loop.toml"
    path.write_text(write_config(parse_config(merged(PEOPLE, **changes))), encoding="utf-8")
    return path


def answer(run: Path, said=lambda n: ("pick", [0]), people: int = 2, most: int = 10**6) -> int:
    """Let some people answer the posted slates, in turn."""
    study = Study(opened(run / "people" / "ballots.sqlite"))
    for folder in posted_in(run):
        put(study, folder)
    names = [study.join(f"session {i} {study.answers()}") for i in range(people)]
    done, left = 0, True
    while left and done < most:
        left = False
        for name in names:
            lease = study.next(name) if done < most else None
            if lease is not None:
                left, done = True, done + 1
                outcome, places = said(done)
                study.submit(name, lease.id, f"key-{name}-{done}", outcome, places)
    study.engine.dispose()
    return done


def log_of(run: Path, t: int):
    return pq.read_table(next((run / "rounds" / f"{t:03d}").glob("log*.parquet"))).to_pandas()


def test_a_run_waits_and_goes_on(recurate_here, config, tmp_path):
    run = tmp_path / "run"
    waits = recurate_here("run", config, "--out", run)
    assert waits.returncode == 4
    assert "waiting for 30 picks of round 0: recurate serve" in waits.stderr
    assert recurate_here("run", "--resume", run).returncode == 4
    assert answer(run, most=10) == 10
    assert "waiting for 20 picks of round 0" in recurate_here("run", "--resume", run).stderr
    assert answer(run, lambda n: ("bad", []) if n % 7 == 0 else ("pick", [n % 3])) == 20
    waits = recurate_here("run", "--resume", run)
    assert "waiting for 30 picks of round 1" in waits.stderr
    assert "2 of 30 slates have no pick" in waits.stdout + waits.stderr
    answer(run)
    assert recurate_here("run", "--resume", run).returncode == 0
    log = log_of(run, 0)
    generated = log[log.source == "model"]
    assert len(generated) == 90
    assert generated.groupby("slate").picked.sum().value_counts().to_dict() == {1: 28, 0: 2}
    assert sorted(generated.outcome.unique()) == ["bad", "pick"]
    assert set(generated.chooser) <= {f"person {i}" for i in range(1, 10)}
    assert all(sorted(own) == [0, 1, 2] for _, own in generated.groupby("slate").slot)
    assert generated[generated.picked].slot.nunique() == 3
    assert RunFolder.open(run).counts(1)["trained_on_picks"] == 24
    audit = recurate_here("audit", run, "--out", tmp_path / "audit")
    assert audit.returncode == 0, audit.stdout
    assert recurate_here("forecast", run, "--out", tmp_path / "forecast").returncode == 0


def test_rounds_are_the_same_whatever_the_order_of_the_answers(recurate_here, config, tmp_path):
    """One study's answers are put into two fresh runs, in two orders."""
    first = tmp_path / "first"
    recurate_here("run", config, "--out", first)
    rng = np.random.default_rng(0)
    answer(first, lambda n: ("pick", [int(rng.integers(3))]), people=4)
    assert recurate_here("serve", first, "--export", tmp_path / "all.parquet").returncode == 0
    table = pq.read_table(tmp_path / "all.parquet")
    rounds = []
    for order in (np.arange(table.num_rows), np.random.default_rng(1).permutation(table.num_rows)):
        run = tmp_path / f"run {len(rounds)}"
        recurate_here("run", config, "--out", run)
        pq.write_table(table.take(order), tmp_path / "some.parquet")
        taken = recurate_here("serve", run, "--import", tmp_path / "some.parquet")
        assert taken.stdout.strip() == "30 picks added", taken.stderr
        assert "0 picks added" in recurate_here("serve", run, "--import", tmp_path / "some.parquet").stdout
        recurate_here("run", "--resume", run)
        rounds.append(contents(run / "rounds"))
    assert rounds[0]
    # Seals name the run, which began at another time: logs, samples and models are compared.
    for name, data in rounds[0].items():
        if not name.endswith("contents.json"):
            assert data == rounds[1][name], name


@pytest.mark.parametrize(("late", "code"), [("rule", 0), ("leave", 2)])
def test_after_the_deadline(recurate_here, tmp_path, late, code):
    people = {"deadline": 1e-7, "late": late}
    config = written(tmp_path, selection={"people": people})
    done = recurate_here("run", config, "--out", tmp_path / "run")
    assert done.returncode == code, done.stderr
    posted = sorted((tmp_path / "run" / "people").glob("*-0"))
    if late == "leave":
        assert "nobody picked anything in round 0" in done.stderr
        assert [missing_in(of) for of in posted] == [30], "people can still answer"
        return
    assert [missing_in(of) for of in posted] == [0, 0], "both rounds are over"
    assert "30 of 30 slates had no answer by the deadline" in done.stdout + done.stderr
    log = log_of(tmp_path / "run", 1)
    assert set(log.chooser) == {"rule"}
    assert log.simulated[log.source == "model"].all()
    assert log.groupby("slate").picked.sum().eq(1).all()


def test_picks_that_are_no_persons_are_marked_and_count_in_the_loop_only(recurate_here, config, tmp_path):
    run = tmp_path / "run"
    recurate_here("run", config, "--out", run)
    judged = recurate_here("serve", run, "--simulate", 12, "--rule", "luce", "--reward", "east")
    assert "12 slates were judged by a simulated person" in judged.stdout, judged.stderr
    answer(run)
    waits = recurate_here("run", "--resume", run)
    assert "12 of 30 slates were judged by simulated people" in waits.stdout + waits.stderr
    answer(run)
    assert recurate_here("run", "--resume", run).returncode == 0
    log = log_of(run, 0)
    own = log[log.source == "model"]
    assert own.groupby("slate").simulated.agg(["min", "max"]).value_counts().to_dict() == {
        (False, False): 18,
        (True, True): 12,
    }
    fitted = recurate_here("fit", run, "--out", tmp_path / "fit")
    assert "left out: 12 simulated picks; --include simulated counts them" in fitted.stdout, fitted.stderr
    every = recurate_here("fit", run, "--include", "simulated", "--out", tmp_path / "all")
    assert "left out: 12" not in every.stdout
    slates = [pq.read_table(tmp_path / n / "log.parquet")["slate"].unique() for n in ("fit", "all")]
    assert [len(own) for own in slates] == [48, 60]
    audit = recurate_here("audit", run, "--out", tmp_path / "audit")
    assert "12 picks of simulated people or of the rule after the deadline count" in audit.stdout


def test_slates_without_an_answer_are_left_after_the_deadline(recurate_here, tmp_path):
    config = written(tmp_path)
    run = tmp_path / "run"
    recurate_here("run", config, "--out", run)
    answer(run, most=12)
    text = (run / "config.toml").read_text(encoding="utf-8")
    assert "deadline" not in text
    short = written(tmp_path, selection={"people": {"deadline": 1e-7, "late": "leave"}})
    other = tmp_path / "other"
    done = recurate_here("run", short, "--out", other, "--db", tmp_path / "own.sqlite")
    assert done.returncode == 2
    assert (other / "people" / "000-0").exists(), "the slates are kept, and can still be asked"


def test_waiting_in_place(recurate_here, config, tmp_path, monkeypatch):
    """`run --wait` goes on by itself once the answers are in."""
    from recurate.verbs.run import python

    run, asked = tmp_path / "run", []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        answer(run, most=20)

    monkeypatch.setattr(python, "time", SimpleNamespace(sleep=sleep, time=time.time))
    done = recurate_here("run", config, "--out", run, "--wait")
    assert done.returncode == 0, done.stderr
    assert len(asked) == 4
    assert {p.name for p in (run / "rounds").iterdir()} == {"000", "001"}


def test_slates_that_changed_are_refused(recurate_here, config, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    recurate_here("run", config, "--out", run)
    recurate_here("run", written(tmp_path, seed=9), "--out", other)
    mixed = recurate_here("run", "--resume", other, "--db", run / "people" / "ballots.sqlite")
    assert mixed.returncode == 2
    assert "the slates of another run" in mixed.stderr
    path = run / "people" / "000-0" / "slates.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert recurate_here("run", "--resume", run).returncode == 2
    shutil.rmtree(run / "people")
    assert recurate_here("run", "--resume", run).returncode == 4, "nobody had begun: they are posted again"


def test_what_is_posted(recurate_here, config, tmp_path):
    run = tmp_path / "run"
    recurate_here("run", config, "--out", run)
    found = read_posted(posted_in(run)[0])
    assert (found.round, found.attempt, found.k, len(found.samples)) == (0, 0, 3, 90)
    assert [len(column) for column in found.values.values()] == [90] * len(found.values) != []


def test_a_round_is_sampled_once(recurate_here, config, tmp_path, monkeypatch):
    """A resumed run takes the candidates that people were shown."""
    from recurate.loop import shards

    run, made = tmp_path / "run", []
    real = shards.Batch.sample
    monkeypatch.setattr(shards.Batch, "sample", lambda self, j: made.append(j) or real(self, j))
    for _ in range(3):
        assert (
            recurate_here("run", *(["--resume", run] if run.exists() else [config, "--out", run])).returncode
            == 4
        )
    assert len(made) == 1


def test_answers_that_the_run_has_taken_stand(recurate_here, config, tmp_path):
    """The round's slates are closed with the answers, and the next round's come first."""
    run = tmp_path / "run"
    recurate_here("run", config, "--out", run)
    answer(run)
    recurate_here("run", "--resume", run)
    study = Study(opened(run / "people" / "ballots.sqlite"))
    for folder in posted_in(run):
        put(study, folder)
    anna = study.session("session 0 0").person
    with pytest.raises(Refused, match="can no longer be taken back"):
        study.undo(anna)
    with study.engine.connect() as c:
        rounds = dict(c.execute(select(slates.c.id, slates.c.round)).all())
    assert rounds[study.next(anna).slate] == 1
    study.engine.dispose()


def test_candidates_that_look_alike_are_picked_as_they_come(tmp_path):
    """A slate whose candidates all look alike is no slate without a pick."""
    same, other = np.zeros((3, 2)), np.arange(6.0).reshape(3, 2)
    scored = Candidates(np.arange(6.0)[:, None], ("reward",))
    posted = post(tmp_path, 0, 0, 3, np.concatenate([same, other]), scored, 0.0)
    with pytest.raises(WaitingForPeople):
        Ballots().answers(posted, 2, 3, late=False)
    found = Ballots().answers(posted, 2, 3, late=True)
    assert list(found.outcomes) == ["alike", "late"]
    assert found.slots.tolist() == [0, -1]
    assert found.places.tolist() == [[0, -1, -1], [0, 1, 2]]
    check_answers(found, 2, 3)


@pytest.mark.slow
def test_a_configuration_is_served_to_its_end_though_the_server_is_killed(config, tmp_path):
    """`serve CONFIG` runs the loop; after -9 the next server goes on with the same run."""
    run, said = tmp_path / "runs" / "loop-1", tmp_path / "said"

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "recurate", "serve", "loop.toml", "--port", "0"]
        return subprocess.Popen(command, cwd=tmp_path, stdout=said.open("ab"), stderr=subprocess.STDOUT)

    def until(done) -> None:
        end = time.monotonic() + 300
        while not done():
            assert time.monotonic() < end, said.read_text(encoding="utf-8")
            time.sleep(0.2)

    server = start()
    until(lambda: len(posted_in(run)) == 1)
    assert answer(run, most=10) == 10
    server.kill()
    server.wait()
    server = start()
    until(lambda: said.read_text(encoding="utf-8").count("owner's page") == 2)
    assert answer(run) == 20
    until(lambda: len(posted_in(run)) == 2)
    assert answer(run) == 30
    until(lambda: "the run is complete" in said.read_text(encoding="utf-8"))
    server.terminate()
    assert server.wait() == 128 + signal.SIGTERM
    assert not (tmp_path / "runs" / "loop-2").exists()


def judged(run: Path, temperature: float) -> None:
    """Let one person judge the posted slates by Luce's rule on their only reward."""
    study = Study(opened(run / "people" / "ballots.sqlite"))
    for folder in posted_in(run):
        put(study, folder)
    person, rng = study.join(f"session {study.answers()}"), np.random.default_rng(study.answers())
    while (lease := study.next(person)) is not None:
        worth = np.array(_rewards(study, lease, "east")) / temperature
        place = int((worth + rng.gumbel(size=worth.size)).argmax())
        study.submit(person, lease.id, f"key-{lease.id:06d}", "pick", [place])
    study.engine.dispose()


@pytest.mark.parametrize(("temperature", "words"), [(0.5, "do not contradict"), (4.0, "did not follow")])
def test_an_audit_compares_people_with_the_rule_that_the_forecast_assumed(
    recurate_here, tmp_path, temperature, words
):
    rewards = [{"kind": "distance", "name": "east", "centre": [2.0, 0.0], "gamma": 1.0}]
    config = written(tmp_path, selection={"slates": 200, "picks": 200}, rewards=rewards)
    run = tmp_path / "run"
    recurate_here("run", config, "--out", run)
    for _ in range(2):
        judged(run, temperature)
        done = recurate_here("run", "--resume", run)
    assert done.returncode == 0, done.stderr
    audit = recurate_here("audit", run, "--out", tmp_path / "audit")
    assert audit.returncode == 0, audit.stdout
    said = " ".join(audit.stdout.split())
    assert f"{words} the rule that the forecast assumed (Luce's rule at temperature 0.5, one of 3)" in said
    assert "ok candidates per slate 3 3 (400 slates)" in said
    assert "ok order of the candidates (random) random" in said
    assert ("in place of" in said) == (words == "did not follow")


def test_a_port_in_use_is_said(recurate_here, config, tmp_path):
    run = tmp_path / "run"
    recurate_here("run", config, "--out", run)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served = recurate_here("serve", run, "--port", taken.getsockname()[1])
    assert served.returncode == 2
    assert "in use" in served.stderr
    assert "--port 0" in served.stderr
