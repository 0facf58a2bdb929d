"""Divergences by mpmath from their definitions, and how far off a function of them is."""

import functools

import mpmath
import numpy as np

from softgrad.testing import errors

KINDS = {
    "kl": ("kl_divergence", {}),
    "reverse kl": ("kl_divergence", {"direction": "reverse"}),
    "js": ("js_divergence", {}),
}
TARGETS = "target_logits", "target_probs"
LENGTHS = 1, 2, 5, 17, 100


def rows(dtype, n, seed=0):
    """Pairs of rows of logits: apart, near, nearly equal, saturated, with an offset, and with −inf."""
    rng = np.random.default_rng([n, seed])
    x, other = rng.normal(size=(2, n)) * 3
    with_inf, its_other = x.copy(), other.copy()
    with_inf[1::3], its_other[1::3], its_other[2::5] = -np.inf, -np.inf, -np.inf
    far = x.copy()
    far[0] = 40
    pairs = [
        (x, other),
        (x, x + 0.01 * other),
        (x, x + 1e-4 * other),
        (30 * x, 30 * other),
        (30 * x, 29.9 * x),
    ]
    pairs += [(x + 3e4, other - 3e4), (with_inf, its_other), (its_other, with_inf), (far, x), (x, far)]
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    return a.astype(dtype), b.astype(dtype)


def probabilities(u, dtype):
    """Their softmax, as what a caller has; −inf is 0."""
    e = np.exp((u - u.max(-1, keepdims=True)).astype(np.float64))
    t = (e / e.sum(-1, keepdims=True)).astype(dtype)
    return np.maximum(t, np.where(u == -np.inf, 0, errors.info(dtype).smallest_normal)).astype(dtype)


def mp(values):
    return [mpmath.mpf(float(v)) for v in np.asarray(values).astype(np.float64)]


def softmax(row, scale):
    powers = [mpmath.exp(v * scale) for v in mp(row)]
    return [power / mpmath.fsum(powers) for power in powers]


def log_of(a, b):
    """a·log(a/b), which is 0 where a is; and its logarithm."""
    if a == 0:
        return mpmath.mpf(0), mpmath.mpf(0)
    if b == 0:
        return mpmath.inf, mpmath.inf
    log = mpmath.log(a / b)
    return a * log, log


def exact(kind, x, target, probs, temperature, eps):
    """The value of one row by its definition; and of dx and dtarget each element and its unit of errors."""
    scale = mpmath.mpf(1 / temperature)  # as a float
    p = softmax(x, scale)
    weights = mp(target) if probs else None
    total = mpmath.fsum(weights) if probs else None
    t = [w / total for w in weights] if probs else softmax(target, scale)
    if kind == "js":
        m = [(a + b) / 2 for a, b in zip(p, t, strict=True)]
        of_p, of_t = ([log_of(a, c) for a, c in zip(side, m, strict=True)] for side in (p, t))
        value = mpmath.fsum(one for one, _ in of_p + of_t) / 2
        by_p, by_t = ([log / 2 for _, log in side] for side in (of_p, of_t))
    else:
        first, second = (t, p) if kind == "kl" else (p, t)
        terms = [log_of(a, b) for a, b in zip(first, second, strict=True)]
        value = mpmath.fsum(one for one, _ in terms)
        by_first = [log for _, log in terms]
        by_second = [-a / b if b else mpmath.mpf(0) for a, b in zip(first, second, strict=True)]
        by_p, by_t = (by_second, by_first) if kind == "kl" else (by_first, by_second)

    def centred(w, slope):
        """J/w times the slope: by log w, up to the factor w."""
        mean = mpmath.fsum(a * b for a, b in zip(w, slope, strict=True) if a)
        return [b - mean if a else mpmath.mpf(0) for a, b in zip(w, slope, strict=True)]

    dx, dt = centred(p, by_p), centred(t, by_t)
    sides = []
    second = {"kl": p, "reverse kl": t}.get(kind)
    # the logarithms of probabilities are rounded to float64
    logs = [abs(mpmath.log(a)) * 2.0**-52 if probs and a else mpmath.mpf(0) for a in t]
    rounded = mpmath.fsum(abs(a - b) * c for a, b, c in zip(p, t, logs, strict=True))
    for w, slope, own, weighted in (p, dx, by_p, True), (t, dt, by_t, not probs):
        # logarithms have errors of their own size, before their mean is taken off
        size = [mpmath.mpf(0) if w is second else abs(a) for a in own]
        spread = mpmath.fsum(a * (abs(b) + c) for a, b, c in zip(w, slope, size, strict=True) if a)
        unit = [abs(b) + c + spread + d / eps for b, c, d in zip(slope, size, logs, strict=True)]
        factors = [scale * a for a in w] if weighted else [(1 if a else 0) / total for a in w]
        both = [[a * b for a, b in zip(factors, of, strict=True)] for of in (slope, unit)]
        # a w that underflows
        sides.append([*both, [scale * (1 + b) if weighted else mpmath.mpf(0) for b in unit]])
    return value, rounded, *sides


@functools.cache
def table(kind, target, dtype, n, temperature):
    """The rows, and what is exact of each: computed once for all that is asked of them."""
    x, u = rows(dtype, n)
    given = probabilities(u, dtype) if target == "target_probs" else u
    with mpmath.workdps(400):
        options = target == "target_probs", temperature, float(errors.eps(dtype))
        return x, given, [exact(kind, *row, *options) for row in zip(x, given, strict=True)]


def off(found, exact, unit):
    """|found − exact| in units, of numbers that are finite in both or the same."""
    found = mpmath.mpf(float(found))
    if not mpmath.isfinite(exact):
        return 0.0 if found == exact else np.inf
    if not mpmath.isfinite(found):
        return np.inf
    return 0.0 if found == exact else float(abs(found - exact) / unit) if unit else np.inf


def worst(kind, target, dtype, n, temperature, function, vjp):
    """The worst error of the value, in eps of it, and of the gradients.

    The unit of these is eps·(|g| + w·Σ|g|), and for what is a logarithm a less its mean eps·w·(|a| + Σw|a|).
    """
    x, given, right = table(kind, target, dtype, n, temperature)
    eps, tiny = float(errors.eps(dtype)), float(errors.info(dtype).smallest_subnormal)
    values, (dx, dt) = function(x, given), vjp(x, given)
    result = [0.0, 0.0, 0.0]
    with mpmath.workdps(400):
        for i, (value, rounded, *sides) in enumerate(right):
            result[0] = max(result[0], off(values[i], value, eps * abs(value) + rounded + tiny))
            if not mpmath.isfinite(value):
                continue
            for side, (found, (slope, unit, of_tiny)) in enumerate(
                zip((dx[i], dt[i]), sides, strict=True), start=1
            ):
                units = [eps * u + tiny * (1 + v) for u, v in zip(unit, of_tiny, strict=True)]
                each = [off(f, g, u) for f, g, u in zip(found, slope, units, strict=True)]
                result[side] = max(result[side], *each)
    return result
