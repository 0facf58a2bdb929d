"""The public functions, a page for each map: the docstring, then one dispatch on the array's type."""

from .cross_entropy import cross_entropy, cross_entropy_with_vjp
from .segment_softmax import (
    segment_softmax,
    segment_softmax_jvp,
    segment_softmax_vjp,
    segment_softmax_with_vjp,
)
from .softmax import (
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    softmax_with_vjp,
)

__all__ = [
    "cross_entropy",
    "cross_entropy_with_vjp",
    "segment_softmax",
    "segment_softmax_jvp",
    "segment_softmax_vjp",
    "segment_softmax_with_vjp",
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_vjp",
    "softmax_with_vjp",
]
