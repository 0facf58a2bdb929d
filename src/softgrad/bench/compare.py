"""The run of `softgrad bench`: implementations side by side, and beside the machine's limit.

Before an implementation is timed, it passes the checks of `softgrad verify`, and its results for the timed
arrays are compared with the exact ones.  All implementations of a case, and the limit, are timed in turns.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import testing
from ..commands import machine
from ..commands.progress import Bar
from ..testing import verdicts
from ..verify import load, peers
from . import implementations, limits, memory, timing
from .cases import OPS, Arrays, Case
from .implementations import NEW, OUT, OVER, LeftOut, Ready
from .thread_limits import thread_limits
from .timing import Spread

LONGEST = 2.0  # seconds that a call may take
PAUSE = 0.003  # seconds between samples of more than one thread
NOISY = 0.2  # quartiles this far apart, beside the median, prove nothing
DISTURBED = 0.2  # processors that others kept busy
VERIFIED = 512  # the longest row that an implementation is verified on
VERIFIED_QUICKLY = 5  # with --quick, and compiled for each length
QUICK: dict[str, Any] = {"rounds": 9, "fewest": 5, "budget": 0.5}
FULL: dict[str, Any] = {"rounds": 51, "fewest": 9, "budget": 4.0}


@dataclass
class Record(Case):
    """One implementation on one case.  None: not measured, for the reason `left_out`."""

    implementation: str = "softgrad"
    into: str = NEW  # NEW, OUT or OVER
    seconds: Spread | None = None
    ratio: Spread | None = None  # its time beside softgrad's into the like
    bytes: int = 0  # to move
    limit_seconds: Spread | None = None  # the machine's time for that
    limit_ratio: Spread | None = None  # the limit's time beside its own: 1 is as fast as memory
    peak_bytes: int | None = None
    error_eps: float | None = None  # the worst row's, in eps of its norm; of a forward in ulp
    noisy: bool = False
    others: float = 0.0  # processors that other processes kept busy meanwhile
    left_out: str = ""

    @property
    def way(self) -> str:
        return f"{self.implementation}, {self.into}"

    def timed(self, own: Samples, limit: Samples, ours: Samples | None) -> None:
        """Keep the samples of seconds: its own, the machine's, and softgrad's into the like."""
        self.seconds, self.limit_seconds = timing.spread(own), timing.spread(limit)
        self.limit_ratio = timing.spread(limit, own)
        self.ratio = None if ours is None else timing.spread(own, ours)
        compared = None if self.implementation == "softgrad" else self.ratio
        self.noisy = (compared or self.seconds).wider_than(NOISY)


@dataclass
class Comparison:
    environment: dict[str, str | int]
    quick: bool
    records: list[Record] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # missing implementations, and why


Gate = Callable[[str, str, str, str], str]
Samples = Sequence[float]


def run(
    cases: Sequence[Case], names: Sequence[str], absent: dict[str, str], quick: bool, bar: Bar
) -> Comparison:
    """Measure the implementations of these names on all cases; `bar` has a phase for each case."""
    packages = {peers.PEERS[name].package for name in names} | {"torch", "jax"}
    environment = machine.environment("numpy", "numba", *sorted(packages - {"softgrad", "numpy"}))
    comparison = Comparison(environment, quick, absent=absent | missing_functions(names, cases))
    gate = functools.cache(functools.partial(objection, quick))
    libraries = {peers.PEERS[name].arrays for name in names}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # overflows of other libraries, and remarks of compilers
        for number in dict.fromkeys(case.threads for case in cases):
            with thread_limits(number, libraries):
                for case in cases:
                    if case.threads == number:
                        bar.phase(f"{case.name}: verifying")
                        comparison.records += measure(case, names, gate, QUICK if quick else FULL, bar)
    return comparison


def missing_functions(names: Sequence[str], cases: Sequence[Case]) -> dict[str, str]:
    """Which functions an implementation lacks, and why."""
    reasons = {}
    for name in names:
        lacks = dict.fromkeys(case.op for case in cases if not implementations.destinations(name, case))
        if lacks:
            reasons[name] = f"no {', no '.join(lacks)}: {peers.PEERS[name].lacks}"
    return reasons


def objection(quick: bool, name: str, op: str, dtype: str, device: str) -> str:
    """Why the checks of `softgrad verify` find an implementation not sound; "" if they find it sound."""
    peer, (map, what) = peers.PEERS[name], OPS[op]
    compiled = peer.arrays == "jax" or peer.compiler
    longest = VERIFIED_QUICKLY if quick and compiled else VERIFIED
    longest = min(longest, peer.max_n or longest)
    try:
        function = load(name, what=what, map=map, device=device)
    except Exception as error:
        return message(error)
    findings = testing.run(what, function, map=map, dtypes=[dtype], max_n=longest)
    failed = dict.fromkeys(finding.check for finding in findings if not finding.passed)
    return f"not sound: softgrad verify finds it wrong in {', '.join(failed)}" if failed else ""


def message(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


# --- one case ----------------------------------------------------------------------------------------


def measure(case: Case, names: Sequence[str], gate: Gate, rounds: dict[str, Any], bar: Bar) -> list[Record]:
    """A record for each implementation and place to write to, with the reason if it is not timed."""
    arguments = case.arguments()
    reference = case.reference(arguments)
    records, calls = [], {}
    for name in names:
        for into in implementations.destinations(name, case):
            record = Record(**dataclasses.asdict(case), implementation=name, into=into, bytes=case.moved)
            records.append(record)
            try:
                calls[record.way] = try_once(record, arguments, reference, gate)
            except LeftOut as why:
                record.left_out = str(why)
    bar.part(0, case.name)
    timed = [record for record in records if record.way in calls]
    if timed:
        time_in_turns(case, timed, calls, rounds | {"part": bar.part})
    return records


def try_once(record: Record, arguments: Arrays, reference: verdicts.Case, gate: Gate) -> Ready:
    """The implementation, once called: its result is right, and it takes not too long."""
    if reason := gate(record.implementation, record.op, record.dtype, record.device):
        raise LeftOut(reason)
    try:
        ready = implementations.ready(record.implementation, record.into, record, arguments)
        ready.call()
        seconds = timing.seconds_per_call(ready.call, 1, ready.before)
    except LeftOut:
        raise
    except Exception as error:
        raise LeftOut(message(error)) from None
    if seconds > LONGEST:
        raise LeftOut(f"a call takes {seconds:.1f} s; up to {LONGEST:g} s is measured")
    verdict = verdicts.compared(reference, tuple(map(record.rows, ready.result())))
    record.error_eps = verdict.eps
    if not verdict.passed:
        raise LeftOut(f"not sound: off by {verdict.worst:.3g} times what is allowed on these arrays")
    record.peak_bytes = ready.peak()
    return ready


def time_in_turns(
    case: Case, timed: Sequence[Record], calls: dict[str, Ready], rounds: dict[str, Any]
) -> None:
    """Time implementations and limits, and fill in the records."""
    every = limits.on_cuda(case) if case.device == "cuda" else limits.on_cpu(case)
    # a call into a new array has the limit of one into a ready array
    used = {record.way: OVER if record.into == OVER else OUT for record in timed}
    busy = timing.other_processes()
    samples = timing.interleaved(
        {way: calls[way].call for way in used} | {name: every[name][0] for name in used.values()},
        pause=PAUSE if case.threads > 1 else 0.0,
        before={way: calls[way].before for way in used},
        **rounds,
    )
    others = round(busy(), 3)
    for record in timed:
        name = used[record.way]
        limit = [seconds / every[name][1] for seconds in samples[name]]
        record.timed(samples[record.way], limit, samples.get(f"softgrad, {record.into}"))
        record.others = others


# --- choices -----------------------------------------------------------------------------------------

SLOW_TO_COMPILE = "compiling takes longer than --quick should; name it in --peers"


def runnable(device: str, quick: bool) -> tuple[list[str], dict[str, str]]:
    """The implementations for a device that can run, and why others cannot."""
    reasons = {
        name: peers.why_not(peer) or SLOW_TO_COMPILE * (quick and peer.compiler)
        for name, peer in peers.PEERS.items()
        if runs_on(peer, device)
    }
    absent = {name: reason for name, reason in reasons.items() if reason}
    return [name for name in reasons if name not in absent], absent


def select(names: Sequence[str], device: str) -> list[str]:
    """These implementations, softgrad first; a ValueError says which cannot run."""
    here, absent = runnable(device, False)
    for name in names:
        if name in absent:
            is_or_needs = "is " if absent[name].startswith("not") else ""
            raise ValueError(f"{name} {is_or_needs}{absent[name]}; there are {', '.join(here)}")
        if name not in here:
            raise ValueError(f"{name} does not run on {device}; give --device {peers.PEERS[name].device}")
    return [name for name in dict.fromkeys(["softgrad", *names]) if name in here]


def runs_on(peer: peers.Peer, device: str) -> bool:
    return peer.device == device or (device == "cuda" and peer.arrays == "torch")


def no_cuda() -> str:
    """Why there is no CUDA device; "" if there is one."""
    torch = memory.torch_if_installed()
    if torch is None:
        return "cuda needs PyTorch, which is not installed: pip install torch"
    return "" if torch.cuda.is_available() else "PyTorch finds no CUDA device here; there is cpu"
