"""The index: every kind, what cannot be read, hostile names, sorting, filtering, serving."""

from __future__ import annotations

import json
import os
import re
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

import recurate
from helpers.browser import CHROMIUM
from helpers.pages import chromium
from recurate.core.errors import InputError
from recurate.core.sealed import sealed, sha256
from recurate.log.folders import RUN_FORMAT, fixed_hash
from recurate.log.models_folder import RESULTS
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.people.tables import metadata
from recurate.report.sections import Section, page
from recurate.verbs.view import entries as module
from recurate.verbs.view import serving
from recurate.verbs.view.entries import UNREADABLE, listing
from recurate.verbs.view.page import index_page, relative_link
from recurate.verbs.view.serving import server_of

HOSTILE = "<img src=x onerror=alert(1)>&'\""
CONFIG = "rounds = 3\n[selection]\nk = 4\n[retraining]\nreal_fraction = 0.25\n"
SETTINGS = {"rounds": 3, "selection": {"k": 4}, "retraining": {"real_fraction": 0.25}}


def a_run(folder, rounds=2, **more):
    """Write the files of a run that an index reads."""
    for t in range(rounds):
        (folder / "rounds" / f"{t:03d}").mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG)
    manifest = {"format": RUN_FORMAT, "config_sha256": fixed_hash(SETTINGS), **more}
    (folder / "manifest.json").write_text(sealed(manifest))
    rows = [Row(t, s, "mean_reward", float(t), "reward", None, t - 0.1, t + 0.1)
            for s in (FORECAST, MEASURED) for t in range(rounds)]  # fmt: skip
    own = [Row(t, MEASURED, "own_reward", t + 0.5, None, "a") for t in range(rounds)]
    Trajectory(tuple(own if more else rows)).write(folder / "trajectory.parquet")
    digest = sha256(folder / "trajectory.parquet")
    (folder / (RESULTS if more else "bounds.json")).write_text(sealed({"trajectory_sha256": digest}))
    (folder / "report.html").write_text("<title>of a run</title>")


def a_study(path):
    engine = sa.create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    with engine.begin() as database:
        names = "id, round, attempt, number, context, wanted, taken"
        database.execute(sa.text(f"INSERT INTO slates ({names}) VALUES (1, 0, 0, 0, '', 1, 0)"))
        for slot in range(3):
            database.execute(sa.text(
                f"INSERT INTO candidates VALUES (1, {slot}, {slot}, 'text', 'words', '')"
            ))  # fmt: skip
    engine.dispose()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with one result of every kind."""
    root = tmp_path_factory.mktemp("results")
    a_run(root / "runs" / "one")
    a_run(root / "models", models={"a": "seal"})
    a_run(root / "models" / "models" / "a")
    rng = np.random.default_rng(0)
    scores = rng.normal(size=400)
    recurate.forecast(scores, k=4, rounds=2).save(root / HOSTILE)
    recurate.plan(scores, rounds=1, k=[2, 4], real_fraction=[0.0]).save(root / "plan")
    slates = np.repeat(np.arange(150), 2)
    rewards = rng.normal(size=300)
    picked = (rewards.reshape(-1, 2) + rng.gumbel(size=(150, 2))).argmax(axis=1)
    log = pa.table({
        "slate": slates, "reward": rewards, "picked": (np.arange(300) % 2) == np.repeat(picked, 2),
    })  # fmt: skip
    recurate.audit(log, declared="k = 3").save(root / "audit")
    recurate.fit(log).save(root / "fit")
    for verb in ("compare", "reproduce"):
        (root / verb).mkdir()
        facts = {"recurate": "0", "summary": f"{verb} {HOSTILE}", "outcome": "refuted", "round": 2}
        (root / verb / f"{verb}.json").write_text(json.dumps(facts))
    a_study(root / "texts.ballots.sqlite")
    (root / "broken").mkdir()
    (root / "broken" / "forecast.json").write_text("{")
    return root


KINDS = {
    "runs/one": ("run", "as forecast", "4", 1), "models": ("run of models", "", "4", 1),
    "models/models/a": ("run", "as forecast", "4", 1), HOSTILE: ("forecast", "", "4", 2),
    "plan": ("plan", "feasible", "4", 1), "audit": ("audit", "MISMATCH", "2", 0),
    "fit": ("fit", "Luce not rejected", "", None), "compare": ("compare", "refuted", "", 2),
    "reproduce": ("reproduce", "refuted", "", None), "texts.ballots.sqlite": ("study", "", "3", 1),
    "broken": ("unreadable", "", "", None),
}  # fmt: skip


def test_every_kind_is_listed(folder):
    found = {e.name: (e.kind, e.verdict, e.k, e.rounds) for e in listing(folder).entries}
    assert found == KINDS
    by_name = {e.name: e for e in listing(folder).entries}
    assert "The mean reward rose from 0 in round 0 to 1" in by_name["runs/one"].lead
    assert by_name["runs/one"].lead.startswith("1 of 3 rounds are played.")
    assert by_name["models"].lead == "Own rewards: a from 0.5 to 1.5."
    assert by_name["texts.ballots.sqlite"].lead == "0 answers of 0 people on 1 slates."
    assert by_name["broken"].lead.startswith("forecast: JSONDecodeError")
    assert all(e.changed > 0 for e in by_name.values() if e.kind != UNREADABLE)
    assert {n for n, e in by_name.items() if e.report} >= {"runs/one", HOSTILE, "plan", "audit", "fit"}


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("manifest.json", "{}", "manifest is damaged"),
        ("manifest.json", '{"format": 1}', "older recurate"),
        ("config.toml", CONFIG.replace("k = 4", "k = 8"), "configuration was changed"),
        ("trajectory.parquet", "PAR1", "trajectory.parquet"),
        ("manifest.json", None, "no manifest.json"),
    ],
)
def test_a_damaged_run_is_listed_with_the_reason(tmp_path, name, damage, why):
    a_run(tmp_path / "run")
    (tmp_path / "run" / name).write_text(damage or "")
    if damage is None:
        (tmp_path / "run" / name).unlink()
    (entry,) = listing(tmp_path).entries
    assert entry.kind == UNREADABLE
    assert why in entry.lead


@pytest.mark.parametrize(
    ("k", "why"), [("1" + "0" * 400, "OverflowError"), ('" "', ""), ('"nan"', ""), ("[]", ""), ("{}", "")]
)
def test_an_odd_result_hides_no_other(tmp_path, k, why):
    """No number, and no text for one, ends the listing."""
    for name, value in (("a", k), ("b", "4")):
        (tmp_path / name).mkdir()
        text = f'{{"recurate": "0", "summary": "", "setting": {{"k": {value}}}}}'
        (tmp_path / name / "forecast.json").write_text(text)
    odd, plain = listing(tmp_path).entries
    assert odd.lead == (f"forecast: {why}: int too large to convert to float" if why else "")
    assert plain.k == "4"
    assert ">b</td>" in index_page(listing(tmp_path), lambda e: "")


def test_a_reason_does_not_say_where_the_folder_lies(tmp_path, monkeypatch):
    a_run(tmp_path / "run")

    def refused(self):
        raise PermissionError(13, "Permission denied", str(tmp_path / "run" / "config.toml"))

    monkeypatch.setattr(module.StoredRun, "settings", refused)
    (entry,) = listing(tmp_path).entries
    assert "run/config.toml" in entry.lead
    assert str(tmp_path) not in entry.lead


def test_a_folder_that_may_not_be_read_is_listed(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    scan = os.scandir

    def refused(place):
        if place == tmp_path / "shut":
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(module.os, "scandir", refused)
    (entry,) = listing(tmp_path).entries
    assert (entry.name, entry.kind, entry.lead) == ("shut", UNREADABLE, "Permission denied")


def test_a_run_that_is_being_written_is_looked_at_again(tmp_path, monkeypatch):
    a_run(tmp_path / "run")
    bounds = tmp_path / "run" / "bounds.json"
    right = bounds.read_text()
    bounds.write_text(sealed({"trajectory_sha256": "of the round before"}))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: bounds.write_text(right))
    (entry,) = listing(tmp_path).entries
    assert entry.kind == "run"


def test_the_search_is_bounded_and_follows_no_links(tmp_path, monkeypatch):
    a_run(tmp_path / "a" / "run")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    assert [e.name for e in listing(tmp_path).entries] == ["a/run"]
    monkeypatch.setattr(module, "DEPTH", 1)
    assert "deep were not looked at" in listing(tmp_path).left_out
    monkeypatch.setattr(module, "MOST", 1)
    found = listing(tmp_path)
    assert "only the first 1 folders" in found.left_out
    assert found.left_out in index_page(found, lambda e: "")
    with pytest.raises(InputError, match="no such folder"):
        listing(tmp_path / "absent")


def test_hostile_names_are_text(folder, tmp_path):
    html = index_page(listing(folder), relative_link(folder / "index.html"))
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&#39;&#34;" in html
    assert 'href="%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%26%27%22/report.html"' in html
    (tmp_path / "javascript:alert(1)").mkdir()
    (tmp_path / "javascript:alert(1)" / "plan.json").write_text('{"recurate": "0", "summary": "S"}')
    (tmp_path / "javascript:alert(1)" / "report.html").write_text("")
    assert 'href="javascript%3Aalert' in index_page(listing(tmp_path), relative_link(tmp_path / "i.html"))


def test_it_is_one_file_that_asks_for_nothing(folder, recurate_here, tmp_path):
    done = recurate_here("view", folder, "--out", "index.html")
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "index.html").read_text()
    assert len(html) < 40_000
    assert "src=" not in html.replace("src=x", "")
    refused = recurate_here("view", folder, "--out", folder)
    assert refused.returncode == 2
    assert "--out names a folder" in refused.stderr
    assert recurate_here("view", folder, "--out", "index.html").returncode == 0, "an index is replaced"
    report = folder / "plan" / "report.html"
    before = report.read_bytes()
    refused = recurate_here("view", folder, "--out", report)
    assert refused.returncode == 2, "a report is not"
    assert report.read_bytes() == before
    refused = recurate_here("view", folder, "--out", "other.html", "--port", 0)
    assert refused.returncode == 2, "no option is ignored"
    assert not (tmp_path / "other.html").exists()


@contextmanager
def served(folder):
    server = server_of(folder, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Security-Policy"]
    except urllib.error.HTTPError as error:
        return error.code, "", ""


def test_the_server_reads_anew_and_gives_only_reports(tmp_path):
    a_run(tmp_path / "one")
    (tmp_path / "secret.txt").write_text("secret")
    with served(tmp_path) as url:
        status, html, policy = asked(url + "/")
        assert (status, "/report/one/report.html" in html, "/report/two/report.html" in html) == (
            200,
            True,
            False,
        )
        assert policy.startswith("default-src 'none'")
        status, html, policy = asked(url + "/report/one/report.html")
        assert (status, html) == (200, "<title>of a run</title>")
        assert policy.startswith("sandbox")
        assert "allow-same-origin" not in policy
        a_run(tmp_path / "two")
        assert asked(url + "/report/two/report.html")[0] == 200, (
            "by its address, before the index is asked for again"
        )
        assert "/report/two/report.html" in asked(url + "/")[1]
        (tmp_path / "two" / "report.html").unlink()
        assert asked(url + "/report/two/report.html")[0] == 404
        for path in ("/secret.txt", "/report/../secret.txt", "/report/one/../../secret.txt", "/report/x"):
            assert asked(url + path)[0] == 404
        assert asked(url + "/", Host="evil.example")[0] == 403
        taken = int(url.rsplit(":", 1)[1])
        with pytest.raises(InputError, match="port cannot be used"):
            server_of(tmp_path, taken)


def test_links_between_reports_lead_somewhere(tmp_path):
    a_run(tmp_path / "both" / "models" / "ours")
    a_run(tmp_path / "both" / "both")  # of the same name as the folder above it
    a_run(tmp_path / "both")
    (tmp_path / "both" / "both" / "report.html").write_text("the inner one")
    (tmp_path / "both" / "report.html").write_text("the outer one")
    for folder, own in ((tmp_path, "/report/both/"), (tmp_path / "both", "/report/")):
        with served(folder) as url:
            html = asked(url + "/")[1]
            for address, text in (("report.html", "outer"), ("both/report.html", "inner")):
                assert f'"{own}{address}"' in html
                assert asked(url + own + address)[1] == f"the {text} one"
            assert asked(url + own + "models/ours/report.html")[0] == 200
            assert asked(url + own + "models/theirs/report.html")[0] == 404
            assert asked(url + "/report/any" + own.removeprefix("/report") + "report.html")[0] == 404
            assert asked(url + "/both/report.html")[0] == 404, "not the address of a report"


def test_a_link_in_place_of_a_report_is_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    a_run(tmp_path / "runs" / "one")
    (tmp_path / "runs" / "one" / "report.html").unlink()
    (tmp_path / "runs" / "one" / "report.html").symlink_to(tmp_path / "secret.txt")
    with served(tmp_path / "runs") as url:
        assert "/report/one" not in asked(url + "/")[1]
        assert asked(url + "/report/one/report.html")[0] == 404


def test_a_report_is_sent_without_reading_the_folder_again(tmp_path, monkeypatch):
    a_run(tmp_path / "one")
    with served(tmp_path) as url:
        asked(url + "/")
        monkeypatch.setattr(serving, "listing", lambda folder: pytest.fail("every run was read again"))
        assert asked(url + "/report/one/report.html")[0] == 200


BARS = {
    "data": {"values": [{"x": "a", "y": 1}, {"x": "b", "y": 2}]},
    "mark": "bar",
    "encoding": {"x": {"field": "x", "type": "nominal"}, "y": {"field": "y", "type": "quantitative"}},
}


def test_reports_share_their_scripts(browser, tmp_path):
    a_run(tmp_path / "one")
    report = tmp_path / "one" / "report.html"
    report.write_text(page([Section("A chart", chart=BARS)], title="t", subtitle="s", summary="m"))
    assert len(report.read_bytes()) > 700_000, "on disk a report is whole"
    with served(tmp_path) as url:
        asked(url + "/")
        html = asked(url + "/report/one/report.html")[1]
        assert len(html) < 50_000
        addresses = re.findall(r'<script src="(/script/[0-9a-f]{64}\.js)"></script>', html)
        assert len(addresses) == 3
        with urllib.request.urlopen(url + addresses[0]) as answer:
            assert answer.headers["Content-Type"].startswith("text/javascript")
            assert "immutable" in answer.headers["Cache-Control"]
        assert asked(url + "/script/" + "0" * 64 + ".js")[0] == 404
        assert asked(url + addresses[0], Host="evil.example")[0] == 403
        shown = browser.new_page()
        complaints = []
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.goto(url + "/report/one/report.html")
        shown.locator(".chart svg.marks").wait_for()
        assert complaints == []
        shown.close()


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with chromium() as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_sorts_filters_and_pleases_axe(browser, folder, tmp_path, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    file = tmp_path / "index.html"
    file.write_text(index_page(listing(folder), relative_link(file)))
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(file.as_uri())

    def kinds():
        return page.locator("tbody tr:visible td.kind").all_inner_texts()

    assert len(kinds()) == len(KINDS)
    found = axe.Axe().run(page).response["violations"]
    assert {v["id"]: [n["html"] for n in v["nodes"]] for v in found} == {}
    page.get_by_role("button", name="kind").click()
    assert kinds() == sorted(kinds())
    page.get_by_role("button", name="kind").click()
    assert kinds() == sorted(kinds(), reverse=True)
    page.get_by_role("button", name="rounds").click()
    rounds = page.locator("tbody tr td:nth-child(6)").evaluate_all("all => all.map(c => +c.dataset.sort)")
    assert rounds == sorted(rounds)
    page.get_by_label("Kind").select_option("run")
    assert kinds() == ["run", "run"]
    page.get_by_label("Filter by words").fill("models/models")
    assert kinds() == ["run"]
    assert page.locator("#count").inner_text() == f"1 of {len(KINDS)} shown"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
