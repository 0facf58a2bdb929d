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
    def jacobian_bytes(self) -> int:
        return self.nbytes * self.n

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
        rng, dtype = np.random.default_rng(42), dtype_of(self.dtype)
        count, _ = ARRAYS[self.what]
        x, *others = (rng.standard_normal(self.shape, np.float32).astype(dtype) for _ in range(count))
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


def product(*choices: Sequence[Any]) -> list[Case]:
    """The case of each combination of these values of its fields; a ValueError says why one cannot be."""
    cases = [Case(*values) for values in itertools.product(*choices)]
    for case in cases:
        needed, free, axes = AT_ONCE * case.nbytes, memory.available(case.device), len(case.shape)
        shape = "x".join(map(str, case.shape))
        if not -axes <= case.axis < axes:
            raise ValueError(
                f"axis {case.axis} is not there in {shape}, which has the axes {-axes} to {axes - 1}"
            )
        if free is not None and needed > free:
            most = free // AT_ONCE // dtype_of(case.dtype).itemsize
            raise ValueError(
                f"{shape} in {case.dtype} takes some {with_unit(needed, BYTES)} at once, and there are "
                f"{with_unit(free, BYTES)}: enough for arrays of {most:,} numbers"
            )
    return cases
