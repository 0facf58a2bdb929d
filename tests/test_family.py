"""What is true of every map of the family, from its row of the table alone."""

import inspect
import types

import numpy as np
import pytest

import softgrad
from softgrad import testing
from softgrad.family import MAPS, REDUCTIONS
from softgrad.testing import cases, measures, oracle

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
SHAPE = 6, 5, 9

each_map = pytest.mark.parametrize("row", MAPS.values(), ids=MAPS)
each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
each_axis = pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), None], ids=str)
last_and_first = pytest.mark.parametrize("axis", [-1, 0])


def face(row):
    """The public functions of a map, and its layer."""
    names = {
        "forward": "",
        "vjp": "_vjp",
        "jvp": "_jvp",
        "double": "_double_backward",
        "with_vjp": "_with_vjp",
    }
    functions = {short: getattr(softgrad, row.name + ending) for short, ending in names.items()}
    return types.SimpleNamespace(**functions, layer=getattr(softgrad, row.layer))


def arrays(*keys, dtype=FLOAT64, shape=SHAPE):
    """Numbers from N(0, 1); what is called x lies closer, so that more of it is in a support."""
    size = int(np.prod(shape))
    found = [cases.numbers(size, key).reshape(shape) / (2 if key.startswith("x") else 1) for key in keys]
    return [a.astype(dtype) for a in found]


def wide_inner(a, b):
    return (a.astype(oracle.WIDE) * b.astype(oracle.WIDE)).sum()


def wide_norm(a):
    return np.sqrt(wide_inner(a, a))


# --- the face ----------------------------------------------------------------------------------------


@each_map
def test_every_map_has_the_same_face(row):
    """The functions take what softmax's take, and the parameters of the row after the arrays."""
    for short, function in vars(face(row)).items():
        model = inspect.signature(getattr(face(MAPS["softmax"]), short))
        expected = list(model.parameters)
        front = [name for name in expected if model.parameters[name].kind.name == "POSITIONAL_OR_KEYWORD"]
        front = [name for name in front if name != "axis"]
        expected[len(front) : len(front)] = row.parameters
        found = inspect.signature(function)
        assert list(found.parameters) == expected, short
        for name, parameter in model.parameters.items():
            assert found.parameters[name].kind == parameter.kind, (short, name)
            assert found.parameters[name].default == parameter.default, (short, name)
        assert function.__name__ in softgrad.__all__
        assert function.__doc__


@each_map
def test_the_layer_and_with_vjp_give_what_the_functions_give(row):
    f, (x, dy) = face(row), arrays("x", "dy")
    options = {"axis": 1, "where": x > -1, "scale": 0.5}
    y = f.forward(x, **options, empty="nan")
    dx = f.vjp(y, dy, **options)
    found, vjp = f.with_vjp(x, **options, empty="nan")
    layer = f.layer(**options, empty="nan")
    for one, back in ((found, vjp), (layer.forward(x), layer.backward)):
        np.testing.assert_array_equal(one, y)
        np.testing.assert_array_equal(back(dy), dx)
        out = np.empty_like(dx)
        assert back(dy, out=out) is out
        np.testing.assert_array_equal(out, dx)
    with pytest.raises(RuntimeError, match=f"{row.layer}.backward"):
        f.layer().backward(dy)


@each_map
@each_dtype
def test_a_number_gives_a_scalar_as_functions_of_numpy_do(row, dtype):
    functions, x = face(row), dtype.type(-1) if row.absent else dtype.type(1)
    y, vjp = functions.with_vjp(x)
    layer = functions.layer()
    for result in [
        *[functions.forward(given) for given in (x, np.array(x))],
        *[y, vjp(x), vjp(np.array(x)), layer.forward(x), layer.backward(x)],
        *[function(y, x) for function in (functions.vjp, functions.jvp)],
        *functions.double(y, x, x),
    ]:
        assert type(result) is dtype.type
    assert y == (0 if row.absent else 1)

    out = np.empty((), dtype)
    assert functions.forward(x, out=out) is out
    assert out == y
    for function in (functions.vjp, functions.jvp):
        assert function(y, x, out=out) is out
    assert vjp(x, out=out) is out
    assert layer.forward(x, out=out) is out
    assert layer.backward(x, out=out) is out
    assert functions.with_vjp(x, out=out)[0] is out


@pytest.mark.parametrize("row", REDUCTIONS.values(), ids=REDUCTIONS)
@each_dtype
def test_a_reduction_of_all_axes_gives_a_scalar(row, dtype):
    forward, vjp, with_vjp = (getattr(softgrad, row.name + ending) for ending in ("", "_vjp", "_with_vjp"))
    for x, axis in [(arrays("x", dtype=dtype)[0], None), (np.ones(3, dtype), -1), (dtype.type(1), -1)]:
        out, dy = np.empty((), dtype), dtype.type(1)
        for result in (forward(x, axis=axis), with_vjp(x, axis=axis)[0]):
            assert type(result) is dtype.type
        assert forward(x, axis=axis, out=out) is out
        assert with_vjp(x, axis=axis, out=out)[0] is out
        assert vjp(x, dy, axis=axis).shape == x.shape
    assert type(vjp(x, dy)) is type(with_vjp(x)[1](dy)) is dtype.type
    assert vjp(x, dy, out=out) is out
    assert type(forward(np.empty((0,), dtype))) is dtype.type
    assert forward(np.ones((1, 3), dtype)).shape == (1,)
    assert forward(np.ones(3, dtype), keepdims=True).shape == (1,)


# --- the checks of softgrad.testing ------------------------------------------------------------------

CHECKS = {
    "forward": testing.check_forward,
    "vjp": testing.check_vjp,
    "jvp": testing.check_jvp,
    "double": testing.check_double_backward,
}


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("name", [name for name in MAPS if name != "softmax"])
@each_dtype
def test_every_check(dtype, name, what):
    """For softmax see its own tests."""
    function = getattr(face(MAPS[name]), what)
    CHECKS[what](function, map=name, level="tight", dtypes=[dtype], axis=(-1, 0, 1))


# --- derivatives -------------------------------------------------------------------------------------


def support(row, y):
    return np.isfinite(y) & (y != row.absent)


def smooth(row, **options):
    """x and a direction in which no element comes into the support or leaves it, and the step."""
    step = 2.0**-9
    for attempt in range(100):
        x, t = arrays(f"x{attempt}", f"t{attempt}")
        there = [support(row, face(row).forward(x + k * step * t, **options)) for k in (-2, -1, 0, 1, 2)]
        if all((there[0] == s).all() for s in there):
            return x, t, step
    raise AssertionError("no smooth place was found")


def slope(function, step):
    """dfunction/dh at 0 by central differences, extrapolated to order 4."""
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def check_adjoint(row, vjp, jvp, dtype, axis):
    """⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩, up to what the contract allows each product."""
    x, u, v = arrays("x", "u", "v", dtype=dtype)
    y = face(row).forward(x, axis=axis)
    v = (u + 1.25 + v / 4).astype(dtype)
    dx, dy = vjp(y, u, axis=axis), jvp(y, v, axis=axis)
    slack = wide_norm(v) * wide_norm(dx) + wide_norm(u) * wide_norm(dy)
    gap = abs(wide_inner(v, dx) - wide_inner(dy, u))
    assert gap <= measures.bound(dtype) * measures.eps(dtype) * slack


def check_derivative(row, vjp, axis):
    """vjp is the adjoint of what the map does when its logits are moved."""
    (dy,) = arrays("dy")
    x, t, step = smooth(row, axis=axis, scale=-1.3)

    def product(h):
        y = face(row).forward(x + h * t, axis=axis, scale=-1.3)
        return (dy * y).sum(where=np.isfinite(y))

    dx = vjp(face(row).forward(x, axis=axis, scale=-1.3), dy, axis=axis, scale=-1.3)
    size = np.linalg.norm(dx) * np.linalg.norm(t)
    assert abs(slope(product, step) - (dx * t).sum()) <= 1e-9 * size
    assert size > 0


def check_double_backward(row, double, axis):
    """Its first result is the derivative of ⟨v, vjp⟩ along x, its second the one along dy."""
    f, (dy, v, u) = face(row), arrays("dy", "v", "u")
    x, t, step = smooth(row, axis=axis, scale=0.7)

    def product(h):
        y = f.forward(x + h * t, axis=axis, scale=0.7)
        return (v * f.vjp(y, dy, axis=axis, scale=0.7)).sum()

    y = f.forward(x, axis=axis, scale=0.7)
    grad_x, grad_dy = double(y, dy, v, axis=axis, scale=0.7)
    size = np.linalg.norm(v) * np.linalg.norm(dy) * np.linalg.norm(t)  # grad_x may be 0
    assert abs((grad_x * t).sum() - slope(product, step)) <= 1e-10 * size
    other = (v * f.vjp(y, u, axis=axis, scale=0.7)).sum()
    assert abs((grad_dy * u).sum() - other) <= 1e-13 * np.linalg.norm(v) * np.linalg.norm(u)


@each_map
@last_and_first
@each_dtype
def test_vjp_and_jvp_are_adjoint(row, dtype, axis):
    check_adjoint(row, face(row).vjp, face(row).jvp, dtype, axis)


@each_map
@each_axis
def test_vjp_is_the_derivative(row, axis):
    check_derivative(row, face(row).vjp, axis)


@each_map
@each_axis
def test_double_backward_is_the_derivative_of_the_vjp(row, axis):
    check_double_backward(row, face(row).double, axis)


@each_map
@each_dtype
def test_a_number_added_to_all_logits_changes_nothing(row, dtype):
    f, (x, dy) = face(row), arrays("x", "dy", dtype=dtype)
    x = np.round(2 * x)
    y = f.forward(x)
    np.testing.assert_array_equal(f.forward(x + dtype.type(64)), y)
    dx = f.vjp(y, dy)
    left = np.abs(dx.astype(oracle.WIDE).sum(axis=-1))
    assert (left <= measures.bound(dtype) * measures.eps(dtype) * 3 * measures.norm(dx)).all()


@each_map
@pytest.mark.parametrize("scale", [0.0, 1.0, -0.75, 2.0**-30])
@each_dtype
def test_vjp_and_jvp_are_proportional_to_the_scale(row, dtype, scale):
    f, (x, dy) = face(row), arrays("x", "dy", dtype=dtype)
    y = f.forward(x)
    for product in (f.vjp, f.jvp):
        expected = product(y, dy).astype(oracle.WIDE) * scale
        assert measures.row_error(product(y, dy, scale=scale), expected).max() <= 1


# Each with one slip.
MUTANTS = {
    "zeros": lambda right, y, v, **options: 0 * right(y, v, **options),
    "identity": lambda right, y, v, **options: v,
    "sign": lambda right, y, v, **options: -right(y, v, **options),
    "times 1.25": lambda right, y, v, **options: right(y, v, **options) * v.dtype.type(1.25),
    "arguments swapped": lambda right, y, v, **options: right(np.abs(v), y, **options),
    "heaviest forgotten": lambda right, y, v, *, axis, **options: right(
        y, np.where(y == y.max(axis, keepdims=True), 0, v), axis=axis, **options
    ),
    "other place": lambda right, y, v, **options: np.roll(right(y, v, **options), 1),
}


@each_map
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_vjp_is_rejected(row, mutant):
    f = face(row)

    def wrong(y, v, **options):
        return MUTANTS[mutant](f.vjp, y, v, **options).astype(v.dtype)

    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        check_derivative(row, wrong, None)
    for dtype in cases.DTYPES:
        with np.errstate(all="ignore"), pytest.raises(AssertionError):
            check_adjoint(row, wrong, f.jvp, dtype, -1)


@each_map
@pytest.mark.parametrize("slip", ["grads exchanged", "sign", "v for dy", "scale forgotten"])
def test_a_wrong_double_backward_is_rejected(row, slip):
    double = face(row).double

    def wrong(y, dy, v, *, axis, scale):
        grad_x, grad_dy = double(y, dy, v, axis=axis, scale=1.0 if slip == "scale forgotten" else scale)
        if slip == "grads exchanged":
            return grad_dy, grad_x
        if slip == "v for dy":
            return grad_x, double(y, v, dy, axis=axis, scale=scale)[1]
        return (grad_x, -grad_dy) if slip == "sign" else (grad_x, grad_dy)

    with pytest.raises(AssertionError):
        check_double_backward(row, wrong, -1)


# --- options and arrays ------------------------------------------------------------------------------


@each_map
@each_axis
def test_a_mask_is_as_good_as_minus_infinity_and_hides_anything(row, axis):
    f, (x, dy) = face(row), arrays("x", "dy", dtype=FLOAT32)
    where = cases.numbers(x.size, "where").reshape(SHAPE) > -0.5
    y = f.forward(x, axis=axis, where=where)
    assert_near(y, f.forward(np.where(where, x, FLOAT32.type(-np.inf)), axis=axis))
    assert (y[~where] == row.absent).all()
    dx = f.vjp(y, dy, axis=axis, where=where)
    assert (dx[~where] == 0).all()
    for junk in (np.nan, np.inf, 7):
        hidden = [np.where(where, a, FLOAT32.type(junk)) for a in (x, y, dy)]
        np.testing.assert_array_equal(f.forward(hidden[0], axis=axis, where=where), y)
        np.testing.assert_array_equal(f.vjp(*hidden[1:], axis=axis, where=where), dx)


@each_map
@each_dtype
@last_and_first
@pytest.mark.parametrize("n", [3, 40])
def test_an_empty_row_among_others(row, dtype, axis, n):
    f, (x, dy) = face(row), arrays("x", "dy", dtype=dtype, shape=(20, n))
    x[[4, 17]] = -np.inf
    turn = (lambda a: a) if axis else (lambda a: np.ascontiguousarray(a.T))
    there = np.delete(np.arange(20), [4, 17])
    y, gone = (turn(f.forward(turn(x), axis=axis, empty=empty)) for empty in ("zero", "nan"))
    assert (y[[4, 17]] == row.absent).all()
    assert np.isnan(gone[[4, 17]]).all()
    np.testing.assert_array_equal(y[there], gone[there])
    assert support(row, y)[there].any(axis=1).all()
    assert (turn(f.vjp(turn(y), turn(dy), axis=axis))[[4, 17]] == 0).all()
    assert np.isnan(turn(f.vjp(turn(gone), turn(dy), axis=axis))[[4, 17]]).all()
    out = np.full_like(turn(x), 7)
    with pytest.raises(ValueError, match="empty='zero'"):
        f.forward(turn(x), axis=axis, empty="raise", out=out)
    assert (out == 7).all()


@each_map
@each_dtype
@last_and_first
@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_make_their_row_nan_and_no_other(row, dtype, axis, n, bad):
    f, (x, dy) = face(row), arrays("x", "dy", dtype=dtype, shape=(20, n))
    turn = (lambda a: a) if axis else (lambda a: np.ascontiguousarray(a.T))
    there = np.delete(np.arange(20), [4, 17])
    spoilt = x.copy()
    spoilt[4, 0] = spoilt[17, -1] = bad
    spoilt[4, 1] = -np.inf
    y = turn(f.forward(turn(x), axis=axis))
    found = turn(f.forward(turn(spoilt), axis=axis))
    assert np.isnan(found[[4, 17]]).all()
    np.testing.assert_array_equal(found[there], y[there])
    dx = turn(f.vjp(turn(y), turn(dy), axis=axis))
    assert np.isnan(turn(f.vjp(turn(found), turn(dy), axis=axis))[[4, 17]]).all()
    spoilt = dy.copy()
    spoilt[4, 0] = spoilt[17, -1] = bad
    found = turn(f.vjp(turn(y), turn(spoilt), axis=axis))
    assert np.isnan(found[[4, 17]]).any(axis=1).all()
    # those that share a tile with such a row may be computed more carefully
    gap = measures.norm(found[there].astype(oracle.WIDE) - dx[there].astype(oracle.WIDE))
    assert (gap <= 2 * measures.bound(dtype) * measures.eps(dtype) * measures.norm(dx[there])).all()


@each_map
@each_axis
def test_out_aliases_and_read_only_inputs(row, axis):
    f, (x, dy) = face(row), [cases.read_only(a) for a in arrays("x", "dy", dtype=FLOAT32)]
    y = f.forward(x, axis=axis)
    for result, function, given in (
        (y, f.forward, [x]),
        (f.vjp(y, dy, axis=axis), f.vjp, [y, dy]),
        (f.jvp(y, dy, axis=axis), f.jvp, [y, dy]),
    ):
        room = np.full((*SHAPE[:2], 2 * SHAPE[2]), 7, np.float32)
        for out in (np.full_like(x, np.nan), room[..., ::2]):
            assert function(*given, axis=axis, out=out) is out
            assert_near(out, result)
        assert (room[..., 1::2] == 7).all()
        for i in range(len(given)):
            own = [a.copy() for a in given]
            function(*own, axis=axis, out=own[i])
            np.testing.assert_array_equal(own[i], result)
        with pytest.raises(ValueError, match="read-only"):
            function(*given, axis=axis, out=x)


@each_map
@pytest.mark.parametrize("shape", [(40, 7), (5, 100), (1, 300), (33, 64), (3, 1)], ids=str)
def test_however_the_rows_lie(row, shape):
    """Along the last axis or another, in any order: each row within the bounds of what it is alone."""
    f, (x, dy) = face(row), arrays("x", "dy", dtype=FLOAT32, shape=shape)
    y = f.forward(x)
    dx = f.vjp(y, dy)
    ways = [
        lambda a: a[::-1].copy()[::-1],
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        np.asfortranarray,
    ]
    for lay in ways:
        assert_near(f.forward(lay(x)), y)
        assert_near(f.vjp(lay(y), lay(dy)), dx)
    assert_near(f.forward(np.ascontiguousarray(x.T), axis=0).T, y)
    assert_near(f.vjp(*(np.ascontiguousarray(a.T) for a in (y, dy)), axis=0).T, dx)
    stacked = f.forward(np.stack([x, x]).reshape(2, *shape, 1), axis=(2, 3))
    assert_near(stacked[1, :, :, 0], y)


def assert_near(found, expected):
    assert found.dtype == expected.dtype
    known = np.where(np.isfinite(expected), expected, 0).astype(oracle.WIDE)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    found = np.where(np.isfinite(found), found, 0).astype(found.dtype)
    assert measures.row_error(found, known).max() <= 2 * measures.bound(found.dtype)


@each_map
@each_dtype
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (2, 0, 3)], ids=str)
def test_nothing_in_nothing_out(row, dtype, shape):
    f, x = face(row), np.empty(shape, dtype)
    for axis in (-1, 0, None):
        results = [f.forward(x, axis=axis), f.vjp(x, x, axis=axis), f.jvp(x, x, axis=axis)]
        results += f.double(x, x, x, axis=axis)
        assert all(r.shape == shape and r.dtype == dtype for r in results)


@each_map
@each_dtype
def test_a_single_element(row, dtype):
    """It is all there is, whatever it is: y does not depend on it."""
    f = face(row)
    for x in (np.full((3, 1), 5, dtype), np.array(-7, dtype)):
        y = f.forward(x)
        np.testing.assert_array_equal(y, f.forward(0 * x))
        for grad in (f.vjp(y, x), f.jvp(y, x), *f.double(y, x, x)):
            assert grad.shape == x.shape
            assert (grad == 0).all()


@each_map
def test_whole_numbers_become_float64_and_dtypes_are_promoted(row):
    f = face(row)
    np.testing.assert_array_equal(f.forward([[1, 2, 4]]), f.forward(np.array([[1.0, 2.0, 4.0]])))
    y = f.forward(np.array([1.0, 2.0, 1.5], np.float32))
    assert f.vjp(y, np.array([1, 2, 3], np.float16)).dtype == np.float32
    assert f.vjp(y, [1, 2, 3]).dtype == np.float64
    with pytest.raises(ValueError, match="shape"):
        f.vjp(y, np.ones((1, 3), np.float32))
    with pytest.raises(TypeError, match="dtype bool"):
        f.forward([True, False])
