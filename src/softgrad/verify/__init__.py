"""Whether anybody's softmax and its derivatives are right: what `softgrad verify` runs.

The checks are those of `softgrad.testing`.  To read on: target.py (the function that is meant, and how it
is called), convert.py (arrays of other libraries), peers.py (the built-in names), child.py (the process that
runs the checks), run.py, report.py and league.py.
"""

from .target import load

__all__ = ["load"]
