"""JAX's own tests of softmax and log_softmax, with softgrad's in their place.

    JAX_NN_TEST=…/jax/tests/nn_test.py python -m pytest tests/test_jax_nn.py

They come with JAX's sources, and need absl-py.  One of them asks how many arrays JAX keeps by its own rule.
"""

import os

import processes
import pytest

pytest.importorskip("jax")
NN_TEST = os.environ.get("JAX_NN_TEST", "")


@pytest.mark.skipif(not os.path.exists(NN_TEST), reason="JAX_NN_TEST names no file: JAX's sources have it")
def test_jax_nn():
    pytest.importorskip("absl")
    printed = processes.run(
        """
    import sys
    import jax.nn, pytest
    import softgrad.jax as sj

    def as_jax_has_it(function):
        return lambda x, axis=-1, where=None, initial=None: function(x, axis, where)

    jax.nn.softmax, jax.nn.log_softmax = as_jax_has_it(sj.softmax), as_jax_has_it(sj.log_softmax)
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-k", "oftmax and not GradFlag"]
    sys.exit(pytest.main([sys.argv[1], *options]))
    """,
        NN_TEST,
        JAX_PLATFORMS="cpu",
    )
    assert "9 passed" in printed
