"""What a loss may be given, beside what `checks` looks at: targets, smoothing, and gradients of losses."""

from __future__ import annotations

import numbers
import operator
from typing import Any, Literal

import numpy as np

from .checks import FLOATS, Array, alike, array, floating

Reduction = Literal["mean", "sum", "none"]


def scored(x: Any, target: Any) -> tuple[Array, Array]:
    """The logits, and the target as integers, or as floats of the dtype of the logits."""
    logits, given = array(x, "x"), array(target, "target")
    if given.dtype not in FLOATS:
        return floating(logits, "x"), given
    if given.shape == logits.shape:
        logits, given = alike(("x", "target"), logits, given)
    return logits, given


def smoothing(value: Any) -> float:
    """`label_smoothing` as a float."""
    if not isinstance(value, (numbers.Real, np.floating, np.integer)) or value is True:
        raise TypeError(f"label_smoothing takes a real number, not {type(value).__name__}")
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(f"label_smoothing={share}: it takes a number from 0 to 1")
    return share


def reduction(word: Any) -> None:
    """Refuse another word than those that `reduction` takes."""
    if not isinstance(word, str) or word not in ("mean", "sum", "none"):
        raise ValueError(f"reduction={word!r}: it takes 'mean', 'sum', 'none'")


def weights_or_classes(
    target: Array, shape: tuple[int, ...], axis: int, ignore_index: Any
) -> tuple[Array | None, Array, Array | None]:
    """What a target is: (weights, –, None), or (None, classes, which rows count; None if all do)."""
    if ignore_index is not None:
        try:
            ignore_index = operator.index(ignore_index)
        except TypeError:
            raise TypeError(
                f"ignore_index takes a whole number or None, not {type(ignore_index).__name__}"
            ) from None
    rows = shape[:axis] + shape[axis + 1 :]
    if target.dtype in FLOATS:
        if target.shape != shape:
            raise ValueError(
                f"target has shape {target.shape} and dtype {target.dtype}: weights take the shape of x, "
                f"{shape}; classes take that without the axis, {rows}, and are integers: give "
                f"target.astype(numpy.int64) if it holds classes"
            )
        if ignore_index is not None:
            raise ValueError(
                "ignore_index is for targets that are classes; this one holds weights, and all of its rows "
                "count: leave out the rows that are not to, of x as well"
            )
        return target, target, None
    if target.shape != rows:
        advice = ": give target.astype(float) if it holds weights" if target.shape == shape else ""
        raise ValueError(
            f"target has shape {target.shape} and dtype {target.dtype}: classes take the shape of x, "
            f"{shape}, without axis {axis}, which is {rows}{advice}"
        )
    n = shape[axis] if shape else 1
    wrong = (target < 0) | (target >= n)
    counted = None
    if ignore_index is not None:
        counted = np.asarray(target != ignore_index)
        wrong &= counted
    if np.any(wrong):
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise ValueError(
            f"target{list(place) if place else ''} is {target[place]}, and x has the classes 0 to {n - 1} "
            f"along axis {axis}: correct it, or give ignore_index={target[place]} if it stands for no class"
        )
    if counted is None or counted.all():
        return None, target.astype(np.int64), None
    return None, np.where(counted, target, 0).astype(np.int64), counted


def of_loss(dloss: Any, shape: tuple[int, ...]) -> Array:
    """The gradient of what is made of a loss of this shape: a number, or one for each."""
    result = array(dloss, "dloss")
    if result.ndim and result.shape != shape:
        raise ValueError(
            f"dloss has shape {result.shape} and the loss has shape {shape}: give one number, or an array of "
            f"that shape"
        )
    return result.astype(np.float64)
