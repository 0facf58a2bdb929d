"""log_softmax and its derivatives."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ..checks import Array, Axis, Empty, Out, Where
from ..cpu import gate
from ..dispatch import library
from ..specs import LOG_SOFTMAX
from .descriptions import documented, with_vjp


@documented("log_softmax", masked="; the result is −inf there", absent="−inf")
def log_softmax(
    x: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Out = None,
) -> Array:
    r"""The logarithm of the softmax of ``scale * x`` along an axis.

    .. math:: y_i = s x_i - \log \sum_k \exp(s x_k)

    Notes
    -----
    *Error*: at most 2 ulp of max(\|y\|, 1) for float32 and float64, 0.51 of them for float16 and bfloat16,
    for logits of any size.  Where one element has nearly all of the weight, its y, which is nearly 0, is
    not 0 but what the others come to: as exact as a number can be, to 3 ulp.

    Examples
    --------
    >>> import numpy as np, softgrad
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
    return library(x).forward(LOG_SOFTMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)


@documented("log_softmax")
def log_softmax_vjp(
    y: ArrayLike, dy: ArrayLike, *, axis: Axis = -1, where: Where = None, scale: float = 1.0, out: Out = None
) -> Array:
    r"""∂L/∂x of ``y = log_softmax(scale * x)``, given y and ∂L/∂y.

    .. math:: dx_i = s\, \Bigl(dy_i - \exp(y_i) \sum_k dy_k\Bigr)

    Notes
    -----
    *Where y is −inf* the logit is −inf, and stays so however the others move: it has no part, its dx is 0 and
    its dy is not in the sum.  (By the formula's limit, dx = dy, a row of −inf would have a gradient.)

    *Error*: with p = exp(y), against the exact dx* of the formula for the given y and dy,

    .. math:: |dx_i - dx^*_i| \le 4\, eps\, \Bigl(|dx^*_i| + |dy_i| + p_i \sum_k |dy_k|\Bigr)

    and half the smallest subnormal; `scale` multiplies both sides.  float16 and bfloat16 are computed in
    float32 and rounded once: 0.51 ulp, and the bound of float32.  Where one p is nearly 1 and the sum of dy
    exact, 1 − p keeps all of its digits.  A p below exp(−130), of float64 exp(−1050), counts as 0.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.log_softmax(np.array([1.0, 2.0, 3.0]))
    >>> softgrad.log_softmax_vjp(y, np.array([-1.0, 0.0, 0.0])).round(4)
    array([-0.91  ,  0.2447,  0.6652])
    """
    if where is None:
        result = gate.product(gate.LOG_SOFTMAX_VJP, y, dy, axis, scale, out)
        if result is not None:
            return result
    return library(y).product(LOG_SOFTMAX, "vjp", y, dy, axis=axis, where=where, scale=scale, out=out)


@documented("log_softmax")
def log_softmax_jvp(
    y: ArrayLike, dx: ArrayLike, *, axis: Axis = -1, where: Where = None, scale: float = 1.0, out: Out = None
) -> Array:
    r"""The change of ``y = log_softmax(scale * x)`` along a tangent dx of x, given y.

    .. math:: dy_i = s\, \Bigl(dx_i - \frac{\sum_k \exp(y_k)\, dx_k}{\sum_k \exp(y_k)}\Bigr)

    Notes
    -----
    The Jacobian is not symmetric: this is not `log_softmax_vjp`.  Where y is −inf, dy is 0.

    *Error*: with p = exp(y), m* the exact mean that is subtracted, and D = ⟨p,\|dx − m*\|⟩/⟨p,1⟩, how far dx
    is from it on the average,

    .. math:: |dy_i - dy^*_i| \le C\, eps\, (|dy^*_i| + D)

    and what may underflow, with C = 8 for float32 and 16 for float64, as for `softmax_vjp`; a constant dx
    gives exactly 0, since Σ exp(y), which is 1 but for the rounding of y, is divided by.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.log_softmax(np.array([1.0, 2.0, 3.0]))
    >>> softgrad.log_softmax_jvp(y, np.array([0.0, 0.0, 1.0])).round(4)
    array([-0.6652, -0.6652,  0.3348])
    """
    return library(y).product(LOG_SOFTMAX, "jvp", y, dx, axis=axis, where=where, scale=scale, out=out)


@documented("log_softmax")
def log_softmax_double_backward(
    y: ArrayLike, dy: ArrayLike, v: ArrayLike, *, axis: Axis = -1, scale: float = 1.0
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `log_softmax_vjp` (y, dy)⟩ with respect to x and dy.

    With :math:`p = \exp(y)` and the mean :math:`m = \langle p, v\rangle / \langle p, 1\rangle`,

    .. math::
        grad_{dy} &= s\, (v - m) \\
        grad_x &= -s^2 \Bigl(\sum_k dy_k\Bigr)\, p \circ (v - m)

    Notes
    -----
    *Error*: grad_dy is `log_softmax_jvp` (y, v), to the last bit.  With D as there, grad_x is off by at most

    .. math:: C\, eps\, p_i \sum_k |dy_k|\; (|v_i - m^*| + D)

    and what may underflow, with the same C; `scale` counts twice.  Both are 0 where y is −inf.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.log_softmax(np.array([1.0, 2.0, 3.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> grad_x, grad_dy = softgrad.log_softmax_double_backward(y, dy, v)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([ 0.022 , -0.1848,  0.1628]), array([-0.2447,  0.7553, -0.2447]))
    """
    return library(y).double_backward(LOG_SOFTMAX, y, dy, v, axis=axis, scale=scale)


@documented("log_softmax", masked="; the result is −inf there", absent="−inf")
@with_vjp(log_softmax, log_softmax_vjp)
def log_softmax_with_vjp() -> None:
    """log_softmax, and the function that takes ∂L/∂y to ∂L/∂x."""
