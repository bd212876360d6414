"""Configurations to begin with: what the package brings, and its writing."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from recurate.core.errors import InputError, nearest
from recurate.core.files import write_text

FOLDER = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Template:
    """A configuration to begin with.

    Attributes:
        about: What it runs, in a few words.
        needs: Extras of the package that its run requires.
        begin: Command that begins it; ``{file}`` stands for the configuration.
        program: File that it calls, which is written beside it; "" for none.
    """

    about: str
    needs: str = "run"
    begin: str = "recurate run {file}"
    program: str = ""


TEMPLATES = {
    "digits": Template("handwritten digits, a picker that likes threes, 30 % of real data"),
    "texts": Template("a small language model, a topic that crowds out the others", "run,text"),
    "external": Template("a model of yours behind two commands", program="external_model.py"),
    "people": Template("people pick digits in a browser", "run,people", "recurate serve {file} --open"),
}


def text_of(name: str, path: Path) -> str:
    """Return a template as the text of the configuration ``path``.

    Raises:
        InputError: If the path has characters, such as line breaks, that would end a comment.
    """
    if not str(path).isprintable():
        raise InputError(
            "the path has characters that cannot be printed", got=repr(str(path)), remedy="name another file"
        )
    template = TEMPLATES[name]
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    folder = json.dumps(path.parent.as_posix(), ensure_ascii=False)[1:-1]  # quotes are escaped as TOML has it
    for placeholder, value in {
        "file": shlex.quote(path.as_posix()),  # in commands to copy
        "folder": folder,
        "program": template.program,
    }.items():
        text = text.replace(f"{{{placeholder}}}", value)
    return text


def write_template(name: str, path: Path, *, force: bool = False) -> list[Path]:
    """Write a configuration, and the program that it calls beside it.

    Args:
        name: Name of the template.
        path: File to write.
        force: Whether to replace files that exist.

    Returns:
        The files that were written.

    Raises:
        InputError: If there is no such template, a file exists and ``force`` is False, or a path is a folder.
    """
    if name not in TEMPLATES:
        raise InputError(
            "there is no such configuration to begin with",
            got=name,
            remedy=f"{nearest(name, TEMPLATES)}; recurate init --list describes them",
        )
    texts = {path: text_of(name, path)}
    if program := TEMPLATES[name].program:
        texts[path.with_name(program)] = (FOLDER / program).read_text(encoding="utf-8")
    for file, text in texts.items():
        _check_free(file, text, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write_text(file, text)
    return list(texts)


def _check_free(path: Path, text: str, *, force: bool) -> None:
    """Check that a file does not exist, or has this text already."""
    if path.is_dir():
        raise InputError("--out names a folder", got=path, remedy=f"name a file: --out {path}/loop.toml")
    if path.exists() and not force and path.read_bytes() != text.encode():
        raise InputError(
            "this file exists", got=path, remedy="name another one: --out FILE, or replace it: --force"
        )
