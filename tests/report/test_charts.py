"""Charts: axes with a minimal span, the line at 100, pale beyond support, constraints of plans."""

from __future__ import annotations

import csv

import jsonschema
import pytest

from helpers.browser import CHROMIUM, check_chart
from helpers.pages import chromium
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.report import charts
from recurate.report.colour import tone
from recurate.report.figures import printed
from recurate.report.overlays import overlay_chart
from recurate.report.sections import Section, page


def trajectory(quantity, values, support=()):
    rows = [Row(t, s, quantity, v) for t, v in enumerate(values) for s in (FORECAST, MEASURED)]
    rows += [Row(t, FORECAST, "effective_support", v) for t, v in enumerate(support)]
    return Trajectory(tuple(rows))


def scales(spec):
    found = [layer["encoding"].get("y", {}).get("scale", {}) for layer in spec["layer"]]
    return [(s["domainMin"], s["domainMax"]) for s in found if "domainMin" in s]


@pytest.mark.parametrize(
    ("quantity", "values", "least"),
    [
        ("kl_to_reference", [0.0, 4e-4], 0.02),
        ("entropy", [2.3021, 2.3025], 0.115),
        ("mean_reward", [10, 10.1], 0.505),
    ],
)
def test_small_differences_are_not_drawn_large(quantity, values, least):
    for spec in (
        charts.quantity_chart(trajectory(quantity, values), (quantity, None, None)),
        overlay_chart({"a": trajectory(quantity, values)}, (quantity, None, None)),
    ):
        check_chart(spec)
        found = scales(spec)
        assert found
        for low, high in found:
            assert high - low == pytest.approx(least, rel=0.01)
            assert low <= min(values)
            assert high >= max(values)
            assert low >= 0


def test_large_differences_and_intervals_have_the_axis_that_they_need():
    assert not scales(charts.quantity_chart(trajectory("entropy", [2.3, 1.1]), ("entropy", None, None)))
    wide = Trajectory((Row(0, FORECAST, "entropy", 1.0, None, None, 0.2, 1.8),))
    assert not scales(charts.quantity_chart(wide, ("entropy", None, None)))


def test_the_effective_support_has_its_line_at_100():
    spec = charts.quantity_chart(trajectory("entropy", [1, 1], [400, 30]), ("effective_support", None, None))
    check_chart(spec)
    values = [layer["data"]["values"] for layer in spec["layer"] if "values" in layer.get("data", {})]
    assert values == [[{"y": 100.0}], [{"y": 100.0}]]
    assert "beyond support" in str(spec["layer"][-1]["encoding"]["text"])


def test_what_is_beyond_support_is_pale():
    given = trajectory("mean_reward", [1.0, 2.0, 3.0], [400, 300, 30])
    for spec in (
        charts.quantity_chart(given, ("mean_reward", None, None)),
        overlay_chart({"a": given}, ("mean_reward", None, None)),
    ):
        rows = next(iter(spec["datasets"].values()))
        marks = {(r["source"], r["round"]): (r.get("edge"), r.get("beyond")) for r in rows}
        assert marks[FORECAST, 1] == (True, None)
        assert marks[FORECAST, 2] == (None, True)
        assert marks[MEASURED, 2] == (None, None), "what was measured is known"
        pale = [layer for layer in spec["layer"] if "datum.beyond ||" in str(layer.get("transform"))]
        assert f"'value': {charts.PALE}" in str(pale[-1]["encoding"]["opacity"])
        check_chart(spec)
        check_chart(printed(spec, "T"))
    full = charts.quantity_chart(
        trajectory("mean_reward", [1.0, 2.0], [400, 300]), ("mean_reward", None, None)
    )
    assert "datum.beyond ||" not in str(full)


def test_plans_carry_k_and_the_constraint():
    points = [{"x": x, "y": x, "label": "l", "short": f"K {x}, 0% real"} for x in (2, 4)]
    spec = charts.frontier_chart(points, points[0], "entropy", "entropy", 3.0)
    check_chart(spec)
    assert "constraint: 3" in str(spec)
    assert "K 4, 0% real" in str(spec)
    assert "constraint" not in str(charts.frontier_chart(points, points[0], "entropy", "entropy"))


def test_badges_have_words_and_only_in_columns_of_verdicts():
    table = [["group", "verdict"], ["agrees", "MISMATCH"], ["<b>", "undecided"], ["c", "7"]]
    html = page(
        [Section("T", table=table)], title="T", subtitle="S", summary="L.", verdict="refuted", rule="R"
    )
    assert '<span class="badge bad">refuted</span>' in html
    assert '<span class="badge bad">MISMATCH</span>' in html
    assert '<span class="badge open">undecided</span>' in html
    assert html.count('<span class="badge') == 3
    assert "<td>agrees</td>" in html
    assert tone("agrees") == "good"


def test_the_validator_refuses_what_is_no_chart():
    with pytest.raises(jsonschema.ValidationError):
        check_chart({"mark": 7})


def test_long_reports_have_contents_and_short_ones_none():
    def html(count):
        return page([Section(f"<{i}>") for i in range(count)], title="T", subtitle="S", summary="L.")

    assert '<a href="#part-5">&lt;4&gt;</a>' in html(5)
    assert 'id="part-5"' in html(5)
    assert "<nav" not in html(4)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_tables_are_sorted_and_saved(tmp_path):
    pytest.importorskip("playwright")
    table = [["name", "value"], ["a", "10"], ["=b", "9"], ["c", "< 1e-6"], ['d"', "−2"], ["e", "inf"]]
    table += [["a-2", "9"]]
    sections = [Section("T", table=table), *(Section(f"S{i}", "text", folded=i > 2) for i in range(5))]
    file = tmp_path / "page.html"
    file.write_text(page(sections, title="T", subtitle="S", summary="L.", verdict="agrees"))
    with chromium() as browser:
        shown = browser.new_page()
        shown.goto(file.as_uri())
        shown.get_by_role("button", name="value").click()
        assert shown.locator("tbody td:nth-child(2)").all_inner_texts() == [
            "−2",
            "< 1e-6",
            "9",
            "9",
            "10",
            "inf",
        ]
        assert shown.locator("th[aria-sort=ascending]").inner_text() == "value"
        shown.get_by_role("button", name="name").click()
        names = shown.locator("tbody td:nth-child(1)").all_inner_texts()
        assert names == ["=b", "a", "a-2", "c", 'd"', "e"], "a name with a number in it is no number"
        with shown.expect_download() as saved:
            shown.get_by_role("button", name="Download as CSV").click()
        with open(saved.value.path(), newline="") as lines:
            rows = list(csv.reader(lines))
        assert rows[0] == ["name", "value"]
        assert ["'=b", "9"] in rows, "no program takes it for a formula"
        assert ['d"', "−2"] in rows
        shown.get_by_role("link", name="S4").click()
        assert shown.locator("#part-6").get_attribute("open") is not None
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        found = axe.Axe().run(shown).response["violations"]
        assert {v["id"]: [n["html"] for n in v["nodes"]] for v in found} == {}
