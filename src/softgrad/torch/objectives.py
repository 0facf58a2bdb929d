"""The functions on tensors that compare a softmax with a target, and the curvature of a loss through one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import checks
from ..checks import Direction, Reduction
from ..specs import DIRECTIONS, JS, SPARSEMAX
from . import calls
from .functions import Dim, traceable
from .tensors import convert


@traceable
def kl_divergence(
    input: Tensor,
    dim: Dim = -1,
    keepdim: bool = False,
    *,
    target_logits: Tensor | None = None,
    target_probs: Tensor | None = None,
    where: Tensor | None = None,
    direction: Direction = "forward",
    temperature: float = 1.0,
) -> Tensor:
    """The Kullback-Leibler divergence of each row between softmax(input/T) and a target.

    It is `softgrad.kl_divergence` on tensors, with gradients of every order for both sides.  (The mean over
    rows, and the factor T² of a distillation, are the caller's.)  Saved for the backward are the inputs, and
    a gradient for each of them that requires one.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> x = torch.tensor([0.0, -torch.inf, 0.0], requires_grad=True)
    >>> kl = softgrad.torch.kl_divergence(x, target_probs=torch.tensor([1.0, 0.0, 0.0]))
    >>> kl.detach(), torch.autograd.grad(kl, x)
    (tensor(0.6931), (tensor([-0.5000,  0.0000,  0.5000]),))
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    checks.word(direction, "direction", DIRECTIONS)
    options: dict[str, Any] = {"axis": dim, "where": where, "temperature": temperature, "keepdims": keepdim}
    x, t = (convert(a, None, as_loss=True) for a in (input, target))
    return calls.divergence(DIRECTIONS[direction], x, t, probs, **options)


@traceable
def js_divergence(
    input: Tensor,
    dim: Dim = -1,
    keepdim: bool = False,
    *,
    target_logits: Tensor | None = None,
    target_probs: Tensor | None = None,
    where: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The Jensen-Shannon divergence of each row between softmax(input/T) and a target.

    It is `softgrad.js_divergence` on tensors; gradients as of `kl_divergence`.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> x, u = torch.tensor([0.0, -torch.inf]), torch.tensor([-torch.inf, 0.0])
    >>> softgrad.torch.js_divergence(x, target_logits=u, temperature=0.05)
    tensor(0.6931)
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    options: dict[str, Any] = {"axis": dim, "where": where, "temperature": temperature, "keepdims": keepdim}
    x, t = (convert(a, None, as_loss=True) for a in (input, target))
    return calls.divergence(JS, x, t, probs, **options)


@traceable
def entropy_of_probabilities(
    input: Tensor, dim: Dim = -1, keepdim: bool = False, *, where: Tensor | None = None
) -> Tensor:
    """The entropy −Σ p·log p of probabilities along a dim: as `softgrad.entropy_of_probabilities`.

    `entropy` is that of the softmax of logits.  The gradient where p is 0 is 0.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> p = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
    >>> entropy = softgrad.torch.entropy_of_probabilities(p)
    >>> entropy.detach(), torch.autograd.grad(entropy, p)
    (tensor(0.6931), (tensor([-0.3069, -0.3069,  0.0000]),))
    """
    p = convert(input, None, as_loss=True)
    return calls.entropy_of_probabilities(p, axis=dim, where=where, keepdims=keepdim)


@traceable
def entmax_loss(
    input: Tensor,
    target: Tensor,
    alpha: float = 1.5,
    dim: int = -1,
    *,
    where: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The loss of entmax, beside classes or weights: as `softgrad.entmax_loss`.

    Its gradient is entmax(input) − target.  Saved for the backward are y, `input` and the target as weights.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> x = torch.tensor([[1.0, 0.5, -torch.inf]], requires_grad=True)
    >>> loss = softgrad.torch.entmax_loss(x, torch.tensor([0]))
    >>> loss.detach(), torch.autograd.grad(loss, x)
    (tensor(0.1844), (tensor([[-0.3260,  0.3260,  0.0000]]),))
    """
    x = convert(input, None, as_loss=True)
    options: dict[str, Any] = {"where": where, "ignore_index": ignore_index, "reduction": reduction}
    return calls.fenchel_young(calls.entmax(alpha), x, target, axis=dim, **options)


@traceable
def sparsemax_loss(
    input: Tensor,
    target: Tensor,
    dim: int = -1,
    *,
    where: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The loss of sparsemax: `entmax_loss` for alpha = 2.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> softgrad.torch.sparsemax_loss(torch.tensor([[1.0, 0.5, -torch.inf]]), torch.tensor([0]))
    tensor(0.0625)
    """
    x = convert(input, None, as_loss=True)
    options: dict[str, Any] = {"where": where, "ignore_index": ignore_index, "reduction": reduction}
    return calls.fenchel_young(SPARSEMAX, x, target, axis=dim, **options)


def softmax_vjp_hessian_diagonal(
    y: Tensor,
    dy: Tensor,
    h: Tensor | None = None,
    dim: Dim = -1,
    *,
    where: Tensor | None = None,
    scale: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """The diagonal of the Hessian of L(softmax(x)), given y, ∂L/∂y and the diagonal h of ∂²L/∂y².

    It is `softgrad.softmax_vjp_hessian_diagonal` on tensors, and differentiable itself.

    Examples
    --------
    >>> import torch
    >>> import softgrad.torch
    >>> y, cost = torch.tensor([1.0, 2.0, 3.0]).softmax(-1), torch.tensor([0.0, 1.0, 4.0])
    >>> softgrad.torch.softmax_vjp_hessian_diagonal(y, cost)
    tensor([-0.2145, -0.2381, -0.2406])
    """
    return calls.hessian_diagonal(y, dy, h, axis=dim, where=where, scale=scale, out=out)
