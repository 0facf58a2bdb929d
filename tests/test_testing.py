"""softgrad.testing as its users see it: what is wrong is rejected and named, what is right passes."""

import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest
import torch

from softgrad import softmax_vjp
from softgrad.formulas import softmax as formulas
from softgrad.testing import (
    cases,
    check_double_backward,
    check_forward,
    check_vjp,
    measures,
    mutants,
)

each_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)


def wide(dtype):
    return np.float64 if dtype == np.float64 else np.float32


def closed_form(y, dy, axis=-1):
    """y∘(dy − Σ y∘dy), 16-bit types in float32."""
    a, b = y.astype(wide(y.dtype)), dy.astype(wide(y.dtype))
    return (a * (b - (a * b).sum(axis, keepdims=True))).astype(y.dtype)


# --- wrong ones: the formulas, and slips of other kinds -----------------------------------------------


def half_sum(kind):
    """Each partial sum is rounded to a 16-bit type."""

    def function(y, dy):
        products = (y * dy).astype(kind)
        total = np.zeros((len(y), 1), kind)
        for k in range(y.shape[1]):
            total = (total + products[:, k : k + 1]).astype(kind)
        return (y * (dy - total.astype(y.dtype))).astype(y.dtype)

    return function


def writes_to_dy(y, dy):
    dy -= (y * dy).sum(axis=-1, keepdims=True).astype(dy.dtype)
    return y * dy


def returns_dy(y, dy):
    dy[...] = closed_form(y, dy)
    return dy


def no_nan(y, dy):
    return closed_form(np.nan_to_num(y), np.nan_to_num(dy))


def no_nan_at_the_end(y, dy):
    return np.nan_to_num(closed_form(y, dy))


def float64_out(y, dy):
    """Of float64, float32."""
    return closed_form(y, dy).astype(np.float32 if y.dtype == np.float64 else np.float64)


BUFFERS = {}


def one_buffer(y, dy):
    """The result of each shape is kept, and written again by the next call."""
    buffer = BUFFERS.setdefault((y.shape, y.dtype), np.empty_like(y))
    buffer[...] = closed_form(y, dy)
    return buffer


def vectors_only(y, dy):
    """A kernel that takes 16 elements at a time, and forgets the rest."""
    n = y.shape[-1]
    whole = np.arange(n) < max(n // 16 * 16, 1)
    products = (y * dy) * whole.astype(y.dtype)
    return np.where(whole, y * (dy - products.astype(np.float64).sum(-1, keepdims=True)), 0).astype(y.dtype)


def as_it_lies(y, dy):
    """A kernel that is given the memory, and takes it for rows."""
    a, b = (np.reshape(x.ravel(order="K"), x.shape) for x in (y, dy))
    return closed_form(a, b)


def noisy(y, dy):
    """Atomic additions in any order."""
    noise = 1 + np.random.default_rng().choice([-1, 1], size=(len(y), 1)) * measures.eps(y.dtype)
    m = (y.astype(np.float64) * dy.astype(np.float64)).sum(-1, keepdims=True) * noise
    return (y * (dy.astype(np.float64) - m)).astype(y.dtype)


def squeezed(y, dy):
    """One row comes back as a vector."""
    return closed_form(y, dy).squeeze()


def smoothed(y, dy):
    """With a small number against a division by 0."""
    a, b = y.astype(np.float64), dy.astype(np.float64)
    return (a * (b - (a * b).sum(-1, keepdims=True) / (a.sum(-1, keepdims=True) + 0.05))).astype(y.dtype)


def clipped(y, dy):
    return closed_form(y, np.clip(dy, -50, 50).astype(dy.dtype))


def block_of_1024(y, dy):
    """A kernel with one block a row."""
    keep = (np.arange(y.shape[-1]) < 1024).astype(y.dtype)
    return (closed_form(y * keep, dy * keep)).astype(y.dtype)


def raises(y, dy):
    raise RuntimeError("no kernel for it")


def not_written_to(y, dy):
    """Works in place on its input, and puts it back: no read-only array can be given."""
    kept = dy.copy()
    dy[...] = closed_form(y, dy)
    result = dy.copy()
    dy[...] = kept
    return result


def a_list(y, dy):
    return closed_form(y, dy).tolist()


SLIPS = [
    half_sum("float16"),
    half_sum(cases.DTYPES[1]),
    writes_to_dy,
    returns_dy,
    no_nan,
    no_nan_at_the_end,
    float64_out,
    one_buffer,
    vectors_only,
    as_it_lies,
    noisy,
    squeezed,
    smoothed,
    clipped,
    block_of_1024,
    raises,
    not_written_to,
    a_list,
]
WRONG = {name: mutants.MUTANTS[name] for name in mutants.FORMULAS}
WRONG |= {f"{function.__name__} {i}": function for i, function in enumerate(SLIPS)}


def test_there_are_many_wrong_ones():
    assert len(WRONG) >= 20


@each_dtype
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_vjp_is_rejected(name, dtype):
    with pytest.raises(AssertionError):
        check_vjp(WRONG[name], dtypes=[dtype])


@each_dtype
@pytest.mark.parametrize("name", mutants.SOFTMAXES)
def test_a_wrong_softmax_is_rejected(name, dtype):
    with pytest.raises(AssertionError):
        check_forward(mutants.rounded_once(mutants.SOFTMAXES[name].formula), dtypes=[dtype])


@each_dtype
@pytest.mark.parametrize("name", mutants.DOUBLE_BACKWARDS)
def test_a_wrong_double_backward_is_rejected(name, dtype):
    with pytest.raises(AssertionError):
        check_double_backward(mutants.rounded_once(mutants.DOUBLE_BACKWARDS[name].formula), dtypes=[dtype])


# --- right ones, of different style ------------------------------------------------------------------


def plain(y, dy, axis=-1):
    return y * (dy - np.sum(y * dy, axis=axis, keepdims=True))


def by_jacobian(y, dy):
    return formulas.vjp_by_jacobian(y, dy, np)


def by_jacobian_of_each_row(y, dy):
    """As it is often published: diag(y) − y yᵀ, in a loop over the rows."""
    dx = np.empty_like(dy)
    for i in range(len(y)):
        s = y[i].reshape(-1, 1)
        dx[i] = (np.diagflat(s) - np.dot(s, s.T)) @ dy[i]
    return dx


def by_einsum(y, dy):
    return y * dy - np.einsum("ij,i->ij", y, np.einsum("ij,ij->i", y, dy))


def float64_inside(y, dy):
    a, b = y.astype(np.float64), dy.astype(np.float64)
    return (a * (b - (a * b).sum(-1, keepdims=True))).astype(y.dtype)


def divided_by_the_sum(y, dy):
    return y * (dy - (y * dy).sum(-1, keepdims=True) / y.sum(-1, keepdims=True))


def grad_minus_mean_first(y, dy):
    """PyTorch's: grad·y − y·Σ grad·y."""
    products = y * dy
    return products - y * products.sum(-1, keepdims=True)


@numba.njit
def loop(y, dy):
    dx = np.empty_like(y)
    for i in range(y.shape[0]):
        total = y[i, 0] * dy[i, 0]
        for k in range(1, y.shape[1]):
            total += y[i, k] * dy[i, k]
        for k in range(y.shape[1]):
            dx[i, k] = y[i, k] * (dy[i, k] - total)
    return dx


def through_out(y, dy):
    """In place, in an array of its own."""
    dx = np.multiply(y, dy)
    total = dx.sum(axis=-1, keepdims=True)
    np.subtract(dy, total, out=dx)
    return np.multiply(y, dx, out=dx)


def torch_closed_form(y, dy):
    a, b = torch.tensor(np.ascontiguousarray(y)), torch.tensor(np.ascontiguousarray(dy))
    return torch.ops.aten._softmax_backward_data(b, a, -1, a.dtype).numpy()


def torch_autograd(y, dy):
    """Of softmax at log y."""
    logits = torch.log(torch.tensor(np.ascontiguousarray(y))).requires_grad_()
    given = torch.softmax(logits, -1)
    return torch.autograd.grad(given, logits, torch.tensor(np.ascontiguousarray(dy)))[0].numpy()


def jax_vjp(y, dy):
    with jax.enable_x64(True):
        _, pullback = jax.vjp(lambda x: jax.nn.softmax(x, axis=-1), jnp.log(jnp.asarray(y)))
        return np.array(pullback(jnp.asarray(dy))[0])


def jax_closed_form(y, dy):
    with jax.enable_x64(True):
        a, b = jnp.asarray(y), jnp.asarray(dy)
        return np.array(a * (b - jnp.sum(a * b, axis=-1, keepdims=True)))


# JAX compiles for each shape
SHORT_ROWS = {by_jacobian: 257, by_jacobian_of_each_row: 129, jax_vjp: 5, jax_closed_form: 5}
RIGHT = [
    plain,
    by_jacobian,
    by_jacobian_of_each_row,
    by_einsum,
    float64_inside,
    divided_by_the_sum,
    grad_minus_mean_first,
    loop,
    through_out,
    torch_closed_form,
    torch_autograd,
    jax_vjp,
    jax_closed_form,
    softmax_vjp,
]


@pytest.mark.parametrize("function", RIGHT, ids=lambda function: function.__name__)
def test_a_right_vjp_passes(function):
    assert len(RIGHT) >= 8
    check_vjp(function, max_n=SHORT_ROWS.get(function))
