"""NumPy arrays: check, lay out, call the kernels on the CPU.

`run` is the way to the kernels for all of it; `maps` has what the maps of the family have in common.
"""

from . import alpha, losses, maps, reductions, segments

__all__ = ["alpha", "losses", "maps", "reductions", "segments"]
