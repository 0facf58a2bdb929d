"""The plan of a call: which kernel, and where the tiles of its arrays lie."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import drive, kernels
from .call import BYTES
from .drive import BUDGET, MOST, NARROW, SMALL
from .segments import PACKED
from .vjp import TILE

LONG = 256  # rows of which each is asked whether its mask makes a difference
CHUNK = 2048  # elements of the rows that go through scratch memory at once
MEGABYTE = 1 << 20  # of scratch memory a thread, unless a row is longer
LINE = 64  # columns that are gathered into rows at once, at least: what is fetched with one of them

Strides = tuple[int, ...]  # in elements
Axis = tuple[int, Strides]  # a size, and the step along it in each array and the mask


@dataclass(frozen=True, slots=True)
class Plan:
    table: npt.NDArray[np.int64]  # see `drive`
    address: int
    tiles: int  # what threads may share: rows, or tiles of columns
    scratch: int  # float64s that `drive` needs


def merged(axes: list[Axis]) -> list[Axis]:
    """Neighbouring axes, outermost first, as few as possible."""
    result: list[Axis] = []
    for size, steps in axes:
        if size == 1:
            continue
        if result and all(a == b * size for a, b in zip(result[-1][1], steps, strict=True)):
            result[-1] = result[-1][0] * size, steps
        else:
            result.append((size, steps))
    return result


def sorted_out(
    shape: tuple[int, ...], strides: tuple[Strides, ...], axes: tuple[int, ...], count: int | None = None
) -> tuple[list[Axis], list[Axis]]:
    """The axes that are kept and those that are reduced, one or more; the first `count` arrays order them."""
    order = sorted(range(len(shape)), key=lambda d: -max(abs(steps[d]) for steps in strides[:count]))
    every = [(d in axes, (shape[d], tuple(steps[d] for steps in strides))) for d in order]
    one = [(1, (1,) * len(strides))]
    kept, reduced = ([axis for of, axis in every if of is kind] for kind in (False, True))
    return merged(kept) or one, merged(reduced) or one


def distance(steps: Strides) -> float:
    """How far apart the elements of an axis lie; what has a step of 0 tells nothing."""
    return max(abs(step) or math.inf for step in steps)


def are_columns(kept: list[Axis], reduced: list[Axis]) -> bool:
    """Whether the neighbours of an element in memory belong to other rows."""
    nearest, small = min(kept, key=lambda axis: distance(axis[1])), size_of(kept) * size_of(reduced) <= SMALL
    wide = nearest[0] >= NARROW or (small and nearest[0] > 1)
    return len(reduced) == 1 and wide and distance(nearest[1]) < distance(reduced[0][1])


def size_of(axes: list[Axis]) -> int:
    return math.prod(size for size, _ in axes)


@functools.lru_cache(maxsize=4096)
def plan(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[Strides, ...],
    axes: tuple[int, ...],
    mask: Strides | None,
    moved: tuple[bool, ...],
    ways: int,
) -> Plan:
    """The way through arrays of one shape, which has no 0.

    Parameters
    ----------
    name, dtype : str
        Of the operation, and of the elements.
    shape : tuple of int
    strides : tuple of tuple of int
        Of each array, in elements; those that are read first.
    axes : tuple of int
        The axes to reduce.
    mask : tuple of int, optional
        The strides of the mask.
    moved : tuple of bool
        Which arrays go through scratch memory in any case: an output that is an input as well.
    ways : int
        How many threads there are for it.
    """
    operation = kernels.OPERATIONS[name]
    count = len(strides)
    zeros = (0,) * len(shape)
    walked = (*strides, *[zeros] * (MOST - count), mask or zeros)
    kept, reduced = sorted_out(shape, walked, axes, count)
    n, rows = size_of(reduced), size_of(kept)
    # Chosen by what is read alone: neither `out` nor a mask changes the bits.
    whole = [i for i in range(operation.read) if i not in operation.per_row]
    across = are_columns(*sorted_out(shape, tuple(strides[i] for i in whole), axes)) and len(reduced) == 1
    own, few = (operation.columns_room(n, width, BYTES[dtype] == 2) for width in (0, NARROW))
    fits = few - own <= BUDGET
    nearest = min(kept, key=lambda axis: distance(tuple(axis[1][i] for i in whole)))
    columns = bool(operation.columns) and across and fits
    # a kernel for columns takes what is one number a row side by side
    columns = columns and all(nearest[1][i] == 1 for i in operation.per_row)
    if columns:
        kept.remove(nearest)
        kept.append(nearest)
    inner, run = kept[-1], reduced[-1]
    along = [step == 1 for step in (inner if columns else run)[1][:count]]
    if len(reduced) > 1:
        along = [False] * count
    moving = [mask is not None or move or not one for move, one in zip(moved, along, strict=True)]
    for i in operation.per_row:
        moving[i] = False
    # Where the mask alone moves the arrays of a product, it is asked first whether it makes a difference.
    asked = mask is not None and operation.read == 2 and not columns and all(along) and not any(moved)
    asked = asked and n >= LONG and not operation.fill and not operation.per_row
    element = dtype
    if any(moving[: operation.read]) and BYTES[dtype] == 2:
        element = "float32"  # the kernel of float32 does it
        moving = [i not in operation.per_row for i in range(count)]
    item, narrow = BYTES[element], BYTES[element] == 2
    spaced = n * item + (drive.LINE if n * item >= drive.KILOBYTE else 0)  # see `drive.apart`

    width = inner[0]
    if any(moving):  # contiguous rows, which only a mask moves, stay in the first-level cache
        width = max(1, (CHUNK // 2 if all(along) else CHUNK) // n)
    if across:
        held = sum(moving) * spaced  # bytes of scratch memory for a column of a tile
        held += operation.columns_room(n, 1, narrow) - operation.columns_room(n, 0, narrow)
        most = (TILE // 4 if any(moving) else TILE) if columns else max(LINE, width)
        own = operation.columns_room(n, 0, narrow) if columns else operation.rows_room(n, narrow)
        spare = min(BUDGET, MEGABYTE - own - 8 * drive.TABLES)
        # columns that have loops of their own stay together
        least = inner[0] if operation.part and inner[0] in PACKED else 1
        width = max(least, min(most, spare // held)) if held else most
        if columns and rows // inner[0] < ways:  # a tile for each thread
            width = min(width, (-(-inner[0] // ways) + 63) // 64 * 64)
    room = operation.columns_room(n, width, narrow) if columns else operation.rows_room(n, narrow)
    tiles = -(-inner[0] // width)

    header = [0] * drive.SIZES
    header[drive.KERNEL] = kernels.kernel(name, columns, element)
    if operation.part:
        header[drive.PART] = kernels.kernel(operation.part, columns, element)
    header[drive.READ], header[drive.ARRAYS], header[drive.COLUMNS] = operation.read, count, columns
    header[drive.N], header[drive.RUN] = n, run[0]
    header[drive.PER_TILE], header[drive.ALONG] = width, inner[0]
    header[drive.ROOM] = -(-room // 8) * 8
    header[drive.SCRATCH] = -(-spaced * width // 64) * 64 if any(moving) else 0
    header[drive.ITEM], header[drive.KEPT], header[drive.REDUCED] = item, len(kept), len(reduced) - 1
    if asked and element == dtype:
        header[drive.AGREE] = kernels.agree(dtype)
    for i in range(count):
        if moving[i]:
            header[drive.MOVE + i] = kernels.move(
                *((dtype, element) if i < operation.read else (element, dtype))
            )
    sizes = [size for size, _ in kept[:-1]] + [tiles if columns else inner[0]]
    sizes += [size for size, _ in reduced[:-1]]
    widths = [8 if i in operation.per_row else BYTES[dtype] for i in range(MOST)] + [1]
    fields = [[steps[i] for _, steps in [*kept, *reduced]] + [width] for i, width in enumerate(widths)]
    table = np.array(header + sizes + [field for of_one in fields for field in of_one], np.int64)
    scratch = drive.TABLES + (header[drive.ROOM] + sum(moving) * header[drive.SCRATCH]) // 8
    return Plan(table, table.ctypes.data, rows // inner[0] * tiles if columns else rows, scratch)
