"""Real data for runs: fixed arrays that are split into training data and held-out data."""

from recurate.components.data.dataset import Dataset
from recurate.components.data.digits import Digits
from recurate.components.data.images import ImageData
from recurate.components.data.queries import Queries
from recurate.components.data.synthetic import Gaussians, Moons, Uniform
from recurate.components.data.table import TableData

__all__ = ["Dataset", "Digits", "Gaussians", "ImageData", "Moons", "Queries", "TableData", "Uniform"]
