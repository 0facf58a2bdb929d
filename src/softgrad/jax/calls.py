"""What `dispatch.Library` asks for, of JAX arrays."""

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
    "double_backward",
    "entmax",
    "forward",
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
