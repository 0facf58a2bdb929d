"""The example in examples/: that it learns, that its gradients are right, and that a wrong one is found."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import softgrad
from softgrad.testing import check_vjp

jax = pytest.importorskip("jax")
pytest.importorskip("equinox")
example = pytest.importorskip("jax_attention")


def test_the_script_reaches_its_accuracy():
    done = subprocess.run(
        [sys.executable, pathlib.Path(example.__file__)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r"seen: ([\d.]+)%", done.stdout)[1]) >= 95


def test_its_softmax_backward():
    check_vjp(lambda y, dy: np.asarray(example.softmax_backward(y, dy)), dtypes=["float32"], max_n=17)


@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_backward_is_found(right, monkeypatch):
    if not right:
        monkeypatch.setattr(example, "softmax_backward", lambda y, dy: y * (1 - y) * dy)
    (images, labels), _ = example.digits(np.random.default_rng(0))
    model = example.Classifier(jax.random.key(0))
    gap = example.furthest(model, images[:64], labels[:64])
    assert (gap <= example.TOLERANCE) is right


def test_it_is_of_jax():
    y = softgrad.jax.softmax(np.ones(3, np.float32))
    assert isinstance(example.softmax_backward(y, y), jax.Array)
