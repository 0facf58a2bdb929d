"""The mean ⟨s,dy⟩/⟨s,1⟩ of dy with the weights s of a map, along a tile.

It is subtracted from numbers that may all be close to it, so its error must be small beside what is left
over.  It is therefore found as a distance from some element of dy, its *reference*, and kept in two parts,
hi + lo.
"""

import numpy as np
from numba.core import types

from .buffer import BFLOAT16, FLOAT16
from .compiling import inline, per_type
from .memory import load, zeros
from .places import alive, at, present, row_first, row_max, row_sum, whole
from .sums import two_difference, two_product, two_sum, wide_zero
from .vec import LANES, any_of, as_type_of, by_1, by_2, by_4, by_8, by_16, fma, larger, select, splat
from .weights import weight


def faint(array):
    """Below which square of its weight, beside that of all weights, an element is no reference.

    It may lie so far from the rest, without an effect on dx, that the distance drowns what matters.
    """
    raise NotImplementedError("compiled only")


@per_type(faint)
def compile_faint(array):
    share = {FLOAT16: 2.0**-20, BFLOAT16: 2.0**-26}.get(array.dtype, 2.0**-42)
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
def lanes_of(y, y_at, dy, dy_at, where, where_at, k, live, alpha, factor):
    """s(y) and factor·dy for vector k: 0 and 0 for what is masked and behind the first `live` lanes."""
    here = present(where, where_at, k, live)
    w = select(here, weight(alpha, load(y, at(y_at, k), live, 0.0)), 0.0)
    return w, select(here, scaled(load(dy, at(dy_at, k), live, 0.0), factor), 0.0)


@inline
def pair(y, y_at, dy, dy_at, where, where_at, tile, k, alpha, factor):
    """The same for any vector of a tile."""
    return lanes_of(y, y_at, dy, dy_at, where, where_at, k, alive(tile, k), alpha, factor)


@inline
def add(w, d, reference, a, b, top):
    """What w and d add to ⟨s, dy − reference⟩, ⟨s,1⟩ and max s."""
    s = as_type_of(w, a)
    return fma(s, as_type_of(d, a) - reference, a), b + s, larger(w, top)


@inline
def sums(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor, reference):
    """⟨s, dy − reference⟩, ⟨s,1⟩ and max s of each row."""
    arrays = y, y_at, dy, dy_at, where, where_at
    count, full = tile[0], whole(tile)
    zero = wide_zero(y)
    a, a_lost, b, b_lost, top = zero, zero, zero, zero, zeros(y)
    block = block_of(y)
    for first in range(0, count, block):
        stop = min(first + block, count)
        middle = max(first, min(stop, full))
        a_block, b_block = zero, zero
        for k in range(first, middle):
            w, d = lanes_of(*arrays, k, LANES, alpha, factor)
            a_block, b_block, top = add(w, d, reference, a_block, b_block, top)
        for k in range(middle, stop):
            w, d = pair(*arrays, tile, k, alpha, factor)
            a_block, b_block, top = add(w, d, reference, a_block, b_block, top)
        if first == 0:
            a, b = a_block, b_block
        else:
            a, lost = two_sum(a, a_block)
            a_lost = a_lost + lost
            b, lost = two_sum(b, b_block)
            b_lost = b_lost + lost
    return row_sum(a + a_lost, tile), row_sum(b + b_lost, tile), row_max(top, tile)


@inline
def sums_about_first(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor):
    """The first dy, its weight, and the `sums` with it for the reference."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    zero = wide_zero(y)
    w, d = pair(*arrays, 0, alpha, factor)
    reference, first = as_type_of(row_first(d, tile), zero), as_type_of(row_first(w, tile), zero)
    a, b, top = sums(*arrays, alpha, factor, reference)
    return reference, first, a, b, top


@inline
def add_exactly(w, d, reference, cut, a, a_rest, b, b_rest):
    """What w and d add to ⟨s, dy − reference⟩ and ⟨s,1⟩, in two parts: only the second is rounded."""
    x, x_lost = two_difference(d, reference)
    p, p_lost = two_product(w, x)
    a, lost = two_sum(a, p)
    upper = (w + cut) - cut
    return a, a_rest + (lost + fma(w, x_lost, p_lost)), b + upper, b_rest + (w - upper)


@inline
def folded(a, rest, other, other_rest):
    s, lost = two_sum(a, other)
    return s, (rest + other_rest) + lost


def exact_row_sum(a, rest, tile):
    """`row_sum` of a + rest: lanes that cancel must not be rounded before they do."""
    raise NotImplementedError("compiled only")


@per_type(exact_row_sum)
def compile_exact_row_sum(a, rest, tile):
    if not isinstance(tile[2], types.NoneType) or isinstance(tile[1], types.UniTuple):
        return lambda a, rest, tile: row_sum(a, tile) + row_sum(rest, tile)

    def over_lanes(a, rest, tile):
        a, rest = folded(a, rest, by_16(a), by_16(rest))
        a, rest = folded(a, rest, by_8(a), by_8(rest))
        a, rest = folded(a, rest, by_4(a), by_4(rest))
        a, rest = folded(a, rest, by_2(a), by_2(rest))
        a, rest = folded(a, rest, by_1(a), by_1(rest))
        return row_first(a + rest, tile)

    return over_lanes


@inline
def exact_sums(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor, reference, top):
    """⟨s, dy − reference⟩ and ⟨s,1⟩ of each row, in float64 as good as with more digits.

    Every rounding counts: where one weight is about as large as all others together and its dy about the
    mean, dx is far smaller than the terms, and equal terms are all rounded the same way.  The weights are cut
    at 2⁻²⁶ of the largest: the upper parts are multiples of one unit, whose sum is exact for 2²⁶ vectors, and
    what the lower lose is 2⁻⁷⁸.
    """
    arrays = y, y_at, dy, dy_at, where, where_at
    full = whole(tile)
    zero = zeros(y)
    cut = top * (1.5 * 2.0**26)
    a, a_rest, b, b_rest = zero, zero, zero, zero
    for k in range(full):
        w, d = lanes_of(*arrays, k, LANES, alpha, factor)
        a, a_rest, b, b_rest = add_exactly(w, d, reference, cut, a, a_rest, b, b_rest)
    for k in range(full, tile[0]):
        w, d = pair(*arrays, tile, k, alpha, factor)
        a, a_rest, b, b_rest = add_exactly(w, d, reference, cut, a, a_rest, b, b_rest)
    return exact_row_sum(a, a_rest, tile), row_sum(b, tile) + row_sum(b_rest, tile)


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
def far_off(y, w, heavy, b):
    """Whether an element of weight w is no reference, beside the heaviest and all."""
    return w * w < heavy * b * faint(y)


@inline
def in_lanes(hi, lo, like):
    """hi + lo in two parts of the type of the lanes."""
    head = as_type_of(hi, like)
    return head, as_type_of((hi - as_type_of(head, hi)) + lo, like)


@inline
def out_of_range(y, hi, lo, b):
    """Whether hi + lo is a mean for which dy has to be scaled, NaN, or of nothing."""
    huge, tiny, _, _ = ranges(y)
    whole = hi + lo
    size = select(whole < 0.0, whole * -1.0, whole)
    return (b == 0.0) | (size > huge) | (size < tiny) | (size != size)


@inline
def mean(y, y_at, dy, dy_at, where, where_at, tile, alpha, factor):
    """⟨s,dy⟩/⟨s,1⟩ of each row as hi + lo, hi of the type of dy's lanes, and ⟨s,1⟩; dy times `factor`."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile, alpha, factor
    zero = wide_zero(y)

    # the first element is a good reference, but for rows in which it has next to no weight, ...
    reference, first, a, b, top = sums_about_first(*arrays)
    heavy = as_type_of(top, zero)
    peaked = heavy > b * 0.5
    if any_of(peaked | far_off(y, first, heavy, b)):
        # ... and for those in which one has more than all others together: the mean is so close to it
        # that only a distance from it tells what the others add
        reference = as_type_of(heaviest(*arrays, top), zero)
        a, _, _ = sums(*arrays, reference)
    distance = a / b
    hi, lo = two_sum(reference, distance)
    hi, lo = select(peaked, reference, hi), select(peaked, distance, lo)
    if is_float64(y):  # the sums above have lost bits, also to the distance of the reference; hi is nearer
        a, b = exact_sums(*arrays, as_type_of(hi, zeros(y)), as_type_of(top, zeros(y)))
        a, b = as_type_of(a, zero), as_type_of(b, zero)
        lo = a / b
    nothing = b == 0.0
    hi, lo = select(nothing, as_type_of(0.0, hi), hi), select(nothing, as_type_of(0.0, lo), lo)
    head, tail = in_lanes(hi, lo, zeros(y))
    return head, tail, b


@inline
def safe_mean(y, y_at, dy, dy_at, where, where_at, tile, alpha):
    """`mean`, for dy of any size, and the factor by which dy had to be multiplied for it."""
    arrays = y, y_at, dy, dy_at, where, where_at, tile
    one = row_first(splat(1.0, zeros(y)), tile)
    huge, _, near, lift = ranges(y)
    factor = one
    for attempt in range(2):
        hi, lo, b = mean(*arrays, alpha, factor)
        wild = (b != 0.0) & out_of_range(y, hi, lo, b)
        if attempt == 1 or not any_of(wild):
            break
        far = furthest(*arrays, alpha)
        closer = select(far > huge, as_type_of(0.25, one), select(far < near, as_type_of(lift, one), one))
        factor = select(wild, closer, one)
    return hi, lo, b, factor
