"""What `dispatch.Library` asks for, of Dask arrays: the steps of each function, its blocks, the checks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

from .. import arrays, checks, distributed, formulas, specs
from ..checks import Array
from ..specs import Kind, Map, Reduction
from .graph import again, fields, in_blocks, is_whole, merged, record

# --- the functions of dispatch.Library ------------------------------------------------------------------


def __getattr__(name: str) -> Any:
    """Those that are for NumPy arrays alone, which refuse a Dask array with what to do."""
    return getattr(arrays, name)


def forward(map: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Any) -> Any:
    if map not in (specs.SOFTMAX, specs.LOG_SOFTMAX):
        return arrays.forward(map, x, axis=axis, where=where, scale=scale, empty=empty, out=out)
    refuse_out(out)
    dtype, (x,), where, axes = arguments(axis, where, x=x)
    options: dict[str, Any] = {"axis": axes, "scale": checks.number(scale, dtype)}
    checks.choice(empty)
    if is_whole(x, axes):
        call = functools.partial(of_whole_rows, arrays.forward, map)
        return in_blocks(call, [x, where], dtype=dtype, empty=empty, **options)
    numbers = merged(tell_stats, [x, where], formulas.merge_stats, axes, **options)
    options |= {"empty": empty, "log": map is specs.LOG_SOFTMAX}
    return in_blocks(finish, [*again("finish", x, where), numbers], dtype=dtype, **options)


def product(map: Map, kind: Kind, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Any:
    if map not in (specs.SOFTMAX, specs.LOG_SOFTMAX):
        return arrays.product(map, kind, y, v, axis=axis, where=where, scale=scale, out=out)
    refuse_out(out)
    name = "dy" if kind == "vjp" else "dx"
    dtype, (y, v), where, axes = arguments(axis, where, **{"y": y, name: v})
    options: dict[str, Any] = {"axis": axes, "scale": checks.number(scale, dtype)}
    if is_whole(y, axes):
        call = functools.partial(of_whole_rows, arrays.product, map, kind)
        return in_blocks(call, [y, v, where], dtype=dtype, **options)
    given, later = again("first", y, v, where), again("finish", y, v, where)  # dy may be made of y's own x
    if map is specs.LOG_SOFTMAX and kind == "vjp":
        numbers = merged(tell_sums, given, add, axes, axis=axes)
        return in_blocks(finish_log_vjp, [*later, numbers], dtype=dtype, **options)
    log = map is specs.LOG_SOFTMAX
    numbers = merged(tell_moments, given, formulas.merge_moments, axes, axis=axes, log=log)
    return in_blocks(finish_product, [*later, numbers], dtype=dtype, log=log, **options)


def reduce(
    reduction: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Any
) -> Any:
    refuse_out(out)
    dtype, (x,), where, axes = arguments(axis, where, x=x)
    options: dict[str, Any] = {"axis": axes, "scale": checks.number(scale, dtype)}
    if is_whole(x, axes):
        call = functools.partial(of_whole_rows, arrays.reduce, reduction)
        result = in_blocks(call, [x, where], dtype=dtype, reduced=axes, keepdims=True, **options)
    elif reduction is specs.ENTROPY:
        numbers = merged(tell_entropy, [x, where], formulas.merge_entropy, axes, **options)
        result = in_blocks(finish_entropy, [numbers], dtype=dtype, result=dtype)
    else:
        numbers = merged(tell_stats, [x, where], formulas.merge_stats, axes, **options)
        result = in_blocks(finish_logsumexp, [numbers], dtype=dtype, result=dtype)
    return result if keepdims or not x.ndim else result.squeeze(axes)


# --- of blocks ------------------------------------------------------------------------------------------


def of_whole_rows(function: Callable[..., Any], *given: Any, **options: Any) -> Array:
    return np.asarray(function(*given[:-1], where=given[-1], out=None, **options))


def blocks_of(y: Any, v: Any) -> list[Array]:
    """Two blocks in one dtype; that they are of one shape, Dask may not have known."""
    return checks.alike(("a block of y", "that of the other array"), y, v)


def tell_stats(x: Any, where: Any, **options: Any) -> Array:
    return record(*distributed.stats(checks.floating(x, "x"), where=where, **options))


def tell_entropy(x: Any, where: Any, **options: Any) -> Array:
    return record(*distributed.tell("shard_entropy", checks.floating(x, "x"), where=where, **options))


def finish(x: Any, where: Any, numbers: Array, **options: Any) -> Array:
    return distributed.finish(checks.floating(x, "x"), *fields(numbers), where=where, **options)


def finish_logsumexp(numbers: Array, result: np.dtype[Any]) -> Array:
    top, others, _ = fields(numbers)
    with np.errstate(all="ignore"):
        return np.where(np.isinf(top), top, top + np.log1p(others)).astype(result)


def finish_entropy(numbers: Array, result: np.dtype[Any]) -> Array:
    return fields(numbers)[-1].astype(result)


def tell_moments(y: Any, v: Any, where: Any, *, axis: Any, log: bool) -> Array:
    """With `log` by the weights exp(y)."""
    y, v = blocks_of(y, v)
    if log:
        with np.errstate(over="ignore"):
            y, v = np.exp(y.astype(np.float64)), v.astype(np.float64)
    return record(*distributed.moments(y, v, axis=axis, where=where))


def finish_product(y: Any, v: Any, where: Any, numbers: Array, *, log: bool, **options: Any) -> Array:
    y, v = blocks_of(y, v)
    if log:  # v is not weighted; it is 0 where y is −inf
        y = (y != -np.inf).astype(y.dtype)
    return distributed.finish_vjp(y, v, *fields(numbers), where=where, **options)


def tell_sums(y: Any, v: Any, where: Any, *, axis: Any) -> Array:
    return record(*distributed.tell("shard_log_sum", *blocks_of(y, v), axis=axis, where=where))


def add(total: Array, some: Array, xp: Any) -> tuple[Array, Array]:
    return xp.sum(total, axis=0), xp.sum(some, axis=0)


def finish_log_vjp(y: Any, v: Any, where: Any, numbers: Array, **options: Any) -> Array:
    return distributed.apply("shard_log_vjp", fields(numbers), *blocks_of(y, v), where=where, **options)


# --- the arguments --------------------------------------------------------------------------------------


def refuse_out(out: Any) -> None:
    if out is not None:
        raise TypeError(
            "out is not taken with a dask.Array, whose result is computed later: leave it out, and give the "
            "result to dask.array.store or to_zarr"
        )


def arguments(axis: Any, where: Any, **values: Any) -> tuple[np.dtype[Any], list[Any], Any, tuple[int, ...]]:
    """The dtype of the result, the arrays in the chunks of the first, the mask likewise, and the axes."""
    names, (x, *others) = tuple(values), values.values()
    dtypes = {checks.floating(meta_of(value, name), name).dtype for name, value in values.items()}
    axes = checks.axes(axis, x.ndim)[: x.ndim]  # a number has none
    given = [x]
    for name, value in zip(names[1:], others, strict=True):
        refuse_unknown(names[0], sizes_of(x), name, sizes_of(value))
        checks.same_shape((names[0], name), sizes_of(x), sizes_of(value))
        given.append(in_chunks(value, x.chunks))
    return checks.promoted(dtypes), given, mask(where, x, names[0]), axes


def meta_of(value: Any, name: str) -> Array:
    """An array without elements that is what the blocks are, or the array itself if that is one of NumPy."""
    if not isinstance(value, da.Array):
        return checks.array(value, name)
    meta = value._meta
    if not isinstance(meta, np.ndarray):
        raise TypeError(
            f"{name} is a dask.Array with blocks of type {checks.kind(meta)}, where those of NumPy are "
            f"taken: give {name}.map_blocks(function), with a function that makes a numpy.ndarray of each"
        )
    return meta


def sizes_of(value: Any) -> tuple[Any, ...]:
    """The shape; in place of a size that Dask does not know, what it does know."""
    if not isinstance(value, da.Array):
        return np.shape(value)
    pairs = zip(value.shape, value.numblocks, strict=True)
    return tuple([f"{count} chunks of unknown size" if math.isnan(n) else n for n, count in pairs])


def refuse_unknown(name: str, sizes: tuple[Any, ...], other: str, of_other: tuple[Any, ...]) -> None:
    """Refuse an array that has another size than the first, or one of length 1, where one is not known."""
    for size, own in zip(reversed(sizes), reversed(of_other), strict=False):
        if own not in (1, size) and (isinstance(own, str) or isinstance(size, str)):
            raise ValueError(
                f"{name} has shape {sizes} and {other} has shape {of_other}: that they fit is not known; "
                f"call compute_chunk_sizes() of them first"
            )


def in_chunks(value: Any, chunks: tuple[Any, ...]) -> Any:
    """An array in these chunks, which are left alone where their size is not known."""
    if not isinstance(value, da.Array):
        return da.from_array(np.asarray(value), chunks=chunks)
    known = [not math.isnan(sum(own)) for own in chunks]
    return value.rechunk({d: own for d, own in enumerate(chunks) if known[d]})


def mask(where: Any, x: Any, name: str) -> Any:
    """`where` as a Dask array in the chunks of x, with one chunk along an axis on which it has length 1."""
    if where is None or where is True:
        return None
    of_dask = isinstance(where, da.Array)
    meta = meta_of(where, "where") if of_dask else where
    checks.of_numpy(meta, "where", "where.filled(False)", "; it takes booleans")
    where = where if of_dask else np.asarray(where)
    sizes, shape = sizes_of(where), sizes_of(x)
    refuse_unknown(name, shape, "where", sizes)
    # an element that stands for all; what is not known is the same in both
    known, of_x = ([1 if isinstance(size, str) else size for size in both] for both in (sizes, shape))
    checks.mask(np.broadcast_to(np.empty((), where.dtype), known), tuple(of_x))
    where = where[(None,) * (x.ndim - where.ndim)]
    pairs = zip(x.chunks, where.shape, strict=True)
    return in_chunks(where, tuple([(1,) if size == 1 else own for own, size in pairs]))
