"""The derivatives as functions of what a map put out: `softmax_vjp` and its like, for each row of the table.

They are differentiable themselves where no `out` is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..specs import MAPS, Map
from . import calls, segments

DOC = """{what}

Parameters
----------
{tensors} : torch.Tensor
    {meaning}, of one shape.
{alpha}dim, where, scale
    As they were given to `{name}`.
{out}
Notes
-----
It is `softgrad.{name}_{kind}` on tensors: formula, error bound and edge cases are described there.
"""
OUT = """out : torch.Tensor, optional
    Where to write the result, strided or not; it may be one of the inputs.  Autograd must not be asked to
    follow.
"""
ALPHA = "alpha : float\n    As it was given to `entmax`.\n"


def described(
    function: Callable[..., Any], row: Map, kind: str, what: str, tensors: str, meaning: str
) -> Any:
    function.__name__ = function.__qualname__ = f"{row.name}_{kind}"
    function.__doc__ = DOC.format(
        what=what,
        tensors=tensors,
        meaning=meaning,
        name=row.name,
        kind=kind,
        alpha=ALPHA if row.parameters else "",
        out=OUT if kind in ("vjp", "jvp") else "",
    )
    return function


def product(row: Map, kind: str) -> Callable[..., Tensor]:
    name = "dy" if kind == "vjp" else "dx"
    if row.parameters:

        def function(
            y: Tensor,
            v: Tensor,
            alpha: float = 1.5,
            dim: Any = -1,
            *,
            where: Tensor | None = None,
            scale: float = 1.0,
            out: Tensor | None = None,
        ) -> Tensor:
            return calls.product(calls.entmax_row(alpha), kind, y, v, name, dim, where, scale, out)

    else:

        def function(  # type: ignore[misc]
            y: Tensor,
            v: Tensor,
            dim: Any = -1,
            *,
            where: Tensor | None = None,
            scale: float = 1.0,
            out: Tensor | None = None,
        ) -> Tensor:
            return calls.product(row, kind, y, v, name, dim, where, scale, out)

    if kind == "vjp":
        what, given = f"∂L/∂x of ``y = {row.name}(x)``, given y and ∂L/∂y.", "What the map put out, and ∂L/∂y"
    else:
        what = f"How ``y = {row.name}(x)`` moves when x moves along dx, given y."
        given = "What the map put out, and the tangent"
    made: Callable[..., Tensor] = described(function, row, kind, what, "y, v", given)
    return made


def double_backward(row: Map) -> Callable[..., tuple[Tensor, Tensor]]:
    if row.parameters:

        def function(
            y: Tensor, dy: Tensor, v: Tensor, alpha: float = 1.5, dim: Any = -1, *, scale: float = 1.0
        ) -> tuple[Tensor, Tensor]:
            return calls.double_backward(calls.entmax_row(alpha), y, dy, v, axis=dim, scale=scale)

    else:

        def function(  # type: ignore[misc]
            y: Tensor, dy: Tensor, v: Tensor, dim: Any = -1, *, scale: float = 1.0
        ) -> tuple[Tensor, Tensor]:
            return calls.double_backward(row, y, dy, v, axis=dim, scale=scale)

    what = f"(grad_x, grad_dy): the gradients of ⟨v, `{row.name}_vjp` (y, dy)⟩ with respect to x and dy."
    given = "What the map put out, ∂L/∂y, and the gradient with respect to the vjp"
    made: Callable[..., tuple[Tensor, Tensor]] = described(
        function, row, "double_backward", what, "y, dy, v", given
    )
    return made


softmax_vjp, log_softmax_vjp, sparsemax_vjp, entmax_vjp = (product(row, "vjp") for row in MAPS.values())
softmax_jvp, log_softmax_jvp, sparsemax_jvp, entmax_jvp = (product(row, "jvp") for row in MAPS.values())
(
    softmax_double_backward,
    log_softmax_double_backward,
    sparsemax_double_backward,
    entmax_double_backward,
) = (double_backward(row) for row in MAPS.values())


def segment_softmax_vjp(
    y: Tensor, dy: Tensor, offsets: Tensor, dim: int = 0, *, scale: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """∂L/∂x of ``y = segment_softmax(x, offsets)``, given y and ∂L/∂y: as `softgrad.segment_softmax_vjp`."""
    return segments.product(y, dy, "dy", offsets, axis=dim, scale=scale, out=out)
