"""What is done to a block of a Dask array, and to the numbers of its rows, which are records of float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import arrays, checks, specs
from ..checks import Array
from ..distributed import combine, combine_reference, finish, finish_vjp, pair, reference, rest, stats
from ..specs import Kind, Map


def forward_whole(x: Array, where: Any, *, map: Map, **options: Any) -> Array:
    return np.asarray(arrays.forward(map, x, where=where, out=None, **options))


def product_whole(y: Array, v: Array, where: Any, *, map: Map, kind: Kind, **options: Any) -> Array:
    return np.asarray(arrays.product(map, kind, y, v, where=where, out=None, **options))


def logsumexp_whole(x: Array, where: Any, **options: Any) -> Array:
    return np.asarray(arrays.reduce(specs.LOGSUMEXP, x, where=where, keepdims=True, out=None, **options))


def record(dtype: np.dtype[Any], *numbers: Array) -> Array:
    """The numbers of each row as one array."""
    result = np.empty(np.shape(numbers[0]), dtype)
    for name, number in zip(dtype.names or (), numbers, strict=True):
        result[name] = number
    return result


def add(p: Array, q: Array) -> Array:
    """Two records as one, number by number."""
    with np.errstate(all="ignore"):
        return record(p.dtype, *(p[name] + q[name] for name in p.dtype.names or ()))


def blocks_of(y: Any, v: Any) -> list[Array]:
    """Two blocks in one dtype; that they are of one shape, Dask may not have known."""
    return checks.alike(("a block of y", "that of the other array"), y, v)


def quotient(a: Array, b: Array) -> Array:
    """a/b, and 0 where b is 0."""
    with np.errstate(all="ignore"):
        return np.where(b == 0, 0.0, a / b)


# softmax

# The total is longdouble until all parts are combined: so that not each step of the tree rounds it.
STATS = np.dtype([("top", np.float64), ("total", np.longdouble)])


def stats_of(x: Any, where: Any, **options: Any) -> Array:
    return record(STATS, *stats(checks.array(x, "x"), where=where, **options))


def combine_stats(a: Array, b: Array) -> Array:
    return record(STATS, *combine((a["top"], a["total"]), (b["top"], b["total"])))


def finish_softmax(x: Any, where: Any, numbers: Array, **options: Any) -> Array:
    total = numbers["total"].astype(np.float64)
    return finish(checks.array(x, "x"), numbers["top"], total, where=where, **options)


# the vjp and jvp of softmax, and the jvp of log_softmax, whose weights are exp(y)

MEAN = np.dtype([("largest", np.float64), ("ref", np.float64), ("a", np.float64), ("b", np.float64)])
REST = np.dtype([("rest", np.float64)])


def weighted(y: Any, v: Any, log: bool) -> tuple[Array, Array]:
    """The weights of a block, and what they weigh."""
    y, v = blocks_of(y, v)
    return np.exp(y.astype(np.float64)) if log else y, v


def mean_of(y: Any, v: Any, where: Any, *, axis: Any, log: bool) -> Array:
    """The reference of this part, and the pair about it."""
    w, v = weighted(y, v, log)
    largest, ref = reference(w, v, axis=axis, where=where)
    return record(MEAN, largest, ref, *pair(w, v, ref, axis=axis, where=where))


def combine_means(p: Array, q: Array) -> Array:
    """The pairs about one reference; what this rounds, `rest` finds, or a narrower type does not see."""
    largest, ref = combine_reference((p["largest"], p["ref"]), (q["largest"], q["ref"]))
    with np.errstate(all="ignore"):
        a = sum(part["a"] + (part["ref"] - ref) * part["b"] for part in (p, q))
    return record(MEAN, largest, ref, np.asarray(a), p["b"] + q["b"])


def about(numbers: Array) -> tuple[Array, Array]:
    """The reference, and the mean of the distances from it.

    From one far from the mean all distances are large, and their rounding stays: then the mean is taken for
    it (docs/decisions.md, the careful path).
    """
    ref, mean = numbers["ref"], quotient(numbers["a"], numbers["b"])
    with np.errstate(all="ignore"):
        whole = ref + mean
        far = np.abs(mean) > np.abs(whole) / 4
    return np.where(far, whole, ref), np.where(far, 0.0, mean)


def rest_of(y: Any, v: Any, where: Any, numbers: Array, *, axis: Any, log: bool) -> Array:
    w, v = weighted(y, v, log)
    return record(REST, rest(w, v, *about(numbers), axis=axis, where=where))


def finish_product(
    y: Any, v: Any, where: Any, numbers: Array, left: Array | None = None, *, log: bool, **options: Any
) -> Array:
    ref, mean = about(numbers)
    if left is not None:
        mean = mean + quotient(left["rest"], numbers["b"])
    y, v = blocks_of(y, v)
    if log:  # dy is not weighted; it is 0 where y is −inf
        y = (y != -np.inf).astype(y.dtype)
    return finish_vjp(y, v, ref, mean, where=where, **options)


# log_softmax, its vjp, and logsumexp

SUM = np.dtype([("sum", np.float64), ("weight", np.float64)])
LOGS = np.dtype([("top", np.float64), ("others", np.float64)])


def wide_of(x: Array) -> Any:
    """The type of distances from the largest logit, of which a power keeps all digits."""
    return np.float64 if x.dtype.itemsize < 8 and x.dtype in checks.FLOATS else np.longdouble


def logs_of(x: Any, where: Any, *, axis: Any, scale: float) -> Array:
    """The x of the largest scale·x, and the sum of the powers of the others.

    The 1 of the largest is left out: in a sum with it the digits of a result near 0 would be lost.
    """
    x = checks.array(x, "x")
    lowest = arrays.absent(scale)
    valid = x != lowest if where is None else (x != lowest) & where
    extreme = np.min if scale < 0 else np.max
    x = x.astype(wide_of(x))
    top = extreme(x, axis=axis, keepdims=True, initial=lowest, where=valid)
    with np.errstate(all="ignore"):
        tied = valid & (x == top)
        others = np.sum(np.exp((x - top) * scale), axis=axis, keepdims=True, where=valid & ~tied)
        others += tied.sum(axis=axis, keepdims=True) - 1
    others = np.where(top == lowest, 0.0, np.where(np.isfinite(top), others, np.nan))
    return record(LOGS, top, others)


def combine_logs(a: Array, b: Array, scale: float) -> Array:
    first = a["top"] <= b["top"] if scale < 0 else a["top"] >= b["top"]
    first |= np.isnan(a["top"])  # of a NaN in b this is so anyway
    winner, loser = np.where(first, a, b), np.where(first, b, a)
    with np.errstate(all="ignore"):
        weight = np.exp((loser["top"].astype(np.longdouble) - winner["top"]) * scale)
        weight = np.where(loser["top"] == arrays.absent(scale), 0.0, weight)
        return record(LOGS, winner["top"], winner["others"] + weight * (1 + loser["others"]))


def finish_log_softmax(x: Any, where: Any, numbers: Array, *, axis: Any, scale: float, empty: str) -> Array:
    x = checks.array(x, "x")
    nothing = numbers["top"] == arrays.absent(scale)
    if empty == "raise" and nothing.any():
        raise ValueError(checks.EMPTY_ROW)
    with np.errstate(all="ignore"):
        t = x.astype(wide_of(x)) - numbers["top"]
        t = np.where(x == -np.inf, t, t * scale) if scale == 0 else t * scale
        y = t - np.log1p(numbers["others"])
        y = y if where is None else np.where(where, y, -np.inf)
        y = np.where(nothing, np.nan if empty == "nan" else -np.inf, y)
        return np.asarray(y.astype(x.dtype if x.dtype in checks.FLOATS else np.float64))


def finish_logsumexp(numbers: Array, *, scale: float, result: np.dtype[Any]) -> Array:
    top = numbers["top"]
    with np.errstate(all="ignore"):
        largest = np.where(top == arrays.absent(scale), -np.inf, top * scale)
        whole = largest + np.log1p(numbers["others"])
        return np.where(np.isinf(largest), largest, whole).astype(result)


def sum_of(y: Any, v: Any, where: Any, *, axis: Any) -> Array:
    """Σ dy of what is not −inf, NaN if a dy is not finite, and how many that are."""
    y, v = blocks_of(y, v)
    valid = y != -np.inf
    with np.errstate(all="ignore"):
        dy = np.where(valid, v, 0 * v).astype(np.float64)
        if where is not None:
            dy, valid = np.where(where, dy, 0.0), valid & where
        total = dy.sum(axis=axis, keepdims=True)
    return record(SUM, np.where(np.isfinite(total), total, np.nan), valid.sum(axis=axis, keepdims=True))


def finish_log_vjp(y: Any, v: Any, where: Any, numbers: Array, *, axis: Any, scale: float) -> Array:
    """dy − exp(y)·Σdy; near y = 0 by the distance of exp(y) from 1, so that a sure row keeps its digits."""
    y, v = blocks_of(y, v)
    total = np.where(numbers["weight"] == 0, 0.0, numbers["sum"])
    with np.errstate(all="ignore"):
        wide, dy = y.astype(np.float64), v.astype(np.float64)
        dx = np.where(wide > -0.34, (dy - total) - total * np.expm1(wide), dy - total * np.exp(wide))
        dx = np.where(wide == -np.inf, 0 * total, dx * scale)
        return np.asarray((dx if where is None else np.where(where, dx, 0.0)).astype(y.dtype))
