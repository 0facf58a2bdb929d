"""The examples in README.md and docs/ give what they show."""

import doctest
import pathlib

import numpy as np
import pytest
import torch

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "examples"), [("README.md", 14), ("docs/distributed.md", 8), ("docs/recipes.md", 59)]
)
def test_the_examples_give_what_is_shown(name, examples):
    torch.set_printoptions(profile="default")
    with np.printoptions():  # the example sets its own
        failed, attempted = doctest.testfile(str(ROOT / name), module_relative=False)
    torch.set_printoptions(profile="default")
    assert (failed, attempted) == (0, examples)
