"""NumPy arrays: check, lay out, call the kernels on the CPU.

The functions have the names, arguments and results of those in `softgrad.functional`, which documents
them.  `run` is the way to the kernels for all of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import checks, layout, threads
from .checks import Array

NO_MASK = np.empty(0, np.bool_)


@functools.lru_cache(maxsize=1024)
def route(
    name: str,
    packs: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    axes: tuple[int, ...],
    masked: bool,
) -> tuple[Callable[..., Any], layout.Plan]:
    """The compiled kernel for a call, and its plan.  Numba is loaded here, at the first call."""
    code, _, itemsize = checks.FLOATS[dtype]
    plan = layout.plan(shape, strides, axes, itemsize, packs, masked)
    name = f"{name}_packed" if plan.packed else name
    with threads.first_use:
        from .kernels.cpu import library

        return library.kernel(name, code, masked, *plan.way), plan


def run(
    name: str,
    packs: int,
    arrays: Sequence[Array],
    where: Array | None,
    axes: tuple[int, ...],
    numbers: tuple[Any, ...],
) -> bool:
    """Call the kernel `name` on `arrays` of one shape and dtype, read ones first.

    `packs` is how many of them its packed form holds in scratch memory, 0 if it has none.  `where` is the
    mask, None if there is none, or `NO_MASK` where the kernel takes none.
    """
    last = arrays[-1]
    if last.ndim == 0:  # counts as one number
        arrays = [a.reshape(1) for a in arrays]
        where = where if where is None or where is NO_MASK else where.reshape(1)
        last = arrays[-1]
    dtype = last.dtype
    strides = [a.strides for a in arrays]
    masked = False
    if where is None:
        strides.append(last.strides)  # of a mask that is not there, they are not used
    elif where is not NO_MASK:
        masked = True
        strides.append(tuple([s * dtype.itemsize for s in where.strides]))
        packs = 0
    kernel, plan = route(name, packs, dtype, last.shape, tuple(strides), axes, masked)
    first = plan.first
    arguments: list[Array | None] = [a[first] for a in arrays]
    if dtype.itemsize == 2:
        bits = checks.FLOATS[dtype][1]
        arguments = [a[first].view(bits) for a in arrays]
    if where is not NO_MASK and not plan.packed:
        arguments.append(None if where is None else where[first])
    return threads.share(kernel, (*arguments, *plan.layout, *numbers), plan.tiles, plan.at_once, last.nbytes)


def softmax(x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None) -> Array:
    given = checks.array(x, "x")
    dtype = given.dtype if given.dtype in checks.FLOATS else np.dtype(np.float64)
    axes = checks.axes(axis, given.ndim)
    where = None if where is None else checks.mask(where, given.shape)
    factor = checks.number(scale, dtype)
    nothing = checks.choice(empty)
    if out is None:
        out = result = np.empty_like(given, dtype)
    else:
        result = checks.target(out, given.shape, dtype, ("x", "where"), given, where)
    if given.size == 0:
        return out
    sign = -1.0 if factor < 0 else 1.0
    if empty == "raise":
        x = given.astype(dtype, copy=False)  # integers: this once, so that nothing is written before
        if run("any_empty", 0, [x], where, axes, (sign,)):
            raise ValueError(
                "x has a row with nothing in it (all −inf, or masked), and empty='raise': give empty='zero' "
                "or empty='nan', or leave such rows out"
            )
    if given.dtype != dtype:
        np.copyto(result, given)
        given = result
    run("softmax", 1, [given, result], where, axes, (sign, *in_parts(abs(factor), dtype), nothing))
    return out


@functools.lru_cache(maxsize=256)
def in_parts(scale: float, dtype: np.dtype[Any]) -> tuple[float, float, float]:
    """(factor, low part, power of two): their product is the scale.

    Factor and low part are numbers of the type that the kernels compute in, from 1 to 2 in sum, so that the
    low part is no subnormal number.
    """
    fraction, exponent = math.frexp(scale)
    fraction, power = 2 * fraction, 2.0 ** (exponent - 1)
    if dtype == np.float64 or scale == 0:
        return fraction, 0.0, power
    factor = float(np.float32(fraction))
    if power < 2.0**-149:  # beyond the smallest float32; the differences are below 2¹²⁸
        return factor, fraction - factor, 2.0**-149
    return factor, float(np.float32(fraction - factor)), power


def softmax_vjp(y: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    return product(y, dy, "dy", axis, where, scale, out)


def softmax_jvp(y: Any, dx: Any, *, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    return product(y, dx, "dx", axis, where, scale, out)


def product(y: Any, v: Any, name: str, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    """J(y) v; J is symmetric, so this is the vjp and the jvp."""
    y, v = checks.alike(("y", name), y, v)
    axes = checks.axes(axis, y.ndim)
    where = None if where is None else checks.mask(where, y.shape)
    factor = checks.number(scale, y.dtype)
    if out is None:
        out = result = np.empty_like(v)
    else:
        result = checks.target(out, y.shape, y.dtype, ("y", name, "where"), y, v, where)
    if y.size:
        run("vjp", 2, [y, v, result], where, axes, (None, factor))
    return out


def softmax_double_backward(y: Any, dy: Any, v: Any, *, axis: Any, scale: Any) -> tuple[Array, Array]:
    y, dy, v = checks.alike(("y", "dy", "v"), y, dy, v)
    axes = checks.axes(axis, y.ndim)
    factor = checks.number(scale, y.dtype)
    grads = np.empty_like(y), np.empty_like(y)
    if y.size:
        run("double_backward", 0, [y, dy, v, *grads], NO_MASK, axes, (None, factor))
    return grads
