"""16-bit floats in and out of the kernels: every one of them, and every rounding."""

import ctypes

import ml_dtypes
import numpy as np
import pytest

import softgrad
from softgrad.cpu import kernels, machine
from softgrad.testing import errors, oracle

if machine.lacks("float16"):
    pytest.skip("no conversions on this machine", allow_module_level=True)

INTEGER, DOUBLE = ctypes.c_int64, ctypes.c_double
MOVE = ctypes.CFUNCTYPE(None, *[INTEGER] * 11, *[DOUBLE] * 3)
MASK = np.ones(1, bool)


def moved(values, source, target, found):
    """By `gather.move`."""
    move, mask, n = MOVE(kernels.move(source, target)), (MASK.ctypes.data, 0, 0), values.size
    move(values.ctypes.data, n, 1, *mask, found.ctypes.data, n, 1, 1, n, 1.0, np.nan, 0.0)
    return found


def widened(halves):
    return moved(halves, halves.dtype.name, "float32", np.empty(halves.size, np.float32))


def rounded(values, dtype):
    return moved(values, "float32", np.dtype(dtype).name, np.empty(values.size, dtype))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_number_and_every_rounding(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    expected = every.astype(np.float32)
    assert np.array_equal(widened(every), expected, equal_nan=True)
    assert np.array_equal(np.signbit(widened(every)), np.signbit(expected))

    # any bits, numbers of every size around the range, and all ties between two neighbours
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 2**18, dtype=np.uint32).view(np.float32)
    sizes = (rng.normal(size=2**17) * 10.0 ** rng.integers(-9, 6, 2**17)).astype(np.float32)
    finite = np.sort(expected[np.isfinite(expected) & (expected >= 0)]).astype(np.float64)
    ties = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    values = np.concatenate([values, sizes, ties, -ties, np.float32([65519.99, 65520])])
    with np.errstate(all="ignore"):
        expected = values.astype(dtype)
    found = rounded(values, dtype)
    assert np.array_equal(found.astype(np.float32), expected.astype(np.float32), equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("n", [1024, 1025, 3000])
def test_long_columns(dtype, n):
    """From 1025 elements on their powers are computed again; small arrays by the gate, and the long way."""
    x = np.random.default_rng(0).normal(size=(n, 40)).astype(np.dtype(dtype))
    for view in (x[:, :9].copy(), x[:, ::2]):
        assert errors.ulps(softgrad.softmax(view, axis=0), oracle.softmax(view, 0)).max() <= 0.51
