"""Graphs of Dask: a function of the blocks, numbers of rows merged, arrays made a second time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from dask.base import clone_key
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from .. import distributed
from ..checks import Array


def is_whole(x: Any, axes: tuple[int, ...]) -> bool:
    """Whether no row is cut."""
    return x.ndim == 0 or all(x.numblocks[axis] == 1 for axis in axes)


def in_blocks(
    function: Callable[..., Array],
    given: list[Any],
    *,
    dtype: Any,
    reduced: tuple[int, ...] = (),
    **options: Any,
) -> Any:
    """The function of the blocks of all arrays at one place; an only block along an axis serves all places.

    Its results have length 1 along the `reduced` axes.
    """
    index = tuple(range(given[0].ndim))
    pairs = [part for array in given for part in (array, None if array is None else index)]
    return da.blockwise(
        function,
        index,
        *pairs,
        dtype=dtype,
        meta=np.empty((0,) * len(index), dtype),
        adjust_chunks=dict.fromkeys(reduced, 1) if index else None,
        align_arrays=False,
        **options,
    )


RECORDS = np.dtype([("", np.float64)])  # of more numbers, too: what Dask is told of them, no step looks at


def record(*numbers: Array) -> Array:
    """Numbers of each row, float64s, as one array."""
    table = np.stack(numbers, axis=-1)
    return table.view(np.dtype([("", np.float64)] * len(numbers)))[..., 0]


def fields(numbers: Array) -> tuple[Array, ...]:
    return tuple(numbers[name] for name in numbers.dtype.names or ())


def merged(
    tell: Callable[..., Array],
    given: list[Any],
    function: Callable[..., Any],
    axes: tuple[int, ...],
    **options: Any,
) -> Any:
    """Numbers of whole rows, from the records that `tell` makes of the blocks.

    One task takes all those of a row, in the order of the chunks: they are few beside the elements, and a
    tree would round the numbers at each step.
    """
    told = in_blocks(tell, given, dtype=RECORDS, reduced=axes, **options)
    return da.reduction(
        told,
        keep,
        functools.partial(merge, function=function),
        axis=axes,
        keepdims=True,
        split_every={axis: max(told.numblocks[axis], 2) for axis in axes},
        dtype=told.dtype,
        meta=told._meta,
    )


def keep(told: Array, axis: Any, keepdims: bool) -> Array:
    return told


def merge(told: Array, axis: Any, keepdims: bool, function: Callable[..., Any]) -> Array:
    """The records along the axes as one."""
    axes = tuple(np.atleast_1d(axis))
    shards = np.moveaxis(told, axes, range(len(axes)))
    count = math.prod(shards.shape[: len(axes)])
    shards = shards.reshape(count, *shards.shape[len(axes) :])
    return record(*[np.expand_dims(n, axes) for n in distributed.merge(function, *fields(shards))])


def again(seed: str, *values: Any) -> list[Any]:
    """The arrays made a second time: what two tasks share is in memory from the one to the other."""
    return [value if value is None else made_again(value, seed) for value in values]


def made_again(x: Any, seed: str) -> Any:
    """x under other keys, as far back as tasks take the blocks at one place, or one other block.

    What is before that is kept: reductions (numbers of rows among them), and what a change of chunks brings.
    """
    graph, names, left = x.dask, set(), list(x.__dask_layers__())
    while left:
        name = left.pop()
        if name not in names and can_be_made_again(graph.layers[name]):
            names.add(name)
            left += graph.dependencies[name]
    if x.name not in names:
        return x
    keys = {key for name in names for key in graph.layers[name].get_output_keys()}
    layers, dependencies = dict(graph.layers), dict(graph.dependencies)
    for name in names:
        new, layer = clone_key(name, seed), graph.layers[name]
        if isinstance(layer, Blockwise):
            layers[new], _ = layer.clone(keys, seed)
        else:
            tasks = {clone_key(key, seed): renamed(key, task, keys, seed) for key, task in layer.items()}
            layers[new] = MaterializedLayer(tasks, annotations=layer.annotations)
        dependencies[new] = {
            clone_key(other, seed) if other in names else other for other in graph.dependencies[name]
        }
    return da.Array(HighLevelGraph(layers, dependencies), clone_key(x.name, seed), x.chunks, meta=x._meta)


def can_be_made_again(layer: Any) -> bool:
    if isinstance(layer, Blockwise):
        return True
    # a task that an older Dask writes as a tuple has no such attribute
    return all(len(getattr(task, "dependencies", "??")) <= 1 for task in layer.values())


def renamed(key: Any, task: Any, keys: set[Any], seed: str) -> Any:
    """A task under another key, of the others' new keys."""
    others = {other: clone_key(other, seed) for other in task.dependencies if other in keys}
    return task.substitute(others, key=clone_key(key, seed))
