"""The oracles of log_softmax, logsumexp and entropy: longdouble in two parts, and mpmath for hard rows.

The weights of the powers are not what softgrad sums: the winners are left out, and come in by log1p.
"""

import mpmath
import numpy as np
import oracle
from oracle import WIDE, two_product, two_sum


def axes_of(x, axis):
    return tuple(range(x.ndim)) if axis is None else axis


def arguments(x, axis, scale, where):
    """t = scale·x − max in two parts, and what takes part."""
    x = np.asarray(x).astype(WIDE)
    there = np.broadcast_to(True if where is None else where, x.shape)
    v = np.where(there, WIDE(-1 if scale < 0 else 1) * x, -np.inf)
    there = there & (v != -np.inf)
    top = v.max(axis, keepdims=True)
    top = np.where(top == -np.inf, 0, top)
    difference, lost = two_sum(np.where(there, v, top), -top)
    t, rest = two_product(difference, WIDE(abs(scale)))
    return t, rest + lost * WIDE(abs(scale)), top * WIDE(abs(scale)), there


def sums(x, axis=-1, scale=1.0, where=None):
    """t in two parts, max, log S, p and what takes part; an empty row has log S = −inf and p = 0."""
    axis = axes_of(x, axis)
    t, rest, top, there = arguments(x, axis, scale, where)
    e = np.where(there, np.exp(t) * (1 + rest), 0)
    first = there & (e == 1)
    ones = first.sum(axis, keepdims=True).astype(WIDE)
    others = np.where(first, 0, e).sum(axis, keepdims=True)
    some = np.where(ones == 0, 1, ones)
    log_sum = np.where(ones == 0, -np.inf, np.log(some) + np.log1p(others / some))
    return t, rest, top, log_sum, e / np.where(ones == 0, 1, ones + others), there


def log_softmax(x, axis=-1, scale=1.0, where=None):
    t, rest, _, log_sum, _, there = sums(x, axis, scale, where)
    return np.where(there, t + (rest - np.where(log_sum == -np.inf, 0, log_sum)), -np.inf)


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


# --- the derivatives of log_softmax, for y as given ----------------------------------------------------


def powers(y):
    return np.exp(y.astype(WIDE))


def vjp(y, dy, axis=-1, scale=1.0, where=None):
    """scale·(dy − exp(y)·Σdy); what is masked or −inf has no part."""
    there = (y != -np.inf) & (True if where is None else where)
    d = np.where(there, dy.astype(WIDE), 0)
    p = np.where(there, powers(y), 0)
    return (d - p * d.sum(axes_of(y, axis), keepdims=True)) * WIDE(scale)


def jvp(y, dx, axis=-1, scale=1.0, where=None):
    """scale·(dx − ⟨p,dx⟩/⟨p,1⟩), the mean as a distance from the heaviest's dx."""
    axis = axes_of(y, axis)
    there = (y != -np.inf) & (True if where is None else where)
    p, d = np.where(there, powers(y), 0), np.where(there, dx.astype(WIDE), 0)
    heaviest = np.where(p == p.max(axis, keepdims=True), d, -np.inf).max(axis, keepdims=True)
    far = d - heaviest
    total = p.sum(axis, keepdims=True)
    mean = (p * far).sum(axis, keepdims=True) / np.where(total == 0, 1, total)
    return np.where(there, far - mean, 0) * WIDE(scale)


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


# --- how far off ---------------------------------------------------------------------------------------


def ulps_above_1(y, true):
    """|y − true| in ulp of max(|true|, 1); where both are the same infinity, 0."""
    same = y.astype(WIDE) == true
    size = np.maximum(np.abs(np.where(np.isfinite(true), true, 1)), 1)
    spacing = np.ldexp(WIDE(oracle.eps(y.dtype)), np.frexp(size)[1] - 1)
    error = np.abs(np.where(same, 0, y.astype(WIDE) - np.where(same, 0, true))) / spacing
    return np.where(np.isnan(error), np.inf, error)
