"""Contexts that are alike are computed once: laws and quantities are those of every context by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurate.log.candidates import Candidates
from recurate.rules.noise import NO_NOISE
from recurate.rules.pools import Threshold
from recurate.rules.rule import Rule
from recurate.theory.loop_model import LoopModel
from recurate.theory.setting import Setting

RULES = [Rule(k=4), Rule(k=3, keep=2, noise=NO_NOISE), Threshold(0.5, lapse=0.1)]


def verified(draw: np.random.Generator, contexts: int, size: int, m: int) -> Candidates:
    """Candidates of prompts that m verifiers pass or fail."""
    codes = np.repeat(np.arange(contexts), draw.integers(1, size + 1, contexts))
    rewards = (draw.random((codes.size, m)) < draw.beta(0.5, 0.5, contexts)[codes, None]) * 2.5 - 1.0
    return Candidates(rewards, tuple(f"r{i}" for i in range(m)), contexts=codes.astype(str).astype(object))


@given(st.integers(0, 2**32), st.sampled_from(RULES), st.integers(1, 3), st.booleans())
def test_contexts_with_equal_counts_are_one_block(seed, rule, m, mixed):
    draw = np.random.default_rng(seed)
    atoms = verified(draw, 30, 6, m)
    real = verified(draw, 30, 3, m) if mixed else None
    setting = Setting(rule, tuple([1 / m] * m), 0.3 if mixed else 0.0, 3)
    model = LoopModel.build(atoms, None, real, setting, None)
    if model.mode != "each":  # the verifiers never differed
        return
    assert model.blocks is not None
    assert np.unique(model.blocks).size <= np.unique(model.context_codes).size
    for one, each in zip(model.alike.play(setting), model.population.play(setting), strict=True):
        assert one == pytest.approx(each, rel=1e-12, abs=1e-15)


def test_many_contexts_are_few_blocks():
    atoms = verified(np.random.default_rng(0), 3000, 4, 1)
    model = LoopModel.build(atoms, None, None, Setting(RULES[0], (1.0,), 0.0, 2), None)
    assert np.unique(model.context_codes).size == 3000
    assert np.unique(model.blocks).size == 2 + 3 + 4 + 5  # sizes 1 to 4, with 0 to size right answers


def test_contexts_with_uneven_masses_are_blocks_of_their_own():
    atoms = verified(np.random.default_rng(0), 30, 4, 1)
    law = np.random.default_rng(1).random(len(atoms))
    model = LoopModel.build(atoms, law, None, Setting(RULES[0], (1.0,), 0.0, 2), None)
    assert model.blocks is model.context_codes


def test_a_reward_that_is_the_same_for_all_has_no_share_to_estimate():
    atoms = verified(np.random.default_rng(0), 30, 4, 2)
    same = Candidates(
        np.column_stack([atoms.rewards[:, 0], np.ones(len(atoms))]), atoms.names, None, {}, atoms.contexts
    )
    found = LoopModel.build(same, None, None, Setting(RULES[0], (0.5, 0.5), 0.0, 2), None).warnings()
    assert [text[:2] for text in found if "takes two values" in text] == ["r0"]
