"""The registered operators by the call they do, and the arguments that they take (see registration.py)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .options import Call


def named(name: str) -> Any:
    return getattr(torch.ops.softgrad, name).default


def forward_op(call: Call) -> Any:
    return named(call.map.name)


def product_op(call: Call) -> Any:
    return named(f"{call.map.name}_{call.kind}")


def alpha_of(call: Call, learnt: Tensor | None) -> tuple[Any, ...]:
    return (call.map.alpha, learnt) if call.map.parameters else ()


def of_forward(call: Call, x: Tensor, where: Tensor | None, learnt: Tensor | None) -> tuple[Any, ...]:
    return x, list(call.dims), where, call.scale, call.empty, *alpha_of(call, learnt)


def of_product(
    call: Call, y: Tensor, v: Tensor, where: Tensor | None, learnt: Tensor | None
) -> tuple[Any, ...]:
    return y, v, list(call.dims), where, call.scale, *alpha_of(call, learnt)


def below(operator: Any, arguments: tuple[Any, ...]) -> Any:
    """The operator, past its autograd."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)
