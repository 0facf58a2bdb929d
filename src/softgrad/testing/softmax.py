"""Softmax: what its functions must give, and how far off they may be.

*Tight* is what softgrad promises.  *Sound* is the worst case of the plain closed form, each step rounded to
the working precision (unit roundoff u = eps/2) but for the sum, which may be in any order, in the working
precision or, for 16-bit types, in float32: it is off by n·v of its terms, v = 2⁻²⁴ there and u elsewhere.

Forward, e_i = exp(x_i − max): the difference is rounded by u·g_i, g = max − x, which the exponential makes
an error relative to e_i; as 2^((x_i − max)·log₂e) it is rounded three times, and as exp(log_softmax) twice.
The exponential is granted 3 ulp, at most 6u; the sum has the mean of these errors, ⟨y, 3u·g⟩ + 6u, and n·v
+ u; then there is the division, and for 16-bit types the rounding of e:

    |y_i − y*_i| ≤ (3u·(g_i + ⟨y,g⟩) + 16u + n·v)·y*_i         (20 is granted instead of 16)

vjp, y∘(dy − Σ y∘dy): the products are off by u each, the sum by n·v and u, the difference and the last
product by u each.  The way by the dense Jacobian is the same in other brackets, and rounds the matrix twice:
in all 6u + n·v of the terms, M_i(y) = y_i·(|dy_i| + Σ y|dy|).  The mean is not divided by Σy, which is 1 but
for the rounding of the given y.  And what starts from logits, as autograd does, has to be given log y,
which is rounded: its y_i are others by E_i = u·(l_i + ⟨y,l⟩) of themselves, l = |log y|, and since M is a
polynomial with no negative terms, the result is another by M(y∘(1 + E)) − M(y):

    ‖dx − dx*‖ ≤ (6u + n·v)·‖M(y)‖ + ‖M(y∘(1 + E)) − M(y)‖ + |1/Σy − 1|·Σ y|dy|·‖y‖

Double backward, vjp(y, t) with t = v∘(dy − ⟨y,dy⟩) − dy·⟨y,v⟩: the same twice, with the terms
N_i(y) = y_i·(T_i + ⟨y,T⟩), T = |v|∘(|dy| + Σ y|dy|) + |dy|·Σ y|v|:

    ‖grad_x − grad_x*‖ ≤ (12u + 2·n·v + 3·|1/Σy − 1|)·‖N(y)‖ + ‖N(y∘(1 + E)) − N(y)‖

What underflows in a product is lost besides.  Where a product overflows nothing is asked.  What is tight is
sound: the larger of both bounds is granted.

Tight, of vjp, jvp and grad_dy, element by element (docs/decisions.md has the reasons and the proof), with
m* = ⟨y,dy⟩/⟨y,1⟩, D = ⟨y,|dy−m*|⟩/⟨y,1⟩ and η the smallest subnormal:

    |dx_i − dx*_i| ≤ C·eps·(|dx*_i| + y_i·D) + (1 + n·y_i/Σy)·η/2

and of grad_x = y∘(p − ⟨y,p⟩/⟨y,1⟩), p = v°∘dy°, where ° takes the mean off, as m* is off dy, in dx*:

    C·eps·y_i·(|p_i| + ⟨y,|p|⟩/⟨y,1⟩ + |v°_i|·D(dy) + |dy°_i|·D(v) + D(dy)·D(v))

and what underflows, which is then multiplied by the other's size.  16-bit types are computed in float32 and
rounded once: 0.51 ulp and the bound of float32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..checks import Array
from . import oracle
from .measures import (
    eps,
    forward_bound,
    info,
    lost,
    norm,
    product_allowed,
    product_bound,
    product_terms,
    rounded_once,
    smallest,
    ulps,
)
from .mutants import DOUBLE_BACKWARDS, FORMULAS, SOFTMAXES
from .operations import Arrays, Level, Operation
from .oracle import WIDE


def summing(dtype: np.dtype[Any], n: int) -> Any:
    """n·v, what a sum of n terms may be off by."""
    return WIDE(n) * (2.0**-24 if dtype.itemsize == 2 else eps(dtype) / 2)


def underflow(dtype: np.dtype[Any]) -> Any:
    """What a product may lose: float16 has subnormal numbers everywhere, for the others they may be off."""
    return smallest(dtype) if dtype == np.float16 else WIDE(float(info(dtype).smallest_normal))


def unless_overflow(allowed: Array, terms: Array, dtype: np.dtype[Any]) -> Array:
    return np.where(terms > float(info(dtype).max) / 4, np.inf, allowed)


# --- forward -----------------------------------------------------------------------------------------


def forward(x: Array) -> Arrays:
    return (oracle.softmax(x),)


def forward_allowed(level: Level, arguments: Arrays, exact: Arrays) -> Arrays:
    (x,), (y,) = arguments, exact
    tiny = WIDE(float(info(x.dtype).smallest_normal))
    if level == "tight":
        _, exponents = np.frexp(y)
        allowed = forward_bound(x.dtype) * np.ldexp(WIDE(eps(x.dtype)), exponents - 1)
    else:
        wide = x.astype(WIDE)
        gap = np.where(y > 0, wide.max(axis=-1, keepdims=True) - np.where(y > 0, wide, 0), 0)
        u = eps(x.dtype) / 2
        rounding = u * (3 * (gap + (y * gap).sum(axis=-1, keepdims=True)) + 20) + summing(
            x.dtype, x.shape[-1]
        )
        allowed = rounding * y
    return (np.where(y < tiny, tiny, allowed),)


def seen_ulps(y: Array, exact: Array) -> Array:
    """The error of normal numbers in ulp."""
    return np.where(exact >= float(info(y.dtype).smallest_normal), ulps(y, exact), 0)


# --- the product with the Jacobian -------------------------------------------------------------------


def weights(x: Array) -> Array:
    return oracle.softmax(x).astype(x.dtype)


def product(y: Array, v: Array) -> Arrays:
    return (oracle.vjp(y, v),)


def product_within(level: Level, arguments: Arrays, exact: Arrays) -> Arrays:
    y, v = arguments
    return (product_allowed(y, exact[0]) if level == "tight" else sound_product(y, v, exact[0]),)


def terms_of_product(arguments: Arrays, exact: Arrays) -> Arrays:
    return (product_terms(arguments[0], exact[0]),)


def sound_product(y: Array, v: Array, exact: Array) -> Array:
    n, w, d = y.shape[-1], y.astype(WIDE), np.abs(v.astype(WIDE))
    terms, size = (w * d).sum(axis=-1), norm(w)

    def majorant(w: Array) -> Array:
        return np.asarray(w * (d + (w * d).sum(axis=-1, keepdims=True)))

    allowed = (3 * eps(y.dtype) + summing(y.dtype, n)) * norm(majorant(w))
    allowed += norm(majorant(of_logits(w, y.dtype)) - majorant(w)) + beside_one(w) * terms * size
    allowed += underflow(y.dtype) * (n * size + np.sqrt(WIDE(n)))
    allowed = np.maximum(allowed, norm(product_allowed(y, exact)))
    return unless_overflow(allowed, terms, y.dtype)


def of_logits(w: Array, dtype: np.dtype[Any]) -> Array:
    """y∘(1 + E)."""
    logs = np.abs(np.log(np.where(w > 0, w, 1)))
    return np.asarray(w * (1 + eps(dtype) / 2 * (logs + (w * logs).sum(axis=-1, keepdims=True))))


def beside_one(w: Array) -> Array:
    """|1/Σy − 1|."""
    total = w.sum(axis=-1)
    return np.abs(1 / np.where(total == 0, 1, total) - 1)


def slope(y: Array, v: Array) -> Array:
    """J v as the derivative of softmax along v: a step of i·h, and the imaginary part."""
    with np.errstate(divide="ignore"):
        x = np.log(y.astype(np.float64))
    powers = np.exp(x + 1e-100j * v.astype(np.float64))
    return np.asarray((powers / powers.sum(axis=-1, keepdims=True)).imag * 1e100)


# --- its own derivative ------------------------------------------------------------------------------


def centred(y: Array, v: Array) -> tuple[Array, Array]:
    """v − ⟨y,v⟩/⟨y,1⟩, and the mean of what that is without signs.  In longdouble, that is all that is
    needed of what errors are measured beside."""
    far = v - v[np.arange(len(y)), y.argmax(axis=-1)][:, None]
    total = y.sum(axis=-1, keepdims=True)
    total = np.where(total == 0, 1, total)
    for _ in range(2):
        far = far - (y * far).sum(axis=-1, keepdims=True) / total
    return far, (y * np.abs(far)).sum(axis=-1, keepdims=True) / total


def curvature_terms(y: Array, dy: Array, v: Array) -> tuple[Array, Array]:
    """y∘(|p| + ⟨y,|p|⟩ + |v°|·D(dy) + |dy°|·D(v) + D(dy)·D(v)), which the error of grad_x is measured
    beside: ° takes the mean off, p = v°∘dy°, all means divided by Σy; and the largest |v°| and |dy°|."""
    w, d, u = (a.astype(WIDE) for a in (y, dy, v))
    (d, of_d), (u, of_u) = centred(w, d), centred(w, u)
    p = np.abs(u * d)
    total = w.sum(axis=-1, keepdims=True)
    mean = (w * p).sum(axis=-1, keepdims=True) / np.where(total == 0, 1, total)
    largest = np.maximum(np.abs(u), np.abs(d)).max(axis=-1, keepdims=True)
    return w * (p + mean + np.abs(u) * of_d + np.abs(d) * of_u + of_d * of_u), largest


def curvature_allowed(y: Array, dy: Array, v: Array, grad_x: Array) -> Array:
    """The error that softgrad promises of each element of grad_x; the scale is 1."""
    terms, largest = curvature_terms(y, dy, v)
    allowed = rounded_once(grad_x, terms, product_bound(y.dtype), y.dtype)
    return np.asarray(allowed + 2 * lost(y) * (1 + largest))


def terms_of_both(arguments: Arrays, exact: Arrays) -> Arrays:
    return curvature_terms(*arguments)[0], product_terms(arguments[0], exact[1])


def double_backward_within(level: Level, arguments: Arrays, exact: Arrays) -> Arrays:
    (y, dy, v), (grad_x, grad_dy) = arguments, exact
    n, (w, d, u) = y.shape[-1], (a.astype(WIDE) for a in arguments)
    tight = curvature_allowed(y, dy, v, grad_x)
    if level == "tight":
        products = (np.abs(u) * np.abs(d)).max(axis=-1, keepdims=True)
        return unless_overflow(tight, products, y.dtype), product_allowed(y, grad_dy)
    d, u = np.abs(d), np.abs(u)

    def through_y(w: Array) -> Array:
        total = (w * d).sum(axis=-1, keepdims=True)
        return np.asarray(u * (d + total) + d * (w * u).sum(axis=-1, keepdims=True))

    def majorant(w: Array) -> Array:
        t = through_y(w)
        return np.asarray(w * (t + (w * t).sum(axis=-1, keepdims=True)))

    allowed = (6 * eps(y.dtype) + 2 * summing(y.dtype, n) + 3 * beside_one(w)) * norm(majorant(w))
    allowed += norm(majorant(of_logits(w, y.dtype)) - majorant(w))
    allowed += underflow(y.dtype) * (n * norm(w) + np.sqrt(WIDE(n))) * (1 + d.max(axis=-1) + u.max(axis=-1))
    allowed = np.maximum(allowed, norm(tight))
    return unless_overflow(allowed, through_y(w).max(axis=-1), y.dtype), sound_product(y, v, grad_dy)


# --- the table ---------------------------------------------------------------------------------------

VJP = Operation(
    "softmax",
    "vjp",
    lambda x, u, v: (weights(x), u),
    product,
    product_within,
    FORMULAS,
    slope,
    terms=terms_of_product,
    tight_only=frozenset({"empty rows"}),
)
OPERATIONS = [
    Operation(
        "softmax", "forward", lambda x, u, v: (x,), forward, forward_allowed, SOFTMAXES, ulps=seen_ulps
    ),
    VJP,
    replace(VJP, what="jvp", same_as=VJP),
    Operation(
        "softmax",
        "double-backward",
        lambda x, u, v: (weights(x), u, v),
        oracle.double_backward,
        double_backward_within,
        DOUBLE_BACKWARDS,
        terms=terms_of_both,
    ),
]
