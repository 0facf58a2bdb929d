"""The work of one call shared among threads, from tile to tile without the GIL.

Numba's threading layers can abort the process: workqueue when two threads use it at once, GNU OpenMP in a
forked child.  So the threads are ours.  One that has done its share looks for another for some 50 µs, then
waits for a lock: to wake it takes as long as the vjp of a hundred thousand elements.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import threads

LOOKS = 1 << 7  # each of some 0.4 µs
READY = 1  # as in worker_loop.py, which would load Numba

prototype: Any = functools.cache(lambda count: ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count))


@functools.cache
def give_way() -> int:
    """The address of the system's function that lets others have the processor; 0 where none is known."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):
        return 0


@functools.cache
def processor() -> Callable[[], int] | None:
    """The function that tells on which one a thread is; None where threads can't be sent to others."""
    try:
        number: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        return None
    return number if hasattr(os, "sched_setaffinity") else None


@functools.lru_cache(maxsize=256)
def function(address: int) -> Callable[[int, int, int, int], None]:
    """The compiled function at an address, which is called without the GIL."""
    made: Callable[[int, int, int, int], None] = prototype(4)(address)
    return made


class Worker:
    """A thread and its box (see worker_loop.py)."""

    def __init__(self) -> None:
        with threads.first_use:
            from . import kernels

            serve, begin, wait = map(kernels.work, ("serve", "begin", "wait"))
        self.box = np.zeros(6, np.int64)
        self.address = self.box.ctypes.data
        self.compiled = prototype(3)(serve), prototype(1)(begin), prototype(3)(wait)
        self.awake, self.asleep = threading.Lock(), False
        self.allowed: set[int] = set()
        self.thread = threading.Thread(target=self.serve, name="softgrad", daemon=True)
        self.thread.start()

    def serve(self) -> None:
        serve = self.compiled[0]
        while True:
            serve(self.address, LOOKS, give_way())
            self.asleep = True  # first: who begins looks at it last
            if self.box[0] != READY:
                self.awake.acquire()
            self.settle()
            self.asleep = False

    def begin(self, *work: int) -> None:
        self.box[1:] = work
        self.compiled[1](self.address)
        self.wake()

    def wake(self) -> None:
        if self.asleep and self.awake.locked():
            self.keep_off()
            self.awake.release()

    def keep_off(self) -> None:
        """Have it wake on another processor than this one: Linux wakes most beside whoever wakes them."""
        number = processor()
        if number is not None and self.thread.native_id is not None:
            with contextlib.suppress(OSError):
                self.allowed = os.sched_getaffinity(0)
                if others := self.allowed - {number()}:
                    os.sched_setaffinity(self.thread.native_id, others)

    def settle(self) -> None:
        """After that let it run wherever the others may."""
        if self.allowed:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self.allowed)

    def wait(self) -> None:
        while self.box[0] == READY:
            self.wake()  # an interrupt may have come before `begin` did
            self.compiled[2](self.address, LOOKS, give_way())
            if self.box[0] == READY:
                time.sleep(20e-6)  # to sleep for 0 s is not to sleep


class Team:
    """Workers for one call at a time; a call that finds them taken works alone."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.taken = threading.Lock()

    def run(self, address: int, given: Sequence[int], scratch: int, units: int, ways: int) -> None:
        """Call the compiled function at an address for up to `ways` parts of range(`units`).

        It takes the address of the numbers that are given, that of so many float64s of scratch memory, and
        where its part starts and stops.
        """
        work, table = function(address), array("q", given)
        of_table, _ = table.buffer_info()
        # when the interpreter ends its daemons stand still
        if ways < 2 or self.taken.locked() or sys.is_finalizing():
            memory = np.empty(scratch)  # here, where a lack of it can be raised
            work(of_table, memory.ctypes.data, 0, units)
            return
        with self.taken:  # between this and the body comes no interrupt, as between acquire and try one may
            interrupt: BaseException | None = None
            try:
                helpers = self.helpers(min(ways, units) - 1)
                ways = len(helpers) + 1
                memory = np.empty((ways, scratch))
                at = memory.ctypes.data
                edges = [units * part // ways for part in range(ways + 1)]
                for i, worker in enumerate(helpers, 1):
                    worker.begin(address, of_table, at + 8 * scratch * i, edges[i], edges[i + 1])
                work(of_table, at, 0, edges[1])
            finally:
                # However often this is interrupted, nothing is written when a call is over.  A function
                # for it could be interrupted where it begins.
                while True:
                    try:
                        for worker in self.workers:
                            worker.wait()
                        break
                    except BaseException as error:
                        interrupt = error
                if interrupt is not None:
                    try:
                        raise interrupt
                    finally:
                        interrupt = None  # its traceback has this frame

    def helpers(self, number: int) -> list[Worker]:
        """So many workers, or as many as there can be."""
        try:
            while len(self.workers) < number:
                self.workers.append(Worker())
        except RuntimeError:  # no more threads: the interpreter is shutting down, or the system has no room
            pass
        return self.workers[:number]


team = Team()


def run(address: int, given: Sequence[int], scratch: int, units: int, ways: int) -> None:
    team.run(address, given, scratch, units, ways)


def _forget() -> None:
    """In a forked child the threads of the team are not there."""
    global team
    team = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
