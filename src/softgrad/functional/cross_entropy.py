"""Cross-entropy of softmax, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike, DTypeLike

from ..checks import Array, Out, Reduction, Where
from ..dispatch import library
from .descriptions import documented

WORDS = {
    "axes": "int",
    "rows": "The axis of the n classes (PyTorch has it at 1).",
    "infinite": "",
    "masked": "; the gradient is 0 there, and label smoothing goes to the others.  A target that is masked "
    "makes the loss inf",
    "weighted": "  With weights the mean is Σwᵢcᵢ·Lᵢ/Σwᵢcᵢ, cᵢ being the weight of the target class (1 for "
    "targets that are weights).",
}


@documented("cross_entropy", **WORDS)
def cross_entropy(
    x: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    where: Where = None,
    z_loss: float = 0.0,
    dtype: DTypeLike | None = None,
) -> Any:
    r"""Cross-entropy of ``softmax(x)`` along an axis, beside classes or weights that are to be met.

    .. math:: L = -\sum_i t'_i \log p_i, \quad p = \mathrm{softmax}(x), \quad t' = (1-ε)\,t + ε/n

    for each row; ε is `label_smoothing`, and a class that is given as a number has the weights
    :math:`t_i = 1` where i is that class, 0 elsewhere.

    Returns
    -------
    numpy.floating or numpy.ndarray
        L in the dtype of `x`, or in `dtype`: one number, or with ``reduction="none"`` an array of the shape
        of `x` without the axis.

    Notes
    -----
    *Error*: 2·eps (float64: 4·eps) of the loss of each row, however close to 0 that is, where no weight is
    negative.  It is :math:`\sum t'_i (\max x - x_i) + \log(1 + r) \sum t'_i`, r being the sum of
    exp(x − max x) without the maximum.  Rows are added up in float64, in one order.

    *Memory*: up to 90 bytes a row, and scratch as for `softmax`; nothing of the size of `x`, but for weights
    of classes, or a mask, beside targets that are weights or label smoothing: then a copy of the target.

    A weight of 0 counts for nothing, also where x is −inf (PyTorch has NaN there); any other makes the loss
    inf.  A row with NaN, with +inf, or with nothing but −inf is NaN.  The mean of no rows is NaN, as in
    PyTorch.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 30.0]])
    >>> softgrad.cross_entropy(x, [0, 2], reduction="none")
    array([2.39544766e-01, 1.87152459e-13])
    >>> float(softgrad.cross_entropy(x, [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]).round(4))
    0.6198
    """
    return library(x).cross_entropy(
        x,
        target,
        axis=axis,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
        sample_weight=sample_weight,
        weight=weight,
        where=where,
        z_loss=z_loss,
        dtype=dtype,
    )


@documented("cross_entropy", **WORDS, in_place=", and also `x` itself")
def cross_entropy_with_vjp(
    x: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    where: Where = None,
    z_loss: float = 0.0,
    dtype: DTypeLike | None = None,
    out: Out = None,
) -> tuple[Any, Callable[..., Array]]:
    r"""Cross-entropy, and the function that takes ∂/∂L to ∂/∂x; both in one pass over the logits.

    .. math:: dx_i = \Bigl(p_i \sum_k t'_k - t'_i\Bigr) \, dL

    in each row, divided by the number of rows that count for ``reduction="mean"``.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        As `cross_entropy` returns it.
    vjp : callable
        ``vjp(dloss=1.0, *, out=None)`` is ∂/∂x of what has the gradient `dloss` with respect to the loss: a
        number, or with ``reduction="none"`` one for each row or one for all; another shape is a ValueError.

        It has nothing left to compute: the gradient for 1 was written to `out` along with the loss.
        ``vjp()`` returns that array itself; for another `dloss` it is multiplied, into a new array or into
        the `out` of this call.  That may be the gradient's (``vjp(0.5, out=vjp())``) in the last call.

    Notes
    -----
    *Error*: for targets that are classes, ‖dx − dx*‖₂ ≤ 2·eps·‖dx*‖₂ in each row (float64: 4·eps) and half
    the smallest subnormal for each element, however close to 1 the target's p is.  With weights that are not
    negative, or label smoothing, p and t' may be close to each other and dx small: the error is then at most
    the same multiple of ‖Σt'·(p − c)‖₂ + ‖t' − Σt'·c‖₂, c being the one-hot vector of the likeliest class.
    A `dloss` other than 1 adds a rounding, and brings back nothing of what was too small for the dtype of x
    (to scale a float16 loss, give x in float32).

    *Memory*: as of `cross_entropy`, and the gradient if `out` is not given, which is all that is kept.

    Rows that do not count have the gradient 0, whatever `x`, or a `dloss` for each row, holds there.  Where x
    is −inf it is −t'.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 30.0]])
    >>> loss, vjp = softgrad.cross_entropy_with_vjp(x, [0, 2], reduction="sum", out=x)
    >>> vjp() is x
    True
    >>> x
    array([[-2.13013958e-01,  1.06506979e-01,  1.06506979e-01],
           [ 9.35762297e-14,  9.35762297e-14, -1.87152459e-13]])
    """
    return library(x).cross_entropy_with_vjp(
        x,
        target,
        axis=axis,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
        sample_weight=sample_weight,
        weight=weight,
        where=where,
        z_loss=z_loss,
        dtype=dtype,
        out=out,
    )
