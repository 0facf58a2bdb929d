"""softmax in segments."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt

from ..checks import Array
from .dispatch import library


def segment_softmax(
    x: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    axis: int = 0,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""Softmax of ``scale * x`` within each of the segments that an axis is cut into.

    .. math:: y_i = \exp(s x_i) / \sum_k \exp(s x_k), \quad k \text{ in the segment of } i

    The segments are runs of rows, of any lengths: the edges of a graph sorted by the node that they point
    to, say, or the tokens of sentences put behind each other.

    Parameters
    ----------
    x : array_like
        Logits, of any shape and memory layout.  float16, bfloat16 (``ml_dtypes``), float32 and float64 are
        computed and returned as what they are; integers become float64.  An entry for which ``scale * x`` is
        −inf has no part.
    offsets : array_like of int
        Segment s is ``offsets[s]`` … ``offsets[s + 1] - 1`` along the axis.  These numbers, one more than
        there are segments, ascend from 0 to the size of the axis; two that are equal make an empty segment.
        (The ``indptr`` of a sparse matrix in CSR format is of this form.)
    axis : int
        The axis that is cut into segments.  All others are kept.
    scale : float
        A finite number.
    out : numpy.ndarray, optional
        Where to write the result: any writeable array of the shape and dtype of the result, strided or
        not.  It may be `x` itself.

    Returns
    -------
    numpy.ndarray
        y, of the shape of `x`; `out` if that was given.  A segment with nothing in it but −inf gives 0.

    Raises
    ------
    TypeError
        `x` is boolean, complex, of objects, a masked array, or another library's that `softmax` does not
        take; `offsets` are no whole numbers; `axis` is None or a tuple.
    ValueError
        `offsets` do not ascend, do not begin with 0 or end with the size of the axis, or are not 1-d; `scale`
        is not finite; `out` does not fit, is read-only, or overlaps `x` in part.
    numpy.exceptions.AxisError
        `x` has no such axis.

    See Also
    --------
    softmax : along whole axes.

    Notes
    -----
    *Error*: as `softmax`: at most 2 ulp for float32 and float64 where y is a normal number, 0.51 ulp for
    float16 and bfloat16, for logits of any size.

    *Memory*: the result, 10 bytes for each segment, and a megabyte a thread; nothing is padded.  In place,
    for 16-bit types and where no elements are neighbours in memory, also three times that of the longest
    segment, with up to 256 numbers that lie side by side.

    NaN and +inf make their segment NaN, and no other.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> softgrad.segment_softmax(np.array([0.0, 0.0, 5.0, 1.0, 1.0, 1.0, 1.0]), [0, 2, 3, 3, 7])
    array([0.5 , 0.5 , 1.  , 0.25, 0.25, 0.25, 0.25])
    """
    return library(x).segments.softmax(x, offsets, axis=axis, scale=scale, out=out)


def segment_softmax_vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    axis: int = 0,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""∂L/∂x of ``y = segment_softmax(scale * x, offsets)``, given y and ∂L/∂y.

    .. math::
        dx_i = s\, y_i \Bigl(dy_i - \frac{\sum_k y_k\, dy_k}{\sum_k y_k}\Bigr),
        \quad k \text{ in the segment of } i

    Parameters
    ----------
    y : array_like
        What `segment_softmax` put out.
    dy : array_like
        The gradient of the loss with respect to y, of the same shape.  Where its dtype is another than
        that of `y`, both are converted to the one that NumPy promotes them to.
    offsets, axis, scale
        As they were given to `segment_softmax`.
    out : numpy.ndarray, optional
        Where to write the result, as for `segment_softmax`; it may be `y` or `dy` itself.

    Returns
    -------
    numpy.ndarray
        dx, of the shape of `y`; `out` if that was given.  Exactly 0 in segments whose y is 0 throughout,
        whatever `dy` holds there.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `segment_softmax`; also ValueError if `y` and `dy` differ in shape (nothing is broadcast).

    Notes
    -----
    *Error*: as `softmax_vjp`, in each segment, whatever lies beside it: a segment gives the same bits alone.

    *Memory*: as `segment_softmax`.  Of the forward pass only `y` has to be kept.

    NaN and inf in `dy` make their segment NaN, also where y is 0 (but is not 0 throughout).

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> offsets = [0, 2, 5]
    >>> y = softgrad.segment_softmax(np.array([1.0, 1.0, 1.0, 2.0, 3.0]), offsets)
    >>> softgrad.segment_softmax_vjp(y, np.array([1.0, 0.0, 1.0, 0.0, 0.0]), offsets).round(4)
    array([ 0.25  , -0.25  ,  0.0819, -0.022 , -0.0599])
    """
    return library(y).segments.product(y, dy, "dy", offsets, axis=axis, scale=scale, out=out)


def segment_softmax_jvp(
    y: npt.ArrayLike,
    dx: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    axis: int = 0,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    r"""The change of ``y = segment_softmax(scale * x, offsets)`` along a tangent dx of x, given y.

    .. math::
        dy_i = s\, y_i \Bigl(dx_i - \frac{\sum_k y_k\, dx_k}{\sum_k y_k}\Bigr),
        \quad k \text{ in the segment of } i

    The Jacobian is symmetric, so this is the same product as `segment_softmax_vjp`, which has its arguments,
    errors, precision and use of memory described.

    Parameters
    ----------
    y, dx : array_like
        What `segment_softmax` put out, and the tangent.
    offsets, axis, scale, out
        As for `segment_softmax_vjp`.

    Returns
    -------
    numpy.ndarray
        dy, of the shape of `y`.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `segment_softmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y = softgrad.segment_softmax(np.array([1.0, 1.0, 5.0]), [0, 2, 3])
    >>> softgrad.segment_softmax_jvp(y, np.array([1.0, 0.0, 1.0]), [0, 2, 3])
    array([ 0.25, -0.25,  0.  ])
    """
    return library(y).segments.product(y, dx, "dx", offsets, axis=axis, scale=scale, out=out)


def segment_softmax_with_vjp(
    x: npt.ArrayLike,
    offsets: npt.ArrayLike,
    *,
    axis: int = 0,
    scale: float = 1.0,
    out: Array | None = None,
) -> tuple[Array, Callable[..., Array]]:
    """Softmax within segments, and the function that takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    x, offsets, axis, scale, out
        As for `segment_softmax`.

    Returns
    -------
    y : numpy.ndarray
    vjp : callable
        ``vjp(dy, *, out=None)`` is ``segment_softmax_vjp(y, dy, offsets, ...)`` with the same options.  It
        keeps y and `offsets`, not copies: neither must be changed before its last call.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `segment_softmax`; from ``vjp`` as for `segment_softmax_vjp`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad
    >>> y, vjp = softgrad.segment_softmax_with_vjp(np.array([1.0, 1.0, 5.0]), [0, 2, 3])
    >>> vjp(np.array([1.0, 0.0, 1.0]))
    array([ 0.25, -0.25,  0.  ])
    """
    y = library(x).segments.softmax(x, offsets, axis=axis, scale=scale, out=out)

    def vjp(dy: npt.ArrayLike, *, out: Array | None = None) -> Array:
        return library(y).segments.product(y, dy, "dy", offsets, axis=axis, scale=scale, out=out)

    return y, vjp
