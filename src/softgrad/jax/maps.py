"""The maps and the reductions for JAX arrays: check the arguments, make one axis of several, bind.

A mask is a `jnp.where` before and after: its derivatives are JAX's.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import arrays, checks, specs, threads
from ..specs import Map, Reduction
from . import formulas, primitives
from .arguments import Rows, alike, floating, is_number, mask, no_out, number, per_row
from .lowering import has_kernels


def ran(name: str, x: Any, rows: Rows) -> None:
    """Add to the record of `softgrad.explain`."""
    platforms = {jax.default_backend()}
    if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
        platforms = {device.platform for device in x.devices()}
    by_kernels = platforms == {"cpu"} and has_kernels(x)
    threads.ran("numba" if by_kernels else "formulas", f"segment_{name}" if rows.ids else name)


# --- the maps -----------------------------------------------------------------------------------------


def parameters(map: Map) -> dict[str, Any]:
    return {"name": map.name, "alpha": map.alpha if map.parameters else None}


def entmax(alpha: Any) -> Map:
    """The row of the table for an alpha that is one number."""
    if isinstance(alpha, jax.core.Tracer):
        raise TypeError("alpha is traced, which softgrad.jax.entmax alone takes: give a number here")
    return specs.entmax(checks.alpha(float(alpha) if isinstance(alpha, jax.Array) else alpha))


def forward(
    map: Map,
    x: Any,
    *,
    axis: Any,
    where: Any,
    scale: Any,
    empty: Any,
    out: Any = None,
    axis_name: Any = None,
) -> jax.Array:
    no_out(out)
    x = floating(x, "x")
    rows, where = Rows(x.shape, axis), mask(where, x.shape)
    checks.choice(empty)
    if not is_number(scale) and not rows.ids:
        if axis_name is not None:
            raise TypeError("beside an axis_name the scale is one number: give scale * x")
        options = {"axis": axis, "where": where, "scale": 1.0, "empty": empty}
        return forward(map, scaled(x, scale, where, rows), **options).astype(x.dtype)
    factor = number(scale, x.dtype)
    absent = arrays.absent(factor)
    z = x if where is None else jnp.where(where, x, absent)
    some = None
    if empty != "zero":
        some = (z != absent).any(rows.axes if x.ndim else None, keepdims=True)
        some = some if axis_name is None else jax.lax.pmax(some.astype(jnp.int32), axis_name) > 0
        if empty == "raise" and x.size:
            refuse_empty(some)
    kind = "nan" if empty == "nan" else "zero"
    if isinstance(map.alpha, jax.Array):
        threads.ran("formulas", map.forward)
        sums, z = formulas.Sums(rows.axis, axis_name), formulas.wide(rows.flat(z))
        y = formulas.entmax_of_alpha(z, map.alpha.astype(z.dtype), sums, factor, kind).astype(x.dtype)
    else:
        ran(map.forward, x, rows)
        options = {"axis_name": axis_name, "scale": factor, "empty": kind, **rows.parameters}
        y = primitives.forward.bind(rows.flat(z), *rows.ids, **options, **parameters(map))
    y = rows.restore(y)
    if where is None:
        return y
    return jnp.where(where if some is None or kind == "zero" else where | ~some, y, map.absent)


def refuse_empty(some: jax.Array) -> None:
    if isinstance(some, jax.core.Tracer):
        raise ValueError(
            "empty='raise' asks about values, which jax.jit and other transforms do not have: call the "
            "function outside of them, or give empty='zero' or empty='nan'"
        )
    if not some.all():
        raise ValueError(checks.EMPTY_ROW)


def scaled(x: jax.Array, scale: Any, where: Any, rows: Rows) -> jax.Array:
    """scale·(x − the winner of its row), for a scale that is an array; an offset costs no digits."""
    factor = per_row(scale, "scale", checks.reduced_shape(x.shape, rows.axes, True), formulas.wide(x).dtype)
    z, axes = formulas.wide(x), rows.axes if x.ndim else None
    up = factor >= 0
    absent = z == jnp.where(up, -jnp.inf, jnp.inf)
    absent = absent if where is None else absent | ~where
    largest = jnp.max(jnp.where(absent, -jnp.inf, z), axes, keepdims=True, initial=-jnp.inf)
    least = jnp.min(jnp.where(absent, jnp.inf, z), axes, keepdims=True, initial=jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(up, largest, least))
    top = jnp.where(jnp.isinf(top), 0.0, top)
    d = jnp.where(absent, 0.0, z - top)
    halves = jnp.where(absent, 0.0, z * 0.5 - top * 0.5)  # where the difference overflows
    t = jnp.where(jnp.isinf(d), halves * (2 * factor), jnp.where(jnp.isinf(d), 0.0, d) * factor)
    return jnp.where(absent, -jnp.inf, t)


def product(map: Map, kind: str, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> jax.Array:
    no_out(out)
    y, v = alike(**{"y": y, "dy" if kind == "vjp" else "dx": v})
    rows, where = Rows(y.shape, axis), mask(where, y.shape)
    if not is_number(scale) and not rows.ids:
        unscaled = formulas.wide(product(map, kind, y, v, axis=axis, where=where, scale=1.0, out=None))
        kept = checks.reduced_shape(y.shape, rows.axes, True)
        return (unscaled * per_row(scale, "scale", kept, unscaled.dtype)).astype(y.dtype)
    if where is not None:
        y, v = jnp.where(where, y, map.absent), jnp.where(where, v, 0.0)
    ran(map.vjp if kind == "vjp" else map.jvp, y, rows)
    options = {"axis_name": None, "scale": number(scale, y.dtype), **rows.parameters, **parameters(map)}
    found = primitives.product.bind(rows.flat(y), rows.flat(v), *rows.ids, kind=kind, **options)
    found = rows.restore(found)
    return found if where is None else jnp.where(where, found, 0.0)


def double_backward(
    map: Map, y: Any, dy: Any, v: Any, *, axis: Any, scale: Any, out: Any = None
) -> tuple[jax.Array, jax.Array]:
    no_out(out)
    y, dy, v = alike(y=y, dy=dy, v=v)
    options = {"axis": axis, "where": None, "scale": scale, "out": None}

    def vjp(y: jax.Array) -> jax.Array:
        return product(map, "vjp", y, dy, **options)

    (by_y,) = jax.vjp(vjp, y)[1](v)
    return product(map, "vjp", y, by_y, **options), product(map, "jvp", y, v, **options)


def alpha_vjp(y: Any, dy: Any, alpha: Any, *, axis: Any, where: Any) -> jax.Array:
    """Σ dx·ψ for each row: with dx = J dy it is ⟨dy, ∂y/∂α⟩, since ∂y/∂α = J ψ (see `formulas.psi`)."""
    y, dy = alike(y=y, dy=dy)
    dx = product(entmax(checks.alpha(alpha)), "vjp", y, dy, axis=axis, where=where, scale=1.0, out=None)
    psi = formulas.psi(formulas.wide(y), float(alpha))
    total = jnp.sum(formulas.wide(dx) * psi, Rows(y.shape, axis).axes if y.ndim else None)
    return total.astype(y.dtype)


# --- the reductions -----------------------------------------------------------------------------------


def reduce(
    reduction: Reduction,
    x: Any,
    *,
    axis: Any,
    where: Any,
    scale: Any,
    keepdims: bool,
    out: Any = None,
    axis_name: Any = None,
) -> jax.Array:
    no_out(out)
    x = floating(x, "x")
    rows, where = Rows(x.shape, axis), mask(where, x.shape)
    factor = number(scale, x.dtype)
    z = x if where is None else jnp.where(where, x, arrays.absent(factor))
    ran(reduction.name, x, rows)
    options = {"name": reduction.name, "axis_name": axis_name, "scale": factor, **rows.parameters}
    return primitives.reduce.bind(rows.flat(z), *rows.ids, **options).reshape(rows.numbers(keepdims))


def reduce_vjp(
    reduction: Reduction, x: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Any
) -> jax.Array:
    no_out(out)
    x, dy = floating(x, "x"), floating(dy, "dy")
    rows, where = Rows(x.shape, axis), mask(where, x.shape)
    kept, short = rows.numbers(), rows.numbers(keepdims=False)
    if dy.shape not in (kept, short):
        what = f"row of x, which has shape {x.shape}" if rows.segments is None else "segment"
        shapes = f"{short} or {kept}" if rows.segments is None else short
        raise ValueError(f"dy has shape {dy.shape}; it takes one number for each {what}: give shape {shapes}")
    factor, dtype = number(scale, x.dtype), jnp.promote_types(x.dtype, dy.dtype)
    z, dy = x.astype(dtype), dy.astype(dtype).reshape(kept)
    z = z if where is None else jnp.where(where, z, arrays.absent(factor))
    ran(f"{reduction.name}_vjp", x, rows)
    options = {"name": reduction.name, "axis_name": None, "scale": factor, **rows.parameters}
    found = primitives.slope.bind(rows.flat(z), rows.flat(dy), *rows.ids, **options)
    found = rows.restore(found)
    return found if where is None else jnp.where(where, found, 0.0)


# --- segments -----------------------------------------------------------------------------------------

segment_forward = arrays.in_segments(forward, empty="zero")
segment_product = arrays.in_segments(product)
segment_double_backward = arrays.in_segments(double_backward)
segment_reduce = arrays.in_segments(reduce, keepdims=True)
segment_reduce_vjp = arrays.in_segments(reduce_vjp)
