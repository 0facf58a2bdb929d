"""Divergences and the entropy of probabilities: exact on hard rows, no NaN where the value is finite."""

import functools

import divergences
import jax
import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest
import torch
from divergences import KINDS, LENGTHS, TARGETS
from torch.autograd import gradcheck, gradgradcheck

import softgrad
import softgrad.jax as sj
import softgrad.torch as st
from softgrad.cpu import machine
from softgrad.testing import cases, errors

INF, NAN = np.inf, np.nan
MOST = 4  # eps, of divergences and gradients
each_kind = pytest.mark.parametrize("kind", KINDS)
each_target = pytest.mark.parametrize("target", TARGETS)
each_float = pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)


def value_of(kind, target, of=softgrad, **options):
    name, direction = KINDS[kind]
    return lambda x, t: getattr(of, name)(x, **{target: t}, **direction, **options)


def vjp_of(kind, target, **options):
    name, direction = KINDS[kind]

    def vjp(x, t):
        dy = np.ones(np.shape(x)[:-1], np.asarray(x).dtype)
        return getattr(softgrad, f"{name}_vjp")(x, dy, **{target: t}, **direction, **options)

    return vjp


def pair(n=7, count=4, seed=0):
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(2, count, n)) * 2
    return x, u


# --- precision ---------------------------------------------------------------------------------------


@each_kind
@each_target
@each_float
def test_hard_rows(kind, target, dtype):
    for n, temperature in [*((n, 1.0) for n in LENGTHS), (17, 0.05)]:
        options = {"temperature": temperature}
        functions = value_of(kind, target, **options), vjp_of(kind, target, **options)
        found = divergences.worst(kind, target, dtype, n, temperature, *functions)
        assert max(found) <= MOST, (n, temperature, found)


def usual(kind, x, t, probs):
    """Σ t·(log t − log p), as it is written."""

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    log_p, log_t = log_softmax(x), np.log(t) if probs else log_softmax(t)
    p, t = np.exp(log_p), np.exp(log_t)
    if kind == "js":
        m = np.log((p + t) / 2)
        return ((p * (log_p - m)).sum(-1) + (t * (log_t - m)).sum(-1)) / 2
    return ((t * (log_t - log_p)) if kind == "kl" else (p * (log_p - log_t))).sum(-1)


@each_kind
@each_target
@each_float
def test_the_usual_formula_is_no_such_function(kind, target, dtype):
    probs = target == "target_probs"
    with np.errstate(all="ignore"):
        found = divergences.worst(
            *(kind, target, dtype, 17, 1.0),
            lambda x, t: usual(kind, x, t, probs),
            vjp_of(kind, target),
        )
    assert found[0] > 1e3


MUTANTS = {
    "no mean": lambda dx, du, p, t: (dx, du + 1e-3 * t),
    "the other sign": lambda dx, du, p, t: (-dx, du),
    "the sides changed": lambda dx, du, p, t: (du, dx),
    "zero": lambda dx, du, p, t: (np.zeros_like(dx), np.zeros_like(du)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
@each_kind
@each_float
def test_wrong_gradients_are_found(kind, mutant, dtype):
    target = "target_logits"

    def vjp(x, t):
        p, of_t = (softgrad.softmax(a) for a in (x, t))
        return MUTANTS[mutant](*vjp_of(kind, target)(x, t), p, of_t)

    found = divergences.worst(kind, target, dtype, 17, 1.0, value_of(kind, target), vjp)
    assert max(found[1:]) > 1e3


@each_kind
@each_target
@pytest.mark.parametrize("dtype", [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)], ids=str)
def test_16_bit_types_are_rounded_once(kind, target, dtype):
    x, u = divergences.rows(np.float64, 33)
    keep = np.abs(x).max(-1) < 1e4  # an offset is beyond float16
    x, u = x[keep].astype(dtype), u[keep].astype(dtype)
    t = divergences.probabilities(u.astype(np.float64), dtype) if target == "target_probs" else u
    wide = [a.astype(np.float64) for a in (x, t)]
    found, exact = value_of(kind, target)(x, t), value_of(kind, target)(*wide)
    assert found.dtype == dtype
    finite = np.isfinite(exact) & (exact < float(errors.info(dtype).max))
    assert errors.ulps(found[finite], exact[finite]).max() <= 0.51
    for one, right in zip(vjp_of(kind, target)(x, t), vjp_of(kind, target)(*wide), strict=True):
        finite = np.isfinite(right) & (np.abs(right) < float(errors.info(dtype).max))
        normal = finite & (np.abs(right) > 1e-3)
        assert (np.sign(one[normal]) == np.sign(right[normal])).all()
        assert errors.ulps(np.abs(one[normal]), np.abs(right[normal])).max() <= 0.6


def test_equal_distributions_give_exactly_0():
    x = cases.numbers(300, "x").reshape(3, 100) * 20
    for kind in KINDS:
        for logits in (x, x.astype(np.float32)):
            assert (value_of(kind, "target_logits")(logits, logits) == 0).all()
            assert all((one == 0).all() for one in vjp_of(kind, "target_logits")(logits, logits))


# --- what is not there ---------------------------------------------------------------------------------


@each_kind
@each_target
def test_a_mask_is_as_if_it_was_not_there(kind, target):
    x, u = pair()
    t = softgrad.softmax(u) if target == "target_probs" else u
    where = np.ones(x.shape, bool)
    where[:, ::3] = False
    poisoned = [np.where(where, a, NAN) for a in (x, t)]
    x, t = x[:, where[0]].copy(), t[:, where[0]].copy()
    found = value_of(kind, target, where=where)(*poisoned)
    np.testing.assert_allclose(found, value_of(kind, target)(x, t), rtol=1e-14)
    for one, right in zip(
        vjp_of(kind, target, where=where)(*poisoned), vjp_of(kind, target)(x, t), strict=True
    ):
        assert (one[~where] == 0).all()
        np.testing.assert_allclose(one[where].reshape(right.shape), right, rtol=1e-12, atol=1e-16)


@each_kind
def test_rows_with_nothing(kind):
    nothing, x = np.full(3, -INF), np.array([1.0, 2.0, 0.0])
    for a, b in ((nothing, x), (x, nothing), (nothing, nothing)):
        assert value_of(kind, "target_logits")(a, b) == 0
        assert all((one == 0).all() for one in vjp_of(kind, "target_logits")(a, b))
    assert value_of(kind, "target_probs")(x, np.zeros(3)) == 0
    assert all((one == 0).all() for one in vjp_of(kind, "target_probs")(x, np.zeros(3)))
    assert value_of(kind, "target_logits")(np.zeros((2, 0)), np.zeros((2, 0))).tolist() == [0, 0]


@each_kind
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_nan_stays_in_its_row(kind, value):
    x, u = pair()
    for spoilt in (x.copy(), u.copy()):
        spoilt[1, 2] = value
        arguments = (spoilt, u) if (spoilt[0] == x[0]).all() else (x, spoilt)
        found = value_of(kind, "target_logits")(*arguments)
        assert np.isnan(found).tolist() == [False, True, False, False]
        for one in vjp_of(kind, "target_logits")(*arguments):
            assert np.isnan(one[1]).all()
            assert np.isfinite(np.delete(one, 1, 0)).all()


def test_what_one_of_them_lacks():
    x, u = np.array([0.0, -INF, 0.0]), np.array([0.0, 0.0, -INF])
    assert softgrad.kl_divergence(x, target_logits=u) == INF
    assert softgrad.kl_divergence(x, target_logits=[0.0, -INF, -INF]) == np.log(2)
    assert softgrad.js_divergence([0.0, -INF], target_logits=[-INF, 0.0]) == np.log(2)
    far = softgrad.kl_divergence(np.array([0, -200], np.float32), target_logits=np.zeros(2, np.float32))
    assert abs(far - (100 - np.log(2))) < 1e-5  # exp(−200) is no float32


# --- layouts and arguments -----------------------------------------------------------------------------


@each_kind
@each_target
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
def test_layouts(kind, target, dtype):
    x, u = (a.reshape(4, 6, 5).astype(dtype) for a in pair(30))
    t = softgrad.softmax(u, axis=(0, 2)) if target == "target_probs" else u
    rows = [np.ascontiguousarray(np.moveaxis(a, 1, 0).reshape(6, 20)) for a in (x, t)]
    right, grads = value_of(kind, target)(*rows), vjp_of(kind, target)(*rows)
    name, options = KINDS[kind]
    options = {**options, "axis": (0, 2)}
    for order in ("C", "F"):
        a, b = np.asarray(x, order=order), np.asarray(t, order="C")
        np.testing.assert_array_equal(getattr(softgrad, name)(a, **{target: b}, **options), right)
        kept = getattr(softgrad, name)(a, **{target: b}, **options, keepdims=True)
        assert kept.shape == (1, 6, 1)
        found = getattr(softgrad, f"{name}_vjp")(a, np.ones(6, dtype), **{target: b}, **options)
        for one, expected in zip(found, grads, strict=True):
            again = np.moveaxis(expected.reshape(6, 4, 5), 0, 1)
            np.testing.assert_array_equal(one, again)


def test_a_dy_multiplies_its_row():
    x, u = pair()
    dy = np.array([1.0, -2.0, 0.0, 1e-3])
    dx, du = softgrad.kl_divergence_vjp(x, dy, target_logits=u)
    ones = softgrad.kl_divergence_vjp(x, np.ones(4), target_logits=u)
    for one, right in zip((dx, du), ones, strict=True):
        np.testing.assert_allclose(one, right * dy[:, None], rtol=1e-15, atol=0)


def test_no_input_is_written_and_a_number_is_a_row():
    x, u = pair()
    kept = x.copy(), u.copy()
    softgrad.js_divergence_with_vjp(x, target_logits=u)[1](np.ones(4))
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(u, kept[1])
    value = softgrad.kl_divergence(np.float32(3), target_logits=np.float32(4))
    assert value == 0
    assert value.dtype == np.float32


BAD = [
    (TypeError, "give one of them", {}),
    (TypeError, "give one of them", {"target_logits": [0.0, 1.0], "target_probs": [0.5, 0.5]}),
    (ValueError, "give target_logits if these are logits", {"target_probs": [0.5, -0.5]}),
    (ValueError, "same, since softgrad does not broadcast", {"target_logits": [0.0]}),
    (ValueError, "'forward', 'reverse'", {"target_logits": [0.0, 1.0], "direction": "back"}),
    (ValueError, "takes a positive number", {"target_logits": [0.0, 1.0], "temperature": 0.0}),
    (TypeError, "temperature takes a real number", {"target_logits": [0.0, 1.0], "temperature": "1"}),
]


@pytest.mark.parametrize(("error", "says", "options"), BAD)
def test_bad_arguments(error, says, options):
    with pytest.raises(error, match=says):
        softgrad.kl_divergence(np.zeros(2), **options)
    tensors = {name: torch.tensor(v) if isinstance(v, list) else v for name, v in options.items()}
    with pytest.raises(error, match=says):
        st.kl_divergence(torch.zeros(2), **tensors)
    arrays = {name: jnp.array(v) if isinstance(v, list) else v for name, v in options.items()}
    with pytest.raises(error, match=says):
        sj.kl_divergence(jnp.zeros(2), **arrays)


def test_a_dy_of_another_shape():
    x, u = pair()
    for dy in (np.ones(7), np.ones((4, 7))):
        with pytest.raises(ValueError, match="one number for each row"):
            softgrad.kl_divergence_vjp(x, dy, target_logits=u)
        with pytest.raises(ValueError, match="one element for each row"):
            softgrad.kl_divergence_vjp(torch.tensor(x), torch.tensor(dy), target_logits=torch.tensor(u))


def test_layers():
    x, u = pair()
    layer = softgrad.KLDivergence(direction="reverse", temperature=2.0)
    options = {"target_logits": u, "direction": "reverse", "temperature": 2.0}
    np.testing.assert_array_equal(layer.forward(x, target_logits=u), softgrad.kl_divergence(x, **options))
    for one, right in zip(
        layer.backward(), softgrad.kl_divergence_vjp(x, np.ones(4), **options), strict=True
    ):
        np.testing.assert_array_equal(one, right)
    with pytest.raises(RuntimeError, match=r"JSDivergence\.backward was called before forward"):
        softgrad.JSDivergence().backward()


# --- the entropy of probabilities ----------------------------------------------------------------------


@each_float
def test_the_entropy_of_probabilities(dtype):
    for n in LENGTHS:
        p = divergences.probabilities(divergences.rows(np.float64, n)[0], dtype)
        p[:, 1::4] = 0
        dy = np.linspace(-2, 3, len(p)).astype(dtype)
        found = softgrad.entropy_of_probabilities(p)
        slope = softgrad.entropy_of_probabilities_vjp(p, dy)
        with mpmath.workdps(50):
            for row, value, by_p, given in zip(p, found, slope, dy, strict=True):
                exact = -mpmath.fsum(a * mpmath.log(a) for a in divergences.mp(row) if a)
                assert abs(mpmath.mpf(float(value)) - exact) <= 2 * float(errors.eps(dtype)) * exact
                for a, g in zip(row, by_p, strict=True):
                    log = mpmath.log(mpmath.mpf(float(a))) if a else 0
                    right = -mpmath.mpf(float(given)) * (log + 1) if a else 0
                    unit = float(errors.eps(dtype)) * abs(float(given)) * (abs(log) + 1)
                    assert abs(mpmath.mpf(float(g)) - right) <= 2 * unit


def test_the_entropy_of_no_probability():
    with pytest.raises(ValueError, match=r"p has -1\.0 in it.*give them to entropy if these are logits"):
        softgrad.entropy_of_probabilities([[1.0, -1.0]])
    assert softgrad.entropy_of_probabilities([[1.0, 0.0]], keepdims=True).tolist() == [[0.0]]
    assert np.isnan(softgrad.entropy_of_probabilities([0.5, NAN]))
    where = np.array([True, False])
    assert softgrad.entropy_of_probabilities([0.5, NAN], where=where) == 0.5 * np.log(2)
    assert softgrad.entropy_of_probabilities_vjp([0.5, NAN], 1.0, where=where)[1] == 0
    assert np.isnan(softgrad.entropy_of_probabilities_vjp([0.5, NAN], 1.0)[1])
    _, vjp = softgrad.entropy_of_probabilities_with_vjp(np.array([0.5, 0.5]), axis=0)
    assert vjp(2.0).tolist() == [2 * (np.log(2) - 1)] * 2


# --- the same on machines without kernels, on tensors, and on JAX's arrays ------------------------------


def test_without_kernels(monkeypatch):
    x, u = pair(33)
    x[0, 1], u[0, 1], u[1, 2], x[2] = -INF, -INF, -INF, -INF
    where = np.ones(x.shape, bool)
    where[:, 5] = False

    def results():
        for kind in KINDS:
            for target, t in (("target_logits", u), ("target_probs", softgrad.softmax(u))):
                options = {"where": where, "temperature": 0.5}
                yield value_of(kind, target, **options)(x, t)
                yield from vjp_of(kind, target, **options)(x, t)
        p = softgrad.softmax(x)
        yield softgrad.entropy_of_probabilities(p, where=where)
        yield softgrad.entropy_of_probabilities_vjp(p, np.ones(4), where=where)
        for h in (None, np.ones_like(u)):
            yield softgrad.softmax_vjp_hessian_diagonal(p, np.maximum(u, -9), h)
        for alpha in (1.0, 1.3, 1.5, 2.0):
            loss, vjp = softgrad.entmax_loss_with_vjp(x, [0, 2, 3, 4], alpha, where=where, reduction="none")
            yield from (loss, vjp())

    expected = list(results())
    monkeypatch.setattr(machine, "lacks", lambda dtype: "everything")
    for one, right in zip(results(), expected, strict=True):
        finite = np.isfinite(right)  # of an infinite divergence the gradient is not told
        np.testing.assert_allclose(one[finite], right[finite], rtol=1e-11, atol=1e-13)


@each_kind
@each_target
def test_derivatives_of_tensors(kind, target):
    x, u = (torch.tensor(a[:2, :4], requires_grad=True) for a in pair())
    t = (torch.rand(2, 4, dtype=torch.float64) + 0.1).requires_grad_() if target == "target_probs" else u
    where = torch.tensor([[True, True, False, True], [True] * 4])
    function = value_of(kind, target, st, where=where, temperature=0.7)
    assert gradcheck(function, (x, t))
    assert gradgradcheck(function, (x, t))
    with torch.no_grad():
        right = value_of(kind, target, where=where.numpy(), temperature=0.7)(x.numpy(), t.numpy())
    np.testing.assert_array_equal(function(x, t).detach(), right)
    batched = torch.func.vmap(value_of(kind, target, st, temperature=0.7))(x.detach(), t.detach())
    np.testing.assert_allclose(batched, value_of(kind, target, st, temperature=0.7)(x.detach(), t.detach()))


@each_kind
@each_target
def test_tensors_that_are_hard(kind, target):
    """The gradient of the kernels, and the formulas where PyTorch traces, have no NaN."""
    x, u = (torch.tensor(a) for a in divergences.rows(np.float64, 17))
    t = torch.softmax(u, -1) if target == "target_probs" else u
    right = value_of(kind, target)(x.numpy(), t.numpy())
    by_formulas = torch.func.vmap(value_of(kind, target, st))(x, t)
    np.testing.assert_allclose(by_formulas, right, rtol=1e-6, atol=1e-14)
    leaf, finite = x.clone().requires_grad_(), torch.tensor(np.isfinite(right))
    (dx,) = torch.autograd.grad(value_of(kind, target, st)(leaf, t)[finite].sum(), leaf)
    right_dx = vjp_of(kind, target)(x.numpy(), t.numpy())[0]
    np.testing.assert_allclose(dx[finite], right_dx[finite.numpy()], rtol=1e-14)
    if target == "target_probs":  # the support convention, without and with a graph
        for create in (False, True):
            of_t = t.clone().requires_grad_()
            value = value_of(kind, target, st)(x, of_t)[finite].sum()
            (dt,) = torch.autograd.grad(value, of_t, create_graph=create)
            assert (dt[finite][t[finite] == 0] == 0).all()
    by_formulas = torch.func.grad(lambda x: value_of(kind, target, st)(x, t)[finite].sum())(x)
    np.testing.assert_allclose(by_formulas[finite], right_dx[finite.numpy()], rtol=1e-5, atol=1e-12)


@each_kind
@each_target
def test_jax(kind, target):
    with jax.enable_x64(True):
        x, u = divergences.rows(np.float64, 17)
        t = divergences.probabilities(u, np.float64) if target == "target_probs" else u
        right, (dx, dt) = value_of(kind, target)(x, t), vjp_of(kind, target)(x, t)
        function, finite = value_of(kind, target, sj), np.isfinite(right)
        of_arrays = jnp.asarray(x), jnp.asarray(t)
        np.testing.assert_allclose(jax.jit(function)(*of_arrays), right, rtol=1e-6, atol=1e-14)
        grads = jax.grad(lambda x, t: function(x, t)[finite].sum(), (0, 1))(*of_arrays)
        for one, exact in zip(grads, (dx, dt), strict=True):
            np.testing.assert_allclose(np.asarray(one)[finite], exact[finite], rtol=1e-5, atol=1e-10)
        by_dispatch = vjp_of(kind, target)(*of_arrays)
        for one, exact in zip(by_dispatch, (dx, dt), strict=True):
            np.testing.assert_allclose(np.asarray(one)[finite], exact[finite], rtol=1e-5, atol=1e-10)
        second = jax.hessian(lambda x: function(x, of_arrays[1][0]))(of_arrays[0][0])
        assert np.isfinite(second).all()


def test_the_curvature_of_equal_distributions():
    """∂²KL/∂x² = J(p) and ∂²JS/∂x² = J(p)/4: there, too."""
    x, _ = pair(5, 1)
    jacobian = softgrad.softmax_jacobian(softgrad.softmax(x[0]))
    leaf = torch.tensor(x[0])
    for kind, factor in (("kl", 1), ("reverse kl", 1), ("js", 0.25)):
        function = functools.partial(lambda f, u, x: f(x, u), value_of(kind, "target_logits", st), leaf)
        found = torch.autograd.functional.hessian(function, leaf)
        np.testing.assert_allclose(found, factor * jacobian, atol=1e-14)
        with jax.enable_x64(True):
            u = jnp.asarray(x[0])
            of_kind = functools.partial(value_of, kind, "target_logits", sj)
            found = jax.hessian(lambda x, f=of_kind, u=u: f()(x, u))(u)
            np.testing.assert_allclose(found, factor * jacobian, atol=1e-14)


def test_the_entropy_of_tensors_and_jax():
    p = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(st.entropy_of_probabilities, (p,))
    assert gradgradcheck(st.entropy_of_probabilities, (p,))
    with_0 = torch.tensor([0.5, 0.5, 0.0], requires_grad=True)
    (slope,) = torch.autograd.grad(st.entropy_of_probabilities(with_0), with_0)
    assert slope[2] == 0
    by_vmap = torch.func.vmap(torch.func.grad(st.entropy_of_probabilities))(with_0.detach()[None])[0]
    np.testing.assert_allclose(by_vmap, slope, rtol=1e-6)
    of_jax = jax.grad(sj.entropy_of_probabilities)(jnp.asarray([0.5, 0.5, 0.0]))
    np.testing.assert_allclose(of_jax, slope, rtol=1e-6)
