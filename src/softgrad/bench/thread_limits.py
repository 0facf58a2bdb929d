"""The same number of threads for every library, and that many processors for all of them."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from .. import threads
from .memory import torch_if_installed

TASKS = Path("/proc/self/task")  # the threads of this process


def keep_to(processors: set[int]) -> None:
    """Keep all threads of this process, and the threads they start, to these processors."""
    for task in TASKS.iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(task.name), processors)


@contextlib.contextmanager
def thread_limits(number: int, libraries: set[str], pin: bool = True) -> Iterator[None]:
    """Limit the threads of softgrad, and of "torch" among `libraries`.

    With `pin` the process has no more processors than that, either: nothing else limits NumPy's BLAS and JAX.
    """
    torch = torch_if_installed() if "torch" in libraries else None
    before = threads.get_num_threads(), torch.get_num_threads() if torch else 1
    pin = pin and hasattr(os, "sched_setaffinity") and TASKS.exists()
    processors = os.sched_getaffinity(0) if pin else set()

    def use(of_softgrad: int, of_torch: int, here: set[int]) -> None:
        threads.set_num_threads(of_softgrad)
        if torch:
            torch.set_num_threads(of_torch)
        if pin:
            keep_to(here)
        if "jax" in libraries:  # starts its threads again, one for each processor
            importlib.import_module("jax.extend.backend").clear_backends()

    use(number, number, set(sorted(processors)[-number:]))
    try:
        yield
    finally:
        use(*before, processors)
