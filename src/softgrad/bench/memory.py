"""The peak memory of calls, and the free memory of the machine."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from .timing import Call


def torch_if_installed() -> Any:
    """The module torch, or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # its profiler tells of every start and stop
    return importlib.import_module("torch")


def peak(call: Call) -> int:
    """The most bytes in use at once during a call, beyond those in use before it.

    NumPy takes its arrays, and Numba the scratch memory of its kernels, through Python's allocators, of which
    tracemalloc counts every byte.
    """
    call()
    tracemalloc.start()
    try:
        call()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def peak_of_torch(call: Call) -> int:
    """The same of PyTorch on the CPU, whose profiler records each allocation and release."""
    profiling = importlib.import_module("torch.profiler")
    call()
    with profiling.profile(activities=[profiling.ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    in_use = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return int(in_use.max(initial=0))


def peak_of_jax(call: Any) -> int:
    """The same of a partial of a jitted function, as XLA plans it."""
    plan = call.func.lower(*call.args).compile().memory_analysis()
    return int(plan.temp_size_in_bytes + plan.output_size_in_bytes)


def peak_on_cuda(call: Call) -> int:
    cuda = importlib.import_module("torch").cuda
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    call()
    return int(cuda.max_memory_allocated() - before)


def available(device: str) -> int | None:
    """Bytes of free memory; None if unknown."""
    if device == "cuda":
        return int(importlib.import_module("torch").cuda.mem_get_info()[0])
    info = Path("/proc/meminfo")
    kilobytes = re.search(r"MemAvailable: *(\d+)", info.read_text()) if info.exists() else None
    return int(kilobytes[1]) * 1024 if kilobytes else None
