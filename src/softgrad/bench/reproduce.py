"""The article's experiment: three ways to the gradient of a softmax layer, and three questions.

Given the layer's output and ∂L/∂output, ∂L/∂input by the dense Jacobian and a product, by the closed form,
and by `softgrad.softmax_vjp`: are the ways equal, does autograd agree, and what does each cost?  The ways are
implementations of `softgrad bench`, on the article's arrays, with one thread.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from ..checks import Array
from ..commands import machine
from ..commands import report as reports
from ..commands.progress import Bar
from ..commands.units import BYTES, SECONDS, digits, with_unit
from ..testing import convert, oracle, verdicts
from ..testing.errors import eps, norm
from ..verify.peers import softgrad_function
from . import implementations, memory, timing
from .cases import Arrays, Case
from .implementations import LARGEST_JACOBIAN, NEW, OUT, LeftOut, Ready
from .report import environment, quartiles
from .thread_limits import thread_limits
from .timing import Spread

JACOBIAN = "Jacobian and product"
CLOSED_FORM = "closed form, NumPy"
SOFTGRAD = "softgrad.softmax_vjp"
INTO_OUT = "the same, into out="
AUTOGRAD = "PyTorch autograd"

# The implementation of each way, and where it writes to; a plot has the first three
WAYS = {
    JACOBIAN: ("jacobian", NEW),
    CLOSED_FORM: ("numpy", NEW),
    SOFTGRAD: ("softgrad", NEW),
    INTO_OUT: ("softgrad", OUT),
}
PLOTTED = JACOBIAN, CLOSED_FORM, SOFTGRAD

LARGEST_INPUT = 2**22  # elements
EQUAL = 16.0  # eps, up to which two gradients are called equal


@dataclass(frozen=True)
class Settings:
    """The article's, unless others are given."""

    batch: int = 32
    features: int = 512
    dtype: str = "float64"
    seed: int = 42
    quick: bool = False

    def case(self, n: int) -> Case:
        return Case("softmax_vjp", (self.batch, n), -1, self.dtype, threads=1)


@dataclass
class Way:
    """One way at the experiment's size."""

    name: str
    error_eps: float
    equal: bool
    seconds: Spread
    slower: Spread  # than softgrad, pair by pair
    peak_bytes: int


@dataclass(frozen=True)
class Check:
    """The comparison of softgrad with autograd, or another judge."""

    judge: str
    columns: int
    difference_eps: float
    equal: bool


@dataclass(frozen=True)
class Point:
    """One way at one n."""

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


# --- the experiment ----------------------------------------------------------------------------------


def run(settings: Settings, with_sizes: bool = False) -> Report:
    """The experiment, and the sweep over n if wanted."""
    lengths = sizes(settings) if with_sizes else []
    with thread_limits(1, {"torch"}, pin=False), Bar(2 + len(lengths)) as bar:
        report = experiment(settings, bar)
        for n in lengths:
            bar.phase(f"time and memory at n = {n}")
            ready, _ = ways(PLOTTED, settings.case(n), inputs(settings, n)[1:])
            rounds = {"rounds": 3, "budget": 0.2} if settings.quick else {"rounds": 31, "budget": 2.0}
            samples = in_turns(ready, bar, fewest=3, **rounds)
            report.points += [Point(w, n, timing.spread(samples[w]), ready[w].peak()) for w in ready]
    return report


def inputs(settings: Settings, n: int) -> Arrays:
    """x, y = softmax(x) and ∂L/∂y: uniform random numbers in the article's order."""
    rng = np.random.default_rng(settings.seed)
    x = rng.random((settings.batch, n)).astype(settings.dtype)
    return x, softgrad_function("softmax", "forward")(x), rng.random(x.shape).astype(settings.dtype)


def ways(names: Iterable[str], case: Case, arguments: Arrays) -> tuple[dict[str, Ready], dict[str, str]]:
    """The ways ready to call, and the reasons of those left out."""
    ready, left_out = {}, {}
    for name in names:
        try:
            ready[name] = implementations.ready(*WAYS[name], case, arguments)
        except LeftOut as why:
            left_out[name] = str(why)
    return ready, left_out


def in_turns(ready: Mapping[str, Ready], bar: Bar, **rounds: Any) -> timing.Samples:
    return timing.interleaved({name: way.call for name, way in ready.items()}, part=bar.part, **rounds)


def autograd(x: Array, dy: Array) -> tuple[Ready, Array] | None:
    """PyTorch's backward pass through a softmax of x, and its y; None without PyTorch."""
    torch = memory.torch_if_installed()
    if torch is None:
        return None
    to, back = convert.LIBRARIES["torch"]("cpu")
    leaf = to(x).requires_grad_()
    y = torch.softmax(leaf, -1)
    call = functools.partial(torch.autograd.grad, y, leaf, to(dy), retain_graph=True)
    return Ready(call, memory.peak_of_torch, back=back), back(y)


def experiment(settings: Settings, bar: Bar) -> Report:
    """The three questions at one size."""
    bar.phase("the exact gradient")
    versions = machine.environment("numpy", "numba", "torch")
    case = settings.case(settings.features)
    x, y, dy = inputs(settings, settings.features)
    ready, left_out = ways(WAYS, case, (y, dy))
    given = dict.fromkeys(ready, y)
    if by_torch := autograd(x, dy):
        ready[AUTOGRAD], given[AUTOGRAD] = by_torch
    results = {name: way.result()[0] for name, way in ready.items()}
    bar.phase("the time of each, in turns")
    rounds = {"rounds": 5, "budget": 0.5} if settings.quick else {"rounds": 51, "budget": 8.0}
    samples = in_turns(ready, bar, **rounds)
    measured = []
    for name, way in ready.items():
        error = verdicts.compared(case.reference((given[name], dy)), (case.rows(results[name]),)).eps
        seconds, slower = timing.spread(samples[name]), timing.spread(samples[name], samples[SOFTGRAD])
        measured.append(Way(name, error, error <= EQUAL, seconds, slower, way.peak()))
    return Report(settings, versions, len(case.rows(y)), measured, check(x, y, dy, results), left_out)


def check(x: Array, y: Array, dy: Array, results: Mapping[str, Array]) -> Check:
    """Compare softgrad with autograd; without PyTorch, with the derivative of softmax along dy (J = Jᵀ).

    These start from x and softgrad from y, which is rounded.  The effect on dx goes with the size of y∘dy,
    from which the mean is yet to be subtracted; so the difference is measured beside that.
    """
    if AUTOGRAD in results:
        judge, other = f"PyTorch {memory.torch_if_installed().__version__} autograd", results[AUTOGRAD]
    else:
        judge, other = "the complex-step derivative", oracle.softmax_jvp_by_complex_step(x, dy)
    ours, other, y, dy = (a.astype(np.float64) for a in (results[SOFTGRAD], other, y, dy))
    beside = norm(y * dy)
    difference = float((norm(ours - other) / np.where(beside == 0, 1, beside)).max() / eps(x.dtype))
    return Check(judge, x.shape[-1], difference, difference <= EQUAL)


def sizes(settings: Settings) -> list[int]:
    """n from 8 in steps of √2, to the first whose Jacobian passes 1 GB (of 32 × n float64, 2048)."""
    lengths = [8]
    most = LARGEST_INPUT // settings.batch
    while settings.case(lengths[-1]).jacobian_bytes <= LARGEST_JACOBIAN and lengths[-1] < most:
        lengths.append(round(8 * 2 ** (len(lengths) / 2)))
    return lengths[:: 4 if settings.quick else 1]


# --- the report --------------------------------------------------------------------------------------


def table(report: Report) -> Table:
    case, seed = report.settings.case(report.settings.features), report.settings.seed
    title = f"∂L/∂x of a softmax layer, {case.size} {case.dtype}, seed {seed}"
    result = Table("way", title=title, title_style="bold")
    for head in ("error,\neps", "time,\nmedian", "quartiles", "×", "peak\nmemory"):
        result.add_column(head, justify="right", no_wrap=True)
    for way in report.ways:
        result.add_row(
            way.name,
            f"{way.error_eps:.2g}" if way.equal else f"[red]{way.error_eps:.2g}[/red]",
            with_unit(way.seconds.median, SECONDS),
            quartiles(way.seconds),
            digits(way.slower.median),
            with_unit(way.peak_bytes, BYTES),
            style="bold" if way.name == SOFTGRAD else "",
        )
    return result


def answers(report: Report) -> list[str]:
    """The article's three questions, answered in sentences."""
    settings, check = report.settings, report.check
    unequal = [way.name for way in report.ways if not way.equal]
    rows = "" if report.rows_checked == settings.batch else f" (of {report.rows_checked} rows)"
    missing = "" if check.judge.startswith("PyTorch") else " (PyTorch is not installed)"
    lines = [
        f"Are the ways equal? {'No: not ' + ', '.join(unequal) if unequal else 'Yes'}. "
        f"The errors are the largest of a row against the exact gradient{rows}; "
        f"up to {EQUAL:.0f} eps counts as equal.",
        *(f"Left out: {name}, since {reason}." for name, reason in report.left_out.items()),
        f"Is softgrad's gradient that of {check.judge}{missing}? {'Yes' if check.equal else 'No'}: "
        f"they differ by {check.difference_eps:.2g} eps of y∘∂L/∂y.",
        "× is how many times slower than softgrad.softmax_vjp; memory is the most in use at once beyond "
        "the inputs, as traced; one thread.",
    ]
    if dataclasses.replace(settings, quick=False) == Settings():
        lines.append("The article measured 65.1 ms by the Jacobian and 31.9 µs by the closed form: 2000 ×.")
    return lines


def parts(report: Report) -> list[ConsoleRenderable]:
    return [table(report), *map(Text, answers(report)), environment(report.environment)]


def as_json(report: Report) -> str:
    return reports.as_json({**dataclasses.asdict(report), "passed": report.passed})
