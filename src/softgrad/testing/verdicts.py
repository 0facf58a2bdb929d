"""A case, and the verdict on what a function makes of it.

Rows lie along the last axis of 2-d arrays; a `Case` brings them into the shape that is to be tested.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import Array
from . import cases
from .errors import DType, eps, info, inner, mean_gain, norm, smallest, worst_ratio
from .operations import Arrays, Level, Operation
from .oracle import WIDE

Function = Callable[..., Any]
HERE = Path(__file__).parent


class Wrong(Exception):
    """A result is wrong, whatever its numbers are: the message, and the row if it is one row's."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class Verdict:
    """The result of a check: `worst` is in units of the bound (≤ 1 passes), `eps` in those of
    `Operation.unit`; NaN where nothing is measured."""

    passed: bool
    worst: float = math.nan
    eps: float = math.nan
    row: int | None = None
    message: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """Rows to call a function with, the exact results, and how the function's are judged."""

    operation: Operation
    level: Level
    judge: Callable[[Case, Function], Verdict | None]  # None: nothing is measured, and all is well
    arguments: Arrays
    exact: Arrays
    allowed: Arrays
    labels: tuple[str, ...]
    axis: int | None = None  # None: the function is called without one
    ndim: int = 2
    beside: Arrays = ()  # the units of tight errors: see `Operation.terms`

    @property
    def dtype(self) -> DType:
        return self.arguments[0].dtype

    def verdict(self, fn: Function) -> Verdict:
        """Call `fn` and judge its results, or that it raises."""
        try:
            return self.judge(self, fn) or Verdict(True)
        except Wrong as error:
            return Verdict(False, row=error.row, message=str(error))
        except Exception as error:
            return Verdict(False, message=f"it raises {traceback_of(error)}")

    def take(self, rows: Sequence[int]) -> Case:
        """The case of these rows."""
        names = "arguments", "exact", "allowed", "beside"
        arrays: dict[str, Any] = {name: tuple(a[rows] for a in getattr(self, name)) for name in names}
        return replace(self, labels=tuple(self.labels[row] for row in rows), **arrays)

    def only(self, row: int) -> Case:
        return self.take([row])

    def norm_allowed(self) -> Array:
        """The error that the norm of each row of the first result may have."""
        first = self.allowed[0]
        return norm(first) if first.ndim == self.exact[0].ndim else first

    def shaped(self, rows: Array) -> Array:
        """Rows as the function is given them, in memory of its own."""
        if self.axis is None:
            return rows.copy()
        if self.ndim == 3:
            rows = rows.reshape(-1, len(rows) // 3, rows.shape[-1]) if len(rows) % 3 == 0 else rows[None]
        return np.moveaxis(rows, -1, self.axis).copy(order="C")

    def rows(self, result: Array) -> Array:
        if self.axis is None:
            return result
        return np.moveaxis(result, self.axis, -1).reshape(self.arguments[0].shape)

    def call(self, fn: Function, *arguments: Array) -> Arrays:
        """The results of `fn` as it gives them, fit to be compared."""
        output = fn(*arguments, **({} if self.axis is None else {"axis": self.axis}))
        several = isinstance(output, tuple | list) and len(self.exact) > 1
        results = tuple(output) if several else (output,)
        if len(results) != len(self.exact):
            raise Wrong(f"{len(self.exact)} arrays are due; it gave {len(results)}")
        for result in results:
            if not isinstance(result, np.ndarray):
                raise Wrong(f"a NumPy array is due; it gave a {type(result).__name__}")
            if result.shape != arguments[0].shape:
                raise Wrong(f"for arrays of shape {arguments[0].shape} it gave one of {result.shape}")
        return results

    def results(self, fn: Function) -> Arrays:
        """The results of `fn` for the case, as rows."""
        return tuple(map(self.rows, self.call(fn, *map(self.shaped, self.arguments))))


def traceback_of(error: Exception) -> str:
    """An exception and its traceback, from where it leaves this package."""
    frame = error.__traceback__
    while frame is not None and Path(frame.tb_frame.f_code.co_filename).parent == HERE:
        frame = frame.tb_next
    name = traceback.format_exception_only(error)[-1].strip()
    return f"{name}\nTraceback (most recent call last):\n{''.join(traceback.format_tb(frame))}{name}"


# --- by numbers ----------------------------------------------------------------------------------------


def errors(case: Case, i: int, result: Array) -> tuple[Array, Array]:
    """The worst error of each row of a result, in units of what is allowed, and in the unit that errors are
    shown in (0 where what is allowed has no size)."""
    exact, allowed = case.exact[i], case.allowed[i]
    error = np.where(result == exact, 0, np.abs(result.astype(WIDE) - exact))
    if allowed.ndim < exact.ndim:  # of norms
        allowed, beside = allowed[..., None], norm(exact)[..., None]
        error = over = norm(np.maximum(error - smallest(case.dtype) / 2, 0))[..., None]
    else:
        error = np.where(allowed == np.inf, 0, error)
        over = np.maximum(error - smallest(case.dtype) / 2, 0)
        beside = case.beside[i] if case.beside else np.zeros_like(error)
    ratio = worst_ratio(np.where(allowed == np.inf, 0, error), allowed, -1)
    if case.operation.ulps is not None:
        size = case.operation.ulps(result, exact).max(axis=-1)
    else:
        size = worst_ratio(np.where(beside == 0, 0, over), beside * eps(case.dtype), -1)
    return ratio, np.where(ratio == 0, 0, np.where(np.isnan(size), np.inf, size))


def worst_of(ratios: Array, sizes: Array | float = math.nan) -> Verdict:
    """The verdict on the errors of each row, in units of what is allowed."""
    ratios = np.where(np.isnan(ratios), np.inf, ratios)
    row = int(np.argmax(ratios))
    return Verdict(bool(ratios[row] <= 1), float(ratios[row]), float(np.max(sizes)), row)


def compared(case: Case, results: Arrays) -> Verdict:
    of_each = [errors(case, i, result.astype(case.dtype)) for i, result in enumerate(results)]
    ratios, sizes = (np.max(values, axis=0) for values in zip(*of_each, strict=True))
    return worst_of(ratios, sizes)


def within(case: Case, fn: Function) -> Verdict:
    """Each row is within what is allowed."""
    return compared(case, case.results(fn))


def absent_where_masked(case: Case, fn: Function) -> Verdict:
    results = case.results(fn)
    forward = case.operation.what == "forward"
    gone = case.arguments[0] == (-np.inf if forward else case.operation.absent)
    due = case.operation.absent if forward else 0
    for result in results:
        left = (gone & (result != due)).any(axis=-1)
        if left.any():
            where = "a logit of −inf" if forward else f"an entry whose y is {case.operation.absent:g}"
            raise Wrong(f"not exactly {due:g} at {where}", int(np.argmax(left)))
    return compared(case, results)


def right_on_average(case: Case, fn: Function) -> Verdict:
    """Half an eps (tight float64: one) at most: rounding goes either way, and over 512 rows averages out."""
    limit = 1.0 if case.level == "tight" and case.dtype == np.float64 else 0.5
    if case.arguments[0].shape[-1] < 5 and case.level == "sound":
        return Verdict(True)  # a sure row of two has next to no gradient, but for its rounding
    gains = [mean_gain(r.astype(case.dtype), e) for r, e in zip(case.results(fn), case.exact, strict=True)]
    worst = math.inf if any(map(math.isnan, gains)) else max(gains, key=abs)
    passed = abs(worst) <= limit
    message = f"the results are {1 + worst * eps(case.dtype):.6g} times the right ones, on the average"
    return Verdict(passed, abs(worst) / limit, abs(worst), message="" if passed else message)


def adjoint(case: Case, fn: Function) -> Verdict:
    """⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩, and the jvp is the derivative of the map itself.

    An error of a row changes the product by at most its norm times that of the other vector (Cauchy and
    Schwarz); over rows errors add up as random numbers do.  y is rounded, so its logarithm is not quite its
    x, and the derivative is found in float64.
    """
    y, u = case.arguments
    # u and v are made alike, in `cases.alike`
    v = (u.astype(np.float64) + cases.numbers(u.size, "v").reshape(u.shape) / 4).astype(case.dtype)
    assert case.operation.derivative is not None
    direction, other = (u, v) if case.operation.what == "jvp" else (v, u)
    moved = case.operation.derivative(y, direction)
    (result,) = case.results(fn)
    gap = abs((inner(result, v) - inner(moved, other)).sum())
    own = (eps(case.dtype) / 2 + 16 * eps(np.dtype(np.float64))) * norm(moved)
    allowed = 2 * norm((case.norm_allowed() + own) * norm(v))
    ratio = float(gap / allowed) if gap else 0.0
    return Verdict(ratio <= 1, math.inf if math.isnan(ratio) else ratio)


def sums_to_zero(case: Case, fn: Function) -> Verdict:
    """|Σ dx| ≤ √n·‖error‖, and what the rounding of y leaves: Σy, of log_softmax Σ exp(y), is not quite 1."""
    (result,) = case.results(fn)
    n = result.shape[-1]
    left = np.abs(case.exact[0].sum(axis=-1))
    allowed = np.sqrt(WIDE(n)) * case.norm_allowed() + left + n * smallest(case.dtype)
    return worst_of(np.abs(result.astype(WIDE).sum(axis=-1)) / allowed)


def sums_to_one(case: Case, fn: Function) -> Verdict:
    (result,) = case.results(fn)
    n = result.shape[-1]
    exact, allowed = case.exact[0], case.allowed[0]
    if case.operation.ulps is None:
        slack = np.sqrt(WIDE(n)) * allowed
    else:
        # what is below the normal numbers is off by half the smallest, or (not in float16) flushed to 0
        tiny = exact < float(info(case.dtype).smallest_normal)
        slack = np.where(tiny, exact * (case.dtype != np.float16), allowed).sum(axis=-1)
    return worst_of(np.abs(result.astype(WIDE).sum(axis=-1) - 1) / (slack + n * smallest(case.dtype)))


# --- yes or no -----------------------------------------------------------------------------------------


def dtype_kept(case: Case, fn: Function) -> None:
    """The shape is looked at in `Case.call`."""
    dtypes = {r.dtype for r in case.results(fn)}
    if dtypes != {case.dtype}:
        raise Wrong(f"{case.dtype} in, {', '.join(map(str, dtypes))} out")


def inputs_unchanged(case: Case, fn: Function) -> None:
    for lay in (np.ascontiguousarray, np.asfortranarray):
        arguments = [lay(case.shaped(a)) for a in case.arguments]
        before = [a.tobytes() for a in arguments]
        case.call(fn, *arguments)
        changed = [str(i + 1) for i, a in enumerate(arguments) if a.tobytes() != before[i]]
        if changed:
            raise Wrong(f"argument {' and '.join(changed)} is written to")


def same_twice(case: Case, fn: Function) -> None:
    first, second = ([r.tobytes() for r in case.results(fn)] for _ in range(2))
    if first != second:
        raise Wrong("the second call gives other bits than the first")


def no_aliasing(case: Case, fn: Function) -> None:
    arguments = [case.shaped(a) for a in case.arguments]
    results = case.call(fn, *arguments)
    if any(np.shares_memory(r, a) for r in results for a in arguments):
        raise Wrong("the result is memory of an argument")
    before = [r.tobytes() for r in results]
    for shift in range(1, 5):
        case.call(fn, *(case.shaped(np.roll(a, shift, axis=0)) for a in case.arguments))
        if [r.tobytes() for r in results] != before:
            raise Wrong("the result of one call is overwritten by a later one")


def read_only(case: Case, fn: Function) -> Verdict:
    return compared(case, case.call(fn, *(cases.read_only(case.shaped(a)) for a in case.arguments)))


def broadcast(case: Case, fn: Function) -> Verdict:
    """All arguments but y have strides of 0 over the rows."""
    y, *others = case.arguments
    return compared(case, case.call(fn, y.copy(), *(np.broadcast_to(a[:1], a.shape) for a in others)))


def nan_kept(case: Case, fn: Function) -> None:
    """NaN is seen in its row, if that depends on it, and in no other row."""
    expected = case.results(fn)
    for i in range(len(case.arguments)):
        arguments = [case.shaped(a) for a in case.arguments]
        # all of a y, as a forward gives it; else where there is weight
        of_y = i == 0 and case.operation.what != "forward"
        arguments[i][1, slice(None) if of_y else case.arguments[0][1].argmax()] = np.nan
        for result, without in zip(case.call(fn, *arguments), expected, strict=True):
            used = i == 0 or not np.array_equal(result[1], without[1], equal_nan=True)
            if used and not np.isnan(result[1].astype(np.float64)).any():
                raise Wrong(f"NaN in argument {i + 1} is not seen in its row")
            if not np.isfinite(np.delete(result, 1, axis=0).astype(np.float64)).all():
                raise Wrong(f"NaN in one row of argument {i + 1} makes other rows NaN")


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "column by column in memory": lambda a: np.asfortranarray(a).copy(order="F"),
    "every second element of a larger array": lambda a: np.repeat(a, 2, axis=-1)[:, ::2],
    "reversed in memory": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "rows apart in a larger array": lambda a: np.concatenate([a, a * 0], axis=-1)[:, : a.shape[-1]],
}


def any_layout(case: Case, fn: Function) -> Verdict:
    """Each layout of all arguments, and of each alone."""
    worst = Verdict(True)
    every = range(len(case.arguments))
    for name, layout in LAYOUTS.items():
        for chosen in (tuple(every), *((i,) for i in every if len(every) > 1)):
            arguments = [layout(a) if i in chosen else a.copy() for i, a in enumerate(case.arguments)]
            verdict = compared(case, case.call(fn, *arguments))
            if not verdict.passed:
                which = f"argument {chosen[0] + 1}" if len(chosen) == 1 < len(every) else "arrays"
                return replace(verdict, message=f"{which} {name}")
            worst = verdict if not worst.worst >= verdict.worst else worst
    return worst
