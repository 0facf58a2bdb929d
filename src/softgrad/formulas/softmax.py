"""Softmax along the last axis, and three ways to its gradient.

Every function takes the namespace `xp` of its arrays (``numpy``, ``array_api_strict``, ``torch``, …).
"""

from typing import Any


def softmax(x: Any, xp: Any) -> Any:
    """y_i = exp(x_i) / Σ_k exp(x_k); the maximum, taken off every x_i, cancels and prevents overflow."""
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def jacobian(y: Any, xp: Any) -> Any:
    """J_ij = ∂y_i/∂x_j = y_i (δ_ij − y_j): n² numbers for a row of n."""
    identity = xp.eye(y.shape[-1], dtype=y.dtype)
    return y[..., :, None] * (identity - y[..., None, :])


def vjp_by_jacobian(y: Any, dy: Any, xp: Any) -> Any:
    """∂L/∂x_j = Σ_i ∂L/∂y_i J_ij.  J is symmetric: the product from the left is the one from the right."""
    return xp.squeeze(jacobian(y, xp) @ dy[..., :, None], axis=-1)


def vjp(y: Any, dy: Any, xp: Any) -> Any:
    """The same without J: Σ_i dy_i y_i (δ_ij − y_j) = y_j (dy_j − Σ_i dy_i y_i)."""
    return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))


def double_backward(y: Any, dy: Any, v: Any, xp: Any) -> tuple[Any, Any]:
    """The gradients of ⟨v, vjp(y(x), dy)⟩ with respect to x and dy."""
    mean = xp.sum(y * dy, axis=-1, keepdims=True)
    through_y = v * (dy - mean) - dy * xp.sum(y * v, axis=-1, keepdims=True)
    return vjp(y, through_y, xp), vjp(y, v, xp)
