"""The time of calls, on a machine that is never quiet.

Calls to compare run in turns within one loop, so that the machine's other work falls on all of them; the
result is the median, with the quartiles.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

Call = Callable[[], object]
Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Spread:
    """Where the middle half of the samples lies."""

    median: float
    q1: float
    q3: float

    def wider_than(self, share: float) -> bool:
        """Whether the quartiles are further apart than this share of the median."""
        return self.q3 - self.q1 > share * self.median


def spread(samples: Sequence[float], beside: Sequence[float] | None = None) -> Spread:
    """Of the samples, or of their ratios to samples that were taken next to them, pair by pair."""
    values = np.asarray(samples) / (1.0 if beside is None else np.asarray(beside))
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Spread(median, q1, q3)


def seconds_per_call(call: Call, number: int, before: Call | None = None) -> float:
    """Seconds per call, of `number` in a row; those of `before`, called before each, do not count."""
    if before is not None:
        seconds = 0.0
        for _ in range(number):
            before()
            seconds += seconds_per_call(call, 1)
        return seconds / number
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def calls_in(call: Call, shortest: float, before: Call | None = None) -> int:
    """How many calls in a row last for `shortest` seconds."""
    number = 1
    while seconds_per_call(call, number, before) * number < shortest:
        number *= 2
    return number


def in_turns(
    samplers: Mapping[str, Callable[[], float]],
    *,
    rounds: int = 31,
    fewest: int = 5,
    budget: float = 3.0,
    part: Callable[[float], None] = lambda share: None,
) -> Samples:
    """A sample of each in every round, every other round in reverse.

    There are `rounds`, or as many as fit into `budget` seconds, but `fewest` at least; after each, `part` is
    called with the share of the rounds that is done.
    """
    samples: Samples = {name: [] for name in samplers}
    start = time.perf_counter()
    for i in range(rounds):
        if i >= fewest and time.perf_counter() - start > budget:
            break
        for name in list(samplers) if i % 2 == 0 else reversed(list(samplers)):
            samples[name].append(samplers[name]())
        part((i + 1) / rounds)
    return samples


def interleaved(
    calls: Mapping[str, Call],
    *,
    shortest: float = 1e-3,
    pause: float = 0.0,
    before: Mapping[str, Call | None] = MappingProxyType({}),
    **rounds: Any,
) -> Samples:
    """Samples of seconds per call, taken in turns.

    Parameters
    ----------
    calls
        The calls by name.  A first call of each is not timed.
    shortest
        A sample is as many calls in a row as last for this many seconds.
    pause
        Seconds to wait before each sample, then with one more call that is not timed: threads of the call
        before that still wait busily for work would otherwise take a processor from this one.
    before
        By name, a call to make before each call and not to time: restores an input that is overwritten.
    **rounds
        The options of `in_turns`: rounds, fewest, budget, part.
    """

    def sampler(call: Call, before: Call | None) -> Callable[[], float]:
        seconds_per_call(call, 1, before)
        number = calls_in(call, shortest, before)

        def sample() -> float:
            if pause:
                time.sleep(pause)
                seconds_per_call(call, 1, before)
            return seconds_per_call(call, number, before)

        return sample

    return in_turns({name: sampler(call, before.get(name)) for name, call in calls.items()}, **rounds)


def other_processes() -> Callable[[], float]:
    """Tells how many processors other processes kept busy, on the average, since this call."""
    start, before = time.perf_counter(), seconds_of_others()
    return lambda: max(0.0, (seconds_of_others() - before) / (time.perf_counter() - start))


def seconds_of_others() -> float:
    """Processor time that they had since the machine started; 0 where nothing tells."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split(maxsplit=9)[1:9])
    everyone = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return everyone - time.process_time()
