"""How a server gets the weights of a round: by vLLM's API, by name, or by a command of the user's."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recurate.components.serving.client import Bad, Client, Reply
from recurate.components.serving.settings import ServerSettings
from recurate.core.errors import InputError
from recurate.core.files import write_text
from recurate.core.programs import Program
from recurate.core.sealed import sha256


@dataclass(frozen=True)
class Weights:
    """The weights that a server is to use.

    Attributes:
        digest: Hash of the weights, 16 characters.
        path: Folder of the weights, or the name of a model on the hub.
        first: Name of the model that the server began with.
        trained: Whether they were trained here.
    """

    digest: str
    path: str
    first: str
    trained: bool

    def name(self, server: ServerSettings) -> str:
        """Return the name of the model in requests."""
        own = f"recurate-{self.digest}"
        if server.load == "command":
            return own if any("{name}" in word for word in server.command) else server.model or self.path
        if server.load == "path":
            return self.path if self.trained else server.model or self.path
        return own if self.trained and server.load == "vllm-lora" else server.model or self.first


def digest_of(parts: Sequence[str]) -> str:
    """Return the digest of weights that consist of parts."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def write_weights(model: Any, tokenizer: Any, place: Path, base: Sequence[str] | None) -> Path:
    """Write weights to a folder that is named by their digest, and return it.

    Args:
        model: Model of transformers, perhaps with adapters.
        tokenizer: Its tokenizer.
        place: Folder of the new folder.
        base: If adapters are written alone, digests of the model that they belong to; None: they are merged
            into the weights.
    """
    partial = Path(tempfile.mkdtemp(prefix=".", dir=place))
    if base is None and hasattr(model, "peft_config"):
        model = copy.deepcopy(model).merge_and_unload()
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    if base is None:
        config = copy.deepcopy(model.generation_config)
        config.do_sample = True  # without it, some servers ignore the temperature
        config.save_pretrained(partial)
    target = place / digest_of([*map(sha256, sorted(partial.glob("*.safetensors"))), *(base or ())])
    partial.chmod(0o755)  # the server may be another user's
    try:
        os.replace(partial, target)
    except OSError:
        shutil.rmtree(partial)
        if not target.exists():  # else another process was faster
            raise
    return target


def load_weights(
    client: Client,
    server: ServerSettings,
    weights: Weights,
    probe: Mapping[str, Any],
    folder: Path,
    log: Path,
) -> None:
    """Make the server use the weights, unless it does since this round began.

    Args:
        client: Connection to the server.
        server: Its settings.
        weights: The weights.
        probe: Request for one token, by which a server shows that it has started.
        folder: Folder of this round, which several processes may share.
        log: File that the command's output is appended to.

    Raises:
        InputError: If the server refuses the weights, the command fails, or no answer comes in time.
    """
    if server.load in ("none", "path") or (server.load == "vllm-lora" and not weights.trained):
        return
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "loaded.lock"):
        loaded = folder / "loaded.json"  # one server has one model: the last that was loaded
        if loaded.exists() and json.loads(loaded.read_text(encoding="utf-8")) == weights.digest:
            return
        if server.load == "vllm-lora":
            _adapters(client, weights.name(server), weights.path)
        else:
            loaded.unlink(missing_ok=True)
            _command(client, server, weights, probe, log)
        write_text(loaded, json.dumps(weights.digest))


def _adapters(client: Client, name: str, path: str) -> None:
    """Load adapters by vLLM's API; the same ones may be loaded already."""

    def read(reply: Reply) -> None:
        if reply.status == 400 and "already been loaded" in reply.words():
            return
        if reply.status in (404, 405):
            raise InputError(
                "the server cannot load adapters",
                got=f"HTTP {reply.status} for {client.endpoint.url}/load_lora_adapter",
                remedy="start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or use "
                "another generator.server.load",
            )
        client.checked(reply)

    client.ask("/load_lora_adapter", {"lora_name": name, "lora_path": path}, read)


def _command(
    client: Client, server: ServerSettings, weights: Weights, probe: Mapping[str, Any], log: Path
) -> None:
    """Run the command, then wait until the server answers under the name of the weights."""
    program = Program("generator.server.command", server.command, Path(), server.load_timeout, retries=0)
    name = weights.name(server)
    program.run({"checkpoint": weights.path, "name": name, "url": server.url}, log, check=lambda: None)
    path = "/chat/completions" if "messages" in probe else "/completions"
    content = json.dumps({**probe, **server.body, "model": name}).encode()
    end = time.monotonic() + server.load_timeout
    while True:
        try:
            client.checked(client.send("POST", path, content)).json()
            return
        except (Bad, InputError) as error:
            words = error.got if isinstance(error, InputError) else str(error)
        if time.monotonic() > end:
            raise InputError(
                f"the server {server.url} does not answer as {name!r} after generator.server.command",
                got=words,
                remedy=f"see the command's output in {log}, or raise generator.server.load_timeout",
            )
        client.wait(1.0)
