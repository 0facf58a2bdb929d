"""The public functions, a page for each map: the docstring, then one dispatch on the array's type."""

from .log_softmax import (
    log_softmax,
    log_softmax_double_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    log_softmax_with_vjp,
)
from .softmax import (
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    softmax_with_vjp,
)

__all__ = [
    "log_softmax",
    "log_softmax_double_backward",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "log_softmax_with_vjp",
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_vjp",
    "softmax_with_vjp",
]
