"""A row that is divided among processes, devices or chunks: what each shard tells the others of it.

Nothing here sends anything.  The engines (PyTorch's process groups, Dask) do, and call these functions for
the rest.  Forward, a shard tells two numbers of each row, of which those of the whole row are made:

    top = max scale·x,    total = Σ exp(scale·x − top),    y = exp(scale·x − top)/total

Backward it tells the mean of its dy by the weights y, in two numbers, ref + mean, and the weight Σy:

    dx = scale·y ∘ ((dy − ref) − mean)

for the mean of whole rows, in two numbers again.  ref is near the mean, so the first difference is rounded by
eps of itself; it starts as the dy of the largest y, which is exact for ties and constants.  So the bounds are
those of `softgrad.softmax` and `softgrad.softmax_vjp` for the whole row, however it is divided
(docs/decisions.md).

All numbers are float64, with the axis at length 1; put together in the order of the shards, they have the
same bits everywhere.  The work on the elements is done by the kernels of `cpu/shards.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks, formulas
from .arrays import Rows
from .checks import Array, Axis, Empty

Pair = tuple[Array, Array]
Moments = tuple[Array, Array, Array]
silent = np.errstate(all="ignore")

# what each of the kernels tells of a row in which nothing is
NOTHING = {
    "shard_stats": (-np.inf, -1.0),
    "shard_entropy": (-np.inf, -1.0, 0.0),
    "shard_moments": (0.0, 0.0, 0.0),
    "shard_log_sum": (0.0, 0.0),
}


def tell(name: str, *arrays: Array, axis: Axis, where: Any = None, scale: float = 1.0) -> list[Array]:
    """The numbers that a kernel tells of each row."""
    shape = arrays[0].shape
    rows, where = Rows(shape, axis), checks.mask(where, shape)
    table = np.empty((*rows.numbers(), len(NOTHING[name])))
    table[...] = NOTHING[name]
    rows.run(name, [*arrays, table[..., 0]], where, scale, per_row=len(arrays))
    return list(np.moveaxis(table, -1, 0))


def apply(
    name: str,
    numbers: tuple[Any, ...],
    *arrays: Array,
    axis: Axis,
    where: Any = None,
    scale: float = 1.0,
    fill: float = 0.0,
) -> Array:
    """What a kernel makes of the elements, given numbers of each row; a number may be that of all rows."""
    shape = arrays[0].shape
    rows, where = Rows(shape, axis), checks.mask(where, shape)
    table = np.empty((*rows.numbers(), len(numbers)))
    for i, number in enumerate(numbers):
        table[..., i] = number
    result = np.empty_like(arrays[0])
    rows.run(name, [table[..., 0], *arrays, result], where, scale, fill=fill, per_row=0)
    return result


# --- forward ------------------------------------------------------------------------------------------


def stats(x: Array, *, axis: Axis, where: Any = None, scale: float = 1.0) -> Pair:
    """(top, total) of a shard: the largest scale·x, and Σ exp(scale·x − top); (−inf, 0) of an empty one.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import distributed
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0]])
    >>> left, right = (distributed.stats(part, axis=-1) for part in (x[:, :2], x[:, 2:]))
    >>> distributed.finish(x[:, :2], *distributed.combine(left, right), axis=-1)
    array([[0.0320586 , 0.08714432]])
    """
    top, others = tell("shard_stats", x, axis=axis, where=where, scale=scale)
    return top, 1 + others


@silent
def combine(a: Pair, b: Pair) -> Pair:
    """(top, total) of two shards together."""
    tops, totals = (np.stack(part) for part in zip(a, b, strict=True))
    top, others, lost = formulas.merge_stats(tops, totals - 1, np)
    return top, 1 + others + lost


def finish(
    x: Array,
    top: Array,
    total: Array,
    *,
    axis: Axis,
    where: Any = None,
    scale: float = 1.0,
    empty: Empty = "zero",
) -> Array:
    """y of a shard, given (top, total) of whole rows; rounded once."""
    nothing = checks.choice(empty)
    if empty == "raise" and (total == 0).any():
        raise ValueError(checks.EMPTY_ROW)
    numbers = top, *formulas.two_sum(total, -np.ones_like(total)), 1.0, 0.0
    y = apply("shard_softmax", numbers, x, axis=axis, where=where, scale=scale, fill=nothing)
    if empty == "nan" and where is not None:  # the kernel wrote 0 to what is masked
        np.copyto(y, nothing, where=total == 0)
    return y


# --- backward -----------------------------------------------------------------------------------------


def moments(y: Array, dy: Array, *, axis: Axis, where: Any = None) -> Moments:
    """(ref, mean, weight) of a shard: ref + mean is the mean of dy by the weights y, and weight is Σy."""
    ref, mean, weight = tell("shard_moments", y, dy, axis=axis, where=where)
    return ref, mean, weight


@silent
def merge_moments(ref: Array, mean: Array, weight: Array) -> Moments:
    """Those of whole rows, from those of the shards along the first axis."""
    ref, mean, weight = formulas.merge_moments(ref, mean, weight, np)
    return ref, mean, weight


def finish_vjp(
    y: Array,
    dy: Array,
    ref: Array,
    mean: Array,
    weight: Any = 1.0,
    *,
    axis: Axis,
    where: Any = None,
    scale: float = 1.0,
) -> Array:
    """dx of a shard, given ref + mean, the mean of dy over whole rows; 0 where the weight of a row is 0."""
    return apply("shard_vjp", (ref, mean, weight), y, dy, axis=axis, where=where, scale=scale)


# --- backward in three steps --------------------------------------------------------------------------


def valid(y: Array, dy: Array, where: Any) -> Pair:
    """y and dy in float64; 0 where masked."""
    w, d = y.astype(np.float64), dy.astype(np.float64)
    return (w, d) if where is None else (np.where(where, w, 0.0), np.where(where, d, 0.0))


@silent
def reference(y: Array, dy: Array, *, axis: Axis, where: Any = None) -> Pair:
    """(the largest y, its dy); of ties the largest dy, and (0, 0) of a shard that has no weight."""
    w, d = valid(y, dy, where)
    top = w.max(axis=axis, keepdims=True, initial=0.0)
    ref = np.where(w == top, d, -np.inf).max(axis=axis, keepdims=True, initial=-np.inf)
    return top, np.where(top == 0, 0.0, ref)


def combine_reference(a: Pair, b: Pair) -> Pair:
    """That of two shards together: the larger y wins, and of ties the first."""
    first = a[0] >= b[0]
    return np.where(first, a[0], b[0]), np.where(first, a[1], b[1])


@silent
def pair(y: Array, dy: Array, ref: Array, *, axis: Axis, where: Any = None) -> Pair:
    """(Σ y·(dy − ref), Σ y) of a shard: add them up over the shards."""
    w, d = valid(y, dy, where)
    return (w * (d - ref)).sum(axis=axis, keepdims=True), w.sum(axis=axis, keepdims=True)


@silent
def rest(y: Array, dy: Array, ref: Array, mean: Array, *, axis: Axis, where: Any = None) -> Array:
    """Σ y·((dy − ref) − mean) of a shard; its sum over the shards, divided by Σ y, is added to the mean."""
    w, d = valid(y, dy, where)
    return np.asarray((w * ((d - ref) - mean)).sum(axis=axis, keepdims=True))
