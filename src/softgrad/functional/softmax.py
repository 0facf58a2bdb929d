"""softmax and its derivatives."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from ..checks import Array, Axis, Empty, Out, Where
from ..cpu import gate
from ..dispatch import library
from ..specs import SOFTMAX
from .descriptions import documented, with_vjp

SCALES = """float, or array_like
    The factor of the logits; an array has one for each row, with the axis at length 1."""


@documented("softmax", scale=SCALES)
def softmax(
    x: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float | ArrayLike = 1.0,
    empty: Empty = "zero",
    out: Out = None,
) -> Array:
    r"""Softmax of ``scale * x`` along an axis.

    .. math:: y_i = \exp(s x_i) / \sum_k \exp(s x_k)

    Notes
    -----
    *Error*: at most 2 ulp for float32 and float64 where y is a normal number, 0.51 ulp for float16 and
    bfloat16, for logits of any size.

    *Other arrays*: all functions return a `torch.Tensor` for one, as `softgrad.torch` does.  For an array on
    a CUDA device that has DLPack, CuPy's for one, they return one of its library: PyTorch, which must be
    installed, computes it on that device, where all arrays of the call must be.  For a dask.array.Array
    softmax, log_softmax, their vjp and jvp, logsumexp and entropy return one, of the same chunks, which may
    end along the axis; its blocks are made twice, and must be the same then (docs/distributed.md).

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.softmax(np.array([[0.0, 0.0], [1e308, -1e308]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    >>> softgrad.softmax([1.0, 2.0, np.nan], where=[True, True, False]).round(3)
    array([0.269, 0.731, 0.   ])
    >>> float(softgrad.softmax(3.0))
    1.0
    """
    if where is None and empty == "zero":
        y = gate.forward(gate.SOFTMAX, x, axis, scale, out)
        if y is not None:
            return y
    return library(x).forward(SOFTMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)


@documented("softmax", scale=SCALES)
def softmax_vjp(
    y: ArrayLike,
    dy: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float | ArrayLike = 1.0,
    mean: ArrayLike | None = None,
    return_mean: bool = False,
    out: Out = None,
) -> Any:
    r"""∂L/∂x of ``y = softmax(scale * x)``, given y and ∂L/∂y.

    .. math:: dx_i = s\, y_i \Bigl(dy_i - \frac{\sum_k y_k\, dy_k}{\sum_k y_k}\Bigr)

    Notes
    -----
    The Jacobian is ``diag(y) − y yᵀ``; its product with dy needs no matrix.  The division by Σy, which is 1
    but for rounding, makes a constant dy give 0.  For a y of `sink_softmax`, whose sum is
    not 1, that is wrong: use `sink_softmax_vjp`.

    *Error*: let :math:`m^* = \langle y, dy\rangle / \sum_k y_k` and :math:`dx^* = y \circ (dy - m^*)` be
    exact for the given, rounded `y` and `dy`, and η the smallest subnormal number; then

    .. math::
        |dx_i - dx^*_i| \le C\, eps\, (|dx^*_i| + y_i D) + \Bigl(1 + \frac{n\, y_i}{\sum_k y_k}\Bigr)
        \frac{\eta}{2}, \qquad D = \frac{\sum_k y_k\, |dy_k - m^*|}{\sum_k y_k},

    with C = 8 for float32 and 16 for float64; `scale` multiplies both sides.  float16 and bfloat16 are
    computed in float32 and rounded once: 0.51 ulp, and the bound of float32.  An offset of `dy` and a winner
    in `y` cost nothing; a constant `dy` gives exactly 0, unless a product y·dy is subnormal.
    docs/decisions.md proves a C that grows with the length of a sum; 8 and 16 are measured: the worst rows of
    the search are below 7 and 10.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.softmax(np.array([1.0, 2.0, 3.0]))
    >>> softgrad.softmax_vjp(y, np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.0819, -0.022 , -0.0599])

    A large offset of dy costs no digits; NaN spreads over its row; an empty row stays 0:

    >>> softgrad.softmax_vjp(y, np.array([1.0, 0.0, 0.0]) + 2.0**40).round(4)
    array([ 0.0819, -0.022 , -0.0599])
    >>> softgrad.softmax_vjp([[0.25, 0.75], [0.0, 0.0]], [[np.inf, 0.0], [np.nan, 0.0]])
    array([[nan, nan],
           [ 0.,  0.]])
    """
    if where is None and mean is None and not return_mean:
        result = gate.product(gate.SOFTMAX_VJP, y, dy, axis, scale, out)
        if result is not None:
            return result
    options: dict[str, Any] = {"axis": axis, "where": where, "scale": scale, "out": out}
    if mean is not None:
        dx = library(y).vjp_of_mean(y, dy, mean, **options)
        return (dx, mean) if return_mean else dx
    if return_mean:  # first, since `out` may be an input
        mean = library(y).mean(y, dy, axis=axis, where=where)
    dx = library(y).product(SOFTMAX, "vjp", y, dy, **options)
    return (dx, mean) if return_mean else dx


@documented("softmax", scale=SCALES)
def softmax_jvp(
    y: ArrayLike,
    dx: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float | ArrayLike = 1.0,
    out: Out = None,
) -> Array:
    """The change of ``y = softmax(scale * x)`` along a tangent dx of x, given y.

    The Jacobian is symmetric: this is `softmax_vjp` (y, dx), with its formula and error.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.softmax(np.array([1.0, 2.0, 3.0]))
    >>> softgrad.softmax_jvp(y, np.array([0.0, 0.0, 1.0])).round(4)
    array([-0.0599, -0.1628,  0.2227])
    """
    if where is None:
        result = gate.product(gate.SOFTMAX_VJP, y, dx, axis, scale, out)
        if result is not None:
            return result
    return library(y).product(SOFTMAX, "jvp", y, dx, axis=axis, where=where, scale=scale, out=out)


@documented("softmax", scale=SCALES)
def softmax_double_backward(
    y: ArrayLike, dy: ArrayLike, v: ArrayLike, *, axis: Axis = -1, scale: float | ArrayLike = 1.0
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `softmax_vjp` (y, dy)⟩ with respect to x and dy.

    With :math:`J = \mathrm{diag}(y) - y y^\top`,

    .. math::
        grad_{dy} &= s\, J v \\
        grad_x &= s^2 J \bigl(v \circ (dy - \langle y, dy\rangle) - dy\, \langle y, v\rangle\bigr)

    Notes
    -----
    *Error*: grad_dy as `softmax_vjp`.  With :math:`v^\circ` and :math:`dy^\circ` for v and dy less their
    means, :math:`p = v^\circ \circ dy^\circ`, and D as there,

    .. math::
        |grad_{x,i} - grad^*_{x,i}| \le C\, eps\, y_i \Bigl(|p_i| + \frac{\langle y, |p|\rangle}{\sum_k y_k}
        + |v^\circ_i|\, D(dy) + |dy^\circ_i|\, D(v) + D(dy)\, D(v)\Bigr)

    and what underflow takes, with the same C; `scale` counts twice.  An offset of dy or v costs nothing.

    One NaN or inf in `v` makes its row NaN in both, one in `dy`, or a p that overflows, in grad_x.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.softmax(np.array([1.0, 2.0, 3.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> grad_x, grad_dy = softgrad.softmax_double_backward(y, dy, v)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([-0.0181, -0.0112,  0.0293]), array([-0.022 ,  0.1848, -0.1628]))
    """
    return library(y).double_backward(SOFTMAX, y, dy, v, axis=axis, scale=scale)


@documented("softmax")
def softmax_vjp_hessian_diagonal(
    y: ArrayLike,
    dy: ArrayLike,
    h: ArrayLike | None = None,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""The diagonal of the Hessian of L(softmax(scale·x)), given y, ∂L/∂y and the diagonal h of ∂²L/∂y².

    .. math:: \frac{∂^2 L}{∂x_i^2} = s\, (1 - 2 y_i)\, dx_i
        + s^2 y_i^2 \Bigl(h_i (1 - 2 y_i) + \sum_k h_k y_k^2\Bigr)

    where dx is `softmax_vjp` (y, dy).  Boosting libraries ask for it beside the gradient.  ∂²L/∂y² has to be
    diagonal, as that of a sum over the classes is; it is 0 where L is linear in y (a matrix of costs).

    Returns
    -------
    numpy.ndarray
        Of the shape of `y`; `out` if that was given.  It may have any sign: boosting takes
        ``np.maximum(diagonal, floor)``.

    Notes
    -----
    *Error*: that of dx, multiplied by \|s (1 − 2y)\|, and 4·eps of the second term's parts.  It is computed
    in O(n), without a Jacobian.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y, cost = softgrad.softmax(np.array([1.0, 2.0, 3.0])), np.array([0.0, 1.0, 4.0])
    >>> softgrad.softmax_vjp_hessian_diagonal(y, cost).round(4)
    array([-0.2145, -0.2381, -0.2406])
    """
    return library(y).hessian_diagonal(y, dy, h, axis=axis, where=where, scale=scale, out=out)


@documented("softmax", scale=SCALES)
@with_vjp(softmax, softmax_vjp)
def softmax_with_vjp() -> None:
    """Softmax, and the function that takes ∂L/∂y to ∂L/∂x."""
