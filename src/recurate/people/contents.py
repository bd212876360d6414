"""What a cell of a file shows: a text, an image or points."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError
from recurate.log.reading.values import plain_text
from recurate.people.ballots import Candidate

CONTENT = (
    "text", "sample", "response", "completion", "output", "answer", "candidate", "image", "file", "path",
)  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
SAID = ("content", "value")  # keys of what a message says
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
        if isinstance(value, dict):
            value, more = _of_object(value, where)
            own = more | own
        if isinstance(value, list):
            if not (value and isinstance(value[0], dict)):
                return Candidate(slot, "points", json.dumps(_points(value, where)), own)
            value = conversation(value, where)
        if isinstance(value, bytes) or (isinstance(value, str) and self._is_file(value)):
            image = as_png(value if isinstance(value, bytes) else _file(self._base, value, where), where)
            digest = hashlib.sha256(image).hexdigest()
            self.images[digest] = image
            return Candidate(slot, "image", digest, own)
        text = plain_text(value)  # 3.0 is 3, as a column with other numbers or empty cells makes it 3.0
        if not text.strip():
            raise InputError("a candidate is empty", got=where, remedy="correct it, or leave its row out")
        return Candidate(slot, "text", text, own)

    def _is_file(self, value: str) -> bool:
        """Return whether a value names a file; among texts it does only if the file is there."""
        if not _like_a_file(value):
            return False
        if self._files or (self._base / value).is_file():
            return True
        self.unlike += 1
        return False


def conversation(messages: Sequence[dict[str, Any]], where: str) -> str:
    """Return messages as text; who said what is told where there are several.

    Raises:
        InputError: If a message does not say what was said, or not as text.
    """
    texts = [_content(message, where) for message in messages]
    if len(texts) == 1:
        return texts[0]
    speakers = [m.get("role") or m.get("from") or "?" for m in messages]
    return "\n\n".join(f"**{who}:** {text}" for who, text in zip(speakers, texts, strict=True))


def _content(message: dict[str, Any], where: str) -> str:
    said = [message[name] for name in SAID if message.get(name) is not None]
    if said and isinstance(said[0], str):
        return said[0]
    if not said and any(name in message for name in SAID):
        return ""  # as where an assistant calls a tool
    raise InputError(
        "a message of a conversation has no text",
        got=f"keys {', '.join(map(str, message))} in {where}",
        remedy="give each message a role and a content that is text",
    )


def _of_object(value: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Return what an object shows, and its other values, which are not shown: the model, its scores.

    Raises:
        InputError: If it does not tell what is shown.
    """
    name = next((n for n in (*CONTENT, "content", "bytes") if value.get(n) not in (None, "")), None)
    if name is None:
        raise InputError(
            "a candidate is an object that does not tell what is shown",
            got=f"keys {', '.join(map(str, value))} in {where}",
            remedy=f"name the key that is shown {CONTENT[0]}",
        )
    beside = {n: v for n, v in value.items() if n not in (name, "role", "bytes", "path") and is_plain(v)}
    return value[name], beside


def is_plain(value: Any) -> bool:
    """Return whether a value is kept beside a candidate: a number, a text, yes or no, or nothing."""
    return isinstance(value, bool | int | float | str | None)


def _points(value: list[Any], where: str) -> list[list[float]]:
    """Return a point, or a list of them, as a list of pairs."""
    points = value if value and isinstance(value[0], list) else [value]
    try:
        found = [[float(x) for x in p] for p in points]
        if not found or any(len(p) != 2 or not all(map(math.isfinite, p)) for p in found):
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            "a candidate is a list that is neither a point of two coordinates nor a list of them",
            got=f"{str(value)[:80]} in {where}",
            remedy="show texts, images, or points (x, y)",
        ) from None
    return found


def _like_a_file(value: str) -> bool:
    return value.lower().endswith(PICTURES) and "\n" not in value


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
