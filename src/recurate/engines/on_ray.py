"""Ray as an engine: shards are tasks of a cluster, which are done again where a worker or a node is lost.

A task takes the name of a function and a shard. Before it imports anything of recurate it compares the
versions of its machine with the caller's, because other versions may give other numbers.
"""

from __future__ import annotations

import importlib
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError, RecurateError, need
from recurate.core.fingerprints import versions
from recurate.engines.needs import ONE, Needs

RETRIES = 4  # how often a task is done again after its worker has died
AHEAD = 1000  # largest number of tasks that a cluster is given at a time
LOOPBACK = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # With "0", Ray binds to 127.0.0.1, here on Linux as well: no other machine takes part.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass
class OnRay:
    """Processes shards as tasks of a Ray cluster.

    Attributes:
        workers: Number of shards that are processed at a time; None: as many as the cluster has cores for.
        address: ``ray://HOST:PORT`` or ``HOST:PORT``; None: the one that RAY_ADDRESS names, or a new local
            cluster, which only this machine can reach.
    """

    workers: int | None = None
    address: str | None = None
    _ours: bool = field(default=False, init=False, repr=False)

    def map(self, function: Callable[[Any], Any], shards: Sequence[Any], needs: Needs = ONE) -> Iterator[Any]:
        """Yield function(shard) for every shard, in the order of the shards.

        Raises:
            InputError: If Ray is not installed, there is no such cluster, it has another version of Ray,
                Python, recurate or a library, or a shard lost its worker RETRIES + 1 times.
        """
        if not shards:
            return
        ray = self._connected(needs)
        task = ray.remote(_task()).options(num_cpus=needs.cpus, num_gpus=needs.gpus, max_retries=RETRIES)
        known = ray.put((versions(), str(Path.cwd()), f"{function.__module__}:{function.__qualname__}"))
        running: deque[Any] = deque()
        begun = 0
        # After an error tasks that were begun end, or are ended with the connection. Ray 2.60 can abort the
        # whole process where a task is cancelled.
        for done in range(len(shards)):
            while begun < len(shards) and len(running) < (self.workers or AHEAD):
                running.append(task.remote(known, shards[begun]))
                begun += 1
            yield _result(ray, running.popleft(), f"{done + 1} of {len(shards)}")

    def start(self, needs: Needs) -> None:
        """Connect to the cluster, or start one; see :meth:`map`."""
        self._connected(needs)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._ours:
            _import_ray().shutdown()
        self._ours = False

    def _connected(self, needs: Needs) -> Any:
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            for name, value in LOOPBACK.items():  # before Ray is imported
                os.environ.setdefault(name, value)
        else:
            _check_reachable(address)
        ray = _import_ray()
        if not ray.is_initialized():  # by this engine, or by the program that called recurate
            self._init(ray, address, needs)
        found = ray.cluster_resources().get("GPU", 0)
        if address is None and needs.gpus > found:
            raise InputError(
                "this machine has too few GPUs for a shard",
                got=f"engine.gpus = {needs.gpus:g}; Ray found {found:g}",
                remedy="lower engine.gpus, or name a cluster: --engine ray://HOST:PORT",
            )
        return ray

    def _init(self, ray: Any, address: str | None, needs: Needs) -> None:
        cores = self.workers or max(int((os.cpu_count() or 1) // needs.cpus), 1)
        local = {
            "num_cpus": math.ceil(cores * needs.cpus),
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
        given: dict[str, Any] = {"address": address} if address else {"address": "local", **local}
        if not address:  # Ray read the variable when it was imported, perhaps before it was set here
            constants: Any = importlib.import_module("ray._private.ray_constants")
            constants.ENABLE_RAY_CLUSTER = False
        try:
            ray.init(log_to_driver=False, configure_logging=False, **given)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise _refused(address, str(error)) from None
        self._ours = True


def _import_ray() -> Any:
    need(["ray"], "the engine ray", "pip install 'recurate[ray]'")
    import ray

    return ray


def _check_reachable(address: str) -> None:
    """Try the address, because Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # such as "auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _refused(address, str(error)) from None


def _refused(address: str | None, message: str) -> InputError:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "ersion mismatch" in message:
        return InputError(
            "the Ray cluster has another version of Ray or Python",
            got="; ".join(lines),
            remedy="install the same versions here and on the cluster",
        )
    return InputError(
        "a local Ray cannot be started" if address is None else "the Ray cluster cannot be reached",
        got="; ".join([*([address] if address else []), *lines[:3]]),
        remedy="see Ray's logs in /tmp/ray"
        if address is None
        else "check the address and that it is up; set RAY_AUTH_MODE=token if it asks for a token",
    )


def _result(ray: Any, reference: Any, which: str) -> Any:
    try:
        found = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RecurateError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise InputError(
            f"Ray could not finish shard {which}, and tried {RETRIES + 1} times",
            got=f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}",
            remedy="give the command again, with --resume for a run: finished shards are kept; if workers "
            "were out of memory, use fewer of them or lower engine.shard",
        ) from None
    if "refused" in found:
        what, got, remedy = found["refused"]
        raise InputError(what, got=got, remedy=remedy)
    return found["done"]


def _task() -> Callable[[Any, Any], dict[str, Any]]:
    """Return the task. It is sent by value, so that it also runs where there is no recurate, and says so."""

    def task(known: Any, shard: Any) -> dict[str, Any]:
        import importlib
        import os
        import platform
        import sys
        from importlib import metadata

        def version(name: str) -> str | None:
            try:
                return platform.python_version() if name == "python" else metadata.version(name)
            except metadata.PackageNotFoundError:
                return None

        wanted, folder, function = known
        here = f"node {platform.node()}"
        other = {name: version(name) for name in wanted}
        different = [
            f"{n} {other[n] or 'absent'}, not {v or 'absent'}" for n, v in wanted.items() if other[n] != v
        ]
        if different:
            what = "a node of the Ray cluster has other versions, which may give other numbers"
            return {
                "refused": (what, f"{here}: {'; '.join(different)}", "install the same versions on all nodes")
            }
        try:
            os.chdir(folder)  # paths in configurations are relative to it
        except OSError as error:
            what = "a node of the Ray cluster does not have the current folder"
            return {"refused": (what, f"{here}: {error}", "work in a folder that all nodes share")}
        module, _, name = function.partition(":")
        if folder not in sys.path:
            sys.path.append(folder)
        try:
            found = getattr(importlib.import_module(module), name)
        except ImportError as error:
            what = "a node of the Ray cluster cannot import what it should do"
            return {"refused": (what, f"{here}: {error}", "install recurate[run] on all nodes")}
        return {"done": found(shard)}

    return task
