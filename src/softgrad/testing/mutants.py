"""Wrong maps and wrong gradients: those that people have published, and slips of a kernel.

A formula takes rows of longdoubles and is rounded once, so that nothing but the formula is wrong.  The most
usual mistakes come first, since the first that fits is named.
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
    """A known mistake: its formula, of longdoubles along the last axis, and a message for its author."""

    formula: Function
    message: str


Table = dict[str, Mutant]


def rounded_once(formula: Function) -> Function:
    """The formula as a function of arrays of any dtype, along any axis."""

    def function(*arrays: Array, axis: int = -1) -> Any:
        results = formula(*(np.moveaxis(a, axis, -1).astype(WIDE) for a in arrays))
        several = results if isinstance(results, tuple) else (results,)
        rounded = tuple(np.moveaxis(a, -1, axis).astype(arrays[0].dtype) for a in several)
        return rounded if isinstance(results, tuple) else rounded[0]

    return function


NO_KEEPDIMS = (
    "keepdims=True is missing in the sum: a sum of shape (12,) meets the columns, and (12, 1) was meant"
)
WRONG_AXIS = "the sum runs over the wrong axis"
ALL_AXES = f"{WRONG_AXIS}: over the whole array, where each row has its own"
SWAPPED = "the arguments are swapped: it takes dy first and y second"
OVERFLOWS = "the maximum is not taken off before the exponential, which overflows"
P_MINUS_T = "y − dy, the p − t of cross-entropy: that is the gradient of a loss, which takes the labels"
NOT_1 = "the right result times a number that is not 1"


def total(a: Array, axis: int = -1) -> Any:
    return a.sum(axis, keepdims=True)


def average(a: Array) -> Any:
    return a.mean(-1, keepdims=True)


def square(a: Array) -> bool:
    """As many rows as elements: only there a lost axis raises nothing."""
    return a.ndim == 2 and a.shape[0] == a.shape[1]


def lost_axis(y: Array, dy: Array) -> Any:
    return y * (dy - (y * dy).sum(-1)) if square(y) else np.nan * y


def mean(s: Array, dy: Array, axis: int = -1) -> Any:
    return total(s * dy, axis) / total(s, axis)


def right(y: Array, dy: Array, axis: int = -1) -> Any:
    """The formula itself: what a mutant must differ from."""
    return y * (dy - mean(y, dy, axis))


def times(factor: Any, formula: Function) -> Function:
    def changed(*arrays: Array) -> Any:
        results = formula(*arrays)
        return tuple(factor * a for a in results) if isinstance(results, tuple) else factor * results

    return changed


def slips(formula: Function) -> Table:
    """What can happen to any product."""
    return {
        "zeros": Mutant(times(0, formula), "all zeros"),
        "sign": Mutant(times(-1, formula), "the sign is turned"),
        "times 1.01": Mutant(times(WIDE(1.01), formula), NOT_1),
    }


# --- of the forwards -----------------------------------------------------------------------------------


def without_maximum(x: Array, axis: int = -1) -> Any:
    return x - x.max(axis, keepdims=True)


def exp(x: Array, axis: int = -1) -> Any:
    """exp(x − max), in the precision of x."""
    return np.exp(without_maximum(x, axis))


def divided(e: Array, axis: int = -1) -> Array:
    return np.asarray(e / total(e, axis))


def softmax(x: Array, axis: int = -1) -> Array:
    return divided(exp(x, axis), axis)


def logs(x: Array, axis: int = -1) -> Any:
    return without_maximum(x, axis) - np.log(total(exp(x, axis), axis))


def overflowing(x: Array) -> Any:
    return np.exp(x.astype(np.float64))


UNIFORM = {
    "uniform": Mutant(lambda x: divided(np.ones_like(x)), "1/n everywhere"),
    "one-hot": Mutant(lambda x: divided(1.0 * (without_maximum(x) == 0)), "one-hot"),
}
SOFTMAXES = UNIFORM | {
    "other axis": Mutant(lambda x: softmax(x, 0), WRONG_AXIS),
    "sum of all": Mutant(lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(), ALL_AXES),
    "not divided": Mutant(exp, "exp(x − max), not divided by its sum"),
    "base 2": Mutant(lambda x: divided(np.exp2(without_maximum(x))), "2^x, not e^x"),
    "sigmoid": Mutant(lambda x: 1 / (1 + np.exp(-x)), "the sigmoid of each element"),
    "log_softmax": Mutant(lambda x: np.log(softmax(x)), "log_softmax"),
    "reversed": Mutant(lambda x: softmax(x)[..., ::-1], "the right result in reversed order"),
    # a loop that overlaps its own tail
    "first counted twice": Mutant(
        lambda x: exp(x) / (total(exp(x)) + exp(x)[..., :1]), "the first element is counted twice in the sum"
    ),
    "times 1.01": Mutant(times(WIDE(1.01), softmax), NOT_1),
    "no maximum": Mutant(lambda x: divided(overflowing(x)), OVERFLOWS),
}
SPARSE = UNIFORM | {"softmax": Mutant(softmax, "softmax: no weight is 0")}
LOG_SOFTMAXES = {
    "softmax": Mutant(softmax, "softmax: the logarithm is missing"),
    "other axis": Mutant(lambda x: logs(x, 0), WRONG_AXIS),
    "no sum": Mutant(without_maximum, "x − max: log Σ exp is not taken off"),
    "sum not logged": Mutant(
        lambda x: without_maximum(x) - total(exp(x)), "Σ exp is taken off, and should be log Σ exp"
    ),
    "of −x": Mutant(lambda x: logs(-x), "log_softmax of −x"),
    "base 2": Mutant(lambda x: logs(x) / np.log(WIDE(2)), "logarithms to the base 2"),
    "sign": Mutant(times(-1, logs), "the sign is turned"),
    "times 1.01": Mutant(times(WIDE(1.01), logs), NOT_1),
    "no maximum": Mutant(lambda x: x - np.log(total(overflowing(x))), OVERFLOWS),
}

# --- of softmax's vjp ----------------------------------------------------------------------------------


def without_last(y: Array, dy: Array) -> Any:
    keep = np.arange(y.shape[-1]) < max(y.shape[-1] - 1, 1)
    return y * (dy - mean(y * keep, dy))


FORMULAS = {
    "y(1−y)∘dy": Mutant(
        lambda y, dy: y * (1 - y) * dy,
        "elementwise y(1−y)∘dy: that is the diagonal of the Jacobian, and each y depends on all logits",
    ),
    "y(1−y)": Mutant(
        lambda y, dy: y * (1 - y),
        "elementwise y(1−y): that is the diagonal of the Jacobian, and dy is not used at all",
    ),
    "y − dy": Mutant(
        lambda y, dy: y - dy,
        P_MINUS_T,
    ),
    "dy − y": Mutant(lambda y, dy: dy - y, "dy − y, cross-entropy's p − t with the sign turned"),
    "no mean": Mutant(lambda y, dy: y * dy, "y∘dy: the mean Σ y∘dy is missing, which is taken off dy"),
    "arguments swapped": Mutant(lambda y, dy: dy * (y - total(y * dy)), SWAPPED),
    "arguments swapped, divided": Mutant(lambda y, dy: right(dy, y), SWAPPED),
    "other axis": Mutant(lambda y, dy: y * (dy - total(y * dy, 0)), WRONG_AXIS),
    "other axis, divided": Mutant(lambda y, dy: right(y, dy, 0), WRONG_AXIS),
    "sum of all": Mutant(lambda y, dy: y * (dy - (y * dy).sum()), ALL_AXES),
    "identity": Mutant(lambda y, dy: dy, "dy, unchanged: right only where the loss has softmax in it"),
    "uniform": Mutant(
        lambda y, dy: 0 * y + average(right(y, dy)),
        "the same number in all of a row: the mean of the right result",
    ),
    "no diagonal": Mutant(lambda y, dy: -y * mean(y, dy), "−y Σ y∘dy: the term y∘dy is missing"),
    "no weight": Mutant(lambda y, dy: dy - mean(y, dy), "dy − Σ y∘dy: the factor y is missing"),
    "plus": Mutant(lambda y, dy: y * (dy + mean(y, dy)), "the mean Σ y∘dy is added, not taken off"),
    "mean not weighted": Mutant(lambda y, dy: y * (dy - average(dy)), "dy's mean lacks its weights y"),
    "mean over n": Mutant(lambda y, dy: y * (dy - average(y * dy)), "Σ y∘dy is divided by n"),
    "sum of dy": Mutant(lambda y, dy: y * (dy - total(dy)), "Σ dy is taken off instead of Σ y∘dy"),
    "log_softmax": Mutant(lambda y, dy: dy - y * total(dy), "the gradient of log_softmax"),
    "y squared": Mutant(lambda y, dy: right(y * y, dy), "y² is used where y should be"),
    "softmax of y": Mutant(
        lambda y, dy: right(softmax(y), dy), "softmax is taken of y again: y is softmax's result already"
    ),
    "reversed": Mutant(lambda y, dy: right(y, dy)[..., ::-1], "right, in reversed order"),
    "mean over rows": Mutant(
        lambda y, dy: right(y, dy) / len(y), "the right result divided by the number of rows"
    ),
    "keepdims": Mutant(lost_axis, NO_KEEPDIMS),
    "of logits": Mutant(
        lambda y, dy: np.log(y) * (1 - np.log(y)) * dy,
        "elementwise x(1−x)∘dy of the logits: y(1−y) is the diagonal of the Jacobian, and x is not even y",
    ),
    "last forgotten": Mutant(without_last, "the last element is left out of the sum"),
    "first row's mean": Mutant(
        lambda y, dy: y * (dy - mean(y, dy)[:1]), "the sum of the first row is used for all rows"
    ),
} | slips(right)

# --- of softmax's double backward ----------------------------------------------------------------------


def first_term(y: Array, dy: Array, v: Array) -> Any:
    return v * (dy - mean(y, dy))


def second_term(y: Array, dy: Array, v: Array) -> Any:
    return -dy * mean(y, v)


def through_y(y: Array, dy: Array, v: Array) -> Any:
    return first_term(y, dy, v) + second_term(y, dy, v)


def double_backward(y: Array, dy: Array, v: Array) -> Any:
    return right(y, through_y(y, dy, v)), right(y, v)


def with_grad_y(grad_y: Function) -> Function:
    """A double backward of another grad_y, of which grad_dy is right."""
    return lambda y, dy, v: (right(y, grad_y(y, dy, v)), right(y, v))


DOUBLE_BACKWARDS = {
    "y held constant": Mutant(
        lambda y, dy, v: (0 * y, right(y, v)), "grad_x is 0: y is taken for a constant, and depends on x"
    ),
    "no Jacobian": Mutant(
        lambda y, dy, v: (through_y(y, dy, v), right(y, v)), "grad_x is grad_y, and should be J·grad_y"
    ),
    "results swapped": Mutant(lambda *arrays: double_backward(*arrays)[::-1], "the results are swapped"),
    "first term": Mutant(
        with_grad_y(first_term),
        "the term −dy Σ y∘v of grad_x is missing: the mean depends on y as well",
    ),
    "second term": Mutant(with_grad_y(second_term), "the term v∘(dy − Σ y∘dy) of grad_x is missing"),
    "vjp of dy": Mutant(
        lambda y, dy, v: (double_backward(y, dy, v)[0], right(y, dy)),
        "grad_dy is J·dy, and should be J·v: are dy and v swapped?",
    ),
    **slips(double_backward),
    "sign": Mutant(with_grad_y(times(-1, through_y)), "the sign of grad_x is turned"),
}

# --- of log_softmax's products -------------------------------------------------------------------------

NOT_SYMMETRIC = "the Jacobian of log_softmax is not symmetric"


def log_vjp(y: Array, dy: Array, axis: int = -1) -> Any:
    return dy - np.exp(y) * total(dy, axis)


def log_jvp(y: Array, dx: Array, axis: int = -1) -> Any:
    return dx - total(np.exp(y) * dx, axis)


LOG_VJPS = {
    "softmax": Mutant(lambda y, dy: right(np.exp(y), dy), "the gradient of softmax"),
    "y for p": Mutant(lambda y, dy: dy - y * total(dy), "y is used for exp(y): it is a logarithm"),
    "jvp": Mutant(log_jvp, f"that is the jvp: {NOT_SYMMETRIC}"),
    "identity": Mutant(lambda y, dy: dy, "dy, unchanged: exp(y)·Σdy is to be taken off"),
    "arguments swapped": Mutant(lambda y, dy: log_vjp(dy, y), SWAPPED),
    "other axis": Mutant(lambda y, dy: log_vjp(y, dy, 0), WRONG_AXIS),
    "sum of all": Mutant(lambda y, dy: dy - np.exp(y) * dy.sum(), ALL_AXES),
    "no sum": Mutant(lambda y, dy: dy - np.exp(y) * dy, "dy − exp(y)∘dy: the sum Σdy is missing"),
    "mean": Mutant(lambda y, dy: dy - np.exp(y) * average(dy), "the sum Σdy is divided by n"),
    "uniform": Mutant(lambda y, dy: dy - average(dy), "exp(y) is missing before the sum"),
    "base 2": Mutant(lambda y, dy: dy - np.exp2(y) * total(dy), "2^y is used for exp(y)"),
    "p − t": Mutant(lambda y, dy: np.exp(y) - dy, "exp(y) − dy, the p − t of cross-entropy"),
    "sum taken for 1": Mutant(
        lambda y, dy: dy - np.exp(y), "dy − exp(y): Σdy is taken for 1, as it is with one-hot labels alone"
    ),
    "plus": Mutant(lambda y, dy: np.exp(y) + dy, "exp(y) + dy: Σdy is taken for −1, as of a cross-entropy"),
    "added": Mutant(lambda y, dy: dy + np.exp(y) * total(dy), "exp(y)·Σdy is added, not taken off"),
    "keepdims": Mutant(lambda y, dy: dy - np.exp(y) * dy.sum(-1) if square(y) else np.nan * y, NO_KEEPDIMS),
} | slips(log_vjp)
LOG_JVPS = {
    "vjp": Mutant(log_vjp, f"that is the vjp: {NOT_SYMMETRIC}"),
    "softmax": Mutant(lambda y, dx: right(np.exp(y), dx), "the jvp of softmax, not log_softmax"),
    "identity": Mutant(lambda y, dx: dx, "dx, unchanged: Σ exp(y)∘dx is to be taken off"),
    "other axis": Mutant(lambda y, dx: log_jvp(y, dx, 0), WRONG_AXIS),
    "uniform": Mutant(lambda y, dx: dx - average(dx), "the mean of dx lacks its weights"),
} | slips(log_jvp)

# --- of cross_entropy -------------------------------------------------------------------------------------


def residual(x: Array, t: Array) -> Any:
    return softmax(x) - t


LOSSES = {
    "sign": Mutant(times(-1, residual), "the sign is turned: p − t is due"),
    "logits": Mutant(lambda x, t: x - t, "x − t: softmax is not taken of the logits"),
    "twice": Mutant(lambda x, t: softmax(softmax(x)) - t, "softmax is taken twice"),
    "p alone": Mutant(lambda x, t: softmax(x), "p: the targets are not taken off"),
    "of p": Mutant(
        lambda x, t: -t / softmax(x),
        "−t/p, the gradient for the probabilities: softmax's Jacobian lacks",
    ),
    "elementwise": Mutant(
        lambda x, t: (softmax(x) - t) * softmax(x) * (1 - softmax(x)),
        "(p − t)∘p(1−p): cross-entropy and softmax have p − t together, without a derivative of each element",
    ),
    "batch twice": Mutant(
        lambda x, t: residual(x, t) / len(x) ** 2, "the gradient is divided by the number of rows twice"
    ),
    "over n": Mutant(
        lambda x, t: residual(x, t) / x.shape[-1], "the gradient is divided by the number of classes"
    ),
    "over all": Mutant(
        lambda x, t: residual(x, t) / x.size,
        "the gradient is divided by the number of all elements",
    ),
    "targets over rows": Mutant(lambda x, t: softmax(x) - t / len(x), "the targets alone are divided"),
    "sum of all": Mutant(lambda x, t: np.exp(x - x.max()) / np.exp(x - x.max()).sum() - t, ALL_AXES),
    "other axis": Mutant(lambda x, t: softmax(x, 0) - t, WRONG_AXIS),
}

# --- of sparsemax's and entmax's products --------------------------------------------------------------


def sparse_products(weights: Function, other_weights: Function, other_map: str) -> Table:
    def product(y: Array, dy: Array, axis: int = -1) -> Any:
        return right(weights(y), dy, axis)

    return {
        "softmax": Mutant(right, "the gradient of softmax: the weights are not y here"),
        "other map": Mutant(lambda y, dy: right(other_weights(y), dy), f"the gradient of {other_map}"),
        "no support": Mutant(lambda y, dy: dy - mean(weights(y), dy), "the weights are missing"),
        "no mean": Mutant(lambda y, dy: weights(y) * dy, "the mean of dy over the support is missing"),
        "mean over n": Mutant(
            lambda y, dy: weights(y) * (dy - average(dy)),
            "the mean of dy is taken over all of the row, not the support",
        ),
        "sum": Mutant(
            lambda y, dy: weights(y) * (dy - total(weights(y) * dy)),
            "the sum of the weighted dy is not divided by the sum of the weights",
        ),
        "arguments swapped": Mutant(lambda y, dy: product(dy, y), SWAPPED),
        "other axis": Mutant(lambda y, dy: product(y, dy, 0), WRONG_AXIS),
        "identity": Mutant(lambda y, dy: dy, "dy, unchanged"),
    } | slips(product)


def support(y: Array) -> Array:
    return (y > 0).astype(WIDE)


PRODUCTS = {
    "softmax": FORMULAS,
    "sparsemax": sparse_products(support, np.sqrt, "entmax"),
    "entmax": sparse_products(np.sqrt, support, "sparsemax"),
}

# --- as functions of arrays, for tests -----------------------------------------------------------------


def narrow(y: Array, dy: Array, *, axis: int = -1) -> Array:
    """The closed form in the precision of the arrays, as it is usually written."""
    return np.asarray(y * (dy - (y * dy).sum(axis, keepdims=True, dtype=y.dtype)))


def one_part(y: Array, dy: Array, *, axis: int = -1) -> Any:
    """Right sums, but the mean kept as one number of the kernel's precision: a winner drowns the rest."""
    kernel: Any = np.float64 if y.dtype == np.float64 else np.float32
    m = mean(y.astype(WIDE), dy.astype(WIDE), axis).astype(kernel)
    return (y.astype(kernel) * (dy.astype(kernel) - m)).astype(y.dtype)


# As it is usually written: x − max is rounded, and the exponential makes 60 ulp of it.
narrow_softmax = softmax
reference, reference_softmax = rounded_once(right), rounded_once(softmax)
# wrong by softgrad's contract, and the second by no other
MUTANTS = {name: rounded_once(mutant.formula) for name, mutant in FORMULAS.items()}
MUTANTS |= {"narrow": narrow, "mean in one part": one_part}
WRONG_SOFTMAXES = {name: rounded_once(mutant.formula) for name, mutant in SOFTMAXES.items()}
WRONG_SOFTMAXES |= {"narrow": narrow_softmax}
