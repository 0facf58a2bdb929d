"""The time the machine needs to move the bytes alone: no implementation can be faster.

A forward reads an array and writes one, as a copy does; a vjp reads two and writes one, as STREAM's triad
does.  In place, cache lines are written after they were read, and no others are fetched.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from .. import threads
from ..checks import Array
from .cases import ARRAYS, Case
from .timing import Call

ENOUGH = 1 << 23  # bytes for a call to move, or the time is that of the call itself

Loop = Callable[..., None]
compiled: Callable[[Loop], Loop] = numba.njit(nogil=True)


Limit = tuple[Call, float]  # a call, and how many times the time of one case it takes

# --- loops over whole numbers, which are added as fast whatever they are; each so many times ----------------


@compiled
def copy(times: int, a: Array, b: Array) -> None:
    for _ in range(times):
        for i in range(a.size):
            b[i] = a[i]


@compiled
def increase(times: int, a: Array) -> None:
    for t in range(times):
        for i in range(a.size):
            a[i] += t + 1


@compiled
def triad(times: int, a: Array, b: Array, c: Array) -> None:
    for t in range(times):
        for i in range(a.size):
            c[i] = a[i] + b[i] + t


@compiled
def triad_over(times: int, a: Array, b: Array) -> None:
    for _ in range(times):
        for i in range(a.size):
            b[i] += a[i]


# --- the limits of a case: into other memory ("out"), and over an input ("over") --------------------------


def passes(case: Case) -> float:
    """The double backward moves five arrays, the triad three."""
    return sum(ARRAYS[case.what]) / 3 if case.what == "double-backward" else 1.0


@functools.cache
def pool(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number)


def on_cpu(case: Case) -> dict[str, Limit]:
    a, b, c = (np.ones(max(1, case.nbytes // 8), np.int64) for _ in range(3))
    times, number = max(1, ENOUGH // a.nbytes), threads.get_num_threads()

    def limit(loop: Loop, *arrays: Array) -> Limit:
        shares = [np.array_split(array, number) for array in arrays]  # one for each thread
        once = functools.partial(loop, times)
        return lambda: list(pool(number).map(once, *shares)), times / passes(case)

    if case.what == "forward":
        return {"out": limit(copy, a, b), "over": limit(increase, a)}
    return {"out": limit(triad, a, b, c), "over": limit(triad_over, a, b)}


def on_cuda(case: Case) -> dict[str, Limit]:
    torch = importlib.import_module("torch")
    a, b, c = (torch.ones(max(1, case.nbytes // 4), device="cuda") for _ in range(3))
    times = max(1, 8 * ENOUGH // case.nbytes)

    def limit(kernel: Call) -> Limit:
        def call() -> None:
            for _ in range(times):
                kernel()
            torch.cuda.synchronize()

        return call, times / passes(case)

    if case.what == "forward":
        return {"out": limit(lambda: b.copy_(a)), "over": limit(lambda: b.add_(1))}
    return {"out": limit(lambda: torch.add(a, b, out=c)), "over": limit(lambda: b.add_(a))}
