"""softmax with numbers of each row for tensors: a sink, a scale, and a mean from elsewhere.

On memory of the CPU the kernels do it.  For everything else (further derivatives, transforms, other devices)
a row with a sink is a row with one more element, which the operations of softmax know all of; the sink is put
behind the others and taken off again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from .. import arrays, checks
from .backend import are_memory, by_kernels, from_rows, kept_shape, take_kernels, to_rows
from .ops import OPS
from .tensors import (
    check_same_device,
    check_tensor,
    dims_of,
    for_dtensors,
    into,
    is_dtensor,
    mask,
    multiply,
    promote,
    scale_of,
    wide,
)

Dims = tuple[int, ...]


def per_row(value: Any, name: str, like: Tensor, dims: Dims) -> Tensor:
    """One number for each row: expanded to the shape of `like` with the dims at length 1."""
    if isinstance(value, Tensor):
        check_same_device(like, "the tensor", value, name)
        number = check_tensor(value, name)
    elif isinstance(value, (int, float, np.number)) and value is not True and value is not False:
        number = torch.full((), float(value), dtype=torch.float64, device=like.device)
        number = for_dtensors().replicated(number, like) if is_dtensor(like) else number
    else:
        raise TypeError(
            f"{name} is a {type(value).__name__}; with tensors it takes a number or a tensor: give "
            f"torch.as_tensor({name})"
        )
    shape = kept_shape(like, dims)
    try:
        return number.expand(shape)
    except RuntimeError:
        raise ValueError(
            f"{name} has shape {tuple(number.shape)}; it takes one number for each row: give a shape that "
            f"broadcasts to {tuple(shape)}, in which the dim has length 1"
        ) from None


def extended(rows: Tensor, number: Tensor, dims: Dims) -> Tensor:
    return torch.cat([to_rows(rows, dims), to_rows(number, dims)], -1)


def split(rows: Tensor, like: Tensor, dims: Dims) -> tuple[Tensor, Tensor]:
    """The elements and the sink of extended rows, in the shape and dtype of `like`."""
    rows = rows.to(like.dtype)
    one = from_rows(rows[..., :-1], like, dims).contiguous()
    return one, rows[..., -1].contiguous().reshape(kept_shape(like, dims))


class SoftmaxOfRows(Function):
    """y, and y_sink if there is a sink; saved are they, the scale, and x if that has a gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, sink: Tensor | None, scale: Tensor, dims: Dims, where: Tensor | None, empty: str
    ) -> Any:
        options = {"axis": dims, "where": where, "scale": scale}
        if sink is None:
            y, y_sink = by_kernels(arrays.scaled_softmax, x, **options, empty=empty, out=None), None
        else:
            y, y_sink = by_kernels(arrays.sink_softmax, x, sink, **options)
        ctx.save_for_backward(y, y_sink, scale, x if ctx.needs_input_grad[2] else None)
        ctx.options = dims, where is not None
        return y if sink is None else (y, y_sink)

    @staticmethod
    def backward(ctx: Any, dy: Any, dy_sink: Any = None) -> Any:
        (y, y_sink, scale, x), (dims, masked) = ctx.saved_tensors, ctx.options
        options = {"axis": dims, "where": y != 0 if masked else None}
        dx, dsink = sink_product(
            "vjp", y, 0.0 if y_sink is None else y_sink, dy, dy_sink, scale=scale, **options
        )
        dscale = None
        if x is not None and y_sink is None:
            dscale = scale_vjp(x, y, dy, **options)
        elif x is not None:
            unscaled, _ = sink_product("vjp", y, y_sink, dy, dy_sink, scale=1.0, **options)
            terms = x.double().masked_fill(y == 0, 0.0) * unscaled
            dscale = to_rows(terms, dims).sum(-1).reshape(kept_shape(y, dims))
        dscale = None if dscale is None else dscale.to(scale.dtype)
        return dx, None if y_sink is None else dsink, dscale, None, None, None


softmax_of_rows = super(Function, SoftmaxOfRows).apply


def scale_of_rows(scale: Any, x: Tensor, dims: Dims) -> Tensor | None:
    """The scale of each row; None if it is not one number a row, or none that a kernel takes as it is."""
    shape = kept_shape(x, dims)
    scale = scale if isinstance(scale, Tensor) else torch.tensor(scale, dtype=torch.float64)
    if not scale.is_floating_point() or scale.ndim > len(shape):
        return None
    if any(size not in (1, row) for size, row in zip(scale.shape[::-1], shape[::-1], strict=False)):
        return None
    if not (scale.abs() <= checks.LARGEST_32).all():  # NaN, which PyTorch's operations spread
        return None
    return scale.expand(shape)


def scaled_softmax(x: Tensor, scale: Tensor, dims: Dims, where: Tensor | None, empty: str) -> Tensor | None:
    """softmax with a scale for each row, by the kernels; None if they can't."""
    scales = scale_of_rows(scale, x, dims) if are_memory(x, scale, where) else None
    if scales is None:
        return None
    y: Tensor = softmax_of_rows(x, None, scales, dims, where, empty)
    return y


def sink_softmax(x: Any, sink: Any, *, axis: Any, where: Any, scale: Any) -> tuple[Tensor, Tensor]:
    x = check_tensor(x, "x")
    dims, where = dims_of(axis, x.ndim), None if where is None else mask(where, x)
    sink = per_row(sink, "sink", x, dims)
    if are_memory(x, sink, where, scale):
        scales = scale_of_rows(scale if isinstance(scale, Tensor) else scale_of(scale, x), x, dims)
        if scales is not None:
            y, y_sink = softmax_of_rows(x, sink, scales, dims, where, "zero")
            return y, y_sink
    z, behind = scaled(x, where, scale), None
    if where is not None:
        behind = extended(where, torch.ones_like(sink, dtype=torch.bool), dims)
    dtype = torch.promote_types(z.dtype, sink.dtype)
    rows = extended(z.to(dtype), sink.to(dtype), dims)
    return split(OPS["softmax"].forward(rows, (-1,), behind, 1.0, "zero", False), x, dims)


def scaled(x: Tensor, where: Tensor | None, scale: Any) -> Tensor:
    """scale·x in float64, which is exact enough; x itself, of 16-bit types in float32, if the scale is 1."""
    if isinstance(scale, Tensor):
        return multiply(x.double(), scale, where)
    factor = scale_of(scale, x)
    if factor == 1:
        return wide(x)
    return multiply(x.double(), torch.full((), factor, dtype=torch.float64, device=x.device), where)


def sink_product(
    kind: str, y: Any, y_sink: Any, v: Any, v_sink: Any, *, axis: Any, where: Any, scale: Any
) -> tuple[Tensor, Tensor]:
    name = "dy" if kind == "vjp" else "dx"
    y, v = promote(("y", name), y, v)
    dims, where = dims_of(axis, y.ndim), None if where is None else mask(where, y)
    y_sink = per_row(y_sink, "y_sink", y, dims)
    v_sink = per_row(0.0 if v_sink is None else v_sink, f"{name}_sink", y, dims)
    factor = wide(scale) if isinstance(scale, Tensor) else scale_of(scale, y)
    if take_kernels(y, y_sink, v, v_sink, where, scale) and scale_of_rows(factor, y, dims) is not None:
        options = {"axis": dims, "where": where, "scale": factor}
        found: tuple[Tensor, Tensor] = by_kernels(arrays.sink_product, kind, y, y_sink, v, v_sink, **options)
        return found
    if where is not None:
        y, v = y.masked_fill(~where, 0.0), v.masked_fill(~where, 0.0)
    if kind == "jvp" and not (isinstance(factor, float) and factor == 1):
        v = wide(v) * factor
    p, u = (wide(extended(a, b.to(a.dtype), dims)) for a, b in ((y, y_sink), (v, v_sink)))
    one, of_sink = split(OPS["softmax"].vjp(p, u, (-1,), None, 1.0), wide(y), dims)
    if kind == "vjp":
        one = one * factor
    return one.to(y.dtype), of_sink.to(y.dtype)


def sink_double_backward(
    y: Any, y_sink: Any, dy: Any, dy_sink: Any, v: Any, v_sink: Any, *, axis: Any, where: Any, scale: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, dy, v = promote(("y", "dy", "v"), y, dy, v)
    dims, where = dims_of(axis, y.ndim), None if where is None else mask(where, y)
    factor = wide(scale) if isinstance(scale, Tensor) else scale_of(scale, y)
    whole = []
    for tensor, of_sink, name in ((y, y_sink, "y_sink"), (dy, dy_sink, "dy_sink"), (v, v_sink, "v_sink")):
        a = wide(tensor) if where is None else wide(tensor).masked_fill(~where, 0.0)
        number = per_row(0.0 if of_sink is None else of_sink, name, y, dims)
        whole.append(extended(a * factor if tensor is v else a, number.to(a.dtype), dims))
    of_x, of_dy = OPS["softmax"].double_backward(*whole, (-1,), 1.0)
    (grad_x, grad_sink), (grad_dy, of_dy_sink) = (split(part, wide(y), dims) for part in (of_x, of_dy))
    kind = y.dtype
    return (grad_x * factor).to(kind), grad_sink.to(kind), grad_dy.to(kind), of_dy_sink.to(kind)


def scale_vjp(x: Any, y: Any, dy: Any, *, axis: Any, where: Any) -> Tensor:
    x, y, dy = promote(("x", "y", "dy"), x, y, dy)
    dims, where = dims_of(axis, y.ndim), None if where is None else mask(where, y)
    if take_kernels(x, y, dy, where):
        found: Tensor = by_kernels(arrays.scale_vjp, x, y, dy, axis=dims, where=where)
        return found
    dx = OPS["softmax"].vjp(y.double(), dy.double(), dims, where, 1.0)
    there = y > 0 if where is None else (y > 0) & where
    logits = to_rows(x.double().masked_fill(~there, -torch.inf), dims)
    far = torch.where(to_rows(there, dims), logits - logits.amax(-1, keepdim=True), 0.0)
    return (far * to_rows(dx, dims)).sum(-1).reshape(kept_shape(y, dims)).to(y.dtype)


def mean(y: Any, dy: Any, *, axis: Any, where: Any) -> Tensor:
    y, dy = promote(("y", "dy"), y, dy)
    dims, where = dims_of(axis, y.ndim), None if where is None else mask(where, y)
    if take_kernels(y, dy, where):
        means: Tensor = by_kernels(arrays.mean, y, dy, axis=dims, where=where)
        return means
    if where is not None:
        y, dy = y.masked_fill(~where, 0.0), dy.masked_fill(~where, 0.0)
    p, u = to_rows(y.double(), dims), to_rows(dy.double(), dims)
    total = p.sum(-1, keepdim=True)
    weight = torch.where(total == 0, 1.0, total)
    first = (p * u).sum(-1, keepdim=True) / weight
    found = torch.where(total == 0, 0.0, first + (p * (u - first)).sum(-1, keepdim=True) / weight)
    return found.reshape(kept_shape(y, dims))


def vjp_of_mean(y: Any, dy: Any, mean: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    y, dy = promote(("y", "dy"), y, dy)
    dims, where = dims_of(axis, y.ndim), None if where is None else mask(where, y)
    means = per_row(mean, "mean", y.double(), dims)
    factor = scale if isinstance(scale, Tensor) else scale_of(scale, y)
    if take_kernels(y, dy, mean, scale, where, out) and not isinstance(scale, Tensor):
        dx = by_kernels(arrays.vjp_of_mean, y, dy, means, axis=dims, where=where, scale=factor, out=None)
        return into(out, dx, y, dy, mean)
    dx = torch.where(y == 0, 0.0, (dy.double() - means) * y.double() * factor).to(y.dtype)
    dx = dx if where is None else dx.masked_fill(~where, 0.0)
    return into(out, dx, y, dy, mean, scale)
