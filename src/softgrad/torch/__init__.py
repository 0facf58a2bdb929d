"""softgrad for PyTorch: the maps and their derivatives on tensors, of every order and in both modes.

A call runs from functions.py (the signatures) to calls.py (the checks), ops.py (autograd; register.py has
registered operators and transforms), backend.py (memory) and the kernels; of a small contiguous tensor from
functions.py to fast_path.py.  composites.py has the derivatives of derivatives; losses.py, divergences.py,
sparse_losses.py, segments.py and sinks.py have all of theirs, private.py has the private parts of PyTorch.
"""

from .derivatives import (
    entmax_double_backward,
    entmax_jvp,
    entmax_vjp,
    log_softmax_double_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    segment_softmax_vjp,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
    sparsemax_double_backward,
    sparsemax_jvp,
    sparsemax_vjp,
)
from .functions import (
    cross_entropy,
    entmax,
    entropy,
    log_softmax,
    logsumexp,
    segment_entropy,
    segment_log_softmax,
    segment_logsumexp,
    segment_softmax,
    sink_softmax,
    softmax,
    sparsemax,
)
from .nn import Entmax, LogSoftmax, Softmax, Sparsemax
from .objectives import (
    entmax_loss,
    entropy_of_probabilities,
    js_divergence,
    kl_divergence,
    softmax_vjp_hessian_diagonal,
    sparsemax_loss,
)
from .patch import register_attention, replace_softmax, swapped

__all__ = [
    "Entmax",
    "LogSoftmax",
    "Softmax",
    "Sparsemax",
    "cross_entropy",
    "entmax",
    "entmax_double_backward",
    "entmax_jvp",
    "entmax_loss",
    "entmax_vjp",
    "entropy",
    "entropy_of_probabilities",
    "js_divergence",
    "kl_divergence",
    "log_softmax",
    "log_softmax_double_backward",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "logsumexp",
    "register_attention",
    "replace_softmax",
    "segment_entropy",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "segment_softmax_vjp",
    "sink_softmax",
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_vjp",
    "softmax_vjp_hessian_diagonal",
    "sparsemax",
    "sparsemax_double_backward",
    "sparsemax_jvp",
    "sparsemax_loss",
    "sparsemax_vjp",
    "swapped",
]
