"""The maps and their derivatives on torch tensors: which kernel, on which tile.

CUDA tensors; on the CPU too, for tests, where Triton interprets its kernels (``TRITON_INTERPRET=1`` when it is
first imported).  Arguments are as in `softgrad.functional`, and are not checked; `dim` is one dim.
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


@functools.lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """How many multiprocessors there are to fill."""
    return 1 if device.type == "cpu" else torch.cuda.get_device_properties(device).multi_processor_count


@contextlib.contextmanager
def on(tensor: Tensor) -> Iterator[None]:
    """On its device; the interpreter is NumPy, which would warn of NaN."""
    if tensor.is_cpu:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    else:
        with torch.cuda.device(tensor.device):
            yield


class Walk:
    """Tensors of one shape as lines along `dim`; `out`, the last of them, is written.

    Where more than two other dims can't be walked as two (slices of slices), copies are, and `done` brings the
    result into `out`.
    """

    def __init__(self, tensors: list[Tensor], outs: list[Tensor], where: Tensor | None, dim: int) -> None:
        if tensors[0].ndim == 0:
            tensors, outs = [t.reshape(1) for t in tensors], [t.view(1) for t in outs]
            where = None if where is None else where.reshape(1)
        dim %= max(1, tensors[0].ndim)
        mask = [] if where is None else [where.view(torch.uint8)]
        self.outs, self.targets = outs, outs
        found = lines.of([*tensors, *outs, *mask], dim)
        if found is None:
            tensors, mask = [t.contiguous() for t in tensors], [m.contiguous() for m in mask]
            self.targets = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in outs]
            found = lines.of([*tensors, *self.targets, *mask], dim)
        assert found is not None
        self.form = found.outer, found.inner, found.n
        self.lines = found.outer * found.inner
        first = tensors[0]
        self.like = first
        self.tile = tiles.tile(
            found.n, self.lines, found.inner, first.itemsize, found.across, processors(first.device)
        )
        blocks = (
            found.outer * -(-found.inner // self.tile.lines)
            if found.across
            else -(-self.lines // self.tile.lines)
        )
        self.grid = (blocks * self.tile.parts,)
        arrays = [*tensors, *self.targets, *mask]
        given = [a for pair in zip(arrays, found.steps, strict=True) for a in pair]
        if not mask:
            given += [None, NO_STEPS]
        self.read, self.written = given[: 2 * len(tensors)], given[2 * len(tensors) : -2]
        self.mask = given[-2:]
        lane, wide = TYPES[first.dtype]
        self.types = {"TYPE": lane, "WIDE": wide}
        self.cut = {
            "VEC": found.vec,
            "LINES": self.tile.lines,
            "BLOCK": self.tile.block,
            "ACROSS": found.across,
            "num_warps": self.tile.warps,
            "enable_fp_fusion": False,
        }

    def room(self, numbers: int) -> tuple[Tensor, Tensor]:
        """Where parts, and then lines, leave so many numbers (see parts.py)."""
        options: dict[str, Any] = {"dtype": torch.float64, "device": self.like.device}
        each = torch.empty(numbers * self.lines * self.tile.parts, **options)
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


def check_rows(x: Tensor, where: Tensor | None, dim: int, sign: float) -> None:
    """Raise for a row with nothing in it."""
    nothing = x == -math.inf * sign
    if where is not None:
        nothing |= ~where
    if nothing.all(dim).any():
        raise ValueError(
            "x has a row with nothing in it (all −inf, or masked), and empty='raise': give empty='zero' or "
            "empty='nan', or leave such rows out"
        )


def forward(
    x: Tensor, dim: int, where: Tensor | None, scale: float, empty: str, out: Tensor | None, log: bool
) -> Tensor:
    out = torch.empty_like(x) if out is None else out
    if x.numel() == 0:
        return out
    sign = -1.0 if scale < 0 else 1.0
    where = None if where is None else where.expand(x.shape)
    if empty == "raise":
        check_rows(x, where, dim, sign)
    nothing = math.nan if empty == "nan" else 0.0
    walk = Walk([x], [out], where, dim)
    numbers = in_parts(abs(scale), x.dtype)
    scaled = {"SCALED": abs(scale) != 1.0}
    with on(x):
        if walk.tile.parts == 1:
            softmax_kernel[walk.grid](
                *walk.read, *walk.written, *walk.mask, *walk.form, sign, *numbers, nothing,
                **scaled, **walk.types, **walk.cut, LOG=log,
            )  # fmt: skip
        else:
            room, lot = walk.room(3)
            many = walk.tile.parts
            parts.softmax_sums[walk.grid](
                *walk.read, *walk.mask, room, *walk.form, many, sign, *numbers,
                **scaled, **walk.types, **walk.cut,
            )  # fmt: skip
            wide = in_parts(abs(scale), torch.float64)
            parts.softmax_total[(walk.lines,)](
                room, lot, walk.lines, many, *wide, **scaled, CHUNK=CHUNK, enable_fp_fusion=False
            )
            parts.softmax_write[walk.grid](
                *walk.read, *walk.written, *walk.mask, lot, *walk.form, many, sign, *numbers, nothing,
                **scaled, **walk.types, **walk.cut, LOG=log,
            )  # fmt: skip
    walk.done()
    return out


def product(
    y: Tensor, v: Tensor, dim: int, where: Tensor | None, scale: float, out: Tensor | None, map: str, alpha: float
) -> Tensor:
    out = torch.empty_like(y) if out is None else out
    if y.numel() == 0:
        return out
    where = None if where is None else where.expand(y.shape)
    walk = Walk([y, v], [out], where, dim)
    options = {"SCALED": scale != 1.0, "MAP": map}
    with on(y):
        if walk.tile.parts == 1:
            vjp_kernel[walk.grid](
                *walk.read, *walk.written, *walk.mask, *walk.form, alpha, scale,
                **options, **walk.types, **walk.cut,
            )  # fmt: skip
        else:
            room, lot = walk.room(7)
            many = walk.tile.parts
            parts.vjp_sums[walk.grid](
                *walk.read, *walk.mask, room, *walk.form, many, alpha, MAP=map, **walk.types, **walk.cut
            )
            parts.vjp_mean[(walk.lines,)](
                room, lot, walk.lines, many, TYPE=walk.types["TYPE"], CHUNK=CHUNK, enable_fp_fusion=False
            )
            parts.vjp_write[walk.grid](
                *walk.read, *walk.written, *walk.mask, lot, *walk.form, many, alpha, scale,
                **options, TYPE=walk.types["TYPE"], **walk.cut,
            )  # fmt: skip
    walk.done()
    return out


def softmax(
    x: Tensor, dim: int = -1, *, where: Tensor | None = None, scale: float = 1.0, empty: str = "zero",
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return forward(x, dim, where, scale, empty, out, False)


def log_softmax(
    x: Tensor, dim: int = -1, *, where: Tensor | None = None, scale: float = 1.0, empty: str = "zero",
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return forward(x, dim, where, scale, empty, out, True)


def softmax_vjp(
    y: Tensor, dy: Tensor, dim: int = -1, *, where: Tensor | None = None, scale: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return product(y, dy, dim, where, scale, out, "softmax", 1.0)
