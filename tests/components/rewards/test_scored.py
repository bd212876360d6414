"""Rewards by models of transformers: single outputs and classes, with prompts and without."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from helpers import tiny_models as tiny  # noqa: E402
from recurate.components.protocols import Prepared  # noqa: E402
from recurate.components.rewards.scored import ModelRewardSettings  # noqa: E402
from recurate.core.errors import InputError  # noqa: E402
from recurate.log.samples import as_texts  # noqa: E402

TEXTS = as_texts(["red fox", "", "a blue hen and foxes", "one", "two three four one two three"])
ASKED = np.array(["what?", "", "which one", "x", "say more words"], object)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models with one output, and with three classes."""
    made = {}
    for count in (1, 3):
        config = transformers.LlamaConfig(
            vocab_size=len(tiny.tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=64, num_labels=count,
            pad_token_id=tiny.tokenizer().pad_token_id,
        )  # fmt: skip
        if count == 3:
            config.id2label = {0: "bad", 1: "fair", 2: "good"}
            config.label2id = {"bad": 0, "fair": 1, "good": 2}
        torch.manual_seed(count)
        made[count] = tmp_path_factory.mktemp("models") / str(count)
        transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(made[count])
        tiny.tokenizer().save_pretrained(made[count])
    return made


def reward(folder, **given):
    return ModelRewardSettings(kind="model", model=str(folder), device="cpu", **given).build(Prepared())


def alone(folder, texts, contexts=None) -> np.ndarray:
    """The logits of every text by itself, without padding."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for i, text in enumerate(texts):
        pair = (text,) if contexts is None else (contexts[i], text)
        inputs = tiny.tokenizer()(*pair, return_tensors="pt")
        if not inputs["input_ids"].numel():
            inputs = {k: torch.zeros(1, 1, dtype=torch.long) for k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            found.append(
                model(**{k: v for k, v in inputs.items() if k != "token_type_ids"}).logits[0].numpy()
            )
    return np.array(found, float)


def test_the_single_output_is_the_reward_in_any_batch(folders):
    texts = TEXTS[[0, 2, 3, 4]]
    wanted = alone(folders[1], texts)[:, 0]
    for batch in (1, 3, 32):
        assert reward(folders[1], batch=batch, gamma=2.0)(texts) == pytest.approx(2 * wanted, abs=1e-5)


def test_prompts_come_before_texts(folders):
    rows = [0, 2, 3, 4]
    found = reward(folders[1])(TEXTS[rows], ASKED[rows])
    assert found == pytest.approx(alone(folders[1], TEXTS[rows], ASKED[rows])[:, 0], abs=1e-5)
    assert not np.allclose(found, reward(folders[1])(TEXTS[rows]))


def test_the_log_probability_of_a_class(folders):
    texts = TEXTS[[0, 2, 3, 4]]
    logits = alone(folders[3], texts)
    wanted = logits[:, 2] - np.log(np.exp(logits).sum(axis=1))
    assert reward(folders[3], label="good")(texts) == pytest.approx(wanted, abs=1e-5)


def test_empty_texts_have_a_reward(folders):
    assert np.isfinite(reward(folders[1])(TEXTS)).all()


def test_bad_models_classes_and_samples_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match="needs one of the model's classes"):
        reward(folders[3], label="goood")
    with pytest.raises(InputError, match="has one output and no classes"):
        reward(folders[1], label="good")
    with pytest.raises(InputError, match="cannot be loaded"):
        reward(tmp_path)
    with pytest.raises(InputError, match="needs texts"):
        reward(folders[1])(np.zeros((2, 2), np.float32))


def test_texts_beyond_the_window_are_refused(folders, tmp_path):
    """64 positions; of a RoBERTa's 66 two are the padding's."""
    config = transformers.RobertaConfig(
        vocab_size=len(tiny.tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=66, num_labels=1, pad_token_id=1,
    )  # fmt: skip
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    one = len(tiny.tokenizer()("x")["input_ids"])
    for folder in (folders[1], tmp_path):
        made = reward(folder)
        text = next(t for n in range(200, 0, -1) if len(tiny.tokenizer()(t := "x" * n)["input_ids"]) == 64)
        assert np.isfinite(made(as_texts([text]))).all()
        with pytest.raises(InputError, match="do not fit into the window") as error:
            made(as_texts(["red fox", text + "x" * 2 * one]))
        assert "1 of 2 in a batch" in error.value.got
        assert "a window of 64" in error.value.got
