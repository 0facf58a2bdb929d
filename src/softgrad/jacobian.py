"""The Jacobian of softmax as a matrix."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from . import checks
from .checks import Array, Axis
from .functional import softmax_vjp


def softmax_jacobian(y: npt.ArrayLike, *, axis: Axis = -1) -> Array:
    r"""The dense Jacobian of softmax, given its result: n² numbers for each row of n.

    .. math:: J_{ij} = \partial y_i / \partial x_j = y_i \delta_{ij} - y_i y_j / \sum_k y_k

    It is for looking at, and for tests: to multiply with it, `softmax_vjp` takes n numbers and steps.

    Parameters
    ----------
    y : array_like
        What softmax put out.
    axis : int, tuple of int or None
        The axis along which y sums to 1.  Several are taken as one, in the order given.

    Returns
    -------
    numpy.ndarray
        J, of shape ``batch + (n, n)``: the axes of `y` that are left, and those of the matrix.

    Raises
    ------
    TypeError, numpy.exceptions.AxisError
        As for `softmax_vjp`.

    Notes
    -----
    Each row and column of J is the vjp of a unit vector, and has the error of `softmax_vjp`.  Memory: the
    result.

    Examples
    --------
    >>> import softgrad
    >>> softgrad.softmax_jacobian([0.25, 0.75])
    array([[ 0.1875, -0.1875],
           [-0.1875,  0.1875]])
    """
    rows = rows_of(checks.floating(y, "y"), axis)
    n = rows.shape[-1]
    result = np.zeros((*rows.shape, n), rows.dtype)
    result[..., np.arange(n), np.arange(n)] = 1
    return softmax_vjp(np.broadcast_to(rows[..., None, :], result.shape), result, out=result)


def rows_of(y: Array, axis: Axis) -> Array:
    """`y` with the axes that are left first, and those to reduce as one, the last; a view if there is one."""
    axes = checks.axes(axis, y.ndim)
    rows = y.reshape(1) if y.ndim == 0 else np.moveaxis(y, axes, range(-len(axes), 0))
    batch, n = rows.shape[: rows.ndim - len(axes)], math.prod(rows.shape[rows.ndim - len(axes) :])
    return rows.reshape(*batch, n)
