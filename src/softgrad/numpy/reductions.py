"""The reductions: one number for each row, and its gradient with respect to the row.

What the arguments mean is said in `softgrad.functional`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..checks import Array
from ..specs import Reduction
from .run import returned, run


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
    found = np.empty(checks.reduced_shape(given.shape, axes, True))
    run(row.name, [given, found], where, axes, factor, shaped=0)
    with np.errstate(over="ignore"):
        np.copyto(result, found.reshape(shape), casting="unsafe")
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
        times = dy.astype(np.float64)
        if factor != 1:
            with np.errstate(all="ignore"):
                times = np.asarray(times * factor)
        run(f"{row.name}_vjp", [times, x, result], where, axes, factor)
    return returned(result, out)


def with_vjp(
    row: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Array | None
) -> tuple[Array, Callable[..., Array]]:
    x = checks.floating(x, "x")
    result = forward(row, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out)

    def pullback(dy: Any, *, out: Array | None = None) -> Array:
        return vjp(row, x, dy, axis=axis, where=where, scale=scale, out=out)

    return result, pullback
