"""The maps and their derivatives on torch tensors: which kernels, in which order.

Rows lie along the last dim, and results are written to `out`.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from . import parts
from .double_backward import double_backward as double_backward_kernel
from .entmax import entmax as entmax_kernel
from .log_vjp import log_vjp as log_vjp_kernel
from .softmax import softmax as softmax_kernel
from .vjp import vjp as vjp_kernel
from .walk import Walk, on


@functools.lru_cache(maxsize=256)
def in_parts(scale: float, double: bool) -> tuple[float, float, float]:
    """A scale in the three numbers that the kernels take: (factor, low part, power of two), with its product.

    Factor and low part are numbers of the type that the kernels compute in, float64 if `double`, or else
    float32; from 1 to 2 in sum, so that the low part is no subnormal number.
    """
    fraction, exponent = math.frexp(scale)
    fraction, power = 2 * fraction, 2.0 ** (exponent - 1)
    if double or scale == 0:
        return fraction, 0.0, power
    factor = float(np.float32(fraction))
    if power < 2.0**-149:  # beyond the smallest float32; the differences are below 2¹²⁸
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
