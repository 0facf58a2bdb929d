"""Parts of oracle.py, bounds.py and errors.py by their old names."""  # alias until the merge

from .bounds import log_jvp_bound as jvp_bound
from .bounds import log_vjp_bound as vjp_bound
from .errors import ulps_above_1
from .oracle import axes_of, log_softmax, powers, sums
from .oracle import log_jvp as jvp
from .oracle import log_vjp as vjp

__all__ = ["axes_of", "jvp", "jvp_bound", "log_softmax", "powers", "sums", "ulps_above_1", "vjp", "vjp_bound"]
