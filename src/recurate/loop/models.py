"""The tables ``[[models]]`` of a configuration: several models that train on each other's picks.

All of them have the run's data, generator, rewards, selection and retraining; each has a name, the rewards
that judge its slates, and a row of shares: whose picks it is trained on. Zhang, Wei and Zhang 2026, arXiv
2605.29267; the law is that of :mod:`recurate.theory.several_models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator, model_validator

from recurate.core.errors import InputError, nearest
from recurate.core.settings import Settings
from recurate.log.models_folder import MODEL_COLUMN
from recurate.theory.models_forecast import Model, as_models, check_model, columns_of


class ModelSettings(Settings):
    """One of several models that train on each other's picks; all else in the configuration is common."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$",
        description="name of the model, and of its folder in the run's",
    )
    rewards: tuple[str, ...] = Field(
        min_length=1, description="names of the rewards that judge its slates, each the same share of them"
    )
    trains_on: dict[str, float] = Field(
        {},
        description="share of each model's picks among those it is trained on, by name; they sum to one; "
        "its own picks alone if absent",
    )

    @field_validator("rewards", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, values: Any) -> Any:
        """Check shares before pydantic takes "0.5" and true for numbers; none: its own picks alone."""
        if (
            not isinstance(values, dict)
            or not {"name", "rewards"} <= values.keys() <= cls.model_fields.keys()
        ):
            return values  # what pydantic itself refuses
        model = check_model(values, f"model {values['name']!r}")
        return values | {"trains_on": dict(model.trains_on)}

    @property
    def plain(self) -> Model:
        """These settings as the theory's model."""
        return Model(self.name, self.rewards, self.trains_on)


def check_models(models: Sequence[ModelSettings], rewards: Sequence[str]) -> None:
    """Check that models have different names, train on one another, and are judged by the run's rewards.

    Args:
        models: the models.
        rewards: names of the run's rewards.

    Raises:
        InputError: If they do not, names differ in case alone (folders may not), or no model uses a reward.
    """
    found = as_models([model.model_dump() for model in models], "models")
    folded = [model.name.casefold() for model in found]
    if len(set(folded)) < len(folded):
        raise InputError(
            "names of models differ in case alone, and their folders may not",
            got=", ".join(model.name for model in found),
            remedy="rename one of them",
        )
    if MODEL_COLUMN in rewards:
        raise InputError(
            f"a reward of several models cannot be called {MODEL_COLUMN!r}: their log has such a column",
            got=MODEL_COLUMN,
            remedy="rename it",
        )
    used = columns_of(found)
    for model in found:
        for name in model.rewards:
            if name not in rewards:
                raise InputError(
                    f"model {model.name!r} is judged by a reward that there is not",
                    got=name,
                    remedy=nearest(name, rewards),
                )
    idle = [name for name in rewards if name not in used]
    if idle:
        raise InputError(
            "no model's slates are judged by a reward",
            got=idle[0],
            remedy="name it in a model's rewards, or measure it under [[tracked]]",
        )
