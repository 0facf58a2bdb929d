"""Gradients found in other ways than by a formula for them, to judge the formulas by.

PyTorch's autograd where it is installed, as the article does it; else the complex step: for an analytic
function ∂f/∂x_j = Im f(x + ih·e_j) / h, and since nothing is subtracted, h can be so small that the error
is that of f alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array
from .measure import Call

COLUMNS = 64  # of ∂L/∂x that the complex step finds: each takes a forward pass of its own


@dataclass(frozen=True)
class Judgement:
    """∂L/∂x at some columns, and who says so."""

    judge: str
    columns: Array
    dx: Array


def torch_if_installed() -> Any:
    """The module torch, or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # its profiler tells of every start and stop
    return importlib.import_module("torch")


def tensor(torch: Any, array: Array) -> Any:
    """The array as a tensor on the same memory.  bfloat16 goes by its bits: PyTorch knows not NumPy's."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def autograd(torch: Any, x: Array, dy: Array) -> Callable[[], Any]:
    """A call that runs PyTorch's backward pass through a softmax and gives ∂L/∂x."""
    leaf = tensor(torch, x).requires_grad_()
    y = torch.softmax(leaf, -1)
    given = tensor(torch, dy)

    def backward() -> Any:
        return torch.autograd.grad(y, leaf, given, retain_graph=True)[0]

    return backward


def by_autograd(torch: Any, x: Array, dy: Array) -> Judgement:
    dx = autograd(torch, x, dy)().double().numpy()
    return Judgement(f"PyTorch {torch.__version__} autograd", np.arange(x.shape[-1]), dx)


def by_complex_step(x: Array, dy: Array, step: float = 1e-100) -> Judgement:
    n = x.shape[-1]
    columns = np.unique(np.linspace(0, n - 1, min(n, COLUMNS)).round().astype(int))
    wide = x.astype(np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    dx = np.empty((len(x), len(columns)))
    for i, j in enumerate(columns):
        z = wide.astype(np.complex128)
        z[:, j] += 1j * step
        powers = np.exp(z)
        loss = (powers / powers.sum(-1, keepdims=True) * dy.astype(np.float64)).sum(-1)
        dx[:, i] = loss.imag / step
    return Judgement("the complex-step derivative", columns, dx)


def peak_memory(torch: Any, call: Call) -> int:
    """`measure.peak_memory` for PyTorch, whose profiler records what its allocator gives and takes back."""
    call()
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], profile_memory=True) as profiler:
        call()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    in_use = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return int(in_use.max(initial=0))
