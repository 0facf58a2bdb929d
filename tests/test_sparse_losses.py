"""The losses of sparsemax and entmax, and the diagonal of the Hessian of a loss through a softmax."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import softgrad
import softgrad.jax as sj
import softgrad.torch as st
from softgrad.testing import cases, errors

INF, NAN = np.inf, np.nan
ALPHAS = 1.0, 1.3, 1.5, 2.0, 3.0
each_alpha = pytest.mark.parametrize("alpha", ALPHAS)
each_float = pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)


def mp(values):
    return [mpmath.mpf(float(v)) for v in values]


def entmax(x, alpha):
    """By bisection in mpmath."""
    top = max(x)
    if alpha == 1:
        powers = [mpmath.exp(v - top) for v in x]
        return [power / mpmath.fsum(powers) for power in powers]
    z, low = [(alpha - 1) * (v - top) for v in x], mpmath.mpf(-1)
    high = mpmath.mpf(0)

    def weights(tau):
        return [max(v - tau, mpmath.mpf(0)) ** (1 / (mpmath.mpf(alpha) - 1)) for v in z]

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if mpmath.fsum(weights(middle)) > 1 else (low, middle)
    return weights(low)


def exact_loss(x, t, alpha):
    """Ω*(x) + Ω(t) − ⟨x,t⟩, and y − t, by the definition, of a row; t sums to 1 exactly."""
    x, t, alpha = mp(x), mp(t), mpmath.mpf(alpha)
    t = [a / mpmath.fsum(t) for a in t]
    y = entmax(x, alpha)

    def omega(p):
        if alpha == 1:
            return mpmath.fsum(a * mpmath.log(a) for a in p if a)
        return mpmath.fsum(a**alpha - a for a in p) / (alpha * (alpha - 1))

    linear = mpmath.fsum((a - b) * c for a, b, c in zip(y, t, x, strict=True) if a != b)
    return linear - omega(y) + omega(t), [a - b for a, b in zip(y, t, strict=True)]


def rows(n, dtype):
    """Logits, and targets: another row's entmax, one near it, a class."""
    rng = np.random.default_rng(n)
    x = (rng.normal(size=(5, n)) * np.array([[1], [3], [0.1], [20], [1]])).astype(dtype)
    x[4] += 1000
    other = x.astype(float) + rng.normal(size=x.shape) * np.array([[1], [1], [1e-3], [1], [1e-2]])
    return x, other


@each_alpha
@each_float
def test_the_loss(alpha, dtype):
    eps = float(errors.eps(dtype))
    for n in (1, 2, 5, 20):
        x, other = rows(n, dtype)
        classes = np.arange(5) % n
        for target in (softgrad.entmax(other, alpha).astype(dtype), classes):
            found, vjp = softgrad.entmax_loss_with_vjp(x, target, alpha, reduction="none")
            weights = np.eye(n)[classes] if target is classes else target
            y, dx = softgrad.entmax(x, alpha).astype(float), vjp()
            assert (found >= 0).all()
            with mpmath.workdps(60):
                for row, (logits, t) in enumerate(zip(x, weights, strict=True)):
                    value, slope = exact_loss(logits, t, alpha)
                    gap = mpmath.fsum(abs(s) for s in slope)
                    # the error of y counts as far as y and t are apart; the target's sum is rounded
                    allowed = 8 * eps * (value + gap * mpmath.mpf(float(np.abs(y[row]).max()))) + 1e-300
                    assert abs(mpmath.mpf(float(found[row])) - value) <= allowed, (n, row)
                    off = [abs(mpmath.mpf(float(a)) - b) for a, b in zip(dx[row], slope, strict=True)]
                    assert max(off) <= 8 * eps


def usual(x, t, alpha):
    """As it is written."""
    y = softgrad.entmax(x, alpha)

    def omega(p):
        return (p**alpha - p).sum(-1) / (alpha * (alpha - 1))

    return ((y - t) * x).sum(-1) - omega(y) + omega(t)


def test_the_usual_formula_is_no_such_function():
    """Offsets cost it the digits, and −inf makes it NaN."""
    x = np.array([[1000.0, 1000.001, 999.5]], np.float32)
    t = softgrad.entmax(x.astype(float) + np.array([0, 1e-2, 0]), 1.5).astype(np.float32)
    value = softgrad.entmax_loss(x.astype(float), t.astype(float), reduction="none")
    assert abs(softgrad.entmax_loss(x, t, reduction="none") / value - 1) < 1e-3
    assert abs(usual(x, t, 1.5) / value - 1) > 0.1
    with np.errstate(all="ignore"):
        assert np.isnan(usual(np.array([[0.0, -INF]]), np.array([[1.0, 0.0]]), 1.5))


@each_alpha
def test_what_is_not_there(alpha):
    x = np.array([[1.0, 0.5, -INF, 0.2], [2.0, NAN, 1.0, 0.0], [NAN] * 4, [-INF] * 4, [INF, 0, 0, 0]])
    target = np.array([0, 2, -100, 1, 0])
    where = np.ones((5, 4), bool)
    where[1, 1] = False
    loss, vjp = softgrad.entmax_loss_with_vjp(
        x, target, alpha, where=where, ignore_index=-100, reduction="none"
    )
    short = softgrad.entmax_loss_with_vjp(x[:1, [0, 1, 3]], [0], alpha, reduction="none")
    assert loss[0] == pytest.approx(short[0][0], rel=1e-15)
    np.testing.assert_allclose(vjp()[0, [0, 1, 3]], short[1]()[0], rtol=1e-15)
    assert np.isfinite(loss[:4]).all()
    assert vjp()[1, 1] == 0
    assert (vjp()[2] == 0).all()
    assert (vjp()[3] == 0).all()
    assert loss[2] == loss[3] == 0
    of_nothing = torch.full((1, 3), -INF, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(st.entmax_loss(of_nothing, torch.tensor([1]), alpha), of_nothing)
    assert (dx == 0).all()
    assert (jax.grad(sj.entmax_loss)(jnp.full((1, 3), -INF), jnp.array([1]), alpha) == 0).all()
    assert np.isnan(loss[4])
    # an impossible target
    assert softgrad.entmax_loss([1.0, -INF], 1, alpha) == INF
    assert softgrad.entmax_loss([1.0, 3.0], 1, alpha, where=[True, False]) == INF
    # weights that are masked have no part
    weights = np.array([0.5, 0.5, NAN])
    masked = softgrad.entmax_loss([1.0, 0.0, 3.0], weights, alpha, where=[True, True, False])
    assert masked == pytest.approx(softgrad.entmax_loss([1.0, 0.0], weights[:2], alpha))


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_reductions_axes_and_dtypes(dtype):
    x = cases.numbers(60, "x").reshape(3, 4, 5).astype(dtype)
    target = np.arange(15).reshape(3, 5) % 4
    each, vjp = softgrad.sparsemax_loss_with_vjp(x, target, axis=1, reduction="none")
    assert each.shape == (3, 5)
    assert each.dtype == dtype
    mean, of_mean = softgrad.sparsemax_loss_with_vjp(x, target, axis=1)
    assert abs(float(mean) - each.astype(float).mean()) <= 2 * float(errors.eps(dtype)) * float(mean)
    np.testing.assert_allclose(of_mean().astype(float), vjp().astype(float) / 15, rtol=errors.eps(dtype))
    out = np.empty_like(x)
    assert vjp(np.ones((3, 5)), out=out) is out
    np.testing.assert_array_equal(out, vjp())
    layer = softgrad.SparsemaxLoss(axis=1)
    assert layer.forward(x, target) == mean
    np.testing.assert_array_equal(layer.backward(), of_mean())
    assert softgrad.EntmaxLoss(alpha=2.0, axis=1).forward(x, target) == mean


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"target has -0\.5 in it"):
        softgrad.entmax_loss(np.zeros(2), np.array([1.5, -0.5]))
    with pytest.raises(ValueError, match="classes 0 to 1"):
        softgrad.sparsemax_loss(np.zeros((1, 2)), [2])
    with pytest.raises(ValueError, match="'mean', 'sum', 'none'"):
        softgrad.sparsemax_loss(np.zeros((1, 2)), [1], reduction="all")
    with pytest.raises(ValueError, match="alpha=0"):
        softgrad.entmax_loss(np.zeros((1, 2)), [1], 0.5)


@each_alpha
def test_derivatives_of_tensors_and_jax(alpha):
    x, other = (torch.tensor(a[:2]) for a in rows(5, np.float64))
    t = torch.softmax(other, -1)
    leaf = x.clone().requires_grad_()
    loss = st.entmax_loss(leaf, t, alpha)
    right, vjp = softgrad.entmax_loss_with_vjp(x.numpy(), t.numpy(), alpha)
    assert loss.item() == pytest.approx(right, rel=1e-14)
    np.testing.assert_allclose(torch.autograd.grad(loss, leaf)[0], vjp(), rtol=1e-13)
    assert gradcheck(lambda x: st.entmax_loss(x, t, alpha), (leaf,))
    assert gradgradcheck(lambda x: st.entmax_loss(x, t, alpha), (leaf,))
    logits = other.clone().requires_grad_()  # a target that is learnt
    assert gradcheck(lambda u: st.entmax_loss(x, u.softmax(-1), alpha), (logits,))
    each = torch.func.vmap(lambda x, t: st.entmax_loss(x, t, alpha))(x, t)
    np.testing.assert_allclose(each, st.entmax_loss(x, t, alpha, reduction="none"), rtol=1e-12)
    with jax.enable_x64(True):
        z, weights = jnp.asarray(x), jnp.asarray(t)
        loss, grad = jax.value_and_grad(lambda x: sj.entmax_loss(x, weights, alpha))(z)
        assert float(loss) == pytest.approx(right, rel=1e-12)
        np.testing.assert_allclose(grad, vjp(), rtol=1e-12)
        second = jax.hessian(lambda x: sj.entmax_loss(x, weights[0], alpha))(z[0])
        y = softgrad.entmax(x[0].numpy(), alpha)
        columns = [softgrad.entmax_vjp(y, e, alpha) for e in np.eye(5)]
        np.testing.assert_allclose(second, columns, atol=1e-12)
        of_inf = jax.grad(lambda x: sj.sparsemax_loss(x, 0))(jnp.asarray([1.0, 0.5, -INF]))
        assert of_inf.tolist() == [-0.25, 0.25, 0.0]


# --- the diagonal of a Hessian -------------------------------------------------------------------------


def exact_diagonal(y, dy, h, scale):
    y, dy, h = mp(y), mp(dy), mp(h)
    total = mpmath.fsum(y)
    mean = mpmath.fsum(a * b for a, b in zip(y, dy, strict=True)) / total
    spread = mpmath.fsum(a * abs(b - mean) for a, b in zip(y, dy, strict=True)) / total
    square = mpmath.fsum(a * b * b for a, b in zip(h, y, strict=True))
    size = mpmath.fsum(abs(a) * b * b for a, b in zip(h, y, strict=True))
    for a, b, c in zip(y, dy, h, strict=True):
        first, second = scale**2 * (1 - 2 * a) * a * (b - mean), (scale * a) ** 2
        unit = abs(first) + scale**2 * a * abs(1 - 2 * a) * spread + second * (abs(c) + size)
        yield first + second * (c * (1 - 2 * a) + square), unit


@each_float
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_diagonal_of_a_hessian(dtype, scale):
    tiny = float(errors.info(dtype).smallest_subnormal)
    for n in (1, 2, 5, 40, 300):
        rng = np.random.default_rng(n)
        x, dy, h = rng.normal(size=(3, 6, n))
        x *= np.array([[0.1], [1], [5], [20], [50], [1]])
        dy[5] += 1e4
        y, dy, h = softgrad.softmax(x).astype(dtype), dy.astype(dtype), h.astype(dtype)
        for given in (None, h):
            found = softgrad.softmax_vjp_hessian_diagonal(y, dy, given, scale=scale)
            with mpmath.workdps(60):
                for row in range(6):
                    of_h = np.zeros(n) if given is None else given[row]
                    exact = exact_diagonal(y[row], dy[row], of_h, mpmath.mpf(scale))
                    for a, (b, unit) in zip(found[row], exact, strict=True):
                        allowed = 16 * float(errors.eps(dtype)) * unit + tiny * 8 * scale
                        assert abs(mpmath.mpf(float(a)) - b) <= allowed


def test_it_is_the_diagonal_that_autograd_finds():
    """K double backwards, of a cost matrix (linear in y) and of the Brier score."""
    x, t = torch.randn(2, 7, dtype=torch.float64)
    cost = torch.randn(7, dtype=torch.float64)
    for loss, second in (
        (lambda y: (cost * y).sum(), None),
        (lambda y: ((y - t) ** 2).sum(), torch.full((7,), 2.0, dtype=torch.float64)),
    ):
        y = torch.softmax(x, -1).requires_grad_()
        (dy,) = torch.autograd.grad(loss(y), y)
        exact = torch.autograd.functional.hessian(
            lambda x, loss=loss: loss(torch.softmax(x, -1)), x
        ).diagonal()
        of_y = None if second is None else second.numpy()
        found = softgrad.softmax_vjp_hessian_diagonal(y.detach().numpy(), dy.numpy(), of_y)
        np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-15)
        tensors = st.softmax_vjp_hessian_diagonal(y.detach(), dy, second)
        np.testing.assert_array_equal(tensors, found)
        of_jax = np.asarray(sj.softmax_vjp_hessian_diagonal(y.detach().numpy(), dy.numpy(), of_y))
        assert np.abs(of_jax - found).max() <= 16 * np.finfo(of_jax.dtype).eps * np.abs(found).max()


def test_masks_layouts_and_arguments_of_the_diagonal():
    x, dy, h = np.random.default_rng(3).normal(size=(3, 4, 5))
    where = np.ones((4, 5), bool)
    where[:, 2] = False
    y = softgrad.softmax(x, where=where)
    right = softgrad.softmax_vjp_hessian_diagonal(*(np.delete(a, 2, 1) for a in (y, dy, h)))
    dy[:, 2] = h[:, 2] = NAN
    found = softgrad.softmax_vjp_hessian_diagonal(y, dy, h, where=where)
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(np.delete(found, 2, 1), right, rtol=1e-14)
    columns = softgrad.softmax_vjp_hessian_diagonal(y.T, dy.T, h.T, axis=0, where=where.T)
    np.testing.assert_array_equal(columns.T, found)
    out = np.empty_like(y)
    assert softgrad.softmax_vjp_hessian_diagonal(y, dy, h, where=where, out=out) is out
    np.testing.assert_array_equal(out, found)
    for kind in (np.float16, np.float32):
        given = [a.astype(kind) for a in (y, dy, h)]
        narrow = softgrad.softmax_vjp_hessian_diagonal(*given, where=where)
        assert narrow.dtype == kind
        exact = softgrad.softmax_vjp_hessian_diagonal(*(a.astype(float) for a in given), where=where)
        assert np.abs(narrow - exact).max() <= 4 * errors.eps(kind) * np.abs(exact).max()
    tensors = [
        torch.tensor(a, requires_grad=True) for a in (y, np.where(where, dy, 0), np.where(where, h, 0))
    ]
    assert gradcheck(lambda *a: st.softmax_vjp_hessian_diagonal(*a, where=torch.tensor(where)), tensors)
    with pytest.raises(ValueError, match="does not broadcast"):
        softgrad.softmax_vjp_hessian_diagonal(y, dy, h[:1])
