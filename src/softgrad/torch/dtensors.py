"""DTensors: which placements the operators take as they are, and rows that are divided by the device mesh.

What is divided along other dims than those of the rows stays so without communication (`register`).  Where
the rows themselves are divided, softmax, log_softmax, the reductions and cross_entropy are called with the
group of that mesh dim, and send some numbers a row; the other functions need whole rows, which PyTorch brings
together and divides again.  A result has the placements of the input.

Nothing here is imported before the first DTensor comes.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.experimental import register_sharding
from torch.distributed.tensor.placement_types import _StridedShard

from ..specs import Map, Reduction
from . import calls, losses, sharded, sharded_losses, sinks
from .exchange import group_of
from .ops import OPS
from .register import library
from .tensors import dims_of, into, one_dim

Placements = list[Any]
REGISTERED: list[bool] = []
MIXED = (
    "x is a DTensor, and another argument is a Tensor: give torch.distributed.tensor.distribute_tensor of "
    "it, on the same mesh"
)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def register() -> None:
    """Tell DTensor of every operator how its arguments may be divided, the first time."""
    if REGISTERED:
        return
    REGISTERED.append(True)
    for name in operators():
        operator = getattr(torch.ops.softgrad, name).default
        register_sharding(operator)(functools.partial(strategy, operator))


def operators() -> list[str]:
    names = [name.partition("::")[2] for name in library._op_defs]
    return sorted(name for name in names if not name.startswith("shard_"))


def strategy(operator: Any, *arguments: Any) -> list[tuple[Placements, Placements]]:
    """The placements of results and arguments that need no communication: all whole, or divided in rows."""
    schema = operator._schema
    given = {p.name: p.default_value for p in schema.arguments}
    given |= dict(zip(given, arguments, strict=False))
    x, dim = arguments[0], given["dim"]
    ndim = len(x.shape)
    rows = {d % max(ndim, 1) for d in ([dim] if isinstance(dim, int) else dim)}
    found = []
    for d in [None, *(d for d in range(ndim) if d not in rows)]:
        whole = Replicate() if d is None else Shard(d)
        without = Replicate() if d is None else Shard(d - sum(r < d for r in rows))  # of rows as numbers
        placed: Placements = []
        for name in list(given)[: len(arguments)]:
            value = given[name]
            if not hasattr(value, "placements"):
                placed.append(None)
            elif name in ("offsets", "learnt"):
                placed.append(Replicate())
            else:
                placed.append(whole if len(value.shape) == ndim else without)
        results: Placements = [whole] * len(schema.returns)
        if schema.name == "softgrad::cross_entropy":
            results[0] = without
        found.append((results, placed))
    return found


# --- rows that are divided ----------------------------------------------------------------------------


def mesh_dim(x: Any, dims: tuple[int, ...]) -> int | None:
    """The dim of the mesh that divides the rows along these dims; None if they are whole."""
    strided = any(isinstance(place, _StridedShard) for place in x.placements)  # which is no Shard
    divided = [
        i
        for i, place in enumerate(x.placements)
        if isinstance(place, Shard | _StridedShard) and place.dim - x.ndim in dims
    ]
    if len(divided) > 1 or (divided and strided):
        raise NotImplementedError(
            f"x has the placements {x.placements}, of which {len(divided)} divide its rows; softgrad takes "
            f"one, beside Shard and Replicate: redistribute x so that one dim of the mesh divides them, or "
            f"flatten these dims of the mesh"
        )
    return divided[0] if divided else None


def whole_rows(x: Any, at: int | None) -> Any:
    """x with its rows on every rank of the mesh dim that divides them; the gradient is divided again."""
    if at is None:
        return x
    return x.redistribute(placements=[Replicate() if i == at else p for i, p in enumerate(x.placements)])


def settled(x: Any) -> Any:
    """Without sums that are not added up yet."""
    if not any(isinstance(place, Partial) for place in x.placements):
        return x
    whole = [Replicate() if isinstance(place, Partial) else place for place in x.placements]
    return x.redistribute(placements=whole)


def local(value: Any, like: Any) -> Any:
    """This rank's part of a tensor of the shape of `like`, or one that broadcasts to it."""
    if value is None or not isinstance(value, Tensor):
        return value
    if not isinstance(value, DTensor):
        raise TypeError(MIXED)
    missing = like.ndim - value.ndim
    places = [
        Shard(place.dim - missing)
        if isinstance(place, Shard) and place.dim >= missing and value.shape[place.dim - missing] != 1
        else Replicate()
        for place in like.placements
    ]
    # where x is divided, and this is not, each rank has a part of its gradient
    parts = [
        Partial() if isinstance(of_x, Shard) and isinstance(place, Replicate) else place
        for of_x, place in zip(like.placements, places, strict=True)
    ]
    return value.redistribute(placements=places).to_local(grad_placements=parts)


def forward(
    spec: Map,
    x: Any,
    dim: Any,
    where: Any,
    scale: Any,
    empty: Any,
    out: Any,
    reuse_dy: bool,
    alpha_tensor: Tensor | None,
) -> Any:
    x = settled(x)
    dims = dims_of(dim, x.ndim)
    at = mesh_dim(x, dims)
    if at is None or spec.name not in sharded.FUNCTIONS:
        rows = whole_rows(x, at)
        y = calls.checked_forward(spec, rows, dim, where, scale, empty, None, reuse_dy, alpha_tensor)
        return into(out, as_placed(y, x), x, scale)
    shard = x.to_local(), dims, None, local(where, x), local(scale, x), empty
    return into(out, like(sharded.forward(spec, *shard, x.device_mesh.get_group(at), {}), x), x, scale)


def replicated(number: Tensor, like: Any) -> Any:
    """A tensor that all ranks have, on the mesh of a DTensor."""
    return DTensor.from_local(number, like.device_mesh, [Replicate()] * like.device_mesh.ndim)


def as_placed(y: Any, x: Any) -> Any:
    return y if y.placements == x.placements else y.redistribute(placements=x.placements)


def product(spec: Map, kind: str, y: Any, v: Any, dims: Any, where: Any, scale: float, *alpha: Any) -> Any:
    y = settled(y)
    at = mesh_dim(y, dims)
    if at is None or spec.name not in sharded.FUNCTIONS or (spec.name, kind) == ("log_softmax", "jvp"):
        operation = OPS[spec.name].vjp if kind == "vjp" else OPS[spec.name].jvp
        return as_placed(operation(y, v, dims, where, scale, *alpha), y)
    function: Any = sharded.ShardedVjp if spec.name == "softmax" else sharded.ShardedLogVjp
    options = sharded.Options(dims, scale, group_of(y.device_mesh.get_group(at)))
    return like(function.apply(y.to_local(), local(v, y), local(where, y), options), y)


def like(part: Tensor, x: Any) -> Any:
    """The DTensor of the shape of x of which this is the part."""
    return DTensor.from_local(
        part, x.device_mesh, x.placements, run_check=False, shape=x.shape, stride=x.stride()
    )


def sink_softmax(x: Any, sink: Any, dim: Any, where: Any, scale: Any) -> tuple[Any, Any]:
    x = settled(x)
    rows = whole_rows(x, mesh_dim(x, dims_of(dim, x.ndim)))
    y, y_sink = sinks.sink_softmax(rows, sink, axis=dim, where=where, scale=scale)
    return as_placed(y, x), y_sink


def reduce(spec: Reduction, x: Any, dim: Any, keepdim: bool, where: Any, scale: Any, out: Any) -> Any:
    x = settled(x)
    dims = dims_of(dim, x.ndim)
    at = mesh_dim(x, dims)
    if at is None:
        return calls.checked_reduce(spec, x, dim, where, scale, keepdim, out)
    shard = x.to_local(), dims, keepdim, None, local(where, x), local(scale, x)
    part = sharded.reduce(spec, *shard, x.device_mesh.get_group(at), {})
    return into(out, of_rows(part, x, dims, keepdim), x, scale)


def cross_entropy(x: Any, target: Any, dim: Any, *, reduction: Any, **options: Any) -> Any:
    x = settled(x)
    dims = (one_dim(dim, x.ndim, "the classes"),)
    at = mesh_dim(x, dims)
    if at is None:
        return losses.cross_entropy(x, target, axis=dim, reduction=reduction, **options)
    if not isinstance(target, DTensor):
        raise TypeError(MIXED)
    sharded_losses.check_classes_only(target)
    options = sharded_losses.check_unweighted(options)
    n, group = x.shape[dims[0]], x.device_mesh.get_group(at)
    _, start = Shard.local_shard_size_and_offset(n, group.size(), group.rank())
    places = places_of_rows(x, dims, False)
    classes = target.redistribute(placements=places).to_local()
    found = sharded_losses.cross_entropy(
        x.to_local(), classes, dim=dims[0], **options, reduction="none", group=group, start=min(start, n)
    )
    ignore = options["ignore_index"]
    counted = None if ignore is None else target != ignore
    return losses.reduce_losses(of_rows(found, x, dims, False), counted, reduction)


def cross_entropy_with_vjp(x: Any, target: Any, *, axis: Any, out: Any, **options: Any) -> tuple[Any, Any]:
    x = settled(x)
    rows = whole_rows(x, mesh_dim(x, (one_dim(axis, x.ndim, "the classes"),)))
    loss, vjp = losses.cross_entropy_with_vjp(rows, target, axis=axis, out=None, **options)
    gradient = into(out, as_placed(vjp(), x))

    def pullback(dloss: Any = 1.0, *, out: Any = None) -> Any:
        same = out is None and isinstance(dloss, float) and dloss == 1
        return gradient if same else into(out, as_placed(vjp(dloss), x))

    return loss, pullback


def of_rows(part: Tensor, x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """The DTensor of numbers of the rows of x."""
    kept = [1 if d - x.ndim in dims else n for d, n in enumerate(x.shape)]
    shape = kept if keepdim else [n for d, n in enumerate(kept) if d - x.ndim not in dims]
    stride, places = torch.empty(shape, device="meta").stride(), places_of_rows(x, dims, keepdim)
    return DTensor.from_local(
        part, x.device_mesh, places, run_check=False, shape=torch.Size(shape), stride=stride
    )


def places_of_rows(x: Any, dims: tuple[int, ...], keepdim: bool) -> Placements:
    """The placements of numbers of the rows of x: what divides the rows has them all everywhere."""
    rows = [d + x.ndim for d in dims]
    return [
        Shard(place.dim - (0 if keepdim else sum(r < place.dim for r in rows)))
        if isinstance(place, Shard) and place.dim not in rows
        else Replicate()
        for place in x.placements
    ]
