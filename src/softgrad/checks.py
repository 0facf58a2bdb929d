"""What a call may be given, and every error text.

Each error says what was given, what is taken, and what to do.  Nothing is written before all checks
of a call have passed.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
from collections.abc import Collection, Mapping
from typing import Any, Literal, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import normalize_axis_tuple

Array = npt.NDArray[Any]
Axis = int | tuple[int, ...] | None
Where = npt.ArrayLike | None
Out = Array | None
Empty = Literal["zero", "nan", "raise"]
Reduction = Literal["mean", "sum", "none"]
Direction = Literal["forward", "reverse"]

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)

# dtype: (its name, the dtype of the same bits that the kernels are given, its bytes)
FLOATS: dict[np.dtype[Any], tuple[str, np.dtype[Any], int]] = {
    FLOAT16: ("float16", np.dtype(np.uint16), 2),
    BFLOAT16: ("bfloat16", np.dtype(np.int16), 2),
    np.dtype(np.float32): ("float32", np.dtype(np.float32), 4),
    np.dtype(np.float64): ("float64", np.dtype(np.float64), 8),
}
TAKEN = "softgrad takes float16, bfloat16, float32 and float64 (integers become float64)"

# the kinds of devices whose arrays softgrad.dlpack takes, as DLPack counts them: CUDA, and its managed memory
ON_DEVICE = CUDA, MANAGED = 2, 13

NUMBERS = float, int, numbers.Real, np.floating, np.integer, ml_dtypes.bfloat16  # the usual first, for speed
LARGEST_32, LARGEST_64 = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)
LARGEST_ALPHA = 1e300  # scale·alpha is still a number
EMPTY = {"zero": 0.0, "nan": math.nan, "raise": math.nan}  # what the kernels write to an empty row
EMPTY_ROW = (
    "x has a row with nothing in it (all −inf, or masked), and empty='raise': give empty='zero' or "
    "empty='nan', or leave such rows out"
)


# --- arrays -------------------------------------------------------------------------------------------


def kind(value: Any) -> str:
    """The type of a value, with the library it is from."""
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"


def of_numpy(value: Any, name: str, instead_of_masked: str, takes: str = "") -> None:
    """Refuse masked arrays, and those of other libraries: nobody expects a NumPy array for one of them."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array{takes}: give {instead_of_masked}")
    if isinstance(value, (np.ndarray, np.generic)):
        return
    if kind(value).startswith("jax"):
        advice = (
            f"the first array says which library computes; give jax.numpy.asarray of that one, or "
            f"numpy.asarray({name})"
        )
    elif hasattr(value, "__dlpack__"):
        advice = (
            f"give numpy.asarray({name}); or, if it is on a GPU, give it to a function (no layer or "
            f"Jacobian), with all arguments there"
        )
    elif kind(value).startswith("dask.") and hasattr(value, "__dask_graph__"):
        advice = (
            f"give {name}.compute(); or make each row one chunk, {name}.rechunk({{axis: -1}}), and let "
            f"dask.array.map_blocks(function, {name}, ...) call the function on each block"
        )
    elif any(hasattr(value, f"__{word}__") for word in ("dask_graph", "array_namespace", "array_function")):
        advice = f"give numpy.asarray({name})"
    else:
        return
    raise TypeError(f"{name} is a {kind(value)}, where NumPy arrays are taken: {advice}")


def array(value: Any, name: str) -> Array:
    """`value` as an aligned array of a dtype in FLOATS, or of integers; a view of it where that is one."""
    if type(value) is np.ndarray and value.dtype in FLOATS and value.flags.aligned:
        return value
    unmasked = f"{name}.data, and where=~numpy.ma.getmaskarray({name}) for the mask"
    of_numpy(value, name, unmasked, ", which softgrad does not take")
    try:
        result = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise TypeError(f"{name} does not make an array: {error}") from None
    dtype = result.dtype
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    if dtype not in FLOATS and dtype.kind not in "iu":
        advice = {
            "b": f"give {name}.astype(float) if 0 and 1 are meant, or where= for a mask",
            "c": f"give {name}.real or abs({name}), whichever is meant",
            "O": f"give {name}.astype(float)",
        }.get(dtype.kind, f"give {name}.astype(numpy.float64)")
        raise TypeError(f"{name} has dtype {dtype}; {TAKEN}: {advice}")
    # byte-swapped and unaligned memory is copied; the kernels read neither
    plain: Array = np.require(result, dtype, ["ALIGNED"])
    return plain


def floating(value: Any, name: str) -> Array:
    """`array`, with integers converted to float64."""
    given = array(value, name)
    return given if given.dtype in FLOATS else given.astype(np.float64)


def logits(x: Any) -> tuple[Array, np.dtype[Any]]:
    """`x` as an array, which may hold integers, and the dtype of what is made of it."""
    given = array(x, "x")
    return given, given.dtype if given.dtype in FLOATS else np.dtype(np.float64)


def alike(names: tuple[str, ...], *values: Any) -> list[Array]:
    """The arrays `values`, of one shape, in one dtype: the one NumPy promotes theirs to."""
    first = values[0]
    if type(first) is np.ndarray and first.dtype in FLOATS:
        dtype, shape = first.dtype, first.shape
        for a in values:  # the common case, quickly
            if type(a) is not np.ndarray or a.dtype != dtype or a.shape != shape or not a.flags.aligned:
                break
        else:
            return list(values)
    arrays = [floating(value, name) for value, name in zip(values, names, strict=True)]
    same_shape(names, *(a.shape for a in arrays))
    return in_one_dtype(arrays)


def same_shape(names: tuple[str, ...], *shapes: tuple[Any, ...]) -> None:
    """Refuse arrays of other shapes than the first."""
    for name, shape in zip(names, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(
                f"{names[0]} has shape {shapes[0]} and {name} has shape {shape}; they must be the "
                f"same, since softgrad does not broadcast: use numpy.broadcast_to where that is meant"
            )


def in_one_dtype(arrays: list[Array]) -> list[Array]:
    """The arrays in one dtype: the one NumPy promotes theirs to."""
    dtypes = {a.dtype for a in arrays}
    if len(dtypes) == 1:
        return arrays
    dtype = promoted(dtypes)
    return [a.astype(dtype, copy=False) for a in arrays]


def promoted(dtypes: set[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype that holds all of these."""
    if {BFLOAT16, FLOAT16} <= dtypes:  # neither holds the other
        dtypes = dtypes - {BFLOAT16, FLOAT16} | {np.dtype(np.float32)}
    return functools.reduce(np.promote_types, dtypes)


def weights(y: Array) -> Array:
    """`y`, of which nothing is below 0."""
    if (y < 0).any():
        raise ValueError(
            f"y has {y[y < 0][0]} in it, and softmax puts out nothing below 0: give y = softmax(x), not the "
            f"logits x"
        )
    return y


def operand(value: Any, name: str, y: Array) -> Array:
    """A vector or matrix for each row along the last axis of `y`."""
    result = floating(value, name)
    if y.shape not in (result.shape, result.shape[:-1]):
        vector, matrix = str(y.shape), f"({', '.join(map(str, y.shape))}, k)"
        raise ValueError(
            f"{name} has shape {result.shape}; with rows of shape {vector} it must have that of a vector for "
            f"each, {vector}, or of a matrix for each, {matrix}, since softgrad does not broadcast: use "
            f"numpy.broadcast_to where that is meant"
        )
    return result


def for_each_row(dy: Array, shape: tuple[int, ...], *shapes: tuple[int, ...]) -> None:
    """Refuse a dy of another shape than these, for rows, or segments, of x."""
    if dy.shape not in shapes:
        raise ValueError(
            f"dy has shape {dy.shape}; it takes one number for each row or segment of x, which has shape "
            f"{shape}: give shape {' or '.join(map(str, dict.fromkeys(shapes)))}"
        )


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """What is left of a shape when the axes are reduced: without them, or with 1 in their place."""
    if keepdims:
        return tuple([1 if d in axes else size for d, size in enumerate(shape)])
    return tuple([size for d, size in enumerate(shape) if d not in axes])


# --- axes, segments and masks -------------------------------------------------------------------------


def axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes to reduce, as a tuple of numbers from 0; of a 0-d array, which counts as one number, (0,)."""
    if type(axis) is not int and axis is not None:
        try:
            given = axis if type(axis) is tuple else (axis,)
            if any(isinstance(one, bool) for one in given):
                raise TypeError
            whole = tuple(map(operator.index, given))
            axis = whole if type(axis) is tuple else whole[0]
        except TypeError:
            raise TypeError(f"axis={axis!r}: it takes a whole number, a tuple of them, or None") from None
    try:
        return numbered(axis, ndim)
    except np.exceptions.AxisError:
        raise
    except ValueError:
        raise ValueError(f"axis={axis} names an axis twice: give each one once") from None
    except OverflowError:
        raise np.exceptions.AxisError(f"axis={axis} is out of bounds for an array of {ndim} axes") from None


@functools.lru_cache(maxsize=256)
def numbered(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The numbers from 0 of valid axes."""
    if axis is None:
        return tuple(range(ndim)) or (0,)
    if ndim == 0 and axis in (-1, ()):
        return (0,)
    return normalize_axis_tuple(axis, ndim, "axis")


def one_axis(axis: Any, ndim: int, what: str) -> int:
    """The number from 0 of the one axis along which `what` lie."""
    if axis is None or isinstance(axis, tuple):
        raise TypeError(
            f"axis={axis!r}: {what} lie along one axis, and it takes its number: reshape the array to make "
            f"one axis of several"
        )
    return axes(axis, ndim)[0]


def segments(
    given: Any, ids: Any, num_segments: Any, axis: Any, shape: tuple[int, ...]
) -> tuple[int, Array, Array | None]:
    """The axis that is cut into segments, the offsets, and the order that sorts its rows by segment (None:
    they are sorted)."""
    cut = cut_axis(axis, shape)
    size = shape[cut] if shape else 1
    if are_numbered(given, ids, num_segments):
        return cut, *numbered_segments(ids, num_segments, size)
    return cut, offsets(given, size), None


def cut_axis(axis: Any, shape: tuple[int, ...]) -> int:
    """The axis that is cut into segments, from 0 up; a number is one row."""
    return 0 if not shape and axis == 0 else one_axis(axis, len(shape), "segments")


def are_numbered(given: Any, ids: Any, num_segments: Any) -> bool:
    """Whether segments are given by ids, and not by offsets; an error unless by one of them."""
    if (given is None) == (ids is None):
        raise TypeError("segments are given by offsets or by segment_ids: give one of them")
    if ids is None and num_segments is not None:
        raise TypeError("num_segments is for segment_ids; with offsets leave it out")
    return ids is not None


def segment_ids(ids: Any, num_segments: Any, size: int) -> tuple[Array, int]:
    """The number that each row has, and how many segments there are."""
    of_numpy(ids, "segment_ids", "segment_ids.compressed()", "; it takes whole numbers")
    numbers = np.asarray(ids)
    if numbers.shape != (size,):
        raise ValueError(
            f"segment_ids has shape {numbers.shape}; it takes one number for each row of the axis: give an "
            f"array of shape ({size},)"
        )
    if numbers.size and numbers.dtype.kind not in "iu":
        raise TypeError(f"segment_ids has dtype {numbers.dtype}; it takes whole numbers: give .astype(int)")
    least, most = (int(numbers.min()), int(numbers.max()) + 1) if numbers.size else (0, 0)
    count = most if num_segments is None else whole(num_segments, "num_segments")
    if count < 0:
        raise ValueError(f"num_segments={count}: it takes how many segments there are, 0 or more")
    if least < 0 or most > count:
        raise ValueError(
            f"segment_ids go from {least} to {most - 1}; they must go from 0 to num_segments - 1, "
            f"{count - 1}: number the segments from 0 and give how many there are"
        )
    return numbers, count


def numbered_segments(ids: Any, num_segments: Any, size: int) -> tuple[Array, Array | None]:
    """`offsets` of the number that each row has, and the order that sorts the rows by it."""
    numbers, count = segment_ids(ids, num_segments, size)
    numbers, order = numbers.astype(np.int64), None
    if (numbers[1:] < numbers[:-1]).any():
        order = numbers.argsort(kind="stable")
        numbers = numbers[order]
    return numbers.searchsorted(np.arange(count + 1)).astype(np.int64), order


def offsets(given: Any, size: int) -> Array:
    """Where segments begin and the last one ends, as int64: they ascend from 0 to `size`."""
    of_numpy(given, "offsets", "offsets.compressed()", "; it takes whole numbers")
    result = np.asarray(given)
    if result.ndim != 1 or result.size == 0:
        raise ValueError(
            f"offsets has shape {result.shape}; it takes one axis, with the place where each segment begins "
            f"and the end of the last: one number more than there are segments"
        )
    if result.dtype.kind not in "iu":
        raise TypeError(
            f"offsets has dtype {result.dtype}; it takes whole numbers: give offsets.astype(numpy.int64), or "
            f"numpy.append(numpy.flatnonzero(offsets), len(offsets)) if yours marks where segments begin"
        )
    falls = result[1:] < result[:-1]
    if falls.any():
        s = int(falls.argmax())
        raise ValueError(
            f"offsets[{s}] is {result[s]} and offsets[{s + 1}] is {result[s + 1]}; they must ascend: sort "
            f"the rows by their segment, and give numpy.concatenate([[0], numpy.cumsum(lengths)])"
        )
    if result[0] != 0 or result[-1] != size:
        raise ValueError(
            f"offsets go from {result[0]} to {result[-1]}; they must go from 0 to the size of the axis, "
            f"{size}, so that each row is in a segment: give only the rows that are meant, or more segments"
        )
    return np.ascontiguousarray(result, np.int64)


def mask(where: Any, shape: tuple[int, ...]) -> Array | None:
    """`where` as a boolean array of this shape (a view); None if everything is there."""
    if where is None or where is True:
        return None
    of_numpy(where, "where", "where.filled(False)", "; it takes booleans")
    result = np.asarray(where)
    if result.dtype != np.bool_:
        raise TypeError(
            f"where has dtype {result.dtype}; it takes booleans, True for what is there: give where != 0, "
            f"or where == 0 if yours marks what is not"
        )
    try:
        return np.broadcast_to(result, shape)
    except ValueError:
        raise ValueError(
            f"where has shape {result.shape}, which does not broadcast to that of the array, {shape}"
        ) from None


# --- numbers and words --------------------------------------------------------------------------------


def real(value: Any, name: str) -> float:
    """`value` as a float; one that is beyond all floats is inf."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, NUMBERS) or value is True:
        raise TypeError(f"{name} takes a real number, not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def whole(value: Any, name: str) -> int:
    """`value` as an int."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} takes a whole number or None, not {type(value).__name__}") from None


def number(scale: Any, dtype: np.dtype[Any]) -> float:
    """`scale` as a float that arrays of this dtype can be multiplied by."""
    factor = real(scale, "scale")
    if not -largest(dtype) <= factor <= largest(dtype):
        raise ValueError(f"scale={factor}: it takes a finite number, up to {largest(dtype):.3g} for {dtype}")
    return factor


def per_row(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """One float64 for each row: `value` broadcast to the shape of the array with the axes at length 1."""
    numbers = floating(value, name).astype(np.float64)
    try:
        return np.broadcast_to(numbers, shape)
    except ValueError:
        raise ValueError(
            f"{name} has shape {numbers.shape}; it takes one number for each row: give a shape that "
            f"broadcasts to {shape}, in which the axis has length 1"
        ) from None


def scales(scale: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """`per_row` of finite factors."""
    factors = per_row(scale, "scale", shape)
    if not (np.abs(factors) <= largest(dtype)).all():
        raise ValueError(f"scale takes finite numbers, up to {largest(dtype):.3g} for {dtype}")
    return factors


def largest(dtype: np.dtype[Any]) -> float:
    """The largest number of the type that arrays of this dtype are computed in."""
    return LARGEST_64 if dtype.itemsize == 8 else LARGEST_32


def alpha(value: Any) -> float:
    """The alpha of entmax, as a float."""
    result = real(value, "alpha")
    if not 1 <= result <= LARGEST_ALPHA:
        raise ValueError(
            f"alpha={value}: it takes a number from 1 to {LARGEST_ALPHA:.0e}; 1 is softmax, 2 is sparsemax"
        )
    return result


def smoothing(value: Any) -> float:
    """`label_smoothing` as a float."""
    share = real(value, "label_smoothing")
    if not 0 <= share <= 1:
        raise ValueError(f"label_smoothing={share}: it takes a number from 0 to 1")
    return share


def word(value: Any, name: str, words: Collection[str]) -> None:
    """Refuse another word than these."""
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"{name}={value!r}: it takes {', '.join(map(repr, words))}")


def choice(empty: Any) -> float:
    """What the kernels write to an empty row."""
    word(empty, "empty", EMPTY)
    return EMPTY[empty]


def reduction(value: Any) -> None:
    word(value, "reduction", ("mean", "sum", "none"))


def inverse_temperature(value: Any) -> float:
    """1/temperature."""
    result = real(value, "temperature")
    if not 1e-18 <= result <= 1e18:
        raise ValueError(f"temperature={value}: it takes a positive number, from 1e-18 to 1e18")
    return 1.0 / result


# --- the result ---------------------------------------------------------------------------------------


def target(
    out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Mapping[str, Array | None]
) -> Array:
    """A view of `out`, if a result of this shape and dtype can be written to it while the inputs are read."""
    if type(out) is not np.ndarray:
        if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
            raise TypeError(f"out takes a numpy.ndarray, not {type(out).__name__}")
        out = np.asarray(out)  # a memmap, say
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}; the result has {dtype}: give an array of that")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; the result has {shape}: give an array of that")
    result: Array = out
    flags = result.flags
    if not flags.writeable:
        raise ValueError("out is read-only: give an array that may be written to")
    if not flags.aligned:
        raise ValueError("out is not aligned in memory: give an array that is, such as numpy.empty makes")
    if not flags.c_contiguous and shares_itself(out):
        raise ValueError("out has several elements at the same place: give an array that was not broadcast")
    for name, value in inputs.items():
        # two arrays that own their memory do not share it
        if value is out or value is None or (flags.owndata and value.flags.owndata):
            continue
        if np.may_share_memory(out, value):
            overlap(out, name, value)
    return result


def shares_itself(out: Array) -> bool:
    """Whether elements of `out` may be at the same place: an axis has a smaller step than those within it."""
    within = out.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in steps_of(out)):
        if stride < within:
            return True
        within += stride * (size - 1)
    return False


def steps_of(a: Array) -> list[tuple[int, int]]:
    """(stride, size) of the axes along which there is a step."""
    return [(stride, size) for stride, size in zip(a.strides, a.shape, strict=True) if size > 1]


def overlap(out: Array, name: str, value: Array) -> None:
    """Refuse an `out` that holds elements of the input `value` at other places than its own."""
    same_start = out.__array_interface__["data"][0] == value.__array_interface__["data"][0]
    if same_start and out.dtype == value.dtype and steps_of(out) == steps_of(value):
        return
    try:
        shared = np.shares_memory(out, value, max_work=cast(Any, 100_000))
    except np.exceptions.TooHardError:
        shared = True
    if shared:
        raise ValueError(
            f"out overlaps {name} in part; it may be {name} itself, or memory apart from it: give a copy of "
            f"one of them"
        )


# --- targets and losses -------------------------------------------------------------------------------


def scored(x: Any, target: Any) -> tuple[Array, Array]:
    """The logits, and the target as integers, or as floats of the dtype of the logits."""
    logits, given = array(x, "x"), array(target, "target")
    if given.dtype not in FLOATS:
        return floating(logits, "x"), given
    if given.shape == logits.shape:
        logits, given = alike(("x", "target"), logits, given)
    return logits, given


def logits_or_probs(target_logits: Any, target_probs: Any) -> tuple[Any, bool]:
    """The target that was given, and whether it is probabilities."""
    if (target_logits is None) == (target_probs is None):
        raise TypeError("the target is given by target_logits or by target_probs: give one of them")
    return (target_probs, True) if target_logits is None else (target_logits, False)


def probabilities(p: Array, name: str, instead: str) -> Array:
    """`p`, of which nothing is below 0."""
    signs = p.view(f"i{p.itemsize}")  # which NumPy looks through faster
    if p.size and signs.min() < 0 and (p < 0).any():
        raise ValueError(
            f"{name} has {p[p < 0][0]} in it, and probabilities are not below 0: give {instead} if these are "
            f"logits"
        )
    return p


def not_negative(value: Any, name: str) -> float:
    result = real(value, name)
    if not 0 <= result < math.inf:
        raise ValueError(f"{name}={value}: it takes a finite number, 0 or more")
    return result


def float_dtype(value: Any) -> np.dtype[Any]:
    """The dtype of a loss."""
    dtype: np.dtype[Any] = np.dtype(value)
    if dtype not in FLOATS:
        raise TypeError(f"dtype={value!r}; {TAKEN.partition(' (')[0]}: give one of them for the loss")
    return dtype


def class_weights(value: Any, n: int) -> Array:
    """A weight for each class, in float64."""
    result = floating(value, "weight").astype(np.float64)
    if result.shape != (n,):
        raise ValueError(
            f"weight has shape {result.shape}; it takes one number for each class: give an array of shape "
            f"({n},), or sample_weight= for a number for each row"
        )
    return not_below(result, "weight")


def sample_weights(value: Any, shape: tuple[int, ...]) -> Array:
    """A weight for each row, in float64; a mask is one."""
    given = np.asarray(value) if not isinstance(value, np.ma.MaskedArray) else value
    of = given.astype(np.float64) if given.dtype == np.bool_ and type(given) is np.ndarray else value
    result = floating(of, "sample_weight").astype(np.float64)
    try:
        return not_below(np.broadcast_to(result, shape), "sample_weight")
    except ValueError as error:
        if "below 0" in str(error):
            raise
        raise ValueError(
            f"sample_weight has shape {result.shape}; it takes one number for each row: give a shape that "
            f"broadcasts to {shape}"
        ) from None


def not_below(weights: Array, name: str) -> Array:
    if not (weights >= 0).all() or np.isinf(weights).any():
        wrong = weights[~(weights >= 0) | np.isinf(weights)][0]
        raise ValueError(f"{name} has {wrong} in it, and takes finite numbers that are not below 0")
    return weights


def weights_or_classes(
    target: Array, shape: tuple[int, ...], axis: int, ignore_index: Any
) -> tuple[Array | None, Array, Array | None]:
    """What a target is: (weights, –, None), or (None, classes, which rows count; None if all do)."""
    ignore_index = None if ignore_index is None else whole(ignore_index, "ignore_index")
    rows = shape[:axis] + shape[axis + 1 :]
    if target.dtype in FLOATS:
        if target.shape != shape:
            raise ValueError(
                f"target has shape {target.shape} and dtype {target.dtype}: weights take the shape of x, "
                f"{shape}; classes take that without the axis, {rows}, and are integers: give "
                f"target.astype(numpy.int64) if it holds classes"
            )
        if ignore_index is not None:
            raise ValueError(
                "ignore_index is for targets that are classes; this one holds weights, and all of its rows "
                "count: leave out the rows that are not to, of x as well"
            )
        return target, target, None
    shape_of_classes(target.shape, str(target.dtype), shape, axis)
    n = shape[axis] if shape else 1
    wrong = (target < 0) | (target >= n)
    counted = None
    if ignore_index is not None:
        counted = np.asarray(target != ignore_index)
        wrong &= counted
    if np.any(wrong):
        class_out_of_range(target, wrong, n, axis)
    if counted is None or counted.all():
        return None, target.astype(np.int64), None
    return None, np.where(counted, target, 0).astype(np.int64), counted


def shape_of_classes(target: tuple[int, ...], dtype: str, shape: tuple[int, ...], axis: int) -> None:
    """Refuse classes of another shape than that of x without the axis."""
    rows = shape[:axis] + shape[axis + 1 :]
    if target != rows:
        advice = ": give target.astype(float) if it holds weights" if target == shape else ""
        raise ValueError(
            f"target has shape {target} and dtype {dtype}: classes take the shape of x, "
            f"{shape}, without axis {axis}, which is {rows}{advice}"
        )


def class_out_of_range(target: Array, wrong: Array, n: int, axis: int) -> None:
    """Raise for the first of these classes."""
    place = tuple(map(int, np.argwhere(wrong)[0]))
    raise ValueError(
        f"target{list(place) if place else ''} is {target[place]}, and x has the classes 0 to {n - 1} "
        f"along axis {axis}: correct it, or give ignore_index={target[place]} if it stands for no class"
    )


def of_loss(dloss: Any, shape: tuple[int, ...]) -> Array:
    """The gradient of what is made of a loss of this shape: a number, or one for each."""
    result = array(dloss, "dloss")
    if result.ndim and result.shape != shape:
        raise ValueError(
            f"dloss has shape {result.shape} and the loss has shape {shape}: give one number, or an array of "
            f"that shape"
        )
    return result.astype(np.float64)
