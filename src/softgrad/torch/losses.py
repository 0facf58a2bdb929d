"""Cross-entropy for tensors: the functions of `softgrad.numpy.losses`, under the same names.

A differentiable call finds the gradient g of each row's loss along with the loss, and keeps that; x is not
needed again.  g is an output of the function itself, with derivatives of its own: g = p·T − t', T = Σt', so
that p is (g + t')/T, and ∂g/∂x = T·J(p).  Every further derivative follows from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import loss_checks, threads
from ..formulas import cross_entropy as formulas
from ..numpy import losses
from ..specs import LOG_SOFTMAX, SOFTMAX
from . import autograd, by_formulas
from . import compute as of_maps
from .autograd import differentiable, no_derivative, primals
from .operators import below, named
from .options import Call
from .registration import define
from .tensors import FLOATS, alike, array, checked, limited, one_dim, plain, together, wide
from .tensors import target as fitting


@dataclass(frozen=True, slots=True)
class Loss:
    """The options of a call: the dim of the classes, counted from the last."""

    dim: int
    label_smoothing: float
    ignore_index: int | None

    def options(self) -> dict[str, Any]:
        return {
            "axis": self.dim,
            "label_smoothing": self.label_smoothing,
            "ignore_index": self.ignore_index,
            "reduction": "none",
        }


def shape_of(x: Tensor, dim: int) -> list[int]:
    return [size for d, size in enumerate(x.shape) if d - x.ndim != dim]


def smoothed(loss: Loss, x: Tensor, goal: Tensor) -> Tensor:
    """t', along the dim of the classes; rows that do not count are 0."""
    n = x.shape[loss.dim] if x.ndim else 1
    if goal.is_floating_point():
        return (1 - loss.label_smoothing) * wide(goal) + loss.label_smoothing / max(n, 1)
    classes = torch.arange(n, device=x.device)
    classes = classes.view([-1] + [1] * (-loss.dim - 1)) if x.ndim else classes[0]
    goal = goal.unsqueeze(loss.dim) if x.ndim else goal
    t = (classes == goal).to(wide(x).dtype)
    t = (1 - loss.label_smoothing) * t + loss.label_smoothing / max(n, 1)
    return t if loss.ignore_index is None else torch.where(goal != loss.ignore_index, t, 0.0)


def from_numpy(found: Any, like: Tensor) -> Tensor:
    """A result of NumPy as a tensor with memory of PyTorch's."""
    result = like.new_empty(found.shape)
    array(result)[...] = found
    return result


def compute(loss: Loss, x: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each row, and its gradient."""
    gradient = torch.empty_like(x)
    if not x.is_cpu:
        threads.ran("formulas", "cross_entropy")
        return by_the_formulas(loss, x, goal, gradient)
    given = array(x), array(goal)
    options = {**loss.options(), "with_gradient": True, "out": array(gradient)}
    found, *_ = limited(given[0].nbytes, losses.evaluate, *given, **options)
    return from_numpy(found, x), gradient


def compute_loss(loss: Loss, x: Tensor, goal: Tensor) -> Tensor:
    """The loss of each row alone."""
    if not x.is_cpu:
        return compute(loss, x, goal)[0]
    given = array(x), array(goal)
    return from_numpy(limited(given[0].nbytes, losses.evaluate, *given, **loss.options())[0], x)


def by_the_formulas(loss: Loss, x: Tensor, goal: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    if x.numel() == 0:
        return x.new_zeros(shape_of(x, loss.dim)), gradient
    t = smoothed(loss, x, goal)
    y = of_maps.forward(Call(LOG_SOFTMAX, (loss.dim,)), wide(x), None, None)
    losses = -torch.where(t == 0, 0.0, t * y).sum(loss.dim)
    counted = t.sum(loss.dim, keepdim=True)
    p, weights = (by_formulas.to_rows(a, (loss.dim,)) for a in (y.exp(), t))
    found = formulas.gradient(p, weights, by_formulas.xp)
    found = by_formulas.from_rows(found, x, (loss.dim,))
    if loss.ignore_index is not None:
        there = counted != 0
        losses = torch.where(there.squeeze(loss.dim) if x.ndim else there, losses, 0.0)
        found = torch.where(there, found, 0.0)
    return losses.to(x.dtype), gradient.copy_(found)


class CrossEntropy(Function):
    """(losses, g); saved are g and the target."""

    @staticmethod
    def forward(x: Tensor, goal: Tensor, loss: Loss) -> Any:
        if plain(x, goal):
            return compute(loss, x, goal)
        return below(named("cross_entropy"), (x, goal, loss.dim, loss.label_smoothing, loss.ignore_index))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, goal, ctx.loss = inputs
        ctx.save_for_backward(output[1], goal)
        ctx.save_for_forward(output[1], goal)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, dlosses: Any, dg: Any) -> Any:
        (g, goal), loss = ctx.saved_tensors, ctx.loss
        dx = None
        if dlosses is not None:
            dx = g * (dlosses.unsqueeze(loss.dim) if g.ndim else dlosses)
            if loss.ignore_index is not None:
                there = goal != loss.ignore_index
                dx = torch.where(there.unsqueeze(loss.dim) if g.ndim else there, dx, 0.0)
        if dg is not None:
            curved = CrossEntropy.curvature(loss, g, goal, dg)
            dx = curved if dx is None else dx + curved
        return dx, None, None

    @staticmethod
    @differentiable
    def jvp(ctx: Any, dx: Any, _: Any, __: Any) -> Any:
        (g, goal), loss = primals(*ctx.saved_tensors), ctx.loss
        nothing = (g == 0) & (smoothed(loss, g, goal) == 0)  # logits of −inf, and rows that do not count
        dlosses = (wide(g) * torch.where(nothing, 0.0, wide(dx))).sum(loss.dim).to(g.dtype)
        return dlosses, CrossEntropy.curvature(loss, g, goal, dx)

    @staticmethod
    def curvature(loss: Loss, g: Tensor, goal: Tensor, v: Tensor) -> Tensor:
        """T·J(p)·v."""
        t = smoothed(loss, g, goal)
        total = t.sum(loss.dim, keepdim=True)
        p = (wide(g) + t) / torch.where(total == 0, 1.0, total)
        v = torch.where(p == 0, 0.0, wide(v))
        return (total * autograd.product(Call(SOFTMAX, (loss.dim,)), p, v)).to(g.dtype)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, goal: Tensor, loss: Loss) -> Any:
        return vmapped(lambda x, goal: pair(loss, x, goal), info, in_dims, x, goal)


def vmapped(run: Callable[..., Any], info: Any, in_dims: Any, x: Tensor, goal: Tensor) -> Any:
    moved = [
        t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
        for t, d in zip((x, goal), in_dims, strict=False)
    ]
    if moved[0].ndim > 1:
        return run(*moved), (0, 0)
    if moved[1].is_floating_point():
        moved[1] = moved[1].unsqueeze(-1)
    losses, g = run(moved[0].unsqueeze(-1), moved[1])
    return (losses, g.squeeze(-1)), (0, 0)


apply = super(Function, CrossEntropy).apply


def pair(loss: Loss, x: Tensor, goal: Tensor) -> Any:
    """The loss of each row, and its gradient."""
    if torch.compiler.is_compiling():
        return named("cross_entropy")(x, goal, loss.dim, loss.label_smoothing, loss.ignore_index)
    if torch._C._are_functorch_transforms_active():
        return CrossEntropy.apply(x, goal, loss)
    return apply(x, goal, loss)


# --- the functions -----------------------------------------------------------------------------------


def evaluate(
    x: Any, goal: Any, *, axis: Any, label_smoothing: Any, ignore_index: Any, reduction: Any, gradient: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Loss]:
    """The loss, the gradients of the rows if asked for, and which rows count (None: all)."""
    x, goal = checked(x, "x"), to_tensor(goal)
    together(x, "x", goal, "target")
    dim = one_dim(axis, x.ndim, "the classes")
    loss_checks.reduction(reduction)
    if type(label_smoothing) is not float or not 0 <= label_smoothing <= 1:
        label_smoothing = loss_checks.smoothing(label_smoothing)
    loss = Loss(dim, label_smoothing, ignore_index)
    if goal.dtype in FLOATS and goal.shape == x.shape:
        x, goal = alike(("x", "target"), x, goal)
    rows: Tensor
    g = None
    if goal.is_floating_point() and not no_derivative(goal):
        # the gradient with respect to the weights is −log p, which no gradient tells
        t = smoothed(loss, x, goal)
        log_p = autograd.forward(Call(LOG_SOFTMAX, (loss.dim,)), wide(x), None)
        rows = -torch.where(t == 0, 0.0, t * torch.where(t == 0, 0.0, log_p)).sum(loss.dim).to(x.dtype)
    elif not gradient and no_derivative(x) and plain(x, goal):
        rows = compute_loss(loss, x, goal)
    else:
        rows, g = pair(loss, x, goal)
    counted = None if ignore_index is None else goal != ignore_index
    return reduced(rows, counted, reduction), g, counted, loss


def to_tensor(goal: Any) -> Tensor:
    if not isinstance(goal, Tensor):
        raise TypeError(f"target takes a tensor, not {type(goal).__name__}: give torch.as_tensor(target)")
    return goal


def reduced(rows: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    if reduction == "none":
        return rows
    total = wide(rows).sum()
    if reduction == "mean":
        total = total / (rows.numel() if counted is None else counted.sum())
    return total.to(rows.dtype)


def cross_entropy(x: Any, target: Any, **options: Any) -> Tensor:
    return evaluate(x, target, **options, gradient=False)[0]


def cross_entropy_with_vjp(
    x: Any, target: Any, *, out: Any, **options: Any
) -> tuple[Tensor, Callable[..., Tensor]]:
    with torch.no_grad():
        result, g, counted, loss = evaluate(x, target, **options, gradient=True)
    assert g is not None
    found = g
    if options["reduction"] == "mean":
        rows = math.prod(shape_of(found, loss.dim)) if counted is None else int(counted.sum())
        found = found / max(rows, 1)
    if out is not None:
        found = fitting(out, found).copy_(found)

    def pullback(dloss: Any = 1.0, *, out: Any = None) -> Tensor:
        factor = torch.as_tensor(dloss, dtype=torch.float64, device=found.device)
        if out is None and factor.ndim == 0 and factor == 1:
            return found
        if factor.ndim:
            factor = factor if counted is None else torch.where(counted, factor, 0.0)
            factor = factor.unsqueeze(loss.dim)
        made = (found.double() * factor).to(found.dtype)
        return made if out is None else fitting(out, made).copy_(made)

    return result, pullback


# --- the registered operator -------------------------------------------------------------------------


define(
    "cross_entropy(Tensor x, Tensor target, int dim=-1, float label_smoothing=0.0, int? ignore_index=None) "
    "-> (Tensor, Tensor)",
    lambda x, goal, dim, smoothing, ignore: compute(Loss(dim, smoothing, ignore), x, goal),
    lambda x, goal, dim, smoothing, ignore: (x.new_empty(shape_of(x, dim)), torch.empty_like(x)),
    lambda x, goal, dim, smoothing, ignore: apply(x, goal, Loss(dim, smoothing, ignore)),
    lambda x, goal, dim, smoothing, ignore: CrossEntropy.apply(x, goal, Loss(dim, smoothing, ignore)),
)
