"""The same random cases in every run, and no time limit for one (the first of a kind compiles its kernel).
The code of kernels is kept for test_machine.py, and workers begin with different ones.
"""

import hypothesis
import pytest

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config):
    runs_tests = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
    if runs_tests and hasattr(config, "cache"):
        import machine_code  # and with it Numba, which whoever hands out the tests does not need

        machine_code.keep_in(config.cache.mkdir("llvm"))


def dtypes_of(item):
    given = getattr(item, "callspec", None)
    names = {str(getattr(value, "name", value)) for value in given.params.values()} if given else set()
    return names & {"float16", "bfloat16", "float32", "float64"}


def pytest_collection_modifyitems(items):
    """Each kernel is compiled for each dtype, and of two workers each begins with a half: the 16-bit types
    come first in the one, the others in the other."""
    narrow, wide, others = [], [], []
    for item in items:
        kind = others
        if names := dtypes_of(item):
            kind = narrow if names <= {"float16", "bfloat16"} else wide
        kind.append(item)
    half = max(0, len(items) // 2 - len(narrow))
    items[:] = [*narrow, *others[:half], *wide, *others[half:]]


@pytest.fixture
def number_of_threads():
    """`set_num_threads`; what was set before is set again at the end."""
    from softgrad import get_num_threads, set_num_threads

    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


@pytest.fixture(scope="session")
def ranks():
    """Four processes that are a group."""
    from ranks import Ranks

    started = Ranks(4)
    yield started
    started.close()
