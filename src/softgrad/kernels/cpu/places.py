"""Where the vectors of a tile lie in memory.

A *tile* is what a kernel works on at a time: `count` vectors that together hold every element of

* one row, in pieces (``across`` is None): vector k holds its elements k·LANES … k·LANES + LANES − 1,
  and a sum over the row ends with a sum over the lanes;
* or up to LANES rows side by side: vector k holds the k-th element of each.

In code a tile is the tuple ``(count, lanes, across)``.  If its vectors are in parts (see `parts`), `lanes` is
a tuple:

* each part has a row of its own (``across`` is None), the lengths of which are `lanes`;
* or all have the same rows side by side, as many as the number `across`, and vector k holds P successive
  elements of each, one in each of the P parts; `lanes` says how many there are from each of the first P on.

A *place* says where one array has the vectors of a tile: ``(start, step)``, two numbers, where the
lanes are neighbours in memory (`start` a tuple, if they are so in parts); ``(starts, sizes, strides)``, a
Vec of int64 and the axes that k runs over, where they lie anywhere.  All distances count elements from the
array's first one.
"""

import numpy as np
from numba.core import types

from .compiling import inline, per_type
from .memory import load, load_index, prefetch
from .parts import (
    below,
    first_across,
    firsts_of,
    in_parts,
    max_across,
    maxima_of,
    minus,
    only,
    plus,
    sum_across,
    sums_of,
)
from .vec import LANES, Vec, every_lane, first_of, max_of, sum_of


@inline
def distance(index, sizes, strides):
    """How far element number `index`, in C order over axes of these sizes, lies from the first."""
    at = 0
    for axis in range(len(sizes) - 1, 0, -1):
        at += (index % sizes[axis]) * strides[axis]
        index //= sizes[axis]
    return at + index * strides[0]


def at(place, k):
    """Where vector k of a tile is, as `memory.load` takes it."""
    raise NotImplementedError("compiled only")


@per_type(at)
def compile_at(place, k):
    if isinstance(place[0], Vec):
        return lambda place, k: place[0] + distance(k, place[1], place[2])
    if isinstance(place[0], types.UniTuple):
        return lambda place, k: plus(place[0], k * place[1])
    return lambda place, k: place[0] + k * place[1]


def alive(tile, k):
    """How many lanes of vector k are there (`LANES` or more: all)."""
    raise NotImplementedError("compiled only")


@per_type(alive)
def compile_alive(tile, k):
    if isinstance(tile[1], types.UniTuple):
        width = LANES // len(tile[1])
        if isinstance(tile[2], types.NoneType):
            return lambda tile, k: minus(tile[1], width * k)
        parts = len(tile[1])
        return lambda tile, k: only(below(parts * k, tile[1]), tile[2])
    if isinstance(tile[2], types.NoneType):
        return lambda tile, k: tile[1] - LANES * k
    return lambda tile, k: tile[1]


def present(where, place, k, live):
    """The mask of the elements of vector k that take part; all of them where there is no mask."""
    raise NotImplementedError("compiled only")


@per_type(present)
def compile_present(where, place, k, live):
    if isinstance(where, types.NoneType):
        return lambda where, place, k, live: every_lane()
    return lambda where, place, k, live: load(where, at(place, k), live, False)


# The tiles of a call: `grid` has the axes that the tiles run over, `steps` those that k runs over; row 0
# is their sizes, row 1 + i the strides of the i-th array.  `form` is (count, width, tiles): the vectors
# of a tile; the elements side by side, and how many tiles they are cut into.  `spread` is None where
# the lanes are neighbours in memory; a mask has one of its own, `mask_spread`, and may be `BESIDE` arrays
# whose lanes are neighbours.  (`softgrad.layout` makes all of these.)

BESIDE = 1


@inline
def tile_of(i, form, across):
    """The tile number i: its vectors, its lanes, and whether these are different rows."""
    return form[0], form[1] - LANES * (i % form[2]), across


def place_of(i, array, grid, steps, spread, across):
    """The place of the tile number i in the array number `array`."""
    raise NotImplementedError("compiled only")


@per_type(place_of)
def compile_place_of(i, array, grid, steps, spread, across):
    one_row = isinstance(across, types.NoneType)

    def neighbours(i, array, grid, steps, spread, across):
        return distance(i, grid[0], grid[1 + array]), steps[1 + array, 0]

    def scattered(i, array, grid, steps, spread, across):
        starts = np.empty(LANES, np.int64)
        for lane in range(LANES):
            if one_row:  # vector k holds the elements LANES·k + lane of row i
                starts[lane] = distance(i, grid[0], grid[1 + array]) + lane * (steps[1 + array, 0] // LANES)
            elif spread == BESIDE:  # the k-th elements of LANES rows that are neighbours in the other arrays
                starts[lane] = distance(i, grid[0], grid[1 + array]) + lane * (grid[1 + array, -1] // LANES)
            else:  # the k-th elements of the rows LANES·i + lane
                starts[lane] = distance(LANES * i + lane, grid[0], grid[1 + array])
        return load_index(starts), steps[0], steps[1 + array]

    return neighbours if isinstance(spread, types.NoneType) else scattered


def ask(coming, k):
    """Prefetch vector k of the places in `coming`: a tuple of pairs (array, place), or None for none.

    While a kernel computes, the memory would otherwise have nothing to do.
    """
    raise NotImplementedError("compiled only")


@per_type(ask)
def compile_ask(coming, k):
    if isinstance(coming, types.NoneType):
        return lambda coming, k: None
    scattered = [isinstance(pair[1][0], Vec) for pair in coming]
    if any(scattered):
        return lambda coming, k: None
    if len(coming) == 2:
        return lambda coming, k: (ask_one(coming[0], k), ask_one(coming[1], k))[0]
    return lambda coming, k: (ask_one(coming[0], k), ask_one(coming[1], k), ask_one(coming[2], k))[0]


@inline
def ask_one(pair, k):
    prefetch(pair[0], at(pair[1], k))


# What the vectors of a tile say of its rows, once all were seen: a number if it is one row, which lies
# along the lanes; a Vec as it is if every lane is a row.


def row_sum(v, tile):
    raise NotImplementedError("compiled only")


def row_max(v, tile):
    raise NotImplementedError("compiled only")


def row_first(v, tile):
    raise NotImplementedError("compiled only")


def declare(stub, over_lanes, over_each, across_parts):
    @per_type(stub)
    def compile_row(v, tile):
        if isinstance(tile[1], types.UniTuple):
            if isinstance(tile[2], types.NoneType):
                return lambda v, tile: in_parts(over_each(v, tile[1]))
            return lambda v, tile: across_parts(v, tile[1])
        if isinstance(tile[2], types.NoneType):
            return lambda v, tile: over_lanes(v)
        return lambda v, tile: v


declare(row_sum, sum_of, sums_of, sum_across)
declare(row_max, max_of, maxima_of, max_across)
declare(row_first, first_of, firsts_of, first_across)
