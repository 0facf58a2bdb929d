"""One number for each row, logsumexp and the entropy of softmax, and their gradients."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ..checks import Array, Axis, Out, Where
from ..dispatch import library
from ..specs import ENTROPY, LOGSUMEXP
from .descriptions import NO_PART, documented, with_vjp

# Words for the descriptions.
FORWARD = {"masked": "", "in_place": ""}
INFINITE = f"{NO_PART}.  A row with +inf gives +inf, one with NaN gives NaN."
VJP = {
    "kept": "x",
    "result": "the result, of its shape, with or without ``keepdims``",
    "not_finite": "",
    "in_place": ", and also `x` itself",
}


@documented("logsumexp", **FORWARD, infinite=INFINITE)
def logsumexp(
    x: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    keepdims: bool = False,
    out: Out = None,
) -> Array:
    r"""The logarithm of the sum of the exponentials of ``scale * x`` along an axis.

    .. math:: \log \sum_k \exp(s x_k)

    Returns
    -------
    numpy.ndarray
        One number for each row, of the dtype of `x` (float64 for integers); `out` if that was given.  Where
        no axis is left it is a NumPy scalar, as of ``numpy.sum``.

    Notes
    -----
    *Error*: at most 2 ulp of max(\|result\|, \|s·max x\|, 1) for float32 and float64, 0.51 of them for
    float16 and bfloat16, for logits of any size.

    A row that has nothing in it (all −inf, or all masked, or an axis of length 0) gives −inf, the logarithm
    of 0.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.logsumexp(np.array([[0.0, 0.0], [100.0, 100.0]])).round(4)
    array([  0.6931, 100.6931])
    """
    return library(x).reduce(LOGSUMEXP, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out)


@documented("logsumexp", **VJP)
def logsumexp_vjp(
    x: ArrayLike, dy: ArrayLike, *, axis: Axis = -1, where: Where = None, scale: float = 1.0, out: Out = None
) -> Array:
    r"""∂L/∂x of ``logsumexp(x, scale=scale)``, given x and ∂L/∂logsumexp.

    .. math:: dx_i = s\, dy \, \frac{\exp(s x_i)}{\sum_k \exp(s x_k)}

    Notes
    -----
    *Residual*: x, which a caller has anyway.  From the result, as exp(x − result), the gradient would be off
    by what rounding took from the result, at 1000 up to 256 eps.

    *Error*: at most 4·eps of each element, and the smallest subnormal; float16 and bfloat16 are rounded once,
    0.51 ulp.  A p below the smallest subnormal is 0, and so is dx.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.logsumexp_vjp(np.array([[0.0, 0.0], [1000.0, 1000.0]]), np.array([1.0, 2.0]))
    array([[0.5, 0.5],
           [1. , 1. ]])
    """
    return library(x).reduce_vjp(LOGSUMEXP, x, dy, axis=axis, where=where, scale=scale, out=out)


@documented("logsumexp", **FORWARD, infinite=INFINITE, kept="x", returned="result")
@with_vjp(logsumexp, logsumexp_vjp, keeps_x=True)
def logsumexp_with_vjp() -> None:
    """`logsumexp`, and the function that takes the gradient with respect to it to that with respect to x.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> result, vjp = softgrad.logsumexp_with_vjp(np.array([1.0, 1.0, -np.inf]))
    >>> vjp(1.0)
    array([0.5, 0.5, 0. ])
    """


@documented("entropy", **FORWARD)
def entropy(
    x: ArrayLike,
    *,
    axis: Axis = -1,
    where: Where = None,
    scale: float = 1.0,
    keepdims: bool = False,
    out: Out = None,
) -> Array:
    r"""The entropy, in nats, of the softmax of ``scale * x`` along an axis.

    .. math::
        H = -\sum_k p_k \log p_k
          = \log \sum_k e^{t_k} - \frac{\sum_k t_k e^{t_k}}{\sum_k e^{t_k}}, \quad t = s x - \max s x

    Returns
    -------
    numpy.ndarray
        One number for each row, as of `logsumexp`.

    Notes
    -----
    No logarithm of a p is taken, so that logits of −inf, and those whose p is 0 by underflow,
    add 0 and no NaN.  Both terms are positive: nothing cancels, also where one p is nearly 1.

    *Error*: at most 3 ulp for float32 and float64 where the entropy is a normal number, 0.51 ulp for float16
    and bfloat16, for logits of any size.

    A row that has nothing in it (all −inf, or all masked, or an axis of length 0) gives 0.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.entropy(np.array([[0.0, 0.0, -np.inf], [0.0, -1000.0, -2000.0]])).round(4)
    array([0.6931, 0.    ])
    """
    return library(x).reduce(ENTROPY, x, axis=axis, where=where, scale=scale, keepdims=keepdims, out=out)


@documented("entropy", **VJP)
def entropy_vjp(
    x: ArrayLike, dy: ArrayLike, *, axis: Axis = -1, where: Where = None, scale: float = 1.0, out: Out = None
) -> Array:
    r"""∂L/∂x of ``entropy(x, scale=scale)``, given x and ∂L/∂entropy.

    .. math:: dx_i = -s\, dy\, p_i (\log p_i + H) = s\, dy\, p_i \Bigl(\sum_k p_k t_k - t_i\Bigr)

    Notes
    -----
    *Error*: with t = s·x and m its mean under p,

    .. math:: |dx_i - dx^*_i| \le C\, eps\, \bigl(|dx^*_i| + |s\, dy|\, p_i \sum_k p_k |t_k - m|\bigr)

    with C = 8 for float32 and 16 for float64, and the smallest subnormal; float16 and bfloat16 are rounded
    once, 0.51 ulp.  A p below the smallest subnormal is 0, and so is dx.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x = np.array([[0.0, 1.0, -np.inf], [0.0, -1000.0, -2000.0]])
    >>> softgrad.entropy_vjp(x, np.array([1.0, 1.0])).round(4)
    array([[ 0.1966, -0.1966,  0.    ],
           [ 0.    ,  0.    ,  0.    ]])
    """
    return library(x).reduce_vjp(ENTROPY, x, dy, axis=axis, where=where, scale=scale, out=out)


@documented("entropy", **FORWARD, kept="x", returned="result")
@with_vjp(entropy, entropy_vjp, keeps_x=True)
def entropy_with_vjp() -> None:
    """`entropy`, and the function that takes the gradient with respect to it to that with respect to x.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> result, vjp = softgrad.entropy_with_vjp(np.array([0.0, 1.0, -np.inf]))
    >>> vjp(1.0).round(4)
    array([ 0.1966, -0.1966,  0.    ])
    """
