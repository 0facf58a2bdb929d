"""softmax_jvp: the product with the Jacobian, which is symmetric."""

import numpy as np
import pytest

from softgrad import softmax, softmax_jvp, softmax_vjp
from softgrad.testing import cases, errors, oracle
from softgrad.testing.operations import derivative as slope

LENGTHS = [1, 2, 3, 5, 8, 17, 33, 64, 65, 257, 1000]


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_it_is_the_derivative_along_a_tangent(dtype):
    """Element by element, beside a complex step."""
    for n in LENGTHS:
        y, _, v = cases.moderate(n, dtype)
        expected = slope(y, v)
        gap = np.abs(softmax_jvp(y, v).astype(oracle.WIDE) - expected)
        # Σy is off by eps/2 for each y, which the step doesn't know; it rounds at the size of y∘v itself
        own = errors.eps(dtype) / 2 * np.abs(expected)
        own += 16 * errors.eps(np.dtype(np.float64)) * y * np.abs(v).max(axis=-1, keepdims=True)
        assert (gap <= errors.product_allowed(y, expected) + own).all(), n


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32)], ids=str)
def test_adjoint_with_every_option(dtype, axis):
    """⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩ under a mask and a scale."""
    shape = 16, 9, 11
    x, u, v = (cases.numbers(1584, key).reshape(shape) for key in "xuv")
    where = x > -0.5
    y = softmax(x.astype(dtype), axis=axis, where=where, scale=0.7)
    u, v = u.astype(dtype), (u + v / 4).astype(dtype)
    dx = softmax_vjp(y, u, axis=axis, where=where, scale=0.7).astype(oracle.WIDE)
    dy = softmax_jvp(y, v, axis=axis, where=where, scale=0.7).astype(oracle.WIDE)
    u, v = u.astype(oracle.WIDE), v.astype(oracle.WIDE)
    slack = np.sqrt((u * u).sum() * (dy * dy).sum()) + np.sqrt((v * v).sum() * (dx * dx).sum())
    # D is at most √n times the norm of dx, divided by that of y
    error = errors.product_bound(dtype) * errors.eps(dtype)
    assert abs((v * dx).sum() - (dy * u).sum()) <= 2 * error * slack
    assert abs((v * dx).sum()) > slack / 16  # the products are not 0 anyway


def test_its_argument_is_called_dx():
    y = cases.weights(33, np.dtype(np.float32))
    tangent = cases.gradients(33, np.dtype(np.float32))
    np.testing.assert_array_equal(softmax_jvp(y=y, dx=tangent), softmax_vjp(y=y, dy=tangent))
    with pytest.raises(ValueError, match="dx has shape"):
        softmax_jvp(y, tangent[:, :3])
