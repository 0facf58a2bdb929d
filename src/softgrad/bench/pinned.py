"""The same number of threads for every library, and that many processors for all of them."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from .. import threads
from . import judges

TASKS = Path("/proc/self/task")  # the threads of this process


def keep_to(processors: set[int]) -> None:
    """Let all threads that there are run on these processors, and those that they will start."""
    for task in TASKS.iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task.name), processors)


def forget_jax() -> None:
    """Let JAX make its threads anew when it is asked next: as many as there are processors for it then."""
    importlib.import_module("jax.extend.backend").clear_backends()


@contextlib.contextmanager
def pinned(number: int, libraries: set[str]) -> Iterator[None]:
    """softgrad is told, and of `libraries` "torch"; NumPy's BLAS and "jax" have that many processors."""
    torch = judges.torch_if_installed() if "torch" in libraries else None
    before, torch_before = threads.get_num_threads(), torch.get_num_threads() if torch else 1
    can_pin = hasattr(os, "sched_setaffinity") and TASKS.exists()
    processors = os.sched_getaffinity(0) if can_pin else set()

    def use(number: int, torchs: int, here: set[int]) -> None:
        threads.set_num_threads(number)
        if torch:
            torch.set_num_threads(torchs)
        if can_pin:
            keep_to(here)
        if "jax" in libraries:
            forget_jax()

    use(number, number, set(sorted(processors)[-number:]))
    try:
        yield
    finally:
        use(before, torch_before, processors)
