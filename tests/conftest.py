"""The same random cases in every run, no time limit for one (the first of a kind compiles its kernel), and
what is slow."""

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

# Kernels take most of the time: each is compiled for each dtype.  float16 and bfloat16 differ in how they are
# loaded and stored, which the tests of softmax see to; of its relatives float16 is left to `make test-all`.
RELATIVES = "log_softmax", "entropy", "cross_entropy", "segments", "entmax", "family"


def is_float16(value):
    return value is np.float16 or (isinstance(value, (np.dtype, str)) and value == "float16")


def pytest_collection_modifyitems(items):
    for item in items:
        given = getattr(item, "callspec", None)
        of_relatives = item.path.stem.removeprefix("test_") in RELATIVES
        if of_relatives and given is not None and any(map(is_float16, given.params.values())):
            item.add_marker(pytest.mark.slow)
