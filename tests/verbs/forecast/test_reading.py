"""What a forecast reads with no options: prompts, rounds and picks, and where it stops and asks."""

from __future__ import annotations

import json

import numpy as np
import pytest

import recurate
from recurate.core.errors import InputError

pytestmark = pytest.mark.usefixtures("few_replicates")


def best_of_4_log(name="prompt", prompts=30, slates=20, rounds=3):
    """Return a log of best of 4 picks whose rewards have another mean for every prompt."""
    rng = np.random.default_rng(11)
    means = 1.5 * rng.normal(size=prompts)
    reward = means[:, None, None] + rng.normal(size=(rounds, prompts, slates, 4))
    shape, size = reward.shape, reward.size
    index = np.unravel_index(np.arange(size), shape)
    return {
        "step": index[0] * 100,
        "slate": np.arange(size) // 4,
        name: np.array([f"p{i}" for i in index[1]]),
        "score": reward.ravel(),
        "picked": (reward == reward.max(axis=-1, keepdims=True)).ravel(),
    }


def means(found):
    return found.trajectory.values("mean_reward")


def test_prompts_steps_and_the_rule_of_the_picks_are_found_and_said():
    log = best_of_4_log()
    found = recurate.forecast(log, rounds=3)
    told = recurate.forecast(log, rounds=3, context="prompt", reward="score", k=4, rule="best", round="step")
    np.testing.assert_array_equal(means(found), means(told))
    pooled = recurate.forecast(log, rounds=3, context="none")
    assert means(pooled)[3] - means(found)[3] > 1  # selection between prompts is no selection
    roles = {row["role"]: row["column"] for row in found.facts["read"]["roles"]}
    assert (roles["context"], roles["round"], roles["reward"]) == ("prompt", "step", "score")
    assert "'step' 0, 100, 200 are rounds 0, 1, ..." in found.facts["read"]["notes"]
    assert found.lead == "rule: picks follow best of 4 (the best was picked in all 1,800 slates)"


@pytest.mark.parametrize("verb", ["forecast", "plan", "audit"])
def test_a_column_that_may_be_the_prompt_is_asked_about(verb):
    """No verb pools candidates silently."""
    call = getattr(recurate, verb)
    log = best_of_4_log("frage", slates=4, rounds=1)
    with pytest.raises(InputError, match="rewards depend on 'frage'") as caught:
        call(log)
    assert "--context frage" in caught.value.remedy
    assert "--context none" in caught.value.remedy
    assert "pick: picked (its name)" in caught.value.account
    fewer = {"rounds": 1, "k": [4], "real_fraction": [0.0], "refine": False} if verb == "plan" else {}
    for context in ("frage", "none"):
        call(log, context=context, **fewer)


def test_errors_come_with_what_was_read(tmp_path, recurate_here):
    rows = ["question;note;value", *(f"q{i % 5};x;{i}" for i in range(20))]
    (tmp_path / "x.csv").write_text("\n".join(rows))
    done = recurate_here("forecast", "x.csv", "--reward", "valu", "--json")
    assert done.returncode == 2
    assert "did you mean 'value'" in done.stderr
    done = recurate_here("forecast", "x.csv", "--reward", "value", "--track", "note", "--json")
    assert done.returncode == 2
    assert "What was read:" in done.stderr
    account = json.loads(done.stdout.splitlines()[0])
    assert "context: question (its name)" in account["read"]
    assert "note" in account["error"]
