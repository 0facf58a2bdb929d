"""Cross-entropy of softmax along the last axis, and its gradient, for one loss a row.

Every function takes the namespace `xp` of its arrays (``numpy``, ``array_api_strict``, ``torch``, …).
"""

from typing import Any


def smoothed(t: Any, label_smoothing: float) -> Any:
    """t'_i = (1 − ε) t_i + ε/n: a part of the weights is given to all classes alike."""
    return (1 - label_smoothing) * t + label_smoothing / t.shape[-1]


def cross_entropy(x: Any, t: Any, xp: Any) -> Any:
    """L = −Σ_i t_i log y_i, y = softmax(x); log y_i = (x_i − max) − log Σ_k exp(x_k − max)."""
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    log_y = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    return -xp.sum(t * log_y, axis=-1)


def gradient(y: Any, t: Any, xp: Any) -> Any:
    """∂L/∂x_i = y_i Σ_k t_k − t_i, for y = softmax(x): y − t where the weights sum to 1."""
    return y * xp.sum(t, axis=-1, keepdims=True) - t
