"""What alarms do in a run: warn, stop after the round, roll it back and play it again."""

import numpy as np
import pytest
import tomli_w

from helpers.tiny import GAUSSIANS, contents, merged
from recurate.core.errors import Stopped
from recurate.loop import driver as driver
from recurate.loop.alarms.raising import Alarm
from recurate.loop.config import parse_config
from recurate.loop.driver import resume, run
from recurate.loop.monitors.protocol import Monitor
from recurate.loop.run_folder import RunFolder


def watched(action: str, **changes):
    """An alarm that always goes off: a share below 90 %."""
    alarm = {"kind": "share", "floor": 0.9, "group": "0", "action": action}
    return parse_config(merged(GAUSSIANS, alarms=[alarm], **changes))


class Heard(Monitor):
    def __init__(self):
        self.alarms = []

    def alarm(self, round, message, action):  # noqa: A002
        self.alarms.append((round, message, action))


def test_warn(tmp_path):
    heard = Heard()
    run(watched("warn"), tmp_path / "out", heard)
    assert [(t, action) for t, _, action in heard.alarms] == [(1, "warn"), (2, "warn")]
    store = RunFolder.open(tmp_path / "out")
    assert store.complete() == 3
    (alarm,) = store.alarms(1)
    assert alarm["kind"] == "share"
    assert alarm["value"] < 0.9 == alarm["limit"]
    assert store.alarms(0) == []
    assert "alarms" not in store.counts(1)


def test_stop_after_the_round_is_on_disk_and_go_on_all_the_same(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Stopped, match=r"(?s)stopped after round 1.*--resume"):
        run(watched("stop"), out)
    assert RunFolder.open(out).complete() == 2
    assert (out / "trajectory.parquet").exists()
    with pytest.raises(Stopped, match="stopped after round 2"):
        resume(out)
    resume(out)  # nothing is left to do
    run(watched("warn"), tmp_path / "warned")
    mine, theirs = contents(out), contents(tmp_path / "warned")
    same = [name for name in mine if name.endswith((".parquet", ".safetensors"))]
    assert {n: mine[n] for n in same} == {n: theirs[n] for n in same}, "an alarm changes nothing else"


def test_the_command_line_ends_with_3_and_a_report(tmp_path, recurate_cli):
    config = merged(GAUSSIANS, alarms=[{"kind": "share", "floor": 0.9, "group": "0", "action": "stop"}])
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(config))
    done = recurate_cli("run", "tiny.toml", "--out", "out")
    assert done.returncode == 3
    assert "stopped after round 1" in done.stderr
    assert "Traceback" not in done.stderr
    html = (tmp_path / "out" / "report.html").read_text()
    assert "share" in html
    assert "Alarms" in html


def test_roll_back_again_and_again(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Stopped, match=r"rolled back to round 0: round 1 was played 2 times"):
        run(watched("rollback"), out)
    store = RunFolder.open(out)
    assert store.complete() == 1, "the last good round"
    assert store.attempts(1) == 2
    first, second = ((out / "rejected" / f"001-{n}" / "samples.safetensors").read_bytes() for n in (0, 1))
    assert first != second, "other random numbers"
    with pytest.raises(Stopped, match="played 3 times"):
        resume(out)


@pytest.fixture
def once(monkeypatch):
    """An alarm that goes off in the first attempt at round 1 only."""
    played = []

    def raised(alarms, trajectory, t):
        if t == 1 and not played:
            played.append(1)
            return [Alarm(1, "share", "rollback", 0.01, "share", None, "0", 0.1, 0.9, "too few")]
        return []

    monkeypatch.setattr(driver, "raised", raised)


def test_roll_back_and_play_again(tmp_path, once):
    out = tmp_path / "out"
    run(watched("rollback"), out)
    store = RunFolder.open(out)
    assert store.complete() == 3
    assert store.attempts(1) == 1
    plain = tmp_path / "plain"
    run(parse_config(GAUSSIANS), plain)
    np.testing.assert_array_equal(store.samples(0), RunFolder.open(plain).samples(0))
    assert (out / "rejected" / "001-0" / "samples.safetensors").read_bytes() == (
        plain / "rounds" / "001" / "samples.safetensors"
    ).read_bytes(), "the first attempt is the round as it always is"
    assert not np.array_equal(store.samples(1), RunFolder.open(plain).samples(1))


@pytest.mark.parametrize(
    ("alarm", "message"),
    [
        ({"kind": "shre"}, "alarms.0.kind"),
        ({"kind": "share"}, "alarms.0.floor"),
        ({"kind": "share", "floor": 0.1, "group": "nobody"}, "nobody"),
        ({"kind": "gold", "proxy": "east", "gold": "truth"}, "needs tracked columns"),
        ({"kind": "frechet", "factor": 2.0, "space": "pixels"}, "pixels"),
        ({"kind": "share", "floor": 0.1, "levl": 0.1}, "level"),
        ({"kind": "band", "action": "panic"}, "alarms.0.action"),
    ],
)
def test_alarms_that_make_no_sense(tmp_path, recurate_here, alarm, message):
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(merged(GAUSSIANS, alarms=[alarm])))
    done = recurate_here("run", "tiny.toml", "--out", "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
