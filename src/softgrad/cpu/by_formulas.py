"""The operations in NumPy, in float64 and with every temporary: where the kernels can't be compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def view(dtype: str, shape: tuple[int, ...], address: int, strides: tuple[int, ...]) -> Array:
    """The array there; strides in elements."""
    of = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
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


def forward(x: Array, there: Array, scale: float, nothing: float, alpha: float) -> Array:
    if scale == 0:
        x, scale = np.where(x > -np.inf, x * 0.0, x), 1.0  # NaN stays, −inf has no part
    x = np.where(there, x * math.copysign(1.0, scale), -np.inf)
    top = np.max(x, axis=-1, keepdims=True)
    z = (x - top) * abs(scale)  # a difference may overflow, to −inf
    y: Array = formulas.softmax(z, np) if alpha == 1 else entmax_formulas.entmax(z, alpha, np)
    return np.where(top == -np.inf, nothing, y)


def weights(y: Array, alpha: float) -> Array:
    """s = y^(2−α) on the support; NaN stays."""
    s = y if alpha == 1 else np.where(y == 0, 0.0, np.minimum(y ** (2 - alpha), 2.0**500))
    result: Array = s + y * 0  # NaN to the power of 0 is 1
    return result


def product(y: Array, dy: Array, scale: float, alpha: float) -> Array:
    y = weights(y, alpha)
    return centred(y, dy) * scale * y


def double_backward(y: Array, dy: Array, v: Array, scale: float, alpha: float) -> Array:
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
    alpha: float,
) -> None:
    """What `call.run` does."""
    last = tuple(range(-len(axes), 0))
    arrays = [
        np.moveaxis(view(dtype, shape, address, steps), axes, last)
        for address, steps in zip(addresses, strides, strict=True)
    ]
    n, moved = math.prod(shape[d] for d in axes), arrays[-1].shape
    read = [array.astype(np.float64).reshape(-1, n) for array in arrays[:-1]]
    mask = np.moveaxis(view("bool", shape, *where), axes, last) if where else np.True_
    there = np.broadcast_to(mask, moved).reshape(-1, n)
    with np.errstate(all="ignore"):
        if len(read) == 1:
            result = forward(read[0], there, scale, nothing, alpha)
        else:
            read = [np.where(there, array, 0.0) for array in read]
            result = PRODUCTS[name](*read, scale, alpha)
            result[~read[0].any(axis=-1)] = 0  # an empty row
        result[~there] = 0
        arrays[-1][...] = result.reshape(moved)


PRODUCTS: dict[str, Callable[..., Any]] = {
    "softmax_vjp": product,
    "softmax_double_backward": double_backward,
    "entmax_vjp": product,
    "entmax_double_backward": double_backward,
    "entmax_alpha_vjp": alpha_vjp,
}
