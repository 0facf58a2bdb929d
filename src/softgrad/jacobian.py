"""The Jacobian of softmax: as a matrix of n², and as an operator that needs n numbers."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import arrays, checks
from .checks import Array, Axis
from .cpu import call
from .functional import softmax_vjp
from .functional.descriptions import documented
from .specs import SOFTMAX

WIDE = np.dtype(np.float64)
LIFT = 2.0**500  # times this, every float64 but 0 has an inverse in range


@documented("softmax", rows="The axis or axes along which y sums to 1; several are one, in the order given.")
def softmax_jacobian(y: npt.ArrayLike, *, axis: Axis = -1) -> Array:
    r"""The dense Jacobian of softmax, given its result: n² numbers for each row of n.

    .. math:: J_{ij} = \partial y_i / \partial x_j = y_i \delta_{ij} - y_i y_j / \sum_k y_k

    It is for looking at, and for tests: to multiply with it, `softmax_vjp` takes n numbers and steps.

    Returns
    -------
    numpy.ndarray
        J, of shape ``batch + (n, n)``: the axes of `y` that are left, and those of the matrix.  It is all
        that is allocated.  Each row and column is the vjp of a unit vector, with the error of `softmax_vjp`.

    Examples
    --------
    >>> import softgrad
    >>> softgrad.softmax_jacobian([0.25, 0.75])
    array([[ 0.1875, -0.1875],
           [-0.1875,  0.1875]])
    """
    rows = rows_of(checks.floating(y, "y"), axis)
    n = rows.shape[-1]
    result = np.zeros((*rows.shape, n), rows.dtype)
    result[..., np.arange(n), np.arange(n)] = 1
    softmax_vjp(np.broadcast_to(rows[..., None, :], result.shape), result, out=result)
    return result


def rows_of(y: Array, axis: Axis) -> Array:
    """`y` with the axes that are left first, and those to reduce as one, the last; a view if there is one."""
    axes = checks.axes(axis, y.ndim)
    rows = y.reshape(1) if y.ndim == 0 else np.moveaxis(y, axes, range(-len(axes), 0))
    batch, reduced = rows.shape[: rows.ndim - len(axes)], rows.shape[rows.ndim - len(axes) :]
    return rows.reshape(*batch, math.prod(reduced))


class Operator(abc.ABC):
    """A square matrix for each row of y, known by its products."""

    __array_ufunc__ = None  # `array @ operator` is an error, not an array of objects

    def __init__(self, y: Array) -> None:
        self.y = y

    @property
    def shape(self) -> tuple[int, ...]:
        """batch + (n, n)."""
        return *self.y.shape, self.y.shape[-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of y."""
        return self.y.dtype

    @property
    @abc.abstractmethod
    def T(self) -> Operator:
        """The transpose of each matrix."""

    @abc.abstractmethod
    def __matmul__(self, v: Any) -> Any: ...

    def matvec(self, v: npt.ArrayLike) -> Any:
        """``self @ v``, by the name that `scipy.sparse.linalg.aslinearoperator` looks for."""
        return self @ v

    def rmatvec(self, v: npt.ArrayLike) -> Any:
        """``self.T @ v``, likewise."""
        return self.T @ v

    def dense(self) -> Array:
        """The matrix itself, batch + (n, n)."""
        result: Array = self @ np.broadcast_to(np.eye(self.shape[-1], dtype=self.dtype), self.shape)
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """`dense`, so that NumPy's functions take the operator: np.allclose(S @ S.T, J)."""
        if copy is False:
            raise ValueError("an operator holds no matrix: its array is made, and copy=False can't be had")
        return self.dense() if dtype is None else self.dense().astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


class SoftmaxJacobian(Operator):
    r"""The Jacobian of softmax, given its result, as an operator: no matrix is built.

    .. math:: J = \mathrm{diag}(p) - p\,p^\top / \sum_k p_k, \qquad p = y

    It is also the Hessian of the cross-entropy −log p_t in the logits, whatever the target t, and the Fisher
    information of a categorical distribution in its logits.  J is symmetric and positive semidefinite, and
    J 1 = 0.

    Parameters
    ----------
    y : array_like
        What softmax put out.
    axis : int, tuple of int or None
        The axis along which y sums to 1.  Several are taken as one, in the order given.

    Attributes
    ----------
    y : numpy.ndarray
        The rows, of shape ``batch + (n,)``: the axes of the given `y` that are left, then the reduced one.
        It is a view where there is one, and must not be changed.
    shape : tuple of int
        ``batch + (n, n)``.
    dtype : numpy.dtype
        That of y.
    T : SoftmaxJacobian
        Itself.

    Raises
    ------
    TypeError, ValueError, numpy.exceptions.AxisError
        As for `softmax_vjp`; also if an entry of `y` is below 0.

    Notes
    -----
    *Products*: ``J @ v`` takes one vector for each row, ``batch + (n,)``, or one matrix, ``batch + (n, k)``,
    and gives the same shape.  Which of the two `v` is follows from its number of axes.  Without a batch that
    is NumPy's rule for ``@``; with one, NumPy would take an array of as many axes as `y` for a matrix.
    Nothing is broadcast.  dtypes are promoted as by `softmax_vjp`.

    *Error* of the products: that of `softmax_vjp`, for each vector, or column.  That of the rest stands
    with the methods, with eps for that of the dtype; all but the products are computed in float64.

    *Memory*: `y` is kept, not a copy.  A product takes its result and the scratch memory of
    `softmax_vjp`.  Everything else takes a few arrays of float64 of the size of its argument, or of `y`.

    NumPy's functions, such as ``np.allclose``, take the operator for its matrix.  SciPy's solvers take a J
    without batch axes as it is; for `scipy.sparse.linalg.LinearOperator`\ s there is
    ``scipy.sparse.linalg.aslinearoperator(J)``.

    Examples
    --------
    >>> import numpy as np, softgrad
    >>> J = softgrad.SoftmaxJacobian([0.25, 0.75])
    >>> J @ np.array([1.0, 0.0])
    array([ 0.1875, -0.1875])
    >>> J.solve([1.0, -1.0])
    array([ 2.66666667, -2.66666667])

    The Hessian of the loss of a linear classifier, Σ_i cross-entropy(x_i W, t_i), times a matrix V like W:

    >>> rng = np.random.default_rng(0)
    >>> X, W, V = rng.normal(size=(50, 3)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    >>> GGN_V = X.T @ (softgrad.SoftmaxJacobian(softgrad.softmax(X @ W)) @ (X @ V))

    It is what the gradient Xᵀ(softmax(X W) − targets) changes by along V:

    >>> h = 1e-6
    >>> change = X.T @ (softgrad.softmax(X @ (W + h * V)) - softgrad.softmax(X @ (W - h * V))) / (2 * h)
    >>> np.allclose(GGN_V, change)
    True
    """

    def __init__(self, y: npt.ArrayLike, *, axis: Axis = -1) -> None:
        super().__init__(rows_of(checks.weights(checks.floating(y, "y")), axis))

    @property
    def T(self) -> SoftmaxJacobian:
        """Itself: J is symmetric."""
        return self

    def __matmul__(self, v: Any) -> Any:
        """The product with a vector ``batch + (n,)`` or a matrix ``batch + (n, k)``."""
        if isinstance(v, Operator):
            return NotImplemented
        v = checks.operand(v, "v", self.y)
        if v.ndim == self.y.ndim:
            return softmax_vjp(self.y, v)
        dtype = checks.promoted({self.dtype, v.dtype})
        return on_vectors(times, self.y.astype(dtype, copy=False), v, dtype)

    def dense(self) -> Array:
        """J itself, ``batch + (n, n)``: `softmax_jacobian`."""
        return softmax_jacobian(self.y)

    def diagonal(self) -> Array:
        r"""The diagonal of J, ``batch + (n,)``.

        .. math:: J_{ii} = p_i \sum_{k \ne i} p_k / \sum_k p_k

        *Error*: each entry is within 1 eps (float64: 3 eps) of itself, and half the smallest subnormal.
        Where p_i is nearly 1, the sum of the others is not computed as 1 − p_i.

        >>> import softgrad
        >>> softgrad.SoftmaxJacobian([1.0, 1e-30]).diagonal()
        array([1.e-30, 1.e-30])
        """
        return self._rounded(diagonal)

    def trace(self) -> Array:
        """The sum of the diagonal, of the shape of the batch.

        *Error*: 1 eps (float64: 4 eps) of itself, and half the smallest subnormal.

        >>> import softgrad
        >>> softgrad.SoftmaxJacobian([0.5, 0.5]).trace()
        np.float64(0.5)
        """
        return self._rounded(lambda p: total(diagonal(p)))

    def max_eigenvalue_bound(self) -> Array:
        """A number that no eigenvalue is above, of the shape of the batch.

        It is the smaller of max p_i (J is diag(p) less a positive semidefinite matrix) and of 2·max J_ii
        (Geršgorin), which is at most Σp/2.  The largest eigenvalue is at least half of it.  It is rounded
        upwards.

        >>> import softgrad
        >>> J = softgrad.SoftmaxJacobian([[0.25, 0.25, 0.25, 0.25], [1e-9, 0.0, 0.0, 1.0]])
        >>> J.max_eigenvalue_bound(), J.eigvalsh().max(axis=-1)
        (array([2.5e-01, 2.0e-09]), array([2.5e-01, 2.0e-09]))
        """
        margin = 1 + 8 * np.finfo(WIDE).eps  # more than the error of the diagonal

        def bound(p: Array) -> Array:
            discs = 2 * diagonal(p).max(axis=-1, initial=0) * margin
            exact = np.minimum(p.max(axis=-1, initial=0), discs)
            rounded = exact.astype(self.dtype)
            up = np.nextafter(rounded, np.array(np.inf, self.dtype))
            result: Array = np.where(rounded.astype(WIDE) < exact, up, rounded)[()]
            return result

        return self._rounded(bound)

    def sqrt(self) -> SoftmaxRoot:
        r"""S with S Sᵀ = J, as an operator.

        .. math:: S = \mathrm{diag}(\sqrt p)\,(I - u u^\top), \qquad u = \sqrt{p / \textstyle\sum_k p_k}

        For z of independent numbers from N(0, 1), ``J.sqrt() @ z`` has the covariance J.

        >>> import numpy as np, softgrad
        >>> S = softgrad.SoftmaxJacobian([0.5, 0.5]).sqrt()
        >>> S.dense() @ S.T.dense()
        array([[ 0.25, -0.25],
               [-0.25,  0.25]])
        >>> S @ S.T
        SoftmaxJacobian(shape=(2, 2), dtype=float64)
        """
        return SoftmaxRoot(self)

    def solve(self, b: npt.ArrayLike) -> Array:
        r"""The shortest of the x for which ‖J x − b‖₂ is smallest: J⁺ b.

        .. math:: x = z - \bar z, \qquad z_i = (b_i - \bar b)/p_i

        where the means are taken over the entries with p_i > 0, and x is 0 at the others.

        b is a vector ``batch + (n,)`` or a matrix ``batch + (n, k)``, as for ``J @ v``; x has its shape.

        J is singular along 1, and where p_i = 0; so of `b` the mean over the entries with p_i > 0, and
        the other entries, have no part in x.  (NaN or inf there make their row NaN all the same.)

        *Error*: ‖x − x*‖₂ ≤ 4·eps·‖x*‖₂ + 4·ε·‖(\|c\| + mean \|c\|)/p‖₂ over the entries with p_i > 0, with
        c = b − b̄ and ε = 2⁻⁵², that of float64 for every dtype: that is what changes of 4·ε in the entries
        of c may do.

        >>> import softgrad
        >>> J = softgrad.SoftmaxJacobian([0.5, 0.25, 0.25, 0.0])
        >>> x = J.solve([1.0, 0.0, -1.0, 0.0])
        >>> x, (J @ x).round(15)
        (array([ 2.66666667,  0.66666667, -3.33333333,  0.        ]), array([ 1.,  0., -1., -0.]))
        """
        return on_wide_vectors(solve, self.y, checks.operand(b, "b", self.y))

    def eigvalsh(self) -> Array:
        """The eigenvalues in ascending order, ``batch + (n,)``.

        One is 0.  The others lie one each between neighbours in the sorted p, at the root of the secular
        equation there.

        *Error*: each is within 1 eps (float64: 4 eps) of itself, however small, and half the smallest
        subnormal.  *Time* O(n²) and *memory* O(n) for each row.

        >>> import softgrad
        >>> softgrad.SoftmaxJacobian([0.5, 0.25, 0.25, 0.0]).eigvalsh()
        array([0.   , 0.   , 0.25 , 0.375])
        """
        return self._rounded(eigenvalues)

    def _rounded(self, function: Callable[[Array], Array]) -> Array:
        """`function` of y in float64, rounded to the dtype of y."""
        with np.errstate(all="ignore"):
            return function(self.y.astype(WIDE)).astype(self.dtype, copy=False)


class SoftmaxRoot(Operator):
    r"""S with S Sᵀ = J, or its transpose; made by `SoftmaxJacobian.sqrt`.

    Notes
    -----
    *Products* as for `SoftmaxJacobian`; ``S @ S.T`` is J.  They are computed in float64 and rounded once:

    .. math:: S v = J\,(v/\sqrt p), \qquad S^\top v = (J v)/\sqrt p,

    where an entry with p_i = 0 gives 0.

    *Error*: Sᵀ v as `softmax_vjp`, and for float64 the smallest subnormal divided by √p_i in each entry.
    S v as `softmax_vjp` for a v each entry of which was changed by at most 2⁻⁵² of itself; where a p is
    nearly 1 nothing cancels.  In float64 an entry of v beyond 1e308·√p_i makes its row NaN.
    """

    def __init__(self, jacobian: SoftmaxJacobian, *, transposed: bool = False) -> None:
        super().__init__(jacobian.y)
        self.jacobian, self.transposed = jacobian, transposed

    @property
    def T(self) -> SoftmaxRoot:
        """The transpose."""
        return SoftmaxRoot(self.jacobian, transposed=not self.transposed)

    def __matmul__(self, v: Any) -> Any:
        """The product with a vector ``batch + (n,)`` or a matrix ``batch + (n, k)``; J with S.T, for S."""
        if isinstance(v, SoftmaxRoot) and v.jacobian is self.jacobian and v.transposed > self.transposed:
            return self.jacobian
        if isinstance(v, Operator):
            return NotImplemented
        v = checks.operand(v, "v", self.y)
        return on_wide_vectors(transposed_root_times if self.transposed else root_times, self.y, v)


# --- on rows along the last axis ----------------------------------------------------------------------
#
# In products p is (…, n), or (…, 1, n) for several vectors, and v is (…, n) or (…, k, n), overwritten with
# the result.


def on_vectors(function: Callable[[Array, Array], Array], y: Array, v: Array, dtype: np.dtype[Any]) -> Array:
    """`function` of a copy of `v` in this dtype, which it overwrites; columns of a matrix become rows."""
    if v.ndim == y.ndim:
        return function(y, np.array(v, dtype, order="C"))
    return function(y[..., None, :], np.array(v.mT, dtype, order="C")).mT


def on_wide_vectors(function: Callable[[Array, Array], Array], y: Array, v: Array) -> Array:
    """The same computed in float64, and rounded to the dtype of y and v."""
    with np.errstate(all="ignore"):
        result = on_vectors(function, y.astype(WIDE, copy=False), v, WIDE)
        return result.astype(checks.promoted({y.dtype, v.dtype}), copy=False)


def times(p: Array, v: Array) -> Array:
    """J v = p ∘ (v − ⟨p,v⟩/⟨p,1⟩); for arrays of any dtype."""
    rows = np.broadcast_to(p, v.shape)
    return arrays.product(SOFTMAX, "vjp", rows, v, axis=-1, where=None, scale=1.0, out=v)


def root_times(p: Array, v: Array) -> Array:
    """√p ∘ (v − √p ⟨√p,v⟩/⟨p,1⟩) = J (v/√p).  To round v/√p is to round v."""
    root = np.sqrt(p)
    return times(p, np.divide(v, root, out=v, where=root != 0))


def transposed_root_times(p: Array, v: Array) -> Array:
    """√p ∘ (v − ⟨p,v⟩/⟨p,1⟩) = (J v)/√p."""
    root = np.sqrt(p)
    return np.divide(times(p, v), root, out=v, where=root != 0)


def solve(p: Array, b: Array) -> Array:
    """(b − mean b)/p less its mean, both means over p ≠ 0: 1 − 1 1ᵀ/⟨1,1⟩ is the J of weights 1."""
    support = p != 0
    weights = support.astype(p.dtype)
    return times(weights, np.divide(times(weights, b), p, out=b, where=support))


def total(p: Array) -> Any:
    """Σp, for p ≥ 0, to the last bit but one.

    p is cut at 2⁻²⁶ of its largest: the upper parts are multiples of one unit, whose sum is exact.
    """
    cut = p.max(axis=-1, keepdims=True, initial=0) * (1.5 * 2.0**26)
    upper = (p + cut) - cut
    return upper.sum(axis=-1) + (p - upper).sum(axis=-1)


def diagonal(p: Array) -> Array:
    """p_i·(Σp − p_i)/Σp.  For the largest, the difference is the sum of the others: nothing cancels."""
    if p.size == 0:
        return p
    top = p.argmax(axis=-1, keepdims=True)
    others = p.copy()
    np.put_along_axis(others, top, 0.0, axis=-1)
    rest = total(others)[..., None]
    whole = rest + np.take_along_axis(p, top, axis=-1)
    np.subtract(whole, p, out=others)
    np.put_along_axis(others, top, rest, axis=-1)
    np.divide(others, whole, out=others, where=whole != 0)
    others *= p
    return others


def eigenvalues(p: Array) -> Array:
    """Those of J, ascending: O(n²) steps for each row, which threads share, and memory O(n)."""
    p = np.multiply(p, LIFT, order="C")
    p.sort(axis=-1)  # NaN comes last
    result = np.zeros_like(p)
    if p.size and p.shape[-1] > 1:
        call.eigenvalues(p, result)
        result[~np.isfinite(p[..., -1])] = np.nan
    result /= LIFT
    return result
