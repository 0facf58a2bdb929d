"""A function through all checks."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from . import signatures
from .checks import CHECKS, Check, case_of
from .judging import Case, Function, Verdict
from .maps import operation
from .operations import Level, Operation, What
from .options import Given, Options, dtype_of, options_of

SHOWN = 4  # numbers of a row that are shown


@dataclass(frozen=True)
class Finding:
    """What came of one check at one dtype."""

    check: str
    why: str
    dtype: str
    passed: bool
    worst: float  # the worst error in units of the check's own bound (≤ 1 passes); NaN: nothing is measured
    eps: float  # the same in the unit of `Operation.unit`; NaN: nothing is measured
    case: str = ""  # the smallest failing case in words
    reproduce: str = ""  # three lines of code
    hint: str = ""  # what is probably wrong, where the failure looks like a known mistake


def plan(what: What, options: Options) -> list[tuple[Check, int | None]]:
    """The checks that are made, and the axis of each."""
    given = operation(options.map, what)
    found: list[tuple[Check, int | None]] = []
    for check in CHECKS:
        if what not in check.of or not given.has(check.name, options.level):
            continue
        axes = options.axes if check.axis else ()
        if check.ndim == 2:
            found.append((check, None))
            axes = tuple(a for a in axes if -2 <= a < 2)
        found += [(check, a) for a in axes]
    return found


def lengths_of(check: Check, max_n: int | None) -> Sequence[int]:
    if max_n is None:
        return check.lengths
    return [n for n in check.lengths if n <= max_n] or [max_n]


def findings(what: What, fn: Function, options: Options, early: bool) -> Iterator[Finding]:
    """The findings one by one; `early`: a check ends with its first failing length."""
    if not callable(fn):
        raise TypeError(f"a function is tested, not a {type(fn).__name__}")
    given, checks = operation(options.map, what), plan(what, options)
    for dtype in options.dtypes:
        for check, along in checks:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield finding(check, given, fn, options, dtype, along, early)


def named(check: Check, axis: int | None) -> str:
    return check.name if axis is None else f"{check.name}, axis {axis}"


def finding(
    check: Check,
    given: Operation,
    fn: Function,
    options: Options,
    dtype: np.dtype[Any],
    axis: int | None,
    early: bool,
) -> Finding:
    name, seed = named(check, axis), options.seed
    worst = size = math.nan
    failed: tuple[Case, Verdict] | None = None
    for n in lengths_of(check, options.max_n):
        case = case_of(check, given, options.level, dtype, n, axis, seed)
        found = case.verdict(fn)
        worst, size = np.fmax(worst, found.worst), np.fmax(size, found.eps)
        if not found.passed and failed is None:
            failed = case, found
            if early:
                break
    if failed is None:
        return Finding(name, check.why, dtype.name, True, float(worst), float(size))
    case, found = failed
    row = found.row
    if row is not None:
        alone = case.only(row).verdict(fn)
        if alone.passed:  # it takes the other rows
            row = None
        else:
            case, found = case.only(row), alone
    return Finding(
        name,
        check.why,
        dtype.name,
        False,
        float(worst),
        float(size),
        described(case, found, fn, row),
        reproduced(check, case, fn, row, seed),
        signatures.hint(given, fn, dtype, axis, seed),
    )


def described(case: Case, found: Verdict, fn: Function, row: int | None) -> str:
    """A failing case in words, and in numbers if they are few."""
    rows, n = case.arguments[0].shape
    label = case.labels[0] if row is not None else case.labels[found.row or 0]
    text = f"{label}; {rows} row{'s' * (rows > 1)} of {n}, {case.dtype.name}"
    if case.axis is not None:
        text += f", along axis {case.axis}"
    if found.told:
        text += f": {found.told}"
    elif not math.isnan(found.worst):
        text += f": off by {found.worst:.3g} times what is allowed"
    if row is not None and n <= SHOWN and not found.told:
        given = ", ".join(numbers(a[0]) for a in case.arguments)
        due = ", ".join(numbers(e[0]) for e in case.exact)
        got = ", ".join(numbers(r[0]) for r in case.results(fn))
        text += f"\n  given {given}\n  due   {due}\n  got   {got}"
    return text


def numbers(row: Any) -> str:
    return "[" + ", ".join(f"{float(v):.6g}" for v in row) + "]"


def reproduced(check: Check, case: Case, fn: Function, row: int | None, seed: int) -> str:
    n, name = case.arguments[0].shape[-1], name_of(fn)
    options = [f"map={case.operation.map!r}"] * (case.operation.map != "softmax")
    options += [f"level={case.level!r}"] * (case.level != "sound")
    options += [f"dtype={case.dtype.name!r}", f"n={n}"]
    options += [f"{key}={value}" for key, value in (("row", row), ("axis", case.axis)) if value is not None]
    options += [f"seed={seed}"] * (seed != 0)
    return (
        "import softgrad.testing\n"
        f"case = softgrad.testing.again({case.operation.what!r}, {check.name!r}, {', '.join(options)})\n"
        f"print(case.arguments, case.exact, case.verdict({name}))"
    )


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
        function with them and judges what it gives.
    """
    given, rows = operation(map, what), {c.name: c for c in CHECKS if what in c.of}
    if check not in rows:
        raise ValueError(f"there is no check {check!r} of a {what}; there are {', '.join(rows)}")
    if operator.index(n) < 1:
        raise ValueError(f"n is {n}; rows have at least 1 element")
    case = case_of(rows[check], given, level, dtype_of(dtype), n, axis, seed)
    if row is None:
        return case
    if not 0 <= operator.index(row) < len(case.labels):
        raise ValueError(f"row is {row}; the case has {len(case.labels)} rows, from 0")
    return case.only(row)


def planned(what: What, **options: Unpack[Given]) -> list[tuple[str, str]]:
    """The check and the dtype of each finding that `run` makes with these options, in their order."""
    given = options_of(options)
    return [(named(check, a), dtype.name) for dtype in given.dtypes for check, a in plan(what, given)]


def run(
    what: What, fn: Function, *, report: Callable[[Finding], None] | None = None, **options: Unpack[Given]
) -> list[Finding]:
    """Take `fn` through all checks; the options are those of `check_vjp`.

    `report` is called with each finding as it is made.
    """
    found = []
    for one in findings(what, fn, options_of(options), early=False):
        found.append(one)
        if report:
            report(one)
    return found
