"""The same number of threads for every library, and that many processors for all of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import threads

TASKS = Path("/proc/self/task")  # the threads of this process


def keep_to(processors: set[int]) -> None:
    """Let all threads that there are run on these processors, and those that they will start."""
    for task in TASKS.iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task.name), processors)


@contextlib.contextmanager
def pinned(number: int) -> Iterator[None]:
    """softgrad and PyTorch are told; NumPy's BLAS and JAX have pools, which get that many processors."""
    before = threads.get_num_threads()
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else 1
    can_pin = hasattr(os, "sched_setaffinity") and TASKS.exists()
    processors = os.sched_getaffinity(0) if can_pin else set()
    threads.set_num_threads(number)
    if torch:
        torch.set_num_threads(number)
    if can_pin:
        keep_to(set(sorted(processors)[-number:]))
    try:
        yield
    finally:
        threads.set_num_threads(before)
        if torch:
            torch.set_num_threads(torch_before)
        if can_pin:
            keep_to(processors)
