"""Entmax along the last axis for α > 1, its gradient, and the one with respect to α.

Every function takes the namespace `xp` of its arrays (``numpy``, ``array_api_strict``, ``torch``, …).
"""

from typing import Any


def entmax(x: Any, alpha: float, xp: Any) -> Any:
    """y_i = max((α−1)·x_i − τ, 0)^(1/(α−1)); τ, which makes Σ_i y_i = 1, is found by bisection."""
    z = (alpha - 1) * (x - xp.max(x, axis=-1, keepdims=True))
    high = xp.zeros_like(z[..., :1])
    low = high - 1  # here the largest y alone is 1
    for _ in range(100):
        tau = (low + high) / 2
        y = xp.maximum(z - tau, xp.zeros_like(z)) ** (1 / (alpha - 1))
        more = xp.sum(y, axis=-1, keepdims=True) > 1
        low, high = xp.where(more, tau, low), xp.where(more, high, tau)
    return y / xp.sum(y, axis=-1, keepdims=True)


def weights(y: Any, alpha: float, xp: Any) -> Any:
    """s_i = y_i^(2−α) on the support, 0 elsewhere."""
    return xp.where(y > 0, xp.where(y > 0, y, xp.ones_like(y)) ** (2 - alpha), xp.zeros_like(y))


def vjp(y: Any, dy: Any, alpha: float, xp: Any) -> Any:
    """∂L/∂x_j = s_j (dy_j − Σ_i s_i dy_i / Σ_i s_i)."""
    s = weights(y, alpha, xp)
    return s * (dy - xp.sum(s * dy, axis=-1, keepdims=True) / xp.sum(s, axis=-1, keepdims=True))


def alpha_vjp(y: Any, dy: Any, alpha: float, xp: Any) -> Any:
    """∂L/∂α = Σ_i dy_i g_i, g = (y − s̃)/(α−1)² + (h − s̃ Σ_k h_k)/(α−1), h = −y log y, s̃ = s/Σs.

    From log y_i = log((α−1)·x_i − τ)/(α−1), differentiated, and Σ_i ∂y_i/∂α = 0, which gives ∂τ/∂α.
    """
    s = weights(y, alpha, xp)
    s = s / xp.sum(s, axis=-1, keepdims=True)
    h = -y * xp.log(xp.where(y > 0, y, xp.ones_like(y)))
    g = (y - s) / (alpha - 1) ** 2 + (h - s * xp.sum(h, axis=-1, keepdims=True)) / (alpha - 1)
    return xp.sum(dy * g, axis=-1)
