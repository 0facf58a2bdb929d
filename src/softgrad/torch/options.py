"""The options of a call, apart from its tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .. import checks, specs
from ..specs import MAPS, Map


@dataclass(slots=True, eq=False)
class Call:
    """Which map, and how.  Calls that are remembered are compared as objects."""

    map: Map
    dims: tuple[int, ...]  # below 0, see `tensors.dims`
    scale: float = 1.0
    empty: str = "zero"
    kind: str = "vjp"  # of a product with the Jacobian; or "jvp"
    reuse_dy: bool = False
    products: dict[str, Call] = field(default_factory=dict)

    @property
    def symmetric(self) -> bool:
        return self.map.vjp == self.map.jvp

    @property
    def logarithmic(self) -> bool:
        """Whether y is the logarithm of weights."""
        return self.map.absent == -math.inf

    def product(self, kind: str) -> Call:
        """The call of that product with the Jacobian."""
        found = self.products.get(kind)
        if found is None:
            found = Call(self.map, self.dims, self.scale, kind=kind)
            found.products = self.products
            self.products[kind] = found
        return found

    def unscaled(self) -> Call:
        return Call(self.map, self.dims)

    def with_alpha(self, learnt: Any) -> Call:
        """The same with the alpha that a tensor holds."""
        return self if learnt is None else replace(self, map=specs.entmax(checks.alpha(learnt.item())))


_calls: dict[Any, Call] = {}


def call(
    map: Map,
    dims: tuple[int, ...],
    scale: float = 1.0,
    empty: str = "zero",
    kind: str = "vjp",
    reuse_dy: bool = False,
) -> Call:
    """The same `Call` for the same options, as long as it is remembered."""
    if torch.compiler.is_compiling():
        return Call(map, dims, scale, empty, kind, reuse_dy)
    key = map.name, map.alpha, dims, scale, empty, kind, reuse_dy
    found = _calls.get(key)
    if found is None:
        found = Call(map, dims, scale, empty, kind, reuse_dy)
        if len(_calls) >= 1024:
            _calls.clear()
        _calls[key] = found
    return found


def row(name: str, alpha: float | None) -> Map:
    """The row of the table: entmax has one for each alpha."""
    return MAPS[name] if alpha is None else specs.entmax(alpha)
