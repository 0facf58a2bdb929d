"""A case, and the verdict on what a function makes of it.

Rows lie along the last axis of 2-d arrays; a `Case` brings them into the shape that is to be tested.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
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


class UnfitError(Exception):
    """A result that can't be compared: no array, or not of the right shape."""


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
    judge: Callable[[Case, Function], Verdict]
    arguments: Arrays
    exact: Arrays
    allowed: Arrays
    labels: tuple[str, ...]
    axis: int | None = None  # None: the function is called without one
    ndim: int = 2
    beside: Arrays | None = None  # the units of tight errors: see `Operation.terms`

    @property
    def dtype(self) -> DType:
        return self.arguments[0].dtype

    def verdict(self, fn: Function) -> Verdict:
        """Call `fn` and judge its results, or that it raises."""
        try:
            return self.judge(self, fn)
        except UnfitError as error:
            return Verdict(False, message=str(error))
        except Exception as error:
            return Verdict(False, message=f"it raises {traceback_of(error)}")

    def only(self, row: int) -> Case:
        """The case of one row."""

        def part(arrays: Arrays) -> Arrays:
            return tuple(a[row : row + 1] for a in arrays)

        return replace(
            self,
            arguments=part(self.arguments),
            exact=part(self.exact),
            allowed=part(self.allowed),
            beside=self.beside and part(self.beside),
            labels=(self.labels[row],),
        )

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
            raise UnfitError(f"{len(self.exact)} arrays are due; it gave {len(results)}")
        for result in results:
            if not isinstance(result, np.ndarray):
                raise UnfitError(f"a NumPy array is due; it gave a {type(result).__name__}")
            if result.shape != arguments[0].shape:
                raise UnfitError(f"for arrays of shape {arguments[0].shape} it gave one of {result.shape}")
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


def errors(case: Case, results: Arrays) -> tuple[Array, Array]:
    """The worst error of each row, in units of what is allowed, and in the unit that errors are shown in."""
    of_each = [errors_of(case, i, result.astype(case.dtype)) for i, result in enumerate(results)]
    ratios, sizes = zip(*of_each, strict=True)
    return np.max(ratios, axis=0), np.max(sizes, axis=0)


def errors_of(case: Case, i: int, result: Array) -> tuple[Array, Array]:
    """The same of one result."""
    exact, allowed = case.exact[i], case.allowed[i]
    error = np.where(result == exact, 0, np.abs(result.astype(WIDE) - exact))
    half = smallest(case.dtype) / 2
    if allowed.ndim < exact.ndim:
        error = norm(np.maximum(error - half, 0))
        whole = norm(exact)
        size = np.where(whole == 0, 0, error / np.where(whole == 0, 1, whole) / eps(case.dtype))
    elif case.operation.ulps is not None:
        size = case.operation.ulps(result, exact).max(axis=-1)
    else:
        assert case.beside is not None
        error = np.where(allowed == np.inf, 0, error)
        beside = case.beside[i] * eps(case.dtype)  # 0 where dx* is: the error has no size there
        size = worst_ratio(np.where((error <= half) | (beside == 0), 0, error - half), beside, -1)
    ratio = np.where(error == 0, 0, error / np.where(allowed == 0, np.finfo(WIDE).tiny, allowed))
    ratio = np.where(allowed == np.inf, 0, np.where(np.isnan(ratio), np.inf, ratio))
    ratio = ratio.max(axis=-1) if allowed.ndim == exact.ndim else ratio
    return ratio, np.where(ratio == 0, 0, np.where(np.isnan(size), np.inf, size))


def within(case: Case, fn: Function) -> Verdict:
    """Each row is within what is allowed."""
    return compared(case, case.results(fn))


def compared(case: Case, results: Arrays) -> Verdict:
    ratios, sizes = errors(case, results)
    row = int(np.argmax(ratios))
    return Verdict(bool(ratios[row] <= 1), float(ratios[row]), float(sizes.max()), row)


def absent_where_masked(case: Case, fn: Function) -> Verdict:
    results = case.results(fn)
    forward = case.operation.what == "forward"
    gone = case.arguments[0] == (-np.inf if forward else case.operation.absent)
    due = case.operation.absent if forward else 0
    for result in results:
        left = (gone & (result != due)).any(axis=-1)
        if left.any():
            where = "a logit of −inf" if forward else f"an entry whose y is {case.operation.absent:g}"
            return Verdict(False, row=int(np.argmax(left)), message=f"not exactly {due:g} at {where}")
    return compared(case, results)


def right_on_average(case: Case, fn: Function) -> Verdict:
    """Half an eps (tight float64: one) at most: rounding goes either way, and over 512 rows averages out."""
    limit = 1.0 if case.level == "tight" and case.dtype == np.float64 else 0.5
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


def worst_of(ratio: Array) -> Verdict:
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    row = int(np.argmax(ratio))
    return Verdict(bool(ratio[row] <= 1), float(ratio[row]), row=row)


# --- yes or no -----------------------------------------------------------------------------------------


def passed_unless(message: str) -> Verdict:
    return Verdict(not message, message=message)


def dtype_kept(case: Case, fn: Function) -> Verdict:
    """The shape is looked at in `Case.call`."""
    dtypes = {r.dtype for r in case.results(fn)}
    wrong = f"{case.dtype} in, {', '.join(map(str, dtypes))} out"
    return passed_unless("" if dtypes == {case.dtype} else wrong)


def inputs_unchanged(case: Case, fn: Function) -> Verdict:
    for lay in (np.ascontiguousarray, np.asfortranarray):
        arguments = [lay(case.shaped(a)) for a in case.arguments]
        before = [a.tobytes() for a in arguments]
        case.call(fn, *arguments)
        changed = [a.tobytes() != b for a, b in zip(arguments, before, strict=True)]
        if any(changed):
            which = " and ".join(str(i + 1) for i, one in enumerate(changed) if one)
            return passed_unless(f"argument {which} is written to")
    return passed_unless("")


def same_twice(case: Case, fn: Function) -> Verdict:
    first, second = ([r.tobytes() for r in case.results(fn)] for _ in range(2))
    return passed_unless("" if first == second else "the second call gives other bits than the first")


def no_aliasing(case: Case, fn: Function) -> Verdict:
    arguments = [case.shaped(a) for a in case.arguments]
    results = case.call(fn, *arguments)
    if any(np.shares_memory(r, a) for r in results for a in arguments):
        return passed_unless("the result is memory of an argument")
    before = [r.tobytes() for r in results]
    for shift in range(1, 5):
        case.call(fn, *(case.shaped(np.roll(a, shift, axis=0)) for a in case.arguments))
        if [r.tobytes() for r in results] != before:
            return passed_unless("the result of one call is overwritten by a later one")
    return passed_unless("")


def read_only(case: Case, fn: Function) -> Verdict:
    return compared(case, case.call(fn, *(cases.read_only(case.shaped(a)) for a in case.arguments)))


def broadcast(case: Case, fn: Function) -> Verdict:
    """All arguments but y have strides of 0 over the rows."""
    y, *others = case.arguments
    return compared(case, case.call(fn, y.copy(), *(np.broadcast_to(a[:1], a.shape) for a in others)))


def nan_kept(case: Case, fn: Function) -> Verdict:
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
                return passed_unless(f"NaN in argument {i + 1} is not seen in its row")
            if not np.isfinite(np.delete(result, 1, axis=0).astype(np.float64)).all():
                return passed_unless(f"NaN in one row of argument {i + 1} makes other rows NaN")
    return passed_unless("")


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "column by column in memory": lambda a: np.asfortranarray(a).copy(order="F"),
    "every second element of a larger array": lambda a: np.repeat(a, 2, axis=-1)[:, ::2],
    "reversed in memory": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "rows apart in a larger array": lambda a: np.concatenate([a, a * 0], axis=-1)[:, : a.shape[-1]],
}


def any_layout(case: Case, fn: Function) -> Verdict:
    """Each layout of all arguments, and of each alone."""
    worst = passed_unless("")
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
