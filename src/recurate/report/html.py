"""HTML pages from templates, with placeholders for charts. Scripts are embedded, so pages open offline."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

CODE = re.compile(r"`([^`\n]+)`")
SCRIPTS = ("vega", "vega-lite", "vega-embed")


def place(specs: list[tuple[str, str]], spec: dict[str, Any]) -> str:
    """Add a chart to a page and return the id of the element that it fills.

    Args:
        specs: Ids and JSON specifications of the page's charts, to which this one is appended.
        spec: Vega-Lite specification of the chart.
    """
    identity = f"chart-{len(specs)}"
    text = json.dumps(spec, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
    specs.append((identity, text))
    return identity


def render(template: str, **values: Any) -> str:
    """Return the HTML of a page from a template, with Vega's scripts if it has charts (``specs``).

    Args:
        template: File name of a template beside this module.
        values: Values of the template's variables.
    """
    scripts = _scripts() if values.get("specs") else []
    return _environment().get_template(template).render(**values, scripts=scripts)


def render_plain(template: str, **values: Any) -> str:
    """Return the HTML of a page without charts, and so without Vega's scripts, from a template."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    """Return the templates, each compiled when first used."""
    import jinja2

    folder = resources.files("recurate.report")
    loader = jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8"))
    made = jinja2.Environment(autoescape=True, trim_blocks=True, loader=loader)
    made.filters["coded"] = coded
    return made


def coded(text: str) -> Any:
    """Return a text as HTML in which words between backticks, such as `recurate plan`, are code."""
    from markupsafe import Markup, escape

    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))


@cache
def _scripts() -> list[str]:
    """Return Vega's JavaScript without the comments that make browsers request source maps."""
    folder = resources.files("recurate.report").joinpath("assets")
    found = [folder.joinpath(f"{name}.min.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return [re.sub(r"//# sourceMappingURL=\S+", "", text).replace("</script", "<\\/script") for text in found]
