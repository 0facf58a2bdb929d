"""Cross-entropy of logits whose classes are divided among the ranks of a process group.

A shard tells the two numbers of softmax, and the logit of the target where that is here: three of each row
forward (five with label smoothing, which takes the distances of all logits from the largest, and how many
there are), and none backward: the gradient dloss·(p − t') takes what has been exchanged.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling

from .. import checks
from ..formulas import merge_stats
from .exchange import Exchange, Group, gather, group_of, merge
from .losses import reduce_losses
from .sharded import apply, tell
from .tensors import array, check_same_device, check_tensor, one_dim


class Options(NamedTuple):
    """Of a call, beside its tensors."""

    dim: int
    smoothing: float
    start: int | None  # the first class here
    group: Group


class ShardedCrossEntropy(Function):
    """The loss of each row; `counted` says which rows have one.  Saved is x, and numbers of each row."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, target: Tensor, counted: Tensor | None, options: Options, exchange: Any
    ) -> Tensor:
        dim, smoothing, start, group = options
        n = x.shape[dim]
        at = target.long().unsqueeze(dim) - (group.rank * n if start is None else start)
        here = (at >= 0) & (at < n)
        at = at.clamp(0, max(n - 1, 0))
        stats = tell("shard_stats", [x], (dim,), None)
        chosen = torch.where(here, x.gather(dim, at).double(), math.inf) if n else here.double() + math.inf
        numbers = [*stats.unbind(-1), chosen]
        if smoothing:
            base = torch.where(numbers[0].abs() == math.inf, 0.0, numbers[0])
            distance = (base - x.double()).sum(dim, keepdim=True)
            numbers += [distance, torch.full_like(distance, n)]
        told = gather(torch.stack(numbers, -1), group, exchange)
        if exchange is not None and exchange.heads:
            check_classes(exchange, target, counted, options)
        tops, others, chosen, *more = told.unbind(-1)
        top, others, lost = merge(merge_stats, tops, others)
        chosen = chosen.amin(0)
        d = torch.where(chosen == math.inf, math.nan, chosen) - top  # it is nowhere
        losses, even, classes = others.log1p(), torch.zeros_like(d), torch.ones_like(d)
        if smoothing < 1:
            losses = losses - (1 - smoothing) * d
        if smoothing:
            base = torch.where(tops.abs() == math.inf, 0.0, tops)
            classes = more[1].sum(0)
            even = smoothing / classes
            losses = losses + even * (more[0] + more[1] * (top - base)).sum(0)
        losses = losses if counted is None else torch.where(counted.unsqueeze(dim), losses, 0.0)
        ctx.save_for_backward(x, at, here, counted, top, others, lost, d, even, classes)
        ctx.dim = dim
        return losses.squeeze(dim).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlosses: Any) -> Any:
        x, at, here, counted, top, others, lost, d, even, classes = ctx.saved_tensors
        dim, g = ctx.dim, dlosses.double().unsqueeze(ctx.dim)
        g = g if counted is None else torch.where(counted.unsqueeze(dim), g, 0.0)
        dx = apply("shard_softmax", (top, others, lost, g, g * even), [x], (dim,), None)
        if x.shape[dim]:
            of_target = g * (even * (classes - 1) - (others - d.expm1()) / (1 + others))
            dx = dx.scatter(dim, at, torch.where(here, of_target.to(x.dtype), dx.gather(dim, at)))
        if counted is not None:  # whatever x holds there
            dx = torch.where(counted.unsqueeze(dim), dx, 0.0)
        return dx, None, None, None, None


def check_classes(exchange: Exchange, target: Tensor, counted: Tensor | None, options: Options) -> None:
    """Refuse shards that don't follow each other, and classes that none of them has."""
    spans = exchange.spans()
    sizes = [size for _, size in spans]
    if options.start is None and len(set(sizes)) > 1:
        starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
        raise ValueError(
            f"the shards have {sizes} classes, in the order of the ranks, and no start: give start=, the "
            f"first class of a shard; if they follow each other, {starts}"
        )
    end = 0
    for start, size in sorted(span for span in spans if span[1]):
        if start != end:
            raise ValueError(
                f"the shards begin with the classes {[start for start, _ in spans]}, and have {sizes} of "
                f"them; each must begin where another ends, and one with 0: correct start="
            )
        end += size
    wrong = (target < 0) | (target >= end)
    wrong = wrong if counted is None else wrong & counted
    if wrong.any():
        axis = options.dim + target.ndim + 1
        checks.class_out_of_range(array(target), array(wrong), end, axis)


def cross_entropy(
    x: Any,
    target: Any,
    *,
    dim: Any,
    label_smoothing: Any,
    ignore_index: Any,
    reduction: Any,
    group: Any,
    start: Any,
) -> Tensor:
    """The loss of whole rows, of which `x` is this rank's shard and `target` has the classes."""
    of, asked = group_of(group), (label_smoothing, ignore_index)
    options = {"label_smoothing": label_smoothing, "ignore_index": ignore_index, "reduction": reduction}
    if is_compiling():
        return called(x, target, dim=dim, **options, group=of, start=start, exchange=None)
    with Exchange(of, "cross_entropy", asked) as exchange:
        return called(x, target, dim=dim, **options, group=of, start=start, exchange=exchange)


def called(
    x: Any,
    target: Any,
    *,
    dim: Any,
    label_smoothing: Any,
    ignore_index: Any,
    reduction: Any,
    group: Group,
    start: Any,
    exchange: Exchange | None,
) -> Tensor:
    x = check_tensor(x, "x")
    if not isinstance(target, Tensor):
        raise TypeError(f"target takes a tensor, not {type(target).__name__}: give torch.as_tensor(target)")
    check_same_device(x, "x", target, "target")
    dim = one_dim(dim, x.ndim, "the classes")
    checks.reduction(reduction)
    smoothing, ignore = checks.smoothing(label_smoothing), ignore_index
    ignore = None if ignore is None else checks.whole(ignore, "ignore_index")
    start = None if start is None else checks.whole(start, "start")
    if target.is_floating_point():
        raise TypeError(
            f"target has dtype {target.dtype}; beside a group it takes classes, as integers: for weights "
            f"take the sum of target * log_softmax(x, group=group)"
        )
    checks.shape_of_classes(tuple(target.shape), str(target.dtype), tuple(x.shape), dim + x.ndim)
    if exchange is not None:
        exchange.about(x, (dim,), group.rank * x.shape[dim] if start is None else start)
    counted = None if ignore is None else target != ignore
    options = Options(dim, smoothing, start, group)
    losses = ShardedCrossEntropy.apply(x, target, counted, options, exchange)
    return reduce_losses(losses, counted, reduction)
