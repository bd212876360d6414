"""What a loop claims to do: files, run configurations, inline text; what is wrong is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import ROOT
from helpers.tiny import DIGITS, GAUSSIANS, merged
from recurate.core.errors import InputError
from recurate.loop.config import parse_config, read_config, write_config
from recurate.rules import Rule, Threshold, TopFraction, noise_named
from recurate.verbs.audit.declared import NAMES, Declared, parse_declared, read_declared


def test_inline_text():
    found = read_declared("k = 4, temperature = 0.5, noise = gumbel, picks = 500, weights = [0.25, 0.75]")
    assert found == Declared(k=4, temperature=0.5, noise="gumbel", picks=500, weights=(0.25, 0.75))
    assert found.says_rule
    assert found.rule(9) == Rule(4, 0.5, noise_named("gumbel"), 1, 0.0)
    assert read_declared("k=4") == Declared(k=4)
    assert read_declared(" noise = 'none' ,lapse=0.1,") == Declared(noise="none", lapse=0.1)


def test_lines_are_as_good_as_commas():
    assert read_declared("k = 4\ntemperature = 2  # hot\nweights = [0.5,\n 0.5]\n") == Declared(
        k=4, temperature=2.0, weights=(0.5, 0.5)
    )


def test_long_text_is_no_file_name():
    weights = [1 / 64] * 64
    assert read_declared(f"k = 4, weights = {weights}").weights == tuple(weights)


def test_saying_something_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        read_declared("k = 4, temperature = 1, k = 8")


def test_a_file(tmp_path):
    (tmp_path / "loop.toml").write_text('k = 8\nnoise = "gaussian"\nreal_fraction = 0.5\nslates = 100\n')
    found = read_declared(tmp_path / "loop.toml")
    assert found == Declared(k=8, noise="gaussian", real_fraction=0.5, slates=100)
    assert read_declared(str(tmp_path / "loop.toml")) == found


def test_a_name_with_an_equals_sign_is_a_file_if_it_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k=4.toml").write_text("k = 9")
    assert read_declared("k=4.toml").k == 9


@pytest.mark.parametrize("name", ["gaussians", "digits"])
def test_the_examples_parse(name):
    path = ROOT / "examples" / f"{name}.toml"
    found, config = read_declared(path), read_config(path)
    assert found.rule(4) == config.selection.rule()
    assert found.picks == config.selection.picks
    assert found.slates == config.selection.shown
    assert found.real_fraction == config.retraining.real_fraction
    assert found.weights is None


@pytest.mark.parametrize(
    "raw",
    [
        GAUSSIANS,
        DIGITS,
        merged(GAUSSIANS, selection={"noise": "none", "lapse": 0.1}),
        merged(GAUSSIANS, rewards=[{**r, "weight": None} for r in GAUSSIANS["rewards"]]),
    ],
)
def test_a_resolved_configuration_says_what_the_run_does(raw, tmp_path):
    config = parse_config(raw)
    (tmp_path / "config.toml").write_text(write_config(config))
    found = read_declared(tmp_path / "config.toml")
    assert found.rule(2) == config.selection.rule()
    assert (found.picks, found.slates) == (config.selection.picks, config.selection.shown)
    assert found.weights == (config.weights if len(config.rewards) > 1 else None)
    # What the user wrote says the same, but for what it does not say.
    written = parse_declared(raw)
    assert all(getattr(written, n) in (getattr(found, n), None) for n in NAMES)
    assert written.rule(2) == found.rule(2)


def test_nothing_is_claimed_where_nothing_is_said():
    assert parse_declared({}) == Declared()
    assert not Declared().says_rule
    assert not Declared(picks=500, slates=500, real_fraction=0.5, weights=(0.5, 0.5)).says_rule
    assert all(getattr(Declared(), name) is None for name in NAMES)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ({"k": 3}, Rule(3)),
        ({"noise": "gaussian"}, Rule(7, 1.0, noise_named("gaussian"))),
        ({"keep": 2, "lapse": 0.1}, Rule(7, 1.0, keep=2, lapse=0.1)),
        ({"top": 0.25}, TopFraction(0.25, 1.0, noise_named("none"))),
        ({"top": 0.25, "noise": "gumbel", "temperature": 2.0}, TopFraction(0.25, 2.0, noise_named("gumbel"))),
        ({"threshold": -1.5}, Threshold(-1.5, 1.0, noise_named("none"))),
    ],
)
def test_the_rule_that_is_claimed(raw, rule):
    assert parse_declared(raw).rule(7) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing-here.toml", "no such declaration"),
        ("", "no such declaration"),
        ("slate_size = 4", "'slate_size' cannot be declared"),
        ("temprature = 1", "did you mean 'temperature'"),
        ("k = four", "k must be a whole number >= 1"),
        ("k = 2.5", "k must be a whole number"),
        ("k = 0", "k must be a whole number"),
        ("k = -3", "k must be a whole number"),
        ("k =", "k must be a whole number"),
        ("k = inf", "k must be a whole number"),
        ("k = nan", "k must be a whole number"),
        ("k = true", "k must be a whole number"),
        ("k = [4]", "k must be a whole number"),
        ("picks = 1.5", "picks must be a whole number"),
        ("temperature = 0", "temperature must be a positive number"),
        ("temperature = -1", "temperature must be a positive number"),
        ("temperature = hot", "temperature must be a finite number"),
        ("temperature = nan", "temperature must be a finite number"),
        ("lapse = 1.5", "lapse must be a share"),
        ("real_fraction = -0.1", "real_fraction must be a share"),
        ("top = 2", "top must be a share"),
        ("noise = cauchy", "cauchy"),
        ("noise = 3", "3"),
        ("weights = 0.5", "weights must be shares that sum to one"),
        ("weights = [0.5, 0.6]", "weights must be shares that sum to one"),
        ("weights = [-0.5, 1.5]", "weights must be shares"),
        ("weights = []", "weights must be shares"),
        ("weights = [0.5, 0.5", "weights must be shares"),
        ("weights = ['a', 'b']", "weights must be shares"),
        ("weights = [[0.5, 0.5]]", "weights must be shares"),
        ("k = 2, keep = 3", "keep must be a whole number from 1 to the smallest slate size"),
        ("k = 9" + "9" * 400, "k must be a whole number"),
        ("= 4", "'' cannot be declared"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(InputError) as caught:
        read_declared(text)
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"k = ", "is not valid TOML"),
        (b"k = 4\nk = 4\n", "is not valid TOML"),
        (b'noise = "gumb\xe9l"', "is not valid TOML"),
        (b"[loop]\nk = 4\n", "'loop' cannot be declared"),
        (b"k = 4\nkk = 4\n", "'kk' cannot be declared"),
        (b"[selection]\nkk = 4\n", "'kk' cannot be declared"),
        (b"[selection]\nk = 'four'\n", "k must be a whole number"),
        (b"[selection]\nk = 4\n[retraining]\nreal_fraction = 2\n", "real_fraction must be a share"),
        (b"[[rewards]]\nweight = 0.5\n[[rewards]]\nweight = 0.6\n", "weights must be shares"),
        (b"selection = 3\n", "'selection' cannot be declared"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, content, message):
    (tmp_path / "loop.toml").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_declared(tmp_path / "loop.toml")
    assert message in str(caught.value)
    assert "loop.toml" in str(caught.value)


def test_an_empty_file_claims_nothing(tmp_path):
    (tmp_path / "loop.toml").write_text("# nothing yet\n")
    assert read_declared(tmp_path / "loop.toml") == Declared()


def test_sums_of_rewards_and_offline_candidates():
    found = read_declared("scalarised = true, candidates = offline, weights = [0.5, 0.5]")
    assert (found.scalarised, found.candidates) == (True, "offline")
    for wrong in ("scalarised = 1", "candidates = stale"):
        with pytest.raises(InputError):
            read_declared(wrong)


VALUES = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.none(),
    st.lists(st.floats(), max_size=3),
)


@given(raw=st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=9)), VALUES, max_size=4))
def test_any_dictionary_is_checked_or_refused(raw):
    try:
        found = parse_declared(raw)
    except InputError as error:
        assert error.remedy
        return
    assert all(getattr(found, name) is not None for name in raw)
    assert found.temperature is None or (math.isfinite(found.temperature) and found.temperature > 0)
    assert found.weights is None or math.isclose(sum(found.weights), 1, abs_tol=1e-6)
    assert np.all([getattr(found, n) is None or isinstance(getattr(found, n), int) for n in ("k", "picks")])


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        read_declared(text)
    except InputError as error:
        assert error.remedy


def test_all_that_slates_have_can_be_said_at_once():
    values = {"k": 4, "temperature": 1.0, "noise": "gumbel", "lapse": 0.1, "keep": 1, "picks": 5, "slates": 5,
              "real_fraction": 0.5, "weights": [1.0]}  # fmt: skip
    found = parse_declared(values)
    assert {n for n in NAMES if getattr(found, n) is not None} == set(values)
    verifiers = {"threshold", "false_rejection", "false_acceptance"}
    assert set(NAMES) - set(values) == {"top", "scalarised", "candidates"} | verifiers
