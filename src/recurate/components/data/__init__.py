"""Real data for runs: fixed arrays, split into a training part and a held-out part."""

from recurate.components.data.dataset import Dataset
from recurate.components.data.digits import Digits
from recurate.components.data.images import ImageData
from recurate.components.data.synthetic import Gaussians, Moons
from recurate.components.data.table import TableData

__all__ = ["Dataset", "Digits", "Gaussians", "ImageData", "Moons", "TableData"]
