"""Each way through memory gives the right result, on any layout."""

import itertools

import numpy as np
import pytest
from contract import assert_product
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import softgrad
from softgrad import softmax, softmax_double_backward, softmax_vjp
from softgrad.specs import MAPS
from softgrad.testing import cases, errors, oracle

FLOAT32 = np.dtype(np.float32)


def laid_out(array, kind):
    """The same numbers where another way is needed."""
    if kind == "plain":
        return array.copy()
    if kind == "turned":
        return np.asfortranarray(array)
    result = np.zeros((2 * array.shape[0], 2 * array.shape[1]), array.dtype)[::2, ::2]
    result[...] = array
    return result


KINDS = [
    # rows, n, layout, axis
    (5, 100, "plain", -1),
    (5, 33, "plain", -1),
    (5, 1, "plain", -1),
    (36, 300, "plain", -1),
    (36, 17, "plain", -1),
    (36, 16, "plain", -1),
    (36, 1, "plain", -1),
    (33, 33, "plain", 0),
    (5, 37, "plain", 0),
    (36, 13000, "plain", 0),
    (5, 100, "strided", -1),
    (36, 33, "strided", -1),
    (36, 5, "strided", -1),
    (36, 31, "strided", -1),
]


@pytest.mark.parametrize(("rows", "n", "kind", "axis"), KINDS)
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_the_contract_holds_on_each_way(dtype, rows, n, kind, axis):
    if n == 13000:
        rows = 4  # columns that no cache holds; 3 of them and a vector's rest
        y = oracle.softmax(cases.numbers(rows * n, "x").reshape(rows, n) * 5).astype(dtype)
        dy = (cases.numbers(rows * n, "dy").reshape(rows, n) + 100).astype(dtype)
        x, exact = np.log(y.astype(np.float64) + 1e-30).astype(dtype), oracle.vjp(y, dy)
    else:
        x, y, dy, exact = (
            f(n, dtype)[:rows] for f in (cases.logits, cases.weights, cases.gradients, cases.exact_vjp)
        )
    x, y, dy, out = (laid_out(a if axis else a.T, kind) for a in (x, y, dy, np.full_like(y, np.nan)))
    error = errors.ulps(softmax(x, axis=axis, out=out), oracle.softmax(x, axis=axis))
    assert error.max() <= (0.51 if dtype.itemsize == 2 else 2)
    dx = softmax_vjp(y, dy, axis=axis, out=out)
    assert errors.product_miss(dx, y, exact if axis else exact.T, axis).max() <= 1


# --- any layout --------------------------------------------------------------------------------------


@st.composite
def placed(draw, shape, dtype, numbers):
    """An array of this shape somewhere in memory: its axes in any order, with any steps, also negative."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2])) for _ in shape]
    memory = np.full([abs(steps[d]) * shape[d] + draw(st.integers(0, 1)) for d in order], 77, dtype)
    view = memory[tuple(slice(0, abs(steps[d]) * shape[d], abs(steps[d])) for d in order)]
    view = view[tuple(slice(None, None, -1 if steps[d] < 0 else 1) for d in order)]
    view = view.transpose(np.argsort(order))
    view[...] = numbers
    return view


@st.composite
def calls(draw, dtypes, masks):
    """Arrays and options of a call: (x, y, dy, out, axis, where, scale)."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    sizes = st.sampled_from([1, 2, 3, 4, 5, 16, 17, 33, 70])
    shape = tuple(draw(st.lists(sizes, min_size=1, max_size=4).filter(lambda s: np.prod(s) <= 5000)))
    axes = draw(st.one_of(st.none(), st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    axes = None if axes is None else tuple(a - draw(st.sampled_from([0, len(shape)])) for a in axes)
    size = int(np.prod(shape))
    spread = draw(st.sampled_from([1, 10]))
    x, dy = (cases.numbers(size, key, draw(st.integers(0, 9))).reshape(shape) for key in ("x", "dy"))
    x, dy = (spread * x).astype(dtype), (dy + draw(st.sampled_from([0, 100]))).astype(dtype)
    where = None
    if masks:
        masked_shape = tuple(draw(st.sampled_from([1, s])) for s in shape)[draw(st.integers(0, len(shape))) :]
        where = cases.numbers(int(np.prod(masked_shape)), "where").reshape(masked_shape) > -0.7
        where = draw(placed(masked_shape, bool, where)) if masked_shape else where
    scale = draw(st.sampled_from([1.0, 0.125, -2.0]))
    y = oracle.softmax(x, axes, scale, where).astype(dtype)
    arrays = [draw(placed(shape, dtype, a)) for a in (x, y, dy, np.zeros(shape))]
    return (*arrays, axes, where, scale)


def check_call(x, y, dy, out, axis, where, scale):
    dtype, everything = x.dtype, None if where is None else np.broadcast_to(where, x.shape)
    base = out
    while base.base is not None:
        base = base.base
    softmax(x, axis=axis, where=where, scale=scale, out=out)
    error = errors.ulps(out, oracle.softmax(x, axis, scale, everything)).max()
    assert error <= (0.51 if dtype.itemsize == 2 else 2)
    softmax_vjp(y, dy, axis=axis, where=where, scale=scale, out=out)
    assert_product(out, y, dy, axis, scale, everything)
    if everything is not None:
        assert (out[~everything] == 0).all()
    # what lies between the elements has not been touched
    out[...] = 77
    assert (base == 77).all()


ANY = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@ANY
@given(calls(cases.DTYPES, masks=False))
def test_any_layout(call):
    check_call(*call)


@ANY
@given(calls([np.float32], masks=True))
def test_any_layout_under_a_mask(call):
    check_call(*call)


@settings(ANY, max_examples=60)
@given(calls([np.float64], masks=False))
def test_any_layout_of_the_double_backward(call):
    """The same bits, but for the order of sums, as on arrays that lie in order."""
    x, y, dy, _, axis, _, scale = call
    found = softmax_double_backward(y, dy, x, axis=axis, scale=scale)
    exact = oracle.double_backward(y, dy, x, axis, scale)
    for gradient, expected in zip(found, exact, strict=True):
        # grad_x is a difference of sums which may be larger than what is left of them
        size = max(np.abs(expected).max(), 1e-3 * float(np.abs(dy).max() * np.abs(x).max()) * scale**2)
        assert np.abs(gradient - expected).max() <= 1e-12 * size


# --- where cache lines begin ----------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["none", "whole", "broadcast", "transposed"])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16)], ids=str)
def test_the_bits_do_not_depend_on_where_memory_begins(dtype, mask):
    rows, n = 3, 301
    rng = np.random.default_rng(0)
    there = rng.random((rows, n)) < 0.7
    where = {"none": None, "whole": there, "broadcast": there[:1], "transposed": np.asfortranarray(there)}[
        mask
    ]
    y = softmax(rng.standard_normal((rows, n)).astype(dtype), where=where)
    dy = rng.standard_normal((rows, n)).astype(dtype)
    room = [np.zeros(rows * n + 64, dtype) for _ in range(3)]
    due = softmax_vjp(y, dy, where=where)
    for offset in range(64 // dtype.itemsize):
        for others in (0, offset):
            places = others, others, offset
            y_there, dy_there, out = (
                r[at : at + rows * n].reshape(rows, n) for r, at in zip(room, places, strict=True)
            )
            y_there[:], dy_there[:] = y, dy
            np.testing.assert_array_equal(softmax_vjp(y_there, dy_there, where=where, out=out), due)
            assert not room[2][:offset].any(), offset
            assert not room[2][offset + rows * n :].any(), offset
            room[2][:] = 0


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_do_not_depend_on_the_neighbours_in_memory(dtype, name):
    """LLVM asks how far arrays are apart before it cuts a loop into lanes; a sum has another order then."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for rows, n in ((3, 5), (2, 9), (1, 30)):
            size, y = rows * n, getattr(softgrad, name)(3 * rng.standard_normal((rows, n)).astype(dtype))
            dy, memory = rng.standard_normal((rows, n)).astype(dtype), np.zeros(3 * size, dtype)
            for kind in ("vjp", "jvp"):
                product, found = getattr(softgrad, f"{name}_{kind}"), set()
                for order in itertools.permutations(range(3)):
                    places = [memory[i * size : i * size + size].reshape(rows, n) for i in order]
                    places[0][:], places[1][:] = y, dy
                    found.add(product(places[0], places[1], out=places[2]).tobytes())
                assert len(found) == 1, (kind, rows, n)
