"""Softmax in segments for tensors: the functions of `softgrad.numpy.segments`, under the same names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import checks, threads
from ..numpy import segments
from .autograd import differentiable, no_derivative, primals, vmapped
from .operators import below, named
from .registration import define
from .tensors import alike, array, checked, limited, one_dim, plain, scale_of, target, together, wide, written


@dataclass(frozen=True, slots=True)
class Cut:
    """The options of a call: the dim that is cut into segments, counted from the last, and the scale."""

    dim: int
    scale: float

    def options(self) -> dict[str, Any]:
        return {"axis": self.dim, "scale": self.scale}


def rows(tensor: Tensor, dim: int) -> Tensor:
    return wide(tensor).reshape(1) if tensor.ndim == 0 else wide(tensor).movedim(dim, 0)


def store(found: Tensor, like: Tensor, dim: int) -> Tensor:
    return torch.empty_like(like).copy_(found.movedim(0, dim) if like.ndim else found.reshape(()))


def numbered(offsets: Tensor, n: int) -> tuple[Tensor, int]:
    """The number of each row's segment, and how many segments there are."""
    segments, lengths = torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff()
    return torch.repeat_interleave(segments, lengths, output_size=n), len(lengths)


def total(rows: Tensor, segment: Tensor, count: int) -> Tensor:
    """The sum of each segment."""
    return rows.new_zeros((count, *rows.shape[1:])).index_add(0, segment, rows)


def centred(y: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """v less its mean by the weights y in its segment, along the first dim."""
    segment, count = numbered(offsets, len(y))
    weight = total(y, segment, count)
    weight = torch.where(weight == 0, 1.0, weight)
    return v - (total(y * v, segment, count) / weight).index_select(0, segment)


def by_scatter(cut: Cut, x: Tensor, offsets: Tensor) -> Tensor:
    """y_i = exp(z_i) / Σ_k exp(z_k), z = scale·x: a maximum and a sum scattered to the segments."""
    x = rows(x, cut.dim)
    z = torch.where(x == (-math.inf if cut.scale >= 0 else math.inf), -math.inf, x * cut.scale)
    segment, count = numbered(offsets, len(z))
    there = segment.reshape(-1, *[1] * (z.ndim - 1)).expand_as(z)
    top = z.new_full((count, *z.shape[1:]), -math.inf).scatter_reduce(0, there, z, "amax")
    top = torch.where(top == -math.inf, 0.0, top)
    e = torch.exp(z - top.index_select(0, segment))
    weight = total(e, segment, count)
    return e / torch.where(weight == 0, 1.0, weight).index_select(0, segment)


def product_by_scatter(cut: Cut, y: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """scale·y_i·(v_i − mean), centred twice; 0 in a segment without weight, whatever v holds there."""
    y, v = rows(y, cut.dim), rows(v, cut.dim)
    segment, count = numbered(offsets, len(y))
    v = torch.where((total(y, segment, count) == 0).index_select(0, segment), 0.0, v)
    return cut.scale * y * centred(y, centred(y, v, offsets), offsets)


def seen_to(offsets: Tensor, x: Tensor, dim: int) -> Tensor:
    """The offsets of a tensor on another device, checked: the one time that the device is waited for."""
    found = checks.offsets(array(offsets.cpu()), x.shape[dim] if x.ndim else 1)
    return torch.from_numpy(found).to(x.device)


def compute(cut: Cut, x: Tensor, offsets: Tensor) -> Tensor:
    if not x.is_cpu:
        threads.ran("formulas", "segment_softmax")
        return store(by_scatter(cut, x, seen_to(offsets, x, cut.dim)), x, cut.dim)
    y = torch.empty_like(x)
    given = array(x)
    limited(given.nbytes, segments.softmax, given, array(offsets), **cut.options(), out=array(y))
    return y


def compute_product(cut: Cut, y: Tensor, v: Tensor, offsets: Tensor, out: Tensor | None = None) -> Tensor:
    if not y.is_cpu:
        threads.ran("formulas", "segment_softmax")
        found = store(product_by_scatter(cut, y, v, seen_to(offsets, y, cut.dim)), y, cut.dim)
        return found if out is None else out.copy_(found)
    out = torch.empty_like(y) if out is None else written(out)
    arrays = array(y), array(v)
    limited(
        arrays[0].nbytes, segments.product, *arrays, "dy", array(offsets), **cut.options(), out=array(out)
    )
    return out


class Segmented(Function):
    """y; saved are y and the offsets."""

    @staticmethod
    def forward(x: Tensor, offsets: Tensor, cut: Cut) -> Any:
        if plain(x, offsets):
            return compute(cut, x, offsets)
        return below(named("segment_softmax"), (x, offsets, cut.dim, cut.scale))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, offsets, ctx.cut = inputs
        ctx.save_for_backward(output, offsets)
        ctx.save_for_forward(output, offsets)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        y, offsets = ctx.saved_tensors
        return times(ctx.cut, y, dy, offsets), None, None

    @staticmethod
    @differentiable
    def jvp(ctx: Any, dx: Any, _: Any, __: Any) -> Any:
        y, offsets = ctx.saved_tensors
        (y,) = primals(y)
        return times(ctx.cut, y, dx, offsets)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, offsets: Tensor, cut: Cut) -> Any:
        same_offsets(in_dims[1])
        return vmapped(lambda x: through(cut, x, offsets), info, in_dims[:1], x)


class SegmentedProduct(Function):
    """v times the Jacobian at y, which is symmetric."""

    @staticmethod
    def forward(y: Tensor, v: Tensor, offsets: Tensor, cut: Cut) -> Any:
        if plain(y, v, offsets):
            return compute_product(cut, y, v, offsets)
        return below(named("segment_softmax_vjp"), (y, v, offsets, cut.dim, cut.scale))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.cut = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y, v, offsets), cut = ctx.saved_tensors, ctx.cut
        to_y = None
        if ctx.needs_input_grad[0]:
            p, a, b = (rows(t, cut.dim) for t in (y, v, g))
            found = cut.scale * centred(p, a, offsets) * centred(p, b, offsets)
            to_y = back(found, y, cut.dim)
        return to_y, times(cut, y, g, offsets) if ctx.needs_input_grad[1] else None, None, None

    @staticmethod
    @differentiable
    def jvp(ctx: Any, dy: Any, dv: Any, _: Any, __: Any) -> Any:
        (y, v, offsets), cut = primals(*ctx.saved_tensors), ctx.cut
        result = torch.zeros_like(y) if dv is None else times(cut, y, dv, offsets)
        if dy is None:
            return result
        p, a, t = (rows(r, cut.dim) for r in (y, v, dy))
        less = centred(p, a, offsets)
        # d(p∘(v − m)) = dp∘(v − m) − p·⟨dp, v − m⟩/⟨p,1⟩: the mean of dp∘(v − m)/p, by the weights p
        share = torch.where(p == 0, 0.0, t * less / torch.where(p == 0, 1.0, p))
        moved = t * less - p * (share - centred(p, share, offsets))
        return result + back(cut.scale * moved, y, cut.dim)

    @staticmethod
    def vmap(info: Any, in_dims: Any, y: Tensor, v: Tensor, offsets: Tensor, cut: Cut) -> Any:
        same_offsets(in_dims[2])
        return vmapped(lambda y, v: times(cut, y, v, offsets), info, in_dims[:2], y, v)


def back(found: Tensor, like: Tensor, dim: int) -> Tensor:
    return (found.movedim(0, dim) if like.ndim else found.reshape(())).to(like.dtype)


def same_offsets(in_dim: int | None) -> None:
    if in_dim is not None:
        raise NotImplementedError(
            "vmap over offsets: put the segments behind each other along one dim instead"
        )


apply, apply_product = super(Function, Segmented).apply, super(Function, SegmentedProduct).apply


def through(cut: Cut, x: Tensor, offsets: Tensor) -> Any:
    if torch.compiler.is_compiling():
        return named("segment_softmax")(x, offsets, cut.dim, cut.scale)
    if torch._C._are_functorch_transforms_active():
        return Segmented.apply(x, offsets, cut)
    return apply(x, offsets, cut)


def times(cut: Cut, y: Tensor, v: Tensor, offsets: Tensor) -> Any:
    if torch.compiler.is_compiling():
        return named("segment_softmax_vjp")(y, v, offsets, cut.dim, cut.scale)
    if torch._C._are_functorch_transforms_active():
        return SegmentedProduct.apply(y, v, offsets, cut)
    if no_derivative(y, v) and plain(y, v, offsets):
        return compute_product(cut, y, v, offsets)
    return apply_product(y, v, offsets, cut)


# --- the functions -----------------------------------------------------------------------------------


def cut_of(x: Tensor, axis: Any, scale: Any) -> Cut:
    return Cut(one_dim(axis, x.ndim, "segments"), scale_of(scale, x))


def offsets_of(offsets: Any, x: Tensor) -> Tensor:
    if not isinstance(offsets, Tensor):
        return torch.as_tensor(offsets, device=x.device)
    together(x, "the tensor", offsets, "offsets")
    return offsets


def softmax(x: Any, offsets: Any, *, axis: Any, scale: Any, out: Any) -> Tensor:
    x = checked(x, "x")
    y = through(cut_of(x, axis, scale), x, offsets_of(offsets, x))
    return y if out is None else target(out, y, x).copy_(y)


def product(y: Any, v: Any, name: str, offsets: Any, *, axis: Any, scale: Any, out: Any) -> Tensor:
    y, v = alike(("y", name), y, v)
    cut, offsets = cut_of(y, axis, scale), offsets_of(offsets, y)
    if out is None:
        found: Tensor = times(cut, y, v, offsets)
        return found
    return compute_product(cut, y, v, offsets, target(out, y, y, v))


# --- the registered operators ------------------------------------------------------------------------


define(
    "segment_softmax(Tensor x, Tensor offsets, int dim=-1, float scale=1.0) -> Tensor",
    lambda x, offsets, dim, scale: compute(Cut(dim, scale), x, offsets),
    lambda x, offsets, dim, scale: torch.empty_like(x),
    lambda x, offsets, dim, scale: apply(x, offsets, Cut(dim, scale)),
    lambda x, offsets, dim, scale: Segmented.apply(x, offsets, Cut(dim, scale)),
)
define(
    "segment_softmax_vjp(Tensor y, Tensor dy, Tensor offsets, int dim=-1, float scale=1.0) -> Tensor",
    lambda y, dy, offsets, dim, scale: compute_product(Cut(dim, scale), y, dy, offsets),
    lambda y, dy, offsets, dim, scale: torch.empty_like(y),
    lambda y, dy, offsets, dim, scale: apply_product(y, dy, offsets, Cut(dim, scale)),
    lambda y, dy, offsets, dim, scale: SegmentedProduct.apply(y, dy, offsets, Cut(dim, scale)),
)
