"""What JAX's functions may be given: arrays, masks, scales, and the one axis that is made of several."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import checks
from ..arrays import Cut

FLOATS = "float16", "bfloat16", "float32", "float64"


def floating(value: Any, name: str) -> jax.Array:
    """`value` as an array of floats; integers become JAX's default float."""
    if isinstance(value, np.ma.MaskedArray):
        checks.array(value, name)
    result = jnp.asarray(value)
    if result.dtype.name in FLOATS:
        return result
    kind = getattr(result.dtype, "kind", "")  # of random keys there is none
    if kind in ("i", "u"):
        return result.astype(jnp.result_type(float))
    advice = {"b": f"give {name}.astype(float) if 0 and 1 are meant, or where= for a mask"}
    advice["c"] = f"give {name}.real or abs({name}), whichever is meant"
    advised = advice.get(kind, f"give {name}.astype(jax.numpy.float32)")
    raise TypeError(f"{name} has dtype {result.dtype}; {checks.TAKEN}: {advised}")


def alike(**values: Any) -> list[jax.Array]:
    """Arrays of one shape, in one dtype."""
    arrays = [floating(value, name) for name, value in values.items()]
    first, name_of_first = arrays[0], next(iter(values))
    for a, name in zip(arrays, values, strict=True):
        if a.shape != first.shape:
            raise ValueError(
                f"{name_of_first} has shape {first.shape} and {name} has shape {a.shape}; they must be the "
                f"same, since softgrad does not broadcast: use jax.numpy.broadcast_to where that is meant"
            )
    dtype = functools.reduce(jnp.promote_types, (a.dtype for a in arrays))
    return [a.astype(dtype) for a in arrays]


def mask(where: Any, shape: tuple[int, ...]) -> jax.Array | None:
    if where is None:
        return None
    given = jnp.asarray(where)
    if given.dtype != bool:
        raise TypeError(f"where has dtype {given.dtype}; it takes booleans: give where.astype(bool)")
    try:
        return jnp.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(
            f"where has shape {given.shape}, which does not broadcast to {shape}: give it that shape, or 1 "
            f"in the place of axes along which it is the same"
        ) from None


def no_out(out: Any) -> None:
    if out is not None:
        raise TypeError("out= is for arrays that can be written to, and JAX's can't: leave it out")


def number(scale: Any, dtype: Any) -> float:
    """A scale that is one number, known when the call is traced."""
    return checks.number(scale, np.dtype(dtype))


def is_number(scale: Any) -> bool:
    return isinstance(scale, checks.NUMBERS)


def per_row(value: Any, name: str, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """One number for each row, broadcast to that."""
    given = floating(value, name)
    try:
        return jnp.broadcast_to(given, shape).astype(dtype)
    except ValueError:
        raise ValueError(
            f"{name} has shape {given.shape}; it takes one number for each row, of shape {shape}, or what "
            f"broadcasts to that"
        ) from None


# --- one axis -----------------------------------------------------------------------------------------


class Rows:
    """The rows of an array along some axes, as those along one axis, counted from the last; or the segments
    of one axis."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        self.shape = shape
        self.ids: tuple[jax.Array, ...] = ()  # the number of the segment of each row
        self.segments: int | None = None
        if isinstance(axis, Cut):
            self.axes: tuple[int, ...] = (checks.cut_axis(axis.axis, shape),)
            ids, self.segments = numbered(axis, math.prod(shape[d] for d in self.axes if shape))
            self.ids = (ids,)
        else:
            self.axes = checks.axes(axis, len(shape))
        self.one = len(self.axes) == 1 and bool(shape)
        self.axis = self.axes[0] - len(shape) if self.one else -1

    def flat(self, a: jax.Array) -> jax.Array:
        if self.one:
            return a
        kept = [d for d in range(a.ndim) if d not in self.axes]
        axes = self.axes if a.ndim else ()
        moved = jnp.transpose(a, (*kept, *axes))
        return moved.reshape(*(a.shape[d] for d in kept), math.prod(a.shape[d] for d in axes))

    def restore(self, a: jax.Array) -> jax.Array:
        """The opposite."""
        if self.one:
            return a
        order = [d for d in range(len(self.shape)) if d not in self.axes]
        order += self.axes if self.shape else ()
        return jnp.transpose(a.reshape([self.shape[d] for d in order]), np.argsort(order).tolist())

    @property
    def parameters(self) -> dict[str, Any]:
        """What the primitives have to know."""
        return {"axis": self.axis, "segments": self.segments}

    def numbers(self, keepdims: bool = True) -> tuple[int, ...]:
        """The shape of one number for each row."""
        if self.segments is None:
            return checks.reduced_shape(self.shape, self.axes, keepdims)
        (cut,) = self.axes
        return *self.shape[:cut], self.segments, *self.shape[cut + 1 :]


def numbered(cut: Cut, n: int) -> tuple[jax.Array, int]:
    """The number of the segment of each of n rows, and how many segments there are.

    Of what is traced the shape and the dtype are checked; no number is out of range even so, since the
    kernels count by them.
    """
    offsets, ids, count = cut.offsets, cut.segment_ids, cut.num_segments
    if not checks.are_numbered(offsets, ids, count):
        if not isinstance(offsets, jax.core.Tracer):
            begins = checks.offsets(np.asarray(offsets), n)
            segments = len(begins) - 1
            return jnp.asarray(np.repeat(np.arange(segments), np.diff(begins)), jnp.int32), segments
        like = untraced(offsets)
        like.flat[1:] = n
        segments = len(checks.offsets(like, n)) - 1
        begun = jnp.zeros(n, jnp.int32).at[offsets[1:-1]].add(1, mode="drop")
        return jnp.clip(jnp.cumsum(begun), 0, max(segments, 1) - 1), segments
    if not isinstance(ids, jax.core.Tracer):
        numbers, segments = checks.segment_ids(np.asarray(ids), count, n)
        return jnp.asarray(numbers, jnp.int32), segments
    if count is None:
        raise TypeError("segment_ids are traced: give num_segments, which the shape depends on")
    _, segments = checks.segment_ids(untraced(ids), count, n)
    last = min(max(segments, 1) - 1, np.iinfo(ids.dtype).max)
    return jnp.clip(ids, 0, last).astype(jnp.int32), segments


def untraced(value: jax.Array) -> Any:
    """Zeros of the shape and the kind of what is traced."""
    return np.zeros(value.shape, np.int64 if value.dtype.kind in "iu" else value.dtype)
