"""The product of a simplex map's Jacobian with a vector: dx = s ∘ (dy − ⟨s,dy⟩/⟨s,1⟩).

J is symmetric, so this is the vjp and the jvp.  The mean, and what it takes to have it right, is in `mean`.
"""

import triton
import triton.language as tl

from .mean import safe_mean
from .places import load, present, store, tile_of
from .sums import inverse, number
from .weights import lost, weight


@triton.jit
def product(v, w, scale):
    """v·w·scale: a step on the way is not out of range unless the result is.  A scale of None is 1."""
    if scale is None:
        return v * w
    else:
        factor = number(scale, tl.float64)
        if v.dtype == tl.float64:
            return tl.where(tl.abs(factor) > 1.0, (w * factor) * v, (v * w) * factor)
        else:
            return (v.to(tl.float64) * w.to(tl.float64) * factor).to(v.dtype)


@triton.jit
def pair(
    y, y_steps, dy, dy_steps, where, where_steps, tile, alpha,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """s(y), what it lacks, dy, and what is there: 0 for what is masked and behind the end."""
    here = present(where, where_steps, tile, VEC, ACROSS)
    d = tl.where(here, load(dy, dy_steps, tile, 0.0, TYPE, VEC, ACROSS), 0.0)
    if MAP == "log_softmax":
        v = tl.where(here, load(y, y_steps, tile, 0.0, TYPE, VEC, ACROSS), -float("inf")).to(WIDE)
        d = tl.where(v == -float("inf"), d * 0.0, d).to(WIDE)  # a NaN is one all the same
    else:
        v = tl.where(here, load(y, y_steps, tile, 0.0, TYPE, VEC, ACROSS), 0.0)
    w = weight(v, alpha, MAP)
    return w, lost(v, w, alpha, MAP), d, here


@triton.jit
def result(w, d, hi, lo, b, factor, here, scale, MAP: tl.constexpr):
    """s ∘ (dy − (hi + lo)) · scale; without s of log_softmax, but for what is not there."""
    v = (d * factor - hi) - lo
    s = tl.where(w == 0.0, 0.0, 1.0).to(w.dtype) if MAP == "log_softmax" else w
    v = product(v, s, scale) * inverse(factor)
    return tl.where(here & (b != 0.0), v, 0.0)


@triton.jit
def vjp(
    y, y_steps, dy, dy_steps, out, out_steps, where, where_steps, outer, inner, n,
    alpha: tl.float64, scale: tl.float64, SCALED: tl.constexpr,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    tile = tile_of(tl.program_id(0), 0, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    w, rest, d, here = pair(
        y, y_steps, dy, dy_steps, where, where_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS
    )
    hi, lo, b, factor = safe_mean(w, rest, d, WIDE, ACROSS)
    dx = result(w, d, hi, lo, b, factor, here, scale if SCALED else None, MAP)
    store(out, out_steps, tile, dx, VEC, ACROSS)
