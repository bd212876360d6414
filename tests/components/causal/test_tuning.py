"""Fine-tuning: what is predicted, packing, accumulated gradients, and agreement with TRL."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from helpers import tiny_models as tiny  # noqa: E402
from recurate.components.causal.tuning import (  # noqa: E402
    IGNORED,
    Course,
    Example,
    cut,
    packed,
    rows_of,
    total_loss,
    tune,
)

EXAMPLES = [Example([1, 40, 41], [50, 51, 2]), Example([1], [60, 2]), Example([1, 70], [80, 81, 82, 83, 2])]
COURSE = Course(2.0, 4, 4, 1e-2, 0.0, 1.0, None)


def by_hand(model, examples) -> float:
    """The loss token by token, each sequence alone: - sum log p(completion token | what is before it)."""
    total = 0.0
    with torch.no_grad():
        for e in examples:
            ids = [*e.prompt, *e.completion]
            logp = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), 1)
            total -= sum(float(logp[at - 1, ids[at]]) for at in range(len(e.prompt), len(ids)))
    return total


@pytest.mark.parametrize("width", [None, 9, 30])
def test_the_loss_is_of_completions_alone_padded_or_packed(width):
    model = tiny.model()
    packs = [[e] for e in EXAMPLES] if width is None else packed(EXAMPLES, width)
    rows = rows_of(packs, 0)
    with torch.no_grad():
        found = float(total_loss(model, rows))
    assert found == pytest.approx(by_hand(model, EXAMPLES), rel=1e-5)
    predicted = rows.labels != IGNORED
    assert predicted.sum() == sum(len(e.completion) for e in EXAMPLES)
    assert not predicted[rows.parts == 0].any()  # padding
    assert not predicted[rows.places == 0].any()  # the first token of a prompt, whatever the row


@pytest.mark.parametrize("width", [None, 9])
def test_what_fills_rows_and_what_stands_in_prompts_are_never_predicted(width):
    """Padding is 84 % of these rows: its value changes neither the loss nor its gradient."""
    long = Example([1], [*range(40, 59), 2])
    examples = [long, *([Example([1], [60, 2])] * 20)]
    packs = [[e] for e in examples] if width is None else [[long], *([e] for e in examples[1:])]
    gradients = []
    for filler in (0, 77):
        model = copy.deepcopy(tiny.model())
        rows = rows_of(packs, filler)
        assert (rows.parts == 0).mean() > 0.8
        total_loss(model, rows).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-6)


def test_packs_hold_every_example_once():
    draw = np.random.default_rng(0)
    examples = [Example([1] * int(n), [2]) for n in draw.integers(1, 9, 200)]
    rows = packed(examples, 16)
    assert sorted(len(e) for pack in rows for e in pack) == sorted(map(len, examples))
    assert max(sum(map(len, pack)) for pack in rows) <= 16
    assert len(rows) < 1.15 * sum(map(len, examples)) / 16 + 1


def test_long_examples_are_cut_and_counted():
    kept, long = cut([Example([1, 2, 3], [4, 5, 6, 7]), Example([1], [2])], 5)
    assert (long, kept[0].completion, len(kept[1])) == (1, [4, 5], 2)


def trained(course: Course, seed: int = 0):
    model = copy.deepcopy(tiny.model())
    tune(model, EXAMPLES * 4, course, 0, np.random.default_rng(seed), nullcontext)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_accumulated_gradients_and_packing_change_nothing():
    from dataclasses import replace

    whole = trained(COURSE)
    assert not torch.equal(whole, trained(COURSE, seed=1))
    for other in (replace(COURSE, micro=1), replace(COURSE, micro=3), replace(COURSE, width=16)):
        assert torch.allclose(whole, trained(other), atol=2e-4)


def test_training_lowers_the_loss():
    model = copy.deepcopy(tiny.model())
    before = by_hand(model, EXAMPLES)
    tune(model, EXAMPLES, Course(60, 3, 3, 1e-2, 0.0, 1.0, None), 0, np.random.default_rng(0), nullcontext)
    assert by_hand(model, EXAMPLES) < 0.2 * before


def test_it_agrees_with_trl(tmp_path):
    """The same examples in the same order: the weights after three steps are those of TRL's SFTTrainer."""
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")

    order = np.random.default_rng(0).permutation(len(EXAMPLES)).tolist()
    rows = [
        {
            "input_ids": [*EXAMPLES[i].prompt, *EXAMPLES[i].completion],
            "completion_mask": [0] * len(EXAMPLES[i].prompt) + [1] * len(EXAMPLES[i].completion),
        }
        for i in order
    ]
    theirs = copy.deepcopy(tiny.model())
    settings = trl.SFTConfig(
        str(tmp_path), per_device_train_batch_size=3, num_train_epochs=3, learning_rate=1e-3,
        lr_scheduler_type="cosine", weight_decay=0.0, max_grad_norm=1.0, report_to="none",
        save_strategy="no",
        completion_only_loss=True, shuffle_dataset=False, use_cpu=True, bf16=False,
    )  # fmt: skip
    trl.SFTTrainer(
        theirs, settings, train_dataset=datasets.Dataset.from_list(rows), processing_class=tiny.tokenizer()
    ).train()
    ours = copy.deepcopy(tiny.model())
    tune(ours, EXAMPLES, Course(3, 3, 3, 1e-3, 0.0, 1.0, None), 0, np.random.default_rng(0), nullcontext)
    start = tiny.model().state_dict()
    for name, weight in ours.state_dict().items():
        moved = (weight - start[name]).abs().max()
        assert (weight - theirs.state_dict()[name].float()).abs().max() < 0.02 * moved + 1e-7, name
