"""Tensors walked as lines, and kernels launched on them: a program for each tile, or for each line.

CUDA tensors; on the CPU too, for tests, where Triton interprets its kernels (``TRITON_INTERPRET=1`` when it
is first imported).
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from . import lines, tiles

# what a program computes in, and what it adds up in: wide enough for a product of two elements
TYPES = {
    torch.float16: (tl.float32, tl.float32),
    torch.bfloat16: (tl.float32, tl.float32),
    torch.float32: (tl.float32, tl.float64),
    torch.float64: (tl.float64, tl.float64),
}
CHUNK = 128  # parts of a line that are added up at once
NO_STEPS = (0, 0, 0)
# What a kernel was compiled to for a layout: Triton would look at each of twenty arguments to find it, 12 µs.
_compiled: dict[Any, tuple[Any, list[Any]]] = {}


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


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How tensors of one layout are shared among programs."""

    form: tuple[int, int, int]  # outer, inner, n
    steps: tuple[lines.Steps, ...]  # of each tensor
    lines: int
    parts: int
    grid: tuple[int, int, int]
    constants: dict[str, Any]  # what the kernels are compiled for
    options: dict[str, Any]  # and how


@functools.lru_cache(maxsize=1024)
def plan(
    shape: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    device: torch.device,
    weight: int,
    looped: str | None,
) -> Plan | None:
    """None where the dims can't be walked.  `weight` and `looped` are as for `tiles.tile`."""
    found = lines.lines(shape, strides)
    if found is None:
        return None
    tile = tiles.tile(found, dtype.itemsize, processors(device), weight, looped)
    count = found.outer * found.inner
    across = found.outer * -(-found.inner // tile.lines)
    blocks = across if found.across else -(-count // tile.lines)
    lane, wide = TYPES[dtype]
    return Plan(
        form=(found.outer, found.inner, found.n),
        steps=found.steps,
        lines=count,
        parts=tile.parts,
        grid=(blocks * (1 if looped else tile.parts), 1, 1),
        constants={
            "TYPE": lane,
            "WIDE": wide,
            "VEC": found.vec,
            "LINES": tile.lines,
            "BLOCK": tile.block,
            "ACROSS": found.across,
            "HELD": tile.parts == 1,
            "CHUNK": CHUNK,
        },
        options={"num_warps": tile.warps, "num_ctas": tile.blocks, "enable_fp_fusion": False},
    )


class Walk:
    """Tensors of one shape as lines along the last dim; `outs` are written.

    Where the other dims can't be walked as two (slices of slices), copies are, and `done` brings the results
    into `outs`.  `weight` and `looped` are as for `tiles.tile`.
    """

    def __init__(
        self,
        read: list[Tensor],
        outs: list[Tensor],
        where: Tensor | None,
        weight: int = 1,
        looped: str | None = None,
    ) -> None:
        mask = [] if where is None else [where.view(torch.uint8)]
        self.outs, self.targets = outs, outs
        first = read[0]
        of = first.shape, first.dtype, first.device, weight, looped
        found = self.planned([*read, *outs, *mask], *of)
        if found is None:
            read, mask = [t.contiguous() for t in read], [m.contiguous() for m in mask]
            self.targets = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in outs]
            found = self.planned([*read, *self.targets, *mask], *of)
        assert found is not None
        self.plan = found
        arrays = [*read, *self.targets, *mask]
        given: list[Any] = []
        for array, steps in zip(arrays, found.steps, strict=True):
            given += array, steps
        if not mask:
            given += None, NO_STEPS
        self.read, self.written, self.mask = given[: 2 * len(read)], given[2 * len(read) : -2], given[-2:]
        self.key = (found, *[array.data_ptr() % 16 == 0 for array in arrays])

    @staticmethod
    def planned(tensors: list[Tensor], shape: Any, *more: Any) -> Plan | None:
        return plan(shape, tuple([t.stride() for t in tensors]), *more)

    def over_tiles(self, kernel: Any, *given: Any, **flags: Any) -> None:
        """Call a kernel with a program for each tile.

        `flags` are what else it is compiled for than the plan: constants, and whatever tells apart calls of
        which the tensors stand in another order.
        """
        self.launch(kernel, self.plan.grid, self.plan.options, given, flags)

    def over_lines(self, kernel: Any, *given: Any, **flags: Any) -> None:
        """Call one with a program for each line."""
        self.launch(kernel, (self.plan.lines, 1, 1), {"enable_fp_fusion": False}, given, flags)

    def launch(self, kernel: Any, grid: Any, options: Any, given: tuple[Any, ...], flags: Any) -> None:
        key = id(kernel), self.key, *flags.values()
        found = _compiled.get(key)
        if found is not None:
            made, constants = found
            made[grid](*given, *constants)
            return
        known = {**self.plan.constants, **flags}
        constants = [known[name] for name in kernel.arg_names[len(given) :]]
        made = kernel[grid](*given, *constants, **options)
        if made is not None:  # the interpreter makes nothing
            if len(_compiled) >= 1024:
                _compiled.clear()
            _compiled[key] = made, constants

    def room(self, numbers: int) -> tuple[Tensor, Tensor]:
        """Where parts, and then lines, leave so many numbers (see parts.py)."""
        options: dict[str, Any] = {"dtype": torch.float64, "device": self.outs[0].device}
        each = torch.empty(numbers * self.plan.lines * self.plan.parts, **options)
        return each, torch.empty(numbers * self.plan.lines, **options)

    def done(self) -> None:
        for out, target in zip(self.outs, self.targets, strict=True):
            if target is not out:
                out.copy_(target)
