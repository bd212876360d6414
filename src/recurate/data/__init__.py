"""Real data for runs: fixed arrays, split into a training part and a held-out part."""

from recurate.data.dataset import Dataset
from recurate.data.digits import Digits
from recurate.data.images import ImageData
from recurate.data.kinds import DataSettings
from recurate.data.synthetic import Gaussians, Moons
from recurate.data.table import TableData

__all__ = ["DataSettings", "Dataset", "Digits", "Gaussians", "ImageData", "Moons", "TableData"]
