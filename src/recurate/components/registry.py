"""All kinds of generators: the settings that name them, the first model, and models on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from recurate.components.generators import external
from recurate.components.generators.diffusion import Diffusion, DiffusionSettings
from recurate.components.generators.external import External, ExternalSettings
from recurate.components.generators.flow import FlowMatching, FlowSettings
from recurate.components.generators.kde import KernelDensity, KernelSettings
from recurate.components.generators.mixture import Mixture, MixtureSettings
from recurate.components.protocols import Generator

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
