"""The same random cases in every run, no time limit for one (the first of a kind compiles its kernel), and
what is slow."""

import hypothesis
import pytest

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

# Kernels take most of the time: each is compiled for each dtype.  The 16-bit types differ from float32 in how
# they are loaded and stored, which the tests of softmax see to; those of its relatives `make test-all` has.
RELATIVES = "double_backward", "log_softmax", "entropy", "cross_entropy", "segments", "entmax", "family"


def pytest_collection_modifyitems(items):
    for item in items:
        given = getattr(item, "callspec", None)
        names = [str(getattr(value, "name", value)) for value in given.params.values()] if given else []
        if item.path.stem.removeprefix("test_") in RELATIVES and {"float16", "bfloat16"} & set(names):
            item.add_marker(pytest.mark.slow)
