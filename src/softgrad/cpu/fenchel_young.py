"""The Fenchel-Young loss of entmax: L = Ω*(x) + Ω(t) − ⟨x,t⟩, Ω(p) = Σ (p^α − p)/(α(α − 1)).

Its gradient is y − t, y = entmax(x).  In the support of y an element of L is the Bregman divergence of Ω,

    (t^α − y^α − α·y^(α−1)·(t − y))/(α(α − 1))

which for α = 2 is (t − y)²/2, for α = 1.5 4/3·(√t − √y)²·(√t + √y/2), and for others with δ = log(t/y), where
that is small, y^α·((e^(αδ) − 1 − αδ) − α(e^δ − 1 − δ))/(α(α − 1)).  Outside of it, where (α − 1)·x is σ below
the threshold, it is t^α/(α(α − 1)) + t·σ/(α − 1), and 0 where t is 0, however far away x is.  No element is
negative, so a small loss is no difference of large numbers.  Where t does not sum to 1 by rounding, nothing
of the size of x counts.
"""

import numpy as np
from numba import njit, uint64

from .divergences import beyond_first_order
from .drive import ALPHA
from .intrinsics import address_of, choose, larger, load, plus, pointer_to, zero
from .real_power import log, raised

forced = njit(nogil=True, error_model="numpy", forceinline=True)  # else no loop is cut into lanes
helper = njit(nogil=True, error_model="numpy")


@forced
def in_support(t, y, alpha):
    """What an element adds where y > 0, times α(α − 1), for an alpha that is neither 1.5 nor 2."""
    of_t, of_y = choose(t > 0.0, t, y), choose(y > 0.0, y, 1.0)
    of_t = choose(of_t > 0.0, of_t, 1.0)
    lead_t, more_t = log(of_t, 0.0)
    lead_y, more_y = log(of_y, 0.0)
    d = (lead_t - lead_y) + (more_t - more_y)
    power = raised(of_y, 0.0, alpha, 0.0)
    e = choose(abs(alpha * d) <= 1.0, d, 0.0)
    near = power * (e * e) * (alpha * alpha * beyond_first_order(alpha * e) - alpha * beyond_first_order(e))
    of_t = choose(t > 0.0, raised(of_t, 0.0, alpha, 0.0), 0.0)
    far = of_t - power - alpha * (power / of_y) * (t - y)
    return choose((t > 0.0) & (abs(alpha * d) <= 1.0), near, far)


@helper
def loss_of(x, t, y, at_x, at_t, at_y, n, alpha, square, half):
    """L of a row; alpha is 2 unless `square` is None, or 1.5 unless `half` is."""
    most_x, most_y, spoilt = load(x, at_x), load(y, at_y), zero(y)
    for i in range(n):  # the winner tells the threshold
        w = load(y, at_y + i)
        most_x, most_y = larger(most_x, load(x, at_x + i)), larger(most_y, w)
        spoilt = plus(spoilt, w * type(w)(0))
    top, reach, total = np.float64(most_x), np.float64(most_y), np.float64(spoilt)
    if reach == 0.0 or total != total:  # an empty row, or one of NaN
        return total
    below = alpha - 1.0
    if half is not None:
        reach = np.sqrt(reach)
    elif square is None:
        reach = raised(reach, 0.0, below, 0.0)
    for i in range(n):
        w, v = np.float64(load(t, at_t + i)), np.float64(load(y, at_y + i))
        far = below * (top - np.float64(load(x, at_x + i))) - reach
        far = choose(w == 0.0, 0.0, w * choose(far < 0.0, 0.0, far)) / below
        if square is not None:
            found = 0.5 * (w - v) * (w - v)
        elif half is not None:
            a, b = np.sqrt(w), np.sqrt(v)
            d = choose(a + b == 0.0, 0.0, (w - v) / choose(a + b == 0.0, 1.0, a + b))
            found = 4 / 3 * (d * d) * (a + 0.5 * b)
        else:
            of_t = choose(w > 0.0, raised(choose(w > 0.0, w, 1.0), 0.0, alpha, 0.0), 0.0)
            found = choose(v == 0.0, of_t, in_support(w, v, alpha)) / (alpha * below)
        total = plus(total, found + choose(v == 0.0, far, 0.0))
    return total


def rows(x, t, y, found, x_step, t_step, y_step, step, n, count, numbers, room):
    """The loss of `count` rows of n elements, given y; 0 of an empty row."""
    found, alpha, n = pointer_to(address_of(found), 0.0), numbers[ALPHA], uint64(n)
    for row in range(uint64(count)):
        at_x, at_t, at_y = row * uint64(x_step), row * uint64(t_step), row * uint64(y_step)
        if alpha == 2.0:
            number = loss_of(x, t, y, at_x, at_t, at_y, n, alpha, True, None)
        elif alpha == 1.5:
            number = loss_of(x, t, y, at_x, at_t, at_y, n, alpha, None, True)
        else:
            number = loss_of(x, t, y, at_x, at_t, at_y, n, alpha, None, None)
        found[row * uint64(step)] = number
