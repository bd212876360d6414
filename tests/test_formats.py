"""The files that tools leave are read as their owners mean them, with no options, by every verb."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import recurate
from helpers import formats
from helpers.formats import PAIRED, PICKED, REWARDED, Slate, Truth
from helpers.paths import ROOT
from recurate.core.errors import InputError
from recurate.log.opening import open_log
from recurate.log.reading.roles import Given
from recurate.log.schema import Log

TOOLS = [*REWARDED, *PAIRED, *PICKED, formats.alpaca_eval_2]


def name(maker) -> str:
    return maker.__name__


# --- the truth, from a log and from choices -------------------------------------------------------


def logged(log: Log) -> dict[tuple[int, str], list[list[float]]]:
    """Return the rewards (sorted) of each slate by round and context."""
    columns = log.table.to_pydict()
    reward = columns[log.rewards[0]]
    found: dict[tuple[int, str], list[float]] = {}
    for t, context, r in zip(columns["round"], columns["context"], reward, strict=True):
        found.setdefault((t, context), []).append(round(r, 9))
    return {c: sorted(r) for c, r in found.items()}


def rewarded(truth: Truth) -> dict[tuple[int, str], list[float]]:
    return {
        (s.round, s.context): sorted(round(r, 9) for r in rewards)
        for s, rewards in zip(truth.slates, truth.rewards, strict=True)
    }


def picked(reading) -> list[tuple[str, str, frozenset[tuple[str, bool]]]]:
    """Return context, chooser, and the items with whether they were picked, of every slate that was read."""
    table, offsets = reading.table, reading.slates.offsets
    result = []
    for low, high in zip(offsets[:-1], offsets[1:], strict=True):
        part = {n: v[low:high] for n, v in table.items()}
        items = part["item"] if "item" in part else part["text"]
        result.append((
            str(part["context"][0]) if "context" in part else "",
            str(part["chooser"][0]) if "chooser" in part else "",
            frozenset(zip(map(str, items), (part["result"] == 1).tolist(), strict=True)),
        ))  # fmt: skip
    return result


def meant(truth: Truth) -> list[tuple[str, str, frozenset[tuple[str, bool]]]]:
    return [
        (s.context, s.chooser, frozenset((n, s.pick in (j, -1)) for j, n in enumerate(s.items)))
        for s in truth.slates
    ]


def refused(found: pytest.ExceptionInfo[InputError], *words: str) -> None:
    """Check that an error names what was found and what to do, each in a line."""
    text = str(found.value)
    for word in words:
        assert word in text, text
    assert max(map(len, text.splitlines())) < 500
    assert "remedy:" in text


# --- trainers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", REWARDED, ids=name)
def test_rewards_of_trainers_are_forecast_planned_and_audited(make, tmp_path):
    source, truth = make(tmp_path)
    found = recurate.forecast(str(source), rounds=2)
    log = found.opened.log
    assert logged(log) == rewarded(truth)
    first = min(s.round for s in truth.slates)
    mean = np.mean([r for s, r in zip(truth.slates, truth.rewards, strict=True) if s.round == first])
    assert found.trajectory.value(0, "mean_reward") == pytest.approx(mean)
    assert "best of 4" in found.ruling.statement
    planned = recurate.plan(str(source), rounds=2, k=[2], real_fraction=[0.0])
    assert planned.log_k == 4
    audited = recurate.audit(str(source))
    assert logged(audited.opened.log) == rewarded(truth)


@pytest.mark.parametrize("make", [m for m in REWARDED if m is not formats.simpo], ids=name)
def test_a_fit_of_rewards_without_picks_says_what_reads_them(make, tmp_path):
    source, _ = make(tmp_path)
    with pytest.raises(InputError) as found:
        recurate.fit(str(source))
    refused(found, "holds rewards", "no picks", "recurate forecast", "--pick")


def test_simpo_names_the_best_of_its_list(tmp_path):
    source, truth = formats.simpo(tmp_path)
    found = recurate.fit(str(source))
    best = tuple(
        Slate(0, s.context, "", s.items, int(np.argmax(r)))
        for s, r in zip(truth.slates, truth.rewards, strict=True)
    )
    assert picked(found.reading) == meant(Truth(best))
    assert "best of 4" in found.verdict.headline
    assert "follow best of 4" in recurate.forecast(str(source), rounds=1).ruling.statement


# --- pairs ----------------------------------------------------------------------------------------


def test_ultrafeedback_binarized(tmp_path):
    source, truth = formats.ultrafeedback_binarized(tmp_path)
    found = recurate.fit(str(source))
    assert picked(found.reading) == meant(truth)
    rewards = found.reading.table["score"].reshape(-1, 2)
    assert rewards.tolist() == [list(r) for r in truth.rewards]
    forecast = recurate.forecast(str(source), rounds=1)
    assert logged(forecast.opened.log) == rewarded(truth)
    assert any("best and the worst of larger sets" in w for w in forecast.warnings)


def test_hh_rlhf(tmp_path):
    source, truth = formats.hh_rlhf(tmp_path)
    found = recurate.fit(str(source), feature="characters:text")
    assert picked(found.reading) == meant(truth)
    lengths = [[len(t) / 100 for t in s.items] for s in truth.slates]
    assert found.reading.matrix.reshape(-1, 2).tolist() == lengths
    with pytest.raises(InputError) as refusal:
        recurate.fit(str(source))
    refused(refusal, "nothing describes the candidates", "--feature characters:text")
    with pytest.raises(InputError) as refusal:
        recurate.forecast(str(source))
    refused(refusal, "no column of rewards", "recurate fit")


# --- picks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [m for m in PICKED if m is not formats.preflib], ids=name)
def test_picks_are_those_that_were_made(make, tmp_path):
    source, truth = make(tmp_path)
    found = recurate.fit(str(source))
    reading = found.reading
    assert len(reading.slates) == len(truth.slates)
    if make in (formats.qualtrics,):  # profiles have no names
        price, size = (reading.table[n].astype(float) for n in ("price", "size"))
        reading.table["item"] = np.array([f"{a:g}/{b:g}" for a, b in zip(price, size, strict=True)], object)
    one, two = Counter(picked(reading)), Counter(meant(truth))
    assert one == two
    if "slot" in reading.table and make is not formats.mlogit_long:
        shown = np.array([n for s in truth.slates for n in s.items])
        if reading.table.get("time") is None:
            assert reading.table["item"].astype(str).tolist() == shown.tolist()
    with pytest.raises(InputError) as refusal:
        recurate.forecast(str(source))
    refused(refusal, "no column of rewards", "recurate fit")


def test_preflib_rankings(tmp_path):
    source, truth = formats.preflib(tmp_path)
    reading = recurate.fit(str(source)).reading
    assert len(reading.slates) == 60
    items = reading.table["item"].reshape(-1, 5)
    ranks = reading.table["result"].reshape(-1, 5)
    assert [tuple(row) for row in items.tolist()] == [s.items for s in truth.slates]
    assert (ranks == np.arange(1, 6)).all()
    assert (reading.table["weight"] == 2).all()


def test_soft_labels_are_fractional_votes(tmp_path):
    source, truth = formats.alpaca_eval_2(tmp_path)
    found = recurate.fit(str(source))
    table = found.reading.table
    votes = {}
    for context, item, result, weight in zip(
        table["context"], table["item"], table["result"], table["weight"], strict=True
    ):
        votes[context, item] = votes.get((context, item), 0) + result * weight
    for s in truth.slates:
        assert sum(votes.get((s.context, n), 0) for n in s.items) == pytest.approx(1)
        assert votes[s.context, s.items[s.pick]] > 0.5
