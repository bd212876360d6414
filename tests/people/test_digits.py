"""A whole loop on handwritten digits, picked in a real browser, whose server is killed in the middle."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("fastapi", reason="pip install 'recurate[people]'")
pytest.importorskip("playwright", reason="pip install playwright")

from helpers.browser import CHROMIUM
from helpers.pages import Served, chromium
from recurate.log.samples import load_samples
from recurate.loop.run_folder import RunFolder
from recurate.people.asked import png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
]
SLATES, ROUNDS = 6, 3
CONFIG = f"""
seed = 0
rounds = {ROUNDS - 1}

[data]
kind = "digits"

[generator]
kind = "flow"
width = 48
first_steps = 300
steps = 40
ode_steps = 3

[classifier]
width = 16
steps = 60

[[rewards]]
kind = "classifier"
score = "probability"
label = "3"

[selection]
by = "people"
k = 4
slates = {SLATES}
picks = {SLATES}

[retraining]
real_fraction = 0.5
"""


def clicked(page, choose) -> list[str]:
    """Answer all questions of a round, and return the digests of the images that were clicked."""
    found = []
    while len(found) < SLATES:
        page.wait_for_selector(".candidate img", timeout=120_000)
        images = [i.get_attribute("src") for i in page.locator(".candidate img").all()]
        place = len(found) % len(images)
        found.append(re.findall("[0-9a-f]{64}", images[place])[0])
        before = page.locator("#count").inner_text()
        choose(place)
        changed = "b => document.getElementById('count').innerText !== b"
        page.wait_for_function(changed, arg=before, timeout=60_000)
    return found


def logged(run: Path, t: int) -> list[str]:
    """Return the digests of the images that a round's log has as picked, in the order of its slates."""
    folder = run / "rounds" / f"{t:03d}"
    log = pq.read_table(next(folder.glob("log*.parquet"))).to_pandas()
    picked = log[log.picked & (log.source == "model")].sort_values("slate")
    samples = load_samples(folder)
    return [hashlib.sha256(png(samples[item])).hexdigest() for item in picked.item]


def test_three_rounds_are_picked_in_a_browser(tmp_path):
    (tmp_path / "loop.toml").write_text(CONFIG, encoding="utf-8")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "recurate", "run", "loop.toml", "--out", "run"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 4, first.stderr
    resume = [sys.executable, "-m", "recurate", "run", "--resume", "run", "--wait"]
    loop = subprocess.Popen(resume, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    served = Served(run, "--open")
    try:
        with chromium() as browser:
            page = browser.new_context().new_page()
            page.goto(served.url)
            page.get_by_role("button", name="Begin").click()
            rounds = [clicked(page, lambda place: page.keyboard.press(str(place + 1)))]

            def with_the_mouse(place: int) -> None:
                if place == 2:  # the server dies as the pick is on its way, and is started again
                    served.kill()
                    page.get_by_role("button", name=f"Pick {place + 1}").click()
                    served.start()
                else:
                    page.get_by_role("button", name=f"Pick {place + 1}").click()

            rounds.append(clicked(page, with_the_mouse))
            page.set_viewport_size({"width": 390, "height": 844})
            rounds.append(clicked(page, lambda place: page.locator(".candidate img").nth(place).click()))
            page.wait_for_selector("#done:visible", timeout=120_000)
        assert loop.wait(timeout=300) == 0
    finally:
        loop.kill()
        served.kill()
    for t, own in enumerate(rounds):
        assert sorted(logged(run, t)) == sorted(own), t
    store = RunFolder.open(run)
    assert [store.counts(t)["trained_on_picks"] for t in range(ROUNDS)] == [0, SLATES, SLATES]
    assert (run / "report.html").exists()
