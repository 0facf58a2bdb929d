"""operations.py by its old name."""  # alias until the merge

from .operations import *  # noqa: F403
