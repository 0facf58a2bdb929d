"""log_softmax, logsumexp and entropy in segments, masks, and segments by ids: each segment as if alone."""

import itertools

import numpy as np
import pytest
from contract import off_by
from numpy.testing import assert_array_equal

import softgrad as sg

OFFSETS = np.array([0, 3, 3, 4, 60, 130])
IDS = np.repeat(np.arange(5), np.diff(OFFSETS))
DTYPES = ["float16", "float32", "float64"]
SCALE = 1.5


def logits(dtype, columns, seed=0):
    shape = (OFFSETS[-1], *([columns] if columns else []))
    x = np.random.default_rng(seed).normal(size=shape) * 5
    x[5], x[0] = -np.inf, 80.0
    return x.astype(dtype)


def by_hand(function, *arrays, axis=0):
    """`function` of each segment."""
    parts = [[a[b:e] for a in arrays] for b, e in itertools.pairwise(OFFSETS)]
    return np.concatenate([function(*part, axis=0) for part in parts])


@pytest.mark.parametrize("columns", [0, 1, 5, 8, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_segment_has_the_bits_that_it_has_alone(dtype, columns):
    x, dy, dx = (logits(dtype, columns, seed) for seed in range(3))
    dy, dx = (np.where(np.isfinite(v), v, 0) for v in (dy, dx))
    y = sg.segment_log_softmax(x, OFFSETS, scale=SCALE)
    assert_array_equal(y, by_hand(lambda a, axis: sg.log_softmax(a, axis=axis, scale=SCALE), x))
    for kind, v in (("vjp", dy), ("jvp", dx)):
        in_segments, whole = (getattr(sg, f"{prefix}log_softmax_{kind}") for prefix in ("segment_", ""))
        expected = by_hand(lambda a, b, axis, whole=whole: whole(a, b, axis=axis, scale=SCALE), y, v)
        assert_array_equal(in_segments(y, v, OFFSETS, scale=SCALE), expected)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("columns", [0, 6])
def test_ids_in_any_order(name, columns):
    x, dy = logits("float64", columns), np.random.default_rng(1).normal(size=logits("float64", columns).shape)
    forward, vjp, jvp = (getattr(sg, f"segment_{name}{end}") for end in ("", "_vjp", "_jvp"))
    y = forward(x, OFFSETS)
    assert_array_equal(forward(x, segment_ids=IDS, num_segments=5), y)
    order = (np.arange(len(x)) - OFFSETS[IDS]).argsort(kind="stable")  # the order within each is kept
    assert_array_equal(forward(x[order], segment_ids=IDS[order]), y[order])
    assert_array_equal(vjp(y[order], dy[order], segment_ids=IDS[order]), vjp(y, dy, OFFSETS)[order])
    assert_array_equal(jvp(y[order], dy[order], segment_ids=IDS[order]), jvp(y, dy, OFFSETS)[order])
    out = np.empty_like(x)
    assert forward(x[order], segment_ids=IDS[order], out=out) is out
    assert_array_equal(out, y[order])
    y, pullback = getattr(sg, f"segment_{name}_with_vjp")(x[order], segment_ids=IDS[order])
    assert_array_equal(pullback(dy[order]), vjp(y, dy[order], segment_ids=IDS[order]))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("columns", [0, 1, 24, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivatives(dtype, columns, name):
    """grad_x has the bits of the whole rows', grad_dy those of the jvp; for ids in any order too."""
    x, dy, v = (logits(dtype, columns, seed) for seed in range(3))
    dy, v = (np.where(np.isfinite(a), a, 0) for a in (dy, v))
    y = getattr(sg, f"segment_{name}")(x, OFFSETS)
    twice, whole = (getattr(sg, f"{prefix}{name}_double_backward") for prefix in ("segment_", ""))
    grad_x, grad_dy = twice(y, dy, v, OFFSETS, scale=SCALE)
    assert_array_equal(grad_x, by_hand(lambda *a, axis: whole(*a, axis=axis, scale=SCALE)[0], y, dy, v))
    assert_array_equal(grad_dy, getattr(sg, f"segment_{name}_jvp")(y, v, OFFSETS, scale=SCALE))
    order = (np.arange(len(x)) - OFFSETS[IDS]).argsort(kind="stable")
    grads = twice(y[order], dy[order], v[order], segment_ids=IDS[order], scale=SCALE)
    for grad, right in zip(grads, (grad_x, grad_dy), strict=True):
        assert_array_equal(grad, right[order])


@pytest.mark.parametrize("layer", [sg.SegmentSoftmax, sg.SegmentLogSoftmax])
def test_the_layers(layer):
    x, dy = np.random.default_rng(0).normal(size=(2, 3, 5))
    name, where = layer.map.name, np.array([True, True, False, True, True])
    layer = layer(axis=1, scale=SCALE)
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward(dy)
    for cut in ({"offsets": [0, 2, 5]}, {"segment_ids": [1, 0, 1, 0, 1], "num_segments": 3}):
        options = {**cut, "axis": 1, "where": where, "scale": SCALE}
        y = getattr(sg, f"segment_{name}")(x, **options)
        assert_array_equal(layer.forward(x, **cut, where=where), y)
        assert_array_equal(layer.backward(dy), getattr(sg, f"segment_{name}_vjp")(y, dy, **options))
    assert repr(layer) == f"{type(layer).__name__}(axis=1, scale=1.5)"


@pytest.mark.parametrize("scale", [1.0, -2.0, 0.0])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_what_is_masked_has_no_part(name, scale):
    """deepmd-kit#5715: a NaN in what is masked spoilt its segment."""
    x, dy = logits("float64", 0), np.random.default_rng(1).normal(size=OFFSETS[-1])
    where = np.random.default_rng(3).random(OFFSETS[-1]) < 0.6
    where[[0, 5]] = True, False
    kept = np.flatnonzero(where)
    offsets = np.searchsorted(kept, OFFSETS)
    forward, vjp = (getattr(sg, f"segment_{name}{end}") for end in ("", "_vjp"))
    spoilt, spoilt_dy = np.where(where, x, np.nan), np.where(where, dy, np.nan)
    y = forward(spoilt, OFFSETS, where=where, scale=scale)
    np.testing.assert_allclose(y[where], forward(x[kept], offsets, scale=scale), rtol=1e-15)
    assert_array_equal(y[~where], -np.inf if name == "log_softmax" else 0)
    dx = vjp(np.where(where, y, np.nan), spoilt_dy, OFFSETS, where=where, scale=scale)
    expected = vjp(y[where], dy[kept], offsets, scale=scale)
    assert off_by(dx[where], expected) <= 4
    assert_array_equal(dx[~where], 0)


@pytest.mark.parametrize("columns", [0, 4])
@pytest.mark.parametrize("name", ["logsumexp", "entropy"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_number_for_each_segment(dtype, name, columns):
    x = logits(dtype, columns)
    forward, vjp = getattr(sg, f"segment_{name}"), getattr(sg, f"segment_{name}_vjp")
    whole, whole_vjp = getattr(sg, name), getattr(sg, f"{name}_vjp")
    y = forward(x, OFFSETS, scale=SCALE)
    assert y.shape == (5, *x.shape[1:])
    assert y.dtype == x.dtype
    expected = by_hand(lambda a, axis: whole(a, axis=axis, scale=SCALE, keepdims=True), x)
    assert off_by(y, expected, axis=()) <= 2
    dy = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
    dx = vjp(x, dy, OFFSETS, scale=SCALE)
    parts = [
        whole_vjp(x[b:e], dy[s : s + 1], axis=0, scale=SCALE)
        for s, (b, e) in enumerate(itertools.pairwise(OFFSETS))
    ]
    assert off_by(dx, np.concatenate(parts), axis=0) <= 4
    order = (np.arange(len(x)) - OFFSETS[IDS]).argsort(kind="stable")
    shuffled = {"segment_ids": IDS[order], "scale": SCALE}
    assert_array_equal(forward(x[order], **shuffled), y)
    assert_array_equal(vjp(x[order], dy, **shuffled), dx[order])


def test_log_probabilities_where_the_weights_underflow():
    """gflownet#64, k2#1102, ml-agents#4664: −inf, and NaN gradients."""
    x, offsets = np.array([0.0, -200.0, 1.0], np.float32), [0, 2, 3]
    y = sg.segment_log_softmax(x, offsets)
    assert_array_equal(y, [0, -200, 0])
    assert_array_equal(sg.segment_log_softmax_vjp(y, np.array([0, 1, 0], np.float32), offsets), [-1, 1, 0])
    assert_array_equal(sg.segment_entropy(x, offsets), 0)
    assert_array_equal(sg.segment_entropy_vjp(x, np.ones(2, np.float32), offsets), 0)


def test_segments_with_nothing_in_them():
    x, offsets = np.array([-np.inf, -np.inf, 3.0, np.inf]), [0, 2, 2, 3, 4]
    assert_array_equal(sg.segment_logsumexp(x, offsets), [-np.inf, -np.inf, 3, np.inf])
    assert_array_equal(sg.segment_entropy(x, offsets)[:3], 0)
    assert_array_equal(sg.segment_logsumexp_vjp(x[:3], np.ones(3), offsets[:4]), [0, 0, 1])
    assert_array_equal(sg.segment_entropy_vjp(x[:3], np.ones(3), offsets[:4]), 0)
    assert sg.segment_logsumexp(np.zeros(0), segment_ids=[], num_segments=2).tolist() == [-np.inf] * 2
    where = np.array([True, True, False, True])
    assert sg.segment_logsumexp(np.array([0.0, 0.0, np.nan, 1.0]), [0, 3, 4], where=where)[1] == 1
    assert np.isnan(sg.segment_logsumexp(np.array([0.0, np.nan, 1.0]), [0, 2, 3])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, TypeError, "give one of them"),
        ({"offsets": [0, 4], "segment_ids": [0] * 4}, TypeError, "give one of them"),
        ({"offsets": [0, 4], "num_segments": 1}, TypeError, "num_segments is for segment_ids"),
        ({"segment_ids": [0, 1]}, ValueError, r"segment_ids has shape \(2,\).*shape \(4,\)"),
        ({"segment_ids": [0.0] * 4}, TypeError, "segment_ids has dtype float64"),
        (
            {"segment_ids": [0] * 4, "num_segments": 2.0},
            TypeError,
            "num_segments takes a whole number.*float",
        ),
        ({"segment_ids": [0, 1, -1, 0]}, ValueError, "segment_ids go from -1 to 1"),
        (
            {"segment_ids": np.full(4, 1 << 63, np.uint64), "num_segments": 1},
            *(ValueError, f"segment_ids go from {1 << 63} to {1 << 63};"),
        ),
        ({"segment_ids": [0, 1, 2, 0], "num_segments": 2}, ValueError, "from 0 to num_segments - 1, 1"),
        ({"offsets": [0, 4], "where": np.ones(3, bool)}, ValueError, "where has shape"),
    ],
)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy"])
def test_errors(name, options, error, text):
    with pytest.raises(error, match=text):
        getattr(sg, f"segment_{name}")(np.zeros(4), **options)


def test_a_gradient_of_another_shape():
    with pytest.raises(ValueError, match=r"dy has shape \(4,\).*give shape \(2,\)"):
        sg.segment_logsumexp_vjp(np.zeros(4), np.zeros(4), [0, 2, 4])


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1"])
def test_ids_of_any_integers(dtype):
    y = sg.segment_softmax(np.zeros(3), segment_ids=np.array([0, 0, 1], dtype))
    assert_array_equal(y, [0.5, 0.5, 1])
    with pytest.raises(ValueError, match="num_segments=-1"):
        sg.segment_softmax(np.zeros(0), segment_ids=np.zeros(0, dtype), num_segments=-1)


def test_a_number_is_a_segment_of_one():
    for axis in (0, -1):
        for x in (3.0, np.array(3.0)):
            for cut in ({"offsets": [0, 0, 1]}, {"segment_ids": [0]}):
                y = sg.segment_softmax(x, axis=axis, **cut)
                assert type(y) is np.float64
                assert y == 1
            dx = sg.segment_softmax_vjp(1.0, x, [0, 1], axis=axis)
            assert type(dx) is np.float64
            assert dx == sg.segment_log_softmax(x, [0, 1], axis=axis) == 0
        assert_array_equal(sg.segment_logsumexp(2.0, [0, 1, 1], axis=axis), [2, -np.inf])
        assert sg.segment_logsumexp_vjp(2.0, [3.0, 4.0], [0, 1, 1], axis=axis) == 3
        assert sg.segment_entropy_vjp(2.0, [1e308], [0, 1], axis=axis, scale=100) == 0
        out = np.empty(())
        assert sg.segment_softmax(3.0, [0, 1], axis=axis, out=out) is out
        assert sg.segment_softmax_vjp(1.0, 3.0, [0, 1], axis=axis, out=out) is out
    with pytest.raises(np.exceptions.AxisError):
        sg.segment_softmax(2.0, [0, 1], axis=1)


@pytest.mark.parametrize("name", ["logsumexp", "entropy"])
@pytest.mark.parametrize(
    ("dtype", "scale", "dy"), [("float16", 3e4, 6e4), ("float32", 1e10, 1e30), ("float64", 1e10, 1e300)]
)
def test_gradients_where_scale_times_dy_overflows(name, dtype, scale, dy):
    """But not that times p, as of whole rows."""
    x = (
        np.array([[0, -40], [-750, 0], [-720, 0], [0, 0], [0, -730]])
        if dtype == "float64"
        else np.array([[0, -40], [-90, 0], [-80, 0], [0, 0], [0, -85]])
    )
    x, dy = (x / scale).astype(dtype), np.array([[dy, 1], [0, 0], [-1, -dy]], dtype)
    whole, offsets, order = getattr(sg, f"{name}_vjp"), [0, 3, 3, 5], [3, 0, 4, 1, 2]
    parts = [(slice(*edges), dy[s]) for s, edges in enumerate(itertools.pairwise(offsets))]
    expected = np.concatenate([whole(x[part], of, axis=0, scale=scale) for part, of in parts])
    assert not np.isnan(expected).any()
    vjp = getattr(sg, f"segment_{name}_vjp")
    assert_array_equal(vjp(x, dy, offsets, scale=scale), expected)
    ids = np.array([0, 0, 0, 2, 2])[order]
    assert_array_equal(vjp(x[order], dy, segment_ids=ids, scale=scale), expected[order])
