"""The candidates of a run's report: slates of images and texts, and the page that shows them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from helpers.browser import CHROMIUM
from helpers.pages import chromium
from recurate.log.samples import as_texts
from recurate.log.schema import as_log
from recurate.report.sections import Section, page
from recurate.verbs.run.samples_section import (
    COLUMNS,
    FEWEST,
    IMAGES,
    LETTERS,
    LINES,
    NUMBERS,
    SIDE,
    TEXTS,
    WIDEST,
    slates_of,
)


def log_of(slates, k, slot=0, **columns):
    """Return a log of slates of k candidates, whose rewards are 0, 1, ...; one slot is picked in each."""
    count = slates * k
    slots = np.tile(np.arange(k), slates)
    table = {
        "round": np.full(count, 3),
        "slate": np.repeat(np.arange(slates), k),
        "slot": slots,
        "item": np.arange(count),
        "source": ["model"] * count,
        "picked": slots == slot,
        "reward": np.arange(count, dtype=float),
    }
    return as_log(pa.table(table | columns), rewards=("reward",), name="a log", several="slate" in columns)


def pixels(found):
    data = base64.b64decode(found.sheet.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_every_tile_is_its_candidate(shape):
    log = log_of(30, 3, slot=1)
    images = np.broadcast_to((np.arange(90) / 100).reshape(-1, *(1 for _ in shape)), (90, *shape))
    found = slates_of(3, images, log)
    sheet = pixels(found)
    assert found.grid == (COLUMNS, 5)
    assert found.ratio == pytest.approx(4 / 6, abs=1e-4)
    tiles = [tile for _, slate in found.slates for tile in slate]
    assert len(tiles) == 90
    for i, tile in enumerate(tiles):
        column, row = tile.place
        assert np.all(sheet[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6] == round(255 * i / 100)), (
            "the image of the row"
        )
        assert tile.rewards == f"reward {i:.3g}"
        assert tile.picked == (i % 3 == 1)
    assert found.caption.startswith("Mean reward in round 3: 44.5 of all that were picked, 44.5 of all that ")


def test_slates_are_shown_whole_up_to_a_number():
    found = slates_of(0, np.zeros((400, 2, 2)), log_of(100, 4))
    assert len(found.slates) == IMAGES // 4
    assert [heading for heading, _ in found.slates[:2]] == ["Slate 0", "Slate 1"]
    wide = slates_of(0, np.zeros((300, 2, 2)), log_of(2, 150, slot=140))
    assert [len(tiles) for _, tiles in wide.slates] == [WIDEST, WIDEST]
    assert wide.slates[0][0] == f"Slate 0 ({WIDEST} of 150 candidates)"
    assert sum(tile.picked for tile in wide.slates[0][1]) == 1, "what was picked is always among them"


def test_texts_are_shown_with_their_prompt():
    texts = as_texts([f"<b>text</b> {i} " + "x" * 700 for i in range(90)])
    found = slates_of(3, texts, log_of(30, 3, context=np.repeat([f"Question {i}" for i in range(30)], 3)))
    assert found.sheet == ""
    assert len(found.slates) == TEXTS // 3
    assert found.slates[1][0] == "Slate 1, Question 1"
    text = found.slates[1][1][0].text
    assert text.startswith("<b>text</b> 3 x")
    assert text.endswith("…")
    assert len(text) == LETTERS
    html = page([Section("The candidates", slates=(found,))], title="t", subtitle="s", summary="m")
    assert "<b>text" not in html


def test_larger_images_are_fewer_and_smaller():
    colour = slates_of(0, np.zeros((160, 32, 32, 3)), log_of(40, 4))
    assert 4 * len(colour.slates) * 32 * 32 * 3 <= NUMBERS
    assert colour.fine is False
    images = np.zeros((60, 200, 200, 3))
    images[:, :100] = 1
    large = slates_of(0, images, log_of(2, 30, slot=29))
    assert [len(tiles) for _, tiles in large.slates] == [FEWEST]
    assert large.slates[0][1][-1].picked
    assert large.fine
    sheet = pixels(large)
    assert sheet.shape == (SIDE, FEWEST * SIDE, 3)
    assert sheet[: SIDE // 2].min() == 255
    assert sheet[SIDE // 2 :].max() == 0


@pytest.mark.parametrize("scale", [255.0, -1.0])
def test_values_that_are_not_those_of_images_are_told(scale):
    images = np.random.default_rng(0).uniform(size=(8, 4, 4))
    assert "outside" not in slates_of(0, images, log_of(2, 4)).caption
    assert "of the values shown lie outside [0, 1]" in slates_of(0, scale * images, log_of(2, 4)).caption


def test_slates_without_a_pick_and_candidates_that_nobody_saw():
    slates, slots = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    unseen, picked = np.arange(12) == 4, np.arange(12) % 3 == 0
    picked[6:9] = False  # nobody answered for slate 2
    columns = {"slate": pa.array(slates, mask=unseen), "slot": pa.array(slots, mask=unseen)}
    found = slates_of(0, np.zeros((12, 2, 2)), log_of(4, 3, **columns, picked=picked))
    assert [heading for heading, _ in found.slates] == ["Slate 0", "Slate 1", "Slate 2, no pick", "Slate 3"]
    assert [tile.rewards for tile in found.slates[1][1]] == ["reward 3", "reward 5"]
    rest = [1, 2, 5, 6, 7, 8, 10, 11]
    assert f"4 of all that were picked, {np.mean(rest):.3g} of all that were not picked." in found.caption
    assert found.caption.endswith(" 1 candidate was in no slate.")


def test_texts_that_were_judged_alone_are_shown_whole():
    none = {"slate": pa.nulls(6, pa.int64()), "slot": pa.nulls(6, pa.int32())}
    texts = as_texts(["<i> " * 50 + f"end {i}" for i in range(5)] + [" \n"])
    found = slates_of(0, texts, log_of(1, 6, **none, picked=np.arange(6) == 1))
    html = page([Section("The candidates", slates=(found,))], title="t", subtitle="s", summary="m")
    assert all(html.count(f"end {i}</p>") == 1 for i in range(5))
    assert "<i>" not in html
    assert html.count("(empty)</p>") == 1
    assert html.count("✓ picked, reward 1</p>") == 1


def test_texts_are_cut_after_some_letters_or_lines():
    texts = as_texts(["short\r\ntext\n", "x" * LETTERS, "x" * (LETTERS + 1), "a\n" * 99])
    (_, tiles), *_ = slates_of(0, texts, log_of(1, 4)).slates
    wanted = ["short\ntext", "x" * LETTERS, "x" * (LETTERS - 1) + "…", "\n".join("a" * LINES) + "…"]
    assert [tile.text for tile in tiles] == wanted


def test_what_a_verifier_judged_has_no_slate():
    none = {"slate": pa.nulls(30, pa.int64()), "slot": pa.nulls(30, pa.int32())}
    log = log_of(1, 30, **none, picked=np.arange(30) >= 20)
    found = slates_of(0, np.zeros((30, 2, 2)), log)
    assert {heading for heading, _ in found.slates} == {""}
    assert [tiles[0].rewards for _, tiles in found.slates][:1] == ["reward 20"]
    html = page([Section("The candidates", slates=(found,))], title="t", subtitle="s", summary="m")
    assert 'class="tile" role="img"' in html
    assert '<button type="button" class="tile"' not in html, "there is no slate to open"


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_a_click_opens_the_slate_and_the_slider_turns_rounds(tmp_path, width, scheme, kind):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    samples = as_texts([f"text {i}" for i in range(24)]) if kind == "texts" else np.zeros((24, 8, 8))
    rounds = tuple(slates_of(t, samples, log_of(6, 4, slot=t)) for t in (0, 2, 3))
    file = tmp_path / "page.html"
    file.write_text(page([Section("The candidates", slates=rounds)], title="t", subtitle="s", summary="m"))
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown.goto(file.as_uri())
        assert shown.locator(".round:visible").count() == 1
        assert shown.locator(".turn output").inner_text() == "3", "the last round comes first"
        slider = shown.get_by_label("Round", exact=True)
        slider.focus()
        slider.press("ArrowLeft")
        assert shown.locator(".turn output").inner_text() == "2"
        assert slider.get_attribute("aria-valuetext") == "round 2"
        assert shown.locator(".slate:visible").count() == 0
        text = ": text 17" if kind == "texts" else ""  # what is seen is heard
        tile = shown.get_by_role("button", name=f"Slate 4, not picked: reward 17{text}", exact=True)
        tile.click()
        assert shown.locator(".slate:visible h3").inner_text() == "Slate 4"
        assert shown.locator(".slate:visible .candidate").count() == 4
        assert shown.locator(".slate:visible .won").inner_text().endswith("✓ picked, reward 18")
        found = axe.Axe().run(shown).response["violations"]
        assert {v["id"]: [n["html"] for n in v["nodes"]] for v in found} == {}
        tile.press("ArrowRight")
        shown.keyboard.press("Enter")
        assert shown.locator(".slate:visible h3").inner_text() == "Slate 4", "the next that was not picked"
        shown.keyboard.press("Enter")
        assert shown.locator(".slate:visible").count() == 0, "again: it closes"
        assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
