"""What is at the edges: other dtypes, odd arrays, NaN and infinity, aliases, and what is refused.

A refused call says what was given and what to do, and has written nothing.
"""

import tempfile

import ml_dtypes
import numpy as np
import pytest
from contract import assert_product

from softgrad import (
    entmax,
    entropy,
    log_softmax,
    logsumexp,
    segment_softmax,
    softmax,
    softmax_double_backward,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
    softmax_with_vjp,
    sparsemax,
)
from softgrad.testing import cases, errors, oracle

FLOAT32 = np.dtype(np.float32)
NAN, INF = np.nan, np.inf

# name: each public function as a function of one array, its other arguments being that array again
FUNCTIONS = {
    "softmax": softmax,
    "softmax_vjp": lambda y, **options: softmax_vjp(y, y, **options),
    "softmax_jvp": lambda y, **options: softmax_jvp(y, y, **options),
    "softmax_double_backward": lambda y, **options: softmax_double_backward(y, y, y, **options),
    "softmax_with_vjp": lambda x, **options: softmax_with_vjp(x, **options)[0],
    "softmax_jacobian": softmax_jacobian,
}
each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
TAKE_OUT = {name: FUNCTIONS[name] for name in ("softmax", "softmax_vjp", "softmax_jvp")}
each_with_out = pytest.mark.parametrize("function", TAKE_OUT.values(), ids=TAKE_OUT)


def assert_softmax(y, x, **options):
    """y is the softmax of x, by the oracle."""
    error = errors.ulps(y, oracle.softmax(x, **options)).max()
    assert error <= (0.51 if y.dtype.itemsize == 2 else 2)


def assert_vjp(dx, y, dy, **options):
    assert_product(dx, y, dy, **options)


# --- the table of cases in which libraries differ ----------------------------------------------------


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_minus_infinity_is_0_forwards_and_backwards(dtype):
    x = np.array([-INF, 0, 0, -INF], dtype)
    y = softmax(x)
    np.testing.assert_array_equal(y, np.array([0, 0.5, 0.5, 0], dtype))
    np.testing.assert_array_equal(softmax_vjp(y, np.array([5, 1, 2, 7], dtype)), [0, -0.25, 0.25, 0])


def test_logits_of_any_size():
    np.testing.assert_array_equal(softmax([1e308, -1e308]), [1, 0])
    np.testing.assert_array_equal(
        softmax([[1e308, 1e308, -1e308], [-1e308] * 3]), [[0.5, 0.5, 0], [1 / 3] * 3]
    )
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(softmax(np.array([largest, -largest], np.float32)), np.float32([1, 0]))
    np.testing.assert_array_equal(softmax(np.array([largest, largest], np.float32)), np.float32([0.5, 0.5]))


def test_float16_is_summed_in_something_wider():
    y, dy = np.array([0, 1], np.float16), np.array([6e4, -6e4], np.float16)
    np.testing.assert_array_equal(softmax_vjp(y, dy), np.float16([0, 0]))
    y = np.array([0.5, 0.5], np.float16)
    np.testing.assert_array_equal(softmax_vjp(y, dy), np.float16([3e4, -3e4]))
    np.testing.assert_array_equal(softmax(np.array([6e4, -6e4], np.float16)), np.float16([1, 0]))


@each_with_out
@pytest.mark.parametrize("axis", [0, -1, (0, 1), None])
def test_nothing_in_with_every_option(function, axis):
    x = np.empty((3, 0), np.float32)
    out = np.empty_like(x)
    assert function(x, axis=axis, out=out) is out
    assert function(x, axis=axis, where=np.empty((3, 0), bool), scale=2.0).shape == (3, 0)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_whole_numbers_become_float64_before_anything_is_subtracted(dtype):
    limits = np.iinfo(dtype)
    x = np.array([limits.max, limits.min, limits.max - 1, 0, 1], dtype)
    y = softmax(x)
    assert y.dtype == np.float64
    assert_softmax(y, x.astype(np.float64))
    dx = softmax_vjp(y, x)
    assert dx.dtype == np.float64
    assert_vjp(dx, y, x.astype(np.float64))


@pytest.mark.parametrize("axis", [0, -1, None])
def test_whole_numbers_along_every_axis(axis):
    x = np.round(30 * cases.numbers(600, "x")).astype(np.int8).reshape(20, 30)
    for given in (x, x.T, x[::-1, ::2], np.broadcast_to(x[0], (5, 30))):
        assert_softmax(softmax(given, axis=axis), given.astype(np.float64), axis=axis)


REFUSED = [
    (np.array([True, False]), "dtype bool.*astype.*where="),
    ([True, False], "dtype bool"),
    (np.array([1 + 2j]), r"dtype complex128.*\.real or abs"),
    (np.array([1, 2], object), r"dtype object.*astype\(float\)"),
    (np.array([10**30, 2]), "dtype object"),
    (np.ma.array([1.0, 2.0], mask=[True, False]), r"masked array.*\.data.*where=~numpy\.ma\.getmaskarray"),
    (np.array(["1", "2"]), "dtype <U1"),
    (["1", "2"], "dtype <U1"),
    (np.array([1, 2], "m8[s]"), "dtype timedelta64"),
    (np.array([1.0, 2.0], np.longdouble), "dtype (float128|longdouble).*astype"),
    (np.array([1.0, 2.0], ml_dtypes.float8_e4m3fn), "dtype float8_e4m3fn.*astype"),
    (np.zeros(2, [("a", float)]), "dtype"),
    (None, "dtype object"),
    ({1, 2}, "dtype object"),
    ([[1.0, 2.0], [3.0]], "does not make an array"),
]


@each_function
@pytest.mark.parametrize(("value", "text"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_is_no_array_of_real_numbers_is_refused(function, value, text):
    with pytest.raises(TypeError, match=f"(?s)^[xy] .*{text}"):
        function(value)


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=lambda value: type(value).__name__)
def test_such_a_gradient_is_refused_by_its_name(value, text):
    y = np.array([0.5, 0.5])
    with pytest.raises(TypeError, match=f"(?s)^dy .*{text}"):
        softmax_vjp(y, value)
    with pytest.raises(TypeError, match="^dx "):
        softmax_jvp(y, value)
    with pytest.raises(TypeError, match="^v "):
        softmax_double_backward(y, y, value)


@pytest.mark.parametrize("axis", [-1, None, ()])
def test_a_number_is_an_array_of_one(axis):
    for x in (3.0, np.float32(3), np.array(3.0), 7, np.int8(7)):
        y = softmax(x, axis=axis)
        assert type(y) is (np.float32 if isinstance(x, np.float32) else np.float64)
        assert y == 1
        assert softmax_vjp(y, x, axis=axis) == 0


def test_a_number_with_options():
    assert softmax(3.0, where=False) == 0
    assert np.isnan(softmax(-INF, empty="nan"))
    assert np.isnan(softmax(NAN))
    assert softmax(NAN, where=False) == 0
    assert softmax_vjp(1.0, NAN, where=False) == 0
    out = np.empty(())
    assert softmax(3.0, out=out) is out
    assert out == 1
    with pytest.raises(ValueError, match="empty"):
        softmax(-INF, empty="raise")
    assert softmax(7, empty="raise") == 1
    with pytest.raises(ValueError, match="empty"):
        softmax(7, empty="raise", where=False)


@pytest.mark.parametrize("axis", [1, -2, 0])
def test_a_number_has_no_other_axis(axis):
    with pytest.raises(np.exceptions.AxisError):
        softmax(3.0, axis=axis)


# --- axes, shapes, options ---------------------------------------------------------------------------


AxisError = np.exceptions.AxisError
REFUSED_AXES = [(axis, AxisError, "out of bounds") for axis in (2, -3, (0, 2), 100)]
REFUSED_AXES += [(axis, ValueError, "axis") for axis in ((0, 0), (1, -1))]
REFUSED_AXES += [(axis, TypeError, "axis") for axis in (1.0, "1", (0, 1.0), [0, 1], np.array([0, 1]), True)]


@each_function
@pytest.mark.parametrize(("axis", "error", "text"), REFUSED_AXES, ids=str)
def test_an_axis_that_is_refused(function, axis, error, text):
    function(np.ones((2, 3)), axis=(0, 1))  # which is equal to (0, 1.0), and may be remembered
    with pytest.raises(error, match=text):
        function(np.ones((2, 3)), axis=axis)


@each_function
def test_an_axis_may_be_a_numpy_number(function):
    y = np.full((2, 3), 0.25)
    for axis, plain in ((np.int64(0), 0), ((np.int8(-1), 0), (1, 0))):
        for found, expected in zip(function(y, axis=axis), function(y, axis=plain), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3), (3, 2), (2, 3, 1), ()])
def test_shapes_that_differ_are_not_broadcast(shape):
    y, out = np.ones((2, 3)), np.full((2, 3), 7.0)
    with pytest.raises(ValueError, match=r"y has shape \(2, 3\).*dy has shape.*broadcast_to"):
        softmax_vjp(y, np.ones(shape), out=out)
    with pytest.raises(ValueError, match="dx has shape"):
        softmax_jvp(y, np.ones(shape), out=out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ((np.float32, np.float64), np.float64),
        ((np.float16, np.float32), np.float32),
        ((ml_dtypes.bfloat16, np.float32), np.float32),
        ((ml_dtypes.bfloat16, np.float64), np.float64),
        ((ml_dtypes.bfloat16, np.float16), np.float32),
        ((np.float32, np.int64), np.float64),
        ((np.int8, np.int8), np.float64),
    ],
    ids=str,
)
def test_two_dtypes_meet_in_one_that_holds_both(given, result):
    y, dy = np.array([1, 0], given[0]), np.array([1, 2], given[1])
    assert softmax_vjp(y, dy).dtype == result
    assert softmax_vjp(y.astype(given[1]), dy.astype(given[0])).dtype == result


@pytest.mark.parametrize("function", [log_softmax, sparsemax, entmax, logsumexp, entropy])
def test_scales_where_one_is_taken(function):
    """softmax takes several: see test_sinks.py."""
    for scale in ([1.0], np.ones(2)):
        with pytest.raises(TypeError, match="scale takes a real number"):
            function([0.5, 0.5], scale=scale)


@pytest.mark.parametrize("empty", ["zeros", "", None, 0, True, ["zero"]])
def test_another_word_for_empty(empty):
    with pytest.raises(ValueError, match="'zero', 'nan', 'raise'"):
        softmax([1.0], empty=empty)


class Foreign:
    """An array of a library that has functions of its own for it, and can be converted."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class WithFunctions(Foreign):
    def __array_function__(self, function, types, arguments, options):
        return NotImplemented


class WithNamespace(Foreign):
    def __array_namespace__(self, api_version=None):
        return np


@each_function
@pytest.mark.parametrize("library", [WithFunctions, WithNamespace])
def test_an_array_of_another_library_is_not_converted_in_silence(function, library):
    x = np.array([0.25, 0.75])
    text = rf"^([xy]) is a \w+\.{library.__name__}, where NumPy .*: give numpy\.asarray\(\1\)"
    with pytest.raises(TypeError, match=text):
        function(library(x))
    function(np.asarray(library(x)))


@pytest.mark.parametrize("library", [WithFunctions, WithNamespace])
def test_nor_is_such_a_mask_and_nor_are_such_offsets(library):
    for name, call in {
        "where": lambda where: softmax([1.0, 2.0], where=where),
        "offsets": lambda offsets: segment_softmax([1.0, 2.0], offsets, axis=0),
    }.items():
        given = np.array([True, False]) if name == "where" else np.array([0, 2])
        with pytest.raises(TypeError, match=rf"^{name} is a \w+\.{library.__name__}, where NumPy"):
            call(library(given))
        call(Foreign(given))


def test_what_is_no_array_but_can_be_made_one():
    """As a Series of pandas."""
    np.testing.assert_array_equal(softmax(Foreign(np.zeros(2))), [0.5, 0.5])


# --- arrays of all sorts -----------------------------------------------------------------------------


def test_lists_and_numbers_in_lists():
    assert_softmax(softmax([[1.0, 2.0], [3.0, 5.0]]), [[1.0, 2.0], [3.0, 5.0]])
    assert_softmax(softmax(((1, 2), (3, 5))), [[1.0, 2.0], [3.0, 5.0]])
    y, dy = np.array([0.25, 0.75]), np.array([1.0, 2.0])
    assert_vjp(softmax_vjp([0.25, 0.75], [1, 2]), y, dy)


def strided(array):
    room = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
    room[::2, ::3] = array
    return room[::2, ::3]


def unaligned(array):
    room = np.zeros(array.nbytes + 1, np.uint8)
    result = room[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


class Mine(np.ndarray):
    pass


def mapped(array):
    with tempfile.TemporaryFile() as file:
        result = np.memmap(file, array.dtype, "w+", shape=array.shape)
    result[...] = array
    return result


# name: an array of the same numbers that lies in memory in another way, or is of another class
SORTS = {
    "as it is": lambda array: array,
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "reversed": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
    "rows reversed": lambda array: array[::-1].copy()[::-1],
    "columns reversed": lambda array: array[:, ::-1].copy()[:, ::-1],
    "read-only": lambda array: cases.read_only(array.copy()),
    "unaligned": unaligned,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "a matrix": lambda array: array.view(np.matrix),
    "a subclass": lambda array: array.view(Mine),
    "a memoryview": memoryview,
    "a memmap": mapped,
}
WRITEABLE = ["Fortran order", "strided", "reversed", "rows reversed", "columns reversed"]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("axis", [-1, 0, None])
@pytest.mark.parametrize("shape", [(20, 7), (5, 100)], ids=str)
def test_arrays_of_every_sort(sort, axis, shape):
    x, dy = (cases.numbers(shape[0] * shape[1], key).reshape(shape).astype(np.float32) for key in ("x", "dy"))
    given = SORTS[sort](x)
    y = softmax(given, axis=axis)
    assert type(y) is np.ndarray
    assert y.dtype == np.float32
    assert y.dtype.isnative
    assert_softmax(y, x, axis=axis)
    for arrays in ((SORTS[sort](y), dy), (y, SORTS[sort](dy))):
        dx = softmax_vjp(*arrays, axis=axis)
        assert type(dx) is np.ndarray
        assert_vjp(dx, y, dy, axis=axis)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_byte_swapped_and_unaligned_arrays_of_other_dtypes(dtype):
    x = cases.logits(5, dtype)[:4]
    for sort in ("unaligned", "byte-swapped")[: 2 if dtype.kind == "f" else 1]:  # bfloat16 has one byte order
        np.testing.assert_array_equal(softmax(SORTS[sort](x)), softmax(x))


@pytest.mark.parametrize("axis", [-1, 0, (0, 1), 1])
def test_broadcast_arrays(axis):
    row = cases.numbers(40, "x").astype(np.float32)
    x = np.broadcast_to(row, (3, 5, 40))
    assert_softmax(softmax(x, axis=axis), x, axis=axis)
    constant = np.broadcast_to(np.float32(0.25), (3, 5, 40))
    np.testing.assert_array_equal(softmax(constant, axis=axis), softmax(np.zeros_like(x), axis=axis))
    np.testing.assert_array_equal(softmax_vjp(softmax(x, axis=axis), constant, axis=axis), np.zeros(x.shape))


def test_the_result_of_a_broadcast_array_is_an_array_of_its_own():
    y = softmax(np.broadcast_to(np.float32(1), (4, 4)))
    y[0, 0] = 7
    assert (y[1:] == 0.25).all()
    assert (softmax_vjp(np.broadcast_to(np.float32(0.25), (4, 4)), y)[1:] == 0).all()


@each_function
def test_inputs_are_never_written(function):
    for sort, made in SORTS.items():
        array = made(cases.weights(37, FLOAT32)[:5].copy())
        before = bytes(array)
        function(array)
        function(array, axis=0)
        assert bytes(array) == before, sort


@pytest.mark.parametrize("axis", [-1, 0])
def test_a_mask_is_never_written(axis):
    where = cases.numbers(100, "where").reshape(10, 10) > 0
    before = where.copy()
    where.flags.writeable = False
    y = softmax(np.zeros((10, 10)), where=where, axis=axis)
    softmax_vjp(y, y, where=where, axis=axis)
    np.testing.assert_array_equal(where, before)


@pytest.mark.parametrize("where", [slice(None, None, -1), slice(None, None, 2)])
def test_a_mask_that_is_strided(where):
    full = cases.numbers(800, "where").reshape(20, 40) > 0
    mask = full[:, where]
    x = cases.numbers(mask.size, "x").reshape(mask.shape)
    np.testing.assert_array_equal(softmax(x, where=mask), softmax(x, where=mask.copy()))


def test_error_handling_of_numpy_is_left_alone():
    with np.errstate(all="raise"):
        y = softmax(np.array([[1e308, -1e308], [INF, -INF], [-1e5, 0]]))
        softmax_vjp(y, np.array([[1e308, -1e308], [INF, -INF], [5e-324, 0]]))
    assert np.geterr()["divide"] == "warn"


# --- out ---------------------------------------------------------------------------------------------


def fresh(n=37):
    return cases.weights(n, FLOAT32).copy()


@each_with_out
@pytest.mark.parametrize("sort", WRITEABLE)
@pytest.mark.parametrize("axis", [-1, 0])
def test_out_may_be_an_input_of_every_sort(function, sort, axis):
    x = SORTS[sort](fresh()).copy(order="K")
    view = SORTS[sort](fresh())
    expected = function(x, axis=axis)
    assert function(view, axis=axis, out=view) is view
    np.testing.assert_array_equal(view, expected)


# options of a call with a float32 array of shape (36, 37)
REFUSED_OPTIONS = [
    ({"where": where}, TypeError, "where has dtype.*booleans")
    for where in ([1, 0, 1], np.array([1.0, 0.0]), "yes", [None, True])
]
REFUSED_OPTIONS += [
    ({"where": np.full(shape, True)}, ValueError, r"where has shape.*\(36, 37\)")
    for shape in ((36,), (37, 36), (2, 36, 37))
]
REFUSED_OPTIONS += [({"scale": scale}, ValueError, "scale=.*finite") for scale in (NAN, INF, -INF)]
REFUSED_OPTIONS += [
    ({"scale": scale}, TypeError, "scale takes a real number") for scale in ("1", None, 1j, True)
]
REFUSED_OPTIONS += [({"scale": 1e300}, ValueError, "scale=1e\\+300.*float32")]
REFUSED_OPTIONS += [
    ({"out": np.zeros((36, 37), dtype)}, TypeError, "out has dtype .*float32")
    for dtype in (np.float64, np.float16, ml_dtypes.bfloat16, np.int32, ">f4", bool)
]
REFUSED_OPTIONS += [
    ({"out": out}, TypeError, "out takes a numpy.ndarray, not")
    for out in ([0.0], "x", 1.0, np.ma.zeros((36, 37), np.float32))
]
REFUSED_OPTIONS += [
    ({"out": out}, ValueError, text)
    for out, text in (
        (np.zeros((36, 38), np.float32), r"out has shape \(36, 38\).*\(36, 37\)"),
        (np.zeros(36 * 37, np.float32), "out has shape"),
        (np.zeros((37, 36), np.float32).T[:, :36], "out has shape"),
        (cases.read_only(np.zeros((36, 37), np.float32)), "read-only"),
        (unaligned(np.zeros((36, 37), np.float32)), "aligned"),
        (np.lib.stride_tricks.as_strided(np.zeros(37, np.float32), (36, 37), (0, 4)), "same place"),
    )
]


@each_with_out
@pytest.mark.parametrize(("options", "error", "text"), REFUSED_OPTIONS, ids=lambda value: str(value)[:40])
def test_options_that_are_refused(function, options, error, text):
    with pytest.raises(error, match=text):
        function(fresh(), **options)
    assert not (isinstance(options.get("out"), np.ndarray) and options["out"].any())
    function(fresh().astype(float), scale=1e300)


OVERLAPS = {
    "a row further": lambda room: (room[:-1, :37], room[1:, :37]),
    "a row before": lambda room: (room[1:, :37], room[:-1, :37]),
    "an element further": lambda room: (room[:36, :37], room[:36, 1:38]),
    "reversed": lambda room: (room[:36, :36], room[:36, 35::-1]),
    "upside down": lambda room: (room[:36, :37], room[35::-1, :37]),
    "turned": lambda room: (room[:36, :36], room[:36, :36].T),
    "of other steps": lambda room: (room[:18, :18], room[:36:2, :36:2]),
}


@each_with_out
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_an_out_that_overlaps_in_part(function, overlap):
    room = cases.numbers(37 * 38, "x").reshape(37, 38).astype(np.float32)
    x, out = OVERLAPS[overlap](room)
    before = room.copy()
    with pytest.raises(ValueError, match="out overlaps [xy] in part.*copy"):
        function(x, out=out)
    np.testing.assert_array_equal(room, before)


def test_an_out_that_overlaps_the_gradient_or_the_mask():
    room = np.zeros(101, np.float32)
    y = np.full(100, 0.01, np.float32)
    with pytest.raises(ValueError, match="out overlaps dy in part"):
        softmax_vjp(y, room[1:], out=room[:-1])
    with pytest.raises(ValueError, match="out overlaps dx in part"):
        softmax_jvp(y, room[1:], out=room[:-1])
    mask = room[:100].view(np.bool_)[:100]
    with pytest.raises(ValueError, match="out overlaps where"):
        softmax(y, where=mask, out=room[:100])
    with pytest.raises(ValueError, match="out overlaps where"):
        softmax_vjp(y, y, where=mask, out=room[:100])
    assert not room.any()


def test_out_over_an_input_that_is_converted():
    """A copy of the input is read; if the call is not refused, it is right."""
    y, dy = np.array([[1, 0], [3, 1]]), np.array([[5.0, 2.0], [7.0, 1.0]])
    expected = softmax_vjp(y, dy)
    before, out = y.copy(), y.view(np.float64)
    try:
        softmax_vjp(y, dy, out=out)
    except ValueError:
        np.testing.assert_array_equal(y, before)
    else:
        np.testing.assert_array_equal(out, expected)


def test_out_over_an_input_of_another_dtype_of_the_same_size():
    half = np.zeros((4, 8), np.float16)
    with pytest.raises(TypeError, match="out has dtype bfloat16"):
        softmax(half, out=half.view(ml_dtypes.bfloat16))


def test_out_may_be_a_part_of_memory_that_no_input_uses():
    """Interleaved arrays share a range of addresses and not one element."""
    room = cases.numbers(2 * 36 * 37, "x").reshape(36, 74).astype(np.float32)
    x = room[:, ::2].copy()
    softmax(room[:, ::2], out=room[:, 1::2])
    np.testing.assert_array_equal(room[:, 1::2], softmax(x))
    np.testing.assert_array_equal(room[:, ::2], x)


def test_out_over_whole_numbers():
    """x is int64, out float64 in the same memory: what is read would be written over."""
    x = np.arange(12).reshape(3, 4)
    before = x.copy()
    with pytest.raises(ValueError, match="out overlaps x"):
        softmax(x, out=x.view(np.float64))
    np.testing.assert_array_equal(x, before)


def test_whole_numbers_with_an_out():
    x, out = np.arange(12).reshape(3, 4), np.empty((3, 4))
    assert softmax(x, out=out) is out
    assert_softmax(out, x.astype(float))


@pytest.mark.parametrize("axis", [-1, 0])
def test_an_out_of_y_whose_mask_is_broadcast(axis):
    y, dy = fresh(), cases.gradients(37, FLOAT32)
    where = np.arange(37) % 3 > 0
    expected = softmax_vjp(y, dy, where=where, axis=axis)
    softmax_vjp(y, dy, where=where, axis=axis, out=y)
    np.testing.assert_array_equal(y, expected)
