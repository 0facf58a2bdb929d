"""Wrong maps and wrong gradients: those that people have published, and slips of a kernel.

A formula takes longdoubles and is rounded once, so that nothing but the formula is wrong; the most usual
mistakes come first, since the first that fits is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array
from .oracle import WIDE

Function = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Mutant:
    """A known mistake: its formula, of longdoubles and an axis, and a message for its author."""

    formula: Function
    message: str


WRONG_AXIS = "the sum runs over the wrong axis"
SWAPPED = "the arguments are swapped: it takes dy first and y second"
OVERFLOWS = "the maximum is not taken off before the exponential, which overflows"
ZEROS = Mutant(lambda y, dy, *v, axis: 0 * y, "all zeros")


def total(a: Array, axis: int) -> Any:
    return a.sum(axis, keepdims=True)


def other(y: Array, axis: int) -> int:
    """An axis that is not the one asked for."""
    return 0 if axis % y.ndim else y.ndim - 1


def mean(s: Array, dy: Array, axis: int) -> Any:
    return total(s * dy, axis) / total(s, axis)


def right(y: Array, dy: Array, axis: int) -> Any:
    """The formula itself: what a mutant must differ from."""
    return y * (dy - mean(y, dy, axis))


def exp(x: Array, axis: int) -> Any:
    """exp(x − max), in the precision of x."""
    return np.exp(x - x.max(axis, keepdims=True))


def divided(e: Array, axis: int) -> Array:
    return np.asarray(e / total(e, axis))


def slips(formula: Function) -> dict[str, Mutant]:
    """What can happen to any formula: it is right, but for a sign or a factor."""

    def times(factor: Any) -> Function:
        def changed(*arrays: Array, axis: int) -> Any:
            results = formula(*arrays, axis=axis)
            return tuple(factor * a for a in results) if isinstance(results, tuple) else factor * results

        return changed

    return {
        "sign": Mutant(times(-1), "the sign is turned"),
        "times 1.01": Mutant(times(WIDE(1.01)), "the right result times a number that is not 1"),
    }


# --- of softmax's vjp ----------------------------------------------------------------------------------


def without_last(y: Array, dy: Array, axis: int) -> Any:
    keep = np.arange(y.shape[axis]) < max(y.shape[axis] - 1, 1)
    keep = keep if axis % y.ndim == y.ndim - 1 else keep[:, None]
    return y * (dy - mean(y * keep, dy, axis))


def first_row(y: Array, dy: Array, axis: int) -> Any:
    return y * (dy - np.take(mean(y, dy, axis), [0], other(y, axis)))


FORMULAS = {
    "y(1−y)∘dy": Mutant(
        lambda y, dy, axis: y * (1 - y) * dy,
        "elementwise y(1−y)∘dy: that is the diagonal of the Jacobian alone, and each y depends on all logits",
    ),
    "y(1−y)": Mutant(
        lambda y, dy, axis: y * (1 - y),
        "elementwise y(1−y): that is the diagonal of the Jacobian, and dy is not used at all",
    ),
    "y − dy": Mutant(
        lambda y, dy, axis: y - dy,
        "y − dy, the p − t of cross-entropy: that is ∂loss/∂x of another function, which takes the labels",
    ),
    "dy − y": Mutant(lambda y, dy, axis: dy - y, "dy − y, cross-entropy's p − t with the sign turned"),
    "no mean": Mutant(lambda y, dy, axis: y * dy, "y∘dy: the mean Σ y∘dy is missing, which is taken off dy"),
    "arguments swapped": Mutant(lambda y, dy, axis: dy * (y - total(y * dy, axis)), SWAPPED),
    "arguments swapped, divided": Mutant(lambda y, dy, axis: right(dy, y, axis), SWAPPED),
    "other axis": Mutant(lambda y, dy, axis: y * (dy - total(y * dy, other(y, axis))), WRONG_AXIS),
    "other axis, divided": Mutant(lambda y, dy, axis: right(y, dy, other(y, axis)), WRONG_AXIS),
    "sum of all": Mutant(
        lambda y, dy, axis: y * (dy - (y * dy).sum()),
        f"{WRONG_AXIS}: over all of the array, where each row has its own",
    ),
    "identity": Mutant(
        lambda y, dy, axis: dy,
        "dy is given back as it came: that is right only where the loss has softmax in it",
    ),
    "zeros": ZEROS,
    "uniform": Mutant(
        lambda y, dy, axis: 0 * y + right(y, dy, axis).mean(axis, keepdims=True),
        "the same number in all of a row: the mean of the right result",
    ),
    "no diagonal": Mutant(
        lambda y, dy, axis: -y * mean(y, dy, axis), "−y Σ y∘dy: the Jacobian's diagonal term y∘dy is missing"
    ),
    "no weight": Mutant(
        lambda y, dy, axis: dy - mean(y, dy, axis), "dy − Σ y∘dy: the factor y before the bracket is missing"
    ),
    "plus": Mutant(
        lambda y, dy, axis: y * (dy + mean(y, dy, axis)), "the mean Σ y∘dy is added, and should be taken off"
    ),
    "mean not weighted": Mutant(
        lambda y, dy, axis: y * (dy - dy.mean(axis, keepdims=True)),
        "the mean of dy is taken without its weights y",
    ),
    "mean over n": Mutant(
        lambda y, dy, axis: y * (dy - (y * dy).mean(axis, keepdims=True)),
        "a mean where the sum Σ y∘dy should be: it is divided by n",
    ),
    "sum of dy": Mutant(
        lambda y, dy, axis: y * (dy - total(dy, axis)), "Σ dy is taken off instead of Σ y∘dy"
    ),
    "log_softmax": Mutant(
        lambda y, dy, axis: dy - y * total(dy, axis), "dy − y Σdy: that is the gradient of log_softmax"
    ),
    "y squared": Mutant(lambda y, dy, axis: right(y * y, dy, axis), "y² is used where y should be"),
    "softmax of y": Mutant(
        lambda y, dy, axis: right(divided(exp(y, axis), axis), dy, axis),
        "softmax is taken of y again: it is given y, not x",
    ),
    "reversed": Mutant(
        lambda y, dy, axis: np.flip(right(y, dy, axis), axis), "the right result in reversed order"
    ),
    "mean over rows": Mutant(
        lambda y, dy, axis: right(y, dy, axis) / y.shape[other(y, axis)],
        "the right result divided by the number of rows",
    ),
    "last forgotten": Mutant(without_last, "the last element is left out of the sum"),
    "first row's mean": Mutant(first_row, "the sum of the first row is used for all rows"),
    **slips(right),
}


def rounded_once(formula: Function) -> Function:
    """The formula in longdouble as a function of arrays of any dtype."""

    def function(*arrays: Array, axis: int = -1) -> Any:
        results = formula(*(a.astype(WIDE) for a in arrays), axis=axis)
        dtype = arrays[0].dtype
        return (
            tuple(a.astype(dtype) for a in results) if isinstance(results, tuple) else results.astype(dtype)
        )

    return function


def narrow(y: Array, dy: Array, *, axis: int = -1) -> Array:
    """The closed form in the precision of the arrays, as it is usually written."""
    return np.asarray(y * (dy - (y * dy).sum(axis, keepdims=True, dtype=y.dtype)))


def one_part(y: Array, dy: Array, *, axis: int = -1) -> Any:
    """Right sums, but the mean kept as one number of the kernel's precision: a winner drowns the rest."""
    kernel: Any = np.float64 if y.dtype == np.float64 else np.float32
    m = mean(y.astype(WIDE), dy.astype(WIDE), axis).astype(kernel)
    return (y.astype(kernel) * (dy.astype(kernel) - m)).astype(y.dtype)


reference = rounded_once(right)
MUTANTS = {name: rounded_once(mutant.formula) for name, mutant in FORMULAS.items()}
# wrong by softgrad's contract, and the second by no other
MUTANTS |= {"narrow": narrow, "mean in one part": one_part}


# --- of softmax's double backward ----------------------------------------------------------------------


def through_y(y: Array, dy: Array, v: Array, axis: int) -> Any:
    return v * (dy - mean(y, dy, axis)) - dy * mean(y, v, axis)


def double_backward(y: Array, dy: Array, v: Array, axis: int) -> Any:
    return right(y, through_y(y, dy, v, axis), axis), right(y, v, axis)


DOUBLE_BACKWARDS = {
    "y held constant": Mutant(
        lambda y, dy, v, axis: (0 * y, right(y, v, axis)),
        "grad_x is 0: y is taken for a constant, and depends on x",
    ),
    "no Jacobian": Mutant(
        lambda y, dy, v, axis: (through_y(y, dy, v, axis), right(y, v, axis)),
        "grad_x is the gradient for y: it is yet to go through the softmax, J·grad_y",
    ),
    "results swapped": Mutant(
        lambda y, dy, v, axis: double_backward(y, dy, v, axis)[::-1], "the two results are swapped"
    ),
    "first term": Mutant(
        lambda y, dy, v, axis: (right(y, v * (dy - mean(y, dy, axis)), axis), right(y, v, axis)),
        "the term −dy Σ y∘v of grad_x is missing: the mean depends on y as well",
    ),
    "second term": Mutant(
        lambda y, dy, v, axis: (right(y, -dy * mean(y, v, axis), axis), right(y, v, axis)),
        "the term v∘(dy − Σ y∘dy) of grad_x is missing",
    ),
    "vjp of dy": Mutant(
        lambda y, dy, v, axis: (double_backward(y, dy, v, axis)[0], right(y, dy, axis)),
        "grad_dy is J·dy, and should be J·v: are dy and v swapped?",
    ),
    "zeros": Mutant(lambda y, dy, v, axis: (0 * y, 0 * y), "all zeros"),
    "sign": Mutant(
        lambda y, dy, v, axis: (-double_backward(y, dy, v, axis)[0], right(y, v, axis)),
        "the sign of grad_x is turned",
    ),
    "times 1.01": slips(double_backward)["times 1.01"],
}


# --- of the forwards -----------------------------------------------------------------------------------


def first_twice(x: Array, axis: int) -> Array:
    """A loop that overlaps its own tail."""
    e = exp(x, axis)
    return np.asarray(e / (total(e, axis) + np.take(e, [0], axis)))


UNIFORM = Mutant(lambda x, axis: divided(np.ones_like(x), axis), "1/n everywhere")
ONE_HOT = Mutant(
    lambda x, axis: divided(1.0 * (x == x.max(axis, keepdims=True)), axis), "1 at the largest logit, else 0"
)
SOFTMAXES = {
    "other axis": Mutant(lambda x, axis: divided(exp(x, other(x, axis)), other(x, axis)), WRONG_AXIS),
    "sum of all": Mutant(
        lambda x, axis: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
        f"{WRONG_AXIS}: over all of the array, where each row has its own",
    ),
    "not divided": Mutant(exp, "exp(x − max), not divided by its sum"),
    "uniform": UNIFORM,
    "one-hot": ONE_HOT,
    "base 2": Mutant(
        lambda x, axis: divided(np.exp2(x - x.max(axis, keepdims=True)), axis), "powers of 2 instead of e"
    ),
    "sigmoid": Mutant(lambda x, axis: 1 / (1 + np.exp(-x)), "the sigmoid of each element"),
    "log_softmax": Mutant(lambda x, axis: np.log(divided(exp(x, axis), axis)), "log_softmax"),
    "reversed": Mutant(
        lambda x, axis: np.flip(divided(exp(x, axis), axis), axis), "the right result in reversed order"
    ),
    "first counted twice": Mutant(first_twice, "the first element is counted twice in the sum"),
    "times 1.01": slips(lambda x, axis: divided(exp(x, axis), axis))["times 1.01"],
    "no maximum": Mutant(lambda x, axis: divided(np.exp(x.astype(np.float64)), axis), OVERFLOWS),
}
SPARSE = {
    "softmax": Mutant(lambda x, axis: divided(exp(x, axis), axis), "softmax: no weight is 0"),
    "uniform": UNIFORM,
    "one-hot": ONE_HOT,
}


def narrow_softmax(x: Array, *, axis: int = -1) -> Array:
    """As it is usually written: x − max is rounded, and the exponential makes 60 ulp of it."""
    return divided(exp(x, axis), axis)


reference_softmax = rounded_once(narrow_softmax)
WRONG_SOFTMAXES = {name: rounded_once(mutant.formula) for name, mutant in SOFTMAXES.items()}
WRONG_SOFTMAXES |= {"narrow": narrow_softmax}


# --- of log_softmax ------------------------------------------------------------------------------------


def logs(x: Array, axis: int) -> Any:
    return x - x.max(axis, keepdims=True) - np.log(total(exp(x, axis), axis))


def log_vjp(y: Array, dy: Array, axis: int) -> Any:
    return dy - np.exp(y) * total(dy, axis)


def log_jvp(y: Array, dx: Array, axis: int) -> Any:
    return dx - total(np.exp(y) * dx, axis)


LOG_SOFTMAXES = {
    "softmax": Mutant(lambda x, axis: np.exp(logs(x, axis)), "softmax: the logarithm is missing"),
    "other axis": Mutant(lambda x, axis: logs(x, other(x, axis)), WRONG_AXIS),
    "no sum": Mutant(lambda x, axis: x - x.max(axis, keepdims=True), "x − max: log Σ exp is not taken off"),
    "sum not logged": Mutant(
        lambda x, axis: x - x.max(axis, keepdims=True) - total(exp(x, axis), axis),
        "Σ exp is taken off, and should be log Σ exp",
    ),
    "of −x": Mutant(lambda x, axis: logs(-x, axis), "log_softmax of −x"),
    "base 2": Mutant(lambda x, axis: logs(x, axis) / np.log(WIDE(2)), "logarithms to the base 2"),
    **slips(logs),
    "no maximum": Mutant(lambda x, axis: x - np.log(total(np.exp(x.astype(np.float64)), axis)), OVERFLOWS),
}
LOG_VJPS = {
    "softmax": Mutant(
        lambda y, dy, axis: right(np.exp(y), dy, axis), "that is the gradient of softmax, not log_softmax"
    ),
    "y for p": Mutant(
        lambda y, dy, axis: dy - y * total(dy, axis), "y is used for exp(y): it is a logarithm"
    ),
    "jvp": Mutant(log_jvp, "that is the jvp: the Jacobian of log_softmax is not symmetric"),
    "identity": Mutant(lambda y, dy, axis: dy, "dy is given back as it came: exp(y)·Σdy is to be taken off"),
    "arguments swapped": Mutant(lambda y, dy, axis: log_vjp(dy, y, axis), SWAPPED),
    "other axis": Mutant(lambda y, dy, axis: dy - np.exp(y) * total(dy, other(y, axis)), WRONG_AXIS),
    "sum of all": Mutant(
        lambda y, dy, axis: dy - np.exp(y) * dy.sum(), f"{WRONG_AXIS}: over all of the array"
    ),
    "no sum": Mutant(
        lambda y, dy, axis: dy - np.exp(y) * dy, "dy − exp(y)∘dy: the sum Σdy is missing, elementwise"
    ),
    "mean": Mutant(
        lambda y, dy, axis: dy - np.exp(y) * dy.mean(axis, keepdims=True),
        "a mean of dy where the sum Σdy should be: it is divided by n",
    ),
    "uniform": Mutant(
        lambda y, dy, axis: dy - dy.mean(axis, keepdims=True),
        "exp(y) is missing before the sum: 1/n is there",
    ),
    "base 2": Mutant(lambda y, dy, axis: dy - np.exp2(y) * total(dy, axis), "2^y is used for exp(y)"),
    "p − t": Mutant(
        lambda y, dy, axis: np.exp(y) - dy, "exp(y) − dy, the p − t of cross-entropy: of another function"
    ),
    "zeros": ZEROS,
    **slips(log_vjp),
}
LOG_JVPS = {
    "vjp": Mutant(log_vjp, "that is the vjp: the Jacobian of log_softmax is not symmetric"),
    "softmax": Mutant(
        lambda y, dx, axis: right(np.exp(y), dx, axis), "that is the jvp of softmax, not log_softmax"
    ),
    "identity": Mutant(lambda y, dx, axis: dx, "dx is given back as it came: Σ exp(y)∘dx is to be taken off"),
    "other axis": Mutant(lambda y, dx, axis: dx - total(np.exp(y) * dx, other(y, axis)), WRONG_AXIS),
    "uniform": Mutant(
        lambda y, dx, axis: dx - dx.mean(axis, keepdims=True), "the mean of dx is taken without its weights"
    ),
    "zeros": ZEROS,
    **slips(log_jvp),
}


# --- of sparsemax's and entmax's products --------------------------------------------------------------


def sparse_products(alpha: float) -> dict[str, Mutant]:
    def weights(y: Array, alpha: float = alpha) -> Any:
        return (y > 0).astype(WIDE) if alpha == 2 else np.sqrt(y)

    def product(y: Array, dy: Array, axis: int) -> Any:
        return right(weights(y), dy, axis)

    return {
        "softmax": Mutant(right, "that is the gradient of softmax: the weights are not y here"),
        "other map": Mutant(
            lambda y, dy, axis: right(weights(y, 3.5 - alpha), dy, axis),
            f"that is the gradient of {'entmax' if alpha == 2 else 'sparsemax'}",
        ),
        "no support": Mutant(
            lambda y, dy, axis: dy - mean(weights(y), dy, axis),
            "the weights of the support are missing: 0 where y is 0",
        ),
        "no mean": Mutant(lambda y, dy, axis: weights(y) * dy, "the mean of dy over the support is missing"),
        "mean over n": Mutant(
            lambda y, dy, axis: weights(y) * (dy - dy.mean(axis, keepdims=True)),
            "the mean of dy is taken over all of the row, not the support",
        ),
        "sum": Mutant(
            lambda y, dy, axis: weights(y) * (dy - total(weights(y) * dy, axis)),
            "the sum of the weighted dy is not divided by the sum of the weights",
        ),
        "arguments swapped": Mutant(lambda y, dy, axis: product(dy, y, axis), SWAPPED),
        "other axis": Mutant(lambda y, dy, axis: product(y, dy, other(y, axis)), WRONG_AXIS),
        "identity": Mutant(lambda y, dy, axis: dy, "dy is given back as it came"),
        "zeros": ZEROS,
        **slips(product),
    }
