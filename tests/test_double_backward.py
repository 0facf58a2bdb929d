"""softmax_double_backward: the gradients of ⟨v, softmax_vjp(y(x), dy)⟩ with respect to x and dy."""

import numpy as np
import pytest
from contract import assert_product

from softgrad import softmax_double_backward, softmax_vjp
from softgrad.testing import cases, errors, oracle
from softgrad.testing.bounds import curvature_tight as curvature_allowed

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def allowed(y, dy, v):
    """What the docstring promises of each element of grad_x."""
    return curvature_allowed(y, dy, v, oracle.double_backward(y, dy, v)[0])


@pytest.mark.parametrize("n", [2, 5, 17, 33, 257])
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_grad_dy_is_the_vjp_of_v(dtype, n):
    """⟨v, J dy⟩ is linear in dy."""
    y, u, v = cases.moderate(n, dtype)
    _, grad_dy = softmax_double_backward(y, u, v, scale=0.5)
    assert_product(grad_dy, y, v, scale=0.5)
    assert_product(softmax_vjp(y, v, scale=0.5), y, v, scale=0.5)


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
    assert (np.abs(grads[1].sum(axis=-1)) <= 5e-15 * errors.norm(grads[1]) * np.sqrt(n)).all()


def test_an_offset_of_dy_or_v_does_no_harm():
    """The article's own form of the formula loses all digits here."""
    n = 100
    y, u, v = cases.moderate(n, FLOAT64)
    u, v = np.round(u * 2**20) / 2**20, np.round(v * 2**20) / 2**20
    near, _ = softmax_double_backward(y, u, v)
    far, _ = softmax_double_backward(y, u + 2.0**20, v - 2.0**20)
    assert (np.abs(near - far) <= 2 * allowed(y, u, v)).all()


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
