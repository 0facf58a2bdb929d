"""Segments for tensors: softmax as an operator, the other functions by the kernels on memory of the CPU.

Elsewhere, and for further derivatives, they are made of PyTorch's operations, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from .. import arrays, checks, threads
from ..arrays import Cut
from ..checks import Array
from ..specs import Map, Reduction
from .backend import are_memory, by_kernels, check_overlap, run, take_kernels, with_torch_threads
from .private import detach, primals, with_forward_mode
from .register import define, like_first
from .tensors import (
    array,
    check_out,
    check_same_device,
    check_tensor,
    in_words_of_torch,
    into,
    mask,
    one_dim,
    promote,
    scale_of,
    wide,
)

# --- made of PyTorch's operations --------------------------------------------------------------------
# for devices without kernels, and the product for the derivatives of it


def leading(tensor: Tensor, dim: int) -> Tensor:
    """The dim of the segments in front."""
    return wide(tensor).reshape(1) if tensor.ndim == 0 else wide(tensor).movedim(dim, 0)


def trailing(tensor: Tensor, like: Tensor, dim: int) -> Tensor:
    """The dim of the segments back in its place."""
    return (tensor.movedim(0, dim) if like.ndim else tensor.reshape(())).to(like.dtype)


class Sums:
    """n numbers cut into segments: the segment of each, and sums over segments, along the first dim."""

    def __init__(self, offsets: Tensor, n: int) -> None:
        self.count = len(offsets) - 1
        numbers = torch.arange(self.count, device=offsets.device)
        self.segment = torch.repeat_interleave(numbers, offsets.diff(), output_size=n)

    def total(self, v: Tensor) -> Tensor:
        """The sum of each segment, for all of its elements."""
        return self.sums(v).index_select(0, self.segment)

    def sums(self, v: Tensor) -> Tensor:
        """The sum of each segment."""
        return v.new_zeros((self.count, *v.shape[1:])).index_add(0, self.segment, v)

    def top(self, v: Tensor) -> Tensor:
        """The largest of each segment, for all of its elements."""
        index = self.segment.reshape(-1, *[1] * (v.ndim - 1)).expand_as(v)
        tops = v.new_full((self.count, *v.shape[1:]), -math.inf).scatter_reduce(0, index, v, "amax")
        return tops.index_select(0, self.segment)

    def centre(self, y: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        """v less its mean by the weights y, taken off three times, as in composites.py."""
        v = v - detach(self.total(y * v) / weight)
        v = v - self.total(y * v) / weight
        return v - self.total(y * v) / weight


def softmax_by_scatter(x: Tensor, offsets: Tensor, dim: int, scale: float) -> Tensor:
    z, cut = leading(x, dim), Sums(offsets, x.shape[dim] if x.ndim else 1)
    z = torch.where(z == (-math.inf if scale >= 0 else math.inf), -math.inf, z * scale)
    top = cut.top(z)
    e = torch.exp(z - torch.where(top == -math.inf, 0.0, top))
    total = cut.total(e)
    return trailing(e / torch.where(total == 0, 1.0, total), x, dim)


def vjp_by_scatter(y: Tensor, v: Tensor, offsets: Tensor, dim: int, scale: float) -> Tensor:
    """scale·y·(v − its mean); 0 in a segment without weight, whatever v holds there."""
    p, u, cut = leading(y, dim), leading(v, dim), Sums(offsets, y.shape[dim] if y.ndim else 1)
    weight = cut.total(p)
    u, weight = torch.where(weight == 0, 0.0, u), torch.where(weight == 0, 1.0, weight)
    return trailing(scale * p * cut.centre(p, u, weight), y, dim)


# --- on memory ---------------------------------------------------------------------------------------


def checked_offsets(offsets: Tensor, x: Tensor, dim: int) -> Any:
    """The offsets as an array; those on another device are waited for."""
    return checks.offsets(array(offsets.cpu()), x.shape[dim] if x.ndim else 1)


def on_device(offsets: Tensor, x: Tensor, dim: int) -> Tensor:
    threads.ran("formulas", "segment_softmax")
    return torch.from_numpy(checked_offsets(offsets, x, dim)).to(x.device)


@with_torch_threads
def softmax_on_memory(x: Tensor, offsets: Tensor, dim: int, scale: float) -> Tensor:
    y = torch.empty_like(x)
    if not x.is_cpu:
        return y.copy_(softmax_by_scatter(x, on_device(offsets, x, dim), dim, scale))
    run("segment_softmax", (x, y), (dim,), scale=scale, offsets=checked_offsets(offsets, x, dim))
    return y


@with_torch_threads
def vjp_on_memory(
    y: Tensor, v: Tensor, offsets: Tensor, dim: int, scale: float, out: Tensor | None = None
) -> Tensor:
    result = torch.empty_like(y) if out is None else out
    if not y.is_cpu:
        return result.copy_(vjp_by_scatter(y, v, on_device(offsets, y, dim), dim, scale))
    array_of_offsets = checked_offsets(offsets, y, dim)
    if out is not None:
        check_overlap(out, ("y", "dy"), y, v)
    run("segment_softmax_vjp", (y, v, result), (dim,), scale=scale, offsets=array_of_offsets)
    return result


# --- the operations ----------------------------------------------------------------------------------


class SegmentSoftmax(Function):
    """y; saved are y and the offsets."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, y: Any) -> None:
        _, offsets, *ctx.options = inputs
        ctx.save_for_backward(y, offsets)
        ctx.save_for_forward(y, offsets)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        y, offsets = ctx.saved_tensors
        return VJP(y, dy, offsets, *ctx.options), None, None, None

    @staticmethod
    @with_forward_mode
    def jvp(ctx: Any, dx: Any, *_: Any) -> Any:
        y, offsets = primals(*ctx.saved_tensors)
        return VJP(y, dx, offsets, *ctx.options)


SOFTMAX = define(
    "segment_softmax(Tensor x, Tensor offsets, int dim=-1, float scale=1.0) -> Tensor",
    *(2, softmax_on_memory, like_first, SegmentSoftmax),
    waits=True,
)
VJP = define(
    "segment_softmax_vjp(Tensor y, Tensor dy, Tensor offsets, int dim=-1, float scale=1.0) -> Tensor",
    *(3, vjp_on_memory, like_first),
    composite=vjp_by_scatter,
    waits=True,
)


# --- the functions -----------------------------------------------------------------------------------


class Segments:
    """A dim that is cut into segments, as the functions are given it."""

    def __init__(self, x: Tensor, offsets: Any, ids: Any, num_segments: Any, axis: Any, where: Any) -> None:
        self.dim = one_dim(axis, x.ndim, "segments")
        self.where = None if where is None else mask(where, x)
        self.order: Tensor | None = None
        if not checks.are_numbered(offsets, ids, num_segments):
            self.offsets = offsets_of(offsets, x)
            return
        numbers = as_numbers(offsets_of(ids, x))
        cuts, order = in_words_of_torch(
            checks.numbered_segments, numbers, num_segments, x.shape[self.dim] if x.ndim else 1
        )
        self.offsets = torch.from_numpy(cuts).to(x.device)
        self.order = None if order is None else torch.from_numpy(order).to(x.device)

    def sort(self, tensor: Tensor, masked: float) -> Tensor:
        """The rows sorted by segment, with a value where they are masked."""
        if self.where is not None:
            tensor = tensor.masked_fill(~self.where, masked)
        return tensor if self.order is None else tensor.index_select(self.dim, self.order)

    def restore(self, tensor: Tensor, masked: float) -> Tensor:
        """The rows in the order that they came in."""
        if self.order is not None:
            tensor = tensor.index_select(self.dim, self.order.argsort())
        return tensor if self.where is None else tensor.masked_fill(~self.where, masked)

    def cut(self, tensor: Tensor) -> tuple[Tensor, Sums]:
        """The dim of the segments in front, in float64, and its segments."""
        n = tensor.shape[self.dim] if tensor.ndim else 1
        if not is_compiling():
            threads.ran("formulas", "segments")
            checks.offsets(as_numbers(self.offsets), n)
        return leading(tensor, self.dim).double(), Sums(self.offsets, n)


def as_numbers(tensor: Tensor) -> Array:
    """The array of a tensor of whole numbers; a transform of torch.func may have wrapped it."""
    try:
        return array(tensor.cpu())
    except RuntimeError:
        return np.asarray(tensor.tolist())


def offsets_of(offsets: Any, x: Tensor) -> Tensor:
    if not isinstance(offsets, Tensor):
        return torch.as_tensor(offsets, device=x.device)
    check_same_device(x, "the tensor", offsets, "offsets")
    return offsets


def log_weights(x: Tensor, segments: Segments, scale: float) -> tuple[Tensor, Tensor, Tensor, Sums]:
    """(log_softmax, softmax, logsumexp of each segment, the cut), in float64, the dim in front."""
    z, cut = segments.cut(segments.sort(x, arrays.absent(scale)))
    absent = z == arrays.absent(scale)
    z = torch.where(absent, -math.inf, z * scale)
    top = cut.top(z.detach())
    top = torch.where(top.isinf(), 0.0, top)
    t = torch.where(absent, 0.0, z - top)
    e = torch.where(absent, 0.0, t.exp())
    sums = cut.sums(e)
    logs = torch.where(sums == 0, -math.inf, torch.where(sums == 0, 1.0, sums).log())
    log_p = torch.where(absent, -math.inf, t - logs.index_select(0, cut.segment))
    tops = torch.zeros_like(sums).index_copy(0, cut.segment, top)
    return log_p, torch.where(absent, 0.0, log_p.exp()), logs + tops, cut


class OfSegments(Function):
    """log_softmax, of which the result is saved, logsumexp or the entropy, of which x is; by the kernels."""

    @staticmethod
    def forward(ctx: Any, spec: Any, x: Tensor, cut: Cut, where: Tensor | None, scale: float) -> Tensor:
        options: dict[str, Any] = {"axis": cut, "where": where, "scale": scale, "out": None}
        is_map = isinstance(spec, Map)
        if is_map:
            result: Tensor = by_kernels(arrays.forward, spec, x, **options, empty="zero")
        else:
            result = by_kernels(arrays.reduce, spec, x, **options, keepdims=True)
        indices = [value if isinstance(value, Tensor) else None for value in cut]
        ctx.save_for_backward(result if is_map else x, where, *indices)  # so that a change of them is noticed
        ctx.options = spec, cut, scale
        return result

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (saved, where, *_), (spec, cut, scale) = ctx.saved_tensors, ctx.options
        options = {**cut._asdict(), "where": where, "scale": scale, "out": None}
        if isinstance(spec, Map):
            dx = segment_product(spec, "vjp", saved, dy, **options)
        else:
            dx = segment_reduce_vjp(spec, saved, dy, **options)
        return None, dx, None, None, None


on_memory = super(Function, OfSegments).apply


def segment_forward(
    spec: Map,
    x: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
    out: Any,
) -> Tensor:
    x = check_tensor(x, "x")
    if spec.name != "softmax" and are_memory(x, offsets, segment_ids, where):
        y = on_memory(spec, x, Cut(offsets, segment_ids, num_segments, axis), where, scale)
        return into(out, y, x)
    factor, segments = scale_of(scale, x), Segments(x, offsets, segment_ids, num_segments, axis, where)
    if spec.name == "softmax":
        y = SOFTMAX(segments.sort(x, arrays.absent(factor)), segments.offsets, segments.dim, factor)
    else:
        y = trailing(log_weights(x, segments, factor)[0], x, segments.dim)
    y = segments.restore(y, spec.absent)
    return into(out, y, x)


def segment_product(
    spec: Map,
    kind: str,
    y: Any,
    v: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
    out: Any,
) -> Tensor:
    """The vjp or the jvp."""
    y, v = promote(("y", "dy" if kind == "vjp" else "dx"), y, v)
    if spec.name != "softmax" and take_kernels(y, v, offsets, segment_ids, where, out):
        along = Cut(offsets, segment_ids, num_segments, axis)
        found: Tensor = by_kernels(
            arrays.product, spec, kind, y, v, axis=along, where=where, scale=scale, out=None
        )
        return into(out, found, y, v)
    factor, segments = scale_of(scale, y), Segments(y, offsets, segment_ids, num_segments, axis, where)
    p, u = segments.sort(y, spec.absent), segments.sort(v, 0.0)
    if spec.name == "softmax":
        options = segments.offsets, segments.dim, factor
        if out is not None and p is y and u is v:
            return vjp_on_memory(y, v, *options, out=check_out(out, y, y, v))
        result: Tensor = VJP(p, u, *options)
    else:
        result = log_product(kind, p, u, segments, factor)
    result = segments.restore(result, 0.0)
    return into(out, result, y, v)


def log_product(kind: str, y: Tensor, v: Tensor, segments: Segments, scale: float) -> Tensor:
    """dy − p·Σdy, or dx − ⟨p,dx⟩; nothing where y is −inf."""
    (log_p, cut), (u, _) = segments.cut(y), segments.cut(v)
    absent = log_p == -math.inf
    p, u = torch.where(absent, 0.0, log_p.exp()), torch.where(absent, 0.0, u)
    result = u - p * cut.total(u) if kind == "vjp" else cut.centre(p, u, cut.total(p))
    return trailing(torch.where(absent, 0.0, scale * result), y, segments.dim)


def segment_double_backward(
    spec: Map,
    y: Any,
    dy: Any,
    v: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    scale: Any,
) -> tuple[Tensor, Tensor]:
    y, dy, v = promote(("y", "dy", "v"), y, dy, v)
    along = Cut(offsets, segment_ids, num_segments, axis)
    if take_kernels(y, dy, v, offsets, segment_ids):
        grads: tuple[Tensor, Tensor] = by_kernels(
            arrays.double_backward, spec, y, dy, v, axis=along, scale=scale
        )
        return grads
    factor, segments = scale_of(scale, y), Segments(y, *along, None)
    p, cut = segments.cut(segments.sort(y, 0.0))
    d, u = (segments.cut(segments.sort(tensor, 0.0))[0] for tensor in (dy, v))
    absent = p == spec.absent
    if spec.name == "log_softmax":
        p = torch.where(absent, 0.0, p.exp())
    weight = cut.total(p)
    absent, weight = absent | (weight == 0), torch.where(weight == 0, 1.0, weight)
    d, u = torch.where(absent, 0.0, d), torch.where(absent, 0.0, u)
    of_dy = cut.centre(p, u, weight)
    if spec.name == "log_softmax":
        of_x = -p * cut.total(d) * of_dy
    else:
        of_x = p * cut.centre(p, cut.centre(p, d, weight) * of_dy, weight)
        of_dy = p * of_dy
    results = factor * factor * of_x, factor * torch.where(absent, 0.0, of_dy)
    grad_x, grad_dy = (segments.restore(trailing(g, y, segments.dim), 0.0) for g in results)
    return grad_x, grad_dy


def segment_reduce(
    spec: Reduction,
    x: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
) -> Tensor:
    x = check_tensor(x, "x")
    if are_memory(x, offsets, segment_ids, where):
        numbers: Tensor = on_memory(spec, x, Cut(offsets, segment_ids, num_segments, axis), where, scale)
        return numbers
    factor, segments = scale_of(scale, x), Segments(x, offsets, segment_ids, num_segments, axis, where)
    log_p, p, result, cut = log_weights(x, segments, factor)
    if spec.of_entropy:
        result = cut.sums(0.0 - p * torch.where(p == 0, 0.0, log_p))
    return result.movedim(0, segments.dim).to(x.dtype)


def segment_reduce_vjp(
    spec: Reduction,
    x: Any,
    dy: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
    out: Any,
) -> Tensor:
    x, dy = check_tensor(x, "x"), check_tensor(dy, "dy")
    if take_kernels(x, dy, offsets, segment_ids, where, out):
        along = Cut(offsets, segment_ids, num_segments, axis)
        found: Tensor = by_kernels(
            arrays.reduce_vjp, spec, x, dy, axis=along, where=where, scale=scale, out=None
        )
        return into(out, found, x, dy)
    factor, segments = scale_of(scale, x), Segments(x, offsets, segment_ids, num_segments, axis, where)
    log_p, slope, result, cut = log_weights(x, segments, factor)
    shape = tuple(result.movedim(0, segments.dim).shape)
    if tuple(dy.shape) != shape:
        raise ValueError(
            f"dy has shape {tuple(dy.shape)}; it takes one number for each segment: give shape {shape}"
        )
    if spec.of_entropy:
        p, log_p = slope, torch.where(slope == 0, 0.0, log_p)
        slope = -p * cut.centre(p, log_p, torch.where(p == 0, 1.0, cut.total(p)))
    dx = factor * slope * dy.double().movedim(segments.dim, 0).index_select(0, cut.segment)
    dx = segments.restore(trailing(dx, x, segments.dim), 0.0)
    return into(out, dx, x, dy)
