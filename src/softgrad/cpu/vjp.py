"""The product with the Jacobian of softmax, dx = y ∘ (dy − ⟨y,dy⟩/⟨y,1⟩): the vjp, and the jvp.

A row is centred on its mean m in one sweep, and tested.  The rounding errors of a = ⟨y,dy⟩ are a few eps of
Σ|y·dy| ≤ |a| + s, where s = Σ|y(dy − m)|, so they are a few eps of s if |a| ≤ 3s, as in nearly every row of ordinary
data.  The others are `careful`: they start from the dy of the winner, the largest y, if that is near the mean, and are
centred twice, which is exact for the winner, its ties and constants.  docs/decisions.md has the bound and its proof.
"""

import numpy as np
from numba import njit, uint64

from .intrinsics import fma, larger, load, plus, plus_product, pointer_to, store, zero

BLOCK = 256  # elements of a row that are added up in the working precision, then in float64 with what that loses
DOWN = 64  # the same of a column, which is not cut into lanes
SHORT = 64  # rows up to this long are one block, in one loop nest
SMALL = 1e-30  # a sum of products of which some may have been subnormal
TILE = 256  # columns side by side
SECTION = 8 * TILE  # bytes of a number for each of them

helper = njit(nogil=True, error_model="numpy")


@helper
def two_sum(a, b):
    """a + b, and what rounding took from it."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


@helper
def is_sure(a, s, scale):
    """Whether a row needs no more than its mean, s being Σ|scale·y(dy − m)|."""
    T = type(s)
    return abs(T(a) * scale) <= T(3) * s and s < T(np.inf) and (s > abs(scale) * T(SMALL) or s == 0)


@helper
def scaled_product(d, y, scale):
    """scale·d·y, which is rounded at the end where it is a subnormal number."""
    u = d * scale
    return u * y if abs(u) < type(d)(np.inf) else (d * y) * scale


def rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    n, y_step, dy_step, dx_step = uint64(n), uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    if n <= uint64(SHORT):
        for r in range(uint64(count)):
            at_y, at_dy, at_dx = r * y_step, r * dy_step, r * dx_step
            a, b = zero(y), zero(y)
            for i in range(n):
                w = load(y, at_y + i)
                a = plus_product(a, w, load(dy, at_dy + i))
                b = plus(b, w)
            m = a / b
            s = zero(y)
            for i in range(n):
                v = (load(dy, at_dy + i) - m) * scale * load(y, at_y + i)
                store(dx, at_dx + i, v)
                s = plus(s, abs(v))
            if not is_sure(a, s, scale):
                careful(y, dy, dx, at_y, at_dy, at_dx, n, m, b, scale)
        return
    for r in range(uint64(count)):
        at_y, at_dy, at_dx = r * y_step, r * dy_step, r * dx_step
        a = b = lost_a = lost_b = 0.0
        k = uint64(0)
        while k < n:
            stop = min(k + uint64(BLOCK), n)
            part, weight = zero(y), zero(y)
            for i in range(k, stop):
                w = load(y, at_y + i)
                part = plus_product(part, w, load(dy, at_dy + i))
                weight = plus(weight, w)
            a, lost = two_sum(a, np.float64(part))
            lost_a += lost
            b, lost = two_sum(b, np.float64(weight))
            lost_b += lost
            k = stop
        a += lost_a
        b += lost_b
        m = T(a / b)
        s = zero(y)
        for i in range(n):
            v = (load(dy, at_dy + i) - m) * scale * load(y, at_y + i)
            store(dx, at_dx + i, v)
            s = plus(s, abs(v))
        if not is_sure(a, s, scale):
            careful(y, dy, dx, at_y, at_dy, at_dx, n, m, b, scale)


@helper
def centred_sum(y, dy, at_y, at_dy, n, h, ref, q):
    """⟨y, (h·dy − ref) − q⟩."""
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


@helper
def extremes(y, dy, at_y, at_dy, n):
    """The largest y, the largest |dy|, and whether all of dy is finite."""
    T = type(zero(y))
    top, largest, spoilt = load(y, at_y), zero(y), zero(y)
    for i in range(n):
        g = load(dy, at_dy + i)
        top = larger(top, load(y, at_y + i))
        largest = larger(largest, abs(g))
        spoilt = plus(spoilt, g * T(0))
    return top, largest, spoilt == 0


@helper
def centre(y, dy, at_y, at_dy, n, m, b, top, largest):
    """(h, ref, q, r), such that ((h·dy − ref) − q) − r is h·dy less its mean; m is the mean, if it is known.

    h is a power of two that lets nothing overflow; ref the dy of the winner, if that is near the mean, or m.
    """
    T = type(zero(y))
    h = T(1) if largest * T(4) < T(np.inf) else T(0.0625)
    if h < 1 or not abs(m) < T(np.inf):
        m = T(centred_sum(y, dy, at_y, at_dy, n, h, T(0), T(0)) / b)
    ref = T(-np.inf)
    for i in range(n):
        ref = larger(ref, load(dy, at_dy + i) * h if load(y, at_y + i) == top else T(-np.inf))
    if not abs(ref - m) * T(4) <= abs(m):
        ref = m
    q = T(centred_sum(y, dy, at_y, at_dy, n, h, ref, T(0)) / b)
    r = T(centred_sum(y, dy, at_y, at_dy, n, h, ref, q) / b)
    return h, ref, q, r


@helper
def careful(y, dy, dx, at_y, at_dy, at_dx, n, m, b, scale):
    """A row that is centred twice; or is empty, or not finite."""
    T = type(zero(y))
    top, largest, finite = extremes(y, dy, at_y, at_dy, n)
    if b == 0 or not (finite and b < np.inf):
        for i in range(n):
            store(dx, at_dx + i, T(0) if b == 0 else T(np.nan))
        return
    h, ref, q, r = centre(y, dy, at_y, at_dy, n, m, b, top, largest)
    for i in range(n):
        d = ((load(dy, at_dy + i) * h - ref) - q) - r
        store(dx, at_dx + i, scaled_product(d, load(y, at_y + i), scale) / h)


def columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, of n elements each a step below the last."""
    n, width = uint64(n), uint64(width)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    a, b = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    m, s = pointer_to(room + 2 * SECTION, zero(y)), pointer_to(room + 3 * SECTION, zero(y))
    part, weight = pointer_to(room + 4 * SECTION, zero(y)), pointer_to(room + 5 * SECTION, zero(y))
    lost_a, lost_b = pointer_to(room + 6 * SECTION, 0.0), pointer_to(room + 7 * SECTION, 0.0)
    for c in range(width):
        a[c] = b[c] = lost_a[c] = lost_b[c] = 0.0
        s[c] = T(0)
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(DOWN), n)
        for c in range(width):
            part[c] = weight[c] = T(0)
        for i in range(k, stop - (stop - k) % uint64(4), uint64(4)):
            y0, dy0 = i * y_step, i * dy_step
            y1, y2, y3 = y0 + y_step, y0 + uint64(2) * y_step, y0 + uint64(3) * y_step
            dy1, dy2, dy3 = dy0 + dy_step, dy0 + uint64(2) * dy_step, dy0 + uint64(3) * dy_step
            for c in range(width):
                w0, w1, w2, w3 = load(y, y0 + c), load(y, y1 + c), load(y, y2 + c), load(y, y3 + c)
                p01 = fma(w0, load(dy, dy0 + c), w1 * load(dy, dy1 + c))
                p23 = fma(w2, load(dy, dy2 + c), w3 * load(dy, dy3 + c))
                store(part, c, part[c] + (p01 + p23))
                store(weight, c, weight[c] + ((w0 + w1) + (w2 + w3)))
        for i in range(stop - (stop - k) % uint64(4), stop):
            at_y, at_dy = i * y_step, i * dy_step
            for c in range(width):
                w = load(y, at_y + c)
                store(part, c, fma(w, load(dy, at_dy + c), part[c]))
                store(weight, c, weight[c] + w)
        for c in range(width):
            a[c], lost = two_sum(a[c], np.float64(part[c]))
            lost_a[c] += lost
            b[c], lost = two_sum(b[c], np.float64(weight[c]))
            lost_b[c] += lost
        k = stop
    for c in range(width):
        a[c] += lost_a[c]
        b[c] += lost_b[c]
        m[c] = T(a[c] / b[c])
    for i in range(n):
        at_y, at_dy, at_dx = i * y_step, i * dy_step, i * dx_step
        for c in range(width):
            v = (load(dy, at_dy + c) - m[c]) * scale * load(y, at_y + c)
            store(dx, at_dx + c, v)
            store(s, c, s[c] + abs(v))
    failed = False
    for c in range(width):
        sure = is_sure(a[c], s[c], scale)
        s[c] = T(1) if sure else T(-1)
        failed |= not sure
    if failed:
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
        for i in range(k, stop):
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
    """`careful` for the columns whose s is negative; what the others get is what they had."""
    T = type(zero(y))
    a, b = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    m, s = pointer_to(room + 2 * SECTION, zero(y)), pointer_to(room + 3 * SECTION, zero(y))
    part, top = pointer_to(room + 4 * SECTION, zero(y)), pointer_to(room + 5 * SECTION, zero(y))
    q, r = pointer_to(room + 6 * SECTION, zero(y)), pointer_to(room + 7 * SECTION, zero(y))
    h, spoilt = pointer_to(room + 8 * SECTION, zero(y)), pointer_to(room + 9 * SECTION, zero(y))
    ref, lost = pointer_to(room + 10 * SECTION, zero(y)), pointer_to(room + 11 * SECTION, 0.0)
    for c in range(width):
        h[c] = top[c] = spoilt[c] = q[c] = r[c] = T(0)
        ref[c] = T(-np.inf)
    for i in range(n):
        for c in range(width):
            g = load(dy, i * dy_step + c)
            store(top, c, larger(top[c], load(y, i * y_step + c)))
            store(h, c, larger(h[c], abs(g)))
            store(spoilt, c, spoilt[c] + g * T(0))
    overflow = False
    for c in range(width):
        large = s[c] < T(0) and not (h[c] * T(4) < T(np.inf) and abs(m[c]) < T(np.inf))
        h[c] = T(0.0625) if large else T(1)
        overflow |= large
    if overflow:
        centred_means(y, dy, y_step, dy_step, n, width, h, q, q, part, a, lost, b, r)
        for c in range(width):
            m[c] = r[c] if h[c] < T(1) else m[c]
    for i in range(n):
        for c in range(width):
            g = load(dy, i * dy_step + c) * h[c]
            store(ref, c, larger(ref[c], g if load(y, i * y_step + c) == top[c] else T(-np.inf)))
    for c in range(width):
        near = s[c] < T(0) and abs(ref[c] - m[c]) * T(4) <= abs(m[c])
        ref[c] = ref[c] if near else m[c]
    centred_means(y, dy, y_step, dy_step, n, width, h, ref, q, part, a, lost, b, q)
    for c in range(width):
        q[c] = q[c] if s[c] < T(0) else T(0)
    centred_means(y, dy, y_step, dy_step, n, width, h, ref, q, part, a, lost, b, r)
    for c in range(width):
        r[c] = r[c] if s[c] < T(0) else T(0)
        ref[c] = ref[c] if spoilt[c] == T(0) and b[c] < np.inf else T(np.nan)
    for i in range(n):
        for c in range(width):
            d = ((load(dy, i * dy_step + c) * h[c] - ref[c]) - q[c]) - r[c]
            v = scaled_product(d, load(y, i * y_step + c), scale) / h[c]
            store(dx, i * dx_step + c, T(0) if b[c] == 0.0 else v)


def rows_room(n: int, narrow: bool) -> int:
    return 0


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 12 * SECTION
