"""cross_entropy with weights of rows and classes, masked classes, a z-loss and a dtype of the loss."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import softgrad
import softgrad.jax as sj
import softgrad.torch as st
from softgrad.cpu import machine
from softgrad.testing import errors

INF, NAN = np.inf, np.nan
ROWS, N = 6, 5


def data():
    rng = np.random.default_rng(0)
    x, classes = rng.normal(size=(ROWS, N)), rng.integers(0, N, ROWS)
    soft = softgrad.softmax(rng.normal(size=(ROWS, N)))
    of_rows, of_classes = rng.random(ROWS), rng.random(N) + 0.1
    of_rows[2] = 0
    x[0] *= 8  # a sure row
    where = rng.random((ROWS, N)) > 0.3
    where[np.arange(ROWS), classes] = True
    return x, classes, soft, of_rows, of_classes, where


def exact(x, target, options):
    """In longdouble, from the definition; the loss, and its gradient for dloss = 1."""
    x = x.astype(np.longdouble)
    where, epsilon = options.get("where", np.ones(x.shape, bool)), options.get("label_smoothing", 0.0)
    w = np.asarray(options.get("sample_weight", np.ones(len(x))), np.longdouble)
    c = np.asarray(options.get("weight", np.ones(N)), np.longdouble)
    z_loss, soft = options.get("z_loss", 0.0), target.ndim == 2
    t = target.astype(np.longdouble) if soft else np.eye(N, dtype=np.longdouble)[target]
    t = ((1 - epsilon) * t * where + epsilon * where / where.sum(-1, keepdims=True)) * c
    own = np.ones(len(x)) if soft else c[target]
    x = np.where(where, x, -INF)
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    log_s = np.log(e.sum(-1)) + x.max(-1)
    log_p = np.where(where, x, 0) - log_s[:, None]
    losses = w * (-(t * log_p * where).sum(-1) + own * z_loss * log_s**2)
    grads = p * (t.sum(-1) + 2 * own * z_loss * log_s)[:, None] - t
    grads = w[:, None] * grads * where
    count = (w * own).sum() if options.get("reduction", "mean") == "mean" else 1.0
    losses = losses if options.get("reduction") == "none" else losses.sum()
    return losses / count, grads / count


def combinations():
    x, classes, soft, of_rows, of_classes, where = data()
    choices = {
        "label_smoothing": (0.0, 0.1),
        "sample_weight": (None, of_rows),
        "weight": (None, of_classes),
        "where": (None, where),
        "z_loss": (0.0, 0.01),
        "reduction": ("mean", "none"),
    }
    for target in (classes, soft * where):
        for values in itertools.product(*choices.values()):
            yield x, target, {k: v for k, v in zip(choices, values, strict=True) if v is not None}


def test_against_the_definition(monkeypatch):
    """Each combination of the options; and again without kernels."""
    for lacks in (None, lambda dtype: "everything"):
        if lacks is not None:
            monkeypatch.setattr(machine, "lacks", lacks)
        for x, target, options in combinations():
            given = np.where(options["where"], x, NAN) if "where" in options else x.copy()
            if "sample_weight" in options:
                given[2] = NAN
            found, vjp = softgrad.cross_entropy_with_vjp(given, target, **options)
            right, gradient = exact(np.where(np.isnan(given), 0, x), target, options)
            names = {k: v for k, v in options.items() if np.ndim(v) == 0}
            np.testing.assert_allclose(found, right.astype(float), rtol=1e-13, atol=1e-15, err_msg=names)
            np.testing.assert_array_equal(found, softgrad.cross_entropy(given, target, **options))
            dx = vjp(np.ones(ROWS) if np.ndim(found) else 1.0)
            np.testing.assert_allclose(dx, gradient.astype(float), rtol=1e-12, atol=1e-16, err_msg=names)


def test_as_in_pytorch():
    x, classes, soft, _, of_classes, _ = data()
    for target, epsilon, reduction in itertools.product((classes, soft), (0.0, 0.1), ("mean", "sum", "none")):
        options = {"label_smoothing": epsilon, "reduction": reduction}
        right = torch.nn.functional.cross_entropy(
            *(torch.tensor(a) for a in (x, target, of_classes)), **options
        )
        found = softgrad.cross_entropy(x, target, weight=of_classes, **options)
        np.testing.assert_allclose(found, right, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_narrow_types(dtype):
    """The loss in float32 and the gradient in the dtype of x, each rounded once, in all of the ways."""
    for x, target, options in combinations():
        x = x.astype(dtype)
        target = target if target.ndim == 1 else target.astype(dtype)
        wide = target if target.ndim == 1 else target.astype(np.float64)
        found, vjp = softgrad.cross_entropy_with_vjp(x, target, dtype=np.float32, **options)
        right, gradient = exact(x.astype(np.float64), wide, options)
        assert found.dtype == np.float32
        assert vjp().dtype == dtype
        np.testing.assert_allclose(found, right.astype(float), rtol=1e-6)
        scale = np.abs(gradient).max()
        assert np.abs(vjp().astype(float) - gradient).max() <= 2 * float(errors.eps(dtype)) * scale


def test_a_loss_of_bfloat16():
    """RL-Kernel#297: 0.03 off without dtype."""
    x = np.array([[8.0, 1.0, 2.0]] * 3, ml_dtypes.bfloat16)
    target = np.array([1, 2, 1])
    exact_loss = softgrad.cross_entropy(x.astype(float), target)
    assert abs(float(softgrad.cross_entropy(x, target)) - exact_loss) > 0.005
    assert abs(softgrad.cross_entropy(x, target, dtype=np.float32) - exact_loss) < 1e-6
    tensors = torch.tensor(x.astype(np.float32)).bfloat16().requires_grad_(), torch.tensor(target)
    loss = st.cross_entropy(*tensors, dtype=torch.float32)
    assert loss.dtype == torch.float32
    assert abs(loss.item() - exact_loss) < 1e-6
    (dx,) = torch.autograd.grad(loss, tensors[0])
    assert dx.dtype == torch.bfloat16
    of_jax = sj.cross_entropy(jnp.asarray(x), jnp.asarray(target), dtype=jnp.float32)
    assert of_jax.dtype == jnp.float32
    assert abs(float(of_jax) - exact_loss) < 1e-6


def test_rows_that_do_not_count():
    """NVIDIA-NeMo/Automodel#2428: the mean of the rows that count, and NaN in those that do not."""
    x, t = np.array([[1, 2, 3], [NAN] * 3, [5, 1, 1]]), np.array([[0.0, 0, 1], [0, 0, 0], [1, 0, 0]])
    mask = np.array([True, False, True])
    loss, vjp = softgrad.cross_entropy_with_vjp(x, t, sample_weight=mask)
    assert loss == pytest.approx(0.22179, abs=1e-5)
    assert (vjp()[1] == 0).all()
    assert np.isfinite(vjp()).all()
    leaf = torch.tensor(x, requires_grad=True)
    tensor = st.cross_entropy(leaf, torch.tensor(t), sample_weight=torch.tensor(mask))
    assert tensor.item() == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(torch.autograd.grad(tensor, leaf)[0], vjp(), rtol=1e-13, atol=1e-17)
    weights = jnp.asarray(t)
    of_jax, dx = jax.value_and_grad(lambda x: sj.cross_entropy(x, weights, sample_weight=mask))(
        jnp.asarray(x)
    )
    assert float(of_jax) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(dx, vjp(), rtol=1e-5, atol=1e-7)
    assert np.isnan(softgrad.cross_entropy(x, t, sample_weight=np.zeros(3)))  # the mean of no rows
    assert softgrad.cross_entropy(x, t, sample_weight=np.zeros(3), reduction="sum") == 0


def test_a_masked_target_is_impossible():
    loss, vjp = softgrad.cross_entropy_with_vjp([[1.0, 2.0, 0.0]], [0], where=[[False, True, True]])
    assert loss == INF
    assert vjp()[0, 0] == 0
    ignored = softgrad.cross_entropy(
        [[1.0, 2.0], [0.0, 0.0]], [-1, 0], where=[[True, False]] * 2, ignore_index=-1
    )
    assert ignored == 0


def test_tensors_and_jax():
    for number, (x, target, options) in enumerate(combinations()):
        right, gradient = exact(x, target, options)
        dy = np.ones(ROWS) if np.ndim(right) else 1.0
        of_tensors = {k: torch.tensor(v) if np.ndim(v) else v for k, v in options.items()}
        leaf = torch.tensor(x, requires_grad=True)
        loss = st.cross_entropy(leaf, torch.tensor(target), **of_tensors)
        np.testing.assert_allclose(loss.detach(), right.astype(float), rtol=1e-12)
        (dx,) = torch.autograd.grad(loss.sum(), leaf)
        np.testing.assert_allclose(dx, gradient.astype(float), rtol=1e-10, atol=1e-15)
        if number % 16 == 5:
            fixed = torch.tensor(target)

            def function(x, fixed=fixed, of_tensors=of_tensors):
                return st.cross_entropy(x, fixed, **of_tensors)

            assert gradcheck(function, (leaf,))
            assert gradgradcheck(function, (leaf,))
            out, vjp = softgrad.cross_entropy_with_vjp(leaf.detach(), fixed, **of_tensors)
            np.testing.assert_allclose(vjp(torch.as_tensor(dy)), dx, rtol=1e-12, atol=1e-16)
            np.testing.assert_array_equal(out, loss.detach())
        if number % 8 == 3:
            with jax.enable_x64(True):
                arrays = {k: jnp.asarray(v) if np.ndim(v) else v for k, v in options.items()}
                t, z = jnp.asarray(target), jnp.asarray(x)
                loss, pullback = jax.vjp(lambda x, t=t, a=arrays: sj.cross_entropy(x, t, **a), z)
                np.testing.assert_allclose(loss, right.astype(float), rtol=1e-12)
                (dx,) = pullback(jnp.asarray(dy))
                np.testing.assert_allclose(dx, gradient.astype(float), rtol=1e-10, atol=1e-15)


BAD = [
    (ValueError, r"weight has shape \(2,\).*one number for each class", {"weight": np.ones(2)}),
    (ValueError, "weight has -1.0 in it", {"weight": np.array([-1.0, 1, 1, 1, 1])}),
    (ValueError, "sample_weight has shape", {"sample_weight": np.ones(4)}),
    (ValueError, "sample_weight has inf in it", {"sample_weight": np.full(6, INF)}),
    (ValueError, r"z_loss=-1\.0", {"z_loss": -1.0}),
    (TypeError, "dtype=<class 'int'>", {"dtype": int}),
    (TypeError, "where has dtype float64", {"where": np.ones(5)}),
]


@pytest.mark.parametrize(("error", "says", "options"), BAD)
def test_bad_arguments(error, says, options):
    x, classes, *_ = data()
    with pytest.raises(error, match=says):
        softgrad.cross_entropy(x, classes, **options)
    tensors = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    with pytest.raises(error, match=says.replace("where has dtype float64", "where has dtype")):
        st.cross_entropy(torch.tensor(x), torch.tensor(classes), **tensors)


def test_a_layer_and_columns():
    x, classes, _, of_rows, of_classes, where = data()
    layer = softgrad.CrossEntropy(axis=0, weight=of_classes, z_loss=0.01)
    loss = layer.forward(x.T, classes, sample_weight=of_rows, where=where.T)
    options = {"weight": of_classes, "z_loss": 0.01, "sample_weight": of_rows, "where": where}
    right, vjp = softgrad.cross_entropy_with_vjp(x, classes, **options)
    assert loss == pytest.approx(right, rel=1e-15)
    np.testing.assert_allclose(layer.backward(), vjp().T, rtol=1e-14)
