"""Pages as HTML: templates, and charts with their places. Scripts are inside the page: it opens offline."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

SCRIPTS = ("vega", "vega-lite", "vega-embed")


def place(specs: list[tuple[str, str]], spec: dict[str, Any]) -> str:
    """Add a chart to ``specs`` and return the id of its place."""
    identity = f"chart-{len(specs)}"
    text = json.dumps(spec, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
    specs.append((identity, text))
    return identity


def render(template: str, **values: Any) -> str:
    """Return a page made from one of the templates beside this module."""
    import jinja2

    folder = resources.files("recurate.report")
    loader = jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, loader=loader)
    return environment.get_template(template).render(**values, scripts=_scripts())


@cache
def _scripts() -> list[str]:
    """Return Vega's JavaScript, without the comments that would make browsers look for source maps."""
    folder = resources.files("recurate.report").joinpath("assets")
    found = [folder.joinpath(f"{name}.min.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return [re.sub(r"//# sourceMappingURL=\S+", "", text).replace("</script", "<\\/script") for text in found]
