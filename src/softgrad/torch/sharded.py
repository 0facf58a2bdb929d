"""Functions along a dim that is divided among the ranks of a process group, of which each has its shard.

Each rank tells some numbers of each of its rows (`softgrad.distributed`), in float64; one all-gather brings
them to all; and what is made of them, in the order of the ranks, has the same bits everywhere.  So there is
one collective (exchange.py) forward and one backward.  A result that is one number a row is on every rank,
and so is the gradient that comes back for it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling

from .. import checks, formulas, threads
from ..distributed import NOTHING
from ..formulas import merge_entropy, merge_moments, merge_stats
from ..specs import ENTROPY, LOG_SOFTMAX, SOFTMAX, Map, Reduction
from .backend import from_rows, kept_shape, run, to_rows, with_torch_threads, xp
from .exchange import Exchange, Group, exchanged, gather, is_memory, merge
from .private import is_plain_storage
from .register import library
from .tensors import check_tensor, convert, dims_of, is_dtensor, mask, multiply, scale_of

Dims = tuple[int, ...]
# whose second tensor, dy, is masked too
OF_PRODUCTS = {"shard_moments", "shard_vjp", "shard_log_sum", "shard_log_vjp"}

# --- the work on a shard ------------------------------------------------------------------------------


@with_torch_threads
def tell_on_memory(name: str, tensors: list[Tensor], dims: Any, where: Tensor | None, scale: float) -> Tensor:
    """What a shard tells of each row; the numbers are the last dim."""
    x = tensors[0]
    table = torch.empty((*kept_shape(x, dims), len(NOTHING[name])), dtype=torch.float64, device=x.device)
    if x.numel() == 0:
        return table.copy_(torch.tensor(NOTHING[name], dtype=torch.float64))
    if x.is_cpu:
        run(name, (*tensors, table[..., 0]), tuple(dims), where, scale, shaped=0)
        return table
    numbers = by_formulas(name, tensors, None, dims, where, scale, 0.0)
    return torch.stack([number.reshape(table.shape[:-1]) for number in numbers], -1)


@with_torch_threads
def apply_on_memory(
    name: str, table: Tensor, tensors: list[Tensor], dims: Any, where: Tensor | None, scale: float, empty: str
) -> Tensor:
    """What is made of a shard, given what is known of each row."""
    x = tensors[0]
    result = torch.empty_like(x)
    if empty == "raise" and (table[..., 1] == -1).any():
        raise ValueError(checks.EMPTY_ROW)
    if x.numel() == 0:
        return result
    fill = math.nan if empty != "zero" else -math.inf if name == "shard_log_softmax" else 0.0
    if x.is_cpu:
        run(name, (table[..., 0], *tensors, result), tuple(dims), where, scale, fill)
    else:
        result.copy_(from_rows(by_formulas(name, tensors, table, dims, where, scale, fill), x, dims))
    if empty == "nan" and where is not None:  # the kernel wrote a constant to what is masked
        result.masked_fill_(table[..., 1] == -1, math.nan)
    return result


def by_formulas(
    name: str, tensors: list[Tensor], table: Any, dims: Any, where: Any, scale: float, fill: float
) -> Any:
    threads.ran("formulas", name)
    rows = [to_rows(tensor.double(), tuple(dims)) for tensor in tensors]
    there = torch.ones_like(rows[0], dtype=torch.bool) if where is None else to_rows(where, tuple(dims))
    if name in OF_PRODUCTS:
        rows = [torch.where(there, row, 0.0) for row in rows]
    told = () if table is None else [to_rows(number, tuple(dims)) for number in table.unbind(-1)]
    return formulas.of_shard(name, rows, told, there, scale, fill, xp)


library.define("shard_tell(str name, Tensor[] tensors, int[] dim, Tensor? where, float scale) -> Tensor")
library.impl("shard_tell", tell_on_memory, "CompositeExplicitAutograd")
library.define(
    "shard_apply(str name, Tensor table, Tensor[] tensors, int[] dim, Tensor? where, float scale, str empty)"
    " -> Tensor"
)
library.impl("shard_apply", apply_on_memory, "CompositeExplicitAutograd")


def table_without_memory(name: str, tensors: Any, dims: Any, *_: Any) -> Tensor:
    shape = *kept_shape(tensors[0], dims), len(NOTHING[name])
    return tensors[0].new_empty(shape, dtype=torch.float64)


def result_without_memory(name: str, table: Any, tensors: Any, *_: Any) -> Tensor:
    return torch.empty_like(tensors[0])


torch.library.register_fake("softgrad::shard_tell", table_without_memory, lib=library)
torch.library.register_fake("softgrad::shard_apply", result_without_memory, lib=library)


def tell(name: str, tensors: list[Tensor], dims: Dims, where: Tensor | None, scale: float = 1.0) -> Tensor:
    if not is_compiling() and is_plain_storage(*tensors):
        return tell_on_memory(name, tensors, dims, where, scale)
    return torch.ops.softgrad.shard_tell(name, tensors, dims, where, scale)


def apply(
    name: str,
    numbers: Any,
    tensors: list[Tensor],
    dims: Dims,
    where: Tensor | None,
    scale: float = 1.0,
    empty: str = "zero",
) -> Tensor:
    """`numbers` are tensors with the dims at length 1, or numbers of all rows."""
    like = numbers[0]
    if is_memory(like):
        table = torch.empty((*like.shape, len(numbers)), dtype=torch.float64)
        array = table.numpy()
        for i, number in enumerate(numbers):
            array[..., i] = number.numpy() if isinstance(number, Tensor) else number
    else:
        table = torch.stack([n if isinstance(n, Tensor) else torch.full_like(like, n) for n in numbers], -1)
    if not is_compiling() and is_plain_storage(*tensors):
        return apply_on_memory(name, table, tensors, dims, where, scale, empty)
    return torch.ops.softgrad.shard_apply(name, table, tensors, dims, where, scale, empty)


# --- softmax and log_softmax --------------------------------------------------------------------------


class Options(NamedTuple):
    """Of a call, beside its tensors."""

    dims: Dims
    scale: float
    group: Group
    empty: str = "zero"
    call: int = 0  # by which its backward is told from others

    def of(self, exchange: Exchange | None) -> Options:
        return self if exchange is None else self._replace(call=exchange.call)


class ShardedSoftmax(Function):
    """Saved is y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor | None, options: Options, exchange: Any) -> Tensor:
        dims, scale, group, empty, _ = options
        told = gather(tell("shard_stats", [x], dims, where, scale), group, exchange)
        numbers = *merge(merge_stats, told[..., 0], told[..., 1]), 1.0, 0.0
        y = apply("shard_softmax", numbers, [x], dims, where, scale, empty)
        ctx.save_for_backward(y)
        ctx.options = options.of(exchange), where is not None
        return y

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (y,) = ctx.saved_tensors
        options, masked = ctx.options
        return (
            differentiable(ShardedVjp, y, dy, y.detach() != 0 if masked else None, options),
            None,
            None,
            None,
        )


def differentiable(function: Any, *arguments: Any) -> Tensor:
    """A Function of these, or its forward alone where no derivative of it is wanted."""
    if torch.is_grad_enabled() or is_compiling():
        return function.apply(*arguments)
    return function.forward(None, *arguments)


class ShardedVjp(Function):
    """The product with the Jacobian of softmax, and its derivative; not that of the derivative."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, dy: Tensor, where: Tensor | None, options: Options) -> Tensor:
        dims, scale, *_ = options
        moments = moments_of(y, dy, where, options)
        if ctx is not None:
            ctx.save_for_backward(y, dy, where, *moments)
            ctx.options = options
        return apply("shard_vjp", moments, [y, dy], dims, where, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Any) -> Any:
        y, dy, where, ref, mean, weight = ctx.saved_tensors
        dims, scale, *_ = ctx.options
        ref_v, mean_v, _ = moments_of(y, v, where, ctx.options, 2)
        to_y = scale * ((dy.double() - ref) - mean) * ((v.double() - ref_v) - mean_v)
        to_y = torch.where(weight == 0, 0.0, to_y if where is None else torch.where(where, to_y, 0.0))
        to_dy = apply("shard_vjp", (ref_v, mean_v, weight), [y, v], dims, where, scale)
        return to_y.to(y.dtype), to_dy, None, None


def moments_of(
    y: Tensor, dy: Tensor, where: Tensor | None, options: Options, order: int = 1
) -> tuple[Tensor, ...]:
    """(ref, mean, weight) of whole rows, for the derivative of this order."""
    of = f"moments {options.call} {order}"
    told = gather(tell("shard_moments", [y, dy], options.dims, where), options.group, None, of)
    return merge(merge_moments, told[..., 0], told[..., 1], told[..., 2])


class ShardedLogSoftmax(Function):
    """Saved is y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor | None, options: Options, exchange: Any) -> Tensor:
        dims, scale, group, empty, _ = options
        told = gather(tell("shard_stats", [x], dims, where, scale), group, exchange)
        numbers = merge(merge_stats, told[..., 0], told[..., 1])[:2]
        y = apply("shard_log_softmax", numbers, [x], dims, where, scale, empty)
        ctx.save_for_backward(y)
        ctx.options = options.of(exchange), where is not None
        return y

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (y,), (options, masked) = ctx.saved_tensors, ctx.options
        where = y.detach() != -math.inf if masked else None
        return differentiable(ShardedLogVjp, y, dy, where, options), None, None, None


class ShardedLogVjp(Function):
    """dy − exp(y)·Σdy, and its derivative; not that of the derivative."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, dy: Tensor, where: Tensor | None, options: Options) -> Tensor:
        dims, scale, group, *_ = options
        told = gather(tell("shard_log_sum", [y, dy], dims, where), group, None, f"sum {options.call}").sum(0)
        if ctx is not None:
            ctx.save_for_backward(y, where, told)
            ctx.options = options
        return apply("shard_log_vjp", told.unbind(-1), [y, dy], dims, where, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Any) -> Any:
        (y, where, told), (_, scale, *_) = ctx.saved_tensors, ctx.options
        there = y != -math.inf if where is None else where & (y != -math.inf)
        p = y.double().exp()
        ref, mean, _ = moments_of(p, v.double(), there, ctx.options, 2)
        to_y = torch.where(there, -scale * p * v.double() * told[..., 0], 0.0)
        to_dy = torch.where(there, scale * ((v.double() - ref) - mean), 0.0)
        return to_y.to(y.dtype), to_dy.to(y.dtype), None, None


FUNCTIONS: dict[str, Any] = {SOFTMAX.name: ShardedSoftmax, LOG_SOFTMAX.name: ShardedLogSoftmax}


def forward(
    spec: Map,
    x: Any,
    dim: Any,
    dtype: torch.dtype | None,
    where: Any,
    scale: Any,
    empty: Any,
    group: Any,
    none: dict[str, Any],
) -> Tensor:
    """softmax, or log_softmax, of whole rows of which `x` is this rank's shard; `none` are not taken."""

    def call(of: Group, exchange: Exchange | None) -> Tensor:
        if empty not in checks.EMPTY:
            checks.choice(empty)
        shard, kind, mask, dims, factor = checked(spec.name, convert(x, dtype), dim, where, scale, none)
        if exchange is not None:
            exchange.about(shard, dims, {"scale": asked(scale, factor), "empty": empty})
        y = FUNCTIONS[spec.name].apply(shard, mask, Options(dims, factor, of, empty), exchange)
        return y.to(kind)

    return exchanged(group, spec.name, call)


def checked(
    name: str, x: Any, dim: Any, where: Any, scale: Any, none: dict[str, Any]
) -> tuple[Tensor, torch.dtype, Any, Dims, float]:
    """The shard, its dtype, the mask, the dims, and the scale if it is not multiplied in already."""
    given = [option for option, value in none.items() if value is not None]
    if given:
        raise TypeError(f"{name} takes no {' and no '.join(given)} beside a group: leave that out")
    x = check_shard(x)
    where, dims, dtype = None if where is None else mask(where, x), dims_of(dim, x.ndim), x.dtype
    if isinstance(scale, Tensor):
        return multiply(x, scale, where), dtype, where, dims, 1.0
    return x, dtype, where, dims, scale_of(scale, x)


def check_shard(x: Any) -> Tensor:
    x = check_tensor(x, "x")
    if is_dtensor(x):
        raise TypeError(
            "x is a DTensor, which knows how it is divided: leave group out, or give x.to_local()"
        )
    if x.is_meta:
        raise TypeError("x is on the device meta, and beside a group it takes a tensor with numbers to tell")
    return x


def asked(scale: Any, factor: float) -> Any:
    """What ranks have to have in common of a scale: the number, or that it is a tensor."""
    return "a tensor" if isinstance(scale, Tensor) else factor


# --- one number a row ---------------------------------------------------------------------------------


class ShardedLogsumexp(Function):
    """Saved are x and what was exchanged, with which the backward needs no more of the others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor | None, options: Options, exchange: Any) -> Tensor:
        dims, scale, group, *_ = options
        told = gather(tell("shard_stats", [x], dims, where, scale), group, exchange)
        top, others, lost = merge(merge_stats, told[..., 0], told[..., 1])
        ctx.save_for_backward(x, where, top, others, lost)
        ctx.options = options.of(exchange)
        return torch.where(top.abs() == math.inf, top, top + others.log1p()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Any) -> Any:
        x, where, *stats = ctx.saved_tensors
        dims, scale, *_ = ctx.options
        numbers = *stats, dy.double() * scale, 0.0
        return apply("shard_softmax", numbers, [x], dims, where, scale), None, None, None


class ShardedEntropy(Function):
    """log Σ exp(t) − Σ t·exp(t)/Σ exp(t) with t = scale·x − top; its gradient is −dy·J(scale·x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor | None, options: Options, exchange: Any) -> Tensor:
        dims, scale, group, *_ = options
        told = gather(tell("shard_entropy", [x], dims, where, scale), group, exchange)
        *stats, found = merge(merge_entropy, *told.unbind(-1))
        ctx.save_for_backward(x, where, *stats)
        ctx.options = options.of(exchange)
        return found.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Any) -> Any:
        x, where, *stats = ctx.saved_tensors
        dims, scale, *_ = options = ctx.options
        z = x.float() if x.dtype.itemsize == 2 else x
        p = apply("shard_softmax", (*stats, 1.0, 0.0), [z], dims, where, scale)
        there = p != 0
        moments = moments_of(p, z, there, options)
        dx = apply("shard_vjp", moments, [p, z], dims, there, scale * scale)
        return (-dy.double() * dx).to(x.dtype), None, None, None


def reduce(
    spec: Reduction,
    x: Any,
    dim: Any,
    keepdim: bool,
    dtype: torch.dtype | None,
    where: Any,
    scale: Any,
    group: Any,
    none: dict[str, Any],
) -> Tensor:
    """logsumexp, or the entropy, of whole rows."""

    def call(of: Group, exchange: Exchange | None) -> Tensor:
        shard, kind, mask, dims, factor = checked(spec.name, convert(x, dtype), dim, where, scale, none)
        if exchange is not None:
            exchange.about(shard, dims, {"scale": asked(scale, factor), "keepdim": bool(keepdim)})
        function: Any = ShardedEntropy if spec is ENTROPY else ShardedLogsumexp
        result = function.apply(shard, mask, Options(dims, factor, of), exchange).to(kind)
        return result if keepdim or not shard.ndim else result.squeeze(dims)

    return exchanged(group, spec.name, call)
