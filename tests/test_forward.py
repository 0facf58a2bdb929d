"""softmax: the numerics contract, and what axis, scale, where, empty and out mean."""

import numpy as np
import pytest
from contract import assert_holds, assert_product

from softgrad import softmax, softmax_with_vjp
from softgrad.testing import cases, check_forward, measures, oracle

LENGTHS = cases.SHORT + cases.MEDIUM + cases.LONG


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_contract(dtype, n, axis):
    assert_holds("contract", "forward", softmax, dtype, n, axis)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_every_check(dtype):
    check_forward(softmax, level="tight", dtypes=[dtype], axis=(-1, 0, 1))


# --- axis --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -2, -3, (0, 1), (1, 2), (2, 0), (-1, 0), (0, 1, 2), None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_axes(dtype, axis):
    x = (3 * cases.numbers(7 * 5 * 6, "x")).reshape(7, 5, 6).astype(dtype)
    y = softmax(x, axis=axis)
    assert measures.ulps(y, oracle.softmax(x, axis)).max() <= 2


def test_no_axis_at_all():
    """axis=() reduces nothing, as in NumPy: each element is a row of its own."""
    x = cases.numbers(6, "x").reshape(2, 3)
    np.testing.assert_array_equal(softmax(x, axis=()), np.ones((2, 3)))


# --- scale -------------------------------------------------------------------------------------------

SCALES = [0.0, 1.0, -1.0, 1 / np.sqrt(96), -3.7, 2.0**-60, 1e-30, 1e30]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_scale_is_exact(dtype, scale):
    """As if scale·x had been given without rounding it."""
    x = cases.logits(100, dtype)
    error = measures.ulps(softmax(x, scale=scale), oracle.softmax(x, scale=scale))
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


def masked_cases(dtype, n=37):
    x = cases.logits(n, dtype)
    where = cases.numbers(x.size, "where").reshape(x.shape) > 0.3
    where[:, 1] = True  # each row has something
    return x, where


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_where(dtype):
    x, where = masked_cases(dtype)
    y = softmax(x, where=where)
    assert (y[~where] == 0).all()
    assert measures.ulps(y, oracle.softmax(x, where=where)).max() <= (0.51 if dtype.itemsize == 2 else 2)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 3e4])
@pytest.mark.parametrize("axis", [-1, 0])
def test_what_is_masked_has_no_effect(junk, axis):
    x, where = masked_cases(np.dtype(np.float32))
    where[0] = True
    other = np.where(where, x, np.float32(junk))
    np.testing.assert_array_equal(softmax(other, where=where, axis=axis), softmax(x, where=where, axis=axis))


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
    assert measures.ulps(y, expected).max() <= 2


def test_where_false_is_an_empty_row():
    np.testing.assert_array_equal(softmax([1.0, 2.0], where=False), [0, 0])


def test_nan_outside_of_the_mask_stays():
    y = softmax([[np.nan, 1.0, 2.0], [0.0, 0.0, np.nan]], where=[True, True, False])
    np.testing.assert_array_equal(y, [[np.nan, np.nan, 0], [0.5, 0.5, 0]])


# --- empty -------------------------------------------------------------------------------------------

NOTHING = [[-np.inf, -np.inf, 5.0], [1.0, 1.0, 5.0]]
WHERE = [True, True, False]


@pytest.mark.parametrize(("empty", "value"), [("zero", 0.0), ("nan", np.nan)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_empty_row(dtype, empty, value):
    y = softmax(np.array(NOTHING, dtype), where=WHERE, empty=empty)
    expected = [[value, value, 0 if empty == "zero" else value], [0.5, 0.5, 0]]
    np.testing.assert_array_equal(y[1], expected[1])
    np.testing.assert_array_equal(y[0, :2], expected[0][:2])


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_an_empty_row_among_others(axis, n):
    x = cases.numbers(20 * n, "x").reshape(20, n).astype(np.float32)
    x[4] = x[17] = -np.inf
    if axis == 0:
        x = np.ascontiguousarray(x.T)
    y = softmax(x, axis=axis, empty="zero")
    gone = softmax(x, axis=axis, empty="nan")
    if axis == 0:
        y, gone = y.T, gone.T
    assert (y[[4, 17]] == 0).all()
    assert np.isnan(gone[[4, 17]]).all()
    there = np.delete(np.arange(20), [4, 17])
    np.testing.assert_array_equal(gone[there], y[there])
    assert np.abs(y[there].sum(axis=1, dtype=np.float64) - 1).max() <= 2 * measures.eps(y.dtype)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("where", [None, True, "masked"])
def test_an_empty_row_raises(axis, where):
    x = np.zeros((40, 40), np.float32)
    if where == "masked":
        where = np.full(x.shape, True)
        where[(slice(None), 39) if axis == 0 else 39] = False
    else:
        x[(slice(None), 39) if axis == 0 else 39] = -np.inf
    out = np.full_like(x, 7)
    with pytest.raises(ValueError, match="empty='zero'"):
        softmax(x, axis=axis, where=where, empty="raise", out=out)
    assert (out == 7).all()  # nothing was written


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


# --- out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 0, None])
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_out_is_written_and_returned(dtype, axis):
    x = cases.logits(37, dtype)
    out = np.full_like(x, np.nan)
    assert softmax(x, axis=axis, out=out) is out
    np.testing.assert_array_equal(out, softmax(x, axis=axis))


@pytest.mark.parametrize("n", [5, 37, 1000])
@pytest.mark.parametrize("axis", [-1, 0, None])
def test_out_may_be_x(axis, n):
    x = cases.logits(n, np.dtype(np.float32)).copy()
    expected = softmax(x, axis=axis)
    softmax(x, axis=axis, out=x)
    np.testing.assert_array_equal(x, expected)


# --- what softmax is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_a_number_added_to_all_logits_changes_no_bit(dtype):
    x = np.round(cases.logits(100, dtype)[:6].astype(np.float64)).astype(dtype)
    np.testing.assert_array_equal(softmax(x + dtype.type(64)), softmax(x))


def test_float16_rows_of_70000():
    """Each is 1/70000, a subnormal number; others give 0."""
    np.testing.assert_array_equal(softmax(np.zeros(70000, np.float16)), np.float16(1 / 70000))


def test_with_vjp_gives_what_the_two_functions_give():
    x, dy = cases.logits(33, np.dtype(np.float32)), cases.gradients(33, np.dtype(np.float32))
    where = x > -1
    out = np.empty_like(x)
    y, vjp = softmax_with_vjp(x, axis=0, where=where, scale=0.5, empty="nan", out=out)
    assert y is out
    np.testing.assert_array_equal(y, softmax(x, axis=0, where=where, scale=0.5, empty="nan"))
    dx = np.empty_like(x)
    assert vjp(dy, out=dx) is dx
    assert_product(dx, y, dy, axis=0, scale=0.5, where=where)
    np.testing.assert_array_equal(vjp(dy), dx)


@pytest.mark.parametrize("axis", [0, 1])
def test_many_equal_powers_that_are_small(axis):
    """Each is rounded the same way where they are added up one by one."""
    for logit in np.linspace(-9.2, -12, 9, dtype=np.float32):
        x = np.full((20_001, 8), logit, np.float32)
        x[0] = 0
        y = softmax(x if axis == 0 else np.ascontiguousarray(x.T), axis=axis)
        first = 1 / (1 + 2e4 * np.exp(np.float64(logit)))
        assert abs(y[0, 0] - first) <= 2 * np.spacing(np.float32(first))
