"""Alias until the merge: `softgrad.checks` has these."""

from .checks import Reduction, reduction, smoothing

__all__ = ["Reduction", "reduction", "smoothing"]
