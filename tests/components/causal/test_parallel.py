"""Training in several processes: the same weights but for rounding, and what is said when a process ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from recurate.components.generators.language import Language, LanguageSettings
from recurate.core.errors import Diverged, InputError
from recurate.core.seeds import Stream
from recurate.log.samples import as_texts

pytest.importorskip("transformers", reason="pip install 'recurate[run,text]'")
pytestmark = pytest.mark.slow  # every process imports PyTorch and transformers

TEXTS = as_texts([f"{w} {n}" for n in range(12) for w in ("red fox", "blue", "a green bird sings", "no")])


def settings(**training) -> LanguageSettings:
    return LanguageSettings(
        kind="language",
        scratch={"layers": 1, "width": 16, "heads": 2, "vocabulary": 280, "window": 32},
        sample={"longest": 12},
        training={"first_epochs": 3, "batch": 12, "micro": 4, "learning_rate": 3e-3} | training,
        device="cpu",
    )


def trained(**training) -> Language:
    return settings(**training).build().fit(TEXTS, rng=Stream(3), real=len(TEXTS))


def weights(model: Language) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.model.state_dict().items()}


def children() -> list[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(p) for p in path.read_text(encoding="ascii").split()]


def test_two_processes_take_the_steps_of_one():
    """Sums of gradients in another order differ by rounding, of 1e-7 relative per step."""
    one, two, again = (weights(trained(processes=p)) for p in (1, 2, 2))
    first = weights(settings().build().fit(TEXTS[:1], rng=Stream(3), real=1))
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(again[name], two[name], err_msg=name)
    assert any(np.abs(one[n] - first[n]).max() > 1e-3 for n in one if first[n].shape == one[n].shape)


def test_a_process_may_have_no_pass_in_a_step():
    """Twelve sequences in passes of twelve: the second process adds zeros."""
    one, two = (weights(trained(micro=12, processes=p)) for p in (1, 2))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-5, err_msg=name)


def test_training_that_diverges_says_so():
    with pytest.raises(Diverged, match="learning_rate = 1e"):
        trained(processes=2, learning_rate=1e30, clip=1e30)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are listed by Linux")
def test_a_killed_process_is_an_error_and_leaves_none_behind():
    before = set(children())

    def kill() -> None:
        while True:
            for child in set(children()) - before:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if b"spawn_main" in command:
                    os.kill(child, signal.SIGKILL)
                    return
            time.sleep(0.05)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(InputError, match="one of 2 training processes ended before its time"):
        trained(processes=2, first_epochs=200)
    assert not [c for c in set(children()) - before if b"spawn_main" in _command(c)]


def _command(child: int) -> bytes:
    try:
        return Path(f"/proc/{child}/cmdline").read_bytes()
    except OSError:
        return b""
