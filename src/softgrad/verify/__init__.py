"""Whether anybody's softmax and its derivatives are right: what `softgrad verify` runs.

The checks are those of `softgrad.testing`.  Here is what brings a function to them: finding it, giving it
arrays of its own library, a process of its own in which it may crash, and telling what came out.
"""

from .loading import load

__all__ = ["load"]
