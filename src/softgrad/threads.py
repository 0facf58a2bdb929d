"""How many threads a call may use, and a record of the kernels that ran."""

from __future__ import annotations

import contextlib
import logging  # noqa: F401 (see the hooks for a fork)
import operator
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

ELEMENTS = 1 << 17  # of an array, for each thread
SHARED = 2 * ELEMENTS  # elements of the arrays that are worth a second thread

# Held while Numba is imported or a kernel compiled, and while the process forks: a child would wait for ever
# for an import, or a compilation, in a thread that it does not have.
first_use = threading.RLock()


class _Here(threading.local):
    """The settings for the calls of one thread."""

    number: int | None = None  # instead of `get_num_threads`


_here = _Here()
seen: list[tuple[str, str, int]] | None = None  # what `watched` collects
_number: int | None = None
# Below so many elements a call is done by one thread, past most checks and the record.  Compiled code reads
# it; it is 0 while `watched` is on.
alone = np.array([SHARED])


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
    _set_alone()


def _set_alone() -> None:
    alone[0] = 0 if seen is not None else SHARED if _number != 1 else 1 << 62


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
    """The kernels that run meanwhile: by what, their names, and on how many threads."""
    global seen
    before, seen = seen, []
    _set_alone()
    try:
        yield seen
    finally:
        seen = before
        _set_alone()


def ran(by: str, name: str, number: int = 1) -> None:
    """Add to the record, if `watched` is on."""
    if seen is not None:
        seen.append((by, name, number))


_held: list[Any] = []  # llvmlite's lock, while the process forks


def _before_fork() -> None:
    first_use.acquire()
    ffi = sys.modules.get("llvmlite.binding.ffi")  # LLVM's objects may be freed by any thread, at any time
    _held.append(getattr(getattr(ffi, "lib", None), "_lock", contextlib.nullcontext()))
    _held[-1].__enter__()


def _after_fork() -> None:
    _held.pop().__exit__(None, None, None)
    first_use.release()


if hasattr(os, "register_at_fork"):
    # Hooks run from the last to the first: this one must take its lock before that of `logging`, for which a
    # thread waits that imports Numba.  So that is imported above.
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def threads_for(elements: int) -> int:
    """How many threads a call on an array of so many elements is worth."""
    return max(1, min(_here.number or get_num_threads(), elements // ELEMENTS))
