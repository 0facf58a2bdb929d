"""Sparsemax and entmax (α = 1.5): what their functions must give, and how far off they may be.

With z = max − x ≥ 0 both are y = ((h − z)₊/c)^β, h such that Σy = 1: c = 1 and β = 1 for sparsemax, c = 2 and
β = 2 for entmax.  For the k elements of the support h is the root of a polynomial in the sums of z and z², so
all is computed in whole numbers, exactly but for the square root, of which 256 more bits are kept.  An
element is in the support if with h = z the others sum to less than 1.  The derivatives have the weights
s = 1 or √y on the support:

    J v = s∘(v − ⟨s,v⟩/⟨s,1⟩)

*Tight* is what softgrad promises; *sound* the worst case of the published ways, u and v as in softmax.py.

Forward, by sorting: z is rounded, and so are the sums of z and z², whose k terms are at most c and c²: h is
off by a = (k·v + 8u)·c, for entmax besides by what the root makes of an error e = 2a of what it is taken of,
the square of r = c·Σ√y/k: e/(r + √e).  An element is off by (a + e/(r + √e) + 4u·c)/c, times 2√y for entmax,
and where it is itself less than that, by the square.

Products, sound: as softmax's, with 4u for the root, and divided by Σs as here:
(10u + n·v)·‖s∘(|v| + Σ s|v|/Σs)‖.

Double backward, sound: sparsemax is made of straight pieces and has none: grad_x = 0.  For entmax, with
p = w′∘(v − ⟨s,v⟩/Σs)∘(dy − ⟨s,dy⟩/Σs), w′ = 1/(2√y), it is s∘(p − ⟨s,p⟩/Σs), and with the same of
absolute values and sums instead of differences, P, off by (24u + 2·n·v)·‖s∘(P + ⟨s,P⟩/Σs)‖.

Tight, the products are within softmax's contract, with s for y; and with ° for what has its mean taken off,
and D as there, each element of grad_x within

    C·eps·s_i·(T_i + ⟨s,T⟩/Σs),    T = w′∘(|v°| + D(v))∘(|dy°| + D(dy))

and what underflows.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..checks import Array, Axis
from .measures import eps, lost, norm, product_bound, product_terms, rounded_once
from .measures import product_allowed as promised
from .operations import Arrays, Level, Operation
from .oracle import WIDE, along_rows, quotient, whole
from .relatives import SPARSE_WEIGHTS, sparse_products
from .softmax import centred, summing, underflow, unless_overflow

BITS = 256  # of a square root, beside those of its argument

# --- the oracle --------------------------------------------------------------------------------------


def forward_of_row(x: Array, beta: int, scale: float = 1.0) -> Array:
    y = np.zeros(len(x), WIDE)
    there = np.flatnonzero(x != -np.inf)
    if not len(there):
        return y
    numbers, unit = whole(x[there])
    factor, shift = whole([scale])
    numbers, unit = numbers * factor[0], unit + shift
    if unit > 0:
        numbers, unit = numbers << unit, 0
    z, c = numbers.max() - numbers, beta << -unit
    near = np.flatnonzero(z < c)
    order = near[np.argsort(z[near], kind="stable")]
    z = z[order]
    count = np.arange(len(z)).astype(object)
    sum1, sum2 = (np.concatenate([np.zeros(1, object), np.cumsum(powers)]) for powers in (z, z * z))
    # Σ (z − z_j)^β over the smaller z_j
    others = count * z - sum1[:-1]
    if beta == 2:
        others = z * (others - sum1[:-1]) + sum2[:-1]
    k = int(np.count_nonzero(others < c**beta))
    z, a, b = z[:k], int(sum1[k]), int(sum2[k])
    if beta == 1:  # h = (c + a)/k
        found = quotient(c + a - k * z, 0, k * c)
    else:  # k·h² − 2·a·h + b − c² = 0
        root = math.isqrt((a * a - k * (b - c * c)) << 2 * BITS)
        found = quotient((((a - k * z) << BITS) + root) ** 2, 0, ((k * c) << BITS) ** 2)
    y[there[order[:k]]] = found
    return y


def forward(x: npt.ArrayLike, beta: int, axis: Axis = -1) -> Array:
    found: Array = along_rows(lambda row: forward_of_row(row, beta), x, axis=axis)
    return found


def weights(y: Array, beta: int) -> tuple[Array, int]:
    """s, as whole numbers and the exponent of their unit."""
    numbers, unit = whole(y)
    if beta == 1:
        return (numbers > 0).astype(int).astype(object), 0
    odd = unit % 2
    roots = [math.isqrt(int(number) << (2 * BITS + odd)) for number in numbers]
    return np.array(roots, object), (unit - odd) // 2 - BITS


def product_of_row(y: Array, v: Array, beta: int) -> Array:
    (s, s_unit), (d, d_unit) = weights(y, beta), whole(v)
    total = s.sum()
    if total == 0:
        return np.zeros(len(y), WIDE)
    return quotient(s * (d * total - (s * d).sum()), s_unit + d_unit, total)


def product(y: npt.ArrayLike, v: npt.ArrayLike, beta: int, axis: Axis = -1) -> Array:
    """s∘(v − ⟨s,v⟩/⟨s,1⟩) for y and v as given."""
    found: Array = along_rows(lambda y, v: product_of_row(y, v, beta), y, v, axis=axis)
    return found


def double_backward(y: Array, dy: Array, v: Array, beta: int) -> Arrays:
    if beta == 1:
        return np.zeros(y.shape, WIDE), product(y, v, beta)
    there = y > 0
    s = np.sqrt(y.astype(WIDE))
    # s∘(v − …) divided by s again: the differences, without what they would lose here
    grad_dy = product(y, v, beta)
    left, right = (a / np.where(there, s, 1) for a in (grad_dy, product(y, dy, beta)))
    p = np.where(there, left * right / np.where(there, 2 * s, 1), 0)
    total = s.sum(axis=-1, keepdims=True)
    mean = (s * p).sum(axis=-1, keepdims=True) / np.where(total == 0, 1, total)
    return s * (p - mean), grad_dy


# --- how far off -------------------------------------------------------------------------------------


def forward_allowed(level: Level, arguments: Arrays, exact: Arrays, beta: int) -> Arrays:
    (x,), (y,) = arguments, exact
    if level == "tight":
        return (4 * eps(x.dtype) * norm(y),)
    u, k = eps(x.dtype) / 2, np.maximum((y > 0).sum(axis=-1, keepdims=True), 1).astype(WIDE)
    a = summing(x.dtype, 1) * k + 8 * u
    if beta == 1:
        each = np.where(y > 0, a + 4 * u, 0)
    else:
        roots = np.sqrt(y)
        r, e = roots.sum(axis=-1, keepdims=True) / k, 2 * a
        gap = a + e / (r + np.sqrt(e)) + 4 * u
        each = np.where(y > 0, 2 * roots * gap + gap * gap, 0)
    # what is next to the support may come into it
    size = norm(each) + each.max(axis=-1) * np.sqrt(k[..., 0])
    return (size + np.sqrt(WIDE(x.shape[-1])) * underflow(x.dtype),)


def weights_of(y: Array, beta: int) -> Array:
    return np.where(y > 0, 1, 0).astype(WIDE) if beta == 1 else np.sqrt(y.astype(WIDE))


def mean(s: Array, a: Array) -> Array:
    total = s.sum(axis=-1, keepdims=True)
    return np.asarray((s * a).sum(axis=-1, keepdims=True) / np.where(total == 0, 1, total))


def product_allowed(level: Level, arguments: Arrays, exact: Arrays, beta: int) -> Arrays:
    (y, v), (dx,) = arguments, exact
    s, d = weights_of(y, beta), np.abs(v.astype(WIDE))
    tight = promised(s, dx, dtype=y.dtype)
    if level == "tight":
        return (tight,)
    terms = norm(s * (d + mean(s, d)))
    allowed = (5 * eps(y.dtype) + summing(y.dtype, y.shape[-1])) * terms
    allowed += underflow(y.dtype) * y.shape[-1] * (1 + norm(s))
    allowed = np.maximum(allowed, norm(tight))
    return (unless_overflow(allowed, (s * d).sum(axis=-1), y.dtype),)


def terms_of_product(arguments: Arrays, exact: Arrays, beta: int) -> Arrays:
    return (product_terms(weights_of(arguments[0], beta), exact[0]),)


def curvature_terms(y: Array, dy: Array, v: Array, beta: int) -> tuple[Array, Array]:
    """s∘(T + ⟨s,T⟩/Σs), and the largest factor that multiplies what underflows."""
    s = weights_of(y, beta)
    (d, of_d), (u, of_u) = centred(s, dy.astype(WIDE)), centred(s, v.astype(WIDE))
    slopes = 0.5 / np.where(y > 0, s, np.inf)
    left, right = np.abs(u) + of_u, np.abs(d) + of_d
    t = slopes * left * right
    return s * (t + mean(s, t)), (1 + slopes * (left + right)).max(axis=-1, keepdims=True)


def double_backward_allowed(level: Level, arguments: Arrays, exact: Arrays, beta: int) -> Arrays:
    (y, dy, v), (grad_x, grad_dy) = arguments, exact
    (by_product,) = product_allowed(level, (y, v), (grad_dy,), beta)
    if beta == 1:
        return np.zeros(y.shape[:-1] if level == "sound" else y.shape, WIDE), by_product
    n, s = y.shape[-1], weights_of(y, beta)
    d, u = np.abs(dy.astype(WIDE)), np.abs(v.astype(WIDE))
    slopes = 0.5 / np.where(y > 0, s, np.inf)
    p = slopes * (u + mean(s, u)) * (d + mean(s, d))
    terms, largest = curvature_terms(y, dy, v, beta)
    tight = rounded_once(grad_x, terms, product_bound(y.dtype), y.dtype) + 2 * lost(s, -1, y.dtype) * largest
    if level == "tight":
        return unless_overflow(tight, p.max(axis=-1, keepdims=True), y.dtype), by_product
    allowed = (12 * eps(y.dtype) + 2 * summing(y.dtype, n)) * norm(s * (p + mean(s, p)))
    allowed += underflow(y.dtype) * n * (1 + norm(s)) * (1 + d.max(axis=-1) + u.max(axis=-1))
    return unless_overflow(np.maximum(allowed, norm(tight)), np.abs(p).sum(axis=-1), y.dtype), by_product


def terms_of_both(arguments: Arrays, exact: Arrays, beta: int) -> Arrays:
    (y, dy, v), (_, grad_dy) = arguments, exact
    terms = product_terms(weights_of(y, beta), grad_dy)
    return (np.zeros_like(terms) if beta == 1 else curvature_terms(y, dy, v, beta)[0]), terms


# --- the table ---------------------------------------------------------------------------------------


def rows_of(map: str, beta: int) -> list[Operation]:
    def y_of(x: Array) -> Array:
        """Of x/4, in which the support has some elements."""
        return forward(x / x.dtype.type(4), beta).astype(x.dtype)

    vjp = Operation(
        map,
        "vjp",
        lambda x, u, v: (y_of(x), u),
        lambda y, v: (product(y, v, beta),),
        functools.partial(product_allowed, beta=beta),
        sparse_products(beta),
        terms=functools.partial(terms_of_product, beta=beta),
        tight_only=frozenset({"empty rows"}),
    )
    return [
        Operation(
            map,
            "forward",
            lambda x, u, v: (x,),
            lambda x: (forward(x, beta),),
            functools.partial(forward_allowed, beta=beta),
            SPARSE_WEIGHTS,
        ),
        vjp,
        replace(vjp, what="jvp", same_as=vjp),
        Operation(
            map,
            "double-backward",
            lambda x, u, v: (y_of(x), u, v),
            functools.partial(double_backward, beta=beta),
            functools.partial(double_backward_allowed, beta=beta),
            terms=functools.partial(terms_of_both, beta=beta),
        ),
    ]


OPERATIONS = [*rows_of("sparsemax", 1), *rows_of("entmax", 2)]
