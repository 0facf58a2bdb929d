"""The same random cases in every run, no time limit for one (the first of a kind compiles its kernel), and
what is slow."""

import hypothesis
import pytest

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

# Kernels take most of the time: each is compiled for each dtype.  float16 and bfloat16 differ in how they are
# loaded and stored, which the tests of softmax see to; of its relatives float16 is left to `make test-all`,
# and bfloat16 too in the tests that are the same for every map.
LEFT = {
    "float16": ("log_softmax", "entropy", "cross_entropy", "segments", "entmax", "family"),
    "bfloat16": ("family",),
}


def pytest_collection_modifyitems(items):
    for item in items:
        given = getattr(item, "callspec", None)
        for value in given.params.values() if given else ():
            name = value if isinstance(value, str) else getattr(value, "name", None)
            if isinstance(name, str) and item.path.stem.removeprefix("test_") in LEFT.get(name, ()):
                item.add_marker(pytest.mark.slow)
