"""The losses of sparsemax and entmax: their gradient is y − target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from ..checks import Array, Reduction, Where
from ..dispatch import library
from ..specs import SPARSEMAX
from .descriptions import documented

WORDS = {
    "axes": "int",
    "rows": "The axis of the n classes.",
    "infinite": "An entry that is −inf has y = 0.",
    "masked": "; the gradient is 0 there.  A target class that is masked makes the loss inf",
}


@documented("entmax_loss", **WORDS)
def entmax_loss(
    x: ArrayLike,
    target: ArrayLike,
    alpha: float = 1.5,
    *,
    axis: int = -1,
    where: Where = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Any:
    r"""The loss of `entmax`: cross-entropy's place where the output layer is entmax (a Fenchel-Young loss).

    .. math:: L = \max_{y \in \Delta} \bigl(\langle x, y \rangle - Ω(y)\bigr) + Ω(t) - \langle x, t \rangle,
        \quad Ω(p) = \frac{\sum_i p_i^α - p_i}{α (α - 1)}

    Its gradient with respect to x is entmax(x) − t.  It is 0 where entmax(x) is t, and above 0 elsewhere.
    For alpha = 1 it is the Kullback-Leibler divergence of softmax(x) from t.

    Returns
    -------
    numpy.floating or numpy.ndarray
        L in the dtype of `x`: one number, or with ``reduction="none"`` an array of the shape of `x` without
        the axis.

    Notes
    -----
    It is computed as a sum of which no element is negative (the Bregman divergences of Ω), so neither logits
    of −inf nor large offsets make it NaN or noise.  A target that has a weight where x is −inf makes it inf.
    Weights are taken to sum to 1 in each row.  A row with nothing in it gives 0.

    *Error*: 4·eps of the loss for given y = entmax(x), and what the error of y makes of it, which is
    ‖y − y*‖·‖y − t‖ or so (for alphas that are neither 1.5 nor 2 also (α + 1)/(α − 1) eps of float64).

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> x = np.array([[1.0, 0.5, -np.inf], [0.0, 9.0, 0.0]])
    >>> softgrad.entmax_loss(x, [0, 1], reduction="none").round(4)
    array([0.1844, 0.    ])
    """
    of = library(x)
    options = {"axis": axis, "where": where, "ignore_index": ignore_index, "reduction": reduction}
    return of.fenchel_young(of.entmax(alpha), x, target, **options)


@documented("entmax_loss", **WORDS)
def entmax_loss_with_vjp(
    x: ArrayLike,
    target: ArrayLike,
    alpha: float = 1.5,
    *,
    axis: int = -1,
    where: Where = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> tuple[Any, Callable[..., Array]]:
    r"""`entmax_loss`, and the function that takes ∂/∂L to ∂/∂x.

    .. math:: dx = (\mathrm{entmax}(x) - t) \, dL

    in each row, divided by the number of rows that count for ``reduction="mean"``.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        As `entmax_loss` returns it.
    vjp : callable
        ``vjp(dloss=1.0, *, out=None)``, as of `cross_entropy_with_vjp`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> loss, vjp = softgrad.entmax_loss_with_vjp(np.array([1.0, 0.5, -np.inf]), 0)
    >>> vjp().round(4)
    array([-0.326,  0.326,  0.   ])
    """
    of = library(x)
    options = {"axis": axis, "where": where, "ignore_index": ignore_index, "reduction": reduction}
    return of.fenchel_young_with_vjp(of.entmax(alpha), x, target, **options)


@documented("sparsemax_loss", **WORDS)
def sparsemax_loss(
    x: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    where: Where = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Any:
    """The loss of `sparsemax`: `entmax_loss` for alpha = 2.

    Returns
    -------
    numpy.floating or numpy.ndarray
        As of `entmax_loss`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> softgrad.sparsemax_loss(np.array([1.0, 0.5, -np.inf]), 0)
    np.float64(0.0625)
    """
    options = {"axis": axis, "where": where, "ignore_index": ignore_index, "reduction": reduction}
    return library(x).fenchel_young(SPARSEMAX, x, target, **options)


@documented("sparsemax_loss", **WORDS)
def sparsemax_loss_with_vjp(
    x: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    where: Where = None,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> tuple[Any, Callable[..., Array]]:
    """`sparsemax_loss`, and the function that takes ∂/∂L to ∂/∂x: `entmax_loss_with_vjp` for alpha = 2.

    Returns
    -------
    loss : numpy.floating or numpy.ndarray
        As `sparsemax_loss` returns it.
    vjp : callable
        ``vjp(dloss=1.0, *, out=None)``, as of `cross_entropy_with_vjp`.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> loss, vjp = softgrad.sparsemax_loss_with_vjp(np.array([1.0, 0.5, -np.inf]), 0)
    >>> vjp()
    array([-0.25,  0.25,  0.  ])
    """
    options = {"axis": axis, "where": where, "ignore_index": ignore_index, "reduction": reduction}
    return library(x).fenchel_young_with_vjp(SPARSEMAX, x, target, **options)
