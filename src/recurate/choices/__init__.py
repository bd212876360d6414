"""From picks to rewards: choice tables, estimates with their evidence, and tests of the choice model."""

from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.items import ItemFit, item_rewards
from recurate.choices.models.latent_classes import ClassFit, latent_classes
from recurate.choices.models.logit import LogitFit, conditional_logit
from recurate.choices.table import Choices

__all__ = [
    "Choices",
    "ClassFit",
    "ItemFit",
    "LogitFit",
    "NoEstimate",
    "conditional_logit",
    "item_rewards",
    "latent_classes",
]
