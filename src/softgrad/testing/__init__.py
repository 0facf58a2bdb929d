"""Is this softmax, or this gradient of one, right?  The oracle, the cases, the checks and the mutants.

Any function of NumPy arrays can be asked about, without a test framework.  In pytest it is five lines::

    import pytest, softgrad.testing
    from my_layers import Softmax

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_softmax(dtype):
        softgrad.testing.check(Softmax, dtypes=[dtype])

`check` finds out how a function or a layer is called.  `check_vjp`, `check_forward`, `check_jvp` and
`check_double_backward` take functions of (y, dy), x, (y, dx) and (y, dy, v).  All raise an AssertionError
at the first check that fails.  `run` goes through all that `planned` names and gives a `Finding` for each;
`again` makes the case of one again.  `with_sink` and `in_segments` make functions of sinks, and of
segments, functions of rows, which are checked like any other.

To read on: ways.py, autograd.py, layouts.py and conventions.py (how a target is called), convert.py,
budget.py; oracle.py (exact results), errors.py (their units), bounds.py (how far off a function may be),
operations.py (the table of what is tested); properties.py (the table of checks), cases.py (their rows),
verdicts.py, options.py and run.py; mutants.py and hints.py (what is probably wrong).
"""

from .adapters import in_segments, with_sink
from .assertions import check, check_double_backward, check_forward, check_jvp, check_vjp
from .run import Finding, again, planned, run

__all__ = [
    "Finding",
    "again",
    "check",
    "check_double_backward",
    "check_forward",
    "check_jvp",
    "check_vjp",
    "in_segments",
    "planned",
    "run",
    "with_sink",
]
