"""sparsemax."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from ..checks import Array, Axis, Empty
from ..specs import SPARSEMAX
from .dispatch import library


def sparsemax(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    r"""Sparsemax of ``scale * x`` along an axis: the point of the simplex that is nearest to it.

    .. math:: y_i = \bigl[s x_i - \tau\bigr]_+, \quad \tau \text{ such that } \sum_i y_i = 1

    Parameters
    ----------
    x : array_like
        Logits, of any shape, memory layout and dtype that `softmax` takes.
    axis, where, scale, empty, out
        As for `softmax`.

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
    *Error*: against the exact y* for the given `x`, ‖y − y*‖₂ ≤ 4·eps·‖y*‖₂ in each row and half the smallest
    subnormal for each element, for logits of any size; Σy is 1 within 4·eps.  y is 0 where y* is, and nowhere
    else but where the dtype can't hold y*, or x is so near to the threshold that rounding can't tell.

    *Time*: nothing is sorted.  Only logits within 1 of the largest (times the scale) can be in the
    support; two sweeps over the row collect them, and Newton's method finds τ from them.

    *Memory*: as for `softmax`, with nine rows in place of three.

    NaN, infinities, empty and 0-d arrays as for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> softgrad.sparsemax(np.array([[1.0, 0.5, -1.0], [0.0, 3.0, 0.0]]))
    array([[0.75, 0.25, 0.  ],
           [0.  , 1.  , 0.  ]])
    """
    return library(x).maps.forward(SPARSEMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)


def sparsemax_vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""∂L/∂x of ``y = sparsemax(scale * x)``, given y and ∂L/∂y.

    .. math:: dx_i = s \Bigl(dy_i - \frac{1}{|S|} \sum_{k \in S} dy_k\Bigr) \text{ for } i \in S,
        \text{ else } 0, \quad S = \{i : y_i > 0\}

    Parameters
    ----------
    y : array_like
        What sparsemax put out.
    dy : array_like
        The gradient of the loss with respect to y, of the same shape.  Where its dtype is another than
        that of `y`, both are converted to the one that NumPy promotes them to.
    axis, where, scale
        As they were given to `sparsemax`.
    out : numpy.ndarray, optional
        Where to write the result, as for `softmax`; it may be `y` or `dy` itself.

    Returns
    -------
    numpy.ndarray
        dx, of the shape of `y`; `out` if that was given.  Exactly 0 outside of the support, and where
        `where` is False.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `sparsemax`; also ValueError if `y` and `dy` differ in shape (nothing is broadcast).

    Notes
    -----
    *Formula*: the Jacobian is ``diag(w) − w wᵀ/Σw`` with w = 1 on the support S, 0 elsewhere.

    *Error*: as for `softmax_vjp`, with w in the place of y: for i in S

    .. math:: |dx_i - dx^*_i| \le C\, eps\, (|dx^*_i| + D) + \Bigl(1 + \frac{n}{|S|}\Bigr) \frac{\eta}{2},

    D being the mean of \|dx*\| over S; C = 8 for float32 and 16 for float64.

    *Memory*: as for `softmax`, with twelve rows in place of three; where rows are long it is
    used for the support alone.  Of the forward pass only `y` has to be kept.

    NaN and inf in `dy` make their row NaN, also where y is 0 (but is not 0 throughout); ``where`` keeps
    them out.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.sparsemax(np.array([1.0, 0.5, -1.0]))
    >>> softgrad.sparsemax_vjp(y, np.array([1.0, 0.0, 0.0]))
    array([ 0.5, -0.5, -0. ])
    """
    return library(y).maps.vjp(SPARSEMAX, y, dy, axis=axis, where=where, scale=scale, out=out)


def sparsemax_jvp(
    y: npt.ArrayLike,
    dx: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""The change of ``y = sparsemax(scale * x)`` along a tangent dx of x, given y.

    .. math:: dy_i = s \Bigl(dx_i - \frac{1}{|S|} \sum_{k \in S} dx_k\Bigr) \text{ for } i \in S,
        \text{ else } 0, \quad S = \{i : y_i > 0\}

    The Jacobian is symmetric, so this is the same product as `sparsemax_vjp`, which has its arguments,
    errors, precision and use of memory described.

    Parameters
    ----------
    y, dx : array_like
        What sparsemax put out, and the tangent.
    axis, where, scale, out
        As for `sparsemax_vjp`.

    Returns
    -------
    numpy.ndarray
        dy, of the shape of `y`.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `sparsemax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.sparsemax(np.array([1.0, 0.5, -1.0]))
    >>> softgrad.sparsemax_jvp(y, np.array([1.0, 0.0, 0.0]))
    array([ 0.5, -0.5, -0. ])
    """
    return library(y).maps.jvp(SPARSEMAX, y, dx, axis=axis, where=where, scale=scale, out=out)


def sparsemax_double_backward(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    v: npt.ArrayLike,
    *,
    axis: Axis = -1,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `sparsemax_vjp` (y, dy)⟩ with respect to x and dy.

    The Jacobian J depends on x through the support alone, so grad_x is 0, and :math:`grad_{dy} = s\, J v`.

    Parameters
    ----------
    y, dy : array_like
        As given to `sparsemax_vjp`.
    v : array_like
        The gradient of the loss with respect to the result of `sparsemax_vjp`.
    axis, scale
        As for `sparsemax_vjp`.

    Returns
    -------
    grad_x, grad_dy : numpy.ndarray

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `sparsemax_vjp`.

    Notes
    -----
    *Error*: grad_dy as `sparsemax_vjp`; grad_x is exact.

    *Memory*: the two results, and as for `softmax`, with twelve rows in place of three.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.sparsemax(np.array([1.0, 0.5, -1.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> softgrad.sparsemax_double_backward(y, dy, v)[1]
    array([-0.5,  0.5, -0. ])
    """
    return library(y).maps.double_backward(SPARSEMAX, y, dy, v, axis=axis, scale=scale)


def sparsemax_with_vjp(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> tuple[Array, Callable[..., Array]]:
    """Sparsemax, and the function that takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    x, axis, where, scale, empty, out
        As for `sparsemax`.

    Returns
    -------
    y : numpy.ndarray
    vjp : callable
        ``vjp(dy, *, out=None)`` is ``sparsemax_vjp(y, dy, ...)`` with the same options.  It keeps y, not a
        copy: y must not be changed before its last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `sparsemax`; from ``vjp`` as for `sparsemax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y, vjp = softgrad.sparsemax_with_vjp(np.array([1.0, 0.5, -1.0]), scale=0.5)
    >>> vjp(np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.25, -0.25, -0.  ])
    """
    return library(x).maps.with_vjp(SPARSEMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)
