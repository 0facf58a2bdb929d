"""Divergences, the entropy of probabilities and the diagonal of a Hessian for tensors.

On memory of the CPU the kernels do it, and find a gradient along with the divergence; that, beside the
inputs, is what is saved.  Everything else (further derivatives, transforms, other devices) is made of
PyTorch's operations by the formulas.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import arrays, checks, formulas, specs
from ..specs import Divergence
from .backend import (
    are_memory,
    by_kernels,
    from_rows,
    kept_shape,
    run,
    scaled_logits,
    take_kernels,
    to_rows,
    with_torch_threads,
    xp,
)
from .ops import OPS
from .tensors import array, check_tensor, dims_of, into, mask, promote, scale_of, wide

Dims = tuple[int, ...]


def shown(result: Tensor, x: Tensor, dims: Dims, keepdims: bool) -> Tensor:
    """One number for each row, in the shape that is asked for."""
    shape = kept_shape(x, dims)
    return result.reshape(shape) if keepdims or not x.ndim else result.reshape(shape).squeeze(dims)


def kept_rows(x: Tensor, dy: Tensor, dims: Dims) -> Tensor:
    """A dy with the dims at length 1."""
    kept = tuple(kept_shape(x, dims))
    short = tuple(size for d, size in enumerate(x.shape) if d - x.ndim not in dims)
    if tuple(dy.shape) not in (kept, short):
        raise ValueError(
            f"dy has shape {tuple(dy.shape)}; it takes one element for each row of x, of shape "
            f"{tuple(x.shape)}: give a tensor of shape {short} or {kept}"
        )
    return dy.reshape(kept)


# --- divergences -------------------------------------------------------------------------------------


@with_torch_threads
def on_cpu(
    spec: Divergence,
    x: Tensor,
    target: Tensor,
    probs: bool,
    dims: Dims,
    where: Tensor | None,
    scale: float,
    side: int | None,
) -> tuple[Tensor, Tensor | None]:
    """The divergence with the dims at length 1; and its gradient for x, side 0, or for the target, side 1."""
    numbers = x.new_ones(kept_shape(x, dims), dtype=torch.float64)
    gradient = None if side is None else torch.empty_like(x)
    tensors = (x, target, numbers) if gradient is None else (x, target, numbers, gradient)
    if x.numel() == 0:
        return numbers.zero_(), gradient
    name, more = f"divergence{'_of_probabilities' if probs else ''}", (float(spec.kind), float(side or 0))
    run(name, tensors, dims, where, scale, more=more, shaped=0)
    return numbers, gradient


def by_formulas(
    spec: Divergence,
    x: Tensor,
    target: Tensor,
    probs: bool,
    dims: Dims,
    where: Tensor | None,
    scale: float,
) -> Tensor:
    """The same of what is traced, or is to have further derivatives; without the gradient."""
    a, e = powers(x, dims, where, scale)
    if probs:
        w = to_rows(wide(target) if where is None else wide(target).masked_fill(~where, 0.0), dims)
        w = torch.where(w == 0, 0.0, w)  # without a derivative: the support convention
        b = torch.where(w == 0, -math.inf, torch.where(w == 0, 1.0, w).log())
    else:
        b, w = powers(target, dims, where, scale)
    some = (e.sum(-1, keepdim=True) != 0) & (w.sum(-1, keepdim=True) != 0)
    a, b = (torch.where(some, log, -math.inf) for log in (a, b))
    p, t, d = formulas.log_ratio(a, torch.where(some, e, 0.0), b, torch.where(some, w, 0.0), xp)
    if spec is specs.JS:
        value = formulas.js_divergence(p, t, d, xp)
    else:
        value = (
            formulas.kl_divergence(t, p, d, xp) if spec is specs.KL else formulas.kl_divergence(p, t, -d, xp)
        )
    return value.reshape(kept_shape(x, dims)).to(x.dtype)


def powers(x: Tensor, dims: Dims, where: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """scale·x less its largest in rows, −inf where it has no part, and its exponential."""
    z, _ = scaled_logits(x, dims, where, scale)
    top = z.detach().amax(-1, keepdim=True) if z.shape[-1] else z
    a = z - torch.where(top == -math.inf, 0.0, top)
    return a, a.exp()


class OfKernel(Function):
    """The divergence, with the gradients that are wanted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor, *options: Any) -> Any:
        gradients: list[Tensor | None] = [None, None]
        value = None
        for side in (0, 1):
            if ctx.needs_input_grad[side]:
                value, gradients[side] = on_cpu(options[0], x, target, *options[1:], side)
        if value is None:
            value, _ = on_cpu(options[0], x, target, *options[1:], None)
        ctx.save_for_backward(x, target, *gradients)
        ctx.options = options
        return value.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, target, *gradients = ctx.saved_tensors
        nones = (None,) * len(ctx.options)
        if torch.is_grad_enabled():
            spec, *others = ctx.options
            pullback: Any = torch.func.vjp(lambda x, t: by_formulas(spec, x, t, *others), x, target)[1]
            found = pullback(dy)
            return *(
                one if need else None for one, need in zip(found, ctx.needs_input_grad, strict=False)
            ), *nones
        return *(None if one is None else one * dy for one in gradients), *nones


of_kernel = super(Function, OfKernel).apply


def given(
    x: Any, target: Any, probs: bool, axis: Any, where: Any, temperature: Any
) -> tuple[Tensor, Tensor, Dims, Tensor | None, float]:
    """The checked arguments."""
    name = "target_probs" if probs else "target_logits"
    x, target = promote(("x", name), x, target)
    where = None if where is None else mask(where, x)
    if probs and are_memory(target):
        checks.probabilities(array(target.detach()), name, "target_logits")
    return x, target, dims_of(axis, x.ndim), where, checks.inverse_temperature(temperature)


def divergence(
    spec: Divergence,
    x: Any,
    target: Any,
    probs: bool,
    *,
    axis: Any,
    where: Any,
    temperature: Any,
    keepdims: bool,
) -> Tensor:
    x, target, dims, where, scale = given(x, target, probs, axis, where, temperature)
    options = spec, x, target, probs, dims, where, scale
    if are_memory(x, target, where):
        return shown(of_kernel(x, target, spec, *options[3:]), x, dims, keepdims)
    return shown(by_formulas(*options), x, dims, keepdims)


def divergence_vjp(
    spec: Divergence, x: Any, dy: Any, target: Any, probs: bool, *, axis: Any, where: Any, temperature: Any
) -> tuple[Tensor, Tensor]:
    x, target, dims, where, scale = given(x, target, probs, axis, where, temperature)
    dy = kept_rows(x, check_tensor(dy, "dy"), dims)
    if take_kernels(x, target, dy, where):
        options = {"axis": dims, "where": where, "temperature": temperature}
        found: tuple[Tensor, Tensor] = by_kernels(
            arrays.divergence_vjp, spec, x, dy, target, probs, **options
        )
        return found
    value, pullback, *_ = torch.func.vjp(
        lambda x, t: by_formulas(spec, x, t, probs, dims, where, scale), x, target
    )
    dx, dtarget = pullback(dy.to(value.dtype))
    return dx, dtarget


# --- the entropy of probabilities ----------------------------------------------------------------------


class EntropyOfKernel(Function):
    """The entropy of probabilities; saved are they, and the gradient if it is wanted."""

    @staticmethod
    @with_torch_threads
    def forward(ctx: Any, p: Tensor, dims: Dims, where: Tensor | None) -> Any:
        numbers = p.new_ones(kept_shape(p, dims), dtype=torch.float64)
        gradient = torch.empty_like(p) if ctx.needs_input_grad[0] else None
        if p.numel() == 0:
            numbers.zero_()
        else:
            tensors = (p, numbers) if gradient is None else (p, numbers, gradient)
            run("entropy_of_probabilities", tensors, dims, where, shaped=0)
        ctx.save_for_backward(p, where, gradient)
        ctx.dims = dims
        return numbers.to(p.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        p, where, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            return entropy_of_probabilities_vjp(p, dy, axis=ctx.dims, where=where, out=None), None, None
        return gradient * dy, None, None


entropy_of_kernel = super(Function, EntropyOfKernel).apply


def entropy_of_probabilities(p: Any, *, axis: Any, where: Any, keepdims: bool) -> Tensor:
    p = check_tensor(p, "p")
    dims, where = dims_of(axis, p.ndim), None if where is None else mask(where, p)
    if are_memory(p, where):
        checks.probabilities(array(p.detach()), "p", "them to entropy")
        return shown(entropy_of_kernel(p, dims, where), p, dims, keepdims)
    rows = to_rows(wide(p) if where is None else wide(p).masked_fill(~where, 0.0), dims)
    return shown(formulas.entropy_of_probabilities(rows, xp).to(p.dtype), p, dims, keepdims)


def entropy_of_probabilities_vjp(p: Any, dy: Any, *, axis: Any, where: Any, out: Any) -> Tensor:
    p, dy = check_tensor(p, "p"), check_tensor(dy, "dy")
    dims, where = dims_of(axis, p.ndim), None if where is None else mask(where, p)
    dtype = torch.promote_types(p.dtype, dy.dtype)
    p, dy = p.to(dtype), kept_rows(p, dy.to(dtype), dims)
    if take_kernels(p, dy, where):
        options = {"axis": dims, "where": where, "out": None}
        found = by_kernels(arrays.entropy_of_probabilities_vjp, p, dy, **options)
        return into(out, found, p, dy)
    nothing = p == 0 if where is None else (p == 0) | ~where
    slope = -(torch.where(nothing, 1.0, wide(p)).log() + 1) * wide(dy)
    return into(out, torch.where(nothing, 0.0, slope).to(p.dtype), p, dy)


# --- the diagonal of a Hessian -------------------------------------------------------------------------


def hessian_diagonal(y: Any, dy: Any, h: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    given = {"y": y, "dy": dy} | ({} if h is None else {"h": h})
    y, dy, *others = promote(tuple(given), *given.values())
    dims, where = dims_of(axis, y.ndim), None if where is None else mask(where, y)
    factor = scale_of(scale, y)
    if take_kernels(y, dy, *others, where):
        options = {"axis": dims, "where": where, "scale": factor, "out": None}
        h = others[0] if others else None
        found = by_kernels(arrays.hessian_diagonal, y, dy, h, **options)
        return into(out, found, y, dy, *others)
    dx = OPS["softmax"].vjp(wide(y), wide(dy), dims, where, factor)
    weights, *others = (wide(a) if where is None else wide(a).masked_fill(~where, 0.0) for a in (y, *others))
    weights, dx, *others = (to_rows(a, dims) for a in (weights, dx, *others))
    found = formulas.softmax_hessian_diagonal(weights, dx, others[0] if others else None, factor, xp)
    return into(out, from_rows(found, y, dims).to(y.dtype), y, dy, *others)
