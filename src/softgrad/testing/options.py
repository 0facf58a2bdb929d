"""What the checks are told: for which map, how exact, at which dtypes, lengths and axes."""

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


class Given(TypedDict, total=False):
    """The options of `check_vjp`, which says what they mean, as its callers write them."""

    map: str
    level: Level
    dtypes: Iterable[npt.DTypeLike]
    max_n: int | None
    axis: int | Sequence[int] | None
    seed: int


@dataclass(frozen=True)
class Options:
    """What is made of them."""

    map: str
    level: Level
    dtypes: tuple[np.dtype[Any], ...]
    max_n: int | None
    axes: tuple[int, ...]
    seed: int


def options_of(given: Given) -> Options:
    if unknown := sorted(given.keys() - Given.__annotations__.keys()):
        raise TypeError(
            f"there is no option {unknown[0]!r}: check_vjp's are {', '.join(Given.__annotations__)}"
        )
    return Options(
        map=given.get("map", "softmax"),
        level=level_of(given.get("level", "sound")),
        dtypes=dtypes_of(given.get("dtypes", ("float32", "float64"))),
        max_n=longest_of(given.get("max_n")),
        axes=axes_of(given.get("axis")),
        seed=given.get("seed", 0),
    )


def level_of(level: Level) -> Level:
    if level not in ("sound", "tight"):
        raise ValueError(f"level {level!r} is not known: give 'sound' or 'tight'")
    return level


def longest_of(max_n: int | None) -> int | None:
    if max_n is not None and operator.index(max_n) < 2:
        raise ValueError(f"max_n is {max_n}; a row of 1 element tells nothing: give 2 or more")
    return max_n


def dtype_of(name: npt.DTypeLike) -> np.dtype[Any]:
    try:
        dtype = None if name is None else np.dtype(name)
    except TypeError:
        dtype = None
    if dtype not in FLOATS:
        raise ValueError(f"dtype {name!r} is not tested: give some of {', '.join(map(str, FLOATS))}")
    if dtype == np.float64 and np.finfo(WIDE).nmant < 63:
        raise ValueError(
            "float64 can't be judged here: numpy.longdouble is no wider than it on this platform"
        )
    return dtype


def dtypes_of(given: npt.DTypeLike | Iterable[npt.DTypeLike]) -> tuple[np.dtype[Any], ...]:
    names = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    if not names:
        raise ValueError(f"no dtype was given: give some of {', '.join(map(str, FLOATS))}")
    return tuple(dtype_of(name) for name in names)


def axes_of(axis: int | Sequence[int] | None) -> tuple[int, ...]:
    if axis is None:
        return ()
    axes = tuple(map(operator.index, axis)) if isinstance(axis, Iterable) else (operator.index(axis),)
    if wrong := [a for a in axes if not -3 <= a < 3]:
        raise ValueError(f"axis {wrong[0]} is not tested: arrays have two and three, -3 to 2")
    return axes
