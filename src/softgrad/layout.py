"""Arrays and the axes to reduce, seen as the tiles that the kernels walk through, without a copy.

A call has an array or several of one shape.  Their axes fall into those that are kept and those that are
reduced; neighbouring axes that can be walked as one are one.  Then the kernels' ways through memory are
(`softgrad.kernels.cpu.places` has the words):

========== ==================================== ================================================
way        where                                a tile
========== ==================================== ================================================
rows       the reduced axis has stride 1        one row, its vectors along the row
columns    a kept axis has stride 1             `LANES` neighbouring rows, a vector across them
packed     either, and a tile fits the cache    the same in scratch memory, short rows turned
scattered  anything else                        either, each lane with a place of its own
========== ==================================== ================================================
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LANES, BESIDE = 32, 1  # as in kernels/cpu/vec.py and places.py, which would load Numba if imported

ROW_TILE = 32768  # bytes of a tile of turned rows: beyond the first-level cache, rows are faster as they are
COLUMN_TILES = 1572864  # bytes of the tiles of columns that are packed at once
COLUMN_LINE = 256  # bytes fetched side by side


# An axis: its size, and its stride in each array.
Axis = tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """One way through the arrays of a call: which kernel, and what to give it."""

    packed: bool
    way: tuple[int | None, ...]  # (spread, mask_spread, across), all None if packed
    layout: tuple[Any, ...]  # (grid, steps, form, group) if packed, else (grid, steps, form, *way)
    tiles: int
    at_once: int  # tiles that belong together: threads share the work at multiples of it
    first: tuple[int | slice, ...]  # the index of a view of one element, the first


def merged(axes: list[Axis]) -> list[Axis]:
    """Neighbouring axes, (size, strides) each, outermost first, as few as possible."""
    result: list[Axis] = []
    for size, strides in axes:
        if size == 1:
            continue
        if result:
            outer, outer_strides = result[-1]
            if all(a == b * size for a, b in zip(outer_strides, strides, strict=True)):
                result[-1] = (outer * size, strides)
                continue
        result.append((size, strides))
    return result


def table(axes: list[Axis], arrays: int) -> npt.NDArray[np.int64]:
    """Row 0: sizes, row 1 + i: strides of array i; at least one axis."""
    axes = axes or [(1, (0,) * arrays)]
    array = np.array([[size, *strides] for size, strides in axes], np.int64).T
    return np.ascontiguousarray(array)


def order(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> list[int]:
    """The axes as they are walked, outermost first, by the largest stride that one has in any array."""
    return sorted(range(len(shape)), key=lambda d: -max(abs(s[d]) for s in strides))


@functools.lru_cache(maxsize=1024)
def plan(
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    axes: tuple[int, ...],
    itemsize: int,
    packs: int,
    masked: bool,
    per_row: int | None = None,
    row_tile: int | None = None,
) -> Plan:
    """The way through arrays of one shape.

    Parameters
    ----------
    shape : tuple of int
    strides : tuple of tuple of int
        Of each array, in bytes as if its elements had `itemsize` bytes.
    axes : tuple of int
        The axes to reduce.
    itemsize : int
    packs : int
        How many arrays the packed form of the kernel holds in scratch memory; 0 if it has no such form.
    masked : bool
        The last of `strides` is that of a mask; it alone may be scattered.
    per_row : int, optional
        Which of the arrays has one element for each row: its strides along `axes` are 0.
    row_tile : int, optional
        Short rows are turned where a tile of them has fewer bytes than this (`ROW_TILE` / `packs`²).
    """
    strides = tuple(tuple(s // itemsize for s in of_one) for of_one in strides)
    wide = max(itemsize, 4)  # an element in scratch memory
    count = len(strides)
    every = [(shape[d], tuple(s[d] for s in strides), d in axes) for d in order(shape, strides)]
    kept = merged([(size, s) for size, s, reduced in every if not reduced])
    reduced = merged([(size, s) for size, s, is_reduced in every if is_reduced])
    reduced = reduced or [(1, (1,) * count)]
    rows = math.prod(size for size, _ in kept)
    n = math.prod(size for size, _ in reduced)
    first = (0,) * (len(shape) - 1) + (slice(0, 1),)

    def whole(elements: int) -> int:
        """How many vectors hold them."""
        return -(-elements // LANES)

    def neighbours(of_all: tuple[int, ...], but: int | None = None) -> tuple[int | None, ...]:
        """Whether these strides are 1, but for one and the mask's; if so, as a tuple, its `mask_spread`."""
        if any(s != 1 for i, s in enumerate(of_all[:-1] if masked else of_all) if i != but):
            return ()
        return (None if of_all[-1] == 1 else BESIDE,)

    def tables(grid: list[Axis], steps: list[Axis], *form: int) -> tuple[Any, ...]:
        return table(grid, count), table(steps, count), np.array(form, np.int64)

    def tiles(grid: list[Axis]) -> int:
        return math.prod(size for size, _ in grid)

    one_axis = len(reduced) == 1
    (_, strides_n) = reduced[-1]
    along = [(whole(n), tuple(s * LANES for s in strides_n))]
    if one_axis and (mask_spread := neighbours(strides_n, per_row)):
        tile = n * LANES * wide
        if packs and tile < (row_tile or ROW_TILE // packs**2) and len(kept) == 1 and rows >= LANES // 2:
            grid = [(whole(rows), tuple(s * LANES for s in kept[0][1]))]
            made = tables(grid, reduced, n, rows, whole(rows))
            return Plan(True, (None, None, None), (*made, 0), whole(rows), 1, first)
        ways = None, *mask_spread, None
        return Plan(False, ways, tables(kept, along, whole(n), n, 1) + ways, rows, 1, first)
    if one_axis and kept and (mask_spread := neighbours(kept[-1][1])):
        inner = kept[-1][0]
        grid = [*kept[:-1], (whole(inner), tuple(s * LANES for s in kept[-1][1]))]
        made = tables(grid, reduced, n, inner, whole(inner))
        tile = n * LANES * wide * packs
        if packs and tile <= COLUMN_TILES:
            group = max(1, min(COLUMN_TILES // tile, COLUMN_LINE // (LANES * itemsize), whole(inner)))
            return Plan(True, (None, None, None), (*made, group), tiles(grid), group, first)
        ways = None, *mask_spread, 0
        return Plan(False, ways, made + ways, tiles(grid), 1, first)
    if one_axis and n >= LANES:
        ways = 0, 0, None
        return Plan(False, ways, tables(kept, along, whole(n), n, 1) + ways, rows, 1, first)
    ways = 0, 0, 0
    return Plan(False, ways, tables(kept, reduced, n, rows, whole(rows)) + ways, whole(rows), 1, first)
