"""The product of a simplex map's Jacobian with a vector, along a tile: dx = s ∘ (dy − ⟨s,dy⟩/⟨s,1⟩).

J is symmetric, so this is the vjp and the jvp.  The mean ⟨s,dy⟩/⟨s,1⟩ is subtracted from numbers that
may all be close to it, so its error must be small beside what is left over.  It is therefore found as a
distance from some element of dy, its *reference*, and kept in two parts, hi + lo.
"""

import numpy as np
from numba.core import types

from .compiling import inline, per_type
from .memory import load, scratch, store, zeros
from .packing import coming_place, pack, span, unpack
from .places import alive, ask, at, place_of, present, row_first, row_max, row_sum, tile_of
from .sums import two_sum, wide_zero
from .vec import LANES, any_of, as_type_of, fma, larger, select, splat
from .weights import weight

def limits(array):
    """(huge, faint) for arrays of this type.

    A mean beyond `huge` could take a difference past the largest number.  A reference is no good if its
    own weight, squared, is below `faint` times the square of all weights: then it may lie so far from
    the rest, without an effect on dx, that the distance drowns what matters.
    """
    raise NotImplementedError("compiled only")


@per_type(limits)
def compile_limits(array):
    huge = 2.0**1000 if array.dtype == types.float64 else 2.0**100
    faint = 2.0**-48 if array.dtype in (types.float32, types.float64) else 2.0**-24
    return lambda array: (huge, faint)


def block_of(array):
    """How many vectors are added up before their sum joins the total without an error.

    In float64 sums of float32 what n additions lose is far below an ulp of float32.
    """
    raise NotImplementedError("compiled only")


@per_type(block_of)
def compile_block_of(array):
    size = {types.float32: 2**62, types.float64: 32}.get(array.dtype, 256)
    return lambda array: size


def is_float64(array):
    """Whether there is nothing wider to add up in."""
    raise NotImplementedError("compiled only")


@per_type(is_float64)
def compile_is_float64(array):
    answer = array.dtype == types.float64
    return lambda array: answer


def shrunk(d, shrink):
    """d·shrink; d if `shrink` is None."""
    raise NotImplementedError("compiled only")


@per_type(shrunk)
def compile_shrunk(d, shrink):
    if isinstance(shrink, types.NoneType):
        return lambda d, shrink: d
    return lambda d, shrink: d * shrink


@inline
def pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, shrink):
    """s(y) and shrink·dy for vector k; 0 and 0 for what is masked and behind the last element."""
    live = alive(tile, k)
    here = present(where, where_at, k, live)
    w = select(here, weight(alpha, load(y, at(y_at, k), live, 0.0)), 0.0)
    return w, select(here, shrunk(load(dy, at(dy_at, k), live, 0.0), shrink), 0.0)


@inline
def sums(y, y_at, dy, dy_at, where, where_at, tile, alpha, shrink, reference):
    """⟨s, dy − reference⟩, ⟨s,1⟩ and max s of each row."""
    count = tile[0]
    zero = wide_zero(y)
    a, a_lost, b, b_lost, top = zero, zero, zero, zero, zeros(y)
    block = block_of(y)
    for first in range(0, count, block):
        a_block, b_block = zero, zero
        for k in range(first, min(first + block, count)):
            w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, shrink)
            s = as_type_of(w, zero)
            a_block = fma(s, as_type_of(d, zero) - reference, a_block)
            b_block = b_block + s
            top = larger(w, top)
        a, lost = two_sum(a, a_block)
        a_lost = a_lost + lost
        b, lost = two_sum(b, b_block)
        b_lost = b_lost + lost
    return row_sum(a + a_lost, tile), row_sum(b + b_lost, tile), row_max(top, tile)


@inline
def heaviest(y, y_at, dy, dy_at, where, where_at, tile, alpha, shrink, top):
    """shrink·dy where the weight is the largest (of several such, the largest)."""
    count = tile[0]
    best = splat(-np.inf, zeros(dy))
    for k in range(count):
        w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, shrink)
        best = larger(select(w == top, d, -np.inf), best)
    return row_max(best, tile)


@inline
def mean(y, y_at, dy, dy_at, where, where_at, tile, alpha, shrink):
    """⟨s,dy⟩/⟨s,1⟩ of each row as hi + lo, hi of the type of dy's lanes, and ⟨s,1⟩; dy times `shrink`."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile, alpha, shrink
    _, faint = limits(y)
    zero = wide_zero(y)

    # the first element is a good reference, but for rows in which it has next to no weight, ...
    w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, 0, alpha, shrink)
    reference, first = as_type_of(row_first(d, tile), zero), as_type_of(row_first(w, tile), zero)
    a, b, top = sums(*arrays, reference)
    heavy = as_type_of(top, zero)
    peaked = heavy > b * 0.5
    if any_of(peaked | (first * first < heavy * b * faint)):
        # ... and for those in which one has more than all others together: the mean is so close to it
        # that only a distance from it tells what the others add
        reference = as_type_of(heaviest(*arrays, top), zero)
        a, _, _ = sums(*arrays, reference)
    distance = a / b
    hi, lo = two_sum(reference, distance)
    hi, lo = select(peaked, reference, hi), select(peaked, distance, lo)
    if is_float64(y):  # the sum above has lost bits to the distance of the reference; hi is nearer
        a, _, _ = sums(*arrays, hi)
        lo = a / b
    nothing = b == 0.0
    hi, lo = select(nothing, as_type_of(0.0, hi), hi), select(nothing, as_type_of(0.0, lo), lo)
    head = as_type_of(hi, d)
    return head, as_type_of((hi - as_type_of(head, zero)) + lo, d), b


@inline
def vjp_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, coming):
    count = tile[0]
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    one = row_first(splat(1.0, zeros(y)), tile)
    huge, _ = limits(y)
    shrink = one
    for _ in range(2):
        hi, lo, b = mean(*arrays, alpha, shrink)
        wild = (hi > huge) | (hi < -huge) | (hi != hi)
        if not any_of(wild):
            break
        shrink = select(wild, as_type_of(0.25, one), shrink)  # once more, with room for the differences

    plain = not any_of((shrink != one) | (b == 0.0))
    for k in range(count):
        ask(coming, k)
        live = alive(tile, k)
        here = present(where, where_at, k, live)
        if plain:
            w, d = pair(*arrays, k, alpha, None)
            v = ((d - hi) - lo) * w * scale
        else:
            w, d = pair(*arrays, k, alpha, shrink)
            v = select(b == 0.0, 0.0, ((d - hi) - lo) * w * (scale / shrink))
        store(out, at(out_at, k), select(here, v, 0.0), live)


def vjp(y, dy, out, where, grid, steps, form, spread, mask_spread, across, alpha, scale, start, stop):
    """The vjp of the tiles `start` … `stop` − 1 into out (see `places`)."""
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
    size = span(form[0])
    at_once = max(group, 1)
    room, room_dy = scratch(y, size * at_once), scratch(y, size * at_once)
    packed = np.int64(0), np.int64(LANES)
    tile = form[0], np.int64(LANES), True
    i = start
    while i < stop:
        tiles = min(at_once, form[2] - i % form[2], stop - i)
        pack(y, 0, i, grid, steps, form, min(group, tiles), room)
        pack(dy, 1, i, grid, steps, form, min(group, tiles), room_dy)
        for g in range(tiles):
            part = slice(size * g, size * (g + 1))
            vjp_tile(
                room[part],
                packed,
                room_dy[part],
                packed,
                room_dy[part],
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
