"""Sampling: an item is the same in any batch, and items follow the model's distribution."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from helpers import tiny_models as tiny  # noqa: E402
from recurate.components.causal.decoding import ROUNDING, Manner, choose, complete  # noqa: E402
from recurate.core.seeds import Stream  # noqa: E402

ENDS = frozenset(range(4, 30))  # many, so that texts end at different lengths
MANNER = Manner(1.0, 1.0, 12, ENDS, 0)


def uniforms(item: int) -> np.ndarray:
    return Stream(0).at("item", item).generator().random(12)


def prompts(count: int) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [[1, *draw.integers(4, 260, draw.integers(0, 9)).tolist()] for _ in range(count)]


def sharp() -> object:
    """A model whose distributions are far from uniform, so that some tokens end a text."""
    model = tiny.model()
    with torch.no_grad():
        weight = model.lm_head.weight
        if not hasattr(model, "sharpened"):
            weight.mul_(8.0)
            model.sharpened = True
    return model


def sampled(asked, manner=MANNER, batch=64, items=None) -> list[list[int]]:
    items = list(range(len(asked))) if items is None else items
    with torch.inference_mode():
        return complete(sharp(), asked, lambda i: uniforms(items[i]), manner, batch)


@pytest.mark.parametrize("manner", [MANNER, Manner(0.5, 0.8, 12, ENDS, 0)])
def test_an_item_is_the_same_in_every_batch(manner):
    asked = prompts(60)
    whole = sampled(asked, manner)
    assert len({tuple(x) for x in whole}) > 30
    assert whole == sampled(asked, manner, batch=7)
    assert whole == sampled(asked, manner, batch=1)
    part = [3, 59, 17]
    assert [whole[i] for i in part] == sampled([asked[i] for i in part], manner, items=part)


def test_tokens_near_a_boundary_are_computed_alone(monkeypatch):
    """With rounding errors that are far above single precision's, items are still the same in every batch."""
    from recurate.components.causal import decoding

    asked, plain = prompts(40), choose
    draw = np.random.default_rng(1)

    def noisy(logits, numbers, manner):
        if len(logits) > 1:
            logits = logits + torch.from_numpy(draw.normal(0, 1e-6, logits.shape)).float()
        return plain(logits, numbers, manner)

    whole = sampled(asked, batch=1)
    monkeypatch.setattr(decoding, "choose", noisy)
    assert sampled(asked, batch=40) == whole


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.6)])
def test_tokens_follow_the_distribution(temperature, top_p):
    """20,000 draws: a chi-square statistic beyond its .9999 quantile is a false alarm in 1 of 10,000."""
    from scipy.stats import chi2

    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, 0.5]])
    p = torch.softmax(logits[0] / temperature, 0).double()
    ranked, order = p.sort(descending=True)
    kept = order[: int((ranked.cumsum(0) - ranked < top_p).sum())]
    law = torch.zeros(5, dtype=torch.double)
    law[kept] = p[kept] / p[kept].sum()
    count = 20_000
    numbers = torch.from_numpy(Stream(3).generator().random(count))
    tokens, _ = choose(logits.expand(count, 5), numbers, Manner(temperature, top_p, 1, frozenset(), 0))
    found = torch.bincount(tokens, minlength=5).double()
    assert (found[law == 0] == 0).all()
    inside = law > 0
    statistic = float(((found - count * law)[inside] ** 2 / (count * law[inside])).sum())
    assert statistic < chi2.ppf(0.9999, int(inside.sum()) - 1)


def test_few_tokens_are_near_a_boundary():
    logits = torch.randn(5000, 50, generator=torch.Generator().manual_seed(0))
    numbers = torch.from_numpy(Stream(4).generator().random(5000))
    _, near = choose(logits, numbers, MANNER)
    assert 0 <= near.double().mean() < 50 * 2 * 8 * ROUNDING  # 50 boundaries, logits spread over less than 8
    _, all_near = choose(logits, torch.softmax(logits.double(), 1).cumsum(1)[:, 7], MANNER)
    assert all_near.all()


def test_completions_end_at_the_end_token_or_the_longest():
    found = sampled(prompts(60))
    assert len({len(ids) for ids in found}) > 6
    assert max(map(len, found)) == 12
    assert not any(ENDS & set(ids) for ids in found)


def test_greedy_sampling_agrees_with_transformers():
    """At a temperature near 0, tokens are those of `generate` without sampling, left padding included."""
    asked = prompts(8)
    ours = sampled(asked, Manner(1e-4, 1.0, 12, ENDS, 0))
    model = sharp()
    for ids, mine in zip(asked, ours, strict=True):
        whole = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=12, do_sample=False,
            pad_token_id=0, eos_token_id=sorted(ENDS),
        )[0, len(ids) :].tolist()  # fmt: skip
        assert mine == [token for token in whole if token not in ENDS]
