r"""LaTeX formulas of docstrings as HTML, which shows on any page without a script.

Only what most docstrings use is known; anything else is an error, so that no formula is half translated.

>>> to_html(r"\rho\,p_\mathrm{ref} + (1-\rho)\,p_t")
'<i>ρ</i> <i>p</i><sub>ref</sub> + (1−<i>ρ</i>) <i>p</i><sub><i>t</i></sub>'
"""

from __future__ import annotations

import html
import re

TOKEN = re.compile(r"\\[a-zA-Z]+ ?|\\.|[{}_^]|[a-zA-Z]|[^\\{}_^a-zA-Z]")
LETTERS = {
    "Phi": "Φ", "alpha": "α", "beta": "β", "delta": "δ", "ell": "ℓ", "epsilon": "ε", "eta": "η",
    "gamma": "γ", "lambda": "λ", "mu": "μ", "omega": "ω", "phi": "φ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "varphi": "φ", "xi": "ξ",
}  # fmt: skip
SIGNS = {
    "approx": "≈", "cdot": "·", "dots": "…", "ge": "≥", "in": "∈", "infty": "∞", "int": "∫", "le": "≤",
    "mid": "|", "ne": "≠", "notin": "∉", "pm": "±", "prod": "∏", "propto": "∝", "sim": "∼", "sum": "∑",
    "times": "×", "to": "→", "top": "⊤", "|": "‖", "{": "{", "}": "}",
    "qquad": "\u2003\u2003", "quad": "\u2003", ",": " ", ";": " ", " ": " ",
}  # fmt: skip
WORDS = {"exp", "ln", "log", "max", "min"}
UPRIGHT = {"text", "mathrm"}
ACCENTS = {"bar": "\u0304", "hat": "\u0302"}


def to_html(formula: str) -> str:
    """Return a formula as HTML.

    Raises:
        ValueError: It has a command that is not known, or braces that do not match.
    """
    tokens = TOKEN.findall(" ".join(formula.split()))
    shown, rest = _sequence(tokens, closed=False)
    if rest:
        raise ValueError(f"braces do not match: {formula}")
    return re.sub(r" *(\u2003+) *", r"\1", re.sub(r" {2,}", " ", shown)).strip()


def _sequence(tokens: list[str], *, closed: bool) -> tuple[str, list[str]]:
    """Return the HTML up to the end or, if ``closed``, to the brace that closes; and the tokens after it."""
    shown = ""
    while tokens and tokens[0] != "}":
        if tokens[0] in ("_", "^"):
            tag = "sub" if tokens[0] == "_" else "sup"
            inner, tokens = _item(tokens[1:])
            shown = f"{shown.rstrip()}<{tag}>{inner}</{tag}>"
        else:
            inner, tokens = _item(tokens)
            shown += inner
    if closed:
        if not tokens:
            raise ValueError("a brace is not closed")
        return shown, tokens[1:]
    return shown, tokens


def _item(tokens: list[str]) -> tuple[str, list[str]]:
    """Return the HTML of a letter, a sign, a group in braces or a command, and the tokens after it."""
    if not tokens:
        raise ValueError("a formula ends too early")
    first, rest = tokens[0], tokens[1:]
    if first == "{":
        return _sequence(rest, closed=True)
    if not first.startswith("\\"):
        return f"<i>{first}</i>" if first.isalpha() else html.escape(first.replace("-", "−")), rest
    return _command(first[1:].rstrip() or " ", rest, " " if first.endswith(" ") and len(first) > 2 else "")


def _command(name: str, rest: list[str], space: str) -> tuple[str, list[str]]:
    """Return the HTML of a command, with the space that followed it, and the tokens after its arguments."""
    if name in LETTERS:
        return f"<i>{LETTERS[name]}</i>{space}", rest
    if name in SIGNS:
        return SIGNS[name] + space, rest
    if name in WORDS:
        return name + (space or "\u2009"), rest
    if name in UPRIGHT:
        shown, rest = _item(rest)
        return re.sub(r"</?i>", "", shown), rest
    if name in ACCENTS:
        shown, rest = _item(rest)
        return shown.replace("</i>", f"{ACCENTS[name]}</i>", 1), rest
    if name == "sqrt":
        shown, rest = _item(rest)
        return f"√{_grouped(shown)}", rest
    if name == "frac":
        above, rest = _item(rest)
        below, rest = _item(rest)
        return f"{_grouped(above)} / {_grouped(below)}", rest
    raise ValueError(f"the command \\{name} is not known in docs/formulas.py")


def _grouped(shown: str) -> str:
    """Return HTML in parentheses unless it is one letter or number."""
    return shown if len(re.sub(r"<sub>.*?</sub>|<[^>]*>", "", shown)) <= 1 else f"({shown})"
