"""The derivatives made of PyTorch's operations.

They are what a further derivative is taken of (in either mode, and under the transforms of `torch.func`),
and what runs on devices that have no kernels.  16-bit types are computed in float32, and rounded once.

With the weights s = s(y) and the mean m(v) = ⟨s,v⟩/⟨s,1⟩ the product of a map with its Jacobian is
s∘(v − m(v)), and its gradients are

    ∂⟨g, s∘(v − m(v))⟩/∂y_i = s'(y_i)·(v_i − m(v))·(g_i − m(g)),

the same with ∂s/∂α for alpha, and the product with g for v.  A mean is taken off several times: the second
is 0 but for rounding, whatever y and v are, so that no derivative of any order changes.  The first one makes
v small and has no derivative itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..formulas import PSI
from ..specs import Map
from .private import detach
from .tensors import sum_keepdims, wide

Dims = tuple[int, ...]


def is_logarithmic(spec: Map) -> bool:
    """Whether y is the logarithm of weights."""
    return spec.absent == -math.inf


def weights(spec: Map, y: Tensor, alpha: Any) -> Tensor:
    """s(y): y for softmax, 1 on the support for sparsemax, y^(2−α) there for entmax; or exp(y)."""
    if is_logarithmic(spec):
        return y.exp()
    if spec.alpha is None:
        return y
    support, outside = y > 0, 0.0 * y  # NaN stays NaN, and PyTorch finds a derivative, which is 0
    if not spec.parameters:
        return torch.where(support, 1.0, outside)
    return torch.where(support, torch.where(support, y, 1.0) ** (2 - alpha), outside)


def weights_slope(spec: Map, y: Tensor, alpha: Any) -> Any:
    """ds/dy."""
    if is_logarithmic(spec):
        return y.exp()
    if not spec.parameters:
        return 1.0 if spec.alpha is None else 0.0
    support = y > 0
    return torch.where(support, (2 - alpha) * torch.where(support, y, 1.0) ** (1 - alpha), 0.0)


class Mean:
    """The mean m along the dims, by the weights s."""

    def __init__(self, s: Tensor, dims: Dims) -> None:
        total = sum_keepdims(s, dims)
        self.s, self.dims, self.total = s, dims, torch.where(total == 0, 1.0, total)

    def of(self, v: Tensor) -> Tensor:
        return sum_keepdims(self.s * v, self.dims) / self.total

    def off(self, v: Tensor) -> Tensor:
        """v − m(v)."""
        v = v - detach(self.of(v))
        return v - self.of(v)


def apply_mask(
    spec: Map, dims: Dims, where: Tensor | None, y: Tensor, *vectors: Tensor
) -> tuple[Tensor, ...]:
    """Which elements the result depends on; y for the weights; the vectors, 0 at the other elements."""
    absent = y == spec.absent
    if not is_logarithmic(spec) and dims:  # where y is 0 a NaN in v still counts, but not in an empty row
        absent = absent.all(dims, keepdim=True)
    if where is not None:
        absent = absent | ~where
        y = torch.where(where, y, spec.absent)
    return ~absent, wide(y), *[torch.where(absent, 0.0, wide(v)) for v in vectors]


def product(
    spec: Map, kind: str, y: Tensor, v: Tensor, dims: Dims, where: Tensor | None, scale: float, *alpha: Any
) -> Tensor:
    """The product of v with the Jacobian at y: from the left for kind "vjp", from the right for "jvp".

    `alpha` is the number, and the tensor in its place if there is one.
    """
    valid, p, u = apply_mask(spec, dims, where, y, v)
    s = weights(spec, p, alpha_value(p, *alpha))
    if is_logarithmic(spec) and kind == "vjp":
        result = u - s * sum_keepdims(u, dims)
    else:
        mean = Mean(s, dims)
        result = mean.off(u)
        result = result - mean.of(result)  # centres what comes back through it
        result = result if is_logarithmic(spec) else s * result
    return torch.where(valid, scale * result, 0.0).to(y.dtype)


def alpha_value(p: Tensor, alpha: float | None = None, alpha_tensor: Tensor | None = None) -> Any:
    return alpha if alpha_tensor is None else alpha_tensor.to(p.dtype)


def product_by_y(
    spec: Map,
    kind: str,
    y: Tensor,
    v: Tensor,
    g: Tensor,
    dims: Dims,
    where: Tensor | None,
    scale: float,
    *alpha: Any,
) -> tuple[Tensor, Tensor | None]:
    """The gradients of ⟨g, product(y, v)⟩ with respect to y, and to alpha where that is a tensor."""
    if where is None and not is_logarithmic(spec):
        valid, p, u, w = None, wide(y), wide(v), wide(g)  # the next product makes an empty row 0
    else:
        valid, p, u, w = apply_mask(spec, dims, where, y, v, g)
    exponent = alpha_value(p, *alpha)
    s = weights(spec, p, exponent)
    mean = Mean(s, dims)
    if is_logarithmic(spec) and kind == "vjp":
        to_s = -w * sum_keepdims(u, dims)
    elif is_logarithmic(spec):
        to_s = -mean.off(u) * sum_keepdims(w, dims)
    else:
        to_s = mean.off(u) * mean.off(w)
    to_s = to_s if valid is None else torch.where(valid, to_s, 0.0)
    to_y = (scale * weights_slope(spec, p, exponent) * to_s).to(y.dtype)
    if not isinstance(exponent, Tensor):
        return to_y, None
    to_alpha = -scale * (to_s * s * torch.where(p > 0, p, 1.0).log()).sum()
    return to_y, to_alpha.to(alpha[1].dtype)


def double_backward(
    spec: Map, y: Tensor, dy: Tensor, v: Tensor, dims: Dims, scale: float, alpha: float | None = None
) -> tuple[Tensor, Tensor]:
    """(grad_x, grad_dy): the gradients of ⟨v, vjp(y, dy)⟩ with respect to x and dy."""
    to_y, _ = product_by_y(spec, "vjp", y, dy, v, dims, None, scale, alpha)
    grad_x = product(spec, "vjp", y, to_y, dims, None, scale, alpha)
    return grad_x, product(spec, "jvp", y, v, dims, None, scale, alpha)


def psi(y: Tensor, alpha: Tensor) -> Tensor:
    """ψ, with which ∂y/∂α = J ψ: −(log y)²·g((α−1)·log y), g(t) = (1 − eᵗ(1 − t))/t²."""
    y = y.double()
    log = torch.where(y > 0, y, 1.0).log()
    t = (alpha.double() - 1) * log
    near = t.abs() < 1
    small, large = torch.where(near, t, 0.0), torch.where(near, 1.0, t)
    series = torch.zeros_like(t)
    for coefficient in reversed(PSI):
        series = series * small + coefficient
    g = torch.where(near, series, (1 - large.exp() * (1 - large)) / large**2)
    return -g * log * log
