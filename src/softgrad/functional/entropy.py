"""entropy."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from ..checks import Array, Axis
from ..specs import ENTROPY
from .dispatch import library


def entropy(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    keepdims: bool = False,
    out: Array | None = None,
) -> Array:
    r"""The entropy, in nats, of the softmax of ``scale * x`` along an axis.

    .. math::
        H = -\sum_k p_k \log p_k
          = \log \sum_k e^{t_k} - \frac{\sum_k t_k e^{t_k}}{\sum_k e^{t_k}}, \quad t = s x - \max s x

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
    *Formula*: no logarithm of a p is taken, so that logits of −inf, and those whose p is 0 by underflow,
    add 0 and no NaN.  Both terms are positive: nothing cancels, also where one p is nearly 1.

    *Error*: at most 3 ulp for float32 and float64 where the entropy is a normal number, 0.51 ulp for float16
    and bfloat16, for logits of any size.

    A row that has nothing in it (all −inf, or all masked, or an axis of length 0) gives 0.  A row with NaN,
    or with +inf, gives NaN.

    *Memory*: the result.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> softgrad.entropy(np.array([[0.0, 0.0, -np.inf], [0.0, -1000.0, -2000.0]])).round(4)
    array([0.6931, 0.    ])
    """
    return library(x).reductions.forward(
        ENTROPY, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out
    )


def entropy_vjp(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""∂L/∂x of ``entropy(x, scale=scale)``, given x and ∂L/∂entropy.

    .. math:: dx_i = -s\, dy\, p_i (\log p_i + H) = s\, dy\, p_i \Bigl(\sum_k p_k t_k - t_i\Bigr)

    Parameters
    ----------
    x : array_like
        What `entropy` was given.
    dy : array_like
        The gradient of the loss with respect to the result: of its shape, with or without ``keepdims``.
        Where its dtype is another than that of `x`, both are converted to the one that NumPy promotes
        them to.
    axis, where, scale
        As they were given to `entropy`.
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
    *Residual*: x, from which p and the mean of t are found with more digits than they would be saved with.

    *Error*: with t = s·x and m its mean under p,

    .. math:: |dx_i - dx^*_i| \le C\, eps\, \bigl(|dx^*_i| + |s\, dy|\, p_i \sum_k p_k |t_k - m|\bigr)

    with C = 8 for float32 and 16 for float64, and the smallest subnormal; float16 and bfloat16 are rounded
    once, 0.51 ulp.  A p below the smallest subnormal is 0, and so is dx.

    *Memory*: the result.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> x = np.array([[0.0, 1.0, -np.inf], [0.0, -1000.0, -2000.0]])
    >>> softgrad.entropy_vjp(x, np.array([1.0, 1.0])).round(4)
    array([[ 0.1966, -0.1966,  0.    ],
           [ 0.    ,  0.    ,  0.    ]])
    """
    return library(x).reductions.vjp(ENTROPY, x, dy, axis=axis, where=where, scale=scale, out=out)


def entropy_with_vjp(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    keepdims: bool = False,
    out: Array | None = None,
) -> tuple[Array, Callable[..., Array]]:
    """`entropy`, and the function that takes the gradient with respect to it to that with respect to x.

    Parameters
    ----------
    x, axis, where, scale, keepdims, out
        As for `entropy`.

    Returns
    -------
    result : numpy.ndarray
    vjp : callable
        ``vjp(dy, *, out=None)`` is ``entropy_vjp(x, dy, ...)`` with the same options.  It keeps x, not a
        copy: x must not be changed before its last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `entropy`; from ``vjp`` as for `entropy_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> result, vjp = softgrad.entropy_with_vjp(np.array([0.0, 1.0, -np.inf]))
    >>> vjp(1.0).round(4)
    array([ 0.1966, -0.1966,  0.    ])
    """
    return library(x).reductions.with_vjp(
        ENTROPY, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out
    )
