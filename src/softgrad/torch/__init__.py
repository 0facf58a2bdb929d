"""softgrad for PyTorch."""

from . import registration as _registration
