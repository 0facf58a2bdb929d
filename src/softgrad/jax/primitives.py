"""The primitives: a forward and a product for the maps, a forward and a vjp for the reductions.

What JAX asks of one stands below it: the shape, the tangent, the transpose, the batch, the lowering.  A
product is linear in v, and its transpose is the product from the other side; so every transform follows, of
every order.  On the CPU a primitive is a call of a kernel (lowering.py), elsewhere the formulas.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import arrays
from ..specs import MAPS, REDUCTIONS
from . import formulas
from .formulas import SegmentSums, Sums
from .lowering import by_kernel, partitioned, with_kernels
from .private import (
    Primitive,
    ad,
    asks_for_devices,
    batching,
    mlir,
    with_length_1,
)

STATIC = "name", "alpha", "axis", "axis_name", "scale", "empty", "kind", "count"


# --- what JAX asks ------------------------------------------------------------------------------------


def define(
    name: str,
    formula: Callable[..., Any],
    shape: Callable[..., Any],
    roles: str = "",
    absent: Callable[..., tuple[float, ...]] | None = None,
    kernel: Callable[..., Any] | None = None,
) -> Any:
    """A primitive of arrays along one axis, all of which a batch may be put in front of.

    On the CPU it is the kernel, if there is one and this machine has the instructions for it.
    `roles` has an n for each array that has the elements of the rows and an o for one that has 1 in place of
    the axis, those that are read first; without it the arrays are not divided among devices.  `absent` says
    what has no part in each array that is read, of the parameters.
    """
    primitive = Primitive(f"softgrad_{name}")
    jitted = jax.jit(primitive.bind, static_argnames=STATIC)

    def impl(*arrays: Any, **params: Any) -> Any:
        with jax.disable_jit(False):  # or it would come back here
            return jitted(*arrays, **params)

    primitive.def_impl(impl)
    primitive.def_abstract_eval(shape)
    for function, platform in ((formula, None), (with_kernels(kernel or formula, formula), "cpu")):
        lowered = partitioned(function, formula, roles, absent) if roles else function
        rule = mlir.lower_fun(lowered, multiple_results=False)
        mlir.register_lowering(primitive, rule, platform=platform)
    if roles:
        asks_for_devices.add(primitive)

    def batch(arrays: Any, dims: Any, **params: Any) -> Any:
        size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
        front = [batching.bdim_at_front(a, d, size) for a, d in zip(arrays, dims, strict=True)]
        return primitive.bind(*front, **params), 0

    batching.primitive_batchers[primitive] = batch
    return primitive


def first(x: Any, *_: Any, **__: Any) -> Any:
    """The type of a result that is that of the first array."""
    return x.update(weak_type=False)


def reduced(x: Any, *_: Any, axis: int, axis_name: Any, **__: Any) -> Any:
    return with_length_1(x, axis, axis_name)


def linear_jvp(primitive: Any, formula: Callable[..., Any]) -> Callable[..., Any]:
    """The tangent of a primitive that is linear in its second array."""

    def rule(primals: Any, tangents: Any, **params: Any) -> Any:
        (x, v, *ids), (of_x, of_v, *_) = primals, tangents
        parts = []
        if not isinstance(of_v, ad.Zero):
            parts.append(primitive.bind(x, of_v, *ids, **params))
        if not isinstance(of_x, ad.Zero):
            parts.append(jax.jvp(lambda x: formula(x, v, *ids, **params), (x,), (of_x,))[1])
        return primitive.bind(x, v, *ids, **params), functools.reduce(jnp.add, parts)

    return rule


# --- the maps -----------------------------------------------------------------------------------------


def forward_formula(
    x: Any, *, name: str, alpha: Any, axis: int, axis_name: Any, scale: float, empty: str
) -> Any:
    return formulas.forward(formulas.map_of(name, alpha), x, Sums(axis, axis_name), scale, empty)


def forward_kernel(x: Any, *, name: str, alpha: Any, axis: int, scale: float, empty: str, **_: Any) -> Any:
    spec = formulas.map_of(name, alpha)
    return by_kernel(spec.forward, x, axis=axis, scale=scale, empty=empty, more=spec.more)


def product_formula(
    y: Any, v: Any, *, name: str, alpha: Any, axis: int, axis_name: Any, scale: float, kind: str
) -> Any:
    return formulas.product(formulas.map_of(name, alpha), kind, y, v, Sums(axis, axis_name), scale)


def product_kernel(
    y: Any, v: Any, *, name: str, alpha: Any, axis: int, scale: float, kind: str, **_: Any
) -> Any:
    spec = formulas.map_of(name, alpha)
    return by_kernel(spec.vjp if kind == "vjp" else spec.jvp, y, v, axis=axis, scale=scale, more=spec.more)


forward = define(
    *("forward", forward_formula, first, "nn", lambda scale, **_: (arrays.absent(scale),)),
    kernel=forward_kernel,
)
product = define(
    *("product", product_formula, first, "nnn", lambda name, **_: (MAPS[name].absent, 0.0)),
    kernel=product_kernel,
)


def forward_jvp(primals: Any, tangents: Any, *, empty: str, **params: Any) -> Any:
    (x,), (dx,) = primals, tangents
    y = forward.bind(x, empty=empty, **params)
    return y, product.bind(y, ad.instantiate_zeros(dx), kind="jvp", **params)


def product_transpose(primitive: Any) -> Callable[..., Any]:
    def rule(g: Any, y: Any, v: Any, *ids: Any, kind: str, **params: Any) -> Any:
        if isinstance(g, ad.Zero):
            return None, ad.Zero(v.aval), *[None for _ in ids]
        back = primitive.bind(y, g, *ids, kind="jvp" if kind == "vjp" else "vjp", **params)
        return None, back, *[None for _ in ids]

    return rule


ad.primitive_jvps[forward] = forward_jvp
ad.primitive_jvps[product] = linear_jvp(product, product_formula)
ad.primitive_transposes[product] = product_transpose(product)


# --- the reductions -----------------------------------------------------------------------------------


def reduce_formula(x: Any, *, name: str, axis: int, axis_name: Any, scale: float) -> Any:
    return formulas.reduction(REDUCTIONS[name].of_entropy, x, Sums(axis, axis_name), scale)


def reduce_kernel(x: Any, *, name: str, axis: int, scale: float, axis_name: Any) -> Any:
    if x.size == 0:
        return reduce_formula(x, name=name, axis=axis, axis_name=axis_name, scale=scale)
    return by_kernel(name, x, axis=axis, scale=scale, per_row=1)


def slope_formula(x: Any, dy: Any, *, name: str, axis: int, axis_name: Any, scale: float) -> Any:
    """The vjp: scale·dy·p, or −scale·dy·J(z) with z = scale·x, by the primitives of softmax."""
    options = {"name": "softmax", "alpha": None, "axis": axis, "axis_name": axis_name, "scale": scale}
    p = forward.bind(formulas.wide(x), empty="zero", **options)
    if REDUCTIONS[name].of_entropy:
        z = jnp.where(p == 0, 0.0, formulas.wide(x))
        p = -product.bind(p, z, kind="vjp", **options)
    return (scale * formulas.wide(dy) * p).astype(x.dtype)


def slope_kernel(x: Any, dy: Any, *, name: str, axis: int, scale: float, **_: Any) -> Any:
    return by_kernel(f"{name}_vjp", dy, x, axis=axis, scale=scale, per_row=0, factor=scale)


def along_formula(x: Any, dx: Any, *, axis: int, axis_name: Any, **params: Any) -> Any:
    """The tangent of a reduction, the transpose of `slope`."""
    ones = jnp.ones_like(jnp.sum(x, axis, keepdims=True))
    s = slope.bind(x, ones, axis=axis, axis_name=axis_name, **params)
    terms = jnp.where(s == 0, 0.0, formulas.wide(s) * formulas.wide(dx))
    return Sums(axis, axis_name).total(terms).astype(x.dtype)


reduce = define(
    *("reduce", reduce_formula, reduced, "no", lambda scale, **_: (arrays.absent(scale),)),
    kernel=reduce_kernel,
)
slope = define(
    *("slope", slope_formula, first, "non", lambda scale, **_: (arrays.absent(scale), 0.0)),
    kernel=slope_kernel,
)
along = define("along", along_formula, reduced, "nno", lambda scale, **_: (arrays.absent(scale), 0.0))


def reduce_jvp(primals: Any, tangents: Any, *, axis: int, **params: Any) -> Any:
    (x,), (dx,) = primals, tangents
    y = reduce.bind(x, axis=axis, **params)
    return y, along.bind(x, ad.instantiate_zeros(dx), axis=axis, **params)


def transpose_to(primitive: Any) -> Callable[..., Any]:
    def rule(g: Any, x: Any, v: Any, **params: Any) -> Any:
        return None, ad.Zero(v.aval) if isinstance(g, ad.Zero) else primitive.bind(x, g, **params)

    return rule


ad.primitive_jvps[reduce] = reduce_jvp
ad.primitive_jvps[slope] = linear_jvp(slope, slope_formula)
ad.primitive_jvps[along] = linear_jvp(along, along_formula)
ad.primitive_transposes[slope] = transpose_to(along)
ad.primitive_transposes[along] = transpose_to(slope)


# --- the maps in segments, of the formulas alone ----------------------------------------------------------
# the numbers of the segments are the last array


def segment_forward_formula(x: Any, ids: Any, *, name: str, count: int, scale: float) -> Any:
    return formulas.forward(MAPS[name], x, SegmentSums(ids, count), scale, "zero")


def segment_product_formula(
    y: Any, v: Any, ids: Any, *, name: str, count: int, scale: float, kind: str
) -> Any:
    return formulas.product(MAPS[name], kind, y, v, SegmentSums(ids, count), scale)


segment_forward = define("segment_forward", segment_forward_formula, first)
segment_product = define("segment_product", segment_product_formula, first)


def segment_batch(primitive: Any) -> Callable[..., Any]:
    """A batch is one more column; one of segments is taken one after the other."""

    def rule(arrays: Any, dims: Any, **params: Any) -> Any:
        *given, ids = arrays
        size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
        if dims[-1] is None:
            front = [batching.bdim_at_front(a, d, size) for a, d in zip(given, dims, strict=False)]
            given = [jnp.moveaxis(a, 0, -1) for a in front]
            return primitive.bind(*given, ids, **params), given[0].ndim - 1
        front = [batching.bdim_at_front(a, d, size) for a, d in zip(arrays, dims, strict=True)]
        return jax.lax.map(lambda each: primitive.bind(*each, **params), tuple(front)), 0

    return rule


batching.primitive_batchers[segment_forward] = segment_batch(segment_forward)
batching.primitive_batchers[segment_product] = segment_batch(segment_product)


def segment_forward_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    (x, ids), (dx, _) = primals, tangents
    y = segment_forward.bind(x, ids, **params)
    return y, segment_product.bind(y, ad.instantiate_zeros(dx), ids, kind="jvp", **params)


ad.primitive_jvps[segment_forward] = segment_forward_jvp
ad.primitive_jvps[segment_product] = linear_jvp(segment_product, segment_product_formula)
ad.primitive_transposes[segment_product] = product_transpose(segment_product)
