"""Implementations side by side and beside the machine's limit: what `softgrad bench` runs.

One is timed only after the checks of `softgrad verify` found it sound, and after what it gives on the very
arrays that are timed was compared with the exact result.  All of a case, and the limit, are timed in turns.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import testing
from ..commands import machine
from ..commands.progress import Bar
from ..testing import judging
from ..verify import peers
from ..verify.loading import load
from . import implementations, judges, limits, measure
from .cases import Arrays, Case
from .implementations import OUT, OVER, LeftOut, Ready
from .measure import Spread
from .pinned import pinned

LONGEST = 2.0  # seconds that a call may take
PAUSE = 0.003  # seconds between samples of more than one thread
NOISY = 0.2  # quartiles of a ratio that are so far apart, beside the median, tell nothing
DISTURBED = 0.2  # processors that others kept busy
VERIFIED = 512  # the longest row that an implementation is verified on


@dataclass(frozen=True)
class Effort:
    """How many samples are taken: no more than fit into `budget` seconds, but `fewest` at least."""

    rounds: int
    fewest: int
    budget: float
    tries: int  # again, if others were busy meanwhile
    compiled: int = VERIFIED  # the longest row for what is compiled for each length


QUICK, FULL = Effort(9, 5, 0.5, 1, compiled=5), Effort(51, 9, 4.0, 2)


@dataclass(frozen=True)
class Settings:
    cases: Sequence[Case]
    peers: Sequence[str]
    effort: Effort = FULL


@dataclass
class Record:
    """One implementation on one case.  What is None was not measured, and `left_out` says why."""

    op: str
    shape: tuple[int, ...]
    axis: int
    dtype: str
    threads: int
    device: str
    implementation: str
    into: str  # a "new" array, "out" that is ready, or "over" its input
    seconds: Spread | None = None
    ratio: Spread | None = None  # its time beside softgrad's into the like
    bytes: int = 0  # that have to be moved
    limit_seconds: Spread | None = None  # what the machine needs for that
    limit_ratio: Spread | None = None  # the limit's time beside its own: 1 is as fast as memory
    peak_bytes: int | None = None
    error_eps: float | None = None  # the worst row's, in eps of its norm; of a forward in ulp
    noisy: bool = False
    others: float = 0.0  # processors that other processes kept busy meanwhile
    left_out: str = ""


@dataclass
class Comparison:
    environment: dict[str, str | int]
    quick: bool
    records: list[Record] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # implementations that are not here, and why


# --- whether it is sound -----------------------------------------------------------------------------


@dataclass
class Gate:
    """The checks of `softgrad verify`, at level sound: made once for each function and dtype."""

    effort: Effort
    found: dict[tuple[str, ...], str] = field(default_factory=dict)

    def objection(self, name: str, case: Case) -> str:
        """What speaks against timing it; "" if nothing does."""
        key = name, case.op, case.dtype, case.device
        if key not in self.found:
            self.found[key] = self.verify(name, case)
        return self.found[key]

    def verify(self, name: str, case: Case) -> str:
        peer = peers.PEERS[name]
        longest = self.effort.compiled if peer.arrays == "jax" or peer.compiler else VERIFIED
        try:
            function = load(name, what=case.what, map=case.map, device=case.device)
        except Exception as error:
            return told(error)
        findings = testing.run(
            case.what,
            function,
            map=case.map,
            dtypes=[case.dtype],
            max_n=min(longest, peer.max_n or longest),
        )
        failed = list(dict.fromkeys(finding.check for finding in findings if not finding.passed))
        return f"not sound: softgrad verify finds it wrong in {', '.join(failed)}" if failed else ""


def told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


# --- one case ----------------------------------------------------------------------------------------


@dataclass
class Row:
    """An implementation on its way to a record."""

    record: Record
    ready: Ready

    @property
    def name(self) -> str:
        return f"{self.record.implementation}, {self.record.into}"

    @property
    def limit(self) -> str:
        return OVER if self.record.into == OVER else OUT


def rows_of(
    case: Case, arguments: Arrays, names: Sequence[str], gate: Gate
) -> tuple[list[Row], list[Record]]:
    """What is to be timed, and what is not."""
    judge = case.judge(arguments)
    rows, left = [], []
    for name in names:
        for into in implementations.ways(name, case):
            record = Record(**dataclasses.asdict(case), implementation=name, into=into, bytes=case.moved)
            try:
                rows.append(tried(record, case, arguments, judge, gate))
            except LeftOut as why:
                record.left_out = str(why)
                left.append(record)
    return rows, left


def tried(record: Record, case: Case, arguments: Arrays, judge: judging.Case, gate: Gate) -> Row:
    """A row that was called: what it gives is right, and it takes not too long."""
    if objection := gate.objection(record.implementation, case):
        raise LeftOut(objection)
    try:
        ready = implementations.ready(record.implementation, record.into, case, arguments)
        ready.call()
        seconds = measure.timed(ready.call, 1, ready.before)
    except LeftOut:
        raise
    except Exception as error:
        raise LeftOut(told(error)) from None
    if seconds > LONGEST:
        raise LeftOut(f"a call takes {seconds:.1f} s; up to {LONGEST:g} s is measured")
    verdict = judging.compared(judge, tuple(map(case.rows, ready.result())))
    record.error_eps = verdict.eps
    if not verdict.passed:
        raise LeftOut(f"not sound: off by {verdict.worst:.3g} times what is allowed on these arrays")
    record.peak_bytes = ready.peak()
    return Row(record, ready)


def measured(
    case: Case, rows: list[Row], arguments: Arrays, effort: Effort, part: Callable[[float], None]
) -> None:
    """Time the rows and the limits in turns, and fill in their records."""
    roof = limits.on_cuda(case) if case.device == "cuda" else limits.on_cpu(case, arguments)
    roof = {into: limit for into, limit in roof.items() if any(row.limit == into for row in rows)}
    calls = {row.name: row.ready.call for row in rows} | {into: limit.call for into, limit in roof.items()}
    measurement = functools.partial(
        measure.interleaved,
        calls,
        rounds=effort.rounds,
        fewest=effort.fewest,
        budget=effort.budget,
        pause=PAUSE if case.threads > 1 else 0.0,
        before={row.name: row.ready.before for row in rows if row.ready.before is not None},
        part=part,
    )
    samples, others = measure.quietest(measurement, tries=effort.tries)
    ours = {row.record.into: row.name for row in rows if row.record.implementation == "softgrad"}
    for row in rows:
        record, own = row.record, samples[row.name]
        limit = [seconds / roof[row.limit].times for seconds in samples[row.limit]]
        record.seconds = measure.spread(own)
        record.limit_seconds = measure.spread(limit)
        record.limit_ratio = measure.spread(measure.ratios(limit, own))
        if record.into in ours:
            record.ratio = measure.spread(measure.ratios(own, samples[ours[record.into]]))
        alone = record.implementation == "softgrad" or record.ratio is None
        record.noisy = too_wide(record.seconds if alone else record.ratio)
        record.others = round(others, 3)


def too_wide(found: Spread | None) -> bool:
    return found is not None and found.q3 - found.q1 > NOISY * found.median


# --- all of them -------------------------------------------------------------------------------------


def run(settings: Settings, absent: dict[str, str], bar: Bar) -> Comparison:
    """Measure all cases; `bar` has a phase for each."""
    packages = {peers.PEERS[name].package for name in settings.peers} - {"softgrad", "numpy"} | {
        "torch",
        "jax",
    }
    environment = machine.environment("numpy", "numba", *sorted(packages))
    found = Comparison(environment, settings.effort == QUICK, absent=absent | lacking(settings))
    gate = Gate(settings.effort)
    libraries = {peers.PEERS[name].arrays for name in settings.peers}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of overflows in what others compute, and of what compilers think
        for number in dict.fromkeys(case.threads for case in settings.cases):
            with pinned(number, libraries):
                for case in settings.cases:
                    if case.threads == number:
                        found.records += records_of(case, settings.peers, settings.effort, gate, bar)
    return found


def records_of(case: Case, names: Sequence[str], effort: Effort, gate: Gate, bar: Bar) -> list[Record]:
    bar.phase(f"{case.name}: verifying")
    arguments = case.arguments()
    rows, left = rows_of(case, arguments, names, gate)
    bar.part(0, case.name)
    if rows:
        measured(case, rows, arguments, effort, bar.part)
    return [row.record for row in rows] + left


def lacking(settings: Settings) -> dict[str, str]:
    """What an implementation has not, of what is asked for, and why."""
    found = {}
    for name in settings.peers:
        lacks = dict.fromkeys(case.op for case in settings.cases if not implementations.ways(name, case))
        if lacks:
            found[name] = f"no {', no '.join(lacks)}: {peers.PEERS[name].lacks}"
    return found


# --- choices -----------------------------------------------------------------------------------------

SLOW_TO_COMPILE = "compiling takes longer than --quick should; name it in --peers"


def here(device: str, quick: bool) -> tuple[list[str], dict[str, str]]:
    """The implementations for a device that can run, and why others cannot."""
    names, absent = [], {}
    for name, peer in peers.PEERS.items():
        if not runs_on(peer, device):
            continue
        if reason := peers.why_not(peer):
            absent[name] = reason
        elif quick and peer.compiler:
            absent[name] = SLOW_TO_COMPILE
        else:
            names.append(name)
    return names, absent


def no_cuda() -> str:
    """Why there is no CUDA device; "" if there is one."""
    torch = judges.torch_if_installed()
    if torch is None:
        return "cuda needs PyTorch, which is not installed: pip install torch"
    return "" if torch.cuda.is_available() else "PyTorch finds no CUDA device here; there is cpu"


def runs_on(peer: peers.Peer, device: str) -> bool:
    return peer.device == device or (device == "cuda" and peer.arrays == "torch")


def named(names: Sequence[str], device: str) -> list[str]:
    """Those that were asked for, softgrad first; a ValueError says which cannot run."""
    for name in names:
        peer = peers.PEERS[name]
        if not runs_on(peer, device):
            raise ValueError(f"{name} does not run on {device}; give --device {peer.device}")
        if reason := peers.why_not(peer):
            others, _ = here(device, False)
            is_or_needs = "is " if reason.startswith("not") else ""
            raise ValueError(f"{name} {is_or_needs}{reason}; there are {', '.join(others)}")
    ours = ["softgrad"] if runs_on(peers.PEERS["softgrad"], device) else []
    return list(dict.fromkeys([*ours, *names]))
