"""Leads: three sentences at most, why a loop left its forecast, nothing beyond support."""

from __future__ import annotations

import pytest

from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.report.lead import (
    AS_FORECAST,
    MOST,
    NO_SUPPORT,
    NOT_AS_FORECAST,
    UNDECIDED,
    cut,
    departure,
    lead_of,
    number,
    sentences,
    supported,
)
from recurate.report.narrative import what_happened

FACTS = {"k": 4, "real_fraction": 0.25}


def series(source, values, quantity="mean_reward", reach=None, reward="reward"):
    return [
        Row(
            t, source, quantity, v, reward, None, *((None, None) if reach is None else (v - reach, v + reach))
        )
        for t, v in enumerate(values)
    ]


def measured(values, parts, reach=0.01):
    """Return a loop that was forecast to go 0, 1, 2, 3, with the parts of its changes."""
    rows = [*series(FORECAST, [0.0, 1.0, 2.0, 3.0], reach=0.1), *series(MEASURED, values, reach=reach)]
    for t, changed in enumerate(parts, start=1):
        for name, value in zip(("selection", "sampling", "transmission"), changed, strict=True):
            rows.append(Row(t, MEASURED, name, value, "reward"))
    return Trajectory(tuple(rows))


def test_it_went_as_forecast():
    lead = lead_of(measured([0, 1.05, 1.95, 3.0], [(1, 0, 0.05), (1, 0, -0.1), (1, 0, 0.05)]), FACTS)
    assert lead.verdict == AS_FORECAST
    assert len(sentences(lead.text)) == MOST
    assert "The mean reward rose from 0 in round 0 to 3 in round 3 (K = 4, 25% real data)." in lead.text
    assert "inside the 95 % bands." in lead.text


@pytest.mark.parametrize(
    ("parts", "cause", "remedy"),
    [
        ([(1, 0, 0), (1, 0, -0.5), (1, 0, -0.5)], "transmission", "--efficacy fit"),
        ([(1, 0, 0), (1, -0.5, 0), (1, -0.5, 0)], "sampling", "pick more per round"),
        ([(1, 0, 0), (0.5, 0, 0), (0.5, 0, 0)], "selection", "`recurate audit`"),
    ],
)
def test_it_says_since_when_and_why_not(parts, cause, remedy):
    trajectory = measured([0, 1, 1.5, 2.0], parts)
    found = departure(trajectory, "reward")
    assert found is not None
    assert (found.since, found.last, found.cause) == (2, 3, cause)
    assert found.gap == pytest.approx(-1)
    assert sum(found.parts.values()) == pytest.approx(found.gap), "the parts make the whole gap"
    lead = lead_of(trajectory, FACTS)
    assert lead.verdict == NOT_AS_FORECAST
    assert f"since round 2: measured values lie below the 95 % band, mainly by {cause} (-1 of" in lead.text
    assert remedy in lead.text
    assert len(sentences(lead.text)) == MOST


def test_a_round_outside_that_came_back_is_named_and_accuses_nobody():
    lead = lead_of(measured([0, 1.3, 2, 3], []), FACTS)
    assert lead.verdict == AS_FORECAST
    assert "though not in round 1." in lead.text


def test_without_bands_it_is_undecided():
    rows = (*series(FORECAST, [1.0, 2.0]), *series(MEASURED, [1.0, 2.5]))
    lead = lead_of(Trajectory(rows), FACTS)
    assert lead.verdict == UNDECIDED
    assert "off by at most 20.0%; without a band" in lead.text


def test_nothing_beyond_support_is_in_a_lead():
    support = series(FORECAST, [500.0, 150.0, 60.0, 7.0], "effective_support", reward=None)
    rows = (*series(FORECAST, [0.0, 1.25, 77.0, 99.0], reach=0.125), *support)
    lead = lead_of(Trajectory(rows), FACTS)
    assert supported(Trajectory(rows)) == 1
    assert lead.verdict == NO_SUPPORT
    assert "is forecast to rise from 0 in round 0 to 1.25 in round 1" in lead.text
    assert "between 1.12 and 1.38 in round 1" in lead.text
    assert "77" not in lead.text
    assert "99" not in lead.text
    far = (*rows, *series(MEASURED, [0.0, 1.25, 1.3, 1.4], reach=0.01))
    judged = lead_of(Trajectory(far), FACTS)
    assert judged.verdict == AS_FORECAST, "what the candidates cannot support accuses nobody"
    assert "up to round 1, the last that has one within support" in judged.text


def test_details_and_lead_name_the_same_round():
    """Both judge by the bands within support alone, and both from the round after which nothing came back."""

    def told(support):
        rows = [
            *series(FORECAST, [0.0, 1.0, 2.0, 3.0], "mean_exp_reward", reach=0.1),
            *series(MEASURED, [0.0, 1.5, 2.0, 1.0], "mean_exp_reward", reach=0.01),
            *series(FORECAST, support, "effective_support", reward=None),
        ]
        trajectory = Trajectory(tuple(rows))
        return lead_of(trajectory, FACTS).text, what_happened(trajectory, FACTS)

    lead, details = told([500.0] * 4)
    assert "since round 3" in lead
    assert "outside its 95 % band from round 3 on" in details
    lead, details = told([500.0, 500.0, 500.0, 9.0])
    assert "It went as forecast" in lead
    assert "outside its 95 % band" not in details


def test_too_few_candidates_forecast_nothing():
    support = series(FORECAST, [3.0, 2.0], "effective_support", reward=None)
    lead = lead_of(Trajectory((*series(FORECAST, [0.0, 41.0]), *support)), FACTS)
    assert lead.text.startswith("These candidates do not support a forecast: in round 0 only 3 effective")
    assert "41" not in lead.text


def test_many_rewards_make_no_long_lead():
    rows = [r for i in range(9) for r in series(FORECAST, [0.0, 1.0], reward=f"r{i}")]
    lead = lead_of(Trajectory(tuple(rows)), {})
    assert "6 more rewards are below" in lead.text
    assert len(sentences(lead.text)) <= MOST


def test_cut():
    text = "One of 2.5 fell (95 %: 1 to 2). It fell again! Why? Nobody knows."
    assert cut(text) == ("One of 2.5 fell (95 %: 1 to 2). It fell again! Why?", ("Nobody knows.",))


def test_rounding_errors_of_mean_rewards_are_zero_and_nothing_else_is():
    assert number(1.9e-14, series(FORECAST, [1.9e-14, 0.4], "mean_reward")) == "0"
    assert number(1.9e-14, series(FORECAST, [1.9e-14, 3e-14], "mean_reward")) == "1.9e-14"
    assert number(2.0, series(FORECAST, [2.0, 1e15], "mean_reward")) == "2"
    assert number(float("nan"), series(FORECAST, [float("nan"), 1.0], "mean_reward")) == "nan"
    assert number(0.5, series(FORECAST, [0.5, float("inf")], "mean_reward")) == "0.5"
    assert number(1e-17, series(FORECAST, [1e-17, 0.9], "share")) == "1e-17"
