"""What is true of the vjp of softmax.  Each check is given the function to check, so that the tests can
show that it rejects a wrong one (test_mutants.py).

No tolerance is absolute: all are in eps of the dtype, beside the norm of the row.
"""

import functools

import cases
import numpy as np
import oracle


def bound(dtype):
    """The error that the numerics contract allows, in eps of the row's norm."""
    return 4 if dtype == np.float64 else 2


def along(function, axis, *rows):
    """Apply a function to rows, given as the columns of an array if `axis` is 0."""
    if axis == 0:
        return function(*(np.ascontiguousarray(a.T) for a in rows), axis=0).T
    return function(*rows, axis=-1)


def inner(a, b):
    return (a.astype(oracle.WIDE) * b.astype(oracle.WIDE)).sum(axis=-1)


def norm(a):
    return np.sqrt(inner(a, a))


def gain(dx, exact):
    """By how much dx is too large on the average over the rows, in eps: what rounding does not explain.

    Only rows that are no subnormal numbers are counted.
    """
    rows = np.abs(exact).max(axis=-1) > 16 * float(oracle.info(dx.dtype).smallest_normal)
    if not rows.any():
        return 0.0
    _, exponents = np.frexp(np.abs(exact[rows]).max(axis=-1, keepdims=True))
    a, b = (np.ldexp(part[rows].astype(oracle.WIDE), -exponents) for part in (dx, exact))
    return float((inner(a, b) / inner(b, b) - 1).mean()) / oracle.eps(dx.dtype)


def assert_right(dx, exact, labels=None, counted=True):
    """Each row is within the bound, and the rows together are not all too large or too small."""
    assert dx.shape == exact.shape
    error = np.where(counted, oracle.row_error(dx, exact), 0)
    worst = int(np.argmax(error))
    assert error[worst] <= bound(dx.dtype), (worst if labels is None else labels[worst], error[worst])
    assert abs(gain(dx, exact)) <= bound(dx.dtype) / 4


# --- on the hard cases -------------------------------------------------------------------------------


def check_contract(vjp, dtype, n, axis=-1):
    """‖dx − dx*‖ ≤ 2·eps·‖dx*‖ in every row (float64: 4·eps), half the smallest subnormal allowed."""
    y, dy, exact = cases.weights(n, dtype), cases.gradients(n, dtype), cases.exact_vjp(n, dtype)
    dx = along(vjp, axis, y, dy)
    assert dx.dtype == dtype
    # in float64 a constant dy may leave something: see `check_constant`
    counted = (dy != dy[:, :1]).any(axis=1) | (dtype != np.float64)
    assert_right(dx, exact, cases.pairs(n), counted)


def check_constant(vjp, dtype, n):
    """J 1 = 0: a constant dy gives exactly 0; in float64 up to 4·eps·y·|c|."""
    y = cases.weights(n, dtype)
    for c in (1.0, -100.0, 0.1, 12345.678):
        constant = np.full_like(y, c)
        left = np.abs(vjp(y, constant, axis=-1).astype(oracle.WIDE))
        slack = 4 * oracle.eps(dtype) if dtype == np.float64 else 0
        assert (left <= slack * y.astype(oracle.WIDE) * abs(c)).all(), c


def check_forward(softmax, dtype, n, axis=-1):
    """2 ulp for float32 and float64, 0.51 for the 16-bit types, on logits of any spread."""
    x = cases.logits(n, dtype)
    y = along(softmax, axis, x)
    assert y.dtype == dtype
    error = oracle.ulps(y, cases.exact_softmax(n, dtype)).max(axis=-1)
    worst = int(np.argmax(error))
    assert error[worst] <= (0.51 if dtype.itemsize == 2 else 2), (cases.pairs(n)[worst], error[worst])


# --- on rows of moderate spread, in which each element counts ----------------------------------------

ROWS = 128


@functools.cache
def moderate(n, dtype):
    """y and two gradients that are much alike, so that ⟨v, J u⟩ is not small by accident.  They go with
    the logits, and their means are far from 0, so that it matters which mean is taken off."""
    x, u, v = (cases.numbers(ROWS * n, key).reshape(ROWS, n) for key in "xuv")
    u = u + x + 1.25
    return tuple(cases.read_only(a.astype(dtype)) for a in (oracle.softmax(x), u, u + v / 4))


@functools.cache
def by_jacobian(n, dtype):
    """The article's first way in longdouble: J = diag(y) − y yᵀ, which is then multiplied with dy."""
    y, u = (a[: max(4, 256 // n)].astype(oracle.WIDE) for a in moderate(n, dtype)[:2])
    # y is rounded, so its sum is not quite 1
    jacobian = y[:, :, None] * (np.eye(n) - (y / y.sum(axis=-1, keepdims=True))[:, None, :])
    return cases.read_only((jacobian * u[:, None, :]).sum(axis=-1))


@functools.cache
def by_complex_step(n, dtype):
    """J v as the derivative of softmax along v: a step of i·h, and the imaginary part (float64)."""
    y, _, v = (a.astype(np.float64) for a in moderate(n, dtype))
    powers = np.exp(np.log(y) + 1e-100j * v)
    return cases.read_only((powers / powers.sum(axis=-1, keepdims=True)).imag * 1e100)


def assert_equal_products(v, dx, slope, u, error):
    """⟨v, dx⟩ = ⟨slope, u⟩ over all rows, if ‖dx‖ and ‖slope‖ are off by at most `error` of themselves.

    What that does in a row Cauchy and Schwarz tell; over different rows it adds up like random numbers.
    u and v are much alike, so what dx may do is about what `slope` may do.
    """
    gap = abs((inner(v, dx) - inner(slope, u)).sum())
    assert gap <= 2 * error * norm(norm(slope) * norm(u))


def check_adjoint(vjp, jvp, dtype, n):
    """⟨v, vjp(u)⟩ = ⟨jvp(v), u⟩."""
    y, u, v = moderate(n, dtype)
    dx, dy = vjp(y, u, axis=-1), jvp(y, v, axis=-1)
    assert_equal_products(v, dx, dy, u, bound(dtype) * oracle.eps(dtype))


def check_derivative(vjp, dtype, n):
    """vjp is the adjoint of what softmax does when its logits are moved."""
    y, u, v = moderate(n, dtype)
    # Σy is off by at most eps/2 for each y; `by_complex_step` has errors of its own in float64
    error = (bound(dtype) + 0.5) * oracle.eps(dtype) + 16 * oracle.eps(np.dtype(np.float64))
    assert_equal_products(v, vjp(y, u, axis=-1), by_complex_step(n, dtype), u, error)


def check_jacobian(vjp, dtype, n):
    """vjp is the product with the dense Jacobian."""
    y, u, _ = moderate(n, dtype)
    expected = by_jacobian(n, dtype)
    assert_right(vjp(y[: len(expected)], u[: len(expected)], axis=-1), expected)


def check_sum(vjp, dtype, n):
    """1ᵀJ = 0: what one logit gains the others lose."""
    y, u, _ = moderate(n, dtype)
    dx = vjp(y, u, axis=-1)
    total = np.abs(dx.astype(oracle.WIDE).sum(axis=-1))
    assert (total <= bound(dtype) * oracle.eps(dtype) * np.sqrt(n) * norm(dx)).all()


# --- all of them, as functions of (vjp, dtype, n); `jvp` is a right one -------------------------------


def every_check(jvp):
    return {
        "contract": check_contract,
        "contract of columns": functools.partial(check_contract, axis=0),
        "constant": check_constant,
        "adjoint": lambda vjp, dtype, n: check_adjoint(vjp, jvp, dtype, n),
        "derivative": check_derivative,
        "jacobian": check_jacobian,
        "sum": check_sum,
    }
