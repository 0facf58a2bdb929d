"""softmax and its vjp in segments: runs of rows, of any lengths, given by the places where they begin.

Most segments are short, so a vector is used in parts (see `parts`).  Where the elements of a segment are
neighbours in memory, a few segments that follow each other share a tile; where features are side by side, a
vector has a few rows of one segment.  What a segment gives does not depend on those that share its tile.

Of a kernel's arguments, `grid` and `steps` are as in `places`, `steps` being along the axis; `form` is (rows,
width, tiles): how many rows there are beside the axis; and how many features are side by side, and into how many
tiles they are cut.  Segment s is offsets[s] … offsets[s + 1] − 1; block b has the segments edges[b] …
edges[b + 1] − 1.  The calls `start` … `stop` − 1 are pairs of a block and a row.
"""

import numpy as np

from .compiling import inline
from .memory import scratch, store, zeros
from .parts import (
    below,
    either,
    firsts_of,
    from_0,
    in_parts,
    minus,
    plus,
    ratio,
    sums_of,
    taken,
    times,
    unless,
)
from .places import alive, ask, at, distance, row_first, row_sum
from .softmax import KEPT, softmax_tile
from .vec import LANES, any_of, as_type_of, double, fma, select
from .vjp import is_float64, pair, product, vjp_tile

# Longer segments have their tiles to themselves.
SHORT = 256

# So many vectors before they are needed they are asked for.
AHEAD = 16

NOWHERE = np.int64(0), np.int64(0)  # the place of a mask that is not there


# --- where the elements of a segment are neighbours -----------------------------------------------------


@inline
def place_of_one(start, row):
    return start + row, np.int64(LANES)


@inline
def tile_of_one(size):
    return (size + LANES - 1) // LANES, size, None


@inline
def place_of_some(starts, row):
    return plus(starts, row), np.int64(LANES // len(starts))


@inline
def tile_of_some(sizes):
    width = LANES // len(sizes)
    return (max(sizes) + width - 1) // width, sizes, None


@inline
def coming_place(starts, row):
    return starts[0] + row + AHEAD * LANES, np.int64(LANES)


def segment_softmax(
    x, out, grid, steps, form, parts, offsets, edges, sign, factor, low_part, power_of_two, start, stop
):
    """Softmax in segments; `parts` is a tuple of as many numbers as segments share a tile."""
    scale = factor, low_part, power_of_two
    kept = scratch(x, min(steps[0, 0] * LANES, KEPT))
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        x_row, out_row = distance(row, grid[0], grid[1]), distance(row, grid[0], grid[2])
        for s in range(edges[block], edges[block + 1], len(parts)):
            starts = taken(offsets, s, parts)
            sizes = minus(taken(offsets, s + 1, parts), starts)
            long = below(SHORT, sizes)
            softmax_tile(
                x,
                place_of_some(starts, x_row),
                out,
                place_of_some(starts, out_row),
                None,
                NOWHERE,
                tile_of_some(unless(long, sizes)),
                sign,
                scale,
                0.0,
                kept,
                ((x, coming_place(starts, x_row)), (out, coming_place(starts, out_row))),
            )
            for p in range(len(parts)):
                if long[p]:
                    softmax_tile(
                        x,
                        place_of_one(starts[p], x_row),
                        out,
                        place_of_one(starts[p], out_row),
                        None,
                        NOWHERE,
                        tile_of_one(sizes[p]),
                        sign,
                        scale,
                        0.0,
                        kept,
                        None,
                    )


# --- where features are side by side -----------------------------------------------------------------------


@inline
def place_across(start, row, stride, parts):
    return plus(times(from_0(parts), stride), start * stride + row), stride * len(parts)


@inline
def tile_across(size, features, parts):
    return (size + len(parts) - 1) // len(parts), minus(size, from_0(parts)), features


@inline
def coming_place_across(start, row, stride, parts):
    return (start + AHEAD * len(parts)) * stride + row, stride * len(parts)


def segment_softmax_across(
    x, out, grid, steps, form, parts, offsets, edges, sign, factor, low_part, power_of_two, start, stop
):
    """The same; `parts` is a tuple of as many numbers as a vector has rows."""
    scale = factor, low_part, power_of_two
    kept = scratch(x, min(steps[0, 0] * LANES, KEPT))
    x_stride, out_stride = steps[1, 0], steps[2, 0]
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        features = min(form[1] - LANES * (row % form[2]), LANES)
        x_row, out_row = distance(row, grid[0], grid[1]), distance(row, grid[0], grid[2])
        for s in range(edges[block], edges[block + 1]):
            first, size = offsets[s], offsets[s + 1] - offsets[s]
            softmax_tile(
                x,
                place_across(first, x_row, x_stride, parts),
                out,
                place_across(first, out_row, out_stride, parts),
                None,
                NOWHERE,
                tile_across(size, features, parts),
                sign,
                scale,
                0.0,
                kept,
                (
                    (x, coming_place_across(first, x_row, x_stride, parts)),
                    (out, coming_place_across(first, out_row, out_stride, parts)),
                ),
            )


# --- the vjp ----------------------------------------------------------------------------------------------

# A short segment that is not of float64 needs less than `vjp.mean` takes care of.  Let its reference, the
# first dy, have the share w = y/Σy of the weight: then Σ y|dy − reference| ≤ (√n + 1/w)·‖dx‖.  Summed up in
# float64, what the mean is off by moves dx by no more than about 2n·2⁻⁵³ of that: half an eps of float32 for
# n ≤ SHORT and w ≥ FAINT.  Segments whose w is less go the long way.
FAINT = 2.0**-20


@inline
def short_sums(y, y_at, dy, dy_at, tile, alpha, coming):
    """The reference; s and dy − reference of vector 0; and before the lanes are added up ⟨s, dy − reference⟩ and
    ⟨s,1⟩.  All in float64."""
    arrays = y, y_at, dy, dy_at, None, NOWHERE, tile
    w, d = pair(*arrays, 0, alpha, None)
    ask(coming, 0)
    reference = as_type_of(row_first(d, tile), double())
    first, from_first = as_type_of(w, reference), as_type_of(d, reference) - reference
    a, b = first * from_first, first
    for k in range(1, tile[0]):
        w, d = pair(*arrays, k, alpha, None)
        ask(coming, k)
        s = as_type_of(w, a)
        a = fma(s, as_type_of(d, a) - reference, a)
        b = b + s
    return reference, first, from_first, a, b


@inline
def short_products(y, y_at, dy, dy_at, out, out_at, tile, reference, first, from_first, mean, alpha, scale):
    arrays = y, y_at, dy, dy_at, None, NOWHERE, tile
    v = product(from_first - mean, first, scale)
    store(out, at(out_at, 0), as_type_of(v, zeros(y)), alive(tile, 0))
    for k in range(1, tile[0]):
        w, d = pair(*arrays, k, alpha, None)
        v = product((as_type_of(d, mean) - reference) - mean, as_type_of(w, mean), scale)
        store(out, at(out_at, k), as_type_of(v, w), alive(tile, k))


def segment_vjp(y, dy, out, grid, steps, form, parts, offsets, edges, alpha, scale, start, stop):
    """The vjp in segments; `parts` as for `segment_softmax`."""
    limit = 0 if is_float64(y) else SHORT
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        y_row, dy_row = distance(row, grid[0], grid[1]), distance(row, grid[0], grid[2])
        out_row = distance(row, grid[0], grid[3])
        for s in range(edges[block], edges[block + 1], len(parts)):
            starts = taken(offsets, s, parts)
            sizes = minus(taken(offsets, s + 1, parts), starts)
            left = below(limit, sizes)
            tile = tile_of_some(unless(left, sizes))
            if tile[0]:
                y_at, dy_at = place_of_some(starts, y_row), place_of_some(starts, dy_row)
                coming = (
                    (y, coming_place(starts, y_row)),
                    (dy, coming_place(starts, dy_row)),
                    (out, coming_place(starts, out_row)),
                )
                reference, first, from_first, a, b = short_sums(y, y_at, dy, dy_at, tile, alpha, coming)
                b = sums_of(b, parts)
                faint = below(firsts_of(first * (1 / FAINT), parts), b)
                mean = in_parts(ratio(sums_of(a, parts), b))
                short_products(
                    y,
                    y_at,
                    dy,
                    dy_at,
                    out,
                    place_of_some(starts, out_row),
                    (tile[0], unless(faint, tile[1]), None),
                    reference,
                    first,
                    from_first,
                    mean,
                    alpha,
                    scale,
                )
                left = either(left, faint)
            for p in range(len(parts)):
                if left[p]:
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
                        None,
                    )


def segment_vjp_across(y, dy, out, grid, steps, form, parts, offsets, edges, alpha, scale, start, stop):
    """The same; `parts` as for `segment_softmax_across`."""
    y_stride, dy_stride, out_stride = steps[1, 0], steps[2, 0], steps[3, 0]
    limit = 0 if is_float64(y) else SHORT
    for i in range(start, stop):
        block, row = i // form[0], i % form[0]
        features = min(form[1] - LANES * (row % form[2]), LANES)
        y_row, dy_row = distance(row, grid[0], grid[1]), distance(row, grid[0], grid[2])
        out_row = distance(row, grid[0], grid[3])
        for s in range(edges[block], edges[block + 1]):
            start_s, size = offsets[s], offsets[s + 1] - offsets[s]
            if size == 0:
                continue
            tile = tile_across(size, features, parts)
            y_at = place_across(start_s, y_row, y_stride, parts)
            dy_at = place_across(start_s, dy_row, dy_stride, parts)
            out_at = place_across(start_s, out_row, out_stride, parts)
            if size <= limit:
                coming = (
                    (y, coming_place_across(start_s, y_row, y_stride, parts)),
                    (dy, coming_place_across(start_s, dy_row, dy_stride, parts)),
                    (out, coming_place_across(start_s, out_row, out_stride, parts)),
                )
                reference, first, from_first, a, b = short_sums(y, y_at, dy, dy_at, tile, alpha, coming)
                a, b = row_sum(a, tile), row_sum(b, tile)
                if not any_of(row_first(first, tile) < b * FAINT):
                    mean = select(b == 0.0, 0.0, a / b)
                    short_products(
                        y,
                        y_at,
                        dy,
                        dy_at,
                        out,
                        out_at,
                        tile,
                        reference,
                        first,
                        from_first,
                        mean,
                        alpha,
                        scale,
                    )
                    continue
            vjp_tile(y, y_at, dy, dy_at, out, out_at, None, NOWHERE, tile, alpha, scale, None)
