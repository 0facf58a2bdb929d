"""Cross-entropy: the kernel on every row, and the arithmetic on what it tells of each.

What the arguments mean is said in `softgrad.functional`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from .. import checks, loss_checks
from ..checks import Array
from .run import returned, run

# What the kernel tells of a row, as cpu/cross_entropy.py numbers it; of weights the last two alone.
TOP, OTHERS, DISTANCE, TOTAL = range(4)


def told(
    x: Array, weights: Array | None, gradient: Array | None, axis: int, numbers: tuple[float, ...]
) -> Array:
    """What the kernel tells of the rows of x: four arrays without the axis.  It writes `gradient`, if any."""
    found = np.empty((*x.shape[:axis], 1, *x.shape[axis + 1 :], 4))
    arrays = [a for a in (x, weights, found[..., 0], gradient) if a is not None]
    name = "cross_entropy" if weights is None else "cross_entropy_of_weights"
    run(name, arrays, None, (axis,), shaped=0, more=numbers)
    return np.moveaxis(found.squeeze(axis), -1, 0)


def of_classes(
    x: Array,
    classes: Array,
    counted: Array | None,
    gradient: Array | None,
    axis: int,
    numbers: tuple[float, ...],
) -> Array:
    """The loss of each row, and its gradient divided by the last of the numbers.

    The kernel knows of the weights t' what every class has alike; the class that is the target has `share`
    more.  With d = x_target − top and S = 1 + R, the target's p is exp(d)/S, and 1 − p is (R − expm1(d))/S.
    """
    share, even, smoothing, divisor = numbers
    index = np.expand_dims(classes, axis)
    d = np.take_along_axis(x, index, axis).squeeze(axis).astype(np.float64)
    found = told(x, None, gradient, axis, numbers)
    d, others = d - found[TOP], found[OTHERS]
    losses: Array = np.log1p(others)
    losses = losses + found[DISTANCE] if smoothing else losses
    losses = losses - share * d if share else losses
    if gradient is not None:
        at_target = (even * (x.shape[axis] - 1) - (others - np.expm1(d)) / (1 + others)) / divisor
        np.put_along_axis(gradient, index, np.expand_dims(at_target.astype(x.dtype), axis), axis)
    if counted is not None:
        losses = np.where(counted, losses, 0)
        if gradient is not None:
            np.moveaxis(gradient, axis, -1)[~counted] = 0
    return losses


def of_weights(
    x: Array, weights: Array, gradient: Array | None, axis: int, numbers: tuple[float, ...]
) -> Array:
    """The same for targets that are weights; of these the kernel knows all."""
    share, _, smoothing, _ = numbers
    found = told(x, weights, gradient, axis, numbers)
    losses: Array = found[DISTANCE] + (share * found[TOTAL] + smoothing) * np.log1p(found[OTHERS])
    return losses


def evaluate(
    x: Any,
    target: Any,
    *,
    axis: Any,
    label_smoothing: Any,
    ignore_index: Any,
    reduction: Any,
    with_gradient: bool = False,
    out: Array | None = None,
) -> tuple[Any, Array | None, Array | None, int]:
    """The loss, its gradient if that is asked for, which rows count (None: all), and the axis."""
    x, target = loss_checks.scored(x, target)
    axis = checks.one_axis(axis, x.ndim, "the classes")
    smoothing = loss_checks.smoothing(label_smoothing)
    loss_checks.reduction(reduction)
    weights, classes, counted = loss_checks.weights_or_classes(target, x.shape, axis, ignore_index)
    result = None
    if with_gradient:
        out = np.empty_like(x) if out is None else out
        result = checks.target(out, x.shape, x.dtype, ("x", "target"), x, target)
    if x.ndim == 0:
        x, weights, result = (None if a is None else a.reshape(1) for a in (x, weights, result))
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    rows = math.prod(shape) if counted is None else int(np.count_nonzero(counted))
    divisor = float(max(rows, 1)) if reduction == "mean" else 1.0
    numbers = 1.0 - smoothing, smoothing / max(x.shape[axis], 1), smoothing, divisor
    with np.errstate(all="ignore"):
        if x.size == 0:
            losses = np.zeros(shape)
        elif weights is not None:
            losses = of_weights(x, weights, result, axis, numbers)
        else:
            losses = of_classes(x, classes, counted, result, axis, numbers)
        if reduction != "none":
            losses = np.sum(losses)
            losses = losses / rows if reduction == "mean" else losses
        loss = np.asarray(losses).astype(x.dtype, order="C")[()]
    return loss, out, counted, axis


def cross_entropy(x: Any, target: Any, **options: Any) -> Any:
    return evaluate(x, target, **options)[0]


def cross_entropy_with_vjp(
    x: Any, target: Any, *, out: Array | None, **options: Any
) -> tuple[Any, Callable[..., Array]]:
    loss, made, counted, axis = evaluate(x, target, with_gradient=True, out=out, **options)
    gradient, kept = cast(Array, made), out

    def pullback(dloss: Any = 1.0, *, out: Array | None = None) -> Array:
        factor = loss_checks.of_loss(dloss, np.shape(loss))
        if out is None and factor.ndim == 0 and factor == 1:
            return returned(gradient, kept)
        if out is None:
            result = np.empty_like(gradient)
        else:
            result = checks.target(out, gradient.shape, gradient.dtype, ("dx", "dloss"), gradient, factor)
        if factor.ndim:
            factor = factor if counted is None else np.where(counted, factor, 0)
            factor = np.expand_dims(factor, axis)
        with np.errstate(all="ignore"):
            np.multiply(gradient, factor, out=result, dtype=np.float64, casting="unsafe")
        return returned(result, out)

    return loss, pullback
