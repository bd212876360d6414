"""Draw the README's picture, docs/images/forecast.png: ``python docs/picture.py [OUT]``; and the gallery's.

It makes the report of the README's second command and photographs its beginning in the system's Chromium,
which Playwright drives (both come with ``./run test``). Run it again after a change of the report's looks.
``python docs/picture.py --gallery`` draws the charts of commands that the gallery shows; those of runs are
copied from ``FOLDER/figures``, which ``recurate report FOLDER --figures`` writes.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

import recurate
from recurate.core.files import atomic_path

OUT = Path(__file__).parent / "images" / "forecast.png"
WIDTH, CHARTS, COLOURS = 1000, 4, 64  # in pixels; charts that are shown; colours of the palette


def report(folder: Path) -> Path:
    """Return the report's file."""
    forecast = recurate.forecast(
        "example:best-of-4", group="style", track="tokens", real_fraction=0.5, rounds=5
    )
    forecast.save(folder)
    return folder / "report.html"


def photograph(page: Path) -> bytes:
    """Return the page down to the end of the CHARTS-th chart, as PNG."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        view.goto(page.as_uri())
        drawn = view.locator(".chart").filter(has=view.locator("svg, canvas"))
        drawn.nth(CHARTS - 1).wait_for()
        ends = "charts => charts.map(x => (x.closest('.card') || x).getBoundingClientRect().bottom)"
        bottom = max(view.eval_on_selector_all(".chart", ends)[:CHARTS])
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": bottom + 12}
        found = view.screenshot(full_page=True, clip=clip)
        browser.close()
    return found


def gallery() -> None:
    """Write the charts of commands, as SVG."""
    results = {
        "forecast": recurate.forecast("example:best-of-4", group="style", real_fraction=0.5, rounds=5),
        "plan": recurate.plan("example:best-of-4", group="style", entropy=0.95, rounds=4),
        "fit": recurate.fit("example:two-groups"),
    }
    chosen = ("shares", "Objective against diversity", "rewards")
    for (name, result), chart in zip(results.items(), chosen, strict=True):
        with atomic_path(OUT.parent / "gallery" / f"{name}.svg") as target:
            result.plot(chart).save(str(target), format="svg")


def main() -> None:
    """Write the picture with a palette, which makes it a third as large."""
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=OUT, metavar="OUT")
    parser.add_argument("--gallery", action="store_true")
    asked = parser.parse_args()
    if asked.gallery:
        gallery()
        return
    with tempfile.TemporaryDirectory() as folder:
        picture = Image.open(io.BytesIO(photograph(report(Path(folder)))))
    with atomic_path(asked.out) as target:
        picture.convert("RGB").quantize(COLOURS).save(target, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
