"""log_softmax: what its functions must give, and how far off they may be.

The oracle is longdouble in two parts: t = x − max with what its rounding took, and the logarithm of Σ exp(t)
by log1p, the largest left out.

*Tight* is what softgrad promises, element by element; *sound* the worst case of the closed forms, u and v as
in softmax.py:

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
from .measures import (
    eps,
    forward_bound,
    info,
    kernel_dtype,
    norm,
    product_bound,
    rounded_once,
    smallest,
)
from .operations import Arrays, Level, Operation
from .oracle import WIDE, two_product, two_sum
from .relatives import LOG_JVPS, LOG_SOFTMAXES, LOG_VJPS
from .softmax import slope as softmax_slope
from .softmax import summing, underflow, unless_overflow

VJP_BOUND = 4  # in eps·(|dx*| + |dy| + p·Σ|dy|) of each element

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


def vjp_terms(y: Array, dy: Array, exact: Array, axis: Axis = -1, where: Any = None) -> Array:
    """|dx*| + |dy| + p·Σ|dy|, which the error of each element is measured beside."""
    there = (y != -np.inf) & (True if where is None else where)
    d = np.where(there, np.abs(dy.astype(WIDE)), 0)
    p = np.where(there, powers(y), 0)
    return np.asarray(np.abs(exact) + d + p * d.sum(axes_of(y, axis), keepdims=True))


def vjp_bound(
    y: Array, dy: Array, exact: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None
) -> Array:
    """The error that softgrad promises of each element of the vjp; `exact` has the scale in it."""
    terms = vjp_terms(y, dy, exact / (scale or 1.0), axis, where) * abs(WIDE(scale))
    allowed = rounded_once(exact, terms, VJP_BOUND, y.dtype)
    return np.asarray(allowed + underflows(y) * max(1.0, abs(scale)))


def underflows(y: Array) -> Any:
    """Half the smallest subnormal in the result, and in what is rounded to it."""
    return (smallest(y.dtype) + smallest(kernel_dtype(y.dtype))) / 2


def mean_size(y: Array, exact: Array, axis: Axis, where: Any = None) -> Array:
    """D = ⟨p,|dx − m*|⟩/⟨p,1⟩, how far dx is from its mean on the average."""
    p = np.where((y != -np.inf) & (True if where is None else where), powers(y), 0)
    total = p.sum(axes_of(y, axis), keepdims=True)
    size = (p * np.abs(exact)).sum(axes_of(y, axis), keepdims=True)
    return np.asarray(size / np.where(total == 0, 1, total))


def jvp_terms(y: Array, exact: Array, axis: Axis = -1, where: Any = None) -> Array:
    """|dy*| + D, which the error of each element is measured beside."""
    return np.asarray(np.abs(exact) + mean_size(y, exact, axis, where))


def jvp_bound(y: Array, exact: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    """The error that softgrad promises of each element of the jvp; `exact` has the scale in it."""
    allowed = rounded_once(exact, jvp_terms(y, exact, axis, where), product_bound(y.dtype), y.dtype)
    return np.asarray(allowed + underflows(y) * max(1.0, abs(scale)) + lost_mean(y, exact, axis))


def lost_mean(y: Array, exact: Array, axis: Axis) -> Any:
    """What the mean is off by because each p is, and each product with it, by half the smallest subnormal."""
    size = (1 + np.abs(exact)).sum(axes_of(y, axis), keepdims=True)
    return smallest(kernel_dtype(y.dtype)) * size


def vjp_allowed(level: Level, given: Arrays, exact: Arrays) -> Arrays:
    (y, dy), (dx,) = given, exact
    n, p, d = y.shape[-1], powers(y), np.abs(dy.astype(WIDE))
    tight = vjp_bound(y, dy, dx)
    if level == "tight":
        return (unless_overflow(tight, np.abs(dx), y.dtype),)
    terms = d.sum(axis=-1)
    allowed = eps(y.dtype) * (norm(d) + terms * norm(p)) + terms * norm(p * off(y, p))
    allowed = np.maximum(allowed + lost(y.dtype, n, terms), norm(tight))
    return (unless_overflow(allowed, terms, y.dtype),)


def jvp_allowed(level: Level, given: Arrays, exact: Arrays) -> Arrays:
    (y, dx), (dy,) = given, exact
    n, p, d = y.shape[-1], powers(y), np.abs(dx.astype(WIDE))
    tight = jvp_bound(y, dy)
    if level == "tight":
        moving = (dx != dx[..., :1]).any(axis=-1, keepdims=True)
        return (np.where(moving, tight, 0),)
    terms = (p * d).sum(axis=-1)
    mean = np.sqrt(WIDE(n)) * (p * d * off(y, p)).sum(axis=-1)
    allowed = eps(y.dtype) * (norm(d) + np.sqrt(WIDE(n)) * terms) + mean
    allowed = np.maximum(allowed + lost(y.dtype, n, terms), norm(tight))
    return (unless_overflow(allowed, d.max(axis=-1), y.dtype),)


def double_backward_terms(y: Array, dy: Array, grad_dy: Array) -> Array:
    """p·Σ|dy|·(|v − m*| + D(v)), which the error of grad_x is measured beside."""
    d = np.where(y == -np.inf, 0, np.abs(dy.astype(WIDE)))
    return np.asarray(powers(y) * d.sum(axis=-1, keepdims=True) * jvp_terms(y, grad_dy))


def double_backward_allowed(level: Level, given: Arrays, exact: Arrays) -> Arrays:
    (y, dy, v), (grad_x, grad_dy) = given, exact
    (by_jvp,) = jvp_allowed(level, (y, v), (grad_dy,))
    n, p, d, u = y.shape[-1], powers(y), np.abs(dy.astype(WIDE)), np.abs(v.astype(WIDE))
    sum_of_dy = d.sum(axis=-1)
    terms = double_backward_terms(y, dy, grad_dy)
    tight = rounded_once(grad_x, terms, product_bound(y.dtype), y.dtype)
    tight = (
        tight + underflows(y) * (1 + np.abs(grad_dy)) + lost_mean(y, grad_dy, -1) * p * sum_of_dy[..., None]
    )
    if level == "tight":
        size = sum_of_dy[..., None] * u.max(axis=-1, keepdims=True)
        return unless_overflow(tight, size, y.dtype), by_jvp
    centred = u + (p * u).sum(axis=-1, keepdims=True)
    factors = off(y, p) + 2 * eps(y.dtype) + summing(y.dtype, n)
    mean = norm(p) * (p * u * off(y, p)).sum(axis=-1)
    allowed = sum_of_dy * (norm(p * centred * factors) + mean) + lost(y.dtype, n, sum_of_dy)
    allowed = np.maximum(allowed, norm(tight))
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
        terms=lambda given, exact: (vjp_terms(given[0], given[1], exact[0]),),
        beside="|dx| + |dy| + p·Σ|dy|",
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
        terms=lambda given, exact: (jvp_terms(given[0], exact[0]),),
        beside="|dy| + D",
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
        terms=lambda given, exact: (
            double_backward_terms(given[0], given[1], exact[1]),
            jvp_terms(given[0], exact[1]),
        ),
        beside="p·Σ|dy|·(|v°| + D)",
        absent=-np.inf,
        tight_only=TIGHT_ONLY,
    ),
]
