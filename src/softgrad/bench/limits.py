"""The time the machine needs to move the bytes alone: no implementation can be faster.

A forward reads an array and writes one, as a copy does; a vjp reads two and writes one, as STREAM's triad
does.  In place, cache lines are written after they were read, and no others are fetched.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np

from .. import threads
from ..checks import Array
from .cases import ARRAYS, Arrays, Case
from .timing import Call

ENOUGH = 1 << 23  # bytes for a call to move, or the time is that of the call itself

Loop = Callable[..., None]
compiled: Callable[[Loop], Loop] = numba.njit(nogil=True)


@dataclass(frozen=True)
class Limit:
    """A call, and how many times the time of one case it takes."""

    call: Call
    times: float


# --- loops, over the words of the arrays from start to stop, so many times -----------------------------


@compiled
def copy(a: Array, b: Array, times: int, start: int, stop: int) -> None:
    a, b = a[start:stop], b[start:stop]
    for _ in range(times):
        for i in range(a.size):
            b[i] = a[i]


@compiled
def increase(a: Array, times: int, start: int, stop: int) -> None:
    a = a[start:stop]
    for t in range(times):
        for i in range(a.size):
            a[i] += t + 1


@compiled
def triad(a: Array, b: Array, c: Array, times: int, start: int, stop: int) -> None:
    a, b, c = a[start:stop], b[start:stop], c[start:stop]
    for t in range(times):
        for i in range(a.size):
            c[i] = a[i] + b[i] + t


@compiled
def triad_over(a: Array, b: Array, times: int, start: int, stop: int) -> None:
    a, b = a[start:stop], b[start:stop]
    for _ in range(times):
        for i in range(a.size):
            b[i] += a[i]


# --- the limits of a case: into other memory ("out"), and over an input ("over") --------------------------


def words(array: Array) -> Array:
    """The memory of an array as whole numbers of 8 bytes, which are added as fast whatever they are."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(flat) // 8 * 8
    return flat[:whole].view(np.int64) if whole else np.zeros(1, np.int64)


def passes(case: Case) -> float:
    """The double backward moves five arrays, the triad three."""
    return sum(ARRAYS[case.what]) / 3 if case.what == "double-backward" else 1.0


@functools.cache
def pool(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number)


def on_cpu(case: Case, arguments: Arrays) -> dict[str, Limit]:
    first, *others = map(words, arguments)
    out, over = np.empty_like(first), words(arguments[-1]).copy()
    times, number = max(1, ENOUGH // out.nbytes), threads.get_num_threads()
    edges = [len(out) * part // number for part in range(number + 1)]

    def limit(loop: Loop, *arrays: Array) -> Limit:
        def call() -> None:
            list(pool(number).map(lambda part: loop(*arrays, times, *part), pairwise(edges)))

        return Limit(call, times / passes(case))

    if case.what == "forward":
        return {"out": limit(copy, first, out), "over": limit(increase, over)}
    return {"out": limit(triad, first, others[0], out), "over": limit(triad_over, first, over)}


def on_cuda(case: Case) -> dict[str, Limit]:
    torch = importlib.import_module("torch")
    a, b, c = (torch.ones(max(1, case.nbytes // 4), device="cuda") for _ in range(3))
    times = max(1, 8 * ENOUGH // case.nbytes)

    def limit(kernel: Call) -> Limit:
        def call() -> None:
            for _ in range(times):
                kernel()
            torch.cuda.synchronize()

        return Limit(call, times / passes(case))

    if case.what == "forward":
        return {"out": limit(lambda: b.copy_(a)), "over": limit(lambda: b.add_(1))}
    return {"out": limit(lambda: torch.add(a, b, out=c)), "over": limit(lambda: b.add_(a))}
