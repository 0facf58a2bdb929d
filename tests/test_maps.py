"""What is true of every map of the family, from its row of the table alone: map × function × dtype × kind of
input.  What is particular to one map has a file of its own.
"""

import inspect
import itertools
import math
import types
from dataclasses import replace

import numpy as np
import pytest

import softgrad
from softgrad import testing
from softgrad.specs import MAPS, REDUCTIONS
from softgrad.testing import again, cases, errors, oracle, properties, verdicts

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
        alone = ("mean", "return_mean") if row.name != "softmax" else ()  # softmax's vjp alone takes them
        model = model.replace(parameters=[p for p in model.parameters.values() if p.name not in alone])
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
    for options in (
        {},
        {"axis": 1, "where": x > -1, "scale": 0.5},
        {"axis": (0, 2), "scale": 0.125},
        {"axis": None, "where": x > 0},
        {"axis": 0, "where": x[:1] > 0},
    ):
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
        for forward in (lambda x, o=options, **out: f.with_vjp(x, **o, **out)[0], f.layer(**options).forward):
            out = np.empty_like(x)
            assert forward(x, out=out) is out
            np.testing.assert_array_equal(out, f.forward(x, **options))
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
    assert (
        functions.forward(x, where=False) == functions.forward(dtype.type(np.nan), where=False) == row.absent
    )
    assert functions.vjp(y, dtype.type(np.nan), where=False) == 0

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
    "double-backward": testing.check_double_backward,
}
every_function = pytest.mark.parametrize(("name", "what"), [(name, what) for name in MAPS for what in CHECKS])


def function_of(name, what):
    return getattr(face(MAPS[name]), what.removesuffix("-backward"))


@every_function
@each_dtype
def test_every_check(dtype, name, what):
    """All that `softgrad.testing` knows: rows, columns, the first axis of three and the last.  That a check
    rejects what is wrong is shown by test_mutants.py, test_testing.py and test_log_softmax.py."""
    CHECKS[what](function_of(name, what), map=name, level="tight", dtypes=[dtype], axis=(0, 2))


# a page and 3 more, several parts of a row, what no cache holds; of entmax test_entmax.py has the last two
LONG = {"softmax": (4099, 131_073, 300_000), "log_softmax": (4099, 131_073, 300_000)}


@every_function
@each_dtype
def test_long_rows(dtype, name, what):
    """And long columns."""
    for n in LONG.get(name, (4099,))[: 1 if what == "double-backward" else None]:
        case = again(what, "contract", map=name, level="tight", dtype=dtype, n=n)
        for axis in (-1, 0):
            verdict = replace(case, axis=axis).verdict(function_of(name, what))
            assert verdict.passed, (n, axis, verdict)
    if what in ("forward", "double-backward"):
        properties.drawn.cache_clear()  # some of these are large; of a vjp they are a jvp's as well


# axes, and the shape of an array of 12 rows along them, or of one
AXES = [
    (0, (12, 3, 4)),
    (1, (3, 12, 4)),
    (-2, (3, 12, 4)),
    (2, (3, 4, 12)),
    ((0, 1), (3, 4, 12)),
    ((-1, 1), (12, 4, 3)),
    ((2, 0), (3, 12, 4)),
    ((0, 1, 2), (3, 1, 4)),
    (None, (3, 1, 4)),
    ((), (3, 1, 4)),
]


def order_of(axis):
    """The axes that are left of three, and then those that are reduced."""
    axes = [int(a) % 3 for a in (range(3) if axis is None else np.atleast_1d(axis))]
    return [a for a in range(3) if a not in axes], axes


def of_rows(function, axis, shape):
    """A function of arrays of this shape along these axes, as one of rows."""
    kept, axes = order_of(axis)
    order = kept + axes

    def laid_out(*rows):
        arrays = [a.reshape([shape[i] for i in order]).transpose(np.argsort(order)).copy() for a in rows]
        found = function(*arrays, axis=axis)
        found = found if isinstance(found, tuple) else (found,)
        found = tuple(a.transpose(order).reshape(rows[0].shape) for a in found)
        return found if len(found) > 1 else found[0]

    return laid_out


def case_along(axis, shape, what, check, **options):
    n = math.prod(shape[a] for a in order_of(axis)[1])
    case = again(what, check, level="tight", n=n, **options)
    return case.only(0) if n == math.prod(shape) else case


@every_function
@each_dtype
def test_axes(dtype, name, what):
    for axis, shape in AXES:
        case = case_along(axis, shape, what, "same twice", map=name, dtype=dtype)
        verdict = verdicts.within(case, of_rows(function_of(name, what), axis, shape))
        assert verdict.passed, (axis, verdict)


def masking(function, absent, junk):
    """A function that is told by a mask what is absent in its first array, where there is junk in all."""

    def masked(*arrays, axis):
        where = arrays[0] != absent
        return function(*(np.where(where, a, a.dtype.type(junk)) for a in arrays), axis=axis, where=where)

    return masked


@pytest.mark.parametrize("what", ["forward", "vjp", "jvp"])
@each_map
@each_dtype
def test_a_mask(dtype, row, what):
    """Where it is False there is nothing, whatever is there; the rest is within the contract."""
    absent = -np.inf if what == "forward" else row.absent
    for axis, shape in [*AXES, (-1, (4, 3, 100)), (0, (100, 3, 4))]:
        case = case_along(axis, shape, what, "masked entries", map=row.name, dtype=dtype)
        found = []
        for junk in (np.nan, np.inf, -np.inf, 6e4):
            function = of_rows(masking(function_of(row.name, what), absent, junk), axis, shape)
            found.append(function(*case.arguments))
            np.testing.assert_array_equal(found[-1], found[0])
        with np.errstate(invalid="ignore"):  # −inf less −inf
            verdict = case.verdict(lambda *rows, result=found[0]: result)
        assert verdict.passed, (axis, verdict)


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
    assert gap <= errors.bound(dtype) * errors.eps(dtype) * slack


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


def check_double_backward(row, double, axis, scale=0.7):
    """Its first result is the derivative of ⟨v, vjp⟩ along x, its second the one along dy."""
    f, (dy, v, u) = face(row), arrays("dy", "v", "u")
    x, t, step = smooth(row, axis=axis, scale=scale)

    def product(h):
        y = f.forward(x + h * t, axis=axis, scale=scale)
        return (v * f.vjp(y, dy, axis=axis, scale=scale)).sum()

    y = f.forward(x, axis=axis, scale=scale)
    grad_x, grad_dy = double(y, dy, v, axis=axis, scale=scale)
    expected = slope(product, step)
    assert abs(expected) > 1e-4 * np.linalg.norm(grad_x) * np.linalg.norm(t) or row.name == "sparsemax"
    size = np.linalg.norm(v) * np.linalg.norm(dy) * np.linalg.norm(t)  # sparsemax has a grad_x of 0
    assert abs((grad_x * t).sum() - expected) <= 1e-10 * size
    other = (v * f.vjp(y, u, axis=axis, scale=scale)).sum()
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
    for scale in (1.0, 0.7, -1.3):
        check_double_backward(row, face(row).double, axis, scale)


@each_map
@each_dtype
def test_a_number_added_to_all_logits_changes_nothing(row, dtype):
    f, (x, dy) = face(row), arrays("x", "dy", dtype=dtype)
    x = np.round(2 * x)
    y = f.forward(x)
    np.testing.assert_array_equal(f.forward(x + dtype.type(64)), y)
    dx = f.vjp(y, dy)
    left = np.abs(dx.astype(oracle.WIDE).sum(axis=-1))
    assert (left <= errors.bound(dtype) * errors.eps(dtype) * 3 * errors.norm(dx)).all()


@each_map
@pytest.mark.parametrize("scale", [0.0, 1.0, -0.75, 2.0**-30])
@each_dtype
def test_vjp_and_jvp_are_proportional_to_the_scale(row, dtype, scale):
    f, (x, dy) = face(row), arrays("x", "dy", dtype=dtype)
    y = f.forward(x)
    for product in (f.vjp, f.jvp):
        expected = product(y, dy).astype(oracle.WIDE) * scale
        assert errors.row_error(product(y, dy, scale=scale), expected).max() <= 1


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


def turned(axis, n, *keys, dtype):
    """20 rows of n numbers, and what makes columns of them for axis 0, and rows again."""
    turn = (lambda a: a) if axis else (lambda a: np.ascontiguousarray(a.T))
    return turn, *arrays(*keys, dtype=dtype, shape=(20, n))


@each_map
@each_dtype
@last_and_first
@pytest.mark.parametrize("masked", [False, True])
def test_an_empty_row_among_others(row, dtype, axis, masked):
    f, there, gone = face(row), np.delete(np.arange(20), [4, 17]), [4, 17]
    for n in (1, 3, 40):
        turn, x, dy = turned(axis, n, "x", "dy", dtype=dtype)
        options = {"axis": axis}
        x[gone] = np.nan if masked else -np.inf
        if masked:
            where = np.full(x.shape, True)
            where[gone] = False
            options["where"] = turn(where)
        y, nans = (turn(f.forward(turn(x), **options, empty=empty)) for empty in ("zero", "nan"))
        assert (y[gone] == row.absent).all()
        assert np.isnan(nans[gone]).all()
        np.testing.assert_array_equal(y[there], nans[there])
        assert support(row, y)[there].any(axis=1).all()
        assert (turn(f.vjp(turn(y), turn(dy), axis=axis))[gone] == 0).all()
        assert np.isnan(turn(f.vjp(turn(nans), turn(dy), axis=axis))[gone]).all()
        out = np.full_like(turn(x), 7)
        with pytest.raises(ValueError, match="empty='zero'"):
            f.forward(turn(x), **options, empty="raise", out=out)
        assert (out == 7).all()


SPOILT = np.array(
    [
        [np.inf, 1, 2],
        [1, np.inf, np.inf],
        [np.inf, -np.inf, 0],
        [np.inf] * 3,
        [np.nan, 1, 2],
        [np.inf, np.nan, 0],
    ]
)


@each_map
@each_dtype
@last_and_first
def test_nan_and_infinity_make_their_row_nan_and_no_other(row, dtype, axis):
    f, bad = face(row), [1, 4, 7, 10, 13, 16, 19]
    there = np.delete(np.arange(20), bad)
    for n in (3, 40):
        turn, x, dy = turned(axis, n, "x", "dy", dtype=dtype)
        spoilt = x.copy()
        spoilt[bad[:6], :3], spoilt[19, -1] = SPOILT, np.nan
        y = turn(f.forward(turn(x), axis=axis))
        found = turn(f.forward(turn(spoilt), axis=axis))
        assert np.isnan(found[bad]).all()
        np.testing.assert_array_equal(found[there], y[there])
        dx = turn(f.vjp(turn(y), turn(dy), axis=axis))
        assert np.isnan(turn(f.vjp(turn(found), turn(dy), axis=axis))[bad]).all()
        spoilt = dy.copy()
        spoilt[bad, [0, -1, 1, 0, -1, 1, -1]] = [np.nan, np.nan, np.nan, np.inf, np.inf, -np.inf, -np.inf]
        found = turn(f.vjp(turn(y), turn(spoilt), axis=axis))
        assert np.isnan(found[bad]).any(axis=1).all()
        # those that share a tile with such a row may be computed more carefully
        gap = errors.norm(found[there].astype(oracle.WIDE) - dx[there].astype(oracle.WIDE))
        assert (gap <= 2 * errors.bound(dtype) * errors.eps(dtype) * errors.norm(dx[there])).all()


@each_map
@each_dtype
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        (SHAPE, (-1, 0, 1, (0, 2), None)),
        ((36, 5), (-1, 0, None)),
        ((36, 37), (-1, 0, None)),
        ((36, 1000), (-1, 0, None)),
        ((2, 140_000), (-1,)),
    ],
    ids=str,
)
def test_out_aliases_and_read_only_inputs(row, dtype, shape, axes):
    f, (x, dy) = face(row), [cases.read_only(a) for a in arrays("x", "dy", dtype=dtype, shape=shape)]
    for axis in axes:
        y = f.forward(x, axis=axis)
        for result, function, given in (
            (y, f.forward, [x]),
            (f.vjp(y, dy, axis=axis), f.vjp, [y, dy]),
            (f.jvp(y, dy, axis=axis), f.jvp, [y, dy]),
        ):
            room = np.full((*shape[:-1], 2 * shape[-1]), 7, dtype)
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
@each_dtype
@pytest.mark.parametrize("shape", [(40, 7), (5, 100), (1, 300), (33, 64), (3, 1), (70, 37)], ids=str)
def test_however_the_rows_lie(row, dtype, shape):
    """Along the last axis or another, in any order: each row within the bounds of what it is alone."""
    f, (x, dy) = face(row), arrays("x", "dy", dtype=dtype, shape=shape)
    y = f.forward(x)
    dx = f.vjp(y, dy)
    ways = [
        lambda a: a[::-1].copy()[::-1],
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        np.asfortranarray,
    ]
    if dtype.kind == "f":  # of bfloat16 there are no others
        ways.append(lambda a: a.astype(a.dtype.newbyteorder()))
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
    assert errors.row_error(found, known).max() <= 2 * errors.bound(found.dtype)


@each_map
@each_dtype
def test_nothing_in_nothing_out(row, dtype):
    f = face(row)
    for shape, axis in itertools.product([(3, 0), (0, 3), (0,), (2, 0, 3)], (-1, 0, None)):
        x = np.empty(shape, dtype)
        results = [f.forward(x, axis=axis), f.vjp(x, x, axis=axis), f.jvp(x, x, axis=axis)]
        results += [*f.double(x, x, x, axis=axis), f.with_vjp(x, axis=axis)[0]]
        assert all(r.shape == shape and r.dtype == dtype for r in results)


@each_map
@each_dtype
def test_a_single_element(row, dtype):
    """It is all there is, whatever it is: y does not depend on it."""
    f = face(row)
    for shape, value in itertools.product([(1,), (3, 1), (40, 1), (1, 1, 1), ()], (0, -3.5, 6e4)):
        x = np.full(shape, value, dtype)
        y = f.forward(x)
        np.testing.assert_array_equal(y, np.full(shape, 0 if row.absent else 1))
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
