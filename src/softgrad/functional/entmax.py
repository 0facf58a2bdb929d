"""entmax: softmax, sparsemax, what lies between them and beyond."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from .. import checks
from ..checks import Array, Axis, Empty
from .dispatch import library


def entmax(
    x: npt.ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    r"""Entmax of ``scale * x`` along an axis: a softmax that gives exact zeros, for alpha above 1.

    .. math:: y_i = \bigl[(\alpha-1)\, s x_i - \tau\bigr]_+^{1/(\alpha-1)},
        \quad \tau \text{ such that } \sum_i y_i = 1

    Parameters
    ----------
    x : array_like
        Logits, of any shape, memory layout and dtype that `softmax` takes.
    alpha : float
        At least 1.  1 is `softmax` and 2 is `sparsemax`, to the last bit; the larger it is, the fewer y are
        not 0.
    axis, where, scale, empty, out
        As for `softmax`.

    Returns
    -------
    numpy.ndarray
        y, of the shape of `x`; `out` if that was given.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax`; also if `alpha` is no real number, or less than 1.

    Notes
    -----
    *Error*: against the exact y* for the given `x`, ‖y − y*‖₂ ≤ 4·eps·‖y*‖₂ in each row and half the smallest
    subnormal for each element, for logits of any size; Σy is 1 within 4·eps.  y is 0 where y* is, and nowhere
    else but where the dtype can't hold y*, or x is so near to the threshold that rounding can't tell.

    *Time*: nothing is sorted.  Only logits within 1/(α−1) of the largest (times the scale) can be in the
    support; two sweeps over the row collect them, and Newton's method (beyond α = 2 after a bisection) finds
    τ from them.

    *Memory*: as for `softmax`, with nine rows in place of three.

    NaN, infinities, empty and 0-d arrays as for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> x = np.array([1.0, 0.5, -0.5, -1.0])
    >>> softgrad.entmax(x).round(4)
    array([0.6712, 0.324 , 0.0048, 0.    ])
    >>> softgrad.entmax(x, 1.8).round(4)
    array([0.7159, 0.2841, 0.    , 0.    ])
    """
    of = library(x)
    return of.maps.forward(of.alpha.row(alpha), x, axis=axis, where=where, scale=scale, empty=empty, out=out)


def entmax_vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""∂L/∂x of ``y = entmax(scale * x, alpha)``, given y and ∂L/∂y.

    .. math:: dx_i = s\, w_i \Bigl(dy_i - \frac{\sum_k w_k\, dy_k}{\sum_k w_k}\Bigr), \quad
        w_i = y_i^{2-\alpha} \text{ where } y_i > 0 \text{, else } 0

    Parameters
    ----------
    y : array_like
        What entmax put out.
    dy : array_like
        The gradient of the loss with respect to y, of the same shape.  Where its dtype is another than
        that of `y`, both are converted to the one that NumPy promotes them to.
    alpha, axis, where, scale
        As they were given to `entmax`.
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
        As for `entmax`; also ValueError if `y` and `dy` differ in shape (nothing is broadcast).

    Notes
    -----
    *Formula*: the Jacobian is ``diag(w) − w wᵀ/Σw``.

    *Error*: as for `softmax_vjp`, with the exact w of the given `y` in the place of y,

    .. math::
        |dx_i - dx^*_i| \le C\, eps\, (|dx^*_i| + w_i D) + \Bigl(1 + \frac{n\, w_i}{\sum_k w_k}\Bigr)
        \frac{\eta}{2}, \qquad D = \frac{\sum_k w_k\, |dy_k - m^*|}{\sum_k w_k},

    with C = 8 for float32 and 16 for float64.  Beyond α = 2 the smallest y weigh most: a w counts as 2¹⁰⁰ at
    most (float64: 2⁵⁰⁰).  docs/decisions.md has what is proved, and what was seen.

    *Memory*: as for `softmax`, with twelve rows in place of three; where rows are long it is
    used for the support alone.  Of the forward pass only `y` has to be kept.

    NaN and inf in `dy` make their row NaN, also where y is 0 (but is not 0 throughout); ``where`` keeps
    them out.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.entmax(np.array([1.0, 0.0, -2.0]))
    >>> softgrad.entmax_vjp(y, np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.2835, -0.2835, -0.    ])
    """
    of = library(y)
    return of.maps.vjp(of.alpha.row(alpha), y, dy, axis=axis, where=where, scale=scale, out=out)


def entmax_jvp(
    y: npt.ArrayLike,
    dx: npt.ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""The change of ``y = entmax(scale * x, alpha)`` along a tangent dx of x, given y.

    .. math:: dy_i = s\, w_i \Bigl(dx_i - \frac{\sum_k w_k\, dx_k}{\sum_k w_k}\Bigr), \quad
        w_i = y_i^{2-\alpha} \text{ where } y_i > 0 \text{, else } 0

    The Jacobian is symmetric, so this is the same product as `entmax_vjp`, which has its arguments,
    errors, precision and use of memory described.

    Parameters
    ----------
    y, dx : array_like
        What entmax put out, and the tangent.
    alpha, axis, where, scale, out
        As for `entmax_vjp`.

    Returns
    -------
    numpy.ndarray
        dy, of the shape of `y`.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `entmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.entmax(np.array([1.0, 0.0, -2.0]))
    >>> softgrad.entmax_jvp(y, np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.2835, -0.2835, -0.    ])
    """
    of = library(y)
    return of.maps.jvp(of.alpha.row(alpha), y, dx, axis=axis, where=where, scale=scale, out=out)


def entmax_double_backward(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    v: npt.ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `entmax_vjp` (y, dy)⟩ with respect to x and dy.

    With :math:`w = y^{2-\alpha}` and m, n the means of dy and v with these weights,

    .. math::
        grad_{dy} &= s\, J v \\
        grad_x &= s^2 J \bigl(w' \circ (v - n) \circ (dy - m)\bigr), \quad w' = (2-\alpha)\, y^{1-\alpha}

    Parameters
    ----------
    y, dy : array_like
        As given to `entmax_vjp`.
    v : array_like
        The gradient of the loss with respect to the result of `entmax_vjp`.
    alpha, axis, scale
        As for `entmax_vjp`.

    Returns
    -------
    grad_x, grad_dy : numpy.ndarray

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `entmax_vjp`.

    Notes
    -----
    *Error*: grad_dy as `entmax_vjp`.  With :math:`v^\circ` and :math:`dy^\circ` for v and dy less their
    means, and C and D as there,

    .. math::
        |grad_{x,i} - grad^*_{x,i}| \le C\, eps\, w_i \Bigl(T_i + \frac{\sum_k w_k T_k}{\sum_k w_k}\Bigr),
        \quad T = |w'| \circ (|v^\circ| + D(v)) \circ (|dy^\circ| + D(dy))

    and what underflows; `scale` counts twice.

    *Memory*: the two results, and as for `softmax`, with twelve rows in place of three.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.entmax(np.array([1.0, 0.0, -2.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> grad_x, grad_dy = softgrad.entmax_double_backward(y, dy, v)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([ 0.1485, -0.1485,  0.    ]), array([-0.2835,  0.2835, -0.    ]))
    """
    of = library(y)
    return of.maps.double_backward(of.alpha.row(alpha), y, dy, v, axis=axis, scale=scale)


def entmax_with_vjp(
    x: npt.ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> tuple[Array, Callable[..., Array]]:
    """Entmax, and the function that takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    x, alpha, axis, where, scale, empty, out
        As for `entmax`.

    Returns
    -------
    y : numpy.ndarray
    vjp : callable
        ``vjp(dy, *, out=None)`` is ``entmax_vjp(y, dy, ...)`` with the same options.  It keeps y, not a
        copy: y must not be changed before its last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `entmax`; from ``vjp`` as for `entmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y, vjp = softgrad.entmax_with_vjp(np.array([1.0, 0.5, -1.0]), scale=0.5)
    >>> vjp(np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.2002, -0.1435, -0.0567])
    """
    of = library(x)
    return of.maps.with_vjp(of.alpha.row(alpha), x, axis=axis, where=where, scale=scale, empty=empty, out=out)


def entmax_alpha_vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
) -> Array:
    r"""∂L/∂α of ``y = entmax(scale * x, alpha)`` for each row, given y and ∂L/∂y.

    .. math:: \frac{\partial L}{\partial \alpha} = \sum_i dy_i\, g_i, \quad
        g = \frac{y - \tilde w}{(\alpha-1)^2} + \frac{h - \tilde w \sum_k h_k}{\alpha-1}

    with :math:`h = -y \log y`, :math:`w = y^{2-\alpha}` on the support and :math:`\tilde w = w / \sum w`.

    Parameters
    ----------
    y, dy : array_like
        As given to `entmax_vjp`.
    alpha, axis, where
        As they were given to `entmax`.

    Returns
    -------
    numpy.ndarray
        One number for each row: the shape is that of `y` without the reduced axes.  Their sum is the
        gradient for an alpha that all rows share.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `entmax_vjp`.

    Notes
    -----
    *Formula*: g is J ψ, J being the Jacobian of entmax and ``ψ = −(log y)²·(1 − eᵗ(1 − t))/t²`` with
    ``t = (α−1)·log y``, which is (log y)²/2 at α = 1 but for the sign.  What is computed is ⟨dx, ψ⟩ with
    ``dx = entmax_vjp(y, dy)``.

    *Error*: what that of dx makes of it, Σ|dx − dx*|∘|ψ|, and 4·eps·Σ|dx∘ψ| for each row (float64: 8·eps),
    over the support.

    *Memory*: the result, dx, and as for `entmax_vjp`; with a mask a copy of y.

    A scale makes no difference: it is α's effect at the given y.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.entmax(np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 0.0]]))
    >>> softgrad.entmax_alpha_vjp(y, np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])).round(4)
    array([0.2485, 0.    ])
    """
    return library(y).alpha.alpha_vjp(y, dy, checks.alpha(alpha), axis=axis, where=where)
