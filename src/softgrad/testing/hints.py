"""What is probably wrong with a function that fails: the mistakes that can be told by their results.

The function is called on a few rows of moderate spread, where no rounding is seen, and its result is compared
with those of the known mistakes (mutants.py).  Then there are mistakes of precision: a result of the form
y∘(dy − c), or exp(x − max)/c, tells its c, and a c that is nearly right tells the precision of its sum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..checks import Array
from . import cases
from .errors import DType, eps, inner, norm, quotient
from .mutants import OVERFLOWS
from .operations import Arrays, Operation
from .oracle import WIDE
from .verdicts import Function

RowFunction = Callable[..., Arrays]


def hint(operation: Operation, fn: Function, dtype: DType, axis: int | None, seed: int) -> str:
    """One line on what is probably wrong; empty if nothing is known."""

    options, place = ({}, -1) if axis is None else ({"axis": axis}, axis)

    def rows(*arguments: Array) -> Arrays:
        """The function's results in longdouble, for rows along the last axis."""
        output = fn(*(np.moveaxis(a, -1, place).copy() for a in arguments), **options)
        results = output if isinstance(output, tuple) else (output,)
        return tuple(np.moveaxis(np.asarray(a).astype(WIDE), place, -1) for a in results)

    for look in (known_formula, no_keepdims, no_maximum, narrow_sum):
        try:
            message = look(operation, rows, dtype, seed)
        except Exception:  # the function itself fails, and its traceback is shown
            continue
        if message:
            return f"{message}; right: {operation.line}" if operation.line else message
    return ""


def distance(a: Arrays, b: Arrays) -> float:
    """Of the results that are farthest apart, relative to the larger one."""
    flat = [(one.ravel(), other.ravel()) for one, other in zip(a, b, strict=True)]
    return max(float(quotient(norm(one - other), max(norm(one), norm(other)))) for one, other in flat)


def near_of(dtype: DType) -> float:
    """How near two results are that come from the same formula: 0.3 % (bfloat16: 3 %)."""
    return max(0.003, 4 * eps(dtype))


def known_formula(operation: Operation, fn: RowFunction, dtype: DType, seed: int) -> str:
    arguments = operation.arguments(*cases.alike(5, dtype, seed, 6))
    results, exact = fn(*arguments), operation.exact(*arguments)
    due = exact[0].shape
    if len(results) == 1 and results[0].shape in (due[1:], due[:1]) and due[0] != due[1]:
        total = "the batch" if results[0].shape == due[1:] else "each row"
        return f"the result is summed over {total}: {due} are due, and {results[0].shape} came"
    return known_mistake(operation, arguments, results, exact, dtype)


def known_mistake(
    operation: Operation, arguments: Arrays, results: Arrays, exact: Arrays, dtype: DType
) -> str:
    """A mistake is known if the result is near it, and not near the right one."""
    near = near_of(dtype)
    if distance(results, exact) <= near:
        return ""
    for mutant in operation.mutants.values():
        wrong = mutant.formula(*(a.astype(WIDE) for a in arguments))
        wrong = wrong if isinstance(wrong, tuple) else (wrong,)
        if distance(wrong, exact) > 2 * near and distance(results, wrong) <= near:
            return mutant.message
    # the right result times some number
    due, got = (np.concatenate([a.ravel() for a in arrays]) for arrays in (exact, results))
    factor = float(quotient(inner(due, got), inner(due, due)))
    multiple = tuple(factor * a for a in exact)
    known = factor and abs(factor - 1) > 2 * near and distance(results, multiple) <= near
    return f"the right result times {factor:.3g}" if known else ""


def no_keepdims(operation: Operation, fn: RowFunction, dtype: DType, seed: int) -> str:
    """It is seen where there are as many rows as elements, and raises elsewhere."""
    arguments = operation.arguments(*cases.alike(6, dtype, seed, 6))
    return known_mistake(operation, arguments, fn(*arguments), operation.exact(*arguments), dtype)


def implied(operation: Operation, arguments: Arrays, result: Array) -> tuple[Array, Array]:
    """The error of the c of each row, in units of what was summed; and whether it is one number for all of
    the row, as far as rounding lets it be seen."""
    noise = 8 * eps(arguments[0].dtype)
    if operation.what == "forward":
        exact = operation.exact(*arguments)[0]
        c = exact / np.where(result == 0, np.nan, result)
        off = np.median(c, axis=-1) - 1
        spread = np.abs(c - 1 - off[..., None]).max(axis=-1)
        return np.abs(off), spread <= noise * (1 + np.abs(off))
    y, d = (a.astype(WIDE) for a in arguments)
    terms = (y * np.abs(d)).sum(axis=-1)
    mean = (y * d).sum(axis=-1) / y.sum(axis=-1)
    c = np.median(d - result / y, axis=-1)
    rest = norm(result - y * (d - c[..., None]))
    return np.abs(c - mean) / terms, rest <= noise * (norm(y * d) + np.abs(c) * norm(y))


# the error of a sum of float32 or float64 numbers in each of these
PRECISIONS = [
    ("bfloat16", 2.0**-10, 2.0**-4),
    ("float16", 2.0**-14, 2.0**-10),
    ("float32", 2.0**-28, 2.0**-22),
]


def narrow_sum(operation: Operation, fn: RowFunction, dtype: DType, seed: int) -> str:
    if operation.base != "softmax" or operation.what == "double-backward":
        return ""
    lost = []
    for n in (16, 4096) if dtype.itemsize == 2 else (64,):
        x, u, v = cases.alike(n, dtype, seed, 8)
        # a positive gradient, or the products cancel; flat rows, so that each adds as much
        u = (10 + np.abs(u.astype(np.float64))).astype(dtype)
        arguments = operation.arguments((x.astype(np.float64) / 8).astype(dtype), u, v)
        off, same = implied(operation, arguments, fn(*arguments)[0])
        if not same.all():
            return ""
        lost.append(float(np.median(off)))
    if dtype.itemsize == 2:
        few, many = lost
        if few < 4 * eps(dtype) and many > 16 * eps(dtype):
            return "a half-precision sum: short rows are right, in long ones the sum stops growing"
        return ""
    for name, low, high in PRECISIONS:
        if low <= lost[0] < high and low > 8 * eps(dtype):
            width = "single" if name == "float32" else "half"
            return f"a {width}-precision sum: it is off by about {lost[0]:.1g} of itself, as one in {name} is"
    return ""


def no_maximum(operation: Operation, fn: RowFunction, dtype: DType, seed: int) -> str:
    if operation.what != "forward" or "no maximum" not in operation.mutants:
        return ""
    x, _, _ = cases.alike(5, dtype, seed, 6)
    far = (x.astype(np.float64) + 1000).astype(dtype)
    only_far = np.isfinite(fn(x)[0]).all() and not np.isfinite(fn(far)[0]).all()
    return OVERFLOWS if only_far else ""
