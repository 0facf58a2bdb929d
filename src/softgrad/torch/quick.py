"""Small calls on the CPU: which kernel, by which plan and with which numbers, is remembered for each layout.

They are the calls of `softgrad.numpy.maps`, on one thread, less what is the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import checks, threads
from ..numpy import maps
from ..numpy.run import ready
from .options import Call
from .tensors import numpy_dtype

# (kernel, index of the first element, what else it takes) for calls of one layout; None for what is not small
Known = tuple[Callable[..., Any], Any, tuple[Any, ...]] | None
# what the kernels take 16-bit types as
BITS = {torch.float16: torch.uint16, torch.bfloat16: torch.int16}
_known: dict[Any, Known] = {}


def known(key: Any, name: str, packs: int, numbers: tuple[Any, ...], *tensors: Tensor) -> Known:
    """Find it, and remember it."""
    call, last = key[0], tensors[-1]
    found = None
    if last.ndim and 0 < last.nbytes < 2 * threads.SHARE and call.empty != "raise":
        strides = tuple(tuple(s * last.itemsize for s in t.stride()) for t in tensors)
        axes = tuple(d + last.ndim for d in call.dims)
        tile = call.map.row_tile if packs == 2 else None
        found = ready(name, packs, numpy_dtype(last.dtype), tuple(last.shape), strides, axes, numbers, tile)
    if len(_known) >= 1024:
        _known.clear()
    _known[key] = found
    return found


def forward(call: Call, x: Tensor) -> Tensor | None:
    """y; None where it takes the longer way."""
    if call.map.plain:
        return None
    key = call, x.shape, x.stride(), x.dtype
    y = torch.empty_like(x)
    found = _known.get(key, ...)
    if found is ...:
        numbers = maps.forward_numbers(call.map, numpy_dtype(x.dtype), call.scale, checks.choice(call.empty))
        found = known(key, call.map.forward, 1, numbers, x, y)
    if found is None or threads.watching():
        return None
    kernel, first, more = found
    if x.itemsize == 2:
        bits = BITS[x.dtype]
        x, into = x.detach().view(bits), y.view(bits)
        kernel(x.numpy(force=True)[first], into.numpy()[first], *more)
    else:
        kernel(x.numpy(force=True)[first], y.numpy()[first], *more)
    return y


def product(call: Call, y: Tensor, v: Tensor) -> Tensor | None:
    """v times the Jacobian; None where it takes the longer way."""
    if call.map.plain:
        return None
    key = call, y.shape, y.stride(), v.stride(), y.dtype
    result = torch.empty_like(y)
    found = _known.get(key, ...)
    if found is ...:
        name = call.map.vjp if call.kind == "vjp" else call.map.jvp
        packs = maps.product_packs(call.map, name)
        found = known(key, name, packs, (call.map.alpha, call.scale), y, v, result)
    if found is None or threads.watching():
        return None
    kernel, first, more = found
    if y.itemsize == 2:
        bits = BITS[y.dtype]
        y, v, into = y.detach().view(bits), v.detach().view(bits), result.view(bits)
        kernel(y.numpy(force=True)[first], v.numpy(force=True)[first], into.numpy()[first], *more)
    else:
        kernel(y.numpy(force=True)[first], v.numpy(force=True)[first], result.numpy()[first], *more)
    return result
