"""Cross-entropy for tensors.

A differentiable call finds the gradient g of each row's loss along with the loss, and saves that; x is not
needed again.  g is an output of the operation, with derivatives of its own: g = p·T − t', T = Σt', so that p
is (g + t')/T, and ∂g/∂x = T·J(p).  Every further derivative follows from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import loss_checks, threads
from .backend import run, with_torch_threads
from .ops import OPS, define
from .private import (
    followed_by_forward_mode,
    forward_mode,
    is_plain_storage,
    no_derivative,
    primals,
    transforms_active,
)
from .tensors import FLOATS, alike, array, checked, one_dim, same_device, wide
from .tensors import target as checked_out

# --- on memory ---------------------------------------------------------------------------------------


@with_torch_threads
def losses_of_rows(
    x: Tensor, target: Tensor, dim: int, smoothing: float, ignore: int | None, gradient: Tensor | None = None
) -> Tensor:
    """The loss of each row, as `softgrad.numpy` has it; its gradient is written to `gradient`.

    The kernel knows what all classes have alike in the weights t'; the target has `share` more.  With
    d = x_target − top and S = 1 + R, the p of the target is exp(d)/S, and 1 − p is (R − expm1(d))/S.
    """
    weights, classes, counted = weights_or_classes(x, target, dim, ignore)
    if x.numel() == 0:
        return x.new_zeros(shape_of_rows(x, dim))
    if x.ndim == 0:
        x, classes = x.reshape(1), classes.reshape(())
        weights, gradient = (None if t is None else t.reshape(1) for t in (weights, gradient))
    n = x.shape[dim]
    share, even = 1.0 - smoothing, smoothing / n
    top, others, distance, total = sums_of_rows(x, weights, gradient, dim, (share, even, smoothing, 1.0))
    if weights is not None:
        return (distance + (share * total + smoothing) * others.log1p()).to(x.dtype)
    index = classes.unsqueeze(dim)
    d = x.gather(dim, index).squeeze(dim).to(top.dtype) - top
    losses = others.log1p()
    losses = losses + distance if smoothing else losses
    losses = losses - share * d if share else losses
    if gradient is not None:
        at_target = even * (n - 1) - (others - d.expm1()) / (1 + others)
        gradient.scatter_(dim, index, at_target.unsqueeze(dim).to(x.dtype))
    if counted is not None:
        losses = torch.where(counted, losses, 0.0)
        if gradient is not None:
            gradient.masked_fill_(~counted.unsqueeze(dim), 0.0)
    return losses.to(x.dtype)


def weights_or_classes(
    x: Tensor, target: Tensor, dim: int, ignore: int | None
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """(weights, –, None), or (None, classes, which rows count); on the CPU their values are checked."""
    if x.is_cpu:
        axis = dim + x.ndim if x.ndim else 0
        *_, some = loss_checks.weights_or_classes(array(target), tuple(x.shape), axis, ignore)
        ignore = None if some is None else ignore
    if target.is_floating_point():
        return target, target, None
    counted = None if ignore is None else target != ignore
    classes = target if counted is None else torch.where(counted, target, 0)
    return None, classes.long(), counted


def sums_of_rows(
    x: Tensor, weights: Tensor | None, gradient: Tensor | None, dim: int, numbers: tuple[float, ...]
) -> tuple[Tensor, ...]:
    """What cpu/cross_entropy.py says of each row: the top, the sum of the other exponentials, Σ t'(top − x),
    and Σ t; it writes the gradient, but for the target's part of it."""
    if not x.is_cpu:
        threads.ran("formulas", "cross_entropy")
        return sums_by_formulas(x, weights, gradient, dim, numbers)
    shape = [1 if d == dim + x.ndim else size for d, size in enumerate(x.shape)]
    sums = x.new_empty((*shape, 4), dtype=torch.float64)
    tensors = [t for t in (x, weights, sums[..., 0], gradient) if t is not None]
    name = "cross_entropy" if weights is None else "cross_entropy_of_weights"
    run(name, tuple(tensors), (dim,), more=numbers, shaped=0)
    return sums.squeeze(dim - 1).unbind(-1)


def sums_by_formulas(
    x: Tensor, weights: Tensor | None, gradient: Tensor | None, dim: int, numbers: tuple[float, ...]
) -> tuple[Tensor, ...]:
    share, even, smoothing, _ = numbers
    x = wide(x)
    t = torch.zeros_like(x) if weights is None else wide(weights)
    top = x.amax(dim, keepdim=True)
    is_top, e = x == top, (x - top).exp()
    others = torch.where(is_top, 0.0, e).sum(dim, keepdim=True) + is_top.sum(dim, keepdim=True) - 1
    others = others + (top - top)  # NaN if that is not finite
    smoothed = share * t + even
    distance = torch.where(smoothed == 0, 0.0, smoothed * (top - x)).sum(dim, keepdim=True)
    total = t.sum(dim, keepdim=True)
    if gradient is not None:
        whole = 1.0 if weights is None else total * share + smoothing
        gradient.copy_(e / (1 + others) * whole - smoothed)
    return tuple(sums.squeeze(dim) for sums in (top, others, distance, total))


def shape_of_rows(x: Tensor, dim: int) -> list[int]:
    return [size for d, size in enumerate(x.shape) if d - x.ndim != dim]


# --- the operation -----------------------------------------------------------------------------------


def beside(rows: Tensor, like: Tensor, dim: int) -> Tensor:
    """One number for each row, with the dim of the classes."""
    return rows.unsqueeze(dim) if like.ndim else rows


def smoothed_weights(x: Tensor, target: Tensor, dim: int, smoothing: float, ignore: int | None) -> Tensor:
    """t', along the dim of the classes; rows that do not count are 0."""
    n = x.shape[dim] if x.ndim else 1
    if target.is_floating_point():
        return (1 - smoothing) * wide(target) + smoothing / max(n, 1)
    classes = torch.arange(n, device=x.device)
    classes = classes.view([-1] + [1] * (-dim - 1)) if x.ndim else classes[0]
    target = beside(target, x, dim)
    t = (1 - smoothing) * (classes == target).to(wide(x).dtype) + smoothing / max(n, 1)
    return t if ignore is None else torch.where(target != ignore, t, 0.0)


def curvature(g: Tensor, target: Tensor, v: Tensor, dim: int, *options: Any) -> Tensor:
    """T·J(p)·v."""
    t = smoothed_weights(g, target, dim, *options)
    total = t.sum(dim, keepdim=True)
    p = (wide(g) + t) / torch.where(total == 0, 1.0, total)
    v = torch.where(p == 0, 0.0, wide(v))
    return (total * OPS["softmax"].vjp(p, v, (dim,), None, 1.0)).to(g.dtype)


class CrossEntropy(Function):
    """(losses, g); saved are g and the target."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, target, *ctx.options = inputs
        ctx.save_for_backward(output[1], target)
        ctx.save_for_forward(output[1], target)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, dlosses: Any, dg: Any) -> Any:
        (g, target), (dim, _, ignore) = ctx.saved_tensors, ctx.options
        dx = None
        if dlosses is not None:
            dx = g * beside(dlosses, g, dim)
            if ignore is not None:
                dx = torch.where(beside(target != ignore, g, dim), dx, 0.0)
        if dg is not None:
            second = curvature(g, target, dg, *ctx.options)
            dx = second if dx is None else dx + second
        return dx, None, None, None, None

    @staticmethod
    @followed_by_forward_mode
    def jvp(ctx: Any, dx: Any, *_: Any) -> Any:
        g, target = primals(*ctx.saved_tensors)
        absent = (g == 0) & (
            smoothed_weights(g, target, *ctx.options) == 0
        )  # −inf, and rows that do not count
        dlosses = (wide(g) * torch.where(absent, 0.0, wide(dx))).sum(ctx.options[0]).to(g.dtype)
        return dlosses, curvature(g, target, dx, *ctx.options)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, target: Any, *options: Any) -> Any:
        x, target = (
            t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
            for t, d in zip((x, target), in_dims, strict=False)
        )
        if x.ndim > 1:
            return cross_entropy_of_rows(x, target, *options), (0, 0)
        target = target.unsqueeze(-1) if target.is_floating_point() else target
        losses, g = cross_entropy_of_rows(x.unsqueeze(-1), target, *options)
        return (losses, g.squeeze(-1)), (0, 0)


def losses_and_gradient(x: Tensor, target: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    gradient = torch.empty_like(x)
    return losses_of_rows(x, target, *options, gradient=gradient), gradient


cross_entropy_of_rows = define(
    "cross_entropy(Tensor x, Tensor target, int dim=-1, float label_smoothing=0.0, int? ignore_index=None) "
    "-> (Tensor, Tensor)",
    *(2, losses_and_gradient),
    lambda x, target, dim, *_: (x.new_empty(shape_of_rows(x, dim)), torch.empty_like(x)),
    CrossEntropy,
)


# --- the functions -----------------------------------------------------------------------------------


def evaluate(
    x: Any, target: Any, *, axis: Any, label_smoothing: Any, ignore_index: Any, reduction: Any, gradient: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
    """The loss, the gradients of the rows if asked for, which rows count (None: all), and the dim."""
    x = checked(x, "x")
    if not isinstance(target, Tensor):
        raise TypeError(f"target takes a tensor, not {type(target).__name__}: give torch.as_tensor(target)")
    same_device(x, "x", target, "target")
    dim = one_dim(axis, x.ndim, "the classes")
    loss_checks.reduction(reduction)
    if type(label_smoothing) is not float or not 0 <= label_smoothing <= 1:
        label_smoothing = loss_checks.smoothing(label_smoothing)
    options = dim, label_smoothing, ignore_index
    if target.dtype in FLOATS and target.shape == x.shape:
        x, target = alike(("x", "target"), x, target)
    g = None
    if target.is_floating_point() and (forward_mode() or not no_derivative([target], [0])):
        losses = differentiable_in_the_target(x, target, *options)
    elif traced() or gradient or not no_derivative((x, target), (0, 1)) or not is_plain_storage(x, target):
        losses, g = cross_entropy_of_rows(x, target, *options)
    else:
        losses = losses_of_rows(x, target, *options)
    counted = None if ignore_index is None else target != ignore_index
    return reduced(losses, counted, reduction), g, counted, dim


def traced() -> bool:
    return torch.compiler.is_compiling() or transforms_active()


def differentiable_in_the_target(x: Tensor, target: Tensor, dim: int, *options: Any) -> Tensor:
    """The losses by log p, which is minus the gradient with respect to the weights."""
    t = smoothed_weights(x, target, dim, *options)
    log_p = OPS["log_softmax"].forward(wide(x), (dim,), None, 1.0, "zero", False)
    return -torch.where(t == 0, 0.0, t * torch.where(t == 0, 0.0, log_p)).sum(dim).to(x.dtype)


def reduced(losses: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    total = wide(losses).sum()
    if reduction == "mean":
        total = total / (losses.numel() if counted is None else counted.sum())
    return total.to(losses.dtype)


def cross_entropy(x: Any, target: Any, **options: Any) -> Tensor:
    return evaluate(x, target, **options, gradient=False)[0]


def cross_entropy_with_vjp(
    x: Any, target: Any, *, out: Any, **options: Any
) -> tuple[Tensor, Callable[..., Tensor]]:
    with torch.no_grad():
        loss, g, counted, dim = evaluate(x, target, **options, gradient=True)
    assert g is not None
    gradient = g
    if options["reduction"] == "mean":
        rows = math.prod(shape_of_rows(g, dim)) if counted is None else int(counted.sum())
        gradient = g / max(rows, 1)
    if out is not None:
        gradient = checked_out(out, gradient).copy_(gradient)

    def pullback(dloss: Any = 1.0, *, out: Any = None) -> Tensor:
        factor = torch.as_tensor(dloss, dtype=torch.float64, device=gradient.device)
        if out is None and factor.ndim == 0 and factor == 1:
            return gradient
        if factor.ndim:
            factor = factor if counted is None else torch.where(counted, factor, 0.0)
            factor = factor.unsqueeze(dim)
        dx = (gradient.double() * factor).to(gradient.dtype)
        return dx if out is None else checked_out(out, dx).copy_(dx)

    return loss, pullback
