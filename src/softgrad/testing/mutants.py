"""Wrong softmaxes and wrong gradients: those that people have published, and slips of a kernel.

A formula is computed in longdouble and rounded once, so that nothing but the formula is wrong; what is wrong
in other ways than its formula is at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import Array
from .operations import Arrays, Wrong
from .oracle import WIDE

Function = Callable[..., Any]


def mean(y: Array, dy: Array, axis: int) -> Any:
    return (y * dy).sum(axis, keepdims=True) / y.sum(axis, keepdims=True)


def right(y: Array, dy: Array, axis: int) -> Any:
    """The formula itself: what a mutant must differ from."""
    return y * (dy - mean(y, dy, axis))


def other(y: Array, axis: int) -> int:
    """An axis that is not the one asked for."""
    return 0 if axis % y.ndim else y.ndim - 1


def without_last(y: Array, dy: Array, axis: int) -> Any:
    keep = np.arange(y.shape[axis]) < max(y.shape[axis] - 1, 1)
    keep = keep if axis % y.ndim == y.ndim - 1 else keep[:, None]
    return y * (dy - mean(y * keep, dy, axis))


def first_row(y: Array, dy: Array, axis: int) -> Any:
    m = mean(y, dy, axis)
    return y * (dy - np.take(m, [0], other(y, axis)))


# --- of the vjp; the most usual first ------------------------------------------------------------------

FORMULAS = {
    "y(1−y)∘dy": Wrong(
        lambda y, dy, axis: y * (1 - y) * dy,
        "elementwise y(1−y)∘dy: that is the diagonal of the Jacobian alone, and each y depends on all logits",
    ),
    "y(1−y)": Wrong(
        lambda y, dy, axis: y * (1 - y),
        "elementwise y(1−y): that is the diagonal of the Jacobian, and dy is not used at all",
    ),
    "y − dy": Wrong(
        lambda y, dy, axis: y - dy,
        "y − dy, the p − t of cross-entropy: that is ∂loss/∂x of another function, which takes the labels",
    ),
    "dy − y": Wrong(lambda y, dy, axis: dy - y, "dy − y, cross-entropy's p − t with the sign turned"),
    "no mean": Wrong(lambda y, dy, axis: y * dy, "y∘dy: the mean Σ y∘dy is missing, which is taken off dy"),
    "arguments swapped": Wrong(
        lambda y, dy, axis: dy * (y - (y * dy).sum(axis, keepdims=True)),
        "the arguments are swapped: it takes dy first and y second",
    ),
    "arguments swapped, divided": Wrong(
        lambda y, dy, axis: right(dy, y, axis), "the arguments are swapped: it takes dy first and y second"
    ),
    "other axis": Wrong(
        lambda y, dy, axis: y * (dy - (y * dy).sum(other(y, axis), keepdims=True)),
        "the sum runs over the wrong axis",
    ),
    "other axis, divided": Wrong(
        lambda y, dy, axis: right(y, dy, other(y, axis)), "the sum runs over the wrong axis"
    ),
    "sum of all": Wrong(
        lambda y, dy, axis: y * (dy - (y * dy).sum()),
        "the sum runs over the wrong axis: over all of the array, where each row has its own",
    ),
    "identity": Wrong(
        lambda y, dy, axis: dy,
        "dy is given back as it came: that is right only where the loss has softmax in it",
    ),
    "zeros": Wrong(lambda y, dy, axis: 0 * y, "all zeros"),
    "uniform": Wrong(
        lambda y, dy, axis: 0 * y + right(y, dy, axis).mean(axis, keepdims=True),
        "the same number in all of a row: the mean of the right result",
    ),
    "no diagonal": Wrong(
        lambda y, dy, axis: -y * mean(y, dy, axis), "−y Σ y∘dy: the Jacobian's diagonal term y∘dy is missing"
    ),
    "no weight": Wrong(
        lambda y, dy, axis: dy - mean(y, dy, axis), "dy − Σ y∘dy: the factor y before the bracket is missing"
    ),
    "sign": Wrong(lambda y, dy, axis: -right(y, dy, axis), "the sign is turned"),
    "plus": Wrong(
        lambda y, dy, axis: y * (dy + mean(y, dy, axis)), "the mean Σ y∘dy is added, and should be taken off"
    ),
    "mean not weighted": Wrong(
        lambda y, dy, axis: y * (dy - dy.mean(axis, keepdims=True)),
        "the mean of dy is taken without its weights y",
    ),
    "mean over n": Wrong(
        lambda y, dy, axis: y * (dy - (y * dy).mean(axis, keepdims=True)),
        "a mean where the sum Σ y∘dy should be: it is divided by n",
    ),
    "sum of dy": Wrong(
        lambda y, dy, axis: y * (dy - dy.sum(axis, keepdims=True)), "Σ dy is taken off instead of Σ y∘dy"
    ),
    "log_softmax": Wrong(
        lambda y, dy, axis: dy - y * dy.sum(axis, keepdims=True),
        "dy − y Σdy: that is the gradient of log_softmax",
    ),
    "y squared": Wrong(lambda y, dy, axis: right(y * y, dy, axis), "y² is used where y should be"),
    "softmax of y": Wrong(
        lambda y, dy, axis: right(divided(powers(y, axis), axis), dy, axis),
        "softmax is taken of y again: it is given y, not x",
    ),
    "reversed": Wrong(
        lambda y, dy, axis: np.flip(right(y, dy, axis), axis), "the right result in reversed order"
    ),
    "mean over rows": Wrong(
        lambda y, dy, axis: right(y, dy, axis) / y.shape[other(y, axis)],
        "the right result divided by the number of rows",
    ),
    "last forgotten": Wrong(without_last, "the last element is left out of the sum"),
    "first row's mean": Wrong(first_row, "the sum of the first row is used for all rows"),
    "times 1.01": Wrong(
        lambda y, dy, axis: right(y, dy, axis) * WIDE(1.01), "the right result times a number that is not 1"
    ),
}


def rounded_once(formula: Function) -> Function:
    """The formula in longdouble as a function of arrays of any dtype."""

    def function(*arrays: Array, axis: int = -1) -> Any:
        found = formula(*(a.astype(WIDE) for a in arrays), axis)
        dtype = arrays[0].dtype
        return tuple(a.astype(dtype) for a in found) if isinstance(found, tuple) else found.astype(dtype)

    return function


def narrow(y: Array, dy: Array, *, axis: int = -1) -> Array:
    """The closed form in the precision of the arrays, as it is usually written."""
    return np.asarray(y * (dy - (y * dy).sum(axis, keepdims=True, dtype=y.dtype)))


def one_part(y: Array, dy: Array, *, axis: int = -1) -> Any:
    """Right sums, but the mean kept as one number of the kernel's precision: a winner drowns the rest."""
    kind: Any = np.float64 if y.dtype == np.float64 else np.float32
    m = mean(y.astype(WIDE), dy.astype(WIDE), axis).astype(kind)
    return (y.astype(kind) * (dy.astype(kind) - m)).astype(y.dtype)


reference = rounded_once(right)
MUTANTS = {name: rounded_once(wrong.formula) for name, wrong in FORMULAS.items()}
# wrong by softgrad's contract, and the second by no other
MUTANTS |= {"narrow": narrow, "mean in one part": one_part}


# --- of the forward ------------------------------------------------------------------------------------


def powers(x: Array, axis: int) -> Array:
    """exp(x − max), in the precision of x."""
    return np.asarray(np.exp(x - x.max(axis, keepdims=True)))


def divided(e: Array, axis: int) -> Array:
    return np.asarray(e / e.sum(axis, keepdims=True))


def first_twice(x: Array, axis: int) -> Array:
    """A loop that overlaps its own tail."""
    e = powers(x, axis)
    return np.asarray(e / (e.sum(axis, keepdims=True) + np.take(e, [0], axis)))


SOFTMAXES = {
    "other axis": Wrong(
        lambda x, axis: divided(powers(x, other(x, axis)), other(x, axis)), "the sum runs over the wrong axis"
    ),
    "sum of all": Wrong(
        lambda x, axis: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
        "the sum runs over the wrong axis: over all of the array, where each row has its own",
    ),
    "not divided": Wrong(powers, "exp(x − max), not divided by its sum"),
    "uniform": Wrong(lambda x, axis: divided(np.ones_like(x), axis), "1/n everywhere"),
    "one-hot": Wrong(
        lambda x, axis: divided(1.0 * (x == x.max(axis, keepdims=True)), axis),
        "1 at the largest logit, else 0",
    ),
    "base 2": Wrong(
        lambda x, axis: divided(np.exp2(x - x.max(axis, keepdims=True)), axis), "powers of 2 instead of e"
    ),
    "sigmoid": Wrong(lambda x, axis: 1 / (1 + np.exp(-x)), "the sigmoid of each element"),
    "log_softmax": Wrong(lambda x, axis: np.log(divided(powers(x, axis), axis)), "log_softmax"),
    "reversed": Wrong(
        lambda x, axis: np.flip(divided(powers(x, axis), axis), axis), "the right result in reversed order"
    ),
    "first counted twice": Wrong(first_twice, "the first element is counted twice in the sum"),
    "times 1.01": Wrong(
        lambda x, axis: divided(powers(x, axis), axis) * WIDE(1.01),
        "the right result times a number that is not 1",
    ),
    "no maximum": Wrong(
        lambda x, axis: divided(np.exp(x.astype(np.float64)), axis),
        "the maximum is not taken off before the exponential, which overflows",
    ),
}


def narrow_softmax(x: Array, *, axis: int = -1) -> Array:
    """As it is usually written: x − max is rounded, and the exponential makes 60 ulp of it."""
    return divided(powers(x, axis), axis)


reference_softmax = rounded_once(lambda x, axis: divided(powers(x, axis), axis))
WRONG_SOFTMAXES = {name: rounded_once(wrong.formula) for name, wrong in SOFTMAXES.items()}
WRONG_SOFTMAXES |= {"narrow": narrow_softmax}


# --- of the double backward ----------------------------------------------------------------------------


def double_backward(y: Array, dy: Array, v: Array, axis: int) -> Arrays:
    through_y = v * (dy - mean(y, dy, axis)) - dy * mean(y, v, axis)
    return right(y, through_y, axis), right(y, v, axis)


DOUBLE_BACKWARDS = {
    "y held constant": Wrong(
        lambda y, dy, v, axis: (0 * y, right(y, v, axis)),
        "grad_x is 0: y is taken for a constant, and depends on x",
    ),
    "no Jacobian": Wrong(
        lambda y, dy, v, axis: (
            v * (dy - mean(y, dy, axis)) - dy * mean(y, v, axis),
            right(y, v, axis),
        ),
        "grad_x is the gradient for y: it is yet to go through the softmax, J·grad_y",
    ),
    "results swapped": Wrong(
        lambda y, dy, v, axis: double_backward(y, dy, v, axis)[::-1], "the two results are swapped"
    ),
    "first term": Wrong(
        lambda y, dy, v, axis: (right(y, v * (dy - mean(y, dy, axis)), axis), right(y, v, axis)),
        "the term −dy Σ y∘v of grad_x is missing: the mean depends on y as well",
    ),
    "second term": Wrong(
        lambda y, dy, v, axis: (right(y, -dy * mean(y, v, axis), axis), right(y, v, axis)),
        "the term v∘(dy − Σ y∘dy) of grad_x is missing",
    ),
    "vjp of dy": Wrong(
        lambda y, dy, v, axis: (double_backward(y, dy, v, axis)[0], right(y, dy, axis)),
        "grad_dy is J·dy, and should be J·v: are dy and v swapped?",
    ),
    "zeros": Wrong(lambda y, dy, v, axis: (0 * y, 0 * y), "all zeros"),
    "sign": Wrong(
        lambda y, dy, v, axis: (-double_backward(y, dy, v, axis)[0], right(y, v, axis)),
        "the sign of grad_x is turned",
    ),
    "times 1.01": Wrong(
        lambda y, dy, v, axis: tuple(a * WIDE(1.01) for a in double_backward(y, dy, v, axis)),
        "the right results times a number that is not 1",
    ),
}
