"""The maps by `softgrad.formulas` on PyTorch's operations: where there are no kernels.

The formulas know rows along the last axis; the rest is done around them.  16-bit types are computed in
float32, and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..formulas import entmax, log_softmax, softmax, sparsemax
from .options import Call
from .tensors import wide


class xp:
    """PyTorch under the names of the array-API standard."""

    max, sum, any, exp, log, where = torch.amax, torch.sum, torch.any, torch.exp, torch.log, torch.where
    zeros_like, ones_like, maximum, squeeze = torch.zeros_like, torch.ones_like, torch.maximum, torch.squeeze

    @staticmethod
    def astype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor.to(dtype)


FORWARD: dict[str, Callable[..., Tensor]] = {
    "softmax": lambda z, alpha: softmax.softmax(z, xp),
    "log_softmax": lambda z, alpha: log_softmax.log_softmax(z, xp),
    "sparsemax": lambda z, alpha: sparsemax.sparsemax(z, xp),
    "entmax": lambda z, alpha: entmax.entmax(z, alpha, xp),
}
PRODUCT: dict[tuple[str, str], Callable[..., Tensor]] = {
    ("softmax", "vjp"): lambda y, v, alpha: softmax.vjp(y, v, xp),
    ("log_softmax", "vjp"): lambda y, v, alpha: log_softmax.vjp(y, v, xp),
    ("log_softmax", "jvp"): lambda y, v, alpha: log_softmax.jvp(y, v, xp),
    ("sparsemax", "vjp"): lambda y, v, alpha: sparsemax.vjp(y, v, xp),
    ("entmax", "vjp"): lambda y, v, alpha: entmax.vjp(y, v, alpha, xp),
}


def to_rows(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The dims last, as one."""
    if tensor.ndim == 0:
        return tensor.reshape(1)
    return (
        tensor.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims)) if dims else tensor[..., None]
    )


def from_rows(rows: Tensor, like: Tensor, dims: tuple[int, ...]) -> Tensor:
    if like.ndim == 0:
        return rows.reshape(())
    if not dims:
        return rows[..., 0]
    return rows.unflatten(-1, [like.shape[d] for d in dims]).movedim(tuple(range(-len(dims), 0)), dims)


def forward(call: Call, x: Tensor, where: Tensor | None) -> Tensor:
    if x.numel() == 0:
        return torch.empty_like(x)
    z = to_rows(wide(x), call.dims)
    nothing = z == (-math.inf if call.scale >= 0 else math.inf)
    if where is not None:
        nothing = nothing | ~to_rows(where, call.dims)
    z = torch.where(nothing, -math.inf, z * call.scale)
    empty = nothing.all(-1, keepdim=True)
    if call.empty == "raise" and empty.any():
        raise ValueError(
            "x has a row with nothing in it (all −inf, or masked), and empty='raise': give empty='zero' or "
            "empty='nan', or leave such rows out"
        )
    spoilt = (z.isnan() | (z == math.inf)).any(-1, keepdim=True)
    y = FORWARD[call.map.name](torch.where(empty | spoilt, 0.0, z), call.map.alpha)
    y = torch.where(spoilt, math.nan, y)
    y = torch.where(empty, math.nan if call.empty == "nan" else call.map.absent, y)
    y = torch.where(nothing & ~spoilt & ~empty, call.map.absent, y)
    return torch.empty_like(x).copy_(from_rows(y, x, call.dims))


def product(call: Call, y: Tensor, v: Tensor, where: Tensor | None, out: Tensor | None = None) -> Tensor:
    out = torch.empty_like(y) if out is None else out
    if y.numel() == 0:
        return out
    rows, v = to_rows(wide(y), call.dims), to_rows(wide(v), call.dims)
    absent = rows == call.map.absent
    empty = absent.all(-1, keepdim=True)
    off = absent if call.logarithmic else empty.expand_as(absent)  # where nothing depends on v
    if where is not None:
        off = off | ~to_rows(where, call.dims)
        rows = torch.where(off, call.map.absent, rows)
    v = torch.where(off, 0.0, v)
    kind = "vjp" if call.symmetric else call.kind
    safe = torch.where(empty, 1.0, rows)
    result = PRODUCT[call.map.name, kind](safe, v, call.map.alpha) * call.scale
    return out.copy_(from_rows(torch.where(off, 0.0, result), y, call.dims))


def double_backward(call: Call, y: Tensor, dy: Tensor, v: Tensor) -> Any:
    """(grad_x, grad_dy) by the derivatives in `slopes`."""
    from . import slopes

    first = product(call, y, v, None) if call.symmetric else product(call.product("jvp"), y, v, None)
    to_y = slopes.of_y(call, y, dy, v, None)
    return product(call, y, to_y.to(y.dtype), None), first
