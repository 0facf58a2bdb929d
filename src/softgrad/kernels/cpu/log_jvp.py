"""The jvp of log_softmax along a tile, and the derivative of its vjp.

With p = exp(y) and the mean m = ⟨p,v⟩/⟨p,1⟩ the jvp is v − m; and of ⟨v, dy − p·Σdy⟩ the gradients are

    grad_dy = v − m
    grad_x  = −Σdy · p ∘ (v − m)

All is computed in a type wider than y's (see `log_vjp`).  The mean is found as a distance from the v of the
heaviest element and kept in two parts, as in `vjp`.
"""

import numpy as np
from numba.core import types

from .buffer import buffer
from .compiling import inline, per_type
from .exp import power
from .log import one
from .log_vjp import pair, sums
from .memory import store, zeros
from .places import alive, at, place_of, present, row_first, row_max, row_sum, table_of, tile_of
from .sums import two_sum, wide_zero
from .vec import any_of, as_type_of, larger, select, splat
from .vjp import product


def rounds(array):
    """How often the mean is corrected: once more where nothing is wider than its sums."""
    raise NotImplementedError("compiled only")


@per_type(rounds)
def compile_rounds(array):
    number = 2 if array.dtype == types.float64 else 1
    return lambda array: number


@inline
def probability(y, v):
    """exp of the vector v of y, in the wider type."""
    t = as_type_of(v, wide_zero(y))
    return power(t, -0.0) * (1.0 / one(t))


@inline
def mean(y, y_at, v, v_at, where, where_at, tile, factor):
    """⟨p, factor·v⟩/⟨p,1⟩ of each row as hi + lo, and ⟨p,1⟩."""
    arrays = y, y_at, v, v_at, where, where_at, tile
    zero = wide_zero(y)
    top = splat(-np.inf, zeros(y))
    for k in range(tile[0]):
        top = larger(pair(*arrays, k)[0], top)
    top = row_max(top, tile)
    best = splat(-np.inf, zero)
    for k in range(tile[0]):
        w, d = pair(*arrays, k)
        best = larger(select(w == top, as_type_of(d, zero) * factor, -np.inf), best)
    hi = row_max(best, tile)
    lo, b = hi * 0.0, hi * 0.0
    for _ in range(rounds(y)):
        a, a_lost, b_sum, b_lost = zero, zero, zero, zero
        for k in range(tile[0]):
            w, d = pair(*arrays, k)
            p = probability(y, w)
            a, more = two_sum(a, p * (as_type_of(d, zero) * factor - hi))
            a_lost = a_lost + more
            b_sum, more = two_sum(b_sum, p)
            b_lost = b_lost + more
        b = row_sum(b_sum + b_lost, tile)
        lo = row_sum(a + a_lost, tile) / b
        if rounds(y) > 1:  # nearer to the mean, unless one p has most of the weight: then hi is its v
            near, more = two_sum(hi, lo)
            peaked = as_type_of(top, b) > -0.6931471805599453
            hi, lo = select(peaked, hi, near), select(peaked, lo, more)
    return hi, lo, b


@inline
def safe_mean(y, y_at, v, v_at, where, where_at, tile):
    """`mean`, for v of any size, and the factor by which v had to be multiplied for it."""
    arrays = y, y_at, v, v_at, where, where_at, tile
    one_each = row_first(splat(1.0, wide_zero(y)), tile)
    hi, lo, b = mean(*arrays, one_each)
    factor = one_each
    wild = (b != 0.0) & (lo - lo != 0.0)
    if any_of(wild):  # differences are beyond the largest number, if there is no inf or NaN
        factor = select(wild, one_each * 2.0**-4, one_each)
        hi, lo, b = mean(*arrays, factor)
    return hi, lo + (lo - lo), b, factor  # an inf makes the row NaN


@inline
def distance(w, d, hi, lo, factor, zero):
    """factor·d − m, in the wider type; 0 for what is not there (or NaN in a row with NaN)."""
    r = (as_type_of(d, zero) * factor - hi) - lo
    return select(w == -np.inf, r * 0.0, r)


@inline
def log_jvp_tile(y, y_at, dx, dx_at, out, out_at, where, where_at, tile, scale):
    arrays = y, y_at, dx, dx_at, where, where_at, tile
    zero = wide_zero(y)
    hi, lo, b, factor = safe_mean(*arrays)
    for k in range(tile[0]):
        live = alive(tile, k)
        w, d = pair(*arrays, k)
        r = product(distance(w, d, hi, lo, factor, zero), splat(1.0, zero), scale) * (1.0 / factor)
        here = present(where, where_at, k, live)
        store(out, at(out_at, k), as_type_of(select(here, select(b == 0.0, 0.0, r), 0.0), w), live)


def log_jvp(y, dx, out, where, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop):
    """The jvp of the tiles `start` … `stop` − 1 into out (see `places`)."""
    y, dx, out, where = buffer(y), buffer(dx), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    for i in range(start, stop):
        log_jvp_tile(
            y,
            place_of(i, 0, grid, steps, spread, across),
            dx,
            place_of(i, 1, grid, steps, spread, across),
            out,
            place_of(i, 2, grid, steps, spread, across),
            where,
            place_of(i, 3, grid, steps, mask_spread, across),
            tile_of(i, form, across),
            scale,
        )


@inline
def log_double_backward_tile(y, y_at, dy, dy_at, v, v_at, grad_x, x_at, grad_dy, dy_out_at, tile, scale):
    arrays = y, y_at, v, v_at, None, y_at, tile
    zero = wide_zero(y)
    near, far = sums(y, y, y_at, dy, dy_at, None, y_at, tile, 1.0)
    total = as_type_of(near + far, zero)
    hi, lo, b, factor = safe_mean(*arrays)
    for k in range(tile[0]):
        live = alive(tile, k)
        w, d = pair(*arrays, k)
        r = distance(w, d, hi, lo, factor, zero)
        through_dy = product(r, splat(1.0, zero), scale) * (1.0 / factor)
        through_x = product(
            product(probability(y, w) * r, total * -1.0 + zero, scale), splat(1.0, zero), scale
        )
        through_x = through_x * (1.0 / factor)
        some = b != 0.0
        store(grad_x, at(x_at, k), as_type_of(select(some, through_x, 0.0), w), live)
        store(grad_dy, at(dy_out_at, k), as_type_of(select(some, through_dy, 0.0), w), live)


def log_double_backward(
    y, dy, v, grad_x, grad_dy, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop
):
    """Both gradients of the tiles `start` … `stop` − 1 (see `places`)."""
    y, dy, v, grad_x, grad_dy = buffer(y), buffer(dy), buffer(v), buffer(grad_x), buffer(grad_dy)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    for i in range(start, stop):
        log_double_backward_tile(
            y,
            place_of(i, 0, grid, steps, spread, across),
            dy,
            place_of(i, 1, grid, steps, spread, across),
            v,
            place_of(i, 2, grid, steps, spread, across),
            grad_x,
            place_of(i, 3, grid, steps, spread, across),
            grad_dy,
            place_of(i, 4, grid, steps, spread, across),
            tile_of(i, form, across),
            scale,
        )
