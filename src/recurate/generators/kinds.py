"""All kinds of generators: the settings that name them, the first model, and models on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from recurate.generators import external
from recurate.generators.diffusion import Diffusion, DiffusionSettings
from recurate.generators.external import External, ExternalSettings
from recurate.generators.flow import FlowMatching, FlowSettings
from recurate.generators.kernels import KernelDensity, KernelSettings
from recurate.generators.mixture import Mixture, MixtureSettings
from recurate.generators.protocol import Generator

AnySettings = FlowSettings | DiffusionSettings | MixtureSettings | KernelSettings | ExternalSettings
GeneratorSettings = Annotated[AnySettings, Field(discriminator="kind")]

MODELS: dict[type, Any] = {  # those that need nothing but their settings
    FlowSettings: FlowMatching,
    DiffusionSettings: Diffusion,
    MixtureSettings: Mixture,
    KernelSettings: KernelDensity,
}


def first_model(settings: AnySettings, workspace: Path | None = None, logs: Path | None = None) -> Generator:
    """Return the model before round 0: an untrained one, or the one to begin with.

    Args:
        settings: of the generator.
        workspace: where an external generator exchanges files and keeps new checkpoints.
        logs: where its programs' output is kept.

    Raises:
        InputError: an external generator's first checkpoint is not there.
    """
    if isinstance(settings, ExternalSettings):
        return replace(external.first(settings), workspace=workspace, logs=logs)
    model: Generator = MODELS[type(settings)](settings)
    return model


def load_model(
    settings: AnySettings, folder: Path, workspace: Path | None = None, logs: Path | None = None
) -> Generator:
    """Return the model that was saved in a folder; see :func:`first_model`."""
    if isinstance(settings, ExternalSettings):
        return replace(External.load(folder), workspace=workspace, logs=logs)
    model: Generator = MODELS[type(settings)].load(folder)
    return model
