"""The base of all settings: unknown keys are refused, values are fixed and finite."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that come from a configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
