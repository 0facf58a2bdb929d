"""The checks can fail: each rejects each wrong function, at every dtype and length, unless it can't tell."""

import numpy as np
import pytest

from softgrad.testing import again, cases, errors, mutants, oracle
from softgrad.testing.properties import CHECKS

# With one element every gradient is 0, and so are most wrong ones.
LENGTHS = (2, 3, 5, 16, 17, 33, 100, 257, 1000)

# check: the mutants that it can't reject.  "contract" rejects every one.
ROUNDING = {"narrow", "mean in one part"}  # the formula is right, and moderate rows don't show the rounding
CANNOT_TELL = {
    "contract": set(),
    "adjoint": ROUNDING,
    "constant gradient": ROUNDING  # J′1 = 0 is true of these matrices too
    | {"zeros", "uniform", "no weight", "other axis", "other axis, divided", "sign", "mean not weighted"}
    | {"y squared", "softmax of y", "reversed", "mean over rows", "times 1.01", "last forgotten"},
    "sums to 0": ROUNDING  # 1ᵀJ′ = 0 is true of these matrices too
    | {"zeros", "uniform", "sign", "log_softmax", "arguments swapped, divided", "y squared", "softmax of y"}
    | {"reversed", "mean over rows", "times 1.01"},
}

WRONG = {
    "vjp": mutants.MUTANTS,
    "forward": mutants.WRONG_SOFTMAXES,
    "double-backward": {
        name: mutants.rounded_once(mutant.formula) for name, mutant in mutants.DOUBLE_BACKWARDS.items()
    },
}
CHECKED = [("vjp", check, None) for check in CANNOT_TELL] + [
    ("vjp", "contract", 0),
    ("forward", "contract", None),
    ("forward", "contract", 0),
    ("double-backward", "contract", None),
]
PAIRS = [(*c, m) for c in CHECKED for m in WRONG[c[0]] if m not in CANNOT_TELL[c[1]]]


def can_tell(check, mutant, dtype, n):
    """One of n elements is about 1/n of the sum: on a moderate row it may be less than rounding.  And 1 % is
    what rounding may do to a row in bfloat16; "average" can tell."""
    if mutant == "softmax of y" and check == "adjoint":  # as n grows that is the mean of v∘(u − mean)
        return n < 1000
    if mutant == "times 1.01":
        return check == "adjoint" or errors.eps(dtype) < 0.005
    drowned = mutant == "last forgotten" and check != "contract"
    return not drowned or n * errors.eps(dtype) < 1 / 16


def accepts(what, check, fn, dtype, n, axis=None):
    with np.errstate(all="ignore"):
        return again(what, check, level="tight", dtype=dtype, n=n, axis=axis).verdict(fn).passed


def rounded_oracle(y, dy, *, axis=-1):
    return oracle.vjp(y, dy, axis=axis).astype(y.dtype)


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if "vjp" in check.of], ids=lambda check: check.name
)
def test_the_right_function_passes(check):
    if check.name == "NaN kept":
        pytest.skip("the oracle takes finite numbers")
    for dtype in cases.DTYPES:
        for n in [n for n in check.lengths if n <= 1000]:
            assert accepts("vjp", check.name, rounded_oracle, dtype, n), (dtype, n)


@pytest.mark.parametrize(("what", "check", "axis", "mutant"), PAIRS)
def test_a_wrong_one_does_not(what, check, axis, mutant):
    for dtype in cases.DTYPES:
        for n in LENGTHS:
            if what != "vjp" or can_tell(check, mutant, dtype, n):
                assert not accepts(what, check, WRONG[what][mutant], dtype, n, axis), (dtype, n)


def rounded_double_backward(y, dy, v):
    return tuple(a.astype(y.dtype) for a in oracle.double_backward(y, dy, v))


@pytest.mark.parametrize(
    ("what", "right"),
    [("forward", mutants.reference_softmax), ("double-backward", rounded_double_backward)],
)
def test_the_right_one_passes(what, right):
    for dtype in cases.DTYPES:
        for n in (1, *LENGTHS):
            assert accepts(what, "contract", right, dtype, n), (dtype, n)


def test_too_large_by_1_percent_everywhere():
    for dtype in cases.DTYPES:
        for level in ("tight", "sound"):
            case = again("vjp", "average", level=level, dtype=dtype, n=50)
            assert not case.verdict(mutants.MUTANTS["times 1.01"]).passed
            assert case.verdict(rounded_oracle).passed


@pytest.mark.parametrize("mutant", ["zeros", "mean not weighted"])
def test_a_constant_gradient_proves_nothing(mutant):
    """What a loss of `y.sum()` tests: these pass."""
    for dtype in cases.DTYPES:
        assert accepts("vjp", "constant gradient", mutants.MUTANTS[mutant], dtype, 100)
