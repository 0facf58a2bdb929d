"""The maps for tensors: the functions of `softgrad.numpy.maps`, under the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..specs import Map
from . import autograd, compute, options
from .operators import named
from .tensors import FLOATS, alike, checked, dims, mask, plain, scale_of, target


def forward(
    map: Map,
    x: Any,
    *,
    axis: Any,
    where: Any,
    scale: Any,
    empty: Any,
    out: Any,
    learnt: Tensor | None = None,
    reuse_dy: bool = False,
) -> Tensor:
    x = checked(x, "x")
    where = None if where is None else mask(where, x)
    if isinstance(scale, Tensor):
        y = scaled(map, x, scale, axis=axis, where=where, empty=empty, learnt=learnt)
    else:
        number = scale_of(scale, x)
        if empty not in checks.EMPTY:
            checks.choice(empty)
        call = options.call(map, dims(axis, x.ndim), number, empty, "vjp", reuse_dy)
        y = autograd.forward(call, x, where, learnt)
    return y if out is None else target(out, y, x, learnt, scale).copy_(y)


def scaled(map: Map, x: Tensor, scale: Tensor, **options: Any) -> Tensor:
    """With a scale that is a tensor, which may want a gradient: it multiplies x first."""
    z = multiplied(x, scale, options["where"])
    return forward(map, z, scale=1.0, out=None, **options).to(x.dtype)


def multiplied(x: Tensor, scale: Tensor, where: Tensor | None) -> Tensor:
    """scale·x; 16-bit types in float32: a rounded product would be off by much.

    What is masked, or −inf, is 0 in the product, so that it is nothing in the gradient of the scale (where
    0·NaN would be NaN), and put back behind it.
    """
    if scale.dtype not in FLOATS:
        raise TypeError(f"scale has dtype {scale.dtype}; it takes a number, or a tensor of floats")
    try:
        factor = scale.expand(x.shape)
    except RuntimeError:
        raise ValueError(
            f"scale has shape {tuple(scale.shape)}, which does not broadcast to that of x, {tuple(x.shape)}"
        ) from None
    wide = torch.promote_types(x.dtype, torch.float32)
    absent = x == -torch.inf
    nothing = absent if where is None else absent | ~where
    z = x.to(wide).masked_fill(nothing, 0.0) * factor.to(wide)
    return z.masked_fill(absent, -torch.inf).masked_fill(absent & (factor < 0), torch.inf)


def product(
    map: Map, kind: str, y: Any, v: Any, name: str, axis: Any, where: Any, scale: Any, out: Any
) -> Tensor:
    y, v = alike(("y", name), y, v)
    where = None if where is None else mask(where, y)
    call = options.call(map, dims(axis, y.ndim), scale_of(scale, y), "zero", kind)
    if out is None:
        return autograd.product(call, y, v, where)
    out = target(out, y, y, v)
    if plain(y, v, out):
        return compute.product(call, y, v, where, None, out=out)
    return out.copy_(autograd.product(call, y, v, where))


def vjp(map: Map, y: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    return product(map, "vjp", y, dy, "dy", axis, where, scale, out)


def jvp(map: Map, y: Any, dx: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Tensor:
    return product(map, "jvp", y, dx, "dx", axis, where, scale, out)


def double_backward(map: Map, y: Any, dy: Any, v: Any, *, axis: Any, scale: Any) -> tuple[Tensor, Tensor]:
    y, dy, v = alike(("y", "dy", "v"), y, dy, v)
    more = (map.alpha,) if map.parameters else ()
    grads: tuple[Tensor, Tensor] = named(f"{map.name}_double_backward")(
        y, dy, v, dims(axis, y.ndim), scale_of(scale, y), *more
    )
    return grads


def with_vjp(
    map: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Any
) -> tuple[Tensor, Callable[..., Tensor]]:
    y = forward(map, x, axis=axis, where=where, scale=scale, empty=empty, out=out)

    def pullback(dy: Any, *, out: Any = None) -> Tensor:
        return vjp(map, y, dy, axis=axis, where=where, scale=scale, out=out)

    return y, pullback
