"""The functions on tensors: PyTorch's names for what PyTorch has, softgrad's for the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.fx import Proxy

from .. import specs
from ..checks import Empty, Reduction
from ..specs import ENTROPY, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX, SPARSEMAX, Map
from . import calls, sharded, sharded_losses
from .ops import fast_forward
from .tensors import convert, for_dtensors, is_dtensor

ENTMAX = specs.entmax()  # stands for that of any alpha that is a tensor
Dim = int | tuple[int, ...] | None
Function = TypeVar("Function", bound=Callable[..., Any])


def traceable(function: Function) -> Function:
    """`function`, whose calls `torch.fx` may trace: each is a node of the graph."""

    @functools.wraps(function)
    def call(input: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(input, Proxy):
            return input.tracer.create_proxy("call_function", call, (input, *arguments), options)
        return function(input, *arguments, **options)

    return cast(Function, call)


def forward(
    spec: Map,
    input: Any,
    dim: Dim,
    dtype: torch.dtype | None,
    where: Any,
    scale: Any,
    empty: Empty,
    out: Tensor | None,
    reuse_dy: bool,
    alpha_tensor: Tensor | None = None,
) -> Any:
    """What the functions of the maps have in common."""
    if isinstance(input, Proxy):
        options = {"dtype": dtype, "where": where, "scale": scale, "empty": empty, "out": out, "dim": dim}
        if spec.parameters:
            options["alpha"] = spec.alpha if alpha_tensor is None else alpha_tensor
        node = input.tracer.create_proxy
        return node("call_function", globals()[spec.name], (input,), options | {"reuse_dy": reuse_dy})
    x = convert(input, dtype)
    if is_dtensor(x):
        return for_dtensors().forward(spec, x, dim, where, scale, empty, out, reuse_dy, alpha_tensor)
    return calls.checked_forward(spec, x, dim, where, scale, empty, out, reuse_dy, alpha_tensor)


def softmax(
    input: Tensor,
    dim: Dim = -1,
    dtype: torch.dtype | None = None,
    *,
    where: Tensor | None = None,
    scale: float | Tensor = 1.0,
    empty: Empty = "zero",
    sink: float | Tensor | None = None,
    reuse_dy: bool = False,
    out: Tensor | None = None,
    group: Any = None,
) -> Tensor:
    r"""Softmax of ``scale * input`` along a dim, with derivatives of every order and in both modes.

    .. math:: y_i = \exp(s x_i) / \sum_k \exp(s x_k)

    Parameters
    ----------
    input : torch.Tensor
        Logits x, of any shape and strides.  float16, bfloat16, float32 and float64 stay what they are;
        integers become float64.
    dim : int, tuple of int or None
        The dim or dims along which the result sums to 1; None is all of them.
    dtype : torch.dtype, optional
        What `input` is converted to first.
    where : torch.Tensor of bool, optional
        Broadcasts to the shape of `input`.  What is False is not there: y is 0 and the gradient is 0,
        whatever `input` or the gradient of y hold there, NaN included.
    scale : float or torch.Tensor
        A finite number; or a tensor that broadcasts to `input`, and gets its gradient.  (NaN or inf in it
        makes its row NaN.)  Beside a `group` that is what this rank's shard adds to it.
    empty : {"zero", "nan", "raise"}
        What a row gives that has nothing in it (all −inf, or all masked).
    sink : float or torch.Tensor, optional
        One more logit for each row, which is not returned: y of `sink_softmax`.  Without `out` and `empty`;
        `reuse_dy` makes no difference.
    reuse_dy : bool
        Whether the backward may write ∂L/∂x into the memory of ∂L/∂y.  For large tensors that spares one
        of their size.  It is right where nothing else needs ∂L/∂y: y is used once, by an operation whose
        backward makes a new tensor (a product of matrices does, an addition or ``sum`` may not), no hook
        keeps it, and no ``grad_outputs`` of the caller's come here directly.  Where a further derivative is
        wanted, or ∂L/∂y is not contiguous, the memory is new as ever.
    out : torch.Tensor, optional
        Where to write the result; autograd must not be asked to follow.
    group : torch.distributed.ProcessGroup or DeviceMesh, optional
        Whose ranks have a shard of each row: `input` is that of this rank, and so are the result and the
        gradient; a DeviceMesh has one dim.  All of them call the function, with the same arguments but for
        `input` and `where`.  The shards need not be of one size, and some may be empty.  They exchange 16
        bytes a row forward and 24 backward, in one all-gather each (docs/distributed.md).

    Returns
    -------
    torch.Tensor

    Raises
    ------
    TypeError
        `input` is boolean, complex or sparse; `where` is no tensor of booleans.
    ValueError
        `where` or `scale` does not broadcast; `scale` is not finite; `out` does not fit; ``empty="raise"``
        and there is an empty row.
    IndexError
        `input` has no such dim.  (It is a ``numpy.exceptions.AxisError``.)

    Notes
    -----
    *Error*: on the CPU as `softgrad.softmax` and `softgrad.softmax_vjp`.  y is within 2 ulp for float32 and
    float64, 0.51 for float16 and bfloat16.  Each element of the gradient dx is within
    C·eps·(\|dx_i\| + y_i·D), where D is the average distance of ∂L/∂y from its mean, and C = 8 (float64: 16).

    *Memory*: y, which is all that is saved for the backward.  The mask is not: what was masked is where y is
    0.  (An entry whose y is 0 by underflow beside a mask counts as masked too.)  With a `scale` for each row,
    x too, if the scale has a gradient.  With one for each element ``scale * x`` is computed first, and x is
    saved; 16-bit types are then computed in float32, and saved as that.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> x = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, torch.nan]], requires_grad=True)
    >>> y = softgrad.torch.softmax(x, where=~x.isnan())
    >>> y
    tensor([[0.0900, 0.2447, 0.6652],
            [0.2689, 0.7311, 0.0000]], grad_fn=<SoftmaxBackward>)
    >>> torch.autograd.grad(y[:, 0].sum(), x)
    (tensor([[ 0.0819, -0.0220, -0.0599],
            [ 0.1966, -0.1966,  0.0000]]),)
    """
    if group is not None:
        none = {"sink": sink, "reuse_dy": reuse_dy or None, "out": out}
        return sharded.forward(SOFTMAX, input, dim, dtype, where, scale, empty, group, none)
    if sink is not None:
        if out is not None or empty != "zero":
            raise TypeError("softmax takes no out and no empty beside a sink: leave them out")
        return sink_softmax(input, sink, dim, dtype, where=where, scale=scale)[0]
    if where is None and dtype is None and out is None and empty == "zero" and not reuse_dy:
        y = fast_forward("softmax", input, dim, scale)
        if y is not None:
            return y
    return forward(SOFTMAX, input, dim, dtype, where, scale, empty, out, reuse_dy)


def log_softmax(
    input: Tensor,
    dim: Dim = -1,
    dtype: torch.dtype | None = None,
    *,
    where: Tensor | None = None,
    scale: float | Tensor = 1.0,
    empty: Empty = "zero",
    reuse_dy: bool = False,
    out: Tensor | None = None,
    group: Any = None,
) -> Tensor:
    """The logarithm of softmax of ``scale * input`` along a dim: as `softgrad.log_softmax`.

    Parameters, exceptions and memory are those of `softmax`.  What is masked is −inf, and its gradient 0.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.log_softmax(torch.tensor([0.0, 0.0, -torch.inf]))
    tensor([-0.6931, -0.6931,    -inf])
    """
    if group is not None:
        none = {"reuse_dy": reuse_dy or None, "out": out}
        return sharded.forward(LOG_SOFTMAX, input, dim, dtype, where, scale, empty, group, none)
    if where is None and dtype is None and out is None and empty == "zero" and not reuse_dy:
        y = fast_forward("log_softmax", input, dim, scale)
        if y is not None:
            return y
    return forward(LOG_SOFTMAX, input, dim, dtype, where, scale, empty, out, reuse_dy)


def sparsemax(
    input: Tensor,
    dim: Dim = -1,
    dtype: torch.dtype | None = None,
    *,
    where: Tensor | None = None,
    scale: float | Tensor = 1.0,
    empty: Empty = "zero",
    reuse_dy: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """The point of the simplex that is nearest to ``scale * input``, along a dim: as `softgrad.sparsemax`.

    Parameters, exceptions and memory are those of `softmax`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    return forward(SPARSEMAX, input, dim, dtype, where, scale, empty, out, reuse_dy)


def entmax(
    input: Tensor,
    alpha: float | Tensor = 1.5,
    dim: Dim = -1,
    dtype: torch.dtype | None = None,
    *,
    where: Tensor | None = None,
    scale: float | Tensor = 1.0,
    empty: Empty = "zero",
    reuse_dy: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Entmax of ``scale * input`` along a dim: as `softgrad.entmax`.

    Parameters
    ----------
    input : torch.Tensor
        As for `softmax`.
    alpha : float or torch.Tensor
        At least 1: 1 is softmax, 2 is sparsemax.  A tensor of one element gets its gradient; it is saved
        for the backward, beside y.
    dim, dtype, where, scale, empty, reuse_dy, out
        As for `softmax`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.entmax(torch.tensor([1.0, 0.5, -0.5, -1.0]))
    tensor([0.6712, 0.3240, 0.0048, 0.0000])
    """
    if isinstance(alpha, Tensor):
        if alpha.numel() != 1 or not alpha.is_floating_point():
            raise ValueError(
                f"alpha has shape {tuple(alpha.shape)} and dtype {alpha.dtype}; it takes a number, or a "
                f"tensor of one float: call entmax for each alpha"
            )
        alpha = alpha.reshape(()) if alpha.ndim else alpha
        return forward(ENTMAX, input, dim, dtype, where, scale, empty, out, reuse_dy, alpha)
    return forward(calls.entmax(alpha), input, dim, dtype, where, scale, empty, out, reuse_dy)


@traceable
def logsumexp(
    input: Tensor,
    dim: Dim = -1,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
    where: Tensor | None = None,
    scale: float | Tensor = 1.0,
    out: Tensor | None = None,
    group: Any = None,
) -> Tensor:
    """The logarithm of the sum of the exponentials of ``scale * input`` along a dim: as `softgrad.logsumexp`.

    Saved for the backward are `input`, which is no new memory, and `where`.  A row that has nothing in it
    gives −inf, and its gradient is 0.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.logsumexp(torch.tensor([[0.0, 0.0], [100.0, 100.0]]))
    tensor([  0.6931, 100.6931])
    """
    if group is not None:
        return sharded.reduce(LOGSUMEXP, input, dim, keepdim, dtype, where, scale, group, {"out": out})
    x = convert(input, dtype)
    return calls.reduce(LOGSUMEXP, x, axis=dim, where=where, scale=scale, keepdims=keepdim, out=out)


@traceable
def entropy(
    input: Tensor,
    dim: Dim = -1,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
    where: Tensor | None = None,
    scale: float | Tensor = 1.0,
    out: Tensor | None = None,
    group: Any = None,
) -> Tensor:
    """The entropy −Σ p log p of p = softmax(``scale * input``) along a dim: as `softgrad.entropy`.

    It is finite, and so is its gradient, where p is 0.  Saved for the backward are `input` and `where`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.entropy(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]))
    tensor([0.6931, 0.0000])
    """
    if group is not None:
        return sharded.reduce(ENTROPY, input, dim, keepdim, dtype, where, scale, group, {"out": out})
    x = convert(input, dtype)
    return calls.reduce(ENTROPY, x, axis=dim, where=where, scale=scale, keepdims=keepdim, out=out)


@traceable
def cross_entropy(
    input: Tensor,
    target: Tensor,
    dim: int = -1,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
    weight: Tensor | None = None,
    where: Tensor | None = None,
    z_loss: float = 0.0,
    dtype: torch.dtype | None = None,
    group: Any = None,
    start: int | None = None,
) -> Tensor:
    """Cross-entropy of softmax of `input` along a dim: as `softgrad.cross_entropy`.

    Parameters
    ----------
    input : torch.Tensor
        Logits.
    target : torch.Tensor
        Classes: integers, of the shape of `input` without the dim; or weights: floats of that shape, which
        get their gradient if they want one.
    dim : int
        The dim of the classes.  (`torch.nn.functional.cross_entropy` has it at 1.)
    label_smoothing, ignore_index, reduction, sample_weight, weight, where, z_loss, dtype
        As for `softgrad.cross_entropy`.  `dtype` is that of the loss; beside a group only the first three are
        taken.
    group : torch.distributed.ProcessGroup or DeviceMesh, optional
        Whose ranks have a shard of the classes: `input` has those of this rank, and so has the gradient.
        `target`, the loss and its gradient are the same on all of them.  Targets are classes then, and second
        derivatives are an error.
    start : int, optional
        The first class of the shard; without it the shards have one size, and follow each other by rank.

    Notes
    -----
    The gradient of each row is found along with its loss, and is what is saved for the backward (beside
    `target`); `input` is not.  Second derivatives take the probabilities from it.  Under autocast 16-bit
    logits are computed in float32, as by `torch.nn.functional.cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> x = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> loss = softgrad.torch.cross_entropy(x, torch.tensor([2]))
    >>> loss
    tensor(0.4076, grad_fn=<DivBackward0>)
    >>> torch.autograd.grad(loss, x)
    (tensor([[ 0.0900,  0.2447, -0.3348]]),)
    """
    options = {"label_smoothing": label_smoothing, "ignore_index": ignore_index, "reduction": reduction}
    more: dict[str, Any] = {"sample_weight": sample_weight, "weight": weight, "where": where, "dtype": dtype}
    more["z_loss"] = z_loss
    if group is not None:
        sharded_losses.check_unweighted(more)
        return sharded_losses.cross_entropy(input, target, dim=dim, **options, group=group, start=start)
    if start is not None:
        raise TypeError("start is for classes that are divided in a group: give group=, or leave it out")
    x = convert(input, None, as_loss=True)
    return calls.cross_entropy(x, target, axis=dim, **options, **more)


@traceable
def sink_softmax(
    input: Tensor,
    sink: float | Tensor,
    dim: Dim = -1,
    dtype: torch.dtype | None = None,
    *,
    where: Tensor | None = None,
    scale: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """Softmax of rows with one more logit, the sink, and the sink's weight: as `softgrad.sink_softmax`.

    The sink broadcasts to `input` with the dims at length 1; `scale` does not multiply it.  Both results have
    derivatives of every order, for `input`, the sink, and a `scale` that is a tensor.  `softmax_vjp` is not
    the derivative: `softgrad.sink_softmax_vjp` is.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> sink = torch.zeros(1, requires_grad=True)
    >>> y, y_sink = softgrad.torch.sink_softmax(torch.tensor([[1.0, 2.0], [-torch.inf, -torch.inf]]), sink)
    >>> y.detach(), y_sink.detach()
    (tensor([[0.2447, 0.6652],
            [0.0000, 0.0000]]), tensor([[0.0900],
            [1.0000]]))
    >>> torch.autograd.grad(y[:, 0].sum(), sink)
    (tensor([-0.0220]),)
    """
    x = convert(input, dtype)
    return calls.sink_softmax(x, sink, axis=dim, where=where, scale=scale)


@traceable
def segment_softmax(
    input: Tensor,
    offsets: Tensor | None = None,
    dim: int = 0,
    *,
    segment_ids: Tensor | None = None,
    num_segments: int | None = None,
    dtype: torch.dtype | None = None,
    where: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Softmax of ``scale * input`` within each of the segments that a dim is cut into.

    Segment s is ``offsets[s]`` … ``offsets[s + 1] - 1``; or `segment_ids` has the number of each row's
    segment: as `softgrad.segment_softmax`.  Saved for the backward are y and `offsets`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.segment_softmax(torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0, 2, 3]))
    tensor([0.5000, 0.5000, 1.0000])
    """
    options = {"segment_ids": segment_ids, "num_segments": num_segments, "where": where, "scale": scale}
    return calls.segment_forward(SOFTMAX, convert(input, dtype), offsets, axis=dim, out=None, **options)


@traceable
def segment_log_softmax(
    input: Tensor,
    offsets: Tensor | None = None,
    dim: int = 0,
    *,
    segment_ids: Tensor | None = None,
    num_segments: int | None = None,
    dtype: torch.dtype | None = None,
    where: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """log_softmax of ``scale * input`` within each of the segments that a dim is cut into.

    Its arguments are those of `segment_softmax`.  It is finite where the logarithm of that is −inf.  Saved
    for the backward are y and `offsets`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.segment_log_softmax(torch.tensor([0.0, -200.0, 5.0]), torch.tensor([0, 2, 3]))
    tensor([   0., -200.,    0.])
    """
    options = {"segment_ids": segment_ids, "num_segments": num_segments, "where": where, "scale": scale}
    return calls.segment_forward(LOG_SOFTMAX, convert(input, dtype), offsets, axis=dim, out=None, **options)


@traceable
def segment_logsumexp(
    input: Tensor,
    offsets: Tensor | None = None,
    dim: int = 0,
    *,
    segment_ids: Tensor | None = None,
    num_segments: int | None = None,
    dtype: torch.dtype | None = None,
    where: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """log Σ exp(scale·input) of each segment: as `softgrad.segment_logsumexp`.

    Its arguments are those of `segment_softmax`.  Saved for the backward is `input`, which is no new memory.
    The gradient of an empty segment is 0.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.segment_logsumexp(torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0, 2, 3, 3]))
    tensor([0.6931, 5.0000,   -inf])
    """
    options = {"segment_ids": segment_ids, "num_segments": num_segments, "where": where, "scale": scale}
    return calls.segment_reduce(LOGSUMEXP, convert(input, dtype), offsets, axis=dim, **options)


@traceable
def segment_entropy(
    input: Tensor,
    offsets: Tensor | None = None,
    dim: int = 0,
    *,
    segment_ids: Tensor | None = None,
    num_segments: int | None = None,
    dtype: torch.dtype | None = None,
    where: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """The entropy of softmax of ``scale * input`` in each segment: as `softgrad.segment_entropy`.

    Its arguments are those of `segment_softmax`.  Saved for the backward is `input`, which is no new memory.
    No underflow makes the gradient NaN.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.segment_entropy(torch.tensor([0.0, 0.0, 0.0, -200.0]), torch.tensor([0, 2, 4]))
    tensor([0.6931, 0.0000])
    """
    options = {"segment_ids": segment_ids, "num_segments": num_segments, "where": where, "scale": scale}
    return calls.segment_reduce(ENTROPY, convert(input, dtype), offsets, axis=dim, **options)
