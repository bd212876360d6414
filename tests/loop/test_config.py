"""Configurations: every key checked, every complaint clear."""

from __future__ import annotations

import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import ROOT
from helpers.tiny import DIGITS, GAUSSIANS, merged
from recurate.core.errors import InputError
from recurate.loop.config import Config, parse_config, read_config, write_config

SERVED = {"kind": "language", "sample": {"engine": "openai"}}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_examples_are_valid(path):
    known = {"text": 3, "verifier": 3, "openai": 3, "people": 2, "two_models": 8}
    assert read_config(path).rounds == known.get(path.stem, 6)


@pytest.mark.parametrize("raw", [GAUSSIANS, DIGITS], ids=["gaussians", "digits"])
def test_the_resolved_configuration_means_the_same(raw):
    config = parse_config(raw)
    assert parse_config(tomllib.loads(write_config(config))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "unknown key 'sed'"),
        ({"sed": 1}, "did you mean 'seed'"),
        ({"selection": {"temprature": 1.0}}, "unknown key 'selection.temprature'"),
        ({"selection": {"temprature": 1.0}}, "did you mean 'temperature'"),
        ({"data": {"mode": 3}}, "did you mean 'modes'"),
        ({"generator": {"widht": 3}}, "did you mean 'width'"),
        ({"generator": SERVED | {"server": {"ulr": "http://a", "load": "path"}}}, "did you mean 'url'"),
        ({"generator": SERVED | {"training": {"lora": {"rnak": 2}}}}, "did you mean 'rank'"),
        ({"rewards": [{"kind": "distance", "center": [0.0, 0.0]}]}, "did you mean 'centre'"),
        (
            {"rewards": [{"kind": "distnce", "centre": [0.0, 0.0]}]},
            "rewards.0.kind: there is no reward called",
        ),
        ({"rewards": [{"kind": "distnce", "centre": [0.0, 0.0]}]}, "did you mean 'distance'"),
        (
            {"rewards": [{"kind": "distnce", "centre": [0.0, 0.0]}]},
            "entry point of the group 'recurate.rewards'",
        ),
        ({"rewards": [{"centre": [0.0, 0.0]}]}, "rewards.0.kind: a reward needs a kind"),
        ({"rewards": [{"kind": 3}]}, "rewards.0.kind: a reward needs a kind"),
        ({"rewards": [{"kind": "distance"}]}, "rewards.0.centre: Field required"),
        ({"selection": {"noise": "gumble"}}, "selection.noise: there is no noise called 'gumble'"),
        ({"selection": {"noise": "gumble"}}, "did you mean 'gumbel'"),
        ({"report": {"sections": ["fun"]}}, "there is no report section called 'fun'"),
        ({"rewards": []}, "rewards"),
        ({"data": {"kind": "gauss"}}, "data.kind: there is no kind of data called 'gauss'"),
        ({"data": 5}, "data"),
        ({"rounds": 0}, "rounds: Input should be greater than or equal to 1"),
        ({"rounds": "six"}, "rounds must be a whole number"),
        ({"rounds": True}, "rounds must be a whole number"),
        ({"selection": {"picks": 2.0}}, "picks must be a whole number"),
        ({"data": {"kind": "gaussians", "gaussians": 3}}, "unknown key 'data.gaussians'"),
        ({"seed": -1}, "seed"),
        ({"selection": {"k": 0}}, "selection.k"),
        ({"selection": {"temperature": 0.0}}, "selection.temperature"),
        ({"selection": {"temperature": float("nan")}}, "selection.temperature"),
        ({"selection": {"picks": 200}}, "picks = 200 is more than slates = 150"),
        ({"retraining": {"real_fraction": 1.0}}, "retraining.real_fraction"),
        ({"generator": {"learning_rate": float("inf")}}, "generator.learning_rate"),
        (
            {"rewards": [{**r, "weight": 0.6} for r in GAUSSIANS["rewards"]]},
            "weights sum to 1.2 and must sum to 1",
        ),
        ({"rewards": [GAUSSIANS["rewards"][0], {**GAUSSIANS["rewards"][1], "weight": None}]}, "or none"),
        ({"rewards": [{**r, "name": "same"} for r in GAUSSIANS["rewards"]]}, "different names"),
        (
            {"rewards": [{**GAUSSIANS["rewards"][0], "name": "slate", "weight": 1.0}]},
            "cannot be called slate",
        ),
        ({"rewards": [{"kind": "classifier", "score": "probability"}]}, "give label"),
        ({"groups": {"kind": "colour"}}, "groups.kind"),
    ],
)
def test_wrong_values_are_named(changes, message):
    with pytest.raises(InputError) as caught:
        parse_config(merged(GAUSSIANS, **changes))
    assert message in str(caught.value)
    assert caught.value.remedy


def test_groups_must_fit_the_data():
    with pytest.raises(InputError, match="nearest"):
        parse_config(merged(DIGITS, groups={"kind": "nearest"}))


def test_files(tmp_path):
    with pytest.raises(InputError, match="no such configuration"):
        read_config(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_text("rounds = = 3")
    with pytest.raises(InputError, match="not valid TOML"):
        read_config(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not valid TOML"):
        read_config(path)
    path.write_text(tomli_w.dumps(GAUSSIANS))
    assert read_config(path) == parse_config(GAUSSIANS)


KEYS = st.sampled_from([*Config.model_fields, "gaussians", "distance", "kind", "k", "x"])
VALUES = st.recursive(
    st.one_of(st.integers(-3, 3), st.floats(), st.text(max_size=4), st.booleans(), st.just("gaussians")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_garbage_is_refused_clearly(garbage, on_top):
    raw = {**GAUSSIANS, **garbage} if on_top else garbage
    try:
        parse_config(raw)
    except InputError as error:
        assert error.what
        assert error.got
        assert error.remedy
