"""errors.py by its old name."""  # alias until the merge

from .errors import *  # noqa: F403
