"""The maps and their products with the Jacobian as differentiable functions, of any order and either mode.

`Forward` saves y and nothing else (and its alpha where that is learnt).  What is masked has y = 0 there, or
−inf for log_softmax, and the mask is told from that.  The derivatives of a `Product` with respect to v are
products again, those with respect to y are in `slopes`.

A call takes the shortest of four ways: memory of the CPU or CUDA of which no derivative is wanted goes right
to the kernels; under autograd it goes through PyTorch's C++ (`FastForward`, `FastProduct`); under
`torch.func` through Python; and `torch.compile` is given the registered operator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.autograd.function import _SingleLevelFunction

from . import compute, operators, slopes
from .options import Call
from .tensors import plain


def vmapped(run: Callable[..., Any], info: Any, in_dims: Any, *tensors: Tensor | None) -> Any:
    """`run` on tensors with the dim of the batch in front, all of one shape: dims count from the last.

    A tensor that is 0-d but for the batch counts as one number.
    """
    result: list[Tensor | None] = []
    for tensor, dim in zip(tensors, in_dims, strict=False):
        if tensor is None:
            result.append(None)
            continue
        moved = tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
        moved = moved.expand(info.batch_size, *moved.shape[1:])
        result.append(moved.unsqueeze(-1) if single(moved) else moved)
    made = run(*result)
    if single(moved):
        made = made.squeeze(-1) if isinstance(made, Tensor) else tuple(m.squeeze(-1) for m in made)
    return made, 0 if isinstance(made, Tensor) else (0,) * len(made)


def single(batch: Tensor) -> bool:
    return batch.ndim == 1


def alone(in_dim: int | None) -> None:
    if in_dim is not None:
        raise NotImplementedError("vmap over alpha: call entmax for each alpha, and torch.stack the results")


def differentiable(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """A `jvp` of which forward mode can follow each step, for the next derivative.

    PyTorch turns forward mode off while a jvp runs, and lets no level see what it does: a jvp of a jvp of a
    jvp is wrong then, and nothing says so.  With it on, what was saved must be without the tangent that this
    jvp is for: see `primals`.
    """

    @functools.wraps(jvp)
    def followed(ctx: Any, *tangents: Any) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(ctx, *tangents)

    return followed


def primals(*tensors: Any) -> list[Any]:
    return [None if tensor is None else forward_ad.unpack_dual(tensor).primal for tensor in tensors]


class Forward(Function):
    """y = map(x)."""

    @staticmethod
    def forward(x: Tensor, where: Tensor | None, learnt: Tensor | None, call: Call) -> Tensor:
        if plain(x):
            return compute.forward(call, x, where, learnt)
        return operators.below(operators.forward_op(call), operators.of_forward(call, x, where, learnt))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, where, learnt, call = inputs
        kept = (output,) if learnt is None else (output, learnt)
        ctx.save_for_backward(*kept)
        if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
            ctx.save_for_forward(*kept)
        ctx.masked = where is not None
        ctx.call = call

    @staticmethod
    def saved(ctx: Any) -> tuple[Tensor, Tensor | None, Tensor | None, Call]:
        """y, the mask, alpha if it is learnt, and the options."""
        call: Call = ctx.call
        y, *rest = ctx.saved_tensors
        where = y != call.map.absent if ctx.masked else None
        return y, where, rest[0] if rest else None, call

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        y, where, learnt, call = Forward.saved(ctx)
        if call.reuse_dy and learnt is None and reusable(y, dy):
            return compute.product(call, y, dy, where, None, out=dy), None, None, None
        dx = product(call, y, dy, where, learnt)
        if learnt is None or not ctx.needs_input_grad[2]:
            return dx, None, None, None
        scaled = dx if call.scale == 1 else product(call.unscaled(), y, dy, where, learnt)
        terms = scaled.double() * slopes.psi(y, learnt)
        return dx, None, terms.sum().to(learnt.dtype), None

    @staticmethod
    @differentiable
    def jvp(ctx: Any, dx: Any, _: Any, dlearnt: Any, __: Any) -> Any:
        y, where, learnt, call = Forward.saved(ctx)
        y, learnt = primals(y, learnt)
        dy = torch.zeros_like(y) if dx is None else product(call.product("jvp"), y, dx, where, learnt)
        if learnt is None or dlearnt is None:
            return dy
        psi = slopes.psi(y, learnt).to(y.dtype)
        return dy + dlearnt.to(y.dtype) * product(call.unscaled(), y, psi, where, learnt)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, where: Any, learnt: Any, call: Call) -> Any:
        alone(in_dims[2])
        return vmapped(lambda x, where: forward(call, x, where, learnt), info, in_dims, x, where)


class FastForward(Forward):
    """The same with `setup_context` within, which is faster and does not know `torch.func`."""

    setup_context = staticmethod(_SingleLevelFunction.setup_context)

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        y = Forward.forward(*inputs)
        Forward.setup_context(ctx, inputs, y)
        return y


class Product(Function):
    """v times the Jacobian at y: from the left ("vjp") or the right ("jvp")."""

    @staticmethod
    def forward(y: Tensor, v: Tensor, where: Tensor | None, learnt: Tensor | None, call: Call) -> Tensor:
        if plain(y, v):
            return compute.product(call, y, v, where, learnt)
        return operators.below(operators.product_op(call), operators.of_product(call, y, v, where, learnt))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, call = inputs
        there = [t for t in tensors if t is not None]
        ctx.there = [t is not None for t in tensors]
        ctx.save_for_backward(*there)
        ctx.save_for_forward(*there)
        ctx.call = call

    @staticmethod
    def saved(ctx: Any) -> Any:
        found = iter(ctx.saved_tensors)
        return [next(found) if there else None for there in ctx.there]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y, v, where, learnt), call = Product.saved(ctx), ctx.call
        needs = ctx.needs_input_grad
        to_y = slopes.of_y(call, y, v, g, where, learnt).to(y.dtype) if needs[0] else None
        transposed = call.product("jvp" if call.kind == "vjp" else "vjp")
        to_v = product(transposed, y, g, where, learnt) if needs[1] else None
        to_alpha = None
        if learnt is not None and needs[3]:
            to_alpha = slopes.of_alpha(call, y, v, g, where, learnt).to(learnt.dtype)
        return to_y, to_v, None, to_alpha, None

    @staticmethod
    @differentiable
    def jvp(ctx: Any, dy: Any, dv: Any, _: Any, dlearnt: Any, __: Any) -> Any:
        (y, v, where, learnt), call = Product.saved(ctx), ctx.call
        y, v, learnt = primals(y, v, learnt)
        result = torch.zeros_like(y) if dv is None else product(call, y, dv, where, learnt)
        if dy is not None:
            result = result + slopes.along_y(call, y, v, dy, where, learnt).to(y.dtype)
        if learnt is not None and dlearnt is not None:
            result = result + (dlearnt * slopes.along_alpha(call, y, v, where, learnt)).to(y.dtype)
        return result

    @staticmethod
    def vmap(info: Any, in_dims: Any, y: Tensor, v: Tensor, where: Any, learnt: Any, call: Call) -> Any:
        alone(in_dims[3])
        return vmapped(lambda y, v, where: product(call, y, v, where, learnt), info, in_dims, y, v, where)


class FastProduct(Product):
    """As `FastForward`."""

    setup_context = staticmethod(_SingleLevelFunction.setup_context)

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        result = Product.forward(*inputs)
        Product.setup_context(ctx, inputs, result)
        return result


# What `Function.apply` does before it comes to PyTorch's C++ takes longer than the rest of a small call.
apply_forward = super(Function, FastForward).apply
apply_product = super(Function, FastProduct).apply


def forward(call: Call, x: Tensor, where: Tensor | None = None, learnt: Tensor | None = None) -> Any:
    if torch.compiler.is_compiling():
        return operators.forward_op(call)(*operators.of_forward(call, x, where, learnt))
    if torch._C._are_functorch_transforms_active():
        return Forward.apply(x, where, learnt, call)
    if no_derivative(x, learnt) and plain(x):
        return compute.forward(call, x, where, learnt)
    return apply_forward(x, where, learnt, call)


def product(
    call: Call, y: Tensor, v: Tensor, where: Tensor | None = None, learnt: Tensor | None = None
) -> Any:
    if torch.compiler.is_compiling():
        return operators.product_op(call)(*operators.of_product(call, y, v, where, learnt))
    if torch._C._are_functorch_transforms_active():
        return Product.apply(y, v, where, learnt, call)
    if no_derivative(y, v, learnt) and plain(y, v):
        return compute.product(call, y, v, where, learnt)
    return apply_product(y, v, where, learnt, call)


def no_derivative(*tensors: Tensor | None) -> bool:
    """Whether neither mode follows these."""
    if forward_ad._current_level >= 0:
        return False
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return False
    return True


def reusable(y: Tensor, dy: Tensor) -> bool:
    """Whether the memory of dy can take the result: its own, and of no derivative to come."""
    return plain(y, dy) and not torch.is_grad_enabled() and dy.dtype == y.dtype and dy.is_contiguous()


def double_backward(call: Call, y: Tensor, dy: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(grad_x, grad_dy), made of what is differentiable."""
    first = product(call.product("jvp"), y, v)
    to_y = slopes.of_y(call, y, dy, v, None).to(y.dtype)
    return product(call, y, to_y), first
