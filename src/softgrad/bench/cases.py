"""A case of `softgrad bench`: one function of a map, on arrays of one shape and dtype."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array
from ..commands.units import BYTES, with_unit
from ..specs import MAPS
from ..testing import verdicts
from ..testing.operations import operation
from ..testing.options import dtype_of
from ..verify.peers import softgrad_function
from . import memory

Arrays = tuple[Array, ...]

# How many arrays are read, and how many written
ARRAYS = {"forward": (1, 1), "vjp": (2, 1), "jvp": (2, 1), "double-backward": (3, 2)}
OPS: dict[str, tuple[str, Any]] = {
    map if what == "forward" else f"{map}_{what.replace('-', '_')}": (map, what)
    for map in MAPS
    for what in ARRAYS
}

COMPARED = 2**16  # elements, in whole rows, to compare with the exact result
AT_ONCE = 16  # arrays in memory at once, at most, the peaks of the implementations included


@dataclass
class Case:
    op: str
    shape: tuple[int, ...]
    axis: int
    dtype: str
    threads: int
    device: str = "cpu"

    @property
    def map(self) -> str:
        return OPS[self.op][0]

    @property
    def what(self) -> Any:
        return OPS[self.op][1]

    @property
    def n(self) -> int:
        return self.shape[self.axis]

    @property
    def nbytes(self) -> int:
        """Of one array."""
        return math.prod(self.shape) * dtype_of(self.dtype).itemsize

    @property
    def moved(self) -> int:
        """Bytes to read or write, each once."""
        return self.nbytes * sum(ARRAYS[self.what])

    @property
    def name(self) -> str:
        along = "" if self.axis in (-1, len(self.shape) - 1) else f", axis {self.axis}"
        return f"{self.op} {self.size} {self.dtype}{along}"

    @property
    def size(self) -> str:
        return " × ".join(map(str, self.shape))

    def arguments(self) -> Arrays:
        """(x,), (y, dy), (y, dx) or (y, dy, v): normal random numbers, y the map's result for such."""
        rng = np.random.default_rng(42)
        count, _ = ARRAYS[self.what]
        x, *others = (
            rng.standard_normal(self.shape, np.float32).astype(dtype_of(self.dtype)) for _ in range(count)
        )
        if self.what == "forward":
            return (x,)
        return (softgrad_function(self.map, "forward")(x, axis=self.axis), *others)

    def rows(self, array: Array) -> Array:
        """Some rows of an array, evenly spread, along the last of two axes."""
        last = np.moveaxis(array, self.axis, -1)
        outer = math.prod(last.shape[:-1])
        count = max(1, min(outer, COMPARED // self.n))
        places = np.linspace(0, outer - 1, count).round().astype(int)
        return np.stack([last[np.unravel_index(place, last.shape[:-1])] for place in places])

    def reference(self, arguments: Arrays) -> verdicts.Case:
        """These rows of the arguments, with the exact results."""
        given = operation(self.map, self.what)
        rows = tuple(map(self.rows, arguments))
        exact = given.exact(*rows)
        allowed = given.allowed("sound", rows, exact)
        return verdicts.Case(given, "sound", verdicts.within, rows, exact, allowed, ("",) * len(rows[0]))


def product(
    ops: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    axis: int,
    dtypes: Sequence[str],
    threads: Sequence[int],
    device: str = "cpu",
) -> list[Case]:
    """A case for each combination; a ValueError where one has no such axis, or not enough memory."""
    for shape in shapes:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"axis {axis} is not there in {'x'.join(map(str, shape))}, which has the axes "
                f"{-len(shape)} to {len(shape) - 1}"
            )
    cases = [Case(*one, device) for one in itertools.product(ops, shapes, [axis], dtypes, threads)]
    largest, free = max(cases, key=lambda case: case.nbytes), memory.available(device)
    needed = AT_ONCE * largest.nbytes
    if free is not None and needed > free:
        most = free // AT_ONCE // dtype_of(largest.dtype).itemsize
        raise ValueError(
            f"{'x'.join(map(str, largest.shape))} in {largest.dtype} takes some {with_unit(needed, BYTES)} "
            f"at once, and there are {with_unit(free, BYTES)}: enough for arrays of {most:,} numbers"
        )
    return cases
