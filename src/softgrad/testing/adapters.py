"""Functions of sinks, and of segments, as functions of rows, so that every check here applies to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import Array

Function = Callable[..., Any]


def with_sink(function: Function) -> Function:
    """A function of rows and their sinks as one of rows, of which the last element is the sink.

    A row with a sink is a row with one more element: forward, vjp, jvp and double backward of a softmax with
    sinks are those of softmax for the longer rows.

    Parameters
    ----------
    function : callable
        Takes and returns pairs: ``(x, sink)`` to ``(y, y_sink)``, ``(y, y_sink, dy, dy_sink)`` to
        ``(dx, dsink)``.  A sink has the axis at length 1.

    Returns
    -------
    callable

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_vjp, with_sink
    >>> check_vjp(with_sink(softgrad.sink_softmax_vjp), level="tight", dtypes=["float32"], max_n=17)
    """

    def of_rows(*arrays: Array, axis: int = -1) -> Any:
        parts = [part for a in arrays for part in np.split(a, [a.shape[axis] - 1], axis)]
        found = function(*parts, axis=axis)
        whole = [np.concatenate(found[i : i + 2], axis) for i in range(0, len(found), 2)]
        return whole[0] if len(whole) == 1 else tuple(whole)

    return of_rows


def in_segments(function: Function) -> Function:
    """A function of segments as one of rows, which are put behind each other.

    Parameters
    ----------
    function : callable
        Takes arrays and the offsets, ``function(y, dy, offsets, axis=0)``, and returns an array, or two.

    Returns
    -------
    callable

    Examples
    --------
    >>> import softgrad
    >>> from softgrad.testing import check_vjp, in_segments
    >>> check_vjp(in_segments(softgrad.segment_softmax_vjp), level="tight", dtypes=["float32"], max_n=17)
    """

    def of_rows(*arrays: Array, axis: int = -1) -> Any:
        rows = [np.moveaxis(a, axis, -1) for a in arrays]
        shape = rows[0].shape
        offsets = np.arange(0, rows[0].size + 1, shape[-1]) if rows[0].size else np.zeros(1, int)
        found = function(*[a.reshape(-1) for a in rows], offsets, axis=0)
        if isinstance(found, tuple):
            return tuple(np.moveaxis(a.reshape(shape), -1, axis) for a in found)
        return np.moveaxis(found.reshape(shape), -1, axis)

    return of_rows
