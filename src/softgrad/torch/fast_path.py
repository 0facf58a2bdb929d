"""The fast path: small contiguous tensors of the CPU, from the function to the kernel in one step.

It opens for a map and a dtype once a call has gone the long way, and takes what needs nothing else of it.
Beside `torch.softmax` on a small tensor each check costs a percent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, empty_like

from .. import threads
from ..cpu import machine
from .private import PLAIN
from .tensors import numpy_dtype

# (map, dtype): a function of addresses, the table of the forward and that of the vjp
OPEN: dict[tuple[str, torch.dtype], tuple[Any, int, int]] = {}

# For tensors of one map, dtype, shape, dim and scale: the function, the address and the memory of what it
# goes by, the dim from the last, and the scale.
Plan = tuple[Any, int, Any, int, float]
PLANS: dict[tuple[str, torch.dtype, torch.Size, int, float], Plan] = {}
MOST = 1024  # plans, before they are made again


def remember(name: str, dtype: torch.dtype) -> None:
    """Open the fast path."""
    if name in ("softmax", "log_softmax") and (name, dtype) not in OPEN:
        with threads.first_use:
            type_name = numpy_dtype(dtype).name
            if not machine.lacks(type_name):
                from ..cpu import kernels

                tables = (kernels.table(f"{name}{kind}", type_name).ctypes.data for kind in ("", "_vjp"))
                OPEN[name, dtype] = kernels.by_plan(), *tables


def new_plan(name: str, dtype: torch.dtype, shape: torch.Size, dim: int, scale: float) -> Plan | None:
    """How the kernels go over contiguous tensors; None where that is not for the fast path."""
    known, size = OPEN.get((name, dtype)), math.prod(shape)
    if known is None or not 0 < size < threads.SHARED or not -len(shape) <= dim < len(shape):
        return None
    if not 2.0**-60 <= scale <= 1e30:
        return None
    if len(PLANS) >= MOST:
        PLANS.clear()
    function, *tables = known
    outer, n, inner = math.prod(shape[:dim]), shape[dim], math.prod(shape[dim:][1:])
    memory = np.array([outer, n, inner, dtype.itemsize, *tables, 0])
    memory.view(np.float64)[6] = scale
    from_last = dim - len(shape) if dim >= 0 else dim
    plan = PLANS[name, dtype, shape, dim, scale] = function, memory.ctypes.data, memory, from_last, scale
    return plan


def is_contiguous(x: Tensor) -> bool:
    """Whether it is contiguous memory of the CPU; what has no memory at all has no address."""
    try:
        return x.is_cpu and x.is_contiguous() and not x.is_neg()
    except RuntimeError:  # what a sparse tensor answers
        return False


def forward(plan: Plan, x: Tensor) -> Tensor | None:
    """y of a contiguous tensor that nothing traces; None for a call of the long way."""
    function, address, _, _, _ = plan
    y = empty_like(x)
    try:
        return y if function(x.data_ptr(), y.data_ptr(), 0, address) else None
    except RuntimeError:  # batched by autograd
        return None


def vjp(plan: Plan, y: Tensor, dy: Any) -> Tensor | None:
    """The same of dx; a hook of saved tensors may have brought another y."""
    if type(y) not in PLAIN or type(dy) not in PLAIN or dy.dtype is not y.dtype or dy.shape != y.shape:
        return None
    try:
        if not (y.is_cpu and dy.is_cpu and y.is_contiguous() and dy.is_contiguous()):
            return None
        if y.is_neg() or dy.is_neg():
            return None
        function, address, _, _, _ = plan
        dx = empty_like(y)
        return dx if function(y.data_ptr(), dy.data_ptr(), dx.data_ptr(), address) else None
    except RuntimeError:  # sparse, or batched by autograd
        return None
