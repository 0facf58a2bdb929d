"""softgrad's own contract, asserted of one case; and how far off anything else is."""

import numpy as np

from softgrad.testing import again, measures, oracle


def assert_holds(check, what, fn, dtype, n, axis=None, map="softmax"):
    verdict = again(what, check, map=map, level="tight", dtype=dtype, n=n, axis=axis).verdict(fn)
    assert verdict.passed, verdict


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
    return float(measures.row_error(found, exact, axis).max())


def as_array(value):
    """Of a tensor, the array of the same memory."""
    if hasattr(value, "detach"):
        from softgrad.torch.tensors import array

        return array(value)
    return np.asarray(value)
