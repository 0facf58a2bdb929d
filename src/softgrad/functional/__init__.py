"""The public functions, a page for each kind: the docstring, then one dispatch on the array's type."""

# ruff: noqa: F403, F405 (each name is in the list below, and in no other)
from .cross_entropy import *
from .divergences import *
from .log_softmax import *
from .reductions import *
from .segments import *
from .sinks import *
from .softmax import *
from .sparse import *
from .sparse_losses import *

__all__ = [
    "cross_entropy",
    "cross_entropy_with_vjp",
    "entmax",
    "entmax_alpha_vjp",
    "entmax_double_backward",
    "entmax_jvp",
    "entmax_loss",
    "entmax_loss_with_vjp",
    "entmax_vjp",
    "entmax_with_vjp",
    "entropy",
    "entropy_of_probabilities",
    "entropy_of_probabilities_vjp",
    "entropy_of_probabilities_with_vjp",
    "entropy_vjp",
    "entropy_with_vjp",
    "js_divergence",
    "js_divergence_vjp",
    "js_divergence_with_vjp",
    "kl_divergence",
    "kl_divergence_vjp",
    "kl_divergence_with_vjp",
    "log_softmax",
    "log_softmax_double_backward",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "log_softmax_with_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "logsumexp_with_vjp",
    "segment_entropy",
    "segment_entropy_vjp",
    "segment_log_softmax",
    "segment_log_softmax_double_backward",
    "segment_log_softmax_jvp",
    "segment_log_softmax_vjp",
    "segment_log_softmax_with_vjp",
    "segment_logsumexp",
    "segment_logsumexp_vjp",
    "segment_softmax",
    "segment_softmax_double_backward",
    "segment_softmax_jvp",
    "segment_softmax_vjp",
    "segment_softmax_with_vjp",
    "sink_softmax",
    "sink_softmax_double_backward",
    "sink_softmax_jvp",
    "sink_softmax_vjp",
    "softmax",
    "softmax_double_backward",
    "softmax_jvp",
    "softmax_scale_vjp",
    "softmax_vjp",
    "softmax_vjp_hessian_diagonal",
    "softmax_with_vjp",
    "sparsemax",
    "sparsemax_double_backward",
    "sparsemax_jvp",
    "sparsemax_loss",
    "sparsemax_loss_with_vjp",
    "sparsemax_vjp",
    "sparsemax_with_vjp",
]
