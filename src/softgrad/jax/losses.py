"""Cross-entropy, by the primitive of log_softmax: the gradient is that of its kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import checks
from ..specs import LOG_SOFTMAX, LOGSUMEXP
from . import maps
from .arguments import FLOATS, floating, mask, no_out, per_row
from .formulas import wide


def cross_entropy(
    x: Any,
    target: Any,
    *,
    axis: Any,
    label_smoothing: Any,
    ignore_index: Any,
    reduction: Any,
    sample_weight: Any = None,
    weight: Any = None,
    where: Any = None,
    z_loss: Any = 0.0,
    dtype: Any = None,
) -> jax.Array:
    smoothing, z_loss = checks.smoothing(label_smoothing), checks.not_negative(z_loss, "z_loss")
    checks.reduction(reduction)
    kind = None if dtype is None else checks.float_dtype(dtype)
    x, t, counted, axis, classes = scored(x, target, axis, ignore_index)
    n, along = x.shape[axis] if x.ndim else 1, axis if x.ndim else -1
    where, of_row = mask(where, x.shape), x.shape[:axis] + x.shape[axis + 1 :]

    def of_rows(a: Any) -> Any:
        return jnp.expand_dims(a, axis) if x.ndim else a

    rows = jnp.ones(of_row, wide(x).dtype)
    if sample_weight is not None:
        rows = per_row(given_weights(sample_weight), "sample_weight", of_row, wide(x).dtype)
        counted = rows != 0 if counted is None else counted & (rows != 0)
    if where is not None:
        x, t = jnp.where(where, x, -jnp.inf), t if classes else jnp.where(where, t, 0.0)
    if counted is not None:
        x, rows = jnp.where(of_rows(counted), x, 0.0), jnp.where(counted, rows, 0.0)
    factors, there = rows, jnp.ones(x.shape, bool) if where is None else where
    present = jnp.maximum(jnp.sum(there, axis, keepdims=True), 1) if x.ndim else 1
    smooth = jnp.where(there, smoothing / present, 0.0) if smoothing else 0.0
    if weight is not None:
        of_classes = floating(weight, "weight").astype(rows.dtype)
        checks.class_weights(np.zeros(of_classes.shape), n)
        of_classes = of_classes.reshape([-1 if d == axis else 1 for d in range(x.ndim)])
        if classes:
            rows = rows * (jnp.sum(t * of_classes, axis) if x.ndim else of_classes)
        t = of_classes * ((1 - smoothing) * t + smooth)
    else:
        t = (1 - smoothing) * t + smooth
    if counted is not None:
        t = jnp.where(of_rows(counted), t, 0.0)
    log_p = maps.forward(LOG_SOFTMAX, wide(x), axis=along, where=None, scale=1.0, empty="nan")
    impossible = (t == 0) & (log_p == -jnp.inf)  # a class without a weight may be
    losses = -t * jnp.where(impossible, 0.0, log_p)
    losses = jnp.sum(losses, axis) if x.ndim else losses
    if z_loss:
        options: dict[str, Any] = {"axis": along, "where": None, "scale": 1.0, "keepdims": False}
        own = rows / jnp.where(factors == 0, 1.0, factors)  # the weights of the target classes
        losses = losses + own * z_loss * maps.reduce(LOGSUMEXP, wide(x), **options) ** 2
    if sample_weight is not None:
        losses = losses * factors
    kind = x.dtype if kind is None else kind
    if sample_weight is None and weight is None:
        return reduced(losses, counted, reduction, kind)
    if reduction == "none":
        return losses.astype(kind)
    total = jnp.sum(losses)
    return (total / jnp.sum(rows) if reduction == "mean" else total).astype(kind)


def given_weights(value: Any) -> jax.Array:
    given = jnp.asarray(value)
    return given.astype(jnp.float32) if given.dtype == bool else floating(given, "sample_weight")


def scored(
    x: Any, target: Any, axis: Any, ignore_index: Any
) -> tuple[jax.Array, jax.Array, jax.Array | None, int, bool]:
    """The logits, 0 in rows that do not count; the target as weights; which rows count (None: all); the axis;
    and whether the target has classes."""
    x = floating(x, "x")
    axis = checks.one_axis(axis, x.ndim, "the classes")
    # of a tracer the shape and the dtype are checked
    traced = isinstance(target, jax.core.Tracer)
    given = to_numpy(np.zeros(target.shape, target.dtype) if traced else target)
    checks.weights_or_classes(given, x.shape, axis, ignore_index)
    if given.dtype.name in FLOATS:
        dtype = jnp.promote_types(x.dtype, given.dtype)
        return x.astype(dtype), wide(jnp.asarray(target, dtype)), None, axis, False
    holds, counted = np.iinfo(given.dtype), None
    if ignore_index is not None and holds.min <= ignore_index <= holds.max:
        counted = jnp.asarray(target) != ignore_index
    classes = jnp.asarray(target).astype(jnp.int32)
    classes = jnp.expand_dims(classes, axis) if x.ndim else classes
    numbers = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) if x.ndim else jnp.int32(0)
    t = (numbers == jnp.broadcast_to(classes, x.shape)).astype(wide(x).dtype)
    if counted is not None:
        x = jnp.where(jnp.expand_dims(counted, axis) if x.ndim else counted, x, 0.0)
    return x, t, counted, axis, True


def reduced(losses: jax.Array, counted: jax.Array | None, reduction: str, dtype: Any) -> jax.Array:
    if reduction == "none":
        return losses.astype(dtype)
    total, rows = jnp.sum(losses), losses.size if counted is None else jnp.sum(counted)
    if reduction == "mean":
        total = jnp.where(rows == 0, jnp.nan, total / jnp.maximum(rows, 1))
    return total.astype(dtype)


def to_numpy(target: Any) -> Any:
    """A target that is not traced, with its own dtype: JAX's default would wrap what it does not hold."""
    masked = isinstance(target, np.ma.MaskedArray)  # which is refused
    return checks.array(target if masked else np.asarray(target), "target")


def cross_entropy_with_vjp(
    x: Any, target: Any, *, out: Any, **options: Any
) -> tuple[jax.Array, Callable[..., jax.Array]]:
    no_out(out)
    return pullback_of(lambda x: cross_entropy(x, target, **options), x)


def pullback_of(loss_of: Callable[..., jax.Array], x: Any) -> tuple[jax.Array, Callable[..., jax.Array]]:
    """The loss of x, and the function from its gradient to that of x."""
    loss, pullback = jax.vjp(loss_of, floating(x, "x"))

    def vjp(dloss: Any = 1.0, *, out: Any = None) -> jax.Array:
        no_out(out)
        given = floating(dloss, "dloss")
        checks.of_loss(np.zeros(given.shape, np.float32), loss.shape)
        (dx,) = pullback(jnp.broadcast_to(given, loss.shape).astype(loss.dtype))
        return dx

    return loss, vjp
