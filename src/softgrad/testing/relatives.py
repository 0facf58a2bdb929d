"""mutants.py by its old name."""  # alias until the merge

from .mutants import *  # noqa: F403
