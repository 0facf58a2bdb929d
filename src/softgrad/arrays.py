"""NumPy arrays: check the arguments, allocate the result, call the kernels on the CPU.

`run` is the way to the kernels for every function here.  `softgrad.functional` documents the arguments, and
`dispatch.Library` lists what it calls here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import checks, specs
from .checks import Array
from .cpu import call, gate
from .specs import Kind, Map, Reduction

# --- to the kernels and back --------------------------------------------------------------------------


def run(
    name: str,
    arrays: Sequence[Array],
    axes: tuple[int, ...],
    where: Array | None = None,
    scale: float = 1.0,
    *,
    fill: float = 0.0,
    more: tuple[float, ...] = (),
    offsets: Array | None = None,
    like: int = -1,
) -> None:
    """The operation `name` of `softgrad.cpu` on arrays of one shape and dtype, the inputs first.

    That is the shape and dtype of array number `like`; another array may have one float64 for each row, with
    axes of length 1.
    """
    if arrays[0].ndim == 0:  # counts as one number
        arrays = [a.reshape(1) for a in arrays]
        where = None if where is None else where.reshape(1)
    shape = arrays[like].shape
    call.run(
        name,
        checks.FLOATS[arrays[like].dtype][0],
        shape,
        [a.ctypes.data for a in arrays],
        [strides_of(a, shape) for a in arrays],
        axes,
        None if where is None else (where.ctypes.data, where.strides),
        scale,
        fill,
        more,
        offsets,
    )


def strides_of(a: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides in elements; 0 along axes that are of length 1 where the shape has more."""
    strides = tuple([step // a.itemsize for step in a.strides])
    if a.shape == shape:
        return strides
    return tuple([step if n == size else 0 for step, n, size in zip(strides, a.shape, shape, strict=True)])


def result_for(out: Any, like: Array, dtype: np.dtype[Any], **inputs: Array | None) -> Array:
    """Memory for the result: a new array laid out as `like`, or `out` if that can be written to."""
    return np.empty_like(like, dtype) if out is None else checks.target(out, like.shape, dtype, inputs)


def returned(result: Array, out: Array | None) -> Array:
    """What a call returns: `out` if that was given; of a 0-d result a scalar, as NumPy's functions do."""
    if out is not None:
        return out
    return result if result.ndim else result[()]


def in_floats(x: Array, result: Array) -> Array:
    """`x` in the dtype of the result; integers are converted in its memory."""
    if x.dtype == result.dtype:
        return x
    np.copyto(result, x)
    return result


# --- the maps -----------------------------------------------------------------------------------------


def entmax(alpha: Any) -> Map:
    """The map for one alpha."""
    return specs.entmax(checks.alpha(alpha))


def forward(map: Map, x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None) -> Array:
    if map is specs.SOFTMAX and np.ndim(scale):
        return scaled_softmax(x, axis=axis, where=where, scale=scale, empty=empty, out=out)
    x, dtype = checks.logits(x)
    axes = checks.axes(axis, x.ndim)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, dtype)
    fill = checks.choice(empty)
    result = result_for(out, x, dtype, x=x, where=where)
    if x.size == 0:
        return returned(result, out)
    empty_rows = None
    if empty == "raise" or (empty == "nan" and where is not None):
        empty_rows = rows_of_nothing(x, axes, where, scale)
        if empty == "raise" and empty_rows.any():
            raise ValueError(checks.EMPTY_ROW)
    x = in_floats(x, result)
    run(map.forward, [x, result], axes, where, scale, fill=fill, more=map.more)
    gate.remember(map.forward, (x, result))
    if empty_rows is not None:  # the kernel writes 0 where it is masked; in such a row it is NaN
        np.copyto(result, fill, where=empty_rows)
    return returned(result, out)


def rows_of_nothing(x: Array, axes: tuple[int, ...], where: Array | None, scale: float) -> Array:
    """Where the rows of logits are all −inf, or masked; with axes of length 1."""
    axis = axes if x.ndim else None
    if x.dtype.kind in "iu":
        valid = np.ones_like(x, bool) if where is None else where
        return np.asarray(~valid.any(axis=axis, keepdims=True))
    lowest, extreme = (np.inf, np.min) if scale < 0 else (-np.inf, np.max)
    masked = {} if where is None else {"where": where}
    return np.asarray(extreme(x, axis=axis, keepdims=True, initial=lowest, **masked) == lowest)


def product(
    map: Map, kind: Kind, y: Any, v: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
) -> Array:
    """The vjp or the jvp; most maps have a symmetric J and one kernel for both."""
    if map is specs.SOFTMAX and np.ndim(scale):
        return sink_product(kind, y, 0.0, v, None, axis=axis, where=where, scale=scale, out=out)[0]
    kernel, name = (map.vjp, "dy") if kind == "vjp" else (map.jvp, "dx")
    y, v = checks.alike(("y", name), y, v)
    axes = checks.axes(axis, y.ndim)
    where = checks.mask(where, y.shape)
    scale = checks.number(scale, y.dtype)
    result = result_for(out, v, y.dtype, **{"y": y, name: v, "where": where})
    run(kernel, [y, v, result], axes, where, scale, more=map.more)
    gate.remember(kernel, (y, v, result))
    return returned(result, out)


def double_backward(
    map: Map, y: Any, dy: Any, v: Any, *, axis: Any, scale: Any, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """`out` is for arrays known to fit: nothing of them is checked."""
    y, dy, v = checks.alike(("y", "dy", "v"), y, dy, v)
    axes = checks.axes(axis, y.ndim)
    scale = checks.number(scale, y.dtype)
    grads = (np.empty_like(y), np.empty_like(y)) if out is None else out
    run(map.jvp, [y, v, grads[1]], axes, None, scale, more=map.more)
    run(map.double_backward, [y, dy, v, grads[0]], axes, None, scale, more=map.more)
    return grads if y.ndim or out is not None else (grads[0][()], grads[1][()])


def alpha_vjp(y: Any, dy: Any, alpha: float, *, axis: Any, where: Any) -> Array:
    """Σ dx·ψ for each row: with dx = J dy it is ⟨dy, ∂y/∂α⟩, since ∂y/∂α = J ψ (see `cpu.sparse.psi`)."""
    map = entmax(alpha)
    y, dy = checks.alike(("y", "dy"), y, dy)
    axes = checks.axes(axis, y.ndim)
    where = checks.mask(where, y.shape)
    dx = np.empty_like(y)
    run(map.vjp, [y, dy, dx], axes, where, more=map.more)
    if where is not None:
        y = np.where(where, y, np.zeros((), y.dtype))
    total = np.zeros(checks.reduced_shape(y.shape, axes, True))
    run("entmax_alpha_vjp", [y, dx, total], axes, more=(alpha,), like=0)
    with np.errstate(over="ignore"):
        total = total.astype(y.dtype)
    return returned(total.reshape(checks.reduced_shape(y.shape, axes, False)), None)


# --- softmax with numbers of each row: a sink, a scale, a mean ------------------------------------------


def scaled_softmax(x: Any, *, axis: Any, where: Any, scale: Any, empty: Any, out: Array | None) -> Array:
    """softmax with a scale for each row."""
    x, dtype = checks.logits(x)
    axes = checks.axes(axis, x.ndim)
    where = checks.mask(where, x.shape)
    scales = checks.scales(scale, checks.reduced_shape(x.shape, axes, True), dtype)
    fill = checks.choice(empty)
    result = result_for(out, x, dtype, x=x, where=where)
    if x.size == 0:
        return returned(result, out)
    x, scales = with_positive_scales(in_floats(x, result), scales)
    lost = None if empty == "zero" else rows_of_nothing(x, axes, where, 1.0)
    if empty == "raise" and np.any(lost):
        raise ValueError(checks.EMPTY_ROW)
    y = result if x.dtype == result.dtype else np.empty_like(x)
    run("softmax_scaled", [np.ascontiguousarray(scales), x, y], axes, where, fill=fill)
    if y is not result:
        np.copyto(result, y, casting="unsafe")
    if lost is not None:  # the kernel writes 0 where it is masked
        np.copyto(result, fill, where=lost)
    return returned(result, out)


def sink_softmax(x: Any, sink: Any, *, axis: Any, where: Any, scale: Any) -> tuple[Array, Array]:
    x, dtype = checks.logits(x)
    axes = checks.axes(axis, x.ndim)
    where = checks.mask(where, x.shape)
    rows = checks.reduced_shape(x.shape, axes, True)
    sinks = checks.per_row(sink, "sink", rows)
    scales = checks.scales(scale, rows, dtype)
    result = np.empty_like(x, dtype)
    table = np.empty((*rows, 3))
    table[..., 0], table[..., 2] = sinks, np.where(sinks < np.inf, sinks > -np.inf, np.nan)
    if x.size:
        x, table[..., 1] = with_positive_scales(in_floats(x, result), scales)
        y = result if x.dtype == result.dtype else np.empty_like(x)
        run("sink_softmax", [table[..., 0], x, y], axes, where)
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
    y, v = checks.alike(("y", name), y, v)
    axes = checks.axes(axis, y.ndim)
    where = checks.mask(where, y.shape)
    rows = checks.reduced_shape(y.shape, axes, True)
    scales = checks.scales(scale, rows, y.dtype)
    table = np.empty((*rows, 4))
    table[..., 0] = 0.0 if v_sink is None else checks.per_row(v_sink, f"{name}_sink", rows)
    table[..., 2] = checks.per_row(y_sink, "y_sink", rows)
    result = result_for(out, v, y.dtype, **{"y": y, name: v, "where": where})
    factors: Array = np.ones(())
    if kind == "jvp":  # scale·(v, v_sink/scale) is the tangent
        tiny = np.abs(scales) < 2.0**-60
        if tiny.any():
            with np.errstate(all="ignore"):
                v = np.where(tiny, v * scales, v).astype(y.dtype)
        scales = factors = np.where(tiny, 1.0, scales)
        table[..., 0] /= factors
    table[..., 1], table[..., 3] = scales, 0.0
    if y.size:
        run("sink_softmax_vjp", [table[..., 0], y, v, result], axes, where)
    of_sink = (table[..., 3] * factors).astype(y.dtype)
    return returned(result, out), returned(of_sink, None)


def scale_vjp(x: Any, y: Any, dy: Any, *, axis: Any, where: Any) -> Array:
    """⟨x, J dy⟩ for each row."""
    x, y, dy = checks.alike(("x", "y", "dy"), x, y, dy)
    axes = checks.axes(axis, y.ndim)
    where = checks.mask(where, y.shape)
    wide = np.zeros(checks.reduced_shape(y.shape, axes, True))
    run("softmax_scale_vjp", [x, y, dy, wide], axes, where, like=0)
    with np.errstate(over="ignore"):
        return returned(wide.astype(y.dtype), None)


def mean(y: Any, dy: Any, *, axis: Any, where: Any) -> Array:
    """⟨y,dy⟩/⟨y,1⟩ of each row, in float64; 0 of an empty row."""
    y, dy = checks.alike(("y", "dy"), y, dy)
    axes = checks.axes(axis, y.ndim)
    where = checks.mask(where, y.shape)
    means = np.zeros(checks.reduced_shape(y.shape, axes, True))
    run("softmax_mean", [y, dy, means], axes, where, like=0)
    return returned(means, None)


def vjp_of_mean(y: Any, dy: Any, mean: Any, *, axis: Any, where: Any, scale: Any, out: Array | None) -> Array:
    """scale·y∘(dy − mean)."""
    y, dy = checks.alike(("y", "dy"), y, dy)
    axes = checks.axes(axis, y.ndim)
    where = checks.mask(where, y.shape)
    rows = checks.reduced_shape(y.shape, axes, True)
    scales = checks.scales(scale, rows, y.dtype) if np.ndim(scale) else None
    factor = checks.number(scale, y.dtype) if scales is None else 1.0
    means = checks.per_row(mean, "mean", rows)
    result = result_for(out, dy, y.dtype, y=y, dy=dy, where=where)
    run("softmax_vjp_of_mean", [means, y, dy, result], axes, where, factor)
    if scales is not None:
        with np.errstate(all="ignore"):
            np.multiply(result, scales, out=result, casting="unsafe")
    return returned(result, out)


# --- segments -----------------------------------------------------------------------------------------


class Segments:
    """An axis that is cut into segments, as the public functions are given it."""

    def __init__(self, shape: tuple[int, ...], offsets: Any, ids: Any, num_segments: Any, axis: Any) -> None:
        self.axis, self.offsets, self.order = checks.segments(offsets, ids, num_segments, axis, shape)
        self.reduced = (*shape[: self.axis], len(self.offsets) - 1, *shape[self.axis + 1 :])

    def run(self, name: str, arrays: list[Array], scale: float, per_segment: int | None = None) -> None:
        """The operation, which writes the last array.  Array number `per_segment` has one float64 for each
        segment, the others the rows."""
        reduces = per_segment == len(arrays) - 1
        if not arrays[0 if reduces else -1].size:
            return
        given, step = list(arrays), 0
        if self.order is not None:
            given = [a if i == per_segment else a.take(self.order, self.axis) for i, a in enumerate(arrays)]
        if per_segment is not None:  # the kernel is given the first number, and the way to the next
            step = arrays[per_segment].strides[self.axis] // 8
            given[per_segment] = arrays[per_segment][(slice(None),) * self.axis + (slice(1),)]
        like, more = 0 if reduces else -1, (float(step),)
        run(name, given, (self.axis,), None, scale, more=more, offsets=self.offsets, like=like)
        if self.order is not None and not reduces:
            np.moveaxis(arrays[-1], self.axis, 0)[self.order] = np.moveaxis(given[-1], self.axis, 0)


def without(a: Array, where: Array | None, value: float) -> Array:
    """`a` with a value where it is masked."""
    return a if where is None else np.where(where, a, np.asarray(value, a.dtype))


def segment_forward(
    map: Map,
    x: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
    out: Array | None,
) -> Array:
    x, dtype = checks.logits(x)
    segments = Segments(x.shape, offsets, segment_ids, num_segments, axis)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, dtype)
    result = result_for(out, x, dtype, x=x, where=where)
    x = without(in_floats(x, result), where, -np.inf if scale >= 0 else np.inf)
    segments.run(f"segment_{map.forward}", [x, result], scale)
    if where is not None:
        np.copyto(result, map.absent, where=~where)
    return returned(result, out)


def segment_product(
    map: Map,
    kind: Kind,
    y: Any,
    v: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
    out: Array | None,
) -> Array:
    """The vjp, or the jvp."""
    kernel, name = (map.vjp, "dy") if kind == "vjp" else (map.jvp, "dx")
    y, v = checks.alike(("y", name), y, v)
    segments = Segments(y.shape, offsets, segment_ids, num_segments, axis)
    where = checks.mask(where, y.shape)
    scale = checks.number(scale, y.dtype)
    result = result_for(out, v, y.dtype, **{"y": y, name: v, "where": where})
    segments.run(f"segment_{kernel}", [without(y, where, map.absent), without(v, where, 0.0), result], scale)
    if where is not None:
        np.copyto(result, 0.0, where=~where)
    return returned(result, out)


def segment_reduce(
    reduction: Reduction,
    x: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
) -> Array:
    x = checks.floating(x, "x")
    segments = Segments(x.shape, offsets, segment_ids, num_segments, axis)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, x.dtype)
    wide = np.full(segments.reduced, reduction.of_nothing)
    x = without(x, where, -np.inf if scale >= 0 else np.inf)
    segments.run(f"segment_{reduction.name}", [x, wide], scale, per_segment=1)
    with np.errstate(over="ignore"):
        return returned(wide.astype(x.dtype), None)


def segment_reduce_vjp(
    reduction: Reduction,
    x: Any,
    dy: Any,
    offsets: Any,
    *,
    segment_ids: Any,
    num_segments: Any,
    axis: Any,
    where: Any,
    scale: Any,
    out: Array | None,
) -> Array:
    x, dy = checks.in_one_dtype([checks.floating(x, "x"), checks.floating(dy, "dy")])
    segments = Segments(x.shape, offsets, segment_ids, num_segments, axis)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, x.dtype)
    if dy.shape != segments.reduced:
        raise ValueError(
            f"dy has shape {dy.shape}; it takes one number for each segment: give shape {segments.reduced}"
        )
    result = result_for(out, x, x.dtype, x=x, dy=dy, where=where)
    with np.errstate(all="ignore"):
        factors = np.asarray(dy.astype(np.float64) * scale)
    x = without(x, where, -np.inf if scale >= 0 else np.inf)
    segments.run(f"segment_{reduction.name}_vjp", [factors, x, result], scale, per_segment=0)
    if where is not None:
        np.copyto(result, 0.0, where=~where)
    return returned(result, out)


# --- the reductions -----------------------------------------------------------------------------------


def reduce(
    reduction: Reduction, x: Any, *, axis: Any, where: Any, scale: Any, keepdims: bool, out: Array | None
) -> Array:
    x = checks.floating(x, "x")
    axes = checks.axes(axis, x.ndim)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, x.dtype)
    shape = checks.reduced_shape(x.shape, axes, bool(keepdims))
    if out is None:
        result = np.empty(shape, x.dtype)
    else:
        result = checks.target(out, shape, x.dtype, {"x": x, "where": where})
    if x.size == 0:
        result[...] = reduction.of_nothing
        return returned(result, out)
    wide = np.empty(checks.reduced_shape(x.shape, axes, True))
    run(reduction.name, [x, wide], axes, where, scale, like=0)
    with np.errstate(over="ignore"):
        np.copyto(result, wide.reshape(shape), casting="unsafe")
    return returned(result, out)


def reduce_vjp(
    reduction: Reduction, x: Any, dy: Any, *, axis: Any, where: Any, scale: Any, out: Array | None
) -> Array:
    x, dy, axes = checks.with_rows(x, dy, axis)
    where = checks.mask(where, x.shape)
    scale = checks.number(scale, x.dtype)
    result = result_for(out, x, x.dtype, x=x, dy=dy, where=where)
    if x.size:
        kernel, factors = f"{reduction.name}_vjp", dy.astype(np.float64)
        if scale != 1:
            with np.errstate(all="ignore"):
                factors = np.asarray(factors * scale)
        if abs(scale) > 1 and not (np.abs(factors) <= checks.largest(x.dtype)).all():
            reduce_vjp_beyond_range(kernel, x, dy, axes, where, scale, result)
        else:
            run(kernel, [factors, x, result], axes, where, scale)
    return returned(result, out)


def reduce_vjp_beyond_range(
    kernel: str, x: Array, dy: Array, axes: tuple[int, ...], where: Array | None, scale: float, result: Array
) -> None:
    """Where scale·dy overflows, scale·dy·p may not: a power of two is taken from the factor of each row.

    What is left of the factor is large enough for no product with a p to be subnormal.
    """
    digits, power = np.frexp(dy.astype(np.float64))
    scale_digits, scale_power = math.frexp(scale)
    power = power + scale_power
    kept = np.minimum(power, 1000 if x.dtype.itemsize == 8 else 100)
    x = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    dx = np.empty_like(x)
    with np.errstate(all="ignore"):
        run(kernel, [np.ldexp(digits * scale_digits, kept), x, dx], axes, where, scale)
        np.copyto(result, np.ldexp(dx, power - kept), casting="unsafe")


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
    with_gradient: bool = False,
    out: Array | None = None,
) -> tuple[Any, Array | None, Array | None, int]:
    """The loss, its gradient if that is asked for, which rows count (None: all), and the axis."""
    x, target = checks.scored(x, target)
    axis = checks.one_axis(axis, x.ndim, "the classes")
    smoothing = checks.smoothing(label_smoothing)
    checks.reduction(reduction)
    weights, classes, counted = checks.weights_or_classes(target, x.shape, axis, ignore_index)
    gradient = result = None
    if with_gradient:
        gradient = result_for(out, x, x.dtype, x=x, target=target)
        result = gradient if out is None else out
    if x.ndim == 0:
        x, weights, gradient = (None if a is None else a.reshape(1) for a in (x, weights, gradient))
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    rows = math.prod(shape) if counted is None else int(np.count_nonzero(counted))
    divisor = float(max(rows, 1)) if reduction == "mean" else 1.0
    numbers = 1.0 - smoothing, smoothing / max(x.shape[axis], 1), smoothing, divisor
    with np.errstate(all="ignore"):
        if x.size:
            losses = losses_of_rows(x, weights, classes, counted, gradient, axis, numbers)
        else:
            losses = np.zeros(shape)
        if reduction != "none":
            losses = np.sum(losses)
            losses = losses / rows if reduction == "mean" else losses
        loss = np.asarray(losses).astype(x.dtype, order="C")[()]
    return loss, result, counted, axis


def losses_of_rows(
    x: Array,
    weights: Array | None,
    classes: Array,
    counted: Array | None,
    gradient: Array | None,
    axis: int,
    numbers: tuple[float, ...],
) -> Array:
    """The loss of each row; its gradient, divided by the last of the numbers, is written to `gradient`.

    The kernel gives four numbers for each row (cpu/cross_entropy.py).  It knows the weights t'; of classes it
    knows the part that all classes have, and the target class has `share` more.  With d = x_target − top and
    S = 1 + others, the p of the target is exp(d)/S, and 1 − p is (others − expm1(d))/S.
    """
    share, even, smoothing, divisor = numbers
    index = np.expand_dims(classes, axis)
    if weights is None:  # before the gradient is written, maybe over x
        d = np.take_along_axis(x, index, axis).squeeze(axis).astype(np.float64)
    table = np.empty((*x.shape[:axis], 1, *x.shape[axis + 1 :], 4))
    arrays = [a for a in (x, weights, table[..., 0], gradient) if a is not None]
    name = "cross_entropy" if weights is None else "cross_entropy_of_weights"
    run(name, arrays, (axis,), more=numbers, like=0)
    top, others, distance, total = np.moveaxis(table.squeeze(axis), -1, 0)
    losses: Array = np.log1p(others)
    if weights is not None:
        losses = distance + (share * total + smoothing) * losses
        return losses
    d -= top
    losses = losses + distance if smoothing else losses
    losses = losses - share * d if share else losses
    if gradient is not None:
        dx = (even * (x.shape[axis] - 1) - (others - np.expm1(d)) / (1 + others)) / divisor
        np.put_along_axis(gradient, index, np.expand_dims(dx.astype(x.dtype), axis), axis)
    if counted is not None:
        losses = np.where(counted, losses, 0)
        if gradient is not None:
            np.moveaxis(gradient, axis, -1)[~counted] = 0
    return losses
