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
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

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
LAST = {"CHUNK": CHUNK, "enable_fp_fusion": False}


@functools.lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """How many multiprocessors there are to fill."""
    return 1 if device.type != "cuda" else torch.cuda.get_device_properties(device).multi_processor_count


@contextlib.contextmanager
def on(tensor: Tensor) -> Iterator[None]:
    """On its device; the interpreter is NumPy, which would warn of NaN."""
    if tensor.is_cuda:
        with torch.cuda.device(tensor.device):
            yield
    else:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield


class Walk:
    """Tensors of one shape as lines along the last dim, and how they are shared among programs; `outs` are
    written.

    Where the other dims can't be walked as two (slices of slices), copies are, and `done` brings the results
    into `outs`.  `weight` and `looped` are as for `tiles.tile`.
    """

    def __init__(
        self,
        tensors: list[Tensor],
        outs: list[Tensor],
        where: Tensor | None,
        weight: int = 1,
        looped: dict[int, int] | None = None,
    ) -> None:
        first = tensors[0]
        self.device = first.device
        mask = [] if where is None else [where.view(torch.uint8)]
        self.outs, self.targets = outs, outs
        found = lines.of([*tensors, *outs, *mask])
        if found is None:
            tensors, mask = [t.contiguous() for t in tensors], [m.contiguous() for m in mask]
            self.targets = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in outs]
            found = lines.of([*tensors, *self.targets, *mask])
        assert found is not None
        self.form = found.outer, found.inner, found.n
        self.lines = found.outer * found.inner
        tile = tiles.tile(found, first.itemsize, processors(self.device), weight, looped)
        self.parts = tile.parts
        across = found.outer * -(-found.inner // tile.lines)
        self.blocks = across if found.across else -(-self.lines // tile.lines)
        self.grid = (self.blocks * tile.parts,)
        arrays = [*tensors, *self.targets, *mask]
        given: list[Any] = [a for pair in zip(arrays, found.steps, strict=True) for a in pair]
        if not mask:
            given += [None, NO_STEPS]
        self.read, self.written = given[: 2 * len(tensors)], given[2 * len(tensors) : -2]
        self.mask = given[-2:]
        lane, wide = TYPES[first.dtype]
        self.types = {"TYPE": lane, "WIDE": wide}
        self.cut = {
            "VEC": found.vec,
            "LINES": tile.lines,
            "BLOCK": tile.block,
            "ACROSS": found.across,
            "num_warps": tile.warps,
            "num_ctas": tile.blocks,
            "enable_fp_fusion": False,
        }

    def room(self, numbers: int) -> tuple[Tensor, Tensor]:
        """Where parts, and then lines, leave so many numbers (see parts.py)."""
        options: dict[str, Any] = {"dtype": torch.float64, "device": self.device}
        each = torch.empty(numbers * self.lines * self.parts, **options)
        return each, torch.empty(numbers * self.lines, **options)

    def done(self) -> None:
        for out, target in zip(self.outs, self.targets, strict=True):
            if target is not out:
                out.copy_(target)


def in_parts(scale: float, dtype: torch.dtype) -> tuple[float, float, float]:
    """(factor, low part, power of two): their product is the scale.  As in `softgrad.numpy.maps`."""
    fraction, exponent = math.frexp(scale)
    fraction, power = 2 * fraction, 2.0 ** (exponent - 1)
    if dtype == torch.float64 or scale == 0:
        return fraction, 0.0, power
    factor = float(np.float32(fraction))
    if power < 2.0**-149:
        return factor, fraction - factor, 2.0**-149
    return factor, float(np.float32(fraction - factor)), power


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
    exponentials = map in ("softmax", "log_softmax")
    way = "steep" if alpha > 2 else name_of(map, alpha)
    if exponentials:
        walk = Walk([x], [out], where)
    else:
        power = "powers" if way in ("entmax", "steep") else "squares"
        table = tiles.LOOPED["float64" if x.dtype == torch.float64 else power]
        walk = Walk([x], [out], where, looped=table)
    given = [*walk.read, *walk.written, *walk.mask]
    numbers = sign, *in_parts(abs(scale), x.dtype)
    with on(x):
        if exponentials:
            options = {"SCALED": abs(scale) != 1.0, **walk.types, **walk.cut}
            log = map == "log_softmax"
            if walk.parts == 1:
                softmax_kernel[walk.grid](*given, *walk.form, *numbers, nothing, **options, LOG=log)
            else:
                room, lot = walk.room(3)
                parts.softmax_sums[walk.grid](
                    *walk.read, *walk.mask, room, *walk.form, walk.parts, *numbers, **options
                )
                wide = in_parts(abs(scale), torch.float64)
                parts.softmax_total[(walk.lines,)](
                    room, lot, walk.lines, walk.parts, *wide, SCALED=options["SCALED"], **LAST
                )
                parts.softmax_write[walk.grid](
                    *given, lot, *walk.form, walk.parts, *numbers, nothing, **options, LOG=log
                )
        else:
            options = {"TYPE": walk.types["TYPE"], **walk.cut, "HELD": walk.parts == 1}
            entmax_kernel[(walk.blocks,)](*given, *walk.form, *numbers, nothing, alpha, MAP=way, **options)
    walk.done()


def name_of(map: str, alpha: float) -> str:
    """The MAP of the kernels (see weights.py)."""
    return "entmax15" if map == "entmax" and alpha == 1.5 else map


def mean_in_parts(
    walk: Walk, read: list[Any], room: Tensor, lot: Tensor, alpha: float, options: dict[str, Any]
) -> None:
    """Leave the means of the second tensor of `read`, with the weights of the first, in `lot`."""
    parts.vjp_sums[walk.grid](*read, *walk.mask, room, *walk.form, walk.parts, alpha, **options)
    lane = walk.types["WIDE" if options["MAP"] == "log_softmax" else "TYPE"]
    parts.vjp_mean[(walk.lines,)](room, lot, walk.lines, walk.parts, TYPE=lane, **LAST)


def product(
    map: str, y: Tensor, v: Tensor, where: Tensor | None, scale: float, out: Tensor, alpha: float
) -> None:
    """v − the mean of v with the weights s(y) of the map, times s(y); of log_softmax not times exp(y)."""
    if y.numel() == 0:
        return
    # sums with rounded weights take more registers, and those of log_softmax are wider than y
    walk = Walk([y, v], [out], where, {"softmax": 1, "sparsemax": 1, "entmax": 2, "log_softmax": 4}[map])
    given = [*walk.read, *walk.written, *walk.mask]
    options = {"MAP": name_of(map, alpha), **walk.types, **walk.cut}
    scaled = scale != 1.0
    with on(y):
        if walk.parts == 1:
            vjp_kernel[walk.grid](*given, *walk.form, alpha, scale, SCALED=scaled, **options)
        else:
            room, lot = walk.room(7)
            mean_in_parts(walk, walk.read, room, lot, alpha, options)
            parts.vjp_write[walk.grid](
                *given, lot, *walk.form, walk.parts, alpha, scale, SCALED=scaled, **options
            )
    walk.done()


def log_product(y: Tensor, dy: Tensor, where: Tensor | None, scale: float, out: Tensor) -> None:
    """dy − exp(y)·Σdy."""
    if y.numel() == 0:
        return
    walk = Walk([y, dy], [out], where, 2)
    given = [*walk.read, *walk.written, *walk.mask]
    options = {**walk.types, **walk.cut}
    scaled = scale != 1.0
    with on(y):
        if walk.parts == 1:
            log_vjp_kernel[walk.grid](*given, *walk.form, scale, SCALED=scaled, **options)
        else:
            room, lot = walk.room(4)
            parts.log_vjp_sums[walk.grid](*walk.read, *walk.mask, room, *walk.form, walk.parts, **options)
            parts.log_vjp_total[(walk.lines,)](room, lot, walk.lines, walk.parts, **LAST)
            parts.log_vjp_write[walk.grid](
                *given, lot, *walk.form, walk.parts, scale, SCALED=scaled, **options
            )
    walk.done()


def double_backward(
    map: str, y: Tensor, dy: Tensor, v: Tensor, grad_x: Tensor, grad_dy: Tensor, scale: float, alpha: float
) -> None:
    if y.numel() == 0:
        return
    walk = Walk([y, dy, v], [grad_x, grad_dy], None, 2)
    options = {"MAP": name_of(map, alpha), **walk.types, **walk.cut}
    scaled = scale != 1.0
    with on(y):
        if walk.parts == 1:
            double_backward_kernel[walk.grid](
                *walk.read, *walk.written, *walk.form, alpha, scale, SCALED=scaled, **options
            )
        else:
            room, lot = walk.room(9)
            of_y, of_dy, of_v = walk.read[:2], walk.read[2:4], walk.read[4:]
            if map != "log_softmax":
                mean_in_parts(walk, of_y + of_dy, room, lot, alpha, options)
            mean_in_parts(walk, of_y + of_v, room, lot[parts.V_MEAN.value * walk.lines :], alpha, options)
            parts.double_backward_sums[walk.grid](
                *walk.read, room, lot, *walk.form, walk.parts, alpha, **options
            )
            parts.double_backward_total[(walk.lines,)](room, lot, walk.lines, walk.parts, **LAST)
            parts.double_backward_write[walk.grid](
                *walk.read, *walk.written, lot, *walk.form, walk.parts, alpha, scale, SCALED=scaled, **options
            )
    walk.done()
