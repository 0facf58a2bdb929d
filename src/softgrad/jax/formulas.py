"""The maps and their products made of JAX's operations.

They run where there are no kernels (GPUs, TPUs), and a derivative of a product by y is taken of them.  Each
works along one axis, counted from the last.  16-bit types are computed in float32, and rounded once.

A mean is taken off from a reference first, and then twice more: the second time it is 0 but for rounding,
whatever y and v are, so that no derivative of any order changes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .. import specs
from ..formulas import PSI
from ..specs import MAPS, Map


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums and maxima of rows along an axis, and along a mesh axis too."""

    axis: int
    axis_name: Any = None

    def sums(self, v: jax.Array) -> jax.Array:
        """One of each row."""
        found = self.sums_here(v)
        return found if self.axis_name is None else lax.psum(found, self.axis_name)

    def tops(self, v: jax.Array) -> jax.Array:
        """The largest of each row."""
        found = self.tops_here(v)
        return found if self.axis_name is None else lax.pmax(found, self.axis_name)

    def total(self, v: jax.Array) -> jax.Array:
        return self.spread(self.sums(v))

    def top(self, v: jax.Array) -> jax.Array:
        return self.spread(self.tops(v))

    def spread(self, numbers: jax.Array) -> jax.Array:
        """One number for each row, so that it broadcasts to the elements."""
        return numbers

    def sums_here(self, v: jax.Array) -> jax.Array:
        return jnp.sum(v, self.axis, keepdims=True)

    def tops_here(self, v: jax.Array) -> jax.Array:
        return jnp.max(v, self.axis, keepdims=True, initial=-jnp.inf)


@dataclasses.dataclass(frozen=True)
class SegmentSums(Sums):
    """The same of the segments that the axis is cut into."""

    ids: Any = None  # the number of the segment of each element
    segments: int = 0

    def spread(self, numbers: jax.Array) -> jax.Array:
        return jnp.take(numbers, self.ids, self.axis, mode="clip")

    def sums_here(self, v: jax.Array) -> jax.Array:
        return self.in_front(jax.ops.segment_sum, v)

    def tops_here(self, v: jax.Array) -> jax.Array:
        return self.in_front(jax.ops.segment_max, v)

    def in_front(self, reduce: Any, v: jax.Array) -> jax.Array:
        return jnp.moveaxis(reduce(jnp.moveaxis(v, self.axis, 0), self.ids, self.segments), 0, self.axis)


def sums_of(ids: tuple[Any, ...], *, axis: int, axis_name: Any, segments: int | None) -> Sums:
    """Of rows; or, if their ids are given, of segments."""
    return Sums(axis, axis_name) if segments is None else SegmentSums(axis, axis_name, ids[0], segments)


def wide(x: jax.Array) -> jax.Array:
    """In the type that it is computed in."""
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


def map_of(name: str, alpha: float | None) -> Map:
    """The row of the table."""
    return specs.entmax(alpha) if alpha is not None and name == "entmax" else MAPS[name]


def differences(x: jax.Array, sums: Sums, scale: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """scale·(x − the largest), which is −inf where x has no part; and whether it has, and its row."""
    z = wide(x)
    absent = z == (-jnp.inf if scale >= 0 else jnp.inf)
    sign = -1.0 if scale < 0 else 1.0
    z = jnp.where(absent, -jnp.inf, sign * z)
    top = sums.top(z)
    some = top != -jnp.inf
    top, factor = jnp.where(some, top, 0.0), abs(scale)
    d = z - top
    t = jnp.where(d == -jnp.inf, (z * 0.5 - top * 0.5) * (2 * factor), d * factor)  # it may overflow
    return jnp.where(absent, -jnp.inf, t), ~absent, some


def forward(spec: Map, x: jax.Array, sums: Sums, scale: float, empty: str) -> jax.Array:
    """y of a map."""
    t, _, some = differences(x, sums, scale)
    if spec.name == "softmax":
        e = jnp.exp(t)
        y = e / jnp.where(some, sums.total(e), 1.0)
    elif spec.name == "log_softmax":
        y = t - jnp.log(jnp.where(some, sums.total(jnp.exp(t)), 1.0))
    else:
        assert spec.alpha is not None
        y = entmax(jnp.where(some, t, 0.0), sums, spec.alpha)
    nothing = jnp.nan if empty == "nan" else spec.absent
    return jnp.where(some, y, nothing).astype(x.dtype)


def entmax(t: jax.Array, sums: Sums, alpha: float) -> jax.Array:
    """y = max((α−1)·t − τ, 0)^(1/(α−1)): τ by bisection, which float32 has enough of after 40 steps."""
    z, power = (alpha - 1) * t, 1 / (alpha - 1)

    def weights(tau: jax.Array) -> jax.Array:
        room = z - tau
        return jnp.where(room > 0, jnp.where(room > 0, room, 1.0) ** power, 0.0)

    def halve(_: Any, between: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = between
        middle = (low + high) / 2
        enough = sums.total(weights(middle)) >= 1
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    high = sums.top(z)
    low, _ = lax.fori_loop(0, 40 if z.dtype == jnp.float32 else 64, halve, (high - 1, high))
    y = weights(low)
    return y / sums.total(y)


def with_alpha(alpha: Any) -> Map:
    """The row of the table for an alpha that is an array."""
    return dataclasses.replace(specs.entmax(), alpha=alpha)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def entmax_of_alpha(x: jax.Array, alpha: jax.Array, sums: Sums, scale: float, empty: str) -> jax.Array:
    """y of an alpha that is traced, or has a gradient; it is above 1."""
    return forward(with_alpha(alpha), x, sums, scale, empty)


@entmax_of_alpha.defjvp
def entmax_of_alpha_jvp(sums: Sums, scale: float, empty: str, primals: Any, tangents: Any) -> Any:
    """J dx, and J ψ dα."""
    (x, alpha), (dx, dalpha) = primals, tangents
    y = entmax_of_alpha(x, alpha, sums, scale, empty)
    spec = with_alpha(alpha)
    of_alpha = product(spec, "jvp", y, psi(y, alpha) * dalpha, sums, 1.0)
    return y, product(spec, "jvp", y, dx, sums, scale) + of_alpha


def weights(spec: Map, y: jax.Array) -> jax.Array:
    """s(y) of J = diag(s) − s sᵀ/⟨s,1⟩: y for softmax, y^(2−α) on the support for entmax; or exp(y)."""
    if spec.name == "log_softmax":
        return jnp.exp(y)
    if spec.alpha is None:
        return y
    support = y > 0
    return jnp.where(support, jnp.where(support, y, 1.0) ** (2 - spec.alpha), 0.0 * y)


def centred(s: jax.Array, v: jax.Array, sums: Sums, transposed: bool) -> jax.Array:
    """v − its mean by the weights s; JAX may transpose it, or an offset in v costs derivatives no digits."""
    weight = sums.total(s)
    weight = jnp.where(weight == 0, 1.0, weight)
    mean = sums.total(s * v) / weight
    v = v - (mean if transposed else lax.stop_gradient(mean))
    v = v - sums.total(s * v) / weight
    return v - sums.total(s * v) / weight


def product(spec: Map, kind: str, y: jax.Array, v: jax.Array, sums: Sums, scale: float) -> jax.Array:
    """The product of v with the Jacobian at y, from the left for kind "vjp", from the right for "jvp"."""
    logarithmic = spec.name == "log_softmax"
    p, u = wide(y), wide(v)
    present = p != spec.absent
    if not logarithmic:  # a NaN counts where y is 0, too, but not in an empty row
        present = sums.top(jnp.where(present, 1.0, 0.0)) > 0
    u = jnp.where(present, u, 0.0)
    s = weights(spec, p)
    if logarithmic and kind == "vjp":
        result = u - s * sums.total(u)
    else:
        result = centred(s, u, sums, transposed=isinstance(spec.alpha, jax.Array))
        result = result if logarithmic else s * result
    return jnp.where(present, scale * result, 0.0).astype(y.dtype)


def reduction(of_entropy: bool, x: jax.Array, sums: Sums, scale: float) -> jax.Array:
    """log Σ exp(scale·x), or the entropy: of rows with the axis at length 1, or of each segment."""
    t, present, _ = differences(x, sums, scale)
    e = jnp.where(present, jnp.exp(t), 0.0)
    top = sums.tops(jnp.where(present, wide(x) * scale, -jnp.inf))
    some = top != -jnp.inf
    total = jnp.where(some, sums.sums(e), 1.0)
    if of_entropy:
        found = jnp.log(total) - sums.sums(e * jnp.where(e == 0, 0.0, t)) / total
        return jnp.where(some, found, 0.0).astype(x.dtype)
    found = jnp.where(some, jnp.log(total) + jnp.where(some, top, 0.0), -jnp.inf)
    return jnp.where(top == jnp.inf, jnp.inf, found).astype(x.dtype)


def psi(y: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """ψ, with which ∂y/∂α = J ψ for entmax: −(log y)²·g((α−1)·log y), g(t) = (1 − eᵗ(1 − t))/t²."""
    log = jnp.log(jnp.where(y > 0, y, 1.0))
    t = (alpha - 1) * log
    near = jnp.abs(t) < 1
    large = jnp.where(near, 1.0, t)
    series = jnp.polyval(jnp.asarray(PSI[::-1], t.dtype), jnp.where(near, t, 0.0))
    g = jnp.where(near, series, (1 - jnp.exp(large) * (1 - large)) / large**2)
    return -g * log * log
