"""examples/: trained by four processes, each example has the curve of one process."""

import numpy as np
import pytest
import sequence_parallel_attention
import torch
import vocabulary_parallel
from ranks import group

EXAMPLES = {"vocabulary": vocabulary_parallel, "attention": sequence_parallel_attention}
STEPS = 30


def trained(name):
    return EXAMPLES[name].train(group(4), STEPS, torch.float64)


@pytest.mark.parametrize("name", EXAMPLES)
def test_four_processes_train_as_one(ranks, name):
    alone = EXAMPLES[name].train(None, STEPS, torch.float64)
    assert alone[-1] < 0.8 * alone[0]
    first, *others = ranks(trained, name)
    assert others == [first] * 3
    np.testing.assert_allclose(first, alone, rtol=1e-9)
