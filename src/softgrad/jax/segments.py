"""Segments of an axis: softmax and log_softmax are primitives, the reductions are made of them.

The number of each row's segment is an array, as `jax.ops.segment_sum` takes it.  16-bit types are computed in
float32.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import arrays, checks, threads
from ..specs import Map, Reduction
from . import primitives
from .arguments import alike, floating, mask, no_out, number
from .formulas import SegmentSums, reduction, wide


class Segments:
    """An axis that is cut into segments, as the functions are given it."""

    def __init__(
        self, shape: tuple[int, ...], offsets: Any, *, segment_ids: Any, num_segments: Any, axis: Any
    ) -> None:
        ids, count = segment_ids, num_segments
        cut = 0 if not shape and axis == 0 else checks.one_axis(axis, len(shape), "segments")
        self.shape, self.axis, n = shape, cut, shape[cut] if shape else 1
        if checks.are_numbered(offsets, ids, count):
            if not isinstance(ids, jax.core.Tracer):
                cuts, _ = checks.numbered_segments(np.asarray(ids), count, n)
                count = len(cuts) - 1
            elif count is None:
                raise TypeError("segment_ids are traced: give num_segments, which the shape depends on")
            self.ids, self.count = jnp.asarray(ids, jnp.int32), checks.whole(count, "num_segments")
        else:
            if not isinstance(offsets, jax.core.Tracer):
                offsets = checks.offsets(np.asarray(offsets), n)
            begins, rows = jnp.asarray(offsets, jnp.int32), jnp.arange(n, dtype=jnp.int32)
            self.ids = jnp.searchsorted(begins, rows, side="right").astype(jnp.int32) - 1
            self.count = begins.shape[0] - 1

    @property
    def sums(self) -> SegmentSums:
        return SegmentSums(self.ids, self.count)

    def front(self, a: jax.Array) -> jax.Array:
        """With the axis in front."""
        return jnp.moveaxis(a, self.axis, 0) if a.ndim else a.reshape(1)

    def back(self, a: jax.Array) -> jax.Array:
        return jnp.moveaxis(a, 0, self.axis) if self.shape else a.reshape(())

    def numbers(self) -> tuple[int, ...]:
        """The shape of one number for each segment."""
        return *self.shape[: self.axis], self.count, *self.shape[self.axis + 1 :]


def segment_forward(
    map: Map,
    x: Any,
    offsets: Any,
    *,
    where: Any,
    scale: Any,
    out: Any = None,
    **cut: Any,
) -> jax.Array:
    no_out(out)
    x = floating(x, "x")
    segments = Segments(x.shape, offsets, **cut)
    where, factor = mask(where, x.shape), number(scale, x.dtype)
    z = x if where is None else jnp.where(where, x, arrays.absent(factor))
    threads.ran("formulas", f"segment_{map.forward}")
    options = {"name": map.name, "count": segments.count, "scale": factor}
    y = segments.back(primitives.segment_forward.bind(segments.front(z), segments.ids, **options))
    return y if where is None else jnp.where(where, y, map.absent)


def segment_product(
    map: Map,
    kind: str,
    y: Any,
    v: Any,
    offsets: Any,
    *,
    where: Any,
    scale: Any,
    out: Any = None,
    **cut: Any,
) -> jax.Array:
    no_out(out)
    y, v = alike(**{"y": y, "dy" if kind == "vjp" else "dx": v})
    segments = Segments(y.shape, offsets, **cut)
    where = mask(where, y.shape)
    if where is not None:
        y, v = jnp.where(where, y, map.absent), jnp.where(where, v, 0.0)
    threads.ran("formulas", f"segment_{map.vjp if kind == 'vjp' else map.jvp}")
    found = primitives.segment_product.bind(
        *(segments.front(y), segments.front(v), segments.ids),
        **{"name": map.name, "count": segments.count, "scale": number(scale, y.dtype), "kind": kind},
    )
    found = segments.back(found)
    return found if where is None else jnp.where(where, found, 0.0)


def segment_double_backward(
    map: Map, y: Any, dy: Any, v: Any, offsets: Any, **options: Any
) -> tuple[jax.Array, jax.Array]:
    y, dy, v = alike(y=y, dy=dy, v=v)

    def product(kind: str, y: jax.Array, v: jax.Array) -> jax.Array:
        return segment_product(map, kind, y, v, offsets, where=None, **options)

    (by_y,) = jax.vjp(lambda y: product("vjp", y, dy), y)[1](v)
    return product("vjp", y, by_y), product("jvp", y, v)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def reduced(x: jax.Array, ids: jax.Array, of_entropy: bool, count: int, scale: float) -> jax.Array:
    """log Σ exp(scale·x), or the entropy, of each segment of the first axis."""
    return reduction(of_entropy, x, SegmentSums(ids, count), scale)


@reduced.defjvp
def reduced_jvp(of_entropy: bool, count: int, scale: float, primals: Any, tangents: Any) -> Any:
    (x, ids), (dx, _) = primals, tangents
    s = slope(x, ids, of_entropy, count, scale)
    terms = jnp.where(s == 0, 0.0, s * wide(dx))
    along = SegmentSums(ids, count).sums(terms).astype(x.dtype)
    return reduced(x, ids, of_entropy, count, scale), along


def slope(x: jax.Array, ids: jax.Array, of_entropy: bool, count: int, scale: float) -> jax.Array:
    """The derivative by each x: scale·p, or −scale·J(scale·x)."""
    options = {"name": "softmax", "count": count, "scale": scale}
    p = primitives.segment_forward.bind(wide(x), ids, **options)
    if of_entropy:
        z = jnp.where(p == 0, 0.0, wide(x))
        return -scale * primitives.segment_product.bind(p, z, ids, kind="vjp", **options)
    return scale * p


def segment_reduce(
    spec: Reduction,
    x: Any,
    offsets: Any,
    *,
    where: Any,
    scale: Any,
    **cut: Any,
) -> jax.Array:
    x = floating(x, "x")
    segments = Segments(x.shape, offsets, **cut)
    where, factor = mask(where, x.shape), number(scale, x.dtype)
    z = x if where is None else jnp.where(where, x, arrays.absent(factor))
    threads.ran("formulas", f"segment_{spec.name}")
    found = reduced(segments.front(z), segments.ids, spec.of_entropy, segments.count, factor)
    return found.reshape(segments.numbers()) if not x.ndim else jnp.moveaxis(found, 0, segments.axis)


def segment_reduce_vjp(
    spec: Reduction,
    x: Any,
    dy: Any,
    offsets: Any,
    *,
    where: Any,
    scale: Any,
    out: Any = None,
    **cut: Any,
) -> jax.Array:
    no_out(out)
    x, dy = floating(x, "x"), floating(dy, "dy")
    dtype = jnp.promote_types(x.dtype, dy.dtype)
    segments = Segments(x.shape, offsets, **cut)
    if dy.shape != segments.numbers():
        raise ValueError(
            f"dy has shape {dy.shape}; it takes one number for each segment: give shape {segments.numbers()}"
        )
    where, factor = mask(where, x.shape), number(scale, dtype)
    z = x.astype(dtype) if where is None else jnp.where(where, x.astype(dtype), arrays.absent(factor))
    threads.ran("formulas", f"segment_{spec.name}_vjp")
    s = slope(segments.front(z), segments.ids, spec.of_entropy, segments.count, factor)
    of_rows = (segments.front(dy) if x.ndim else dy)[segments.ids]
    found = segments.back((s * wide(of_rows)).astype(dtype))
    return found if where is None else jnp.where(where, found, 0.0)
