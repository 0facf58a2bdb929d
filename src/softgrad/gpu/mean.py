"""The mean ⟨s,dy⟩/⟨s,1⟩ of dy with the weights s of a map, along the rows of a tile.

It is subtracted from numbers that may all be close to it, so its error must be small beside what is left
over.  It is therefore found as a distance from some element of dy, its *reference*, and kept in two parts,
hi + lo.  With the row in registers a sweep costs next to nothing, so all that `cpu/vjp.py` does for
some rows is done for every row: the reference is the dy of the heaviest element.
"""

import triton
import triton.language as tl

from .sums import exact_row_sum, row_max, row_sum, two_difference, two_product, two_sum


@triton.jit
def factor_for(far):
    """A power of two by which a row is multiplied, whose largest |dy| is `far`.

    So no difference is beyond the largest number, and of numbers near the smallest no part is lost.
    """
    one = far * 0.0 + 1.0
    one = tl.where(one == one, one, 1.0)
    if far.dtype == tl.float64:
        return tl.where(far > 2.0**900, one * 2.0**-200, tl.where(far < 2.0**-300, one * 2.0**400, one))
    else:
        return tl.where(far > 2.0**100, one * 2.0**-40, tl.where(far < 2.0**-40, one * 2.0**60, one))


@triton.jit
def heaviest(w, d, ACROSS: tl.constexpr):
    """The largest weight, and dy there (of several such, the largest)."""
    top = row_max(w, ACROSS)
    return top, row_max(tl.where(w == top, d, -float("inf")), ACROSS)


@triton.jit
def sums(w, rest, d, reference, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """⟨s, dy − reference⟩ and ⟨s,1⟩ of each row, s = w + rest."""
    x = d.to(WIDE) - reference
    s = w.to(WIDE) + rest.to(WIDE)
    return row_sum(s * x, ACROSS), row_sum(s, ACROSS)


@triton.jit
def exact_sums(w, rest, d, reference, ACROSS: tl.constexpr):
    """The same in float64 as good as with more digits, each sum in two parts.

    Every rounding counts: where one weight is about as large as all others together and its dy about the
    mean, dx is far smaller than the terms, and equal terms are all rounded the same way.
    """
    x, x_lost = two_difference(d, reference)
    p, p_lost = two_product(w, x)
    a, a_rest = exact_row_sum(p, tl.fma(rest, x, tl.fma(w, x_lost, p_lost)), ACROSS)
    b, b_rest = exact_row_sum(w, rest, ACROSS)
    return a, a_rest, b, b_rest


@triton.jit
def in_lanes(hi, lo, b, TYPE: tl.constexpr):
    """hi + lo in two parts of the type of the lanes; 0 for a row of nothing."""
    nothing = b == 0.0
    hi, lo = tl.where(nothing, 0.0, hi), tl.where(nothing, 0.0, lo)
    head = hi.to(TYPE)
    return head, ((hi - head.to(hi.dtype)) + lo).to(TYPE)


@triton.jit
def part_sums(w, rest, d, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """A reference, ⟨s, dy − reference⟩ and ⟨s,1⟩, both in two parts, and the largest weight, of each row."""
    top, best = heaviest(w, d, ACROSS)
    top, reference = top.to(WIDE), best.to(WIDE)
    a, b = sums(w, rest, d, reference, WIDE, ACROSS)
    if w.dtype == tl.float64:
        # the sums above have lost bits, also to the distance of the reference; hi is nearer
        hi = reference + tl.where(b == 0.0, 0.0, a / b)
        a, a_rest, b, b_rest = exact_sums(w, rest, d, hi, ACROSS)
        return hi, a, a_rest, b, b_rest, top
    else:
        return reference, a, a * 0.0, b, b * 0.0, top


@triton.jit
def mean(w, rest, d, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """⟨s,dy⟩/⟨s,1⟩ of each row as hi + lo of the type of the lanes, and ⟨s,1⟩."""
    reference, a, a_rest, b, b_rest, _ = part_sums(w, rest, d, WIDE, ACROSS)
    if w.dtype == tl.float64:
        hi, lo = reference, (a + a_rest) / (b + b_rest)
    else:
        hi, lo = two_sum(reference, a / b)
    head, tail = in_lanes(hi, lo, b, w.dtype)
    return head, tail, b


@triton.jit
def safe_mean(w, rest, d, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """`mean`, for dy of any size, and the factor by which dy had to be multiplied for it."""
    factor = factor_for(row_max(tl.abs(d), ACROSS))
    hi, lo, b = mean(w, rest, d * factor, WIDE, ACROSS)
    return hi, lo, b, factor
