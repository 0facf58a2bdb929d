"""Given what a softmax layer put out and ∂L/∂output: ∂L/∂input, without the Jacobian, to the last bits."""

import importlib
from types import ModuleType

from . import functional
from .explain import explain
from .functional import *  # noqa: F403
from .jacobian import SoftmaxJacobian, softmax_jacobian
from .layers import (
    CrossEntropy,
    Entmax,
    EntmaxLoss,
    JSDivergence,
    KLDivergence,
    LogSoftmax,
    SegmentLogSoftmax,
    SegmentSoftmax,
    SinkSoftmax,
    Softmax,
    Sparsemax,
    SparsemaxLoss,
)
from .threads import get_num_threads, set_num_threads


def __getattr__(name: str) -> ModuleType:
    """`softgrad.torch`, which imports PyTorch, and `softgrad.jax`, at their first use."""
    if name in ("torch", "jax"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'softgrad' has no attribute {name!r}")


__version__ = "0.2.0"

__all__ = [
    "CrossEntropy",
    "Entmax",
    "EntmaxLoss",
    "JSDivergence",
    "KLDivergence",
    "LogSoftmax",
    "SegmentLogSoftmax",
    "SegmentSoftmax",
    "SinkSoftmax",
    "Softmax",
    "SoftmaxJacobian",
    "Sparsemax",
    "SparsemaxLoss",
    "explain",
    "get_num_threads",
    "set_num_threads",
    "softmax_jacobian",
]
__all__ += functional.__all__
