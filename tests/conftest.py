"""The same random cases in every run, no time limit for one (the first of a kind compiles its kernel), and
what is slow."""

import hypothesis
import pytest

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

# The old kernels take most of the time: each is compiled for each dtype.  The 16-bit types differ from
# float32 in how they are loaded and stored; what is left out here of softmax's relatives, and float64 where a
# map has a file of its own for it, `make test-all` has.  Of softmax nothing is left out.
RELATIVES = {"log_softmax", "entropy", "cross_entropy", "entmax", "family"}
LEFT = {
    "float16": RELATIVES | {"layout", "mutants", "operator", "jacobian", "gpu"},
    "bfloat16": RELATIVES,
    "float64": {"family"},
}


def pytest_collection_modifyitems(items):
    for item in items:
        given = getattr(item, "callspec", None)
        for value in given.params.values() if given else ():
            name = str(getattr(value, "name", value))
            if item.path.stem.removeprefix("test_") in LEFT.get(name, ()):
                item.add_marker(pytest.mark.slow)
