"""What `dispatch.Library` asks for, of JAX arrays."""

from .divergences import (
    divergence,
    divergence_vjp,
    entropy_of_probabilities,
    entropy_of_probabilities_vjp,
    fenchel_young,
    fenchel_young_with_vjp,
    hessian_diagonal,
)
from .losses import cross_entropy, cross_entropy_with_vjp
from .maps import (
    alpha_vjp,
    double_backward,
    entmax,
    forward,
    product,
    reduce,
    reduce_vjp,
    segment_double_backward,
    segment_forward,
    segment_product,
    segment_reduce,
    segment_reduce_vjp,
)
from .sinks import mean, scale_vjp, sink_double_backward, sink_product, sink_softmax, vjp_of_mean

__all__ = [
    "alpha_vjp",
    "cross_entropy",
    "cross_entropy_with_vjp",
    "divergence",
    "divergence_vjp",
    "double_backward",
    "entmax",
    "entropy_of_probabilities",
    "entropy_of_probabilities_vjp",
    "fenchel_young",
    "fenchel_young_with_vjp",
    "forward",
    "hessian_diagonal",
    "mean",
    "product",
    "reduce",
    "reduce_vjp",
    "scale_vjp",
    "segment_double_backward",
    "segment_forward",
    "segment_product",
    "segment_reduce",
    "segment_reduce_vjp",
    "sink_double_backward",
    "sink_product",
    "sink_softmax",
    "vjp_of_mean",
]
