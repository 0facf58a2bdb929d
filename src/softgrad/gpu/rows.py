"""The maps but for entmax's forward, and the derivatives of all, on rows that a program holds in registers.

Everything is computed in T: float64 for float64, float32 for the others (but for real powers, of which
float32 has no good ones).  A row is read once, so its sums cost no traffic.  `long.py` has the same formulas
on rows that are not held.

MAP is "softmax", "sparsemax", "entmax15" (α = 1.5), "entmax", "log_softmax" or, for its vjp, "log_vjp".
"""

import triton
import triton.language as tl

from .elements import (
    inverse_power,
    load,
    number,
    row_max,
    row_sum,
    row_sum_in_two,
    store,
    tile_of,
    two_sum,
    valid,
)
from .exp import argument, log1p, one, parts, power, raised, rough_power, unit

INF = tl.constexpr(float("inf"))

# --- softmax and log_softmax ------------------------------------------------------------------------------


@triton.jit
def logits(x, where, tile, sign, FORM):
    """sign·x, −inf for what is masked or outside; and what is valid."""
    here = valid(where, tile, FORM)
    return tl.where(here, load(x, tile, FORM) * number(sign, FORM.T), -INF), here


@triton.jit
def powers(v, top, scale, NARROW: tl.constexpr):
    """exp(scale·(v − top))·ONE; float32 has bits to spare for a NARROW result, of 16 bits."""
    t, lost = argument(v, top, scale)
    return rough_power(t) if NARROW else power(t, lost)


@triton.jit
def softmax_sums(v, scale, NARROW: tl.constexpr):
    """max v, the powers, and their sum in two parts, of each row."""
    top = row_max(v)
    top = tl.where(top == -INF, 0.0, top)  # an empty row: −inf − −inf would make it NaN
    e = powers(v, top, scale, NARROW)
    upper, lower = row_sum_in_two(e, one(v.dtype))
    return top, e, upper, lower


@triton.jit
def softmax_of(v, e, here, top, upper, lower, fill, scale, LOG: tl.constexpr):
    """y of a row with this maximum and sum of powers; of an empty one `fill`, 0 or NaN, or its logarithm."""
    T = v.dtype
    empty = upper + lower == 0.0
    if LOG:
        # the sum is 1 + z: of the largest element y is −log(1 + z), which is as exact as z
        log = log1p(((upper - one(T)) + lower) * unit(T))
        t, lost = argument(v, top, scale)
        y = (t - log) + tl.where(t == -INF, 0.0, lost)
        y, nothing = tl.where(empty, number(fill, T) - INF, y), -INF
    else:
        total, rest = two_sum(upper, lower)
        inverse = 1.0 / total
        off = -(tl.fma(total, inverse, number(-1.0, T)) + rest * inverse) * inverse
        y, nothing = tl.where(empty, number(fill, T), tl.fma(e, inverse, e * off)), 0.0
    return tl.where(here | empty, y, nothing)


@triton.jit(do_not_specialize=["shape"])
def softmax(
    x, y, where, shape,
    sign: tl.float64, factor: tl.float64, low: tl.float64, power_of_two: tl.float64, fill: tl.float64,
    LOG: tl.constexpr, SCALED: tl.constexpr, NARROW: tl.constexpr, FORM,
):  # fmt: skip
    tile = tile_of(0, shape.n, shape, FORM)
    scale = (factor, low, power_of_two) if SCALED else None
    v, here = logits(x, where, tile, sign, FORM)
    top, e, upper, lower = softmax_sums(v, scale, NARROW)
    store(y, tile, softmax_of(v, e, here, top, upper, lower, fill, scale, LOG), FORM)


# --- the product with the Jacobian: dx = s∘(dy − ⟨s,dy⟩/⟨s,1⟩); the vjp of log_softmax: dy − exp(y)·Σdy ----

# Beyond α = 2 the smallest y weigh most: one that weighs this much more than 1 holds the mean of its row in
# place whatever it weighs.
HEAVIEST_32, HEAVIEST_64 = tl.constexpr(2.0**100), tl.constexpr(2.0**500)


@triton.jit
def weight(y, alpha, MAP: tl.constexpr):
    """s(y) = y^(2−α) on the support; exp(y) in the jvp of log_softmax, and none in its vjp."""
    if MAP == "softmax" or MAP == "log_vjp":
        return y
    elif MAP == "log_softmax":
        return power(y, 0.0) * unit(y.dtype)
    elif MAP == "sparsemax":
        return tl.where(y > 0.0, 1.0, y * 0.0)
    elif MAP == "entmax15":
        return tl.sqrt(y) if y.dtype == tl.float64 else tl.sqrt_rn(y)
    else:
        exponent = 2.0 - number(alpha, tl.float64)
        wide = tl.where(y > 0.0, y.to(tl.float64), 1.0)
        s = raised(wide, 0.0, tl.abs(exponent), 0.0)
        s = tl.where(exponent < 0.0, 1.0 / s, s)
        heaviest = HEAVIEST_64 if y.dtype == tl.float64 else HEAVIEST_32
        return tl.where(y > 0.0, tl.where(s > heaviest, heaviest, s).to(y.dtype), y * 0.0)


@triton.jit
def operands(y, dy, where, tile, alpha, MAP: tl.constexpr, FORM):
    """y, s(y), dy, and what is valid.  What is masked or outside is 0 (of log_softmax y is −inf), and so is
    dy where the y of log_softmax is −inf, but for a NaN or inf."""
    here = valid(where, tile, FORM)
    d = tl.where(here, load(dy, tile, FORM), 0.0)
    if MAP == "log_softmax" or MAP == "log_vjp":
        w = tl.where(here, load(y, tile, FORM), -INF)
        d = tl.where(w == -INF, d * 0.0, d)
    else:
        w = tl.where(here, load(y, tile, FORM), 0.0)
    return w, weight(w, alpha, MAP), d, here


@triton.jit
def centred(d, high, low):
    """Half of d − mean: no difference of halves is beyond the largest number."""
    return tl.fma(d, number(0.5, d.dtype), -high) - low


@triton.jit
def mean(s, d):
    """Half of ⟨s,d⟩/⟨s,1⟩ of each row as high + low, and ⟨s,1⟩; where that is 0, high is any number, or NaN.

    The mean is found as a distance from the d of the heaviest element (of ties the largest), since
    differences from that are exact where they must be, and centred once more: it is off by a few eps of
    ⟨s,|d − mean|⟩/⟨s,1⟩, however large d is.  The terms are multiplied by a power of two, which makes none
    too large, nor too small.
    """
    T = d.dtype
    reference = row_max(tl.where(s == row_max(s), d, -INF)) * 0.5
    total = row_sum(s)
    bound = 2.0**500 if T == tl.float64 else 2.0**60
    large = row_max(tl.abs(d)) > bound
    lift = tl.minimum(tl.maximum(inverse_power(total) * 2.0, 1.0 / bound), bound)
    inverse = 1.0 / (tl.where(total == 0.0, 1.0, total) * lift)
    inverse *= tl.where(large, number(2.0**600 if T == tl.float64 else 2.0**80, T), 1.0)
    lift *= tl.where(large, number(2.0**-600 if T == tl.float64 else 2.0**-80, T), 1.0)
    high, low = two_sum(reference, row_sum(s * (centred(d, reference, 0.0) * lift)) * inverse)
    low += row_sum(s * (centred(d, high, low) * lift)) * inverse
    return high, low, total


@triton.jit
def reduced(s, d, MAP: tl.constexpr):
    """Three numbers of each row that its product is made of: `mean`; or Σdy, 0, and what is left of it times
    2⁻⁶⁴, which is a number where that is none."""
    if MAP == "log_vjp":
        total = row_sum(d)
        return total, total * 0.0, row_sum(d * 2.0**-64)
    else:
        return mean(s, d)


@triton.jit
def scaled(v, s, a, b):
    """2·v·s·a·b, for a v that is a half; also where twice v is beyond the largest number."""
    a, b = number(a, v.dtype) * 2.0, number(b, v.dtype)
    return tl.where(tl.abs(v * a) < INF, v * a * s, v * s * a) * b


@triton.jit
def shrunk(total, small):
    """Σ h·dy, h and 1/h: powers of two, 1 unless the sum is large.  An inf makes it NaN."""
    T = total.dtype
    fits = tl.abs(total) < (2.0**1021 if T == tl.float64 else 2.0**125)
    one = number(1.0, T)
    total = tl.where(fits, total, small + (small - small))
    return total, tl.where(fits, one, 2.0**-64), tl.where(fits, one, 2.0**64)


@triton.jit
def times_power(y, total):
    """(w, c), (1 + w)·c = exp(y)·total: a number also where exp(y) is none."""
    T = y.dtype
    large = tl.abs(total) > 1.0  # powers are ONE times too large, which total/ONE must be to be a number
    w, b = parts(y, 0.0)
    c = b * tl.where(large, number(1.0, T), unit(T)) * tl.where(large, total * unit(T), total)
    none = y < (-1050.0 if T == tl.float64 else -130.0)
    return tl.where(none, 0.0, w), tl.where(none, total * 0.0, c)


@triton.jit
def product_of(y, s, d, here, sums, a, b, MAP: tl.constexpr, WEIGHTED: tl.constexpr):
    """s∘(d − mean)·a·b, with 1 for s where it is not WEIGHTED; or (d − c) − c·w = d − exp(y)·Σd, times a·b.

    Where y > −0.34, c is Σd: d − Σd and w = exp(y) − 1 have the digits that a sure row needs.
    """
    if MAP == "log_vjp":
        total, h, back = shrunk(sums[0] + sums[1], sums[2])
        w, c = times_power(y, total)
        dx = tl.fma(-c, w, d * h - c) * number(a, y.dtype) * number(b, y.dtype) * back
        return tl.where(here, dx, 0.0)
    else:
        if not WEIGHTED:
            s = tl.where(y == -INF, number(0.0, d.dtype), 1.0)
        dx = scaled(centred(d, sums[0], sums[1]), s, a, b)
        return tl.where(here & (sums[2] != 0.0), dx, 0.0)


@triton.jit(do_not_specialize=["shape"])
def product(
    y, dy, dx, where, shape, alpha: tl.float64, a: tl.float64, b: tl.float64,
    MAP: tl.constexpr, WEIGHTED: tl.constexpr, FORM,
):  # fmt: skip
    tile = tile_of(0, shape.n, shape, FORM)
    w, s, d, here = operands(y, dy, where, tile, alpha, MAP, FORM)
    store(dx, tile, product_of(w, s, d, here, reduced(s, d, MAP), a, b, MAP, WEIGHTED), FORM)


# --- the double backward ----------------------------------------------------------------------------------
#
# With v° = v − ⟨s,v⟩/⟨s,1⟩, dy° likewise, and p = s′∘v°∘dy°, s′ = ds/dy:
#     grad_dy = s∘v°,  grad_x = s∘(p − ⟨s,p⟩/⟨s,1⟩)
# Of log_softmax grad_dy = v° and grad_x = −Σdy·exp(y)∘v°.


@triton.jit
def curvature(y, s, d, u, alpha, MAP: tl.constexpr):
    """p/4, given halves of dy° and v°."""
    if MAP == "softmax":
        return d * u
    elif MAP == "sparsemax":
        return s * 0.0
    else:
        return tl.where(s == 0.0, 0.0, (2.0 - number(alpha, s.dtype)) * s / y) * d * u


@triton.jit
def gradients_of(y, s, p, u, here, total, p_mean, a, b, MAP: tl.constexpr):
    """grad_x and grad_dy, given p/4 and its mean, and half of v°; of log_softmax p_mean is Σdy."""
    if MAP == "log_softmax":
        w, c = times_power(y, p_mean)
        s, here = tl.where(y == -INF, number(0.0, u.dtype), 1.0), here & (y != -INF)
        grad_dy = scaled(u, s, a, b)
        grad_x = -tl.fma(c, w, c) * grad_dy * number(a, u.dtype) * number(b, u.dtype)
    else:
        grad_dy = scaled(u, s, a, b)
        grad_x = scaled((p - p_mean) * 2.0 * number(a, u.dtype) * number(b, u.dtype), s, a, b)
    here = here & (total != 0.0)
    return tl.where(here, grad_x, 0.0), tl.where(here, grad_dy, 0.0)


@triton.jit(do_not_specialize=["shape"])
def double_backward(
    y, dy, v, grad_x, grad_dy, where, shape, alpha: tl.float64, a: tl.float64, b: tl.float64,
    MAP: tl.constexpr, FORM,
):  # fmt: skip
    tile = tile_of(0, shape.n, shape, FORM)
    w, s, d, here = operands(y, dy, where, tile, alpha, MAP, FORM)
    u = load(v, tile, FORM)
    high, low, total = mean(s, u)
    u = centred(u, high, low)
    if MAP == "log_softmax":
        p, p_mean = u, row_sum(d)
    else:
        high, low, _ = mean(s, d)
        p = curvature(w, s, centred(d, high, low), u, alpha, MAP)
        p_mean = row_sum(s * p) / tl.where(total == 0.0, 1.0, total)
    gx, gdy = gradients_of(w, s, p, u, here, total, p_mean, a, b, MAP)
    store(grad_x, tile, gx, FORM)
    store(grad_dy, tile, gdy, FORM)
