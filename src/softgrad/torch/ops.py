"""The operations, each on one way from its kernel up: kernel → registered operator → autograd → function.

`define` makes that way.  A call takes as short a part of it as it can: memory of which no derivative is
wanted goes right to the kernel (backend.py); autograd and the transforms of `torch.func` go through a
`torch.autograd.Function`; and what traces (`torch.compile`, a mode, fake tensors) sees the registered
operator, `torch.ops.softgrad.softmax` and so on.

A map saves y and nothing else (and its alpha where that is a tensor): the mask is known from y, which is 0
where masked, or −inf for log_softmax.  The backward is a kernel, and so is the jvp.  Where a further
derivative is wanted of these, they are made of PyTorch's operations instead (composites.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .. import checks, threads
from ..specs import LOG_SOFTMAX, MAPS, REDUCTIONS, SOFTMAX, Map, Reduction
from . import backend, composites
from .composites import psi
from .private import (
    TRANSFORMS_KEY,
    followed_by_forward_mode,
    forward_mode,
    is_plain_storage,
    no_derivative,
    primals,
    redispatch_below_autograd,
    register_decomposition,
    transforms_active,
    with_context,
)
from .tensors import FLOATS, dims_of, mask, one_dim, scale_of, summed, wide

Operation = Callable[..., Any]
FLOATING = ("x", "y", "dy", "dx", "v")  # arguments that are tensors of one dtype
DIFFERENTIABLE = (*FLOATING, "target", "learnt")
library = torch.library.Library("softgrad", "DEF")


def define(
    schema: str,
    tensors: int,
    kernel: Operation,
    fake: Operation,
    rule: Any = None,
    *,
    composite: Operation | None = None,
    backward: Operation | None = None,
) -> Operation:
    """Register an operator, and return the function to call in its place.  All take the schema's arguments.

    Parameters
    ----------
    schema : str
    tensors : int
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
    """
    library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    name = schema.partition("(")[0]
    operator = getattr(torch.ops.softgrad, name).default
    parameters = operator._schema.arguments
    names, defaults = [p.name for p in parameters], [p.default_value for p in parameters]
    differentiable = [i for i, name in enumerate(names) if name in DIFFERENTIABLE]

    def below_autograd(*arguments: Any) -> Any:
        if is_plain_storage(*arguments[:tensors]):
            return kernel(*arguments)
        return redispatch_below_autograd(operator, arguments)

    def call_of_vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return vmapped(call, names, info, in_dims, arguments)

    function: Any = rule if composite is None else derivative_rule(composite, backward)
    function.forward = staticmethod(below_autograd)
    if function.vmap is Function.vmap:
        function.vmap = staticmethod(call_of_vmap)
    under_transforms, under_autograd = function.apply, with_context(function)
    if composite is not None:
        under_autograd = composite_under_autograd(under_autograd, composite, backward, differentiable)

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return operator(*arguments)
        if transforms_active():
            return under_transforms(*arguments)
        if no_derivative(arguments, differentiable) and is_plain_storage(*arguments[:tensors]):
            return kernel(*arguments)
        return under_autograd(*arguments)

    def normalized(function: Operation) -> Operation:
        """PyTorch leaves out the arguments that have their defaults."""
        return lambda *given: function(*normalize_op_args(names, [*given, *defaults[len(given) :]]))

    library.impl(name, normalized(kernel), "CompositeExplicitAutograd")
    library.impl(name, normalized(under_autograd), "Autograd")
    library.impl(name, normalized(under_transforms), TRANSFORMS_KEY)
    torch.library.register_fake(f"softgrad::{name}", normalized(fake), lib=library)
    return call


def composite_under_autograd(
    apply: Operation, composite: Operation, backward: Operation | None, differentiable: list[int]
) -> Operation:
    """`apply` of a derivative, or where its rule would call `torch.func` the composite itself.

    `torch.func.jvp` can't be called in forward mode, and both take longer than a small composite.
    """

    def under_autograd(*arguments: Any) -> Any:
        if (backward is None or forward_mode()) and not no_derivative(arguments, differentiable):
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
            arguments = placed(ctx.others, ctx.at, ctx.saved_tensors)
            if backward is not None:
                return backward(ctx.needs_input_grad, arguments, *gradients)
            function, at, floats = of_floats(composite, arguments)
            pullback: Any = torch.func.vjp(function, *floats)[1]
            found = pullback(gradients if len(gradients) > 1 else gradients[0])
            return tuple(placed([None] * len(arguments), at, found))

        @staticmethod
        @followed_by_forward_mode
        def jvp(ctx: Any, *tangents: Any) -> Any:
            arguments = placed(ctx.others, ctx.at, primals(*ctx.saved_tensors))
            function, at, floats = of_floats(composite, arguments)
            along = [
                torch.zeros_like(tensor) if tangents[i] is None else tangents[i]
                for i, tensor in zip(at, floats, strict=True)
            ]
            return torch.func.jvp(function, tuple(floats), tuple(along))[1]

    return Derivative


def placed(arguments: list[Any], at: list[int], values: Any) -> list[Any]:
    """The arguments with these values at their places."""
    result = list(arguments)
    for i, value in zip(at, values, strict=True):
        result[i] = value
    return result


def of_floats(function: Operation, arguments: list[Any]) -> tuple[Operation, list[int], list[Tensor]]:
    """`function` as one of the floating-point tensors among its arguments; their places; and they."""
    at = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.is_floating_point()]
    return lambda *floats: function(*placed(arguments, at, floats)), at, [arguments[i] for i in at]


def normalize_op_args(names: list[str], arguments: list[Any]) -> list[Any]:
    """The arguments of an operator that was called by itself: checked, and as functions hand them on."""
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


def vmapped(call: Operation, names: list[str], info: Any, in_dims: Any, arguments: tuple[Any, ...]) -> Any:
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


# --- the maps ----------------------------------------------------------------------------------------


class MapOps(NamedTuple):
    """The operations of a map; alpha and a tensor of it follow the arguments of those of entmax."""

    forward: Operation  # x, dims, where, scale, empty, [alpha, alpha_tensor,] reuse_dy
    vjp: Operation  # y, dy, dims, where, scale
    jvp: Operation  # y, dx, dims, where, scale
    double_backward: Operation  # y, dy, v, dims, scale, [alpha]


def map_rule(row: Map) -> Any:
    nones, at_alpha = (None,) * 5, 6

    class MapRule(Function):
        @staticmethod
        def setup_context(ctx: Any, inputs: Any, y: Any) -> None:
            _, dims, where, scale, _, *alpha, reuse_dy = inputs
            saved = y, *alpha[1:]
            ctx.save_for_backward(*saved)
            if forward_mode() or transforms_active():
                ctx.save_for_forward(*saved)
            ctx.options = dims, where is not None, scale, alpha[:1], reuse_dy

        @staticmethod
        def restored(ctx: Any, tensors: Any) -> Any:
            """y, the other arguments of a product, and alpha if that is a tensor."""
            y, *alpha_tensor = tensors
            dims, masked, scale, alpha, _ = ctx.options
            where = y != row.absent if masked else None
            return y, (dims, where, scale, *alpha, *alpha_tensor), alpha_tensor[0] if alpha_tensor else None

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            y, options, alpha_tensor = MapRule.restored(ctx, ctx.saved_tensors)
            if ctx.options[-1] and alpha_tensor is None and reusable(y, dy):
                dx = backend.product(row, "vjp", y, dy, *options, out=dy)
            else:
                dx = OPS[row.name].vjp(y, dy, *options)
            if not row.parameters:
                return dx, *nones
            dalpha = None
            if ctx.needs_input_grad[at_alpha]:
                dims, where, scale, *alpha = options
                unscaled = dx if scale == 1 else OPS[row.name].vjp(y, dy, dims, where, 1.0, *alpha)
                dalpha = (unscaled.double() * psi(y, alpha_tensor)).sum().to(alpha_tensor.dtype)
            return dx, *nones, dalpha, None

        @staticmethod
        @followed_by_forward_mode
        def jvp(ctx: Any, dx: Any, *tangents: Any) -> Any:
            y, options, alpha_tensor = MapRule.restored(ctx, primals(*ctx.saved_tensors))
            dy = torch.zeros_like(y) if dx is None else OPS[row.name].jvp(y, dx, *options)
            dalpha = tangents[at_alpha - 1] if row.parameters else None
            if dalpha is None:
                return dy
            dims, where, _, *alpha = options
            along = psi(y, alpha_tensor).to(y.dtype)
            return dy + dalpha.to(y.dtype) * OPS[row.name].vjp(y, along, dims, where, 1.0, *alpha)

    MapRule.__name__ = MapRule.__qualname__ = row.layer  # what `grad_fn` shows
    return MapRule


def reusable(y: Tensor, dy: Tensor) -> bool:
    """Whether the memory of dy can take dx: its own, and of no derivative to come."""
    return (
        is_plain_storage(y, dy) and not torch.is_grad_enabled() and dy.dtype is y.dtype and dy.is_contiguous()
    )


def define_map(row: Map) -> MapOps:
    options = "int[] dim=[-1], Tensor? where=None, float scale=1.0"
    alpha = ", float alpha=1.5, Tensor? learnt=None" if row.parameters else ""

    def forward(*arguments: Any) -> Tensor:
        return backend.forward(row, *arguments[:-1])  # but for reuse_dy

    def define_product(kind: str) -> Operation:
        v = "dy" if kind == "vjp" else "dx"

        def kernel(*arguments: Any) -> Tensor:
            return backend.product(row, kind, *arguments)

        def composite(*arguments: Any) -> Tensor:
            return composites.product(row, kind, *arguments)

        def backward(needs: Any, arguments: list[Any], g: Tensor) -> Any:
            y, v, *options = arguments
            transposed = OPS[row.name].jvp if kind == "vjp" else OPS[row.name].vjp
            to_v = transposed(y, g, *options) if needs[1] else None
            to_y, to_alpha = composites.product_by_y(row, kind, y, v, g, *options)
            return to_y, to_v, None, None, None, *([None, to_alpha] if row.parameters else [])

        return define(
            f"{row.name}_{kind}(Tensor y, Tensor {v}, {options}{alpha}) -> Tensor",
            *(2, kernel, lambda y, *_: torch.empty_like(y)),
            composite=composite,
            backward=backward,
        )

    return MapOps(
        define(
            f'{row.name}(Tensor x, {options}, str empty="zero"{alpha}, bool reuse_dy=False) -> Tensor',
            *(1, forward, lambda x, *_: torch.empty_like(x), map_rule(row)),
        ),
        define_product("vjp"),
        define_product("jvp"),
        define(
            f"{row.name}_double_backward(Tensor y, Tensor dy, Tensor v, int[] dim=[-1], float scale=1.0"
            f"{', float alpha=1.5' if row.parameters else ''}) -> (Tensor, Tensor)",
            3,
            lambda *arguments: backend.double_backward(row, *arguments),
            lambda y, *_: (torch.empty_like(y), torch.empty_like(y)),
            composite=lambda *arguments: composites.double_backward(row, *arguments),
        ),
    )


OPS = {row.name: define_map(row) for row in MAPS.values()}


def define_decomposition(row: Map) -> None:
    """What ONNX is given; sparsemax and entmax have loops, which it can't be."""

    def decomposed(
        x: Tensor, dim: Any = (-1,), where: Any = None, scale: float = 1.0, empty: str = "zero", *_: Any
    ) -> Tensor:
        return backend.forward_by_formulas(row, x, tuple(dim), where, scale, empty)

    register_decomposition(getattr(torch.ops.softgrad, row.name).default)(decomposed)


for row in (SOFTMAX, LOG_SOFTMAX):
    define_decomposition(row)


# --- the reductions ----------------------------------------------------------------------------------


class ReductionOps(NamedTuple):
    """The operations of a reduction."""

    forward: Operation  # x, dims, where, scale
    vjp: Operation  # x, dy, dims, where, scale; the shape of dy has 1 in the place of the dims


def reduction_rule(row: Reduction) -> Any:
    class ReductionRule(Function):
        @staticmethod
        def setup_context(ctx: Any, inputs: Any, _: Any) -> None:
            x, ctx.dims, where, ctx.scale = inputs
            ctx.save_for_backward(x, where)
            ctx.save_for_forward(x, where)

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            x, where = ctx.saved_tensors
            return REDUCTION_OPS[row.name].vjp(x, dy, ctx.dims, where, ctx.scale), None, None, None

        @staticmethod
        @followed_by_forward_mode
        def jvp(ctx: Any, dx: Any, *_: Any) -> Any:
            x, where = primals(*ctx.saved_tensors)
            ones = x.new_ones(()).expand(backend.kept(x, ctx.dims))
            slope = REDUCTION_OPS[row.name].vjp(x, ones, ctx.dims, where, ctx.scale)
            valid = x != -torch.inf if where is None else (x != -torch.inf) & where
            return summed(wide(slope) * torch.where(valid, wide(dx), 0.0), ctx.dims).to(x.dtype)

    return ReductionRule


def composite_reduction_vjp(
    row: Reduction, x: Tensor, dy: Tensor, dims: Any, where: Tensor | None, scale: float
) -> Tensor:
    """scale·dy·p for logsumexp, −scale·dy·J(z) for the entropy, with z = scale·x and p = softmax(z)."""
    z = wide(x)
    p = OPS["softmax"].forward(z, dims, where, scale, "zero", False)
    if row.of_entropy:
        z = torch.where(p == 0, 0.0, scale * z)
        p = -OPS["softmax"].vjp(p, z, dims, where, 1.0)
    result = scale * wide(dy) * p
    return (result if where is None else torch.where(where, result, 0.0)).to(x.dtype)


def reduction_vjp(row: Reduction, x: Tensor, *arguments: Any, out: Tensor | None = None) -> Tensor:
    """The vjp on memory."""
    if x.is_cpu:
        return backend.reduction_vjp(row, x, *arguments, out=out)
    threads.ran("formulas", row.name)
    with torch.no_grad():
        result = composite_reduction_vjp(row, x, *arguments)
    return (torch.empty_like(x) if out is None else out).copy_(result)


def define_reduction(row: Reduction) -> ReductionOps:
    options = "int[] dim=[-1], Tensor? where=None, float scale=1.0"
    return ReductionOps(
        define(
            f"{row.name}(Tensor x, {options}) -> Tensor",
            1,
            lambda *arguments: backend.reduction(row, *arguments),
            lambda x, dims, *_: x.new_empty(backend.kept(x, dims)),
            reduction_rule(row),
        ),
        define(
            f"{row.name}_vjp(Tensor x, Tensor dy, {options}) -> Tensor",
            2,
            lambda *arguments: reduction_vjp(row, *arguments),
            lambda x, *_: torch.empty_like(x),
            composite=lambda *arguments: composite_reduction_vjp(row, *arguments),
        ),
    )


REDUCTION_OPS = {row.name: define_reduction(row) for row in REDUCTIONS.values()}
