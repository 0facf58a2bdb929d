"""The operations of the maps and reductions: what each saves, and its derivatives.

A map saves y and nothing else (and its alpha where that is a tensor): the mask is known from y, which is 0
where masked, or −inf for log_softmax.  The backward is a kernel, and so is the jvp.  Further derivatives are
made of PyTorch's operations (composites.py).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, is_grad_enabled
from torch.autograd import Function
from torch.compiler import is_compiling

from .. import threads
from ..specs import LOG_SOFTMAX, MAPS, REDUCTIONS, SOFTMAX, Map, Reduction
from . import backend, composites, fast_path
from .composites import psi
from .fast_path import PLANS, Plan, is_contiguous, new_plan
from .private import (
    PLAIN,
    forward_mode,
    is_bare,
    is_plain_storage,
    primals,
    register_decomposition,
    transforms_active,
    with_forward_mode,
)
from .register import Operation, define, like_first
from .tensors import sum_keepdims, wide

# --- the maps ----------------------------------------------------------------------------------------


class MapOps(NamedTuple):
    """The operations of a map; alpha and a tensor of it follow the arguments of those of entmax."""

    forward: Operation  # x, dims, where, scale, empty, [alpha, alpha_tensor,] reuse_dy
    vjp: Operation  # y, dy, dims, where, scale
    jvp: Operation  # y, dx, dims, where, scale
    double_backward: Operation  # y, dy, v, dims, scale, [alpha]


def map_rule(spec: Map, vjp: Operation, jvp: Operation) -> Any:
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
        def restore(ctx: Any, tensors: Any) -> Any:
            """y, the other arguments of a product, and alpha if that is a tensor."""
            y, *alpha_tensor = tensors
            dims, masked, scale, alpha, _ = ctx.options
            where = y != spec.absent if masked else None
            return y, (dims, where, scale, *alpha, *alpha_tensor), alpha_tensor[0] if alpha_tensor else None

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            y, options, alpha_tensor = MapRule.restore(ctx, ctx.saved_tensors)
            if ctx.options[-1] and alpha_tensor is None and can_reuse(y, dy):
                dx = backend.product(spec, "vjp", y, dy, *options, out=dy)
            else:
                dx = vjp(y, dy, *options)
            if not spec.parameters:
                return dx, *nones
            dalpha = None
            if ctx.needs_input_grad[at_alpha]:
                dims, where, scale, *alpha = options
                unscaled = dx if scale == 1 else vjp(y, dy, dims, where, 1.0, *alpha)
                dalpha = (unscaled.double() * psi(y, alpha_tensor)).sum().to(alpha_tensor.dtype)
            return dx, *nones, dalpha, None

        @staticmethod
        @with_forward_mode
        def jvp(ctx: Any, dx: Any, *tangents: Any) -> Any:
            y, options, alpha_tensor = MapRule.restore(ctx, primals(*ctx.saved_tensors))
            dy = torch.zeros_like(y) if dx is None else jvp(y, dx, *options)
            dalpha = tangents[at_alpha - 1] if spec.parameters else None
            if dalpha is None:
                return dy
            dims, where, _, *alpha = options
            along = psi(y, alpha_tensor).to(y.dtype)
            return dy + dalpha.to(y.dtype) * vjp(y, along, dims, where, 1.0, *alpha)

    MapRule.__name__ = MapRule.__qualname__ = spec.layer  # what `grad_fn` shows
    return MapRule


def can_reuse(y: Tensor, dy: Tensor) -> bool:
    """Whether the memory of dy can take dx: its own, and of no derivative to come."""
    return (
        is_plain_storage(y, dy) and not torch.is_grad_enabled() and dy.dtype is y.dtype and dy.is_contiguous()
    )


def fast_rule(spec: Map, vjp: Operation) -> Any:
    """The same for the fast path alone, in half the time; forward mode does not come here."""

    class FastRule(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, plan: Plan) -> Tensor:
            ctx.plan = plan
            y = fast_path.forward(plan, x)
            if y is None:
                *_, dim, scale = plan
                y = backend.forward(spec, x, (dim,), None, scale, "zero")
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            (y,), plan = ctx.saved_tensors, ctx.plan
            if is_bare() and not is_grad_enabled():
                dx = fast_path.vjp(plan, y, dy)
                if dx is not None:
                    return dx, None
            *_, dim, scale = plan
            return vjp(y, dy, (dim,), None, scale), None

    metaclass: Any = type(FastRule)
    return super(Function, metaclass(spec.layer, (FastRule,), {})).apply  # the name that `grad_fn` shows


def define_map(spec: Map) -> MapOps:
    options = "int[] dim=[-1], Tensor? where=None, float scale=1.0"
    alpha = ", float alpha=1.5, Tensor? learnt=None" if spec.parameters else ""
    waits = bool(spec.parameters)  # for an alpha that is learnt

    def define_product(kind: str) -> Operation:
        v = "dy" if kind == "vjp" else "dx"

        def backward(needs: Any, arguments: list[Any], g: Tensor) -> Any:
            y, v, *options = arguments
            to_v = products["jvp" if kind == "vjp" else "vjp"](y, g, *options) if needs[1] else None
            to_y, to_alpha = composites.product_by_y(spec, kind, y, v, g, *options)
            return to_y, to_v, None, None, None, *([None, to_alpha] if spec.parameters else [])

        return define(
            f"{spec.name}_{kind}(Tensor y, Tensor {v}, {options}{alpha}) -> Tensor",
            *(2, functools.partial(backend.product, spec, kind), like_first),
            composite=functools.partial(composites.product, spec, kind),
            backward=backward,
            waits=waits,
        )

    products = {kind: define_product(kind) for kind in ("vjp", "jvp")}
    forward = define(
        f'{spec.name}(Tensor x, {options}, str empty="zero"{alpha}, bool reuse_dy=False) -> Tensor',
        *(1, functools.partial(backend.forward, spec), like_first, map_rule(spec, **products)),
        waits=waits,
    )
    double_backward = define(
        f"{spec.name}_double_backward(Tensor y, Tensor dy, Tensor v, int[] dim=[-1], float scale=1.0"
        f"{', float alpha=1.5' if spec.parameters else ''}) -> (Tensor, Tensor)",
        *(3, functools.partial(backend.double_backward, spec)),
        lambda y, *_: (torch.empty_like(y), torch.empty_like(y)),
        composite=functools.partial(composites.double_backward, spec),
    )
    return MapOps(forward, **products, double_backward=double_backward)


OPS = {spec.name: define_map(spec) for spec in MAPS.values()}
FAST = {spec.name: fast_rule(spec, OPS[spec.name].vjp) for spec in (SOFTMAX, LOG_SOFTMAX)}


def fast_forward(name: str, x: Any, dim: Any, scale: Any) -> Tensor | None:
    """y of a map by the fast path; None if there is more to the call."""
    if is_compiling() or type(x) not in PLAIN or type(dim) is not int or type(scale) is not float:
        return None
    key = name, x.dtype, x.shape, dim, scale
    plan = PLANS.get(key) or new_plan(*key)
    if plan is None or not is_bare() or not is_contiguous(x):
        return None
    if x.requires_grad and is_grad_enabled():
        y: Tensor = FAST[name](x, plan)
        return y
    return fast_path.forward(plan, x)


def fast_vjp(name: str, y: Any, dy: Any, dim: Any, scale: Any) -> Tensor | None:
    """The same of a vjp that no derivative is wanted of."""
    if is_compiling() or type(y) not in PLAIN or type(dim) is not int or type(scale) is not float:
        return None
    key = name, y.dtype, y.shape, dim, scale
    plan = PLANS.get(key) or new_plan(*key)
    if plan is None or type(dy) not in PLAIN or not is_bare():
        return None
    if is_grad_enabled() and (y.requires_grad or dy.requires_grad):
        return None
    return fast_path.vjp(plan, y, dy)


def define_decomposition(spec: Map) -> None:
    """What ONNX is given; sparsemax and entmax have loops, which it can't be."""

    def decomposed(
        x: Tensor, dim: Any = (-1,), where: Any = None, scale: float = 1.0, empty: str = "zero", *_: Any
    ) -> Tensor:
        return backend.forward_by_formulas(spec, x, tuple(dim), where, scale, empty)

    register_decomposition(getattr(torch.ops.softgrad, spec.name).default)(decomposed)


for spec in (SOFTMAX, LOG_SOFTMAX):
    define_decomposition(spec)


# --- the reductions ----------------------------------------------------------------------------------


class ReductionOps(NamedTuple):
    """The operations of a reduction."""

    forward: Operation  # x, dims, where, scale
    vjp: Operation  # x, dy, dims, where, scale; the shape of dy has 1 in the place of the dims


def reduction_rule(vjp: Operation) -> Any:
    class ReductionRule(Function):
        @staticmethod
        def setup_context(ctx: Any, inputs: Any, _: Any) -> None:
            x, ctx.dims, where, ctx.scale = inputs
            ctx.save_for_backward(x, where)
            ctx.save_for_forward(x, where)

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            x, where = ctx.saved_tensors
            return vjp(x, dy, ctx.dims, where, ctx.scale), None, None, None

        @staticmethod
        @with_forward_mode
        def jvp(ctx: Any, dx: Any, *_: Any) -> Any:
            x, where = primals(*ctx.saved_tensors)
            ones = x.new_ones(()).expand(backend.kept_shape(x, ctx.dims))
            slope = vjp(x, ones, ctx.dims, where, ctx.scale)
            valid = x != -torch.inf if where is None else (x != -torch.inf) & where
            return sum_keepdims(wide(slope) * torch.where(valid, wide(dx), 0.0), ctx.dims).to(x.dtype)

    return ReductionRule


def composite_reduction_vjp(
    spec: Reduction, x: Tensor, dy: Tensor, dims: Any, where: Tensor | None, scale: float
) -> Tensor:
    """scale·dy·p for logsumexp, −scale·dy·J(z) for the entropy, with z = scale·x and p = softmax(z)."""
    z = wide(x)
    p = OPS["softmax"].forward(z, dims, where, scale, "zero", False)
    if spec.of_entropy:
        z = torch.where(p == 0, 0.0, scale * z)
        p = -OPS["softmax"].vjp(p, z, dims, where, 1.0)
    result = scale * wide(dy) * p
    return (result if where is None else torch.where(where, result, 0.0)).to(x.dtype)


def reduction_vjp(spec: Reduction, x: Tensor, *arguments: Any, out: Tensor | None = None) -> Tensor:
    """The vjp on memory."""
    if x.is_cpu:
        return backend.reduction_vjp(spec, x, *arguments, out=out)
    threads.ran("formulas", spec.name)
    with torch.no_grad():
        result = composite_reduction_vjp(spec, x, *arguments)
    return (torch.empty_like(x) if out is None else out).copy_(result)


def define_reduction(spec: Reduction) -> ReductionOps:
    options = "int[] dim=[-1], Tensor? where=None, float scale=1.0"
    vjp = define(
        f"{spec.name}_vjp(Tensor x, Tensor dy, {options}) -> Tensor",
        *(2, functools.partial(reduction_vjp, spec), like_first),
        composite=functools.partial(composite_reduction_vjp, spec),
    )
    forward = define(
        f"{spec.name}(Tensor x, {options}) -> Tensor",
        *(1, functools.partial(backend.reduction, spec)),
        lambda x, dims, *_: x.new_empty(backend.kept_shape(x, dims)),
        reduction_rule(vjp),
    )
    return ReductionOps(forward, vjp)


REDUCTION_OPS = {spec.name: define_reduction(spec) for spec in REDUCTIONS.values()}
