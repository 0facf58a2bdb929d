"""Wrong maps and wrong gradients: those that people have published, and slips of a kernel.

A formula takes longdoubles and is rounded once, so that nothing but the formula is wrong.  The most usual
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


Table = dict[str, Mutant]


def table(rows: dict[str, tuple[Function, str]]) -> Table:
    return {name: Mutant(*row) for name, row in rows.items()}


def rounded_once(formula: Function) -> Function:
    """The formula in longdouble as a function of arrays of any dtype."""

    def function(*arrays: Array, axis: int = -1) -> Any:
        results = formula(*(a.astype(WIDE) for a in arrays), axis=axis)
        dtype = arrays[0].dtype
        return (
            tuple(a.astype(dtype) for a in results) if isinstance(results, tuple) else results.astype(dtype)
        )

    return function


WRONG_AXIS = "the sum runs over the wrong axis"
ALL_AXES = f"{WRONG_AXIS}: over the whole array, where each row has its own"
SWAPPED = "the arguments are swapped: it takes dy first and y second"
OVERFLOWS = "the maximum is not taken off before the exponential, which overflows"
NOT_1 = "the right result times a number that is not 1"


def total(a: Array, axis: int) -> Any:
    return a.sum(axis, keepdims=True)


def average(a: Array, axis: int) -> Any:
    return a.mean(axis, keepdims=True)


def other(y: Array, axis: int) -> int:
    """An axis that is not the one asked for."""
    return 0 if axis % y.ndim else y.ndim - 1


def mean(s: Array, dy: Array, axis: int) -> Any:
    return total(s * dy, axis) / total(s, axis)


def right(y: Array, dy: Array, axis: int) -> Any:
    """The formula itself: what a mutant must differ from."""
    return y * (dy - mean(y, dy, axis))


def times(factor: Any, formula: Function) -> Function:
    def changed(*arrays: Array, axis: int) -> Any:
        results = formula(*arrays, axis=axis)
        return tuple(factor * a for a in results) if isinstance(results, tuple) else factor * results

    return changed


def slips(formula: Function) -> Table:
    """What can happen to any product."""
    return table(
        {
            "zeros": (lambda y, dy, axis: 0 * y, "all zeros"),
            "sign": (times(-1, formula), "the sign is turned"),
            "times 1.01": (times(WIDE(1.01), formula), NOT_1),
        }
    )


# --- of the forwards -----------------------------------------------------------------------------------


def exp(x: Array, axis: int) -> Any:
    """exp(x − max), in the precision of x."""
    return np.exp(x - x.max(axis, keepdims=True))


def divided(e: Array, axis: int) -> Array:
    return np.asarray(e / total(e, axis))


def softmax(x: Array, axis: int) -> Array:
    return divided(exp(x, axis), axis)


def first_twice(x: Array, axis: int) -> Array:
    """A loop that overlaps its own tail."""
    e = exp(x, axis)
    return np.asarray(e / (total(e, axis) + np.take(e, [0], axis)))


UNIFORM = table(
    {
        "uniform": (lambda x, axis: divided(np.ones_like(x), axis), "1/n everywhere"),
        "one-hot": (lambda x, axis: divided(1.0 * (x == x.max(axis, keepdims=True)), axis), "one-hot"),
    }
)
SOFTMAXES = UNIFORM | table(
    {
        "other axis": (lambda x, axis: softmax(x, other(x, axis)), WRONG_AXIS),
        "sum of all": (lambda x, axis: np.exp(x - x.max()) / np.exp(x - x.max()).sum(), ALL_AXES),
        "not divided": (exp, "exp(x − max), not divided by its sum"),
        "base 2": (lambda x, axis: divided(np.exp2(x - x.max(axis, keepdims=True)), axis), "2^x, not e^x"),
        "sigmoid": (lambda x, axis: 1 / (1 + np.exp(-x)), "the sigmoid of each element"),
        "log_softmax": (lambda x, axis: np.log(softmax(x, axis)), "log_softmax"),
        "reversed": (lambda x, axis: np.flip(softmax(x, axis), axis), "the right result in reversed order"),
        "first counted twice": (first_twice, "the first element is counted twice in the sum"),
        "times 1.01": (times(WIDE(1.01), softmax), NOT_1),
        "no maximum": (lambda x, axis: divided(np.exp(x.astype(np.float64)), axis), OVERFLOWS),
    }
)
SPARSE = UNIFORM | table({"softmax": (softmax, "softmax: no weight is 0")})


def logs(x: Array, axis: int) -> Any:
    return x - x.max(axis, keepdims=True) - np.log(total(exp(x, axis), axis))


def log_without_maximum(x: Array, axis: int) -> Any:
    return x - np.log(total(np.exp(x.astype(np.float64)), axis))


def sum_not_logged(x: Array, axis: int) -> Any:
    return x - x.max(axis, keepdims=True) - total(exp(x, axis), axis)


LOG_SOFTMAXES = table(
    {
        "softmax": (lambda x, axis: np.exp(logs(x, axis)), "softmax: the logarithm is missing"),
        "other axis": (lambda x, axis: logs(x, other(x, axis)), WRONG_AXIS),
        "no sum": (lambda x, axis: x - x.max(axis, keepdims=True), "x − max: log Σ exp is not taken off"),
        "sum not logged": (sum_not_logged, "Σ exp is taken off, and should be log Σ exp"),
        "of −x": (lambda x, axis: logs(-x, axis), "log_softmax of −x"),
        "base 2": (lambda x, axis: logs(x, axis) / np.log(WIDE(2)), "logarithms to the base 2"),
        "sign": (times(-1, logs), "the sign is turned"),
        "times 1.01": (times(WIDE(1.01), logs), NOT_1),
        "no maximum": (log_without_maximum, OVERFLOWS),
    }
)


# --- of softmax's vjp ----------------------------------------------------------------------------------


def without_last(y: Array, dy: Array, axis: int) -> Any:
    keep = np.arange(y.shape[axis]) < max(y.shape[axis] - 1, 1)
    keep = keep if axis % y.ndim == y.ndim - 1 else keep[:, None]
    return y * (dy - mean(y * keep, dy, axis))


def first_row(y: Array, dy: Array, axis: int) -> Any:
    return y * (dy - np.take(mean(y, dy, axis), [0], other(y, axis)))


def mean_of_right(y: Array, dy: Array, axis: int) -> Any:
    return 0 * y + average(right(y, dy, axis), axis)


FORMULAS = table(
    {
        "y(1−y)∘dy": (
            lambda y, dy, axis: y * (1 - y) * dy,
            "elementwise y(1−y)∘dy: that is the diagonal of the Jacobian, and each y depends on all logits",
        ),
        "y(1−y)": (
            lambda y, dy, axis: y * (1 - y),
            "elementwise y(1−y): that is the diagonal of the Jacobian, and dy is not used at all",
        ),
        "y − dy": (
            lambda y, dy, axis: y - dy,
            "y − dy, the p − t of cross-entropy: that is the gradient of a loss, which takes the labels",
        ),
        "dy − y": (lambda y, dy, axis: dy - y, "dy − y, cross-entropy's p − t with the sign turned"),
        "no mean": (lambda y, dy, axis: y * dy, "y∘dy: the mean Σ y∘dy is missing, which is taken off dy"),
        "arguments swapped": (lambda y, dy, axis: dy * (y - total(y * dy, axis)), SWAPPED),
        "arguments swapped, divided": (lambda y, dy, axis: right(dy, y, axis), SWAPPED),
        "other axis": (lambda y, dy, axis: y * (dy - total(y * dy, other(y, axis))), WRONG_AXIS),
        "other axis, divided": (lambda y, dy, axis: right(y, dy, other(y, axis)), WRONG_AXIS),
        "sum of all": (lambda y, dy, axis: y * (dy - (y * dy).sum()), ALL_AXES),
        "identity": (lambda y, dy, axis: dy, "dy, unchanged: right only where the loss has softmax in it"),
        "uniform": (mean_of_right, "the same number in all of a row: the mean of the right result"),
        "no diagonal": (lambda y, dy, axis: -y * mean(y, dy, axis), "−y Σ y∘dy: the term y∘dy is missing"),
        "no weight": (lambda y, dy, axis: dy - mean(y, dy, axis), "dy − Σ y∘dy: the factor y is missing"),
        "plus": (lambda y, dy, axis: y * (dy + mean(y, dy, axis)), "the mean Σ y∘dy is added, not taken off"),
        "mean not weighted": (
            lambda y, dy, axis: y * (dy - average(dy, axis)),
            "dy's mean lacks its weights y",
        ),
        "mean over n": (lambda y, dy, axis: y * (dy - average(y * dy, axis)), "Σ y∘dy is divided by n"),
        "sum of dy": (lambda y, dy, axis: y * (dy - total(dy, axis)), "Σ dy is taken off instead of Σ y∘dy"),
        "log_softmax": (lambda y, dy, axis: dy - y * total(dy, axis), "the gradient of log_softmax"),
        "y squared": (lambda y, dy, axis: right(y * y, dy, axis), "y² is used where y should be"),
        "softmax of y": (
            lambda y, dy, axis: right(softmax(y, axis), dy, axis),
            "softmax is taken of y again: it is given y, not x",
        ),
        "reversed": (lambda y, dy, axis: np.flip(right(y, dy, axis), axis), "right, in reversed order"),
        "mean over rows": (
            lambda y, dy, axis: right(y, dy, axis) / y.shape[other(y, axis)],
            "the right result divided by the number of rows",
        ),
        "last forgotten": (without_last, "the last element is left out of the sum"),
        "first row's mean": (first_row, "the sum of the first row is used for all rows"),
    }
) | slips(right)

# --- of softmax's double backward ----------------------------------------------------------------------


def through_y(y: Array, dy: Array, v: Array, axis: int) -> Any:
    return v * (dy - mean(y, dy, axis)) - dy * mean(y, v, axis)


def double_backward(y: Array, dy: Array, v: Array, axis: int) -> Any:
    return right(y, through_y(y, dy, v, axis), axis), right(y, v, axis)


def with_grad_x(grad_x: Function) -> Function:
    """A double backward of which grad_dy is right."""
    return lambda y, dy, v, axis: (grad_x(y, dy, v, axis), right(y, v, axis))


DOUBLE_BACKWARDS = table(
    {
        "y held constant": (
            with_grad_x(lambda y, dy, v, axis: 0 * y),
            "grad_x is 0: y is taken for a constant, and depends on x",
        ),
        "no Jacobian": (with_grad_x(through_y), "grad_x is grad_y, and should be J·grad_y"),
        "results swapped": (
            lambda y, dy, v, axis: double_backward(y, dy, v, axis)[::-1],
            "the results are swapped",
        ),
        "first term": (
            with_grad_x(lambda y, dy, v, axis: right(y, v * (dy - mean(y, dy, axis)), axis)),
            "the term −dy Σ y∘v of grad_x is missing: the mean depends on y as well",
        ),
        "second term": (
            with_grad_x(lambda y, dy, v, axis: right(y, -dy * mean(y, v, axis), axis)),
            "the term v∘(dy − Σ y∘dy) of grad_x is missing",
        ),
        "vjp of dy": (
            lambda y, dy, v, axis: (double_backward(y, dy, v, axis)[0], right(y, dy, axis)),
            "grad_dy is J·dy, and should be J·v: are dy and v swapped?",
        ),
        "zeros": (times(0, double_backward), "all zeros"),
        "sign": (
            with_grad_x(lambda y, dy, v, axis: right(y, -through_y(y, dy, v, axis), axis)),
            "the sign of grad_x is turned",
        ),
        "times 1.01": (times(WIDE(1.01), double_backward), NOT_1),
    }
)

# --- of log_softmax's products -------------------------------------------------------------------------

NOT_SYMMETRIC = "the Jacobian of log_softmax is not symmetric"


def log_vjp(y: Array, dy: Array, axis: int) -> Any:
    return dy - np.exp(y) * total(dy, axis)


def log_jvp(y: Array, dx: Array, axis: int) -> Any:
    return dx - total(np.exp(y) * dx, axis)


LOG_VJPS = table(
    {
        "softmax": (lambda y, dy, axis: right(np.exp(y), dy, axis), "the gradient of softmax"),
        "y for p": (lambda y, dy, axis: dy - y * total(dy, axis), "y is used for exp(y): it is a logarithm"),
        "jvp": (log_jvp, f"that is the jvp: {NOT_SYMMETRIC}"),
        "identity": (lambda y, dy, axis: dy, "dy, unchanged: exp(y)·Σdy is to be taken off"),
        "arguments swapped": (lambda y, dy, axis: log_vjp(dy, y, axis), SWAPPED),
        "other axis": (lambda y, dy, axis: dy - np.exp(y) * total(dy, other(y, axis)), WRONG_AXIS),
        "sum of all": (lambda y, dy, axis: dy - np.exp(y) * dy.sum(), ALL_AXES),
        "no sum": (lambda y, dy, axis: dy - np.exp(y) * dy, "dy − exp(y)∘dy: the sum Σdy is missing"),
        "mean": (lambda y, dy, axis: dy - np.exp(y) * average(dy, axis), "the sum Σdy is divided by n"),
        "uniform": (lambda y, dy, axis: dy - average(dy, axis), "exp(y) is missing before the sum"),
        "base 2": (lambda y, dy, axis: dy - np.exp2(y) * total(dy, axis), "2^y is used for exp(y)"),
        "p − t": (lambda y, dy, axis: np.exp(y) - dy, "exp(y) − dy, the p − t of cross-entropy"),
    }
) | slips(log_vjp)
LOG_JVPS = table(
    {
        "vjp": (log_vjp, f"that is the vjp: {NOT_SYMMETRIC}"),
        "softmax": (lambda y, dx, axis: right(np.exp(y), dx, axis), "the jvp of softmax, not log_softmax"),
        "identity": (lambda y, dx, axis: dx, "dx, unchanged: Σ exp(y)∘dx is to be taken off"),
        "other axis": (lambda y, dx, axis: dx - total(np.exp(y) * dx, other(y, axis)), WRONG_AXIS),
        "uniform": (lambda y, dx, axis: dx - average(dx, axis), "the mean of dx lacks its weights"),
    }
) | slips(log_jvp)

# --- of sparsemax's and entmax's products --------------------------------------------------------------


def sparse_products(alpha: float) -> Table:
    def weights(y: Array, alpha: float = alpha) -> Any:
        return (y > 0).astype(WIDE) if alpha == 2 else np.sqrt(y)

    def product(y: Array, dy: Array, axis: int) -> Any:
        return right(weights(y), dy, axis)

    def other_map(y: Array, dy: Array, axis: int) -> Any:
        return right(weights(y, 3.5 - alpha), dy, axis)

    def not_divided(y: Array, dy: Array, axis: int) -> Any:
        return weights(y) * (dy - total(weights(y) * dy, axis))

    rows: dict[str, tuple[Function, str]] = {
        "softmax": (right, "the gradient of softmax: the weights are not y here"),
        "other map": (other_map, f"the gradient of {'entmax' if alpha == 2 else 'sparsemax'}"),
        "no support": (lambda y, dy, axis: dy - mean(weights(y), dy, axis), "the weights are missing"),
        "no mean": (lambda y, dy, axis: weights(y) * dy, "the mean of dy over the support is missing"),
        "mean over n": (
            lambda y, dy, axis: weights(y) * (dy - average(dy, axis)),
            "the mean of dy is taken over all of the row, not the support",
        ),
        "sum": (not_divided, "the sum of the weighted dy is not divided by the sum of the weights"),
        "arguments swapped": (lambda y, dy, axis: product(dy, y, axis), SWAPPED),
        "other axis": (lambda y, dy, axis: product(y, dy, other(y, axis)), WRONG_AXIS),
        "identity": (lambda y, dy, axis: dy, "dy, unchanged"),
    }
    return table(rows) | slips(product)


# --- as functions of arrays, for tests -----------------------------------------------------------------


def narrow(y: Array, dy: Array, *, axis: int = -1) -> Array:
    """The closed form in the precision of the arrays, as it is usually written."""
    return np.asarray(y * (dy - (y * dy).sum(axis, keepdims=True, dtype=y.dtype)))


def one_part(y: Array, dy: Array, *, axis: int = -1) -> Any:
    """Right sums, but the mean kept as one number of the kernel's precision: a winner drowns the rest."""
    kernel: Any = np.float64 if y.dtype == np.float64 else np.float32
    m = mean(y.astype(WIDE), dy.astype(WIDE), axis).astype(kernel)
    return (y.astype(kernel) * (dy.astype(kernel) - m)).astype(y.dtype)


def narrow_softmax(x: Array, *, axis: int = -1) -> Array:
    """As it is usually written: x − max is rounded, and the exponential makes 60 ulp of it."""
    return softmax(x, axis)


reference, reference_softmax = rounded_once(right), rounded_once(softmax)
MUTANTS = {name: rounded_once(mutant.formula) for name, mutant in FORMULAS.items()}
# wrong by softgrad's contract, and the second by no other
MUTANTS |= {"narrow": narrow, "mean in one part": one_part}
WRONG_SOFTMAXES = {name: rounded_once(mutant.formula) for name, mutant in SOFTMAXES.items()}
WRONG_SOFTMAXES |= {"narrow": narrow_softmax}
