"""The operators of `torch.ops.softgrad`, defined for every row of the table of maps.

Each has an implementation for memory, one that only tells the shape ("fake"), one for autograd and one for
`vmap`.  The functions of `softgrad.torch` come here where PyTorch traces what they do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.autograd_function import enable_single_level_autograd_function

from ..family import MAPS, Map
from . import autograd, compute, options
from .operators import below, named, of_forward, of_product
from .options import Call

library = torch.library.Library("softgrad", "DEF")

OPTIONS = "int[] dim=[-1], Tensor? where=None, float scale=1.0"
ALPHA = ", float alpha=1.5, Tensor? learnt=None"


def under_autograd(apply: Callable[..., Any], *arguments: Any) -> Any:
    """Of a transform of `torch.func` only the innermost one has come to this point."""
    with enable_single_level_autograd_function():
        return apply(*arguments)


def define(
    schema: str,
    memory: Callable[..., Any],
    fake: Callable[..., Any],
    differentiable: Callable[..., Any],
    vmap: Callable[..., Any],
) -> None:
    """Define an operator; each function takes all arguments of the schema."""
    library.define(schema)
    name = schema.partition("(")[0]
    defaults = [a.default_value for a in named(name)._schema.arguments]

    def filled(function: Callable[..., Any]) -> Callable[..., Any]:
        """PyTorch leaves out what is the default."""
        return lambda *given: function(*given, *defaults[len(given) :])

    def batched(info: Any, in_dims: Any, *given: Any) -> Any:
        return filled(functools.partial(vmap, info, (*in_dims, *[None] * len(defaults))))(*given)

    library.impl(name, filled(memory), "CompositeExplicitAutograd")
    library.impl(name, filled(differentiable), "Autograd")
    torch.library.register_fake(f"softgrad::{name}", filled(fake), lib=library)
    torch.library.register_vmap(f"softgrad::{name}", batched, lib=library)


def define_forward(map: Map) -> None:
    def of(dim: Any, scale: float, empty: str, alpha: float | None) -> Call:
        return options.call(options.row(map.name, alpha), tuple(dim), scale, empty)

    def memory(
        x: Tensor, dim: Any, where: Any, scale: float, empty: str, alpha: Any = None, learnt: Any = None
    ) -> Tensor:
        return compute.forward(of(dim, scale, empty, alpha), x, where, learnt)

    def fake(x: Tensor, *_: Any) -> Tensor:
        return torch.empty_like(x)

    def differentiable(
        x: Tensor, dim: Any, where: Any, scale: float, empty: str, alpha: Any = None, learnt: Any = None
    ) -> Tensor:
        return under_autograd(autograd.apply_forward, x, where, learnt, of(dim, scale, empty, alpha))

    def vmap(
        info: Any,
        in_dims: Any,
        x: Tensor,
        dim: Any,
        where: Any,
        scale: float,
        empty: str,
        alpha: Any = None,
        learnt: Any = None,
    ) -> Any:
        autograd.alone(in_dims[6] if learnt is not None else None)
        call = of(dim, scale, empty, alpha)

        def run(x: Tensor, where: Tensor | None) -> Any:
            return named(map.name)(*of_forward(call, x, where, learnt))

        return autograd.vmapped(run, info, (in_dims[0], in_dims[2]), x, where)

    extra = ALPHA if map.parameters else ""
    define(
        f'{map.name}(Tensor x, {OPTIONS}, str empty="zero"{extra}) -> Tensor',
        memory,
        fake,
        differentiable,
        vmap,
    )


def define_product(map: Map, kind: str) -> None:
    def of(dim: Any, scale: float, alpha: float | None) -> Call:
        return options.call(options.row(map.name, alpha), tuple(dim), scale, kind=kind)

    def memory(
        y: Tensor, v: Tensor, dim: Any, where: Any, scale: float, alpha: Any = None, learnt: Any = None
    ) -> Tensor:
        return compute.product(of(dim, scale, alpha), y, v, where, learnt)

    def fake(y: Tensor, *_: Any) -> Tensor:
        return torch.empty_like(y)

    def differentiable(
        y: Tensor, v: Tensor, dim: Any, where: Any, scale: float, alpha: Any = None, learnt: Any = None
    ) -> Tensor:
        return under_autograd(autograd.apply_product, y, v, where, learnt, of(dim, scale, alpha))

    def vmap(
        info: Any,
        in_dims: Any,
        y: Tensor,
        v: Tensor,
        dim: Any,
        where: Any,
        scale: float,
        alpha: Any = None,
        learnt: Any = None,
    ) -> Any:
        autograd.alone(in_dims[6] if learnt is not None else None)
        call = of(dim, scale, alpha)

        def run(y: Tensor, v: Tensor, where: Tensor | None) -> Any:
            return named(f"{map.name}_{kind}")(*of_product(call, y, v, where, learnt))

        return autograd.vmapped(run, info, (*in_dims[:2], in_dims[3]), y, v, where)

    arguments = (
        f"Tensor y, Tensor d{'y' if kind == 'vjp' else 'x'}, {OPTIONS}{ALPHA if map.parameters else ''}"
    )
    define(f"{map.name}_{kind}({arguments}) -> Tensor", memory, fake, differentiable, vmap)


def define_double_backward(map: Map) -> None:
    def of(dim: Any, scale: float, alpha: float | None) -> Call:
        return options.call(options.row(map.name, alpha), tuple(dim), scale)

    def memory(y: Tensor, dy: Tensor, v: Tensor, dim: Any, scale: float, alpha: Any = None) -> Any:
        return compute.double_backward(of(dim, scale, alpha), y, dy, v)

    def fake(y: Tensor, *_: Any) -> Any:
        return torch.empty_like(y), torch.empty_like(y)

    def differentiable(y: Tensor, dy: Tensor, v: Tensor, dim: Any, scale: float, alpha: Any = None) -> Any:
        if autograd.no_derivative(y, dy, v):
            more = () if alpha is None else (alpha,)
            return below(named(f"{map.name}_double_backward"), (y, dy, v, dim, scale, *more))
        return autograd.double_backward(of(dim, scale, alpha), y, dy, v)

    def vmap(
        info: Any, in_dims: Any, y: Any, dy: Any, v: Any, dim: Any, scale: float, alpha: Any = None
    ) -> Any:
        more = () if alpha is None else (alpha,)

        def run(*tensors: Tensor) -> Any:
            return named(f"{map.name}_double_backward")(*tensors, dim, scale, *more)

        return autograd.vmapped(run, info, in_dims, y, dy, v)

    extra = ", float alpha=1.5" if map.parameters else ""
    define(
        f"{map.name}_double_backward(Tensor y, Tensor dy, Tensor v, int[] dim=[-1], float scale=1.0{extra}) "
        f"-> (Tensor, Tensor)",
        memory,
        fake,
        differentiable,
        vmap,
    )


for row in MAPS.values():
    define_forward(row)
    define_product(row, "vjp")
    define_product(row, "jvp")
    define_double_backward(row)
