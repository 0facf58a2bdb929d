"""Parts of operations.py and bounds.py by their old names."""  # alias until the merge

from .bounds import curvature_tight as curvature_allowed
from .operations import derivative as slope

__all__ = ["curvature_allowed", "slope"]
