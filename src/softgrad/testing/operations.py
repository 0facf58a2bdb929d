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
    # (level, arguments, exact results): the error that each result may have: a number for the norm of each
    # row, or one for each element, where `ulps` is given or softgrad's contract is such
    allowed: Callable[[Level, Arrays, Arrays], Arrays]
    # known mistakes, the most usual first
    wrong: Mapping[str, Wrong] = field(default_factory=dict)
    # the jvp, found as a derivative of the map itself, in float64: (y, v)
    slope: Callable[[Array, Array], Array] | None = None
    # (result, exact): the error of each element in ulp
    ulps: Callable[[Array, Array], Array] | None = None
    # (arguments, exact results): what tight errors are measured beside, in eps, element by element, instead
    # of the norm of the row
    terms: Callable[[Arrays, Arrays], Arrays] | None = None
    beside: str = "|dx| + y·D"  # the terms in words
    # y where there is nothing
    absent: float = 0.0
    # checks of things that are not so, and such as only softgrad's contract has
    leaves_out: frozenset[str] = frozenset()
    # another function that must give the same for the same arguments: what is exact is found once for both
    same_as: Operation | None = None
    tight_only: frozenset[str] = frozenset()

    def unit(self, level: str) -> str:
        """What errors are shown in."""
        if self.ulps is not None:
            return "ulp"
        by_element = level == "tight" and self.terms is not None
        return f"eps·({self.beside})" if by_element else "eps of the row's norm"

    def has(self, check: str, level: Level) -> bool:
        if check in self.leaves_out or (check == "adjoint" and self.slope is None):
            return False
        return level == "tight" or check not in self.tight_only
