"""The few things that all PyTorch code here shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from recurate.core.errors import InputError


def import_torch() -> ModuleType:
    """Return torch, or say how to install it."""
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
    """Return a device that exists: ``auto`` takes a GPU where there is one."""
    torch = import_torch()
    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    if name == "auto":
        return gpu or "cpu"
    if name != "cpu" and name.split(":")[0] != gpu:
        raise InputError("there is no such device here", got=name, remedy="use 'auto' or 'cpu'")
    return name


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use ``count`` CPU threads inside; small networks are fastest on one."""
    torch = import_torch()
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
