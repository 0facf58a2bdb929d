"""Cross-entropy of a row: L = Σ t'·(log Σexp(x) − x) and ∂L/∂x = Σt'·p − t', p = softmax(x).

With `top` the largest logit, and R what the powers exp(x − top) of all other elements add up to, the sum of
the powers is S = 1 + R and

    L = Σ t'_k·(top − x_k) + Σt'·log(1 + R)

in which no term is negative where no weight is: a loss of 1e-9 has all its digits.  Likewise 1 − p is R/S for
the top, which `p − 1` would lose.  So R is kept apart, and what a row tells (top, R, Σ t'·(top − x), Σt) goes
into a table, `found`; the rest of the loss is arithmetic on one number a row.

The weights are t' = share·t + even, (1 − ε)·t + ε/n of label smoothing with ε = `smoothing`.  Where targets
are classes the kernel knows the even part alone; who calls it adds what the class itself has.

The gradient of a row is multiplied by a number of the row, which `found` has before; and a z-loss,
z·(log Σ exp(x))², adds 2z·log Σ exp(x)·p to it.
"""

import numpy as np
from numba import njit, uint64

from .drive import MORE
from .exp import log1p, one_of
from .intrinsics import address_of, after, choose, fma, is_narrow, load, plus, pointer_to, store, zero
from .log_softmax import BLOCK
from .reductions import factors
from .softmax import HIGH, POWERS, at_once, found_of, section, sums
from .vjp import two_sum

SHARE, EVEN, SMOOTHING, Z_LOSS = range(MORE, MORE + 4)  # numbers of a call
FACTOR = 4  # where `found` has that of the gradient, behind what the row tells

helper = njit(nogil=True, error_model="numpy")


@helper
def weighted(x, w, at_x, at_w, n, top, share, even):
    """(Σ t'·(top − x), Σt at the top, Σt elsewhere) of a row; without w, t is 0."""
    T = type(top)
    half = T(0.5)  # a difference may overflow
    distance = lost_distance = of_top = of_others = lost_others = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        far, here, there = zero(x), zero(x), zero(x)
        for i in range(k, min(k + uint64(BLOCK), n)):
            v = load(x, at_x + i)
            given = T(0) if w is None else load(w, at_w + i)
            weight = fma(given, share, even)
            # 0·inf is 0: a class without a weight may be impossible
            far = plus(far, choose(weight == T(0), T(0), (top * half - v * half) * weight))
            if w is not None:
                here = plus(here, choose(v == top, given, T(0)))
                there = plus(there, choose(v == top, T(0), given))
        distance, lost = two_sum(distance, np.float64(far))
        lost_distance += 0.0 if abs(distance) == np.inf else lost
        of_top += here
        of_others, lost = two_sum(of_others, np.float64(there))
        lost_others += lost
    return 2.0 * (distance + lost_distance), of_top, of_others + lost_others


@helper
def tell(x, w, found, dx, x_step, w_step, step, dx_step, n, count, numbers, room):
    """What rows tell, into `found`, and the gradient of the loss, if there is a place for it.

    Without w, that is what the gradient has of every class alike.
    """
    n, x_step, w_step, dx_step = uint64(n), uint64(x_step), uint64(w_step), uint64(dx_step)
    T = type(zero(x))
    narrow = is_narrow(x)
    share, even, smoothing, z_loss = numbers[SHARE], numbers[EVEN], numbers[SMOOTHING], numbers[Z_LOSS]
    found = pointer_to(address_of(found), 0.0)
    total, rest, tops = found_of(room, zero(x))
    of_others = section(room, HIGH, 0.0)
    e = section(room, POWERS, zero(x)) if narrow else pointer_to(address_of(dx), zero(x))
    e_step = n if narrow else dx_step
    one = one_of(zero(x))
    many = at_once(n)
    for first in range(uint64(0), uint64(count), many):
        some, at_x = min(many, uint64(count) - first), after(x, first * x_step)
        of_these = uint64(0) if narrow else first * dx_step
        if address_of(dx) == 0:
            sums(at_x, None, x_step, n, n, some, uint64(BLOCK), T(1), T(0), narrow, room)
        else:
            sums(at_x, after(e, of_these), x_step, e_step, n, some, uint64(BLOCK), T(1), T(0), narrow, room)
        for j in range(some):
            others = ((total[j] - one) + rest[j]) * (1.0 / one)
            of_others[j] = choose(total[j] == 0, np.nan, others)  # of an empty row
        for j in range(some):
            of_x, at_w, top = j * x_step, (first + j) * w_step, tops[j]
            others = of_others[j]
            distance, here, there, weights = 0.0, 0.0, 0.0, 1.0
            if w is not None or even != 0:
                distance, here, there = weighted(at_x, w, of_x, at_w, n, top, T(share), T(even))
            if w is not None:
                weights = (here + there) * share + smoothing
            told = after(found, (first + j) * uint64(step))
            told[0], told[1], told[2], told[3] = np.float64(top), others, distance, here + there
            if address_of(dx) == 0:
                continue
            at_e, at_dx = of_these + j * e_step, (first + j) * dx_step
            times = told[FACTOR]
            bent = 0.0 if z_loss == 0.0 else 2.0 * z_loss * (np.float64(top) + log1p(others))
            factor, lift = factors((weights + bent) * times, (1.0 + others) * one, top)
            once_share, once_even = T(share * times), T(even * times)
            if w is None:
                for i in range(n):
                    store(dx, at_dx + i, fma(e[at_e + i] * lift, factor, -once_even))
            else:
                # where the top has most of the row, Σt'·p − t' there is what the others have of the weights,
                # less what they have of Σt'·p
                elsewhere = there * share + (smoothing - even)
                corner = elsewhere - weights * (others / (1.0 + others)) + bent / (1.0 + others)
                corner = T(corner * times)
                mark = T(one) if others < 0.5 else T(-1)
                for i in range(n):
                    v = e[at_e + i]
                    weight = fma(load(w, at_w + i), once_share, once_even)
                    store(dx, at_dx + i, choose(v == mark, corner, fma(v * lift, factor, -weight)))


def rows(x, found, dx, _, x_step, step, dx_step, __, n, count, numbers, room):
    """Of classes."""
    tell(x, None, found, dx, x_step, 0, step, dx_step, n, count, numbers, room)


def weighted_rows(x, w, found, dx, x_step, w_step, step, dx_step, n, count, numbers, room):
    """Of weights."""
    tell(x, w, found, dx, x_step, w_step, step, dx_step, n, count, numbers, room)
