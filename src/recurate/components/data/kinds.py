"""All kinds of real data, by the settings that name them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recurate.components.data.digits import Digits
from recurate.components.data.images import ImageData
from recurate.components.data.synthetic import Gaussians, Moons
from recurate.components.data.table import TableData

DataSettings = Annotated[Gaussians | Moons | Digits | TableData | ImageData, Field(discriminator="kind")]
