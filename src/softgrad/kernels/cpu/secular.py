"""The eigenvalues of J = diag(p) − p pᵀ/⟨p,1⟩, each by itself, without a matrix.

With p_0 ≤ … ≤ p_{n−1} one eigenvalue is 0, since J 1 = 0, and each gap [p_k, p_{k+1}] holds one of the
others.  In a gap without width, or one that starts at 0, it is p_k.  In any other it is where

    g(λ) = Σ_i p_i/(p_i − λ)

is 0: the secular equation 1 = Σ p_i²/(p_i − λ)/⟨p,1⟩ is −λ·g(λ)/⟨p,1⟩ = 0.  Between two poles g rises
from −∞ to ∞.

Why plain arithmetic is enough: at a root the terms below 0 add up to −T and those above it to T, and
λ·g′(λ) = Σ λ·p_i/(p_i − λ)² is at least T, as λ/(λ − p_i) ≥ 1 below the root.  So an error of c·eps in
each term moves the root by at most 2·c·eps·λ: small eigenvalues are as good as large ones.
"""

from .buffer import buffer
from .compiling import inline
from .memory import load
from .sums import two_sum
from .vec import LANES, double, sum_of

# Of λ: a step of Newton's that is shorter ends the search.  What is off after it is rounding.
LAST = 2.0**-50


@inline
def secular(p, first, n, x):
    """g(x) and x·g′(x), for the n numbers p[first], …"""
    total, lost, slope = double(), double(), double()
    for k in range(0, n, LANES):
        v = load(p, first + k, n - k, 0.0)
        inverse = 1.0 / (v - x)
        term = v * inverse
        total, error = two_sum(total, term)
        lost = lost + error
        slope = slope + term * (inverse * x)
    return sum_of(total) + sum_of(lost), sum_of(slope)


@inline
def root(p, first, n, k):
    """The eigenvalue between p[first + k] and the next.

    Newton's method for (x − a)(b − x)·g(x), which has no poles at the ends a and b of the gap, its steps
    relative to x: up to 8 evaluations for numbers spread over 300 powers of ten.  A step that leaves the
    bracket, or is not half as long as the one before, would be replaced by one to the middle of the bracket,
    so that the search ends in any case.
    """
    a, b = p[first + k], p[first + k + 1]
    low, high = a, b
    x = 2.0 * a / (1.0 + a / b)  # where these two terms alone add up to 0
    longest = 1.0
    while low < x < high:  # never, if a = b or a = 0
        g, slope = secular(p, first, n, x)
        if g < 0.0:
            low = x
        else:
            high = x
        left, ratio = (x - a) / x, (x - a) / (b - x)
        step = -left * g / (left * slope + (1.0 - ratio) * g)
        new = x + x * step
        if abs(step) <= LAST:
            return min(max(new, a), b)
        if low < new < high and abs(step) <= longest:
            x, longest = new, abs(step) / 2.0
        else:
            x, longest = low + (high - low) / 2.0, (high - low) / low
    return low


def eigenvalues(p, out, n, start, stop):
    """Those in the gaps `start` … `stop` − 1 of sorted rows of n, into out, from place 1 of each row on.

    No number in p but 0 is so small that its inverse, or that of a difference, is out of range.
    """
    p, out = buffer(p), buffer(out)
    for i in range(start, stop):
        first, k = i // (n - 1) * n, i % (n - 1)
        out[first + k + 1] = root(p, first, n, k)
