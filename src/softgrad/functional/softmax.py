"""softmax."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from ..checks import Array, Axis, Empty
from ..cpu import gate
from ..specs import SOFTMAX
from .dispatch import library


def softmax(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> Array:
    r"""Softmax of ``scale * x`` along an axis.

    .. math:: y_i = \exp(s x_i) / \sum_k \exp(s x_k)

    Parameters
    ----------
    x : array_like
        Logits, of any shape and memory layout.  float16, bfloat16 (``ml_dtypes``), float32 and float64 are
        computed and returned as what they are; integers become float64.  An entry for which ``scale * x`` is
        −inf has no part.
    axis : int, tuple of int or None
        The axis or axes along which the result sums to 1; None is all of them.
    where : array_like of bool, optional
        Broadcasts to the shape of `x`.  What is False is not there: its result is 0 whatever `x` holds,
        NaN included, and nothing else depends on it.  (A row that is all False is an empty one.)
    scale : float
        A finite number.
    empty : {"zero", "nan", "raise"}
        What a row gives that has nothing in it (all −inf, or all masked).
    out : numpy.ndarray, optional
        Where to write the result: any writeable array of the shape and dtype of the result, strided or
        not.  It may be `x` itself.

    Returns
    -------
    numpy.ndarray
        y, of the shape of `x`; `out` if that was given.  A 0-d `x` gives a NumPy scalar.

    Raises
    ------
    TypeError
        `x` is boolean, complex, of objects, a masked array, or another library's on the CPU (but PyTorch's);
        `where` is not boolean.
    ValueError
        `where` does not broadcast; `scale` is not finite; `out` does not fit, is read-only, or overlaps `x`
        in part; ``empty="raise"`` and there is an empty row.
    numpy.exceptions.AxisError
        `x` has no such axis.

    Notes
    -----
    *Error*: at most 2 ulp for float32 and float64 where y is a normal number, 0.51 ulp for float16 and
    bfloat16, for logits of any size.  What rounding takes from ``x − max`` is carried into the exponential,
    and the sum of the exponentials is kept in two parts.

    *Memory*: the result; with `out` nothing that grows with the array.  Scratch memory is at most 1 MB a
    thread, or three rows if those are longer, whatever the layout.

    *Other arrays*: of a `torch.Tensor` the result is one, as of `softgrad.torch`.  Of an array on a CUDA
    device that has DLPack, CuPy's for one, it is an array of the same library: PyTorch, which must be
    installed, computes it on that device, and `where` and `out` are to be there as well.  So it is with all
    functions.

    A row with NaN, or with +inf, is all NaN.  An axis of length 0 gives an empty result.  A 0-d array counts
    as a row of one number (axis −1 or None).

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
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
    return library(x).maps.forward(SOFTMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)


def softmax_vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""∂L/∂x of ``y = softmax(scale * x)``, given y and ∂L/∂y.

    .. math:: dx_i = s\, y_i \Bigl(dy_i - \frac{\sum_k y_k\, dy_k}{\sum_k y_k}\Bigr)

    Parameters
    ----------
    y : array_like
        What softmax put out.
    dy : array_like
        The gradient of the loss with respect to y, of the same shape.  Where its dtype is another than
        that of `y`, both are converted to the one that NumPy promotes them to.
    axis, where, scale
        As they were given to `softmax`.
    out : numpy.ndarray, optional
        Where to write the result, as for `softmax`; it may be `y` or `dy` itself.

    Returns
    -------
    numpy.ndarray
        dx, of the shape of `y`; `out` if that was given.  It is exactly 0 where `where` is False, and in rows
        whose y is 0 throughout, whatever `dy` holds there.  0-d `y` and `dy` give a NumPy scalar.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax`; also ValueError if `y` and `dy` differ in shape (nothing is broadcast).

    Notes
    -----
    *Formula*: the Jacobian of softmax is ``diag(y) − y yᵀ``; its product with dy needs no matrix.  The
    division by Σy, which is 1 but for rounding, makes a constant dy give 0.

    *Error*: let :math:`m^* = \langle y, dy\rangle / \sum_k y_k` and :math:`dx^* = y \circ (dy - m^*)` be
    exact for the given, rounded `y` and `dy`, and let D be the average distance of `dy` from its mean.  Then,
    with η the smallest subnormal number,

    .. math::
        |dx_i - dx^*_i| \le C\, eps\, (|dx^*_i| + y_i D) + \Bigl(1 + \frac{n\, y_i}{\sum_k y_k}\Bigr)
        \frac{\eta}{2}, \qquad D = \frac{\sum_k y_k\, |dy_k - m^*|}{\sum_k y_k},

    with C = 8 for float32 and 16 for float64; `scale` multiplies both sides.  float16 and bfloat16 are
    computed in float32 and rounded once: 0.51 ulp, and the bound of float32.

    In words: dx is exact for a `dy` whose distances from its mean were changed by a few eps of themselves and
    of their average.  An offset of `dy` and a winner in `y` cost nothing.  A constant `dy` gives exactly 0,
    unless a product y·dy is subnormal.

    docs/decisions.md proves a C that depends on the number of roundings in a sum alone, not on the values.
    That 8 and 16 suffice is measured: the worst rows of the search are below 7 and 10.

    *Memory*: as for `softmax`.  Of the forward pass only `y` has to be kept.

    One NaN or inf in `dy` makes its whole row NaN, also where y is 0.  A row whose y is 0 throughout stays 0.
    What `where` masks has no part.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
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
    if where is None:
        result = gate.product(gate.SOFTMAX_VJP, y, dy, axis, scale, out)
        if result is not None:
            return result
    return library(y).maps.vjp(SOFTMAX, y, dy, axis=axis, where=where, scale=scale, out=out)


def softmax_jvp(
    y: npt.ArrayLike,
    dx: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""The change of ``y = softmax(scale * x)`` along a tangent dx of x, given y.

    .. math:: dy_i = s\, y_i \Bigl(dx_i - \frac{\sum_k y_k\, dx_k}{\sum_k y_k}\Bigr)

    The Jacobian is symmetric, so this is the product of `softmax_vjp`, whose docstring describes errors,
    precision and memory.

    Parameters
    ----------
    y, dx : array_like
        What softmax put out, and the tangent.
    axis, where, scale, out
        As for `softmax_vjp`.

    Returns
    -------
    numpy.ndarray
        dy, of the shape of `y`; 0-d `y` and `dx` give a NumPy scalar.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.softmax(np.array([1.0, 2.0, 3.0]))
    >>> softgrad.softmax_jvp(y, np.array([0.0, 0.0, 1.0])).round(4)
    array([-0.0599, -0.1628,  0.2227])
    """
    if where is None:
        result = gate.product(gate.SOFTMAX_VJP, y, dx, axis, scale, out)
        if result is not None:
            return result
    return library(y).maps.jvp(SOFTMAX, y, dx, axis=axis, where=where, scale=scale, out=out)


def softmax_double_backward(
    y: npt.ArrayLike, dy: npt.ArrayLike, v: npt.ArrayLike, *, axis: Axis = -1, scale: float = 1.0
) -> tuple[Array, Array]:
    r"""The gradients of ⟨v, `softmax_vjp` (y, dy)⟩ with respect to x and dy.

    With :math:`J = \mathrm{diag}(y) - y y^\top`,

    .. math::
        grad_{dy} &= s\, J v \\
        grad_x &= s^2 J \bigl(v \circ (dy - \langle y, dy\rangle) - dy\, \langle y, v\rangle\bigr)

    Parameters
    ----------
    y, dy : array_like
        As given to `softmax_vjp`.
    v : array_like
        The gradient of the loss with respect to the result of `softmax_vjp`.
    axis, scale
        As for `softmax_vjp`.

    Returns
    -------
    grad_x, grad_dy : numpy.ndarray
        Of the shape of `y`; both are exactly 0 in rows whose y is 0 throughout.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax_vjp`.

    Notes
    -----
    *Error*: grad_dy as `softmax_vjp`.  With :math:`v^\circ` and :math:`dy^\circ` for v and dy less their
    means, :math:`p = v^\circ \circ dy^\circ`, and D as there,

    .. math::
        |grad_{x,i} - grad^*_{x,i}| \le C\, eps\, y_i \Bigl(|p_i| + \frac{\langle y, |p|\rangle}{\sum_k y_k}
        + |v^\circ_i|\, D(dy) + |dy^\circ_i|\, D(v) + D(dy)\, D(v)\Bigr)

    and what underflow takes, with the same C; `scale` counts twice.  An offset of dy or v costs nothing.

    *Memory*: the two results, and scratch memory of at most 1 MB a thread, or four rows if those are longer.

    One NaN or inf in `dy` makes its row of grad_x NaN, one in `v` its row of both.  So does p where it
    overflows.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.softmax(np.array([1.0, 2.0, 3.0]))
    >>> dy, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    >>> grad_x, grad_dy = softgrad.softmax_double_backward(y, dy, v)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([-0.0181, -0.0112,  0.0293]), array([-0.022 ,  0.1848, -0.1628]))
    """
    return library(y).maps.double_backward(SOFTMAX, y, dy, v, axis=axis, scale=scale)


def softmax_with_vjp(
    x: npt.ArrayLike,
    *,
    axis: Axis = -1,
    where: npt.ArrayLike | None = None,
    scale: float = 1.0,
    empty: Empty = "zero",
    out: Array | None = None,
) -> tuple[Array, Callable[..., Array]]:
    """Softmax, and the function that takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    x, axis, where, scale, empty, out
        As for `softmax`.

    Returns
    -------
    y : numpy.ndarray
    vjp : callable
        ``vjp(dy, *, out=None)`` is ``softmax_vjp(y, dy, ...)`` with the same options.  It keeps y, not a
        copy: y must not be changed before its last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax`; from ``vjp`` as for `softmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y, vjp = softgrad.softmax_with_vjp(np.array([1.0, 2.0, 3.0]), scale=0.5)
    >>> vjp(np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.0758, -0.0286, -0.0472])
    """
    return library(x).maps.with_vjp(SOFTMAX, x, axis=axis, where=where, scale=scale, empty=empty, out=out)
