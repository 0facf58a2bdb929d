"""A call on segments, on memory that is checked already: what `plan.py` and `call.py` are for whole axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .. import threads
from . import by_formulas, machine, team
from .call import BYTES, NO_MASK, numbers

BLOCK = 65536  # about how many elements, with all columns side by side, a thread takes at a time


@dataclass(frozen=True, slots=True)
class Way:
    table: npt.NDArray[np.int64]  # see `segments.drive`
    direct: bool
    width: int  # columns in a tile
    places: int  # of the kept axes
    values: npt.NDArray[np.float64]
    rows: int  # that go through scratch memory at once, if no segment is longer
    memory: int  # float64s that `drive` needs beside those
    addresses: tuple[int, int]  # of the table and the values


@functools.lru_cache(maxsize=1024)
def way(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    axis: int,
    scale: float,
    in_place: bool,
) -> Way | None:
    """The way through arrays of one shape; None if the columns of the last have other strides."""
    with threads.first_use:
        from . import kernels, segments
        from .plan import merged

    operation = kernels.OPERATIONS[name]
    read, narrow = operation.read, dtype in ("float16", "bfloat16")
    values, multiply = numbers(operation.fill, operation.logits, read == 2, dtype == "float64", scale, 0.0)
    walked = [*strides, *[(0,) * len(shape)] * (segments.MOST - len(strides))]
    order = sorted(set(range(len(shape))) - {axis}, key=lambda d: -max(abs(s[d]) for s in strides[:read]))
    kept = [(shape[d], tuple(steps[d] for steps in walked)) for d in order]
    along = tuple(steps[axis] for steps in walked)
    # Columns are told by what is read alone: `out` does not change the bits.
    side = merged([(size, steps[:read]) for size, steps in kept])
    columns = bool(side) and side[-1][0] >= 8 and set(side[-1][1]) == {1} and set(along[:read]) != {1}
    kept = merged(kept)
    features, across = kept.pop() if columns else (1, (0,) * segments.MOST)
    if columns and features != side[-1][0]:
        return None
    element = "float32" if narrow else dtype
    neighbours = (across if columns else along)[: len(strides)]
    direct = set(neighbours) == {1} and not (narrow or multiply or in_place)
    kernel, width = f"{name}_rows", 1
    if columns and features in (8, 16, 24):
        kernel, width = f"{name}_columns", features
        direct = direct and set(along[: len(strides)]) == {features}
    elif columns:
        kernel, width = "each", min(features, 256)
    tiles = -(-features // width)
    kept.append((tiles, tuple(step * width for step in across)))
    room = operation.columns_room(0, width, False) if columns else operation.rows_room(segments.SHORT, False)
    header = [0] * segments.SIZES
    header[segments.KERNEL] = kernels.segment_kernel(kernel, element)
    header[segments.WHOLE] = kernels.kernel(name, columns, element)
    header[segments.READ], header[segments.COLUMNS], header[segments.DIRECT] = read, columns, direct
    header[segments.WIDTH], header[segments.FEATURES], header[segments.ITEM] = width, features, BYTES[element]
    header[segments.ROOM], header[segments.KEPT] = segments.OWN + room, len(kept)
    for i in range(len(strides)):
        moved = kernels.gather(dtype, element) if i < read else kernels.scatter(element, dtype)
        header[segments.MOVE + i] = moved
    fields = [
        [*[steps[i] for _, steps in kept], along[i], across[i], BYTES[dtype]] for i in range(segments.MOST)
    ]
    table = header + [size for size, _ in kept] + [field for of_one in fields for field in of_one]
    places = math.prod(size for size, _ in kept)
    plan, rows = np.array(table, np.int64), segments.CHUNK // width
    memory = segments.MOST * 2 * segments.SHORT + (segments.OWN + room) // 8 + 8
    return Way(plan, direct, width, places, values, rows, memory, (plan.ctypes.data, values.ctypes.data))


def run(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    addresses: Sequence[int],
    strides: Sequence[tuple[int, ...]],
    axis: int,
    offsets: npt.NDArray[np.int64],
    scale: float,
) -> bool:
    """Do the operation `name` on segments of arrays as `call.run` takes them; whether it could be done.

    It can't if the columns of the last array have other strides than those of the others.
    """
    n, size = shape[axis], BYTES[dtype]
    if machine.lacks(dtype):
        threads.ran("formulas", f"segment_{name}")
        for begin, end in pairwise(offsets.tolist()):
            part = (*shape[:axis], end - begin, *shape[axis + 1 :])
            there = [a + begin * steps[axis] * size for a, steps in zip(addresses, strides, strict=True)]
            if begin < end:
                by_formulas.run(name, dtype, part, there, strides, (axis,), None, scale, 0.0)
        return True
    found = way(name, dtype, shape, tuple(strides), axis, scale, addresses[-1] in addresses[:-1])
    if found is None:
        return False
    from . import kernels

    block = max(1, BLOCK // found.width)
    edges = np.zeros(2, np.int64)
    if n > block:
        edges = np.searchsorted(offsets[:-1], np.arange(0, n + block, block))
    edges[-1] = len(offsets) - 1
    blocks = len(edges) - 1
    longest = found.rows if found.direct else max(found.rows, int(np.diff(offsets).max()))
    memory = 3 * longest * found.width + found.memory
    arguments = *found.addresses, *(*addresses, 0)[:3], NO_MASK
    arguments += offsets.ctypes.data, edges.ctypes.data, blocks, longest
    units = blocks * found.places
    ways = min(threads.threads_for(math.prod(shape)), units)
    threads.ran("numba", f"segment_{name}", ways)
    team.run(kernels.segment_driver(), arguments, memory, units, ways)
    return True
