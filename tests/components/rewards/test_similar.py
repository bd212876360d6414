"""Closeness of sentence embeddings: to one text, to a prompt's references, and to the real data."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from helpers import tiny_models as tiny  # noqa: E402
from recurate.components.data.dataset import Dataset  # noqa: E402
from recurate.components.protocols import Prepared  # noqa: E402
from recurate.components.rewards.scored import SimilarSettings  # noqa: E402
from recurate.core.errors import InputError  # noqa: E402
from recurate.log.samples import as_texts  # noqa: E402

TEXTS = as_texts(["red fox", "a blue hen and foxes", "one", "two three four one two three"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = transformers.BertConfig(
        vocab_size=len(tiny.tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, pad_token_id=tiny.tokenizer().pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "encoder"
    transformers.AutoModel.from_config(config).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


def reward(folder, prepared=None, **given):
    settings = SimilarSettings(kind="similar", model=str(folder), device="cpu", **given)
    return settings.build(prepared or Prepared())


def embedding(folder, text: str, pooling: str = "mean") -> np.ndarray:
    """The direction of one text's embedding, without padding."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = model(**tiny.tokenizer()(text, return_tensors="pt")).last_hidden_state[0].double().numpy()
    found = {"mean": hidden.mean(axis=0), "first": hidden[0], "last": hidden[-1]}[pooling]
    return found / np.linalg.norm(found)


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_it_is_the_cosine_of_embeddings(folder, pooling):
    found = reward(folder, reference="blue fox", pooling=pooling, gamma=2.0, batch=3)(TEXTS)
    target = embedding(folder, "blue fox", pooling)
    assert found == pytest.approx([2 * embedding(folder, t, pooling) @ target for t in TEXTS], abs=1e-5)
    assert reward(folder, reference="one", pooling=pooling)(TEXTS)[2] == pytest.approx(1.0, abs=1e-6)


def test_the_closest_reference_of_the_prompt_counts(folder, tmp_path):
    rows = {"context": ["q", "q", "r"], "sample": ["red fox", "one", "blue"]}
    pv.write_csv(pa.table(rows), tmp_path / "known.csv")
    found = reward(folder, references=str(tmp_path / "known.csv"))
    asked = np.array(["q", "q", "r", "r"], object)
    cosine = np.array([[embedding(folder, t) @ embedding(folder, y) for y in rows["sample"]] for t in TEXTS])
    wanted = [cosine[0, :2].max(), cosine[1, :2].max(), cosine[2, 2], cosine[3, 2]]
    assert found(TEXTS, asked) == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(InputError, match="no reference"):
        found(TEXTS[:1], np.array(["s"], object))


def test_without_references_the_closest_of_the_real_data_counts(folder, monkeypatch):
    real = as_texts(["red fox", "blue", "hens and foxes"])
    data = Dataset(real, None, real, None)
    found = reward(folder, Prepared(dataset=data))
    cosine = np.array([[embedding(folder, t) @ embedding(folder, y) for y in real] for t in TEXTS])
    assert found(TEXTS) == pytest.approx(cosine.max(axis=1), abs=1e-5)
    monkeypatch.setattr("recurate.components.rewards.scored.TOGETHER", 4)  # one text at a time
    assert found(TEXTS) == pytest.approx(cosine.max(axis=1), abs=1e-5)
    with pytest.raises(InputError, match="no texts to compare with"):
        reward(folder)


def test_the_pooling_of_sentence_transformers_is_used(folder, tmp_path):
    import shutil

    model = tmp_path / "encoder"
    shutil.copytree(folder, model)
    (model / "1_Pooling").mkdir()
    said = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(said))
    found = reward(model, reference="blue fox")(TEXTS)
    assert found == pytest.approx(reward(folder, reference="blue fox", pooling="first")(TEXTS))
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(InputError, match="pooling"):
        reward(model, reference="blue fox")
    parts = [{"type": "sentence_transformers.models.Dense"}]
    (model / "modules.json").write_text(json.dumps(parts))
    with pytest.raises(InputError, match="parts that are not read"):
        reward(model, reference="blue fox", pooling="mean")


def test_bad_settings(folder):
    with pytest.raises(ValidationError, match="not both"):
        reward(folder, reference="a", references="b.csv")
    with pytest.raises(InputError, match="needs texts"):
        reward(folder, reference="a")(np.zeros((3, 2)))
    with pytest.raises(InputError, match="do not fit"):
        reward(folder, reference="a")(as_texts(["word " * 100]))
    with pytest.raises(InputError, match="cannot be loaded"):
        reward(folder / "nothing", reference="a")
