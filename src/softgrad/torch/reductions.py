"""logsumexp and entropy for tensors: the functions of `softgrad.numpy.reductions`, under the same names.

Of the forward pass x is kept, which the caller has anyway, and the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import threads
from ..formulas import entropy as formulas
from ..numpy import reductions
from ..specs import REDUCTIONS, SOFTMAX, Reduction
from . import autograd, by_formulas
from .autograd import differentiable, no_derivative, primals, vmapped
from .maps import multiplied
from .operators import below, named
from .options import Call
from .registration import define
from .tensors import (
    array,
    axis_of,
    checked,
    dims,
    limited,
    mask,
    optional,
    plain,
    scale_of,
    summed,
    target,
    wide,
    written,
)


@dataclass(frozen=True, slots=True)
class Reduce:
    """Which reduction, and how."""

    row: Reduction
    dims: tuple[int, ...]
    scale: float

    def kept(self, x: Tensor) -> list[int]:
        """The shape of the result with 1 in the place of the dims; of a 0-d tensor that is its own."""
        return [1 if d - x.ndim in self.dims else size for d, size in enumerate(x.shape)]

    def options(self, x: Tensor, where: Tensor | None) -> dict[str, Any]:
        return {"axis": axis_of(self.dims, x), "where": optional(where), "scale": self.scale}


def compute(call: Reduce, x: Tensor, where: Tensor | None) -> Tensor:
    """One number for each row; the dims stay, with length 1."""
    result = x.new_empty(call.kept(x))
    if not x.is_cpu:
        threads.ran("formulas", call.row.name)
        return result.copy_(of_formulas(call, x, where))
    given = array(x)
    options = call.options(x, where)
    limited(given.nbytes, reductions.forward, call.row, given, **options, keepdims=True, out=array(result))
    return result


def of_formulas(call: Reduce, x: Tensor, where: Tensor | None) -> Tensor:
    if x.numel() == 0:
        return torch.tensor(call.row.of_nothing)
    z = by_formulas.to_rows(wide(x), call.dims) * call.scale
    nothing = by_formulas.to_rows(x, call.dims) == (-torch.inf if call.scale >= 0 else torch.inf)
    nothing = nothing if where is None else nothing | ~by_formulas.to_rows(where, call.dims)
    z = torch.where(nothing, -torch.inf, z)
    empty = nothing.all(-1)
    z = torch.where(empty[..., None], 0.0, z)
    if call.row.of_entropy:
        t = torch.where(nothing, torch.finfo(z.dtype).min, z)  # the formula has p·t, with p = 0
        found = formulas.entropy(t, by_formulas.xp)
    else:
        found = formulas.logsumexp(z, by_formulas.xp)
    return torch.where(empty, call.row.of_nothing, found).reshape(call.kept(x))


def compute_vjp(
    call: Reduce, x: Tensor, dy: Tensor, where: Tensor | None, out: Tensor | None = None
) -> Tensor:
    if not x.is_cpu:
        threads.ran("formulas", call.row.name)
        with torch.no_grad():
            found = composite_vjp(call, x, dy, where)
            return found if out is None else out.copy_(found)
    out = torch.empty_like(x) if out is None else written(out)
    given = array(x)
    limited(
        given.nbytes, reductions.vjp, call.row, given, array(dy), **call.options(x, where), out=array(out)
    )
    return out


def composite_vjp(call: Reduce, x: Tensor, dy: Tensor, where: Tensor | None) -> Tensor:
    """The vjp made of what is differentiable: s·dy·p for logsumexp, −s·dy·J(z), z = s·x, for the entropy."""
    z = wide(x)
    p = autograd.forward(Call(SOFTMAX, call.dims, call.scale), z, where)
    if call.row.of_entropy:
        there = p != 0
        p = -autograd.product(Call(SOFTMAX, call.dims), p, torch.where(there, call.scale * z, 0.0), where)
    found = call.scale * wide(dy) * p
    found = found if where is None else torch.where(where, found, 0.0)
    return found.to(x.dtype)


class Reduced(Function):
    """The reduction of x."""

    @staticmethod
    def forward(x: Tensor, where: Tensor | None, call: Reduce) -> Any:
        if plain(x):
            return compute(call, x, where)
        return below(named(call.row.name), (x, call.dims, where, call.scale))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, where, call = inputs
        kept = (x,) if where is None else (x, where)
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)
        ctx.call = call

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, *where = ctx.saved_tensors
        return through_vjp(ctx.call, x, dy, where[0] if where else None), None, None

    @staticmethod
    @differentiable
    def jvp(ctx: Any, dx: Any, _: Any, __: Any) -> Any:
        x, *where = ctx.saved_tensors
        (x,), call = primals(x), ctx.call
        unit = through_vjp(call, x, x.new_ones(()).expand(call.kept(x)), where[0] if where else None)
        there = x != -torch.inf
        there = there & where[0] if where else there
        return summed(wide(unit) * torch.where(there, wide(dx), 0.0), call.dims).to(x.dtype)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, where: Any, call: Reduce) -> Any:
        return vmapped(lambda x, where: through(call, x, where), info, in_dims, x, where)


apply = super(Function, Reduced).apply


def through(call: Reduce, x: Tensor, where: Tensor | None) -> Any:
    if torch.compiler.is_compiling():
        return named(call.row.name)(x, call.dims, where, call.scale)
    if torch._C._are_functorch_transforms_active():
        return Reduced.apply(x, where, call)
    if no_derivative(x) and plain(x):
        return compute(call, x, where)
    return apply(x, where, call)


def through_vjp(call: Reduce, x: Tensor, dy: Tensor, where: Tensor | None) -> Any:
    """By the kernel; where a derivative follows, by what is differentiable."""
    if torch.compiler.is_compiling():
        return named(f"{call.row.name}_vjp")(x, dy, call.dims, where, call.scale)
    if torch._C._are_functorch_transforms_active() or not no_derivative(x, dy):
        return composite_vjp(call, x, dy, where)
    if plain(x, dy):
        return compute_vjp(call, x, dy, where)
    return below(named(f"{call.row.name}_vjp"), (x, dy, call.dims, where, call.scale))


# --- the functions -----------------------------------------------------------------------------------


def call_of(row: Reduction, x: Tensor, axis: Any, scale: Any) -> Reduce:
    return Reduce(row, dims(axis, x.ndim), scale_of(scale, x))


def forward(row: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Any) -> Tensor:
    x = checked(x, "x")
    where = None if where is None else mask(where, x)
    if isinstance(scale, Tensor):
        z = multiplied(x, scale, where)
        found = forward(row, z, axis=axis, where=where, scale=1.0, keepdims=keepdims, out=None).to(x.dtype)
    else:
        call = call_of(row, x, axis, scale)
        found = through(call, x, where)
        if not keepdims and x.ndim:
            found = found.squeeze(call.dims)
    return found if out is None else target(out, found, x, scale).copy_(found)


def vjp(row: Reduction, x: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    x, dy = checked(x, "x"), checked(dy, "dy")
    call = call_of(row, x, axis, scale)
    kept = tuple(call.kept(x))
    short = tuple(size for d, size in enumerate(x.shape) if d - x.ndim not in call.dims)
    if tuple(dy.shape) not in (kept, short):
        raise ValueError(
            f"dy has shape {tuple(dy.shape)}; it takes one element for each row of x, of shape "
            f"{tuple(x.shape)}: give a tensor of shape {short} or {kept}"
        )
    dtype = torch.promote_types(x.dtype, dy.dtype)
    x, dy = x.to(dtype), dy.to(dtype).reshape(kept)
    where = None if where is None else mask(where, x)
    if out is None:
        found: Tensor = through_vjp(call, x, dy, where)
        return found
    out = target(out, x, x, dy)
    return compute_vjp(call, x, dy, where, out)


def with_vjp(
    row: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Any
) -> tuple[Tensor, Callable[..., Tensor]]:
    result = forward(row, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out)

    def pullback(dy: Any, *, out: Any = None) -> Tensor:
        return vjp(row, x, dy, axis=axis, where=where, scale=scale, out=out)

    return result, pullback


# --- the registered operators ------------------------------------------------------------------------


def define_reduction(row: Reduction) -> None:
    def of(dim: Any, scale: float) -> Reduce:
        return Reduce(row, tuple(dim), scale)

    options = "int[] dim=[-1], Tensor? where=None, float scale=1.0"
    define(
        f"{row.name}(Tensor x, {options}) -> Tensor",
        lambda x, dim, where, scale: compute(of(dim, scale), x, where),
        lambda x, dim, where, scale: x.new_empty(of(dim, scale).kept(x)),
        lambda x, dim, where, scale: apply(x, where, of(dim, scale)),
        lambda x, dim, where, scale: Reduced.apply(x, where, of(dim, scale)),
    )
    define(
        f"{row.name}_vjp(Tensor x, Tensor dy, {options}) -> Tensor",
        lambda x, dy, dim, where, scale: compute_vjp(of(dim, scale), x, dy, where),
        lambda x, dy, dim, where, scale: torch.empty_like(x),
        lambda x, dy, dim, where, scale: (
            below(named(f"{row.name}_vjp"), (x, dy, dim, where, scale))
            if no_derivative(x, dy)
            else composite_vjp(of(dim, scale), x, dy, where)
        ),
        lambda x, dy, dim, where, scale: composite_vjp(of(dim, scale), x, dy, where),
    )


for row in REDUCTIONS.values():
    define_reduction(row)
