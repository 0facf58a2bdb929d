"""The checks: what is true of a right implementation, on which rows, and why it matters."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import judging, rows
from .cases import DType
from .judging import Case, Verdict
from .operations import Arrays, Level, Operation

PRODUCTS = ("vjp", "jvp")
BACKWARD = ("vjp", "jvp", "double-backward")
ALL = ("forward", *BACKWARD)
# every remainder of 16 again and again, what vectors, blocks and caches hold and one more or less
EACH_LENGTH = (
    *(*range(1, 38), 48, 63, 64, 65, 96, 100, 127, 128, 129, 200, 255, 256, 257, 384, 512, 768, 1000, 1023),
    *(1024, 1025, 1536, 2048, 3001, 4096, 4097, 5000, 8192, 10_007, 32_768, 65_536, 100_000),
)


@dataclass(frozen=True, eq=False)
class Check:
    """A row of the table below."""

    name: str
    why: str
    build: Callable[[Operation, DType, int, int], rows.Rows]
    lengths: tuple[int, ...]
    judge: Callable[[Case, Callable[..., Any]], Verdict] = judging.within
    of: tuple[str, ...] = ALL
    ndim: int = 2
    axis: bool = False  # whether it is made along each axis that is given, too


CHECKS = [
    Check(
        "shape and dtype",
        "a float64 result in a float32 network doubles its memory, and broadcasting hides a wrong shape",
        rows.alike,
        (1, 5, 100, 5000),
        judging.dtype_kept,
    ),
    Check(
        "contract",
        "each row is as near to the exact result as it may be, on hard logits and gradients, at all lengths",
        rows.hard,
        EACH_LENGTH,
        axis=True,
    ),
    Check(
        "one row",
        "a batch of one is where a sum over the wrong axis and a squeezed axis show",
        rows.one_row,
        (2, 5, 100),
    ),
    Check(
        "many rows",
        "blocks of rows, what is left over, and the shares of threads are handled apart",
        rows.many_rows,
        tuple(rows.MANY),
    ),
    Check(
        "average",
        "what is too large by 1 % in every row is no rounding, though each row may be within it",
        rows.averaged,
        (50, 400),
        judging.right_on_average,
    ),
    Check(
        "constant gradient",
        "the weights sum to 1 whatever the logits are, so a constant gradient must give 0",
        rows.constant,
        (2, 3, 16, 100, 1000),
        of=PRODUCTS,
    ),
    Check(
        "sums to 0",
        "what one logit gains the others lose: 1ᵀJ = 0",
        rows.alike,
        (2, 5, 100, 1000),
        judging.sums_to_zero,
        of=PRODUCTS,
    ),
    Check(
        "sums to 1",
        "the weights of a row are all there is",
        rows.hard,
        (1, 2, 17, 100, 1000, 4097, 100_000),
        judging.sums_to_one,
        of=("forward",),
    ),
    Check(
        "adjoint",
        "⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩, and the jvp is found as a derivative of the map: no formula is asked",
        rows.crowd,
        (2, 5, 33, 257),
        judging.adjoint,
        of=PRODUCTS,
    ),
    Check(
        "saturated rows",
        "where one weight is nearly 1 the others' gradients are all that is left, and drown in its rounding",
        rows.saturated,
        (2, 3, 17, 100),
    ),
    Check(
        "flat rows",
        "logits start out equal: 1/n everywhere is the first thing that a network sees",
        rows.flat,
        (1, 2, 3, 16, 100, 1000),
    ),
    Check(
        "any size",
        "gradients come as small as a mean over millions makes them, and as large as a loss is scaled up",
        rows.any_size,
        (2, 17, 100, 1000),
        of=PRODUCTS,
    ),
    Check(
        "broadcast gradient",
        "the gradient of a sum has strides of 0: one number in memory for all",
        rows.one_gradient,
        (5, 33),
        judging.broadcast,
        of=BACKWARD,
    ),
    Check(
        "masked entries",
        "attention masks by −inf: there the weight is exactly 0, and so is the gradient, not small",
        rows.masked,
        (2, 5, 17, 100),
        judging.absent_where_masked,
    ),
    Check(
        "huge logits",
        "exp overflows from 89 on (float32) unless the maximum is taken off, and −inf − −inf is NaN",
        rows.huge,
        (2, 3, 17),
        of=("forward",),
    ),
    Check(
        "empty rows",
        "a row with nothing in it has y = 0, and its gradient is 0, not NaN",
        rows.empty,
        (2, 17),
        of=PRODUCTS,
    ),
    Check(
        "NaN kept",
        "a NaN that disappears hides the mistake that made it",
        rows.alike,
        (5, 33),
        judging.nan_kept,
    ),
    Check(
        "inputs unchanged",
        "y and dy are needed again: by other branches of a graph, and by the next derivative",
        rows.alike,
        (1, 5, 33, 100, 5000),
        judging.inputs_unchanged,
    ),
    Check(
        "no aliasing",
        "a result in memory that something else writes to changes after it was returned",
        rows.alike,
        (1, 5, 33, 100, 5000),
        judging.no_aliasing,
    ),
    Check(
        "same twice",
        "training can only be repeated if the same call gives the same bits",
        rows.alike,
        (5, 33, 1000),
        judging.same_twice,
    ),
    Check(
        "read-only inputs",
        "arrays out of files and other libraries can't be written to",
        rows.alike,
        (5, 33),
        judging.read_only,
    ),
    Check(
        "memory layouts",
        "slices and transposes are everyday inputs, and kernels that walk memory get them wrong",
        rows.alike,
        (3, 5, 33),
        judging.any_layout,
    ),
    Check(
        "three dimensions",
        "batches have more than two axes",
        rows.alike,
        (5, 33),
        ndim=3,
        axis=True,
    ),
]


@functools.lru_cache(maxsize=320)  # those of all checks of a function, in two dtypes: the next one finds them
def drawn(
    build: Callable[[Operation, DType, int, int], rows.Rows],
    operation: Operation,
    level: Level,
    dtype: DType,
    n: int,
    seed: int,
) -> tuple[rows.Rows, Arrays, Arrays, Arrays | None]:
    made = build(operation, dtype, n, seed)
    with np.errstate(all="ignore"):
        exact = operation.exact(*made.arguments)
        beside = operation.terms(made.arguments, exact) if operation.terms and level == "tight" else None
        allowed = operation.allowed(level, made.arguments, exact)
    if made.repeated is None:
        return made, exact, allowed, beside
    labels = tuple(itertools.islice(itertools.cycle(made.labels), made.repeated))
    arguments, exact, allowed = (again(a, made.repeated) for a in (made.arguments, exact, allowed))
    return rows.Rows(arguments, labels), exact, allowed, beside and again(beside, made.repeated)


def again(arrays: Arrays, count: int) -> Arrays:
    """So many rows, these and then these again."""
    return tuple(np.resize(a, (count, *a.shape[1:])) for a in arrays)


def case_of(
    check: Check,
    operation: Operation,
    level: Level,
    dtype: DType,
    n: int,
    axis: int | None = None,
    seed: int = 0,
) -> Case:
    # found once for the checks that take the same rows, and for the functions that must give the same
    made, exact, allowed, beside = drawn(check.build, operation.same_as or operation, level, dtype, n, seed)
    return Case(
        operation, level, check.judge, made.arguments, exact, allowed, made.labels, axis, check.ndim, beside
    )
