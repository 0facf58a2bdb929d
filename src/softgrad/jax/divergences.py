"""Divergences, the losses of entmax, the entropy of probabilities and the diagonal of a Hessian.

They are the formulas of softgrad.formulas in `jax.numpy`, and their derivatives are JAX's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import checks, formulas, specs
from ..specs import SOFTMAX, Divergence, Map
from . import maps
from .arguments import Rows, alike, floating, mask, no_out, number
from .formulas import Sums, differences, wide
from .losses import pullback_of, reduced, scored


def not_negative(p: jax.Array, name: str, instead: str) -> None:
    """Refuse what is no probability; of a tracer nothing is known."""
    if not isinstance(p, jax.core.Tracer):
        checks.probabilities(np.asarray(p), name, instead)


def in_front(rows: Rows, a: jax.Array) -> jax.Array:
    """Rows along the last axis, in the type that is computed in."""
    return jnp.moveaxis(rows.flat(wide(a)), rows.axis, -1)


# --- divergences --------------------------------------------------------------------------------------


def of_rows(
    spec: Divergence, x: jax.Array, target: jax.Array, probs: bool, scale: float, where: jax.Array | None
) -> jax.Array:
    """The divergence of rows along the last axis."""
    sums = Sums(-1, None)

    def logs(z: jax.Array) -> jax.Array:
        return differences(z if where is None else jnp.where(where, z, -jnp.inf), sums, scale)[0]

    a = logs(x)
    if probs:
        w = target if where is None else jnp.where(where, target, 0.0)
        w = jnp.where(w == 0, 0.0, w)  # without a derivative: the support convention
        b = jnp.where(w == 0, -jnp.inf, jnp.log(jnp.where(w == 0, 1.0, w)))
    else:
        b = logs(target)
        w = jnp.exp(b)
    e = jnp.exp(a)
    some = (jnp.sum(e, -1, keepdims=True) != 0) & (jnp.sum(w, -1, keepdims=True) != 0)
    a, b = jnp.where(some, a, -jnp.inf), jnp.where(some, b, -jnp.inf)
    p, t, d = formulas.log_ratio(a, jnp.where(some, e, 0.0), b, jnp.where(some, w, 0.0), jnp)
    if spec is specs.JS:
        return formulas.js_divergence(p, t, d, jnp)
    first, second, d = (t, p, d) if spec is specs.KL else (p, t, -d)
    return formulas.kl_divergence(first, second, d, jnp)


def divergence(
    spec: Divergence,
    x: Any,
    target: Any,
    probs: bool,
    *,
    axis: Any,
    where: Any,
    temperature: Any,
    keepdims: bool,
) -> jax.Array:
    name = "target_probs" if probs else "target_logits"
    x, target = alike(**{"x": x, name: target})
    if probs:
        not_negative(target, name, "target_logits")
    rows, where = Rows(x.shape, axis), mask(where, x.shape)
    there = None if where is None else jnp.moveaxis(rows.flat(where), rows.axis, -1)
    scale = checks.inverse_temperature(temperature)
    value = of_rows(spec, in_front(rows, x), in_front(rows, target), probs, scale, there)
    return value.reshape(rows.numbers(keepdims)).astype(x.dtype)


def divergence_vjp(
    spec: Divergence, x: Any, dy: Any, target: Any, probs: bool, **options: Any
) -> tuple[jax.Array, jax.Array]:
    name = "target_probs" if probs else "target_logits"
    x, target = alike(**{"x": x, name: target})
    value, pullback = jax.vjp(lambda x, t: divergence(spec, x, t, probs, **options, keepdims=True), x, target)
    dx, dtarget = pullback(for_rows(dy, x, options["axis"], value))
    return dx, dtarget


def for_rows(dy: Any, x: jax.Array, axis: Any, value: jax.Array) -> jax.Array:
    """dy with the axes at length 1."""
    given, rows = floating(dy, "dy"), Rows(x.shape, axis)
    kept, short = rows.numbers(), rows.numbers(keepdims=False)
    checks.for_each_row(np.zeros(given.shape, np.bool_), x.shape, short, kept)
    return given.reshape(kept).astype(value.dtype)


# --- the entropy of probabilities ---------------------------------------------------------------------


def entropy_of_probabilities(p: Any, *, axis: Any, where: Any, keepdims: bool) -> jax.Array:
    p = floating(p, "p")
    not_negative(p, "p", "them to entropy")
    rows, where = Rows(p.shape, axis), mask(where, p.shape)
    weights = p if where is None else jnp.where(where, p, 0.0)
    value = formulas.entropy_of_probabilities(in_front(rows, weights), jnp)
    return value.reshape(rows.numbers(keepdims)).astype(p.dtype)


def entropy_of_probabilities_vjp(p: Any, dy: Any, *, axis: Any, where: Any, out: Any) -> jax.Array:
    no_out(out)
    p, options = floating(p, "p"), {"axis": axis, "where": where, "keepdims": True}
    value, pullback = jax.vjp(lambda p: entropy_of_probabilities(p, **options), p)
    (dp,) = pullback(for_rows(dy, p, axis, value))
    return dp


# --- the diagonal of a Hessian ------------------------------------------------------------------------


def hessian_diagonal(y: Any, dy: Any, h: Any, *, axis: Any, where: Any, scale: Any, out: Any) -> jax.Array:
    no_out(out)
    y, dy, *others = alike(**{"y": y, "dy": dy} | ({} if h is None else {"h": h}))
    rows, where, factor = Rows(y.shape, axis), mask(where, y.shape), number(scale, y.dtype)
    options = {"axis": axis, "where": where, "scale": factor, "out": None}
    dx = maps.product(SOFTMAX, "vjp", wide(y), wide(dy), **options)
    y_there, *others = (a if where is None else jnp.where(where, a, 0.0) for a in (y, *others))
    given = [in_front(rows, a) for a in (y_there, dx, *others)]
    h = given[2] if others else None
    found = formulas.softmax_hessian_diagonal(given[0], given[1], h, factor, jnp)
    return rows.restore(jnp.moveaxis(found, -1, rows.axis)).astype(y.dtype)


# --- the losses of sparsemax and entmax ---------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def loss_of_rows(map: Map, x: jax.Array, t: jax.Array) -> jax.Array:
    """The loss of rows along the last axis."""
    if map.alpha is None:
        return of_rows(specs.KL, x, t, True, 1.0, None)
    y = of_map(map, x)
    value = formulas.fenchel_young(x, t, y, map.alpha, jnp)
    return jnp.where(jnp.max(y, -1, initial=0.0) == 0, 0.0, value)  # 0 of an empty row


def of_map(map: Map, x: jax.Array) -> jax.Array:
    return maps.forward(map, x, axis=-1, where=None, scale=1.0, empty="zero")


@loss_of_rows.defjvp
def loss_jvp(map: Map, primals: Any, tangents: Any) -> Any:
    """⟨y − t, dx⟩, and what a tangent of the target adds, up to a number that its row shares."""
    (x, t), (dx, dt) = primals, tangents
    y, absent = of_map(map, x), x == -jnp.inf
    if map.alpha is None:
        log_p = maps.forward(specs.LOG_SOFTMAX, x, axis=-1, where=None, scale=1.0, empty="zero")
        slope = jnp.where(t == 0, 0.0, jnp.log(jnp.where(t == 0, 1.0, t)) - jnp.where(absent, 0.0, log_p))
    else:
        power = map.alpha - 1
        of_y, of_t = (jnp.where(a > 0, jnp.where(a > 0, a, 1.0) ** power, 0.0) for a in (y, t))
        below = formulas.threshold_distance(jnp.where(absent, 0.0, x), y, map.alpha, jnp)
        slope = (of_t - of_y + jnp.where(y > 0, 0.0, below)) / power
    slope = jnp.where(absent, 0.0, slope)
    by_x = jnp.where(jnp.all(y == 0, -1, keepdims=True), 0.0, y - t)  # 0 in an empty row
    return loss_of_rows(map, x, t), jnp.sum(by_x * dx + slope * dt, -1)


def fenchel_young(
    map: Map, x: Any, target: Any, *, axis: Any, where: Any, ignore_index: Any, reduction: Any
) -> jax.Array:
    checks.reduction(reduction)
    x, t, counted, axis, classes = scored(x, target, axis, ignore_index)
    if not classes:
        not_negative(t, "target", "classes as integers")
    where = mask(where, x.shape)
    if where is not None:
        x = jnp.where(where, x, -jnp.inf)
        t = t if classes else jnp.where(where, t, 0.0)
    of_x, of_t = (jnp.moveaxis(jnp.atleast_1d(a), axis, -1) for a in (wide(x), t))
    losses = loss_of_rows(map, of_x, of_t)
    losses = losses if counted is None else jnp.where(counted, losses, 0.0)
    return reduced(losses if x.ndim else losses.reshape(()), counted, reduction, x.dtype)


def fenchel_young_with_vjp(
    map: Map, x: Any, target: Any, **options: Any
) -> tuple[jax.Array, Callable[..., jax.Array]]:
    return pullback_of(lambda x: fenchel_young(map, x, target, **options), x)
