"""The product of a simplex map's Jacobian with a vector, along a tile: dx = s ∘ (dy − ⟨s,dy⟩/⟨s,1⟩).

J is symmetric, so this is the vjp and the jvp.  The mean, and what it takes to have it right, is in `mean`.
"""

import numpy as np
from numba.core import types

from .buffer import buffer, release
from .compiling import inline, per_type
from .mean import (
    exact_sums,
    far_off,
    in_lanes,
    is_float64,
    lanes_of,
    mean,
    out_of_range,
    pair,
    safe_mean,
    sums_about_first,
)
from .memory import load, scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, cut_at_line, place_of, present, table_of, tile_of, whole
from .sums import two_sum, wide_scratch, wide_zero
from .vec import LANES, any_of, as_type_of, double, select


def product(v, w, scale):
    """v·w·scale: a step on the way is not out of range unless the result is."""
    raise NotImplementedError("compiled only")


@per_type(product)
def compile_product(v, w, scale):
    if v.dtype == types.float64:

        def of_doubles(v, w, scale):
            if scale == 1.0:
                return v * w
            return (w * scale) * v if abs(scale) > 1.0 else (v * w) * scale

        return of_doubles

    def of_singles(v, w, scale):
        if scale == 1.0:
            return v * w
        return as_type_of(as_type_of(v, double()) * as_type_of(w, double()) * scale, v)

    return of_singles


@inline
def write(y, y_at, dy, dy_at, where, where_at, tile, out, out_at, alpha, scale, hi, lo, coming):
    """s ∘ (dy − (hi + lo)) · scale: the sweep that writes."""
    cut = cut_at_line(out, out_at, (y_at, dy_at, where_at), tile)
    if cut[0] > 0:
        some = cut[0]
        w, d = lanes_of(y, y_at, dy, dy_at, where, where_at, 0, some, alpha, None)
        v = product((d - hi) - lo, w, scale)
        store(out, at(out_at, 0), select(present(where, where_at, 0, some), v, 0.0), some)
    _, out_at, (y_at, dy_at, where_at), tile = cut
    arrays = y, y_at, dy, dy_at, where, where_at
    for k in range(whole(tile)):
        ask(coming, k)
        w, d = lanes_of(*arrays, k, LANES, alpha, None)
        v = product((d - hi) - lo, w, scale)
        store(out, at(out_at, k), select(present(where, where_at, k, LANES), v, 0.0), LANES)
    for k in range(whole(tile), tile[0]):
        ask(coming, k)
        live = alive(tile, k)
        w, d = pair(*arrays, tile, k, alpha, None)
        v = product((d - hi) - lo, w, scale)
        store(out, at(out_at, k), select(present(where, where_at, k, live), v, 0.0), live)


@inline
def careful_tile(y, y_at, dy, dy_at, where, where_at, tile, out, out_at, alpha, scale):
    """The vjp of a tile in which there may be anything."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, b, factor = safe_mean(*arrays, alpha)
    for k in range(tile[0]):
        live = alive(tile, k)
        w, d = pair(*arrays, k, alpha, factor)
        v = select(b == 0.0, 0.0, product((d - hi) - lo, w, scale) * (1.0 / factor))
        store(out, at(out_at, k), select(present(where, where_at, k, live), v, 0.0), live)


@inline
def vjp_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, coming):
    """The vjp of a tile: the means of its rows, then the rows."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, b = mean(*arrays, alpha, None)
    if any_of(out_of_range(y, hi, lo, b)):
        careful_tile(*arrays, out, out_at, alpha, scale)
    else:
        write(*arrays, out, out_at, alpha, scale, hi, lo, coming)


# The lines that will be written are asked for while a row is summed, which leaves the memory time for it. It
# does not pay for a row of so few vectors, and beyond so many the second-level cache does not hold them.
ASK_FROM, ASK_UP_TO = 8, 1024

# Rows are done in groups of at most this many elements: y and dy of a group stay in the second-level cache.
GROUP = 2048


@inline
def row(i, y, dy, where, grid, steps, form, spread, mask_spread):
    """Row number i, as `sums` takes it."""
    return (
        y,
        place_of(i, 0, grid, steps, spread, None),
        dy,
        place_of(i, 1, grid, steps, spread, None),
        where,
        place_of(i, 3, grid, steps, mask_spread, None),
        tile_of(i, form, None),
    )


@inline
def settle(y, reference, first, a, b, top, careful):
    """hi + lo = reference + a/b, the means of a group of rows, into `reference` and `first`.

    `careful` becomes 1 for the rows for which that is not enough (see `mean`).
    """
    total, w, heavy = load(b, 0, LANES, 0.0), load(first, 0, LANES, 0.0), load(top, 0, LANES, 0.0)
    hi, lo = two_sum(load(reference, 0, LANES, 0.0), load(a, 0, LANES, 0.0) / total)
    hard = (heavy > total * 0.5) | far_off(y, w, heavy, total) | out_of_range(y, hi, lo, total)
    store(reference, 0, hi, LANES)
    store(first, 0, lo, LANES)
    store(careful, 0, select(hard, 1.0, wide_zero(y)), LANES)


@inline
def vjp_rows(y, dy, out, where, grid, steps, form, spread, mask_spread, alpha, scale, start, stop):
    """The vjp of rows, the means of a group of them at once: one row's steps wait for each other."""
    layout = y, dy, where, grid, steps, form, spread, mask_spread
    like = zeros(y)
    reference, first, a = wide_scratch(y, LANES), wide_scratch(y, LANES), wide_scratch(y, LANES)
    b, top, careful = wide_scratch(y, LANES), wide_scratch(y, LANES), wide_scratch(y, LANES)
    hi, lo = reference, first  # which take their places
    at_once = max(1, min(LANES, GROUP // (form[0] * LANES)))
    asked = form[0] if ASK_FROM <= form[0] <= ASK_UP_TO else 0
    for here in range(start, stop, at_once):
        rows = min(at_once, stop - here)
        for r in range(rows):
            out_at = place_of(here + r, 2, grid, steps, spread, None)
            found = sums_about_first(*row(here + r, *layout), alpha, None, ((out, out_at),), asked)
            reference[r], first[r], a[r], b[r], top[r] = found
        settle(y, reference, first, a, b, top, careful)
        if is_float64(y):
            for r in range(rows):
                if careful[r] == 0.0:
                    a_r, b_r = exact_sums(
                        *row(here + r, *layout),
                        alpha,
                        None,
                        as_type_of(hi[r], like),
                        as_type_of(top[r], like),
                    )
                    lo[r] = a_r / b_r
        for r in range(rows):
            i = here + r
            out_at = place_of(i, 2, grid, steps, spread, None)
            if careful[r] == 0.0:
                head, tail = in_lanes(hi[r], lo[r], like)
                write(*row(i, *layout), out, out_at, alpha, scale, head, tail, None)
            else:
                careful_tile(*row(i, *layout), out, out_at, alpha, scale)
    for room in (reference, first, a, b, top, careful):
        release(room)


def vjp(y, dy, out, where, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop):
    """The vjp of the tiles `start` … `stop` − 1 into out (see `places`)."""
    y, dy, out, where = buffer(y), buffer(dy), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    if across is None:
        vjp_rows(y, dy, out, where, grid, steps, form, spread, mask_spread, alpha, scale, start, stop)
    else:
        for i in range(start, stop):
            vjp_tile(
                y,
                place_of(i, 0, grid, steps, spread, across),
                dy,
                place_of(i, 1, grid, steps, spread, across),
                out,
                place_of(i, 2, grid, steps, spread, across),
                where,
                place_of(i, 3, grid, steps, mask_spread, across),
                tile_of(i, form, across),
                alpha,
                scale,
                None,
            )


def vjp_packed(y, dy, out, grid, steps, form, group, alpha, scale, start, stop):
    """The same by way of scratch memory (see `packing`)."""
    y, dy, out = buffer(y), buffer(dy), buffer(out)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    size = span(form[0])
    at_once = max(group, 1)
    room, room_dy = scratch(y, size * at_once), scratch(y, size * at_once)
    tile = form[0], np.int64(LANES), True
    i = start
    while i < stop:
        tiles = min(at_once, form[2] - i % form[2], stop - i)
        pack(y, 0, i, grid, steps, form, min(group, tiles), room)
        pack(dy, 1, i, grid, steps, form, min(group, tiles), room_dy)
        for g in range(tiles):
            packed = size * g, LANES
            vjp_tile(
                room,
                packed,
                room_dy,
                packed,
                room_dy,
                packed,
                None,
                packed,
                tile,
                alpha,
                scale,
                (
                    (y, coming_place(i + at_once + g, 0, grid, steps, group)),
                    (dy, coming_place(i + at_once + g, 1, grid, steps, group)),
                    (out, coming_place(i + g, 2, grid, steps, group)),
                ),
            )
        unpack(room_dy, out, 2, i, grid, steps, form, min(group, tiles))
        i += tiles
    release(room)
    release(room_dy)
