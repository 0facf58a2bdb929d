"""The same random cases in every run, no time limit for one (the first of a kind compiles its kernel), and
what is slow."""

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

# Kernels take most of the time: each is compiled for each dtype.  float16 and bfloat16 differ in how they are
# loaded and stored, which the tests of softmax see to; of its relatives float16 is left to `make test-all`.
RELATIVES = {
    "test_log_softmax",
    "test_entropy",
    "test_cross_entropy",
    "test_segments",
    "test_entmax",
    "test_family",
}


def pytest_collection_modifyitems(items):
    for item in items:
        given = getattr(item, "callspec", None)
        if item.path.stem in RELATIVES and given is not None:
            names = [getattr(value, "name", value) for value in given.params.values()]
            if "float16" in [name for name in names if isinstance(name, str)] or np.float16 in names:
                item.add_marker(pytest.mark.slow)
