"""sparsemax and entmax along a tile: its largest logits, their threshold (see `threshold`), and y."""

import numpy as np

from .buffer import buffer, release
from .compiling import inline
from .memory import scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, place_of, present, row_max, table_of, tile_of
from .softmax import KEPT, logits
from .threshold import border, collect, result, solve
from .vec import ALL_LANES, LANES, as_type_of, lanes_where, larger, select, splat


@inline
def entmax_tile(x, x_at, out, out_at, where, where_at, tile, sign, scale, nothing, alpha, kept, coming):
    count = tile[0]
    top = splat(-np.inf, zeros(x))
    for k in range(count):
        ask(coming, k)
        top = larger(logits(x, x_at, where, where_at, tile, k, sign), top)
    highest = row_max(top, tile)
    highest = select(highest == -np.inf, as_type_of(0.0, highest), highest)

    low = border(highest, 1.0, alpha, scale)
    used = collect(x, x_at, where, where_at, tile, sign, kept, -1, low)
    state, excess = solve(x, x_at, where, where_at, tile, sign, kept, used, highest, alpha, scale)
    reference, c, _, _ = state
    low = border(reference, c, alpha, scale)

    empty = excess == -1.0
    special = empty | (excess != excess)
    instead = as_type_of(select(empty, as_type_of(nothing, excess), excess), zeros(x))
    for k in range(count):
        v = logits(x, x_at, where, where_at, tile, k, sign)
        y = zeros(x)
        if lanes_where(v < low) != ALL_LANES:
            y = as_type_of(result(v, state, alpha, scale)[0], y)
        y = select(special, instead, y)
        live = alive(tile, k)
        store(out, at(out_at, k), select(present(where, where_at, k, live), y, select(empty, y, 0.0)), live)


def entmax(
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
    alpha,
    start,
    stop,
):
    """entmax of the tiles `start` … `stop` − 1 of x into out (see `places`)."""
    x, out, where = buffer(x), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    size = min(form[0] * LANES, KEPT) + LANES
    kept = scratch(x, size)
    for i in range(start, stop):
        entmax_tile(
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
            alpha,
            (kept, size),
            (
                (x, place_of(i + 1, 0, grid, steps, spread, across)),
                (out, place_of(i, 1, grid, steps, spread, across)),
            ),
        )
    release(kept)


def entmax_packed(
    x, out, grid, steps, form, group, sign, factor, low_part, power_of_two, nothing, alpha, start, stop
):
    """The same by way of scratch memory (see `packing`)."""
    x, out = buffer(x), buffer(out)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    size = span(form[0])
    at_once = max(group, 1)
    room, kept = scratch(x, size * at_once), scratch(x, size + LANES)
    tile = form[0], np.int64(LANES), True
    i = start
    while i < stop:
        tiles = min(at_once, form[2] - i % form[2], stop - i)
        pack(x, 0, i, grid, steps, form, min(group, tiles), room)
        for g in range(tiles):
            packed = size * g, LANES
            entmax_tile(
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
                alpha,
                (kept, size + LANES),
                (
                    (x, coming_place(i + at_once + g, 0, grid, steps, group)),
                    (out, coming_place(i + g, 1, grid, steps, group)),
                ),
            )
        unpack(room, out, 1, i, grid, steps, form, min(group, tiles))
        i += tiles
    release(room)
    release(kept)
