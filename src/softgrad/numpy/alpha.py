"""The gradient of entmax with respect to its alpha."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks, specs
from ..checks import Array
from ..specs import Map
from . import maps
from .run import returned, run


def row(alpha: Any) -> Map:
    """The row of the table for one alpha."""
    return specs.entmax(checks.alpha(alpha))


def alpha_vjp(y: Any, dy: Any, alpha: float, *, axis: Any, where: Any) -> Array:
    """Σ dx·ψ for each row: with dx = J dy it is ⟨dy, ∂y/∂α⟩, since ∂y/∂α = J ψ (see `cpu.sparse.psi`)."""
    y, dy = checks.alike(("y", "dy"), y, dy)
    axes = checks.axes(axis, y.ndim)
    dx = maps.vjp(row(alpha), y, dy, axis=axis, where=where, scale=1.0, out=np.empty_like(y))
    if where is not None:
        y = np.where(np.asarray(where), y, np.zeros((), y.dtype))
    total = np.zeros([1 if d in axes else size for d, size in enumerate(y.shape)])
    run("entmax_alpha_vjp", [y, dx, total], None, axes, shaped=0, more=(alpha,))
    with np.errstate(over="ignore"):
        total = total.astype(y.dtype)
    return returned(total.reshape([size for d, size in enumerate(y.shape) if d not in axes]), None)
