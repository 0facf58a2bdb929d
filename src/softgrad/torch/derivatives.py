"""The derivatives as functions of what a map put out: `softmax_vjp` and its like, for each row of the table.

They are differentiable themselves where no `out` is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..specs import MAPS, SOFTMAX, Map
from . import calls

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


def name_function(
    function: Callable[..., Any], spec: Map, kind: str, what: str, tensors: str, meaning: str
) -> Any:
    function.__name__ = function.__qualname__ = f"{spec.name}_{kind}"
    out, alpha = OUT if kind in ("vjp", "jvp") else "", ALPHA if spec.parameters else ""
    options = {"what": what, "tensors": tensors, "meaning": meaning, "name": spec.name, "kind": kind}
    function.__doc__ = DOC.format(out=out, alpha=alpha, **options)
    return function


def product(spec: Map, kind: str) -> Callable[..., Tensor]:
    def function(
        y: Tensor,
        v: Tensor,
        dim: Any = -1,
        *,
        where: Tensor | None = None,
        scale: float = 1.0,
        out: Tensor | None = None,
    ) -> Tensor:
        return calls.product(spec, kind, y, v, axis=dim, where=where, scale=scale, out=out)

    def of_alpha(
        y: Tensor,
        v: Tensor,
        alpha: float = 1.5,
        dim: Any = -1,
        *,
        where: Tensor | None = None,
        scale: float = 1.0,
        out: Tensor | None = None,
    ) -> Tensor:
        options = {"axis": dim, "where": where, "scale": scale, "out": out}
        return calls.product(calls.entmax(alpha), kind, y, v, **options)

    if kind == "vjp":
        what = f"∂L/∂x of ``y = {spec.name}(x)``, given y and ∂L/∂y."
        given = "The result of the map, and ∂L/∂y"
    else:
        what = f"The change of ``y = {spec.name}(x)`` along a tangent dx of x, given y."
        given = "The result of the map, and the tangent"
    made: Any = name_function(of_alpha if spec.parameters else function, spec, kind, what, "y, v", given)
    return made


def double_backward(spec: Map) -> Callable[..., tuple[Tensor, Tensor]]:
    def function(
        y: Tensor, dy: Tensor, v: Tensor, dim: Any = -1, *, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        return calls.double_backward(spec, y, dy, v, axis=dim, scale=scale)

    def of_alpha(
        y: Tensor, dy: Tensor, v: Tensor, alpha: float = 1.5, dim: Any = -1, *, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        return calls.double_backward(calls.entmax(alpha), y, dy, v, axis=dim, scale=scale)

    what = f"(grad_x, grad_dy): the gradients of ⟨v, `{spec.name}_vjp` (y, dy)⟩ with respect to x and dy."
    given = "The result of the map, ∂L/∂y, and the gradient with respect to the vjp"
    chosen = of_alpha if spec.parameters else function
    made: Any = name_function(chosen, spec, "double_backward", what, "y, dy, v", given)
    return made


softmax_vjp, log_softmax_vjp, sparsemax_vjp, entmax_vjp = (product(spec, "vjp") for spec in MAPS.values())
softmax_jvp, log_softmax_jvp, sparsemax_jvp, entmax_jvp = (product(spec, "jvp") for spec in MAPS.values())
(
    softmax_double_backward,
    log_softmax_double_backward,
    sparsemax_double_backward,
    entmax_double_backward,
) = (double_backward(spec) for spec in MAPS.values())


def segment_softmax_vjp(
    y: Tensor, dy: Tensor, offsets: Tensor, dim: int = 0, *, scale: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """∂L/∂x of ``y = segment_softmax(x, offsets)``, given y and ∂L/∂y: as `softgrad.segment_softmax_vjp`."""
    segments: dict[str, Any] = {"segment_ids": None, "num_segments": None, "where": None}
    return calls.segment_product(SOFTMAX, "vjp", y, dy, offsets, axis=dim, scale=scale, out=out, **segments)
