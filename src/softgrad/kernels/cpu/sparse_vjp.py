"""The vjp of sparse maps: that of `vjp`, along a row over the support alone.

Most y of a row are 0.  The others are collected first, with their dy; the mean is found from those, and
nothing but they is written twice.
"""

import numpy as np
from numba.core import types

from .buffer import buffer, release, room_of_indices
from .compiling import inline, per_type
from .mean import pair, safe_mean
from .memory import load, raw_scratch, scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, place_of, present, row_sum, table_of, tile_of
from .sums import wide_zero
from .vec import ALL_LANES, LANES, Vec, as_type_of, fma, lanes_where, lowest_bit, select
from .vjp import product
from .weights import lost


@inline
def triple(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor):
    """`vjp.pair` and what the weights lack."""
    w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor)
    return w, lost(alpha, load(y, at(y_at, k), alive(tile, k), 0.0), w), d


def refined(y, y_at, dy, dy_at, where, where_at, tile, alpha, mean):
    """The mean that `vjp.safe_mean` has found, as if the weights had not been rounded.

    With s = w + rest it is the mean of the w and ⟨rest, dy − that⟩/⟨s,1⟩.
    """
    raise NotImplementedError("compiled only")


@per_type(refined)
def compile_refined(y, y_at, dy, dy_at, where, where_at, tile, alpha, mean):
    if not isinstance(alpha, types.Float):
        return lambda y, y_at, dy, dy_at, where, where_at, tile, alpha, mean: mean

    def of_any(y, y_at, dy, dy_at, where, where_at, tile, alpha, mean):
        hi, lo, b, factor = mean
        zero = wide_zero(y)
        total = zero
        for k in range(tile[0]):
            _, rest, d = triple(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor)
            total = fma(as_type_of(rest, zero), as_type_of((d - hi) - lo, zero), total)
        more = as_type_of(row_sum(total, tile) / b, zeros(y))
        return hi, lo + select(b == 0.0, as_type_of(0.0, more), more), b, factor

    return of_any


@inline
def means(y, y_at, dy, dy_at, where, where_at, tile, alpha):
    """(hi, lo, whether there is something, factor) of each row: see `vjp.safe_mean`."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, b, factor = refined(*arrays, alpha, safe_mean(*arrays, alpha))
    return hi, lo, b != 0.0, factor


@inline
def collect(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, kept, kept_dy, places):
    """Copy the support of a row, its dy, and dy that are no numbers; note their places, and set `out` to 0.

    Returns how many these are.  The room behind them is filled with zeros up to a whole vector.
    """
    used = 0
    for k in range(tile[0]):
        w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, None, None)
        store(out, at(out_at, k), zeros(y), alive(tile, k))
        inside = lanes_where((w != 0.0) | (d - d != 0.0))
        if inside != 0:
            store(kept, used, w, LANES)
            store(kept_dy, used, d, LANES)
            first = used
            if inside == ALL_LANES:
                for lane in range(LANES):
                    places[first + lane] = LANES * k + lane
                used += LANES
            else:
                while inside != 0:
                    lane = lowest_bit(inside)
                    kept[used], kept_dy[used] = kept[first + lane], kept_dy[first + lane]
                    places[used] = LANES * k + lane
                    used += 1
                    inside &= inside - 1
    store(kept, used, zeros(y), LANES)
    store(kept_dy, used, zeros(y), LANES)
    return used


def sparse_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, room, coming):
    raise NotImplementedError("compiled only")


@per_type(sparse_tile)
def compile_sparse_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, room, coming):
    def row(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, room, coming):
        kept, kept_dy, places, ready = room
        used = collect(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, kept, kept_dy, places)
        count = -(-used // LANES)
        start = np.int64(0), np.int64(LANES)
        arrays = kept, start, kept_dy, start, None, start, (count, LANES * count, None)
        hi, lo, some, factor = means(*arrays, alpha)
        if (hi + lo) - (hi + lo) != 0.0:
            for k in range(tile[0]):
                live = alive(tile, k)
                bad = select(present(where, where_at, k, live), np.nan, zeros(y))
                store(out, at(out_at, k), bad, live)
        elif some:
            for k in range(count):
                w, d = pair(*arrays, k, alpha, factor)
                v = product((d - hi) - lo, w, scale) * (1.0 / factor)
                first, last = LANES * k, min(LANES * (k + 1), used)
                if last - first == LANES and places[last - 1] - places[first] == LANES - 1:
                    store(out, at(out_at, 0) + places[first], v, LANES)
                else:
                    store(ready, 0, v, LANES)
                    for i in range(first, last):
                        out[at(out_at, 0) + places[i]] = ready[i - first]

    def any_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, room, coming):
        arrays = y, y_at, dy, dy_at, where, where_at, tile
        hi, lo, some, factor = means(*arrays, alpha)
        for k in range(tile[0]):
            ask(coming, k)
            live = alive(tile, k)
            w, d = pair(*arrays, k, alpha, factor)
            v = select(some, product((d - hi) - lo, w, scale) * (1.0 / factor), 0.0)
            store(out, at(out_at, k), select(present(where, where_at, k, live), v, 0.0), live)

    one_row = isinstance(tile[2], types.NoneType) and not isinstance(y_at[0], Vec)
    return row if one_row else any_tile


def sparse_vjp(y, dy, out, where, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop):
    """The vjp of the tiles `start` … `stop` − 1 into out (see `places`)."""
    y, dy, out, where = buffer(y), buffer(dy), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    # of this room a row touches the front only: as much as its support takes
    size = (form[0] + 1) * LANES if across is None and spread is None else 0
    kept, kept_dy, places, ready = (
        scratch(y, size),
        scratch(y, size),
        room_of_indices(size),
        raw_scratch(out, LANES),
    )
    for i in range(start, stop):
        sparse_tile(
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
            (kept, kept_dy, places, ready),
            None,
        )
    release(kept)
    release(kept_dy)
    release(places)
    release(ready)


def sparse_vjp_packed(y, dy, out, grid, steps, form, group, alpha, scale, start, stop):
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
            sparse_tile(
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
                None,
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
