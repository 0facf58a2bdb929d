"""Cross-entropy, by the primitive of log_softmax: the gradient is that of its kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import checks
from ..specs import LOG_SOFTMAX
from . import maps
from .arguments import FLOATS, floating, no_out
from .formulas import wide


def cross_entropy(
    x: Any, target: Any, *, axis: Any, label_smoothing: Any, ignore_index: Any, reduction: Any
) -> jax.Array:
    x, target = floating(x, "x"), jnp.asarray(target)
    axis = checks.one_axis(axis, x.ndim, "the classes")
    smoothing = checks.smoothing(label_smoothing)
    checks.reduction(reduction)
    concrete = not isinstance(target, jax.core.Tracer)
    shaped = np.asarray(target) if concrete else np.zeros(target.shape, target.dtype)
    checks.weights_or_classes(shaped, x.shape, axis, ignore_index)  # of a tracer the shape and the dtype
    n, counted = x.shape[axis] if x.ndim else 1, None
    if target.dtype.name in FLOATS:
        dtype = jnp.promote_types(x.dtype, target.dtype)
        x, t = x.astype(dtype), wide(target.astype(dtype))
    else:
        classes = jnp.expand_dims(target, axis) if x.ndim else target
        t = (
            jnp.arange(n).reshape([-1] + [1] * (x.ndim - 1 - axis)) if x.ndim else jnp.arange(1)[0]
        ) == classes
        t = t.astype(wide(x).dtype)
        counted = None if ignore_index is None else target != ignore_index
    t = (1 - smoothing) * t + smoothing / max(n, 1)
    if counted is not None:
        among = jnp.expand_dims(counted, axis) if x.ndim else counted
        t, x = jnp.where(among, t, 0.0), jnp.where(among, x, 0.0)
    log_p = maps.forward(
        LOG_SOFTMAX, wide(x), axis=axis if x.ndim else -1, where=None, scale=1.0, empty="zero"
    )
    losses = -jnp.where(t == 0, 0.0, t * jnp.where(t == 0, 0.0, log_p))
    losses = jnp.sum(losses, axis) if x.ndim else losses
    if reduction == "none":
        return losses.astype(x.dtype)
    rows = losses.size if counted is None else jnp.sum(counted)
    divisor = jnp.maximum(rows, 1) if reduction == "mean" else 1
    return (jnp.sum(losses) / divisor).astype(x.dtype)


def cross_entropy_with_vjp(
    x: Any, target: Any, *, out: Any, **options: Any
) -> tuple[jax.Array, Callable[..., jax.Array]]:
    no_out(out)
    loss, pullback = jax.vjp(lambda x: cross_entropy(x, target, **options), floating(x, "x"))

    def vjp(dloss: Any = 1.0, *, out: Any = None) -> jax.Array:
        no_out(out)
        given = floating(dloss, "dloss")
        checks.of_loss(np.zeros(given.shape, np.float32), loss.shape)
        (dx,) = pullback(jnp.broadcast_to(given, loss.shape).astype(loss.dtype))
        return dx

    return loss, vjp
