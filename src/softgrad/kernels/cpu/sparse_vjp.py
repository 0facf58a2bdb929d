"""The vjp of sparse maps: that of `vjp`, over the support alone.

Most y of a row are 0.  Along a row the others are collected first, with their dy, and the mean is found from
those.
"""

import numpy as np
from numba.core import types

from .buffer import buffer, release
from .compiling import inline, per_type
from .mean import pair, safe_mean
from .memory import load, scratch, store, zeros
from .packing import coming_place, pack, span, squeeze, unpack
from .places import alive, ask, at, place_of, present, row_sum, table_of, tile_of
from .sums import wide_zero
from .vec import ALL_LANES, LANES, any_of, as_type_of, fma, lanes_where, select
from .vjp import product
from .weights import lost, weight


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
def collect(y, y_at, dy, dy_at, where, where_at, tile, kept, kept_dy):
    """Copy the support of a row to `kept`, and its dy; also dy that are no numbers.  Returns how many."""
    used = 0
    for k in range(tile[0]):
        w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, None, None)
        outside = ALL_LANES ^ lanes_where((w != 0.0) | (d - d != 0.0))
        if outside != ALL_LANES:
            store(kept, used, w, LANES)
            store(kept_dy, used, d, LANES)
            squeeze(kept, used, outside)
            used = squeeze(kept_dy, used, outside)
    return used


@inline
def means(y, y_at, dy, dy_at, where, where_at, tile, alpha):
    """(hi, lo, whether there is something, factor) of each row: see `vjp.safe_mean`."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, b, factor = refined(*arrays, alpha, safe_mean(*arrays, alpha))
    return hi, lo, b != 0.0, factor


def mean_of_support(y, y_at, dy, dy_at, where, where_at, tile, alpha, kept, kept_dy):
    """`means`, of the support alone where that can be collected."""
    raise NotImplementedError("compiled only")


@per_type(mean_of_support)
def compile_mean_of_support(y, y_at, dy, dy_at, where, where_at, tile, alpha, kept, kept_dy):
    def along(y, y_at, dy, dy_at, where, where_at, tile, alpha, kept, kept_dy):
        used = collect(y, y_at, dy, dy_at, where, where_at, tile, kept, kept_dy)
        place = np.int64(0), np.int64(LANES)
        return means(kept, place, kept_dy, place, None, place, (-(-used // LANES), used, None), alpha)

    def across(y, y_at, dy, dy_at, where, where_at, tile, alpha, kept, kept_dy):
        return means(y, y_at, dy, dy_at, where, where_at, tile, alpha)

    return along if isinstance(tile[2], types.NoneType) else across


@inline
def sparse_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, kept, kept_dy, coming):
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, some, factor = mean_of_support(*arrays, alpha, kept, kept_dy)
    whole = hi + lo
    plain = not any_of((factor != 1.0) | (some != some) | (whole != whole))
    for k in range(tile[0]):
        ask(coming, k)
        live = alive(tile, k)
        v = zeros(y)
        if plain:
            w, d = pair(*arrays, k, None, None)
            if alpha == 1.5 or alpha == 2 or lanes_where(w != 0.0) != 0:  # others have costly weights
                v = select(w != 0.0, product((d - hi) - lo, weight(alpha, w), scale), 0.0)
        else:
            w, d = pair(*arrays, k, alpha, factor)
            v = select(some, product((d - hi) - lo, w, scale) * (1.0 / factor), 0.0)
            v = select(present(where, where_at, k, live), v, 0.0)
        store(out, at(out_at, k), v, live)


def sparse_vjp(y, dy, out, where, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop):
    """The vjp of the tiles `start` … `stop` − 1 into out (see `places`)."""
    y, dy, out, where = buffer(y), buffer(dy), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    size = (form[0] + 1) * LANES if across is None else 0  # of which a small support touches the front only
    kept, kept_dy = scratch(y, size), scratch(y, size)
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
            kept,
            kept_dy,
            None,
        )
    release(kept)
    release(kept_dy)


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
                room,
                room_dy,
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
