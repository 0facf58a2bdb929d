"""What the products with the Jacobian do when y moves: derivatives of derivatives, as formulas.

With s = s(y) and the means m = ⟨s,v⟩/⟨s,1⟩ of v and ḡ of g, the product of a simplex map is s∘(v − m), and

    ∂⟨g, s∘(v − m)⟩ / ∂y_i = s'(y_i)·(v_i − m)·(g_i − ḡ):

s' is 1 for softmax, 0 for sparsemax, (2−α)·y^(1−α) for entmax on its support.  The same with ∂s/∂α = −s·log y
is the derivative with respect to α.  All is made of PyTorch's operations, so that the next derivative is
there as well.  Where `where` is False, or y is 0 throughout, it is 0.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .options import Call
from .tensors import summed, wide


def weights(call: Call, y: Tensor, learnt: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """s(y), and s'(y); None where that is 0."""
    if learnt is None and call.map.alpha is None:
        return y, torch.ones_like(y)
    if learnt is None and isinstance(call.map.alpha, int):
        return (y > 0).to(y.dtype), None
    alpha: Any = call.map.alpha if learnt is None else learnt.to(y.dtype)
    there = y > 0
    base = torch.where(there, y, 1.0)
    return torch.where(there, base ** (2 - alpha), y), torch.where(
        there, (2 - alpha) * base ** (1 - alpha), 0.0
    )


def mean(s: Tensor, v: Tensor, call: Call) -> Tensor:
    total = summed(s, call.dims)
    return summed(s * v, call.dims) / torch.where(total == 0, 1.0, total)


def masked(where: Tensor | None, *tensors: Tensor) -> list[Tensor]:
    return [wide(t) if where is None else torch.where(where, wide(t), 0.0) for t in tensors]


def powers(call: Call, y: Tensor, where: Tensor | None) -> Tensor:
    """p = exp(y) of logarithmic maps."""
    p = wide(y).exp()
    return p if where is None else torch.where(where, p, 0.0)


def of_y(
    call: Call, y: Tensor, v: Tensor, g: Tensor, where: Tensor | None, learnt: Tensor | None = None
) -> Tensor:
    """∂⟨g, product(y, v)⟩/∂y."""
    if call.logarithmic:
        p = powers(call, y, where)
        there = p != 0
        v, g = masked(where, v, g)
        a, b = (g, v) if call.kind == "vjp" else (v, g)  # vjp: v − p·Σv; jvp: v − ⟨p,v⟩
        b = torch.where(wide(y) == -torch.inf, 0.0, b)
        return torch.where(there, -call.scale * p * a * summed(b, call.dims), 0.0)
    (y, v, g) = masked(where, y, v, g)
    s, slope = weights(call, y, learnt)
    if slope is None:
        return torch.zeros_like(y)
    return call.scale * slope * (v - mean(s, v, call)) * (g - mean(s, g, call))


def along_y(
    call: Call, y: Tensor, v: Tensor, dy: Tensor, where: Tensor | None, learnt: Tensor | None = None
) -> Tensor:
    """How product(y, v) moves when y moves along dy."""
    if call.logarithmic:
        p = powers(call, y, where)
        v, dy = masked(where, v, dy)
        there = wide(y) != -torch.inf
        v, dy = torch.where(there, v, 0.0), torch.where(there, dy, 0.0)
        if call.kind == "vjp":
            return -call.scale * p * dy * summed(v, call.dims)
        change = -call.scale * summed(p * dy * v, call.dims).expand_as(p)
        return torch.where(there if where is None else there & where, change, 0.0)
    (y, v, dy) = masked(where, y, v, dy)
    s, slope = weights(call, y, learnt)
    return torch.zeros_like(y) if slope is None else moved(call, s, slope * dy, v)


def moved(call: Call, s: Tensor, ds: Tensor, v: Tensor) -> Tensor:
    """The change of s∘(v − m) when s changes by ds."""
    centred = v - mean(s, v, call)
    total = summed(s, call.dims)
    change = summed(ds * centred, call.dims) / torch.where(total == 0, 1.0, total)
    return call.scale * (ds * centred - s * change)


def by_alpha(call: Call, y: Tensor, where: Tensor | None, learnt: Tensor) -> tuple[Tensor, Tensor]:
    """s, and ∂s/∂α = −s·log y."""
    (y,) = masked(where, y)
    s, _ = weights(call, y, learnt)
    return s, -s * torch.where(y > 0, y, 1.0).log()


def of_alpha(call: Call, y: Tensor, v: Tensor, g: Tensor, where: Tensor | None, learnt: Tensor) -> Tensor:
    """∂⟨g, product(y, v)⟩/∂α."""
    s, ds = by_alpha(call, y, where, learnt)
    v, g = masked(where, v, g)
    return call.scale * (ds * (v - mean(s, v, call)) * (g - mean(s, g, call))).sum()


def along_alpha(call: Call, y: Tensor, v: Tensor, where: Tensor | None, learnt: Tensor) -> Tensor:
    """∂product(y, v)/∂α."""
    s, ds = by_alpha(call, y, where, learnt)
    (v,) = masked(where, v)
    return moved(call, s, ds, v)


# (1 − eᵗ(1 − t))/t² = Σ (k+1)/(k+2)!·tᵏ; what follows these is below 2⁻⁵⁵ of it for |t| ≤ 1
SERIES = [(k + 1) / math.factorial(k + 2) for k in range(18)]


def psi(y: Tensor, learnt: Tensor) -> Tensor:
    """ψ, with which ∂y/∂α = J ψ: −(log y)²·g((α−1)·log y), g(t) = (1 − eᵗ(1 − t))/t²."""
    y = y.double()
    log = torch.where(y > 0, y, 1.0).log()
    t = (learnt.double() - 1) * log
    near = t.abs() < 1
    small, large = torch.where(near, t, 0.0), torch.where(near, 1.0, t)
    series = torch.zeros_like(t)
    for coefficient in reversed(SERIES):
        series = series * small + coefficient
    g = torch.where(near, series, (1 - large.exp() * (1 - large)) / large**2)
    return -g * log * log
