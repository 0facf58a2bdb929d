"""The maps that give exact zeros, sparsemax and entmax, and their derivatives."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import checks
from ..checks import Array, Axis, Empty, Out, Where
from ..dispatch import library
from ..specs import SPARSEMAX
from .descriptions import documented, with_vjp


@documented("sparsemax")
def sparsemax(
    x: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Out = None,
) -> Array:
    r"""Sparsemax of ``scale * x`` along an axis: the point of the simplex that is nearest to it.

    .. math:: y_i = \bigl[s x_i - \tau\bigr]_+, \quad \tau \text{ such that } \sum_i y_i = 1

    It is `entmax` for alpha = 2, with its error and time.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.sparsemax(np.array([[1.0, 0.5, -1.0], [0.0, 3.0, 0.0]]))
    array([[0.75, 0.25, 0.  ],
           [0.  , 1.  , 0.  ]])
    """
    return library(x).forward(SPARSEMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)


@documented("sparsemax")
def sparsemax_vjp(
    y: ArrayLike, dy: ArrayLike, *, axis: Axis = -1, where: Where = None, scale: float = 1.0, out: Out = None
) -> Array:
    r"""∂L/∂x of ``y = sparsemax(scale * x)``, given y and ∂L/∂y.

    .. math:: dx_i = s \Bigl(dy_i - \frac{1}{|S|} \sum_{k \in S} dy_k\Bigr) \text{ for } i \in S,
        \text{ else } 0, \quad S = \{i : y_i > 0\}

    It is `entmax_vjp` for alpha = 2, with its error; the weights w are 1 on the support S.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.sparsemax(np.array([1.0, 0.5, -1.0]))
    >>> softgrad.sparsemax_vjp(y, np.array([1.0, 0.0, 0.0]))
    array([ 0.5, -0.5, -0. ])
    """
    return library(y).product(SPARSEMAX, "vjp", y, dy, axis=axis, where=where, scale=scale, out=out)


@documented("sparsemax")
def sparsemax_jvp(
    y: ArrayLike, dx: ArrayLike, *, axis: Axis = -1, where: Where = None, scale: float = 1.0, out: Out = None
) -> Array:
    """The change of ``y = sparsemax(scale * x)`` along a tangent dx of x, given y.

    The Jacobian is symmetric: this is `sparsemax_vjp` (y, dx), with its formula and error.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.sparsemax(np.array([1.0, 0.5, -1.0]))
    >>> softgrad.sparsemax_jvp(y, np.array([1.0, 0.0, 0.0]))
    array([ 0.5, -0.5, -0. ])
    """
    return library(y).product(SPARSEMAX, "jvp", y, dx, axis=axis, where=where, scale=scale, out=out)


@documented("sparsemax")
def sparsemax_double_backward(
    y: ArrayLike, dy: ArrayLike, v: ArrayLike, *, axis: Axis = -1, scale: float = 1.0
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `sparsemax_vjp` (y, dy)⟩ with respect to x and dy.

    The Jacobian J depends on x through the support alone, so grad_x is 0, and :math:`grad_{dy} = s\, J v`,
    with the error of `sparsemax_vjp`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.sparsemax(np.array([1.0, 0.5, -1.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> softgrad.sparsemax_double_backward(y, dy, v)[1]
    array([-0.5,  0.5, -0. ])
    """
    return library(y).double_backward(SPARSEMAX, y, dy, v, axis=axis, scale=scale)


@documented("sparsemax")
@with_vjp(sparsemax, sparsemax_vjp)
def sparsemax_with_vjp() -> None:
    """Sparsemax, and the function that takes ∂L/∂y to ∂L/∂x."""


@documented("entmax")
def entmax(
    x: ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Out = None,
) -> Array:
    r"""Entmax of ``scale * x`` along an axis: a softmax that gives exact zeros, for alpha above 1.

    .. math:: y_i = \bigl[(\alpha-1)\, s x_i - \tau\bigr]_+^{1/(\alpha-1)},
        \quad \tau \text{ such that } \sum_i y_i = 1

    Notes
    -----
    *Error*: against the exact y* for the given `x`, ‖y − y*‖₂ ≤ 4·eps·‖y*‖₂ in each row and half the smallest
    subnormal for each element, for logits of any size; Σy is 1 within 4·eps.  y is 0 where y* is, and nowhere
    else but where the dtype can't hold y*, or x is so near to the threshold that rounding can't tell.

    *Time*: nothing is sorted: two sweeps collect the logits within 1/(α−1) of the largest, and Newton's
    method (beyond α = 2 after a bisection) finds τ from them.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x = np.array([1.0, 0.5, -0.5, -1.0])
    >>> softgrad.entmax(x).round(4)
    array([0.6712, 0.324 , 0.0048, 0.    ])
    >>> softgrad.entmax(x, 1.8).round(4)
    array([0.7159, 0.2841, 0.    , 0.    ])
    """
    of = library(x)
    return of.forward(of.entmax(alpha), x, axis=axis, where=where, scale=scale, empty=empty, out=out)


@documented("entmax")
def entmax_vjp(
    y: ArrayLike,
    dy: ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""∂L/∂x of ``y = entmax(scale * x, alpha)``, given y and ∂L/∂y.

    .. math:: dx_i = s\, w_i \Bigl(dy_i - \frac{\sum_k w_k\, dy_k}{\sum_k w_k}\Bigr), \quad
        w_i = y_i^{2-\alpha} \text{ where } y_i > 0 \text{, else } 0

    Notes
    -----
    The Jacobian is ``diag(w) − w wᵀ/Σw``.

    *Error*: as for `softmax_vjp`, with the exact w of the given `y` in the place of y,

    .. math::
        |dx_i - dx^*_i| \le C\, eps\, (|dx^*_i| + w_i D) + \Bigl(1 + \frac{n\, w_i}{\sum_k w_k}\Bigr)
        \frac{\eta}{2}, \qquad D = \frac{\sum_k w_k\, |dy_k - m^*|}{\sum_k w_k},

    with C = 8 for float32 and 16 for float64.  Beyond α = 2 the smallest y weigh most: a w counts as 2¹⁰⁰ at
    most (float64: 2⁵⁰⁰).  docs/decisions.md has what is proved, and what was seen.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.entmax(np.array([1.0, 0.0, -2.0]))
    >>> softgrad.entmax_vjp(y, np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.2835, -0.2835, -0.    ])
    """
    of = library(y)
    return of.product(of.entmax(alpha), "vjp", y, dy, axis=axis, where=where, scale=scale, out=out)


@documented("entmax")
def entmax_jvp(
    y: ArrayLike,
    dx: ArrayLike,
    alpha: float = 1.5,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    """The change of ``y = entmax(scale * x, alpha)`` along a tangent dx of x, given y.

    The Jacobian is symmetric: this is `entmax_vjp` (y, dx), with its formula and error.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.entmax(np.array([1.0, 0.0, -2.0]))
    >>> softgrad.entmax_jvp(y, np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.2835, -0.2835, -0.    ])
    """
    of = library(y)
    return of.product(of.entmax(alpha), "jvp", y, dx, axis=axis, where=where, scale=scale, out=out)


@documented("entmax")
def entmax_double_backward(
    y: ArrayLike, dy: ArrayLike, v: ArrayLike, alpha: float = 1.5, *, axis: Axis = -1, scale: float = 1.0
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `entmax_vjp` (y, dy)⟩ with respect to x and dy.

    With :math:`w = y^{2-\alpha}` and m, n the means of dy and v with these weights,

    .. math::
        grad_{dy} &= s\, J v \\
        grad_x &= s^2 J \bigl(w' \circ (v - n) \circ (dy - m)\bigr), \quad w' = (2-\alpha)\, y^{1-\alpha}

    Notes
    -----
    *Error*: grad_dy as `entmax_vjp`.  With :math:`v^\circ` and :math:`dy^\circ` for v and dy less their
    means, and C and D as there,

    .. math::
        |grad_{x,i} - grad^*_{x,i}| \le C\, eps\, w_i \Bigl(T_i + \frac{\sum_k w_k T_k}{\sum_k w_k}\Bigr),
        \quad T = |w'| \circ (|v^\circ| + D(v)) \circ (|dy^\circ| + D(dy))

    and what underflows; `scale` counts twice.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.entmax(np.array([1.0, 0.0, -2.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> grad_x, grad_dy = softgrad.entmax_double_backward(y, dy, v)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([ 0.1485, -0.1485,  0.    ]), array([-0.2835,  0.2835, -0.    ]))
    """
    of = library(y)
    return of.double_backward(of.entmax(alpha), y, dy, v, axis=axis, scale=scale)


@documented("entmax")
@with_vjp(entmax, entmax_vjp)
def entmax_with_vjp() -> None:
    """Entmax, and the function that takes ∂L/∂y to ∂L/∂x."""


@documented("entmax", masked="")
def entmax_alpha_vjp(
    y: ArrayLike, dy: ArrayLike, alpha: float = 1.5, *, axis: Axis = -1, where: Where = None
) -> Array:
    r"""∂L/∂α of ``y = entmax(scale * x, alpha)`` for each row, given y and ∂L/∂y.

    .. math:: \frac{\partial L}{\partial \alpha} = \sum_i dy_i\, g_i, \quad
        g = \frac{y - \tilde w}{(\alpha-1)^2} + \frac{h - \tilde w \sum_k h_k}{\alpha-1}

    with :math:`h = -y \log y`, :math:`w = y^{2-\alpha}` on the support and :math:`\tilde w = w / \sum w`.

    Returns
    -------
    numpy.ndarray
        One number for each row: the shape is that of `y` without the reduced axes.  Their sum is the
        gradient for an alpha that all rows share.

    Notes
    -----
    g is J ψ, J being the Jacobian of entmax and ``ψ = −(log y)²·(1 − eᵗ(1 − t))/t²`` with
    ``t = (α−1)·log y``, which is (log y)²/2 at α = 1 but for the sign.  What is computed is ⟨dx, ψ⟩ with
    ``dx = entmax_vjp(y, dy)``.

    *Error*: what that of dx makes of it, Σ|dx − dx*|∘|ψ|, and 4·eps·Σ|dx∘ψ| for each row (float64: 8·eps),
    over the support.

    *Memory*: the result, dx, and with a mask a copy of y.  A scale makes no difference: it is α's effect at
    the given y.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.entmax(np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 0.0]]))
    >>> softgrad.entmax_alpha_vjp(y, np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])).round(4)
    array([0.2485, 0.    ])
    """
    return library(y).alpha_vjp(y, dy, checks.alpha(alpha), axis=axis, where=where)
