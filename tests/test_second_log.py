"""The inputs of public threads on what comes after a softmax: NaN, inf or noise elsewhere, one call here.

shared/notes/users.md, the second log; what is not here is in docs/recipes.md, test_segment_functions.py,
test_sinks.py and test_weighted_cross_entropy.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import softgrad
import softgrad.jax as sj
import softgrad.torch as st

INF = np.inf


def test_entropy_of_probabilities_that_are_masked_and_normalised_again():
    """jax#17070: NaN gradients where the mask has a False."""
    logits, where = np.array([0.3, 1.2, 5.0, -0.4]), np.array([True, True, False, True])

    def of_jax(x):
        p = sj.softmax(x, where=where)
        return sj.entropy_of_probabilities(p / p.sum(), where=where)

    entropy, vjp = softgrad.entropy_with_vjp(logits, where=where)
    with jax.enable_x64(True):
        value, grad = jax.value_and_grad(of_jax)(jnp.asarray(logits))
        assert float(value) == pytest.approx(entropy, rel=1e-12)
        np.testing.assert_allclose(grad, vjp(1.0), rtol=1e-10, atol=1e-15)
    x = torch.tensor(logits, requires_grad=True)
    p = st.softmax(x, where=torch.tensor(where))
    found = st.entropy_of_probabilities(p / p.sum())
    assert found.item() == pytest.approx(entropy, rel=1e-12)
    np.testing.assert_allclose(torch.autograd.grad(found, x)[0], vjp(1.0), rtol=1e-10, atol=1e-15)
    theirs = torch.tensor(softgrad.softmax(logits, where=where), requires_grad=True)
    (nan,) = torch.autograd.grad(-(theirs * theirs.log()).nansum(), theirs)
    assert nan.isnan().any()  # by p.log()


def test_reverse_kl_and_js_at_a_low_temperature():
    """Soup#719: F.kl_div is NaN; by hand softmax_vjp(p, log p − log q, scale=20) is right."""
    x, u = np.array([[0.2, -1.0, 0.5, -INF]]), np.array([[0.1, 0.4, -0.3, -INF]])
    options = {"target_logits": u, "temperature": 0.05}
    p = softgrad.softmax(x, scale=20)
    ratio = softgrad.log_softmax(x, scale=20) - np.where(u > -INF, softgrad.log_softmax(u, scale=20), 0)
    right = softgrad.softmax_vjp(p, np.where(p > 0, ratio, 0), scale=20)
    dx, _ = softgrad.kl_divergence_vjp(x, [1.0], **options, direction="reverse")
    np.testing.assert_allclose(dx, right, rtol=1e-11, atol=1e-15)
    log_p, log_q = (torch.log_softmax(torch.tensor(a) / 0.05, -1) for a in (x, u))
    assert torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True).isnan()
    for name in ("kl_divergence", "js_divergence"):
        leaf = torch.tensor(x, requires_grad=True)
        of_u = {"target_logits": torch.tensor(u), "temperature": 0.05}
        value = getattr(st, name)(leaf, **of_u)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), leaf)[0].isfinite().all()
        of_arrays, function = {"target_logits": jnp.asarray(u), "temperature": 0.05}, getattr(sj, name)
        grad = jax.grad(lambda x, f=function, o=of_arrays: f(x, **o).sum())(jnp.asarray(x))
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_sparse_losses_at_minus_infinity(alpha):
    """deep-spin/entmax#9: the plain formula is NaN."""
    x, target = np.array([[1.0, -INF, 0.3], [-INF, 2.0, -INF]]), np.array([2, 1])
    loss, vjp = softgrad.entmax_loss_with_vjp(x, target, alpha, reduction="none")
    assert np.isfinite(loss).all()
    assert np.isfinite(vjp(np.ones(2))).all()
    without = softgrad.entmax_loss(x[:1, [0, 2]], [1], alpha, reduction="none")
    assert loss[0] == pytest.approx(without[0], rel=1e-15)
    assert loss[1] == 0
    leaf = torch.tensor(x, requires_grad=True)
    of_tensors = st.entmax_loss(leaf, torch.tensor(target), alpha, reduction="none")
    np.testing.assert_array_equal(of_tensors.detach(), loss)
    (dx,) = torch.autograd.grad(of_tensors.sum(), leaf)
    np.testing.assert_array_equal(dx, vjp(np.ones(2)))
    y = st.entmax(leaf, alpha)
    t = torch.nn.functional.one_hot(torch.tensor(target), 3)
    assert ((y - t) * leaf).sum(-1).isnan().all()  # the plain formula


def test_a_cost_matrix_through_a_softmax():
    """xgboost#2113: the diagonal of the Hessian, which took K double backwards."""
    x, cost = np.random.default_rng(0).normal(size=(2, 3, 6))
    y = softgrad.softmax(x)
    columns = []
    for k in range(6):
        e = np.zeros_like(x)
        e[:, k] = 1
        columns.append(softgrad.softmax_double_backward(y, cost, e)[0][:, k])
    found = softgrad.softmax_vjp_hessian_diagonal(y, cost)
    np.testing.assert_allclose(found, np.stack(columns, -1), rtol=1e-12, atol=1e-16)


def test_one_infinite_dy_makes_its_row_nan():
    """Found beside NNlib.jl#68: dy = [inf, 0] gave [nan, −inf] in some types."""
    for kind in (np.float16, np.float32, np.float64):
        y, dy = np.array([[0.25, 0.75]], kind), np.array([[INF, 0]], kind)
        assert np.isnan(softgrad.softmax_vjp(y, dy)).all()
        assert np.isnan(softgrad.softmax_vjp_hessian_diagonal(y, dy)).all()


def test_log_probabilities_of_ragged_rows():
    """gflownet#64, k2#1102: the logarithm of segment_softmax is −inf, its gradient NaN."""
    x = torch.tensor([0.0, -200.0], requires_grad=True)
    y = st.segment_log_softmax(x, torch.tensor([0, 2]))
    assert y.tolist() == [0.0, -200.0]
    assert torch.autograd.grad(y[1], x)[0].tolist() == [-1.0, 1.0]
