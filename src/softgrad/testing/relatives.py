"""Wrong log_softmaxes, sparsemaxes and entmaxes, and wrong gradients of these, as in mutants.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import Array
from .mutants import divided, mean, other, powers, right
from .operations import Wrong
from .oracle import WIDE

# --- of log_softmax ------------------------------------------------------------------------------------


def logs(x: Array, axis: int) -> Any:
    t = x - x.max(axis, keepdims=True)
    return t - np.log(np.exp(t).sum(axis, keepdims=True))


def log_vjp(y: Array, dy: Array, axis: int) -> Any:
    return dy - np.exp(y) * dy.sum(axis, keepdims=True)


def log_jvp(y: Array, dx: Array, axis: int) -> Any:
    return dx - (np.exp(y) * dx).sum(axis, keepdims=True)


TIMES = "the right result times a number that is not 1"
WRONG_AXIS = "the sum runs over the wrong axis"

LOG_SOFTMAXES = {
    "softmax": Wrong(lambda x, axis: np.exp(logs(x, axis)), "softmax: the logarithm is missing"),
    "other axis": Wrong(lambda x, axis: logs(x, other(x, axis)), WRONG_AXIS),
    "no sum": Wrong(lambda x, axis: x - x.max(axis, keepdims=True), "x − max: log Σ exp is not taken off"),
    "sum not logged": Wrong(
        lambda x, axis: x - x.max(axis, keepdims=True) - powers(x, axis).sum(axis, keepdims=True),
        "Σ exp is taken off, and should be log Σ exp",
    ),
    "of −x": Wrong(lambda x, axis: logs(-x, axis), "log_softmax of −x"),
    "base 2": Wrong(lambda x, axis: logs(x, axis) / np.log(WIDE(2)), "logarithms to the base 2"),
    "sign": Wrong(lambda x, axis: -logs(x, axis), "the sign is turned"),
    "times 1.01": Wrong(lambda x, axis: logs(x, axis) * WIDE(1.01), TIMES),
    "no maximum": Wrong(
        lambda x, axis: x - np.log(np.exp(x.astype(np.float64)).sum(axis, keepdims=True)),
        "the maximum is not taken off before the exponential, which overflows",
    ),
}
LOG_VJPS = {
    "softmax": Wrong(
        lambda y, dy, axis: right(np.exp(y), dy, axis), "that is the gradient of softmax, not log_softmax"
    ),
    "y for p": Wrong(
        lambda y, dy, axis: dy - y * dy.sum(axis, keepdims=True), "y is used for exp(y): it is a logarithm"
    ),
    "jvp": Wrong(log_jvp, "that is the jvp: the Jacobian of log_softmax is not symmetric"),
    "identity": Wrong(lambda y, dy, axis: dy, "dy is given back as it came: exp(y)·Σdy is to be taken off"),
    "arguments swapped": Wrong(
        lambda y, dy, axis: log_vjp(dy, y, axis), "the arguments are swapped: it takes dy first and y second"
    ),
    "other axis": Wrong(
        lambda y, dy, axis: dy - np.exp(y) * dy.sum(other(y, axis), keepdims=True), WRONG_AXIS
    ),
    "sum of all": Wrong(
        lambda y, dy, axis: dy - np.exp(y) * dy.sum(), WRONG_AXIS + ": over all of the array"
    ),
    "no sum": Wrong(
        lambda y, dy, axis: dy - np.exp(y) * dy, "dy − exp(y)∘dy: the sum Σdy is missing, elementwise"
    ),
    "mean": Wrong(
        lambda y, dy, axis: dy - np.exp(y) * dy.mean(axis, keepdims=True),
        "a mean of dy where the sum Σdy should be: it is divided by n",
    ),
    "uniform": Wrong(
        lambda y, dy, axis: dy - dy.mean(axis, keepdims=True),
        "exp(y) is missing before the sum: 1/n is there",
    ),
    "base 2": Wrong(
        lambda y, dy, axis: dy - np.exp2(y) * dy.sum(axis, keepdims=True), "2^y is used for exp(y)"
    ),
    "p − t": Wrong(
        lambda y, dy, axis: np.exp(y) - dy, "exp(y) − dy, the p − t of cross-entropy: of another function"
    ),
    "sign": Wrong(lambda y, dy, axis: -log_vjp(y, dy, axis), "the sign is turned"),
    "zeros": Wrong(lambda y, dy, axis: 0 * y, "all zeros"),
    "times 1.01": Wrong(lambda y, dy, axis: log_vjp(y, dy, axis) * WIDE(1.01), TIMES),
}
LOG_JVPS = {
    "vjp": Wrong(log_vjp, "that is the vjp: the Jacobian of log_softmax is not symmetric"),
    "softmax": Wrong(
        lambda y, dx, axis: right(np.exp(y), dx, axis), "that is the jvp of softmax, not log_softmax"
    ),
    "identity": Wrong(lambda y, dx, axis: dx, "dx is given back as it came: Σ exp(y)∘dx is to be taken off"),
    "other axis": Wrong(
        lambda y, dx, axis: dx - (np.exp(y) * dx).sum(other(y, axis), keepdims=True), WRONG_AXIS
    ),
    "uniform": Wrong(
        lambda y, dx, axis: dx - dx.mean(axis, keepdims=True), "the mean of dx is taken without its weights"
    ),
    "sign": Wrong(lambda y, dx, axis: -log_jvp(y, dx, axis), "the sign is turned"),
    "zeros": Wrong(lambda y, dx, axis: 0 * y, "all zeros"),
    "times 1.01": Wrong(lambda y, dx, axis: log_jvp(y, dx, axis) * WIDE(1.01), TIMES),
}


# --- of sparsemax and entmax ---------------------------------------------------------------------------


def sparse_weights(y: Array, beta: int) -> Any:
    """s: 1 or √y on the support."""
    return (y > 0).astype(WIDE) if beta == 1 else np.sqrt(y)


def sparse_products(beta: int) -> dict[str, Wrong]:
    def mean_of(y: Array, dy: Array, axis: int) -> Any:
        return mean(sparse_weights(y, beta), dy, axis)

    def product(y: Array, dy: Array, axis: int) -> Any:
        return sparse_weights(y, beta) * (dy - mean_of(y, dy, axis))

    return {
        "softmax": Wrong(right, "that is the gradient of softmax: the weights are not y here"),
        "other map": Wrong(
            lambda y, dy, axis: right(sparse_weights(y, 3 - beta), dy, axis),
            f"that is the gradient of {'entmax' if beta == 1 else 'sparsemax'}",
        ),
        "no support": Wrong(
            lambda y, dy, axis: dy - mean_of(y, dy, axis),
            "the weights of the support are missing: 0 where y is 0",
        ),
        "no mean": Wrong(
            lambda y, dy, axis: sparse_weights(y, beta) * dy, "the mean of dy over the support is missing"
        ),
        "mean over n": Wrong(
            lambda y, dy, axis: sparse_weights(y, beta) * (dy - dy.mean(axis, keepdims=True)),
            "the mean of dy is taken over all of the row, not the support",
        ),
        "sum": Wrong(
            lambda y, dy, axis: (
                sparse_weights(y, beta) * (dy - (sparse_weights(y, beta) * dy).sum(axis, keepdims=True))
            ),
            "the sum of the weighted dy is not divided by the sum of the weights",
        ),
        "arguments swapped": Wrong(
            lambda y, dy, axis: product(dy, y, axis),
            "the arguments are swapped: it takes dy first and y second",
        ),
        "other axis": Wrong(lambda y, dy, axis: product(y, dy, other(y, axis)), WRONG_AXIS),
        "identity": Wrong(lambda y, dy, axis: dy, "dy is given back as it came"),
        "zeros": Wrong(lambda y, dy, axis: 0 * y, "all zeros"),
        "sign": Wrong(lambda y, dy, axis: -product(y, dy, axis), "the sign is turned"),
        "times 1.01": Wrong(lambda y, dy, axis: product(y, dy, axis) * WIDE(1.01), TIMES),
    }


SPARSE_WEIGHTS = {
    "softmax": Wrong(lambda x, axis: divided(powers(x, axis), axis), "softmax: no weight is 0"),
    "uniform": Wrong(lambda x, axis: divided(np.ones_like(x), axis), "1/n everywhere"),
    "one-hot": Wrong(
        lambda x, axis: divided(1.0 * (x == x.max(axis, keepdims=True)), axis),
        "1 at the largest logit, else 0",
    ),
}
