"""The base class of settings: unknown keys, other types, NaN and infinities are rejected."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from recurate.core.fingerprints import Fingerprint


class Settings(BaseModel):
    """Settings from a configuration file.

    They are immutable. Unknown keys, values of another type, NaN and infinities are rejected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        """Reject true, "7" and 2.0 where a whole number is expected: TOML is typed."""
        if isinstance(values, dict):
            for name, field in cls.model_fields.items():
                value, kind = values.get(name), field.annotation
                whole = kind in (int, int | None)
                wrong = isinstance(value, bool | str) or (whole and isinstance(value, float))
                if value is not None and (whole or kind in (float, float | None)) and wrong:
                    wanted = "a whole number" if whole else "a number"
                    raise ValueError(f"{name} must be {wanted}, got {value!r}")
        return values

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the files, sources and packages that the settings name.

        Args:
            serves: Part of the configuration that holds these settings, such as ``rewards.helpful``.
        """
        return []
