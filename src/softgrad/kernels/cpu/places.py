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

from .buffer import buffer
from .compiling import inline, per_type
from .memory import load, load_index, prefetch, to_line
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

# The axes that something runs over are a *table*, in code (numbers, axes): a buffer of int64 with the sizes
# of so many axes, and then, array by array, the strides along them.


@inline
def table_of(array):
    """The table that `softgrad.layout` made: row 0 the sizes, row 1 + i the strides of the i-th array."""
    return buffer(array), array.shape[1]


@inline
def stride(table, array, axis):
    numbers, axes = table
    return numbers[(1 + array) * axes + axis]


@inline
def distance(index, table, array):
    """How far element number `index`, in C order, of array number `array` lies from its first."""
    numbers, axes = table
    at = 0
    for axis in range(axes - 1, 0, -1):
        at += (index % numbers[axis]) * stride(table, array, axis)
        index //= numbers[axis]
    return at + index * stride(table, array, 0)


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


def whole(tile):
    """How many of a tile's vectors, the first ones, have all lanes."""
    raise NotImplementedError("compiled only")


@per_type(whole)
def compile_whole(tile):
    if isinstance(tile[1], types.UniTuple):
        return lambda tile: 0
    if isinstance(tile[2], types.NoneType):
        return lambda tile: tile[1] // LANES
    return lambda tile: tile[0] if tile[1] >= LANES else 0


def present(where, place, k, live):
    """The mask of the elements of vector k that take part; all of them where there is no mask."""
    raise NotImplementedError("compiled only")


@per_type(present)
def compile_present(where, place, k, live):
    if isinstance(where, types.NoneType):
        return lambda where, place, k, live: every_lane()
    return lambda where, place, k, live: load(where, at(place, k), live, False)


# The tiles of a call: `grid` is the table of the axes that the tiles run over, `steps` of those that k runs
# over.  `form` is (count, width, tiles): the vectors
# of a tile; the elements side by side, and how many tiles they are cut into.  `spread` is None where
# the lanes are neighbours in memory; a mask has one of its own, `mask_spread`, and may be `BESIDE` arrays
# whose lanes are neighbours.  (`softgrad.layout` makes all of these.)

BESIDE = 1


def tile_of(i, form, across):
    """The tile number i: its vectors, its lanes, and whether these are different rows."""
    raise NotImplementedError("compiled only")


@per_type(tile_of)
def compile_tile_of(i, form, across):
    if isinstance(across, types.NoneType):
        return lambda i, form, across: (form[0], form[1], across)
    return lambda i, form, across: (form[0], form[1] - LANES * (i % form[2]), across)


def place_of(i, array, grid, steps, spread, across):
    """The place of the tile number i in the array number `array`."""
    raise NotImplementedError("compiled only")


@per_type(place_of)
def compile_place_of(i, array, grid, steps, spread, across):
    one_row = isinstance(across, types.NoneType)

    def neighbours(i, array, grid, steps, spread, across):
        return distance(i, grid, array), stride(steps, array, 0)

    def scattered(i, array, grid, steps, spread, across):
        starts = np.empty(LANES, np.int64)
        for lane in range(LANES):
            if one_row:  # vector k holds the elements LANES·k + lane of row i
                starts[lane] = distance(i, grid, array) + lane * (stride(steps, array, 0) // LANES)
            elif spread == BESIDE:  # the k-th elements of LANES rows that are neighbours in the other arrays
                starts[lane] = distance(i, grid, array) + lane * (stride(grid, array, grid[1] - 1) // LANES)
            else:  # the k-th elements of the rows LANES·i + lane
                starts[lane] = distance(LANES * i + lane, grid, array)
        return load_index(starts), steps, array

    return neighbours if isinstance(spread, types.NoneType) else scattered


# A vector that is written across the end of a cache line costs two.  A long row that lies along the lanes is
# written from the first whole line on, and what is before that first.


def cut_at_line(array, place, others, tile):
    """How many elements of a row lie before a whole cache line of `array`, or 0.

    Then the places in `array`, and in three others, and the tile, of what is behind them.
    """
    raise NotImplementedError("compiled only")


@per_type(cut_at_line)
def compile_cut_at_line(array, place, others, tile):
    if not isinstance(tile[2], types.NoneType) or not all(of_row(p) for p in (place, *others)):
        return lambda array, place, others, tile: (0, place, others, tile)

    def along_row(array, place, others, tile):
        n = tile[1]
        some = to_line(array, place[0]) if n >= 8 * LANES else 0
        a, b, c = others
        rest = -((some - n) // LANES), n - some, None
        return some, behind(place, some), (behind(a, some), behind(b, some), behind(c, some)), rest

    return along_row


def of_row(place):
    """Of Numba types: whether the lanes are neighbours in memory."""
    return isinstance(place[0], types.Integer)


@inline
def behind(place, some):
    return place[0] + some, place[1]


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
    if len(coming) == 1:
        return lambda coming, k: ask_one(coming[0], k)
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
