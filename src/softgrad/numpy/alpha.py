"""The gradient of entmax with respect to its alpha."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import checks, family
from ..checks import Array
from ..family import Map
from . import maps
from .run import returned

# (1 − eᵗ(1 − t))/t² = Σ (k+1)/(k+2)!·tᵏ; what follows these is below 2⁻⁵⁵ of it for |t| ≤ 1
SERIES = [(k + 1) / math.factorial(k + 2) for k in range(18)]


def row(alpha: Any) -> Map:
    """The row of the table for one alpha."""
    return family.entmax(checks.alpha(alpha))


def alpha_vjp(y: Any, dy: Any, alpha: float, *, axis: Any, where: Any) -> Array:
    """Σ dx·ψ for each row: with dx = J dy it is ⟨dy, ∂y/∂α⟩, since ∂y/∂α = J ψ.

    ψ = −(log y)²·g((α−1)·log y), g(t) = (1 − eᵗ(1 − t))/t², which has no trouble at α = 1.
    """
    y, dy = checks.alike(("y", "dy"), y, dy)
    axes = checks.axes(axis, y.ndim)
    mask = None if where is None else checks.mask(where, y.shape)
    dx = maps.vjp(row(alpha), y, dy, axis=axis, where=where, scale=1.0, out=np.empty_like(y))
    support = y != 0
    if mask is not None:
        support &= mask
    with np.errstate(all="ignore"):
        log = np.log(y[support].astype(np.float64))
        t = (alpha - 1) * log
        small = np.abs(t) < 1
        ratio = np.empty_like(t)
        ratio[small] = np.polynomial.polynomial.polyval(t[small], SERIES)
        ratio[~small] = (1 - np.exp(t[~small]) * (1 - t[~small])) / t[~small] ** 2
        terms = np.zeros(y.shape)
        terms[support] = dx[support].astype(np.float64) * (-ratio * log * log)
        total = terms.sum(axis=axes if y.ndim else None)
        return returned(np.asarray(total, y.dtype), None)
