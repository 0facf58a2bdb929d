"""Gradient-boosted trees that minimise the Brier score: a softmax in the middle of a custom objective.

LightGBM takes an objective as a function from raw scores z to the gradient and a diagonal Hessian of the
loss.  Here the loss of a row is L = ∑ (p_k − t_k)² with p = softmax(z) and t the one-hot target, so that the
gradient has to come back through the softmax:

    ∂L/∂p = 2 (p − t),   ∂L/∂z = softmax_vjp(p, ∂L/∂p)

    python examples/boosting_objective.py [--seed 0] [--rounds 60]

It trains on handwritten digits, prints the accuracy and the Brier score on images it has not seen beside
those of LightGBM's own multiclass objective, and compares the gradient with finite differences.  The exit
status is 0 if the accuracy is at least 95 % and the gradient agrees.
"""

import argparse
import time

import lightgbm
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits

import softgrad

CLASSES = 10
ENOUGH = 0.95  # accuracy on the test images

# How far the gradient may be from the difference quotients, ‖g − g′‖/‖g′‖, which are off by h²L‴/6 and by
# eps·L/h, about 1e-10 each.  A wrong derivative is off by about 1.
TOLERANCE, H = 1e-7, 1e-5

SETTINGS = {
    "num_class": CLASSES,
    "num_leaves": 15,
    "learning_rate": 0.1,
    # a second one gains little here, and where other processes keep the machine busy the two wait for each
    # other: 20 times slower was seen
    "num_threads": 1,
    "verbosity": -1,
    # each number in the sum is at most 1/2, and most are far below
    "min_sum_hessian_in_leaf": 1e-3,
}


# --- the objective ----------------------------------------------------------------------------------------


def one_hot(labels):
    """(n,) → (n, classes)"""
    return np.eye(CLASSES)[labels]


def losses(scores, targets):
    """L of each row."""
    return ((softgrad.softmax(scores) - targets) ** 2).sum(axis=-1)


def gradient(scores, targets):
    """∂L/∂z of each row."""
    p = softgrad.softmax(scores)
    return softgrad.softmax_vjp(p, 2 * (p - targets))


def hessian_diagonal(scores, targets):
    """∂²L/∂z_i² of each row: 2 is ∂²L/∂p_i²."""
    p = softgrad.softmax(scores)
    return softgrad.softmax_vjp_hessian_diagonal(p, 2 * (p - targets), np.full_like(p, 2))


def curvature(scores, targets):
    """A positive number for each score, which the tree divides the gradient by.

    With J = ∂p/∂z the Hessian of L is 2 J J and a term that may be negative, so its diagonal needs a floor.
    Without that term (Gauss and Newton) it is 2 ∑_j J_ij², which goes to 0 as p_i² does; the gradient goes as
    p_i, so the step to unlikely classes would have no bound.  But where no eigenvalue of J is above λ,
    v·J J v ≤ λ v·J v, thus

        2 ∑_j J_ij² ≤ 2 λ J_ii,

    which goes as p_i too, makes no step longer than Gauss and Newton's, and needs no matrix.
    """
    jacobian = softgrad.SoftmaxJacobian(softgrad.softmax(scores))
    floor = 2 * jacobian.max_eigenvalue_bound()[:, None] * jacobian.diagonal()
    return np.maximum(hessian_diagonal(scores, targets), floor)


# --- training ---------------------------------------------------------------------------------------------


def digits(rng):
    """(images, labels) to train with, and (images, labels) to test with, a fifth of the whole."""
    data = load_digits()
    order = rng.permutation(len(data.target))
    test, train = np.split(order, [len(order) // 5])
    return (data.data[train], data.target[train]), (data.data[test], data.target[test])


def brier(images, labels, rounds, report=lambda loss: None):
    """Trees for the mean of L; `report` is told of it in each round."""
    targets = one_hot(labels)

    def objective(scores, data):
        # LightGBM keeps the scores class by class, so these (n, classes) are not C-ordered: all the same
        report(losses(scores, targets).mean())
        return gradient(scores, targets), curvature(scores, targets)

    return lightgbm.train({**SETTINGS, "objective": objective}, lightgbm.Dataset(images, labels), rounds)


def built_in(images, labels, rounds):
    """Trees for the cross-entropy, LightGBM's own objective."""
    return lightgbm.train({**SETTINGS, "objective": "multiclass"}, lightgbm.Dataset(images, labels), rounds)


def quality(trees, images, labels):
    """The share of the images whose largest score is that of their label, and the mean of L."""
    scores = trees.predict(images, raw_score=True)
    return np.mean(scores.argmax(axis=-1) == labels), losses(scores, one_hot(labels)).mean()


# --- the gradient by finite differences -------------------------------------------------------------------


def by_differences(scores, targets):
    """(L(z + h e_k) − L(z − h e_k)) / 2h for each class k, in all rows at once"""
    steps = H * np.eye(CLASSES)
    return np.stack(
        [(losses(scores + step, targets) - losses(scores - step, targets)) / (2 * H) for step in steps],
        axis=-1,
    )


def difference(scores, targets):
    """‖g − g′‖/‖g′‖, g being our gradient and g′ the difference quotients."""
    expected = by_differences(scores, targets)
    return np.linalg.norm(gradient(scores, targets) - expected) / np.linalg.norm(expected)


# --- the command ------------------------------------------------------------------------------------------


def main(argv=None):
    """Train, test, compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the split into images to train and test with")
    parser.add_argument("--rounds", type=int, default=60, help="how many trees for each class")
    options = parser.parse_args(argv)

    console = Console()
    train, test = digits(np.random.default_rng(options.seed))
    console.print(
        f"Boosted trees for the Brier score on handwritten digits: {options.rounds} rounds of {CLASSES} "
        f"trees, {len(train[1])} images to train with, {len(test[1])} to test with, seed {options.seed}."
    )
    start = time.perf_counter()
    columns = "{task.description}", BarColumn(), "{task.fields[loss]}", TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{options.rounds} rounds", total=options.rounds, loss="")
        trees = brier(
            *train, options.rounds, lambda loss: progress.update(bar, advance=1, loss=f"{loss:.4f}")
        )
    console.print(f"Trained in {time.perf_counter() - start:.1f} s.")

    reached, score = quality(trees, *test)
    table = Table(
        "objective", "accuracy", "Brier score", title=f"On the {len(test[1])} images it has not seen"
    )
    table.add_row("Brier score, by softgrad", f"{reached:.1%}", f"{score:.4f}")
    others, their_score = quality(built_in(*train, options.rounds), *test)
    table.add_row("cross-entropy, LightGBM's own", f"{others:.1%}", f"{their_score:.4f}")
    console.print(table)

    found = difference(trees.predict(test[0], raw_score=True), one_hot(test[1]))
    agree = found <= TOLERANCE
    verdict = "[green]they agree[/green]" if agree else "[red]they do not agree[/red]"
    console.print(f"The gradient is {found:.1e} from finite differences, of its norm: {verdict}.")
    if reached < ENOUGH:
        console.print(f"[red]The accuracy is less than the {ENOUGH:.0%} these trees should reach.[/red]")
    return 0 if agree and reached >= ENOUGH else 1


if __name__ == "__main__":
    raise SystemExit(main())
