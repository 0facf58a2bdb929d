"""The examples in README.md give what it shows."""

import doctest
import pathlib

import numpy as np

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_the_examples_give_what_is_shown():
    with np.printoptions():  # the example sets its own
        failed, attempted = doctest.testfile(str(README), module_relative=False)
    assert (failed, attempted) == (0, 14)
