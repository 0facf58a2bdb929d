"""The work of one call shared among threads, which are ours and not Numba's.

Numba's threading layers can abort the process: workqueue when two threads use it at once, GNU OpenMP in
a forked child.  The kernels let go of the GIL, so plain threads do.  Each waits for work on a lock of its
own, which takes less time than an executor's queue and futures.
"""

from __future__ import annotations

import contextlib
import functools
import logging  # noqa: F401 (see the hooks for a fork)
import operator
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# A share is worth a thread from this many elements or, where `share` is asked, bytes of an array.
ELEMENTS = 1 << 17
SHARE = 1 << 20
SHARED = 2 * ELEMENTS  # elements of the arrays that are worth a second thread
# All shares end at about the same time: to look so often (in some 40 µs) costs less than to be woken.
YIELDS = 60
_give_way = os.sched_yield if hasattr(os, "sched_yield") else functools.partial(time.sleep, 0)

# Held while Numba is imported or a kernel compiled, and while the process forks: a child would
# wait for ever for an import, or a compilation, of a thread that it does not have.
first_use = threading.RLock()


class _Here(threading.local):
    """What holds for the calls of one thread."""

    number: int | None = None  # instead of `get_num_threads`


_here = _Here()
seen: list[tuple[str, str, int]] | None = None  # what `watched` collects
shortcuts: list[dict[Any, Any]] = []  # by which calls go that tell nothing; `watched` empties them
_number: int | None = None
alone = np.array([SHARED])  # below so many elements a call is done by one thread; compiled code reads it


def _from_environment() -> int:
    text = os.environ.get("SOFTGRAD_NUM_THREADS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"SOFTGRAD_NUM_THREADS={text!r}: it takes a whole number from 1 up; correct it or unset it"
        )
    return int(text)


def get_num_threads() -> int:
    """How many threads a call may use.

    Returns
    -------
    int
        What `set_num_threads` was last given; before that ``SOFTGRAD_NUM_THREADS``, and where that is
        not set, the number of processors this process may run on.

    Raises
    ------
    ValueError
        ``SOFTGRAD_NUM_THREADS`` is not a whole number from 1 up.

    Examples
    --------
    >>> import softgrad
    >>> softgrad.set_num_threads(2)
    >>> softgrad.get_num_threads()
    2
    """
    if _number is None:
        _set(_from_environment())
    assert _number is not None
    return _number


def set_num_threads(number: int) -> None:
    """Let each call use up to `number` threads; the results are the same bits for any number.

    Small arrays are done by the calling thread alone.

    Parameters
    ----------
    number : int
        From 1 up.

    Raises
    ------
    TypeError, ValueError
        `number` is not a whole number, or below 1.

    Examples
    --------
    >>> import softgrad
    >>> softgrad.set_num_threads(1)
    """
    if isinstance(number, bool) or not hasattr(type(number), "__index__") or np.ndim(number):
        raise TypeError(f"set_num_threads takes a whole number, not {type(number).__name__}")
    whole = operator.index(number)
    if whole < 1:
        raise ValueError(f"set_num_threads takes a number from 1 up, not {number}")
    _set(whole)


def _set(number: int) -> None:
    global _number
    _number = number
    alone[0] = SHARED if number > 1 else 1 << 62


@contextlib.contextmanager
def at_most(number: int) -> Iterator[None]:
    """Let the calls that this thread makes meanwhile use so many threads."""
    before, _here.number = _here.number, number
    try:
        yield
    finally:
        _here.number = before


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[str, str, int]]]:
    """What calls ran meanwhile: by what, the name of the kernel, and on how many threads."""
    global seen
    before, seen = seen, []
    hidden = [dict(shortcut) for shortcut in shortcuts]
    for shortcut in shortcuts:
        shortcut.clear()
    try:
        yield seen
    finally:
        seen = before
        for shortcut, entries in zip(shortcuts, hidden, strict=True):
            shortcut.update(entries)


def ran(by: str, name: str, number: int = 1) -> None:
    """Tell `watched`, if it is on."""
    if seen is not None:
        seen.append((by, name, number))


def watching() -> bool:
    """Whether `watched` is on."""
    return seen is not None


class Worker:
    """A thread that waits for a share of a call's work; it has one while `arguments` is not None.

    `wake` and `done` hold a thread up until the other lets go of them, and then it looks at `arguments`: to
    be woken for nothing does no harm, so neither does an interrupt, wherever it comes.
    """

    def __init__(self) -> None:
        self.wake, self.done = threading.Lock(), threading.Lock()
        self.kernel: Callable[..., Any] | None = None
        self.arguments: tuple[Any, ...] | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        threading.Thread(target=self.serve, name="softgrad", daemon=True).start()

    def serve(self) -> None:
        while True:
            self.wake.acquire()
            if self.arguments is None or self.kernel is None:
                continue
            try:
                self.result = self.kernel(*self.arguments)
            except BaseException as error:
                self.error = error
            self.kernel = None
            self.arguments = None  # last: it says that the share is done, and nothing of it is held any more
            _let_go(self.done)

    def begin(self, kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.kernel = kernel
        self.arguments = arguments
        _let_go(self.wake)

    def wait(self) -> None:
        while self.arguments is not None:
            self.done.acquire()

    def outcome(self) -> Any:
        for _ in range(YIELDS):
            if self.arguments is None:
                break
            _give_way()
        self.wait()
        if self.error is not None:
            raise self.error
        return self.result


def _let_go(lock: threading.Lock) -> None:
    """Release a lock that one thread releases and another acquires, unless that is still to acquire it."""
    if lock.locked():
        lock.release()


class Pool:
    """Workers for one call at a time; a call that finds them taken works alone."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.taken = threading.Lock()

    def run(self, kernel: Callable[..., Any], arguments: tuple[Any, ...], edges: list[int]) -> list[Any]:
        """The results of the parts between the edges, in order; the caller does the first, and those that
        no worker does, as one."""
        # when the interpreter ends its daemons stand still
        if self.taken.locked() or sys.is_finalizing():
            return [kernel(*arguments, edges[0], edges[-1])]
        with self.taken:  # between this and the body comes no interrupt, as between acquire and try one may
            try:
                helpers = self.helpers(len(edges) - 2)
                own = len(edges) - 1 - len(helpers)
                for i, worker in enumerate(helpers, own):
                    worker.begin(kernel, (*arguments, edges[i], edges[i + 1]))
                results = [kernel(*arguments, edges[0], edges[own])]
                return results + [worker.outcome() for worker in helpers]
            finally:
                self.settle()

    def helpers(self, number: int) -> list[Worker]:
        """So many workers, or as many as there can be."""
        try:
            while len(self.workers) < number:
                self.workers.append(Worker())
        except RuntimeError:  # no more threads: the interpreter is shutting down, or the system has no room
            pass
        return [worker for worker in self.workers[:number] if worker.arguments is None]

    def settle(self) -> None:
        """Wait for all shares, however often that is interrupted, and forget how they ended: nothing is
        written any more when a call is over, and nothing of it is held."""
        interrupt: BaseException | None = None
        while True:
            try:
                for worker in self.workers:
                    if worker.arguments is not None:
                        _let_go(worker.wake)  # an interrupt may have come before `begin` did
                    worker.wait()
                    worker.kernel = worker.result = worker.error = None
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            try:
                raise interrupt
            finally:
                interrupt = None  # its traceback has this frame


_pool = Pool()


def _forget() -> None:
    """In a forked child the threads of the pool are not there."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
    # Hooks run from the last to the first: this one must take its lock before that of `logging`, for which a
    # thread waits that imports Numba.  So that is imported above.
    os.register_at_fork(
        before=first_use.acquire, after_in_parent=first_use.release, after_in_child=first_use.release
    )


def threads_for(elements: int) -> int:
    """How many threads a call on an array of so many elements is worth."""
    return max(1, min(_here.number or get_num_threads(), elements // ELEMENTS))


def parallel_for(kernel: Callable[..., Any], arguments: tuple[Any, ...], units: int, ways: int) -> list[Any]:
    """The results of ``kernel(*arguments, start, stop)`` for up to `ways` parts of range(`units`), in order.

    There are fewer where the threads are taken by another call, or cannot be started.
    """
    ways = min(ways, units)
    if ways < 2:
        return [kernel(*arguments, 0, units)]
    return _pool.run(kernel, arguments, [units * part // ways for part in range(ways + 1)])


def share(
    kernel: Callable[..., Any], arguments: tuple[Any, ...], tiles: int, at_once: int, size: int
) -> bool:
    """Call ``kernel(*arguments, start, stop)`` for parts of range(`tiles`), cut at multiples of `at_once`.

    `size` is the number of bytes of one of the arrays, by which the number of threads is chosen.  The result
    is true if that of a part is.
    """
    parts = 1
    if size >= 2 * SHARE:
        parts = min(_here.number or get_num_threads(), size // SHARE, tiles // at_once)
    if seen is not None:
        ran("numba", kernel.__name__, max(parts, 1))
    if parts < 2:
        return bool(kernel(*arguments, 0, tiles))
    edges = [tiles // at_once * part // parts * at_once for part in range(parts)] + [tiles]
    return any(_pool.run(kernel, arguments, edges))
