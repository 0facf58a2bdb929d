"""What a cross-entropy must return, the checks of it, and wrong ones that the checks reject.

The oracle is longdouble; nothing in it cancels.  With m the likeliest class, o the others and
S = 1 + Σ_o exp(x_o − x_m), no term of Σ t'_k (x_m − x_k) + Σt' log S is negative where no weight is, and at m
the gradient Σt'·p − t' is Σ_o t'_o − Σt' Σ_o p_o.
"""

import functools

import numpy as np

from softgrad.testing import cases, errors, oracle

WIDE = oracle.WIDE
LONG = 5000


def one_hot(classes, n):
    """Weights for the last axis: all 0 for a class that is out of range."""
    return (np.asarray(classes)[..., None] == np.arange(n)).astype(np.float64)


def smoothed(t, epsilon):
    return (WIDE(1) - WIDE(epsilon)) * t.astype(WIDE) + WIDE(epsilon) / t.shape[-1]


def exact(x, weights):
    """(losses, gradients, slack) of rows along the last axis for the weights t', in longdouble.

    `slack` is ‖Σt'·(p − c)‖ + ‖t' − Σt'·c‖, c the one-hot vector of m.
    """
    rows = np.asarray(x).astype(WIDE)
    t = weights.astype(WIDE)
    m = one_hot(rows.argmax(axis=-1), rows.shape[-1]).astype(bool)
    top = rows.max(axis=-1, keepdims=True)
    difference, lost = oracle.two_sum(np.where(rows == -np.inf, top, rows), -top)
    powers = np.where(rows == -np.inf, 0, np.exp(difference) * (1 + lost))
    others = np.where(m, 0, powers).sum(axis=-1, keepdims=True)
    total = t.sum(axis=-1, keepdims=True)
    of_others = np.where(m, 0, t).sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        terms = np.where(t == 0, 0, t * (top - rows))
    losses = terms.sum(axis=-1) + (total * np.log1p(others))[..., 0]
    p = powers / (1 + others)
    gradients = np.where(m, of_others - total * (others / (1 + others)), total * p - t)
    from_corner = np.where(m, total * (others / (1 + others)), total * p), np.where(m, of_others, t)
    slack = sum(np.sqrt((part * part).sum(axis=-1)) for part in from_corner)
    return losses, gradients, slack


# --- rows --------------------------------------------------------------------------------------------


def rows_of(n, dtype):
    """The hard logits, and rows with one class ahead of all others by ever more."""
    x = cases.logits(n, dtype)
    gaps = (5.0, 12.0, 20.0, 30.0, 40.0, 80.0)
    ahead = np.stack([cases.numbers(n, "ahead", gap) + gap * (np.arange(n) == n // 3) for gap in gaps])
    return np.concatenate([x, ahead.astype(dtype)])


@functools.cache
def classes(n, dtype):
    """(x, classes, losses, gradients, slack): the likeliest class, the least likely, another."""
    x = np.concatenate([rows_of(n, dtype)] * 3)
    rows = len(x) // 3
    target = np.concatenate([x[:rows].argmax(-1), x[:rows].argmin(-1), np.arange(rows) * 7 % n])
    if n > LONG:
        x, target = x[::2], target[::2]  # 9 kinds of rows: each comes with one target at least
    return cases.read_only(x), cases.read_only(target), *exact(x, one_hot(target, n))


@functools.cache
def weights(n, dtype, epsilon):
    """(x, weights, losses, gradients, slack): one-hot, nearly so, another softmax, its multiple."""
    x = rows_of(n, dtype)
    best = one_hot(x.argmax(-1), n)
    near = best + np.exp(-np.abs(20 * cases.numbers(x.size, "near").reshape(x.shape))) * (1 - best) * 1e-3
    other = np.exp(cases.numbers(x.size, "other").reshape(x.shape))
    t = np.concatenate([best, near, other / other.sum(-1, keepdims=True), other]).astype(dtype)
    x = np.concatenate([x] * 4)
    return cases.read_only(x), cases.read_only(t), *exact(x, smoothed(t, epsilon))


# --- checks, of a function like `cross_entropy_with_vjp` -----------------------------------------------


def bound(dtype):
    return 4 if dtype == np.float64 else 2


def loss_error(losses, right):
    """|loss − right|/right in eps, half the smallest subnormal allowed; a loss that is too large is inf."""
    info = errors.info(losses.dtype)
    right = np.where(right > float(info.max), WIDE(float(info.max)), right)
    wide = np.minimum(losses.astype(WIDE), float(info.max))
    error = np.maximum(np.abs(wide - right) - float(info.smallest_subnormal) / 2, 0)
    small = right < float(info.smallest_normal)  # there the spacing is no part of the number
    error = np.where(small, np.maximum(error - float(info.smallest_subnormal), 0), error)
    error = error / np.where(right == 0, 1, right) / errors.eps(losses.dtype)
    return np.where(np.isnan(error), np.inf, error)


def both(function, x, target, axis, **options):
    """Loss and gradient of each row, the rows being columns of the array if `axis` is 0."""
    turn = (lambda a: np.ascontiguousarray(a.T)) if axis == 0 else (lambda a: a)
    given = turn(target) if target.ndim == 2 else target
    loss, vjp = function(turn(x), given, axis=axis, reduction="none", **options)
    return loss, vjp().T if axis == 0 else vjp()


def check_classes(function, dtype, n, axis=-1):
    """Loss and gradient of each row within 2·eps (float64: 4·eps) of themselves."""
    x, target, losses, gradients, _ = classes(n, dtype)
    loss, dx = both(function, x, target, axis)
    assert loss.dtype == dx.dtype == dtype
    error = loss_error(loss, losses)
    assert error.max() <= bound(dtype), (error.argmax(), error.max())
    error = errors.row_error(dx, gradients)
    assert error.max() <= bound(dtype), (error.argmax(), error.max())


def check_weights(function, dtype, n, axis=-1, epsilon=0.0):
    """The loss as there; the gradient within that of what t' and p are away from the likeliest class."""
    x, target, losses, gradients, slack = weights(n, dtype, epsilon)
    loss, dx = both(function, x, target, axis, label_smoothing=epsilon)
    assert loss.dtype == dx.dtype == dtype
    error = loss_error(loss, losses)
    assert error.max() <= bound(dtype), (error.argmax(), error.max())
    assert_near(dx, gradients, slack)


def check_smoothing(function, dtype, n, axis=-1, epsilon=0.1):
    x, target, *_ = classes(n, dtype)
    losses, gradients, slack = exact(x, smoothed(one_hot(target, n), epsilon))
    loss, dx = both(function, x, target, axis, label_smoothing=epsilon)
    error = loss_error(loss, losses)
    assert error.max() <= bound(dtype), (error.argmax(), error.max())
    assert_near(dx, gradients, slack)


def near(dx, gradients, slack):
    """‖dx − gradients‖ in eps·slack, half the smallest subnormal per element allowed."""
    subnormal = float(errors.info(dx.dtype).smallest_subnormal)
    error = np.maximum(np.abs(dx.astype(WIDE) - gradients) - subnormal / 2, 0)
    size = np.sqrt((error * error).sum(axis=-1))
    error = size / np.where(slack == 0, 1, slack) / errors.eps(dx.dtype)
    error = np.where(slack == 0, np.where(size == 0, 0, np.inf), error)
    return np.where(np.isnan(error), np.inf, error)


def assert_near(dx, gradients, slack):
    error = near(dx, gradients, slack)
    assert error.max() <= bound(dx.dtype), (error.argmax(), error.max())


# --- wrong ones --------------------------------------------------------------------------------------


def given(target, x, axis):
    """Weights of the shape of x."""
    if target.dtype.kind == "f" or target.dtype == cases.DTYPES[1]:
        return target.astype(WIDE)
    return np.moveaxis(one_hot(target, x.shape[axis]), -1, axis).astype(WIDE)


def made_of(loss_and_gradient, kind=WIDE):
    """A function like `cross_entropy_with_vjp`, in longdouble and rounded once unless `kind` is another."""

    def function(x, target, *, axis=-1, label_smoothing=0.0, reduction="none"):
        t = given(target, x, axis)
        wide_x = np.moveaxis(x.astype(kind or x.dtype), axis, -1)
        t = np.moveaxis(smoothed(t, label_smoothing), axis, -1)
        with np.errstate(all="ignore"):
            loss, dx = loss_and_gradient(wide_x, t.astype(kind or x.dtype))
            loss, dx = loss.astype(x.dtype), np.moveaxis(dx, -1, axis).astype(x.dtype)
        return loss, lambda: dx

    return function


def right(x, t):
    return exact(x, t)[:2]


def usual(x, t):
    """As it is usually written: log Σexp − x, and p − t."""
    shifted = x - x.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -(t * log_p).sum(axis=-1), np.exp(log_p) * t.sum(axis=-1, keepdims=True) - t


def wrong(change):
    """The right one with (loss, gradient) changed by ``change(loss, gradient, x, t)``."""
    return made_of(lambda x, t: change(*right(x, t), x, t))


# Those of the second kind have the right loss.
MUTANTS = {
    "zeros": wrong(lambda loss, dx, x, t: (0 * loss, 0 * dx)),
    "sign of the gradient": wrong(lambda loss, dx, x, t: (loss, -dx)),
    "t − p in the loss too": wrong(lambda loss, dx, x, t: (-loss, -dx)),
    "base 2": wrong(lambda loss, dx, x, t: (loss / np.log(WIDE(2)), dx)),
    "times 1.03": wrong(lambda loss, dx, x, t: (loss * WIDE(1.03), dx)),
    "gradient times 1.03": wrong(lambda loss, dx, x, t: (loss, dx * WIDE(1.03))),
    "gradient reversed": wrong(lambda loss, dx, x, t: (loss, dx[..., ::-1])),
    "p alone": wrong(lambda loss, dx, x, t: (loss, dx + t)),
    "divided by n": wrong(lambda loss, dx, x, t: (loss, dx / dx.shape[-1])),
    "next row's": wrong(lambda loss, dx, x, t: (np.roll(loss, 1), dx)),
    "gradient of the next row": wrong(lambda loss, dx, x, t: (loss, np.roll(dx, 1, axis=0))),
    "maximum forgotten": wrong(lambda loss, dx, x, t: (loss - x.max(-1) * t.sum(-1), dx)),
    "usual, narrow": made_of(usual, None),
    "usual, float64": made_of(usual, np.float64),
}
# The weights' sum and the smoothing, which classes don't show.
OF_WEIGHTS = {
    "p − t": made_of(lambda x, t: (right(x, t)[0], exact(x, t / t.sum(-1, keepdims=True))[1])),
    "weights normed": made_of(lambda x, t: right(x, t / t.sum(-1, keepdims=True))),
    "smoothing forgotten": lambda x, t, **options: made_of(right)(x, t, **options | {"label_smoothing": 0.0}),
}
reference = made_of(right)
