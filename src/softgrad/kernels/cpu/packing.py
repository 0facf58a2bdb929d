"""Tiles copied side by side into scratch memory and back: vector k of a tile at LANES·k.

A kernel reads a tile three times.  Where its vectors lie far apart (the reduced axis is not the last
one) or its lanes do (short rows, 16 of which are turned into one tile) it is cheaper to fetch each
cache line once.  `group` tiles that are neighbours in memory are copied together; 0 stands for one tile
of short rows.
"""

import numpy as np

from .compiling import inline
from .memory import load, store
from .places import distance, stride
from .transpose import SIDE, load_block, store_block
from .vec import ALL_LANES, LANES, lowest_bit


@inline
def span(count):
    """How much scratch memory a tile of `count` vectors takes (whole blocks, for `transpose`)."""
    return -(-count // SIDE) * SIDE * LANES


@inline
def coming_place(i, array, grid, steps, group):
    """The place of the tile number i in memory, to prefetch it from: nearly right for short rows."""
    step = stride(steps, array, 0) if group else np.int64(LANES)
    return distance(i, grid, array), step


@inline
def pack(x, array, i, grid, steps, form, group, room):
    """Copy the tiles i … i + group − 1 of x, its number among the arrays being `array`, into `room`."""
    count, lanes = form[0], form[1] - LANES * (i % form[2])
    start = distance(i, grid, array)
    if group == 0:
        pitch = stride(grid, array, 0) // LANES
        for k in range(0, count, SIDE):
            load_block(x, start + k, pitch, lanes, count - k, room, LANES * k)
    else:
        step = stride(steps, array, 0)
        for k in range(count):
            for g in range(min(group, -(-lanes // LANES))):
                v = load(x, start + k * step + LANES * g, lanes - LANES * g, 0.0)
                store(room, span(count) * g + LANES * k, v, LANES)


@inline
def unpack(room, out, array, i, grid, steps, form, group):
    """Copy `room` into the tiles i … i + group − 1 of out."""
    count, lanes = form[0], form[1] - LANES * (i % form[2])
    start = distance(i, grid, array)
    if group == 0:
        pitch = stride(grid, array, 0) // LANES
        for k in range(0, count, SIDE):
            store_block(room, LANES * k, out, start + k, pitch, lanes, count - k)
    else:
        step = stride(steps, array, 0)
        for k in range(count):
            for g in range(min(group, -(-lanes // LANES))):
                v = load(room, span(count) * g + LANES * k, LANES, 0.0)
                store(out, start + k * step + LANES * g, v, lanes - LANES * g)


@inline
def squeeze(room, first, outside):
    """Of the LANES numbers from `first` on drop those `outside` and close the gaps.  Returns the new end."""
    end, inside = first, ALL_LANES ^ outside
    if outside == 0:
        return end + LANES
    while inside != 0:
        room[end] = room[first + lowest_bit(inside)]
        end += 1
        inside &= inside - 1
    return end
