"""`recurate compare` and figures: what is overlaid, how far apart, what cannot be compared or is refused."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from helpers.browser import CHROMIUM, FLAGS, PROBE, check_charts
from helpers.commands import call
from helpers.paths import refused
from helpers.tiny import DIGITS, GAUSSIANS, merged
from recurate.core import errors
from recurate.log.trajectory import MEASURED, Row, Trajectory
from recurate.loop.config import parse_config
from recurate.loop.driver import run
from recurate.report import figures
from recurate.verbs.compare.compare import compare, difference, flat

pytest.importorskip("vl_convert")
OTHER = merged(
    GAUSSIANS, rounds=1, selection={"k": 4, "temperature": 1.0},
    rewards=[{**GAUSSIANS["rewards"][0], "gamma": 2.0}, GAUSSIANS["rewards"][1]],
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, raw in {
        "one": GAUSSIANS,
        "two": merged(GAUSSIANS, seed=4),
        "other": OTHER,
        "digits": DIGITS,
    }.items():
        run(parse_config(raw), folder / name)
    return folder


@pytest.fixture(scope="module")
def compared(runs):
    done = call("compare", "one", "two", "--name", "first <&>", "--name", "second", "--figures", cwd=runs)
    assert done.returncode == 0, done.stderr
    return done, runs / "compare-1"


def test_the_table_has_the_last_common_round_with_differences(compared, runs):
    done, folder = compared
    rows = list(csv.DictReader((folder / "table.csv").open()))
    values = {
        name: {
            r.key: r
            for r in Trajectory.read(runs / path / "trajectory.parquet").where(MEASURED, round=2).rows
        }
        for name, path in (("first <&>", "one"), ("second", "two"))
    }
    assert {row["run"] for row in rows} == set(values)
    assert {row["round"] for row in rows} == {"2"}
    for row in rows:
        key = (row["quantity"], row["reward"] or None, row["group"] or None)
        kept, base = values[row["run"]][key], values["first <&>"][key]
        assert float(row["value"]) == kept.value
        if row["run"] == "first <&>":
            assert row["difference"] == ""
            continue
        assert float(row["difference"]) == pytest.approx(kept.value - base.value, abs=1e-12)
        if kept.lower is not None and base.upper is not None:
            below = math.hypot(kept.value - kept.lower, base.upper - base.value)
            assert float(row["difference_lower"]) == pytest.approx(kept.value - base.value - below, abs=1e-12)
    assert "round 2, the last that all runs have" in done.stdout
    assert re.search(r"mean_reward east +first <&> +-\d", done.stdout)
    assert re.search(r"seed +3 +4", done.stdout)
    assert done.stderr == "", "nothing is not comparable"


def test_the_trajectories_are_tidy_and_complete(compared, runs):
    table = pq.read_table(compared[1] / "trajectories.parquet")
    assert table.column_names[0] == "run"
    for name, path in (("first <&>", "one"), ("second", "two")):
        kept = Trajectory.read(runs / path / "trajectory.parquet")
        mine = table.filter(np.array(table.column("run").to_pylist()) == name)
        assert len(mine) == len(kept.rows)
        assert set(Trajectory.from_table(mine).rows) == set(kept.rows)


def test_intervals_of_differences_cover():
    """Two means of 40 draws each: the interval holds the difference 95 times in 100; alarms under 1e-6."""
    rng = np.random.default_rng(0)

    def measured(location, scale):
        draws = rng.normal(location, scale, 40)
        half = 1.96 * draws.std(ddof=1) / 40**0.5
        return Row(
            0, MEASURED, "mean_reward", draws.mean(), lower=draws.mean() - half, upper=draws.mean() + half
        )

    held = 0
    for _ in range(2000):
        _, lower, upper = difference(measured(2, 3), measured(1, 1))
        held += lower <= 1 <= upper
    assert 0.92 < held / 2000 < 0.97


def test_unequal_halves_keep_their_meaning():
    far, near = Row(0, MEASURED, "q", 5, lower=4, upper=8), Row(0, MEASURED, "q", 1, lower=0.5, upper=3)
    assert difference(far, near) == (4, 4 - math.hypot(1, 2), 4 + math.hypot(3, 0.5))
    assert difference(far, Row(0, MEASURED, "q", 1)) == (4, None, None)


def test_what_is_not_common_or_not_comparable_is_said(runs, tmp_path):
    done = call(
        "compare", runs / "one", runs / "other", runs / "digits", "--out", tmp_path / "c", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stderr.split())
    for part in (
        "the runs are not equally long (last rounds: one 2, other 1, digits 1)",
        "only one and other: mean_reward east",
        "only digits: mean_reward,",
        "the reward 'east' is not the same function in all runs",
        "the real data are not the same in all runs",
        "groups are not defined alike in all runs",
        "temperatures differ",
    ):
        assert part in text, part
    assert "'west' is not the same" not in text
    assert re.search(r"rewards\.east\.gamma +1\.0 +2\.0 +-", done.stdout)
    html = (tmp_path / "c" / "report.html").read_text()
    assert "the reward &#39;east&#39; is not the same function" in html


def test_a_trained_reward_that_was_trained_otherwise_is_said(runs, tmp_path):
    run(parse_config(merged(DIGITS, seed=4)), tmp_path / "again")
    found = compare([runs / "digits", tmp_path / "again"])
    assert any("trained before round 0" in note and "classifier" in note for note in found.notes)
    assert compare([runs / "one", runs / "two"]).notes == ()


def test_json(runs, tmp_path):
    done = call("compare", runs / "one", runs / "two", "--json", "--out", tmp_path / "c", cwd=tmp_path)
    facts = json.loads(done.stdout, parse_constant=pytest.fail)
    assert facts["round"] == 2
    assert facts["settings"]["seed"] == ["3", "4"]
    assert {row["run"] for row in facts["table"]} == {"one", "two"}


def test_folders_of_one_name_are_told_apart(runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(runs / ("one" if name == "a" else "two"), tmp_path / name / "run")
    assert [r.name for r in compare([tmp_path / "a" / "run", tmp_path / "b" / "run"]).runs] == [
        "a/run",
        "b/run",
    ]


def test_configurations_as_keys():
    raw = {"a": 1, "b": {"c": None, "d": [1, 2]}, "r": [{"name": "x", "w": 0.5}, {"kind": "k"}], "s": "t"}
    assert flat(raw) == {"a": "1", "b.d": "[1, 2]", "r.x.w": "0.5", "r.1.kind": "k", "s": "t"}


# --- the page ---


@pytest.mark.slow
def test_the_same_bytes_again(compared, runs, tmp_path):
    _, folder = compared
    names = ("--name", "first <&>", "--name", "second")
    done = call("compare", "one", "two", *names, "--out", tmp_path, "--figures", cwd=runs)
    assert done.returncode == 0, done.stderr
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_the_page_asks_for_nothing_and_overlays_all_runs(compared):
    html = (compared[1] / "report.html").read_text()
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", own)
    assert len(html) < 3e6
    specs = [
        json.loads(s) for s in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.S)
    ]
    assert len(specs) >= 8
    for spec in specs:
        rows = [row for data in spec.get("datasets", {}).values() for row in data]
        rows += spec.get("data", {}).get("values", []) + [
            r for x in spec["layer"] for r in x.get("data", {}).get("values", [])
        ]
        assert {row["run"] for row in rows} == {"first <&>", "second"}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [pytest.param(1200, marks=pytest.mark.slow), 400])
def test_a_browser_draws_it_and_nothing_overflows(compared, tmp_path, width):
    html = (compared[1] / "report.html").read_text()
    page = tmp_path / "page.html"
    page.write_text(PROBE.join(html.rsplit("</body>", 1)))
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}/data", f"--window-size={width},900", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert len(re.findall(r"<svg[^>]*class=\"marks\"", done.stdout)) == html.count('type="application/json"')
    title = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert title is not None
    assert int(title[1]) <= int(title[2]), "the page is no wider than the screen"


# --- figures ---


def drawn(folder):
    return sorted(p.stem for p in folder.glob("*.svg")), sorted(p.stem for p in folder.glob("*.png"))


def test_every_chart_is_a_figure_as_svg_and_png(compared):
    folder = compared[1] / "figures"
    svgs, pngs = drawn(folder)
    html = (compared[1] / "report.html").read_text()
    check_charts(html)
    assert svgs == pngs
    assert len(svgs) == html.count('type="application/json"')
    for name in svgs:
        with Image.open(folder / f"{name}.png") as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
            assert 2.5 < image.width / 300 < 4.5, "inches"
            corner = image.convert("RGBA").getpixel((0, 0))
            assert corner == (255, 255, 255, 255)
        root = ET.parse(folder / f"{name}.svg").getroot()
        sizes = [
            float(m) for m in re.findall(r'font-size="([\d.]+)px"', ET.tostring(root, encoding="unicode"))
        ]
        assert sizes
        assert min(sizes) >= 8
        words = "".join(root.itertext())
        assert "first <&>" in words
        assert "second" in words
        assert "round" in words


def test_figures_of_one_run_and_old_ones_go(runs):
    folder = runs / "digits" / "figures"
    folder.mkdir()
    (folder / "old.svg").write_text("<svg/>")
    done = call("report", "digits", "--figures", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert "figures: digits/figures" in done.stdout
    svgs, pngs = drawn(folder)
    assert svgs == pngs
    assert {"mean_reward_reward", "entropy", "shares"} <= set(svgs)
    assert "old" not in svgs
    words = "".join(ET.parse(folder / "mean_reward_reward.svg").getroot().itertext())
    for part in ("Mean reward", "forecast", "measured"):
        assert part in words


def test_the_legend_keeps_clear_of_the_marks():
    def spec(values):
        rows = [{"round": t, "value": v, "source": "measured"} for t, v in enumerate(values)]
        colour = {"field": "run", "scale": {"domain": ["with noise", "without"]}, "legend": {"orient": "top"}}
        y = {"field": "value", "scale": {"zero": False}}
        return {"data": {"values": rows}, "mark": "line", "encoding": {"y": y, "color": colour}}

    def where(values):
        encoding = figures.printed(spec(values), "Title")["encoding"]
        return encoding["color"]["legend"]["orient"], encoding["y"]["scale"].get("domainMax")

    assert where([0, 1, 2, 3, 4]) in {("top-left", None), ("bottom-right", None)}
    assert where([4, 3, 2, 1, 0]) in {("top-right", None), ("bottom-left", None)}
    everywhere = where([0, 4] * 10)
    assert everywhere[0].startswith("top")
    assert everywhere[1] > 4, "room is made above"


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "two runs or more"),
        (["one", "one"], "named twice"),
        (["one", "./two/../one"], "named twice"),
        (["one", "nowhere"], "nowhere"),
        (["one", "one/rounds"], "rounds"),
        (["one", "one/config.toml"], "config.toml"),
        (["one", "two", "--name", "x"], "once for each run"),
        (["one", "two", "--name", "x", "--name", "x"], "a different name"),
        (["one", "two", "--name", "x", "--name", " "], "a different name"),
        (["one", "two", "--out", "digits"], "names a run"),
        (["one", "two", "--out", "one/config.toml"], "names a file"),
    ],
)
def test_bad_input(runs, arguments, message):
    before = sorted(runs.iterdir())
    assert message in refused(call("compare", *arguments, cwd=runs))
    assert sorted(runs.iterdir()) == before


@pytest.mark.parametrize(
    "name", ["trajectory.parquet", "rounds/001/measures.parquet", "setup/contents.json", "config.toml"]
)
@pytest.mark.parametrize("how", ["cut", "missing"])
def test_a_damaged_run_is_refused(runs, tmp_path, name, how):
    shutil.copytree(runs / "other", tmp_path / "bad")
    path = tmp_path / "bad" / name
    if how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    message = refused(call("compare", runs / "one", "bad", cwd=tmp_path))
    assert "bad" in message
    assert not (runs / "compare-2").exists()


def test_without_the_package_figures_are_refused(runs, monkeypatch):
    find = errors.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "vl_convert" else find(name))
    for arguments in (["compare", "one", "two"], ["report", "one"]):
        message = refused(call(*arguments, "--figures", cwd=runs))
        assert "pip install 'recurate[figures]'" in message
