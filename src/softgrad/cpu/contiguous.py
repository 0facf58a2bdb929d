"""Contiguous NumPy arrays, right from the caller to the kernel: `gate.py` has what this is for.

Numba sees to dtype, layout, alignment and who may write.  What else does not fit is left to the long way.
"""

import numpy as np
from numba import int64, njit

from .drive import BUDGET, NARROW, SMALL
from .intrinsics import ask, call, pointer_to
from .softmax import KEPT
from .vjp import TILE

# the addresses of the kernels; how much scratch memory they take, and how much more for an element of a row,
# or column; where it is said how large an array one thread does; functions to release and to take the GIL
ROWS, COLUMNS, ROOM, BYTES, ALONE, LEAVE, ENTER = range(7)
LONG = 1 << 14  # elements: a call that takes microseconds keeps the GIL

helper = njit(nogil=True, error_model="numpy")


@helper
def each_tile(table, a, b, c, d, item, outer, n, inner, width, numbers, room):
    """Call the kernel for all rows, or for tiles of `width` columns."""
    if inner == 1:
        call(table[ROWS], a, b, c, d, n, n, n, n, n, outer, numbers, room)
    else:
        for i in range(outer):
            for first in range(0, inner, width):
                at, count = (i * n * inner + first) * item, min(width, inner - first)
                call(
                    *(table[COLUMNS], a + at, b + at, c + at, d + at),
                    *(inner, inner, inner, inner, n, count, numbers, room),
                )


@helper
def done(shape, axis, item, a, b, c, scale, single, table):
    """Call the kernel for the arrays at addresses a, b, c; whether it could be done so."""
    if not 2.0**-60 <= scale <= 1e30 or not -len(shape) <= axis < len(shape):
        return False
    axis += len(shape) if axis < 0 else 0
    outer, inner, n = 1, 1, shape[axis]
    for d in range(len(shape)):
        outer *= shape[d] if d < axis else 1
        inner *= shape[d] if d > axis else 1
    size = outer * n * inner
    table = pointer_to(table, int64(0))
    most = pointer_to(table[ALONE], int64(0))[0]
    if not 0 < size < most or (1 < inner < NARROW and size > SMALL):
        return False
    if a == 0 or b == 0 or (a | b | c) % item != 0:
        return False
    if table[ROWS if inner == 1 else COLUMNS] == 0:
        return False
    out = b if c == 0 else c
    in_place = out == a or (c != 0 and out == b)  # the kernel writes elsewhere, and that is copied
    if in_place and size > LONG:
        return False
    width, each = 1, table[BYTES] * n
    if inner > 1:
        each = each if n <= KEPT else 0
        width = min(TILE, inner) if each == 0 else max(1, min(TILE, inner, BUDGET // each))
    copy = (size * item + 63) // 64 * 8 if in_place else 0  # float64s
    memory = np.empty(9 + copy + (table[ROOM] + each * width) // 8, np.float64)
    rounded = np.float64(np.float32(scale)) if single else scale
    memory[0], memory[1], memory[2] = rounded, scale - rounded, 0.0
    numbers = int64(memory.ctypes.data)
    none, room, state = int64(0), numbers + 64 + 8 * copy, int64(0)
    if in_place:
        b, c = (numbers + 64, c) if c == 0 else (b, numbers + 64)
    if size > LONG:
        state = ask(table[LEAVE])
    each_tile(table, a, b, c, none, item, outer, n, inner, width, numbers, room)
    if size > LONG:
        call(table[ENTER], state)
    if in_place:
        source, target = pointer_to(numbers + 64, np.uint16(0)), pointer_to(out, np.uint16(0))
        for i in range(size * item // 2):
            target[i] = source[i]
    memory[0] = 0.0  # until here it is not given back
    return True


@helper
def is_contiguous(x):
    """Numba takes its type for it, and may be wrong where it has taken one array for another."""
    step = x.itemsize
    for d in range(x.ndim - 1, -1, -1):
        if x.shape[d] != 1 and x.strides[d] != step:
            return False
        step *= x.shape[d]
    return True


def two(x, y, axis, scale, table):
    """From x to y, of one shape, in the same memory or in other."""
    a, b = int64(x.ctypes.data), int64(y.ctypes.data)
    if x.shape != y.shape or not is_contiguous(x) or 0 < abs(b - a) < x.size * x.itemsize:
        return False
    return done(x.shape, axis, x.itemsize, a, b, int64(0), scale, x.itemsize < 8, table)


def three(y, dy, dx, axis, scale, table):
    """From y and dy to dx."""
    a, b, c = int64(y.ctypes.data), int64(dy.ctypes.data), int64(dx.ctypes.data)
    size = y.size * y.itemsize
    if y.shape != dy.shape or y.shape != dx.shape or 0 < abs(c - a) < size or 0 < abs(c - b) < size:
        return False
    if not is_contiguous(y) or not is_contiguous(dy):
        return False
    return done(y.shape, axis, y.itemsize, a, b, c, scale, y.itemsize < 8, table)


def by_plan(a, b, c, plan):
    """Arrays at addresses a, b and c, or a and b where c is 0: `outer` times `inner` rows of n side by side.

    Each argument takes 20 ns, so the plan is in memory: outer, n, inner, bytes of an element, the table for
    two arrays and that for three; and the scale.
    """
    p, scale = pointer_to(plan, int64(0)), pointer_to(plan, np.float64(0.0))[6]
    table = p[4] if c == 0 else p[5]
    return done((p[0], p[1], p[2]), 1, p[3], a, b, c, scale, p[3] < 8, table)
