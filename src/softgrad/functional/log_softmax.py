"""log_softmax."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from ..checks import Array, Axis, Empty
from ..cpu import gate
from ..specs import LOG_SOFTMAX
from .dispatch import library


def log_softmax(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    r"""The logarithm of the softmax of ``scale * x`` along an axis.

    .. math:: y_i = s x_i - \log \sum_k \exp(s x_k)

    Parameters
    ----------
    x : array_like
        Logits, as for `softmax`.
    axis : int, tuple of int or None
        The axis or axes along which exp(y) sums to 1; None is all of them.
    where : array_like of bool, optional
        Broadcasts to the shape of `x`.  What is False is not there: its result is −inf (the logarithm of 0)
        whatever `x` holds, NaN included, and nothing else depends on it.
    scale : float
        A finite number.
    empty : {"zero", "nan", "raise"}
        What softmax gives a row that has nothing in it (all −inf, or all masked); the result is the
        logarithm of that: for "zero", −inf.
    out : numpy.ndarray, optional
        Where to write the result: any writeable array of the shape and dtype of the result, strided or
        not.  It may be `x` itself.

    Returns
    -------
    numpy.ndarray
        y, of the shape of `x`; `out` if that was given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax`.

    Notes
    -----
    *Error*: at most 2 ulp of max(\|y\|, 1) for float32 and float64, 0.51 of them for float16 and bfloat16,
    for logits of any size.  Where one element has nearly all of the weight, its y, which is nearly 0, is
    not 0 but what the others come to: as exact as a number can be, to 3 ulp.

    *Memory*: the result; scratch memory is at most 1 MB a thread, or three rows if those are longer, whatever
    the layout.

    A row with NaN, or with +inf, is all NaN (but for what is masked).  An axis of length 0 gives an empty
    result.  A 0-d array counts as one number (axis −1 or None), whose result is 0, and gives a
    NumPy scalar.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> softgrad.log_softmax(np.array([[0.0, 0.0], [0.0, -100.0]]))
    array([[-6.93147181e-01, -6.93147181e-01],
           [-3.72007598e-44, -1.00000000e+02]])
    >>> softgrad.log_softmax([1.0, 2.0, np.nan], where=[True, True, False]).round(3)
    array([-1.313, -0.313,   -inf])
    """
    if where is None and empty == "zero":
        y = gate.forward(gate.LOG_SOFTMAX, x, axis, scale, out)
        if y is not None:
            return y
    return library(x).maps.forward(LOG_SOFTMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)


def log_softmax_vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""∂L/∂x of ``y = log_softmax(scale * x)``, given y and ∂L/∂y.

    .. math:: dx_i = s\, \Bigl(dy_i - \exp(y_i) \sum_k dy_k\Bigr)

    Parameters
    ----------
    y : array_like
        What log_softmax put out.
    dy : array_like
        The gradient of the loss with respect to y, of the same shape.  Where its dtype is another than
        that of `y`, both are converted to the one that NumPy promotes them to.
    axis, where, scale
        As they were given to `log_softmax`.
    out : numpy.ndarray, optional
        Where to write the result, as for `softmax`; it may be `y` or `dy` itself.

    Returns
    -------
    numpy.ndarray
        dx, of the shape of `y`; `out` if that was given.  Exactly 0 where `where` is False, whatever `dy`
        holds there, and where y is −inf.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax_vjp`.

    Notes
    -----
    *Where y is −inf*, a logit is −inf, and stays so however the others move: it has no part, its dx is 0 and
    a number in its dy is not added to the sum.  (The formula's limit is dx = dy; then dx would not sum to 0,
    and a row of −inf had a gradient.)

    *Error*: with p = exp(y), against the exact dx* of the formula for the given y and dy,

    .. math:: |dx_i - dx^*_i| \le 4\, eps\, \Bigl(|dx^*_i| + |dy_i| + p_i \sum_k |dy_k|\Bigr)

    and half the smallest subnormal; `scale` multiplies both sides.  float16 and bfloat16 are computed in
    float32 and rounded once: 0.51 ulp, and the bound of float32.  A sure row, one p nearly 1, keeps its
    digits where the sum of dy is exact, since 1 − p is found as 1 − exp(y), to all of its digits.  A p below
    exp(−130), of float64 exp(−1050), counts as 0.

    *Memory*: as for `log_softmax`.  Of the forward pass only `y` has to be kept.

    NaN and inf in `dy` make their row NaN; ``where`` keeps them out.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.log_softmax(np.array([1.0, 2.0, 3.0]))
    >>> softgrad.log_softmax_vjp(y, np.array([-1.0, 0.0, 0.0])).round(4)
    array([-0.91  ,  0.2447,  0.6652])
    """
    if where is None:
        result = gate.product(gate.LOG_SOFTMAX_VJP, y, dy, axis, scale, out)
        if result is not None:
            return result
    return library(y).maps.vjp(LOG_SOFTMAX, y, dy, axis=axis, where=where, scale=scale, out=out)


def log_softmax_jvp(
    y: npt.ArrayLike,
    dx: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""The change of ``y = log_softmax(scale * x)`` along a tangent dx of x, given y.

    .. math:: dy_i = s\, \Bigl(dx_i - \frac{\sum_k \exp(y_k)\, dx_k}{\sum_k \exp(y_k)}\Bigr)

    Parameters
    ----------
    y, dx : array_like
        What log_softmax put out, and the tangent.
    axis, where, scale, out
        As for `log_softmax_vjp`.

    Returns
    -------
    numpy.ndarray
        dy, of the shape of `y`; `out` if that was given.  Exactly 0 where `where` is False, and where y is
        −inf.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax_vjp`.

    Notes
    -----
    The Jacobian is not symmetric: this is not `log_softmax_vjp`.

    *Formula*: the division by Σ exp(y), which is 1 but for the rounding of y, makes a constant dx give 0.

    *Error*: with p = exp(y), m* the exact mean that is subtracted, and D = ⟨p,\|dx − m*\|⟩/⟨p,1⟩, how far dx
    is from it on the average,

    .. math:: |dy_i - dy^*_i| \le C\, eps\, (|dy^*_i| + D)

    and what may underflow, with C = 8 for float32 and 16 for float64, as for `softmax_vjp`; a constant dx
    gives exactly 0.

    *Memory*: the result.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.log_softmax(np.array([1.0, 2.0, 3.0]))
    >>> softgrad.log_softmax_jvp(y, np.array([0.0, 0.0, 1.0])).round(4)
    array([-0.6652, -0.6652,  0.3348])
    """
    return library(y).maps.jvp(LOG_SOFTMAX, y, dx, axis=axis, where=where, scale=scale, out=out)


def log_softmax_double_backward(
    y: npt.ArrayLike, dy: npt.ArrayLike, v: npt.ArrayLike, *, axis: Axis = -1, scale: float = 1.0
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `log_softmax_vjp` (y, dy)⟩ with respect to x and dy.

    With :math:`p = \exp(y)` and the mean :math:`m = \langle p, v\rangle / \langle p, 1\rangle`,

    .. math::
        grad_{dy} &= s\, (v - m) \\
        grad_x &= -s^2 \Bigl(\sum_k dy_k\Bigr)\, p \circ (v - m)

    Parameters
    ----------
    y, dy : array_like
        As given to `log_softmax_vjp`.
    v : array_like
        The gradient of the loss with respect to the result of `log_softmax_vjp`.
    axis, scale
        As for `log_softmax_vjp`.

    Returns
    -------
    grad_x, grad_dy : numpy.ndarray
        Both 0 where y is −inf.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax_vjp`.

    Notes
    -----
    *Error*: grad_dy is `log_softmax_jvp` (y, v), to the last bit.  With D as there, grad_x is off by at most

    .. math:: C\, eps\, p_i \sum_k |dy_k|\; (|v_i - m^*| + D)

    and what may underflow, with the same C; `scale` counts twice.

    *Memory*: the two results.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.log_softmax(np.array([1.0, 2.0, 3.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> grad_x, grad_dy = softgrad.log_softmax_double_backward(y, dy, v)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([ 0.022 , -0.1848,  0.1628]), array([-0.2447,  0.7553, -0.2447]))
    """
    return library(y).maps.double_backward(LOG_SOFTMAX, y, dy, v, axis=axis, scale=scale)


def log_softmax_with_vjp(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> tuple[Array, Callable[..., Array]]:
    """log_softmax, and the function that takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    x, axis, where, scale, empty, out
        As for `log_softmax`.

    Returns
    -------
    y : numpy.ndarray
    vjp : callable
        ``vjp(dy, *, out=None)`` is ``log_softmax_vjp(y, dy, ...)`` with the same options.  It keeps y, not a
        copy: y must not be changed before its last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `log_softmax`; from ``vjp`` as for `log_softmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y, vjp = softgrad.log_softmax_with_vjp(np.array([1.0, 2.0, 3.0]), scale=0.5)
    >>> vjp(np.array([-1.0, 0.0, 0.0])).round(4)
    array([-0.4068,  0.1536,  0.2532])
    """
    return library(x).maps.with_vjp(LOG_SOFTMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)
