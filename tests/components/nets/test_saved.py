"""Trained models on disk: what comes back, and what is refused."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from recurate.components.generators.kde import KernelSettings
from recurate.components.generators.mixture import MixtureSettings
from recurate.components.nets.saved import FORMAT, Card, Kept
from recurate.components.registry import first_model, load_model
from recurate.core.errors import InputError
from recurate.core.seeds import Stream


class Tuned(Card):
    """A card with a field of its own."""

    pitch: float


VIOLIN = Kept("violin", Tuned, "name a case with a violin")
CARD = Tuned(settings={"strings": 4}, shape=(2, 3), pitch=0.1 + 0.2)
ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # stored column by column
    "strided": np.arange(10.0)[::3],
    "count": np.array(7),
    "none": np.zeros((0, 2), np.float32),
}


def written(folder):
    VIOLIN.write(folder, CARD, ARRAYS)
    return folder / "violin.json", folder / "violin.safetensors"


def read(folder):
    with VIOLIN.read(folder) as found:
        return found


def test_cards_and_arrays_come_back(tmp_path):
    written(tmp_path / "a" / "case")
    card, arrays = read(tmp_path / "a" / "case")
    assert card == CARD
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_equal_models_have_equal_bytes(tmp_path):
    first = [path.read_bytes() for path in written(tmp_path / "a")]
    VIOLIN.write(tmp_path / "b", CARD, dict(reversed(ARRAYS.items())))
    assert [(tmp_path / "b" / name).read_bytes() for name in VIOLIN.files] == first
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(VIOLIN.files)


def changed(**changes):
    def damage(card, arrays):
        card.write_text(json.dumps(json.loads(card.read_text()) | changes))

    return damage


def forged(content):
    """Give other arrays, and the card their hash."""

    def damage(card, arrays):
        arrays.write_bytes(content)
        changed(sha256=hashlib.sha256(content).hexdigest())(card, arrays)

    return damage


def flipped(card, arrays):
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)


DAMAGE = {
    "no card": (lambda card, arrays: card.unlink(), "violin.json", "no saved violin"),
    "no arrays": (lambda card, arrays: arrays.unlink(), "violin.safetensors", "no such file"),
    "a bit": (flipped, "violin.safetensors", "SHA-256"),
    "half a card": (lambda card, arrays: card.write_text(card.read_text()[:30]), "violin.json", "not JSON"),
    "a list": (lambda card, arrays: card.write_text("[]"), "violin.json", "no format"),
    "newer": (changed(format=FORMAT + 1), "violin.json", "a newer recurate"),
    "older": (changed(format=FORMAT - 1), "violin.json", "an older recurate"),
    "odd format": (changed(format=[]), "violin.json", "format"),
    "no hash": (changed(sha256=None), "violin.safetensors", "SHA-256"),
    "unknown key": (changed(tone=1), "violin.json", "tone"),
    "wrong type": (changed(pitch="low"), "violin.json", "pitch"),
    "no arrays in it": (forged(b"nothing"), "violin.json", "does not fit"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_named(how, tmp_path):
    damage, name, message = DAMAGE[how]
    damage(*written(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("error", [KeyError("bow"), ValueError("too large"), RuntimeError("no strings")])
def test_card_and_arrays_must_fit_together(error, tmp_path):
    written(tmp_path)
    with pytest.raises(InputError, match="does not fit") as caught, VIOLIN.read(tmp_path):
        raise error
    assert str(error) in caught.value.got
    with pytest.raises(ZeroDivisionError), VIOLIN.read(tmp_path):
        raise ZeroDivisionError


@pytest.mark.parametrize("settings", [KernelSettings(), MixtureSettings(components=2)])
def test_generators_that_were_altered_are_refused(settings, tmp_path):
    data = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    first_model(settings).fit(data, rng=Stream(0)).save(tmp_path)
    card = tmp_path / "generator.json"
    text = card.read_text()
    for changes, message in (
        ({"shape": [3]}, "for a scaler of 2"),
        ({"settings": {"kind": "flow"}}, "does not fit"),
    ):
        changed(**changes)(card, None)
        with pytest.raises(InputError, match=message):
            load_model(settings, tmp_path)
        card.write_text(text)
    flipped(card, tmp_path / "generator.safetensors")
    with pytest.raises(InputError, match="SHA-256"):
        load_model(settings, tmp_path)
