"""What the primitives are lowered to: a kernel on the CPU; on several devices, what each of them does."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from .. import threads
from ..cpu import machine
from ..cpu.call import numbers
from . import formulas
from .private import custom_partitioning

TARGET = "softgrad"


def has_kernels(x: Any) -> bool:
    return not machine.lacks(x.dtype.name)


def with_kernels(kernel: Callable[..., Any], formula: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, if this machine has the instructions for one."""
    return lambda x, *others, **params: (kernel if has_kernels(x) else formula)(x, *others, **params)


# --- on the CPU ---------------------------------------------------------------------------------------


def xla() -> Any:
    """`cpu.xla`, with its handler registered.  Numba is loaded here."""
    with threads.first_use:
        return registered()


@functools.cache
def registered() -> Any:
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
        for known in {dtype, "float32" if like.dtype.itemsize == 2 else dtype}:
            xla().way(name, known, shape[axis], (), like.size)
    result = jax.ffi.ffi_call(TARGET, jax.ShapeDtypeStruct(written, arrays[0].dtype))(
        *arrays, call=np.array(about, np.int64), numbers=np.array([*values, factor])
    )
    result = result.astype(like.dtype)
    return jnp.moveaxis(result, -1, axis) if moved else result


EMPTY = {"zero": 0.0, "nan": np.nan}


# --- on several devices ---------------------------------------------------------------------------------


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
