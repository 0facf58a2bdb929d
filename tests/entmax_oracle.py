"""What entmax must return for any α: by sorting, in mpmath.  (For α = 2 it is `softgrad.testing.oracle`.)

With t = (α−1)·scale·x and β = 1/(α−1) it is y = (t − τ)₊^β with Σy = 1.  An element is in the support if with
the threshold τ at its own t the others sum to less than 1.  Its smallest, t_m, has the y that is looked for,
q: then τ = t_m − q^(α−1).
"""

import mpmath
import numpy as np

from softgrad.testing import oracle

DIGITS = 40


def support_of(sums_to_less, order):
    """How many of the elements, largest first, are in the support: the first ones, so bisection finds it."""
    low, high = 1, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sums_to_less(middle - 1) else (low, middle - 1)
    return low


def wide(value):
    """An mpf as longdouble."""
    mantissa, exponent = mpmath.frexp(value)
    upper = float(mantissa)
    return np.ldexp(oracle.WIDE(upper) + oracle.WIDE(float(mantissa - upper)), int(exponent))


def least(gaps, alpha):
    """q > 0 with Σ (q^(α−1) + gap)^β = 1."""
    power, beta = alpha - 1, 1 / (alpha - 1)
    if alpha == 1.5:  # Σ(√q + gap)² = 1
        k, b, c = len(gaps), mpmath.fsum(gaps), mpmath.fsum(g * g for g in gaps) - 1
        return (-c / (b + mpmath.sqrt(b * b - k * c))) ** 2

    def logarithm(s):
        """log Σ of q = e^s, and its derivative."""
        u = mpmath.exp(power * s)
        terms = [(u + g) ** beta for g in gaps]
        total = mpmath.fsum(terms)
        return mpmath.log(total), u * mpmath.fsum(
            t / (u + g) for t, g in zip(terms, gaps, strict=True)
        ) / total

    low, high = mpmath.mpf(-1), mpmath.mpf(0)
    while logarithm(low)[0] >= 0:  # it may lie far below the others
        low, high = 2 * low, low
    s, near = high, mpmath.mpf(10) ** (-mpmath.mp.dps * 5 // 8)
    for _ in range(100):  # by Newton's steps that stay between what is too small and too large
        value, slope = logarithm(s)
        low, high = (s, high) if value < 0 else (low, s)
        before, s = s, s - value / slope
        if not low <= s <= high:
            s = (low + high) / 2
        if abs(s - before) <= near:
            break
    assert logarithm(s - near)[0] <= 0 <= logarithm(s + near)[0]
    return mpmath.exp(s)


def solution(x, scale, alpha):
    """y as numbers of mpmath, in the precision that it works in, and the order of x, largest first."""
    order = np.argsort(-x.astype(np.float64) * np.sign(scale), kind="stable")
    alpha = mpmath.mpf(alpha)
    beta = 1 / (alpha - 1)
    t = [mpmath.mpf(float(v)) * mpmath.mpf(scale) * (alpha - 1) for v in x[order]]
    size = support_of(lambda k: t[0] - t[k] < 1 and mpmath.fsum((v - t[k]) ** beta for v in t[:k]) < 1, t)
    gaps = [v - t[size - 1] for v in t[:size]]
    q = least(gaps, alpha)
    return [(q ** (alpha - 1) + gap) ** beta if gap else q for gap in gaps], order


def entmax_of_row(x, scale, alpha):
    y = np.zeros(len(x), oracle.WIDE)
    with mpmath.workdps(DIGITS):
        found, order = solution(x, scale, alpha)
        y[order[: len(found)]] = [wide(value) for value in found]
    return y


def entmax(x, alpha=1.5, axis=-1, scale=1.0, where=None):
    """entmax(scale·x) in longdouble; what is masked or −inf is not there."""
    x = np.asarray(x)
    there = np.isfinite(x.astype(np.float64)) & np.broadcast_to(True if where is None else where, x.shape)

    def row(values, there):
        y = np.zeros(len(values), oracle.WIDE)
        if there.any():
            z = values[there]
            y[there] = oracle.entmax_of_row(z, 2, scale) if alpha == 2 else entmax_of_row(z, scale, alpha)
        return y

    return along_rows(row, x, there, axis=axis)


# --- the derivatives ---------------------------------------------------------------------------------


def along_rows(row, *arrays, axis):
    """Apply a function of 1-d arrays along an axis."""
    rows = lambda *arrays: np.stack([row(*values) for values in zip(*arrays, strict=True)])  # noqa: E731
    return oracle.along_rows(rows, *arrays, axis=axis)


def weights(y, alpha):
    """y^(2−α) where y > 0, of rows, as a pair of longdoubles."""
    if alpha in (1, 1.5, 2):
        return oracle.weights(y, alpha)
    high, low = np.zeros(y.shape, oracle.WIDE), np.zeros(y.shape, oracle.WIDE)
    with mpmath.workprec(260):
        for place in np.argwhere(y > 0):
            power = mpmath.mpf(float(y[*place])) ** (2 - mpmath.mpf(alpha))
            upper = float(power)
            high[*place], low[*place] = upper, wide(power - upper)
    return oracle.two_sum(high, low)


def wide_weights(y, alpha=1.5, axis=-1):
    """The same in longdouble, along an axis."""
    return oracle.along_rows(lambda y: weights(y, alpha)[0], y, axis=axis)


def vjp(y, dy, alpha=1.5, axis=-1, scale=1.0):
    """scale·(diag(s) − s sᵀ/⟨s,1⟩)·dy for y and dy as given."""
    return oracle.along_rows(
        lambda y, dy: oracle.product(weights(y, alpha), oracle.pair(dy)), y, dy, axis=axis
    ) * oracle.WIDE(scale)


def alpha_gradient(x, dy, alpha):
    """∂⟨dy, entmax(x, α)⟩/∂α for a row, by a difference quotient with 2/3 of the digits; at 1 from above."""
    with mpmath.workdps(3 * DIGITS):
        step = mpmath.mpf(10) ** -DIGITS

        def loss(alpha):
            y, order = solution(x, 1.0, alpha)
            return mpmath.fsum(mpmath.mpf(float(d)) * v for d, v in zip(dy[order], y, strict=False))

        alpha = mpmath.mpf(alpha)
        if alpha > 1:
            return wide((loss(alpha + step) - loss(alpha - step)) / (2 * step))
        return wide(
            (4 * loss(alpha + 2 * step) - 3 * loss(alpha + step) - loss(alpha + 3 * step)) / (2 * step)
        )
