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
from .exchange import Exchange, Group, exchanged, gather, is_memory, merge
from .losses import reduce_losses
from .sharded import apply, check_shard, tell
from .tensors import array, check_same_device, convert, in_words_of_torch, one_dim


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
            numbers.append(distances(x, base, dim))
        compared = exchange is not None and is_memory(chosen)
        if smoothing or (start is None and not compared):
            numbers.append(torch.full_like(chosen, n))
        told = gather(torch.stack(numbers, -1), group, exchange)
        if exchange is not None and compared:
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
        if start is None and not compared:  # the shards don't follow each other as it was taken
            losses = torch.where((more[-1] == n).all(0), losses, math.nan)
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
            dx.scatter_(dim, at, torch.where(here, of_target.to(x.dtype), dx.gather(dim, at)))
        if counted is not None:  # whatever x holds there
            dx.masked_fill_(~counted.unsqueeze(dim), 0.0)
        return dx, None, None, None, None


def distances(x: Tensor, base: Tensor, dim: int) -> Tensor:
    """Σ(base − x) of each row, in float64: in parts, which spare memory; in a graph in one."""
    size = x.shape[dim] if is_compiling() else max(1, 2**20 // max(base.numel(), 1))
    total = torch.zeros_like(base)
    for part in x.split(max(size, 1), dim):
        total += (base - part).sum(dim, keepdim=True)
    return total


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
        dim = options.dim + target.ndim + 1
        in_words_of_torch(checks.class_out_of_range, array(target), array(wrong), end, dim)


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

    def call(of: Group, exchange: Exchange | None) -> Tensor:
        logits = check_shard(convert(x, None, as_loss=True))
        if not isinstance(target, Tensor):
            raise TypeError(
                f"target takes a tensor, not {type(target).__name__}: give torch.as_tensor(target)"
            )
        check_same_device(logits, "x", target, "target")
        at = one_dim(dim, logits.ndim, "the classes")
        checks.reduction(reduction)
        smoothing = checks.smoothing(label_smoothing)
        ignore = None if ignore_index is None else checks.whole(ignore_index, "ignore_index")
        first = None if start is None else checks.whole(start, "start")
        check_classes_only(target)
        shape = tuple(logits.shape)
        kind = str(target.dtype)
        in_words_of_torch(checks.shape_of_classes, tuple(target.shape), kind, shape, at + logits.ndim)
        logits = logits if logits.ndim else logits.reshape(1)
        if exchange is not None:
            asked = {"label_smoothing": smoothing, "ignore_index": ignore, "reduction": reduction}
            asked["target"] = target.long() if is_memory(target) else None
            begins = of.rank * logits.shape[at] if first is None else first
            exchange.about(logits, (at,), asked, begins)
        counted = None if ignore is None else target != ignore
        options = Options(at, smoothing, first, of)
        losses = ShardedCrossEntropy.apply(logits, target, counted, options, exchange)
        return reduce_losses(losses, counted, reduction)

    return exchanged(group, "cross_entropy", call)


def check_unweighted(options: dict[str, Any]) -> dict[str, Any]:
    """The options, without those that divided classes do not take."""
    others = {name: options.get(name) for name in ("sample_weight", "weight", "where", "dtype")}
    if options.get("z_loss") or any(value is not None for value in others.values()):
        raise TypeError(
            "where classes are divided cross_entropy takes no sample_weight, weight, where, z_loss and "
            "dtype: leave them out, and weigh the losses of reduction='none'"
        )
    return {name: value for name, value in options.items() if name not in others and name != "z_loss"}


def check_classes_only(target: Tensor) -> None:
    if target.is_floating_point():
        raise TypeError(
            f"target has dtype {target.dtype}; where the classes are divided it takes classes, as integers: "
            f"for weights take the sum of target * log_softmax of x"
        )
