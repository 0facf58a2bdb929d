"""The gate for small contiguous NumPy arrays, which a call of microseconds may pass without all checks.

It opens for a dtype and a number of axes once a call has taken the long way through `softgrad.numpy`, which
checks everything; and then for each call that `contiguous.py` finds to fit.
"""

from __future__ import annotations

from typing import Any

from numpy import empty, ndarray

from .. import threads
from ..checks import FLOATS, Array
from . import machine

# by dtype: a function of `contiguous.py`, its table, the dtype it sees, None if the same
Known = dict[Any, tuple[Any, int, Any]]
KNOWN: dict[str, Known] = {name: {} for name in ("softmax", "softmax_vjp", "log_softmax", "log_softmax_vjp")}
SOFTMAX, SOFTMAX_VJP, LOG_SOFTMAX, LOG_SOFTMAX_VJP = KNOWN.values()
opened: set[tuple[str, Any, int]] = set()  # with the number of axes


def forward(known: Known, x: Any, axis: Any, scale: Any, out: Any) -> Array | None:
    """The result; None if the call takes the long way, which finds whatever is wrong."""
    if x.__class__ is ndarray and axis.__class__ is int and scale.__class__ is float:  # True is a number
        dtype = x.dtype
        try:
            gate, table, bits = known[dtype]
            if not x.flags.c_contiguous:  # Numba's refusal takes six times as long as the long way
                return None
            if out is None:
                out = empty(x.shape, dtype)
            elif not (out.__class__ is ndarray and out.dtype is dtype and out.flags.carray):
                return None
            if bits is None:
                return out if gate(x, out, axis, scale, table) else None
            return out if gate(x.view(bits), out.view(bits), axis, scale, table) else None
        except (KeyError, OverflowError, TypeError):  # Numba says the latter of what it does not take
            pass
    return None


def product(known: Known, y: Any, dy: Any, axis: Any, scale: Any, out: Any) -> Array | None:
    """The same of an operation that reads two arrays."""
    if y.__class__ is dy.__class__ is ndarray and axis.__class__ is int and scale.__class__ is float:
        dtype = y.dtype
        try:
            gate, table, bits = known[dtype]
            if not (y.flags.c_contiguous and dy.flags.c_contiguous):
                return None
            if out is None:
                out = empty(y.shape, dtype)
            elif not (out.__class__ is ndarray and out.dtype is dtype and out.flags.carray):
                return None
            if dy.dtype is not dtype:
                return None
            if bits is None:
                return out if gate(y, dy, out, axis, scale, table) else None
            return out if gate(y.view(bits), dy.view(bits), out.view(bits), axis, scale, table) else None
        except (KeyError, OverflowError, TypeError):
            pass
    return None


def remember(name: str, arrays: tuple[Array, ...]) -> None:
    """Open the gate for such arrays, if the operation has one."""
    dtype, ndim = arrays[0].dtype, arrays[0].ndim
    if name not in KNOWN or (name, dtype, ndim) in opened or ndim == 0:
        return
    with threads.first_use:
        opened.add((name, dtype, ndim))
        if machine.lacks(dtype.name):
            return
        from . import kernels

        bits = FLOATS[dtype][1]
        gate, table = kernels.gate(dtype.name, len(arrays), ndim), kernels.table(name, dtype.name)
        KNOWN[name][dtype] = gate, table.ctypes.data, bits if bits != dtype else None
