"""The installed version of recurate."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("recurate")
except PackageNotFoundError:  # a checkout on the path that was never installed
    VERSION = "0+unknown"
