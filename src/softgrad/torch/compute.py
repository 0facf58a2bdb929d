"""Each operation on memory: by the kernels for NumPy arrays on the CPU, by the formulas elsewhere.

The results are allocated by PyTorch, and the kernels write into them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import threads
from ..numpy import maps
from . import by_formulas
from .options import Call
from .tensors import array, axis_of, limited, optional, written


def forward(call: Call, x: Tensor, where: Tensor | None, learnt: Tensor | None) -> Tensor:
    call = call.with_alpha(learnt)
    if not x.is_cpu:
        threads.ran("formulas", call.map.name)
        return by_formulas.forward(call, x, where)
    y = torch.empty_like(x)
    given = array(x)
    options = {
        "axis": axis_of(call.dims, x),
        "where": optional(where),
        "scale": call.scale,
        "empty": call.empty,
    }
    limited(given.nbytes, maps.forward, call.map, given, **options, out=array(y))
    return y


def product(
    call: Call, y: Tensor, v: Tensor, where: Tensor | None, learnt: Tensor | None, out: Tensor | None = None
) -> Tensor:
    call = call.with_alpha(learnt)
    if not y.is_cpu:
        threads.ran("formulas", call.map.name)
        result = by_formulas.product(call, y, v, where)
        return result if out is None else out.copy_(result)
    out = torch.empty_like(y) if out is None else written(out)
    multiply = maps.vjp if call.kind == "vjp" else maps.jvp
    given = array(y)
    options = {"axis": axis_of(call.dims, y), "where": optional(where), "scale": call.scale}
    limited(given.nbytes, multiply, call.map, given, array(v), **options, out=array(out))
    return out


def double_backward(call: Call, y: Tensor, dy: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    if not y.is_cpu:
        threads.ran("formulas", call.map.name)
        return by_formulas.double_backward(call, y, dy, v)
    grads = torch.empty_like(y), torch.empty_like(y)
    given, out = [array(t) for t in (y, dy, v)], tuple(array(g) for g in grads)
    options = {"axis": axis_of(call.dims, y), "scale": call.scale, "out": out}
    limited(given[0].nbytes, maps.double_backward, call.map, *given, **options)
    return grads
