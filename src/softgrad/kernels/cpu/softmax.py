"""softmax along a tile: y = exp(scale·x − max) / Σ exp(scale·x − max)."""

import numpy as np

from .buffer import buffer, release
from .compiling import inline
from .exp import power
from .memory import load, scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, place_of, present, row_max, row_sum, table_of, tile_of
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


def softmax(
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
    nothing,
    start,
    stop,
):
    """Softmax of the tiles `start` … `stop` − 1 of x into out (see `places`)."""
    x, out, where = buffer(x), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    keep = form[0] * LANES <= KEPT
    kept = scratch(x, form[0] * LANES if keep else 0)
    for i in range(start, stop):
        softmax_tile(
            x,
            place_of(i, 0, grid, steps, spread, across),
            out,
            place_of(i, 1, grid, steps, spread, across),
            where,
            place_of(i, 2, grid, steps, mask_spread, across),
            tile_of(i, form, across),
            sign,
            (factor, low_part, power_of_two),
            nothing,
            kept,
            0,
            keep,
            (
                (x, place_of(i + 1, 0, grid, steps, spread, across)),
                (out, place_of(i, 1, grid, steps, spread, across)),
            ),
        )
    release(kept)


def softmax_packed(
    x, out, grid, steps, form, group, sign, factor, low_part, power_of_two, nothing, start, stop
):
    """The same by way of scratch memory (see `packing`)."""
    x, out = buffer(x), buffer(out)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    size = span(form[0])
    at_once = max(group, 1)
    room = scratch(x, size * at_once)
    tile = form[0], np.int64(LANES), True
    i = start
    while i < stop:
        tiles = min(at_once, form[2] - i % form[2], stop - i)
        pack(x, 0, i, grid, steps, form, min(group, tiles), room)
        for g in range(tiles):
            packed = size * g, LANES
            softmax_tile(
                room,
                packed,
                room,
                packed,
                None,
                packed,
                tile,
                sign,
                (factor, low_part, power_of_two),
                nothing,
                room,
                size * g,
                True,
                (
                    (x, coming_place(i + at_once + g, 0, grid, steps, group)),
                    (out, coming_place(i + g, 1, grid, steps, group)),
                ),
            )
        unpack(room, out, 1, i, grid, steps, form, min(group, tiles))
        i += tiles
    release(room)
