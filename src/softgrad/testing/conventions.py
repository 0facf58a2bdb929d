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
from . import cases, convert
from .convert import Unusable
from .errors import DType
from .hints import distance, known_mistake, near_of
from .mutants import P_MINUS_T
from .operations import LABELS, OF_LOGITS, Arrays, Level, Operation, What, operation
from .oracle import WIDE
from .oracle import softmax as oracle_softmax
from .ways import ROLES, Function, Way, ways

LIBRARIES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}
LAYOUTS = {
    "rows": "rows of a 2-D array",
    "3-D": "rows of a 3-D array",
    "4-D": "rows of a 4-D array",
    "columns": "columns of a 2-D array (--axis 0)",
    "(n,)": "one row at a time, of shape (n,)",
    "(n, 1)": "one row at a time, of shape (n, 1)",
    "(1, n)": "one row at a time, of shape (1, n)",
}
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


@dataclass
class Seen:
    """What the results of a function were, before they became arrays of the dtype."""

    library: str = ""  # another than the one whose arrays it was given
    dtype: str = ""  # a wider one


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


# --- one way as a function of rows ----------------------------------------------------------------------


def logits(map: str, y: Array) -> Array:
    """Logits of which y is the map, rounded to its dtype.

    For sparsemax and entmax they are those with the threshold 0; what is not in the support lies below it.
    """
    with np.errstate(all="ignore"):
        if map == "softmax":
            x = np.log(y)
        elif map == "log_softmax":
            x = y.copy()
        else:
            x = np.where(y > 0, 2 * np.sqrt(y) if map == "entmax" else y, -1).astype(y.dtype)
            x = np.where(np.isnan(y), y, x).astype(y.dtype)
    x.flags.writeable = y.flags.writeable
    return x


def single(result: Any, shape: tuple[int, ...]) -> Any:
    """The result as an array; of several the only one of the shape, or the first."""
    if isinstance(result, tuple | list):
        fit = [one for one in result if getattr(one, "shape", None) == shape]
        arrays = [one for one in result if getattr(one, "shape", ())]
        if len(fit) == 1 or (isinstance(result, tuple) and arrays):
            result = fit[0] if len(fit) == 1 else arrays[0]
    return np.asarray(result)


def times_jacobian(result: Array, dy: Array) -> Array:
    """dx of a Jacobian, of one row or for each; of a derivative of each element, that times dy."""
    if result.ndim == dy.ndim + 1 or result.shape == (dy.size, dy.size) != dy.shape:
        wide = result.reshape(*dy.shape[:-1], -1, dy.shape[-1]) if dy.ndim == 2 else result
        if wide.ndim == dy.ndim + 1:
            return np.asarray((wide * dy[..., None]).sum(axis=-2).astype(dy.dtype))
    return np.asarray(result * dy) if result.shape == dy.shape else result


def of_layout(call: Function, layout: str, results: int) -> Function:
    """A function of arrays in a layout as one of rows."""

    def whole(*arrays: Array, **options: Any) -> Arrays:
        found = call(*arrays, **options)
        if results > 1 and isinstance(found, tuple | list):
            return tuple(map(np.asarray, found))
        shape = max((a.shape for a in arrays), key=len)
        return (single(found, shape),)

    def by_columns(*arrays: Array) -> Arrays:
        return tuple(a.T for a in whole(*(a.T for a in arrays)))

    def deeper(*arrays: Array) -> Arrays:
        more = (None,) * (int(layout[0]) - 2)
        return tuple(a.reshape(a.shape[-2:]) if a.size else a for a in whole(*(a[more] for a in arrays)))

    def one_by_one(*arrays: Array) -> Arrays:
        shape = {"(n,)": (-1,), "(n, 1)": (-1, 1), "(1, n)": (1, -1)}[layout]
        n = arrays[0].shape[-1]
        columns: list[list[Array]] = [[] for _ in range(results)]
        for rows in zip(*arrays, strict=True):
            found = whole(*(a.reshape(shape) for a in rows))
            if len(found) != results:
                return found
            for column, one in zip(columns, found, strict=True):
                if one.shape not in ((n,), (n, 1), (1, n)) or (one.ndim == 2 and layout == "(n,)"):
                    return (one,)  # of a shape that is no row's
                column.append(one.reshape(n))
        return tuple(map(np.stack, columns))

    by_name = {"rows": whole, "columns": by_columns, "3-D": deeper, "4-D": deeper}
    return by_name.get(layout, one_by_one)


def of_rows(
    way: Way, tested: Operation, layout: str, library: str, device: str | None, seen: Seen
) -> Function:
    """A way as a function of NumPy arrays in rows, in the order of the operation."""
    names = tested.names
    several = tested.results

    def noted(*arrays: Any, **options: Any) -> Any:
        result = way.call(*arrays, **options)
        one = result[0] if isinstance(result, tuple | list) and result else result
        for other in imported(None, None):
            if other not in ("numpy", library) and isinstance(one, convert.array_type(other)):
                seen.library = other
        return result

    call = convert.on_numpy(noted, library, device or "cpu")
    by_layout = of_layout(call, layout, several)
    jacobian = tested.what == "vjp" and set(way.roles) <= {"x", "y"} and "dy" in names

    def function(*arguments: Array, axis: int = -1) -> Any:
        given = dict(zip(names, arguments, strict=True))
        x = None
        if "y" in way.roles and "y" not in given:
            y = oracle_softmax(given["x"]).astype(given["x"].dtype)
            y.flags.writeable = given["x"].flags.writeable
            given["y"] = y
        if tested.map == LABELS:
            given["t"] = given["t"].argmax(axis=-1)
        if "x" in way.roles and "x" not in given:
            given["x"] = x = logits(tested.base, given["y"])
            before = x.tobytes()
        options = {"axis": axis} if way.axis else {}
        if jacobian:
            results: Arrays = (product_of(way, given, options),)
        else:
            results = by_layout(*(given[role] for role in way.roles), **options)
        if x is not None and x.tobytes() != before:
            given["y"][...] = x  # as it changes its logits: the checks look for it in y
        dtype = arguments[0].dtype
        for i, one in enumerate(results):
            if wider(one.dtype, dtype):
                seen.dtype = str(one.dtype)
                results = (*results[:i], one.astype(dtype), *results[i + 1 :])
        return results if several > 1 else results[0]

    def product_of(way: Way, given: dict[str, Array], options: dict[str, Any]) -> Array:
        array, dy = given[way.roles[0]], given["dy"]
        if layout == "rows":
            return times_jacobian(np.asarray(call(array, **options)), dy)
        if layout != "(n,)":
            raise Unusable("a Jacobian is that of rows")
        return np.stack(
            [times_jacobian(np.asarray(call(a, **options)), d) for a, d in zip(array, dy, strict=True)]
        )

    return function


def wider(dtype: DType, given: DType) -> bool:
    """Whether a result is of a wider real type: it is rounded before it is judged, and the report says so."""
    return dtype != given and dtype.kind == "f" and dtype.itemsize > given.itemsize


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


def imported(module: ModuleType | None, library: str | None) -> list[str]:
    if library:
        return [library]
    return [name for name in LIBRARIES if name == "numpy" or name in sys.modules]


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
