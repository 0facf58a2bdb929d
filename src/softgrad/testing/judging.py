"""A case, and the ways to judge what a function makes of it.

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
from .cases import DType
from .measures import eps, gain, info, inner, norm, smallest, worst_ratio
from .operations import Arrays, Level, Operation
from .oracle import WIDE

Function = Callable[..., Any]
HERE = Path(__file__).parent


class UnfitError(Exception):
    """A result that can't be compared: no array, or not of the right shape."""


@dataclass(frozen=True)
class Verdict:
    """What came of a check: `worst` is in units of the bound (≤ 1 passes), `eps` in those of
    `Operation.unit`; NaN where nothing is measured."""

    passed: bool
    worst: float = math.nan
    eps: float = math.nan
    row: int | None = None
    told: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """Rows to call a function with, what it must give, and how it is judged."""

    operation: Operation
    level: Level
    judge: Callable[[Case, Function], Verdict]
    arguments: Arrays
    exact: Arrays
    allowed: Arrays
    labels: tuple[str, ...]
    axis: int | None = None  # None: the function is called without one
    ndim: int = 2
    beside: Arrays | None = None  # what tight errors are measured beside: see `Operation.terms`

    @property
    def dtype(self) -> DType:
        return self.arguments[0].dtype

    def verdict(self, fn: Function) -> Verdict:
        """Call `fn` and judge what it gives, or that it raises."""
        try:
            return self.judge(self, fn)
        except UnfitError as error:
            return Verdict(False, told=str(error))
        except Exception as error:
            return Verdict(False, told=f"it raises {told_of(error)}")

    def only(self, row: int) -> Case:
        """The case of one row."""
        arguments, exact, allowed, beside = (
            arrays and tuple(a[row : row + 1] for a in arrays)
            for arrays in (self.arguments, self.exact, self.allowed, self.beside)
        )
        assert arguments
        assert exact
        assert allowed
        return replace(
            self,
            arguments=arguments,
            exact=exact,
            allowed=allowed,
            beside=beside,
            labels=(self.labels[row],),
        )

    def of_norms(self) -> Array:
        """What the norm of each row of the first result may be off by."""
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
        return (
            result
            if self.axis is None
            else np.moveaxis(result, self.axis, -1).reshape(self.arguments[0].shape)
        )

    def call(self, fn: Function, *arguments: Array) -> Arrays:
        """What `fn` gives, as it gives it; fit to be compared."""
        options = {} if self.axis is None else {"axis": self.axis}
        found = fn(*arguments, **options)
        several = isinstance(found, tuple | list) and len(self.exact) > 1
        results = tuple(found) if several else (found,)
        if len(results) != len(self.exact):
            raise UnfitError(f"{len(self.exact)} arrays are due; it gave {len(results)}")
        for result in results:
            if not isinstance(result, np.ndarray):
                raise UnfitError(f"a NumPy array is due; it gave a {type(result).__name__}")
            if result.shape != arguments[0].shape:
                raise UnfitError(f"for arrays of shape {arguments[0].shape} it gave one of {result.shape}")
        return results

    def results(self, fn: Function) -> Arrays:
        """What `fn` gives for the case, as rows."""
        return tuple(map(self.rows, self.call(fn, *map(self.shaped, self.arguments))))


def told_of(error: Exception) -> str:
    """An exception and its traceback, from where it leaves this package."""
    frame = error.__traceback__
    while frame is not None and Path(frame.tb_frame.f_code.co_filename).parent == HERE:
        frame = frame.tb_next
    name = traceback.format_exception_only(error)[-1].strip()
    return f"{name}\nTraceback (most recent call last):\n{''.join(traceback.format_tb(frame))}{name}"


# --- by numbers --------------------------------------------------------------------


def errors(case: Case, results: Arrays) -> tuple[Array, Array]:
    """Of each row the worst error beside what is allowed, and in the unit that errors are shown in."""
    found = [errors_of(case, i, result.astype(case.dtype)) for i, result in enumerate(results)]
    ratios, sizes = zip(*found, strict=True)
    return np.max(ratios, axis=0), np.max(sizes, axis=0)


def errors_of(case: Case, i: int, given: Array) -> tuple[Array, Array]:
    """The same of one result."""
    exact, allowed = case.exact[i], case.allowed[i]
    error = np.where(given == exact, 0, np.abs(given.astype(WIDE) - exact))
    half = smallest(case.dtype) / 2
    if allowed.ndim < exact.ndim:
        error = norm(np.maximum(error - half, 0))
        whole = norm(exact)
        size = np.where(whole == 0, 0, error / np.where(whole == 0, 1, whole) / eps(case.dtype))
    elif case.operation.ulps is not None:
        size = case.operation.ulps(given, exact).max(axis=-1)
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
            return Verdict(False, row=int(np.argmax(left)), told=f"not exactly {due:g} at {where}")
    return compared(case, results)


def right_on_average(case: Case, fn: Function) -> Verdict:
    """Half an eps (tight float64: one) at most: rounding goes either way, and over 512 rows averages out."""
    limit = 1.0 if case.level == "tight" and case.dtype == np.float64 else 0.5
    gains = [gain(r.astype(case.dtype), e) for r, e in zip(case.results(fn), case.exact, strict=True)]
    worst = max(gains, key=lambda g: -1.0 if math.isnan(g) else abs(g))
    if any(map(math.isnan, gains)):
        worst = math.inf
    told = f"the results are {1 + worst * eps(case.dtype):.6g} times the right ones, on the average"
    passed = abs(worst) <= limit
    return Verdict(passed, abs(worst) / limit, abs(worst), told="" if passed else told)


def adjoint(case: Case, fn: Function) -> Verdict:
    """⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩, and the jvp is the derivative of the map itself.

    What the error of a row does to the product Cauchy and Schwarz tell; over rows errors add up as random
    numbers do.  y is rounded, so its logarithm is not quite its x, and the derivative is found in float64.
    """
    y, u = case.arguments
    # u and v are made alike, in `cases.alike`
    v = (u.astype(np.float64) + cases.numbers(u.size, "v").reshape(u.shape) / 4).astype(case.dtype)
    assert case.operation.slope is not None
    forward = case.operation.what == "jvp"
    slope = case.operation.slope(y, u if forward else v)
    (found,) = case.results(fn)
    other = v if forward else u
    gap = abs((inner(found, v) - inner(slope, other)).sum())
    own = (eps(case.dtype) / 2 + 16 * eps(np.dtype(np.float64))) * norm(slope)
    allowed = 2 * norm((case.of_norms() + own) * norm(v))
    ratio = float(gap / allowed) if gap else 0.0
    return Verdict(ratio <= 1, math.inf if math.isnan(ratio) else ratio)


def sums_to_zero(case: Case, fn: Function) -> Verdict:
    """|Σ dx| ≤ √n·‖error‖, and what the rounding of y leaves: Σy, of log_softmax Σ exp(y), is not quite 1."""
    (found,) = case.results(fn)
    n = found.shape[-1]
    total = np.abs(found.astype(WIDE).sum(axis=-1))
    left = np.abs(case.exact[0].sum(axis=-1))
    allowed = np.sqrt(WIDE(n)) * case.of_norms() + left + n * smallest(case.dtype)
    return worst_of(total / allowed)


def sums_to_one(case: Case, fn: Function) -> Verdict:
    (found,) = case.results(fn)
    n = found.shape[-1]
    exact, allowed = case.exact[0], case.allowed[0]
    if case.operation.ulps is None:
        slack = np.sqrt(WIDE(n)) * allowed
    else:
        # what is below the normal numbers is off by half the smallest, or (not in float16) flushed to 0
        tiny = exact < float(info(case.dtype).smallest_normal)
        slack = np.where(tiny, exact * (case.dtype != np.float16), allowed).sum(axis=-1)
    return worst_of(np.abs(found.astype(WIDE).sum(axis=-1) - 1) / (slack + n * smallest(case.dtype)))


def worst_of(ratio: Array) -> Verdict:
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    row = int(np.argmax(ratio))
    return Verdict(bool(ratio[row] <= 1), float(ratio[row]), row=row)


# --- yes or no ---------------------------------------------------------------------


def said(told: str, row: int | None = None) -> Verdict:
    return Verdict(not told, told=told, row=row)


def dtype_kept(case: Case, fn: Function) -> Verdict:
    """The shape is looked at in `Case.call`."""
    kinds = {r.dtype for r in case.results(fn)}
    return said("" if kinds == {case.dtype} else f"{case.dtype} in, {', '.join(map(str, kinds))} out")


def inputs_unchanged(case: Case, fn: Function) -> Verdict:
    for lay in (np.ascontiguousarray, np.asfortranarray):
        arguments = [lay(case.shaped(a)) for a in case.arguments]
        before = [a.tobytes() for a in arguments]
        case.call(fn, *arguments)
        pairs = enumerate(zip(arguments, before, strict=True))
        written = [str(i + 1) for i, (a, b) in pairs if a.tobytes() != b]
        if written:
            return said(f"argument {' and '.join(written)} is written to")
    return said("")


def same_twice(case: Case, fn: Function) -> Verdict:
    first = [r.tobytes() for r in case.results(fn)]
    again = [r.tobytes() for r in case.results(fn)]
    return said("" if first == again else "the second call gives other bits than the first")


def no_aliasing(case: Case, fn: Function) -> Verdict:
    arguments = [case.shaped(a) for a in case.arguments]
    results = case.call(fn, *arguments)
    if any(np.shares_memory(r, a) for r in results for a in arguments):
        return said("the result is memory of an argument")
    before = [r.tobytes() for r in results]
    for shift in range(1, 5):
        case.call(fn, *(case.shaped(np.roll(a, shift, axis=0)) for a in case.arguments))
        if [r.tobytes() for r in results] != before:
            return said("the result of one call is overwritten by a later one")
    return said("")


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
                return said(f"NaN in argument {i + 1} is not seen in its row")
            others = np.arange(len(result)) != 1
            if not np.isfinite(result[others].astype(np.float64)).all():
                return said(f"NaN in one row of argument {i + 1} makes other rows NaN")
    return said("")


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "column by column in memory": lambda a: np.asfortranarray(a).copy(order="F"),
    "every second element of a larger array": lambda a: np.repeat(a, 2, axis=-1)[:, ::2],
    "reversed in memory": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "rows apart in a larger array": lambda a: np.concatenate([a, a * 0], axis=-1)[:, : a.shape[-1]],
}


def any_layout(case: Case, fn: Function) -> Verdict:
    """Each layout of all arguments, and of each alone."""
    worst = said("")
    every = range(len(case.arguments))
    chosen = [tuple(every), *((i,) for i in every if len(every) > 1)]
    for name, layout in LAYOUTS.items():
        for those in chosen:
            arguments = [layout(a) if i in those else a.copy() for i, a in enumerate(case.arguments)]
            found = compared(case, case.call(fn, *arguments))
            if not found.passed:
                which = f"argument {those[0] + 1}" if len(those) == 1 < len(every) else "arrays"
                return replace(found, told=f"{which} {name}")
            worst = found if not worst.worst >= found.worst else worst
    return worst
