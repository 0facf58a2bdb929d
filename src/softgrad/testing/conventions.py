"""Which call is right: a target of any convention as a function of rows, y first.

Each way to call the target (ways.py), with arrays of each library, and with each layout of the rows, is
tried on four rows of moderate spread.  The first that gives the right numbers is the convention.  Where
none does, the names of the arguments decide, then a known mistake, then (y, dy); the checks then say what
is wrong.
"""

from __future__ import annotations

import itertools
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from inspect import ismodule
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..checks import Array
from . import cases
from .autograd import Function, Way
from .convert import Unusable
from .errors import DType
from .hints import distance, known_mistake, near_of
from .layouts import LAYOUTS, LIBRARIES, Seen, imported, of_rows
from .mutants import P_MINUS_T
from .operations import LABELS, OF_LOGITS, Arrays, Level, Operation, What, operation
from .oracle import WIDE
from .ways import ROLES, ways

OF_AXIS = {"-1": ["rows", "3-D", "4-D"], "0": ["columns"], "none": ["(n,)", "(n, 1)", "(1, n)"]}
BATCH_OF_ONE = "3-D", "4-D", "(1, n)"
RIGHT, KNOWN, SHAPE, NUMBERS, RAISES = range(5)


@dataclass(frozen=True)
class Reading:
    """A target as the checks call it, and how that is."""

    function: Function  # of NumPy arrays in rows, y first
    called: str
    arrays: str = "numpy"
    axis: bool = False  # whether it takes one, along which it is checked, too
    map: str = ""  # of the checks
    note: str = ""


@dataclass(frozen=True)
class Try:
    """What came of one way, layout and library."""

    way: Way
    layout: str
    library: str
    function: Function  # of rows
    score: int
    message: str = ""  # a known mistake
    error: BaseException | None = None
    seen: Seen = field(default_factory=Seen)
    map: str = ""

    @property
    def rank(self) -> tuple[int, ...]:
        """The smallest is the best."""
        place = list(LAYOUTS).index(self.layout)
        if self.score in (KNOWN, SHAPE):  # of what is wrong, the way that the names say
            return KNOWN, place > 0, not self.way.named, self.score, place
        return self.score, place, not self.way.named


# --- which one ------------------------------------------------------------------------------------------


def probe(tested: Operation, dtype: DType, rows: int) -> tuple[Arrays, Arrays]:
    arguments = tested.arguments(*cases.alike(5, dtype, 0, rows))
    return arguments, tested.exact(*arguments)


def attempt(way: Way, tested: Operation, layout: str, library: str, dtype: DType, device: str | None) -> Try:
    """One way, with one layout and library, on four rows; if these raise on five, which tell a lost axis."""
    seen = Seen()
    function = of_rows(way, tested, layout, library, device, seen)
    result = Try(way, layout, library, function, RAISES, seen=seen, map=tested.map)
    for rows in (4, 5):
        arguments, exact = probe(tested, dtype, rows)
        try:
            with np.errstate(all="ignore"):
                given = [a.copy() for a in arguments]
                found = function(*given, **({"axis": -1} if way.axis else {}))
        except Exception as error:
            result = replace(result, error=result.error or error)
            continue
        found = found if isinstance(found, tuple) else (found,)
        if len(found) != len(exact) or any(
            f.shape != e.shape or f.dtype.kind not in "fV" for f, e in zip(found, exact, strict=False)
        ):
            result = replace(result, score=min(result.score, NUMBERS))
            continue
        wide = tuple(np.asarray(f).astype(WIDE) for f in found)
        if rows == 4 and distance(wide, exact) <= near_of(dtype):
            return replace(result, score=RIGHT, error=None)
        if rows == 4 and tested.kind == "cross_entropy":
            whole = tuple(rows * f for f in wide)
            if distance(whole, exact) <= near_of(dtype):
                mean = replace(way, text=f"{way.text}, a mean over the rows")
                return replace(result, way=mean, function=times_rows(function), score=RIGHT, error=None)
        message = known_mistake(tested, arguments, wide, exact, dtype)
        if rows == 4:
            return replace(result, score=KNOWN if message else SHAPE, message=message, error=None)
        if message:
            result = replace(result, score=KNOWN, message=message, error=None)
    return result


def times_rows(function: Function) -> Function:
    """The gradient of a sum, of the gradient of a mean."""

    def scaled(*arguments: Array, **options: Any) -> Array:
        result = function(*arguments, **options)
        return np.asarray(result * result.dtype.type(len(arguments[0])))

    return scaled


def find(
    target: Any,
    name: str,
    what: What = "vjp",
    map: str = "softmax",
    *,
    roles: Sequence[str] | None = None,
    axis: str | None = None,
    level: Level = "sound",
    dtype: Any = "float32",
    device: str | None = None,
    module: ModuleType | None = None,
) -> Reading:
    """How the target is called.

    Raises
    ------
    Unusable
        It cannot be called, or it is right in another layout only, and `axis` does not say which is meant.
    """
    tested, dtype = operation(map, what), np.dtype(dtype)
    every = [tested, operation(LABELS, what)] if map == "cross_entropy" else [tested]
    if level == "tight" and tested.kind == "cross_entropy":
        raise Unusable(f"level tight is not for {map}: its functions take logits as people write them")
    if axis is not None and axis not in OF_AXIS:
        raise Unusable(f"axis {axis!r} is not known: give one of {', '.join(OF_AXIS)}")
    tries: list[Try] = []
    for one in itertools.chain.from_iterable(
        every_try(target, name, of, roles, axis, dtype, device, module) for of in every
    ):
        tries.append(one)
        if one.score == RIGHT and one.layout == "rows":
            break
    if not tries:
        raise Unusable(f"{name} cannot be called with ({', '.join(tested.names)})")
    if any(one.layout == "rows" and one.score != RAISES for one in tries):
        # what mixes the rows of a batch is right for a batch of one
        tries = [one for one in tries if one.layout not in BATCH_OF_ONE] or tries
    best = min(tries, key=lambda one: one.rank)
    if best.score == RAISES:
        raise Unusable(why_raised(own_library(tries, module), tested, axis))
    if best.score == RIGHT and best.layout not in OF_AXIS["-1"] and axis is None:
        check_decided(name, best, tries)
    is_loss = (best.way.labels or best.message == P_MINUS_T) and tested.kind != "cross_entropy"
    if is_loss and best.score != RIGHT and not roles and not best.way.named:
        raise Unusable(
            f"{name} takes labels, as the gradient of a loss does: --map cross_entropy checks that; if it is "
            f"softmax's own, --args {','.join(tested.names)} says so"
        )
    if level == "tight" and "x" in best.way.roles and "x" not in tested.names:
        raise Unusable(f"{name} takes logits, which are rounded: level tight is for functions of y")
    if is_forward(best, tested, dtype):
        raise Unusable(f"{name} gives {map} itself, and no derivative of it: --what forward checks it")
    return reading(best, tested, dtype)


def is_forward(best: Try, tested: Operation, dtype: DType) -> bool:
    """Whether what was taken for a derivative is the map."""
    if "dy" not in tested.names or "dy" in best.way.roles or best.score == RIGHT:
        return False
    y = probe(tested, dtype, 4)[0][0]
    try:
        return distance((best.function(y.copy(), y * 0 + 1).astype(WIDE),), (y.astype(WIDE),)) <= near_of(
            dtype
        )
    except Exception:
        return False


def every_try(
    target: Any,
    name: str,
    tested: Operation,
    roles: Sequence[str] | None,
    axis: str | None,
    dtype: DType,
    device: str | None,
    module: ModuleType | None,
) -> Iterator[Try]:
    every = list(ways(target, name, tested.kind, tuple(roles) if roles else None))
    for layout in OF_AXIS[axis] if axis else LAYOUTS:
        for way in every:
            if way.axis and layout != "rows":
                continue
            foreign: list[Try] = []
            for library in imported(module, way.library):
                one = attempt(way, tested, layout, library, dtype, device)
                if (
                    one.seen.library
                ):  # it takes those of the library that it gives, too, or it brings them over
                    foreign.append(one)
                    continue
                yield one
                if one.score <= NUMBERS:
                    break
            else:
                yield from foreign


def own_library(tries: list[Try], module: ModuleType | None) -> Try:
    """Of what raises, the way that the names say, with arrays of the library that its module imports."""
    known = {value.__name__.partition(".")[0] for value in vars(module or sys).values() if ismodule(value)}
    first = min(tries, key=lambda one: (not one.way.named, list(LAYOUTS).index(one.layout)))
    same = [one for one in tries if one.way == first.way and one.layout == first.layout]
    return next((one for one in reversed(same) if one.library in known), first)


def check_decided(name: str, best: Try, tries: list[Try]) -> None:
    """Refuse what is right along another axis, and runs on rows and gives other numbers there."""
    wrong = [one for one in tries if one.layout == "rows" and one.score in (KNOWN, SHAPE)]
    wrong = [one for one in wrong if one.way.roles == best.way.roles] or wrong[:0]
    if not wrong:
        return
    fits = dict.fromkeys(one.layout for one in tries if one.score == RIGHT)
    options = dict.fromkeys(axis for layout in fits for axis, of in OF_AXIS.items() if layout in of)
    right = " and ".join(
        {"0": "columns (--axis 0)", "none": "one row at a time (--axis none)"}[o] for o in options
    )
    reason = wrong[0].message or "other numbers"
    raise Unusable(
        f"{name} is right for {right}, and wrong for rows of a 2-D array (--axis -1: {reason}); "
        "give the axis that is meant"
    )


def reading(best: Try, tested: Operation, dtype: DType) -> Reading:
    legend = ", ".join(f"{role} {ROLES[role]}" for role in dict.fromkeys(best.way.roles) if role in ROLES)
    where = "along the axis that it is given" if best.way.axis else LAYOUTS[best.layout]
    called = f"{best.way.text}: {legend}; {where}; {LIBRARIES[best.library]} arrays"
    notes = [best.way.note] if best.way.note and best.score == RIGHT else []
    if best.seen.dtype:
        notes.append(f"it gives {best.seen.dtype} for {dtype}, rounded here before it is judged")
    if best.score in (SHAPE, NUMBERS) and not best.way.named:
        notes.append("no way to call it gives the right numbers; --args says what its arguments are")
    if best.score == RIGHT and best.map == "cross_entropy" and not of_any_sum(best, tested, dtype):
        notes.append("right for targets that sum to 1; for others softmax(x)·Σt − t is due")
    of_logits = "x" in best.way.roles and "x" not in tested.names
    checked = best.map + OF_LOGITS if of_logits else best.map
    return Reading(best.function, called, best.library, best.way.axis, checked, "; ".join(notes))


def of_any_sum(best: Try, tested: Operation, dtype: DType) -> bool:
    """Whether it is right for targets that sum to 2, too."""
    x, t = probe(tested, dtype, 4)[0]
    found = best.function(x.copy(), 2 * t).astype(WIDE)
    return distance((found,), tested.exact(x, 2 * t)) <= near_of(dtype)


def why_raised(one: Try, tested: Operation, axis: str | None) -> str:
    """One sentence on a target that raises however it is called."""
    assert one.error is not None
    arguments = probe(tested, np.dtype(np.float32), 4)[0]
    shapes = " and ".join(str(a.shape) for a in arguments)
    more = "; if it takes labels, it is the gradient of a loss: --map cross_entropy" if one.way.labels else ""
    return (
        f"{one.way.text} raises {raised(one.error)}, called with {LIBRARIES[one.library]} arrays of shapes "
        f"{shapes}, and with every other order and layout.  --args says what its arguments are, --axis how "
        f"rows lie{more}"
    )


def raised(error: BaseException) -> str:
    """An exception, and the line of the caller's own code at which it was raised."""
    text = traceback.format_exception_only(error)[-1].strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if own(f.filename)]
    frames = [f for f in frames if f.filename == frames[0].filename]
    return (
        f"{text} at line {frames[-1].lineno} of {frames[-1].filename}: {frames[-1].line}" if frames else text
    )


def own(file: str) -> bool:
    return not (Path(file).is_relative_to(Path(__file__).parents[1]) or file.startswith("<frozen"))
