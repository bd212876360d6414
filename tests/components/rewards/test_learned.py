"""Rewards learned from picks: planted ones come back, noise teaches nothing, bad input is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import shutil
import tomllib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.tiny import DIGITS, GAUSSIANS, contents, merged
from recurate.choices.models.rival_rules import best_chances
from recurate.choices.table import Choices
from recurate.components.rewards import learned as module
from recurate.components.rewards.learned import (
    LearnedReward,
    LearnedRewardSettings,
    LearnedSettings,
    ScaledReward,
    parts,
)
from recurate.core.errors import Diverged, InputError
from recurate.core.seeds import Stream
from recurate.log.schema import as_log
from recurate.loop.config import parse_config, write_config
from recurate.loop.driver import resume, run
from recurate.loop.run_folder import RunFolder
from recurate.rules.rule import Rule
from recurate.verbs.fit.neural import _slates, learn_reward
from recurate.verbs.run.report import write_run_report

QUICK = LearnedSettings(width=16, steps=60, batch=32)


def planted(points):
    """A reward that is not linear in the coordinates."""
    x, y = points.astype(float).T
    return 2 * np.sin(1.5 * x) + 0.7 * y**2 - 0.5 * x * y


def drawn(count, seed, reward=planted, sizes=(4,)):
    """Luce picks from slates of normal points: samples, choices, true rewards."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.choice(sizes, size=count))])
    points = rng.normal(size=(offsets[-1], 2)).astype(np.float32)
    rewards = reward(points)
    noisy = rewards + rng.gumbel(size=rewards.shape)
    picked = np.array([noisy[a:b].argmax() for a, b in itertools.pairwise(offsets)])
    return points, bound(offsets, picked), rewards


def bound(offsets, picked):
    """Slates and picks without features, every slate its own cluster."""
    return Choices.of(
        np.empty((offsets[-1], 0)), offsets=offsets, picked=picked, choosers=np.arange(len(picked))
    )


def train(points, choices, settings=QUICK, seed=0, clusters=None):
    return LearnedReward.train(
        points, choices.slates.offsets, choices.picked, settings, rng=Stream(seed), clusters=clusters
    )


def same(first, second):
    """Whether two learned rewards are equal in every bit."""
    arrays = all((first.weights[name] == second.weights[name]).all() for name in second.weights)
    numbers = first.scale == second.scale and first.centre == second.centre and first.facts == second.facts
    return arrays and numbers and first.settings == second.settings and (first.mean == second.mean).all()


# --- what held-out slates say ---


def test_the_slope_is_where_the_likelihood_is_largest():
    _, choices, rewards = drawn(400, 1, sizes=(2, 3, 7))
    for factor in (0.25, 1.0, 1e5, -3.0):
        scaled = factor * rewards
        found = module._slope(choices, scaled)
        best = choices.log_likelihood(Rule(), found.value * scaled).sum()
        for aside in (0.999, 1.001):
            assert choices.log_likelihood(Rule(), aside * found.value * scaled).sum() < best
        assert found.value * factor == pytest.approx(module._slope(choices, rewards).value, rel=1e-6)


def test_the_slopes_error_is_that_of_simulated_picks():
    """Standardised slopes of 200 simulations have mean 0 and sd 1; alarms under 1e-4 each, seeds fixed."""
    z = []
    for seed in range(200):
        _, choices, rewards = drawn(300, 1000 + seed)
        found = module._slope(choices, 0.5 * rewards)
        z.append((found.value - 2) / found.se)
    assert abs(np.mean(z)) < 3.9 / 200**0.5 + 0.15  # a maximum-likelihood estimate's bias is of order 1 / S
    assert 0.8 < np.std(z) < 1.22


def test_the_slopes_error_takes_clusters_as_they_are():
    """Saying everything twice tells nothing more, if it is told that it was the same chooser."""
    _, choices, rewards = drawn(300, 11)
    alone = module._slope(choices, rewards)
    which = np.repeat(np.arange(300), 2)
    twice = module._slope(choices.take(which), rewards[choices.slates.take(which)[1]])
    assert (twice.value, twice.se) == pytest.approx((alone.value, alone.se), rel=1e-6)


def test_no_slope_where_no_finite_one_is_best():
    _, choices, rewards = drawn(30, 2)
    assert module._slope(choices, np.ones_like(rewards)) is None
    assert module._slope(choices, np.repeat(rewards[::4], 4)) is None
    largest = bound(choices.slates.offsets, rewards.reshape(-1, 4).argmax(1))
    assert module._slope(largest, rewards) is None
    assert module._slope(largest, -rewards) is None
    pairs, second = bound(np.arange(31) * 2, np.ones(30, int)), np.tile([0.0, 1.0], 30)
    for separated in (second, -second, np.where(np.arange(60) < 30, 0.0, second)):
        assert module._slope(pairs, separated) is None


def test_errors_of_means_take_clusters_as_they_are():
    values = np.random.default_rng(0).normal(size=50)
    alone = module._mean(values, np.arange(50))
    assert alone.value == pytest.approx(values.mean())
    assert alone.se == pytest.approx(values.std(ddof=1) / 50**0.5)
    assert module._mean(values, None) == alone
    twice = module._mean(np.repeat(values, 2), np.repeat(np.arange(50) * 3, 2))
    assert twice.se == pytest.approx(alone.se), "saying everything twice tells nothing more"


# --- the split ---


@given(st.lists(st.integers(1, 30), min_size=12, max_size=40), st.integers(0, 1000))
def test_whole_clusters_stay_on_one_side(sizes, seed):
    clusters = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    try:
        split = parts(clusters, (0.2, 0.2), Stream(seed))
    except InputError as error:
        assert "clusters" in str(error)
        return
    assert sorted(np.concatenate(split)) == list(range(clusters.size))
    sides = [set(clusters[part]) for part in split]
    assert all(sides)
    assert len(sides[2]) >= 2
    assert sum(map(len, sides)) == len(sizes)
    for part in split[1:]:
        assert abs(part.size - 0.2 * clusters.size) <= max(sizes)


def test_single_slates_are_split_as_asked():
    split = parts(np.arange(1000), (0.15, 0.25), Stream(4))
    assert [part.size for part in split] == [600, 150, 250]
    other = parts(np.arange(1000), (0.15, 0.25), Stream(5))
    assert set(split[2]) != set(other[2])


def test_training_never_sees_the_clusters_that_it_is_judged_by():
    """Half of the choosers like large x, half small x; each leaves a mark on its candidates.

    The network can learn who likes what, but not of choosers that it has never seen.
    """
    rng = np.random.default_rng(0)
    choosers = np.repeat(np.arange(24), 40)
    signs = rng.permutation(np.repeat([-1.0, 1.0], 12))[choosers]
    x = rng.normal(size=(960, 2))
    picked = (3 * signs[:, None] * x + rng.gumbel(size=x.shape)).argmax(1)
    marks = np.repeat(np.eye(24)[choosers], 2, axis=0)
    points = np.column_stack([x.ravel(), marks]).astype(np.float32)
    choices = bound(np.arange(961) * 2, picked)
    settings = LearnedSettings(steps=400, learning_rate=5e-3)
    mixed = train(points, choices, settings).facts
    assert mixed.gain > 10 * mixed.gain_error
    apart = train(points, choices, settings, clusters=[f"chooser {c}" for c in choosers]).facts
    assert apart.gain < 3 * apart.gain_error + 0.01
    assert [n % 40 for n in (apart.training, apart.validation, apart.held_out)] == [0, 0, 0]


# --- learning ---


@pytest.fixture(scope="module")
def learned():
    """A reward learned from 3,000 slates of four."""
    points, choices, _ = drawn(3000, 0)
    return train(points, choices, LearnedSettings())


def test_a_planted_reward_comes_back(learned):
    """On slates never seen: correlation within slates, likelihood near the truth's and never beyond noise."""
    points, choices, rewards = drawn(4000, 99)
    found = learned(points)
    within = [r - np.repeat(r.reshape(-1, 4).mean(1), 4) for r in (found, rewards)]
    assert np.corrcoef(*within)[0, 1] > 0.97
    lost = choices.log_likelihood(Rule(), rewards) - choices.log_likelihood(Rule(), found)
    error = lost.std() / 4000**0.5
    assert -3 * error < lost.mean() < 0.02 + 3 * error
    facts = learned.facts
    assert facts.gain > 10 * facts.gain_error
    fresh = choices.log_likelihood(Rule(), found).mean()
    assert abs(facts.log_likelihood - fresh) < 4 * facts.log_likelihood_error
    assert abs(facts.accuracy - best_chances(choices, found).mean()) < 4 * (0.25 / facts.held_out) ** 0.5
    assert abs(facts.slope - 1) < 3 * facts.slope_error
    assert facts.uniform == pytest.approx(-math.log(4))
    assert (facts.training, facts.validation, facts.held_out) == (1800, 600, 600)
    assert 0 < facts.best_step <= 2000


def test_the_facts_are_of_the_held_out_slates(learned):
    points, choices, _ = drawn(3000, 0)
    split = parts(np.arange(3000), (0.2, 0.2), Stream(0).at("split"))
    held_out, (_, rows) = choices.take(split[2]), choices.slates.take(split[2])
    rewards = learned(points[rows])
    logs = held_out.log_likelihood(Rule(), rewards)
    assert learned.facts.log_likelihood == pytest.approx(logs.mean(), rel=1e-6)
    assert learned.facts.log_likelihood_error == pytest.approx(logs.std(ddof=1) / 600**0.5, rel=1e-6)
    assert learned.facts.gain_error == pytest.approx(learned.facts.log_likelihood_error)  # all of one size
    assert learned.facts.accuracy == best_chances(held_out, rewards).mean()
    slope = module._slope(held_out, rewards)
    assert (learned.facts.slope, learned.facts.slope_error) == pytest.approx((slope.value, slope.se))
    _, rows = choices.slates.take(split[0])
    assert learned(points[rows]).mean() == pytest.approx(0, abs=1e-6), "centred on the training part"
    np.testing.assert_allclose(learned.mean, points[rows].mean(0), rtol=1e-4)


def test_slates_of_many_sizes():
    points, choices, _ = drawn(1500, 3, sizes=(2, 3, 8))
    reward = train(points, choices, LearnedSettings(steps=600))
    fresh, others, rewards = drawn(2000, 4, sizes=(2, 3, 8))
    lost = others.log_likelihood(Rule(), rewards).mean() - others.log_likelihood(Rule(), reward(fresh)).mean()
    assert lost < 0.05
    assert reward.facts.uniform == pytest.approx(-np.log([2, 3, 8]).mean(), abs=0.1)


def test_the_order_within_slates_is_nothing():
    """Shuffled slates are the same data; floating-point sums differ, and with them the last digits."""
    points, choices, _ = drawn(300, 5)
    rng = np.random.default_rng(0)
    starts = choices.slates.offsets[:-1]
    order = np.concatenate([a + rng.permutation(4) for a in starts])
    place = np.argsort(order)[choices.picked_rows] - starts
    first = train(points, choices)
    second = train(points[order], bound(choices.slates.offsets, place))
    np.testing.assert_allclose(second(points), first(points), atol=1e-3)
    assert second.facts.log_likelihood == pytest.approx(first.facts.log_likelihood, abs=1e-4)


def at_random(seed):
    """Picks at random from 400 slates of points in 16 dimensions, and settings to learn them by heart."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(1600, 16)).astype(np.float32)
    choices = bound(np.arange(401) * 4, rng.integers(0, 4, size=400))
    return points, choices, LearnedSettings(steps=300, learning_rate=5e-3, patience=300)


@pytest.mark.parametrize("seed", range(3))
def test_picks_at_random_teach_nothing(seed):
    """Alarms under 0.2 % each, seeds fixed."""
    facts = train(*at_random(seed), seed=seed).facts
    assert facts.gain < 3 * facts.gain_error + 1e-12
    assert facts.gain > -0.05


def test_the_last_step_would_have_learned_them_by_heart(monkeypatch):
    """Shows that the check above can fail: weights that are not copied are those of the last step."""
    monkeypatch.setattr(
        module, "weights_of", lambda network: {n: v.numpy() for n, v in network.state_dict().items()}
    )
    assert train(*at_random(0)).facts.gain < -0.5


def test_equal_streams_give_equal_rewards_and_others_do_not():
    points, choices, _ = drawn(200, 6)
    first = train(points, choices)
    assert same(train(points, choices), first)
    assert not same(train(points, choices, seed=1), first)


def test_samples_of_any_shape():
    points, choices, _ = drawn(100, 7)
    flat = train(points, choices)
    square = train(points.reshape(-1, 1, 2, 1), choices)
    assert square.shape == (1, 2, 1)
    np.testing.assert_array_equal(square(points.reshape(-1, 1, 2, 1)), flat(points))
    assert flat(points[:0]).shape == (0,)
    line = train(points[:, 0], choices)
    assert line(points[:, 0]).shape == (400,)
    for wrong in (points.reshape(-1, 1, 2, 1), points[:, :1], points[:, 0]):
        with pytest.raises(InputError, match="another shape") as caught:
            flat(wrong)
        assert str(wrong.shape[1:]) in caught.value.got
        assert "(2,)" in caught.value.got


def test_noise_and_few_slates_are_possible():
    points, choices, _ = drawn(20, 8)
    facts = train(points, choices, LearnedSettings(steps=30, noise=0.5)).facts
    assert (facts.training, facts.validation, facts.held_out) == (12, 4, 4)
    assert "held-out log-likelihood" in facts.summary()
    assert "12 training" in facts.summary()


def test_summaries_say_what_is_unknown():
    points, choices, _ = drawn(40, 8, reward=lambda x: np.zeros(len(x)))
    facts = train(points, choices, LearnedSettings(steps=1, learning_rate=1e-12)).facts
    constant = facts.model_copy(update={"slope": None, "slope_error": None})
    assert "calibration slope unknown" in constant.summary()


# --- what is refused ---


def changed(**changes):
    points, choices, _ = drawn(40, 9)
    given = {"samples": points, "offsets": choices.slates.offsets, "picked": choices.picked}
    return given | {name: change(given[name].copy()) for name, change in changes.items()}


def put(row, value):
    def change(array):
        array[row] = value
        return array

    return change


BAD = {
    "few": ({"samples": lambda a: a[:76], "offsets": lambda a: a[:20], "picked": lambda a: a[:19]}, "so few"),
    "none": ({name: lambda a: a[:0] for name in ("samples", "offsets", "picked")}, "so few"),
    "no samples": ({"samples": lambda a: a[:0]}, "so few"),
    "a number": ({"samples": lambda a: a[0, 0]}, "so few"),
    "nothing": (
        {"samples": lambda a: a[:0], "offsets": lambda a: a[:1], "picked": lambda a: a[:0]},
        "so few",
    ),
    "nan": ({"samples": put((7, 1), np.nan)}, "not finite"),
    "infinite": ({"samples": put((7, 1), -np.inf)}, "not finite"),
    "outside": ({"picked": put(3, 4)}, "pick of slate 3 lies outside"),
    "negative": ({"picked": put(3, -1)}, "pick of slate 3 lies outside"),
    "small": ({"offsets": put(5, 17)}, "at least two candidates"),
    "empty": ({"offsets": put(5, 16)}, "at least two candidates"),
    "backwards": ({"offsets": put(5, 10)}, "at least two candidates"),
    "one pick less": ({"picked": lambda a: a[:-1]}, "one slot per slate"),
    "columns": ({"picked": lambda a: a[:, None]}, "one slot per slate"),
    "unsigned": ({"offsets": lambda a: put(5, 10)(a).astype(np.uint64)}, "slate 4"),
    "short": ({"offsets": lambda a: a[:-1]}, "offsets must be whole numbers from 0"),
    "start": ({"offsets": put(0, 1)}, "offsets must be whole numbers from 0"),
    "end": ({"offsets": put(40, 159)}, "offsets must be whole numbers from 0"),
    "fractions": ({"picked": lambda a: a.astype(float)}, "one slot per slate"),
    "masks": ({"picked": lambda a: a.astype(bool)}, "one slot per slate"),
    "square": ({"offsets": lambda a: a[:, None]}, "offsets must be whole numbers from 0"),
    "alike": ({"samples": np.ones_like}, "all picks are the same sample"),
    "pairs": ({"samples": lambda a: np.repeat(a[::4], 4, axis=0)}, "identical candidates"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changes, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        LearnedReward.train(**changed(**changes), settings=QUICK, rng=Stream(0))
    assert caught.value.got
    assert caught.value.remedy


def test_one_sample_always_picked_is_refused():
    points, choices, _ = drawn(40, 9)
    points[choices.picked_rows] = [3.0, 3.0]
    with pytest.raises(InputError, match="all picks are the same sample"):
        train(points, choices)


@pytest.mark.parametrize(
    "clusters",
    [np.arange(39), np.zeros((40, 1)), np.zeros(40), np.arange(40) % 2, np.arange(40) // 35],
    ids=["short", "square", "one", "two", "one is nearly all"],
)
def test_bad_clusters(clusters):
    points, choices, _ = drawn(40, 9)
    with pytest.raises(InputError, match="clusters"):
        train(points, choices, clusters=clusters)


def test_clusters_may_be_named_by_anything():
    """A log's column may hold numbers or names, some of them missing; what is alike stays together."""
    points, choices, _ = drawn(40, 9)
    clusters = [[None, 1, "b", 2.5, "é", True, *range(5, 12)][i % 13] for i in range(40)]
    found = train(points, choices, clusters=clusters)
    assert same(train(points, choices, clusters=[str(name) for name in clusters]), found)
    assert not same(train(points, choices), found)


def test_divergence_is_named():
    points, choices, _ = drawn(40, 9)
    settings = LearnedSettings(steps=200, learning_rate=1e30)
    with pytest.raises(Diverged, match="the reward diverged"):
        train(points, choices, settings)


def test_settings_leave_something_to_train_on():
    with pytest.raises(ValueError, match="a tenth"):
        LearnedSettings(validation=0.5, held_out=0.5)


def test_devices_that_do_not_exist_are_refused():
    points, choices, _ = drawn(40, 9)
    with pytest.raises(InputError, match="no such device"):
        train(points, choices, LearnedSettings(device="tpu"))


# --- on disk ---


def test_it_comes_back_from_disk(learned, tmp_path):
    points, _, _ = drawn(3000, 98)
    learned.save(tmp_path / "some" / "reward")
    again = LearnedReward.load(tmp_path / "some" / "reward")
    np.testing.assert_array_equal(again(points), learned(points))
    assert same(again, learned)
    again.save(str(tmp_path / "again"))
    for name in ("reward.json", "reward.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "some" / "reward" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == ["reward.json", "reward.safetensors"]


def flip(path):
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "altered": ("reward.safetensors", flip, "damaged or was altered"),
    "cut": ("reward.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-4]), "damaged or was altered"),
    "gone": ("reward.safetensors", lambda p: p.unlink(), "damaged or was altered"),
    "no card": ("reward.json", lambda p: p.unlink(), "no saved reward"),
    "half a card": ("reward.json", lambda p: p.write_text(p.read_text()[:40]), "damaged or was altered"),
    "bytes": ("reward.json", lambda p: p.write_bytes(b"\xff\xfe"), "damaged or was altered"),
    "a list": ("reward.json", lambda p: p.write_text("[]"), "damaged or was altered"),
    "newer": ("reward.json", lambda p: rewrite(p, format=99), "newer recurate"),
    "older": ("reward.json", lambda p: rewrite(p, format=1), "older recurate"),
    "no hash": ("reward.json", lambda p: rewrite(p, sha256=None), "damaged or was altered"),
    "other shape": ("reward.json", lambda p: rewrite(p, shape=[3]), "damaged or was altered"),
    "other width": (
        "reward.json",
        lambda p: rewrite(p, settings=QUICK.model_dump() | {"width": 7}),
        "damaged or was altered",
    ),
    "no facts": ("reward.json", lambda p: rewrite(p, facts=None), "damaged or was altered"),
    "odd key": ("reward.json", lambda p: rewrite(p, extra=1), "damaged or was altered"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_named_and_refused(learned, tmp_path, how):
    name, damage, message = DAMAGE[how]
    learned.save(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        LearnedReward.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert name in str(caught.value)


def test_weights_that_match_their_hash_but_are_none_are_refused(learned, tmp_path):
    learned.save(tmp_path)
    (tmp_path / "reward.safetensors").write_bytes(b"nothing")
    rewrite(tmp_path / "reward.json", sha256=hashlib.sha256(b"nothing").hexdigest())
    with pytest.raises(InputError, match="damaged or was altered"):
        LearnedReward.load(tmp_path)


# --- in runs ---


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A reward for the plane: learned from picks of points by their distance from the east."""
    points, choices, _ = drawn(
        400, 10, reward=lambda x: -2 * np.linalg.norm(x.astype(float) - [2.0, 0.0], axis=1)
    )
    folder = tmp_path_factory.mktemp("saved") / "east"
    train(2 * points, choices, LearnedSettings(steps=200)).save(folder)
    return folder


def configured(folder, **changes):
    rewards = [
        {"kind": "distance", "name": "west", "centre": [-2.0, 0.0], "weight": 0.25},
        {"kind": "learned", "name": "east", "folder": str(folder), "gamma": 1.5, "weight": 0.75},
    ]
    return merged(GAUSSIANS, rewards=rewards, **changes)


@pytest.fixture(scope="module")
def finished(saved, tmp_path_factory):
    """A finished run whose learned reward's own folder is gone."""
    base = tmp_path_factory.mktemp("runs")
    folder = shutil.copytree(saved, base / "reward")
    run(parse_config(configured(folder)), base / "run")
    shutil.rmtree(folder)
    return base / "run"


def test_a_run_uses_the_learned_reward(finished, saved):
    store = RunFolder.open(finished)
    reward = LearnedReward.load(saved)
    for t in range(3):
        log = store.log(t).select(source="model")
        np.testing.assert_array_equal(log.column("east"), 1.5 * reward(store.samples(t)))
    assert "held-out log-likelihood" in store.facts()["east_learned_from_picks"]
    environment = store.environment(store.config())
    points = store.samples(0)
    np.testing.assert_array_equal(environment.rewards["east"](points), 1.5 * reward(points))
    start, *_, end = (store.log(t).select(source="model").column("east").mean() for t in range(3))
    assert end > start


def test_a_run_keeps_its_own_copy(finished, saved, tmp_path):
    for name in ("reward.json", "reward.safetensors"):
        assert (finished / "setup" / "reward-1" / name).read_bytes() == (saved / name).read_bytes()
    copy = shutil.copytree(finished, tmp_path / "copy")
    flip(copy / "setup" / "reward-1" / "reward.safetensors")
    with pytest.raises(InputError, match="is missing or was altered"):
        resume(copy)
    (copy / "setup" / "reward-1" / "reward.safetensors").unlink()
    with pytest.raises(InputError, match="is missing or was altered"):
        resume(copy)


@pytest.mark.parametrize("left", [0, 1])
def test_it_resumes_to_the_same_bytes_without_the_original(finished, tmp_path, left):
    copy = shutil.copytree(finished, tmp_path / "copy")
    for t in range(left, 3):
        shutil.rmtree(copy / "rounds" / f"{t:03d}")
    (copy / "trajectory.parquet").unlink()
    resume(copy)
    assert contents(copy) == contents(finished)


def test_reports_need_no_original(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    page = write_run_report(RunFolder.open(copy)).read_text(encoding="utf-8")
    assert "east learned from picks" in page


def test_what_does_not_fit_leaves_no_folder(saved, tmp_path):
    with pytest.raises(InputError, match="no saved reward") as caught:
        run(parse_config(configured(tmp_path / "nowhere")), tmp_path / "out")
    assert "nowhere" in caught.value.got
    digits = merged(DIGITS, rewards=[{"kind": "learned", "folder": str(saved)}], groups=None)
    with pytest.raises(InputError, match="another shape") as caught:
        run(parse_config(digits), tmp_path / "out")
    assert "(8, 8)" in caught.value.got
    assert "(2,)" in caught.value.got
    assert not (tmp_path / "out").exists()


def test_configurations(saved):
    config = parse_config(configured(saved))
    assert config.weights == (0.25, 0.75)
    assert parse_config(tomllib.loads(write_config(config))) == config
    with pytest.raises(InputError, match="did you mean 'folder'"):
        parse_config(merged(GAUSSIANS, rewards=[{"kind": "learned", "foldr": "x"}]))
    with pytest.raises(InputError, match=r"rewards\.0\.folder"):
        parse_config(merged(GAUSSIANS, rewards=[{"kind": "learned"}]))
    settings = LearnedRewardSettings(kind="learned", folder=str(saved), gamma=3.0)
    points, _, _ = drawn(10, 0)
    reward = LearnedReward.load(saved)
    np.testing.assert_array_equal(ScaledReward(settings, reward)(points), 3 * reward(points))


# --- learning from runs ---


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A run to learn from: one reward, enough slates."""
    folder = tmp_path_factory.mktemp("played") / "run"
    rewards = [{"kind": "distance", "centre": [2.0, 0.0], "gamma": 1.0}]
    changes = {"rewards": rewards, "selection": {"k": 4, "picks": 400, "slates": 400, "temperature": 0.5}}
    run(parse_config(merged(GAUSSIANS, rounds=1, **changes)), folder)
    return folder


def test_learning_from_a_run(played):
    """It sees samples and picks alone, and finds reward / temperature, up to a constant."""
    reward = learn_reward(played, LearnedSettings(steps=400), seed=5)
    facts = reward.facts
    assert facts.training + facts.validation + facts.held_out == 800
    store = RunFolder.open(played)
    log = store.log(0).select(source="model")
    found, true = reward(store.samples(0)), log.column("reward") / 0.5
    assert np.corrcoef(found, true)[0, 1] > 0.95
    assert np.polyfit(true, found, 1)[0] == pytest.approx(1, abs=0.25)
    assert same(learn_reward(str(played), LearnedSettings(steps=400), seed=5), reward)


def test_learning_reads_the_log_by_item_and_slot(played):
    """What is trained on is the samples that the log names, slate by slate, and their picks."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            LearnedReward, "train", classmethod(lambda _, *given, **rest: seen.update(given=given) or seen)
        )
        learn_reward(played, QUICK, seed=0, rounds=[1])
    samples, offsets, picked, settings = seen["given"]
    assert settings == QUICK
    store = RunFolder.open(played)
    np.testing.assert_array_equal(samples, store.samples(1))
    assert offsets.tolist() == list(range(0, 1601, 4))
    expected = store.log(1).column("picked").reshape(-1, 4).argmax(1)
    np.testing.assert_array_equal(picked, expected)


def test_rows_in_any_order_and_slates_without_a_pick():
    table = pa.table(
        {
            "slate": [7, 3, 3, 7, 5, 5, None, 3],
            "slot": [1, 2, 0, 0, 0, 1, None, 1],
            "item": [4, 0, 1, 2, 3, 5, 6, 7],
            "source": ["model"] * 6 + ["real", "model"],
            "reward": [0.0] * 8,
            "picked": [True, False, False, False, False, False, False, True],
            "context": ["b", "a", "a", "b", "c", "c", "", "a"],
        }
    )
    samples = np.arange(16, dtype=np.float32).reshape(8, 2)
    found, sizes, picked, groups = _slates(as_log(table), samples, "context")
    np.testing.assert_array_equal(found, samples[[1, 7, 0, 2, 4]])
    assert sizes.tolist() == [3, 2]
    assert picked.tolist() == [1, 1]
    assert groups.tolist() == ["a", "b"]
    for items in ([9] * 8, [-1] * 8, list("abcdefgh"), [None] * 8):
        column = table.column_names.index("item")
        with pytest.raises(InputError, match="numbers of samples"):
            _slates(as_log(table.set_column(column, "item", pa.array(items))), samples, None)


def test_learning_from_what_is_no_run_or_no_round(played, tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        learn_reward(tmp_path, QUICK, seed=0)
    for rounds in ([2], [-1, 0], []):
        with pytest.raises(InputError, match="does not have these rounds"):
            learn_reward(played, QUICK, seed=0, rounds=rounds)
    with pytest.raises(InputError, match="has no column 'contxt'"):
        learn_reward(played, QUICK, seed=0, clusters="contxt")
    with pytest.raises(InputError, match="clusters are too few"):
        learn_reward(played, QUICK, seed=0, clusters="chooser")
    copy = shutil.copytree(played, tmp_path / "copy")
    flip(copy / "rounds" / "000" / "samples.safetensors")
    with pytest.raises(InputError, match="is missing or was altered"):
        learn_reward(copy, QUICK, seed=0)


def test_a_learned_reward_is_a_value(learned):
    with pytest.raises(dataclasses.FrozenInstanceError):
        learned.scale = 2.0
