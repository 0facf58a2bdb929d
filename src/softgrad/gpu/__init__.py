"""The maps and their derivatives on CUDA tensors, by Triton kernels.

The functions are those of `softgrad` for NumPy arrays, with the same names, options and error bounds, on
torch tensors of one shape, dtype and device.  Arguments are not checked: that is for `softgrad.torch`, whose
registered operators call these.  CPU tensors are taken where Triton interprets its kernels
(``TRITON_INTERPRET=1``).

To read on: places.py (what a tile is), sums.py, mean.py, vjp.py; then exp.py and softmax.py; parts.py (long
lines); lines.py, tiles.py and walk.py (how tensors are cut into tiles, and kernels launched), calls.py.
"""

from .functions import (
    entmax,
    entmax_double_backward,
    entmax_jvp,
    entmax_vjp,
    log_softmax,
    log_softmax_double_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    sparsemax,
    sparsemax_double_backward,
    sparsemax_jvp,
    sparsemax_vjp,
)

__all__ = [
    "entmax",
    "entmax_double_backward",
    "entmax_jvp",
    "entmax_vjp",
    "log_softmax",
    "log_softmax_double_backward",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_vjp",
    "sparsemax",
    "sparsemax_double_backward",
    "sparsemax_jvp",
    "sparsemax_vjp",
]
