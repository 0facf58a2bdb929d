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
from .formulas import sums_of
from .lowering import by_kernel, partitioned, with_kernels
from .private import (
    Primitive,
    ad,
    asks_for_devices,
    batching,
    mlir,
    with_length,
)

STATIC = "name", "alpha", "axis", "axis_name", "scale", "empty", "kind", "segments"


# --- what JAX asks ------------------------------------------------------------------------------------


def define(
    name: str,
    formula: Callable[..., Any],
    shape: Callable[..., Any],
    roles: str = "",
    absent: Callable[..., tuple[float, ...]] | None = None,
    kernel: Callable[..., Any] | None = None,
) -> Any:
    """A primitive of arrays along one axis, or of its segments: the number of each element's is the last.

    On the CPU it is the kernel, if there is one and this machine has the instructions for it.
    `roles` has an n for each array that has the elements of the rows and an o for one that has one number for
    each row, those that are read first; without it the arrays are not divided among devices.  `absent` says
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
        lowered = partitioned(function, formula, shape, roles, absent) if roles else function
        rule = mlir.lower_fun(lowered, multiple_results=False)
        mlir.register_lowering(primitive, rule, platform=platform)
    if roles:
        asks_for_devices.add(primitive)

    def batch(arrays: Any, dims: Any, *, segments: Any, **params: Any) -> Any:
        bind = functools.partial(primitive.bind, segments=segments, **params)
        size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
        shared = arrays[-1:] if segments is not None and dims[-1] is None else ()
        dims, arrays = (dims[:-1], arrays[:-1]) if shared else (dims, arrays)
        front = [batching.bdim_at_front(a, d, size) for a, d in zip(arrays, dims, strict=True)]
        if segments is None or shared:
            return bind(*front, *shared), 0
        return jax.lax.map(lambda each: bind(*each), tuple(front)), 0  # each is cut in its own way

    batching.primitive_batchers[primitive] = batch
    return primitive


def first(x: Any, *_: Any, **__: Any) -> Any:
    """The type of a result that is that of the first array."""
    return x.update(weak_type=False)


def reduced(x: Any, *_: Any, axis: int, axis_name: Any, segments: Any, **__: Any) -> Any:
    return with_length(1 if segments is None else segments, x, axis, axis_name)


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


def forward_formula(x: Any, *ids: Any, name: str, alpha: Any, scale: float, empty: str, **rows: Any) -> Any:
    return formulas.forward(formulas.map_of(name, alpha), x, sums_of(ids, **rows), scale, empty)


def forward_kernel(x: Any, *ids: Any, name: str, alpha: Any, empty: str, **rows: Any) -> Any:
    spec = formulas.map_of(name, alpha)
    return by_kernel(spec.forward, x, *ids, empty=empty, more=spec.more, **rows)


def product_formula(
    y: Any, v: Any, *ids: Any, name: str, alpha: Any, scale: float, kind: str, **rows: Any
) -> Any:
    return formulas.product(formulas.map_of(name, alpha), kind, y, v, sums_of(ids, **rows), scale)


def product_by_y(
    y: Any, v: Any, *ids: Any, name: str, alpha: Any, scale: float, kind: str, **rows: Any
) -> Any:
    """The same, as its derivative by y is taken.

    v − p·Σv of log_softmax with p = softmax(y), which exp(y) is: so the derivative has the sum 0, and what
    the product with it loses is eps of the result, not of 1.
    """
    if name != "log_softmax" or kind != "vjp":
        return product_formula(y, v, *ids, name=name, alpha=alpha, scale=scale, kind=kind, **rows)
    options = {"name": "softmax", "alpha": None, "scale": 1.0, "empty": "zero", **rows}
    p, present = forward.bind(formulas.wide(y), *ids, **options), y != -jnp.inf
    u = jnp.where(present, formulas.wide(v), 0.0)
    found = u - p * sums_of(ids, **rows).total(u)
    return jnp.where(present, scale * found, 0.0).astype(y.dtype)


def product_kernel(y: Any, v: Any, *ids: Any, name: str, alpha: Any, kind: str, **rows: Any) -> Any:
    spec = formulas.map_of(name, alpha)
    return by_kernel(spec.vjp if kind == "vjp" else spec.jvp, y, v, *ids, more=spec.more, **rows)


forward = define(
    *("forward", forward_formula, first, "nn", lambda scale, **_: (arrays.absent(scale),)),
    kernel=forward_kernel,
)
product = define(
    *("product", product_formula, first, "nnn", lambda name, **_: (MAPS[name].absent, 0.0)),
    kernel=product_kernel,
)


def forward_jvp(primals: Any, tangents: Any, *, empty: str, **params: Any) -> Any:
    (x, *ids), (dx, *_) = primals, tangents
    y = forward.bind(x, *ids, empty=empty, **params)
    return y, product.bind(y, ad.instantiate_zeros(dx), *ids, kind="jvp", **params)


def product_transpose(g: Any, y: Any, v: Any, *ids: Any, kind: str, **params: Any) -> Any:
    if isinstance(g, ad.Zero):
        return None, ad.Zero(v.aval), *[None for _ in ids]
    back = product.bind(y, g, *ids, kind="jvp" if kind == "vjp" else "vjp", **params)
    return None, back, *[None for _ in ids]


ad.primitive_jvps[forward] = forward_jvp
ad.primitive_jvps[product] = linear_jvp(product, product_by_y)
ad.primitive_transposes[product] = product_transpose


# --- the reductions -----------------------------------------------------------------------------------


def reduce_formula(x: Any, *ids: Any, name: str, scale: float, **rows: Any) -> Any:
    return formulas.reduction(REDUCTIONS[name].of_entropy, x, sums_of(ids, **rows), scale)


def reduce_kernel(x: Any, *ids: Any, name: str, **params: Any) -> Any:
    return by_kernel(name, x, *ids, per_row=1, factor=REDUCTIONS[name].of_nothing, **params)


def slope_formula(x: Any, dy: Any, *ids: Any, name: str, scale: float, **rows: Any) -> Any:
    """The vjp: scale·dy·p, or −scale·dy·J(z) with z = scale·x, by the primitives of softmax."""
    options = {"name": "softmax", "alpha": None, "scale": scale, **rows}
    p = forward.bind(formulas.wide(x), *ids, empty="zero", **options)
    if REDUCTIONS[name].of_entropy:
        z = jnp.where(p == 0, 0.0, formulas.wide(x))
        p = -product.bind(p, z, *ids, kind="vjp", **options)
    return (scale * sums_of(ids, **rows).spread(formulas.wide(dy)) * p).astype(x.dtype)


def slope_kernel(x: Any, dy: Any, *ids: Any, name: str, scale: float, **rows: Any) -> Any:
    return by_kernel(f"{name}_vjp", dy, x, *ids, per_row=0, factor=scale, scale=scale, **rows)


def along_formula(x: Any, dx: Any, *ids: Any, axis: int, axis_name: Any, segments: Any, **params: Any) -> Any:
    """The tangent of a reduction, the transpose of `slope`."""
    rows = {"axis": axis, "axis_name": axis_name, "segments": segments}
    sums = sums_of(ids, **rows)
    s = slope.bind(x, jnp.ones_like(sums.sums_here(x)), *ids, **rows, **params)
    terms = jnp.where(s == 0, 0.0, formulas.wide(s) * formulas.wide(dx))
    return sums.sums(terms).astype(x.dtype)


reduce = define(
    *("reduce", reduce_formula, reduced, "no", lambda scale, **_: (arrays.absent(scale),)),
    kernel=reduce_kernel,
)
slope = define(
    *("slope", slope_formula, first, "non", lambda scale, **_: (arrays.absent(scale), 0.0)),
    kernel=slope_kernel,
)
along = define("along", along_formula, reduced, "nno", lambda scale, **_: (arrays.absent(scale), 0.0))


def reduce_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    (x, *ids), (dx, *_) = primals, tangents
    return reduce.bind(x, *ids, **params), along.bind(x, ad.instantiate_zeros(dx), *ids, **params)


def transpose_to(primitive: Any) -> Callable[..., Any]:
    def rule(g: Any, x: Any, v: Any, *ids: Any, **params: Any) -> Any:
        back = ad.Zero(v.aval) if isinstance(g, ad.Zero) else primitive.bind(x, g, *ids, **params)
        return None, back, *[None for _ in ids]

    return rule


ad.primitive_jvps[reduce] = reduce_jvp
ad.primitive_jvps[slope] = linear_jvp(slope, slope_formula)
ad.primitive_jvps[along] = linear_jvp(along, along_formula)
ad.primitive_transposes[slope] = transpose_to(along)
ad.primitive_transposes[along] = transpose_to(slope)
