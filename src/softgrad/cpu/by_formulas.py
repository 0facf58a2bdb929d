"""The operations in NumPy, in float64 and with every temporary: where the kernels can't be compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np

from ..checks import Array
from ..formulas import entmax as entmax_formulas
from ..formulas import softmax as formulas

Where = tuple[int, tuple[int, ...]] | None


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


def mean(y: Array, v: Array) -> Array:
    result: Array = np.sum(y * v, axis=-1, keepdims=True) / np.sum(y, axis=-1, keepdims=True)
    return result


def centred(y: Array, v: Array) -> Array:
    """v less its mean under the weights y, from the winner's, so that an offset costs no digits."""
    h = np.where(np.abs(v).max(axis=-1, keepdims=True) > 1e300, 2.0**-4, 1.0)  # differences may overflow
    d = v * h - np.take_along_axis(v, np.argmax(y, axis=-1, keepdims=True), -1) * h
    d = d - mean(y, d)
    result: Array = (d - mean(y, d)) / h
    return result


def differences(x: Array, there: Array, scale: float) -> tuple[Array, Array]:
    """scale·x less its largest, and whether a row has any."""
    if scale == 0:
        x, scale = np.where(x > -np.inf, x * 0.0, x), 1.0  # NaN stays, −inf has no part
    x = np.where(there, x * math.copysign(1.0, scale), -np.inf)
    top = np.max(x, axis=-1, keepdims=True)
    return (x - top) * abs(scale), top != -np.inf  # a difference may overflow, to −inf


def forward(x: Array, there: Array, scale: float, nothing: float, alpha: float = 1.0) -> Array:
    t, some = differences(x, there, scale)
    y = formulas.softmax(t, np) if alpha == 1 else entmax_formulas.entmax(t, alpha, np)
    return np.where(there, np.where(some, y, nothing), 0.0)


def log_of_sum(t: Array) -> Array:
    """log Σ exp(t); of a sure row it is what the others come to."""
    others = np.sum(np.where(t == 0, 0.0, np.exp(t)), axis=-1, keepdims=True)
    result: Array = np.log1p(others + (np.sum(t == 0, axis=-1, keepdims=True) - 1))
    return result


def log_forward(x: Array, there: Array, scale: float, nothing: float) -> Array:
    t, some = differences(x, there, scale)
    y: Array = np.where(there, np.where(some, t - log_of_sum(t), np.log(nothing)), -np.inf)
    return y


def logsumexp(x: Array, there: Array, scale: float, nothing: float) -> Array:
    t, some = differences(x, there, scale)
    z = np.where(there & (x != (-np.inf if scale >= 0 else np.inf)), x * scale, -np.inf)
    top = np.max(z, axis=-1, keepdims=True)
    return np.where(some, np.where(top == np.inf, top, top + log_of_sum(t)), -np.inf)


def entropy(x: Array, there: Array, scale: float, nothing: float) -> Array:
    t, some = differences(x, there, scale)
    p = formulas.softmax(t, np)
    mean = np.sum(np.where(p == 0, 0.0, p * t), axis=-1, keepdims=True)
    return np.where(some, log_of_sum(t) - mean, 0.0)


def logsumexp_vjp(dy: Array, x: Array, there: Array, scale: float) -> Array:
    return dy * forward(x, there, scale, 0.0)


def entropy_vjp(dy: Array, x: Array, there: Array, scale: float) -> Array:
    t, _ = differences(x, there, scale)
    p = formulas.softmax(t, np)
    dx: Array = dy * p * -centred(p, np.where(p == 0, 0.0, t))
    return dx


def log_sum(y: Array, dy: Array) -> tuple[Array, Array, Array]:
    """dy where y is not −inf, its sum, and what both are divided by so that nothing overflows."""
    size = np.max(np.abs(dy), axis=-1, keepdims=True)
    h = np.where(size > 1e290, 2.0**64, 1.0)
    dy = np.where(y == -np.inf, dy * 0.0, dy) / h
    total = np.sum(dy, axis=-1, keepdims=True)
    return dy, total + (total - total), h


def log_product(y: Array, dy: Array, scale: float) -> Array:
    dy, total, h = log_sum(y, dy)
    near = y > -0.34
    sure = (dy - total) - total * np.expm1(np.where(near, y, 0.0))
    dx: Array = np.where(near, sure, dy - total * np.exp(y)) * scale * h
    return dx


def log_tangent(y: Array, dx: Array, scale: float) -> Array:
    found = centred(np.exp(y), dx)
    return np.where(y == -np.inf, found * 0.0, found) * scale


def log_double_backward(y: Array, dy: Array, v: Array, scale: float) -> Array:
    _, total, h = log_sum(y, dy)
    result: Array = -np.exp(y) * total * centred(np.exp(y), v) * scale * scale * h
    return result


def weights(y: Array, alpha: float) -> Array:
    """s = y^(2−α) on the support; NaN stays."""
    s = y if alpha == 1 else np.where(y == 0, 0.0, np.minimum(y ** (2 - alpha), 2.0**500))
    result: Array = s + y * 0  # NaN to the power of 0 is 1
    return result


def product(y: Array, dy: Array, scale: float, alpha: float = 1.0) -> Array:
    y = weights(y, alpha)
    return centred(y, dy) * scale * y


def double_backward(y: Array, dy: Array, v: Array, scale: float, alpha: float = 1.0) -> Array:
    s = weights(y, alpha)
    slope = np.where(y == 0, 0.0, (2 - alpha) * s / y)
    p = centred(s, dy) * centred(s, v) * slope
    return (p - mean(s, p)) * s * scale * scale


def alpha_vjp(y: Array, dx: Array, scale: float, alpha: float) -> Array:
    """Σ dx·ψ in each element of a row: see `sparse.psi`."""
    log = np.log(np.where(y == 0, 1.0, y))
    t = (alpha - 1) * log
    series = sum((k + 1) / math.factorial(k + 2) * np.maximum(t, -1) ** k for k in range(18))
    g = np.where(np.abs(t) < 1, series, (1 - np.exp(t) * (1 - t)) / t**2)
    result: Array = y * 0 - np.sum(dx * log**2 * g, axis=-1, keepdims=True)
    return result


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
        top = x.max(axis=-1, keepdims=True)
        is_top, e = x == top, np.exp(x - top)
        others = np.sum(np.where(is_top, 0.0, e), axis=-1, keepdims=True)
        others += np.sum(is_top, axis=-1, keepdims=True) - 1 + (top - top)
        weight = share * t + even
        distance = np.sum(np.where(weight == 0, 0.0, weight * (top - x)), axis=-1, keepdims=True)
        total = np.sum(t, axis=-1, keepdims=True)
        rows = np.concatenate([top, others, distance, total], axis=-1)
        np.moveaxis(found, axis, -2)[..., 0, :] = rows
        if len(addresses) > read + 1:
            whole = total * share + smoothing if read == 2 else 1.0
            dx = e / (1 + others) * whole - weight
            elsewhere = np.sum(np.where(is_top, 0.0, weight), axis=-1, keepdims=True)
            sure = elsewhere - whole * (others / (1 + others))
            given[-1][...] = np.where(is_top & (others < 0.5) & (read == 2), sure, dx) / divisor


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
        axis, size = axes[0], known(dtype).itemsize
        for begin, end in pairwise(offsets.tolist()):
            part = (*shape[:axis], end - begin, *shape[axis + 1 :])
            there = [at + begin * steps[axis] * size for at, steps in zip(addresses, strides, strict=True)]
            if begin < end:
                run(name.removeprefix("segment_"), dtype, part, there, strides, axes, where, scale, nothing)
        return
    if name.startswith("cross_entropy"):
        cross_entropy(name, dtype, shape, addresses, strides, axes[0], more)
        return
    last = tuple(range(-len(axes), 0))
    dtypes = ["float64" if i == PER_ROW.get(name) else dtype for i in range(len(addresses))]
    arrays = [
        np.moveaxis(view(of, shape, address, steps), axes, last)
        for of, address, steps in zip(dtypes, addresses, strides, strict=True)
    ]
    n, moved = math.prod(shape[d] for d in axes), arrays[-1].shape
    read = [array.astype(np.float64).reshape(-1, n) for array in arrays[:-1]]
    mask = np.moveaxis(view("bool", shape, *where), axes, last) if where else np.True_
    there = np.broadcast_to(mask, moved).reshape(-1, n)
    with np.errstate(all="ignore"):
        if name in FORWARDS:
            result = np.broadcast_to(FORWARDS[name](read[0], there, scale, nothing, *more), read[0].shape)
        elif name in REDUCED:
            result = REDUCED[name](*read, there, scale)
            lost = -np.inf if scale >= 0 else np.inf
            result[(~there | (read[1] == lost)).all(axis=-1)] = 0  # an empty row
            result[~there] = 0
        else:
            absent = -np.inf if name.startswith("log_softmax") else 0.0  # of y
            read = [np.where(there, array, 0.0 if i else absent) for i, array in enumerate(read)]
            result = PRODUCTS[name](*read, scale, *more)
            result[(read[0] == absent).all(axis=-1)] = 0
            result[~there] = 0
        arrays[-1][...] = result.reshape(moved)


PER_ROW = {"logsumexp": 1, "entropy": 1, "logsumexp_vjp": 0, "entropy_vjp": 0}  # as in kernels.py
FORWARDS: dict[str, Callable[..., Any]] = {
    "softmax": forward,
    "entmax": forward,
    "log_softmax": log_forward,
    "logsumexp": logsumexp,
    "entropy": entropy,
}
REDUCED: dict[str, Callable[..., Any]] = {"logsumexp_vjp": logsumexp_vjp, "entropy_vjp": entropy_vjp}
PRODUCTS: dict[str, Callable[..., Any]] = {
    "softmax_vjp": product,
    "softmax_double_backward": double_backward,
    "entmax_vjp": product,
    "entmax_double_backward": double_backward,
    "entmax_alpha_vjp": alpha_vjp,
    "log_softmax_vjp": log_product,
    "log_softmax_jvp": log_tangent,
    "log_softmax_double_backward": log_double_backward,
}
