"""The checks: what is true of a right implementation, on which rows, and why it matters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import cases, verdicts
from .errors import DType
from .operations import Arrays, Level, Operation
from .verdicts import Case, Function, Verdict

PRODUCTS = ("vjp", "jvp")
BACKWARD = ("vjp", "jvp", "double-backward")
FORWARD = ("forward",)
ALL = (*FORWARD, *BACKWARD)
# every remainder of 16 again and again, what vectors, blocks and caches hold and one more or less
EACH_LENGTH = (
    *(*range(1, 38), 48, 63, 64, 65, 96, 100, 127, 128, 129, 200, 255, 256, 257, 384, 512, 768, 1000, 1023),
    *(1024, 1025, 1536, 2048, 3001, 4096, 4097, 5000, 8192, 10_007, 32_768, 65_536, 100_000),
)


@dataclass(frozen=True, eq=False)
class Check:
    """A row of the table below."""

    name: str
    rows: cases.Draw
    lengths: tuple[int, ...]
    judge: Callable[[Case, Function], Verdict | None] = verdicts.within
    of: tuple[str, ...] = ALL
    ndim: int = 2
    axis: bool = False  # whether it is made along each axis that is given, too

    @property
    def why(self) -> str:
        return WHY[self.name]


twelve = cases.plain(12)
CHECKS = [
    Check("shape and dtype", twelve, (1, 5, 100, 5000), verdicts.dtype_kept),
    Check("contract", cases.hard, EACH_LENGTH, axis=True),
    Check("one row", cases.plain(1), (2, 5, 100)),
    Check("many rows", cases.many, tuple(cases.MANY)),
    Check("average", cases.plain(512), (50, 400), verdicts.right_on_average),
    Check("constant gradient", cases.constant, (2, 3, 16, 100, 1000), of=PRODUCTS),
    Check("sums to 0", twelve, (2, 5, 100, 1000), verdicts.sums_to_zero, PRODUCTS),
    Check("sums to 1", cases.hard, (1, 2, 17, 100, 1000, 4097, 100_000), verdicts.sums_to_one, FORWARD),
    Check("adjoint", cases.plain(128), (2, 5, 33, 257), verdicts.adjoint, PRODUCTS),
    Check("saturated rows", cases.saturated, (2, 3, 17, 100)),
    Check("flat rows", cases.flat, (1, 2, 3, 16, 100, 1000)),
    Check("any size", cases.any_size, (2, 17, 100, 1000), of=PRODUCTS),
    Check("broadcast gradient", cases.one_gradient, (5, 33), verdicts.broadcast, BACKWARD),
    Check("masked entries", cases.masked, (2, 5, 17, 100), verdicts.absent_where_masked),
    Check("huge logits", cases.huge, (2, 3, 17), of=FORWARD),
    Check("empty rows", cases.empty, (2, 17), of=PRODUCTS),
    Check("NaN kept", twelve, (5, 33), verdicts.nan_kept),
    Check("inputs unchanged", twelve, (1, 5, 33, 100, 5000), verdicts.inputs_unchanged),
    Check("no aliasing", twelve, (1, 5, 33, 100, 5000), verdicts.no_aliasing),
    Check("same twice", twelve, (5, 33, 1000), verdicts.same_twice),
    Check("read-only inputs", twelve, (5, 33), verdicts.read_only),
    Check("memory layouts", twelve, (3, 5, 33), verdicts.any_layout),
    Check("three dimensions", twelve, (5, 33), ndim=3, axis=True),
]
WHY = {
    "shape and dtype": "float64 results double a float32 network's memory; broadcasting hides wrong shapes",
    "contract": "each row is near the exact result, on hard logits and gradients, at all lengths",
    "one row": "a batch of one is where a sum over the wrong axis and a squeezed axis show",
    "many rows": "blocks of rows, what is left over, and the shares of threads are handled apart",
    "average": "what is too large by 1 % in every row is no rounding, though each row may be within it",
    "constant gradient": "the weights sum to 1 whatever the logits are, so a constant gradient must give 0",
    "sums to 0": "what one logit gains the others lose: 1ᵀJ = 0",
    "sums to 1": "the weights of a row are all there is",
    "adjoint": "⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩, where the jvp is a derivative of the map: no formula is used",
    "saturated rows": "where one weight is nearly 1, its rounding drowns the gradients of all others",
    "flat rows": "logits start out equal: 1/n everywhere is the first thing that a network sees",
    "any size": "a loss that is a mean over millions has tiny gradients, and a scaled loss huge ones",
    "broadcast gradient": "the gradient of a sum has strides of 0: one number in memory for all",
    "masked entries": "attention masks by −inf: there the weight and the gradient are exactly 0, not small",
    "huge logits": "exp overflows from 89 on (float32) unless the maximum is taken off; −inf − −inf is NaN",
    "empty rows": "a row with nothing in it has y = 0, and its gradient is 0, not NaN",
    "NaN kept": "a NaN that disappears hides the mistake that made it",
    "inputs unchanged": "y and dy are needed again: by other branches of a graph, and by the next derivative",
    "no aliasing": "a result in memory that something else writes to changes after it was returned",
    "same twice": "training can only be repeated if the same call gives the same bits",
    "read-only inputs": "arrays out of files and other libraries can't be written to",
    "memory layouts": "slices and transposes are everyday inputs; kernels that walk memory get them wrong",
    "three dimensions": "batches have more than two axes",
}


@functools.lru_cache(maxsize=320)  # those of all checks of a function, in two dtypes: the next one finds them
def drawn(
    rows: cases.Draw, operation: Operation, level: Level, dtype: DType, n: int, seed: int
) -> tuple[Arrays, Arrays, Arrays, tuple[str, ...], Arrays]:
    """The arguments, the exact results, the error allowed of each, the labels, and the units of errors."""
    labels, x, u, v = rows(dtype, n, seed)
    with np.errstate(all="ignore"):
        arguments = operation.arguments(x, u, v)
        exact = operation.exact(*arguments)
        allowed = operation.allowed(level, arguments, exact)
        beside = operation.terms(*arguments, *exact) if operation.terms and level == "tight" else ()
    return arguments, exact, allowed, tuple(labels), beside


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
    found = drawn(check.rows, operation.same_as or operation, level, dtype, n, seed)
    arguments, exact, allowed, labels, beside = found
    case = Case(operation, level, check.judge, arguments, exact, allowed, labels, axis, check.ndim, beside)
    if check.rows is cases.many:
        return case.take([row % len(labels) for row in range(cases.count_of(n))])
    return case
