"""SoftmaxJacobian: J = diag(p) − p pᵀ/Σp without the matrix; and softmax_jacobian, the matrix.

The oracles are exact: fractions where the answer is rational, mpmath for the square root, and for an
eigenvalue the sign of the secular function on both sides of it.
"""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.sparse.linalg
from contract import assert_product, peak
from hypothesis import given
from hypothesis import strategies as st

import softgrad
from softgrad import SoftmaxJacobian, threads
from softgrad.cpu import machine
from softgrad.jacobian import total
from softgrad.testing import cases, errors, oracle

DTYPES = cases.DTYPES
FLOAT64 = np.dtype(np.float64)
LENGTHS = (1, 2, 5, 33)


def rows(n, dtype):
    """Weights of all kinds; also with exact ties, zeros, and numbers of every size."""
    some = cases.weights(n, dtype)[::5]
    wide = np.exp2(-np.arange(n) * (900 / n if dtype == FLOAT64 else 20 / n))
    zeros = np.where(np.arange(n) % 3 == 1, 0, 1 / n)
    return np.concatenate([some, [wide, zeros, np.full(n, 1 / n), np.zeros(n)]]).astype(dtype)


def numbers(y, key):
    """Vectors for these rows, of which each element counts."""
    return (cases.numbers(y.size, key).reshape(y.shape) + 3).astype(y.dtype)


def fractions(values):
    return [Fraction(float(v)) for v in values]


def subnormal(dtype):
    return Fraction(float(errors.info(dtype).smallest_subnormal))


def within(found, exact, eps, dtype):
    """Whether each number is right to `eps` of itself and half the smallest subnormal."""
    return all(
        abs(Fraction(float(f)) - e) <= Fraction(eps) * abs(e) + subnormal(dtype) / 2
        for f, e in zip(np.atleast_1d(found), exact, strict=True)
    )


def norm(values):
    """‖values‖₂ of fractions or mpmath's numbers, as the latter; neither overflows."""
    with mpmath.workdps(30):
        numbers = (
            v if isinstance(v, mpmath.mpf) else mpmath.mpf(v.numerator) / v.denominator for v in values
        )
        return mpmath.sqrt(mpmath.fsum(v * v for v in numbers))


def bound(dtype, wide):
    """The bound in eps: `wide` in float64, for the others that of the rounding at the end."""
    return (wide if dtype == FLOAT64 else 1) * errors.eps(dtype)


# --- what is true, as functions of the implementation -----------------------------------------------------


def check_diagonal(diagonal, dtype, n):
    for p in rows(n, dtype):
        exact = fractions(p)
        whole = sum(exact) or 1
        assert within(diagonal(p), [a * (whole - a) / whole for a in exact], bound(dtype, 3), dtype), p


def check_trace(trace, dtype, n):
    for p in rows(n, dtype):
        exact = fractions(p)
        whole = sum(exact) or 1
        assert within(trace(p), [sum(a * (whole - a) for a in exact) / whole], bound(dtype, 4), dtype), p


def check_solve(solve, dtype, n):
    y = rows(n, dtype)
    for p, b in zip(y, numbers(y, "b"), strict=True):
        x = solve(p, b)
        assert x.dtype == dtype
        exact, b = fractions(p), fractions(b)
        there = [i for i in range(n) if exact[i]]
        assert not x[np.setdiff1d(np.arange(n), there)].any()
        if not there:
            continue
        mean = sum(b[i] for i in there) / len(there)
        c = [b[i] - mean for i in there]
        z = [a / exact[i] for a, i in zip(c, there, strict=True)]
        expected = [a - sum(z) / len(z) for a in z]
        largest = float(errors.info(dtype).max)
        if max(map(abs, expected)) > largest:  # out of range, and said to be
            assert not np.isfinite(x).all()
            continue
        spread = sum(map(abs, c)) / len(c)
        moved = norm([(abs(a) + spread) / exact[i] for a, i in zip(c, there, strict=True)])
        allowed = 4 * errors.eps(dtype) * norm(expected) + 4 * errors.eps(FLOAT64) * moved
        error = norm([a - e for a, e in zip(fractions(x[there]), expected, strict=True)])
        assert error <= allowed + n * float(subnormal(dtype)), (p, error / allowed)


def check_root(times, dtype, n, transposed=False):
    """S v, or Sᵀ v, to 800 digits: what is left of the largest may lie hundreds of digits below it."""
    y = rows(n, dtype)
    for p, v in zip(y, numbers(y, "v"), strict=True):
        result = times(p, v)
        assert result.dtype == dtype
        with mpmath.workdps(800):
            p, v, found = ([mpmath.mpf(float(a)) for a in part] for part in (p, v, result))
            whole, root = mpmath.fsum(p) or 1, [mpmath.sqrt(a) for a in p]
            weights = p if transposed else root
            mean = mpmath.fsum(a * b for a, b in zip(weights, v, strict=True)) / whole
            if transposed:  # √p ∘ (v − ⟨p,v⟩/Σp)
                exact = [a * (b - mean) for a, b in zip(root, v, strict=True)]
                moved = [float(subnormal(dtype)) / a if a and dtype == FLOAT64 else 0 for a in root]
            else:  # √p ∘ (v − √p ⟨√p,v⟩/Σp), and what changes of ε in v may do to it
                exact = [a * (b - a * mean) for a, b in zip(root, v, strict=True)]
                other = mpmath.fsum(a * abs(b) for a, b in zip(root, v, strict=True))
                moved = [
                    errors.eps(FLOAT64)
                    * (a * abs(b) * (whole - a * a) + a * a * (other - a * abs(b)))
                    / whole
                    for a, b in zip(root, v, strict=True)
                ]
            allowed = errors.bound(dtype) * errors.eps(dtype) * norm(exact) + norm(moved)
            error = norm([a - e for a, e in zip(found, exact, strict=True)])
            assert error <= allowed + n * float(subnormal(dtype)), (p, error / allowed)


def secular(p, x):
    """Σ p/(p − x), whose roots the eigenvalues are."""
    return sum(a / (a - x) for a in p)


def check_eigenvalues(eigvalsh, dtype, n):
    for p in rows(n, dtype):
        found = eigvalsh(p)
        assert found.dtype == dtype
        assert found.shape == p.shape
        assert_eigenvalues(p, found)


def assert_eigenvalues(p, found):
    """Each is within its bound of a root: there the secular function, which rises, changes its sign."""
    dtype = p.dtype
    assert (np.diff(found.astype(np.float64)) >= 0).all()
    p, found = sorted(fractions(p)), fractions(found)
    assert found[0] == 0
    slack, least = Fraction(bound(dtype, 4)), subnormal(dtype) / 2
    for low, high, x in zip(p[:-1], p[1:], found[1:], strict=True):
        if low in (0, high):
            assert x == low
            continue
        below, above = x - x * slack - least, x + x * slack + least
        assert below < high
        assert above > low
        assert below <= low or secular(p, below) <= 0
        assert above >= high or secular(p, above) >= 0


def operator(method):
    """The method as a function of p and its arguments."""
    return lambda p, *arguments: getattr(SoftmaxJacobian(p), method)(*arguments)


CHECKS = {
    "diagonal": (check_diagonal, operator("diagonal")),
    "trace": (check_trace, operator("trace")),
    "solve": (check_solve, operator("solve")),
    "root": (check_root, lambda p, v: SoftmaxJacobian(p).sqrt() @ v),
    "root, transposed": (
        lambda times, dtype, n: check_root(times, dtype, n, transposed=True),
        lambda p, v: SoftmaxJacobian(p).sqrt().T @ v,
    ),
    "eigenvalues": (check_eigenvalues, operator("eigvalsh")),
}


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHECKS)
def test_each_is_right(name, dtype, n):
    check, function = CHECKS[name]
    check(function, dtype, n)


def dense(p):
    p = p.astype(np.float64)
    return np.diag(p) - np.outer(p, p) / (p.sum() or 1)


def of_root(p):
    u = np.sqrt(p.astype(np.float64))
    return np.diag(u) - np.outer(p, u) / (p.sum() or 1)


# What one would write; and mistakes that are not of rounding.
WRONG = {
    "diagonal": {
        "p(1 − p)": lambda p: p * (1 - p),
        "p": lambda p: p,
        "of the dense one": lambda p: np.diagonal(dense(p)).astype(p.dtype),
    },
    "trace": {
        "of the dense one": lambda p: np.trace(dense(p)).astype(p.dtype),
        "1 − Σp²": lambda p: 1 - (p * p).sum(),
    },
    "solve": {
        "pinv": lambda p, b: (np.linalg.pinv(dense(p)) @ b.astype(np.float64)).astype(p.dtype),
        "not the shortest": lambda p, b: ((b - b.mean()) / np.where(p > 0, p, np.inf)).astype(p.dtype),
        "not centred": lambda p, b: softgrad.softmax_vjp(
            (p > 0).astype(p.dtype), b / np.where(p > 0, p, np.inf)
        ).astype(p.dtype),
    },
    "root": {
        "dense": lambda p, v: (of_root(p) @ v.astype(np.float64)).astype(p.dtype),
        "transposed": lambda p, v: SoftmaxJacobian(p).sqrt().T @ v,
        "only the diagonal": lambda p, v: (np.sqrt(p) * v).astype(p.dtype),
    },
    "root, transposed": {
        "dense": lambda p, v: (of_root(p).T @ v.astype(np.float64)).astype(p.dtype),
        "not transposed": lambda p, v: SoftmaxJacobian(p).sqrt() @ v,
    },
    "eigenvalues": {
        "LAPACK": lambda p: np.linalg.eigvalsh(dense(p)).astype(p.dtype),
        "the diagonal": lambda p: np.sort(SoftmaxJacobian(p).diagonal()),
        "p": lambda p: np.sort(p),
    },
}


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name in WRONG for wrong in WRONG[name]])
def test_a_wrong_one_is_rejected(name, wrong):
    """With the other dtypes what is rounded in float64 alone may pass."""
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        CHECKS[name][0](WRONG[name][wrong], FLOAT64, 33)


# --- the dense matrix, the article's baseline ---------------------------------------------------------------


def exact_jacobian(y):
    """J_ij = y_i (δ_ij − y_j/Σy), in whole numbers: the vjp of each unit vector."""
    n = y.shape[-1]
    rows = np.broadcast_to(y[..., None, :], (*y.shape, n))
    return oracle.vjp(rows, np.broadcast_to(np.eye(n, dtype=y.dtype), rows.shape))


@pytest.mark.parametrize("n", [1, 2, 5, 33])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_row_of_the_dense_one_is_right(dtype, n):
    y = cases.weights(n, dtype)[::7]
    jacobian = softgrad.softmax_jacobian(y)
    assert jacobian.dtype == dtype
    assert jacobian.shape == (len(y), n, n)
    rows = np.broadcast_to(y[:, None], jacobian.shape)
    assert errors.product_miss(jacobian, rows, exact_jacobian(y)).max() <= 1


def test_it_is_the_derivative_of_softmax():
    """By a complex step in each logit."""
    x = cases.numbers(5, "x")
    step = np.exp(x + 1e-100j * np.eye(5))
    derivative = (step / step.sum(axis=-1, keepdims=True)).imag * 1e100  # row j: ∂y/∂x_j
    np.testing.assert_allclose(softgrad.softmax_jacobian(softgrad.softmax(x)), derivative.T, rtol=1e-14)


def test_an_empty_row_has_a_jacobian_of_0():
    np.testing.assert_array_equal(softgrad.softmax_jacobian([[0.0, 0.0]]), np.zeros((1, 2, 2)))


def test_y_is_not_written_and_not_needed_afterwards():
    y = np.array([0.25, 0.75])
    y.flags.writeable = False
    jacobian = softgrad.softmax_jacobian(y)
    assert jacobian.flags.writeable
    assert not np.shares_memory(jacobian, y)


# --- products ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 17, 300])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_product_is_the_vjp(dtype, n):
    y, v = cases.weights(n, dtype), cases.gradients(n, dtype)
    expected = softgrad.softmax_vjp(y, v)
    np.testing.assert_array_equal(SoftmaxJacobian(y) @ v, expected)
    np.testing.assert_array_equal(SoftmaxJacobian(y).T @ v, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("k", [0, 1, 3, 70])
@pytest.mark.parametrize("n", [1, 2, 17, 300])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_columns_of_a_matrix_are_vectors(dtype, n, k, order):
    y = cases.weights(n, dtype)[:5]
    v = np.resize(cases.gradients(n, dtype), (len(y), k, n)).mT.copy(order)
    result = SoftmaxJacobian(y) @ v
    assert result.shape == v.shape
    assert result.dtype == dtype
    assert_product(result, np.broadcast_to(y[..., None], v.shape), v, axis=-2)


def assert_close(found, expected):
    """The same array, as far as NumPy's dense matrices tell; its entries are of moderate size."""
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= 100 * errors.eps(FLOAT64) * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("axis", "batch", "n"),
    [(-1, (2, 3), 4), (0, (3, 4), 2), (1, (2, 4), 3), (-2, (2, 4), 3), ((0, 2), (3,), 8), (None, (), 24)],
)
def test_axes(axis, batch, n):
    y = softgrad.softmax(cases.numbers(24, "y").reshape(2, 3, 4), axis=axis)
    jacobian = SoftmaxJacobian(y, axis=axis)
    expected = softgrad.softmax_jacobian(y, axis=axis)
    assert jacobian.shape == expected.shape == (*batch, n, n)
    np.testing.assert_array_equal(jacobian.dense(), expected)
    rows = np.broadcast_to(jacobian.y[..., None, :], expected.shape)
    assert errors.product_miss(expected, rows, exact_jacobian(jacobian.y)).max() <= 1
    axes = range(3) if axis is None else np.atleast_1d(axis) % 3  # several count as one, in this order
    np.testing.assert_array_equal(jacobian.y, np.moveaxis(y, axes, range(-len(axes), 0)).reshape(*batch, n))
    vector, matrix = cases.numbers(jacobian.y.size, "v").reshape(*batch, n), expected[..., :2]
    assert_close(jacobian @ vector, np.matvec(expected, vector))
    assert_close(jacobian @ matrix, expected @ matrix)
    root = jacobian.sqrt()
    assert root.shape == root.T.shape == expected.shape
    assert_close(root.dense() @ root.T.dense(), expected)
    assert_close(root.T.dense(), root.dense().mT)
    assert_close(root @ matrix, root.dense() @ matrix)
    assert_close(root.T @ vector, np.vecmat(vector, root.dense()))
    assert_close(jacobian.solve(matrix), np.linalg.pinv(expected) @ matrix)
    assert_close(jacobian.eigvalsh(), np.linalg.eigvalsh(expected))
    assert_close(jacobian.diagonal(), np.diagonal(expected, axis1=-2, axis2=-1))
    assert_close(jacobian.trace(), np.trace(expected, axis1=-2, axis2=-1))
    assert jacobian.max_eigenvalue_bound().shape == batch


@pytest.mark.parametrize("other", [*DTYPES, np.dtype(np.int8)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_are_promoted_as_by_the_vjp(dtype, other):
    y, v = np.array([0.25, 0.25, 0.5], dtype), np.array([1, 2, 4], other)
    expected = softgrad.softmax_vjp(y, v)
    jacobian = SoftmaxJacobian(y)
    assert jacobian.dtype == dtype
    for result in (jacobian @ v, (jacobian @ v[:, None])[:, 0]):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    assert jacobian.solve(v).dtype == (jacobian.sqrt() @ v[:, None]).dtype == expected.dtype


def test_the_root_times_its_transpose_is_the_jacobian():
    jacobian = SoftmaxJacobian([0.25, 0.75])
    root = jacobian.sqrt()
    assert root @ root.T is jacobian
    assert root.T.T @ jacobian.sqrt().T is jacobian
    for left, right in ((root.T, root), (root, root), (jacobian, root), (jacobian, jacobian)):
        with pytest.raises(TypeError, match="unsupported operand"):
            left @ right
    with pytest.raises(TypeError, match="unsupported operand"):
        root @ SoftmaxJacobian([0.25, 0.75]).sqrt().T


def test_numpys_functions_take_the_matrix():
    jacobian = SoftmaxJacobian(softgrad.softmax(cases.numbers(12, "p").reshape(3, 4)))
    root, dense = jacobian.sqrt(), softgrad.softmax_jacobian(jacobian.y)
    assert np.allclose(root @ root.T, jacobian)
    assert np.allclose(root.dense() @ np.asarray(root.T), jacobian)
    np.testing.assert_array_equal(jacobian, dense)
    assert np.array(root, np.float32).dtype == np.float32
    assert np.linalg.norm(jacobian) == np.linalg.norm(dense)
    with pytest.raises(ValueError, match="copy=False"):
        np.asarray(jacobian, copy=False)
    with pytest.raises(TypeError, match="unsupported operand"):
        dense @ jacobian  # as the product of an operator it is not known what is meant


def test_samples_through_the_root_have_the_covariance():
    p = softgrad.softmax(cases.numbers(4, "p"))
    z = cases.numbers(4 * 40000, "z").reshape(40000, 4)
    batch = SoftmaxJacobian(np.broadcast_to(p, z.shape)).sqrt() @ z
    error = np.cov(batch.T) - softgrad.softmax_jacobian(p)
    assert np.linalg.norm(error) <= 5 / np.sqrt(len(z)) * SoftmaxJacobian(p).trace()


# --- eigenvalues, and SciPy -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_eigenvalue_is_above_the_bound(dtype):
    for n in LENGTHS:
        for p in rows(n, dtype):
            jacobian = SoftmaxJacobian(p)
            limit, largest = float(jacobian.max_eigenvalue_bound()), float(jacobian.eigvalsh()[-1])
            assert jacobian.max_eigenvalue_bound().dtype == dtype
            first, second = sorted([0, *filter(None, fractions(p))])[:-3:-1] if p.any() else (0, 0)
            if limit < first and second:  # the largest lies between them
                assert limit > second
                assert secular(fractions(p), Fraction(limit)) >= 0
            assert limit <= 2 * largest * (1 + 4 * errors.eps(dtype)) + float(subnormal(dtype))


@given(
    st.lists(
        st.one_of(
            st.floats(0, 1),
            st.floats(0.24, 0.26),
            st.sampled_from([0.0, 0.25, np.nextafter(0.25, 1), 1e-300, 5e-324, 1.0]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_eigenvalues_of_any_numbers(p):
    p = np.array(p)
    assert_eigenvalues(p, SoftmaxJacobian(p).eigvalsh())


def test_long_sums_of_equal_numbers():
    """Which lose the same bits again and again."""
    p = np.repeat([0.1, 0.3, 0.7], [70000, 60001, 5]) / 25003.6
    found = SoftmaxJacobian(p).eigvalsh()
    kinds, counts = np.unique(p, return_counts=True)
    kinds, counts = fractions(kinds), [int(c) for c in counts]
    np.testing.assert_array_equal(
        np.delete(found, [0, *np.cumsum(counts)[:-1]]), np.repeat(np.unique(p), np.array(counts) - 1)
    )
    for low, high, at in zip(kinds[:-1], kinds[1:], np.cumsum(counts)[:-1], strict=True):
        slack = Fraction(bound(FLOAT64, 4))
        ends = [max(low, Fraction(found[at]) * (1 - slack)), min(high, Fraction(found[at]) * (1 + slack))]
        below, above = (sum(c * a / (a - x) for a, c in zip(kinds, counts, strict=True)) for x in ends)
        assert below <= 0 <= above


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_sum_of_equal_numbers(order):
    """NumPy's is 2.4 eps off, and more where it adds up columns one after the other."""
    p = np.full((2, 1000), 1.8631789223498867, order=order)
    exact = 1000 * Fraction(p[0, 0])
    for found in total(p):
        assert abs(Fraction(found) - exact) <= Fraction(0.51 * errors.eps(FLOAT64)) * exact


@pytest.mark.parametrize("number", [1, 2])
def test_eigenvalues_of_a_long_row(number_of_threads, number):
    """More than one thread, and several vectors; LAPACK is right to the largest eigenvalue."""
    number_of_threads(number)
    for spread in (1, 10):
        y = softgrad.softmax(spread * cases.numbers(700, "long"))
        found = SoftmaxJacobian(y).eigvalsh()
        assert found[0] == 0
        expected = np.linalg.eigvalsh(softgrad.softmax_jacobian(y))
        assert np.abs(found - expected).max() <= 50 * errors.eps(FLOAT64) * expected[-1]
        assert abs(found.sum() / SoftmaxJacobian(y).trace() - 1) <= 10 * errors.eps(FLOAT64)


def test_eigenvalues_without_a_compiler(monkeypatch):
    y = softgrad.softmax(3 * cases.numbers(60, "p").reshape(3, 20))
    y[1, 3] = np.nan
    found = SoftmaxJacobian(y).eigvalsh()
    monkeypatch.setattr(machine, "lacks", lambda dtype: "everything")
    steps = softgrad.explain(lambda: SoftmaxJacobian(y).eigvalsh())
    assert {step.by for step in steps} == {"formulas"}
    np.testing.assert_allclose(SoftmaxJacobian(y).eigvalsh(), found, rtol=0, atol=1e-15)


def test_scipy_takes_it():
    y = softgrad.softmax(2 * cases.numbers(200, "scipy"))
    jacobian, dense = SoftmaxJacobian(y), softgrad.softmax_jacobian(y)
    linear = scipy.sparse.linalg.aslinearoperator(jacobian)
    assert linear.shape == (200, 200)
    assert linear.dtype == FLOAT64
    v = cases.numbers(200, "v")
    for result in (linear @ v, linear.rmatvec(v), linear.matmat(v[:, None])[:, 0]):
        assert_close(result, dense @ v)
    largest = scipy.sparse.linalg.eigsh(jacobian, k=3, return_eigenvectors=False, v0=v)
    np.testing.assert_allclose(np.sort(largest), jacobian.eigvalsh()[-3:], rtol=1e-10)
    b = jacobian @ v  # in the range of J, so that the solvers can solve it
    x = jacobian.solve(b)
    np.testing.assert_allclose(x, v - v.mean(), rtol=1e-9)
    for solver in (scipy.sparse.linalg.minres, scipy.sparse.linalg.cg):
        found, failed = solver(jacobian, b, rtol=1e-12, maxiter=5000)
        assert failed == 0
        assert np.linalg.norm(found - found.mean() - x) <= 1e-6 * np.linalg.norm(x)
    root = scipy.sparse.linalg.aslinearoperator(jacobian.sqrt())
    assert_close(root @ v, jacobian.sqrt().dense() @ v)
    assert_close(root.T @ v, v @ jacobian.sqrt().dense())


# --- edges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0,)])
def test_nothing_in_nothing_out(shape):
    jacobian = SoftmaxJacobian(np.empty(shape, np.float32))
    for operator in (jacobian, jacobian.sqrt(), jacobian.sqrt().T):
        assert operator.dense().shape == operator.shape == (*shape, shape[-1])
        assert (operator @ np.empty(shape, np.float32)).shape == shape
        assert (operator @ np.empty((*shape, 2), np.float32)).shape == (*shape, 2)
    assert jacobian.diagonal().shape == jacobian.eigvalsh().shape == shape
    assert jacobian.solve(np.empty((*shape, 2))).shape == (*shape, 2)
    np.testing.assert_array_equal(jacobian.trace(), np.zeros(shape[:-1]))
    np.testing.assert_array_equal(jacobian.max_eigenvalue_bound(), np.zeros(shape[:-1]))


def test_one_number():
    jacobian = SoftmaxJacobian(np.float32(1))
    assert jacobian.shape == (1, 1)
    for result in (jacobian @ [3.0], jacobian.diagonal(), jacobian.eigvalsh(), jacobian.solve([3.0])):
        np.testing.assert_array_equal(result, [0])
    assert jacobian.trace() == jacobian.max_eigenvalue_bound() == 0


def test_a_row_of_nan_stays_nan_and_no_other_row():
    y = np.array([[0.5, 0.25, 0.25], [0.25, np.nan, 0.25], [0.5, 0.5, 0.0]])
    jacobian, others = SoftmaxJacobian(y), SoftmaxJacobian(y[::2])
    v = np.arange(9.0).reshape(3, 3)
    results = {
        "product": (jacobian @ v, others @ v[::2]),
        "root": (jacobian.sqrt() @ v, others.sqrt() @ v[::2]),
        "its transpose": (jacobian.sqrt().T @ v, others.sqrt().T @ v[::2]),
        "solve": (jacobian.solve(v), others.solve(v[::2])),
        "eigvalsh": (jacobian.eigvalsh(), others.eigvalsh()),
        "diagonal": (jacobian.diagonal(), others.diagonal()),
        "trace": (jacobian.trace(), others.trace()),
        "bound": (jacobian.max_eigenvalue_bound(), others.max_eigenvalue_bound()),
    }
    for name, (result, expected) in results.items():
        assert np.isnan(result[1]).all(), name
        np.testing.assert_array_equal(result[::2], expected, name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_is_said_of_infinity(dtype):
    """No softmax puts it out; warnings are errors here."""
    jacobian = SoftmaxJacobian(np.array([[0.5, 0.5], [np.inf, 0.5]], dtype))
    jacobian.diagonal(), jacobian.trace(), jacobian.max_eigenvalue_bound()
    v = np.ones((2, 2), dtype)
    jacobian @ v, jacobian.sqrt() @ v, jacobian.sqrt().T @ v, jacobian.solve(v)
    assert np.isnan(jacobian.eigvalsh()[1]).all()


def test_nan_in_a_vector_stays_in_its_row():
    y = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    v = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0], [1.0, np.inf, 0.0]])
    jacobian = SoftmaxJacobian(y)
    for result in (jacobian @ v, jacobian.sqrt() @ v, jacobian.sqrt().T @ v, jacobian.solve(v)):
        assert np.isnan(result[::2]).all()
        assert np.isfinite(result[1]).all()


def test_inputs_are_not_written():
    for shape in ((4, 6), (4, 6, 5), (4, 6, 1)):
        y = cases.read_only(softgrad.softmax(cases.numbers(24, "y").reshape(4, 6)))
        v = cases.read_only(cases.numbers(int(np.prod(shape)), "v").reshape(shape))
        kept = v.copy()
        jacobian = SoftmaxJacobian(y)
        assert np.shares_memory(jacobian.y, y)
        for result in (jacobian @ v, jacobian.sqrt() @ v, jacobian.sqrt().T @ v, jacobian.solve(v)):
            assert result.flags.writeable
            assert not np.shares_memory(result, v)
        jacobian.eigvalsh(), jacobian.diagonal()
        np.testing.assert_array_equal(v, kept)


def test_what_it_does_not_take():
    with pytest.raises(ValueError, match="y has -1.0 in it.*give y = softmax"):
        SoftmaxJacobian([2.0, -1.0])
    with pytest.raises(TypeError, match="y has dtype bool"):
        SoftmaxJacobian(np.array([True, False]))
    with pytest.raises(TypeError, match="y has dtype bool"):
        softgrad.softmax_jacobian(np.array([True, False]))
    for function in (SoftmaxJacobian, softgrad.softmax_jacobian):
        with pytest.raises(np.exceptions.AxisError):
            function(np.ones((2, 3)), axis=2)
    jacobian = SoftmaxJacobian(np.full((4, 3), 1 / 3))
    for operator in (jacobian, jacobian.sqrt()):
        for shape in ((), (3,), (3, 4), (3, 3), (4, 4), (1, 3), (4, 2, 3), (2, 4, 3, 2)):
            with pytest.raises(
                ValueError, match=r"v has shape .* a vector for each, \(4, 3\), or of a matrix"
            ):
                operator @ np.ones(shape)
        with pytest.raises(TypeError, match="v has dtype complex128"):
            operator @ np.ones((4, 3), complex)
        with pytest.raises(TypeError, match="unsupported operand"):
            np.ones((4, 3)) @ operator
    with pytest.raises(ValueError, match=r"b has shape \(3,\)"):
        jacobian.solve(np.ones(3))
    with pytest.raises(ValueError, match=r"matrix for each, \(3, k\)"):
        SoftmaxJacobian([0.5, 0.25, 0.25]) @ np.ones((2, 3))


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), FLOAT64], ids=str)
def test_memory(dtype):
    """A product takes its result and what `softmax_vjp` does, the others some rows, none a matrix."""
    y = softgrad.softmax(cases.numbers(2**18, "y")).astype(dtype)
    jacobian, v, matrix = SoftmaxJacobian(y), y.copy(), np.ones((len(y), 3), dtype)
    assert peak(lambda: jacobian @ v)[0] <= v.nbytes + 2**16
    # where the result takes the place of v, a thread has a row of scratch memory, or 1 MB
    with threads.at_most(1):
        assert peak(lambda: jacobian @ matrix)[0] <= matrix.nbytes + max(2**20, y.nbytes) + 2**16
    row = 8 * len(y)
    scratch = max(2**20, 3 * row)
    for function, rows in (
        (jacobian.diagonal, 5),
        (jacobian.trace, 5),
        (jacobian.max_eigenvalue_bound, 5),
        (lambda: SoftmaxJacobian(y[:4096]).eigvalsh(), 4),
    ):
        assert peak(function)[0] <= rows * row + 2**16
    for product in (lambda: jacobian.solve(v), lambda: jacobian.sqrt() @ v, lambda: jacobian.sqrt().T @ v):
        assert peak(product)[0] <= 4 * row + scratch + 2**16


def test_it_says_what_it_is():
    jacobian = SoftmaxJacobian(np.full((2, 4), 0.25, np.float32))
    assert repr(jacobian) == "SoftmaxJacobian(shape=(2, 4, 4), dtype=float32)"
    assert repr(jacobian.sqrt()) == "SoftmaxRoot(shape=(2, 4, 4), dtype=float32)"
