"""The rule that a log's picks follow, and the sentence that says so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from helpers.logged import loop_log
from recurate.choices.followed import DEFAULT, PICKS, PROMPTS, followed_rule, phrase, said
from recurate.choices.models.recovery import Recovered, recover
from recurate.choices.observed import Observed
from recurate.log.schema import as_log
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule, Threshold, TopFraction
from recurate.rules.families import Family

BEST = Rule(4, noise=NO_NOISE)


def slates(rewards, picked, **columns):
    """Return a log of slates (slates, K) with a mask of picks (slates, K)."""
    n, k = picked.shape
    table = {"slate": np.repeat(np.arange(n), k), "picked": picked.ravel()}
    names = {"reward": rewards} if rewards.ndim == 2 else {f"reward_{i}": r for i, r in enumerate(rewards)}
    table |= {name: values.ravel() for name, values in names.items()}
    return as_log(pa.table(table | columns), several=True)


def test_best_of_four():
    log = loop_log(BEST)
    found = followed_rule(log)
    assert found.rule == BEST
    assert found.source == PICKS
    assert found.statement == "picks follow best of 4 (the best was picked in all 5,000 slates)"
    assert found.sizes == {4.0: 1.0}
    assert found.facts() == {
        "statement": found.statement, "source": "picks", "k": 4, "temperature": 1.0, "noise": "none",
        "evidence": "the best was picked in all 5000 slates", "family": "best of K",
        "temperature_interval": None, "lapse_interval": (0.0, 3 / 5000), "weights": None,
        "picks": 5000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("truth", "k", "words"),
    [
        (Rule(4, 0.5), 4, "Luce's rule at temperature {t} (95 % interval {low} to {high}), one of 4"),
        (Rule(4, 1.0), 4, "Luce's rule at temperature {t} (95 % interval {low} to {high}), one of 4"),
        (
            Rule(4, 0.3, GAUSSIAN),
            4,
            "Thurstone's rule at temperature {t} (95 % interval {low} to {high}), one of 4",
        ),
        (Rule(8, 0.5, keep=2), 8, "Luce's rule at temperature {t} (95 % interval {low} to {high}), 2 of 8"),
        (
            Rule(4, 0.5, lapse=0.2),
            4,
            "Luce's rule at temperature {t} (95 % interval {low} to {high}), one of 4, with {e} % of slates "
            "judged at random (95 % interval {least} % to {most} %)",
        ),
    ],
)
def test_noisy_rules_are_stated_with_their_intervals(truth, k, words):
    log = loop_log(truth, k=k, each=40)
    found = followed_rule(log)
    recovered = found.recovered
    assert found.rule == recovered.rule
    assert found.rule.noise == truth.noise
    assert found.rule.keep == truth.keep
    assert found.rule.sizes == truth.sizes
    low, high = recovered.temperature_interval
    assert low <= truth.temperature <= high
    values = {"t": f"{found.rule.temperature:.3g}", "low": f"{low:.3g}", "high": f"{high:.3g}"}
    if truth.lapse:
        _, least, most = recovered.lapse
        assert least <= truth.lapse <= most
        values |= {"e": f"{100 * recovered.lapse[0]:.1f}", "least": f"{100 * least:.1f}"}
        values["most"] = f"{100 * most:.1f}"
    number = {8: 5 * 200 * 40 // 8, 4: 10_000}[k]
    assert found.statement == f"picks follow {words.format(**values)} ({number:,} slates)"


def test_best_two_of_eight():
    found = followed_rule(loop_log(Rule(8, noise=NO_NOISE, keep=2), k=8, each=40))
    assert found.rule == Rule(8, noise=NO_NOISE, keep=2)
    assert found.statement.startswith("picks follow best 2 of 8 (the best 2 were kept in each of ")


def test_random_picks():
    found = followed_rule(loop_log(Rule(4, lapse=1.0), rounds=2))
    assert found.rule == Rule(4, lapse=1.0)
    assert found.statement == "picks do not depend on the reward: a random one of 4 (2,000 slates)"


def test_the_best_with_lapses():
    found = followed_rule(loop_log(Rule(4, noise=NO_NOISE, lapse=0.2)))
    assert found.rule.noise == NO_NOISE
    _, least, most = found.recovered.lapse
    assert least <= 0.2 <= most
    assert found.statement.startswith("picks follow best of 4, with ")


def test_pools():
    rng = np.random.default_rng(1)
    rounds = np.repeat(np.arange(3), 2000)
    rewards = rng.normal(0.3 * rounds, 1)
    top = np.zeros(rewards.size, bool)
    for t in range(3):
        rows = np.flatnonzero(rounds == t)
        top[rows[np.argsort(-rewards[rows])[:500]]] = True
    pool = {"round": rounds, "reward": rewards}
    found = followed_rule(as_log(pa.table(pool | {"picked": top}), several=True))
    assert found.rule == TopFraction(0.25)
    evidence = "in each round the kept rewards are above all others"
    assert found.statement == f"picks follow the best 25 % of each round's pool ({evidence})"
    passed = rewards > 0.5
    found = followed_rule(as_log(pa.table(pool | {"picked": passed}), several=True))
    least = rewards[passed].min()
    assert found.rule == Threshold(least)
    assert found.statement.startswith(
        f"picks follow a verifier that keeps every reward of at least {least:.4g} ("
    )
    assert found.warnings == ()
    context = [str(i % 7) for i in range(rewards.size)]
    across = followed_rule(as_log(pa.table(pool | {"picked": passed, "context": context}), several=True))
    assert "across contexts" in across.warnings[0]


@pytest.mark.parametrize("noise", [GUMBEL, NO_NOISE], ids=lambda noise: noise.name)
def test_several_rewards_have_weights(noise):
    rng = np.random.default_rng(2)
    rewards = rng.normal(size=(2, 5000, 4))
    judge = rng.random(5000) < 0.3
    worth = np.where(judge[:, None], rewards[0], rewards[1])
    slots = Rule(4, 0.5, noise).draw(worth, rng)
    found = followed_rule(slates(rewards, np.arange(4) == slots[:, None]))
    assert found.rule.noise == noise
    assert found.weights == found.recovered.weights
    assert found.weights[0] == pytest.approx(judge.mean(), abs=0.03)
    shares = f"reward_0 {found.weights[0]:.3g}, reward_1 {found.weights[1]:.3g}"
    assert f"each slate judged by one reward ({shares})" in found.statement


def test_several_picks_by_several_rewards_are_left_open():
    rng = np.random.default_rng(2)
    rewards = rng.normal(size=(2, 500, 4))
    slots = Rule(4, 0.5, keep=2).draw(rewards[0], rng)
    found = followed_rule(slates(rewards, (np.arange(4)[:, None] == slots[:, None, :]).any(axis=2)))
    assert found.rule is None
    assert "--reward" in found.statement


def test_avoided_rewards_have_no_rule():
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=(500, 4))
    worst = followed_rule(slates(rewards, np.arange(4) == rewards.argmin(axis=1)[:, None]))
    assert worst.rule is None
    assert worst.statement == (
        "picks avoid the reward: the worst was picked in all 500 slates; --rule luce or --rule best decides"
    )
    slots = Rule(4, 0.5).draw(-rewards, rng)
    avoided = followed_rule(slates(rewards, np.arange(4) == slots[:, None]))
    assert avoided.rule is None
    assert avoided.statement.startswith("picks avoid the reward: 1 / temperature is -")
    everything = followed_rule(slates(rewards, np.ones((500, 4), bool)))
    assert everything.rule is None
    assert everything.statement.startswith("not identified (all candidates shown were picked")


# --- without picks, or without slates -------------------------------------------------------------


@pytest.mark.parametrize("slated", [False, True])
def test_rewards_per_prompt_are_best_of_as_many(slated):
    log = loop_log(Rule(8), each=8, k=8, slates=slated, picks=False)
    found = followed_rule(log)
    assert found.rule == Rule(8, noise=NO_NOISE)
    assert found.source == PROMPTS
    assert found.statement == (
        "no picks are logged; best of 8 is assumed, as in trainers that keep the best "
        "(--rule luce for Luce's rule)"
    )


def test_some_prompts_may_have_lost_rewards():
    context = np.repeat(["a", "b", "c", "d", "e"], [4, 4, 2, 4, 4])
    found = followed_rule(as_log(pa.table({"context": context, "reward": np.arange(18.0)})))
    assert found.rule == Rule({2: 0.2, 4: 0.8}, noise=NO_NOISE)
    assert "best of 2 to 4 is assumed" in found.statement


def test_prompts_with_any_number_of_rewards_tell_no_k():
    context = np.repeat(["a", "b", "c", "d"], [2, 2, 4, 6])
    found = followed_rule(as_log(pa.table({"context": context, "reward": np.arange(14.0)})))
    assert (found.rule, found.source) == (Rule(), DEFAULT)


@pytest.mark.parametrize("context", [["a"] * 6, ["a", "a", "a", "b", "b", "c"]])
def test_nothing_tells_the_rule(context):
    found = followed_rule(as_log(pa.table({"context": context, "reward": np.arange(6.0)})))
    assert found.rule == Rule()
    assert found.source == DEFAULT
    assert found.statement == (
        "Luce's rule at temperature 1, one of 4, by default: no picks, slates or prompts tell the rule"
    )


def test_candidates_of_a_context_are_a_slate_where_none_is_numbered():
    log = loop_log(BEST, each=4, slates=False)
    found = followed_rule(log)
    assert found.rule == BEST
    assert found.statement == "picks follow best of 4 (the best was picked in all 1,000 slates)"


def test_families_are_compared_on_so_many_slates_at_most():
    log = loop_log(Rule(4, 0.5))
    assert followed_rule(log, most=1000).recovered.picks == 1000
    assert followed_rule(log).rule == recover(Observed.of(log), most=10_000).rule


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(1), "no selection (K = 1)"),
        (Rule({2: 0.5, 6: 0.5}, noise=NO_NOISE), "best of 2 to 6"),
        (Rule(np.inf), "Luce's rule at temperature 1, one, K = infinity"),
        (
            TopFraction(0.125, 0.5, GUMBEL),
            "one softmax over each round's pool at temperature 0.5, 12.5 % kept",
        ),
        (
            Threshold(0.5, 2.0, GUMBEL),
            "a verifier that keeps every reward of at least 0.5, with gumbel noise of 2",
        ),
    ],
)
def test_rules_in_words(rule, words):
    assert phrase(rule) == words


def test_random_shares_of_pools_in_words():
    found = Recovered(Family.POOL_UNIFORM, share=0.2, picks=1200)
    assert (
        said(found) == "picks do not depend on the reward: a random 20 % of each round's pool (1,200 picks)"
    )
