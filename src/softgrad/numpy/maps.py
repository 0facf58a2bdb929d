"""The maps of the family: one forward, one product with the Jacobian, one double backward for all.

What the arguments mean is said in `softgrad.functional`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..checks import Array
from ..cpu import gate
from ..specs import Map
from .run import returned, run


def forward(map: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None) -> Array:
    given = checks.array(x, "x")
    dtype = given.dtype if given.dtype in checks.FLOATS else np.dtype(np.float64)
    axes = checks.axes(axis, given.ndim)
    where = None if where is None else checks.mask(where, given.shape)
    factor = checks.number(scale, dtype)
    nothing = checks.choice(empty)
    if out is None:
        result = np.empty_like(given, dtype)
    else:
        result = checks.target(out, given.shape, dtype, ("x", "where"), given, where)
    if given.size == 0:
        return returned(result, out)
    empty_rows = None
    if empty == "raise" or (empty == "nan" and where is not None):
        empty_rows = rows_of_nothing(given, axes, where, factor)
        if empty == "raise" and empty_rows.any():
            raise ValueError(
                "x has a row with nothing in it (all −inf, or masked), and empty='raise': give empty='zero' "
                "or empty='nan', or leave such rows out"
            )
    if given.dtype != dtype:
        np.copyto(result, given)
        given = result
    run(map.forward, [given, result], where, axes, factor, nothing, more=map.more)
    gate.remember(map.forward, (given, result))
    if empty_rows is not None:  # what is masked is 0, but for such a row
        np.copyto(result, nothing, where=empty_rows)
    return returned(result, out)


def rows_of_nothing(x: Array, axes: tuple[int, ...], where: Array | None, scale: float) -> Array:
    """Where the rows of logits are all −inf, or masked; with axes of length 1."""
    axis = axes if x.ndim else None
    found: Array
    if x.dtype.kind in "iu":
        there = np.ones_like(x, bool) if where is None else where
        found = np.asarray(~there.any(axis=axis, keepdims=True))
        return found
    lost, extreme = (np.inf, np.min) if scale < 0 else (-np.inf, np.max)
    masked = {} if where is None else {"where": where}
    found = np.asarray(extreme(x, axis=axis, keepdims=True, initial=lost, **masked) == lost)
    return found


def product(
    map: Map, kernel: str, y: Any, v: Any, name: str, axis: Any, where: Any, scale: Any, out: Array | None
) -> Array:
    """The vjp, or the jvp: of most maps J is symmetric, and they are the same kernel."""
    y, v = checks.alike(("y", name), y, v)
    axes = checks.axes(axis, y.ndim)
    where = None if where is None else checks.mask(where, y.shape)
    factor = checks.number(scale, y.dtype)
    if out is None:
        result = np.empty_like(v)
    else:
        result = checks.target(out, y.shape, y.dtype, ("y", name, "where"), y, v, where)
    run(kernel, [y, v, result], where, axes, factor, more=map.more)
    gate.remember(kernel, (y, v, result))
    return returned(result, out)


def vjp(map: Map, y: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    return product(map, map.vjp, y, dy, "dy", axis, where, scale, out)


def jvp(map: Map, y: Any, dx: Any, *, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    return product(map, map.jvp, y, dx, "dx", axis, where, scale, out)


def double_backward(
    map: Map, y: Any, dy: Any, v: Any, *, axis: Any, scale: Any, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """`out` is for arrays known to fit: nothing of them is checked."""
    y, dy, v = checks.alike(("y", "dy", "v"), y, dy, v)
    axes = checks.axes(axis, y.ndim)
    factor = checks.number(scale, y.dtype)
    grads = (np.empty_like(y), np.empty_like(y)) if out is None else out
    run(map.jvp, [y, v, grads[1]], None, axes, factor, more=map.more)
    run(map.double_backward, [y, dy, v, grads[0]], None, axes, factor, more=map.more)
    return grads if y.ndim or out is not None else (grads[0][()], grads[1][()])


def with_vjp(
    map: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None
) -> tuple[Array, Callable[..., Array]]:
    y = forward(map, x, axis=axis, where=where, scale=scale, empty=empty, out=out)

    def pullback(dy: Any, *, out: Array | None = None) -> Array:
        return vjp(map, y, dy, axis=axis, where=where, scale=scale, out=out)

    return y, pullback
