"""The forecast as a Python call."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri

import recurate
from recurate.candidates import as_candidates
from recurate.errors import InputError
from recurate.forecasting import forecast, predict
from recurate.rules.rule import Rule
from recurate.seeds import Stream
from recurate.theory.loopmodel import Setting
from recurate.theory.population import Population
from recurate.trajectory import FORECAST


def test_shapes_and_results_are_as_documented():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(400, 2))
    result = recurate.forecast(
        rewards,
        k=4,
        rounds=3,
        weights=[0.3, 0.7],
        groups=np.where(rewards[:, 0] > 0, "up", "down"),
        track={"square": rewards[:, 0] ** 2},
        names=["a", "b"],
    )
    table = result.trajectory.to_table()
    assert table.num_rows == 4 * (2 * 3 + 1 + 2 + 1 + 1 + 1)
    assert set(table.column("quantity").to_pylist()) == {
        "mean_reward", "mean_exp_reward", "var_exp_reward", "kl_to_reference", "share", "entropy",
        "effective_support", "mean:square",
    }  # fmt: skip
    assert result.law.shape == (400,)
    assert result.law.sum() == pytest.approx(1)
    shares = [result.trajectory.values("share", group=g) for g in ("up", "down")]
    np.testing.assert_allclose(np.sum(shares, axis=0), 1)


def test_numbers_are_those_of_the_law():
    rng = np.random.default_rng(1)
    rewards = rng.normal(size=300)
    tracked = rng.normal(size=300)
    result = forecast(rewards, k=3, temperature=0.5, rounds=4, real_fraction=0.2, track={"x": tracked})
    population = Population(rewards)
    laws = list(population.trajectory(Rule(3, 0.5), rounds=4, real_fraction=0.2))
    np.testing.assert_allclose(result.trajectory.values("mean_reward"), [p @ rewards for p in laws])
    np.testing.assert_allclose(result.trajectory.values("mean:x"), [p @ tracked for p in laws])
    u = np.exp(rewards / 0.5)
    np.testing.assert_allclose(result.trajectory.values("mean_exp_reward"), [p @ u for p in laws])
    variances = [p @ u**2 - (p @ u) ** 2 for p in laws]
    np.testing.assert_allclose(result.trajectory.values("var_exp_reward"), variances, rtol=1e-9)
    np.testing.assert_allclose(result.trajectory.values("effective_support"), [1 / (p @ p) for p in laws])


def test_real_data_of_their_own_enter_the_mix():
    """With a reference of its own, one round is exactly rho p_ref + (1 - rho) p_0 H."""
    candidates, real = np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.5, 3.0, 3.0])
    result = forecast(candidates, k=2, rounds=1, real_fraction=0.25, reference=real)
    picked = np.full(3, 1 / 3) * Rule(2).multiplier(candidates, np.full(3, 1 / 3))
    expected = 0.25 * real.mean() + 0.75 * picked @ candidates
    assert result.trajectory.values("mean_reward")[1] == pytest.approx(expected, rel=1e-12)
    assert result.law.shape == (7,)


# --- contexts ---


def half_between(contexts: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    locations = np.repeat(math.sqrt(0.5) * ndtri((np.arange(contexts) + 0.5) / contexts), each)
    rewards = locations + rng.normal(scale=math.sqrt(0.5), size=contexts * each)
    return rewards, np.repeat(np.arange(contexts), each)


@pytest.mark.parametrize(("contexts", "each", "mode"), [(4000, 8, "pooled residuals"), (100, 600, "each")])
def test_contexts_are_not_pooled(contexts, each, mode):
    """Half the reward variance between contexts, K = 4: the first round's gain is 0.33, not 0.60."""
    rewards, codes = half_between(contexts, each)
    right = forecast(rewards, k=4, rounds=1, contexts=codes)
    assert right.contexts == mode
    gain = np.diff(right.trajectory.values("mean_reward"))[0]
    assert gain == pytest.approx(0.335, abs=0.01)
    wrong = forecast(rewards, k=4, rounds=1)
    assert np.diff(wrong.trajectory.values("mean_reward"))[0] == pytest.approx(0.60, abs=0.03)
    # What picking within contexts really gains, by drawing slates.
    rng = np.random.default_rng(8)
    table = rewards.reshape(contexts, each)
    rows = np.repeat(np.arange(contexts), 40_000 // contexts)
    slates = np.take_along_axis(table[rows], rng.random((rows.size, each)).argsort(axis=1)[:, :4], axis=1)
    picked = slates[np.arange(rows.size), Rule(4).draw(slates, rng)]
    error = 4 * picked.std() / math.sqrt(rows.size)
    assert picked.mean() - rewards.mean() == pytest.approx(gain, abs=error + 0.01)


def test_round_zero_is_what_the_candidates_are():
    rewards, codes = half_between(300, 6)
    result = forecast(rewards, k=4, rounds=2, contexts=codes)
    first = {r.quantity: r.value for r in result.trajectory.where(FORECAST, round=0).rows}
    assert first["mean_reward"] == pytest.approx(rewards.mean())
    assert first["mean_exp_reward"] == pytest.approx(np.exp(rewards).mean())
    assert first["var_exp_reward"] == pytest.approx(np.exp(rewards).var())


def test_thin_contexts_are_warned_about_and_their_spread_is_tested():
    rewards, codes = half_between(500, 8)
    equal = forecast(rewards, k=4, rounds=1, contexts=codes)
    assert any("contexts are thin" in w for w in equal.warnings)
    assert not any("the spread of reward" in w for w in equal.warnings)
    unequal = np.where(codes % 2 == 0, 5 * rewards, rewards)
    result = forecast(unequal, k=4, rounds=1, contexts=codes)
    assert any("the spread of reward" in w for w in result.warnings)


def test_one_candidate_a_context_is_refused():
    with pytest.raises(InputError, match="at least two candidates"):
        forecast([0.0, 1.0, 2.0], contexts=["a", "b", "c"])


# --- bands ---


@pytest.mark.slow
def test_bands_cover_simulated_loops():
    """Loops with really drawn slates, from pools like the forecast's: 95 % bands cover about 95 %.

    300 loops; the count covered is binomial(300, c), and a true c within 90.5-98.5 % leaves
    [255, 299] with probability under 1e-3.
    """
    k, n, rounds, rho = 4, 1000, 3, 0.3
    truth_pool = np.random.default_rng(99).normal(size=400_000)
    setting = Setting(Rule(k), (1.0,), rho, rounds, picks=n)
    covered = dict.fromkeys(("mean_reward", "mean_exp_reward"), 0)
    for loop in range(300):
        rng = np.random.default_rng([5, loop])
        pool = rng.choice(truth_pool, size=k * n)
        bands = predict(as_candidates(pool), setting, stream=Stream(loop)).trajectory
        # The loop: every round 4 n candidates from the current law, n picks, retrained to the picks
        # mixed with real data; the model reproduces its training data.
        law_sample = truth_pool
        for _ in range(rounds):
            slates = rng.choice(law_sample, size=(n, k))
            picks = slates[np.arange(n), Rule(k).draw(slates, rng)]
            real = rng.choice(truth_pool, size=round(n * rho / (1 - rho)))
            law_sample = np.concatenate([picks, real])
        for quantity, value in (
            ("mean_reward", law_sample.mean()),
            ("mean_exp_reward", np.exp(law_sample).mean()),
        ):
            row = bands.series(quantity)[rounds]
            covered[quantity] += row.lower <= value <= row.upper
    for quantity, count in covered.items():
        assert 255 <= count <= 299, (quantity, count)


def test_small_pools_get_no_band_and_say_so():
    result = forecast(np.linspace(0, 1, 100), rounds=1)
    assert all(r.lower is None for r in result.trajectory.rows)
    assert any("too few for bands" in w for w in result.warnings)


def test_the_same_seed_gives_the_same_bands():
    rewards = np.random.default_rng(2).normal(size=2000)
    one, same = forecast(rewards, rounds=2, picks=500), forecast(rewards, rounds=2, picks=500)
    other = forecast(rewards, rounds=2, picks=500, seed=1)
    assert one.trajectory == same.trajectory
    assert one.trajectory != other.trajectory
    assert (one.trajectory.values("mean_reward") == other.trajectory.values("mean_reward")).all()


# --- support and range ---


def test_the_end_of_the_support_is_reported():
    """4,000 Gaussian rewards of sd 2, K = 4: about 20 effective candidates by round 5."""
    rewards = 2 * np.random.default_rng(0).normal(size=4000)
    result = forecast(rewards, k=4, rounds=6)
    support = result.trajectory.values("effective_support")
    assert 5 < support[5] < 60
    assert support[result.support_ends] < 100 <= support[result.support_ends - 1]
    assert any("effective support" in w for w in result.warnings)


def test_rewards_too_large_for_exp_are_left_out_with_a_warning():
    result = forecast(np.linspace(0, 5000, 500), k=4, rounds=2)
    quantities = {r.quantity for r in result.trajectory.rows}
    assert "mean_exp_reward" not in quantities
    assert np.isfinite(result.trajectory.values("mean_reward")).all()
    assert any("exceeds the range of doubles" in w for w in result.warnings)


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewards": []}, "at least one"),
        ({"rewards": np.zeros((2, 2, 2))}, "shape"),
        ({"rewards": "abc"}, "array of numbers"),
        ({"rewards": [1.0, math.nan]}, "reward 0 of candidate 1 is not a finite number"),
        ({"rewards": [1.0, 2.0], "k": 0}, "slate size"),
        ({"rewards": [1.0, 2.0], "k": 2.5}, "slate size"),
        ({"rewards": [1.0, 2.0], "temperature": 0}, "temperature"),
        ({"rewards": [1.0, 2.0], "real_fraction": 1.5}, "real fraction"),
        ({"rewards": [1.0, 2.0], "real_fraction": math.nan}, "real fraction"),
        ({"rewards": [1.0, 2.0], "rounds": -1}, "rounds"),
        ({"rewards": [1.0, 2.0], "rounds": 1.5}, "rounds"),
        ({"rewards": [1.0, 2.0], "picks": 0}, "picks"),
        ({"rewards": [1.0, 2.0], "weights": [0.5, 0.5]}, "weight"),
        ({"rewards": [[1.0, 2.0]], "weights": [0.5, 0.6]}, "sum to one"),
        ({"rewards": [1.0, 2.0], "groups": ["a"]}, "groups"),
        ({"rewards": [1.0, 2.0], "track": {"x": ["a", "b"]}}, "numbers"),
        ({"rewards": [1.0, 2.0], "track": {"x": [1.0, math.inf]}}, "finite"),
        ({"rewards": [1.0, 2.0], "law": [1.0]}, "one mass"),
        ({"rewards": [1.0, 2.0], "names": ["a", "b"]}, "one name"),
        ({"rewards": [1.0, 2.0], "reference": [[1.0, 2.0]]}, "one name"),
        (
            {"rewards": [1.0, 2.0], "groups": ["a", "b"], "reference": [1.0], "real_fraction": 0.5},
            "reference lacks columns",
        ),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        forecast(**arguments)
