"""The examples in README.md and docs/ give what they show."""

import doctest
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(("name", "examples"), [("README.md", 14), ("docs/distributed.md", 8)])
def test_the_examples_give_what_is_shown(name, examples):
    with np.printoptions():  # the example sets its own
        failed, attempted = doctest.testfile(str(ROOT / name), module_relative=False)
    assert (failed, attempted) == (0, examples)
