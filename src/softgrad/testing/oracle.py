"""What the functions must return, found in another way than they find it, in `numpy.longdouble`.

The derivatives of softmax, sparsemax and entmax are rational functions of y, dy and the weights s = y^(2−α),
computed in pairs of longdoubles (about 120 bits).  Each starts from the distance to the dy of the heaviest
element, which has at least 1/n of the weight: so no sum cancels to less than 1/n² of its terms, and the error
of an element is below n²·2⁻¹²⁰·(|dx*| + s·D), before the last rounding.  Longdouble alone would not do: where
one y is nearly 1, what is left after the cancellation may lie hundreds of bits below the terms.

Sparsemax and entmax (α = 1.5) are found in whole numbers, since one bit decides what is in the support.
Softmax and log_softmax are exponentials and logarithms in longdouble, the rounding of x − max carried along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import Array, Axis

WIDE = np.longdouble
BLOCK = 1 << 18  # elements that are computed at once: each takes some 300 bytes
BITS = 256  # of a square root of a whole number, beside those of its argument

Pair = tuple[Array, Array]  # a number and what its rounding lost


# --- arithmetic in pairs -----------------------------------------------------------------------------


def two_sum(a: Any, b: Any) -> Pair:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Any, b: Any) -> Pair:
    """p and e with p + e = a·b exactly, by Veltkamp's splitting of a longdouble."""

    def halves(value: Any) -> Pair:
        c = value * (WIDE(2) ** ((np.finfo(WIDE).nmant + 2) // 2) + 1)
        upper = c - (c - value)
        return upper, value - upper

    p = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return p, a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


def add(a: Pair, b: Pair) -> Pair:
    high, low = two_sum(a[0], b[0])
    return two_sum(high, low + (a[1] + b[1]))


def multiply(a: Pair, b: Pair) -> Pair:
    high, low = two_product(a[0], b[0])
    return two_sum(high, low + (a[0] * b[1] + a[1] * b[0]))


def divide(a: Pair, b: Pair) -> Pair:
    """a/b; 0 where b is 0."""
    divisor = np.where(b[0] == 0, 1, b[0])
    high = np.where(b[0] == 0, 0, a[0] / divisor)
    product, lost = two_product(high, divisor)
    return two_sum(high, (((a[0] - product) - lost) + (a[1] - high * b[1])) / divisor)


def total(a: Pair) -> Pair:
    """The sum of each row, by halves."""
    high, low = a
    while (half := high.shape[-1] // 2) > 0:
        parts = [(high[..., i : i + half], low[..., i : i + half]) for i in (0, half)]
        rest = (high[..., 2 * half :], low[..., 2 * half :])
        high, low = (np.concatenate(both, axis=-1) for both in zip(add(*parts), rest, strict=True))
    return high, low


def pair(values: Array) -> Pair:
    wide = values.astype(WIDE)
    return wide, np.zeros_like(wide)


def centered(s: Pair, v: Pair) -> Pair:
    """v − ⟨s,v⟩/⟨s,1⟩ of each row, found as a distance from the v of the heaviest element."""
    heaviest = s[0].argmax(axis=-1)[..., None]
    reference = [-np.take_along_axis(part, heaviest, axis=-1) for part in v]
    far = add(v, (reference[0], reference[1]))
    mean = divide(total(multiply(s, far)), total(s))
    return add(far, (-mean[0], -mean[1]))


# --- derivatives of softmax (α = 1), entmax (α = 1.5) and sparsemax (α = 2) ---------------------------


def along_rows(function: Callable[..., Any], *arrays: npt.ArrayLike, axis: Axis, results: int = 1) -> Any:
    """Apply a function of arrays of shape (rows, n) along an axis, a tuple of axes, or all (None)."""
    inputs = [np.asarray(a) for a in arrays]
    ndim = inputs[0].ndim
    axes = list(range(ndim)) if axis is None else [int(a) % ndim for a in np.atleast_1d(axis)]
    order = [a for a in range(ndim) if a not in axes] + axes
    shape = tuple(inputs[0].shape[a] for a in order)
    n = math.prod(shape[ndim - len(axes) :])
    rows = [a.transpose(order).reshape(inputs[0].size // max(n, 1), n) for a in inputs]
    outputs = [np.zeros(rows[0].shape, WIDE) for _ in range(results)]
    step = max(1, BLOCK // max(n, 1))
    for block in (slice(i, i + step) for i in range(0, len(rows[0]) if n else 0, step)):
        values = function(*(a[block] for a in rows))
        for place, value in zip(outputs, values if results > 1 else (values,), strict=True):
            place[block] = value
    back = [a.reshape(shape).transpose(np.argsort(order)) for a in outputs]
    return back[0] if results == 1 else tuple(back)


def product(s: Pair, v: Pair) -> Array:
    """s∘(v − ⟨s,v⟩/⟨s,1⟩) of each row."""
    return multiply(s, centered(s, v))[0]


def weights(y: Array, alpha: float = 1) -> Pair:
    """s = y^(2−α) of the support: y, √y or 1."""
    wide = y.astype(WIDE)
    if alpha != 1.5:
        return pair(wide if alpha == 1 else wide > 0)
    root = np.sqrt(wide)
    square, lost = two_product(root, root)
    return root, ((wide - square) - lost) / np.where(root == 0, 1, 2 * root)


def vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    axis: Axis = -1,
    scale: float = 1.0,
    where: npt.ArrayLike | None = None,
    alpha: float = 1,
) -> Array:
    """scale · s∘(dy − ⟨s,dy⟩/⟨s,1⟩) for y and dy as given, which are finite.

    Parameters
    ----------
    y, dy : array_like of one shape
        What the map put out, and ∂L/∂y.
    axis : int, tuple of int or None
        The axes that the map sums over.
    scale : float
        y = map(scale·x).
    where : array_like of bool, optional
        What is False takes no part, and is 0.
    alpha : {1, 1.5, 2}
        Softmax, entmax or sparsemax.

    Returns
    -------
    numpy.ndarray of longdouble
    """
    if where is not None:
        y, dy = (np.where(where, a, np.zeros((), a.dtype)) for a in map(np.asarray, (y, dy)))

    dx: Array = along_rows(lambda y, dy: product(weights(y, alpha), pair(dy)), y, dy, axis=axis)
    return dx * WIDE(scale)


def double_backward(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    v: npt.ArrayLike,
    axis: Axis = -1,
    scale: float = 1.0,
    alpha: float = 1,
) -> tuple[Array, Array]:
    """(grad_x, grad_dy) of ⟨v, vjp(y, dy)⟩; Σs counts as a constant, which for softmax it is up to rounding.

    With p = s′∘(v − ⟨s,v⟩/⟨s,1⟩)∘(dy − ⟨s,dy⟩/⟨s,1⟩) and s′ = (2−α)·y^(1−α):
    grad_x = s∘(p − ⟨s,p⟩/⟨s,1⟩) and grad_dy = s∘(v − ⟨s,v⟩/⟨s,1⟩).
    """

    def rows(y: Array, dy: Array, v: Array) -> tuple[Array, Array]:
        s = weights(y, alpha)
        moved = centered(s, pair(v))
        p = multiply(moved, centered(s, pair(dy)))
        if alpha == 2:
            p = pair(0 * y)
        elif alpha == 1.5:
            p = divide(p, (2 * s[0], 2 * s[1]))
        return product(s, p), multiply(s, moved)[0]

    grad_x, grad_dy = along_rows(rows, y, dy, v, axis=axis, results=2)
    return grad_x * WIDE(scale) * WIDE(scale), grad_dy * WIDE(scale)


def softmax_jvp_by_complex_step(x: Array, v: Array) -> Array:
    """J v at the logits x, along the last axis, in float64: the derivative of softmax itself, no formula for
    it.  Of a step of i·h the imaginary part is the derivative, and since nothing is subtracted, h can be so
    small that its error is none."""
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True) + 1e-100j * v.astype(np.float64))
    return np.asarray((powers / powers.sum(axis=-1, keepdims=True)).imag * 1e100)


# --- softmax and log_softmax -------------------------------------------------------------------------


def axes_of(x: Array, axis: Axis) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


def sums(x: npt.ArrayLike, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> tuple[Array, ...]:
    """t = scale·x − max in two parts, max, log Σ exp(t), p = softmax, and what takes part.

    The largest are left out of the sum, and come in by log1p; an empty row has log Σ = −inf and p = 0.
    """
    wide = np.asarray(x).astype(WIDE)
    axis = axes_of(wide, axis)
    valid = np.broadcast_to(True if where is None else where, wide.shape)
    v = np.where(valid, WIDE(-1 if scale < 0 else 1) * wide, -np.inf)
    valid = valid & (v != -np.inf)
    top = v.max(axis, keepdims=True)
    top = np.where(top == -np.inf, 0, top)
    difference, lost = two_sum(np.where(valid, v, top), -top)
    t, rest = two_product(difference, WIDE(abs(scale)))
    rest = rest + lost * WIDE(abs(scale))
    e = np.where(valid, np.exp(t) * (1 + rest), 0)
    first = valid & (e == 1)
    ones = first.sum(axis, keepdims=True).astype(WIDE)
    others = np.where(first, 0, e).sum(axis, keepdims=True)
    some = np.where(ones == 0, 1, ones)
    log_sum = np.where(ones == 0, -np.inf, np.log(some) + np.log1p(others / some))
    return t, rest, top * WIDE(abs(scale)), log_sum, e / np.where(ones == 0, 1, ones + others), valid


def softmax(x: npt.ArrayLike, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    """softmax(scale·x); an empty row is 0."""
    return sums(x, axis, scale, where)[4]


def log_softmax(x: npt.ArrayLike, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    t, rest, _, log_sum, _, valid = sums(x, axis, scale, where)
    return np.where(valid, t + (rest - np.where(log_sum == -np.inf, 0, log_sum)), -np.inf)


def powers(y: Array, where: Any = None) -> Array:
    """p = exp(y), and 0 where y is masked."""
    return np.asarray(np.where(True if where is None else where, np.exp(y.astype(WIDE)), 0))


def valid_part(y: Array, values: Array, where: Any = None) -> Array:
    """The values in longdouble, 0 where y is −inf or masked."""
    return np.where((y != -np.inf) & (True if where is None else where), values.astype(WIDE), 0)


def log_vjp(y: Array, dy: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    """scale·(dy − exp(y)·Σdy)."""
    d = valid_part(y, dy, where)
    return np.asarray((d - powers(y, where) * d.sum(axes_of(y, axis), keepdims=True)) * WIDE(scale))


def log_jvp(y: Array, dx: Array, axis: Axis = -1, scale: float = 1.0, where: Any = None) -> Array:
    """scale·(dx − ⟨p,dx⟩/⟨p,1⟩), p = exp(y)."""

    p, d = powers(y, where), valid_part(y, dx, where)
    dy: Array = along_rows(lambda p, d: centered(pair(p), pair(d))[0], p, d, axis=axis)
    return valid_part(y, dy, where) * WIDE(scale)


def log_double_backward(
    y: Array, dy: Array, v: Array, axis: Axis = -1, scale: float = 1.0
) -> tuple[Array, Array]:
    """(grad_x, grad_dy) of ⟨v, vjp(y, dy)⟩."""
    grad_dy = log_jvp(y, v, axis, scale)
    of_dy = valid_part(y, dy).sum(axes_of(y, axis), keepdims=True) * WIDE(scale)
    return -powers(y) * grad_dy * of_dy, grad_dy


# --- sparsemax and entmax ----------------------------------------------------------------------------


def whole(values: npt.ArrayLike) -> tuple[Array, int]:
    """Finite floats as whole numbers (objects) and the exponent of their common unit."""
    mantissas, exponents = np.frexp(np.asarray(values).astype(np.float64))
    unit = int(exponents[mantissas != 0].min(initial=2000)) - 53
    shifts = np.where(mantissas != 0, exponents - 53 - unit, 0)
    return np.ldexp(mantissas, 53).astype(np.int64).astype(object) << shifts.astype(object), unit


def quotient(numbers: Array, exponent: int, divisor: int) -> Array:
    """numbers·2^exponent / divisor, of whole numbers, in longdouble."""
    wide = np.array([WIDE(int(a)) for a in numbers], WIDE)
    return np.asarray(np.ldexp(wide / WIDE(int(divisor)), exponent))


def entmax_of_row(x: Array, alpha: float, scale: float = 1.0) -> Array:
    """y = ((h − z)₊/c)^β, z = max − scale·x, Σy = 1: β = c = 1 for sparsemax, β = c = 2 for entmax.

    An element is in the support if with h = z the others sum to less than 1.  With the sums a of z and b of
    z² over its k elements, h = (c + a)/k for sparsemax, and k·h² − 2·a·h + b − c² = 0 for entmax.
    """
    beta = round(1 / (alpha - 1))
    y = np.zeros(len(x), WIDE)
    valid = np.flatnonzero(x != -np.inf)
    if not len(valid):
        return y
    numbers, unit = whole(x[valid])
    factor, shift = whole([scale])
    numbers, unit = numbers * factor[0], unit + shift
    if unit > 0:
        numbers, unit = numbers << unit, 0
    z, c = numbers.max() - numbers, beta << -unit
    near = np.flatnonzero(z < c)
    order = near[np.argsort(z[near], kind="stable")]
    z = z[order]
    count = np.arange(len(z)).astype(object)
    sum1, sum2 = (np.concatenate([np.zeros(1, object), np.cumsum(terms)]) for terms in (z, z * z))
    others = count * z - sum1[:-1]  # Σ (z − z_j)^β over the smaller z_j
    if beta == 2:
        others = z * (others - sum1[:-1]) + sum2[:-1]
    k = int(np.count_nonzero(others < c**beta))
    z, a, b = z[:k], int(sum1[k]), int(sum2[k])
    if beta == 1:
        values = quotient(c + a - k * z, 0, k * c)
    else:
        root = math.isqrt((a * a - k * (b - c * c)) << 2 * BITS)
        values = quotient((((a - k * z) << BITS) + root) ** 2, 0, ((k * c) << BITS) ** 2)
    y[valid[order[:k]]] = values
    return y


def entmax(x: npt.ArrayLike, alpha: float, axis: Axis = -1, scale: float = 1.0) -> Array:
    """Sparsemax (α = 2) or entmax (α = 1.5) of scale·x, exact until it is rounded."""

    def rows(x: Array) -> Array:
        return np.stack([entmax_of_row(row, alpha, scale) for row in x])

    y: Array = along_rows(rows, x, axis=axis)
    return y
