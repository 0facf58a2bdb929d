"""What `dispatch.Library` asks for, of Dask arrays: the checks, and the steps of each function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

from .. import arrays, checks, specs
from ..checks import Array
from ..specs import Kind, Map, Reduction
from . import blocks
from .graph import again, combined, in_blocks, is_whole

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
        return in_blocks(blocks.forward_whole, [x, where], dtype=dtype, map=map, empty=empty, **options)
    finish: Callable[..., Array]
    if map is specs.LOG_SOFTMAX:
        numbers, finish = numbers_of_logs(x, where, **options), blocks.finish_log_softmax
    else:
        parts = in_blocks(blocks.stats_of, [x, where], dtype=blocks.STATS, reduced=axes, **options)
        numbers, finish = combined(parts, axes, blocks.combine_stats), blocks.finish_softmax
    return in_blocks(finish, [*again("finish", x, where), numbers], dtype=dtype, empty=empty, **options)


def numbers_of_logs(x: Any, where: Any, axis: tuple[int, ...], scale: float) -> Any:
    parts = in_blocks(blocks.logs_of, [x, where], dtype=blocks.LOGS, reduced=axis, axis=axis, scale=scale)
    return combined(parts, axis, functools.partial(blocks.combine_logs, scale=scale))


def product(map: Map, kind: Kind, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> Any:
    if map not in (specs.SOFTMAX, specs.LOG_SOFTMAX):
        return arrays.product(map, kind, y, v, axis=axis, where=where, scale=scale, out=out)
    refuse_out(out)
    name = "dy" if kind == "vjp" else "dx"
    dtype, (y, v), where, axes = arguments(axis, where, **{"y": y, name: v})
    options: dict[str, Any] = {"axis": axes, "scale": checks.number(scale, dtype)}
    if is_whole(y, axes):
        return in_blocks(blocks.product_whole, [y, v, where], dtype=dtype, map=map, kind=kind, **options)
    finish: Callable[..., Array]
    log = map is specs.LOG_SOFTMAX
    given = again("first", y, v, where)  # dy may be made of the x that y is made of
    if log and kind == "vjp":
        parts = in_blocks(blocks.sum_of, given, dtype=blocks.SUM, reduced=axes, axis=axes)
        numbers, finish = [combined(parts, axes, blocks.add)], blocks.finish_log_vjp
    else:
        parts = in_blocks(blocks.mean_of, given, dtype=blocks.MEAN, reduced=axes, axis=axes, log=log)
        numbers, finish = [combined(parts, axes, blocks.combine_means)], blocks.finish_product
        options["log"] = log
        if dtype == np.float64:  # of narrower types the mean is exact enough as it is
            given = [*again("rest", y, v, where), *numbers]
            parts = in_blocks(blocks.rest_of, given, dtype=blocks.REST, reduced=axes, axis=axes, log=log)
            numbers.append(combined(parts, axes, blocks.add))
    return in_blocks(finish, [*again("finish", y, v, where), *numbers], dtype=dtype, **options)


def reduce(
    reduction: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Any
) -> Any:
    if reduction is not specs.LOGSUMEXP:
        return arrays.reduce(reduction, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out)
    refuse_out(out)
    dtype, (x,), where, axes = arguments(axis, where, x=x)
    options: dict[str, Any] = {"axis": axes, "scale": checks.number(scale, dtype)}
    if is_whole(x, axes):
        result = in_blocks(blocks.logsumexp_whole, [x, where], dtype=dtype, reduced=axes, **options)
    else:
        numbers = numbers_of_logs(x, where, **options)
        result = in_blocks(
            blocks.finish_logsumexp, [numbers], dtype=dtype, result=dtype, scale=options["scale"]
        )
    return result if keepdims or not x.ndim else result.squeeze(axes)


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
