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
from .vec import LANES, any_of, as_type_of, double, fma, larger, select, splat
from .weights import weight


def faint(array):
    """Below which square of its weight, beside that of all weights, an element is no reference.

    It may lie so far from the rest, without an effect on dx, that the distance drowns what matters.
    """
    raise NotImplementedError("compiled only")


@per_type(faint)
def compile_faint(array):
    share = 2.0**-42 if array.dtype in (types.float32, types.float64) else 2.0**-20
    return lambda array: share


def ranges(array):
    """(huge, tiny, near, lift) for arrays of this type.

    A mean beyond `huge` could take a difference past the largest number; one below `tiny` has no room for
    its second part above the smallest.  Then dy is multiplied by a power of two first: by 1/4, or by
    `lift` where none of it is beyond `near`.
    """
    raise NotImplementedError("compiled only")


@per_type(ranges)
def compile_ranges(array):
    if array.dtype == types.float64:
        return lambda array: (2.0**1000, 2.0**-900, 2.0**300, 2.0**600)
    return lambda array: (2.0**100, 2.0**-100, 2.0**20, 2.0**80)


def block_of(array):
    """How many vectors are added up before their sum joins the total without an error.

    Adding the same number again and again loses the same bits each time, at worst half a unit of the last
    place for each vector of a block; what `faint` lets through has to be less than that.  Of float64 these
    sums are a first guess.
    """
    raise NotImplementedError("compiled only")


@per_type(block_of)
def compile_block_of(array):
    size = {types.float32: 256, types.float64: 2**62}.get(array.dtype, 16)
    return lambda array: size


def is_float64(array):
    """Whether there is nothing wider to add up in."""
    raise NotImplementedError("compiled only")


@per_type(is_float64)
def compile_is_float64(array):
    answer = array.dtype == types.float64
    return lambda array: answer


def scaled(d, factor):
    """d·factor; d if `factor` is None."""
    raise NotImplementedError("compiled only")


@per_type(scaled)
def compile_scaled(d, factor):
    if isinstance(factor, types.NoneType):
        return lambda d, factor: d
    return lambda d, factor: d * factor


@inline
def pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor):
    """s(y) and factor·dy for vector k; 0 and 0 for what is masked and behind the last element."""
    live = alive(tile, k)
    here = present(where, where_at, k, live)
    w = select(here, weight(alpha, load(y, at(y_at, k), live, 0.0)), 0.0)
    return w, select(here, scaled(load(dy, at(dy_at, k), live, 0.0), factor), 0.0)


@inline
def sums(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor, reference):
    """⟨s, dy − reference⟩, ⟨s,1⟩ and max s of each row."""
    count = tile[0]
    zero = wide_zero(y)
    a, a_lost, b, b_lost, top = zero, zero, zero, zero, zeros(y)
    block = block_of(y)
    for first in range(0, count, block):
        a_block, b_block = zero, zero
        for k in range(first, min(first + block, count)):
            w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor)
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
def exact_sums(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor, reference, top):
    """⟨s, dy − reference⟩ and ⟨s,1⟩ of each row, in float64 as good as with more digits.

    A sum of the same number again and again loses the same bits each time, so the first is added up in
    short blocks, and these without an error.  The weights are cut at 2⁻²⁶ of the largest: the upper parts
    are multiples of one unit, whose sum is exact for 2²⁶ vectors, and what the lower lose is 2⁻⁷⁸.
    """
    count = tile[0]
    zero = zeros(y)
    cut = top * (1.5 * 2.0**26)
    a, a_lost, b, b_rest = zero, zero, zero, zero
    for first in range(0, count, 8):
        block = zero
        for k in range(first, min(first + 8, count)):
            w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor)
            block = fma(w, d - reference, block)
            upper = (w + cut) - cut
            b = b + upper
            b_rest = b_rest + (w - upper)
        a, lost = two_sum(a, block)
        a_lost = a_lost + lost
    return row_sum(a + a_lost, tile), row_sum(b, tile) + row_sum(b_rest, tile)


@inline
def heaviest(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor, top):
    """factor·dy where the weight is the largest (of several such, the largest)."""
    best = splat(-np.inf, zeros(dy))
    for k in range(tile[0]):
        w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor)
        best = larger(select(w == top, d, -np.inf), best)
    return row_max(best, tile)


@inline
def furthest(y, y_at, dy, dy_at, where, where_at, tile, alpha):
    """The largest |dy|."""
    far = zeros(dy)
    for k in range(tile[0]):
        _, d = pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, None)
        far = larger(d, larger(d * -1.0, far))
    return row_max(far, tile)


@inline
def mean(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor):
    """⟨s,dy⟩/⟨s,1⟩ of each row as hi + lo, hi of the type of dy's lanes, and ⟨s,1⟩; dy times `factor`."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile, alpha, factor
    zero = wide_zero(y)

    # the first element is a good reference, but for rows in which it has next to no weight, ...
    w, d = pair(y, y_at, dy, dy_at, where, where_at, tile, 0, alpha, factor)
    reference, first = as_type_of(row_first(d, tile), zero), as_type_of(row_first(w, tile), zero)
    a, b, top = sums(*arrays, reference)
    heavy = as_type_of(top, zero)
    peaked = heavy > b * 0.5
    if any_of(peaked | (first * first < heavy * b * faint(y))):
        # ... and for those in which one has more than all others together: the mean is so close to it
        # that only a distance from it tells what the others add
        reference = as_type_of(heaviest(*arrays, top), zero)
        a, _, _ = sums(*arrays, reference)
    distance = a / b
    hi, lo = two_sum(reference, distance)
    hi, lo = select(peaked, reference, hi), select(peaked, distance, lo)
    if is_float64(y):  # the sums above have lost bits, also to the distance of the reference; hi is nearer
        a, b = exact_sums(*arrays, as_type_of(hi, d), as_type_of(top, d))
        a, b = as_type_of(a, zero), as_type_of(b, zero)
        lo = a / b
    nothing = b == 0.0
    hi, lo = select(nothing, as_type_of(0.0, hi), hi), select(nothing, as_type_of(0.0, lo), lo)
    head = as_type_of(hi, d)
    return head, as_type_of((hi - as_type_of(head, zero)) + lo, d), b


@inline
def safe_mean(y, y_at, dy, dy_at, where, where_at, tile, alpha):
    """`mean`, for dy of any size, and the factor by which dy had to be multiplied for it."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    one = row_first(splat(1.0, zeros(y)), tile)
    huge, tiny, near, lift = ranges(y)
    factor = one
    for attempt in range(2):
        hi, lo, b = mean(*arrays, alpha, factor)
        whole = hi + lo
        size = select(whole < 0.0, whole * -1.0, whole)
        wild = (b != 0.0) & ((size > huge) | (size < tiny) | (size != size))
        if attempt == 1 or not any_of(wild):
            break
        far = furthest(*arrays, alpha)
        closer = select(far > huge, as_type_of(0.25, one), select(far < near, as_type_of(lift, one), one))
        factor = select(wild, closer, one)
    return hi, lo, b, factor


def product(v, w, scale):
    """v·w·scale: a step on the way is not out of range unless the result is."""
    raise NotImplementedError("compiled only")


@per_type(product)
def compile_product(v, w, scale):
    if v.dtype == types.float64:

        def of_doubles(v, w, scale):
            if scale == 1.0:
                return v * w
            return (w * scale) * v if abs(scale) > 1.0 else (v * w) * scale

        return of_doubles

    def of_singles(v, w, scale):
        if scale == 1.0:
            return v * w
        return as_type_of(as_type_of(v, double()) * as_type_of(w, double()) * scale, v)

    return of_singles


@inline
def vjp_tile(y, y_at, dy, dy_at, out, out_at, where, where_at, tile, alpha, scale, coming):
    count = tile[0]
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    hi, lo, b, factor = safe_mean(*arrays, alpha)
    plain = not any_of((factor != 1.0) | (b == 0.0))
    for k in range(count):
        ask(coming, k)
        live = alive(tile, k)
        here = present(where, where_at, k, live)
        if plain:
            w, d = pair(*arrays, k, alpha, None)
            v = product((d - hi) - lo, w, scale)
        else:
            w, d = pair(*arrays, k, alpha, factor)
            v = select(b == 0.0, 0.0, product((d - hi) - lo, w, scale) * (1.0 / factor))
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
