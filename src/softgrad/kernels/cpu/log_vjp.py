"""The vjp of log_softmax along a tile: dx = dy − p·Σdy, p = exp(y).

Two things cancel.  Where one p is nearly 1, its dx is what the others leave of dy: −(p − 1)·dy − p·Σ′dy, Σ′
the sum over the others, and both p − 1 and Σ′ must be as good as a number can be.  And dy may be nearly
p·Σdy throughout: then what matters is how well exp(y) is known.  So all is computed in a type *wider* than
y's; but that takes float32 twice as long as its own exp, which is good enough for most tiles.  How many
they are a bound tells (`quick_sums`).  float64 has nothing wider.
"""

import numpy as np
from numba.core import types

from .buffer import buffer, release
from .compiling import inline, per_type
from .exp import parts, power, power_of
from .log import one
from .memory import load, scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, place_of, present, row_first, row_sum, table_of, tile_of
from .softmax import KEPT
from .sums import two_sum, wide_zero
from .vec import LANES, all_of, any_of, as_type_of, double, fma, larger, select, smaller, splat
from .vjp import product

# Above this y, p is more than 3/4: of one element at most, if y is what log_softmax puts out.
NEAR = -0.25

# A y of which no type that is in use knows the exp, but for 0.
NOTHING = -60000.0


@inline
def pair(y, y_at, dy, dy_at, where, where_at, tile, k):
    """y and dy for vector k; −inf and 0 for what is masked, for what y says is not there, and behind the end.

    (What is not there says so in its y; a NaN in its dy is one all the same.)
    """
    live = alive(tile, k)
    here = present(where, where_at, k, live)
    v = select(here, load(y, at(y_at, k), live, -np.inf), -np.inf)
    d = select(here, load(dy, at(dy_at, k), live, 0.0), 0.0)
    return v, select(v == -np.inf, d * 0.0, d)


def accumulate(dtype, total, lost, d):
    """total + lost += d: without an error where y is float64 (for the others float64 is wide enough)."""
    raise NotImplementedError("compiled only")


@per_type(accumulate)
def compile_accumulate(dtype, total, lost, d):
    if dtype.dtype == types.float64:

        def exactly(dtype, total, lost, d):
            total, more = two_sum(total, d)
            return total, lost + more

        return exactly
    return lambda dtype, total, lost, d: (total + d, lost)


@inline
def sums(dtype, y, y_at, dy, dy_at, where, where_at, tile, factor):
    """Σ factor·dy of what is near y = 0 and of the others, of each row, in float64."""
    near, far, lost = double(), double(), double()
    for k in range(tile[0]):
        v, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k)
        d = as_type_of(d, near) * factor
        near = near + select(v > NEAR, d, 0.0)
        far, lost = accumulate(dtype, far, lost, select(v > NEAR, 0.0, d))
    return row_sum(near, tile), row_sum(far + lost, tile)


@inline
def wide_tile(dtype, y, y_at, dy, dy_at, out, out_at, where, where_at, tile, scale, coming):
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    zero = wide_zero(dtype)
    unit = row_first(double() + 1.0, tile)
    factor = unit
    near, far = sums(dtype, *arrays, 1.0)
    wild = near + far - (near + far) != 0.0
    if any_of(wild):  # the sum is beyond the largest number, if there is no inf or NaN in dy
        factor = select(wild, unit * 2.0**-64, unit)
        near, far = sums(dtype, *arrays, factor)
    total = near + far
    total = total + (total - total)  # an inf makes the row NaN
    # powers are kept ONE times too large: p·Σdy may be a number where p is none, or Σdy
    large = (total > 1.0) | (total < -1.0)
    shrink = select(large, unit / one(zero), unit) / factor
    lift = as_type_of(select(large, unit, unit / one(zero)), zero)
    g, others = as_type_of(total * shrink, zero), as_type_of(far * shrink, zero)
    winner = as_type_of(near / factor, zero)
    for k in range(tile[0]):
        ask(coming, k)
        live = alive(tile, k)
        v, d = pair(*arrays, k)
        t, d = as_type_of(v, zero), as_type_of(d, zero)
        w, two_k = parts(t, -0.0)
        p = power_of(t, w, two_k) * lift
        left = (d - winner) - fma(w, winner, p * others)
        dx = select(v > NEAR, left, fma(p * -1.0, g, d))
        dx = as_type_of(product(dx, splat(1.0, zero), scale), v)
        store(out, at(out_at, k), select(present(where, where_at, k, live), dx, 0.0), live)


def is_float32(array):
    raise NotImplementedError("compiled only")


@per_type(is_float32)
def compile_is_float32(array):
    answer = array.dtype == types.float32
    return lambda array: answer


def block_of(dtype):
    """How many vectors of dy are added up in the type of the lanes, before their sum joins the total."""
    raise NotImplementedError("compiled only")


@per_type(block_of)
def compile_block_of(dtype):
    size = {types.float32: 2**62, types.float64: 8}.get(dtype.dtype, 16)
    return lambda dtype: size


@inline
def plain_pair(y, y_at, dy, dy_at, where, where_at, tile, k):
    """y and dy for vector k; a y that says nothing, and 0, for what is masked and behind the last element."""
    live = alive(tile, k)
    here = present(where, where_at, k, live)
    v = select(here, load(y, at(y_at, k), live, NOTHING), NOTHING)
    return v, select(here, load(dy, at(dy_at, k), live, 0.0), 0.0)


@inline
def quick_sums(dtype, y, y_at, dy, dy_at, where, where_at, tile, kept, keep, coming):
    """Σdy of each row, and whether the tile's rows can do without `wide_tile`.

    They can where no y is −inf, or near 0.  Of float32 it is dx that is asked instead, whose error is at most
    1.25·eps·‖p·Σdy‖ + eps/2·‖dx‖: within 2·eps·‖dx‖ where ‖p·Σdy‖² ≤ 1.4·‖dx‖².  Of ‖dx‖² = ‖dy‖² −
    2·Σdy·⟨p,dy⟩ + (Σdy)²·‖p‖² two digits are needed, so sums in float32 do.  The powers are kept.
    """
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    count = tile[0]
    lowest, highest = splat(0.0, zeros(y)), splat(NOTHING, zeros(y))
    total, lost, dd, pd, pp = double(), double(), zeros(y), zeros(y), zeros(y)
    for first in range(0, count, block_of(dtype)):
        block = wide_zero(dtype)
        for k in range(first, min(first + block_of(dtype), count)):
            v, d = plain_pair(*arrays, k)
            block = block + as_type_of(d, block)
            lowest = smaller(v, lowest)
            if is_float32(dtype):
                ask(coming, k)
                p = power(v, -0.0) * (1.0 / one(v))
                dd, pd, pp = fma(d, d, dd), fma(p, d, pd), fma(p, p, pp)
                if keep:
                    store(kept, LANES * k, p, LANES)
            else:
                highest = larger(v, highest)
        total, more = two_sum(total, as_type_of(block, total))
        lost = lost + more
    total = row_sum(total + lost, tile)
    size = select(total < 0.0, total * -1.0, total)
    good = (size < 2.0**60) & (size > 2.0**-60)
    if is_float32(dtype):
        g = as_type_of(total, dd)
        margin = row_sum(fma(fma(pp * g, 0.4, pd * -2.8), g, dd * 1.4), tile)
        good = good & (margin > 2.0**-90) & (margin < np.inf)
    good = good | (total == 0.0)
    return total, all_of(good) & (not any_of((lowest == -np.inf) | (highest > NEAR)))


@inline
def log_vjp_tile(dtype, y, y_at, dy, dy_at, out, out_at, where, where_at, tile, scale, kept, keep, coming):
    """`dtype` is an array of the type that dx has in the end: 16-bit rows are packed as float32."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    total, quick = quick_sums(dtype, *arrays, kept, keep, coming)
    if not quick:
        wide_tile(dtype, y, y_at, dy, dy_at, out, out_at, where, where_at, tile, scale, coming)
        return
    g = as_type_of(total * (-1.0 / one(zeros(y))), zeros(y))
    g_kept = as_type_of(total * -1.0, zeros(y))
    for k in range(tile[0]):
        live = alive(tile, k)
        v, d = plain_pair(*arrays, k)
        if keep:
            dx = fma(load(kept, LANES * k, LANES, 0.0), g_kept, d)
        else:
            ask(coming, k)
            dx = fma(power(v, -0.0), g, d)
        dx = product(dx, splat(1.0, v), scale)
        store(out, at(out_at, k), select(present(where, where_at, k, live), dx, 0.0), live)


def log_vjp(y, dy, out, where, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop):
    """The vjp of the tiles `start` … `stop` − 1 into out (see `places`)."""
    y, dy, out, where = buffer(y), buffer(dy), buffer(out), buffer(where)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    keep = is_float32(y) and form[0] * LANES <= KEPT
    kept = scratch(y, form[0] * LANES if keep else 0)
    for i in range(start, stop):
        log_vjp_tile(
            y,
            y,
            place_of(i, 0, grid, steps, spread, across),
            dy,
            place_of(i, 1, grid, steps, spread, across),
            out,
            place_of(i, 2, grid, steps, spread, across),
            where,
            place_of(i, 3, grid, steps, mask_spread, across),
            tile_of(i, form, across),
            scale,
            kept,
            keep,
            None,
        )
    release(kept)


def log_vjp_packed(y, dy, out, grid, steps, form, group, alpha, scale, start, stop):
    """The same by way of scratch memory (see `packing`)."""
    y, dy, out = buffer(y), buffer(dy), buffer(out)
    grid, steps, form = table_of(grid), table_of(steps), (form[0], form[1], form[2])
    size = span(form[0])
    at_once = max(group, 1)
    room, room_dy = scratch(y, size * at_once), scratch(y, size * at_once)
    kept = scratch(y, size if is_float32(y) else 0)
    tile = form[0], np.int64(LANES), True
    i = start
    while i < stop:
        tiles = min(at_once, form[2] - i % form[2], stop - i)
        pack(y, 0, i, grid, steps, form, min(group, tiles), room)
        pack(dy, 1, i, grid, steps, form, min(group, tiles), room_dy)
        for g in range(tiles):
            packed = size * g, LANES
            log_vjp_tile(
                y,
                room,
                packed,
                room_dy,
                packed,
                room_dy,
                packed,
                None,
                packed,
                tile,
                scale,
                kept,
                is_float32(y),
                (
                    (y, coming_place(i + at_once + g, 0, grid, steps, group)),
                    (dy, coming_place(i + at_once + g, 1, grid, steps, group)),
                    (out, coming_place(i + g, 2, grid, steps, group)),
                ),
            )
        unpack(room_dy, out, 2, i, grid, steps, form, min(group, tiles))
        i += tiles
    for scratch_room in (room, room_dy, kept):
        release(scratch_room)
