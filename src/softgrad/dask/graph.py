"""Graphs of Dask: a function of the blocks, numbers of rows combined in a tree, arrays made a second time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from dask.base import clone_key
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

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


def combined(parts: Any, axes: tuple[int, ...], function: Callable[..., Any]) -> Any:
    """The numbers of all parts of each row combined, in a tree that is the same each time."""
    merge = functools.partial(merged, function=function)
    return da.reduction(
        parts, keep, merge, combine=merge, axis=axes, keepdims=True, dtype=parts.dtype, meta=parts._meta
    )


def keep(parts: Array, axis: Any, keepdims: bool) -> Array:
    return parts


def merged(parts: Array, axis: Any, keepdims: bool, function: Callable[..., Any]) -> Array:
    """The records along the axes as one."""
    for each in np.atleast_1d(axis):
        parts = functools.reduce(function, [parts.take([i], each) for i in range(parts.shape[each])])
    return parts


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
