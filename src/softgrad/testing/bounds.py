"""How far off a function may be, at two levels.

*Tight* is what softgrad promises of each element (docs/decisions.md has the reasons and the proof).
*Sound* is the worst case of the plain closed form, of the norm of each row: each step rounded to the working
precision (u = eps/2), but for the sum, which may be in any order, in the working precision or, for 16-bit
types, in float32: it is off by n·v of its terms, v = 2⁻²⁴ there and u elsewhere.  What is tight is sound: the
larger of both bounds is granted.  Underflow is allowed for; where a product overflows nothing is asked.

**Softmax, forward**, e_i = exp(x_i − max): the difference is rounded by u·g_i, g = max − x, which the
exponential makes an error relative to e_i; as 2^((x_i − max)·log₂e) it is rounded three times, and as
exp(log_softmax) twice.  The exponential is granted 3 ulp, at most 6u; the sum has the mean of these errors,
n·v and u; then there are the division, and for 16-bit types the rounding of e:

    |y_i − y*_i| ≤ (3u·(g_i + ⟨y,g⟩) + 20u + n·v)·y*_i

**Products**, s∘(dy − Σ s∘dy / Σs), s = y, √y or 1 on the support: the terms are
M_i(s) = s_i·(|dy_i| + Σ s|dy| / Σs), of which each step loses u and the sum n·v: 6u + n·v in all, and for
entmax 4u more for the root.  The plain softmax does not divide by Σy, which is 1 but for the rounding of y.
And a function that starts from logits, as autograd does, is given log y, which is rounded: its y_i are others
by E_i = u·(l_i + ⟨y,l⟩) of themselves, l = |log y|.  M is a polynomial without negative terms, so for softmax

    ‖dx − dx*‖ ≤ (6u + n·v)·‖M(y)‖ + ‖M(y∘(1 + E)) − M(y)‖ + |1/Σy − 1|·Σ y|dy|·‖y‖

A function that is given logits (the maps "… of logits") finds y by a forward of its own, as exact as one may
be: there E is 2E + 20u + n·v.  A forward of sparsemax or entmax moves the weights by 32u + k·v, and rows with
a smaller one are not judged.

Tight, with m* = ⟨s,dy⟩/⟨s,1⟩, D = ⟨s,|dy−m*|⟩/⟨s,1⟩ and η the smallest subnormal:

    |dx_i − dx*_i| ≤ C·eps·(|dx*_i| + s_i·D) + (1 + n·s_i/Σs)·η/2

**Double backward**: the same twice, with the terms s_i·(P_i + Σ s∘P / Σs), where for softmax
P = |v|∘(|dy| + Σ y|dy|) + |dy|·Σ y|v|, and for entmax, with s′ = 1/(2√y),
P = s′∘(|v| + Σ s|v| / Σs)∘(|dy| + Σ s|dy| / Σs).  Sparsemax is made of straight pieces: grad_x = 0.  Tight,
with T = s′∘(|v°| + D(v))∘(|dy°| + D(dy)), where ° takes the mean off, and s′ = 1 for softmax:

    C·eps·s_i·(T_i + ⟨s,T⟩/Σs)         (softmax: with |v°∘dy°| for T in the mean)

**Sparsemax and entmax, forward**, by sorting, c = 1 or 2: the sums of z = max − x and z² have k terms of at
most c and c², so h is off by a = (k·v + 8u)·c, for entmax besides by what the root makes of an error e = 2a
of the square of r = c·Σ√y/k: e/(r + √e).  An element is off by (a + e/(r + √e) + 4u·c)/c, times 2√y for
entmax, and where it is itself less than that, by the square.

**log_softmax**, t − log Σ exp(t): t is off by u·g, the sum by ⟨p, u·g⟩ + 6u + n·v + u of itself, which is
the error of its logarithm, besides 6u of itself; and the difference is rounded.  In the products p = exp(y)
is off by 6u, by E if it starts from logits again, and divided by Σp: F = E + 8u + n·v + |1/Σp − 1|.  With
A = Σ|dy| and C = Σ p|dx|:

    vjp:  2u·(‖dy‖ + A·‖p‖) + A·‖p∘F‖            jvp:  2u·(‖dx‖ + √n·C) + √n·Σ p|dx|∘F
    grad_x = −p∘(v − ⟨p,v⟩)·Σdy:  A·(‖p∘(|v| + Σ p|v|)∘(F + 4u + n·v)‖ + ‖p‖·Σ p|v|∘F)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import Array, Axis
from .errors import (
    DType,
    eps,
    forward_bound,
    info,
    kernel_dtype,
    lost,
    norm,
    product_allowed,
    product_bound,
    product_terms,
    quotient,
    rounded_once,
    smallest,
    spacing,
    spacing_above_1,
)
from .oracle import WIDE, axes_of, centered, pair, powers, softmax, sums, valid_part, weights

Arrays = tuple[Array, ...]
LOG_VJP_BOUND = 4  # in eps·(|dx*| + |dy| + p·Σ|dy|) of each element


def summing(dtype: DType, n: int) -> Any:
    """n·v, the error of a sum of n terms."""
    return WIDE(n) * (2.0**-24 if dtype.itemsize == 2 else eps(dtype) / 2)


def underflow(dtype: DType) -> Any:
    """What a product may lose: float16 has subnormal numbers everywhere, for the others they may be off."""
    return smallest(dtype) if dtype == np.float16 else WIDE(float(info(dtype).smallest_normal))


def unless_overflow(allowed: Array, terms: Array, dtype: DType) -> Array:
    return np.where(terms > float(info(dtype).max) / 4, np.inf, allowed)


def row_sum(a: Array) -> Array:
    return np.asarray(a.sum(axis=-1, keepdims=True))


def size(a: Array) -> Array:
    return np.abs(a.astype(WIDE))


# --- softmax -----------------------------------------------------------------------------------------


def softmax_tight(x: Array, y: Array) -> Arrays:
    tiny = WIDE(float(info(x.dtype).smallest_normal))
    return (np.where(y < tiny, tiny, forward_bound(x.dtype) * spacing(y, x.dtype)),)


def softmax_sound(x: Array, y: Array) -> Arrays:
    wide = x.astype(WIDE)
    gap = np.where(y > 0, wide.max(axis=-1, keepdims=True) - np.where(y > 0, wide, 0), 0)
    rounding = eps(x.dtype) / 2 * (3 * (gap + row_sum(y * gap)) + 20)
    return ((rounding + summing(x.dtype, x.shape[-1])) * y,)


def beside_one(w: Array) -> Array:
    """|1/Σy − 1|."""
    total = row_sum(w)
    return np.asarray(np.abs(1 / np.where(total == 0, 1, total) - 1)[..., 0])


def moved(w: Array, logs: Array, dtype: DType, logits: bool) -> Any:
    """E of each element; of a function of logits, which has a forward of its own, the error of that, too."""
    error = eps(dtype) / 2 * (logs + row_sum(w * logs))
    return 2 * error + 10 * eps(dtype) + summing(dtype, w.shape[-1]) if logits else error


def of_logits(w: Array, dtype: DType, logits: bool) -> Array:
    """y∘(1 + E)."""
    return np.asarray(w * (1 + moved(w, np.abs(np.log(np.where(w > 0, w, 1))), dtype, logits)))


def support_moved(s: Array, dtype: DType) -> tuple[Any, Array]:
    """By how much a sparse forward moves the weights; and which rows it may move into another support."""
    error = 16 * eps(dtype) + summing(dtype, 1) * row_sum(s > 0)
    return np.where(s > 0, error, 0), ((s > 0) & (s < 2 * error)).any(axis=-1)


# --- softmax (α = 1), entmax (α = 1.5) and sparsemax (α = 2): derivatives ------------------------------


def mean_of(s: Array, a: Array, alpha: float) -> Array:
    return row_sum(s * a) if alpha == 1 else quotient(row_sum(s * a), row_sum(s))


def product_tight(y: Array, v: Array, dx: Array, alpha: float = 1) -> Arrays:
    return (product_allowed(weights(y, alpha)[0], dx, dtype=y.dtype),)


def terms_of_product(y: Array, v: Array, dx: Array, alpha: float = 1) -> Arrays:
    return (product_terms(weights(y, alpha)[0], dx),)


def product_sound(y: Array, v: Array, dx: Array, alpha: float = 1, logits: bool = False) -> Arrays:
    n, dtype, s, d = y.shape[-1], y.dtype, weights(y, alpha)[0], size(v)

    def majorant(s: Array) -> Array:
        return np.asarray(s * (d + mean_of(s, d, alpha)))

    allowed = ((3 if alpha == 1 else 5) * eps(dtype) + summing(dtype, n)) * norm(majorant(s))
    allowed += underflow(dtype) * (n * norm(s) + np.sqrt(WIDE(n)))
    terms = (s * d).sum(axis=-1)
    if alpha == 1:
        allowed += norm(majorant(of_logits(s, dtype, logits)) - majorant(s)) + beside_one(s) * terms * norm(s)
    elif logits:
        by, other = support_moved(np.sqrt(y.astype(WIDE)) if alpha == 1.5 else y.astype(WIDE), dtype)
        allowed += norm(majorant(s + by) - majorant(s))
        allowed = np.where(other, np.inf, allowed)
    return (unless_overflow(allowed, terms, dtype),)


def second_derivative(s: Array, alpha: float) -> Array:
    """s′, of the weights s."""
    return np.ones_like(s) if alpha == 1 else quotient(WIDE(2 - alpha) * np.ones_like(s), s)


def curvature_terms(y: Array, dy: Array, v: Array, alpha: float = 1) -> tuple[Array, Array]:
    """The terms of grad_x, and the largest factor that multiplies what underflows."""
    s = weights(y, alpha)[0]
    d, u = (np.abs(centered(weights(y, alpha), pair(a))[0]) for a in (dy, v))
    left, right = (a + quotient(row_sum(s * a), row_sum(s)) for a in (u, d))
    slope = second_derivative(s, alpha)
    t = slope * left * right
    mean = quotient(row_sum(s * (u * d if alpha == 1 else t)), row_sum(s))
    largest = np.maximum(u, d) if alpha == 1 else slope * (left + right)
    return s * (t + mean), largest.max(axis=-1, keepdims=True)


def curvature_tight(y: Array, dy: Array, v: Array, grad_x: Array, alpha: float = 1) -> Array:
    """The error that softgrad promises of each element of grad_x; the scale is 1."""
    terms, largest = curvature_terms(y, dy, v, alpha)
    allowed = rounded_once(grad_x, terms, product_bound(y.dtype), y.dtype)
    return np.asarray(allowed + 2 * lost(weights(y, alpha)[0], -1, y.dtype) * (1 + largest))


def second_order(y: Array, dy: Array, v: Array, s: Array, alpha: float) -> Array:
    """P at the weights s."""
    u, d = size(v), size(dy)
    of_u, of_d = mean_of(s, u, alpha), mean_of(s, d, alpha)
    if alpha == 1:
        return np.asarray(u * (d + of_d) + d * of_u)
    return np.asarray(second_derivative(weights(y, alpha)[0], alpha) * (u + of_u) * (d + of_d))


def double_backward_tight(
    y: Array, dy: Array, v: Array, grad_x: Array, grad_dy: Array, alpha: float = 1
) -> Arrays:
    of_grad_dy = product_tight(y, v, grad_dy, alpha)
    if alpha == 2:
        return np.zeros(y.shape, WIDE), *of_grad_dy
    p = second_order(y, dy, v, weights(y, alpha)[0], alpha).max(axis=-1, keepdims=True)
    return unless_overflow(curvature_tight(y, dy, v, grad_x, alpha), p, y.dtype), *of_grad_dy


def double_backward_sound(
    y: Array,
    dy: Array,
    v: Array,
    grad_x: Array,
    grad_dy: Array,
    alpha: float = 1,
    logits: bool = False,
) -> Arrays:
    of_grad_dy = product_sound(y, v, grad_dy, alpha, logits)
    if alpha == 2:
        return np.zeros(y.shape[:-1], WIDE), *of_grad_dy
    n, dtype, s = y.shape[-1], y.dtype, weights(y, alpha)[0]

    def majorant(s: Array) -> Array:
        p = second_order(y, dy, v, s, alpha)
        return np.asarray(s * (p + mean_of(s, p, alpha)))

    allowed = ((6 if alpha == 1 else 12) * eps(dtype) + 2 * summing(dtype, n)) * norm(majorant(s))
    if alpha == 1:
        allowed += 3 * beside_one(s) * norm(majorant(s))
        allowed += norm(majorant(of_logits(s, dtype, logits)) - majorant(s))
    elif logits:
        by, other = support_moved(s, dtype)
        allowed += norm(majorant(s + by) - majorant(s))
        allowed = np.where(other, np.inf, allowed)
    largest = 1 + size(dy).max(axis=-1) + size(v).max(axis=-1)
    allowed += underflow(dtype) * (n * norm(s) + np.sqrt(WIDE(n))) * largest
    p = second_order(y, dy, v, s, alpha)
    return unless_overflow(allowed, np.maximum(p.max(axis=-1), (s * p).sum(axis=-1)), dtype), *of_grad_dy


def terms_of_both(y: Array, dy: Array, v: Array, grad_x: Array, grad_dy: Array, alpha: float = 1) -> Arrays:
    of_grad_x = np.zeros(y.shape, WIDE) if alpha == 2 else curvature_terms(y, dy, v, alpha)[0]
    return of_grad_x, *terms_of_product(y, v, grad_dy, alpha)


# --- sparsemax and entmax: forward -------------------------------------------------------------------


def entmax_tight(x: Array, y: Array) -> Arrays:
    return (4 * eps(x.dtype) * norm(y),)


def entmax_sound(x: Array, y: Array, alpha: float) -> Arrays:
    u, k = eps(x.dtype) / 2, np.maximum(row_sum(y > 0), 1).astype(WIDE)
    a = summing(x.dtype, 1) * k + 8 * u
    if alpha == 2:
        each = np.where(y > 0, a + 4 * u, 0)
    else:
        e = 2 * a
        gap = a + e / (row_sum(np.sqrt(y)) / k + np.sqrt(e)) + 4 * u
        each = np.where(y > 0, 2 * np.sqrt(y) * gap + gap * gap, 0)
    # what is next to the support may come into it
    allowed = norm(each) + each.max(axis=-1) * np.sqrt(k[..., 0])
    return (allowed + np.sqrt(WIDE(x.shape[-1])) * underflow(x.dtype),)


# --- log_softmax -------------------------------------------------------------------------------------


def log_softmax_tight(x: Array, y: Array) -> Arrays:
    return (forward_bound(x.dtype) * spacing_above_1(y, x.dtype),)


def log_softmax_sound(x: Array, y: Array) -> Arrays:
    t, _, _, log_sum, p, valid = sums(x)
    gap = np.where(valid, -t, 0)
    rounding = gap + row_sum(p * gap) + np.abs(np.where(valid, y, 0)) + 6 * log_sum + 10
    return (eps(x.dtype) / 2 * rounding + summing(x.dtype, x.shape[-1]),)


def off(y: Array, p: Array, logits: bool) -> Array:
    """F, of each element."""
    logs = np.where(np.isfinite(y.astype(WIDE)), size(y), 0)
    e = moved(p, logs, y.dtype, logits) + 4 * eps(y.dtype)
    return np.asarray(e + summing(y.dtype, y.shape[-1]) + beside_one(p)[..., None])


def log_lost(y: Array, terms: Any) -> Any:
    return underflow(y.dtype) * np.sqrt(WIDE(y.shape[-1])) * (1 + terms)


def underflows(y: Array) -> Any:
    """Half the smallest subnormal in the result, and in what is rounded to it."""
    return (smallest(y.dtype) + smallest(kernel_dtype(y.dtype))) / 2


def log_vjp_terms(y: Array, dy: Array, exact: Array, axis: Axis = -1, where: Any = None) -> Array:
    """|dx*| + |dy| + p·Σ|dy|, the unit of the error of each element."""
    d = np.abs(valid_part(y, dy, where))
    return np.asarray(np.abs(exact) + d + powers(y, where) * d.sum(axes_of(y, axis), keepdims=True))


def log_vjp_bound(
    y: Array, dy: Array, exact: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None
) -> Array:
    """The error that softgrad promises of each element of the vjp; `exact` has the scale in it."""
    terms = log_vjp_terms(y, dy, exact / (scale or 1.0), axis, where) * abs(WIDE(scale))
    allowed = rounded_once(exact, terms, LOG_VJP_BOUND, y.dtype)
    return np.asarray(allowed + underflows(y) * max(1.0, abs(scale)))


def log_jvp_terms(y: Array, exact: Array, axis: Axis = -1, where: Any = None) -> Array:
    """|dy*| + D, the unit of the error of each element; D = ⟨p,|dx − m*|⟩/⟨p,1⟩."""
    p, axis = valid_part(y, powers(y), where), axes_of(y, axis)
    away = (p * np.abs(exact)).sum(axis, keepdims=True)
    return np.asarray(np.abs(exact) + quotient(away, p.sum(axis, keepdims=True)))


def log_jvp_bound(y: Array, exact: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    """The error that softgrad promises of each element of the jvp; `exact` has the scale in it."""
    allowed = rounded_once(exact, log_jvp_terms(y, exact, axis, where), product_bound(y.dtype), y.dtype)
    return np.asarray(allowed + underflows(y) * max(1.0, abs(scale)) + lost_mean(y, exact, axis))


def lost_mean(y: Array, exact: Array, axis: Axis) -> Any:
    """What the mean is off by because each p is, and each product with it, by half the smallest subnormal."""
    return smallest(kernel_dtype(y.dtype)) * (1 + np.abs(exact)).sum(axes_of(y, axis), keepdims=True)


def log_vjp_tight(y: Array, dy: Array, dx: Array) -> Arrays:
    return (unless_overflow(log_vjp_bound(y, dy, dx), np.abs(dx), y.dtype),)


def log_vjp_sound(y: Array, dy: Array, dx: Array, logits: bool = False) -> Arrays:
    p, d = powers(y), size(dy)
    terms = d.sum(axis=-1)
    allowed = (
        eps(y.dtype) * (norm(d) + terms * norm(p)) + terms * norm(p * off(y, p, logits)) + log_lost(y, terms)
    )
    return (unless_overflow(allowed, terms, y.dtype),)


def log_jvp_tight(y: Array, dx: Array, dy: Array) -> Arrays:
    moving = (dx != dx[..., :1]).any(axis=-1, keepdims=True)
    return (np.where(moving, log_jvp_bound(y, dy), 0),)


def log_jvp_sound(y: Array, dx: Array, dy: Array, logits: bool = False) -> Arrays:
    p, d, root = powers(y), size(dx), np.sqrt(WIDE(y.shape[-1]))
    terms = (p * d).sum(axis=-1)
    allowed = eps(y.dtype) * (norm(d) + root * terms) + root * (p * d * off(y, p, logits)).sum(axis=-1)
    return (unless_overflow(allowed + log_lost(y, terms), d.max(axis=-1), y.dtype),)


def log_double_backward_terms(y: Array, dy: Array, v: Array, grad_x: Array, grad_dy: Array) -> Arrays:
    """p·Σ|dy|·(|v − m*| + D(v)), and the terms of the jvp."""
    of_jvp = log_jvp_terms(y, grad_dy)
    return powers(y) * row_sum(np.abs(valid_part(y, dy))) * of_jvp, of_jvp


def log_double_backward_tight(y: Array, dy: Array, v: Array, grad_x: Array, grad_dy: Array) -> Arrays:
    p, sum_of_dy = powers(y), row_sum(size(dy))
    terms = log_double_backward_terms(y, dy, v, grad_x, grad_dy)[0]
    tight = rounded_once(grad_x, terms, product_bound(y.dtype), y.dtype)
    tight += underflows(y) * (1 + np.abs(grad_dy)) + lost_mean(y, grad_dy, -1) * p * sum_of_dy
    products = sum_of_dy * size(v).max(axis=-1, keepdims=True)
    return unless_overflow(tight, products, y.dtype), *log_jvp_tight(y, v, grad_dy)


def log_double_backward_sound(
    y: Array, dy: Array, v: Array, grad_x: Array, grad_dy: Array, logits: bool = False
) -> Arrays:
    p, u, dtype = powers(y), size(v), y.dtype
    sum_of_dy, f = size(dy).sum(axis=-1), off(y, p, logits)
    factors = f + 2 * eps(dtype) + summing(dtype, y.shape[-1])
    allowed = norm(p * (u + row_sum(p * u)) * factors) + norm(p) * (p * u * f).sum(axis=-1)
    allowed = sum_of_dy * allowed + log_lost(y, sum_of_dy)
    return unless_overflow(allowed, sum_of_dy * u.max(axis=-1), dtype), *log_jvp_sound(y, v, grad_dy, logits)


# --- cross_entropy -----------------------------------------------------------------------------------


def cross_entropy_sound(x: Array, t: Array, dx: Array) -> Arrays:
    """p·Σt − t, or a mean of it: the error of p, and 8u of each part; Σt may count as 1."""
    wide = t.astype(WIDE)
    p, total = softmax(x), row_sum(np.abs(wide))
    allowed = norm(softmax_sound(x, p)[0] * total) + 4 * eps(x.dtype) * (norm(p * total) + norm(wide))
    allowed += np.abs(row_sum(wide) - 1)[..., 0] * norm(p)
    return (allowed + underflow(x.dtype) * x.shape[-1],)
