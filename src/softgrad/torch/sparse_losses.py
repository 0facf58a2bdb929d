"""The losses of sparsemax and entmax for tensors: the gradient is y − target, and y is what is saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import checks, formulas, specs
from ..specs import Map
from . import backend
from .backend import run, to_rows, with_torch_threads, xp
from .divergences import by_formulas
from .losses import by_autograd, check_target, reduce_losses, smoothed_weights, with_class_dim
from .ops import OPS
from .private import is_plain_storage, primals, with_forward_mode
from .tensors import array, mask, wide


def of_map(map: Map, x: Tensor, dim: int) -> Tensor:
    alpha = (map.alpha, None) if map.parameters else ()
    y: Tensor = OPS[map.name].forward(x, (dim,), None, 1.0, "zero", *alpha, False)
    return y


@with_torch_threads
def losses_of(map: Map, x: Tensor, t: Tensor, y: Tensor, dim: int) -> Tensor:
    """The loss of each row, with the dim at length 1; x holds −inf where it is masked."""
    if x.numel() and x.is_cpu and is_plain_storage(x, t, y):
        numbers = x.new_zeros(backend.kept_shape(x, (dim,)), dtype=torch.float64)
        if map.alpha is None:
            more = float(specs.KL.kind), 0.0
            run("divergence_of_probabilities", (x, t, numbers), (dim,), more=more, shaped=0)
        else:
            run("fenchel_young", (x, t, y, numbers), (dim,), more=(float(map.alpha),), shaped=0)
        return numbers
    if map.alpha is None:
        return by_formulas(specs.KL, wide(x), wide(t), True, (dim,), None, 1.0)
    x, t, weights = (to_rows(wide(a), (dim,)) for a in (x, t, y))
    value = formulas.fenchel_young(x, t, weights, map.alpha, xp)
    value = torch.where(weights.amax(-1) == 0, 0.0, value)  # an empty row
    return value.reshape(backend.kept_shape(y, (dim,)))


class FenchelYoung(Function):
    """The loss of each row; further derivatives are those of y."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor, map: Map, dim: int) -> Any:
        with torch.no_grad():
            y = of_map(map, x, dim)
            return losses_of(map, x, t, y, dim).to(x.dtype), y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, t, ctx.map, ctx.dim = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, t, output[1])
        ctx.save_for_forward(x, t, output[1])

    @staticmethod
    def backward(ctx: Any, dlosses: Any, _: Any) -> Any:
        x, t, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            y = of_map(ctx.map, x, ctx.dim)
        dx = difference(y, t, ctx.dim) * wide(dlosses) if ctx.needs_input_grad[0] else None
        dt = slope_by_target(ctx.map, x, t, y, ctx.dim) * dlosses if ctx.needs_input_grad[1] else None
        dx, dt = (None if a is None else a.to(x.dtype) for a in (dx, dt))
        return dx, dt, None, None

    @staticmethod
    @with_forward_mode
    def jvp(ctx: Any, dx: Any, dt: Any, *_: Any) -> Any:
        x, t, y = primals(*ctx.saved_tensors)
        y, change = of_map(ctx.map, x, ctx.dim), wide(x).new_zeros(())
        if dx is not None:
            along = torch.where(x == -torch.inf, 0.0, wide(dx))
            change = change + (difference(y, t, ctx.dim) * along).sum(ctx.dim, keepdim=True)
        if dt is not None:
            slope = slope_by_target(ctx.map, x, t, y, ctx.dim)
            change = change + (slope * wide(dt)).sum(ctx.dim, keepdim=True)
        return change.to(x.dtype), None


def difference(y: Tensor, t: Tensor, dim: int) -> Tensor:
    """y − t; 0 in an empty row."""
    return torch.where((y == 0).all(dim, keepdim=True), 0.0, wide(y) - wide(t))


def slope_by_target(map: Map, x: Tensor, t: Tensor, y: Tensor, dim: int) -> Tensor:
    """∂L/∂t, up to a number that all elements of a row share; 0 where x is −inf."""
    x, t, y = (wide(a).movedim(dim, -1) for a in (x, t, y))
    if map.alpha is None:
        log_p = OPS["log_softmax"].forward(x, (-1,), None, 1.0, "zero", False)
        found = torch.where(t == 0, 0.0, torch.where(t == 0, 1.0, t).log() - log_p)
    else:
        power = map.alpha - 1
        of_y, of_t = (torch.where(a > 0, torch.where(a > 0, a, 1.0) ** power, 0.0) for a in (y, t))
        below = formulas.threshold_distance(torch.where(x == -torch.inf, 0.0, x), y, map.alpha, xp)
        found = (of_t - of_y + torch.where(y > 0, 0.0, below)) / power
    return torch.where(x == -torch.inf, 0.0, found).movedim(-1, dim)


def fenchel_young(
    map: Map, x: Any, target: Any, *, axis: Any, where: Any, ignore_index: Any, reduction: Any
) -> Tensor:
    x, target, dim = check_target(x, target, axis)
    checks.reduction(reduction)
    where, ndim, counted = None if where is None else mask(where, x), x.ndim, None
    if backend.are_memory(x, target):
        shape, place = tuple(x.shape), dim + ndim if ndim else 0
        checks.weights_or_classes(array(target.detach()), shape, place, ignore_index)
        if target.is_floating_point():
            checks.probabilities(array(target.detach()), "target", "classes as integers")
    if not ndim:
        x, where = x.reshape(1), None if where is None else where.reshape(1)
        target = target.reshape(1) if target.is_floating_point() else target
    t = smoothed_weights(x, target, dim, 0.0, ignore_index).to(x.dtype)
    if ignore_index is not None:
        counted = target != ignore_index
        x = torch.where(with_class_dim(counted, x, dim), x, 0.0)
    if where is not None:
        x = x.masked_fill(~where, -torch.inf)
        t = t.masked_fill(~where, 0.0) if target.is_floating_point() else t
    losses = FenchelYoung.apply(x, t, map, dim)[0].squeeze(dim)
    losses = losses if counted is None else torch.where(counted, losses, 0.0)
    return reduce_losses(losses, counted, reduction)


def fenchel_young_with_vjp(
    map: Map, x: Any, target: Any, **options: Any
) -> tuple[Tensor, Callable[..., Tensor]]:
    return by_autograd(lambda x: fenchel_young(map, x, target, **options), x)
