"""Each operation on memory: by the kernels for NumPy arrays on the CPU, by those in Triton on CUDA, by the
formulas elsewhere.

The results are allocated by PyTorch, and the kernels write into them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import checks, threads
from ..cpu import call as kernels
from ..numpy import maps
from ..specs import Map
from . import by_formulas, by_triton
from .options import Call
from .tensors import array, axis_of, limited, numpy_dtype, optional, written


def elsewhere(tensor: Tensor, map: Map, what: str) -> Any:
    """The room for a tensor that is not on the CPU."""
    if by_triton.runs_on(tensor.device):
        threads.ran("triton", getattr(map, what))
        return by_triton
    threads.ran("formulas", map.name)
    return by_formulas


def forward(call: Call, x: Tensor, where: Tensor | None, learnt: Tensor | None) -> Tensor:
    call = call.with_alpha(learnt)
    if not x.is_cpu:
        y: Tensor = elsewhere(x, call.map, "forward").forward(call, x, where)
        return y
    y = torch.empty_like(x)
    if call.empty == "zero" or (call.empty == "nan" and where is None):
        on_kernels(call.map.forward, (x, y), call, where)
        return y
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
        result: Tensor = elsewhere(y, call.map, call.kind).product(call, y, v, where, out)
        return result
    if out is None:
        out = torch.empty_like(y)
        on_kernels(call.map.vjp if call.kind == "vjp" else call.map.jvp, (y, v, out), call, where)
        return out
    out = torch.empty_like(y) if out is None else written(out)
    multiply = maps.vjp if call.kind == "vjp" else maps.jvp
    given = array(y)
    options = {"axis": axis_of(call.dims, y), "where": optional(where), "scale": call.scale}
    limited(given.nbytes, multiply, call.map, given, array(v), **options, out=array(out))
    return out


def on_kernels(name: str, tensors: tuple[Tensor, ...], call: Call, where: Tensor | None) -> None:
    """An operation of `softgrad.cpu` on tensors of one shape, the last of which is written."""
    last = tensors[-1]
    shape: Any = last.shape if last.ndim else (1,)
    strides = [tensor.stride() or (1,) for tensor in tensors]
    axes = tuple([d + len(shape) for d in call.dims])
    mask = None if where is None else (where.data_ptr(), where.stride() or (1,))
    addresses = [tensor.data_ptr() for tensor in tensors]
    dtype, nothing = numpy_dtype(last.dtype).name, checks.EMPTY[call.empty]
    with threads.at_most(torch.get_num_threads()):
        given = dtype, tuple(shape), addresses, strides, axes, mask
        kernels.run(name, *given, call.scale, nothing, call.map.more)


def double_backward(call: Call, y: Tensor, dy: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    if not y.is_cpu:
        room = elsewhere(y, call.map, "double_backward")
        made: tuple[Tensor, Tensor] = room.double_backward(call, y, dy, v)
        return made
    grads = torch.empty_like(y), torch.empty_like(y)
    given, out = [array(t) for t in (y, dy, v)], tuple(array(g) for g in grads)
    options = {"axis": axis_of(call.dims, y), "scale": call.scale, "out": out}
    limited(given[0].nbytes, maps.double_backward, call.map, *given, **options)
    return grads
