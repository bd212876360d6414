"""Trained models on disk: arrays (safetensors) and a card (JSON) with their hash and all other fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from recurate.core.errors import InputError
from recurate.core.files import atomic_path, save_tensors, write_text
from recurate.core.sealed import sha256
from recurate.core.settings import Settings

FORMAT = 3  # version of the files of every kind of model

Arrays = dict[str, NDArray[Any]]


class Card(Settings):
    """The fields of a saved model that are not arrays; kinds of models add fields.

    Attributes:
        settings: Settings of the model.
        shape: Shape of one sample.
    """

    settings: Any
    shape: tuple[int, ...]


AnyCard = TypeVar("AnyCard", bound=Card)


@dataclass(frozen=True)
class Kept(Generic[AnyCard]):
    """Reader and writer of one kind of model, as ``NAME.json`` and ``NAME.safetensors`` in a folder.

    Attributes:
        name: Name of the kind, in file names and messages.
        card: Class of its card.
        remedy: Remedy in the message about a folder without such a model.
    """

    name: str
    card: type[AnyCard]
    remedy: str

    @property
    def files(self) -> tuple[str, str]:
        """File names of the card and of the arrays."""
        return f"{self.name}.json", f"{self.name}.safetensors"

    def write(self, folder: Path, card: AnyCard, arrays: Arrays) -> None:
        """Write a model to a folder, created if necessary; each file is written atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        path, weights = (folder / name for name in self.files)
        with atomic_path(weights) as partial:
            save_tensors({name: np.asarray(array, order="C") for name, array in arrays.items()}, partial)
        content = {"format": FORMAT, **card.model_dump(), "sha256": sha256(weights)}
        write_text(path, json.dumps(content, indent=2) + "\n")

    @contextmanager
    def read(self, folder: Path) -> Iterator[tuple[AnyCard, Arrays]]:
        """Yield the card and the arrays of a folder; the block builds the model from them.

        Args:
            folder: Folder that :meth:`write` filled.

        Raises:
            InputError: If a file is missing, damaged, altered or of another format, or if the block raises
                KeyError, ValueError or RuntimeError because card and arrays are inconsistent; the message
                names the file.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path, weights = (folder / name for name in self.files)
        card, digest = self._card(path)
        if not weights.is_file():
            raise self._damaged(weights, "no such file")
        if sha256(weights) != digest:
            raise self._damaged(weights, f"its SHA-256 is not the one in {path.name}")
        try:
            yield card, load_file(weights)
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise self._damaged(path, f"{weights.name} does not fit it: {first}") from None

    def _card(self, path: Path) -> tuple[AnyCard, str]:
        """Return the validated card and the SHA-256 that the arrays must have."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"there is no saved {self.name}", got=path, remedy=self.remedy) from None
        except (OSError, ValueError):
            raise self._damaged(path, "not JSON") from None
        if not isinstance(found, dict) or "format" not in found:
            raise self._damaged(path, "no format")
        version, digest = found.pop("format"), found.pop("sha256", "")
        if version != FORMAT:
            newer = isinstance(version, int) and version > FORMAT
            raise InputError(
                f"{path} was written by {'a newer' if newer else 'an older'} recurate",
                got=f"format {version}; this version reads format {FORMAT}",
                remedy="upgrade recurate" if newer else f"train the {self.name} again",
            )
        try:
            return self.card.model_validate(found), digest
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise self._damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def _damaged(self, path: Path, fault: str) -> InputError:
        return InputError(
            f"a file of the saved {self.name} is damaged or was altered",
            got=f"{path}: {fault}",
            remedy="restore it, or train it again",
        )
