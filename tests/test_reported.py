"""A test for each fault that somebody found: what they did, and what is right."""

import ml_dtypes
import numpy as np
import pytest
from contract import assert_product

from softgrad import set_num_threads, softmax, softmax_double_backward, softmax_vjp
from softgrad.testing import cases, errors, oracle


@pytest.mark.parametrize(("n", "logit", "far"), [(100_000, -10, 1000.7), (300_000, -9, 3.3)])
@pytest.mark.parametrize("axis", [-1, 0])
def test_many_equal_elements_beside_a_light_first_one(n, logit, far, axis):
    """Their distance from the first lost the same bits in each addition: up to 97 eps."""
    x = np.zeros((1, n), np.float32)
    x[:, 0] = logit
    dy = np.full((1, n), far, np.float32)
    dy[:, 0] = 0
    if axis == 0:
        y = softmax(np.repeat(x, 2, axis=0).T.copy(), axis=0)
        dx = softmax_vjp(y, np.repeat(dy, 2, axis=0).T.copy(), axis=0).T[:1]
        y = y.T[:1]
    else:
        y = softmax(x)
        dx = softmax_vjp(y, dy)
    assert_product(np.ascontiguousarray(dx), np.ascontiguousarray(y), dy)


def test_the_same_in_float16():
    y = np.full((1, 8192), 7.926612e-05, np.float16)
    y[0, 0] = 1.05 * 2.0**-12 * np.sqrt(float(y[0, 1]) * y.astype(np.float64).sum())
    dy = np.full((1, 8192), 1671.995, np.float16)
    dy[0, 0] = 0
    assert_product(softmax_vjp(y, dy), y, dy)


@pytest.mark.parametrize("dtype", [np.dtype(ml_dtypes.bfloat16), np.dtype(np.float64)], ids=str)
def test_double_backward_near_the_largest_number(dtype):
    """It gave NaN."""
    large = 0.9 * float(errors.info(dtype).max)
    y, dy, v = (np.array(a, dtype) for a in ([0.5, 0.5], [1, 2], [large, -large]))
    grad_x, grad_dy = softmax_double_backward(y, dy, v)
    np.testing.assert_array_equal(grad_dy, softmax_vjp(y, v))
    np.testing.assert_array_equal(grad_x, np.zeros(2))


@pytest.mark.parametrize(("large", "scale"), [(1e30, 1e-46), (1e38, 1e-44), (1e-30, 1e38)])
def test_a_scale_that_float32_does_not_hold(large, scale):
    """It was rounded to float32 first."""
    y, dy = np.array([[0.5, 0.5]], np.float32), np.array([[large, -large]], np.float32)
    assert_product(softmax_vjp(y, dy, scale=scale), y, dy, scale=scale)


def test_a_small_scale_of_large_logits():
    """The second part of the scale was a subnormal number."""
    x = np.array([[3.3e38, -3.3e38, 1e38, -1e38]], np.float32)
    scale = 9.893050367125762e-38
    assert errors.ulps(softmax(x, scale=scale), oracle.softmax(x, scale=scale)).max() <= 2


def test_an_axis_of_one_element_may_have_any_step():
    """Two views of the same memory that differ in nothing else were said to overlap in part."""
    x = np.arange(5.0)
    expected = softmax(x)
    out = x.reshape(1, 5)
    assert softmax(x[None, :], out=out) is out
    np.testing.assert_array_equal(x, expected)


def test_out_whose_rows_overlap():
    out = np.lib.stride_tricks.sliding_window_view(np.zeros(50), 40, writeable=True)
    with pytest.raises(ValueError, match="same place"):
        softmax(np.ones((11, 40)), out=out)


def test_out_may_be_a_memmap(tmp_path):
    out = np.memmap(tmp_path / "out", np.float64, "w+", shape=(2, 3))
    assert softmax(np.ones((2, 3)), out=out) is out
    np.testing.assert_array_equal(out, np.full((2, 3), 1 / 3))


def test_where_may_not_be_a_masked_array():
    """Its mask was dropped in silence."""
    with pytest.raises(TypeError, match="filled"):
        softmax(np.ones(5), where=np.ma.array([True] * 5, mask=[1, 0, 0, 0, 0]))


def test_numbers_beyond_everything():
    with pytest.raises(ValueError, match="finite number"):
        softmax([1.0, 2.0], scale=10**400)
    with pytest.raises(np.exceptions.AxisError, match="out of bounds"):
        softmax([1.0, 2.0], axis=10**30)
    with pytest.raises(ValueError, match="names an axis twice"):
        softmax([[1.0, 2.0]], axis=(0, 0))
    with pytest.raises(TypeError, match="whole number"):
        set_num_threads(np.array([1, 2]))


def test_a_scale_of_bfloat16():
    np.testing.assert_array_equal(
        softmax([1.0, 2.0], scale=ml_dtypes.bfloat16(2)), softmax([1.0, 2.0], scale=2)
    )


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
@pytest.mark.parametrize("share", [0.5, 0.9, 1.1])
def test_equal_terms_that_cancel(share, dtype, axis):
    """One element as heavy as all others, its dy about the mean: 10 eps off in float64, by roundings of dy −
    mean that were all alike and of a sum over lanes that cancel."""
    n = 1000
    y = np.resize(np.array([0.7, 1.1]) / n, (8, n))
    y[:, 0] = share * y[:, 1:].sum(axis=1)
    dy = np.resize(np.array([-1.3, 0.9]), (8, n)) * np.linspace(0.9, 1.1, 8)[:, None]
    dy[:, 0] = np.linspace(0, 0.3, 8)
    y, dy = y.astype(dtype), dy.astype(dtype)
    dx = cases.along(softmax_vjp, axis, y, dy)
    assert_product(dx, y, dy)


def test_columns_of_equal_weights_with_an_outlier():
    """Sums of 64 equal terms were rounded the same way each time: C = 10.4 in float32."""
    y = np.full((1000, 8), 1 / 1000, np.float32)
    dy = np.ones_like(y)
    dy[640] = -1.1875561
    assert_product(softmax_vjp(y, dy, axis=0), y, dy, axis=0)


def test_a_tiny_scale_counts_twice_in_the_double_backward():
    """A part of it was given to v, and only once: off by 2**64."""
    y, far = np.array([0.25, 0.75], np.float32), np.array([0, 2.0**60], np.float32)
    grad_x, _ = softmax_double_backward(y, far, far, scale=2.0**-101)
    expected = 2.0**-82 * 0.25 * 0.75 * (0.75 - 0.25)  # y₀·y₁·(y₁ − y₀), an exact number
    np.testing.assert_array_equal(np.abs(grad_x), np.full(2, expected, np.float32))


def test_an_axis_beyond_whole_numbers_of_64_bits():
    """Once the gate was open, OverflowError came from it."""
    x = np.ones((3, 4), np.float32)
    for _ in range(2):
        softmax(x)
        with pytest.raises(np.exceptions.AxisError):
            softmax(x, axis=2**70)
