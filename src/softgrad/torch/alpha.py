"""The gradient of entmax with respect to its alpha, for tensors, as in `softgrad.numpy.alpha`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import checks, specs
from ..specs import Map
from . import autograd, slopes
from .options import Call
from .tensors import alike, dims, mask


def row(alpha: Any) -> Map:
    """The row of the table for one alpha; where PyTorch traces, one made for it, since it warns of caches."""
    made = specs.entmax.__wrapped__ if torch.compiler.is_compiling() else specs.entmax
    return made(checks.alpha(alpha))


def alpha_vjp(y: Any, dy: Any, alpha: float, *, axis: Any, where: Any) -> Tensor:
    """Σ dx·ψ for each row, with dx = J dy and ∂y/∂α = J ψ."""
    y, dy = alike(("y", "dy"), y, dy)
    where = None if where is None else mask(where, y)
    call = Call(row(alpha), dims(axis, y.ndim))
    dx = autograd.product(call, y, dy, where)
    terms = dx.double() * slopes.psi(y, torch.tensor(alpha, dtype=torch.float64, device=y.device))
    terms = terms if where is None else torch.where(where, terms, 0.0)
    return (terms.sum(call.dims) if call.dims else terms).to(y.dtype)
