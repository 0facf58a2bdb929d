"""The checks: what is true of a right implementation, on which rows, and why it matters."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import cases, verdicts
from .errors import DType
from .operations import Arrays, Level, Operation
from .verdicts import Case, Verdict

PRODUCTS = ("vjp", "jvp")
BACKWARD = ("vjp", "jvp", "double-backward")
ALL = ("forward", *BACKWARD)
# every remainder of 16 again and again, what vectors, blocks and caches hold and one more or less
EACH_LENGTH = (
    *(*range(1, 38), 48, 63, 64, 65, 96, 100, 127, 128, 129, 200, 255, 256, 257, 384, 512, 768, 1000, 1023),
    *(1024, 1025, 1536, 2048, 3001, 4096, 4097, 5000, 8192, 10_007, 32_768, 65_536, 100_000),
)
# n: how many rows; powers of two and odd numbers, and one array that any kernel does in several parts
MANY = {3: 4099, 10: 64, 33: 1025, 257: 2500}
DIFFERENT = 251  # of many rows; a prime, so that none comes again at the same place of a block


@dataclass(frozen=True, eq=False)
class Check:
    """A row of the table below."""

    name: str
    rows: Callable[[DType, int, int], cases.Rows]
    lengths: tuple[int, ...]
    why: str
    judge: Callable[[Case, Callable[..., Any]], Verdict] = verdicts.within
    of: tuple[str, ...] = ALL
    ndim: int = 2
    axis: bool = False  # whether it is made along each axis that is given, too


twelve = cases.plain(12)
CHECKS = [
    Check(
        "shape and dtype",
        twelve,
        (1, 5, 100, 5000),
        "a float64 result in a float32 network doubles its memory, and broadcasting hides a wrong shape",
        verdicts.dtype_kept,
    ),
    Check(
        "contract",
        cases.hard,
        EACH_LENGTH,
        "each row is as near to the exact result as it may be, on hard logits and gradients, at all lengths",
        axis=True,
    ),
    Check(
        "one row",
        cases.plain(1),
        (2, 5, 100),
        "a batch of one is where a sum over the wrong axis and a squeezed axis show",
    ),
    Check(
        "many rows",
        cases.plain(DIFFERENT),
        tuple(MANY),
        "blocks of rows, what is left over, and the shares of threads are handled apart",
    ),
    Check(
        "average",
        cases.plain(512),
        (50, 400),
        "what is too large by 1 % in every row is no rounding, though each row may be within it",
        verdicts.right_on_average,
    ),
    Check(
        "constant gradient",
        cases.constant,
        (2, 3, 16, 100, 1000),
        "the weights sum to 1 whatever the logits are, so a constant gradient must give 0",
        of=PRODUCTS,
    ),
    Check(
        "sums to 0",
        twelve,
        (2, 5, 100, 1000),
        "what one logit gains the others lose: 1ᵀJ = 0",
        verdicts.sums_to_zero,
        of=PRODUCTS,
    ),
    Check(
        "sums to 1",
        cases.hard,
        (1, 2, 17, 100, 1000, 4097, 100_000),
        "the weights of a row are all there is",
        verdicts.sums_to_one,
        of=("forward",),
    ),
    Check(
        "adjoint",
        cases.plain(128),
        (2, 5, 33, 257),
        "⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩, and the jvp is found as a derivative of the map: no formula is asked",
        verdicts.adjoint,
        of=PRODUCTS,
    ),
    Check(
        "saturated rows",
        cases.saturated,
        (2, 3, 17, 100),
        "where one weight is nearly 1 the others' gradients are all that is left, and drown in its rounding",
    ),
    Check(
        "flat rows",
        cases.flat,
        (1, 2, 3, 16, 100, 1000),
        "logits start out equal: 1/n everywhere is the first thing that a network sees",
    ),
    Check(
        "any size",
        cases.any_size,
        (2, 17, 100, 1000),
        "gradients come as small as a mean over millions makes them, and as large as a loss is scaled up",
        of=PRODUCTS,
    ),
    Check(
        "broadcast gradient",
        cases.one_gradient,
        (5, 33),
        "the gradient of a sum has strides of 0: one number in memory for all",
        verdicts.broadcast,
        of=BACKWARD,
    ),
    Check(
        "masked entries",
        cases.masked,
        (2, 5, 17, 100),
        "attention masks by −inf: there the weight is exactly 0, and so is the gradient, not small",
        verdicts.absent_where_masked,
    ),
    Check(
        "huge logits",
        cases.huge,
        (2, 3, 17),
        "exp overflows from 89 on (float32) unless the maximum is taken off, and −inf − −inf is NaN",
        of=("forward",),
    ),
    Check(
        "empty rows",
        cases.empty,
        (2, 17),
        "a row with nothing in it has y = 0, and its gradient is 0, not NaN",
        of=PRODUCTS,
    ),
    Check(
        "NaN kept", twelve, (5, 33), "a NaN that disappears hides the mistake that made it", verdicts.nan_kept
    ),
    Check(
        "inputs unchanged",
        twelve,
        (1, 5, 33, 100, 5000),
        "y and dy are needed again: by other branches of a graph, and by the next derivative",
        verdicts.inputs_unchanged,
    ),
    Check(
        "no aliasing",
        twelve,
        (1, 5, 33, 100, 5000),
        "a result in memory that something else writes to changes after it was returned",
        verdicts.no_aliasing,
    ),
    Check(
        "same twice",
        twelve,
        (5, 33, 1000),
        "training can only be repeated if the same call gives the same bits",
        verdicts.same_twice,
    ),
    Check(
        "read-only inputs",
        twelve,
        (5, 33),
        "arrays out of files and other libraries can't be written to",
        verdicts.read_only,
    ),
    Check(
        "memory layouts",
        twelve,
        (3, 5, 33),
        "slices and transposes are everyday inputs, and kernels that walk memory get them wrong",
        verdicts.any_layout,
    ),
    Check("three dimensions", twelve, (5, 33), "batches have more than two axes", ndim=3, axis=True),
]


@functools.lru_cache(maxsize=320)  # those of all checks of a function, in two dtypes: the next one finds them
def drawn(
    rows: Callable[[DType, int, int], cases.Rows],
    count: int | None,
    operation: Operation,
    level: Level,
    dtype: DType,
    n: int,
    seed: int,
) -> tuple[tuple[str, ...], Arrays, Arrays, Arrays, Arrays | None]:
    """The labels, the arguments, the exact results, the error allowed of each and its unit; `count` rows of
    these are made of as many as there are, again and again."""
    labels, x, u, v = rows(dtype, n, seed)
    with np.errstate(all="ignore"):
        arguments = operation.arguments(x, u, v)
        exact = operation.exact(*arguments)
        allowed = operation.allowed(level, arguments, exact)
        by_terms = operation.terms is not None and level == "tight"
        beside = operation.terms(*arguments, *exact) if operation.terms and by_terms else None
    if count is not None:
        labels = list(itertools.islice(itertools.cycle(labels), count))
        arguments, exact, allowed = (repeated(a, count) for a in (arguments, exact, allowed))
        beside = beside and repeated(beside, count)
    return tuple(labels), arguments, exact, allowed, beside


def repeated(arrays: Arrays, count: int) -> Arrays:
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
    count = MANY.get(n, 1025) if check.name == "many rows" else None
    labels, arguments, exact, allowed, beside = drawn(
        check.rows, count, operation.same_as or operation, level, dtype, n, seed
    )
    return Case(operation, level, check.judge, arguments, exact, allowed, labels, axis, check.ndim, beside)
