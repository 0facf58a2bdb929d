"""NumPy arrays to `cpu/call.py`: addresses, and strides in elements."""

from __future__ import annotations

from collections.abc import Sequence

from .. import checks
from ..checks import Array
from ..cpu import call


def returned(result: Array, out: Array | None) -> Array:
    """What a call returns: `out` if that was given; of a 0-d result a scalar, as NumPy's functions do."""
    if out is not None:
        return out
    return result if result.ndim else result[()]


def run(
    name: str,
    arrays: Sequence[Array],
    where: Array | None,
    axes: tuple[int, ...],
    scale: float = 1.0,
    nothing: float = 0.0,
    shaped: int = -1,
    more: tuple[float, ...] = (),
    offsets: Array | None = None,
) -> None:
    """The operation `name` of `softgrad.cpu` on arrays of one shape and dtype, those that are read first.

    Those are the shape and the dtype of array number `shaped`; others may have one float64 a row, and axes of
    length 1.
    """
    if arrays[0].ndim == 0:  # counts as one number
        arrays = [a.reshape(1) for a in arrays]
        where = None if where is None else where.reshape(1)
    like = arrays[shaped]
    call.run(
        name,
        checks.FLOATS[like.dtype][0],
        like.shape,
        [a.ctypes.data for a in arrays],
        [steps(a, like.shape) for a in arrays],
        axes,
        None if where is None else (where.ctypes.data, where.strides),
        scale,
        nothing,
        more,
        offsets,
    )


def steps(a: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides in elements; 0 along axes that are of length 1 where the shape has more."""
    strides = tuple([step // a.itemsize for step in a.strides])
    if a.shape == shape:
        return strides
    return tuple(
        [step if one == many else 0 for step, one, many in zip(strides, a.shape, shape, strict=True)]
    )
