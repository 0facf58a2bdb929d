"""The way to the kernels: the plan of a call, its compiled kernel, and the threads that share it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import checks, layout, threads
from ..checks import Array
from ..cpu import call

NO_MASK = np.empty(0, np.bool_)


def returned(result: Array, out: Array | None) -> Array:
    """What a call returns: `out` if that was given; of a 0-d result a scalar, as NumPy's functions do."""
    if out is not None:
        return out
    return result if result.ndim else result[()]


@functools.lru_cache(maxsize=1024)
def route(
    name: str,
    packs: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    axes: tuple[int, ...],
    masked: bool,
    per_row: int | None,
    row_tile: int | None,
) -> tuple[Callable[..., Any], layout.Plan]:
    """The compiled kernel for a call, and its plan.  Numba is loaded here, at the first call."""
    code, _, itemsize = checks.FLOATS[dtype]
    plan = layout.plan(shape, strides, axes, itemsize, packs, masked, per_row, row_tile)
    name = f"{name}_packed" if plan.packed else name
    with threads.first_use:
        from ..kernels.cpu import library

        return library.kernel(name, code, masked, *plan.way), plan


def ready(
    name: str,
    packs: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    axes: tuple[int, ...],
    numbers: tuple[Any, ...],
    row_tile: int | None = None,
) -> tuple[Callable[..., Any], tuple[int | slice, ...], tuple[Any, ...]]:
    """(kernel, first, more): ``kernel(*(a[first] for a in arrays), *more)`` is all of a call without a mask.

    Arrays of 16-bit types are given as their bits (see `checks.FLOATS`).
    """
    strides = (*strides, strides[0])  # of a mask that is not there, they are not used
    kernel, plan = route(name, packs, dtype, shape, strides, axes, False, None, row_tile)
    mask = () if plan.packed else (None,)
    return kernel, plan.first, (*mask, *plan.layout, *numbers, 0, plan.tiles)


def run(
    name: str,
    packs: int,
    arrays: Sequence[Array],
    where: Array | None,
    axes: tuple[int, ...],
    numbers: tuple[Any, ...],
    per_row: int | None = None,
    row_tile: int | None = None,
) -> bool:
    """Call the kernel `name` on `arrays` of one shape and dtype, read ones first.

    `packs` is how many of them its packed form holds in scratch memory, 0 if it has none.  `where` is the
    mask, None if there is none, or `NO_MASK` where the kernel takes none.  The array number `per_row`, if
    any, has one element for each row, and strides of 0 along the axes.  `row_tile` is as for `layout.plan`.
    """
    last = arrays[-1]
    if last.ndim == 0:  # counts as one number
        arrays = [a.reshape(1) for a in arrays]
        where = where if where is None or where is NO_MASK else where.reshape(1)
        last = arrays[-1]
    dtype = last.dtype
    strides = [a.strides for a in arrays]
    masked = False
    if where is None:
        strides.append(arrays[0].strides)  # of a mask that is not there, they are not used
    elif where is not NO_MASK:
        masked = True
        strides.append(tuple([s * dtype.itemsize for s in where.strides]))
        packs = 0
    kernel, plan = route(name, packs, dtype, last.shape, tuple(strides), axes, masked, per_row, row_tile)
    first = plan.first
    arguments: list[Array | None] = [a[first] for a in arrays]
    if dtype.itemsize == 2:
        bits = checks.FLOATS[dtype][1]
        arguments = [a[first].view(bits) for a in arrays]
    if where is not NO_MASK and not plan.packed:
        arguments.append(None if where is None else where[first])
    return threads.share(kernel, (*arguments, *plan.layout, *numbers), plan.tiles, plan.at_once, last.nbytes)


def run_plain(
    name: str,
    arrays: Sequence[Array],
    where: Array | None,
    axes: tuple[int, ...],
    scale: float = 1.0,
    nothing: float = 0.0,
    shaped: int = -1,
    more: tuple[float, ...] = (),
) -> None:
    """The operation `name` of `softgrad.cpu` on arrays of one shape and dtype, those that are read first.

    Those are the shape and the dtype of array number `shaped`; others may have one float64 a row, and axes of
    length 1.
    """
    if arrays[0].ndim == 0:  # counts as one number
        arrays = [a.reshape(1) for a in arrays]
        where = None if where is None else where.reshape(1)
    like = arrays[shaped]
    call.run(
        name,
        like.dtype.name,
        like.shape,
        [a.ctypes.data for a in arrays],
        [steps(a, like.shape) for a in arrays],
        axes,
        None if where is None else (where.ctypes.data, where.strides),
        scale,
        nothing,
        more,
    )


def steps(a: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides in elements; 0 along axes that are of length 1 where the shape has more."""
    strides = tuple([step // a.itemsize for step in a.strides])
    if a.shape == shape:
        return strides
    return tuple(
        [step if one == many else 0 for step, one, many in zip(strides, a.shape, shape, strict=True)]
    )
