"""The options of the checks: which map, how exact, at which dtypes, lengths and axes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import ml_dtypes  # noqa: F401  (NumPy knows bfloat16 by its name from it)
import numpy as np
import numpy.typing as npt

from ..checks import FLOATS
from .operations import Level
from .oracle import WIDE

TAKEN = ", ".join(map(str, FLOATS))


class CheckOptions(TypedDict, total=False):
    """The options of `check_vjp`, which says what they mean, as its callers write them."""

    map: str
    level: Level
    dtypes: npt.DTypeLike | Iterable[npt.DTypeLike]
    max_n: int | None
    axis: int | Sequence[int] | None
    seed: int


@dataclass(frozen=True)
class Options:
    """The same, checked."""

    map: str
    level: Level
    dtypes: tuple[np.dtype[Any], ...]
    max_n: int | None
    axes: tuple[int, ...]
    seed: int


def parse(args: CheckOptions) -> Options:
    names = CheckOptions.__annotations__
    if unknown := sorted(args.keys() - names.keys()):
        raise TypeError(f"there is no option {unknown[0]!r}: check_vjp's are {', '.join(names)}")
    level, max_n = args.get("level", "sound"), args.get("max_n")
    if level not in ("sound", "tight"):
        raise ValueError(f"level {level!r} is not known: give 'sound' or 'tight'")
    if max_n is not None and operator.index(max_n) < 2:
        raise ValueError(f"max_n is {max_n}; a row of 1 element tells nothing: give 2 or more")
    dtypes = tuple(map(dtype_of, several(args.get("dtypes", ("float32", "float64")))))
    if not dtypes:
        raise ValueError(f"no dtype was given: give some of {TAKEN}")
    axis = args.get("axis")
    axes = () if axis is None else tuple(map(operator.index, several(axis)))
    if wrong := [a for a in axes if not -3 <= a < 3]:
        raise ValueError(f"axis {wrong[0]} is not tested: arrays have two and three, -3 to 2")
    return Options(args.get("map", "softmax"), level, dtypes, max_n, axes, args.get("seed", 0))


def several(value: Any) -> Iterable[Any]:
    """One value, or some, as some."""
    return value if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def dtype_of(name: npt.DTypeLike) -> np.dtype[Any]:
    try:
        dtype = None if name is None else np.dtype(name)
    except TypeError:
        dtype = None
    if dtype not in FLOATS:
        raise ValueError(f"dtype {name!r} is not tested: give some of {TAKEN}")
    if dtype == np.float64 and np.finfo(WIDE).nmant < 63:
        raise ValueError(
            "float64 can't be judged here: numpy.longdouble is no wider than it on this platform"
        )
    return dtype
