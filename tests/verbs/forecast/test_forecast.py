"""The forecast as a Python call."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import ndtri

import recurate
from recurate import forecast
from recurate.core.errors import InputError
from recurate.log.candidates import as_candidates
from recurate.log.trajectory import FORECAST
from recurate.rules.rule import Rule
from recurate.theory.population import Population
from recurate.theory.residuals import equal_spread_p_value
from recurate.theory.setting import Setting
from recurate.verbs.forecast import from_log

pytestmark = pytest.mark.usefixtures("few_replicates")


def test_shapes_and_results_are_as_documented():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(400, 2))
    result = recurate.forecast(
        rewards,
        k=4,
        rounds=3,
        weights=[0.3, 0.7],
        group=np.where(rewards[:, 0] > 0, "up", "down"),
        track={"square": rewards[:, 0] ** 2},
        reward=["a", "b"],
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
    laws = list(population.play(Setting(Rule(3, 0.5), real_fraction=0.2, rounds=4)))
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


def test_a_reference_may_cover_part_of_the_rewards():
    """Real data below 0.5 only: the exact law mixes them in, and what they do not reach is said."""
    rng = np.random.default_rng(11)
    rewards, real = rng.normal(size=2000), rng.uniform(-1, 0.5, size=500)
    result = forecast(rewards, k=4, rounds=3, real_fraction=0.2, reference=real)
    atoms = np.concatenate([rewards, real])
    start = np.r_[np.full(2000, 1 / 2000), np.zeros(500)]
    population = Population(atoms, law=start, reference=np.r_[np.zeros(2000), np.full(500, 1 / 500)])
    *_, last = population.play(Setting(Rule(4), real_fraction=0.2, rounds=3))
    np.testing.assert_allclose(result.law, last, rtol=1e-10)
    beyond = last[:2000][(rewards > real.max()) | (rewards < real.min())].sum()
    assert any(f"{beyond:.0%} of the model's mass has rewards beyond" in w for w in result.warnings)
    near = forecast(rewards, k=1, rounds=1, reference=rng.normal(size=3000) * 2)
    assert not any("beyond those of the real data" in w for w in near.warnings)


# --- contexts ---


def half_between(contexts: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    locations = np.repeat(math.sqrt(0.5) * ndtri((np.arange(contexts) + 0.5) / contexts), each)
    rewards = locations + rng.normal(scale=math.sqrt(0.5), size=contexts * each)
    return rewards, np.repeat(np.arange(contexts), each)


@pytest.mark.parametrize(
    ("contexts", "each", "mode"),
    [(4000, 8, "pooled residuals"), pytest.param(100, 600, "each", marks=pytest.mark.slow)],
)
def test_contexts_are_not_pooled(contexts, each, mode):
    """Half the reward variance between contexts, K = 4: the first round's gain is 0.33, not 0.60."""
    rewards, codes = half_between(contexts, each)
    right = forecast(rewards, k=4, rounds=1, context=codes)
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
    result = forecast(rewards, k=4, rounds=2, context=codes)
    first = {r.quantity: r.value for r in result.trajectory.where(FORECAST, round=0).rows}
    assert first["mean_reward"] == pytest.approx(rewards.mean())
    assert first["mean_exp_reward"] == pytest.approx(np.exp(rewards).mean())
    assert first["var_exp_reward"] == pytest.approx(np.exp(rewards).var())


def test_thin_contexts_are_warned_about_and_their_spread_is_tested():
    rewards, codes = half_between(500, 8)
    equal = forecast(rewards, k=4, rounds=1, context=codes)
    assert any("contexts are thin" in w for w in equal.warnings)
    assert not any("the spread of reward" in w for w in equal.warnings)
    unequal = np.where(codes % 2 == 0, 5 * rewards, rewards)
    result = forecast(unequal, k=4, rounds=1, context=codes)
    assert any("the spread of reward" in w for w in result.warnings)


def test_one_candidate_a_context_is_refused():
    with pytest.raises(InputError, match="at least two candidates"):
        forecast([0.0, 1.0, 2.0], context=["a", "b", "c"])


def test_tracked_columns_and_shares_follow_the_residual_model():
    """A tracked copy of the reward moves like the reward; a property of the prompt never changes."""
    rewards, codes = half_between(3000, 4)
    prompt = np.where(codes % 3 == 0, "long", "short")
    above = np.where(rewards > 1, "above", "below")
    kwargs = {"k": 4, "rounds": 3, "context": codes}
    result = forecast(rewards, group=prompt, track={"copy": rewards}, **kwargs).trajectory
    np.testing.assert_allclose(result.values("mean:copy"), result.values("mean_reward"), rtol=1e-9)
    np.testing.assert_allclose(result.values("share", group="long"), 1 / 3, rtol=1e-9)
    # The truth of N(location, 1/2) within contexts, by a population of quantiles.
    z = ndtri((np.arange(2000) + 0.5) / 2000) * math.sqrt(0.5)
    *_, law = Population(z).play(Setting(Rule(4), rounds=3))
    locations = np.unique(rewards.reshape(-1, 4).mean(axis=1)) * math.sqrt(0.5 / 0.625)
    truth = np.mean([law @ (location + z > 1) for location in locations[::10]])
    shares = forecast(rewards, group=above, **kwargs).trajectory.values("share", group="above")
    assert shares[3] == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize(("each", "least"), [(4, 12), (5, 12), (8, 17)])
def test_the_test_of_equal_spread_holds_its_level_and_has_power(each, least):
    """400 logs of 200 contexts at level 0.05: rejections are binomial(400, .05) within [4, 41] up to 1e-6."""
    rng = np.random.default_rng(each)
    codes = np.repeat(np.arange(200), each)
    false, power = 0, 0
    for _ in range(400):
        values = rng.exponential(size=codes.size) + 3 * codes
        false += equal_spread_p_value(values, codes, rng) < 0.05
    for _ in range(20):
        values = rng.normal(size=codes.size) * np.where(codes % 2, 1, 3)
        power += equal_spread_p_value(values, codes, rng) < 0.05
    assert 4 <= false <= 41
    assert power >= least, "of 20; the rejection rate measured was .9 with 4 and 5, 1 with 8 candidates"


def test_spread_cannot_be_tested_from_pairs():
    codes = np.repeat(np.arange(100), 2)
    assert equal_spread_p_value(np.arange(200.0), codes, np.random.default_rng(0)) is None
    result = forecast(np.random.default_rng(0).normal(size=200), k=2, rounds=1, context=codes)
    assert any("too few candidates to test" in w for w in result.warnings)


def test_a_wrong_residual_model_is_found_out_by_the_unbiased_first_round():
    """Rewards near 0 and 3 (P = .9) in contexts of 4: pooled residuals overstate the gain threefold."""
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(4000), 4)
    rewards = 3.0 * (rng.random(16_000) < 0.9) + rng.normal(0, 1e-3, 16_000)
    result = forecast(rewards, k=4, rounds=1, context=codes)
    assert any("do not rely on this forecast" in w for w in result.warnings)
    fine = forecast(rng.normal(size=16_000), k=4, rounds=1, context=codes)
    assert not any("do not rely" in w for w in fine.warnings)


@pytest.mark.parametrize("each", [8, 600])
def test_real_data_in_another_mix_of_contexts_do_not_change_the_mix(each):
    rng = np.random.default_rng(4)
    contexts = np.repeat(np.arange(60), each) if each == 8 else np.repeat([0, 1], each)
    levels = 10.0 * (contexts % 2)
    candidates = as_candidates(
        rng.normal(size=contexts.size) + levels, contexts=contexts, groups=contexts % 2
    )
    results = []
    for copies in (1, 9):  # nine times as many real samples of the even contexts
        many = np.concatenate([np.repeat(contexts[contexts % 2 == 0], copies), contexts[contexts % 2 == 1]])
        real = rng.normal(size=many.size) + 10.0 * (many % 2)
        reference = as_candidates(real, contexts=many, groups=many % 2)
        results.append(forecast(candidates, k=4, rounds=2, real_fraction=0.5, reference=reference).trajectory)
    for result in results:
        np.testing.assert_allclose(result.values("share", group="1"), 0.5, atol=1e-9)
    np.testing.assert_allclose(results[0].values("mean_reward"), results[1].values("mean_reward"), atol=0.15)


@pytest.mark.parametrize("contexts", [["a", "a", "c"], ["a", "b", "c"]])
def test_real_data_must_have_the_same_contexts(contexts):
    candidates = as_candidates(np.arange(12.0), contexts=list("aaaabbbbdddd"))
    reference = as_candidates(np.arange(3.0), contexts=contexts)
    with pytest.raises(InputError, match="has contexts that no"):
        forecast(candidates, k=2, rounds=1, real_fraction=0.5, reference=reference)


# --- divergence ---


def test_kl_is_unbiased_at_realistic_sizes():
    """Equal laws, 1,400 real samples and few candidates: the forecast's KL stays near zero."""
    rng = np.random.default_rng(6)
    found = [
        forecast(rng.normal(size=n), k=1, rounds=0, reference=rng.normal(size=1400)).trajectory.values(
            "kl_to_reference"
        )[0]
        for n in (400, 2000)
        for _ in range(40)
    ]
    assert np.mean(found[:40]) < 0.012
    assert np.mean(found[40:]) < 0.006


def test_kl_is_left_out_where_it_cannot_be_told():
    rng = np.random.default_rng(7)
    few = forecast(rng.normal(size=300), rounds=1, reference=rng.normal(50, 1, size=40))
    codes = np.repeat(np.arange(75), 4)
    thin = forecast(
        as_candidates(rng.normal(size=300), contexts=codes),
        rounds=1,
        reference=as_candidates(rng.normal(size=300), contexts=codes),
    )
    for result in (few, thin):
        assert "kl_to_reference" not in {r.quantity for r in result.trajectory.rows}
        assert any("kl_to_reference is left out" in w for w in result.warnings)


# --- bands ---


def test_small_pools_get_no_band_and_say_so():
    result = forecast(np.linspace(0, 1, 100), rounds=1)
    assert all(r.lower is None for r in result.trajectory.rows)
    assert any("candidates are too few" in w for w in result.warnings)


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
        ({"log": []}, "at least one"),
        ({"log": np.zeros((2, 2, 2))}, "shape"),
        ({"log": np.array(["abc"])}, "array of numbers"),
        ({"log": [1.0, math.nan]}, "reward 0 of candidate 1 is not a finite number"),
        ({"log": [1.0, 2.0], "k": 0}, "slate size"),
        ({"log": [1.0, 2.0], "k": "4"}, "slate size"),
        ({"log": [1.0, 2.0], "temperature": "1"}, "temperature"),
        ({"log": [1.0, 2.0], "temperature": 1e-320}, "span too much"),
        ({"log": [-1e308, 1e308]}, "span too much"),
        ({"log": [1.0, 2.0], "real_fraction": "a"}, "real fraction"),
        ({"log": [1.0, 2.0], "rounds": math.inf}, "rounds"),
        ({"log": [1.0, 2.0], "picks": 10**20}, "picks"),
        ({"log": [1.0, 2.0], "weights": "a"}, "weights must be numbers"),
        ({"log": [1.0, 2.0], "law": ["a", "b"]}, "law must be numbers"),
        ({"log": [1.0, 2.0], "law": [1e308, 1e308]}, "not all zero"),
        ({"log": [1.0, 2.0], "track": [1.0, 2.0]}, "track must map"),
        ({"log": [1.0, 2.0], "group": ["a", None]}, "label for every candidate"),
        ({"log": [[1.0, 2.0]], "reward": ["a", "a"]}, "distinct names"),
        ({"log": [1.0, 2.0], "k": 2.5}, "slate size"),
        ({"log": [1.0, 2.0], "temperature": 0}, "temperature"),
        ({"log": [1.0, 2.0], "real_fraction": 1.5}, "real fraction"),
        ({"log": [1.0, 2.0], "real_fraction": math.nan}, "real fraction"),
        ({"log": [1.0, 2.0], "rounds": -1}, "rounds"),
        ({"log": [1.0, 2.0], "rounds": 1.5}, "rounds"),
        ({"log": [1.0, 2.0], "picks": 0}, "picks"),
        ({"log": [1.0, 2.0], "weights": [0.5, 0.5]}, "weight"),
        ({"log": [[1.0, 2.0]], "weights": [0.5, 0.6]}, "sum to one"),
        ({"log": [1.0, 2.0], "group": ["a"]}, "groups"),
        ({"log": [1.0, 2.0], "track": {"x": ["a", "b"]}}, "numbers"),
        ({"log": [1.0, 2.0], "track": {"x": [1.0, math.inf]}}, "finite"),
        ({"log": [1.0, 2.0], "law": [1.0]}, "one mass"),
        ({"log": [1.0, 2.0], "reward": ["a", "b"]}, "one name"),
        ({"log": [1.0, 2.0], "reference": [[1.0, 2.0]]}, "one name"),
        (
            {"log": [1.0, 2.0], "group": ["a", "b"], "reference": [1.0], "real_fraction": 0.5},
            "reference lacks columns",
        ),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        forecast(**arguments)


def test_verified_answers_to_many_prompts_stay_between_their_two_values():
    """Eight answers per prompt: a prompt's share p of right ones becomes 1 - (1 - p)^K."""
    draw = np.random.default_rng(0)
    right = (draw.random((400, 8)) < draw.beta(0.6, 0.9, 400)[:, None]).astype(float)
    log = pa.table({"prompt": np.repeat(np.arange(400).astype(str), 8), "reward": right.ravel()})
    found = recurate.forecast(log, k=4, noise="none", rounds=3)
    shares = right.mean(axis=1)
    means = [r.value for r in found.trajectory.rows if r.quantity == "mean_reward"]
    for mean in means:
        assert mean == pytest.approx(shares.mean(), abs=1e-9)
        shares = 1 - (1 - shares) ** 4
    never = (right.sum(axis=1) == 0).mean()
    [warning] = [w for w in found.warnings if "takes two values" in w]
    assert f"0 in {never:.0%} of contexts" in warning
    assert f"at most {never:.2g}" in warning


# --- the picks of a log as its training sets ---


def log_of_picks(last: int = 200) -> pa.Table:
    """Two rounds of 200 slates of four; a pick of each, of the last round in so many slates alone."""
    rng = np.random.default_rng(11)
    rewards = rng.normal(size=(2, 200, 4))
    slots = np.argmax(rewards + rng.gumbel(size=rewards.shape), axis=2)
    picked = np.arange(4) == slots[..., None]
    picked[1, last:] = False
    return pa.table({
        "round": np.repeat([0, 1], 800), "slate": np.tile(np.repeat(np.arange(200), 4), 2),
        "slot": np.tile(np.arange(4), 400), "reward": rewards.ravel(), "picked": picked.ravel(),
    })  # fmt: skip


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({}, 2), ({"picks": 200}, 2), ({"real_fraction": 0.3}, 2), ({"picks": 50}, 0),
        ({"temperature": 2.0}, 0), ({"k": 8}, 0),
        ({"weights": [1.0]}, 0), ({"threshold": 0.5}, 0), ({"then": [2]}, 0),
    ],
)  # fmt: skip
def test_picks_are_the_training_set_unless_others_are_asked_about(options, rounds):
    found = forecast(log_of_picks(), renew=True, rounds=1, **options)
    assert found.renewal.known == rounds


@pytest.mark.parametrize(("last", "rounds"), [(200, 2), (120, 2), (3, 1), (0, 1)])
def test_a_last_round_that_people_are_still_picking_from_is_forecast_by_the_rule(last, rounds):
    found = forecast(log_of_picks(last), renew=True, rounds=1)
    assert found.renewal.known == rounds
    said = [w for w in found.warnings if "unfinished" in w]
    assert len(said) == (last == 3)


def test_a_run_trains_on_its_first_picks(tmp_path, monkeypatch):
    """A run shows 200 slates and trains on 150 picks; a log without settings has 200."""
    monkeypatch.setattr(from_log, "run_settings", lambda path: {} if path is None else {"picks": 150})
    path = tmp_path / "log.parquet"
    pq.write_table(log_of_picks(), path)
    monkeypatch.setattr(from_log, "folder_of", lambda source: path)
    assert forecast(path, renew=True, rounds=1).setting.picks == 150
    monkeypatch.setattr(from_log, "folder_of", lambda source: None)
    assert forecast(path, renew=True, rounds=1).setting.picks == 200
