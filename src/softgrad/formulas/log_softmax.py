"""log_softmax along the last axis, and its derivatives.

Every function takes the namespace `xp` of its arrays (``numpy``, ``array_api_strict``, ``torch``, …).
"""

from typing import Any


def log_softmax(x: Any, xp: Any) -> Any:
    """y_i = x_i − log Σ_k exp(x_k); the maximum, taken off every x_i, cancels and prevents overflow."""
    t = x - xp.max(x, axis=-1, keepdims=True)
    return t - xp.log(xp.sum(xp.exp(t), axis=-1, keepdims=True))


def vjp(y: Any, dy: Any, xp: Any) -> Any:
    """J_ij = ∂y_i/∂x_j = δ_ij − p_j, p = exp(y): Σ_i dy_i J_ij = dy_j − p_j Σ_i dy_i."""
    return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)


def jvp(y: Any, dx: Any, xp: Any) -> Any:
    """Σ_j J_ij dx_j = dx_i − Σ_j p_j dx_j.  J is not symmetric."""
    return dx - xp.sum(xp.exp(y) * dx, axis=-1, keepdims=True)


def double_backward(y: Any, dy: Any, v: Any, xp: Any) -> tuple[Any, Any]:
    """The gradients of ⟨v, vjp(y(x), dy)⟩ = ⟨v, dy⟩ − ⟨p, v⟩ Σdy with respect to x and dy."""
    centred = jvp(y, v, xp)
    return -xp.exp(y) * centred * xp.sum(dy, axis=-1, keepdims=True), centred
