"""sparsemax and entmax: against exact solutions, their derivatives, and the gradient for alpha."""

import functools

import entmax_oracle
import numpy as np
import pytest

import softgrad
from softgrad import (
    Entmax,
    entmax,
    entmax_alpha_vjp,
    entmax_double_backward,
    entmax_jvp,
    entmax_vjp,
    entmax_with_vjp,
    formulas,
    sparsemax,
    sparsemax_vjp,
)
from softgrad.testing import cases, errors, oracle, search

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
last_and_first = pytest.mark.parametrize("axis", [-1, 0])


def assert_solved(y, exact):
    """Within 4 eps in each row, which sums to 1 within 4 eps, and with the support of the exact solution.

    What the dtype does not hold may be 0, and may be missing from the sum.  In or out of the support is
    anything that is less than the eps of float64.
    """
    smallest = oracle.WIDE(float(errors.info(y.dtype).smallest_subnormal))
    error = errors.row_error(y, exact)
    assert error.max() <= 4, (int(np.argmax(error)), error.max())
    total = np.abs(y.astype(oracle.WIDE).sum(axis=-1) - 1)
    assert (total <= 4 * errors.eps(y.dtype) + y.shape[-1] * smallest / 2).all()
    other = ((y > 0) != (exact > 0)) & (exact >= smallest if y.dtype != FLOAT64 else True)
    assert (np.maximum(y.astype(oracle.WIDE), exact)[other] < errors.eps(FLOAT64)).all()


# --- the forward -------------------------------------------------------------------------------------


def edge(n):
    """All but the first exactly at the threshold of sparsemax."""
    x = np.full(n, -1.0)
    x[0] = 0
    return x


# name: a row of n logits
ROWS = {
    "plain": lambda n: cases.numbers(n, "x"),
    "all survive": lambda n: cases.numbers(n, "x") / (4 * n),
    "equal": lambda n: np.full(n, 3.0),
    "spread 1e-8": lambda n: cases.numbers(n, "x") * 1e-8,
    "spread 1e4": lambda n: cases.numbers(n, "x") * 1e4,
    "offset 1e3": lambda n: cases.numbers(n, "x") + 1000,
    "one survivor": lambda n: np.where(np.arange(n) == n // 2, 50.0, cases.numbers(n, "x")),
    "ties": lambda n: np.round(2 * cases.numbers(n, "x")) / 2,
    "at the threshold": edge,
    "just inside": lambda n: edge(n) * (1 - 2.0**-20),
    "just outside": lambda n: edge(n) * (1 + 2.0**-20),
    "two of a kind": lambda n: -np.minimum(np.arange(n) // 2, 9) / 4,
    "with nothing in it": lambda n: np.where(np.arange(n) % 3 == 1, -np.inf, cases.numbers(n, "x")),
    "falling by halves": lambda n: -1 + 2.0 ** -np.minimum(np.arange(n), 60),
}
ALPHAS = [1.0001, 1.25, 1.5, 1.75, 2, 2.5, 4, 40.0]


@functools.cache
def hard(n, alpha, dtype):
    """The rows, and the exact solution."""
    x = np.stack([row(n) for row in ROWS.values()]).astype(dtype)
    return cases.read_only(x), cases.read_only(entmax_oracle.entmax(x, alpha))


@last_and_first
@pytest.mark.parametrize("alpha", ALPHAS)
@each_dtype
def test_hard_rows(dtype, alpha, axis):
    for n in (1, 2, 3, 17, 33, 70) if alpha in (1.5, 2) else (1, 2, 20, 37):
        x, exact = hard(n, alpha, dtype)
        y = cases.along(lambda x, axis: entmax(x, alpha, axis=axis), axis, x)
        assert y.dtype == dtype
        assert_solved(y, exact)


@last_and_first
@pytest.mark.parametrize("n", [1000, 4100])
@pytest.mark.parametrize("alpha", [1.5, 2])
@each_dtype
def test_long_rows(dtype, alpha, n, axis):
    names = ["plain", "spread 1e-8", "ties", "just inside", "offset 1e3"] if n == 1000 else ["plain", "ties"]
    x = np.stack([ROWS[name](n) for name in names]).astype(dtype)
    y = cases.along(lambda x, axis: entmax(x, alpha, axis=axis), axis, x)
    assert_solved(y, entmax_oracle.entmax(x, alpha))


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_more_candidates_than_are_kept(dtype):
    """All survive: y = x − (Σx − 1)/n, and the sum of whole numbers is exact."""
    n = 300_000
    x = (np.round(cases.numbers(n, "x") * 100) * 2.0**-40).astype(dtype)
    exact = x.astype(oracle.WIDE) - (x.astype(oracle.WIDE).sum() - 1) / n
    for rows in (x[None], np.stack([x, np.roll(x, 1)] * 17, axis=1)[: 3 * 4097]):
        if rows.shape[0] > 1:
            x, exact = rows[:, 0], rows[:, 0].astype(oracle.WIDE)
            exact = exact - (exact.sum() - 1) / len(exact)
            y = sparsemax(rows, axis=0)[:, 0]
        else:
            y = sparsemax(rows)[0]
        assert_solved(y[None], exact[None])


@pytest.mark.parametrize("scale", [0.0, -1.0, 1 / np.sqrt(96), -3.7, 2.0**-60, 1e-30, 1e30, 3e38])
@pytest.mark.parametrize("alpha", [1.25, 1.5, 2, 3])
@each_dtype
def test_scale_is_exact(dtype, alpha, scale):
    """As if scale·x had been given without rounding it."""
    x = np.stack([ROWS[name](19) for name in ("plain", "ties", "offset 1e3", "spread 1e-8")]).astype(dtype)
    assert_solved(entmax(x, alpha, scale=scale), entmax_oracle.entmax(x, alpha, scale=scale))


def test_logits_of_any_size():
    np.testing.assert_array_equal(sparsemax([1e308, -1e308]), [1, 0])
    np.testing.assert_array_equal(
        entmax([[1e308, 1e308, -1e308], [-1e308] * 3]), [[0.5, 0.5, 0], [1 / 3] * 3]
    )
    np.testing.assert_array_equal(sparsemax([1e308, -1e308], scale=1e-308), [1, 0])
    np.testing.assert_array_equal(sparsemax([0.25, -0.25], scale=1e-308), [0.5, 0.5])
    x = np.array([[0.0, 5e-324]])
    assert_solved(entmax(x, 3, scale=1e308), entmax_oracle.entmax(x, 3, scale=1e308))
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(entmax(np.array([largest, -largest], np.float32)), np.float32([1, 0]))


@pytest.mark.parametrize("alpha", [1 + 2.0**-52, 1 + 1e-9])
@each_dtype
def test_near_softmax(dtype, alpha):
    """It differs from softmax by some (α−1)·(log y)²."""
    x = np.stack([ROWS[name](33) for name in ("plain", "ties", "offset 1e3", "all survive")]).astype(dtype)
    y, exact = entmax(x, alpha), oracle.softmax(x)
    size = np.log(exact).min(axis=-1) ** 2
    assert (errors.row_error(y, exact) <= 4 + (alpha - 1) * size / errors.eps(dtype)).all()


@pytest.mark.parametrize("alpha", [100.0, 1e10, 1e300])
def test_a_large_alpha_picks_the_maximum(alpha):
    x = np.array([[1.0, 1.0, 0.5], [0.0, 2.0, 1.0]])
    np.testing.assert_array_equal(entmax(x, alpha), [[0.5, 0.5, 0], [0, 1, 0]])


@each_dtype
def test_a_whole_alpha_of_1_is_softmax_and_of_2_is_sparsemax(dtype):
    x, dy = cases.logits(37, dtype), cases.gradients(37, dtype)
    where = x > 0
    for alpha, name in ((1, "softmax"), (1.0, "softmax"), (2, "sparsemax"), (np.float32(2), "sparsemax")):
        f = {e: getattr(softgrad, name + e) for e in ("", "_vjp", "_jvp", "_double_backward", "_with_vjp")}
        options = {"axis": 0, "where": where, "scale": 0.5}
        y = f[""](x, **options)
        np.testing.assert_array_equal(entmax(x, alpha, **options), y)
        dx = f["_vjp"](y, dy, **options)
        np.testing.assert_array_equal(entmax_vjp(y, dy, alpha, **options), dx)
        np.testing.assert_array_equal(entmax_jvp(y, dy, alpha, **options), dx)
        np.testing.assert_array_equal(entmax_with_vjp(x, alpha, **options)[1](dy), dx)
        for one, other in zip(
            entmax_double_backward(y, dy, y, alpha), f["_double_backward"](y, dy, y), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        layer = Entmax(alpha, 0, where=where, scale=0.5)
        np.testing.assert_array_equal(layer.forward(x), y)
        np.testing.assert_array_equal(layer.backward(dy), dx)


# Wrong maps, which `assert_solved` must reject.
WRONG = {
    "not 1": lambda x: entmax(x) * 1.0001,
    "softmax": softgrad.softmax,
    "sparsemax": sparsemax,
    "another alpha": lambda x: entmax(x, 1.50001),
    "without the last": lambda x: np.append(entmax(x[:, :-1]), np.zeros((len(x), 1)), axis=1),
    "what is faint cut off": lambda x: np.where(entmax(x) > 1e-4, entmax(x), 0),
    "support too large": lambda x: np.maximum(entmax(x), 1e-15),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_one_is_rejected(wrong):
    x = cases.numbers(33 * 16, "x").reshape(16, 33)
    x[:, -1] = 2
    exact = entmax_oracle.entmax(x)
    assert_solved(entmax(x), exact)
    with pytest.raises(AssertionError):
        assert_solved(WRONG[wrong](x), exact)


# --- the products with the Jacobian ------------------------------------------------------------------


def assert_product(dx, y, dy, alpha=1.5, scale=1.0):
    """Within the contract, which is that of softmax with the weights for y; 0 outside of the support."""
    assert_products([dx], y, dy, alpha, scale)


def assert_products(found, y, dy, alpha, scale=1.0):
    """What several ways give for the same rows."""
    exact, weights = entmax_oracle.vjp(y, dy, alpha, scale=scale), entmax_oracle.wide_weights(y, alpha)
    for dx in found:
        miss = errors.product_miss(dx, weights, exact, scale=scale, dtype=y.dtype)
        assert miss.max() <= 1, (int(np.argmax(miss)), miss.max())
        assert (dx[y == 0] == 0).all()


def along_both(y, dy, alpha):
    return [cases.along(functools.partial(entmax_vjp, alpha=alpha), axis, y, dy) for axis in (-1, 0)]


@pytest.mark.parametrize("alpha", [1.25, 2.5])
@each_dtype
def test_vjp_contract(dtype, alpha):
    """For each kind of gradient, as rows and columns.  (Of 1.5 and 2 test_maps.py has it.)"""
    for n in (1, 2, 3, 17, 33, 100):
        x, dy = cases.logits(n, dtype), cases.gradients(n, dtype)
        y = entmax(x / dtype.type(4), alpha)
        assert_products(along_both(y, dy, alpha), y, dy, alpha)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_roots_that_are_rounded_the_same_way(dtype, axis):
    """Two values of y, whose roots are rounded up and down: what that does to the mean adds up."""
    n = 2000
    values = np.linspace(0.5, 2, 4001).astype(dtype) / dtype.type(n * n)
    off = (np.sqrt(values).astype(oracle.WIDE) - np.sqrt(values.astype(oracle.WIDE))) / np.sqrt(values)
    low, high = values[np.argmin(off)], values[np.argmax(off)]
    y = np.resize(np.array([low, high], dtype), (1, n))
    y[0, 0] = 1
    dy = np.resize(np.array([-1, 1], dtype), (1, n))
    dy[0, 0] = 0
    assert_product(cases.along(lambda y, dy, axis: entmax_vjp(y, dy, axis=axis), axis, y, dy), y, dy)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("alpha", [1.5, 2])
def test_gradients_that_cancel_in_long_rows(alpha, dtype):
    """Offsets, a constant on the support, and an outlier, where the support alone is computed."""
    n = 2500
    y = entmax(cases.numbers(3 * n, "x").reshape(3, n).astype(dtype), alpha)
    dy = cases.numbers(3 * n, "dy").reshape(3, n) + np.array([[1e6], [-3], [0]])
    dy[1, y[1] > 0] = 0.1
    dy[2, y[2].argmax()] = 1e8
    dy = dy.astype(dtype)
    dx = entmax_vjp(y, dy, alpha)
    assert_product(dx, y, dy, alpha)
    assert (dx[1] == 0).all()


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("alpha", [1.25, 1.5, 2])
def test_rows_that_are_hard_for_softmax(alpha, dtype):
    """Ties, tiny losers, outliers and offsets, as the search of test_search.py draws them."""
    rng = np.random.default_rng(7)
    for n in (2, 5, 17, 65, 257, 600, 1300):
        drawn = [search.draw(rng, n, dtype)[1:] for _ in range(40)]
        y, dy = (np.stack(rows) for rows in zip(*[row for row in drawn if search.usable(*row)], strict=True))
        assert_products(along_both(y, dy, alpha), y, dy, alpha)


@pytest.mark.parametrize("n", [1000, 4100, 300_000])
@pytest.mark.parametrize("alpha", [1.5, 2])
def test_vjp_of_long_rows(alpha, n):
    x, dy = (cases.numbers(n, key).reshape(1, n).astype(np.float32) for key in ("x", "dy"))
    for scale in (1.0, 1e-3):
        y = entmax(x, alpha, scale=scale)
        assert_product(entmax_vjp(y, dy, alpha), y, dy, alpha)


@pytest.mark.parametrize("scale", [0.0, -0.3, 1e30])
@each_dtype
def test_vjp_with_a_scale(dtype, scale):
    x, dy = (np.float64(cases.numbers(90, key).reshape(3, 30)).astype(dtype) for key in ("x", "dy"))
    y = entmax(x)
    if abs(scale) > 1 and dtype == np.float16:
        dy = dy * dtype.type(0)
    assert_product(entmax_vjp(y, dy, scale=scale), y, dy, scale=scale)


@pytest.mark.parametrize("alpha", [1.5, 1.9, 2, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_in_dy_propagate_also_where_y_is_0(alpha, bad):
    y, dy = np.zeros((20, 50), np.float32), np.ones((20, 50), np.float32)
    y[:, 0] = y[:, 1] = 0.5
    dy[::2, 2] = bad
    dx = entmax_vjp(y, dy, alpha)
    assert np.isnan(dx[::2, :2]).all()
    np.testing.assert_array_equal(dx[1::2], 0)
    where = np.arange(50) != 2
    np.testing.assert_array_equal(entmax_vjp(y, dy, alpha, where=where), np.zeros_like(dx))


def test_beyond_2_the_smallest_weighs_most():
    """y^(2−α) may be more than any number: its own derivative is then the sum of the others'."""
    y = np.array([[0.5, 0.5, 1e-30]])
    dx = entmax_vjp(y, np.array([[1.0, 2.0, 0.0]]), 40.0)
    others = 0.5**-38 * np.array([1.0, 2.0])
    np.testing.assert_allclose(dx[0, :2], others, rtol=1e-15)
    np.testing.assert_allclose(dx[0, 2], -others.sum(), rtol=1e-15)


@pytest.mark.parametrize("alpha", [1.5, 1.3])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_double_backward_against_the_formula(dtype, alpha):
    """grad_x = w∘(p − ⟨w,p⟩/Σw), p = w′∘(v − n)∘(dy − m), in longdouble."""
    x, dy, v = (cases.numbers(16 * 33, key).reshape(16, 33).astype(dtype) for key in ("x", "dy", "v"))
    y = entmax(x, alpha)
    wide, d, u = (a.astype(oracle.WIDE) for a in (y, dy, v))
    there = wide > 0
    w = np.where(there, np.where(there, wide, 1) ** (2 - oracle.WIDE(alpha)), 0)
    slope = np.where(there, (2 - oracle.WIDE(alpha)) * w / np.where(there, wide, 1), 0)

    def mean(a):
        return (w * a).sum(axis=1, keepdims=True) / w.sum(axis=1, keepdims=True)

    p = slope * (d - mean(d)) * (u - mean(u))
    exact = w * (p - mean(p))
    grad_x, grad_dy = entmax_double_backward(y, dy, v, alpha)
    left, right = (np.abs(a - mean(a)) + mean(np.abs(a - mean(a))) for a in (d, u))
    terms = np.abs(slope) * left * right
    allowed = errors.product_bound(dtype) * errors.eps(dtype) * w * (terms + mean(terms))
    assert (np.abs(grad_x.astype(oracle.WIDE) - exact) <= allowed).all()
    assert_product(grad_dy, y, v, alpha)


# --- the gradient for alpha --------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 1.0 + 2.0**-30, 1.1, 1.5, 1.7, 2.0, 2.5, 4.0])
@each_dtype
def test_the_gradient_for_alpha(dtype, alpha):
    """Against differences of exact solutions, for the y that are rounded from these."""
    x, dy = (cases.numbers(60, key).reshape(5, 12).astype(dtype) for key in ("x", "dy"))
    y = entmax(x, alpha)
    found = entmax_alpha_vjp(y, dy, alpha)
    assert found.shape == (5,)
    assert found.dtype == dtype
    expected = np.array([entmax_oracle.alpha_gradient(a, d, alpha) for a, d in zip(x, dy, strict=True)])
    dx = entmax_vjp(y, dy, alpha).astype(oracle.WIDE)
    log = np.log(np.where(y > 0, y.astype(oracle.WIDE), 1))
    t = (alpha - 1) * log
    psi = log**2 / (1 + np.abs(t)) ** 2
    # 4 (float64: 8) for what is computed, and what the rounding of y by eps/2 does to ψ and to J dy
    rounding = 4 * errors.norm(dx) * (errors.norm(psi) + errors.norm(log)) + errors.norm(dy)
    assert (np.abs(found - expected) <= 2 * errors.eps(dtype) * rounding).all()


def test_the_gradient_for_alpha_is_the_published_formula():
    x, dy = (cases.numbers(60, key).reshape(5, 12) for key in ("x", "dy"))
    for alpha in (1.2, 1.5, 2.0, 3.0):
        y = entmax(x, alpha)
        expected = formulas.entmax_alpha_vjp(y, dy, alpha, np)
        np.testing.assert_allclose(entmax_alpha_vjp(y, dy, alpha), expected, rtol=1e-11)


def test_the_gradient_for_alpha_along_any_axis():
    x, dy = (cases.numbers(120, key).reshape(4, 5, 6) for key in ("x", "dy"))
    where = x > -1
    y = entmax(x, axis=(0, 2), where=where)
    found = entmax_alpha_vjp(y, np.where(where, dy, np.nan), axis=(0, 2), where=where)
    rows = [np.moveaxis(np.where(where, a, 0), 1, 0).reshape(5, 24) for a in (y, dy)]
    np.testing.assert_allclose(found, entmax_alpha_vjp(*rows), rtol=1e-12)
    assert type(entmax_alpha_vjp(y, dy, axis=None)) is y.dtype.type
    assert type(entmax_alpha_vjp(np.float32(1), np.float32(3))) is np.float32
    np.testing.assert_array_equal(entmax_alpha_vjp(np.empty((3, 0)), np.empty((3, 0))), np.zeros(3))


def test_the_gradient_for_alpha_of_empty_and_nan_rows():
    y = np.array([[0.0, 0.0], [np.nan, np.nan], [0.5, 0.5], [0.75, 0.25]])
    dy = np.array([[1.0, 2.0]] * 3 + [[np.nan, 1.0]])
    found = entmax_alpha_vjp(y, dy)
    np.testing.assert_array_equal(np.isnan(found), [False, True, False, True])
    assert found[0] == 0


@pytest.mark.parametrize("alpha", [0.99, 0, -1.5, np.nan, np.inf, 1e301])
def test_an_alpha_that_is_none(alpha):
    x = np.ones(2)
    for call in (
        lambda: entmax(x, alpha),
        lambda: entmax_vjp(x, x, alpha),
        lambda: entmax_jvp(x, x, alpha),
        lambda: entmax_double_backward(x, x, x, alpha),
        lambda: entmax_with_vjp(x, alpha),
        lambda: entmax_alpha_vjp(x, x, alpha),
        lambda: Entmax(alpha),
    ):
        with pytest.raises(ValueError, match="alpha=.*from 1"):
            call()


@pytest.mark.parametrize("alpha", ["1.5", None, 1.5j, True, [1.5], np.ones(2)])
def test_an_alpha_that_is_no_number(alpha):
    with pytest.raises(TypeError, match="alpha takes a real number"):
        entmax(np.ones(2), alpha)
    with pytest.raises(TypeError, match="alpha takes a real number"):
        Entmax(alpha)


# --- others' results ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "alpha", "error"),
    [("sparsemax", 2, 1e-14), ("entmax15", 1.5, 1e-14), ("entmax_bisect", 1.3, 1e-6)],
)
def test_the_entmax_package(name, alpha, error):
    """Its bisection is coarse."""
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("entmax")
    x, dy = (cases.numbers(20 * 40, key).reshape(20, 40) for key in ("x", "dy"))
    for axis in (-1, 0):
        there, exponent = torch.tensor(x, requires_grad=True), torch.tensor(float(alpha), requires_grad=True)
        more = {"alpha": exponent} if name == "entmax_bisect" else {}
        theirs = getattr(package, name)(there, dim=axis, **more)
        theirs.backward(torch.tensor(dy))
        y, vjp = entmax_with_vjp(x, alpha, axis=axis)
        dx = vjp(dy)
        assert np.linalg.norm(y - theirs.detach().numpy()) <= error * np.linalg.norm(y)
        assert np.linalg.norm(dx - there.grad.numpy()) <= error * np.linalg.norm(dx)
        if more:
            shared = entmax_alpha_vjp(y, dy, alpha, axis=axis).sum()
            np.testing.assert_allclose(shared, exponent.grad.item(), rtol=1e-5)


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
def test_the_formulas(alpha):
    x, dy = (cases.numbers(20 * 40, key).reshape(20, 40) for key in ("x", "dy"))
    y = entmax(x, alpha)
    assert errors.row_error(formulas.entmax(x, alpha, np), y.astype(oracle.WIDE)).max() <= 64
    dx = entmax_vjp(y, dy, alpha).astype(oracle.WIDE)
    assert errors.row_error(formulas.entmax_vjp(y, dy, alpha, np), dx).max() <= 64
    if alpha == 2:
        assert errors.row_error(formulas.sparsemax(x, np), y.astype(oracle.WIDE)).max() <= 64
        assert errors.row_error(formulas.sparsemax_vjp(y, dy, np), dx).max() <= 64
        np.testing.assert_array_equal(sparsemax_vjp(y, dy), dx.astype(np.float64))


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2, 2.5, 3, 4])
@pytest.mark.parametrize("row", [[1, np.inf, np.inf], [np.inf], [np.inf, 0]])
def test_infinite_logits_make_their_row_nan(row, alpha):
    x = np.tile(np.array(row, np.float32), (8, 1))
    assert np.isnan(entmax(x, alpha)).all()
    assert np.isnan(entmax(np.ascontiguousarray(x.T), alpha, axis=0)).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sum_of_gradients_that_overflows(axis):
    """The weights of sparsemax are 1, so that what is added up may be beyond the largest number."""
    n = 1200
    y, dy = np.full(n, 1 / n, np.float32), np.linspace(3e37, 1e38, n).astype(np.float32)
    tall = [np.ascontiguousarray(np.tile(a, (8, 1)) if axis else np.tile(a, (8, 1)).T) for a in (y, dy)]
    dx = np.moveaxis(sparsemax_vjp(*tall, axis=axis), axis, 1)
    exact = dy.astype(np.float64) - dy.mean(dtype=np.float64)
    allowed = 8 * np.finfo(np.float32).eps * (np.abs(exact) + np.abs(exact).mean())
    assert (np.abs(dx - exact) <= allowed).all()
