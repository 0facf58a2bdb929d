"""A row that is divided among devices, processes or chunks: what each part tells the others of it.

Nothing here sends anything: the engines (PyTorch's process groups, Dask, …) do, and call these functions for
the rest.  Forward, a part tells two numbers of each row,

    top = max scale·x,    total = Σ exp(scale·x − top),

and with those of the whole row its part of y is ``finish``.  Backward, the mean of dy by the weights y has to be
known to a few eps of how far dy is from it, however large it is.  It is found from a reference, the dy at the
largest y, in three steps (`reference`, `pair`, `rest`) of which each part tells what it has; or in one, `moments`,
in which each part starts from a reference of its own, and `merge_moments` brings them together:

    dx = scale·y ∘ ((dy − ref) − mean).

All numbers are float64, with the axis at length 1.  Combined in the order of the parts they have the same bits
everywhere.  The bounds of the whole row are those of `softgrad.softmax` and `softgrad.softmax_vjp`, whatever the
division (docs/decisions.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks
from .checks import Array, Axis, Empty

Pair = tuple[Array, Array]
silent = np.errstate(all="ignore")


def two_sum(a: Array, b: Array) -> Pair:
    """a + b, and what rounding took from it."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def product(a: Array, b: float) -> Pair:
    """a·b, and what rounding took from it; 0 where a half might overflow."""
    if b in (1.0, -1.0):
        return a * b, np.zeros_like(a)
    halves = []
    for one in (a, np.float64(b)):
        large = one * 134217729.0
        high = large - (large - one)
        halves += [high, one - high]
    high, low, b_high, b_low = halves
    whole = a * b
    lost = ((high * b_high - whole) + high * b_low + low * b_high) + low * b_low
    return whole, np.where(np.isfinite(lost), lost, 0.0)


def logits(x: Array, where: Any, scale: float) -> tuple[Array, Array, Array]:
    """scale·x in float64, −inf where it has no part; what rounding took from it; where it has none."""
    absent = x == (-np.inf if scale >= 0 else np.inf)
    if where is not None:
        absent = absent | ~np.asarray(where)
    z, lost = product(x.astype(np.float64), float(scale))
    return np.where(absent, -np.inf, z), np.where(absent, 0.0, lost), absent


def powers(z: Array, lost: Array, top: Array) -> Array:
    """exp(z − top), of z and what rounding took from it; 0 where the row, or part, is empty."""
    t, more = two_sum(z, np.where(top == -np.inf, 0.0, -top))
    more = np.where(np.isfinite(more), more, 0.0) + lost
    e = np.exp(t)
    return np.asarray(e + e * more)


@silent
def stats(x: Array, *, axis: Axis, where: Any = None, scale: float = 1.0) -> Pair:
    """(top, total) of a part of each row: the largest scale·x, and Σ exp(scale·x − top); (−inf, 0) of nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import distributed
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0]])
    >>> left, right = (distributed.stats(part, axis=-1) for part in (x[:, :2], x[:, 2:]))
    >>> distributed.finish(x[:, :2], *distributed.combine(left, right), axis=-1)
    array([[0.0320586 , 0.08714432]])
    """
    z, lost, _ = logits(x, where, scale)
    top = z.max(axis=axis, keepdims=True, initial=-np.inf)
    return top, powers(z, lost, top).sum(axis=axis, keepdims=True)


@silent
def combine(a: Pair, b: Pair) -> Pair:
    """(top, total) of two parts together."""
    (top_a, total_a), (top_b, total_b) = a, b
    top = np.maximum(top_a, top_b)
    some = top != -np.inf
    far_a, far_b = (np.exp(np.where(some, part - top, 0.0)) for part in (top_a, top_b))
    return top, total_a * far_a + total_b * far_b


@silent
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
    """y of a part, given (top, total) of whole rows; rounded once."""
    nothing, empty_rows = checks.choice(empty), total == 0
    if empty == "raise" and empty_rows.any():
        raise ValueError(checks.EMPTY_ROW)
    z, lost, absent = logits(x, where, scale)
    y = powers(z, lost, top) / np.where(empty_rows, 1.0, total)
    y = np.where(absent & ~np.isnan(total), 0.0, y) if where is None else np.where(where, y, 0.0)
    return np.where(empty_rows, nothing, y).astype(x.dtype)


def valid(y: Array, dy: Array, where: Any) -> Pair:
    """y and dy in float64; 0 where masked."""
    w, d = y.astype(np.float64), dy.astype(np.float64)
    return (w, d) if where is None else (np.where(where, w, 0.0), np.where(where, d, 0.0))


@silent
def reference(y: Array, dy: Array, *, axis: Axis, where: Any = None) -> Pair:
    """(the largest y, its dy); of ties the largest dy, and (0, 0) of a part that has no weight."""
    w, d = valid(y, dy, where)
    top = w.max(axis=axis, keepdims=True, initial=0.0)
    ref = np.where(w == top, d, -np.inf).max(axis=axis, keepdims=True, initial=-np.inf)
    return top, np.where(top == 0, 0.0, ref)


def combine_reference(a: Pair, b: Pair) -> Pair:
    """That of two parts together: the larger y wins, and of ties the first."""
    first = a[0] >= b[0]
    return np.where(first, a[0], b[0]), np.where(first, a[1], b[1])


@silent
def pair(y: Array, dy: Array, ref: Array, *, axis: Axis, where: Any = None) -> Pair:
    """(Σ y·(dy − ref), Σ y) of a part: add them up over the parts."""
    w, d = valid(y, dy, where)
    return (w * (d - ref)).sum(axis=axis, keepdims=True), w.sum(axis=axis, keepdims=True)


@silent
def rest(y: Array, dy: Array, ref: Array, mean: Array, *, axis: Axis, where: Any = None) -> Array:
    """Σ y·((dy − ref) − mean) of a part; its sum over the parts, divided by Σ y, is added to the mean."""
    w, d = valid(y, dy, where)
    return np.asarray((w * ((d - ref) - mean)).sum(axis=axis, keepdims=True))


@silent
def finish_vjp(
    y: Array, dy: Array, ref: Array, mean: Array, *, axis: Axis, where: Any = None, scale: float = 1.0
) -> Array:
    """dx of a part, given the mean of dy over whole rows, less the reference; rounded once."""
    dx = scale * y.astype(np.float64) * ((dy.astype(np.float64) - ref) - mean)
    return (dx if where is None else np.where(where, dx, 0.0)).astype(y.dtype)


# --- the same with one exchange -----------------------------------------------------------------------

Moments = tuple[Array, Array, Array]


@silent
def moments(y: Array, dy: Array, *, axis: Axis, where: Any = None) -> Moments:
    """(ref, mean, weight) of a part: ref + mean is that of its dy, in two numbers, and weight is Σ y."""
    options: dict[str, Any] = {"axis": axis, "where": where}
    _, ref = reference(y, dy, **options)
    total, weight = pair(y, dy, ref, **options)
    some = np.where(weight == 0, 1.0, weight)
    ref, mean = two_sum(np.where(weight == 0, 0.0, ref), total / some)
    more = rest(y, dy, ref, mean, **options) / some
    return *two_sum(ref, mean + more), weight


@silent
def merge_moments(ref: Array, mean: Array, weight: Array) -> Moments:
    """That of whole rows, from those of the parts along the first axis."""
    heaviest = weight.argmax(axis=0)[None]
    first = np.take_along_axis(ref, heaviest, 0)
    total = weight.sum(axis=0)
    some = np.where(total == 0, 1.0, total)
    d, lost = two_sum(ref, -first)
    lost = lost + mean
    q = (weight * (d + lost)).sum(axis=0) / some
    r = (weight * ((d - q) + lost)).sum(axis=0) / some
    ref, mean = two_sum(first[0], q)
    return *two_sum(ref, mean + r), total
