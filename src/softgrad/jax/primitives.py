"""The primitives: a forward and a product for the maps, a forward and a vjp for the reductions.

What JAX asks of one stands below it: the shape, the tangent, the transpose, the batch, the lowering.  A
product is linear in v, and its transpose is the product from the other side; so every transform follows, of
every order.  On the CPU a primitive is a call of a kernel (`cpu.xla`), elsewhere the formulas.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ..cpu import machine
from ..cpu.call import numbers
from ..specs import MAPS, REDUCTIONS
from . import formulas
from .arguments import lowest
from .formulas import SegmentSums, Sums
from .private import (
    Primitive,
    ad,
    asks_for_devices,
    batching,
    custom_partitioning,
    mlir,
    with_length_1,
)

TARGET = "softgrad"
STATIC = "name", "alpha", "axis", "axis_name", "scale", "empty", "kind", "count"


# --- on the CPU ---------------------------------------------------------------------------------------


@functools.cache
def xla() -> Any:
    """`cpu.xla`, with its handler registered.  Numba is loaded here."""
    from ..cpu import xla

    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(xla.address()), platform="cpu")
    return xla


def by_kernel(
    name: str,
    *arrays: jax.Array,
    axis: int,
    scale: float = 1.0,
    empty: str = "zero",
    more: tuple[float, ...] = (),
    per_row: int | None = None,
    factor: float = 1.0,
) -> jax.Array:
    """An operation of `cpu.kernels` on arrays of one shape.

    The array `per_row` has 1 in place of the axis; if it is read, the factor multiplies it.
    """
    like = arrays[1 if per_row == 0 else 0]
    dtype, shape = like.dtype.name, like.shape
    written = shape if per_row != len(arrays) else (*shape[:axis], 1, *shape[axis:][1:])
    if like.size == 0:
        return jnp.zeros(written, like.dtype)
    operation = xla().kernels.OPERATIONS[name]
    values, multiply = numbers(
        operation.fill, operation.logits, operation.read == 2, dtype == "float64", scale, EMPTY[empty], more
    )
    if multiply:  # a factor that the kernel can't take, of the last array that is read
        times, absent = values[3], values[4]
        given = formulas.wide(arrays[-1])
        given = jnp.where(given == absent, -jnp.inf, given * times)
        arrays = *map(formulas.wide, arrays[:-1]), given
        dtype = given.dtype.name
    about = xla().way(name, dtype, shape[axis], shape[axis:][1:], like.size)
    moved = about is None
    if moved:
        arrays = tuple(jnp.moveaxis(formulas.wide(a), axis, -1) for a in arrays)
        written = (*written[:axis], *written[axis:][1:], written[axis])
        about = xla().way(name, arrays[0].dtype.name, shape[axis], (), like.size)
    if jax.device_count() > 1:  # a part of the array may be narrower, and come compiled from JAX's cache
        for known in {dtype, wide_name(dtype)}:
            xla().way(name, known, shape[axis], (), like.size)
    result = jax.ffi.ffi_call(TARGET, jax.ShapeDtypeStruct(written, arrays[0].dtype))(
        *arrays, call=np.array(about, np.int64), numbers=np.array([*values, factor])
    )
    result = result.astype(like.dtype)
    return jnp.moveaxis(result, -1, axis) if moved else result


EMPTY = {"zero": 0.0, "nan": np.nan}


def wide_name(dtype: str) -> str:
    return "float32" if dtype in ("float16", "bfloat16") else dtype


# --- what JAX asks ------------------------------------------------------------------------------------


def define(
    name: str,
    kernel: Callable[..., Any],
    formula: Callable[..., Any],
    shape: Callable[..., Any],
    roles: str = "",
    absent: Callable[..., tuple[float, ...]] | None = None,
) -> Any:
    """A primitive of arrays along one axis, all of which a batch may be put in front of.

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
    for function, platform in ((formula, None), (kernel, "cpu")):
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


def partitioned(
    whole: Callable[..., Any], formula: Callable[..., Any], roles: str, absent: Any
) -> Callable[..., Any]:
    """`whole` on devices that have whole rows; the formula, with sums over devices, where they have parts.

    XLA would gather the arrays of a foreign function on each device.
    """

    def lowered(*arrays: Any, axis: int, axis_name: Any, **params: Any) -> Any:
        if axis_name is not None:
            return formula(*arrays, axis=axis, axis_name=axis_name, **params)
        behind = "".join(f" d{i}" for i in range(-axis - 1))
        *given, result = [f"... {role}{behind}" for role in roles]
        at = roles.index("n")

        def of_whole_rows(*arrays: Any) -> Any:
            return whole(*arrays, axis=axis, axis_name=None, **params)

        def of_parts(across: Any, n: int, devices: int) -> Callable[..., Any]:
            def present(a: jax.Array) -> jax.Array:
                first = jax.lax.axis_index(across) * -(-n // devices)
                return first + jax.lax.broadcasted_iota(jnp.int32, a.shape, a.ndim + axis) < n

            def local(*arrays: Any) -> Any:
                if n % devices:  # XLA has put something behind the last elements, to make all parts as long
                    fills = zip(arrays, roles, absent(**params), strict=False)
                    arrays = tuple(
                        jnp.where(present(a), a, fill) if role == "n" else a for a, role, fill in fills
                    )
                return formula(*arrays, axis=axis, axis_name=across, **params)

            return local

        def shardings(mesh: Any, shapes: Any) -> tuple[Any, list[NamedSharding]]:
            sharding, rank = shapes[at].sharding, len(shapes[at].shape)
            given = getattr(sharding, "spec", ())  # what is whole on all devices may come without one
            spec = [*given, *[None] * (rank - len(given))]
            across, of_rows = spec[axis], spec.copy()
            of_rows[axis] = None
            of_role = {"n": PartitionSpec(*spec), "o": PartitionSpec(*of_rows)}
            mesh = getattr(sharding, "mesh", mesh)
            return across, [NamedSharding(mesh, of_role[role]) for role in roles]

        def partition(mesh: Any, shapes: Any, _: Any) -> Any:
            across, of_all = shardings(mesh, shapes)
            local = of_whole_rows
            if across is not None:
                names = across if isinstance(across, tuple) else (across,)
                devices = math.prod(of_all[at].mesh.shape[name] for name in names)
                local = of_parts(across, shapes[at].shape[axis], devices)
            return mesh, local, of_all[-1], tuple(of_all[:-1])

        divided = custom_partitioning(of_whole_rows)
        divided.def_partition(
            partition,
            infer_sharding_from_operands=lambda mesh, shapes, _: shardings(mesh, shapes)[1][-1],
            sharding_rule=f"{', '.join(given)} -> {result}",
        )
        return divided(*arrays)

    return lowered


def has_kernels(x: Any) -> bool:
    return not machine.lacks(x.dtype.name)


def with_kernels(kernel: Callable[..., Any], formula: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, if this machine has the instructions for one."""
    return lambda x, *others, **params: (kernel if has_kernels(x) else formula)(x, *others, **params)


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
    *("forward", with_kernels(forward_kernel, forward_formula), forward_formula, first, "nn"),
    absent=lambda scale, **_: (lowest(scale),),
)
product = define(
    *("product", with_kernels(product_kernel, product_formula), product_formula, first, "nnn"),
    absent=lambda name, **_: (MAPS[name].absent, 0.0),
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
    *("reduce", with_kernels(reduce_kernel, reduce_formula), reduce_formula, reduced, "no"),
    absent=lambda scale, **_: (lowest(scale),),
)
slope = define(
    *("slope", with_kernels(slope_kernel, slope_formula), slope_formula, first, "non"),
    absent=lambda scale, **_: (lowest(scale), 0.0),
)
along = define(
    *("along", along_formula, along_formula, reduced, "nno"), absent=lambda scale, **_: (lowest(scale), 0.0)
)


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


segment_forward = define("segment_forward", segment_forward_formula, segment_forward_formula, first)
segment_product = define("segment_product", segment_product_formula, segment_product_formula, first)


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
