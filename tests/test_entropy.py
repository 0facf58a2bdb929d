"""entropy and logsumexp, and their gradients."""

import itertools
import warnings

import logs
import numpy as np
import pytest
import scipy.special
import scipy.stats
from contract import off_by

from softgrad import (
    entropy,
    entropy_vjp,
    entropy_with_vjp,
    formulas,
    logsumexp,
    logsumexp_vjp,
    logsumexp_with_vjp,
    softmax,
)
from softgrad.specs import REDUCTIONS
from softgrad.testing import cases, errors, oracle

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
INF, NAN = np.inf, np.nan
LENGTHS = [1, 2, 3, 5, 16, 31, 32, 33, 64, 100, 257, 1000, 4097, 131073]
each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
each_axis = pytest.mark.parametrize("axis", [-1, 0])

# name: the function, its vjp, and the oracles of both
BOTH = {
    "logsumexp": (logsumexp, logsumexp_vjp, logs.logsumexp, logs.logsumexp_vjp),
    "entropy": (entropy, entropy_vjp, logs.entropy, logs.entropy_vjp),
}
each = pytest.mark.parametrize("name", BOTH)


def test_the_table_has_them():
    assert set(BOTH) == set(REDUCTIONS)


def gradients(shape, dtype):
    return cases.numbers(int(np.prod(shape)), "dy").reshape(shape).astype(dtype)


def turned(a, axis):
    return np.ascontiguousarray(a.T) if axis == 0 else a


def assert_entropies(found, true):
    """3 ulp (0.51 for 16 bits), where it is a normal number."""
    seen = np.abs(true) >= float(errors.info(found.dtype).smallest_normal)
    spacing = np.ldexp(oracle.WIDE(errors.eps(found.dtype)), np.frexp(np.where(seen, true, 1))[1] - 1)
    error = np.abs(found.astype(oracle.WIDE) - true) / spacing
    assert error[seen].max(initial=0) <= (0.51 if found.dtype.itemsize == 2 else 3)
    assert (np.abs(found[~seen].astype(float)) <= float(errors.info(found.dtype).smallest_normal)).all()


def assert_logsumexps(found, true):
    assert errors.ulps_above_1(found, true).max() <= (0.51 if found.dtype.itemsize == 2 else 2)


def vjp_allowed(name, x, dy, axis=-1, scale=1.0, where=None):
    """The exact one, and 4·eps of each element for logsumexp; 8 or 16·eps·(|dx| + p·Σ|dx|) for entropy."""
    true = BOTH[name][3](x, dy, axis, scale, where)
    size, factor, dtype, p = np.abs(true), 4, x.dtype, oracle.sums(x, axis, scale, where)[4]
    if name == "entropy":
        factor = errors.product_bound(dtype)
        size = size + p * size.sum(oracle.axes_of(x, axis), keepdims=True)
    underflow = errors.smallest(dtype) * np.maximum(1, np.abs(true) / np.where(p == 0, 1, p))
    return true, errors.rounded_once(true, size, factor, dtype) + underflow


def assert_vjp(name, dx, x, dy, axis=-1, scale=1.0, where=None):
    assert dx.dtype == x.dtype
    assert_within(dx, *vjp_allowed(name, x, dy, axis, scale, where))


def assert_within(dx, true, allowed):
    error = np.where(dx == true, 0, np.abs(dx.astype(oracle.WIDE) - true))
    assert (error <= allowed).all()


ASSERT = {"logsumexp": assert_logsumexps, "entropy": assert_entropies}

# --- the bounds --------------------------------------------------------------------------------------


@each_dtype
@each
def test_forward(name, dtype):
    function, _, exact_one, _ = BOTH[name]
    for n in LENGTHS:
        x = cases.logits(n, dtype)
        true = exact_one(x)
        for axis in (-1, 0):
            found = function(turned(x, axis), axis=axis)
            assert found.dtype == dtype
            ASSERT[name](found, true)


def check_vjp(name, vjp, dtype, n, axes=(-1,)):
    x = cases.logits(n, dtype)
    dy = gradients(len(x), dtype)
    true, allowed = vjp_allowed(name, x, dy)
    for axis in axes:
        dx = turned(vjp(turned(x, axis), dy, axis=axis), axis)
        assert dx.dtype == dtype
        assert_within(dx, true, allowed)


@each_dtype
@each
def test_vjp(name, dtype):
    for n in LENGTHS:
        check_vjp(name, BOTH[name][1], dtype, n, (-1, 0))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("order", [*itertools.permutations(range(3))], ids=str)
@each
def test_the_axes_may_lie_in_any_order(name, order, axis):
    """Columns are neighbours in x; whether what is found of them are neighbours, too, is another matter."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(9, 20, 12)).transpose(order)
    function, vjp, true, _ = BOTH[name]
    for where in (None, rng.random(x.shape) < 0.7):
        ASSERT[name](function(x, axis=axis, where=where), true(x, axis, 1.0, where))
        dy = rng.normal(size=np.delete(x.shape, axis))
        for given in (dy, np.asfortranarray(dy)):
            assert_vjp(name, vjp(x, given, axis=axis, where=where), x, dy, axis, where=where)


# ties, saturated rows, tails that underflow, small and large spreads
HARD = [
    [20, 0, 0],
    [40, 0, 1],
    [90, 0, 0, 1],
    [1, 1, -40],
    [0, -100, -90],
    [0, -104.5],
    [1e-4, 0, 2e-4],
    [5] * 9,
]
HARD += [[1000, 999.5, -1000], [0, -INF, 3, -INF], [-INF, 2.5], [0.5, 0.25]]


@each_axis
@pytest.mark.parametrize("x", HARD, ids=str)
@each_dtype
def test_hard_rows_against_mpmath(dtype, x, axis):
    rows = np.array([[*x, *[-INF] * (40 - len(x))]] * 40, dtype)
    there = rows[0, rows[0] != -INF]
    true = logs.row(logs.mp_entropy, there)
    assert_entropies(entropy(turned(rows, axis), axis=axis)[3:4], true)
    dx = turned(entropy_vjp(turned(rows, axis), np.ones(40, dtype), axis=axis), axis)[3]
    assert (dx[rows[0] == -INF] == 0).all()
    expected = logs.row(logs.mp_entropy_vjp, there)
    smallest = float(errors.info(dtype).smallest_normal)
    if np.abs(expected).max() >= smallest:
        assert errors.row_error(dx[rows[0] != -INF], expected) <= errors.bound(dtype)
    else:
        assert np.abs(dx.astype(float)).max() <= smallest


@each_dtype
def test_equal_logits(dtype):
    """log n, and no gradient at all."""
    for n in (1, 2, 7, 64, 1000):
        for value in (0.0, -3.25, 1000.0):
            x = np.full((3, n), value, dtype)
            np.testing.assert_array_equal(entropy(x), dtype.type(np.log(n)))
            np.testing.assert_array_equal(entropy_vjp(x, np.ones(3, dtype)), 0)


def test_scipy_agrees():
    x = 3 * cases.numbers(210, "x").reshape(5, 6, 7)
    for axis in (0, 1, -1, (0, 2), None):
        np.testing.assert_allclose(logsumexp(x, axis=axis), scipy.special.logsumexp(x, axis=axis), rtol=1e-14)
    for axis in (0, 1, -1):
        np.testing.assert_allclose(
            entropy(x, axis=axis), scipy.stats.entropy(softmax(x, axis=axis), axis=axis), rtol=1e-13
        )


# --- −inf, NaN and nothing ---------------------------------------------------------------------------


@each_axis
@each_dtype
def test_minus_infinity_and_underflow_are_no_nan(dtype, axis):
    """−(p·log p) and its gradient are NaN here."""
    x = np.zeros((40, 40), dtype)
    x[:, 10:20], x[:, 20:] = -INF, -60000
    h = entropy(turned(x, axis), axis=axis)
    np.testing.assert_array_equal(h, dtype.type(np.log(10)))
    x[:, 0] = 1
    dx = turned(entropy_vjp(turned(x, axis), np.ones(40, dtype), axis=axis), axis)
    assert (dx[:, 10:] == 0).all()
    assert_vjp("entropy", dx, x, np.ones(40, dtype))


@each_axis
@each_dtype
@each
def test_nan_stays_in_its_row(name, dtype, axis):
    function, vjp, *_ = BOTH[name]
    x = np.zeros((40, 40), dtype)
    x[3, 5], x[8, 39], x[8, 2], x[9, 0], x[10, 3:5] = NAN, NAN, INF, INF, (INF, -INF)
    found = function(turned(x, axis), axis=axis).astype(float)
    assert np.isnan(found[[3, 8]]).all()
    if name == "logsumexp":
        assert (found[[9, 10]] == INF).all()
    else:
        assert np.isnan(found[[9, 10]]).all()
    others = np.delete(np.arange(40), [3, 8, 9, 10])
    np.testing.assert_array_equal(found[others], float(dtype.type(np.log(40))))
    dx = turned(vjp(turned(x, axis), np.ones(40, dtype), axis=axis), axis)
    assert np.isnan(dx[[3, 8, 9, 10]]).all()
    assert np.isfinite(dx[others].astype(float)).all()
    where = np.isfinite(x.astype(float))
    assert np.isfinite(function(turned(x, axis), axis=axis, where=turned(where, axis)).astype(float)).all()


@each_axis
@each_dtype
@each
def test_an_empty_row(name, dtype, axis):
    function, vjp, *_ = BOTH[name]
    x, dy = np.zeros((40, 40), dtype), np.ones(40, dtype)
    x[5], dy[5] = -INF, dtype.type(NAN)
    where = np.full(x.shape, True)
    where[6] = False
    found = function(turned(x, axis), axis=axis, where=turned(where, axis))
    np.testing.assert_array_equal(found[[5, 6]], REDUCTIONS[name].of_nothing)
    dx = turned(vjp(turned(x, axis), dy, axis=axis, where=turned(where, axis)), axis)
    np.testing.assert_array_equal(dx[[5, 6]], 0)
    assert np.isfinite(np.delete(found, [5, 6]).astype(float)).all()


@each
def test_an_axis_of_length_0(name):
    function, vjp, *_ = BOTH[name]
    x = np.empty((3, 0), np.float32)
    np.testing.assert_array_equal(function(x), np.full(3, REDUCTIONS[name].of_nothing))
    assert function(x, axis=0).shape == (0,)
    assert vjp(x, np.ones(3, np.float32)).shape == (3, 0)
    np.testing.assert_array_equal(function(x, axis=None), REDUCTIONS[name].of_nothing)


@each_dtype
def test_logits_of_any_size(dtype):
    largest = float(errors.info(dtype).max)
    rows = np.array([[largest, largest, -largest], [-largest] * 3], dtype)
    np.testing.assert_array_equal(logsumexp(rows), [largest, -largest])
    assert_entropies(entropy(rows), np.log(oracle.WIDE([2, 3])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_entropies(entropy(rows, scale=-2.0), np.log(oracle.WIDE([1, 3])))
        entropy_vjp(rows, rows[:, 0])
        assert logsumexp(np.array([1e308] * 2), scale=10) == INF


# --- options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 0.5, -1.0, 1 / np.sqrt(96), -3.7, 2.0**-60, 1e-30])
@each_dtype
@each
def test_scale(name, dtype, scale):
    function, vjp, true, _ = BOTH[name]
    x, dy = cases.logits(100, dtype), gradients(len(cases.logits(100, dtype)), dtype)
    ASSERT[name](function(x, scale=scale), true(x, scale=scale))
    assert_vjp(name, vjp(x, dy, scale=scale), x, dy, scale=scale)


@pytest.mark.parametrize("sign", [1, -1])
@each_axis
@each_dtype
@each
def test_scale_times_dy_may_overflow(name, dtype, axis, sign):
    """dx is finite where it is in exact arithmetic: p is 0, or as small as scale·dy is large."""
    large, scale = {"float64": (1e300, 1e20), "float16": (6e4, 1e38)}.get(str(dtype), (1e30, 1e38))
    far = [-700, -300, -40] if dtype == FLOAT64 else [-100, -80, -20]
    rows = [[0, *(t / scale for t in far), -1], [0, 0, -1, -1, -1], [0, 0, 0, -1, -INF]]
    x, dy = sign * np.array(rows).astype(dtype), np.array([large, -large, 1 / large]).astype(dtype)
    true, allowed = vjp_allowed(name, x, dy, scale=sign * scale)
    lost = np.abs(true) > float(errors.info(dtype).max)
    for out in (None, turned(x.copy(), axis)):
        given = turned(x, axis) if out is None else out
        dx = turned(BOTH[name][1](given, dy, axis=axis, scale=sign * scale, out=out), axis)
        np.testing.assert_array_equal(dx[lost], np.copysign(INF, true[lost]).astype(dtype))
        assert_within(dx[~lost], true[~lost], allowed[~lost])


@each_axis
@each_dtype
@each
def test_where(name, dtype, axis):
    function, vjp, true, _ = BOTH[name]
    x = cases.logits(37, dtype)
    where = cases.numbers(x.size, "where").reshape(x.shape) > 0.3
    where[:2] = where[:, :2] = True
    junk = np.where(where, x, dtype.type(NAN))
    ASSERT[name](function(junk, axis=axis, where=where), true(x, axis, where=where))
    dy = gradients(x.shape[axis ^ 1] if axis == 0 else len(x), dtype)
    dx = vjp(junk, dy, axis=axis, where=where)
    assert (dx[~where] == 0).all()
    assert_vjp(name, dx, x, dy, axis, where=where)


SHAPE = (7, 5, 40)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (2, 0), (1, 2), None, ()])
@each
def test_axes(name, axis, keepdims):
    function, vjp, true, _ = BOTH[name]
    x = cases.numbers(1400, "x").reshape(SHAPE).astype(np.float32)
    expected = np.asarray(true(x, axis))
    shape = np.sum(x, axis=axis, keepdims=keepdims).shape
    for given in (
        x,
        np.asfortranarray(x),
        x[::-1, :, ::-1][::-1, :, ::-1],
        np.repeat(x, 2, axis=2)[..., ::2],
    ):
        found = function(given, axis=axis, keepdims=keepdims)
        assert found.shape == shape
        ASSERT[name](found.reshape(expected.shape), expected)
        dy = gradients(expected.shape, np.float32)
        dx = vjp(given, dy.reshape(shape), axis=axis)
        assert_vjp(name, dx, x, dy, axis)


@each
def test_broadcast_and_byte_swapped_logits(name):
    function, vjp, true, _ = BOTH[name]
    x = np.broadcast_to(cases.numbers(40, "x"), (3, 40))
    ASSERT[name](function(x), true(x))
    np.testing.assert_array_equal(function(x.astype(">f8")), function(x))
    np.testing.assert_array_equal(vjp(x, np.broadcast_to(2.0, 3)), vjp(x.copy(), np.full(3, 2.0)))
    whole = np.round(x).astype(np.int8)
    np.testing.assert_array_equal(function(whole), function(np.round(x)))


@each_dtype
@each
def test_out(name, dtype):
    function, vjp, *_ = BOTH[name]
    x = cases.logits(37, dtype).copy()
    dy = gradients(len(x), dtype)
    for axis in (-1, 0, None):
        expected = function(x, axis=axis)
        for out in (np.empty(expected.shape, dtype), np.empty((*expected.shape, 3), dtype)[..., 1]):
            assert function(x, axis=axis, out=out) is out
            ASSERT[name](out, expected.astype(oracle.WIDE))
    expected = vjp(x, dy)
    assert vjp(x, dy, out=x) is x
    np.testing.assert_array_equal(x, expected)


@each
def test_what_is_refused(name):
    function, vjp, *_ = BOTH[name]
    x = np.zeros((4, 5))
    for shape in ((5,), (4, 5), (1, 4), (), (1,)):
        with pytest.raises(ValueError, match=r"dy has shape .*one number for each row.*\(4,\) or \(4, 1\)"):
            vjp(x, np.zeros(shape))
    with pytest.raises(ValueError, match="out has shape"):
        function(x, out=np.empty((4, 1)))
    with pytest.raises(ValueError, match="out overlaps x"):
        function(x, out=x[:, 0])
    with pytest.raises(TypeError, match="x has dtype bool"):
        function([True])
    with pytest.raises(TypeError, match="out has dtype"):
        vjp(x, np.zeros(4), out=np.zeros((4, 5), np.float32))
    with pytest.raises(np.exceptions.AxisError):
        function(x, axis=2)
    with pytest.raises(ValueError, match="scale"):
        function(x, scale=INF)


@each
def test_a_number(name):
    function, vjp, *_ = BOTH[name]
    assert function(3.0) == (3 if name == "logsumexp" else 0)
    assert vjp(3.0, 2.0) == (2 if name == "logsumexp" else 0)
    assert function(np.float16(3)).dtype == np.float16
    assert vjp(np.float32([1, 2]), 1.0).dtype == np.float64  # as NumPy promotes


@pytest.mark.parametrize("keepdims", [False, True])
def test_with_vjp(keepdims):
    x = cases.logits(33, FLOAT32)
    options = {"axis": 0, "where": x > -1, "scale": 0.5}
    dy = gradients(33, FLOAT32)
    for function, vjp, both in (
        (logsumexp, logsumexp_vjp, logsumexp_with_vjp),
        (entropy, entropy_vjp, entropy_with_vjp),
    ):
        result, pullback = both(x, keepdims=keepdims, **options)
        np.testing.assert_array_equal(result, function(x, keepdims=keepdims, **options))
        out = np.empty_like(x)
        assert pullback(dy.reshape(result.shape), out=out) is out
        np.testing.assert_array_equal(out, vjp(x, dy, **options))


# --- derivatives, and wrong ones ---------------------------------------------------------------------


@each
def test_the_vjp_is_the_derivative(name):
    function, vjp, *_ = BOTH[name]
    x, direction = (cases.numbers(120, key).reshape(4, 30) for key in ("x", "t"))
    dy = gradients(4, FLOAT64)
    h = 2.0**-9
    near, far = (
        (dy * (function(x + k * h * direction) - function(x - k * h * direction))).sum() for k in (1, 2)
    )
    dx = vjp(x, dy)
    size = np.linalg.norm(dx) * np.linalg.norm(direction)
    assert abs((dx * direction).sum() - (8 * near - far) / (12 * h)) <= 1e-8 * size


def wide(formula):
    """A formula of x, dy, p, log p and H, in longdouble."""

    def vjp(x, dy, *, axis=-1):
        d = dy.astype(oracle.WIDE)[:, None]
        p, log_p, h = oracle.sums(x)[4], oracle.log_softmax(x), logs.entropy(x)[:, None]
        return formula(p, np.where(p == 0, 0, log_p), h, d).astype(x.dtype)

    return vjp


WRONG = {
    "logsumexp": {
        "zeros": lambda p, log_p, h, d: 0 * p,
        "dy alone": lambda p, log_p, h, d: d + 0 * p,
        "no dy": lambda p, log_p, h, d: p,
        "uniform": lambda p, log_p, h, d: d / p.shape[-1] + 0 * p,
        "p squared": lambda p, log_p, h, d: d * p * p,
    },
    "entropy": {
        "zeros": lambda p, log_p, h, d: 0 * p,
        "sign": lambda p, log_p, h, d: d * p * (log_p + h),
        "no H": lambda p, log_p, h, d: -d * p * log_p,
        "by p": lambda p, log_p, h, d: -d * (log_p + 1),
        "no p": lambda p, log_p, h, d: -d * (log_p + h),
        "minus H": lambda p, log_p, h, d: -d * p * (log_p - h),
        "in bits": lambda p, log_p, h, d: -d * p * (log_p + h) / np.log(oracle.WIDE(2)),
        "no dy": lambda p, log_p, h, d: -p * (log_p + h),
    },
}


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name in WRONG for wrong in WRONG[name]])
@each_dtype
def test_wrong_gradients_are_rejected(dtype, name, wrong):
    with pytest.raises(AssertionError):
        check_vjp(name, wide(WRONG[name][wrong]), dtype, 33)


def test_right_gradients_pass():
    check_vjp("logsumexp", wide(lambda p, log_p, h, d: d * p), FLOAT32, 33)
    check_vjp("entropy", wide(lambda p, log_p, h, d: -d * p * (log_p + h)), FLOAT32, 33)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_the_usual_entropy_is_not_enough(dtype):
    """−Σ p·log p: NaN at underflow, and no digit where one p is nearly 1."""
    with np.errstate(all="ignore"):
        p = softmax(np.array([[0, -2000]], dtype))
        assert np.isnan(-(p * np.log(p)).sum())
        x = np.array([[40, 0, 1]], dtype)
        p = formulas.logsumexp_vjp(x, np.ones(1, dtype), np)
        usual = -(p * np.log(p)).sum(-1)
    with pytest.raises(AssertionError):
        assert_entropies(usual, logs.entropy(x))


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_the_usual_logsumexp_vjp_is_not_enough(dtype):
    """exp(x − result), the result rounded."""
    with pytest.raises(AssertionError):
        check_vjp(
            "logsumexp", lambda x, dy, axis: dy[:, None] * np.exp(x - logsumexp(x, keepdims=True)), dtype, 33
        )


def test_the_formulas_are_right():
    x, dy = cases.logits(33, FLOAT64), gradients(36, FLOAT64)
    assert off_by(formulas.logsumexp(x, np), logsumexp(x), ()) <= 2
    assert off_by(formulas.logsumexp_vjp(x, dy, np), logsumexp_vjp(x, dy)) <= 3
    # log S is that of 1 + the others, which is rounded
    assert errors.ulps_above_1(formulas.entropy(x, np), entropy(x).astype(oracle.WIDE)).max() <= 3
    assert off_by(formulas.entropy_vjp(x, dy, np), entropy_vjp(x, dy)) <= 5
