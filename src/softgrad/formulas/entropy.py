"""The entropy of softmax along the last axis, logsumexp, and their gradients.

Every function takes the namespace `xp` of its arrays (``numpy``, ``array_api_strict``, ``torch``, …).
"""

from typing import Any


def logsumexp(x: Any, xp: Any) -> Any:
    """log Σ_k exp(x_k)."""
    top = xp.max(x, axis=-1, keepdims=True)
    return xp.squeeze(top, axis=-1) + xp.log(xp.sum(xp.exp(x - top), axis=-1))


def logsumexp_vjp(x: Any, dy: Any, xp: Any) -> Any:
    """∂ log Σ_k exp(x_k) / ∂x_i = exp(x_i) / Σ_k exp(x_k): softmax."""
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return dy[..., None] * e / xp.sum(e, axis=-1, keepdims=True)


def entropy(x: Any, xp: Any) -> Any:
    """H = −Σ_k p_k log p_k; with p_k = exp(t_k)/S, S = Σ exp(t_k), log p_k is t_k − log S: H = log S − ⟨p,t⟩.

    This is finite where p_k is 0 by underflow.
    """
    t = x - xp.max(x, axis=-1, keepdims=True)
    e = xp.exp(t)
    total = xp.sum(e, axis=-1)
    return xp.log(total) - xp.sum(e * t, axis=-1) / total


def entropy_vjp(x: Any, dy: Any, xp: Any) -> Any:
    """∂H/∂x_i = −p_i (log p_i + H) = −p_i (t_i − ⟨p,t⟩): minus the Jacobian of softmax times t."""
    t = x - xp.max(x, axis=-1, keepdims=True)
    e = xp.exp(t)
    p = e / xp.sum(e, axis=-1, keepdims=True)
    return dy[..., None] * p * (xp.sum(p * t, axis=-1, keepdims=True) - t)
