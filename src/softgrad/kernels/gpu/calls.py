"""The maps and their derivatives on torch tensors: which kernel, on which tile.

CUDA tensors; on the CPU too, for tests, where Triton interprets its kernels (``TRITON_INTERPRET=1`` when it
is first imported).  Rows lie along the last dim, and results are written to `out`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ...scaling import in_parts
from . import lines, parts, tiles
from .double_backward import double_backward as double_backward_kernel
from .entmax import entmax as entmax_kernel
from .log_vjp import log_vjp as log_vjp_kernel
from .softmax import softmax as softmax_kernel
from .vjp import vjp as vjp_kernel

INTERPRETED = triton.knobs.runtime.interpret
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


def check_rows(x: Tensor, where: Tensor | None, sign: float) -> None:
    """Raise for a row with nothing in it."""
    nothing = x == -math.inf * sign
    if where is not None:
        nothing = nothing | ~where
    if nothing.all(-1).any():
        raise ValueError(
            "x has a row with nothing in it (all −inf, or masked), and empty='raise': give empty='zero' or "
            "empty='nan', or leave such rows out"
        )


def forward(
    map: str, x: Tensor, where: Tensor | None, scale: float, empty: str, out: Tensor, alpha: float
) -> None:
    if x.numel() == 0:
        return
    sign = -1.0 if scale < 0 else 1.0
    if empty == "raise":
        check_rows(x, where, sign)
    nothing = math.nan if empty == "nan" else 0.0
    with on(x):
        if map in ("softmax", "log_softmax"):
            walk = Walk([x], [out], where)
            exponentials(walk, sign, abs(scale), nothing, map == "log_softmax")
        else:
            way = "steep" if alpha > 2 else name_of(map, alpha)
            walk = Walk([x], [out], where, looped=looped(way, x.dtype))
            given = [*walk.read, *walk.written, *walk.mask, *walk.plan.form]
            numbers = sign, *in_parts(abs(scale), x.dtype is torch.float64), nothing, alpha
            walk.over_tiles(entmax_kernel, *given, *numbers, MAP=way)
        walk.done()


def looped(way: str, dtype: torch.dtype) -> str:
    """The table of tiles for the entmax of a MAP."""
    if dtype is torch.float64:
        return "float64"
    return "powers" if way in ("entmax", "steep") else "squares"


def exponentials(walk: Walk, sign: float, scale: float, nothing: float, log: bool) -> None:
    given, form, count = [*walk.read, *walk.written, *walk.mask], walk.plan.form, walk.plan.parts
    numbers, scaled = (sign, *in_parts(scale, walk.outs[0].dtype is torch.float64)), scale != 1.0
    if count == 1:
        walk.over_tiles(softmax_kernel, *given, *form, *numbers, nothing, SCALED=scaled, LOG=log)
        return
    room, lot = walk.room(3)
    walk.over_tiles(parts.softmax_sums, *walk.read, *walk.mask, room, *form, count, *numbers, SCALED=scaled)
    wide = in_parts(scale, True)
    walk.over_lines(parts.softmax_total, room, lot, walk.plan.lines, count, *wide, SCALED=scaled)
    walk.over_tiles(parts.softmax_write, *given, lot, *form, count, *numbers, nothing, SCALED=scaled, LOG=log)


def name_of(map: str, alpha: float) -> str:
    """The MAP of the kernels (see weights.py)."""
    return "entmax15" if map == "entmax" and alpha == 1.5 else map


def mean_in_parts(walk: Walk, number: int, room: Tensor, lot: Tensor, alpha: float, way: str) -> None:
    """Leave the means of tensor `number` of those read, with the weights of the first, in `lot`."""
    form, count = walk.plan.form, walk.plan.parts
    read = walk.read[:2] + walk.read[2 * number : 2 * number + 2]
    walk.over_tiles(parts.vjp_sums, *read, *walk.mask, room, *form, count, alpha, MAP=way, number=number)
    lane = walk.plan.constants["WIDE" if way == "log_softmax" else "TYPE"]
    walk.over_lines(parts.vjp_mean, room, lot, walk.plan.lines, count, TYPE=lane)


def product(
    map: str, y: Tensor, v: Tensor, where: Tensor | None, scale: float, out: Tensor, alpha: float
) -> None:
    """v − the mean of v with the weights s(y) of the map, times s(y); of log_softmax not times exp(y)."""
    if y.numel() == 0:
        return
    # sums with rounded weights take more registers, and those of log_softmax are wider than y
    weight = {"softmax": 1, "sparsemax": 1, "entmax": 2, "log_softmax": 4}[map]
    way, scaled = name_of(map, alpha), scale != 1.0
    with on(y):
        walk = Walk([y, v], [out], where, weight)
        given, form, count = [*walk.read, *walk.written, *walk.mask], walk.plan.form, walk.plan.parts
        if count == 1:
            walk.over_tiles(vjp_kernel, *given, *form, alpha, scale, SCALED=scaled, MAP=way)
        else:
            room, lot = walk.room(7)
            mean_in_parts(walk, 1, room, lot, alpha, way)
            walk.over_tiles(parts.vjp_write, *given, lot, *form, count, alpha, scale, SCALED=scaled, MAP=way)
        walk.done()


def log_product(y: Tensor, dy: Tensor, where: Tensor | None, scale: float, out: Tensor) -> None:
    """dy − exp(y)·Σdy."""
    if y.numel() == 0:
        return
    scaled = scale != 1.0
    with on(y):
        walk = Walk([y, dy], [out], where, 2)
        given, form, count = [*walk.read, *walk.written, *walk.mask], walk.plan.form, walk.plan.parts
        if count == 1:
            walk.over_tiles(log_vjp_kernel, *given, *form, scale, SCALED=scaled)
        else:
            room, lot = walk.room(4)
            walk.over_tiles(parts.log_vjp_sums, *walk.read, *walk.mask, room, *form, count)
            walk.over_lines(parts.log_vjp_total, room, lot, walk.plan.lines, count)
            walk.over_tiles(parts.log_vjp_write, *given, lot, *form, count, scale, SCALED=scaled)
        walk.done()


def double_backward(
    map: str, y: Tensor, dy: Tensor, v: Tensor, grad_x: Tensor, grad_dy: Tensor, scale: float, alpha: float
) -> None:
    if y.numel() == 0:
        return
    with on(y):
        walk = Walk([y, dy, v], [grad_x, grad_dy], None, 2)
        given, form, count = [*walk.read, *walk.written], walk.plan.form, walk.plan.parts
        way, scaled = name_of(map, alpha), scale != 1.0
        if count == 1:
            walk.over_tiles(double_backward_kernel, *given, *form, alpha, scale, SCALED=scaled, MAP=way)
        else:
            room, lot = walk.room(9)
            if map != "log_softmax":
                mean_in_parts(walk, 1, room, lot, alpha, way)
            v_lot = lot[parts.V_MEAN.value * walk.plan.lines :]
            mean_in_parts(walk, 2, room, v_lot, alpha, way)
            walk.over_tiles(parts.double_backward_sums, *walk.read, room, lot, *form, count, alpha, MAP=way)
            walk.over_lines(parts.double_backward_total, room, lot, walk.plan.lines, count)
            walk.over_tiles(
                parts.double_backward_write, *given, lot, *form, count, alpha, scale, SCALED=scaled, MAP=way
            )
        walk.done()
