"""softgrad for PyTorch: the maps and their derivatives on tensors, of every order and in both modes.

To read on: functions.py (what there is), maps.py (its arguments), autograd.py (the ways a call takes, and its
derivatives), slopes.py (those of the derivatives), compute.py (tensors and kernels), registration.py (what
`torch.compile` is given); then reductions.py, losses.py and segments.py, each of which has it all on a page.
"""

from . import alpha, losses, maps, reductions, registration, segments  # noqa: F401 (what functional.dispatch uses)
from .functions import (
    cross_entropy,
    entmax,
    entropy,
    log_softmax,
    logsumexp,
    segment_softmax,
    softmax,
    sparsemax,
)
from .modules import Entmax, LogSoftmax, Softmax, Sparsemax
from .raw import (
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
from .swap import replace_softmax, swapped

__all__ = [
    "Entmax",
    "LogSoftmax",
    "Softmax",
    "Sparsemax",
    "cross_entropy",
    "entmax",
    "entmax_double_backward",
    "entmax_jvp",
    "entmax_vjp",
    "entropy",
    "log_softmax",
    "log_softmax_double_backward",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "logsumexp",
    "replace_softmax",
    "segment_softmax",
    "segment_softmax_vjp",
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_vjp",
    "sparsemax",
    "sparsemax_double_backward",
    "sparsemax_jvp",
    "sparsemax_vjp",
    "swapped",
]
