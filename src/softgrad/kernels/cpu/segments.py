"""softmax and its vjp in segments: runs of rows, of any lengths, given by the places where they begin.

Most segments are short, so vectors are in parts (see `parts`).  Where the elements of a segment are
neighbours in memory, a few segments that follow each other share a tile; where features are side by side, a
vector has a few rows of a segment.  What a segment gives does not depend on those that it shares a tile with.

Of a kernel's arguments, `grid` and `steps` are as in `places`, `steps` being along the axis; `form` is (rows,
width, tiles): how many rows there are beside the axis, how many features side by side, and into how many
tiles these are cut.  Segment s is offsets[s] … offsets[s + 1] − 1, block b has the segments edges[b] …
edges[b + 1] − 1, and `start` … `stop` − 1 are the numbers of pairs of a block and a row.
"""

import numpy as np

from .buffer import buffer, release
from .compiling import inline
from .mean import is_float64, pair
from .memory import scratch, store, zeros
from .parts import (
    below,
    both,
    firsts_of,
    from_0,
    in_parts,
    minus,
    only,
    plus,
    ratio,
    sums_of,
    taken,
    times,
)
from .places import alive, ask, at, distance, row_first, row_sum, stride, table_of
from .softmax import KEPT, softmax_tile
from .vec import LANES, any_of, as_type_of, double, fma, select
from .vjp import product, vjp_tile

# Longer segments have tiles to themselves.
SHORT = 256

# The memory is asked for what comes so many vectors later: segments are too short to fetch just the next.
AHEAD = 16

NOWHERE = np.int64(0), np.int64(0)  # the place of a mask that is not there


# --- the elements of a segment are neighbours: tiles and places of one, and of some that share a tile -----


@inline
def tile_of_one(size):
    return (size + LANES - 1) // LANES, size, None


@inline
def place_of_one(start, row):
    return start + row, np.int64(LANES)


@inline
def tile_of_some(sizes):
    width = LANES // len(sizes)
    return (max(sizes) + width - 1) // width, sizes, None


@inline
def place_of_some(starts, row):
    return plus(starts, row), np.int64(LANES // len(starts))


@inline
def place_to_come(starts, row):
    return starts[0] + row + AHEAD * LANES, np.int64(LANES)


# --- features are side by side -------------------------------------------------------------------------


@inline
def tile_across(size, features, parts):
    return (size + len(parts) - 1) // len(parts), minus(size, from_0(parts)), features


@inline
def place_across(start, row, stride, parts):
    return plus(times(from_0(parts), stride), start * stride + row), stride * len(parts)


@inline
def place_across_to_come(start, row, stride, parts):
    return (start + AHEAD * len(parts)) * stride + row, stride * len(parts)


# --- softmax -------------------------------------------------------------------------------------------


def segment_softmax(
    x, out, grid, steps, form, parts, offsets, edges, sign, factor, low_part, power_of_two, start, stop
):
    """Softmax in segments; `parts` is a tuple of as many numbers as segments share a tile."""
    x, out, grid, steps = buffer(x), buffer(out), table_of(grid), table_of(steps)
    scale = factor, low_part, power_of_two
    room = min(steps[0][0] * LANES, KEPT)
    kept = scratch(x, room)
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        x_row, out_row = distance(row, grid, 0), distance(row, grid, 1)
        for s in range(edges[block], edges[block + 1], len(parts)):
            starts = taken(offsets, s, parts)
            sizes = minus(taken(offsets, s + 1, parts), starts)
            short = below(sizes, SHORT + 1)
            tile = tile_of_some(only(short, sizes))
            softmax_tile(
                x,
                place_of_some(starts, x_row),
                out,
                place_of_some(starts, out_row),
                None,
                NOWHERE,
                tile,
                sign,
                scale,
                0.0,
                kept,
                0,
                tile[0] * LANES <= room,
                ((x, place_to_come(starts, x_row)), (out, place_to_come(starts, out_row))),
            )
            for p in range(len(parts)):
                if not short[p]:
                    tile = tile_of_one(sizes[p])
                    softmax_tile(
                        x,
                        place_of_one(starts[p], x_row),
                        out,
                        place_of_one(starts[p], out_row),
                        None,
                        NOWHERE,
                        tile,
                        sign,
                        scale,
                        0.0,
                        kept,
                        0,
                        tile[0] * LANES <= room,
                        None,
                    )
    release(kept)


def segment_softmax_across(
    x, out, grid, steps, form, parts, offsets, edges, sign, factor, low_part, power_of_two, start, stop
):
    """The same across features; `parts` is a tuple of as many numbers as a vector has rows."""
    x, out, grid, steps = buffer(x), buffer(out), table_of(grid), table_of(steps)
    scale = factor, low_part, power_of_two
    room = min(steps[0][0] * LANES, KEPT)
    kept = scratch(x, room)
    x_stride, out_stride = stride(steps, 0, 0), stride(steps, 1, 0)
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        features = min(form[1] - LANES * (row % form[2]), LANES)
        x_row, out_row = distance(row, grid, 0), distance(row, grid, 1)
        for s in range(edges[block], edges[block + 1]):
            begin, size = offsets[s], offsets[s + 1] - offsets[s]
            tile = tile_across(size, features, parts)
            softmax_tile(
                x,
                place_across(begin, x_row, x_stride, parts),
                out,
                place_across(begin, out_row, out_stride, parts),
                None,
                NOWHERE,
                tile,
                sign,
                scale,
                0.0,
                kept,
                0,
                tile[0] * LANES <= room,
                (
                    (x, place_across_to_come(begin, x_row, x_stride, parts)),
                    (out, place_across_to_come(begin, out_row, out_stride, parts)),
                ),
            )
    release(kept)


# --- the vjp -------------------------------------------------------------------------------------------

# A short segment that is not of float64 needs less than `vjp.mean` takes care of.  Let its reference, the
# first dy, have the share w = y/Σy of the weight: then Σ y|dy − reference| ≤ (√n + 1/w)·‖dx‖.  Summed up in
# float64, what the mean is off by moves dx by no more than about 2n·2⁻⁵³ of that: half an eps of float32 for
# n ≤ SHORT and w ≥ FAINT.  Segments whose w is less go the long way.  So do those without any weight, where
# dy counts for nothing, whatever it is; beside some weight an infinite dy makes the mean NaN (see the a − a).
FAINT = 2.0**-20


@inline
def short_sums(y, y_at, dy, dy_at, tile, alpha, coming):
    """Of vector 0, s and dy − reference; the reference; and ⟨s, dy − reference⟩ and ⟨s,1⟩ lane by lane."""
    arrays = y, y_at, dy, dy_at, None, NOWHERE, tile
    w, d = pair(*arrays, 0, alpha, None)
    ask(coming, 0)
    reference = as_type_of(row_first(d, tile), double())
    s0, d0 = as_type_of(w, reference), as_type_of(d, reference) - reference
    a, b = s0 * d0, s0
    for k in range(1, tile[0]):
        w, d = pair(*arrays, k, alpha, None)
        ask(coming, k)
        s = as_type_of(w, a)
        a = fma(s, as_type_of(d, a) - reference, a)
        b = b + s
    return s0, d0, reference, a, b


@inline
def short_products(y, y_at, dy, dy_at, out, out_at, tile, s0, d0, reference, mean, alpha, scale):
    """s ∘ (dy − reference − mean); vector 0 is still in the registers."""
    arrays = y, y_at, dy, dy_at, None, NOWHERE, tile
    store(out, at(out_at, 0), as_type_of(product(d0 - mean, s0, scale), zeros(out)), alive(tile, 0))
    for k in range(1, tile[0]):
        w, d = pair(*arrays, k, alpha, None)
        v = product((as_type_of(d, mean) - reference) - mean, as_type_of(w, mean), scale)
        store(out, at(out_at, k), as_type_of(v, w), alive(tile, k))


def segment_vjp(y, dy, out, grid, steps, form, parts, offsets, edges, alpha, scale, start, stop):
    """The vjp in segments; `parts` as for `segment_softmax`."""
    y, dy, out = buffer(y), buffer(dy), buffer(out)
    grid, steps = table_of(grid), table_of(steps)
    limit = 0 if is_float64(y) else SHORT
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        y_row, dy_row = distance(row, grid, 0), distance(row, grid, 1)
        out_row = distance(row, grid, 2)
        for s in range(edges[block], edges[block + 1], len(parts)):
            starts = taken(offsets, s, parts)
            sizes = minus(taken(offsets, s + 1, parts), starts)
            done = below(sizes, limit + 1)
            tile = tile_of_some(only(done, sizes))
            if tile[0]:
                y_at, dy_at = place_of_some(starts, y_row), place_of_some(starts, dy_row)
                coming = (
                    (y, place_to_come(starts, y_row)),
                    (dy, place_to_come(starts, dy_row)),
                    (out, place_to_come(starts, out_row)),
                )
                s0, d0, reference, a, b = short_sums(y, y_at, dy, dy_at, tile, alpha, coming)
                a, b = sums_of(a, parts), sums_of(b, parts)
                done = both(done, below(b, firsts_of(s0 * (1 / FAINT), parts)))
                written = tile[0], only(done, tile[1]), None
                out_at, mean = place_of_some(starts, out_row), in_parts(ratio(a, b))
                short_products(
                    y, y_at, dy, dy_at, out, out_at, written, s0, d0, reference, mean, alpha, scale
                )
            for p in range(len(parts)):
                if sizes[p] and not done[p]:
                    vjp_tile(
                        y,
                        place_of_one(starts[p], y_row),
                        dy,
                        place_of_one(starts[p], dy_row),
                        out,
                        place_of_one(starts[p], out_row),
                        None,
                        NOWHERE,
                        tile_of_one(sizes[p]),
                        alpha,
                        scale,
                    )


def segment_vjp_across(y, dy, out, grid, steps, form, parts, offsets, edges, alpha, scale, start, stop):
    """The same across features; `parts` as for `segment_softmax_across`."""
    y, dy, out = buffer(y), buffer(dy), buffer(out)
    grid, steps = table_of(grid), table_of(steps)
    limit = 0 if is_float64(y) else SHORT
    y_stride, dy_stride, out_stride = stride(steps, 0, 0), stride(steps, 1, 0), stride(steps, 2, 0)
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        features = min(form[1] - LANES * (row % form[2]), LANES)
        y_row, dy_row = distance(row, grid, 0), distance(row, grid, 1)
        out_row = distance(row, grid, 2)
        for s in range(edges[block], edges[block + 1]):
            begin, size = offsets[s], offsets[s + 1] - offsets[s]
            if size == 0:
                continue
            tile = tile_across(size, features, parts)
            y_at = place_across(begin, y_row, y_stride, parts)
            dy_at = place_across(begin, dy_row, dy_stride, parts)
            out_at = place_across(begin, out_row, out_stride, parts)
            if size <= limit:
                coming = (
                    (y, place_across_to_come(begin, y_row, y_stride, parts)),
                    (dy, place_across_to_come(begin, dy_row, dy_stride, parts)),
                    (out, place_across_to_come(begin, out_row, out_stride, parts)),
                )
                s0, d0, reference, a, b = short_sums(y, y_at, dy, dy_at, tile, alpha, coming)
                a, b = row_sum(a, tile), row_sum(b, tile)
                if not any_of((row_first(s0, tile) < b * FAINT) | ((b == 0.0) & (a != 0.0))):
                    mean = select(b == 0.0, 0.0, a / b + (a - a))
                    short_products(
                        y, y_at, dy, dy_at, out, out_at, tile, s0, d0, reference, mean, alpha, scale
                    )
                    continue
            vjp_tile(y, y_at, dy, dy_at, out, out_at, None, NOWHERE, tile, alpha, scale)
