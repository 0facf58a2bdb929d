"""softmax with a sink, a scale or a mean for each row: beside exact arithmetic, and as people met them."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from contract import off_by
from numpy.testing import assert_array_equal

import softgrad
from softgrad import (
    sink_softmax,
    sink_softmax_double_backward,
    sink_softmax_jvp,
    sink_softmax_vjp,
    softmax,
    softmax_jvp,
    softmax_scale_vjp,
    softmax_vjp,
)
from softgrad.testing import errors, oracle

FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
each_dtype = pytest.mark.parametrize("dtype", FLOATS, ids=str)
LENGTHS = (1, 2, 5, 17, 64, 300)


def exact_weights(x, sink, scale):
    """y and y_sink of each row, as mpmath's numbers."""
    with mpmath.workprec(200):
        rows = []
        for row, s, c in zip(x, sink, np.broadcast_to(scale, len(x)), strict=True):
            logits = [mpmath.mpf(float(v)) * mpmath.mpf(float(c)) for v in row] + [mpmath.mpf(float(s))]
            powers = [mpmath.exp(v - max(logits)) for v in logits]
            total = mpmath.fsum(powers)
            rows.append([p / total for p in powers])
        return rows


def ulps_off(found, exact):
    """The largest error in ulps, where the exact value is a normal number."""
    worst, tiny = 0.0, np.finfo(found.dtype).tiny
    for value, expected in zip(found.ravel(), exact, strict=True):
        if expected >= tiny:
            ulp = float(np.spacing(found.dtype.type(expected)))
            worst = max(worst, float(abs(mpmath.mpf(float(value)) - expected)) / ulp)
    return worst


@each_dtype
def test_the_weights_are_exact(dtype):
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        for spread, each in ((1.0, False), (30.0, True), (300.0, False), (0.01, True)):
            x = (rng.normal(size=(4, n)) * spread).astype(dtype)
            scale = rng.uniform(0.1, 3.0, size=(4, 1)) if each else 1.0
            top = np.max(x * scale, axis=1, keepdims=True)
            sink = (top + rng.normal(size=(4, 1)) * 10.0 ** rng.uniform(-1, 1.5)).astype(dtype)
            y, y_sink = sink_softmax(x, sink, scale=scale)
            exact = exact_weights(x, sink[:, 0], np.ravel(scale))
            assert ulps_off(y, [v for row in exact for v in row[:-1]]) <= (2 if dtype.itemsize == 4 else 2.5)
            assert ulps_off(y_sink, [row[-1] for row in exact]) <= 3
            assert y.dtype == y_sink.dtype == dtype
            assert y_sink.shape == (4, 1)


def exact_product(y, v):
    """y∘(v − m) and y·D of a row."""
    y, v = ([Fraction(float(value)) for value in a] for a in (y, v))
    total = sum(y)
    mean = sum(p * q for p, q in zip(y, v, strict=True)) / total
    spread = sum(p * abs(q - mean) for p, q in zip(y, v, strict=True)) / total
    return [p * (q - mean) for p, q in zip(y, v, strict=True)], [p * spread for p in y]


def product_off(found, y, v):
    """By how many eps·(|dx*| + y·D) an element of a row is off, at most."""
    worst, eps = 0.0, Fraction(float(np.finfo(y.dtype).eps))
    subnormal = Fraction(float(np.finfo(y.dtype).smallest_subnormal))
    for value, expected, allowed in zip(found, *exact_product(y, v), strict=True):
        bound = eps * (abs(expected) + allowed) + subnormal
        worst = max(worst, float(abs(Fraction(float(value)) - expected) / bound))
    return worst


@each_dtype
@pytest.mark.parametrize("axis", [-1, 0])
def test_the_products_keep_the_contract(dtype, axis):
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        for offset, spread in ((0.0, 1.0), (1e4, 10.0), (0.0, 25.0)):
            x = (rng.normal(size=(4, n)) * spread).astype(dtype)
            y, y_sink = sink_softmax(x, rng.normal(size=(4, 1)).astype(dtype))
            dy = (rng.normal(size=(4, n)) + offset).astype(dtype)
            dy_sink = rng.normal(size=(4, 1)).astype(dtype)
            rows = (np.moveaxis(a, -1, axis) for a in (y, y_sink, dy, dy_sink))
            dx, dsink = (np.moveaxis(a, axis, -1) for a in sink_softmax_vjp(*rows, axis=axis))
            for r in range(4):
                whole, given, found = (
                    np.append(a[r], b[r]) for a, b in ((y, y_sink), (dy, dy_sink), (dx, dsink))
                )
                assert product_off(found, whole, given) <= (8 if dtype.itemsize == 4 else 16)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_sink_of_minus_inf_is_softmax(dtype):
    x = softgrad.softmax(np.random.default_rng(2).normal(size=(5, 33))).astype(np.dtype(dtype)) * 30
    y, y_sink = sink_softmax(x, -np.inf, scale=1.5)
    assert errors.ulps(y, oracle.softmax(x, scale=1.5)).max() <= {"float32": 2, "float64": 3}.get(dtype, 0.51)
    assert_array_equal(y_sink.astype(float), 0)


def test_softmax1_and_rows_with_nothing_in_them():
    x = np.array([[-np.inf, -np.inf], [0.0, np.nan], [3.0, 4.0]])
    where = np.array([[True, True], [True, False], [False, False]])
    y, y_sink = sink_softmax(x, 0.0, where=where)
    assert_array_equal(y, [[0, 0], [0.5, 0], [0, 0]])
    assert_array_equal(y_sink, [[1], [0.5], [1]])
    y, y_sink = sink_softmax(x, [[-1e5], [-np.inf], [-np.inf]], where=where)
    assert_array_equal(y, [[0, 0], [1, 0], [0, 0]])
    assert_array_equal(y_sink, [[1], [0], [0]])
    dx, dsink = sink_softmax_vjp(y, y_sink, np.array([[1.0, np.nan]] * 3), where=where & [[True, False]])
    assert_array_equal(dx, 0)
    assert_array_equal(dsink, [[0], [0], [0]])


@pytest.mark.parametrize("sink", [np.nan, np.inf])
def test_a_sink_that_is_no_number_makes_its_row_nan(sink):
    y, y_sink = sink_softmax(np.zeros((2, 3)), [[sink], [0.0]])
    assert np.isnan(y[0]).all()
    assert np.isnan(y_sink[0])
    assert_array_equal(y[1], 0.25)


def test_a_weak_sink_keeps_its_weight():
    """1 − Σy would be 0."""
    y, y_sink = sink_softmax(np.array([[60.0, 50.0]], np.float32), np.float32(-5.0))
    assert y.sum() == 1
    np.testing.assert_allclose(y_sink, np.exp(-65.0) / (1 + np.exp(-10.0)), rtol=1e-6)


def test_it_is_what_softmax_vjp_is_not():
    """Of a y with a sink softmax_vjp divides by ⟨y,1⟩ (gpt-oss, Megatron)."""
    rng = np.random.default_rng(3)
    x, dy = rng.normal(size=(6, 16)), rng.normal(size=(6, 16)) + 1
    y, y_sink = sink_softmax(x, 0.5)
    whole = softmax(np.concatenate([x, np.full((6, 1), 0.5)], axis=1))
    expected = softmax_vjp(whole, np.concatenate([dy, np.zeros((6, 1))], axis=1))
    dx, dsink = sink_softmax_vjp(y, y_sink, dy)
    assert off_by(np.concatenate([dx, dsink], axis=1), expected) <= 4
    assert np.abs(softmax_vjp(y, dy) - dx).max() > 1e-3


def test_the_jvp_is_the_adjoint_of_the_vjp():
    rng = np.random.default_rng(4)
    x, v, dy = rng.normal(size=(3, 4, 3, 7))
    sink, v_sink, dy_sink = rng.normal(size=(3, 4, 3, 1))
    for scale in (1.0, -0.7, rng.normal(size=(3, 1)), np.array([[0.0], [1.0], [2.0]])):
        y, y_sink = sink_softmax(x, sink, scale=scale)
        out, out_sink = sink_softmax_jvp(y, y_sink, v, v_sink, scale=scale)
        dx, dsink = sink_softmax_vjp(y, y_sink, dy, dy_sink, scale=scale)
        one, other = (dy * out).sum() + (dy_sink * out_sink).sum(), (dx * v).sum() + (dsink * v_sink).sum()
        assert abs(one - other) <= 1e-13 * (abs(dy * out).sum() + abs(dy_sink * out_sink).sum())


def test_scales_of_any_sign_and_size():
    x = np.array([[1.0, 2.0, -np.inf], [3.0, 1.0, 0.0], [1.0, 2.0, 3.0], [1e200, -1e200, 0.0]])
    scale = np.array([[0.0], [-2.0], [1.5], [1e-200]])
    y = softmax(x, scale=scale)
    assert_array_equal(y[0], [0.5, 0.5, 0])
    for row in (1, 2):
        np.testing.assert_allclose(y[row], softmax(x[row], scale=float(scale[row, 0])), rtol=1e-15)
    np.testing.assert_allclose(y[3], softmax(np.array([1.0, -1.0, 0.0])), rtol=1e-15)


@pytest.mark.parametrize("size", [1e-50, 1e-45, 1e-40, 0.0])
def test_scales_that_no_float32_holds(size):
    """Not dx either, but for a dy that is large."""
    y, dy = np.array([[0.5, 0.5]], np.float32), np.array([[1e30, -1e30]], np.float32)
    expected = np.array([[0.5, -0.5]]) * size * 1e30
    for found in (
        softmax_vjp(y, dy, scale=np.array([[size]])),
        softmax_jvp(y, dy, scale=np.array([[size]])),
        sink_softmax_vjp(y, 0.0, dy, scale=size)[0],
    ):
        assert found.dtype == np.float32
        assert off_by(found, expected.astype(np.float32)) <= 8


def test_a_temperature_for_each_row():
    """thinc#589: it was a TypeError."""
    x, temperature = np.random.default_rng(5).normal(size=(4, 3, 9)), np.array([[0.5], [1.0], [2.0]])
    y, vjp = softgrad.softmax_with_vjp(x, scale=1 / temperature)
    dy = np.random.default_rng(6).normal(size=x.shape)
    dx, dscale = vjp(dy), softmax_scale_vjp(x, y, dy)
    for r, t in enumerate(temperature[:, 0]):
        np.testing.assert_allclose(y[:, r], softmax(x[:, r], scale=1 / t), rtol=1e-15)
        assert off_by(dx[:, r], softmax_vjp(y[:, r], dy[:, r], scale=1 / t)) <= 4
    terms = (x - x.max(axis=-1, keepdims=True)) * oracle.vjp(y, dy)
    allowed = 16 * np.finfo(float).eps * np.abs(terms).sum(axis=-1, keepdims=True)
    assert (np.abs(dscale - terms.sum(axis=-1, keepdims=True)) <= allowed).all()


def test_the_gradient_of_the_scale_takes_rows_with_nothing_in_them():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 2.0], [1e300, 0.0]])
    assert_array_equal(softmax_scale_vjp(x, softmax(x), np.array([[1.0, 2.0]] * 3)), [[0], [0], [0]])


def test_pieces_of_a_row():
    """Ring attention, flash-attention#905: a block's vjp with the mean of the whole row."""
    rng = np.random.default_rng(7)
    y, dy = softmax(rng.normal(size=(5, 64)).astype(np.float32)), rng.normal(size=(5, 64)).astype(np.float32)
    dx, mean = softmax_vjp(y, dy, return_mean=True)
    assert mean.shape == (5, 1)
    assert mean.dtype == np.float64
    assert off_by(softmax_vjp(y, dy, mean=mean), dx) <= 4
    pieces = [softmax_vjp(y[:, i : i + 16], dy[:, i : i + 16], mean=mean) for i in range(0, 64, 16)]
    assert_array_equal(np.concatenate(pieces, axis=1), softmax_vjp(y, dy, mean=mean))
    assert np.abs(softmax_vjp(y[:, :16], dy[:, :16]) - pieces[0]).max() > 1e-3
    for r in range(5):
        assert product_off(dx[r], y[r], dy[r]) <= 8


def test_a_mean_has_the_options_of_the_vjp():
    rng = np.random.default_rng(8)
    y, dy = softmax(rng.normal(size=(3, 4, 5))), rng.normal(size=(3, 4, 5))
    where, out = rng.random(size=(3, 4, 5)) < 0.7, np.empty((3, 4, 5))
    options = {"axis": (0, 2), "where": where, "scale": 2.0}
    dx, mean = softmax_vjp(y, dy, return_mean=True, out=out, **options)
    assert dx is out
    assert mean.shape == (1, 4, 1)
    assert_array_equal(dx, softmax_vjp(y, dy, **options))
    again = softmax_vjp(y, dy, mean=mean.squeeze(0), **options)
    assert off_by(again, dx, axis=(0, 2)) <= 4
    scales = softmax_vjp(y, dy, mean=mean, **{**options, "scale": np.full((1, 4, 1), 2.0)})
    assert_array_equal(scales, again)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda x: sink_softmax(x, np.zeros(4)),
            ValueError,
            r"sink has shape \(4,\).*one number for each row",
        ),
        (lambda x: sink_softmax(x, "a"), TypeError, "sink has dtype"),
        (lambda x: sink_softmax(x, 0.0, scale=np.nan), ValueError, "scale takes finite numbers"),
        (lambda x: softmax(x, scale=np.ones((3, 2))), ValueError, "scale has shape"),
        (lambda x: softmax_vjp(x, x, mean=np.zeros((2, 3))), ValueError, r"mean has shape \(2, 3\)"),
        (lambda x: sink_softmax_vjp(x, 0.0, x, np.zeros((2, 3))), ValueError, "dy_sink has shape"),
        (lambda x: sink_softmax(x, 0.0, axis=2), np.exceptions.AxisError, "axis 2"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((2, 3)))


def test_nothing_and_numbers_alone():
    y, y_sink = sink_softmax(np.zeros((3, 0)), 1.0)
    assert y.shape == (3, 0)
    assert y_sink.tolist() == [[1.0]] * 3
    y, y_sink = sink_softmax(2.0, 2.0)
    assert float(y) == float(y_sink) == 0.5
    assert np.ndim(y) == np.ndim(y_sink) == 0
    dx, dsink = sink_softmax_vjp(y, y_sink, 1.0)
    assert float(dx) == 0.25
    assert float(dsink) == -0.25


@pytest.mark.parametrize("kind", ["strided", "transposed", "masked", "three dimensions"])
def test_any_layout(kind):
    rng = np.random.default_rng(9)
    x, dy, sink = rng.normal(size=(6, 8, 10)), rng.normal(size=(6, 8, 10)), rng.normal(size=(6, 1, 10))
    where = rng.random(size=x.shape) < 0.8 if kind == "masked" else None
    expected = [np.empty_like(x), np.empty_like(sink), np.empty_like(x), np.empty_like(sink)]
    for i in range(6):
        for k in range(10):
            mask = None if where is None else where[i, :, k]
            y, y_sink = sink_softmax(x[i, :, k].copy(), sink[i, 0, k], where=mask)
            results = y, y_sink[0], *(r for r in sink_softmax_vjp(y, y_sink, dy[i, :, k].copy(), where=mask))
            for target, result in zip(expected, results, strict=True):
                target[i, :, k] = result
    if kind == "strided":
        x, dy = (np.repeat(a, 2, axis=1)[:, ::2] for a in (x, dy))
    if kind == "transposed":
        x, dy = (np.asfortranarray(a) for a in (x, dy))
    y, y_sink = sink_softmax(x, sink, axis=1, where=where)
    dx, dsink = sink_softmax_vjp(y, y_sink, dy, axis=1, where=where)
    for result, target in zip((y, y_sink, dx, dsink), expected, strict=True):
        assert off_by(result, target, axis=1) <= 4


def test_the_layers():
    rng = np.random.default_rng(10)
    x, dy, sink, scale = (
        rng.normal(size=(4, 7)),
        rng.normal(size=(4, 7)),
        rng.normal(size=(4, 1)),
        np.full((4, 1), 2),
    )
    layer = softgrad.SinkSoftmax(scale=scale)
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward(dy)
    y, y_sink = sink_softmax(x, sink, scale=scale)
    assert_array_equal(layer.forward(x, sink), y)
    for one, other in zip(layer.backward(dy), sink_softmax_vjp(y, y_sink, dy, scale=scale), strict=True):
        assert_array_equal(one, other)
    layer = softgrad.Softmax(scale=scale)
    assert_array_equal(layer.forward(x), softmax(x, scale=scale))
    assert_array_equal(layer.backward(dy), softmax_vjp(softmax(x, scale=scale), dy, scale=scale))
    assert repr(layer).startswith("Softmax(axis=-1, scale=array")


def test_logits_so_large_that_the_product_with_the_scale_loses_more_than_the_distance():
    for dtype, x, scale in ((np.float64, [1e100, 0.0], 0.3), (np.float32, [1e38, -1e38], 1e30)):
        y, y_sink = sink_softmax(np.array(x, dtype), 0.0, scale=scale)
        assert_array_equal(y, [1, 0])
        assert_array_equal(y_sink, [0])
    lowest = np.finfo(np.float64).min
    y, y_sink = sink_softmax(np.array([lowest, lowest]), 0.0, scale=0.3)
    assert_array_equal(y, [0, 0])
    assert_array_equal(y_sink, [1])
    for x in (1.1e17, 7.7e18):
        y, y_sink = sink_softmax(np.array([x, -1e30]), x * 0.3, scale=0.3)
        exact = exact_weights([[x, -1e30]], [x * 0.3], 0.3)[0]
        assert ulps_off(np.append(y, y_sink), exact) <= 3


def test_a_tangent_of_the_sink_beside_a_tiny_scale():
    y, y_sink = np.array([0.5, 0.25], np.float32), np.array([0.25], np.float32)
    dy, dy_sink = sink_softmax_jvp(y, y_sink, np.array([1, 2], np.float32), 1.0, scale=1e-40)
    assert_array_equal(dy, [-0.125, -0.0625])
    assert_array_equal(dy_sink, [0.1875])
    assert np.isnan(softgrad.softmax_jvp([0.5, 0.5], [np.nan, 1.0], scale=np.zeros(1))).all()


def test_a_given_mean_in_rows_without_weight():
    assert_array_equal(softmax_vjp([0.0, 0.0], [np.nan, 1.0], mean=[0.5]), [0, 0])
    dx, mean = softmax_vjp([0.0, 0.0], [np.nan, 1.0], return_mean=True)
    assert_array_equal(dx, [0, 0])
    assert_array_equal(mean, [0])


@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-50, 1e-30, np.zeros((1, 1))])
def test_the_gradient_of_a_sink_knows_of_no_scale(scale):
    """Beside a scale of 0 what was left of the mean passed for nothing."""
    y, dy = np.array([[1e-10, 2e-10, 3e-10]], np.float32), np.array([[1, 2, 3]], np.float32)
    _, dsink = sink_softmax_vjp(y, np.float32(1), dy, 1000.0, scale=scale)
    rows = [Fraction(float(a)) for a in y[0]]
    total = sum(rows) + 1
    mean = (sum(a * b for a, b in zip(rows, (1, 2, 3), strict=True)) + 1000) / total
    assert off_by(dsink, np.array([[float(1000 - mean)]], np.float32)) <= 8


def test_a_tangent_beside_that_of_the_sink():
    """scale·dx and dx_sink are nearly the same; the sink has the weight."""
    y, one, sink = np.array([[1e-20]], np.float32), np.array([[1]], np.float32), np.float32(0.1)
    dy, _ = sink_softmax_jvp(y, 1.0, one, sink, scale=0.1)
    expected = np.array([[float(y[0, 0]) * (0.1 - float(sink))]], np.float32)
    assert off_by(dy, expected) <= 8
    assert off_by(sink_softmax_double_backward(y, 1.0, 0 * y, None, one, sink, scale=0.1)[2], expected) <= 8


def test_tiny_scales_of_a_tangent():
    y, dx = np.array([0.5, 0.5], np.float32), np.array([1000, 1000.0001], np.float32)
    found = softmax_jvp(y, dx, scale=np.array([1e-30]))
    assert off_by(found, softmax_jvp(y, dx, scale=1e-30)) <= 8


def test_a_given_mean_is_rounded_once():
    for y, dy, mean, scale in (
        ([[1e-4, 1]], [[1e-4, 0]], 0.0, 1000.0),
        ([[0.5, 0.5]], [[6e4, 0]], -1e5, 0.1),
    ):
        y, dy = np.array(y, np.float16), np.array(dy, np.float16)
        found = softmax_vjp(y, dy, mean=mean, scale=np.array([[scale]]))
        assert_array_equal(found, softmax_vjp(y, dy, mean=mean, scale=scale))
    y, dy = np.array([[0.5, 0.5]], np.float32), np.array([[3e38, -3e38]], np.float32)
    found = softmax_vjp(y, dy, mean=-3e38, scale=1e-2)[:, :1]
    assert off_by(found, np.array([[3e36]], np.float32)) <= 8


def test_the_double_backward_of_nothing_and_of_numbers():
    nothing, number = np.zeros((0, 3)), np.float64(0.5)
    shapes = [
        g.shape for g in sink_softmax_double_backward(nothing, np.ones((0, 1)), nothing, None, nothing, None)
    ]
    assert shapes == [(0, 3), (0, 1)] * 2
    found = sink_softmax_double_backward(number, 0.5, number, None, number, None)
    assert [float(g) for g in found] == [0.0, 0.0, 0.125, -0.125]
    assert_array_equal(softmax(np.ones((2, 3)), scale=np.array(2.0)), softmax(np.ones((2, 3)), scale=2.0))
