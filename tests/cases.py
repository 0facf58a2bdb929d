"""Rows on which a softmax and its gradient go wrong where they can: logits × gradients × lengths × dtypes."""

import functools
import zlib

import ml_dtypes
import numpy as np
import oracle

DTYPES = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]

# Around the lengths at which a kernel changes its way: vectors of 16 and 32, powers of two, caches.
SHORT = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 37, 64, 100, 127, 129, 255, 257, 512, 1000, 1023)
MEDIUM = (4096, 4097)
LONG = (32768, 131073, 300000)


def winner(x):
    x[len(x) // 2] = 18.0
    return x


def with_one(dy):
    dy[:] = 0.0
    dy[len(dy) // 3] = 1.0
    return dy


# name: what is made of n numbers from N(0, 1)
LOGITS = {
    "plain": lambda z: z,
    "times 10": lambda z: z * 10,
    "times 25": lambda z: z * 25,
    "winner": winner,
    "offset 1000": lambda z: z + 1000,
    "ties": np.round,
}
GRADIENTS = {
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


def pairs(n):
    return ALL_PAIRS if n in SHORT else SIX_PAIRS if n in MEDIUM else THREE_PAIRS


def numbers(n, *key):
    """n numbers from N(0, 1), the same for the same key in every run."""
    return np.random.default_rng(zlib.crc32(repr((n, *key)).encode())).standard_normal(n)


def read_only(array):
    array.flags.writeable = False
    return array


@functools.cache
def logits(n, dtype):
    """x, one row for each of `pairs(n)`."""
    return read_only(np.stack([LOGITS[a](numbers(n, a, b)) for a, b in pairs(n)]).astype(dtype))


@functools.cache
def gradients(n, dtype):
    """dy, one row for each of `pairs(n)`."""
    return read_only(np.stack([GRADIENTS[b](numbers(n, b, a)) for a, b in pairs(n)]).astype(dtype))


@functools.cache
def exact_softmax(n, dtype):
    return read_only(oracle.softmax(logits(n, dtype)))


@functools.cache
def weights(n, dtype):
    """y: the softmax of `logits(n, dtype)`, rounded."""
    return read_only(exact_softmax(n, dtype).astype(dtype))


@functools.cache
def exact_vjp(n, dtype):
    return read_only(oracle.vjp(weights(n, dtype), gradients(n, dtype)))
