"""How an operation is defined: kernel → registered operator → autograd → function, on one way.

A call takes as short a part of the way as it can: memory of which no derivative is wanted goes right to the
kernel; autograd and the transforms of `torch.func` go through a `torch.autograd.Function`; and what traces
(`torch.compile`, a mode, fake tensors) sees the registered operator, `torch.ops.softgrad.softmax` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import checks
from .private import (
    TRANSFORMS_KEY,
    forward_mode,
    is_batched,
    is_plain_storage,
    no_derivative,
    primals,
    redispatch_below_autograd,
    transforms_active,
    with_context,
    with_forward_mode,
)
from .tensors import FLOATS, dims_of, mask, one_dim, scale_of

Operation = Callable[..., Any]
FLOATING = ("x", "y", "dy", "dx", "v")  # arguments that are tensors of one dtype
DIFFERENTIABLE = (*FLOATING, "target", "learnt")
library = torch.library.Library("softgrad", "DEF")


def define(
    schema: str,
    reads: int,
    kernel: Operation,
    fake: Operation,
    rule: Any = None,
    *,
    composite: Operation | None = None,
    backward: Operation | None = None,
    waits: bool = False,
) -> Operation:
    """Register an operator, and return the function to call in its place.  All take the schema's arguments.

    Parameters
    ----------
    schema : str
    reads : int
        How many of the first arguments are tensors that the kernel reads.
    kernel, fake : callable
        The result on memory, and a result of the same shape without any.
    rule : subclass of torch.autograd.Function, optional
        The derivatives, in a Function without its `forward`.
    composite : callable, optional
        In place of `rule` for an operation that is a derivative itself: the same made of what PyTorch
        differentiates.
    backward : callable, optional
        The backward of that, if it has a shorter one: see `derivative_rule`.
    waits : bool
        Whether the host has to read numbers from a GPU: then no CUDA graph can hold the operator, and
        torch.compile cuts its graphs there.
    """
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.cudagraph_unsafe)
    library.define(schema, tags=tags if waits else tags[:1])
    name = schema.partition("(")[0]
    operator = getattr(torch.ops.softgrad, name).default
    parameters = operator._schema.arguments
    names, defaults = [p.name for p in parameters], [p.default_value for p in parameters]
    differentiable = [i for i, name in enumerate(names) if name in DIFFERENTIABLE]

    def below_autograd(*arguments: Any) -> Any:
        if is_plain_storage(*arguments[:reads]):
            return kernel(*arguments)
        return redispatch_below_autograd(operator, arguments)

    def call_of_vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return call_batched(call, names, info, in_dims, arguments)

    function: Any = rule if composite is None else derivative_rule(composite, backward)
    function.forward = staticmethod(below_autograd)
    if function.vmap is Function.vmap:
        function.vmap = staticmethod(call_of_vmap)
    under_transforms, under_autograd = function.apply, with_context(function, below_autograd)
    if composite is not None:
        under_autograd = composite_under_autograd(under_autograd, composite, backward, differentiable)

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return operator(*arguments)
        if transforms_active():
            return under_transforms(*arguments)
        if no_derivative(arguments, differentiable) and is_plain_storage(*arguments[:reads]):
            return kernel(*arguments)
        return under_autograd(*arguments)

    def normalize(function: Operation) -> Operation:
        """PyTorch leaves out the arguments that have their defaults."""
        return lambda *given: function(*normalize_op_args(names, [*given, *defaults[len(given) :]]))

    library.impl(name, normalize(kernel), "CompositeExplicitAutograd")
    library.impl(name, normalize(under_autograd), "Autograd")
    library.impl(name, normalize(under_transforms), TRANSFORMS_KEY)
    torch.library.register_fake(f"softgrad::{name}", normalize(fake), lib=library)
    return call


def like_first(tensor: Tensor, *_: Any) -> Tensor:
    """A result without memory: of the shape of the first argument."""
    return torch.empty_like(tensor)


def composite_under_autograd(
    apply: Operation, composite: Operation, backward: Operation | None, differentiable: list[int]
) -> Operation:
    """`apply` of a derivative, or where its rule would call `torch.func` the composite itself.

    `torch.func.jvp` can't be called in forward mode, and both take longer than a small composite.  Of tensors
    that autograd has batched a Function loses the graph.
    """

    def under_autograd(*arguments: Any) -> Any:
        direct = backward is None or forward_mode() or is_batched(*arguments)
        if direct and not no_derivative(arguments, differentiable):
            return composite(*arguments)
        return apply(*arguments)

    return under_autograd


def derivative_rule(composite: Operation, backward: Operation | None) -> type[Function]:
    """The Function of an operation that is a derivative itself: its derivatives are those of a composite.

    `backward(needs_input_grad, arguments, *gradients)` returns the gradients of all arguments.
    """

    class Derivative(Function):
        @staticmethod
        def setup_context(ctx: Any, inputs: Any, _: Any) -> None:
            ctx.others = [None if isinstance(a, Tensor) else a for a in inputs]
            ctx.at = [i for i, a in enumerate(inputs) if isinstance(a, Tensor)]
            tensors = [inputs[i] for i in ctx.at]
            ctx.save_for_backward(*tensors)
            ctx.save_for_forward(*tensors)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            arguments = place(ctx.others, ctx.at, ctx.saved_tensors)
            if backward is not None:
                return backward(ctx.needs_input_grad, arguments, *gradients)
            function, at, floats = as_function_of_floats(composite, arguments)
            pullback: Any = torch.func.vjp(function, *floats)[1]
            found = pullback(gradients if len(gradients) > 1 else gradients[0])
            return tuple(place([None] * len(arguments), at, found))

        @staticmethod
        @with_forward_mode
        def jvp(ctx: Any, *tangents: Any) -> Any:
            arguments = place(ctx.others, ctx.at, primals(*ctx.saved_tensors))
            function, at, floats = as_function_of_floats(composite, arguments)
            along = [
                torch.zeros_like(tensor) if tangents[i] is None else tangents[i]
                for i, tensor in zip(at, floats, strict=True)
            ]
            return torch.func.jvp(function, tuple(floats), tuple(along))[1]

    return Derivative


def place(arguments: list[Any], at: list[int], values: Any) -> list[Any]:
    """The arguments with these values at their places."""
    result = list(arguments)
    for i, value in zip(at, values, strict=True):
        result[i] = value
    return result


def as_function_of_floats(
    function: Operation, arguments: list[Any]
) -> tuple[Operation, list[int], list[Tensor]]:
    """`function` as one of the floating-point tensors among its arguments; their places; and they."""
    at = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.is_floating_point()]
    return lambda *floats: function(*place(arguments, at, floats)), at, [arguments[i] for i in at]


def normalize_op_args(names: list[str], arguments: list[Any]) -> list[Any]:
    """The arguments of an operator that was called by itself: checked, in the form of the functions."""
    first = arguments[0]
    for i, (name, value) in enumerate(zip(names, arguments, strict=True)):
        if name == "dim" and type(value) is int:
            arguments[i] = one_dim(value, first.ndim, "the rows")
        elif name == "dim":  # one of them as a number, since a 0-d tensor has −1 as a number only
            arguments[i] = dims_of(value[0] if len(value) == 1 else tuple(value), first.ndim)
        elif name in FLOATING:
            if value.dtype not in FLOATS or value.dtype is not first.dtype:
                raise TypeError(
                    f"{name} has dtype {value.dtype}; an operator takes one of float16, bfloat16, "
                    f"float32 and float64, the same for each: give {name}.to(...), or call the function of "
                    f"softgrad.torch, which converts"
                )
        elif name == "where":
            arguments[i] = mask(value, first)
        elif name == "scale":
            scale_of(value, first)
        elif name == "empty":
            checks.choice(value)
        elif name == "alpha":
            checks.alpha(value)
        elif name == "learnt" and value is not None:
            arguments[i] = value.reshape(())
    return arguments


# arguments of which a call has one, whatever else is batched
NOT_BATCHED = {
    "learnt": "vmap over alpha: call entmax for each alpha, and torch.stack the results",
    "offsets": "vmap over offsets: put the segments behind each other along one dim instead",
}


def call_batched(
    call: Operation, names: list[str], info: Any, in_dims: Any, arguments: tuple[Any, ...]
) -> Any:
    """`call` on tensors with the dim of the batch in front, all of one shape: dims count from the last.

    A tensor that is 0-d but for the batch counts as one number.
    """
    batch, number = list(arguments), False
    for i, (name, tensor, dim) in enumerate(zip(names, arguments, in_dims, strict=True)):
        if name in NOT_BATCHED:
            if dim is not None:
                raise NotImplementedError(NOT_BATCHED[name])
        elif isinstance(tensor, Tensor):
            tensor = tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
            tensor = tensor.expand(info.batch_size, *tensor.shape[1:])
            number = tensor.ndim == 1
            batch[i] = tensor.unsqueeze(-1) if number else tensor
    result = call(*batch)
    if isinstance(result, tuple):
        return tuple([one.squeeze(-1) if number else one for one in result]), (0,) * len(result)
    return (result.squeeze(-1) if number else result), 0
