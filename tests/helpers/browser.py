"""A real browser, where there is one, that draws reports."""

from __future__ import annotations

import functools
import json
import re
import shutil
from typing import Any
from urllib.parse import quote

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
    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, flags=re.S)
    assert specs
    for spec in specs:
        _validator().validate(json.loads(spec))


def check_chart(spec: dict[str, Any]) -> None:
    """Check one chart against Vega-Lite's schema; errors are those of :func:`check_charts`."""
    _validator().validate(spec)


@functools.cache
def _validator() -> Any:
    """Return the schema's validator; Altair's own copies the whole schema for every chart."""
    import jsonschema
    from altair.vegalite.v6.schema.core import Root

    def quoted(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: "#" + quote(v[1:]) if k == "$ref" else quoted(v) for k, v in value.items()}
        return [quoted(v) for v in value] if isinstance(value, list) else value

    return jsonschema.validators.validator_for(Root._rootschema)(quoted(Root._rootschema))
