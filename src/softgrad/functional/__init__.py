"""The public functions, a page for each kind: the docstring, then one dispatch on the array's type."""

from .cross_entropy import cross_entropy, cross_entropy_with_vjp
from .log_softmax import (
    log_softmax,
    log_softmax_double_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    log_softmax_with_vjp,
)
from .reductions import entropy, entropy_vjp, entropy_with_vjp, logsumexp, logsumexp_vjp, logsumexp_with_vjp
from .segments import segment_softmax, segment_softmax_jvp, segment_softmax_vjp, segment_softmax_with_vjp
from .softmax import softmax, softmax_double_backward, softmax_jvp, softmax_vjp, softmax_with_vjp
from .sparse import (
    entmax,
    entmax_alpha_vjp,
    entmax_double_backward,
    entmax_jvp,
    entmax_vjp,
    entmax_with_vjp,
    sparsemax,
    sparsemax_double_backward,
    sparsemax_jvp,
    sparsemax_vjp,
    sparsemax_with_vjp,
)

__all__ = [
    "cross_entropy",
    "cross_entropy_with_vjp",
    "entmax",
    "entmax_alpha_vjp",
    "entmax_double_backward",
    "entmax_jvp",
    "entmax_vjp",
    "entmax_with_vjp",
    "entropy",
    "entropy_vjp",
    "entropy_with_vjp",
    "log_softmax",
    "log_softmax_double_backward",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "log_softmax_with_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "logsumexp_with_vjp",
    "segment_softmax",
    "segment_softmax_jvp",
    "segment_softmax_vjp",
    "segment_softmax_with_vjp",
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
