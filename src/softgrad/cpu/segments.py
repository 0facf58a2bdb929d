"""Segments: rows, or columns, of different lengths, which the same kernels do.

Most segments are short, and a call of a kernel for each would take longer than its work.  So short ones are
done here, in one loop, and the kernels do what is left: long ones, and those that fail the test of the vjp
twice.  Segment s is offsets[s] … offsets[s + 1] − 1 along the axis.

(n + 7) & 56 tells LLVM that a loop has at most 56 rounds, in eights: it becomes a few vectors, without a loop
for what is left over.  What lies beyond a segment is read, and not used; what is written beyond it, the next
segment overwrites.  The driver sees to the last one.
"""

import numpy as np
from numba import int64, njit, uint32, uint64

from . import softmax
from .exp import upper_half
from .intrinsics import address_of, call, choose, fma, keep, kept, larger, load, plus, pointer_to, store, zero
from .softmax import inverse, power_of
from .vjp import is_done

SHORT = 56  # elements of a row
AT_ONCE = 32  # segments whose powers are kept until their sums are known
FEW = 64  # rows of columns, of which every fourth is added up
NARROW = 24  # columns side by side, in eights
SECTION = 32  # numbers of a sum for each of them
CHUNK = 2048  # elements of segments that go through scratch memory at once
OWN = 8 * AT_ONCE * (SHORT + 2)  # bytes of scratch memory; what the kernels need follows
MOST = 3  # arrays

helper = njit(nogil=True, error_model="numpy")
columns_of_softmax = njit(nogil=True, error_model="numpy", inline="always")(softmax.columns)


@helper
def alone(whole, a, b, c, a_step, b_step, c_step, offsets, s, width, item, numbers, room):
    """The kernel for one segment, of rows or columns that lie a step apart."""
    at, n = offsets[s], offsets[s + 1] - offsets[s]
    call(
        whole,
        *(address_of(a) + at * a_step * item, address_of(b) + at * b_step * item),
        *(address_of(c) + at * c_step * item, int64(0), a_step, b_step, c_step, int64(0)),
        *(n, width, address_of(numbers), room),
    )


def each(a, b, c, a_step, b_step, c_step, offsets, first, last, width, item, numbers, room, whole):
    """Segments of any columns, without a way for short ones."""
    for s in range(first, last):
        if offsets[s] < offsets[s + 1]:
            alone(whole, a, b, c, a_step, b_step, c_step, offsets, s, width, item, numbers, room)


@helper
def extent(offsets, s):
    """Where segment s begins, its length, and that in eights; of a long one the lengths are 0."""
    n = offsets[s + 1] - offsets[s]
    few = uint32(n) if n <= SHORT else uint32(0)
    return uint64(offsets[s]), few, (few + uint32(7)) & uint32(56)


def softmax_rows(x, y, _, x_step, y_step, __, offsets, first, last, width, item, numbers, room, whole):
    """Segments of elements that are neighbours."""
    T = type(zero(x))
    scale, low, lowest = T(numbers[0]), T(numbers[1]), T(numbers[5])  # of a constant −inf LLVM makes a branch
    e = pointer_to(room, zero(x))
    high, rest = (
        pointer_to(room + 8 * AT_ONCE * SHORT, 0.0),
        pointer_to(room + 8 * AT_ONCE * (SHORT + 1), 0.0),
    )
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
                p = choose(i < few, power_of(load(x, at + i), top, scale, low, False), T(0))
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
                alone(whole, x, y, y, x_step, y_step, y_step, offsets, s, int64(1), item, numbers, room + OWN)


def vjp_rows(y, dy, dx, y_step, dy_step, dx_step, offsets, first, last, width, item, numbers, room, whole):
    """Segments of elements that are neighbours; those that fail the test are centred once more."""
    T = type(zero(y))
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
            alone(whole, y, dy, dx, y_step, dy_step, dx_step, offsets, s, int64(1), item, numbers, room)


def softmax_columns(x, y, _, x_step, y_step, __, offsets, first, last, width, item, numbers, room, whole):
    """Segments of 8, 16 or 24 columns, which are all that there are."""
    narrow = uint64(width) & uint64(NARROW)
    for s in range(first, last):
        at, n = offsets[s] * width * item, uint64(offsets[s + 1] - offsets[s])
        if n > 0:
            source, target = pointer_to(address_of(x) + at, x), pointer_to(address_of(y) + at, y)
            columns_of_softmax(source, target, x, x, narrow, narrow, 0, 0, n, narrow, numbers, room)


@helper
def cleared(sums, narrow):
    for q in range(uint64(0), uint64(4 * SECTION), uint64(SECTION)):
        for c in range(narrow):
            keep(sums, q + c, type(sums[0])(0))


@helper
def total(sums, c):
    one, two, three = uint64(SECTION), uint64(2 * SECTION), uint64(3 * SECTION)
    return (kept(sums, c) + kept(sums, one + c)) + (kept(sums, two + c) + kept(sums, three + c))


def vjp_columns(y, dy, dx, y_step, dy_step, dx_step, offsets, first, last, width, item, numbers, room, whole):
    """Segments of 8, 16 or 24 columns, which are all that there are."""
    T = type(zero(y))
    scale, narrow = T(numbers[0]), uint64(width) & uint64(NARROW)
    part, weight = pointer_to(room, zero(y)), pointer_to(room + 32 * SECTION, zero(y))
    m, r = pointer_to(room + 64 * SECTION, zero(y)), pointer_to(room + 72 * SECTION, zero(y))
    b = pointer_to(room + 80 * SECTION, zero(y))
    for s in range(first, last):
        at, n = uint64(offsets[s]), uint64(offsets[s + 1] - offsets[s])
        attempts = 2 if n <= uint64(FEW) else 0
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
        done = False
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
            alone(whole, y, dy, dx, y_step, dy_step, dx_step, offsets, s, width, item, numbers, room)


# what stands where in the plan of a call
(
    KERNEL,  # the address of one of the above
    WHOLE,  # that of the kernel for a whole segment
    READ,  # how many arrays it reads; they come first
    COLUMNS,  # whether there are columns side by side
    DIRECT,  # whether the kernel works on the arrays as they are
    WIDTH,  # columns at most
    FEATURES,  # columns in all
    ITEM,  # bytes of an element in scratch memory
    ROOM,  # bytes of scratch memory for the kernel
    KEPT,  # axes that are kept; the last one is that of the tiles of columns
    MOVE,  # for each array the function that gathers or scatters it
) = range(11)
SIZES = (
    MOVE + MOST
)  # of the kept axes; then for each array, in elements, its steps along these axes, the axis
# that is cut, and from column to column; and the bytes of an element


def drive(given, memory, start, stop):
    """Do the units `start` … `stop` − 1 of the arrays at addresses a, b, c.

    A unit is a block of segments, edges[block] … edges[block + 1] − 1, at one place of the kept axes.
    `where` is the address of a mask of nothing, `longest` the most rows that go through scratch memory at
    once.
    """
    given = pointer_to(given, int64(0))
    numbers, a, b, c, where = given[1], given[2], given[3], given[4], given[5]
    offsets, edges, blocks, longest = given[6], given[7], given[8], given[9]
    plan, values = pointer_to(given[0], int64(0)), pointer_to(numbers, 0.0)
    edges, table, cut = (
        pointer_to(edges, int64(0)),
        pointer_to(memory, int64(0)),
        pointer_to(offsets, int64(0)),
    )
    kept, columns, item = plan[KEPT], plan[COLUMNS] != 0, plan[ITEM]
    fields = kept + 3
    room = memory + 64
    scratch = room + plan[ROOM]
    size = (longest * plan[WIDTH] + 2 * SHORT) * item
    table[0], table[1], table[2] = a, b, c
    for unit in range(start, stop):
        block, rest = unit % blocks, unit // blocks
        width = plan[WIDTH]
        table[3], table[4], table[5] = a, b, c
        for k in range(kept - 1, -1, -1):
            index = rest % plan[SIZES + k]
            rest //= plan[SIZES + k]
            if k == kept - 1:
                width = min(width, plan[FEATURES] - index * width)
            for i in range(MOST):
                of_array = SIZES + kept + i * fields
                table[3 + i] += index * plan[of_array + k] * plan[of_array + kept + 2]
        first, last = edges[block], edges[block + 1]
        if plan[DIRECT] != 0:
            tail = last
            while not columns and tail > first and cut[tail - 1] > cut[last] - SHORT:
                tail -= 1  # might write beyond the last one
            call(
                *(plan[KERNEL], table[3], table[4], table[5]),
                *(plan[SIZES + kept + kept], plan[SIZES + kept + fields + kept]),
                *(plan[SIZES + kept + 2 * fields + kept], offsets, first, tail, width, item, numbers, room),
                plan[WHOLE],
            )
            first = tail
        while first < last:
            stop_at = first + 1
            while stop_at < last and cut[stop_at + 1] - cut[first] <= max(1, CHUNK // width):
                stop_at += 1
            begin, rows = cut[first], cut[stop_at] - cut[first]
            move(plan, values, memory, where, scratch, size, begin, rows, width, 0, plan[READ])
            shift = scratch - begin * width * item
            call(
                *(plan[KERNEL], shift, shift + size, shift + 2 * size, width, width, width),
                *(offsets, first, stop_at, width, item, numbers, room, plan[WHOLE]),
            )
            move(plan, values, memory, where, scratch, size, begin, rows, width, plan[READ], plan[READ] + 1)
            first = stop_at


@helper
def move(plan, values, memory, where, scratch, size, begin, rows, width, i, stop):
    """Gather or scatter the arrays i … `stop` − 1, from row `begin` on."""
    table = pointer_to(memory, int64(0))
    while i < stop:
        of_array = SIZES + plan[KEPT] + i * (plan[KEPT] + 3)
        along, across = plan[of_array + plan[KEPT]], plan[of_array + plan[KEPT] + 1]
        at, part = table[3 + i] + begin * along * plan[of_array + plan[KEPT] + 2], scratch + i * size
        count, n, rows_step, step = rows, width, along, across
        if plan[COLUMNS] == 0:
            count, n, rows_step, step = int64(1), rows, int64(0), along
        elif along == width:  # rows without gaps are one long row
            count, n = int64(1), rows * width
        none = int64(0)
        if i < plan[READ]:
            factor = values[3] if i == plan[READ] - 1 else 1.0
            call(
                *(plan[MOVE + i], at, rows_step, step, where, none, none, part, width, count, n),
                *(factor, values[4], values[5 + i]),
            )
        else:
            call(
                *(
                    plan[MOVE + i],
                    part,
                    width,
                    at,
                    rows_step,
                    step,
                    where,
                    none,
                    none,
                    count,
                    n,
                    values[5 + i],
                )
            )
        i += 1
