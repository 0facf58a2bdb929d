"""logsumexp and the entropy of softmax along a tile, and their gradients: one number for each row.

With t = scale·x − max, S = Σ exp(t) and A = Σ t·exp(t),

    logsumexp = max + log S            its gradient  p,            p = exp(t)/S
    entropy   = log S − A/S            its gradient  −p ∘ (t − A/S)

No logarithm of a p is taken, so a p that is 0 is no NaN.  Both terms of the entropy are positive; where one
p is nearly 1 they are as small as what the others come to, and as exact.
"""

import numpy as np
from numba.core import types

from .buffer import buffer
from .compiling import inline, per_type
from .exp import power
from .log import add_apart, block_of, log_of_sum
from .mean import is_float64
from .memory import load, store, zeros
from .places import alive, at, place_of, present, row_max, row_sum, table_of, tile_of
from .softmax import argument, inverse_of, logits
from .sums import two_sum, wide_zero
from .vec import any_of, as_type_of, double, first_of, fma, larger, select, splat
from .vjp import product

# --- one number of each row ----------------------------------------------------------------------------


def load_row(array, place, tile):
    """What `array` has for the rows of the tile: a number, or a Vec (as `places.row_sum`)."""
    raise NotImplementedError("compiled only")


@per_type(load_row)
def compile_load_row(array, place, tile):
    if isinstance(tile[2], types.NoneType):
        return lambda array, place, tile: first_of(load(array, at(place, 0), 1, 0.0))
    return lambda array, place, tile: load(array, at(place, 0), tile[1], 0.0)


def store_row(array, place, value, tile):
    """Write one number for each row of the tile."""
    raise NotImplementedError("compiled only")


@per_type(store_row)
def compile_store_row(array, place, value, tile):
    if isinstance(tile[2], types.NoneType):
        return lambda array, place, value, tile: store(array, at(place, 0), splat(value, zeros(array)), 1)
    return lambda array, place, value, tile: store(array, at(place, 0), value, tile[1])


# --- the sums ------------------------------------------------------------------------------------------


@inline
def highest_of(x, x_at, where, where_at, tile, sign):
    """max sign·x of each row; 0 for an empty one."""
    top = splat(-np.inf, zeros(x))
    for k in range(tile[0]):
        top = larger(logits(x, x_at, where, where_at, tile, k, sign), top)
    top = row_max(top, tile)
    return select(top == -np.inf, as_type_of(0.0, top), top)


@inline
def sums(x, x_at, where, where_at, tile, sign, scale, top, reference):
    """S·ONE of each row in two parts (see `log.add_apart`), and Σ (t − reference)·exp(t)·ONE."""
    whole, rest, moment, lost = double(), double(), double(), double()
    for first in range(0, tile[0], block_of(x)):
        ones, others = zeros(x), wide_zero(x)
        for k in range(first, min(first + block_of(x), tile[0])):
            t, low = argument(logits(x, x_at, where, where_at, tile, k, sign), top, scale)
            e = power(t, low)
            ones, others = add_apart(ones, others, e)
            term = as_type_of(e, moment) * ((as_type_of(t, moment) - reference) + as_type_of(low, moment))
            moment, more = two_sum(moment, select(e == 0.0, 0.0, term))
            lost = lost + more
        whole, rest = whole + as_type_of(ones, whole), rest + as_type_of(others, rest)
    return row_sum(whole, tile), row_sum(rest, tile), row_sum(moment + lost, tile)


# --- the reductions ------------------------------------------------------------------------------------


@inline
def logsumexp(x, x_at, where, where_at, tile, sign, scale, top, whole, rest):
    """max + log S of each row, in float64 (of float64 in two parts until the end)."""
    hi, lo = log_of_sum(x, whole, rest)
    t, lost = argument(splat(1.0, zeros(x)) * top, zeros(x), scale)
    t, lost = as_type_of(row_max(t, tile), whole), as_type_of(row_max(lost, tile), whole)
    s, more = two_sum(t, as_type_of(hi, t))
    result = select(s - s == 0.0, s + (more + (lost + as_type_of(lo, t))), s)
    if any_of(top == np.inf):  # which is the result, unless there is a NaN
        odd = zeros(x)
        for k in range(tile[0]):
            v = logits(x, x_at, where, where_at, tile, k, sign)
            odd = select(v != v, 1.0, odd)
        result = select((top == np.inf) & (row_max(odd, tile) == 0.0), as_type_of(top, result), result)
    return select((whole == 0.0) & (rest == 0.0), whole - np.inf, result)


@inline
def entropy(x, whole, rest, moment):
    """log S − A/S of each row, in float64."""
    hi, lo = log_of_sum(x, whole, rest)
    result = as_type_of(hi, whole) + (as_type_of(lo, whole) - moment / (whole + rest))
    return select((whole == 0.0) & (rest == 0.0), whole, result)


@inline
def reduction_tile(x, x_at, out, out_at, where, where_at, tile, sign, scale, of_entropy):
    arrays = x, x_at, where, where_at, tile, sign
    top = highest_of(*arrays)
    whole, rest, moment = sums(*arrays, scale, top, 0.0)
    result = entropy(x, whole, rest, moment) if of_entropy else logsumexp(*arrays, scale, top, whole, rest)
    store_row(out, out_at, as_type_of(result, zeros(x)), tile)


def reduction(
    x,
    out,
    where,
    grid,
    steps,
    form,
    spread,
    mask_spread,
    across,
    sign,
    factor,
    low_part,
    power_of_two,
    of_entropy,
    start,
    stop,
):
    """The entropies, or the logsumexps, of the tiles `start` … `stop` − 1 of x into out (see `places`)."""
    x, out, where = buffer(x), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    for i in range(start, stop):
        reduction_tile(
            x,
            place_of(i, 0, grid, steps, spread, across),
            out,
            place_of(i, 1, grid, steps, spread, across),
            where,
            place_of(i, 2, grid, steps, mask_spread, across),
            tile_of(i, form, across),
            sign,
            (factor, low_part, power_of_two),
            of_entropy,
        )


# --- their gradients -----------------------------------------------------------------------------------


@inline
def reduction_vjp_tile(
    x, x_at, dy, dy_at, out, out_at, where, where_at, tile, sign, scale, of_entropy, times
):
    """times·dy·p, or −times·dy·p ∘ (t − A/S) of the entropy; 0 in an empty row."""
    arrays = x, x_at, where, where_at, tile, sign
    zero = wide_zero(x)
    top = highest_of(*arrays)
    whole, rest, moment = sums(*arrays, scale, top, 0.0)
    empty = (whole == 0.0) & (rest == 0.0)
    whole, rest = two_sum(whole, rest)
    inverse, low_inverse = inverse_of(whole, rest, zero)
    quotient = moment / whole
    error = 0.0 * quotient
    if is_float64(x):  # what is left of t may be small beside its mean, whose sum has lost bits
        _, _, moment = sums(*arrays, scale, top, quotient)
        quotient, error = two_sum(quotient, moment / whole)
    mean = as_type_of(quotient, zero)
    low_mean = as_type_of((quotient - as_type_of(mean, quotient)) + error, zero)
    g = splat(1.0, zero) * as_type_of(load_row(dy, dy_at, tile), zero)
    for k in range(tile[0]):
        live = alive(tile, k)
        t, low = argument(logits(x, x_at, where, where_at, tile, k, sign), top, scale)
        e = as_type_of(power(t, low), zero)
        dx = fma(e, inverse, e * low_inverse)
        if of_entropy:
            centred = (mean - as_type_of(t, zero)) + (low_mean - as_type_of(low, zero))
            dx = select(e == 0.0, mean - mean, dx * centred)  # t may be −inf; but a NaN in the row stays
        dx = as_type_of(select(empty, 0.0, product(dx, g, times)), zeros(x))
        store(out, at(out_at, k), select(present(where, where_at, k, live), dx, 0.0), live)


def reduction_vjp(
    x,
    dy,
    out,
    where,
    grid,
    steps,
    form,
    spread,
    mask_spread,
    across,
    sign,
    factor,
    low_part,
    power_of_two,
    of_entropy,
    times,
    start,
    stop,
):
    """The gradients of the tiles `start` … `stop` − 1 into out (see `places`)."""
    x, dy, out, where = buffer(x), buffer(dy), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    for i in range(start, stop):
        reduction_vjp_tile(
            x,
            place_of(i, 0, grid, steps, spread, across),
            dy,
            place_of(i, 1, grid, steps, spread, across),
            out,
            place_of(i, 2, grid, steps, spread, across),
            where,
            place_of(i, 3, grid, steps, mask_spread, across),
            tile_of(i, form, across),
            sign,
            (factor, low_part, power_of_two),
            of_entropy,
            times,
        )
