"""What is tested: one function of a map, what it must give, and how far off it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..checks import Array

What = Literal["forward", "vjp", "jvp", "double-backward"]
Level = Literal["sound", "tight"]
Arrays = tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Wrong:
    """A known mistake: its formula, of longdoubles and an axis, and what to tell who made it."""

    formula: Callable[..., Array | Arrays]
    told: str


@dataclass(frozen=True, eq=False)
class Operation:
    """A row of the table of a map.  All functions work along the last axis."""

    map: str
    what: What
    # the arguments, made of logits and two gradients in the dtype that is tested
    arguments: Callable[[Array, Array, Array], Arrays]
    # the results, in longdouble
    exact: Callable[..., Arrays]
    # (level, arguments, exact results): the error that each result may have, in each row's norm
    allowed: Callable[[Level, Arrays, Arrays], Arrays]
    # the jvp, found as a derivative of the map itself, in float64: (y, v)
    slope: Callable[[Array, Array], Array] | None = None
    # known mistakes, the most usual first
    wrong: Mapping[str, Wrong] = field(default_factory=dict)

    @property
    def by_element(self) -> bool:
        """Whether the error is that of each element, in ulp, and not of the row's norm."""
        return self.what == "forward"

    def has(self, check: str) -> bool:
        """Whether a check can be made: "adjoint" takes a derivative that was found otherwise."""
        return check != "adjoint" or self.slope is not None
