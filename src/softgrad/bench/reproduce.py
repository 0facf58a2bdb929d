"""The article's experiment: three ways to the gradient of a softmax layer, and three questions.

Given what the layer put out and ∂L/∂output, ∂L/∂input by the dense Jacobian and a product, by the closed
form, and by `softgrad.softmax_vjp`: are the ways equal, are they what autograd finds, and what does each
cost?
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from .. import softmax, softmax_vjp
from ..checks import Array
from ..commands import machine
from ..commands.progress import Bar
from ..commands.words import BYTES, in_words
from ..formulas import softmax as formulas
from ..threads import get_num_threads, set_num_threads
from . import exact, judges, measure
from .measure import Spread

JACOBIAN = "Jacobian and product"
CLOSED_FORM = "closed form, NumPy"
SOFTGRAD = "softgrad.softmax_vjp"
INTO_OUT = "the same, into out="
AUTOGRAD = "PyTorch autograd"

LARGEST_JACOBIAN = 10**9  # bytes
LARGEST_INPUT = 2**22  # elements
EXACT = 2**16  # elements that are compared with the exact gradient; it takes some 2 µs for each

EQUAL = 16.0  # eps, up to which two gradients are called equal


@dataclass(frozen=True)
class Settings:
    """The article's, unless said otherwise."""

    batch: int = 32
    features: int = 512
    dtype: str = "float64"
    seed: int = 42
    quick: bool = False

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(ml_dtypes.bfloat16 if self.dtype == "bfloat16" else self.dtype)

    @property
    def eps(self) -> float:
        return float(ml_dtypes.finfo(self.numpy_dtype).eps)  # type: ignore[no-untyped-call]

    def jacobian_bytes(self, n: int) -> int:
        return self.batch * n * n * self.numpy_dtype.itemsize


@dataclass
class Way:
    """What was measured of one way."""

    name: str
    error_eps: float
    equal: bool
    seconds: Spread
    slower: Spread  # than softgrad, pair by pair
    peak_bytes: int


@dataclass(frozen=True)
class Check:
    """The comparison of softgrad with a judge."""

    judge: str
    columns: int
    difference_eps: float
    equal: bool


@dataclass(frozen=True)
class Point:
    """What one way takes at one n."""

    way: str
    n: int
    seconds: Spread
    peak_bytes: int


@dataclass
class Report:
    settings: Settings
    environment: dict[str, str | int]
    rows_checked: int
    ways: list[Way]
    check: Check
    left_out: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether softgrad's gradient is the exact one, and the judge's."""
        ours = [way.equal for way in self.ways if way.name in (SOFTGRAD, INTO_OUT)]
        return all(ours) and self.check.equal


def inputs(settings: Settings, features: int) -> tuple[Array, Array, Array]:
    """x, y = softmax(x) and ∂L/∂y: uniform random numbers in the article's order."""
    rng = np.random.default_rng(settings.seed)
    shape = settings.batch, features
    x = rng.random(shape).astype(settings.numpy_dtype)
    return x, softmax(x), rng.random(shape).astype(settings.numpy_dtype)


def ways(settings: Settings, y: Array, dy: Array) -> dict[str, Callable[[], Array]]:
    """The ways to ∂L/∂x; the one by the Jacobian only where that has a size to be built."""
    found: dict[str, Callable[[], Array]] = {
        CLOSED_FORM: lambda: formulas.vjp(y, dy, np),
        SOFTGRAD: lambda: softmax_vjp(y, dy),
    }
    if settings.jacobian_bytes(y.shape[-1]) > LARGEST_JACOBIAN:
        return found
    return {JACOBIAN: lambda: formulas.vjp_by_jacobian(y, dy, np), **found}


def judged(settings: Settings, x: Array, y: Array, dy: Array, dx: Array, torch: Any) -> Check:
    """Compare dx with what autograd finds, or the complex step if there is no PyTorch.

    These start from x and dx from y, which is rounded.  What that does to dx goes with the size of y∘dy,
    from which the mean is yet to be subtracted; so the difference is measured beside that.
    """
    judgement = judges.by_autograd(torch, x, dy) if torch else judges.by_complex_step(x, dy)
    at = judgement.columns
    given = judgement.dx, np.zeros_like(judgement.dx)
    terms = y[:, at].astype(np.float64) * dy[:, at].astype(np.float64)
    difference = exact.row_error(dx[:, at], given, settings.eps, beside=terms)
    return Check(judgement.judge, len(at), difference, difference <= EQUAL)


def experiment(settings: Settings, bar: Bar) -> Report:
    """The three questions at one size."""
    bar.phase("the exact gradient, in whole numbers")
    x, y, dy = inputs(settings, settings.features)
    rows = max(1, min(settings.batch, EXACT // settings.features))
    true = exact.vjp(y[:rows], dy[:rows])

    bar.phase("a judge's gradient")
    torch = judges.torch_if_installed()
    check = judged(settings, x, y, dy, softmax_vjp(y, dy), torch)

    calls: dict[str, Callable[[], Any]] = dict(ways(settings, y, dy))
    out = np.empty_like(dy)
    calls[INTO_OUT] = lambda: softmax_vjp(y, dy, out=out)
    errors = {name: exact.row_error(call()[:rows], true, settings.eps) for name, call in calls.items()}
    if torch:
        calls[AUTOGRAD] = judges.autograd(torch, x, dy)
        torch_y = torch.softmax(judges.tensor(torch, x[:rows]), -1).double().numpy()
        dx = calls[AUTOGRAD]()[:rows].double().numpy()
        errors[AUTOGRAD] = exact.row_error(dx, exact.vjp(torch_y, dy[:rows]), settings.eps)

    bar.phase("the time of each, in turns")
    rounds, budget = (5, 0.5) if settings.quick else (51, 8.0)
    samples = measure.interleaved(calls, rounds=rounds, budget=budget, part=bar.part)

    bar.phase("the memory of each")
    peaks = {name: measure.peak_memory(call) for name, call in calls.items() if name != AUTOGRAD}
    if torch:
        peaks[AUTOGRAD] = judges.peak_memory(torch, calls[AUTOGRAD])

    left_out = {}
    if JACOBIAN not in calls:
        size = in_words(settings.jacobian_bytes(settings.features), BYTES)
        left_out[JACOBIAN] = f"the Jacobian would take {size}; up to 1 GB is built"
    measured = [
        Way(
            name,
            errors[name],
            errors[name] <= EQUAL,
            measure.spread(samples[name]),
            measure.spread(measure.ratios(samples[name], samples[SOFTGRAD])),
            peaks[name],
        )
        for name in calls
    ]
    environment = machine.environment("numpy", "numba", "torch")
    return Report(settings, environment, rows, measured, check, left_out)


def sizes(settings: Settings) -> list[int]:
    """n from 8 in steps of √2, to the first whose Jacobian passes 1 GB (of 32 × n float64, 2048)."""
    found = [8]
    most = LARGEST_INPUT // settings.batch
    while settings.jacobian_bytes(found[-1]) <= LARGEST_JACOBIAN and found[-1] < most:
        found.append(round(8 * 2 ** (len(found) / 2)))
    return found[:: 4 if settings.quick else 1]


def sweep(settings: Settings, bar: Bar) -> list[Point]:
    """Time and memory of the article's ways against n."""
    points = []
    rounds, budget = (3, 0.2) if settings.quick else (31, 2.0)
    for n in sizes(settings):
        bar.phase(f"time and memory at n = {n}")
        _, y, dy = inputs(settings, n)
        calls = ways(settings, y, dy)
        measurement = functools.partial(
            measure.interleaved, calls, rounds=rounds, fewest=3, budget=budget, part=bar.part
        )
        samples, _ = measure.quietest(measurement, tries=1 if settings.quick else 3)
        for name, call in calls.items():
            points.append(Point(name, n, measure.spread(samples[name]), measure.peak_memory(call)))
    return points


def run(settings: Settings, with_sizes: bool = False) -> Report:
    """The experiment, and the sweep over n if wanted; all with one thread, softgrad as well as PyTorch."""
    threads = get_num_threads()
    torch = judges.torch_if_installed()
    torch_threads = torch.get_num_threads() if torch else 1
    set_num_threads(1)
    if torch:
        torch.set_num_threads(1)
    try:
        with Bar(4 + (len(sizes(settings)) if with_sizes else 0)) as bar:
            report = experiment(settings, bar)
            if with_sizes:
                report.points = sweep(settings, bar)
    finally:
        set_num_threads(threads)
        if torch:
            torch.set_num_threads(torch_threads)
    return report
