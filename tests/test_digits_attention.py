"""The example in examples/: its derivatives, and that it learns."""

import pathlib
import re
import subprocess
import sys

import digits_attention as example
import numpy as np
import pytest

import softgrad


@pytest.fixture
def network():
    return example.Network(np.random.default_rng(1))


@pytest.fixture(scope="module")
def batch():
    (images, labels), _ = example.digits(np.random.default_rng(1))
    return images[: example.BATCH], labels[: example.BATCH]


class WrongSoftmax(softgrad.Softmax):
    """The layer with a backward pass of someone's mistake."""

    def __init__(self, right, wrong):
        super().__init__(axis=right.axis, scale=right.scale)
        self.wrong = wrong

    def backward(self, dy):
        return self.wrong(self.y, dy, self.scale)


WRONG = {
    "zero": lambda y, dy, scale: np.zeros_like(y),
    "the identity": lambda y, dy, scale: scale * dy,
    "the diagonal alone": lambda y, dy, scale: scale * y * (1 - y) * dy,
    "without the mean": lambda y, dy, scale: scale * y * dy,
    "the mean of dy instead": lambda y, dy, scale: scale * y * (dy - dy.mean(axis=-1, keepdims=True)),
    "without the scale": lambda y, dy, scale: softgrad.softmax_vjp(y, dy),
    "along another axis": lambda y, dy, scale: softgrad.softmax_vjp(y, dy, axis=-2, scale=scale),
}


def test_every_gradient_is_the_one_of_autograd(network, batch):
    pytest.importorskip("torch")
    found = example.differences(network, *batch)
    assert found.keys() == network.parameters.keys()
    # TOLERANCE is 1000 eps.  What rounding makes of it is some tens of eps: each of the ten products on the
    # way is a sum of up to 1024 terms, whose errors grow with the root of their number.
    assert max(found.values()) <= example.TOLERANCE, found


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_softmax_is_found(network, batch, wrong):
    pytest.importorskip("torch")
    network.attention.softmax = WrongSoftmax(network.attention.softmax, wrong)
    found = example.differences(network, *batch)
    # queries and keys get their gradients through the softmax alone
    assert min(found["attention.queries.W"], found["attention.keys.W"]) > 1e-3, found
    assert max(found.values()) > example.TOLERANCE


def test_the_gradient_is_the_slope_of_the_loss(network, batch):
    """⟨∂L/∂θ, v⟩ = (L(θ + hv) − L(θ − hv)) / 2h, for each parameter; PyTorch has no part in it."""
    images, labels = batch
    rng = np.random.default_rng(2)
    _, dlogits = example.cross_entropy(network.forward(images), labels)
    network.backward(dlogits)
    gradients = network.gradients
    # the difference quotient is off by h²L‴/6 and by 2·eps·L/2h, each about 1e-10 here
    h = 1e-5
    for name, parameter in network.parameters.items():
        v = rng.normal(size=parameter.shape)
        v /= np.linalg.norm(v)
        losses = []
        for step in (h, -h):
            kept = parameter.copy()
            parameter += step * v
            losses.append(example.cross_entropy(network.forward(images), labels)[0])
            parameter[...] = kept
        slope = (losses[0] - losses[1]) / (2 * h)
        error = abs(slope - np.vdot(gradients[name], v))
        assert error <= 1e-6 * np.linalg.norm(gradients[name]), name


def test_patches_are_the_parts_of_the_image():
    image = np.arange(64.0).reshape(1, 8, 8)
    patches = example.patches(image)
    assert patches.shape == (1, 16, 4)
    np.testing.assert_array_equal(patches[0, 0], [0, 1, 8, 9])
    np.testing.assert_array_equal(patches[0, 5], [18, 19, 26, 27])


def test_the_loss_falls(network):
    rng = np.random.default_rng(3)
    (images, labels), _ = example.digits(rng)
    told = []
    losses = example.train(network, images, labels, 4, rng, told.append)
    assert told == losses
    assert np.isfinite(losses).all()
    assert losses[0] < 2 * np.log(10)  # where it starts, before it has learnt anything: about log 10
    assert losses[-1] < 0.5 * losses[0]


def test_the_script_reaches_its_accuracy():
    script = pathlib.Path(example.__file__)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    text = " ".join(run.stdout.split())
    (unseen,) = re.findall(r"([\d.]+)% on the \d+ it has not", text)
    assert float(unseen) >= 95.0
    assert ("they agree" in text) != ("PyTorch is not installed" in text)


def test_too_little_training_is_no_success(capsys):
    assert example.main(["--epochs", "1"]) == 1
    assert "That is less than the 95%" in " ".join(capsys.readouterr().out.split())
