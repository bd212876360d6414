"""Trajectories: the tidy table, series, agreement."""

from __future__ import annotations

import pyarrow as pa
import pytest

from recurate.core.errors import InputError
from recurate.log.trajectory import FORECAST, MEASURED, SCHEMA, Row, Trajectory, agreement


def example():
    forecast = [
        Row(t, FORECAST, "mean_reward", v, "reward", lower=v - 1, upper=v + 1)
        for t, v in enumerate([1.0, 2.0, 4.0])
    ]
    measured = [Row(t, MEASURED, "mean_reward", v, "reward") for t, v in enumerate([1.0, 2.5, 4.0])]
    shares = [Row(0, FORECAST, "share", 0.5, group=g) for g in ("a", "b")]
    return Trajectory((*forecast, *measured, *shares))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_table_is_tidy_and_comes_back(tmp_path, ending):
    path = tmp_path / f"trajectory.{ending}"
    example().write(path)
    assert Trajectory.read(path).rows == example().rows
    assert example().to_table().schema == SCHEMA
    assert SCHEMA.names == ["round", "source", "quantity", "reward", "group", "value", "lower", "upper"]


def test_other_tables_are_refused():
    with pytest.raises(InputError, match="not a trajectory"):
        Trajectory.from_table(pa.table({"round": [1]}))


def test_series():
    assert example().values("mean_reward").tolist() == [1.0, 2.0, 4.0]
    assert example().values("mean_reward", source=MEASURED).tolist() == [1.0, 2.5, 4.0]
    assert example().values("share", group="a").tolist() == [0.5]
    with pytest.raises(InputError, match="2 series match"):
        example().values("share")
    with pytest.raises(InputError, match="0 series match"):
        example().values("shares")


def test_agreement_is_forecast_minus_measured():
    found = agreement(example(), ("mean_reward", "reward", None))
    assert found.differences == {1: -0.5, 2: 0.0}
    assert found.relative == {1: -0.2, 2: 0.0}
    assert found.rmse == pytest.approx((0.125) ** 0.5)
    assert found.persistence_rmse == pytest.approx(((1.5**2 + 3.0**2) / 2) ** 0.5)
    assert found.error_ratio == pytest.approx(found.rmse / found.persistence_rmse)
    assert agreement(example(), ("share", None, "a")) is None
