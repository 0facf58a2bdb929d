"""softmax with numbers of each row: a sink, the gradient of a scale, a mean that was found elsewhere.

A row with a sink is a row with one more element, so it is made one, and taken apart again.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from .. import checks
from ..specs import SOFTMAX
from . import maps
from .arguments import Rows, alike, floating, is_number, mask, no_out, number, per_row
from .formulas import wide


class Extended:
    """Rows, and the same with one more element each."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        self.rows = Rows(shape, axis)
        self.kept = checks.reduced_shape(shape, self.rows.axes, True)

    def join(self, a: jax.Array, numbers: jax.Array) -> jax.Array:
        axes = self.rows.axes if a.ndim else None
        numbers = numbers + jnp.zeros_like(a).sum(axes, keepdims=True)  # divided among devices as they are
        return jnp.concatenate([self.rows.flat(a), self.rows.flat(numbers)], self.rows.axis)

    def split(self, whole: jax.Array) -> tuple[jax.Array, jax.Array]:
        axis = whole.ndim + self.rows.axis
        a, numbers = jnp.split(whole, [whole.shape[axis] - 1], axis)
        return self.rows.restore(a), numbers.reshape(self.kept)


def scales(scale: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """A scale for each row, in the type that is computed in."""
    given = number(scale, dtype) if is_number(scale) else scale
    return per_row(given, "scale", shape, jnp.promote_types(dtype, jnp.float32))


def sink_softmax(x: Any, sink: Any, *, axis: Any, where: Any, scale: Any) -> tuple[jax.Array, jax.Array]:
    x = floating(x, "x")
    extended, where = Extended(x.shape, axis), mask(where, x.shape)
    z = wide(x)
    s = per_row(sink, "sink", extended.kept, z.dtype)
    factor = number(scale, x.dtype) if is_number(scale) else None
    if factor is not None and abs(factor) >= 2.0**-60:
        # the primitive multiplies by it, and the sink has none
        z = z if where is None else jnp.where(where, z, math.copysign(math.inf, -factor))
        largest = float(jnp.finfo(z.dtype).max)
        s = jnp.where(jnp.isfinite(s), jnp.clip(s / factor, -largest, largest), s / factor)
    else:
        factors = scales(scale, extended.kept, x.dtype)
        absent = z == jnp.where(factors >= 0, -jnp.inf, jnp.inf)
        absent = absent if where is None else absent | ~where
        z, factor = jnp.where(absent, -jnp.inf, jnp.where(absent, 0.0, z) * factors), 1.0
    options = {"axis": extended.rows.axis, "where": None, "scale": factor, "empty": "zero"}
    y, y_sink = extended.split(maps.forward(SOFTMAX, extended.join(z, s), **options))
    y = y if where is None else jnp.where(where, y, 0.0)
    return y.astype(x.dtype), y_sink.astype(x.dtype)


def sink_product(
    kind: str, y: Any, y_sink: Any, v: Any, v_sink: Any, *, axis: Any, where: Any, scale: Any, out: Any = None
) -> tuple[jax.Array, jax.Array]:
    no_out(out)
    name = "dy" if kind == "vjp" else "dx"
    y, v = alike(**{"y": y, name: v})
    dtype, extended, where = y.dtype, Extended(y.shape, axis), mask(where, y.shape)
    of_y = per_row(y_sink, "y_sink", extended.kept, y.dtype)
    of_v = per_row(0.0 if v_sink is None else v_sink, f"{name}_sink", extended.kept, y.dtype)
    scale = scales(scale, extended.kept, y.dtype)
    if where is not None:
        y, v = jnp.where(where, y, 0.0), jnp.where(where, v, 0.0)
    if kind == "jvp":
        v, of_v = wide(v) * scale, wide(of_v)
        y, of_y = wide(y), wide(of_y)
    whole = extended.join(y, of_y), extended.join(v, of_v)
    options = {"axis": extended.rows.axis, "where": None, "scale": 1.0, "out": None}
    found, of_sink = extended.split(maps.product(SOFTMAX, kind, *whole, **options))
    if kind == "vjp":
        found = wide(found) * scale
    found = found if where is None else jnp.where(where, found, 0.0)
    return found.astype(dtype), of_sink.astype(dtype)


def sink_double_backward(
    y: Any, y_sink: Any, dy: Any, dy_sink: Any, v: Any, v_sink: Any, *, axis: Any, where: Any, scale: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    y, dy, v = alike(y=y, dy=dy, v=v)
    extended, where = Extended(y.shape, axis), mask(where, y.shape)
    scale = scales(scale, extended.kept, y.dtype)
    arrays = [wide(y), wide(dy), wide(v) * scale]
    if where is not None:
        arrays = [jnp.where(where, a, 0.0) for a in arrays]
    sinks = {"y_sink": y_sink, "dy_sink": dy_sink, "v_sink": v_sink}
    numbers = [
        per_row(0.0 if value is None else value, name, extended.kept, arrays[0].dtype)
        for name, value in sinks.items()
    ]
    whole = [extended.join(a, one) for a, one in zip(arrays, numbers, strict=True)]
    of_x, of_dy = maps.double_backward(SOFTMAX, *whole, axis=extended.rows.axis, scale=1.0)
    (grad_x, grad_sink), (grad_dy, grad_dy_sink) = extended.split(of_x), extended.split(of_dy)
    grads = grad_x * scale, grad_sink, grad_dy, grad_dy_sink
    return tuple(grad.astype(y.dtype) for grad in grads)  # type: ignore[return-value]


def scale_vjp(x: Any, y: Any, dy: Any, *, axis: Any, where: Any) -> jax.Array:
    """Σ (x − the winner)·J dy of each row."""
    x, y, dy = alike(x=x, y=y, dy=dy)
    rows, where = Rows(x.shape, axis), mask(where, x.shape)
    dx = maps.product(SOFTMAX, "vjp", wide(y), wide(dy), axis=axis, where=where, scale=1.0, out=None)
    has_part = y != 0 if where is None else (y != 0) & where
    axes = rows.axes if x.ndim else None
    top = jnp.max(jnp.where(has_part, wide(x), -jnp.inf), axes, keepdims=True, initial=-jnp.inf)
    terms = jnp.where(has_part, wide(x) - top, 0.0) * dx
    return jnp.sum(terms, axes, keepdims=True).astype(y.dtype)


def mean(y: Any, dy: Any, *, axis: Any, where: Any) -> jax.Array:
    """⟨y,dy⟩/⟨y,1⟩ of each row, from the dy of its largest y; 0 of an empty row."""
    y, dy = alike(y=y, dy=dy)
    rows, where = Rows(y.shape, axis), mask(where, y.shape)
    p, d = wide(y), wide(dy)
    if where is not None:
        p, d = jnp.where(where, p, 0.0), jnp.where(where, d, 0.0)
    p, d = rows.flat(p), rows.flat(d)
    weight = jnp.sum(p, rows.axis, keepdims=True)
    weight = jnp.where(weight == 0, 1.0, weight)
    reference = jnp.take_along_axis(d, jnp.argmax(p, rows.axis, keepdims=True), rows.axis)
    d = d - reference
    near = jnp.sum(p * d, rows.axis, keepdims=True) / weight
    rest = jnp.sum(p * (d - near), rows.axis, keepdims=True) / weight
    kept = checks.reduced_shape(y.shape, rows.axes, True)
    empty = jnp.all(p == 0, rows.axis, keepdims=True)
    return jnp.where(empty, 0.0, reference + (near + rest)).reshape(kept)


def vjp_of_mean(
    y: Any, dy: Any, mean: Any, *, axis: Any, where: Any, scale: Any, out: Any = None
) -> jax.Array:
    """scale·y∘(dy − mean)."""
    no_out(out)
    y, dy = alike(y=y, dy=dy)
    kept, where = Extended(y.shape, axis).kept, mask(where, y.shape)
    m = per_row(mean, "mean", kept, wide(y).dtype)
    scale = scales(scale, kept, y.dtype)
    dx = scale * (wide(y) * (wide(dy) - m))
    has_part = y != 0 if where is None else (y != 0) & where
    return jnp.where(has_part, dx, 0.0).astype(y.dtype)
