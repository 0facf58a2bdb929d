"""The public functions, a page for each map: the docstring, then one dispatch on the array's type."""

from .entmax import (
    entmax,
    entmax_alpha_vjp,
    entmax_double_backward,
    entmax_jvp,
    entmax_vjp,
    entmax_with_vjp,
)
from .softmax import (
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    softmax_with_vjp,
)
from .sparsemax import (
    sparsemax,
    sparsemax_double_backward,
    sparsemax_jvp,
    sparsemax_vjp,
    sparsemax_with_vjp,
)

__all__ = [
    "entmax",
    "entmax_alpha_vjp",
    "entmax_double_backward",
    "entmax_jvp",
    "entmax_vjp",
    "entmax_with_vjp",
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_vjp",
    "softmax_with_vjp",
    "sparsemax",
    "sparsemax_double_backward",
    "sparsemax_jvp",
    "sparsemax_vjp",
    "sparsemax_with_vjp",
]
