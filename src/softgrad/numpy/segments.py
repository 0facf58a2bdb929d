"""Softmax in segments: what is said of it in `softgrad.functional.segment_softmax`, done for NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, threads
from ..checks import Array
from ..layout import LANES, merged, table
from ..scaling import in_parts
from .run import returned

# How many segments share a tile where their elements are neighbours in memory: what was fastest.
PARTS = {"segment_softmax": 4, "segment_vjp": 2}

BLOCK = 65536  # about how many elements, with all features that are side by side, a thread takes at a time


@dataclass(frozen=True, slots=True)
class Way:
    """The kernel for arrays of one layout, and what to give it (see `softgrad.kernels.cpu.segments`)."""

    kernel: Callable[..., Any]
    layout: tuple[Any, ...]
    together: int  # how many segments share a tile
    rows: int
    block: int  # how many rows along the axis


@functools.lru_cache(maxsize=1024)
def way(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...], axis: int
) -> Way | None:
    """The way through arrays of one shape; None if in no axis the elements are neighbours in all of them."""
    count = len(strides)
    code, _, itemsize = checks.FLOATS[dtype]
    of_each = [tuple(of_one[d] // itemsize for of_one in strides) for d in range(len(shape))]
    order = sorted(range(len(shape)), key=lambda d: -max(map(abs, of_each[d])))
    kept = merged([(shape[d], of_each[d]) for d in order if d != axis])
    one = (1,) * count
    across = of_each[axis] != one and bool(kept) and kept[-1][1] == one
    if across:
        width = kept[-1][0]
        tiles = -(-width // LANES)
        kept[-1] = tiles, (LANES,) * count
        parts = 4 if width <= LANES // 4 else 2 if width <= LANES // 2 else 1
        name += "_across"
    elif of_each[axis] == one or shape[axis] == 1:  # of one element there is no next
        width, tiles, parts = 1, 1, PARTS[name]
    else:
        return None
    grid, steps = table(kept, count), table([(shape[axis], of_each[axis])], count)
    rows = int(np.prod(grid[0]))
    form = np.array([rows, width, tiles], np.int64)
    with threads.first_use:  # Numba is loaded here, at the first call
        from ..kernels.cpu import library

        kernel = library.kernel(name, code, False, (0,) * parts)
    together = 1 if across else parts
    return Way(kernel, (grid, steps, form, (0,) * parts), together, rows, max(1, BLOCK // width))


def run(name: str, arrays: Sequence[Array], offsets: Array, axis: int, numbers: tuple[Any, ...]) -> None:
    """Call the kernel `name` on `arrays` of one shape and dtype, the last of which is written."""
    if arrays[-1].ndim == 0:  # counts as one number
        arrays = [a.reshape(1) for a in arrays]
    last = arrays[-1]
    dtype, n = last.dtype, last.shape[axis]
    found = way(name, dtype, last.shape, tuple([a.strides for a in arrays]), axis)
    if found is None:
        result = np.empty(last.shape, dtype)
        run(name, [*map(np.ascontiguousarray, arrays[:-1]), result], offsets, axis, numbers)
        np.copyto(last, result)
        return
    segments, together = len(offsets) - 1, found.together
    edges = np.searchsorted(offsets[:-1], np.arange(0, n + found.block, found.block)) // together * together
    edges[-1] = -(-segments // together) * together
    first = (0,) * (last.ndim - 1) + (slice(0, 1),)
    bits = checks.FLOATS[dtype][1]
    arguments = [a[first].view(bits) for a in arrays]
    threads.share(
        found.kernel,
        (*arguments, *found.layout, offsets, edges, *numbers),
        (len(edges) - 1) * found.rows,
        1,
        last.nbytes,
    )


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
    sign = -1.0 if factor < 0 else 1.0
    run(
        "segment_softmax", [given, result], offsets, axis, (sign, *in_parts(abs(factor), dtype == np.float64))
    )
    return returned(result, out)


def product(y: Any, v: Any, name: str, offsets: Any, *, axis: Any, scale: Any, out: Array | None) -> Array:
    """The vjp, or the jvp: J is symmetric."""
    y, v = checks.alike(("y", name), y, v)
    axis = checks.one_axis(axis, y.ndim, "segments")
    offsets = checks.offsets(offsets, y.shape[axis] if y.ndim else 1)
    factor = checks.number(scale, y.dtype)
    result = np.empty_like(v) if out is None else checks.target(out, y.shape, y.dtype, ("y", name), y, v)
    if y.size:
        run("segment_vjp", [y, v, result], offsets, axis, (None, factor))
    return returned(result, out)
