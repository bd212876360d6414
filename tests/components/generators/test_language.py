"""Language models as generators: values that are trained, sampled, saved and loaded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from helpers import tiny_models as tiny  # noqa: E402
from recurate.components.generators.language import Language, LanguageSettings  # noqa: E402
from recurate.core.errors import InputError  # noqa: E402
from recurate.core.seeds import Stream  # noqa: E402
from recurate.log.samples import as_texts  # noqa: E402

WORDS = as_texts([*tiny.TEXTS, *(f"fox {i % 7}" for i in range(40))])
ASKED = as_texts([f"number {i % 5}" for i in range(len(WORDS))])
SMALL = {
    "scratch": {"layers": 1, "width": 16, "heads": 2, "vocabulary": 280, "window": 40},
    "sample": {"longest": 12},
    "training": {"first_epochs": 3, "epochs": 1, "batch": 8},
    "device": "cpu",
}
ROOT = Stream(0)


def settings(**changes) -> LanguageSettings:
    merged = {
        name: {**SMALL.get(name, {}), **value} if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return LanguageSettings(kind="language", **{**SMALL, **merged})


def says(model: Language, rng: Stream, n: int) -> np.ndarray:
    return model.sample(n, rng=rng, contexts=ASKED[:n])


def weights(model: Language) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.model.state_dict().items()}


@pytest.fixture(scope="module")
def first() -> Language:
    return settings().build().fit(WORDS, rng=ROOT.at("fit"), contexts=ASKED, real=len(WORDS))


@pytest.fixture(scope="module")
def folder(first, tmp_path_factory):
    """A folder with a model, as transformers saves it."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    first.model.save_pretrained(path)
    first.tokenizer.save_pretrained(path)
    return path


def test_training_returns_a_new_model_and_repeats(first):
    before = weights(first)
    second = first.fit(WORDS, rng=ROOT.at("again"), contexts=ASKED)
    again = first.fit(WORDS, rng=ROOT.at("again"), contexts=ASKED)
    assert all((weights(first)[n] == before[n]).all() for n in before)
    assert all((weights(second)[n] == weights(again)[n]).all() for n in before)
    assert any((weights(second)[n] != before[n]).any() for n in before)


def test_items_do_not_depend_on_the_batch_or_the_shard(first):
    rng, asked = ROOT.at("sample"), ASKED[:30]
    whole = first.sample(30, rng=rng, contexts=asked)
    small = replace(first, settings=settings(sample={"batch": 4}))
    assert (small.sample(30, rng=rng, contexts=asked) == whole).all()
    assert (whole != first.sample(30, rng=ROOT.at("other"), contexts=asked)).any()
    parts = [first.sample(b - a, rng=rng, contexts=asked[a:b], first=a) for a, b in ((0, 7), (7, 8), (8, 30))]
    assert (np.concatenate(parts) == whole).all()
    assert first.sample(5, rng=rng).shape == (5,)


def test_a_saved_model_is_the_same(first, tmp_path):
    first.save(tmp_path)
    again = first.settings.load(tmp_path)
    rng = ROOT.at("sample")
    assert (says(again, rng, 20) == says(first, rng, 20)).all()
    ours, theirs = first.fit(WORDS, rng=rng, contexts=ASKED), again.fit(WORDS, rng=rng, contexts=ASKED)
    assert all((weights(ours)[n] == weights(theirs)[n]).all() for n in weights(ours))
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize("fault", ["{", "{}", '{"format": 2}', None])
def test_a_damaged_card_is_an_error(first, tmp_path, fault):
    first.save(tmp_path)
    (tmp_path / "language.json").unlink()
    if fault is not None:
        (tmp_path / "language.json").write_text(fault)
    with pytest.raises(InputError, match="card of a saved language model"):
        Language.load(tmp_path)


def test_a_folder_of_transformers_is_used_as_it_is(folder, first):
    model = settings(model=str(folder)).build()
    assert not model.settings.trains_first
    rng = ROOT.at("sample")
    assert (says(model, rng, 9) == says(first, rng, 9)).all()


def test_retraining_starts_from_the_previous_model_or_the_first(folder):
    warm, cold = (settings(model=str(folder), training={"warm_start": w}).build() for w in (True, False))
    a, b = ROOT.at("a"), ROOT.at("b")
    assert_same(warm.fit(WORDS, rng=a), cold.fit(WORDS, rng=a))
    assert_same(cold.fit(WORDS, rng=a).fit(WORDS, rng=b), cold.fit(WORDS[:9], rng=a).fit(WORDS, rng=b))
    one = warm.fit(WORDS, rng=a).fit(WORDS, rng=b)
    with pytest.raises(AssertionError):
        assert_same(one, cold.fit(WORDS, rng=a).fit(WORDS, rng=b))


def test_the_first_epochs_are_those_of_a_first_training(folder):
    def taught(**changes) -> Language:
        training = {"first_epochs": 3, "epochs": 1, **changes.pop("training", {})}
        return settings(model=str(folder), training=training, **changes).build().fit(WORDS, rng=ROOT)

    assert_same(taught(), taught(training={"first_epochs": 1}))  # a retraining: 1 epoch
    assert_same(taught(fit_first=True), taught(fit_first=True, training={"epochs": 2}))  # the first: 3
    with pytest.raises(AssertionError):
        assert_same(taught(), taught(fit_first=True))


def assert_same(one: Language, two: Language) -> None:
    known = weights(two)
    assert all((value == known[name]).all() for name, value in weights(one).items())


def test_adapters_alone_are_trained_and_saved(folder, tmp_path):
    pytest.importorskip("peft")
    made = settings(model=str(folder), training={"lora": {"rank": 2}}).build()
    first = made.fit(WORDS, rng=ROOT.at("a"), contexts=ASKED)
    base, changed = weights(made), weights(first)
    frozen = {n for n in changed if "lora" not in n}
    assert all(
        (changed[n] == base[n.removeprefix("base_model.model.").replace(".base_layer", "")]).all()
        for n in frozen
    )
    first.save(tmp_path / "one")
    assert not (tmp_path / "one" / "model.safetensors").exists()
    again = first.settings.load(tmp_path / "one")
    rng = ROOT.at("b")
    assert (says(again, rng, 9) == says(first, rng, 9)).all()
    assert (says(first, rng, 9) != says(made, rng, 9)).any()
    assert_same(first.fit(WORDS, rng=rng), again.fit(WORDS, rng=rng))


def test_adapters_of_another_model_are_refused(folder, first, tmp_path):
    pytest.importorskip("peft")
    made = settings(model=str(folder), training={"lora": {"rank": 2}}).build().fit(WORDS[:8], rng=ROOT)
    made.save(tmp_path / "adapters")
    card = json.loads((tmp_path / "adapters" / "language.json").read_text())
    card["settings"]["model"] = str(tmp_path / "other")
    (tmp_path / "adapters" / "language.json").write_text(json.dumps(card))
    other = first.fit(WORDS, rng=ROOT)
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="adapters belong to another model"):
        Language.load(tmp_path / "adapters")


def test_stop_texts_cut_completions(first):
    rng = ROOT.at("sample")
    plain = says(first, rng, 40)
    stopped = replace(first, settings=settings(sample={"stop": ["o", "zz"]}))
    found = says(stopped, rng, 40)
    assert any("o" in text for text in plain)
    assert found.tolist() == [text.partition("o")[0].partition("zz")[0] for text in plain]


def test_prompts_beyond_the_window_are_refused_and_long_texts_are_cut(first):
    long = as_texts(["x" * 60])
    with pytest.raises(InputError, match="1 of 1 prompts do not fit"):
        first.sample(1, rng=ROOT, contexts=long)
    with pytest.raises(InputError, match="1 of 1 prompts do not fit"):
        first.fit(WORDS[:1], rng=ROOT, contexts=long)
    assert first.fit(long, rng=ROOT).notes == ("1 of 1 training texts were cut at 40 tokens",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "say"}, "must contain {context}"),
        ({"fit_first": False}, "must be trained first"),
        ({"training": {"lora": {"rank": 2}}}, "adapters need a trained model"),
        ({"sample": {"longest": 40}}, "must be below scratch.window"),
        ({"scratch": {"width": 30}}, "must be a multiple"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


def test_bad_data_and_models_are_refused(tmp_path):
    with pytest.raises(InputError, match="trained on texts"):
        settings().build().fit(np.zeros((3, 2), np.float32), rng=ROOT)
    with pytest.raises(InputError, match="has not been trained"):
        settings().build().sample(1, rng=ROOT)
    with pytest.raises(InputError, match="cannot be loaded"):
        settings(model=str(tmp_path)).build()


def test_in_bfloat16_no_token_is_computed_alone(first, monkeypatch):
    """Rounding is then larger than the margin of boundaries: passes would settle nothing."""
    from recurate.components.causal import decoding

    alone = []
    real = decoding._alone
    monkeypatch.setattr(decoding, "ROUNDING", 1e-3)  # many tokens are near a boundary
    monkeypatch.setattr(decoding, "_alone", lambda *given: alone.append(1) or real(*given))
    says(first, ROOT.at("sample"), 20)
    assert alone
    alone.clear()
    low = replace(first, settings=settings(precision="bfloat16"))
    assert low.sample(20, rng=ROOT.at("sample"), contexts=ASKED[:20]).shape == (20,)
    assert not alone
