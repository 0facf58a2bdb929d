"""The reductions: one number for each row, and its gradient with respect to the row.

What the arguments mean is said in `softgrad.functional`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..checks import Array
from ..family import Reduction
from ..scaling import in_parts
from .run import returned, run


def per_element(rows: Array, shape: tuple[int, ...]) -> Array:
    """A view of this shape in which each element of a row is the row's one: axes of length 1 get stride 0."""
    strides = tuple(0 if size == 1 else stride for size, stride in zip(rows.shape, rows.strides, strict=True))
    return np.lib.stride_tricks.as_strided(rows, shape, strides)


def factors(scale: float, dtype: np.dtype[Any]) -> tuple[float, ...]:
    """The sign of the scale, and its size as the kernels take it."""
    return (-1.0 if scale < 0 else 1.0, *in_parts(abs(scale), dtype == np.float64))


def forward(
    row: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Array | None
) -> Array:
    given = checks.floating(x, "x")
    axes = checks.axes(axis, given.ndim)
    where = None if where is None else checks.mask(where, given.shape)
    factor = checks.number(scale, given.dtype)
    shape = checks.reduced_shape(given.shape, axes, bool(keepdims))
    if out is None:
        result = np.empty(shape, given.dtype)
    else:
        result = checks.target(out, shape, given.dtype, ("x", "where"), given, where)
    if given.size == 0:
        result[...] = row.of_nothing
        return returned(result, out)
    kept = result.reshape(checks.reduced_shape(given.shape, axes, True), copy=False)
    arrays = [given, per_element(kept, given.shape)]
    run("reduction", 0, arrays, where, axes, (*factors(factor, given.dtype), row.of_entropy), per_row=1)
    return returned(result, out)


def vjp(row: Reduction, x: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    x, dy, axes = checks.with_rows(x, dy, axis)
    where = None if where is None else checks.mask(where, x.shape)
    factor = checks.number(scale, x.dtype)
    if out is None:
        result = np.empty_like(x)
    else:
        result = checks.target(out, x.shape, x.dtype, ("x", "dy", "where"), x, dy, where)
    if x.size:
        arrays = [x, per_element(dy, x.shape), result]
        numbers = *factors(factor, x.dtype), row.of_entropy, factor
        run("reduction_vjp", 0, arrays, where, axes, numbers, per_row=1)
    return returned(result, out)


def with_vjp(
    row: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Array | None
) -> tuple[Array, Callable[..., Array]]:
    x = checks.floating(x, "x")
    result = forward(row, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out)

    def pullback(dy: Any, *, out: Array | None = None) -> Array:
        return vjp(row, x, dy, axis=axis, where=where, scale=scale, out=out)

    return result, pullback
