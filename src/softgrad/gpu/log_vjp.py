"""The vjp of log_softmax: dx = dy − p·Σdy, p = exp(y).

Two things cancel.  Where one p is nearly 1, its dx is what the others leave of dy: −(p − 1)·dy − p·Σ′dy, Σ′
the sum over the others, and both p − 1 and Σ′ must be as good as a number can be.  And dy may be nearly
p·Σdy throughout: then what matters is how well exp(y) is known.  So all is computed in a type *wider* than
y's.
"""

import triton
import triton.language as tl

from .exp import inverse_one, parts, power_of
from .mean import factor_for
from .places import load, present, store, tile_of
from .sums import exact_row_sum, row_max, row_sum
from .vjp import product

# Above this y, p is more than 3/4: of one element at most, if y is what log_softmax puts out.
NEAR = tl.constexpr(-0.25)


@triton.jit
def pair(
    y, y_steps, dy, dy_steps, where, where_steps, tile,
    TYPE: tl.constexpr, VEC: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """y, dy and what is there; −inf and 0 for what is masked, for what y says is not there, and behind the
    end.

    (What is not there says so in its y; a NaN in its dy is one all the same.)
    """
    here = present(where, where_steps, tile, VEC, ACROSS)
    v = tl.where(here, load(y, y_steps, tile, 0.0, TYPE, VEC, ACROSS), -float("inf"))
    d = tl.where(here, load(dy, dy_steps, tile, 0.0, TYPE, VEC, ACROSS), 0.0)
    return v, tl.where(v == -float("inf"), d * 0.0, d), here


@triton.jit
def sums(v, d, ACROSS: tl.constexpr):
    """The factor by which dy is multiplied, and Σ factor·dy of what is near y = 0 and of the others, in
    float64.

    The others in two parts: of float64 they may cancel.
    """
    factor = factor_for(row_max(tl.abs(d), ACROSS)).to(tl.float64)
    wide = d.to(tl.float64) * factor
    near = row_sum(tl.where(v > NEAR, wide, 0.0), ACROSS)
    others = tl.where(v > NEAR, 0.0, wide)
    if d.dtype == tl.float64:
        total, rest = exact_row_sum(others, others * 0.0, ACROSS)
        return factor, near, total, rest
    else:
        total = row_sum(others, ACROSS)
        return factor, near, total, total * 0.0


@triton.jit
def result(v, d, factor, near, far, here, scale, WIDE: tl.constexpr):
    """dy − p·Σdy, given Σ factor·dy of what is near and of the others."""
    total = near + far
    total = total + (total - total)  # an inf makes the row NaN
    # powers are kept ONE times too large: p·Σdy may be a number where p is none, or Σdy
    large = (total > 1.0) | (total < -1.0)
    shrink = tl.where(large, inverse_one(WIDE), 1.0) / factor
    lift = tl.where(large, 1.0, inverse_one(WIDE)).to(WIDE)
    g, others = (total * shrink).to(WIDE), (far * shrink).to(WIDE)
    winner = (near / factor).to(WIDE)
    t, d = v.to(WIDE), d.to(WIDE)
    w, two_k = parts(t, 0.0)
    p = power_of(t, w, two_k) * lift
    left = (d - winner) - tl.fma(w, winner, p * others)
    dx = tl.where(v > NEAR, left, tl.fma(-p, g, d))
    return tl.where(here, product(dx, p * 0.0 + 1.0, scale), 0.0)


@triton.jit
def log_vjp(
    y, y_steps, dy, dy_steps, out, out_steps, where, where_steps, outer, inner, n,
    scale: tl.float64, SCALED: tl.constexpr,
    TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    tile = tile_of(tl.program_id(0), 0, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    v, d, here = pair(y, y_steps, dy, dy_steps, where, where_steps, tile, TYPE, VEC, ACROSS)
    factor, near, far, rest = sums(v, d, ACROSS)
    dx = result(v, d, factor, near, far + rest, here, scale if SCALED else None, WIDE)
    store(out, out_steps, tile, dx, VEC, ACROSS)
