"""The kernels by name and dtype: compiled when they are first asked for, kept on disk where that can be."""

import ctypes
import functools
import gc
import math
import pathlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cfunc, int64, njit, types

from .. import threads
from . import (
    contiguous,
    cross_entropy,
    divergences,
    double_backward,
    drive,
    entmax,
    fenchel_young,
    gather,
    log_products,
    log_softmax,
    reductions,
    secular,
    segments,
    shards,
    sinks,
    softmax,
    sparse,
    vjp,
    worker_loop,
)
from .drive import MOST
from .intrinsics import BFLOAT16, FLOAT16

ELEMENT = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": types.float32, "float64": types.float64}
ARRAY = {dtype: types.CPointer(element) for dtype, element in ELEMENT.items()}
MASK, NUMBERS = types.CPointer(types.uint8), types.CPointer(types.float64)


def no_room(*sizes: int) -> int:
    return 0


@dataclass(frozen=True)
class Operation:
    """A row function, and the same for columns if it has one."""

    read: int  # the arrays it reads come first
    rows: Callable[..., None]
    rows_room: Callable[[int, bool], int]  # bytes of scratch memory, for rows of n; narrow is a 16-bit type
    columns: Callable[..., None] | None = None
    columns_room: Callable[[int, int, bool], int] = no_room  # the same for n and the width of a tile
    fill: tuple[float, ...] = ()  # what stands for a masked element in each array, if it is not 0
    logits: bool = False  # whether the last it reads are logits, which the scale multiplies first
    per_row: tuple[int, ...] = ()  # arrays of one float64 a row; their strides along the row are 0
    part: str = ""  # the operation that this one does in segments


ABSENT = -math.inf  # as a logit, or the logarithm of a weight
OPERATIONS = {
    "softmax": Operation(
        *(1, softmax.rows, softmax.rows_room, softmax.columns, softmax.columns_room),
        fill=(ABSENT,),
        logits=True,
    ),
    "softmax_vjp": Operation(2, vjp.rows, vjp.rows_room, vjp.columns, vjp.columns_room),
    "softmax_double_backward": Operation(3, double_backward.rows, vjp.rows_room),
    "softmax_hessian_diagonal": Operation(2, double_backward.diagonal_rows, double_backward.diagonal_room),
    "softmax_hessian_diagonal_of": Operation(
        3, double_backward.diagonal_of_rows, double_backward.diagonal_room
    ),
    "entmax": Operation(
        *(1, entmax.rows, entmax.rows_room, entmax.columns, entmax.columns_room),
        fill=(ABSENT,),
        logits=True,
    ),
    "entmax_vjp": Operation(2, sparse.rows, sparse.rows_room, sparse.columns, sparse.columns_room),
    "entmax_alpha_vjp": Operation(
        *(2, sparse.alpha_vjp, sparse.alpha_vjp_room),
        *(sparse.alpha_vjp_columns, sparse.alpha_vjp_columns_room),
        per_row=(2,),
    ),
    "entmax_double_backward": Operation(3, sparse.double_backward, sparse.double_backward_room),
    "log_softmax": Operation(
        *(1, log_softmax.rows, softmax.rows_room, log_softmax.columns, softmax.columns_room),
        fill=(ABSENT, ABSENT),
        logits=True,
    ),
    "log_softmax_vjp": Operation(
        *(2, log_products.rows, softmax.rows_room, log_products.columns, softmax.columns_room),
        fill=(ABSENT,),
    ),
    "log_softmax_jvp": Operation(2, log_products.jvp_rows, log_products.weights_room, fill=(ABSENT,)),
    "log_softmax_double_backward": Operation(
        3, log_products.double_backward_rows, log_products.weights_room, fill=(ABSENT,)
    ),
    "logsumexp": Operation(
        *(1, reductions.logsumexp_rows, softmax.rows_room),
        *(reductions.logsumexp_columns, softmax.columns_room),
        fill=(ABSENT,),
        logits=True,
        per_row=(1,),
    ),
    "logsumexp_vjp": Operation(
        *(2, reductions.logsumexp_vjp_rows, softmax.rows_room),
        *(reductions.logsumexp_vjp_columns, reductions.vjp_columns_room),
        fill=(0.0, ABSENT),
        logits=True,
        per_row=(0,),
    ),
    "entropy": Operation(
        *(1, reductions.entropy_rows, reductions.kept_rows_room),
        *(reductions.entropy_columns, reductions.kept_columns_room),
        fill=(ABSENT,),
        logits=True,
        per_row=(1,),
    ),
    "entropy_vjp": Operation(
        *(2, reductions.entropy_vjp_rows, softmax.rows_room),
        *(reductions.entropy_vjp_columns, reductions.vjp_columns_room),
        fill=(0.0, ABSENT),
        logits=True,
        per_row=(0,),
    ),
    "fenchel_young": Operation(3, fenchel_young.rows, no_room, fill=(ABSENT,), per_row=(3,)),
    # of these the gradient, which comes last, may be missing
    "entropy_of_probabilities": Operation(1, divergences.entropy_rows, no_room, per_row=(1,)),
    "divergence": Operation(
        2, divergences.rows, divergences.room_for, fill=(ABSENT, ABSENT), logits=True, per_row=(2,)
    ),
    "divergence_of_probabilities": Operation(
        *(2, divergences.of_probabilities_rows, divergences.room_for),
        fill=(ABSENT,),
        logits=True,
        per_row=(2,),
    ),
    "cross_entropy": Operation(
        1, cross_entropy.rows, softmax.rows_room, fill=(ABSENT,), logits=True, per_row=(1,)
    ),
    "cross_entropy_of_weights": Operation(
        2, cross_entropy.weighted_rows, softmax.rows_room, fill=(ABSENT,), logits=True, per_row=(2,)
    ),
    "sink_softmax": Operation(
        *(2, sinks.softmax_rows, sinks.softmax_room), fill=(0.0, ABSENT), logits=True, per_row=(0,)
    ),
    "sink_softmax_vjp": Operation(3, sinks.vjp_rows, sinks.vjp_room, per_row=(0,)),
    "softmax_scaled": Operation(
        *(2, sinks.scaled_rows, sinks.softmax_room), fill=(0.0, ABSENT), logits=True, per_row=(0,)
    ),
    "softmax_mean": Operation(2, sinks.mean_rows, no_room, per_row=(2,)),
    "softmax_vjp_of_mean": Operation(3, sinks.vjp_of_mean_rows, no_room, per_row=(0,)),
    "softmax_scale_vjp": Operation(3, sinks.scale_vjp_rows, sinks.scale_vjp_room, per_row=(3,)),
    "shard_stats": Operation(
        1, shards.stats_rows, softmax.rows_room, fill=(ABSENT,), logits=True, per_row=(1,)
    ),
    "shard_entropy": Operation(
        1, shards.entropy_rows, reductions.kept_rows_room, fill=(ABSENT,), logits=True, per_row=(1,)
    ),
    "shard_softmax": Operation(
        2, shards.softmax_rows, no_room, fill=(0.0, ABSENT), logits=True, per_row=(0,)
    ),
    "shard_log_softmax": Operation(
        2, shards.log_softmax_rows, no_room, fill=(0.0, ABSENT, ABSENT), logits=True, per_row=(0,)
    ),
    "shard_moments": Operation(2, shards.moments_rows, no_room, per_row=(2,)),
    "shard_vjp": Operation(3, shards.vjp_rows, no_room, per_row=(0,)),
    "shard_log_sum": Operation(2, shards.log_sum_rows, no_room, fill=(ABSENT,), per_row=(2,)),
    "shard_log_vjp": Operation(3, shards.log_vjp_rows, no_room, fill=(0.0, ABSENT), per_row=(0,)),
    "segment_softmax": Operation(
        *(1, segments.softmax_rows, segments.softmax_rows_room),
        *(segments.softmax_columns, segments.softmax_columns_room),
        fill=(ABSENT,),
        logits=True,
        part="softmax",
    ),
    "segment_softmax_vjp": Operation(
        *(2, segments.vjp_rows, segments.vjp_rows_room, segments.vjp_columns, segments.vjp_columns_room),
        part="softmax_vjp",
    ),
    "segment_log_softmax": Operation(
        *(1, segments.maps_rows, softmax.rows_room, segments.maps_columns, softmax.columns_room),
        fill=(ABSENT, ABSENT),
        logits=True,
        part="log_softmax",
    ),
    "segment_log_softmax_vjp": Operation(
        *(2, segments.maps_rows, softmax.rows_room, segments.maps_columns, softmax.columns_room),
        fill=(ABSENT,),
        part="log_softmax_vjp",
    ),
    "segment_log_softmax_jvp": Operation(
        2, segments.maps_rows, log_products.weights_room, fill=(ABSENT,), part="log_softmax_jvp"
    ),
    "segment_softmax_double_backward": Operation(
        3, segments.maps_rows, vjp.rows_room, part="softmax_double_backward"
    ),
    "segment_log_softmax_double_backward": Operation(
        3,
        *(segments.maps_rows, log_products.weights_room),
        fill=(ABSENT,),
        part="log_softmax_double_backward",
    ),
    "segment_logsumexp": Operation(
        *(1, segments.reduce_rows, softmax.rows_room, segments.reduce_columns, softmax.columns_room),
        fill=(ABSENT,),
        logits=True,
        per_row=(1,),
        part="logsumexp",
    ),
    "segment_logsumexp_vjp": Operation(
        *(2, segments.reduce_vjp_rows, softmax.rows_room),
        *(segments.reduce_vjp_columns, reductions.vjp_columns_room),
        fill=(0.0, ABSENT),
        logits=True,
        per_row=(0,),
        part="logsumexp_vjp",
    ),
    "segment_entropy": Operation(
        *(1, segments.reduce_rows, reductions.kept_rows_room),
        *(segments.reduce_columns, reductions.kept_columns_room),
        fill=(ABSENT,),
        logits=True,
        per_row=(1,),
        part="entropy",
    ),
    "segment_entropy_vjp": Operation(
        *(2, segments.reduce_vjp_rows, softmax.rows_room),
        *(segments.reduce_vjp_columns, reductions.vjp_columns_room),
        fill=(0.0, ABSENT),
        logits=True,
        per_row=(0,),
        part="entropy_vjp",
    ),
}


@functools.cache
def stamp() -> int:
    """A number that changes with any of the kernels' sources (Numba looks at one file only)."""
    folder = pathlib.Path(__file__).parent
    return zlib.crc32(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))))


def kept_on_disk(decorator: Callable[..., Any], function: Callable[..., Any], signature: Any) -> Any:
    """`function` as machine code: compiled, or read from disk."""
    with threads.first_use:
        name, collecting = function.__qualname__, gc.isenabled()
        gc.disable()  # a compiler makes many objects and few rounds of garbage
        function.__qualname__ = f"{function.__name__}_{stamp():08x}"  # names the file in the cache
        try:
            return decorator(signature, cache=True, error_model="numpy")(function)
        except Exception:
            # no folder can be written to, or what is in it is damaged: compile for this process alone (what
            # is wrong with the kernel itself is raised from there)
            return decorator(signature, error_model="numpy")(function)
        finally:
            function.__qualname__ = name
            if collecting:
                gc.enable()


KEPT: list[Any] = []  # the machine code goes with these


@functools.cache
def compiled(function: Callable[..., None], *arguments: Any) -> int:
    """The address of `function` as machine code for arguments of these Numba types."""
    KEPT.append(kept_on_disk(cfunc, function, types.void(*arguments)))
    return int(KEPT[-1].address)


GATES: dict[int, Callable[..., Any]] = {2: contiguous.two, 3: contiguous.three}
SIGNATURES: dict[tuple[str, int], list[Any]] = {}


def gate(dtype: str, arrays: int, ndim: int) -> Any:
    """Numba's function from contiguous arrays, of these axes and those of earlier calls, to a kernel."""
    read, written = (types.Array(ELEMENT[dtype], ndim, "C", readonly=fixed) for fixed in (True, False))
    signatures = SIGNATURES.setdefault((dtype, arrays), [])
    signatures.append(types.boolean(*[read] * (arrays - 1), written, int64, types.float64, int64))
    return kept_on_disk(njit, GATES[arrays], signatures)


@functools.cache
def by_plan() -> Any:
    """A function from addresses to a kernel, which takes an eighth of a microsecond.

    What Numba calls once it has found the types of the arguments; here there are no others than int.
    """
    KEPT.append(kept_on_disk(njit, contiguous.by_plan, [types.boolean(*[int64] * 4)]))
    (result,) = KEPT[-1].overloads.values()
    return result.entry_point


TABLES: dict[tuple[str, str], Any] = {}
LET_GO = [  # of the GIL, and take it again
    ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    for name in ("PyEval_SaveThread", "PyEval_RestoreThread")
]


def table(name: str, dtype: str) -> Any:
    """What a gate has to know of an operation; a kernel that nothing has asked for is 0 there."""
    operation, narrow = OPERATIONS[name], dtype in ("float16", "bfloat16")
    room = max(operation.rows_room(0, narrow), operation.columns_room(0, 0, narrow))
    each = operation.rows_room(1, narrow) - operation.rows_room(0, narrow)
    fields = 0, 0, room, each, threads.alone.ctypes.data, *LET_GO
    return TABLES.setdefault((name, dtype), np.array(fields, np.int64))


@functools.cache
def kernel(name: str, columns: bool, dtype: str) -> int:
    """The address of an operation on the contiguous memory of one type of element."""
    operation = OPERATIONS[name]
    function = operation.columns if columns and operation.columns else operation.rows
    address = compiled(function, *[ARRAY[dtype]] * MOST, *[int64] * (MOST + 2), NUMBERS, int64)
    table(name, dtype)[contiguous.COLUMNS if columns else contiguous.ROWS] = address
    return address


WORK: dict[str, Callable[..., None]] = {  # functions of integers
    "drive": drive.drive,
    "drive segments": segments.drive,
    "eigenvalues": secular.eigenvalues,
    "serve": worker_loop.serve,
    "begin": worker_loop.begin,
    "wait": worker_loop.wait,
}


@functools.cache
def work(name: str) -> int:
    """The address of one of them."""
    return compiled(WORK[name], *[int64] * WORK[name].__code__.co_argcount)


def move(source: str, target: str) -> int:
    """The address of `gather.move` between two types of element."""
    places = [kind for array in (ARRAY[source], MASK, ARRAY[target]) for kind in (array, int64, int64)]
    return compiled(gather.move, *places, int64, int64, *[types.float64] * 3)


def agree(dtype: str) -> int:
    """The address of `gather.agree`."""
    places = ARRAY[dtype], int64, ARRAY[dtype], int64, MASK, int64, int64
    return compiled(gather.agree, *places, int64, int64, types.CPointer(int64))
