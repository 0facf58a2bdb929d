"""softgrad.jax: the bits of NumPy's kernels on the CPU, and every transform."""

import concurrent.futures
import functools

import ml_dtypes
import numpy as np
import processes
import pytest
from contract import off_by

import softgrad
from softgrad import testing
from softgrad.specs import MAPS

jax = pytest.importorskip("jax")
from jax.test_util import check_grads  # noqa: E402 (where there is JAX)

jnp = jax.numpy
sj = softgrad.jax
pytestmark = pytest.mark.usefixtures("wide_types")
DTYPES = ["float16", "bfloat16", "float32", "float64"]
EPS = np.finfo(np.float32).eps
each_map = pytest.mark.parametrize("name", MAPS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
# shapes and axes: rows, columns, columns that are made rows, several axes, a number, nothing
WAYS = [
    ((3, 5), -1),
    ((3, 5), 0),
    ((4, 7, 64), 1),
    ((4, 300, 3), 1),
    ((2, 3, 4), (0, 2)),
    ((2, 3), None),
    ((), -1),
    ((0, 3), -1),
    ((3, 0), -1),
]


@pytest.fixture
def wide_types():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def numbers(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def same_bits(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found.astype(float), expected.astype(float))  # NaN are equal then


def close(found, expected, bound=16):
    for one, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        one, right = np.asarray(one), np.asarray(right)
        assert (one.dtype, one.shape) == (right.dtype, right.shape)
        np.testing.assert_array_equal(np.isfinite(one), np.isfinite(right))
        finite = np.isfinite(right)
        one, right = (np.where(finite, a, 0).astype(a.dtype) for a in (one, right))
        assert off_by(one, right, tuple(range(one.ndim))) <= bound


# --- beside NumPy ---------------------------------------------------------------------------------------


@each_map
@each_dtype
def test_the_bits_of_numpy(name, dtype):
    for shape, axis in WAYS:
        x, v = numbers(*shape, dtype=dtype) * np.asarray(4, dtype), numbers(*shape, seed=1, dtype=dtype)
        x = np.asarray(x)
        if x.size > 1:
            x.flat[1] = -np.inf
        for scale in (1.0, 0.7, -2.0, 0.0, 1e-30) if shape == (3, 5) and axis == -1 else (0.7,):
            options = {"axis": axis, "scale": scale}
            forward = getattr(softgrad, name)
            y = np.asarray(forward(x, **options))
            same_bits(forward(jnp.asarray(x), **options), y)
            for kind in ("vjp", "jvp") if name == "log_softmax" else ("vjp",):  # else they are one
                product = getattr(softgrad, f"{name}_{kind}")
                same_bits(product(jnp.asarray(y), v, **options), product(y, v, **options))


@each_dtype
@pytest.mark.parametrize("name", ["logsumexp", "entropy"])
def test_the_bits_of_reductions(name, dtype):
    function, vjp = getattr(softgrad, name), getattr(softgrad, f"{name}_vjp")
    for shape, axis in WAYS:
        x = np.asarray(numbers(*shape, dtype=dtype) * np.asarray(4, dtype))
        for scale in (0.7, -2.0) if shape == (3, 5) and axis == -1 else (1.0,):
            y = np.asarray(function(x, axis=axis, scale=scale))
            same_bits(function(jnp.asarray(x), axis=axis, scale=scale), y)
            dy = numbers(*y.shape, seed=1, dtype=dtype)
            options = {"axis": axis, "scale": scale}
            same_bits(vjp(jnp.asarray(x), dy, **options), vjp(x, dy, **options))


WHERE = numbers(4, 6, seed=9) > -0.5
WHERE[1] = False


@each_map
def test_masks(name):
    dtype = "float32"
    x, v = numbers(4, 6, dtype=dtype), numbers(4, 6, seed=1, dtype=dtype)
    x[~WHERE], v[~WHERE] = np.nan, np.inf
    forward, twice = getattr(softgrad, name), getattr(softgrad, f"{name}_double_backward")
    for axis in (-1, 0, None):
        for empty in ("zero", "nan"):
            options = {"axis": axis, "where": WHERE, "scale": -0.7}
            same_bits(forward(jnp.asarray(x), **options, empty=empty), forward(x, **options, empty=empty))
        y = forward(x, **options)
        for kind in ("vjp", "jvp"):
            product = getattr(softgrad, f"{name}_{kind}")
            same_bits(product(jnp.asarray(y), v, **options), product(y, v, **options))
        by_autodiff = jax.vjp(functools.partial(forward, **options), jnp.asarray(x))[1](jnp.asarray(v))[0]
        same_bits(by_autodiff, getattr(softgrad, f"{name}_vjp")(y, v, **options))
        plain = numbers(4, 6, seed=2, dtype=dtype), numbers(4, 6, seed=3, dtype=dtype)
        y = forward(numbers(4, 6, dtype=dtype), axis=axis)
        close(twice(jnp.asarray(y), *plain, axis=axis), twice(y, *plain, axis=axis))


@pytest.mark.parametrize("scale", [1.0, -0.7, 0.0, 1e-30, "rows"])
def test_sinks_and_scales(scale):
    x, dy, v = (numbers(4, 6, seed=seed) for seed in range(3))
    sink, other = numbers(4, 1, seed=3), numbers(4, 1, seed=4)
    scale = numbers(4, 1, seed=5) if scale == "rows" else scale
    for where in (None, WHERE) if isinstance(scale, np.ndarray) or scale == -0.7 else (WHERE,):
        options = {"where": where, "scale": scale}
        y = softgrad.sink_softmax(x, sink, **options)
        for function, given in (
            (softgrad.sink_softmax, (x, sink)),
            (softgrad.sink_softmax_vjp, (*y, dy, other)),
            (softgrad.sink_softmax_jvp, (*y, dy, other)),
            (softgrad.sink_softmax_double_backward, (*y, dy, other, v, other)),
            (softgrad.softmax, (x,)),
            (softgrad.softmax_vjp, (y[0], dy)),
        ):
            close(function(*map(jnp.asarray, given), **options), function(*given, **options))
    same_bits(sj.softmax(x, sink=sink), sj.sink_softmax(x, sink)[0])
    y = softgrad.softmax(x)
    close(softgrad.softmax_scale_vjp(*map(jnp.asarray, (x, y, dy))), softgrad.softmax_scale_vjp(x, y, dy))
    dx, mean = softgrad.softmax_vjp(y, dy, return_mean=True)
    close(softgrad.softmax_vjp(jnp.asarray(y), dy, return_mean=True), (dx, mean))
    close(softgrad.softmax_vjp(jnp.asarray(y), dy, mean=mean), dx)
    y = softgrad.entmax(x)
    close(softgrad.entmax_alpha_vjp(jnp.asarray(y), dy), softgrad.entmax_alpha_vjp(y, dy), 64)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("by", ["offsets", "ids"])
def test_segments(axis, by):
    x, dy, v = (numbers(4, 6, seed=seed) for seed in range(3))
    n = x.shape[axis]
    cut = {"offsets": [0, 1, 1, n - 1, n]}
    if by == "ids":
        cut = {"segment_ids": np.arange(n) * 5 % 3, "num_segments": 4}
    for where in (None, WHERE):
        options = {"axis": axis, "where": where, "scale": -0.7, **cut}
        for name in ("softmax", "log_softmax"):
            forward = getattr(softgrad, f"segment_{name}")
            y = forward(x, **options)
            same_bits(forward(jnp.asarray(x), **options), y)
            for kind in ("vjp", "jvp"):
                product = getattr(softgrad, f"segment_{name}_{kind}")
                same_bits(product(jnp.asarray(y), dy, **options), product(y, dy, **options))
            if where is None:
                twice, some = getattr(softgrad, f"segment_{name}_double_backward"), dict(options)
                del some["where"]
                close(twice(jnp.asarray(y), dy, v, **some), twice(y, dy, v, **some))
        for name in ("logsumexp", "entropy"):
            function, vjp = getattr(softgrad, f"segment_{name}"), getattr(softgrad, f"segment_{name}_vjp")
            y = function(x, **options)
            same_bits(function(jnp.asarray(x), **options), y)
            d = numbers(*y.shape, seed=4)
            same_bits(vjp(jnp.asarray(x), d, **options), vjp(x, d, **options))
            found = jax.vjp(functools.partial(function, **options), jnp.asarray(x))[1](jnp.asarray(d))[0]
            same_bits(found, vjp(x, d, **options))


@each_dtype
@pytest.mark.parametrize("shape", [(300,), (300, 16), (300, 3), (2, 90, 40), (70, 5, 2)])
def test_the_bits_of_segments(shape, dtype):
    """Short and long ones, rows and columns, sorted and not."""
    axis = 1 if shape[0] == 2 else 0
    x, dy = numbers(*shape, dtype=dtype) * np.asarray(4, dtype), numbers(*shape, seed=1, dtype=dtype)
    x = np.asarray(x)
    x.flat[3] = -np.inf
    n = x.shape[axis]
    jumbled = np.arange(n) * 7 % 13
    jumbled[n // 2 :] = 5
    for ids in (np.sort(jumbled), jumbled):
        options = {"axis": axis, "scale": 0.7, "segment_ids": ids, "num_segments": 14}
        for name in ("softmax", "log_softmax"):
            forward, vjp = (getattr(softgrad, f"segment_{name}{of}") for of in ("", "_vjp"))
            y = forward(x, **options)
            same_bits(forward(jnp.asarray(x), **options), y)
            same_bits(vjp(jnp.asarray(y), dy, **options), vjp(y, dy, **options))
        for name in ("logsumexp", "entropy"):
            function, vjp = (getattr(softgrad, f"segment_{name}{of}") for of in ("", "_vjp"))
            y = function(x, **options)
            same_bits(function(jnp.asarray(x), **options), y)
            dy_of_rows = numbers(*y.shape, seed=2, dtype=dtype)
            same_bits(vjp(jnp.asarray(x), dy_of_rows, **options), vjp(x, dy_of_rows, **options))


def test_traced_segments_read_nothing_but_their_memory():
    """They are not checked; what is out of range is in the nearest segment."""
    by_ids = jax.jit(lambda x, ids: sj.segment_softmax(x, segment_ids=ids, num_segments=2))
    near = softgrad.segment_softmax(X[:, 0], segment_ids=[0, 1, 1])
    for low, high in ((-1, 2), (-(2**40), 2**40)):
        same_bits(by_ids(X[:, 0], np.array([low, 1, high])), near)
    by_offsets = jax.jit(lambda x, offsets: sj.segment_softmax(x, offsets))
    same_bits(by_offsets(X[:, 0], np.array([1, 1, 2])), near)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64"])
def test_traced_segments_of_any_dtype(dtype):
    ids, x = np.array([0, 0, 1, 1], dtype), X[0, :4]
    traced = jax.jit(lambda ids: sj.segment_softmax(x, segment_ids=ids, num_segments=40000))
    same_bits(traced(ids), softgrad.segment_softmax(x, segment_ids=ids))


def test_traced_segments_are_checked_but_for_their_values():
    x = X[:, 0]
    for ids, segments, error, text in [
        (np.int32(1), 3, ValueError, r"segment_ids has shape \(\)"),
        (np.zeros(2, int), 3, ValueError, "segment_ids has shape"),
        (np.zeros((3, 1), int), 3, ValueError, "segment_ids has shape"),
        (np.zeros(3), 3, TypeError, "segment_ids has dtype"),
        (np.zeros(3, bool), 3, TypeError, "segment_ids has dtype"),
        (np.zeros(3, int), -1, ValueError, "num_segments=-1"),
        (np.zeros(3, int), 0, ValueError, "segment_ids go from 0 to 0"),
    ]:
        with pytest.raises(error, match=text):
            jax.jit(lambda ids, n=segments: sj.segment_softmax(x, segment_ids=ids, num_segments=n))(ids)
    for offsets, error, text in [
        (np.zeros(0, int), ValueError, "offsets has shape"),
        (np.zeros(1, int), ValueError, "offsets go from 0 to 0"),
        (np.zeros((2, 2), int), ValueError, "offsets has shape"),
        (np.int32(1), ValueError, "offsets has shape"),
        (np.zeros(2), TypeError, "offsets has dtype"),
    ]:
        with pytest.raises(error, match=text):
            jax.jit(lambda offsets: sj.segment_softmax(x, offsets))(offsets)
    with pytest.raises(TypeError, match="target has dtype bool"):
        jax.jit(lambda target: sj.cross_entropy(X, target))(np.zeros(3, bool))


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0, 3.0])
def test_a_learnt_alpha(alpha):
    y, where = softgrad.entmax(X, alpha), np.arange(5) != 2
    learnt = jnp.asarray(alpha)
    close(sj.entmax(X, learnt), y, 64)
    close(
        sj.entmax(X, learnt, where=where, scale=-0.7), softgrad.entmax(X, alpha, where=where, scale=-0.7), 64
    )
    same_bits(softgrad.entmax(jnp.asarray(X), learnt), y)
    found = jax.jit(jax.grad(lambda alpha: (sj.entmax(X, alpha) * V).sum()))(learnt)
    close(found, softgrad.entmax_alpha_vjp(y, V, alpha).sum(), 256)
    check_grads(sj.entmax, (X, learnt), order=2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(reduction, smoothing):
    x = numbers(4, 6)
    for target, ignored in ((np.array([0, 5, 2, 2]), None), (np.array([1, -1, 2, 3]), -1), (x * x, None)):
        options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignored}
        loss, pullback = softgrad.cross_entropy_with_vjp(x, target, **options)
        found, of_jax = softgrad.cross_entropy_with_vjp(jnp.asarray(x), target, **options)
        close(found, np.asarray(loss))
        dloss = np.full(np.shape(loss), 1.7)
        close(of_jax(dloss), pullback(dloss))
        close(softgrad.cross_entropy(jnp.asarray(x), target, **options), np.asarray(loss))
        if target.ndim == 1:
            jitted = jax.jit(functools.partial(sj.cross_entropy, **options))
            close(jitted(x, target), np.asarray(loss))


def test_cross_entropy_where_digits_are_lost():
    """Small losses and their gradients; a target that is learnt; what is not finite."""
    x = np.array([[40.0, 0, 0, 1], [20, 2, 3, 4], [3, 3, 1, -np.inf]], np.float32)
    target = np.array([0, 0, 1])
    due, pullback = softgrad.cross_entropy_with_vjp(x, target, reduction="none")
    loss, vjp = jax.vjp(lambda x: sj.cross_entropy(x, target, reduction="none"), x)
    close(loss, due)
    close(vjp(jnp.ones(3, jnp.float32))[0], pullback(np.ones(3, np.float32)))
    weights = np.array([1.0, 0, 0], np.float32)
    by_target = jax.grad(lambda t: sj.cross_entropy(np.array([3, 1, 0], np.float32), t))(weights)
    close(by_target, -softgrad.log_softmax(np.array([3, 1, 0], np.float32)))
    for row in ([np.inf, 0, 1], [np.nan, 0, 1]):
        for smoothing in (0.0, 0.1):
            loss = sj.cross_entropy(np.array(row, np.float32), np.array(0), label_smoothing=smoothing)
            assert np.isnan(loss)


# --- transforms -----------------------------------------------------------------------------------------

X, V = numbers(3, 5), numbers(3, 5, seed=1)


def energy(function):
    return lambda x: jnp.sum(jnp.sin(function(x) * 3))


def steps(function):
    return lambda x: jax.lax.scan(lambda c, _: (function(c) * 2, None), x, None, length=3)[0]


TRANSFORMS = {
    "jit": lambda f: jax.jit(f)(X),
    "vmap": lambda f: jax.vmap(f)(X),
    "vmap of columns": lambda f: jax.vmap(jax.vmap(f, in_axes=1, out_axes=1))(np.stack([X, V])),
    "vmap in the last place": lambda f: jax.vmap(f, in_axes=-1)(np.stack([X, V], -1)),
    "vmap of one": lambda f: jax.vmap(lambda a, b: f(a) + b, in_axes=(None, 0))(X, X),
    "grad": lambda f: jax.grad(energy(f))(X),
    "vmap of grad": lambda f: jax.vmap(jax.grad(energy(f)))(X),
    "jvp": lambda f: jax.jvp(f, (X,), (V,)),
    "linearize": lambda f: jax.linearize(f, X)[1](V),
    "jacfwd": lambda f: jax.jacfwd(f)(X),
    "jacrev": lambda f: jax.jacrev(f)(X),
    "hessian": lambda f: jax.hessian(energy(f))(X),
    "jit of hessian": lambda f: jax.jit(jax.hessian(energy(f)))(X),
    "grad of grad": lambda f: jax.grad(lambda x: jnp.sum(jax.grad(energy(f))(x) ** 2))(X),
    "jacrev of jacfwd": lambda f: jax.jacrev(jax.jacfwd(energy(f)))(X),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(energy(f)))(X),
    "scan": lambda f: jax.grad(energy(steps(f)))(X),
    "donation": lambda f: jax.jit(f, donate_argnums=0)(jnp.asarray(X) + 0),
    "a mask": lambda f: jax.grad(energy(lambda x: jnp.exp(f(x, where=X > -0.5))))(X),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_transforms(name, function):
    transform = TRANSFORMS[name]
    close(transform(getattr(sj, function)), transform(getattr(jax.nn, function)), 64)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "entmax"])
def test_y_alone_is_kept(name):
    y, pullback = jax.vjp(getattr(sj, name), jnp.asarray(X))
    kept = [leaf for leaf in jax.tree.leaves(pullback) if getattr(leaf, "size", 0) > 1]
    assert len(kept) == 1
    same_bits(kept[0], y)


def test_debug_nans():
    with jax.debug_nans(True):
        jax.jit(sj.softmax)(X)
        with pytest.raises(FloatingPointError):
            jax.jit(sj.softmax)(np.full(3, np.nan))


@pytest.mark.parametrize(
    ("name", "order"),
    [("softmax", 3), ("log_softmax", 3), ("logsumexp", 3), ("entropy", 3), ("sparsemax", 2), ("entmax", 2)],
)
def test_gradients(name, order):
    function = functools.partial(getattr(sj, name), axis=-1, scale=0.7)
    check_grads(function, (jnp.asarray(X),), order=order, modes=("fwd", "rev"))


@pytest.mark.parametrize("cut", [(), ([0, 3],)])
def test_second_derivatives_of_saturated_rows(cut):
    """Reverse over reverse: p·Σu would take 1 − p off."""
    name = "segment_log_softmax" if cut else "log_softmax"
    forward, twice = getattr(softgrad, name), getattr(softgrad, f"{name}_double_backward")
    dy, v = np.array([1, 2, 3], np.float32), np.array([3, -1, 2], np.float32)
    for x in ([20.0, 0, 0], [30.0, 0, 1]):
        x = np.array(x, np.float32)
        y = forward(x, *cut)
        due = twice(y, dy, v, *cut)
        for found, right in zip(twice(jnp.asarray(y), dy, v, *cut), due, strict=True):
            np.testing.assert_allclose(
                found, right, rtol=16 * EPS
            )  # each element: that of the winner is small
        loss = lambda x: jax.vjp(lambda x: forward(x, *cut), x)[1](jnp.asarray(dy))[0] @ v  # noqa: E731
        np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(x)), due[0], rtol=16 * EPS)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy"])
def test_gradients_of_segments(name):
    function = functools.partial(getattr(softgrad, f"segment_{name}"), offsets=[0, 2, 3], scale=0.7)
    check_grads(function, (jnp.asarray(X),), order=2, modes=("fwd", "rev"))
    batch = np.stack([X, V])
    close(jax.vmap(function)(batch), np.stack([function(X), function(V)]))
    ids = np.array([[0, 1, 1], [1, 0, 1]])
    forward = functools.partial(getattr(softgrad, f"segment_{name}"), num_segments=2)
    found = jax.vmap(lambda x, ids: forward(x, segment_ids=ids))(batch, ids)
    close(found, np.stack([forward(x, segment_ids=one) for x, one in zip(batch, ids, strict=True)]))


def test_gradients_of_a_sink_and_of_a_scale():
    check_grads(lambda x, s: sj.sink_softmax(x, s, scale=0.7), (X, V[:, :1]), order=1)
    check_grads(lambda x, s: sj.softmax(x, scale=s), (X, V[:, :1] + 2), order=1)


# --- the contract, by softgrad.testing --------------------------------------------------------------------


def on_arrays(function):
    def call(*arrays, axis=-1):
        found = function(*map(jnp.asarray, arrays), axis=axis)
        return tuple(map(np.asarray, found)) if isinstance(found, tuple) else np.asarray(found)

    return call


CHECKS = {
    "": testing.check_forward,
    "_vjp": testing.check_vjp,
    "_jvp": testing.check_jvp,
}


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("what", CHECKS)
def test_contract(what, name):
    function = on_arrays(getattr(softgrad, name + what))
    CHECKS[what](function, map=name, dtypes=["float32"], axis=(-1, 0), max_n=33)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_contract_of_the_formulas(name):
    """What runs on other devices."""
    from softgrad.jax import formulas

    row, last = MAPS[name], formulas.Sums(-1)
    forward = jax.jit(lambda x: formulas.forward(row, x, last, 1.0, "zero"))
    testing.check_forward(lambda x: np.asarray(forward(x)), map=name, dtypes=["float32"], max_n=17)
    vjp = jax.jit(lambda y, dy: formulas.product(row, "vjp", y, dy, last, 1.0))
    testing.check_vjp(lambda y, dy: np.asarray(vjp(y, dy)), map=name, dtypes=["float32"], max_n=17)


# --- arguments, errors, and what holds it together ----------------------------------------------------------


def test_an_offset_costs_the_formulas_no_digits():
    """Each mean is taken off more than once: one alone is rounded like the offset."""
    from softgrad.jax import formulas

    y, dy = softgrad.softmax(numbers(20, 33)).astype(np.float32), numbers(20, 33, seed=1)
    offset = (dy + 1e4).astype(np.float32)
    found = formulas.product(MAPS["softmax"], "vjp", jnp.asarray(y), offset, formulas.Sums(-1), 1.0)
    expected = softgrad.softmax_vjp(y.astype(float), offset.astype(float)).astype(np.float32)
    assert off_by(np.asarray(found), expected) <= 8


def test_what_is_given_and_taken():
    x = jnp.asarray(X)
    assert sj.softmax(jnp.arange(3)).dtype == jnp.float64
    assert sj.softmax([1.0, 2.0]).shape == (2,)
    assert sj.softmax(x.astype(jnp.bfloat16)).dtype == ml_dtypes.bfloat16
    assert sj.logsumexp(x).shape == ()
    assert sj.logsumexp(x, -1, keepdims=True).shape == (3, 1)
    same_bits(sj.softmax(x, 0), softgrad.softmax(x, axis=0))
    for call, error, text in [
        (
            lambda: softgrad.softmax(x, out=np.empty(3)),
            TypeError,
            "out= is for arrays that can be written to",
        ),
        (lambda: sj.softmax(x > 0), TypeError, "x has dtype bool"),
        (lambda: sj.softmax(x * 1j), TypeError, "x has dtype complex128"),
        (lambda: sj.softmax(x, 2), np.exceptions.AxisError, "axis 2 is out of bounds"),
        (lambda: sj.softmax(x, where=x), TypeError, "where has dtype float64"),
        (lambda: sj.softmax(x, where=x[:2] > 0), ValueError, "where has shape"),
        (lambda: sj.softmax(x, scale=np.inf), ValueError, "scale"),
        (lambda: sj.softmax(x, scale=jnp.ones((1, 2, 3, 5))), ValueError, "scale has shape"),
        (lambda: sj.softmax(x, scale=jnp.ones(7)), ValueError, "scale has shape"),
        (lambda: sj.softmax_vjp(x, x, scale=jnp.ones((2, 3, 1))), ValueError, "scale has shape"),
        (lambda: sj.softmax(jax.random.key(0)), TypeError, "x has dtype key"),
        (lambda: sj.softmax_vjp(x, x[:2]), ValueError, "they must be the same"),
        (lambda: sj.entmax(x, 0.5), ValueError, "alpha"),
        (lambda: sj.entmax(x, jnp.ones(2)), TypeError, "alpha has shape"),
        (lambda: jax.jit(lambda a: softgrad.entmax(x, a))(1.5), TypeError, "alpha is traced"),
        (lambda: softgrad.softmax_vjp(X, x), TypeError, "jax.numpy.asarray of that one"),
        (lambda: sj.softmax(jnp.full(3, -jnp.inf), empty="raise"), ValueError, "empty='raise'"),
        (lambda: jax.jit(lambda x: sj.softmax(x, empty="raise"))(x), ValueError, "jax.jit"),
        (lambda: sj.segment_softmax(x, jnp.array([0, 2])), ValueError, "offsets go from 0 to 2"),
        (lambda: sj.cross_entropy(x, jnp.array([0, 1, 5])), ValueError, "target"),
    ]:
        with pytest.raises(error, match=text):
            call()
    with pytest.raises(TypeError, match="num_segments"):
        jax.jit(lambda ids: sj.segment_softmax(x, segment_ids=ids))(jnp.array([0, 0, 1]))


def test_arrays_of_numpy_are_checked_under_jit_too():
    x, ids = numbers(4), np.array([0, 1, 0, 1])
    close(
        jax.jit(lambda x: sj.segment_softmax(x, segment_ids=ids))(x),
        softgrad.segment_softmax(x, segment_ids=ids),
    )
    for call, error in [
        (lambda x: sj.segment_softmax(x, np.array([0, 3, 2, 4])), "ascend"),
        (lambda x: sj.segment_softmax(x, [0, 1]), "offsets go from 0 to 1"),
        (lambda x: sj.cross_entropy(x, np.array(9)), "target"),
    ]:
        with pytest.raises(ValueError, match=error):
            jax.jit(call)(x)
    with pytest.raises(ValueError, match="target"):
        sj.cross_entropy(np.zeros((2, 3)), np.array([1, 2**32]))
    for target, ignored in ((np.array([1, 2], np.uint8), 257), (np.array([1, 2]), 2**40)):
        options = {"ignore_index": ignored, "reduction": "none"}
        x = numbers(2, 3)
        close(
            sj.cross_entropy(x, jnp.asarray(target), **options), softgrad.cross_entropy(x, target, **options)
        )


def test_cross_entropy_of_nothing():
    assert np.isnan(sj.cross_entropy(np.zeros((2, 3)), np.array([-1, -1]), ignore_index=-1))
    assert np.isnan(sj.cross_entropy(np.zeros((0, 3)), np.zeros(0, int)))
    assert np.isnan(sj.cross_entropy(np.full((1, 3), -np.inf), np.array([0])))
    with jax.numpy_rank_promotion("raise"):
        sj.cross_entropy(np.ones((2, 3)), np.array([0, 1]))


def test_without_jit():
    with jax.disable_jit():
        same_bits(sj.softmax(X), softgrad.softmax(X))
        close(jax.grad(energy(sj.softmax))(X), jax.grad(energy(jax.nn.softmax))(X))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "entmax"])
def test_an_array_of_scales_leaves_the_dtype(name):
    x = jnp.ones((2, 3), jnp.float16)
    assert getattr(sj, name)(x, scale=jnp.float32(2)).dtype == jnp.float16
    assert not getattr(sj, name)(jnp.full((3,), 1.0)).weak_type
    assert np.isfinite(getattr(sj, name)(np.array([3e38, -3e38, 0], np.float32), scale=jnp.float32(1e-38))[0])


def test_infinities():
    assert softgrad.segment_logsumexp(jnp.array([jnp.inf, 1.0]), [0, 2]) == jnp.inf
    assert sj.logsumexp(jnp.array([jnp.inf, 1.0])) == jnp.inf
    y, y_sink = sj.sink_softmax(np.array([1e-9, 0.0], np.float32), np.float32(3e38), scale=2.0**-10)
    assert y.tolist() == [0, 0]
    assert y_sink.tolist() == [1]


def test_the_formulas_at_the_ends():
    """What runs on other devices."""
    from softgrad.jax import formulas

    last, x = formulas.Sums(-1), jnp.array([3e38, -3e38, 0.0], jnp.float32)
    np.testing.assert_allclose(
        formulas.forward(MAPS["softmax"], x, last, 0.0, "zero"), [1 / 3] * 3, rtol=1e-6
    )
    assert formulas.reduction(False, jnp.array([jnp.inf, 1.0]), last, 1.0)[0] == jnp.inf


def test_the_record():
    (step,) = softgrad.explain(sj.softmax, X)
    assert (step.by, step.kernel) == ("numba", "softmax")
    (step,) = softgrad.explain(sj.segment_softmax, X, [0, 3])
    assert (step.by, step.kernel) == ("numba", "segment_softmax")


def test_a_machine_without_the_instructions(monkeypatch):
    from softgrad.jax import lowering

    monkeypatch.setattr(lowering, "has_kernels", lambda x: False)
    x = numbers(3, 77)  # a shape of its own, which nothing was compiled for
    close(sj.softmax(x), softgrad.softmax(x))
    close(sj.logsumexp(x, -1), softgrad.logsumexp(x))


def test_an_executable_of_another_version_is_an_error():
    from softgrad.cpu import xla

    softmax = jax.jit(lambda x: sj.softmax(x * 3))
    softmax(X)
    xla.TABLES[0] += 1
    try:
        with pytest.raises((ValueError, RuntimeError), match="compiled by another version"):
            jax.block_until_ready(softmax(X))
    finally:
        xla.TABLES[0] -= 1
    same_bits(softmax(X), softgrad.softmax(X * 3))


def test_no_memory_is_an_error():
    """The kernel of entropy keeps the powers of a row."""
    processes.run(
        """
import resource
import jax, jax.numpy as jnp
import pytest
import softgrad.jax as sj

entropy = jax.jit(sj.entropy)
entropy(jnp.zeros(1 << 10, jnp.float16))
x = jnp.zeros(1 << 26, jnp.float16)
compiled = entropy.lower(x).compile()
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + (1 << 28), -1))
with pytest.raises(jax.errors.JaxRuntimeError, match="there is no memory"):
    compiled(x).block_until_ready()
assert entropy(jnp.zeros(1 << 10, jnp.float16)) > 6.9
"""
    )


def test_threads():
    arrays = [numbers(100, 64, seed=seed) for seed in range(8)]
    softmax = jax.jit(sj.softmax)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found, x in zip(pool.map(softmax, arrays * 5), arrays * 5, strict=True):
            same_bits(found, softgrad.softmax(x))


def test_the_cache_of_jax_on_disk(tmp_path):
    """The second process takes the executable of the first, and its own kernels."""
    code = """
    import logging, sys
    import jax, numpy as np
    import softgrad, softgrad.jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_explain_cache_misses", True)
    x = np.linspace(-3, 3, 700, dtype=np.float32).reshape(7, 100)
    if sys.argv[1] == "2":  # other kernels first, so that nothing lies where it lay
        softgrad.jax.entmax(x.astype(np.float16))
    found = jax.jit(lambda x: softgrad.jax.softmax(x + 1))(x)
    assert (np.asarray(found) == softgrad.softmax(x + np.float32(1))).all()
    """
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    processes.run(code, 1, **environment)
    assert list(tmp_path.iterdir())
    processes.run(code, 2, **environment)


def test_importing_softgrad_does_not_import_jax():
    processes.run(
        "import sys, softgrad; assert 'jax' not in sys.modules; softgrad.jax; assert 'jax' in sys.modules"
    )
