"""Given what a softmax layer put out and ∂L/∂output: ∂L/∂input, without the Jacobian, to the last bits."""

from .functional import (
    entmax,
    entmax_alpha_vjp,
    entmax_double_backward,
    entmax_jvp,
    entmax_vjp,
    entmax_with_vjp,
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
from .layers import Entmax, Softmax, Sparsemax
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Entmax",
    "Softmax",
    "Sparsemax",
    "entmax",
    "entmax_alpha_vjp",
    "entmax_double_backward",
    "entmax_jvp",
    "entmax_vjp",
    "entmax_with_vjp",
    "get_num_threads",
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
