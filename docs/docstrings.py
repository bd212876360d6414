"""Docstrings for the site, as Markdown. A Griffe extension."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))  # Griffe loads this file by its path
from blocks import blocks


class Blocks(griffe.Extension):
    """Make blocks that Markdown knows of those that Sphinx knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = blocks(obj.docstring.value)
