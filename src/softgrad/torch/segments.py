"""Softmax in segments for tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import checks, threads
from .backend import check_overlap, run, with_torch_threads
from .define import define, like_first
from .private import detach, primals, with_forward_mode
from .tensors import array, check_out, check_same_device, check_tensor, one_dim, promote, scale_of, wide

# --- made of PyTorch's operations --------------------------------------------------------------------
# for devices without kernels, and the product for the derivatives of it


def leading(tensor: Tensor, dim: int) -> Tensor:
    """The dim of the segments in front."""
    return wide(tensor).reshape(1) if tensor.ndim == 0 else wide(tensor).movedim(dim, 0)


def trailing(tensor: Tensor, like: Tensor, dim: int) -> Tensor:
    """The dim of the segments back in its place."""
    return (tensor.movedim(0, dim) if like.ndim else tensor.reshape(())).to(like.dtype)


class Cut:
    """n numbers cut into segments: the segment of each, and sums over segments, along the first dim."""

    def __init__(self, offsets: Tensor, n: int) -> None:
        self.count = len(offsets) - 1
        numbers = torch.arange(self.count, device=offsets.device)
        self.segment = torch.repeat_interleave(numbers, offsets.diff(), output_size=n)

    def total(self, v: Tensor) -> Tensor:
        """The sum of each segment, for all of its elements."""
        sums = v.new_zeros((self.count, *v.shape[1:])).index_add(0, self.segment, v)
        return sums.index_select(0, self.segment)

    def top(self, v: Tensor) -> Tensor:
        """The largest of each segment, for all of its elements."""
        index = self.segment.reshape(-1, *[1] * (v.ndim - 1)).expand_as(v)
        tops = v.new_full((self.count, *v.shape[1:]), -math.inf).scatter_reduce(0, index, v, "amax")
        return tops.index_select(0, self.segment)

    def centre(self, y: Tensor, v: Tensor, weight: Tensor) -> Tensor:
        """v less its mean by the weights y."""
        return v - self.total(y * v) / weight


def softmax_by_scatter(x: Tensor, offsets: Tensor, dim: int, scale: float) -> Tensor:
    z, cut = leading(x, dim), Cut(offsets, x.shape[dim] if x.ndim else 1)
    z = torch.where(z == (-math.inf if scale >= 0 else math.inf), -math.inf, z * scale)
    top = cut.top(z)
    e = torch.exp(z - torch.where(top == -math.inf, 0.0, top))
    total = cut.total(e)
    return trailing(e / torch.where(total == 0, 1.0, total), x, dim)


def vjp_by_scatter(y: Tensor, v: Tensor, offsets: Tensor, dim: int, scale: float) -> Tensor:
    """scale·y·(v − its mean), with the mean taken off three times, as in composites.py; 0 in a segment
    without weight, whatever v holds there."""
    p, u, cut = leading(y, dim), leading(v, dim), Cut(offsets, y.shape[dim] if y.ndim else 1)
    weight = cut.total(p)
    u, weight = torch.where(weight == 0, 0.0, u), torch.where(weight == 0, 1.0, weight)
    u = u - detach(cut.total(p * u) / weight)
    return trailing(scale * p * cut.centre(p, cut.centre(p, u, weight), weight), y, dim)


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
)
VJP = define(
    "segment_softmax_vjp(Tensor y, Tensor dy, Tensor offsets, int dim=-1, float scale=1.0) -> Tensor",
    *(3, vjp_on_memory, like_first),
    composite=vjp_by_scatter,
)


# --- the functions -----------------------------------------------------------------------------------


def offsets_of(offsets: Any, x: Tensor) -> Tensor:
    if not isinstance(offsets, Tensor):
        return torch.as_tensor(offsets, device=x.device)
    check_same_device(x, "the tensor", offsets, "offsets")
    return offsets


def segment_softmax(x: Any, offsets: Any, *, axis: Any, scale: Any, out: Any) -> Tensor:
    x = check_tensor(x, "x")
    y = SOFTMAX(x, offsets_of(offsets, x), one_dim(axis, x.ndim, "segments"), scale_of(scale, x))
    return y if out is None else check_out(out, y, x).copy_(y)


def segment_product(kind: str, y: Any, v: Any, offsets: Any, *, axis: Any, scale: Any, out: Any) -> Tensor:
    """The vjp or the jvp: the Jacobian is symmetric."""
    y, v = promote(("y", "dy" if kind == "vjp" else "dx"), y, v)
    options = offsets_of(offsets, y), one_dim(axis, y.ndim, "segments"), scale_of(scale, y)
    if out is None:
        result: Tensor = VJP(y, v, *options)
        return result
    return vjp_on_memory(y, v, *options, out=check_out(out, y, y, v))
