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

from .. import checks, threads
from .backend import run, with_torch_threads
from .ops import OPS, REDUCTION_OPS
from .private import (
    forward_mode,
    is_plain_storage,
    no_derivative,
    primals,
    transforms_active,
    with_forward_mode,
)
from .register import define
from .tensors import (
    FLOATS,
    array,
    check_out,
    check_same_device,
    check_tensor,
    into,
    mask,
    one_dim,
    promote,
    wide,
)

# --- on memory ---------------------------------------------------------------------------------------


def shape_of_rows(x: Tensor, dim: int) -> list[int]:
    return [size for d, size in enumerate(x.shape) if d - x.ndim != dim]


def with_class_dim(rows: Tensor, like: Tensor, dim: int) -> Tensor:
    """One number for each row, with the dim of the classes."""
    return rows.unsqueeze(dim) if like.ndim else rows


def smoothed_weights(x: Tensor, target: Tensor, dim: int, smoothing: float, ignore: int | None) -> Tensor:
    """t', along the dim of the classes; rows that do not count are 0."""
    n = x.shape[dim] if x.ndim else 1
    if target.is_floating_point():
        return (1 - smoothing) * wide(target) + smoothing / max(n, 1)
    classes = torch.arange(n, device=x.device)
    classes = classes.view([-1] + [1] * (-dim - 1)) if x.ndim else classes[0]
    target = with_class_dim(target, x, dim)
    t = (1 - smoothing) * (classes == target).to(wide(x).dtype) + smoothing / max(n, 1)
    return t if ignore is None else torch.where(target != ignore, t, 0.0)


def losses_by_log_p(x: Tensor, t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The loss of each row for the weights t', and log p; 16-bit types in float32, as all losses of rows."""
    log_p = OPS["log_softmax"].forward(wide(x), (dim,), None, 1.0, "zero", False)
    return -torch.where(t == 0, 0.0, t * torch.where(t == 0, 0.0, log_p)).sum(dim), log_p


def losses_and_gradient(x: Tensor, target: Tensor, dim: int, *options: Any) -> tuple[Tensor, Tensor]:
    """The loss of each row, and its gradient."""
    gradient = torch.empty_like(x)
    if x.is_cpu:
        return losses_on_cpu(x, target, dim, *options, gradient=gradient), gradient
    threads.ran("formulas", "cross_entropy")
    if x.numel() == 0:
        return wide(x).new_zeros(shape_of_rows(x, dim)), gradient
    losses, dx = by_formulas(x, target, dim, *options)
    return losses, gradient.copy_(dx)


def by_formulas(x: Tensor, target: Tensor, dim: int, *options: Any) -> tuple[Tensor, Tensor]:
    t = smoothed_weights(x, target, dim, *options)
    losses, log_p = losses_by_log_p(x, t, dim)
    absent = (t == 0).all(dim, keepdim=True)  # rows that do not count
    return losses, torch.where(absent, 0.0, log_p.exp() * t.sum(dim, keepdim=True) - t)


@with_torch_threads
def losses_on_cpu(
    x: Tensor, target: Tensor, dim: int, smoothing: float, ignore: int | None, gradient: Tensor | None = None
) -> Tensor:
    """The loss of each row; its gradient is written to `gradient`.

    The kernel knows of the weights t' what all classes have alike; the class that is the target has `share`
    more.  With d = x_target − top and S = 1 + others, p of the target is exp(d)/S, and 1 − p is
    (others − expm1(d))/S.
    """
    axis = dim + x.ndim if x.ndim else 0
    *_, counted = checks.weights_or_classes(array(target), tuple(x.shape), axis, ignore)
    if x.numel() == 0:
        return wide(x).new_zeros(shape_of_rows(x, dim))
    if x.ndim == 0:
        x, gradient = x.reshape(1), None if gradient is None else gradient.reshape(1)
        target = target.reshape(1) if target.is_floating_point() else target
    n, share, weighted = x.shape[dim], 1.0 - smoothing, target.is_floating_point()
    even = smoothing / n
    sums = x.new_ones((*x.shape[:axis], 1, *x.shape[axis + 1 :], 5), dtype=torch.float64)
    tensors = [t for t in (x, target if weighted else None, sums[..., 0], gradient) if t is not None]
    name = "cross_entropy_of_weights" if weighted else "cross_entropy"
    run(name, tuple(tensors), (dim,), more=(share, even, smoothing, 0.0), shaped=0)
    top, others, distance, total, _ = sums.squeeze(axis).unbind(-1)
    if weighted:
        return (distance + (share * total + smoothing) * others.log1p()).to(wide(x).dtype)
    counts = None if counted is None else torch.from_numpy(counted)
    index = (target if counts is None else torch.where(counts, target, 0)).long().unsqueeze(dim)
    d = x.gather(dim, index).squeeze(dim).double() - top
    losses = others.log1p()
    losses = losses + distance if smoothing else losses
    losses = losses - share * d if share else losses
    if gradient is not None:
        at_target = even * (n - 1) - (others - d.expm1()) / (1 + others)
        gradient.scatter_(dim, index, at_target.unsqueeze(dim).to(x.dtype))
    if counts is not None:
        losses = torch.where(counts, losses, 0.0)
        if gradient is not None:
            gradient.masked_fill_(~counts.unsqueeze(dim), 0.0)
    return losses.to(wide(x).dtype)


# --- the operation -----------------------------------------------------------------------------------


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
            dx = (g * with_class_dim(dlosses, g, dim)).to(g.dtype)
            if ignore is not None:
                dx = torch.where(with_class_dim(target != ignore, g, dim), dx, 0.0)
        if dg is not None:
            second = curvature(g, target, dg, *ctx.options)
            dx = second if dx is None else dx + second
        return dx, None, None, None, None

    @staticmethod
    @with_forward_mode
    def jvp(ctx: Any, dx: Any, *_: Any) -> Any:
        g, target = primals(*ctx.saved_tensors)
        t = smoothed_weights(g, target, *ctx.options)
        absent = (g == 0) & (t == 0)  # −inf, and rows that do not count
        dlosses = (wide(g) * torch.where(absent, 0.0, wide(dx))).sum(ctx.options[0])
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


cross_entropy_of_rows = define(
    "cross_entropy(Tensor x, Tensor target, int dim=-1, float label_smoothing=0.0, int? ignore_index=None) "
    "-> (Tensor, Tensor)",
    *(2, losses_and_gradient),
    lambda x, target, dim, *_: (wide(x).new_empty(shape_of_rows(x, dim)), torch.empty_like(x)),
    CrossEntropy,
)


# --- the functions -----------------------------------------------------------------------------------


def check_target(x: Any, target: Any, axis: Any) -> tuple[Tensor, Tensor, int]:
    """The logits and the target, in one dtype if both are floats, and the dim of the classes."""
    x = check_tensor(x, "x")
    if not isinstance(target, Tensor):
        raise TypeError(f"target takes a tensor, not {type(target).__name__}: give torch.as_tensor(target)")
    check_same_device(x, "x", target, "target")
    if target.dtype in FLOATS and target.shape == x.shape:
        x, target = promote(("x", "target"), x, target)
    return x, target, one_dim(axis, x.ndim, "the classes")


def evaluate(
    x: Any,
    target: Any,
    *,
    axis: Any,
    label_smoothing: Any,
    ignore_index: Any,
    reduction: Any,
    sample_weight: Any = None,
    weight: Any = None,
    where: Any = None,
    z_loss: Any = 0.0,
    dtype: Any = None,
    gradient: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
    """The loss, the gradients of the rows if asked for, which rows count (None: all), and the dim."""
    x, target, dim = check_target(x, target, axis)
    checks.reduction(reduction)
    if type(label_smoothing) is not float or not 0 <= label_smoothing <= 1:
        label_smoothing = checks.smoothing(label_smoothing)
    kind = x.dtype if dtype is None else loss_dtype(dtype)
    plain = sample_weight is weight is where is None and not z_loss
    if not plain:
        return weighted(
            *(x, target, dim, label_smoothing, ignore_index, reduction),
            *(sample_weight, weight, where, checks.not_negative(z_loss, "z_loss"), kind),
        )
    losses, g = losses_of(x, target, (dim, label_smoothing, ignore_index), gradient)
    counted = None if ignore_index is None else target != ignore_index
    return reduce_losses(losses, counted, reduction).to(kind), g, counted, dim


def losses_of(x: Tensor, target: Tensor, options: Any, gradient: bool) -> tuple[Tensor, Tensor | None]:
    """The loss of each row, and its gradient if that is asked for, or found along with it."""
    if target.is_floating_point() and (forward_mode() or not no_derivative([target], [0])):
        return losses_by_log_p(x, smoothed_weights(x, target, *options), options[0])[0], None
    if gradient or is_traced() or not (no_derivative([x], [0]) and x.is_cpu and is_plain_storage(x, target)):
        losses, g = cross_entropy_of_rows(x, target, *options)
        return losses, g
    return losses_on_cpu(x, target, *options), None


def loss_dtype(dtype: Any) -> torch.dtype:
    if dtype not in FLOATS:
        raise TypeError(f"dtype={dtype}; it takes one of {', '.join(map(str, FLOATS))}")
    kind: torch.dtype = dtype
    return kind


def weighted(
    x: Tensor,
    target: Tensor,
    dim: int,
    smoothing: float,
    ignore: int | None,
    reduction: str,
    sample_weight: Any,
    weight: Any,
    where: Any,
    z_loss: float,
    kind: torch.dtype,
) -> tuple[Tensor, None, Tensor | None, int]:
    """The loss with weights of rows or classes, masked classes, or a z-loss."""
    soft, n = target.is_floating_point(), x.shape[dim] if x.ndim else 1
    counted = None if ignore is None or soft else target != ignore
    rows = torch.ones(shape_of_rows(x, dim), dtype=wide(x).dtype, device=x.device)
    if sample_weight is not None:
        rows = given_weights(sample_weight, "sample_weight", checks.sample_weights, tuple(rows.shape)).to(
            rows
        )
        rows = rows.expand(shape_of_rows(x, dim))
        counted = rows != 0 if counted is None else counted & (rows != 0)
    if where is not None:
        where = mask(where, x)
        x = x.masked_fill(~where, -math.inf)
        target = target.masked_fill(~where, 0.0) if soft else target
    if counted is not None:
        x = torch.where(with_class_dim(counted, x, dim), x, 0.0)
        rows = torch.where(counted, rows, 0.0)
        target = torch.where(with_class_dim(counted, x, dim), target, 0.0) if soft else target
    of_classes = None
    if weight is not None:
        of_classes = given_weights(weight, "weight", checks.class_weights, n).to(rows)
    factors = rows
    if of_classes is not None and not soft:
        at = target if ignore is None else torch.where(target != ignore, target, 0)
        rows = rows * of_classes[at.long()]
    if (of_classes is not None or where is not None) and (soft or smoothing):
        t = smoothed_weights(x, target, dim, 0.0, ignore)
        there = torch.ones_like(x, dtype=torch.bool) if where is None else where
        present = there.sum(dim, keepdim=True, dtype=t.dtype).clamp(min=1) if x.ndim else 1
        t = (1 - smoothing) * t + smoothing / present * there
        if of_classes is not None:
            t = t * (of_classes.view([-1] + [1] * (-dim - 1)) if x.ndim else of_classes[0])
        losses, _ = losses_of(wide(x), t.to(wide(x).dtype), (dim, 0.0, None), False)
    else:
        losses, _ = losses_of(x, target, (dim, smoothing, ignore if not soft else None), False)
        factors = rows
    if z_loss:
        log_s = REDUCTION_OPS["logsumexp"].forward(wide(x), (dim,), None, 1.0)
        term = z_loss * (log_s.squeeze(dim) if x.ndim else log_s) ** 2
        own = of_classes[at.long()] if of_classes is not None and not soft and smoothing else 1.0
        losses = losses + own * term
    losses = losses * factors if counted is None else torch.where(counted, losses * factors, 0.0)
    if reduction == "none":
        return losses.to(kind), None, counted, dim
    total = losses.sum()
    return (total / rows.sum() if reduction == "mean" else total).to(kind), None, counted, dim


def given_weights(value: Any, name: str, check: Callable[..., Any], size: Any) -> Tensor:
    """Weights as a tensor; what is traced is not checked."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} takes a tensor, not {type(value).__name__}: give torch.as_tensor({name})")
    if value.is_cpu and is_plain_storage(value):
        check(array(value.detach()), size)
    return value


def is_traced() -> bool:
    return torch.compiler.is_compiling() or transforms_active()


def reduce_losses(losses: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
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
    if any(options[name] is not None for name in ("sample_weight", "weight", "where")) or options["z_loss"]:
        return by_autograd(lambda x: cross_entropy(x, target, **options), x, out)
    with torch.no_grad():
        loss, g, counted, dim = evaluate(x, target, **options, gradient=True)
    assert g is not None
    gradient = g
    if options["reduction"] == "mean":
        rows = math.prod(shape_of_rows(g, dim)) if counted is None else int(counted.sum())
        gradient = g / max(rows, 1)
    if out is not None:
        gradient = check_out(out, gradient).copy_(gradient)

    def pullback(dloss: Any = 1.0, *, out: Any = None) -> Tensor:
        factor = torch.as_tensor(dloss, dtype=torch.float64, device=gradient.device)
        if out is None and factor.ndim == 0 and factor == 1:
            return gradient
        if factor.ndim:
            factor = factor if counted is None else torch.where(counted, factor, 0.0)
            factor = factor.unsqueeze(dim)
        dx = (gradient.double() * factor).to(gradient.dtype)
        return into(out, dx)

    return loss, pullback


def by_autograd(
    loss_of: Callable[[Tensor], Tensor], x: Any, first_out: Any = None
) -> tuple[Tensor, Callable[..., Tensor]]:
    """The loss of x, and the function from its gradient to that of x."""
    with torch.enable_grad():
        leaf = check_tensor(x, "x").detach().requires_grad_()
        loss = loss_of(leaf)

    def pullback(dloss: Any = 1.0, *, out: Any = None) -> Tensor:
        factor = torch.as_tensor(dloss, dtype=loss.dtype, device=loss.device).expand(loss.shape)
        (dx,) = torch.autograd.grad(loss, leaf, factor, retain_graph=True)
        return into(out, dx)

    if first_out is not None:
        pullback(out=first_out)
    return loss.detach(), pullback
