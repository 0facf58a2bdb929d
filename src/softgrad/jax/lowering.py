"""What the primitives are lowered to: a kernel on the CPU; on several devices, what each of them does."""

from __future__ import annotations

import functools
import itertools
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
from .private import custom_partitioning, typeof, without_explicit

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
    axis_name: None,
    segments: int | None,
    scale: float = 1.0,
    empty: str = "zero",
    more: tuple[float, ...] = (),
    per_row: int | None = None,
    factor: float = 1.0,
) -> jax.Array:
    """An operation of `cpu.kernels` on arrays of one shape; with segments, the last array has their ids.

    The array `per_row` has one number for each row.  If it is read, the factor multiplies it; if it is
    written, the factor is the number of a segment with nothing in it.
    """
    given, ids = (arrays, ()) if segments is None else (arrays[:-1], arrays[-1:])
    like = given[1 if per_row == 0 else 0]
    dtype, shape, rows = like.dtype.name, like.shape, 1 if segments is None else segments
    written = shape if per_row != len(given) else (*shape[:axis], rows, *shape[axis:][1:])
    if like.size == 0 or rows == 0:
        return jnp.full(written, factor if per_row == len(given) else 0.0, like.dtype)
    name = name if segments is None else f"segment_{name}"
    operation = xla().kernels.OPERATIONS[name]
    values, multiply = numbers(
        operation.fill, operation.logits, operation.read == 2, dtype == "float64", scale, EMPTY[empty], more
    )
    if multiply:  # a factor that the kernel can't take, of the last array that is read
        times, absent = values[3], values[4]
        last = formulas.wide(given[-1])
        given = *map(formulas.wide, given[:-1]), jnp.where(last == absent, -jnp.inf, last * times)
        dtype = given[0].dtype.name
    about = xla().way(name, dtype, shape[axis], shape[axis:][1:], like.size, rows)
    moved = about is None
    if moved:
        given = tuple(jnp.moveaxis(formulas.wide(a), axis, -1) for a in given)
        written = (*written[:axis], *written[axis:][1:], written[axis])
        about = xla().way(name, given[0].dtype.name, shape[axis], (), like.size, rows)
    if jax.device_count() > 1:  # a part of the array may be narrower, and come compiled from JAX's cache
        for known in {dtype, "float32" if like.dtype.itemsize == 2 else dtype}:
            xla().way(name, known, shape[axis], (), like.size, rows)
    result = jax.ffi.ffi_call(TARGET, jax.ShapeDtypeStruct(written, given[0].dtype))(
        *given, *ids, call=np.array(about, np.int64), numbers=np.array([*values, factor])
    )
    result = result.astype(like.dtype)
    return jnp.moveaxis(result, -1, axis) if moved else result


EMPTY = {"zero": 0.0, "nan": np.nan}


# --- on several devices ---------------------------------------------------------------------------------


def partitioned(
    whole: Callable[..., Any],
    formula: Callable[..., Any],
    shape: Callable[..., Any],
    of_arrays: str,
    absent: Any,
) -> Callable[..., Any]:
    """`whole` on devices that have whole rows; the formula, with sums over devices, where they have parts.

    XLA would gather the arrays of a foreign function on each device.
    """

    def lowered(*arrays: Any, axis: int, axis_name: Any, **params: Any) -> Any:
        if axis_name is not None:
            return formula(*arrays, axis=axis, axis_name=axis_name, **params)
        cut = params["segments"] is not None
        roles = f"{of_arrays[:-1]}i{of_arrays[-1]}" if cut else of_arrays
        behind = "".join(f" d{i}" for i in range(-axis - 1))
        *given, result = ["n" if role == "i" else f"... {role}{behind}" for role in roles]
        at = roles.index("n")

        def of_whole_rows(*arrays: Any) -> Any:
            return whole(*arrays, axis=axis, axis_name=None, **params)

        def of_parts(across: Any, n: int, devices: int) -> Callable[..., Any]:
            def present(a: jax.Array) -> jax.Array:
                first = jax.lax.axis_index(across) * -(-n // devices)
                return first + jax.lax.broadcasted_iota(jnp.int32, a.shape, a.ndim + axis) < n

            def local(*arrays: Any) -> Any:
                if n % devices:  # XLA has put something behind the last elements, to make all parts as long
                    fills = itertools.zip_longest(arrays, roles[:-1], absent(**params))
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
            of_role = {"n": PartitionSpec(*spec), "o": PartitionSpec(*of_rows), "i": PartitionSpec(across)}
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
        result = shape(*map(typeof, arrays), axis=axis, axis_name=None, **params)
        return without_explicit(divided, result)(*arrays)

    return lowered
