"""Is this softmax, or this gradient of one, right?  The oracle, the cases, the checks and the mutants.

Any function of NumPy arrays can be asked about, without a test framework.  In pytest it is five lines::

    import pytest, softgrad.testing
    from my_layers import softmax_backward

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_softmax_backward(dtype):
        softgrad.testing.check_vjp(softmax_backward, dtypes=[dtype])

`check_vjp`, `check_forward`, `check_jvp` and `check_double_backward` raise an AssertionError at the first
check that fails.  `run` goes through all that `planned` names and gives a `Finding` for each; `again` makes
the case of one again.

To read on: operations.py (what is tested), softmax.py (what it must give, and how far off it may be),
checks.py (the table of checks), rows.py and cases.py (what they are made on), judging.py, options.py, run.py;
then oracle.py, measures.py, mutants.py and signatures.py.
"""

from .assertions import check_double_backward, check_forward, check_jvp, check_vjp
from .run import Finding, again, planned, run

__all__ = [
    "Finding",
    "again",
    "check_double_backward",
    "check_forward",
    "check_jvp",
    "check_vjp",
    "planned",
    "run",
]
