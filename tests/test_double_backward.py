"""softmax_double_backward: the gradients of ⟨v, softmax_vjp(y(x), dy)⟩ with respect to x and dy."""

import numpy as np
import pytest
from contract import assert_holds, assert_product

from softgrad import softmax, softmax_double_backward, softmax_vjp
from softgrad.testing import cases, check_double_backward, measures, oracle
from softgrad.testing.softmax import curvature_allowed

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def allowed(y, dy, v):
    """What the docstring promises of each element of grad_x."""
    return curvature_allowed(y, dy, v, oracle.double_backward(y, dy, v)[0])


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 33, 100, 257, 1000, 4097])
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_contract(dtype, n, axis):
    assert_holds("contract", "double-backward", softmax_double_backward, dtype, n, axis)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_every_check(dtype):
    check_double_backward(softmax_double_backward, level="tight", dtypes=[dtype], axis=(-1, 0, 1))


@pytest.mark.parametrize("n", [2, 5, 17, 33, 257])
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_grad_dy_is_the_vjp_of_v(dtype, n):
    """⟨v, J dy⟩ is linear in dy."""
    y, u, v = cases.moderate(n, dtype)
    _, grad_dy = softmax_double_backward(y, u, v, scale=0.5)
    assert_product(grad_dy, y, v, scale=0.5)
    assert_product(softmax_vjp(y, v, scale=0.5), y, v, scale=0.5)


@pytest.mark.parametrize("scale", [1.0, 0.5, -1.3])
@pytest.mark.parametrize("axis", [-1, 0, (0, 2), None])
def test_grad_x_is_the_derivative_of_the_gradient(axis, scale):
    """Central differences of ⟨v, vjp⟩ along a direction of x, extrapolated to order 4."""
    shape = 5, 4, 6
    x, dy, v, direction = (cases.numbers(120, key).reshape(shape) for key in ("x", "dy", "v", "t"))

    def product(step):
        y = softmax(x + step * direction, axis=axis, scale=scale)
        return (v * softmax_vjp(y, dy, axis=axis, scale=scale)).sum()

    h = 2.0**-9
    near, far = product(h) - product(-h), product(2 * h) - product(-2 * h)
    slope = (8 * near - far) / (12 * h)
    y = softmax(x, axis=axis, scale=scale)
    grad_x, _ = softmax_double_backward(y, dy, v, axis=axis, scale=scale)
    size = np.linalg.norm(grad_x) * np.linalg.norm(direction)
    assert abs((grad_x * direction).sum() - slope) <= 1e-9 * size
    assert abs(slope) > 1e-3 * size  # it is not 0 anyway


@pytest.mark.parametrize("n", [3, 33, 257])
def test_the_hessian_is_symmetric_in_dy_and_v(n):
    """⟨v, J dy⟩ is symmetric in v and dy, so its gradient in x is as well."""
    y, u, v = cases.moderate(n, FLOAT64)
    one, _ = softmax_double_backward(y, u, v)
    other, _ = softmax_double_backward(y, v, u)
    assert (np.abs(one - other) <= 2 * allowed(y, u, v)).all()


@pytest.mark.parametrize("n", [3, 33, 257])
def test_a_shift_of_x_changes_nothing(n):
    """Both gradients sum to 0."""
    y, u, v = cases.moderate(n, FLOAT64)
    grads = softmax_double_backward(y, u, v)
    assert (np.abs(grads[0].sum(axis=-1)) <= allowed(y, u, v).sum(axis=-1)).all()
    assert (np.abs(grads[1].sum(axis=-1)) <= 5e-15 * measures.norm(grads[1]) * np.sqrt(n)).all()


def test_an_offset_of_dy_or_v_does_no_harm():
    """The article's own form of the formula loses all digits here."""
    n = 100
    y, u, v = cases.moderate(n, FLOAT64)
    u, v = np.round(u * 2**20) / 2**20, np.round(v * 2**20) / 2**20
    near, _ = softmax_double_backward(y, u, v)
    far, _ = softmax_double_backward(y, u + 2.0**20, v - 2.0**20)
    assert (np.abs(near - far) <= 2 * allowed(y, u, v)).all()


@pytest.mark.parametrize("shape", [(3, 0), (0, 3)])
def test_nothing_in_nothing_out(shape):
    grads = softmax_double_backward(*[np.empty(shape, np.float32)] * 3)
    assert [g.shape for g in grads] == [shape, shape]


def test_a_single_element_has_no_gradient():
    for y in (np.ones((3, 1)), np.float64(1), np.ones(())):
        for grad in softmax_double_backward(y, y * 7, y * 8):
            np.testing.assert_array_equal(grad, np.zeros(np.shape(y)))


def test_empty_rows_give_0_and_nan_rows_nan():
    y = np.array([[0.0, 0.0], [np.nan, np.nan], [0.5, 0.5]])
    for grad in softmax_double_backward(y, [[1.0, 2.0]] * 3, [[3.0, 5.0]] * 3):
        np.testing.assert_array_equal(grad[0], 0)
        assert np.isnan(grad[1]).all()
        assert np.isfinite(grad[2]).all()


def test_shapes_that_differ_are_named():
    y = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"v has shape \(3,\)"):
        softmax_double_backward(y, y, np.ones(3))
    with pytest.raises(ValueError, match=r"dy has shape \(2, 1\)"):
        softmax_double_backward(y, np.ones((2, 1)), y)


def test_inputs_are_not_written():
    y, dy, v = (a.copy() for a in cases.moderate(33, FLOAT32))
    before = [a.copy() for a in (y, dy, v)]
    softmax_double_backward(y, dy, v)
    for a, b in zip((y, dy, v), before, strict=True):
        np.testing.assert_array_equal(a, b)
