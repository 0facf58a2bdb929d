"""Rows on which a softmax and its gradient go wrong where they can: logits × gradients × lengths × dtypes.

Everything is drawn anew from a seed and the name of what it is for, so a case is found again by its name.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import FLOATS, Array
from . import oracle

DType = np.dtype[Any]
Pair = tuple[str, str]

DTYPES = list(FLOATS)

# Around the lengths at which a kernel changes its way: vectors of 16 and 32, powers of two, caches.
SHORT = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 37, 64, 65, 100, 127, 129, 255, 257, 512, 1000, 1023)
MEDIUM = (4096, 4097, 4099)
LONG = (32768, 131073, 300000)


def winner(x: Array) -> Array:
    x[len(x) // 2] = 18.0
    return x


def with_one(dy: Array) -> Array:
    dy[:] = 0.0
    dy[len(dy) // 3] = 1.0
    return dy


# name: what is made of n numbers from N(0, 1)
LOGITS: dict[str, Callable[[Array], Array]] = {
    "plain": lambda z: z,
    "times 10": lambda z: z * 10,
    "times 25": lambda z: z * 25,
    "winner": winner,
    "offset 1000": lambda z: z + 1000,
    "ties": np.round,
}
GRADIENTS: dict[str, Callable[[Array], Array]] = {
    "plain": lambda z: z,
    "offset 100": lambda z: z + 100,
    "offset 1e4": lambda z: z + 1e4,
    "lognormal": lambda z: np.exp(2 * z),
    "one-hot": with_one,
    "constant": lambda z: np.full_like(z, 100 * z[0]),
}

ALL_PAIRS = [(a, b) for a in LOGITS for b in GRADIENTS]
# Each kind of logits and of gradient once; and the three that cost most bits.
SIX_PAIRS = list(zip(LOGITS, [*list(GRADIENTS)[1:], "plain"], strict=True))
THREE_PAIRS = [("plain", "offset 1e4"), ("times 10", "lognormal"), ("winner", "plain")]


def pairs(n: int) -> list[Pair]:
    return ALL_PAIRS if n in SHORT else SIX_PAIRS if n in MEDIUM else THREE_PAIRS


def numbers(n: int, *key: Any, seed: int = 0) -> Array:
    """n numbers from N(0, 1), the same for the same key and seed in every run."""
    return np.random.default_rng(zlib.crc32(repr((n, *key)).encode(), seed)).standard_normal(n)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=512)
def logits(n: int, dtype: DType, seed: int = 0) -> Array:
    """x, one row for each of `pairs(n)`."""
    return read_only(np.stack([LOGITS[a](numbers(n, a, b, seed=seed)) for a, b in pairs(n)]).astype(dtype))


@functools.lru_cache(maxsize=512)
def gradients(n: int, dtype: DType, seed: int = 0) -> Array:
    """dy, one row for each of `pairs(n)`."""
    return read_only(np.stack([GRADIENTS[b](numbers(n, b, a, seed=seed)) for a, b in pairs(n)]).astype(dtype))


@functools.lru_cache(maxsize=512)
def exact_softmax(n: int, dtype: DType) -> Array:
    return read_only(oracle.softmax(logits(n, dtype)))


@functools.lru_cache(maxsize=512)
def weights(n: int, dtype: DType) -> Array:
    """y: the softmax of `logits(n, dtype)`, rounded."""
    return read_only(exact_softmax(n, dtype).astype(dtype))


@functools.lru_cache(maxsize=512)
def exact_vjp(n: int, dtype: DType) -> Array:
    return read_only(oracle.vjp(weights(n, dtype), gradients(n, dtype)))


def alike(n: int, dtype: DType, seed: int = 0, rows: int = 128) -> tuple[Array, Array, Array]:
    """x and two gradients u, v that are much alike, so that ⟨v, J u⟩ is not small by accident.  They go with
    the logits, and their means are far from 0, so that it matters which mean is taken off."""
    x, u, v = (numbers(rows * n, key, seed=seed).reshape(rows, n) for key in "xuv")
    u = u + x + 1.25
    return x.astype(dtype), u.astype(dtype), (u + v / 4).astype(dtype)


@functools.lru_cache(maxsize=512)
def moderate(n: int, dtype: DType) -> tuple[Array, Array, Array]:
    """y, u, v: rows of moderate spread, in which each element counts."""
    x, u, v = alike(n, dtype)
    return read_only(oracle.softmax(x).astype(dtype)), read_only(u), read_only(v)


def along(function: Callable[..., Array], axis: int, *rows: Array) -> Array:
    """Apply a function to rows, given as the columns of an array if `axis` is 0."""
    if axis == 0:
        return function(*(np.ascontiguousarray(a.T) for a in rows), axis=0).T
    return function(*rows, axis=-1)
