"""Runs from Python: configurations of any kind, what comes back, what is refused."""

from __future__ import annotations

import pytest

import recurate
from helpers.tiny import GAUSSIANS
from recurate.core.errors import InputError
from recurate.log.trajectory import RENEWED, Trajectory

pytestmark = pytest.mark.usefixtures("few_replicates")


def test_a_run_comes_back_as_a_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = recurate.run(GAUSSIANS)
    assert done.path.resolve() == tmp_path / "runs" / "run-1"
    assert (done.path / "report.html").read_text() == done.page()
    stored = [row for row in done.trajectory.rows if row.source != RENEWED]
    assert Trajectory(tuple(stored)) == Trajectory.read(done.path / "trajectory.parquet")
    assert {row.round for row in done.trajectory.where(RENEWED).rows} == {1, 2}
    assert done.facts["rounds"] == GAUSSIANS["rounds"]
    assert done.store.log(0).table.num_rows > 0
    again = recurate.read_run(done.path)
    assert (again.summary, again.facts) == (done.summary, done.facts)
    assert recurate.run(resume=done.path).facts == done.facts, "a complete run stays as it is"
    with pytest.raises(InputError, match="needs two runs"):
        recurate.compare(done.path)
    forecast = recurate.forecast(done.path, rounds=1)
    assert forecast.setting.real_fraction == GAUSSIANS["retraining"]["real_fraction"], "the run's own"


@pytest.mark.parametrize(("config", "resume"), [(None, None), (GAUSSIANS, "somewhere")])
def test_a_configuration_or_a_run(config, resume):
    with pytest.raises(InputError, match="say what to run"):
        recurate.run(config, resume=resume)
