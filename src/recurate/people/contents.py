"""What a cell of a file shows: a text, an image or points."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError
from recurate.people.ballots import Candidate

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
LARGEST = 4096  # pixels per side of an image that is kept; larger ones are made smaller
OF_FILES = ("image", "images", "file", "files", "path", "paths")  # columns whose values name files


class Contents:
    """Makes candidates of the values of one column, or of columns that belong together.

    Args:
        base: Folder that file names are relative to.
        names: Columns of the values.
        values: All values, by which it is decided whether they name files.

    Attributes:
        images: Images as PNG by digest.
        unlike: Number of texts that end like a picture's name, and name no file.
    """

    def __init__(self, base: Path, names: Iterable[str], values: Iterable[Any]) -> None:
        texts = [v for v in values if isinstance(v, str) and v.strip()]
        named = any(n.lower().rstrip("0123456789_ ") in OF_FILES for n in names)
        self._files = named or (bool(texts) and all(_like_a_file(v) for v in texts))
        self._base = base
        self.images: dict[str, bytes] = {}
        self.unlike = 0

    def candidate(self, slot: int, value: Any, own: dict[str, Any], where: str) -> Candidate:
        """Return a candidate.

        Args:
            slot: Its slot.
            value: What is shown.
            own: Its own values, such as rewards.
            where: The slate in messages.

        Raises:
            InputError: If there is nothing to show, or an image cannot be read.
        """
        if isinstance(value, dict):  # a message of a conversation, or an image of a data set
            value = value.get("content") or value.get("bytes") or value.get("path") or json.dumps(value)
        if isinstance(value, list):
            if value and isinstance(value[0], dict):
                value = "\n\n".join(str(part.get("content", "")) for part in value)
            else:
                points = value if value and isinstance(value[0], list) else [value]
                return Candidate(slot, "points", json.dumps([[float(x) for x in p[:2]] for p in points]), own)
        if isinstance(value, bytes) or (isinstance(value, str) and self._is_file(value)):
            image = as_png(value if isinstance(value, bytes) else _file(self._base, value, where), where)
            digest = hashlib.sha256(image).hexdigest()
            self.images[digest] = image
            return Candidate(slot, "image", digest, own)
        if value is None or not str(value).strip():
            raise InputError("a candidate is empty", got=where, remedy="correct it, or leave its row out")
        return Candidate(slot, "text", _text(value), own)

    def _is_file(self, value: str) -> bool:
        """Return whether a value names a file; among texts it does only if the file is there."""
        if not _like_a_file(value):
            return False
        if self._files or (self._base / value).is_file():
            return True
        self.unlike += 1
        return False


def _like_a_file(value: str) -> bool:
    return value.lower().endswith(PICTURES) and "\n" not in value


def _text(value: Any) -> str:
    """Return a value as text; 3.0 is 3, as a column with other numbers or empty cells makes it 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _file(base: Path, name: str, where: str) -> bytes:
    path = (base / name).resolve()
    if not path.is_relative_to(base.resolve()):
        raise InputError(
            "an image lies outside the folder of its file", got=f"{name} in {where}", remedy="move it there"
        )
    try:
        return path.read_bytes()
    except OSError:
        raise InputError(
            "a candidate's image is missing", got=f"{name} in {where}", remedy=f"put it into {base}"
        ) from None


def as_png(data: bytes, where: str) -> bytes:
    """Return an image as PNG, without anything that its file said besides its pixels."""
    from PIL import Image

    from recurate.core.limits import check_memory

    try:
        with Image.open(io.BytesIO(data)) as image:
            check_memory("an image", 4.0 * image.width * image.height, "use a smaller one")
            image.thumbnail((LARGEST, LARGEST))
            file = io.BytesIO()
            image.convert("RGBA" if "A" in image.getbands() else "RGB").save(file, "PNG")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            "a candidate's image cannot be read", got=f"{where}: {error}", remedy="save it as PNG or JPEG"
        ) from None
    return file.getvalue()
