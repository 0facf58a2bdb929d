"""Alias until the merge: `softgrad.checks` has these."""

from .checks import Reduction, reduction, smoothing, weights_or_classes

__all__ = ["Reduction", "reduction", "smoothing", "weights_or_classes"]
