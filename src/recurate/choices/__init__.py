"""From picks to rewards: choice tables, estimates with their evidence, tests of the choice model."""

from recurate.choices.existence import NoEstimate
from recurate.choices.groups import ClassFit, latent_classes
from recurate.choices.logit import LogitFit, conditional_logit
from recurate.choices.luce import ItemFit, item_rewards
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
