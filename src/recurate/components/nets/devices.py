"""Import of PyTorch, and the choice of its device and its number of threads."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from recurate.core.errors import InputError


def import_torch() -> ModuleType:
    """Return the module torch.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise InputError(
            "this needs PyTorch, which is not installed",
            got="no module named torch",
            remedy="pip install 'recurate[run]'",
        ) from None
    return torch


def choose_device(name: str) -> str:
    """Return the name of a device of this machine; ``auto`` is a GPU if there is one, else the CPU.

    Raises:
        InputError: If this machine has no such device.
    """
    torch = import_torch()
    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    if name == "auto":
        return gpu or "cpu"
    if name != "cpu" and name.split(":")[0] != gpu:
        raise InputError("this machine has no such device", got=name, remedy="use 'auto' or 'cpu'")
    return name


def device_name(device: str) -> str:
    """Return the description of a device, such as ``cuda (NVIDIA H100)`` or ``cpu (x86_64)``."""
    if device.startswith("cuda"):
        return f"{device} ({import_torch().cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()})"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Make PyTorch use ``count`` CPU threads within the block; small networks are fastest with one."""
    torch = import_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
