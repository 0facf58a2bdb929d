"""What softgrad.jax uses of JAX beyond its public names, each with its purpose.

`jax.extend.core.Primitive`, `jax.interpreters` and `jax.experimental.custom_partitioning` are public, without
a promise to stay.  Tested with JAX 0.5.0 and 0.10.2.
"""

from __future__ import annotations

from typing import Any

import jax.extend.core
import jax.interpreters.ad
import jax.interpreters.batching
import jax.interpreters.mlir
from jax.experimental.custom_partitioning import custom_partitioning as _custom_partitioning

# they have no types
BasePrimitive: Any = jax.extend.core.Primitive
ad: Any = jax.interpreters.ad
batching: Any = jax.interpreters.batching
mlir: Any = jax.interpreters.mlir
custom_partitioning: Any = _custom_partitioning
typeof: Any = jax.typeof if hasattr(jax, "typeof") else jax.core.get_aval  # type: ignore[attr-defined]

# The primitives whose lowering asks how many devices there are, as `custom_partitioning` does.
try:
    from jax._src import dispatch

    asks_for_devices: Any = dispatch.prim_requires_devices_during_lowering
except (ImportError, AttributeError):
    asks_for_devices = set()


def with_length(n: int, aval: Any, axis: int, axis_name: Any = None) -> Any:
    """The type of an array of another length along an axis that is reduced; over a mesh axis, too."""
    aval, shape = aval.update(weak_type=False), (*aval.shape[:axis], n, *aval.shape[axis:][1:])
    if axis_name is not None and hasattr(aval, "manual_axis_type"):  # it is the same on all devices
        names, of_mesh = axis_name if isinstance(axis_name, tuple) else (axis_name,), aval.manual_axis_type
        of_mesh = of_mesh.update(varying=of_mesh.varying - frozenset(names))
        aval = aval.update(manual_axis_type=of_mesh)
    sharding = getattr(aval, "sharding", None)
    if sharding is None or not hasattr(sharding, "spec"):
        return aval.update(shape=shape)
    spec = [*sharding.spec, *[None] * (len(shape) - len(sharding.spec))]
    spec[axis] = None
    return aval.update(shape=shape, sharding=sharding.update(spec=jax.sharding.PartitionSpec(*spec)))


def without_explicit(function: Any, result: Any) -> Any:
    """`function`, to which the arrays of an Explicit mesh are those of an Auto one; `result` is its type."""

    def of_arrays(*arrays: Any) -> Any:
        meshes: list[Any] = [getattr(getattr(typeof(a), "sharding", None), "mesh", None) for a in arrays]
        explicit = [mesh for mesh in meshes if getattr(mesh, "explicit_axes", ())]
        if not explicit:
            return function(*arrays)
        sharding = jax.sharding.NamedSharding(explicit[0], result.sharding.spec)
        return jax.sharding.auto_axes(function, out_sharding=sharding)(*arrays)

    return of_arrays


class Primitive(BasePrimitive):
    """One whose result has the type of the first array.

    Under `jax.shard_map` an array that is the same on all devices is taken for one that differs, where
    another one does.
    """

    def bind(self, *arrays: Any, **params: Any) -> Any:
        types = [typeof(a) for a in arrays]
        if len(types) > 1 and all(hasattr(one, "manual_axis_type") for one in types):
            along = [frozenset(one.manual_axis_type.varying) for one in types]
            union: frozenset[str] = frozenset().union(*along)
            arrays = tuple(
                jax.lax.pcast(a, tuple(union - own), to="varying") if union - own else a
                for a, own in zip(arrays, along, strict=True)
            )
        return super().bind(*arrays, **params)
