"""A real browser, where there is one, that draws reports."""

from __future__ import annotations

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
