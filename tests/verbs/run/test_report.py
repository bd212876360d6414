"""Reports: one file, offline, drawn by a real browser, the same bytes twice."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import recurate
from helpers.browser import CHROMIUM, FLAGS, PROBE, check_charts
from helpers.tiny import DIGITS, GAUSSIANS
from recurate.components.nets.classifiers import is_image
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.loop.config import parse_config
from recurate.loop.driver import run
from recurate.loop.run_folder import RunFolder
from recurate.report import narrative
from recurate.report.lead import lead_of
from recurate.verbs.run.report import write_run_report
from recurate.verbs.run.samples_section import chosen_rounds

pytestmark = pytest.mark.usefixtures("few_replicates")


@pytest.fixture(scope="module")
def gaussians(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(parse_config(GAUSSIANS), folder)
    return RunFolder.open(folder)


@pytest.fixture(scope="module", params=["gaussians", "digits", "forecast"])
def report(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    if request.param == "forecast":
        rng = np.random.default_rng(0)
        result = recurate.forecast(
            rng.normal(size=(600, 2)),
            group=rng.choice(["<a>", "b&c"], 600),
            rounds=3,
            reward=["one", "two"],
            picks=20,
            bounds=True,
        )
        return result.save(folder)[-1]
    if request.param == "gaussians":
        return write_run_report(request.getfixturevalue("gaussians"))
    run(parse_config(DIGITS), folder / "run")
    return write_run_report(RunFolder.open(folder / "run"))


def test_it_is_one_small_file_that_asks_for_nothing(report):
    html = report.read_text()
    assert len(html) < 3e6
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", own), "nothing is fetched"
    assert "url(http" not in html
    assert "width=device-width" in own
    check_charts(html)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [400, pytest.param(1200, marks=pytest.mark.slow)])
def test_a_browser_draws_every_chart_and_nothing_overflows(report, tmp_path, width):
    page = tmp_path / "page.html"
    html = report.read_text()
    page.write_text(PROBE.join(html.rsplit("</body>", 1)))
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}/data", f"--window-size={width},900", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    wanted = html.count('type="application/json"')
    assert wanted >= 5
    assert len(re.findall(r"<svg[^>]*class=\"marks\"", done.stdout)) == wanted
    assert "could not be drawn" not in re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.S)
    title = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert title is not None
    assert int(title[1]) <= int(title[2]), "the page is no wider than the screen"


SLIDE = """<script>
setTimeout(() => {
  const slider = document.querySelector(".vega-bind input[type=range]");
  const drawn = () => slider.closest(".chart").querySelector("svg").innerHTML;
  const before = drawn();
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  setTimeout(() => { document.title = before === drawn() ? "unchanged" : "changed"; }, 2000);
}, 4000);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_slider_moves_through_the_rounds(gaussians, tmp_path):
    html = write_run_report(gaussians).read_text()
    page = tmp_path / "page.html"
    page.write_text(SLIDE.join(html.rsplit("</body>", 1)))
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}/data", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<title>changed</title>" in done.stdout


def test_a_rebuilt_report_has_the_same_bytes(gaussians):
    first = write_run_report(gaussians).read_bytes()
    assert write_run_report(gaussians).read_bytes() == first


def test_it_says_what_was_run_and_how_far_off_the_forecast_was(gaussians):
    html = write_run_report(gaussians).read_text()
    for text in (
        "Errors of the forecast in each round",
        "torch",
        "seed",
        "real_fraction = 0.25",
        "one of 3 candidates",
    ):
        assert text in html


def test_the_shipped_javascript_is_what_the_readme_says():
    import altair

    folder = Path(recurate.__file__).parent / "report" / "assets"
    sums = dict(re.findall(r"\| (\S+\.js) \|.*\| (\w{64}) \|", (folder / "README.md").read_text()))
    scripts = sorted(folder.glob("*.js"))
    assert sorted(sums) == [p.name for p in scripts]
    for path in scripts:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[path.name]
    version = re.search(r"vega-lite (\d+)\.", (folder / "README.md").read_text())
    assert version is not None
    assert altair.SCHEMA_VERSION.startswith(f"v{version[1]}.")


def test_the_paragraph_names_direction_and_error():
    def rows(source, values):
        return [Row(t, source, "mean_exp_reward", v, "reward") for t, v in enumerate(values)]

    up = Trajectory((*rows(FORECAST, [1, 2, 4]), *rows(MEASURED, [1, 2.5, 4])))
    text = narrative.what_happened(up, {"k": 4, "real_fraction": 0.25})
    assert "one of 4 candidates" in text
    assert "25% real data" in text
    assert "rose from 1 in round 0 to 4 in round 2, a factor of 4" in text
    assert "off by at most 20.0% of the measured value (round 1)" in text
    down = narrative.what_happened(Trajectory(tuple(rows(FORECAST, [2, 1]))), {"k": "inf"})
    assert "is forecast to fall from 2" in down


def test_images():
    assert is_image((8, 8))
    assert is_image((32, 32, 3))
    assert not is_image((2,))
    assert chosen_rounds(3) == [0, 1, 2]
    assert chosen_rounds(101)[0] == 0
    assert chosen_rounds(101)[-1] == 100
    assert len(chosen_rounds(101)) == 12


@pytest.mark.parametrize(
    ("facts", "phrase"),
    [
        (
            {"k": 4, "noise": "gaussian", "lapse": 0.1},
            "picked by Thurstone's model (10% of the slates at random)",
        ),
        (
            {"k": {"2": 0.5, "4": 0.5}, "noise": "none"},
            "one of 2 or 4 candidates is picked by highest reward",
        ),
        ({"k": 8, "keep": 2}, "2 of 8 candidates are picked by Luce choice"),
        ({"level": 0.5}, "every candidate whose reward is at least 0.5 is kept. The model"),
        ({"fraction": 0.25, "noise": "gumbel"}, "the best 25% of all candidates are kept, with gumbel noise"),
        (
            {"k": 4, "then": [{"k": 2}]},
            "; then, from those kept, one of 2 candidates is picked by Luce choice",
        ),
        ({"k": 4, "accumulate": True}, "the picks of this and all earlier rounds"),
        ({"k": 4, "efficacy": 0.5}, "which moves it 50% of the way"),
    ],
)
def test_the_summary_says_what_happens_every_round(facts, phrase):
    row = [Row(t, FORECAST, "mean_reward", float(t), reward="reward") for t in (0, 1)]
    assert phrase in narrative.what_happened(Trajectory(tuple(row)), facts)


@pytest.mark.parametrize(
    ("quantity", "without", "said"),
    [
        ("mean_reward", [], ""),
        (
            "mean_reward",
            [1, 3, 4],
            "No band in rounds 1 and 3 to 4: too few candidates of the pool carry its error.",
        ),
        ("mean_reward", [4], "No band in round 4: too few candidates of the pool carry its error."),
        ("mean_reward", [0, 1, 2, 3, 4], "No band: too few candidates of the pool carry its error."),
        ("kl_to_reference", [0], "No band in round 0: there its error has one side only."),
        (
            "kl_to_reference",
            [0, 3, 4],
            "No band in round 0: there its error has one side only. "
            "No band in rounds 3 to 4: too few candidates of the pool carry its error.",
        ),
        (
            "effective_support",
            [0, 1, 2, 3, 4],
            "No band: it is a number of this pool, not of the loops that may come.",
        ),
    ],
)
def test_why_a_series_has_no_band(quantity, without, said):
    own = [
        Row(t, FORECAST, quantity, 1.0, None, None, *((None, None) if t in without else (0.5, 1.5)))
        for t in range(5)
    ]
    other = Row(0, FORECAST, "entropy", 1.0, None, None, 0.5, 1.5)
    assert narrative.unbanded(Trajectory((*own, other)), (quantity, None, None)) == said


def test_a_forecast_is_judged_as_far_as_its_candidates_support_it():
    told = [Row(t, FORECAST, "mean_exp_reward", v, "reward") for t, v in enumerate((1.0, 2.2, 3.0, 900.0))]
    seen = [Row(t, MEASURED, "mean_exp_reward", v, "reward") for t, v in enumerate((1.0, 2.0, 3.0, 4.0))]
    support = [Row(t, FORECAST, "effective_support", n) for t, n in enumerate((900.0, 300.0, 200.0, 2.0))]
    text = narrative.what_happened(Trajectory((*told, *seen, *support)), {"k": 4})
    assert (
        "off by at most 10.0% of the measured value (round 1), in the rounds up to 2, which it supports"
        in text
    )
    assert "root-mean-square error is 9% of" in text, "of the same rounds"
    none = Row(2, MEASURED, "mean_exp_reward", 0.0, "reward")  # no relative difference
    text = narrative.what_happened(Trajectory((*told[:3], *seen[:2], none)), {"k": 4})
    assert "(round 1); its root-mean-square" in text


def test_the_lead_says_up_to_which_round_a_forecast_was_judged():
    told = [Row(t, FORECAST, "mean_reward", v, "reward") for t, v in enumerate((1.0, 2.2, 3.0, 900.0))]
    seen = [Row(t, MEASURED, "mean_reward", v, "reward") for t, v in enumerate((1.0, 2.0, 3.0, 4.0))]
    support = [Row(t, FORECAST, "effective_support", n) for t, n in enumerate((900.0, 300.0, 200.0, 2.0))]
    text = lead_of(Trajectory((*told, *seen, *support)), {"k": 4}).text
    assert "was off by at most 10.0% up to round 2, the last that its candidates support; without" in text
    assert "was off by at most 10.0%; without" in lead_of(Trajectory((*told[:3], *seen[:3])), {"k": 4}).text
    zero = Row(1, MEASURED, "mean_reward", 0.0, "reward")  # no relative difference
    text = lead_of(Trajectory((*told[:3], seen[0], zero, seen[2])), {"k": 4}).text
    assert "was off by at most 0.0%; without" in text


def test_a_forecast_is_told_as_far_as_its_candidates_support_it():
    own = [Row(t, FORECAST, "mean_exp_reward", 1.0 + t, "reward") for t in range(4)]
    support = [Row(t, FORECAST, "effective_support", n) for t, n in enumerate((900.0, 300.0, 90.0, 2.0))]
    text = narrative.what_happened(Trajectory((*own, *support)), {"k": 4})
    assert "from 1 in round 0 to 2 in round 1" in text
    whole = narrative.what_happened(Trajectory(tuple(own)), {"k": 4})
    assert "to 4 in round 3" in whole
