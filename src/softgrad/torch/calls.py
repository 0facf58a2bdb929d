"""What `softgrad.functional` calls for tensors, as the functions of softgrad.torch do: checks, then the
operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import checks, specs
from ..specs import SOFTMAX, Map, Reduction
from . import backend, losses, segments, sinks
from .composites import psi
from .divergences import (
    divergence,
    divergence_vjp,
    entropy_of_probabilities,
    entropy_of_probabilities_vjp,
    hessian_diagonal,
)
from .ops import FAST, OPS, REDUCTION_OPS, fast_vjp, reduction_vjp
from .private import is_plain_storage
from .segments import (
    segment_double_backward,
    segment_product,
    segment_reduce,
    segment_reduce_vjp,
)
from .sinks import (
    mean,
    scale_vjp,
    scaled_softmax,
    sink_double_backward,
    sink_product,
    vjp_of_mean,
)
from .sparse_losses import fenchel_young, fenchel_young_with_vjp
from .tensors import (
    check_out,
    check_tensor,
    dims_of,
    for_dtensors,
    into,
    is_dtensor,
    mask,
    multiply,
    promote,
    scale_of,
)

__all__ = [  # and those here
    "divergence",
    "divergence_vjp",
    "entropy_of_probabilities",
    "entropy_of_probabilities_vjp",
    "fenchel_young",
    "fenchel_young_with_vjp",
    "hessian_diagonal",
    "mean",
    "scale_vjp",
    "segment_double_backward",
    "segment_product",
    "segment_reduce",
    "segment_reduce_vjp",
    "sink_double_backward",
    "sink_product",
    "vjp_of_mean",
]


def entmax(alpha: Any) -> Map:
    """The row of the table for one alpha; where PyTorch traces, one made for it, since it warns of caches."""
    made = specs.entmax.__wrapped__ if torch.compiler.is_compiling() else specs.entmax
    return made(checks.alpha(alpha))


def alpha_arguments(spec: Map) -> tuple[Any, ...]:
    return (spec.alpha, None) if spec.parameters else ()


def forward(
    spec: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Tensor | None
) -> Tensor:
    if is_dtensor(x):
        y: Tensor = for_dtensors().forward(spec, x, axis, where, scale, empty, out, False, None)
        return y
    return checked_forward(spec, x, axis, where, scale, empty, out)


def checked_forward(
    spec: Map,
    x: Any,
    dim: Any,
    where: Any,
    scale: Any,
    empty: Any,
    out: Any,
    reuse_dy: bool = False,
    alpha_tensor: Tensor | None = None,
) -> Tensor:
    x = check_tensor(x, "x")
    if where is not None:
        where = mask(where, x)
    if empty not in checks.EMPTY:
        checks.choice(empty)
    dims, alpha = dims_of(dim, x.ndim), (spec.alpha, alpha_tensor) if spec.parameters else ()
    y: Tensor
    if isinstance(scale, Tensor):
        if spec is SOFTMAX:
            of_rows = scaled_softmax(x, scale, dims, where, empty)
            if of_rows is not None:
                return into(out, of_rows, x, scale)
        z = multiply(x, scale, where)
        y = OPS[spec.name].forward(z, dims, where, 1.0, empty, *alpha, reuse_dy).to(x.dtype)
    else:
        y = OPS[spec.name].forward(x, dims, where, scale_of(scale, x), empty, *alpha, reuse_dy)
    return into(out, y, x, alpha_tensor, scale)


def product(spec: Map, kind: str, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    """The product with the Jacobian, for kind "vjp" or "jvp"."""
    if where is None and out is None and spec.name in FAST and (kind == "vjp" or spec.jvp == spec.vjp):
        dx = fast_vjp(spec.name, y, v, axis, scale)
        if dx is not None:
            return dx
    y, v = promote(("y", "dy" if kind == "vjp" else "dx"), y, v)
    if isinstance(scale, Tensor) and spec is SOFTMAX:
        dx, _ = sink_product(kind, y, 0.0, v, None, axis=axis, where=where, scale=scale)
        return into(out, placed(dx, y), y, v, scale)
    where = None if where is None else mask(where, y)
    options = dims_of(axis, y.ndim), where, scale_of(scale, y), *alpha_arguments(spec)
    if is_dtensor(y):
        return into(out, for_dtensors().product(spec, kind, y, v, *options), y, v)
    operation = OPS[spec.name].vjp if kind == "vjp" else OPS[spec.name].jvp
    if out is None:
        result: Tensor = operation(y, v, *options)
        return result
    out = check_out(out, y, y, v)
    if is_plain_storage(y, v, out):
        return backend.product(spec, kind, y, v, *options, out=out)
    return out.copy_(operation(y, v, *options))


def double_backward(spec: Map, y: Any, dy: Any, v: Any, *, axis: Any, scale: Any) -> tuple[Tensor, Tensor]:
    if isinstance(scale, Tensor) and spec is SOFTMAX:
        of_x, _, of_dy, _ = sink_double_backward(
            y, 0.0, dy, None, v, None, axis=axis, where=None, scale=scale
        )
        return placed(of_x, y), placed(of_dy, y)
    y, dy, v = promote(("y", "dy", "v"), y, dy, v)
    options = dims_of(axis, y.ndim), scale_of(scale, y), *alpha_arguments(spec)[:1]
    of_x, of_dy = OPS[spec.name].double_backward(y, dy, v, *options)
    return placed(of_x, y), placed(of_dy, y)


def placed(result: Tensor, like: Any) -> Tensor:
    """A DTensor divided as `like` is, of which PyTorch brought the rows together."""
    if not is_dtensor(like):
        return result
    found: Tensor = for_dtensors().as_placed(result, like)
    return found


def alpha_vjp(y: Any, dy: Any, alpha: float, *, axis: Any, where: Any) -> Tensor:
    """The gradient of entmax with respect to alpha: Σ dx·ψ for each row, with dx = J dy and ∂y/∂α = J ψ."""
    dx = product(entmax(alpha), "vjp", y, dy, axis=axis, where=where, scale=1.0, out=None)
    terms = dx.double() * psi(y, torch.full((), alpha, dtype=torch.float64, device=dx.device))
    if where is not None:
        terms = torch.where(where, terms, 0.0)
    dims = dims_of(axis, dx.ndim)
    return (terms.sum(dims) if dims else terms).to(dx.dtype)


def sink_softmax(x: Any, sink: Any, *, axis: Any, where: Any, scale: Any) -> tuple[Tensor, Tensor]:
    if is_dtensor(x):
        y, y_sink = for_dtensors().sink_softmax(x, sink, axis, where, scale)
        return y, y_sink
    return sinks.sink_softmax(x, sink, axis=axis, where=where, scale=scale)


def segment_forward(spec: Map, x: Any, offsets: Any, *, out: Any, **options: Any) -> Tensor:
    return into(out, placed(segments.segment_forward(spec, x, offsets, **options, out=None), x), x)


def cross_entropy(x: Any, target: Any, *, axis: Any, **options: Any) -> Tensor:
    if is_dtensor(x):
        loss: Tensor = for_dtensors().cross_entropy(x, target, axis, **options)
        return loss
    return losses.cross_entropy(x, target, axis=axis, **options)


def cross_entropy_with_vjp(x: Any, target: Any, **options: Any) -> tuple[Tensor, Callable[..., Tensor]]:
    if is_dtensor(x):
        loss, vjp = for_dtensors().cross_entropy_with_vjp(x, target, **options)
        return loss, vjp
    return losses.cross_entropy_with_vjp(x, target, **options)


def reduce(spec: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Any) -> Tensor:
    if is_dtensor(x):
        result: Tensor = for_dtensors().reduce(spec, x, axis, keepdims, where, scale, out)
        return result
    return checked_reduce(spec, x, axis, where, scale, keepdims, out)


def checked_reduce(
    spec: Reduction, x: Any, dim: Any, where: Any, scale: Any, keepdim: bool, out: Any
) -> Tensor:
    x = check_tensor(x, "x")
    where = None if where is None else mask(where, x)
    dims = dims_of(dim, x.ndim)
    if isinstance(scale, Tensor):
        result = REDUCTION_OPS[spec.name].forward(multiply(x, scale, where), dims, where, 1.0).to(x.dtype)
    else:
        result = REDUCTION_OPS[spec.name].forward(x, dims, where, scale_of(scale, x))
    if not keepdim and x.ndim:
        result = result.squeeze(dims)
    return into(out, result, x, scale)


def reduce_vjp(spec: Reduction, x: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    x, dy = check_tensor(x, "x"), check_tensor(dy, "dy")
    dims = dims_of(axis, x.ndim)
    kept = tuple(backend.kept_shape(x, dims))
    short = tuple(size for d, size in enumerate(x.shape) if d - x.ndim not in dims)
    if tuple(dy.shape) not in (kept, short):
        raise ValueError(
            f"dy has shape {tuple(dy.shape)}; it takes one element for each row of x, of shape "
            f"{tuple(x.shape)}: give a tensor of shape {short} or {kept}"
        )
    dtype = torch.promote_types(x.dtype, dy.dtype)
    x, dy = x.to(dtype), dy.to(dtype).reshape(kept)
    options = dims, None if where is None else mask(where, x), scale_of(scale, x)
    if out is None or is_dtensor(x):
        return into(out, placed(REDUCTION_OPS[spec.name].vjp(x, dy, *options), x), x, dy)
    return reduction_vjp(spec, x, dy, *options, out=check_out(out, x, x, dy))
