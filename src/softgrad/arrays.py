"""NumPy arrays: check the arguments, allocate the result, call the kernels on the CPU.

`softgrad.functional` documents the arguments, and `dispatch.Library` lists what it calls here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import checks, specs
from .checks import Array
from .cpu import call, gate
from .specs import Divergence, Kind, Map, Reduction

# --- to the kernels and back --------------------------------------------------------------------------


class Cut(NamedTuple):
    """Given in place of an axis: one that is cut into segments, as the public functions are told."""

    offsets: Any
    segment_ids: Any
    num_segments: Any
    axis: Any


class Rows:
    """The rows of an array: those along its axes, or the segments of one axis."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        self.whole = shape
        self.offsets = self.order = None
        if isinstance(axis, Cut):
            cut, self.offsets, self.order = checks.segments(*axis, shape)
            self.axes: tuple[int, ...] = (cut,)
        else:
            self.axes = checks.axes(axis, len(shape))

    def numbers(self, keepdims: bool = True) -> tuple[int, ...]:
        """The shape of one number for each row."""
        if self.offsets is None:
            return checks.reduced_shape(self.whole, self.axes, keepdims)
        (cut,) = self.axes
        return *self.whole[:cut], len(self.offsets) - 1, *self.whole[cut + 1 :]

    def run(
        self,
        name: str,
        arrays: Sequence[Array],
        where: Array | None = None,
        scale: float = 1.0,
        *,
        fill: float = 0.0,
        more: tuple[float, ...] = (),
        per_row: int | None = None,
        masked: tuple[Any, ...] = (),
    ) -> None:
        """The operation `name` of `softgrad.cpu` on arrays of one shape and dtype, the inputs first.

        Array number `per_row` has one float64 for each row instead.  The kernels of segments know no mask:
        for them `masked` is what each array holds where it is masked.
        """
        given, mask = list(arrays), where
        if self.offsets is not None:
            name, mask, (axis,), step = f"segment_{name}", None, self.axes, 0
            if where is not None:
                for i, value in enumerate(masked[:-1]):  # None: it has one number for each row
                    if value is not None:
                        given[i] = np.where(where, given[i], given[i].dtype.type(value))
            if self.order is not None:
                given = [a if i == per_row else a.take(self.order, axis) for i, a in enumerate(given)]
            if per_row is not None:  # the kernel is given the first number, and the way to the next
                step = given[per_row].strides[axis] // 8
                given[per_row] = given[per_row][(slice(None),) * axis + (slice(1),)]
            more = (float(step),)
        if not self.whole:  # a number counts as a row of one
            given = [a.reshape(1) for a in given]
        like = given[per_row == 0]
        call.run(
            name,
            checks.FLOATS[like.dtype][0],
            like.shape,
            [a.ctypes.data for a in given],
            [strides_of(a, like.shape) for a in given],
            self.axes,
            None if mask is None else (mask.ctypes.data, mask.strides or (0,)),
            scale,
            fill,
            more,
            self.offsets,
        )
        if self.offsets is None or per_row == len(arrays) - 1:
            return
        if self.order is not None:
            np.moveaxis(arrays[-1], axis, 0)[self.order] = np.moveaxis(given[-1], axis, 0)
        if where is not None:
            np.copyto(arrays[-1], masked[-1], where=~where)

    def spread(self, numbers: Array) -> Array:
        """One number for each row, so that it broadcasts to the elements."""
        if self.offsets is None:
            return numbers
        of_rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        if self.order is not None:
            of_rows[self.order] = of_rows.copy()
        return numbers.take(of_rows, self.axes[0]).reshape(self.whole)


def strides_of(a: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides in elements; 0 along axes that are of length 1 where the shape has more."""
    strides = tuple([step // a.itemsize for step in a.strides])
    if a.shape == shape:
        return strides
    return tuple([step if n == size else 0 for step, n, size in zip(strides, a.shape, shape, strict=True)])


def alike(axis: Any, where: Any, **values: Any) -> Any:
    """The arrays, of one shape and dtype, their rows, and the mask."""
    arrays = checks.alike(tuple(values), *values.values())
    shape = arrays[0].shape
    return *arrays, Rows(shape, axis), checks.mask(where, shape)


def result_for(out: Any, like: Array, dtype: np.dtype[Any], **inputs: Array | None) -> Array:
    """Memory for the result: a new array laid out as `like`, or `out` if that can be written to."""
    return np.empty_like(like, dtype) if out is None else checks.target(out, like.shape, dtype, inputs)


def returned(result: Array, out: Array | None) -> Array:
    """What a call returns: `out` if that was given; of a 0-d result a scalar, as NumPy's functions do."""
    if out is not None:
        return out
    return result if result.ndim else result[()]


def rounded(numbers: Array, dtype: np.dtype[Any]) -> Array:
    """What a call returns of numbers in float64."""
    with np.errstate(over="ignore"):
        return returned(numbers.astype(dtype), None)


def in_floats(x: Array, result: Array) -> Array:
    """`x` in the dtype of the result; integers are converted in its memory."""
    if x.dtype == result.dtype:
        return x
    np.copyto(result, x)
    return result


def absent(scale: float) -> float:
    """The logit that has no part, which the scale makes −inf."""
    return -np.inf if scale >= 0 else np.inf


# --- the maps -----------------------------------------------------------------------------------------


def entmax(alpha: Any) -> Map:
    """The map for one alpha."""
    return specs.entmax(checks.alpha(alpha))


def takes_scales(map: Map, scale: Any, axis: Any) -> bool:
    """Whether the rows have a scale each."""
    return map is specs.SOFTMAX and np.ndim(scale) > 0 and not isinstance(axis, Cut)


def forward(map: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None) -> Array:
    if takes_scales(map, scale, axis):
        return scaled_softmax(x, axis=axis, where=where, scale=scale, empty=empty, out=out)
    x, dtype = checks.logits(x)
    rows = Rows(x.shape, axis)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, dtype)
    fill = checks.choice(empty)
    result = result_for(out, x, dtype, x=x, where=where)
    empty_rows = None
    if x.size and (empty == "raise" or (empty == "nan" and where is not None)):
        empty_rows = rows_of_nothing(x, rows, where, scale)
        if empty == "raise" and empty_rows.any():
            raise ValueError(checks.EMPTY_ROW)
    arrays = in_floats(x, result), result
    masked = absent(scale), map.absent
    rows.run(map.forward, arrays, where, scale, fill=fill, more=map.more, masked=masked)
    gate.remember(map.forward, arrays)
    if empty_rows is not None:  # the kernel writes 0 where it is masked; in such a row it is NaN
        np.copyto(result, fill, where=empty_rows)
    return returned(result, out)


def rows_of_nothing(x: Array, rows: Rows, where: Array | None, scale: float) -> Array:
    """Where the rows of logits are all −inf, or masked; with axes of length 1."""
    axis = rows.axes if x.ndim else None
    if x.dtype.kind in "iu":
        valid = np.ones_like(x, bool) if where is None else where
        return np.asarray(~valid.any(axis=axis, keepdims=True))
    lowest, extreme = absent(scale), np.min if scale < 0 else np.max
    masked = {} if where is None else {"where": where}
    return np.asarray(extreme(x, axis=axis, keepdims=True, initial=lowest, **masked) == lowest)


def product(
    map: Map, kind: Kind, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
) -> Array:
    """The vjp or the jvp; most maps have a symmetric J and one kernel for both."""
    if takes_scales(map, scale, axis):
        return sink_product(kind, y, 0.0, v, None, axis=axis, where=where, scale=scale, out=out)[0]
    kernel, name = (map.vjp, "dy") if kind == "vjp" else (map.jvp, "dx")
    y, v, rows, where = alike(axis, where, **{"y": y, name: v})
    scale = checks.number(scale, y.dtype)
    result = result_for(out, v, y.dtype, **{"y": y, name: v, "where": where})
    rows.run(kernel, [y, v, result], where, scale, more=map.more, masked=(map.absent, 0.0, 0.0))
    gate.remember(kernel, (y, v, result))
    return returned(result, out)


def double_backward(
    map: Map, y: Any, dy: Any, v: Any, *, axis: Any, scale: Any, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """`out` is for arrays known to fit: nothing of them is checked."""
    if takes_scales(map, scale, axis):
        return sink_double_backward(y, 0.0, dy, None, v, None, axis=axis, where=None, scale=scale)[::2]
    y, dy, v, rows, _ = alike(axis, None, y=y, dy=dy, v=v)
    scale = checks.number(scale, y.dtype)
    grads = (np.empty_like(y), np.empty_like(y)) if out is None else out
    rows.run(map.jvp, [y, v, grads[1]], None, scale, more=map.more)
    rows.run(map.double_backward, [y, dy, v, grads[0]], None, scale, more=map.more)
    return grads if y.ndim or out is not None else (grads[0][()], grads[1][()])


def alpha_vjp(y: Any, dy: Any, alpha: float, *, axis: Any, where: Any) -> Array:
    """Σ dx·ψ for each row: with dx = J dy it is ⟨dy, ∂y/∂α⟩, since ∂y/∂α = J ψ (see `cpu.sparse.psi`)."""
    map = entmax(alpha)
    y, dy, rows, where = alike(axis, where, y=y, dy=dy)
    dx = np.empty_like(y)
    rows.run(map.vjp, [y, dy, dx], where, more=map.more)
    if where is not None:
        y = np.where(where, y, np.zeros((), y.dtype))
    total = np.zeros(rows.numbers())
    rows.run("entmax_alpha_vjp", [y, dx, total], more=(alpha,), per_row=2)
    return rounded(total.reshape(rows.numbers(keepdims=False)), y.dtype)


# --- softmax with numbers of each row: a sink, a scale, a mean ------------------------------------------


def scaled_softmax(x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None) -> Array:
    """softmax with a scale for each row."""
    x, dtype = checks.logits(x)
    rows = Rows(x.shape, axis)
    where = checks.mask(where, x.shape)
    scales = checks.scales(scale, rows.numbers(), dtype)
    fill = checks.choice(empty)
    result = result_for(out, x, dtype, x=x, where=where)
    if x.size == 0:
        return returned(result, out)
    x, scales = with_positive_scales(in_floats(x, result), scales)
    empty_rows = None if empty == "zero" else rows_of_nothing(x, rows, where, 1.0)
    if empty == "raise" and np.any(empty_rows):
        raise ValueError(checks.EMPTY_ROW)
    y = result if x.dtype == result.dtype else np.empty_like(x)
    rows.run("softmax_scaled", [np.ascontiguousarray(scales), x, y], where, fill=fill, per_row=0)
    if y is not result:
        np.copyto(result, y, casting="unsafe")
    if empty_rows is not None:  # the kernel writes 0 where it is masked
        np.copyto(result, fill, where=empty_rows)
    return returned(result, out)


def sink_softmax(x: Any, sink: Any, *, axis: Any, where: Any, scale: Any) -> tuple[Array, Array]:
    x, dtype = checks.logits(x)
    rows = Rows(x.shape, axis)
    where = checks.mask(where, x.shape)
    shape = rows.numbers()
    sinks = checks.per_row(sink, "sink", shape)
    scales = checks.scales(scale, shape, dtype)
    result = np.empty_like(x, dtype)
    table = np.empty((*shape, 3))
    table[..., 0], table[..., 2] = sinks, np.where(sinks < np.inf, sinks > -np.inf, np.nan)
    if x.size:
        x, table[..., 1] = with_positive_scales(in_floats(x, result), scales)
        y = result if x.dtype == result.dtype else np.empty_like(x)
        rows.run("sink_softmax", [table[..., 0], x, y], where, per_row=0)
        if y is not result:
            np.copyto(result, y, casting="unsafe")
    return returned(result, None), returned(table[..., 2].astype(dtype), None)


def with_positive_scales(x: Array, scales: Array) -> tuple[Array, Array]:
    """x and scales of which the product is the same, and the scales are neither negative nor tiny."""
    if (scales >= 2.0**-60).all():
        return x, scales
    tiny = np.where(np.abs(scales) < 2.0**-500, 2.0**-512, 1.0)
    zero = scales == 0
    with np.errstate(invalid="ignore"):
        scaled = x.astype(np.float64) * (np.sign(scales) * tiny)
    scaled = np.where(zero & (x == -np.inf), -np.inf, scaled)
    return scaled, np.where(zero, 1.0, np.abs(scales) / tiny)


def sink_product(
    kind: Kind,
    y: Any,
    y_sink: Any,
    v: Any,
    v_sink: Any,
    *,
    axis: Any,
    where: Any,
    scale: Any,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """The vjp, or the jvp, of `sink_softmax`: for the logits, and for the sink."""
    name = "dy" if kind == "vjp" else "dx"
    y, v, rows, where = alike(axis, where, **{"y": y, name: v})
    shape = rows.numbers()
    scales = checks.scales(scale, shape, y.dtype)
    table = np.empty((*shape, 4))
    table[..., 0] = 0.0 if v_sink is None else checks.per_row(v_sink, f"{name}_sink", shape)
    table[..., 2], table[..., 3] = checks.per_row(y_sink, "y_sink", shape), 0.0
    result = result_for(out, v, y.dtype, **{"y": y, name: v, "where": where})
    # The kernel multiplies by the scale of a row.  The sink has none, so beside its tangent scale·v is made
    # first, in float64; and a small scale is multiplied in afterwards, for without it a row is tested.
    of_v, of_x, of_sink = np.ones(()), np.ones(()), np.ones(())
    if kind == "jvp" and v_sink is not None:
        of_v, scales = scales, np.ones(())
    elif kind == "jvp":
        of_sink = scales
    if (np.abs(scales) < 2.0**-60).any():
        small = np.abs(scales) < 2.0**-60
        of_x, scales = np.where(small, scales, 1.0), np.where(small, 1.0, scales)
    table[..., 1] = scales
    wide = result
    if not (of_v == 1).all() or not (of_x == 1).all():
        with np.errstate(all="ignore"):
            y, v = y.astype(np.float64), v.astype(np.float64) * of_v
        wide = np.empty_like(y)
    rows.run("sink_softmax_vjp", [table[..., 0], y, v, wide], where, per_row=0)
    with np.errstate(all="ignore"):
        if wide is not result:
            np.copyto(result, wide * of_x, casting="unsafe")
        return returned(result, out), rounded(table[..., 3] * of_sink, result.dtype)


def sink_double_backward(
    y: Any, y_sink: Any, dy: Any, dy_sink: Any, v: Any, v_sink: Any, *, axis: Any, where: Any, scale: Any
) -> tuple[Array, Array, Array, Array]:
    """The gradients of ⟨v, dx⟩ + ⟨v_sink, dsink⟩ for the logits, the sink, dy and dy_sink.

    Rows are copied, each followed by its sink, for the double backward of softmax; in float64 if there is a
    scale, which the sink does not have.
    """
    y, dy, v, rows, where = alike(axis, where, y=y, dy=dy, v=v)
    shape, axes = rows.numbers(), rows.axes if y.ndim else (0,)
    scales = checks.scales(scale, shape, y.dtype)
    wide = np.dtype(np.float64) if (scales != 1).any() else np.promote_types(y.dtype, np.float32)
    last, n = tuple(range(-len(axes), 0)), math.prod(y.shape[axis] for axis in rows.axes) if y.ndim else 1

    def extended(a: Array, of_sink: Any, name: str, factor: Any = 1.0) -> Array:
        numbers = checks.per_row(0.0 if of_sink is None else of_sink, name, shape)
        a = np.multiply(a, factor, dtype=wide, casting="unsafe")
        a = a if where is None else np.where(where, a, wide.type(0))
        parts = [np.moveaxis(np.atleast_1d(part), axes, last) for part in (a, numbers)]
        kept = parts[0].shape[: parts[0].ndim - len(axes)]
        whole = [part.reshape(*kept, size) for part, size in zip(parts, (n, 1), strict=True)]
        return np.concatenate(whole, axis=-1, dtype=wide, casting="unsafe")

    def split(whole: Array, factor: Any) -> list[Array]:
        sizes = [y.shape[axis] for axis in axes] if y.ndim else [1]
        elements = np.moveaxis(whole[..., :-1].reshape(*whole.shape[:-1], *sizes), last, axes)
        parts = elements.reshape(y.shape) * factor, whole[..., -1].reshape(shape)
        return [rounded(np.asarray(part), y.dtype) for part in parts]

    with np.errstate(all="ignore"):
        p, d = extended(y, y_sink, "y_sink"), extended(dy, dy_sink, "dy_sink")
        w = extended(v, v_sink, "v_sink", scales)
        of_x, of_dy = double_backward(specs.SOFTMAX, p, d, w, axis=-1, scale=1.0)
        (grad_x, grad_sink), (grad_dy, grad_dy_sink) = split(of_x, scales), split(of_dy, 1.0)
    return grad_x, grad_sink, grad_dy, grad_dy_sink


def hessian_diagonal(
    y: Any, dy: Any, h: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
) -> Array:
    """∂²L/∂x_i² of L(softmax(scale·x)); h is None, or the diagonal of ∂²L/∂y²."""
    given = {"y": y, "dy": dy} | ({} if h is None else {"h": h})
    *inputs, rows, where = alike(axis, where, **given)
    scale = checks.number(scale, inputs[0].dtype)
    result = result_for(out, inputs[0], inputs[0].dtype, **dict(zip(given, inputs, strict=True)), where=where)
    rows.run(f"softmax_hessian_diagonal{'' if h is None else '_of'}", [*inputs, result], where, scale)
    return returned(result, out)


def scale_vjp(x: Any, y: Any, dy: Any, *, axis: Any, where: Any) -> Array:
    """⟨x, J dy⟩ for each row."""
    x, y, dy, rows, where = alike(axis, where, x=x, y=y, dy=dy)
    total = np.zeros(rows.numbers())
    rows.run("softmax_scale_vjp", [x, y, dy, total], where, per_row=3)
    return rounded(total, y.dtype)


def mean(y: Any, dy: Any, *, axis: Any, where: Any) -> Array:
    """⟨y,dy⟩/⟨y,1⟩ of each row, in float64; 0 of an empty row."""
    y, dy, rows, where = alike(axis, where, y=y, dy=dy)
    means = np.zeros(rows.numbers())
    rows.run("softmax_mean", [y, dy, means], where, per_row=2)
    return returned(means, None)


def vjp_of_mean(y: Any, dy: Any, mean: Any, *, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    """scale·y∘(dy − mean)."""
    y, dy, rows, where = alike(axis, where, y=y, dy=dy)
    scales = checks.scales(scale, rows.numbers(), y.dtype) if np.ndim(scale) else None
    factor = checks.number(scale, y.dtype) if scales is None else 1.0
    means = checks.per_row(mean, "mean", rows.numbers())
    result = result_for(out, dy, y.dtype, y=y, dy=dy, where=where)
    if scales is None:
        rows.run("softmax_vjp_of_mean", [means, y, dy, result], where, factor, per_row=0)
        return returned(result, out)
    y, dy = y.astype(np.float64), dy.astype(np.float64)  # rounded once, after the scale
    wide = np.empty_like(y)
    rows.run("softmax_vjp_of_mean", [means, y, dy, wide], where, per_row=0)
    with np.errstate(all="ignore"):
        np.multiply(wide, scales, out=result, casting="unsafe")
    return returned(result, out)


# --- the reductions -----------------------------------------------------------------------------------


def reduce(
    reduction: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Array | None
) -> Array:
    x = checks.floating(x, "x")
    rows = Rows(x.shape, axis)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, x.dtype)
    shape = rows.numbers(bool(keepdims))
    if out is None:
        result = np.empty(shape, x.dtype)
    else:
        result = checks.target(out, shape, x.dtype, {"x": x, "where": where})
    numbers = np.full(rows.numbers(), reduction.of_nothing)
    rows.run(reduction.name, [x, numbers], where, scale, per_row=1, masked=(absent(scale), None))
    with np.errstate(over="ignore"):
        np.copyto(result, numbers.reshape(shape), casting="unsafe")
    return returned(result, out)


def reduce_vjp(
    reduction: Reduction, x: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
) -> Array:
    x, dy = checks.in_one_dtype([checks.floating(x, "x"), checks.floating(dy, "dy")])
    rows = Rows(x.shape, axis)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, x.dtype)
    checks.for_each_row(dy, x.shape, rows.numbers(keepdims=False), rows.numbers())
    result = result_for(out, x, x.dtype, x=x, dy=dy, where=where)
    wide = dy.reshape(rows.numbers()).astype(np.float64)
    masked = None, absent(scale), 0.0
    with np.errstate(all="ignore"):
        factors = np.asarray(wide * scale)
        if abs(scale) <= 1 or (np.abs(factors) <= checks.largest(x.dtype)).all():
            rows.run(f"{reduction.name}_vjp", [factors, x, result], where, scale, per_row=0, masked=masked)
            return returned(result, out)
        # Where scale·dy overflows, scale·dy·p may not: a power of two is taken from the factor of each row.
        # What is left of it is large enough for no product with a p to be subnormal.
        (digits, power), (scale_digits, scale_power) = np.frexp(wide), math.frexp(scale)
        power = power + scale_power
        kept = np.minimum(power, 1000 if x.dtype.itemsize == 8 else 100)
        factors = np.ldexp(digits * scale_digits, kept)
        x = x.astype(np.float32) if x.dtype.itemsize == 2 else x
        dx = np.empty_like(x)
        rows.run(f"{reduction.name}_vjp", [factors, x, dx], where, scale, per_row=0, masked=masked)
        np.copyto(result, np.ldexp(dx, rows.spread(power - kept)), casting="unsafe")
    return returned(result, out)


# --- segments -----------------------------------------------------------------------------------------


def in_segments(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A function of rows as one of segments, which takes their offsets after the arrays."""

    def of_segments(*arguments: Any, segment_ids: Any, num_segments: Any, axis: Any, **others: Any) -> Any:
        *arrays, offsets = arguments
        return function(*arrays, axis=Cut(offsets, segment_ids, num_segments, axis), **options, **others)

    return of_segments


segment_forward = in_segments(forward, empty="zero")
segment_product = in_segments(product)
segment_double_backward = in_segments(double_backward)
segment_reduce = in_segments(reduce, keepdims=True, out=None)
segment_reduce_vjp = in_segments(reduce_vjp)


# --- divergences, and the entropy of probabilities -------------------------------------------------------


def divergence(
    spec: Divergence,
    x: Any,
    target: Any,
    probs: bool,
    *,
    axis: Any,
    where: Any,
    temperature: Any,
    keepdims: bool,
) -> Array:
    x, target, rows, where = beside_target(x, target, probs, axis, where)
    numbers, _ = compared(spec, x, target, probs, rows, where, temperature)
    return rounded(numbers.reshape(rows.numbers(bool(keepdims))), x.dtype)


def divergence_vjp(
    spec: Divergence, x: Any, dy: Any, target: Any, probs: bool, *, axis: Any, where: Any, temperature: Any
) -> tuple[Array, Array]:
    """The gradients for x and for the target."""
    x, target, rows, where = beside_target(x, target, probs, axis, where)
    dy = checks.floating(dy, "dy")
    checks.for_each_row(dy, x.shape, rows.numbers(keepdims=False), rows.numbers())
    options = spec, x, target, probs, rows, where, temperature, dy.reshape(rows.numbers())
    return tuple(returned(compared(*options, side=side)[1], None) for side in (0, 1))  # type: ignore[return-value]


def beside_target(
    x: Any, target: Any, probs: bool, axis: Any, where: Any
) -> tuple[Array, Array, Rows, Array | None]:
    """x and the target in one dtype, their rows, and the mask."""
    name = "target_probs" if probs else "target_logits"
    x, target, rows, where = alike(axis, where, **{"x": x, name: target})
    if probs:
        checks.probabilities(target, name, "target_logits")
    return x, target, rows, where


def compared(
    spec: Divergence,
    x: Array,
    target: Array,
    probs: bool,
    rows: Rows,
    where: Array | None,
    temperature: Any,
    dy: Array | None = None,
    side: int = 0,
) -> tuple[Array, Array]:
    """The divergence of each row in float64; and its gradient for x, or the target, if there is a dy."""
    numbers = np.zeros(rows.numbers())
    given = [x, target, numbers]
    gradient = np.empty_like((x, target)[side])
    if dy is not None:
        np.copyto(numbers, dy)
        given.append(gradient)
    name, more = f"divergence{'_of_probabilities' if probs else ''}", (float(spec.kind), float(side))
    with np.errstate(all="ignore"):
        rows.run(name, given, where, checks.inverse_temperature(temperature), more=more, per_row=2)
    return numbers, gradient


def entropy_of_probabilities(p: Any, *, axis: Any, where: Any, keepdims: bool) -> Array:
    p = checks.probabilities(checks.floating(p, "p"), "p", "them to entropy")
    rows, where = Rows(p.shape, axis), checks.mask(where, p.shape)
    numbers = np.zeros(rows.numbers())
    rows.run("entropy_of_probabilities", [p, numbers], where, per_row=1)
    return rounded(numbers.reshape(rows.numbers(bool(keepdims))), p.dtype)


def entropy_of_probabilities_vjp(p: Any, dy: Any, *, axis: Any, where: Any, out: Array | None) -> Array:
    p, dy = checks.in_one_dtype([checks.floating(p, "p"), checks.floating(dy, "dy")])
    checks.probabilities(p, "p", "them to entropy_vjp")
    rows, where = Rows(p.shape, axis), checks.mask(where, p.shape)
    checks.for_each_row(dy, p.shape, rows.numbers(keepdims=False), rows.numbers())
    result = result_for(out, p, p.dtype, p=p, dy=dy, where=where)
    wide = dy.reshape(rows.numbers()).astype(np.float64)
    rows.run("entropy_of_probabilities", [p, wide, result], where, per_row=1)
    return returned(result, out)


# --- the losses of sparsemax and entmax -------------------------------------------------------------------


def fenchel_young(map: Map, x: Any, target: Any, **options: Any) -> Any:
    return fenchel_young_with_vjp(map, x, target, **options)[0]


def fenchel_young_with_vjp(
    map: Map, x: Any, target: Any, *, axis: Any, where: Any, ignore_index: Any, reduction: Any
) -> tuple[Any, Callable[..., Array]]:
    """The loss, and the function of its gradient, y − target."""
    x, target = checks.scored(x, target)
    axis = checks.one_axis(axis, x.ndim, "the classes")
    checks.reduction(reduction)
    weights, classes, counted = checks.weights_or_classes(target, x.shape, axis, ignore_index)
    where, shape = checks.mask(where, x.shape), x.shape
    if x.ndim == 0:
        x, weights, where = (None if a is None else a.reshape(1) for a in (x, weights, where))
    among = where
    if weights is None:
        among, weights = None, np.zeros_like(x)
        np.put_along_axis(weights, np.expand_dims(classes, axis), 1, axis)
        if where is not None:  # a class that is masked is an impossible one
            x = np.where(where, x, x.dtype.type(-np.inf))
    else:
        checks.probabilities(weights, "target", "classes as integers")
        weights = weights if where is None else np.where(where, weights, weights.dtype.type(0))
    y = forward(map, x, axis=axis, where=where, scale=1.0, empty="zero", out=None)
    rows = Rows(x.shape, axis)
    numbers = np.zeros(rows.numbers())
    with np.errstate(all="ignore"):
        if map.alpha is None:
            kind = float(specs.KL.kind), 0.0
            rows.run("divergence_of_probabilities", [x, weights, numbers], among, more=kind, per_row=2)
        else:
            rows.run("fenchel_young", [x, weights, y, numbers], among, more=map.more, per_row=3)
        losses = numbers.squeeze(axis)
        gradient = np.subtract(y, weights)
        nothing = np.asarray(losses == 0)  # or no loss
        if nothing.any():
            nothing[nothing] = ~np.moveaxis(y, axis, -1)[nothing].any(axis=-1)
            np.moveaxis(gradient, axis, -1)[nothing] = 0
        if where is not None:
            np.copyto(gradient, 0, where=~where)
        if counted is not None:
            losses = np.where(counted, losses, 0)
            np.moveaxis(gradient, axis, -1)[~counted] = 0
        return of_rows(losses, gradient.reshape(shape), counted, axis, reduction, x.dtype)


def of_rows(
    losses: Array, gradient: Array, counted: Array | None, axis: int, reduction: str, dtype: np.dtype[Any]
) -> tuple[Any, Callable[..., Array]]:
    """The loss of rows, reduced, and the function of the gradient, which is that of each row."""
    rows = losses.size if counted is None else int(np.count_nonzero(counted))
    if reduction != "none":
        losses = np.sum(losses)
        losses = losses / rows if reduction == "mean" else losses
    loss = np.asarray(losses).astype(dtype, order="C")[()]
    divisor = max(rows, 1) if reduction == "mean" else 1

    def vjp(dloss: Any = 1.0, *, out: Array | None = None) -> Array:
        factor = checks.of_loss(dloss, np.shape(loss)) / divisor
        result = result_for(out, gradient, gradient.dtype, dx=gradient, dloss=factor)
        if factor.ndim:
            factor = np.expand_dims(factor if counted is None else np.where(counted, factor, 0), axis)
        with np.errstate(all="ignore"):
            np.multiply(gradient, factor, out=result, dtype=np.float64, casting="unsafe")
        return returned(result, out)

    return loss, vjp


# --- cross-entropy ------------------------------------------------------------------------------------


def cross_entropy(x: Any, target: Any, **options: Any) -> Any:
    return evaluate(x, target, **options)[0]


def cross_entropy_with_vjp(
    x: Any, target: Any, *, out: Array | None, **options: Any
) -> tuple[Any, Callable[..., Array]]:
    loss, gradient, counted, axis = evaluate(x, target, with_gradient=True, out=out, **options)
    assert gradient is not None
    first_out = out

    def vjp(dloss: Any = 1.0, *, out: Array | None = None) -> Array:
        factor = checks.of_loss(dloss, np.shape(loss))
        if out is None and factor.ndim == 0 and factor == 1:
            return returned(gradient, first_out)
        result = result_for(out, gradient, gradient.dtype, dx=gradient, dloss=factor)
        if factor.ndim:
            factor = factor if counted is None else np.where(counted, factor, 0)
            factor = np.expand_dims(factor, axis)
        with np.errstate(all="ignore"):
            np.multiply(gradient, factor, out=result, dtype=np.float64, casting="unsafe")
        return returned(result, out)

    return loss, vjp


def evaluate(
    x: Any,
    target: Any,
    *,
    axis: Any,
    label_smoothing: Any,
    ignore_index: Any,
    reduction: Any,
    sample_weight: Any,
    weight: Any,
    where: Any,
    z_loss: Any,
    dtype: Any,
    with_gradient: bool = False,
    out: Array | None = None,
) -> tuple[Any, Array | None, Array | None, int]:
    """The loss, its gradient if that is asked for, which rows count (None: all), and the axis."""
    x, target = checks.scored(x, target)
    axis = checks.one_axis(axis, x.ndim, "the classes")
    smoothing, z_loss = checks.smoothing(label_smoothing), checks.not_negative(z_loss, "z_loss")
    checks.reduction(reduction)
    of_loss = x.dtype if dtype is None else checks.float_dtype(dtype)
    weights, classes, counted = checks.weights_or_classes(target, x.shape, axis, ignore_index)
    n, shape = x.shape[axis] if x.ndim else 1, x.shape[:axis] + x.shape[axis + 1 :]
    of_classes = None if weight is None else checks.class_weights(weight, n)
    of_rows = None if sample_weight is None else checks.sample_weights(sample_weight, shape)
    where = checks.mask(where, x.shape)
    gradient = result = None
    if with_gradient:
        gradient = result_for(out, x, x.dtype, x=x, target=target, where=where)
        result = gradient if out is None else out
    if x.ndim == 0:
        x, weights, gradient, where = (
            None if a is None else a.reshape(1) for a in (x, weights, gradient, where)
        )
    if of_rows is not None:
        counted = of_rows != 0 if counted is None else counted & (of_rows != 0)
    # what multiplies each row, or all of them, and what the mean is divided by
    factors: Any = 1.0
    if of_rows is not None and counted is not None:
        factors = np.where(counted, of_rows, 0)
    counts = factors
    if of_classes is not None and weights is None:
        own = of_classes[classes]
        counts = factors * (own if counted is None else np.where(counted, own, 0))
    if np.ndim(counts):
        total = float(np.sum(counts))
    else:
        total = float(math.prod(shape) if counted is None else np.count_nonzero(counted))
    if (of_classes is not None or where is not None) and (weights is not None or smoothing):
        by_class = weights is None
        x, weights = to_weights(x, weights, classes, where, of_classes, smoothing, axis)
        smoothing = 0.0
        if by_class and of_classes is not None:
            # a row's own class weight is a factor of all of it, a z-loss included
            own = np.where(own == 0, 1.0, own)
            weights /= np.expand_dims(own, axis).astype(weights.dtype)
            factors = factors * own
    else:
        factors = counts
    with np.errstate(all="ignore"):
        times = factors / total if reduction == "mean" and total != 0 else factors
        if x.size:
            numbers = 1.0 - smoothing, smoothing / n, smoothing, z_loss
            options = weights, classes, counted, where, axis, numbers
            losses = losses_of_rows(x, *options, times, gradient)
            losses = losses if np.ndim(factors) == 0 else losses * factors
        else:
            losses = np.zeros(shape)
        if counted is not None:
            losses = np.where(counted, losses, 0)
        if reduction != "none":
            losses = np.sum(losses)
            losses = losses / total if reduction == "mean" else losses
        loss = np.asarray(losses).astype(of_loss, order="C")[()]
    return loss, result, counted, axis


def to_weights(
    x: Array,
    weights: Array | None,
    classes: Array,
    where: Array | None,
    of_classes: Array | None,
    smoothing: float,
    axis: int,
) -> tuple[Array, Array]:
    """The logits, and t' times the weights of the classes, in the dtype that is computed in.

    The smoothing goes to the classes that are not masked.
    """
    wide = np.promote_types(x.dtype, np.float32)
    x, n = x.astype(wide, copy=False), x.shape[axis]
    t = np.zeros(x.shape, wide)
    if weights is None:
        np.put_along_axis(t, np.expand_dims(classes, axis), 1, axis)
    else:
        np.copyto(t, weights, where=True if where is None else where)
    present = n if where is None else np.maximum(where.sum(axis=axis, keepdims=True), 1)
    t = (1 - smoothing) * t + smoothing / present * (1 if where is None else where)
    if of_classes is not None:
        t = t * of_classes.reshape([-1 if d == axis else 1 for d in range(x.ndim)])
    return x, t.astype(wide, copy=False)


def losses_of_rows(
    x: Array,
    weights: Array | None,
    classes: Array,
    counted: Array | None,
    where: Array | None,
    axis: int,
    numbers: tuple[float, ...],
    times: Any,
    gradient: Array | None,
) -> Array:
    """The loss of each row; `times` its gradient is written to `gradient`.

    The kernel gives four numbers for each row (cpu/cross_entropy.py).  It knows the weights t'; of classes it
    knows the part that all classes have, and the target class has `share` more.  With d = x_target − top and
    S = 1 + others, the p of the target is exp(d)/S, and 1 − p is (others − expm1(d))/S.
    """
    share, even, smoothing, z_loss = numbers
    index, there = np.expand_dims(classes, axis), None
    if weights is None:  # before the gradient is written, maybe over x
        d = np.take_along_axis(x, index, axis).squeeze(axis).astype(np.float64)
        if where is not None:
            there = np.take_along_axis(where, index, axis).squeeze(axis)
            d = np.where(there, d, -np.inf)
    table = np.empty((*x.shape[:axis], 1, *x.shape[axis + 1 :], 5))
    table[..., 4] = np.expand_dims(times, axis) if np.ndim(times) else times
    own = gradient if gradient is None or gradient.dtype == x.dtype else np.empty_like(x)
    arrays = [a for a in (x, weights, table[..., 0], own) if a is not None]
    name = "cross_entropy" if weights is None else "cross_entropy_of_weights"
    Rows(x.shape, axis).run(name, arrays, where, more=numbers, per_row=1 if weights is None else 2)
    top, others, distance, total, _ = np.moveaxis(table.squeeze(axis), -1, 0)
    losses: Array = np.log1p(others)
    log_s = top + losses if z_loss else 0.0
    if weights is not None:
        losses = distance + (share * total + smoothing) * losses
    else:
        d -= top
        losses = losses + distance if smoothing else losses
        losses = losses - share * d if share else losses
    if z_loss:
        losses = losses + z_loss * log_s**2
    if gradient is None:
        return losses
    if own is not gradient and own is not None:
        np.copyto(gradient, own, casting="unsafe")
    if weights is None:
        dx = even * (x.shape[axis] - 1) - (others - np.expm1(d)) / (1 + others)
        dx = dx + 2 * z_loss * log_s * np.exp(d) / (1 + others) if z_loss else dx
        dx *= times
        dx = dx if there is None else np.where(there, dx, 0)
        np.put_along_axis(gradient, index, np.expand_dims(dx.astype(gradient.dtype), axis), axis)
    if counted is not None:
        np.moveaxis(gradient, axis, -1)[~counted] = 0
    return losses
