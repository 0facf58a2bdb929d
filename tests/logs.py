"""The oracles of logsumexp and entropy, in longdouble; and mpmath for hard rows, of log_softmax too.

The weights of the powers are not what softgrad sums: the winners are left out, and come in by log1p.
"""

import mpmath
import numpy as np

from softgrad.testing.oracle import WIDE, axes_of, sums


def logsumexp(x, axis=-1, scale=1.0, where=None):
    _, _, top, log_sum, _, _ = sums(x, axis, scale, where)
    return (top + log_sum).squeeze(axes_of(x, axis))


def logsumexp_vjp(x, dy, axis=-1, scale=1.0, where=None):
    p = sums(x, axis, scale, where)[4]
    return p * np.expand_dims(np.asarray(dy).astype(WIDE), axes_of(x, axis)) * WIDE(scale)


def entropy(x, axis=-1, scale=1.0, where=None):
    t, _, _, log_sum, p, _ = sums(x, axis, scale, where)
    axis = axes_of(x, axis)
    spread = np.where(p == 0, 0, p * t).sum(axis, keepdims=True)
    return (np.where(log_sum == -np.inf, 0, log_sum) - spread).squeeze(axis)


def entropy_vjp(x, dy, axis=-1, scale=1.0, where=None):
    t, rest, _, _, p, _ = sums(x, axis, scale, where)
    axis = axes_of(x, axis)
    t = np.where(p == 0, 0, t + rest)
    mean = (p * t).sum(axis, keepdims=True)
    return p * (mean - t) * np.expand_dims(np.asarray(dy).astype(WIDE), axis) * WIDE(scale)


# --- one row, in 120 digits ----------------------------------------------------------------------------


def exact(numbers):
    return [mpmath.mpf(float(v)) for v in numbers]


def rounded(numbers):
    """mpmath's numbers as longdoubles: in two doubles, which is more than a longdouble holds."""
    upper = [float(v) for v in numbers]
    return np.array([WIDE(u) + WIDE(float(v - u)) for u, v in zip(upper, numbers, strict=True)])


def row(function, *arrays):
    """`function` of 1-d arrays, in mpmath."""
    with mpmath.workdps(120):
        return rounded(function(*map(exact, arrays)))


def mp_log_softmax(x):
    top = max(x)
    total = mpmath.log(sum(mpmath.exp(v - top) for v in x))
    return [v - top - total for v in x]


def mp_vjp(y, dy):
    total = sum(dy)
    return [d - mpmath.exp(v) * total for v, d in zip(y, dy, strict=True)]


def mp_jvp(y, dx):
    p = [mpmath.exp(v) for v in y]
    mean = sum(a * d for a, d in zip(p, dx, strict=True)) / sum(p)
    return [d - mean for d in dx]


def mp_entropy(x):
    return [-sum(mpmath.exp(v) * v for v in mp_log_softmax(x))]


def mp_entropy_vjp(x):
    logs = mp_log_softmax(x)
    h = mp_entropy(x)[0]
    return [-mpmath.exp(v) * (v + h) for v in logs]
