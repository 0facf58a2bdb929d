"""Segments: rows, or columns, that are cut into parts of different lengths, each with a softmax of its own.

Most segments are short, and a call of a kernel for each would take longer than its work.  So short ones are
done here, in one loop; the kernels of whole rows do what is left: long ones, and those that fail the test of
the vjp twice.  Segment s of a row is offsets[s] … offsets[s + 1] − 1, from offsets[0] on.

(n + 7) & 56 tells LLVM that a loop has at most 56 rounds, in eights: it becomes a few vectors, without a loop
for what is left over.  What lies beyond a segment is read, and not used; what is written beyond it, the next
segment overwrites.  The last ones of a row are done in scratch memory.
"""

import numpy as np
from numba import int64, njit, uint32, uint64

from . import softmax, vjp
from .drive import (
    COLUMNS_PACKED,
    CUTS,
    FIRST,
    KEPT,
    MORE,
    MOST,
    NEXT,
    PART,
    REDUCED,
    RUN,
    SEGMENTS,
    SIZES,
    WHOLE,
    N,
)
from .exp import upper_half
from .intrinsics import (
    address_of,
    after,
    bytes_of,
    call,
    choose,
    fma,
    is_narrow,
    keep,
    kept,
    larger,
    load,
    plus,
    pointer_to,
    store,
    zero,
)
from .softmax import inverse, power_of
from .vjp import is_done

SHORT = 56  # elements of a row
AT_ONCE = 32  # segments whose powers are kept until their sums are known
FEW = 64  # rows of columns, of which every fourth is added up
NARROW = 24  # columns side by side, in eights
PACKED = 8, 16, 24  # so many columns, if they lie without a gap, have loops of their own
SECTION = 32  # numbers of a sum for each of them
SPARE = 16 * SHORT  # bytes of the last segments of a row of one array
OWN = MOST * SPARE + 8 * AT_ONCE * (SHORT + 2)  # bytes of scratch memory; what other kernels need follows

helper = njit(nogil=True, error_model="numpy")
columns_of_softmax = njit(nogil=True, error_model="numpy", inline="always")(softmax.columns)


@helper
def cuts(numbers):
    """The offsets, how many segments, and how many of them lie `SHORT` elements or more from the end."""
    more = pointer_to(address_of(numbers), int64(0))
    offsets, segments = pointer_to(more[CUTS], int64(0)), more[SEGMENTS]
    inner = segments
    while inner > 0 and offsets[inner - 1] > offsets[segments] - SHORT:
        inner -= 1
    return offsets, segments, inner


@helper
def extent(offsets, s):
    """Where segment s begins, its length, and that in eights; of a long one the lengths are 0."""
    n = offsets[s + 1] - offsets[s]
    few = uint32(n) if n <= SHORT else uint32(0)
    return uint64(offsets[s] - offsets[0]), few, (few + uint32(7)) & uint32(56)


@helper
def alone(a, b, c, a_step, b_step, c_step, offsets, s, width, numbers, room):
    """One segment, of rows or columns that lie a step apart, by the kernel of whole ones."""
    at, n = offsets[s] - offsets[0], offsets[s + 1] - offsets[s]
    call(
        pointer_to(address_of(numbers), int64(0))[WHOLE],
        *(address_of(after(a, at * a_step)), address_of(after(b, at * b_step))),
        *(address_of(after(c, at * c_step)), int64(0), a_step, b_step, c_step, int64(0)),
        *(n, width, address_of(numbers), room + OWN),
    )


@helper
def copied(source, target, n):
    """Without `load` and `store`, which say that they don't touch the same memory."""
    for i in range(n):
        target[i] = source[i]


def softmax_rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows, a step apart, all cut alike."""
    offsets, segments, inner = cuts(numbers)
    a, b = pointer_to(room, x), pointer_to(room + SPARE, y)
    begin = offsets[inner] - offsets[0]
    for r in range(count):
        row_x, row_y = after(x, r * x_step), after(y, r * y_step)
        softmax_row(row_x, row_y, offsets, int64(0), inner, numbers, room)
        copied(after(row_x, begin), a, n - begin)
        softmax_row(after(a, -begin), after(b, -begin), offsets, inner, segments, numbers, room)
        copied(b, after(row_y, begin), n - begin)


@helper
def softmax_row(x, y, offsets, first, last, numbers, room):
    T = type(zero(x))
    scale, low, lowest = T(numbers[0]), T(numbers[1]), T(numbers[5])  # of a constant −inf LLVM makes a branch
    one, powers = int64(1), room + MOST * SPARE
    e, high = pointer_to(powers, zero(x)), pointer_to(powers + 8 * AT_ONCE * SHORT, 0.0)
    rest = after(high, AT_ONCE)
    for begin in range(first, last, AT_ONCE):
        stop = min(begin + AT_ONCE, last)
        for s in range(begin, stop):
            at, few, padded = extent(offsets, s)
            at_e = uint64(s - begin) * uint64(SHORT)
            top, upper, lower = lowest, zero(x), zero(x)
            for i in range(padded):
                top = larger(top, choose(i < few, load(x, at + i), lowest))
            if top == T(-np.inf):
                top = T(0)
            for i in range(padded):
                p = choose(i < few, power_of(load(x, at + i), top, scale, low, is_narrow(x)), T(0))
                keep(e, at_e + i, p)
                half = upper_half(p)
                upper = plus(upper, half)
                lower = plus(lower, p - half)
            keep(high, s - begin, np.float64(upper))
            keep(rest, s - begin, np.float64(lower))
        for s in range(stop - begin):
            empty = kept(high, s) == 0  # nothing but −inf: all powers are 0
            of_high, of_rest = inverse(kept(high, s), kept(rest, s), zero(x))
            keep(high, s, choose(empty, 0.0, np.float64(of_high)))
            keep(rest, s, choose(empty, 0.0, np.float64(of_rest)))
        for s in range(begin, stop):
            at, few, padded = extent(offsets, s)
            at_e = uint64(s - begin) * uint64(SHORT)
            of_high, of_rest = T(kept(high, s - begin)), T(kept(rest, s - begin))
            for i in range(padded):
                p = kept(e, at_e + i)
                store(y, at + i, fma(p, of_high, p * of_rest))
            if offsets[s + 1] - offsets[s] > SHORT:
                alone(x, y, y, one, one, one, offsets, s, one, numbers, room)


def vjp_rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows, a step apart, all cut alike."""
    offsets, segments, inner = cuts(numbers)
    a, b, c = pointer_to(room, y), pointer_to(room + SPARE, y), pointer_to(room + 2 * SPARE, y)
    begin = offsets[inner] - offsets[0]
    for r in range(count):
        row_y, row_dy, row_dx = after(y, r * y_step), after(dy, r * dy_step), after(dx, r * dx_step)
        vjp_row(row_y, row_dy, row_dx, offsets, int64(0), inner, numbers, room)
        copied(after(row_y, begin), a, n - begin)
        copied(after(row_dy, begin), b, n - begin)
        vjp_row(after(a, -begin), after(b, -begin), after(c, -begin), offsets, inner, segments, numbers, room)
        copied(c, after(row_dx, begin), n - begin)


@helper
def vjp_row(y, dy, dx, offsets, first, last, numbers, room):
    """Segments that fail the test are centred once more."""
    T, one = type(zero(y)), int64(1)
    scale = T(numbers[0])
    for s in range(first, last):
        at, few, padded = extent(offsets, s)
        part, weight = zero(y), zero(y)
        for i in range(padded):
            w = load(y, at + i)
            part = plus(part, choose(i < few, w * load(dy, at + i), T(0)))
            weight = plus(weight, choose(i < few, w, T(0)))
        m, r = load(dy, at) if few == 1 else part / weight, T(0)
        done = offsets[s + 1] - offsets[s] <= SHORT
        for _ in range(2):
            rest, spread = zero(y), zero(y)
            for i in range(padded):
                v = ((load(dy, at + i) - m) - r) * load(y, at + i)
                store(dx, at + i, v * scale)
                v = choose(i < few, v, T(0))
                rest = plus(rest, v)
                spread = plus(spread, abs(v))
            if is_done(rest, spread):
                break
            r = rest / weight
        else:
            done = False
        if not done:
            alone(y, dy, dx, one, one, one, offsets, s, one, numbers, room)


def softmax_columns(x, y, _, __, x_step, y_step, ___, ____, n, width, numbers, room):
    """Columns side by side, all cut alike."""
    offsets, segments, _ = cuts(numbers)
    narrow = uint64(width) & uint64(NARROW)
    packed = pointer_to(address_of(numbers), int64(0))[COLUMNS_PACKED] == width
    for s in range(segments):
        at, n = (offsets[s] - offsets[0]) * width, uint64(offsets[s + 1] - offsets[s])
        if n > 0 and packed:
            source, target = after(x, at), after(y, at)
            columns_of_softmax(source, target, x, x, narrow, narrow, 0, 0, n, narrow, numbers, room)
        elif n > 0:
            alone(x, y, y, x_step, y_step, y_step, offsets, s, width, numbers, room)


@helper
def cleared(sums, narrow):
    for q in range(uint64(0), uint64(4 * SECTION), uint64(SECTION)):
        for c in range(narrow):
            keep(sums, q + c, type(sums[0])(0))


@helper
def total(sums, c):
    one, two, three = uint64(SECTION), uint64(2 * SECTION), uint64(3 * SECTION)
    return (kept(sums, c) + kept(sums, one + c)) + (kept(sums, two + c) + kept(sums, three + c))


def vjp_columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """Columns side by side, all cut alike."""
    T = type(zero(y))
    offsets, segments, _ = cuts(numbers)
    scale, narrow = T(numbers[0]), uint64(width) & uint64(NARROW)
    packed = pointer_to(address_of(numbers), int64(0))[COLUMNS_PACKED] == width
    part, weight = pointer_to(room, zero(y)), pointer_to(room + 32 * SECTION, zero(y))
    m, r = pointer_to(room + 64 * SECTION, zero(y)), pointer_to(room + 72 * SECTION, zero(y))
    b = pointer_to(room + 80 * SECTION, zero(y))
    for s in range(segments):
        at, n = uint64(offsets[s] - offsets[0]), uint64(offsets[s + 1] - offsets[s])
        attempts = 2 if packed and n <= uint64(FEW) else 0
        cleared(part, narrow)
        cleared(weight, narrow)
        if attempts:
            for k in range(n):
                i, q = (at + k) * narrow, (k & uint64(3)) * uint64(SECTION)
                for c in range(narrow):
                    w = load(y, i + c)
                    keep(part, q + c, fma(w, load(dy, i + c), kept(part, q + c)))
                    keep(weight, q + c, kept(weight, q + c) + w)
            for c in range(narrow):
                keep(b, c, total(weight, c))
                keep(m, c, total(part, c) / kept(b, c))
                keep(r, c, T(0))
            if n == 1:
                for c in range(narrow):
                    keep(m, c, load(dy, at * narrow + c))
        done = n == 0
        while attempts and not done:
            cleared(part, narrow)
            cleared(weight, narrow)
            for k in range(n):
                i, q = (at + k) * narrow, (k & uint64(3)) * uint64(SECTION)
                for c in range(narrow):
                    v = ((load(dy, i + c) - kept(m, c)) - kept(r, c)) * load(y, i + c)
                    store(dx, i + c, v * scale)
                    keep(part, q + c, kept(part, q + c) + v)
                    keep(weight, q + c, kept(weight, q + c) + abs(v))
            done = True
            for c in range(narrow):
                done &= is_done(total(part, c), total(weight, c))
                keep(r, c, total(part, c) / kept(b, c))
            attempts -= 1
        if not done:
            alone(y, dy, dx, y_step, dy_step, dx_step, offsets, s, width, numbers, room)


@helper
def each(a, b, c, d, a_step, b_step, c_step, d_step, a_next, b_next, c_next, width, numbers, room):
    """All segments by the kernel of whole rows, or columns.

    In an array the elements of a segment are `next` bytes apart, in d as in c; 0 for an array of one number
    for each.
    """
    offsets, segments, _ = cuts(numbers)
    more = pointer_to(address_of(numbers), int64(0))
    whole, first, apart = more[WHOLE], more[FIRST], 8 * int64(numbers[NEXT])
    a, b, c, d = address_of(a), address_of(b), address_of(c), address_of(d)
    for s in range(segments):
        at, n, number = offsets[s] - offsets[0], offsets[s + 1] - offsets[s], (first + s) * apart
        of_a = a + choose(a_next == 0, number, at * a_next)
        of_b = b + choose(b_next == 0, number, at * b_next)
        if n > 0:
            call(
                *(whole, of_a, of_b, c + at * c_next, d + at * c_next, a_step, b_step, c_step, d_step),
                *(n, width, address_of(numbers), room),
            )


def maps_rows(a, b, c, d, a_step, b_step, c_step, d_step, n, count, numbers, room):
    """Of arrays which all have the elements of the segments."""
    item = int64(bytes_of(a))
    each(a, b, c, d, a_step, b_step, c_step, d_step, item, item, item, count, numbers, room)


def maps_columns(a, b, c, _, a_step, b_step, c_step, __, n, width, numbers, room):
    item, none = int64(bytes_of(a)), int64(0)
    a_next, b_next, c_next = a_step * item, b_step * item, c_step * item
    each(a, b, c, c, a_step, b_step, c_step, none, a_next, b_next, c_next, width, numbers, room)


def reduce_rows(x, found, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """One number of each segment."""
    item, none = int64(bytes_of(x)), int64(0)
    each(x, found, x, x, x_step, step, none, none, item, none, none, count, numbers, room)


def reduce_columns(x, found, _, __, x_step, step, ___, ____, n, width, numbers, room):
    x_next, none = x_step * int64(bytes_of(x)), int64(0)
    each(x, found, x, x, x_step, step, none, none, x_next, none, none, width, numbers, room)


def reduce_vjp_rows(dy, x, dx, _, dy_step, x_step, dx_step, __, n, count, numbers, room):
    item, none = int64(bytes_of(x)), int64(0)
    each(dy, x, dx, dx, dy_step, x_step, dx_step, none, none, item, item, count, numbers, room)


def reduce_vjp_columns(dy, x, dx, _, dy_step, x_step, dx_step, __, n, width, numbers, room):
    item, none = int64(bytes_of(x)), int64(0)
    x_next, dx_next = x_step * item, dx_step * item
    each(dy, x, dx, dx, dy_step, x_step, dx_step, none, none, x_next, dx_next, width, numbers, room)


def softmax_rows_room(n: int, narrow: bool) -> int:
    return OWN + softmax.rows_room(max(n, SHORT + 1), narrow)


def softmax_columns_room(n: int, width: int, narrow: bool) -> int:
    return OWN + softmax.columns_room(min(n, softmax.KEPT), width, narrow)  # n is that of the longest


def vjp_rows_room(n: int, narrow: bool) -> int:
    return OWN + vjp.rows_room(n, narrow)


def vjp_columns_room(n: int, width: int, narrow: bool) -> int:
    return OWN + vjp.columns_room(n, width, narrow)


HEAD = 3 + MOST  # numbers that `drive.drive` is given
FOR_A_BLOCK = HEAD + NEXT + 1  # and the numbers of the call; the plan follows, and scratch memory


def drive(given, memory, start, stop):
    """Do the tiles `start` … `stop` − 1 of a call in blocks of segments, all of a block one after the other.

    For each block `drive.drive` is called as if there were no other.  `given` are what it takes; its address;
    how many numbers the plan has, and a block tiles; and the addresses of the offsets and of the edges: a
    block has the segments edges[block] … edges[block + 1] − 1; and `COLUMNS_PACKED`.
    """
    given, own = pointer_to(given, int64(0)), pointer_to(memory, int64(0))
    driver, fields, tiles = given[HEAD], given[HEAD + 1], given[HEAD + 2]
    offsets, edges = pointer_to(given[HEAD + 3], int64(0)), pointer_to(given[HEAD + 4], int64(0))
    numbers, plan = after(own, HEAD), after(own, FOR_A_BLOCK)
    rest = (address_of(after(plan, fields)) + 63) & -64  # begins with a line of the cache
    copied(given, own, HEAD)
    copied(pointer_to(given[1], int64(0)), numbers, MORE)
    copied(pointer_to(given[0], int64(0)), plan, fields)
    own[0], own[1] = address_of(plan), address_of(numbers)
    numbers[WHOLE], numbers[COLUMNS_PACKED] = plan[PART], given[HEAD + 5]
    numbers[NEXT] = pointer_to(given[1], int64(0))[MORE]  # a float64, if there is one
    steps, each = SIZES + plan[KEPT] + plan[REDUCED], plan[KEPT] + plan[REDUCED] + 2
    while start < stop:
        block = start // tiles
        first = edges[block]
        n = offsets[edges[block + 1]] - offsets[first]
        plan[N] = plan[RUN] = n
        numbers[CUTS], numbers[SEGMENTS] = address_of(after(offsets, first)), edges[block + 1] - first
        numbers[FIRST] = first
        for i in range(MOST):
            of_array = steps + (i + 1) * each
            own[2 + i] = given[2 + i] + offsets[first] * plan[of_array - 2] * plan[of_array - 1]
        tile = start - block * tiles
        last = min(tiles, tile + stop - start)
        if n > 0:
            call(driver, memory, rest, tile, last)
        start += last - tile
