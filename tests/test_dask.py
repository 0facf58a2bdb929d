"""Dask arrays: the contract of the whole row at any chunking, lazily, in the memory of a few chunks."""

import itertools
import subprocess
import sys
import tracemalloc

import dask
import dask.array as da
import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from contract import assert_product
from hypothesis import given, settings
from hypothesis import strategies as st

import softgrad
from softgrad.testing import bounds, errors, oracle
from softgrad.testing.cases import gradients, logits, numbers

DTYPES = [np.dtype(name) for name in ("float32", "float64", "float16")] + [np.dtype(ml_dtypes.bfloat16)]
WIDE = oracle.WIDE
FORWARDS = softgrad.softmax, softgrad.log_softmax, softgrad.logsumexp
PRODUCTS = (
    softgrad.softmax_vjp,
    softgrad.softmax_jvp,
    softgrad.log_softmax_vjp,
    softgrad.log_softmax_jvp,
)
each_forward = pytest.mark.parametrize("function", FORWARDS, ids=lambda f: f.__name__)
each_product = pytest.mark.parametrize("function", PRODUCTS, ids=lambda f: f.__name__)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def cut(a, *chunks):
    """a in these chunks along its axes, or in these along all of them."""
    return da.from_array(a, chunks=chunks if len(chunks) > 1 else chunks[0])


def plain(shape=(6, 10)):
    return numbers(int(np.prod(shape)), "dask").reshape(shape) * 3


# --- the contract of the whole row ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [3, 64, 1000])
def test_the_contract_of_the_whole_row(dtype, n):
    """On the hard rows of the checks: ties, a winner, offsets of the logits, and of dy up to 10⁴."""
    x, dy = logits(n, dtype), gradients(n, dtype)
    for size, scale in ((1 + n // 3, 1.0), (1 + n // 50, 1.0), (1 + n // 7, -0.7)):
        chunks = (len(x) // 2 + 1, size)
        y = softgrad.softmax(cut(x, chunks), scale=scale).compute()
        assert y.dtype == dtype
        assert errors.normal_ulps(y, oracle.softmax(x, scale=scale)).max() <= forward_bound(dtype)
        dx = softgrad.softmax_vjp(cut(y, chunks), cut(dy, 3), scale=scale).compute()
        assert_product(dx, y, dy, scale=scale)
        log = softgrad.log_softmax(cut(x, chunks), scale=scale).compute()
        assert log.dtype == dtype
        exact = oracle.log_softmax(x, scale=scale)
        assert errors.ulps_above_1(log, exact).max() <= errors.forward_bound(dtype)
        largest = exact == exact.max(axis=-1, keepdims=True)
        assert errors.ulps(-log[largest], -exact[largest]).max() <= (0.51 if dtype.itemsize == 2 else 3)
        exact = oracle.log_vjp(log, dy, scale=scale)
        dx = softgrad.log_softmax_vjp(cut(log, chunks), dy, scale=scale).compute()
        within(dx, exact, bounds.log_vjp_bound(log, dy, exact, scale=scale))
        exact = oracle.log_jvp(log, dy, scale=scale)
        tangent = softgrad.log_softmax_jvp(cut(log, chunks), dy, scale=scale).compute()
        within(tangent, exact, bounds.log_jvp_bound(log, exact, scale=scale))


def forward_bound(dtype):
    """In ulp.  Of float64 the sum of each part is rounded, not that of the row alone: half an ulp more."""
    return 2.5 if dtype == np.float64 else errors.forward_bound(dtype)


def within(found, exact, allowed):
    assert found.dtype.itemsize <= 8
    beyond = np.abs(exact) > float(errors.info(found.dtype).max)  # inf, rightly
    error = np.where(beyond, 0, np.abs(np.where(beyond, 0, found.astype(WIDE)) - exact))
    assert (error <= allowed).all(), (error / np.where(allowed == 0, 1, allowed)).max()


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("offset", [0, 1e4, 1e10])
def test_a_saturated_row_and_an_offset_of_dy(dtype, offset):
    """The winner, and what ties with it, in any chunk; D far below the offset."""
    x = numbers(12 * 60, "saturated").reshape(12, 60)
    x[np.arange(12), np.arange(12) * 5] += np.linspace(5, 60, 12)
    x[6:, 59] = x[6:].max(axis=-1)  # a tie in the last chunk
    y = softgrad.softmax(x.astype(dtype))
    dy = (numbers(12 * 60, "dy").reshape(12, 60) + offset).astype(dtype)
    dy[3:9] = dy[3:9, :1] + np.where(
        y[3:9] > 1e-3, 0, dy[3:9] - dy[3:9, :1]
    )  # no distance where y has weight
    for chunks in ((12, 7), (5, 1), (12, (1, 58, 1))):
        assert_product(softgrad.softmax_vjp(cut(y, chunks), cut(dy, 4, 9)).compute(), y, dy)
        constant = softgrad.softmax_vjp(cut(y, chunks), np.full_like(y, offset + 0.3)).compute()
        assert not constant.any()


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_a_winner_far_from_the_mean(dtype):
    """The mean about the dy of the winner is off by eps of that distance, n times D: in float64 too much."""
    n = 20_000
    y = np.full((2, n), 1 / n, dtype)
    y[:, n // 3] *= dtype.type(1.001)
    dy = numbers(2 * n, "far").reshape(2, n).astype(dtype)
    dy[:, n // 3] = n
    assert_product(softgrad.softmax_vjp(cut(y, 1, 3000), dy).compute(), y, dy)


def test_a_sure_row_keeps_its_digits():
    y, dy = np.array([-1e-20, -46.0, -50.0]), np.array([1.0, 0.0, 0.0])
    dx = softgrad.log_softmax_vjp(cut(y, 1), dy).compute()
    np.testing.assert_allclose(dx, [1e-20, -np.exp(-46.0), -np.exp(-50.0)], rtol=1e-15)
    np.testing.assert_allclose(
        softgrad.log_softmax(cut(np.array([0.0, -46.0, -50.0]), 1)).compute()[0],
        -np.exp(-46.0) - np.exp(-50.0),
        rtol=1e-15,
    )


@st.composite
def cut_arrays(draw):
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    chunks = []
    for size in shape:
        ends = draw(st.lists(st.integers(0, size), max_size=4))  # a chunk may have nothing in it
        ends = [0, *sorted(ends), size]
        chunks.append(tuple(b - a for a, b in itertools.pairwise(ends)))
    axes = draw(st.sampled_from([None, -1, 0, (0, -1) if len(shape) > 1 else 0, tuple(range(len(shape)))]))
    return tuple(shape), tuple(chunks), axes, draw(st.integers(0, 99))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cut_arrays())
def test_any_chunks_along_any_axes(case):
    shape, chunks, axis, seed = case
    x = numbers(int(np.prod(shape)), "any", seed=seed).reshape(shape) * 4
    dy, where = np.cos(x) + 100, np.sin(7 * x) > -0.8
    for mask in (None, where):
        y = softgrad.softmax(cut(x, chunks), axis=axis, where=mask)
        assert y.chunks == chunks
        whole = oracle.softmax(x, axis, where=mask)
        assert errors.normal_ulps(y.compute(), whole).max(initial=0) <= forward_bound(x.dtype)
        y = softgrad.softmax(x, axis=axis, where=mask)
        dx = softgrad.softmax_vjp(cut(y, chunks), dy, axis=axis, where=mask)
        assert dx.chunks == chunks
        assert_product(dx.compute(), y, dy, axis, where=mask)


# --- what is not plain ------------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
ROWS = np.array(
    [
        [1, 2, 3, 4, 5, 6],
        [NAN, 1, 2, 3, 4, 5],
        [INF, 1, 2, 3, 4, 5],
        [1, 2, INF, INF, 0, 1],
        [-INF] * 6,
        [-INF, -INF, -INF, -INF, 1, 2],
        [NAN, -INF, INF, 0, 1, 2],
        [1e300, -1e300, 1e308, 1e308, 0, 0],
        [-INF, -INF, 3, -INF, -INF, -INF],
        [INF, -INF, -INF, -INF, -INF, -INF],
        [NAN] * 6,
    ]
)
MASKS = {
    "none": None,
    "some": np.sin(np.arange(66.0)).reshape(11, 6) < 0.6,
    "columns": np.array([True, True, True, False, False, False]),
    "all": np.zeros((1, 6), bool),
    "rows": np.arange(11)[:, None] % 2 == 0,
}


@each_forward
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_a_row_that_is_cut_is_as_one_that_is_not(function, dtype, mask):
    """NaN, ±inf, nothing: where a function of NumPy arrays has them, and to the same eps."""
    with np.errstate(over="ignore"):
        x = ROWS.astype(dtype)
    where = MASKS[mask]
    masks = [where] if where is None else [where, cut(where, 2)]
    empties = [{"empty": "zero"}, {"empty": "nan"}] if function is not softgrad.logsumexp else [{}]
    for of_dask, scale, empty, axis in itertools.product(masks, (1, 0, -2, 1.5), empties, (-1, 0, None)):
        options = {"scale": scale, "axis": axis, **empty}
        expected = function(x, where=where, **options)
        found = function(cut(x, 3, 2), where=of_dask, **options)
        assert (found.dtype, found.shape) == (dtype, expected.shape)
        near(found.compute(), expected, (mask, options))


def near(found, expected, about):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), about
    eps = errors.eps(expected.dtype)
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    allowed = 4 * eps * np.maximum(np.abs(np.where(np.isfinite(expected), expected, 0)), 1e-300)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        assert (same | (np.abs(found - expected) <= allowed)).all(), (about, found, expected)


@each_product
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
def test_a_gradient_that_is_cut_is_as_one_that_is_not(function, dtype):
    y = np.array(
        [
            [0.5, 0.5, 0, 0, 0, 0],
            [0] * 6,
            [0.25, 0.75, 0, 0, 0, 0],
            [0, 0, 0, 0, 0.5, 0.5],
            [0.25] * 4 + [0, 0],
            [NAN, 0.5, 0.5, 0, 0, 0],
            [1, 0, 0, 0, 0, 0],
        ],
        dtype,
    )
    of_log = function.__name__.startswith("log")
    if of_log:
        with np.errstate(divide="ignore"):
            y = np.log(y)
    cotangents = ([1, 2, 3, 4, 5, 7], [NAN, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, NAN], [1, 2, 3, 4, 5, INF])
    for v in (*cotangents, [-INF, 1, 2, 3, INF, 5], [7] * 6):
        dy = np.broadcast_to(np.array(v, dtype), y.shape)
        for where in (None, np.array([1, 0, 1, 1, 1, 0], bool), np.zeros(6, bool)):
            for scale in (1, -2.5, 0):
                expected = function(y, dy, where=where, scale=scale)
                found = function(cut(y, 2, 2), dy, where=where, scale=scale).compute()
                assert found.dtype == dtype
                finite = np.isfinite(expected)
                np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), str((v, where, scale)))
                gap = np.abs(found[finite].astype(float) - expected[finite].astype(float)).max(initial=0)
                assert gap <= 16 * errors.eps(dtype) * abs(scale) * 7, (v, where, scale)


def test_an_empty_row_that_is_to_raise_does_when_it_is_computed():
    for chunks in ((2, 2), (2, 6)):
        y = softgrad.softmax(cut(ROWS, *chunks), empty="raise")
        log = softgrad.log_softmax(cut(ROWS, *chunks), empty="raise")
        for result in (y, log):
            with pytest.raises(ValueError, match="x has a row with nothing in it"):
                result.compute()
        softgrad.softmax(cut(ROWS[5:], *chunks), empty="raise").compute()


@each_forward
def test_arrays_without_elements_and_without_axes(function):
    for shape, axis in itertools.product([(0,), (3, 0), (0, 3), (0, 0)], [-1, 0, None]):
        x = da.zeros(shape, chunks=2, dtype="float32")
        near(function(x, axis=axis).compute(), function(np.zeros(shape, np.float32), axis=axis), shape)
    number = function(da.from_array(np.float32(3)))
    assert (number.shape, number.dtype) == ((), np.float32)
    near(np.asarray(number.compute()), np.asarray(function(np.float32(3))), "number")
    x = plain()
    near(function(cut(x, 2, 3), axis=()).compute(), function(x, axis=()), "axis=()")


def test_the_gradient_of_a_number():
    y = da.from_array(np.float64(1))
    assert softgrad.softmax_vjp(y, y).compute() == 0
    assert softgrad.softmax_vjp(da.zeros((0, 3), chunks=2), np.zeros((0, 3))).compute().shape == (0, 3)


def unknown(a):
    """In chunks of which Dask does not know the size."""
    x = cut(a, 2, 3)
    return x[x[:, 0] > -INF]


@pytest.mark.parametrize("axis", [-1, 0, None, (0, 1)])
def test_chunks_of_unknown_size(axis):
    x, dy = plain(), np.cos(plain())
    for function in FORWARDS:
        found = function(unknown(x), axis=axis, where=unknown(x > -2)).compute()
        near(found, function(x, axis=axis, where=x > -2), function)
    y = softgrad.softmax(x, axis=axis)
    assert_product(softgrad.softmax_vjp(unknown(y), unknown(dy), axis=axis).compute(), y, dy, axis)
    columns = np.arange(10) != 3
    near(softgrad.softmax(unknown(x), where=columns).compute(), softgrad.softmax(x, where=columns), "columns")


def test_what_may_not_fit_is_refused():
    x = plain()
    for call in (
        lambda: softgrad.softmax_vjp(unknown(x), x),
        lambda: softgrad.softmax_vjp(cut(x, 2, 3), unknown(x)),
        lambda: softgrad.softmax(unknown(x), where=x > 0),
        lambda: softgrad.softmax(cut(x, 2, 3), where=unknown(x > 0)),
    ):
        with pytest.raises(
            ValueError, match=r"has shape \(.*that they fit is not known.*compute_chunk_sizes"
        ):
            call()
    assert softgrad.softmax_vjp(unknown(x).compute_chunk_sizes(), x).chunks == ((2, 2, 2), (3, 3, 3, 1))
    other = cut(x, 3, 3)[cut(x, 3, 3)[:, 0] > 0]  # two chunks where the other has three
    with pytest.raises(ValueError, match="that they fit is not known"):
        softgrad.softmax_vjp(unknown(x), other)
    fewer = cut(x, 2, 3)[cut(x, 2, 3)[:, 0] > 0]  # three of other sizes: seen when they meet
    with pytest.raises(ValueError, match="a block of y has shape"):
        softgrad.softmax_vjp(unknown(x), fewer).compute()


# --- lazily, the same each time, in little memory -----------------------------------------------------------


class Counted:
    """Blocks that count how often they are made."""

    def __init__(self, rows=8, columns=12, size=5):
        self.calls, self.shape = 0, (rows, size)
        self.array = da.map_blocks(
            self.block, chunks=((rows,), (size,) * columns), dtype="float32", meta=np.empty((0, 0), "float32")
        )

    def block(self, block_info=None):
        self.calls += 1
        place = block_info[None]["chunk-location"][1]
        return numbers(self.shape[0] * self.shape[1], place).reshape(self.shape).astype(np.float32)


def test_nothing_is_computed_by_the_call_and_a_block_is_made_twice():
    counted = Counted()
    x = counted.array
    y = softgrad.softmax(x)
    dx = softgrad.softmax_vjp(y, da.sin(x))
    softgrad.log_softmax(x), softgrad.logsumexp(x), softgrad.softmax(x, axis=0)
    assert counted.calls == 0
    y.compute()
    assert counted.calls == 2 * 12
    counted.calls = 0
    dx.compute()  # once for the numbers of y, and for each pass in y and in dy
    assert counted.calls == (1 + 2 + 2) * 12


def test_names_and_bits_are_the_same_each_time():
    x = plain((6, 40)).astype(np.float32)
    calls = [
        lambda x: softgrad.softmax(x, where=x > -5),
        softgrad.log_softmax,
        softgrad.logsumexp,
        lambda x: softgrad.softmax_vjp(softgrad.softmax(x), da.cos(x) + 1e6),
        lambda x: softgrad.log_softmax_vjp(x, x),
        lambda x: softgrad.log_softmax_jvp(x.astype(float), x, axis=None),
    ]
    for call in calls:
        a, b = call(cut(x, 2, 7)), call(cut(x, 2, 7))
        assert a.name == b.name
        first = a.compute()
        for scheduler in ("synchronous", "threads"):
            assert a.compute(scheduler=scheduler).tobytes() == first.tobytes()
    everything = [call(cut(x, 2, 7)) for call in calls]
    in_processes = dask.compute(*everything, scheduler="processes", num_workers=2)
    for one, other in zip(dask.compute(*everything), in_processes, strict=True):
        assert one.tobytes() == other.tobytes()


def test_an_axis_that_is_one_chunk_is_one_task_a_block_and_has_its_bits():
    x = plain((6, 40)).astype(np.float32)
    y = softgrad.softmax(cut(x, 2, -1))
    assert y.chunks == ((2, 2, 2), (40,))
    np.testing.assert_array_equal(y.compute(), softgrad.softmax(x))
    assert len(dask.optimize(y)[0].__dask_graph__()) <= 3 + 3 + 1  # and the array itself
    dx = softgrad.softmax_vjp(y, cut(x, 3, 7))
    np.testing.assert_array_equal(dx.compute(), softgrad.softmax_vjp(softgrad.softmax(x), x))
    result = softgrad.logsumexp(cut(x, 2, -1), keepdims=True)
    np.testing.assert_array_equal(result.compute(), softgrad.logsumexp(x, keepdims=True))


def test_how_many_tasks():
    """Two a block, and a tree of fours."""
    x = Counted(columns=64).array
    tasks = len(dask.optimize(softgrad.softmax(x))[0].__dask_graph__())
    assert tasks <= 2 * 64 + 16 + 4 + 1


@pytest.mark.parametrize(
    "by", ["blocks", "random", "optimized", "delayed", "slices", "concatenated", "rechunked"]
)
def test_an_array_of_any_origin(by):
    """Made a second time, or kept, blocks are the same."""
    random = da.random.default_rng(0).normal(size=(6, 12), chunks=(3, 4))
    x = {
        "blocks": lambda: Counted().array[:, 1:7].rechunk((4, 2)) + 1,
        "random": lambda: random,
        "optimized": lambda: dask.optimize(random - random.mean(axis=-1, keepdims=True))[0],
        "delayed": lambda: da.concatenate(
            [da.from_delayed(dask.delayed(np.full)((2, 3), i), (2, 3), float) for i in (1.0, 2.0, 3.0)],
            axis=1,
        ),
        "slices": lambda: (random * 2)[::2, [3, 1, 7]],
        "concatenated": lambda: da.concatenate([random, da.flip(random, 1)], axis=1),
        "rechunked": lambda: (random.T @ random).rechunk((3, 2)),
    }[by]()
    whole = x.compute()
    y = softgrad.softmax(x)
    assert errors.normal_ulps(y.compute(), oracle.softmax(whole)).max() <= 2.5
    for weights in (y, y.persist()):
        dx = softgrad.softmax_vjp(weights, da.cos(x) + 10).compute()
        assert_product(dx, y.compute(), np.cos(whole) + 10)


class Dropped:
    def __setitem__(self, place, block):
        pass


def peak(array):
    """Bytes in memory at once, at most, while the array goes nowhere block by block."""
    tracemalloc.start()
    try:
        da.store(array, Dropped(), lock=False)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MANY, BLOCK = 96, (32, 2048)


@pytest.mark.parametrize("by", ["blocks", "random"])
def test_memory_holds_a_few_blocks_and_not_a_row_of_them(by):
    if by == "blocks":
        x = Counted(BLOCK[0], MANY, BLOCK[1]).array
    else:
        x = da.random.default_rng(0).normal(size=(BLOCK[0], MANY * BLOCK[1]), chunks=BLOCK).astype("float32")
    block = BLOCK[0] * BLOCK[1] * 4
    plainly = np.exp(x - x.max(axis=-1, keepdims=True))
    assert peak(plainly / plainly.sum(axis=-1, keepdims=True)) > MANY * block  # by Dask's own functions
    for result, most in (  # float64 temporaries, each of two blocks, are most of it
        (softgrad.softmax(x, where=x > -2), 20),
        (softgrad.log_softmax(x), 32),
        (softgrad.softmax_vjp(x, x, where=x > -2), 20),
        (softgrad.softmax_vjp(softgrad.softmax(x), da.cos(x)), 24),
    ):
        assert peak(result) <= most * block


# --- the house --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_and_metas(dtype):
    x = plain().astype(dtype)
    for function in FORWARDS:
        result = function(cut(x, 2, 3))
        assert (type(result._meta), result.dtype) == (np.ndarray, dtype)
        assert result._meta.ndim == result.ndim
        assert result.compute().dtype == dtype
    for other in DTYPES:
        dx = softgrad.softmax_vjp(cut(x, 2, 3), x.astype(other))
        assert dx.dtype == dx.compute().dtype == softgrad.softmax_vjp(abs(x), x.astype(other)).dtype
    whole = cut(np.arange(12).reshape(2, 6), 1, 2)
    assert softgrad.softmax(whole).dtype == softgrad.softmax(whole).compute().dtype == np.float64
    assert softgrad.softmax_vjp(whole, whole).compute().dtype == np.float64


def test_the_function_for_both_and_keepdims():
    x, dy = plain(), np.cos(plain())
    y, vjp = softgrad.softmax_with_vjp(cut(x, 2, 3), axis=0)
    assert_product(vjp(dy).compute(), y.compute(), dy, 0)
    for axis, keepdims in itertools.product([0, -1, None, (0, 1)], [False, True]):
        result = softgrad.logsumexp(cut(x, 2, 3), axis=axis, keepdims=keepdims)
        assert (
            result.shape
            == softgrad.logsumexp(x, axis=axis, keepdims=keepdims).shape
            == result.compute().shape
        )


REFUSED = {
    "out": (
        lambda x, d: softgrad.softmax(d, out=x),
        TypeError,
        "out is not taken with a dask.Array.*leave it",
    ),
    "out of a vjp": (lambda x, d: softgrad.softmax_vjp(d, d, out=x), TypeError, "out is not taken"),
    "axis": (lambda x, d: softgrad.softmax(d, axis=5), np.exceptions.AxisError, "axis"),
    "bool": (lambda x, d: softgrad.softmax(d > 0), TypeError, "x has dtype bool"),
    "complex": (lambda x, d: softgrad.softmax_vjp(d, d * 1j), TypeError, "dy has dtype complex128"),
    "masked": (lambda x, d: softgrad.softmax(da.ma.masked_array(d)), TypeError, "x is a masked array"),
    "empty": (lambda x, d: softgrad.softmax(d, empty="no"), ValueError, "'zero', 'nan', 'raise'"),
    "scales": (
        lambda x, d: softgrad.softmax(d, scale=np.ones((6, 1))),
        TypeError,
        "scale takes a real number",
    ),
    "scale": (lambda x, d: softgrad.softmax(d, scale=INF), ValueError, "scale=inf"),
    "mask of floats": (lambda x, d: softgrad.softmax(d, where=d), TypeError, "where has dtype float64"),
    "mask": (lambda x, d: softgrad.softmax(d, where=d[:4] > 0), ValueError, "where has shape .4, 10."),
    "shape": (
        lambda x, d: softgrad.softmax_vjp(d, d[:3]),
        ValueError,
        "y has shape .6, 10. and dy has shape",
    ),
    "y of NumPy": (lambda x, d: softgrad.softmax_vjp(x, d), TypeError, "dy is a dask.Array, where NumPy"),
    "masked mask": (
        lambda x, d: softgrad.softmax(d, where=da.ma.masked_array(d > 0)),
        TypeError,
        "where is a",
    ),
    "x of NumPy": (
        lambda x, d: softgrad.softmax(x, where=d > 0),
        TypeError,
        "where is a dask.Array, where NumPy",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_at_the_call(case):
    call, error, text = REFUSED[case]
    x = plain()
    with pytest.raises(error, match=text):
        call(x, cut(x, 2, 3))


def test_blocks_that_are_not_of_numpy():
    x = cut(plain(), 2, 3)
    other = x.map_blocks(scipy.sparse.csr_array)
    for name, call in {
        "x": lambda: softgrad.softmax(other),
        "dy": lambda: softgrad.softmax_vjp(x, other),
        "where": lambda: softgrad.softmax(x, where=other),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name} is a dask\.Array with blocks of type .*map_blocks"):
            call()


OTHERS = {
    "sparsemax": lambda d: softgrad.sparsemax(d),
    "entmax_vjp": lambda d: softgrad.entmax_vjp(d, d),
    "entropy": lambda d: softgrad.entropy(d),
    "logsumexp_vjp": lambda d: softgrad.logsumexp_vjp(d, d[:, 0]),
    "softmax_double_backward": lambda d: softgrad.softmax_double_backward(d, d, d),
    "return_mean": lambda d: softgrad.softmax_vjp(d, d, return_mean=True),
    "cross_entropy": lambda d: softgrad.cross_entropy(d, np.zeros(6, int)),
    "sink_softmax": lambda d: softgrad.sink_softmax(d, 0.0),
    "segment_softmax": lambda d: softgrad.segment_softmax(d, [0, 6]),
    "Softmax": lambda d: softgrad.Softmax().forward(d),
    "softmax_jacobian": lambda d: softgrad.softmax_jacobian(d),
}


@pytest.mark.parametrize("name", OTHERS)
def test_all_others_say_which_rechunk_would_do(name):
    d = cut(plain(), 2, 3)
    with pytest.raises(
        TypeError, match=r"^([xy]) is a dask\.Array.*\1\.rechunk\(\{axis: -1\}\).*map_blocks\(function, \1"
    ):
        OTHERS[name](d)
    np.testing.assert_array_equal(
        d.rechunk({-1: -1}).map_blocks(softgrad.sparsemax).compute(), softgrad.sparsemax(plain())
    )


def test_softgrad_imports_no_dask():
    code = "import softgrad, sys; softgrad.softmax([1.0]); assert 'dask' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
