"""A function through all checks."""

from __future__ import annotations

import functools
import math
import operator
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from . import cases
from .budget import ROWS, Budget, TooLarge
from .hints import hint
from .operations import Level, What, operation
from .options import CheckOptions, Options, dtype_of, parse
from .properties import CHECKS, Check, case_of
from .verdicts import Case, Function, Verdict

SHOWN = 4  # numbers of a row that are shown


@dataclass(frozen=True)
class Finding:
    """The result of one check at one dtype."""

    check: str
    why: str
    dtype: str
    passed: bool
    worst: float  # the worst error in units of the check's own bound (≤ 1 passes); NaN: nothing is measured
    eps: float  # the same in the unit of `Operation.unit`; NaN: nothing is measured
    case: str = ""  # the smallest failing case in words
    reproduce: str = ""  # three lines of code
    hint: str = ""  # what is probably wrong, where the failure looks like a known mistake
    longest: int = 0  # the longest rows that were tried
    stopped: str = ""  # why longer ones were not, where a budget was given


# the modules to import, and the function as an expression, for lines of code
Code = tuple[str, str]


def plan(what: What, options: Options) -> list[tuple[Check, int | None]]:
    """The checks that are made, and the axis of each."""
    row = operation(options.map, what)
    checks: list[tuple[Check, int | None]] = []
    for check in CHECKS:
        if what not in check.of or not row.has(check.name, options.level):
            continue
        axes = options.axes if check.axis else ()
        if check.ndim == 2:
            checks.append((check, None))
            axes = tuple(a for a in axes if -2 <= a < 2)
        checks += [(check, a) for a in axes]
    return checks


def name_with_axis(check: Check, axis: int | None) -> str:
    return check.name if axis is None else f"{check.name}, axis {axis}"


def findings(
    what: What,
    fn: Function,
    options: Options,
    early: bool = False,
    code: Code | None = None,
    budget: Budget | None = None,
) -> Iterator[Finding]:
    """The findings one by one; `early`: a check ends with its first failing length."""
    if not callable(fn):
        raise TypeError(f"a function is tested, not a {type(fn).__name__}")
    tested, seed = operation(options.map, what), options.seed
    waiting = [(dtype, *one) for dtype in options.dtypes for one in plan(what, options)]
    for i, (dtype, check, axis) in enumerate(waiting):
        longest = options.max_n or check.lengths[-1]
        lengths = [n for n in check.lengths if n <= longest] or [longest]
        drawn: Iterable[Case] = (case_of(check, tested, options.level, dtype, n, axis, seed) for n in lengths)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if budget is not None:
                share = len(check.lengths) / sum(len(other.lengths) for _, other, _ in waiting[i:])
                budget.stopped = ""
                drawn = within_budget(drawn, budget, budget.left() * share)
            one = finding(check, drawn, fn, seed, early, code or ("softgrad.testing", name_of(fn)))
        yield replace(  # not in the with: until it goes on, a generator leaves its state to the caller
            one,
            check=name_with_axis(check, axis),
            dtype=dtype.name,
            stopped=budget.stopped if budget is not None else "",
        )


def growing(what: What, fn: Function, options: Options) -> Callable[[int], Any]:
    """Makes a call of the function with plain rows of any length, to measure it."""
    dtype, tested = options.dtypes[0], operation(options.map, what)

    def prepare(n: int) -> Callable[[], Any]:
        x, u, v = cases.alike(n, np.dtype(np.float64), options.seed, ROWS)
        y = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
        given = {"x": x, "y": np.log(y) if tested.base == "log_softmax" else y, "v": v}
        return functools.partial(fn, *(given.get(name, u).astype(dtype) for name in tested.names))

    return prepare


def within_budget(drawn: Iterable[Case], budget: Budget, seconds: float) -> Iterator[Case]:
    """The cases that fit into the memory and these seconds; the first may take more."""
    begin, calls = time.perf_counter(), 1.0
    for i, case in enumerate(drawn):
        rows, n = case.arguments[0].shape
        left = seconds - (time.perf_counter() - begin)
        if not budget.fits(rows, n, max(left / calls, budget.left() / 4 * (i == 0))):
            return
        before = time.perf_counter()
        yield case
        if (one := budget.predicted(rows, n).seconds) > 0:
            # how many calls the check makes for a case
            calls = max(1.0, (time.perf_counter() - before) / one)


def finding(check: Check, drawn: Iterable[Case], fn: Function, seed: int, early: bool, code: Code) -> Finding:
    """The finding of cases of one check, the shortest rows first."""
    worst = eps = math.nan
    failed: list[tuple[Case, Verdict]] = []
    longest = 0
    for case in drawn:
        try:
            verdict = case.verdict(fn)
        except TooLarge:
            break
        longest = case.arguments[0].shape[-1]
        worst, eps = float(np.fmax(worst, verdict.worst)), float(np.fmax(eps, verdict.eps))
        if not verdict.passed:
            failed.append((case, verdict))
            if early:
                break
    result = Finding(check.name, check.why, "", not failed, worst, eps, longest=longest)
    if not failed:
        return result
    case, verdict = failed[0]
    row = verdict.row
    if row is not None:
        alone = case.only(row).verdict(fn)
        if alone.passed:  # it takes the other rows
            row = None
        else:
            case, verdict = case.only(row), alone
    return replace(
        result,
        case=describe(case, verdict, fn, row),
        reproduce=reproduce(check, case, code, row, seed),
        hint=hint(case.operation, fn, case.dtype, case.axis, seed),
    )


def describe(case: Case, verdict: Verdict, fn: Function, row: int | None) -> str:
    """A failing case in words, and in numbers if they are few."""
    rows, n = case.arguments[0].shape
    label = case.labels[0] if row is not None else case.labels[verdict.row or 0]
    text = f"{label}; {rows} row{'s' * (rows > 1)} of {n}, {case.dtype.name}"
    if case.axis is not None:
        text += f", along axis {case.axis}"
    if verdict.message:
        return f"{text}: {verdict.message}"
    if not math.isnan(verdict.worst):
        text += f": off by {verdict.worst:.3g} times what is allowed"
    if row is not None and n <= SHOWN:
        for word, arrays in (("given", case.arguments), ("due  ", case.exact), ("got  ", case.results(fn))):
            text += f"\n  {word} {', '.join(numbers(a[0]) for a in arrays)}"
    return text


def numbers(row: Any) -> str:
    return "[" + ", ".join(f"{float(v):.6g}" for v in row) + "]"


def reproduce(check: Check, case: Case, code: Code, row: int | None, seed: int) -> str:
    """Three lines of code that make the case again."""
    given = unusual(
        map=(case.operation.map, "softmax"),
        level=(case.level, "sound"),
        dtype=(case.dtype.name, None),
        n=(case.arguments[0].shape[-1], None),
        row=(row, None),
        axis=(case.axis, None),
        seed=(seed, 0),
    )
    return (
        f"import {code[0]}\n"
        f"case = softgrad.testing.again({case.operation.what!r}, {check.name!r}{given})\n"
        f"print(case.arguments, case.exact, case.verdict({code[1]}))"
    )


def unusual(**options: tuple[Any, Any]) -> str:
    """The arguments of a call, as code, that differ from the usual value."""
    return "".join(f", {name}={value!r}" for name, (value, usual) in options.items() if value != usual)


def name_of(fn: Function) -> str:
    name = getattr(fn, "__name__", "")
    return name if name.isidentifier() else "fn"


def again(
    what: What,
    check: str,
    *,
    map: str = "softmax",
    level: Level = "sound",
    dtype: npt.DTypeLike = "float32",
    n: int,
    row: int | None = None,
    axis: int | None = None,
    seed: int = 0,
) -> Case:
    """The case of a finding, as its `reproduce` asks for it.

    Returns
    -------
    Case
        ``case.arguments`` and ``case.exact``, rows along the last axis; ``case.verdict(fn)`` calls the
        function with them and judges its results.
    """
    tested, checks = operation(map, what), {c.name: c for c in CHECKS if what in c.of}
    if check not in checks:
        raise ValueError(f"there is no check {check!r} of a {what}; there are {', '.join(checks)}")
    if operator.index(n) < 1:
        raise ValueError(f"n is {n}; rows have at least 1 element")
    case = case_of(checks[check], tested, level, dtype_of(dtype), n, axis, seed)
    if row is None:
        return case
    if not 0 <= operator.index(row) < len(case.labels):
        raise ValueError(f"row is {row}; the case has {len(case.labels)} rows, from 0")
    return case.only(row)


def planned(what: What, **options: Unpack[CheckOptions]) -> list[tuple[str, str]]:
    """The check and the dtype of each finding that `run` makes with these options, in their order."""
    parsed = parse(options)
    return [
        (name_with_axis(check, a), dtype.name) for dtype in parsed.dtypes for check, a in plan(what, parsed)
    ]


def run(
    what: What,
    fn: Function,
    *,
    report: Callable[[Finding], None] | None = None,
    **options: Unpack[CheckOptions],
) -> list[Finding]:
    """Take `fn` through all checks; the options are those of `check_vjp`.

    `report` is called with each finding as it is made.
    """
    results = []
    for one in findings(what, fn, parse(options)):
        results.append(one)
        if report:
            report(one)
    return results
