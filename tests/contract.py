"""softgrad's own contract, asserted of one case."""

from softgrad.testing import again


def assert_holds(check, what, fn, dtype, n, axis=None, map="softmax"):
    verdict = again(what, check, map=map, level="tight", dtype=dtype, n=n, axis=axis).verdict(fn)
    assert verdict.passed, verdict
