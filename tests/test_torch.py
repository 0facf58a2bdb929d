"""PyTorch's autograd, asked as the article asks it."""

import numpy as np
import pytest

from softgrad import Softmax, softmax, softmax_double_backward, softmax_vjp
from softgrad.testing import cases, errors, mutants, oracle

torch = pytest.importorskip("torch")


def by_autograd(x, dy, axis):
    """y, ∂L/∂y and ∂L/∂x for the loss Σ y∘dy, whose gradient with respect to y is dy."""
    logits = torch.tensor(x, requires_grad=True)
    y = torch.softmax(logits, dim=axis)
    y.retain_grad()
    (y * torch.from_numpy(dy)).sum().backward()
    return y.detach().numpy(), y.grad.numpy(), logits.grad.numpy()


def article():
    """Its numbers: 32 rows of 512, from the seed 42."""
    rng = np.random.default_rng(42)
    return rng.random((32, 512)), rng.random((32, 512))


def check_autograd(vjp, dtype, axis):
    """The errors of both are in float64 far below one of float32; in float32 torch's own count too."""
    x, dy = (a.astype(dtype) for a in article())
    y, seen, expected = by_autograd(x, dy, axis)
    np.testing.assert_array_equal(seen, dy)
    error = errors.row_error(vjp(y, dy, axis=axis), expected.astype(oracle.WIDE), axis)
    assert error.max() <= 32


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_and_its_gradient(dtype, axis):
    x, dy = (a.astype(dtype) for a in article())
    y, _, _ = by_autograd(x, dy, axis)
    assert errors.ulps(softmax(x, axis=axis), y.astype(oracle.WIDE)).max() <= 16
    check_autograd(softmax_vjp, dtype, axis)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("mutant", mutants.FORMULAS)
def test_a_wrong_gradient_differs(mutant, axis):
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        check_autograd(mutants.MUTANTS[mutant], np.float64, axis)


def test_the_layer_in_the_middle_of_a_network():
    """x → softmax → times a matrix → tanh → sum: the passes by hand beside those of torch."""
    rng = np.random.default_rng(0)
    x, matrix = rng.normal(size=(16, 33)), rng.normal(size=(33, 7))
    layer = Softmax(scale=0.5)
    hidden = np.tanh(layer.forward(x) @ matrix)
    dx = layer.backward((1 - hidden**2) @ matrix.T)

    logits = torch.tensor(x, requires_grad=True)
    torch.tanh(torch.softmax(0.5 * logits, -1) @ torch.from_numpy(matrix)).sum().backward()
    assert errors.row_error(dx, logits.grad.numpy().astype(oracle.WIDE)).max() <= 64


@pytest.mark.parametrize("axis", [-1, 0])
def test_the_double_backward(axis):
    x, dy, v = (cases.numbers(16 * 33, key).reshape(16, 33) for key in ("x", "dy", "v"))
    logits, gradient = torch.tensor(x, requires_grad=True), torch.tensor(dy, requires_grad=True)
    y = torch.softmax(logits, axis)
    (dx,) = torch.autograd.grad(y, logits, gradient, create_graph=True)
    expected = torch.autograd.grad(dx, (logits, gradient), torch.from_numpy(v))
    found = softmax_double_backward(softmax(x, axis=axis), dy, v, axis=axis)
    for one, other in zip(found, expected, strict=True):
        assert errors.row_error(one, other.numpy().astype(oracle.WIDE), axis).max() <= 64


def test_a_mask_by_minus_infinity():
    """What is −inf in torch is masked here: the same weights and gradients."""
    x, dy = (cases.numbers(16 * 33, key).reshape(16, 33) for key in ("x", "dy"))
    where = cases.numbers(16 * 33, "where").reshape(16, 33) > -0.5
    y, _, expected = by_autograd(np.where(where, x, -np.inf), dy, -1)
    assert errors.ulps(softmax(x, where=where), y.astype(oracle.WIDE)).max() <= 16
    dx = softmax_vjp(y, dy, where=where)
    assert errors.row_error(dx, expected.astype(oracle.WIDE)).max() <= 64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_torch_loses_digits_softgrad_does_not(dtype):
    """An offset of 1e4 on dy: the exact gradient is the judge."""
    dtype = np.dtype(dtype)
    y, dy = cases.weights(100, dtype), cases.gradients(100, dtype)
    rows = [i for i, pair in enumerate(cases.pairs(100)) if pair == ("plain", "offset 1e4")]
    y, dy, exact = y[rows], dy[rows], cases.exact_vjp(100, dtype)[rows]
    theirs = torch.ops.aten._softmax_backward_data(
        torch.tensor(dy), torch.tensor(y), -1, torch.from_numpy(y.copy()).dtype
    ).numpy()
    assert errors.product_miss(softmax_vjp(y, dy), y, exact).max() <= 1
    assert (errors.product_miss(theirs, y, exact) > 100).all()
