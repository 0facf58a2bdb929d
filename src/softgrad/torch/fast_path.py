"""The fast path: small contiguous tensors of the CPU, from the function to the kernel in one step.

It opens for a kernel and a dtype once a call has gone the long way, and takes what needs nothing else of it.
Beside `torch.softmax` on a small tensor each check costs a few percent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import threads
from ..cpu import machine
from .private import PLAIN
from .tensors import numpy_dtype

KERNELS = ("softmax", "softmax_vjp", "log_softmax", "log_softmax_vjp")
# (kernel, dtype): a function of addresses, and the table of the kernel
KNOWN: dict[tuple[str, torch.dtype], tuple[Any, int]] = {}
threads.shortcuts.append(KNOWN)

# `outer` blocks of rows of n elements, `inner` rows side by side, `item` bytes an element; and the scale
Layout = tuple[int, int, int, int, float]


def remember(kernel: str, dtype: torch.dtype) -> None:
    """Open the fast path."""
    if kernel in KERNELS and (kernel, dtype) not in KNOWN and not threads.watching():
        with threads.first_use:
            name = numpy_dtype(dtype).name
            if not machine.lacks(name):
                from ..cpu import kernels

                KNOWN[kernel, dtype] = kernels.by_address(), kernels.table(kernel, name).ctypes.data


def is_contiguous(x: Any) -> bool:
    """Whether it is contiguous memory of the CPU; what has no memory at all is found by its address."""
    return type(x) in PLAIN and x.is_cpu and x.is_contiguous() and not x.is_neg()


def layout(kernel: str, x: Any, dim: Any, scale: Any) -> Layout | None:
    """How the rows of a contiguous tensor lie; None if `run` can't take them."""
    if type(dim) is not int or type(scale) is not float or not 2.0**-60 <= scale <= 1e30:
        return None
    if not is_contiguous(x) or (kernel, x.dtype) not in KNOWN:
        return None
    size, shape = x.numel(), x.shape
    if not 0 < size < threads.SHARED or not -len(shape) <= dim < len(shape):
        return None
    n = shape[dim]
    inner = 1 if dim == -1 or n == 1 else x.stride(dim)
    return size // (n * inner), n, inner, x.itemsize, scale


def run(kernel: str, rows: Layout, x: Tensor, v: Tensor | None = None) -> Tensor | None:
    """The result of a kernel for contiguous tensors that nothing traces; None for a call of the long way."""
    known = KNOWN.get((kernel, x.dtype))
    if known is None or (v is not None and (v.dtype is not x.dtype or v.shape != x.shape)):
        return None
    function, table = known
    result = torch.empty_like(x)
    try:
        a, c = x.data_ptr(), result.data_ptr()
        b, c = (c, 0) if v is None else (v.data_ptr(), c)
    except RuntimeError:  # batched by autograd
        return None
    return result if a and b and function(a, b, c, *rows, table) else None
