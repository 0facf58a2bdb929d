"""The product with the Jacobian of softmax, dx = y ∘ (dy − ⟨y,dy⟩/⟨y,1⟩): the vjp, and the jvp.

A row is centred on its mean m as computed, and tested in the same sweep: c = Σ y(dy − m) is what is left of
the mean, and if |c| ≤ 4·eps·Σ|y(dy − m)| the row is done, as nearly every row of ordinary data is.  The
others are `careful`: they start from the dy of the winner, the largest y, if that is near the mean, and are
centred twice, which is exact for the winner, its ties and constants.  docs/decisions.md has the bound and its
proof.
"""

import numpy as np
from numba import int64, njit, uint64

from .exp import is_double
from .intrinsics import bytes_of, choose, fma, larger, load, plus, plus_product, pointer_to, store, zero

MANY = 512  # rows, at most, that are summed before they are written
BYTES = 4096  # of these rows in an array; up to four rows may have twice as many
BLOCK = 1024  # elements of a row that are added up in the working precision; sums of blocks are in float64
DOWN = 64  # the same of a column, which is not cut into lanes
FEW = 16  # the same of what is left of its mean
TILE = 1024  # columns side by side
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
    eps = T(2.0**-52 if is_double(s) else 2.0**-23)
    return abs(T(c)) <= T(4) * eps * s and s < T(np.inf)


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
def write(y, dy, dx, at_y, at_dy, at_dx, start, stop, m, scale, unit):
    """dx of a block, of the mean m; ⟨y, dy − m⟩ and Σ|dx|."""
    c, s = zero(y), zero(y)
    for i in range(start, stop):
        d, w = load(dy, at_dy + i) - m, load(y, at_y + i)
        v = d * w if unit else d * scale * w
        store(dx, at_dx + i, v)
        c = plus_product(c, d, w)
        s = plus(s, abs(v))
    return c, s


def rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows of n elements, a step apart in each array.

    Some rows are summed, then written, so that none waits for its own mean; the careful ones follow.
    """
    n, y_step, dy_step, dx_step = uint64(n), uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    unit = scale == 1
    a, b = pointer_to(room, 0.0), pointer_to(room + 8 * MANY, 0.0)
    mean, size = pointer_to(room + 16 * MANY, zero(y)), pointer_to(room + 24 * MANY, zero(y))
    left = pointer_to(room + 32 * MANY, int64(0))
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
        for j in range(some):
            mean[j] = T(a[j] / b[j])
        for j in range(some):
            at_y, at_dy, at_dx = (first + j) * y_step, (first + j) * dy_step, (first + j) * dx_step
            if n <= uint64(BLOCK):
                a[j], size[j] = write(y, dy, dx, at_y, at_dy, at_dx, uint64(0), n, mean[j], scale, unit)
            else:
                a[j], size[j] = 0.0, T(0)
                for k in range(uint64(0), n, uint64(BLOCK)):
                    stop = min(k + uint64(BLOCK), n)
                    c, s = write(y, dy, dx, at_y, at_dy, at_dx, k, stop, mean[j], scale, unit)
                    a[j] += c
                    size[j] += s
        for j in range(some):
            a[j] = 0.0 if is_done(a[j] * scale, size[j]) else 1.0
        failed = 0
        for j in range(some):
            left[failed] = j
            failed += int64(a[j])
        for f in range(failed):
            j = uint64(left[f])
            r = first + j
            careful(y, dy, dx, r * y_step, r * dy_step, r * dx_step, n, mean[j], b[j], scale)


@inlined
def centred_sum(y, dy, at_y, at_dy, n, h, ref, q):
    """⟨y, (h·dy − ref) − q⟩."""
    if n <= uint64(BLOCK):
        part = zero(y)
        for i in range(n):
            part = plus_product(part, load(y, at_y + i), (load(dy, at_dy + i) * h - ref) - q)
        return np.float64(part)
    total = lost_total = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(BLOCK), n)
        part = zero(y)
        for i in range(k, stop):
            part = plus_product(part, load(y, at_y + i), (load(dy, at_dy + i) * h - ref) - q)
        total, lost = two_sum(total, np.float64(part))
        lost_total += lost
        k = stop
    return total + lost_total


@inlined
def centre(y, dy, at_y, at_dy, n, h, m, b):
    """(ref, q, r), such that ((h·dy − ref) − q) − r is h·dy less its mean, of which m is a first estimate.

    ref is the dy of the winner, the largest y, if that is near the mean; else it is m.
    """
    T = type(zero(y))
    lowest = m * T(0) - T(np.inf)  # of a constant LLVM would make a branch, and then no lanes
    top, ref = load(y, at_y), lowest
    for i in range(n):
        top = larger(top, load(y, at_y + i))
    for i in range(n):
        g = load(dy, at_dy + i) * h
        ref = larger(ref, choose(load(y, at_y + i) == top, g, lowest))
    if not abs(ref - m) * T(4) <= abs(m):
        ref = m
    q = T(centred_sum(y, dy, at_y, at_dy, n, h, ref, T(0)) / b)
    return ref, q, T(centred_sum(y, dy, at_y, at_dy, n, h, ref, q) / b)


@helper
def careful(y, dy, dx, at_y, at_dy, at_dx, n, m, b, scale):
    """A row that is centred twice; or is empty."""
    T = type(zero(y))
    if b == 0:
        for i in range(n):
            store(dx, at_dx + i, T(0))
        return
    ref, q, r = centre(y, dy, at_y, at_dy, n, T(1), m, b)
    s = zero(y)
    for i in range(n):
        v = (((load(dy, at_dy + i) - ref) - q) - r) * scale * load(y, at_y + i)
        store(dx, at_dx + i, v)
        s = plus(s, abs(v))
    if not abs(q) + abs(r) + s < T(np.inf):
        h, ref, q, r = safe_centre(y, dy, at_y, at_dy, n, b)
        for i in range(n):
            v = (((load(dy, at_dy + i) * h - ref) - q) - r) * load(y, at_y + i)
            store(dx, at_dx + i, v * scale * (T(1) / h))


@helper
def safe_centre(y, dy, at_y, at_dy, n, b):
    """(h, ref, q, r) as of `centre`, h a power of two: nothing overflows; r is NaN if a dy is not finite."""
    T = type(zero(y))
    spoilt = zero(y)
    for i in range(n):
        spoilt = plus(spoilt, load(dy, at_dy + i) * T(0))
    h = T(0.0625)
    m = T(centred_sum(y, dy, at_y, at_dy, n, h, T(0), T(0)) / b)
    ref, q, r = centre(y, dy, at_y, at_dy, n, h, m, b)
    return h, ref, q, r + spoilt


def columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, n elements a step apart; four are added at a time."""
    n, width, four = uint64(n), uint64(width), uint64(4)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    a, b = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    m, s = pointer_to(room + 2 * SECTION, zero(y)), pointer_to(room + 3 * SECTION, zero(y))
    part, weight = pointer_to(room + 4 * SECTION, zero(y)), pointer_to(room + 5 * SECTION, zero(y))
    for c in range(width):
        a[c] = b[c] = 0.0
        s[c] = T(0)
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
        m[c] = T(a[c] / b[c])
        a[c] = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(FEW), n)
        for c in range(width):
            part[c] = T(0)
        for i in range(k, stop):
            for c in range(width):
                d, w = load(dy, i * dy_step + c) - m[c], load(y, i * y_step + c)
                v = d * scale * w
                store(dx, i * dx_step + c, v)
                store(part, c, fma(d, w, part[c]))
                store(s, c, s[c] + abs(v))
        for c in range(width):
            a[c] += part[c]
        k = stop
    failed = False
    for c in range(width):
        done = is_done(a[c] * scale, s[c])
        s[c] = T(1) if done else T(-1)
        failed |= not done
    if failed and careful_columns(y, dy, dx, y_step, dy_step, dx_step, n, width, scale, room):
        careful_columns(y, dy, dx, y_step, dy_step, dx_step, n, width, scale, room)


@helper
def centred_means(y, dy, y_step, dy_step, n, width, h, ref, q, part, total, lost_total, b, mean):
    """⟨y, (h·dy − ref) − q⟩/b of each column."""
    T = type(zero(y))
    for c in range(width):
        total[c] = lost_total[c] = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(DOWN), n)
        for c in range(width):
            part[c] = T(0)
        for i in range(k, stop - (stop - k) % uint64(4), uint64(4)):
            y0, dy0 = i * y_step, i * dy_step
            y1, dy1 = y0 + y_step, dy0 + dy_step
            y2, dy2 = y1 + y_step, dy1 + dy_step
            y3, dy3 = y2 + y_step, dy2 + dy_step
            for c in range(width):
                v0 = (load(dy, dy0 + c) * h[c] - ref[c]) - q[c]
                v1 = (load(dy, dy1 + c) * h[c] - ref[c]) - q[c]
                v2 = (load(dy, dy2 + c) * h[c] - ref[c]) - q[c]
                v3 = (load(dy, dy3 + c) * h[c] - ref[c]) - q[c]
                p01 = fma(load(y, y0 + c), v0, load(y, y1 + c) * v1)
                p23 = fma(load(y, y2 + c), v2, load(y, y3 + c) * v3)
                store(part, c, part[c] + (p01 + p23))
        for i in range(stop - (stop - k) % uint64(4), stop):
            for c in range(width):
                v = (load(dy, i * dy_step + c) * h[c] - ref[c]) - q[c]
                store(part, c, fma(load(y, i * y_step + c), v, part[c]))
        for c in range(width):
            total[c], lost = two_sum(total[c], np.float64(part[c]))
            lost_total[c] += lost
        k = stop
    for c in range(width):
        mean[c] = T((total[c] + lost_total[c]) / b[c])


@helper
def careful_columns(y, dy, dx, y_step, dy_step, dx_step, n, width, scale, room):
    """`careful` for the columns whose s is negative; what the others get is what they had.

    Where s is −2, numbers that overflow are seen to.  Whether that is needed for a column, which then has it,
    is returned.
    """
    T = type(zero(y))
    a, b = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    m, s = pointer_to(room + 2 * SECTION, zero(y)), pointer_to(room + 3 * SECTION, zero(y))
    part, top = pointer_to(room + 4 * SECTION, zero(y)), pointer_to(room + 5 * SECTION, zero(y))
    q, r = pointer_to(room + 6 * SECTION, zero(y)), pointer_to(room + 7 * SECTION, zero(y))
    h, spoilt = pointer_to(room + 8 * SECTION, zero(y)), pointer_to(room + 9 * SECTION, zero(y))
    ref, lost = pointer_to(room + 10 * SECTION, zero(y)), pointer_to(room + 11 * SECTION, 0.0)
    again = False
    for c in range(width):
        h[c] = T(0.0625) if s[c] < T(-1) else T(1)
        again |= s[c] < T(-1)
        q[c] = spoilt[c] = T(0)
        ref[c] = top[c] = T(-np.inf)
    for i in range(n):
        for c in range(width):
            store(top, c, larger(top[c], load(y, i * y_step + c)))
    if again:
        for i in range(n):
            for c in range(width):
                store(spoilt, c, spoilt[c] + load(dy, i * dy_step + c) * T(0))
        centred_means(y, dy, y_step, dy_step, n, width, h, q, q, part, a, lost, b, r)
        for c in range(width):
            m[c] = choose(s[c] < T(-1), r[c], m[c])
    for i in range(n):
        for c in range(width):
            g = load(dy, i * dy_step + c) * h[c]
            store(ref, c, larger(ref[c], choose(load(y, i * y_step + c) == top[c], g, T(-np.inf))))
    for c in range(width):
        near = s[c] < T(0) and abs(ref[c] - m[c]) * T(4) <= abs(m[c])
        ref[c] = ref[c] if near else m[c]
    centred_means(y, dy, y_step, dy_step, n, width, h, ref, q, part, a, lost, b, q)
    for c in range(width):
        q[c] = q[c] if s[c] < T(0) else T(0)
    centred_means(y, dy, y_step, dy_step, n, width, h, ref, q, part, a, lost, b, r)
    for c in range(width):
        r[c] = r[c] + spoilt[c] if s[c] < T(0) else T(0)
        part[c] = T(0)
    for i in range(n):
        for c in range(width):
            d = ((load(dy, i * dy_step + c) * h[c] - ref[c]) - q[c]) - r[c]
            w = load(y, i * y_step + c)
            v = choose(h[c] < T(1), d * w * scale * T(16), d * scale * w)
            store(dx, i * dx_step + c, v)
            store(part, c, part[c] + abs(v))
    overflow = False
    for c in range(width):
        if s[c] < T(0) and not abs(q[c]) + part[c] < T(np.inf):
            overflow |= s[c] == T(-1)
            s[c] = T(-2)
        if b[c] == 0.0:
            for i in range(n):
                store(dx, i * dx_step + c, T(0))
    return overflow


def rows_room(n: int, narrow: bool) -> int:
    return 40 * MANY


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 12 * SECTION
