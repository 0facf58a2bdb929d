"""`load` by its old name."""  # alias until the merge

from .target import load as load
