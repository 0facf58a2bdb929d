"""What a check is made on: rows of logits and gradients in a dtype, and the arguments made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..checks import Array
from . import cases
from .cases import DType
from .measures import info
from .operations import Arrays, Operation


@dataclass(frozen=True, eq=False)
class Rows:
    """Arguments of shape (rows, n), and a word on each row."""

    arguments: Arrays
    labels: tuple[str, ...]
    repeated: int | None = None  # the rows that are made of these, one after the other again and again


def rounded_rows(operation: Operation, labels: list[str], x: Array, u: Array, v: Array) -> Rows:
    return Rows(operation.arguments(x, u, v), tuple(labels))


def hard(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    x, u = cases.logits(n, dtype, seed), cases.gradients(n, dtype, seed)
    labels = [f"logits {a}, gradient {b}" for a, b in cases.pairs(n)]
    return rounded_rows(operation, labels, x, u, np.roll(u, 7, axis=0))


def alike(operation: Operation, dtype: DType, n: int, seed: int, rows: int = 12) -> Rows:
    return rounded_rows(operation, ["plain"] * rows, *cases.alike(n, dtype, seed, rows))


def one_row(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    return alike(operation, dtype, n, seed, 1)


# n: how many rows; powers of two and odd numbers, and one array that any kernel does in several parts
MANY = {3: 4099, 10: 64, 33: 1025, 257: 2500}
DIFFERENT = 251  # of them; a prime, so that none comes again at the same place of a block


def many_rows(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    rows = MANY.get(n, 1025)
    made = alike(operation, dtype, n, seed, min(rows, DIFFERENT))
    return Rows(made.arguments, made.labels, rows)


def flat(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    x, u, v = cases.alike(n, dtype, seed, 3)
    return rounded_rows(operation, ["all logits equal"] * 3, x * 0 + dtype.type(2), u, v)


def one_gradient(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    """The same gradient for every row, as a sum over the rows has it."""
    x, u, v = cases.alike(n, dtype, seed, 12)
    u, v = (np.repeat(a[:1], len(x), axis=0) for a in (u, v))
    return rounded_rows(operation, ["one gradient for all rows, broadcast"] * len(x), x, u, v)


def any_size(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    """Gradients of all sizes: of a loss that is a mean over millions, of one that is scaled up."""
    powers = [share * info(dtype).maxexp // 8 for share in (-5, -3, -1, 1, 3, 5)]
    x, u, v = cases.alike(n, dtype, seed, len(powers))
    factors = np.array([2.0**power for power in powers])[:, None].astype(dtype)
    labels = [f"a gradient times 2^{power}" for power in powers]
    return rounded_rows(operation, labels, x, u * factors, v)


def crowd(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    return alike(operation, dtype, n, seed, 128)


def averaged(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    return alike(operation, dtype, n, seed, 512)


def constant(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    x, u = cases.logits(n, dtype, seed), cases.gradients(n, dtype, seed)
    values = [1.0, -100.0, 0.1, 12345.678]
    rows = [i for i, (_, gradient) in enumerate(cases.pairs(n)) if gradient in ("plain", "lognormal")]
    x = np.repeat(x[rows], len(values), axis=0)
    u = np.tile(np.array(values), len(rows))[:, None] * np.ones(n)
    labels = [f"logits {cases.pairs(n)[i][0]}, gradient {c} throughout" for i in rows for c in values]
    return rounded_rows(operation, labels, x, u.astype(dtype), u.astype(dtype))


def saturated(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    """One logit ahead of the others by ever more: y is 1 at last, and what is left is the others'."""
    ahead = (5.0, 12.0, 20.0, 30.0, 40.0, 80.0)
    x, u, v = cases.alike(n, np.dtype(np.float64), seed, len(ahead))
    x[:, n // 2] = x.max(axis=-1) + ahead
    labels = [f"one logit ahead by {a:g}" for a in ahead]
    return rounded_rows(operation, labels, *(a.astype(dtype) for a in (x, u, v)))


def masked(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    """Logits of −inf, and gradients there that are larger than the others."""
    x, u, v = cases.alike(n, dtype, seed, 12)
    gone = cases.numbers(x.size, "gone", seed=seed).reshape(x.shape) < 0
    gone[np.arange(len(x)), x.argmax(axis=-1)] = False
    x, u = np.where(gone, dtype.type(-np.inf), x), np.where(gone, 100 * u, u)
    return rounded_rows(operation, ["logits of −inf"] * len(x), x, u.astype(dtype), v)


def huge(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    largest = float(info(dtype).max) * 0.9
    z = cases.numbers(4 * n, "huge", seed=seed).reshape(4, n)
    place = np.arange(n) % 2
    x = np.stack([largest * (1 - 2 * place), 0 * z[1] - largest, 0 * z[2] + largest, np.sign(z[3]) * largest])
    x = x.astype(dtype)
    return rounded_rows(
        operation, ["logits near the largest number"] * 4, x, z.astype(dtype), z.astype(dtype)
    )


def empty(operation: Operation, dtype: DType, n: int, seed: int) -> Rows:
    x, u, v = cases.alike(n, dtype, seed, 3)
    y, *others = operation.arguments(x, u, v)
    y = y.copy()
    y[1] = operation.absent
    return Rows((y, *others), ("plain", "a row with nothing in it", "plain"))
