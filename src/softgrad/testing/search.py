"""A search for rows on which a softmax vjp is far off: many kinds at random, then small changes of the worst.

Errors are in eps·(|dx*| + y·D) of an element: see `errors.product_error`.  A search starts from a seed, so
a row is found again.  benchmarks/search.py runs it for as long as it is told to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array
from . import oracle
from .errors import DType, product_error

Random = np.random.Generator
Vjp = Callable[[Array, Array], Array]

LENGTHS = (2, 3, 4, 5, 6, 8, 13, 17, 33, 63, 64, 65, 100, 127, 255, 257, 600, 1000)
ROWS = 24  # of one length, in a round
WORST = 4  # rows that are changed
CHANGED = 6  # new rows of each
STEPS = 4  # how often


@dataclass(frozen=True, eq=False)
class Found:
    """A row, and how far off it was."""

    error: float
    kind: str
    y: Array
    dy: Array

    def __str__(self) -> str:
        text = f"{self.error:.2f} on {self.kind}, n = {len(self.y)}, {self.y.dtype}"
        if len(self.y) > 8:
            return text
        return f"{text}: y = {self.y.tolist()}, dy = {self.dy.tolist()}"


# --- y, in float64: any positive numbers, which are divided by their sum -----------------------------


def equal(rng: Random, n: int) -> Any:
    """All equal, but for a few eps."""
    return 1 + rng.integers(-2, 3, n) * rng.choice([0, 2.0**-23, 2.0**-52])


def spread(rng: Random, n: int) -> Any:
    z: Array = rng.choice([0.1, 1, 3, 10, 25]) * rng.standard_normal(n)
    return np.exp(z - z.max())


def one_winner(rng: Random, n: int) -> Any:
    y = np.exp(-rng.uniform(0, 60) + rng.standard_normal(n))
    y[rng.integers(n)] = 1
    return y


def tied_winners(rng: Random, n: int) -> Any:
    """Some equal or nearly so, and the others tiny."""
    y = np.exp(-rng.choice([1, 5, 16, 30, 60]) * np.ones(n))
    k = rng.integers(1, n + 1)
    y[rng.permutation(n)[:k]] = 1 + rng.integers(-1, 2, k) * rng.choice([0, 2.0**-23, 2.0**-52])
    return y


def half(rng: Random, n: int) -> Any:
    """As a 16-bit type would have it: many equal, and some 0."""
    y = spread(rng, n)
    return (y / y.sum()).astype(np.float16).astype(np.float64)


WEIGHTS: dict[str, Callable[[Random, int], Any]] = {
    "equal": equal,
    "spread": spread,
    "one winner": one_winner,
    "tied winners": tied_winners,
    "two values": lambda rng, n: np.where(rng.random(n) < rng.random(), 1, np.exp(-rng.uniform(0, 40))),
    "tail": lambda rng, n: (1 + np.arange(n)) ** -rng.uniform(0.5, 8),
    "half": half,
}


# --- dy, for a y -------------------------------------------------------------------------------------


def outlier(rng: Random, y: Array) -> Any:
    """Where the most weight is."""
    dy = 10.0 ** -rng.uniform(0, 6) * rng.standard_normal(len(y))
    dy[y.argmax()] = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-2, 4)
    return dy


def two_values(rng: Random, y: Array) -> Any:
    return np.where(rng.random(len(y)) < rng.random(), 1, 1 + 10.0 ** -rng.uniform(0, 16))


def tied_winner(rng: Random, y: Array) -> Any:
    """The same for all that have weight."""
    return np.where(y > y.max() / 2, rng.standard_normal(), rng.standard_normal(len(y)))


GRADIENTS: dict[str, Callable[[Random, Array], Any]] = {
    "noise": lambda rng, y: rng.standard_normal(len(y)),
    "an outlier where y is largest": outlier,
    "an outlier": lambda rng, y: np.roll(outlier(rng, y), rng.integers(len(y))),
    "two values of dy": two_values,
    "tied where y is large": tied_winner,
    "heavy tails": lambda rng, y: np.clip(rng.standard_cauchy(len(y)), -1e8, 1e8),
    "positive": lambda rng, y: np.exp(rng.uniform(0, 4) * rng.standard_normal(len(y))),
    "as large as y is small": lambda rng, y: rng.standard_normal(len(y)) / np.maximum(y, 1e-10),
    "neighbouring numbers": lambda rng, y: 1 + rng.integers(-3, 4, len(y)) * rng.choice([2.0**-23, 2.0**-52]),
}


def draw(rng: Random, n: int, dtype: DType) -> tuple[str, Array, Array]:
    of_y, of_dy = str(rng.choice(list(WEIGHTS))), str(rng.choice(list(GRADIENTS)))
    y = WEIGHTS[of_y](rng, n)
    y = (y / (y.sum() or 1) * rng.choice([1, 1, 1, 0.75])).astype(dtype)
    dy = GRADIENTS[of_dy](rng, y.astype(np.float64))
    offset = rng.choice([0, 0, 1, -3, 10.0 ** rng.uniform(-1, 10)]) * max(float(np.median(np.abs(dy))), 1e-3)
    dy = (dy + offset) * 2.0 ** rng.integers(-40, 41)
    return f"{of_y}, {of_dy}, offset {offset:.2g}", y, dy.astype(dtype)


def change(rng: Random, y: Array, dy: Array) -> tuple[Array, Array]:
    """A row that is a little different."""
    y, dy = y.copy(), dy.copy()
    i, j = rng.integers(len(y), size=2)
    eps = np.finfo(y.dtype).eps
    match rng.integers(8):
        case 0:
            dy[i] *= 1 + eps * rng.integers(-4, 5)
        case 1:
            dy[i] = dy[j]
        case 2:
            dy += y.dtype.type(rng.standard_normal()) * dy[i]
        case 3:
            y[i] *= 1 + eps * rng.integers(-4, 5)
        case 4:
            y[i] = y[j]
        case 5:
            y[i] *= y.dtype.type(np.exp(rng.uniform(-8, 0)))
        case 6:
            dy[i] += y.dtype.type(rng.standard_normal()) * dy[j]
        case _:
            dy[:] = dy * (1 + eps * rng.integers(-1, 2, len(y)))
    return y, dy


# --- the search --------------------------------------------------------------------------------------


def compare(vjp: Vjp, rows: list[tuple[str, Array, Array]]) -> list[Found]:
    """Rows of one length, the worst first."""
    y, dy = (np.stack([row[k] for row in rows]) for k in (1, 2))
    with np.errstate(all="ignore"):
        exact = oracle.vjp(y, dy)
        errors = product_error(vjp(y.copy(), dy.copy()), y, exact)
    found = [Found(float(e), *row) for e, row in zip(errors, rows, strict=True)]
    return sorted(found, key=lambda one: -one.error)


def usable(y: Array, dy: Array) -> bool:
    """Nothing overflows, which is another question."""
    return bool((np.abs(dy) < np.finfo(dy.dtype).max / 16).all())


def search(vjp: Vjp, dtype: Any, seed: int) -> Iterator[Found]:
    """The worst row of each round, without end; `vjp(y, dy)` is asked of rows along the last axis.

    Parameters
    ----------
    vjp : callable
        Takes and returns arrays of shape ``(rows, n)``.
    dtype : dtype
        float32 or float64.
    seed : int
        Of the random numbers.
    """
    rng, kind = np.random.default_rng(seed), np.dtype(dtype)
    for n in itertools.cycle(LENGTHS):
        drawn = [draw(rng, n, kind) for _ in range(ROWS)]
        found = compare(vjp, [row for row in drawn if usable(*row[1:])])
        for _ in range(STEPS):
            rows = [(one.kind, *change(rng, one.y, one.dy)) for one in found[:WORST] * CHANGED]
            rows = [row for row in rows if usable(*row[1:])]
            found = sorted(found[:WORST] + compare(vjp, rows), key=lambda one: -one.error)
        yield found[0]
