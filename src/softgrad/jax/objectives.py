"""The functions on JAX arrays that compare a softmax with a target, and the curvature of a loss."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from .. import checks, specs
from ..checks import Axis, Direction, Reduction
from ..specs import DIRECTIONS, JS, SPARSEMAX
from . import divergences
from .functions import Mask


def kl_divergence(
    x: ArrayLike,
    axis: Axis = -1,
    where: Mask = None,
    *,
    target_logits: ArrayLike | None = None,
    target_probs: ArrayLike | None = None,
    direction: Direction = "forward",
    temperature: float = 1.0,
    keepdims: bool = False,
) -> jax.Array:
    """The Kullback-Leibler divergence of each row between softmax(x/T) and a target.

    It is `softgrad.kl_divergence` under every transform, with gradients for both sides, by its formula in
    `jax.numpy`.  (The logarithm of a sum is rounded to the type that is computed in, so the relative error of
    a divergence below eps² is larger than there.)

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import softgrad.jax
    >>> x, t = jnp.array([0.0, -jnp.inf, 0.0], jnp.float32), jnp.array([1.0, 0.0, 0.0], jnp.float32)
    >>> softgrad.jax.kl_divergence(x, target_probs=t).round(4)
    Array(0.6931, dtype=float32)
    >>> jax.grad(lambda x: softgrad.jax.kl_divergence(x, target_probs=t))(x)
    Array([-0.5,  0. ,  0.5], dtype=float32)
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    checks.word(direction, "direction", DIRECTIONS)
    options = {"axis": axis, "where": where, "temperature": temperature}
    return divergences.divergence(DIRECTIONS[direction], x, target, probs, **options, keepdims=keepdims)


def js_divergence(
    x: ArrayLike,
    axis: Axis = -1,
    where: Mask = None,
    *,
    target_logits: ArrayLike | None = None,
    target_probs: ArrayLike | None = None,
    temperature: float = 1.0,
    keepdims: bool = False,
) -> jax.Array:
    """The Jensen-Shannon divergence of each row between softmax(x/T) and a target.

    It is `softgrad.js_divergence` under every transform; see `kl_divergence`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> x, u = jnp.array([0.0, -jnp.inf], jnp.float32), jnp.array([-jnp.inf, 0.0], jnp.float32)
    >>> softgrad.jax.js_divergence(x, target_logits=u, temperature=0.05).round(4)
    Array(0.6931, dtype=float32)
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    options = {"axis": axis, "where": where, "temperature": temperature}
    return divergences.divergence(JS, x, target, probs, **options, keepdims=keepdims)


def entropy_of_probabilities(
    p: ArrayLike, axis: Axis = -1, where: Mask = None, *, keepdims: bool = False
) -> jax.Array:
    """The entropy −Σ p·log p of probabilities: as `softgrad.entropy_of_probabilities`.

    `entropy` is that of the softmax of logits.  The gradient where p is 0 is 0.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import softgrad.jax
    >>> p = jnp.array([0.5, 0.5, 0.0], jnp.float32)
    >>> softgrad.jax.entropy_of_probabilities(p).round(4)
    Array(0.6931, dtype=float32)
    >>> jax.grad(softgrad.jax.entropy_of_probabilities)(p).round(4)
    Array([-0.3069, -0.3069,  0.    ], dtype=float32)
    """
    return divergences.entropy_of_probabilities(p, axis=axis, where=where, keepdims=keepdims)


def entmax_loss(
    x: ArrayLike,
    target: ArrayLike,
    alpha: float = 1.5,
    axis: int = -1,
    where: Mask = None,
    *,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """The loss of entmax beside classes or weights: as `softgrad.entmax_loss`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import softgrad.jax
    >>> x = jnp.array([[1.0, 0.5, -jnp.inf]], jnp.float32)
    >>> round(float(softgrad.jax.entmax_loss(x, jnp.array([0]))), 4)
    0.1844
    >>> jax.grad(softgrad.jax.entmax_loss)(x, jnp.array([0])).round(4)
    Array([[-0.326,  0.326,  0.   ]], dtype=float32)
    """
    options = {"axis": axis, "where": where, "ignore_index": ignore_index, "reduction": reduction}
    return divergences.fenchel_young(specs.entmax(checks.alpha(alpha)), x, target, **options)


def sparsemax_loss(
    x: ArrayLike,
    target: ArrayLike,
    axis: int = -1,
    where: Mask = None,
    *,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """The loss of sparsemax: `entmax_loss` for alpha = 2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import softgrad.jax
    >>> softgrad.jax.sparsemax_loss(jnp.array([[1.0, 0.5, -jnp.inf]], jnp.float32), jnp.array([0]))
    Array(0.0625, dtype=float32)
    """
    options = {"axis": axis, "where": where, "ignore_index": ignore_index, "reduction": reduction}
    return divergences.fenchel_young(SPARSEMAX, x, target, **options)


def softmax_vjp_hessian_diagonal(
    y: ArrayLike,
    dy: ArrayLike,
    h: ArrayLike | None = None,
    axis: Axis = -1,
    where: Mask = None,
    *,
    scale: float = 1.0,
) -> jax.Array:
    """The diagonal of the Hessian of L(softmax(x)), given y, ∂L/∂y and the diagonal h of ∂²L/∂y².

    It is `softgrad.softmax_vjp_hessian_diagonal` on JAX's arrays.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpy as np
    >>> import softgrad.jax
    >>> y, cost = jnp.array([0.09, 0.2447, 0.6653], jnp.float32), jnp.array([0.0, 1.0, 4.0], jnp.float32)
    >>> np.asarray(softgrad.jax.softmax_vjp_hessian_diagonal(y, cost)).round(4)
    array([-0.2145, -0.2381, -0.2406], dtype=float32)
    """
    return divergences.hessian_diagonal(y, dy, h, axis=axis, where=where, scale=scale, out=None)
