"""The gate for small contiguous NumPy arrays, which a call of microseconds may pass without all checks.

It opens for a dtype and a number of axes once a call has taken the long way through `softgrad.numpy`, which checks
everything; and then for each call that `contiguous.py` finds to fit.
"""

from __future__ import annotations

from typing import Any

from numpy import empty, ndarray

from .. import threads
from ..checks import FLOATS, Array
from . import call

# for each operation: by dtype a function of `contiguous.py`, its table, and the dtype it sees, None if the same
known: dict[str, dict[Any, tuple[Any, int, Any]]] = {"softmax": {}, "softmax_vjp": {}}
opened: set[tuple[str, Any, int]] = set()  # with the number of axes


def forward(name: str, x: Any, axis: Any, scale: Any, out: Any) -> Array | None:
    """The result; None if the call takes the long way."""
    if x.__class__ is not ndarray:
        return None
    try:
        dtype = x.dtype
        gate, table, bits = known[name][dtype]
        y = empty(x.shape, dtype) if out is None else out
        if not (
            y.__class__ is ndarray
            and y.dtype is dtype
            and y.flags.carray
            and axis.__class__ is int  # True is a number
            and scale.__class__ is float
            and threads.seen is None
        ):
            return None
        if bits is None:
            return y if gate(x, y, axis, scale, table) else None
        return y if gate(x.view(bits), y.view(bits), axis, scale, table) else None
    except (AttributeError, KeyError, TypeError):  # whatever is wrong, the long way finds it
        return None


def product(name: str, y: Any, dy: Any, axis: Any, scale: Any, out: Any) -> Array | None:
    """The same of an operation that reads two arrays."""
    if y.__class__ is not ndarray:
        return None
    try:
        dtype = y.dtype
        gate, table, bits = known[name][dtype]
        dx = empty(y.shape, dtype) if out is None else out
        if not (
            dy.__class__ is dx.__class__ is ndarray
            and dy.dtype is dx.dtype is dtype
            and dx.flags.carray
            and axis.__class__ is int
            and scale.__class__ is float
            and threads.seen is None
        ):
            return None
        if bits is None:
            return dx if gate(y, dy, dx, axis, scale, table) else None
        return dx if gate(y.view(bits), dy.view(bits), dx.view(bits), axis, scale, table) else None
    except (AttributeError, KeyError, TypeError):
        return None


def remember(name: str, arrays: tuple[Array, ...]) -> None:
    """Open the gate for such arrays."""
    dtype, ndim = arrays[0].dtype, arrays[0].ndim
    if (name, dtype, ndim) in opened or ndim == 0 or arrays[0].size >= call.SMALL:
        return
    with threads.first_use:
        opened.add((name, dtype, ndim))
        bits = FLOATS[dtype][1]
        gate = call.gate(dtype.name, len(arrays), ndim)
        known[name][dtype] = gate, call.table(name, dtype.name), bits if bits != dtype else None
