"""The oracle against mpmath, and against definitions that it does not use."""

from fractions import Fraction

import entmax_oracle
import mpmath
import numpy as np
import pytest

from softgrad.testing import cases, errors, oracle

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
    """A float, longdouble or fraction as mpmath's number of the same value, to its precision."""
    if not isinstance(value, Fraction):
        value = np.longdouble(value)
    above, below = value.as_integer_ratio()
    return mpmath.mpf(above) / below


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


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_vjp_is_the_product_with_the_dense_jacobian(dtype):
    """The article's first way in longdouble: J = diag(y) − y yᵀ, which is then multiplied with dy."""
    for n in (1, 2, 5, 33):
        y, u, _ = (a.astype(oracle.WIDE) for a in cases.moderate(n, dtype))
        # y is rounded, so its sum is not quite 1
        jacobian = y[:, :, None] * (np.eye(n) - (y / y.sum(axis=-1, keepdims=True))[:, None, :])
        expected = (jacobian * u[:, None, :]).sum(axis=-1)
        gap = errors.norm(oracle.vjp(*cases.moderate(n, dtype)[:2]) - expected)
        assert (gap <= 2.0**-58 * errors.norm(y * u)).all()


def whole(values):
    """Numbers as multiples of 1/unit, and that unit."""
    ratios = [float(value).as_integer_ratio() for value in values]
    unit = max(below for _, below in ratios)
    return np.array([above * (unit // below) for above, below in ratios], object), unit


def ratios(numbers, divisor):
    """Whole numbers by another in longdouble, to 2⁻¹⁰⁰ of the largest."""
    shift = 200 + int(divisor).bit_length() - int(max(map(abs, numbers))).bit_length()
    upper = [(int(a) << max(shift, 0)) // (int(divisor) << max(-shift, 0)) for a in numbers]
    return np.ldexp(np.array([oracle.WIDE(a) for a in upper]), -shift)


def in_whole_numbers(y, dy, v):
    """The vjp and grad_x in whole numbers, which nothing rounds."""
    (s, s_unit), (d, d_unit), (u, u_unit) = whole(y), whole(dy), whole(v)
    total = s.sum()
    far = d * total - (s * d).sum()
    p = (u * total - (s * u).sum()) * far
    units = s_unit * d_unit
    grad_x = ratios(s * (p * total - (s * p).sum()), total**3 * units * u_unit)
    return ratios(s * far, total * units), grad_x


LONG = [(n, scale) for n in (2, 33, 1000, 4097) for scale in (0.0, 1.0, 10.0, 25.0, 100.0)]


@pytest.mark.parametrize(("n", "scale"), LONG)
@pytest.mark.parametrize("gradient", cases.GRADIENTS)
def test_pairs_of_longdoubles_are_as_good_as_whole_numbers(gradient, n, scale):
    """Each row is right but for its last rounding."""
    y = oracle.softmax(scale * cases.numbers(n, "x", scale)).astype(np.float64)
    dy, v = (cases.GRADIENTS[gradient](cases.numbers(n, key)) for key in ("dy", "v"))
    found = oracle.vjp(y, dy), oracle.double_backward(y, dy, v)[0]
    for one, exact_row in zip(found, in_whole_numbers(y, dy, v), strict=True):
        assert errors.norm(one - exact_row) <= 2.0**-61 * errors.norm(exact_row)


def test_a_row_of_zeros():
    zeros, dy = np.zeros(9), np.ones(9)
    np.testing.assert_array_equal(oracle.vjp(zeros, dy), zeros)
    np.testing.assert_array_equal(oracle.double_backward(zeros, dy, dy), [zeros, zeros])


@pytest.mark.parametrize("alpha", [2, 1.5])
def test_sparsemax_and_entmax_are_what_mpmath_says(alpha):
    """Bisection in 40 digits, beside whole numbers."""
    rows = [
        cases.numbers(20, "x"),
        cases.numbers(20, "x") / 100,
        cases.numbers(20, "x") * 1000 + 1e6,
        np.round(cases.numbers(20, "x")),
        np.zeros(20),
        np.array([0.0, -1.0, -1 + 2.0**-40, -2.0, -2 + 2.0**-30, -1.5]),
    ]
    for x in rows:
        found = oracle.entmax_of_row(x, alpha)
        expected = entmax_oracle.entmax_of_row(x, 1.0, alpha)
        np.testing.assert_array_equal(found > 0, expected > 0)
        assert (np.abs(found - expected) <= 2.0**-61 * expected).all()
        assert abs(found.sum() - 1) <= 2.0**-60


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
    y, dy, v = (np.array([Fraction(float(a)) for a in values], object) for values in (y, dy, v))

    def jacobian(w, moved=None):
        """J(w), or its derivative where w moves so."""
        if moved is None:
            return np.diag(w) - np.outer(w, w)
        return np.diag(moved) - np.outer(moved, w) - np.outer(w, moved)

    w = y / y.sum()
    grad_x = [v @ jacobian(w, moved) @ dy for moved in jacobian(w)]
    return y.sum() * np.array(grad_x), y.sum() * (v @ jacobian(w))


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
                    assert close(a, exact(b), 61)


def test_ulps_are_those_of_the_dtype_at_the_exact_value():
    exact_values = np.array([1.0, 1.5, 0.75, 2.0**-126], oracle.WIDE)
    off = np.nextafter(exact_values.astype(np.float32), np.float32(4))
    np.testing.assert_array_equal(errors.ulps(off, exact_values), 1)
    assert errors.ulps(np.float16([np.nan]), np.ones(1, oracle.WIDE)) == np.inf
    # 1 + 2⁻⁷ is bfloat16's next number after 1
    near = np.array([1.0078125], cases.DTYPES[1])
    np.testing.assert_array_equal(errors.ulps(near, np.ones(1, oracle.WIDE)), 1)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_row_error_counts_in_eps_of_the_norm(dtype):
    exact_row = np.array([[3.0, 4.0]], oracle.WIDE)
    off = exact_row.astype(dtype)
    off[0, 1] += dtype.type(4 * errors.eps(dtype))
    assert errors.row_error(off, exact_row) == pytest.approx(4 / 5, rel=1e-3)
    assert errors.row_error(np.full_like(off, np.nan), exact_row) == np.inf
    assert errors.row_error(off * dtype.type(0), exact_row) > 1 / errors.eps(dtype) / 2
    assert errors.row_error(off, 0 * exact_row) == np.inf


@pytest.mark.parametrize("power", [-1000, 1000])
def test_row_error_neither_over_nor_underflows(power):
    exact_row = np.ldexp(np.array([3.0, 4.0], oracle.WIDE), power)
    off = exact_row.astype(np.float64)
    off[1] *= 1 + 2.0**-50
    assert errors.row_error(off, exact_row) == pytest.approx(4 * 4 / 5)


def test_row_error_allows_half_the_smallest_subnormal():
    smallest = np.finfo(np.float32).smallest_subnormal
    exact_row = np.array([0.5, 0.25, 1.0], oracle.WIDE) * oracle.WIDE(smallest)
    assert errors.row_error(np.array([0, 0, smallest], np.float32), exact_row) == 0
    assert errors.row_error(np.array([0, smallest, smallest], np.float32), exact_row) > 1


# --- softmax's contract, element by element ----------------------------------------------------------


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_product_terms_are_those_of_the_contract(dtype):
    """|dx*| + y·D, with dx* and D by their definitions in fractions."""
    y, dy = cases.weights(17, dtype), cases.gradients(17, dtype)
    for terms, *rows in zip(errors.product_terms(y, oracle.vjp(y, dy)), y, dy, strict=True):
        w, d = (np.array([Fraction(float(a)) for a in row], object) for row in rows)
        away = d - (w * d).sum() / w.sum()
        due = abs(w * away) + w * (w * abs(away)).sum() / w.sum()
        with mpmath.workprec(4000):
            for found, one in zip(terms, due, strict=True):
                assert close(found, exact(one), 58)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_product_error_counts_in_eps_of_the_terms(dtype):
    y = np.array([[0.5, 0.25, 0.25]], dtype)
    exact_row = oracle.vjp(y, np.array([[1, 2, 4]], dtype))  # −0.5, 0, 0.5; D = 1
    np.testing.assert_array_equal(errors.product_terms(y, exact_row), [[1, 0.25, 0.75]])
    off = exact_row.astype(dtype)
    assert errors.product_error(off, y, exact_row) == 0
    off[0, 1] = errors.eps(dtype)
    assert errors.product_error(off, y, exact_row) == pytest.approx(4, rel=1e-2)
    off[0, 1] = np.nan
    assert errors.product_error(off, y, exact_row) == errors.product_miss(off, y, exact_row) == np.inf


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_product_miss_is_1_at_the_bound(dtype):
    """An element where dx* is 0: of a 16-bit type there is float32's bound."""
    y = np.array([[0.5, 0.25, 0.25]], dtype)
    exact_row = oracle.vjp(y, np.array([[1, 2, 4]], dtype))
    small = errors.eps(errors.kernel_dtype(dtype)) * errors.product_bound(dtype) / 4
    for share, missed in ((0.99, False), (1.2, True)):
        found = exact_row.astype(oracle.WIDE)
        found[0, 1] = share * small
        assert (errors.product_miss(found, y.astype(dtype), exact_row) > 1) == missed
    if dtype.itemsize == 2:
        ulp = errors.eps(dtype) / 2  # of a number from 0.5 to 1
        for share, missed in ((0.5, False), (0.52, True)):
            found = exact_row.astype(oracle.WIDE)
            found[0, 2] += share * ulp
            assert (errors.product_miss(found, y, exact_row) > 1) == missed


def test_what_may_underflow_grows_with_the_row():
    """y = ½ and 999 equal others; dy = 0 and 997·η: in float32 each product rounds to 0."""
    small = np.finfo(np.float32).smallest_subnormal
    y, dy = (np.full((1, 1000), value, np.float32) for value in (0.5 / 999, 997 * small))
    y[0, 0], dy[0, 0] = 0.5, 0
    exact_row = oracle.vjp(y, dy)
    assert abs(exact_row[0, 0]) > 240 * small
    assert errors.product_miss(y * 0, y, exact_row) <= 1
    assert errors.product_miss(y * 0, y, 4 * exact_row) > 1


def test_with_a_scale_all_of_the_bound_is_multiplied():
    y, dy = cases.weights(33, np.dtype(np.float32)), cases.gradients(33, np.dtype(np.float32))
    one = errors.product_allowed(y, oracle.vjp(y, dy))
    for scale in (4.0, -0.25):
        other = errors.product_allowed(y, oracle.vjp(y, dy, scale=scale), scale=scale)
        half = errors.lost(y)
        np.testing.assert_allclose(
            (other - half * max(1, abs(scale))).astype(float),
            ((one - half) * abs(scale)).astype(float),
            1e-12,
            1e-58,
        )


@pytest.mark.parametrize("axis", [0, (0, 2), None])
def test_product_error_along_any_axes(axis):
    y = cases.numbers(24, "y").reshape(2, 3, 4) ** 2
    dy = cases.numbers(24, "dy").reshape(2, 3, 4)
    dx, exact_rows = (y * dy).astype(np.float64), oracle.vjp(y, dy, axis)
    found = errors.product_error(dx, y, exact_rows, axis)
    kept = [a for a in range(3) if axis is not None and a not in np.atleast_1d(axis)]
    order = kept + [a for a in range(3) if a not in kept]
    rows = int(np.prod([y.shape[a] for a in kept]))
    flat = (a.transpose(order).reshape(rows, -1) for a in (dx, y, exact_rows))
    np.testing.assert_allclose(
        found.ravel().astype(float), errors.product_error(*flat).astype(float), rtol=1e-12
    )
