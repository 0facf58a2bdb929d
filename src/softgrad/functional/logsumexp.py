"""logsumexp."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from ..checks import Array, Axis
from ..specs import LOGSUMEXP
from .dispatch import library


def logsumexp(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    keepdims: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The logarithm of the sum of the exponentials of ``scale * x`` along an axis.

    .. math:: \log \sum_k \exp(s x_k)

    Parameters
    ----------
    x : array_like
        Logits, as for `softmax`.
    axis : int, tuple of int or None
        The axis or axes of a row; None is all of them.
    where : array_like of bool, optional
        Broadcasts to the shape of `x`.  What is False is not there, whatever `x` holds, NaN included.
    scale : float
        A finite number.
    keepdims : bool
        Whether the result keeps these axes, with length 1.
    out : numpy.ndarray, optional
        Where to write the result: any writeable array of its shape and dtype, strided or not.

    Returns
    -------
    numpy.ndarray
        One number for each row, of the dtype of `x` (float64 for integers); `out` if that was given.  Where
        no axis is left it is a NumPy scalar, as of ``numpy.sum``.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax`.

    Notes
    -----
    *Error*: at most 2 ulp of max(\|result\|, \|s·max x\|, 1) for float32 and float64, 0.51 of them for
    float16 and bfloat16, for logits of any size.

    A row that has nothing in it (all −inf, or all masked, or an axis of length 0) gives −inf, the logarithm
    of 0.  A row with +inf gives +inf, one with NaN gives NaN.

    *Memory*: the result.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> softgrad.logsumexp(np.array([[0.0, 0.0], [100.0, 100.0]])).round(4)
    array([  0.6931, 100.6931])
    """
    return library(x).reductions.forward(
        LOGSUMEXP, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out
    )


def logsumexp_vjp(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""∂L/∂x of ``logsumexp(x, scale=scale)``, given x and ∂L/∂logsumexp.

    .. math:: dx_i = s\, dy \, \frac{\exp(s x_i)}{\sum_k \exp(s x_k)}

    Parameters
    ----------
    x : array_like
        What `logsumexp` was given.
    dy : array_like
        The gradient of the loss with respect to the result: of its shape, with or without ``keepdims``.
        Where its dtype is another than that of `x`, both are converted to the one that NumPy promotes
        them to.
    axis, where, scale
        As they were given to `logsumexp`.
    out : numpy.ndarray, optional
        Where to write the result, as for `softmax`; it may be `x` itself.

    Returns
    -------
    numpy.ndarray
        dx, of the shape of `x`; `out` if that was given.  Exactly 0 where `where` is False, where `x` is
        −inf, and in rows that have nothing in them.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax`; also ValueError if `dy` has not one element for each row.

    Notes
    -----
    *Residual*: x, which a caller has anyway, so that nothing is saved.  The gradient is dy times softmax
    of x.  From the result, as exp(x − result), it would be off by what rounding took from the result, at
    1000 up to 256 eps; and a saved softmax is another array of the size of x.

    *Error*: at most 4·eps of each element, and the smallest subnormal; float16 and bfloat16 are rounded once,
    0.51 ulp.  A p below the smallest subnormal is 0, and so is dx.

    *Memory*: the result.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> softgrad.logsumexp_vjp(np.array([[0.0, 0.0], [1000.0, 1000.0]]), np.array([1.0, 2.0]))
    array([[0.5, 0.5],
           [1. , 1. ]])
    """
    return library(x).reductions.vjp(LOGSUMEXP, x, dy, axis=axis, where=where, scale=scale, out=out)


def logsumexp_with_vjp(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    keepdims: bool = False,
    out: Array | None = None,
) -> tuple[Array, Callable[..., Array]]:
    """`logsumexp`, and the function that takes the gradient with respect to it to that with respect to x.

    Parameters
    ----------
    x, axis, where, scale, keepdims, out
        As for `logsumexp`.

    Returns
    -------
    result : numpy.ndarray
    vjp : callable
        ``vjp(dy, *, out=None)`` is ``logsumexp_vjp(x, dy, ...)`` with the same options.  It keeps x, not a
        copy: x must not be changed before its last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `logsumexp`; from ``vjp`` as for `logsumexp_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> result, vjp = softgrad.logsumexp_with_vjp(np.array([1.0, 1.0, -np.inf]))
    >>> vjp(1.0)
    array([0.5, 0.5, 0. ])
    """
    return library(x).reductions.with_vjp(
        LOGSUMEXP, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out
    )
