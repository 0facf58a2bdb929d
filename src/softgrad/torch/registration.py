"""The operators of `torch.ops.softgrad`, defined for every row of the table of maps.

Each has an implementation for memory, one that only tells the shape ("fake"), one for autograd and one for
the transforms of `torch.func`.  The functions of `softgrad.torch` come here where PyTorch traces
what they do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..specs import MAPS, Map
from . import autograd, compute, options
from .operators import below, named
from .options import Call
from .tensors import FLOATS, dims, mask, one_dim, scale_of

library = torch.library.Library("softgrad", "DEF")

OPTIONS = "int[] dim=[-1], Tensor? where=None, float scale=1.0"
ALPHA = ", float alpha=1.5, Tensor? learnt=None"


def define(
    schema: str,
    memory: Callable[..., Any],
    fake: Callable[..., Any],
    under_autograd: Callable[..., Any],
    under_transforms: Callable[..., Any],
) -> None:
    """Define an operator; each function takes all arguments of the schema."""
    library.define(schema)
    name = schema.partition("(")[0]
    described = named(name)._schema.arguments
    names, defaults = [a.name for a in described], [a.default_value for a in described]

    def filled(function: Callable[..., Any]) -> Callable[..., Any]:
        """PyTorch leaves out what is the default."""
        return lambda *given: function(*usual(names, [*given, *defaults[len(given) :]]))

    library.impl(name, filled(memory), "CompositeExplicitAutograd")
    library.impl(name, filled(under_autograd), "Autograd")
    # This key comes first where a transform is active.  What PyTorch does there without it is to take
    # the levels of the transforms one by one, with autograd off for those further out: their derivatives
    # are lost.
    library.impl(name, filled(under_transforms), "FuncTorchDynamicLayerFrontMode")
    torch.library.register_fake(f"softgrad::{name}", filled(fake), lib=library)


def usual(names: list[str], given: list[Any]) -> list[Any]:
    """The arguments of an operator as the functions of this package hand them on.

    Who calls an operator by itself has had none of their checks, and the ways taken from here have none.
    """
    first = given[0]
    for i, (name, value) in enumerate(zip(names, given, strict=True)):
        if name == "dim" and type(value) is int:
            given[i] = one_dim(value, first.ndim, "the rows")
        elif name == "dim":  # one of them as a number, since a 0-d tensor has −1 as a number only
            given[i] = dims(value[0] if len(value) == 1 else tuple(value), first.ndim)
        elif name in ("x", "y", "dy", "dx", "v"):
            if value.dtype not in FLOATS or value.dtype is not first.dtype:
                raise TypeError(
                    f"{name} has dtype {value.dtype}; an operator takes one of float16, bfloat16, "
                    f"float32 and float64, the same for each: give {name}.to(...), or call the function of "
                    f"softgrad.torch, which converts"
                )
        elif name == "where":
            given[i] = mask(value, first)
        elif name == "scale":
            scale_of(value, first)
        elif name == "empty":
            checks.choice(value)
        elif name == "alpha":
            checks.alpha(value)
        elif name == "learnt" and value is not None:
            given[i] = value.reshape(())
    return given


def define_forward(map: Map) -> None:
    def inputs(
        x: Tensor, dim: Any, where: Any, scale: float, empty: str, alpha: Any = None, learnt: Any = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Call]:
        return x, where, learnt, options.call(options.row(map.name, alpha), tuple(dim), scale, empty)

    def memory(*arguments: Any) -> Tensor:
        x, where, learnt, call = inputs(*arguments)
        return compute.forward(call, x, where, learnt)

    extra = ALPHA if map.parameters else ""
    define(
        f'{map.name}(Tensor x, {OPTIONS}, str empty="zero"{extra}) -> Tensor',
        memory,
        lambda x, *_: torch.empty_like(x),
        lambda *arguments: autograd.apply_forward(*inputs(*arguments)),
        lambda *arguments: autograd.Forward.apply(*inputs(*arguments)),
    )


def define_product(map: Map, kind: str) -> None:
    def inputs(
        y: Tensor, v: Tensor, dim: Any, where: Any, scale: float, alpha: Any = None, learnt: Any = None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Call]:
        return y, v, where, learnt, options.call(options.row(map.name, alpha), tuple(dim), scale, kind=kind)

    def memory(*arguments: Any) -> Tensor:
        y, v, where, learnt, call = inputs(*arguments)
        return compute.product(call, y, v, where, learnt)

    other = "dy" if kind == "vjp" else "dx"
    define(
        f"{map.name}_{kind}(Tensor y, Tensor {other}, {OPTIONS}{ALPHA if map.parameters else ''}) -> Tensor",
        memory,
        lambda y, *_: torch.empty_like(y),
        lambda *arguments: autograd.apply_product(*inputs(*arguments)),
        lambda *arguments: autograd.Product.apply(*inputs(*arguments)),
    )


def define_double_backward(map: Map) -> None:
    name = f"{map.name}_double_backward"

    def inputs(y: Tensor, dy: Tensor, v: Tensor, dim: Any, scale: float, alpha: Any = None) -> Any:
        return options.call(options.row(map.name, alpha), tuple(dim), scale), y, dy, v

    def under_autograd(*arguments: Any) -> Any:
        if autograd.no_derivative(*arguments[:3]):
            return below(named(name), arguments)
        return autograd.double_backward(*inputs(*arguments))

    extra = ", float alpha=1.5" if map.parameters else ""
    define(
        f"{name}(Tensor y, Tensor dy, Tensor v, int[] dim=[-1], float scale=1.0{extra}) -> (Tensor, Tensor)",
        lambda *arguments: compute.double_backward(*inputs(*arguments)),
        lambda y, *_: (torch.empty_like(y), torch.empty_like(y)),
        under_autograd,
        lambda *arguments: autograd.double_backward(*inputs(*arguments)),
    )


for row in MAPS.values():
    define_forward(row)
    define_product(row, "vjp")
    define_product(row, "jvp")
    define_double_backward(row)
