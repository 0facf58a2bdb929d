"""log_softmax along a tile: y = scale·x − max − log Σ exp(scale·x − max)."""

import numpy as np
from numba.core import types

from .buffer import BFLOAT16, FLOAT16, buffer, release
from .compiling import inline, per_type
from .exp import power
from .log import add_apart, block_of, log_of_sum
from .memory import load, scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, place_of, present, row_max, row_sum, table_of, tile_of
from .softmax import KEPT, argument, logits, powers
from .sums import two_difference, wide_zero
from .vec import LANES, as_type_of, double, larger, select, splat


def log_power(dtype, v, top, scale):
    """exp(scale·(v − top))·ONE, for the sum: as good as its logarithm has to be."""
    raise NotImplementedError("compiled only")


@per_type(log_power)
def compile_log_power(dtype, v, top, scale):
    if dtype.dtype in (FLOAT16, BFLOAT16):  # float32 has bits to spare

        def rounded(dtype, v, top, scale):
            return power(v - top, -0.0) if scale[0] == 1.0 and scale[2] == 1.0 else powers(v, top, scale)

        return rounded
    return lambda dtype, v, top, scale: powers(v, top, scale)


def less(dtype, v, top, scale, hi, lo):
    """scale·(v − top) − (hi + lo), rounded once, or in something wider and then to x's type."""
    raise NotImplementedError("compiled only")


@per_type(less)
def compile_less(dtype, v, top, scale, hi, lo):
    if dtype.dtype == types.float64:

        def in_two_parts(dtype, v, top, scale, hi, lo):
            t, lost = argument(v, top, scale)
            y, more = two_difference(t, hi)
            return select(y == -np.inf, y, y + (more + (lost - lo)))  # there is no `more` of −inf

        return in_two_parts

    def in_wider(dtype, v, top, scale, hi, lo):
        zero = wide_zero(dtype)
        if scale[0] == 1.0 and scale[2] == 1.0:
            return as_type_of((as_type_of(v, zero) - as_type_of(top, zero)) - hi, v)
        t, lost = argument(v, top, scale)
        lost = select(t == -np.inf, 0.0, lost)
        return as_type_of((as_type_of(t, zero) + as_type_of(lost, zero)) - hi, v)

    return in_wider


@inline
def log_softmax_tile(
    dtype, x, x_at, out, out_at, where, where_at, tile, sign, scale, nothing, kept, kept_at, keep, coming
):
    """`dtype` is an array of the type that out has in the end: 16-bit rows are packed as float32."""
    count = tile[0]

    top = splat(-np.inf, zeros(dtype))
    for k in range(count):
        v = logits(x, x_at, where, where_at, tile, k, sign)
        top = larger(v, top)
        if keep:
            store(kept, kept_at + LANES * k, v, LANES)
    highest = row_max(top, tile)
    highest = select(highest == -np.inf, as_type_of(0.0, highest), highest)  # of an empty row

    whole, rest = double(), double()
    for first in range(0, count, block_of(dtype)):
        ones, others = zeros(dtype), wide_zero(dtype)
        for k in range(first, min(first + block_of(dtype), count)):
            v = (
                load(kept, kept_at + LANES * k, LANES, 0.0)
                if keep
                else logits(x, x_at, where, where_at, tile, k, sign)
            )
            ones, others = add_apart(ones, others, log_power(dtype, v, highest, scale))
            ask(coming, k)
        whole, rest = whole + as_type_of(ones, whole), rest + as_type_of(others, rest)
    whole, rest = row_sum(whole, tile), row_sum(rest, tile)
    hi, lo = log_of_sum(dtype, whole, rest)
    # −inf less `nothing` is its logarithm: −inf for 0, NaN for NaN
    empty = (whole == 0.0) & (rest == 0.0)
    hi = select(empty, as_type_of(nothing, hi), hi)

    for k in range(count):
        v = (
            load(kept, kept_at + LANES * k, LANES, 0.0)
            if keep
            else logits(x, x_at, where, where_at, tile, k, sign)
        )
        y = less(dtype, v, highest, scale, hi, lo)
        live = alive(tile, k)
        here = present(where, where_at, k, live)
        store(out, at(out_at, k), select(here, y, select(empty, y, -np.inf)), live)


def log_softmax(
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
    """log_softmax of the tiles `start` … `stop` − 1 of x into out (see `places`)."""
    x, out, where = buffer(x), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    keep = form[0] * LANES <= KEPT
    kept = scratch(x, form[0] * LANES if keep else 0)
    for i in range(start, stop):
        log_softmax_tile(
            x,
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


def log_softmax_packed(
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
            log_softmax_tile(
                x,
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
