"""The checks can fail: each rejects each wrong function, at every dtype and length, unless it can't tell."""

import cases
import checks
import mutants
import numpy as np
import oracle
import pytest

# With one element every gradient is 0, and so are most wrong ones.
LENGTHS = (2, 3, 5, 16, 17, 33, 100, 257, 1000)

CHECKS = checks.every_check(mutants.reference)

ROUNDING = "the formula is right: what is wrong is its rounding, which moderate rows don't show"
ON_ONES = "J′1 = 0 is true of this matrix too"
COLUMN_SUMS = "1ᵀJ′ = 0 is true of this matrix too"

# (check, mutant): why the check can't reject it.  "contract" rejects every one.
CANNOT_TELL = {
    (check, mutant): ROUNDING
    for check in ("constant", "adjoint", "derivative", "jacobian", "sum")
    for mutant in ("narrow", "mean in one part")
}
CANNOT_TELL |= {
    ("constant", mutant): ON_ONES
    for mutant in (
        "zeros",
        "uniform",
        "no weight",
        "other axis",
        "sign",
        "mean not weighted",
        "y squared",
        "reversed",
        "times 1.01",
        "last forgotten",
        "first row's mean",
    )
}
CANNOT_TELL |= {
    ("sum", mutant): COLUMN_SUMS
    for mutant in ("zeros", "uniform", "sign", "log_softmax", "y squared", "reversed", "times 1.01")
}

PAIRS = [(c, m) for c in CHECKS for m in mutants.MUTANTS if (c, m) not in CANNOT_TELL]


def can_tell(check, mutant, dtype, n):
    """One of n elements is about 1/n of the sum: on a moderate row it may be less than rounding."""
    drowned = mutant == "last forgotten" and not check.startswith("contract")
    return not drowned or n * oracle.eps(dtype) < 1 / 16


def accepts(check, *arguments):
    with np.errstate(all="ignore"):
        try:
            check(*arguments)
        except AssertionError:
            return False
    return True


@pytest.mark.parametrize("check", CHECKS)
def test_the_right_function_passes(check):
    for dtype in cases.DTYPES:
        for n in (1, *LENGTHS):
            assert accepts(CHECKS[check], rounded_oracle, dtype, n), (dtype, n)


def rounded_oracle(y, dy, *, axis=-1):
    return oracle.vjp(y, dy, axis=axis).astype(y.dtype)


@pytest.mark.parametrize(("check", "mutant"), PAIRS)
def test_a_wrong_one_does_not(check, mutant):
    for dtype in cases.DTYPES:
        for n in LENGTHS:
            if can_tell(check, mutant, dtype, n):
                assert not accepts(CHECKS[check], mutants.MUTANTS[mutant], dtype, n), (dtype, n)


def test_each_mutant_is_rejected_by_a_check_that_does_not_know_the_formula():
    """That the oracle has the same mistake is ruled out by the derivative of the forward."""
    exempt = {mutant for check, mutant in CANNOT_TELL if check == "derivative"}
    assert exempt == {"narrow", "mean in one part"}


@pytest.mark.parametrize("mutant", ["zeros", "mean not weighted", "first row's mean"])
def test_a_constant_gradient_proves_nothing(mutant):
    """What a loss of `y.sum()` tests: these pass."""
    for dtype in cases.DTYPES:
        assert accepts(checks.check_constant, mutants.MUTANTS[mutant], dtype, 100)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("mutant", mutants.WRONG_SOFTMAXES)
def test_a_wrong_softmax_does_not_pass(mutant, axis):
    for dtype in cases.DTYPES:
        for n in LENGTHS:
            wrong = mutants.WRONG_SOFTMAXES[mutant]
            assert not accepts(checks.check_forward, wrong, dtype, n, axis), (dtype, n)


def test_the_right_softmax_passes():
    for dtype in cases.DTYPES:
        for n in (1, *LENGTHS):
            assert accepts(checks.check_forward, mutants.reference_softmax, dtype, n), (dtype, n)
