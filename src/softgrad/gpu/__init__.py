"""The maps and their derivatives on CUDA tensors, by Triton kernels.

The functions are those of `softgrad` for NumPy arrays, with the same names, options and error bounds, on
torch tensors of one shape, dtype and device.  Arguments are not checked: that is for `softgrad.torch`, whose
registered operators call these.  CPU tensors are taken where Triton interprets its kernels
(``TRITON_INTERPRET=1``).

Read rows.py first (the formulas), then elements.py (tiles) and exp.py; long.py (the same on long lines);
sparse.py (entmax); launch.py (how tensors are cut into tiles, and kernels launched); functions.py.
"""

import functools
from typing import Any

from torch import Tensor

from .functions import double_backward, forward, product

softmax = functools.partial(forward, "softmax")
softmax_vjp = functools.partial(product, "softmax", "vjp")
softmax_jvp = functools.partial(product, "softmax", "jvp")
softmax_double_backward = functools.partial(double_backward, "softmax")

log_softmax = functools.partial(forward, "log_softmax")
log_softmax_vjp = functools.partial(product, "log_softmax", "vjp")
log_softmax_jvp = functools.partial(product, "log_softmax", "jvp")
log_softmax_double_backward = functools.partial(double_backward, "log_softmax")

sparsemax = functools.partial(forward, "sparsemax", alpha=2.0)
sparsemax_vjp = functools.partial(product, "sparsemax", "vjp", alpha=2.0)
sparsemax_jvp = functools.partial(product, "sparsemax", "jvp", alpha=2.0)
sparsemax_double_backward = functools.partial(double_backward, "sparsemax", alpha=2.0)


def entmax(x: Tensor, alpha: float = 1.5, **options: Any) -> Tensor:
    return forward(of_alpha(alpha), x, alpha=alpha, **options)


def entmax_vjp(y: Tensor, dy: Tensor, alpha: float = 1.5, **options: Any) -> Tensor:
    return product(of_alpha(alpha), "vjp", y, dy, alpha=alpha, **options)


def entmax_jvp(y: Tensor, dx: Tensor, alpha: float = 1.5, **options: Any) -> Tensor:
    return product(of_alpha(alpha), "jvp", y, dx, alpha=alpha, **options)


def entmax_double_backward(
    y: Tensor, dy: Tensor, v: Tensor, alpha: float = 1.5, **options: Any
) -> tuple[Tensor, Tensor]:
    return double_backward(of_alpha(alpha), y, dy, v, alpha=alpha, **options)


def of_alpha(alpha: float) -> str:
    """The map that entmax is."""
    return {1.0: "softmax", 2.0: "sparsemax"}.get(alpha, "entmax")
