"""What `softgrad bench` measures: a function of the family, on arrays of one shape and dtype."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import Array
from ..commands.words import BYTES, in_words
from ..specs import MAPS
from ..testing import judging
from ..testing.maps import operation
from ..testing.options import dtype_of
from ..verify.peers import softgrads

Arrays = tuple[Array, ...]

# How many arrays are read, and how many written
ARRAYS = {"forward": (1, 1), "vjp": (2, 1), "jvp": (2, 1), "double-backward": (3, 2)}
OPS: dict[str, tuple[str, Any]] = {
    map if what == "forward" else f"{map}_{what.replace('-', '_')}": (map, what)
    for map in MAPS
    for what in ARRAYS
}

# What is measured unless shapes are given, and with --quick: the article's 32 rows from registers to DRAM
SWEEPS = "32x8,32x64,32x512,32x4096,32x32768,32x262144,4096x4096,200000x8", "32x64,32x512,32x4096"

JUDGED = 2**16  # elements, in whole rows, that are compared with the exact result
AT_ONCE = 16  # arrays that there are, at most, with what the implementations hold at their peaks


@dataclass(frozen=True)
class Case:
    """One function on arrays of one shape."""

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
        """The bytes that have to be read or written, once each."""
        return self.nbytes * sum(ARRAYS[self.what])

    @property
    def name(self) -> str:
        shape = " × ".join(map(str, self.shape))
        along = "" if self.axis in (-1, len(self.shape) - 1) else f", axis {self.axis}"
        return f"{self.op} {shape} {self.dtype}{along}"

    def arguments(self) -> Arrays:
        """(x,), (y, dy), (y, dx) or (y, dy, v): normal random numbers, y of such."""
        rng = np.random.default_rng(42)
        count, _ = ARRAYS[self.what]
        x, *others = (
            rng.standard_normal(self.shape, np.float32).astype(dtype_of(self.dtype)) for _ in range(count)
        )
        if self.what == "forward":
            return (x,)
        return (softgrads(self.map, "forward")(x, axis=self.axis), *others)

    def rows(self, array: Array) -> Array:
        """Some rows of an array, evenly spread, as the last axis of two."""
        last = np.moveaxis(array, self.axis, -1)
        outer = math.prod(last.shape[:-1])
        count = max(1, min(outer, JUDGED // self.n))
        places = np.linspace(0, outer - 1, count).round().astype(int)
        return np.stack([last[np.unravel_index(place, last.shape[:-1])] for place in places])

    def judge(self, arguments: Arrays) -> judging.Case:
        """These rows and what is exact for them, to compare results with."""
        given = operation(self.map, self.what)
        rows = tuple(map(self.rows, arguments))
        exact = given.exact(*rows)
        allowed = given.allowed("sound", rows, exact)
        return judging.Case(given, "sound", judging.within, rows, exact, allowed, ("",) * len(rows[0]))


# --- options -----------------------------------------------------------------------------------------


def chosen(text: str, known: Sequence[str]) -> list[str]:
    """Words between commas, each one of those that are known."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{unknown[0] or 'nothing'} was given; it takes some of {', '.join(known)}")
    return names


def shapes(text: str) -> list[tuple[int, ...]]:
    found = []
    for part in text.split(","):
        lengths = part.strip().replace("×", "x").split("x")
        if not all(length.isascii() and length.isdecimal() and int(length) > 0 for length in lengths):
            raise ValueError(f"{part.strip() or 'nothing'} was given; it takes shapes such as 32x512,8x16x64")
        found.append(tuple(map(int, lengths)))
    return list(dict.fromkeys(found))


def threads(text: str) -> list[int]:
    found = []
    here = processors()
    for part in text.split(","):
        number = part.strip()
        if not (number.isascii() and number.isdecimal() and 1 <= int(number) <= here):
            raise ValueError(
                f"{number or 'nothing'} was given; it takes numbers from 1 to {here}, the processors here"
            )
        found.append(int(number))
    return list(dict.fromkeys(found))


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def product(
    ops: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    axis: int,
    dtypes: Sequence[str],
    threads: Sequence[int],
    device: str = "cpu",
) -> list[Case]:
    """All cases; a ValueError says which cannot be."""
    for shape in shapes:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(
                f"axis {axis} is not there in {'x'.join(map(str, shape))}, which has the axes "
                f"{-len(shape)} to {len(shape) - 1}"
            )
    cases = [Case(*one, device) for one in itertools.product(ops, shapes, [axis], dtypes, threads)]
    largest, there = max(cases, key=lambda case: case.nbytes), available(device)
    needed = AT_ONCE * largest.nbytes
    if there is not None and needed > there:
        most = there // AT_ONCE // dtype_of(largest.dtype).itemsize
        raise ValueError(
            f"{'x'.join(map(str, largest.shape))} in {largest.dtype} takes some {in_words(needed, BYTES)} at "
            f"once, and there are {in_words(there, BYTES)}: enough for arrays of {most:,} numbers"
        )
    return cases


def available(device: str) -> int | None:
    """Bytes of memory that can be had; None if unknown."""
    if device == "cuda":
        import torch

        free: int = torch.cuda.mem_get_info()[0]
        return free
    info = Path("/proc/meminfo")
    if not info.exists():
        return None
    found = dict(line.split(":") for line in info.read_text().splitlines())
    return int(found["MemAvailable"].split()[0]) * 1024
