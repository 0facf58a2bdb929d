"""What `softgrad.functional` calls for tensors: `dispatch.Library`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..specs import Kind, Map
from . import maps, segments
from .alpha import alpha_vjp
from .alpha import row as entmax
from .losses import cross_entropy, cross_entropy_with_vjp
from .maps import double_backward, forward
from .reductions import forward as reduce
from .reductions import vjp as reduce_vjp
from .segments import softmax as segment_softmax

__all__ = [
    "alpha_vjp",
    "cross_entropy",
    "cross_entropy_with_vjp",
    "double_backward",
    "entmax",
    "forward",
    "product",
    "reduce",
    "reduce_vjp",
    "segment_product",
    "segment_softmax",
]


def product(map: Map, kind: Kind, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    return maps.product(map, kind, y, v, "dy" if kind == "vjp" else "dx", axis, where, scale, out)


def segment_product(kind: Kind, y: Any, v: Any, offsets: Any, *, axis: Any, scale: Any, out: Any) -> Tensor:
    name = "dy" if kind == "vjp" else "dx"
    return segments.product(y, v, name, offsets, axis=axis, scale=scale, out=out)
