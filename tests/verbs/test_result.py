"""What every verb returns: saved, plotted, printed, taken further; refused where it cannot be."""

from __future__ import annotations

import base64
import json
import math
import re
import webbrowser
from xml.etree import ElementTree

import altair
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recurate
from recurate.core import errors
from recurate.core.errors import InputError
from recurate.log.trajectory import Trajectory
from recurate.report import notebook
from recurate.report.sections import Section
from recurate.verbs.options import beside
from recurate.verbs.result import Result, publish

pytestmark = pytest.mark.usefixtures("few_replicates")


@pytest.fixture(scope="module")
def result():
    rewards = np.random.default_rng(0).normal(size=(300, 2))
    return recurate.forecast(rewards, reward=["a", "b"], group=np.arange(300) % 3, rounds=2, bounds=True)


def a_result(**facts):
    return Result(
        found=complex(1, 2),
        verb="odd",
        title="A <title>",
        summary="All is well.",
        warnings=("mind <this>",),
        source="x",
        make_facts=lambda: facts,
        make_sections=lambda: [Section("Numbers", table=[["name", "value"], ["<n>", "1.5"]])],
        make_tables=lambda: {"kept": pa.table({"x": [1]}), "written.csv": pa.table({"y": [2, 3]})},
    )


def test_everything_is_saved_and_reads_back(result, tmp_path):
    written = result.save(tmp_path / "new" / "folder")
    assert {path.name for path in written} == {"forecast.json", "trajectory.parquet", "report.html"}
    assert sorted(written) == sorted((tmp_path / "new" / "folder").iterdir())
    facts = json.loads(written[0].read_text(), parse_constant=pytest.fail)
    assert facts == result.facts
    assert facts["summary"] == result.summary
    assert Trajectory.read(written[1]) == result.trajectory
    assert written[2].read_text() == result.page()
    result.save(tmp_path / "new" / "folder")  # again, over it


def test_a_table_without_an_ending_stays_in_memory(tmp_path):
    found = a_result()
    assert [path.name for path in found.save(tmp_path)] == ["odd.json", "written.csv", "report.html"]
    assert found.to_arrow().to_pylist() == [{"x": 1}], "the first is the main one"
    assert found.to_arrow("written").num_rows == 2
    with pytest.raises(InputError, match=r"no such table(.|\n)*did you mean 'written'"):
        found.to_arrow("writen")


def test_a_file_is_no_folder(result, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(InputError, match="names a file"):
        result.save(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_json_has_no_word_for_infinity_and_knows_arrays(tmp_path):
    found = a_result(low=-math.inf, many=np.array([1.0, math.nan]), count=np.int64(3), path=tmp_path)
    facts = json.loads(found.save(tmp_path)[0].read_text(), parse_constant=pytest.fail)
    assert (facts["low"], facts["many"], facts["count"]) == (None, [1.0, None], 3)
    assert facts["path"] == str(tmp_path)


def test_plots_are_charts_of_the_report(result):
    chart = result.plot("mean_reward_a")
    with pytest.raises(InputError, match="several charts begin so"):
        result.plot("mean_reward")
    assert isinstance(chart, altair.LayerChart)
    assert chart.to_dict()["title"] == "Mean reward: a"
    assert result.plot("Mean reward: b").to_dict()["title"] == "Mean reward: b"
    assert result.plot("shares").to_dict()["title"] == "Shares of the groups"
    assert result.plot().to_dict() == chart.to_dict()
    with pytest.raises(InputError, match=r"no such chart(.|\n)*did you mean 'mean_reward_a'"):
        result.plot("mean_rewrd_a")
    with pytest.raises(InputError, match="no charts"):
        a_result().plot()


def test_charts_of_two_results_are_layered_and_saved(result, tmp_path):
    pytest.importorskip("vl_convert")
    other = recurate.forecast(np.random.default_rng(1).normal(size=300), rounds=2, bounds=False)
    both = altair.layer(result.plot("mean_reward_a"), other.plot("mean_reward"))
    spec = both.to_dict()  # checked against Vega-Lite's schema
    assert "config" not in json.dumps(spec["layer"])
    assert "select" not in json.dumps(spec)
    for name in ("both.svg", "both.html"):
        both.interactive().save(tmp_path / name)
    drawn = (tmp_path / "both.svg").read_text()
    points = sum(
        len(r.trajectory.values("mean_reward", reward=n)) for r, n in ((result, "a"), (other, "reward"))
    )
    assert drawn.count('aria-roledescription="point"') == points
    named = altair.layer(result.plot("mean_reward_a", "one"), other.plot("mean_reward", "two"))
    named.save(tmp_path / "named.svg")
    drawn = (tmp_path / "named.svg").read_text()
    assert "one, forecast" in drawn
    assert (
        len(
            set(
                re.findall(
                    r'role="graphics-symbol"[^>]*aria-roledescription="point"[^>]*fill="([^"]*)"', drawn
                )
            )
        )
        == 2
    )
    with pytest.raises(InputError, match="takes no label"):
        result.plot("shares", "one")
    assert len((result.plot("shares") | other.plot()).to_dict()["hconcat"]) == 2


def test_a_notebook_shows_it(result, monkeypatch):
    html = a_result(share=0.25, flag=True, long="x" * 99, inner={"k": "<4>"})._repr_html_()
    assert "<b>A &lt;title&gt;</b> <small>recurate odd</small>" in html
    assert "<p>All is well.</p><p>⚠ Warning: mind &lt;this&gt;</p>" in html
    assert "<th>name</th><th>value</th></tr><tr><td>&lt;n&gt;</td><td>1.5</td>" in html
    assert "<th>share</th><td>0.25</td></tr><tr><th>flag</th><td>yes</td></tr>" in html
    assert "<th>inner: k</th><td>&lt;4&gt;</td>" in html
    assert "xxx" not in html, "long facts are left to result.facts"
    assert "<script" not in html
    assert "<img" not in html, "it has no chart"
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    assert "recurate[figures]" in result._repr_html_()


def test_a_notebook_shows_the_first_chart_as_a_picture(result):
    pytest.importorskip("vl_convert")
    html = result._repr_html_()
    drawn = re.findall(
        r'<img alt="Chart: Mean reward: a" width="420" src="data:image/svg\+xml;base64,([^"]*)">', html
    )
    assert len(drawn) == 1
    assert ElementTree.fromstring(base64.b64decode(drawn[0])).tag.endswith("svg")
    assert len(html) < 40_000


def test_it_has_the_attributes_of_what_was_found(result):
    assert result.law.shape == (300,)
    assert {"law", "setting", "save", "plot"} <= set(dir(result))
    assert a_result().imag == 2
    with pytest.raises(AttributeError, match="nonsense"):
        _ = result.nonsense


def test_it_shows_itself(result, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    path = result.show()
    assert opened == [path.as_uri()]
    assert path.read_text(encoding="utf-8") == result.page()
    assert repr(a_result()) == "A <title>\n  All is well.\n  warning: mind <this>"


def test_it_is_printed_or_dumped(tmp_path, capsys):
    publish(a_result(x=1), tmp_path, also=["a line more"])
    out, err = capsys.readouterr()
    assert err == "warning: mind <this>\n"
    assert "\nNumbers\n  name  value\n  <n>     1.5\n\nAll is well.\n" in out
    assert out.endswith(f"{tmp_path / 'report.html'}\na line more\n")
    publish(a_result(x=1), tmp_path, as_json=True, also=["a line more"])
    out, err = capsys.readouterr()
    assert json.loads(out)["x"] == 1
    assert err == f"replacing {tmp_path}\n"


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_are_those_of_their_package(result, package):
    module = pytest.importorskip(package)
    frame = getattr(result, f"to_{package}")()
    assert isinstance(frame, module.DataFrame)
    assert list(frame.columns) == result.to_arrow().column_names


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_say_which_package_they_need(result, package, monkeypatch):
    find = errors.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(InputError, match=f"pip install {package}"):
        getattr(result, f"to_{package}")()


def test_results_go_beside_their_log(tmp_path):
    for name, stem in (("x.csv.gz", "x"), ("my.log.jsonl", "my.log"), ("plain", "plain")):
        assert beside(tmp_path / name, "fit") == tmp_path / f"{stem}-fit"
    (tmp_path / "run.1").mkdir()
    assert beside(tmp_path / "run.1", "fit") == tmp_path / "run.1-fit"


@pytest.mark.parametrize(
    ("names", "stem"),
    [
        (["logs/completions_00001.parquet", "logs/completions_00002.parquet"], "completions"),
        (["1.jsonl", "2.jsonl"], "log"), (["runs/step/*.jsonl"], "step"), (["-"], "log"),
        (["https://host.org/picks.csv"], "picks"),
    ],
)  # fmt: skip
def test_results_of_several_files_go_to_the_working_folder(names, stem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert beside(names, "fit") == tmp_path / f"{stem}-fit"


def test_several_files_and_standard_input_are_one_log(recurate_here, tmp_path):
    for step in (1, 2):
        rows = [json.dumps({"prompt": f"p{i // 4}", "reward": float(i % 5 + step)}) for i in range(40)]
        (tmp_path / f"{step}.jsonl").write_text("\n".join(rows))
    done = recurate_here("audit", "1.jsonl", "2.jsonl")
    assert done.returncode == 0, done.stderr
    assert "2 files; the round is the number in the file's name" in done.stdout
    facts = json.loads((tmp_path / "log-audit" / "audit.json").read_text())["facts"]
    assert (facts["candidates"], facts["rounds"]) == (80, 2)


def test_a_gzipped_log_s_forecast_lies_where_its_fit_would(recurate_here, tmp_path):
    import gzip

    with gzip.open(tmp_path / "x.csv.gz", "wt") as file:
        file.write("reward\n" + "\n".join(str(i % 7) for i in range(60)))
    done = recurate_here("forecast", "x.csv.gz", "--rounds", 1)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "x-forecast" / "trajectory.parquet").num_rows > 0


def test_a_page_without_charts_has_no_script_for_charts():
    with_charts = recurate.forecast([0.0, 1.0, 2.0], k=2, rounds=1).page()
    without = recurate.audit("example:divided-rewards").page()
    assert 'data-chart="' in with_charts
    assert len(with_charts) > 500_000
    assert 'data-chart="' not in without
    assert len(without) < 60_000
    assert "const sortable" in without
