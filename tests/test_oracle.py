"""The oracle against mpmath, and against definitions that it does not use."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from softgrad.testing import cases, measures, oracle

HARD = [
    # y, dy: what is left lies hundreds of bits below the terms
    ([1.0, 1e-300], [1.0, 2.0]),
    ([1.0, 5e-324, 1e-200], [1e300, 1e-300, 3.0]),
    ([0.9999999999999999, 1.1e-16], [1e4, 1e4 + 1e-9]),
    ([1 / 3, 1 / 3, 1 / 3], [0.1, 0.1, np.nextafter(0.1, 1)]),
    ([0.5, 0.5], [-1.7e308, 1.7e308]),
    ([0.0, 1.0, 0.0], [1.0, 2.0, 3.0]),
]


def exact(value):
    """A float or longdouble as mpmath's number of the same value."""
    mantissa, exponent = np.frexp(np.longdouble(value))
    upper = np.floor(np.ldexp(mantissa, 32))
    lower = np.ldexp(np.ldexp(mantissa, 32) - upper, 64)
    return mpmath.ldexp(mpmath.mpf(int(upper)), int(exponent) - 32) + mpmath.ldexp(
        mpmath.mpf(int(lower)), int(exponent) - 96
    )


def close(found, expected, bits):
    found = exact(found)
    return found == expected or abs(found - expected) <= mpmath.ldexp(abs(expected), -bits)


def by_mpmath(y, dy):
    y, dy = [exact(v) for v in y], [exact(v) for v in dy]
    mean = mpmath.fdot(y, dy) / mpmath.fsum(y)
    return [a * (b - mean) for a, b in zip(y, dy, strict=True)]


@pytest.mark.parametrize(("y", "dy"), HARD)
def test_vjp_of_hard_rows(y, dy):
    with mpmath.workprec(8000):
        for found, expected in zip(oracle.vjp(y, dy), by_mpmath(y, dy), strict=True):
            assert close(found, expected, 62)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_vjp_of_the_cases(dtype):
    with mpmath.workprec(8000):
        y, dy, dx = (f(37, dtype) for f in (cases.weights, cases.gradients, cases.exact_vjp))
        for rows in zip(y, dy, dx, strict=True):
            for found, expected in zip(rows[2], by_mpmath(*rows[:2]), strict=True):
                assert close(found, expected, 62)


def test_vjp_takes_what_is_masked_as_not_there():
    y, dy = np.array([0.25, np.nan, 0.75]), np.array([1.0, np.inf, -2.0])
    where = np.array([True, False, True])
    found = oracle.vjp(y, dy, where=where, scale=2)
    np.testing.assert_array_equal(found[[0, 2]], 2 * oracle.vjp(y[where], dy[where]))
    assert found[1] == 0


def test_rows_along_any_axes():
    y, dy = cases.numbers(24, "y").reshape(2, 3, 4) ** 2, cases.numbers(24, "dy").reshape(2, 3, 4)
    found = oracle.vjp(y, dy, axis=(0, -1))
    for j in range(3):
        expected = oracle.vjp(y[:, j].ravel(), dy[:, j].ravel())
        np.testing.assert_array_equal(found[:, j].ravel(), expected)
    np.testing.assert_array_equal(oracle.vjp(y, dy, axis=None).ravel(), oracle.vjp(y.ravel(), dy.ravel()))


@pytest.mark.parametrize("scale", [1.0, 1 / np.sqrt(96), -7.3, 1e6, 1e-3])
@pytest.mark.parametrize("pair", range(0, 36, 7))
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_softmax_of_hard_rows(dtype, pair, scale):
    x = cases.logits(64, dtype)[pair]
    with mpmath.workdps(60):
        powers = [exact(scale) * exact(v) for v in x]
        powers = [mpmath.exp(p - max(powers)) for p in powers]
        total = mpmath.fsum(powers)
        for found, power in zip(oracle.softmax(x, scale=scale), powers, strict=True):
            # longdouble holds no number below 2^-16400
            assert close(found, power / total, 60) or power / total < mpmath.ldexp(1, -16300)


def dense_double_backward(y, dy, v):
    """∂⟨v, J(w) dy⟩/∂x from the dense J(w) = diag(w) − w wᵀ and ∂w/∂x = J(w), in fractions.

    w is y with the sum 1; J(w) dy is multiplied by Σy, a constant.
    """
    y, dy, v = ([Fraction(float(a)) for a in values] for values in (y, dy, v))
    n, total = len(y), sum(y)
    w = [a / total for a in y]
    jacobian = [[w[i] * ((i == j) - w[j]) for j in range(n)] for i in range(n)]
    grad_dy = [total * sum(jacobian[i][j] * v[i] for i in range(n)) for j in range(n)]
    grad_x = []
    for k in range(n):
        moved = [jacobian[i][k] for i in range(n)]  # ∂w/∂x_k
        grad_x.append(
            total
            * sum(
                v[i] * dy[j] * ((i == j) * moved[i] - moved[i] * w[j] - w[i] * moved[j])
                for i in range(n)
                for j in range(n)
            )
        )
    return grad_x, grad_dy


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_double_backward_is_the_derivative_of_the_dense_jacobian(dtype):
    n = 5
    y, dy = cases.weights(n, dtype), cases.gradients(n, dtype)
    v = cases.numbers(y.size, "v").reshape(y.shape).astype(dtype)
    found = oracle.double_backward(y, dy, v)
    for row in range(len(y)):
        expected = dense_double_backward(y[row], dy[row], v[row])
        for place, values in zip(found, expected, strict=True):
            for a, b in zip(place[row], values, strict=True):
                with mpmath.workprec(8000):
                    assert close(a, mpmath.mpf(b.numerator) / b.denominator, 61)


def test_ulps_are_those_of_the_dtype_at_the_exact_value():
    exact_values = np.array([1.0, 1.5, 0.75, 2.0**-126], oracle.WIDE)
    off = np.nextafter(exact_values.astype(np.float32), np.float32(4))
    np.testing.assert_array_equal(measures.ulps(off, exact_values), 1)
    assert measures.ulps(np.float16([np.nan]), np.ones(1, oracle.WIDE)) == np.inf
    # 1 + 2⁻⁷ is bfloat16's next number after 1
    near = np.array([1.0078125], cases.DTYPES[1])
    np.testing.assert_array_equal(measures.ulps(near, np.ones(1, oracle.WIDE)), 1)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_row_error_counts_in_eps_of_the_norm(dtype):
    exact_row = np.array([[3.0, 4.0]], oracle.WIDE)
    off = exact_row.astype(dtype)
    off[0, 1] += dtype.type(4 * measures.eps(dtype))
    assert measures.row_error(off, exact_row) == pytest.approx(4 / 5, rel=1e-3)
    assert measures.row_error(np.full_like(off, np.nan), exact_row) == np.inf
    assert measures.row_error(off * dtype.type(0), exact_row) > 1 / measures.eps(dtype) / 2
    assert measures.row_error(off, 0 * exact_row) == np.inf


@pytest.mark.parametrize("power", [-1000, 1000])
def test_row_error_neither_over_nor_underflows(power):
    exact_row = np.ldexp(np.array([3.0, 4.0], oracle.WIDE), power)
    off = exact_row.astype(np.float64)
    off[1] *= 1 + 2.0**-50
    assert measures.row_error(off, exact_row) == pytest.approx(4 * 4 / 5)


def test_row_error_allows_half_the_smallest_subnormal():
    smallest = np.finfo(np.float32).smallest_subnormal
    exact_row = np.array([0.5, 0.25, 1.0], oracle.WIDE) * oracle.WIDE(smallest)
    assert measures.row_error(np.array([0, 0, smallest], np.float32), exact_row) == 0
    assert measures.row_error(np.array([0, smallest, smallest], np.float32), exact_row) > 1
