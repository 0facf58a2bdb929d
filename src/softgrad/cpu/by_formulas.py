"""The operations in NumPy, in float64 and with every temporary: where the kernels can't be compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from ..checks import Array
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


def differences(x: Array, there: Array, scale: float) -> tuple[Array, Array]:
    """scale·x less its largest, and whether a row has any."""
    if scale == 0:
        x, scale = np.where(x > -np.inf, x * 0.0, x), 1.0  # NaN stays, −inf has no part
    x = np.where(there, x * math.copysign(1.0, scale), -np.inf)
    top = np.max(x, axis=-1, keepdims=True)
    return (x - top) * abs(scale), top != -np.inf  # a difference may overflow, to −inf


def forward(x: Array, there: Array, scale: float, nothing: float) -> Array:
    t, some = differences(x, there, scale)
    return np.where(there, np.where(some, formulas.softmax(t, np), nothing), 0.0)


def log_forward(x: Array, there: Array, scale: float, nothing: float) -> Array:
    t, some = differences(x, there, scale)
    others = np.sum(np.where(t == 0, 0.0, np.exp(t)), axis=-1, keepdims=True)
    ties = np.sum(t == 0, axis=-1, keepdims=True)
    return np.where(there, np.where(some, t - np.log1p(others + (ties - 1)), np.log(nothing)), -np.inf)


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
    dx = np.where(near, (dy - total) - total * np.expm1(np.where(near, y, 0.0)), dy - total * np.exp(y))
    return dx * scale * h


def log_tangent(y: Array, dx: Array, scale: float) -> Array:
    found = centred(np.exp(y), dx)
    return np.where(y == -np.inf, found * 0.0, found) * scale


def log_double_backward(y: Array, dy: Array, v: Array, scale: float) -> Array:
    _, total, h = log_sum(y, dy)
    result: Array = -np.exp(y) * total * centred(np.exp(y), v) * scale * scale * h
    return result


def product(y: Array, dy: Array, scale: float) -> Array:
    return centred(y, dy) * scale * y


def double_backward(y: Array, dy: Array, v: Array, scale: float) -> Array:
    p = centred(y, dy) * centred(y, v)
    return (p - mean(y, p)) * y * scale * scale


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
        if name in FORWARDS:
            result = FORWARDS[name](read[0], there, scale, nothing)
        else:
            absent = -np.inf if name.startswith("log_softmax") else 0.0  # of y
            read = [np.where(there, array, 0.0 if i else absent) for i, array in enumerate(read)]
            result = PRODUCTS[name](*read, scale)
            result[(read[0] == absent).all(axis=-1)] = 0  # an empty row
            result[~there] = 0
        arrays[-1][...] = result.reshape(moved)


FORWARDS: dict[str, Callable[..., Any]] = {"softmax": forward, "log_softmax": log_forward}
PRODUCTS: dict[str, Callable[..., Any]] = {
    "softmax_vjp": product,
    "softmax_double_backward": double_backward,
    "log_softmax_vjp": log_product,
    "log_softmax_jvp": log_tangent,
    "log_softmax_double_backward": log_double_backward,
}
