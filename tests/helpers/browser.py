"""A real browser, where there is one, that draws reports."""

from __future__ import annotations

import json
import re
import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=20000", "--dump-dom",
]  # fmt: skip
PROBE = """<script>
setTimeout(() => { document.title = document.documentElement.scrollWidth + " " + window.innerWidth; }, 4000);
</script></body>"""


def check_charts(html: str) -> None:
    """Check every chart of a page against Vega-Lite's schema.

    Raises:
        jsonschema.ValidationError: one is not valid.
    """
    from altair.vegalite.v6.schema.core import Root

    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, flags=re.S)
    assert specs
    for spec in specs:
        Root.validate(json.loads(spec))
