"""The work of one call shared among threads, from tile to tile without the GIL.

A thread that has done its share looks for another for some 50 µs, then waits for a lock: to wake it takes as
long as the vjp of a hundred thousand elements.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

LOOKS = 1 << 12  # each of some 40 cycles
DONE, READY = 0, 1  # as in serve.py, which would load Numba

Compiled = Callable[..., None]


class Worker:
    """A thread and its box (see serve.py)."""

    def __init__(self, serve: Compiled, begin: Compiled, wait: Compiled) -> None:
        self.box = np.zeros(12, np.int64)
        self.address = self.box.ctypes.data
        self.compiled = serve, begin, wait
        self.awake, self.asleep = threading.Lock(), False
        threading.Thread(target=self.serve, name="softgrad", daemon=True).start()

    def serve(self) -> None:
        serve = self.compiled[0]
        while True:
            serve(self.address, LOOKS)
            self.asleep = True  # first: who begins looks at it last
            if self.box[0] != READY:
                self.awake.acquire()
            self.asleep = False

    def begin(self, work: tuple[int, ...]) -> None:
        self.box[1:] = work
        self.compiled[1](self.address)
        self.wake()

    def wake(self) -> None:
        if self.asleep and self.awake.locked():
            self.awake.release()

    def wait(self) -> None:
        while self.box[0] == READY:
            self.wake()  # an interrupt may have come before `begin` did
            self.compiled[2](self.address, LOOKS)
            if self.box[0] == READY:
                time.sleep(0)


class Team:
    """Workers for one call at a time; a call that finds them taken works alone."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.taken = threading.Lock()

    def run(
        self,
        compiled: tuple[Compiled, Compiled, Compiled],
        function: Compiled,
        address: int,
        arguments: tuple[int, ...],
        scratch: int,
        units: int,
        ways: int,
    ) -> None:
        """``function(*arguments, memory, start, stop)`` for up to `ways` parts of range(`units`)."""
        # when the interpreter ends its daemons stand still
        if ways < 2 or self.taken.locked() or sys.is_finalizing():
            memory = np.empty(scratch)  # here, where a lack of it can be raised
            function(*arguments, memory.ctypes.data, 0, units)
            return
        with self.taken:  # between this and the body comes no interrupt, as between acquire and try one may
            try:
                helpers = self.helpers(compiled, ways - 1)
                ways = len(helpers) + 1
                memory = np.empty((ways, scratch))
                at, step = memory.ctypes.data, 8 * scratch
                edges = [units * part // ways for part in range(ways + 1)]
                for i, worker in enumerate(helpers, 1):
                    worker.begin((address, *arguments, at + i * step, edges[i], edges[i + 1]))
                function(*arguments, at, 0, edges[1])
            finally:
                self.settle()

    def helpers(self, compiled: tuple[Compiled, Compiled, Compiled], number: int) -> list[Worker]:
        """So many workers, or as many as there can be."""
        try:
            while len(self.workers) < number:
                self.workers.append(Worker(*compiled))
        except RuntimeError:  # no more threads: the interpreter is shutting down, or the system has no room
            pass
        return self.workers[:number]

    def settle(self) -> None:
        """Wait for all shares, however often that is interrupted: nothing is written when a call is over."""
        interrupt: BaseException | None = None
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


team = Team()


def _forget() -> None:
    """In a forked child the threads of the team are not there."""
    global team
    team = Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
