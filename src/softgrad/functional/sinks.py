"""softmax with a sink, and the gradient of softmax for its scale."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ..checks import Array, Axis, Where
from ..dispatch import library
from .descriptions import documented
from .softmax import SCALES


@documented("sink_softmax", scale=SCALES)
def sink_softmax(
    x: ArrayLike, sink: ArrayLike, *, axis: Axis = -1, where: Where = None, scale: float | ArrayLike = 1.0
) -> tuple[Array, Array]:
    r"""Softmax of rows that have one more logit, the sink, which is not returned.

    .. math:: y_i = e^{s x_i} / Z, \quad y_{sink} = e^{sink} / Z, \quad Z = e^{sink} + \sum_k e^{s x_k}

    Attention sinks and softmax1 (``sink=0.0``) are of this form: a row may have less than all of its weight.

    Returns
    -------
    y : numpy.ndarray
        Of the shape of `x`; 0 in a row with nothing in it.
    y_sink : numpy.ndarray
        The weight of the sink, with the axis at length 1.  It is computed by itself: 1 − Σy would be 0 for a
        weight of 3e-29.

    Notes
    -----
    The derivative is `sink_softmax_vjp`: **not** `softmax_vjp`, which divides by Σy.

    *Error*: 2 ulp of y and 3 ulp of y_sink where they are normal numbers (y of float64: 3 ulp); 16-bit
    types 0.51 ulp.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y, y_sink = softgrad.sink_softmax(np.array([[1.0, 2.0], [-60.0, -70.0]]), 0.0)
    >>> y
    array([[2.44728471e-01, 6.65240956e-01],
           [8.75651076e-27, 3.97544974e-31]])
    >>> y_sink
    array([[0.09003057],
           [1.        ]])
    """
    return library(x).sink_softmax(x, sink, axis=axis, where=where, scale=scale)


@documented("sink_softmax", kept="y", scale=SCALES)
def sink_softmax_vjp(
    y: ArrayLike,
    y_sink: ArrayLike,
    dy: ArrayLike,
    dy_sink: ArrayLike | None = None,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float | ArrayLike = 1.0,
) -> tuple[Array, Array]:
    r"""∂L/∂x and ∂L/∂sink of `sink_softmax`.

    .. math::
        m = \frac{\sum_k y_k dy_k + y_{sink}\, dy_{sink}}{\sum_k y_k + y_{sink}}, \quad
        dx_i = s\, y_i (dy_i - m), \quad dsink = y_{sink} (dy_{sink} - m)

    Returns
    -------
    dx : numpy.ndarray
        Of the shape of `y`.
    dsink : numpy.ndarray
        One number for each row, with the axis at length 1.  The gradient of a sink that several rows share
        is the sum of theirs.

    Notes
    -----
    *Error*: that of `softmax_vjp` for rows with one more element.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y, y_sink = softgrad.sink_softmax(np.array([1.0, 2.0, 3.0]), 0.0)
    >>> dx, dsink = softgrad.sink_softmax_vjp(y, y_sink, np.array([1.0, 0.0, 0.0]))
    >>> dx.round(4), dsink.round(4)
    (array([ 0.0796, -0.0206, -0.0561]), array([-0.0028]))
    """
    return library(y).sink_product("vjp", y, y_sink, dy, dy_sink, axis=axis, where=where, scale=scale)


@documented("sink_softmax", scale=SCALES)
def sink_softmax_jvp(
    y: ArrayLike,
    y_sink: ArrayLike,
    dx: ArrayLike,
    dx_sink: ArrayLike | None = None,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float | ArrayLike = 1.0,
) -> tuple[Array, Array]:
    r"""The change of `sink_softmax` along a tangent of x and of the sink.

    .. math::
        m = \frac{\sum_k y_k\, s\, dx_k + y_{sink}\, dx_{sink}}{\sum_k y_k + y_{sink}}, \quad
        dy_i = y_i (s\, dx_i - m), \quad dy_{sink} = y_{sink} (dx_{sink} - m)

    With a `dx_sink`, s·dx is computed first, in float64.

    Returns
    -------
    dy : numpy.ndarray
        Of the shape of `y`.
    dy_sink : numpy.ndarray
        One number for each row, with the axis at length 1.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y, y_sink = softgrad.sink_softmax(np.array([1.0, 2.0, 3.0]), 0.0)
    >>> dy, dy_sink = softgrad.sink_softmax_jvp(y, y_sink, np.array([1.0, 0.0, 0.0]))
    >>> dy.round(4), dy_sink.round(4)
    (array([ 0.0796, -0.0206, -0.0561]), array([-0.0028]))
    """
    return library(y).sink_product("jvp", y, y_sink, dx, dx_sink, axis=axis, where=where, scale=scale)


@documented("sink_softmax", scale=SCALES)
def sink_softmax_double_backward(
    y: ArrayLike,
    y_sink: ArrayLike,
    dy: ArrayLike,
    dy_sink: ArrayLike | None,
    v: ArrayLike,
    v_sink: ArrayLike | None,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float | ArrayLike = 1.0,
) -> tuple[Array, Array, Array, Array]:
    r"""The gradients of ⟨v, dx⟩ + ⟨v_sink, dsink⟩, dx and dsink being those of `sink_softmax_vjp`.

    With J of the rows of n + 1 elements, w = (s·v, v_sink), and m as in `sink_softmax_vjp`:

    .. math:: grad_{dy} = J w, \quad grad_x = s\, J\bigl((w - m(w)) \circ (dy - m(dy))\bigr)

    Returns
    -------
    grad_x, grad_sink, grad_dy, grad_dy_sink : numpy.ndarray
        Of the shapes of `y` and of one number for each row, with the axis at length 1.

    Notes
    -----
    *Error*: that of `softmax_double_backward` for rows with one more element.

    *Memory*: copies of the arrays, in float32 or float64.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y, y_sink = softgrad.sink_softmax(np.array([1.0, 2.0]), 0.0)
    >>> dy, v = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    >>> grads = softgrad.sink_softmax_double_backward(y, y_sink, dy, None, v, None)
    >>> [grad.round(4) for grad in grads]
    [array([-0.0831,  0.0538]), array([0.0293]), array([-0.1628,  0.2227]), array([-0.0599])]
    """
    arguments = y, y_sink, dy, dy_sink, v, v_sink
    return library(y).sink_double_backward(*arguments, axis=axis, where=where, scale=scale)


@documented("softmax")
def softmax_scale_vjp(
    x: ArrayLike, y: ArrayLike, dy: ArrayLike, *, axis: Axis = -1, where: Where = None
) -> Array:
    r"""∂L/∂scale of ``y = softmax(scale * x)``, one number for each row.

    .. math:: dscale = \sum_i x_i\, y_i \Bigl(dy_i - \frac{\sum_k y_k\, dy_k}{\sum_k y_k}\Bigr)

    The gradient of a scale that several rows share, one number for all of them for instance, is the sum of
    theirs; that of a temperature T = 1/scale is −dscale/T².

    Returns
    -------
    dscale : numpy.ndarray
        With the axis at length 1.

    Notes
    -----
    *Error*: C·eps·Σ |x_i − max| y_i (|dy_i − m| + D), with the C and D of `softmax_vjp`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x, dy = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0])
    >>> softgrad.softmax_scale_vjp(x, softgrad.softmax(x), dy).round(4)
    array([-0.1418])
    """
    return library(y).scale_vjp(x, y, dy, axis=axis, where=where)
