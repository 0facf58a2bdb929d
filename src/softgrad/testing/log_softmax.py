"""log_softmax: what its functions must give, and how far off they may be.

The oracle is longdouble in two parts: t = x − max with what its rounding took, and the logarithm of Σ exp(t)
by log1p, the largest left out.

*Tight* is what softgrad promises; *sound* the worst case of the closed forms, u and v as in softmax.py:

Forward, t − log Σ exp(t): t is off by u·g, g = −t, the sum by ⟨p, u·g⟩ + 6u + n·v + u of itself, which is
what its logarithm is off by, besides 6u of itself; and the difference is rounded.

vjp, dy − p·Σdy, p = exp(y): p is off by 6u; where y is found from logits again, as autograd does, which for
want of better are y, it is off by E = u·(l + ⟨p,l⟩), l = |y|, and divided by Σp, which is not quite 1.  With
A = Σ|dy|:

    ‖dx − dx*‖ ≤ 2u·(‖dy‖ + A·‖p‖) + A·‖p∘(E + 8u + n·v + |1/Σp − 1|)‖

jvp, dx − Σ p∘dx: F = E + 8u + n·v + |1/Σp − 1| is what p and the sum are off by, C = Σ p|dx|:

    ‖dy − dy*‖ ≤ 2u·(‖dx‖ + √n·C) + √n·Σ p|dx|∘F

Double backward, grad_x = −p∘(v − ⟨p,v⟩)·Σdy, with D = |v| + Σ p|v|: each factor is off by what was said,

    ‖grad_x − grad_x*‖ ≤ A·(‖p∘D∘(F + 4u + n·v)‖ + ‖p‖·Σ p|v|∘F)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import Array, Axis
from .measures import bound, eps, forward_bound, info, norm, smallest
from .operations import Arrays, Level, Operation
from .oracle import WIDE, two_product, two_sum
from .relatives import LOG_JVPS, LOG_SOFTMAXES, LOG_VJPS
from .softmax import slope as softmax_slope
from .softmax import summing, underflow, unless_overflow

# --- the oracle --------------------------------------------------------------------------------------


def axes_of(x: Array, axis: Axis) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


def arguments(x: npt.ArrayLike, axis: Axis, scale: float, where: Any) -> tuple[Array, Array, Array, Array]:
    """t = scale·x − max in two parts, max, and what takes part."""
    wide = np.asarray(x).astype(WIDE)
    there = np.broadcast_to(True if where is None else where, wide.shape)
    v = np.where(there, WIDE(-1 if scale < 0 else 1) * wide, -np.inf)
    there = there & (v != -np.inf)
    top = v.max(axis, keepdims=True)
    top = np.where(top == -np.inf, 0, top)
    difference, lost = two_sum(np.where(there, v, top), -top)
    t, rest = two_product(difference, WIDE(abs(scale)))
    return t, rest + lost * WIDE(abs(scale)), top * WIDE(abs(scale)), there


def sums(x: npt.ArrayLike, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> tuple[Array, ...]:
    """t in two parts, max, log S, p and what takes part; an empty row has log S = −inf and p = 0."""
    axis = axes_of(np.asarray(x), axis)
    t, rest, top, there = arguments(x, axis, scale, where)
    e = np.where(there, np.exp(t) * (1 + rest), 0)
    first = there & (e == 1)
    ones = first.sum(axis, keepdims=True).astype(WIDE)
    others = np.where(first, 0, e).sum(axis, keepdims=True)
    some = np.where(ones == 0, 1, ones)
    log_sum = np.where(ones == 0, -np.inf, np.log(some) + np.log1p(others / some))
    return t, rest, top, log_sum, e / np.where(ones == 0, 1, ones + others), there


def log_softmax(x: npt.ArrayLike, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    t, rest, _, log_sum, _, there = sums(x, axis, scale, where)
    return np.where(there, t + (rest - np.where(log_sum == -np.inf, 0, log_sum)), -np.inf)


def powers(y: Array) -> Array:
    return np.asarray(np.exp(y.astype(WIDE)))


def vjp(y: Array, dy: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    """scale·(dy − exp(y)·Σdy); what is masked or −inf has no part."""
    there = (y != -np.inf) & (True if where is None else where)
    d = np.where(there, dy.astype(WIDE), 0)
    p = np.where(there, powers(y), 0)
    return np.asarray((d - p * d.sum(axes_of(y, axis), keepdims=True)) * WIDE(scale))


def jvp(y: Array, dx: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    """scale·(dx − ⟨p,dx⟩/⟨p,1⟩), the mean as a distance from the heaviest's dx."""
    axis = axes_of(y, axis)
    there = (y != -np.inf) & (True if where is None else where)
    p, d = np.where(there, powers(y), 0), np.where(there, dx.astype(WIDE), 0)
    heaviest = np.where(p == p.max(axis, keepdims=True), d, -np.inf).max(axis, keepdims=True)
    far = d - heaviest
    total = p.sum(axis, keepdims=True)
    mean = (p * far).sum(axis, keepdims=True) / np.where(total == 0, 1, total)
    return np.where(there, far - mean, 0) * WIDE(scale)


def double_backward(y: Array, dy: Array, v: Array, axis: Axis = -1, scale: float = 1.0) -> Arrays:
    """(grad_x, grad_dy) of ⟨v, vjp(y, dy)⟩."""
    d = np.where(y == -np.inf, 0, dy.astype(WIDE))
    grad_dy = jvp(y, v, axis, scale)
    return -powers(y) * grad_dy * (d.sum(axes_of(y, axis), keepdims=True) * WIDE(scale)), grad_dy


# --- how far off -------------------------------------------------------------------------------------


def ulps_above_1(y: Array, true: Array) -> Array:
    """|y − true| in ulp of max(|true|, 1); where both are the same infinity, 0."""
    same = y.astype(WIDE) == true
    error = np.abs(np.where(same, 0, y.astype(WIDE) - np.where(same, 0, true))) / spacing(true, y.dtype)
    return np.where(np.isnan(error), np.inf, error)


def spacing(true: Array, dtype: np.dtype[Any]) -> Array:
    """One ulp of max(|true|, 1)."""
    size = np.maximum(np.abs(np.where(np.isfinite(true), true, 1)), 1)
    return np.asarray(np.ldexp(WIDE(eps(dtype)), np.frexp(size)[1] - 1))


def forward_allowed(level: Level, given: Arrays, exact: Arrays) -> Arrays:
    (x,), (y,) = given, exact
    tight = forward_bound(x.dtype) * spacing(y, x.dtype)
    if level == "tight":
        return (tight,)
    u = eps(x.dtype) / 2
    t, _, _, log_sum, p, there = sums(x)
    gap = np.where(there, -t, 0)
    size = np.where(there, np.abs(np.where(there, y, 0)), 0)
    rounding = gap + (p * gap).sum(axis=-1, keepdims=True) + size + 6 * log_sum + 10
    # −inf where there is nothing; 3 ulp are one rounding more than tight
    return (np.maximum(u * rounding + summing(x.dtype, x.shape[-1]), tight),)


def known(dtype: np.dtype[Any]) -> float:
    """How well exp(y) and Σdy are known while softgrad computes the vjp."""
    return {2: 2.0**-23, 4: 2.0**-52, 8: 2.0**-50}[dtype.itemsize]


def off(y: Array, p: Array) -> Array:
    """F, of each element."""
    u = eps(y.dtype) / 2
    logs = np.where(np.isfinite(y.astype(WIDE)), np.abs(y.astype(WIDE)), 0)
    total = p.sum(axis=-1, keepdims=True)
    beside_one = np.abs(1 / np.where(total == 0, 1, total) - 1)
    e = u * (logs + (p * logs).sum(axis=-1, keepdims=True) + 8)
    return np.asarray(e + summing(y.dtype, y.shape[-1]) + beside_one)


def lost(dtype: np.dtype[Any], n: int, size: Any) -> Any:
    return underflow(dtype) * np.sqrt(WIDE(n)) * (1 + size)


def vjp_allowed(level: Level, given: Arrays, exact: Arrays) -> Arrays:
    (y, dy), (dx,) = given, exact
    n, p, d = y.shape[-1], powers(y), np.abs(dy.astype(WIDE))
    if level == "tight":
        total = np.abs(np.where(y == -np.inf, 0, dy.astype(WIDE)).sum(axis=-1))
        allowed = bound(y.dtype) * eps(y.dtype) * norm(dx) + known(y.dtype) * total * norm(p)
        return (unless_overflow(allowed + lost_tight(y), np.abs(dx).max(axis=-1), y.dtype),)
    terms = d.sum(axis=-1)
    allowed = eps(y.dtype) * (norm(d) + terms * norm(p)) + terms * norm(p * off(y, p))
    return (unless_overflow(allowed + lost(y.dtype, n, terms), terms, y.dtype),)


def lost_tight(y: Array) -> Any:
    return np.sqrt(WIDE(y.shape[-1])) * smallest(y.dtype)


def jvp_allowed(level: Level, given: Arrays, exact: Arrays) -> Arrays:
    (y, dx), (dy,) = given, exact
    n, p, d = y.shape[-1], powers(y), np.abs(dx.astype(WIDE))
    if level == "tight":
        spread = (p * np.abs(dy)).sum(axis=-1)
        allowed = bound(y.dtype) * eps(y.dtype) * norm(dy) + np.sqrt(WIDE(n)) * known(y.dtype) * spread
        moving = (dx != dx[..., :1]).any(axis=-1)
        return (np.where(moving, allowed + lost_tight(y), 0),)
    terms = (p * d).sum(axis=-1)
    mean = np.sqrt(WIDE(n)) * (p * d * off(y, p)).sum(axis=-1)
    allowed = eps(y.dtype) * (norm(d) + np.sqrt(WIDE(n)) * terms) + mean
    return (unless_overflow(allowed + lost(y.dtype, n, terms), d.max(axis=-1), y.dtype),)


def double_backward_allowed(level: Level, given: Arrays, exact: Arrays) -> Arrays:
    (y, dy, v), (grad_x, grad_dy) = given, exact
    (by_jvp,) = jvp_allowed(level, (y, v), (grad_dy,))
    n, p, d, u = y.shape[-1], powers(y), np.abs(dy.astype(WIDE)), np.abs(v.astype(WIDE))
    sum_of_dy = d.sum(axis=-1)
    if level == "tight":
        spread = np.sqrt(WIDE(n)) * known(y.dtype) * (p * np.abs(grad_dy)).sum(axis=-1)
        allowed = 4 * eps(y.dtype) * norm(grad_x) + sum_of_dy * norm(p) * spread + lost_tight(y)
    else:
        centred = u + (p * u).sum(axis=-1, keepdims=True)
        factors = off(y, p) + 2 * eps(y.dtype) + summing(y.dtype, n)
        mean = norm(p) * (p * u * off(y, p)).sum(axis=-1)
        allowed = sum_of_dy * (norm(p * centred * factors) + mean) + lost(y.dtype, n, sum_of_dy)
    return unless_overflow(allowed, sum_of_dy * u.max(axis=-1), y.dtype), by_jvp


# --- the table ---------------------------------------------------------------------------------------


def representable(y: Array, dtype: np.dtype[Any]) -> Array:
    """−inf where y is beyond the lowest number."""
    return np.where(-y > float(info(dtype).max), -np.inf, y)


def logs(x: Array) -> Array:
    return log_softmax(x).astype(x.dtype)


def slope(y: Array, v: Array) -> Array:
    """By the complex step of softmax: ∂log p = ∂p/p."""
    p = np.exp(y.astype(np.float64))
    return np.asarray(softmax_slope(p, v) / (p / p.sum(axis=-1, keepdims=True)))


# Where y is −inf softgrad says that there is nothing, and the closed form dx = dy.
TIGHT_ONLY = frozenset({"masked entries", "empty rows"})

OPERATIONS = [
    Operation(
        "log_softmax",
        "forward",
        lambda x, u, v: (x,),
        lambda x: (representable(log_softmax(x), x.dtype),),
        forward_allowed,
        LOG_SOFTMAXES,
        ulps=ulps_above_1,
        absent=-np.inf,
        leaves_out=frozenset({"sums to 1"}),
    ),
    Operation(
        "log_softmax",
        "vjp",
        lambda x, u, v: (logs(x), u),
        lambda y, dy: (vjp(y, dy),),
        vjp_allowed,
        LOG_VJPS,
        slope,
        absent=-np.inf,
        leaves_out=frozenset({"constant gradient"}),
        tight_only=TIGHT_ONLY,
    ),
    Operation(
        "log_softmax",
        "jvp",
        lambda x, u, v: (logs(x), u),
        lambda y, dx: (jvp(y, dx),),
        jvp_allowed,
        LOG_JVPS,
        slope,
        absent=-np.inf,
        leaves_out=frozenset({"sums to 0"}),
        tight_only=TIGHT_ONLY,
    ),
    Operation(
        "log_softmax",
        "double-backward",
        lambda x, u, v: (logs(x), u, v),
        double_backward,
        double_backward_allowed,
        absent=-np.inf,
        tight_only=TIGHT_ONLY,
    ),
]
