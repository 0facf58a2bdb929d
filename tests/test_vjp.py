"""softmax_vjp: rows that go wrong elsewhere, and scale and where.  For the rest see test_maps.py."""

import numpy as np
import pytest
from contract import assert_product

from softgrad import softmax, softmax_jvp, softmax_vjp
from softgrad.testing import cases, errors, oracle

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
LENGTHS = (1, 2, 3, 5, 8, 17, 64, 65, 257, 1000, 4099, 300_000)


each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
each_axis = pytest.mark.parametrize("axis", [-1, 0])


@pytest.mark.parametrize("function", [softmax_vjp, softmax_jvp])
@each_axis
@each_dtype
def test_a_gradient_that_is_not_finite_makes_its_row_nan(dtype, axis, function):
    """One, at the largest y or the smallest; and no other row."""
    for n in LENGTHS:
        y, dy, exact = (of(n, dtype)[:12] for of in (cases.weights, cases.gradients, cases.exact_vjp))
        rows, others = np.arange(0, len(y), 2), np.arange(1, len(y), 2)
        places = np.where(rows % 4, y.argmax(axis=-1)[rows], y.argmin(axis=-1)[rows])
        for bad in (np.nan, np.inf, -np.inf):
            spoilt = dy.copy()
            spoilt[rows, places] = bad
            dx = cases.along(function, axis, y, spoilt)
            assert np.isnan(dx[rows]).all()
            assert errors.product_miss(dx[others], y[others], exact[others]).max(initial=0) <= 1


@pytest.mark.parametrize("function", [softmax_vjp, softmax_jvp])
@each_axis
@each_dtype
def test_one_inf_as_it_was_reported(dtype, axis, function):
    y, dy = np.array([[0.25, 0.75]], dtype), np.array([[np.inf, 0]], dtype)
    assert np.isnan(cases.along(function, axis, y, dy)).all()
    assert np.isnan(cases.along(function, axis, y[:, ::-1], dy)).all()
    for both in ([np.inf, -np.inf], [np.inf, np.inf], [np.nan, np.inf]):
        assert np.isnan(cases.along(function, axis, y, np.array([both], dtype))).all()
    # also where the weight is 0
    assert np.isnan(cases.along(function, axis, np.array([[0, 1]], dtype), dy)).all()
    # masked it is not there
    where = np.array([[False, True]]) if axis else np.array([[False], [True]])
    rows = (y, dy) if axis else (y.T, dy.T)
    np.testing.assert_array_equal(function(*rows, axis=axis, where=where).ravel(), [0, 0])


@each_axis
@each_dtype
def test_a_constant_gradient_gives_exactly_0(dtype, axis):
    info = errors.info(dtype)
    # where y·dy may be a subnormal number the sum of them is off
    small = 3 * float(info.smallest_normal) / float(info.eps)
    for n in LENGTHS:
        y = cases.weights(n, dtype)[:12]
        for value in (1, -100, 0.1, 12345.678, small, 0.9 * float(info.max)):
            dx = cases.along(softmax_vjp, axis, y, np.full_like(y, value))
            assert (dx == 0).all(), (n, value)


@each_axis
@pytest.mark.parametrize("n", [2, 5, 17, 64, 100, 257, 1000, 4099])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_an_outlier_among_equals(dtype, n, axis):
    """With y = 1/n every dy is a winner's, and the largest one is far from the mean: to start from it costs
    n/8 times what is allowed."""
    y = np.full((5, n), 1 / n, dtype)
    dy = 1 + cases.numbers(5 * n, "dy").reshape(5, n) / 1000
    dy[:, n // 2] = n * np.array([0.01, 0.02, 0.1, -0.2, 3])
    for offset in (0, 1, -3):
        given = (dy + offset).astype(dtype)
        assert_product(cases.along(softmax_vjp, axis, y, given), y, given)


@each_axis
@pytest.mark.parametrize("n", [31, 63, 100, 127, 255, 511, 1000])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_equal_weights_are_rounded_alike(dtype, n, axis):
    """Each addition to Σy rounds the same way, so the errors add up, where a mean is a few times as large as
    the distances from it."""
    y = np.repeat(np.linspace(0.7, 1.4, 200)[:, None] / n, n, axis=1).astype(dtype)
    for offset in (1.2, -2.0, 2.3):
        dy = (offset + cases.numbers(y.size, "dy", offset).reshape(y.shape)).astype(dtype)
        assert_product(cases.along(softmax_vjp, axis, y, dy), y, dy)


# --- single rows that are known to go wrong elsewhere ------------------------------------------------


def test_a_saturated_row():
    y = softmax(np.array([20, 0, 0], np.float32))
    dx = softmax_vjp(y, np.array([1, 2, 3], np.float32))
    assert dx[0] == pytest.approx(-6.1834614e-09, rel=3e-7)
    assert_product(dx, y, np.array([1, 2, 3], np.float32))


def test_a_row_with_one_weight_of_1():
    """What is left of the winner's gradient lies 300 decimal places down."""
    y, dy = np.array([1.0, 1e-300]), np.array([1.0, 2.0])
    np.testing.assert_allclose(softmax_vjp(y, dy), [-1e-300, 1e-300], rtol=1e-15)


@each_dtype
def test_the_winner_anywhere(dtype):
    """In the first, the last and each other vector of a row."""
    n = 100
    y = np.full((n, n), 1e-6, dtype)
    np.fill_diagonal(y, 1)
    dy = cases.numbers(n * n, "dy").reshape(n, n).astype(dtype)
    for axis in (-1, 0):
        assert_product(cases.along(softmax_vjp, axis, y, dy), y, dy)


@each_axis
@pytest.mark.parametrize("n", [33, 100, 1000, 4096])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_a_winner_among_equals(dtype, n, axis):
    """Each of n − 1 equal numbers that are added to 1 is rounded alike: the errors add up, unless kept."""
    y = np.full((4, n), 1e-6, dtype)
    y[range(4), [0, 1, n // 2, n - 1]] = 1
    dy = cases.numbers(4 * n, "dy").reshape(4, n).astype(dtype)
    assert_product(cases.along(softmax_vjp, axis, y, dy), y, dy)


@each_dtype
@pytest.mark.parametrize("place", [0, 1, 31, 32, 99])
def test_a_far_gradient_where_y_is_nothing(dtype, place):
    """dy of 2^14 at a y of 0 has no effect, though it is there to be the reference of all others."""
    y = oracle.softmax(cases.numbers(100, "x")).astype(dtype)
    dy = cases.numbers(100, "dy").astype(dtype)
    y[place] = 0
    without = softmax_vjp(y, dy)
    for far in (2.0**14, -(2.0**14), 6e4):
        dy[place] = far
        assert_product(softmax_vjp(y, dy), y, dy)
    assert_product(without, y, dy)


@each_dtype
@pytest.mark.parametrize("tiny", [2.0**-14, 2.0**-10, 2.0**-6])
def test_a_first_element_with_a_small_weight_and_a_far_gradient(dtype, tiny):
    y = oracle.softmax(cases.numbers(100, "x")).astype(dtype)
    dy = cases.numbers(100, "dy").astype(dtype)
    y[0], dy[0] = tiny, 3e4
    assert_product(softmax_vjp(y, dy), y, dy)


def test_two_equal_winners():
    for n in (2, 33, 100):
        y, dy = np.full(n, 1e-9), cases.numbers(n, "dy")
        y[0] = y[-1] = 0.5
        for dtype in (FLOAT32, FLOAT64):
            a, b = y.astype(dtype), dy.astype(dtype)
            assert_product(softmax_vjp(a, b), a, b)


@each_dtype
def test_gradients_near_the_largest_number(dtype):
    """Differences of such numbers overflow; dx does not."""
    largest = float(errors.info(dtype).max) * 0.98
    y = np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0, 1, 0]], dtype)
    y = np.concatenate([y] * 5)
    for signs in ([1, -1, 1], [-1, 1, -1], [1, 1, -1], [1, 1, 1]):
        dy = np.broadcast_to(np.array(signs, dtype) * dtype.type(largest), y.shape)
        for rows in (slice(3), slice(None)):
            for axis in (-1, 0):
                dx = cases.along(softmax_vjp, axis, y[rows], dy[rows])
                assert np.isfinite(dx).all()
                assert_product(dx, y[rows], dy[rows])


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_gradients_near_the_smallest_number(dtype):
    y, z = cases.weights(33, dtype), cases.gradients(33, dtype)
    for power in (0, 3, 10, 30):
        dy = np.round(z * 2.0**power) * errors.info(dtype).smallest_subnormal
        assert_product(softmax_vjp(y, dy.astype(dtype)), y, dy.astype(dtype))


@each_dtype
def test_weights_that_do_not_sum_to_1(dtype):
    """The division by ⟨y,1⟩ is part of the formula: what rounding took off y is made up for."""
    y = cases.weights(64, dtype) * dtype.type(0.75)
    dy = cases.gradients(64, dtype)
    assert_product(softmax_vjp(y, dy), y, dy)


def test_a_row_of_zeros_is_an_empty_row():
    y = np.array([[0.0, 0.0], [0.5, 0.5]])
    np.testing.assert_array_equal(softmax_vjp(y, [[1.0, 2.0], [0.0, 1.0]]), [[0, 0], [-0.25, 0.25]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_gradient_of_an_empty_row_is_0_whatever_dy(bad):
    dx = softmax_vjp(np.zeros((2, 3)), np.full((2, 3), bad))
    np.testing.assert_array_equal(dx, np.zeros((2, 3)))


def test_the_gradient_of_a_nan_row_is_nan():
    y = softmax([[-np.inf, -np.inf], [0.0, 0.0]], empty="nan")
    dx = softmax_vjp(y, [[1.0, 2.0], [0.0, 1.0]])
    np.testing.assert_array_equal(dx, [[np.nan, np.nan], [-0.25, 0.25]])


# --- scale, where, out -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 2.0, -1.0, 1 / np.sqrt(96), -3.7, 1e-30, 1e30])
@each_dtype
def test_scale(dtype, scale):
    if dtype == np.float16 and scale == 1e30:
        pytest.skip("the result is beyond the largest number")
    y, dy = cases.weights(100, dtype), cases.gradients(100, dtype)
    assert_product(softmax_vjp(y, dy, scale=scale), y, dy, scale=scale)


@pytest.mark.parametrize("shape", [(5, 1, 7), (1, 6, 1), (6, 7), (7,), (1,), ()])
def test_where_is_broadcast(shape):
    y, dy = np.abs(cases.numbers(420, "y").reshape(2, 5, 6, 7).astype(np.float32))
    where = cases.numbers(int(np.prod(shape)), "where").reshape(shape) > -0.5
    full = np.broadcast_to(where, y.shape).copy()
    for axis in (-1, 1, 0):
        dx = softmax_vjp(y, dy, where=where, axis=axis)
        np.testing.assert_array_equal(dx, softmax_vjp(y, dy, where=full, axis=axis))
        assert (dx[~full] == 0).all()


def test_where_false_is_0_also_of_nan():
    y, dy = np.full((2, 3), np.nan), np.full((2, 3), np.inf)
    np.testing.assert_array_equal(softmax_vjp(y, dy, where=False), np.zeros((2, 3)))


def test_y_may_be_dy_and_out_as_well():
    y = cases.weights(37, FLOAT32).copy()
    expected = softmax_vjp(y, y.copy())
    assert softmax_vjp(y, y, out=y) is y
    np.testing.assert_array_equal(y, expected)
    assert_product(y, cases.weights(37, FLOAT32), cases.weights(37, FLOAT32))


@pytest.mark.parametrize("exponent", [-60, -150, -190, -199, -219, -240])
def test_a_scale_that_float32_does_not_hold(exponent):
    y, dy = np.array([0.5, 0.5], np.float32), np.array([2.0**126, -(2.0**126)], np.float32)
    scale = 1.2345 * 2.0**exponent
    exact = scale * 2.0**125
    dx = softmax_vjp(y, dy, scale=scale)
    allowed = 8 * np.finfo(np.float32).eps * 2 * exact + 2.0**-149
    assert np.abs(dx - np.array([exact, -exact])).max() <= allowed
