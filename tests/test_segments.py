"""Softmax in segments: what is true of `softmax` is true within each of them, and none knows of another."""

import itertools
import re

import numpy as np
import pytest
from contract import assert_product, peak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import softgrad
from softgrad import (
    segment_softmax,
    segment_softmax_jvp,
    segment_softmax_vjp,
    segment_softmax_with_vjp,
    softmax,
    softmax_vjp,
)
from softgrad.cpu import machine
from softgrad.testing import cases, errors, mutants, oracle
from softgrad.testing.search import LENGTHS as SEARCHED
from softgrad.testing.search import search

NAN, INF = np.nan, np.inf
FLOAT32 = np.dtype(np.float32)
OFFSETS = [0, 2, 2, 5, 6]
each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)

# name: each public function as a function of one array and offsets
FUNCTIONS = {
    "segment_softmax": segment_softmax,
    "segment_softmax_vjp": lambda y, offsets, **options: segment_softmax_vjp(y, y, offsets, **options),
    "segment_softmax_jvp": lambda y, offsets, **options: segment_softmax_jvp(y, y, offsets, **options),
    "segment_softmax_with_vjp": lambda x, offsets, **options: segment_softmax_with_vjp(x, offsets, **options)[
        0
    ],
}
each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def in_segments(function, offsets, axis, *arrays, **options):
    """A function of rows, called for each segment by itself."""
    arrays = [np.moveaxis(np.asarray(a), axis, 0) for a in arrays]
    parts = [
        function(*(a[start:stop] for a in arrays), axis=0, **options)
        for start, stop in itertools.pairwise(map(int, offsets))
        if start < stop
    ]
    return np.moveaxis(np.concatenate(parts), 0, axis)


def misses(dx, y, exact, offsets, axis, scale=1.0):
    """The worst error of each row of each segment in units of what softmax's vjp promises: at most 1."""
    return in_segments(
        lambda dx, y, exact, axis: np.broadcast_to(errors.product_miss(dx, y, exact, axis, scale), dx.shape),
        offsets,
        axis,
        dx,
        y,
        exact,
    )


def forward_bound(dtype):
    return 0.51 if dtype.itemsize == 2 else 2


# --- the contract, on the hard cases ---------------------------------------------------------------------

# Around the lengths at which the kernels change their way: parts of 8, 16 and 32 lanes, `SHORT`.
LENGTHS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 37, 64, 100, 127, 129, 255, 257, 512, 1000)
# How many features are side by side; 0: the elements of a segment are.
WIDTHS = (0, 1, 3, 8, 9, 16, 20, 32, 36)


def hard(dtype, width):
    """What makes one array of those of each length, and offsets: hard rows as segments, or as columns."""
    order = np.random.default_rng(0).permutation(len(LENGTHS) * (1 if width else len(cases.ALL_PAIRS)))
    if width:
        lengths = [LENGTHS[i] for i in order]

        def joined(of_length):
            return np.concatenate([of_length(n, dtype)[:width].T for n in lengths])
    else:
        pairs = [(LENGTHS[i // len(cases.ALL_PAIRS)], i % len(cases.ALL_PAIRS)) for i in order]
        lengths = [n for n, _ in pairs]

        def joined(of_length):
            return np.concatenate([of_length(n, dtype)[row] for n, row in pairs])

    return joined, np.concatenate([[0], np.cumsum(lengths)])


def check_forward(segment_softmax, dtype, width):
    joined, offsets = hard(dtype, width)
    y = segment_softmax(joined(cases.logits), offsets)
    assert y.dtype == dtype
    assert errors.ulps(y, joined(cases.exact_softmax)).max() <= forward_bound(dtype)


def check_vjp(segment_vjp, dtype, width):
    joined, offsets = hard(dtype, width)
    y, dy, exact = joined(cases.weights), joined(cases.gradients), joined(cases.exact_vjp)
    dx = segment_vjp(y, dy, offsets)
    assert dx.dtype == dtype
    assert misses(dx, y, exact, offsets, 0).max() <= 1


@each_dtype
@pytest.mark.parametrize("width", WIDTHS)
def test_the_forward_is_within_its_bound(dtype, width):
    check_forward(segment_softmax, dtype, width)


@each_dtype
@pytest.mark.parametrize("width", WIDTHS)
def test_the_vjp_is_within_its_bound(dtype, width):
    check_vjp(segment_softmax_vjp, dtype, width)


def off_by_one(offsets):
    """Every segment has the first row of its successor, and has lost its own first."""
    return np.concatenate([[0], np.minimum(offsets[1:-1] + 1, offsets[-1]), offsets[-1:]])


def exactly(function, offsets, *arrays):
    """A longdouble function of rows, called for each segment, and rounded."""
    return in_segments(function, offsets, 0, *arrays).astype(arrays[0].dtype)


# name: (a wrong segment_softmax, a wrong vjp)
WRONG = {
    "the whole axis": (
        lambda x, offsets: exactly(oracle.softmax, offsets[[0, -1]], x),
        lambda y, dy, offsets: exactly(mutants.reference, offsets[[0, -1]], y, dy),
    ),
    "off by one": (
        lambda x, offsets: exactly(oracle.softmax, off_by_one(offsets), x),
        lambda y, dy, offsets: exactly(mutants.reference, off_by_one(offsets), y, dy),
    ),
    "two segments as one": (
        lambda x, offsets: exactly(oracle.softmax, np.append(offsets[:-1:2], offsets[-1]), x),
        lambda y, dy, offsets: exactly(mutants.reference, np.append(offsets[:-1:2], offsets[-1]), y, dy),
    ),
    "the last row forgotten": (
        lambda x, offsets: exactly(
            lambda x, axis: (
                oracle.softmax(x, axis) * (np.arange(len(x)) < len(x) - 1).reshape(-1, *[1] * (x.ndim - 1))
            ),
            offsets,
            x,
        ),
        lambda y, dy, offsets: exactly(mutants.MUTANTS["mean over n"], offsets, y, dy),
    ),
    "narrow": (
        lambda x, offsets: exactly(mutants.narrow_softmax, offsets, x),
        lambda y, dy, offsets: exactly(mutants.narrow, offsets, y, dy),
    ),
    "no weight": (
        lambda x, offsets: exactly(mutants.WRONG_SOFTMAXES["base 2"], offsets, x),
        lambda y, dy, offsets: exactly(mutants.MUTANTS["no weight"], offsets, y, dy),
    ),
}


@each_dtype
@pytest.mark.parametrize("width", [0, 8])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_is_not(name, dtype, width):
    wrong_softmax, wrong_vjp = WRONG[name]
    with np.errstate(all="ignore"):
        with pytest.raises(AssertionError):
            check_forward(wrong_softmax, dtype, width)
        with pytest.raises(AssertionError):
            check_vjp(wrong_vjp, dtype, width)


def test_the_right_one_is():
    for dtype in cases.DTYPES:
        check_forward(lambda x, offsets: exactly(oracle.softmax, offsets, x), dtype, 0)
        check_vjp(lambda y, dy, offsets: exactly(oracle.vjp, offsets, y, dy), dtype, 0)


@each_dtype
@pytest.mark.parametrize("width", [0, 8, 40])
def test_a_first_row_that_has_next_to_no_weight(dtype, width):
    """No reference for the mean: its dy may lie far away from those that matter."""
    faint, far = (1e-7, 6e4) if dtype == np.float16 else (1e-30, 1e30)
    y = np.array([faint, 0.25, 0.75, 0.0, 0.5, 0.5, 0.5, 0.25, 0.25], dtype)
    dy = np.array([far, 1.0, 1.25, far, 3.0, 3.5, 1.0, 2.0, 3.0], dtype)
    y, dy = (np.tile(np.stack([a] * width, 1) if width else a, [100] + [1] * bool(width)) for a in (y, dy))
    offsets = np.append(np.arange(100)[:, None] * 9 + [0, 3, 6], 900)
    dx = segment_softmax_vjp(y, dy, offsets)
    assert misses(dx, y, in_segments(oracle.vjp, offsets, 0, y, dy), offsets, 0).max() <= 1


@each_dtype
@pytest.mark.parametrize("width", [0, 5])
def test_a_constant_gradient_gives_0(dtype, width):
    joined, offsets = hard(dtype, width)
    y = joined(cases.weights)
    for c in (1.0, -100.0, 0.1):
        left = np.abs(segment_softmax_vjp(y, np.full_like(y, c), offsets).astype(oracle.WIDE))
        assert (left == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [0, 8])
def test_the_search_finds_nothing_beyond_the_contract(dtype, width):
    """Rows as segments, or as segments of columns side by side; each beside others of another length."""

    def vjp(y, dy):
        (count, n), more = y.shape, max(width, 1)
        lengths = np.tile([n, 3], count)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        own = np.repeat(np.tile([True, False], count), lengths)
        given = []
        for rows in (y, dy):
            rows = rows[np.arange(count * more).reshape(count, more) % count]  # (count, more, n)
            flat = np.full((len(own), more), 0.5, y.dtype)
            flat[own] = np.moveaxis(rows, 1, 2).reshape(-1, more)
            given.append(flat if width else flat[:, 0])
        dx = segment_softmax_vjp(*given, offsets)[own].reshape(count, n, more)
        result = np.empty_like(y)
        result[np.arange(count * more).reshape(count, more) % count] = np.moveaxis(dx, 1, 2)
        return result

    found = max(itertools.islice(search(vjp, dtype, 0), 2 * len(SEARCHED)), key=lambda found: found.error)
    assert found.error <= errors.product_bound(np.dtype(dtype)), str(found)


@pytest.mark.parametrize("width", [0, 3, 8, 12])
def test_the_formulas_do_what_the_kernels_do(width, monkeypatch):
    x, dy = (
        cases.numbers(40 * max(width, 1), key).reshape(40, -1)[:, : width or None] for key in ("x", "dy")
    )
    x[3:7], x[20] = -INF, NAN
    x, dy, offsets = (x, dy, [0, 3, 7, 7, 19, 40]) if width else (x[:, 0], dy[:, 0], [0, 3, 7, 7, 19, 40])
    found = []
    for _ in range(2):
        y = segment_softmax(x, offsets, scale=-0.5)
        found.append((y, segment_softmax_vjp(y, dy, offsets, scale=3.0)))
        monkeypatch.setattr(machine, "lacks", lambda dtype: "everything")
    steps = softgrad.explain(lambda: segment_softmax(x, offsets))
    assert {step.by for step in steps} == {"formulas"}
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-15)


# --- any offsets, shape, axis and layout -------------------------------------------------------------------


def spaced(array):
    room = np.zeros([2 * size for size in array.shape], array.dtype)
    result = room[tuple(slice(None, None, 2) for _ in array.shape)]
    result[...] = array
    return result


def widened(array):
    room = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    room[..., 1:-2] = array
    return room[..., 1:-2]


# the same numbers, lying otherwise in memory
LAYOUTS = {
    "C": np.copy,
    "F": lambda array: array.copy(order="F"),
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "strided": spaced,
    "wide": widened,
}


def laid_out(array, layout):
    return LAYOUTS[layout](array)


lengths = st.lists(
    st.one_of(st.integers(0, 5), st.integers(0, 40), st.sampled_from([0, 1, 255, 256, 257, 600])),
    min_size=1,
    max_size=12,
).filter(any)


@each_dtype
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=lengths,
    before=st.lists(st.integers(1, 3), max_size=1),
    behind=st.lists(st.integers(1, 40), max_size=1),
    scale=st.sampled_from([1.0, 1.0, 0.5, -2.0]),
    layouts=st.tuples(*[st.sampled_from(list(LAYOUTS))] * 2),
    index=st.sampled_from(["i2", "u2", "i4", "u4", "i8", "u8", ">i4"]),
    spread=st.sampled_from([1, 10]),
)
def test_as_softmax_of_each_segment(dtype, lengths, before, behind, scale, layouts, index, spread):
    offsets = np.cumsum([0, *lengths]).astype(index)
    axis = len(before)
    shape = *before, sum(lengths), *behind
    x, dy = (cases.numbers(int(np.prod(shape)), key).reshape(shape) for key in ("x", "dy"))
    x, dy = laid_out((x * spread).astype(dtype), layouts[0]), laid_out(dy.astype(dtype), layouts[1])
    given_x, given_dy = x.copy(), dy.copy()

    y = segment_softmax(x, offsets, axis=axis, scale=scale)
    assert y.dtype == dtype
    assert errors.ulps(y, in_segments(oracle.softmax, offsets, axis, x, scale=scale)).max() <= forward_bound(
        dtype
    )
    loop = in_segments(softmax, offsets, axis, x, scale=scale)
    assert errors.ulps(y, loop.astype(oracle.WIDE)).max() <= 2 * forward_bound(dtype)

    dx = segment_softmax_vjp(y, dy, offsets, axis=axis - len(shape), scale=scale)
    exact = in_segments(oracle.vjp, offsets, axis, y, dy, scale=scale)
    assert misses(dx, y, exact, offsets, axis, scale).max() <= 1
    loop = in_segments(softmax_vjp, offsets, axis, y, dy, scale=scale)
    for begin, end in itertools.pairwise(map(int, offsets)):
        segment = (*[slice(None)] * axis, slice(begin, end))
        if loop[segment].size:
            assert_product(loop[segment], y[segment], dy[segment], axis, scale)

    out = laid_out(np.full(shape, NAN, dtype), layouts[0])
    assert segment_softmax(x, offsets, axis=axis, scale=scale, out=out) is out
    np.testing.assert_array_equal(out, y)
    assert segment_softmax_vjp(y, dy, offsets, axis=axis, scale=scale, out=out) is out
    assert misses(out, y, exact, offsets, axis, scale).max() <= 1
    np.testing.assert_array_equal(x, given_x)
    np.testing.assert_array_equal(dy, given_dy)


@pytest.mark.parametrize("dtype", [FLOAT32, np.dtype(np.float64)], ids=str)
@pytest.mark.parametrize("width", [0, 3, 8, 40])
def test_a_segment_gives_the_same_bits_alone(dtype, width):
    """Those that it shares vectors with make no difference."""
    joined, offsets = hard(dtype, width)
    x, dy = joined(cases.logits), joined(cases.gradients)
    y = segment_softmax(x, offsets)
    dx = segment_softmax_vjp(y, dy, offsets)
    for start, stop in itertools.pairwise(offsets[:300]):
        alone = y[start:stop], dy[start:stop]
        np.testing.assert_array_equal(segment_softmax(x[start:stop], [0, stop - start]), y[start:stop])
        np.testing.assert_array_equal(segment_softmax_vjp(*alone, [0, stop - start]), dx[start:stop])


@pytest.mark.parametrize(
    ("shape", "axis", "order"),
    [
        ((10**6,), 0, "C"),
        ((3, 300_000), 1, "C"),
        ((125_000, 8), 0, "C"),
        ((10_000, 100), 0, "C"),
        ((125_000, 8), 0, "F"),
    ],
)
def test_the_same_bits_for_any_number_of_threads(number_of_threads, shape, axis, order):
    rng = np.random.default_rng(0)
    x, dy = (np.asarray(rng.standard_normal(shape), FLOAT32, order=order) for _ in "xd")
    n = shape[axis]
    offsets = np.concatenate([[0], np.sort(rng.integers(0, n + 1, n // 10)), [n - n // 3] * 2, [n]])
    offsets.sort()
    found = []
    for number in (1, 2, 3, 7):
        number_of_threads(number)
        y = segment_softmax(x, offsets, axis=axis)
        dx = segment_softmax_vjp(y, dy, offsets, axis=axis)
        over_x, over_dy = x.copy(order="K"), dy.copy(order="K")
        np.testing.assert_array_equal(segment_softmax(over_x, offsets, axis=axis, out=over_x), y)
        np.testing.assert_array_equal(segment_softmax_vjp(y, over_dy, offsets, axis=axis, out=over_dy), dx)
        found.append([y.tobytes(), dx.tobytes()])
    assert found[1:] == found[:1] * 3


# --- edges ---------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("width", [0, 8])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_nan_and_infinity_stay_in_their_segment(dtype, width, bad):
    offsets = np.cumsum([0, 3, 0, 1, 5, 2, 40, 300, 7])
    x = np.zeros((offsets[-1], width) if width else offsets[-1], dtype)
    whole = segment_softmax(x, offsets)
    for s in range(len(offsets) - 1):
        here = slice(offsets[s], offsets[s + 1])
        if here.start == here.stop:
            continue
        spoiled = x.copy()
        spoiled[here.stop - 1] = bad
        y, dx = segment_softmax(spoiled, offsets), segment_softmax_vjp(whole, spoiled, offsets)
        assert np.isnan(y[here]).all()
        assert np.isnan(dx[here]).all()
        y[here], dx[here] = whole[here], 0
        np.testing.assert_array_equal(y, whole)
        np.testing.assert_array_equal(dx, 0)


@each_dtype
@pytest.mark.parametrize("width", [0, 8])
def test_a_segment_with_nothing_in_it_is_0(dtype, width):
    offsets = [0, 3, 4, 6]
    x = np.array([-INF] * 3 + [2.0, -INF, 7.0], dtype)
    expected = np.array([0, 0, 0, 1, 0, 1], dtype)
    if width:
        x, expected = (np.stack([a] * width, 1) for a in (x, expected))
    y = segment_softmax(x, offsets)
    np.testing.assert_array_equal(y, expected)
    dy = x.copy()
    dy[3:] = 1
    dy[0] = NAN
    np.testing.assert_array_equal(segment_softmax_vjp(y, dy, offsets), 0)


@each_dtype
def test_a_segment_of_one(dtype):
    x = cases.numbers(1000, "x").astype(dtype)
    y = segment_softmax(x, np.arange(1001))
    np.testing.assert_array_equal(y, 1)
    np.testing.assert_array_equal(segment_softmax_vjp(y, x, np.arange(1001)), 0)


@each_function
@each_dtype
@pytest.mark.parametrize(
    ("shape", "axis", "offsets"),
    [((0,), 0, [0]), ((0,), 0, [0, 0, 0]), ((0, 3), 0, [0, 0]), ((3, 0), 0, [0, 1, 3]), ((3, 0), 1, [0])],
)
def test_nothing_in_nothing_out(function, dtype, shape, axis, offsets):
    result = function(np.empty(shape, dtype), offsets, axis=axis)
    assert result.dtype == dtype
    assert result.shape == shape


def test_whole_numbers_become_float64():
    y = segment_softmax(np.array([127, -128, 0, 1], np.int8), [0, 2, 4])
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, [*softmax([127.0, -128.0]), *softmax([0.0, 1.0])])
    assert segment_softmax_vjp([1, 0], [1, 2], [0, 2]).dtype == np.float64


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [0, 8])
def test_in_place(layout, width):
    joined, offsets = hard(FLOAT32, width)
    x, dy = (laid_out(joined(of_length), layout) for of_length in (cases.logits, cases.gradients))
    y = segment_softmax(x, offsets)
    dx = segment_softmax_vjp(y, dy, offsets)
    for out in (laid_out(y, layout), dy):
        over_y = out is not dy
        given = (out, laid_out(dy, layout)) if over_y else (laid_out(y, layout), out)
        assert segment_softmax_vjp(*given, offsets, out=out) is out
        np.testing.assert_array_equal(out, dx)
    assert segment_softmax(x, offsets, out=x) is x
    np.testing.assert_array_equal(x, y)


def test_an_overlap_in_part_is_refused():
    room = np.zeros(7, np.float32)
    with pytest.raises(ValueError, match="out overlaps x in part"):
        segment_softmax(room[:6], OFFSETS, out=room[1:])
    with pytest.raises(ValueError, match="out overlaps dy in part"):
        segment_softmax_vjp(np.ones(6, np.float32), room[:6], OFFSETS, out=room[1:])
    assert not room.any()


@each_function
def test_read_only_arrays_are_read(function):
    x, offsets = cases.read_only(np.full(6, 0.5)), cases.read_only(np.array(OFFSETS))
    function(x, offsets)


@each_function
def test_an_out_that_does_not_fit(function):
    for out, text in (
        (np.empty(5), r"out has shape \(5,\)"),
        (np.empty(6, np.float32), "out has dtype float32"),
        (cases.read_only(np.empty(6)), "out is read-only"),
    ):
        with pytest.raises(ValueError if "dtype" not in text else TypeError, match=text):
            function(np.ones(6), OFFSETS, out=out)


# offsets of an axis of 6, and what is said of them
REFUSED = [
    ([0, 3, 2, 6], ValueError, r"offsets\[1\] is 3 and offsets\[2\] is 2; they must ascend"),
    (np.array([0, 3, 2, 6], np.uint8), ValueError, r"must ascend.*cumsum"),
    ([0, -1, 6], ValueError, "must ascend"),
    ([0, 7, 6], ValueError, "must ascend"),
    ([0, 3, 7], ValueError, "go from 0 to 7.* to the size of the axis, 6"),
    (np.array([0, 2**63], np.uint64), ValueError, "go from 0 to 9223372036854775808"),
    ([0, 3, 5], ValueError, "go from 0 to 5.*each row is in a segment"),
    ([1, 3, 6], ValueError, "go from 1 to 6"),
    ([-1, 3, 6], ValueError, "go from -1 to 6"),
    ([0], ValueError, "go from 0 to 0"),
    ([], ValueError, r"shape \(0,\)"),
    (6, ValueError, r"shape \(\).*one number more than there are segments"),
    ([[0, 6]], ValueError, r"shape \(1, 2\)"),
    ([0.0, 6.0], TypeError, r"dtype float64.*astype\(numpy.int64\)"),
    ([True, False], TypeError, "dtype bool.*flatnonzero"),
    (np.array([0, 6], object), TypeError, "dtype object"),
    (["0", "6"], TypeError, "dtype <U1"),
    (None, TypeError, "segments are given by offsets or"),
    (np.ma.array([0, 3, 6], mask=[0, 1, 0]), TypeError, r"masked array.*compressed\(\)"),
]


@each_function
@pytest.mark.parametrize(("offsets", "error", "text"), REFUSED, ids=lambda value: str(value)[:20])
def test_offsets_that_are_refused(function, offsets, error, text):
    out = np.full(6, 7.0)
    with pytest.raises(error, match=f"(?s)^offsets.*{text}|^{text}"):
        function(np.ones(6), offsets, out=out)
    assert (out == 7).all()


@each_function
def test_what_else_is_refused(function):
    for axis in (None, (0,), (0, 1)):
        with pytest.raises(TypeError, match=re.escape(f"axis={axis}: segments lie along one axis")):
            function(np.ones((2, 3)), [0, 2], axis=axis)
    with pytest.raises(TypeError, match="axis=1.0"):
        function(np.ones((2, 3)), [0, 2], axis=1.0)
    for axis in (1, -2):
        with pytest.raises(np.exceptions.AxisError):
            function(np.ones(6), OFFSETS, axis=axis)
    with pytest.raises(TypeError, match="dtype bool"):
        function(np.ones(6, bool), OFFSETS)
    with pytest.raises(ValueError, match="scale=nan"):
        function(np.ones(6), OFFSETS, scale=NAN)


def test_y_and_dy_of_other_shapes_or_dtypes():
    with pytest.raises(ValueError, match="y has shape.*dy has shape"):
        segment_softmax_vjp(np.ones(6), np.ones((6, 1)), OFFSETS)
    with pytest.raises(ValueError, match="dx has shape"):
        segment_softmax_jvp(np.ones(6), np.ones(5), OFFSETS)
    assert segment_softmax_vjp(np.ones(6, np.float16), np.ones(6, FLOAT32), OFFSETS).dtype == FLOAT32


# --- one call is another -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_the_jvp_and_the_pullback(scale):
    x, dy = (cases.numbers(200, key).reshape(2, 100).astype(FLOAT32) for key in ("x", "dy"))
    offsets = [0, 10, 10, 99, 100]
    y, vjp = segment_softmax_with_vjp(x, offsets, axis=1, scale=scale)
    np.testing.assert_array_equal(y, segment_softmax(x, offsets, axis=1, scale=scale))
    dx = segment_softmax_vjp(y, dy, offsets, axis=1, scale=scale)
    np.testing.assert_array_equal(segment_softmax_jvp(y, dy, offsets, axis=1, scale=scale), dx)
    out = np.empty_like(dy)
    assert vjp(dy, out=out) is out
    np.testing.assert_array_equal(out, dx)
    np.testing.assert_array_equal(vjp(dy), dx)


def test_the_vjp_is_the_derivative():
    """By complex steps, through another softmax than ours."""
    x, dy, v = (cases.numbers(60, key).reshape(30, 2) for key in ("x", "dy", "v"))
    offsets = [0, 1, 12, 12, 20, 30]

    def complex_softmax(x, axis):
        e = np.exp(x - x.real.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    slope = in_segments(complex_softmax, offsets, 0, x + 1e-100j * v).imag * 1e100
    dx = segment_softmax_vjp(segment_softmax(x, offsets), dy, offsets)
    assert abs((v * dx).sum() - (slope * dy).sum()) <= 1e-14 * np.sqrt((slope**2).sum() * (dy**2).sum())


# --- memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2**22,), (2**19, 8)])
def test_memory_beyond_the_result(shape):
    x, count = np.full(shape, 0.5, FLOAT32), 2**18
    offsets = np.linspace(0, shape[0], count + 1).astype(np.int32)
    out = np.empty_like(x)
    for call in (
        lambda: segment_softmax(x, offsets, out=out),
        lambda: segment_softmax_vjp(x, x, offsets, out=out),
    ):
        assert peak(call)[0] <= 10 * count + 1_000_000


def test_segments_of_one_row_or_none_in_many_columns():
    """A block has one row at most; nothing is written beside `out`."""
    random = np.random.default_rng(4)
    for width in (9000, 20_000):
        x, dy = random.standard_normal((2, 3, width), np.float32)
        around = np.full((3, 2 * width), 7, np.float32)
        assert np.array_equal(
            softgrad.segment_softmax(x, [0, 1, 1, 2, 3], out=around[:, ::2]), np.ones_like(x)
        )
        assert (around[:, 1::2] == 7).all()
        softgrad.segment_softmax_vjp(np.ones_like(x), dy, [0, 1, 2, 3], out=around[:, ::2])
        assert not around[:, ::2].any()
        assert (around[:, 1::2] == 7).all()
