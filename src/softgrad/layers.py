"""Layers for networks whose forward and backward passes are written by hand.

Between the passes a layer keeps one array, and no copy of it: a map its y, which must not be changed before
`backward`, the cross-entropy its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from . import arrays, checks
from .checks import Array, Axis, Direction, Empty, Reduction, Where
from .functional import (
    cross_entropy_with_vjp,
    entmax_loss_with_vjp,
    js_divergence_with_vjp,
    kl_divergence_with_vjp,
    sparsemax_loss_with_vjp,
)
from .specs import LOG_SOFTMAX, SOFTMAX, SPARSEMAX, Map, entmax


def options_of(layer: Any) -> dict[str, Any]:
    """What a layer was made with."""
    return {option.name: getattr(layer, option.name) for option in fields(layer) if option.init}


def kept(layer: Any, value: Any) -> Any:
    """What the last `forward` of a layer kept for its `backward`."""
    if value is None:
        raise RuntimeError(
            f"{type(layer).__name__}.backward was called before forward, which keeps what it needs"
        )
    return value


@dataclass(eq=False, repr=False)
class Layer:
    """A map with its options, and the y of its last `forward`."""

    parameters: ClassVar[tuple[str, ...]] = ()  # the arguments that come before the axis

    axis: Axis = -1
    _: KW_ONLY
    where: Where = None
    scale: float | npt.ArrayLike = 1.0
    empty: Empty = "zero"
    map: Map = field(init=False)
    y: Array | None = field(default=None, init=False)

    def forward(self, x: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """y for the logits `x`; see the function of the map."""
        self.y = arrays.forward(self.map, x, **options_of(self), out=out)
        return self.y

    def backward(self, dy: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """∂L/∂x for the last `forward`; see the vjp of the map.

        Raises
        ------
        RuntimeError
            There was no `forward` before.
        """
        options = {"axis": self.axis, "where": self.where, "scale": self.scale}
        return arrays.product(self.map, "vjp", kept(self, self.y), dy, **options, out=out)

    def __repr__(self) -> str:
        options = [f"{name}={getattr(self, name)}" for name in (*self.parameters, "axis")]
        options += ["where=..."] if self.where is not None else []
        options += [f"scale={self.scale!r}"] if np.any(np.not_equal(self.scale, 1.0)) else []
        options += [f"empty={self.empty!r}"] if self.empty != "zero" else []
        return f"{type(self).__name__}({', '.join(options)})"


class Softmax(Layer):
    """Softmax as a layer: `forward` returns y and keeps it, `backward` takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    axis, where, scale, empty
        As for `softgrad.softmax`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.Softmax(axis=-1)
    >>> layer.forward(np.array([[1.0, 2.0, 3.0]])).round(4)
    array([[0.09  , 0.2447, 0.6652]])
    >>> layer.backward(np.array([[1.0, 0.0, 0.0]])).round(4)
    array([[ 0.0819, -0.022 , -0.0599]])
    """

    map = SOFTMAX


@dataclass(eq=False, repr=False)
class SinkSoftmax:
    """Softmax with a sink as a layer: `forward` returns y, `backward` takes ∂L/∂y to ∂L/∂x and ∂L/∂sink.

    Parameters
    ----------
    axis, where, scale
        As for `softgrad.sink_softmax`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.SinkSoftmax()
    >>> layer.forward(np.array([[1.0, 2.0, 3.0]]), 0.0).round(4)
    array([[0.0871, 0.2369, 0.6439]])
    >>> dx, dsink = layer.backward(np.array([[1.0, 0.0, 0.0]]))
    >>> dx.round(4), dsink.round(4)
    (array([[ 0.0796, -0.0206, -0.0561]]), array([[-0.0028]]))
    """

    axis: Axis = -1
    _: KW_ONLY
    where: Where = None
    scale: float | npt.ArrayLike = 1.0
    y: tuple[Array, Array] | None = field(default=None, init=False)

    def forward(self, x: npt.ArrayLike, sink: npt.ArrayLike) -> Array:
        """y for the logits `x` and the sink; it keeps y and y_sink."""
        self.y = arrays.sink_softmax(x, sink, **options_of(self))
        return self.y[0]

    def backward(self, dy: npt.ArrayLike) -> tuple[Array, Array]:
        """∂L/∂x, and ∂L/∂sink for each row, with the axis at length 1.

        Raises
        ------
        RuntimeError
            There was no `forward` before.
        """
        y, y_sink = kept(self, self.y)
        return arrays.sink_product("vjp", y, y_sink, dy, None, **options_of(self))


@dataclass(eq=False)
class SegmentSoftmax:
    """Softmax within segments as a layer: `forward` returns y and keeps it, `backward` gives ∂L/∂x.

    Parameters
    ----------
    axis, scale
        As for `softgrad.segment_softmax`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.SegmentSoftmax()
    >>> layer.forward(np.array([1.0, 1.0, 5.0]), [0, 2, 3])
    array([0.5, 0.5, 1. ])
    >>> layer.backward(np.array([1.0, 0.0, 1.0]))
    array([ 0.25, -0.25,  0.  ])
    """

    map: ClassVar[Map] = SOFTMAX

    axis: int = 0
    _: KW_ONLY
    scale: float = 1.0
    last: tuple[Array, Any, dict[str, Any]] | None = field(default=None, init=False, repr=False)

    def forward(
        self,
        x: npt.ArrayLike,
        offsets: npt.ArrayLike | None = None,
        *,
        segment_ids: npt.ArrayLike | None = None,
        num_segments: int | None = None,
        where: Where = None,
        out: Array | None = None,
    ) -> Array:
        """y for the logits `x` and their segments; it keeps y, the segments and the mask."""
        options = {"segment_ids": segment_ids, "num_segments": num_segments, "where": where}
        options |= options_of(self)
        y: Array = arrays.segment_forward(self.map, x, offsets, **options, out=out)
        self.last = y, offsets, options
        return y

    def backward(self, dy: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """∂L/∂x for the last `forward`; see the vjp of the map.

        Raises
        ------
        RuntimeError
            There was no `forward` before.
        """
        y, offsets, options = kept(self, self.last)
        dx: Array = arrays.segment_product(self.map, "vjp", y, dy, offsets, **options, out=out)
        return dx


class SegmentLogSoftmax(SegmentSoftmax):
    """log_softmax within segments as a layer: the arguments are those of `SegmentSoftmax`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.SegmentLogSoftmax()
    >>> layer.forward(np.array([0.0, -2000.0, 1.0]), [0, 2, 3])
    array([    0., -2000.,     0.])
    >>> layer.backward(np.array([0.0, 1.0, 1.0]))
    array([-1.,  1.,  0.])
    """

    map = LOG_SOFTMAX


class LogSoftmax(Layer):
    """log_softmax as a layer: `forward` returns y and keeps it, `backward` takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    axis, where, scale, empty
        As for `softgrad.log_softmax`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.LogSoftmax(axis=-1)
    >>> layer.forward(np.array([[1.0, 2.0, 3.0]])).round(4)
    array([[-2.4076, -1.4076, -0.4076]])
    >>> layer.backward(np.array([[-1.0, 0.0, 0.0]])).round(4)
    array([[-0.91  ,  0.2447,  0.6652]])
    """

    map = LOG_SOFTMAX


class Sparsemax(Layer):
    """Sparsemax as a layer: `forward` returns y and keeps it, `backward` takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    axis, where, scale, empty
        As for `softgrad.sparsemax`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.Sparsemax()
    >>> layer.forward(np.array([1.0, 0.5, -1.0]))
    array([0.75, 0.25, 0.  ])
    >>> layer.backward(np.array([1.0, 0.0, 0.0]))
    array([ 0.5, -0.5, -0. ])
    """

    map = SPARSEMAX


class Entmax(Layer):
    """Entmax as a layer: `forward` returns y and keeps it, `backward` takes ∂L/∂y to ∂L/∂x.

    Parameters
    ----------
    alpha : float
        At least 1, as for `softgrad.entmax`.
    axis, where, scale, empty
        As for `softgrad.entmax`, for every call.

    Raises
    ------
    TypeError, ValueError
        `alpha` is no number, or less than 1.

    Notes
    -----
    The gradient for alpha is
    ``softgrad.entmax_alpha_vjp(layer.y, dy, layer.alpha, axis=layer.axis, where=layer.where)``.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.Entmax(1.5)
    >>> layer.forward(np.array([1.0, 0.0, -2.0])).round(4)
    array([0.8307, 0.1693, 0.    ])
    >>> layer.backward(np.array([1.0, 0.0, 0.0])).round(4)
    array([ 0.2835, -0.2835, -0.    ])
    """

    parameters = ("alpha",)

    def __init__(
        self,
        alpha: float = 1.5,
        axis: Axis = -1,
        *,
        where: Where = None,
        scale: float = 1.0,
        empty: Empty = "zero",
    ) -> None:
        super().__init__(axis, where=where, scale=scale, empty=empty)
        self.alpha = checks.alpha(alpha)
        self.map = entmax(self.alpha)


@dataclass(eq=False)
class Loss:
    """What a loss layer keeps: the function from the gradient of the loss to that of x."""

    vjp: Callable[..., Array] | None = field(default=None, init=False, repr=False)

    def backward(self, dloss: npt.ArrayLike = 1.0, *, out: Array | None = None) -> Array:
        """∂L/∂x for the last `forward`; see the ``vjp`` of `softgrad.cross_entropy_with_vjp`.

        Raises
        ------
        RuntimeError
            There was no `forward` before.
        """
        dx: Array = kept(self, self.vjp)(dloss, out=out)
        return dx


@dataclass(eq=False)
class CrossEntropy(Loss):
    """Cross-entropy as the last layer: `forward` gives the loss and computes ∂L/∂x, `backward` returns that.

    Parameters
    ----------
    axis, label_smoothing, ignore_index, reduction, weight, z_loss, dtype
        As for `softgrad.cross_entropy`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.CrossEntropy()
    >>> float(layer.forward(np.array([[1.0, 2.0, 3.0]]), [2]).round(4))
    0.4076
    >>> layer.backward().round(4)
    array([[ 0.09  ,  0.2447, -0.3348]])
    """

    axis: int = -1
    _: KW_ONLY
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    reduction: Reduction = "mean"
    weight: npt.ArrayLike | None = None
    z_loss: float = 0.0
    dtype: npt.DTypeLike | None = None

    def forward(
        self,
        x: npt.ArrayLike,
        target: npt.ArrayLike,
        *,
        sample_weight: npt.ArrayLike | None = None,
        where: Where = None,
        out: Array | None = None,
    ) -> Any:
        """The loss; the gradient is written into `out`, which may be `x` itself."""
        options = {"sample_weight": sample_weight, "where": where, **options_of(self)}
        loss, self.vjp = cross_entropy_with_vjp(x, target, **options, out=out)
        return loss


@dataclass(eq=False)
class JSDivergence:
    """The Jensen-Shannon divergence from a target as a layer: one number for each row.

    Parameters
    ----------
    axis, where, temperature
        As for `softgrad.js_divergence`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.JSDivergence()
    >>> float(layer.forward(np.array([0.0, 0.0]), target_logits=np.array([1.0, -1.0])).round(4))
    0.0895
    >>> dx, dtarget = layer.backward()
    >>> dx.round(4)
    array([-0.1002,  0.1002])
    """

    function: ClassVar[Callable[..., Any]] = staticmethod(js_divergence_with_vjp)

    axis: Axis = -1
    _: KW_ONLY
    where: Where = None
    temperature: float = 1.0
    vjp: Callable[..., Any] | None = field(default=None, init=False, repr=False)

    def forward(
        self,
        x: npt.ArrayLike,
        *,
        target_logits: npt.ArrayLike | None = None,
        target_probs: npt.ArrayLike | None = None,
    ) -> Array:
        """The divergence of each row; x and the target are kept, no copies of them."""
        given = {"target_logits": target_logits, "target_probs": target_probs}
        result: Array
        result, self.vjp = self.function(x, **given, **options_of(self))
        return result

    def backward(self, dy: npt.ArrayLike | None = None) -> tuple[Array, Array]:
        """∂L/∂x and ∂L/∂target for the last `forward`; `dy` is 1 for each row if it is not given.

        Raises
        ------
        RuntimeError
            There was no `forward` before.
        """
        vjp = kept(self, self.vjp)
        if dy is None:
            shape, axes = np.shape(vjp.args[0]), checks.axes(self.axis, np.ndim(vjp.args[0]))
            dy = np.ones(checks.reduced_shape(shape, axes, False))
        dx: tuple[Array, Array] = vjp(np.asarray(dy, np.asarray(vjp.args[0]).dtype))
        return dx


@dataclass(eq=False)
class KLDivergence(JSDivergence):
    """The Kullback-Leibler divergence from a target as a layer: one number for each row.

    Parameters
    ----------
    axis, where, temperature, direction
        As for `softgrad.kl_divergence`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.KLDivergence()
    >>> float(layer.forward(np.array([0.0, 0.0]), target_logits=np.array([1.0, -1.0])).round(4))
    0.3278
    >>> dx, dtarget = layer.backward()
    >>> dx.round(4)
    array([-0.3808,  0.3808])
    """

    function = staticmethod(kl_divergence_with_vjp)

    direction: Direction = "forward"


@dataclass(eq=False)
class SparsemaxLoss(Loss):
    """`softgrad.sparsemax_loss` as the last layer: `forward` gives the loss, `backward` ∂L/∂x.

    Parameters
    ----------
    axis, where, ignore_index, reduction
        As for `softgrad.sparsemax_loss`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.SparsemaxLoss()
    >>> float(layer.forward(np.array([[1.0, 0.5, -np.inf]]), [0]))
    0.0625
    >>> layer.backward()
    array([[-0.25,  0.25,  0.  ]])
    """

    function: ClassVar[Callable[..., Any]] = staticmethod(sparsemax_loss_with_vjp)

    axis: int = -1
    _: KW_ONLY
    where: Where = None
    ignore_index: int | None = None
    reduction: Reduction = "mean"

    def forward(self, x: npt.ArrayLike, target: npt.ArrayLike) -> Any:
        """The loss; the gradient is found along with it."""
        loss, self.vjp = self.function(x, target, **options_of(self))
        return loss


@dataclass(eq=False)
class EntmaxLoss(SparsemaxLoss):
    """`softgrad.entmax_loss` as the last layer.

    Parameters
    ----------
    axis, where, ignore_index, reduction, alpha
        As for `softgrad.entmax_loss`, for every call.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> layer = softgrad.EntmaxLoss()
    >>> float(layer.forward(np.array([[1.0, 0.5, -np.inf]]), [0]).round(4))
    0.1844
    >>> layer.backward().round(4)
    array([[-0.326,  0.326,  0.   ]])
    """

    function = staticmethod(entmax_loss_with_vjp)

    alpha: float = 1.5
