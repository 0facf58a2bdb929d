"""The public functions, a page for each map: the docstring, then one dispatch on the array's type."""

from .softmax import (
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    softmax_with_vjp,
)

__all__ = [
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_vjp",
    "softmax_with_vjp",
]
