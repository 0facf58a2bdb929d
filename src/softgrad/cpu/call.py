"""A call on memory that is checked already: addresses, strides, options.  All array libraries enter here."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import threads
from . import by_formulas, machine, team

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}  # of an element
TRUE = np.ones(1, np.bool_)
NO_MASK = TRUE.ctypes.data
MOST = 4  # arrays of a call, as in drive.py, which would load Numba


@functools.cache
def loaded() -> tuple[Any, Any, int]:
    """`plan`, the operations, and the address of the compiled `drive`.  Numba is loaded here."""
    with threads.first_use:
        from . import kernels
        from .plan import plan

        return plan, kernels.OPERATIONS, kernels.driver()


@functools.lru_cache(maxsize=1024)
def numbers(
    fill: tuple[float, ...],
    logits: bool,
    once: bool,
    double: bool,
    scale: float,
    nothing: float,
    more: tuple[float, ...] = (),
) -> tuple[npt.NDArray[np.float64], bool]:
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
        factor, size = unit, scale / unit
    rounded = size if double else float(np.float32(size))
    fill = (*fill, *[0.0] * (MOST - len(fill)))
    return np.array([rounded, size - rounded, nothing, factor, absent, *fill, *more]), factor != 1


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
    """
    elements = math.prod(shape)
    if elements == 0:
        return
    if machine.lacks(dtype):
        threads.ran("formulas", name)
        by_formulas.run(name, dtype, shape, addresses, strides, axes, where, scale, nothing, more)
        return
    mask, mask_strides = where or (NO_MASK, None)
    in_place = addresses[-1] in addresses[:-1]
    ways = threads.threads_for(elements)
    plan, values = prepared(
        name, dtype, shape, tuple(strides), axes, mask_strides, scale, nothing, more, in_place, ways
    )
    ways = min(ways, plan.tiles)
    threads.ran("numba", name, ways)
    missing = (0,) * (MOST - len(addresses))
    arguments = plan.address, values.ctypes.data, *addresses, *missing, mask
    team.run(loaded()[-1], arguments, plan.scratch, plan.tiles, ways)


def prepared(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    axes: tuple[int, ...],
    mask: tuple[int, ...] | None,
    scale: float,
    nothing: float,
    more: tuple[float, ...],
    in_place: bool,
    ways: int,
) -> tuple[Any, npt.NDArray[np.float64]]:
    """The plan and the numbers of a call."""
    plan, operations, *_ = loaded()
    operation = operations[name]
    once = operation.read == 2
    double = dtype == "float64"
    values, multiply = numbers(operation.fill, operation.logits, once, double, scale, nothing, more)
    moved = (*[multiply] * operation.read, *[False] * (len(strides) - operation.read - 1), in_place)
    return plan(name, dtype, tuple(shape), strides, axes, mask, moved, ways), values


def eigenvalues(p: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> None:
    """The eigenvalues of the Jacobian of each row of `p`, which is sorted and has two numbers or more."""
    n = p.shape[-1]
    if machine.lacks("float64"):
        threads.ran("formulas", "eigenvalues")
        by_formulas.eigenvalues(p, found)
        return
    with threads.first_use:
        from . import kernels, secular

        address, lanes = kernels.eigenvalues(), secular.LANES
    rows = np.zeros((p.size // n, -(-n // lanes) * lanes))
    result = np.zeros_like(rows)
    rows[:, :n] = p.reshape(-1, n)
    gaps = p.size // n * (n - 1)
    ways = min(threads.threads_for(p.size * n), gaps)
    threads.ran("numba", "eigenvalues", ways)
    given = rows.ctypes.data, result.ctypes.data, n, rows.shape[1], lanes
    team.run(address, given, 3 * lanes, gaps, ways)
    found[...] = result[:, :n].reshape(p.shape)


def gate(dtype: str, arrays: int, ndim: int) -> Any:
    """The function of `contiguous.py` for so many arrays; it now takes this dtype and number of axes, too."""
    if machine.lacks(dtype):
        return lambda *arguments: False
    from . import kernels

    return kernels.gate(dtype, arrays, ndim)


def table(name: str, dtype: str) -> int:
    """The address of what it needs to know of an operation."""
    if machine.lacks(dtype):
        return 0
    from . import kernels

    return int(kernels.table(name, dtype).ctypes.data)
