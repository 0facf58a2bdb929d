"""softmax: what scale, where and empty mean.  For the numerics contract, axes and out see test_maps.py."""

import numpy as np
import pytest

from softgrad import softmax
from softgrad.testing import cases, errors, oracle

# --- scale -------------------------------------------------------------------------------------------

SCALES = [0.0, 1.0, -1.0, 1 / np.sqrt(96), -3.7, 2.0**-60, 1e-30, 1e30]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_scale_is_exact(dtype, scale):
    """As if scale·x had been given without rounding it."""
    x = cases.logits(100, dtype)
    error = errors.ulps(softmax(x, scale=scale), oracle.softmax(x, scale=scale))
    assert error.max() <= (0.51 if dtype.itemsize == 2 else 2)


@pytest.mark.parametrize("scale", [np.float32(0.5), np.float64(0.5), np.float16(0.5)])
def test_scale_may_be_a_numpy_number(scale):
    x = cases.logits(33, np.dtype(np.float32))
    np.testing.assert_array_equal(softmax(x, scale=scale), softmax(x, scale=0.5))


def test_scale_may_be_whole():
    x = cases.logits(33, np.dtype(np.float32))
    np.testing.assert_array_equal(softmax(x, scale=2), softmax(x, scale=2.0))


def test_scale_of_zero_is_uniform_over_what_is_there():
    x = np.array([[1e308, -1e308, 3.0, -np.inf], [1.0, 2.0, 3.0, 4.0]])
    third = 1 / 3
    np.testing.assert_array_equal(softmax(x, scale=0), [[third, third, third, 0], [0.25] * 4])


def test_a_large_scale_picks_the_maximum():
    x = np.array([1.0, 1.0, np.nextafter(1.0, 0)])
    np.testing.assert_array_equal(softmax(x, scale=1e300), [0.5, 0.5, 0])
    np.testing.assert_array_equal(softmax(x, scale=-1e300), [0, 0, 1])
    np.testing.assert_array_equal(softmax(x.astype(np.float32), scale=3e38), np.float32([1 / 3] * 3))


def test_a_negative_scale_drops_plus_infinity():
    """−1·inf is nothing."""
    np.testing.assert_array_equal(softmax([np.inf, 0.0, 0.0], scale=-1), [0, 0.5, 0.5])


# --- where -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 1, 7), (1, 6, 1), (6, 7), (7,), (1,), ()])
def test_where_is_broadcast(shape):
    x = cases.numbers(5 * 6 * 7, "x").reshape(5, 6, 7).astype(np.float32)
    where = cases.numbers(int(np.prod(shape)), "where").reshape(shape) > -0.5
    full = np.broadcast_to(where, x.shape)
    for axis in (-1, 1, 0):
        y = softmax(x, where=where, axis=axis)
        np.testing.assert_array_equal(y, softmax(x, where=full.copy(), axis=axis))
        np.testing.assert_array_equal(y == 0, ~full)


@pytest.mark.parametrize("where", [True, [True, False, True], np.True_])
def test_where_may_be_a_list_or_a_bool(where):
    y = softmax([1.0, 2.0, 1.0], where=where)
    expected = oracle.softmax([1.0, 2.0, 1.0], where=where)
    assert errors.ulps(y, expected).max() <= 2


def test_where_false_is_an_empty_row():
    np.testing.assert_array_equal(softmax([1.0, 2.0], where=False), [0, 0])


def test_nan_outside_of_the_mask_stays():
    y = softmax([[np.nan, 1.0, 2.0], [0.0, 0.0, np.nan]], where=[True, True, False])
    np.testing.assert_array_equal(y, [[np.nan, np.nan, 0], [0.5, 0.5, 0]])


# --- empty -------------------------------------------------------------------------------------------


def test_raise_is_silent_where_each_row_has_something():
    x = np.array([[-np.inf, 0.0], [np.nan, -np.inf]])
    np.testing.assert_array_equal(softmax(x, empty="raise"), [[0, 1], [np.nan, np.nan]])


def test_a_negative_scale_makes_a_row_of_plus_infinity_empty():
    np.testing.assert_array_equal(softmax([[np.inf, np.inf], [0.0, np.inf]], scale=-2), [[0, 0], [1, 0]])
    with pytest.raises(ValueError, match="empty"):
        softmax([[np.inf, np.inf], [0.0, np.inf]], scale=-2, empty="raise")


def test_raise_on_whole_numbers_leaves_out_as_it_was():
    out = np.full((2, 2), 7.0)
    with pytest.raises(ValueError, match="empty"):
        softmax([[1, 2], [3, 4]], where=[[True, True], [False, False]], empty="raise", out=out)
    assert (out == 7).all()


# --- what softmax is ---------------------------------------------------------------------------------


def test_float16_rows_of_70000():
    """Each is 1/70000, a subnormal number; others give 0."""
    np.testing.assert_array_equal(softmax(np.zeros(70000, np.float16)), np.float16(1 / 70000))


@pytest.mark.parametrize("axis", [0, 1])
def test_many_equal_powers_that_are_small(axis):
    """Each is rounded the same way where they are added up one by one."""
    for logit in np.linspace(-9.2, -12, 9, dtype=np.float32):
        x = np.full((100_001, 8), logit, np.float32)
        x[0] = 0
        y = softmax(x if axis == 0 else np.ascontiguousarray(x.T), axis=axis)
        first = 1 / (1 + 1e5 * np.exp(np.float64(logit)))
        assert abs(y[0, 0] - first) <= 2 * np.spacing(np.float32(first))
