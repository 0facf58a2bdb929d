"""The product with the Jacobian of softmax, dx = y ∘ (dy − ⟨y,dy⟩/⟨y,1⟩): the vjp, and the jvp.

A row is centred on its mean m as computed, and tested in the same sweep: c = Σ y(dy − m) is what is left of
the mean, and if |c| is a few eps of Σ|y(dy − m)| the row is done, as nearly every row of ordinary data is.
The others have r = c/Σy taken off besides and are tested again, which is enough for saturated rows and
offsets.  What is left is `careful`: it starts from the dy of the winner, the largest y, which is exact for
ties and constants.  docs/decisions.md has the bound and its proof.
"""

import numpy as np
from numba import int64, njit, uint64

from .exp import is_double
from .intrinsics import (
    after,
    bytes_of,
    choose,
    fma,
    keep,
    kept,
    larger,
    load,
    plus,
    plus_product,
    pointer_to,
    store,
    store_row,
    zero,
)

MANY = 512  # rows, at most, that are summed before they are written
BYTES = 4096  # of these rows in an array; up to four rows may have twice as many
BLOCK = 1024  # elements of a row that are added up in the working precision; sums of blocks are in float64
DOWN = 64  # the same of a column, which is not cut into lanes
FEW = 16  # the same in `careful`, of what is left of its mean
TILE = 1024  # columns side by side
STRIP = 128  # of these, what fails the test together
SECTION = 8 * TILE  # bytes of a number for each of them

helper = njit(nogil=True, error_model="numpy")
inlined = njit(nogil=True, error_model="numpy", inline="always")


@helper
def two_sum(a, b):
    """a + b, and what rounding took from it."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


@helper
def is_done(c, s):
    """Whether what is left of the mean, c, is as little as rounding makes it."""
    T = type(s)
    few = T(8 * 2.0**-52 if is_double(s) else 4 * 2.0**-23)
    return abs(T(c)) <= few * s and s < T(np.inf)


@inlined
def sums(y, dy, at_y, at_dy, start, stop):
    """⟨y,dy⟩ and ⟨y,1⟩ of a block of a row."""
    a, b = zero(y), zero(y)
    for i in range(start, stop):
        w = load(y, at_y + i)
        a = plus_product(a, w, load(dy, at_dy + i))
        b = plus(b, w)
    return a, b


@inlined
def write(y, dy, dx, at_y, at_dy, at_dx, start, stop, m, r, scale, unit):
    """dx of a block, of the mean m + r; ⟨y, (dy − m) − r⟩ and Σ|dx|."""
    c, s = zero(y), zero(y)
    for i in range(start, stop):
        d, w = load(dy, at_dy + i) - m, load(y, at_y + i)
        if r is not None:
            d -= r
        v = d * w if unit else d * scale * w
        store(dx, at_dx + i, v)
        c = plus_product(c, d, w)
        s = plus(s, abs(v))
    return c, s


def rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows of n elements, a step apart in each array."""
    write_rows(None, y, dy, dx, 0, y_step, dy_step, dx_step, n, count, numbers, room)


# what a row may have beside the arrays: its scale; and one more element, the sink, with dy, y and its dx
DY_SINK, SCALE, Y_SINK, DSINK = range(4)


@helper
def write_rows(table, y, dy, dx, step, y_step, dy_step, dx_step, n, count, numbers, room):
    """Some rows are summed, then written, so that none waits for its own mean; the careful ones follow."""
    n, one, step = uint64(n), uint64(1), uint64(step)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    unit = scale == 1 if table is None else False
    a, b = pointer_to(room, 0.0), pointer_to(room + 8 * MANY, 0.0)
    mean, size = pointer_to(room + 16 * MANY, zero(y)), pointer_to(room + 24 * MANY, zero(y))
    left = pointer_to(room + 32 * MANY, int64(0))
    # of the sinks, and the scales
    y_sink, dy_sink = pointer_to(room + 40 * MANY, 0.0), pointer_to(room + 48 * MANY, 0.0)
    dsink, scales = pointer_to(room + 56 * MANY, 0.0), pointer_to(room + 64 * MANY, 0.0)
    length = n * bytes_of(y)
    many = min(uint64(MANY), uint64(BYTES) // length)
    many = max(many, min(uint64(4), uint64(2 * BYTES) // length), uint64(1))
    for first in range(uint64(0), uint64(count), many):
        some = min(many, uint64(count) - first)
        for j in range(some):
            at_y, at_dy = (first + j) * y_step, (first + j) * dy_step
            if n <= uint64(BLOCK):
                a[j], b[j] = sums(y, dy, at_y, at_dy, uint64(0), n)
            else:
                a[j] = b[j] = 0.0
                for k in range(uint64(0), n, uint64(BLOCK)):
                    part, weight = sums(y, dy, at_y, at_dy, k, min(k + uint64(BLOCK), n))
                    a[j] += part
                    b[j] += weight
        if table is not None:
            for j in range(some):
                of_row = after(table, (first + j) * step)
                y_sink[j], dy_sink[j], scales[j] = of_row[Y_SINK], of_row[DY_SINK], of_row[SCALE]
            for j in range(some):
                a[j] += y_sink[j] * dy_sink[j]
                b[j] += y_sink[j]
        for j in range(some):
            mean[j] = choose(b[j] == 0, T(0), T(a[j] / b[j]))
        for j in range(some):
            at_y, at_dy, at_dx = (first + j) * y_step, (first + j) * dy_step, (first + j) * dx_step
            if table is not None:
                scale = T(scales[j])
            if n <= uint64(BLOCK):
                a[j], size[j] = write(y, dy, dx, at_y, at_dy, at_dx, uint64(0), n, mean[j], None, scale, unit)
            else:
                a[j], size[j] = 0.0, T(0)
                for k in range(uint64(0), n, uint64(BLOCK)):
                    stop = min(k + uint64(BLOCK), n)
                    c, s = write(y, dy, dx, at_y, at_dy, at_dx, k, stop, mean[j], None, scale, unit)
                    a[j] += c
                    size[j] += s
        for j in range(some):
            if table is not None:
                scale, dsink[j] = T(scales[j]), y_sink[j] * (dy_sink[j] - mean[j])
                a[j] += dsink[j]
                size[j] += T(abs(dsink[j] * scales[j]))
            size[j] = T(0) if is_done(a[j] * scale, size[j]) else T(1)
        failed = 0
        for j in range(some):
            left[failed] = j
            failed += int64(size[j])
        for f in range(failed):
            j = uint64(left[f])
            at_y, at_dy, at_dx = (first + j) * y_step, (first + j) * dy_step, (first + j) * dx_step
            r = T(a[j] / b[j])
            rest = spread = 0.0
            if table is not None:
                scale, dsink[j] = T(scales[j]), y_sink[j] * ((dy_sink[j] - mean[j]) - r)
                rest, spread = dsink[j], abs(dsink[j] * scales[j])
            for k in range(uint64(0), n, uint64(BLOCK)):
                stop = min(k + uint64(BLOCK), n)
                c, s = write(y, dy, dx, at_y, at_dy, at_dx, k, stop, mean[j], r, scale, unit)
                rest += c
                spread += s
            if is_done(rest * scale, T(spread)):
                continue
            if table is None:
                careful(y, dy, dx, at_y, at_dy, at_dx, one, one, one, n, b[j], scale)
            else:
                copy = room + 72 * MANY
                sink = y_sink[j], dy_sink[j], scales[j]
                dsink[j] = careful_with_sink(sink, y, dy, dx, at_y, at_dy, at_dx, n, b[j], copy)
        if table is not None:
            for j in range(some):
                table[(first + j) * step + DSINK] = dsink[j]


@helper
def careful_with_sink(sink, y, dy, dx, at_y, at_dy, at_dx, n, b, room):
    """The row is copied, followed by its sink, of which dx is returned."""
    T, (y_sink, dy_sink, scale) = type(zero(y)), sink
    s, d = pointer_to(room, zero(y)), pointer_to(room + 8 * int64(n + uint64(1)), zero(y))
    found, one = pointer_to(room + 16 * int64(n + uint64(1)), zero(y)), uint64(1)
    for i in range(n):
        s[i], d[i] = load(y, at_y + i), load(dy, at_dy + i)
    s[n], d[n] = T(y_sink), T(dy_sink)
    careful(s, d, found, uint64(0), uint64(0), uint64(0), one, one, one, n + one, b, T(1))
    for i in range(n):
        store(dx, at_dx + i, found[i] * T(scale))
    return np.float64(found[n])


@helper
def centred_sum(y, dy, at_y, at_dy, y_step, dy_step, n, h, ref, q):
    """⟨y, (h·dy − ref) − q⟩, and the same of the terms' absolute values."""
    total = lost_total = total_size = 0.0
    block = uint64(BLOCK if y_step == 1 else FEW)
    for k in range(uint64(0), n, block):
        part, size = zero(y), zero(y)
        for i in range(k, min(k + block, n)):
            v = ((load(dy, at_dy + i * dy_step) * h - ref) - q) * load(y, at_y + i * y_step)
            part = plus(part, v)
            size = plus(size, abs(v))
        total, lost = two_sum(total, np.float64(part))
        lost_total += lost
        total_size += size
    return total + lost_total, total_size


@helper
def centre(y, dy, at_y, at_dy, y_step, dy_step, n, h, m, b):
    """(ref, q, r), such that ((h·dy − ref) − q) − r is h·dy less its mean, of which m is a first estimate.

    ref is the dy of the winner, the largest y, if that is near the mean; else it is m.
    """
    T = type(zero(y))
    lowest = m * T(0) - T(np.inf)  # of a constant LLVM would make a branch, and then no lanes
    top, ref = load(y, at_y), lowest
    for i in range(n):
        top = larger(top, load(y, at_y + i * y_step))
    for i in range(n):
        g = load(dy, at_dy + i * dy_step) * h
        ref = larger(ref, choose(load(y, at_y + i * y_step) == top, g, lowest))
    if not abs(ref - m) * T(4) <= abs(m):
        ref = m
    q = T(centred_sum(y, dy, at_y, at_dy, y_step, dy_step, n, h, ref, T(0))[0] / b)
    return ref, q, T(centred_sum(y, dy, at_y, at_dy, y_step, dy_step, n, h, ref, q)[0] / b)


@helper
def centred(y, dy, at_y, at_dy, y_step, dy_step, n, b):
    """(h, ref, q, r), such that ((h·dy − ref) − q) − r is h·dy less its mean.

    h is 1, or a power of two where a difference would overflow; r is NaN if a dy is not finite.
    """
    T = type(zero(y))
    m, r = T(centred_sum(y, dy, at_y, at_dy, y_step, dy_step, n, T(1), T(0), T(0))[0] / b), T(0)
    for _ in range(2):
        c, s = centred_sum(y, dy, at_y, at_dy, y_step, dy_step, n, T(1), m, r)
        if is_done(c, T(s)):
            return T(1), m, r, T(0)
        r = T(c / b)
    ref, q, r = centre(y, dy, at_y, at_dy, y_step, dy_step, n, T(1), m, b)
    if abs(q) + abs(r) < T(np.inf):
        return T(1), ref, q, r
    h, spoilt = T(2.0**-30), T(0)  # the weights of sparsemax are 1: the dy of a block are added up
    for i in range(n):
        spoilt = plus(spoilt, load(dy, at_dy + i * dy_step) * T(0))
    m = T(centred_sum(y, dy, at_y, at_dy, y_step, dy_step, n, h, T(0), T(0))[0] / b)
    ref, q, r = centre(y, dy, at_y, at_dy, y_step, dy_step, n, h, m, b)
    return h, ref, q, r + spoilt


@helper
def careful(y, dy, dx, at_y, at_dy, at_dx, y_step, dy_step, dx_step, n, b, scale):
    """A row, or column, of any y and dy."""
    T = type(zero(y))
    if b == 0 or b != b:  # empty, or NaN
        for i in range(n):
            store(dx, at_dx + i * dx_step, T(b))
        return
    h, ref, q, r = centred(y, dy, at_y, at_dy, y_step, dy_step, n, b)
    for i in range(n):
        d, w = ((load(dy, at_dy + i * dy_step) * h - ref) - q) - r, load(y, at_y + i * y_step)
        v = choose(abs(d * scale) < T(np.inf), d * scale * w, d * w * scale)
        store(dx, at_dx + i * dx_step, v * (T(1) / h))


def columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, n elements a step apart; four are added at a time."""
    n, width, four = uint64(n), uint64(width), uint64(4)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    a, b = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    m, s = pointer_to(room + 2 * SECTION, zero(y)), pointer_to(room + 3 * SECTION, zero(y))
    part, weight = pointer_to(room + 4 * SECTION, zero(y)), pointer_to(room + 5 * SECTION, zero(y))
    r = pointer_to(room + 6 * SECTION, zero(y))
    for c in range(width):
        a[c], b[c], r[c] = 0.0, 0.0, T(0)
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(DOWN), n)
        for c in range(width):
            part[c] = weight[c] = T(0)
        for i in range(k, stop - (stop - k) % four, four):
            y0, dy0 = i * y_step, i * dy_step
            y1, dy1 = y0 + y_step, dy0 + dy_step
            y2, dy2 = y1 + y_step, dy1 + dy_step
            y3, dy3 = y2 + y_step, dy2 + dy_step
            for c in range(width):
                w0, w1, w2, w3 = load(y, y0 + c), load(y, y1 + c), load(y, y2 + c), load(y, y3 + c)
                p01 = fma(w0, load(dy, dy0 + c), w1 * load(dy, dy1 + c))
                p23 = fma(w2, load(dy, dy2 + c), w3 * load(dy, dy3 + c))
                store(part, c, part[c] + (p01 + p23))
                store(weight, c, weight[c] + ((w0 + w1) + (w2 + w3)))
        for i in range(stop - (stop - k) % four, stop):
            for c in range(width):
                w = load(y, i * y_step + c)
                store(part, c, fma(w, load(dy, i * dy_step + c), part[c]))
                store(weight, c, weight[c] + w)
        for c in range(width):
            a[c] += part[c]
            b[c] += weight[c]
        k = stop
    for c in range(width):
        m[c] = choose(b[c] == 0, T(0), T(a[c] / b[c]))
    write_columns(y, dy, dx, y_step, dy_step, dx_step, n, uint64(0), width, m, r, scale, part, a, s)
    for first in range(uint64(0), width, uint64(STRIP)):
        last, failed = min(first + uint64(STRIP), width), False
        for c in range(first, last):
            done = is_done(a[c] * scale, s[c])
            r[c] = T(0) if done else T(a[c] / b[c])
            near = abs(m[c]) * T(2.0**-48 if is_double(scale) else 2.0**-19)
            if not done and abs(load(dy, c) - m[c]) <= near:  # constant, it may be
                m[c], r[c] = load(dy, c), T(0)
            failed |= not done
        if not failed:
            continue
        write_columns(y, dy, dx, y_step, dy_step, dx_step, n, first, last, m, r, scale, part, a, s)
        for c in range(first, last):
            if not is_done(a[c] * scale, s[c]):
                careful(y, dy, dx, c, c, c, y_step, dy_step, dx_step, n, b[c], scale)


@inlined
def element(y, dy, dx, at_y, at_dy, at_dx, m, r, scale, row):
    """dx of an element; its part of ⟨y, (dy − m) − r⟩ and of Σ|dx|."""
    d, w = (load(dy, at_dy) - m) - r, load(y, at_y)
    v = d * scale * w
    store_row(dx, at_dx, v, row)
    return d * w, abs(v)


@helper
def write_columns(y, dy, dx, y_step, dy_step, dx_step, n, first, last, m, r, scale, part, a, s):
    """dx of some columns, of the means m + r; ⟨y, (dy − m) − r⟩ into a, and Σ|dx| into s."""
    T, four = type(zero(y)), uint64(4)
    for c in range(first, last):
        a[c], s[c] = 0.0, T(0)
    for k in range(uint64(0), n, uint64(DOWN)):
        stop = min(k + uint64(DOWN), n)
        for c in range(first, last):
            part[c] = T(0)
        for i in range(k, stop - (stop - k) % four, four):
            y0, dy0, dx0 = i * y_step, i * dy_step, i * dx_step
            y1, dy1, dx1 = y0 + y_step, dy0 + dy_step, dx0 + dx_step
            y2, dy2, dx2 = y1 + y_step, dy1 + dy_step, dx1 + dx_step
            y3, dy3, dx3 = y2 + y_step, dy2 + dy_step, dx2 + dx_step
            for c in range(first, last):
                p, q = load(m, c), load(r, c)
                c0, s0 = element(y, dy, dx, y0 + c, dy0 + c, dx0 + c, p, q, scale, 0)
                c1, s1 = element(y, dy, dx, y1 + c, dy1 + c, dx1 + c, p, q, scale, 1)
                c2, s2 = element(y, dy, dx, y2 + c, dy2 + c, dx2 + c, p, q, scale, 2)
                c3, s3 = element(y, dy, dx, y3 + c, dy3 + c, dx3 + c, p, q, scale, 3)
                keep(part, c, kept(part, c) + ((c0 + c1) + (c2 + c3)))
                keep(s, c, kept(s, c) + ((s0 + s1) + (s2 + s3)))
        for i in range(stop - (stop - k) % four, stop):
            for c in range(first, last):
                at_y, at_dy, at_dx = i * y_step + c, i * dy_step + c, i * dx_step + c
                c0, s0 = element(y, dy, dx, at_y, at_dy, at_dx, load(m, c), load(r, c), scale, 0)
                keep(part, c, kept(part, c) + c0)
                keep(s, c, kept(s, c) + s0)
        for c in range(first, last):
            a[c] += part[c]


def rows_room(n: int, narrow: bool) -> int:
    return 40 * MANY


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 7 * SECTION
