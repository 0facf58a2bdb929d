"""softgrad's own contract, asserted of one case; and how far off anything else is."""

import tracemalloc

import numpy as np

from softgrad.testing import again, errors, oracle


def assert_holds(check, what, fn, dtype, n, axis=None, map="softmax"):
    verdict = again(what, check, map=map, level="tight", dtype=dtype, n=n, axis=axis).verdict(fn)
    assert verdict.passed, verdict


def assert_product(dx, y, dy, axis=-1, scale=1.0, where=None):
    """dx is the vjp (or jvp) of softmax, as near as the contract says; y and dy are finite."""
    exact = oracle.vjp(y, dy, axis, scale, where)
    y = y if where is None else np.where(where, y, np.zeros((), y.dtype))
    assert dx.dtype == y.dtype
    miss = errors.product_miss(dx, y, exact, axis, scale)
    assert miss.max(initial=0) <= 1, f"{miss.max():.3g} times what is allowed"


def off_by(found, expected, axis=-1):
    """How far off the worst row is, in eps of the dtype and relative to the row's norm; with axis=() each
    number is a row.

    `expected` is of the same dtype, or exact, in longdouble; what is not finite must be the same in both.
    """
    found, expected = as_array(found), as_array(expected)
    assert found.shape == expected.shape
    assert expected.dtype in (found.dtype, oracle.WIDE)
    finite = np.isfinite(found) & np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite].astype(float), expected[~finite].astype(float))
    if not found.size:
        return 0.0
    found, exact = found.copy(), expected.astype(oracle.WIDE)
    found[~finite] = exact[~finite] = 0
    return float(errors.row_error(found, exact, axis).max())


def as_array(value):
    """Of a tensor, the array of the same memory."""
    if hasattr(value, "detach"):
        from softgrad.torch.tensors import array

        return array(value)
    return np.asarray(value)


def peak(function, *arguments, **options):
    """Bytes that were allocated at once, at most, in the second of two calls; and its result."""
    function(*arguments, **options)
    tracemalloc.start()
    try:
        result = function(*arguments, **options)
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()
