"""softmax along a tile: y = exp(scale·x − max) / Σ exp(scale·x − max)."""

import numpy as np

from .compiling import inline
from .exp import power
from .memory import load, store, zeros
from .places import alive, ask, at, present, row_max, row_sum
from .sums import add_power, two_difference, two_sum
from .vec import LANES, as_type_of, double, fma, larger, select, splat

# The powers of a tile are kept between the sweeps if they are at most this many; else they are
# computed once more, which is cheaper than to fetch them from beyond the second-level cache.
KEPT = 131072


@inline
def logits(x, x_at, where, where_at, tile, k, sign):
    """sign·x for vector k; −inf for what is masked and for the lanes behind the last element."""
    live = alive(tile, k)
    v = load(x, at(x_at, k), live, -np.inf * sign) * sign
    return select(present(where, where_at, k, live), v, -np.inf)


@inline
def argument(v, top, scale):
    """scale·(v − top), and what rounding took from it.

    The scale is (factor + low_part)·power_of_two.  Half of v and of top have a difference for certain, which
    a small scale may make a number that counts.
    """
    factor, low_part, power_of_two = scale
    if factor == 1.0 and power_of_two == 1.0:
        return two_difference(v, top)
    if factor == 0.0:
        return select(v == -np.inf, v, v * 0.0), v * 0.0
    difference, lost = two_difference(v * 0.5, top * 0.5)
    difference, lost = difference * power_of_two, lost * power_of_two
    t = difference * factor
    rest = fma(difference, factor, t * -1.0) + fma(lost, factor, difference * low_part)
    return t * 2.0, rest * 2.0


@inline
def powers(v, top, scale):
    """exp(scale·(v − top))·ONE.  What v − top and its product with the scale lose goes along."""
    t, rest = argument(v, top, scale)
    return power(t, rest)


@inline
def inverse_of(total, rest, like):
    """1/(total + rest) as the sum of two numbers of the type of `like`; `rest` is below an ulp."""
    inverse = 1.0 / total
    error = (fma(total, inverse, -1.0) + rest * inverse) * inverse
    hi = as_type_of(inverse, like)
    return hi, as_type_of((inverse - as_type_of(hi, inverse)) - error, like)


@inline
def softmax_tile(
    x, x_at, out, out_at, where, where_at, tile, sign, scale, nothing, kept, kept_at, keep, coming
):
    count = tile[0]

    top = splat(-np.inf, zeros(x))
    for k in range(count):
        v = logits(x, x_at, where, where_at, tile, k, sign)
        top = larger(v, top)
        if keep:
            store(kept, kept_at + LANES * k, v, LANES)
    highest = row_max(top, tile)
    highest = select(
        highest == -np.inf, as_type_of(0.0, highest), highest
    )  # an empty row; −inf − −inf would make it NaN

    total, rest = double(), double()
    for k in range(count):
        v = (
            load(kept, kept_at + LANES * k, LANES, 0.0)
            if keep
            else logits(x, x_at, where, where_at, tile, k, sign)
        )
        e = powers(v, highest, scale)
        total, rest = add_power(total, rest, e)
        ask(coming, k)
        if keep:
            store(kept, kept_at + LANES * k, e, LANES)
    total, rest = two_sum(row_sum(total, tile), row_sum(rest, tile))
    empty = total == 0.0
    hi, lo = inverse_of(total, rest, highest)
    hi, lo = select(empty, as_type_of(nothing, hi), hi), select(empty, as_type_of(0.0, lo), lo)
    for k in range(count):
        if keep:
            e = load(kept, kept_at + LANES * k, LANES, 0.0)
        else:
            e = powers(logits(x, x_at, where, where_at, tile, k, sign), highest, scale)
        live = alive(tile, k)
        y = fma(e, hi, e * lo)
        store(out, at(out_at, k), select(present(where, where_at, k, live), y, select(empty, y, 0.0)), live)
