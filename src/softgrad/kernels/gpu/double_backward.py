"""The derivative of the vjp, for the cotangent v of its result.

With m = ⟨s,dy⟩/⟨s,1⟩ and n = ⟨s,v⟩/⟨s,1⟩ the means,

    grad_dy = s ∘ (v − n)
    grad_x  = s ∘ (p − ⟨s,p⟩/⟨s,1⟩),  p = s′ ∘ (v − n) ∘ (dy − m)

which are J v and J p: the derivative of ⟨v, J dy⟩ by s is (v − n) ∘ (dy − m), and s′ = ds/dy, for softmax 1.
Of log_softmax, with p = exp(y), they are

    grad_dy = v − n
    grad_x  = −Σdy · p ∘ (v − n)
"""

import triton
import triton.language as tl

from .mean import safe_mean
from .places import load, store, tile_of
from .sums import exact_row_sum, number, row_sum
from .vjp import pair, product
from .weights import faintest, slope


@triton.jit
def centred(d, factor, hi, lo, WIDE: tl.constexpr):
    """factor·d − (hi + lo), in the wider type."""
    return ((d * factor).to(WIDE) - hi.to(WIDE)) - lo.to(WIDE)


@triton.jit
def simplex(y, w, rest, d, u, alpha, scale, MAP: tl.constexpr, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """Both gradients, of a map whose Jacobian is symmetric."""
    hi, lo, b, factor = safe_mean(w, rest, d, WIDE, ACROSS)
    u_hi, u_lo, _, u_factor = safe_mean(w, rest, u, WIDE, ACROSS)
    s = w.to(WIDE) if rest is None else w.to(WIDE) + rest.to(WIDE)
    through = centred(d, factor, hi, lo, WIDE) * slope(y.to(WIDE), s, alpha, MAP)
    u = centred(u, u_factor, u_hi, u_lo, WIDE)
    if WIDE == tl.float64:  # long rows with a winner would lose what is left of the others
        total, lost = exact_row_sum(s * (through * u), s * 0.0, ACROSS)
        total = total + lost
    else:
        total = row_sum(s * (through * u), ACROSS)
    spread = tl.fma(through, u, -(total / b.to(WIDE)))
    undo, u_undo = 1.0 / factor.to(WIDE), 1.0 / u_factor.to(WIDE)
    grad_x, grad_dy = s * (spread * undo * u_undo), s * (u * u_undo)
    if scale is not None:
        grad_x = grad_x * number(scale, WIDE) * number(scale, WIDE)
        grad_dy = grad_dy * number(scale, WIDE)
    some = b != 0.0
    return tl.where(some, grad_x, 0.0), tl.where(some, grad_dy, 0.0)


@triton.jit
def of_log(w, d, u, scale, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """Both gradients, of log_softmax; w = exp(y)."""
    if WIDE == tl.float64:
        total, lost = exact_row_sum(d, d * 0.0, ACROSS)
        total = total + lost
    else:
        total = row_sum(d, ACROSS)
    hi, lo, b, factor = safe_mean(w, None, u, WIDE, ACROSS)
    r = tl.where(w == 0.0, 0.0, centred(u, factor, hi, lo, WIDE))
    grad_dy = product(r, r * 0.0 + 1.0, scale) * (1.0 / factor)
    w = tl.where(w <= faintest(WIDE), 0.0, w)
    grad_x = product(product(w * r, r * 0.0 - total, scale), r * 0.0 + 1.0, scale) * (1.0 / factor)
    some = b != 0.0
    return tl.where(some, grad_x, 0.0), tl.where(some, grad_dy, 0.0)


@triton.jit
def double_backward(
    y, y_steps, dy, dy_steps, v, v_steps, grad_x, x_steps, grad_dy, grad_dy_steps, outer, inner, n,
    alpha: tl.float64, scale: tl.float64, SCALED: tl.constexpr,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    scale = scale if SCALED else None
    tile = tile_of(tl.program_id(0), 0, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    w, rest, d, _ = pair(y, y_steps, dy, dy_steps, None, y_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS)
    _, _, u, _ = pair(y, y_steps, v, v_steps, None, y_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS)
    if MAP == "log_softmax":
        gx, gdy = of_log(w, d, u, scale, WIDE, ACROSS)
    else:
        value = load(y, y_steps, tile, 0.0, TYPE, VEC, ACROSS)
        gx, gdy = simplex(value, w, rest, d, u, alpha, scale, MAP, WIDE, ACROSS)
    store(grad_x, x_steps, tile, gx.to(TYPE), VEC, ACROSS)
    store(grad_dy, grad_dy_steps, tile, gdy.to(TYPE), VEC, ACROSS)
