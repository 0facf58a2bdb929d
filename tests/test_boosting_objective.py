"""The trees for the Brier score: their gradient against finite differences, and that they learn."""

import pathlib
import re
import subprocess
import sys

import boosting_objective as example
import numpy as np
import pytest

import softgrad


@pytest.fixture(scope="module")
def scores():
    """Raw scores from undecided to decided, for the right class and for a wrong one."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(200, example.CLASSES)) * np.geomspace(0.01, 10, 200)[:, None]


@pytest.fixture(scope="module")
def targets():
    return example.one_hot(np.random.default_rng(2).integers(0, example.CLASSES, 200))


def test_the_gradient_is_the_slope_of_the_loss(scores, targets):
    assert example.difference(scores, targets) <= example.TOLERANCE


WRONG = {
    "that of cross-entropy": lambda p, t: p - t,
    "not through the softmax": lambda p, t: 2 * (p - t),
    "the diagonal alone": lambda p, t: 2 * (p - t) * p * (1 - p),
    "without the mean": lambda p, t: 2 * (p - t) * p,
    "half": lambda p, t: softgrad.softmax_vjp(p, p - t),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_gradient_is_found(scores, targets, monkeypatch, wrong):
    monkeypatch.setattr(example, "gradient", lambda z, t: wrong(softgrad.softmax(z), t))
    assert example.difference(scores, targets) > 0.1


def test_the_diagonal_is_the_slope_of_the_gradient(scores, targets):
    h, steps = 1e-5, np.eye(example.CLASSES)
    slopes = [
        (example.gradient(scores + h * e, targets) - example.gradient(scores - h * e, targets)) @ e / (2 * h)
        for e in steps
    ]
    found = example.hessian_diagonal(scores, targets)
    np.testing.assert_allclose(found, np.stack(slopes, axis=-1), rtol=1e-6, atol=1e-9)
    assert (found < 0).any()  # so it needs a floor
    assert (found > example.curvature(scores, targets) * 0.999).any()


def test_the_curvature_is_at_least_that_of_gauss_and_newton(scores, targets):
    jacobian = softgrad.softmax_jacobian(softgrad.softmax(scores))
    gauss_newton = 2 * np.diagonal(jacobian @ jacobian, axis1=-2, axis2=-1)
    found = example.curvature(scores, targets)
    assert (found > 0).all()
    assert (found >= gauss_newton).all()
    # where J is its λ times a projection, and the second term is 0
    alike = example.curvature(np.zeros((1, example.CLASSES)), np.full((1, example.CLASSES), 0.1))
    np.testing.assert_allclose(alike, 2 * 0.1 * 0.1 * (1 - 0.1), rtol=1e-14)


def test_the_order_of_the_scores_in_memory_does_not_matter(scores, targets):
    """LightGBM's lie class by class."""
    by_class = np.asfortranarray(scores)
    np.testing.assert_allclose(
        example.gradient(by_class, targets), example.gradient(scores, targets), rtol=1e-12
    )
    right = example.curvature(scores, targets)
    np.testing.assert_allclose(example.curvature(by_class, targets), right, rtol=1e-12)


def test_the_loss_falls():
    train, test = example.digits(np.random.default_rng(3))
    told = []
    trees = example.brier(*train, 10, told.append)
    assert len(told) == 10
    assert told[0] == pytest.approx(0.9)  # 10 classes, all alike: 0.9² + 9·0.1²
    assert (np.diff(told) < 0).all()
    accuracy, score = example.quality(trees, *test)
    assert accuracy > 0.8
    assert score < 0.5


def test_the_script_reaches_its_accuracy():
    script = pathlib.Path(example.__file__)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    text = " ".join(run.stdout.split())
    ours, theirs = (float(share) for share in re.findall(r"│ ([\d.]+)% │", text))
    assert ours >= 95.0
    assert abs(ours - theirs) <= 2.0
    assert "they agree" in text


def test_too_little_training_is_no_success(capsys):
    assert example.main(["--rounds", "1"]) == 1
    assert "less than the 95%" in " ".join(capsys.readouterr().out.split())
