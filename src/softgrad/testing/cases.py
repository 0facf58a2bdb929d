"""Rows on which a softmax and its gradient go wrong where they can: logits × gradients × lengths × dtypes.

Everything is drawn anew from a seed and the name of what it is for, so a case is found again by its name.
Of the rows of a check each function here makes logits x and gradients u and v, and a label for each row.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import FLOATS, Array
from . import oracle
from .errors import DType, info

Pair = tuple[str, str]
Rows = tuple[list[str], Array, Array, Array]
Draw = Callable[[DType, int, int], Rows]  # of a dtype, a length and a seed

DTYPES = list(FLOATS)

# Around the lengths at which a kernel changes its way: vectors of 16 and 32, powers of two, caches.
SHORT = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 37, 64, 65, 100, 127, 129, 255, 257, 512, 1000, 1023)
MEDIUM = (4096, 4097, 4099)
LONG = (32768, 131073, 300000)


def winner(x: Array) -> Array:
    x[len(x) // 2] = 18.0
    return x


def one_hot(dy: Array) -> Array:
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
    "one-hot": one_hot,
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


remembered = functools.lru_cache(maxsize=512)


@remembered
def logits(n: int, dtype: DType, seed: int = 0) -> Array:
    """x, one row for each of `pairs(n)`."""
    return read_only(np.stack([LOGITS[a](numbers(n, a, b, seed=seed)) for a, b in pairs(n)]).astype(dtype))


@remembered
def gradients(n: int, dtype: DType, seed: int = 0) -> Array:
    """dy, one row for each of `pairs(n)`."""
    return read_only(np.stack([GRADIENTS[b](numbers(n, b, a, seed=seed)) for a, b in pairs(n)]).astype(dtype))


@remembered
def exact_softmax(n: int, dtype: DType) -> Array:
    return read_only(oracle.softmax(logits(n, dtype)))


@remembered
def weights(n: int, dtype: DType) -> Array:
    """y: the softmax of `logits(n, dtype)`, rounded."""
    return read_only(exact_softmax(n, dtype).astype(dtype))


@remembered
def exact_vjp(n: int, dtype: DType) -> Array:
    return read_only(oracle.vjp(weights(n, dtype), gradients(n, dtype)))


def alike(n: int, dtype: DType, seed: int = 0, rows: int = 128) -> tuple[Array, Array, Array]:
    """x and two gradients u, v that are much alike, so that ⟨v, J u⟩ is not small by accident.  They go with
    the logits, and their means are far from 0, so that it matters which mean is taken off."""
    x, u, v = (numbers(rows * n, key, seed=seed).reshape(rows, n) for key in "xuv")
    u = u + x + 1.25
    return x.astype(dtype), u.astype(dtype), (u + v / 4).astype(dtype)


@remembered
def moderate(n: int, dtype: DType) -> tuple[Array, Array, Array]:
    """y, u, v: rows of moderate spread, in which each element counts."""
    x, u, v = alike(n, dtype)
    return read_only(oracle.softmax(x).astype(dtype)), read_only(u), read_only(v)


def along(function: Callable[..., Array], axis: int, *rows: Array) -> Array:
    """Apply a function to rows, given as the columns of an array if `axis` is 0."""
    if axis == 0:
        return function(*(np.ascontiguousarray(a.T) for a in rows), axis=0).T
    return function(*rows, axis=-1)


# --- the rows of the checks ----------------------------------------------------------------------------


def hard(dtype: DType, n: int, seed: int) -> Rows:
    x, u = logits(n, dtype, seed), gradients(n, dtype, seed)
    return [f"logits {a}, gradient {b}" for a, b in pairs(n)], x, u, np.roll(u, 7, axis=0)


def plain(rows: int) -> Draw:
    return lambda dtype, n, seed: (["plain"] * rows, *alike(n, dtype, seed, rows))


# n: how many rows; powers of two and odd numbers, and one array that any kernel does in several parts
MANY = {3: 4099, 10: 64, 33: 1025, 257: 2500}
DIFFERENT = 251  # of these; a prime, so that none comes again at the same place of a block


def count_of(n: int) -> int:
    return MANY.get(n, 1025)


def many(dtype: DType, n: int, seed: int) -> Rows:
    """The different ones of many rows."""
    return plain(min(count_of(n), DIFFERENT))(dtype, n, seed)


def flat(dtype: DType, n: int, seed: int) -> Rows:
    x, u, v = alike(n, dtype, seed, 3)
    return ["all logits equal"] * 3, x * 0 + dtype.type(2), u, v


def one_gradient(dtype: DType, n: int, seed: int) -> Rows:
    """The same gradient for every row, as a sum over the rows has it."""
    x, u, v = alike(n, dtype, seed, 12)
    u, v = (np.repeat(a[:1], len(x), axis=0) for a in (u, v))
    return ["one gradient for all rows, broadcast"] * len(x), x, u, v


def any_size(dtype: DType, n: int, seed: int) -> Rows:
    """Gradients of all sizes: of a loss that is a mean over millions, of one that is scaled up."""
    powers = [share * info(dtype).maxexp // 8 for share in (-5, -3, -1, 1, 3, 5)]
    x, u, v = alike(n, dtype, seed, len(powers))
    factors = np.array([2.0**power for power in powers])[:, None].astype(dtype)
    return [f"a gradient times 2^{power}" for power in powers], x, u * factors, v


def constant(dtype: DType, n: int, seed: int) -> Rows:
    values = [1.0, -100.0, 0.1, 12345.678]
    rows = [i for i, (_, gradient) in enumerate(pairs(n)) if gradient in ("plain", "lognormal")]
    x = np.repeat(logits(n, dtype, seed)[rows], len(values), axis=0)
    u = (np.tile(np.array(values), len(rows))[:, None] * np.ones(n)).astype(dtype)
    return [f"logits {pairs(n)[i][0]}, gradient {c} throughout" for i in rows for c in values], x, u, u


def saturated(dtype: DType, n: int, seed: int) -> Rows:
    """One logit ahead of the others by ever more: y is 1 at last, and what is left is the others'."""
    ahead = (5.0, 12.0, 20.0, 30.0, 40.0, 80.0)
    x, u, v = alike(n, np.dtype(np.float64), seed, len(ahead))
    x[:, n // 2] = x.max(axis=-1) + ahead
    x, u, v = (a.astype(dtype) for a in (x, u, v))
    return [f"one logit ahead by {a:g}" for a in ahead], x, u, v


def masked(dtype: DType, n: int, seed: int) -> Rows:
    """Logits of −inf, and gradients there that are larger than the others."""
    x, u, v = alike(n, dtype, seed, 12)
    gone = numbers(x.size, "gone", seed=seed).reshape(x.shape) < 0
    gone[np.arange(len(x)), x.argmax(axis=-1)] = False
    x, u = np.where(gone, dtype.type(-np.inf), x), np.where(gone, 100 * u, u)
    return ["logits of −inf"] * len(x), x, u.astype(dtype), v


def huge(dtype: DType, n: int, seed: int) -> Rows:
    largest = float(info(dtype).max) * 0.9
    z = numbers(4 * n, "huge", seed=seed).reshape(4, n)
    sides = 1 - 2 * (np.arange(n) % 2)
    x = largest * np.stack([sides, -np.ones(n), np.ones(n), np.sign(z[3])])
    return ["logits near the largest number"] * 4, x.astype(dtype), z.astype(dtype), z.astype(dtype)


def empty(dtype: DType, n: int, seed: int) -> Rows:
    """In the second row all logits are −inf."""
    x, u, v = alike(n, dtype, seed, 3)
    x[1] = -np.inf
    return ["plain", "a row with nothing in it", "plain"], x, u, v
