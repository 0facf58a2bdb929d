"""How long calls take, and how much memory, on a machine that is never quiet.

What is compared runs in turns within one loop, each sample right after one of every other, so that what
the machine does meanwhile falls on all of them; medians and quartiles say what came out.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

Call = Callable[[], object]
Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Spread:
    """Where the middle half of the samples lies."""

    median: float
    q1: float
    q3: float


def spread(samples: Sequence[float]) -> Spread:
    q1, median, q3 = np.quantile(np.asarray(samples), [0.25, 0.5, 0.75]).tolist()
    return Spread(median, q1, q3)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Pair by pair: samples with the same number were taken next to each other."""
    return [a / b for a, b in zip(above, below, strict=True)]


def timed(call: Call, number: int, before: Call | None = None) -> float:
    """Seconds per call, of `number` in a row; those of `before`, called before each, do not count."""
    if before is not None:
        seconds = 0.0
        for _ in range(number):
            before()
            start = time.perf_counter()
            call()
            seconds += time.perf_counter() - start
        return seconds / number
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def calibrated(call: Call, shortest: float, before: Call | None = None) -> int:
    """How many calls in a row last for `shortest` seconds."""
    number = 1
    while timed(call, number, before) * number < shortest:
        number *= 2
    return number


def interleaved(
    calls: Mapping[str, Call],
    *,
    rounds: int = 31,
    fewest: int = 5,
    budget: float = 3.0,
    shortest: float = 1e-3,
    pause: float = 0.0,
    before: Mapping[str, Call] = MappingProxyType({}),
    part: Callable[[float], None] = lambda share: None,
) -> Samples:
    """Samples of seconds per call, taken in turns, every other round in reverse.

    Parameters
    ----------
    calls
        What to time, by name.  Each is called before, so that nothing is timed that happens once.
    rounds, fewest, budget
        How many samples to take of each; no more than fit into `budget` seconds, but `fewest` at least.
    shortest
        A sample is as many calls in a row as last for this many seconds.
    pause
        Seconds to wait before each sample, then with one more call that is not timed: threads of the call
        before that still wait busily for work would otherwise take a processor from this one.
    before
        What is called, but not timed, before each call of that name: one that writes over its input needs
        that anew.
    part
        Is told what share of the rounds is done.
    """
    numbers = {}
    for name, call in calls.items():
        timed(call, 1, before.get(name))
        numbers[name] = calibrated(call, shortest, before.get(name))
    samples: Samples = {name: [] for name in calls}
    start = time.perf_counter()
    for i in range(rounds):
        if i >= fewest and time.perf_counter() - start > budget:
            break
        for name in list(calls) if i % 2 == 0 else reversed(list(calls)):
            if pause:
                time.sleep(pause)
                timed(calls[name], 1, before.get(name))
            samples[name].append(timed(calls[name], numbers[name], before.get(name)))
        part((i + 1) / rounds)
    return samples


def busy_seconds() -> float | None:
    """Processor time that others had since the machine started, all but this process; None if unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split(maxsplit=9)[1:9])
    everyone = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return everyone - time.process_time()


def quietest(
    measurement: Callable[[], Samples], tries: int = 3, enough: float = 0.05
) -> tuple[Samples, float]:
    """Measure once more if other processes were busy meanwhile, and take the quietest of so many tries.

    Returns
    -------
    samples
        What `measurement` gave.
    others : float
        How many processors others kept busy meanwhile, on the average.
    """
    found: list[tuple[float, Samples]] = []
    for _ in range(tries):
        before, start = busy_seconds(), time.perf_counter()
        samples = measurement()
        after, seconds = busy_seconds(), time.perf_counter() - start
        others = 0.0 if before is None or after is None else max(0.0, (after - before) / seconds)
        found.append((others, samples))
        if others <= enough:
            break
    others, samples = min(found, key=lambda pair: pair[0])
    return samples, others


def peak_memory(call: Call) -> int:
    """The most bytes that were in use at once during a call, beyond those in use before it.

    NumPy takes its arrays, and Numba the scratch memory of its kernels, through Python's allocators;
    tracemalloc counts every byte of both.  PyTorch does not: see `judges`.
    """
    call()
    tracemalloc.start()
    try:
        call()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
