"""Jumps that retraining cannot explain: an edited reward is found, and honest loops are not accused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import tomli_w

from helpers import loops
from helpers.paths import refused
from helpers.tiny import GAUSSIANS
from recurate.log.schema import Log, as_log
from recurate.theory.attribution import Change
from recurate.verbs.audit.audit import audit
from recurate.verbs.audit.declared import parse_declared
from recurate.verbs.audit.findings import MISMATCH, NOTE, OK
from recurate.verbs.audit.transmission import judge_transmission

RULE = {"k": 3, "picks": 200, "temperature": 0.5}
REWARD = "def score(samples):\n    return samples[:, 0]\n"
EDITED = "def score(samples):\n    return -samples[:, 0]\n"


@pytest.fixture
def loop(tmp_path):
    """A folder with a configuration whose reward is a function of ours."""
    config = {name: GAUSSIANS[name] for name in ("seed", "data", "retraining")}
    config |= {
        "rounds": 1,
        "generator": {"kind": "mixture"},
        "selection": RULE,
        "rewards": [{"kind": "mine:score"}],
    }
    (tmp_path / "loop.toml").write_text(tomli_w.dumps(config))
    (tmp_path / "mine.py").write_text(REWARD)
    return tmp_path


def test_a_reward_edited_between_rounds(loop, recurate_cli):
    """Refused by name and part; if it is accepted, report and audit show it, and audit finds the jump."""
    assert recurate_cli("run", "loop.toml", "--out", "out", "--quiet").returncode == 0
    assert recurate_cli("audit", "out").returncode == 0
    text = (loop / "out" / "config.toml").read_text()
    (loop / "out" / "config.toml").write_text(text.replace("rounds = 1", "rounds = 2"))
    (loop / "mine.py").write_text(EDITED)
    before = sorted(path.name for path in (loop / "out" / "rounds").iterdir())
    message = refused(recurate_cli("run", "--resume", "out"))
    assert "mine.py (rewards.reward) has changed" in message
    assert "--accept-changes" in message
    assert sorted(path.name for path in (loop / "out" / "rounds").iterdir()) == before, "nothing is played"
    done = recurate_cli("run", "--resume", "out", "--accept-changes")
    assert done.returncode == 0, done.stderr
    assert "mine.py (rewards.reward) has changed" in done.stdout + done.stderr
    facts = json.loads((loop / "out" / "rounds" / "002" / "contents.json").read_text())["facts"]
    (change,) = facts["changes"]
    assert (change["name"], change["serves"], change["round"]) == ("mine.py", "rewards.reward", 2)
    assert change["was"] != change["now"]
    assert "mine.py (rewards.reward) has changed" in (loop / "out" / "report.html").read_text()
    done = recurate_cli("audit", "out", "--json")
    assert done.returncode == 1, done.stdout
    lines = {f["aspect"]: f for f in json.loads(done.stdout)["findings"]}
    assert [name for name, f in lines.items() if f["verdict"] == "MISMATCH"] == ["transmission"]
    assert lines["transmission"]["recovered"] == "a jump from round 1 to 2"
    assert "from round 2 on" in lines["dependencies of the run"]["evidence"]
    # On record, it is what the run rests on now; as it was before would be a change again.
    assert recurate_cli("run", "--resume", "out", "--quiet").returncode == 0
    (loop / "mine.py").write_text(REWARD)
    assert "mine.py" in refused(recurate_cli("run", "--resume", "out"))


# --- simulated loops ------------------------------------------------------------------------------


def a_log(rounds: list[np.ndarray], contexts: list[np.ndarray] | None = None, real=None) -> Log:
    columns = {
        "round": np.repeat(np.arange(len(rounds)), [r.size for r in rounds]),
        "reward": np.concatenate(rounds),
    }
    count = columns["round"].size
    columns["context"] = np.concatenate(contexts).astype(str) if contexts else np.full(count, "")
    columns["source"] = np.full(count, "model")
    if real is not None:
        extra = {"round": 0 * real.astype(int), "reward": real, "context": np.full(real.size, "")}
        extra["source"] = np.full(real.size, "real")
        columns = {name: np.concatenate([columns[name], extra[name]]) for name in columns}
    return as_log(pa.table(columns))


def changes_of(rounds: list[np.ndarray], pulls: list[float]) -> list[Change]:
    means = [float(r.mean()) for r in rounds]
    return [
        Change(t, t + 1, "reward", means[t], means[t + 1] - means[t], pull, 0.0, 0.1, 0.0, 0.0)
        for t, pull in enumerate(pulls)
    ]


def judged(rounds, pulls, contexts=None, real=None, mixed=False):
    (found,) = judge_transmission(a_log(rounds, contexts, real), changes_of(rounds, pulls), mixed=mixed)
    return found


def drawn(means: list[float], count: int = 400, seed: int = 0, sd: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [mean + sd * rng.standard_normal(count) for mean in means]


@pytest.mark.parametrize(
    ("means", "pulls", "verdict"),
    [
        ([0.0, 0.5, 1.0], [0.5, 0.5], OK),
        ([0.0, 0.0, 0.1], [1.0, 1.0], OK),  # nothing is learned
        ([0.0, 1.9, 3.0], [1.0, 1.0], OK),  # overshooting
        ([0.0, -0.3, 0.0], [0.2, 0.2], OK),  # drift
        ([0.0, 0.5, -0.6], [0.5, 0.5], MISMATCH),
        ([0.0, 0.5, 3.0], [0.5, 0.5], MISMATCH),
        ([0.0, 0.5, -1.0, 0.5], [0.5, 0.5, 0.5], MISMATCH),  # edited, and back again
        ([0.0, -1.5, -3.5, -6.0], [0.3, 0.3, 0.3], OK),  # loses much, and as much in every round
        ([0.0, -0.3, -3.0], [0.3, 0.3], MISMATCH),
        ([0.0, -2.0], [0.5], NOTE),
    ],
)  # fmt: skip
def test_what_retraining_explains(means, pulls, verdict):
    assert judged(drawn(means), pulls).verdict == verdict


def test_small_rounds_are_not_judged():
    assert judged(drawn([0.0, 0.5, -9.0], count=99), [0.5, 0.5]).verdict == NOTE


def test_real_data_that_are_mixed_in_explain_a_return_to_them():
    rounds, real = drawn([3.0, 3.0, 0.5]), drawn([0.0])[0]
    assert judged(rounds, [0.2, -0.4], real=real, mixed=True).verdict == OK
    assert judged(rounds, [0.2, -0.4], real=real, mixed=False).verdict == MISMATCH


def test_easier_prompts_are_no_jump():
    """Prompts in the order of their level: only those that two rounds share are compared."""
    level = np.repeat(np.arange(300) / 10, 4)
    rng = np.random.default_rng(0)
    rounds, contexts = [], []
    for t in range(3):
        rows = slice(300 * t, 300 * t + 600)  # half of the prompts are those of the round before
        rounds.append(level[rows] + rng.standard_normal(600))
        contexts.append(np.repeat(np.arange(300), 4)[rows])
    assert rounds[1].mean() - rounds[0].mean() > 7
    assert judged(rounds, [0.0, 0.0], contexts).verdict == OK
    rounds[2] = rounds[2] - 9
    assert judged(rounds, [0.0, 0.0], contexts).verdict == MISMATCH


@pytest.mark.parametrize("excess", [0.45, 0.5])
def test_the_rate_of_false_alarms_at_the_very_bound(excess):
    """A model that errs by up to half a standard deviation is accused with probability 2e-4 at most."""
    worst = [judged(drawn([0.0, 0.0, -excess], 200, s), [0.0, 0.0]).verdict == MISMATCH for s in range(200)]
    assert sum(worst) <= 2, "3 or more of 200 at 2e-4: probability 1e-5"


def test_constant_rewards():
    same, other = np.full(200, 1.0), np.full(200, 2.0)
    assert judged([same, same, same], [0.0, 0.0]).verdict == OK
    assert judged([same, same, other], [0.0, 0.0]).verdict == MISMATCH


@pytest.mark.parametrize("seed", range(3))
def test_an_edited_reward_of_a_simulated_loop(seed):
    """Candidates of the last two rounds are judged by another function; picks follow it."""
    table = loops.loop_log(np.random.default_rng(seed), slates=300, rounds=4)
    declared = parse_declared({"k": 4, "temperature": 1.0, "noise": "gumbel"})
    honest = audit(as_log(table), declared, lambda _: None)
    assert not honest.mismatches
    rewards, rounds = np.array(table.column("reward")), np.array(table.column("round"))
    table = table.set_column(
        table.column_names.index("reward"), "reward", [np.where(rounds >= 2, rewards - 3, rewards)]
    )
    found = audit(as_log(table), declared, lambda _: None)
    assert [f.aspect for f in found.mismatches] == ["transmission"]
    assert found.mismatches[0].recovered == "a jump from round 1 to 2"
