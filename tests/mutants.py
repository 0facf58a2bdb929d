"""Wrong softmaxes and wrong gradients: those that people have published, and slips of a kernel.

All but "narrow" and "mean in one part" are computed in longdouble and rounded once, so that nothing but
the formula is wrong.
"""

import numpy as np

WIDE = np.longdouble


def mean(y, dy, axis):
    return (y * dy).sum(axis, keepdims=True) / y.sum(axis, keepdims=True)


def right(y, dy, axis):
    """The formula itself: what a mutant must differ from."""
    return y * (dy - mean(y, dy, axis))


def other(y, axis):
    """An axis that is not the one asked for."""
    return 0 if axis % y.ndim else y.ndim - 1


def without_last(y, dy, axis):
    """A loop that forgets the last element."""
    keep = np.arange(y.shape[axis]) < max(y.shape[axis] - 1, 1)
    keep = keep if axis % y.ndim == y.ndim - 1 else keep[:, None]
    return y * (dy - mean(y * keep, dy, axis))


def first_row(y, dy, axis):
    """The mean of one row taken for all."""
    m = mean(y, dy, axis)
    return y * (dy - np.take(m, [0], other(y, axis)))


FORMULAS = {
    "zeros": lambda y, dy, axis: 0 * y,
    "uniform": lambda y, dy, axis: 0 * y + right(y, dy, axis).mean(axis, keepdims=True),
    "identity": lambda y, dy, axis: dy,
    "y(1−y)∘dy": lambda y, dy, axis: y * (1 - y) * dy,
    "y(1−y)": lambda y, dy, axis: y * (1 - y),
    "y − dy": lambda y, dy, axis: y - dy,  # cross-entropy's p − t
    "arguments swapped": lambda y, dy, axis: dy * (y - (y * dy).sum(axis, keepdims=True)),
    "no mean": lambda y, dy, axis: y * dy,
    "no diagonal": lambda y, dy, axis: -y * mean(y, dy, axis),
    "no weight": lambda y, dy, axis: dy - mean(y, dy, axis),
    "other axis": lambda y, dy, axis: right(y, dy, other(y, axis)),
    "sign": lambda y, dy, axis: -right(y, dy, axis),
    "mean not weighted": lambda y, dy, axis: y * (dy - dy.mean(axis, keepdims=True)),
    "mean over n": lambda y, dy, axis: y * (dy - (y * dy).mean(axis, keepdims=True)),
    "sum of dy": lambda y, dy, axis: y * (dy - dy.sum(axis, keepdims=True)),
    "log_softmax": lambda y, dy, axis: dy - y * dy.sum(axis, keepdims=True),
    "y squared": lambda y, dy, axis: right(y * y, dy, axis),
    "reversed": lambda y, dy, axis: np.flip(right(y, dy, axis), axis),
    "times 1.01": lambda y, dy, axis: right(y, dy, axis) * WIDE(1.01),
    "last forgotten": without_last,
    "first row's mean": first_row,
}


def rounded_once(formula):
    def vjp(y, dy, *, axis=-1):
        return formula(y.astype(WIDE), dy.astype(WIDE), axis).astype(y.dtype)

    return vjp


def narrow(y, dy, *, axis=-1):
    """The closed form in the precision of the arrays, as it is usually written."""
    return y * (dy - (y * dy).sum(axis, keepdims=True, dtype=y.dtype))


def one_part(y, dy, *, axis=-1):
    """Right sums, but the mean kept as one number of the kernel's precision: a winner drowns the rest."""
    kind = np.float64 if y.dtype == np.float64 else np.float32
    m = mean(y.astype(WIDE), dy.astype(WIDE), axis).astype(kind)
    return (y.astype(kind) * (dy.astype(kind) - m)).astype(y.dtype)


reference = rounded_once(right)
MUTANTS = {name: rounded_once(formula) for name, formula in FORMULAS.items()}
MUTANTS |= {"narrow": narrow, "mean in one part": one_part}


# --- of the forward ----------------------------------------------------------------------------------


def powers(x, axis):
    """exp(x − max), in the precision of x."""
    return np.exp(x - x.max(axis, keepdims=True))


def divided(e, axis):
    return e / e.sum(axis, keepdims=True)


def first_twice(x, axis):
    """A loop that overlaps its own tail, and counts an element twice."""
    e = powers(x, axis)
    return e / (e.sum(axis, keepdims=True) + np.take(e, [0], axis))


SOFTMAXES = {
    "uniform": lambda x, axis: divided(np.ones_like(x), axis),
    "one-hot": lambda x, axis: divided(1.0 * (x == x.max(axis, keepdims=True)), axis),
    "no maximum": lambda x, axis: divided(np.exp(x.astype(np.float64)), axis),
    "base 2": lambda x, axis: divided(np.exp2(x - x.max(axis, keepdims=True)), axis),
    "other axis": lambda x, axis: divided(powers(x, other(x, axis)), other(x, axis)),
    "not divided": powers,
    "reversed": lambda x, axis: np.flip(divided(powers(x, axis), axis), axis),
    "first counted twice": first_twice,
    "times 1.01": lambda x, axis: divided(powers(x, axis), axis) * WIDE(1.01),
}


def softmax_rounded_once(formula):
    return lambda x, *, axis=-1: formula(x.astype(WIDE), axis).astype(x.dtype)


def narrow_softmax(x, *, axis=-1):
    """As it is usually written: x − max is rounded, and the exponential makes 60 ulp of it."""
    return divided(powers(x, axis), axis)


reference_softmax = softmax_rounded_once(lambda x, axis: divided(powers(x, axis), axis))
WRONG_SOFTMAXES = {name: softmax_rounded_once(formula) for name, formula in SOFTMAXES.items()}
WRONG_SOFTMAXES |= {"narrow": narrow_softmax}
