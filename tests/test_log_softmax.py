"""What is particular to log_softmax: its winner, sure rows, and that vjp and jvp differ.  For the rest see
test_maps.py."""

import functools

import logs
import ml_dtypes
import numpy as np
import pytest
import scipy.special
from contract import assert_holds, off_by

from softgrad import (
    formulas,
    log_softmax,
    log_softmax_double_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    segment_log_softmax_vjp,
    softmax,
)
from softgrad.testing import bounds, cases, errors, mutants, oracle

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
INF, NAN = np.inf, np.nan
each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
each_axis = pytest.mark.parametrize("axis", [-1, 0])


def forward_bound(dtype):
    return 0.51 if dtype.itemsize == 2 else 2


def worst(found, true, allowed):
    """The largest error in units of what is allowed: at most 1."""
    with np.errstate(all="ignore"):
        error = np.where(found == true, 0, np.abs(found.astype(oracle.WIDE) - true))
    return (error / np.where(allowed == 0, np.finfo(oracle.WIDE).tiny, allowed)).max(initial=0)


def vjp_miss(dx, y, dy, axis=-1, scale=1.0, where=None):
    true = oracle.log_vjp(y, dy, axis, scale, where)
    return worst(dx, true, bounds.log_vjp_bound(y, dy, true, axis, scale, where))


def jvp_miss(dy, y, dx, axis=-1, scale=1.0, where=None):
    true = oracle.log_jvp(y, dx, axis, scale, where)
    return worst(dy, true, bounds.log_jvp_bound(y, true, axis, scale, where))


@functools.cache
def given(n, dtype):
    """y, the log_softmax of the cases, and dy; without the rows whose dx is beyond the largest float16."""
    y, dy = oracle.log_softmax(cases.logits(n, dtype)).astype(dtype), cases.gradients(n, dtype)
    if dtype == np.float16:
        inside = np.abs(oracle.log_vjp(y, dy)).max(axis=1) < 6e4
        y, dy = y[inside], dy[inside]
    return cases.read_only(y), cases.read_only(dy)


def subnormals(dtype, n):
    return np.sqrt(oracle.WIDE(n)) * oracle.WIDE(float(errors.info(dtype).smallest_subnormal))


# --- forward -----------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("axis", [-1, 0, None, (0, 2), (1, 2)])
def test_scipy_agrees(dtype, axis):
    x = (3 * cases.numbers(210, "x")).reshape(5, 6, 7).astype(dtype)
    theirs = scipy.special.log_softmax(x.astype(np.float64), axis=axis)
    assert errors.ulps_above_1(log_softmax(x, axis=axis), theirs.astype(oracle.WIDE)).max() <= 4


WINNERS = [
    [20, 0, 0],
    [40, 0, 1],
    [80, -3, 0, 1, 2],
    [0, -100, -90],
    [1000, 900, 950],
    [1, 1, -40],
    [30, 30, 30],
]


def check_winner(log_softmax, dtype, x, axis=-1):
    """−2.06e-9 in the first row, where log(1 + 4e-9) is 0 in float32: to 3 ulp of y itself."""
    rows = np.array([[*x, *[-INF] * (40 - len(x))]] * 40, dtype)
    y = cases.along(log_softmax, axis, rows)[7, : len(x)]
    true = logs.row(logs.mp_log_softmax, rows[0, : len(x)])
    seen = np.abs(true) >= float(errors.info(dtype).smallest_normal)
    spacing = np.ldexp(oracle.WIDE(errors.eps(dtype)), np.frexp(true)[1] - 1)
    error = np.abs(y.astype(oracle.WIDE) - true) / spacing
    assert error[seen].max() <= (0.51 if dtype.itemsize == 2 else 3)


@each_axis
@each_dtype
@pytest.mark.parametrize("x", WINNERS, ids=str)
def test_the_winner_is_what_the_others_come_to(dtype, x, axis):
    check_winner(log_softmax, dtype, x, axis)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1 / np.sqrt(96), -3.7, 2.0**-60, 1e-30, 1e30])
@each_dtype
def test_scale_is_exact(dtype, scale):
    x = cases.logits(100, dtype)
    y, true = log_softmax(x, scale=scale), oracle.log_softmax(x, scale=scale)
    inside = np.abs(true) < float(errors.info(dtype).max)
    assert errors.ulps_above_1(y, true)[inside].max() <= forward_bound(dtype)
    np.testing.assert_array_equal(y[~inside], -INF)


@each_dtype
def test_logits_of_any_size(dtype):
    largest = float(errors.info(dtype).max)
    rows = np.array([[largest, -largest, largest], [-largest] * 3, [largest, 0, -INF]], dtype)
    half, third = -np.log(oracle.WIDE([2, 3]))
    true = np.array([[half, -INF, half], [third] * 3, [0, -largest, -INF]], oracle.WIDE)
    assert errors.ulps_above_1(log_softmax(rows), true).max() <= forward_bound(dtype)


# --- vjp ---------------------------------------------------------------------------------------------


def check_contract(vjp, dtype, n, axis=-1):
    assert_holds("contract", "vjp", vjp, dtype, n, axis, map="log_softmax")


def saturated(dtype):
    """(y, dy): one y is −1e-9, −1e-15, −1e-30 or 0, and dy has or has not to do with it."""
    for others in ([-20, -25], [-35.0, -40], [-70, -90], [-7, -8], [-1.5, -2], [-0.8, -9]):
        y = np.array([float(np.log1p(-np.exp(others).sum())), *others], dtype)
        for dy in ([1, 0, 0], [0, 1, 0], [1, 2, 3], [100, 100, 100]):  # whose sums are exact
            yield y, np.array(dy, dtype)


def check_saturated(vjp, dtype):
    """Rows on which 1 − exp(y) and Σdy − dy cancel: 2·eps (float64: 4) of dx and no more, against mpmath."""
    for y, dy in saturated(dtype):
        dx, true = vjp(y[None], dy[None], axis=-1)[0], logs.row(logs.mp_vjp, y, dy)
        error = np.sqrt(((dx.astype(oracle.WIDE) - true) ** 2).sum()) - subnormals(dtype, 3)
        assert error <= errors.bound(dtype) * errors.eps(dtype) * np.sqrt((true**2).sum()), (y, dy, dx, true)


def check_balanced(vjp, dtype):
    """dy that is nearly exp(y)·Σdy: dx is what rounding made of y, and so many digits of exp(y) count.  The
    16-bit types have float32 for it."""
    for n in (2, 3, 5, 10, 33, 100):
        y = np.full((1, n), -np.log(n), dtype)
        dx, true = vjp(y, np.full_like(y, 3), axis=-1)[0], logs.row(logs.mp_vjp, y[0], np.full(n, 3.0))
        error = np.abs(dx.astype(oracle.WIDE) - true).max()
        assert error <= 2 * errors.eps(dtype) * np.abs(true).max() + 2.0**-21


@each_dtype
def test_vjp_of_saturated_rows(dtype):
    check_saturated(log_softmax_vjp, dtype)


@pytest.mark.parametrize("dtype", cases.DTYPES[:2], ids=str)
def test_vjp_where_dy_is_nearly_p(dtype):
    check_balanced(log_softmax_vjp, dtype)


@each_dtype
@pytest.mark.parametrize("n", [1, 40, 200])
def test_a_row_that_needs_more_digits_changes_no_other(dtype, n):
    """Columns are computed side by side; of each the values are those of the row alone, within the bound."""
    y, dy = (np.tile(a[:1], (64, 1)) for a in given(max(n, 2), dtype))
    y, dy = y.copy(), dy.copy()
    y[5], y[5, 0] = -INF, 0  # saturated
    dy[9, 0] = NAN
    dx = log_softmax_vjp(np.ascontiguousarray(y.T), np.ascontiguousarray(dy.T), axis=0).T
    assert np.isnan(dx[9]).all()
    others = np.delete(np.arange(64), [5, 9])
    assert vjp_miss(dx[others], y[others], dy[others]) <= 1
    np.testing.assert_array_equal(dx[5], 0)


@each_dtype
def test_minus_infinity_has_no_part(dtype):
    y, d = log_softmax(np.array([0, -INF, 0, -INF], dtype)), np.array([1, 5, 2, 7], dtype)
    for function, miss in ((log_softmax_vjp, vjp_miss), (log_softmax_jvp, jvp_miss)):
        found = function(y, d)
        np.testing.assert_array_equal(found[1::2], 0)
        assert miss(found[::2], y[::2], d[::2]) <= 1
    nothing = np.full((3, 40), -INF, dtype)
    for function in (log_softmax_vjp, log_softmax_jvp):
        np.testing.assert_array_equal(function(nothing, np.ones_like(nothing)), 0)


@each_axis
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("function", [log_softmax_vjp, log_softmax_jvp])
@each_dtype
def test_nan_and_infinity_in_dy_make_the_row_nan(dtype, function, bad, axis):
    """Also where y is −inf."""
    y = np.zeros((40, 40), dtype)
    y[:, 2] = -INF
    y, dy = log_softmax(y), np.ones_like(y)
    dy[4, 2] = dy[7, 7] = dtype.type(bad)
    dx = cases.along(function, axis, y, dy)
    assert np.isnan(dx[[4, 7]]).all()
    assert np.isfinite(np.delete(dx, [4, 7], 0).astype(float)).all()


def test_sums_beyond_the_largest_number():
    y = np.full((1, 64), np.log(1 / 64))
    dx = log_softmax_vjp(y, np.full_like(y, 1.7e308))
    assert np.abs(dx).max() <= 4 * 1.7e308 * 2.0**-52
    y, dy = y.astype(ml_dtypes.bfloat16), np.full_like(y, 3e38, ml_dtypes.bfloat16)
    true = oracle.log_vjp(y, dy)
    assert np.abs(log_softmax_vjp(y, dy).astype(oracle.WIDE) / true - 1).max() <= 2.0**-8
    dx = log_softmax_jvp(np.log([0.5, 0.5]), np.array([1.7e308, -1.7e308]))
    np.testing.assert_allclose(dx, [1.7e308, -1.7e308], rtol=1e-15)


@pytest.mark.parametrize("scale", [0.5, -3.0, 0.0, 1e-30, 1.1])
@each_dtype
def test_vjp_scale(dtype, scale):
    y, dy = cases.moderate(37, dtype)[:2]
    y = np.log(y.astype(np.float64)).astype(dtype)
    assert vjp_miss(log_softmax_vjp(y, dy, scale=scale), y, dy, scale=scale) <= 1
    assert jvp_miss(log_softmax_jvp(y, dy, scale=scale), y, dy, scale=scale) <= 1


# --- jvp, and the two together -----------------------------------------------------------------------


def check_jvp(jvp, dtype, n, axis=-1):
    assert_holds("contract", "jvp", jvp, dtype, n, axis, map="log_softmax")


@each_dtype
def test_jvp_of_saturated_rows(dtype):
    for y, dx in saturated(dtype):
        if (dx == dx[0]).all():
            continue
        dy, true = log_softmax_jvp(y, dx), logs.row(logs.mp_jvp, y, dx)
        error = np.sqrt(((dy.astype(oracle.WIDE) - true) ** 2).sum())
        assert error <= errors.bound(dtype) * errors.eps(dtype) * np.sqrt((true**2).sum()), (y, dx)


def logs_of_moderate(n, dtype):
    y, u, v = cases.moderate(n, dtype)
    return np.log(y.astype(oracle.WIDE)).astype(dtype), u, v


def test_they_are_not_the_same():
    y, u, _ = logs_of_moderate(17, FLOAT64)
    assert np.abs(log_softmax_vjp(y, u) - log_softmax_jvp(y, u)).max() > 0.1


# --- double backward ---------------------------------------------------------------------------------


def test_grad_dy_is_the_jvp_of_v():
    y, dy, v = logs_of_moderate(33, FLOAT32)
    grads = log_softmax_double_backward(y, dy, v, scale=0.5)
    np.testing.assert_array_equal(grads[1], log_softmax_jvp(y, v, scale=0.5))
    np.testing.assert_array_equal(log_softmax_double_backward(y, dy, dy * 0 + 3)[0], 0)


# --- wrong versions are rejected ---------------------------------------------------------------------


VJPS = mutants.LOG_VJPS


@pytest.mark.parametrize("name", VJPS)
@each_dtype
def test_wrong_gradients_are_rejected(dtype, name):
    if name == "times 1.01" and dtype.name == "bfloat16":
        pytest.skip("1 % is within 2 eps")
    with pytest.raises(AssertionError), np.errstate(over="ignore"):
        check_contract(mutants.rounded_once(VJPS[name].formula), dtype, 33)


def in_their_own(kind):
    """The formula as it is usually written, in the precision `kind`."""

    def vjp(y, dy, *, axis=-1):
        return formulas.log_softmax_vjp(y.astype(kind), dy.astype(kind), np).astype(y.dtype)

    return vjp


@pytest.mark.parametrize("dtype", cases.DTYPES[1:], ids=str)
def test_the_usual_precision_is_not_enough(dtype):
    kind = np.float64 if dtype == np.float64 else np.float32
    with pytest.raises(AssertionError):
        check_saturated(in_their_own(kind), dtype)


# the last is right but for the rounding of y
JVPS = {name: wrong.formula for name, wrong in mutants.LOG_JVPS.items()} | {"not divided": mutants.log_jvp}


@pytest.mark.parametrize("name", JVPS)
@each_dtype
def test_wrong_jvps_are_rejected(dtype, name):
    with pytest.raises(AssertionError), np.errstate(over="ignore"):
        check_jvp(mutants.rounded_once(JVPS[name]), dtype, 33)


@pytest.mark.parametrize("name", mutants.LOG_SOFTMAXES)
@each_dtype
def test_wrong_forwards_are_rejected(dtype, name):
    wrong = mutants.rounded_once(mutants.LOG_SOFTMAXES[name].formula)
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        assert_holds("contract", "forward", wrong, dtype, 33, map="log_softmax")


@pytest.mark.parametrize("dtype", cases.DTYPES[1:], ids=str)  # float16 has no number for it
def test_the_usual_forward_loses_the_winner(dtype):
    with pytest.raises(AssertionError):
        check_winner(lambda x, *, axis: formulas.log_softmax(x, np), dtype, [40, 0, 1])


def test_the_formulas_are_right():
    y, u, v = logs_of_moderate(17, FLOAT64)
    assert off_by(formulas.log_softmax(u, np), log_softmax(u), ()) <= 4
    assert off_by(formulas.log_softmax_vjp(y, u, np), log_softmax_vjp(y, u)) <= 6
    assert off_by(formulas.log_softmax_jvp(y, u, np), log_softmax_jvp(y, u)) <= 4
    for one, other in zip(
        formulas.log_softmax_double_backward(y, u, v, np), log_softmax_double_backward(y, u, v), strict=True
    ):
        assert off_by(one, other) <= 6


# --- edges -------------------------------------------------------------------------------------------


def test_it_is_the_logarithm_of_softmax():
    """But for what half an ulp of the logarithm does, where y is a normal number."""
    x = cases.logits(100, FLOAT64)
    y, logs_of_y = softmax(x), log_softmax(x)
    normal = y >= np.finfo(FLOAT64).tiny
    off = np.abs(np.exp(logs_of_y) / np.where(normal, y, 1) - 1)[normal]
    assert (off <= errors.eps(FLOAT64) * (2 + np.abs(logs_of_y[normal]))).all()
    assert (np.exp(logs_of_y)[~normal] <= np.finfo(FLOAT64).tiny).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_differences_that_overflow_before_they_are_scaled(axis):
    for dtype, large in ((np.float32, 3e38), (np.float64, 1.7e308)):
        x = np.tile(np.array([large, -large], dtype), (8, 1))
        x = x if axis else np.ascontiguousarray(x.T)
        y = np.moveaxis(log_softmax(x, scale=0.125, axis=axis), axis, 1)
        assert np.array_equal(y, np.tile(np.array([0, -large / 4], dtype), (8, 1)))


@pytest.mark.parametrize("n", [1, 3, 60])
def test_rows_without_weight_beside_a_nan(n):
    """Rows that are done as if they were one are told apart where one is not finite."""
    y = np.repeat(np.array([[0], [-np.inf], [np.nan], [0]], np.float32), n, axis=1)
    dx = log_softmax_vjp(y, np.ones_like(y))
    assert not dx[1].any()
    assert np.isnan(dx[2]).all()
    assert np.array_equal(dx[[0, 3]], log_softmax_vjp(y[[0, 3]], np.ones((2, n), np.float32)))


@each_dtype
def test_an_empty_row_has_gradient_0_whatever_dy_holds(dtype):
    """As a row, a column and a segment; a row that has something in it is NaN beside a NaN."""
    y, dy = np.full((3, 20), -np.inf), np.ones((3, 20))
    y[2, 1:], dy[1, 3], dy[2, 0] = np.log(1 / 19), np.nan, np.nan
    y, dy = y.astype(dtype), dy.astype(dtype)
    for dx in (
        log_softmax_vjp(y, dy),
        log_softmax_vjp(y.T.copy(), dy.T.copy(), axis=0).T,
        segment_log_softmax_vjp(y.ravel(), dy.ravel(), [0, 20, 40, 60]).reshape(3, 20),
        log_softmax_jvp(y, dy),
    ):
        assert (dx[:2] == 0).all()
        assert np.isnan(dx[2].astype(float)).all()
