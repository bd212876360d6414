"""The pages of fits and audits: one file, offline, drawn by a real browser, the same bytes twice."""

from __future__ import annotations

import functools
import re
import subprocess

import numpy as np
import pytest
from markupsafe import escape

from helpers import loops
from helpers.browser import CHROMIUM, FLAGS, PROBE, check_charts
from helpers.choosing import WORTH, write_csv
from recurate.log.schema import as_log
from recurate.report.console import print_sections, print_table
from recurate.report.sections import Section
from recurate.report.sections import page as page_of
from recurate.verbs.audit.audit import audit
from recurate.verbs.audit.declared import parse_declared
from recurate.verbs.audit.report import audit_result, audit_sections, summary_of
from recurate.verbs.fit.fit import FitOptions, fit_log
from recurate.verbs.fit.report import fit_result

ODD_NAMES = ["</script><i>", "a & b", "'\"", "a very long name " * 4, "ünï 猫"]


def a_fit(folder, kind: str):
    """Fit picks of 60 choosers in two groups described by features, or picks among oddly named items."""
    rng = np.random.default_rng(0)
    rows = []
    for s in range(900):
        if kind == "features":
            values = {name: rng.normal(size=3).round(3) for name in WORTH}
            utility = sum(w * values[n] for n, w in WORTH.items()) * (1 if s % 60 < 40 else -1)
        else:
            shown = rng.permutation(5)[:3]
            values = {"item": np.array(ODD_NAMES)[shown]}
            utility = 0.4 * shown
        best = int((utility + rng.gumbel(size=3)).argmax())
        rows += [
            {"slate": s, "chooser": f"u{s % 60}", "slot": j, "picked": int(best == j)}
            | {n: v[j].item() for n, v in values.items()}
            for j in range(3)
        ]
    path = write_csv(folder / "choices.csv", rows)
    return fit_log(path, FitOptions(classes=2 if kind == "features" else 0))


@functools.cache
def an_audit(kind: str):
    """Audit an honest loop with two rewards, or one with a fault and markup in what is claimed."""
    if kind == "honest":
        settings = loops.PLAIN | {"weights": (0.7, 0.3), "rounds": 6, "real_fraction": 0.25}
        table = loops.varied_log(np.random.default_rng(1), settings)
        return audit(as_log(table, several=True), parse_declared(loops.varied_declaration(settings)), str)
    table = loops.loop_log(np.random.default_rng(1), slates=1000, rounds=6, fault="divided")
    table = table.rename_columns(["<i>reward</i>" if n == "reward" else n for n in table.column_names])
    log = as_log(table, rewards=["<i>reward</i>"], several=True)
    return audit(log, parse_declared({"k": 4, "temperature": 1.0}), str)


SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in ("fit of items", "audit with a fault")]


@pytest.fixture(scope="module", params=["fit of features", "honest audit", *SLOWLY])
def page(request, tmp_path_factory):
    """A page, how many charts it has, and what it is about."""
    folder = tmp_path_factory.mktemp("pages")
    name = 'x <b>&"y".csv'
    if "fit" in request.param:
        found = a_fit(folder, request.param.split()[-1])
        result = fit_result(found, name)
    else:
        found = an_audit(request.param.split()[0])
        result = audit_result(found, name)
    return result.save(folder)[-1], result.sections


def test_it_is_one_small_file_that_asks_for_nothing(page):
    path, sections = page
    html = path.read_text(encoding="utf-8")
    assert len(html) < 3e6
    own = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", own), "nothing is fetched"
    assert "url(http" not in html
    assert "width=device-width" in own
    assert html.count('type="application/json"') == sum(s.chart is not None for s in sections)


def test_it_holds_every_section_and_no_markup_of_others(page):
    path, sections = page
    html = path.read_text(encoding="utf-8")
    assert all(f">{escape(s.title)}</h2>" in html for s in sections if not s.folded)
    assert len(sections) >= 3
    assert "<i>" not in re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "x &lt;b&gt;&amp;&#34;y&#34;.csv" in html
    for section in sections:
        rows = section.table[1:]
        assert len({len(row) for row in section.table}) <= 1, "tables have whole rows"
        assert all(isinstance(cell, str) for row in rows for cell in row)


def test_mismatches_stand_out(page):
    path, sections = page
    html = path.read_text(encoding="utf-8")
    check_charts(html)
    wrong = [row for s in sections if s.marked for row in s.table[1:] if s.marked in row]
    assert html.count('class="marked"') == len(wrong)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [400, pytest.param(1200, marks=pytest.mark.slow)])
def test_a_browser_draws_every_chart_and_nothing_overflows(page, tmp_path, width):
    path, sections = page
    target = tmp_path / "page.html"
    target.write_text(PROBE.join(path.read_text(encoding="utf-8").rsplit("</body>", 1)), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}/data", f"--window-size={width},900", target.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    wanted = sum(s.chart is not None for s in sections)
    assert wanted >= 1
    assert len(re.findall(r"<svg[^>]*class=\"marks\"", done.stdout)) == wanted
    assert "could not be drawn" not in re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.S)
    title = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert title is not None
    assert int(title[1]) <= int(title[2]), "the page is no wider than the screen"


@pytest.mark.parametrize("kind", ["features", "items"])
def test_a_fits_page_has_the_same_bytes_when_it_is_written_again(kind, tmp_path):
    for i in (1, 2):
        fit_result(a_fit(tmp_path, kind), "x.csv").save(tmp_path / str(i))
    assert (tmp_path / "1" / "report.html").read_bytes() == (tmp_path / "2" / "report.html").read_bytes()


def test_an_audits_page_has_the_same_bytes_when_it_is_written_again(tmp_path):
    for i, audited in ((1, an_audit), (2, an_audit.__wrapped__)):  # the second is computed anew
        audit_result(audited("honest"), "x.csv").save(tmp_path / str(i))
    assert (tmp_path / "1" / "report.html").read_bytes() == (tmp_path / "2" / "report.html").read_bytes()


def test_the_summary_counts_mismatches():
    found = an_audit("with")
    assert summary_of(found).startswith("1 mismatch. temperature: declared 1, found 0.")
    assert "agrees with the declaration" in summary_of(an_audit("honest"))


def test_changes_are_shown_round_by_round():
    (changes,) = [s for s in audit_sections(an_audit("honest")) if s.title == "Each round's change"]
    assert [row[0] for row in changes.table[1:]] == [f"{t} to {t + 1}" for t in range(5) for _ in range(2)]
    assert changes.table[0][1] == "reward", "two rewards are told apart"
    assert changes.chart is not None


# --- sections -------------------------------------------------------------------------------------


def test_long_cells_are_wrapped_and_columns_aligned(capsys):
    print_table(Section("", table=[["a", "b"], ["x", "word " * 40], ["yyy", "short"]]), 80)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert {line.index("word") for line in lines if "word" in line} == {lines[-1].index("short")}
    assert " ".join(lines).split().count("word") == 40


def test_everything_of_a_section_is_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    print_sections([Section("Title", "Some text.", [["h"], ["cell"]], ("first", "second"))])
    assert capsys.readouterr().out == "\nTitle\n  Some text.\n  h\n  cell\n  - first\n  - second\n"


def test_a_page_of_nothing():
    html = page_of([], title="T", subtitle="S", summary="Sum", warnings=["<w>"])
    assert "&lt;w&gt;" in html
    assert "<h2>" not in re.sub(r"<script.*?</script>", "", html, flags=re.S)
