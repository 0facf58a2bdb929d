"""The derivative of the vjp, for the cotangent v of its result.

With m = ⟨s,dy⟩/⟨s,1⟩ and n = ⟨s,v⟩/⟨s,1⟩ the means,

    grad_dy = s ∘ (v − n)
    grad_x  = s ∘ (p − ⟨s,p⟩/⟨s,1⟩),  p = s′ ∘ (v − n) ∘ (dy − m)

which are J v and J p: the derivative of ⟨v, J dy⟩ by s is (v − n) ∘ (dy − m), and s′ = ds/dy, for softmax 1.
Of log_softmax, with p = exp(y), they are

    grad_dy = v − n
    grad_x  = −Σdy · p ∘ (v − n)

So three sums along the row are all that is needed: of both means, and `total`.  For lines in parts see
parts.py.
"""

import triton
import triton.language as tl

from .mean import safe_mean
from .places import load, store, tile_of
from .sums import exact_row_sum, inverse, number, row_sum
from .vjp import pair, product
from .weights import faintest, slope


@triton.jit
def operands(
    y, y_steps, dy, dy_steps, v, v_steps, tile, alpha,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """y, s(y), what it lacks, dy and v."""
    w, rest, d, _ = pair(y, y_steps, dy, dy_steps, None, y_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS)
    _, _, u, _ = pair(y, y_steps, v, v_steps, None, y_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS)
    return load(y, y_steps, tile, 0.0, TYPE, VEC, ACROSS), w, rest, d, u


@triton.jit
def centred(d, mean, WIDE: tl.constexpr):
    """factor·d − (hi + lo), in the wider type; the mean is as from `safe_mean`."""
    hi, lo, _, factor = mean
    return ((d * factor).to(WIDE) - hi.to(WIDE)) - lo.to(WIDE)


@triton.jit
def factors(given, mean, v_mean, alpha, MAP: tl.constexpr, WIDE: tl.constexpr):
    """s, and those of p: s′ ∘ (dy − m) and v − n, times the factors of the means."""
    y, w, rest, d, u = given
    s = w.to(WIDE) + rest.to(WIDE)
    return s, centred(d, mean, WIDE) * slope(y.to(WIDE), s, alpha, MAP), centred(u, v_mean, WIDE)


@triton.jit
def total(given, mean, v_mean, alpha, MAP: tl.constexpr, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """⟨s,p⟩ of each row, times the factors of the means, or of log_softmax Σdy; in two parts."""
    if MAP == "log_softmax":
        terms = given[3]
    else:
        s, through, u = factors(given, mean, v_mean, alpha, MAP, WIDE)
        terms = s * (through * u)
    if WIDE == tl.float64:  # long rows with a winner would lose what is left of the others
        return exact_row_sum(terms, terms * 0.0, ACROSS)
    else:
        whole = row_sum(terms, ACROSS)
        return whole, tl.zeros_like(whole)


@triton.jit
def simplex(given, mean, v_mean, total, alpha, scale, MAP: tl.constexpr, WIDE: tl.constexpr):
    """Both gradients, of a map whose Jacobian is symmetric."""
    s, through, u = factors(given, mean, v_mean, alpha, MAP, WIDE)
    b = mean[2]
    spread = tl.fma(through, u, -(total / b.to(WIDE)))
    undo, v_undo = inverse(mean[3].to(WIDE)), inverse(v_mean[3].to(WIDE))
    grad_x, grad_dy = s * (spread * undo * v_undo), s * (u * v_undo)
    if scale is not None:
        grad_x = grad_x * number(scale, WIDE) * number(scale, WIDE)
        grad_dy = grad_dy * number(scale, WIDE)
    some = b != 0.0
    return tl.where(some, grad_x, 0.0), tl.where(some, grad_dy, 0.0)


@triton.jit
def of_log(given, mean, total, scale, WIDE: tl.constexpr):
    """Both gradients, of log_softmax, given the mean of v and Σdy."""
    _, w, _, _, u = given  # w = exp(y)
    _, _, b, factor = mean
    r = tl.where(w == 0.0, 0.0, centred(u, mean, WIDE))
    grad_dy = product(r, r * 0.0 + 1.0, scale) * inverse(factor)
    w = tl.where(w <= faintest(WIDE), 0.0, w)
    grad_x = product(product(w * r, r * 0.0 - total, scale), r * 0.0 + 1.0, scale) * inverse(factor)
    some = b != 0.0
    return tl.where(some, grad_x, 0.0), tl.where(some, grad_dy, 0.0)


@triton.jit
def gradients(given, mean, v_mean, total, alpha, scale, MAP: tl.constexpr, WIDE: tl.constexpr):
    if MAP == "log_softmax":
        return of_log(given, v_mean, total, scale, WIDE)
    else:
        return simplex(given, mean, v_mean, total, alpha, scale, MAP, WIDE)


@triton.jit
def double_backward(
    y, y_steps, dy, dy_steps, v, v_steps, grad_x, x_steps, grad_dy, grad_dy_steps, outer, inner, n,
    alpha: tl.float64, scale: tl.float64, SCALED: tl.constexpr,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    tile = tile_of(tl.program_id(0), 0, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    given = operands(y, y_steps, dy, dy_steps, v, v_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS)
    _, w, rest, d, u = given
    v_mean = safe_mean(w, rest, u, WIDE, ACROSS)
    mean = v_mean if MAP == "log_softmax" else safe_mean(w, rest, d, WIDE, ACROSS)
    whole, lost = total(given, mean, v_mean, alpha, MAP, WIDE, ACROSS)
    gx, gdy = gradients(given, mean, v_mean, whole + lost, alpha, scale if SCALED else None, MAP, WIDE)
    store(grad_x, x_steps, tile, gx.to(TYPE), VEC, ACROSS)
    store(grad_dy, grad_dy_steps, tile, gdy.to(TYPE), VEC, ACROSS)
