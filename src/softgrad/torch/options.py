"""The options of a call, apart from its tensors."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

from .. import checks, family
from ..family import MAPS, Map


@dataclass(frozen=True, slots=True)
class Call:
    """Which map, and how.  `learnt` maps take their alpha from a tensor."""

    map: Map
    dims: tuple[int, ...]  # below 0, see `tensors.dims`
    scale: float = 1.0
    empty: str = "zero"
    kind: str = "vjp"  # of a product with the Jacobian; or "jvp"
    reuse_dy: bool = False

    @property
    def symmetric(self) -> bool:
        return self.map.vjp == self.map.jvp

    @property
    def logarithmic(self) -> bool:
        """Whether y is the logarithm of weights."""
        return self.map.absent == -math.inf

    def product(self, kind: str) -> Call:
        return as_product(self, kind)

    def unscaled(self) -> Call:
        return replace(self, scale=1.0, kind="vjp", reuse_dy=False)

    def with_alpha(self, learnt: Any) -> Call:
        """The same with the alpha that a tensor holds."""
        return self if learnt is None else replace(self, map=family.entmax(checks.alpha(learnt.item())))


@functools.lru_cache(maxsize=1024)
def as_product(call: Call, kind: str) -> Call:
    return replace(call, kind=kind, reuse_dy=False)


# The same `Call` for the same options, as long as it is remembered.
call = functools.lru_cache(maxsize=1024)(Call)


def row(name: str, alpha: float | None) -> Map:
    """The row of the table: entmax has one for each alpha."""
    return MAPS[name] if alpha is None else family.entmax(alpha)
