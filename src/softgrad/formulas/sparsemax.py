"""Sparsemax along the last axis, and its gradient.

Every function takes the namespace `xp` of its arrays (``numpy``, ``array_api_strict``, ``torch``, …).
"""

from typing import Any


def sparsemax(x: Any, xp: Any) -> Any:
    """y_i = max(x_i − τ, 0), the point of the simplex nearest to x; τ is what makes Σ_i y_i = 1.

    τ rises to it: a step takes all above τ for the support, which is too much, so none goes too far.
    """
    x = x - xp.max(x, axis=-1, keepdims=True)  # which leaves y as it is, and what is near the largest exact
    tau = xp.zeros_like(x[..., :1]) - 1
    while True:
        y = xp.maximum(x - tau, xp.zeros_like(x))
        support = xp.astype(x > tau, x.dtype)
        higher = tau + (xp.sum(y, axis=-1, keepdims=True) - 1) / xp.sum(support, axis=-1, keepdims=True)
        if not xp.any(higher > tau):
            return y
        tau = xp.maximum(higher, tau)


def vjp(y: Any, dy: Any, xp: Any) -> Any:
    """∂L/∂x_j = dy_j − (the mean of dy over the support) on the support, and 0 elsewhere."""
    s = xp.astype(y > 0, y.dtype)
    return s * (dy - xp.sum(s * dy, axis=-1, keepdims=True) / xp.sum(s, axis=-1, keepdims=True))
