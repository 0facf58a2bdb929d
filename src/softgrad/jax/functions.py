"""The functions on JAX arrays, with the arguments of `jax.nn` where that has them."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike, DTypeLike

from .. import checks, specs
from ..checks import Axis, Empty, Reduction
from ..specs import ENTROPY, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX, SPARSEMAX
from . import formulas, losses, maps, sinks
from .arguments import FLOATS

Mask = ArrayLike | None
AxisName = str | tuple[str, ...] | None


def softmax(
    x: ArrayLike,
    axis: Axis = -1,
    where: Mask = None,
    *,
    scale: float | ArrayLike = 1.0,
    empty: Empty = "zero",
    sink: ArrayLike | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    r"""Softmax of ``scale * x``, in the place of `jax.nn.softmax` and under every transform.

    .. math:: y_i = \exp(s x_i) / \sum_k \exp(s x_k)

    Parameters
    ----------
    x : array_like
        Logits, of any shape.  float16, bfloat16, float32 and float64 stay what they are; integers become
        JAX's default float.
    axis : int, tuple of int or None
        The axis or axes of a row; None is all of them.
    where : array_like of bool, optional
        A mask that broadcasts to the shape of `x`.  What is False is not there: y is 0 and the gradient is 0,
        whatever `x` or the gradient of y hold there, NaN included.
    scale : float or array_like
        A finite number, known when the call is traced; or an array that broadcasts to `x`, one number for
        each row, which may be traced and has a gradient.
    empty : {"zero", "nan", "raise"}
        What a row gives that has nothing in it (all −inf, or all masked).  "raise" asks about values, so it
        is a ValueError under `jax.jit`.
    sink : array_like, optional
        One more logit for each row, which is not returned: y of `sink_softmax`.  Without `empty` and
        `axis_name`.
    axis_name : str or tuple of str, optional
        Under `jax.shard_map`: the axis of the mesh along which rows are divided, too.  One or two numbers a
        row are sent.  (Without `shard_map` nothing has to be said: arrays are divided as they come.)

    Returns
    -------
    jax.Array

    Raises
    ------
    TypeError
        `x` is boolean or complex; `where` does not hold booleans.
    ValueError
        `where` or `scale` does not broadcast; `scale` is not finite; ``empty="raise"`` and a row is empty, or
        the call is traced.
    numpy.exceptions.AxisError
        There is no such axis.

    Notes
    -----
    *Error*: on the CPU the bits of `softgrad.softmax` and `softgrad.softmax_vjp`, with their bounds.  On
    other devices, and where a `scale` is an array, the formulas in `jax.numpy`: the differences from the
    largest logit first, and means of gradients taken off three times, so that no offset costs digits.

    *Memory*: y is all that the backward keeps.  A mask is applied to a copy of x.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpy as np
    >>> import softgrad.jax
    >>> x = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, jnp.nan]], jnp.float32)
    >>> np.asarray(softgrad.jax.softmax(x, where=~jnp.isnan(x))).round(4)
    array([[0.09  , 0.2447, 0.6652],
           [0.2689, 0.7311, 0.    ]], dtype=float32)
    >>> jax.grad(lambda x: softgrad.jax.softmax(x)[0])(x[0]).round(4)
    Array([ 0.0819, -0.022 , -0.0599], dtype=float32)
    """
    if sink is not None:
        if empty != "zero" or axis_name is not None:
            raise TypeError("softmax takes no empty and no axis_name beside a sink: leave them out")
        return sink_softmax(x, sink, axis, where, scale=scale)[0]
    options = {"axis": axis, "where": where, "scale": scale, "empty": empty, "axis_name": axis_name}
    return maps.forward(SOFTMAX, x, **options)


def log_softmax(
    x: ArrayLike,
    axis: Axis = -1,
    where: Mask = None,
    *,
    scale: float | ArrayLike = 1.0,
    empty: Empty = "zero",
    axis_name: AxisName = None,
) -> jax.Array:
    """The logarithm of softmax of ``scale * x``, in the place of `jax.nn.log_softmax`.

    Parameters and exceptions are those of `softmax`.  What is masked is −inf, and its gradient 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> softgrad.jax.log_softmax(jnp.array([0.0, 0.0, -jnp.inf], jnp.float32)).round(4)
    Array([-0.6931, -0.6931,    -inf], dtype=float32)
    """
    options = {"axis": axis, "where": where, "scale": scale, "empty": empty, "axis_name": axis_name}
    return maps.forward(LOG_SOFTMAX, x, **options)


def sparsemax(
    x: ArrayLike,
    axis: Axis = -1,
    where: Mask = None,
    *,
    scale: float | ArrayLike = 1.0,
    empty: Empty = "zero",
    axis_name: AxisName = None,
) -> jax.Array:
    """The point of the simplex that is nearest to ``scale * x``: as `softgrad.sparsemax`.

    Parameters and exceptions are those of `softmax`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> softgrad.jax.sparsemax(jnp.array([1.0, 0.5, -1.0], jnp.float32))
    Array([0.75, 0.25, 0.  ], dtype=float32)
    """
    options = {"axis": axis, "where": where, "scale": scale, "empty": empty, "axis_name": axis_name}
    return maps.forward(SPARSEMAX, x, **options)


def entmax(
    x: ArrayLike,
    alpha: float | jax.Array = 1.5,
    axis: Axis = -1,
    where: Mask = None,
    *,
    scale: float | ArrayLike = 1.0,
    empty: Empty = "zero",
    axis_name: AxisName = None,
) -> jax.Array:
    """Entmax of ``scale * x``: as `softgrad.entmax`.

    `alpha` is a number from 1 up; or one float as an array, which may be traced and has a gradient.  That is
    not checked, is above 1, and takes the formula in `jax.numpy`.  The other parameters and exceptions are
    those of `softmax`.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np
    >>> import softgrad.jax
    >>> np.asarray(softgrad.jax.entmax(jnp.array([1.0, 0.0, -2.0], jnp.float32))).round(4)
    array([0.8307, 0.1693, 0.    ], dtype=float32)
    """
    if isinstance(alpha, jax.Array):
        if alpha.shape or alpha.dtype.name not in FLOATS:
            raise TypeError(
                f"alpha has shape {alpha.shape} and dtype {alpha.dtype}; it takes a number, or an array of "
                f"one float, of shape (): use jax.vmap for several"
            )
        row = formulas.with_alpha(alpha)
    else:
        row = specs.entmax(checks.alpha(alpha))
    options = {"axis": axis, "where": where, "scale": scale, "empty": empty, "axis_name": axis_name}
    return maps.forward(row, x, **options)


def logsumexp(
    x: ArrayLike,
    axis: Axis = None,
    where: Mask = None,
    *,
    scale: float = 1.0,
    keepdims: bool = False,
    axis_name: AxisName = None,
) -> jax.Array:
    """log Σ exp(scale·x), in the place of `jax.nn.logsumexp`; its gradient is scale·softmax.

    Parameters are those of `softmax`; `axis` is None by default, as there.  −inf for a row with nothing in
    it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> softgrad.jax.logsumexp(jnp.array([0.0, 0.0], jnp.float32)).round(4)
    Array(0.6931, dtype=float32)
    """
    options = {"axis": axis, "where": where, "scale": scale, "axis_name": axis_name}
    return maps.reduce(LOGSUMEXP, x, keepdims=keepdims, **options)


def entropy(
    x: ArrayLike,
    axis: Axis = -1,
    where: Mask = None,
    *,
    scale: float = 1.0,
    keepdims: bool = False,
    axis_name: AxisName = None,
) -> jax.Array:
    """The entropy of softmax of ``scale * x``, for logits x: as `softgrad.entropy`.

    Parameters are those of `softmax`.  0 for a row with nothing in it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> softgrad.jax.entropy(jnp.array([0.0, 0.0, -jnp.inf], jnp.float32)).round(4)
    Array(0.6931, dtype=float32)
    """
    options = {"axis": axis, "where": where, "scale": scale, "axis_name": axis_name}
    return maps.reduce(ENTROPY, x, keepdims=keepdims, **options)


def cross_entropy(
    x: ArrayLike,
    target: ArrayLike,
    axis: int = -1,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    where: Mask = None,
    z_loss: float = 0.0,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Cross-entropy of softmax(x) beside classes or weights: as `softgrad.cross_entropy`.

    Classes that are traced are not checked to be in range; one that is not has no part in its loss.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import softgrad.jax
    >>> x = jnp.array([[1.0, 2.0, 3.0]], jnp.float32)
    >>> softgrad.jax.cross_entropy(x, jnp.array([2])).round(4)
    Array(0.4076, dtype=float32)
    >>> jax.grad(softgrad.jax.cross_entropy)(x, jnp.array([2])).round(4)
    Array([[ 0.09  ,  0.2447, -0.3348]], dtype=float32)
    """
    options = {"label_smoothing": label_smoothing, "ignore_index": ignore_index, "reduction": reduction}
    more = {"sample_weight": sample_weight, "weight": weight, "where": where}
    return losses.cross_entropy(x, target, axis=axis, **options, **more, z_loss=z_loss, dtype=dtype)


def sink_softmax(
    x: ArrayLike,
    sink: ArrayLike,
    axis: Axis = -1,
    where: Mask = None,
    *,
    scale: float | ArrayLike = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Softmax with one more logit for each row: (y, y_sink), as `softgrad.sink_softmax`.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np
    >>> import softgrad.jax
    >>> y, y_sink = softgrad.jax.sink_softmax(jnp.array([1.0, 2.0, 3.0], jnp.float32), 0.0)
    >>> np.asarray(y).round(4), np.asarray(y_sink).round(4)
    (array([0.0871, 0.2369, 0.6439], dtype=float32), array([0.0321], dtype=float32))
    """
    return sinks.sink_softmax(x, sink, axis=axis, where=where, scale=scale)


def segment_softmax(
    x: ArrayLike,
    offsets: ArrayLike | None = None,
    axis: int = 0,
    where: Mask = None,
    *,
    segment_ids: ArrayLike | None = None,
    num_segments: int | None = None,
    scale: float = 1.0,
) -> jax.Array:
    """Softmax within each of the segments that an axis is cut into: as `softgrad.segment_softmax`.

    The values of offsets and ids that are traced are not checked: a row that is out of range is in the
    nearest segment.  Beside traced ids `num_segments` has to be given.  `scale` is one number, known when the
    call is traced.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> softgrad.jax.segment_softmax(jnp.array([0.0, 0.0, 5.0], jnp.float32), jnp.array([0, 2, 3]))
    Array([0.5, 0.5, 1. ], dtype=float32)
    """
    options = {"segment_ids": segment_ids, "num_segments": num_segments, "where": where, "scale": scale}
    return maps.segment_forward(SOFTMAX, x, offsets, axis=axis, **options)


def softmax_vjp(
    y: ArrayLike, dy: ArrayLike, axis: Axis = -1, where: Mask = None, *, scale: float | ArrayLike = 1.0
) -> jax.Array:
    """∂L/∂x of ``y = softmax(scale * x)``, given y and ∂L/∂y: as `softgrad.softmax_vjp`.

    That function, and those of the other maps (`softgrad.log_softmax_vjp`, …), take JAX's arrays too.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> y = softgrad.jax.softmax(jnp.array([1.0, 2.0, 3.0], jnp.float32))
    >>> softgrad.jax.softmax_vjp(y, jnp.array([1.0, 0.0, 0.0], jnp.float32)).round(4)
    Array([ 0.0819, -0.022 , -0.0599], dtype=float32)
    """
    return maps.product(SOFTMAX, "vjp", y, dy, axis=axis, where=where, scale=scale, out=None)
