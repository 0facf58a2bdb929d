"""What the machine needs to move the bytes, and do nothing with them: no implementation can be faster.

A forward reads an array and writes one, as a copy does; a vjp reads two and writes one, as STREAM's triad
does.  What writes over an input writes to lines that it has read, and spares the machine fetching others.
"""

from __future__ import annotations

import functools
import importlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from .. import threads
from ..checks import Array
from .cases import ARRAYS, Arrays, Case
from .measure import Call

ENOUGH = 1 << 23  # bytes that a call should move at least, or the call itself is what takes the time


@dataclass(frozen=True)
class Limit:
    """A call, and how many times the time of one case it takes."""

    call: Call
    times: float


# --- loops, over the words of the arrays from start to stop, so many times -----------------------------


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def copy(a: Array, b: Array, times: int, start: int, stop: int) -> bool:
    a, b = a[start:stop], b[start:stop]
    for _ in range(times):
        for i in range(a.size):
            b[i] = a[i]
    return False


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def increase(a: Array, times: int, start: int, stop: int) -> bool:
    a = a[start:stop]
    for t in range(times):
        for i in range(a.size):
            a[i] += t + 1
    return False


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def triad(a: Array, b: Array, c: Array, times: int, start: int, stop: int) -> bool:
    a, b, c = a[start:stop], b[start:stop], c[start:stop]
    for t in range(times):
        for i in range(a.size):
            c[i] = a[i] + b[i] + t
    return False


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def triad_over(a: Array, b: Array, times: int, start: int, stop: int) -> bool:
    a, b = a[start:stop], b[start:stop]
    for _ in range(times):
        for i in range(a.size):
            b[i] += a[i]
    return False


@functools.cache
def helpers(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number)


def words(array: Array) -> Array:
    """The memory of an array as whole numbers of 8 bytes, which are added as fast whatever they are."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(flat) // 8 * 8
    return flat[:whole].view(np.int64) if whole else np.zeros(1, np.int64)


def on_cpu(case: Case, arguments: Arrays) -> dict[str, Limit]:
    """The limit of what writes to other memory ("out"), and of what writes over an input ("over")."""
    read = [words(a) for a in arguments]
    out, work = np.empty_like(read[0]), read[-1].copy()
    times = max(1, ENOUGH // out.nbytes)

    def limit(kernel: Any, *arrays: Array) -> Limit:
        given = (*arrays, times)
        ways = threads.get_num_threads()
        edges = [len(out) * part // ways for part in range(ways + 1)]

        def call() -> None:
            list(helpers(ways).map(lambda part: kernel(*given, *part), pairwise(edges)))

        return Limit(call, times / share(case))

    if case.what == "forward":
        return {"out": limit(copy, read[0], out), "over": limit(increase, work)}
    return {"out": limit(triad, read[0], read[1], out), "over": limit(triad_over, read[0], work)}


def share(case: Case) -> float:
    """The double backward moves five arrays, the triad three."""
    return sum(ARRAYS[case.what]) / 3 if case.what == "double-backward" else 1.0


def on_cuda(case: Case) -> dict[str, Limit]:
    torch = importlib.import_module("torch")
    a, b, c = (torch.ones(max(1, case.nbytes // 4), device="cuda") for _ in range(3))
    times = max(1, 8 * ENOUGH // case.nbytes)

    def limit(kernel: Call) -> Limit:
        def call() -> None:
            for _ in range(times):
                kernel()
            torch.cuda.synchronize()

        return Limit(call, times / share(case))

    if case.what == "forward":
        return {"out": limit(lambda: b.copy_(a)), "over": limit(lambda: b.add_(1))}
    return {"out": limit(lambda: torch.add(a, b, out=c)), "over": limit(lambda: b.add_(a))}
