"""The eigenvalues of J = diag(p) − p pᵀ/⟨p,1⟩, each by itself, without a matrix.

With p_0 ≤ … ≤ p_{n−1} one eigenvalue is 0, since J 1 = 0, and each gap [p_k, p_{k+1}] holds one of the
others.  In a gap without width, or one that starts at 0, it is p_k.  In any other it is where

    g(λ) = Σ_i p_i/(p_i − λ)

is 0: the secular equation 1 = Σ p_i²/(p_i − λ)/⟨p,1⟩ is −λ·g(λ)/⟨p,1⟩ = 0.  Between two poles g rises
from −∞ to ∞.

Why plain arithmetic is enough: at a root the terms below 0 add up to −T and those above it to T, and
λ·g′(λ) = Σ λ·p_i/(p_i − λ)² is at least T, as λ/(λ − p_i) ≥ 1 below the root.  So an error of c·eps in
each term moves the root by at most 2·c·eps·λ: small eigenvalues are as good as large ones.  The sum of the
terms has next to no error of its own: `two_sum`, in lanes.
"""

from numba import int64, njit, uint64

from .intrinsics import keep, kept, load, pointer_to, store
from .vjp import two_sum

LANES = 16  # numbers that are added up side by side; rows have a multiple of them
LAST = 2.0**-50  # a step that is shorter, beside λ, ends the search: what is off after it is rounding


@njit(nogil=True, error_model="numpy")
def secular(p, first, n, x, lanes, total):
    """g(x) and x·g′(x), for the n numbers p[first], …"""
    lanes &= uint64(LANES)  # tells LLVM that there are no more
    lost, slope = lanes, lanes + lanes
    for c in range(lanes):
        keep(total, c, 0.0)
        keep(total, lost + c, 0.0)
        keep(total, slope + c, 0.0)
    for k in range(first, first + n, lanes):
        for c in range(lanes):
            v = load(p, k + c)
            inverse = 1.0 / (v - x)
            term = v * inverse
            part, rest = two_sum(kept(total, c), term)
            keep(total, c, part)
            keep(total, lost + c, kept(total, lost + c) + rest)
            keep(total, slope + c, kept(total, slope + c) + term * (inverse * x))
    g = rest = below = 0.0
    for c in range(lanes):
        g, error = two_sum(g, kept(total, c))
        rest += kept(total, lost + c) + error
        below += kept(total, slope + c)
    return g + rest, below


def eigenvalues(given, memory, start, stop):
    """Those in the gaps `start` … `stop` − 1 of sorted rows of n numbers, from place 1 of each row on.

    Newton's method for (x − a)(b − x)·g(x), which has no poles at the ends a and b of the gap, its steps
    relative to x: up to 8 evaluations for numbers spread over 300 powers of ten.  A step that leaves the
    bracket, or is not half as long as the one before, would be replaced by one to the middle of the bracket,
    so that the search ends in any case.

    `given` are the addresses of the rows and of what is found, n, the distance of the rows, and `LANES`.
    Rows are followed by zeros, to a multiple of `LANES`.  No number in p but 0 is so small that its inverse,
    or that of a difference, is out of range.
    """
    given, room = pointer_to(given, int64(0)), pointer_to(memory, 0.0)
    p, found = pointer_to(given[0], 0.0), pointer_to(given[1], 0.0)
    n, padded, lanes = given[2], given[3], given[4]
    for i in range(start, stop):
        first, k = uint64(i // (n - 1) * padded), uint64(i % (n - 1))
        a, b = load(p, first + k), load(p, first + k + uint64(1))
        low, high, longest = a, b, 1.0
        x = 2.0 * a / (1.0 + a / b)  # where these two terms alone add up to 0
        while low < x < high:  # never, if a = b or a = 0
            g, slope = secular(p, first, uint64(padded), x, uint64(lanes), room)
            if g < 0.0:
                low = x
            else:
                high = x
            left, ratio = (x - a) / x, (x - a) / (b - x)
            step = -left * g / (left * slope + (1.0 - ratio) * g)
            new = x + x * step
            if abs(step) <= LAST:
                low = min(max(new, a), b)
                break
            if low < new < high and abs(step) <= longest:
                x, longest = new, abs(step) / 2.0
            else:
                x, longest = low + (high - low) / 2.0, (high - low) / low
        store(found, first + k + uint64(1), low)
