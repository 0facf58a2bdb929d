"""Softmax, the layer for networks whose passes are written by hand.  What it returns test_maps.py has."""

import numpy as np
import pytest

from softgrad import Entmax, Softmax, Sparsemax, softmax, softmax_vjp
from softgrad.testing import cases

X, DY = (cases.numbers(60, key).reshape(3, 4, 5) for key in ("x", "dy"))


def test_axis_may_be_given_by_position():
    np.testing.assert_array_equal(Softmax(0).forward(X), softmax(X, axis=0))


def test_backward_may_write_over_dy():
    layer, dy = Softmax(), DY.copy()
    y = layer.forward(X)
    np.testing.assert_array_equal(layer.backward(dy, out=dy), softmax_vjp(y, DY))


def test_backward_belongs_to_the_last_forward():
    layer = Softmax()
    layer.forward(X)
    y = layer.forward(2 * X)
    for _ in range(2):  # and may be called again
        np.testing.assert_array_equal(layer.backward(DY), softmax_vjp(y, DY))


def test_a_gradient_of_another_shape():
    layer = Softmax()
    layer.forward(X)
    with pytest.raises(ValueError, match="shape"):
        layer.backward(DY[0])


def test_it_keeps_y_and_nothing_else():
    layer = Softmax()
    x = X.copy()
    y = layer.forward(x)
    kept = [value for value in vars(layer).values() if isinstance(value, np.ndarray)]
    assert len(kept) == 1
    assert kept[0] is y
    assert not np.shares_memory(kept[0], x)
    layer.backward(DY)
    assert [value for value in vars(layer).values() if isinstance(value, np.ndarray)] == kept


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Softmax(), "Softmax(axis=-1)"),
        (Softmax(0, scale=0.5, empty="nan"), "Softmax(axis=0, scale=0.5, empty='nan')"),
        (Softmax(where=[True]), "Softmax(axis=-1, where=...)"),
        (Entmax(1.25, 0), "Entmax(alpha=1.25, axis=0)"),
        (Entmax(2), "Entmax(alpha=2.0, axis=-1)"),
        (Sparsemax(), "Sparsemax(axis=-1)"),
    ],
)
def test_repr(layer, text):
    assert repr(layer) == text
