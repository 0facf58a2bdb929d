"""Tensors of one shape walked as lines along their last dim, and kernels launched on tiles of these.

CUDA tensors; on the CPU too, for tests, where Triton interprets its kernels (``TRITON_INTERPRET=1`` when it
is first imported).
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from .elements import Array, Form, Shape

OLDEST = (3, 6)  # Triton that compiles every kernel; `make test-compat` sees to it


def check_version(found: str) -> None:
    """Refuse a Triton whose compiler would fail later, in its own words."""
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST:
        raise ImportError(
            f"Triton {found} is installed; the kernels for CUDA tensors take 3.6 or later, which PyTorch "
            f"2.11 and later bring: pip install --upgrade torch, or uninstall triton, and PyTorch's "
            f"operations compute the formulas instead"
        )


check_version(triton.__version__)

# Elements that a program holds, by their size: of a thread 255 registers at most, of one of 512 threads 128.
HELD = {2: 16384, 4: 16384, 8: 4096}
BLOCK = {2: 4096, 4: 4096, 8: 2048}  # of a line that is not held, at once
FEW = {2: 2048, 4: 2048, 8: 1024}  # elements of a tile of several lines
LONG = 16384  # bytes of a line from which two launches that fill the chip pay, where lines are few
PROGRAMS = 2  # that fill a multiprocessor
SHORTEST, MOST_PARTS = 1024, 256  # elements of a part, parts of a line


@functools.lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """How many multiprocessors there are to fill."""
    return 1 if device.type != "cuda" else torch.cuda.get_device_properties(device).multi_processor_count


def on(tensor: Tensor) -> Any:
    """The context of its device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else quiet()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The interpreter is NumPy, which would warn of NaN."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Lines:
    """outer × inner lines of n elements, and each tensor's step from one to the next of the three."""

    outer: int
    inner: int
    n: int
    steps: tuple[tuple[int, int, int], ...]

    @property
    def columns(self) -> bool:
        """Whether neighbours in memory lie on neighbouring lines."""
        return self.n > 1 and self.steps[0][2] != 1 and self.steps[0][1] == 1

    def vectors(self, itemsize: int) -> tuple[int, int]:
        """How many elements of a line, or else neighbouring lines, lie side by side, aligned, in 16 bytes."""
        outer, inner, along = zip(*self.steps, strict=True)
        if self.columns:
            return 1, math.gcd(16 // itemsize, self.inner, *outer, *along)
        return math.gcd(16 // itemsize, self.n, *outer, *inner), 1


@functools.lru_cache(maxsize=1024)
def lines(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> Lines | None:
    """None where the dims before the last can't be walked as two: then a copy has to be made."""
    # dims that lie one within the other in every tensor are one: [size, stride of each tensor]
    groups: list[list[int]] = []
    others = [d for d in range(len(shape) - 1) if shape[d] != 1]
    for d in sorted(others, key=lambda d: tuple(-s[d] for s in strides)):
        step = [s[d] for s in strides]
        if groups and all(a == b * shape[d] for a, b in zip(groups[-1][1:], step, strict=True)):
            groups[-1] = [groups[-1][0] * shape[d], *step]
        else:
            groups.append([shape[d], *step])
    if len(groups) > 2:
        return None
    one = [1] + [0] * len(strides)
    (outer, *outer_steps), (inner, *inner_steps) = [one] * (2 - len(groups)) + groups
    along = [s[-1] for s in strides]
    return Lines(outer, inner, shape[-1], tuple(zip(outer_steps, inner_steps, along, strict=True)))


@dataclass(frozen=True, slots=True)
class Tile:
    """LINES × BLOCK elements, and the `parts`, a program each, of a line that is not held."""

    lines: int
    block: int
    warps: int
    held: bool
    parts: int = 1


def tile(found: Lines, itemsize: int, processors: int, weight: float) -> Tile:
    """For a kernel that holds `weight` times as much as the product."""
    n, inner, most = found.n, found.inner, int(HELD[itemsize] / weight)
    block, side = power_of_two(n), 1
    if found.columns:  # 128 bytes of neighbours, or fewer to hold whole lines: at least 32
        side, least = (min(power_of_two(inner), size // itemsize) for size in (128, 32))
        if block * least <= most:
            side = min(side, most // block)
    programs = found.outer * -(-inner // side)

    def warps(size: int) -> int:
        load = size * max(weight, 1) * (2 if itemsize == 8 else 1)
        return 4 if load <= 2048 else 8 if load <= 8192 or weight > 4 else 16

    share = PROGRAMS * processors // programs  # programs that a line may have for itself
    few = n * itemsize > LONG and share > 1
    if few or block * side > most:
        block = min(block, max(min(BLOCK[itemsize], most) // side, 1))
        if few:
            block = min(block, max(power_of_two(n // share), SHORTEST // side))
        parts = min(share, -(-n // block), MOST_PARTS) if few else 1
        return Tile(side, block, warps(side * block), False, parts)
    side = max(side, min(power_of_two(inner), FEW[itemsize] // block))
    return Tile(side, block, warps(side * block), True)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    lines: Lines
    tile: Tile
    programs: int
    form: Form


@functools.lru_cache(maxsize=1024)
def plan(
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    device: torch.device,
    weight: float,
) -> Plan | None:
    """None where the dims can't be walked."""
    found = lines(shape, strides)
    if found is None:
        return None
    cut = tile(found, dtype.itemsize, processors(device), weight)
    along, across = found.vectors(dtype.itemsize)
    working = tl.float64 if dtype is torch.float64 else tl.float32
    form = Form(*map(tl.constexpr, (working, along, across, cut.lines, cut.block)))
    return Plan(found, cut, found.outer * -(-found.inner // cut.lines), form)


class Walk:
    """Tensors of one shape as lines along the last dim; `outs` are written.

    Where the other dims can't be walked as two (slices of slices), copies are.  `weight` is as for `tile`.
    """

    def __init__(self, read: list[Tensor], outs: list[Tensor], where: Tensor | None, weight: float = 1):
        mask = [] if where is None else [where.view(torch.uint8)]
        self.outs, self.targets = outs, outs
        found = self.planned([*read, *outs, *mask], weight)
        if found is None:
            read, mask = [t.contiguous() for t in read], [m.contiguous() for m in mask]
            self.targets = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in outs]
            found = self.planned([*read, *self.targets, *mask], weight)
        assert found is not None
        self.plan = found
        arrays = [Array(a, s) for a, s in zip([*read, *self.targets, *mask], found.lines.steps, strict=True)]
        none = [] if mask else [Array(None, (0, 0, 0))]
        self.arguments = *arrays, *none, Shape(found.lines.outer, found.lines.inner, found.lines.n)
        self.held = found.tile.held
        self.options = {"FORM": found.form, "num_warps": found.tile.warps, "enable_fp_fusion": False}

    @staticmethod
    def planned(tensors: list[Tensor], weight: float) -> Plan | None:
        first, strides = tensors[0], tuple([t.stride() for t in tensors])
        return plan(tuple(first.shape), strides, first.dtype, first.device, weight)

    def run(self, kernel: Any, long: Any, *numbers: Any, **constants: Any) -> None:
        """A program for each tile; or, of lines that are not held, a `long` kernel, if there is one, with a
        program for each part of each line.

        Each part keeps three numbers in `room` from its first launch to the second.  A line of one part has
        both stages in one, and the second sweep finds it in the cache.
        """
        programs, found, options = self.plan.programs, self.plan.lines, constants | self.options
        if self.held or long is None:
            kernel[(programs,)](*self.arguments, *numbers, **options)
        else:
            parts, out = self.plan.tile.parts, self.outs[0]
            dtype = torch.float64 if out.dtype is torch.float64 else torch.float32
            room = torch.empty(3 * found.outer * found.inner * parts, dtype=dtype, device=out.device)
            for stage in ("sums", "write") if parts > 1 else ("all",):
                grid, last = (programs, parts), {"PARTS": power_of_two(parts), "STAGE": stage}
                long[grid](*self.arguments, room, parts, *numbers, **options, **last)
        for out, target in zip(self.outs, self.targets, strict=True):
            if target is not out:
                out.copy_(target)
