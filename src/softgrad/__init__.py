"""Given what a softmax layer put out and ∂L/∂output: ∂L/∂input, without the Jacobian, to the last bits."""

import importlib
from types import ModuleType

from .explain import explain
from .functional import (
    cross_entropy,
    cross_entropy_with_vjp,
    entmax,
    entmax_alpha_vjp,
    entmax_double_backward,
    entmax_jvp,
    entmax_vjp,
    entmax_with_vjp,
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
    sparsemax,
    sparsemax_double_backward,
    sparsemax_jvp,
    sparsemax_vjp,
    sparsemax_with_vjp,
)
from .jacobian import softmax_jacobian
from .layers import CrossEntropy, Entmax, LogSoftmax, Softmax, Sparsemax
from .operator import SoftmaxJacobian
from .threads import get_num_threads, set_num_threads


def __getattr__(name: str) -> ModuleType:
    """`softgrad.torch`, which imports PyTorch, at its first use."""
    if name == "torch":
        return importlib.import_module(".torch", __name__)
    raise AttributeError(f"module 'softgrad' has no attribute {name!r}")


__version__ = "0.2.0"

__all__ = [
    "CrossEntropy",
    "Entmax",
    "LogSoftmax",
    "Softmax",
    "SoftmaxJacobian",
    "Sparsemax",
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
    "explain",
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
    "sparsemax",
    "sparsemax_double_backward",
    "sparsemax_jvp",
    "sparsemax_vjp",
    "sparsemax_with_vjp",
]
