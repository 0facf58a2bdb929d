"""Cross-entropy of softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from ..checks import Array
from ..loss_checks import Reduction
from .dispatch import library


def cross_entropy(
    x: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Any:
    r"""Cross-entropy of ``softmax(x)`` along an axis, beside classes or weights that are to be met.

    .. math:: L = -\sum_i t'_i \log p_i, \quad p = \mathrm{softmax}(x), \quad t' = (1-ε)\,t + ε/n

    for each row; ε is `label_smoothing`, and a class that is given as a number has the weights
    :math:`t_i = 1` where i is that class, 0 elsewhere.

    Parameters
    ----------
    x : array_like
        Logits, of any shape and memory layout.  float16, bfloat16 (``ml_dtypes``), float32 and float64 stay
        what they are; integers become float64.
    target : array_like
        *Classes*: integers of any dtype from 0 to n − 1, of the shape of `x` without the axis.  Or
        *weights*: floats of the shape of `x`.  They need not sum to 1.  Where their dtype is another than
        that of `x`, both are converted to the one that NumPy promotes them to.
    axis : int
        The axis of the n classes (PyTorch has it at 1).
    label_smoothing : float
        ε, from 0 to 1.
    ignore_index : int, optional
        The target of rows that do not count, in range or not: their loss is 0, whatever `x` holds there, and
        the mean is that of the others.  For classes only.
    reduction : {"mean", "sum", "none"}
        The mean over the rows that count, their sum, or a loss for each row.

    Returns
    -------
    numpy.floating or numpy.ndarray
        L in the dtype of `x`: one number, or with ``reduction="none"`` an array of the shape of `x` without
        the axis.

    Raises
    ------
    TypeError
        `x` or `target` is boolean, complex, of objects, a masked array, or another library's that `softmax`
        does not take; `axis` is not one number; `label_smoothing` or `ignore_index` is no number.
    ValueError
        `target` has another shape; a class is out of range (and not `ignore_index`); `label_smoothing` is
        below 0 or above 1; `reduction` is another word; `ignore_index` was given with weights.
    numpy.exceptions.AxisError
        `x` has no such axis.

    Notes
    -----
    *Error*: 2·eps (float64: 4·eps) of the loss of each row, however close to 0 that is, where no weight is
    negative.  It is computed as :math:`\sum t'_i (\max x - x_i) + \log(1 + r) \sum t'_i`, r being what
    exp(x − max x) adds up to without the maximum.  Rows are added up in float64, in one order.

    *Memory*: up to 80 bytes a row, and scratch as for `softmax`; nothing of the size of `x`.

    A weight of 0 counts for nothing, also where x is −inf (PyTorch has NaN there); any other makes the loss
    inf.  A row with NaN, with +inf, or with nothing but −inf is NaN.  The mean of no rows is NaN, as in
    PyTorch.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> x = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 30.0]])
    >>> softgrad.cross_entropy(x, [0, 2], reduction="none")
    array([2.39544766e-01, 1.87152459e-13])
    >>> float(softgrad.cross_entropy(x, [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]).round(4))
    0.6198
    """
    return library(x).losses.cross_entropy(
        x,
        target,
        axis=axis,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def cross_entropy_with_vjp(
    x: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> tuple[Any, Callable[..., Array]]:
    r"""Cross-entropy, and the function that takes ∂/∂L to ∂/∂x; both in one pass over the logits.

    .. math:: dx_i = \Bigl(p_i \sum_k t'_k - t'_i\Bigr) \, dL

    in each row, divided by the number of rows that count for ``reduction="mean"``.

    Parameters
    ----------
    x, target, axis, label_smoothing, ignore_index, reduction
        As for `cross_entropy`.
    out : numpy.ndarray, optional
        Where to write the gradient: any writeable array of the shape of `x` and the dtype of the result,
        strided or not.  It may be `x` itself, and then nothing of the size of `x` is allocated.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        As `cross_entropy` returns it.
    vjp : callable
        ``vjp(dloss=1.0, *, out=None)`` is ∂/∂x of what has the gradient `dloss` with respect to the loss: a
        number, or with ``reduction="none"`` one for each row or one for all.

        Unlike the ``vjp`` of a map, this one has nothing left to compute: the gradient for 1 was written
        along with the loss, while the row was at hand.  ``vjp()`` returns that array itself, which is `out`
        above; for another `dloss` it is multiplied, into a new array or into the `out` of this call.  That
        may be the array of the gradient (``vjp(0.5, out=vjp())``); then that was the last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `cross_entropy`; ValueError also if `out` does not fit, is read-only, or overlaps `x` or
        `target` in part, and from ``vjp`` if `dloss` is neither a number nor of the shape of the loss.

    Notes
    -----
    *Error*: for targets that are classes, ‖dx − dx*‖₂ ≤ 2·eps·‖dx*‖₂ in each row (float64: 4·eps) and half
    the smallest subnormal for each element, however close to 1 the target's p is.  With weights that are not
    negative, or label smoothing, p and t' may be close to each other and dx small: the error is then at most
    the same multiple of ‖Σt'·(p − c)‖₂ + ‖t' − Σt'·c‖₂, c being the one-hot vector of the likeliest class.
    A `dloss` other than 1 multiplies the rounded gradient: it adds a rounding, and brings back nothing of
    what was too small for the dtype of x (to scale a float16 loss, give x in float32).

    *Memory*: the gradient if `out` is not given, up to 80 bytes a row, and scratch as for `softmax`.  Nothing
    but the gradient is kept; neither `x` nor `target` is needed for the ``vjp``.

    Rows that do not count have the gradient 0, whatever `x`, or a `dloss` for each row, holds there.  Where x
    is −inf it is −t'.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> x = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 30.0]])
    >>> loss, vjp = softgrad.cross_entropy_with_vjp(x, [0, 2], reduction="sum", out=x)
    >>> vjp() is x
    True
    >>> x
    array([[-2.13013958e-01,  1.06506979e-01,  1.06506979e-01],
           [ 9.35762297e-14,  9.35762297e-14, -1.87152459e-13]])
    """
    return library(x).losses.cross_entropy_with_vjp(
        x,
        target,
        axis=axis,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
        out=out,
    )
