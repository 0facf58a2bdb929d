"""The work of one call shared among threads, which are ours and not Numba's.

Numba's threading layers can abort the process: workqueue when two threads use it at once, GNU OpenMP in
a forked child.  The kernels let go of the GIL, so plain threads do.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import operator
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# A thread is woken in some 50 µs; it is worth it for a share of at least this many bytes.
SHARE = 1 << 20

# Held while Numba is imported, a kernel compiled or the pool made, and while the process forks: a child would
# wait for ever for an import, or a compilation, of a thread that it does not have.
first_use = threading.RLock()


class _Here(threading.local):
    """What holds for the calls of one thread."""

    number: int | None = None  # instead of `get_num_threads`


_here = _Here()
_seen: list[tuple[str, str, int]] | None = None  # what `watched` collects
_pool: concurrent.futures.ThreadPoolExecutor | None = None
_number: int | None = None


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
    global _number
    if _number is None:
        _number = _from_environment()
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
    global _number
    if isinstance(number, bool) or not hasattr(type(number), "__index__") or np.ndim(number):
        raise TypeError(f"set_num_threads takes a whole number, not {type(number).__name__}")
    whole = operator.index(number)
    if whole < 1:
        raise ValueError(f"set_num_threads takes a number from 1 up, not {number}")
    _number = whole


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
    global _seen
    before, _seen = _seen, []
    try:
        yield _seen
    finally:
        _seen = before


def ran(by: str, name: str, number: int = 1) -> None:
    """Tell `watched`, if it is on."""
    if _seen is not None:
        _seen.append((by, name, number))


def watching() -> bool:
    """Whether `watched` is on."""
    return _seen is not None


def _workers() -> concurrent.futures.ThreadPoolExecutor:
    """The pool, made at first use; more threads start when more shares wait."""
    global _pool
    with first_use:
        if _pool is None:
            _pool = concurrent.futures.ThreadPoolExecutor(
                max(32, 2 * get_num_threads()), thread_name_prefix="softgrad"
            )
        return _pool


def _forget() -> None:
    """In a forked child the threads of the pool are not there."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
    os.register_at_fork(
        before=first_use.acquire, after_in_parent=first_use.release, after_in_child=first_use.release
    )


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
    if _seen is not None:
        ran("numba", kernel.__name__, max(parts, 1))
    if parts < 2:
        return bool(kernel(*arguments, 0, tiles))
    edges = [tiles // at_once * part // parts * at_once for part in range(parts)] + [tiles]
    mine, others = [edges[:2]], []
    for i in range(1, parts):
        try:
            others.append(_workers().submit(kernel, *arguments, *edges[i : i + 2]))
        except RuntimeError:  # the interpreter is shutting down and starts no more threads
            mine.append(edges[i : i + 2])
    try:
        results = [kernel(*arguments, start, stop) for start, stop in mine]
    finally:  # nothing is written any more when the call is over, however it ends
        concurrent.futures.wait(others)
    return any(results + [other.result() for other in others])
