"""Settings of a server that samples from a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from recurate.components.serving.client import Endpoint
from recurate.core.fingerprints import Fingerprint, of_command
from recurate.core.programs import check_placeholders


class ServerSettings(Endpoint):
    """An OpenAI-compatible server that samples, and how it gets the weights of every round."""

    model: str | None = Field(
        None, description="name by which the server knows the first model; if absent, generator.model"
    )
    api: Literal["completions", "chat"] = Field(
        "completions",
        description="'completions': prompts are sent as the token ids that training uses; 'chat': as a "
        "user's message, to which the server applies its chat template",
    )
    choices: int = Field(8, ge=1, le=10_000, description="largest number of completions per request")
    load: Literal["vllm-lora", "path", "command", "none"] = Field(
        description="how the server gets new weights: 'vllm-lora': adapters by vLLM's API; 'path': requests "
        "name the folder of the weights as the model; 'command': a program is run; 'none': it gets none"
    )
    command: tuple[str, ...] = Field(
        (),
        description="for load = 'command': program that makes the server use the weights in {checkpoint}, as "
        "a list of words; {name}, the name that requests will have, {url} and {python} are also available",
    )
    load_timeout: float = Field(
        600.0,
        gt=0,
        le=10**6,
        description="time limit of the command, and until the server answers, in seconds",
    )

    @model_validator(mode="after")
    def _command_where_needed(self) -> Self:
        if bool(self.command) != (self.load == "command"):
            raise ValueError("give command with load = 'command', and only then")
        if self.command:
            check_placeholders(self.command, ("checkpoint", "name", "url"), ("checkpoint",))
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the files that the command names."""
        return of_command(serves, self.command, Path()) if self.command else []
