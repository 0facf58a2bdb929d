"""Divergences between a softmax and a target, and the entropy of probabilities."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import checks
from ..checks import Array, Axis, Direction, Out, Where
from ..dispatch import library
from ..specs import DIRECTIONS, JS, Divergence
from .descriptions import documented, with_vjp

WORDS = {"masked": "", "infinite": "An entry that is −inf has the probability 0."}
VJP = {"result": "the result, of its shape, with or without ``keepdims``", "kept": "x", "not_finite": ""}
OF_P = {**VJP, "kept": "p", "in_place": ", and also `p` itself"}


def directed(direction: str) -> Divergence:
    checks.word(direction, "direction", DIRECTIONS)
    return DIRECTIONS[direction]


@documented("kl_divergence", **WORDS)
def kl_divergence(
    x: ArrayLike,
    *,
    target_logits: ArrayLike | None = None,
    target_probs: ArrayLike | None = None,
    axis: Axis = -1,
    where: Where = None,
    direction: Direction = "forward",
    temperature: float = 1.0,
    keepdims: bool = False,
) -> Array:
    r"""The Kullback-Leibler divergence of each row between p = softmax(x/T) and a target t.

    .. math:: KL(t \| p) = \sum_k t_k \log\frac{t_k}{p_k} = \sum_k t_k\, (e^{δ_k} - 1 - δ_k),
        \quad δ = \log p - \log t

    or :math:`KL(p \| t)` for ``direction="reverse"``.

    Returns
    -------
    numpy.ndarray
        One number for each row, of the dtype of `x`; where no axis is left a NumPy scalar.

    Notes
    -----
    The logarithms are taken of no probability that may be 0: logits of −inf, or far below the others, make
    no NaN.  An element that neither has adds 0, one that the first lacks what the second has.  One that the
    second alone lacks makes the divergence inf.  A row in which one of the two has nothing (all masked, all
    −inf, or probabilities that are all 0) gives 0, and its gradients are 0.

    *Error*: no term of the sum on the right is negative, so distributions that are nearly equal keep the
    digits of a divergence that is next to nothing: 4·eps of the result, where the target is given by logits.
    (Of probabilities the logarithms are rounded to float64.)  A p below the smallest number of the dtype
    counts as 0 beside a probability of 0.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x, u = np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([[1.0, -1.0], [1e-9, 0.0]])
    >>> softgrad.kl_divergence(x, target_logits=u)
    array([3.27813325e-01, 1.25000000e-19])
    >>> softgrad.kl_divergence(np.array([0.0, -np.inf, 0.0]), target_probs=np.array([1.0, 0.0, 0.0])).round(4)
    np.float64(0.6931)
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    options = {"axis": axis, "where": where, "temperature": temperature, "keepdims": keepdims}
    return library(x).divergence(directed(direction), x, target, probs, **options)


@documented("kl_divergence", **WORDS, **VJP)
def kl_divergence_vjp(
    x: ArrayLike,
    dy: ArrayLike,
    *,
    target_logits: ArrayLike | None = None,
    target_probs: ArrayLike | None = None,
    axis: Axis = -1,
    where: Where = None,
    direction: Direction = "forward",
    temperature: float = 1.0,
) -> tuple[Array, Array]:
    r"""∂L/∂x of ``kl_divergence(x, ...)`` and ∂L/∂target, given x, the target and ∂L/∂KL.

    .. math:: dx = \frac{dy}{T} (p - t), \qquad du = \frac{dy}{T}\, t \circ \Bigl(\sum_k t_k δ_k - δ\Bigr)

    for the logits u of the target; for ``direction="reverse"`` p and t change places.  For probabilities it
    is du divided by t and their sum, without 1/T, and 0 where t is 0 (the support convention; the derivative
    of t·log t is −∞ there).

    Returns
    -------
    dx, dtarget : numpy.ndarray
        Of the shape of `x`.

    Notes
    -----
    *Error*: for the second of the two distributions, whose gradient g is a difference of both,
    :math:`4\, eps\, (|g_i| + w_i \sum_k |g_k|)`, w being that distribution; for the first
    :math:`4\, eps\, w_i (|a_i| + \sum_k w_k |a_k|)` beside it, since a, the logarithm of their ratio, is
    rounded.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> dx, du = softgrad.kl_divergence_vjp([0.0, 0.0], 1.0, target_logits=[1.0, -1.0])
    >>> dx.round(4), du.round(4)
    (array([-0.3808,  0.3808]), array([ 0.21, -0.21]))
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    options = {"axis": axis, "where": where, "temperature": temperature}
    return library(x).divergence_vjp(directed(direction), x, dy, target, probs, **options)


@documented("kl_divergence", **WORDS, kept="x", returned="kl")
@with_vjp(kl_divergence, kl_divergence_vjp, keeps_x=True)
def kl_divergence_with_vjp() -> None:
    """`kl_divergence`, and the function that takes ∂L/∂KL to the gradients for x and for the target.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> kl, vjp = softgrad.kl_divergence_with_vjp(np.array([0.0, 0.0]), target_logits=np.array([1.0, -1.0]))
    >>> vjp(1.0)[0].round(4)
    array([-0.3808,  0.3808])
    """


@documented("js_divergence", **WORDS)
def js_divergence(
    x: ArrayLike,
    *,
    target_logits: ArrayLike | None = None,
    target_probs: ArrayLike | None = None,
    axis: Axis = -1,
    where: Where = None,
    temperature: float = 1.0,
    keepdims: bool = False,
) -> Array:
    r"""The Jensen-Shannon divergence of each row between p = softmax(x/T) and a target t, in nats.

    .. math:: JS = \tfrac12 KL(p \| m) + \tfrac12 KL(t \| m)
        = \sum_k m_k\, (h_k \tanh h_k - \log\cosh h_k),
        \quad m = \tfrac12 (p + t),\ h = \tfrac12 \log\frac{p}{t}

    Returns
    -------
    numpy.ndarray
        One number for each row, of the dtype of `x`, from 0 to log 2.

    Notes
    -----
    It is finite for all logits but NaN and +inf.  A row in which one of the two has nothing gives 0, and its
    gradients are 0.

    *Error*: as of `kl_divergence`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x, u = np.array([[0.0, 0.0], [0.0, -np.inf]]), np.array([[1.0, -1.0], [-np.inf, 0.0]])
    >>> softgrad.js_divergence(x, target_logits=u).round(4)
    array([0.0895, 0.6931])
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    options = {"axis": axis, "where": where, "temperature": temperature, "keepdims": keepdims}
    return library(x).divergence(JS, x, target, probs, **options)


@documented("js_divergence", **WORDS, **VJP)
def js_divergence_vjp(
    x: ArrayLike,
    dy: ArrayLike,
    *,
    target_logits: ArrayLike | None = None,
    target_probs: ArrayLike | None = None,
    axis: Axis = -1,
    where: Where = None,
    temperature: float = 1.0,
) -> tuple[Array, Array]:
    r"""∂L/∂x of ``js_divergence(x, ...)`` and ∂L/∂target, given x, the target and ∂L/∂JS.

    .. math:: dx = \frac{dy}{T}\, p \circ \Bigl(a - \sum_k p_k a_k\Bigr), \quad a = \tfrac12 \log\frac{p}{m}

    The gradient for the target is the same with t for p; for probabilities see `kl_divergence_vjp`, whose
    error for the first of two distributions is that of both here.

    Returns
    -------
    dx, dtarget : numpy.ndarray
        Of the shape of `x`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> dx, du = softgrad.js_divergence_vjp([0.0, 0.0], 1.0, target_logits=[1.0, -1.0])
    >>> dx.round(4), du.round(4)
    (array([-0.1002,  0.1002]), array([ 0.0629, -0.0629]))
    """
    target, probs = checks.logits_or_probs(target_logits, target_probs)
    options = {"axis": axis, "where": where, "temperature": temperature}
    return library(x).divergence_vjp(JS, x, dy, target, probs, **options)


@documented("js_divergence", **WORDS, kept="x", returned="js")
@with_vjp(js_divergence, js_divergence_vjp, keeps_x=True)
def js_divergence_with_vjp() -> None:
    """`js_divergence`, and the function that takes ∂L/∂JS to the gradients for x and for the target.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> js, vjp = softgrad.js_divergence_with_vjp(np.array([0.0, 0.0]), target_logits=np.array([1.0, -1.0]))
    >>> vjp(1.0)[0].round(4)
    array([-0.1002,  0.1002])
    """


@documented("entropy_of_probabilities", masked="")
def entropy_of_probabilities(
    p: ArrayLike, *, axis: Axis = -1, where: Where = None, keepdims: bool = False
) -> Array:
    r"""The entropy −Σ p·log p, in nats, of probabilities; `entropy` is that of the softmax of logits.

    Returns
    -------
    numpy.ndarray
        One number for each row, of the dtype of `p`.

    Notes
    -----
    A p of 0 adds 0.  Where the logits are known `entropy` is the better one: it has the digits of a p that is
    nearly 1, and its gradient is that of the logits.

    *Error*: 2 ulp for float32 and float64, 0.51 for float16 and bfloat16, where no p is above 1.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.entropy_of_probabilities(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).round(4)
    array([0.6931, 0.    ])
    """
    return library(p).entropy_of_probabilities(p, axis=axis, where=where, keepdims=keepdims)


@documented("entropy_of_probabilities", **OF_P)
def entropy_of_probabilities_vjp(
    p: ArrayLike, dy: ArrayLike, *, axis: Axis = -1, where: Where = None, out: Out = None
) -> Array:
    r"""∂L/∂p of ``entropy_of_probabilities(p)``, given p and ∂L/∂entropy.

    .. math:: dp_i = -dy\, (\log p_i + 1), \quad 0 \text{ where } p_i = 0

    The derivative at 0 is +∞; 0 is the *support convention*: what has no probability is to stay without.
    Through the softmax that made p nothing of it is left either way.

    Notes
    -----
    *Error*: 2·eps·\|dy\|·(\|log p\| + 1); float16 and bfloat16 are rounded once.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.entropy_of_probabilities_vjp(np.array([0.5, 0.5, 0.0]), 1.0).round(4)
    array([-0.3069, -0.3069,  0.    ])
    """
    return library(p).entropy_of_probabilities_vjp(p, dy, axis=axis, where=where, out=out)


@documented("entropy_of_probabilities", masked="", kept="p", returned="entropy")
@with_vjp(entropy_of_probabilities, entropy_of_probabilities_vjp, keeps_x=True)
def entropy_of_probabilities_with_vjp() -> None:
    """`entropy_of_probabilities`, and the function that takes ∂L/∂entropy to ∂L/∂p.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> entropy, vjp = softgrad.entropy_of_probabilities_with_vjp(np.array([0.5, 0.5, 0.0]))
    >>> vjp(1.0).round(4)
    array([-0.3069, -0.3069,  0.    ])
    """
