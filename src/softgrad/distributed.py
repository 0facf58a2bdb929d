"""A row that is divided among processes, devices or chunks: what each shard tells the others of it.

Nothing here sends anything.  The engines (PyTorch's process groups, Dask) do, and call these functions for
the rest.  Forward, a shard tells two numbers of each row, of which those of the whole row are made:

    top = max scale·x,    others = Σ exp(scale·x − top) − 1,    y = exp(scale·x − top)/(1 + others)

Without the 1 of the largest, what the others add up to keeps its digits where it is little.  Backward it
tells the mean of its dy by the weights y, in two numbers, ref + mean, and the weight Σy:

    dx = scale·y ∘ ((dy − ref) − mean)

for the mean of whole rows, in two numbers again.  ref is near the mean, so the first difference is rounded by
eps of itself; it starts as the dy of the largest y, which is exact for ties and constants.  So the bounds are
those of `softgrad.softmax` and `softgrad.softmax_vjp` for the whole row, however it is divided
(docs/decisions.md).

All numbers are float64, with the axis at length 1; put together in the order of the shards, they have the
same bits everywhere.  The work on the elements is done by the kernels of `cpu/shards.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import checks
from .arrays import Rows
from .checks import Array, Axis, Empty

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


def merge(function: Callable[..., tuple[Array, ...]], *told: Array) -> tuple[Array, ...]:
    """What `formulas.merge_stats`, `merge_entropy` or `merge_moments` makes of what all shards told.

    The shards are along the first axis, in their order.
    """
    with np.errstate(all="ignore"):
        return tuple([np.asarray(number) for number in function(*told, np)])  # of a 0-d array a scalar


# --- forward ------------------------------------------------------------------------------------------


def stats(x: Array, *, axis: Axis, where: Any = None, scale: float = 1.0) -> tuple[Array, Array]:
    """(top, others) of a shard: the largest scale·x, and Σ exp(scale·x − top) − 1; (−inf, −1) of nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import distributed, formulas
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0]])
    >>> shards = x[:, :2], x[:, 2:]
    >>> told = [distributed.stats(shard, axis=-1) for shard in shards]
    >>> whole = distributed.merge(formulas.merge_stats, *np.stack(told, axis=1))
    >>> distributed.finish(shards[0], *whole, axis=-1)
    array([[0.0320586 , 0.08714432]])
    """
    top, others = tell("shard_stats", x, axis=axis, where=where, scale=scale)
    return top, others


def finish(
    x: Array,
    top: Array,
    others: Array,
    lost: Any = 0.0,
    *,
    axis: Axis,
    where: Any = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    log: bool = False,
) -> Array:
    """y of a shard, or with `log` log y, given what is known of whole rows; rounded once."""
    fill = checks.choice(empty)
    if empty == "raise" and (others == -1).any():
        raise ValueError(checks.EMPTY_ROW)
    options: dict[str, Any] = {"axis": axis, "where": where, "scale": scale}
    if log:
        fill = -np.inf if fill == 0 else fill
        y = apply("shard_log_softmax", (top, others), x, fill=fill, **options)
    else:
        y = apply("shard_softmax", (top, others, lost, 1.0, 0.0), x, fill=fill, **options)
    if empty == "nan" and where is not None:  # the kernel wrote 0, or −inf, to what is masked
        np.copyto(y, fill, where=others == -1)
    return y


# --- backward -----------------------------------------------------------------------------------------


def moments(y: Array, dy: Array, *, axis: Axis, where: Any = None) -> tuple[Array, Array, Array]:
    """(ref, mean, weight) of a shard: ref + mean is the mean of dy by the weights y, and weight is Σy."""
    ref, mean, weight = tell("shard_moments", y, dy, axis=axis, where=where)
    return ref, mean, weight


def finish_vjp(
    y: Array,
    dy: Array,
    ref: Array,
    mean: Array,
    weight: Array,
    *,
    axis: Axis,
    where: Any = None,
    scale: float = 1.0,
) -> Array:
    """dx of a shard, given ref + mean, the mean of dy over whole rows; 0 where the weight of a row is 0."""
    return apply("shard_vjp", (ref, mean, weight), y, dy, axis=axis, where=where, scale=scale)
