"""Given what a softmax layer put out and ∂L/∂output: ∂L/∂input, without the Jacobian, to the last bits."""

from .functional import (
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    softmax_with_vjp,
)
from .jacobian import softmax_jacobian
from .layers import Softmax
from .operator import SoftmaxJacobian
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Softmax",
    "SoftmaxJacobian",
    "get_num_threads",
    "set_num_threads",
    "softmax",
    "softmax_double_backward",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "softmax_with_vjp",
]
