"""The operations in NumPy, in float64 and with every temporary: where the kernels can't be compiled.

The formulas are plain ones, for rows along the last axis; what is added is what the kernels do with a mask, a
scale, nothing in a row, and numbers that are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np

from .. import formulas
from ..checks import Array

Where = tuple[int, tuple[int, ...]] | None
# as in kernels.py
PER_ROW = {"logsumexp": 1, "entropy": 1, "logsumexp_vjp": 0, "entropy_vjp": 0, "entmax_alpha_vjp": 2}
# where the table of each row is among the arrays, and how many numbers it has
TABLES = {
    "softmax_mean": (2, 1),
    "softmax_scale_vjp": (3, 1),
    "softmax_scaled": (0, 1),
    "sink_softmax": (0, 3),
    "sink_softmax_vjp": (0, 4),
    "shard_stats": (1, 2),
    "shard_entropy": (1, 3),
    "shard_softmax": (0, 5),
    "shard_log_softmax": (0, 2),
    "shard_moments": (2, 3),
    "shard_vjp": (0, 3),
    "shard_log_sum": (2, 2),
    "shard_log_vjp": (0, 2),
}


class Memory:
    """Memory at an address, as NumPy asks for it."""

    def __init__(self, typestr: str, shape: tuple[int, ...], address: int, strides: tuple[int, ...]) -> None:
        self.__array_interface__ = {"version": 3, "typestr": typestr, "shape": shape}
        self.__array_interface__ |= {"data": (address, False), "strides": strides}


def known(dtype: str) -> Any:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def view(dtype: str, shape: tuple[int, ...], address: int, strides: tuple[int, ...]) -> Array:
    """The array there; strides in elements."""
    of = known(dtype)
    steps = tuple([step * of.itemsize for step in strides])
    array: Array = np.asarray(Memory(f"V{of.itemsize}", shape, address, steps)).view(of)
    return array


def over_rows(what: Any, a: Any) -> Any:
    """The result of a NumPy reduction over each row, beside that row."""
    return what(a, axis=-1, keepdims=True)


def mean(s: Array, v: Array) -> Any:
    return over_rows(np.sum, s * v) / over_rows(np.sum, s)


def differences(x: Array, there: Array, scale: float) -> tuple[Any, Any]:
    """scale·x less its largest, and whether a row has any."""
    if scale == 0:
        x, scale = np.where(x > -np.inf, x * 0.0, x), 1.0  # NaN stays, −inf has no part
    x = np.where(there, x * math.copysign(1.0, scale), -np.inf)
    top = over_rows(np.max, x)
    return (x - top) * abs(scale), top != -np.inf  # a difference may overflow, to −inf


def forward(name: str, x: Array, there: Array, scale: float, nothing: float, alpha: float = 1.0) -> Any:
    t, some = differences(x, there, scale)
    finite = np.maximum(t, -1000.0)  # the power is 0 all the same
    if name == "logsumexp":
        z = np.where(there & (x != (-np.inf if scale >= 0 else np.inf)), x * scale, -np.inf)
        top = over_rows(np.max, z)
        total = np.where(top == np.inf, top, top + formulas.logsumexp(finite, np)[:, None])
        return np.where(some, total, -np.inf)
    if name == "entropy":
        return np.where(some, formulas.entropy(finite, np)[:, None], 0.0)
    if name == "log_softmax":
        y = np.where(some, formulas.log_softmax(t, np), np.log(nothing))
        return np.where(there, y, -np.inf)
    y = formulas.softmax(t, np) if alpha == 1 else formulas.entmax(t, alpha, np)
    return np.where(there, np.where(some, y, nothing), 0.0)


def of_reduction(name: str, dy: Array, x: Array, there: Array, scale: float) -> Any:
    """The gradient of a reduction, for a number dy of each row."""
    t, some = differences(x, there, scale)
    vjp = formulas.entropy_vjp if name == "entropy_vjp" else formulas.logsumexp_vjp
    return np.where(there & some, vjp(np.maximum(t, -1000.0), dy[:, 0], np), 0.0)


def product(name: str, given: Sequence[Array], there: Array, scale: Any, alpha: float = 1.0) -> Any:
    """A product with the Jacobian, or a derivative of one, of y and one or two others."""
    logarithmic = name.startswith("log")
    absent = -np.inf if logarithmic else 0.0
    y, *others = (np.where(there, a, 0.0 if i else absent) for i, a in enumerate(given))
    off = (y == absent).all(axis=-1, keepdims=True) | ~there
    spoilt = np.isnan(y).any(axis=-1, keepdims=True)
    s = np.exp(y) if logarithmic else np.where(y == 0, 0.0, np.minimum(y ** (2 - alpha), 2.0**500))
    scale, centred = scale ** len(others), []  # of a double backward it counts twice
    for i, v in enumerate(others):
        spoilt |= ~np.isfinite(v).all(axis=-1, keepdims=True)
        h = np.where(over_rows(np.max, np.abs(v)) > 1e290, 2.0**-64, 1.0)  # a sum might overflow
        others[i] = np.where(y == -np.inf, 0.0, v * h)
        scale = scale / h
        d = others[i] - np.take_along_axis(others[i], np.argmax(y, axis=-1, keepdims=True), -1)
        d = d - mean(s, d)  # from the winner's, so that an offset costs no digits
        centred.append(d - mean(s, d))
    if name == "log_softmax_vjp":
        result = formulas.log_softmax_vjp(y, others[0], np)
    elif name == "log_softmax_jvp":
        result = np.where(y == -np.inf, 0.0, centred[0])
    elif name == "log_softmax_double_backward":
        result = -s * over_rows(np.sum, others[0]) * centred[1]
    elif name.endswith("double_backward"):
        p = centred[0] * centred[1] * np.where(y == 0, 0.0, (2 - alpha) * s / y)
        result = (p - mean(s, p)) * s
    elif name == "entmax_alpha_vjp":  # Σ dx·ψ in each element of a row: see `sparse.psi`
        t = (alpha - 1) * np.log(np.where(y == 0, 1.0, y))
        psi = (np.expm1(t) - t * np.exp(t)) / (alpha - 1) ** 2
        result = over_rows(np.sum, others[0] * psi)
    else:
        result = centred[0] * s
    return np.where(off, 0.0, np.where(spoilt, np.nan, result * scale))


def eigenvalues(p: Array, found: Array) -> None:
    """What `call.eigenvalues` does; small ones are as far off as large ones here."""
    with np.errstate(all="ignore"):
        J = (
            p[..., None] * np.eye(p.shape[-1])
            - p[..., None] * (p / p.sum(axis=-1, keepdims=True))[..., None, :]
        )
        J[~np.isfinite(J).all(axis=(-2, -1))] = 0
        found[...] = np.linalg.eigvalsh(J)


def cross_entropy(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    addresses: Sequence[int],
    strides: Sequence[tuple[int, ...]],
    axis: int,
    more: tuple[float, ...],
) -> None:
    """What cross_entropy.py has of each row, and the gradient if there is a place for it."""
    share, even, smoothing, divisor = more
    read = 2 if "weights" in name else 1
    given = [np.moveaxis(view(dtype, shape, *at), axis, -1) for at in zip(addresses, strides, strict=True)]
    x = given[0].astype(np.float64)
    t = given[1].astype(np.float64) if read == 2 else np.zeros_like(x)
    found = view("float64", (*shape, 4), addresses[read], (*strides[read], 1))
    with np.errstate(all="ignore"):
        top = over_rows(np.max, x)
        is_top, e = x == top, np.exp(x - top)
        others = over_rows(np.sum, np.where(is_top, 0.0, e))
        others += over_rows(np.sum, is_top) - 1 + (top - top)
        weight = share * t + even
        distance = over_rows(np.sum, np.where(weight == 0, 0.0, weight * (top - x)))
        total = over_rows(np.sum, t)
        rows = np.concatenate([top, others, distance, total], axis=-1)
        np.moveaxis(found, axis, -2)[..., 0, :] = rows
        if len(addresses) > read + 1:
            whole = total * share + smoothing if read == 2 else 1.0
            given[-1][...] = (e / (1 + others) * whole - weight) / divisor


def of_rows(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    addresses: Sequence[int],
    strides: Sequence[tuple[int, ...]],
    axes: tuple[int, ...],
    where: Where,
    scale: float,
    nothing: float,
) -> None:
    """What sinks.py and shards.py have, with their table of each row."""
    last = tuple(range(-len(axes), 0))
    table_at, numbers = TABLES.get(name, (0, 1))
    table = view("float64", (*shape, numbers), addresses[table_at], (*strides[table_at], 1))
    table = np.moveaxis(table, axes, tuple(d - 1 for d in last))
    table = table.reshape(*table.shape[: -len(axes) - 1], -1, numbers)[..., 0, :]
    arrays = [
        np.moveaxis(view(dtype, shape, address, steps), axes, last)
        for i, (address, steps) in enumerate(zip(addresses, strides, strict=True))
        if i != table_at
    ]
    mask = np.moveaxis(view("bool", shape, *where), axes, last) if where else np.True_
    n, moved = math.prod(shape[d] for d in axes), arrays[0].shape
    there = np.broadcast_to(mask, moved).reshape(-1, n)
    rows = table.reshape(-1, numbers).T[..., None]
    with np.errstate(all="ignore"):
        read = [np.where(there, a.astype(np.float64).reshape(-1, n), 0.0) for a in arrays[:3]]
        if name in ("softmax_scaled", "sink_softmax"):
            sinks = rows[:-2]  # the scale comes after the sink, and before the place of y_sink
            x = np.where(there, read[0] * rows[len(sinks)], -np.inf)
            x = np.concatenate([x, *sinks], axis=-1)
            t, some = differences(x, np.ones(x.shape, bool), 1.0)
            y = np.where(some, formulas.softmax(np.maximum(t, -1000.0), np) * (t > -1000.0), nothing)
            result = np.where(there, y[:, :n], 0.0)
            if len(sinks):
                table[..., 2] = y[:, n:].reshape(table.shape[:-1])
        elif name == "sink_softmax_vjp":
            y, v = (np.concatenate([a, b], -1) for a, b in zip(read[:2], (rows[2], rows[0]), strict=True))
            result = product("softmax_vjp", [y, v], np.ones(y.shape, bool), 1.0)
            table[..., 3] = result[:, -1].reshape(table.shape[:-1])
            result = result[:, :-1] * rows[1]
        elif name == "softmax_scale_vjp":
            x, y, v = read
            dx = product("softmax_vjp", [y, v], there, 1.0)
            far = np.where(y > 0, x - over_rows(np.max, np.where(y > 0, x, -np.inf)), 0.0)
            table[..., 0] = over_rows(np.sum, far * dx).reshape(table.shape[:-1])
            return
        elif name == "softmax_mean":
            total = over_rows(np.sum, read[0])
            means = np.where(total == 0, 0.0, over_rows(np.sum, read[0] * read[1]) / total)
            table[..., 0] = means.reshape(table.shape[:-1])
            return
        elif name.startswith("shard"):
            found = formulas.of_shard(name, read, rows, there, scale, nothing, np)
            if isinstance(found, tuple):
                table[...] = np.concatenate(found, axis=-1).reshape(table.shape)
                return
            result = found
        else:
            result = np.where(read[0] == 0, 0.0, (read[1] - rows[0]) * read[0] * scale)
        arrays[-1][...] = result.reshape(moved)


def run(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    addresses: Sequence[int],
    strides: Sequence[tuple[int, ...]],
    axes: tuple[int, ...],
    where: Where,
    scale: float,
    nothing: float,
    more: tuple[float, ...] = (),
    offsets: Array | None = None,
) -> None:
    """What `call.run` does."""
    if offsets is not None:
        axis, size, name = axes[0], known(dtype).itemsize, name.removeprefix("segment_")
        for number, (begin, end) in enumerate(pairwise(offsets.tolist())):
            part = (*shape[:axis], end - begin, *shape[axis + 1 :])
            begins = [
                at + (8 * int(more[0]) * number if i == PER_ROW.get(name) else begin * steps[axis] * size)
                for i, (at, steps) in enumerate(zip(addresses, strides, strict=True))
            ]
            if begin < end:
                run(name, dtype, part, begins, strides, axes, where, scale, nothing)
        return
    if name.startswith("cross_entropy"):
        cross_entropy(name, dtype, shape, addresses, strides, axes[0], more)
        return
    if name in TABLES or "mean" in name:
        of_rows(name, dtype, shape, addresses, strides, axes, where, scale, nothing)
        return
    last = tuple(range(-len(axes), 0))
    dtypes = ["float64" if i == PER_ROW.get(name) else dtype for i in range(len(addresses))]
    arrays = [
        np.moveaxis(view(of, shape, address, steps), axes, last)
        for of, address, steps in zip(dtypes, addresses, strides, strict=True)
    ]
    n, moved = math.prod(shape[d] for d in axes), arrays[-1].shape
    read: list[Any] = [array.astype(np.float64).reshape(-1, n) for array in arrays[:-1]]
    mask = np.moveaxis(view("bool", shape, *where), axes, last) if where else np.True_
    there = np.broadcast_to(mask, moved).reshape(-1, n)
    with np.errstate(all="ignore"):
        if name in ("logsumexp_vjp", "entropy_vjp"):
            result = of_reduction(name, read[0], read[1], there, scale)
        elif len(read) == 1:
            result = np.broadcast_to(forward(name, read[0], there, scale, nothing, *more), read[0].shape)
        else:
            result = product(name, read, there, scale, *more)
        arrays[-1][...] = result.reshape(moved)
