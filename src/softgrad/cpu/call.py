"""A call on memory that is checked already: addresses, strides, options.  All array libraries enter here."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import threads
from . import fallback, machine, workers

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}  # of an element
TRUE = np.ones(1, np.bool_)
NO_MASK = TRUE.ctypes.data
MOST = 4  # arrays of a call, as in drive.py, which would load Numba


@functools.cache
def loaded() -> tuple[Any, Any]:
    """`kernels`, and the function `plan`.  Numba is loaded here."""
    with threads.first_use:
        from . import kernels
        from .plan import plan

        return kernels, plan


@functools.lru_cache(maxsize=1024)
def numbers(
    fill: tuple[float, ...],
    logits: bool,
    once: bool,
    double: bool,
    scale: float,
    nothing: float,
    more: tuple[float, ...] = (),
) -> tuple[array[float], bool]:
    """The numbers of a call (see `drive`), and whether what is read has to be multiplied by their factor.

    A scale is given to the kernels as a number of the type that they compute in, and what that lost.  Where
    it is no normal number of float32, where it is negative, or 0, what is read takes a part of it.
    """
    factor, size, absent = 1.0, scale, math.nan
    smallest, unit = (2.0**-500, 2.0**-512) if double else (2.0**-60, 2.0**-64)
    if logits:
        size = abs(scale)
        factor = math.copysign(1.0, scale)
        if size == 0:  # what is −inf has no part even so
            factor, size, absent = 0.0, 1.0, -math.inf
        elif size < smallest:  # differences that overflow count
            factor, size = factor * unit, size / unit
    elif once and not double and 0 < abs(scale) < 2.0**-100:
        factor = max(2.0**-126, 2.0 ** (math.frexp(scale)[1] + 100))
        size = scale / factor
    rounded = size if double else float(np.float32(size))
    fill = (*fill, *[0.0] * (MOST - len(fill)))
    return array("d", [rounded, size - rounded, nothing, factor, absent, *fill, *more]), factor != 1


def run(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    addresses: Sequence[int],
    strides: Sequence[tuple[int, ...]],
    axes: tuple[int, ...],
    where: tuple[int, tuple[int, ...]] | None = None,
    scale: float = 1.0,
    nothing: float = 0.0,
    more: tuple[float, ...] = (),
    offsets: npt.NDArray[np.int64] | None = None,
) -> None:
    """Do the operation `name` of `kernels.OPERATIONS` on arrays of one shape.

    Parameters
    ----------
    name, dtype : str
        The dtype by its name: "bfloat16", for one.
    shape : tuple of int
    addresses, strides : sequence
        Of each array, the one that is written last; strides in elements.  It may be one that is read, with
        the same strides.
    axes : tuple of int
        The axes to reduce, from 0 up.
    where : (int, tuple of int), optional
        The address of the mask, and its strides.
    scale : float
    nothing : float
        What a row of logits gives that has nothing in it.
    more : tuple of float
        Other numbers that the kernel takes.
    offsets : array of int64, optional
        Where the segments of the one axis begin, and where the last one ends.
    """
    elements = math.prod(shape)
    if elements == 0:
        return
    if machine.lacks(dtype):
        threads.ran("formulas", name)
        fallback.run(name, dtype, shape, addresses, strides, axes, where, scale, nothing, more, offsets)
        return
    kernels, plan = loaded()
    operation, double, ways = kernels.OPERATIONS[name], dtype == "float64", threads.threads_for(elements)
    once = operation.read == 2
    values, multiply = numbers(operation.fill, operation.logits, once, double, scale, nothing, more)
    in_place = addresses[-1] in addresses[:-1]
    moved = (*[multiply] * operation.read, *[False] * (len(strides) - operation.read - 1), in_place)
    mask, mask_strides = where or (NO_MASK, None)
    missing = (0,) * (MOST - len(addresses))
    if offsets is None:
        way = plan(name, dtype, tuple(shape), tuple(strides), axes, mask_strides, moved, ways)
        driver, units, memory, of_segments = kernels.work("drive"), way.tiles, way.scratch, []
    else:
        axis = axes[0]
        edges, longest, columns = blocks(offsets, shape, strides[0], axis)
        packed = columns if columns in kernels.segments.PACKED else 0
        if packed:  # what does not lie without a gap has to be moved for that
            moved = tuple([move or of[axis] != packed for move, of in zip(moved, strides, strict=True)])
        # an axis of 1 would have no step
        shape = (*shape[:axis], max(longest, 2), *shape[axis + 1 :])
        way = plan(name, dtype, shape, tuple(strides), axes, None, moved, 1)
        driver, units = kernels.work("drive segments"), way.tiles * (len(edges) - 1)
        memory = kernels.segments.FOR_A_BLOCK + way.table.size + 8 + way.scratch
        of_plan = kernels.work("drive"), way.table.size, way.tiles
        of_segments = [*of_plan, offsets.ctypes.data, edges.buffer_info()[0], packed]
    ways = min(ways, units)
    threads.ran("numba", name, ways)
    given = way.address, values.buffer_info()[0], *addresses, *missing, mask, *of_segments
    workers.run(driver, given, memory, units, ways)


BLOCK = 1 << 14  # about how many elements of segments, with all columns side by side, are done at a time


def blocks(
    offsets: npt.NDArray[np.int64], shape: tuple[int, ...], strides: tuple[int, ...], axis: int
) -> tuple[array[int], int, int]:
    """The segments with which blocks begin, how many rows a block has at most, and how many columns."""
    n, step = shape[axis], abs(strides[axis])
    beside = math.prod([size for size, other in zip(shape, strides, strict=True) if abs(other) < step])
    block, edges = max(1, BLOCK // beside), array("q", (0, len(offsets) - 1))
    if n > 2 * block:
        found = offsets[:-1].searchsorted(np.arange(0, n + block, block))
        found[-1] = edges[1]
        rows = offsets[found]
        n = min(n, -(-int((rows[1:] - rows[:-1]).max()) // block) * block)
        edges = array("q", found.tolist())
    return edges, n, beside


def eigenvalues(p: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> None:
    """The eigenvalues of the Jacobian of each row of `p`, which is sorted and has two numbers or more."""
    n = p.shape[-1]
    if machine.lacks("float64"):
        threads.ran("formulas", "eigenvalues")
        fallback.eigenvalues(p, found)
        return
    kernels, _ = loaded()
    lanes = kernels.secular.LANES
    rows = np.zeros((p.size // n, -(-n // lanes) * lanes))
    result = np.zeros_like(rows)
    rows[:, :n] = p.reshape(-1, n)
    gaps = p.size // n * (n - 1)
    ways = min(threads.threads_for(p.size * n), gaps)
    threads.ran("numba", "eigenvalues", ways)
    given = rows.ctypes.data, result.ctypes.data, n, rows.shape[1], lanes
    workers.run(kernels.work("eigenvalues"), given, 3 * lanes, gaps, ways)
    found[...] = result[:, :n].reshape(p.shape)
