"""softmax_jacobian: the dense matrix, the article's baseline."""

import numpy as np
import pytest

from softgrad import softmax, softmax_jacobian
from softgrad.testing import cases, errors, oracle


def exact_jacobian(y):
    """J_ij = y_i (δ_ij − y_j/Σy), in whole numbers: the vjp of each unit vector."""
    n = y.shape[-1]
    rows = np.broadcast_to(y[..., None, :], (*y.shape, n))
    return oracle.vjp(rows, np.broadcast_to(np.eye(n, dtype=y.dtype), rows.shape))


@pytest.mark.parametrize("n", [1, 2, 5, 33])
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_each_row_is_right(dtype, n):
    y = cases.weights(n, dtype)[::7]
    jacobian = softmax_jacobian(y)
    assert jacobian.dtype == dtype
    assert jacobian.shape == (len(y), n, n)
    rows = np.broadcast_to(y[:, None], jacobian.shape)
    assert errors.product_miss(jacobian, rows, exact_jacobian(y)).max() <= 1


def test_it_is_the_derivative_of_softmax():
    """By a complex step in each logit."""
    x = cases.numbers(5, "x")
    step = np.exp(x + 1e-100j * np.eye(5))
    derivative = (step / step.sum(axis=-1, keepdims=True)).imag * 1e100  # row j: ∂y/∂x_j
    np.testing.assert_allclose(softmax_jacobian(softmax(x)), derivative.T, rtol=1e-14)


@pytest.mark.parametrize(
    ("axis", "batch", "n"),
    [(-1, (2, 3), 4), (0, (3, 4), 2), (1, (2, 4), 3), (-2, (2, 4), 3), ((0, 2), (3,), 8), (None, (), 24)],
)
def test_axes(axis, batch, n):
    """The axes that are left come first, then those of the matrix; several count as one, in C order."""
    y = cases.numbers(24, "y").reshape(2, 3, 4) ** 2
    y /= y.sum(axis, keepdims=True)
    jacobian = softmax_jacobian(y, axis=axis)
    assert jacobian.shape == (*batch, n, n)
    axes = range(3) if axis is None else np.atleast_1d(axis) % 3
    rows = np.moveaxis(y, axes, range(-len(axes), 0)).reshape(*batch, n)
    of_each = np.broadcast_to(rows[..., None, :], jacobian.shape)
    assert errors.product_miss(jacobian, of_each, exact_jacobian(rows)).max() <= 1


@pytest.mark.parametrize(("shape", "expected"), [((3, 0), (3, 0, 0)), ((0, 3), (0, 3, 3)), ((0,), (0, 0))])
def test_nothing_in_nothing_out(shape, expected):
    assert softmax_jacobian(np.empty(shape, np.float32)).shape == expected


def test_an_empty_row_has_a_jacobian_of_0():
    np.testing.assert_array_equal(softmax_jacobian([[0.0, 0.0]]), np.zeros((1, 2, 2)))


def test_y_is_not_written_and_not_needed_afterwards():
    y = np.array([0.25, 0.75])
    y.flags.writeable = False
    jacobian = softmax_jacobian(y)
    assert jacobian.flags.writeable
    assert not np.shares_memory(jacobian, y)


def test_what_is_no_array_of_floats_is_refused():
    with pytest.raises(TypeError, match="y has dtype bool"):
        softmax_jacobian(np.array([True, False]))
    with pytest.raises(np.exceptions.AxisError):
        softmax_jacobian(np.ones((2, 3)), axis=2)
