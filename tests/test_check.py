"""softgrad.testing.check: any convention, under pytest in five lines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softgrad.testing import check


class Layer:
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.out = e / e.sum(axis=1, keepdims=True)
        return self.out

    def backward(self, dout):
        return self.out * (dout - (self.out * dout).sum(axis=1, keepdims=True))


class Elementwise(Layer):
    def backward(self, dout):
        return self.out * (1 - self.out) * dout


def columns(A, dA):
    return A * (dA - (A * dA).sum(axis=0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer(dtype):
    check(Layer, dtypes=[dtype], max_n=33)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_layer_with_hypothesis(seed):
    check(Layer(), seed=seed, dtypes="float32", max_n=9)


def test_the_forward_of_a_layer_errs_too():
    """With the bounds of functions of y this seed is 1.2 times what is allowed."""
    check(Layer, seed=32768, dtypes="float32", max_n=9)


def test_options():
    check(columns, axis=0, max_n=9)
    check(Layer, what="forward", max_n=9)
    check(lambda a, b: columns(b, a), args="dy,y", axis="0", max_n=9)
    with pytest.raises(ValueError, match="give the axis that is meant"):
        check(columns, max_n=9)
    with pytest.raises(ValueError, match="level tight is for functions of y"):
        check(Layer, level="tight", max_n=9)
    with pytest.raises(TypeError, match="levels"):
        check(Layer, levels="tight")


def test_a_wrong_layer(capsys):
    with pytest.raises(AssertionError) as error:
        check(Elementwise, max_n=9)
    message = str(error.value)
    assert message.startswith("Elementwise: elementwise y(1−y)∘dy: that is the diagonal")
    assert "right: dx = y * (dy - " in message.splitlines()[0]
    code = message.partition("to reproduce:\n")[2]
    exec("\n".join(line.strip() for line in code.splitlines()), {"Elementwise": Elementwise})
    assert "Verdict(passed=False" in capsys.readouterr().out
