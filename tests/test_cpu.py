"""The ways to the kernels of `softgrad.cpu`: plans, the gate for small arrays, threads, in place, nothing."""

import ctypes
import math

import ml_dtypes
import numpy as np
import pytest

import softgrad
from softgrad import arrays as of_numpy
from softgrad import (
    log_softmax,
    log_softmax_double_backward,
    log_softmax_jvp,
    log_softmax_vjp,
    softmax,
    softmax_double_backward,
    softmax_jvp,
    softmax_vjp,
)
from softgrad.cpu import call, contiguous, drive, kernels
from softgrad.cpu.plan import plan
from softgrad.specs import LOG_SOFTMAX, SOFTMAX

OPERATIONS = kernels.OPERATIONS
DTYPES = [np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name) for name in kernels.ELEMENT]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_map = pytest.mark.parametrize("map", [SOFTMAX, LOG_SOFTMAX], ids=lambda map: map.name)


def numbers(shape, dtype, seed=0):
    """Of ordinary size, but with a large offset in some rows."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * 3
    values[..., :1] += 1.0 if dtype.itemsize == 2 else 1e4
    return values.astype(dtype)


def inputs(shape, dtype, axis=-1, map=SOFTMAX):
    """(x, y, dy)"""
    x = numbers(shape, dtype)
    return (
        x,
        of_numpy.forward(map, x, axis=axis, where=None, scale=1.0, empty="zero", out=None),
        numbers(shape, dtype, 1),
    )


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


# --- plans ------------------------------------------------------------------------------------------


@pytest.fixture
def way(monkeypatch):
    """The plan of a call on these arrays, of which no kernel is compiled: a table by names."""
    for what in ("kernel", "move"):
        monkeypatch.setattr(kernels, what, lambda *which: 1)

    def planned(name, arrays, axes, where=None, in_place=False, ways=1):
        dtype, size = arrays[0].dtype, arrays[0].itemsize
        axes = tuple(axis % arrays[0].ndim for axis in axes)
        strides = tuple(tuple(step // size for step in a.strides) for a in arrays)
        moved = (*[False] * (len(arrays) - 1), in_place)
        mask = None if where is None else where.strides
        result = plan.__wrapped__(name, dtype.name, arrays[0].shape, strides, axes, mask, moved, ways)
        table = {key: int(result.table[getattr(drive, key)]) for key in PLAN}
        moved = [bool(result.table[drive.MOVE + i]) for i in range(len(arrays))]
        return {**table, "moved": moved, "tiles": result.tiles}

    return planned


PLAN = "COLUMNS", "N", "RUN", "PER_TILE", "ALONG", "ROOM", "SCRATCH", "ITEM", "ARRAYS"
ROWS, COLUMNS, BOTH, NONE = 0, 1, [True, True], [False, False]


def of(*shape, dtype=np.float32):
    return np.empty(shape, dtype)


ROW = of(256, 512)
EACH = np.broadcast_to(of(256, 1), ROW.shape)
# (x and y, the axes): (rows or columns, what is moved, n, the length of a run, rows or columns a tile, tiles)
WAYS = {
    "rows": ([ROW] * 2, (1,), (ROWS, NONE, 512, 512, 256, 256)),
    "columns": ([of(300, 600)] * 2, (0,), (COLUMNS, NONE, 300, 300, 1024, 1)),
    "rows in Fortran order": ([of(512, 256).T] * 2, (1,), (COLUMNS, NONE, 512, 512, 1024, 1)),
    "columns in Fortran order": ([of(512, 256).T] * 2, (0,), (ROWS, NONE, 256, 256, 512, 512)),
    "one of each order": ([ROW, of(512, 256).T], (1,), (ROWS, [False, True], 512, 512, 4, 256)),
    "every other element": ([of(256, 1024)[:, ::2]] * 2, (1,), (ROWS, BOTH, 512, 512, 4, 256)),
    "every other row": ([of(512, 512)[::2]] * 2, (1,), (ROWS, NONE, 512, 512, 256, 256)),
    "every other column": ([of(300, 600)[:, ::2]] * 2, (0,), (COLUMNS, BOTH, 300, 300, 256, 2)),
    "reversed elements": (
        [of(256, 512)[:, ::-1], of(256, 512)],
        (1,),
        (ROWS, [True, False], 512, 512, 4, 256),
    ),
    "reversed rows": ([of(256, 512)[::-1]] * 2, (1,), (ROWS, NONE, 512, 512, 256, 256)),
    "a row for all": ([np.broadcast_to(of(512), (256, 512)), ROW], (1,), (ROWS, NONE, 512, 512, 256, 256)),
    "an element a row": ([EACH, ROW], (1,), (COLUMNS, [False, True], 512, 512, 256, 1)),
    "the outer axes of three": ([of(4, 5, 6)] * 2, (0, 2), (ROWS, BOTH, 24, 6, 85, 5)),
    "the last axes of three": ([of(4, 5, 6)] * 2, (1, 2), (ROWS, NONE, 30, 30, 4, 4)),
    "all axes": ([of(4, 5, 6)] * 2, (0, 1, 2), (ROWS, NONE, 120, 120, 1, 1)),
    "the axis amid": ([of(3, 50, 300)] * 2, (1,), (COLUMNS, NONE, 50, 50, 1024, 3)),
    "few columns": ([of(300, 3)] * 2, (0,), (ROWS, BOTH, 300, 300, 6, 3)),
    "few columns amid": ([of(7, 300, 3)] * 2, (1,), (ROWS, BOTH, 300, 300, 6, 21)),
    "an axis of length 1": ([of(300, 1, 64)] * 2, (1,), (ROWS, NONE, 1, 1, 19200, 19200)),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_way_through_memory(way, name):
    arrays, axes, expected = WAYS[name]
    found = way("softmax", arrays, axes)
    keys = "COLUMNS", "moved", "N", "RUN", "PER_TILE", "tiles"
    assert dict(zip(keys, expected, strict=True)) == {key: found[key] for key in keys}
    # neither a mask nor being in place changes the kernel, only what is moved
    masked = way("softmax", arrays, axes, where=np.empty(arrays[0].shape, bool))
    assert (masked["COLUMNS"], masked["moved"]) == (found["COLUMNS"], BOTH)
    in_place = way("softmax", arrays, axes, in_place=True)
    assert (in_place["COLUMNS"], in_place["moved"]) == (found["COLUMNS"], [found["moved"][0], True])


def test_columns_are_cut_for_threads(way):
    for size, ways, expected in (
        (600, 1, (1024, 1)),
        (600, 2, (320, 2)),
        (600, 7, (128, 5)),
        (5000, 2, (1024, 5)),
    ):
        found = way("softmax", [of(300, size)] * 2, (0,), ways=ways)
        assert (found["PER_TILE"], found["tiles"]) == expected
    found = way("softmax", [of(8, 300, 600)] * 2, (1,), ways=4)
    assert (found["PER_TILE"], found["tiles"]) == (1024, 8)


def test_float16_is_moved_as_float32_where_it_is_read_from_scratch_memory(way):
    straight, strided = of(64, 512, dtype=np.float16), of(64, 1024, dtype=np.float16)[:, ::2]
    for arrays, expected in (
        ([straight, straight], (NONE, 2)),
        ([straight, strided], ([False, True], 2)),
        ([strided, straight], (BOTH, 4)),
    ):
        found = way("softmax", arrays, (1,))
        assert (found["moved"], found["ITEM"]) == expected


@each_dtype
@pytest.mark.parametrize("name", OPERATIONS)
def test_scratch_memory_is_a_megabyte_or_some_rows(way, name, dtype):
    """One of each array, three in all cases; and what entmax keeps of a support, at most nine of float32,
    rows with their sinks, the dx of which the gradient of a scale or a diagonal is made, or what a divergence
    has of both sides."""
    operation, own = OPERATIONS[name], 0
    arrays = operation.read + 1
    if any(word in name for word in ("entmax", "sink", "scale_vjp", "hessian", "divergence")):
        of_columns = operation.columns and operation.columns_room(2**20, 1, False)
        own = max(operation.rows_room(2**20, False), of_columns or 0) // 2**20
    assert own <= 36
    for n in (1, 2, 48, 49, 2047, 2049, 30_000, 200_000):
        a, b = of(min(n, 2**15), 600, dtype=dtype), of(300, n, dtype=dtype)
        for view in (a[:, :300].copy(), a[:, ::2], a[:, :3], b.T, b[:6].T, b[:6].T[:, ::2], b[:, ::-1]):
            for axis in (0, 1):
                for where in (None, np.broadcast_to(np.True_, view.shape)):
                    found = way(name, [view] * arrays, (axis,), where=where)
                    used = 8 * drive.TABLES + found["ROOM"] + sum(found["moved"]) * found["SCRATCH"]
                    row = max(found["ITEM"], 4) * found["N"]
                    row = max(arrays, 3) * row + own * found["N"]
                    assert used <= max(2**20, row + 2**17), (view.shape, view.strides, axis)
                    assert used <= 2**20 or found["PER_TILE"] == 1 or not any(found["moved"])


@each_dtype
@pytest.mark.parametrize("n", [40, 256, 1000])  # from plan.LONG on, y is asked whether it is 0 under the mask
def test_what_is_masked_may_be_anything(n, dtype):
    x, _, dy = inputs((9, n), dtype)
    where = np.random.default_rng(0).random((9, n)) < 0.5
    where[3] = False
    y = softmax(x, where=where)
    expected = softmax_vjp(y, np.where(where, dy, 0).astype(dtype), where=where)
    for k, value in enumerate([np.inf, -np.inf, np.nan, np.finfo(np.float16).max]):
        given = dy.copy()
        given[k::4] = np.where(where[k::4], given[k::4], dtype.type(value))
        assert np.array_equal(softmax_vjp(y, given, where=where), expected)
        weights = np.where(where, y, dtype.type(value))
        assert np.array_equal(softmax_vjp(weights, given, where=where), expected)


# --- the gate for small arrays ----------------------------------------------------------------------


@pytest.fixture
def long_calls(monkeypatch):
    """The calls that took the long way."""
    calls, run = [], call.run
    monkeypatch.setattr(call, "run", lambda name, *rest: calls.append(name) or run(name, *rest))
    return calls


def long_way(name, arrays, **options):
    """What the long way makes of a call, which opens the gate as well."""
    options = {"axis": -1, "where": None, "scale": 1.0, "out": None, **options}
    map = LOG_SOFTMAX if name.startswith("log_") else SOFTMAX
    if name == map.name:
        return of_numpy.forward(map, *arrays, empty="zero", **options)
    return of_numpy.product(map, "vjp", *arrays, **options)


SCALES = 1.0, 0.125, 1 / math.sqrt(96), -3.0
SHAPES = [
    *[((1,), -1), ((7,), 0), ((300,), -1), ((3000,), -1), ((5, 40), 1), ((5, 600), -1), ((300, 20), 0)],
    *[((70, 300), 0), ((3, 20, 9), 1), ((2, 3, 33), 2), ((2, 3, 5, 8), -2), ((2, 3, 5, 8), 1), ((9, 1), 1)],
]


@each_map
@each_dtype
def test_the_gate_gives_the_bits_of_the_long_way(dtype, map, long_calls):
    forward, vjp = getattr(softgrad, map.name), getattr(softgrad, map.vjp)
    jvp = softmax_jvp if map is SOFTMAX else vjp  # log_softmax's jvp has no gate
    for shape, axis in SHAPES:
        x, y, dy = inputs(shape, dtype, axis, map)
        for scale in SCALES:
            options = {"axis": axis, "scale": scale}
            expected_y = long_way(map.name, [x], **options)
            expected_dx = long_way(map.vjp, [y, dy], **options)
            long_calls.clear()
            found = [forward(x, **options), forward(x, **options, out=np.empty_like(x))]
            over_x, over_y, over_dy = x.copy(), y.copy(), dy.copy()
            for one in (*found, forward(over_x, **options, out=over_x)):
                assert_same_bits(one, expected_y)
            found = [vjp(y, dy, **options), jvp(y, dy, **options)]
            found += [vjp(over_y, dy, **options, out=over_y), vjp(y, over_dy, **options, out=over_dy)]
            for one in (*found, vjp(y, dy, **options, out=np.empty_like(y))):
                assert_same_bits(one, expected_dx)
            in_place = 3 if x.size > contiguous.LONG else 0
            assert len(long_calls) == (8 if scale < 0 else in_place), (shape, axis, scale)


def test_the_gate_takes_what_one_thread_does(long_calls):
    before, x = softgrad.get_num_threads(), np.zeros((512, 512), np.float32)  # threads.SHARED elements
    try:
        softmax(x)
        for number, expected in ((2, ["softmax"]), (1, []), (3, ["softmax"])):
            softgrad.set_num_threads(number)
            long_calls.clear()
            softmax(x)
            assert long_calls == expected
    finally:
        softgrad.set_num_threads(before)


def test_the_gate_lets_go_of_the_gil_for_a_large_array(long_calls):
    small, large = np.zeros((4, 40), np.float32), np.zeros((4, contiguous.LONG), np.float32)
    softmax(small)
    calls, table = [], kernels.table("softmax", "float32")
    leave = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: calls.append("leave") or 77)
    enter = ctypes.CFUNCTYPE(None, ctypes.c_int64)(calls.append)
    before = table.copy()
    try:
        table[contiguous.LEAVE] = ctypes.cast(leave, ctypes.c_void_p).value
        table[contiguous.ENTER] = ctypes.cast(enter, ctypes.c_void_p).value
        long_calls.clear()
        for x, expected in ((small, []), (large, ["leave", 77])):
            softmax(x)
            assert calls == expected
        assert not long_calls
    finally:
        table[:] = before


SHIFTED = np.zeros(164, np.float32)
LOWER, UPPER = SHIFTED[:160].reshape(4, 40), SHIFTED[4:].reshape(4, 40)  # overlap in part
UNALIGNED = np.zeros(4 * 40 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(4, 40)
X = np.random.default_rng(0).normal(size=(4, 40)).astype(np.float32)


class Subclass(np.ndarray):
    pass


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


# what is not for the gate: (arguments, options), and what comes of it where that is no result
OTHER = {
    "masked": ((np.ma.array(X), X), {}, TypeError),
    "masked dy": ((X, np.ma.array(X, mask=X > 0)), {}, TypeError),
    "masked out": ((X, X), {"out": np.ma.array(X.copy())}, TypeError),
    "byte-swapped": ((X.astype(">f4"), X), {}, None),
    "byte-swapped dy": ((X, X.astype(">f4")), {}, None),
    "byte-swapped out": ((X, X), {"out": X.astype(">f4")}, TypeError),
    "unaligned": ((UNALIGNED, X), {}, None),
    "unaligned dy": ((X, UNALIGNED), {}, None),
    "unaligned out": ((X, X), {"out": UNALIGNED}, ValueError),
    "read-only out": ((X, X), {"out": frozen(X)}, ValueError),
    "Fortran": ((np.asfortranarray(X), X), {}, None),
    "Fortran dy": ((X, np.asfortranarray(X)), {}, None),
    "Fortran out": ((X, X), {"out": np.asfortranarray(X)}, None),
    "strided": ((np.repeat(X, 2, 1)[:, ::2], X), {}, None),
    "reversed dy": ((X, X[::-1]), {}, None),
    "broadcast dy": ((X, np.broadcast_to(X[0], X.shape)), {}, None),
    "overlapping": (
        (SHIFTED[40 * 0 : 160].reshape(4, 40), X),
        {"out": SHIFTED[4:].reshape(4, 40)},
        ValueError,
    ),
    "overlapping dy": ((X, UPPER), {"out": LOWER}, ValueError),
    "wider dy": ((X, X.astype(np.float64)), {}, None),
    "narrower dy": ((X, X.astype(np.float16)), {}, None),
    "longer dy": ((X, np.ones((4, 41), np.float32)), {}, ValueError),
    "dy of a row": ((X, X[0]), {}, ValueError),
    "wider out": ((X, X), {"out": X.astype(np.float64)}, TypeError),
    "larger out": ((X, X), {"out": np.empty((5, 40), np.float32)}, ValueError),
    "out of another shape": ((X, X), {"out": np.empty((40, 4), np.float32)}, ValueError),
    "axis=True": ((X, X), {"axis": True}, TypeError),
    "axis=(True,)": ((X, X), {"axis": (True,)}, TypeError),
    "axis=2": ((X, X), {"axis": 2}, np.exceptions.AxisError),
    "axis=-3": ((X, X), {"axis": -3}, np.exceptions.AxisError),
    "axis=1.0": ((X, X), {"axis": 1.0}, TypeError),
    "a tuple": ((X, X), {"axis": (0, 1)}, None),
    "all axes": ((X, X), {"axis": None}, None),
    "scale=True": ((X, X), {"scale": True}, TypeError),
    "scale=nan": ((X, X), {"scale": math.nan}, ValueError),
    "scale=inf": ((X, X), {"scale": math.inf}, ValueError),
    "scale=0": ((X, X), {"scale": 0.0}, None),
    "scale=1e-30": ((X, X), {"scale": 1e-30}, None),
    "a subclass": ((X.view(Subclass), X), {}, None),
    "a subclass as dy": ((X, X.view(Subclass)), {}, None),
    "whole numbers": ((np.ones((4, 40), int), X), {}, None),
    "a list": ((X.tolist(), X), {}, None),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_the_gate_leaves_to_the_long_way(name, long_calls):
    (y, dy), options, error = OTHER[name]
    functions = (softmax, [y]), (softmax_vjp, [y, dy]), (log_softmax, [y]), (log_softmax_vjp, [y, dy])
    for function, arrays in functions:
        long_way(function.__name__, [X] * len(arrays))
        if function in (softmax, log_softmax) and ("dy" in name or (name == "masked" and error is None)):
            continue
        given = {**options}
        before = [np.array(a, copy=True) for a in (*arrays, given.get("out", 0))]
        long_calls.clear()
        if error is None:
            if "out" in given:
                given["out"] = given["out"].copy(order="K")
            expected = np.array(long_way(function.__name__, arrays, **{**given, "out": None}))
            long_calls.clear()
            found = function(*arrays, **given)
            assert len(long_calls) == 1
            assert found.__class__ is np.ndarray
            np.testing.assert_array_equal(np.asarray(found), expected)
        else:
            with pytest.raises(error):
                function(*arrays, **given)
            assert long_calls == []
            for a, was in zip((*arrays, given.get("out", 0)), before, strict=True):  # nothing was written
                np.testing.assert_array_equal(np.asarray(a), np.asarray(was))


def test_explain_sees_what_would_pass_the_gate(long_calls):
    long_way("softmax", [X]), long_way("softmax_vjp", [X, X])
    for function, arrays in ((softmax, [X]), (softmax_vjp, [X, X])):
        long_calls.clear()
        (step,) = softgrad.explain(function, *arrays)
        assert (step.by, step.kernel, step.threads, len(long_calls)) == ("numba", function.__name__, 1, 1)
        function(*arrays)
        assert len(long_calls) == 1


# --- threads, in place, nothing ---------------------------------------------------------------------


@pytest.fixture
def on_threads():
    before = softgrad.get_num_threads()
    yield softgrad.set_num_threads
    softgrad.set_num_threads(before)


@each_map
@each_dtype
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((450, 600), 1),
        ((100, 3000), 1),
        ((40_000, 7), 1),
        ((900, 300), 0),
        ((3, 300, 300), 1),
        ((100_000, 3), 0),
    ],
)
def test_the_same_bits_on_any_number_of_threads_and_in_place(shape, axis, dtype, map, on_threads):
    forward, vjp = getattr(softgrad, map.name), getattr(softgrad, map.vjp)
    x, y, dy = inputs(shape, dtype, axis, map)
    if map is LOG_SOFTMAX:
        y.flat[::1009] = -np.inf  # what is done of such a row must not depend on its neighbours
    on_threads(1)
    expected_y, expected_dx = forward(x, axis=axis), vjp(y, dy, axis=axis)
    for number in (1, 2, 3):
        on_threads(number)
        (step,) = softgrad.explain(forward, x, axis=axis)
        assert step.threads <= number
        assert number == 1 or step.threads > 1
        assert_same_bits(forward(x, axis=axis), expected_y)
        assert_same_bits(vjp(y, dy, axis=axis), expected_dx)
        own, own_y, own_dy = x.copy(), y.copy(), dy.copy()
        assert_same_bits(forward(own, axis=axis, out=own), expected_y)
        assert_same_bits(vjp(own_y, dy, axis=axis, out=own_y), expected_dx)
        assert_same_bits(vjp(y, own_dy, axis=axis, out=own_dy), expected_dx)


@each_dtype
@pytest.mark.parametrize(
    ("function", "count"),
    [
        *[(softmax, 1), (softmax_vjp, 2), (softmax_double_backward, 3)],
        *[(log_softmax, 1), (log_softmax_vjp, 2), (log_softmax_jvp, 2), (log_softmax_double_backward, 3)],
    ],
)
def test_nothing_gives_nothing(function, count, dtype):
    for shape in ((0,), (3, 0), (0, 3), (2, 0, 3), (0, 0)):
        for axis in range(-len(shape), len(shape)):
            for _ in range(2):  # the second one would pass the gate
                found = function(*[np.empty(shape, dtype)] * count, axis=axis)
                for result in found if isinstance(found, tuple) else [found]:
                    assert (result.shape, result.dtype) == (shape, dtype)


@each_dtype
def test_rows_of_one_element(dtype):
    values = np.array([0, 1, -300, 1e4, -np.inf, np.inf, np.nan], dtype)
    expected = np.array([1, 1, 1, 1, 0, np.nan, np.nan])
    for shape, axis in (((7, 1), 1), ((1, 7), 0), ((7, 1, 1), 2), ((1, 7, 1), 0)):
        for _ in range(2):
            y = softmax(values.reshape(shape), axis=axis)
            np.testing.assert_array_equal(y.ravel().astype(float), expected)
            dx = softmax_vjp(y, np.full(shape, 3, dtype), axis=axis)
            np.testing.assert_array_equal(dx.ravel().astype(float), np.where(np.isnan(expected), np.nan, 0))


@pytest.mark.parametrize("shape", [(40, 100), (1, 100), (40, 1)])
@each_dtype
def test_a_mask_that_makes_no_difference_is_not_applied(dtype, shape):
    """Where y is 0 under it and dy is finite the bits are those of a call without one; else it is applied."""
    rng = np.random.default_rng(2)
    where = rng.random(shape) < 0.7
    full = np.broadcast_to(where, (40, 100))
    x, _, dy = inputs((40, 100), dtype)
    y = softmax(x, where=where)
    expected = np.where(full, softmax_vjp(y, dy), np.zeros((), dtype))
    np.testing.assert_array_equal(softmax_vjp(y, dy, where=where), expected)
    for junk in (1e-3, np.nan, np.inf, -np.inf):
        for a, b in (
            (np.where(full, y, np.array(junk, dtype)), dy),
            (y, np.where(full, dy, np.array(junk, dtype))),
        ):
            found = softmax_vjp(a, b, where=where)
            assert (found[~full] == 0).all()
            np.testing.assert_array_equal(found, expected)
    # a row that is not finite is NaN where it is not masked
    y[0, full[0].argmax()] = np.nan
    found = softmax_vjp(y, dy, where=where)
    assert np.isnan(found[0][full[0]]).all() or not full[0].any()
    assert (found[~full] == 0).all()
