"""softmax in segments of an axis, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from numpy.typing import ArrayLike

from ..checks import Array, Out
from ..dispatch import library
from .descriptions import documented

WORDS = {"axes": "int", "rows": "The axis that is cut into segments, which are its rows."}


@documented("segment_softmax", **WORDS)
def segment_softmax(
    x: ArrayLike, offsets: ArrayLike, *, axis: int = 0, scale: float = 1.0, out: Out = None
) -> Array:
    r"""Softmax of ``scale * x`` within each of the segments that an axis is cut into.

    .. math:: y_i = \exp(s x_i) / \sum_k \exp(s x_k), \quad k \text{ in the segment of } i

    The segments are runs of rows, of any lengths: the edges of a graph sorted by the node that they point
    to, say, or the tokens of sentences put behind each other.

    Notes
    -----
    *Error*: as `softmax`.  A segment with nothing in it but −inf gives 0.

    *Memory*: the result, 10 bytes for each segment, and a megabyte a thread; nothing is padded.  In place,
    for 16-bit types and where no elements are neighbours in memory, also three times that of the longest
    segment, with up to 256 numbers that lie side by side.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.segment_softmax(np.array([0.0, 0.0, 5.0, 1.0, 1.0, 1.0, 1.0]), [0, 2, 3, 3, 7])
    array([0.5 , 0.5 , 1.  , 0.25, 0.25, 0.25, 0.25])
    """
    return library(x).segment_softmax(x, offsets, axis=axis, scale=scale, out=out)


@documented("segment_softmax", **WORDS)
def segment_softmax_vjp(
    y: ArrayLike, dy: ArrayLike, offsets: ArrayLike, *, axis: int = 0, scale: float = 1.0, out: Out = None
) -> Array:
    r"""∂L/∂x of ``y = segment_softmax(scale * x, offsets)``, given y and ∂L/∂y.

    .. math::
        dx_i = s\, y_i \Bigl(dy_i - \frac{\sum_k y_k\, dy_k}{\sum_k y_k}\Bigr),
        \quad k \text{ in the segment of } i

    Notes
    -----
    *Error*: as `softmax_vjp`, in each segment, whatever lies beside it: a segment gives the same bits alone.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> offsets = [0, 2, 5]
    >>> y = softgrad.segment_softmax(np.array([1.0, 1.0, 1.0, 2.0, 3.0]), offsets)
    >>> softgrad.segment_softmax_vjp(y, np.array([1.0, 0.0, 1.0, 0.0, 0.0]), offsets).round(4)
    array([ 0.25  , -0.25  ,  0.0819, -0.022 , -0.0599])
    """
    return library(y).segment_product("vjp", y, dy, offsets, axis=axis, scale=scale, out=out)


@documented("segment_softmax", **WORDS)
def segment_softmax_jvp(
    y: ArrayLike, dx: ArrayLike, offsets: ArrayLike, *, axis: int = 0, scale: float = 1.0, out: Out = None
) -> Array:
    """The change of ``y = segment_softmax(scale * x, offsets)`` along a tangent dx of x, given y.

    The Jacobian is symmetric: this is `segment_softmax_vjp` (y, dx), with its formula and error.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.segment_softmax(np.array([1.0, 1.0, 5.0]), [0, 2, 3])
    >>> softgrad.segment_softmax_jvp(y, np.array([1.0, 0.0, 1.0]), [0, 2, 3])
    array([ 0.25, -0.25,  0.  ])
    """
    return library(y).segment_product("jvp", y, dx, offsets, axis=axis, scale=scale, out=out)


@documented("segment_softmax", **WORDS)
def segment_softmax_with_vjp(
    x: ArrayLike, offsets: ArrayLike, *, axis: int = 0, scale: float = 1.0, out: Out = None
) -> tuple[Array, Callable[..., Array]]:
    """Softmax within segments, and the function that takes ∂L/∂y to ∂L/∂x.

    Notes
    -----
    The vjp keeps `offsets`, too.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y, vjp = softgrad.segment_softmax_with_vjp(np.array([1.0, 1.0, 5.0]), [0, 2, 3])
    >>> vjp(np.array([1.0, 0.0, 1.0]))
    array([ 0.25, -0.25,  0.  ])
    """
    y = segment_softmax(x, offsets, axis=axis, scale=scale, out=out)
    return y, partial(segment_softmax_vjp, y, offsets=offsets, axis=axis, scale=scale)
