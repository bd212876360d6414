"""Tokens: no text is lost, prompts and completions are encoded as a model meets them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import tiny_models as tiny
from recurate.components.causal.tokens import Codec, check_window, load_pretrained
from recurate.core.errors import InputError
from recurate.log.samples import as_texts

pytest.importorskip("transformers")


def codec(**changes) -> Codec:
    given = {"template": "auto", "prompt": "{context}", "end": None} | changes
    return Codec.of(tiny.tokenizer(), tiny.model(), **given)


PIECES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["<s>", "</s>", "<pad>"]
)


@given(st.lists(PIECES, max_size=4).map("".join))
def test_any_text_is_encoded_without_loss(text):
    made = codec()
    [ids] = made.completions(as_texts([text]))
    assert ids[-1] == made.end
    assert made.end not in ids[:-1]
    assert made.texts([ids[:-1]])[0] == text
    assert bool(made.remarks(as_texts([text]))) == any(token in text for token in ("<s>", "</s>", "<pad>"))


def test_prompts_end_where_a_completion_begins():
    made, tokenizer = codec(prompt="Q: {context} A:"), tiny.tokenizer()
    first, again, empty = made.prompts(np.array(["fox", "fox", ""], object), 3)
    assert first == again
    assert tokenizer.decode(first) == "<s>Q: fox A:<ask>"
    assert empty == [tokenizer.bos_token_id]
    assert made.prompts(None, 2) == [[tokenizer.bos_token_id]] * 2


def test_special_tokens_are_special_in_a_format_and_text_in_a_context():
    tokenizer, asked = tiny.tokenizer(), np.array(["a</s>b"], object)
    [plain] = codec().prompts(asked, 1)
    assert tokenizer.eos_token_id not in plain
    assert tokenizer.decode(plain) == "<s>a</s>b<ask>"
    [formatted] = codec(prompt="{context}</s>A:").prompts(np.array(["fox"], object), 1)
    assert formatted.count(tokenizer.eos_token_id) == 1


def test_chat_templates_are_used_if_there_is_one():
    tokenizer = tiny.learn_tokenizer(tiny.TEXTS, 300)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "
    )
    made = Codec.of(tokenizer, tiny.model(), template="auto", prompt="{context}", end=None)
    [ids] = made.prompts(np.array(["fox"], object), 1)
    assert tokenizer.decode(ids) == "[user] fox\n[assistant] "
    plain = Codec.of(tokenizer, tiny.model(), template="plain", prompt="{context}", end=None)
    assert tokenizer.decode(plain.prompts(np.array(["fox"], object), 1)[0]) == "<s>fox<ask>"


def test_a_chat_template_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match="no chat template"):
        codec(template="chat")


def test_a_tokenizer_without_an_end_token_needs_one_by_name():
    tokenizer = tiny.learn_tokenizer(tiny.TEXTS, 300)
    tokenizer.eos_token = None
    tokenizer.pad_token = None
    model = type("Model", (), {"generation_config": None})()
    given = {"template": "auto", "prompt": "{context}"}
    with pytest.raises(InputError, match="no end token"):
        Codec.of(tokenizer, model, end=None, **given)
    with pytest.raises(InputError, match="no end token"):
        Codec.of(tokenizer, model, end="<stop>", **given)
    made = Codec.of(tokenizer, model, end="</s>", **given)
    assert made.filler == made.end == tokenizer.convert_tokens_to_ids("</s>")


def test_files_are_the_same_without_a_network(tmp_path, monkeypatch):
    base = tiny.save(tmp_path / "base")
    for offline in (False, True):
        monkeypatch.setattr(
            "transformers.tokenization_utils_base.is_offline_mode", lambda found=offline: found
        )
        tokenizer, _ = load_pretrained("AutoModelForCausalLM", str(base), None, "the model")
        tokenizer.save_pretrained(tmp_path / str(offline))
    name = "tokenizer_config.json"
    assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()


def test_prompts_that_are_too_long_are_counted():
    check_window([[1] * 6], 4, 10)
    with pytest.raises(InputError, match="1 of 2 prompts do not fit") as caught:
        check_window([[1] * 6, [1] * 7], 4, 10)
    assert "7 tokens" in str(caught.value)
