"""The maps by the kernels in Triton: on CUDA."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from typing import Any

import torch
from torch import Tensor

from .options import Call
from .tensors import written

OLDEST = (8, 0)  # Ampere; what the kernels are compiled for in the tests


@functools.cache
def runs_on(device: torch.device) -> bool:
    """Whether the kernels run there.  Triton needs a C compiler, for what launches a kernel."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and importlib.util.find_spec("triton") is not None
        and bool(os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc"))
        and torch.cuda.get_device_capability(device) >= OLDEST
    )


@functools.cache
def kernels() -> Any:
    from ..gpu import functions

    return functions


def forward(call: Call, x: Tensor, where: Tensor | None) -> Tensor:
    options: dict[str, Any] = {"axis": call.dims, "where": where, "scale": call.scale, "empty": call.empty}
    y: Tensor = kernels().forward(call.map.name, x, **options, alpha=call.map.alpha)
    return y


def product(call: Call, y: Tensor, v: Tensor, where: Tensor | None, out: Tensor | None) -> Tensor:
    into = written(out) if out is not None and apart(out, y, v) else torch.empty_like(y)
    options: dict[str, Any] = {"axis": call.dims, "where": where, "scale": call.scale, "out": into}
    kernels().product(call.map.name, call.kind, y, v, **options, alpha=call.map.alpha)
    return into if out is None or out is into else out.copy_(into)


def apart(out: Tensor, *given: Tensor) -> bool:
    """Whether a kernel can write to `out` while it reads these: it is one of them, or other memory.

    By addresses: of tensors that come from elsewhere two storages may be the same memory.
    """
    if torch._debug_has_internal_overlap(out) != 0:
        return False
    start, stop = extent(out)
    for tensor in given:
        first, last = extent(tensor)
        same = (first, tensor.stride()) == (start, out.stride())
        if first < stop and start < last and not same:
            return False
    return True


def extent(tensor: Tensor) -> tuple[int, int]:
    """The addresses between which it lies."""
    start = tensor.data_ptr()
    if tensor.numel() == 0:
        return start, start
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def double_backward(call: Call, y: Tensor, dy: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    options: dict[str, Any] = {"axis": call.dims, "scale": call.scale, "alpha": call.map.alpha}
    grads: tuple[Tensor, Tensor] = kernels().double_backward(call.map.name, y, dy, v, **options)
    return grads
