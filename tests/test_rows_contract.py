"""Sinks, scales of rows and segments hold the contract of plain rows: every check of softgrad.testing."""

import numpy as np
import pytest

import softgrad
from softgrad import testing

CHECKS = {
    "": testing.check_forward,
    "_vjp": testing.check_vjp,
    "_jvp": testing.check_jvp,
    "_double_backward": testing.check_double_backward,
}
each_dtype = pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
each_check = pytest.mark.parametrize("what", CHECKS)


def holds(what, function, dtype, map="softmax"):
    CHECKS[what](function, map=map, level="tight", dtypes=[dtype], axis=(-1, 0), max_n=65)


def with_scales(function, factor):
    """`function` with a scale for each row, which is 1."""

    def of_rows(*arrays, axis=-1):
        shape = list(arrays[0].shape)
        shape[axis] = 1
        return function(*arrays, axis=axis, scale=np.full(shape, factor))

    return of_rows


@each_dtype
@each_check
def test_sinks(what, dtype):
    holds(what, testing.with_sink(getattr(softgrad, f"sink_softmax{what}")), dtype)


@each_dtype
@each_check
def test_scales(what, dtype):
    holds(what, with_scales(getattr(softgrad, f"softmax{what}"), 1.0), dtype)


@each_dtype
@pytest.mark.parametrize("map", ["softmax", "log_softmax"])
@each_check
def test_segments(what, map, dtype):
    holds(what, testing.in_segments(getattr(softgrad, f"segment_{map}{what}")), dtype, map)


def of_tensors(function, dim_name="axis"):
    """A function of tensors as one of arrays."""
    torch = pytest.importorskip("torch")

    def of_arrays(*arrays, axis=-1):
        tensors = [torch.from_numpy(a.copy()) for a in arrays]
        found = function(*tensors, **{dim_name: axis})
        return tuple(t.numpy() for t in found) if isinstance(found, tuple) else found.numpy()

    return of_arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_check
def test_sinks_of_tensors(what, dtype):
    holds(what, testing.with_sink(of_tensors(getattr(softgrad, f"sink_softmax{what}"))), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("map", ["softmax", "log_softmax"])
def test_segments_of_tensors_that_have_derivatives(map, dtype):
    """Second derivatives, by PyTorch's operations."""
    torch = pytest.importorskip("torch")

    def of_arrays(*arrays, axis):
        *tensors, offsets = [torch.from_numpy(a.copy()) for a in arrays]
        grads = getattr(softgrad, f"segment_{map}_double_backward")(
            tensors[0].requires_grad_(), *tensors[1:], offsets, axis=axis
        )
        return tuple(grad.detach().numpy() for grad in grads)

    holds("_double_backward", testing.in_segments(of_arrays), dtype, map)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_tensors(dtype):
    """Through autograd."""
    torch = pytest.importorskip("torch")
    import softgrad.torch as st

    def vjp(y, y_sink, dy, dy_sink, axis):
        logits = y.log().requires_grad_(), y_sink.log().requires_grad_()
        results = st.sink_softmax(*logits, axis)
        return torch.autograd.grad(results, logits, [dy, dy_sink])

    testing.check_vjp(testing.with_sink(of_tensors(vjp)), dtypes=[dtype], max_n=65, axis=0)


@pytest.mark.parametrize("function", [softgrad.softmax_vjp, softgrad.sink_softmax_vjp])
def test_a_wrong_one_is_rejected(function):
    """The sink left out of the mean; segments that are not cut."""
    wrong = {
        softgrad.softmax_vjp: testing.in_segments(lambda y, dy, offsets, axis: softgrad.softmax_vjp(y, dy)),
        softgrad.sink_softmax_vjp: testing.with_sink(
            lambda y, y_sink, dy, dy_sink, axis: (softgrad.softmax_vjp(y, dy, axis=axis), y_sink * dy_sink)
        ),
    }
    with pytest.raises(AssertionError):
        testing.check_vjp(wrong[function], max_n=50)


def test_the_scale_of_a_double_backward():
    """Rows of the plain function, each with a number for its scale; of 16-bit types too."""
    rng = np.random.default_rng(0)
    scale = np.array([0.5, 3.0, -2.0])[:, None]
    for dtype, bound in (("float16", 1), ("float64", 16)):
        y, dy, v = softgrad.softmax(rng.normal(size=(3, 6))), *rng.normal(size=(2, 3, 6))
        arrays = [a.astype(dtype) for a in (y, dy, v)]
        found = softgrad.softmax_double_backward(*arrays, scale=scale)
        for row in range(3):
            wide = [a[row].astype(np.float64) for a in arrays]
            expected = softgrad.softmax_double_backward(*wide, scale=scale[row, 0])
            for one, other in zip(found, expected, strict=True):
                eps = np.finfo(dtype).eps
                assert np.linalg.norm(one[row] - other) <= bound * eps * np.linalg.norm(other)
