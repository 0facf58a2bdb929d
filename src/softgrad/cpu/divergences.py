"""Divergences between p = softmax(scale·x) and a target t, and the entropy of probabilities.

The target is given by logits, t = softmax(scale·u), or as probabilities, which are divided by their sum.
With δ = log p − log t, of which the distances from the largest logits are subtracted first,

    KL(t‖p) = Σ t·(exp(δ) − 1 − δ)                        since Σ p = Σ t
    JS      = Σ (p + t)/2·(h·tanh h − log cosh h),  h = δ/2

in which no term is negative: distributions that are nearly equal keep the digits of a divergence that is next
to nothing.  What rounding leaves of Σ p − Σ t is taken off δ.  An element that one of them does not have has
δ = ±∞, and no NaN comes of it: it adds p, t or log(2)/2 of one, or makes KL(t‖p) infinite where p lacks it.
One that neither has adds nothing.

The gradients: ∂KL/∂x = p − t = t·(exp(δ) − 1), ∂KL/∂u = J(t)(−δ), and ∂JS/∂x = J(p)(h − log cosh h)/2, the
same for u with −h.  For probabilities they are those by log t, divided by t and the sum.
"""

import numpy as np
from numba import int64, njit, uint64

from .drive import MORE as FIRST
from .exp import is_double, logarithm, one_of, parts
from .intrinsics import address_of, after, choose, fma, load, plus, plus_product, pointer_to, store, zero
from .log_softmax import BLOCK, logs
from .real_power import log
from .softmax import CHUNK, HIGH, POWERS, argument, at_once, found_of, section, sums
from .vjp import SECTION

KL, REVERSE, JS = range(3)  # KL(t‖p), KL(p‖t)
KIND, OF_TARGET = range(FIRST, FIRST + 2)  # numbers of a call: one of these; whether the gradient is for t

helper = njit(nogil=True, error_model="numpy")
forced = njit(nogil=True, error_model="numpy", forceinline=True)  # else no loop is cut into lanes


@forced
def beyond_first_order(d):
    """(exp(d) − 1 − d)/d², for |d| ≤ 1: Σ dᵏ/(k + 2)!."""
    T = type(d)
    q = fma(d, T(1 / 355687428096000), T(1 / 20922789888000))
    q = fma(d, q, T(1 / 1307674368000))
    q = fma(d, q, T(1 / 87178291200))
    q = fma(d, q, T(1 / 6227020800))
    q = fma(d, q, T(1 / 479001600))
    q = fma(d, q, T(1 / 39916800))
    q = fma(d, q, T(1 / 3628800))
    q = fma(d, q, T(1 / 362880))
    q = fma(d, q, T(1 / 40320))
    q = fma(d, q, T(1 / 5040))
    q = fma(d, q, T(1 / 720))
    q = fma(d, q, T(1 / 120))
    q = fma(d, q, T(1 / 24))
    q = fma(d, q, T(1 / 6))
    return fma(d, q, T(0.5))


@forced
def log_of(v):
    """log v in float64, for v > 0; only float64 has numbers that are not normal ones there."""
    if is_double(v):
        lead, more = log(np.float64(v), 0.0)
        return lead + more
    return logarithm(np.float64(v), 0.0)


@forced
def change(w, other, d):
    """other − w, where d = log(other/w)."""
    T = type(d)
    return choose(abs(d) <= T(1), w * fma(d * d, beyond_first_order(d), d), other - w)


@forced
def excess(w, other, d):
    """w·(exp(d) − 1 − d): what an element adds to KL(w‖other)."""
    T = type(d)
    far = (other - w) - choose(w == T(0), T(0), w * d)
    return choose(abs(d) <= T(1), w * (d * d) * beyond_first_order(d), far)


@forced
def halves(d):
    """(|d| ≤ 1, ρ, e, P) of ρ = exp(−|d|) and e = 1 − ρ.

    The logarithm of the larger of two numbers beside their mean is A = log(2/(1 + ρ)), and with h = d/2 it is
    |h| − log cosh h.  P is 2·log cosh h if |d| ≤ 1, and A beyond: no difference of nearly equal numbers.
    """
    T, one = type(d), one_of(d)
    size = abs(d)
    w, b = parts(choose(size < T(80), -size, T(-80)), T(0))
    rho = choose(size < T(80), fma(w, b, b) * T(1 / one), T(0))
    e, near = choose(b == T(one), -w, T(1) - rho), size <= T(1)
    # log(1 + z) = 2·artanh(z/(2 + z)) of z = sinh² h = e²/(4ρ), and A = 2·artanh(e/(4 − e))
    z = choose(near, e * e / (T(4) * choose(near, rho, T(1))), T(0))
    s = choose(near, z / (T(2) + z), e / (T(4) - e))
    q = s * s
    r = fma(q, T(1 / 33), T(1 / 31))
    r = fma(q, r, T(1 / 29))
    r = fma(q, r, T(1 / 27))
    r = fma(q, r, T(1 / 25))
    r = fma(q, r, T(1 / 23))
    r = fma(q, r, T(1 / 21))
    r = fma(q, r, T(1 / 19))
    r = fma(q, r, T(1 / 17))
    r = fma(q, r, T(1 / 15))
    r = fma(q, r, T(1 / 13))
    r = fma(q, r, T(1 / 11))
    r = fma(q, r, T(1 / 9))
    r = fma(q, r, T(1 / 7))
    r = fma(q, r, T(1 / 5))
    r = fma(q, r, T(1 / 3))
    return near, rho, e, fma(q * r, s, s) * T(2)


@forced
def half_divergence(p, t, d):
    """What an element adds to JS: (p + t)/2·(h·tanh h − log cosh h)."""
    T = type(d)
    near, rho, e, found = halves(d)
    beyond = found - choose(rho == T(0), T(0), abs(d) * (rho / (T(1) + rho)))
    each = choose(near, T(0.5) * (abs(d) * (e / (T(2) - e)) - found), beyond)
    return choose(p + t == T(0), T(0), (p + t) * T(0.5) * each)


@forced
def toward_half(d):
    """log(w/m)/2, m the mean of w and other, d = log(w/other); finite where d is not −∞."""
    T = type(d)
    near, _, _, found = halves(d)
    return T(0.5) * choose(near, T(0.5) * (d - found), choose(d > T(0), found, found + d))


# --- p, t and δ of some rows, in scratch memory ----------------------------------------------------------

ROOM = (POWERS + 2) * SECTION  # bytes for the first sweeps of x, and as many for those of t


@helper
def places(room, n, like):
    """Where p, t and δ of some rows are, and Σt of each; 0 of a row in which one of the two has nothing."""
    size, at = int64(8 * max(uint64(CHUNK), n)), room + int64(2 * ROOM)
    p, q, d = pointer_to(at, like), pointer_to(at + size, like), pointer_to(at + 2 * size, like)
    return p, q, d, pointer_to(at + 3 * size, 0.0)


@helper
def sum_of(t, at_t, n, q):
    """Σt of a row, which is copied to q."""
    whole = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = zero(t)
        for i in range(k, min(k + uint64(BLOCK), n)):
            v = load(t, at_t + i)
            store(q, i, v)
            part = plus(part, v)
        whole += part
    return whole


@helper
def log_ratios(x, t, p, q, d, n, factor_p, factor_q, top, top_t, shift, scale, low, probs):
    """p, t and δ of a row: p and q hold powers, or weights, which the factors make p and t."""
    T = type(factor_p)
    high, infinite = T(shift), T(np.inf)
    rest, left = T(shift - np.float64(high)), 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = T(0)
        for i in range(k, min(k + uint64(BLOCK), n)):
            a, lost = argument(load(x, i), top, scale, low, False)
            pi, ti = p[i] * factor_p, q[i] * factor_q
            if probs is None:
                b, lost_b = argument(load(t, i), top_t, scale, low, False)
                v = ((a - b) - high) + ((lost - lost_b) - rest)
                none = b == -infinite
            else:
                given = load(t, i)
                none = given == T(0)
                of_t = log_of(choose(none, T(1), given))
                v = T(((np.float64(a) - of_t) - shift) + np.float64(lost))
            lacks = a == -infinite
            v = choose(lacks, -infinite, choose(none, infinite, v))
            v = choose(lacks, choose(none, T(0), v), v)
            store(p, i, pi)
            store(q, i, ti)
            store(d, i, v)
            part = plus(part, change(ti, pi, v))
        left += part
    part = T(left)
    for i in range(n):
        store(d, i, d[i] - part)


@helper
def compare(x, t, x_step, t_step, n, some, scale, low, room, probs):
    """p, t and δ of some rows."""
    p, q, d, wholes = places(room, n, zero(x))
    own = room + int64(ROOM)
    total, rest, top = found_of(room, zero(x))
    total_t, rest_t, top_t = found_of(own, zero(x))
    log_p, log_q = section(room, HIGH, 0.0), section(own, HIGH, 0.0)
    sums(x, p, x_step, n, n, some, uint64(BLOCK), scale, low, False, room)
    logs(room, some, 0.0, 0.0, zero(x))
    if probs is None:
        sums(t, q, t_step, n, n, some, uint64(BLOCK), scale, low, False, own)
        logs(own, some, 0.0, 0.0, zero(x))
    for j in range(some):
        if probs is None:
            whole, log_whole = total_t[j] + rest_t[j], log_q[j]
        else:
            whole = sum_of(t, j * t_step, n, after(q, j * n))
            lead, more = log(choose(whole > 0.0, whole, 1.0), 0.0)
            log_whole = lead + more
        whole_p = total[j] + rest[j]
        wholes[j] = choose(whole_p == 0.0, 0.0, whole)
        factor_p = type(zero(x))(1.0 / choose(whole_p == 0.0, 1.0, whole_p))
        factor_q = type(zero(x))(1.0 / choose(whole == 0.0, 1.0, whole))
        log_ratios(
            *(after(x, j * x_step), after(t, j * t_step), after(p, j * n), after(q, j * n), after(d, j * n)),
            *(n, factor_p, factor_q, top[j], top_t[j], log_p[j] - log_whole, scale, low, probs),
        )


# --- the divergence and its gradients -------------------------------------------------------------------


@helper
def kl_of(w, other, d, n, sign):
    """KL(w‖other) of a row, sign·d = log(other/w)."""
    T, total = type(zero(w)), 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = T(0)
        for i in range(k, min(k + uint64(BLOCK), n)):
            part = plus(part, excess(w[i], other[i], sign * d[i]))
        total += part
    return total


@helper
def js_of(p, q, d, n):
    """JS of a row."""
    T, total = type(zero(p)), 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = T(0)
        for i in range(k, min(k + uint64(BLOCK), n)):
            part = plus(part, half_divergence(p[i], q[i], d[i]))
        total += part
    return total


@helper
def mean_of(w, u, n, m):
    """Σ w·(u − m) of a row."""
    T, total = type(zero(w)), 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = T(0)
        for i in range(k, min(k + uint64(BLOCK), n)):
            part = plus_product(part, w[i], u[i] - m)
        total += part
    return T(total)


@helper
def descend(w, other, d, out, n, sign, kind, second, factor, as_weights):
    """The gradient for w of a row, sign·d = log(other/w); by log w, or by w itself."""
    T = type(zero(w))
    if second:  # of KL(other‖w)
        for i in range(n):
            v = -change(w[i], other[i], sign * d[i])
            if as_weights:
                v = choose(w[i] == T(0), T(0), v / w[i])
            store(out, i, v * factor + T(0))  # no −0
        return
    if kind == JS:
        for i in range(n):
            store(d, i, choose(w[i] == T(0), T(0), toward_half(-sign * d[i])))
    else:
        for i in range(n):
            store(d, i, choose(w[i] == T(0), T(0), -sign * d[i]))
    mean = mean_of(w, d, n, T(0))
    more = mean_of(w, d, n, mean)
    for i in range(n):
        v = (d[i] - mean) - more
        v = choose(w[i] == T(0), T(0), v) if as_weights else v * w[i]
        store(out, i, v * factor + T(0))


@helper
def divergence(x, t, found, out, x_step, t_step, step, out_step, n, count, numbers, room, probs):
    """The divergence of rows; and `found` times its gradient into `out`, before that, if there is a place."""
    n, x_step, t_step, count = uint64(n), uint64(x_step), uint64(t_step), uint64(count)
    T, kind, of_target = type(zero(x)), numbers[KIND], numbers[OF_TARGET] != 0.0
    found, many = pointer_to(address_of(found), 0.0), at_once(n)
    p, q, d, wholes = places(room, n, zero(x))
    second = kind == (REVERSE if of_target else KL)
    for first in range(uint64(0), count, many):
        some, at_x, at_t = min(many, count - first), after(x, first * x_step), after(t, first * t_step)
        compare(at_x, at_t, x_step, t_step, n, some, T(numbers[0]), T(numbers[1]), room, probs)
        for j in range(some):
            pj, qj, dj = after(p, j * n), after(q, j * n), after(d, j * n)
            if kind == JS:
                number = js_of(pj, qj, dj, n)
            elif kind == KL:
                number = kl_of(qj, pj, dj, n, T(1))
            else:
                number = kl_of(pj, qj, dj, n, T(-1))
            at = (first + j) * uint64(step)
            given = found[at]
            found[at] = choose(wholes[j] == 0.0, 0.0, number)
            if address_of(out) == 0:
                continue
            result, factor = after(out, (first + j) * uint64(out_step)), T(given * (numbers[0] + numbers[1]))
            if wholes[j] == 0.0:
                for i in range(n):
                    store(result, i, T(0))
            elif not of_target:
                descend(pj, qj, dj, result, n, T(-1), kind, second, factor, False)
            elif probs is None:
                descend(qj, pj, dj, result, n, T(1), kind, second, factor, False)
            else:
                descend(qj, pj, dj, result, n, T(1), kind, second, T(given / wholes[j]), True)


def rows(x, t, found, out, x_step, t_step, step, out_step, n, count, numbers, room):
    """Between the softmaxes of x and t."""
    divergence(x, t, found, out, x_step, t_step, step, out_step, n, count, numbers, room, None)


def of_probabilities_rows(x, t, found, out, x_step, t_step, step, out_step, n, count, numbers, room):
    """Between the softmax of x and the probabilities t."""
    divergence(x, t, found, out, x_step, t_step, step, out_step, n, count, numbers, room, True)


def room_for(n: int, narrow: bool) -> int:
    return 2 * ROOM + 3 * 8 * max(CHUNK, n) + 8 * CHUNK


# --- the entropy of probabilities -----------------------------------------------------------------------


@helper
def entropy_of(p, out, at_p, at_out, n, given):
    """−Σ p·log p of a row, to which a p of 0 adds 0; and `given` times its gradient, −(log p + 1), to out."""
    T, total = type(zero(p)), 0.0
    for i in range(n):
        v = load(p, at_p + i)
        w, none = np.float64(v), v == T(0)
        log = log_of(choose(none, T(1), v)) + (w - w)  # NaN for NaN
        total = plus(total, w * log)
        if out is not None:
            store(out, at_out + i, T(choose(none, 0.0, (log + 1.0) * -given)))
    return 0.0 - total  # no −0


def entropy_rows(p, found, out, _, p_step, step, out_step, __, n, count, numbers, room):
    """The entropy of `count` rows of n elements into `found`; that times the gradient into out before."""
    n, found = uint64(n), pointer_to(address_of(found), 0.0)
    for row in range(uint64(count)):
        at_p, at, at_out = row * uint64(p_step), row * uint64(step), row * uint64(out_step)
        if address_of(out) == 0:
            found[at] = entropy_of(p, None, at_p, at_out, n, 0.0)
        else:
            found[at] = entropy_of(p, out, at_p, at_out, n, found[at])
