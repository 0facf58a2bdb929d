"""The functions of an axis that is cut into segments: softmax, log_softmax, logsumexp, entropy."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from ..checks import Array, Out, Where
from ..dispatch import library
from ..specs import ENTROPY, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from .descriptions import documented, with_vjp

WORDS = {"axes": "int", "rows": "The axis that is cut into segments, which are its rows."}
Ids = ArrayLike | None


def keywords(segment_ids: Ids, num_segments: int | None, axis: int, **where: Where) -> dict[str, Any]:
    return {"segment_ids": segment_ids, "num_segments": num_segments, "axis": axis, **where}


@documented("segment_softmax", **WORDS)
def segment_softmax(
    x: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""Softmax of ``scale * x`` within each of the segments that an axis is cut into.

    .. math:: y_i = \exp(s x_i) / \sum_k \exp(s x_k), \quad k \text{ in the segment of } i

    The segments are runs of rows, of any lengths: the edges of a graph sorted by the node that they point
    to, say, or the tokens of sentences put behind each other.  Or `segment_ids` has the number of each row's
    segment.

    Notes
    -----
    *Error*: as `softmax`.  A segment with nothing in it but −inf gives 0.

    *Memory*: the result, 10 bytes for each segment, and a megabyte a thread; nothing is padded.  In place,
    for 16-bit types and where no elements are neighbours in memory, also three times that of the longest
    segment, with up to 256 numbers that lie side by side.  A mask, and ids that are not sorted, take a copy
    of each array.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.segment_softmax(np.array([0.0, 0.0, 5.0, 1.0, 1.0, 1.0, 1.0]), [0, 2, 3, 3, 7])
    array([0.5 , 0.5 , 1.  , 0.25, 0.25, 0.25, 0.25])
    >>> softgrad.segment_softmax(np.array([0.0, 5.0, 0.0]), segment_ids=[1, 0, 1])
    array([0.5, 1. , 0.5])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(x).segment_forward(SOFTMAX, x, offsets, scale=scale, out=out, **options)


@documented("segment_softmax", **WORDS)
def segment_softmax_vjp(
    y: ArrayLike,
    dy: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
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
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(y).segment_product(SOFTMAX, "vjp", y, dy, offsets, scale=scale, out=out, **options)


@documented("segment_softmax", **WORDS)
def segment_softmax_jvp(
    y: ArrayLike,
    dx: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
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
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(y).segment_product(SOFTMAX, "jvp", y, dx, offsets, scale=scale, out=out, **options)


@documented("segment_softmax", **WORDS)
def segment_softmax_double_backward(
    y: ArrayLike,
    dy: ArrayLike,
    v: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    """The gradients of ⟨v, `segment_softmax_vjp` (y, dy)⟩ with respect to x and dy.

    The formulas are those of `softmax_double_backward`, within each segment.

    Notes
    -----
    *Error*: as `softmax_double_backward`, in each segment.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> offsets = [0, 2, 3]
    >>> y = softgrad.segment_softmax(np.array([1.0, 2.0, 5.0]), offsets)
    >>> dy, v = np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0])
    >>> grad_x, grad_dy = softgrad.segment_softmax_double_backward(y, dy, v, offsets)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([-0.0909,  0.0909,  0.    ]), array([-0.1966,  0.1966,  0.    ]))
    """
    options = keywords(segment_ids, num_segments, axis)
    return library(y).segment_double_backward(SOFTMAX, y, dy, v, offsets, scale=scale, **options)


@documented("segment_softmax", **WORDS)
@with_vjp(segment_softmax, segment_softmax_vjp)
def segment_softmax_with_vjp() -> None:
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


@documented("segment_log_softmax", **WORDS)
def segment_log_softmax(
    x: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""log_softmax of ``scale * x`` within each of the segments that an axis is cut into.

    .. math:: y_i = s x_i - \log \sum_k \exp(s x_k), \quad k \text{ in the segment of } i

    Log-probabilities of ragged rows: where the logarithm of `segment_softmax` is −inf, this is not.

    Notes
    -----
    *Error*: as `log_softmax`.  *Memory*: as `segment_softmax`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.segment_log_softmax(np.array([0.0, -2000.0, 1.0]), [0, 2, 3])
    array([    0., -2000.,     0.])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(x).segment_forward(LOG_SOFTMAX, x, offsets, scale=scale, out=out, **options)


@documented("segment_log_softmax", **WORDS)
def segment_log_softmax_vjp(
    y: ArrayLike,
    dy: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""∂L/∂x of ``y = segment_log_softmax(scale * x, offsets)``, given y and ∂L/∂y.

    .. math:: dx_i = s\, \bigl(dy_i - e^{y_i} \sum_k dy_k\bigr), \quad k \text{ in the segment of } i

    Notes
    -----
    *Error*: as `log_softmax_vjp`, in each segment.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.segment_log_softmax(np.array([0.0, -2000.0, 1.0]), [0, 2, 3])
    >>> softgrad.segment_log_softmax_vjp(y, np.array([0.0, 1.0, 1.0]), [0, 2, 3])
    array([-1.,  1.,  0.])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(y).segment_product(LOG_SOFTMAX, "vjp", y, dy, offsets, scale=scale, out=out, **options)


@documented("segment_log_softmax", **WORDS)
def segment_log_softmax_jvp(
    y: ArrayLike,
    dx: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""The change of ``y = segment_log_softmax(scale * x, offsets)`` along a tangent dx of x, given y.

    .. math:: dy_i = s\, \bigl(dx_i - \sum_k e^{y_k} dx_k\bigr), \quad k \text{ in the segment of } i

    Notes
    -----
    *Error*: as `log_softmax_jvp`, in each segment.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y = softgrad.segment_log_softmax(np.array([0.0, 0.0, 1.0]), [0, 2, 3])
    >>> softgrad.segment_log_softmax_jvp(y, np.array([1.0, 0.0, 1.0]), [0, 2, 3])
    array([ 0.5, -0.5,  0. ])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(y).segment_product(LOG_SOFTMAX, "jvp", y, dx, offsets, scale=scale, out=out, **options)


@documented("segment_log_softmax", **WORDS)
def segment_log_softmax_double_backward(
    y: ArrayLike,
    dy: ArrayLike,
    v: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    """The gradients of ⟨v, `segment_log_softmax_vjp` (y, dy)⟩ with respect to x and dy.

    The formulas are those of `log_softmax_double_backward`, within each segment.

    Notes
    -----
    *Error*: as `log_softmax_double_backward`, in each segment.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> offsets = [0, 2, 3]
    >>> y = softgrad.segment_log_softmax(np.array([1.0, 2.0, 5.0]), offsets)
    >>> dy, v = np.array([1.0, 0.0, -1.0]), np.array([0.0, 1.0, 1.0])
    >>> grad_x, grad_dy = softgrad.segment_log_softmax_double_backward(y, dy, v, offsets)
    >>> grad_x.round(4), grad_dy.round(4)
    (array([ 0.1966, -0.1966,  0.    ]), array([-0.7311,  0.2689,  0.    ]))
    """
    options = keywords(segment_ids, num_segments, axis)
    return library(y).segment_double_backward(LOG_SOFTMAX, y, dy, v, offsets, scale=scale, **options)


@documented("segment_log_softmax", **WORDS)
@with_vjp(segment_log_softmax, segment_log_softmax_vjp)
def segment_log_softmax_with_vjp() -> None:
    """log_softmax within segments, and the function that takes ∂L/∂y to ∂L/∂x.

    Notes
    -----
    The vjp keeps `offsets`, too.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> y, vjp = softgrad.segment_log_softmax_with_vjp(np.array([0.0, 0.0, 1.0]), [0, 2, 3])
    >>> vjp(np.array([1.0, 0.0, 1.0]))
    array([ 0.5, -0.5,  0. ])
    """


@documented("segment_logsumexp", **WORDS)
def segment_logsumexp(
    x: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
) -> Array:
    r"""log Σ exp(scale·x) of each of the segments that an axis is cut into.

    .. math:: \log \sum_k \exp(s x_k), \quad k \text{ in the segment}

    Returns
    -------
    y : numpy.ndarray
        One number for each segment: the shape of `x`, with the axis as long as there are segments.
        −inf for one with nothing in it.

    Notes
    -----
    *Error*: as for whole rows.  *Memory*: a float64 for each segment; a mask, and ids that are not sorted,
    take a copy of `x`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.segment_logsumexp(np.array([0.0, 0.0, 10.0]), [0, 2, 3, 3]).round(4)
    array([ 0.6931, 10.    ,    -inf])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(x).segment_reduce(LOGSUMEXP, x, offsets, scale=scale, **options)


@documented("segment_logsumexp", **WORDS, kept="x", result="its result, of its shape")
def segment_logsumexp_vjp(
    x: ArrayLike,
    dy: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""∂L/∂x of ``segment_logsumexp(scale * x, offsets)``, given x and one dy for each segment.

    .. math:: dx_i = s\, dy\, p_i, \quad p = \mathrm{softmax}(s x) \text{ in the segment of } i

    Notes
    -----
    *Error*: as `logsumexp_vjp`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.segment_logsumexp_vjp(np.array([0.0, 0.0, 1000.0]), np.array([1.0, 2.0]), [0, 2, 3])
    array([0.5, 0.5, 2. ])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(x).segment_reduce_vjp(LOGSUMEXP, x, dy, offsets, scale=scale, out=out, **options)


@documented("segment_entropy", **WORDS)
def segment_entropy(
    x: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
) -> Array:
    r"""The entropy of softmax of ``scale * x`` in each of the segments that an axis is cut into.

    .. math:: -\sum_k p_k \log p_k, \quad p = \mathrm{softmax}(s x) \text{ in the segment}

    Returns
    -------
    y : numpy.ndarray
        One number for each segment: the shape of `x`, with the axis as long as there are segments.
        0 for one with nothing in it.

    Notes
    -----
    *Error*: as for whole rows.  *Memory*: a float64 for each segment; a mask, and ids that are not sorted,
    take a copy of `x`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.segment_entropy(np.array([0.0, 0.0, 0.0, -2000.0]), [0, 2, 4]).round(4)
    array([0.6931, 0.    ])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(x).segment_reduce(ENTROPY, x, offsets, scale=scale, **options)


@documented("segment_entropy", **WORDS, kept="x", result="its result, of its shape")
def segment_entropy_vjp(
    x: ArrayLike,
    dy: ArrayLike,
    offsets: Ids = None,
    *,
    segment_ids: Ids = None,
    num_segments: int | None = None,
    axis: int = 0,
    where: Where = None,
    scale: float = 1.0,
    out: Out = None,
) -> Array:
    r"""∂L/∂x of ``segment_entropy(scale * x, offsets)``, given x and one dy for each segment.

    .. math:: dx_i = -s\, dy\, p_i \Bigl(\log p_i - \sum_k p_k \log p_k\Bigr)

    Notes
    -----
    *Error*: as `entropy_vjp`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x = np.array([0.0, 1.0, 0.0, -2000.0])
    >>> softgrad.segment_entropy_vjp(x, np.array([1.0, 1.0]), [0, 2, 4]).round(4)
    array([ 0.1966, -0.1966,  0.    ,  0.    ])
    """
    options = keywords(segment_ids, num_segments, axis, where=where)
    return library(x).segment_reduce_vjp(ENTROPY, x, dy, offsets, scale=scale, out=out, **options)
