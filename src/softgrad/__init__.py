"""Given what a softmax layer put out and ∂L/∂output: ∂L/∂input, without the Jacobian, to the last bits."""

from .functional import (
    cross_entropy,
    cross_entropy_with_vjp,
    entropy,
    entropy_vjp,
    entropy_with_vjp,
    log_softmax,
    log_softmax_double_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    log_softmax_with_vjp,
    logsumexp,
    logsumexp_vjp,
    logsumexp_with_vjp,
    segment_softmax,
    segment_softmax_jvp,
    segment_softmax_vjp,
    segment_softmax_with_vjp,
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    softmax_with_vjp,
)
from .jacobian import softmax_jacobian
from .layers import CrossEntropy, LogSoftmax, Softmax
from .operator import SoftmaxJacobian
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "CrossEntropy",
    "LogSoftmax",
    "Softmax",
    "SoftmaxJacobian",
    "cross_entropy",
    "cross_entropy_with_vjp",
    "entropy",
    "entropy_vjp",
    "entropy_with_vjp",
    "get_num_threads",
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
    "set_num_threads",
    "softmax",
    "softmax_double_backward",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "softmax_with_vjp",
]
