"""`softgrad.kernels.gpu` is `softgrad.gpu` now; the old name goes with 0.3."""

import sys
import warnings

from . import gpu

warnings.warn("softgrad.kernels.gpu is softgrad.gpu now", DeprecationWarning, stacklevel=2)
sys.modules[f"{__name__}.gpu"] = gpu
