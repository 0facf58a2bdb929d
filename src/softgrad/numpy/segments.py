"""Softmax in segments: what is said of it in `softgrad.functional.segment_softmax`, done for NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..checks import Array
from .run import returned, run


def softmax(x: Any, offsets: Any, *, axis: Any, scale: Any, out: Array | None) -> Array:
    given = checks.array(x, "x")
    dtype = given.dtype if given.dtype in checks.FLOATS else np.dtype(np.float64)
    axis = checks.one_axis(axis, given.ndim, "segments")
    offsets = checks.offsets(offsets, given.shape[axis] if given.ndim else 1)
    factor = checks.number(scale, dtype)
    if out is None:
        result = np.empty_like(given, dtype)
    else:
        result = checks.target(out, given.shape, dtype, ("x",), given)
    if given.size == 0:
        return returned(result, out)
    if given.dtype != dtype:
        np.copyto(result, given)
        given = result
    run("segment_softmax", [given, result], None, (axis,), factor, offsets=offsets)
    return returned(result, out)


def product(y: Any, v: Any, name: str, offsets: Any, *, axis: Any, scale: Any, out: Array | None) -> Array:
    """The vjp, or the jvp: J is symmetric."""
    y, v = checks.alike(("y", name), y, v)
    axis = checks.one_axis(axis, y.ndim, "segments")
    offsets = checks.offsets(offsets, y.shape[axis] if y.ndim else 1)
    factor = checks.number(scale, y.dtype)
    result = np.empty_like(v) if out is None else checks.target(out, y.shape, y.dtype, ("y", name), y, v)
    if y.size:
        run("segment_softmax_vjp", [y, v, result], None, (axis,), factor, offsets=offsets)
    return returned(result, out)
